"""The calendar under one state of knowledge: which days trade, when sessions open, and why not.

A new override or yearly table makes a new `KnownCalendar`; this one never changes, so it may remember what it found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from core.calendars.dispatch import TwoGates
from core.calendars.gates import SEARCH_DAYS, DayRule, Hours, Maintenance, Sessions, day_of, midnight_ms
from core.calendars.tables import EXCHANGE_OF, Exchange, OutsideCalendar, YearTable
from core.calendars.windows import Rules, Window
from core.clock import MS_PER_DAY, show_time
from core.domain import Market, Role
from core.errors import Misconfigured

_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class Override:
    """One day of one market decided otherwise than its table, seen by decisions from ``known_from_ms`` on (CAL-010).

    HKCC speaks of the mainland half only: an HKCC day needs Hong Kong open as well. Version 0: from the settings.
    """

    market: Market
    day: date
    is_open: bool
    known_from_ms: int
    operator: str
    role: Role
    version: int

    def event(self) -> dict[str, Any]:
        """The data of a ``calendar`` trace event."""
        return {"market": self.market.name, "date": self.day.isoformat(), "open": self.is_open,
                "known_from_ms": self.known_from_ms, "operator": self.operator, "version": self.version}


class Closure(NamedTuple):
    """Why a market does not trade on a day."""

    weekend: bool
    exchange: Exchange
    detail: str


class KnownCalendar:
    """Trading days and gates as known during ``[from_ms, until_ms)``."""

    def __init__(self, rules: Rules, tables: Mapping[tuple[Exchange, int], YearTable],
                 overrides: Mapping[tuple[Market, date], Override], from_ms: float, until_ms: float) -> None:
        self.from_ms, self.until_ms = from_ms, until_ms
        self.rules = rules
        self._tables, self._overrides = tables, overrides
        self._trading: dict[tuple[Market, bool], dict[int, bool]] = {}
        self._ny_closes: dict[int, int] = {}
        self.hours = {market: self._hours_of(market) for market in Market}
        self.markets = {(market, bst): self._market(market, bst) for market in Market for bst in (False, True)}
        self.gates = {name: self._gate(window) for name, window in rules.gates.items()}
        self.matching = {ccy: self._gate(window) for ccy, window in rules.matching.items()}
        self._maintenance = {bank: self._gate(window) for bank, window in rules.maintenance.items()}
        self.pairs: dict[tuple[str, Market], TwoGates] = {}

    # days

    def trades(self, market: Market, bst: bool, ordinal: int) -> bool:
        """Whether a market (for BST also HKEX, B-16) trades on a day."""
        memo = self._trading.setdefault((market, bst), {})
        known = memo.get(ordinal)
        if known is None:
            known = memo[ordinal] = self.closure(market, bst, ordinal) is None
        return known

    def next_trading(self, market: Market, bst: bool, ordinal: int) -> int:
        """The first trading day after a day."""
        for day in range(ordinal + 1, ordinal + 1 + SEARCH_DAYS):
            if self.trades(market, bst, day):
                return day
        raise Misconfigured(f"{market.name} has no trading day within {SEARCH_DAYS} days after "
                            f"{date.fromordinal(ordinal)}", where="calendars", remedy="correct its table or overrides")

    def closure(self, market: Market, bst: bool, ordinal: int) -> Closure | None:
        """Why a market does not trade on a day; None if it does."""
        if market is not Market.HK and (bst or market is Market.HKCC):
            closed = self._own_closure(Market.HK, ordinal)
            if closed is not None:
                return closed
        return self._own_closure(market, ordinal)

    def _own_closure(self, market: Market, ordinal: int) -> Closure | None:
        day, exchange = date.fromordinal(ordinal), EXCHANGE_OF[market]
        table = self.table(exchange, day)
        override = self._overrides.get((market, day))
        if override is not None:
            return None if override.is_open else Closure(False, exchange, _of_override(override))
        if day.weekday() >= _SATURDAY:
            return Closure(True, exchange, "weekend")
        if day.month * 100 + day.day in table.closures:
            return Closure(False, exchange, _of_table(table))
        return None

    def table(self, exchange: Exchange, day: date) -> YearTable:
        """The table that covers a day; a year that is not loaded raises (CAL-009)."""
        try:
            return self._tables[exchange, day.year]
        except KeyError:
            years = ", ".join(str(year) for name, year in sorted(self._tables) if name is exchange)
            raise OutsideCalendar(
                f"{exchange} {day} is outside the loaded years ({years})", where="calendars",
                remedy="settlement loads the year, or add it to core/calendars/decided.py and run "
                       "`python -m core.calendars.bake`") from None

    def is_half_day(self, market: Market, day: date) -> bool:
        """Whether the market trades on that day and closes early; Stock Connect follows Hong Kong."""
        exchange = Exchange.NYSE if market is Market.US else Exchange.HKEX
        return (self.trades(market, False, day.toordinal())
                and day.month * 100 + day.day in self.table(exchange, day).half_days)

    # sessions

    def session_day(self, market: Market, t_ms: int) -> int:
        """Ordinal of the day whose session a moment belongs to: for US the date of (t - 4 h) (B-16)."""
        today = day_of(t_ms)
        return today - 1 if t_ms < self.hours[market](today - 1)[1] else today

    def _hours_of(self, market: Market) -> Hours:
        """Opening and cutoff of a market by day, in epoch ms."""
        if market is Market.US and self.rules.us_cutoff_mode == "ny_close":
            return self._new_york_hours
        if market is not Market.US and self.rules.half_day_cutoff is not None:
            return lambda ordinal: self._half_day_hours(market, ordinal)
        return _constant_hours(self.rules.markets[market])

    def _new_york_hours(self, ordinal: int) -> tuple[int, int]:
        """From one 16:00 in New York to the next (A-52)."""
        return self._ny_close(ordinal - 1), self._ny_close(ordinal)

    def _ny_close(self, ordinal: int) -> int:
        known = self._ny_closes.get(ordinal)
        if known is None:
            midnight = datetime.combine(date.fromordinal(ordinal), datetime.min.time(), _new_york())
            close = midnight + timedelta(milliseconds=self.rules.ny_close)  # wall clock arithmetic, as wanted
            known = self._ny_closes[ordinal] = int(close.astimezone(UTC).timestamp()) * 1000
        return known

    def _half_day_hours(self, market: Market, ordinal: int) -> tuple[int, int]:
        window, midnight = self.rules.markets[market], midnight_ms(ordinal)
        day, cutoff = date.fromordinal(ordinal), self.rules.half_day_cutoff
        if cutoff is None or (Exchange.HKEX, day.year) not in self._tables or not self.is_half_day(market, day):
            cutoff = window.closes
        return midnight + window.opens, midnight + cutoff

    def _market(self, market: Market, bst: bool) -> Sessions:
        return Sessions(self.rules.markets[market].name, lambda day: self.trades(market, bst, day),
                        self.hours[market], 1, lambda t_ms: self._why_market(market, bst, t_ms))

    def _why_market(self, market: Market, bst: bool, t_ms: int) -> str:
        day = self.session_day(market, t_ms)
        closed = self.closure(market, bst, day)
        if closed is not None:
            return f"{closed.exchange} closed on {date.fromordinal(day)}: {closed.detail}"
        opens, closes = self.hours[market](day)
        if t_ms < opens:
            return f"{market.name} opens at {show_time(opens)}"
        return f"{market.name} cutoff {show_time(closes)} has passed"

    def _gate(self, window: Window) -> Sessions:
        why = f"outside the {window.name} window"
        return Sessions(window.name, self._day_rule(window), _constant_hours(window), window.days_back, lambda _: why)

    def _day_rule(self, window: Window) -> DayRule:
        rules: dict[str, DayRule] = {
            "hk": lambda day: self.trades(Market.HK, False, day),
            "us": lambda day: self.trades(Market.US, False, day),
            "hkcc": lambda day: self.trades(Market.HKCC, False, day),
            "bst": lambda day: self.trades(Market.HK, True, day),
            "business": lambda day: self.trades(Market.HK, False, day),
            "mon-sat": lambda day: _weekday(day) <= _SATURDAY,
            "all": lambda _: True,
            "weekly": lambda day: _weekday(day) == window.weekday,
        }
        return rules[window.days]

    # gates together

    def pair(self, bank: str, market: Market) -> TwoGates:
        """The two gates of a bank and a market (A-51)."""
        found = self.pairs.get((bank, market))
        if found is None:
            bank_gate = named(self.gates, bank, "bank gate")
            bst = self.rules.gates[bank].days == "bst"
            found = TwoGates(f"{bank} and {market.name}", self.markets[market, bst], bank_gate)
            self.pairs[bank, market] = found
        return found

    def maintenance(self, bank: str, t_ms: int) -> Maintenance:
        """The bank's maintenance under way at a moment, or the next."""
        gate = named(self._maintenance, bank, "maintenance window").at(t_ms)
        return Maintenance(gate.open, gate.opens_ms, gate.closes_ms)

    def in_maintenance(self, bank: str, t_ms: int) -> bool:
        """Whether a bank's maintenance is under way; a bank of which no window is known never is."""
        window = self._maintenance.get(bank)
        return window is not None and window.at(t_ms).open

    def batch_day(self, t_ms: int) -> int:
        """Ordinal of the business day whose batch takes a withdrawal submitted at a moment (A-53)."""
        today = day_of(t_ms)
        before = t_ms < midnight_ms(today) + self.rules.batch_cutoff
        return today if before and self.trades(Market.HK, False, today) else self.next_trading(Market.HK, False, today)


