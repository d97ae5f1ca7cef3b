"""How fast requests may leave for HSBC and Hang Seng (decisions.md ADR-004, gaps.md B-25): the pace is in the database,
so that it holds for several workers and after a restart.

HSBC, `TokenBucket`: at each whole second of the clock its row has 4 tokens, less those requests that were under way
when the second began, since they may arrive in it; whoever finds a token takes it. So the bank sees at most 4 in any
whole second, however long a request takes. Tokens do not accumulate.

Hang Seng, `SerialLock`: whoever looks at the row does so under its lock (``SELECT … FOR UPDATE``; on SQLite a
transaction is alone by construction), and finds it free or held. A holder is written there with a lease: the row is
not locked while the bank works, and a worker that died does not stop the others for ever.

A turn is taken in the transaction that says for what: a debit is marked as sent with the token that sends it, or
neither happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from core.clock import MS_PER_S, Clock
from core.storage import Database, Statement, Transaction, UniqueViolation
from core.storage.errors import Contention
from core.storage.primary import eddi_in_flight, eddi_serial_lock, eddi_token_bucket

T = TypeVar("T")
TRIES: Final = 10
"""How often a transaction is done again that met another worker's."""
Claim = Callable[[Transaction], Awaitable[T | None]]
"""Says for what a turn is taken, in the transaction that takes it; None: for nothing, and the turn is not taken."""

_B, _F, _L = eddi_token_bucket.c, eddi_in_flight.c, eddi_serial_lock.c
_BUCKET = _B.bank == bindparam("b_bank")
NEW_BUCKET: Final = Statement(insert(eddi_token_bucket))
LOCK_BUCKET: Final = Statement(select(_B.second).where(_BUCKET).with_for_update())
REFILL: Final = Statement(update(eddi_token_bucket).where(_BUCKET, _B.second < bindparam("b_second")).values(
    tokens=bindparam("tokens"), rate=bindparam("rate"), second=bindparam("second")))
TAKE: Final = Statement(update(eddi_token_bucket).where(
    _BUCKET, _B.tokens >= 1, _B.second == bindparam("b_second")).values(tokens=_B.tokens - 1))
UNDER_WAY: Final = Statement(select(func.count(_F.id)).where(
    _F.bank == bindparam("bank"), _F.sent_at > bindparam("since"),
    or_(_F.answered_at.is_(None), _F.answered_at >= bindparam("began"))))
FORGET: Final = Statement(delete(eddi_in_flight).where(
    _F.bank == bindparam("b_bank"), or_(_F.sent_at <= bindparam("b_since"), _F.answered_at < bindparam("b_began"))))
SENT: Final = Statement(insert(eddi_in_flight).values(bank=bindparam("bank"), sent_at=bindparam("sent_at")))
ANSWERED: Final = Statement(update(eddi_in_flight).where(_F.id == bindparam("b_id")).values(
    answered_at=bindparam("answered_at")))
NEW_LOCK: Final = Statement(insert(eddi_serial_lock))
LOCK: Final = Statement(select(_L.turn, _L.holder, _L.held_until).where(
    _L.bank == bindparam("bank")).with_for_update())
HOLD: Final = Statement(update(eddi_serial_lock).where(_L.bank == bindparam("b_bank")).values(
    turn=bindparam("turn"), holder=bindparam("holder"), held_until=bindparam("held_until"),
    updated_at=bindparam("updated_at")))
FREE: Final = Statement(update(eddi_serial_lock).where(
    _L.bank == bindparam("b_bank"), _L.turn == bindparam("b_turn")).values(
        holder="", held_until=0, updated_at=bindparam("updated_at")))


class Pace(Protocol):
    """A bank's rule, as rows of the primary database. A turn is a number."""

    abreast: int | None
    """How many requests of one core may be under way at once; None: as many as have turns."""

    async def begin(self, db: Database) -> None:
        """Make the bank's row, if it has none."""

    async def take(self, tx: Transaction) -> int | None:
        """A turn, or None if there is none now."""

    async def give_back(self, tx: Transaction, turn: int) -> None:
        """The request was answered, or is taken for lost."""

    def again_ms(self, now_ms: int) -> int:
        """When to look for a turn again."""


