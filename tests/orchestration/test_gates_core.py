"""Trading days, windows and batches as a whole core keeps them (WIN-*, CAL-*; gaps.md A-51, A-53, A-72, B-16, B-17)."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from sqlalchemy import bindparam, select
from withdrawal_states import (
    AMOUNT,
    FULL,
    by_hand,
    created,
    flows,
    reach,
    shown,
    silent_bank,
    stop_job,
)

from core.clock import show_time
from core.domain import Market, Role
from core.errors import Code, Refusal
from core.storage import Statement
from core.storage.primary import calendar_override, tasks
from core.transfer import CHANNELS
from tests.rig import Rig, play

AUTO, DONE = "pending(transfer_auto)", "end_ok(transfer_done)"
DEDUCTED, MOVED = "pending(deduct_done)", "pending(move_next)"
BATCH_OF = Statement(select(tasks.c.batch_date).where(tasks.c.id == bindparam("task")))
OVERRIDES = Statement(select(*(calendar_override.c[name] for name in (
    "market", "day", "is_open", "operator", "version", "known_from"))))


def entered(rig: Rig, procedure_id: int, label: str) -> list[str]:
    """Hong Kong minutes at which a Procedure came into a state."""
    return [show_time(event[1] // 1000)[:16] for event in rig.events
            if event[2] == "procedure" and event[4]["id"] == procedure_id and event[4]["to"] == label]


def instructed(rig: Rig) -> list[str]:
    """Hong Kong minutes at which a new instruction went to the bank."""
    return [show_time(event[1] // 1000)[:16] for event in rig.events
            if event[2] == "bank.request" and event[4]["message"] == "withdraw"]


async def withdrawal(rig: Rig, market: Market = Market.HK) -> int:
    """A BST withdrawal of the App that has come as far as the gates let it; its Procedure."""
    task = await rig.withdraw(market=market)
    await asyncio.sleep(3)
    return (await rig.of_task(task.id))["id"]


# Both gates. market, submitted, state then, when the instruction leaves, through move_next or not
GATES = [
    # Hong Kong's market gate: 00:00 to 16:15 on trading days; Airstar's window 08:00 to 22:00 on HKEX days
    (Market.HK, "2026-03-12 00:00", DEDUCTED, "2026-03-12 08:00", False),
    (Market.HK, "2026-03-12 07:58", DEDUCTED, "2026-03-12 08:00", False),
    (Market.HK, "2026-03-12 08:00", AUTO, "2026-03-12 08:00", False),
    (Market.HK, "2026-03-12 16:14", AUTO, "2026-03-12 16:14", False),
    (Market.HK, "2026-03-12 16:15", MOVED, "2026-03-13 08:00", True),
    (Market.HK, "2026-03-12 16:20", MOVED, "2026-03-13 08:00", True),
    (Market.HK, "2026-03-12 16:30", MOVED, "2026-03-13 08:00", True),
    (Market.HKCC, "2026-03-12 16:15", MOVED, "2026-03-13 08:00", True),
    # New York's trading day, by HKT: 04:00 to 04:00
    (Market.US, "2026-03-12 16:20", AUTO, "2026-03-12 16:20", False),
    (Market.US, "2026-03-12 21:58", AUTO, "2026-03-12 21:58", False),
    (Market.US, "2026-03-12 22:00", DEDUCTED, "2026-03-13 08:00", True),
    (Market.US, "2026-03-13 03:30", DEDUCTED, "2026-03-13 08:00", True),
    (Market.US, "2026-03-13 04:00", DEDUCTED, "2026-03-13 08:00", False),
    # no session on weekends and Hong Kong holidays, whatever the market
    (Market.HK, "2026-03-14 10:00", MOVED, "2026-03-16 08:00", True),
    (Market.US, "2026-03-14 10:00", MOVED, "2026-03-16 08:00", True),
    (Market.HK, "2026-05-25 10:00", MOVED, "2026-05-26 08:00", True),
    (Market.US, "2026-05-01 10:00", MOVED, "2026-05-04 08:00", True),
    (Market.US, "2026-02-18 10:00", MOVED, "2026-02-20 08:00", True),
]


@pytest.mark.req("WIN-02", "WIN-03", "WIN-08", "CAL-007", "CAL-008", "CAL-013")
@pytest.mark.parametrize(("market", "submitted", "state", "leaves", "deferred"), GATES)
def test_an_instruction_leaves_when_market_and_bank_are_open_and_not_before(market, submitted, state, leaves, deferred):
    async def story(rig):
        silent_bank(rig, paid=True)
        procedure_id = await withdrawal(rig, market)
        assert (await shown(rig, procedure_id))["state"] == state
        await rig.until(leaves)
        await asyncio.sleep(30)
        assert instructed(rig) == [leaves]
        assert (await shown(rig, procedure_id))["state"] == AUTO
        assert (MOVED in await rig.way(procedure_id)) == deferred

    play(story, start=submitted)


@pytest.mark.req("WIN-11", "WIN-03")
def test_what_waits_for_the_banks_window_is_deferred_when_the_market_closes_first():
    """New York, 22:30: Airstar is closed until 08:00, New York's day ends at 04:00."""
    async def story(rig):
        silent_bank(rig, paid=True)
        procedure_id = await withdrawal(rig, Market.US)
        waiting = await shown(rig, procedure_id)
        assert (waiting["state"], waiting["transaction_date"]) == (DEDUCTED, 20260312)
        await rig.until("2026-03-13 03:59")
        assert (await shown(rig, procedure_id))["version"] == waiting["version"]
        await rig.until("2026-03-13 08:02")
        moved = await shown(rig, procedure_id)
        assert (entered(rig, procedure_id, MOVED), moved["transaction_date"]) == (["2026-03-13 04:00"], 20260313)
        assert instructed(rig) == ["2026-03-13 08:00"]

    play(story, start="2026-03-12 22:30")


