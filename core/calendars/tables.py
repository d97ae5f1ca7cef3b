"""The baked closures: one table per exchange and year, read from ``tables.json`` of this package.

The file is written by ``python -m core.calendars.bake`` and checked in; its shape is
``{exchange: {year: {"closures": ["0101", …], "half_days": […], "provisional": bool, "source": str}}}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

from core.domain import Market
from core.errors import Misconfigured

TABLES_FILE = "tables.json"


class Exchange(StrEnum):
    """Whose closures a table lists. Shanghai and Shenzhen close on the same days: one table for both."""

    HKEX = "HKEX"
    NYSE = "NYSE"
    SSE = "SSE"


EXCHANGE_OF: dict[Market, Exchange] = {Market.HK: Exchange.HKEX, Market.US: Exchange.NYSE, Market.HKCC: Exchange.SSE}
"""The exchange whose table a market reads. HKCC needs HKEX open as well (CAL-003)."""


class OutsideCalendar(Misconfigured):
    """A day of a year that no table covers (CAL-009)."""


@dataclass(frozen=True, slots=True)
class YearTable:
    """Weekday closures and half days of one exchange in one year, as month * 100 + day; ``known_from_ms`` 0: baked."""

    exchange: Exchange
    year: int
    closures: frozenset[int]
    half_days: frozenset[int]
    provisional: bool
    source: str
    known_from_ms: int = 0
    operator: str = ""
    version: int = 0

    def json(self) -> dict[str, Any]:
        """The table as it stands in ``tables.json``."""
        return {"closures": _in_file(self.closures), "half_days": _in_file(self.half_days),
                "provisional": self.provisional, "source": self.source}


def _in_file(days: Iterable[int]) -> list[str]:
    return [f"{day:04d}" for day in sorted(days)]


def month_days(words: Iterable[str]) -> frozenset[int]:
    """("0101", "0217") -> {101, 217}."""
    return frozenset(int(word) for word in words)


def load_tables() -> list[YearTable]:
    """The checked-in tables of this package, in the order of the file."""
    text = (resources.files("core.calendars") / TABLES_FILE).read_text(encoding="utf-8")
    return [
        YearTable(Exchange(exchange), int(year), month_days(row["closures"]), month_days(row["half_days"]),
                  row["provisional"], row["source"])
        for exchange, years in json.loads(text).items() for year, row in years.items()
    ]
