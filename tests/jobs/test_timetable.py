"""The timetable: moments, overlap, hung runs, failures (JOB-017, JOB-031, JOB-032; gaps.md B-15)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any

import pytest

from core.calendars import Calendars, Override
from core.clock import HKT, epoch_ms, hkt
from core.domain import Market, Role
from core.errors import InvariantBroken, Misconfigured
from core.jobs import Timetable
from core.jobs.statements import RUNS_OF
from core.settings import Settings
from core.storage import Severed

World = Any
Function = Callable[[], Awaitable[object]]


def timetable(world: World, functions: dict[str, Function], worker: str = "w1", calendar: Any = None,
              **overlay: Any) -> Timetable:
    settings = Settings({f"jobs.{key.replace('__', '.')}": value for key, value in overlay.items()})
    made = Timetable(world.databases.primary, world.clock, world.trace, world.locks, worker, settings,
                     calendar or Calendars(settings), functions, world.spawn)
    world.run(made.start())
    return made


class Recorder:
    """A job's function: notes when it begins, takes so long, returns or raises what it is told."""

    def __init__(self, world: World, *takes_s: float, result: object = None) -> None:
        self.world, self.takes, self.result = world, list(takes_s), result
        self.begun: list[float] = []
        self.running = self.most = 0

    async def __call__(self) -> object:
        self.begun.append(self.world.now)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.takes:
                await asyncio.sleep(self.takes.pop(0))
            if isinstance(self.result, Exception):
                raise self.result
            return self.result
        finally:
            self.running -= 1


def runs(world: World, name: str) -> list[tuple[float, float | None, str, int]]:
    """Rows of job_run: (started, finished, outcome, skipped), seconds since the world began."""
    rows = world.run(world.databases.primary.all(RUNS_OF, {"b_job": name}))
    return [((started - world.origin) / 1000, None if finished is None else (finished - world.origin) / 1000,
             outcome, skipped) for _, _, started, finished, outcome, skipped in rows]


# Moments


def test_runs_come_at_aligned_moments_at_a_fixed_rate(make_world: Callable[..., World]) -> None:
    world = make_world(9 * 3_600_000 + 50_000)  # 09:00:50
    fetch = Recorder(world, 7, 100, 0)
    timetable(world, {"FetchBankRequest": fetch})
    world.pass_s(500)
    assert fetch.begun == [70, 190, 310, 430], "09:02, 09:04 …, whatever a run takes"


def test_a_moment_that_is_now_counts(world: World) -> None:
    fetch = Recorder(world)
    timetable(world, {"FetchBankRequest": fetch})
    world.pass_s(1)
    assert fetch.begun == [0]


def test_jobs_at_times_of_the_day(make_world: Callable[..., World]) -> None:
    world = make_world(0)
    recon, report, diff = Recorder(world), Recorder(world), Recorder(world)
    timetable(world, {"DailyReconJob": recon, "HsbcEddaReport": report, "ReconDiffJob": diff})
    world.pass_s(2 * 86_400)
    assert [f"{hkt(world.origin + round(t * 1000)):%d %H:%M}" for t in report.begun] == [
        "12 07:30", "12 18:30", "13 07:30", "13 18:30"]
    assert recon.begun == [5 * 3_600, 29 * 3_600]
    assert diff.begun == [5.5 * 3_600, 29.5 * 3_600]


def test_business_days_only_as_known_at_the_moment(make_world: Callable[..., World]) -> None:
    """11:05 on Friday 13 and Monday 16 March; a typhoon known on Monday 08:00 closes Monday."""
    world = make_world(0)
    calendar = Calendars(Settings())
    assert isinstance(calendar.add_override(
        Market.HK, date(2026, 3, 16), False, operator="staff_0042", role=Role.SETTLEMENT,
        known_from_ms=epoch_ms(datetime(2026, 3, 16, 8, tzinfo=HKT))), Override)
    export = Recorder(world)
    timetable(world, {"WithdrawFileExport": export}, calendar=calendar)
    world.pass_s(6 * 86_400)
    assert [f"{hkt(world.origin + round(t * 1000)):%m-%d %H:%M}" for t in export.begun] == [
        "03-12 11:05", "03-13 11:05", "03-17 11:05"]


