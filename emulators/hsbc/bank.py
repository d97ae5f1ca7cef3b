"""HSBC as it tells us of credits: each at once in a file dropped at our server, and all of ten minutes in a file laid
out for us (gaps.md A-57, B-20).

Both ways tell of everything: who hears by one of them misses nothing. A drop that fails is tried again some times; then
the file that is laid out has to do. During its maintenance the bank drops and lays out nothing, and makes up for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from core.clock import US_PER_MS, Clock
from core.trace import Trace
from emulators.faults import Fault, FaultsInForce
from emulators.hsbc.faults import BATCH, PUSH, Strikes, faults_in_force, garble
from emulators.hsbc.messages import file_name, message_of
from emulators.hsbc.seal import Sealing, how_of
from emulators.hsbc.values import HsbcValues
from emulators.loop import timer_of
from emulators.receiving import Line, ReceivingBank
from emulators.sftp import MemoryFiles
from emulators.streams import Streams

BANK: Final = "hsbc"


class DropFailed(Exception):
    """A file could not be dropped, or nobody heard of it."""


class Courier(Protocol):
    """The bank's way to us. Silence and refusal raise `DropFailed`."""

    async def drop(self, name: str, content: bytes) -> None:
        """Put a file into our box, whole or not at all."""

    async def ring(self, name: str) -> None:
        """Say that it lies there."""

    async def close(self) -> None:
        """Hang up."""


