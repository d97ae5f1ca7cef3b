"""Why a withdrawal was deferred, in words for the operator's view (CAL-011)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from core.calendars.known import Closure, KnownCalendar
from core.clock import show_time, yyyymmdd
from core.domain import Market


class Cause(StrEnum):
    """What deferred it."""

    NONE = "not deferred"
    BANK_WINDOW = "bank window"
    CUTOFF = "cutoff"
    WEEKEND = "weekend"
    CALENDAR = "calendar"


REMEDIES: dict[Cause, str] = {
    Cause.NONE: "",
    Cause.BANK_WINDOW: "nothing to do: it leaves when the bank's window opens",
    Cause.CUTOFF: "nothing to do: it is processed on the next trading day",
    Cause.WEEKEND: "nothing to do: it is processed on the next trading day",
    Cause.CALENDAR: "if the exchange does trade on that day the calendar is wrong or not updated: "
                    "settlement adds an override",
}


@dataclass(frozen=True, slots=True)
class PassedDay:
    """A day (yyyymmdd) the transaction date stepped over, and why."""

    date: int
    cause: Cause
    detail: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``cause`` is the calendar as soon as a weekday among the passed days is missing from it."""

    cause: Cause
    detail: str
    remedy: str
    transaction_date: int
    passed: tuple[PassedDay, ...]


def diagnose(known: KnownCalendar, market: Market, t_ms: int, bst: bool, bank: str | None) -> Diagnosis:
    """Why a withdrawal submitted at ``t_ms`` does or did not leave at once."""
    gate = known.markets[market, bst].at(t_ms)
    if not gate.open:
        return _deferred(known, market, t_ms, bst, gate.date)
    bank_gate = known.pair(bank, market) if bank else None
    if bank_gate is not None and bank_gate.at(t_ms).reason:
        waiting = bank_gate.at(t_ms)
        return _diagnosis(Cause.BANK_WINDOW, f"{waiting.reason}, {waiting.then} at {show_time(waiting.wake_ms)}",
                          gate.date, ())
    return _diagnosis(Cause.NONE, "", gate.date, ())


def _deferred(known: KnownCalendar, market: Market, t_ms: int, bst: bool, until: int) -> Diagnosis:
    day = known.session_day(market, t_ms)
    passed: list[PassedDay] = []
    while (number := yyyymmdd(date.fromordinal(day))) < until:
        passed.append(_passed(known.closure(market, bst, day), number, market))
        day += 1
    calendar = [one for one in passed if one.cause is Cause.CALENDAR]
    first = (calendar or passed or [PassedDay(until, Cause.CUTOFF, "the market has not opened yet")])[0]
    return _diagnosis(first.cause, f"{first.date}: {first.detail}", until, tuple(passed))


def _passed(closure: Closure | None, number: int, market: Market) -> PassedDay:
    if closure is None:
        return PassedDay(number, Cause.CUTOFF, f"after the {market.name} cutoff")
    return PassedDay(number, Cause.WEEKEND if closure.weekend else Cause.CALENDAR,
                     f"{closure.exchange} {closure.detail}")


def _diagnosis(cause: Cause, detail: str, transaction_date: int, passed: tuple[PassedDay, ...]) -> Diagnosis:
    return Diagnosis(cause, detail, REMEDIES[cause], transaction_date, passed)
