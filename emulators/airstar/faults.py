"""What can be made to go wrong at the emulated Airstar bank: one literal table, and the fault in force.

A fault strikes messages, or instructions at the moment the bank accepts them. Every fault takes the parameters of
`AIM` (whom and when) besides its own. Source: gaps.md B-46; protocols.md, Airstar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from core.trace import Trace
from core.wire.airstar import ERRORS, ROUTES
from emulators.faults import AIM as COMMON_AIM
from emulators.faults import (
    AIM_ALLOWED,
    LONGEST_S,
    Allowed,
    Fault,
    FaultKind,
    FaultsInForce,
    FaultTable,
    Parameter,
    among,
    among_or_none,
    number,
    seconds,
    seconds_or_none,
    yes_or_no,
)


class Strikes(Enum):
    """Where in the bank a fault takes hold."""

    ARRIVAL = "before the bank looks at a message"
    REPLY = "after the bank has acted, on the way back"
    INSTRUCTION = "when an instruction is accepted"
    CLOCK = "the bank's clock"


_SENDING = ("deposit", "withdraw")
_INSTRUCTIONS = ("deposit", "withdraw", "acknowledge")
_DEPOSITS = ("deposit", "acknowledge")
_EVERY = tuple(ROUTES)

AIM: Final[dict[str, Parameter]] = {
    "message": Parameter(None, "only this message (a name in core.wire.airstar.ROUTES)"),
    "reference": Parameter(None, "only this bank_ref_id, transfer_ref_id, client_ref, request_id or mandate_id"),
    **COMMON_AIM,
}

FAULTS: Final[dict[str, FaultKind]] = {
    "not_found_then_found": FaultKind(
        "an accepted instruction cannot be found by queries for a while",
        frozenset({Strikes.INSTRUCTION}), _INSTRUCTIONS,
        {"hidden_s": Parameter(8.0, "seconds for which queries answer 140630018")}),
    "stuck_pending": FaultKind(
        "an instruction shows PENDING whatever happened to it; late results come from until_s",
        frozenset({Strikes.INSTRUCTION}), _INSTRUCTIONS,
        {"until_s": Parameter(None, "seconds from acceptance at which the result shows after all; never if absent"),
         "paid": Parameter(None, "true or false: whether the money moves; the bank's dice if absent")}),
    "error_5xx_after_commit": FaultKind(
        "the bank acts on the message, then answers HTTP 500",
        frozenset({Strikes.REPLY}), _SENDING, {"status": Parameter(500, "HTTP status, 500 to 599")}),
    "refunded_before_credit": FaultKind(
        "a deposit ends as REFUNDED and was never credited", frozenset({Strikes.INSTRUCTION}), _DEPOSITS, {}),
    "refunded_after_credit": FaultKind(
        "a deposit is SUCCESS and credited, later REFUNDED and taken back", frozenset({Strikes.INSTRUCTION}), _DEPOSITS,
        {"refund_s": Parameter(None, "seconds from SUCCESS to REFUNDED; the bank's dice if absent")}),
    "mandate_revoked_midflight": FaultKind(
        "the customer closes the mandate after an instruction was accepted and before its result",
        frozenset({Strikes.INSTRUCTION}), _INSTRUCTIONS, {}),
    "clock_skew": FaultKind(
        "the bank's clock is wrong; beyond the tolerance it refuses every signature", frozenset({Strikes.CLOCK}), (),
        {"skew_s": Parameter(600.0, "seconds by which the bank's clock is ahead")}),
    "slow": FaultKind(
        "the answer takes longer", frozenset({Strikes.REPLY}), _EVERY,
        {"delay_s": Parameter(5.0, "seconds added to the answer")}),
    "timeout": FaultKind(
        "no answer comes", frozenset({Strikes.ARRIVAL, Strikes.REPLY}), _EVERY,
        {"processed": Parameter(True, "whether the bank has acted on the message")}),
    "fail_with": FaultKind(
        "an error code, at once or as the result", frozenset({Strikes.ARRIVAL, Strikes.REPLY, Strikes.INSTRUCTION}),
        _SENDING,
        {"code": Parameter(140630999, "a code in core.wire.airstar.ERRORS"),
         "at": Parameter("reply", "reply: the answer carries it; result: the accepted instruction fails with it"),
         "processed": Parameter(False, "at reply: whether the bank has acted on the message")}),
    "duplicate_result": FaultKind(
        "a finished instruction appears again, under its used id, among the bank-initiated requests",
        frozenset({Strikes.INSTRUCTION}), _INSTRUCTIONS, {}),
    "outage": FaultKind(
        "the bank is away: nothing is acted on, nothing answered", frozenset({Strikes.ARRIVAL}), _EVERY,
        {"answer": Parameter("silence", "silence, or maintenance (140630020)")}),
}  # fmt: skip
"""name -> what it does, where it strikes, what it is aimed at, its own parameters."""


def _place(kind: FaultKind, params: Mapping[str, Any]) -> Enum:
    """Where a fault with these parameters takes hold: of its places, the one that they choose."""
    if len(kind.strikes) == 1:
        return next(iter(kind.strikes))
    if params.get("at") == "result":
        return Strikes.INSTRUCTION
    return Strikes.REPLY if params["processed"] else Strikes.ARRIVAL


_ALLOWED: Final[Allowed] = {
    **AIM_ALLOWED,
    "message": among_or_none(ROUTES),
    "hidden_s": seconds,
    "until_s": seconds_or_none,
    "refund_s": seconds_or_none,
    "delay_s": seconds,
    "skew_s": lambda value: number(value) and abs(value) <= LONGEST_S,
    "paid": lambda value: value is None or yes_or_no(value),
    "processed": yes_or_no,
    "status": lambda value: type(value) is int and 500 <= value <= 599,
    "code": lambda value: type(value) is int and value in ERRORS,
    "at": among(("reply", "result")),
    "answer": among(("silence", "maintenance")),
}
"""Parameter -> what it may be."""


_TABLE: Final = FaultTable("airstar", FAULTS, AIM, _ALLOWED, _place)


class AirstarFaults(FaultsInForce):
    """The faults of the bank, and what of them is asked for all the time."""

    def __init__(
        self, target: str, after_us: Callable[..., object], trace: Trace, draw: Callable[[], float]
    ) -> None:
        super().__init__(target, _TABLE, after_us, trace, draw, self._sum_up)
        self.skew_ms = 0

    @property
    def silence(self) -> bool:
        """Whether an outage without exceptions is in force."""
        return any(fault.params["answer"] == "silence" and _is_general(fault) for fault in self.active("outage"))

    def _sum_up(self, fault: Fault, begins: bool) -> None:  # noqa: ARG002 - the shape of a change
        self.skew_ms = round(sum(one.params["skew_s"] for one in self.active("clock_skew")) * 1000)


def _is_general(fault: Fault) -> bool:
    params = fault.params
    return params["message"] is None and params["reference"] is None and params["customer"] is None \
        and params["share"] >= 1  # fmt: skip
