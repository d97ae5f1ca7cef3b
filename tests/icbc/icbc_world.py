"""ICBC and a core's collector of it on one virtual clock: what these tests are built with."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from core.calendars import Calendars
from core.clock import epoch_ms, hkt
from core.deposits.collect_icbc import IcbcCollector
from core.deposits.collection import StatementRoom
from core.deposits.icbc_flows import Row
from core.deposits.icbc_incidents import IcbcIncidents
from core.deposits.statements import Flow, Statements
from core.domain import Role
from core.jobs import Jobs, Timetable
from core.locks import LocalLocks
from core.orchestration.records import Actor
from core.runtime.statement_banks import collectors
from core.settings import Settings
from core.storage import Databases, Statement, StorageConfig, open_databases
from core.storage.primary import icbc_script
from core.trace import Event, Trace
from emulators.loop import LoopClock, SimLoop
from emulators.receiving import Line
from emulators.streams import Streams
from scenarios.banks import DeathTraps, InMemory, Life, Site
from scenarios.banks.icbc import IcbcInWorld
from scenarios.names import names

START = "2026-03-12 09:00"
ON_DUTY, SUPERVISOR = Actor("staff_2001", Role.ON_DUTY), Actor("staff_3001", Role.SUPERVISOR)
FRONTLINE, TECH = Actor("staff_1001", Role.FRONTLINE), Actor("staff_4001", Role.TECH_OPS)
HKD = "861000000011"
NAMES = names()


def ms_of(moment: str) -> int:
    """Epoch ms of a Hong Kong time such as ``2026-03-12 09:00``."""
    from datetime import datetime

    return epoch_ms(datetime.strptime(moment, "%Y-%m-%d %H:%M"))


class IcbcWorld:
    """One run. Customers a, b, c have HKD 1,000,000 each."""

    def __init__(self, *, wire: str = "messages", start: str = START, settings: dict[str, Any] | None = None) -> None:
        self.loop = SimLoop()
        self.clock = LoopClock(self.loop, ms_of(start))
        self.events: list[Event] = []
        self.trace = Trace(self.clock, self.events.append)
        self.settings = Settings(settings or {})
        self.streams, self.calendars = Streams(7), Calendars(self.settings)
        self.databases: Databases = self.run(open_databases(StorageConfig()))
        self.places = InMemory(self.loop, self.streams)
        site = Site(wire, NAMES, self.loop, self.clock, self.trace, self.streams, self.settings, self.calendars,
                    self.places, DeathTraps(lambda _ms: None))
        self.world = IcbcInWorld(site)
        self.bank = self.world.bank
        for customer in "abc":
            self.bank.open_customer(customer, f"CHAN {customer.upper()}", {"HKD": 100_000_000}, f"6222{customer}")
        self.raised: list[BaseException] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.life: Life
        self.run(self.world.open())
        self.run(self.begin_core())

    async def begin_core(self) -> None:
        """A core, in place of the one before it."""
        self.life = Life()
        jobs = Jobs(self.databases.primary, self.clock, self.trace, "w1", self.settings, {}, self.spawn)
        self.statements = Statements(self.databases.primary, self.clock, self.trace, keep_months=2)
        room = StatementRoom(self.databases.primary, self.clock, self.trace, self.settings, self.calendars, jobs,
                             self.statements)
        self.jobs = jobs
        collector = collectors({"icbc": self.world.lines(self.life)}, room)["icbc"]
        assert isinstance(collector, IcbcCollector)
        self.collector, self.incidents = collector, IcbcIncidents(collector)
        self.timetable = Timetable(self.databases.primary, self.clock, self.trace, LocalLocks(self.clock), "w1",
                                   self.settings, self.calendars, collector.scheduled, self.spawn)
        jobs.register(collector.handlers)
        await jobs.start()
        await collector.start(self.spawn)
        await self.timetable.start()

    async def restart_core(self) -> None:
        """The core dies and another begins on the same data."""
        self.end_core()
        self.databases = self.databases.reopen()
        await self.begin_core()

    # Time

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def pass_s(self, seconds: float) -> None:
        self.run(self.loop.advance(round(seconds * 1_000_000)))
        assert self.timetable.unexpected is None, self.timetable.unexpected
        assert not self.raised, self.raised

    def until(self, moment: str) -> None:
        self.pass_s((ms_of(moment) - self.clock.now_ms()) / 1000)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.raised.append(error)

    def end_core(self) -> None:
        """Nothing of the core goes on."""
        self.timetable.halt()
        self.jobs.halt()
        self.life.end()
        for task in list(self._tasks):
            task.cancel()

    # Acting and looking

    def pay(self, customer: str = "a", amount: int = 100_000, remark: str = "") -> Line:
        line = self.bank.transfer(customer, "HKD", amount, remark=remark or f"for {customer}")
        assert line is not None
        return line

    def rows(self, group: str = "prod", *, deleted: bool = False) -> list[Row]:
        """Rows of the HKD account in the order of serials."""
        found = self.run(self.collector.book.since(group, HKD, 0))
        return [row for row in found if deleted or row.deleted_at is None]

    def serials(self, group: str = "prod") -> list[str]:
        return [row.serial for row in self.rows(group)]

    def flows(self) -> list[Flow]:
        """All statement entries of March and April."""
        return list(self.run(self.statements.between("icbc", ms_of("2026-03-01 00:00"), ms_of("2026-04-30 00:00"))))

    def references(self) -> list[str]:
        return [flow.bank_ref for flow in self.flows()]

    def use(self, serial: str, **fields: Any) -> Flow:
        """Matching uses the entry of a serial."""
        flow = next(flow for flow in self.flows() if flow.bank_ref == serial)

        async def change() -> Flow | None:
            async with self.databases.primary.transaction() as tx:
                return await self.statements.change(tx, flow, **({"status": 3, "is_used": 1} | fields))

        changed = self.run(change())
        assert changed is not None
        return changed

    def alerts(self, rule: str = "ICBC-01", phase: str = "raised") -> list[str]:
        """Keys of an alert, in the order in which it was raised (or cleared)."""
        return [data["key"] for _, _, kind, subject, data in self.events
                if kind == "alert" and subject == rule and data["phase"] == phase]

    def details(self, rule: str = "ICBC-01") -> list[str]:
        return [data["detail"] for _, _, kind, subject, data in self.events if kind == "alert" and subject == rule]

    def open_alerts(self, rule: str = "ICBC-01") -> set[str]:
        found: dict[str, None] = {}
        for _, _, kind, subject, data in self.events:
            if kind == "alert" and subject == rule:
                found[data["key"]] = None
                if data["phase"] == "cleared":
                    del found[data["key"]]
        return set(found)

    def said(self, word: str, group: str = "") -> list[str]:
        """Lines of the service's log that have a word."""
        return [data["text"] for _, _, kind, _, data in self.events
                if kind == "log" and word in data["text"] and group in ("", data["group"])]

    def scripts(self) -> list[tuple[Any, ...]]:
        """(kind, result, operator, remark, script) of each script."""
        table = icbc_script
        return list(self.run(self.databases.primary.all(Statement(select(
            table.c.kind, table.c.result, table.c.operator, table.c.remark, table.c.script).order_by(table.c.id)), {})))

    def clock_says(self) -> str:
        return hkt(self.clock.now_ms()).strftime("%Y-%m-%d %H:%M:%S")


@contextmanager
def icbc_world(**how: Any) -> Iterator[IcbcWorld]:
    """A world that is closed at the end."""
    world = IcbcWorld(**how)
    try:
        yield world
    finally:
        world.end_core()
        world.run(world.world.close())
        world.run(world.databases.close())
        world.loop.close()
