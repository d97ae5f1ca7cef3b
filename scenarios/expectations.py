"""What a scenario expects of its run, compared with the facts of the run.

The facts come through the `Facts` port (a run answers it from its stores and its event stream); this file only
compares, and says in words what was expected and what was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import singledispatch
from typing import NamedTuple, Protocol, TypedDict

from core.clock import show_time
from core.money import show
from scenarios.schema import (
    AlertsExpected,
    AnyExpected,
    ApplicationsExpected,
    AuthorisationsExpected,
    BalanceExpected,
    BankEffectsExpected,
    ConnectionsExpected,
    Counted,
    DebitsExpected,
    DepositsExpected,
    EntriesExpected,
    JobsExpected,
    LatencyExpected,
    Limits,
    LoggedExpected,
    MatchesExpected,
    MomentExpected,
    NoticesExpected,
    ProcedureExpected,
    Quantity,
    RecoveredExpected,
    RefusalsExpected,
    RemindersExpected,
    SendingsExpected,
    Target,
    TasksExpected,
    WithdrawalsExpected,
)

MOVE_NEXT = "pending(move_next)"


class Step(NamedTuple):
    """One Flow record of a Procedure: the state entered, when, and the Procedure's fields after it."""

    state: str
    at_ms: int
    transaction_date: int
    reason: str


class Balance(NamedTuple):
    """A customer's money in one currency, minor units; ``at_bank`` summed over the customer's banks."""

    available: int
    frozen: int
    in_transit: int
    at_bank: int


class Facts(Protocol):
    """The questions a run answers at its end. A filter that is None does not restrict.

    ``state`` is a label such as ``pending(move_next)``, or ``open`` (no end state) or ``ended``. ``customer`` is what
    the scenario writes: the id of a named customer, or a number of the population.
    """

    def deposits(self, state: str | None, channel: str | None, customer: str | int | None) -> int:
        """Deposit Procedures."""

    def withdrawals(self, state: str | None, channel: str | None, customer: str | int | None) -> int:
        """Withdrawal Procedures."""

    def applications(self, status: str | None, channel: str | None, customer: str | int | None) -> int:
        """Deposit applications by status name."""

    def tasks(self, status: str | None, channel: str | None, customer: str | int | None) -> int:
        """Withdrawal tasks by status name."""

    def latency_ms(self, channel: str, quantile: float, stage: str | None) -> float | None:
        """The quantile (0..1) of a latency channel, or of a stage of its deposits; None if nothing ended there."""

    def moment_ms(self, target: Target, what: str) -> int | None:
        """When something of a deposit appeared (`scenarios.schema.MomentExpected`), or None if it did not."""

    def history(self, target: Target) -> Sequence[Step] | None:
        """The Flow records of the target's Procedure in order; None if there is no such Procedure."""

    def balance(self, customer: str | int, ccy: str) -> Balance:
        """The customer's money."""

    def bank_effects(self, target: Target, op: str | None) -> int:
        """Postings of the bank's own book for the target."""

    def sendings(self, target: Target) -> int:
        """Instructions sent to the bank for the target."""

    def connections(self, bank: str, server: str | None, phase: str | None) -> int:
        """What connections to a bank's exit servers went through."""

    def recovered(self, bank: str) -> int:
        """Pushes of a bank that were fetched after nobody had heard them."""

    def kept(self, bank: str, status: str | None) -> int:
        """Credit entries of a bank's statements by status name."""

    def matches(self, bank: str, tier: str | None) -> int:
        """Applications that have found their entry, by tier: AUTO by a round, else by a person."""

    def debits(self, channel: str, state: str | None) -> int:
        """Direct debits by state."""

    def authorisations(self, channel: str, status: str | None) -> int:
        """Direct-debit authorisations that moved, by status name."""

    def reminders(self, bank: str) -> int:
        """Entries that operations were reminded of."""

    def logged(self, says: str) -> int:
        """Lines of collectors' logs in which these words stand."""

    def alerts(self, rule: str | None, severity: str | None, phase: str | None) -> int:
        """Alerts raised (also if ``phase`` is None), cleared, or standing."""

    def jobs(self, job: str, state: str | None, retries: int | None) -> int:
        """Jobs by name, state name and number of retries."""

    def notices(self, event: str | None, customer: str | int | None) -> int:
        """Customer notifications."""

    def refusals(self, operation: str | None, code: str | None) -> int:
        """Refused operations by operation and name of the code."""


