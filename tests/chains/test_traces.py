"""Traces: the steps of a deposit and of a withdrawal with their times (architecture.md §8), and what a trace is worth:
every hop told, under the right id, with the tables that were really touched.

The documented times are what is *typical* ("about"): the median of many is held against them. A single one may be
slower, for each call between services has a latency of its own. Their sum, 1 to 3 s, ends with the search index.
"""

from __future__ import annotations

import ast
import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from core.domain import ApplyStatus, DepositType, Market, TaskStatus
from core.hops import SERVICES, under_way
from core.hops import Hop as Told
from core.trace import Event
from scenarios.names import CALLS
from tests.rig import FRONTLINE, SUPERVISOR, Rig, play

CORE = Path(__file__).resolve().parents[2] / "core"
CARDS = ("airstar", "cmb", "cmbc", "hase")
BST = CARDS[:3]
SURE = {f"sim.{bank}.{key}": value for bank in ("cmb", "cmbc")
        for key, value in (("outcome", [[0, 1.0]]), ("unknown.share", 0.0))}


class Hop(NamedTuple):
    """One hop event. Times in virtual microseconds."""

    trace: str
    number: int
    part_of: int | None
    service: str
    call: str
    tables: frozenset[str]
    began: int
    us: int
    outcome: str

    @property
    def ended(self) -> int:
        return self.began + self.us


def hops(events: list[Event], trace: str | None = None) -> list[Hop]:
    """The hops of a run, or of one deposit or withdrawal, in the order in which they began."""
    found = [Hop(subject, data["hop"], data["in"], data["service"], data["call"], frozenset(data["tables"]),
                 data["began_us"], data["us"], data["outcome"])
             for _, _, kind, subject, data in events if kind == "hop" and trace in (None, subject)]
    return sorted(found, key=lambda hop: (hop.began, hop.number))


def moment(events: list[Event], kind: str, subject: str | None = None, **wanted: Any) -> int:
    """Virtual microseconds of the first event of a kind that says this."""
    return next(t_us for _, t_us, of, about, data in events if of == kind and subject in (None, about)
                and all(data.get(key) == value for key, value in wanted.items()))


# --- the deposit of architecture.md §8.1 ------------------------------------------------------------------------------

HKD_10_000 = 1_000_000
LIMITS_MS = {"push received": 1_000, "Apply and lists": 100, "Procedure": 100, "Risk Control": 200, "end_ok": 50}
"""The documented time of each step, but of the search index (ES), which is not there yet."""
WHOLE_MS = 3_000


class Deposit(NamedTuple):
    """A deposit begun in CMB's own app: its hops, its Apply and Procedure at the end, milliseconds of its steps."""

    hops: dict[str, Hop]
    services: list[str]
    apply: Any
    procedure: dict[str, Any]
    steps: dict[str, float]
    whole: float


def steps(events: list[Event], trace: str, reference: str, procedure: str, by: dict[str, Hop]) -> dict[str, float]:
    """Milliseconds of each documented step, each from the end of the one before."""
    ends = {
        "booked": moment(events, "bank.book", ref=reference),
        "push received": moment(events, "bank.push", ref=reference),
        "Apply and lists": max(by["screening.deposit_black"].ended, by["screening.deposit_white"].ended),
        "Procedure": moment(events, "procedure", procedure, to="pending"),
        "Risk Control": by["risk_control.add"].ended,
        "end_ok": max(moment(events, "procedure", procedure, to="end_ok(deposit_ok)"),
                      moment(events, "apply", trace, status="DONE"))}
    times = list(ends.values())
    return {name: (after - before) / 1000 for name, before, after in
            zip(list(ends)[1:], times, times[1:], strict=False)}


@cache
def cmb_deposits() -> list[Deposit]:
    """Deposits of HKD 10,000 that customers of CMB began there, ten in each of four runs."""

    async def story(rig: Rig) -> list[Deposit]:
        for number in range(10):
            who = rig.customer(("alice", "bob")[number % 2])
            assert rig.world.banks["cmb"].ask(who, "deposit", Market.HK, "HKD", HKD_10_000) == 0
            await asyncio.sleep(1.3)
        await asyncio.sleep(20)
        return [await deposit_of(rig, apply) for apply in dict.fromkeys(e["apply"] for e in rig.of_kind("apply"))]

    return [one for seed in range(4) for one in play(story, cards=CARDS, settings=SURE, seed=seed)]


