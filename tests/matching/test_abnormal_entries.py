"""The list of abnormal deposits and its alert, from the noting of an entry to its end (gaps.md B-10, ALERT-DEP-02)."""

from __future__ import annotations

import asyncio

import pytest

from core.deposits.matching.manual import Done
from core.deposits.statements import ABNORMAL, CANDIDATE, CREDITED, NEW, WINDOW_WAIT, Flow
from core.domain import ApplyStatus
from tests.matching.matching_world import FRONTLINE, Desk, tell

HOUR_S = 3_600


def phases(desk: Desk, rule: str, key: str) -> list[str]:
    return [one["phase"] for one in desk.rig.of_kind("alert", rule=rule, key=key)]


async def noted(desk: Desk, amount: int = 998_000, bank: str = "hsbc") -> Flow:
    """An entry that nobody could match for a day."""
    flow = await desk.arrives(amount=amount, bank=bank)
    await desk.round()
    await asyncio.sleep(25 * HOUR_S)
    assert await desk.rooms.abnormal.detect() == 1
    assert phases(desk, "DEP-02", f"F{flow.id}") == ["raised"]
    return await desk.flow(flow)


@pytest.mark.req("ALERT-DEP-02")
def test_a_match_by_the_round_takes_a_candidate_off_the_list() -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.applied()
        flow = await noted(desk)
        assert flow.status == CANDIDATE
        fitting = await desk.applied(amount=998_000)
        assert await desk.round() == "1 matched"
        await asyncio.sleep(5)
        assert ((await desk.flow(flow)).status, (await desk.apply(fitting)).status) == (CREDITED, ApplyStatus.DONE)
        assert (await desk.apply(apply)).status == ApplyStatus.WAIT_MATCH
        assert await desk.rooms.abnormal.listed() == []
        (row,) = await desk.rooms.abnormal.listed("CLOSED")
        assert (row.flow_id, row.reason, row.handler) == (flow.id, "MATCH", "system")
        assert phases(desk, "DEP-02", f"F{flow.id}") == ["raised", "cleared"]

    tell(story)


@pytest.mark.req("ALERT-DEP-02")
def test_the_alert_stands_as_long_as_people_have_the_entry() -> None:
    """Matched by hand, taken back, matched again, rejected in review, matched once more."""
    async def story(desk: Desk) -> None:
        flow = await noted(desk)
        key, first = f"F{flow.id}", await desk.applied(amount=998_000)
        assert isinstance(await desk.by_hand(flow, first), Done)
        assert phases(desk, "DEP-02", key) == ["raised", "cleared"]
        assert isinstance(await desk.rooms.manual.unmatch("u1", first.id, FRONTLINE), Done)
        assert phases(desk, "DEP-02", key) == ["raised", "cleared", "raised"] and await desk.rooms.abnormal.listed()
        assert isinstance(await desk.by_hand(await desk.flow(flow), first, "q2"), Done)
        await asyncio.sleep(65)
        await desk.rig.operate("CashDepositManualReject", await desk.procedure(first))
        await asyncio.sleep(5)
        (row,) = await desk.rooms.abnormal.listed()
        assert row.reason == "DEPOSIT_REJECTED"
        second = await desk.applied(amount=998_000)
        assert isinstance(await desk.by_hand(await desk.flow(flow), second, "q3"), Done)
        assert phases(desk, "DEP-02", key) == ["raised", "cleared"] * 2, "what the reviewer sees himself is not alerted"

    tell(story)


@pytest.mark.req("ALERT-DEP-02")
def test_an_entry_that_the_bank_strikes_is_off_the_list() -> None:
    async def story(desk: Desk) -> None:
        flow = await noted(desk)
        assert await desk.rooms.crediting.struck(flow) == "" and await desk.rooms.abnormal.listed() == []
        assert phases(desk, "DEP-02", f"F{flow.id}") == ["raised", "cleared"]

    tell(story)


@pytest.mark.parametrize("at", ["2026-03-13 11:30", "2026-03-14 10:30"])  # inside the window, and outside
def test_a_listed_entry_whose_last_candidate_goes_is_for_people(at: str) -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.applied()
        flow = await noted(desk)
        await desk.rig.until(at)
        await desk.round()
        assert (await desk.flow(flow)).status == CANDIDATE
        await desk.rooms.standard.cancel(apply.uid, apply.id)
        told = len(desk.reminders())
        await desk.round()
        gone = await desk.flow(flow)
        assert gone.status == ABNORMAL and await desk.statements.open("hsbc") == [], "no backlog of the machine's"
        assert desk.rig.of_kind("statement", flow=flow.id)[-1]["status"] == ABNORMAL
        await asyncio.sleep(25 * HOUR_S)
        await desk.round()
        assert len(desk.reminders()) == told and await desk.rooms.abnormal.detect() == 0
        assert [row.flow_id for row in await desk.rooms.abnormal.listed()] == [flow.id]
        assert phases(desk, "DEP-02", f"F{flow.id}") == ["raised"], "told once"

        await desk.rig.until("2026-03-16 10:00")
        fitting = await desk.applied(amount=998_000)
        assert await desk.round() == "" and [one.wish for one in await desk.candidates(gone)] == [fitting.id]
        assert isinstance(await desk.by_hand(gone, fitting), Done)
        assert phases(desk, "DEP-02", f"F{flow.id}") == ["raised", "cleared"]

    tell(story)


def test_a_listed_entry_that_waits_for_the_window_or_a_name_is_still_the_machines() -> None:
    async def story(desk: Desk) -> None:
        await desk.rig.until("2026-03-13 08:30")
        await desk.applied()
        flow = await noted(desk)
        await desk.rig.until("2026-03-14 10:30")
        await desk.applied(amount=998_000)
        assert await desk.round() == "" and (await desk.flow(flow)).status == WINDOW_WAIT
        await desk.rig.until("2026-03-16 07:00")
        assert await desk.round() == "1 matched" and await desk.rooms.abnormal.listed() == []

    tell(story)

    async def nameless(desk: Desk) -> None:
        near, flow = await desk.applied(bank="bochk"), await desk.arrives(amount=998_000, bank="bochk", name="")
        await desk.round()
        await asyncio.sleep(25 * HOUR_S)
        assert await desk.rooms.abnormal.detect() == 1 and (await desk.flow(flow)).status == CANDIDATE
        fitting = await desk.applied(amount=998_000, bank="bochk")
        await desk.round()
        assert (await desk.flow(flow)).status == NEW, "the name will come"
        for apply in (near, fitting):
            await desk.rooms.standard.cancel(apply.uid, apply.id)
        await desk.round()
        assert (await desk.flow(flow)).status == ABNORMAL, "and now there is nobody to wait for"

    tell(nameless)
