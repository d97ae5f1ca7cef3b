"""A real way into each of the 17 states of a withdrawal, where it then rests; and what a test compares afterwards.

Each way leads through what people, banks and faults do: the App, the buttons, the bank's results, silent calls. Only
``new(confirmed)``, which the platform leaves in the same moment, is held by leaving out the automatic step.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from core.domain import BizType
from core.orchestration import withdraw_table as W
from core.screening import ListName
from core.screening.lists import Kind, Value
from tests.rig import FRONTLINE, SUPERVISOR, Rig

THURSDAY, EARLY, EVENING, SATURDAY = "2026-03-12 10:00", "2026-03-12 07:00", "2026-03-12 18:00", "2026-03-14 10:00"
FULL, AMOUNT = 10_000_000, 1_000_000  # alice's HKD 100,000.00 and a withdrawal of 10,000.00, minor units
ROLLBACK = {"action": "Rollback", "bank_status": "NOT_TRANSFERRED"}
COMPLETE = {"action": "Complete", "bank_status": "TRANSFERRED"}


# Hands


def break_line(rig: Rig, kind: str, call: str, share: float = 1.0) -> None:
    """From now on calls of this name fail, or are silent, until `mend`."""
    rig.world.rpc.fault(kind, call, random.Random(call), share)


def mend(rig: Rig, call: str) -> None:
    """The line is well again."""
    rig.world.rpc.clear(call)


def stop_job(rig: Rig, name: str) -> None:
    """A scheduled job does not run any more."""
    rig.core.timetable.pause(name)


def silent_bank(rig: Rig, paid: bool, until_s: float | None = None, who: str = "alice") -> None:
    """From now on the bank shows no result of his withdrawals (until so many seconds later), whether it pays or not."""
    rig.world.bank.fault("stuck_pending", paid=paid, until_s=until_s, customer=who, message="withdraw")


async def blacklist(rig: Rig, who: str = "alice") -> None:
    """Put a customer on the withdrawal blacklist."""
    uid = str(rig.customer(who).uid)
    assert await rig.core.lists.add(ListName.WITHDRAW_BLACK, [Value(Kind.UID, uid)], "staff_1001", "test") == 1


async def press(rig: Rig, name: str, shown: dict[str, Any], by=FRONTLINE, **params: Any) -> dict[str, Any]:
    """Press a button that must do what it says; the Procedure as it is afterwards."""
    reply = await rig.operate(name, shown, by, **params)
    assert reply.ok, reply
    return reply.procedure


async def shown(rig: Rig, procedure_id: int) -> dict[str, Any]:
    """The Procedure as people see it."""
    found = await rig.sba.procedure(procedure_id)
    assert found is not None
    return found


async def reach(rig: Rig, procedure_id: int, label: str, within_s: int = 600) -> dict[str, Any]:
    """Wait until the Procedure is in the state with that label; looks ten times a second, on long waits each minute."""
    step = 0.1 if within_s <= 600 else 60
    for _ in range(round(within_s / step) + 1):
        found = await rig.sba.procedure(procedure_id)
        if found is not None and found["state"] == label:
            return found
        await asyncio.sleep(step)
    raise AssertionError(f"P{procedure_id} is not {label} but {found and found['state']} after {within_s} s")


async def created(rig: Rig, **fields: Any) -> dict[str, Any]:
    """A withdrawal created at SBA directly, without a Task."""
    reply = await rig.sba.create_withdrawal(rig.withdraw_request(**fields))
    assert reply.ok, reply
    return reply.procedure


async def by_hand(rig: Rig, **more: Any) -> dict[str, Any]:
    """A withdrawal that operations pay in HSBC's online banking."""
    return await rig.withdrawn("pending(transfer_manual)", channel="hsbc", **more)


# Ways


async def _freeze(rig: Rig) -> dict[str, Any]:
    break_line(rig, "timeout_before", "risk_control.freeze")
    return await created(rig)


async def _waiting(rig: Rig) -> dict[str, Any]:
    stop_job(rig, "WithdrawDriveJob")
    return await rig.withdrawn("new(waiting)", channel="hsbc")


async def _manual_confirm(rig: Rig) -> dict[str, Any]:
    await blacklist(rig)
    return await rig.withdrawn("new(manual_confirm)", channel="hsbc")


async def _confirmed(rig: Rig) -> dict[str, Any]:
    del rig.core.decisions._decided[BizType.CASH_WITHDRAW, W.CONFIRMED]
    return await press(rig, "CashWithdrawManualConfirm", await _manual_confirm(rig))


async def _blank(rig: Rig) -> dict[str, Any]:
    break_line(rig, "timeout_before", "risk_control.deduct")
    return await rig.withdrawn("new(blank)", channel="hsbc")