async def deposit_of(rig: Rig, apply_id: int) -> Deposit:
    trace = f"A{apply_id}"
    apply, shown = await rig.core.applications.find(apply_id), await rig.of_apply(apply_id)
    assert apply is not None and shown is not None
    told = hops(rig.events, trace)
    by = {hop.call: hop for hop in told}
    took = steps(rig.events, trace, apply.bank_ref_id, f"P{shown['id']}", by)
    return Deposit(by, [hop.service for hop in told], apply, shown, took, sum(took.values()))


@pytest.mark.parametrize("step", LIMITS_MS)
def test_a_typical_cmb_deposit_passes_each_step_in_its_documented_time(step: str) -> None:
    took = [deposit.steps[step] for deposit in cmb_deposits()]
    assert len(took) == 40 and min(took) >= 0
    assert median(took) < LIMITS_MS[step]


def test_a_typical_cmb_deposit_is_credited_within_the_documented_whole() -> None:
    assert median(deposit.whole for deposit in cmb_deposits()) < WHOLE_MS


def test_a_cmb_deposit_passes_the_documented_services_in_order() -> None:
    for deposit in cmb_deposits():
        assert deposit.services == [
            "cmb_stock_trans", "bankcard_service", "deposit", "deposit", "hk-deposit-blacklist-go",
            "hk-deposit-whitelist-go", "sba_deposit_system", "risk_control", "deposit"]
        shard = f"applys_{deposit.apply.uid % 100:02d}"
        assert shard in deposit.hops["deposit.begun_at_bank"].tables & deposit.hops["owner.tell_deposit"].tables
        assert {"proc_info", "proc_cash_deposit"} <= deposit.hops["sba.create_deposit"].tables
        assert "balance" in deposit.hops["risk_control.add"].tables


@pytest.mark.req("TRACE-02")
def test_a_cmb_deposit_asks_both_lists_at_once_and_is_written_back_as_done() -> None:
    for deposit in cmb_deposits():
        black, white = deposit.hops["screening.deposit_black"], deposit.hops["screening.deposit_white"]
        assert max(black.began, white.began) < min(black.ended, white.ended)  # each was asked while the other was
        assert deposit.procedure["deposit_type"] == DepositType.TRANS_AUTO
        assert (deposit.apply.status, deposit.apply.sba_procedure_id, deposit.apply.credited_amount) == (
            ApplyStatus.DONE, deposit.procedure["id"], HKD_10_000)


# --- the withdrawal of architecture.md §8.2 ---------------------------------------------------------------------------

HKD_50_000 = 5_000_000
WITHDRAWAL_MS = {"task": 100, "freeze": 200, "deduction": 200}
BY_HAND = ["new(freeze)", "new(waiting)", "new(blank)", "pending(deduct_done)", "pending(transfer_manual)",
           "end_ok(transfer_done)"]


class Withdrawal(NamedTuple):
    """A withdrawal by Hang Seng's online banking: what it passed, milliseconds of its steps."""

    passed: list[str]
    states: list[str]
    waited_s: float
    task: Any
    steps: dict[str, float]


@cache
def hang_seng_withdrawals() -> list[Withdrawal]:
    """Withdrawals of HKD 50,000 that operations paid an hour later, one of each customer in each run."""

    async def story(rig: Rig) -> list[Withdrawal]:
        return list(await asyncio.gather(*(withdrawal_of(rig, who) for who in ("alice", "bob"))))

    return [one for seed in range(8) for one in play(story, cards=CARDS, settings=SURE, seed=seed)]


async def withdrawal_of(rig: Rig, who: str) -> Withdrawal:
    task = await rig.withdraw(who, HKD_50_000, channel="hase")
    await asyncio.sleep(3_600)
    waiting = await rig.of_task(task.id)
    assert waiting is not None and waiting["state"] == "pending(transfer_manual)"
    confirmed = rig.world.clock.now_us()
    reply = await rig.core.withdrawals.set_transfer_done(
        task.id, version=waiting["version"], rpc_request_id=rig.request_id(), by=FRONTLINE)
    assert reply.ok
    entered = partial(moment, rig.events, "procedure", f"P{waiting['id']}")
    at = {label: entered(to=label) for label in BY_HAND}
    return Withdrawal(
        [hop.call for hop in hops(rig.events, f"T{task.id}")], await rig.way(waiting["id"]),
        (confirmed - at["pending(transfer_manual)"]) / 1e6, await rig.core.withdrawals.find(task.id), {
            "task": (at["new(freeze)"] - moment(rig.events, "task", f"T{task.id}")) / 1000,
            "freeze": (at["new(waiting)"] - at["new(freeze)"]) / 1000,
            "deduction": (at["pending(deduct_done)"] - at["new(blank)"]) / 1000})


