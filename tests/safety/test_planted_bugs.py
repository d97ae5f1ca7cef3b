"""Bugs planted on purpose: each is caught by the invariant meant for it, stops the run, and says how to see it again.

A bug is planted where a programmer would make it: a performer, a row of a table, a statement of the engine or of the
ledger is replaced once the world stands. Sources: issue "Plant five bugs"; FRZ-06, FRZ-07, DEDUP-11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, update

from core.banks.socket import gateway as gateway_table
from core.deposits import bst
from core.domain import BizType
from core.errors import InvariantBroken
from core.money import parse_wire
from core.orchestration import records
from core.orchestration import withdraw_table as W
from core.orchestration.engine import Fact, Outcome
from core.orchestration.table import Row
from core.storage import Statement
from core.storage.procedure import proc_info
from core.wire.socket.messages import DEPOSIT_PUSH
from scenarios.invariants import INVARIANTS, Invariants
from scenarios.names import names
from scenarios.reading import load
from scenarios.runner import MOVES, Run, RunResult, reproducing_command
from scenarios.world import World

SCENARIO = """
name: planted
title: One deposit and one withdrawal
start: 2026-03-12 10:00
end: 2026-03-12 11:00
seed: 1
settings:
  sim.airstar.result.delay: [[1.0, 5.0, 5.0]]
  sim.airstar.outcome.deposit: [[SUCCESS, 1.0]]
  sim.airstar.outcome.withdrawal: [[SUCCESS, 1.0]]
customers:
  - {id: alice, balances: {HKD: "100,000"}, at_bank: {HKD: "50,000"}, cards: [airstar]}
workload:
  - recorded:
      - {at: "10:10", deposit: {customer: alice, channel: airstar, market: HK, ccy: HKD, amount: "10,000"}}
      - {at: "10:20", withdraw: {customer: alice, channel: airstar, market: HK, ccy: HKD, amount: "20,000"}}
%s
expect:
  - {that: deposits, state: end_ok(deposit_ok), equals: 1}
  - {that: withdrawals, state: end_ok(transfer_done), equals: 1}
"""
LOST_ANSWER = """
faults:
  - {at: "10:00", inject: airstar.timeout, times: 1, with: {processed: true}, only: {kind: withdrawal}}
"""
AT_CMB = """
name: planted_at_cmb
title: A withdrawal, and a deposit that the bank pushes
start: 2026-03-12 10:00
end: 2026-03-12 10:58
seed: 1
settings:
  sim.cmb.outcome: [[0, 1.0]]
  sim.cmb.unknown.share: 0.0
customers:
  - {id: alice, balances: {HKD: "100,000"}, at_bank: {HKD: "50,000"}, cards: [cmb]}
workload:
  - recorded:
      - {at: "10:10", withdraw: {customer: alice, channel: cmb, market: HK, ccy: HKD, amount: "20,000"}}
      - {at: "10:40", deposit: {customer: alice, channel: cmb, market: HK, ccy: HKD, amount: "10,000", by: bank}}
%s
expect:
  - {that: deposits, state: end_ok(deposit_ok), equals: 1}
  - {that: withdrawals, state: end_ok(transfer_done), equals: 1}
"""
TIMEOUT = """
faults:
  - {at: "10:00", inject: cmb.answer_minus5, times: 1, with: {late_s: 20}, only: {kind: withdrawal}}
"""
TOLD_TWICE = """
faults:
  - {at: "10:00", inject: cmb.duplicate_push, times: 1, with: {message: deposit_push, fresh: true}}
