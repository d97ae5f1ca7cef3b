"""The primary database (cash_deposit / cash_withdraw): applications, statements, matches, tasks, the job queue.

Source: architecture.md §3-6, gaps.md B-32 and the items named at the tables. ``applys``, ``matches`` and ``deposits``
are sharded by customer (00..99), ``flows`` of statements by bank and month; all else is not sharded. Amounts are
BIGINT minor units, moments epoch milliseconds.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Index, MetaData, Table, UniqueConstraint
from sqlmodel import SQLModel

from core.domain import ApplyStatus, DebitState, Initiator, JobState, Market, TaskStatus
from core.money import Currency
from core.storage.columns import (
    code,
    document,
    flag,
    given_key,
    key,
    long_document,
    moment,
    nullable,
    number,
    one_of,
    tables,
    text,
    text_key,
)
from core.storage.sharding import ShardedTable, by_bank, by_bank_month, by_customer

STATEMENT_STATUSES: Final = (0, 1, 2, 3, 4, 5, 6)
"""0 NEW, 1 WINDOW_WAIT, 2 CANDIDATE, 3 MATCHED, 4 CREDITED, 5 ABNORMAL, 6 VOID (gaps.md B-02)."""

STEPS: Final = ("AUDIT", "CONFIRM", "REMITTANCE")
HSBC_SOURCES: Final = ("push", "sftp")
HSBC_FILE_STATES: Final = ("NEW", "TAKEN", "QUARANTINED")
TIERS: Final = ("AUTO", "ASSISTED", "MANUAL")
MATCH_ACTIONS: Final = ("MATCH", "UNMATCH")
SOCKET_BANKS: Final = ("cmb", "cmbc")
EDDI_BANKS: Final = ("hsbc", "hase")
PUSH_SOURCES: Final = ("push", "helper", "repull")
"""Over the line, by the recovery of CMB (gaps.md B-43), by the re-pull of CMBC."""
PUSH_STATES: Final = ("NEW", "DONE", "REFUSED", "DUPLICATE")
TRANSFER_KINDS: Final = ("DEPOSIT", "WITHDRAW", "REVERSAL")
TRANSFER_STATES: Final = ("OPEN", "DONE", "FAILED")
ICBC_SCRIPTS: Final = ("REFUND", "GHOST", "BALANCE")
"""A refunded statement goes, anomalous statements go, one close_balance is set (tasks-and-monitoring.md §4.2)."""
REFUND_STATES: Final = ("PENDING_REVERSE", "REVERSED", "SHORTFALL", "NOT_CREDITED")
CHEQUE_STATES: Final = ("KEYED", "HELD", "CLEARED", "BOUNCED", "REJECTED", "REVERSED")
"""Keyed by operations; credited and held; free; taken back by the bank; not credited; taken back from the customer."""
VOUCHER_KINDS: Final = ("jpg", "png", "pdf")
LIST_ACTIONS: Final = ("ADD", "REMOVE")
S16_FILE_STATES: Final = ("TAKEN", "REFUSED")
S16_RECORD_STATES: Final = ("WAITING", "OVERDUE", "DONE", "REFUSED")
"""No statement entry found yet; that was told as an alert; correlated; its reference names no entry."""
MATCHING_BANKS: Final = ("bochk", "hsbc", "hase", "icbc", "cgb", "scb", "ccba", "dbs", "za", "citi", "spd", "ewb")
"""Banks whose statements are collected and matched (gaps.md B-09)."""


class PrimaryTable(SQLModel, registry=tables()):
    """Base of this database's tables."""


class PrimaryShape(SQLModel, registry=tables()):
    """Base of the tables that exist in copies only; the shapes themselves are never created."""


class Apply(PrimaryShape, table=True):
    """A deposit application. ``id`` is unique over all shards (a `Sequence` gives it)."""

    __tablename__ = "applys"
    __table_args__ = (
        one_of("market", Market),
        one_of("ccy", Currency),
        one_of("status", ApplyStatus),
        one_of("source", Initiator),
        CheckConstraint("amount > 0", name="amount"),
        Index(None, "uid", "created_at"),
        Index(None, "status"),
    )
    id: int = given_key()
    uid: int = number()
    trade_acc_id: int = number()
    market: int = code()
    card_id: int = number(0)
    card_no: str = text(64, "")
    bank_type: str = text(16)
    ccy: str = text(3)
    amount: int = number()
    status: int = code(0)
    source: int = code(1)
    trans_type: int = code()
    sba_procedure_id: int | None = nullable(number())
    matched_flow_id: int | None = nullable(number())
    credited_amount: int | None = nullable(number())
    voucher_file_id: str = text(64, "")
    reject_reason: str = text(64, "")
    request_id: str | None = nullable(text(64))
    bank_ref_id: str | None = nullable(text(32))
    mandate_id: str | None = nullable(text(64))
    fail_code: str = text(16, "")
    created_at: int = moment()
    updated_at: int = moment()