def named(table: Mapping[str, Sessions], name: str, kind: str) -> Sessions:
    """The sessions under a name; an unknown one raises with the names there are."""
    try:
        return table[name]
    except KeyError:
        raise Misconfigured(f"no {kind} {name!r}", where="calendars", remedy=f"there are {', '.join(table)}") from None


def _constant_hours(window: Window) -> Hours:
    opens, closes = window.opens, window.closes
    offset = midnight_ms(1) - MS_PER_DAY

    def hours(ordinal: int) -> tuple[int, int]:
        midnight = offset + ordinal * MS_PER_DAY
        return midnight + opens, midnight + closes

    return hours


def _weekday(ordinal: int) -> int:
    return (ordinal + 6) % 7


def _new_york() -> ZoneInfo:
    try:
        return ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError as missing:
        raise Misconfigured("this machine has no time zone data for America/New_York", where="us_cutoff.mode",
                            remedy="pip install tzdata, or use fixed_hkt") from missing


def _of_override(override: Override) -> str:
    return (f"closed by override version {override.version} of {override.operator}, "
            f"known from {show_time(override.known_from_ms)}")


def _of_table(table: YearTable) -> str:
    doubt = ", provisional" if table.provisional else ""
    by = f", version {table.version} of {table.operator}" if table.version else ""
    return f"listed as closed in the {table.year} table ({table.source}{by}{doubt})"
