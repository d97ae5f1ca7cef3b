"""Silence of the bank and of risk control: nothing is released on a guess, money moves once (TMO-01…04, A-22, A-23).

The table `CALLS` breaks every call that a withdrawal makes to risk control, in both ways in which a call can be
silent (nothing done; done, and the answer lost), for one try, for longer than all tries, and for a quarter of an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from withdrawal_states import (
    AMOUNT,
    COMPLETE,
    EVENING,
    FULL,
    ROLLBACK,
    THURSDAY,
    alerts,
    at_rest,
    break_line,
    by_hand,
    created,
    everything,
    flows,
    mend,
    notices,
    press,
    reach,
    shown,
    silent_bank,
    stop_job,
)

from core.errors import Code
from tests.rig import FRONTLINE, SUPERVISOR, Rig, play


def buckets(money) -> tuple[int, int, int]:
    return money.available, money.frozen, money.in_transit


# The bank is silent


@pytest.mark.req("TMO-01", "JOB-012", "ALERT-AIRSTAR-06")
def test_after_ten_polls_operations_are_alerted_and_the_freeze_stays():
    async def story(rig):
        silent_bank(rig, paid=True)
        sent = await rig.withdrawn("pending(transfer_auto)")
        await asyncio.sleep(49)
        assert alerts(rig, "AIRSTAR-06", sent["id"]) == []
        await asyncio.sleep(3)  # about 50 s
        assert len(rig.of_kind("bank.request", message="query_withdrawal")) == 10
        (alert,) = alerts(rig, "AIRSTAR-06", sent["id"])
        assert (alert["severity"], alert["notify"]) == ("High", "P1")
        after = await shown(rig, sent["id"])
        assert (after["state"], after["version"], after["poll_exhausted"]) == (sent["state"], sent["version"], True)
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)

    play(story)


@pytest.mark.req("TMO-02", "TMO-03", "SBA-API-17")
@pytest.mark.parametrize("wait_s", [60, 3 * 3600])
@pytest.mark.parametrize("paid", [True, False])
def test_what_the_bank_says_by_telephone_ends_a_withdrawal_that_timed_out(paid, wait_s):
    async def story(rig):
        silent_bank(rig, paid=paid)
        sent = await rig.withdrawn("pending(transfer_auto)")
        await asyncio.sleep(wait_s)
        name = "SetManualTransferDone" if paid else "SetManualTransferFailed"
        ended = await press(rig, name, await shown(rig, sent["id"]))
        if paid:
            assert (ended["state"], ended["reason"]) == ("end_ok(transfer_done)", "")
            assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)
        else:
            assert (ended["state"], ended["reason"]) == ("end_reject", "MANUAL_TRANSFER_FAILED")
            assert (await rig.way(ended["id"]))[-3:] == ["pending(return)", "pending(transfer_reject)", "end_reject"]
            assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story, then_s=3 * 3600)


@pytest.mark.req("TMO-04", "JOB-015", "ALERT-AIRSTAR-07")
def test_while_the_bank_is_unsure_nothing_releases_the_freeze_for_days_nor_does_a_restart():
    """Nights, weekends, every scheduled job, a killed core: the money stays where it is until a person decides."""
    async def story(rig):
        silent_bank(rig, paid=True)
        sent = await rig.withdrawn("pending(transfer_auto)")
        await asyncio.sleep(2 * 86_400)
        rig.world.kill(5_000)
        await asyncio.sleep(4 * 86_400)
        after = await shown(rig, sent["id"])
        assert (after["state"], after["abnormal"]) == ("pending(transfer_auto)", True)
        assert after["version"] == sent["version"]
        assert len(alerts(rig, "AIRSTAR-07", sent["id"])) == 1
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        assert notices(rig) == []
        refused = await rig.operate("CashWithdrawForceProcess", after, SUPERVISOR, action="Rollback",
                                    bank_status="UNCERTAIN")
        assert refused.code is Code.BANK_STATUS_REQUIRED
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)

    play(story)


@pytest.mark.req("TMO-04", "AIR-07")
@pytest.mark.parametrize("fault", [{"name": "timeout", "processed": True},
                                   {"name": "fail_with", "code": 140630017, "processed": True},
                                   {"name": "fail_with", "code": 140630999, "processed": True}])
def test_an_answer_that_says_nothing_releases_nothing(fault):
    async def story(rig):
        rig.world.bank.fault(**fault, for_s=600)
        sent = await rig.withdrawn("pending(transfer_auto)")
        for _ in range(110):
            found = await shown(rig, sent["id"])
            assert found["state"] in ("pending(transfer_auto)", "end_ok(transfer_done)")
            assert (await rig.money()).available == FULL - AMOUNT
            await asyncio.sleep(5)
        await reach(rig, sent["id"], "end_ok(transfer_done)", 7200)
        assert len(rig.paid()) == 1

    play(story)


@pytest.mark.req("TMO-04", "TMO-03")
def test_an_instruction_that_the_bank_does_not_know_afterwards_is_still_for_a_person_to_decide():
    """The line is dead while it is sent; later the bank finds no such request. That is no failure: it may be late."""
    async def story(rig):
        rig.world.bank.fault("outage", answer="silence", for_s=600)
        sent = await rig.withdrawn("pending(transfer_auto)")
        await asyncio.sleep(3 * 3600)
        after = await shown(rig, sent["id"])
        assert (after["state"], after["abnormal"]) == ("pending(transfer_auto)", True)
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        assert (await press(rig, "SetManualTransferFailed", after))["state"] == "end_reject"
        assert buckets(await rig.money()) == (FULL, 0, 0)
        assert rig.paid() == []

    play(story, then_s=3600)


# Risk control is silent: every call, in both ways


class Call(NamedTuple):
    """A story that makes a call: what is pressed, how it ends, what the customer then has available."""

    go: Callable[[Rig], Awaitable[int]]
    end: str
    available: int
    moves: list[str]  # operations that moved the money of the withdrawal, in order
    start: str = THURSDAY


async def _pressed(rig: Rig, name: str, procedure_id: int, by=FRONTLINE, **params: Any) -> int:
    """Press until risk control lets it happen, as people do who read "outcome unknown, try again"."""
    for number in range(200):
        found = await shown(rig, procedure_id)
        reply = await rig.operate(name, found, by, request_id=f"{name}-{number}", **params)
        if reply.code not in (Code.DEPENDENCY_TIMEOUT, Code.LOCK_BUSY, Code.VERSION_CONFLICT):
            assert reply.ok or (await shown(rig, procedure_id))["state"].startswith("end_"), reply
            return procedure_id
        await asyncio.sleep(10)
    raise AssertionError(f"{name} never succeeded")


async def _sent_to_the_bank(rig: Rig) -> int:
    task = await rig.withdraw()
    return (await rig.reach(lambda: rig.of_task(task.id), "end_ok(transfer_done)", 2000))["id"]


async def _rejected(rig: Rig) -> int:
    stop_job(rig, "WithdrawDriveJob")
    waiting = await rig.withdrawn("new(waiting)", channel="hsbc")
    return await _pressed(rig, "CashWithdrawReject", waiting["id"])


async def _failed_by_hand(rig: Rig) -> int:
    return await _pressed(rig, "SetManualTransferFailed", (await by_hand(rig))["id"])


async def _deferred(rig: Rig) -> int:
    waiting = await rig.withdrawn("pending(move_next)")
    await asyncio.sleep(16 * 3600)
    return waiting["id"]


async def _forced(rig: Rig) -> int:
    return await _pressed(rig, "CashWithdrawForceProcess", (await by_hand(rig))["id"], SUPERVISOR, **COMPLETE)


async def _rolled_back(rig: Rig) -> int:
    return await _pressed(rig, "CashWithdrawForceProcess", (await by_hand(rig))["id"], SUPERVISOR, **ROLLBACK)


async def _reversed(rig: Rig) -> int:
    done = await press(rig, "SetManualTransferDone", await by_hand(rig))
    return await _pressed(rig, "CashWithdrawReverse", done["id"], SUPERVISOR)


async def _rejected_in_blank(rig: Rig) -> int:
    break_line(rig, "timeout_before", "risk_control.deduct")
    blank = await rig.withdrawn("new(blank)", channel="hsbc")
    await _pressed(rig, "CashWithdrawReject", blank["id"])
    mend(rig, "risk_control.deduct")
    return blank["id"]


OK, REJECTED = "end_ok(transfer_done)", "end_reject"
PAID = ["freeze", "deduct", "consume"]
CALLS: dict[str, Call] = {
    "freeze": Call(_sent_to_the_bank, OK, FULL - AMOUNT, PAID),
    "deduct": Call(_sent_to_the_bank, OK, FULL - AMOUNT, PAID),
    "consume": Call(_sent_to_the_bank, OK, FULL - AMOUNT, PAID),
    "release": Call(_rejected, REJECTED, FULL, ["freeze", "release"]),
    "hold": Call(_rejected, REJECTED, FULL, ["freeze", "release"]),
    "restore": Call(_failed_by_hand, REJECTED, FULL, ["freeze", "deduct", "restore"]),
    "refreeze": Call(_deferred, OK, FULL - AMOUNT, ["freeze", "deduct", "refreeze", "deduct", "consume"], EVENING),
    "settle": Call(_forced, OK, FULL - AMOUNT, ["freeze", "deduct", "settle"]),
    "add": Call(_reversed, "end_reverse(transfer_done)", FULL, PAID),
    "void": Call(_rejected_in_blank, REJECTED, FULL, ["freeze", "release"]),
}
ROLLBACK_HOLD = Call(_rolled_back, REJECTED, FULL, ["freeze", "deduct", "restore"])


@pytest.mark.req("DEDUP-04", "FRZ-06", "FRZ-07", "SBA-WD-031", "SBA-WD-033")
@pytest.mark.parametrize("lasts_s", [2, 20, 900])
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after"])
@pytest.mark.parametrize("call", CALLS)
def test_a_silent_call_moves_the_money_exactly_once_and_the_withdrawal_ends_as_it_would_have(call, kind, lasts_s):
    found = CALLS[call]

    async def story(rig):
        break_line(rig, kind, f"risk_control.{call}")
        asyncio.get_running_loop().call_later(lasts_s, mend, rig, f"risk_control.{call}")
        procedure_id = await found.go(rig)
        await reach(rig, procedure_id, found.end, 1200)
        await asyncio.sleep(30)
        assert buckets(await rig.money()) == (found.available, 0, 0)
        assert [posting["op"] for posting in rig.of_kind("posting", hold="WD1") if posting["legs"]] == found.moves
        added = [p for p in rig.of_kind("posting", op="add") if p["key"].startswith("P") and p["legs"]]
        assert len(added) == (1 if call == "add" else 0)
        assert await rig.core.risk_control.verify() == []
        assert (await shown(rig, procedure_id))["state"] == found.end

    play(story, start=found.start)


@pytest.mark.req("SBA-API-20", "SBA-API-22")
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "fail"])
def test_a_force_waits_until_it_is_known_what_is_held(kind):
    async def story(rig):
        waiting = await by_hand(rig)
        break_line(rig, kind, "risk_control.hold")
        before = await everything(rig, waiting["id"])
        reply = await rig.operate("CashWithdrawForceProcess", waiting, SUPERVISOR, **ROLLBACK)
        assert reply.code is Code.DEPENDENCY_TIMEOUT
        assert await everything(rig, waiting["id"]) == before
        mend(rig, "risk_control.hold")
        assert (await press(rig, "CashWithdrawForceProcess", waiting, SUPERVISOR, **ROLLBACK))["state"] == "end_reject"

    play(story)


@pytest.mark.req("SBA-WD-003", "SBA-WD-011", "DEDUP-04")
@pytest.mark.parametrize("void", [None, "fail", "timeout_before"])
@pytest.mark.parametrize("call", ["freeze", "deduct"])
def test_a_definite_failure_after_a_lost_answer_is_not_believed_before_the_key_is_proven_void(call, void):
    """The first try was carried out and its answer lost; then risk control refuses. Had that been believed, the
    withdrawal would have been closed with the money frozen or deducted."""
    async def story(rig):
        stop_job(rig, "WithdrawDriveJob")
        break_line(rig, "timeout_after", f"risk_control.{call}")
        if void:
            break_line(rig, void, "risk_control.void")
        asyncio.get_running_loop().call_later(
            4 if call == "freeze" else 64, break_line, rig, "fail", f"risk_control.{call}")
        asyncio.get_running_loop().call_later(30, mend, rig, "risk_control.void")
        made = await created(rig)
        rig.core.timetable.resume("WithdrawDriveJob")
        label = "new(waiting)" if call == "freeze" else "pending(transfer_manual)"
        await reach(rig, made["id"], label, 200)
        assert [p["op"] for p in rig.of_kind("posting", hold="Ht1") if p["legs"]][:2] == ["freeze", "deduct"][
            : 1 if call == "freeze" else 2]

    play(story)


def test_a_voided_effect_whose_decision_was_never_taken_is_asked_for_under_a_new_key():
    """A worker dies between making the deduction void and the rejection that replaces it: nothing is stuck."""
    async def story(rig):
        break_line(rig, "timeout_before", "risk_control.deduct")
        blank = await at_rest(rig, (await rig.withdrawn("new(blank)", channel="hsbc"))["id"])
        assert await rig.core.risk_control.void(f"P{blank['id']}:1:3:DEDUCT") is None
        mend(rig, "risk_control.deduct")
        await reach(rig, blank["id"], "pending(transfer_manual)", 60)
        deducted = [p["key"] for p in rig.of_kind("posting", op="deduct") if p["legs"]]
        assert deducted == [f"P{blank['id']}:1:3:DEDUCT#"]

    play(story)


@pytest.mark.req("SBA-WD-033", "SBA-WD-031")
@pytest.mark.parametrize("call", ["release", "restore", "consume", "refreeze"])
def test_an_effect_voided_in_vain_heals_by_itself(call):
    async def story(rig):
        found = CALLS[call]
        break_line(rig, "timeout_before", f"risk_control.{call}")
        asyncio.get_running_loop().call_later(120, mend, rig, f"risk_control.{call}")

        async def void_it() -> None:
            await asyncio.sleep(100)
            p = await rig.core.engine.load(1)
            assert p.pending[0].name == call.upper()
            assert await rig.core.risk_control.void(p.pending[0].key) is None

        spoiler = asyncio.create_task(void_it())
        await found.go(rig)
        await spoiler
        await reach(rig, 1, found.end, 600)
        assert buckets(await rig.money()) == (found.available, 0, 0)

    play(story, start=CALLS[call].start)


# Money that cannot be given back


class Back(NamedTuple):
    """A way back that fails: how it is begun, where it rests, which alert tells, how often it may be asked."""

    call: str
    state: str
    rule: str
    hold: tuple[int, int, int]


BACKS = [Back("restore", "pending(return)", "WD-04", (FULL - AMOUNT, 0, AMOUNT)),
         Back("release", "pending(unfreeze)", "AIRSTAR-08", (FULL - AMOUNT, AMOUNT, 0))]
BEGUN = {"restore": _failed_by_hand, "release": _rejected}


@pytest.mark.req("SBA-WD-031", "SBA-WD-033", "ALERT-AIRSTAR-08", "ALERT-WD-04")
@pytest.mark.parametrize(("kind", "within_s"), [("fail", 15), ("timeout_before", 320)])
@pytest.mark.parametrize("back", BACKS, ids=lambda back: back.call)
def test_a_way_back_that_fails_keeps_its_state_is_retried_and_alerted_and_heals(back, kind, within_s):
    """Three definite failures, or five minutes: Critical, once. The end is never reached without the money."""
    async def story(rig):
        break_line(rig, kind, f"risk_control.{back.call}")
        procedure_id = await BEGUN[back.call](rig)
        for _ in range(within_s):
            assert (await shown(rig, procedure_id))["state"] == back.state
            await asyncio.sleep(1)
        (alert,) = alerts(rig, back.rule, procedure_id)
        assert (alert["severity"], alert["notify"], alert["triage"]) == ("Critical", "P0", "T0")
        calls = rig.world.rpc.calls
        await asyncio.sleep(3600)
        assert (await shown(rig, procedure_id))["state"] == back.state
        assert buckets(await rig.money()) == back.hold
        assert len(alerts(rig, back.rule, procedure_id)) == 1
        tries = rig.world.rpc.calls - calls
        assert 300 < tries < 2_000, tries  # retried all the time, and never ever more often
        (stuck,) = await rig.sba.stuck(0, rig.now_ms)
        assert stuck.id == procedure_id
        mend(rig, f"risk_control.{back.call}")
        await reach(rig, procedure_id, "end_reject", 30)
        assert buckets(await rig.money()) == (FULL, 0, 0)
        assert flows(rig, procedure_id)[-2]["from"] == back.state

    play(story)


@pytest.mark.req("SBA-WD-031", "SBA-WD-033")
@pytest.mark.parametrize("back", BACKS, ids=lambda back: back.call)
def test_a_way_back_that_failed_goes_on_after_a_restart(back):
    async def story(rig):
        break_line(rig, "timeout_after", f"risk_control.{back.call}")
        procedure_id = await BEGUN[back.call](rig)
        assert (await at_rest(rig, procedure_id))["state"] == back.state
        rig.world.kill(1_000)
        mend(rig, f"risk_control.{back.call}")
        await asyncio.sleep(60)
        assert (await shown(rig, procedure_id))["state"] == "end_reject"
        assert buckets(await rig.money()) == (FULL, 0, 0)
        assert len([p for p in rig.of_kind("posting", op=back.call) if p["legs"]]) == 1

    play(story)


@pytest.mark.req("SBA-API-20")
@pytest.mark.parametrize("back", BACKS, ids=lambda back: back.call)
def test_a_supervisor_frees_what_a_silent_way_back_holds(back):
    async def story(rig):
        break_line(rig, "timeout_before", f"risk_control.{back.call}")
        procedure_id = await BEGUN[back.call](rig)
        stuck = await at_rest(rig, procedure_id)
        await rig.operate("CashWithdrawForceProcess", stuck, SUPERVISOR, **ROLLBACK)
        mend(rig, f"risk_control.{back.call}")
        await reach(rig, procedure_id, "end_reject", 60)
        assert buckets(await rig.money()) == (FULL, 0, 0)
        assert len([p for p in rig.of_kind("posting", op=back.call) if p["legs"]]) == 1

    play(story, then_s=60)


@pytest.mark.req("LOCK-02")
def test_the_lock_is_renewed_while_silent_calls_outlast_it():
    """Freeze and deduction in one go, each with two silent tries: longer than the lock's 30 s, and it is never lost."""
    def break_freeze(rig: Rig, subject: str) -> None:
        if subject == "KT1:hold":  # the Task's own hold is placed; the Procedure's freeze comes next
            break_line(rig, "timeout_before", "risk_control.freeze")
            asyncio.get_running_loop().call_later(18.5, mend, rig, "risk_control.freeze")

    async def story(rig):
        rig.world.trace.subscribe(lambda event: break_freeze(rig, event[3]))
        break_line(rig, "timeout_before", "risk_control.deduct")
        asyncio.get_running_loop().call_later(37.4, mend, rig, "risk_control.deduct")
        await rig.withdraw()
        await reach(rig, 1, "new(freeze)")
        await asyncio.sleep(0.5)
        for _ in range(36):
            assert await rig.world.locks.acquire("procedure:1", "another worker", 1000, 0) is None
            await asyncio.sleep(1)
        assert [row["to"] for row in flows(rig, 1)] == ["new(freeze)", "new(waiting)", "new(blank)"]
        await reach(rig, 1, "end_ok(transfer_done)", 60)
        assert len(rig.paid()) == 1

    play(story, settings={"srpc.timeout_s": 9.0})
