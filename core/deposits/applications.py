"""Deposit applications (Apply): the customer's side of a deposit, in ``applys_00…99`` by uid % 100.

An Apply's id ends in its shard (``id % 100 == uid % 100``), so that a job which knows the id knows the table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, union_all, update

from core.alerts import raise_alert
from core.clock import Clock
from core.domain import ApplyStatus
from core.hops import belongs_to
from core.orchestration.records import RC_REASONS, Effect, Procedure
from core.storage import Database, Questions, Sequence, Sharded, Statement, Transaction
from core.storage.primary import applys, refund
from core.trace import Trace


class Apply(NamedTuple):
    """One row of ``applys_NN``; amounts in minor units."""

    id: int
    uid: int
    trade_acc_id: int
    market: int
    card_id: int
    card_no: str
    bank_type: str
    ccy: str
    amount: int
    status: int
    source: int
    trans_type: int
    sba_procedure_id: int | None
    request_id: str
    bank_ref_id: str
    mandate_id: str
    fail_code: str
    reject_reason: str
    credited_amount: int | None
    matched_flow_id: int | None
    created_at: int


def _shard(apply_id: int) -> str:
    return f"{apply_id % 100:02d}"


_CHANGING = ("status", "sba_procedure_id", "request_id", "bank_ref_id", "fail_code", "reject_reason",
             "credited_amount", "matched_flow_id")
FIND = Sharded(lambda t: select(*(t.c[name] for name in Apply._fields)).where(t.c.id == bindparam("b_id")), applys)
NEW = Sharded(lambda t: insert(t).values({name: bindparam(name) for name in (
    *Apply._fields, "updated_at")}), applys)
CHANGE = Sharded(lambda t: update(t).where(t.c.id == bindparam("b_id"), t.c.status == bindparam("b_status")).values(
    {name: bindparam(name) for name in (*_CHANGING, "updated_at")}), applys)
WAITING = Statement(union_all(*(select(t.c.id).where(t.c.status == int(ApplyStatus.WAIT_MATCH)) for t in applys)))
"""Over the hundred shards in one statement: each has an index on the status, and most have nobody waiting."""
NEW_REFUND = Statement(insert(refund).values({name: bindparam(name) for name in (
    "source", "apply_id", "procedure_id", "flow_id", "ccy", "amount", "state", "created_at", "updated_at")}))
REFUND_OF = Statement(select(refund.c.id, refund.c.state).where(refund.c.apply_id == bindparam("apply")).order_by(
    refund.c.id.desc()).limit(1))
REFUND_STATE = Statement(
    update(refund).where(refund.c.apply_id == bindparam("b_apply"), refund.c.state == bindparam("b_state"))
    .values(state=bindparam("state"), updated_at=bindparam("updated_at")))

# What an Apply may become, from what: a result that comes twice changes nothing the second time.
MOVES: dict[ApplyStatus, frozenset[ApplyStatus]] = {
    ApplyStatus.INIT: frozenset({ApplyStatus.CREDITING, ApplyStatus.REJECTED, ApplyStatus.CANCELLED,
                                 ApplyStatus.REFUNDED, ApplyStatus.DONE}),
    ApplyStatus.WAIT_MATCH: frozenset({ApplyStatus.MATCHED, ApplyStatus.REJECTED, ApplyStatus.CANCELLED}),
    ApplyStatus.MATCHED: frozenset({ApplyStatus.CREDITING, ApplyStatus.DONE, ApplyStatus.REJECTED,
                                    ApplyStatus.REFUNDED, ApplyStatus.WAIT_MATCH}),
    ApplyStatus.CREDITING: frozenset({ApplyStatus.DONE, ApplyStatus.REJECTED}),
    ApplyStatus.DONE: frozenset({ApplyStatus.REVERSED, ApplyStatus.REFUNDED}),
    ApplyStatus.REJECTED: frozenset(),
    ApplyStatus.CANCELLED: frozenset(),
    ApplyStatus.REVERSED: frozenset({ApplyStatus.REFUNDED}),
    ApplyStatus.REFUNDED: frozenset(),
}
_RESULT = {"end_ok": ApplyStatus.DONE, "end_reject": ApplyStatus.REJECTED, "end_reverse": ApplyStatus.REVERSED}
_NOTICE = {"end_ok": "DEPOSIT_OK", "end_reject": "DEPOSIT_REJECT", "end_reverse": "DEPOSIT_REVERSED"}


Write = Callable[[Transaction], Awaitable[None]]
Closing = Callable[[Procedure, Apply], Awaitable["Write | None"]]
"""What belongs to an Apply's end: asked before the transaction that writes it, and what it returns runs inside."""


