"""Procedures driven into each state by what really leads there; two states that never rest are planted.

``new(waiting)`` of a deposit and ``new(confirmed)`` of a withdrawal are left in the transaction that reaches them, so
they are written into the row, as a database restored from elsewhere might hold them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import bindparam, update

from core.orchestration.records import Actor
from core.storage import Statement
from core.storage.procedure import proc_info
from tests.rig import FRONTLINE, SUPERVISOR, Rig

# Risk control that does not answer is asked once and at once: nobody waits for the lock meanwhile.
QUICK: dict[str, Any] = {"srpc.timeout_s": 0.001, "srpc.backoff_s": []}
SLOW_BANK: dict[str, Any] = {"sim.airstar.result.delay": [[1.0, 36_000.0, 36_000.0]]}
CONFIRMED_BY_SUPERVISOR = {"confirmations": ("erroneous_credit", "sufficient_balance", "user_notified")}

PLANT = Statement(update(proc_info).where(proc_info.c.id == bindparam("b_id")).values(
    status=bindparam("status"), ext_status=bindparam("ext")))

Shown = dict[str, Any]


def silence(rig: Rig, call: str, kind: str = "timeout_before") -> None:
    """Risk control does not answer this call until `speak`."""
    rig.world.rpc.fault(kind, f"risk_control.{call}", rig.world.streams(f"test.{call}"))


def speak(rig: Rig) -> None:
    """Risk control answers again."""
    for call in ("add", "add_held", "debit", "freeze", "deduct", "release", "restore", "refreeze", "consume", "settle",
                 "hold", "void"):
        rig.world.rpc.clear(f"risk_control.{call}")


async def plant(rig: Rig, shown: Shown, status: str, ext: str) -> Shown:
    await rig.world.databases.procedure.execute(PLANT, {"b_id": shown["id"], "status": status, "ext": ext})
    return await rig.sba.procedure(shown["id"])


# Deposits


async def create_deposit(rig: Rig, **changed: Any) -> Shown:
    reply = await rig.sba.create_deposit(rig.deposit_request(**changed))
    assert reply.ok, reply
    return reply.procedure


async def deposit_waiting(rig: Rig) -> Shown:
    return await plant(rig, await deposit_in_review(rig), "new", "waiting")


async def deposit_in_review(rig: Rig) -> Shown:
    return await create_deposit(rig, deposit_type=5)


async def deposit_pending(rig: Rig) -> Shown:
    silence(rig, "add")
    return await create_deposit(rig)


async def deposit_credited(rig: Rig) -> Shown:
    return await create_deposit(rig)


async def deposit_rejected(rig: Rig) -> Shown:
    return await _after(rig, "CashDepositManualReject", await deposit_in_review(rig))


async def deposit_reversed(rig: Rig) -> Shown:
    return await _after(rig, "CashDepositReverse", await deposit_credited(rig), SUPERVISOR, **CONFIRMED_BY_SUPERVISOR)


# Withdrawals


async def create_withdrawal(rig: Rig, **changed: Any) -> Shown:
    rig.core.timetable.pause("WithdrawDriveJob")
    reply = await rig.sba.create_withdrawal(rig.withdraw_request(**changed))
    assert reply.ok, reply
    return reply.procedure


async def freezing(rig: Rig) -> Shown:
    silence(rig, "freeze")
    return await create_withdrawal(rig)


async def waiting(rig: Rig) -> Shown:
    return await create_withdrawal(rig)


async def in_review(rig: Rig) -> Shown:
    return await create_withdrawal(rig, blacklisted=True)


async def confirmed(rig: Rig) -> Shown:
    return await plant(rig, await in_review(rig), "new", "confirmed")


async def deducting(rig: Rig) -> Shown:
    silence(rig, "deduct")
    shown = await create_withdrawal(rig)
    return (await rig.sba.drive(shown["id"])).procedure


async def deducted(rig: Rig) -> Shown:
    """A bank-securities transfer that waited for the bank's window, which has just opened."""
    rig.core.timetable.pause("MoveNextResumeJob")
    shown = await rig.withdrawn("pending(deduct_done)")
    await rig.until("2026-03-12 08:00")
    return shown


async def instructed(rig: Rig) -> Shown:
    return await rig.withdrawn("pending(transfer_auto)")


async def exhausted(rig: Rig) -> Shown:
    """Ten polls are used up without a result."""
    shown = await instructed(rig)

    async def look() -> Shown | None:
        now = await rig.sba.procedure(shown["id"])
        return now if now["poll_exhausted"] else None

    return await rig.reach(look, "pending(transfer_auto)")


