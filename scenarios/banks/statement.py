"""What every bank whose statements we collect has in a world: customers who transfer to our accounts there.

A bank's own class inherits this and adds its servers (`open`), the lines to them (`lines`) and its faults (`inject`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from core.domain import Market
from core.storage import Databases
from emulators.office import Truth
from emulators.receiving import Line, ReceivingBank
from scenarios.banks.bank import BankInWorld, Life, Site, Tell
from scenarios.population import BankCard, Customer
from scenarios.workload import Kind

KILLED_AT: Final = ("statement", "match")
"""Events after whose commit a core may be killed: an entry was kept or supplemented, a match made or taken apart."""


def kills(banks: Iterable[str]) -> dict[str, str]:
    """Where the core may be killed -> what has just been committed there."""
    return {f"{kind}:{bank}": f"{kind} {bank}" for bank in banks for kind in KILLED_AT}


NO_SUCH_SERVICE, NO_MONEY = -1, -2
"""Codes of `ReceivingInWorld.ask`: the bank does nothing of that kind; the customer has not got the money."""


class StatementBank(BankInWorld, Protocol):
    """A statement bank in a world."""

    bank: Any

    def lines(self, life: Life) -> Any:
        """What one core's collector is given to reach the bank."""

    def pay(self, customer: Customer, ccy: str, amount: int, *, payer_name: str | None = None,
            remark: str = "") -> Line | None:
        """The customer transfers money to our account; None without the money. ``payer_name``: as the statement is to
        show it, where that is not the customer's name ("" for none)."""


class ReceivingInWorld:
    """The shared part."""

    def __init__(self, name: str, title: str, site: Site, bank: ReceivingBank) -> None:
        self.name, self.title, self.bank = name, title, bank
        self._site = site

    async def close(self) -> None:
        """Nothing of its own: the places close what they opened."""

    # Customers

    def enroll(self, customer: Customer, card: BankCard) -> None:
        self.bank.open_customer(customer.id, customer.name, customer.at_bank, card.number)

    async def adopt(self, customer: Customer, card: BankCard, databases: Databases) -> None:
        """An ordinary account needs no authorization."""

    def pay(self, customer: Customer, ccy: str, amount: int, *, payer_name: str | None = None,
            remark: str = "") -> Line | None:
        return self.bank.transfer(customer.id, ccy, amount, payer_name=payer_name, remark=remark)

    def ask(self, customer: Customer, kind: Kind, market: Market, ccy: str, amount: int) -> int:  # noqa: ARG002
        """A transfer that no application announces."""
        if kind != "deposit" or ccy not in self.bank.our_accounts:
            return NO_SUCH_SERVICE
        return 0 if self.pay(customer, ccy, amount) is not None else NO_MONEY

    def suspend(self, customer: Customer) -> Tell | None:  # noqa: ARG002 - there is no authorization
        return None

    def balance(self, customer: Customer, ccy: str) -> int:
        return self.bank.balance(customer.id, ccy)

    # The telephone

    def inquire(self, reference: str) -> Truth:
        booked = next((line for line in self.bank.lines() if line.reference == reference), None)
        return Truth("NOT_RECEIVED") if booked is None else Truth("PAID", "", reference, booked.booked_ms)

    def untold(self) -> Iterable[str]:
        """None that the bank could know of: it is asked, or writes files."""
        return ()

    def publish(self, request_id: str) -> bool:  # noqa: ARG002 - nothing is stuck here
        return False


