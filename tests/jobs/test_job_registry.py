"""The registry of jobs and their schedules (JOB-001; gaps.md A-08, B-15)."""

from __future__ import annotations

from datetime import date, datetime

import pytest

from core.alerts import RULES
from core.calendars import Calendars
from core.clock import HKT, epoch_ms, hkt
from core.errors import Misconfigured
from core.jobs import REGISTRY, Domain, domains, entry_of, unbuilt
from core.jobs.registry import in_connection, keys_of, numbers, periodic, queued, waits_of
from core.jobs.schedules import Daily, Days, Every, in_force, moments_of
from core.settings import Settings

DEFAULTS = Settings()


def at(*moment: int) -> int:
    return epoch_ms(datetime(*moment, tzinfo=HKT))  # type: ignore[misc,arg-type]


@pytest.mark.req("JOB-001")
def test_domains_show_documented_and_actual_count() -> None:
    counts = {row.domain: (row.documented, row.actual) for row in domains()}
    assert {domain: counts[domain] for domain in (
        Domain.BST, Domain.MATCHING, Domain.EDDA, Domain.RECONCILIATION)} == {
        Domain.BST: (7, 10), Domain.MATCHING: (3, 3), Domain.EDDA: (4, 4), Domain.RECONCILIATION: (2, 2)}
    assert all(documented is None for domain, (documented, _) in counts.items() if domain not in (
        Domain.BST, Domain.MATCHING, Domain.EDDA, Domain.RECONCILIATION))


@pytest.mark.req("JOB-001")
def test_every_job_stands_in_exactly_one_domain() -> None:
    listed = [name for row in domains() for name in (*row.jobs, *row.support)]
    assert sorted(listed) == sorted(entry.name for entry in REGISTRY)
    assert len(set(listed)) == len(listed)


def test_every_number_is_a_setting_with_its_source() -> None:
    for entry in REGISTRY:
        for number in numbers(entry, DEFAULTS):
            assert number.ref, number
    documented = {number.key for entry in REGISTRY for number in numbers(entry, DEFAULTS) if number.documented}
    assert documented == {  # the values in bold of B-15
        "airstar.poll.deposit.interval_ms", "airstar.poll.deposit.max", "airstar.poll.withdraw.interval_ms",
        "airstar.poll.withdraw.max", "airstar.sync.pull_s", "jobs.fetch_bank_request.period_s",
        "jobs.auto_match.period_s", "jobs.cgb_fps.waits_s", "jobs.cgb_fps.max", "jobs.bochk.convert_at"}


def test_every_setting_of_a_job_is_used() -> None:
    worker = ("jobs.lease_ms", "jobs.concurrency", "jobs.hung_s", "jobs.trace_polls", "jobs.sweep.", "jobs.lock.")
    used = {key for entry in REGISTRY for key in keys_of(entry)}
    assert [key for key in DEFAULTS if key.startswith("jobs.") and not key.startswith(worker) and key not in used] == []


def test_every_entry_can_be_read() -> None:
    for entry in REGISTRY:
        assert periodic(entry) or queued(entry) or in_connection(entry), entry
        for schedule in periodic(entry):
            moments_of(schedule, DEFAULTS)
    assert {"JOB-01", "JOB-02"} <= set(RULES)


def test_waits_follow_the_documented_ladders() -> None:
    waits = waits_of(DEFAULTS)
    assert waits["AsbBstCreateResultJob"] == (3_000,)
    assert waits["AsbBstDepositJob"] == (1_000, 5_000, 30_000)
    cgb = waits["SyncCgbFpsResult"]
    assert [cgb[poll - 1] // 1000 for poll in (1, 100, 101, 200, 201, 300, 301, 1000)] == [
        10, 10, 20, 20, 30, 30, 40, 40]
    assert sum(cgb) == 34_000_000


def test_what_is_not_built_is_told() -> None:
    names = [entry.name for entry in REGISTRY]
    assert unbuilt(names, names) == ()
    assert unbuilt(names, [name for name in names if name != "DailyReconJob"]) == ("DailyReconJob",)
    assert unbuilt([], names) == tuple(entry.name for entry in REGISTRY if queued(entry))
    assert "SyncAsbBstWithdraw" in unbuilt(["SyncAsbBstWithdraw"], []), "it has two functions (A-38)"


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(Misconfigured, match="DailyRekonJob"):
        entry_of("DailyRekonJob")


