"""Who may press which button on a withdrawal, what it does, and what a refusal leaves (SBA-API-08…29, A-18…A-23)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from withdrawal_states import (
    AMOUNT,
    COMPLETE,
    EARLY,
    FULL,
    OPEN,
    ROLLBACK,
    STATES,
    WAYS,
    alerts,
    at_rest,
    break_line,
    by_hand,
    created,
    everything,
    flows,
    mend,
    press,
    reach,
    shown,
    silent_bank,
    stop_job,
)

from core.domain import Role
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from tests.rig import FRONTLINE, SUPERVISOR, SYSTEM, Rig, play

OPS = {Role.FRONTLINE, Role.SUPERVISOR}
# gaps.md B-30; orchestration.md §4.2. Operation -> (who may, a state in which it belongs, its parameters).
OPERATIONS: dict[str, tuple[set[Role], str, dict[str, Any]]] = {
    "CashWithdrawStartTransfer": (OPS | {Role.SYSTEM}, "new(blank)", {}),
    "CashWithdrawReject": (OPS, "new(waiting)", {}),
    "CashWithdrawManualConfirm": (OPS, "new(manual_confirm)", {}),
    "CashWithdrawManualReject": (OPS, "new(manual_confirm)", {}),
    "SetManualTransferDone": (OPS, "pending(transfer_manual)", {}),
    "SetManualTransferFailed": (OPS, "pending(transfer_manual)", {}),
    "CashWithdrawForceProcess": ({Role.SUPERVISOR}, "pending(transfer_manual)", ROLLBACK),
    "CashWithdrawCancel": ({Role.SUPERVISOR, Role.USER}, "new(waiting)", {}),
    "MoveNextTransactionDay": (OPS | {Role.SYSTEM}, "pending(transfer_manual)", {}),
    "CashWithdrawReverse": ({Role.SUPERVISOR}, "end_ok(transfer_done)", {}),
}
ALICE = Actor("user_10000001", Role.USER)
BOB = Actor("user_10000002", Role.USER)
EXHAUSTED = {"airstar.poll.withdraw.max": 2}


def actor(role: Role) -> Actor:
    return {Role.USER: ALICE, Role.SYSTEM: SYSTEM}.get(role, Actor("staff_9001", role))


def buckets(money) -> tuple[int, int, int]:
    return money.available, money.frozen, money.in_transit


async def exhausted(rig: Rig, *, paid: bool, until_s: float | None = None) -> dict[str, Any]:
    """A withdrawal whose polls are used up; ``paid``: what is true at the bank."""
    silent_bank(rig, paid=paid, until_s=until_s)
    sent = await rig.withdrawn("pending(transfer_auto)")
    await asyncio.sleep(60)
    found = await shown(rig, sent["id"])
    assert found["poll_exhausted"]
    return found


# Roles and versions, whole tables


@pytest.mark.req("SBA-API-09", "SBA-API-11", "SBA-API-13", "SBA-API-14", "SBA-API-15", "SBA-API-16", "SBA-API-19",
                 "SBA-API-23", "SBA-API-25", "SBA-API-26")
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_role_but_the_documented_ones_is_refused_and_changes_nothing(name):
    roles, label, params = OPERATIONS[name]

    async def story(rig):
        found = await at_rest(rig, (await WAYS[label].go(rig))["id"])
        before = await everything(rig, found["id"])
        for role in Role:
            if role in roles:
                continue
            reply = await rig.operate(name, found, actor(role), **params)
            assert reply.code is Code.FORBIDDEN, (role, reply)
            assert await everything(rig, found["id"]) == before, role

    play(story)


@pytest.mark.req("SBA-API-09", "SBA-API-11", "SBA-API-13", "SBA-API-14", "SBA-API-15", "SBA-API-16", "SBA-API-19",
                 "SBA-API-23", "SBA-API-25", "SBA-API-26")
@pytest.mark.parametrize(("name", "role"), [(name, role) for name, (roles, _, _) in OPERATIONS.items()
                                            for role in sorted(roles)])
def test_every_documented_role_is_served(name, role):
    async def story(rig):
        _, label, params = OPERATIONS[name]
        found = await at_rest(rig, (await WAYS[label].go(rig))["id"])
        mend(rig, "risk_control.deduct")
        reply = await rig.operate(name, found, actor(role), **params)
        assert reply.code is Code.OK, reply
        assert (await shown(rig, found["id"]))["version"] > found["version"]

    play(story)


@pytest.mark.req("SBA-API-28")
@pytest.mark.parametrize("stale", [-1, 1])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_version_other_than_the_present_one_is_refused_and_changes_nothing(name, stale):
    roles, label, params = OPERATIONS[name]

    async def story(rig):
        found = await at_rest(rig, (await WAYS[label].go(rig))["id"])
        before = await everything(rig, found["id"])
        reply = await rig.operate(name, found, actor(sorted(roles - {Role.SYSTEM})[-1]),
                                  version=found["version"] + stale, **params)
        assert reply.code is Code.VERSION_CONFLICT, reply
        assert "refresh" in reply.message
        assert reply.procedure["version"] == found["version"]
        assert await everything(rig, found["id"]) == before

    play(story)


@pytest.mark.req("SBA-API-28")
def test_of_two_buttons_pressed_on_the_same_screen_one_is_served_and_the_other_refused():
    async def story(rig):
        held = await WAYS["new(manual_confirm)"].go(rig)
        replies = await asyncio.gather(rig.operate("CashWithdrawManualConfirm", held),
                                       rig.operate("CashWithdrawManualReject", held, SUPERVISOR))
        assert sorted(reply.code.name for reply in replies) == ["OK", "VERSION_CONFLICT"]

    play(story)


# Create


@pytest.mark.req("SBA-API-08")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SYSTEM])
def test_only_the_withdrawal_service_creates_a_withdrawal(role):
    async def story(rig):
        reply = await rig.sba.create_withdrawal(rig.withdraw_request(), actor(role))
        assert reply.code is Code.FORBIDDEN
        assert await rig.sba.procedure(1) is None
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


@pytest.mark.req("SBA-API-08")
def test_creating_starts_the_freeze_by_itself():
    async def story(rig):
        made = await created(rig)
        assert made["version"] == 2 and made["state"] == "new(waiting)"
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)

    play(story)


# Start Transfer


@pytest.mark.req("SBA-API-10")
def test_start_transfer_in_new_blank_deducts_first_and_then_transfers():
    async def story(rig):
        blank = await at_rest(rig, (await WAYS["new(blank)"].go(rig))["id"])
        mend(rig, "risk_control.deduct")
        started = await press(rig, "CashWithdrawStartTransfer", blank)
        assert started["state"] == "pending(transfer_manual)"
        assert (await rig.way(blank["id"]))[-3:] == [
            "new(blank)", "pending(deduct_done)", "pending(transfer_manual)"]
        deducted = next(event for event in rig.events if event[2] == "posting" and event[4]["op"] == "deduct")
        moved = next(event for event in rig.events if event[2] == "procedure" and event[4]["row"] == "WT-14")
        assert deducted[0] < moved[0]
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)

    play(story)


@pytest.mark.req("SBA-API-10")
def test_start_transfer_in_new_blank_transfers_nothing_while_the_deduction_is_unknown():
    async def story(rig):
        blank = await at_rest(rig, (await WAYS["new(blank)"].go(rig))["id"])
        reply = await rig.operate("CashWithdrawStartTransfer", blank)
        assert reply.code is Code.DEPENDENCY_TIMEOUT
        assert (await shown(rig, blank["id"]))["version"] == blank["version"]

    play(story)


@pytest.mark.req("SBA-API-09")
def test_start_transfer_in_deduct_done_tells_when_the_banks_window_opens():
    async def story(rig):
        stop_job(rig, "MoveNextResumeJob")
        waiting = await WAYS["pending(deduct_done)"].go(rig)
        before = await everything(rig, waiting["id"])
        reply = await rig.operate("CashWithdrawStartTransfer", waiting)
        assert reply.code is Code.BLOCKED and "window opens" in reply.message
        assert await everything(rig, waiting["id"]) == before
        await rig.until("2026-03-12 08:00")
        reply = await rig.operate("CashWithdrawStartTransfer", waiting)
        assert reply.ok and reply.procedure["state"] == "pending(transfer_auto)"

    play(story, start=EARLY, then_s=60)


# Reject while a deduction is in flight


@pytest.mark.req("SBA-API-12")
@pytest.mark.parametrize("heals", [False, True])
def test_a_rejection_is_refused_when_the_deduction_has_happened_though_its_answer_was_lost(heals):
    """Risk control is asked by the key first (A-23): deducted money is never unfrozen, and the withdrawal goes on."""
    async def story(rig):
        break_line(rig, "timeout_after", "risk_control.deduct")
        blank = await at_rest(rig, (await rig.withdrawn("new(blank)", channel="hsbc"))["id"])
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        if heals:
            mend(rig, "risk_control.deduct")
        reply = await rig.operate("CashWithdrawReject", blank)
        assert reply.code is (Code.ILLEGAL_STATE if heals else Code.DEPENDENCY_TIMEOUT), reply
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        mend(rig, "risk_control.deduct")
        await reach(rig, blank["id"], "pending(transfer_manual)", 60)
        assert [posting["op"] for posting in rig.of_kind("posting", hold="WD1") if posting["legs"]] == [
            "freeze", "deduct"]

    play(story)


@pytest.mark.req("SBA-API-12")
def test_a_rejection_waits_while_nobody_can_say_whether_the_deduction_has_happened():
    async def story(rig):
        blank = await at_rest(rig, (await WAYS["new(blank)"].go(rig))["id"])
        break_line(rig, "timeout_before", "risk_control.void")
        before = await everything(rig, blank["id"])
        reply = await rig.operate("CashWithdrawReject", blank)
        assert reply.code is Code.DEPENDENCY_TIMEOUT
        assert await everything(rig, blank["id"]) == before

    play(story)


# Manual results


@pytest.mark.req("SBA-API-17")
@pytest.mark.parametrize("name", ["SetManualTransferDone", "SetManualTransferFailed"])
def test_a_manual_result_in_transfer_auto_is_refused_until_the_polls_are_used_up(name):
    async def story(rig):
        paid = name == "SetManualTransferDone"
        silent_bank(rig, paid=paid)
        sent = await rig.withdrawn("pending(transfer_auto)")
        for _ in range(9):
            before = await everything(rig, sent["id"])
            reply = await rig.operate(name, await shown(rig, sent["id"]))
            assert reply.code is Code.ILLEGAL_STATE and "polled" in reply.message
            assert await everything(rig, sent["id"]) == before
            await asyncio.sleep(5)
        await asyncio.sleep(10)
        ended = await press(rig, name, await shown(rig, sent["id"]))
        assert ended["state"] == ("end_ok(transfer_done)" if paid else "end_reject")
        assert buckets(await rig.money()) == (FULL - AMOUNT if paid else FULL, 0, 0)

    play(story)


@pytest.mark.req("SBA-API-18", "SBA-API-17")
@pytest.mark.parametrize(("name", "paid", "alerted"), [
    ("SetManualTransferDone", True, False), ("SetManualTransferFailed", False, False),
    ("SetManualTransferDone", False, True), ("SetManualTransferFailed", True, True)])
def test_a_bank_result_after_a_manual_decision_is_recorded_and_a_contradiction_alerted(name, paid, alerted):
    async def story(rig):
        waiting = await exhausted(rig, paid=paid, until_s=900)
        ended = await press(rig, name, waiting)
        before = await everything(rig, ended["id"])
        await asyncio.sleep(1800)
        after = await everything(rig, ended["id"])
        (late,) = after.pop("late")
        assert late[0] == ("SUCCESS" if paid else "FAILED")
        before.pop("late")
        assert after == before
        raised = alerts(rig, "WD-08", ended["id"])
        assert [(alert["severity"], alert["notify"]) for alert in raised] == ([("Critical", "P0")] if alerted else [])

    play(story, planted=alerted)  # a wrong manual decision: the books must differ, and the alert says so


@pytest.mark.req("SBA-API-15", "SBA-API-16")
@pytest.mark.parametrize("name", ["SetManualTransferDone", "SetManualTransferFailed"])
@pytest.mark.parametrize(("channel", "code"), [("cgb_fps_api", Code.OK), ("hsbc", Code.FORBIDDEN)])
def test_the_system_confirms_a_manual_transfer_for_cgb_fps_only(name, channel, code):
    async def story(rig):
        made = await created(rig, transfer_method=channel)
        sent = await reach(rig, made["id"], "pending(transfer_manual)", 65)
        assert (await rig.operate(name, sent, SYSTEM)).code is code

    play(story)


# Force


@pytest.mark.req("SBA-API-20")
def test_force_rollback_restores_or_releases_and_ends_rejected():
    async def story(rig):
        ended = await press(rig, "CashWithdrawForceProcess", await by_hand(rig), SUPERVISOR, **ROLLBACK)
        assert (await rig.way(ended["id"]))[-4:] == [
            "pending(transfer_manual)", "pending(return)", "pending(transfer_reject)", "end_reject"]
        assert (ended["reason"], ended["intent"]) == ("FORCE_ROLLBACK", "reject")
        assert flows(rig, ended["id"])[-3]["row"] == "WT-33"
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


@pytest.mark.req("SBA-API-21")
@pytest.mark.parametrize("label", ["new(waiting)", "pending(transfer_manual)"])
def test_force_complete_closes_the_hold_deducts_and_ends_well(label):
    async def story(rig):
        ended = await press(rig, "CashWithdrawForceProcess", await WAYS[label].go(rig), SUPERVISOR, **COMPLETE)
        assert (ended["state"], ended["reason"]) == ("end_ok(transfer_done)", "")
        assert flows(rig, ended["id"])[-1]["row"] == "WT-32"
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)
        assert not (await rig.core.risk_control.hold("WD1")).is_open

    play(story)


@pytest.mark.req("SBA-API-21")
def test_force_complete_without_cover_is_refused_and_the_withdrawal_stays():
    """Nothing is held and the customer has spent the money: the withdrawal cannot be completed on paper."""
    async def story(rig):
        stuck = await at_rest(rig, (await WAYS["pending(transfer_reject)"].go(rig))["id"])
        account = rig.customer("alice").trade_acc_ids[0]
        assert (await rig.core.risk_control.debit("trade", account, "HKD", FULL)).ok
        reply = await rig.operate("CashWithdrawForceProcess", stuck, SUPERVISOR, **COMPLETE)
        assert reply.code is Code.INSUFFICIENT_BALANCE
        after = await shown(rig, stuck["id"])
        assert (after["state"], after["version"]) == (stuck["state"], stuck["version"])
        assert buckets(await rig.money()) == (0, 0, 0)
        mend(rig, "risk_control.hold")
        assert (await press(rig, "CashWithdrawForceProcess", after, SUPERVISOR, **ROLLBACK))["state"] == "end_reject"

    play(story)


@pytest.mark.req("SBA-API-22")
@pytest.mark.parametrize("action", ["Rollback", "Complete"])
@pytest.mark.parametrize(("given", "code"), [
    ({"bank_status": "UNCERTAIN"}, Code.BANK_STATUS_REQUIRED), ({}, Code.BANK_STATUS_REQUIRED),
    ({"bank_status": "MAYBE"}, Code.BANK_STATUS_REQUIRED)])
def test_force_without_a_certain_bank_status_is_refused_and_the_freeze_is_kept(action, given, code):
    async def story(rig):
        waiting = await exhausted(rig, paid=False)
        before = await everything(rig, waiting["id"])
        reply = await rig.operate("CashWithdrawForceProcess", waiting, SUPERVISOR, action=action, **given)
        assert reply.code is code
        assert await everything(rig, waiting["id"]) == before

    play(story, settings=EXHAUSTED)


@pytest.mark.req("SBA-API-20", "SBA-API-21")
@pytest.mark.parametrize(("action", "status", "remark"), [
    ("Complete", "NOT_TRANSFERRED", "x"), ("Rollback", "TRANSFERRED", "x"), ("Rollback", "NOT_TRANSFERRED", " ")])
def test_force_must_fit_the_bank_status_and_carry_a_remark(action, status, remark):
    async def story(rig):
        waiting = await by_hand(rig)
        before = await everything(rig, waiting["id"])
        reply = await rig.operate("CashWithdrawForceProcess", waiting, SUPERVISOR, remark=remark, action=action,
                                  bank_status=status)
        assert reply.code is Code.INVALID_PARAM
        assert await everything(rig, waiting["id"]) == before

    play(story)


@pytest.mark.req("SBA-API-20")
def test_force_rollback_in_move_next_works_while_the_refreeze_is_silent():
    """The deferral's own effects are left undone with it: nothing is told and nothing refrozen afterwards."""
    async def story(rig):
        break_line(rig, "timeout_before", "risk_control.refreeze")
        deferred = await at_rest(rig, (await reach(rig, (await by_hand(rig))["id"], "pending(transfer_manual)"))["id"])
        await rig.operate("MoveNextTransactionDay", deferred)
        moved = await at_rest(rig, deferred["id"])
        assert moved["state"] == "pending(move_next)"
        ended = await press(rig, "CashWithdrawForceProcess", moved, SUPERVISOR, **ROLLBACK)
        assert ended["state"] == "end_reject"
        mend(rig, "risk_control.refreeze")
        await asyncio.sleep(600)
        assert buckets(await rig.money()) == (FULL, 0, 0)
        assert rig.of_kind("notify", event="WITHDRAW_DEFERRED") == []

    play(story)


