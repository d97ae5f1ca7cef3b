"""One entry of a bank's statement, in the platform's words: what every collector hands over and matching consumes."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One movement on one of our accounts. ``amount`` in minor units, always positive; moments epoch ms.

    ``bank_ref`` is the bank's own reference, unique for its account for ever: the same entry told twice is known by it.
    ``raw`` is what the bank said, as text, for people and for the raw table (A-10).
    """

    bank: str
    our_account: str
    bank_ref: str
    ccy: str
    amount: int
    dr_cr: str  # C: money came to us, D: it left
    credit_time: int
    seq_no: str = ""
    balance: int | None = None
    en_name: str = ""
    payer_acct: str = ""
    remark: str = ""
    raw: str = ""
