"""What an emulated direct-debit interface keeps: debtors at any bank, authorisations, debits."""

from __future__ import annotations

from core.errors import InvariantBroken
from core.wire.edda import AuthorisationStatus, DebitStatus
from emulators.book import Account

_MOVES: dict[AuthorisationStatus, tuple[AuthorisationStatus, ...]] = {
    AuthorisationStatus.PENDING: (AuthorisationStatus.ACTIVE, AuthorisationStatus.REJECTED),
    AuthorisationStatus.ACTIVE: (AuthorisationStatus.SUSPENDED, AuthorisationStatus.CANCELLED),
    AuthorisationStatus.SUSPENDED: (AuthorisationStatus.ACTIVE, AuthorisationStatus.CANCELLED),
}


class Debtor:
    """A customer with an account at some bank; ``accounts``: by currency."""

    __slots__ = ("account_no", "accounts", "bank", "closed", "id", "name")

    def __init__(self, ident: str, bank: str, account_no: str, name: str, accounts: dict[str, Account]) -> None:
        self.id, self.bank, self.account_no, self.name, self.accounts = ident, bank, account_no, name, accounts
        self.closed = False


class Authorisation:
    """An eDDA authorisation. ``debtor`` is None for an account that nobody has."""

    __slots__ = ("ccy", "debtor", "expiry", "id", "limit", "reason", "reference", "status")

    def __init__(self, ident: str, reference: str, debtor: Debtor | None, ccy: str, limit: int,
                 expiry: int | None) -> None:
        self.id, self.reference, self.debtor = ident, reference, debtor
        self.ccy, self.limit, self.expiry = ccy, limit, expiry
        self.status = AuthorisationStatus.PENDING
        self.reason = ""

    def move(self, to: AuthorisationStatus, reason: str = "") -> None:
        """One of the moves of B-25; any other is our own fault."""
        if not self.may(to):
            raise InvariantBroken(f"{self.id} cannot move from {self.status} to {to}")
        self.status, self.reason = to, reason

    def may(self, to: AuthorisationStatus) -> bool:
        """Whether it may move there."""
        return to in _MOVES.get(self.status, ())


class Debit:
    """An eDDI debit. ``status`` is what the interface shows, ``truth`` what the back office knows; times epoch ms."""

    __slots__ = ("accepted_ms", "amount", "authorisation", "ccy", "id", "reason", "reference", "settled_ms", "shown",
                 "status", "truth")

    def __init__(self, ident: str, reference: str, authorisation: Authorisation, ccy: str, amount: int,
                 accepted_ms: int) -> None:
        self.id, self.reference, self.authorisation = ident, reference, authorisation
        self.ccy, self.amount, self.accepted_ms = ccy, amount, accepted_ms
        self.status = self.truth = DebitStatus.PROCESSING
        self.reason = ""
        self.settled_ms = 0
        self.shown = True
