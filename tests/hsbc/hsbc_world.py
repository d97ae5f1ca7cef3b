"""A core's collector of HSBC's statements, the emulated bank and the line between them, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select

from core.calendars import Calendars
from core.clock import epoch_ms
from core.deposits.collect_hsbc import HsbcCollector
from core.deposits.collection import StatementRoom
from core.deposits.statements import Flow, Statements
from core.jobs import Jobs, Timetable
from core.locks import LocalLocks
from core.settings import Settings
from core.storage import Databases, Statement, StorageConfig, open_databases
from core.storage.primary import hsbc_file
from core.trace import Event, Trace
from emulators.loop import LoopClock, SimLoop
from emulators.streams import Streams
from scenarios.banks.bank import DeathTraps, Life, Site
from scenarios.banks.hsbc import HsbcInWorld
from scenarios.banks.places import InMemory
from scenarios.names import names

START = "2026-03-12 09:30"
NAMES = names()
FILES = Statement(select(*(hsbc_file.c[name] for name in (
    "source", "name", "state", "accepted", "duplicate", "refused", "reason", "contents"))).order_by(hsbc_file.c.id))


class Core:
    """What a core consists of, as far as statements go."""

    def __init__(self, world: World) -> None:
        self.world, self.life = world, Life()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.errors: list[BaseException] = []
        settings, clock, trace, primary = world.settings, world.clock, world.trace, world.databases.primary
        self.statements = Statements(primary, clock, trace, keep_months=2)
        jobs = Jobs(primary, clock, trace, "w", settings, {}, self.spawn)
        self.collector = HsbcCollector(world.hsbc.lines(self.life), StatementRoom(
            primary, clock, trace, settings, world.calendars, jobs, self.statements))
        self.timetable = Timetable(primary, clock, trace, world.locks, "w", settings, world.calendars,
                                   self.collector.scheduled, self.spawn)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self.errors.append(task.exception())  # type: ignore[arg-type]

    async def start(self) -> None:
        await self.statements.ids.begin()
        await self.timetable.start()
        await self.collector.start(self.spawn)

    async def stop(self) -> None:
        await self.timetable.stop()
        await self.collector.stop()

    def kill(self) -> None:
        """As `scenarios.world.World.kill` does, without the databases."""
        self.life.end()
        self.timetable.halt()
        for task in list(self.tasks):
            task.cancel()


@dataclass
class World:
    """What a story holds in its hands."""

    loop: SimLoop
    clock: LoopClock
    trace: Trace
    settings: Settings
    calendars: Calendars
    locks: LocalLocks
    databases: Databases
    hsbc: HsbcInWorld
    places: InMemory
    events: list[Event] = field(default_factory=list)
    core: Core = field(init=False)

    @property
    def bank(self):
        return self.hsbc.bank

    def receive(self, amount: int = 1_000_000, ccy: str = "HKD", name: str = "CHAN TAI MAN", **more: Any):
        return self.bank.receive(ccy, amount, payer_name=name, payer_account="012345678901", **more)

    async def flows(self) -> list[Flow]:
        since, until = (epoch_ms(datetime.fromisoformat(day)) for day in ("2026-02-01", "2026-05-01"))
        return await self.core.statements.between("hsbc", since, until)

    async def files(self) -> list[dict[str, Any]]:
        keys = ("source", "name", "state", "accepted", "duplicate", "refused", "reason", "contents")
        return [dict(zip(keys, row, strict=True)) for row in await self.databases.primary.all(FILES, {})]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [data for _, _, name, _, data in self.events if name == kind]

    def alerts(self, rule: str) -> list[dict[str, Any]]:
        return [data for data in self.of_kind("alert") if data["rule"] == rule and data["phase"] == "raised"]

    def sources(self) -> list[str]:
        return [data["source"] for data in self.of_kind("statement")]

    async def restart(self) -> None:
        """Another core takes over after this one was killed."""
        self.core = Core(self)
        await self.core.start()


Story = Callable[[World], Awaitable[Any]]


def play(story: Story, *, wire: str = "full", settings: dict[str, Any] | None = None, seed: int = 7,
         start: str = START, until: float = 0.0) -> World:
    """Run a story, then ``until`` seconds more; the world as it is at the end, checked for escaped errors."""
    loop = SimLoop()
    failures: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_played(loop, story, wire, settings or {}, seed, start, until, failures))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _played(loop: SimLoop, story: Story, wire: str, overlay: dict[str, Any], seed: int, start: str,
                  until: float, failures: list[Any]) -> World:
    settings = Settings(overlay)
    clock = LoopClock(loop, epoch_ms(datetime.fromisoformat(start)))
    events: list[Event] = []
    trace = Trace(clock, events.append)
    streams, calendars = Streams(seed), Calendars(settings)
    places = InMemory(loop, streams)
    site = Site(wire, NAMES, loop, clock, trace, streams, settings, calendars, places, DeathTraps(lambda _ms: None))
    world = World(loop, clock, trace, settings, calendars, LocalLocks(clock),
                  await open_databases(StorageConfig("memory")), HsbcInWorld(site), places, events)
    await world.hsbc.open()
    world.core = Core(world)
    await world.core.start()
    try:
        await story(world)
        await asyncio.sleep(until)
        world.final_flows, world.final_files = await world.flows(), await world.files()  # type: ignore[attr-defined]
    finally:
        await world.core.stop()
        await world.hsbc.close()
        await world.places.close()
        await world.databases.close()
    await asyncio.sleep(1)
    assert not failures, failures
    assert not world.core.errors and world.core.timetable.unexpected is None, (
        world.core.errors, world.core.timetable.unexpected)
    return world


__all__ = ["NAMES", "Core", "World", "play"]