class Match(PrimaryShape, table=True):
    """A statement associated with an application."""

    __tablename__ = "matches"
    __table_args__ = (one_of("tier", TIERS), Index(None, "apply_id"), Index(None, "bank_type", "flow_id"))
    id: int = given_key()
    apply_id: int = number()
    uid: int = number()
    flow_id: int = number()
    bank_type: str = text(16)
    tier: str = text(8)
    dims: str = text(255, "")
    amount_diff: int = number(0)
    operator: str = text(32, "system")
    created_at: int = moment()
    updated_at: int = moment()


class Deposit(PrimaryShape, table=True):
    """The crediting of a match."""

    __tablename__ = "deposits"
    __table_args__ = (
        one_of("ccy", Currency),
        one_of("status", ApplyStatus),
        Index(None, "apply_id"),
        Index(None, "procedure_id"),
    )
    id: int = given_key()
    apply_id: int = number()
    uid: int = number()
    match_id: int | None = nullable(number())
    procedure_id: int | None = nullable(number())
    ccy: str = text(3)
    amount: int = number()
    status: int = code()
    created_at: int = moment()
    updated_at: int = moment()


class StatementFlow(PrimaryShape, table=True):
    """One normalised statement entry (A-10): ``flows_bochk_202604`` holds BOCHK's of April 2026, by credit time."""

    __tablename__ = "flows"
    __table_args__ = (
        one_of("ccy", Currency),
        one_of("status", STATEMENT_STATUSES),
        one_of("dr_cr", ("C", "D")),
        flag("is_used"),
        flag("emergency"),
        UniqueConstraint("bank_type", "our_account", "bank_ref"),
        Index(None, "status", "credit_time"),
        Index(None, "credit_time"),
    )
    id: int = given_key()
    bank_type: str = text(16)
    our_account: str = text(34)
    bank_ref: str = text(64)
    seq_no: str = text(32, "")
    ccy: str = text(3)
    amount: int = number()
    dr_cr: str = text(1)
    balance: int | None = nullable(number())
    credit_time: int = moment()
    en_name: str = text(140, "")
    payer_acct: str = text(64, "")
    remark: str = text(500, "")
    status: int = code(0)
    is_used: int = code(0)
    raw_id: int | None = nullable(number())
    emergency: int = code(0)
    created_at: int = moment()
    updated_at: int = moment()


class FlowMonth(PrimaryTable, table=True):
    """A month of which a bank's statements may have open entries: one of the tables ``flows_{bank}_{month}``, named
    with its first entry, forgotten when it is long past and nothing in it is open."""

    __tablename__ = "flow_month"
    __table_args__ = ({"sqlite_with_rowid": False},)
    bank_type: str = text_key(16)
    month: int = given_key()
    updated_at: int = moment()


class FlowClaim(PrimaryTable, table=True):
    """A statement taken by an application, whatever the customer's shard (A-27)."""

    __tablename__ = "flow_claim"
    __table_args__ = ({"sqlite_with_rowid": False},)
    bank_type: str = text_key(16)
    flow_id: int = given_key()
    apply_id: int = number()
    claimed_at: int = moment()


class FlowRelease(PrimaryTable, table=True):
    """A claim that was given up because the deposit was rejected: whose it was, and which Procedure said no.
    ``attempt`` counts the credits that one statement was to have, from 1."""

    __tablename__ = "flow_release"
    __table_args__ = ({"sqlite_with_rowid": False},)
    bank_type: str = text_key(16)
    flow_id: int = given_key()
    attempt: int = given_key()
    apply_id: int = number()
    procedure_id: int = number()
    reason: str = text(64, "")
    released_at: int = moment()


class ReversalNotice(PrimaryTable, table=True):
    """The customer was told that a deposit of his is about to be reversed (gaps.md B-35)."""

    __tablename__ = "reversal_notice"
    __table_args__ = ({"sqlite_with_rowid": False},)
    procedure_id: int = given_key()
    apply_id: int = number()
    told_at: int = moment()


class AbnormalDeposit(PrimaryTable, table=True):
    """A statement that found no owner."""

    __tablename__ = "abnormal_deposits"
    __table_args__ = (UniqueConstraint("bank_type", "flow_id"), Index(None, "status"))
    id: int | None = key()
    bank_type: str = text(16)
    flow_id: int = number()
    reason: str = text(64)
    status: str = text(16, "OPEN")
    handler: str = text(32, "")
    note: str = text(500, "")
    created_at: int = moment()
    updated_at: int = moment()


class SmartReminder(PrimaryTable, table=True):
    """When Deposit Operations were last reminded of an open statement entry (gaps.md B-09)."""

    __tablename__ = "smart_reminder"
    __table_args__ = ({"sqlite_with_rowid": False},)
    bank_type: str = text_key(16)
    flow_id: int = given_key()
    count: int = number()
    reminded_at: int = moment()


class MatchRequest(PrimaryTable, table=True):
    """What a person did to a match, once for each request id, with its result."""

    __tablename__ = "match_request"
    __table_args__ = (one_of("action", MATCH_ACTIONS), Index(None, "apply_id"), {"sqlite_with_rowid": False})
    request_id: str = text_key(64)
    action: str = text(8)
    bank_type: str = text(16)
    flow_id: int = number()
    apply_id: int = number()
    match_id: int = number()
    operator: str = text(32)
    remark: str = text(500, "")
    created_at: int = moment()


