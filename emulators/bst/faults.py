"""What can be made to go wrong at an emulated CMB or CMBC: one literal table.

A fault strikes the lines of an exit server, a message, or an instruction at the moment the bank accepts it. Every fault
takes the parameters of `AIM` besides its own. Source: gaps.md B-46; protocols.md, CMB and CMBC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from core.trace import Trace
from core.wire.socket import FrameType
from core.wire.socket import messages as m
from emulators.faults import AIM as COMMON_AIM
from emulators.faults import (
    AIM_ALLOWED,
    Allowed,
    Fault,
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

PRIMARY, BACKUP, BOTH = "primary", "backup", "both"
MOST_PARTS: Final = 1_000
"""Pieces into which a message is cut."""


class Strikes(Enum):
    """Where in the bank a fault takes hold."""

    SERVER = "the lines of an exit server"
    ARRIVAL = "before the bank looks at a message"
    REPLY = "after the bank has acted, on the way back"
    INSTRUCTION = "when an instruction is accepted"
    PUSH = "when a push is numbered"
    SENDING = "when a message of the bank is written"
    ACKNOWLEDGEMENT = "when a push is acknowledged"
    LIST = "when a list is made"
    FACE = "the HTTP face of the day list"


NAMES: Final[dict[str, tuple[str, FrameType]]] = {
    "sign_on": (m.SIGN_ON, FrameType.REQUEST),
    "sign_off": (m.SIGN_OFF, FrameType.REQUEST),
    "deposit": (m.DEPOSIT, FrameType.REQUEST),
    "withdraw": (m.WITHDRAWAL, FrameType.REQUEST),
    "reverse": (m.REVERSAL, FrameType.REQUEST),
    "query": (m.QUERY, FrameType.REQUEST),
    "list": (m.DAY_LIST, FrameType.REQUEST),
    "reconcile": (m.RECONCILIATION, FrameType.REQUEST),
    "deposit_push": (m.DEPOSIT_PUSH, FrameType.PUSH),
    "bank_withdrawal": (m.BANK_WITHDRAWAL, FrameType.PUSH),
    "result": (m.TRANSFER_RESULT, FrameType.PUSH),
    "sign_notice": (m.SIGN_NOTICE, FrameType.PUSH),
    "reconciliation": (m.RECONCILIATION, FrameType.PUSH),
}
"""Name by which a fault is aimed at a message -> its command and type; an answer goes by its request's name."""

NAME_OF: Final = {row: name for name, row in NAMES.items()}

_INSTRUCTIONS = ("deposit", "withdraw", "reverse")
_REQUESTS = tuple(name for name, (_, kind) in NAMES.items() if kind is FrameType.REQUEST)
_PUSHES = ("deposit_push", "bank_withdrawal", "result", "sign_notice")
_SIGNED = (*_INSTRUCTIONS, "query", "list", "reconcile", "deposit_push", "bank_withdrawal", "result", "reconciliation")

AIM: Final[dict[str, Parameter]] = {
    "message": Parameter(None, f"only this message: {', '.join(NAMES)}"),
    "reference": Parameter(None, "only this transfer_ref, whoever drew it"),
    "server": Parameter(None, "only what goes over this exit server: primary, backup or both"),
    **COMMON_AIM,
}

_SERVER = {"server": Parameter(PRIMARY, "primary, backup or both")}
_LINES = frozenset({Strikes.SERVER})


def _refusal(what: str) -> FaultKind:
    return FaultKind(what, frozenset({Strikes.ARRIVAL}), _INSTRUCTIONS, {})


