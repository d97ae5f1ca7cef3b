"""Every fault that can be injected today, by scenario text: money stays explained, and once healed everything finishes.

The fault rages for a quarter of an hour over deposits and withdrawals begun on both sides. Then it ends; operations
do what the alerts ask for (retry jobs that gave up, ring the bank up), and nothing may be left open.
"""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.domain import JobState
from core.storage import Statement
from core.storage.primary import queue
from core.storage.procedure import outbox
from emulators.airstar.faults import FAULTS
from emulators.bst.faults import FAULTS as SOCKET_FAULTS
from emulators.rpc import REJECTING
from scenarios.banks import DIRECT_DEBIT, STATEMENT_BANKS, WHOLE_LINES
from scenarios.names import CALLS, KILL_POINTS, names
from scenarios.reading import load_text
from scenarios.runner import Run
from scenarios.schema import Names
from scenarios.world import World

SCENARIO = """
name: raging
title: One fault for a quarter of an hour
start: 2026-03-12 11:30
end: 2026-03-12 15:30
seed: {seed}
wire: {wire}
settings:
  sim.airstar.result.delay: [[1.0, 3.0, 40.0]]
  sim.airstar.outcome.deposit: [[SUCCESS, 1.0]]
  sim.airstar.outcome.withdrawal: [[SUCCESS, 1.0]]
  sim.cmb.outcome: [[0, 1.0]]
  sim.cmbc.outcome: [[0, 1.0]]
customers:
  - {{id: alice, balances: {{HKD: "500,000"}}, at_bank: {{HKD: "500,000"}}, cards: {cards}}}
  - {{id: bob, balances: {{HKD: "500,000"}}, at_bank: {{HKD: "500,000"}}, cards: {cards}}}
workload:
  - recorded:
{movements}
faults:
{faults}
staff: {{supervisors: 2, reviewers: 1}}
expect:
  - {{that: deposits, state: open, equals: 0}}
  - {{that: withdrawals, state: open, equals: 0}}
"""
HEALED_S = 20 * 60
LAST_LOOK_S = 4 * 3600 - 60
OPEN_JOBS = Statement(select(queue.c.event, queue.c.key, queue.c.last_error).where(
    queue.c.state.in_([int(JobState.READY), int(JobState.RUNNING), int(JobState.RETRY)])).order_by(queue.c.id))
OPEN_EFFECTS = Statement(select(outbox.c.effect, outbox.c.procedure_id, outbox.c.tries).where(outbox.c.state == 0))
OVER = {"apply": ("DONE", "REJECTED", "REFUNDED"), "task": ("DONE", "FAILED", "REJECTED", "CANCELLED")}


@cache
def known() -> Names:
    return names()


def movements(count: int = 4, every_s: int = 120, channel: str = "airstar") -> str:
    """Deposits and withdrawals of both customers from 11:34 on, each kind once begun at the bank."""
    lines = []
    for number in range(count):
        for kind in ("deposit", "withdraw"):
            who, by = ("alice", "bob")[number % 2], "bank" if number == 2 else "app"
            minute, second = divmod(4 * 60 + number * every_s + (25 if kind == "deposit" else 0), 60)
            lines.append(f'      - {{at: "11:{30 + minute}:{second:02d}", {kind}: {{customer: {who}, '
                         f'channel: {channel}, market: HK, ccy: HKD, amount: "{10 + number},000", by: {by}}}}}')
    return "\n".join(sorted(lines))


# What a fault is given besides its defaults; more than one line: more than one way to strike.
PARAMETERS: dict[str, list[str]] = {
    "airstar.stuck_pending": ["{until_s: 900, paid: true}", "{until_s: 4000, paid: false}", "{paid: true}"],
    "airstar.not_found_then_found": ["{}", "{hidden_s: 600}"],
    "airstar.timeout": ["{processed: true}", "{processed: false}"],
    "airstar.outage": ["{answer: silence}", "{answer: maintenance}"],
    "airstar.slow": ["{delay_s: 5}", "{delay_s: 30}"],
    "airstar.clock_skew": ["{skew_s: 600}", "{skew_s: -600}"],
    "airstar.fail_with": ["{code: 140630016}", "{code: 140630999, processed: true}", "{code: 140630014, at: result}",
                          "{code: 140630007}"],
    "airstar.refunded_after_credit": ["{refund_s: 90}", "{refund_s: 1}"],
    "drop": ["{}", "{server: both}"],
    "half_open": ["{}", "{server: both}"],
    "silent_heartbeats": ["{server: both}"],
    "wrong_key": ["{server: both}"],
    "split": ["{server: both}"],
    "merged": ["{server: both}"],
    "bad_signature": ["{}", "{message: result}"],
    "duplicate_push": ["{fresh: false}", "{fresh: true}"],
    "timeout": ["{processed: true}", "{processed: false}"],
    "answer_minus5": ["{processed: true}", "{processed: false}", "{at: result}",
                      "{processed: false, server: primary}"],
    "reject": ["{at: result}", "{at: answer}"],
    "system_error": ["{processed: true}", "{processed: false}"],
    "slow": ["{delay_s: 5}", "{delay_s: 20}"],
    "list_disagrees": ["{how: missing}", "{how: foreign}"],
    "list_outage": ["{answer: unavailable}", "{answer: silence}"],
}
BY_SUBSET = {"cmbc": ("drop", "half_open", "sequence_gap", "lost_push", "lost_ack", "timeout", "answer_minus5",
                      "duplicate_push", "malformed", "closed")}
