"""`bank-card/`: what older clients read of a customer's cards, in their words (architecture.md §2.5, §4; COMM-02).

A card is shown with its last four digits only. Every word that a client gets is here, so that the HTTP face adds
nothing: `get_list` reads, all else is asked of the card room.
"""

from __future__ import annotations

from typing import Any

from core.cards.bank_cards import STATUS_NAMES, UNBOUND, BankCards, Card


async def get_list(cards: BankCards, uid: int, *, unbound: bool = False) -> list[dict[str, Any]]:
    """``/bank_card/get_list``: the cards of a customer in the order of binding; on request those he has unbound too."""
    return [shown(card, bank) for card, bank in await cards.of_customer(uid) if unbound or card.status != UNBOUND]


def shown(card: Card, bank_name: str = "") -> dict[str, Any]:
    """A card in the words of older clients; moments in epoch milliseconds."""
    return {
        "card_id": card.id, "uid": card.uid, "bank_code": card.bank_code, "bank_name": bank_name or card.bank_code,
        "card_no": f"**** {card.last4}", "card_type": card.card_type,
        "ccy_list": card.ccy_list.split(",") if card.ccy_list else [], "holder_name": card.holder_name,
        "status": card.status, "status_name": STATUS_NAMES[card.status], "verified_by": card.verified_by,
        "bound_at": card.bound_at, "unbind_reason": card.unbind_reason}
