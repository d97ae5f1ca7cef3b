"""A core with direct debit, both emulated interfaces and the lines between them, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from core.banks.edda import Debtor
from core.calendars import Calendars
from core.clock import epoch_ms
from core.deposits.applications import Apply
from core.deposits.crediting import Crediting
from core.deposits.eddi import Room
from core.deposits.eddi_debits import Debit
from core.errors import Refusal
from core.locks import LocalLocks
from core.rpc import in_process
from core.runtime import Core, Surroundings
from core.runtime.direct_debit import DirectDebit
from core.settings import Settings
from core.storage import Databases, StorageConfig, open_databases
from core.trace import Event, Trace
from emulators.loop import LoopClock, SimLoop
from emulators.streams import Streams
from scenarios.accounts import CustomerAccounts, card_id
from scenarios.banks.airstar import AirstarInWorld
from scenarios.banks.bank import DeathTraps, Life, Site
from scenarios.banks.edda import EddaInWorld
from scenarios.banks.places import InMemory
from scenarios.names import names
from scenarios.population import BankCard, Customer
from scenarios.world import CARD_KEY

THURSDAY = "2026-03-12 10:00"
CHANNELS = ("hsbc_eddi", "hase_eddi")
_KNOWN = names()
NAMES = replace(_KNOWN, deposit_channels={**_KNOWN.deposit_channels, **{name: name for name in CHANNELS}})
STEADY: dict[str, Any] = {
    "sim.edda.result.outcome": [["SUCCESS", 1.0]], "sim.edda.decision.reject_share": 0.0,
    "sim.edda.result.same_day": {"hsbc": 1.0, "hase": 1.0}, "sim.edda.result.delay": [600.0, 600.0],
    "sim.edda.decision.delay": [[1.0, 60.0, 600.0]]}
"""Banks without bad luck that answer today: what goes wrong is then the test's doing."""


def customer(index: int) -> Customer:
    uid = 10_000_001 + index
    cards = {name: BankCard(name, f"{index + 1:012d}", "", "OPEN") for name in CHANNELS}
    return Customer(index, f"c{index}", uid, (uid * 100 + 1,), f"CHAN TAI MAN {index}", cards, {},
                    {"HKD": 1_000_000_000})


