"""One synthetic day, read once, for the tests of the readers."""

from __future__ import annotations

from pathlib import Path

import pytest
import synthetic_day

from core.trace import Event
from reports.model import RunModel


@pytest.fixture(scope="session")
def events() -> list[Event]:
    """About 65,000 events of 3,200 Procedures."""
    return synthetic_day.day()


@pytest.fixture(scope="session")
def model(events: list[Event]) -> RunModel:
    return RunModel.of(events)


@pytest.fixture(scope="session")
def page(model: RunModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of that day, as text."""
    from reports.html import write_report

    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, synthetic_day.summary(model.figures()), model, synthetic_day.DIAGRAM)
    return path.read_text("utf-8")
