"""A withdrawal's way through SBA, transition by transition (SBA-WD-001…059), in a whole core with the emulated bank."""

from __future__ import annotations

import asyncio

import pytest
from withdrawal_states import (
    AMOUNT,
    EARLY,
    FULL,
    SATURDAY,
    STATES,
    WAYS,
    alerts,
    at_rest,
    blacklist,
    break_line,
    by_hand,
    created,
    flows,
    mend,
    press,
    reach,
    silent_bank,
    stop_job,
)

from core.domain import FreezeType
from core.orchestration.withdraw_table import WITHDRAW, phase
from core.transfer import CHANNELS
from tests.rig import FRONTLINE, SUPERVISOR, play

BY_HAND = sorted(name for name, channel in CHANNELS.items() if channel.kind != "bst")
ROLLED_BACK = ["pending(unfreeze)", "pending(transfer_reject)", "end_reject"]


def buckets(money) -> tuple[int, int, int]:
    return money.available, money.frozen, money.in_transit


# Freeze


@pytest.mark.req("SBA-WD-001", "SBA-WD-002")
def test_a_withdrawal_begins_in_new_freeze_and_waits_once_the_amount_is_frozen():
    async def story(rig):
        stop_job(rig, "WithdrawDriveJob")
        made = await created(rig)
        first, second = flows(rig, made["id"])
        assert (first["row"], first["from"], first["to"], first["version"]) == ("WT-01", "", "new(freeze)", 1)
        assert (second["row"], second["from"], second["to"]) == ("WT-02", "new(freeze)", "new(waiting)")
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)

    play(story)


@pytest.mark.req("SBA-WD-002")
def test_new_freeze_stays_until_risk_control_has_frozen():
    async def story(rig):
        break_line(rig, "timeout_before", "risk_control.freeze")
        made = await created(rig)
        assert made["state"] == "new(freeze)"
        assert buckets(await rig.money()) == (FULL, 0, 0)
        mend(rig, "risk_control.freeze")
        await reach(rig, made["id"], "new(waiting)", 60)
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)

    play(story)


@pytest.mark.req("SBA-WD-003")
@pytest.mark.parametrize(("amount", "line", "reason"), [
    (FULL + 1, None, "INSUFFICIENT_BALANCE"), (AMOUNT, "fail", "FREEZE_FAILED")])
def test_a_refused_freeze_ends_rejected_and_leaves_the_balances_as_they_were(amount, line, reason):
    async def story(rig):
        if line:
            break_line(rig, line, "risk_control.freeze")
        made = await created(rig, amount=amount, settled_amount=amount)
        assert await rig.way(made["id"]) == ["new(freeze)", "pending(transfer_reject)", "end_reject"]
        assert (made["state"], made["reason"]) == ("end_reject", reason)
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


# Waiting, review


@pytest.mark.req("SBA-WD-004")
def test_a_regular_withdrawal_leaves_new_waiting_only_when_the_script_picks_it_up():
    async def story(rig):
        await rig.until("2026-03-12 10:00:05")
        task = await rig.withdraw(channel="hsbc")
        await rig.until("2026-03-12 10:00:59")
        waiting = await rig.of_task(task.id)
        assert waiting["state"] == "new(waiting)"
        await reach(rig, waiting["id"], "pending(transfer_manual)", 5)  # the script runs at 10:01:00

    play(story)


@pytest.mark.req("SBA-WD-004", "JOB-021")
def test_while_the_script_is_stopped_a_regular_withdrawal_stays_in_new_waiting():
    async def story(rig):
        stop_job(rig, "WithdrawDriveJob")
        waiting = await rig.withdrawn("new(waiting)", channel="hsbc")
        await asyncio.sleep(3600)
        assert (await at_rest(rig, waiting["id"]))["state"] == "new(waiting)"
        rig.core.timetable.resume("WithdrawDriveJob")
        await reach(rig, waiting["id"], "pending(transfer_manual)", 65)

    play(story)


@pytest.mark.req("SBA-WD-005", "SBA-WD-040")
def test_a_bst_withdrawal_goes_to_the_bank_without_the_script_by_the_documented_happy_path():
    async def story(rig):
        stop_job(rig, "WithdrawDriveJob")
        done = await rig.withdrawn("end_ok(transfer_done)")
        assert await rig.way(done["id"]) == [
            "new(freeze)", "new(waiting)", "new(blank)", "pending(deduct_done)", "pending(transfer_auto)",
            "end_ok(transfer_done)"]

    play(story)


