"""Faults in force at an emulated bank: begun, aimed, counted, ended and reported, by a bank's own literal table.

A fault strikes at one place of the bank. Every fault takes the parameters of `AIM` (whom and when) besides its own
and the table's. Source: gaps.md B-46.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from core.clock import US_PER_S
from core.errors import Misconfigured
from core.trace import Trace

Allowed = Mapping[str, Callable[[Any], bool]]
"""Parameter -> what it may be."""


class Parameter(NamedTuple):
    default: Any
    meaning: str


class FaultKind(NamedTuple):
    what: str
    strikes: frozenset[Enum]
    messages: tuple[str, ...]  # struck unless ``message`` names another
    parameters: dict[str, Parameter]


AIM: Final[dict[str, Parameter]] = {
    "customer": Parameter(None, "only this customer of the bank"),
    "share": Parameter(1.0, "strike this share of what is aimed at"),
    "count": Parameter(None, "strike so many times, then no more"),
    "after_s": Parameter(0.0, "begin so many seconds from now"),
    "for_s": Parameter(None, "end so many seconds after the beginning"),
}
"""What every bank's faults can be aimed with; a bank adds ``message`` and ``reference`` in its own words."""


LONGEST_S: Final = 1e9
"""No fault lasts, waits or delays longer: some thirty years."""


def number(value: Any) -> bool:
    """A number that is one: true, infinity and what is no number are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def seconds(value: Any) -> bool:
    """A time of zero or more seconds."""
    return number(value) and 0 <= value <= LONGEST_S


def seconds_or_none(value: Any) -> bool:
    """A time of zero or more seconds, or none."""
    return value is None or seconds(value)


def count_or_none(value: Any) -> bool:
    """A number from 1, or none."""
    return value is None or (type(value) is int and value > 0)


def part(value: Any) -> bool:
    """A share between 0 and 1."""
    return number(value) and 0 <= value <= 1


def text_or_none(value: Any) -> bool:
    """A name or a reference, or none."""
    return value is None or isinstance(value, str)


def yes_or_no(value: Any) -> bool:
    """True or false, and not 1 or 0."""
    return isinstance(value, bool)


def among(choices: Collection[str]) -> Callable[[Any], bool]:
    """One of these texts."""
    return lambda value: isinstance(value, str) and value in choices


def among_or_none(choices: Collection[str]) -> Callable[[Any], bool]:
    """One of these texts, or none."""
    return lambda value: value is None or (isinstance(value, str) and value in choices)


AIM_ALLOWED: Final[Allowed] = {
    "customer": text_or_none,
    "reference": text_or_none,
    "share": part,
    "count": count_or_none,
    "after_s": seconds,
    "for_s": seconds_or_none,
}


class FaultTable(NamedTuple):
    """All faults of one bank: ``aim`` is what each takes besides its own parameters, ``place`` chooses among the
    places of a kind by the parameters given."""

    where: str
    kinds: Mapping[str, FaultKind]
    aim: Mapping[str, Parameter]
    allowed: Allowed
    place: Callable[[FaultKind, Mapping[str, Any]], Enum]

    def make(self, ident: str, name: str, given: Mapping[str, Any]) -> Fault:
        """A fault with all its parameters; an unknown name, parameter or value raises `Misconfigured`."""
        kind = self.kinds.get(name)
        if kind is None:
            raise Misconfigured(f"no fault {name!r}", where=self.where, remedy=f"one of {', '.join(self.kinds)}")
        known = {**self.aim, **kind.parameters}
        unknown = [parameter for parameter in given if parameter not in known]
        if unknown:
            raise Misconfigured(f"{name} has no parameter {unknown[0]!r}", where=self.where,
                                remedy=f"one of {', '.join(known)}")  # fmt: skip
        params = {parameter: given.get(parameter, default) for parameter, (default, _) in known.items()}
        for parameter, allowed in self.allowed.items():
            if parameter in params and not allowed(params[parameter]):
                raise Misconfigured(f"{name}: {parameter} cannot be {params[parameter]!r}", where=self.where,
                                    remedy=known[parameter].meaning)  # fmt: skip
        return Fault(ident, name, params, kind.messages, self.place(kind, params), params["count"])


@dataclass(slots=True)
class Fault:
    """A fault in force, or announced."""

    id: str
    name: str
    params: dict[str, Any]
    messages: tuple[str, ...]
    strikes: Enum
    left: int | None
    active: bool = False

    def aims_at(self, strikes: Enum, message: str) -> bool:
        """Whether this fault takes hold there, on that message."""
        if not self.active or strikes is not self.strikes or self.left == 0:
            return False
        aimed = self.params.get("message")
        return bool(message == aimed if aimed is not None else message in self.messages)


class FaultsInForce:
    """The faults of one target. Empty (false) while there is none.

    ``after_us`` calls back after some µs, ``draw`` gives uniform numbers for faults that strike only a share;
    ``on_change`` hears of every beginning (True) and end (False).
    """

    def __init__(
        self, target: str, table: FaultTable, after_us: Callable[..., object], trace: Trace, draw: Callable[[], float],
        on_change: Callable[[Fault, bool], None] | None = None,
    ) -> None:  # fmt: skip
        self._target = target
        self._table = table
        self._after_us = after_us
        self._trace = trace
        self._draw = draw
        self._on_change = on_change
        self._faults: dict[str, Fault] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._faults)

    def active(self, name: str) -> list[Fault]:
        """Those of a kind that have begun and not ended, oldest first."""
        return [fault for fault in self._faults.values() if fault.active and fault.name == name]

    def shown(self) -> list[dict[str, Any]]:
        """Every fault in force or announced, for people."""
        return [{"id": fault.id, "fault": fault.name, "active": fault.active, "left": fault.left,
                 "params": _given(fault)} for fault in self._faults.values()]  # fmt: skip

    def put(self, name: str, given: Mapping[str, Any]) -> str:
        """Put a fault in force, at once or ``after_s``; gives its id."""
        self._number += 1
        fault = self._table.make(f"{self._target}:{name}:{self._number}", name, given)
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

    def strike(self, place: Enum, message: str, names: Sequence[str], customer: str) -> list[Fault]:
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

    def _hits(self, fault: Fault, place: Enum, message: str, names: Sequence[str], customer: str) -> bool:
        if not fault.aims_at(place, message):
            return False
        wanted, whom, share = fault.params.get("reference"), fault.params["customer"], fault.params["share"]
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
        self._trace.emit("fault", fault.id, {"fault": fault.name, "target": self._target, "phase": phase,
                                             "params": _given(fault)})  # fmt: skip
        if self._on_change is not None:
            self._on_change(fault, phase == "begin")


def _given(fault: Fault) -> dict[str, Any]:
    return {name: value for name, value in fault.params.items() if value is not None}