@pytest.mark.req("WIN-03", "WIN-02")
def test_while_the_bank_is_closed_the_amount_stays_deducted_and_nothing_is_sent():
    async def story(rig):
        procedure_id = await withdrawal(rig)
        for _ in range(59):
            assert (await shown(rig, procedure_id))["state"] == DEDUCTED
            money = await rig.money()
            assert (money.available, money.in_transit) == (FULL - AMOUNT, AMOUNT)
            assert instructed(rig) == []
            await asyncio.sleep(60)
        await reach(rig, procedure_id, DONE, 120)

    play(story, start="2026-03-12 07:00")


@pytest.mark.req("WIN-10")
def test_polls_fallback_and_results_go_on_when_the_window_has_closed():
    """New York, 21:59: the bank shows the result an hour and a half later."""
    async def story(rig):
        silent_bank(rig, paid=True, until_s=5400)
        procedure_id = await withdrawal(rig, Market.US)
        await rig.until("2026-03-12 22:05")
        polls = rig.of_kind("bank.request", message="query_withdrawal")
        assert len(polls) > 10  # ten polls, then the fallback, all after 22:00
        done = await reach(rig, procedure_id, DONE, 7000)
        assert entered(rig, done["id"], DONE)[0].startswith("2026-03-12 23:")
        assert len(rig.paid()) == 1

    play(story, start="2026-03-12 21:59")


@pytest.mark.req("WIN-10")
def test_a_failure_found_in_the_night_gives_the_money_back_in_the_night():
    async def story(rig):
        silent_bank(rig, paid=False, until_s=5400)
        procedure_id = await withdrawal(rig, Market.US)
        await reach(rig, procedure_id, "end_reject", 7000)
        assert entered(rig, procedure_id, "end_reject")[0].startswith("2026-03-12 23:")
        assert (await rig.money()).available == FULL

    play(story, start="2026-03-12 21:59")


# Transaction dates


@pytest.mark.req("CAL-007", "CAL-013")
@pytest.mark.parametrize(("market", "moment", "day"), [
    (Market.HK, "2026-03-12 16:14", 20260312), (Market.HK, "2026-03-12 16:15", 20260313),
    (Market.HK, "2026-03-12 16:30", 20260313), (Market.HK, "2026-03-13 16:15", 20260316),
    (Market.HKCC, "2026-02-13 16:15", 20260224), (Market.US, "2026-03-13 03:59", 20260312),
    (Market.US, "2026-03-13 04:00", 20260313), (Market.US, "2026-03-14 04:00", 20260316)])
@pytest.mark.parametrize("method", ["hsbc", "chats_rtgs"])
def test_after_the_cutoff_the_transaction_date_is_the_markets_next_trading_day(market, moment, day, method):
    async def story(rig):
        stop_job(rig, "WithdrawDriveJob")
        assert (await created(rig, market=int(market), transfer_method=method))["transaction_date"] == day

    play(story, start=moment)


@pytest.mark.req("CAL-007", "CAL-008")
@pytest.mark.parametrize(("market", "moment", "day"), [
    (Market.US, "2026-05-01 10:00", 20260504),   # Labour Day in Hong Kong, New York trades
    (Market.HK, "2026-05-01 10:00", 20260504),
    (Market.HKCC, "2026-05-04 10:00", 20260506)])  # Hong Kong trades, the mainland does not until the 6th
def test_a_bst_withdrawal_is_dated_by_the_hkex_calendar_too(market, moment, day):
    async def story(rig):
        procedure_id = await withdrawal(rig, market)
        found = await shown(rig, procedure_id)
        assert (found["transaction_date"], found["state"]) == (day, MOVED)

    play(story, start=moment)


# A temporary closure


