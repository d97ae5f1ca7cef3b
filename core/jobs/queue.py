"""The durable job queue: a waiting job is a row and a due time, not a task.

Rules
-----
* ``(event, key)`` exists once, for ever: asking for the same work twice gives one job.
* Who runs a job holds its **lease**: ``lease_owner`` until ``lease_until``. Nobody else may run it before that moment.
  A worker name belongs to one living process at a time.
* The lease is **sticky**: queueing and re-scheduling write it in the same statement, up to ``due + lease``. So the
  worker that knows a job runs it without asking the database; a poll costs one transaction.
* What a worker remembers of a job is trusted only under its lease; else it claims the row and reads it again.
* A run longer than a quarter of the lease has it renewed; a run whose lease cannot be renewed is cancelled.
* A handler's effect and the job's row commit together when the handler settles in its own transaction
  (`Job.settle`): that effect happens exactly once. Without it a handler runs at least once, so its effects carry keys.
* Jobs due at one moment run in the order in which they were queued, at most ``jobs.concurrency`` at a time.
* An exception of a handler is a retry after the job's wait, then EXCEPTION with an alert (JOB-018). A broken
  invariant is not retried: it goes up. Nor is anything written after a `BaseException`: that run never ended, and
  its lease runs out.

What a killed worker left is found by the sweep of any other when the lease is over, and at once by its own successor
of the same name. Sources: orchestration.md §5, gaps.md A-38 to A-41, A-74, B-02, B-15.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from heapq import heappop, heappush
from typing import Any, NamedTuple

import orjson

from core.alerts import raise_alert
from core.clock import MS_PER_S, Clock
from core.domain import JobState
from core.errors import CallFailed, InvariantBroken, Misconfigured, OutcomeUnknown
from core.hops import Hop, trace_of
from core.jobs import statements as S
from core.jobs.registry import ENTRIES, waits_of
from core.jobs.timer import OneTimer
from core.jobs.verdicts import Again, Done, Ending, Exhausted, Failed, Verdict
from core.storage import Database, Questions, Transaction, UniqueViolation
from core.trace import Trace

ERROR_KEPT = 500
"""Characters of ``last_error`` (the column's width)."""

READY, RUNNING, RETRY = int(JobState.READY), int(JobState.RUNNING), int(JobState.RETRY)
DONE, EXCEPTION, FAILED = int(JobState.DONE), int(JobState.EXCEPTION), int(JobState.FAILED)

_NO_WAITS = (0,)
_LAST = (Exhausted, Failed)


class LeaseLost(Exception):
    """Somebody else may run this job by now: whatever this run would write must not be written."""


class JobRecord(NamedTuple):
    """A job's row as operations see it (JOB-019). Moments are epoch milliseconds."""

    id: int
    event: str
    key: str
    payload: dict[str, Any]
    state: JobState
    retry_count: int
    max_retry: int
    next_run_at: int
    lease_owner: str | None
    lease_until: int | None
    last_error: str
    created_at: int
    updated_at: int


class Job:
    """A job at hand: what a handler gets. ``due_ms`` is the moment this run was due, not when it began."""

    __slots__ = ("_queue", "due_ms", "ending", "event", "hung", "id", "key", "last_error", "lease_until", "max_retry",
                 "payload", "retry_count", "retrying", "started_ms", "task")

    def __init__(
        self, queue: Jobs, id: int, event: str, key: str, payload: dict[str, Any], retry_count: int, max_retry: int,
        due_ms: int, last_error: str, lease_until: int | None,
    ) -> None:
        self._queue = queue
        self.id, self.event, self.key, self.payload = id, event, key, payload
        self.retry_count, self.max_retry = retry_count, max_retry
        self.due_ms, self.last_error = due_ms, last_error
        self.lease_until: int | None = lease_until  # None: not held here, to be claimed
        self.started_ms = 0
        self.hung = False
        self.retrying = False  # the row says RETRY under our lease: nothing but the numbers change at one more poll
        self.task: asyncio.Task[Any] | None = None
        self.ending: Ending | None = None

    async def settle(self, tx: Transaction, verdict: Verdict) -> Verdict:
        """Write the end of this run in the handler's own primary transaction; return the verdict then.

        Raises `LeaseLost` if the lease is gone: let it through, so that the transaction rolls back.
        """
        await self._queue._settle(tx, self, verdict)
        return verdict

    async def note(self, payload: dict[str, Any]) -> None:
        """Write the payload now, in a commit of its own: known to whoever runs this job next, whatever becomes of this
        run. Raises `LeaseLost` if the lease is gone: then nothing may be concluded from what this run has seen."""
        await self._queue._note(self, payload)

    def next_on_grid(self, every_ms: int, now_ms: int) -> int:
        """``due_ms + k × every_ms`` with the smallest k >= 1 that is not past: fixed rate, start to start (A-41).

        After an outage the missed moments are left out; they are no burst of polls.
        """
        return self.due_ms + every_ms * max(1, -((self.due_ms - now_ms) // every_ms))

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.event} {self.key} retry {self.retry_count}/{self.max_retry}>"


Handler = Callable[[Job], Awaitable[Verdict]]
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Jobs:
    """One worker on the queue of one primary database.

    ``waits_ms``: waits after an exception of a handler, by job name, the last one repeating; by default those of the
    job registry. ``spawn`` starts a coroutine as a task of the running loop and answers for its exceptions.
    """

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, worker: str, settings: Mapping[str, Any],
        handlers: Mapping[str, Handler], spawn: Spawn, *, waits_ms: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self._db, self._clock, self._trace, self._spawn = db, clock, trace, spawn
        self.worker = worker
        self._waits = waits_of(settings) if waits_ms is None else waits_ms
        self._lease_ms: int = settings["jobs.lease_ms"]
        self._tick_ms = self._lease_ms // 4
        self._limit: int = settings["jobs.concurrency"]
        self._sweep_ms = round(settings["jobs.sweep.period_s"] * MS_PER_S)
        self._batch: int = settings["jobs.sweep.batch"]
        self._hung_ms = round(settings["jobs.hung_s"] * MS_PER_S)
        self._trace_polls: bool = settings["jobs.trace_polls"]
        self._handlers: dict[str, Handler] = {}
        self._services: dict[str, str] = {}
        self.unexpected: Exception | None = None  # the first exception that escaped a handler: a simulation stops on it
        self._working = False
        self._known: dict[int, Job] = {}
        self._waiting: list[tuple[int, int, Job]] = []  # heap of (due, order of admission, job)
        self._admitted = 0
        self._due: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        self._parked: dict[str, list[Job]] = {}  # jobs of names that are paused
        self._lanes = 0
        self._lane_starting = False
        self._idle: asyncio.Event | None = None
        self._timer = OneTimer(clock, self._collect)
        self._keeper: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.register(handlers)

    def register(self, handlers: Mapping[str, Handler]) -> None:
        """Add handlers before `start`. A name without an entry in the job registry is an error."""
        if self._working:
            raise InvariantBroken("handlers are registered before the worker starts")
        for name in handlers:
            if name not in self._waits:
                raise Misconfigured(f"no queued job {name!r}", where="jobs", remedy="add it to core/jobs/registry.py")
            self._services[name] = ENTRIES[name].owner[0] if name in ENTRIES else ""
        self._handlers.update(handlers)

    @property
    def handled(self) -> tuple[str, ...]:
        """Names of the jobs that this worker runs."""
        return tuple(sorted(self._handlers))

    # Life of a worker

    async def start(self) -> None:
        """Take over what a dead predecessor of the same name held, find what is free, and work from now on."""
        self._working = True
        self._idle = asyncio.Event()
        await self._db.execute(S.GIVE_UP_LEASES, {"b_me": self.worker})
        await self._sweep()
        self._arm_sweep()

    async def stop(self) -> None:
        """Begin no further run, wait for those in progress, give the leases back: others may go on at once."""
        self._begin_no_more()
        while self._lanes:
            assert self._idle is not None
            self._idle.clear()
            await self._idle.wait()
        self._forget_all()
        await self._db.execute(S.GIVE_UP_LEASES, {"b_me": self.worker})

    def halt(self) -> None:
        """What a killed process leaves: no timer fires any more, nothing is written, the leases stay and run out."""
        self._begin_no_more()
        if self._keeper is not None:
            self._keeper.cancel()
        self._forget_all()

    def _begin_no_more(self) -> None:
        self._working = False
        self._timer.cancel()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _forget_all(self) -> None:
        self._waiting.clear()
        self._due.clear()
        self._parked.clear()
        self._known.clear()

    def pause(self, event: str) -> None:
        """Begin no run of this job here until `resume`; a run in progress finishes."""
        self._parked.setdefault(event, [])

    def resume(self, event: str) -> None:
        """Run what fell due while the job was paused, in order."""
        for job in self._parked.pop(event, ()):
            self._await_due(job)

    # Queueing

    async def enqueue(
        self, tx: Transaction, event: str, key: str, payload: dict[str, Any], due_ms: int, max_retry: int
    ) -> int | None:
        """Queue a job within the caller's primary transaction; its id, or None if (event, key) exists already.

        ``due_ms``: first run, epoch milliseconds. A job without a handler here is left to the worker that has one.
        """
        now = self._clock.now_ms()
        mine = self._working and event in self._handlers
        lease_until = max(due_ms, now) + self._lease_ms if mine else None
        try:
            id = await tx.insert(S.INSERT, {
                "event": event, "key": key, "payload": orjson.dumps(payload).decode(), "state": READY,
                "retry_count": 0, "max_retry": max_retry, "next_run_at": due_ms, "last_error": "",
                "lease_owner": self.worker if mine else None, "lease_until": lease_until,
                "created_at": now, "updated_at": now})
        except UniqueViolation:
            return None
        job = Job(self, id, event, key, payload, 0, max_retry, due_ms, "", lease_until)
        tx.after_commit(lambda: self._queued(job, mine))
        return id

    def _queued(self, job: Job, mine: bool) -> None:
        self._tell(job, "READY", "")
        if mine and self._working:
            self._admit(job)

    # Waiting

    def _admit(self, job: Job) -> None:
        """From now on this worker knows the job."""
        self._known[job.id] = job
        self._await_due(job)

    def _await_due(self, job: Job) -> None:
        self._admitted += 1
        heappush(self._waiting, (job.due_ms, self._admitted, job))
        if job.due_ms <= self._clock.now_ms():
            self._collect()
        elif self._waiting[0][2] is job:
            self._arm()

    def _arm(self) -> None:
        if self._working and self._waiting:
            self._timer.set(self._waiting[0][0])

    def _collect(self) -> None:
        """Move what is due to the line, and see that somebody works on it."""
        waiting, now = self._waiting, self._clock.now_ms()
        while waiting and waiting[0][0] <= now:
            self._due.append(heappop(waiting)[2])
        self._arm()
        self._open_lane()

    # Running

    def _open_lane(self) -> None:
        """One more task for the line, unless one is about to begin or the limit is reached."""
        if self._due and not self._lane_starting and self._lanes < self._limit and self._working:
            self._lane_starting = True
            self._lanes += 1
            self._spawn(self._lane())

    async def _lane(self) -> None:
        """Run due jobs one after another until none is left. While one waits for a bank, further lanes are open."""
        self._lane_starting = False
        lane = asyncio.current_task()
        try:
            while self._due and self._working:
                job = self._due.popleft()
                self._open_lane()
                await self._run(job, lane)
        finally:
            self._lanes -= 1
            if self._lanes == 0 and self._idle is not None:
                self._idle.set()
            self._open_lane()

    async def _run(self, job: Job, lane: asyncio.Task[Any] | None) -> None:
        if job.event in self._parked:
            self._parked[job.event].append(job)
            return
        now = self._clock.now_ms()
        again = False
        try:
            with Hop(self._trace, job.event, self._services[job.event], of=trace_of(job.payload)) as hop:
                if (job.lease_until is not None and job.lease_until - now >= 3 * self._tick_ms) or (
                        await self._claim(job, now)):
                    await self._carry_out(job, now, lane)
                hop.quiet = _found_nothing(job)
            again = job.ending is not None and job.ending.state == RETRY and self._working
        except LeaseLost:
            self._tell(job, "RUNNING", "lease lost: the run is void")
        finally:
            if not again:
                self._known.pop(job.id, None)
        if again:
            self._prepare(job)
            self._await_due(job)

    async def _claim(self, job: Job, now: int) -> bool:
        """Take the lease and read the row again; False if the job is somebody else's, done or not due any more."""
        until = now + self._lease_ms
        async with self._db.transaction() as tx:
            taken = await tx.execute(S.CLAIM, {
                "b_id": job.id, "b_me": self.worker, "b_now": now, "lease_owner": self.worker, "lease_until": until,
                "updated_at": now})
            row = await tx.first(S.BY_ID, {"b_id": job.id}) if taken else None
        if row is None:
            return False
        _, _, _, payload, _, job.retry_count, _, job.due_ms, _, job.lease_until, job.last_error, _, _ = row
        job.payload = orjson.loads(payload)
        job.retrying = False
        return True

    async def _carry_out(self, job: Job, now: int, lane: asyncio.Task[Any] | None) -> None:
        """Call the handler and see that its verdict is written."""
        job.started_ms, job.hung, job.task = now, False, lane
        self._running[job.id] = job
        if self._keeper is None:
            self._arm_keeper()
        try:
            verdict = await self._handlers[job.event](job)
        except (InvariantBroken, LeaseLost):
            raise
        except Exception as error:
            if job.ending is not None:
                raise  # the run is settled; what failed after it has no row to be noted in
            verdict = self._after_error(job, error)
        finally:
            del self._running[job.id]
            job.task = None
        if job.ending is None:
            await self._settle_alone(job, verdict)

    def _after_error(self, job: Job, error: Exception) -> Again:
        if self.unexpected is None and not isinstance(error, OutcomeUnknown | CallFailed):
            self.unexpected = error
        waits = self._waits[job.event] or _NO_WAITS
        wait = waits[min(job.retry_count, len(waits) - 1)]
        return Again(self._clock.now_ms() + wait, f"{type(error).__name__}: {error}")

    @staticmethod
    def _prepare(job: Job) -> None:
        """Remember the row as it was written, for the next run."""
        ending = job.ending
        assert ending is not None
        job.ending = None
        job.retry_count, job.due_ms, job.last_error = ending.retry_count, ending.due_ms, ending.last_error
        if ending.payload is not job.payload:
            job.payload = dict(ending.payload)
        job.lease_until = ending.lease_until
        job.retrying = True

    # Settling

    async def _settle_alone(self, job: Job, verdict: Verdict) -> None:
        ending = self._ending(job, verdict)
        await self._write(self._db, job, ending)
        self._settled(job, ending)

    async def _settle(self, tx: Transaction, job: Job, verdict: Verdict) -> None:
        if job.ending is not None:
            raise InvariantBroken(f"{job!r} is settled already: {job.ending}")
        ending = self._ending(job, verdict)
        await self._write(tx, job, ending)
        tx.after_commit(lambda: self._settled(job, ending))

    async def _note(self, job: Job, payload: dict[str, Any]) -> None:
        written = await self._db.execute(S.NOTE, {
            "b_id": job.id, "b_me": self.worker, "payload": orjson.dumps(payload).decode(),
            "updated_at": self._clock.now_ms()})
        if written != 1:
            raise LeaseLost(repr(job))
        job.payload = payload

    async def _write(self, on: Questions, job: Job, ending: Ending) -> None:
        held = ending.lease_until is not None
        row = {
            "b_id": job.id, "b_me": self.worker, "state": ending.state, "retry_count": ending.retry_count,
            "next_run_at": ending.due_ms, "last_error": ending.last_error, "lease_until": ending.lease_until,
            "lease_owner": self.worker if held else None, "updated_at": self._clock.now_ms()}
        if ending.payload is job.payload:
            written = await on.execute(S.AGAIN if job.retrying and ending.state == RETRY else S.SETTLE, row)
        else:
            row["payload"] = orjson.dumps(ending.payload).decode()
            written = await on.execute(S.SETTLE_PAYLOAD, row)
        if written != 1:
            raise LeaseLost(repr(job))

    def _settled(self, job: Job, ending: Ending) -> None:
        job.ending = ending
        if ending.error or self._trace_polls or ending.state != RETRY:
            self._tell(job, JobState(ending.state).name, ending.error, ending)
        if ending.alert:
            raise_alert(self._trace, ending.alert, ending.about or f"J{job.id}",
                        f"{job.event} {job.key}: {ending.last_error or 'no result'} "
                        f"({ending.retry_count} of {job.max_retry} retries used)")

    def _ending(self, job: Job, verdict: Verdict) -> Ending:
        """What a verdict makes of the row."""
        if isinstance(verdict, Done):
            return Ending(DONE, job.retry_count, job.due_ms, "", job.last_error, job.payload, None)
        if isinstance(verdict, Again):
            return self._repeated(job, verdict)
        if type(verdict) not in _LAST:
            raise InvariantBroken(f"the handler of {job.event} returned {verdict!r}")
        error = verdict.error[:ERROR_KEPT]
        if isinstance(verdict, Exhausted):
            used = min(job.retry_count + 1, job.max_retry)
            return Ending(EXCEPTION, used, job.due_ms, error, error or job.last_error, job.payload, None,
                          verdict.alert, verdict.about)
        return Ending(FAILED, job.retry_count, job.due_ms, error, error or job.last_error, job.payload, None)

    def _repeated(self, job: Job, again: Again) -> Ending:
        error = again.error[:ERROR_KEPT]
        payload = job.payload if again.payload is None else again.payload
        used = job.retry_count + 1 if again.counts else job.retry_count
        if used > job.max_retry:
            return Ending(EXCEPTION, job.max_retry, job.due_ms, error, error or job.last_error, payload, None, "JOB-01")
        lease_until = max(again.due_ms, self._clock.now_ms()) + self._lease_ms
        return Ending(RETRY, used, again.due_ms, error, error or job.last_error, payload, lease_until)

    # Keeping leases of long runs, and noticing hung ones

    def _arm_keeper(self) -> None:
        self._keeper = asyncio.get_running_loop().call_later(self._tick_ms / MS_PER_S, self._keep)

    def _keep(self) -> None:
        """Every quarter of a lease while something runs."""
        self._keeper = None
        if not self._running:
            return
        self._arm_keeper()
        now = self._clock.now_ms()
        running = list(self._running.values())
        for job in running:
            assert job.lease_until is not None
            if job.lease_until - now <= self._tick_ms:
                self._lose(job)
            elif now - job.started_ms >= self._hung_ms and not job.hung:
                job.hung = True
                raise_alert(self._trace, "JOB-02", f"J{job.id}",
                            f"{job.event} {job.key} runs since {(now - job.started_ms) // MS_PER_S} s on {self.worker}")
        self._spawn(self._renew([job for job in running if now > job.started_ms]))

    async def _renew(self, running: list[Job]) -> None:
        for job in running:
            if self._running.get(job.id) is not job or job.ending is not None:
                continue
            known, until = job.lease_until, self._clock.now_ms() + self._lease_ms
            if await self._db.execute(S.RENEW, {
                    "b_id": job.id, "b_me": self.worker, "b_until": known, "lease_until": until}):
                job.lease_until = until
            elif self._running.get(job.id) is job and job.ending is None:
                self._lose(job)

    def _lose(self, job: Job) -> None:
        """Its lease is somebody else's, or will be before we look again: the run must not go on."""
        self._tell(job, "RUNNING", "lease lost: the run is cancelled")
        if job.task is not None:
            job.task.cancel()

    # Finding jobs that nobody has

    def _arm_sweep(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self._sweep_ms / MS_PER_S, self._sweep_again)

    def _sweep_again(self) -> None:
        self._arm_sweep()
        self._spawn(self._sweep())

    async def _sweep(self) -> None:
        """Admit jobs without a holder that fall due before the next sweep: other workers' dead, and our past lives."""
        if not self._handlers:
            return
        now = self._clock.now_ms()
        asked = {"b_now": now, "b_horizon": now + self._sweep_ms, "b_due": -1, "b_after": 0, "b_limit": self._batch}
        while self._working:
            rows = await self._db.all(S.FREE_JOBS, asked)
            for row in rows:
                if row[0] not in self._known and row[1] in self._handlers and self._working:
                    self._found(_record(row))
            if len(rows) < self._batch:
                return
            asked["b_due"], asked["b_after"] = rows[-1][7], rows[-1][0]

    def _found(self, record: JobRecord) -> None:
        self._admit(Job(self, record.id, record.event, record.key, record.payload, record.retry_count,
                        record.max_retry, record.next_run_at, record.last_error, None))

    # What operations see and do

    async def find(self, event: str, key: str) -> JobRecord | None:
        """The job's row, or None."""
        row = await self._db.first(S.BY_KEY, {"b_event": event, "b_key": key})
        return None if row is None else _record(row)

    async def read(self, job_id: int) -> JobRecord | None:
        """The row of a job's id, or None."""
        row = await self._db.first(S.BY_ID, {"b_id": job_id})
        return None if row is None else _record(row)

    async def open_jobs(self, limit: int = 1_000) -> list[JobRecord]:
        """Jobs that will run or are running, the next one first."""
        return [_record(row) for row in await self._db.all(S.OPEN_JOBS, {"b_limit": limit})]

    async def in_state(self, state: JobState, limit: int = 1_000) -> list[JobRecord]:
        """Jobs in a state, such as EXCEPTION."""
        return [_record(row) for row in await self._db.all(S.IN_STATE, {"b_state": int(state), "b_limit": limit})]

    async def retry_now(self, job_id: int, operator: str) -> bool:
        """One more run of an EXCEPTION job, at once; False if there is none such. Nothing resumes by itself: all its
        retries count as used, so a run without a result makes it an EXCEPTION again (A-74, JOB-005)."""
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            row = await tx.first(S.BY_ID, {"b_id": job_id})
            mine = self._working and row is not None and row[1] in self._handlers
            reopened = await tx.execute(S.REOPEN, {
                "b_id": job_id, "next_run_at": now, "lease_owner": self.worker if mine else None,
                "lease_until": now + self._lease_ms if mine else None, "updated_at": now})
            if row is not None and reopened:
                tx.after_commit(lambda: self._reopened(_record(row), operator, now, mine))
        return bool(reopened)

    def _reopened(self, was: JobRecord, operator: str, now: int, mine: bool) -> None:
        job = Job(self, was.id, was.event, was.key, was.payload, was.max_retry, was.max_retry, now, was.last_error,
                  now + self._lease_ms if mine else None)
        self._trace.emit("staff", operator, {
            "operator": operator, "role": "", "action": "retry_job", "subject": f"J{job.id}", "result": "OK"})
        self._tell(job, "RETRY", "")
        if mine and self._working:
            self._admit(job)

    def _tell(self, job: Job, state: str, error: str, ending: Ending | None = None) -> None:
        retry, due = (job.retry_count, job.due_ms) if ending is None else (ending.retry_count, ending.due_ms)
        self._trace.emit("job", f"J{job.id}", {
            "job": job.event, "id": job.id, "key": job.key, "state": state, "retry": retry, "max": job.max_retry,
            "due_ms": due, "error": error})


def _found_nothing(job: Job) -> bool:
    """Whether a run was a poll without a result, or no run at all."""
    ending = job.ending
    return ending is None or (ending.state == RETRY and not ending.error and ending.payload is job.payload)


def _record(row: tuple[Any, ...]) -> JobRecord:
    id, event, key, payload, state, *rest = row
    return JobRecord(id, event, key, orjson.loads(payload), JobState(state), *rest)
