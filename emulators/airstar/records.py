"""What the emulated bank keeps: customers, mandates, instructions, customers' own requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from core.domain import MANDATE_MOVES, MandateStatus
from core.errors import InvariantBroken
from core.wire.airstar import TransactionStatus
from emulators.book import Account
from emulators.office import Entry as Entry
from emulators.office import Truth as Truth

IN, OUT, REFUND = "IN", "OUT", "REFUND"
"""Directions of what the bank lists: to the broker, to the customer, a credited deposit taken back."""


class Customer:
    """A customer of the bank with one account per currency. ``used``: (is deposit, ccy) -> (day, sum)."""

    __slots__ = ("accounts", "card_no", "closed", "frozen", "id", "id_no_hash", "name", "used")

    def __init__(self, ident: str, name: str, id_no_hash: str, card_no: str, accounts: dict[str, Account]) -> None:
        self.id = ident
        self.name = name
        self.id_no_hash = id_no_hash
        self.card_no = card_no
        self.accounts = accounts
        self.frozen = False
        self.closed = False
        self.used: dict[tuple[bool, str], tuple[int, int]] = {}


class Mandate:
    """An authorization. ``markets`` were asked for; ``market_mask`` has their flags once it has been OPEN (AIR-01)."""

    __slots__ = ("client_ref", "customer", "fail_code", "id", "market_mask", "markets", "status")

    def __init__(self, ident: str, client_ref: str, customer: Customer, markets: int) -> None:
        self.id = ident
        self.client_ref = client_ref
        self.customer = customer
        self.markets = markets
        self.market_mask = 0
        self.status = MandateStatus.INIT
        self.fail_code = 0

    def move(self, to: MandateStatus) -> None:
        """One of the moves of gaps.md B-06; any other is our own fault."""
        if to not in MANDATE_MOVES[self.status]:
            raise InvariantBroken(f"mandate {self.id} cannot move from {self.status.name} to {to.name}")
        self.status = to
        if to is MandateStatus.OPEN:
            self.market_mask = self.markets


class Transaction:
    """A deposit or a withdrawal at the bank.

    ``status`` is what the API shows, ``truth`` what the back office knows; ``moved`` whether money stands moved now.
    Amount in minor units, times in epoch ms, ``settled_ms`` 0 until the bank has worked on it.
    """

    __slots__ = ("amount", "ccy", "created_ms", "deposit", "fail_code", "given_id", "mandate", "market", "moved",
                 "number", "ref", "relist", "settled_ms", "status", "stuck", "truth")  # fmt: skip

    def __init__(
        self, ref: str, deposit: bool, mandate: Mandate, market: int, ccy: str, amount: int, created_ms: int,
        given_id: str = "",
    ) -> None:  # fmt: skip
        self.ref = ref
        self.deposit = deposit
        self.mandate = mandate
        self.market = market
        self.ccy = ccy
        self.amount = amount
        self.created_ms = created_ms
        self.given_id = given_id
        self.number = 0
        self.settled_ms = 0
        self.fail_code = 0
        self.status = TransactionStatus.PENDING
        self.truth = TransactionStatus.PENDING
        self.moved = False
        self.stuck = False
        self.relist = False

    @property
    def id(self) -> str:
        """The bank's id (request_id): spelt out when asked for, since a bank keeps very many of these."""
        return self.given_id or f"{'AD' if self.deposit else 'AW'}{self.number:012d}"


class Transactions:
    """All instructions that the bank has accepted, found by the bank's id or by the broker's reference."""

    def __init__(self) -> None:
        self._all: list[Transaction] = []
        self._by_ref: dict[str, Transaction] = {}
        self._by_given_id: dict[str, Transaction] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Transaction]:
        return iter(self._all)

    def add(self, transaction: Transaction) -> None:
        """Take a new one in and number it."""
        transaction.number = len(self._all)
        self._all.append(transaction)
        self._by_ref[transaction.ref] = transaction
        if transaction.given_id:
            self._by_given_id[transaction.given_id] = transaction

    def by_ref(self, ref: str) -> Transaction | None:
        """The one under a broker's reference."""
        return self._by_ref.get(ref)

    def by_id(self, ident: str) -> Transaction | None:
        """The one with a bank's id."""
        digits = ident[2:]
        if digits.isascii() and digits.isdigit() and int(digits) < len(self._all):
            found = self._all[int(digits)]
            if found.id == ident:
                return found
        return self._by_given_id.get(ident)


class CustomerRequest:
    """What a customer began at the bank: NEW, then ACCEPTED or REFUSED by the broker, or WITHDRAWN by the customer."""

    __slots__ = ("amount", "ccy", "created_ms", "direction", "id", "mandate", "market", "paid_by", "status")

    def __init__(
        self, ident: str, direction: str, mandate: Mandate, market: int, ccy: str, amount: int, created_ms: int,
        status: str = "NEW",
    ) -> None:  # fmt: skip
        self.id = ident
        self.direction = direction
        self.mandate = mandate
        self.market = market
        self.ccy = ccy
        self.amount = amount
        self.created_ms = created_ms
        self.status = status
        self.paid_by: Transaction | None = None


class Started(NamedTuple):
    """What a customer's own request led to: its id, or the code with which the bank refused it."""

    request_id: str
    code: int = 0
