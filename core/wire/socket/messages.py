"""Messages of the CMB and CMBC socket protocol, shared by both flavours (gaps.md B-22, B-08; JR/T 0046).

Header and body are plain values: an adapter and an emulated bank can pass them to each other without any bytes.
Amounts are wire strings (``"1234.50"``), dates and times Hong Kong texts. ``transfer_ref`` is the idempotency key:
``bank_tx_seq`` at CMB, ``OrgRefNo`` at CMBC. ``push_seq`` numbers what the bank has to tell us, across connections.

`MESSAGES` is the one list of what may be said, by whom, and what is signed. B-22 gives codes 100001 to 200107; 100000,
100003, 100004 and 200108 to 200110 are ours (the public standard has the messages, B-22 no codes for them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from core.wire.socket.fields import ListKind, Party, Signing, TransferKind, TransferState
from core.wire.socket.frames import FrameType, MalformedMessage, RefusedMessage

MAX_ITEMS: Final = 50
"""Entries of one list fragment, so that the longest fits into a frame in either flavour."""

HEADER_VERSION: Final = "1.0"
SYSTEM_TYPE: Final = "1"
"""Bank-securities transfer; the standard leaves the figure to the two parties."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An XML element that the tables do not name, kept as it came: a text, or children."""

    tag: str
    text: str = ""
    children: tuple[Unknown, ...] = ()


class Record(Protocol):
    """A header, a body or an entry: named fields, and what the tables do not name (CMBC only)."""

    @property
    def extra(self) -> tuple[Unknown, ...]: ...


@dataclass(frozen=True, slots=True)
class Header:
    """Fields of JR/T 0046. ``ref`` names this message, ``related_ref`` the message that it answers."""

    instruction: str
    initiator: Party
    sender: str
    receiver: str
    date: str
    time: str
    ref: str
    related_ref: str = ""
    last_fragment: bool = True
    version: str = HEADER_VERSION
    system_type: str = SYSTEM_TYPE
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing but a sign of life."""

    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class SignOn:
    """Opens the business day. ``last_push_seq`` is the highest push that the broker has persisted."""

    business_date: str
    last_push_seq: int
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class SignOff:
    """Ends the business of a connection before it is closed."""

    reason: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """Code of `CALLBACKS` and text: answer to control messages, acknowledgement of pushes, rejection."""

    code: int
    text: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class DepositPush:
    """A customer moved money to the broker at the bank (source 2)."""

    transfer_ref: str
    push_seq: int
    name: str
    card_no: str
    ccy: str
    amount: str
    market: str
    account: str = ""
    cert_type: str = ""
    cert_no: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class DepositRequest:
    """A deposit started in our app (source 1): debit the customer (A-79); its result comes as 200103."""

    transfer_ref: str
    name: str
    card_no: str
    ccy: str
    amount: str
    market: str
    account: str = ""
    cert_type: str = ""
    cert_no: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class WithdrawalRequest:
    """Pay the customer. ``payee_name`` is mandatory, and English, at CMBC (B-22); optional at CMB."""

    transfer_ref: str
    name: str
    card_no: str
    ccy: str
    amount: str
    market: str
    payee_name: str = ""
    account: str = ""
    cert_type: str = ""
    cert_no: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class BankWithdrawal:
    """A customer asked at the bank for money from the broker (``cmb_list``, ``ms_list``)."""

    transfer_ref: str
    push_seq: int
    name: str
    card_no: str
    ccy: str
    amount: str
    market: str
    account: str = ""
    cert_type: str = ""
    cert_no: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferAnswer:
    """Answer to a transfer or reversal: code 0 means taken on, not done; the result is pushed as 200103."""

    code: int
    transfer_ref: str = ""
    text: str = ""
    bank_serial: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferResult:
    """What became of a withdrawal, deposit or reversal that we asked for."""

    transfer_ref: str
    push_seq: int
    code: int
    ccy: str
    amount: str
    text: str = ""
    bank_serial: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """What became of this reference?"""

    transfer_ref: str
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """``code`` is about the query; ``state`` and ``result`` about the transfer (``result`` once it is final), and what
    it is: whoever asks compares, for a reference may have been used by somebody else."""

    code: int
    transfer_ref: str = ""
    state: TransferState | None = None
    result: int | None = None
    ccy: str = ""
    amount: str = ""
    text: str = ""
    bank_serial: str = ""
    kind: TransferKind | None = None
    card_no: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Everything the bank had to tell after ``since_seq``, of one business day or (blank) of all."""

    since_seq: int
    business_date: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class ListItem:
    """One thing the bank had to tell, complete enough to rebuild its push (`push_of`)."""

    push_seq: int
    kind: ListKind
    transfer_ref: str = ""
    code: int = 0
    name: str = ""
    card_no: str = ""
    ccy: str = ""
    amount: str = ""
    market: str = ""
    account: str = ""
    cert_type: str = ""
    cert_no: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class DayList:
    """A fragment of the day list: at most `MAX_ITEMS` entries; the header says whether it is the last."""

    code: int
    items: tuple[ListItem, ...] = ()
    text: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class SignNotice:
    """A customer signed or ended the agreement at the bank, for a card and market."""

    push_seq: int
    action: Signing
    name: str
    card_no: str
    market: str
    account: str = ""
    cert_type: str = ""
    cert_no: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class ReversalRequest:
    """Take back the transfer ``original_ref``; ``transfer_ref`` is the reversal's own reference."""

    transfer_ref: str
    original_ref: str
    ccy: str
    amount: str
    reason: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class ReconciliationRequest:
    """The reconciliation list of a business day, please."""

    business_date: str
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class ReconciliationItem:
    """One transfer that the bank has booked."""

    transfer_ref: str
    deposit: bool
    ccy: str
    amount: str
    card_no: str = ""
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class ReconciliationTotal:
    """Of one currency: number and sum of the deposits and of the withdrawals of the whole day."""

    ccy: str
    deposits: int
    deposited: str
    withdrawals: int
    withdrawn: str
    extra: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class ReconciliationList:
    """A fragment of what the bank booked on a day; the totals stand in the last fragment."""

    code: int
    business_date: str = ""
    totals: tuple[ReconciliationTotal, ...] = ()
    items: tuple[ReconciliationItem, ...] = ()
    text: str = ""
    extra: tuple[Unknown, ...] = ()


