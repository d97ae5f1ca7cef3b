"""The MariaDB server of the tests: schemas of this run, emptied after each test, dropped at the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable

from core.storage import StorageConfig
from core.storage.databases import SCHEMAS
from core.storage.mysql import Connection, connect

PREFIX = f"nostro_test_{os.getpid()}"
SERVER = StorageConfig(kind="mysql", prefix=PREFIX, connections=8)


def answers() -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((SERVER.host, SERVER.port), timeout=2).close()
    except OSError:
        return False
    return True


async def on_server(work: Callable[[Connection], Awaitable[None]]) -> None:
    """Do something on a connection of its own."""
    connection = await connect(SERVER, None)
    try:
        await work(connection)
    finally:
        await connection.driver.ensure_closed()


async def drop(connection: Connection) -> None:
    """Remove the schemas of this run."""
    for schema in SCHEMAS:
        await connection.command(f"DROP DATABASE IF EXISTS {PREFIX}_{schema.name}")


async def empty(connection: Connection) -> None:
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