@pytest.mark.req("SBA-API-20")
def test_a_force_rollback_before_the_instruction_was_handed_over_means_that_the_bank_never_gets_it():
    async def story(rig):
        break_line(rig, "timeout_before", "owner.instruct")
        sent = await at_rest(rig, (await reach(rig, (await _first(rig))["id"], "pending(transfer_auto)"))["id"])
        ended = await press(rig, "CashWithdrawForceProcess", sent, SUPERVISOR, **ROLLBACK)
        mend(rig, "owner.instruct")
        await asyncio.sleep(600)
        assert (await shown(rig, ended["id"]))["state"] == "end_reject"
        assert rig.paid() == [] and rig.of_kind("bank.request", message="withdraw") == []

    play(story)


async def _first(rig: Rig) -> dict[str, Any]:
    """A withdrawal of alice's just created: its Procedure is the first one."""
    await rig.withdraw()
    for _ in range(100):
        found = await rig.sba.procedure(1)
        if found is not None:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("no Procedure")


@pytest.mark.req("SBA-API-20", "TMO-04")
def test_a_force_rollback_while_the_instruction_waits_to_be_sent_means_that_the_bank_never_gets_it():
    """The bank is busy, so the instruction waits for its next try; what was rolled back must not be paid then."""
    async def story(rig):
        rig.world.bank.fault("fail_with", code=140630016, at="reply", message="withdraw", count=1)
        sent = await rig.withdrawn("pending(transfer_auto)")
        await asyncio.sleep(1)
        await press(rig, "CashWithdrawForceProcess", await shown(rig, sent["id"]), SUPERVISOR, **ROLLBACK)
        await asyncio.sleep(600)
        assert rig.paid() == []

    play(story)