async def by_hand(rig: Rig, **changed: Any) -> Shown:
    shown = await create_withdrawal(rig, **changed)
    return (await rig.sba.drive(shown["id"])).procedure


async def by_cgb(rig: Rig) -> Shown:
    return await by_hand(rig, transfer_method="cgb_fps_api")


async def returning(rig: Rig) -> Shown:
    silence(rig, "restore")
    return await _after(rig, "SetManualTransferFailed", await by_hand(rig))


async def unfreezing(rig: Rig) -> Shown:
    silence(rig, "release")
    return await _after(rig, "CashWithdrawReject", await waiting(rig))


async def moved_on(rig: Rig) -> Shown:
    return await rig.withdrawn("pending(move_next)")


async def closing(rig: Rig) -> Shown:
    silence(rig, "hold")
    return await _after(rig, "CashWithdrawReject", await waiting(rig))


async def paid(rig: Rig) -> Shown:
    return await _after(rig, "SetManualTransferDone", await by_hand(rig))


async def rejected(rig: Rig) -> Shown:
    return await _after(rig, "CashWithdrawReject", await waiting(rig))


async def cancelled(rig: Rig) -> Shown:
    return await _after(rig, "CashWithdrawCancel", await waiting(rig), SUPERVISOR)


async def reversed_after_payment(rig: Rig) -> Shown:
    return await _after(rig, "CashWithdrawReverse", await paid(rig), SUPERVISOR)


async def _after(rig: Rig, operation: str, shown: Shown, by: Actor = FRONTLINE, **params: Any) -> Shown:
    reply = await rig.operate(operation, shown, by, **params)
    assert reply.ok, reply
    return reply.procedure


class Way(NamedTuple):
    """How to get into a state: when the world begins, its settings, and whether the state is planted."""

    label: str
    drive: Callable[[Rig], Awaitable[Shown]]
    start: str = "2026-03-12 10:00"
    settings: Mapping[str, Any] = {}
    planted: bool = False

    @property
    def world(self) -> dict[str, Any]:
        """Arguments of `play`."""
        return {"start": self.start, "settings": {**QUICK, **self.settings}, "planted": self.planted}

    async def reached(self, rig: Rig) -> Shown:
        shown = await self.drive(rig)
        assert shown["state"] == self.label, shown
        return shown


DEPOSIT_WAYS = (
    Way("new(waiting)", deposit_waiting, planted=True),
    Way("new(manual_confirm)", deposit_in_review),
    Way("pending", deposit_pending),
    Way("end_ok(deposit_ok)", deposit_credited),
    Way("end_reject", deposit_rejected),
    Way("end_reverse(deposit_ok)", deposit_reversed),
)
WITHDRAW_WAYS = (
    Way("new(freeze)", freezing),
    Way("new(waiting)", waiting),
    Way("new(manual_confirm)", in_review),
    Way("new(confirmed)", confirmed, planted=True),
    Way("new(blank)", deducting),
    Way("pending(deduct_done)", deducted, "2026-03-12 07:59"),
    Way("pending(transfer_auto)", instructed, settings=SLOW_BANK),
    Way("pending(transfer_manual)", by_hand),
    Way("pending(return)", returning),
    Way("pending(unfreeze)", unfreezing),
    Way("pending(move_next)", moved_on, "2026-03-12 16:30"),
    Way("pending(waiting_trade)", by_hand, "2026-03-14 12:00"),
    Way("pending(transfer_reject)", closing),
    Way("end_ok(transfer_done)", paid),
    Way("end_reject", rejected),
    Way("end_cancel", cancelled),
    Way("end_reverse(transfer_done)", reversed_after_payment),
)
# The same state under another condition that the documents distinguish.
EXHAUSTED = Way("pending(transfer_auto)", exhausted, settings=SLOW_BANK)
BY_CGB = Way("pending(transfer_manual)", by_cgb)


def way_to(label: str, ways: tuple[Way, ...] = WITHDRAW_WAYS) -> Way:
    return next(way for way in ways if way.label == label)


async def picture(rig: Rig, procedure_id: int) -> dict[str, Any]:
    """All that an operation may change: the Procedure, its history, what it asked for, the money."""
    p = await rig.core.engine.load(procedure_id)
    return {"shown": await rig.sba.procedure(procedure_id), "history": await rig.sba.history(procedure_id),
            "pending": [(effect.id, effect.key) for effect in p.pending], "money": await rig.money(),
            "postings": len(rig.of_kind("posting"))}
