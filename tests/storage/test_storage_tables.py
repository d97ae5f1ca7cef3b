"""Which tables there are, where they are, how they are sharded, and which indexes the documented queries use."""

from __future__ import annotations

import itertools
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from storage_rows import NOW, apply_row, procedure_row, statement_row, task_row

from core.orchestration.deposit_table import DEPOSIT
from core.orchestration.withdraw_table import WITHDRAW
from core.storage import (
    SHARDS,
    Databases,
    SchemaMismatch,
    Sharded,
    Statement,
    StorageConfig,
    UniqueViolation,
    bank_month,
    ensure_flow_table,
    mysql,
    open_databases,
    shard_of,
    sqlite,
)
from core.storage.databases import SCHEMAS
from core.storage.inline_engine import inline_async_engine
from core.storage.mysql import MysqlDatabase
from core.storage.primary import (
    MATCHING_BANKS,
    abnormal_deposits,
    applys,
    bank_flows,
    deposits,
    matches,
    statement_flows,
    tasks,
)
from core.storage.procedure import STATES, ProcInfo, proc_info
from core.storage.sharding import creation

APPLY = Sharded(insert, applys)
FIND_APPLY = Sharded(lambda t: select(t.c.id, t.c.uid).where(t.c.uid == bindparam("b_uid")), applys)
ENTRY = Sharded(insert, statement_flows)
ENTRIES = Sharded(lambda t: select(t.c.id).order_by(t.c.id), statement_flows)

TASK_LIST = Statement(
    select(tasks.c.id, tasks.c.status)
    .where(tasks.c.created_at >= bindparam("b_since"), tasks.c.created_at < bindparam("b_until"),
           tasks.c.status == bindparam("b_status"))
    .order_by(tasks.c.created_at))


async def _plan(db: Any, statement: Statement, parameters: dict[str, Any]) -> str:
    """What the database says about how it would carry a statement out."""
    if isinstance(db, MysqlDatabase):
        text, arguments = statement.for_mysql()
        connection = await db.connections.take()
        try:
            rows = (await connection.run(f"EXPLAIN {text}", arguments(parameters))).rows
        finally:
            db.connections.give(connection)
        return " ".join(f"{row[2]}:{row[5]}" for row in rows)  # table:key
    text, arguments = statement.for_sqlite()
    return " ".join(row[3] for row in db.connection.execute(f"EXPLAIN QUERY PLAN {text}", arguments(parameters)))


