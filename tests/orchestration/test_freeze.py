"""What the customer's money looks like while a withdrawal is under way (FRZ-01…09, orchestration.md §7)."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from withdrawal_states import (
    AMOUNT,
    COMPLETE,
    EARLY,
    ENDS,
    EVENING,
    FULL,
    OPEN,
    ROLLBACK,
    SATURDAY,
    STATES,
    WAYS,
    at_rest,
    blacklist,
    break_line,
    by_hand,
    created,
    mend,
    notices,
    press,
    reach,
    shown,
    silent_bank,
)

from core.domain import FreezeType, TaskStatus
from core.errors import Code
from tests.rig import SUPERVISOR, Rig, play

# The four columns of the documented table, minor units: 100,000.00 and a withdrawal of 10,000.00.
BEFORE = AFTER_FAILURE = (10_000_000, 10_000_000, 0)
IN_PROGRESS = (10_000_000, 9_000_000, 1_000_000)
AFTER_SUCCESS = (9_000_000, 9_000_000, 0)
DEDUCTED = ("pending(deduct_done)", "pending(transfer_auto)", "pending(transfer_manual)", "pending(return)",
            "pending(waiting_trade)")
# In these two nothing is held: not yet, and not any more.
UNFUNDED = ("new(freeze)", "pending(transfer_reject)")


async def seen(rig: Rig, who: str = "alice") -> tuple[int, int, int]:
    """(total assets, available balance, frozen amount) as the customer sees them."""
    money = await rig.money(who)
    return money.total, money.available, money.frozen_shown


@pytest.mark.req("FRZ-01", "FRZ-04")
@pytest.mark.parametrize("label", [label for label in OPEN if label not in UNFUNDED])
def test_while_a_withdrawal_is_under_way_the_total_is_unchanged_and_its_amount_is_frozen(label):
    async def story(rig):
        assert await seen(rig) == BEFORE
        await at_rest(rig, (await WAYS[label].go(rig))["id"])
        assert await seen(rig) == IN_PROGRESS
        money = await rig.money()
        assert (money.frozen, money.in_transit) == ((0, AMOUNT) if label in DEDUCTED else (AMOUNT, 0))

    play(story, start=WAYS[label].start)


@pytest.mark.req("FRZ-02")
@pytest.mark.parametrize("way", ["bst", "by hand", "force"])
def test_after_success_the_amount_has_left_and_nothing_is_frozen(way):
    async def story(rig):
        if way == "bst":
            await rig.withdrawn("end_ok(transfer_done)")
        elif way == "by hand":
            await press(rig, "SetManualTransferDone", await by_hand(rig))
        else:
            await press(rig, "CashWithdrawForceProcess", await by_hand(rig), SUPERVISOR, **COMPLETE)
        assert await seen(rig) == AFTER_SUCCESS

    play(story)


@pytest.mark.req("FRZ-03")
@pytest.mark.parametrize("way", ["freeze refused", "deduction refused", "bank refuses", "by hand", "rejected",
                                 "cancelled", "force", "reversed"])
def test_after_failure_everything_is_as_before(way):
    async def story(rig):
        if way == "freeze refused":
            break_line(rig, "fail", "risk_control.freeze")
            await created(rig)
        elif way == "deduction refused":
            break_line(rig, "fail", "risk_control.deduct")
            await rig.withdrawn("end_reject", channel="hsbc")
        elif way == "bank refuses":
            rig.world.bank.fault("fail_with", code=140630014, at="result")
            await rig.withdrawn("end_reject")
        elif way == "by hand":
            await press(rig, "SetManualTransferFailed", await by_hand(rig))
        elif way == "force":
            await press(rig, "CashWithdrawForceProcess", await by_hand(rig), SUPERVISOR, **ROLLBACK)
        else:
            await WAYS[{"rejected": "end_reject", "cancelled": "end_cancel",
                        "reversed": "end_reverse(transfer_done)"}[way]].go(rig)
        assert await seen(rig) == AFTER_FAILURE

    play(story)


@pytest.mark.req("FRZ-05")
@pytest.mark.parametrize("label", [label for label in OPEN if label not in UNFUNDED])
def test_during_the_window_nobody_spends_what_is_frozen(label):
    """A second withdrawal and a trade of one cent more than what is available are refused; exactly that is served."""
    async def story(rig):
        await at_rest(rig, (await WAYS[label].go(rig))["id"])
        for call in ("restore", "release", "deduct"):
            mend(rig, f"risk_control.{call}")
        account, free = rig.customer("alice").trade_acc_ids[0], FULL - AMOUNT
        too_much = await rig.core.risk_control.debit("trade-1", account, "HKD", free + 1)
        assert too_much.code is Code.INSUFFICIENT_BALANCE
        second = await created(rig, amount=free + 1, settled_amount=free + 1)
        assert (second["state"], second["reason"]) == ("end_reject", "INSUFFICIENT_BALANCE")
        assert await seen(rig) == IN_PROGRESS
        assert (await rig.core.risk_control.debit("trade-2", account, "HKD", free)).ok
        assert (await rig.money()).available == 0

    play(story, start=WAYS[label].start)


@pytest.mark.req("FRZ-05")
def test_a_task_without_cover_is_refused_at_once_and_the_customer_told():
    async def story(rig):
        await WAYS["new(waiting)"].go(rig)
        second = await rig.withdraw(amount=FULL - AMOUNT + 1, channel="hsbc")
        await asyncio.sleep(2)
        assert (await rig.core.withdrawals.find(second.id)).status == TaskStatus.REJECTED
        assert await rig.core.withdrawals.procedure_of(second.id) is None
        assert notices(rig) == ["WITHDRAW_FAILED"]
        assert await seen(rig) == IN_PROGRESS

    play(story)


async def a_busy_week(rig: Rig) -> None:
    """Withdrawals of every outcome, a deposit, a reversal, over a weekend."""
    done = await press(rig, "SetManualTransferDone", await by_hand(rig))
    await press(rig, "CashWithdrawReverse", done, SUPERVISOR)
    await press(rig, "SetManualTransferFailed", await by_hand(rig))
    await press(rig, "MoveNextTransactionDay", await by_hand(rig, amount=30_000))
    await rig.withdrawn("end_ok(transfer_done)", amount=70_000)
    await rig.deposit(amount=123_400)
    silent_bank(rig, paid=True, until_s=4000)
    await rig.withdrawn("pending(transfer_auto)", amount=50_000)
    await rig.until("2026-03-13 17:00")
    await rig.withdrawn("pending(move_next)", who="bob")
    await blacklist(rig, "bob")
    await press(rig, "CashWithdrawManualReject", await rig.withdrawn("new(manual_confirm)", who="bob"))
    await rig.until("2026-03-17 10:00")


@pytest.mark.req("FRZ-06")
def test_the_sum_of_the_buckets_changes_only_by_credits_completions_and_reversals():
    async def story(rig):
        account = rig.customer("alice").trade_acc_ids[0]
        total, moves = FULL, Counter()
        await a_busy_week(rig)
        for posting in rig.of_kind("posting", account=account, ccy="HKD"):
            if posting["key"].startswith("OPENING"):
                continue
            after = sum(posting["after"].values())
            if after != total:
                moves[posting["op"]] += 1
                amount = posting["amount"]
                assert after - total == {"add": amount, "consume": -amount}[posting["op"]], posting
            total = after
        assert moves == {"add": 2, "consume": 3}  # a deposit and a reversal; three withdrawals completed
        assert (await rig.money()).total == total == FULL - AMOUNT + AMOUNT + 123_400 - 70_000 - 50_000

    play(story)


@pytest.mark.req("FRZ-07")
def test_every_hold_is_closed_exactly_once_however_the_withdrawal_ends():
    async def story(rig):
        await a_busy_week(rig)
        closed = Counter(posting["hold"] for posting in rig.of_kind("posting") if posting["legs"]
                         and posting["op"] in ("release", "restore", "consume", "settle"))
        ends = []
        for number in range(1, 8):
            found = await rig.of_task(number)
            hold = await rig.core.risk_control.hold(f"WD{number}")
            ended = found["state"].startswith("end_")
            assert hold.is_open != ended
            assert closed[f"WD{number}"] == (1 if ended else 0)
            ends.append(found["state"])
        assert Counter(ends) == {"end_ok(transfer_done)": 3, "end_reject": 2, "end_reverse(transfer_done)": 1,
                                 "pending(transfer_manual)": 1}

    play(story)


@pytest.mark.req("FRZ-07")
@pytest.mark.parametrize("label", ENDS)
def test_no_ended_withdrawal_has_an_open_hold_or_money_in_transit(label):
    async def story(rig):
        ended = await WAYS[label].go(rig)
        hold = await rig.core.risk_control.hold("WD1")
        assert not hold.is_open and hold.closed_by in ("release", "restore", "consume")
        money = await rig.money()
        assert (money.frozen, money.in_transit) == (0, 0)
        assert (await shown(rig, ended["id"]))["state"] == label

    play(story)


@pytest.mark.req("FRZ-08")
@pytest.mark.parametrize("prehold", [True, False])
def test_a_withdrawal_holds_its_amount_as_cash_out(prehold):
    async def story(rig):
        stop = rig.core.timetable.pause
        stop("WithdrawDriveJob")
        await rig.withdrawn("new(waiting)", channel="hsbc")
        hold = await rig.core.risk_control.hold("WD1")
        assert hold.freeze_type == FreezeType.CASH_OUT == 2
        assert hold.amount == AMOUNT

    play(story, settings={"withdraw.prehold": prehold})


@pytest.mark.req("FRZ-08", "SBA-WD-002")
def test_the_procedure_adopts_the_hold_of_its_task_and_freezes_nothing_twice():
    async def story(rig):
        await WAYS["new(waiting)"].go(rig)
        freezes = rig.of_kind("posting", op="freeze")
        assert [(p["hold"], p["code"], len(p["legs"])) for p in freezes] == [("WD1", 0, 2), ("WD1", 0, 0)]
        assert await seen(rig) == IN_PROGRESS

    play(story)


# Notices


@pytest.mark.req("FRZ-09")
@pytest.mark.parametrize("label", STATES)
def test_the_customer_is_told_the_end_and_only_the_end(label):
    """An arrival on success, a failure on failure; while it is under way (or deferred) neither."""
    told = {"end_ok(transfer_done)": ["WITHDRAW_OK"], "end_reject": ["WITHDRAW_FAILED"],
            "end_cancel": ["WITHDRAW_CANCELLED"], "end_reverse(transfer_done)": ["WITHDRAW_OK", "WITHDRAW_FAILED"],
            "pending(move_next)": ["WITHDRAW_DEFERRED"]}

    async def story(rig):
        await WAYS[label].go(rig)
        await asyncio.sleep(1)
        assert notices(rig) == told.get(label, [])

    play(story, start=WAYS[label].start)


@pytest.mark.req("FRZ-09", "TMO-01")
def test_a_timeout_tells_the_customer_neither_arrival_nor_failure():
    async def story(rig):
        silent_bank(rig, paid=True)
        sent = await rig.withdrawn("pending(transfer_auto)")
        await asyncio.sleep(3 * 3600)  # ten polls, then two hours of fallback
        late = await shown(rig, sent["id"])
        assert (late["state"], late["poll_exhausted"], late["abnormal"]) == ("pending(transfer_auto)", True, True)
        assert notices(rig) == []
        await press(rig, "SetManualTransferDone", late)
        await asyncio.sleep(1)
        assert notices(rig) == ["WITHDRAW_OK"]

    play(story)


@pytest.mark.req("FRZ-09")
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "fail"])
def test_the_customer_is_told_once_although_the_word_to_the_task_is_repeated(kind):
    async def story(rig):
        break_line(rig, kind, "owner.tell_withdraw")
        done = await rig.withdrawn("end_ok(transfer_done)")
        await asyncio.sleep(300)
        mend(rig, "owner.tell_withdraw")
        await asyncio.sleep(60)
        assert notices(rig) == ["WITHDRAW_OK"]
        assert (await rig.core.withdrawals.find(done["task_id"])).status == TaskStatus.DONE

    play(story)


@pytest.mark.req("FRZ-01", "FRZ-02")
@pytest.mark.parametrize(("start", "label"), [(EARLY, "pending(deduct_done)"), (EVENING, "pending(move_next)"),
                                              (SATURDAY, "pending(waiting_trade)")])
def test_what_waits_for_a_day_or_a_window_is_frozen_all_along_and_leaves_once(start, label):
    async def story(rig):
        waiting = await WAYS[label].go(rig)
        for _ in range(50):
            if (await shown(rig, waiting["id"]))["state"].startswith(("end_", "pending(transfer_manual")):
                break
            assert await seen(rig) == IN_PROGRESS
            await asyncio.sleep(3600)
        if label == "pending(waiting_trade)":
            await press(rig, "SetManualTransferDone", await reach(rig, waiting["id"], "pending(transfer_manual)"))
        assert await seen(rig) == AFTER_SUCCESS

    play(story, start=start)