"""The two socket banks share their code: of the second, one way to strike of each fault, and all of these."""
JOBS = ("AsbBstCreateJob", "AsbBstCreateResultJob", "AsbBstCreateFromBankJob", "AsbBstDepositJob", "FetchBankRequest",
        "AsbBstTransfer", "SyncAsbBstWithdraw", "AsbBstAcknowledge", "WithdrawStart", "WithdrawDriveJob",
        "MoveNextResumeJob", "OutboxSweep", "BochkPull", "SyncBstDataHelper",
        *(f"{prefix}{job}" for prefix in ("Cmb", "Ms") for job in (
            "Collect", "Credit", "Transfer", "Result", "Refuse")))
CHANNELS = {"cmb.": "cmb", "cmbc.": "cmbc", ":Cmb": "cmb", ":Ms": "cmbc", "job: Cmb": "cmb", "job: Ms": "cmbc",
            "SyncBstDataHelper": "cmb"}
"""What a case names -> the bank through which the movements go that it strikes; else Airstar."""


def _at_sockets() -> list[tuple[str, str, str]]:
    made = []
    for bank in ("cmb", "cmbc"):
        for name in SOCKET_FAULTS:
            ways = PARAMETERS.get(name, ["{}"])
            if bank in BY_SUBSET and name not in BY_SUBSET[bank]:
                made.append((f"{bank}.{name}", ways[0], ""))
                continue
            made += [(f"{bank}.{name}", given, "") for given in ways]
            if name not in WHOLE_LINES and bank not in BY_SUBSET:
                made.append((f"{bank}.{name}", ways[0], ", share: 0.4"))
    return made


def _cases() -> list[Any]:
    made = []
    for name in FAULTS:
        for given in PARAMETERS.get(f"airstar.{name}", ["{}"]):
            made += [(f"airstar.{name}", given, ""), (f"airstar.{name}", given, ", share: 0.4")]
    made += _at_sockets()
    for kind in ("fail", "timeout_before", "timeout_after"):
        made += [(f"rpc.{kind}", f"{{call: {call}}}", ", share: 0.7") for call in CALLS]
    made += [("rpc.reject", f"{{call: {call}}}", ", share: 0.7") for call in REJECTING]
    made += [("core.kill", f'{{at: "{point}", restart_after: {after}}}', ", times: 3")
             for point in KILL_POINTS for after in ("2s", "45s") if after == "2s" or ":Ms" not in point]
    made += [("job.stop", f"{{job: {job}}}", "") for job in JOBS]
    return [pytest.param(*case, id=" ".join(case).replace(",", "")) for case in made]


def test_every_fault_of_the_catalogue_is_tried_here() -> None:
    tried = {case.values[0] for case in _cases()} | set(_of_banks(STOCKED)) | set(_of_banks(SLOWER))
    assert tried == set(known().faults)
    killed = " ".join(case.values[1] for case in _cases() if case.values[0] == "core.kill")
    assert all(f'"{point}"' in killed for point in KILL_POINTS)


def _channel(*words: str) -> str:
    """The bank whose movements a case strikes."""
    return next((bank for mark, bank in CHANNELS.items() if any(
        word.startswith(mark) or (mark[0] != "c" and mark in word) for word in words)), "airstar")


async def operations(world: World, left: list[Any]) -> None:
    """Once the fault is over people retry every job that gave up, and at the end somebody looks at what is left."""
    for at in (HEALED_S, 3 * 3600):
        await asyncio.sleep(at - (world.clock.now_ms() - world.scenario.start) / 1000)
        for job in await world.core.jobs.in_state(JobState.EXCEPTION):
            await world.core.jobs.retry_now(job.id, "staff_3001")
    await asyncio.sleep(LAST_LOOK_S - 3 * 3600)
    left += await world.databases.primary.all(OPEN_JOBS, {})
    left += await world.databases.procedure.all(OPEN_EFFECTS, {})


@pytest.mark.req("FRZ-06", "FRZ-07")
@pytest.mark.parametrize(("fault", "given", "aim"), _cases())
def test_under_this_fault_money_stays_explained_and_after_it_everything_finishes(
    fault: str, given: str, aim: str
) -> None:
    lasts, channel = "" if fault == "core.kill" else ", for: 15m", _channel(fault, given)
    text = SCENARIO.format(seed=11, wire="messages", movements=movements(channel=channel), cards=f"[{channel}]",
                           faults=f'  - {{at: "11:31", inject: {fault}{lasts}{aim}, with: {given}}}')
    left: list[Any] = []
    wishes: dict[tuple[str, int], str] = {}
    run = Run(load_text(text, known()), known(), tamper=lambda world: world._keep(operations(world, left)))
    run.trace.subscribe(lambda event: event[2] in OVER and wishes.update(
        {(event[2], event[4][event[2]]): event[4]["status"]}))
    summary = run.execute().summary
    assert not summary["invariants"]["violations"]
    assert not left
    assert summary["open"] == 0, summary["procedures"]
    assert {key: status for key, status in wishes.items() if status not in OVER[key[0]]} == {}
    assert summary["invariants"]["checked"]["conservation"] >= 4