class PreApproval(PrimaryTable, table=True):
    """A deposit that operations expect (gaps.md B-10); ``apply_id``: the one that used it."""

    __tablename__ = "pre_approval"
    __table_args__ = (one_of("ccy", Currency), CheckConstraint("amount > 0", name="amount"), Index(None, "uid"))
    id: int | None = key()
    uid: int = number()
    ccy: str = text(3)
    amount: int = number()
    valid_until: int = moment()
    operator: str = text(32)
    remark: str = text(500, "")
    apply_id: int | None = nullable(number())
    created_at: int = moment()
    updated_at: int = moment()


class Task(PrimaryTable, table=True):
    """A withdrawal task; ``method`` empty means undetermined (A-35)."""

    __tablename__ = "tasks"
    __table_args__ = (
        one_of("market", Market),
        one_of("ccy", Currency),
        one_of("step", STEPS),
        one_of("status", TaskStatus),
        flag("bank_launched"),
        CheckConstraint("amount > 0", name="amount"),
        Index(None, "created_at", "status"),
        Index(None, "uid", "created_at"),
        Index(None, "step", "status"),
        Index(None, "transfer_ref_id"),
    )
    id: int | None = key()
    uid: int = number()
    trade_acc_id: int = number()
    market: int = code()
    card_id: int = number(0)
    card_no: str = text(64, "")
    bank_code: str = text(16, "")
    ccy: str = text(3)
    amount: int = number()
    method: str | None = nullable(text(32))
    template: str = text(32, "default")
    step: str = text(16, "AUDIT")
    status: int = code(1)
    channel_fee: int = number(0)
    fee_consent_at: int | None = nullable(moment())
    batch_date: int | None = nullable(number())
    bank_launched: int = code(0)
    remark: str = text(500, "")
    payee_name: str = text(140, "")
    transfer_ref_id: str | None = nullable(text(64))
    request_id: str | None = nullable(text(64))
    mandate_id: str | None = nullable(text(64))
    reviewed_by: str = text(32, "")
    hold_id: str = text(40, "")
    reason: str = text(64, "")
    fail_code: str = text(16, "")
    created_at: int = moment()
    updated_at: int = moment()


class TaskFlow(PrimaryTable, table=True):
    """The operation log of a task: who did what at which step (DB-04)."""

    __tablename__ = "flows"
    __table_args__ = (Index(None, "task_id"),)
    id: int | None = key()
    task_id: int = number()
    step: str = text(16)
    action: str = text(32)
    staff_id: str = text(32)
    remark: str = text(500, "")
    created_at: int = moment()


class QueueRow(PrimaryTable, table=True):
    """One job; ``(event, key)`` exists once. The lease says which worker runs it until when."""

    __tablename__ = "queue"
    __table_args__ = (
        one_of("state", JobState),
        UniqueConstraint("event", "key"),
        Index(None, "state"),  # not with next_run_at: a poll moves that, and then touches no index at all
        Index(None, "lease_owner", "state"),
    )
    id: int | None = key()
    event: str = text(48)
    key: str = text(100)
    payload: str = document()
    state: int = code(0)
    retry_count: int = number(0)
    max_retry: int = number(0)
    next_run_at: int = moment()
    lease_owner: str | None = nullable(text(64))
    lease_until: int | None = nullable(moment())
    last_error: str = text(500, "")
    created_at: int = moment()
    updated_at: int = moment()


class SbaList(PrimaryTable, table=True):
    """Task and Procedure belong together; a task without a Procedure has no row (DB-05)."""

    __tablename__ = "sba_list"
    __table_args__ = (Index(None, "task_id", "attempt"), Index(None, "state"))
    procedure_id: int = given_key()
    task_id: int = number()
    attempt: int = number(1)
    state: str = text(48, "")
    created_at: int = moment()
    updated_at: int = moment()


class AutoSetting(PrimaryTable, table=True):
    """Quota of automatic withdrawals, one row per bank and currency (DB-06, gaps.md B-14); amounts minor units."""

    __tablename__ = "auto_settings"
    __table_args__ = (one_of("ccy", Currency), flag("enabled"), UniqueConstraint("bank", "ccy"))
    id: int | None = key()
    bank: str = text(16)
    ccy: str = text(3)
    enabled: int = code(1)
    balance: int = number()
    alarm_amount: int = number()
    stop_amount: int = number()
    alarm_count: int | None = nullable(number())
    stop_count: int | None = nullable(number())
    day_count: int = number(0)
    alarm_staff_name: str = text(32, "")
    last_alarm_at: int | None = nullable(moment())
    reset_at: int = moment()
    created_at: int = moment()
    updated_at: int = moment()


class CmbList(PrimaryTable, table=True):
    """A withdrawal that the customer began at CMB, before it becomes a task (DB-07)."""

    __tablename__ = "cmb_list"
    __table_args__ = (one_of("ccy", Currency), Index(None, "state"))
    id: int | None = key()
    bank_tx_seq: str = text(64, unique=True)
    card_no: str = text(64)
    ccy: str = text(3)
    amount: int = number()
    market: int = code()
    task_id: int | None = nullable(number())
    state: str = text(16, "NEW")
    created_at: int = moment()
    updated_at: int = moment()


