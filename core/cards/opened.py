"""What follows when a bank opens an authorization for a card, in the transaction that records it (gaps.md B-40)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from core.storage import Transaction

Opened = Callable[[Transaction, int], Awaitable[Any]]
"""Given the transaction on the account database, and the card's id."""


async def nothing_follows(_tx: Transaction, _card_id: int) -> None:
    """Where nobody keeps cards."""