WAITS = {"hsbc.garbled", "hsbc.truncated_armor", "hsbc.corrupted", "hsbc.wrong_key", "hsbc.unsigned",  # quarantined
         "icbc.late_push", "bochk.back_inserted"}  # later than this afternoon
"""Faults of statement banks after which the deposits still wait for their statement, and nothing else does."""


STOCKED = ("bochk", "hsbc", "icbc", "ewb")
"""Banks whose statements are here within minutes, whatever the fault was: every deposit must be credited at the end."""
SLOWER = tuple(bank for bank in (*STATEMENT_BANKS, *DIRECT_DEBIT) if bank not in STOCKED)
"""Banks whose notices and results take an afternoon or a day; tests/credits and tests/edda show how each fault ends."""


def _of_banks(banks: tuple[str, ...]) -> list[str]:
    return [name for name in known().faults if name.split(".")[0] in banks]


def _deposits_under(fault: str, left: list[Any]) -> Any:
    bank = fault.split(".")[0]
    wishes = "\n".join(line for line in movements(channel=bank).splitlines() if "deposit" in line).replace(
        "by: bank", "by: app")
    text = SCENARIO.format(seed=11, wire="messages", movements=wishes, cards=f"[{bank}]",
                           faults=f'  - {{at: "11:31", for: 15m, inject: {fault}}}')
    if bank == "ewb":  # dollars only; somebody brings its files while the fault rages, and after it
        for here, there in (("market: HK, ccy: HKD", "market: US, ccy: USD"), ("at_bank: {HKD:", "at_bank: {USD:"),
                            ("settings:\n", 'settings:\n  sim.ewb.upload_at: ["11:45", "12:30", "14:00"]\n')):
            text = text.replace(here, there)
    run = Run(load_text(text, known()), known(), tamper=lambda world: world._keep(operations(world, left)))
    summary = run.execute().summary
    assert not summary["invariants"]["violations"]
    return summary


@pytest.mark.req("FRZ-06", "FRZ-07")
@pytest.mark.parametrize("fault", _of_banks(STOCKED))
def test_under_this_fault_of_a_statement_bank_nothing_is_credited_that_the_bank_has_not(fault: str) -> None:
    left: list[Any] = []
    summary = _deposits_under(fault, left)
    assert not left and summary["open"] == 0
    credited = summary["procedures"]["deposit"].get("end_ok(deposit_ok)", 0)
    assert credited == (0 if fault in WAITS else 4), summary["procedures"]


@pytest.mark.parametrize("fault", _of_banks(SLOWER))
def test_under_this_fault_of_a_slower_bank_the_books_stay_explained(fault: str) -> None:
    _deposits_under(fault, [])


@pytest.mark.req("FRZ-06")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_faults_at_once(seed: int, tmp_path: Path) -> None:
    """A mixture of everything, with a crash in the middle; another seed strikes other instructions."""
    faults = "\n".join([
        '  - {at: "11:31", for: 15m, inject: airstar.timeout, share: 0.2, with: {processed: true}}',
        '  - {at: "11:31", for: 15m, inject: airstar.timeout, share: 0.2, with: {processed: false}}',
        '  - {at: "11:31", for: 15m, inject: airstar.error_5xx_after_commit, share: 0.2}',
        '  - {at: "11:31", for: 15m, inject: airstar.not_found_then_found, share: 0.3}',
        '  - {at: "11:31", for: 15m, inject: airstar.duplicate_result, share: 0.5}',
        '  - {at: "11:31", for: 15m, inject: airstar.stuck_pending, share: 0.2, with: {until_s: 300}}',
        '  - {at: "11:31", for: 15m, inject: rpc.timeout_after, share: 0.2, with: {call: risk_control}}',
        '  - {at: "11:31", for: 15m, inject: rpc.timeout_before, share: 0.2, with: {call: sba.create_deposit}}',
        '  - {at: "11:31", inject: core.kill, times: 2, with: {at: "send:AsbBstTransfer", restart_after: 5s}}',
        '  - {at: "11:31", inject: core.kill, times: 2, with: {at: "poll:AsbBstCreateResultJob", restart_after: 5s}}'])
    left: list[Any] = []
    text = SCENARIO.format(seed=seed, wire="messages", movements=movements(6), cards="[airstar]", faults=faults)
    run = Run(load_text(text, known()), known(), tamper=lambda world: world._keep(operations(world, left)))
    summary = run.execute().summary
    assert not summary["invariants"]["violations"]
    assert not left
    assert summary["open"] == 0
