"""One contract, three drivers: SQLite in memory, SQLite in files, MariaDB.

A coroutine test that asks for ``databases`` gets four open, empty databases of each driver in turn.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.storage import Databases, StorageConfig, open_databases
from core.storage.databases import SCHEMAS
from core.storage.mysql import Connection, connect

PREFIX = f"nostro_test_{os.getpid()}"
SERVER = StorageConfig(kind="mysql", prefix=PREFIX, connections=8)


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end on a loop of its own."""
    if not asyncio.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(_with_databases(pyfuncitem.obj, {name: pyfuncitem.funcargs[name] for name in names}))
    return True


async def _with_databases(test: Any, arguments: dict[str, Any]) -> None:
    config = arguments.get("databases")
    if not isinstance(config, StorageConfig):
        await test(**arguments)
        return
    databases: Databases = await open_databases(config)
    try:
        await test(**arguments | {"databases": databases})
    finally:
        await databases.close()


def _server_answers() -> bool:
    try:
        socket.create_connection((SERVER.host, SERVER.port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def server() -> Iterator[StorageConfig]:
    """A MariaDB server with schemas of this test run, dropped at its end."""
    if not _server_answers():
        if os.environ.get("NOSTRO_SERVERS") == "1":
            pytest.fail(f"no server at {SERVER.host}:{SERVER.port}, and NOSTRO_SERVERS=1 demands one")
        pytest.skip(f"no server at {SERVER.host}:{SERVER.port}")
    yield SERVER
    asyncio.run(_on_server(_drop))


@pytest.fixture(params=["memory", "file", pytest.param("mariadb", marks=pytest.mark.server)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageConfig]:
    """Where the databases of a test are; empty at its beginning."""
    if request.param == "memory":
        yield StorageConfig()
    elif request.param == "file":
        yield StorageConfig(kind="sqlite", folder=tmp_path / "data", durable=False)
    else:
        yield request.getfixturevalue("server")
        asyncio.run(_on_server(_empty))


@pytest.fixture
def databases(config: StorageConfig) -> StorageConfig:
    """Open databases, once the test runs (see `pytest_pyfunc_call`)."""
    return config


async def _on_server(work: Any) -> None:
    connection = await connect(SERVER, None)
    try:
        await work(connection)
    finally:
        await connection.driver.ensure_closed()


async def _drop(connection: Connection) -> None:
    for schema in SCHEMAS:
        await connection.command(f"DROP DATABASE IF EXISTS {PREFIX}_{schema.name}")


async def _empty(connection: Connection) -> None:
    """TRUNCATE what has rows; it passes by the triggers that keep the audit trail."""
    for schema in SCHEMAS:
        base = f"{PREFIX}_{schema.name}"
        listed = await connection.run(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", (base,))
        names = sorted(str(name) for (name,) in listed.rows if name != "schema_version")
        if not names:
            continue
        filled = await connection.run(" UNION ALL ".join(
            f"(SELECT '{name}' FROM {base}.`{name}` LIMIT 1)" for name in names))
        for (name,) in filled.rows:
            await connection.command(f"TRUNCATE TABLE {base}.`{name}`")
