"""The pace of direct debits on every driver: several workers at the same moment (ADR-004); on MariaDB also what the
row lock does."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import func, select
from storage_server import SERVER

from core.banks.edda_pace import HOLD, LOCK, SerialLock, TokenBucket, Turnstile, written
from core.clock import MS_PER_S
from core.deposits.eddi_debits import PROCESSING, QUEUED, SUBMITTED, Debit, Debits
from core.errors import OutcomeUnknown
from core.storage import Databases, Statement, Transaction
from core.storage.errors import Contention
from core.storage.mysql import MysqlDatabase, connect
from core.storage.primary import eddi_in_flight, eddi_serial_lock, eddi_token_bucket
from core.trace import Trace

START = 1_773_280_800_000
WORKERS, DEBITS = 5, 12
HOLDERS = Statement(select(eddi_serial_lock.c.bank, eddi_serial_lock.c.turn, eddi_serial_lock.c.holder).order_by(
    eddi_serial_lock.c.bank))
TOKENS = Statement(select(eddi_token_bucket.c.tokens, eddi_token_bucket.c.second))
KEPT = Statement(select(func.count(eddi_in_flight.c.id)))


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ms = START

    def now_ms(self) -> int:
        return self.ms

    def now_us(self) -> int:
        return self.ms * 1000


def worker(databases: Databases, clock: SetClock, name: str, bank: str = "hase") -> Turnstile:
    return Turnstile(SerialLock(bank, clock, name, 15_000, 1), databases.primary, clock)


async def queued(databases: Databases, debits: Debits, count: int = DEBITS) -> None:
    for _ in range(count):
        async with databases.primary.transaction() as tx:
            number = await debits.ids.next(tx)
            await debits.new(tx, number, QUEUED, apply_id=number, authorisation_id=1, mandate_ref="M",
                             reference=f"R{number}", ccy="HKD", amount=100)


class Work:
    """Workers that send the debits of one bank; what a bank would see of it."""

    def __init__(self, databases: Databases, clock: SetClock) -> None:
        self.databases, self.clock = databases, clock
        self.debits = Debits("hase", databases.primary, clock, Trace(clock))
        self.in_flight = 0
        self.most = 0
        self.order: list[int] = []
        self.by: Counter[str] = Counter()

    async def send_all(self, name: str) -> None:
        turnstile = worker(self.databases, self.clock, name)
        await turnstile.begin()
        while (passed := await turnstile.enter(self.claim)) is not None:
            self.by[name] += 1
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            self.order.append(passed.what.id)
            for _ in range(3):  # while the bank works, the others run
                await self.databases.primary.first(TOKENS, {})
                await asyncio.sleep(0)
            self.in_flight -= 1

            async def answered(tx: Transaction, debit: Debit = passed.what, turn: int = passed.turn) -> None:
                await turnstile.give_back(tx, turn)
                assert await self.debits.change(tx, debit, PROCESSING) is not None

            await written(self.databases.primary, answered)
            turnstile.leave()

    async def claim(self, tx: Transaction) -> Debit | None:
        debit = await self.debits.head(tx)
        return None if debit is None else await self.debits.change(tx, debit, SUBMITTED, attempts=debit.attempts + 1)


@pytest.mark.req("EDDA-05")
async def test_several_workers_send_one_debit_after_the_other_in_the_order_of_their_numbers(
    databases: Databases
) -> None:
    work = Work(databases, SetClock())
    await queued(databases, work.debits)
    await asyncio.gather(*(work.send_all(f"w{number}") for number in range(WORKERS)))
    assert work.order == sorted(work.order) and len(set(work.order)) == len(work.order) == DEBITS
    assert work.most == 1
    assert (await databases.primary.all(HOLDERS, {}))[0][2] == ""


@pytest.mark.req("EDDA-05")
async def test_a_turn_that_is_held_is_nobody_elses_until_it_is_given_back_or_its_lease_is_over(
    databases: Databases
) -> None:
    clock = SetClock()
    one, other = (SerialLock("hase", clock, name, 15_000, 1) for name in ("one", "other"))
    await one.begin(databases.primary)
    await other.begin(databases.primary)

    async def take(lock: SerialLock) -> int | None:
        async with databases.primary.transaction() as tx:
            return await lock.take(tx)

    turn = await take(one)
    assert turn is not None and await take(other) is None
    clock.ms += 14_999
    assert await take(other) is None
    clock.ms += 1  # the holder is taken for dead
    later = await take(other)
    assert later == turn + 1
    async with databases.primary.transaction() as tx:
        await one.give_back(tx, turn)  # it was not: its turn is over all the same
    assert await take(one) is None
    async with databases.primary.transaction() as tx:
        await other.give_back(tx, later)
    assert await take(one) == later + 1


@pytest.mark.req("ADR-004-1")
async def test_the_granularity_is_the_key_of_the_row(databases: Databases) -> None:
    clock = SetClock()
    locks = [SerialLock(key, clock, "w", 15_000, 1) for key in ("hase", "hase:2")]
    for lock in locks:
        await lock.begin(databases.primary)
        async with databases.primary.transaction() as tx:
            assert await lock.take(tx) == 1  # neither hinders the other
    assert await databases.primary.all(HOLDERS, {}) == [("hase", 1, "w"), ("hase:2", 1, "w")]


@pytest.mark.req("EDDA-02", "EDDA-04")
async def test_several_workers_take_four_tokens_of_a_second_together(databases: Databases) -> None:
    clock = SetClock()
    buckets = [TokenBucket("hsbc", clock, 4, 10_000) for _ in range(WORKERS)]
    await asyncio.gather(*(bucket.begin(databases.primary) for bucket in buckets))

    async def take(bucket: TokenBucket) -> int | None:
        async def work(tx: Transaction) -> int | None:
            return await bucket.take(tx)

        return await written(databases.primary, work)

    async def give_back(turns: list[int]) -> None:
        async with databases.primary.transaction() as tx:
            for turn in turns:
                await buckets[0].give_back(tx, turn)

    async def round_of(count: int) -> list[int]:
        found = await asyncio.gather(*(take(buckets[number % WORKERS]) for number in range(count)))
        return [turn for turn in found if turn is not None]

    first = await round_of(10)
    assert len(first) == 4 and await databases.primary.first(TOKENS, {}) == (0, START // MS_PER_S)
    clock.ms += 999
    assert await round_of(4) == []
    clock.ms += 1  # another second; none of the four is answered: each may arrive in it
    assert await round_of(10) == []
    await give_back(first[:3])
    clock.ms += 1_000
    assert len(await round_of(10)) == 3  # three were answered before this second began
    clock.ms += 20_000  # all that were under way are lost by now; tokens have not accumulated
    assert len(await round_of(10)) == 4
    assert await databases.primary.first(KEPT, {}) == (4,)


# --- MariaDB ----------------------------------------------------------------------------------------------------


async def row_locks_awaited(table: str) -> list[str]:
    """Record locks on a table for which transactions of the server wait now, in InnoDB's own words."""
    connection = await connect(SERVER, None)
    try:
        ((_, _, status),) = (await connection.run("SHOW ENGINE INNODB STATUS")).rows
    finally:
        await connection.driver.ensure_closed()
    lines = str(status).splitlines()
    return [line for line in lines if line.startswith("RECORD LOCKS") and table in line and line.endswith("waiting")]


