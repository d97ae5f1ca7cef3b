"""Operations staff of a simulated broker: reviewers, transfer officers and supervisors as `simpy.Resource`s.

They learn what everybody learns, from the event stream, act through the same buttons as real people, in office
hours, with the reaction times of gaps.md B-45: until somebody comes to it, then a short handling that keeps one
colleague busy. A supervisor rings the bank up when a result stays away: what the
bank's back office says decides, never a guess. With nobody of a kind at work, that kind of work stays undone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import simpy

from core.clock import US_PER_MS, US_PER_S, Clock
from core.trace import Event
from emulators.loop import SimLoop


class Console(Protocol):
    """The buttons and screens staff use; amounts in minor units."""

    async def procedure(self, procedure_id: int) -> dict[str, Any] | None: ...
    async def press(self, operation: str, procedure_id: int, operator: str, role: str, remark: str,
                    params: Mapping[str, Any]) -> str: ...
    async def query_bank(self, apply_id: int, operator: str) -> str: ...
    async def apply_request(self, apply_id: int) -> str: ...


class Telephone(Protocol):
    """The bank's back office at the other end of the line."""

    def inquire(self, reference: str) -> Any: ...
    def publish(self, request_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Team:
    """Who is at work and how long it takes (seconds, drawn evenly): until somebody turns to a review or a transfer,
    and for how long that then keeps one colleague busy."""

    reviewers: int
    transfer_officers: int
    supervisors: int
    review_s: tuple[float, float]
    transfer_s: tuple[float, float]
    inquiry_s: tuple[float, float]
    handling_s: tuple[float, float]
    forgets: float


class Staff:
    """A trace sink that reacts."""

    def __init__(
        self, loop: SimLoop, clock: Clock, team: Team, console: Console, telephone: Telephone,
        office_opens: Callable[[int], int], stream: Callable[[str], random.Random],
    ) -> None:
        """``office_opens(ms)``: ``ms`` itself in office hours, else the moment the office opens next."""
        self._loop, self._env, self._clock, self._team = loop, loop.env, clock, team
        self._console, self._telephone, self._office_opens = console, telephone, office_opens
        self._review_draw, self._transfer_draw = stream("staff.review"), stream("staff.transfer")
        self._inquiry_draw, self._handling_draw = stream("staff.inquiry"), stream("staff.handling")
        self._reviewers = simpy.Resource(self._env, max(team.reviewers, 1))
        self._officers = simpy.Resource(self._env, max(team.transfer_officers, 1))
        self._supervisors = simpy.Resource(self._env, max(team.supervisors, 1))

    def __call__(self, event: Event) -> None:
        kind, data = event[2], event[4]
        if kind == "procedure":
            self._on_procedure(data)
        elif kind == "alert" and data["phase"] == "raised" and self._team.supervisors:
            if data["rule"] == "AIRSTAR-07":
                self._begin(self._ask_about_withdrawal(int(data["key"][1:])))
            elif data["rule"] == "AIRSTAR-04":
                self._begin(self._ask_about_deposit(int(data["key"][1:])))

    def _on_procedure(self, data: Mapping[str, Any]) -> None:
        if data["to"] == "new(manual_confirm)" and self._team.reviewers:
            operation = "CashDepositManualConfirm" if data["biz"] == "cash_deposit" else "CashWithdrawManualConfirm"
            self._begin(self._work(self._reviewers, self._drawn(self._review_draw, self._team.review_s), operation,
                                   data["id"], "staff_1001", "frontline_ops", "reviewed, in order"))
        elif data["to"] == "pending(transfer_manual)" and self._team.transfer_officers:
            if self._transfer_draw.random() < self._team.forgets:
                return  # transferred, and the confirmation forgotten (B-45)
            self._begin(self._work(self._officers, self._drawn(self._transfer_draw, self._team.transfer_s),
                                   "SetManualTransferDone", data["id"], "staff_2001", "frontline_ops",
                                   "transferred in online banking"))

    def _begin(self, work: Generator[Any, Any, None]) -> None:
        self._env.process(work)

    @staticmethod
    def _drawn(rng: random.Random, bounds: tuple[float, float]) -> int:
        return round(rng.uniform(*bounds) * US_PER_S)

    def _office(self) -> Generator[Any, Any, None]:
        now = self._clock.now_ms()
        opens = self._office_opens(now)
        if opens > now:
            yield self._env.timeout((opens - now) * US_PER_MS)

    def _work(
        self, who: simpy.Resource, reaction_us: int, operation: str, procedure_id: int, operator: str, role: str,
        remark: str, params: Mapping[str, Any] | None = None,
    ) -> Generator[Any, Any, None]:
        """Lie until somebody reacts, wait for a free colleague in office hours, be handled, press the button."""
        yield from self._office()
        yield self._env.timeout(reaction_us)
        with who.request() as turn:
            yield turn
            yield from self._office()
            yield self._env.timeout(self._drawn(self._handling_draw, self._team.handling_s))
        yield from self._awaited(self._console.press(operation, procedure_id, operator, role, remark, params or {}))

    def _awaited(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        outcome = yield self._loop.event_of(work)
        return outcome.unwrap()

    def _ask_about_withdrawal(self, procedure_id: int) -> Generator[Any, Any, None]:
        """Two hours without a result: ring the bank up until it knows (orchestration.md §7 steps 2, 3a-3c)."""
        while True:
            yield from self._inquiry()
            shown = yield from self._awaited(self._console.procedure(procedure_id))
            if shown is None or shown["state"] != "pending(transfer_auto)":
                return
            truth = self._telephone.inquire(shown["transfer_ref_id"])
            operation = {"PAID": "SetManualTransferDone", "NOT_PAID": "SetManualTransferFailed",
                         "NOT_RECEIVED": "SetManualTransferFailed"}.get(truth.status)
            if operation is not None:
                yield from self._awaited(self._console.press(operation, procedure_id, "staff_3001", "supervisor",
                                                        f"Airstar by telephone: {truth.status}", {}))
                return

    def _ask_about_deposit(self, apply_id: int) -> Generator[Any, Any, None]:
        """Sixty polls without a result: have the bank show what happened, then "Query bank" (A-74)."""
        while True:
            yield from self._inquiry()
            request_id = yield from self._awaited(self._console.apply_request(apply_id))
            if self._telephone.publish(request_id):
                yield from self._awaited(self._console.query_bank(apply_id, "staff_3001"))
                return

    def _inquiry(self) -> Generator[Any, Any, None]:
        with self._supervisors.request() as turn:
            yield turn
            yield self._env.timeout(self._drawn(self._inquiry_draw, self._team.inquiry_s))
