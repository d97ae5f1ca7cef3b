"""``nostro serve``: a paced run of core and banks in one process, and the HTTP interface to it.

The run itself is a `PacedWorld`; this file serves it: clock, faults, wishes of customers, events, alerts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from api.watch import Watch
from core.clock import MS_PER_DAY, Clock
from core.money import Currency
from core.settings import Settings
from core.trace import Event, Trace
from emulators.standalone.customers import MarketName
from emulators.standalone.fault_control import FaultControl, FaultPort, fault_routes
from emulators.standalone.http import HttpFace
from emulators.standalone.loop import ServedLoop
from emulators.standalone.pace import Pace, clock_routes
from emulators.standalone.process import ended_by_signals
from emulators.standalone.web import Remembered, control_app
from emulators.standalone.words import Amount, Order, show_moment


class Wish(NamedTuple):
    """What a customer wants: amount in minor units; ``at_bank``: begun in the bank's app, not in ours."""

    kind: Literal["deposit", "withdrawal"]
    customer: str
    channel: str
    market: str
    ccy: str
    amount: int
    at_bank: bool


class PacedWorld(FaultPort, Protocol):
    """Core and banks on one loop. Built without anything happening; `begin` starts it."""

    @property
    def clock(self) -> Clock: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def title(self) -> str: ...

    async def begin(self) -> None:
        """Servers listen, the core runs."""

    async def run(self) -> None:
        """What the scenario says, until its end."""

    async def close(self) -> None:
        """Everything ends orderly."""

    def check(self, ms: int) -> None:
        """`Misconfigured` for a moment that the run cannot reach."""

    def banks(self) -> dict[str, dict[str, Any]]:
        """Bank -> where it stands, whether the core is connected and over which exit server."""

    def wish(self, wish: Wish) -> None:
        """A customer wants something now; what becomes of it is in the trace. `Unknown` or `Wrong` if it cannot be."""

    @property
    def fault(self) -> BaseException | None:
        """What has gone wrong in the run itself."""


class WishOrder(Order):
    """A deposit or withdrawal on behalf of a customer."""

    kind: Literal["deposit", "withdrawal"]
    customer: Annotated[str, Field(min_length=1, description="id as in the scenario")]
    channel: Annotated[str, Field(min_length=1, description="airstar, cmb, …")]
    ccy: Currency
    amount: Amount
    market: MarketName = "HK"
    by: Annotated[Literal["app", "bank"], Field(description="begun in our app, or at the bank")] = "app"


class PacedServer:
    """Serves one world on one port."""

    def __init__(self, world: PacedWorld, loop: ServedLoop) -> None:
        settings = world.settings
        self.world, self._loop = world, loop
        self.watch = Watch(settings["standalone.control.journal"])
        world.trace.subscribe(self.watch)
        world.trace.subscribe(self._look)
        self.page = int(settings["standalone.control.page"])
        self.pace = Pace(loop, world.clock, check=world.check, fastest=settings["standalone.control.fastest"],
                         longest_ms=round(settings["standalone.control.longest_advance"] * MS_PER_DAY))
        self._closing_speed = float(settings["standalone.speed"])
        self.ended = self.broken = False
        self.stopped: asyncio.Future[None] = loop.create_future()
        app = control_app(f"Nostro: {world.title}")
        app.include_router(clock_routes(self.pace))
        app.include_router(fault_routes(FaultControl(world, world.clock)))
        app.include_router(_routes(self))
        remembered = Remembered(app, settings["standalone.control.answers"], settings["standalone.http.body_limit"])
        self._face = HttpFace(remembered, loop, settings["standalone.http.idle_s"])

    def _look(self, _event: Event) -> None:
        """A run that is broken stands still, to be looked at."""
        if not self.broken and self.world.fault is not None:
            self.broken = True
            self.pace.stand_still()

    def state(self) -> dict[str, Any]:
        """Everything of GET /state."""
        return {"title": self.world.title, "clock": self.pace.shown(), "ended": self.ended, "broken": self.broken,
                "procedures": self.watch.procedures(), "banks": self.world.banks(), "alerts": len(self.watch.alerts()),
                "faults": self.world.faults_in_force(), "events": self.watch.last}

    async def live(self, host: str, port: int, announce: Callable[[Mapping[str, Any]], None]) -> None:
        """Serve until `stop`; the run's end pauses it and leaves it to be looked at."""
        try:
            port = await self._face.listen(host, port)
            await self.world.begin()
            running = asyncio.ensure_future(self.world.run())
            running.add_done_callback(self._over)
            announce({"control": f"http://{host}:{port}", **self.state()})
            try:
                await self.stopped
            finally:
                running.cancel()
        finally:
            self._loop.set_speed(max(self._loop.speed, self._closing_speed))  # what still waits, waits in virtual time
            await self.world.close()
            await self._face.close()

    def _over(self, running: asyncio.Future[None]) -> None:
        if running.cancelled():
            return
        error = running.exception()
        if error is not None:
            self.stop(error)
        else:
            self.ended = True
            self.pace.stand_still()

    def stop(self, error: BaseException | None = None) -> None:
        """Serve no longer; ``error`` is why, if it is not by wish."""
        if self.stopped.done():
            return
        if error is None:
            self.stopped.set_result(None)
        else:
            self.stopped.set_exception(error)


def _routes(server: PacedServer) -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        """200 while the run is intact, else 503 with what went wrong in it."""
        fault = server.world.fault
        status, word = (200, "ok") if fault is None else (503, f"{type(fault).__name__}: {fault}")
        return Response(word, status, media_type="text/plain")

    @router.get("/state")
    async def state() -> dict[str, Any]:
        """Clock, Procedures by state, banks."""
        return server.state()

    @router.post("/wishes", status_code=202)
    async def wish(order: WishOrder) -> dict[str, Any]:
        """A customer wants something now; what becomes of it is in the events after the number given."""
        after = server.watch.last
        server.world.wish(Wish(order.kind, order.customer, order.channel, order.market, str(order.ccy), order.amount,
                               order.by == "bank"))
        return {"wished_at": show_moment(server.pace.clock.now_ms()), "events_after": after}

    @router.get("/alerts")
    async def alerts() -> dict[str, Any]:
        """Alerts that were raised and not cleared."""
        return {"alerts": server.watch.alerts()}

    @router.get("/events")
    async def events(
        after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int | None, Query(ge=1)] = None
    ) -> Response:
        """Events of the trace after a number, oldest first; only the last ones are kept. Amounts are minor units."""
        body = server.watch.events_json(after, server.page if limit is None else min(limit, server.page))
        return Response(body, media_type="application/json")

    return router


def serve(
    make: Callable[[ServedLoop], PacedWorld], *, speed: float, host: str, port: int,
    announce: Callable[[Mapping[str, Any]], None],
) -> None:
    """Serve the world that ``make`` builds until SIGINT or SIGTERM; ``announce`` is called once it runs."""
    loop = ServedLoop(speed)
    try:
        server = PacedServer(make(loop), loop)
        with ended_by_signals(server.stop, loop):
            loop.run_until_complete(server.live(host, port, announce))
    finally:
        loop.close()
