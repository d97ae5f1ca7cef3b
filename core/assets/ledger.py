"""Risk control: the double-entry ledger of customers' money (gaps.md A-17).

Every operation is idempotent by its key and is one transaction: the posting under that key, its two entries, the
balance and the hold commit together or not at all. A refusal is an answer and is stored under the key as well, so
after an unknown outcome `RiskControl.query` tells what happened, and `RiskControl.void` sees to it that what has not
happened never will. The statement that changes a balance matches no row if a bucket would become negative. What an
operation does at which stage of a hold is the table in `core.assets.operations`; this file only carries the table out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from core.assets.answers import Balance, Finding, Hold, Outcome, Totals
from core.assets.operations import CLOSES_AS, OPERATIONS, VOID, Bucket, Move, Stage, Step, stages_served
from core.assets.statements import (
    ADD_BALANCE,
    BALANCE_THEN,
    CHANGE_BALANCE,
    CHANGE_HOLD,
    FIND_BALANCE,
    FIND_HOLD,
    FIND_POSTING,
    HOLD_MAX,
    KEY_MAX,
    POSTINGS_AFTER,
    SAVE_ENTRIES,
    SAVE_HOLD,
    SAVE_POSTING,
    TOTAL_BALANCES,
    TOTAL_EXTERNAL,
)
from core.assets.verification import verify
from core.clock import Clock
from core.domain import FreezeType
from core.errors import Code, InvariantBroken
from core.money import Currency, show
from core.storage import Contention, Database, Transaction, UniqueViolation
from core.trace import Trace

MAX_ATTEMPTS: Final = 3
"""How often a posting starts anew because another worker was quicker at the same key, balance or hold."""

EXTERNAL_ACCOUNT: Final = "external"

_STORED_CLOSED: Final = 3
_STAGES: Final = tuple(Stage)
_DONE: Final = Outcome(Code.OK)
_CCYS: Final = frozenset(Currency)
_FREEZE_TYPES: Final = frozenset(FreezeType)
_PAGE: Final = 500

_T = TypeVar("_T")

_WITHOUT_HOLD: Final = ("add", "debit")
_ON_HOLD: Final = ("release", "deduct", "refreeze", "restore", "consume")
_TYPED: Final = ("freeze", "add_held")


class _Order(NamedTuple):
    """What is asked. Operations on an existing hold take account, currency and amount from it."""

    op: str
    key: str
    account: int = 0
    ccy: str = ""
    amount: int = 0
    hold_id: str = ""
    freeze_type: int = 0


class _Posting(NamedTuple):
    """A stored answer."""

    id: int
    key: str
    op: str
    account: int
    ccy: str
    amount: int
    hold_id: str
    code: int

    def outcome(self, *, replayed: bool) -> Outcome:
        """The answer in words, the same ones at every replay: they depend on stored columns only."""
        code = Code(self.code)
        return Outcome(code, _DETAIL[code](self) if code else "", replayed)

    def answers(self, order: _Order) -> bool:
        """Whether an order under this posting's key is the one it answered."""
        if (self.op, self.hold_id) != (order.op, order.hold_id):
            return False
        return not order.amount or (self.account, self.ccy, self.amount) == (order.account, order.ccy, order.amount)


class _Overtaken(InvariantBroken):
    """The hold is not as it was read: another worker moved it. If that does not pass, the books are broken."""


