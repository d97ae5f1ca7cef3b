"""The scenarios of the library, each run once in this process and shared by the tests that look at the results."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from scenarios.reading import library
from scenarios.runner import RunResult, run

SCENARIOS = tuple(library())
_FOLDERS: list[TemporaryDirectory[str]] = []  # they live as long as the process


@cache
def here(name: str) -> RunResult:
    """The result of a library scenario, with its folder and its databases."""
    folder = TemporaryDirectory(prefix=f"nostro-{name}-")
    _FOLDERS.append(folder)
    return run(name, folder=Path(folder.name) / "run", keep_databases=True)
