"""The calendars of one core: tables, settings and overrides, asked at a moment and answered as known at that moment.

Methods that take ``t_ms`` see only what was known at ``t_ms``. Methods that take a day see everything ever recorded,
unless ``as_of_ms`` says otherwise.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from math import inf
from typing import Any

from core.calendars.diagnosis import Diagnosis, diagnose
from core.calendars.dispatch import Decision, Dispatch
from core.calendars.gates import Gate, Maintenance
from core.calendars.known import KnownCalendar, Override, named
from core.calendars.tables import EXCHANGE_OF, Exchange, OutsideCalendar, YearTable, load_tables
from core.calendars.windows import read_rules
from core.clock import epoch_ms, from_yyyymmdd, yyyymmdd
from core.domain import Market, Role
from core.errors import Code, Misconfigured, Refusal

KNOWN_STATES_KEPT = 16
"""How many states of knowledge are held ready; asking about more of them in turn only costs rebuilding."""

_SATURDAY = 5


class Calendars:
    """``tables`` and ``overrides`` restore what runtime updates stored; the baked tables and settings come first."""

    def __init__(self, settings: Mapping[str, Any], *, tables: Iterable[YearTable] | None = None,
                 overrides: Iterable[Override] = ()) -> None:
        self._rules = read_rules(settings)
        self._tables = sorted(load_tables() if tables is None else tables, key=_known_order)
        self._overrides = sorted([*_of_settings(settings), *overrides], key=_known_order)
        self.version = max(version for _, version in map(_known_order, self._records()))
        self._forget()
        for override in self._overrides:
            self._as_of(None).table(EXCHANGE_OF[override.market], override.day)  # a mistyped year is refused at start

    # trading days

    def is_trading_day(self, market: Market, day: date, as_of_ms: int | None = None) -> bool:
        """CAL-001 to CAL-003."""
        return self._as_of(as_of_ms).trades(market, False, day.toordinal())

    def is_half_day(self, market: Market, day: date, as_of_ms: int | None = None) -> bool:
        """Whether the market trades on that day and closes early. By default this moves no cutoff (B-16)."""
        return self._as_of(as_of_ms).is_half_day(market, day)

    def is_provisional(self, market: Market, day: date, as_of_ms: int | None = None) -> bool:
        """Whether the market's table for that year still waits for the exchange's notice."""
        return self._as_of(as_of_ms).table(EXCHANGE_OF[market], day).provisional

    def next_trading_day(self, market: Market, day: date, as_of_ms: int | None = None, bst: bool = False) -> date:
        """The first trading day after ``day``; for BST also a HKEX day."""
        return date.fromordinal(self._as_of(as_of_ms).next_trading(market, bst, day.toordinal()))

    def business_day(self, day: date, as_of_ms: int | None = None) -> bool:
        """A business day of operations and eDDI is a HK trading day (B-16)."""
        return self.is_trading_day(Market.HK, day, as_of_ms)

    def next_business_day(self, day: date, n: int = 1, as_of_ms: int | None = None) -> date:
        """The n-th business day after ``day``, n >= 1."""
        if n < 1:
            raise ValueError(f"n is {n}, at least 1 is needed")
        for _ in range(n):
            day = self.next_trading_day(Market.HK, day, as_of_ms)
        return day

    # at a moment

    def session_date(self, market: Market, t_ms: int) -> date:
        """The day whose session a moment belongs to, trading or not: HK its date, US the date of (t - 4 h)."""
        return date.fromordinal(self._at(t_ms).session_day(market, t_ms))

    def transaction_date(self, market: Market, t_ms: int, bst: bool = False) -> int:
        """SBA-PROC-07: the first trading day (BST: HKEX day too) whose cutoff is still to come, as yyyymmdd."""
        return self._at(t_ms).markets[market, bst].at(t_ms).date

    def market_gate(self, market: Market, t_ms: int, bst: bool = False) -> Gate:
        """The market's session (A-51): from its opening to its cutoff on a trading day."""
        return self._at(t_ms).markets[market, bst].at(t_ms)

    def bank_gate(self, bank: str, t_ms: int) -> Gate:
        """One of `GATES`: a BST or eDDI bank, BOCHK's FTP, operations' approval, the CHATS upload, FPS (B-17)."""
        return named(self._at(t_ms).gates, bank, "bank gate").at(t_ms)

    def matching_gate(self, ccy: str, t_ms: int) -> Gate:
        """The auto-matching window of a currency (A-55, A-56)."""
        return named(self._at(t_ms).matching, ccy, "matching window").at(t_ms)

    def maintenance(self, bank: str, t_ms: int) -> Maintenance:
        """The bank's own maintenance under way, or the next (B-17). It is no gate of dispatch."""
        return self._at(t_ms).maintenance(bank, t_ms)

    def in_maintenance(self, bank: str, t_ms: int) -> bool:
        """Whether the bank's own maintenance is under way; never at a bank of which no window is known (B-17)."""
        return self._at(t_ms).in_maintenance(bank, t_ms)

    def batch_date(self, t_ms: int) -> int:
        """The business day (yyyymmdd) whose file batch takes a withdrawal: before 11:00 today, else the next (A-53)."""
        return yyyymmdd(date.fromordinal(self._at(t_ms).batch_day(t_ms)))

    # both gates

    def dispatch(self, bank: str, market: Market, t_ms: int, transaction_date: int | None = None) -> Dispatch:
        """Whether a new instruction may leave now (A-51). ``transaction_date``: the Procedure's; None: as of now."""
        known = self._at(t_ms)
        pair = known.pairs.get((bank, market)) or known.pair(bank, market)
        return pair.at(t_ms) if transaction_date is None else pair.on(t_ms, transaction_date)

    def resume_ms(self, market: Market, date: int, bank: str, as_of_ms: int | None = None) -> int:
        """When a Procedure moved to ``date`` (yyyymmdd) resumes: both gates open on that date, or, if it has turned
        out closed, on the next one that has such a moment. A decision passes its own moment as ``as_of_ms``."""
        known = self._as_of(as_of_ms)
        opens, _ = known.hours[market](from_yyyymmdd(date).toordinal())
        return known.pair(bank, market).resume_ms(opens, date)

    def may_resume(self, market: Market, date: int, bank: str, t_ms: int) -> bool:
        """MoveNextResumeJob: its date has come (or passed while nobody was there) and both gates are open."""
        now = self.dispatch(bank, market, t_ms)
        return now.decision is Decision.OPEN and now.date >= date

    def diagnose_deferral(self, market: Market, t_ms: int, bank: str | None = None, bst: bool = True,
                          as_of_ms: int | None = None) -> Diagnosis:
        """Why a withdrawal submitted at ``t_ms`` was deferred, as known then (or at ``as_of_ms``) (CAL-011)."""
        return diagnose(self._at(t_ms if as_of_ms is None else as_of_ms), market, t_ms, bst, bank)

    # changes of the calendar

    @property
    def overrides(self) -> tuple[Override, ...]:
        """All recorded overrides in the order they became known."""
        return tuple(self._overrides)

    @property
    def tables(self) -> tuple[YearTable, ...]:
        """All recorded yearly tables in the order they became known."""
        return tuple(self._tables)

    def add_override(self, market: Market, day: date, is_open: bool, *, known_from_ms: int, operator: str,
                     role: Role) -> Override | Refusal:
        """A temporary closure or opening (CAL-010). The caller stores and audits the record returned."""
        refusal = _not_settlement(role, operator)
        if refusal is not None:
            return refusal
        try:
            self._as_of(None).table(EXCHANGE_OF[market], day)
        except OutsideCalendar as outside:
            return Refusal(Code.INVALID_PARAM, str(outside))
        override = Override(market, day, is_open, known_from_ms, operator, role, self.version + 1)
        self._overrides = sorted([*self._overrides, override], key=_known_order)
        self.version = override.version
        self._forget()
        return override

    def update_year(self, exchange: Exchange, year: int, closures: Iterable[date], half_days: Iterable[date], *,
                    known_from_ms: int, operator: str, role: Role, source: str,
                    provisional: bool = False) -> YearTable | Refusal:
        """The yearly update, a whole table (CAL-012). Dated overrides stay above it. The caller stores the record."""
        closures, half_days = sorted(closures), sorted(half_days)
        refusal = _not_settlement(role, operator) or _not_a_year(year, closures, half_days)
        if refusal is not None:
            return refusal
        table = YearTable(exchange, year, _month_days(closures), _month_days(half_days), provisional, source,
                          known_from_ms, operator, self.version + 1)
        self._tables = sorted([*self._tables, table], key=_known_order)
        self.version = table.version
        self._forget()
        return table

    # states of knowledge

    def _records(self) -> list[YearTable | Override]:
        return [*self._tables, *self._overrides]

    def _at(self, t_ms: int) -> KnownCalendar:
        known = self._known
        return known if known.from_ms <= t_ms < known.until_ms else self._turn_to(t_ms)

    def _as_of(self, as_of_ms: int | None) -> KnownCalendar:
        return self._state(len(self._moments)) if as_of_ms is None else self._at(as_of_ms)

    def _turn_to(self, t_ms: int) -> KnownCalendar:
        self._known = self._state(bisect_right(self._moments, t_ms))
        return self._known

    def _forget(self) -> None:
        self._moments = sorted({known_from for known_from, _ in map(_known_order, self._records())})
        self._states: dict[int, KnownCalendar] = {}
        self._known = self._state(len(self._moments))

    def _state(self, index: int) -> KnownCalendar:
        """What was known after the first ``index`` moments at which something became known."""
        state = self._states.get(index)
        if state is None:
            if len(self._states) >= KNOWN_STATES_KEPT:
                self._states.clear()
            state = self._states[index] = self._build(index)
        return state

    def _build(self, index: int) -> KnownCalendar:
        begin = self._moments[index - 1] if index else -inf
        end = self._moments[index] if index < len(self._moments) else inf
        tables = {(table.exchange, table.year): table for table in self._tables if table.known_from_ms <= begin}
        overrides = {(one.market, one.day): one for one in self._overrides if one.known_from_ms <= begin}
        return KnownCalendar(self._rules, tables, overrides, begin, end)


