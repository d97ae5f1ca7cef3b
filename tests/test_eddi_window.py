"""When direct debits may be given: the eDDI window of HSBC and Hang Seng (gaps.md A-54, B-17)."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from core.calendars import Calendars
from core.clock import hkt_midnight_ms
from core.settings import Settings

MINUTE_MS = 60_000
# Two weeks with Good Friday 3 April, Saturday 4, Easter Monday 6 and the Tuesday after Ching Ming, 7 April 2026.
FIRST, DAYS = date(2026, 3, 30), 14
HOLIDAYS = {date(2026, 4, 3), date(2026, 4, 6), date(2026, 4, 7)}


@pytest.mark.req("WIN-04")
@pytest.mark.parametrize("bank", ["hsbc_eddi", "hase_eddi"])
def test_the_eddi_window_is_7_to_16_on_business_days(bank: str) -> None:
    calendars = Calendars(Settings())
    for day in (FIRST + timedelta(days=number) for number in range(DAYS)):
        works = day.weekday() < 5 and day not in HOLIDAYS
        for minute in (*range(0, 24 * 60, 15), 6 * 60 + 59, 15 * 60 + 59):
            open_ = calendars.bank_gate(bank, hkt_midnight_ms(day) + minute * MINUTE_MS).open
            assert open_ is (works and 7 * 60 <= minute < 16 * 60), (day, minute)