class Verdict(TypedDict):
    """One line of the summary."""

    name: str
    passed: bool
    detail: str


def evaluate(expectations: Iterable[AnyExpected], facts: Facts) -> list[Verdict]:
    """A verdict for each expectation, in order."""
    return [_verdict(expected, facts) for expected in expectations]


class _Compared(NamedTuple):
    """One comparison in words."""

    holds: bool
    words: str


def _verdict(expected: AnyExpected, facts: Facts) -> Verdict:
    compared = _compare(expected, facts)
    detail = "; ".join(one.words for one in compared)
    if expected.why:
        detail += f". {expected.why}"
    return Verdict(name=sentence(expected), passed=all(one.holds for one in compared), detail=detail)


@singledispatch
def _compare(expected: object, facts: Facts) -> list[_Compared]:
    raise TypeError(f"no comparison for {type(expected).__name__}; {facts!r}")


# --- Counts ---------------------------------------------------------------------------------------------------------


def _counted(expected: Counted, found: int, total: int) -> list[_Compared]:
    bounds = (("exactly", expected.equals), ("at least", expected.at_least), ("at most", expected.at_most))
    return [_bounded(word, bound, found, total) for word, bound in bounds if bound is not None]


def _bounded(word: str, bound: Quantity, found: int, total: int) -> _Compared:
    # A percentage is compared without division, so that 95% of 0 things is met by 0 of them.
    have, want = (found * 100, bound.value * total) if bound.percent else (found, bound.value)
    holds = have == want if word == "exactly" else have >= want if word == "at least" else have <= want
    if not bound.percent:
        return _Compared(holds, f"expected {word} {bound.value:g}, found {found}")
    share = f"{found / total:.1%}" if total else "there are none"
    return _Compared(holds, f"expected {word} {bound.value:g}%, found {found} of {total} ({share})")


@_compare.register
def _(expected: DepositsExpected, facts: Facts) -> list[_Compared]:
    found = facts.deposits(expected.state, expected.channel, expected.customer)
    return _counted(expected, found, facts.deposits(None, expected.channel, expected.customer))


@_compare.register
def _(expected: WithdrawalsExpected, facts: Facts) -> list[_Compared]:
    found = facts.withdrawals(expected.state, expected.channel, expected.customer)
    return _counted(expected, found, facts.withdrawals(None, expected.channel, expected.customer))


@_compare.register
def _(expected: ApplicationsExpected, facts: Facts) -> list[_Compared]:
    found = facts.applications(expected.status, expected.channel, expected.customer)
    return _counted(expected, found, facts.applications(None, expected.channel, expected.customer))


@_compare.register
def _(expected: TasksExpected, facts: Facts) -> list[_Compared]:
    found = facts.tasks(expected.status, expected.channel, expected.customer)
    return _counted(expected, found, facts.tasks(None, expected.channel, expected.customer))


@_compare.register
def _(expected: BankEffectsExpected, facts: Facts) -> list[_Compared]:
    return _counted(expected, facts.bank_effects(expected.of, expected.op), facts.bank_effects(expected.of, None))


@_compare.register
def _(expected: SendingsExpected, facts: Facts) -> list[_Compared]:
    found = facts.sendings(expected.of)
    return _counted(expected, found, found)


@_compare.register
def _(expected: ConnectionsExpected, facts: Facts) -> list[_Compared]:
    found = facts.connections(expected.bank, expected.server, expected.phase)
    return _counted(expected, found, facts.connections(expected.bank, None, None))


@_compare.register
def _(expected: RecoveredExpected, facts: Facts) -> list[_Compared]:
    found = facts.recovered(expected.bank)
    return _counted(expected, found, found)


