"""Vouchers and cheque deposits in a small world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from core.deposits.applications import Apply
from core.deposits.cheques import Cheque, Cheques, Drawn, Keyed
from core.deposits.vouchers import Voucher, Vouchers
from core.domain import Role
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from core.orchestration.records import Actor, Reply
from tests.rig import SUPERVISOR, Rig, play

OPS = Actor("staff_1001", Role.FRONTLINE)
PNG, JPG, PDF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"%PDF-1.7\n"
AMOUNT = 1_000_000


class Counter:
    """What a story of cheques holds in its hands."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._files = 0

    @property
    def vouchers(self) -> Vouchers:
        return self.rig.core.vouchers

    @property
    def cheques(self) -> Cheques:
        return self.rig.core.cheques

    def uid(self, who: str = "alice") -> int:
        return self.rig.customer(who).uid

    def user(self, who: str = "alice") -> Actor:
        return Actor(f"user_{self.uid(who)}", Role.USER)

    async def file(self, who: str = "alice", name: str = "cheque.png") -> Voucher:
        """The customer uploads another image."""
        self._files += 1
        found = await self.vouchers.upload(self.uid(who), name, PNG + str(self._files).encode(), self.user(who))
        assert isinstance(found, Voucher), found
        return found

    async def key(self, amount: int = AMOUNT, number: str = "100001", who: str = "alice", **more: Any) -> Any:
        """Operations key a cheque from its voucher."""
        customer = self.rig.customer(who)
        asked = {"wish": Keyed(customer.uid, customer.trade_acc_ids[0], 1, "hsbc", "HKD", amount),
                 "drawn": Drawn("hase", "024-1234567", "WONG SIU MING", number), "by": OPS} | more
        if "file_id" not in asked:
            asked["file_id"] = (await self.file(who)).file_id
        return await self.cheques.key(**asked)

    async def keyed(self, amount: int = AMOUNT, **more: Any) -> Cheque:
        """A cheque that has been credited, unless something holds it up."""
        found = await self.key(amount, **more)
        assert isinstance(found, Cheque), found
        await asyncio.sleep(10)
        return await self.now(found)

    async def now(self, cheque: Cheque) -> Cheque:
        found = await self.cheques.find(cheque.apply_id)
        assert found is not None
        return found

    async def apply(self, cheque: Cheque) -> Apply:
        found = await self.rig.core.applications.find(cheque.apply_id)
        assert found is not None
        return found

    async def procedure(self, cheque: Cheque) -> dict[str, Any]:
        shown = await self.rig.of_apply(cheque.apply_id)
        assert shown is not None
        return shown

    async def reverse(self, cheque: Cheque) -> Reply:
        """A supervisor reverses its credit."""
        reply = await self.rig.operate("CashDepositReverse", await self.procedure(cheque), SUPERVISOR,
                                       confirmations=REVERSE_CONFIRMATIONS)
        await asyncio.sleep(5)
        return reply

    def notices(self, who: str = "alice") -> list[str]:
        return [one["event"] for one in self.rig.of_kind("notify", uid=self.uid(who))]

    def alerts(self, rule: str) -> list[str]:
        return [one["key"] for one in self.rig.of_kind("alert", rule=rule)]


def tell(story: Callable[[Counter], Awaitable[Any]], **more: Any) -> Any:
    """Tell a story at the counter; see `tests.rig.play`."""

    async def told(rig: Rig) -> Any:
        return await story(Counter(rig))

    return play(told, **more)
