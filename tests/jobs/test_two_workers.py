"""Two workers on one database in random interleavings: no job ever runs twice at one moment, and all get finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from conftest import World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.domain import JobState
from core.jobs import Again, Done, Exhausted, Failed, Job, Jobs, Verdict
from core.storage import Severed

NAMES = ("w1", "w2")
ENDED = {JobState.DONE, JobState.EXCEPTION, JobState.FAILED}
STEPS = st.tuples(st.sampled_from(["again", "raise", "done", "settle", "exhaust", "fail"]),
                  st.sampled_from([0, 0, 100, 4_000, 29_999, 30_000, 95_000]), st.sampled_from([0, 1_000, 45_000]))
"""What a run ends with, how long it takes, and how much later the next one is due (milliseconds)."""


class TwoWorkers(RuleBasedStateMachine):
    """Workers start, die (their coroutines linger like ghosts), stop, are paused; jobs follow scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.alive: dict[str, tuple[int, Any, Jobs]] = {}  # name -> (life, databases, worker)
        self.lives = 0
        self.running: dict[int, list[int]] = {}  # job -> lives that run it
        self.queued = 0
        self.overlaps: list[tuple[int, list[int]]] = []
        self.order: dict[str, list[int]] = {}

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self.world.close()

    # What happens

    @precondition(lambda self: len(self.alive) < 2)
    @rule(first=st.booleans())
    def start(self, first: bool) -> None:
        free = [name for name in NAMES if name not in self.alive]
        name = free[0] if first else free[-1]
        self.lives += 1
        databases = self.world.databases._again()  # one more core on the same data
        worker = self.world.worker({"Poll": self._handler(self.lives, databases)}, name, databases, concurrency=2)
        self.alive[name] = (self.lives, databases, worker)
        self.world.run(worker.start())

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.alive)))
        life, databases, worker = self.alive.pop(name)
        worker.halt()
        databases.sever()
        for lives in self.running.values():
            if life in lives:
                lives.remove(life)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        _, _, worker = self.alive.pop(data.draw(st.sampled_from(sorted(self.alive))))
        self.world.run(worker.stop())

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), steps=st.lists(STEPS, max_size=5), due_ms=st.sampled_from([0, 1, 3_000, 60_000]))
    def queue(self, data: st.DataObject, steps: list[Any], due_ms: int) -> None:
        _, databases, worker = self.alive[data.draw(st.sampled_from(sorted(self.alive)))]
        self.queued += 1
        self.world.queue(worker, "Poll", f"K{self.queued}", due_ms / 1_000, 4, {"steps": steps}, databases)

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), pause=st.booleans())
    def pause(self, data: st.DataObject, pause: bool) -> None:
        _, _, worker = self.alive[data.draw(st.sampled_from(sorted(self.alive)))]
        (worker.pause if pause else worker.resume)("Poll")

    @rule(ms=st.sampled_from([0, 1, 999, 3_000, 7_500, 29_999, 30_001, 100_000]))
    def wait(self, ms: int) -> None:
        self.world.pass_s(ms / 1_000)

    # What a job does

    def _handler(self, life: int, databases: Any) -> Callable[[Job], Any]:
        async def handler(job: Job) -> Verdict:
            runners = self.running.setdefault(job.id, [])
            if self._lives(life):
                runners.append(life)
            if len(runners) > 1:
                self.overlaps.append((job.id, list(runners)))
            try:
                return await self._step(job, databases)
            finally:
                if life in runners:
                    runners.remove(life)

        return handler

    async def _step(self, job: Job, databases: Any) -> Verdict:
        steps = job.payload["steps"]
        if not steps:
            return Done()
        (what, takes_ms, later_ms), rest = steps[0], {"steps": steps[1:]}
        await asyncio.sleep(takes_ms / 1_000)
        if what == "raise":
            raise ValueError("once more, and the script does not move on")
        if what == "settle":
            async with databases.primary.transaction() as tx:
                return await job.settle(tx, Again(job.due_ms + later_ms, payload=rest, counts=False))
        endings = {"again": Again(job.due_ms + later_ms, payload=rest), "done": Done(), "exhaust": Exhausted("x"),
                   "fail": Failed("y")}
        return endings[what]

    def _lives(self, life: int) -> bool:
        return any(life == alive for alive, _, _ in self.alive.values())

    # What must hold

    @invariant()
    def never_twice_at_once(self) -> None:
        assert self.overlaps == []

    @invariant()
    def only_the_killed_complain(self) -> None:
        assert all(isinstance(error, Severed) for error in self.world.raised), self.world.raised

    def _finish(self) -> None:
        """One healthy worker and enough time: everything ends."""
        for _, _, worker in self.alive.values():
            worker.resume("Poll")
        if not self.alive:
            self.start(True)
        self.world.pass_s(3_600)
        self.never_twice_at_once()
        self.only_the_killed_complain()
        _, _, worker = next(iter(self.alive.values()))
        for number in range(1, self.queued + 1):
            assert self.world.row(worker, "Poll", f"K{number}").state in ENDED, number


TestTwoWorkers = TwoWorkers.TestCase
TestTwoWorkers.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
