"""Money: integer minor units with a currency, never a float.

All currencies the platform knows have two decimals (gaps.md B-52), so one minor unit is a cent. On the
wire an amount is a string with exactly two decimals; it becomes minor units in the adapter and nowhere else.
"""

from __future__ import annotations

import re
from enum import StrEnum

from core.errors import InvalidAmount

MINOR_PER_MAJOR = 100
_WIRE = re.compile(r"(\d{1,15})\.(\d{2})", re.ASCII)


class Currency(StrEnum):
    """Currencies of the platform. SWIFT's CNY is CNH here; adapters translate."""

    HKD = "HKD"
    USD = "USD"
    CNH = "CNH"


def parse_wire(text: str) -> int:
    """Minor units of a wire amount such as ``"1234.50"``; raises `InvalidAmount` for anything else."""
    match = _WIRE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidAmount(f"amount {text!r} is not digits, a point and two decimals (such as '1234.50')")
    return int(match[1]) * MINOR_PER_MAJOR + int(match[2])


def format_wire(minor: int) -> str:
    """Wire form of a non-negative amount: ``123450`` -> ``"1234.50"``."""
    if minor < 0:
        raise InvalidAmount(f"a wire amount cannot be negative: {minor} minor units")
    return f"{minor // MINOR_PER_MAJOR}.{minor % MINOR_PER_MAJOR:02d}"


def show(minor: int, currency: str = "") -> str:
    """For people: thousands separated, two decimals, the currency behind."""
    sign = "-" if minor < 0 else ""
    whole, cents = divmod(abs(minor), MINOR_PER_MAJOR)
    return f"{sign}{whole:,}.{cents:02d}{' ' + currency if currency else ''}"