class Applications:
    """Apply records of one core, in the primary database."""

    def __init__(self, db: Database, clock: Clock, trace: Trace) -> None:
        self._db, self._clock, self._trace = db, clock, trace
        self.ids = Sequence(db, "apply")
        self.closings: list[Closing] = []

    async def new(self, tx: Transaction, **fields: Any) -> Apply:
        """Insert an Apply in INIT within the caller's transaction."""
        now = self._clock.now_ms()
        number = await self.ids.next(tx)
        apply = Apply(**{**_EMPTY, **fields, "id": number * 100 + fields["uid"] % 100, "created_at": now})
        await tx.execute(NEW[_shard(apply.id)], apply._asdict() | {"updated_at": now})
        self._publish(tx, apply)
        tx.after_commit(lambda: belongs_to(f"A{apply.id}"))
        return apply

    async def find(self, apply_id: int, tx: Questions | None = None) -> Apply | None:
        """The Apply, or None; as part of a transaction, if one is given."""
        row = await (tx or self._db).first(FIND[_shard(apply_id)], {"b_id": apply_id})
        return Apply(*row) if row else None

    async def waiting(self, known: Mapping[int, Apply]) -> dict[int, Apply]:
        """All that wait for their money, by number, in its order. Those of ``known`` are not read again: what an
        application says does not change while it waits."""
        found: dict[int, Apply] = {}
        for (number,) in sorted(await self._db.all(WAITING, {})):
            apply = known.get(number) or await self.find(number)
            if apply is not None and apply.status == ApplyStatus.WAIT_MATCH:
                found[number] = apply
        return found

    async def change(self, tx: Transaction, apply: Apply, to: ApplyStatus | None = None, **fields: Any) -> Apply | None:
        """Move an Apply and set fields; None (nothing written) if it has moved since it was read or may not."""
        if to is not None and to not in MOVES[ApplyStatus(apply.status)]:
            return None
        if to is not None:
            fields["status"] = int(to)
        changed = apply._replace(**fields)
        count = await tx.execute(CHANGE[_shard(apply.id)], {
            "b_id": apply.id, "b_status": apply.status, "updated_at": self._clock.now_ms(), **{
                name: getattr(changed, name) for name in _CHANGING}})
        if count != 1:
            return None
        if to is not None:
            self._publish(tx, changed)
        return changed

    async def closed(self, p: Procedure, _effect: Effect) -> dict[str, Any]:
        """TELL_DEPOSIT: the Procedure's end written back to its Apply, and told to the customer, once.

        What risk control refused is for the technical team, who learn it by an alert (SBA-DEP-032)."""
        if p.status == "end_reject" and p.reason in RC_REASONS:
            raise_alert(self._trace, "SBA-01", f"P{p.id}", p.reason)
        apply_id = p.deposit.apply_ref
        apply = await self.find(apply_id) if apply_id is not None else None
        if apply is None:
            return {}
        writes = [await closing(p, apply) for closing in self.closings]
        async with self._db.transaction() as tx:
            credited = p.deposit.amount if p.status == "end_ok" else apply.credited_amount
            changed = await self.change(tx, apply, _RESULT[p.status], sba_procedure_id=p.id, reject_reason=p.reason,
                                        credited_amount=credited)
            if changed is not None:
                self.tell(tx, apply.uid, _NOTICE[p.status], p.reason)
                for write in filter(None, writes):
                    await write(tx)
            if p.status == "end_reverse":
                await self.refund_reversed(tx, apply.id)
            elif p.status == "end_reject":  # the bank took it back while it was reviewed
                await self.refund_not_credited(tx, apply.id)
        return {}

    def tell(self, tx: Transaction, uid: int, event: str, detail: str) -> None:
        """Tell the customer when this transaction commits (B-35)."""
        self._trace.publish(tx, "notify", f"U{uid}", {"uid": uid, "event": event, "detail": detail})

    async def open_refund(self, tx: Transaction, apply: Apply, state: str, *, flow_id: int | None = None,
                          amount: int | None = None) -> None:
        """A refund record (A-29): NOT_CREDITED, or PENDING_REVERSE until a supervisor has reversed. ``flow_id`` and
        ``amount``: of the statement entry that the bank took back, where it was one."""
        now = self._clock.now_ms()
        await tx.execute(NEW_REFUND, {
            "source": apply.bank_type, "apply_id": apply.id, "procedure_id": apply.sba_procedure_id, "flow_id": flow_id,
            "ccy": apply.ccy, "amount": apply.amount if amount is None else amount, "state": state,
            "created_at": now, "updated_at": now})

    async def refund_of(self, apply_id: int) -> str | None:
        """State of the latest refund record of an Apply, or None."""
        row = await self._db.first(REFUND_OF, {"apply": apply_id})
        return row[1] if row else None

    async def refund_reversed(self, tx: Transaction, apply_id: int) -> None:
        """A pending refund whose credit has been reversed is closed."""
        for state in ("PENDING_REVERSE", "SHORTFALL"):
            await tx.execute(REFUND_STATE, {"b_apply": apply_id, "b_state": state, "state": "REVERSED",
                                            "updated_at": self._clock.now_ms()})

    async def refund_not_credited(self, tx: Transaction, apply_id: int) -> None:
        """A pending refund of a deposit that was not credited after all: there is nothing to reverse."""
        await tx.execute(REFUND_STATE, {"b_apply": apply_id, "b_state": "PENDING_REVERSE", "state": "NOT_CREDITED",
                                        "updated_at": self._clock.now_ms()})

    async def refund_short(self, apply_id: int) -> None:
        """The balance does not bear the reversal: a debt to be noted (A-29)."""
        await self._db.execute(REFUND_STATE, {"b_apply": apply_id, "b_state": "PENDING_REVERSE", "state": "SHORTFALL",
                                              "updated_at": self._clock.now_ms()})

    def _publish(self, tx: Transaction, apply: Apply) -> None:
        self._trace.publish(tx, "apply", f"A{apply.id}", {
            "apply": apply.id, "uid": apply.uid, "status": ApplyStatus(apply.status).name, "source": apply.source,
            "bank": apply.bank_type, "ref": apply.bank_ref_id, "ccy": apply.ccy, "amount": apply.amount,
            "procedure": apply.sba_procedure_id, "reason": apply.reject_reason or apply.fail_code})


_EMPTY: dict[str, Any] = {"status": int(ApplyStatus.INIT), "sba_procedure_id": None, "request_id": "",
                          "bank_ref_id": "", "mandate_id": "", "fail_code": "", "reject_reason": "",
                          "credited_amount": None, "matched_flow_id": None}