class MsList(PrimaryTable, table=True):
    """A withdrawal that the customer began at CMBC, before it becomes a task (DB-07)."""

    __tablename__ = "ms_list"
    __table_args__ = (one_of("ccy", Currency), Index(None, "state"))
    id: int | None = key()
    org_ref_no: str = text(64, unique=True)
    card_no: str = text(64)
    ccy: str = text(3)
    amount: int = number()
    market: int = code()
    task_id: int | None = nullable(number())
    state: str = text(16, "NEW")
    created_at: int = moment()
    updated_at: int = moment()


class AsbRequest(PrimaryTable, table=True):
    """A request that a customer began at Airstar, as the bank lists it (gaps.md B-07): IN deposit, OUT withdrawal."""

    __tablename__ = "asb_request"
    __table_args__ = (
        one_of("direction", ("IN", "OUT", "REFUND")),
        Index(None, "state"),
        {"sqlite_with_rowid": False},
    )
    request_id: str = text_key(64)
    direction: str = text(8)
    mandate_id: str = text(64)
    ccy: str = text(3)
    amount: int = number()
    market: int = code()
    apply_id: int | None = nullable(number())
    task_id: int | None = nullable(number())
    state: str = text(16, "NEW")
    created_at: int = moment()
    updated_at: int = moment()


class AsbSequence(PrimaryTable, table=True):
    """The one sequence behind ``ASBBST000000001`` of both directions (gaps.md B-07): a single row.

    Used as ``Sequence(db, "asb", table=asb_sequence)``.
    """

    __tablename__ = "asb_sequence"
    __table_args__ = (one_of("name", ("asb",)), {"sqlite_with_rowid": False})
    name: str = text_key(64)
    value: int = number(0)


class BstPush(PrimaryTable, table=True):
    """What CMB or CMBC pushed, persisted before it is acknowledged (SOCK-05): by the bank's number of the push.

    ``dedup`` names the transaction it tells of; a second push of the same keeps its row without one, as DUPLICATE.
    A number below 0 is ours: the bank used its own for another transaction before (SOCK-09). ``transfer_ref`` of a
    notice of signing is its card.
    """

    __tablename__ = "bst_push"
    __table_args__ = (
        one_of("bank", SOCKET_BANKS),
        one_of("source", PUSH_SOURCES),
        one_of("state", PUSH_STATES),
        UniqueConstraint("bank", "dedup"),
        Index(None, "bank", "transfer_ref"),
        {"sqlite_with_rowid": False},
    )
    bank: str = text_key(16)
    push_seq: int = given_key()
    dedup: str | None = nullable(text(100))
    kind: str = text(16)
    transfer_ref: str = text(64, "")
    code: int = code(0)
    body: str = document()
    source: str = text(8)
    state: str = text(16)
    reason: str = text(100, "")
    created_at: int = moment()
    updated_at: int = moment()


class BstTransfer(PrimaryTable, table=True):
    """A transfer between a customer's account at CMB or CMBC and the broker, by its reference: our books of what the
    bank lists at day end. ``result`` is the callback code once it is final."""

    __tablename__ = "bst_transfer"
    __table_args__ = (
        one_of("bank", SOCKET_BANKS),
        one_of("kind", TRANSFER_KINDS),
        one_of("state", TRANSFER_STATES),
        one_of("ccy", Currency),
        Index(None, "bank", "finished_at"),
        {"sqlite_with_rowid": False},
    )
    bank: str = text_key(16)
    transfer_ref: str = text_key(64)
    kind: str = text(16)
    state: str = text(16)
    ccy: str = text(3)
    amount: int = number()
    card_no: str = text(64, "")
    apply_id: int | None = nullable(number())
    task_id: int | None = nullable(number())
    procedure_id: int | None = nullable(number())
    result: int | None = nullable(number())
    finished_at: int | None = nullable(moment())
    created_at: int = moment()
    updated_at: int = moment()


class BstDayEnd(PrimaryTable, table=True):
    """One fragment of a bank's reconciliation list of a business day, as it came."""

    __tablename__ = "bst_day_end"
    __table_args__ = (one_of("bank", SOCKET_BANKS), flag("is_last"), {"sqlite_with_rowid": False})
    bank: str = text_key(16)
    day: int = given_key()
    message_ref: str = text_key(32)
    items: str = document()
    totals: str = document()
    is_last: int = code(0)
    created_at: int = moment()


class Refund(PrimaryTable, table=True):
    """Money that the bank took back (A-29, gaps.md B-39)."""

    __tablename__ = "refund"
    __table_args__ = (
        one_of("state", REFUND_STATES),
        Index(None, "state"),
        Index(None, "apply_id"),
        Index(None, "procedure_id"),
    )
    id: int | None = key()
    source: str = text(32)
    apply_id: int | None = nullable(number())
    procedure_id: int | None = nullable(number())
    flow_id: int | None = nullable(number())
    ccy: str = text(3)
    amount: int = number()
    state: str = text(16)
    created_at: int = moment()
    updated_at: int = moment()