@pytest.mark.req("TRACE-03")
@pytest.mark.parametrize("step", WITHDRAWAL_MS)
def test_a_typical_hang_seng_withdrawal_passes_each_step_in_its_documented_time(step: str) -> None:
    """The waits for the script, at most a minute in ``new(waiting)``, and for people are none of the steps (A-71)."""
    took = [withdrawal.steps[step] for withdrawal in hang_seng_withdrawals()]
    assert len(took) == 16 and min(took) > 0
    assert median(took) < WITHDRAWAL_MS[step]


@pytest.mark.req("TRACE-03")
def test_a_hang_seng_withdrawal_waits_for_set_manual_transfer_done_and_ends_with_it() -> None:
    for withdrawal in hang_seng_withdrawals():
        assert withdrawal.states == BY_HAND
        assert withdrawal.waited_s > 3_500
        assert withdrawal.task.status == TaskStatus.DONE
        assert withdrawal.passed == [
            "withdraw.submit", "WithdrawStart", "bankcard.check", "risk_control.freeze", "screening.withdraw",
            "sba.create_withdrawal", "risk_control.freeze", "sba.drive", "risk_control.deduct",
            "withdraw.set_transfer_done", "sba.set_manual_transfer_done", "risk_control.consume",
            "owner.tell_withdraw"]


# --- every deposit and withdrawal -------------------------------------------------------------------------------------

TABLES = re.compile(r"\b(?:INTO|UPDATE|FROM|JOIN) (?!SET\b)(\w+)")
OWN = {"job_run", "queue", "asb_request", "asb_sequence"}
"""Written for no deposit or withdrawal: what timers keep of their runs, and what a pull notes of a request at Airstar
before anybody has looked at it."""


class Busy(NamedTuple):
    """An hour in which everything happens at once, and what was seen of it beside the hops."""

    events: list[Event]
    calls: int
    touched: dict[int | None, set[str]]  # hop -> tables in the text of its statements; None: outside any hop
    written_outside: set[str]
    strangers: list[str]  # events told within a hop of another deposit or withdrawal


