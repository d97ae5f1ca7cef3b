"""What an emulated CMB or CMBC keeps: customers, transfers, what customers wish, pushes, movements of its book."""

from __future__ import annotations

from typing import NamedTuple

from core.wire.socket import TransferState
from core.wire.socket import messages as m
from emulators.book import Account

DEPOSIT, WITHDRAWAL, REVERSAL = "deposit", "withdraw", "reverse"
"""Kinds of transfers, by the names of their messages (`emulators.bst.faults.NAMES`)."""


class Customer:
    """A customer with one account per currency. ``markets``: mask of signed markets (A-43).

    ``used``: (is deposit, ccy) -> (business day, sum in minor units).
    """

    __slots__ = ("accounts", "card_no", "closed", "frozen", "id", "id_no_hash", "markets", "name", "used")

    def __init__(self, ident: str, name: str, id_no_hash: str, card_no: str, accounts: dict[str, Account]) -> None:
        self.id = ident
        self.name = name
        self.id_no_hash = id_no_hash
        self.card_no = card_no
        self.accounts = accounts
        self.markets = 0
        self.frozen = False
        self.closed = False
        self.used: dict[tuple[bool, str], tuple[str, int]] = {}


class Transfer:
    """A transfer that the bank has taken on. Amount in minor units, times in epoch ms.

    ``moved``: whether its money stands moved now; ``original``: what a reversal takes back.
    """

    __slots__ = ("amount", "ccy", "created_ms", "customer", "kind", "market", "moved", "original", "ref", "result",
                 "serial", "session", "settled_ms", "state")  # fmt: skip

    def __init__(
        self, ref: str, kind: str, customer: Customer, market: str, ccy: str, amount: int, created_ms: int,
        session: str, serial: str, original: Transfer | None = None,
    ) -> None:  # fmt: skip
        self.ref = ref
        self.kind = kind
        self.customer = customer
        self.market = market
        self.ccy = ccy
        self.amount = amount
        self.created_ms = created_ms
        self.session = session
        self.serial = serial
        self.original = original
        self.state = TransferState.PENDING
        self.result: int | None = None
        self.moved = False
        self.settled_ms = 0

    @property
    def to_broker(self) -> bool:
        """Whether its money goes to the broker."""
        return self.kind == DEPOSIT if self.original is None else self.original.kind == WITHDRAWAL


class Wish:
    """What a customer asked for at the bank: a deposit or withdrawal that waits for the opening, or a withdrawal that
    waits for the broker. ``status``: QUEUED, NOTED, then TAKEN, REFUSED, LAPSED, FAILED or CANCELLED."""

    __slots__ = ("amount", "ccy", "created_ms", "customer", "kind", "market", "ref", "status")

    def __init__(
        self, ref: str, kind: str, customer: Customer, market: str, ccy: str, amount: int, created_ms: int
    ) -> None:
        self.ref = ref
        self.kind = kind
        self.customer = customer
        self.market = market
        self.ccy = ccy
        self.amount = amount
        self.created_ms = created_ms
        self.status = "QUEUED"


class Started(NamedTuple):
    """What a customer's own request led to: its reference, or the code and text with which the bank refused it."""

    ref: str
    code: int = 0
    text: str = ""


class Plan(NamedTuple):
    """What becomes of an instruction: its answer's code, and its result after ``delay_us``.

    If the answer is -5 the result comes after ``late_us`` (or never, if it is not processed); so it does if it is
    ``interim``: -5 is then pushed as a result first.
    """

    answer: int
    processed: bool
    delay_us: int
    result: int
    late_us: int
    interim: bool = False


class Ruling(NamedTuple):
    """The bank's word on an instruction: a callback code, a text, and the transfer under that reference, if any."""

    code: int
    text: str = ""
    transfer: Transfer | None = None


class Booked(NamedTuple):
    """A movement between a customer and the broker: ``deposit`` if to the broker; amount in minor units."""

    session: str
    booked_ms: int
    op: str  # collect | pay | refund_collect | return_pay
    transfer: Transfer
    deposit: bool


class Push:
    """Something the bank has to tell. ``seq`` 0: a fragment of the reconciliation list, which is not numbered."""

    __slots__ = ("body", "command", "customer", "message", "sends", "seq", "session", "status")

    def __init__(self, seq: int, command: str, body: m.Body, session: str, customer: str) -> None:
        self.seq = seq
        self.command = command
        self.body = body
        self.session = session
        self.customer = customer
        self.message: m.Message | None = None
        self.sends = 0
        self.status = "WAITING"  # then ACKNOWLEDGED, UNDELIVERED or LOST

    @property
    def ref(self) -> str:
        """The transfer_ref it is about; empty for a notice or a list."""
        return getattr(self.body, "transfer_ref", "")