class ReconDiff(PrimaryTable, table=True):
    """A difference found by reconciliation (gaps.md B-38)."""

    __tablename__ = "recon_diff"
    __table_args__ = (
        one_of("kind", ("BANK_ONLY", "BOOK_ONLY", "AMOUNT_DIFF", "DUPLICATE", "STALE_IN_TRANSIT")),
        UniqueConstraint("day", "bank", "ccy", "kind", "reference"),
        Index(None, "state"),
    )
    id: int | None = key()
    day: int = number()
    bank: str = text(16)
    ccy: str = text(3)
    kind: str = text(16)
    reference: str = text(64)
    bank_amount: int | None = nullable(number())
    book_amount: int | None = nullable(number())
    procedure_id: int | None = nullable(number())
    detail: str = text(500, "")
    state: str = text(16, "OPEN")
    created_at: int = moment()
    updated_at: int = moment()


class CheckExtra(PrimaryTable, table=True):
    """A cheque of a withdrawal (gaps.md B-29); a void one keeps its row."""

    __tablename__ = "check_extra"
    __table_args__ = (CheckConstraint("signer_1 <> signer_2 OR signer_1 = ''", name="signers"), Index(None, "task_id"))
    id: int | None = key()
    task_id: int = number()
    cheque_no: str = text(6, unique=True)
    bank: str = text(16)
    issue_date: int = number()
    signer_1: str = text(32, "")
    signer_2: str = text(32, "")
    delivered_by: str = text(32, "")
    delivered_at: int | None = nullable(moment())
    confirmed_at: int | None = nullable(moment())
    voided_at: int | None = nullable(moment())
    created_at: int = moment()
    updated_at: int = moment()


class TaskCgbFps(PrimaryTable, table=True):
    """One item of a CGB FPS batch (gaps.md B-23)."""

    __tablename__ = "task_cgb_fps"
    __table_args__ = (
        one_of("ccy", Currency),
        UniqueConstraint("batch_no", "item_no"),
        Index(None, "task_id"),
        Index(None, "status", "next_poll_at"),
    )
    id: int | None = key()
    task_id: int = number()
    procedure_id: int = number()
    batch_no: str = text(32)
    item_no: int = number()
    fps_ref: str = text(64, unique=True)
    payee_name: str = text(140)
    payee_acct: str = text(64)
    payee_bank: str = text(16)
    ccy: str = text(3)
    amount: int = number()
    status: str = text(16, "NEW")
    bank_code: str = text(16, "")
    bank_msg: str = text(255, "")
    poll_count: int = number(0)
    next_poll_at: int | None = nullable(moment())
    submitted_at: int | None = nullable(moment())
    finished_at: int | None = nullable(moment())
    created_at: int = moment()
    updated_at: int = moment()


class NickList(PrimaryTable, table=True):
    """A customer's names."""

    __tablename__ = "nick_list"
    uid: int = given_key()
    en_name: str = text(140)
    cn_name: str = text(140, "")
    created_at: int = moment()
    updated_at: int = moment()


class RawRecord(PrimaryShape, table=True):
    """A statement entry as a collector got it; ``raw`` is the bank's own text (DB-03)."""

    __tablename__ = "bank_flow"
    __table_args__ = (
        flag("is_used"),
        UniqueConstraint("our_account", "bank_ref"),
        Index(None, "is_used", "txn_time"),
    )
    id: int | None = key()
    bank_type: str = text(16)
    our_account: str = text(34)
    bank_ref: str = text(64)
    txn_time: int = moment()
    ccy: str = text(3)
    amount: int = number()
    dr_cr: str = text(1)
    balance: int | None = nullable(number())
    name: str = text(140, "")
    account: str = text(64, "")
    remark: str = text(500, "")
    is_used: int = code(0)
    raw: str = document()
    created_at: int = moment()
    updated_at: int = moment()


class AcctTrdRecord(PrimaryTable, table=True):
    """Raw entries of the collectors that share one table (A-10)."""

    __tablename__ = "acct_trd_record"
    __table_args__ = (
        flag("is_used"),
        UniqueConstraint("bank_type", "our_account", "bank_ref"),
        Index(None, "is_used", "txn_time"),
    )
    id: int | None = key()
    bank_type: str = text(16)
    our_account: str = text(34)
    bank_ref: str = text(64)
    txn_time: int = moment()
    ccy: str = text(3)
    amount: int = number()
    dr_cr: str = text(1)
    balance: int | None = nullable(number())
    name: str = text(140, "")
    account: str = text(64, "")
    remark: str = text(500, "")
    is_used: int = code(0)
    raw: str = document()
    created_at: int = moment()
    updated_at: int = moment()


class IcbcBankFlow(PrimaryTable, table=True):
    """ICBC's raw entries, production and canary side by side (gaps.md B-21). ``bank_ref``: by what matching knows the
    statement: its serial, with a number behind it where the bank has given the serial of a deleted one again."""

    __tablename__ = "icbc_bank_flow"
    __table_args__ = (
        one_of("line_group", ("prod", "canary")),
        flag("is_used"),
        UniqueConstraint("line_group", "our_account", "serial"),
        Index(None, "txn_time"),
    )
    id: int | None = key()
    line_group: str = text(8)
    our_account: str = text(34)
    serial: str = text(64)
    txn_time: int = moment()
    ccy: str = text(3)
    credit: int = number(0)
    debit: int = number(0)
    close_balance: int = number()
    remark: str = text(500, "")
    name: str = text(140, "")
    account: str = text(64, "")
    is_used: int = code(0)
    created_at: int = moment()
    updated_at: int = moment()
    deleted_at: int | None = nullable(moment())
    bank_ref: str = text(64)


