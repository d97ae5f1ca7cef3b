"""The clock of a paced run as people turn it: pace, pause, advance; and its HTTP endpoints.

Shared by the stand-alone banks and by `nostro serve`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter
from pydantic import Field, model_validator

from core.clock import MS_PER_DAY, US_PER_MS, Clock
from core.errors import Misconfigured
from emulators.standalone.standing import Refused
from emulators.standalone.words import Moment, Order, Span, show_moment


class Wrong(Exception):
    """A request that cannot be right in any state of things; the text names field and remedy."""


class Paced(Protocol):
    """A loop whose pace can be changed (`emulators.loop.SimLoop`)."""

    speed: float

    @property
    def now_us(self) -> int: ...
    def set_speed(self, speed: float) -> None: ...
    def advance(self, us: int) -> asyncio.Future[int]: ...
    def advance_to_next_event(self) -> asyncio.Future[int]: ...


class Pace:
    """``clock`` shows the loop's time; ``check(ms)`` raises `Misconfigured` for a moment that a run cannot reach.

    ``longest_ms``: of one advance; ``fastest``: highest speed.
    """

    def __init__(
        self, loop: Paced, clock: Clock, *, check: Callable[[int], None], fastest: float, longest_ms: int
    ) -> None:
        self._loop = loop
        self.clock = clock
        self._check = check
        self._fastest = fastest
        self._longest_ms = longest_ms
        self._resumed = loop.speed or 1.0
        self._advance: asyncio.Future[int] | None = None

    def shown(self) -> dict[str, Any]:
        """The state of the clock."""
        now_ms = self.clock.now_ms()
        return {"virtual_time": show_moment(now_ms), "now_ms": now_ms, "speed": self._loop.speed,
                "paused": self._loop.speed == 0}

    def set_speed(self, speed: float) -> None:
        """Virtual seconds per real second; 0 pauses."""
        if not 0 <= speed <= self._fastest:
            raise Wrong(f"speed: {speed:g} is not possible: give 0 to {self._fastest:g}, or advance the clock")
        self.refuse_while_advancing()
        if self._loop.speed:
            self._resumed = self._loop.speed
        self._loop.set_speed(speed)

    def pause(self) -> None:
        """Stand still."""
        self.set_speed(0.0)

    def stand_still(self) -> None:
        """Pause at this very moment; an advance under way ends here, and whoever asked for it is told."""
        if self._loop.speed:
            self._resumed = self._loop.speed
        self._loop.set_speed(0.0)
        if self._advance is not None:
            self._advance.cancel()

    def resume(self) -> None:
        """Go on at the speed before the pause."""
        if self._loop.speed == 0:
            self.set_speed(self._resumed)

    async def advance(self, us: int) -> None:
        """Let so much virtual time pass at once; everything due until then has happened."""
        if us > self._longest_ms * US_PER_MS:
            raise Wrong(f"advance: at most {self._longest_ms // MS_PER_DAY} days at once: take several steps")
        try:
            self._check(self.clock.now_ms() + us // US_PER_MS)
        except Misconfigured as outside:
            raise Wrong(f"advance: {outside}") from None
        await self._until(lambda: self._loop.advance(us))

    async def advance_to(self, ms: int) -> None:
        """Let time pass until a moment to come."""
        us = ms * US_PER_MS - self.clock.now_us()
        if us < 0:
            now = show_moment(self.clock.now_ms())
            raise Wrong(f"to: {show_moment(ms)} is past, it is {now}: time does not run backwards (see POST /reset)")
        await self.advance(us)

    async def next_event(self) -> None:
        """Go to the next scheduled moment; nothing happens if nothing is scheduled."""
        await self._until(self._loop.advance_to_next_event)

    def refuse_while_advancing(self) -> None:
        """`Refused` while an advance is under way."""
        if self._advance is not None:
            raise Refused("the clock is being advanced: ask again when that is done")

    async def _until(self, go: Callable[[], asyncio.Future[int]]) -> None:
        self.refuse_while_advancing()
        self._advance = go()
        try:
            await self._advance
        except asyncio.CancelledError:
            if not self._advance.cancelled():
                raise
            at = show_moment(self.clock.now_ms())
            raise Refused(f"the run came to a stand at {at}: see GET /state for why") from None
        finally:
            self._advance = None


class ClockOrder(Order):
    """One of these."""

    speed: Annotated[float | None, Field(description="virtual seconds per real second; 0 pauses")] = None
    pause: Literal[True] | None = None
    resume: Annotated[Literal[True] | None, Field(description="go on at the speed before the pause")] = None
    advance: Annotated[Span | None, Field(description="let so much time pass at once")] = None
    to: Annotated[Moment | None, Field(description="let time pass until then")] = None
    next_event: Annotated[Literal[True] | None, Field(description="go to the next scheduled moment")] = None

    @model_validator(mode="after")
    def _one(self) -> ClockOrder:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self


def clock_routes(pace: Pace) -> APIRouter:
    """POST /clock."""
    router = APIRouter()

    @router.post("/clock")
    async def turn_clock(order: ClockOrder) -> dict[str, Any]:
        """Change the pace, or let time pass; answers when that is done."""
        if order.speed is not None:
            pace.set_speed(order.speed)
        elif order.pause:
            pace.pause()
        elif order.resume:
            pace.resume()
        elif order.advance is not None:
            await pace.advance(order.advance)
        elif order.to is not None:
            await pace.advance_to(order.to)
        else:
            await pace.next_event()
        return pace.shown()

    return router
