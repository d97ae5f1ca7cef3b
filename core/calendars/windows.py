"""Windows and cutoffs as they stand in the settings (gaps.md B-16, B-17): parsed once, then plain milliseconds.

A time is written ``"07:00"``, ``"24:00"``, ``"next day 04:00"`` or, in a weekly window, ``"Sat 10:00"``.
``days`` says which days have a session: see `DAY_RULES`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.clock import MS_PER_DAY
from core.domain import Market
from core.errors import Misconfigured

BST_BANKS = ("cmb", "cmbc", "airstar")
GATES = (*BST_BANKS, "hsbc_eddi", "hase_eddi", "bochk_ftp", "ops_approval", "chats_upload", "fps")
MARKET_GATES: dict[Market, str] = {Market.HK: "market_hk", Market.US: "market_us", Market.HKCC: "market_hkcc"}
MATCHING_CURRENCIES = ("HKD", "USD", "CNH")
MAINTAINED_BANKS = ("airstar", "cmb", "cmbc", "hsbc", "bochk", "icbc", "cgb", "scb", "hase")

DAY_RULES: dict[str, str] = {
    "hk": "HK trading days",
    "us": "US trading days",
    "hkcc": "Stock Connect trading days",
    "bst": "HKEX trading days, for all markets (CAL-008)",
    "business": "business days, that is HK trading days (B-16)",
    "mon-sat": "Monday to Saturday, holidays too",
    "all": "every calendar day",
    "weekly": "once a week, from one weekday and time to another",
}
US_CUTOFF_MODES = ("fixed_hkt", "ny_close")

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_TIME = re.compile(r"(?:(?P<weekday>Mon|Tue|Wed|Thu|Fri|Sat|Sun) |(?P<next>next day ))?(?P<h>\d\d):(?P<m>[0-5]\d)")
_WEEK_MS = 7 * MS_PER_DAY


@dataclass(frozen=True, slots=True)
class Window:
    """One daily or weekly opening: milliseconds after 00:00 HKT of the session's first day."""

    name: str
    days: str
    opens: int
    closes: int
    weekday: int | None = None

    @property
    def days_back(self) -> int:
        """How many days before a moment the session that covers it may have begun."""
        return (self.closes - 1) // MS_PER_DAY


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything the calendars read from the settings."""

    markets: dict[Market, Window]
    gates: dict[str, Window]
    matching: dict[str, Window]
    maintenance: dict[str, Window]
    batch_cutoff: int
    half_day_cutoff: int | None
    us_cutoff_mode: str
    ny_close: int


def read_rules(settings: Mapping[str, Any]) -> Rules:
    """The rules of one run; a value that cannot be read raises `Misconfigured` naming its key."""
    half_day = settings["calendar.half_day_cutoff"]
    mode = settings["us_cutoff.mode"]
    if mode not in US_CUTOFF_MODES:
        raise Misconfigured(f"{mode!r} is no mode", where="us_cutoff.mode",
                            remedy=f"choose {' or '.join(US_CUTOFF_MODES)}")
    return Rules(
        markets={market: read_window(settings, f"windows.{name}") for market, name in MARKET_GATES.items()},
        gates={name: read_window(settings, f"windows.{name}") for name in GATES},
        matching={ccy: read_window(settings, f"match.window.{ccy.lower()}") for ccy in MATCHING_CURRENCIES},
        maintenance={bank: read_window(settings, f"maintenance.{bank}") for bank in MAINTAINED_BANKS},
        batch_cutoff=time_of_day(settings["windows.batch.cutoff"], "windows.batch.cutoff"),
        half_day_cutoff=None if half_day is None else time_of_day(half_day, "calendar.half_day_cutoff"),
        us_cutoff_mode=mode,
        ny_close=time_of_day(settings["us_cutoff.ny_close"], "us_cutoff.ny_close"),
    )


def read_window(settings: Mapping[str, Any], key: str) -> Window:
    """The window under ``{key}.open``, ``.close`` and ``.days``."""
    days = settings[f"{key}.days"]
    if days not in DAY_RULES:
        raise Misconfigured(f"{days!r} is no rule for days", where=f"{key}.days",
                            remedy=f"choose one of {', '.join(DAY_RULES)}")
    first, opens = _parse(settings[f"{key}.open"], f"{key}.open")
    last, closes = _parse(settings[f"{key}.close"], f"{key}.close")
    if (days == "weekly") != (first is not None) or (first is None) != (last is None):
        raise Misconfigured("a weekly window, and only that, names a weekday in both times", where=key)
    if first is not None and last is not None:
        closes = (last * MS_PER_DAY + closes - first * MS_PER_DAY - opens - 1) % _WEEK_MS + 1 + opens
    if not 0 < closes - opens <= (_WEEK_MS if days == "weekly" else MS_PER_DAY):
        raise Misconfigured("it must close after it opens, and before its next opening", where=key,
                            remedy='write "next day 04:00" for a close after midnight')
    return Window(key.removeprefix("windows."), days, opens, closes, first)


def time_of_day(text: Any, where: str) -> int:
    """"16:15" -> milliseconds after midnight."""
    weekday, ms = _parse(text, where)
    if weekday is not None or ms > MS_PER_DAY:
        raise Misconfigured(f"{text!r} is not a time of one day", where=where, remedy='write it as "16:15"')
    return ms


def _parse(text: Any, where: str) -> tuple[int | None, int]:
    """(weekday or None, milliseconds after midnight of the session's day, or of that weekday)."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    minutes = int(match["h"]) * 60 + int(match["m"]) if match else 0
    if match is None or minutes > 24 * 60:
        raise Misconfigured(f"{text!r} is no time", where=where,
                            remedy='write "07:00", "24:00", "next day 04:00" or "Sat 10:00", in quotes')
    ms = minutes * 60_000 + (MS_PER_DAY if match["next"] else 0)
    return (_WEEKDAYS.index(match["weekday"]) if match["weekday"] else None), ms
