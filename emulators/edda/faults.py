"""What can be made to go wrong at the emulated direct-debit interfaces: one literal table, and the faults in force.

Source: protocols.md (eDDA/eDDI), gaps.md B-46.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from core.trace import Trace
from core.wire.edda import REASONS, ROUTES
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
    seconds_or_none,
    yes_or_no,
)


class Strikes(Enum):
    """Where in the bank a fault takes hold."""

    ARRIVAL = "before the bank looks at a message"
    REPLY = "after the bank has acted, on the way back"
    DECISION = "when an authorisation is decided on"
    DEBIT = "when a debit is accepted"
    REPORT = "when the report is written"


_EVERY: Final = tuple(ROUTES)
_SENDING: Final = ("create_authorisation", "create_debit")
_DEBIT: Final = ("create_debit",)

AIM: Final[dict[str, Parameter]] = {
    "message": Parameter(None, "only this message (a name in core.wire.edda.ROUTES)"),
    "reference": Parameter(None, "only this reference, or id at the bank"),
    **COMMON_AIM,
}

FAULTS: Final[dict[str, FaultKind]] = {
    "timeout": FaultKind(
        "no answer comes; sent again, the message finds what became of the first one",
        frozenset({Strikes.ARRIVAL, Strikes.REPLY}), _SENDING,
        {"processed": Parameter(True, "whether the bank has acted on the message")}),
    "error_5xx_after_commit": FaultKind(
        "the bank acts on the message, then answers HTTP 500", frozenset({Strikes.REPLY}), _SENDING, {}),
    "slow": FaultKind(
        "the answer takes longer; Hang Seng is busy for as long", frozenset({Strikes.REPLY}), _EVERY,
        {"delay_s": Parameter(5.0, "seconds added to the answer")}),
    "rate": FaultKind(
        "HTTP 429 whatever the rate", frozenset({Strikes.ARRIVAL}), _EVERY, {}),
    "busy": FaultKind(
        "HTTP 409 though nothing else is in work", frozenset({Strikes.ARRIVAL}), _EVERY, {}),
    "outage": FaultKind(
        "the bank is away", frozenset({Strikes.ARRIVAL}), _EVERY,
        {"answer": Parameter("silence", "silence, or maintenance (HTTP 503)")}),
    "bad_signature": FaultKind(
        "the bank acts on the message; its answer is signed by nobody we know", frozenset({Strikes.REPLY}), _EVERY, {}),
    "authorisation_refused": FaultKind(
        "the debtor bank refuses an authorisation", frozenset({Strikes.DECISION}), ("create_authorisation",),
        {"reason": Parameter("AC01", "ISO 20022 reason code")}),
    "result_next_day": FaultKind(
        "the result of a debit comes at T+1", frozenset({Strikes.DEBIT}), _DEBIT, {}),
    "result_missing": FaultKind(
        "the money moves, and the interface shows PROCESSING all the same", frozenset({Strikes.DEBIT}), _DEBIT,
        {"until_s": Parameter(None, "seconds from acceptance at which the result shows after all; never if absent")}),
    "fail_with": FaultKind(
        "a debit fails", frozenset({Strikes.DEBIT}), _DEBIT,
        {"reason": Parameter("AM04", "ISO 20022 reason code")}),
    "returned": FaultKind(
        "a collected debit goes back to the customer", frozenset({Strikes.DEBIT}), _DEBIT,
        {"return_s": Parameter(3_600.0, "seconds from the success to the return")}),
    "mandate_cancelled_midflight": FaultKind(
        "the customer cancels the authorisation between a debit and its result", frozenset({Strikes.DEBIT}), _DEBIT,
        {}),
    "report_late": FaultKind(
        "the report is laid out later", frozenset({Strikes.REPORT}), ("report",),
        {"delay_s": Parameter(1_200.0, "seconds after its time")}),
    "report_garbled": FaultKind(
        "the report cannot be read", frozenset({Strikes.REPORT}), ("report",),
        {"how": Parameter("row", "row: one row more than there should be, that is none; file: no header line")}),
    "report_missing": FaultKind(
        "no report is written; its changes stand in the next one", frozenset({Strikes.REPORT}), ("report",), {}),
}  # fmt: skip
"""name -> what it does, where it strikes, what it is aimed at, its own parameters."""

HSBC_ONLY: Final = ("report_late", "report_garbled", "report_missing")
"""Faults of what Hang Seng has not."""

_ALLOWED: Final[Allowed] = {
    **AIM_ALLOWED,
    "message": among_or_none((*ROUTES, "report")),
    "processed": yes_or_no,
    "delay_s": seconds,
    "until_s": seconds_or_none,
    "return_s": seconds,
    "answer": among(("silence", "maintenance")),
    "reason": among(REASONS),
    "how": among(("row", "file")),
}


def _place(kind: FaultKind, params: Mapping[str, Any]) -> Enum:
    if len(kind.strikes) == 1:
        return next(iter(kind.strikes))
    return Strikes.REPLY if params["processed"] else Strikes.ARRIVAL


class EddaFaults(FaultsInForce):
    """The faults of one interface."""

    def __init__(
        self, target: str, after_us: Callable[..., object], trace: Trace, draw: Callable[[], float]
    ) -> None:
        table = FaultTable(target, FAULTS, AIM, _ALLOWED, _place)
        super().__init__(target, table, after_us, trace, draw)

    @property
    def silence(self) -> bool:
        """Whether the bank answers nothing at all, not even a bad signature."""
        return any(fault.params["answer"] == "silence" and fault.params["message"] is None
                   and fault.params["reference"] is None and fault.params["customer"] is None
                   and fault.params["share"] >= 1 for fault in self.active("outage"))
