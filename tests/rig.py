"""A small world for tests: named customers, one core, the emulated bank, and a story told inside it.

``play(story)`` runs ``async def story(rig)`` in virtual time, then lets the world run on for ``then`` seconds, and
checks every invariant and the books at the end, unless the story plants a bug and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from core.clock import epoch_ms
from core.domain import FreezeType, Market, Role
from core.errors import Refusal
from core.orchestration.records import Actor, Reply
from core.orchestration.requests import DepositRequest, WithdrawRequest
from core.storage import Databases
from core.trace import Event, Trace
from emulators.loop import LoopClock, SimLoop
from scenarios.facts import RunFacts
from scenarios.invariants import Invariants, Violation
from scenarios.names import names
from scenarios.reading import load_text
from scenarios.reconciliation import reconcile
from scenarios.runner import MOVES
from scenarios.world import World

FRONTLINE = Actor("staff_1001", Role.FRONTLINE)
SUPERVISOR = Actor("staff_3001", Role.SUPERVISOR)
SYSTEM = Actor("system", Role.SYSTEM)
USER = Actor("user_10000001", Role.USER)
NAMES = names()

HEAD = """
name: rig
title: A small world for a test
start: {start}
end: +60d
seed: {seed}
wire: {wire}
settings: {settings}
customers:
  - {{id: alice, balances: {{HKD: "100,000", USD: "10,000"}}, at_bank: {{HKD: "50,000"}}, cards: {cards}}}
  - {{id: bob, balances: {{HKD: "100,000"}}, at_bank: {{HKD: "50,000"}}, cards: {cards}}}
"""
# What the world is to have of statement banks; nobody plays the workload here.
STATEMENTS = """
workload:
  - recorded:
{entries}
"""
ANNOUNCED = '      - {{at: +1d, deposit: {{customer: alice, channel: {bank}, ccy: {ccy}, amount: "1"}}}}'
# A bank that always succeeds after five seconds: what a story wants otherwise it injects.
STEADY: dict[str, Any] = {
    "sim.airstar.result.delay": [[1.0, 5.0, 5.0]],
    "sim.airstar.outcome.deposit": [["SUCCESS", 1.0], ["FAILED", 0.0], ["REFUNDED_BEFORE_CREDIT", 0.0],
                                    ["REFUNDED_AFTER_CREDIT", 0.0]],
    "sim.airstar.outcome.withdrawal": [["SUCCESS", 1.0], ["FAILED", 0.0]],
}


class Rig:
    """What a story holds in its hands."""

    def __init__(self, world: World, events: list[Event], invariants: Invariants) -> None:
        self.world, self.events, self.invariants = world, events, invariants
        self._requests = 0

    @property
    def core(self):
        return self.world.core

    @property
    def sba(self):
        return self.world.core.sba

    @property
    def now_ms(self) -> int:
        return self.world.clock.now_ms()

    def request_id(self) -> str:
        self._requests += 1
        return f"t{self._requests}"

    def customer(self, name: str):
        return self.world.customers[["alice", "bob"].index(name)]

    # Acting

    async def until(self, moment: str) -> None:
        """Sleep until a Hong Kong time such as ``2026-03-16 09:00``."""
        from scenarios.schema import full_moment_ms

        await asyncio.sleep((full_moment_ms(moment) - self.now_ms) / 1000)

    async def deposit(self, who: str = "alice", amount: int = 1_000_000, ccy: str = "HKD", market: int = 1):
        """The customer asks for an Airstar deposit in the App: an Apply, or a Refusal."""
        customer = self.customer(who)
        return await self.core.airstar_deposits.submit(
            customer.uid, customer.trade_acc_ids[0], market, self.world.card_id(customer, "airstar"),
            customer.cards["airstar"].number, ccy, amount)

    async def withdraw(self, who: str = "alice", amount: int = 1_000_000, ccy: str = "HKD", market: int = 1,
                       channel: str = "airstar"):
        """The customer confirms a withdrawal in the App: a Task."""
        customer = self.customer(who)
        bank = NAMES.withdrawal_channels[channel]
        return await self.core.withdrawals.submit(
            customer.uid, customer.trade_acc_ids[0], market, self.world.card_id(customer, bank),
            customer.cards[bank].number, bank, ccy, amount, "auto_bs" if channel in self.world.banks else channel)

    async def withdrawn(self, until: str, who: str = "alice", amount: int = 1_000_000, **more: Any) -> dict[str, Any]:
        """A withdrawal driven until its Procedure is in the state with that label (or ten minutes passed)."""
        task = await self.withdraw(who, amount, **more)
        return await self.reach(lambda: self.of_task(task.id), until)

    async def of_task(self, task_id: int) -> dict[str, Any] | None:
        procedure = await self.core.withdrawals.procedure_of(task_id)
        return await self.sba.procedure(procedure) if procedure else None

    async def of_apply(self, apply_id: int) -> dict[str, Any] | None:
        apply = await self.core.applications.find(apply_id)
        return await self.sba.procedure(apply.sba_procedure_id) if apply and apply.sba_procedure_id else None

    async def reach(self, look: Callable[[], Awaitable[dict[str, Any] | None]], label: str,
                    within_s: int = 600) -> dict[str, Any]:
        """Look every 100 ms of virtual time until the state has that label."""
        shown = None
        for _ in range(within_s * 10):
            shown = await look()
            if shown is not None and shown["state"] == label:
                return shown
            await asyncio.sleep(0.1)
        raise AssertionError(f"not {label} but {shown and shown['state']} after {within_s} s")

    async def operate(self, name: str, shown: Mapping[str, Any], by: Actor = FRONTLINE, *, version: int | None = None,
                      request_id: str | None = None, remark: str = "test", **params: Any) -> Reply:
        """Press a button on a Procedure as it was shown."""
        return await self.core.operate(
            name, shown["id"], version=shown["version"] if version is None else version,
            rpc_request_id=request_id or self.request_id(), by=by, remark=remark, **params)

    def deposit_request(self, **changed: Any) -> DepositRequest:
        """A statement deposit of alice's, ready for CashDepositCreate."""
        alice = self.customer("alice")
        values: dict[str, Any] = {
            "rpc_request_id": self.request_id(), "nn_uid": alice.uid, "trade_acc_id": alice.trade_acc_ids[0],
            "market": 1, "ccy": "HKD", "amount": 1_000_000, "transaction_id": f"bochk:{self._requests}",
            "transfer_method": 201, "deposit_type": 1}
        return DepositRequest(**(values | changed))

    def withdraw_request(self, **changed: Any) -> WithdrawRequest:
        """A withdrawal of alice's by HSBC online banking, ready for CashWithdrawCreate."""
        alice = self.customer("alice")
        number = self.request_id()
        values: dict[str, Any] = {
            "rpc_request_id": number, "task_id": 9_000 + self._requests, "nn_uid": alice.uid,
            "trade_acc_id": alice.trade_acc_ids[0], "market": 1, "ccy": "HKD", "amount": 1_000_000,
            "transfer_method": "hsbc", "transfer_dest_bank": "hsbc", "transfer_dest_card": "123",
            "hold_id": f"H{number}", "settled_amount": 1_000_000}
        return WithdrawRequest(**(values | changed))

    async def money(self, who: str = "alice", ccy: str = "HKD"):
        """The customer's balance at risk control."""
        return await self.core.risk_control.balances(self.customer(who).trade_acc_ids[0], ccy)

    async def way(self, procedure_id: int) -> list[str]:
        """State labels a Procedure went through, in order."""
        rows = reversed(await self.sba.history(procedure_id))
        machine_states = {**_labels()}
        return [machine_states[row.to_status, row.to_ext_status] for row in rows]

    # Looking

    def of_kind(self, kind: str, **wanted: Any) -> list[dict[str, Any]]:
        """Data of the events of a kind, filtered by equality."""
        return [event[4] for event in self.events
                if event[2] == kind and all(event[4].get(key) == value for key, value in wanted.items())]

    def paid(self, op: str = "pay") -> list[dict[str, Any]]:
        """Movements in the bank's own book."""
        return self.of_kind("bank.book", op=op)


