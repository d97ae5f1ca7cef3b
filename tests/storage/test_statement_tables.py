"""The tables that a statement says it touches are those that the database looks up when it prepares it."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sqlite3
from collections.abc import Iterator

import pytest
from sqlalchemy import bindparam, insert, select

import core
from core.storage import Databases, Sharded, Statement, StorageConfig, open_databases
from core.storage.primary import applys, tasks
from core.storage.procedure import flow, proc_info

TOUCHING = (sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE)
"""What SQLite asks its authorizer about; the first argument names the table."""
JOINED = Statement(select(flow.c.id).select_from(flow.join(proc_info, flow.c.procedure_id == proc_info.c.id))
                   .where(proc_info.c.nn_uid == bindparam("uid")))
NESTED = Statement(select(tasks.c.id).where(tasks.c.id.in_(select(applys["07"].c.id))))


def statements() -> Iterator[tuple[str, Statement]]:
    """Every statement that a module of the core holds by name, sharded ones on one shard."""
    for module in pkgutil.walk_packages(core.__path__, "core."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Statement):
                yield f"{module.name}.{name}", value
            elif isinstance(value, Sharded) and value._tables is applys:
                yield f"{module.name}.{name}", value["42"]


def looked_up(databases: Databases, statement: Statement) -> set[str]:
    """The tables that SQLite touches for a statement."""
    found: set[str] = set()
    database = next(one for one in (databases.primary, databases.account, databases.procedure, databases.assets)
                    if one.metadata is statement.metadata)

    def allow(action: int, table: str | None, _column: str | None, _schema: str | None, trigger: str | None) -> int:
        if action in TOUCHING and trigger is None and table:
            found.add(table)
        return sqlite3.SQLITE_OK

    text, _ = statement.for_sqlite()
    connection: sqlite3.Connection = database.connection  # type: ignore[attr-defined]
    connection.set_authorizer(allow)
    try:
        connection.execute(f"EXPLAIN {text}", (0,) * text.count("?")).fetchall()
    finally:
        connection.set_authorizer(None)
    return found


def checked(named: list[tuple[str, Statement]]) -> dict[str, tuple[set[str], set[str]]]:
    """(said, looked up) of each statement where the two differ."""

    async def main() -> dict[str, tuple[set[str], set[str]]]:
        databases = await open_databases(StorageConfig("memory"))
        pairs = {name: (set(one.tables), looked_up(databases, one)) for name, one in named}
        await databases.close()
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    return asyncio.run(main())


@pytest.mark.req("TRACE-05")
def test_every_statement_of_the_core_names_the_tables_that_it_touches() -> None:
    found = list(statements())
    assert len(found) > 100
    assert not checked(found)


@pytest.mark.req("TRACE-05")
def test_a_join_and_a_subquery_name_all_their_tables_and_a_shard_its_own() -> None:
    on = Sharded(insert, applys)
    assert not checked([("joined", JOINED), ("nested", NESTED), ("07", on["07"]), ("08", on["08"])])
    assert set(JOINED.tables) == {"flow", "proc_info"} and set(NESTED.tables) == {"tasks", "applys_07"}
    assert [list(on[shard].tables) for shard in ("07", "08")] == [["applys_07"], ["applys_08"]]
