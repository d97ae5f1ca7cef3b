"""Nothing that was taken in is forgotten, however old or young its statement says it is (gaps.md B-10)."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select

from core.clock import MS_PER_DAY
from core.deposits.statements import ABNORMAL, NEW, Flow, month_of
from core.errors import Refusal
from core.statement import Entry
from core.storage import Statement
from core.storage.primary import flow_month
from tests.matching.matching_world import FRONTLINE, Desk, tell

MONTHS = Statement(select(flow_month.c.bank_type, flow_month.c.month).order_by(
    flow_month.c.bank_type, flow_month.c.month))
HOUR_S = 3_600


def entry(desk: Desk, days: int, ref: str = "LATE", bank: str = "hsbc") -> Entry:
    """A payment of alice's that the bank tells so many days late."""
    return Entry(bank, f"our-{bank}-HKD", ref, "HKD", 1_000_000, "C", desk.rig.now_ms - days * MS_PER_DAY,
                 en_name=desk.accounts.names_of[desk.uid("alice")], payer_acct=desk.card("alice", bank))


async def taken(desk: Desk, *entries: Entry) -> list[Flow]:
    for one in entries:
        assert (await desk.statements.take(one.bank, [one], "sftp")).accepted == 1
    return await desk.statements.open(entries[0].bank)


@pytest.mark.req("DEP-02")
@pytest.mark.parametrize("days", [0, 40, 65, 100, 400, 2_000, -40, -400])
def test_an_entry_of_any_month_is_abnormal_with_an_alert_after_a_day(days: int) -> None:
    async def story(desk: Desk) -> None:
        [flow] = await taken(desk, entry(desk, days))
        assert flow.status == NEW
        await desk.round()
        await asyncio.sleep(23 * HOUR_S)
        assert await desk.rooms.abnormal.detect() == 0
        await asyncio.sleep(2 * HOUR_S)
        assert await desk.rooms.abnormal.detect() == 1
        assert (await desk.flow(flow)).status == ABNORMAL
        assert [alert["key"] for alert in desk.alerts("DEP-02")] == [f"F{flow.id}"]
        assert [one.flow_id for one in await desk.rooms.abnormal.listed()] == [flow.id]

    tell(story)


@pytest.mark.req("DEP-02")
@pytest.mark.parametrize("days", [100, -100])
def test_another_core_still_knows_of_it(days: int) -> None:
    async def story(desk: Desk) -> None:
        [flow] = await taken(desk, entry(desk, days))
        desk.rig.world.kill(restart_ms=1_000)
        await asyncio.sleep(5)
        assert await desk.statements.open("hsbc") == [flow]
        await asyncio.sleep(26 * HOUR_S)
        assert await desk.rooms.abnormal.detect() == 1 == len(desk.alerts("DEP-02"))

    tell(story)


def test_an_entry_that_stays_open_outlives_the_look_back() -> None:
    async def story(desk: Desk) -> None:
        [flow] = await taken(desk, entry(desk, 0))
        assert await desk.statements.open("hsbc") == [flow]
        await asyncio.sleep(32 * 24 * HOUR_S)
        assert month_of(flow.id) not in desk.statements.recent_months()
        assert [one.id for one in await desk.statements.open("hsbc")] == [flow.id]

    tell(story, start="2026-03-31 10:00", settings={"match.look_back_months": 1})


def test_a_month_is_looked_at_no_more_when_it_is_past_and_settled() -> None:
    """It is remembered while anything in it is open, and again when something more comes in."""

    async def story(desk: Desk) -> None:
        flows = await taken(desk, entry(desk, 100, "A"), entry(desk, 160, "B"), entry(desk, 0, "C"))
        months = [("hsbc", month_of(flow.id)) for flow in flows]
        assert await desk.db.all(MONTHS, {}) == months and len(months) == 3
        async with desk.db.transaction() as tx:
            assert await desk.statements.change(tx, flows[0], status=ABNORMAL) is not None
        assert await desk.statements.open("hsbc") == flows[1:]
        assert await desk.db.all(MONTHS, {}) == months[1:]
        again = entry(desk, 160, "D")
        assert len(await taken(desk, again)) == 3
        assert await desk.db.all(MONTHS, {}) == months

    tell(story)


def test_a_month_that_may_still_be_written_is_kept_though_nothing_in_it_is_open() -> None:
    async def story(desk: Desk) -> None:
        flows = await taken(desk, entry(desk, 0, "A"), entry(desk, -40, "B"))
        async with desk.db.transaction() as tx:
            for flow in flows:
                await desk.statements.change(tx, flow, status=ABNORMAL)
        assert await desk.statements.open("hsbc") == []
        assert len(await desk.db.all(MONTHS, {})) == 2

    tell(story)


def test_what_was_rolled_back_leaves_no_month_behind_and_the_next_one_is_remembered() -> None:
    async def story(desk: Desk) -> None:
        async def dies(_tx: object) -> None:
            raise ZeroDivisionError

        one = entry(desk, 0)
        with pytest.raises(ZeroDivisionError):
            await desk.statements.take("hsbc", [one], "sftp", dies)
        assert await desk.db.all(Statement(select(func.count()).select_from(flow_month)), {}) == [(0,)]
        assert len(await taken(desk, one)) == 1

    tell(story)


@pytest.mark.req("DEP-02")
@pytest.mark.parametrize("days", [0, 100])
def test_a_match_that_is_taken_back_leaves_an_entry_of_the_peoples_with_them(days: int) -> None:
    async def story(desk: Desk) -> None:
        [flow] = await taken(desk, entry(desk, days))
        await asyncio.sleep(26 * HOUR_S)
        assert await desk.rooms.abnormal.detect() == 1 and await desk.statements.open("hsbc") == []
        apply = await desk.applied()
        assert not isinstance(await desk.by_hand(await desk.flow(flow), apply), Refusal)
        assert await desk.rooms.abnormal.listed() == []
        assert not isinstance(await desk.rooms.manual.unmatch("u1", apply.id, FRONTLINE), Refusal)
        assert [(one.flow_id, one.status) for one in await desk.rooms.abnormal.listed()] == [(flow.id, "OPEN")]
        back = await desk.flow(flow)
        assert (back.status, back.is_used) == (ABNORMAL, 0) and await desk.round() == "", "no machine matches it"
        assert not isinstance(await desk.by_hand(back, apply, "q2"), Refusal)

    tell(story)


@pytest.mark.req("DEP-02")
def test_a_match_that_is_taken_back_in_a_month_that_was_done_with_is_seen_again() -> None:
    async def story(desk: Desk) -> None:
        [flow] = await taken(desk, entry(desk, 100))
        apply = await desk.applied()
        assert not isinstance(await desk.by_hand(flow, apply), Refusal)
        assert await desk.statements.open("hsbc") == [] and await desk.statements.open_months("hsbc") == []
        assert not isinstance(await desk.rooms.manual.unmatch("u1", apply.id, FRONTLINE), Refusal)
        assert [(one.id, one.status) for one in await desk.statements.open("hsbc")] == [(flow.id, NEW)]

    tell(story)
