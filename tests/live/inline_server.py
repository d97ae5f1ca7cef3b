"""A world of virtual time on a real MariaDB server: each statement is carried out while the world's clock stands still.

The world's loop must not wait for a socket: virtual time would pass meanwhile. So the server is spoken to on a loop of
its own, which runs to the end of each statement within the call. As on SQLite, a transaction that awaits nothing but
its statements is alone in its core; two worlds on one server meet in InnoDB.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import pytest
from sqlalchemy import MetaData, Table

from core.storage import Databases, Statement, StorageConfig, Transaction, open_databases
from core.storage.databases import SCHEMAS, Opened
from core.storage.life import Life
from core.storage.mysql import connect
from core.storage.statements import Parameters, Row

T = TypeVar("T")


class OwnLoop:
    """Carries out coroutines to their end, also from within another loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return self._loop.run_until_complete(work)
        finally:
            asyncio._set_running_loop(outer)

    def close(self) -> None:
        """What was closed before gets its turn to be gone."""
        self.run(asyncio.sleep(0))
        self._loop.close()


class InlineTransaction:
    """Implements `core.storage.Transaction`."""

    def __init__(self, of: InlineDatabase) -> None:
        self._of, self._run = of, of.loop.run
        self._entered: AbstractAsyncContextManager[Transaction] = of.real.transaction()
        self._tx: Transaction
        self._callbacks: list[Callable[[], object]] = []

    async def __aenter__(self) -> InlineTransaction:
        self._tx = self._run(_entering(self._entered))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        self._run(_leaving(self._entered, kind, error, trace))
        if kind is None:
            for callback in self._callbacks:
                callback()

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        return self._run(_of(self._tx.execute(statement, parameters)))

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        return self._run(_of(self._tx.insert(statement, parameters)))

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        return self._run(_of(self._tx.first(statement, parameters)))

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        return self._run(_of(self._tx.all(statement, parameters)))

    def after_commit(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)


class InlineDatabase:
    """Implements `core.storage.databases.Opened` by a database on the server."""

    def __init__(self, real: Opened, loop: OwnLoop) -> None:
        self.real, self.loop = real, loop

    @property
    def name(self) -> str:
        return self.real.name

    @property
    def metadata(self) -> MetaData:
        return self.real.metadata

    @property
    def commits(self) -> int:
        return self.real.commits

    def transaction(self) -> InlineTransaction:
        return InlineTransaction(self)

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        return self.loop.run(_of(self.real.execute(statement, parameters)))

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        return self.loop.run(_of(self.real.insert(statement, parameters)))

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        return self.loop.run(_of(self.real.first(statement, parameters)))

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        return self.loop.run(_of(self.real.all(statement, parameters)))

    async def create(self, table: Table) -> None:
        self.loop.run(_of(self.real.create(table)))

    def sever(self) -> None:
        self.real.sever()

    async def close(self) -> None:
        self.loop.run(_of(self.real.close()))

    def copy_to(self, file: Path) -> None:
        self.real.copy_to(file)


async def _of(work: Any) -> Any:
    return await work


async def _entering(context: AbstractAsyncContextManager[Transaction]) -> Transaction:
    return await context.__aenter__()


async def _leaving(context: AbstractAsyncContextManager[Transaction], kind: Any, error: Any, trace: Any) -> None:
    await context.__aexit__(kind, error, trace)


class Server:
    """The server with the schemas of this process, made once and emptied by `fresh`."""

    def __init__(self) -> None:
        self.config = StorageConfig(kind="mysql", prefix=f"nostro_world_{os.getpid()}", connections=4)
        self._loop = OwnLoop()
        self._opened: list[Databases] = []

    async def open(self) -> Databases:
        """The four databases for one core, from whatever loop."""
        return self._wrapped(self._loop.run(open_databases(self.config)))

    def _wrapped(self, real: Databases) -> Databases:
        self._opened.append(real)
        opened = {name: InlineDatabase(database, self._loop) for name, database in real._opened.items()}
        return Databases(opened, real._life, lambda: self._wrapped(real.reopen()))

    def fresh(self) -> None:
        """Nothing is left of an earlier test: schemas are kept, rows are not."""
        while self._opened:
            self._loop.run(_of(self._opened.pop().close()))
        self._loop.run(self._empty())

    def command(self, text: str) -> None:
        """Somebody else's statement; ``{primary}`` and so on stand for the schemas."""
        self._loop.run(self._command(text.format(**{
            schema.name: f"{self.config.prefix}_{schema.name}" for schema in SCHEMAS})))

    async def _command(self, text: str) -> None:
        connection = await connect(self.config, None)
        await connection.command(text)
        await connection.driver.ensure_closed()

    def drop(self) -> None:
        """The end."""
        self.fresh()
        self._loop.run(self._drop())
        self._loop.close()

    async def _empty(self) -> None:
        connection = await connect(self.config, None)
        for schema in SCHEMAS:
            base = f"{self.config.prefix}_{schema.name}"
            listed = await connection.run(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", (base,))
            names = sorted(str(name) for (name,) in listed.rows if name != "schema_version")
            if names:
                filled = await connection.run(" UNION ALL ".join(
                    f"(SELECT '{name}' FROM {base}.`{name}` LIMIT 1)" for name in names))
                for (name,) in filled.rows:
                    await connection.command(f"TRUNCATE TABLE {base}.`{name}`")
        await connection.driver.ensure_closed()

    async def _drop(self) -> None:
        connection = await connect(self.config, None)
        for schema in SCHEMAS:
            await connection.command(f"DROP DATABASE IF EXISTS {self.config.prefix}_{schema.name}")
        await connection.driver.ensure_closed()


def demand_server(config: StorageConfig) -> None:
    """Skip without a server, unless NOSTRO_SERVERS=1 demands one."""
    try:
        socket.create_connection((config.host, config.port), timeout=2).close()
    except OSError:
        if os.environ.get("NOSTRO_SERVERS") == "1":
            pytest.fail(f"no server at {config.host}:{config.port}, and NOSTRO_SERVERS=1 demands one")
        pytest.skip(f"no server at {config.host}:{config.port}")


@contextmanager
def mariadb() -> Iterator[Server]:
    """A server, emptied of everything at the end."""
    server = Server()
    demand_server(server.config)
    try:
        yield server
    finally:
        server.drop()


__all__ = ["InlineDatabase", "Life", "Server", "demand_server", "mariadb"]
