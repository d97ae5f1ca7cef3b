"""The virtual loop of a server: paced or paused, real sockets, and beside the virtual timers some of real time.

A virtual timer is the bank's, a real one the connections': it fires after so many real µs, also while the clock is
paused, runs or is advanced by hours.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic_ns
from typing import Any

from core.clock import US_PER_S
from emulators.loop import SimLoop

_SWEEP_ABOVE = 1_024
_ROUNDS_BEFORE_EVENT = 50


def real_us() -> int:
    """Real microseconds since some moment: for differences only."""
    return monotonic_ns() // 1_000  # the connections of clients live in the machine's time


class RealTimer:
    """Calls back once."""

    __slots__ = ("_args", "_callback", "due_us")

    def __init__(self, due_us: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.due_us = due_us
        self._callback: Callable[..., object] | None = callback
        self._args = args

    @property
    def cancelled(self) -> bool:
        return self._callback is None

    def cancel(self) -> None:
        """Never fire; harmless afterwards."""
        self._callback = None
        self._args = ()

    def fire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back, as soon as the loop comes to it."""
        if self._callback is not None:
            loop.call_soon(self._callback, *self._args)
            self.cancel()


class ServedLoop(SimLoop):
    """A virtual loop that never jumps: ``speed`` is a factor, or 0."""

    def __init__(self, speed: float) -> None:
        self._real: list[tuple[int, int, RealTimer]] = []
        self._real_number = count()
        self._sweep_above = _SWEEP_ABOVE
        self._rounds = 0
        super().__init__(0)
        try:
            self.set_speed(speed)
        except ValueError:
            self.close()
            raise

    def set_speed(self, speed: float) -> None:
        """Virtual seconds per real second from now on; 0 pauses."""
        if speed == math.inf:
            raise ValueError("a clock that jumps leaves its clients behind: give a factor, or advance it")
        super().set_speed(speed)

    def call_after_real_us(self, us: int, callback: Callable[..., object], *args: object) -> RealTimer:
        """Call back after so many real microseconds, whatever the virtual clock does meanwhile."""
        timer = RealTimer(real_us() + max(0, us), callback, args)
        heappush(self._real, (timer.due_us, next(self._real_number), timer))
        if len(self._real) > self._sweep_above:
            self._sweep_reals()
        return timer

    def _sweep_reals(self) -> None:
        """Forget cancelled timers: a connection that is in use sets and cancels one with every request."""
        self._real = [entry for entry in self._real if not entry[2].cancelled]
        heapify(self._real)
        self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._real))

    def begin_again(self) -> None:
        """Nothing that is scheduled in virtual time will happen, and its clock begins at its origin."""
        self._queue.clear()
        self._cancelled_timers = 0
        self.env._now = 0
        self.set_speed(self.speed)

    def close(self) -> None:
        super().close()
        self._real.clear()

    def _fire_due(self) -> bool:
        """What sockets have brought comes before the next virtual event, so that two ends in this process talk to each
        other while the clock is advanced by hours. Outside clients cannot hold it up for ever by that."""
        if self._ready and self._rounds < _ROUNDS_BEFORE_EVENT:
            self._rounds += 1
            return False
        self._rounds = 0
        return super()._fire_due()

    def _patience_s(self) -> float | None:
        patience_s = super()._patience_s()
        self._drop_cancelled_reals()
        if not self._real:
            return patience_s
        left_s = max(0, self._real[0][0] - real_us()) / US_PER_S
        return left_s if patience_s is None else min(patience_s, left_s)

    def _refuse_endless_wait(self, patience_s: float | None) -> None:
        """A server may wait for ever: for a client, or a signal."""

    def _follow_target(self) -> None:
        super()._follow_target()
        while self._real and self._real[0][0] <= real_us():
            heappop(self._real)[2].fire(self)

    def _drop_cancelled_reals(self) -> None:
        while self._real and self._real[0][2].cancelled:
            heappop(self._real)
