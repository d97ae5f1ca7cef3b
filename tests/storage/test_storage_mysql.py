"""What only a server can do to us: several transactions at once, deadlocks, lost connections, cancelled tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update
from storage_rows import procedure_row
from storage_server import SERVER, empty, on_server

from core.errors import Misconfigured, OutcomeUnknown
from core.storage import Contention, Databases, Statement, StorageConfig, StorageError, open_databases
from core.storage.mysql import Connection, MysqlDatabase, connect
from core.storage.procedure import proc_info

pytestmark = pytest.mark.server

_P = proc_info.c
NEW = Statement(insert(proc_info))
EVERY = Statement(select(_P.id, _P.version).order_by(_P.id))
RAISE = Statement(update(proc_info).where(_P.id == bindparam("b_id")).values(version=_P.version + 1))
READ = Statement(select(_P.version).where(_P.id == bindparam("b_id")))


@pytest.fixture(params=["mariadb"])
def config(request: pytest.FixtureRequest, server: StorageConfig) -> Any:
    """Only the server; emptied as in the contract's own fixture."""
    yield server
    asyncio.run(on_server(empty))


async def _kill(connection_id: int) -> None:
    """What an administrator or a failing network does."""
    other = await connect(SERVER, None)
    await other.command(f"KILL {connection_id}")
    await other.driver.ensure_closed()


async def _id_of(tx: Any) -> int:
    connection: Connection = tx._connection
    return int((await connection.run("SELECT CONNECTION_ID()")).rows[0][0])


async def test_two_tasks_have_transactions_of_their_own(databases: Databases) -> None:
    db = databases.procedure
    first_wrote, second_done = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with db.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            first_wrote.set()
            await second_done.wait()

    async def second() -> list[Any]:
        await first_wrote.wait()
        async with db.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            seen = await tx.all(EVERY, {})
        second_done.set()
        return seen

    _, seen = await asyncio.gather(first(), second())
    assert len(seen) == 1  # its own row, not the uncommitted one
    assert len(await db.all(EVERY, {})) == 2


async def test_of_two_transactions_in_each_others_way_one_is_told_to_begin_again(databases: Databases) -> None:
    db = databases.procedure
    keys = [await db.insert(NEW, procedure_row()) for _ in range(2)]
    both_hold_one = asyncio.Barrier(2)

    async def crossing(mine: int, other: int) -> str:
        try:
            async with db.transaction() as tx:
                await tx.execute(RAISE, {"b_id": mine})
                await both_hold_one.wait()
                await tx.execute(RAISE, {"b_id": other})
        except Contention:
            return "contention"
        return "done"

    assert sorted(await asyncio.gather(crossing(*keys), crossing(*reversed(keys)))) == ["contention", "done"]
    assert await db.all(EVERY, {}) == [(keys[0], 1), (keys[1], 1)]


async def test_no_update_is_lost_with_more_writers_than_connections(databases: Databases) -> None:
    db = databases.procedure
    key = await db.insert(NEW, procedure_row())
    locking = Statement(select(_P.version).where(_P.id == bindparam("b_id")).with_for_update())

    async def writer() -> None:
        async with db.transaction() as tx:
            await tx.first(locking, {"b_id": key})
            await tx.execute(RAISE, {"b_id": key})

    await asyncio.gather(*(writer() for _ in range(4 * SERVER.connections)))
    assert await db.first(READ, {"b_id": key}) == (4 * SERVER.connections,)
    assert db.commits == 1 + 4 * SERVER.connections


async def test_a_connection_lost_before_the_commit_means_nothing_happened(databases: Databases) -> None:
    db = databases.procedure
    with pytest.raises(Contention, match="connection lost before the commit"):
        async with db.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            await _kill(await _id_of(tx))
            await tx.insert(NEW, procedure_row())
    assert await db.all(EVERY, {}) == []  # on a new connection


async def test_a_connection_lost_at_the_commit_means_that_nobody_knows(databases: Databases) -> None:
    db = databases.procedure
    called: list[int] = []
    with pytest.raises(OutcomeUnknown, match="procedure: commit: connection lost"):
        async with db.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            tx.after_commit(lambda: called.append(1))
            await _kill(await _id_of(tx))
    assert (called, db.commits) == ([], 0)
    assert await db.all(EVERY, {}) == []


async def test_a_cancelled_task_leaves_nothing_behind(databases: Databases) -> None:
    db = databases.procedure
    key = await db.insert(NEW, procedure_row())

    async def waits_for_a_lock() -> None:
        async with db.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            await tx.execute(RAISE, {"b_id": key})

    async with db.transaction() as tx:
        await tx.execute(RAISE, {"b_id": key})
        waiting = asyncio.create_task(waits_for_a_lock())
        await _until(_update_waits)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await db.all(EVERY, {}) == [(key, 1)]


async def test_cancelled_tasks_give_their_connections_back(databases: Databases) -> None:
    db = databases.procedure

    async def never_ends() -> None:
        async with db.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            await asyncio.get_running_loop().create_future()

    for _ in range(SERVER.connections + 1):  # more than there are places
        task = asyncio.create_task(never_ends())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await db.all(EVERY, {}) == []


async def test_a_server_is_not_copied_to_files(databases: Databases, tmp_path: Any) -> None:
    with pytest.raises(Misconfigured, match="mariadb-dump"):
        databases.copy_to(tmp_path)


async def test_a_wrong_address_or_prefix_is_named(server: StorageConfig) -> None:
    with pytest.raises(StorageError, match=r"no connection to root@127\.0\.0\.1:1"):
        await open_databases(StorageConfig(kind="mysql", port=1))
    with pytest.raises(Misconfigured, match="small letters"):
        await open_databases(StorageConfig(kind="mysql", prefix="a`b"))


async def _update_waits() -> bool:
    """Whether the server is at an UPDATE, which here can only be waiting for the row's lock."""
    other = await connect(SERVER, None)
    try:
        rows = (await other.run("SELECT COUNT(*) FROM information_schema.processlist "
                                "WHERE command = 'Execute' AND info LIKE 'UPDATE proc_info%'")).rows
    finally:
        await other.driver.ensure_closed()
    return bool(rows[0][0])


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask the server until it says so; the test's own time limit is the bound."""
    async with asyncio.timeout(5):
        while not await condition():
            pass


def test_the_driver_is_the_one_for_servers(server: StorageConfig) -> None:
    async def kinds() -> set[type]:
        databases = await open_databases(server)
        await databases.close()
        return {type(db) for db in (databases.primary, databases.account, databases.procedure, databases.assets)}

    assert asyncio.run(kinds()) == {MysqlDatabase}
