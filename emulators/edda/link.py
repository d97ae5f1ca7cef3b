"""The lines to an emulated direct-debit interface as messages: the same times and faults, without JSON, JWS and SSH."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from core.banks.hsbc import Mailbox, RemoteFile
from core.clock import MS_PER_S, US_PER_S
from core.errors import OutcomeUnknown
from core.wire.edda import BadSignature, Reply, Request
from emulators.asgi import deliver, give_up
from emulators.edda.bank import EddaBank
from emulators.loop import timer_of

Latency = Callable[[], int]
"""A round trip between us and the bank, in µs."""


class MessageLink:
    """An exchange of the adapter. What is under way arrives even if the sender has stopped waiting."""

    def __init__(self, bank: EddaBank, loop: asyncio.AbstractEventLoop, latency: Latency, *, timeout_s: float) -> None:
        self._bank, self._latency = bank, latency
        self._new_answer = loop.create_future
        self._after_us = timer_of(loop)
        self._timeout_us = round(timeout_s * US_PER_S)

    def __call__(self, request: Request) -> Awaitable[Reply]:
        answer: asyncio.Future[Reply] = self._new_answer()
        trip_us = self._latency()
        self._after_us(trip_us // 2, self._arrive, request, trip_us - trip_us // 2, answer)
        self._after_us(self._timeout_us, give_up, answer)
        return answer

    def _arrive(self, request: Request, back_us: int, answer: asyncio.Future[Reply]) -> None:
        handled = self._bank.handle(request)
        if handled.forged:
            self._after_us(handled.delay_us + back_us, _noise, answer)
        elif handled.reply is not None:
            self._after_us(handled.delay_us + back_us, deliver, answer, handled.reply)


def _noise(answer: asyncio.Future[Reply]) -> None:
    if not answer.done():
        answer.set_exception(BadSignature("unknown key"))


class MessageReports:
    """Opens the folder with the reports."""

    def __init__(self, bank: EddaBank, latency: Latency) -> None:
        self._bank, self._latency = bank, latency

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Mailbox]:
        await self.trip()
        yield _Folder(self._bank, self.trip)

    async def trip(self) -> None:
        """There and back; `OutcomeUnknown` if the server is down."""
        await asyncio.sleep(self._latency() / US_PER_S)
        if not self._bank.is_up():
            raise OutcomeUnknown("the bank refuses connections")


class _Folder:
    """Implements `Mailbox`."""

    def __init__(self, bank: EddaBank, trip: Callable[[], Awaitable[None]]) -> None:
        self._files, self._folder, self._trip = bank.files, bank.values.report_folder, trip

    async def files(self) -> list[RemoteFile]:
        await self._trip()
        return [RemoteFile(path.rpartition("/")[2], file.modified_ms // MS_PER_S, len(file.content))
                for path, file in self._files.under(self._folder)]

    async def read(self, file: RemoteFile, limit: int) -> bytes:
        await self._trip()
        found = self._files.get(f"{self._folder}/{file.name}")
        if found is None:
            raise OutcomeUnknown(f"{file.name} is gone")
        return found.content[: limit + 1]
