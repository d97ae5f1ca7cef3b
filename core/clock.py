"""Time as the core sees it: epoch microseconds, given by an injected clock.

Storage holds epoch milliseconds (int); the edges show aware datetimes in Hong Kong time.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Protocol

HKT = timezone(timedelta(hours=8), "HKT")
"""Hong Kong has had no daylight saving time since 1979: a fixed offset."""

US_PER_MS = 1_000
US_PER_S = 1_000_000
MS_PER_S = 1_000
MS_PER_DAY = 86_400_000
_HKT_MS = 8 * 3_600_000


class Clock(Protocol):
    """Where the time comes from: the virtual loop, or the machine."""

    def now_us(self) -> int:
        """Epoch microseconds."""

    def now_ms(self) -> int:
        """Epoch milliseconds."""


class MachineClock:
    """The wall clock of the machine: live runs only."""

    def now_us(self) -> int:
        return time.time_ns() // 1_000  # noqa: TID251 - the one place that reads the wall clock

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000  # noqa: TID251 - the one place that reads the wall clock


def hkt(ms: int) -> datetime:
    """Aware Hong Kong datetime of epoch milliseconds."""
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(HKT)


def epoch_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware datetime; a naive one is taken as Hong Kong time."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=HKT)
    return round(moment.timestamp() * 1000)


def hkt_date(ms: int) -> date:
    """Hong Kong calendar day of epoch milliseconds."""
    return date.fromordinal(719_163 + (ms + _HKT_MS) // MS_PER_DAY)


def hkt_midnight_ms(day: date) -> int:
    """Epoch milliseconds of 00:00 Hong Kong time of a day."""
    return (day.toordinal() - 719_163) * MS_PER_DAY - _HKT_MS


def yyyymmdd(day: date) -> int:
    """2026-03-12 -> 20260312, the form of transaction_date."""
    return day.year * 10_000 + day.month * 100 + day.day


def from_yyyymmdd(number: int) -> date:
    """20260312 -> 2026-03-12."""
    return date(number // 10_000, number // 100 % 100, number % 100)


def hkt_texts(ms: int) -> tuple[str, str]:
    """(YYYYMMDD, HHMMSS), Hong Kong time: how bank messages are stamped, one after the other."""
    second = (ms + _HKT_MS) // MS_PER_S % 86_400
    minute = second // 60
    return str(yyyymmdd(hkt_date(ms))), f"{minute // 60:02d}{minute % 60:02d}{second % 60:02d}"


def show_time(ms: int) -> str:
    """24-hour Hong Kong time with milliseconds, for people."""
    return hkt(ms).strftime("%Y-%m-%d %H:%M:%S.") + f"{ms % 1000:03d}"
