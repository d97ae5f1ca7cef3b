"""What an emulated bank's back office says on the telephone and in a statement."""

from __future__ import annotations

from typing import NamedTuple


class Truth(NamedTuple):
    """What the bank's back office says on the phone about a reference.

    ``status``: NOT_RECEIVED (the bank never got it), PENDING (not worked on yet), PAID, NOT_PAID or REFUNDED.
    """

    status: str
    request_id: str = ""
    reference: str = ""
    booked_ms: int = 0


class Entry(NamedTuple):
    """One movement in the bank's book between a customer and the broker; amount in minor units, always positive."""

    booked_ms: int
    op: str  # collect | pay | refund_collect | return_pay
    ref: str
    request_id: str
    ccy: str
    amount: int
    customer: str
