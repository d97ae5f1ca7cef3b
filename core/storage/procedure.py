"""The SBA Procedure database: Procedures, their audit trail, their outbox (orchestration.md §1-3, gaps.md B-32).

Not sharded (DB-SHARD-05, -06). Amounts are BIGINT minor units, moments epoch milliseconds.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Index, MetaData, Table, UniqueConstraint
from sqlalchemy import text as sql_text
from sqlmodel import SQLModel

from core.domain import NORMAL_HOLD_TYPES, BizType, DepositType, Initiator, Market
from core.money import Currency
from core.storage.columns import (
    code,
    document,
    flag,
    given_key,
    key,
    moment,
    nullable,
    number,
    one_of,
    tables,
    text,
    text_key,
)

STATES: Final[dict[str, tuple[str, ...]]] = {
    "new": ("freeze", "waiting", "manual_confirm", "confirmed", ""),
    "pending": ("deduct_done", "transfer_auto", "transfer_manual", "return", "unfreeze", "move_next",
                "waiting_trade", "transfer_reject", ""),
    "end_ok": ("transfer_done", "deposit_ok"),
    "end_reject": ("",),
    "end_cancel": ("",),
    "end_reverse": ("transfer_done", "deposit_ok"),
}
"""Main statuses with their sub-statuses, both business types together (gaps.md B-02); a test compares the machines."""

def _known_states(status: str, ext_status: str) -> str:
    """CHECK that a pair of columns is a state: CASE, because it looks at the sub-statuses of one status only."""
    cases = " ".join(
        f"WHEN '{main}' THEN {' OR '.join(f'{ext_status} = {sub!r}' for sub in subs)}" for main, subs in STATES.items())
    return f"CASE {status} {cases} ELSE 1 = 0 END"


class ProcedureTable(SQLModel, registry=tables()):
    """Base of this database's tables."""


class ProcInfo(ProcedureTable, table=True):
    """One Procedure (orchestration.md §1.2). ``due_at``: when a closed gate is looked at again."""

    __tablename__ = "proc_info"
    __table_args__ = (
        one_of("biz_type", BizType),
        one_of("market", Market),
        CheckConstraint(_known_states("status", "ext_status"), name="status"),
        one_of("intent", ("", "reject", "cancel")),
        flag("poll_exhausted"),
        flag("abnormal"),
        Index(None, "nn_uid", "biz_type"),
        Index(None, "status", "ext_status"),
        Index(None, "created_at"),
        Index(None, "hold_id", sqlite_where=sql_text("hold_id <> ''")),
        Index(None, "due_at", sqlite_where=sql_text("due_at IS NOT NULL")),
    )
    id: int | None = key()
    biz_type: str = text(16)
    nn_uid: int = number()
    market: int = code()
    trade_acc_id: int = number()
    status: str = text(16)
    ext_status: str = text(16, "")
    version: int = number(0)  # the number of Flow records
    revision: int = number(0)  # raised by every write: what guards against a second writer
    transaction_date: int = number()
    reason: str = text(32, "")
    intent: str = text(8, "")
    attempt_no: int = number(1)
    poll_exhausted: int = code(0)
    abnormal: int = code(0)
    bank_ack_at: int | None = nullable(moment())
    bank_result: str = text(32, "")
    hold_id: str = text(40, "")
    due_at: int | None = nullable(moment())
    created_at: int = moment()
    updated_at: int = moment()


class ProcCashDeposit(ProcedureTable, table=True):
    """What a deposit's Procedure credits (orchestration.md §2.3). ``apply_id`` is the freeze id (A-11)."""

    __tablename__ = "proc_cash_deposit"
    __table_args__ = (
        flag("is_bs_transfer"),
        one_of("ccy", Currency),
        one_of("deposit_type", DepositType),
        one_of("source", Initiator),
        one_of("hold_type", sorted(NORMAL_HOLD_TYPES), or_null=True),
        CheckConstraint("amount > 0", name="amount"),
        UniqueConstraint("is_bs_transfer", "transaction_id"),
        Index(None, "apply_ref"),
    )
    procedure_id: int = given_key()
    apply_ref: int | None = nullable(number())
    transaction_id: str = text(64)
    amount: int = number()
    ccy: str = text(3)
    is_bs_transfer: int = code()
    transfer_method: int = code()
    deposit_type: int = code()
    hold_type: int | None = nullable(code())
    apply_id: str | None = nullable(text(32))
    source: int = code()
    bank_ref_id: str = text(32, "")
    review_hits: str = text(500, "")
    proposed_by: str = text(32, "")  # who matched it by hand: not the one who approves it (B-30)


