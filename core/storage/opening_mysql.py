"""Opening the four schemas on a MySQL or MariaDB server."""

from __future__ import annotations

import re

from asyncmy import errors

from core.errors import Misconfigured
from core.storage.databases import SCHEMA_VERSION, SCHEMAS, Databases, Schema, StorageConfig, check_version
from core.storage.errors import SchemaMismatch, StorageError
from core.storage.life import Life
from core.storage.mysql import Connection, Connections, MysqlDatabase, connect, ddl_of, immutable
from core.storage.sharding import creation

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)
_CREATING_S = 120


async def open_mysql(config: StorageConfig) -> Databases:
    """Create the schemas when absent (one process at a time), then open."""
    if not _PREFIX.fullmatch(config.prefix):
        raise Misconfigured(f"prefix {config.prefix!r}", where="storage",
                            remedy="small letters, digits and _, beginning with a letter, at most 41")
    connection = await connect(config, None)
    try:
        await _one_at_a_time(connection, config.prefix)
        for schema in SCHEMAS:
            await _ensure(connection, schema, f"{config.prefix}_{schema.name}")
    except errors.MySQLError as error:
        raise StorageError(f"creating the schemas {config.prefix}_…: {error}") from error
    finally:
        await connection.driver.ensure_closed()  # releases the lock as well
    return _assemble(config)


def _assemble(config: StorageConfig) -> Databases:
    life = Life()
    opened = {schema.name: MysqlDatabase(schema.name, schema.metadata,
                                         Connections(config, f"{config.prefix}_{schema.name}"), life)
              for schema in SCHEMAS}
    return Databases(opened, life, lambda: _assemble(config))


async def _one_at_a_time(connection: Connection, prefix: str) -> None:
    taken = await connection.run("SELECT GET_LOCK(?, ?)", (f"nostro schema {prefix}", _CREATING_S))
    if taken.rows != ((1,),):
        raise StorageError(f"another process has been creating {prefix}_… for more than {_CREATING_S} s")


async def _ensure(connection: Connection, schema: Schema, name: str) -> None:
    await connection.command(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    await connection.command(f"USE {name}")
    found = await _version(connection, name)
    if found is not None:
        check_version(name, found)
        return
    for text in (*creation(schema.tables(), ddl_of),
                 *(text for table in schema.immutable for text in immutable(table)),
                 "CREATE TABLE schema_version (version BIGINT NOT NULL)",
                 f"INSERT INTO schema_version (version) VALUES ({SCHEMA_VERSION})"):
        await connection.command(text)


async def _version(connection: Connection, name: str) -> int | None:
    result = await connection.run("SELECT table_name FROM information_schema.tables WHERE table_schema = ?", (name,))
    tables = {str(table) for (table,) in result.rows}
    if "schema_version" in tables:
        return int((await connection.run(f"SELECT version FROM {name}.schema_version")).rows[0][0])
    if tables:
        raise SchemaMismatch(f"{name}: tables without schema_version; their creation was interrupted, or they are not "
                             "ours. If they may go: DROP DATABASE, and start again")
    return None
