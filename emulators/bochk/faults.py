"""What can be made to go wrong at the emulated BOCHK: one literal table.

A fault strikes a B2E message, a line as it is booked, the bank's counter, an S16 file as it is written, or the FTP
server. Every fault takes the parameters of `AIM` besides its own. Source: gaps.md B-46; protocols.md, BOCHK.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from core.wire.bochk_b2e import MESSAGES, SIGN_ON
from emulators.faults import AIM as COMMON_AIM
from emulators.faults import (
    AIM_ALLOWED,
    Allowed,
    FaultKind,
    FaultTable,
    Parameter,
    among,
    among_or_none,
    seconds,
    yes_or_no,
)


class Strikes(Enum):
    """Where in the bank a fault takes hold."""

    ARRIVAL = "before the bank looks at a message"
    REPLY = "after the bank has acted, on the way back"
    LINE = "when a line is booked"
    COUNTER = "the bank's count of lines"
    FILE = "when an S16 file is written"
    SERVER = "the FTP server"


CUT, ENTITY, OVERSIZED = "cut", "entity", "oversized"
S16: Final = "S16"
_EVERY = tuple(MESSAGES)
_LISTINGS = tuple(name for name in MESSAGES if name != SIGN_ON)
_FILE = frozenset({Strikes.FILE})
_REPLY = frozenset({Strikes.REPLY})

AIM: Final[dict[str, Parameter]] = {
    "message": Parameter(None, f"only this message: {', '.join(MESSAGES)}"),
    "reference": Parameter(None, "only this PackageId, reference of a line, account or name of a file"),
    **COMMON_AIM,
}

FAULTS: Final[dict[str, FaultKind]] = {
    "expired_session": FaultKind(
        "the bank does not know the session's token any more", frozenset({Strikes.ARRIVAL}), _LISTINGS, {}),
    "duplicate_package": FaultKind(
        "the bank takes a fresh PackageId for used", frozenset({Strikes.ARRIVAL}), _EVERY, {}),
    "error": FaultKind(
        "the bank answers 9999", frozenset({Strikes.ARRIVAL}), _EVERY, {}),
    "timeout": FaultKind(
        "no answer comes", frozenset({Strikes.ARRIVAL, Strikes.REPLY}), _EVERY,
        {"processed": Parameter(True, "whether the bank has acted on the message")}),
    "slow": FaultKind(
        "the answer takes longer", _REPLY, _EVERY, {"delay_s": Parameter(5.0, "seconds added to the answer")}),
    "foreign_reply": FaultKind(
        "the answer carries another PackageId than the request", _REPLY, _EVERY, {}),
    "malformed": FaultKind(
        "the answer is no document of the protocol", _REPLY, _EVERY,
        {"how": Parameter(CUT, f"{CUT}: it breaks off; {ENTITY}: a DTD with an external entity; {OVERSIZED}")}),
    "duplicate_rows": FaultKind(
        "a listing shows every row twice", _REPLY, _LISTINGS, {}),
    "back_inserted": FaultKind(
        "a line appears late, at the place at which it was booked", frozenset({Strikes.LINE}), _LISTINGS,
        {"hidden_s": Parameter(5_400.0, "seconds from booking to the first listing that shows it")}),
    "missing_names": FaultKind(
        "real-time records do not show the customer's name", frozenset({Strikes.LINE}), _LISTINGS, {}),
    "seq_reset": FaultKind(
        "the bank counts its seq_no anew", frozenset({Strikes.COUNTER}), (), {}),
    "s16_missing": FaultKind("a period's file is never written", _FILE, (S16,), {}),
    "s16_late": FaultKind(
        "a period's file is written later", _FILE, (S16,), {"delay_s": Parameter(5_400.0, "seconds added")}),
    "s16_partial": FaultKind(
        "a period's file is shown before it is whole", _FILE, (S16,),
        {"whole_s": Parameter(900.0, "seconds until it is whole")}),
    "s16_garbled": FaultKind("a line of the file is damaged", _FILE, (S16,), {}),
    "s16_wrong_trailer": FaultKind("the trailer is not that of the records", _FILE, (S16,), {}),
    "s16_unknown_prefix": FaultKind(
        "references begin otherwise than we know", _FILE, (S16,),
        {"prefix": Parameter("BE2026C", "what stands before the seq_no")}),
    "s16_stranger": FaultKind("a record of which no statement tells", _FILE, (S16,), {}),
    "s16_unnamed": FaultKind("records show no name", _FILE, (S16,), {}),
    "s16_old_format": FaultKind("the file is written under a name of S14", _FILE, (S16,), {}),
    "ftp_down": FaultKind(
        "the FTP server turns everybody away", frozenset({Strikes.SERVER}), (), {}),
}
"""name -> what it does, where it strikes, what it is aimed at, its own parameters."""


def _place(kind: FaultKind, params: Mapping[str, Any]) -> Enum:
    """Where a fault with these parameters takes hold: of its places, the one that they choose."""
    if len(kind.strikes) == 1:
        return next(iter(kind.strikes))
    return Strikes.REPLY if params["processed"] else Strikes.ARRIVAL


_ALLOWED: Final[Allowed] = {
    **AIM_ALLOWED,
    "message": among_or_none(MESSAGES),
    "processed": yes_or_no,
    "delay_s": seconds,
    "hidden_s": seconds,
    "whole_s": seconds,
    "how": among((CUT, ENTITY, OVERSIZED)),
    "prefix": lambda value: isinstance(value, str) and 0 < len(value) <= 16 and value.isascii() and value.isalnum(),
}
"""Parameter -> what it may be."""

TABLE: Final = FaultTable("bochk", FAULTS, AIM, _ALLOWED, _place)
