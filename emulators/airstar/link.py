"""The simulated line between the adapter and the emulated bank, in two fidelities with the same times and faults.

`MessageLink` carries the messages themselves (``wire: messages``); `AsgiLink` carries the signed bytes to the bank's
ASGI application (``wire: full``). A request takes half of a lognormal round trip to the bank and its answer the other
half. What is under way arrives even if the sender has stopped waiting, as on a real line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from core.clock import US_PER_S, Clock
from core.wire.airstar import SIGNATURE_INVALID, Reply, Request, refusal
from emulators.airstar.bank import AirstarBank
from emulators.asgi import AsgiLink as AsgiLink
from emulators.asgi import deliver, give_up
from emulators.loop import timer_of


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
            self._after_us(self._timeout_us, give_up, answer)
        return answer

    def _arrive(
        self, request: Request, sent_ms: int, there_us: int, back_us: int, answer: asyncio.Future[Reply]
    ) -> None:
        reply, delay_us = self._handle(request, sent_ms)
        patience_us = self._timeout_us - there_us
        if reply is not None and delay_us + back_us < patience_us:
            self._after_us(delay_us + back_us, deliver, answer, reply)
        elif patience_us > 0:
            self._after_us(patience_us, give_up, answer)

    def _handle(self, request: Request, sent_ms: int) -> tuple[Reply | None, int]:
        """What the bank's door does with a signature's time, then the bank."""
        if self._bank.trusts(sent_ms):
            return self._bank.handle(request)
        return (None if self._bank.silent else refusal(SIGNATURE_INVALID)), 0
