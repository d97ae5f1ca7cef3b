"""The scenarios of the library, each run once for all test processes and shared by the tests that look at the results.

Whoever asks first runs it, the others wait for its result: a process of pytest-xdist steals tests of another's file.
"""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

from scenarios.reading import library
from scenarios.runner import RunResult, run

T = TypeVar("T")

SCENARIOS = tuple(library())
ROOT = Path(__file__).resolve().parents[2]
TOGETHER = 8
"""So many scenarios are run by one process elsewhere."""
PROGRAM = """
import json, sys
from scenarios.runner import run
print(json.dumps({name: run(name).summary["trace_hash"] for name in sys.argv[1:]}))
"""


def _once(name: str, make: Callable[[Path], T]) -> T:
    """What ``make`` gives for a folder of its own, made by the first of all processes that asks. An error is not kept:
    it is made again, and told by each."""
    folder = Path(os.environ["NOSTRO_TEST_RUNS"]) / name
    folder.mkdir(exist_ok=True)
    kept = folder / "result.pickle"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(make(folder)))
        found: T = pickle.loads(kept.read_bytes())
        return found


@cache
def here(name: str) -> RunResult:
    """The result of a library scenario, with its folder and its databases."""
    return _once(name, lambda folder: run(name, folder=folder / "run", keep_databases=True))


def elsewhere(name: str) -> str:
    """Its trace hash in a process of its own with another order of hashing."""
    first = SCENARIOS.index(name) // TOGETHER * TOGETHER
    return _hashes(SCENARIOS[first:first + TOGETHER])[name]


@cache
def _hashes(names: tuple[str, ...]) -> dict[str, str]:
    def made(_folder: Path) -> dict[str, str]:
        seed = "4711" if os.environ.get("PYTHONHASHSEED") != "4711" else "4712"
        ran = subprocess.run([sys.executable, "-c", PROGRAM, *names], cwd=ROOT, capture_output=True, text=True,
                             env={**os.environ, "PYTHONHASHSEED": seed}, check=False, timeout=300)
        assert ran.returncode == 0, ran.stderr
        return dict(json.loads(ran.stdout))

    return _once(f"elsewhere-{names[0]}", made)