# Cancel


@pytest.mark.req("SBA-API-24")
@pytest.mark.parametrize("label", STATES)
def test_a_user_cancels_only_while_his_withdrawal_waits(label):
    async def story(rig):
        found = await at_rest(rig, (await WAYS[label].go(rig))["id"])
        before = await everything(rig, found["id"])
        foreign = await rig.operate("CashWithdrawCancel", found, BOB)
        assert foreign.code in (Code.FORBIDDEN, Code.ILLEGAL_STATE)
        assert await everything(rig, found["id"]) == before
        own = await rig.operate("CashWithdrawCancel", found, ALICE)
        if label == "new(waiting)":
            assert own.ok and own.procedure["state"] == "end_cancel" and own.procedure["reason"] == "USER_CANCEL"
            assert buckets(await rig.money()) == (FULL, 0, 0)
        else:
            assert own.code is Code.ILLEGAL_STATE
            assert await everything(rig, found["id"]) == before

    play(story, start=WAYS[label].start)


@pytest.mark.req("SBA-API-24")
def test_a_user_cancels_a_task_that_has_no_procedure_yet_and_its_hold_is_released():
    async def story(rig):
        break_line(rig, "timeout_before", "sba.create_withdrawal")
        task = await rig.withdraw(channel="hsbc")
        await asyncio.sleep(1)
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)
        assert await rig.core.withdrawals.cancel(task.id) is None
        await asyncio.sleep(1)
        assert buckets(await rig.money()) == (FULL, 0, 0)
        mend(rig, "sba.create_withdrawal")
        await asyncio.sleep(60)
        assert await rig.sba.procedure(1) is None
        again = await rig.core.withdrawals.cancel(task.id)
        assert isinstance(again, Refusal) and again.code is Code.ILLEGAL_STATE
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