"""

Plant = Callable[[World, pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Bug:
    """A mistake, the invariant that must catch it, and the Procedure it must name (at Airstar P1 is the deposit, P2 the
    withdrawal; at CMB the other way round)."""

    plant: Plant
    invariant: str
    procedure: str
    faults: str = ""
    scenario: str = SCENARIO


def performer(effect: str, does: Callable[[Any, Any, Any], Any]) -> Plant:
    """Replace a performer; ``does(original, procedure, effect)``."""

    def plant(world: World, _patch: pytest.MonkeyPatch) -> None:
        table = world.core.performers.table
        original = table[effect]

        async def replaced(p: Any, asked: Any) -> Any:
            return await does(original, p, asked)

        table[effect] = replaced

    return plant


async def _twice(original: Any, p: Any, effect: Any) -> Any:
    await original(p, effect._replace(key=f"{effect.key}:again"))
    return await original(p, effect)


def _says(fact: str) -> Callable[[Any, Any, Any], Any]:
    async def says(_original: Any, _p: Any, _effect: Any) -> Outcome:
        return Outcome(Fact(fact))

    return says


async def _breaks(_original: Any, p: Any, _effect: Any) -> Outcome:
    raise InvariantBroken(f"P{p.id} cannot be")


def _skipped_state(world: World, patch: pytest.MonkeyPatch) -> None:
    short = Row("WT-05", W.WAITING, "DRIVE", W.CONFIRMED)
    table = W.WITHDRAW._replace(moves={**W.WITHDRAW.moves, (W.WAITING, "DRIVE"): short})
    patch.setitem(records.MACHINES, BizType.CASH_WITHDRAW, table)


def _new_reference_at_each_send(world: World, _patch: pytest.MonkeyPatch) -> None:
    gateway, sent = world.core.gateway, iter(range(1, 100))
    withdraw = gateway.withdraw

    async def under_another(ref: str, *rest: Any) -> Any:
        number = next(sent)
        return await withdraw(ref if number == 1 else f"ASBBST9{number:08d}", *rest)

    gateway.withdraw = under_another  # type: ignore[method-assign]


def _no_flow_record(world: World, _patch: pytest.MonkeyPatch) -> None:
    engine = world.core.engine
    record = engine._record

    async def forgetful(tx: Any, p: Any, row: Any, *rest: Any) -> None:
        if row.id != "WT-11":
            await record(tx, p, row, *rest)

    engine._record = forgetful  # type: ignore[method-assign]


def _flow_record_only_told(world: World, patch: pytest.MonkeyPatch) -> None:
    """The event says that the Flow record was written; the database does not have it."""

    class Forgetful:
        def __init__(self, tx: Any) -> None:
            self._tx = tx

        def __getattr__(self, name: str) -> Any:
            return getattr(self._tx, name)

        async def insert(self, statement: Any, parameters: Any) -> int:
            return 99 if statement is records.NEW_FLOW else await self._tx.insert(statement, parameters)

    engine = world.core.engine
    record = engine._record

    async def lying(tx: Any, p: Any, row: Any, *rest: Any) -> None:
        await record(Forgetful(tx) if row.id == "WT-13" else tx, p, row, *rest)

    engine._record = lying  # type: ignore[method-assign]


BUMP = Statement(update(proc_info).where(proc_info.c.id == bindparam("b_id")).values(version=proc_info.c.version + 1))


def _version_raised_twice(world: World, _patch: pytest.MonkeyPatch) -> None:
    engine = world.core.engine
    change = engine._change_state

    async def double(tx: Any, p: Any, row: Any, *rest: Any) -> None:
        await change(tx, p, row, *rest)
        if row.id == "WT-13":
            await tx.execute(BUMP, {"b_id": p.id})
            p.version += 1

    engine._change_state = double  # type: ignore[method-assign]


def _one_cent_more_in_the_entries(world: World, _patch: pytest.MonkeyPatch) -> None:
    ledger = world.core.risk_control
    save = ledger._save_entries

    async def unbalanced(tx: Any, posted: Any, move: Any) -> None:
        await save(tx, posted._replace(amount=posted.amount + 1) if posted.op == "deduct" else posted, move)

    ledger._save_entries = unbalanced  # type: ignore[method-assign]


def _one_cent_more_on_the_account(world: World, _patch: pytest.MonkeyPatch) -> None:
    ledger = world.core.risk_control
    change = ledger._change_balance

    async def wrong(tx: Any, order: Any, move: Any) -> bool:
        return bool(await change(tx, order._replace(amount=order.amount + 1) if order.op == "add" else order, move))

    ledger._change_balance = wrong  # type: ignore[method-assign]


def _rejects_what_the_bank_paid(world: World, _patch: pytest.MonkeyPatch) -> None:
    sba = world.core.sba
    told = sba.bank_result

    async def upside_down(procedure: int, *, success: bool, **rest: Any) -> Any:
        return await told(procedure, success=not success, **rest)

    sba.bank_result = upside_down  # type: ignore[method-assign]


# At a socket bank


def _pushes_taken_by(take: Callable[[Any, Any, Any], Any]) -> Plant:
    """Replace what becomes of a push; ``take(gateway, connection, message)``."""

    def plant(world: World, _patch: pytest.MonkeyPatch) -> None:
        gateway = world.core.sockets["cmb"].gateway

        async def taken(connection: Any, message: Any) -> None:
            await take(gateway, connection, message)

        gateway._take = taken  # type: ignore[method-assign]

    return plant


async def _acknowledged_and_lost(_gateway: Any, connection: Any, message: Any) -> None:
    """It was to be written later, and whoever was to write it is no more."""
    connection.acknowledge(message)


async def _known_by_its_number_only(gateway: Any, connection: Any, message: Any) -> None:
    """A deposit that is told of under another number is another deposit."""
    push, number = gateway._read(message), message.body.push_seq
    if message.command == DEPOSIT_PUSH and number > 2:
        push = push._replace(body=replace(push.body, transfer_ref=f"{push.body.transfer_ref}-{number}"))
    await gateway._inbound.take(push)
    connection.acknowledge(message)


def _amount_of_a_push_taken_for_minor_units(world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(bst, "parse_wire", lambda text: parse_wire(text) // 100)


def _a_cent_more_asked_for(world: World, _patch: pytest.MonkeyPatch) -> None:
    gateway = world.core.sockets["cmb"].gateway
    pay = gateway.pay

    async def more(ref: str, customer: Any, market: int, ccy: str, amount: int, attempt: int = 1) -> Any:
        return await pay(ref, customer, market, ccy, amount + 1, attempt)

    gateway.pay = more  # type: ignore[method-assign]


def _timeout_taken_for_a_rejection(_world: World, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(gateway_table.SENT, -5, gateway_table.Outcome.REJECTED)


def _sent_again_under_another_reference(world: World, _patch: pytest.MonkeyPatch) -> None:
    """After -5 it is not asked, and the second sending has a reference of its own."""
    gateway, sent = world.core.sockets["cmb"].gateway, iter(range(1, 100))
    pay, query = gateway.pay, gateway.query

    async def under_another(ref: str, *rest: Any) -> Any:
        number = next(sent)
        return await pay(ref if number == 1 else f"CMBS9{number:011d}", *rest)

    async def not_asked(ref: str, attempt: int = 1) -> Any:
        answer = await query(ref, attempt)
        return answer._replace(outcome=gateway_table.Outcome.NOT_FOUND) if attempt == 1 else answer

    gateway.pay, gateway.query = under_another, not_asked  # type: ignore[method-assign]


BUGS: dict[str, Bug] = {
    "CREDIT performed twice under different keys": Bug(performer("CREDIT", _twice), "explained_totals", ""),
    "CONSUME skipped": Bug(performer("CONSUME", _says("CONSUMED")), "no_terminal_hold", "P2"),
    "CREDIT skipped": Bug(performer("CREDIT", _says("CREDITED")), "explained_totals", ""),
    "DEDUCT skipped": Bug(performer("DEDUCT", _says("DEDUCTED")), "hold_follows_state", "P2"),
    "a row that skips a state": Bug(_skipped_state, "table_transitions", "P2"),
    "a new reference at each sending": Bug(_new_reference_at_each_send, "one_bank_effect", "", LOST_ANSWER),
    "a Flow record not written": Bug(_no_flow_record, "version_is_flows", "P2"),
    "a Flow record only told": Bug(_flow_record_only_told, "version_is_flows", "P2"),
    "the version raised twice": Bug(_version_raised_twice, "version_is_flows", "P2"),
    "entries that do not balance": Bug(_one_cent_more_in_the_entries, "conservation", ""),
    "a balance that its postings do not make": Bug(_one_cent_more_on_the_account, "conservation", "P1"),
    "the core finds its own books broken": Bug(performer("CREDIT", _breaks), "core_intact", ""),
    "a success taken for a failure": Bug(_rejects_what_the_bank_paid, "books_agree", "P2"),
    "a push acknowledged and not written": Bug(
        _pushes_taken_by(_acknowledged_and_lost), "one_bank_effect", "", scenario=AT_CMB),
    "a push known by its number only": Bug(
        _pushes_taken_by(_known_by_its_number_only), "books_agree", "P2", TOLD_TWICE, AT_CMB),
    "the amount of a push read wrongly": Bug(_amount_of_a_push_taken_for_minor_units, "books_agree", "P2",
                                             scenario=AT_CMB),
    "a cent more asked for than was withdrawn": Bug(_a_cent_more_asked_for, "books_agree", "P1", scenario=AT_CMB),
    "-5 taken for a rejection": Bug(_timeout_taken_for_a_rejection, "books_agree", "P1", TIMEOUT, AT_CMB),
    "-5 sent again under another reference": Bug(
        _sent_again_under_another_reference, "one_bank_effect", "", TIMEOUT, AT_CMB),
}


def run(folder: Path, plant: Plant | None, faults: str, patch: pytest.MonkeyPatch,
        scenario_text: str = SCENARIO) -> RunResult:
    file = folder / "planted.yaml"
    file.write_text(scenario_text % faults, encoding="utf-8")
    known = names()
    scenario = load(file, known)
    tamper = None if plant is None else lambda world: plant(world, patch)
    command = reproducing_command(str(file), scenario.seed, {})
    return Run(scenario, known, command=command, tamper=tamper).execute()


@pytest.mark.parametrize(("scenario", "faults"), [
    (SCENARIO, ""), (SCENARIO, LOST_ANSWER), (AT_CMB, ""), (AT_CMB, TIMEOUT), (AT_CMB, TOLD_TWICE)],
    ids=["calm", "lost answer", "calm at CMB", "-5 at CMB", "told twice at CMB"])
def test_without_a_bug_the_run_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, faults: str
) -> None:
    result = run(tmp_path, None, faults, monkeypatch, scenario)
    assert result.passed, result.summary


@pytest.mark.req("FRZ-06", "FRZ-07")
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    result = run(tmp_path, bug.plant, bug.faults, monkeypatch, bug.scenario)
    violations = result.summary["invariants"]["violations"]
    assert violations, "not caught"
    assert not result.passed
    assert bug.invariant in [one["invariant"] for one in violations]
    caught = next(one for one in violations if one["invariant"] == bug.invariant)
    assert len(caught["event"]) == 5
    assert caught["detail"]
    assert caught["reproduce"] == f"nostro run {tmp_path / 'planted.yaml'} --seed 1"
    if bug.procedure:
        assert caught["procedure"] == bug.procedure
        assert caught["history"] and caught["history"][0]["from_status"] == ""


def test_the_run_stops_at_the_event_that_broke_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 10:20, not at the end at 11:00; and what happened until then is all there."""
    result = run(tmp_path, BUGS["a row that skips a state"].plant, "", monkeypatch)
    (caught,) = result.summary["invariants"]["violations"]
    assert caught["event"][4]["row"] == "WT-05"
    assert result.summary["procedures"]["deposit"] == {"end_ok(deposit_ok)": 1}
    assert [(row["to_status"], row["to_ext_status"]) for row in caught["history"]][:2] == [
        ("new", "freeze"), ("new", "waiting")]
    monkeypatch.undo()
    assert result.summary["events"] < run(tmp_path, None, "", monkeypatch).summary["events"] * 0.9


