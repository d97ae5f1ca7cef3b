"""The closures that were decided on paper: gaps.md B-16, and a projection where no source reaches yet.

This is what a person checks against the exchange's notice. `core.calendars.bake` turns it into ``tables.json``;
nothing else reads it.
"""

from __future__ import annotations

from core.calendars.tables import Exchange

DECIDED: dict[tuple[Exchange, int], str] = {
    (Exchange.HKEX, 2025): "0101 0129 0130 0131 0404 0418 0421 0501 0505 0701 1001 1007 1029 1225 1226",
    (Exchange.NYSE, 2025): "0101 0109 0120 0217 0418 0526 0619 0704 0901 1127 1225",
    (Exchange.SSE, 2025): "0101 0128 0129 0130 0131 0203 0204 0404 0501 0502 0505 0602"
                          " 1001 1002 1003 1006 1007 1008",
    (Exchange.HKEX, 2026): "0101 0217 0218 0219 0403 0406 0407 0501 0525 0619 0701 1001 1019 1225",
    (Exchange.NYSE, 2026): "0101 0119 0216 0403 0525 0619 0703 0907 1126 1225",
    (Exchange.SSE, 2026): "0101 0102 0216 0217 0218 0219 0220 0223 0406 0501 0504 0505 0619 0925"
                          " 1001 1002 1005 1006 1007",
}
"""Weekday closures, month and day (gaps.md B-16)."""

DECIDED_HALF_DAYS: dict[tuple[Exchange, int], str] = {
    (Exchange.HKEX, 2025): "0128 1224 1231",
    (Exchange.HKEX, 2026): "0216 1224 1231",
}
"""Hong Kong half days (gaps.md B-16)."""

PROJECTED: dict[tuple[Exchange, int], str] = {
    (Exchange.SSE, 2027): "0101 0205 0208 0209 0210 0405 0503 0504 0609 0915 1001 1004 1005",
}
"""Where neither B-16 nor exchange_calendars reaches. Mainland 2027: the 13 statutory days of the State Council's
1 January 2025 rules, those on a weekend given back on the next working days (New Year 1 Jan; Spring Festival eve to
third day 5-8 Feb; Qingming 5 Apr; Labour Day 1-2 May; Dragon Boat 9 Jun; Mid-Autumn 15 Sep; National Day 1-3 Oct).
The yearly notice usually adds bridging days, so the table stays provisional until settlement loads that notice."""

PROJECTION_SOURCE = "projection: statutory days and their weekday substitutes, no exchange notice yet"

PROVISIONAL: frozenset[tuple[Exchange, int]] = frozenset({(Exchange.SSE, 2027)})
"""Tables to be confirmed by the exchange's yearly notice, whatever their source."""

FIRST_YEAR, LAST_YEAR = 2025, 2027
