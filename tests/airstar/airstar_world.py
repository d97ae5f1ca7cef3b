"""A broker, a bank and the line between them, in virtual time: what the Airstar tests build their objects with."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from core.banks.airstar import AirstarGateway
from core.settings import Settings
from core.trace import Event, Trace
from emulators.airstar.bank import AirstarBank
from emulators.loop import LoopClock, SimLoop

NOON_MS = 1_773_288_000_000
"""2026-03-12 12:00 Hong Kong time."""

APP_ID = "nostro"
SURE = {
    "sim.airstar.outcome.deposit": [["SUCCESS", 1.0]],
    "sim.airstar.outcome.withdrawal": [["SUCCESS", 1.0]],
    "sim.airstar.result.delay": [[1.0, 3.0, 20.0]],
    "sim.airstar.mandate.fail_share": 0.0,
}
"""A bank without bad luck: what goes wrong is then the test's doing."""


@dataclass
class World:
    """One run. ``run`` drives a coroutine in virtual time; ``pass_s`` lets seconds go by."""

    loop: SimLoop
    clock: LoopClock
    bank: AirstarBank
    gateway: AirstarGateway
    settings: Settings
    trace: Trace
    events: list[Event] = field(default_factory=list)
    app: Any = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def pass_s(self, seconds: float) -> None:
        async def wait() -> None:
            await self.loop.advance(round(seconds * 1_000_000))

        self.run(wait())

    def customer(self, ident: str = "u1", **balances: int) -> str:
        """A customer with an OPEN mandate; gives the mandate id."""
        self.bank.open_customer(ident, "CHAN TAI MAN", "hash-" + ident, balances or {"HKD": 100_000_000})
        return self.bank.grant_mandate(ident)

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [data for _, _, name, _, data in self.events if name == kind]

    def book(self) -> list[tuple[str, str, int]]:
        """(op, reference, amount) of every movement in the bank's book."""
        return [(data["op"], data["ref"], data["amount"]) for data in self.of_kind("bank.book")]