async def _deduct_done(rig: Rig) -> dict[str, Any]:
    return await rig.withdrawn("pending(deduct_done)")


async def _transfer_auto(rig: Rig) -> dict[str, Any]:
    silent_bank(rig, paid=False)
    return await rig.withdrawn("pending(transfer_auto)")


async def _return(rig: Rig) -> dict[str, Any]:
    break_line(rig, "timeout_before", "risk_control.restore")
    return await press(rig, "SetManualTransferFailed", await by_hand(rig))


async def _unfreeze(rig: Rig) -> dict[str, Any]:
    break_line(rig, "timeout_before", "risk_control.release")
    return await press(rig, "CashWithdrawReject", await _waiting(rig))


async def _move_next(rig: Rig) -> dict[str, Any]:
    return await rig.withdrawn("pending(move_next)")


async def _waiting_trade(rig: Rig) -> dict[str, Any]:
    return await rig.withdrawn("pending(waiting_trade)", channel="hsbc")


async def _transfer_reject(rig: Rig) -> dict[str, Any]:
    break_line(rig, "timeout_before", "risk_control.hold")
    return await press(rig, "CashWithdrawReject", await _waiting(rig))


async def _end_ok(rig: Rig) -> dict[str, Any]:
    return await press(rig, "SetManualTransferDone", await by_hand(rig))


async def _end_reject(rig: Rig) -> dict[str, Any]:
    return await press(rig, "CashWithdrawReject", await _waiting(rig))


async def _end_cancel(rig: Rig) -> dict[str, Any]:
    return await press(rig, "CashWithdrawCancel", await _waiting(rig), SUPERVISOR)


async def _end_reverse(rig: Rig) -> dict[str, Any]:
    return await press(rig, "CashWithdrawReverse", await _end_ok(rig), SUPERVISOR)


class Way(NamedTuple):
    """How to get into a state, and when one must set out."""

    go: Callable[[Rig], Awaitable[dict[str, Any]]]
    start: str = THURSDAY


WAYS: dict[str, Way] = {
    "new(freeze)": Way(_freeze),
    "new(waiting)": Way(_waiting),
    "new(manual_confirm)": Way(_manual_confirm),
    "new(confirmed)": Way(_confirmed),
    "new(blank)": Way(_blank),
    "pending(deduct_done)": Way(_deduct_done, EARLY),
    "pending(transfer_auto)": Way(_transfer_auto),
    "pending(transfer_manual)": Way(by_hand),
    "pending(return)": Way(_return),
    "pending(unfreeze)": Way(_unfreeze),
    "pending(move_next)": Way(_move_next, EVENING),
    "pending(waiting_trade)": Way(_waiting_trade, SATURDAY),
    "pending(transfer_reject)": Way(_transfer_reject),
    "end_ok(transfer_done)": Way(_end_ok),
    "end_reject": Way(_end_reject),
    "end_cancel": Way(_end_cancel),
    "end_reverse(transfer_done)": Way(_end_reverse),
}
STATES = tuple(WAYS)
OPEN = tuple(label for label in STATES if not label.startswith("end_"))
ENDS = tuple(label for label in STATES if label.startswith("end_"))


# Looking


async def at_rest(rig: Rig, procedure_id: int) -> dict[str, Any]:
    """Wait until nobody holds the Procedure's lock (a silent call is asked again in 2 s), then show it."""
    engine = rig.core.engine
    for _ in range(20):
        token = await engine.lock(procedure_id)
        if token is not None:
            await engine.unlock(procedure_id, token)
            return await shown(rig, procedure_id)
    raise AssertionError(f"P{procedure_id} is never at rest")


async def everything(rig: Rig, procedure_id: int) -> dict[str, Any]:
    """All that a refused operation must leave as it was: Procedure, Flow records, effects asked for, money, hold."""
    p = await rig.core.engine.load(procedure_id)
    assert p is not None
    return {"procedure": await shown(rig, procedure_id), "flows": await rig.sba.history(procedure_id),
            "asked": [effect.key for effect in p.pending], "money": await rig.money(), "due": p.due_at,
            "hold": await rig.core.risk_control.hold(p.hold_id), "late": await rig.sba.late_results(procedure_id),
            "paid": rig.paid()}


def flows(rig: Rig, procedure_id: int) -> list[dict[str, Any]]:
    """Transitions of a Procedure as the event stream tells them, in order."""
    return rig.of_kind("procedure", id=procedure_id)


def alerts(rig: Rig, rule: str, procedure_id: int) -> list[dict[str, Any]]:
    """Alerts of a rule about a Procedure."""
    return rig.of_kind("alert", rule=rule, key=f"P{procedure_id}")


def notices(rig: Rig, who: str = "alice") -> list[str]:
    """What a customer was told, in order."""
    return [data["event"] for data in rig.of_kind("notify", uid=rig.customer(who).uid)]
