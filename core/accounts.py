"""Which trading account a customer's money belongs to: asked of the account service (words-level port)."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class CardHolder(NamedTuple):
    """Whose card it is; ``name`` as the bank knows the customer, ``en_name`` in English letters."""

    uid: int
    card_id: int
    name: str
    en_name: str


class Accounts(Protocol):
    """Customers and their trading accounts."""

    async def trade_account(self, uid: int, market: int) -> int:
        """The trading account that a bank-initiated transfer for this market goes to."""

    async def owns_card(self, uid: int, bank: str, card_no: str) -> bool:
        """Whether the card at that bank is bound and belongs to the customer (SBA-WD-046)."""

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        """Withdrawable settled cash in minor units (B-41)."""

    async def card_no(self, card_id: int) -> str:
        """The number of a bound card."""

    async def card_holder(self, bank: str, card_no: str) -> CardHolder | None:
        """Who holds the card with this number at that bank, or None if no customer has bound it."""

    async def risk_level(self, uid: int) -> int:
        """The customer's risk level, 1 (low) to 5 (gaps.md B-10)."""

    async def unbind_card(self, uid: int, bank: str, card_no: str, reason: str) -> bool:
        """Take the card off the customer, who must bind it again to use it (ADR-007); False if it was not bound."""
