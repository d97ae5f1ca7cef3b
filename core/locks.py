"""Distributed locks: one port, and the form for one process.

Rules (gaps.md B-31, B-15; LOCK-02, LOCK-03)
---------------------------------------------
* A key has at most one holder. A holder has a token that only it knows; nobody else can renew or release.
* A lock lives for its TTL by the injected clock and then is free, whatever became of its holder. From that moment
  the former holder's token is worth nothing.
* Who waits is served in the order of asking, and gives up after its wait limit.
* A lock keeps others away; it does not protect data. Whoever lost it unawares is stopped by the version check
  (LOCK-04).

Keys in use: ``procedure:{id}`` (TTL 30 s) and ``job:{name}`` (TTL 3 periods, at least 60 s).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from core.clock import MS_PER_S, Clock


class Locks(Protocol):
    """What a lock service does. Times are milliseconds; a token is a non-empty string."""

    async def acquire(self, key: str, owner: str, ttl_ms: int, wait_ms: int = 0) -> str | None:
        """The token of the lock, or None if it was not to be had within ``wait_ms`` (LOCK_BUSY).

        ``owner`` is for people: it begins the token. A lock cannot be taken twice by one owner.
        """

    async def renew(self, key: str, token: str, ttl_ms: int) -> bool:
        """Hold it for another ``ttl_ms`` from now; False if it is not held under this token any more."""

    async def release(self, key: str, token: str) -> bool:
        """Let go; False (and nothing happens) if it is not held under this token any more."""


class _Waiter:
    """Somebody in the queue of one key; ``turn`` becomes its token, or None at its wait limit."""

    __slots__ = ("owner", "ttl_ms", "turn")

    def __init__(self, owner: str, ttl_ms: int, turn: asyncio.Future[str | None]) -> None:
        self.owner, self.ttl_ms, self.turn = owner, ttl_ms, turn


class LocalLocks:
    """Locks of one process. Two cores of a simulation that share it behave like two that share one Redis.

    What a dead holder left stays in memory until somebody asks for the key again: one small entry per key.
    """

    __slots__ = ("_clock", "_held", "_number", "_waiting", "_watching")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, tuple[str, int]] = {}  # key -> (token, moment at which it expires)
        self._number = 0
        self._waiting: dict[str, deque[_Waiter]] = {}  # only keys for which somebody waits
        self._watching: dict[str, asyncio.TimerHandle] = {}  # expiry of the holder, while somebody waits

    async def acquire(self, key: str, owner: str, ttl_ms: int, wait_ms: int = 0) -> str | None:
        held = self._held.get(key)
        now = self._clock.now_ms()
        if (held is None or held[1] <= now) and key not in self._waiting:
            self._number = number = self._number + 1
            token = f"{owner}:{number}"
            self._held[key] = (token, now + ttl_ms)
            return token
        return await self._wait(key, owner, ttl_ms, wait_ms) if wait_ms > 0 else None

    async def renew(self, key: str, token: str, ttl_ms: int) -> bool:
        held = self._held.get(key)
        now = self._clock.now_ms()
        if held is None or held[0] != token or held[1] <= now:
            return False
        self._held[key] = (token, now + ttl_ms)
        return True

    async def release(self, key: str, token: str) -> bool:
        held = self._held.get(key)
        if held is None or held[0] != token:
            return False
        del self._held[key]
        if key in self._waiting:
            self._serve(key)
        return held[1] > self._clock.now_ms()

    # Waiting

    async def _wait(self, key: str, owner: str, ttl_ms: int, wait_ms: int) -> str | None:
        loop = asyncio.get_running_loop()
        waiter = _Waiter(owner, ttl_ms, loop.create_future())
        self._waiting.setdefault(key, deque()).append(waiter)
        self._watch(key)
        limit = loop.call_later(wait_ms / MS_PER_S, _give_up, waiter.turn)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled() and (token := waiter.turn.result()) is not None:
                await self.release(key, token)  # its turn came in the same moment: it passes to the next
            raise
        finally:
            limit.cancel()
            self._leave(key, waiter)

    def _leave(self, key: str, waiter: _Waiter) -> None:
        """Out of the queue, if the waiter is still in it."""
        queue = self._waiting.get(key)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
        if not queue:
            self._waiting.pop(key, None)
            self._unwatch(key)

    def _serve(self, key: str) -> None:
        """The lock is free: it goes to the first who still waits."""
        queue = self._waiting[key]
        while queue:
            waiter = queue.popleft()
            if not waiter.turn.done():
                self._number += 1
                token = f"{waiter.owner}:{self._number}"
                self._held[key] = (token, self._clock.now_ms() + waiter.ttl_ms)
                waiter.turn.set_result(token)
                break
        if queue:
            self._watch(key)
        else:
            del self._waiting[key]
            self._unwatch(key)

    def _watch(self, key: str) -> None:
        """Look again when the holder's time is up; it may have been renewed by then."""
        self._unwatch(key)
        held = self._held.get(key)
        left_ms = held[1] - self._clock.now_ms() if held is not None else 0
        self._watching[key] = asyncio.get_running_loop().call_later(max(left_ms, 0) / MS_PER_S, self._look, key)

    def _unwatch(self, key: str) -> None:
        timer = self._watching.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _look(self, key: str) -> None:
        held = self._held.get(key)
        if held is not None and held[1] > self._clock.now_ms():
            self._watch(key)
        else:
            self._serve(key)


def _give_up(turn: asyncio.Future[str | None]) -> None:
    if not turn.done():
        turn.set_result(None)