class CollectCursor(PrimaryTable, table=True):
    """How far a collector of statements has come, in its own words; written with what it brought."""

    __tablename__ = "collect_cursor"
    __table_args__ = ({"sqlite_with_rowid": False},)
    bank: str = text_key(16)
    name: str = text_key(64)
    value: str = text(64)
    updated_at: int = moment()


class BochkS16File(PrimaryTable, table=True):
    """An S16 file of BOCHK as it was fetched (gaps.md B-19). Names come again every day: ``stamp`` tells them apart."""

    __tablename__ = "bochk_s16_file"
    __table_args__ = (
        one_of("state", S16_FILE_STATES),
        Index(None, "created_at"),
        {"sqlite_with_rowid": False},
    )
    name: str = text_key(40)
    stamp: str = text_key(40)
    account: str = text(34)
    state: str = text(8)
    records: int = number(0)
    reason: str = text(255, "")
    raw: str = document()
    created_at: int = moment()


class BochkS16Record(PrimaryTable, table=True):
    """A movement of an S16 report, until it has found its statement entry and after."""

    __tablename__ = "bochk_s16_record"
    __table_args__ = (
        one_of("state", S16_RECORD_STATES),
        one_of("dr_cr", ("C", "D")),
        UniqueConstraint("our_account", "reference", "txn_time"),
        Index(None, "state"),
        Index(None, "flow_id"),
    )
    id: int | None = key()
    our_account: str = text(34)
    reference: str = text(64)
    seq_no: str = text(32, "")
    txn_time: int = moment()
    ccy: str = text(3)
    amount: int = number()
    dr_cr: str = text(1)
    balance: int = number()
    name: str = text(140, "")
    account: str = text(64, "")
    remark: str = text(500, "")
    state: str = text(8)
    flow_id: int | None = nullable(number())
    created_at: int = moment()
    updated_at: int = moment()


class HsbcFile(PrimaryTable, table=True):
    """A statement file of HSBC as it was dropped by the bank, or fetched (gaps.md B-20). ``version`` tells files of one
    name apart: when it arrived, or when the bank wrote it. ``contents``: base64 of the file, until it is taken;
    a quarantined one keeps it."""

    __tablename__ = "hsbc_file"
    __table_args__ = (
        one_of("source", HSBC_SOURCES),
        one_of("state", HSBC_FILE_STATES),
        UniqueConstraint("source", "name", "version"),
        Index(None, "state"),
    )
    id: int | None = key()
    source: str = text(4)
    name: str = text(128)
    version: int = number()
    state: str = text(16)
    accepted: int = number(0)
    duplicate: int = number(0)
    refused: int = number(0)
    reason: str = text(500, "")
    contents: str = long_document()
    created_at: int = moment()
    updated_at: int = moment()


class IcbcAlert(PrimaryTable, table=True):
    """An alert of ICBC's that escalates unless it is cleared in time; ``open_key`` is empty once it is cleared, so that
    one incident is open for each alert. ``about``: the row that broke the chain."""

    __tablename__ = "icbc_alert"
    __table_args__ = (UniqueConstraint("open_key"),)
    id: int | None = key()
    rule: str = text(16)
    alert_key: str = text(64)
    about: str = text(32, "")
    detail: str = text(500)
    open_key: str | None = nullable(text(96))
    opened_at: int = moment()
    cleared_at: int | None = nullable(moment())
    escalated_at: int | None = nullable(moment())


class IcbcScript(PrimaryTable, table=True):
    """What was done to `IcbcBankFlow` by hand or by the alert handling script: the SQL as it was carried out (B-21).

    ``line_group`` is empty for the script, which mends both; ``balance``: the close_balance that was set."""

    __tablename__ = "icbc_script"
    __table_args__ = (one_of("kind", ICBC_SCRIPTS), one_of("result", ("DONE", "STALLED")), Index(None, "our_account"))
    id: int | None = key()
    kind: str = text(16)
    line_group: str = text(8, "")
    our_account: str = text(34)
    balance: int | None = nullable(number())
    ccy: str = text(3)
    serials: str = text(500, "")
    result: str = text(8)
    operator: str = text(32)
    remark: str = text(500, "")
    script: str = document()
    created_at: int = moment()


class Voucher(PrimaryTable, table=True):
    """An image of a transfer slip or a cheque (gaps.md B-51). ``contents``: base64; ``apply_id``: whose it is, the
    newest of an application stands in its ``voucher_file_id`` too."""

    __tablename__ = "voucher"
    __table_args__ = (
        one_of("kind", VOUCHER_KINDS),
        Index(None, "uid", "created_at"),
        Index(None, "created_at"),
        Index(None, "apply_id"),
        {"sqlite_with_rowid": False},
    )
    file_id: str = text_key(64)
    uid: int = number()
    apply_id: int | None = nullable(number())
    filename: str = text(140)
    kind: str = text(3)
    size: int = number()
    sha256: str = text(64)
    uploaded_by: str = text(32)
    contents: str = long_document()
    created_at: int = moment()
    updated_at: int = moment()