@pytest.mark.req("SBA-API-24")
def test_a_task_whose_procedure_exists_though_its_answer_was_lost_is_not_cancelled_beside_it():
    async def story(rig):
        break_line(rig, "timeout_after", "sba.create_withdrawal")
        task = await rig.withdraw(channel="hsbc")
        await asyncio.sleep(2)
        assert await rig.core.withdrawals.procedure_of(task.id) is None
        refusal = await rig.core.withdrawals.cancel(task.id)
        assert isinstance(refusal, Refusal) and refusal.code is Code.ILLEGAL_STATE
        mend(rig, "sba.create_withdrawal")
        sent = await reach(rig, 1, "pending(transfer_manual)", 120)
        await press(rig, "SetManualTransferDone", sent)
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)

    play(story)


@pytest.mark.req("SBA-API-24")
def test_a_task_with_a_procedure_is_not_cancelled_beside_it():
    async def story(rig):
        waiting = await WAYS["new(waiting)"].go(rig)
        refusal = await rig.core.withdrawals.cancel(waiting["task_id"])
        assert isinstance(refusal, Refusal) and refusal.code is Code.ILLEGAL_STATE
        assert (await shown(rig, waiting["id"]))["state"] == "new(waiting)"

    play(story)


@pytest.mark.req("SBA-API-27")
def test_from_deduct_done_money_returns_through_force_only():
    async def story(rig):
        deducted = await WAYS["pending(deduct_done)"].go(rig)
        for name, by in (("CashWithdrawCancel", ALICE), ("CashWithdrawCancel", SUPERVISOR),
                         ("CashWithdrawReverse", SUPERVISOR), ("CashWithdrawReject", FRONTLINE),
                         ("SetManualTransferFailed", FRONTLINE)):
            reply = await rig.operate(name, deducted, by)
            assert reply.code is Code.ILLEGAL_STATE, name
            assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        await press(rig, "CashWithdrawForceProcess", deducted, SUPERVISOR, **ROLLBACK)
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story, start=EARLY)


