"""The baked tables: the committed file is what the bake makes."""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.calendars import Exchange, bake, load_tables
from core.calendars.decided import DECIDED, DECIDED_HALF_DAYS
from core.calendars.tables import TABLES_FILE, month_days

FOREIGN_WARNINGS = pytest.mark.filterwarnings("ignore")  # exchange_calendars on the newest pandas deprecates a lot
COMMITTED = Path(bake.__file__).with_name(TABLES_FILE)


@FOREIGN_WARNINGS
def test_the_committed_file_is_what_the_bake_makes() -> None:
    pytest.importorskip("exchange_calendars", reason="optional dependency 'calendars' is not installed")
    said: list[str] = []
    assert bake.bake(said.append) == COMMITTED.read_text(encoding="utf-8")
    assert all(line.startswith("SSE 2027") for line in said), "B-16 and exchange_calendars disagree: look at it"


@FOREIGN_WARNINGS
def test_check_compares_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("exchange_calendars", reason="optional dependency 'calendars' is not installed")
    before = COMMITTED.stat().st_mtime_ns
    assert bake.main(["--check"]) == 0
    assert "up to date" in capsys.readouterr().out
    assert COMMITTED.stat().st_mtime_ns == before


def test_without_the_library_the_remedy_is_named(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    assert bake.main([]) == 2
    assert "pip install 'nostro[calendars]'" in capsys.readouterr().err


def test_the_committed_tables_hold_the_decided_days() -> None:
    tables = {(table.exchange, table.year): table for table in load_tables()}
    assert {key: tables[key].closures for key in DECIDED} == {
        key: month_days(words.split()) for key, words in DECIDED.items()}
    assert {key: tables[key].half_days for key in DECIDED_HALF_DAYS} == {
        key: month_days(words.split()) for key, words in DECIDED_HALF_DAYS.items()}


def test_where_both_speak_the_decided_source_is_kept_and_each_difference_is_said() -> None:
    library = _library(closed={"2026-03-02"}, half={"2026-03-03"})
    said: list[str] = []
    table = bake.year_table(library, Exchange.HKEX, 2026, said.append)
    assert table.closures == month_days(DECIDED[Exchange.HKEX, 2026].split())
    assert "HKEX 2026 closures: 0302 only in exchange_calendars (left out)" in said
    assert "HKEX 2026 closures: 0217 only ours (kept)" in said
    assert "HKEX 2026 half days: 0303 only in exchange_calendars (left out)" in said


def test_where_nothing_is_decided_the_library_speaks() -> None:
    table = bake.year_table(_library(closed={"2027-03-02"}, half=set()), Exchange.NYSE, 2027, lambda _: None)
    assert (table.closures, table.source, table.provisional) == (frozenset({302}), "exchange_calendars", False)


def _library(closed: set[str], half: set[str]) -> Any:
    """A library of another opinion: an oracle whose answers the test chooses."""

    class Recorded:
        def __init__(self, year: int) -> None:
            days = [date(year, 1, 1) + timedelta(days=n) for n in range(365)]
            self.sessions = [datetime(day.year, day.month, day.day) for day in days
                             if day.weekday() < 5 and day.isoformat() not in closed]
            self.early_closes = [datetime.fromisoformat(day) for day in sorted(half)]

        @classmethod
        def bound_max(cls) -> None:
            return None

    return SimpleNamespace(get_calendar=lambda name, start, end: Recorded(int(start[:4])))
