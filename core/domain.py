"""Words that every room uses: markets, banks, roles, freeze types, deposit types, channels.

One list of each; API enums, CHECK constraints, documents and diagrams are generated from these.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum


class BizType(StrEnum):
    """What a Procedure does (SBA-PROC-02)."""

    CASH_DEPOSIT = "cash_deposit"
    CASH_WITHDRAW = "cash_withdraw"


class Market(IntEnum):
    """Markets (SBA-PROC-03)."""

    HK = 1
    US = 2
    HKCC = 4


class Role(StrEnum):
    """Roles (gaps.md B-30)."""

    SYSTEM = "system"
    USER = "user"
    FRONTLINE = "frontline_ops"
    SUPERVISOR = "supervisor"
    ON_DUTY = "on_duty_ops"
    TECH_OPS = "tech_ops"
    COMPLIANCE = "compliance"
    SETTLEMENT = "settlement"
    PRODUCT_MANAGER = "product_manager"
    OPS_LEAD = "ops_lead"


class DepositType(IntEnum):
    """The six deposit modes (SBA-DEP-019)."""

    NORMAL = 1
    PRE_APPROVAL = 2
    ABNORMAL = 3
    TRANS_AUTO = 4
    HIGH_RISK = 5
    NORMAL_HOLD = 11


class FreezeType(IntEnum):
    """Freeze types (gaps.md B-13; 1, 2 and 17 documented)."""

    EXCHANGE = 1
    CASH_OUT = 2
    IPO_SUBSCRIBE = 3
    FUND_SUBSCRIBE = 4
    BOND_SUBSCRIBE = 5
    TRANSFER_INTERNAL = 6
    CORPORATE_ACTION = 7
    OPTION_MARGIN = 8
    SETTLEMENT_HOLD = 9
    DISPUTE = 10
    RISK_HOLD = 11
    LEGAL_ORDER = 12
    FEE_RESERVE = 13
    MARGIN_CALL = 14
    CHEQUE_CLEARING = 15
    EDDI_UNCLEARED = 16
    CASH_IN = 17
    OTHER = 99


NORMAL_HOLD_TYPES = frozenset({FreezeType.EXCHANGE, FreezeType.CASH_OUT, FreezeType.CASH_IN})


class Initiator(IntEnum):
    """Who began a bank-securities transfer: ``source`` of a deposit, ``bank_launched + 1`` of a withdrawal."""

    MOOMOO = 1
    BANK = 2


class ApplyStatus(IntEnum):
    """Deposit application (gaps.md B-02)."""

    INIT = 0
    WAIT_MATCH = 1
    MATCHED = 2
    CREDITING = 3
    DONE = 4
    REJECTED = 5
    CANCELLED = 6
    REVERSED = 7
    REFUNDED = 8


class TaskStatus(IntEnum):
    """Withdrawal task (gaps.md B-02)."""

    PENDING = 1
    PROCESSING = 2
    DONE = 3
    REJECTED = 4
    CANCELLED = 5
    FAILED = 6
    REVERSED = 7


class JobState(IntEnum):
    """Job (gaps.md B-02)."""

    READY = 0
    RUNNING = 1
    DONE = 2
    RETRY = 3
    EXCEPTION = 4
    FAILED = 5


class MandateStatus(IntEnum):
    """Airstar mandate (gaps.md B-06)."""

    INIT = 0
    PROCESSING = 1
    OPEN = 2
    FAIL = 3
    SUSPENDED = 4
    CLOSED = 5


MANDATE_MOVES: dict[MandateStatus, frozenset[MandateStatus]] = {
    MandateStatus.INIT: frozenset({MandateStatus.PROCESSING}),
    MandateStatus.PROCESSING: frozenset({MandateStatus.OPEN, MandateStatus.FAIL}),
    MandateStatus.OPEN: frozenset({MandateStatus.SUSPENDED, MandateStatus.CLOSED}),
    MandateStatus.FAIL: frozenset(),
    MandateStatus.SUSPENDED: frozenset({MandateStatus.OPEN, MandateStatus.CLOSED}),
    MandateStatus.CLOSED: frozenset(),
}


class EddaStatus(IntEnum):
    """Direct-debit authorisation, eDDA (gaps.md B-25)."""

    INIT = 0
    PENDING = 1
    ACTIVE = 2
    REJECTED = 3
    SUSPENDED = 4
    CANCELLED = 5


EDDA_MOVES: dict[EddaStatus, frozenset[EddaStatus]] = {
    EddaStatus.INIT: frozenset({EddaStatus.PENDING}),
    EddaStatus.PENDING: frozenset({EddaStatus.ACTIVE, EddaStatus.REJECTED}),
    EddaStatus.ACTIVE: frozenset({EddaStatus.SUSPENDED, EddaStatus.CANCELLED}),
    EddaStatus.REJECTED: frozenset(),
    EddaStatus.SUSPENDED: frozenset({EddaStatus.ACTIVE, EddaStatus.CANCELLED}),
    EddaStatus.CANCELLED: frozenset(),
}


class DebitState(StrEnum):
    """Direct debit, eDDI (gaps.md B-25)."""

    NEW_BLANK = "new_blank"  # Hang Seng: waits for the session
    QUEUED = "queued"  # waits for its turn; the bank has not got it
    SUBMITTED = "submitted"  # sent, and not known to have arrived
    PROCESSING = "processing"  # the bank has it
    SUCCESS = "success"
    FAILED = "failed"
    RETURNED = "returned"  # given back after success


DEBIT_MOVES: dict[DebitState, frozenset[DebitState]] = {
    DebitState.NEW_BLANK: frozenset({DebitState.QUEUED, DebitState.FAILED}),
    DebitState.QUEUED: frozenset({DebitState.NEW_BLANK, DebitState.SUBMITTED, DebitState.FAILED}),
    DebitState.SUBMITTED: frozenset({DebitState.QUEUED, DebitState.PROCESSING, DebitState.FAILED}),
    DebitState.PROCESSING: frozenset({DebitState.SUCCESS, DebitState.FAILED, DebitState.RETURNED}),
    DebitState.SUCCESS: frozenset({DebitState.RETURNED}),
    DebitState.FAILED: frozenset(),
    DebitState.RETURNED: frozenset(),
}
