"""A card room on databases in memory, with two customers whose names are known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from core.accounts import CustomerNames
from core.cards.bank_cards import BankCards, Card
from core.cards.numbers import CardNumbers
from core.domain import Role
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from core.settings import Settings
from core.storage import StorageConfig, open_databases
from core.trace import Event, Trace

T = TypeVar("T")
NOON = 1_773_300_000_000
KEY = bytes(range(32))
ALICE, BOB = 10_000_001, 10_000_002
NAMES = {ALICE: CustomerNames("CHAN TAI MAN", "陳大文"), BOB: CustomerNames("WONG SIU MING")}
OPS, BOSS, LAW, NIGHT = (Actor(f"staff_{number}", role) for number, role in (
    (1001, Role.FRONTLINE), (3001, Role.SUPERVISOR), (5001, Role.COMPLIANCE), (2001, Role.ON_DUTY)))


class StillClock:
    """A moment that the test moves."""

    ms = NOON

    def now_us(self) -> int:
        return self.ms * 1000

    def now_ms(self) -> int:
        return self.ms


class Customers:
    """Implements `core.accounts.Customers`."""

    async def trade_account(self, uid: int, market: int) -> int:
        return uid * 10 + market

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        return trade_acc_id

    async def risk_level(self, uid: int) -> int:
        return uid % 5

    async def names(self, uid: int) -> CustomerNames | None:
        return NAMES.get(uid)


class CardDesk:
    """The room; runs coroutines to their end."""

    def __init__(self, runner: asyncio.Runner, settings: dict[str, Any]) -> None:
        self._run, self.clock = runner.run, StillClock()
        self.databases = self.run(open_databases(StorageConfig()))
        self.events: list[Event] = []
        self.trace = Trace(self.clock, self.events.append)
        self.settings = Settings(settings)
        self.cards = self.room()
        self.run(self.cards.begin())
        self.open_tasks: dict[tuple[int, int], int] = {}

        async def open_task(uid: int, card_id: int) -> int | None:
            return self.open_tasks.get((uid, card_id))

        self.cards.open_task = open_task

    def room(self, key: bytes = KEY) -> BankCards:
        """A room on this desk's database, as a new core has."""
        return BankCards(self.databases.account, self.clock, self.trace, CardNumbers(key), Customers(), self.settings)

    def run(self, work: Awaitable[T]) -> T:
        async def main() -> T:
            return await work
        return self._run(main())

    def bind(self, number: str = "6225 8801 2345 6789", uid: int = ALICE, bank: str = "hsbc",
             holder: str | None = None) -> Card:
        """A card that is bound now."""
        found = self.run(self.cards.bind(uid, bank, number, NAMES[uid].en_name if holder is None else holder))
        assert isinstance(found, Card), found
        return found

    def status(self, card: Card) -> int:
        found = self.run(self.cards.card(card.id))
        assert found is not None
        return found.status

    def told(self, kind: str = "card") -> list[dict[str, Any]]:
        return [data for _, _, of, _, data in self.events if of == kind]


def code_of(answer: Any) -> Code:
    """The code of a refusal that says why."""
    assert isinstance(answer, Refusal) and answer.detail, answer
    return answer.code


@contextmanager
def card_desk(**settings: Any) -> Iterator[CardDesk]:
    """A desk that is closed at the end."""
    with asyncio.Runner() as runner:
        desk = CardDesk(runner, settings)
        yield desk
        runner.run(desk.databases.close())