def test_two_schedules_of_one_job(make_world: Callable[..., World]) -> None:
    world = make_world(4 * 3_600_000)  # 04:00
    sync = Recorder(world)
    table = timetable(world, {"SyncBstDataHelper": sync})
    for passed, following in ((0, 900), (900, 1_800), (900, 3_600), (1_800, 5_400)):
        world.pass_s(passed)
        assert table.status()[0].next_ms == world.origin + following * 1_000
    assert sync.begun == [0, 900, 1_800, 3_600], "every 30 min, and 04:15"


# Overlap (JOB-031)


@pytest.mark.req("JOB-031")
def test_a_job_never_overlaps_itself_and_skipped_runs_are_counted(world: World) -> None:
    fetch = Recorder(world, 300)
    table = timetable(world, {"FetchBankRequest": fetch})
    world.pass_s(700)
    assert fetch.begun == [0, 360, 480, 600], "120 and 240 are skipped"
    assert fetch.most == 1
    (status,) = table.status()
    assert (status.runs, status.skipped) == (4, 2)
    assert runs(world, "FetchBankRequest") == [(0, 300, "nothing to do", 2)]
    assert [data["state"] for data in world.told("job")] == ["SKIPPED", "SKIPPED"]


@pytest.mark.req("JOB-031")
@pytest.mark.parametrize(("name", "period"), [("CgbCreditPull", 10), ("FetchBankRequest", 120)])
def test_a_run_longer_than_the_locks_ttl_is_not_overlapped_either(world: World, name: str, period: int) -> None:
    long = Recorder(world, 20 * period + 1)
    first = timetable(world, {name: long}, "w1")
    timetable(world, {name: long}, "w2")
    world.pass_s(20 * period)
    assert long.begun == [0]
    assert first.status()[0].skipped == 20
    world.pass_s(2 * period)
    assert long.most == 1
    assert len(long.begun) > 1


@pytest.mark.req("JOB-031", "LOCK-03")
def test_another_workers_run_is_not_overlapped_and_a_dead_ones_lock_frees_by_ttl(world: World) -> None:
    first, second = Recorder(world, 10_000), Recorder(world)
    dead = timetable(world, {"WithdrawDriveJob": first}, "w1")
    world.pass_s(30)
    other = timetable(world, {"WithdrawDriveJob": second}, "w2")
    dead.halt()
    world.pass_s(600)
    assert second.begun[0] == 180, "3 periods after the dead worker took it"
    assert other.status()[0].skipped == 2
    assert [outcome for _, _, outcome, _ in runs(world, "WithdrawDriveJob")] == ["skipped: another worker's run"] * 2


def test_a_run_that_lost_its_lock_is_cancelled(world: World) -> None:
    fetch = Recorder(world, 10_000)
    table = timetable(world, {"FetchBankRequest": fetch})
    world.pass_s(10)
    world.locks._held["job:FetchBankRequest"] = ("somebody:1", world.clock.now_ms() + 1_000_000)
    world.pass_s(120)
    assert fetch.running == 0
    assert table.status()[0].running_since_ms is None
    assert world.told("job")[-1]["error"] == "lock lost: the run is cancelled"


def test_the_lock_of_a_job_at_fixed_times_is_kept_too(make_world: Callable[..., World]) -> None:
    world = make_world(5 * 3_600_000)
    recon = Recorder(world, 7_200)
    table = timetable(world, {"DailyReconJob": recon})
    world.pass_s(7_000)
    assert world.run(world.locks.acquire("job:DailyReconJob", "w2", 1_000)) is None
    world.pass_s(300)
    assert table.status()[0].last_finished_ms == world.origin + 7_200_000
    assert world.run(world.locks.acquire("job:DailyReconJob", "w2", 1_000)) is not None


# Hung runs (JOB-032)


