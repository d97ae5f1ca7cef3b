"""What can be made to go wrong at the emulated ICBC: one literal table.

A fault strikes a message on a line, or a credit at the moment it is booked. ``message`` restricts the former to one
line. Source: gaps.md B-46; protocols.md, ICBC; tasks-and-monitoring.md §4.2 for the five incident types.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from emulators.faults import AIM as COMMON_AIM
from emulators.faults import (
    AIM_ALLOWED,
    LONGEST_S,
    Allowed,
    FaultKind,
    FaultTable,
    Parameter,
    among,
    among_or_none,
    number,
    seconds,
)

LINE1, LINE2 = "line1", "line2"
LINES: Final = (LINE1, LINE2)
CREDIT: Final = "credit"


class Strikes(Enum):
    """Where in the bank a fault takes hold."""

    ARRIVAL = "before the bank looks at a message"
    REPLY = "after the bank has looked, on the way back"
    BOOKING = "when a credit is booked"
    CLOCK = "the bank's clock"


AIM: Final[dict[str, Parameter]] = {
    "message": Parameter(None, "only on this line: line1 or line2"),
    "reference": Parameter(None, "only the credit with this serial"),
    **COMMON_AIM,
}


def _on_a_line(what: str, place: Strikes, **parameters: Parameter) -> FaultKind:
    return FaultKind(what, frozenset({place}), LINES, parameters)


def _of_a_credit(what: str, **parameters: Parameter) -> FaultKind:
    return FaultKind(what, frozenset({Strikes.BOOKING}), (CREDIT,), parameters)


FAULTS: Final[dict[str, FaultKind]] = {
    "refund": _of_a_credit(
        "type 1: the customer asks for the money back; the bank gives it and deletes the statement",
        refund_s=Parameter(600.0, "seconds from the booking to the refund")),
    "identical": _of_a_credit(
        "type 3: the next credit of the same amount and currency bears the same time and remark; line 1 tells of the "
        "two one after the other, line 2 together",
        await_s=Parameter(300.0, "seconds for which a second one is awaited, and line 2 keeps the first back")),
    "ghost": _of_a_credit(
        "type 4: line 1 also tells of a statement that does not exist, with the balance of the one before, then "
        "withdraws it", shown_s=Parameter(90.0, "seconds from the booking to the withdrawal")),
    "late_push": _of_a_credit(
        "type 5: both lines tell of the statement only after midnight",
        late_s=Parameter(3600.0, "seconds from midnight to the telling")),
    "line_down": _on_a_line(
        "the line is away", Strikes.ARRIVAL, answer=Parameter("silence", "silence, or refused: nobody listens")),
    "slow": _on_a_line("the answer takes longer", Strikes.REPLY, delay_s=Parameter(5.0, "seconds added")),
    "refuse": _on_a_line("the bank refuses at its door", Strikes.ARRIVAL, code=Parameter("B0011", "errorCode")),
    "bad_signature": _on_a_line("the answer is signed with another key", Strikes.REPLY),
    "garbled": _on_a_line("the answer breaks off in the middle", Strikes.REPLY),
    "next_tag_loop": _on_a_line("every answer names the same next page", Strikes.REPLY),
    "duplicate_serial": _on_a_line(
        "the second record of an answer bears the serial of the first", Strikes.REPLY),
    "clock_skew": FaultKind(
        "the bank's clock is wrong; beyond the tolerance it refuses every request", frozenset({Strikes.CLOCK}), (),
        {"skew_s": Parameter(600.0, "seconds by which the bank's clock is ahead")}),
}
"""name -> what it does, where it strikes, what it is aimed at, its own parameters."""

WHOLE_LINES: Final = tuple(name for name, kind in FAULTS.items() if Strikes.BOOKING not in kind.strikes)
"""Faults of lines and of the bank: they strike every customer."""

_ALLOWED: Final[Allowed] = {
    **AIM_ALLOWED,
    "message": among_or_none((*LINES, CREDIT)),
    "refund_s": seconds, "shown_s": seconds, "late_s": seconds, "delay_s": seconds,
    "await_s": seconds,
    "answer": among(("silence", "refused")),
    "code": lambda value: isinstance(value, str) and len(value) <= 16 and value.isalnum(),
    "skew_s": lambda value: number(value) and abs(value) <= LONGEST_S,
}


def _place(kind: FaultKind, params: Mapping[str, Any]) -> Enum:  # noqa: ARG001 - each kind has one place
    return next(iter(kind.strikes))


TABLE: Final = FaultTable("icbc", FAULTS, AIM, _ALLOWED, _place)