@pytest.mark.req("EDDA-05")
@pytest.mark.server
async def test_on_the_server_a_second_worker_waits_for_the_row_lock_of_innodb(databases: Databases) -> None:
    if not isinstance(databases.primary, MysqlDatabase):
        return  # a transaction is alone by construction
    clock = SetClock()
    one, other = (SerialLock("hase", clock, name, 15_000, 1) for name in ("one", "other"))
    await one.begin(databases.primary)
    seen: list[Any] = []

    async def second() -> None:
        async with databases.primary.transaction() as tx:
            seen.append(await other.take(tx))

    async with databases.primary.transaction() as tx:
        assert await tx.first(LOCK, {"bank": "hase"}) == (0, "", 0)  # SELECT … FOR UPDATE
        task = asyncio.create_task(second())
        found: list[str] = []
        for _ in range(200):
            found = await row_locks_awaited(f"{SERVER.prefix}_primary`.`eddi_serial_lock")
            if found:
                break
        assert len(found) == 1 and "lock_mode X" in found[0], found
        assert not seen and not task.done()
        await tx.execute(HOLD, {"b_bank": "hase", "turn": 1, "holder": "one", "held_until": START + 1,
                                "updated_at": START})
    await task
    assert seen == [None]  # it has read what the first one wrote


@pytest.mark.req("EDDA-05")
@pytest.mark.server
async def test_on_the_server_the_row_lock_of_a_worker_whose_connection_dies_is_free_and_it_has_written_nothing(
    databases: Databases
) -> None:
    if not isinstance(databases.primary, MysqlDatabase):
        return  # its transactions have no connections of their own
    clock = SetClock()
    one, other = (SerialLock("hase", clock, name, 15_000, 1) for name in ("one", "other"))
    await one.begin(databases.primary)
    holding, killed = asyncio.Event(), asyncio.Event()

    async def dies() -> None:
        async with databases.primary.transaction() as tx:
            assert await one.take(tx) == 1
            ((number,),) = (await tx._connection.run("SELECT CONNECTION_ID()")).rows  # type: ignore[attr-defined]
            holding.set()
            waiting = asyncio.create_task(second())
            while not await row_locks_awaited(f"{SERVER.prefix}_primary`.`eddi_serial_lock"):
                assert not waiting.done()
            connection = await connect(SERVER, None)
            await connection.command(f"KILL {number}")
            await connection.driver.ensure_closed()
            assert await waiting == 1, "as if the first one had never been there"
            killed.set()

    async def second() -> int | None:
        async with databases.primary.transaction() as tx:
            return await other.take(tx)

    with pytest.raises((Contention, OutcomeUnknown)):
        await dies()
    assert holding.is_set() and killed.is_set()
    assert await databases.primary.all(HOLDERS, {}) == [("hase", 1, "other")]