def _known_order(record: YearTable | Override) -> tuple[int, int]:
    """Later knowledge comes later, and so replaces earlier."""
    return record.known_from_ms, record.version


def _not_settlement(role: Role, operator: str) -> Refusal | None:
    if role is not Role.SETTLEMENT:
        return Refusal(Code.FORBIDDEN, f"the calendar belongs to role {Role.SETTLEMENT}, not {role}")
    return None if operator else Refusal(Code.INVALID_PARAM, "operator is missing: the change is audited")


def _not_a_year(year: int, closures: list[date], half_days: list[date]) -> Refusal | None:
    strangers = [day for day in (*closures, *half_days) if day.year != year]
    if strangers:
        return Refusal(Code.INVALID_PARAM, f"{strangers[0]} is not in {year}")
    idle = [day for day in half_days if day.weekday() >= _SATURDAY or day in closures]
    if idle:
        return Refusal(Code.INVALID_PARAM, f"half day {idle[0]} is closed")
    return None if closures else Refusal(Code.INVALID_PARAM, f"no closures given: {year} cannot be without holidays")


def _month_days(days: Iterable[date]) -> frozenset[int]:
    return frozenset(day.month * 100 + day.day for day in days if day.weekday() < _SATURDAY)


def _of_settings(settings: Mapping[str, Any]) -> list[Override]:
    """``calendar.overrides``: a list of {market, date, state: closed|open, effective_from, operator?} (B-16)."""
    return [_override(row, f"calendar.overrides[{place}]") for place, row in enumerate(settings["calendar.overrides"])]


def _override(row: Mapping[str, Any], where: str) -> Override:
    remedy = "write {market: HK, date: 20260717, state: closed, effective_from: '2026-07-17 06:00'}"
    try:
        market, day, state = Market[row["market"]], from_yyyymmdd(int(row["date"])), row["state"]
        known_from = _moment(row["effective_from"])
    except (KeyError, TypeError, ValueError) as unreadable:
        raise Misconfigured(f"{unreadable!r}", where=where, remedy=remedy) from unreadable
    if state not in ("closed", "open"):
        raise Misconfigured(f"state {state!r}", where=where, remedy=remedy)
    return Override(market, day, state == "open", known_from, row.get("operator", "settings"), Role.SETTLEMENT, 0)


def _moment(written: Any) -> int:
    """Epoch ms, or an ISO time taken as Hong Kong time."""
    if isinstance(written, int):
        return written
    return epoch_ms(datetime.fromisoformat(str(written)))