Body = (
    Heartbeat | SignOn | SignOff | Answer | DepositPush | DepositRequest | WithdrawalRequest | BankWithdrawal
    | TransferAnswer | TransferResult | Query | QueryAnswer | ListRequest | DayList | SignNotice | ReversalRequest
    | ReconciliationRequest | ReconciliationList
)  # fmt: skip
Pushed = DepositPush | TransferResult | BankWithdrawal | SignNotice
"""What the bank numbers and pushes."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of either flavour, with or without bytes."""

    kind: FrameType
    command: str
    header: Header
    body: Body


# --- the list of messages ---------------------------------------------------------------------------------------

REJECTION: Final = "100000"
KEY_EXCHANGE: Final = "100001"
HEARTBEAT: Final = "100002"
SIGN_ON: Final = "100003"
SIGN_OFF: Final = "100004"
DEPOSIT_PUSH: Final = "200101"
WITHDRAWAL: Final = "200102"
TRANSFER_RESULT: Final = "200103"
BANK_WITHDRAWAL: Final = "200104"
QUERY: Final = "200105"
DAY_LIST: Final = "200106"
SIGN_NOTICE: Final = "200107"
DEPOSIT: Final = "200108"
REVERSAL: Final = "200109"
RECONCILIATION: Final = "200110"


class Row(NamedTuple):
    """One message: its body, instruction code of the standard, who may send it, and whether it is signed."""

    body: type
    instruction: str
    by: tuple[Party, ...]
    signed: bool
    purpose: str


_BROKER, _BANK, _BOTH = (Party.BROKER,), (Party.BANK,), (Party.BROKER, Party.BANK)
_REQUEST, _RESPONSE, _PUSH, _ACK = FrameType.REQUEST, FrameType.RESPONSE, FrameType.PUSH, FrameType.PUSH_ACK