class ChequeDeposit(PrimaryTable, table=True):
    """A cheque of a customer that operations have keyed (gaps.md B-29): credited under a hold until it is cleared.

    ``clears_on``: yyyymmdd, empty until it has been banked. A cheque is one: (drawer's bank and account, number)."""

    __tablename__ = "cheque_deposit"
    __table_args__ = (
        one_of("state", CHEQUE_STATES),
        UniqueConstraint("drawer_bank", "drawer_account", "cheque_no"),
        Index(None, "state", "clears_on"),
    )
    id: int | None = key()
    apply_id: int = number(unique=True)
    hold_id: str = text(32, unique=True)
    drawer_bank: str = text(16)
    drawer_account: str = text(34)
    cheque_no: str = text(16)
    state: str = text(8, "KEYED")
    banked_at: int | None = nullable(moment())
    clears_on: int | None = nullable(number())
    operator: str = text(32)
    remark: str = text(500, "")
    created_at: int = moment()
    updated_at: int = moment()


class ListChange(PrimaryTable, table=True):
    """The audit trail of the lists: what was put on one or taken off, by whom and why (gaps.md B-36). Never changed."""

    __tablename__ = "list_change"
    __table_args__ = (one_of("action", LIST_ACTIONS), Index(None, "list", "created_at"))
    id: int | None = key()
    list: str = text(16)
    action: str = text(8)
    kind: str = text(8)
    value: str = text(140)
    reason: str = text(255)
    operator: str = text(32)
    expires_at: int | None = nullable(moment())
    created_at: int = moment()


class EddiDebit(PrimaryTable, table=True):
    """A direct debit at HSBC or Hang Seng (gaps.md B-25). ``id`` comes from a `Sequence`, so that it is given in the
    order of the commits: Hang Seng's are sent in it. ``doubt``: a sending of it may have arrived; ``attempts``:
    sendings; ``due_at``: not to be sent before; ``credit``: its crediting was queued; ``overdue``: that was told."""

    __tablename__ = "eddi_debit"
    __table_args__ = (
        one_of("bank", EDDI_BANKS),
        one_of("ccy", Currency),
        one_of("state", DebitState),
        CheckConstraint("amount > 0", name="amount"),
        flag("doubt"),
        flag("credit"),
        flag("overdue"),
        Index(None, "bank", "state", "id"),
        Index(None, "apply_id"),
    )
    id: int = given_key()
    bank: str = text(16)
    apply_id: int = number()
    authorisation_id: int = number()
    mandate_ref: str = text(64)
    reference: str = text(32, unique=True)
    ccy: str = text(3)
    amount: int = number()
    state: str = text(16)
    bank_id: str = text(64, "")
    reason: str = text(64, "")
    attempts: int = number(0)
    doubt: int = code(0)
    credit: int = code(0)
    overdue: int = code(0)
    due_at: int = moment()
    submitted_at: int | None = nullable(moment())
    asked_at: int | None = nullable(moment())
    created_at: int = moment()
    updated_at: int = moment()


class EddiTokenBucket(PrimaryTable, table=True):
    """Requests that may still leave for a bank in a second of the clock (ADR-004, gaps.md B-25)."""

    __tablename__ = "eddi_token_bucket"
    __table_args__ = (
        CheckConstraint("tokens BETWEEN 0 AND rate", name="tokens"),
        {"sqlite_with_rowid": False},
    )
    bank: str = text_key(16)
    tokens: int = number()
    rate: int = number()
    second: int = number()


class EddiInFlight(PrimaryTable, table=True):
    """A request that left for a bank with a token; ``answered_at`` empty while it may still arrive."""

    __tablename__ = "eddi_in_flight"
    __table_args__ = (Index(None, "bank", "sent_at"),)
    id: int | None = key()
    bank: str = text(16)
    sent_at: int = moment()
    answered_at: int | None = nullable(moment())


class EddiSerialLock(PrimaryTable, table=True):
    """The row that lets one request after another leave for a bank (ADR-004). ``holder`` has its ``turn`` until
    ``held_until``; who looks or changes it does so under the row's lock."""

    __tablename__ = "eddi_serial_lock"
    __table_args__ = ({"sqlite_with_rowid": False},)
    bank: str = text_key(16)
    turn: int = number(0)
    holder: str = text(64, "")
    held_until: int = number(0)
    updated_at: int = moment()


class ListEntry(PrimaryTable, table=True):
    """An entry of a black or white list (gaps.md B-36); ``value`` is stored normalised."""

    __tablename__ = "list_entry"
    __table_args__ = (
        one_of("list", ("deposit_black", "deposit_white", "withdraw_black")),
        one_of("kind", ("uid", "card_no", "name", "account")),
        UniqueConstraint("list", "kind", "value"),
    )
    id: int | None = key()
    list: str = text(16)
    kind: str = text(8)
    value: str = text(140)
    reason: str = text(255, "")
    operator: str = text(32)
    expires_at: int | None = nullable(moment())
    created_at: int = moment()
    updated_at: int = moment()


