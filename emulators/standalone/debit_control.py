"""What people decide at a direct-debit interface standing alone: authorisations, and what becomes of debits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter
from pydantic import Field, model_validator

from emulators.standalone.words import Order

Reason = Literal["", "AC01", "AC04", "AM04", "AM14", "MD01", "DUPL"]
"""ISO 20022 (`core.wire.edda.REASONS`)."""


class StatusOrder(Order):
    """Where an authorisation moves."""

    status: Literal["ACTIVE", "REJECTED", "SUSPENDED", "CANCELLED"]
    reason: Annotated[Reason, Field(description="of a rejection or a cancellation; AC01 of a rejection if absent")] = ""

    @model_validator(mode="after")
    def _fits(self) -> StatusOrder:
        if self.reason and self.status in ("ACTIVE", "SUSPENDED"):
            raise ValueError(f"reason: {self.status} has none: leave it out")
        if self.status == "REJECTED":
            self.reason = self.reason or "AC01"
        return self


class ResultOrder(Order):
    """What becomes of a debit."""

    result: Literal["SUCCESS", "FAILED", "RETURNED"]
    reason: Annotated[Reason, Field(description="of a failure; AM04 if absent")] = ""

    @model_validator(mode="after")
    def _fits(self) -> ResultOrder:
        if self.reason and self.result != "FAILED":
            raise ValueError(f"reason: {self.result} has none: leave it out")
        if self.result == "FAILED":
            self.reason = self.reason or "AM04"
        return self


class Debiting(Protocol):
    """An interface whose back office can be told what to do. Things are named by id or by reference."""

    def authorisations(self) -> list[dict[str, Any]]: ...

    def debits(self) -> list[dict[str, Any]]: ...

    def move(self, name: str, status: str, reason: str) -> dict[str, Any]:
        """`Refused` for a move that is none (B-25), `Unknown` for a name of nothing."""

    def end(self, name: str, result: str, reason: str) -> dict[str, Any]:
        """`Refused` for a debit that has ended otherwise, `Unknown` for a name of nothing."""


def debit_routes(current: Callable[[], Debiting]) -> APIRouter:
    """GET and POST /authorisations and /debits."""
    router = APIRouter()

    @router.get("/authorisations")
    async def authorisations() -> dict[str, Any]:
        """All authorisations, oldest first."""
        return {"authorisations": current().authorisations()}

    @router.post("/authorisations/{name}")
    async def move(name: str, order: StatusOrder) -> dict[str, Any]:
        """Decide on an authorisation, suspend, resume or cancel it; by id or reference."""
        return current().move(name, order.status, order.reason)

    @router.get("/debits")
    async def debits() -> dict[str, Any]:
        """All debits, oldest first: what the interface shows, and the truth."""
        return {"debits": current().debits()}

    @router.post("/debits/{name}")
    async def end(name: str, order: ResultOrder) -> dict[str, Any]:
        """Let a debit succeed or fail now, or be returned; by id or reference."""
        return current().end(name, order.result, order.reason)

    return router