# The checker alone: what no tampering with this program brings about, since its databases refuse it


def posting(n: int, key: str, op: str, legs: list[tuple[str, int]], after: tuple[int, int, int], *, hold: str = "",
            amount: int = 100, account: int = 1) -> Any:
    buckets = dict(zip(("available", "frozen", "in_transit"), after, strict=True))
    return (n, n, "posting", f"K{key}", {
        "op": op, "key": key, "account": account, "ccy": "HKD", "amount": amount, "hold": hold, "code": 0,
        "legs": [list(leg) for leg in legs], "after": buckets})


OPENED = posting(1, "a", "add", [("external", -100), ("available", 100)], (100, 0, 0))
FROZEN = posting(2, "f", "freeze", [("available", -100), ("frozen", 100)], (0, 100, 0), hold="H")
RELEASED = posting(3, "r", "release", [("frozen", -100), ("available", 100)], (100, 0, 0), hold="H")


@pytest.mark.req("FRZ-07")
@pytest.mark.parametrize(("events", "invariant"), [
    ([OPENED, FROZEN, RELEASED], None),
    ([OPENED, FROZEN, RELEASED, posting(4, "r2", "release", [("frozen", -100), ("available", 100)], (200, -100, 0),
                                        hold="H")], "hold_closed_once"),
    ([OPENED, FROZEN, posting(3, "r", "release", [("frozen", -60), ("available", 60)], (60, 40, 0), hold="H",
                              amount=60)], "hold_closed_once"),
    ([OPENED, posting(2, "c", "consume", [("in_transit", -100), ("external", 100)], (100, 0, -100), hold="X")],
     "hold_closed_once"),
    ([OPENED, posting(2, "d", "debit", [("available", -150), ("external", 150)], (-50, 0, 0))], "no_negative_bucket"),
    ([OPENED, posting(2, "f", "freeze", [("available", -100), ("frozen", 90)], (0, 90, 0), hold="H")], "conservation"),
    ([OPENED, FROZEN, posting(3, "f", "freeze", [("available", -100), ("frozen", 100)], (-100, 200, 0), hold="H2")],
     "conservation"),
    ([OPENED, posting(2, "s", "settle", [("available", -100), ("external", 100)], (0, 0, 0), hold="GONE")], None),
], ids=["in order", "released twice", "released in part", "never opened", "overdrawn", "a cent lost", "key used twice",
        "settled from what is available"])
def test_the_ledgers_watcher_tells(events: list[Any], invariant: str | None) -> None:
    seen: list[Any] = []
    watch = Invariants(MOVES, seen.append)
    for event in events:
        watch(event)
    assert (invariant in [one.invariant for one in seen]) if invariant else not seen


def test_a_movement_repeated_under_one_reference_is_told() -> None:
    seen: list[Any] = []
    watch = Invariants(MOVES, seen.append)
    for n in (1, 2):
        watch((n, n, "bank.book", "R", {"ref": "R", "op": "pay", "amount": 5}))
    assert [one.invariant for one in seen] == ["one_bank_effect"]


def test_every_invariant_has_something_here_that_it_catches() -> None:
    alone = {"hold_closed_once", "no_negative_bucket"}
    assert {bug.invariant for bug in BUGS.values()} | alone == set(INVARIANTS)
