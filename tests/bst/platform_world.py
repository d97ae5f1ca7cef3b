"""What tests of the platform at CMB and CMBC hold in their hands: a bank, what it was sent, what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import select

from core.domain import ApplyStatus, Market, TaskStatus
from core.storage import Statement
from core.storage.primary import bst_push, bst_transfer
from core.wire.socket import messages as m
from emulators.bst.bank import SocketBank
from tests.rig import Rig, play

BANKS = ("cmb", "cmbc")
CARDS = ("airstar", *BANKS)
SENT = {"withdraw": m.WITHDRAWAL, "deposit": m.DEPOSIT, "query": m.QUERY, "reverse": m.REVERSAL}
PUSHES = Statement(select(bst_push.c.bank, bst_push.c.push_seq, bst_push.c.kind, bst_push.c.transfer_ref,
                          bst_push.c.source, bst_push.c.state).order_by(bst_push.c.bank, bst_push.c.push_seq))
TRANSFERS = Statement(select(bst_transfer.c.transfer_ref, bst_transfer.c.kind, bst_transfer.c.state,
                             bst_transfer.c.result).order_by(bst_transfer.c.transfer_ref))

START = {"available": 10_000_000, "frozen": 0, "in_transit": 0}
HELD = {"available": 9_000_000, "frozen": 0, "in_transit": 1_000_000}
PAID = {"available": 9_000_000, "frozen": 0, "in_transit": 0}
CREDITED = {"available": 11_000_000, "frozen": 0, "in_transit": 0}


def steady() -> dict[str, Any]:
    """Banks without bad luck: what goes wrong is then the test's doing."""
    made: dict[str, Any] = {}
    for bank in BANKS:
        made |= {f"sim.{bank}.outcome": [[0, 1.0]], f"sim.{bank}.unknown.share": 0.0}
    return made


class Scene:
    """One of the two banks within a small world, and the core's rooms for it. Amounts are HKD 10,000.00 unless told."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig, self.name = rig, name
        self.world: Any = rig.world.sockets[name]

    @property
    def bank(self) -> SocketBank:
        return self.world.bank  # type: ignore[no-any-return]

    @property
    def rooms(self) -> Any:
        return self.rig.core.sockets[self.name]

    @property
    def active(self) -> str | None:
        """The exit server over which the core works."""
        return self.rooms.gateway.servers.state()["active"]  # type: ignore[no-any-return]

    def card(self, who: str = "alice") -> str:
        return self.rig.customer(who).cards[self.name].number  # type: ignore[no-any-return]

    # What customers do

    async def withdraw(self, who: str = "alice", **more: Any) -> Any:
        """A withdrawal asked for in our App: its Task."""
        return await self.rig.withdraw(who, channel=self.name, **more)

    async def deposit(self, who: str = "alice", amount: int = 1_000_000, ccy: str = "HKD", market: int = 1) -> Any:
        """A deposit asked for in our App (source 1): its Apply, or a Refusal."""
        customer = self.rig.customer(who)
        return await self.rig.core.deposits_at[self.name].submit(
            customer.uid, customer.trade_acc_ids[0], market, self.rig.world.card_id(customer, self.name),
            self.card(who), ccy, amount)

    def asks(self, kind: str, who: str = "alice", amount: int = 1_000_000, ccy: str = "HKD") -> str:
        """A transfer begun at the bank: the bank's reference."""
        begin = self.bank.customer_deposits if kind == "deposit" else self.bank.customer_withdraws
        started = begin(self.card(who), Market.HK, ccy, amount)
        assert started.ref, started
        return started.ref

    # What the bank has heard and done

    def heard(self, message: str, reference: str = "") -> list[tuple[float, str, str]]:
        """(virtual seconds, exit server, reference) of every such request that came to the bank, in order."""
        return [(entry["at_ms"] / 1000, entry["server"], entry["transfer_ref"]) for entry in self.bank.journal()
                if (entry["command"], entry["type"]) == (SENT[message], "REQUEST")
                and reference in ("", entry["transfer_ref"])]

    def over(self, message: str) -> list[str]:
        """The exit servers over which it was sent, in order."""
        return [server for _, server, _ in self.heard(message)]

    def booked(self, op: str) -> list[tuple[str, int]]:
        """(reference, minor units) of the bank's own movements of a kind: pay, collect, ..."""
        return [(one["ref"], one["amount"]) for one in self.rig.of_kind("bank.book", op=op, bank=self.name)]

    def alerts(self, rule: str = "") -> list[str]:
        """Rules that were raised, in order; of one rule the details."""
        raised = self.rig.of_kind("alert", phase="raised")
        return [one["detail"] for one in raised if one["rule"] == rule] if rule else [one["rule"] for one in raised]

    # What our books say

    async def money(self, who: str = "alice") -> dict[str, int]:
        held = await self.rig.money(who)
        return {"available": held.available, "frozen": held.frozen, "in_transit": held.in_transit}

    async def of_task(self, task: Any) -> dict[str, Any]:
        """The Procedure of a Task."""
        shown = await self.rig.of_task(task.id)
        assert shown is not None, task
        return shown

    async def task_status(self, task: Any) -> str:
        found = await self.rig.core.withdrawals.find(task.id)
        assert found is not None
        return TaskStatus(found.status).name

    async def apply_status(self, apply: Any) -> str:
        found = await self.rig.core.applications.find(apply.id)
        assert found is not None
        return ApplyStatus(found.status).name

    async def pushes(self) -> list[tuple[Any, ...]]:
        """(number, kind, reference, source, state) of every push kept of this bank."""
        return [row[1:] for row in await self.rig.world.databases.primary.all(PUSHES, {}) if row[0] == self.name]

    async def transfers(self) -> list[tuple[Any, ...]]:
        """(reference, kind, state, result) in our book of transfers."""
        return list(await self.rig.world.databases.primary.all(TRANSFERS, {}))


def at_bank(
    bank: str, story: Callable[[Scene], Awaitable[Any]], *, settings: Mapping[str, Any] | None = None, **more: Any
) -> Any:
    """Tell a story at one of the two banks; the other stands beside it. Invariants and books are checked at the end."""

    async def told(rig: Rig) -> Any:
        return await story(Scene(rig, bank))

    return play(told, settings=steady() | dict(settings or {}), cards=CARDS, **more)
