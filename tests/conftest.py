"""Fixtures for all tests: golden files, and a rig that lets a test act inside a small world in virtual time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """``golden(name, text)``: the text must equal the file; ``NOSTRO_GOLDEN=write`` writes it anew."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("NOSTRO_GOLDEN") == "write":
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run once with NOSTRO_GOLDEN=write and read what it says"
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A folder that all processes of this test run share, for what is made once (see `tests.safety.scenario_runs`)."""
    if not hasattr(config, "workerinput"):
        folder = TemporaryDirectory(prefix="nostro-tests-")
        os.environ["NOSTRO_TEST_RUNS"] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where everything must be there (CI: ``NOSTRO_SERVERS=1``), nothing is skipped: a skip is a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("NOSTRO_SERVERS") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped where skipping is forbidden: {report.longrepr}"