@pytest.mark.req("JOB-032")
@pytest.mark.parametrize(("name", "start_ms", "after_s"), [
    ("FetchBankRequest", 9 * 3_600_000, 360), ("CgbCreditPull", 9 * 3_600_000, 30),
    ("DailyReconJob", 5 * 3_600_000, 1_800), ("EddiResultQuery", 17 * 3_600_000 + 3_000_000, 1_800)])
def test_a_run_not_finished_within_three_periods_is_reported_once(
    make_world: Callable[..., World], name: str, start_ms: int, after_s: int
) -> None:
    world = make_world(start_ms)
    timetable(world, {name: Recorder(world, 10 * after_s)})
    world.pass_s(after_s - 1)
    assert world.told("alert") == []
    world.pass_s(1)
    (alert,) = world.told("alert")
    assert (alert["rule"], alert["key"], alert["phase"]) == ("JOB-02", name, "raised")
    world.pass_s(4 * after_s)
    assert len(world.told("alert")) == 1
    assert [row[1:3] for row in runs(world, name)] == [(None, "hung")]


@pytest.mark.req("JOB-032")
def test_a_run_that_finishes_just_in_time_is_not_reported(world: World) -> None:
    timetable(world, {"FetchBankRequest": Recorder(world, 359.9)})
    world.pass_s(1_000)
    assert world.told("alert") == []


def test_a_hung_run_that_ends_after_all_says_so(world: World) -> None:
    timetable(world, {"FetchBankRequest": Recorder(world, 400, result=3)})
    world.pass_s(450)
    assert runs(world, "FetchBankRequest") == [(0, 400, "hung, then 3", 3)]


# Failures (JOB-017)


def test_a_failed_run_is_noted_and_the_next_moment_is_the_retry(world: World) -> None:
    fetch = Recorder(world, result=ValueError("bank-requests: 140630016"))
    table = timetable(world, {"FetchBankRequest": fetch})
    world.pass_s(130)
    fetch.result = 2
    world.pass_s(120)
    assert fetch.begun == [0, 120, 240]
    assert [row[2:] for row in runs(world, "FetchBankRequest")] == [
        ("failed: ValueError: bank-requests: 140630016", 0), ("failed: ValueError: bank-requests: 140630016", 0),
        ("2", 0)]
    assert [data["state"] for data in world.told("job")] == ["RETRY", "RETRY", "DONE"]
    assert world.told("job")[0]["due_ms"] == world.origin + 120_000
    (status,) = table.status()
    assert (status.failed, status.last_error) == (2, "ValueError: bank-requests: 140630016")
    assert world.told("alert") == []


def test_a_daily_job_is_repeated_three_times_every_ten_minutes(make_world: Callable[..., World]) -> None:
    world = make_world(5 * 3_600_000)
    recon = Recorder(world, result=ValueError("no statement"))
    timetable(world, {"DailyReconJob": recon})
    world.pass_s(86_399)
    assert recon.begun == [0, 600, 1_200, 1_800]
    (alert,) = world.told("alert")
    assert (alert["rule"], alert["key"]) == ("JOB-01", "DailyReconJob")
    assert [data["state"] for data in world.told("job")] == ["RETRY", "RETRY", "RETRY", "EXCEPTION"]
    world.pass_s(2)
    assert len(recon.begun) == 5, "the next day it begins anew"


@pytest.mark.parametrize("after", ["w1", "w2", "w1 dies"])
def test_a_job_that_has_given_up_is_told_once_and_cleared_by_its_next_success(
    make_world: Callable[..., World], after: str
) -> None:
    world = make_world(5 * 3_600_000)
    recon = Recorder(world, result=ValueError("no statement"))
    first = timetable(world, {"DailyReconJob": recon})
    world.pass_s(3_600)
    if after == "w2":
        timetable(world, {"DailyReconJob": recon}, "w2")
        first.pause("DailyReconJob")
    elif after == "w1 dies":
        first.halt()
        world.databases = world.databases.reopen()
        timetable(world, {"DailyReconJob": recon})
    world.pass_s(86_400)
    assert [alert["phase"] for alert in world.told("alert")] == ["raised"], "it gave up again, and that stands"
    recon.result = 0
    world.pass_s(2 * 86_400)
    assert [(alert["rule"], alert["key"], alert["phase"]) for alert in world.told("alert")] == [
        ("JOB-01", "DailyReconJob", "raised"), ("JOB-01", "DailyReconJob", "cleared")]
    recon.result = ValueError("no statement")
    world.pass_s(86_400)
    assert [alert["phase"] for alert in world.told("alert")] == ["raised", "cleared", "raised"]


