"""A bank that keeps our receiving accounts: what customers transfer there, and the statement it makes of it.

The part that every statement bank shares: its customers and their money, our accounts, a double-entry book, and the
lines of the statement in the bank's own order. How a line is told to us (pulled, pushed, in a file) is each bank's own.
It shares nothing with the core: the core hears only what the bank's protocol tells.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from core.clock import Clock
from core.errors import InvariantBroken, Misconfigured
from core.trace import Trace
from emulators.book import OUTSIDE, Account, Book
from emulators.faults import FaultsInForce

BROKER: Final = "broker"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the statement of one of our accounts; amounts in minor units, ``balance`` is ours after it."""

    seq: int
    booked_ms: int
    our_account: str
    ccy: str
    amount: int
    credit: bool
    balance: int
    reference: str
    payer_name: str
    payer_account: str
    remark: str
    customer: str = ""


@dataclass(frozen=True, slots=True)
class Payer:
    """A customer of the bank."""

    id: str
    name: str
    account_no: str
    accounts: dict[str, Account] = field(default_factory=dict)


class ReceivingBank:
    """``bank``: its code in settings and traces. ``our_accounts``: currency -> number (settings ``receiving``).

    A bank's own class makes ``faults`` of its table."""

    faults: FaultsInForce

    def __init__(
        self, bank: str, clock: Clock, trace: Trace, our_accounts: Mapping[str, str],
        reference: Callable[[int], str] | None = None,
    ) -> None:
        """``reference``: the bank's own reference of its n-th line; by default the code and twelve digits."""
        self.bank = bank
        self.book = Book()
        self.our_accounts = dict(our_accounts)
        self._clock, self._emit = clock, trace.emit
        self._reference = reference or (lambda number: f"{bank.upper()}{number:012d}")
        self._payers: dict[str, Payer] = {}
        self._by_account: dict[str, Payer] = {}
        self._lines: dict[int, Line] = {}
        self._of_account: dict[str, list[int]] = {account: [] for account in self.our_accounts.values()}
        self._ever: list[Line] = []
        self._number = 0
        self._hearers: list[Callable[[Line], None]] = []
        self._broker: dict[str, Account] = {}
        for ccy in our_accounts:
            self.book.open(OUTSIDE, ccy, floor=None)
            self._broker[ccy] = self.book.open(BROKER, ccy)

    # Faults

    def fault(self, name: str, **params: Any) -> str:
        """Put a fault in force; gives its id."""
        return self.faults.put(name, params)

    def clear(self, fault_id: str) -> None:
        """End a fault."""
        self.faults.clear(fault_id)

    # Customers

    def open_customer(self, customer_id: str, name: str, balances: Mapping[str, int], account_no: str) -> None:
        """A customer with money in the currencies in which we have an account here."""
        if customer_id in self._payers or account_no in self._by_account:
            raise InvariantBroken(f"customer {customer_id} or account {account_no} exists")
        payer = Payer(customer_id, name, account_no)
        for ccy in self.our_accounts:
            account = payer.accounts[ccy] = self.book.open(customer_id, ccy)
            if balances.get(ccy, 0):
                self.book.move(self.book.account(OUTSIDE, ccy), account, balances[ccy])
        self._payers[customer_id] = self._by_account[account_no] = payer

    def top_up(self, customer_id: str, ccy: str, amount: int) -> None:
        """Money from outside the bank arrives on a customer's account."""
        self._ours(ccy)
        self.book.move(self.book.account(OUTSIDE, ccy), self._payers[customer_id].accounts[ccy], amount)

    def balance(self, owner: str, ccy: str) -> int:
        """Of a customer, or of `BROKER`; 0 in a currency in which we have no account here."""
        return self.book.account(owner, ccy).balance if ccy in self.our_accounts else 0

    def customers(self) -> list[Payer]:
        """All customers, in the order in which they came."""
        return list(self._payers.values())

    # Movements, all in currencies that are kept here: any other raises `Misconfigured`

    def _ours(self, ccy: str) -> Account:
        if ccy not in self._broker:
            raise Misconfigured(f"we have no account in {ccy} at {self.bank}",
                                where=f"receiving.{self.bank}.accounts",
                                remedy=f"pay in {', '.join(self._broker)}, or give an account number for {ccy}")
        return self._broker[ccy]

    def transfer(
        self, customer_id: str, ccy: str, amount: int, *, payer_name: str | None = None,
        payer_account: str | None = None, remark: str = "",
    ) -> Line | None:
        """A customer of the bank pays us; None without the money. ``payer_name`` and ``payer_account`` as the statement
        shows them, where that is not what the bank knows."""
        ours, payer = self._ours(ccy), self._payers[customer_id]
        if not self.book.move(payer.accounts[ccy], ours, amount):
            return None
        return self._book(ccy, amount, True, payer.name if payer_name is None else payer_name,
                          payer.account_no if payer_account is None else payer_account, remark, customer_id)

    def receive(self, ccy: str, amount: int, *, payer_name: str, payer_account: str = "", remark: str = "") -> Line:
        """Money for us from somebody at another bank."""
        ours = self._ours(ccy)
        self.book.move(self.book.account(OUTSIDE, ccy), ours, amount)
        return self._book(ccy, amount, True, payer_name, payer_account, remark, "")

    def charge(self, ccy: str, amount: int, remark: str) -> Line | None:
        """Money leaves our account (a fee, our own transfer); None if it does not bear it."""
        ours = self._ours(ccy)
        if not self.book.move(ours, self.book.account(OUTSIDE, ccy), amount):
            return None
        return self._book(ccy, amount, False, "", "", remark, "")

    def refund(self, reference: str) -> Line:
        """The bank takes a credit back, gives the customer the money, and *deletes* the line (ICBC type 1). Balances of
        later lines stay as they were printed: what a re-pull shows is `lines`."""
        line = next(line for line in self._lines.values() if line.reference == reference)
        target = self.book.account(line.customer or OUTSIDE, line.ccy)
        if not line.credit or not self.book.move(self._broker[line.ccy], target, line.amount):
            raise InvariantBroken(f"{reference} cannot be taken back")
        del self._lines[line.seq]
        self._tell("refund_receive", line)
        return line

    def _book(
        self, ccy: str, amount: int, credit: bool, name: str, account: str, remark: str, customer: str
    ) -> Line:
        self._number += 1
        line = Line(self._number, self._clock.now_ms(), self.our_accounts[ccy], ccy, amount, credit,
                    self._broker[ccy].balance, self._reference(self._number), name, account, remark, customer)
        self._lines[line.seq] = line
        self._of_account.setdefault(line.our_account, []).append(line.seq)
        self._ever.append(line)
        self._tell("receive" if credit else "charge", line)
        for hear in self._hearers:
            hear(line)
        return line

    def _tell(self, op: str, line: Line) -> None:
        self._emit("bank.book", line.reference, {
            "bank": self.bank, "op": op, "ref": line.reference, "request_id": "", "ccy": line.ccy,
            "amount": line.amount, "customer": line.customer})

    # The statement

    def listen(self, hear: Callable[[Line], None]) -> None:
        """Call this with every new line, at the moment it is booked."""
        self._hearers.append(hear)

    def lines(self, our_account: str | None = None, after_seq: int = 0) -> Iterator[Line]:
        """The lines of one account, or of all, that stand in the statement now, in the bank's order."""
        if our_account is None:
            return (line for line in self._lines.values() if line.seq > after_seq)
        seqs = self._of_account.get(our_account, [])  # rising; those that have vanished from the statement among them
        return (line for seq in islice(seqs, bisect_right(seqs, after_seq), None)
                if (line := self._lines.get(seq)) is not None)

    def ever(self) -> list[Line]:
        """Every movement of the book as it was booked, whatever the statement shows of it."""
        return self._ever

    def replace(self, line: Line) -> None:
        """Let the statement show a line otherwise (a fault of the bank's); the book does not change."""
        self._lines[line.seq] = line
        self._lines = dict(sorted(self._lines.items()))

    def strike(self, seq: int) -> None:
        """Let a line vanish from the statement (a fault of the bank's); the book does not change."""
        del self._lines[seq]
