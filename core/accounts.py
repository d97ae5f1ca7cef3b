"""Which trading account a customer's money belongs to: asked of the account service (words-level port)."""

from __future__ import annotations

from typing import Protocol


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