@pytest.mark.req("SBA-WD-006")
@pytest.mark.parametrize("rule", [{"blacklisted": True}, {"high_risk": True}])
@pytest.mark.parametrize(("reviewed_by", "state"), [("", "new(manual_confirm)"), ("staff_1002", "new(waiting)")])
def test_a_review_rule_wants_a_person_unless_an_audit_is_on_record(rule, reviewed_by, state):
    async def story(rig):
        stop_job(rig, "WithdrawDriveJob")
        made = await created(rig, reviewed_by=reviewed_by, **rule)
        assert made["state"] == state
        assert made["review_hits"] == next(iter(rule)).replace("blacklisted", "blacklist")

    play(story)


@pytest.mark.req("SBA-WD-006")
@pytest.mark.parametrize(("amount", "state"), [(AMOUNT, "new(manual_confirm)"), (AMOUNT - 1, "new(waiting)")])
def test_a_large_withdrawal_is_reviewed_from_exactly_the_threshold_on(amount, state):
    async def story(rig):
        stop_job(rig, "WithdrawDriveJob")
        assert (await created(rig, amount=amount, settled_amount=amount))["state"] == state

    play(story, settings={"withdraw.large_threshold": {"HKD": AMOUNT // 100, "USD": 1, "CNH": 1}})


@pytest.mark.req("SBA-WD-006")
def test_the_withdrawal_blacklist_is_asked_for_a_task_of_the_app():
    async def story(rig):
        await blacklist(rig)
        held = await rig.withdrawn("new(manual_confirm)")
        assert held["review_hits"] == "blacklist"
        other = await rig.withdrawn("end_ok(transfer_done)", who="bob")
        assert other["review_hits"] == ""

    play(story)


@pytest.mark.req("SBA-WD-007", "SBA-WD-008", "SBA-WD-041")
def test_a_reviewed_withdrawal_goes_on_by_itself_by_the_documented_happy_path():
    async def story(rig):
        await blacklist(rig)
        held = await rig.withdrawn("new(manual_confirm)")
        await press(rig, "CashWithdrawManualConfirm", held)
        done = await reach(rig, held["id"], "end_ok(transfer_done)", 60)
        assert await rig.way(done["id"]) == [
            "new(freeze)", "new(waiting)", "new(manual_confirm)", "new(confirmed)", "new(blank)",
            "pending(deduct_done)", "pending(transfer_auto)", "end_ok(transfer_done)"]
        by = [row["operator"] for row in flows(rig, done["id"])]
        assert by == ["system"] * 3 + [FRONTLINE.id] + ["system"] * 4

    play(story)


@pytest.mark.req("SBA-WD-009", "SBA-API-14")
def test_a_rejected_review_gives_the_frozen_amount_back_and_ends_rejected():
    async def story(rig):
        held = await WAYS["new(manual_confirm)"].go(rig)
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)
        ended = await press(rig, "CashWithdrawManualReject", held)
        assert (await rig.way(held["id"]))[-4:] == ["new(manual_confirm)", *ROLLED_BACK]
        assert (ended["reason"], ended["intent"]) == ("MANUAL_REJECT", "reject")
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


# Deduction


@pytest.mark.req("SBA-WD-010")
def test_new_blank_becomes_deduct_done_when_the_amount_is_deducted_and_not_before():
    async def story(rig):
        break_line(rig, "timeout_before", "risk_control.deduct")
        blank = await rig.withdrawn("new(blank)")
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)
        mend(rig, "risk_control.deduct")
        done = await reach(rig, blank["id"], "pending(deduct_done)", 60)
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        assert flows(rig, done["id"])[-1]["row"] == "WT-11"

    play(story, start=EARLY)


@pytest.mark.req("SBA-WD-011", "SBA-WD-012", "SBA-WD-059")
def test_a_refused_deduction_releases_the_hold_before_the_end_and_loops_once():
    async def story(rig):
        break_line(rig, "fail", "risk_control.deduct")
        ended = await rig.withdrawn("end_reject", channel="hsbc")
        assert (await rig.way(ended["id"]))[2:] == [
            "new(blank)", "pending(transfer_reject)", "pending(unfreeze)", "pending(transfer_reject)", "end_reject"]
        assert [row["row"] for row in flows(rig, ended["id"])][-4:] == ["WT-12", "WT-28", "WT-27", "WT-29"]
        assert ended["reason"] == "DEDUCT_FAILED"
        assert buckets(await rig.money()) == (FULL, 0, 0)
        moved = [posting["op"] for posting in rig.of_kind("posting", hold="WD1") if posting["legs"]]
        assert moved == ["freeze", "release"]

    play(story)


# Routes


@pytest.mark.req("SBA-WD-014")
def test_a_bst_withdrawal_with_both_gates_open_goes_to_the_bank_at_once():
    async def story(rig):
        sent = await rig.withdrawn("pending(transfer_auto)")
        rows = [row["row"] for row in flows(rig, sent["id"])]
        assert rows[-1] == "WT-13"
        events = [event for event in rig.events if event[2] == "procedure"]
        assert events[-1][1] == events[-2][1]  # in the moment of the deduction
        await reach(rig, sent["id"], "end_ok(transfer_done)", 60)

    play(story)


@pytest.mark.req("SBA-WD-015")
@pytest.mark.parametrize("channel", BY_HAND)
def test_every_channel_but_bst_goes_to_manual_transfer(channel):
    async def story(rig):
        made = await created(rig, transfer_method=channel)
        sent = await reach(rig, made["id"], "pending(transfer_manual)", 65)
        assert (await rig.way(sent["id"]))[-2:] == ["pending(deduct_done)", "pending(transfer_manual)"]

    assert len(BY_HAND) == 11
    play(story)


# The bank's result


@pytest.mark.req("SBA-WD-026", "SBA-WD-051")
def test_the_banks_success_ends_well_and_the_request_id_was_the_polling_key():
    async def story(rig):
        done = await rig.withdrawn("end_ok(transfer_done)")
        assert flows(rig, done["id"])[-1]["row"] == "WT-22"
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)
        assert done["reason"] == ""
        (payment,) = rig.paid()
        assert (payment["ref"], payment["request_id"]) == (done["transfer_ref_id"], done["request_id"])
        assert done["transfer_ref_id"].startswith("ASBBST") and len(done["transfer_ref_id"]) == len("ASBBST000012345")
        polls = rig.of_kind("bank.request", message="query_withdrawal")
        assert polls and {data["request_id"] for data in polls} == {done["request_id"]}

    play(story)