@_compare.register
def _(expected: EntriesExpected, facts: Facts) -> list[_Compared]:
    return _counted(expected, facts.kept(expected.bank, expected.status), facts.kept(expected.bank, None))


@_compare.register
def _(expected: MatchesExpected, facts: Facts) -> list[_Compared]:
    return _counted(expected, facts.matches(expected.bank, expected.tier), facts.kept(expected.bank, None))


@_compare.register
def _(expected: DebitsExpected, facts: Facts) -> list[_Compared]:
    return _counted(expected, facts.debits(expected.channel, expected.state), facts.debits(expected.channel, None))


@_compare.register
def _(expected: AuthorisationsExpected, facts: Facts) -> list[_Compared]:
    found = facts.authorisations(expected.channel, expected.status)
    return _counted(expected, found, facts.authorisations(expected.channel, None))


@_compare.register
def _(expected: RemindersExpected, facts: Facts) -> list[_Compared]:
    return _counted(expected, facts.reminders(expected.bank), facts.kept(expected.bank, None))


@_compare.register
def _(expected: LoggedExpected, facts: Facts) -> list[_Compared]:
    found = facts.logged(expected.says)
    return _counted(expected, found, found)


@_compare.register
def _(expected: AlertsExpected, facts: Facts) -> list[_Compared]:
    found = facts.alerts(expected.rule, expected.severity, expected.phase)
    return _counted(expected, found, facts.alerts(None, None, expected.phase))


@_compare.register
def _(expected: JobsExpected, facts: Facts) -> list[_Compared]:
    found = facts.jobs(expected.job, expected.state, expected.retries)
    return _counted(expected, found, facts.jobs(expected.job, None, None))


@_compare.register
def _(expected: NoticesExpected, facts: Facts) -> list[_Compared]:
    found = facts.notices(expected.event, expected.customer)
    return _counted(expected, found, facts.notices(None, expected.customer))


@_compare.register
def _(expected: RefusalsExpected, facts: Facts) -> list[_Compared]:
    return _counted(expected, facts.refusals(expected.operation, expected.code), facts.refusals(None, None))


# --- Latency, balance, one Procedure --------------------------------------------------------------------------------


@_compare.register
def _(expected: LatencyExpected, facts: Facts) -> list[_Compared]:
    quantiles = (("p50", 0.5, expected.p50), ("p95", 0.95, expected.p95), ("p99", 0.99, expected.p99))
    return [
        _within(f"{word} {bound}", limit, facts.latency_ms(expected.channel, quantile, expected.stage))
        for word, quantile, limits in quantiles if limits is not None
        for bound, limit in (("at least", limits.at_least), ("at most", limits.at_most)) if limit is not None]


@_compare.register
def _(expected: MomentExpected, facts: Facts) -> list[_Compared]:
    found = facts.moment_ms(expected.of, expected.what)
    bounds = (("not before", expected.not_before), ("by", expected.by))
    return [_Compared(found is not None and (found >= bound if word == "not before" else found <= bound),
                      f"expected {word} {show_time(bound)}, found {'never' if found is None else show_time(found)}")
            for word, bound in bounds if bound is not None]


def _within(word: str, bound_ms: int, found_ms: float | None) -> _Compared:
    said = f"expected {word} {in_words(bound_ms)}, found "
    if found_ms is None:
        return _Compared(False, said + "nothing that ended")
    holds = found_ms >= bound_ms if word.endswith("at least") else found_ms <= bound_ms
    return _Compared(holds, said + in_words(found_ms))


