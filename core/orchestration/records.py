"""A Procedure in memory, its statements, and what a caller of the SBA service gets to see."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.domain import BizType, Role
from core.errors import Code, Misconfigured
from core.orchestration.deposit_table import DEPOSIT
from core.orchestration.table import Machine, State
from core.orchestration.withdraw_table import WITHDRAW, phase
from core.storage import Statement
from core.storage.procedure import (
    flow,
    late_result,
    outbox,
    proc_cash_deposit,
    proc_cash_withdraw,
    proc_idem,
    proc_info,
)

MACHINES: dict[str, Machine] = {BizType.CASH_DEPOSIT: DEPOSIT, BizType.CASH_WITHDRAW: WITHDRAW}
BST = "auto_bs"
RC_REASONS = ("RC_REJECTED", "RC_ERROR")
"""Risk control refused, or failed: for the technical team, not for the reviewers (SBA-DEP-032)."""


class Actor(NamedTuple):
    """Who asks: ``system``, ``user_<uid>`` or ``staff_0001`` (gaps.md B-30)."""

    id: str
    role: Role


SYSTEM = Actor("system", Role.SYSTEM)


class DepositFields(NamedTuple):
    """``proc_cash_deposit`` (orchestration.md §2.3); amounts in minor units."""

    apply_ref: int | None
    transaction_id: str
    amount: int
    ccy: str
    is_bs_transfer: int
    transfer_method: int
    deposit_type: int
    hold_type: int | None
    hold_apply_id: str | None
    source: int
    bank_ref_id: str
    review_hits: str
    proposed_by: str


class WithdrawFields(NamedTuple):
    """``proc_cash_withdraw`` (orchestration.md §3.6); amounts in minor units."""

    task_id: int
    amount: int
    fee: int
    ccy: str
    transfer_method: str
    transfer_dest_bank: str
    transfer_dest_card: str
    bank_launched: int
    transfer_ref_id: str
    settled_amount: int
    margin_amount: int
    payee_name: str
    request_id: str
    reviewed_by: str
    review_hits: str
    poll_count: int
    bank_submitted: int
    bank_code: str


class Effect(NamedTuple):
    """One row of the outbox: requested, not yet known to be done."""

    id: int
    name: str
    key: str
    attempt: int
    tries: int
    created_at: int
    asked: str = ""  # who asked and why, as `Engine` writes it; empty: the platform


@dataclass(slots=True)
class Procedure:
    """One funds operation. Mutable while its lock is held; ``fields`` are written once at creation or by marks."""

    id: int
    biz_type: str
    nn_uid: int
    market: int
    trade_acc_id: int
    status: str
    ext_status: str
    version: int
    revision: int
    transaction_date: int
    reason: str
    intent: str
    attempt_no: int
    poll_exhausted: int
    abnormal: int
    bank_ack_at: int | None
    bank_result: str
    hold_id: str
    due_at: int | None
    created_at: int
    updated_at: int
    fields: Any = None
    pending: list[Effect] = field(default_factory=list)

    @property
    def state(self) -> State:
        return State(self.status, self.ext_status)

    @property
    def machine(self) -> Machine:
        return MACHINES[self.biz_type]

    @property
    def deposit(self) -> DepositFields:
        assert self.biz_type == BizType.CASH_DEPOSIT
        return self.fields  # type: ignore[no-any-return]

    @property
    def withdraw(self) -> WithdrawFields:
        assert self.biz_type == BizType.CASH_WITHDRAW
        return self.fields  # type: ignore[no-any-return]

    @property
    def trace_id(self) -> str:
        """Under which everything that is done for it is listed: its Apply's or Task's, else its own (TRACE-05)."""
        if self.biz_type == BizType.CASH_WITHDRAW:
            return f"T{self.withdraw.task_id}"
        return f"P{self.id}" if self.deposit.apply_ref is None else f"A{self.deposit.apply_ref}"

    @property
    def is_bst(self) -> bool:
        """A bank-securities transfer: routed by the platform, bound to trading days."""
        if self.biz_type == BizType.CASH_DEPOSIT:
            return bool(self.deposit.is_bs_transfer)
        return self.withdraw.transfer_method == BST

    @property
    def shown_state(self) -> str:
        """What people see: ``pending(transfer_done)`` once the bank has acknowledged (A-05)."""
        label = self.state.label
        if label == "pending(transfer_auto)" and self.bank_ack_at is not None:
            return "pending(transfer_done)"
        return label


def snapshot(p: Procedure) -> dict[str, Any]:
    """The Procedure as replies and pages show it."""
    shown: dict[str, Any] = {
        "id": p.id, "biz_type": p.biz_type, "nn_uid": p.nn_uid, "market": p.market, "trade_acc_id": p.trade_acc_id,
        "status": p.status, "ext_status": p.ext_status, "state": p.state.label, "shown_state": p.shown_state,
        "version": p.version, "transaction_date": p.transaction_date, "reason": p.reason, "intent": p.intent,
        "attempt_no": p.attempt_no, "poll_exhausted": bool(p.poll_exhausted), "abnormal": bool(p.abnormal),
        "bank_ack_at": p.bank_ack_at, "bank_result": p.bank_result, "hold_id": p.hold_id,
        "created_at": p.created_at, "updated_at": p.updated_at,
        "phase": phase(p.state) if p.biz_type == BizType.CASH_WITHDRAW else None,
        "escalate": p.status == "end_reject" and p.reason in RC_REASONS,
    }
    fields: dict[str, Any] = p.fields._asdict()
    return shown | fields


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer of an SBA operation: a code of `core.errors.CODES`, a message, and the Procedure as it stands now."""

    code: Code
    message: str = ""
    procedure: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Done, or done before under the same request id."""
        return self.code in (Code.OK, Code.REPLAYED)


class HistoryRow(NamedTuple):
    """One Flow record (orchestration.md §1.3)."""

    id: int
    from_status: str
    to_status: str
    from_ext_status: str
    to_ext_status: str
    operator: str
    remark: str
    created_at: int


_INFO = ("id", "biz_type", "nn_uid", "market", "trade_acc_id", "status", "ext_status", "version", "revision",
         "transaction_date",
         "reason", "intent", "attempt_no", "poll_exhausted", "abnormal", "bank_ack_at", "bank_result", "hold_id",
         "due_at", "created_at", "updated_at")
_DEPOSIT = tuple("apply_id" if name == "hold_apply_id" else name for name in DepositFields._fields)
_P, _D, _W, _O = proc_info.c, proc_cash_deposit.c, proc_cash_withdraw.c, outbox.c

FIND = Statement(select(*(_P[name] for name in _INFO)).where(_P.id == bindparam("b_id")))
FIND_DEPOSIT = Statement(select(*(_D[name] for name in _DEPOSIT)).where(_D.procedure_id == bindparam("b_id")))
FIND_WITHDRAW = Statement(
    select(*(_W[name] for name in WithdrawFields._fields)).where(_W.procedure_id == bindparam("b_id")))
NEW_INFO = Statement(insert(proc_info).values({name: bindparam(name) for name in _INFO if name != "id"}))
NEW_DEPOSIT = Statement(insert(proc_cash_deposit).values(
    {name: bindparam(name) for name in ("procedure_id", *_DEPOSIT)}))
NEW_WITHDRAW = Statement(insert(proc_cash_withdraw).values(
    {name: bindparam(name) for name in ("procedure_id", "task_key", *WithdrawFields._fields)}))
MOVE = Statement(
    update(proc_info)
    .where(_P.id == bindparam("b_id"), _P.version == bindparam("b_version"), _P.revision == bindparam("b_revision"))
    .values(version=_P.version + 1, revision=_P.revision + 1, **{name: bindparam(name) for name in (
        "status", "ext_status", "transaction_date", "reason", "intent", "attempt_no", "bank_result", "due_at",
        "updated_at")}))
MARK = Statement(
    update(proc_info)
    .where(_P.id == bindparam("b_id"), _P.version == bindparam("b_version"), _P.revision == bindparam("b_revision"))
    .values(revision=_P.revision + 1, **{name: bindparam(name) for name in (
        "poll_exhausted", "abnormal", "bank_ack_at", "bank_result", "reason", "intent", "due_at")}))
MARK_WITHDRAW = Statement(
    update(proc_cash_withdraw)
    .where(_W.procedure_id == bindparam("b_id"))
    .values(**{name: bindparam(name) for name in (
        "transfer_ref_id", "request_id", "poll_count", "bank_submitted", "bank_code")}))
FREE_TASK = Statement(
    update(proc_cash_withdraw).where(_W.procedure_id == bindparam("b_id")).values(task_key=None))
NEW_FLOW = Statement(insert(flow).values({name: bindparam(name) for name in (
    "procedure_id", "from_status", "to_status", "from_ext_status", "to_ext_status", "operator", "remark",
    "created_at")}))
HISTORY = Statement(
    select(*(flow.c[name] for name in HistoryRow._fields))
    .where(flow.c.procedure_id == bindparam("b_id")).order_by(flow.c.created_at.desc(), flow.c.id.desc()))

NEW_EFFECT = Statement(insert(outbox).values({name: bindparam(name) for name in (
    "procedure_id", "attempt", "effect", "key", "payload", "state", "tries", "due_at", "created_at", "updated_at")}))
EFFECT_DONE = Statement(
    update(outbox).where(_O.id == bindparam("b_id")).values(state=bindparam("state"), updated_at=bindparam("now")))
EFFECT_LATER = Statement(
    update(outbox).where(_O.id == bindparam("b_id")).values(
        tries=bindparam("tries"), due_at=bindparam("due"), updated_at=bindparam("now")))
EFFECTS_OF = Statement(
    select(_O.id, _O.effect, _O.key, _O.attempt, _O.tries, _O.created_at, _O.payload)
    .where(_O.procedure_id == bindparam("b_id"), _O.state == 0).order_by(_O.id))
EFFECT_STATE = Statement(select(_O.state).where(_O.id == bindparam("b_id")))
EFFECTS_DUE = Statement(
    select(_O.procedure_id).where(_O.state == 0, _O.due_at <= bindparam("now")).group_by(_O.procedure_id)
    .order_by(_O.procedure_id))

SEEN = Statement(select(proc_idem.c.procedure_id, proc_idem.c.result).where(
    proc_idem.c.biz_type == bindparam("biz"), proc_idem.c.rpc_request_id == bindparam("request")))
REMEMBER = Statement(insert(proc_idem).values({name: bindparam(name) for name in (
    "biz_type", "rpc_request_id", "procedure_id", "result", "created_at", "updated_at")}))
SAME_TRANSACTION = Statement(select(_D.procedure_id).where(
    _D.is_bs_transfer == bindparam("bst"), _D.transaction_id == bindparam("transaction")))
SAME_HOLD = Statement(select(_P.id).where(_P.hold_id == bindparam("hold"), _P.hold_id != ""))  # as its index is
SAME_TASK = Statement(select(_W.procedure_id).where(_W.task_key == bindparam("task")))
NEW_LATE = Statement(insert(late_result).values({name: bindparam(name) for name in (
    "procedure_id", "result", "code", "source", "created_at")}))
LATE_OF = Statement(select(late_result.c.result, late_result.c.code, late_result.c.source, late_result.c.created_at)
                    .where(late_result.c.procedure_id == bindparam("b_id")).order_by(late_result.c.id))

IN_STATE = Statement(
    select(_P.id).where(_P.biz_type == bindparam("biz"), _P.status == bindparam("status"),
                        _P.ext_status == bindparam("ext")).order_by(_P.id))
DUE = Statement(
    select(_P.id, _P.ext_status).where(_P.status == "pending", _P.due_at <= bindparam("now")).order_by(_P.id))
WAITING_FOR_BANK = Statement(
    select(_P.id).join(proc_cash_withdraw, _W.procedure_id == _P.id)
    .where(_P.status == "pending", _P.ext_status == "deduct_done", _W.transfer_dest_bank == bindparam("bank"))
    .order_by(_P.id))
CREATED_BETWEEN = Statement(
    select(_P.id, _P.biz_type, _P.status, _P.ext_status, _P.updated_at)
    .where(_P.created_at >= bindparam("since"), _P.created_at < bindparam("until")).order_by(_P.id))
_FILTERS = {
    **{name: _P[name] == bindparam(f"b_{name}") for name in ("nn_uid", "biz_type", "status", "ext_status", "market")},
    "since": _P.created_at >= bindparam("b_since"), "until": _P.created_at < bindparam("b_until")}


@cache
def listing(*filters: str) -> Statement:
    """Ids below ``b_after``, latest first, of the Procedures that pass these filters (keys of `_FILTERS`)."""
    unknown = [name for name in filters if name not in _FILTERS]
    if unknown:
        raise Misconfigured(f"no filter {', '.join(unknown)}", where="procedures", remedy=f"use {', '.join(_FILTERS)}")
    return Statement(select(_P.id).where(_P.id < bindparam("b_after"), *(_FILTERS[name] for name in filters))
                     .order_by(_P.id.desc()).limit(bindparam("b_limit")))