@pytest.mark.req("SBA-WD-051")
def test_the_request_id_is_not_there_before_the_bank_has_the_instruction_and_stays_afterwards():
    async def story(rig):
        waiting = await rig.withdrawn("pending(deduct_done)")
        assert (waiting["request_id"], waiting["transfer_ref_id"]) == ("", "")
        done = await reach(rig, waiting["id"], "end_ok(transfer_done)", 4000)
        assert done["request_id"] and done["transfer_ref_id"]

    play(story, start=EARLY)


@pytest.mark.req("SBA-WD-027", "SBA-WD-030", "AIR-05")
@pytest.mark.parametrize("at", ["reply", "result"])
def test_the_banks_refusal_restores_the_amount_and_ends_rejected(at):
    async def story(rig):
        rig.world.bank.fault("fail_with", code=140630014, at=at, message="withdraw")
        ended = await rig.withdrawn("end_reject")
        assert (await rig.way(ended["id"]))[-4:] == [
            "pending(transfer_auto)", "pending(return)", "pending(transfer_reject)", "end_reject"]
        assert [row["row"] for row in flows(rig, ended["id"])][-3:] == ["WT-23", "WT-26", "WT-29"]
        assert (ended["reason"], ended["bank_code"]) == ("BANK_FAILED", "140630014")
        assert buckets(await rig.money()) == (FULL, 0, 0)
        assert rig.paid() == []

    play(story)


@pytest.mark.req("SBA-WD-028", "SBA-API-15")
def test_confirm_transfer_complete_ends_well_and_the_money_has_left():
    async def story(rig):
        ended = await press(rig, "SetManualTransferDone", await by_hand(rig))
        assert ended["state"] == "end_ok(transfer_done)"
        assert flows(rig, ended["id"])[-1]["row"] == "WT-24"
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)

    play(story)


@pytest.mark.req("SBA-WD-029", "SBA-WD-030", "SBA-API-16")
def test_transfer_failed_restores_the_amount_and_ends_rejected():
    async def story(rig):
        ended = await press(rig, "SetManualTransferFailed", await by_hand(rig))
        assert (await rig.way(ended["id"]))[-4:] == [
            "pending(transfer_manual)", "pending(return)", "pending(transfer_reject)", "end_reject"]
        assert [row["row"] for row in flows(rig, ended["id"])][-3:] == ["WT-25", "WT-26", "WT-29"]
        assert ended["reason"] == "MANUAL_TRANSFER_FAILED"
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


