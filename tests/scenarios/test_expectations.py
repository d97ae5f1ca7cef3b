"""Truth table of expectations: for each kind, facts that meet it, facts that miss it, and the words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest

from core.clock import MS_PER_DAY
from scenarios.expectations import Balance, Step, Verdict, evaluate, in_words
from scenarios.names import names as platform_names
from scenarios.reading import library, load, load_text
from scenarios.schema import AnyExpected, Names, Target, full_moment_ms

AT = full_moment_ms("2026-03-12 10:00")


@dataclass
class GivenFacts:
    """Facts as a test states them: counts by (question, the filters), anything not stated is nothing."""

    counts: dict[tuple[Any, ...], int] = field(default_factory=dict)
    latencies: dict[tuple[str, float], float] = field(default_factory=dict)
    moments: dict[str, int] = field(default_factory=dict)
    steps: Sequence[Step] | None = None
    money: Balance = field(default_factory=lambda: Balance(0, 0, 0, 0))
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def _count(self, *question: Any) -> int:
        self.asked.append(question)
        return self.counts.get(question, 0)

    def deposits(self, state: str | None, channel: str | None, customer: str | int | None) -> int:
        return self._count("deposits", state, channel, customer)

    def withdrawals(self, state: str | None, channel: str | None, customer: str | int | None) -> int:
        return self._count("withdrawals", state, channel, customer)

    def applications(self, status: str | None, channel: str | None, customer: str | int | None) -> int:
        return self._count("applications", status, channel, customer)

    def tasks(self, status: str | None, channel: str | None, customer: str | int | None) -> int:
        return self._count("tasks", status, channel, customer)

    def latency_ms(self, channel: str, quantile: float, stage: str | None) -> float | None:
        return self.latencies.get((channel if stage is None else f"{channel}: {stage}", quantile))

    def moment_ms(self, target: Target, what: str) -> int | None:
        self.asked.append(("moment", str(target), what))
        return self.moments.get(what)

    def debits(self, channel: str, state: str | None) -> int:
        return self._count("debits", channel, state)

    def authorisations(self, channel: str, status: str | None) -> int:
        return self._count("authorisations", channel, status)

    def history(self, target: Target) -> Sequence[Step] | None:
        self.asked.append(("history", str(target)))
        return self.steps

    def balance(self, customer: str | int, ccy: str) -> Balance:
        self.asked.append(("balance", customer, ccy))
        return self.money

    def bank_effects(self, target: Target, op: str | None) -> int:
        return self._count("bank_effects", str(target), op)

    def sendings(self, target: Target) -> int:
        return self._count("sendings", str(target))

    def connections(self, bank: str, server: str | None, phase: str | None) -> int:
        return self._count("connections", bank, server, phase)

    def recovered(self, bank: str) -> int:
        return self._count("recovered", bank)

    def kept(self, bank: str, status: str | None) -> int:
        return self._count("kept", bank, status)

    def matches(self, bank: str, tier: str | None) -> int:
        return self._count("matches", bank, tier)

    def reminders(self, bank: str) -> int:
        return self._count("reminders", bank)

    def logged(self, says: str) -> int:
        return self._count("logged", says)

    def alerts(self, rule: str | None, severity: str | None, phase: str | None) -> int:
        return self._count("alerts", rule, severity, phase)

    def jobs(self, job: str, state: str | None, retries: int | None) -> int:
        return self._count("jobs", job, state, retries)

    def notices(self, event: str | None, customer: str | int | None) -> int:
        return self._count("notices", event, customer)

    def refusals(self, operation: str | None, code: str | None) -> int:
        return self._count("refusals", operation, code)


Judge = Callable[[str, GivenFacts], Verdict]


@pytest.fixture(scope="session")
def judge(names: Names, head: str) -> Judge:
    """The verdict on one expectation as a scenario writes it, given facts."""
    moved = """workload:
  - recorded:
      - {at: 10:00, withdraw: {customer: alice, channel: airstar, ccy: HKD, amount: 1}}
      - {at: 10:00, deposit: {customer: alice, channel: airstar, ccy: HKD, amount: 1}}
