"""When a job runs: schedules whose numbers are names of settings, and their reading.

A schedule names its settings by full dotted key; `moments_of` reads them once into a `Moments`, which answers "the
first moment at or after t". All times are Hong Kong time; a period is counted from the start of the day, so that
every 120 s means :00, :02, :04 …, whenever the worker began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from core.clock import MS_PER_DAY, MS_PER_S, hkt_date
from core.domain import Market
from core.errors import Misconfigured

_MINUTE_MS = 60_000
_HKT_MS = 8 * 60 * _MINUTE_MS


class Days(Enum):
    """On which days a schedule is in force."""

    ALL = auto()
    BUSINESS = auto()
    """Business days of operations: HK trading days (B-16)."""
    TRADING = auto()
    """Days on which any of our markets trades."""
    QUARTER_START = auto()
    """The first business day of each quarter."""


class Every(NamedTuple):
    """Fixed rate. ``within``: settings with the first and the last time of day, [from, until)."""

    period: str
    within: tuple[str, str] | None = None
    days: Days = Days.ALL


class Daily(NamedTuple):
    """At the times of day that the setting lists."""

    times: str
    days: Days = Days.ALL


class OnEvent(NamedTuple):
    """Queued by what happens; ``waits``: setting with the waits after failures, "" if a failure is final."""

    waits: str = ""


class Ladder(NamedTuple):
    """Queued, then run again on a ladder of waits until there is a result; the last wait repeats."""

    waits: str


class InConnection(NamedTuple):
    """Done by a connection as long as it stands, at the rate of the setting: neither queue nor timetable run it."""

    period: str


Schedule = Every | Daily | OnEvent | Ladder | InConnection
Periodic = Every | Daily
Queued = OnEvent | Ladder


class DayCalendar(Protocol):
    """The questions to `core.calendars.Calendars`; answers as known at ``as_of_ms``."""

    def business_day(self, day: date, as_of_ms: int | None = None) -> bool: ...

    def is_trading_day(self, market: Market, day: date, as_of_ms: int | None = None) -> bool: ...


class Moments(NamedTuple):
    """A schedule with its numbers in milliseconds: a grid from the start of the day, or times of the day.

    It gives moments of all days; `in_force` is asked when one has come, by the calendar as known then: a typhoon
    closes a day that was open when the moment was computed.
    """

    every_ms: int  # 0: at `times`
    first_ms: int
    until_ms: int
    times: tuple[int, ...]
    days: Days

    def first_from(self, t_ms: int) -> int:
        """The first moment at or after ``t_ms``."""
        midnight = t_ms - (t_ms + _HKT_MS) % MS_PER_DAY
        within = self._within_day(t_ms - midnight)
        if within is None:
            midnight += MS_PER_DAY
            within = self._within_day(0)
            assert within is not None, self  # `moments_of` refuses a schedule without moments
        return midnight + within

    def _within_day(self, past_ms: int) -> int | None:
        """The first moment of a day, from its midnight, at or after ``past_ms``; None if the day has no further."""
        if self.every_ms == 0:
            return next((time for time in self.times if time >= past_ms), None)
        moment = -(-max(past_ms, self.first_ms) // self.every_ms) * self.every_ms
        return moment if moment < self.until_ms else None


def moments_of(schedule: Periodic, settings: Mapping[str, Any]) -> Moments:
    """Read a schedule's settings; `Misconfigured` if they make none."""
    if isinstance(schedule, Daily):
        times = tuple(sorted(_time_ms(written, schedule.times) for written in settings[schedule.times]))
        if not times:
            raise Misconfigured(f"{schedule.times} lists no time", where="settings", remedy='write ["05:00"]')
        return Moments(0, 0, MS_PER_DAY, times, schedule.days)
    period = settings[schedule.period]
    if not isinstance(period, int | float) or not 0 < period <= 86_400:
        raise Misconfigured(f"{schedule.period} is {period!r}", where="settings", remedy="seconds, up to a day")
    first, until = ("00:00", "24:00") if schedule.within is None else (settings[key] for key in schedule.within)
    where = schedule.within or ("", "")
    moments = Moments(round(period * MS_PER_S), _time_ms(first, where[0]), _time_ms(until, where[1]), (), schedule.days)
    if moments._within_day(0) is None:
        raise Misconfigured(f"no multiple of {period} s from {first} to {until}", where=schedule.period,
                            remedy="widen the hours or shorten the period")
    return moments


def _time_ms(written: Any, key: str) -> int:
    """"05:30" -> milliseconds of the day; "24:00" is its end."""
    hours, _, minutes = str(written).partition(":")
    if not (hours.isdigit() and minutes.isdigit() and len(minutes) == 2 and int(minutes) < 60) or (
            int(hours) * 60 + int(minutes) > 1440):
        raise Misconfigured(f"{key}: {written!r} is no time of day", where="settings", remedy='write "05:30"')
    return (int(hours) * 60 + int(minutes)) * _MINUTE_MS


def in_force(days: Days, now_ms: int, calendar: DayCalendar) -> bool:
    """Whether a schedule for such days runs today, by the calendar as known now."""
    return days is Days.ALL or _IN_FORCE[days](hkt_date(now_ms), calendar, now_ms)


def _trading(day: date, calendar: DayCalendar, as_of_ms: int) -> bool:
    return any(calendar.is_trading_day(market, day, as_of_ms) for market in Market)


def _quarter_start(day: date, calendar: DayCalendar, as_of_ms: int) -> bool:
    if (day.month - 1) % 3 or not calendar.business_day(day, as_of_ms):
        return False
    return not any(calendar.business_day(day.replace(day=earlier), as_of_ms) for earlier in range(1, day.day))


_IN_FORCE: dict[Days, Callable[[date, DayCalendar, int], bool]] = {
    Days.BUSINESS: lambda day, calendar, as_of_ms: calendar.business_day(day, as_of_ms),
    Days.TRADING: _trading,
    Days.QUARTER_START: _quarter_start,
}
