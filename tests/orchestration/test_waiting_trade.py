"""pending(waiting_trade): a withdrawal by hand, submitted on a day without trading (SBA-WD-021…025, gaps.md A-19)."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from withdrawal_states import (
    AMOUNT,
    FULL,
    SATURDAY,
    alerts,
    break_line,
    created,
    everything,
    flows,
    mend,
    press,
    reach,
    shown,
)

from core.clock import show_time
from core.domain import Market, Role
from core.errors import Code
from tests.rig import play

# submitted, the trading day it waits for
CLOSED_DAYS = [
    pytest.param("2026-03-14 10:00", "2026-03-16", id="Saturday"),
    pytest.param("2026-03-15 23:58", "2026-03-16", id="Sunday night"),
    pytest.param("2026-05-25 10:00", "2026-05-26", id="a holiday on a Monday"),
    pytest.param("2026-02-17 10:00", "2026-02-20", id="Chinese New Year"),
]


def buckets(money) -> tuple[int, int, int]:
    return money.available, money.frozen, money.in_transit


def left_at(rig, procedure_id: int) -> str:
    """Hong Kong minute at which the Procedure left waiting_trade."""
    return next(show_time(event[1] // 1000)[:16] for event in rig.events if event[2] == "procedure"
                and event[4]["id"] == procedure_id and event[4]["from"] == "pending(waiting_trade)")


@pytest.mark.req("SBA-WD-021", "SBA-WD-024", "SBA-WD-025")
@pytest.mark.parametrize(("submitted", "day"), CLOSED_DAYS)
def test_it_waits_for_the_trading_day_and_then_for_operations(submitted, day):
    async def story(rig):
        waiting = await rig.withdrawn("pending(waiting_trade)", channel="hsbc")
        assert await rig.way(waiting["id"]) == [
            "new(freeze)", "new(waiting)", "new(blank)", "pending(deduct_done)", "pending(waiting_trade)"]
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        await rig.until(f"{day} 06:59")
        before = await shown(rig, waiting["id"])
        assert before["version"] == waiting["version"]
        await reach(rig, waiting["id"], "pending(transfer_manual)", 120)
        assert left_at(rig, waiting["id"]) == f"{day} 07:00"
        last = flows(rig, waiting["id"])[-1]
        assert (last["row"], last["operator"]) == ("WT-21", "system")
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)

    play(story, start=submitted)


@pytest.mark.req("SBA-WD-022", "SBA-WD-025")
def test_a_recorded_success_ends_it_well_when_the_trading_day_arrives_and_not_before():
    async def story(rig):
        waiting = await rig.withdrawn("pending(waiting_trade)", channel="hsbc")
        reply = await rig.sba.bank_result(waiting["id"], success=True)
        assert reply.ok and reply.procedure["state"] == "pending(waiting_trade)"
        assert reply.procedure["bank_result"] == "SUCCESS"
        await rig.until("2026-03-16 06:59")
        assert (await shown(rig, waiting["id"]))["version"] == waiting["version"]
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        done = await reach(rig, waiting["id"], "end_ok(transfer_done)", 120)
        assert (flows(rig, done["id"])[-1]["row"], left_at(rig, done["id"])) == ("WT-19", "2026-03-16 07:00")
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, 0)

    play(story, start=SATURDAY)


@pytest.mark.req("SBA-WD-023", "SBA-WD-025")
def test_a_recorded_failure_restores_the_amount_when_the_trading_day_arrives_and_not_before():
    async def story(rig):
        waiting = await rig.withdrawn("pending(waiting_trade)", channel="hsbc")
        assert (await rig.sba.bank_result(waiting["id"], success=False, code="E7")).ok
        await rig.until("2026-03-16 06:59")
        assert (await shown(rig, waiting["id"]))["state"] == "pending(waiting_trade)"
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)
        ended = await reach(rig, waiting["id"], "end_reject", 120)
        assert [row["row"] for row in flows(rig, ended["id"])][-3:] == ["WT-20", "WT-26", "WT-29"]
        assert (ended["reason"], ended["bank_code"]) == ("BANK_FAILED", "E7")
        assert buckets(await rig.money()) == (FULL, 0, 0)

    play(story, start=SATURDAY)


@pytest.mark.req("SBA-WD-025")
def test_a_trading_day_closed_meanwhile_is_waited_out():
    async def story(rig):
        waiting = await rig.withdrawn("pending(waiting_trade)", channel="hsbc")
        await rig.until("2026-03-16 05:00")
        await rig.core.calendar_book.decide(
            Market.HK, date(2026, 3, 16), is_open=False, operator="staff_4001", role=Role.SETTLEMENT)
        await rig.until("2026-03-17 06:59")
        assert (await shown(rig, waiting["id"]))["state"] == "pending(waiting_trade)"
        await reach(rig, waiting["id"], "pending(transfer_manual)", 120)
        assert left_at(rig, waiting["id"]) == "2026-03-17 07:00"

    play(story, start=SATURDAY)


@pytest.mark.parametrize(("first", "end"), [(True, "end_ok(transfer_done)"), (False, "end_reject")])
def test_of_two_contradicting_results_the_first_stands_and_the_second_is_recorded_and_alerted(first, end):
    async def story(rig):
        waiting = await rig.withdrawn("pending(waiting_trade)", channel="hsbc")
        for success in (first, not first, first):
            assert (await rig.sba.bank_result(waiting["id"], success=success)).ok
        assert [late[0] for late in await rig.sba.late_results(waiting["id"])] == ["FAILED" if first else "SUCCESS"]
        assert [alert["severity"] for alert in alerts(rig, "WD-08", waiting["id"])] == ["Critical"]
        await reach(rig, waiting["id"], end, 3 * 86_400)

    play(story, start=SATURDAY)


@pytest.mark.req("SBA-WD-022")
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "fail"])
def test_the_trading_day_arrives_while_risk_control_is_silent(kind):
    """The withdrawal stays until the money is known to have left, and ends by itself afterwards."""
    async def story(rig):
        waiting = await rig.withdrawn("pending(waiting_trade)", channel="hsbc")
        await rig.sba.bank_result(waiting["id"], success=True)
        break_line(rig, kind, "risk_control.consume")
        await rig.until("2026-03-16 09:00")
        assert (await shown(rig, waiting["id"]))["state"] == "pending(waiting_trade)"
        mend(rig, "risk_control.consume")
        await reach(rig, waiting["id"], "end_ok(transfer_done)", 60)
        assert len([p for p in rig.of_kind("posting", op="consume") if p["legs"]]) == 1

    play(story, start=SATURDAY)


def test_nothing_is_transferred_by_hand_while_it_waits():
    async def story(rig):
        waiting = await rig.withdrawn("pending(waiting_trade)", channel="hsbc")
        before = await everything(rig, waiting["id"])
        assert (await rig.operate("SetManualTransferDone", waiting)).code is Code.ILLEGAL_STATE
        assert await everything(rig, waiting["id"]) == before

    play(story, start=SATURDAY)


@pytest.mark.req("SBA-WD-021")
def test_the_market_of_the_procedure_decides_whether_the_day_is_one():
    """Monday 25 May 2026: Hong Kong is closed, so is New York (Memorial Day); Friday 1 May only Hong Kong."""
    async def story(rig):
        hong_kong = await created(rig, market=1)
        new_york = await created(rig, market=2)
        await reach(rig, hong_kong["id"], "pending(waiting_trade)", 65)
        sent = await reach(rig, new_york["id"], "pending(transfer_manual)", 65)
        await press(rig, "SetManualTransferFailed", sent)
        await asyncio.sleep(1)
        assert buckets(await rig.money()) == (FULL - AMOUNT, 0, AMOUNT)

    play(story, start="2026-05-01 10:00")
