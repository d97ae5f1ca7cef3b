"""Several workers send direct debits at the same moment, each with connections of its own to one MariaDB (ADR-004).

Real time, an ordinary loop; the emulated bank counts at its door: HSBC answers 429 to a fifth request in a whole second
of the clock, Hang Seng 409 to a second request in flight and to one out of order. No test sleeps a fixed time; each
waits for a state, with a limit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
from inline_server import Server
from surroundings import ACCOUNT, CARD_ID, NAME, UID, OneCustomer, ShiftedClock

from core.banks.edda import Debtor, EddaLines
from core.calendars import Calendars
from core.clock import epoch_ms, hkt_date, hkt_midnight_ms
from core.deposits.applications import Apply
from core.deposits.eddi_debits import Debits
from core.domain import DebitState
from core.errors import OutcomeUnknown
from core.locks import LocalLocks
from core.rpc import in_process
from core.runtime import Core, Surroundings
from core.settings import Settings
from core.storage import Databases, StorageConfig, open_databases
from core.trace import Trace
from core.wire.edda import Reply, Request
from emulators.edda.bank import EddaBank
from emulators.edda.link import MessageLink
from emulators.streams import Streams

WORKERS = 3
QUICK: dict[str, Any] = {"edda.send.repeat_s": [0.2], "edda.api.timeout_s": 1.0, "edda.send.lease_s": 2}
OPEN, BEFORE = "2026-03-12 10:00", "2026-03-12 06:59:56"


async def no_line(_request: Any) -> Any:
    """To Airstar."""
    raise OutcomeUnknown("there is no line to Airstar here")


class Worker:
    """A core with connections of its own."""

    def __init__(self, name: str, scene: Scene, databases: Databases) -> None:
        self.name, self.databases, self.alive = name, databases, True

        async def exchange(request: Request) -> Reply:
            return await scene.exchange(self, request)

        self.core = Core(Surroundings(
            scene.settings, databases, scene.clock, scene.trace, scene.locks, in_process, scene.calendars, no_line, {},
            OneCustomer, bytes(32), name, direct_debit={scene.of: EddaLines(exchange)}))
        self.deposits = self.core.direct_debit.banks[scene.of].deposits

    async def debit(self) -> Apply:
        found = await self.deposits.submit(UID, ACCOUNT, 1, CARD_ID, "1" * 12, "HKD", 100_000)
        assert isinstance(found, Apply), found
        return found

    async def stop(self) -> None:
        if self.alive:
            await self.core.stop()
            await self.databases.close()
            assert self.core.fault is None, self.core.fault

    def kill(self) -> None:
        """Its process is gone, with its connections."""
        self.alive = False
        self.databases.sever()
        self.core.kill()


class Scene:
    """One bank, its line, and the workers."""

    def __init__(self, of: str, begun: str) -> None:
        self.of, self.clock = of, ShiftedClock(begun)
        self.settings = Settings(QUICK)
        self.trace, self.calendars, self.locks = Trace(self.clock), Calendars(self.settings), LocalLocks(self.clock)
        loop = asyncio.get_running_loop()
        calendars = self.calendars
        self.bank = EddaBank(
            of, loop, self.clock, Streams(7), self.trace, self.settings,
            is_open=lambda ms: calendars.bank_gate(f"{of}_eddi", ms).open,
            next_business_day=lambda ms: hkt_midnight_ms(calendars.next_business_day(hkt_date(ms))))
        self.bank.open_debtor("c", of, "1" * 12, NAME, {"HKD": 1_000_000_000})
        self.mandate = self.bank.grant("c")
        self._link = MessageLink(self.bank, loop, lambda: 20_000, timeout_s=self.settings["edda.api.timeout_s"])
        self.workers: list[Worker] = []
        self.in_flight = self.most_in_flight = 0
        self.sent_by: Counter[str] = Counter()
        self.on_sending: Callable[[Worker], None] = lambda _worker: None

    async def exchange(self, worker: Worker, request: Request) -> Reply:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.sent_by[worker.name] += 1
        self.on_sending(worker)
        try:
            return await self._link(request)
        finally:
            self.in_flight -= 1

    async def states(self) -> dict[str, int]:
        debits = Debits(self.of, self.alive()[0].databases.primary, self.clock, self.trace)
        found = {state.value: len(await debits.in_state(state)) for state in DebitState}
        return {state: count for state, count in found.items() if count}

    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.alive]

    async def all_are(self, state: str, count: int, within_s: float = 40) -> None:
        async with asyncio.timeout(within_s):
            while await self.states() != {state: count}:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def scene(of: str, begun: str, config: StorageConfig) -> AsyncIterator[Scene]:
    """The workers run within it."""
    opened = [await open_databases(config) for _ in range(WORKERS)]
    made = Scene(of, begun)
    made.workers = [Worker(f"w{number}", made, databases) for number, databases in enumerate(opened)]
    await made.workers[0].deposits.authorisations.adopt(UID, CARD_ID, Debtor(of, "1" * 12, NAME), made.mandate)
    for worker in made.workers:
        await worker.core.start()
    try:
        yield made
    finally:
        for worker in made.workers:
            await worker.stop()


def tell(server: Server, of: str, story: Callable[[Scene], Awaitable[None]], begun: str = OPEN) -> None:
    async def main() -> None:
        async with scene(of, begun, server.config) as made:
            await story(made)

    asyncio.run(main())


async def debits(made: Scene, count: int) -> list[str]:
    """So many at once, asked for at all workers in turn; their references in the order of their numbers."""
    done = await asyncio.gather(*(made.alive()[n % len(made.alive())].debit() for n in range(count)))
    return sorted(apply.bank_ref_id for apply in done)


@pytest.mark.server
@pytest.mark.req("EDDA-05")
def test_hang_seng_debits_of_three_workers_leave_one_after_the_other_in_the_order_of_their_numbers(
    server: Server
) -> None:
    async def story(made: Scene) -> None:
        references = await debits(made, 12)
        await made.all_are("processing", 12)
        assert made.bank.order == references
        assert made.most_in_flight == 1 and made.bank.refused_at_the_door == 0

    tell(server, "hase", story)


@pytest.mark.server
@pytest.mark.req("EDDA-05", "EDDA-06")
def test_before_the_session_they_are_new_blank_and_all_workers_together_send_them_in_order_when_it_opens(
    server: Server
) -> None:
    async def story(made: Scene) -> None:
        references = await debits(made, 9)
        assert await made.states() == {"new_blank": 9} and not made.sent_by
        await made.all_are("processing", 9)
        assert made.clock.now_ms() >= epoch_ms(datetime.fromisoformat("2026-03-12 07:00"))
        assert made.bank.order == references
        assert made.most_in_flight == 1 and made.bank.refused_at_the_door == 0

    tell(server, "hase", story, BEFORE)


@pytest.mark.server
@pytest.mark.req("EDDA-05")
def test_a_worker_that_dies_with_its_debit_at_the_bank_holds_the_others_up_for_its_lease_only(
    server: Server
) -> None:
    async def story(made: Scene) -> None:
        def die(worker: Worker) -> None:
            if sum(made.sent_by.values()) == 3:
                made.on_sending = lambda _worker: None
                asyncio.get_running_loop().call_soon(worker.kill)

        made.on_sending = die
        references = await debits(made, 8)
        await made.all_are("processing", 8)
        assert len(made.alive()) == WORKERS - 1
        assert made.bank.order == references, "each once, in order, the dead worker's too"
        assert sum(made.sent_by.values()) == 9, "that one was sent again under its reference"

    tell(server, "hase", story)


@pytest.mark.server
@pytest.mark.req("EDDA-02", "EDDA-03")
def test_hsbc_never_sees_more_than_four_requests_in_a_second_from_three_workers(
    server: Server
) -> None:
    async def story(made: Scene) -> None:
        references = await debits(made, 14)
        await made.all_are("processing", 14)
        assert sorted(made.bank.order) == references
        assert made.bank.most_in_a_second == 4 and made.bank.refused_at_the_door == 0
        assert len(made.sent_by) > 1, made.sent_by

    tell(server, "hsbc", story)
