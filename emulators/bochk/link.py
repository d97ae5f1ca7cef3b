"""The lines to the emulated BOCHK without documents and FTP (``wire: messages``): same times, same faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from core.banks.bochk import S16File
from core.clock import US_PER_S
from core.errors import BankFault, OutcomeUnknown
from core.wire.bochk_b2e import Reply, Request
from emulators.bochk.bank import BochkBank
from emulators.bochk.s16 import S16Writer


class MessageExchange:
    """Implements `core.banks.bochk.Exchange`. ``latency()`` draws a round trip in µs."""

    def __init__(self, bank: BochkBank, latency: Callable[[], int], *, timeout_s: float) -> None:
        self._bank, self._latency, self._timeout_us = bank, latency, round(timeout_s * US_PER_S)

    async def __call__(self, request: Request) -> Reply:
        trip_us = self._latency()
        await asyncio.sleep(trip_us // 2 / US_PER_S)
        answered = self._bank.handle(request)
        rest_us = trip_us - trip_us // 2 + answered.delay_us
        if answered.reply is None or trip_us // 2 + rest_us >= self._timeout_us:
            await asyncio.sleep((self._timeout_us - trip_us // 2) / US_PER_S)
            raise OutcomeUnknown("no answer in time")
        await asyncio.sleep(rest_us / US_PER_S)
        if answered.spoilt:
            raise BankFault(f"a reply that cannot be read: {answered.spoilt}")
        return answered.reply


class MessageFiles:
    """Implements `core.banks.bochk.S16Files`: the bank's folder itself, in its hours."""

    def __init__(self, writer: S16Writer, latency: Callable[[], int]) -> None:
        self._writer, self._latency = writer, latency

    async def fetch(self, wanted: Callable[[Sequence[S16File]], Sequence[S16File]]) -> list[tuple[S16File, bytes]]:
        await asyncio.sleep(self._latency() / US_PER_S)
        if not self._writer.open:
            raise OutcomeUnknown("the FTP service is closed")
        listed = [S16File(name, f"{stored.written_ms}/{len(stored.content)}")
                  for name, stored in sorted(self._writer.files.items())]
        return [(file, self._writer.files[file.name].content) for file in wanted(listed)]
