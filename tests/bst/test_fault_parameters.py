"""Whatever is given as a parameter of a fault is taken as one or refused with a sentence, at both kinds of banks."""

from __future__ import annotations

import math
from typing import Any

import pytest

from core.clock import MachineClock
from core.errors import Misconfigured
from core.trace import Trace
from emulators.airstar import faults as airstar
from emulators.bst import faults as socket_bank
from emulators.faults import LONGEST_S, FaultsInForce


def in_force(bank: str) -> FaultsInForce:
    """A bank's faults, whose timers are set and never due."""
    trace = Trace(MachineClock(), lambda _: None)

    def later(us: int, *_: Any) -> None:
        assert 0 <= us <= LONGEST_S * 1_000_000

    if bank == "airstar":
        return airstar.AirstarFaults(bank, later, trace, lambda: 0.5)
    return socket_bank.SocketFaults(bank, later, trace, lambda: 0.5, lambda *_: None)


KINDS = {"airstar": airstar.FAULTS, "cmb": socket_bank.FAULTS}
AIMS = {"airstar": airstar.AIM, "cmb": socket_bank.AIM}
PARAMETERS = [(bank, fault, parameter) for bank, kinds in KINDS.items() for fault, kind in kinds.items()
              for parameter in {**AIMS[bank], **kind.parameters}]  # fmt: skip
NEVER: list[Any] = [math.nan, math.inf, -math.inf, 1e300, -(10**30), [], ["deposit"], {}, {"a": 1}, (), b"x"]
"""What no parameter of any fault can be."""


@pytest.mark.parametrize(("bank", "fault", "parameter"), PARAMETERS)
def test_no_parameter_takes_what_no_parameter_can_be(bank: str, fault: str, parameter: str) -> None:
    faults = in_force(bank)
    for value in NEVER:
        with pytest.raises(Misconfigured, match=parameter):
            faults.put(fault, {parameter: value})
    assert not faults


@pytest.mark.parametrize(("bank", "fault", "parameter"), PARAMETERS)
def test_every_default_is_allowed(bank: str, fault: str, parameter: str) -> None:
    default = {**AIMS[bank], **KINDS[bank][fault].parameters}[parameter].default
    faults = in_force(bank)
    ident = faults.put(fault, {parameter: default})
    assert [one["id"] for one in faults.shown()] == [ident]


WRONG: list[tuple[str, str, str, Any]] = [
    ("cmb", "slow", "share", True), ("cmb", "slow", "share", 1.01), ("cmb", "slow", "share", None),
    ("cmb", "slow", "delay_s", True), ("cmb", "slow", "delay_s", "5"), ("cmb", "slow", "delay_s", -0.1),
    ("cmb", "slow", "for_s", 10**30), ("cmb", "slow", "after_s", 1.1e9),
    ("cmb", "slow", "count", 0), ("cmb", "slow", "count", True), ("cmb", "slow", "count", 1.0),
    ("cmb", "slow", "customer", 5), ("cmb", "slow", "reference", 5), ("cmb", "slow", "message", "ping"),
    ("cmb", "slow", "server", "third"), ("cmb", "timeout", "processed", 1), ("cmb", "duplicate_push", "fresh", "yes"),
    ("cmb", "split", "parts", 1), ("cmb", "split", "parts", 1_001), ("cmb", "split", "parts", 2.0),
    ("cmb", "list_disagrees", "how", True), ("airstar", "fail_with", "code", 1), ("airstar", "fail_with", "code", True),
    ("airstar", "stuck_pending", "paid", 1), ("airstar", "clock_skew", "skew_s", True),
    ("airstar", "error_5xx_after_commit", "status", 200), ("airstar", "slow", "message", "deposit_push"),
]


@pytest.mark.parametrize(("bank", "fault", "parameter", "value"), WRONG)
def test_a_parameter_of_the_wrong_kind_is_refused(bank: str, fault: str, parameter: str, value: Any) -> None:
    with pytest.raises(Misconfigured, match=f"{fault}: {parameter} cannot be"):
        in_force(bank).put(fault, {parameter: value})
