"""A small world for BOCHK: the emulated bank on its lines, and a core that collects from it by the real timetable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, TypeVar

from core.calendars import Calendars
from core.clock import show_time
from core.deposits.collect_bochk import BochkCollector
from core.deposits.collection import StatementRoom
from core.deposits.statements import Flow, Statements
from core.jobs import Jobs, Timetable
from core.locks import LocalLocks
from core.settings import Settings
from core.storage import Databases, StorageConfig, open_databases
from core.trace import Event, Trace
from emulators.loop import LoopClock, SimLoop
from emulators.receiving import Line
from emulators.streams import Streams
from scenarios.banks.bank import DeathTraps, Life, Site
from scenarios.banks.bochk import BochkInWorld
from scenarios.banks.places import InMemory
from scenarios.names import names
from scenarios.schema import full_moment_ms

T = TypeVar("T")
HKD = "01287500000011"
ALICE, BOB = "alice", "bob"
HELD = {"HKD": 10**12, "USD": 10**12, "CNH": 10**12}
NAMES = names()


class BochkWorld:
    """``wire``: messages, or full (documents over HTTP, S16 by a real FTP server on the memory network)."""

    def __init__(
        self, start: str = "2026-03-12 05:00", *, wire: str = "messages", seed: int = 5,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.loop = SimLoop()
        self.clock = LoopClock(self.loop, full_moment_ms(start))
        self.events: list[Event] = []
        self.trace = Trace(self.clock, self.events.append)
        self.settings = Settings(settings)
        self.calendars = Calendars(self.settings)
        self.databases: Databases = self.run(open_databases(StorageConfig()))
        streams = Streams(seed)
        self.places = InMemory(self.loop, streams)
        site = Site(wire, NAMES, self.loop, self.clock, self.trace, streams, self.settings, self.calendars, self.places,
                    DeathTraps(lambda _ms: None))
        self.place = BochkInWorld(site)
        self.bank = self.place.bank
        for who, name, account in ((ALICE, "CHAN TAI MAN", "01233300000001"), (BOB, "LEE SIU MING", "01244400000002")):
            self.bank.open_customer(who, name, HELD, account)
        self.run(self.place.open())
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.raised: list[BaseException] = []
        self.locks = LocalLocks(self.clock)
        self.life = Life()
        self._begin()

    def _begin(self) -> None:
        primary = self.databases.primary
        jobs = Jobs(primary, self.clock, self.trace, "w1", self.settings, {}, self.spawn)
        self.statements = Statements(primary, self.clock, self.trace, keep_months=2)
        self.room = StatementRoom(primary, self.clock, self.trace, self.settings, self.calendars, jobs, self.statements)
        self.collector = BochkCollector(self.place.lines(self.life), self.room)
        self.timetable = Timetable(primary, self.clock, self.trace, self.locks, "w1", self.settings, self.calendars,
                                   self.collector.scheduled, self.spawn)
        self.run(self.collector.start(self.spawn))
        self.run(self.timetable.start())

    def restart(self, *, killed: bool = False) -> None:
        """The core ends, orderly or in the middle of whatever it does, and another takes its place."""
        if killed:
            self.timetable.halt()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                self.run(asyncio.gather(*self._tasks, return_exceptions=True))
        else:
            self.run(self.timetable.stop())
        self.life.end()
        self.life = Life()
        self._begin()

    # Time

    def run(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run_until_complete(awaitable)

    def until(self, moment: str) -> None:
        """Let time pass up to a Hong Kong time."""
        self.pass_s((full_moment_ms(moment) - self.clock.now_ms()) / 1000)

    def pass_s(self, seconds: float) -> None:
        self.run(self.loop.advance(round(seconds * 1_000_000)))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task)
        if not task.cancelled() and task.exception() is not None:
            self.raised.append(task.exception())

    # Acting

    def pay(self, amount: int = 100_000, who: str = ALICE, ccy: str = "HKD", **shown: Any) -> Line:
        line = self.bank.transfer(who, ccy, amount, **shown)
        assert line is not None
        return line

    def pay_at(self, moment: str, amount: int = 100_000, **more: Any) -> Line:
        self.until(moment)
        return self.pay(amount, **more)

    # Looking

    def flows(self, since: str = "2026-01-01 00:00", until: str = "2026-12-30 00:00") -> list[Flow]:
        return self.run(self.statements.between("bochk", full_moment_ms(since), full_moment_ms(until)))

    def told(self, kind: str, **wanted: Any) -> list[dict[str, Any]]:
        return [event[4] for event in self.events
                if event[2] == kind and all(event[4].get(key) == value for key, value in wanted.items())]

    def moments(self, kind: str, **wanted: Any) -> list[str]:
        """Hong Kong times (HH:MM) of the events of a kind."""
        return [show_time(event[1] // 1000)[11:16] for event in self.events
                if event[2] == kind and all(event[4].get(key) == value for key, value in wanted.items())]

    def alerts(self, rule: str, phase: str = "raised") -> list[dict[str, Any]]:
        return self.told("alert", rule=rule, phase=phase)

    def close(self) -> None:
        self.run(self.timetable.stop())
        self.run(self.place.close())
        self.run(self.databases.close())
        self.loop.close()
