"""Opening SQLite databases in memory and in files."""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from pathlib import Path

from core.errors import Misconfigured
from core.storage.databases import SCHEMA_VERSION, SCHEMAS, Databases, Schema, StorageConfig, check_version
from core.storage.errors import SchemaMismatch
from core.storage.life import Life
from core.storage.sharding import creation
from core.storage.sqlite import SqliteDatabase, connect, ddl_of, immutable


def open_memory() -> Databases:
    """Four new databases in memory; reopened ones share the connections."""
    connections = {schema.name: connect(None, durable=False) for schema in SCHEMAS}
    for name, connection in connections.items():
        _pattern(name).backup(connection)  # a seventh of the time of creating some hundred tables anew
    return _assemble(connections)


def open_files(folder: Path | None, config: StorageConfig) -> Databases:
    """Four files in a folder, created when absent; reopened ones have connections of their own."""
    if folder is None:
        raise Misconfigured("kind sqlite needs a folder", where="storage", remedy="set folder")
    folder.mkdir(parents=True, exist_ok=True)
    connections: dict[str, sqlite3.Connection] = {}
    try:
        for schema in SCHEMAS:
            connections[schema.name] = connect(folder / f"{schema.name}.sqlite", durable=config.durable)
            _ensure(connections[schema.name], schema)
    except BaseException:
        for connection in connections.values():
            connection.close()
        raise
    return _assemble(connections)


def _assemble(connections: dict[str, sqlite3.Connection]) -> Databases:
    life = Life()
    opened = {schema.name: SqliteDatabase(schema.name, schema.metadata, connections[schema.name], life)
              for schema in SCHEMAS}
    return Databases(opened, life, lambda: _assemble(connections))


@lru_cache(maxsize=len(SCHEMAS))
def _pattern(name: str) -> sqlite3.Connection:
    """An empty database in memory from which others are copied; lives as long as the process."""
    connection = connect(None, durable=False)
    _ensure(connection, next(schema for schema in SCHEMAS if schema.name == name))
    return connection


def _ensure(connection: sqlite3.Connection, schema: Schema) -> None:
    """Create everything in one transaction, or check the version of what is there."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _version(connection, schema.name)
        if found is None:
            _create(connection, schema)
        else:
            check_version(schema.name, found)
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def _create(connection: sqlite3.Connection, schema: Schema) -> None:
    texts = [*creation(schema.tables(), ddl_of),
             *(text for table in schema.immutable for text in immutable(table)),
             "CREATE TABLE schema_version (version BIGINT NOT NULL)",
             f"INSERT INTO schema_version (version) VALUES ({SCHEMA_VERSION})"]
    for text in texts:
        connection.execute(text)


def _version(connection: sqlite3.Connection, name: str) -> int | None:
    tables = {table for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "schema_version" in tables:
        return int(connection.execute("SELECT version FROM schema_version").fetchone()[0])
    if tables:
        raise SchemaMismatch(f"{name}: the file holds tables that are not ours (no schema_version)")
    return None
