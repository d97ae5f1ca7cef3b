"""A gate is a sequence of sessions ``[open, close)``: at any moment it is inside one of them or before the next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import NamedTuple

from core.clock import MS_PER_DAY, hkt_midnight_ms, yyyymmdd
from core.errors import Misconfigured

SEARCH_DAYS = 60
"""How far a next opening is looked for. The longest closure ever was under three weeks; beyond this the rules are
wrong, not the holidays."""

_EPOCH_ORDINAL = 719_163
_HKT_MS = 8 * 3_600_000

DayRule = Callable[[int], bool]
Hours = Callable[[int], tuple[int, int]]


def day_of(t_ms: int) -> int:
    """Ordinal of the Hong Kong day of a moment."""
    return _EPOCH_ORDINAL + (t_ms + _HKT_MS) // MS_PER_DAY


def midnight_ms(ordinal: int) -> int:
    """00:00 HKT of a day given by its ordinal."""
    return hkt_midnight_ms(date.fromordinal(ordinal))


class Gate(NamedTuple):
    """Open: the session that holds the moment. Closed: the next session. ``date`` is that session's day, yyyymmdd."""

    open: bool
    opens_ms: int
    closes_ms: int
    reason: str
    date: int


class Maintenance(NamedTuple):
    """A bank's maintenance: the one under way, or else the next."""

    under_way: bool
    begins_ms: int
    ends_ms: int


class Sessions:
    """The sessions of one gate under one state of knowledge. Remembers the stretch last asked for: a step function.

    ``until_ms``: up to when the answer last given stays the same.
    """

    __slots__ = ("_days", "_days_back", "_from", "_gate", "_hours", "_name", "_why", "until_ms")

    def __init__(self, name: str, days: DayRule, hours: Hours, days_back: int, why: Callable[[int], str]) -> None:
        self._name, self._days, self._hours, self._days_back, self._why = name, days, hours, days_back, why
        self._from = self.until_ms = 0
        self._gate = Gate(False, 0, 0, "", 0)

    def at(self, t_ms: int) -> Gate:
        """The gate at a moment."""
        if self._from <= t_ms < self.until_ms:
            return self._gate
        gate = self._holding(t_ms)
        if gate is None:
            gate = self._after(t_ms)
            self._from, self.until_ms, self._gate = t_ms, min(gate.opens_ms, self._reason_until(t_ms)), gate
        else:
            self._from, self.until_ms, self._gate = gate.opens_ms, gate.closes_ms, gate
        return gate

    def _reason_until(self, t_ms: int) -> int:
        """The reason for being closed is that of one session day: it may change when the next day's begins."""
        today = day_of(t_ms)
        yesterday_closes = self._hours(today - 1)[1]
        return yesterday_closes if t_ms < yesterday_closes else midnight_ms(today + 1)

    def _holding(self, t_ms: int) -> Gate | None:
        today = day_of(t_ms)
        for day in range(today, today - self._days_back - 1, -1):
            opens, closes = self._hours(day)
            if opens <= t_ms < closes and self._days(day):
                return Gate(True, opens, closes, "", _date(day))
        return None

    def _after(self, t_ms: int) -> Gate:
        today = day_of(t_ms)
        for day in range(today - self._days_back, today + SEARCH_DAYS):
            opens, closes = self._hours(day)
            if t_ms < opens < closes and self._days(day):
                return Gate(False, opens, closes, self._why(t_ms), _date(day))
        raise Misconfigured(f"does not open within {SEARCH_DAYS} days after {date.fromordinal(today)}",
                            where=self._name, remedy="correct its window or its calendar")


def _date(ordinal: int) -> int:
    return yyyymmdd(date.fromordinal(ordinal))
