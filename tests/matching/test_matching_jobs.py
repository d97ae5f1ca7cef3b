"""The three jobs of matching by the clock (tasks-and-monitoring.md §3): when they run, whom they touch, whom not."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from core.deposits.statements import ABNORMAL, CREDITED
from core.domain import ApplyStatus
from core.settings import Settings
from tests.matching.matching_world import BANKS, Desk, tell

DAY = 86_400
DAYS = {**dict.fromkeys(BANKS, 7), "ewb": 15, "citi": 15, "spd": 15}  # gaps.md B-10


async def alone(desk: Desk) -> None:
    """The core's other periodic jobs do not run: weeks pass."""
    await desk.rig.core.timetable.stop()


def runs(desk: Desk, name: str) -> int:
    return next(job.runs for job in desk.timetable.status() if job.name == name)


@pytest.mark.req("JOB-022")
@pytest.mark.parametrize("start", ["2026-03-12 10:00", "2026-03-12 23:30", "2026-03-15 04:00", "2026-02-17 12:00"])
def test_a_round_every_three_minutes_around_the_clock(start: str) -> None:
    """A working day, over midnight, a Sunday night, Lunar New Year (A-55)."""
    async def story(desk: Desk) -> None:
        assert Settings()["jobs.auto_match.period_s"] == 180
        await desk.timetable.start()
        await asyncio.sleep(90)
        before, moments = runs(desk, "AutoMatchRound"), list[int]()
        for _ in range(3600):
            await asyncio.sleep(1)
            if runs(desk, "AutoMatchRound") > before + len(moments):
                moments.append(desk.rig.now_ms // 1000)
        assert len(moments) == 20
        assert {later - earlier for earlier, later in pairwise(moments)} == {180}
        await desk.timetable.stop()

    tell(story, start=start, banks=("hsbc",))


@pytest.mark.req("JOB-023")
@pytest.mark.parametrize("bank", BANKS)
def test_only_what_found_no_owner_for_a_day_is_recorded_and_told_once(bank: str) -> None:
    async def story(desk: Desk) -> None:
        ccy = "USD" if bank == "ewb" else "HKD"
        await alone(desk)
        await desk.applied("bob", 500_000, ccy, bank)
        await desk.timetable.start()
        matched = await desk.arrives("bob", 500_000, ccy, bank)
        lost = await desk.arrives("alice", 700_000, ccy, bank)
        await asyncio.sleep(DAY - 60)
        late = await desk.arrives("alice", 900_000, ccy, bank)
        assert await desk.rooms.abnormal.listed() == [] and desk.alerts("DEP-02") == []
        await asyncio.sleep(2 * 3_600)
        recorded = await desk.rooms.abnormal.listed()
        assert [(one.bank_type, one.flow_id, one.reason) for one in recorded] == [(bank, lost.id, "UNMATCHED")]
        assert [one["key"] for one in desk.alerts("DEP-02")] == [f"F{lost.id}"]
        assert ((await desk.flow(lost)).status, (await desk.flow(matched)).status) == (ABNORMAL, CREDITED)
        await asyncio.sleep(DAY)
        assert [one.flow_id for one in await desk.rooms.abnormal.listed()] == [lost.id, late.id]
        assert len(desk.alerts("DEP-02")) == 2
        await desk.timetable.stop()

    tell(story, banks=(bank,))


@pytest.mark.req("JOB-024")
@pytest.mark.parametrize(("bank", "made", "run"), [
    *((bank, "12:00:00", 1) for bank in BANKS),
    *((bank, made, run) for bank in ("hsbc", "ewb")
      for made, run in (("00:59:59", 0), ("01:00:00", 0), ("01:00:30", 1), ("23:59:59", 1)))])
def test_an_application_is_rejected_at_the_first_run_after_its_days_and_at_none_before(
    bank: str, made: str, run: int
) -> None:
    """``run``: days between the end of its days and that run, at 01:00."""
    async def story(desk: Desk) -> None:
        await alone(desk)
        await desk.rig.until(f"2026-03-02 {made[:5]}")
        await asyncio.sleep(int(made[6:]))
        apply = await desk.applied(ccy="USD", bank=bank)
        await desk.rig.until("2026-03-03 00:30")
        await desk.timetable.start()
        for job in desk.timetable.status():
            if job.name != "ApplyTimeoutReject":
                desk.timetable.pause(job.name)
        before = runs(desk, "ApplyTimeoutReject")
        await asyncio.sleep((DAYS[bank] - 1 + run - 1) * DAY + 3_600)  # 01:30 of the day before
        assert runs(desk, "ApplyTimeoutReject") == before + DAYS[bank] + run - 1
        assert (await desk.apply(apply)).status == ApplyStatus.WAIT_MATCH
        await asyncio.sleep(DAY)
        gone = await desk.apply(apply)
        assert (gone.status, gone.reject_reason) == (ApplyStatus.REJECTED, "TIMEOUT")
        assert [one["event"] for one in desk.rig.of_kind("notify", uid=apply.uid)] == ["DEPOSIT_REJECT"]
        await desk.timetable.stop()

    tell(story, start="2026-03-01 12:00", banks=(bank,))