# Moments


@pytest.mark.parametrize(("period", "asked", "expected"), [
    (120, (2026, 3, 12, 9, 0, 0), (2026, 3, 12, 9, 0, 0)),
    (120, (2026, 3, 12, 9, 0, 1), (2026, 3, 12, 9, 2, 0)),
    (120, (2026, 3, 12, 23, 58, 1), (2026, 3, 13, 0, 0, 0)),
    (7_000, (2026, 3, 12, 23, 0, 0), (2026, 3, 12, 23, 20, 0)),
    (7_000, (2026, 3, 12, 23, 20, 1), (2026, 3, 13, 0, 0, 0)),  # the grid begins anew each day
    (86_400, (2026, 3, 12, 0, 0, 1), (2026, 3, 13, 0, 0, 0)),
])
def test_a_period_counts_from_the_start_of_the_hong_kong_day(
    period: int, asked: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    moments = moments_of(Every("jobs.monitor.period_s"), Settings({"jobs.monitor.period_s": period}))
    assert hkt(moments.first_from(at(*asked))) == hkt(at(*expected))


def test_hours_are_half_open() -> None:
    moments = moments_of(Every("jobs.eddi_result.period_s", ("jobs.eddi_result.from", "jobs.eddi_result.until")),
                         DEFAULTS)
    assert moments.first_from(at(2026, 3, 12, 3)) == at(2026, 3, 12, 7)
    assert moments.first_from(at(2026, 3, 12, 17, 50)) == at(2026, 3, 12, 17, 50)
    assert moments.first_from(at(2026, 3, 12, 17, 50, 1)) == at(2026, 3, 13, 7)


def test_times_of_the_day() -> None:
    moments = moments_of(Daily("jobs.edda_report.at"), DEFAULTS)
    assert moments.first_from(at(2026, 3, 12, 7, 30)) == at(2026, 3, 12, 7, 30)
    assert moments.first_from(at(2026, 3, 12, 7, 30, 1)) == at(2026, 3, 12, 18, 30)
    assert moments.first_from(at(2026, 3, 12, 19)) == at(2026, 3, 13, 7, 30)


@pytest.mark.parametrize(("day", "days", "expected"), [
    (date(2026, 4, 3), Days.ALL, True),
    (date(2026, 4, 3), Days.BUSINESS, False),  # Good Friday
    (date(2026, 4, 3), Days.TRADING, False),
    (date(2026, 4, 6), Days.BUSINESS, False),  # Hong Kong rests, New York trades
    (date(2026, 4, 6), Days.TRADING, True),
    (date(2026, 3, 12), Days.BUSINESS, True),
    (date(2026, 1, 1), Days.QUARTER_START, False),
    (date(2026, 1, 2), Days.QUARTER_START, True),
    (date(2026, 1, 5), Days.QUARTER_START, False),
    (date(2026, 4, 1), Days.QUARTER_START, True),
    (date(2026, 5, 4), Days.QUARTER_START, False),
])
def test_days_in_force(day: date, days: Days, expected: bool) -> None:
    assert in_force(days, at(day.year, day.month, day.day, 9), Calendars(DEFAULTS)) is expected


@pytest.mark.parametrize(("overlay", "says"), [
    ({"jobs.monitor.period_s": 0}, "jobs.monitor.period_s: 0 is too small"),
    ({"jobs.monitor.period_s": 90_000}, "90000"),
    ({"jobs.apply_timeout.at": []}, "lists no time"),
    ({"jobs.apply_timeout.at": ["25:00"]}, "no time of day"),
    ({"jobs.apply_timeout.at": ["9:5"]}, "no time of day"),
    ({"jobs.eddi_result.from": "17:00", "jobs.eddi_result.until": "16:00"}, "no multiple"),
])
def test_a_schedule_that_makes_no_sense_is_refused(overlay: dict[str, object], says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        for entry in REGISTRY:
            for schedule in periodic(entry):
                moments_of(schedule, Settings(overlay))
