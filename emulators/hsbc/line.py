"""The lines between HSBC and us as messages: the same files, latencies and faults, without SSH and OpenPGP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from core.banks.hsbc import Deliver, Mailbox, Notice, RemoteFile
from core.clock import MS_PER_S, US_PER_S
from core.errors import OutcomeUnknown
from emulators.hsbc.bank import DropFailed, HsbcBank

Latency = Callable[[], int]
"""One way between the bank and us, in µs."""


class MessageBank:
    """Opens the bank's mailbox. ``latency``: of each question and each answer."""

    def __init__(self, bank: HsbcBank, latency: Latency) -> None:
        self._bank, self._latency = bank, latency

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Mailbox]:
        await self._trip()
        yield MessageMailbox(self._bank, self._trip)

    async def _trip(self) -> None:
        """There and back; `OutcomeUnknown` if the bank's server is down."""
        await asyncio.sleep((self._latency() + self._latency()) / US_PER_S)
        if not self._bank.is_up():
            raise OutcomeUnknown("the bank refuses connections")


class MessageMailbox:
    """Implements `Mailbox`."""

    def __init__(self, bank: HsbcBank, trip: Callable[[], Awaitable[None]]) -> None:
        self._bank, self._trip, self._folder = bank, trip, bank.values.folder

    async def files(self) -> list[RemoteFile]:
        await self._trip()
        return [RemoteFile(path.rpartition("/")[2], file.modified_ms // MS_PER_S, len(file.content))
                for path, file in self._bank.files.under(self._folder)]

    async def read(self, file: RemoteFile, limit: int) -> bytes:
        await self._trip()
        found = self._bank.files.get(f"{self._folder}/{file.name}")
        if found is None:
            raise OutcomeUnknown(f"{file.name} is gone")
        return found.content[: limit + 1]


class MessageCourier:
    """Implements `emulators.hsbc.bank.Courier`: to whoever listens now."""

    def __init__(self, latency: Latency) -> None:
        self._latency = latency
        self._ours: tuple[Deliver, Notice] | None = None

    async def listen(self, deliver: Deliver, notice: Notice) -> Callable[[], Awaitable[None]]:
        """We listen from now on; gives what ends it."""
        ours = self._ours = (deliver, notice)

        async def end() -> None:
            self.deaf(ours)

        return end

    def deaf(self, ours: tuple[Deliver, Notice] | None = None) -> None:
        """Nobody listens any more (if it is still that one)."""
        if ours is None or self._ours is ours:
            self._ours = None

    async def drop(self, name: str, content: bytes) -> None:
        await self._trip()
        if self._ours is None:
            raise DropFailed("nobody is there")
        try:
            await self._ours[0](name, content)
        except Exception as error:  # what breaks at our end, the bank hears as a failure
            raise DropFailed(f"{type(error).__name__}: {error}") from error
        await self._trip()

    async def ring(self, name: str) -> None:
        await self._trip()
        if self._ours is None or not await self._ours[1](name):
            raise DropFailed("nobody heard it")
        await self._trip()

    async def close(self) -> None:
        """Nothing to hang up."""

    async def _trip(self) -> None:
        await asyncio.sleep(self._latency() / US_PER_S)