# Reverse


@pytest.mark.req("SBA-API-26")
def test_a_reversal_asked_for_twice_gives_the_money_back_once():
    async def story(rig):
        ended = await WAYS["end_ok(transfer_done)"].go(rig)
        first = await rig.operate("CashWithdrawReverse", ended, SUPERVISOR, request_id="once")
        again = await rig.operate("CashWithdrawReverse", ended, SUPERVISOR, request_id="once")
        other = await rig.operate("CashWithdrawReverse", first.procedure, SUPERVISOR)
        assert [reply.code for reply in (first, again, other)] == [Code.OK, Code.REPLAYED, Code.ILLEGAL_STATE]
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


# setTransferDone()


@pytest.mark.req("SBA-API-29")
def test_set_transfer_done_results_in_exactly_one_call_to_sba():
    async def story(rig):
        waiting = await by_hand(rig)
        seen = len(rig.of_kind("procedure"))
        calls = rig.world.rpc.calls
        reply = await rig.core.withdrawals.set_transfer_done(
            waiting["task_id"], version=waiting["version"], rpc_request_id="done", by=FRONTLINE, remark="paid")
        assert reply.ok and reply.procedure["state"] == "end_ok(transfer_done)"
        again = await rig.core.withdrawals.set_transfer_done(
            waiting["task_id"], version=waiting["version"], rpc_request_id="done", by=FRONTLINE, remark="paid")
        assert again.code is Code.REPLAYED
        assert rig.world.rpc.calls - calls == 2 + 2  # the call and its repetition; consume and the word to the Task
        rows = rig.of_kind("procedure")[seen:]
        assert [(row["row"], row["operator"], row["remark"]) for row in rows] == [("WT-24", FRONTLINE.id, "paid")]
        notes = rig.of_kind("note", id=waiting["id"], fact="MANUAL_DONE")
        assert [note["detail"] for note in notes] == ["paid"]
        log = await rig.core.withdrawals.log_of(waiting["task_id"])
        assert [row[:4] for row in log if row[1] == "transfer_done"] == [
            ("REMITTANCE", "transfer_done", FRONTLINE.id, "paid")]

    play(story)