def in_words(ms: float) -> str:
    """A duration for people: ``3 m 05 s`` (whole seconds), ``12.4 s``, ``80 ms``."""
    whole = round(ms)
    if whole < 1_000:
        return f"{whole} ms"
    if whole < 60_000:
        return f"{whole / 1_000:g} s"
    minutes, seconds = divmod(whole // 1_000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m {seconds:02d} s" if hours else f"{minutes} m {seconds:02d} s"


@_compare.register
def _(expected: BalanceExpected, facts: Facts) -> list[_Compared]:
    found = facts.balance(expected.customer, expected.ccy)
    wanted = (("available", expected.available), ("frozen", expected.frozen),
              ("in_transit", expected.in_transit), ("at_bank", expected.at_bank))
    return [_same(word.replace("_", " "), show(value, expected.ccy), show(getattr(found, word), expected.ccy))
            for word, value in wanted if value is not None]


def _same(word: str, wanted: str, found: str) -> _Compared:
    return _Compared(wanted == found, f"{word}: expected {wanted}, found {found}")


@_compare.register
def _(expected: ProcedureExpected, facts: Facts) -> list[_Compared]:
    history = facts.history(expected.of)
    if not history:
        return [_Compared(False, f"there is no Procedure of {expected.of}")]
    last = history[-1]
    compared = [_same(f"entries into {state}", str(wanted), str(sum(step.state == state for step in history)))
                for state, wanted in expected.visits.items()]
    if expected.state is not None:
        compared.append(_same("state", expected.state, last.state))
    if expected.way is not None:
        compared.append(_same_way(expected.way, [step.state for step in history]))
    if expected.reason is not None:
        compared.append(_same("reason", expected.reason, last.reason or "none"))
    if expected.transaction_date is not None:
        compared.append(_same("transaction date", str(expected.transaction_date), str(last.transaction_date)))
    if expected.deferred_to is not None:
        deferred = [step.transaction_date for step in history if step.state == MOVE_NEXT]
        compared.append(_same("deferred to", _listed(expected.deferred_to), _listed(deferred)))
    if expected.ended_by is not None:
        compared.append(_Compared(last.at_ms <= expected.ended_by, f"expected the last change by "
                                  f"{show_time(expected.ended_by)}, found {show_time(last.at_ms)}"))
    return compared


def _same_way(wanted: Sequence[str], found: Sequence[str]) -> _Compared:
    if list(wanted) == list(found):
        return _Compared(True, f"way: as expected, {len(found)} steps to {found[-1]}")
    step = next((n for n, (one, other) in enumerate(zip(wanted, found, strict=False)) if one != other),
                min(len(wanted), len(found)))
    want = wanted[step] if step < len(wanted) else "the end"
    have = found[step] if step < len(found) else "the end"
    return _Compared(False, f"way: step {step + 1}: expected {want}, found {have}; the whole way: {' → '.join(found)}")


def _listed(dates: Iterable[int]) -> str:
    return ", ".join(str(day) for day in dates) or "never"


# --- Names ----------------------------------------------------------------------------------------------------------

_NOT_IN_SENTENCE = {"that", "why", "equals", "at_least", "at_most"}


def sentence(expected: AnyExpected) -> str:
    """The expectation as one line: ``withdrawals, state open: exactly 0``."""
    parts = [f"{key.replace('_', ' ')} {_short(key, value)}" for key, value in expected
             if key not in _NOT_IN_SENTENCE and value not in (None, "", {}, [])]
    bounds = _bounds_in_words(expected) if isinstance(expected, Counted) else ""
    return ", ".join([expected.that.replace("_", " "), *parts]) + (f": {bounds}" if bounds else "")


def _short(key: str, value: object) -> str:
    if isinstance(value, int) and key in Balance._fields:
        return show(value)
    if isinstance(value, int) and key in ("ended_by", "by", "not_before"):
        return show_time(value)
    if isinstance(value, Limits):
        bounds = (("at least", value.at_least), ("at most", value.at_most))
        return " ".join(f"{word} {in_words(bound)}" for word, bound in bounds if bound is not None)
    if isinstance(value, list):
        return f"[{len(value)}]"
    if isinstance(value, dict):
        return " ".join(f"{state}×{count}" for state, count in value.items())
    return str(value)


def _bounds_in_words(expected: Counted) -> str:
    bounds = (("exactly", expected.equals), ("at least", expected.at_least), ("at most", expected.at_most))
    return ", ".join(f"{word} {bound.value:g}{'%' * bound.percent}" for word, bound in bounds if bound is not None)
