"""The simulated line between the adapter and the emulated bank, in two fidelities with the same times and faults.

`MessageLink` carries the messages themselves (``wire: messages``); `AsgiLink` carries the signed bytes to the bank's
ASGI application (``wire: full``). A request takes half of a lognormal round trip to the bank and its answer the other
half. What is under way arrives even if the sender has stopped waiting, as on a real line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import ASGIApp, Message

from core.clock import US_PER_S, Clock
from core.errors import OutcomeUnknown
from core.wire.airstar import SIGNATURE_INVALID, Reply, Request, refusal
from emulators.airstar.bank import AirstarBank, timer_of


class MessageLink:
    """An exchange of the Airstar adapter without JSON and cryptography.

    ``latency()`` draws a round trip in µs; after ``timeout_s`` without an answer the exchange is `OutcomeUnknown`.
    """

    def __init__(
        self,
        bank: AirstarBank,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        latency: Callable[[], int],
        *,
        timeout_s: float,
    ) -> None:
        self._bank = bank
        self._clock = clock
        self._latency = latency
        self._new_answer = loop.create_future
        self._after_us = timer_of(loop)
        self._timeout_us = round(timeout_s * US_PER_S)

    def __call__(self, request: Request) -> Awaitable[Reply]:
        answer: asyncio.Future[Reply] = self._new_answer()
        trip_us = self._latency()
        there_us = trip_us // 2
        self._after_us(there_us, self._arrive, request, self._clock.now_ms(), there_us, trip_us - there_us, answer)
        if there_us >= self._timeout_us:
            self._after_us(self._timeout_us, _give_up, answer)
        return answer

    def _arrive(
        self, request: Request, sent_ms: int, there_us: int, back_us: int, answer: asyncio.Future[Reply]
    ) -> None:
        reply, delay_us = self._handle(request, sent_ms)
        patience_us = self._timeout_us - there_us
        if reply is not None and delay_us + back_us < patience_us:
            self._after_us(delay_us + back_us, _deliver, answer, reply)
        elif patience_us > 0:
            self._after_us(patience_us, _give_up, answer)

    def _handle(self, request: Request, sent_ms: int) -> tuple[Reply | None, int]:
        """What the bank's door does with a signature's time, then the bank."""
        if self._bank.trusts(sent_ms):
            return self._bank.handle(request)
        return (None if self._bank.silent else refusal(SIGNATURE_INVALID)), 0


def _deliver(answer: asyncio.Future[Any], reply: Any) -> None:
    if not answer.done():
        answer.set_result(reply)


def _give_up(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(OutcomeUnknown("no answer in time"))


class AsgiLink:
    """An endpoint of the Airstar adapter: bytes to the bank's ASGI application, without sockets."""

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop, latency: Callable[[], int]) -> None:
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
        call = _Call(_scope(method, path_with_query, headers, body), body, self._loop)
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
        task = self._loop.create_task(self._serve(call, back_us), name=f"airstar request {number}")
        self._serving[number] = task
        task.add_done_callback(lambda _: self._serving.pop(number))

    async def _serve(self, call: _Call, back_us: int) -> None:
        await self._app(call.scope, call.receive, call.send)
        if call.status:
            self._after_us(back_us, _deliver, call.answer, (call.status, bytes(call.body)))


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
        _give_up(self.answer)

    def hang_up(self) -> None:
        """The sender closes the line: whatever the application says from now on, nobody hears it."""
        self._gone.set()


def _scope(method: str, path_with_query: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
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
        "headers": [(b"host", b"airstar"), (b"content-length", str(len(body)).encode()), *lines],
        "client": ("127.0.0.1", 1),
        "server": ("airstar", 443),
    }
