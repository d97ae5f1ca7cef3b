"""One contract, three drivers: SQLite in memory, SQLite in files, MariaDB.

A coroutine test that asks for ``databases`` gets four open, empty databases of each driver in turn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from storage_server import SERVER, answers, drop, empty, on_server

from core.storage import Databases, StorageConfig, open_databases


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


@pytest.fixture(scope="session")
def server() -> Iterator[StorageConfig]:
    """A MariaDB server with schemas of this test run, dropped at its end."""
    if not answers():
        if os.environ.get("NOSTRO_SERVERS") == "1":
            pytest.fail(f"no server at {SERVER.host}:{SERVER.port}, and NOSTRO_SERVERS=1 demands one")
        pytest.skip(f"no server at {SERVER.host}:{SERVER.port}")
    yield SERVER
    asyncio.run(on_server(drop))


@pytest.fixture(params=["memory", "file", pytest.param("mariadb", marks=pytest.mark.server)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageConfig]:
    """Where the databases of a test are; empty at its beginning."""
    if request.param == "memory":
        yield StorageConfig()
    elif request.param == "file":
        yield StorageConfig(kind="sqlite", folder=tmp_path / "data", durable=False)
    else:
        yield request.getfixturevalue("server")
        asyncio.run(on_server(empty))


@pytest.fixture
def databases(config: StorageConfig) -> StorageConfig:
    """Open databases, once the test runs (see `pytest_pyfunc_call`)."""
    return config