class HsbcBank(ReceivingBank):
    """``sealing`` may be set until the first line is booked, ``courier`` at any time: without one nothing is
    dropped."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Streams | Callable[[str], Any], trace: Trace,
        settings: Mapping[str, Any], sealing: Sealing, *, in_maintenance: Callable[[int], bool] = lambda _ms: False,
    ) -> None:
        super().__init__(BANK, clock, trace, settings["receiving.hsbc.accounts"])
        self.values = HsbcValues.of(settings)
        self.files = MemoryFiles(clock, self.values.folder)
        self.courier: Courier | None = None
        self.sealing = sealing
        self._loop, self._in_maintenance = loop, in_maintenance
        self._after_us = timer_of(loop)
        self._delays = streams("hsbc.push")
        self.faults: FaultsInForce = faults_in_force(self._after_us, trace, streams("hsbc.faults").random)
        self._waiting: list[Line] = []
        self._with_batch: list[Line] = []
        self._batch_due = False
        self._number = 0
        self._file_number = 0
        self._dropping: dict[asyncio.Task[None], None] = {}
        self.listen(self._hear)

    # Faults

    def is_up(self) -> bool:
        """Whether the bank's server takes connections now."""
        return not self._in_maintenance(self._clock.now_ms()) and not self.faults.active("sftp_down")

    # Telling

    def _hear(self, line: Line) -> None:
        """A new line: only credits are confirmed by MT910."""
        if not line.credit:
            return
        self._waiting.append(line)
        self._arm_batch()
        span = self.values.push_most_us - self.values.push_least_us
        delay = self.values.push_least_us + int(span * self._delays.random())
        if self._struck(Strikes.BOOKING, line):
            self._with_batch.append(line)
        else:
            self._after_us(delay, self._push, line)

    def _arm_batch(self) -> None:
        if self._batch_due:
            return
        self._batch_due = True
        period, offset = self.values.batch_ms, self.values.batch_offset_ms
        now_us = self._clock.now_us()
        since_us = (now_us - offset * US_PER_MS) % (period * US_PER_MS)
        self._after_us(period * US_PER_MS - since_us, self._lay_out)

    def _push(self, line: Line) -> None:
        if self._in_maintenance(self._clock.now_ms()):
            self._after_us(self.values.maintenance_wait_us, self._push, line)
            return
        if self.courier is None or self._struck(Strikes.DROP, line):
            return
        name, content, late_us = self._file(PUSH, [line])
        times = 2 if self._struck(Strikes.TWICE, line) else 1
        for number in range(times):
            self._after_us(late_us, self._begin_drop, name if number == 0 else self._name(line.our_account), content,
                           line, 0)

    def _lay_out(self) -> None:
        """Lay out a file for each account with what was booked since the last, and drop what waited for that."""
        if self._in_maintenance(self._clock.now_ms()):
            self._after_us(self.values.maintenance_wait_us, self._lay_out)
            return
        self._batch_due = False
        lines, self._waiting = self._waiting, []
        dropped, self._with_batch = self._with_batch, []
        self.files.remove_older(self.values.folder, self._clock.now_ms() - self.values.keep_ms)
        for account in self.our_accounts.values():
            mine = [line for line in lines if line.our_account == account]
            if mine:
                name, content, late_us = self._file(BATCH, mine)
                self._after_us(late_us, self.files.put, f"{self.values.folder}/{name}", content)
        for line in dropped:
            self._push(line)

    # Files

    def _file(self, kind: str, lines: list[Line]) -> tuple[str, bytes, int]:
        """Name and content of a file, and by how much it is late."""
        name = self._name(lines[0].our_account)
        plain = b"\r\n".join(message for line in lines for message in self._messages(kind, line))
        faults = self._struck_file(kind, lines, name)
        late = faults.get("late_file")
        late_us = round(late.params["delay_s"] * US_PER_MS * 1_000) if late is not None else 0
        return name, self.sealing.seal(plain, how_of(faults)), late_us

    def _name(self, our_account: str) -> str:
        self._file_number += 1
        return file_name(our_account, self._clock.now_ms(), self._file_number)

    def _messages(self, kind: str, line: Line) -> list[bytes]:
        message = message_of(line, self.values)
        faults = {fault.name: fault for fault in self.faults.strike(
            Strikes.MESSAGE, kind, (line.reference,), line.customer)}
        if "garbled" in faults:
            message = garble(message, faults["garbled"].params["code"])
        if "duplicate_reference" not in faults:
            return [message]
        other = faults["duplicate_reference"].params["amount"] == "other"
        return [message, message_of(_one_cent_more(line), self.values) if other else message]

    def _struck(self, place: Strikes, line: Line) -> bool:
        """Whether the fault of this place strikes the push of a line."""
        return bool(self.faults.strike(place, PUSH, (line.reference,), line.customer))

    def _struck_file(self, kind: str, lines: list[Line], file: str) -> dict[str, Fault]:
        """All faults that strike a file: for the sake of the first of its lines at which they are aimed."""
        for line in lines:
            struck = self.faults.strike(Strikes.FILE, kind, (line.reference, file), line.customer)
            if struck:
                return {fault.name: fault for fault in struck}
        return {}

    # Dropping

    def _begin_drop(self, name: str, content: bytes, line: Line, attempt: int) -> None:
        if self.courier is None:
            return  # nobody wants them any more
        task = self._loop.create_task(self._drop(self.courier, name, content, line, attempt),
                                      name=f"hsbc drops {name}")
        self._dropping[task] = None
        task.add_done_callback(lambda _: self._dropping.pop(task))

    async def _drop(self, courier: Courier, name: str, content: bytes, line: Line, attempt: int) -> None:
        try:
            await courier.drop(name, content)
            if not self._struck(Strikes.BELL, line):
                await courier.ring(name)
        except DropFailed:
            if attempt < len(self.values.retries_us):
                self._after_us(self.values.retries_us[attempt], self._begin_drop, name, content, line, attempt + 1)

    async def close(self) -> None:
        """Drop nothing more."""
        for task in tuple(self._dropping):
            task.cancel()
        await asyncio.gather(*self._dropping, return_exceptions=True)
        if self.courier is not None:
            await self.courier.close()


def _one_cent_more(line: Line) -> Line:
    return replace(line, amount=line.amount + 1)
