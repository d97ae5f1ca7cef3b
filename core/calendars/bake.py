"""Write ``tables.json``: ``python -m core.calendars.bake`` (``--check``: compare only, exit 1 when it differs).

Closures come from gaps.md B-16 where that decides, else from exchange_calendars, else from a projection; every
difference between them is printed. Needs the optional dependency ``calendars``; no network, no clock.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from core.calendars.decided import (
    DECIDED,
    DECIDED_HALF_DAYS,
    FIRST_YEAR,
    LAST_YEAR,
    PROJECTED,
    PROJECTION_SOURCE,
    PROVISIONAL,
)
from core.calendars.tables import TABLES_FILE, Exchange, YearTable, month_days
from core.errors import Misconfigured

LIBRARY_NAMES: dict[Exchange, str] = {Exchange.HKEX: "XHKG", Exchange.NYSE: "XNYS", Exchange.SSE: "XSHG"}

Days = frozenset[int]
Say = Callable[[str], object]


def bake(say: Say) -> str:
    """The text of ``tables.json``; every difference between the sources goes to ``say``, one line each."""
    library = _library()
    years = range(FIRST_YEAR, LAST_YEAR + 1)
    tables = {exchange.value: {str(year): year_table(library, exchange, year, say).json() for year in years}
              for exchange in Exchange}
    return json.dumps(tables, indent=1) + "\n"


def _library() -> Any:
    """exchange_calendars, imported only when baking: it costs 0.3 s and 80 MB."""
    try:
        import exchange_calendars
    except ImportError as missing:
        raise Misconfigured("exchange_calendars is not installed", where="core.calendars.bake",
                            remedy="pip install 'nostro[calendars]'; only baking needs it") from missing
    return exchange_calendars


def year_table(library: Any, exchange: Exchange, year: int, say: Say) -> YearTable:
    """One year's table, compared with the library where that reaches."""
    recorded = _recorded(library, exchange, year)
    closures, source = _closures(exchange, year, recorded)
    half_days = _half_days(exchange, year, recorded)
    if recorded is None:
        say(f"{exchange} {year}: not in exchange_calendars; taken from {source}")
    else:
        _compare(f"{exchange} {year} closures", closures, recorded[0], say)
        _compare(f"{exchange} {year} half days", half_days, recorded[1], say)
    return YearTable(exchange, year, closures, half_days, (exchange, year) in PROVISIONAL, source)


def _closures(exchange: Exchange, year: int, recorded: tuple[Days, Days] | None) -> tuple[Days, str]:
    """Decided, else the library's, else projected; with the name of the source."""
    if (exchange, year) in DECIDED:
        return month_days(DECIDED[exchange, year].split()), "gaps.md B-16"
    if recorded is not None:
        return recorded[0], "exchange_calendars"
    return month_days(PROJECTED[exchange, year].split()), PROJECTION_SOURCE


def _half_days(exchange: Exchange, year: int, recorded: tuple[Days, Days] | None) -> Days:
    if (exchange, year) in DECIDED_HALF_DAYS:
        return month_days(DECIDED_HALF_DAYS[exchange, year].split())
    return recorded[1] if recorded is not None else Days()


def _recorded(library: Any, exchange: Exchange, year: int) -> tuple[Days, Days] | None:
    """Weekday closures and half days of one year as the library has them; None if it does not reach that year."""
    name = LIBRARY_NAMES[exchange]
    first = library.get_calendar(name, start=f"{FIRST_YEAR}-01-01", end=f"{FIRST_YEAR}-12-31")
    last = type(first).bound_max()
    if last is not None and last.year < year:
        return None
    calendar = library.get_calendar(name, start=f"{year}-01-01", end=f"{year}-12-31")
    sessions = {session.date() for session in calendar.sessions}
    return (Days(_number(day) for day in _weekdays(year) if day not in sessions),
            Days(_number(session.date()) for session in calendar.early_closes))


def _weekdays(year: int) -> Iterator[date]:
    day = date(year, 1, 1)
    while day.year == year:
        if day.weekday() < 5:
            yield day
        day += timedelta(days=1)


def _number(day: date) -> int:
    return day.month * 100 + day.day


def _compare(what: str, ours: Days, theirs: Days, say: Say) -> None:
    for day in sorted(ours ^ theirs):
        keeper = "only ours (kept)" if day in ours else "only in exchange_calendars (left out)"
        say(f"{what}: {day:04d} {keeper}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m core.calendars.bake", description="Bake the trading calendars.")
    parser.add_argument("--check", action="store_true", help="compare with the committed file, write nothing")
    check = parser.parse_args(arguments).check
    target = Path(__file__).with_name(TABLES_FILE)
    try:
        text = bake(lambda line: sys.stdout.write(line + "\n"))
    except Misconfigured as refused:
        sys.stderr.write(f"{refused}\n")
        return 2
    if check:
        return _checked(text, target)
    target.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{target.name} written\n")
    return 0


def _checked(text: str, target: Path) -> int:
    if target.exists() and target.read_text(encoding="utf-8") == text:
        sys.stdout.write(f"{target.name} is up to date\n")
        return 0
    sys.stdout.write(f"{target.name} differs: run `python -m core.calendars.bake`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