# Ways back


@pytest.mark.req("SBA-WD-032", "SBA-WD-056", "SBA-API-11")
@pytest.mark.parametrize("label", ["new(waiting)", "new(manual_confirm)", "new(confirmed)"])
def test_a_rejected_withdrawal_passes_unfreeze_and_ends_with_the_hold_released(label):
    async def story(rig):
        ended = await press(rig, "CashWithdrawReject", await at_rest(rig, (await WAYS[label].go(rig))["id"]))
        assert (await rig.way(ended["id"]))[-4:] == [label, *ROLLED_BACK]
        assert (ended["reason"], ended["intent"]) == ("OPS_REJECT", "reject")
        assert buckets(await rig.money()) == (FULL, 0, 0)
        assert not (await rig.core.risk_control.hold("WD1")).is_open

    play(story)


@pytest.mark.req("SBA-WD-056")
def test_a_withdrawal_rejected_before_its_deduction_arrived_is_released_and_never_deducted():
    """In new(blank) the deduction is in flight: it is made void first, so that it cannot arrive afterwards (A-23)."""
    async def story(rig):
        blank = await at_rest(rig, (await WAYS["new(blank)"].go(rig))["id"])
        ended = await press(rig, "CashWithdrawReject", blank)
        assert (await rig.way(ended["id"]))[-4:] == ["new(blank)", *ROLLED_BACK]
        mend(rig, "risk_control.deduct")
        await asyncio.sleep(120)
        assert buckets(await rig.money()) == (FULL, 0, 0)
        late = await rig.core.risk_control.deduct(f"P{ended['id']}:1:3:DEDUCT", "WD1")  # the lost call arrives
        assert not late.ok
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


@pytest.mark.req("SBA-WD-058", "SBA-WD-059")
def test_a_rejection_in_new_freeze_releases_the_hold_that_was_placed_meanwhile():
    """The Task's hold is there before the Procedure's own freeze: transfer_reject finds it and lets go of it."""
    async def story(rig):
        rig.world.trace.subscribe(
            lambda event: event[3] == "KT1:hold" and break_line(rig, "timeout_before", "risk_control.freeze"))
        await rig.withdraw(channel="hsbc")
        frozen = await at_rest(rig, (await reach(rig, 1, "new(freeze)"))["id"])
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)
        ended = await press(rig, "CashWithdrawReject", frozen)
        assert await rig.way(ended["id"]) == [
            "new(freeze)", "pending(transfer_reject)", "pending(unfreeze)", "pending(transfer_reject)", "end_reject"]
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


@pytest.mark.req("SBA-WD-058")
def test_a_rejection_in_new_freeze_without_any_hold_ends_at_once():
    async def story(rig):
        frozen = await at_rest(rig, (await WAYS["new(freeze)"].go(rig))["id"])
        ended = await press(rig, "CashWithdrawReject", frozen)
        assert await rig.way(ended["id"]) == ["new(freeze)", "pending(transfer_reject)", "end_reject"]
        mend(rig, "risk_control.freeze")
        await asyncio.sleep(60)
        assert buckets(await rig.money()) == (FULL, 0, 0)
        late = await rig.core.risk_control.freeze(  # the lost call arrives: nothing is frozen for nobody
            "P1:1:1:FREEZE", rig.customer("alice").trade_acc_ids[0], "HKD", AMOUNT, "Ht1", FreezeType.CASH_OUT)
        assert not late.ok
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


@pytest.mark.req("SBA-WD-034", "SBA-WD-035", "SBA-WD-057", "SBA-API-23")
@pytest.mark.parametrize("label", ["new(waiting)", "new(manual_confirm)", "new(confirmed)"])
def test_a_cancelled_withdrawal_ends_cancelled_with_the_full_amount_available(label):
    async def story(rig):
        ended = await press(rig, "CashWithdrawCancel", await at_rest(rig, (await WAYS[label].go(rig))["id"]),
                            SUPERVISOR)
        assert (await rig.way(ended["id"]))[-4:] == [
            label, "pending(unfreeze)", "pending(transfer_reject)", "end_cancel"]
        assert flows(rig, ended["id"])[-1]["row"] == "WT-30"
        assert (ended["reason"], ended["intent"]) == ("OPS_CANCEL", "cancel")
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story)