class RiskControl:
    """The ledger's operations and questions. ``db`` is the assets database; amounts are integer minor units.

    ``key`` is the caller's idempotency key (DEDUP-04): the same key gives the same answer and moves nothing again;
    the same key with other parameters is refused with INVALID_PARAM. Orders that are no orders at all (amount not
    positive, unknown currency or freeze type, key too long) are refused without being stored.
    """

    def __init__(self, db: Database, clock: Clock, trace: Trace) -> None:
        self._db = db
        self._clock = clock
        self._trace = trace

    async def freeze(self, key: str, account: int, ccy: str, amount: int, hold_id: str, freeze_type: int) -> Outcome:
        """available -> frozen, opens the hold; adopts an equal FROZEN one (A-15, A-18). May be INSUFFICIENT_BALANCE."""
        return await self._post(_Order("freeze", key, account, ccy, amount, hold_id, freeze_type))

    async def release(self, key: str, hold_id: str) -> Outcome:
        """frozen -> available, closes the hold."""
        return await self._post(_Order("release", key, hold_id=hold_id))

    async def deduct(self, key: str, hold_id: str) -> Outcome:
        """frozen -> in_transit: the formal deduction."""
        return await self._post(_Order("deduct", key, hold_id=hold_id))

    async def refreeze(self, key: str, hold_id: str) -> Outcome:
        """in_transit -> frozen, the hold stays open: deferred to the next trading day (A-18)."""
        return await self._post(_Order("refreeze", key, hold_id=hold_id))

    async def restore(self, key: str, hold_id: str) -> Outcome:
        """in_transit -> available, closes the hold: the transfer failed."""
        return await self._post(_Order("restore", key, hold_id=hold_id))

    async def consume(self, key: str, hold_id: str) -> Outcome:
        """in_transit -> external, closes the hold: the bank has paid."""
        return await self._post(_Order("consume", key, hold_id=hold_id))

    async def settle(self, key: str, hold_id: str, account: int, ccy: str, amount: int) -> Outcome:
        """The bank has paid, wherever the money is: takes it from the hold, or from available (WT-32)."""
        return await self._post(_Order("settle", key, account, ccy, amount, hold_id, FreezeType.CASH_OUT))

    async def add(self, key: str, account: int, ccy: str, amount: int) -> Outcome:
        """external -> available: a deposit, or a completed withdrawal that came back."""
        return await self._post(_Order("add", key, account, ccy, amount))

    async def add_held(self, key: str, account: int, ccy: str, amount: int, hold_id: str, freeze_type: int) -> Outcome:
        """external -> frozen with an open hold (NORMAL_HOLD, SBA-DEP-022); DUPLICATE if the hold id was used."""
        return await self._post(_Order("add_held", key, account, ccy, amount, hold_id, freeze_type))

    async def debit(self, key: str, account: int, ccy: str, amount: int) -> Outcome:
        """available -> external: the reversal of a deposit. May be INSUFFICIENT_BALANCE."""
        return await self._post(_Order("debit", key, account, ccy, amount))

    async def query(self, key: str) -> Outcome | None:
        """What became of a key: its stored answer (``replayed``), or None if it never arrived."""
        row = await self._db.first(FIND_POSTING, {"b_key": key})
        return None if row is None else _Posting(*row).outcome(replayed=True)

    async def void(self, key: str) -> Outcome | None:
        """What became of a key; if nothing yet, nothing ever will: None, also at every repetition.

        An unknown key gets a tombstone: a posting that moves nothing and has no event, so that the original call,
        should it still arrive, is refused with BLOCKED. Whoever asks first wins: the order, or the void.
        """
        return await self._decided(partial(self._void, key))

    async def balances(self, account: int, ccy: str) -> Balance:
        """The three buckets of one account and currency; zeros if it never had money."""
        return Balance(*(await self._db.first(FIND_BALANCE, {"b_account": account, "b_ccy": ccy}) or ()))

    async def hold(self, hold_id: str) -> Hold | None:
        """A hold, open or closed."""
        return _hold(await self._db.first(FIND_HOLD, {"b_hold_id": hold_id}))

    async def totals(self) -> dict[str, Totals]:
        """All accounts together, per currency; at one moment."""
        async with self._db.transaction() as tx:
            inside = await tx.all(TOTAL_BALANCES, {})
            outside = {ccy: int(total) for ccy, total in await tx.all(TOTAL_EXTERNAL, {})}
        return {ccy: Totals(int(available), int(frozen), int(in_transit), outside.get(ccy, 0))
                for ccy, available, frozen, in_transit in inside}

    async def verify(self) -> list[Finding]:
        """Full check of the books at one moment: empty if all is well. Reads everything: on demand, not per step."""
        return await verify(self._db)

    async def republish(self, after: int) -> int:
        """Emit again the events of postings numbered above ``after``: a crash fell between commit and event.

        ``after`` is the ``posting`` number of the last event that the readers have. Returns how many were emitted.
        """
        count = 0
        while rows := await self._db.all(POSTINGS_AFTER, {"b_after": after, "b_limit": _PAGE}):
            for *columns, origin, target in rows:
                posted = _Posting(*columns)
                then = await self._balance_then(posted)
                self._announce(posted, _legs(origin, target, posted.amount), then, posted.outcome(replayed=False))
            count, after = count + len(rows), rows[-1][0]
        return count

    async def _post(self, order: _Order) -> Outcome:
        return await self._decided(partial(self._answer, order=order))

    async def _decided(self, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
        """``work`` in one transaction, anew when another worker was quicker."""
        attempt = 1
        while True:
            try:
                async with self._db.transaction() as tx:
                    return await work(tx)
            except (UniqueViolation, Contention, _Overtaken):
                if attempt == MAX_ATTEMPTS:
                    raise
                attempt += 1  # rolled back; now what the quicker one wrote decides

    async def _answer(self, tx: Transaction, order: _Order) -> Outcome:
        flaw = _flaw(order)
        if flaw:
            return await self._refuse(tx, order, flaw)
        stored = await tx.first(FIND_POSTING, {"b_key": order.key})
        if stored is not None:
            return await self._replay(tx, order, _Posting(*stored))
        held = _hold(await tx.first(FIND_HOLD, {"b_hold_id": order.hold_id})) if order.hold_id else None
        if held and not order.amount:
            order = _Order(order.op, order.key, held.account, held.ccy, held.amount, order.hold_id)
        return await self._carry_out(tx, order, held, _step(order, held))

    async def _void(self, key: str, tx: Transaction) -> Outcome | None:
        if flaw := _flaw_of_key(key):
            return Outcome(Code.INVALID_PARAM, flaw)
        stored = await tx.first(FIND_POSTING, {"b_key": key})
        if stored is None:
            await self._save_posting(tx, _Order(VOID, key), Code.BLOCKED, self._clock.now_ms())
            return None
        posted = _Posting(*stored)
        return None if posted.op == VOID else posted.outcome(replayed=True)

    async def _carry_out(self, tx: Transaction, order: _Order, held: Hold | None, step: Step) -> Outcome:
        """Write the posting, and for a move the balance, the entries and the hold."""
        code = step if isinstance(step, Code) else Code.OK
        move = step if isinstance(step, Move) else None
        if move and not await self._change_balance(tx, order, move):
            code, move = Code.INSUFFICIENT_BALANCE, None
        now = self._clock.now_ms()
        posted = await self._save_posting(tx, order, code, now)
        if move:
            await self._save_entries(tx, posted, move)
            if move.after is not None:
                await self._save_hold(tx, order, held, move.after, now)
        legs = _legs(move.origin, move.target, order.amount) if move else []
        return await self._tell(tx, posted, legs, posted.outcome(replayed=False) if code else _DONE)

    async def _change_balance(self, tx: Transaction, order: _Order, move: Move) -> bool:
        """False if available does not suffice; nothing is changed then."""
        available, frozen, in_transit = move.signs
        change = {"b_account": order.account, "b_ccy": order.ccy, "b_available": available * order.amount,
                  "b_frozen": frozen * order.amount, "b_in_transit": in_transit * order.amount}
        if await tx.execute(CHANGE_BALANCE, change):
            return True
        if move.origin is Bucket.AVAILABLE:
            return False
        if move.origin is Bucket.EXTERNAL:
            await tx.execute(ADD_BALANCE, change)  # the first money this account has in this currency
            return True
        raise _Overtaken(f"{order.op} {order.hold_id}: {move.origin} has less than the hold's {order.amount}")

    async def _save_posting(self, tx: Transaction, order: _Order, code: Code, now: int) -> _Posting:
        number = await tx.insert(SAVE_POSTING, {
            "b_key": order.key, "b_op": order.op, "b_account": order.account, "b_ccy": order.ccy,
            "b_amount": order.amount, "b_hold_id": order.hold_id, "b_code": int(code), "b_created_at": now})
        return _Posting(number, order.key, order.op, order.account, order.ccy, order.amount, order.hold_id, code)

    async def _save_entries(self, tx: Transaction, posted: _Posting, move: Move) -> None:
        """Both sides in one statement: a posting's entries sum to zero by construction."""
        await tx.execute(SAVE_ENTRIES, {
            "b_posting_id": posted.id, "b_ccy": posted.ccy,
            "b_origin_account": _entry_account(posted, move.origin), "b_origin": move.origin.value,
            "b_less": -posted.amount,
            "b_target_account": _entry_account(posted, move.target), "b_target": move.target.value,
            "b_more": posted.amount})

    async def _save_hold(self, tx: Transaction, order: _Order, held: Hold | None, after: Stage, now: int) -> None:
        closed = after in (Stage.RETURNED, Stage.CONSUMED)
        change = {"b_hold_id": order.hold_id, "b_stage": _STORED_CLOSED if closed else int(after),
                  "b_closed_by": order.op if closed else None, "b_closed_at": now if closed else None}
        if held is None:
            await tx.execute(SAVE_HOLD, {**change, "b_account": order.account, "b_ccy": order.ccy,
                                         "b_amount": order.amount, "b_freeze_type": int(order.freeze_type),
                                         "b_opened_at": now})
        elif not await tx.execute(CHANGE_HOLD, {**change, "b_was": min(int(held.stage), _STORED_CLOSED),
                                                "b_was_by": held.closed_by}):
            raise _Overtaken(f"{order.op} {order.hold_id}: the hold is not {held.stage.name} any more")

    async def _replay(self, tx: Transaction, order: _Order, stored: _Posting) -> Outcome:
        if stored.op == VOID:
            asked = _Posting(stored.id, order.key, order.op, order.account, order.ccy, order.amount, order.hold_id,
                             stored.code)
            return await self._tell(tx, asked, [], asked.outcome(replayed=True))
        if not stored.answers(order):
            return await self._refuse(tx, order, f"key {order.key} was used for another order: {stored.op} of "
                                                 f"{show(stored.amount, stored.ccy)}, account {stored.account}, "
                                                 f"hold {stored.hold_id or 'none'}")
        return await self._tell(tx, stored, [], stored.outcome(replayed=True))

    async def _refuse(self, tx: Transaction, order: _Order, detail: str) -> Outcome:
        """INVALID_PARAM without a posting of its own."""
        asked = _Posting(0, order.key, order.op, order.account, order.ccy, order.amount, order.hold_id,
                         Code.INVALID_PARAM)
        return await self._tell(tx, asked, [], Outcome(Code.INVALID_PARAM, detail))

    async def _tell(self, tx: Transaction, posted: _Posting, legs: list[list[Any]], outcome: Outcome) -> Outcome:
        """Emit the event after the commit; a replay moves nothing, so its legs are empty."""
        row = await tx.first(FIND_BALANCE, {"b_account": posted.account, "b_ccy": posted.ccy})
        tx.after_commit(partial(self._announce, posted, legs, row or (0, 0, 0), outcome))
        return outcome

    def _announce(self, posted: _Posting, legs: list[list[Any]], after: tuple[Any, ...], outcome: Outcome) -> None:
        self._trace.emit("posting", f"K{posted.key}", {
            "op": posted.op, "key": posted.key, "account": posted.account, "ccy": posted.ccy,
            "amount": posted.amount, "hold": posted.hold_id, "code": int(outcome.code), "legs": legs,
            "after": {"available": after[0], "frozen": after[1], "in_transit": after[2]},
            "posting": posted.id, "replayed": outcome.replayed, "detail": outcome.detail})

    async def _balance_then(self, posted: _Posting) -> tuple[int, int, int]:
        """The buckets as they were right after a posting, from the entries."""
        rows = await self._db.all(BALANCE_THEN, {"b_account": str(posted.account), "b_ccy": posted.ccy,
                                                 "b_id": posted.id})
        then = {bucket: int(total) for bucket, total in rows}
        return (then.get("available", 0), then.get("frozen", 0), then.get("in_transit", 0))


def _flaw_of_key(key: str) -> str:
    return "" if 0 < len(key) <= KEY_MAX else f"key: 1 to {KEY_MAX} characters"


def _flaw(order: _Order) -> str:
    """Why an order is none: names the parameter; empty if it is one."""
    if flaw := _flaw_of_key(order.key):
        return flaw
    if len(order.hold_id) > HOLD_MAX or (order.op not in _WITHOUT_HOLD and not order.hold_id):
        return f"hold_id: 1 to {HOLD_MAX} characters"
    if order.op in _ON_HOLD:
        return ""
    if order.account <= 0:
        return f"account: {order.account} is no account"
    if order.amount <= 0:
        return f"amount: {order.amount} is not a positive number of minor units"
    if order.ccy not in _CCYS:
        return f"ccy: {order.ccy!r} is none of {', '.join(Currency)}"
    if order.op in _TYPED and order.freeze_type not in _FREEZE_TYPES:
        return f"freeze_type: {order.freeze_type} is not a freeze type"
    return ""


def _step(order: _Order, held: Hold | None) -> Step:
    """What the table says; an order that speaks of a hold with other terms than it has is refused."""
    if held is None:
        return OPERATIONS[order.op][Stage.NONE]
    step = OPERATIONS[order.op][held.stage]
    if isinstance(step, Code) or (order.account, order.ccy, order.amount) == (held.account, held.ccy, held.amount):
        return step
    return Code.INVALID_PARAM


def _hold(row: tuple[Any, ...] | None) -> Hold | None:
    """A hold from its columns; a closed one is RETURNED or CONSUMED by the operation that closed it."""
    if row is None:
        return None
    hold_id, account, ccy, amount, freeze_type, stored, closed_by, opened_at, closed_at = row
    stage = _STAGES[stored] if stored < _STORED_CLOSED else CLOSES_AS[closed_by]
    return Hold(hold_id, account, ccy, amount, freeze_type, stage, closed_by, opened_at, closed_at)


def _legs(origin: Bucket | str | None, target: Bucket | str | None, amount: int) -> list[list[Any]]:
    """The two sides of a movement, as the event shows them."""
    return [[str(origin), -amount], [str(target), amount]] if origin and target else []


def _entry_account(posted: _Posting, bucket: Bucket) -> str:
    return EXTERNAL_ACCOUNT if bucket is Bucket.EXTERNAL else str(posted.account)


_DETAIL: Final = {
    Code.NOT_FOUND: lambda p: f"there is no hold {p.hold_id}",
    Code.ILLEGAL_STATE: lambda p: f"{p.op} needs hold {p.hold_id} to be "
                                  f"{' or '.join(stage.name for stage in stages_served(p.op))}; it is not",
    Code.DUPLICATE: lambda p: f"hold {p.hold_id} was credited before",
    Code.INSUFFICIENT_BALANCE: lambda p: f"account {p.account} has less than {show(p.amount, p.ccy)} available",
    Code.BLOCKED: lambda p: f"key {p.key} was voided: nothing happens under it any more",
    Code.INVALID_PARAM: lambda p: f"hold {p.hold_id} is of another account, currency or amount",
}
