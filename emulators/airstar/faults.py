"""What can be made to go wrong at the emulated Airstar bank: one literal table, and the fault in force.

A fault strikes messages, or instructions at the moment the bank accepts them. Every fault takes the parameters of
`AIM` (whom and when) besides its own. Source: gaps.md B-46; protocols.md, Airstar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from core.clock import US_PER_S
from core.errors import Misconfigured
from core.trace import Trace
from core.wire.airstar import ERRORS, ROUTES


class Strikes(Enum):
    """Where in the bank a fault takes hold."""

    ARRIVAL = "before the bank looks at a message"
    REPLY = "after the bank has acted, on the way back"
    INSTRUCTION = "when an instruction is accepted"
    CLOCK = "the bank's clock"


class Parameter(NamedTuple):
    default: Any
    meaning: str


class FaultKind(NamedTuple):
    what: str
    strikes: frozenset[Strikes]
    messages: tuple[str, ...]  # struck unless ``message`` names another
    parameters: dict[str, Parameter]


_SENDING = ("deposit", "withdraw")
_INSTRUCTIONS = ("deposit", "withdraw", "acknowledge")
_DEPOSITS = ("deposit", "acknowledge")
_EVERY = tuple(ROUTES)

AIM: Final[dict[str, Parameter]] = {
    "message": Parameter(None, "only this message (a name in core.wire.airstar.ROUTES)"),
    "reference": Parameter(None, "only this bank_ref_id, transfer_ref_id, client_ref, request_id or mandate_id"),
    "customer": Parameter(None, "only this customer of the bank"),
    "share": Parameter(1.0, "strike this share of what is aimed at"),
    "count": Parameter(None, "strike so many times, then no more"),
    "after_s": Parameter(0.0, "begin so many seconds from now"),
    "for_s": Parameter(None, "end so many seconds after the beginning"),
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


@dataclass(slots=True)
class Fault:
    """A fault in force, or announced."""

    id: str
    name: str
    params: dict[str, Any]
    strikes: Strikes
    left: int | None
    active: bool = False

    def aims_at(self, strikes: Strikes, message: str) -> bool:
        """Whether this fault takes hold there, on that message."""
        if not self.active or strikes is not self.strikes or self.left == 0:
            return False
        aimed = self.params["message"]
        return bool(message == aimed if aimed is not None else message in FAULTS[self.name].messages)


def make_fault(ident: str, name: str, given: Mapping[str, Any]) -> Fault:
    """A fault with all its parameters; an unknown name, parameter or value raises `Misconfigured`."""
    kind = FAULTS.get(name)
    if kind is None:
        raise Misconfigured(f"no fault {name!r}", where="airstar", remedy=f"one of {', '.join(FAULTS)}")
    known = {**AIM, **kind.parameters}
    unknown = [parameter for parameter in given if parameter not in known]
    if unknown:
        raise Misconfigured(f"{name} has no parameter {unknown[0]!r}", where="airstar",
                            remedy=f"one of {', '.join(known)}")  # fmt: skip
    params = {parameter: given.get(parameter, default) for parameter, (default, _) in known.items()}
    for parameter, allowed in _ALLOWED.items():
        if parameter in params and not allowed(params[parameter]):
            raise Misconfigured(f"{name}: {parameter} cannot be {params[parameter]!r}", where="airstar",
                                remedy=known[parameter].meaning)  # fmt: skip
    return Fault(ident, name, params, _place(kind, params), params["count"])


def _place(kind: FaultKind, params: Mapping[str, Any]) -> Strikes:
    """Where a fault with these parameters takes hold: of its places, the one that they choose."""
    if len(kind.strikes) == 1:
        return next(iter(kind.strikes))
    if params.get("at") == "result":
        return Strikes.INSTRUCTION
    return Strikes.REPLY if params["processed"] else Strikes.ARRIVAL


def _seconds_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and value >= 0)


_ALLOWED: Final[dict[str, Callable[[Any], bool]]] = {
    "message": lambda value: value is None or value in ROUTES,
    "share": lambda value: isinstance(value, int | float) and 0 <= value <= 1,
    "count": lambda value: value is None or (type(value) is int and value > 0),
    "after_s": lambda value: value is not None and _seconds_or_none(value),
    "for_s": _seconds_or_none,
    "hidden_s": lambda value: value is not None and _seconds_or_none(value),
    "until_s": _seconds_or_none,
    "refund_s": _seconds_or_none,
    "delay_s": lambda value: value is not None and _seconds_or_none(value),
    "skew_s": lambda value: isinstance(value, int | float),
    "paid": lambda value: value in (None, True, False),
    "processed": lambda value: value in (True, False),
    "status": lambda value: type(value) is int and 500 <= value <= 599,
    "code": lambda value: value in ERRORS,
    "at": lambda value: value in ("reply", "result"),
    "answer": lambda value: value in ("silence", "maintenance"),
}
"""Parameter -> what it may be."""


class FaultsInForce:
    """The faults of one target: begins, counts, ends and reports them. Empty (false) while there is none.

    ``after_us`` calls back after some µs, ``draw`` gives uniform numbers for faults that strike only a share.
    """

    def __init__(
        self, target: str, after_us: Callable[..., object], trace: Trace, draw: Callable[[], float]
    ) -> None:
        self._target = target
        self._after_us = after_us
        self._trace = trace
        self._draw = draw
        self._faults: dict[str, Fault] = {}
        self._number = 0
        self.skew_ms = 0

    def __len__(self) -> int:
        return len(self._faults)

    @property
    def silence(self) -> bool:
        """Whether an outage without exceptions is in force."""
        return any(
            fault.active and fault.name == "outage" and fault.params["answer"] == "silence" and _is_general(fault)
            for fault in self._faults.values()
        )

    def put(self, name: str, given: Mapping[str, Any]) -> str:
        """Put a fault in force, at once or ``after_s``; gives its id."""
        self._number += 1
        fault = make_fault(f"{self._target}:{name}:{self._number}", name, given)
        self._faults[fault.id] = fault
        if fault.params["after_s"]:
            self._after_us(round(fault.params["after_s"] * US_PER_S), self._begin, fault)
        else:
            self._begin(fault)
        return fault.id

    def clear(self, fault_id: str) -> None:
        """End a fault; harmless if it has ended."""
        fault = self._faults.pop(fault_id, None)
        if fault is not None and fault.active:
            self._change(fault, "end")

    def strike(self, place: Strikes, message: str, names: Sequence[str], customer: str) -> list[Fault]:
        """The faults that take hold of this message or instruction, each counted as one strike, oldest first.

        ``names`` are all ids and references by which the subject is known.
        """
        struck = [fault for fault in self._faults.values() if self._hits(fault, place, message, names, customer)]
        for fault in struck:
            if fault.left is not None:
                fault.left -= 1
                if fault.left == 0:
                    self.clear(fault.id)
        return struck

    def _hits(self, fault: Fault, place: Strikes, message: str, names: Sequence[str], customer: str) -> bool:
        if not fault.aims_at(place, message):
            return False
        wanted, whom, share = fault.params["reference"], fault.params["customer"], fault.params["share"]
        if (wanted is not None and wanted not in names) or (whom is not None and whom != customer):
            return False
        return bool(share >= 1 or self._draw() < share)

    def _begin(self, fault: Fault) -> None:
        if fault.id not in self._faults:
            return
        fault.active = True
        self._change(fault, "begin")
        if fault.params["for_s"] is not None:
            self._after_us(round(fault.params["for_s"] * US_PER_S), self.clear, fault.id)

    def _change(self, fault: Fault, phase: str) -> None:
        skews = [one.params["skew_s"] for one in self._faults.values() if one.active and one.name == "clock_skew"]
        self.skew_ms = round(sum(skews) * 1000)
        given = {name: value for name, value in fault.params.items() if value is not None}
        self._trace.emit("fault", fault.id, {"fault": fault.name, "target": self._target, "phase": phase,
                                             "params": given})  # fmt: skip


def _is_general(fault: Fault) -> bool:
    params = fault.params
    return params["message"] is None and params["reference"] is None and params["customer"] is None \
        and params["share"] >= 1  # fmt: skip
