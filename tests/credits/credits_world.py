"""Banks that number what they tell, and one core's collectors of them, on one virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from core.calendars import Calendars
from core.clock import epoch_ms
from core.deposits.collection import StatementRoom
from core.deposits.statements import Flow, Statements
from core.jobs import Jobs, Timetable
from core.locks import LocalLocks
from core.runtime.statement_banks import collectors, scheduled
from core.settings import Settings
from core.storage import Databases, StorageConfig, open_databases
from core.trace import Event, Trace
from emulators.loop import LoopClock, SimLoop
from emulators.receiving import Line
from emulators.streams import Streams
from scenarios.banks import DeathTraps, InMemory, Life, Site
from scenarios.banks.credits import CREDIT_BANKS, CreditBankInWorld
from scenarios.banks.mailboxes import MailboxInWorld
from scenarios.names import names

START = "2026-03-12 09:00"
NAMES = names()


def ms_of(moment: str) -> int:
    """Epoch ms of a Hong Kong time such as ``2026-03-12 09:00``."""
    return epoch_ms(datetime.strptime(moment, "%Y-%m-%d %H:%M"))


class CreditsWorld:
    """One run with some banks. Customers a, b, c have a million in each currency at each."""

    def __init__(self, banks: Sequence[str], *, wire: str = "messages", start: str = START,
                 settings: dict[str, Any] | None = None) -> None:
        self.loop = SimLoop()
        self.clock = LoopClock(self.loop, ms_of(start))
        self.events: list[Event] = []
        self.trace = Trace(self.clock, self.events.append)
        self.settings = Settings(settings or {})
        self.streams, self.calendars = Streams(7), Calendars(self.settings)
        self.databases: Databases = self.run(open_databases(StorageConfig()))
        site = Site(wire, NAMES, self.loop, self.clock, self.trace, self.streams, self.settings, self.calendars,
                    InMemory(self.loop, self.streams), DeathTraps(lambda _ms: None))
        self.worlds = {bank: CreditBankInWorld(bank, site) if bank in CREDIT_BANKS else MailboxInWorld(bank, site)
                       for bank in banks}
        for name, world in self.worlds.items():
            for customer in "abc":
                balances = dict.fromkeys(("HKD", "USD", "CNH"), 100_000_000)
                world.bank.open_customer(customer, f"CHAN {customer.upper()}", balances, f"{name}-000{customer}4321")
            self.run(world.open())
        self.raised: list[BaseException] = []
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.life: Life
        self.run(self.begin_core())

    async def begin_core(self) -> None:
        self.life = Life()
        self.statements = Statements(self.databases.primary, self.clock, self.trace, keep_months=2)
        jobs = Jobs(self.databases.primary, self.clock, self.trace, "w1", self.settings, {}, self.spawn)
        room = StatementRoom(self.databases.primary, self.clock, self.trace, self.settings, self.calendars, jobs,
                             self.statements)
        self.collectors = collectors({name: world.lines(self.life) for name, world in self.worlds.items()}, room)
        self.timetable = Timetable(self.databases.primary, self.clock, self.trace, LocalLocks(self.clock), "w1",
                                   self.settings, self.calendars, scheduled(self.collectors), self.spawn)
        for collector in self.collectors.values():
            await collector.start(self.spawn)
        await self.timetable.start()

    def restart_core(self) -> None:
        """The core dies and another begins on the same data."""
        self.end_core()
        self.databases = self.databases.reopen()
        self.run(self.begin_core())

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
        self.timetable.halt()
        self.life.end()
        for task in list(self._tasks):
            task.cancel()

    # Acting and looking

    def bank(self, name: str) -> Any:
        return self.worlds[name].bank

    def pay(self, bank: str, customer: str = "a", amount: int = 100_000, ccy: str = "HKD") -> Line:
        line = self.bank(bank).transfer(customer, ccy, amount, remark=f"for {customer}")
        assert line is not None
        return line

    def flows(self, bank: str) -> list[Flow]:
        return list(self.run(self.statements.between(bank, ms_of("2026-03-01 00:00"), ms_of("2026-05-31 00:00"))))

    def references(self, bank: str) -> list[str]:
        return [flow.bank_ref for flow in self.flows(bank)]

    def told(self, bank: str) -> list[tuple[str, str, str, int, int]]:
        """The credits in the bank's statement, as entries should be."""
        return sorted((line.reference, line.our_account, line.ccy, line.amount, line.booked_ms // 1000)
                      for line in self.bank(bank).lines() if line.credit)

    def kept(self, bank: str) -> list[tuple[str, str, str, int, int]]:
        return sorted((flow.bank_ref, flow.our_account, flow.ccy, flow.amount, flow.credit_time // 1000)
                      for flow in self.flows(bank))

    def alerts(self, rule: str, phase: str = "raised") -> list[str]:
        return [data["key"] for _, _, kind, subject, data in self.events
                if kind == "alert" and subject == rule and data["phase"] == phase]

    def details(self, rule: str) -> list[str]:
        """What an alert said, each time that it was raised."""
        return [data["detail"] for _, _, kind, subject, data in self.events
                if kind == "alert" and subject == rule and data["phase"] == "raised"]

    def sources(self, bank: str) -> list[tuple[str, str]]:
        """(reference, by which way it came first) of each entry."""
        return [(data["ref"], data["source"]) for _, _, kind, _, data in self.events
                if kind == "statement" and data["bank"] == bank]

    def seconds_to_arrive(self, bank: str) -> list[float]:
        """From the booking to the entry."""
        booked = {line.reference: line.booked_ms for line in self.bank(bank).lines()}
        return [t_us / 1e6 - booked[data["ref"]] / 1e3 for _, t_us, kind, _, data in self.events
                if kind == "statement" and data["bank"] == bank]


@contextmanager
def credits_world(*banks: str, **how: Any) -> Iterator[CreditsWorld]:
    """A world that is closed at the end."""
    world = CreditsWorld(banks, **how)
    try:
        yield world
    finally:
        world.end_core()
        world.run(world.databases.close())
        world.loop.close()
