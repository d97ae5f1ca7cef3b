"""What a world asks of every kind of bank in it, and what a bank there stands on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.banks.airstar import Endpoint
from core.calendars import Calendars
from core.clock import Clock
from core.domain import Market
from core.runtime import Core
from core.settings import Settings
from core.storage import Databases, Severed
from core.trace import Trace
from emulators.office import Truth
from emulators.streams import Streams
from scenarios.banks.places import Places
from scenarios.population import BankCard, Customer
from scenarios.schema import Names
from scenarios.workload import Kind


class Life:
    """The life of one core. With its end its lines are cut: it can neither let go of a lock (only its TTL does) nor
    say another word to a bank, nor hear one."""

    def __init__(self) -> None:
        self._over = False
        self._ends: dict[Callable[[], None], None] = {}

    @property
    def over(self) -> bool:
        """Whether the core is dead."""
        return self._over

    def check(self) -> None:
        """`Severed` once the core is dead."""
        if self._over:
            raise Severed("the core of this line was killed")

    def at_end(self, end: Callable[[], None]) -> None:
        """Call this when the core dies."""
        self._ends[end] = None

    def forget(self, end: Callable[[], None]) -> None:
        """What was to be done at the end is not needed any more."""
        self._ends.pop(end, None)

    def end(self) -> None:
        """The core is dead."""
        self._over = True
        ends, self._ends = tuple(self._ends), {}
        for end in ends:
            end()


@dataclass(slots=True)
class DeathTraps:
    """Messages at which the core is to die: (message, restart after ms, [times left]), armed by faults and tests."""

    kill: Callable[[int], None]
    armed: list[tuple[str, int, list[int]]] = field(default_factory=list)

    def arm(self, message: str, restart_ms: int, times: int) -> None:
        """Die the next ``times`` times that this message passes."""
        self.armed.append((message, restart_ms, [times]))

    def passes(self, message: str) -> None:
        """This message is on the core's line now."""
        for armed, restart_ms, left in self.armed:
            if left[0] and message == armed:
                left[0] -= 1
                self.kill(restart_ms)


@dataclass(frozen=True, slots=True)
class Site:
    """What the banks of a world stand on. ``wire``: full or messages, as in a scenario."""

    wire: str
    names: Names
    loop: asyncio.AbstractEventLoop
    clock: Clock
    trace: Trace
    streams: Streams
    settings: Settings
    calendars: Calendars
    places: Places
    traps: DeathTraps

    def is_open(self, bank: str) -> Callable[[int], bool]:
        """The bank's service window."""
        return lambda ms: self.calendars.bank_gate(bank, ms).open

    def in_maintenance(self, bank: str) -> Callable[[int], bool]:
        """The bank's own maintenance."""
        return lambda ms: self.calendars.in_maintenance(bank, ms)


class LifeEndpoint:
    """An HTTP line of one core: a dead core asks nothing and hears nothing."""

    def __init__(self, endpoint: Endpoint, life: Life) -> None:
        self._endpoint, self._life = endpoint, life

    async def send(
        self, method: str, path_with_query: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        self._life.check()
        answer = await self._endpoint.send(method, path_with_query, headers, body, timeout_s)
        self._life.check()
        return answer


Tell = Callable[[Core], Any]
"""What the core has to be told, since the bank does not."""


class BankInWorld(Protocol):
    """An emulated bank with its customers, its line in the scenario's fidelity, and its faults."""

    name: str
    title: str

    async def open(self) -> None:
        """The bank's servers take connections from now on."""

    async def close(self) -> None:
        """The end of the world: nothing listens any more."""

    def enroll(self, customer: Customer, card: BankCard) -> None:
        """The customer has a card at the bank, with money, and has authorized us as the card says."""

    async def adopt(self, customer: Customer, card: BankCard, databases: Databases) -> None:
        """Our record of that authorization, taken over from the day before."""

    def ask(self, customer: Customer, kind: Kind, market: Market, ccy: str, amount: int) -> int:
        """The customer begins a transfer at the bank; the code for which the bank refuses it at once, or 0."""

    def suspend(self, customer: Customer) -> Tell | None:
        """The customer withdraws the authorization at the bank; what to tell the core, if it has to be told."""

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:
        """Put a fault of the bank in force; gives what ends it. ``direction``: deposit or withdrawal only."""

    def balance(self, customer: Customer, ccy: str) -> int:
        """Minor units on the customer's account at the bank; 0 for a currency that the bank does not carry."""

    def inquire(self, reference: str) -> Truth:
        """The back office on the telephone: what became of a reference."""

    def untold(self) -> Iterable[str]:
        """References under which the bank has moved money of which it could not tell us yet."""

    def publish(self, request_id: str) -> bool:
        """The back office shows a stuck result on its line; False if it has not worked on it yet."""