async def _tables(db: Any) -> set[str]:
    if isinstance(db, MysqlDatabase):
        connection = await db.connections.take()
        try:
            rows = (await connection.run("SHOW TABLES")).rows
        finally:
            db.connections.give(connection)
        return {str(name) for (name,) in rows}
    return {name for (name,) in db.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.mark.req("DB-02")
async def test_each_database_holds_the_documented_tables(databases: Databases) -> None:
    primary = await _tables(databases.primary)
    assert {"tasks", "queue", "flows", "sba_list", "auto_settings", "cmb_list", "ms_list", "refund", "flow_claim",
            "abnormal_deposits", "acct_trd_record", "icbc_bank_flow", "list_entry"} <= primary
    for name in ("applys", "matches", "deposits"):
        assert {table for table in primary if table.startswith(f"{name}_")} == {f"{name}_{n:02d}" for n in range(100)}
    assert {f"{bank}_bank_flow" for bank in MATCHING_BANKS} <= primary
    assert await _tables(databases.account) == {
        "bank_card", "bank_info", "bank_card_certificate", "bank_card_asb_bst", "bank_card_bst", "bank_card_edda",
        "edda_report", "sequences", "schema_version"}
    assert await _tables(databases.procedure) == {
        "proc_info", "proc_cash_deposit", "proc_cash_withdraw", "flow", "proc_idem", "outbox", "late_result",
        "sequences", "schema_version"}
    assert await _tables(databases.assets) == {"balance", "hold", "posting", "entry", "sequences", "schema_version"}


@pytest.mark.req("DB-01")
async def test_the_databases_share_no_table_object() -> None:
    for one, other in itertools.combinations(SCHEMAS, 2):
        assert one.metadata is not other.metadata
        assert not set(one.metadata.tables.values()) & set(other.metadata.tables.values())


@pytest.mark.req("DB-SHARD-01")
async def test_an_application_lies_in_the_table_of_its_customer(databases: Databases) -> None:
    db = databases.primary
    customers = [1_000 + n for n in range(100)]
    for number, uid in enumerate(customers):
        await db.execute(APPLY[shard_of(uid)], apply_row(id=number + 1, uid=uid))
    for number, uid in enumerate(customers):
        assert APPLY[shard_of(uid)].table.name == f"applys_{uid % 100:02d}"
        everybody = Statement(select(applys[f"{uid % 100:02d}"].c.uid))
        assert await db.all(everybody, {}) == [(uid,)]  # that customer's and nobody else's
        assert await db.all(FIND_APPLY[shard_of(uid)], {"b_uid": uid}) == [(number + 1, uid)]
    assert [shard_of(uid) for uid in (0, 7, 100, 199, 123_456_705)] == ["00", "07", "00", "99", "05"]


@pytest.mark.req("DB-SHARD-07")
async def test_matches_and_deposits_are_sharded_by_customer_too(databases: Databases) -> None:
    db, uid = databases.primary, 4_207
    match = {"id": 1, "apply_id": 1, "uid": uid, "flow_id": 1, "bank_type": "bochk", "tier": "AUTO", "dims": "",
             "amount_diff": 0, "operator": "system", "created_at": NOW, "updated_at": NOW}
    deposit = {"id": 1, "apply_id": 1, "uid": uid, "match_id": 1, "procedure_id": None, "ccy": "HKD", "amount": 1,
               "status": 2, "created_at": NOW, "updated_at": NOW}
    for name, tables, row in (("matches", matches, match), ("deposits", deposits, deposit)):
        await db.execute(Sharded(insert, tables)[shard_of(uid)], row)
        holding = [table.name for table in tables if await db.all(Statement(select(table.c.id)), {})]
        assert holding == [f"{name}_07"]
        assert [table.name for table in tables] == [f"{name}_{shard}" for shard in SHARDS]


async def test_a_suffix_that_is_no_shard_is_refused() -> None:
    for suffix in ("7", "100", "bochk", ""):
        with pytest.raises(KeyError):
            applys[suffix]
    for bank, month in (("bochk", 202613), ("bochk", 2026), ("BOCHK", 202604), ("x; drop table", 202604)):
        with pytest.raises(ValueError, match="not a bank code and a month"):
            bank_month(bank, month)


@pytest.mark.req("DB-SHARD-02")
async def test_a_statement_of_bochk_in_april_2026_lies_in_its_own_table(databases: Databases) -> None:
    db = databases.primary
    assert await ensure_flow_table(db, "bochk", 202604) == "bochk_202604"
    await ensure_flow_table(db, "bochk", 202604)  # again: nothing happens
    await db.execute(ENTRY["bochk_202604"], statement_row())
    assert ENTRY["bochk_202604"].table.name == "flows_bochk_202604"
    assert "flows_bochk_202604" in await _tables(db)
    with pytest.raises(UniqueViolation):
        await db.execute(ENTRY["bochk_202604"], statement_row(id=2))  # the bank pushed it twice


@pytest.mark.req("DB-SHARD-03")
async def test_each_month_is_read_by_its_own_name(databases: Databases) -> None:
    db = databases.primary
    for number, month in enumerate((202603, 202604), start=1):
        suffix = await ensure_flow_table(db, "hsbc", month)
        await db.execute(ENTRY[suffix], statement_row(id=number, bank_type="hsbc", bank_ref=f"R{number}"))
    assert await db.all(ENTRIES["hsbc_202603"], {}) == [(1,)]
    assert await db.all(ENTRIES["hsbc_202604"], {}) == [(2,)]
    over_two_months = [row for suffix in ("hsbc_202603", "hsbc_202604") for row in await db.all(ENTRIES[suffix], {})]
    assert over_two_months == [(1,), (2,)]


async def test_a_monthly_table_must_exist_before_it_is_used(databases: Databases) -> None:
    with pytest.raises(SchemaMismatch, match="before their first use"):
        await databases.primary.execute(ENTRY["citi_202001"], statement_row())


async def test_a_monthly_table_is_found_again_after_reopening(config: StorageConfig) -> None:
    databases = await open_databases(config)
    suffix = await ensure_flow_table(databases.primary, "dbs", 202605)
    await databases.primary.execute(ENTRY[suffix], statement_row())
    again = databases.reopen()
    await ensure_flow_table(again.primary, "dbs", 202605)
    assert await again.primary.all(ENTRIES[suffix], {}) == [(1,)]
    await again.close()


@pytest.mark.req("DB-SHARD-04")
async def test_the_task_list_uses_the_index_on_creation_and_status(databases: Databases) -> None:
    for number in range(300):
        await databases.primary.insert(Statement(insert(tasks)), task_row(created_at=NOW + number, uid=number))
    asked = {"b_since": NOW + 10, "b_until": NOW + 20, "b_status": 1}
    assert len(await databases.primary.all(TASK_LIST, asked)) == 10
    assert "ix_tasks_created_at_status" in await _plan(databases.primary, TASK_LIST, asked)
    assert [name for name in await _tables(databases.primary) if re.fullmatch(r"tasks(_\w+)?", name)] == ["tasks"]


@pytest.mark.req("DB-SHARD-05")
async def test_procedures_are_found_by_id_or_by_customer_and_business(databases: Databases) -> None:
    db = databases.procedure
    async with db.transaction() as tx:
        for number in range(300):
            await tx.insert(Statement(insert(proc_info)), procedure_row(nn_uid=number))
    by_id = Statement(select(proc_info.c.nn_uid).where(proc_info.c.id == bindparam("b_id")))
    by_customer = Statement(select(proc_info.c.id).where(
        proc_info.c.nn_uid == bindparam("b_uid"), proc_info.c.biz_type == bindparam("b_biz")))
    plan = await _plan(db, by_id, {"b_id": 5})
    assert "INTEGER PRIMARY KEY" in plan or "PRIMARY" in plan
    asked = {"b_uid": 17, "b_biz": "cash_withdraw"}
    assert len(await db.all(by_customer, asked)) == 1
    assert "ix_proc_info_nn_uid_biz_type" in await _plan(db, by_customer, asked)
    assert [name for name in await _tables(db) if name.startswith("proc_info")] == ["proc_info"]


@pytest.mark.req("DB-SHARD-06")
async def test_cards_procedures_and_abnormal_deposits_are_not_sharded(databases: Databases) -> None:
    sharded = re.compile(r"_\d\d$|_20\d{4}$")
    for db in (databases.account, databases.procedure, databases.assets):
        assert [name for name in await _tables(db) if sharded.search(name)] == []
    abnormal = [name for name in await _tables(databases.primary) if name.startswith("abnormal")]
    assert abnormal == [abnormal_deposits.name] == ["abnormal_deposits"]


async def test_the_states_that_the_table_accepts_are_those_of_the_machines() -> None:
    accepted = {(status, ext) for status, exts in STATES.items() for ext in exts}
    assert accepted == {tuple(state) for machine in (DEPOSIT, WITHDRAW) for state in machine.states}


@pytest.mark.parametrize("ddl_of", [sqlite.ddl_of, mysql.ddl_of])
async def test_copies_are_created_as_if_each_were_compiled(ddl_of: Callable[[Table], list[str]]) -> None:
    metadata = SCHEMAS[0].metadata
    some = [metadata.tables[name] for name in ("applys_00", "tasks", "applys_42", "matches_00", "matches_99",
                                               "bochk_bank_flow", "ewb_bank_flow")]
    assert list(creation(some, ddl_of)) == [text for table in some for text in ddl_of(table)]


async def test_raw_records_have_a_table_per_bank() -> None:
    assert [table.name for table in bank_flows] == [f"{bank}_bank_flow" for bank in MATCHING_BANKS if bank != "icbc"]


async def test_memory_databases_can_be_copied_to_files(tmp_path: Path) -> None:
    databases = await open_databases(StorageConfig())
    await databases.procedure.insert(Statement(insert(proc_info)), procedure_row(nn_uid=42))
    databases.copy_to(tmp_path / "kept")
    await databases.close()
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == [
        "account.sqlite", "assets.sqlite", "primary.sqlite", "procedure.sqlite"]
    copied = sqlite3.connect(tmp_path / "kept" / "procedure.sqlite")
    assert copied.execute("SELECT nn_uid FROM proc_info").fetchall() == [(42,)]
    copied.close()
    again = await open_databases(StorageConfig(kind="sqlite", folder=tmp_path / "kept"))
    assert await again.procedure.all(Statement(select(proc_info.c.nn_uid)), {}) == [(42,)]
    await again.close()


async def test_the_inline_engine_reads_without_a_thread(tmp_path: Path) -> None:
    databases = await open_databases(StorageConfig(kind="sqlite", folder=tmp_path))
    await databases.procedure.insert(Statement(insert(proc_info)), procedure_row(nn_uid=42))
    engine = inline_async_engine(databases.procedure.connection)  # type: ignore[attr-defined]
    before = threading.active_count()
    async with AsyncSession(engine) as session:
        found = (await session.execute(select(ProcInfo).where(proc_info.c.nn_uid == 42))).scalars().one()
        assert (found.status, found.ext_status, found.created_at) == ("new", "waiting", NOW)
        assert threading.active_count() == before
    await engine.dispose()
    assert await databases.procedure.all(Statement(select(proc_info.c.nn_uid)), {}) == [(42,)]
    await databases.close()
