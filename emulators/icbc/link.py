"""The simulated lines to the emulated ICBC, in two fidelities with the same times and faults.

`MessageLink` carries the messages themselves (``wire: messages``); `LineEndpoint` carries the signed bytes to a line's
ASGI application (``wire: full``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from core.banks.airstar import Endpoint
from core.clock import US_PER_S
from core.errors import OutcomeUnknown
from core.wire.icbc import Answer, BadSignature, MalformedMessage, Refused, Request
from emulators.asgi import deliver, give_up
from emulators.icbc.bank import IcbcBank
from emulators.loop import timer_of

REFUSED = "ConnectError: connection refused"


class MessageLink:
    """An exchange of one line without XML and cryptography. ``latency()`` draws a round trip in µs; after
    ``timeout_s`` without an answer the exchange is `OutcomeUnknown`."""

    def __init__(self, bank: IcbcBank, line_name: str, loop: asyncio.AbstractEventLoop, latency: Callable[[], int],
                 *, timeout_s: float) -> None:
        self._bank, self._line, self._latency = bank, line_name, latency
        self._new_answer, self._after_us = loop.create_future, timer_of(loop)
        self._timeout_us = round(timeout_s * US_PER_S)

    def __call__(self, request: Request) -> Awaitable[Answer]:
        answer: asyncio.Future[Answer] = self._new_answer()
        trip_us = self._latency()
        self._after_us(trip_us // 2, self._arrive, request, trip_us // 2, trip_us - trip_us // 2, answer)
        return answer

    def _arrive(self, request: Request, there_us: int, back_us: int, answer: asyncio.Future[Answer]) -> None:
        patience_us = max(0, self._timeout_us - there_us)
        fate = self._bank.arrives(self._line)
        if fate == "silence":
            self._after_us(patience_us, give_up, answer)
        elif fate == "refused":
            self._fail(answer, back_us, OutcomeUnknown(REFUSED))
        elif (fate := fate or self._bank.admits(self._line, request)) is not None:
            self._fail(answer, back_us, Refused(fate))
        else:
            found, delay_us, spoilt = self._bank.leaves(self._line, self._bank.answer(self._line, request))
            if delay_us + back_us >= patience_us:
                self._after_us(patience_us, give_up, answer)
            elif spoilt:
                self._fail(answer, delay_us + back_us, MalformedMessage("an answer is reqData and sign")
                           if "garbled" in spoilt else BadSignature("the signature is not good for these bytes"))
            else:
                self._after_us(delay_us + back_us, deliver, answer, found)

    def _fail(self, answer: asyncio.Future[Answer], after_us: int, error: Exception) -> None:
        self._after_us(after_us, _fail, answer, error)


def _fail(answer: asyncio.Future[Answer], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


class LineEndpoint:
    """An HTTP endpoint of one line at which nobody may be listening (fault ``line_down`` with ``refused``)."""

    def __init__(self, endpoint: Endpoint, bank: IcbcBank, line_name: str) -> None:
        self._endpoint, self._bank, self._line = endpoint, bank, line_name

    async def send(
        self, method: str, path_with_query: str, headers: Mapping[str, str], body: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        if self._bank.is_closed(self._line):
            raise OutcomeUnknown(REFUSED)
        return await self._endpoint.send(method, path_with_query, headers, body, timeout_s)