class CalendarOverride(PrimaryTable, table=True):
    """A trading day decided otherwise than the calendar says, known from a moment on; later versions win."""

    __tablename__ = "calendar_override"
    __table_args__ = (one_of("market", Market), flag("is_open"), UniqueConstraint("market", "day", "version"))
    id: int | None = key()
    market: int = code()
    day: int = number()
    is_open: int = code()
    known_from: int = moment()
    operator: str = text(32)
    version: int = number(1)
    created_at: int = moment()
    updated_at: int = moment()


class JobRun(PrimaryTable, table=True):
    """One run of a periodic job; unfinished while ``finished_at`` is empty."""

    __tablename__ = "job_run"
    __table_args__ = (Index(None, "job", "started_at"),)
    id: int | None = key()
    job: str = text(48)
    started_at: int = moment()
    finished_at: int | None = nullable(moment())
    outcome: str = text(500, "")
    skipped: int = number(0)


class StandingAlert(PrimaryTable, table=True):
    """An alert that was raised and is not cleared yet (`core.storage.standing`)."""

    __tablename__ = "standing_alert"
    __table_args__ = ({"sqlite_with_rowid": False},)
    rule: str = text_key(16)
    alert_key: str = text_key(100)
    raised_at: int = moment()


class Sequences(PrimaryTable, table=True):
    """Numbers given out so far."""

    __tablename__ = "sequences"
    __table_args__ = ({"sqlite_with_rowid": False},)
    name: str = text_key(64)
    value: int = number(0)


METADATA: MetaData = PrimaryTable.metadata
IMMUTABLE: Final[tuple[str, ...]] = ("list_change",)
_SHAPES = PrimaryShape.metadata.tables

applys: ShardedTable = by_customer(_SHAPES["applys"], METADATA)
matches: ShardedTable = by_customer(_SHAPES["matches"], METADATA)
deposits: ShardedTable = by_customer(_SHAPES["deposits"], METADATA)
statement_flows: ShardedTable = by_bank_month(_SHAPES["flows"], METADATA)
bank_flows: ShardedTable = by_bank(
    (bank for bank in MATCHING_BANKS if bank != "icbc"), _SHAPES["bank_flow"], METADATA)  # ICBC's has its own columns

flow_month: Table = METADATA.tables["flow_month"]
flow_claim: Table = METADATA.tables["flow_claim"]
flow_release: Table = METADATA.tables["flow_release"]
reversal_notice: Table = METADATA.tables["reversal_notice"]
abnormal_deposits: Table = METADATA.tables["abnormal_deposits"]
smart_reminder: Table = METADATA.tables["smart_reminder"]
match_request: Table = METADATA.tables["match_request"]
pre_approval: Table = METADATA.tables["pre_approval"]
tasks: Table = METADATA.tables["tasks"]
task_flows: Table = METADATA.tables["flows"]
queue: Table = METADATA.tables["queue"]
sba_list: Table = METADATA.tables["sba_list"]
auto_settings: Table = METADATA.tables["auto_settings"]
cmb_list: Table = METADATA.tables["cmb_list"]
ms_list: Table = METADATA.tables["ms_list"]
asb_request: Table = METADATA.tables["asb_request"]
bst_push: Table = METADATA.tables["bst_push"]
bst_transfer: Table = METADATA.tables["bst_transfer"]
bst_day_end: Table = METADATA.tables["bst_day_end"]
asb_sequence: Table = METADATA.tables["asb_sequence"]
refund: Table = METADATA.tables["refund"]
recon_diff: Table = METADATA.tables["recon_diff"]
check_extra: Table = METADATA.tables["check_extra"]
task_cgb_fps: Table = METADATA.tables["task_cgb_fps"]
nick_list: Table = METADATA.tables["nick_list"]
acct_trd_record: Table = METADATA.tables["acct_trd_record"]
icbc_bank_flow: Table = METADATA.tables["icbc_bank_flow"]
hsbc_file: Table = METADATA.tables["hsbc_file"]
icbc_alert: Table = METADATA.tables["icbc_alert"]
icbc_script: Table = METADATA.tables["icbc_script"]
collect_cursor: Table = METADATA.tables["collect_cursor"]
bochk_s16_file: Table = METADATA.tables["bochk_s16_file"]
bochk_s16_record: Table = METADATA.tables["bochk_s16_record"]
eddi_debit: Table = METADATA.tables["eddi_debit"]
eddi_token_bucket: Table = METADATA.tables["eddi_token_bucket"]
eddi_in_flight: Table = METADATA.tables["eddi_in_flight"]
eddi_serial_lock: Table = METADATA.tables["eddi_serial_lock"]
list_entry: Table = METADATA.tables["list_entry"]
list_change: Table = METADATA.tables["list_change"]
voucher: Table = METADATA.tables["voucher"]
cheque_deposit: Table = METADATA.tables["cheque_deposit"]
calendar_override: Table = METADATA.tables["calendar_override"]
job_run: Table = METADATA.tables["job_run"]
standing_alert: Table = METADATA.tables["standing_alert"]
sequences: Table = METADATA.tables["sequences"]
