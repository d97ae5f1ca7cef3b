"""A world for jobs: virtual loop, real in-memory databases, workers that can be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from datetime import date
from typing import Any, TypeVar

import pytest

from core.clock import hkt_midnight_ms
from core.jobs import Job, JobRecord, Jobs, Verdict
from core.locks import LocalLocks
from core.settings import Settings
from core.storage import Databases, StorageConfig, open_databases
from core.trace import Event, Trace
from emulators.loop import LoopClock, SimLoop

T = TypeVar("T")
Handler = Callable[[Job], Awaitable[Verdict]]
WAITS = {"Poll": (3_000,), "Credit": (1_000, 5_000, 30_000), "Once": (), "Other": (2_000,)}


class World:
    """Virtual time from a Hong Kong midnight on; what tasks raise is kept in `raised`, never lost."""

    def __init__(self, day_offset_ms: int = 9 * 3_600_000) -> None:
        self.loop = SimLoop()
        self.origin = hkt_midnight_ms(date(2026, 3, 12)) + day_offset_ms
        self.clock = LoopClock(self.loop, self.origin)
        self.events: list[Event] = []
        self.trace = Trace(self.clock, self.events.append)
        self.locks = LocalLocks(self.clock)
        self.databases: Databases = self.run(open_databases(StorageConfig()))
        self.raised: list[BaseException] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def run(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run_until_complete(awaitable)

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and everything due in it happen."""
        self.run(self.loop.advance(round(seconds * 1_000_000)))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[Any]:
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.raised.append(error)

    def worker(self, handlers: Mapping[str, Handler], name: str = "w1", databases: Databases | None = None,
               **overlay: Any) -> Jobs:
        """A worker that is not started yet; overlay keys of ``jobs.`` with double underscores for dots."""
        settings = Settings({f"jobs.{key.replace('__', '.')}": value for key, value in overlay.items()})
        return Jobs((databases or self.databases).primary, self.clock, self.trace, name, settings, handlers,
                    self.spawn, waits_ms=WAITS)

    def started(self, handlers: Mapping[str, Handler], name: str = "w1", databases: Databases | None = None,
                **overlay: Any) -> Jobs:
        jobs = self.worker(handlers, name, databases, **overlay)
        self.run(jobs.start())
        return jobs

    def queue(self, jobs: Jobs, event: str, key: str = "A1", after_s: float = 0, max_retry: int = 3,
              payload: dict[str, Any] | None = None, databases: Databases | None = None) -> int | None:
        async def enqueue() -> int | None:
            async with (databases or self.databases).primary.transaction() as tx:
                return await jobs.enqueue(tx, event, key, payload or {}, self.clock.now_ms() + round(after_s * 1000),
                                          max_retry)

        return self.run(enqueue())

    def row(self, jobs: Jobs, event: str, key: str = "A1") -> JobRecord:
        record = self.run(jobs.find(event, key))
        assert record is not None
        return record

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return (self.clock.now_us() - self.origin * 1_000) / 1_000_000

    def told(self, kind: str, subject: str | None = None) -> list[dict[str, Any]]:
        """Data of the events of a kind."""
        return [event[4] for event in self.events if event[2] == kind and subject in (None, event[3])]

    def states(self, job: str) -> list[str]:
        return [data["state"] for data in self.told("job") if data["job"] == job]

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.pass_s(0)
        self.run(self.databases.close())
        self.loop.close()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()
    assert world.raised == []


@pytest.fixture
def make_world() -> Iterator[Callable[[], World]]:
    """Worlds for tests that need several, or expect tasks to fail."""
    made: list[World] = []

    def make(day_offset_ms: int = 9 * 3_600_000) -> World:
        made.append(World(day_offset_ms))
        return made[-1]

    yield make
    for world in made:
        world.close()
