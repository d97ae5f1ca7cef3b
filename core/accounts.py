"""Which trading account a customer's money belongs to: asked of the account service (words-level port)."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class CardHolder(NamedTuple):
    """Whose card it is; ``name`` as the bank knows the customer, ``en_name`` in English letters. ``verified``: nothing
    needs to verify the card any more."""

    uid: int
    card_id: int
    name: str
    en_name: str
    verified: bool = False


class CustomerNames(NamedTuple):
    """A customer's names as the account service knows them."""

    en_name: str
    cn_name: str = ""


class Customers(Protocol):
    """Customers and their trading accounts, without their cards: what the platform's own card room builds on."""

    async def trade_account(self, uid: int, market: int) -> int:
        """As `Accounts.trade_account`."""

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        """As `Accounts.settled_cash`."""

    async def risk_level(self, uid: int) -> int:
        """As `Accounts.risk_level`."""

    async def names(self, uid: int) -> CustomerNames | None:
        """The names of a customer, or None if there is no such customer."""


class Accounts(Protocol):
    """Customers, their trading accounts and their cards."""

    async def trade_account(self, uid: int, market: int) -> int:
        """The trading account that a bank-initiated transfer for this market goes to."""

    async def owns_card(self, uid: int, bank: str, card_no: str) -> bool:
        """Whether the card at that bank is bound, verified and the customer's (SBA-WD-046, APPR-12)."""

    async def pays_to(self, uid: int, card_id: int, bank: str, card_no: str) -> bool:
        """As `owns_card` for the card with this id, and written there: an unbinding that did not know of a withdrawal
        to it does not happen any more. Asked again it counts again, which does no harm."""

    async def has_bound(self, uid: int, bank: str, card_no: str) -> bool:
        """Whether the customer has bound the card, verified or not yet: enough to announce a transfer from it."""

    async def verify_card(self, uid: int, bank: str, card_no: str) -> bool:
        """Money came from a bound card under its holder's name: that verifies it (B-40); False if nothing changed."""

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        """Withdrawable settled cash in minor units (B-41)."""

    async def card_no(self, card_id: int) -> str:
        """The number of a card, bound or no more: what is on its way goes on."""

    async def card_holder(self, bank: str, card_no: str) -> CardHolder | None:
        """Who holds the card with this number at that bank, or None if no customer has bound it or it is frozen: the
        holder for whom `has_bound` says so."""

    async def risk_level(self, uid: int) -> int:
        """The customer's risk level, 1 (low) to 5 (gaps.md B-10)."""

    async def unbind_card(self, uid: int, bank: str, card_no: str, reason: str) -> bool:
        """Take the card off the customer, who must bind it again to use it (ADR-007); False if it was not bound."""
