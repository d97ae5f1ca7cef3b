"""An emulated bank's own double-entry book. It shares nothing with the core's ledger: the two are compared.

Rules: amounts are integer minor units; every posting sums to zero per currency; an account with a floor never goes
below it. Money enters and leaves the bank through its account ``OUTSIDE``, so all balances of a currency sum to zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import InvariantBroken

OUTSIDE = "outside"
"""Owner of the bank's account with the rest of the world: it mirrors what all others hold."""


class Account:
    """One owner's balance in one currency; ``floor`` None allows any overdraft."""

    __slots__ = ("balance", "ccy", "floor", "owner")

    def __init__(self, owner: str, ccy: str, floor: int | None) -> None:
        self.owner = owner
        self.ccy = ccy
        self.floor = floor
        self.balance = 0

    def bears(self, delta: int) -> bool:
        """Whether the balance may change by ``delta``."""
        return delta >= 0 or self.floor is None or self.balance + delta >= self.floor


class Book:
    """All accounts of one bank, in the order in which they were opened."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, str], Account] = {}

    def open(self, owner: str, ccy: str, floor: int | None = 0) -> Account:
        """A new account with balance 0; an owner has one per currency."""
        if (owner, ccy) in self._accounts:
            raise InvariantBroken(f"{owner} already has an account in {ccy}")
        account = self._accounts[owner, ccy] = Account(owner, ccy, floor)
        return account

    def account(self, owner: str, ccy: str) -> Account:
        """The owner's account in a currency; KeyError if there is none."""
        return self._accounts[owner, ccy]

    def move(self, source: Account, target: Account, amount: int) -> bool:
        """Move ``amount`` > 0 from one account to another of the same currency; False if the source cannot bear it."""
        if amount <= 0 or source.ccy != target.ccy or source is target:
            raise InvariantBroken(f"{amount} from {source.owner} {source.ccy} to {target.owner} {target.ccy}")
        if source.floor is not None and source.balance - amount < source.floor:
            return False
        source.balance -= amount
        target.balance += amount
        return True

    def post(self, legs: Sequence[tuple[Account, int]]) -> bool:
        """Book several legs at once, all or none; False if an account cannot bear its sum of legs."""
        sums: dict[str, int] = {}
        per_account: dict[tuple[str, str], int] = {}
        for account, delta in legs:
            sums[account.ccy] = sums.get(account.ccy, 0) + delta
            key = (account.owner, account.ccy)
            per_account[key] = per_account.get(key, 0) + delta
        if any(sums.values()):
            raise InvariantBroken(f"a posting does not sum to zero: {sums}")
        if not all(self._accounts[key].bears(delta) for key, delta in per_account.items()):
            return False
        for key, delta in per_account.items():
            self._accounts[key].balance += delta
        return True

    def balances(self) -> dict[tuple[str, str], int]:
        """(owner, currency) -> minor units."""
        return {key: account.balance for key, account in self._accounts.items()}

    def check(self) -> None:
        """`InvariantBroken` unless every currency sums to zero and no account is below its floor."""
        sums: dict[str, int] = {}
        for account in self._accounts.values():
            sums[account.ccy] = sums.get(account.ccy, 0) + account.balance
            if account.floor is not None and account.balance < account.floor:
                raise InvariantBroken(f"{account.owner} {account.ccy} is at {account.balance}")
        if any(sums.values()):
            raise InvariantBroken(f"the bank's book does not sum to zero: {sums}")