class TokenBucket:
    """HSBC's pace. ``lost_ms``: a request that is not answered by then does not arrive any more."""

    abreast: int | None = None

    def __init__(self, bank: str, clock: Clock, rate: int, lost_ms: int) -> None:
        self._bank, self._clock, self._rate, self._lost_ms = bank, clock, rate, lost_ms

    async def begin(self, db: Database) -> None:
        await _make(db, NEW_BUCKET, {"bank": self._bank, "tokens": 0, "rate": self._rate, "second": 0})

    async def take(self, tx: Transaction) -> int | None:
        if not await self._taken(tx, self._clock.now_ms()) and not await self._taken(tx, await self._refill(tx)):
            return None
        return await tx.insert(SENT, {"bank": self._bank, "sent_at": self._clock.now_ms()})

    async def _taken(self, tx: Transaction, now_ms: int) -> bool:
        """Take a token of this second, if there is one: nobody is asked before (optimistic)."""
        return await tx.execute(TAKE, {"b_bank": self._bank, "b_second": now_ms // MS_PER_S}) == 1

    async def _refill(self, tx: Transaction) -> int:
        """Give the bucket this second's tokens, unless somebody has; the moment as it is under the row's lock."""
        row = await tx.first(LOCK_BUCKET, {"b_bank": self._bank})
        assert row is not None, "the bucket was not begun"
        now = self._clock.now_ms()
        second, since = now // MS_PER_S, now - self._lost_ms
        if row[0] < second:
            counted = await tx.first(UNDER_WAY, {"bank": self._bank, "since": since, "began": second * MS_PER_S})
            under_way = counted[0] if counted is not None else 0
            await tx.execute(REFILL, {"b_bank": self._bank, "b_second": second, "second": second, "rate": self._rate,
                                      "tokens": max(0, self._rate - under_way)})
            await tx.execute(FORGET, {"b_bank": self._bank, "b_since": since, "b_began": second * MS_PER_S})
        return now

    async def give_back(self, tx: Transaction, turn: int) -> None:
        await tx.execute(ANSWERED, {"b_id": turn, "answered_at": self._clock.now_ms()})

    def again_ms(self, now_ms: int) -> int:
        return (now_ms // MS_PER_S + 1) * MS_PER_S


class SerialLock:
    """Hang Seng's pace. ``worker``: who we are, for people; ``lease_ms``: longer than a request may take."""

    abreast: int | None = 1

    def __init__(self, bank: str, clock: Clock, worker: str, lease_ms: int, look_ms: int) -> None:
        self._bank, self._clock, self._worker = bank, clock, worker
        self._lease_ms, self._look_ms = lease_ms, look_ms

    async def begin(self, db: Database) -> None:
        await _make(db, NEW_LOCK, {"bank": self._bank, "turn": 0, "holder": "", "held_until": 0,
                                   "updated_at": self._clock.now_ms()})

    async def take(self, tx: Transaction) -> int | None:
        row = await tx.first(LOCK, {"bank": self._bank})
        assert row is not None, "the lock was not begun"
        turn, holder, held_until = row
        now = self._clock.now_ms()
        if holder and held_until > now:
            return None
        await tx.execute(HOLD, {"b_bank": self._bank, "turn": turn + 1, "holder": self._worker,
                                "held_until": now + self._lease_ms, "updated_at": now})
        return int(turn) + 1

    async def give_back(self, tx: Transaction, turn: int) -> None:
        await tx.execute(FREE, {"b_bank": self._bank, "b_turn": turn, "updated_at": self._clock.now_ms()})

    def again_ms(self, now_ms: int) -> int:
        return now_ms + self._look_ms


async def _make(db: Database, statement: Statement, row: Mapping[str, Any]) -> None:
    try:
        await db.execute(statement, row)
    except UniqueViolation:
        return  # it is there


class Passed(NamedTuple, Generic[T]):
    """Something that may be sent now: what, and its turn."""

    what: T
    turn: int


class _Nothing(Exception):
    """There is nothing to send: the turn is not taken."""


class Turnstile:
    """Where one core's requests to one bank wait for their turn, in the order in which they came."""

    def __init__(self, pace: Pace, db: Database, clock: Clock) -> None:
        self._pace, self._db, self._clock = pace, db, clock
        self._line = asyncio.Lock()
        self._abreast = asyncio.Semaphore(pace.abreast) if pace.abreast else None

    async def begin(self) -> None:
        """Before the first request of a core."""
        await self._pace.begin(self._db)

    async def enter(self, claim: Claim[T]) -> Passed[T] | None:
        """Wait for a turn and take it for what ``claim`` finds; None if it finds nothing. Whoever has passed must
        `leave`."""
        if self._abreast is not None:
            await self._abreast.acquire()
        try:
            async with self._line:
                passed = await self._wait(claim)
        except BaseException:
            self.leave()
            raise
        if passed is None:
            self.leave()
        return passed

    async def _wait(self, claim: Claim[T]) -> Passed[T] | None:
        while True:
            try:
                async with self._db.transaction() as tx:
                    turn = await self._pace.take(tx)
                    if turn is not None:
                        found = await claim(tx)
                        if found is None:
                            raise _Nothing
            except _Nothing:
                return None
            except Contention:
                continue  # another worker was in the way; nothing was written
            if turn is not None:
                assert found is not None
                return Passed(found, turn)
            now = self._clock.now_ms()
            await asyncio.sleep((self._pace.again_ms(now) - now) / MS_PER_S)

    async def give_back(self, tx: Transaction, turn: int) -> None:
        """The answer is being written in this transaction, or that none came."""
        await self._pace.give_back(tx, turn)

    def leave(self) -> None:
        """The next one of this core may enter."""
        if self._abreast is not None:
            self._abreast.release()

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """A turn for a question that writes nothing of its own."""
        passed = await self.enter(_anything)
        assert passed is not None
        try:
            yield
        finally:
            try:
                await written(self._db, partial(self._pace.give_back, turn=passed.turn))
            finally:
                self.leave()


async def _anything(_tx: Transaction) -> bool:
    return True


async def written(db: Database, work: Callable[[Transaction], Awaitable[T]]) -> T:
    """Do this in a transaction of its own, again if another worker's was in the way."""
    for _ in range(TRIES - 1):
        try:
            async with db.transaction() as tx:
                return await work(tx)
        except Contention:
            continue
    async with db.transaction() as tx:
        return await work(tx)
