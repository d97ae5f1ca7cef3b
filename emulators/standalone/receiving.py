"""What every statement bank standing alone has: customers who transfer to our accounts, a book, a telephone.

A bank's own class inherits this and adds its listeners, credentials and faults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import InvariantBroken
from emulators.book import OUTSIDE
from emulators.faults import FaultKind, Parameter
from emulators.office import Entry, Truth
from emulators.receiving import Payer, ReceivingBank
from emulators.standalone.customers import NewCustomer
from emulators.standalone.standing import Agreement, Movement, Refused, Unknown, aimed, named
from emulators.standalone.words import decimal


class StandingReceiving:
    """The shared part of `emulators.standalone.standing.Standing`."""

    actions: tuple[str, ...] = ()
    mandates = False
    faults: Mapping[str, FaultKind]
    aim: Mapping[str, Parameter]

    def __init__(self, bank: ReceivingBank) -> None:
        self.bank = bank.bank
        self._book = bank

    # Customers

    @property
    def currencies(self) -> tuple[str, ...]:
        return tuple(self._book.our_accounts)

    def add(self, customer: NewCustomer) -> None:
        account = customer.card_no or f"{self.bank}-{customer.id}"
        try:
            self._book.open_customer(
                customer.id, customer.name, {str(ccy): held for ccy, held in customer.balances.items()}, account)
        except InvariantBroken as error:
            raise Refused(f"{error}: choose another id or card_no") from None

    def customer(self, ident: str, card_no: str) -> str:
        if ident:
            return named(self._book.customers(), ident).id
        for one in self._book.customers():
            if one.account_no == card_no:
                return one.id
        raise Unknown(f"no account {card_no!r}: see GET /state")

    def customers(self) -> list[dict[str, Any]]:
        return [_shown(one) for one in self._book.customers()]

    # What customers do at the bank

    def deposit(self, movement: Movement) -> str:
        line = self._book.transfer(movement.customer, movement.ccy, movement.amount)
        if line is None:
            raise Refused(f"{movement.customer} has not that much {movement.ccy}")
        return line.reference

    def withdraw(self, movement: Movement) -> str:  # noqa: ARG002 - the shape of every bank
        raise Refused(f"{self.bank} only tells of what comes in: nobody calls money in from the broker here")

    def agree(self, agreement: Agreement) -> None:  # noqa: ARG002 - the shape of every bank
        raise Refused(f"a transfer to an account at {self.bank} needs no agreement")

    # Faults

    def put_fault(self, name: str, params: Mapping[str, Any]) -> str:
        aimed(params, self._book.customers())
        return self._book.fault(name, **params)

    def clear_fault(self, fault_id: str) -> None:
        self._book.clear(fault_id)

    def faults_in_force(self) -> list[dict[str, Any]]:
        return self._book.faults.shown()

    # The telephone, the book

    def accounts(self) -> dict[str, str]:
        """Our accounts there, as credentials name them."""
        return {f"account_{ccy.lower()}": number for ccy, number in self._book.our_accounts.items()}

    def inquire(self, reference: str) -> Truth:
        line = next((line for line in self._book.lines() if line.reference == reference), None)
        return Truth("NOT_RECEIVED", reference=reference) if line is None else \
            Truth("PAID", "", reference, line.booked_ms)

    def movements(self) -> list[Entry]:
        return [Entry(line.booked_ms, "receive" if line.credit else "charge", line.reference, "", line.ccy, line.amount,
                      line.customer) for line in self._book.lines()]

    def totals(self) -> dict[str, dict[str, int]]:
        """Money in minor units by currency and owner."""
        book = self._book.book
        return {ccy: {"broker": self._book.balance("broker", ccy), OUTSIDE: book.account(OUTSIDE, ccy).balance,
                      "customers": sum(one.accounts[ccy].balance for one in self._book.customers())}
                for ccy in self._book.our_accounts}


def _shown(one: Payer) -> dict[str, Any]:
    return {"id": one.id, "name": one.name, "card_no": one.account_no,
            "balances": {ccy: decimal(account.balance) for ccy, account in one.accounts.items()}}