MESSAGES: Final[dict[tuple[str, FrameType], Row]] = {
    (REJECTION, _RESPONSE): Row(Answer, "Sysm.008", _BOTH, False, "the message you sent was not accepted"),
    (HEARTBEAT, _REQUEST): Row(Heartbeat, "Sysm.005", _BOTH, False, "heartbeat"),
    (HEARTBEAT, _RESPONSE): Row(Answer, "Sysm.006", _BOTH, False, "heartbeat heard"),
    (SIGN_ON, _REQUEST): Row(SignOn, "Sysm.001", _BROKER, False, "sign on"),
    (SIGN_ON, _RESPONSE): Row(Answer, "Sysm.002", _BANK, False, "signed on, or not"),
    (SIGN_OFF, _REQUEST): Row(SignOff, "Sysm.003", _BOTH, False, "sign off"),
    (SIGN_OFF, _RESPONSE): Row(Answer, "Sysm.004", _BOTH, False, "signed off"),
    (DEPOSIT_PUSH, _PUSH): Row(DepositPush, "Trf.001", _BANK, True, "deposit begun at the bank"),
    (DEPOSIT_PUSH, _ACK): Row(Answer, "Trf.002", _BROKER, False, "persisted"),
    (WITHDRAWAL, _REQUEST): Row(WithdrawalRequest, "Trf.001", _BROKER, True, "pay the customer"),
    (WITHDRAWAL, _RESPONSE): Row(TransferAnswer, "Trf.002", _BANK, True, "taken on, or not"),
    (TRANSFER_RESULT, _PUSH): Row(TransferResult, "Trf.007", _BANK, True, "result of 200102, 200108, 200109"),
    (TRANSFER_RESULT, _ACK): Row(Answer, "Trf.008", _BROKER, False, "persisted"),
    (BANK_WITHDRAWAL, _PUSH): Row(BankWithdrawal, "Trf.001", _BANK, True, "withdrawal begun at the bank"),
    (BANK_WITHDRAWAL, _ACK): Row(Answer, "Trf.002", _BROKER, False, "persisted"),
    (QUERY, _REQUEST): Row(Query, "Trf.005", _BROKER, False, "query by reference"),
    (QUERY, _RESPONSE): Row(QueryAnswer, "Trf.006", _BANK, True, "where it stands"),
    (DAY_LIST, _REQUEST): Row(ListRequest, "File.001", _BROKER, False, "day list, or re-pull after a push"),
    (DAY_LIST, _RESPONSE): Row(DayList, "File.002", _BANK, True, "entries, in fragments"),
    (SIGN_NOTICE, _PUSH): Row(SignNotice, "Acmt.001", _BANK, False, "signed or unsigned at the bank"),
    (SIGN_NOTICE, _ACK): Row(Answer, "Acmt.002", _BROKER, False, "persisted"),
    (DEPOSIT, _REQUEST): Row(DepositRequest, "Trf.001", _BROKER, True, "deposit started in our app"),
    (DEPOSIT, _RESPONSE): Row(TransferAnswer, "Trf.002", _BANK, True, "taken on, or not"),
    (REVERSAL, _REQUEST): Row(ReversalRequest, "Trf.003", _BROKER, True, "take a transfer back"),
    (REVERSAL, _RESPONSE): Row(TransferAnswer, "Trf.004", _BANK, True, "taken on, or not"),
    (RECONCILIATION, _REQUEST): Row(ReconciliationRequest, "Stmt.001", _BROKER, False, "ask for the list of a day"),
    (RECONCILIATION, _RESPONSE): Row(ReconciliationList, "Stmt.002", _BANK, True, "what the bank booked"),
    (RECONCILIATION, _PUSH): Row(ReconciliationList, "Stmt.002", _BANK, True, "the same, unasked, at day end"),
    (RECONCILIATION, _ACK): Row(Answer, "Stmt.003", _BROKER, False, "persisted"),
}
"""Every business message. 100001 is the key exchange: no message, see `core.wire.socket.handshake`."""


def row_of(command: str, kind: FrameType) -> Row:
    """The row of a message; `MalformedMessage` if the protocol has none."""
    row = MESSAGES.get((command, kind))
    if row is None:
        raise MalformedMessage(f"the protocol has no {kind.name.lower()} {command}")
    return row


def check_message(message: Message) -> Row:
    """The row of a message whose body and instruction code are those of the row; else `MalformedMessage`."""
    row = row_of(message.command, message.kind)
    if type(message.body) is not row.body:
        raise MalformedMessage(
            f"{message.command}: a {type(message.body).__name__} is no {row.body.__name__}", message.header
        )
    if message.header.instruction != row.instruction:
        raise MalformedMessage(f"{message.command} has no instruction {message.header.instruction!r}", message.header)
    return row


class Stamp(NamedTuple):
    """What the caller adds to every message: its reference, and the Hong Kong date and time."""

    ref: str
    date: str
    time: str


def compose(
    command: str, kind: FrameType, body: Body, stamp: Stamp, sender: str, receiver: str, initiator: Party
) -> Message:
    """A request or push with a fresh header."""
    row = row_of(command, kind)
    header = Header(row.instruction, initiator, sender, receiver, stamp.date, stamp.time, stamp.ref)
    return _checked(Message(kind, command, header, body))


def _checked(message: Message) -> Message:
    """The message itself, once its body fits its row."""
    check_message(message)
    return message


_ANSWERED_BY: Final = {_REQUEST: _RESPONSE, _PUSH: _ACK}


def answer(to: Message, body: Body, stamp: Stamp, *, last_fragment: bool = True) -> Message:
    """The response to a request, or the acknowledgement of a push."""
    kind = _ANSWERED_BY.get(to.kind)
    if kind is None:
        raise MalformedMessage(f"a {to.kind.name.lower()} is not answered", to.header)
    asked = to.header
    header = Header(
        row_of(to.command, kind).instruction, asked.initiator, asked.receiver, asked.sender,
        stamp.date, stamp.time, stamp.ref, asked.ref, last_fragment,
    )  # fmt: skip
    return _checked(Message(kind, to.command, header, body))


