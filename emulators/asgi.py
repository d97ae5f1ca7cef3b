"""A simulated HTTP line: requests to an emulated bank's ASGI application in virtual time, without sockets.

What is under way arrives even if the sender has stopped waiting, as on a real line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.clock import US_PER_S
from core.errors import OutcomeUnknown
from emulators.loop import timer_of


def deliver(answer: asyncio.Future[Any], reply: Any) -> None:
    """The answer has come; nobody hears it who has given up."""
    if not answer.done():
        answer.set_result(reply)


def give_up(answer: asyncio.Future[Any]) -> None:
    """No answer came in time."""
    if not answer.done():
        answer.set_exception(OutcomeUnknown("no answer in time"))


class AsgiLink:
    """An HTTP endpoint of an adapter: bytes to a bank's ASGI application, without sockets.

    ``latency()`` draws a round trip in µs; ``host`` is the bank's name in requests and tasks.
    """

    def __init__(
        self, app: ASGIApp, loop: asyncio.AbstractEventLoop, latency: Callable[[], int], host: str = "airstar"
    ) -> None:
        self._host = host
        self._app = app
        self._loop = loop
        self._latency = latency
        self._after_us = timer_of(loop)
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._number = 0

    async def send(
        self, method: str, path_with_query: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """(status, body) of the application's answer; `OutcomeUnknown` if none comes within ``timeout_s``."""
        trip_us = self._latency()
        call = _Call(_scope(self._host, method, path_with_query, headers, body), body, self._loop)
        self._after_us(trip_us // 2, self._arrive, call, trip_us - trip_us // 2)
        patience = self._after_us(round(timeout_s * US_PER_S), call.give_up)
        try:
            return await call.answer
        finally:
            patience.cancel()
            call.hang_up()

    def _arrive(self, call: _Call, back_us: int) -> None:
        self._number += 1
        number = self._number
        task = self._loop.create_task(self._serve(call, back_us), name=f"{self._host} request {number}")
        self._serving[number] = task
        task.add_done_callback(lambda _: self._serving.pop(number))

    async def _serve(self, call: _Call, back_us: int) -> None:
        await self._app(call.scope, call.receive, call.send)
        if call.status:
            self._after_us(back_us, deliver, call.answer, (call.status, bytes(call.body)))


class _Call:
    """One request at the application: what it receives and sends, and the sender's patience."""

    __slots__ = ("_gone", "_request", "answer", "body", "scope", "status")

    def __init__(self, scope: dict[str, Any], request: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.scope = scope
        self.status = 0
        self.body = bytearray()
        self.answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self._request: bytes | None = request
        self._gone = asyncio.Event()

    async def receive(self) -> Message:
        if self._request is not None:
            request, self._request = self._request, None
            return {"type": "http.request", "body": request, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")

    def give_up(self) -> None:
        """The sender has waited long enough."""
        give_up(self.answer)

    def hang_up(self) -> None:
        """The sender closes the line: whatever the application says from now on, nobody hears it."""
        self._gone.set()


def _scope(
    host: str, method: str, path_with_query: str, headers: Mapping[str, str], body: bytes
) -> dict[str, Any]:
    path, _, query = path_with_query.partition("?")
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", host.encode()), (b"content-length", str(len(body)).encode()), *lines],
        "client": ("127.0.0.1", 1),
        "server": (host, 443),
    }


class Silence(Response):
    """Says nothing until the client has gone away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's shape
        while (await receive())["type"] != "http.disconnect":
            pass
