"""What can be made to go wrong at a bank that numbers its credits: one literal table, and SCB's webhook besides.

A fault strikes a query, a credit at the moment it is booked, or a call of the webhook. Source: gaps.md B-46;
protocols.md, CGB, SCB and Citi.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from emulators.faults import AIM as COMMON_AIM
from emulators.faults import AIM_ALLOWED, Allowed, FaultKind, FaultTable, Parameter, among, seconds

QUERY, CREDIT, CALL = "query", "credit", "call"


class Strikes(Enum):
    """Where in the bank a fault takes hold."""

    ARRIVAL = "before the bank looks at a query"
    REPLY = "after the bank has looked, on the way back"
    BOOKING = "when a credit is booked"
    CALL = "when the bank calls our webhook"


AIM: Final[dict[str, Parameter]] = {
    "reference": Parameter(None, "only the credit with this reference"),
    **COMMON_AIM,
}


def _query(what: str, place: Strikes, **parameters: Parameter) -> FaultKind:
    return FaultKind(what, frozenset({place}), (QUERY,), parameters)


def _credit(what: str, **parameters: Parameter) -> FaultKind:
    return FaultKind(what, frozenset({Strikes.BOOKING}), (CREDIT,), parameters)


def _call(what: str, **parameters: Parameter) -> FaultKind:
    return FaultKind(what, frozenset({Strikes.CALL}), (CALL,), parameters)


FAULTS: Final[dict[str, FaultKind]] = {
    "outage": _query("nobody answers", Strikes.ARRIVAL,
                     answer=Parameter("silence", "silence, or error: HTTP 503")),
    "refuse": _query("the bank refuses at its door", Strikes.ARRIVAL, code=Parameter("BUSY", "what it says")),
    "slow": _query("the answer takes longer", Strikes.REPLY, delay_s=Parameter(5.0, "seconds added")),
    "garbled": _query("the answer breaks off in the middle", Strikes.REPLY),
    "page_order": _query("the items of a page stand in the wrong order", Strikes.REPLY),
    "duplicate": _query("every item of a page stands in it twice", Strikes.REPLY),
    "no_end": _query("every page promises another and leads nowhere", Strikes.REPLY),
    "gap": _credit("the credit is shown later than those after it",
                   late_s=Parameter(600.0, "seconds by which it is shown later")),
    "twice": _credit("the credit is told again under the next number"),
    "changed": _credit("the credit is told again under the next number, with a cent more"),
    "nameless": _credit("the credit names no payer"),
}
"""name -> what it does, where it strikes, what it is aimed at, its own parameters: of every bank of this kind."""

FPS_FAULTS: Final[dict[str, FaultKind]] = {
    **FAULTS,
    "bad_signature": _query("the answer is signed with another key", Strikes.REPLY),
    "stranger": _credit("the credit is addressed to somebody else"),
}
"""Those of CGB and Citi."""

SCB_FAULTS: Final[dict[str, FaultKind]] = {
    **FPS_FAULTS,
    "webhook_lost": _call("the call does not reach us"),
    "webhook_late": _call("the call comes after the list has shown the credit",
                          late_s=Parameter(60.0, "seconds by which it comes later")),
    "webhook_repeated": _call("the call comes again although it was answered",
                              again_s=Parameter(30.0, "seconds until it comes again")),
    "webhook_forged": _call("somebody else calls with the credit, in the bank's place"),
}

_ALLOWED: Final[Allowed] = {
    **AIM_ALLOWED,
    "answer": among(("silence", "error")),
    "code": lambda value: isinstance(value, str) and 0 < len(value) <= 16 and value.isascii() and value.isalnum(),
    "delay_s": seconds, "late_s": seconds, "again_s": seconds,
}


def _place(kind: FaultKind, params: Mapping[str, Any]) -> Enum:  # noqa: ARG001 - each kind has one place
    return next(iter(kind.strikes))


def table_of(bank: str, faults: Mapping[str, FaultKind]) -> FaultTable:
    """The table of one bank."""
    return FaultTable(bank, faults, AIM, _ALLOWED, _place)


def whole_lines(faults: Mapping[str, FaultKind]) -> tuple[str, ...]:
    """Faults that strike every customer: those of queries."""
    return tuple(name for name, kind in faults.items() if kind.messages == (QUERY,))