def _labels() -> dict[tuple[str, str], str]:
    from core.orchestration.deposit_table import DEPOSIT
    from core.orchestration.withdraw_table import WITHDRAW

    return {(state.status, state.ext): state.label for state in (*DEPOSIT.states, *WITHDRAW.states)}


class Broken(AssertionError):
    """An invariant broke during a story."""


def play(
    story: Callable[[Rig], Awaitable[Any]], *, start: str = "2026-03-12 10:00", seed: int = 7,
    wire: str = "messages", settings: Mapping[str, Any] | None = None, then_s: float = 0, planted: bool = False,
    cards: Sequence[str] = ("airstar", "hsbc"), statements: Sequence[str] = (),
    databases: Callable[[], Awaitable[Databases]] | None = None,
) -> Any:
    """Tell a story; returns what it returns. ``planted``: the story breaks an invariant on purpose. ``cards``: banks at
    which both customers have a card; ``statements``: those of them whose statements are collected; ``databases``: opens
    the core's, in memory unless told."""
    import json

    text = HEAD.format(start=start, seed=seed, wire=wire, settings=json.dumps({**STEADY, **(settings or {})}),
                       cards=json.dumps(list(cards)))
    if statements:
        text += STATEMENTS.format(entries="\n".join(
            ANNOUNCED.format(bank=bank, ccy="USD" if bank == "ewb" else "HKD") for bank in statements))
    scenario = load_text(text, NAMES)
    loop = SimLoop()
    clock = LoopClock(loop, scenario.start)
    events: list[Event] = []
    violations: list[Violation] = []
    trace = Trace(clock, events.append)
    invariants = Invariants(MOVES, violations.append)
    trace.subscribe(invariants)

    async def main() -> Any:
        world = World(scenario, NAMES, loop, trace, clock, databases=databases)
        world.facts = RunFacts(frozenset(c.uid for c in world.customers), world.uid_of, lambda *_: None,
                               lambda *_: None)
        trace.subscribe(world.facts)
        await world.begin()
        rig = Rig(world, events, invariants)
        result = await story(rig)
        if then_s:
            await asyncio.sleep(then_s)
        fault = world.fault or world.core.fault
        if fault is not None and not planted:
            raise fault
        if not planted:
            findings = await reconcile(world)
            if findings:
                raise Broken(findings)
        await world.core.stop()
        await world.close()
        return result

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main())
    if violations and not planted:
        raise Broken([(one.invariant, one.detail) for one in violations])
    return result


__all__ = ["FRONTLINE", "SUPERVISOR", "SYSTEM", "USER", "FreezeType", "Market", "Refusal", "Rig", "epoch_ms", "play"]