def test_a_repetition_that_succeeds_ends_them(make_world: Callable[..., World]) -> None:
    world = make_world(5 * 3_600_000)
    recon = Recorder(world, result=ValueError("no statement"))
    timetable(world, {"DailyReconJob": recon})
    world.pass_s(1)
    recon.result = "0 differences"
    world.pass_s(86_000)
    assert recon.begun == [0, 600]
    assert world.told("alert") == []


def test_a_broken_invariant_goes_up(make_world: Callable[..., World]) -> None:
    world = make_world()
    timetable(world, {"FetchBankRequest": Recorder(world, result=InvariantBroken("books"))})
    world.pass_s(1)
    assert [str(error) for error in world.raised] == ["books"]


# Cost and operations


def test_a_run_that_finds_nothing_writes_nothing(world: World) -> None:
    before = world.databases.commits, len(world.events)
    table = timetable(world, {"FetchBankRequest": Recorder(world, result=0), "AutoMatchRound": Recorder(world)})
    world.pass_s(86_400)
    assert (world.databases.commits, len(world.events)) == before
    assert [status.runs for status in table.status()] == [721, 481]


def test_a_paused_job_stays_where_it_is(world: World) -> None:
    drive, other = Recorder(world), Recorder(world)
    table = timetable(world, {"WithdrawDriveJob": drive, "MoveNextResumeJob": other})
    world.pass_s(61)
    table.pause("WithdrawDriveJob")
    world.pass_s(300)
    assert (len(drive.begun), len(other.begun)) == (2, 7)
    assert table.status()[0].paused
    table.resume("WithdrawDriveJob")
    world.pass_s(60)
    assert drive.begun[2:] == [420]
    assert table.status()[0].skipped == 0


def test_an_operator_runs_a_job_at_once(world: World) -> None:
    export = Recorder(world, 10, result=4)
    table = timetable(world, {"WithdrawFileExport": export})
    world.pass_s(5)
    assert table.run_now("WithdrawFileExport", "staff_0042")
    world.pass_s(5)
    assert not table.run_now("WithdrawFileExport", "staff_0042"), "it is running"
    world.pass_s(60)
    assert export.begun == [5]
    assert [data["result"] for data in world.told("staff", "staff_0042")] == ["OK", "a run is in progress"]


def test_stopping_waits_for_what_runs(world: World) -> None:
    fetch = Recorder(world, 30, result=1)
    table = timetable(world, {"FetchBankRequest": fetch})
    world.pass_s(5)
    world.run(table.stop())
    assert world.now == 30
    world.pass_s(1_000)
    assert fetch.begun == [0]
    assert len(runs(world, "FetchBankRequest")) == 1


def test_a_killed_core_writes_nothing_and_keeps_its_lock(make_world: Callable[..., World]) -> None:
    world = make_world()
    table = timetable(world, {"FetchBankRequest": Recorder(world, 30, result=1)})
    world.pass_s(5)
    table.halt()
    world.databases = world.databases.reopen()
    world.pass_s(60)
    assert [type(error) for error in world.raised] == [Severed]
    assert runs(world, "FetchBankRequest") == []
    assert world.run(world.locks.acquire("job:FetchBankRequest", "w2", 1_000)) is None


@pytest.mark.parametrize("name", ["AsbBstTransfer", "FetchBankRequests"])
def test_only_periodic_jobs_of_the_registry_are_taken(world: World, name: str) -> None:
    with pytest.raises(Misconfigured, match=name):
        timetable(world, {name: Recorder(world)})
