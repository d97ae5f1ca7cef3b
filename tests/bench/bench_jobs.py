"""What a job run, a poll, a lock and an idle timetable cost."""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

from core.jobs import REGISTRY, Again, Done, Job, Timetable, Verdict
from core.jobs.registry import periodic
from core.locks import LocalLocks
from core.settings import Settings
from tests.jobs.conftest import World

RUNS = 20_000
REPETITIONS = 5


def locks() -> float:
    """Microseconds for taking and releasing a free lock."""
    world = World()
    service = LocalLocks(world.clock)

    async def main() -> float:
        began = perf_counter()
        for _ in range(RUNS * 5):
            token = await service.acquire("procedure:17", "w1", 30_000, 2_000)
            await service.release("procedure:17", token or "")
        return (perf_counter() - began) / RUNS / 5

    return 1e6 * _in(world, main())


async def _done(job: Job) -> Verdict:
    return Done()


def runs(spread_ms: int, queueing: bool = False) -> float:
    """Microseconds to run and settle a job, each due at its own moment or all at once; or those to queue it."""
    world = World()
    jobs = world.started({"Once": _done}, hung_s=3600)

    async def main() -> float:
        began = perf_counter()
        async with world.databases.primary.transaction() as tx:
            now = world.clock.now_ms()
            for n in range(RUNS):
                await jobs.enqueue(tx, "Once", f"K{n}", {"apply": n}, now + n * spread_ms + 10, 3)
        queued = perf_counter()
        await asyncio.sleep(RUNS * spread_ms / 1000 + 1)
        return (queued - began if queueing else perf_counter() - queued) / RUNS

    return 1e6 * _in(world, main())


def polls() -> float:
    """Microseconds per poll of 100 jobs polling every 3 s."""
    world = World()
    jobs = world.started({"Poll": _poll}, hung_s=3600)
    for n in range(100):
        world.queue(jobs, "Poll", f"K{n}", n * 0.03, 1 << 30)

    async def main() -> float:
        began = perf_counter()
        await asyncio.sleep(3 * RUNS / 100)
        return (perf_counter() - began) / RUNS

    return 1e6 * _in(world, main())


async def _poll(job: Job) -> Verdict:
    return Again(job.due_ms + 3_000)


def idle_day(only_minutes: bool) -> float:
    """Seconds for a virtual day of periodic jobs that find nothing: 25 of 60 s each, or the whole registry."""
    world = World(0)
    names = [entry.name for entry in REGISTRY if periodic(entry)]
    overlay = {}
    if only_minutes:
        names = names[:25]
        keys = {key for entry in REGISTRY for schedule in periodic(entry) for key in schedule if key}
        overlay = {key: 60 for key in keys if isinstance(key, str) and key.endswith(("period_s", "pull_s"))}

    async def nothing() -> int:
        return 0

    timetable = Timetable(world.databases.primary, world.clock, world.trace, world.locks, "w1", Settings(overlay),
                          _EveryDay(), dict.fromkeys(names, nothing), world.spawn)
    world.tasks = _Forget()  # type: ignore[assignment]
    world.run(timetable.start())

    async def main() -> float:
        began = perf_counter()
        await asyncio.sleep(86_400)
        return perf_counter() - began

    seconds = _in(world, main())
    print(f"  {sum(status.runs for status in timetable.status())} runs")
    return seconds


class _EveryDay:
    def business_day(self, day: Any, as_of_ms: int | None = None) -> bool:
        return True

    def is_trading_day(self, market: Any, day: Any, as_of_ms: int | None = None) -> bool:
        return True


class _Forget(list):  # type: ignore[type-arg]
    def append(self, item: object) -> None:
        pass


def _in(world: World, coroutine: Any) -> float:
    world.tasks = _Forget()  # type: ignore[assignment]
    gc.collect()
    result: float = world.run(coroutine)
    world.close()
    return result


def measure() -> dict[str, float]:
    """Medians: microseconds per lock, queueing, run and poll; seconds of a virtual day of the timetable."""
    measures: dict[str, Callable[[], float]] = {
        "lock_us": locks, "queue_us": lambda: runs(1, True), "run_us": lambda: runs(1),
        "run_in_burst_us": lambda: runs(0), "poll_us": polls,
        "idle_day_25_minute_jobs_s": lambda: idle_day(True), "idle_day_registry_s": lambda: idle_day(False)}
    return {name: statistics.median(take() for _ in range(REPETITIONS)) for name, take in measures.items()}


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:28} {value:12.3f}")
