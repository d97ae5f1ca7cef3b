"""The durable job queue: verdicts, retries, leases, order, limits (JOB-018, JOB-019; gaps.md A-41, A-74)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from core.domain import JobState
from core.errors import InvariantBroken, Misconfigured
from core.jobs import Again, Done, Exhausted, Failed, Job, Jobs, Verdict
from core.jobs.queue import LeaseLost
from core.jobs.statements import FREE_JOBS, RENEW
from core.settings import Settings
from core.storage import Severed, Statement
from core.storage.primary import nick_list, queue

World = Any


def always(verdict: Verdict) -> Callable[[Job], Any]:
    async def handler(job: Job) -> Verdict:
        return verdict

    return handler


def polling(world: World, every_ms: int = 3_000, error: str = "") -> tuple[Callable[[Job], Any], list[float]]:
    """A handler that polls at fixed rate and never gets a result; the moments of its runs."""
    moments: list[float] = []

    async def poll(job: Job) -> Verdict:
        moments.append(world.now)
        if job.retry_count + 1 >= job.max_retry:
            return Exhausted(error)
        return Again(job.due_ms + every_ms, error)

    return poll, moments


# Verdicts


@pytest.mark.parametrize(("verdict", "state", "error"), [
    (Done(), JobState.DONE, ""),
    (Failed("140630014"), JobState.FAILED, "140630014"),
    (Exhausted("no result"), JobState.EXCEPTION, "no result"),
])
def test_a_verdict_ends_the_job(world: World, verdict: Verdict, state: JobState, error: str) -> None:
    jobs = world.started({"Once": always(verdict)})
    world.queue(jobs, "Once")
    world.pass_s(100)
    row = world.row(jobs, "Once")
    assert (row.state, row.last_error, row.lease_owner, row.lease_until) == (state, error, None, None)
    assert world.states("Once") == ["READY", state.name]
    assert world.run(jobs.open_jobs()) == []
    assert [record.id for record in world.run(jobs.in_state(state))] == [row.id]


def test_a_job_runs_at_its_due_moment(world: World) -> None:
    ran: list[float] = []

    async def handler(job: Job) -> Verdict:
        ran.append(world.now)
        return Done()

    jobs = world.started({"Once": handler})
    world.queue(jobs, "Once", after_s=12.345)
    world.pass_s(12.344)
    assert ran == []
    world.pass_s(1)
    assert ran == [12.345]


def test_polls_are_start_to_start_whatever_an_answer_takes(world: World) -> None:
    moments: list[float] = []

    async def poll(job: Job) -> Verdict:
        moments.append(world.now)
        await asyncio.sleep(0.7)
        return Again(job.due_ms + 3_000) if len(moments) < 5 else Done()

    jobs = world.started({"Poll": poll})
    world.queue(jobs, "Poll", after_s=3, max_retry=60)
    world.pass_s(60)
    assert moments == [3, 6, 9, 12, 15]


def test_a_late_poll_keeps_the_grid_and_leaves_out_what_is_past(world: World) -> None:
    moments: list[float] = []

    async def poll(job: Job) -> Verdict:
        moments.append(world.now)
        await asyncio.sleep(7 if len(moments) == 2 else 0)
        return Again(job.next_on_grid(3_000, world.clock.now_ms())) if len(moments) < 4 else Done()

    jobs = world.started({"Poll": poll})
    world.queue(jobs, "Poll", after_s=3, max_retry=60)
    world.pass_s(60)
    assert moments == [3, 6, 15, 18]


def test_the_payload_of_a_verdict_replaces_the_jobs(world: World) -> None:
    seen: list[dict[str, Any]] = []

    async def handler(job: Job) -> Verdict:
        seen.append(dict(job.payload))
        return Again(job.due_ms + 1_000, payload=job.payload | {"request": "R7"}) if len(seen) == 1 else Done()

    jobs = world.started({"Poll": handler})
    world.queue(jobs, "Poll", payload={"apply": 1})
    world.pass_s(10)
    assert seen == [{"apply": 1}, {"apply": 1, "request": "R7"}]
    assert world.row(jobs, "Poll").payload == {"apply": 1, "request": "R7"}


def test_a_handler_without_a_verdict_breaks_an_invariant(make_world: Callable[[], World]) -> None:
    world = make_world()
    jobs = world.started({"Once": always(None)})  # type: ignore[arg-type]
    world.queue(jobs, "Once")
    world.pass_s(1)
    assert [type(error) for error in world.raised] == [InvariantBroken]


# Retries (JOB-018)


@pytest.mark.req("JOB-018")
def test_one_retry_more_than_allowed_makes_an_exception_and_an_alert(world: World) -> None:
    ran: list[float] = []

    async def handler(job: Job) -> Verdict:
        ran.append(world.now)
        return Again(job.due_ms + 1_000, "140630016")

    jobs = world.started({"Once": handler})
    world.queue(jobs, "Once", max_retry=3)
    world.pass_s(100)
    assert ran == [0, 1, 2, 3], "three retries after the first run"
    row = world.row(jobs, "Once")
    assert (row.state, row.retry_count) == (JobState.EXCEPTION, 3)
    (alert,) = world.told("alert")
    assert (alert["rule"], alert["key"], alert["phase"]) == ("JOB-01", f"J{row.id}", "raised")
    assert "140630016" in alert["detail"]
    assert world.states("Once") == ["READY", "RETRY", "RETRY", "RETRY", "EXCEPTION"]


@pytest.mark.req("JOB-018")
@pytest.mark.parametrize("polls", [60, 10])
def test_polls_end_after_exactly_so_many(world: World, polls: int) -> None:
    poll, moments = polling(world)
    jobs = world.started({"Poll": poll})
    world.queue(jobs, "Poll", after_s=3, max_retry=polls)
    world.pass_s(1_000)
    assert moments == [3.0 * k for k in range(1, polls + 1)]
    row = world.row(jobs, "Poll")
    assert (row.state, row.retry_count, row.max_retry) == (JobState.EXCEPTION, polls, polls)
    assert len(world.told("alert")) == 1


def test_a_run_that_does_not_count_uses_no_retry(world: World) -> None:
    runs = 0

    async def handler(job: Job) -> Verdict:
        nonlocal runs
        runs += 1
        return Again(job.due_ms + 1_000, counts=False) if runs < 50 else Done()

    jobs = world.started({"Once": handler})
    world.queue(jobs, "Once", max_retry=0)
    world.pass_s(100)
    assert (world.row(jobs, "Once").state, world.row(jobs, "Once").retry_count, runs) == (JobState.DONE, 0, 50)


@pytest.mark.req("JOB-018")
def test_an_exception_of_a_handler_is_retried_on_its_waits_and_then_given_up(world: World) -> None:
    ran: list[float] = []

    async def handler(job: Job) -> Verdict:
        ran.append(world.now)
        raise ValueError(f"attempt {job.retry_count}")

    jobs = world.started({"Credit": handler})
    world.queue(jobs, "Credit", max_retry=3)
    world.pass_s(100)
    assert ran == [0, 1, 6, 36], "1, 5 and 30 s after each failure"
    row = world.row(jobs, "Credit")
    assert (row.state, row.retry_count, row.last_error) == (JobState.EXCEPTION, 3, "ValueError: attempt 3")
    assert [alert["rule"] for alert in world.told("alert")] == ["JOB-01"]


def test_a_handler_may_name_its_own_alert_or_raise_it_itself(world: World) -> None:
    jobs = world.started({"Poll": always(Exhausted("x", "AIRSTAR-04", "A17")), "Once": always(Exhausted("x", ""))})
    world.queue(jobs, "Poll")
    world.queue(jobs, "Once")
    world.pass_s(1)
    assert [(alert["rule"], alert["key"]) for alert in world.told("alert")] == [("AIRSTAR-04", "A17")]


def test_a_broken_invariant_is_not_retried(make_world: Callable[[], World]) -> None:
    world = make_world()

    async def handler(job: Job) -> Verdict:
        raise InvariantBroken("the books do not balance")

    jobs = world.started({"Credit": handler})
    world.queue(jobs, "Credit")
    world.pass_s(10)
    assert [str(error) for error in world.raised] == ["the books do not balance"]
    assert world.row(jobs, "Credit").retry_count == 0


def test_after_one_run_has_broken_the_others_go_on(make_world: Callable[[], World]) -> None:
    world = make_world()

    async def handler(job: Job) -> Verdict:
        if job.key == "K0":
            raise InvariantBroken("no")
        return Done()

    jobs = world.started({"Once": handler}, concurrency=1)
    for n in range(5):
        world.queue(jobs, "Once", f"K{n}", after_s=1)
    world.pass_s(2)
    assert [world.row(jobs, "Once", f"K{n}").state for n in range(1, 5)] == [JobState.DONE] * 4


# What operations see (JOB-019)


@pytest.mark.req("JOB-019")
def test_the_record_shows_retries_last_bank_error_and_next_run(world: World) -> None:
    answers = iter(["", "140630016 system busy", ""])

    async def poll(job: Job) -> Verdict:
        return Again(job.due_ms + 3_000, next(answers))

    jobs = world.started({"Poll": poll}, trace_polls=True)
    world.queue(jobs, "Poll", after_s=3, max_retry=60)
    shown = []
    for _ in range(4):
        (record,) = world.run(jobs.open_jobs())
        shown.append((record.state, record.retry_count, record.last_error, record.next_run_at - world.origin))
        assert record == world.row(jobs, "Poll") == world.run(jobs.read(record.id))
        if len(shown) < 4:
            world.pass_s(3)
    assert shown == [
        (JobState.READY, 0, "", 3_000),
        (JobState.RETRY, 1, "", 6_000),
        (JobState.RETRY, 2, "140630016 system busy", 9_000),
        (JobState.RETRY, 3, "140630016 system busy", 12_000),  # a plain poll does not wipe the last error
    ]
    assert world.told("job")[-2:] == [
        {"job": "Poll", "id": 1, "key": "A1", "state": "RETRY", "retry": 2, "max": 60,
         "due_ms": world.origin + 9_000, "error": "140630016 system busy"},
        {"job": "Poll", "id": 1, "key": "A1", "state": "RETRY", "retry": 3, "max": 60,
         "due_ms": world.origin + 12_000, "error": ""}]


def test_plain_polls_can_be_kept_out_of_the_stream(world: World) -> None:
    poll, moments = polling(world)
    jobs = world.started({"Poll": poll}, trace_polls=False)
    world.queue(jobs, "Poll", max_retry=5)
    world.pass_s(60)
    assert len(moments) == 5
    assert world.states("Poll") == ["READY", "EXCEPTION"]


def test_asking_one_more_time_is_one_run(world: World) -> None:
    poll, moments = polling(world)
    jobs = world.started({"Poll": poll})
    id = world.queue(jobs, "Poll", max_retry=2)
    world.pass_s(60)
    assert len(moments) == 2
    assert world.run(jobs.retry_now(id, "staff_0042"))
    world.pass_s(600)
    assert len(moments) == 3
    assert moments[2] == 60
    assert world.row(jobs, "Poll").state is JobState.EXCEPTION
    assert [data["action"] for data in world.told("staff", "staff_0042")] == ["retry_job"]


def test_asking_one_more_time_is_one_run_even_if_retries_are_left(world: World) -> None:
    ran: list[int] = []

    async def handler(job: Job) -> Verdict:
        ran.append(job.retry_count)
        return Exhausted("amounts differ") if len(ran) == 1 else Again(job.due_ms + 3_000)

    jobs = world.started({"Poll": handler})
    id = world.queue(jobs, "Poll", max_retry=60)
    world.pass_s(1)
    assert world.run(jobs.retry_now(id, "staff_0042"))
    world.pass_s(600)
    assert ran == [0, 60]
    assert world.row(jobs, "Poll").state is JobState.EXCEPTION


def test_asking_one_more_time_can_succeed(world: World) -> None:
    verdicts: list[Verdict] = [Exhausted("no result"), Done()]

    async def handler(job: Job) -> Verdict:
        return verdicts.pop(0)

    jobs = world.started({"Poll": handler})
    id = world.queue(jobs, "Poll", max_retry=60, payload={"request": "R7"})
    world.pass_s(1)
    assert not world.run(jobs.retry_now(id + 1, "staff_0042")), "no such job"
    assert world.run(jobs.retry_now(id, "staff_0042"))
    assert not world.run(jobs.retry_now(id, "staff_0042")), "it is on its way already"
    world.pass_s(1)
    row = world.row(jobs, "Poll")
    assert (row.state, row.payload) == (JobState.DONE, {"request": "R7"})
    assert not world.run(jobs.retry_now(id, "staff_0042")), "DONE is no EXCEPTION"


def test_a_process_without_the_handler_may_ask_one_more_time(world: World) -> None:
    ran: list[str] = []

    async def handler(job: Job) -> Verdict:
        ran.append(job.key)
        return Exhausted("no")

    world.started({"Poll": handler}, "bank")
    api = world.started({}, "api")
    id = world.queue(api, "Poll")
    world.pass_s(31)
    assert world.run(api.retry_now(id, "staff_0042"))
    assert world.row(api, "Poll").retry_count == 3, "all retries count as used"
    world.pass_s(31)
    assert ran == ["A1", "A1"]


# Keys, order, limits


def test_event_and_key_exist_once_for_ever(world: World) -> None:
    ran: list[str] = []

    async def handler(job: Job) -> Verdict:
        ran.append(job.key)
        return Done()

    jobs = world.started({"Once": handler, "Other": handler})
    assert world.queue(jobs, "Once") is not None
    assert world.queue(jobs, "Once") is None
    world.pass_s(5)
    assert world.queue(jobs, "Once") is None, "also when it is done"
    assert world.queue(jobs, "Other") is not None
    world.pass_s(5)
    assert ran == ["A1", "A1"]


def test_a_rolled_back_transaction_queues_nothing(world: World) -> None:
    jobs = world.started({"Once": always(Done())})

    async def fail() -> None:
        async with world.databases.primary.transaction() as tx:
            await jobs.enqueue(tx, "Once", "A1", {}, world.clock.now_ms(), 0)
            raise ValueError

    with pytest.raises(ValueError):
        world.run(fail())
    world.pass_s(60)
    assert world.run(jobs.find("Once", "A1")) is None
    assert world.told("job") == []


def test_a_duplicate_key_leaves_the_callers_transaction_whole(world: World) -> None:
    jobs = world.started({"Once": always(Done()), "Other": always(Done())})
    world.queue(jobs, "Once")

    async def twice() -> tuple[int | None, int | None]:
        async with world.databases.primary.transaction() as tx:
            return (await jobs.enqueue(tx, "Once", "A1", {}, world.clock.now_ms(), 0),
                    await jobs.enqueue(tx, "Other", "A1", {}, world.clock.now_ms(), 0))

    first, second = world.run(twice())
    assert first is None
    assert second is not None
    world.pass_s(1)
    assert world.row(jobs, "Other").state is JobState.DONE


@pytest.mark.parametrize("concurrency", [1, 3])
def test_jobs_due_at_one_moment_begin_in_the_order_of_queueing(world: World, concurrency: int) -> None:
    begun: list[str] = []

    async def handler(job: Job) -> Verdict:
        begun.append(job.key)
        await asyncio.sleep(0.1)
        return Done()

    jobs = world.started({"Once": handler}, concurrency=concurrency)
    keys = [f"K{n}" for n in (5, 3, 9, 1, 7, 0, 2, 8)]
    for n, key in enumerate(keys):
        world.queue(jobs, "Once", key, after_s=10 - n * 0.001 if n in (2, 6) else 10)
    world.pass_s(20)
    assert begun == ["K2", "K9", *(key for key in keys if key not in ("K9", "K2"))]


def test_no_more_run_at_once_than_allowed(world: World) -> None:
    running = most = 0

    async def handler(job: Job) -> Verdict:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        return Done()

    jobs = world.started({"Once": handler}, concurrency=4)
    for n in range(10):
        world.queue(jobs, "Once", f"K{n}")
    world.pass_s(0.5)
    assert (running, most) == (4, 4)
    world.pass_s(2.4)
    assert most == 4
    assert len(world.run(jobs.in_state(JobState.DONE))) == 8
    world.pass_s(0.2)
    assert world.run(jobs.open_jobs()) == []


def test_a_paused_job_waits_and_others_do_not(world: World) -> None:
    ran: list[str] = []

    async def handler(job: Job) -> Verdict:
        ran.append(f"{job.event} {job.key} {world.now:g}")
        return Done()

    jobs = world.started({"Once": handler, "Other": handler})
    jobs.pause("Once")
    world.queue(jobs, "Once", "A1")
    world.queue(jobs, "Other", "A1")
    world.queue(jobs, "Once", "A2", after_s=50)
    world.pass_s(100)
    assert ran == ["Other A1 0"]
    jobs.resume("Once")
    world.pass_s(1)
    assert ran == ["Other A1 0", "Once A1 100", "Once A2 100"]


def test_a_name_outside_the_registry_is_refused(world: World) -> None:
    with pytest.raises(Misconfigured, match="AsbBstCraeteJob"):
        Jobs(world.databases.primary, world.clock, world.trace, "w1", Settings(),
             {"AsbBstCraeteJob": always(Done())}, world.spawn)


def test_a_sweep_reads_open_jobs_only_however_many_are_done(world: World) -> None:
    text, _ = FREE_JOBS.for_sqlite()
    plan = world.databases.primary.connection.execute("EXPLAIN QUERY PLAN " + text, [0] * text.count("?")).fetchall()
    assert any("queue_state" in row[3] and "state=?" in row[3] for row in plan), plan


@pytest.mark.parametrize("batch", [1, 2, 3, 1_000])
def test_a_sweep_finds_everything_whatever_its_batch(world: World, batch: int) -> None:
    ran: list[str] = []

    async def handler(job: Job) -> Verdict:
        ran.append(job.key)
        return Done()

    before = world.started({"Once": handler, "Other": handler})
    for n in range(7):
        world.queue(before, "Other" if n in (1, 2, 3) else "Once", f"K{n}", after_s=10 if n < 4 else 5)
    world.run(before.stop())
    world.started({"Once": handler}, "w2", sweep__batch=batch)
    world.pass_s(20)
    assert ran == ["K4", "K5", "K6", "K0"], "those of other names are left to a worker that has them"


# Settling in the handler's own transaction

_MARK = Statement(insert(nick_list))
_MARKS = Statement(select(nick_list.c.uid).order_by(nick_list.c.uid))


def mark(uid: int) -> dict[str, Any]:
    """A row that stands for the effect of a handler."""
    return {column.name: 0 if column.type.python_type is int else "" for column in nick_list.columns} | {"uid": uid}


def marks(world: World) -> list[int]:
    return [uid for (uid,) in world.run(world.databases.primary.all(_MARKS, {}))]


def test_effect_and_state_commit_together(world: World) -> None:
    async def handler(job: Job) -> Verdict:
        async with world.databases.primary.transaction() as tx:
            await tx.execute(_MARK, mark(7))
            return await job.settle(tx, Done())

    jobs = world.started({"Once": handler})
    before = world.databases.commits
    world.queue(jobs, "Once")
    world.pass_s(1)
    assert marks(world) == [7]
    assert world.row(jobs, "Once").state is JobState.DONE
    assert world.databases.commits - before == 2, "queueing, and one for effect and state"


def test_a_settlement_that_was_rolled_back_counts_for_nothing(world: World) -> None:
    tries: list[int] = []

    async def handler(job: Job) -> Verdict:
        tries.append(job.retry_count)
        async with world.databases.primary.transaction() as tx:
            await tx.execute(_MARK, mark(7))
            await job.settle(tx, Done())
            if len(tries) == 1:
                raise ValueError("after settling, before the commit")
        return Done()

    jobs = world.started({"Other": handler})
    world.queue(jobs, "Other")
    world.pass_s(10)
    assert (tries, marks(world)) == ([0, 1], [7])
    assert world.states("Other") == ["READY", "RETRY", "DONE"]


def test_settling_again_runs_again(world: World) -> None:
    async def handler(job: Job) -> Verdict:
        async with world.databases.primary.transaction() as tx:
            await tx.execute(_MARK, mark(job.retry_count))
            return await job.settle(tx, Again(job.due_ms + 1_000) if job.retry_count < 2 else Done())

    jobs = world.started({"Other": handler})
    world.queue(jobs, "Other")
    world.pass_s(10)
    assert marks(world) == [0, 1, 2]
    assert world.row(jobs, "Other").state is JobState.DONE


def test_one_run_settles_once(make_world: Callable[[], World]) -> None:
    world = make_world()

    async def handler(job: Job) -> Verdict:
        for _ in range(2):
            async with world.databases.primary.transaction() as tx:
                await job.settle(tx, Again(job.due_ms + 1_000, "x"))
        return Done()

    jobs = world.started({"Other": handler})
    world.queue(jobs, "Other")
    world.pass_s(0.5)
    assert [type(error) for error in world.raised] == [InvariantBroken]
    assert world.row(jobs, "Other").retry_count == 1


def test_what_fails_after_settling_goes_up_and_changes_nothing(make_world: Callable[[], World]) -> None:
    world = make_world()

    async def handler(job: Job) -> Verdict:
        async with world.databases.primary.transaction() as tx:
            await job.settle(tx, Done())
        raise ValueError("too late")

    jobs = world.started({"Other": handler})
    world.queue(jobs, "Other")
    world.pass_s(10)
    assert [str(error) for error in world.raised] == ["too late"]
    assert world.row(jobs, "Other").state is JobState.DONE


# Leases


def test_a_poll_costs_one_transaction(world: World) -> None:
    poll, moments = polling(world)
    jobs = world.started({"Poll": poll})
    world.queue(jobs, "Poll", after_s=3, max_retry=60)
    before = world.databases.commits
    world.pass_s(29)
    assert len(moments) == 9
    assert world.databases.commits - before == 9


def test_a_long_run_keeps_its_lease_and_is_reported_as_hung(world: World) -> None:
    runs: list[str] = []

    def slow(worker: str) -> Callable[[Job], Any]:
        async def handler(job: Job) -> Verdict:
            runs.append(worker)
            await asyncio.sleep(200)
            return Done()

        return handler

    first = world.started({"Once": slow("w1")}, "w1")
    world.started({"Once": slow("w2")}, "w2")
    world.queue(first, "Once")
    world.pass_s(190)
    assert runs == ["w1"], "nobody took it over while it was alive"
    (alert,) = world.told("alert")
    assert (alert["rule"], alert["key"]) == ("JOB-02", "J1")
    world.pass_s(30)
    assert world.row(first, "Once").state is JobState.DONE


def test_a_worker_that_comes_to_a_job_too_late_does_not_run_it_again(world: World) -> None:
    """Its line is full, the lease of a waiting job runs out, another takes it: here it is forgotten."""
    ran: list[tuple[str, str, float]] = []

    def handler(worker: str) -> Callable[[Job], Any]:
        async def run(job: Job) -> Verdict:
            ran.append((worker, job.key, world.now))
            await asyncio.sleep(150)
            return Done()

        return run

    full = world.started({"Once": handler("full")}, "full", concurrency=1)
    world.queue(full, "Once", "first")
    world.queue(full, "Once", "second")
    world.pass_s(1)
    world.started({"Once": handler("free")}, "free")
    world.pass_s(500)
    assert [(worker, key) for worker, key, _ in ran] == [("full", "first"), ("free", "second")]
    assert 30 <= ran[1][2] <= 61


def test_a_job_taken_over_is_run_as_it_is_now_not_as_it_was_first_seen(world: World) -> None:
    seen: list[tuple[str, dict[str, Any], int]] = []

    def handler(worker: str) -> Callable[[Job], Any]:
        async def run(job: Job) -> Verdict:
            if job.key == "blocks":
                await asyncio.sleep(55)
                return Done()
            seen.append((worker, job.payload, job.retry_count))
            return Again(job.due_ms + 5_000, payload={"step": 2}) if worker == "other" else Done()

        return run

    first = world.started({"Poll": handler("first")}, "first")
    world.queue(first, "Poll", "moves", after_s=10, payload={"step": 1})
    world.run(first.stop())
    full = world.started({"Poll": handler("full")}, "full", concurrency=1)  # sees "moves" at step 1
    world.queue(full, "Poll", "blocks")
    other = world.started({"Poll": handler("other")}, "other")
    world.pass_s(12)
    world.run(other.stop())
    world.pass_s(60)
    assert seen == [("other", {"step": 1}, 0), ("full", {"step": 2}, 1)]


def test_renewing_leaves_a_lease_alone_that_was_moved_meanwhile(world: World) -> None:
    jobs = world.started({"Once": always(Done())})
    id = world.queue(jobs, "Once", after_s=600)
    row = world.row(jobs, "Once")
    renew = {"b_id": id, "b_me": "w1", "lease_until": row.lease_until + 1}
    assert world.run(world.databases.primary.execute(RENEW, renew | {"b_until": row.lease_until - 1})) == 0
    assert world.row(jobs, "Once") == row
    assert world.run(world.databases.primary.execute(RENEW, renew | {"b_until": row.lease_until})) == 1


def test_a_run_whose_lease_is_gone_is_cancelled_and_writes_nothing(world: World) -> None:
    ended: list[str] = []

    async def handler(job: Job) -> Verdict:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return Done()

    jobs = world.started({"Once": handler})
    world.queue(jobs, "Once")
    world.pass_s(1)
    world.run(_take_away(world, "thief"))
    world.pass_s(20)
    assert ended == ["cancelled"]
    row = world.row(jobs, "Once")
    assert (row.state, row.lease_owner) == (JobState.READY, "thief")


def test_a_run_that_cannot_renew_its_lease_ends_before_the_lease_does(make_world: Callable[[], World]) -> None:
    """The worker lives, its database does not answer: another worker will take the job when the lease is over."""
    world = make_world()
    cancelled: list[float] = []

    async def handler(job: Job) -> Verdict:
        try:
            await asyncio.sleep(1_000)
        finally:
            cancelled.append(world.now)
        return Done()

    jobs = world.started({"Once": handler})
    world.queue(jobs, "Once")
    world.pass_s(50)
    lease_until = (world.row(jobs, "Once").lease_until - world.origin) / 1_000
    world.databases = world.databases.reopen()
    world.pass_s(60)
    assert len(cancelled) == 1
    assert 50 < cancelled[0] < lease_until
    assert {type(error) for error in world.raised} == {Severed}


def test_settling_without_the_lease_rolls_the_effect_back(world: World) -> None:
    async def handler(job: Job) -> Verdict:
        await _take_away(world, "thief")
        async with world.databases.primary.transaction() as tx:
            await tx.execute(_MARK, mark(7))
            try:
                return await job.settle(tx, Done())
            except LeaseLost:
                lost.append(job.key)
                raise

    lost: list[str] = []
    jobs = world.started({"Once": handler})
    world.queue(jobs, "Once")
    world.pass_s(1)
    assert (lost, marks(world)) == (["A1"], [])
    assert world.row(jobs, "Once").lease_owner == "thief"


async def _take_away(world: World, thief: str) -> None:
    """What another worker does that (wrongly or rightly) holds the lease now."""
    far = world.clock.now_ms() + 3_600_000
    await world.databases.primary.execute(
        Statement(update(queue).values(lease_owner=thief, lease_until=far)), {})