"""

    def verdict(line: str, facts: GivenFacts) -> Verdict:
        scenario = load_text(f"{head}{moved}expect:\n  - {line}\n", names)
        (found,) = evaluate(scenario.expect, facts)
        return found

    return verdict


COUNTED = [
    ("{that: deposits, state: end_ok(deposit_ok), channel: airstar, ",
     ("deposits", "end_ok(deposit_ok)", "airstar", None)),
    ("{that: withdrawals, state: open, customer: alice, ", ("withdrawals", "open", None, "alice")),
    ("{that: applications, status: DONE, ", ("applications", "DONE", None, None)),
    ("{that: tasks, status: FAILED, channel: hsbc, ", ("tasks", "FAILED", "hsbc", None)),
    ("{that: bank_effects, of: {customer: alice, withdrawal: 1}, op: pay, ",
     ("bank_effects", "withdrawal 1 of alice", "pay")),
    ("{that: sendings, of: {customer: alice, withdrawal: 1}, ", ("sendings", "withdrawal 1 of alice")),
    ("{that: connections, bank: cmb, server: backup, phase: active, ", ("connections", "cmb", "backup", "active")),
    ("{that: connections, bank: cmb, phase: lost, ", ("connections", "cmb", None, "lost")),
    ("{that: recovered, bank: cmb, ", ("recovered", "cmb")),
    ("{that: entries, bank: icbc, status: CREDITED, ", ("kept", "icbc", "CREDITED")),
    ("{that: matches, bank: icbc, tier: MANUAL, ", ("matches", "icbc", "MANUAL")),
    ("{that: reminders, bank: icbc, ", ("reminders", "icbc")),
    ("{that: debits, channel: hsbc_eddi, state: new_blank, ", ("debits", "hsbc_eddi", "new_blank")),
    ("{that: authorisations, channel: hsbc_eddi, status: REJECTED, ", ("authorisations", "hsbc_eddi", "REJECTED")),
    ("{that: logged, says: late push, ", ("logged", "late push")),
    ("{that: alerts, rule: AIRSTAR-06, severity: High, ", ("alerts", "AIRSTAR-06", "High", None)),
    ("{that: alerts, rule: AIRSTAR-06, phase: standing, ", ("alerts", "AIRSTAR-06", None, "standing")),
    ("{that: jobs, job: AsbBstTransfer, state: EXCEPTION, retries: 10, ", ("jobs", "AsbBstTransfer", "EXCEPTION", 10)),
    ("{that: notices, event: DEPOSIT_OK, customer: alice, ", ("notices", "DEPOSIT_OK", "alice")),
    ("{that: refusals, operation: QueryBank, code: LOCK_BUSY, ", ("refusals", "QueryBank", "LOCK_BUSY")),
]


@pytest.mark.parametrize(("line", "question"), COUNTED)
@pytest.mark.parametrize(("bound", "found", "passed"), [
    ("equals: 2", 1, False), ("equals: 2", 2, True), ("equals: 2", 3, False),
    ("at_least: 2", 1, False), ("at_least: 2", 2, True), ("at_least: 2", 3, True),
    ("at_most: 2", 1, True), ("at_most: 2", 2, True), ("at_most: 2", 3, False),
    ("at_least: 1, at_most: 2", 0, False), ("at_least: 1, at_most: 2", 2, True), ("at_least: 1, at_most: 2", 3, False),
    ("equals: 0", 0, True), ("equals: 0", 1, False),
])
def test_counts(line: str, question: tuple[Any, ...], bound: str, found: int, passed: bool, judge: Judge) -> None:
    facts = GivenFacts({question: found})
    verdict = judge(line + bound + "}", facts)
    assert verdict["passed"] is passed
    assert f"found {found}" in verdict["detail"]
    assert question in facts.asked


@pytest.mark.parametrize(("bound", "found", "total", "passed"), [
    ("at_least: 95%", 95, 100, True), ("at_least: 95%", 94, 100, False), ("at_least: 95%", 0, 0, True),
    ("at_most: 0.5%", 1, 200, True), ("at_most: 0.5%", 2, 200, False), ("equals: 100%", 3, 3, True),
    ("equals: 100%", 2, 3, False), ("equals: 50%", 1, 2, True),
])
def test_percentages_are_of_all_of_a_kind(bound: str, found: int, total: int, passed: bool, judge: Judge) -> None:
    facts = GivenFacts({("withdrawals", "end_reject", "hsbc", None): found, ("withdrawals", None, "hsbc", None): total})
    verdict = judge(f"{{that: withdrawals, state: end_reject, channel: hsbc, {bound}}}", facts)
    assert verdict["passed"] is passed
    assert f"found {found} of {total}" in verdict["detail"]


@pytest.mark.parametrize(("line", "question"), [
    ("{that: matches, bank: icbc, tier: AUTO, at_least: 95%}", ("matches", "icbc", "AUTO")),
    ("{that: reminders, bank: icbc, at_least: 95%}", ("reminders", "icbc")),
    ("{that: entries, bank: icbc, status: CREDITED, at_least: 95%}", ("kept", "icbc", "CREDITED")),
])
def test_percentages_of_a_statement_bank_are_of_its_entries(
    line: str, question: tuple[Any, ...], judge: Judge
) -> None:
    for found, passed in ((95, True), (94, False)):
        assert judge(line, GivenFacts({question: found, ("kept", "icbc", None): 100}))["passed"] is passed


@pytest.mark.parametrize(("bounds", "p50", "p95", "passed"), [
    ("p95: {at_most: 3m}", None, 180_000, True), ("p95: {at_most: 3m}", None, 180_001, False),
    ("p95: {at_most: 3m}", None, None, False), ("p50: {at_least: 5s}", 5_000, None, True),
    ("p50: {at_least: 5s}", 4_999, None, False),
    ("p50: {at_least: 5s, at_most: 10s}, p95: {at_most: 1m}", 7_000, 60_000, True),
    ("p50: {at_least: 5s, at_most: 10s}, p95: {at_most: 1m}", 7_000, 60_001, False),
    ("p50: {at_least: 5s, at_most: 10s}, p95: {at_most: 1m}", 11_000, 1, False),
])
def test_latency(bounds: str, p50: float | None, p95: float | None, passed: bool, judge: Judge) -> None:
    known = {("airstar deposit", quantile): value for quantile, value in ((0.5, p50), (0.95, p95)) if value is not None}
    verdict = judge(f"{{that: latency, channel: airstar deposit, {bounds}}}", GivenFacts(latencies=known))
    assert verdict["passed"] is passed


def test_latency_says_expected_and_found_in_words(judge: Judge) -> None:
    verdict = judge("{that: latency, channel: airstar deposit, p99: {at_most: 3m}, why: Customers wait.}",
                    GivenFacts(latencies={("airstar deposit", 0.99): 4_000_000}))
    assert verdict["detail"] == "expected p99 at most 3 m 00 s, found 1 h 06 m 40 s. Customers wait."
    assert "found nothing that ended" in judge("{that: latency, channel: hsbc withdrawal, p50: {at_most: 1s}}",
                                               GivenFacts())["detail"]


@pytest.mark.parametrize(("bounds", "passed"), [
    ("p50: {at_most: 1s}", True), ("p50: {at_most: 900ms}", False), ("p95: {at_most: 1s}", False)])
def test_latency_of_a_stage(bounds: str, passed: bool, judge: Judge) -> None:
    facts = GivenFacts(latencies={("airstar deposit: crediting", 0.5): 950, ("airstar deposit", 0.95): 1})
    verdict = judge(f"{{that: latency, channel: airstar deposit, stage: crediting, {bounds}}}", facts)
    assert verdict["passed"] is passed and verdict["name"].startswith("latency, channel airstar deposit, stage ")


@pytest.mark.parametrize(("bounds", "passed"), [
    ("not_before: 10:00", True), ("not_before: '10:00:00.001'", False), ("by: 10:00", True),
    ("by: '09:59:59.999'", False), ("not_before: 09:00, by: 11:00", True), ("not_before: 10:30, by: 11:00", False)])
def test_moment(bounds: str, passed: bool, judge: Judge) -> None:
    line = f"{{that: moment, of: {{customer: alice, deposit: 1}}, what: known, {bounds}}}"
    facts = GivenFacts(moments={"known": AT})
    verdict = judge(line, facts)
    assert verdict["passed"] is passed and "found 2026-03-12 10:00:00.000" in verdict["detail"]
    assert facts.asked == [("moment", "deposit 1 of alice", "known")]
    never = judge(line, GivenFacts())
    assert never["passed"] is False and "found never" in never["detail"]


@pytest.mark.parametrize(("wanted", "passed"), [
    ("available: 90", True), ("available: 91", False), ("frozen: 1", True), ("frozen: 0", False),
    ("in_transit: 2", True), ("in_transit: 3", False), ("at_bank: '3.50'", True), ("at_bank: 3", False),
    ("available: 90, frozen: 1, in_transit: 2, at_bank: '3.50'", True), ("available: 90, frozen: 2", False),
])
def test_balance(wanted: str, passed: bool, judge: Judge) -> None:
    facts = GivenFacts(money=Balance(9_000, 100, 200, 350))
    verdict = judge(f"{{that: balance, customer: alice, ccy: HKD, {wanted}}}", facts)
    assert verdict["passed"] is passed
    assert facts.asked == [("balance", "alice", "HKD")]


def test_balance_in_words(judge: Judge) -> None:
    verdict = judge("{that: balance, customer: alice, ccy: HKD, available: '12,345.60'}",
                    GivenFacts(money=Balance(1_234_559, 0, 0, 0)))
    assert verdict == Verdict(name="balance, customer alice, ccy HKD, available 12,345.60", passed=False,
                              detail="available: expected 12,345.60 HKD, found 12,345.59 HKD")


LOOPED = [
    Step("new(freeze)", AT, 20260313, ""), Step("pending(move_next)", AT + 1, 20260316, ""),
    Step("new(freeze)", AT + MS_PER_DAY, 20260316, ""), Step("pending(move_next)", AT + MS_PER_DAY, 20260317, ""),
    Step("end_reject", AT + MS_PER_DAY, 20260317, "BANK_FAILED"),
]


@pytest.mark.parametrize(("wanted", "passed"), [
    ("state: end_reject", True), ("state: end_cancel", False),
    ("way: [new(freeze), pending(move_next), new(freeze), pending(move_next), end_reject]", True),
    ("way: [new(freeze), pending(move_next), new(freeze), pending(move_next)]", False),
    ("way: [new(freeze), pending(move_next), new(freeze), pending(move_next), end_reject, end_cancel]", False),
    ("way: [new(freeze), new(waiting), new(freeze), pending(move_next), end_reject]", False),
    ("visits: {new(freeze): 2, pending(move_next): 2, new(waiting): 0}", True), ("visits: {new(freeze): 1}", False),
    ("reason: BANK_FAILED", True), ("reason: MANUAL_TRANSFER_FAILED", False),
    ("transaction_date: 2026-03-17", True), ("transaction_date: 20260316", False),
    ("deferred_to: [20260316, 2026-03-17]", True), ("deferred_to: [2026-03-16]", False),
    ("deferred_to: [2026-03-17, 2026-03-16]", False), ("deferred_to: []", False),
    ("state: end_reject, reason: BANK_FAILED, deferred_to: [20260316, 20260317]", True),
    ("state: end_reject, reason: BANK_FAILED, deferred_to: [20260316]", False),
])
def test_procedure(wanted: str, passed: bool, judge: Judge) -> None:
    line = f"{{that: procedure, of: {{customer: alice, withdrawal: 1}}, {wanted}}}"
    facts = GivenFacts(steps=LOOPED)
    assert judge(line, facts)["passed"] is passed
    assert facts.asked == [("history", "withdrawal 1 of alice")]
    missing = judge(line, GivenFacts())
    assert (missing["passed"], missing["detail"]) == (False, "there is no Procedure of withdrawal 1 of alice")


@pytest.mark.parametrize(("ended", "passed"), [(-1, True), (0, True), (1, False)])
def test_procedure_ended_by(ended: int, passed: bool, judge: Judge) -> None:
    steps = [Step("end_ok(deposit_ok)", AT + ended, 20260312, "")]
    line = "{that: procedure, of: {customer: alice, deposit: 1}, ended_by: 10:00}"
    assert judge(line, GivenFacts(steps=steps))["passed"] is passed


def test_procedure_says_where_the_way_parts(judge: Judge) -> None:
    line = ("{that: procedure, of: {customer: alice, withdrawal: 1}, way: [new(freeze), new(waiting)], "
            "reason: BANK_FAILED}")
    detail = judge(line, GivenFacts(steps=LOOPED[:3]))["detail"]
    assert detail == ("way: step 2: expected new(waiting), found pending(move_next); the whole way: new(freeze) → "
                      "pending(move_next) → new(freeze); reason: expected BANK_FAILED, found none")


@pytest.mark.parametrize(("line", "name"), [
    ("{that: withdrawals, state: open, equals: 0}", "withdrawals, state open: exactly 0"),
    ("{that: deposits, at_least: 95%, at_most: 100%}", "deposits: at least 95%, at most 100%"),
    ("{that: procedure, of: {customer: alice, withdrawal: 1}, visits: {new(freeze): 3}, ended_by: 10:00}",
     "procedure, of withdrawal 1 of alice, visits new(freeze)×3, ended by 2026-03-12 10:00:00.000"),
    ("{that: latency, channel: airstar deposit, p95: {at_most: 3m}}",
     "latency, channel airstar deposit, p95 at most 3 m 00 s"),
])
def test_names_say_what_is_expected(line: str, name: str, judge: Judge) -> None:
    assert judge(line, GivenFacts())["name"] == name


def test_every_kind_of_expectation_is_judged_in_order(names: Names, full: str) -> None:
    scenario = load_text(full, names)
    assert {type(expected) for expected in scenario.expect} == set(get_args(AnyExpected))
    verdicts = evaluate(scenario.expect, GivenFacts())
    assert [verdict["name"].split(",")[0].split(":")[0] for verdict in verdicts] == [
        expected.that.replace("_", " ") for expected in scenario.expect]


@pytest.mark.parametrize("name", sorted(library()))
def test_nothing_having_happened_does_not_pass_a_scenario(name: str) -> None:
    """A run in which nothing happens must fail every scenario of the library."""
    assert not all(verdict["passed"] for verdict in evaluate(load(name, platform_names()).expect, GivenFacts()))


@pytest.mark.parametrize(("ms", "words"), [
    (0, "0 ms"), (999.4, "999 ms"), (999.6, "1 s"), (12_400, "12.4 s"), (59_999.9, "1 m 00 s"), (185_000, "3 m 05 s"),
    (3_599_999, "59 m 59 s"), (7_200_000, "2 h 00 m 00 s")])
def test_durations_in_words(ms: float, words: str) -> None:
    assert in_words(ms) == words