@pytest.mark.req("SBA-WD-034")
@pytest.mark.parametrize(("name", "by", "end"), [("CashWithdrawReject", FRONTLINE, "end_reject"),
                                                 ("CashWithdrawCancel", SUPERVISOR, "end_cancel")])
def test_the_intent_decides_the_end_without_anybody_even_if_the_hold_could_not_be_seen_for_a_while(name, by, end):
    async def story(rig):
        break_line(rig, "timeout_before", "risk_control.hold")
        stuck = await press(rig, name, await WAYS["new(waiting)"].go(rig), by)
        assert stuck["state"] == "pending(transfer_reject)"
        await asyncio.sleep(120)
        assert (await at_rest(rig, stuck["id"]))["state"] == "pending(transfer_reject)"
        mend(rig, "risk_control.hold")
        await reach(rig, stuck["id"], end, 30)
        assert flows(rig, stuck["id"])[-1]["operator"] == "system"

    play(story)


@pytest.mark.req("SBA-WD-036", "SBA-API-26", "ALERT-WD-03")
def test_a_reversed_withdrawal_gives_the_amount_back():
    async def story(rig):
        ended = await press(rig, "SetManualTransferDone", await by_hand(rig))
        reversed_ = await press(rig, "CashWithdrawReverse", ended, SUPERVISOR)
        assert reversed_["state"] == "end_reverse(transfer_done)"
        assert flows(rig, ended["id"])[-1]["row"] == "WT-31"
        assert reversed_["reason"] == "REVERSAL"
        assert buckets(await rig.money()) == (FULL, 0, 0)
        assert [alert["severity"] for alert in alerts(rig, "WD-03", ended["id"])] == ["High"]

    play(story)


@pytest.mark.req("SBA-WD-042")
@pytest.mark.parametrize("label", STATES)
def test_people_see_the_phase_that_follows_from_the_state(label):
    phases = {"new(freeze)": "FREEZE", "new(waiting)": "REVIEW", "new(manual_confirm)": "REVIEW",
              "new(confirmed)": "REVIEW"}

    async def story(rig):
        found = await WAYS[label].go(rig)
        wanted = phases.get(label, "RESULT" if label.startswith("end_") else "DEDUCT_TRANSFER")
        assert found["phase"] == wanted == phase(WITHDRAW.by_label[label])

    play(story, start=WAYS[label].start)


# What lingers


@pytest.mark.req("SBA-WD-052", "SBA-WD-053", "SBA-WD-054", "SBA-TRB-01")
@pytest.mark.parametrize(("label", "seconds"), [("new(freeze)", 30), ("new(blank)", 60), ("new(waiting)", 600)])
def test_a_withdrawal_that_lingers_is_flagged_from_its_threshold_on(label, seconds):
    async def story(rig):
        start = rig.now_ms
        lingering = await WAYS[label].go(rig)
        main, ext = lingering["status"], lingering["ext_status"]
        moved_ms = lingering["updated_at"]
        await asyncio.sleep((moved_ms + seconds * 1000 - rig.now_ms) / 1000)
        assert await rig.sba.stuck(start, rig.now_ms + 1) == []  # exactly the threshold is not beyond it
        await asyncio.sleep(0.001)
        (found,) = await rig.sba.stuck(start, rig.now_ms + 1)
        assert (found.id, found.status, found.ext_status) == (lingering["id"], main, ext)
        assert found.for_ms == seconds * 1000 + 1
        assert await rig.sba.stuck(start, rig.now_ms + 1, "pending") == []
        assert await rig.sba.stuck(rig.now_ms, rig.now_ms + 1) == []

    play(story)


@pytest.mark.req("SBA-WD-021")
def test_a_weekend_withdrawal_by_hand_waits_for_the_trading_day():
    async def story(rig):
        waiting = await rig.withdrawn("pending(waiting_trade)", channel="hsbc")
        assert flows(rig, waiting["id"])[-1]["row"] == "WT-18"
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)

    play(story, start=SATURDAY)


@pytest.mark.req("SBA-WD-026")
def test_a_result_that_shows_late_but_in_time_ends_the_withdrawal_without_anybody():
    async def story(rig):
        silent_bank(rig, paid=True, until_s=1800)
        sent = await rig.withdrawn("pending(transfer_auto)")
        await reach(rig, sent["id"], "end_ok(transfer_done)", 2000)
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)

    play(story)
