"""Operations staff of a simulated broker: reviewers, transfer officers and supervisors as `simpy.Resource`s.

They learn what everybody learns, from the event stream, act through the same buttons as real people, in office
hours, with the reaction times of gaps.md B-45: until somebody comes to it, then a short handling that keeps one
colleague busy. A supervisor rings the bank of the transfer up when a result stays away: what the
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
    async def application(self, apply_id: int) -> tuple[str, str]:
        """(bank, the bank's request id) of a deposit application."""


Approve = Callable[[int, str, str], Coroutine[Any, Any, str]]
"""The button that passes an approval step: (Task, step, operator) -> name of the reply's code."""


Match = Callable[[str, int, str], Coroutine[Any, Any, str]]
"""Look at a statement entry that found no application by itself, and match it if one application is plainly meant:
(bank, entry, operator) -> name of the reply's code, or what there was to see."""


class Telephone(Protocol):
    """The bank's back office at the other end of the line; ``title``: the bank as people call it."""

    title: str

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


_APPROVERS = {"CONFIRM": "staff_1001", "REMITTANCE": "staff_1002"}
_REVIEWER = "staff_1002"  # of Procedures: not the colleague who matches by hand (four eyes, gaps.md B-30)
_WINDOW = "outside the matching window"  # why an entry is reminded of that needs nobody: its window opens


class Staff:
    """A trace sink that reacts."""

    def __init__(
        self, loop: SimLoop, clock: Clock, team: Team, console: Console, telephones: Mapping[str, Telephone],
        office_opens: Callable[[int], int], stream: Callable[[str], random.Random], approve: Approve | None = None,
        match: Match | None = None,
    ) -> None:
        """``telephones``: by bank. ``office_opens(ms)``: ``ms`` itself in office hours, else the moment the office
        opens next. ``approve``: without it nobody approves Tasks; ``match``: without it nobody matches by hand."""
        self._loop, self._env, self._clock, self._team = loop, loop.env, clock, team
        self._console, self._telephones, self._office_opens = console, telephones, office_opens
        self._approve, self._match = approve, match
        self._review_draw, self._transfer_draw = stream("staff.review"), stream("staff.transfer")
        self._inquiry_draw, self._handling_draw = stream("staff.inquiry"), stream("staff.handling")
        self._reviewers = simpy.Resource(self._env, max(team.reviewers, 1))
        self._officers = simpy.Resource(self._env, max(team.transfer_officers, 1))
        self._supervisors = simpy.Resource(self._env, max(team.supervisors, 1))

    def __call__(self, event: Event) -> None:
        kind, data = event[2], event[4]
        if kind == "procedure":
            self._on_procedure(data)
        elif kind == "task" and data.get("waits"):
            self._on_waiting_task(data["task"], data["step"])
        elif kind == "reminder" and data["candidates"] and data["count"] == 1 and data["why"] != _WINDOW:
            self._on_reminder(data["bank"], data["flow"])
        elif kind == "alert" and data["phase"] == "raised" and self._team.supervisors:
            self._on_alert(data["rule"], data["key"])

    def _on_alert(self, rule: str, key: str) -> None:
        """A result stays away: of the withdrawal P…, or of the deposit A…."""
        if rule == "AIRSTAR-07" or (rule == "SOCK-05" and key.startswith("P")):
            self._begin(self._ask_about_withdrawal(int(key[1:])))
        elif rule in ("AIRSTAR-04", "SOCK-05"):
            self._begin(self._ask_about_deposit(int(key[1:])))

    def _on_waiting_task(self, task: int, step: str) -> None:
        """A withdrawal that does not go by itself (gaps.md B-14): one colleague confirms it, another one remits it."""
        approve = self._approve
        if approve is not None and self._team.reviewers:
            operator = _APPROVERS.get(step, "staff_1001")
            self._begin(self._work(self._reviewers, self._drawn(self._review_draw, self._team.review_s),
                                   lambda: approve(task, step, operator)))

    def _on_reminder(self, bank: str, flow: int) -> None:
        """Money at the bank whose owner a person may see at a glance."""
        match = self._match
        if match is not None and self._team.reviewers:
            self._begin(self._work(self._reviewers, self._drawn(self._review_draw, self._team.review_s),
                                   lambda: match(bank, flow, "staff_1001")))

    def _on_procedure(self, data: Mapping[str, Any]) -> None:
        procedure: int = data["id"]
        if data["to"] == "new(manual_confirm)" and self._team.reviewers:
            operation = "CashDepositManualConfirm" if data["biz"] == "cash_deposit" else "CashWithdrawManualConfirm"
            self._begin(self._work(
                self._reviewers, self._drawn(self._review_draw, self._team.review_s), lambda: self._console.press(
                    operation, procedure, _REVIEWER, "frontline_ops", "reviewed, in order", {})))
        elif data["to"] == "pending(transfer_manual)" and self._team.transfer_officers:
            if self._transfer_draw.random() < self._team.forgets:
                return  # transferred, and the confirmation forgotten (B-45)
            self._begin(self._work(
                self._officers, self._drawn(self._transfer_draw, self._team.transfer_s), lambda: self._console.press(
                    "SetManualTransferDone", procedure, "staff_2001", "frontline_ops",
                    "transferred in online banking", {})))

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
        self, who: simpy.Resource, reaction_us: int, button: Callable[[], Coroutine[Any, Any, Any]],
    ) -> Generator[Any, Any, None]:
        """Lie until somebody reacts, wait for a free colleague in office hours, be handled, press the button."""
        yield from self._office()
        yield self._env.timeout(reaction_us)
        with who.request() as turn:
            yield turn
            yield from self._office()
            yield self._env.timeout(self._drawn(self._handling_draw, self._team.handling_s))
        yield from self._awaited(button())

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
            bank = self._telephones[shown["transfer_dest_bank"]]
            truth = bank.inquire(shown["transfer_ref_id"])
            operation = {"PAID": "SetManualTransferDone", "NOT_PAID": "SetManualTransferFailed",
                         "NOT_RECEIVED": "SetManualTransferFailed"}.get(truth.status)
            if operation is not None:
                yield from self._awaited(self._console.press(operation, procedure_id, "staff_3001", "supervisor",
                                                        f"{bank.title} by telephone: {truth.status}", {}))
                return

    def _ask_about_deposit(self, apply_id: int) -> Generator[Any, Any, None]:
        """Sixty polls without a result: have the bank show what happened, then "Query bank" (A-74)."""
        while True:
            yield from self._inquiry()
            bank, request_id = yield from self._awaited(self._console.application(apply_id))
            if self._telephones[bank].publish(request_id):
                yield from self._awaited(self._console.query_bank(apply_id, "staff_3001"))
                return

    def _inquiry(self) -> Generator[Any, Any, None]:
        with self._supervisors.request() as turn:
            yield turn
            yield self._env.timeout(self._drawn(self._inquiry_draw, self._team.inquiry_s))