FAULTS: Final[dict[str, FaultKind]] = {
    "drop": FaultKind(
        "the connections are reset, and new ones refused while the fault lasts", _LINES, (), _SERVER),
    "half_open": FaultKind(
        "the bank's ends of the connections vanish without a word; new connections are good", _LINES, (), _SERVER),
    "silent_heartbeats": FaultKind(
        "the bank neither sends nor answers heartbeats", _LINES, (), _SERVER),
    "wrong_key": FaultKind(
        "the bank signs its half of the key exchange with another key: no connection comes about", _LINES, (), _SERVER),
    "split": FaultKind(
        "each message leaves in pieces, one after the other", _LINES, (),
        {**_SERVER, "parts": Parameter(3, f"pieces of a message, 2 to {MOST_PARTS}"),
         "gap_s": Parameter(0.05, "seconds between two pieces")}),
    "merged": FaultKind(
        "messages are held back and leave together", _LINES, (),
        {**_SERVER, "hold_s": Parameter(0.5, "seconds for which the first of them waits")}),
    "bad_signature": FaultKind(
        "the bank's SM2 signature on a message is wrong", frozenset({Strikes.SENDING}), _SIGNED, {}),
    "sequence_gap": FaultKind(
        "a frame leaves with a sequence that is one too high", frozenset({Strikes.SENDING}),
        (*_REQUESTS, *_PUSHES), {}),
    "duplicate_push": FaultKind(
        "a push comes twice", frozenset({Strikes.PUSH}), _PUSHES,
        {"fresh": Parameter(False, "whether the second has a push_seq of its own")}),
    "lost_push": FaultKind(
        "a push is numbered and listed, and never sent", frozenset({Strikes.PUSH}), _PUSHES, {}),
    "lost_ack": FaultKind(
        "the bank does not hear an acknowledgement", frozenset({Strikes.ACKNOWLEDGEMENT}),
        (*_PUSHES, "reconciliation"), {}),
    "timeout": FaultKind(
        "no answer comes", frozenset({Strikes.ARRIVAL, Strikes.REPLY}), _REQUESTS,
        {"processed": Parameter(True, "whether the bank has acted on the message")}),
    "answer_minus5": FaultKind(
        "the bank says -5; the instruction was carried out or not, and its result comes late",
        frozenset({Strikes.ARRIVAL, Strikes.INSTRUCTION}), _INSTRUCTIONS,
        {"processed": Parameter(True, "whether the bank has taken the instruction on"),
         "late_s": Parameter(None, "seconds from acceptance to the result; the bank's dice if absent"),
         "at": Parameter("answer", "answer: -5 is the answer; result: it is pushed as a result, the true one later")}),
    "reject": FaultKind(
        "the bank says -6", frozenset({Strikes.ARRIVAL, Strikes.INSTRUCTION}), _INSTRUCTIONS,
        {"at": Parameter("result", "answer: the instruction is not taken on; result: it is, and fails")}),
    "system_error": FaultKind(
        "the bank says -1", frozenset({Strikes.ARRIVAL, Strikes.REPLY}), _INSTRUCTIONS,
        {"processed": Parameter(False, "whether the bank has acted on the message")}),
    "malformed": _refusal("the bank cannot read a message (-2)"),
    "forged": _refusal("the bank takes a signature of ours for a forgery (-3)"),
    "unsigned": _refusal("the bank says that the customer is not signed (-7)"),
    "limit": _refusal("the bank says that its limit is exceeded (-8)"),
    "closed": _refusal("the bank says that it is outside its window (-9)"),
    "slow": FaultKind(
        "the answer takes longer", frozenset({Strikes.REPLY}), _REQUESTS,
        {"delay_s": Parameter(5.0, "seconds added to the answer")}),
    "list_disagrees": FaultKind(
        "a list differs from what the bank has pushed or booked", frozenset({Strikes.LIST}),
        ("list", "reconcile", "reconciliation"),
        {"how": Parameter("missing", "missing: an entry is left out; foreign: one is added that nobody knows; "
                                     "amount: one has another amount")}),
    "list_outage": FaultKind(
        "the day list cannot be fetched over HTTP", frozenset({Strikes.FACE}), ("list",),
        {"answer": Parameter("unavailable", "unavailable (503), or silence")}),
}  # fmt: skip
"""name -> what it does, where it strikes, what it is aimed at, its own parameters."""

CODES: Final = {"system_error": -1, "answer_minus5": -5, "reject": -6, "unsigned": -7, "limit": -8, "closed": -9}
"""Fault -> the callback code with which the bank answers."""


def _place(kind: FaultKind, params: Mapping[str, Any]) -> Enum:
    """Where a fault with these parameters takes hold: of its places, the one that they choose."""
    if len(kind.strikes) == 1:
        return next(iter(kind.strikes))
    if Strikes.REPLY in kind.strikes:
        return Strikes.REPLY if params["processed"] else Strikes.ARRIVAL
    taken_on = params["processed"] if "processed" in params else params["at"] == "result"
    return Strikes.INSTRUCTION if taken_on else Strikes.ARRIVAL


_ALLOWED: Final[Allowed] = {
    **AIM_ALLOWED,
    "message": among_or_none(NAMES),
    "server": among_or_none((PRIMARY, BACKUP, BOTH)),
    "parts": lambda value: type(value) is int and 2 <= value <= MOST_PARTS,
    "gap_s": seconds,
    "hold_s": seconds,
    "delay_s": seconds,
    "late_s": seconds_or_none,
    "fresh": yes_or_no,
    "processed": yes_or_no,
    "at": among(("answer", "result")),
    "how": among(("missing", "foreign", "amount")),
    "answer": among(("unavailable", "silence")),
}
"""Parameter -> what it may be."""


class SocketFaults(FaultsInForce):
    """The faults of a bank with two exit servers."""

    def __init__(
        self, target: str, after_us: Callable[..., object], trace: Trace, draw: Callable[[], float],
        on_change: Callable[[Fault, bool], None],
    ) -> None:  # fmt: skip
        table = FaultTable(target, FAULTS, AIM, _ALLOWED, _place)
        super().__init__(target, table, after_us, trace, draw, on_change)
        self._server = ""

    def on_server(self, name: str, server: str) -> Fault | None:
        """The oldest fault of this kind in force on an exit server."""
        return next((fault for fault in self.active(name) if concerns(fault, server)), None)

    def strike_at(
        self, server: str, place: Strikes, message: str, names: Sequence[str], customer: str
    ) -> list[Fault]:
        """`strike` of what goes over an exit server ("" for what goes over none)."""
        self._server = server
        return self.strike(place, message, names, customer)

    def _hits(self, fault: Fault, place: Enum, message: str, names: Sequence[str], customer: str) -> bool:
        return concerns(fault, self._server) and super()._hits(fault, place, message, names, customer)


def concerns(fault: Fault, server: str) -> bool:
    """Whether a fault is about an exit server."""
    return fault.params["server"] in (None, BOTH, server)