async def flow(rig: Rig, bank: str, who: str, kind: str, by: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    customer = rig.customer(who)
    if by == "bank":
        assert rig.world.banks[bank].ask(customer, kind, Market.HK, "HKD", 100_000) == 0
    elif kind == "withdraw":
        await rig.withdraw(who, 100_000, channel=bank)
    else:
        await rig.core.deposits_at[bank].submit(
            customer.uid, customer.trade_acc_ids[0], 1, rig.world.card_id(customer, bank), customer.cards[bank].number,
            "HKD", 100_000)


async def by_people(rig: Rig) -> None:
    """Withdrawals that people end: paid by hand, rejected, and one that risk control does not answer for a while."""
    paid, rejected = [await rig.withdraw("alice", 100_000 + n, channel="hase") for n in range(2)]
    await asyncio.sleep(180)
    waiting = await rig.of_task(paid.id)
    assert waiting is not None
    await rig.core.withdrawals.set_transfer_done(
        paid.id, version=waiting["version"], rpc_request_id=rig.request_id(), by=FRONTLINE)
    other = await rig.of_task(rejected.id)
    assert other is not None
    await rig.operate("CashWithdrawForceProcess", other, SUPERVISOR, action="Rollback", bank_status="NOT_TRANSFERRED")
    rig.world.rpc.fault("timeout_after", "risk_control.consume", rig.world.streams("test"))
    await rig.withdraw("bob", 100_000)
    await asyncio.sleep(30)
    rig.world.rpc.clear("risk_control.consume")


@cache
def busy_hour() -> Busy:
    seen = Busy([], 0, {}, set(), [])

    def stranger(event: Event) -> None:
        hop, trace = under_way(), trace_named_by(event)
        if hop is not None and hop.trace_id and trace and hop.trace_id != trace:
            seen.strangers.append(f"{event[2]} of {trace} within a hop of {hop.trace_id}")
        seen.events.append(event)

    def note(statement: str) -> None:
        hop = under_way()
        if not statement.startswith("--"):  # what a trigger does
            seen.touched.setdefault(hop.number if hop else None, set()).update(TABLES.findall(statement))
            if hop is None and statement.startswith(("INSERT", "UPDATE", "DELETE")):
                seen.written_outside.update(TABLES.findall(statement))

    async def story(rig: Rig) -> int:
        for name in ("primary", "account", "procedure", "assets"):
            getattr(rig.world.databases, name).connection.set_trace_callback(note)
        rig.world.trace.subscribe(stranger)
        before = rig.world.rpc.calls
        await asyncio.gather(by_people(rig), *(
            flow(rig, bank, who, kind, by, number * 0.4) for number in range(3) for bank in BST
            for who in ("alice", "bob") for kind in ("deposit", "withdraw") for by in ("app", "bank")))
        await asyncio.sleep(1_500)
        for name in ("primary", "account", "procedure", "assets"):
            getattr(rig.world.databases, name).connection.set_trace_callback(None)
        return int(rig.world.rpc.calls - before)

    often = {"airstar.sync.pull_s": 600}  # what customers began at Airstar is asked for while we wait
    return seen._replace(calls=play(story, cards=CARDS, settings=SURE | often))


def trace_named_by(event: Event) -> str:
    """Which deposit or withdrawal an event is about, as far as it says so itself."""
    _, _, kind, subject, data = event
    if kind in ("apply", "task"):
        return subject
    return data["trace"] if kind == "procedure" else ""


@pytest.mark.req("TRACE-05")
def test_every_deposit_and_withdrawal_has_a_trace_from_its_wish_to_its_end() -> None:
    events = busy_hour().events
    wishes = {event[3] for event in events if event[2] in ("apply", "task")}
    assert len(wishes) >= 75
    assert {event[4]["trace"] for event in events if event[2] == "procedure"} == wishes
    for trace in wishes:
        told = hops(events, trace)
        assert {hop.call for hop in told} & {
            "deposit.submit", "deposit.begun_at_bank", "AsbBstCreateFromBankJob", "withdraw.submit",
            "withdraw.begun_at_bank"}
        assert {hop.service for hop in told} >= {"risk_control", "deposit" if trace[0] == "A" else "withdraw"}
        end = max(event[1] for event in events if event[3] == trace and event[2] in ("apply", "task"))
        assert told[0].began <= moment(events, "apply" if trace[0] == "A" else "task", trace)
        assert max(hop.ended for hop in told) >= end


@pytest.mark.req("TRACE-05")
def test_every_call_between_services_and_every_exchange_about_a_transfer_is_a_hop() -> None:
    busy = busy_hour()
    told = hops(busy.events)
    assert sum(hop.call in SERVICES for hop in told) == busy.calls > 300
    asked = Counter(f"{data['bank']}.{data['message']}" for _, _, kind, _, data in busy.events
                    if kind == "bank.reply" and data["outcome"] != "PENDING"
                    and data["message"] not in ("bank_requests", "day_list"))
    heard = Counter(hop.call for hop in told if hop.service in (
        "airstar_service", "cmb_stock_trans", "ms_stock_bank_transaction") and hop.call in asked)
    assert heard == asked and len(asked) >= 6


@pytest.mark.req("TRACE-05")
def test_the_tables_of_a_hop_are_those_that_its_statements_name() -> None:
    busy = busy_hour()
    told = hops(busy.events)
    assert {hop.number: set(hop.tables) for hop in told} == {
        hop.number: busy.touched.get(hop.number, set()) for hop in told}
    assert set().union(*(hop.tables for hop in told)) >= {
        "tasks", "flows", "queue", "sba_list", "asb_request", "bst_push", "bst_transfer", "cmb_list", "ms_list",
        "bank_card_asb_bst", "bank_card_bst", "proc_info", "proc_cash_deposit", "proc_cash_withdraw", "flow", "outbox",
        "balance", "hold", "posting", "entry", "list_entry"}


@pytest.mark.req("TRACE-05")
def test_nothing_is_written_for_a_deposit_or_withdrawal_outside_a_hop() -> None:
    assert busy_hour().written_outside <= OWN


@pytest.mark.req("TRACE-05")
def test_no_hop_of_one_does_the_work_of_another_and_each_lasts_as_long_as_its_parts() -> None:
    busy = busy_hour()
    assert not busy.strangers
    told = {hop.number: hop for hop in hops(busy.events)}
    parts = [hop for hop in told.values() if hop.part_of is not None]
    assert len(parts) > 300
    for hop in parts:
        whole = told[hop.part_of or 0]
        assert whole.trace == hop.trace
        assert whole.began <= hop.began and hop.ended <= whole.ended


def test_silence_and_refusal_are_told_as_such_and_what_is_resumed_belongs_to_the_same_trace() -> None:
    told = hops(busy_hour().events)
    (silent,) = {hop.trace for hop in told if hop.outcome == "unknown"}
    again = [hop for hop in hops(busy_hour().events, silent) if hop.call == "sba.resume"]
    assert again
    assert {hop.outcome for hop in told} >= {"ok", "unknown", "SUCCESS", "ACCEPTED", "TAKEN_ON"}


# --- beside the way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polls", [False, True])
def test_polls_without_a_result_are_hops_only_if_that_is_wanted(polls: bool) -> None:
    async def story(rig: Rig) -> tuple[int, int]:
        apply = await rig.deposit()
        await asyncio.sleep(40)
        asked = [hop for hop in hops(rig.events, f"A{apply.id}") if hop.call == "airstar.query_deposit"]
        return len(asked), len(rig.of_kind("bank.reply", message="query_deposit"))

    told, asked = play(story, settings={"jobs.trace_polls": polls, "sim.airstar.result.delay": [[1.0, 10.0, 10.0]]})
    assert asked == 4 and told == (4 if polls else 1)


def test_a_dead_core_tells_nothing_and_its_successor_goes_on_under_the_same_trace() -> None:
    async def story(rig: Rig) -> None:
        task = await rig.withdraw()
        await asyncio.sleep(0.05)
        before = hops(rig.events)
        assert {hop.trace for hop in before} == {f"T{task.id}"}
        rig.world.kill(2_000)
        assert hops(rig.events) == before
        await asyncio.sleep(1)
        assert hops(rig.events) == before
        await asyncio.sleep(120)
        shown = await rig.of_task(task.id)
        assert shown is not None and shown["state"] == "end_ok(transfer_done)"
        after = hops(rig.events, f"T{task.id}")
        assert len(after) == len(hops(rig.events)) > len(before) + 5

    play(story)


def test_what_belongs_to_no_deposit_or_withdrawal_is_not_told() -> None:
    async def story(rig: Rig) -> None:
        bob = rig.customer("bob")
        await rig.core.airstar_deposits.authorize(
            bob.uid, rig.world.card_id(bob, "airstar"), bob.cards["airstar"].number, bob.name, "0" * 64)
        await asyncio.sleep(600)
        assert rig.of_kind("bank.reply", message="create_mandate") and rig.of_kind("bank.reply", bank="airstar")
        assert not hops(rig.events)

    play(story)


def test_what_a_core_spawns_is_part_of_no_hop_and_what_is_gathered_is() -> None:
    async def seen() -> Told | None:
        return under_way()

    async def story(rig: Rig) -> None:
        with Told(rig.world.trace, "test", "test", of="A1") as hop:
            assert await asyncio.gather(seen(), rig.core.spawn(seen())) == [hop, None]
        assert under_way() is None

    play(story)


def called() -> Iterator[str]:
    """The names of the calls between services that the core's sources write out, and those it puts together."""
    for path in sorted(CORE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name) and node.args:
                yield from names_in(node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id,
                                    node.args[0])


ASKS_RISK_CONTROL = ("ask", "_order", "_order_surely")
"""Functions of `Performers` that call risk control by the name of an operation."""


def names_in(function: str, first: ast.expr) -> Iterator[str]:
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        if function in ("rpc", "_rpc"):
            yield first.value
        elif function in ASKS_RISK_CONTROL:
            yield f"risk_control.{first.value}"


def test_every_call_of_the_core_has_its_service_and_no_service_is_without_a_call() -> None:
    owners = {f"owner.{effect.lower()}" for effect in ("INSTRUCT", "TELL_DEPOSIT", "TELL_WITHDRAW")}
    assert set(called()) | owners == set(SERVICES)


def test_every_call_that_a_scenario_may_break_is_a_call_or_a_service_of_calls() -> None:
    assert set(CALLS) <= set(SERVICES) | {name.partition(".")[0] for name in SERVICES}