@pytest.mark.req("SBA-API-29")
@pytest.mark.parametrize(("given", "code"), [
    ({"method": "hsbc"}, Code.OK), ({"method": None}, Code.OK), ({"method": "chats_rtgs"}, Code.INVALID_PARAM),
    ({"by": ALICE}, Code.FORBIDDEN), ({"version": 99}, Code.VERSION_CONFLICT)])
def test_set_transfer_done_passes_on_what_sba_answers(given, code):
    async def story(rig):
        waiting = await by_hand(rig)
        before = await everything(rig, waiting["id"])
        asked = {"version": waiting["version"], "rpc_request_id": "done", "by": FRONTLINE} | given
        reply = await rig.core.withdrawals.set_transfer_done(waiting["task_id"], **asked)
        assert reply.code is code
        if code is not Code.OK:
            assert await everything(rig, waiting["id"]) == before

    play(story)


@pytest.mark.req("SBA-API-29")
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "fail"])
def test_set_transfer_done_asked_again_after_silence_confirms_once(kind):
    async def story(rig):
        waiting = await by_hand(rig)
        asked = {"version": waiting["version"], "rpc_request_id": "done", "by": FRONTLINE}
        break_line(rig, kind, "sba.set_manual_transfer_done")
        lost = await rig.core.withdrawals.set_transfer_done(waiting["task_id"], **asked)
        assert lost.code is Code.DEPENDENCY_TIMEOUT
        mend(rig, "sba.set_manual_transfer_done")
        reply = await rig.core.withdrawals.set_transfer_done(waiting["task_id"], **asked)
        assert reply.code is (Code.REPLAYED if kind == "timeout_after" else Code.OK)
        assert (await shown(rig, waiting["id"]))["state"] == "end_ok(transfer_done)"
        assert len(rig.of_kind("posting", op="consume")) == 1

    play(story)


