"""A card that is unbound while a withdrawal to it is confirmed, on every driver, by workers at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from core.accounts import CustomerNames
from core.cards.bank_cards import UNBOUND, Adoption, BankCards, Card
from core.cards.numbers import CardNumbers
from core.settings import Settings
from core.storage import Databases
from core.trace import Trace

UID, CARDS, NAME = 7, 24, "CHAN TAI MAN"


class StillClock:
    """A moment."""

    def now_ms(self) -> int:
        return 1_773_280_800_000

    def now_us(self) -> int:
        return self.now_ms() * 1000


class OneCustomer:
    """Implements `core.accounts.Customers`."""

    async def trade_account(self, uid: int, market: int) -> int:
        return uid

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        return 0

    async def risk_level(self, uid: int) -> int:
        return 1

    async def names(self, uid: int) -> CustomerNames | None:
        return CustomerNames(NAME)


def room(databases: Databases, open_tasks: dict[int, int]) -> BankCards:
    clock = StillClock()
    cards = BankCards(databases.account, clock, Trace(clock), CardNumbers(bytes(32)), OneCustomer(), Settings({}))

    async def look(_uid: int, card_id: int) -> int | None:
        return open_tasks.get(card_id)

    cards.open_task = look
    return cards


@pytest.mark.parametrize("ahead", [0, 1, 2])
async def test_a_card_is_unbound_or_pays_never_both(databases: Databases, ahead: int) -> None:
    """``ahead``: how many times the withdrawals of other cards run first. What a task waits for differs by driver."""
    open_tasks: dict[int, int] = {}
    unbinding, confirming = room(databases, open_tasks), room(databases, open_tasks)
    await unbinding.adopt([Adoption(100 + n, UID, "hsbc", f"{6225880000000000 + n}", NAME) for n in range(CARDS)])

    async def withdraw(n: int) -> bool:
        for _ in range(ahead * (n % 3)):
            await confirming.card(100 + n)
        open_tasks[100 + n] = 1000 + n  # the Task is written before its card is asked for
        return await confirming.pays_to(UID, 100 + n, "hsbc", f"{6225880000000000 + n}")

    async def unbind(n: int) -> bool:
        return isinstance(await unbinding.unbind(UID, 100 + n), Card)

    done = await asyncio.gather(*(work(n) for n in range(CARDS) for work in (unbind, withdraw)))
    for n, (gone, pays) in enumerate(zip(done[::2], done[1::2], strict=True)):
        card = await unbinding.card(100 + n)
        assert card is not None and gone == (card.status == UNBOUND) == (not pays), (n, gone, pays)


async def test_an_unbinding_that_has_looked_loses_against_a_confirmation_after_it(databases: Databases) -> None:
    open_tasks: dict[int, int] = {}
    cards = room(databases, open_tasks)
    await cards.adopt([Adoption(1, UID, "hsbc", "6225880000000000", NAME)])
    looked = cards.open_task

    async def look(uid: int, card_id: int) -> int | None:
        found = await looked(uid, card_id)
        open_tasks[card_id] = 17
        assert await cards.pays_to(uid, card_id, "hsbc", "6225880000000000")
        return found

    cards.open_task = look
    refused = await cards.unbind(UID, 1)
    assert not isinstance(refused, Card) and "17" in refused.detail
    assert not await cards.pays_to(UID + 1, 1, "hsbc", "6225880000000000")
    assert not await cards.pays_to(UID, 1, "hase", "6225880000000000")
    assert not await cards.pays_to(UID, 1, "hsbc", "6225880000000001")
