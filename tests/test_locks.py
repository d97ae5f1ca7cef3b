"""Contract of `core.locks.Locks`: every implementation goes through the same tests (gaps.md B-31)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.clock import Clock
from core.locks import LocalLocks, Locks
from emulators.loop import LoopClock, SimLoop

T = TypeVar("T")
ORIGIN_MS = 1_773_270_000_000
KEY = "procedure:17"
TTL = 30_000

PLANS = st.tuples(st.integers(0, 3_000), st.integers(0, 3_000), st.integers(1, 1_500), st.booleans(), st.booleans())
"""Begins after, waits at most, works for (milliseconds), dies while holding, renews."""

MAKERS: dict[str, Callable[[Clock], Locks]] = {"local": LocalLocks}
"""Every implementation; each is given the clock by which its locks expire."""


class Stage:
    """A loop in virtual time with one lock service on it."""

    def __init__(self, make: Callable[[Clock], Locks]) -> None:
        self.loop = SimLoop()
        self.clock = LoopClock(self.loop, ORIGIN_MS)
        self.locks = make(self.clock)

    def run(self, coroutine: Awaitable[T]) -> T:
        return self.loop.run_until_complete(coroutine)

    def pass_ms(self, ms: int) -> None:
        self.run(self.loop.advance(ms * 1_000))

    def begin(self, coroutine: Any) -> asyncio.Task[Any]:
        task = self.loop.create_task(coroutine)
        self.pass_ms(0)
        return task

    @property
    def now(self) -> int:
        return self.clock.now_ms() - ORIGIN_MS


@pytest.fixture(params=sorted(MAKERS))
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    stage = Stage(MAKERS[request.param])
    yield stage
    stage.loop.close()


@pytest.mark.req("LOCK-02")
def test_a_second_worker_is_told_busy(stage: Stage) -> None:
    assert stage.run(stage.locks.acquire(KEY, "one", TTL))
    assert stage.run(stage.locks.acquire(KEY, "two", TTL)) is None
    assert stage.run(stage.locks.acquire("procedure:18", "two", TTL))


@pytest.mark.req("LOCK-02")
def test_a_second_worker_waits_and_gets_it_at_the_release(stage: Stage) -> None:
    first = stage.run(stage.locks.acquire(KEY, "one", TTL))
    second = stage.begin(stage.locks.acquire(KEY, "two", TTL, 2_000))
    stage.pass_ms(1_500)
    assert not second.done()
    assert stage.run(stage.locks.release(KEY, first))
    assert stage.run(second) not in (None, first)
    assert stage.now == 1_500


@pytest.mark.req("LOCK-02")
def test_waiting_ends_at_the_wait_limit(stage: Stage) -> None:
    stage.run(stage.locks.acquire(KEY, "one", TTL))
    assert stage.run(stage.locks.acquire(KEY, "two", TTL, 2_000)) is None
    assert stage.now == 2_000


def test_one_owner_cannot_take_it_twice(stage: Stage) -> None:
    stage.run(stage.locks.acquire(KEY, "one", TTL))
    assert stage.run(stage.locks.acquire(KEY, "one", TTL)) is None


@pytest.mark.req("LOCK-03")
def test_a_dead_holder_frees_by_ttl_and_not_before(stage: Stage) -> None:
    stage.run(stage.locks.acquire(KEY, "dead", TTL))
    stage.pass_ms(TTL - 1)
    assert stage.run(stage.locks.acquire(KEY, "two", TTL)) is None
    stage.pass_ms(1)
    assert stage.run(stage.locks.acquire(KEY, "two", TTL))


@pytest.mark.req("LOCK-03")
def test_a_waiter_gets_it_at_the_moment_the_dead_holder_expires(stage: Stage) -> None:
    stage.run(stage.locks.acquire(KEY, "dead", 5_000))
    assert stage.run(stage.locks.acquire(KEY, "two", TTL, 60_000))
    assert stage.now == 5_000


@pytest.mark.req("LOCK-03")
def test_only_the_owners_token_releases(stage: Stage) -> None:
    token = stage.run(stage.locks.acquire(KEY, "one", TTL))
    assert not stage.run(stage.locks.release(KEY, "one:999"))
    assert not stage.run(stage.locks.release(KEY, ""))
    assert not stage.run(stage.locks.release("procedure:18", token))
    assert stage.run(stage.locks.acquire(KEY, "two", TTL)) is None
    assert stage.run(stage.locks.release(KEY, token))
    assert not stage.run(stage.locks.release(KEY, token))


@pytest.mark.req("LOCK-03")
def test_the_token_of_an_expired_lock_is_worth_nothing(stage: Stage) -> None:
    stale = stage.run(stage.locks.acquire(KEY, "slow", 5_000))
    stage.pass_ms(5_000)
    assert not stage.run(stage.locks.renew(KEY, stale, TTL))
    fresh = stage.run(stage.locks.acquire(KEY, "two", TTL))
    assert fresh != stale
    assert not stage.run(stage.locks.release(KEY, stale))
    assert stage.run(stage.locks.acquire(KEY, "three", TTL)) is None, "the stale token freed another's lock"
    assert stage.run(stage.locks.release(KEY, fresh))


def test_releasing_after_expiry_says_so(stage: Stage) -> None:
    stale = stage.run(stage.locks.acquire(KEY, "slow", 5_000))
    stage.pass_ms(5_000)
    assert not stage.run(stage.locks.release(KEY, stale))
    assert stage.run(stage.locks.acquire(KEY, "two", TTL))


def test_renewing_holds_it_longer(stage: Stage) -> None:
    token = stage.run(stage.locks.acquire(KEY, "one", 5_000))
    waiter = stage.begin(stage.locks.acquire(KEY, "two", TTL, 60_000))
    for _ in range(3):
        stage.pass_ms(4_000)
        assert stage.run(stage.locks.renew(KEY, token, 5_000))
    assert stage.run(waiter)
    assert stage.now == 17_000
    assert not stage.run(stage.locks.renew(KEY, token, 5_000))


def test_waiters_are_served_in_the_order_of_asking(stage: Stage) -> None:
    served: list[str] = []

    async def worker(name: str) -> None:
        token = await stage.locks.acquire(KEY, name, TTL, 60_000)
        served.append(name)
        await asyncio.sleep(1)
        await stage.locks.release(KEY, token or "")

    async def all_at_once() -> None:
        await asyncio.gather(*[worker(f"w{n}") for n in range(6)])

    stage.run(all_at_once())
    assert served == [f"w{n}" for n in range(6)]
    assert stage.now == 6_000


def test_a_newcomer_does_not_pass_those_who_wait(stage: Stage) -> None:
    async def exactly_at_expiry() -> str | None:
        await asyncio.sleep(1)
        return await stage.locks.acquire(KEY, "newcomer", TTL)

    newcomer = stage.begin(exactly_at_expiry())  # its timer is older than the one that watches the dead holder
    stage.run(stage.locks.acquire(KEY, "dead", 1_000))
    waiter = stage.begin(stage.locks.acquire(KEY, "two", TTL, 10_000))
    assert stage.run(newcomer) is None
    assert stage.run(waiter)


def test_a_cancelled_waiter_leaves_the_queue(stage: Stage) -> None:
    token = stage.run(stage.locks.acquire(KEY, "one", TTL))
    second = stage.begin(stage.locks.acquire(KEY, "two", TTL, 10_000))
    third = stage.begin(stage.locks.acquire(KEY, "three", TTL, 10_000))
    second.cancel()
    stage.run(stage.locks.release(KEY, token))
    assert stage.run(third)
    assert second.cancelled()


def test_cancelled_in_the_moment_of_its_turn_it_passes_the_lock_on(stage: Stage) -> None:
    token = stage.run(stage.locks.acquire(KEY, "one", TTL))
    second = stage.begin(stage.locks.acquire(KEY, "two", TTL, 10_000))
    third = stage.begin(stage.locks.acquire(KEY, "three", TTL, 10_000))

    async def release_and_cancel() -> None:
        await stage.locks.release(KEY, token)
        second.cancel()

    stage.run(release_and_cancel())
    assert stage.run(third)
    assert stage.now == 0


@pytest.mark.req("LOCK-02", "LOCK-03")
@settings(max_examples=150, deadline=None)
@given(plans=st.lists(PLANS, max_size=12))
def test_never_two_holders_at_one_moment(plans: list[tuple[int, int, int, bool, bool]]) -> None:
    """Workers hold for random times (some die, some renew); each span of holding, cut at its TTL, is alone."""
    stage = Stage(LocalLocks)
    spans: list[tuple[int, int]] = []

    async def worker(name: str, start: int, wait: int, work: int, dies: bool, renews: bool) -> None:
        await asyncio.sleep(start / 1000)
        token = await stage.locks.acquire(KEY, name, 1_000, wait)
        if token is None:
            return
        since, until = stage.now, stage.now + 1_000
        if renews and work > 500:
            await asyncio.sleep(0.5)
            assert await stage.locks.renew(KEY, token, 1_000)
            until, work = stage.now + 1_000, work - 500
        if dies:
            spans.append((since, until))
            return
        await asyncio.sleep(work / 1000)
        held = await stage.locks.release(KEY, token)
        assert held == (stage.now < until)
        spans.append((since, min(until, stage.now)))

    async def main() -> None:
        await asyncio.gather(*[worker(f"w{n}", *plan) for n, plan in enumerate(plans)])

    try:
        stage.run(main())
    finally:
        stage.loop.close()
    spans.sort()
    assert all(ends <= begins for (_, ends), (begins, _) in itertools.pairwise(spans)), spans
