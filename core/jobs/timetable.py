"""The timetable: periodic jobs at their moments, never overlapping themselves.

Rules (gaps.md B-15; JOB-017, JOB-031, JOB-032)
------------------------------------------------
* A job runs at aligned moments (`core.jobs.schedules`), at a fixed rate. Moments missed while no worker was up are not
  made up: the next one comes, and operations may ask for a run at once.
* A run holds the lock ``job:{name}``, TTL 3 periods, at least 60 s. While somebody holds it a due run is skipped and
  counted. A living holder renews its lock every period, so a run that takes long is never overlapped; the lock of a
  dead one frees by TTL. A job at fixed times has no period: ``jobs.lock.fixed_time_period_s`` stands for it.
* A run not finished within 3 periods is reported as hung (JOB-02), once. It goes on: what it does is not known here.
* A run that fails is noted; the next moment is the retry, unless the job's entry repeats failed runs. A job that has
  given up is told (JOB-01) until a run of it succeeds, on whichever worker.
* Only runs that did something, failed, were skipped or hung have a row in ``job_run`` and an event. A function says
  that it did something by what it returns: a count or a text, not 0, "" or None.

A killed worker's run releases nothing (`BaseException`): exactly what a killed process leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from heapq import heappop, heappush
from typing import Any, NamedTuple

from core.alerts import raise_alert
from core.clock import MS_PER_DAY, MS_PER_S, Clock, show_time
from core.errors import CallFailed, InvariantBroken, Misconfigured, OutcomeUnknown
from core.jobs import statements as S
from core.jobs.registry import Entry, entry_of, periodic
from core.jobs.schedules import DayCalendar, Days, Moments, in_force, moments_of
from core.jobs.timer import OneTimer
from core.locks import Locks
from core.storage import Database
from core.storage.standing import StandingAlerts
from core.trace import Trace

OUTCOME_KEPT = 500
"""Characters of ``job_run.outcome`` (the column's width)."""

Function = Callable[[], Awaitable[object]]
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class JobStatus(NamedTuple):
    """A periodic job of this worker as operations see it; moments in epoch milliseconds, counts since the start."""

    name: str
    paused: bool
    next_ms: int | None
    running_since_ms: int | None
    runs: int
    skipped: int
    failed: int
    last_finished_ms: int | None
    last_error: str


class _Run:
    """A run in progress."""

    __slots__ = ("attempt", "due_ms", "hung_row", "job", "outcome", "skipped", "started_ms", "task",
                 "token")

    def __init__(self, job: _PeriodicJob, due_ms: int, attempt: int, token: str, started_ms: int) -> None:
        self.job, self.due_ms, self.attempt, self.token, self.started_ms = job, due_ms, attempt, token, started_ms
        self.task = asyncio.current_task()
        self.skipped = 0
        self.outcome = ""
        self.hung_row: int | None = None  # its row of job_run, once it was reported as hung


class _PeriodicJob:
    """One job of this worker."""

    __slots__ = ("every_ms", "failed", "function", "hung_ms", "last_error", "last_finished_ms", "lock", "name",
                 "next", "paused", "period_ms", "repeat_ms", "repeats", "run", "runs", "schedules", "skipped",
                 "ttl_ms", "watched")

    def __init__(self, entry: Entry, function: Function, settings: Mapping[str, Any]) -> None:
        self.name, self.function = entry.name, function
        self.lock = f"job:{entry.name}"
        self.schedules = [moments_of(schedule, settings) for schedule in periodic(entry)]
        periods = [moments.every_ms for moments in self.schedules if moments.every_ms]
        self.period_ms = min(periods) if periods else round(settings["jobs.lock.fixed_time_period_s"] * MS_PER_S)
        self.hung_ms = settings["jobs.lock.periods"] * self.period_ms
        self.ttl_ms = max(self.hung_ms, round(settings["jobs.lock.min_s"] * MS_PER_S))
        self.repeats: int = settings[entry.repeat.times] if entry.repeat else 0
        self.repeat_ms = round(settings[entry.repeat.wait] * MS_PER_S) if entry.repeat else 0
        self.watched = not all(map(_all_day, self.schedules))  # no tick of its own may come while it runs
        self.paused = False
        self.next: dict[Moments, int] = {}
        self.run: _Run | None = None
        self.runs = self.skipped = self.failed = 0
        self.last_finished_ms: int | None = None
        self.last_error = ""

    @property
    def next_ms(self) -> int | None:
        """Its next moment; None before the start."""
        return min(self.next.values(), default=None)


class _Entry(NamedTuple):
    """Something due: a moment of a schedule, the repetition of a failed run, or a look at a run in progress."""

    due_ms: int
    order: int
    job: _PeriodicJob
    moments: Moments | None
    attempt: int
    run: _Run | None


class Timetable:
    """The periodic jobs that one worker runs, in one database and under one lock service.

    ``functions``: by job name, for those that are built. ``calendar`` answers for business and trading days. ``spawn``
    starts a coroutine as a task and answers for its exceptions.
    """

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, locks: Locks, worker: str, settings: Mapping[str, Any],
        calendar: DayCalendar, functions: Mapping[str, Function], spawn: Spawn,
    ) -> None:
        self._db, self._clock, self._trace, self._locks, self._spawn = db, clock, trace, locks, spawn
        self._settings, self._calendar, self.worker = settings, calendar, worker
        self._standing = StandingAlerts(db, clock, trace)
        self._jobs: dict[str, _PeriodicJob] = {}
        self.unexpected: Exception | None = None  # the first error of our own in a run: a simulation stops on it
        self._due: list[_Entry] = []
        self._order = 0
        self._timer = OneTimer(clock, self._on_time)
        self._working = False
        self._under_way = 0
        self._idle: asyncio.Event | None = None
        self.register(functions)

    def register(self, functions: Mapping[str, Function]) -> None:
        """Add functions before `start`. A name without a periodic entry in the job registry is an error."""
        if self._working:
            raise InvariantBroken("functions are registered before the timetable starts")
        for name, function in functions.items():
            entry = entry_of(name)
            if not periodic(entry):
                raise Misconfigured(f"{name} is not periodic", where="jobs", remedy="register it with the queue")
            self._jobs[name] = _PeriodicJob(entry, function, self._settings)

    # Life of a worker

    async def start(self) -> None:
        """Run from now on; a moment that is just now counts."""
        self._working = True
        self._idle = asyncio.Event()
        now = self._clock.now_ms()
        for job in self._jobs.values():
            for moments in job.schedules:
                self._schedule(job, moments, moments.first_from(now))
        self._arm()

    async def stop(self) -> None:
        """Begin no further run and wait for those in progress."""
        self._begin_no_more()
        while self._under_way:
            assert self._idle is not None
            self._idle.clear()
            await self._idle.wait()

    def halt(self) -> None:
        """What a killed process leaves: no timer fires any more, locks stay and run out."""
        self._begin_no_more()

    def _begin_no_more(self) -> None:
        self._working = False
        self._due.clear()
        self._timer.cancel()

    def pause(self, name: str) -> None:
        """Begin no run of this job until `resume`, skip nothing, count nothing; a run in progress finishes."""
        self._job(name).paused = True

    def resume(self, name: str) -> None:
        """Run it again from its next moment."""
        self._job(name).paused = False

    def request(self, name: str, otherwise: Callable[[], object] | None = None) -> bool:
        """Run a job at once because of an event; False if a run of it is in progress here. ``otherwise`` is called if
        another worker holds the lock: whether that one still lives, only the lock's TTL will tell."""
        job = self._job(name)
        if job.run is not None or not self._working:
            return False
        self._begin(job, self._clock.now_ms(), 0, otherwise)
        return True

    def run_now(self, name: str, operator: str) -> bool:
        """The same at an operator's wish ("manual re-run"), also while the job is paused."""
        begun = self.request(name)
        self._trace.emit("staff", operator, {"operator": operator, "role": "", "action": "run_job", "subject": name,
                                             "result": "OK" if begun else "a run is in progress"})
        return begun

    def status(self) -> list[JobStatus]:
        """All periodic jobs of this worker, in the order of registration."""
        return [JobStatus(job.name, job.paused, job.next_ms, job.run.started_ms if job.run else None, job.runs,
                          job.skipped, job.failed, job.last_finished_ms, job.last_error)
                for job in self._jobs.values()]

    def _job(self, name: str) -> _PeriodicJob:
        try:
            return self._jobs[name]
        except KeyError:
            raise Misconfigured(f"no periodic job {name!r} in this worker", where="jobs",
                                remedy=f"one of {', '.join(self._jobs)}") from None

    # Time

    def _schedule(self, job: _PeriodicJob, moments: Moments, due_ms: int) -> None:
        job.next[moments] = due_ms
        self._order += 1
        heappush(self._due, _Entry(due_ms, self._order, job, moments, 0, None))

    def _call_back(self, job: _PeriodicJob, due_ms: int, attempt: int = 0, run: _Run | None = None) -> None:
        self._order += 1
        heappush(self._due, _Entry(due_ms, self._order, job, None, attempt, run))
        self._arm()

    def _arm(self) -> None:
        if self._working and self._due:
            self._timer.set(self._due[0].due_ms)

    def _on_time(self) -> None:
        now, due = self._clock.now_ms(), self._due
        while due and due[0].due_ms <= now:
            _, _, job, moments, attempt, run = entry = heappop(due)
            if moments is not None:
                self._on_moment(entry, moments, now)
            elif run is not None:
                self._look_after(run, now)
            elif not job.paused:
                self._begin(job, entry.due_ms, attempt)
        self._arm()

    def _on_moment(self, entry: _Entry, moments: Moments, now: int) -> None:
        job = entry.job
        following = entry.due_ms + moments.every_ms
        if following <= now or not _all_day(moments):
            following = moments.first_from(max(entry.due_ms, now) + 1)
        self._schedule(job, moments, following)
        if job.paused or (moments.days is not Days.ALL and not in_force(moments.days, now, self._calendar)):
            return
        if job.run is None:
            self._begin(job, entry.due_ms, 0)
        else:
            self._skip(job, entry.due_ms)
            if not job.watched:
                self._attend(job.run, now)

    # Running

    def _begin(
        self, job: _PeriodicJob, due_ms: int, attempt: int, otherwise: Callable[[], object] | None = None
    ) -> None:
        self._under_way += 1
        self._spawn(self._run(job, due_ms, attempt, otherwise))

    async def _run(
        self, job: _PeriodicJob, due_ms: int, attempt: int, otherwise: Callable[[], object] | None
    ) -> None:
        try:
            token = await self._locks.acquire(job.lock, self.worker, job.ttl_ms)
            if token is None:
                self._skip(job, due_ms)
                if job.run is None:
                    if otherwise is not None:
                        otherwise()
                    await self._note(job.name, self._clock.now_ms(), "skipped: another worker's run", 1)
                return
            run = job.run = _Run(job, due_ms, attempt, token, self._clock.now_ms())
            if job.watched:
                self._call_back(job, run.started_ms + job.period_ms, run=run)
            try:
                await self._carry_out(job, run)
            finally:
                job.run = None
            await self._locks.release(job.lock, token)
        finally:
            self._under_way -= 1
            if self._under_way == 0 and self._idle is not None:
                self._idle.set()

    async def _carry_out(self, job: _PeriodicJob, run: _Run) -> None:
        """Call the function, and note the run if there is anything to say about it."""
        job.runs += 1
        try:
            did = await job.function()
        except InvariantBroken:
            raise
        except Exception as error:
            outcome = await self._failed(job, run, error)
        else:
            outcome = str(did) if did else ""
            if did:
                self._tell(job, run.due_ms, "DONE", run.attempt, "")
            if job.repeats:
                await self._standing.cleared("JOB-01", job.name, "it has run again")
        job.last_finished_ms = self._clock.now_ms()
        if outcome or run.skipped or run.hung_row is not None:
            await self._close(run, outcome)

    async def _failed(self, job: _PeriodicJob, run: _Run, error: Exception) -> str:
        """Note the failure and see to its repetition; what to write about it."""
        job.failed += 1
        if self.unexpected is None and not isinstance(error, OutcomeUnknown | CallFailed):
            self.unexpected = error
        job.last_error = f"{type(error).__name__}: {error}"[:OUTCOME_KEPT]
        if run.attempt < job.repeats:
            again = self._clock.now_ms() + job.repeat_ms
            self._tell(job, run.due_ms, "RETRY", run.attempt, job.last_error, again)
            if self._working:
                self._call_back(job, again, run.attempt + 1)
        elif job.repeats:
            self._tell(job, run.due_ms, "EXCEPTION", run.attempt, job.last_error)
            await self._standing.raised(
                "JOB-01", job.name, f"failed {run.attempt + 1} times: {job.last_error}")
        else:
            self._tell(job, run.due_ms, "RETRY", run.attempt, job.last_error)
        return f"failed: {job.last_error}"[:OUTCOME_KEPT]

    # Runs that take long

    def _skip(self, job: _PeriodicJob, due_ms: int) -> None:
        job.skipped += 1
        if job.run is not None:
            job.run.skipped += 1
        self._tell(job, due_ms, "SKIPPED", 0, "the previous run holds the lock")

    def _look_after(self, run: _Run, now: int) -> None:
        """A look at a run without ticks of its own, every period while it lasts."""
        if run.job.run is run:
            self._attend(run, now)
            self._call_back(run.job, now + run.job.period_ms, run=run)

    def _attend(self, run: _Run, now: int) -> None:
        hung = run.hung_row is None and now - run.started_ms >= run.job.hung_ms
        self._spawn(self._keep(run, hung))

    async def _keep(self, run: _Run, hung: bool) -> None:
        """Renew the lock of a run in progress, report it if it hangs; without the lock it must not go on."""
        job = run.job
        if job.run is not run:
            return
        if not await self._locks.renew(job.lock, run.token, job.ttl_ms):
            if run.task is not None and job.run is run:
                self._tell(job, run.due_ms, "FAILED", run.attempt, "lock lost: the run is cancelled")
                run.task.cancel()
        elif hung and run.hung_row is None:
            run.hung_row = 0  # being written
            seconds = (self._clock.now_ms() - run.started_ms) // MS_PER_S
            raise_alert(self._trace, "JOB-02", job.name,
                        f"started {show_time(run.started_ms)}, not finished after {seconds} s on {self.worker}")
            run.hung_row = await self._note(job.name, run.started_ms, "hung", run.skipped, finished=False)
            if run.outcome:
                await self._close(run, run.outcome)

    # The log

    async def _note(self, name: str, started_ms: int, outcome: str, skipped: int, *, finished: bool = True) -> int:
        return await self._db.insert(S.NEW_RUN, {
            "job": name, "started_at": started_ms, "finished_at": self._clock.now_ms() if finished else None,
            "outcome": outcome, "skipped": skipped})

    async def _close(self, run: _Run, outcome: str) -> None:
        run.outcome = outcome = (outcome or "nothing to do")[:OUTCOME_KEPT]
        if run.hung_row is None:
            await self._note(run.job.name, run.started_ms, outcome, run.skipped)
        elif run.hung_row:
            await self._db.execute(S.END_RUN, {
                "b_id": run.hung_row, "finished_at": self._clock.now_ms(), "skipped": run.skipped,
                "outcome": f"hung, then {outcome}"[:OUTCOME_KEPT]})

    def _tell(self, job: _PeriodicJob, due_ms: int, state: str, attempt: int, error: str,
              next_ms: int | None = None) -> None:
        self._trace.emit("job", f"J{job.name}@{due_ms}", {
            "job": job.name, "id": 0, "key": show_time(due_ms)[:19], "state": state, "retry": attempt,
            "max": job.repeats, "due_ms": next_ms or job.next_ms or due_ms, "error": error})


def _all_day(moments: Moments) -> bool:
    """An unbroken grid: each moment is one period after the one before, across midnight too."""
    return bool(moments.every_ms) and moments.days is Days.ALL and moments.first_ms == 0 and (
        moments.until_ms == MS_PER_DAY and MS_PER_DAY % moments.every_ms == 0)