def rejection(of: RefusedMessage, stamp: Stamp, sender: str, receiver: str, initiator: Party) -> Message:
    """The answer to what was refused: its reference if its header could be read, else its frame's sequence."""
    related = of.header.ref if of.header is not None else f"SEQ{of.sequence:016d}"
    row = MESSAGES[REJECTION, _RESPONSE]
    header = Header(row.instruction, initiator, sender, receiver, stamp.date, stamp.time, stamp.ref, related)
    return Message(_RESPONSE, REJECTION, header, Answer(of.code, CALLBACKS[of.code].meaning))


# --- pushes out of a day list -----------------------------------------------------------------------------------


def _deposit_of(item: ListItem) -> Pushed:
    return DepositPush(
        item.transfer_ref, item.push_seq, item.name, item.card_no, item.ccy, item.amount, item.market,
        item.account, item.cert_type, item.cert_no,
    )  # fmt: skip


def _withdrawal_of(item: ListItem) -> Pushed:
    return BankWithdrawal(
        item.transfer_ref, item.push_seq, item.name, item.card_no, item.ccy, item.amount, item.market,
        item.account, item.cert_type, item.cert_no,
    )  # fmt: skip


def _result_of(item: ListItem) -> Pushed:
    return TransferResult(item.transfer_ref, item.push_seq, item.code, item.ccy, item.amount)


def _notice_of(item: ListItem) -> Pushed:
    return SignNotice(
        item.push_seq, Signing(item.kind.value), item.name, item.card_no, item.market,
        item.account, item.cert_type, item.cert_no,
    )  # fmt: skip


_PUSHES: Final[dict[ListKind, tuple[str, Callable[[ListItem], Pushed]]]] = {
    ListKind.DEPOSIT: (DEPOSIT_PUSH, _deposit_of),
    ListKind.WITHDRAWAL: (BANK_WITHDRAWAL, _withdrawal_of),
    ListKind.RESULT: (TRANSFER_RESULT, _result_of),
    ListKind.SIGN: (SIGN_NOTICE, _notice_of),
    ListKind.UNSIGN: (SIGN_NOTICE, _notice_of),
}


def push_of(item: ListItem) -> tuple[str, Pushed]:
    """(command, body) of the push that an entry of a day list stands for (B-43: missing entries are injected)."""
    command, rebuild = _PUSHES[item.kind]
    return command, rebuild(item)


# --- callback codes ---------------------------------------------------------------------------------------------


class Action(StrEnum):
    """What the platform does on a callback code (gaps.md B-08)."""

    FINISH = "end_ok"
    QUERY_THEN_RETRY = "query, then as -5"
    RESEND_ONCE = "resend once, then failed"
    ALERT = "Critical alert, no resend"
    TAKE_ORIGINAL = "return the original result"
    RETRY_ON_BACKUP = "retry on the backup exit_server with the same reference"
    RETURN_FAILED = "pending(return), failed"
    RETURN_REJECTED = "pending(return), reason BANK_REJECTED"
    RETURN = "pending(return)"
    AWAIT_OPENING = "stay in transfer_auto, re-send with the same reference at opening"


class Callback(NamedTuple):
    """``certain``: the code says whether money moved by this sending. If not, query by reference before anything else.

    ``at_the_door``: refused before the reference is looked up, so it says nothing of an earlier sending of it.
    """

    meaning: str
    action: Action
    certain: bool
    at_the_door: bool = False


CALLBACKS: Final[dict[int, Callback]] = {
    0: Callback("success", Action.FINISH, True),
    -1: Callback("system error at bank, outcome unknown", Action.QUERY_THEN_RETRY, False),
    -2: Callback("malformed message or decrypt failed", Action.RESEND_ONCE, True, at_the_door=True),
    -3: Callback("signature invalid", Action.ALERT, True, at_the_door=True),
    -4: Callback("duplicate reference", Action.TAKE_ORIGINAL, False),
    -5: Callback("timeout, outcome unknown", Action.RETRY_ON_BACKUP, False),
    -6: Callback("rejected by bank", Action.RETURN_FAILED, True),
    -7: Callback("customer not signed", Action.RETURN_REJECTED, True),
    -8: Callback("bank-side limit exceeded", Action.RETURN, True),
    -9: Callback("outside bank service window", Action.AWAIT_OPENING, True, at_the_door=True),
}
"""The one list of callback codes (gaps.md B-08)."""

SYSTEM_ERROR: Final = -1
DUPLICATE: Final = -4
TIMEOUT: Final = -5


def callback(code: int) -> Callback:
    """The meaning of a code; one outside the table says nothing certain, so it is treated as -1."""
    return CALLBACKS.get(code, CALLBACKS[SYSTEM_ERROR])