@pytest.mark.req("CAL-010")
def test_a_closure_added_at_runtime_holds_for_later_decisions_only_and_is_on_record():
    async def story(rig):
        silent_bank(rig, paid=True)
        before = await withdrawal(rig)
        await rig.until("2026-03-12 10:30")
        made = await rig.core.calendar_book.decide(
            Market.HK, date(2026, 3, 12), is_open=False, operator="staff_4001", role=Role.SETTLEMENT)
        assert made.version > 0
        after = await withdrawal(rig)
        assert (await shown(rig, before))["state"] == AUTO  # decided before, and left alone
        deferred = await shown(rig, after)
        assert (deferred["state"], deferred["transaction_date"]) == (MOVED, 20260313)
        (row,) = await rig.world.databases.primary.all(OVERRIDES, {})
        assert row[:4] == (Market.HK, 20260312, 0, "staff_4001")
        assert (row[4], row[5]) == (made.version, made.known_from_ms)
        (event,) = rig.of_kind("calendar")
        assert (event["date"], event["open"], event["operator"]) == ("2026-03-12", False, "staff_4001")
        rig.world.kill(1_000)  # the next core knows it too
        await asyncio.sleep(10)
        again = await withdrawal(rig)
        assert (await shown(rig, again))["state"] == MOVED

    play(story)


@pytest.mark.req("CAL-010", "CAL-012")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SETTLEMENT])
def test_nobody_but_settlement_closes_a_day(role):
    async def story(rig):
        refused = await rig.core.calendar_book.decide(
            Market.HK, date(2026, 3, 12), is_open=False, operator="staff_1001", role=role)
        assert isinstance(refused, Refusal) and refused.code is Code.FORBIDDEN
        assert await rig.world.databases.primary.all(OVERRIDES, {}) == []
        procedure_id = await withdrawal(rig)
        assert (await shown(rig, procedure_id))["state"] in (AUTO, DONE)

    play(story)


@pytest.mark.req("CAL-010")
def test_a_day_opened_at_runtime_is_a_trading_day_from_then_on():
    """A Saturday on which the exchange trades after all."""
    async def story(rig):
        await rig.core.calendar_book.decide(
            Market.HK, date(2026, 3, 14), is_open=True, operator="staff_4001", role=Role.SETTLEMENT)
        procedure_id = await withdrawal(rig)
        assert (await shown(rig, procedure_id))["state"] in (AUTO, DONE)

    play(story, start="2026-03-14 10:00")


# Batches


@pytest.mark.req("WIN-05")
@pytest.mark.parametrize(("moment", "batch"), [
    ("2026-03-12 00:00", 20260312), ("2026-03-12 10:59", 20260312), ("2026-03-12 11:00", 20260313),
    ("2026-03-12 23:59", 20260313), ("2026-03-13 11:00", 20260316), ("2026-03-14 09:00", 20260316),
    ("2026-05-25 09:00", 20260526), ("2026-02-16 11:00", 20260220)])
def test_a_withdrawal_by_hand_belongs_to_the_batch_of_its_day_before_eleven_and_else_of_the_next(moment, batch):
    async def story(rig):
        task = await rig.withdraw(channel="hsbc")
        assert task.batch_date == batch
        assert await rig.world.databases.primary.first(BATCH_OF, {"task": task.id}) == (batch,)
        assert (await rig.core.withdrawals.find(task.id)).batch_date == batch

    play(story, start=moment)


@pytest.mark.req("WIN-05")
@pytest.mark.parametrize("method", sorted(CHANNELS))
def test_what_is_sent_one_by_one_belongs_to_no_batch(method):
    """A-53: file and online banking channels; not BST, not CGB FPS."""
    async def story(rig):
        alice = rig.customer("alice")
        task = await rig.core.withdrawals.submit(
            alice.uid, alice.trade_acc_ids[0], 1, rig.world.card_id(alice, "hsbc"), alice.cards["hsbc"].number, "hsbc",
            "HKD", AMOUNT, method)
        assert task.batch_date == (None if method in ("auto_bs", "cgb_fps_api") else 20260312)

    play(story)


@pytest.mark.req("WIN-06")
def test_the_batch_cutoff_changes_neither_state_nor_transaction_date():
    async def story(rig):
        before, after = await by_hand(rig), None
        await rig.until("2026-03-12 11:00:30")
        after = await by_hand(rig)
        one, other = [await rig.core.withdrawals.find(found["task_id"]) for found in (before, after)]
        assert (one.batch_date, other.batch_date) == (20260312, 20260313)
        assert before["transaction_date"] == after["transaction_date"] == 20260312
        assert await rig.way(before["id"]) == await rig.way(after["id"])
        assert (await shown(rig, before["id"]))["version"] == before["version"]

    play(story, start="2026-03-12 10:58")


@pytest.mark.req("WIN-06")
def test_crossing_the_batch_cutoff_while_waiting_moves_nothing():
    async def story(rig):
        stop_job(rig, "WithdrawDriveJob")
        waiting = await rig.withdrawn("new(waiting)", channel="hsbc")
        seen = len(flows(rig, waiting["id"]))
        await rig.until("2026-03-12 11:30")
        found = await shown(rig, waiting["id"])
        assert (found["version"], found["transaction_date"]) == (waiting["version"], 20260312)
        assert len(flows(rig, waiting["id"])) == seen

    play(story, start="2026-03-12 10:50")
