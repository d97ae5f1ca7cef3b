"""What can be made to go wrong at the emulated HSBC: one literal table.

A fault strikes a message when it is written, a file when it is closed, a file when it is dropped, or the bank's server.
Every fault takes the parameters of `AIM` besides its own. Source: gaps.md B-46; protocols.md, HSBC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Final

from core.trace import Trace
from emulators.faults import AIM as COMMON_AIM
from emulators.faults import (
    AIM_ALLOWED,
    Allowed,
    FaultKind,
    FaultsInForce,
    FaultTable,
    Parameter,
    among,
    among_or_none,
    seconds,
)


class Strikes(Enum):
    """Where in the bank a fault takes hold."""

    MESSAGE = "when a message is written"
    FILE = "when a file is closed"
    BOOKING = "when a credit is booked"
    DROP = "before a file is dropped at our server"
    TWICE = "when a file is dropped there"
    BELL = "after a file was dropped there"
    SERVER = "the bank's own server"


PUSH, BATCH = "push", "batch"
FILES: Final = (PUSH, BATCH)
"""Kinds of files: one message, dropped; all of ten minutes, laid out."""

GARBLED: Final[dict[str, tuple[bytes, bytes]]] = {
    "T13": (rb"\r\n:21:[^\r]*", b""),
    "T26": (rb":20:[^\r]", b":20:/"),
    "T38": (rb"(:13D:\d{6})\d{4}", rb"\g<1>2460"),
    "T50": (rb"(:32A:\d\d)\d{4}", rb"\g<1>0230"),
    "T52": (rb"(:32A:\d{6})[A-Z]{3}", rb"\g<1>CNH"),
    "T40": (rb"(:32A:\d{6}[A-Z]{3})\d+", rb"\g<1>"),
    "T43": (rb"(:32A:\d{6}[A-Z]{3}\d+),", rb"\g<1>."),
    "C03": (rb"(:32A:\d{6}[A-Z]{3}\d+,\d+)", rb"\g<1>5"),
    "C06": (rb"\r\n:50K:[^:]*(?=\r\n(?::|-\}))", b""),
}
"""SWIFT's code -> what is put in the place of what, so that a message of the bank's breaks that rule."""


def garble(message: bytes, code: str) -> bytes:
    """A message that breaks a rule."""
    pattern, instead = GARBLED[code]
    return re.sub(pattern, instead, message, count=1)


AIM: Final[dict[str, Parameter]] = {
    "message": Parameter(None, f"only files of this kind: {', '.join(FILES)}"),
    "reference": Parameter(None, "only this transaction reference number, or the file with this name"),
    **COMMON_AIM,
}


def _file(what: str, parameters: dict[str, Parameter] | None = None) -> FaultKind:
    return FaultKind(what, frozenset({Strikes.FILE}), FILES, parameters or {})


def _drop(what: str, place: Strikes) -> FaultKind:
    return FaultKind(what, frozenset({place}), (PUSH,), {})


FAULTS: Final[dict[str, FaultKind]] = {
    "duplicate_reference": FaultKind(
        "a message comes once more in its file, under the same :20:", frozenset({Strikes.MESSAGE}), FILES,
        {"amount": Parameter("same", "same, or other: the second tells of one cent more")}),
    "garbled": FaultKind(
        "a message breaks a rule of the format", frozenset({Strikes.MESSAGE}), FILES,
        {"code": Parameter("T50", f"SWIFT's code of the rule: {', '.join(GARBLED)}")}),
    "truncated_armor": _file("the end of a file is missing"),
    "corrupted": _file("a byte in the middle of a file is another"),
    "wrong_key": _file("a file is closed with a key that is not agreed upon", {
        "whose": Parameter("signer", "signer: somebody else signed it; recipient: it is encrypted to somebody else")}),
    "unsigned": _file("nobody has signed a file"),
    "late_file": _file("a file comes late", {"delay_s": Parameter(3_600.0, "seconds by which it is late")}),
    "push_off": _drop("nothing is dropped; the pull has to do", Strikes.DROP),
    "push_with_batch": _drop("a file is dropped at the moment at which its batch is laid out", Strikes.BOOKING),
    "double_push": _drop("a file is dropped twice, under two names", Strikes.TWICE),
    "lost_webhook": _drop("a file is dropped, and the bank does not ring", Strikes.BELL),
    "sftp_down": FaultKind(
        "the bank's server refuses connections", frozenset({Strikes.SERVER}), ("sftp",), {}),
}  # fmt: skip
"""name -> what it does, where it strikes, what it is aimed at, its own parameters."""

ALLOWED: Final[Allowed] = {
    **AIM_ALLOWED,
    "message": among_or_none(FILES),
    "amount": among(("same", "other")),
    "code": among(tuple(GARBLED)),
    "whose": among(("signer", "recipient")),
    "delay_s": seconds,
}

TABLE: Final = FaultTable("hsbc faults", FAULTS, AIM, ALLOWED, lambda kind, _params: next(iter(kind.strikes)))


def faults_in_force(
    after_us: Callable[..., object], trace: Trace, draw: Callable[[], float]
) -> FaultsInForce:
    """The faults of the one bank of this name."""
    return FaultsInForce("hsbc", TABLE, after_us, trace, draw)

