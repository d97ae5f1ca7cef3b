"""A line of the bank's statement as an MT910, and the names of its files."""

from __future__ import annotations

from datetime import datetime

from core.clock import HKT, MS_PER_S
from core.money import format_wire
from core.wire.mt910 import Mt910, Party, encode, wrapped
from emulators.hsbc.values import HsbcValues
from emulators.receiving import Line

_ON_THE_WIRE = {"CNH": "CNY"}
NO_REFERENCE = "NONREF"


def message_of(line: Line, values: HsbcValues) -> bytes:
    """The confirmation of a credit. A payer without a name is told by the ordering institution."""
    booked = datetime.fromtimestamp(line.booked_ms // MS_PER_S, HKT)
    name = wrapped(line.payer_name)
    account = (f"/{line.payer_account}"[:35],) if line.payer_account else ()
    told = wrapped(f"(BNF) {line.remark}", most=6) if line.remark else ()
    return encode(Mt910(
        line.reference, NO_REFERENCE, line.our_account, booked.date(), _ON_THE_WIRE.get(line.ccy, line.ccy),
        format_wire(line.amount).replace(".", ","), booked.replace(second=0, microsecond=0),
        customer=Party("K", (*account, *name)) if name else None,
        institution=None if name else Party("A", (values.bic,)),
        narrative=tuple(part.replace("(BNF) ", "/BNF/", 1) for part in told),
        basic=f"F01{values.to}{line.seq % 10_000:04d}{line.seq % 1_000_000:06d}",
        application=f"O910{booked:%H%M%y%m%d}{values.terminal}{line.seq % 10_000:04d}{line.seq % 1_000_000:06d}"
                    f"{booked:%y%m%d%H%M}N",
        user=f"{{108:{line.reference}}}"))


def file_name(our_account: str, at_ms: int, number: int) -> str:
    """``MT910_{acct}_{YYYYMMDDHHMMSS}_{nnn}.txt.gpg`` (gaps.md B-20)."""
    at = datetime.fromtimestamp(at_ms // MS_PER_S, HKT)
    return f"MT910_{our_account}_{at:%Y%m%d%H%M%S}_{number % 1_000:03d}.txt.gpg"