class CoreHere:
    """One core with direct debit, as `core.runtime` composes it."""

    def __init__(self, world: World, worker: str) -> None:
        self.life = Life()
        settings, databases, clock, trace = world.settings, world.databases, world.clock, world.trace
        self.core = Core(Surroundings(
            settings, databases, clock, trace, world.locks, in_process, world.calendars,
            world.airstar.line(self.life), {}, lambda risk: CustomerAccounts(world.customers, NAMES, risk), CARD_KEY,
            worker))
        core = self.core
        room = Room(databases.primary, clock, trace, settings, world.calendars, core.jobs, core.applications,
                    Crediting(databases.primary, clock, core.applications, core.sba, core.lists, in_process, settings))
        self.direct = DirectDebit({bank.of: bank.lines(self.life) for bank in world.banks.values()}, room,
                                  databases.account, worker)
        core.jobs.register(self.direct.handlers)
        core.timetable.register(self.direct.scheduled)

    async def start(self) -> None:
        await self.core.start()
        for job in self.core.timetable.status():
            if job.name not in self.direct.scheduled:
                self.core.timetable.pause(job.name)  # nobody here needs it, and it takes time
        await self.direct.start(self.core.spawn)

    async def stop(self) -> None:
        await self.direct.stop()
        await self.core.stop()


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
    airstar: AirstarInWorld
    banks: dict[str, EddaInWorld]
    customers: list[Customer]
    events: list[Event] = field(default_factory=list)
    here: CoreHere = field(init=False)
    lives: int = 0

    # One core after another

    async def compose(self) -> None:
        self.lives += 1
        self.here = CoreHere(self, f"core-{self.lives}")
        await self.here.start()

    def kill(self) -> None:
        """The core dies now, wherever it is."""
        self.databases.sever()
        self.here.life.end()
        self.here.core.kill()
        self.here.direct.halt()

    async def restart(self) -> None:
        self.databases = self.databases.reopen()
        await self.compose()

    # Acting

    async def until(self, moment: str) -> None:
        await asyncio.sleep((epoch_ms(datetime.fromisoformat(moment)) - self.clock.now_ms()) / 1000)

    def debtor(self, index: int = 0, bank: str = "hsbc") -> Debtor:
        of = self.customers[index]
        return Debtor(bank, of.cards[f"{bank}_eddi"].number, of.name)

    def card(self, bank: str, index: int = 0) -> int:
        return card_id(self.customers[index], f"{bank}_eddi", NAMES)

    def authorisations(self, bank: str):
        return self.here.direct.banks[bank].authorisations

    def deposits(self, bank: str):
        return self.here.direct.banks[bank].deposits

    async def debit(self, bank: str, index: int = 0, amount: int = 100_000, ccy: str = "HKD") -> Apply | Refusal:
        of = self.customers[index]
        return await self.deposits(bank).submit(
            of.uid, of.trade_acc_ids[0], 1, self.card(bank, index), of.cards[f"{bank}_eddi"].number, ccy, amount)

    async def run(self, job: str) -> Any:
        """Run a job of the timetable now."""
        return await self.here.direct.scheduled[job]()

    # Looking

    async def debits(self, bank: str) -> list[Debit]:
        return [debit for state in ("new_blank", "queued", "submitted", "processing", "success", "failed", "returned")
                for debit in await self.deposits(bank).debits.in_state(_state(state))]

    async def states(self, bank: str) -> dict[str, int]:
        return dict(Counter(debit.state for debit in await self.debits(bank)))

    async def apply(self, apply_id: int) -> Apply:
        found = await self.here.core.applications.find(apply_id)
        assert found is not None
        return found

    def of_kind(self, kind: str, **wanted: Any) -> list[dict[str, Any]]:
        return [data for _, _, name, _, data in self.events
                if name == kind and all(data.get(key) == value for key, value in wanted.items())]

    def alerts(self, rule: str) -> list[dict[str, Any]]:
        return self.of_kind("alert", rule=rule, phase="raised")

    def collected(self) -> list[str]:
        return [data["ref"] for data in self.of_kind("bank.book", op="collect")]


def _state(name: str):
    from core.domain import DebitState

    return DebitState(name)


Story = Callable[[World], Awaitable[Any]]


def play(story: Story, *, wire: str = "messages", settings: Mapping[str, Any] | None = None, start: str = THURSDAY,
         customers: int = 1, enrolled: bool = True, seed: int = 7) -> Any:
    """Run a story; returns what it returns. ``enrolled``: every customer has authorised us at both banks."""
    loop = SimLoop()
    failures: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(_played(
            loop, story, wire, {**STEADY, **(settings or {})}, start, customers, enrolled, seed))
    assert not failures, failures
    return result


async def _played(loop: SimLoop, story: Story, wire: str, overlay: dict[str, Any], start: str, count: int,
                  enrolled: bool, seed: int) -> Any:
    settings = Settings(overlay)
    clock = LoopClock(loop, epoch_ms(datetime.fromisoformat(start)))
    events: list[Event] = []
    trace, streams, calendars = Trace(clock, events.append), Streams(seed), Calendars(settings)
    places = InMemory(loop, streams)

    def site(of_wire: str) -> Site:
        return Site(of_wire, NAMES, loop, clock, trace, streams, settings, calendars, places,
                    DeathTraps(lambda _ms: world.kill()))

    world = World(loop, clock, trace, settings, calendars, LocalLocks(clock),
                  await open_databases(StorageConfig("memory")), AirstarInWorld(site("messages")),
                  {bank: EddaInWorld(bank, site(wire)) for bank in ("hsbc", "hase")},
                  [customer(index) for index in range(count)], events)
    await world.airstar.open()
    for bank in world.banks.values():
        await bank.open()
        for of in world.customers if enrolled else ():
            bank.enroll(of, of.cards[bank.name])
            await bank.adopt(of, of.cards[bank.name], world.databases)
    await world.compose()
    result = await story(world)
    fault = world.here.core.fault
    await world.here.stop()
    for bank in world.banks.values():
        await bank.close()
        bank.bank.book.check()
    await places.close()
    assert fault is None, fault
    return result


__all__ = ["CHANNELS", "NAMES", "THURSDAY", "World", "play"]
