"""Rows of ``eddi_debit``: the direct debits of one bank (gaps.md B-25), moved along `core.domain.DEBIT_MOVES` only."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, insert, or_, select, update

from core.clock import Clock
from core.domain import DEBIT_MOVES, DebitState
from core.errors import InvariantBroken
from core.storage import Database, Questions, Sequence, Statement, Transaction
from core.storage.primary import eddi_debit
from core.trace import Trace


class Debit(NamedTuple):
    """One row; ``amount`` in minor units, moments in epoch milliseconds."""

    id: int
    bank: str
    apply_id: int
    authorisation_id: int
    mandate_ref: str
    reference: str
    ccy: str
    amount: int
    state: str
    bank_id: str
    reason: str
    attempts: int
    doubt: int
    credit: int
    overdue: int
    due_at: int
    submitted_at: int | None
    asked_at: int | None
    created_at: int


NEW_BLANK, QUEUED, SUBMITTED = DebitState.NEW_BLANK, DebitState.QUEUED, DebitState.SUBMITTED
PROCESSING, SUCCESS = DebitState.PROCESSING, DebitState.SUCCESS
FAILED, RETURNED = DebitState.FAILED, DebitState.RETURNED

_C = eddi_debit.c
_COLUMNS = tuple(_C[name] for name in Debit._fields)
_CHANGING: Final = ("state", "bank_id", "reason", "attempts", "doubt", "credit", "overdue", "due_at", "submitted_at",
                    "asked_at")
_BANK = _C.bank == bindparam("bank")
NEW = Statement(insert(eddi_debit))
BY_ID = Statement(select(*_COLUMNS).where(_C.id == bindparam("b_id")))
OF_APPLY = Statement(select(*_COLUMNS).where(_C.apply_id == bindparam("apply")))
CHANGE = Statement(update(eddi_debit).where(
    _C.id == bindparam("b_id"), _C.state == bindparam("b_state"), _C.attempts == bindparam("b_attempts")).values(
        {name: bindparam(name) for name in (*_CHANGING, "updated_at")}))
HEAD = Statement(select(*_COLUMNS).where(
    _BANK, _C.state.in_((NEW_BLANK.value, QUEUED.value, SUBMITTED.value))).order_by(_C.id).limit(1))
DUE = Statement(select(*_COLUMNS).where(
    _BANK, _C.state.in_((QUEUED.value, SUBMITTED.value)), _C.due_at <= bindparam("now")).order_by(_C.id).limit(1))
NEXT_DUE = Statement(select(_C.due_at).where(
    _BANK, _C.state.in_((QUEUED.value, SUBMITTED.value))).order_by(_C.due_at).limit(1))
IN_STATE = Statement(select(*_COLUMNS).where(_BANK, _C.state == bindparam("state")).order_by(_C.id))
TO_CREDIT = Statement(select(*_COLUMNS).where(_BANK, _C.state == SUCCESS.value, _C.credit == 0).order_by(_C.id))
TO_ASK = Statement(select(*_COLUMNS).where(_BANK, or_(
    _C.state == PROCESSING.value,
    and_(_C.state == SUCCESS.value, _C.submitted_at > bindparam("since"), _C.asked_at <= bindparam("asked")),
)).order_by(_C.id))


class Debits:
    """Direct debits at one bank, in the primary database."""

    def __init__(self, bank: str, db: Database, clock: Clock, trace: Trace) -> None:
        self.bank, self._db, self._clock, self._trace = bank, db, clock, trace
        self.ids = Sequence(db, "eddi")

    async def new(self, tx: Transaction, number: int, state: DebitState, **fields: Any) -> Debit:
        """A debit that is to be sent; ``number`` from `ids`, taken in the same transaction: its row stays locked until
        the commit, so that no smaller number can appear later."""
        now = self._clock.now_ms()
        debit = Debit(id=number, bank=self.bank, state=state.value, bank_id="", reason="", attempts=0, doubt=0,
                      credit=0, overdue=0, due_at=now, submitted_at=None, asked_at=None, created_at=now, **fields)
        await tx.execute(NEW, debit._asdict() | {"updated_at": now})
        self._publish(tx, debit)
        return debit

    async def find(self, number: int, tx: Questions | None = None) -> Debit:
        """The debit with this number."""
        row = await (tx or self._db).first(BY_ID, {"b_id": number})
        if row is None:
            raise InvariantBroken(f"debit {number} has vanished")
        return Debit(*row)

    async def of_apply(self, apply_id: int) -> Debit | None:
        """The debit of a deposit application."""
        row = await self._db.first(OF_APPLY, {"apply": apply_id})
        return Debit(*row) if row else None

    async def change(self, tx: Transaction, debit: Debit, to: DebitState | None = None, **fields: Any) -> Debit | None:
        """Move a debit and set fields; None (nothing written) if it has moved or been sent again since it was read."""
        if to is not None and to not in DEBIT_MOVES[DebitState(debit.state)]:
            raise InvariantBroken(f"{debit.reference}: {debit.state} -> {to.value}")
        changed = debit._replace(**fields)._replace(state=debit.state if to is None else to.value)
        count = await tx.execute(CHANGE, {name: getattr(changed, name) for name in _CHANGING} | {
            "b_id": debit.id, "b_state": debit.state, "b_attempts": debit.attempts,
            "updated_at": self._clock.now_ms()})
        if count != 1:
            return None
        if to is not None:
            self._publish(tx, changed)
        return changed

    async def head(self, tx: Questions) -> Debit | None:
        """The first in order that is not at the bank yet."""
        row = await tx.first(HEAD, {"bank": self.bank})
        return Debit(*row) if row else None

    async def due(self, tx: Questions) -> Debit | None:
        """One that may be sent now."""
        row = await tx.first(DUE, {"bank": self.bank, "now": self._clock.now_ms()})
        return Debit(*row) if row else None

    async def next_due_ms(self) -> int | None:
        """When the next one may be sent; None if none waits."""
        row = await self._db.first(NEXT_DUE, {"bank": self.bank})
        return int(row[0]) if row else None

    async def in_state(self, state: DebitState) -> list[Debit]:
        """All of a state, in order."""
        return [Debit(*row) for row in await self._db.all(IN_STATE, {"bank": self.bank, "state": state.value})]

    async def to_credit(self) -> list[Debit]:
        """Successful ones whose crediting was not queued."""
        return [Debit(*row) for row in await self._db.all(TO_CREDIT, {"bank": self.bank})]

    async def to_ask(self, returns_since: int, asked_before: int) -> list[Debit]:
        """Those whose result the bank may tell: without one, and young successful ones that may be returned."""
        rows = await self._db.all(TO_ASK, {"bank": self.bank, "since": returns_since, "asked": asked_before})
        return [Debit(*row) for row in rows]

    def _publish(self, tx: Transaction, debit: Debit) -> None:
        self._trace.publish(tx, "debit", f"D{debit.id}", {
            "debit": debit.id, "bank": debit.bank, "apply": debit.apply_id, "ref": debit.reference,
            "state": debit.state, "ccy": debit.ccy, "amount": debit.amount, "attempts": debit.attempts,
            "reason": debit.reason})
