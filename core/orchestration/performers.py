"""Performers: carry one effect out and say what came of it.

Each effect has an idempotency key; asking twice under one key moves money once. `OutcomeUnknown` and `CallFailed`
pass through to the engine, which asks again: no performer guesses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from core.domain import DepositType, FreezeType
from core.errors import CallFailed, Code, OutcomeUnknown, Refusal
from core.orchestration.engine import Fact, Outcome, Performer, Voided
from core.orchestration.records import Effect, Procedure
from core.rpc import Rpc
from core.settings import Settings


class LedgerAnswer(Protocol):
    """What risk control says: a code, OK or why not."""

    @property
    def code(self) -> Code: ...
    @property
    def detail(self) -> str: ...


class LedgerHold(Protocol):
    """A hold: stage 1 frozen, 2 in transit, 3 closed."""

    @property
    def stage(self) -> int: ...


class RiskControl(Protocol):
    """Risk control as SBA calls it; every operation is idempotent by its key. Amounts in minor units."""

    async def freeze(self, key: str, account: int, ccy: str, amount: int, hold_id: str,
                     freeze_type: int) -> LedgerAnswer: ...
    async def release(self, key: str, hold_id: str) -> LedgerAnswer: ...
    async def deduct(self, key: str, hold_id: str) -> LedgerAnswer: ...
    async def refreeze(self, key: str, hold_id: str) -> LedgerAnswer: ...
    async def restore(self, key: str, hold_id: str) -> LedgerAnswer: ...
    async def consume(self, key: str, hold_id: str) -> LedgerAnswer: ...
    async def settle(self, key: str, hold_id: str, account: int, ccy: str, amount: int) -> LedgerAnswer: ...
    async def add(self, key: str, account: int, ccy: str, amount: int) -> LedgerAnswer: ...
    async def add_held(self, key: str, account: int, ccy: str, amount: int, hold_id: str,
                       freeze_type: int) -> LedgerAnswer: ...
    async def debit(self, key: str, account: int, ccy: str, amount: int) -> LedgerAnswer: ...
    async def query(self, key: str) -> LedgerAnswer | None: ...
    async def void(self, key: str) -> LedgerAnswer | None: ...
    async def hold(self, hold_id: str) -> LedgerHold | None: ...


FROZEN, IN_TRANSIT = 1, 2
QUESTIONS = ("hold", "void")  # asked of risk control to know something, not to have something done
Owner = Callable[[Procedure, Effect], Awaitable[dict[str, Any]]]


class Performers:
    """The performers of one core. ``owners`` write results back to Apply and Task and pass bank instructions on."""

    def __init__(self, rpc: Rpc, risk_control: RiskControl, owners: dict[str, Owner], settings: Settings) -> None:
        self._rpc, self._risk, self._owners = rpc, risk_control, owners
        self._backoff: tuple[float, ...] = tuple(settings["srpc.backoff_s"])
        self._freeze_type = int(FreezeType.CASH_OUT)
        self.table: dict[str, Performer] = {
            "FREEZE": self._freeze, "DEDUCT": self._deduct, "REFREEZE": self._refreeze, "RESTORE": self._restore,
            "RELEASE": self._release, "CONSUME": self._consume, "SETTLE": self._settle, "ADD_BACK": self._add_back,
            "INSPECT": self._inspect, "CREDIT": self._credit, "DEBIT": self._debit, "INSTRUCT": self._owner,
            "TELL_DEPOSIT": self._owner, "TELL_WITHDRAW": self._owner,
        }

    async def ask(self, name: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """One call with the documented tries; every try carries the same key (gaps.md B-14 SRPC timeout).

        A question that was refused leaves as much unknown as silence does: `OutcomeUnknown`.
        """
        try:
            for pause in self._backoff:
                try:
                    return await self._rpc(f"risk_control.{name}", function, *args)
                except OutcomeUnknown:
                    await asyncio.sleep(pause)
            return await self._rpc(f"risk_control.{name}", function, *args)
        except CallFailed as refused:
            if name in QUESTIONS:
                raise OutcomeUnknown(str(refused)) from refused
            raise

    async def _order(self, name: str, function: Callable[..., Awaitable[Any]], key: str, *args: Any) -> Any:
        """Have risk control do something; raises `Voided` if the key was closed to it."""
        answer = await self.ask(name, function, key, *args)
        if answer.code is Code.BLOCKED:
            raise Voided(key)
        return answer

    async def _order_surely(self, name: str, function: Callable[..., Awaitable[Any]], key: str, *args: Any) -> Any:
        """As `_order`, but a definite failure is believed only once the key is proven void: an earlier try of the
        same key may have been carried out although its answer was lost."""
        try:
            return await self._order(name, function, key, *args)
        except CallFailed:
            known = await self.ask("void", self._risk.void, key)
            if known is None:
                raise
            return known

    async def _freeze(self, p: Procedure, effect: Effect) -> Outcome:
        try:
            answer = await self._order_surely("freeze", self._risk.freeze, effect.key, p.trade_acc_id, p.withdraw.ccy,
                                              p.withdraw.amount, p.hold_id, self._freeze_type)
        except CallFailed as failure:
            return Outcome(Fact("FREEZE_REFUSED", remark=str(failure)))
        if answer.code is Code.OK:
            return Outcome(Fact("FROZEN"))
        short = answer.code is Code.INSUFFICIENT_BALANCE
        return Outcome(Fact("FREEZE_REFUSED", "INSUFFICIENT_BALANCE" if short else "", answer.detail))

    async def _deduct(self, p: Procedure, effect: Effect) -> Outcome:
        try:
            answer = await self._order_surely("deduct", self._risk.deduct, effect.key, p.hold_id)
        except CallFailed as failure:
            return Outcome(Fact("DEDUCT_REFUSED", remark=str(failure)))
        return Outcome(Fact("DEDUCTED") if answer.code is Code.OK else Fact("DEDUCT_REFUSED", remark=answer.detail))

    async def _refreeze(self, p: Procedure, effect: Effect) -> Outcome:
        self._must(await self._order("refreeze", self._risk.refreeze, effect.key, p.hold_id), effect)
        return Outcome()

    async def _restore(self, p: Procedure, effect: Effect) -> Outcome:
        self._must(await self._order("restore", self._risk.restore, effect.key, p.hold_id), effect)
        return Outcome(Fact("RESTORED"))

    async def _release(self, p: Procedure, effect: Effect) -> Outcome:
        self._must(await self._order("release", self._risk.release, effect.key, p.hold_id), effect)
        return Outcome(Fact("RELEASED"))

    async def _consume(self, p: Procedure, effect: Effect) -> Outcome:
        self._must(await self._order("consume", self._risk.consume, effect.key, p.hold_id), effect)
        return Outcome(Fact("CONSUMED"))

    async def _settle(self, p: Procedure, effect: Effect) -> Outcome:
        answer = await self._order("settle", self._risk.settle, effect.key, p.hold_id, p.trade_acc_id, p.withdraw.ccy,
                                   p.withdraw.amount)
        if answer.code is Code.OK:
            return Outcome(Fact("SETTLED"))
        return Outcome(Fact("SETTLE_REFUSED", remark=answer.detail), refusal=Refusal(answer.code, answer.detail))

    async def _add_back(self, p: Procedure, effect: Effect) -> Outcome:
        self._must(await self._order("add", self._risk.add, effect.key, p.trade_acc_id, p.withdraw.ccy,
                                     p.withdraw.amount), effect)
        return Outcome(Fact("ADDED_BACK"))

    async def _inspect(self, p: Procedure, _effect: Effect) -> Outcome:
        """Never end a Procedure on our own belief about the hold: ask risk control (A-25)."""
        hold = await self.ask("hold", self._risk.hold, p.hold_id)
        if hold is not None and hold.stage in (FROZEN, IN_TRANSIT):
            return Outcome(Fact("HOLD_OUTSTANDING"))
        return Outcome(Fact("CLOSE_CANCEL" if p.intent == "cancel" else "CLOSE_REJECT"))

    async def _credit(self, p: Procedure, effect: Effect) -> Outcome:
        d = p.deposit
        try:
            if d.deposit_type == DepositType.NORMAL_HOLD:
                answer = await self._order_surely("add_held", self._risk.add_held, effect.key, p.trade_acc_id, d.ccy,
                                                  d.amount, d.hold_apply_id, d.hold_type)
            else:
                answer = await self._order_surely(
                    "add", self._risk.add, effect.key, p.trade_acc_id, d.ccy, d.amount)
        except CallFailed as failure:
            return Outcome(Fact("CREDIT_REFUSED", "RC_ERROR", str(failure)))
        if answer.code is Code.OK:
            return Outcome(Fact("CREDITED"))
        return Outcome(Fact("CREDIT_REFUSED", "RC_REJECTED", answer.detail))

    async def _debit(self, p: Procedure, effect: Effect) -> Outcome:
        answer = await self.ask("query", self._risk.query, effect.key) or await self._taken_back(p, effect)
        if answer.code is Code.OK:
            return Outcome(Fact("DEBITED"))
        return Outcome(Fact("DEBIT_REFUSED", remark=answer.detail), refusal=Refusal(answer.code, answer.detail))

    async def _taken_back(self, p: Procedure, effect: Effect) -> Any:
        """The credit goes back from where it lies: a NORMAL_HOLD deposit's own freeze, while it is open, else available
        money. Which of the two is decided once: a retry finds the answer under its key."""
        d = p.deposit
        if d.deposit_type == DepositType.NORMAL_HOLD:
            hold = await self.ask("hold", self._risk.hold, d.hold_apply_id)
            if hold is not None and hold.stage in (FROZEN, IN_TRANSIT):
                return await self._order("settle", self._risk.settle, effect.key, d.hold_apply_id, p.trade_acc_id,
                                         d.ccy, d.amount)
        return await self._order("debit", self._risk.debit, effect.key, p.trade_acc_id, d.ccy, d.amount)

    async def _owner(self, p: Procedure, effect: Effect) -> Outcome:
        """Pass on to the deposit or withdrawal service; what it returns is written to the Procedure."""
        return Outcome(marks=await self._rpc(f"owner.{effect.name.lower()}", self._owners[effect.name], p, effect))

    @staticmethod
    def _must(answer: LedgerAnswer, effect: Effect) -> None:
        """An operation that gives money back may not be refused: keep the state, alert, try again."""
        if answer.code is not Code.OK:
            raise CallFailed(f"{effect.name} refused: {answer.code.name} {answer.detail}")