class ProcCashWithdraw(ProcedureTable, table=True):
    """What a withdrawal's Procedure pays (orchestration.md §3.6).

    ``task_key`` is the task's id until the Procedure is reversed: one living Procedure per task (DEDUP-01).
    """

    __tablename__ = "proc_cash_withdraw"
    __table_args__ = (
        one_of("ccy", Currency),
        flag("bank_launched"),
        flag("bank_submitted"),
        CheckConstraint("amount > 0", name="amount"),
        Index(None, "task_id"),
        Index(None, "transfer_ref_id"),
    )
    procedure_id: int = given_key()
    task_id: int = number()
    task_key: int | None = nullable(number(unique=True))
    amount: int = number()
    fee: int = number(0)
    ccy: str = text(3)
    transfer_method: str = text(32)
    transfer_dest_bank: str = text(16, "")
    transfer_dest_card: str = text(64, "")
    bank_launched: int = code(0)
    transfer_ref_id: str = text(64, "")
    settled_amount: int = number(0)
    margin_amount: int = number(0)
    payee_name: str = text(140, "")
    request_id: str = text(64, "")
    reviewed_by: str = text(32, "")
    review_hits: str = text(500, "")
    poll_count: int = number(0)
    bank_submitted: int = code(0)
    bank_code: str = text(32, "")


class Flow(ProcedureTable, table=True):
    """The audit trail: one row per transition, never changed or deleted (SBA-FLOW-04; triggers refuse both)."""

    __tablename__ = "flow"
    __table_args__ = (Index(None, "procedure_id"),)
    id: int | None = key()
    procedure_id: int = number()
    from_status: str = text(16, "")
    to_status: str = text(16)
    from_ext_status: str = text(16, "")
    to_ext_status: str = text(16, "")
    operator: str = text(32)
    remark: str = text(500, "")
    created_at: int = moment()


class ProcIdem(ProcedureTable, table=True):
    """Creation requests seen, with their stored results (DEDUP-02, gaps.md A-26)."""

    __tablename__ = "proc_idem"
    __table_args__ = ({"sqlite_with_rowid": False},)
    biz_type: str = text_key(16)
    rpc_request_id: str = text_key(100)
    procedure_id: int = number()
    result: str = document()
    created_at: int = moment()
    updated_at: int = moment()


class Outbox(ProcedureTable, table=True):
    """Effects to perform: 0 pending, 1 done, 2 superseded. ``key`` makes each effect happen once."""

    __tablename__ = "outbox"
    __table_args__ = (
        one_of("state", (0, 1, 2)),
        Index(None, "state", "due_at", sqlite_where=sql_text("state = 0")),
        Index(None, "procedure_id", sqlite_where=sql_text("state = 0")),
    )
    id: int | None = key()
    procedure_id: int = number()
    attempt: int = number(1)
    effect: str = text(32)
    key: str = text(100, unique=True)
    payload: str = document()
    state: int = code(0)
    tries: int = number(0)
    due_at: int = moment()
    created_at: int = moment()
    updated_at: int = moment()


class LateResult(ProcedureTable, table=True):
    """Bank results that came after a manual decision: recorded, never applied (gaps.md A-22)."""

    __tablename__ = "late_result"
    __table_args__ = (Index(None, "procedure_id"),)
    id: int | None = key()
    procedure_id: int = number()
    result: str = text(32)
    code: str = text(32, "")
    source: str = text(32, "")
    created_at: int = moment()


class Sequences(ProcedureTable, table=True):
    """Numbers given out so far."""

    __tablename__ = "sequences"
    __table_args__ = ({"sqlite_with_rowid": False},)
    name: str = text_key(64)
    value: int = number(0)


METADATA: MetaData = ProcedureTable.metadata
IMMUTABLE: Final = ("flow",)

proc_info: Table = METADATA.tables["proc_info"]
proc_cash_deposit: Table = METADATA.tables["proc_cash_deposit"]
proc_cash_withdraw: Table = METADATA.tables["proc_cash_withdraw"]
flow: Table = METADATA.tables["flow"]
proc_idem: Table = METADATA.tables["proc_idem"]
outbox: Table = METADATA.tables["outbox"]
late_result: Table = METADATA.tables["late_result"]
sequences: Table = METADATA.tables["sequences"]
