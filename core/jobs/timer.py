"""One timer for a heap of due times: order at one moment is the heap's own, whatever loop runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from core.clock import US_PER_MS, US_PER_S, Clock


class OneTimer:
    """Calls `ring` at the one moment it is set to; setting it to the same moment again costs nothing."""

    __slots__ = ("_clock", "_due_ms", "_handle", "_ring")

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock, self._ring = clock, ring
        self._handle: asyncio.TimerHandle | None = None
        self._due_ms = 0

    def set(self, due_ms: int) -> None:
        """Ring at `due_ms`, epoch milliseconds, instead of the moment set before; at once if that has passed."""
        if self._handle is not None:
            if self._due_ms == due_ms:
                return
            self._handle.cancel()
        delay_us = due_ms * US_PER_MS - self._clock.now_us()
        self._handle = asyncio.get_running_loop().call_later(max(delay_us, 0) / US_PER_S, self._on_time)
        self._due_ms = due_ms

    def cancel(self) -> None:
        """Ring no more until it is set again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _on_time(self) -> None:
        self._handle = None
        self._ring()