@pytest.mark.req("SBA-API-29")
@pytest.mark.parametrize("task", ["without a Procedure", "unknown"])
def test_set_transfer_done_needs_a_procedure(task):
    async def story(rig):
        number = 77
        if task == "without a Procedure":
            break_line(rig, "timeout_before", "sba.create_withdrawal")
            number = (await rig.withdraw(channel="hsbc")).id
        reply = await rig.core.withdrawals.set_transfer_done(number, version=1, rpc_request_id="x", by=FRONTLINE)
        assert reply.code is Code.NOT_FOUND

    play(story)


# Every operation is idempotent by its request id


@pytest.mark.req("DEDUP-04")
@pytest.mark.parametrize("label", OPEN)
def test_a_force_asked_for_twice_under_one_request_id_moves_the_money_once(label):
    async def story(rig):
        found = await at_rest(rig, (await WAYS[label].go(rig))["id"])
        for call in ("freeze", "deduct", "restore", "release", "hold"):
            mend(rig, f"risk_control.{call}")
        asked = {"request_id": "force", **ROLLBACK}
        first = await rig.operate("CashWithdrawForceProcess", found, SUPERVISOR, **asked)
        again = await rig.operate("CashWithdrawForceProcess", found, SUPERVISOR, **asked)
        assert (first.code, again.code) == (Code.OK, Code.REPLAYED)
        assert again.procedure == first.procedure
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story, start=WAYS[label].start)
