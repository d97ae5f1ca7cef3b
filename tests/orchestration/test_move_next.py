"""The loop through pending(move_next): deferred to the next trading day, and back (SBA-LOOP-01…08, SBA-WD-016…020)."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest
from withdrawal_states import (
    AMOUNT,
    EARLY,
    EVENING,
    FULL,
    WAYS,
    break_line,
    by_hand,
    everything,
    flows,
    mend,
    notices,
    press,
    reach,
    shown,
    silent_bank,
)

from core.clock import epoch_ms, hkt, show_time, yyyymmdd
from core.domain import Market, Role
from core.errors import Code
from core.orchestration.decisions import Decisions
from tests.rig import SYSTEM, Rig, play

LOOP = ["new(freeze)", "new(waiting)", "new(blank)", "pending(deduct_done)"]
DONE = ["pending(transfer_auto)", "end_ok(transfer_done)"]
# csv id, submitted (Hong Kong time), the day it goes on
SUBMISSIONS = [
    pytest.param("2026-03-13 18:00", "2026-03-16", id="Friday evening",
                 marks=pytest.mark.req("SBA-LOOP-01", "SBA-WD-016")),
    pytest.param("2026-04-30 17:00", "2026-05-04", id="the day before Labour Day",
                 marks=pytest.mark.req("SBA-LOOP-02")),
    pytest.param("2026-04-02 16:15", "2026-04-08", id="the day before Easter and Ching Ming",
                 marks=pytest.mark.req("SBA-LOOP-02")),
    pytest.param("2026-03-12 16:30", "2026-03-13", id="16:30 on a Thursday",
                 marks=pytest.mark.req("SBA-LOOP-03", "CAL-013")),
    pytest.param("2026-02-16 17:00", "2026-02-20", id="Chinese New Year 2026", marks=pytest.mark.req("SBA-LOOP-04")),
    pytest.param("2026-05-22 18:00", "2026-05-26", id="Friday before Monday 25 May 2026",
                 marks=pytest.mark.req("SBA-LOOP-08")),
]


def number(day: str) -> int:
    return yyyymmdd(date.fromisoformat(day))


def buckets(money) -> tuple[int, int, int]:
    return money.available, money.frozen, money.in_transit


def moved_at(rig: Rig, procedure_id: int, to: str) -> list[str]:
    """Hong Kong minutes at which a Procedure came into a state."""
    return [show_time(event[1] // 1000)[:16] for event in rig.events
            if event[2] == "procedure" and event[4]["id"] == procedure_id and event[4]["to"] == to]


async def close_day(rig: Rig, day: str, market: Market = Market.HK) -> None:
    """Settlement closes a day from now on: a typhoon."""
    made = await rig.core.calendar_book.decide(
        market, date.fromisoformat(day), is_open=False, operator="staff_4001", role=Role.SETTLEMENT)
    assert made.day == date.fromisoformat(day)


@pytest.mark.parametrize(("submitted", "resumes"), SUBMISSIONS)
def test_a_bst_withdrawal_after_the_cutoff_goes_on_on_the_next_trading_day(submitted, resumes):
    async def story(rig):
        deferred = await rig.withdrawn("pending(move_next)")
        assert deferred["transaction_date"] == number(resumes)
        assert moved_at(rig, deferred["id"], "pending(move_next)") == [submitted]
        await rig.until(f"{resumes} 07:59")
        assert (await shown(rig, deferred["id"]))["version"] == deferred["version"]
        done = await reach(rig, deferred["id"], "end_ok(transfer_done)", 120)
        assert moved_at(rig, done["id"], "new(freeze)") == [submitted, f"{resumes} 08:00"]
        assert done["transaction_date"] == number(resumes)
        assert await rig.way(done["id"]) == [*LOOP, "pending(move_next)", *LOOP, *DONE]

    play(story, start=submitted)


@pytest.mark.req("SBA-WD-019")
def test_each_return_is_a_new_attempt_with_its_own_effects_and_the_new_date():
    async def story(rig):
        deferred = await rig.withdrawn("pending(move_next)")
        assert deferred["attempt_no"] == 2
        done = await reach(rig, deferred["id"], "end_ok(transfer_done)", 15 * 3600)
        back = next(row for row in flows(rig, done["id"]) if row["row"] == "WT-17")
        assert (back["attempt"], back["date"], back["operator"]) == (2, 20260313, "system")
        assert [row["attempt"] for row in flows(rig, done["id"])] == [1] * 4 + [2] * 7
        keys = {posting["op"]: posting["key"] for posting in rig.of_kind("posting", hold="WD1", code=0)}
        assert keys["deduct"].startswith("P1:2:") and keys["consume"].startswith("P1:2:")

    play(story, start=EVENING)


@pytest.mark.req("SBA-WD-020")
def test_a_deferred_amount_is_never_available_not_for_a_moment():
    async def story(rig):
        deferred = await rig.withdrawn("pending(move_next)")
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)
        second = await rig.withdraw(amount=FULL - AMOUNT + 1)
        await asyncio.sleep(5)
        assert (await rig.core.withdrawals.find(second.id)).status == 4  # rejected: not enough
        await reach(rig, deferred["id"], "end_ok(transfer_done)", 15 * 3600)
        available = {posting["after"]["available"] for posting in rig.of_kind("posting", hold="WD1")}
        assert available == {FULL - AMOUNT}

    play(story, start=EVENING)


@pytest.mark.req("SBA-LOOP-06", "DEDUP-04")
@pytest.mark.parametrize("closures", [0, 1, 3])
def test_however_often_it_loops_there_is_one_bank_instruction_and_one_net_deduction(closures):
    """Chinese New Year, and days closed by a typhoon warning on the morning itself."""
    days = ["2026-02-20", "2026-02-23", "2026-02-24", "2026-02-25"]

    async def story(rig):
        deferred = await rig.withdrawn("pending(move_next)")
        for day in days[:closures]:
            await rig.until(f"{day} 06:00")
            await close_day(rig, day)
        done = await reach(rig, deferred["id"], "end_ok(transfer_done)", 14 * 86_400)
        assert await rig.way(done["id"]) == [*LOOP, *(["pending(move_next)", *LOOP] * (closures + 1)), *DONE]
        rows = flows(rig, done["id"])
        assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
        assert len(rig.paid()) == 1 and len(rig.of_kind("bank.request", message="withdraw")) == 1
        net = sum(delta for posting in rig.of_kind("posting", hold="WD1") for bucket, delta in posting["legs"]
                  if bucket == "external")
        assert net == AMOUNT
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)
        assert done["attempt_no"] == closures + 2
        assert done["transaction_date"] == number(days[closures])

    play(story, start="2026-02-16 17:00")


@pytest.mark.req("SBA-LOOP-05", "CAL-010")
def test_a_resume_day_closed_meanwhile_sends_it_through_the_loop_again():
    async def story(rig):
        deferred = await rig.withdrawn("pending(move_next)")
        assert deferred["transaction_date"] == 20260316
        await rig.until("2026-03-16 06:00")
        await close_day(rig, "2026-03-16")
        await rig.until("2026-03-16 12:00")
        again = await shown(rig, deferred["id"])
        assert (again["state"], again["transaction_date"]) == ("pending(move_next)", 20260317)
        assert moved_at(rig, again["id"], "pending(move_next)") == ["2026-03-13 18:00", "2026-03-16 08:00"]
        done = await reach(rig, deferred["id"], "end_ok(transfer_done)", 86_400)
        assert moved_at(rig, done["id"], "pending(transfer_auto)") == ["2026-03-17 08:00"]

    play(story, start="2026-03-13 18:00")


@pytest.mark.req("SBA-LOOP-07", "NTF-01")
def test_the_customer_reads_when_it_goes_on_and_no_failure():
    async def story(rig):
        deferred = await rig.withdrawn("pending(move_next)")
        await asyncio.sleep(5)
        assert notices(rig) == ["WITHDRAW_DEFERRED"]
        (notice,) = rig.of_kind("notify", event="WITHDRAW_DEFERRED")
        assert "Monday, 16 March 2026" in notice["detail"]
        assert "accepted" in notice["detail"]
        for word in ("error", "fail", "reject"):
            assert word not in notice["detail"].lower()
        assert (deferred["reason"], deferred["intent"]) == ("", "")
        task = await rig.core.withdrawals.find(deferred["task_id"])
        assert task.status == 2  # PROCESSING, as long as it is deferred
        await reach(rig, deferred["id"], "end_ok(transfer_done)", 4 * 86_400)
        await asyncio.sleep(5)
        assert notices(rig) == ["WITHDRAW_DEFERRED", "WITHDRAW_OK"]

    play(story, start="2026-03-13 18:00")


# By hand


@pytest.mark.req("SBA-WD-017", "SBA-API-25")
@pytest.mark.parametrize("by", ["frontline", "system"])
def test_a_manual_transfer_can_be_deferred_and_comes_back_to_manual_transfer(by):
    async def story(rig):
        waiting = await by_hand(rig)
        deferred = await press(rig, "MoveNextTransactionDay", waiting, *([SYSTEM] if by == "system" else []))
        assert deferred["state"] == "pending(move_next)"
        assert flows(rig, waiting["id"])[-1]["row"] == "WT-16"
        assert (deferred["transaction_date"], deferred["attempt_no"]) == (20260313, 2)
        assert notices(rig) == ["WITHDRAW_DEFERRED"]
        assert buckets(await rig.money()) == (FULL - AMOUNT, AMOUNT, 0)
        await rig.until("2026-03-12 23:59")
        assert (await shown(rig, waiting["id"]))["state"] == "pending(move_next)"
        again = await reach(rig, waiting["id"], "pending(transfer_manual)", 300)
        assert hkt(rig.now_ms).date() == date(2026, 3, 13)
        await press(rig, "SetManualTransferDone", again)
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)

    play(story)


@pytest.mark.req("SBA-API-25")
def test_a_bst_withdrawal_that_waits_for_its_window_can_be_deferred_by_hand():
    async def story(rig):
        waiting = await WAYS["pending(deduct_done)"].go(rig)
        deferred = await press(rig, "MoveNextTransactionDay", waiting)
        assert (deferred["state"], deferred["transaction_date"]) == ("pending(move_next)", 20260313)
        assert notices(rig) == ["WITHDRAW_DEFERRED"]
        done = await reach(rig, waiting["id"], "end_ok(transfer_done)", 2 * 86_400)
        assert moved_at(rig, done["id"], "pending(transfer_auto)") == ["2026-03-13 08:00"]

    play(story, start=EARLY)


@pytest.mark.req("SBA-WD-018")
def test_a_submitted_bank_instruction_forbids_the_deferral():
    async def story(rig):
        waiting = await by_hand(rig)
        await rig.sba.note_bank(waiting["id"], bank_submitted=1)  # as the CGB batch submission does
        before = await everything(rig, waiting["id"])
        for by in ((), (SYSTEM,)):
            reply = await rig.operate("MoveNextTransactionDay", waiting, *by)
            assert reply.code is Code.ILLEGAL_STATE and "submitted" in reply.message
            assert await everything(rig, waiting["id"]) == before
        await rig.sba.note_bank(waiting["id"], bank_submitted=0)  # confirmed failed
        assert (await rig.operate("MoveNextTransactionDay", waiting)).ok

    play(story)


# The gates and the refreeze


def test_what_is_deferred_stays_deferred_until_the_refreeze_is_known():
    """The date arrives while risk control is silent: nothing restarts on money that is not proven to be frozen."""
    async def story(rig):
        break_line(rig, "timeout_before", "risk_control.refreeze")
        deferred = await rig.withdrawn("pending(move_next)")
        await rig.until("2026-03-13 10:00")
        assert (await shown(rig, deferred["id"]))["state"] == "pending(move_next)"
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        mend(rig, "risk_control.refreeze")
        await reach(rig, deferred["id"], "end_ok(transfer_done)", 300)
        assert len(rig.paid()) == 1
        assert notices(rig) == ["WITHDRAW_DEFERRED", "WITHDRAW_OK"]

    play(story, start=EVENING, then_s=10)


@pytest.mark.req("SBA-WD-016")
@pytest.mark.parametrize(("moment", "state"), [("2026-03-12 16:14", "pending(transfer_auto)"),
                                               ("2026-03-12 16:15", "pending(move_next)")])
def test_the_cutoff_decides_between_the_bank_and_the_next_day(moment, state):
    async def story(rig):
        silent_bank(rig, paid=True)
        assert (await rig.withdrawn(state))["state"] == state

    play(story, start=moment)


def test_a_deferral_of_a_date_that_is_already_to_come_goes_past_it():
    """The button pressed in the evening: the withdrawal's own day is tomorrow, so it moves to the day after."""
    async def story(rig):
        decisions: Decisions = rig.core.decisions
        waiting = await by_hand(rig)
        p = await rig.core.engine.load(waiting["id"])
        evening = epoch_ms(hkt(rig.now_ms).replace(hour=18))
        p.transaction_date = decisions.transaction_date(p, evening)
        assert p.transaction_date == 20260313
        moved: tuple[int, Any] = decisions.defer(p, evening, past_today=True)
        assert moved[0] == 20260316

    play(story)
