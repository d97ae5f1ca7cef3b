"""Faults as people order them: the table of what there is, what is in force, put and clear; and the HTTP endpoints.

Shared by the stand-alone banks and by `nostro serve`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from core.clock import MS_PER_S, US_PER_S, Clock
from core.errors import Misconfigured
from emulators.faults import FaultKind, Parameter
from emulators.standalone.pace import Wrong
from emulators.standalone.standing import Unknown
from emulators.standalone.words import Moment, Order, Span


class FaultPort(Protocol):
    """Where faults are put."""

    def fault_table(self) -> Mapping[str, dict[str, Any]]:
        """name -> what it does and its parameters, for people."""

    def put_fault(self, name: str, params: Mapping[str, Any]) -> str:
        """Gives the fault's id; `Misconfigured` if a parameter is not possible, `Unknown` for an unknown customer."""

    def clear_fault(self, fault_id: str) -> None: ...

    def faults_in_force(self) -> list[dict[str, Any]]: ...


def described(kinds: Mapping[str, FaultKind], aim: Mapping[str, Parameter]) -> dict[str, dict[str, Any]]:
    """A bank's literal table as plain data."""
    return {name: {
        "what": kind.what,
        "messages": list(kind.messages),
        "parameters": {key: {"default": one.default, "meaning": one.meaning}
                       for key, one in {**aim, **kind.parameters}.items()},
    } for name, kind in kinds.items()}


class FaultOrder(Order):
    """A fault for a window of virtual time, or until it is deleted."""

    model_config = ConfigDict(populate_by_name=True)

    fault: Annotated[str, Field(description="a name of GET /faults")]
    params: Annotated[dict[str, Any], Field(
        default_factory=dict, description="its parameters; absent ones have their defaults")]
    lasts: Annotated[Span | None, Field(alias="for", description="end so long after the beginning")] = None
    until: Annotated[Moment | None, Field(description="end at that moment")] = None
    after: Annotated[Span | None, Field(description="begin so long from now")] = None


class FaultControl:
    """Puts orders into a port and remembers nothing itself."""

    def __init__(self, port: FaultPort, clock: Clock) -> None:
        self._port = port
        self.clock = clock

    def put(self, order: FaultOrder) -> dict[str, Any]:
        """Put a fault in force, or announce it; gives it as it stands."""
        table = self._port.fault_table()
        if order.fault not in table:
            raise Wrong(f"fault: there is no {order.fault!r}; {_nearest(order.fault, table)}")
        window = self._window(order)
        twice = [name for name in window if name in order.params]
        if twice:
            raise Wrong(f"params: {twice[0]} is given beside {_WINDOW[twice[0]]}: leave one of them out")
        try:
            ident = self._port.put_fault(order.fault, order.params | window)
        except Misconfigured as error:
            raise Wrong(f"params: {error.what}: {error.remedy}") from None
        found = [fault for fault in self._port.faults_in_force() if fault["id"] == ident]
        return found[0] if found else {"id": ident, "fault": order.fault, "active": False}

    def _window(self, order: FaultOrder) -> dict[str, float]:
        window: dict[str, float] = {}
        if order.lasts is not None and order.until is not None:
            raise Wrong("until: give for or until, not both")
        if order.after is not None:
            window["after_s"] = order.after / US_PER_S
        if order.lasts == 0:
            raise Wrong("for: nothing happens in no time: give a longer one, or leave it out")
        if order.lasts is not None:
            window["for_s"] = order.lasts / US_PER_S
        if order.until is not None:
            window["for_s"] = (order.until - self.clock.now_ms()) / MS_PER_S - window.get("after_s", 0.0)
            if window["for_s"] <= 0:
                raise Wrong("until: that moment is not after the fault's beginning: give a later one")
        return window

    def clear(self, fault_id: str) -> None:
        """End a fault; `Unknown` if it is not in force."""
        there = [str(fault["id"]) for fault in self._port.faults_in_force()]
        if fault_id not in there:
            raise Unknown(f"no fault {fault_id!r} is in force; there are: {', '.join(there) or 'none'}")
        self._port.clear_fault(fault_id)

    def shown(self) -> dict[str, Any]:
        """The table of all faults, and those in force or announced."""
        return {"table": self._port.fault_table(), "in_force": self._port.faults_in_force()}


_WINDOW = {"after_s": "after", "for_s": "for or until"}
"""A bank's own parameter -> the field of an order that says the same."""


def _nearest(name: str, table: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, table, n=3, cutoff=0.4)
    return f"nearest: {', '.join(near)}" if near else "see GET /faults for the names"


def fault_routes(control: FaultControl) -> APIRouter:
    """GET, POST, DELETE /faults."""
    router = APIRouter()

    @router.get("/faults")
    async def all_faults() -> dict[str, Any]:
        """The table of all faults with their parameters, and those in force."""
        return control.shown()

    @router.post("/faults", status_code=201)
    async def put_fault(order: FaultOrder) -> dict[str, Any]:
        """Put a fault in force for a window of virtual time; what it has struck stays struck."""
        return control.put(order)

    @router.delete("/faults/{fault_id}")
    async def clear_fault(fault_id: str) -> dict[str, Any]:
        """End a fault before its time."""
        control.clear(fault_id)
        return {"cleared": fault_id}

    return router
