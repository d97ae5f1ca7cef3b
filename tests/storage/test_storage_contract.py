"""What every driver does alike: rows, transactions, keys, versions, severing, what a statement may touch."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, func, insert, select, update
from storage_rows import NOW, flow_row, procedure_row, setting_row, task_row

from core.domain import TaskStatus
from core.money import Currency
from core.storage import (
    ConstraintViolation,
    Databases,
    SchemaMismatch,
    Sequence,
    Severed,
    Statement,
    StorageConfig,
    StorageError,
    TransactionOpen,
    UniqueViolation,
    WrongDatabase,
    open_databases,
    upsert,
)
from core.storage.account import bank_card
from core.storage.assets import balance
from core.storage.databases import SCHEMA_VERSION
from core.storage.primary import applys, asb_sequence, auto_settings, tasks
from core.storage.procedure import flow, outbox, proc_idem, proc_info

_P = proc_info.c
NEW = Statement(insert(proc_info))
FIND = Statement(select(_P.id, _P.status, _P.ext_status, _P.version).where(_P.id == bindparam("b_id")))
EVERY = Statement(select(_P.id, _P.version).order_by(_P.id))
MOVE = Statement(
    update(proc_info).where(_P.id == bindparam("b_id"), _P.version == bindparam("b_version"))
    .values(version=_P.version + 1, status=bindparam("status"), ext_status=bindparam("ext_status")))
DROP = Statement(delete(proc_info).where(_P.id == bindparam("b_id")))
NEW_FLOW = Statement(insert(flow))
COUNT_FLOWS = Statement(select(func.count()).select_from(flow))
NEW_IDEM = Statement(insert(proc_idem))
NEW_TASK = Statement(insert(tasks))

CONFIRMED = {"status": "new", "ext_status": "confirmed"}


async def _count(databases: Databases) -> int:
    row = await databases.procedure.first(COUNT_FLOWS, {})
    assert row is not None
    return int(row[0])


async def test_rows_are_written_found_changed_and_deleted(databases: Databases) -> None:
    db = databases.procedure
    first = await db.insert(NEW, procedure_row())
    second = await db.insert(NEW, procedure_row(ext_status="freeze"))
    assert second > first
    assert await db.first(FIND, {"b_id": second}) == (second, "new", "freeze", 0)
    assert await db.execute(MOVE, {"b_id": first, "b_version": 0} | CONFIRMED) == 1
    assert await db.all(EVERY, {}) == [(first, 1), (second, 0)]
    assert await db.execute(DROP, {"b_id": first}) == 1
    assert await db.first(FIND, {"b_id": first}) is None
    assert await db.all(EVERY, {}) == [(second, 0)]


async def test_a_row_comes_back_as_tuple_of_plain_values_in_select_order(databases: Databases) -> None:
    key = await databases.primary.insert(
        NEW_TASK, task_row(ccy=Currency.USD, status=TaskStatus.DONE, amount=2**53 + 1, remark="O'Neil 100% ?"))
    found = Statement(select(tasks.c.remark, tasks.c.amount, tasks.c.ccy, tasks.c.status, tasks.c.batch_date)
                      .where(tasks.c.id == bindparam("b_id")))
    assert await databases.primary.first(found, {"b_id": key}) == ("O'Neil 100% ?", 2**53 + 1, "USD", 3, None)
    total = Statement(select(func.sum(tasks.c.amount)))
    row = await databases.primary.first(total, {})
    assert row == (2**53 + 1,)
    assert type(row[0]) is int


async def test_constants_of_a_statement_are_values_not_parameters(databases: Databases) -> None:
    key = await databases.primary.insert(NEW_TASK, task_row(remark="50% of 'it'?"))
    named = Statement(select(tasks.c.id).where(tasks.c.remark == "50% of 'it'?", tasks.c.status.in_([1, 2])))
    assert await databases.primary.all(named, {}) == [(key,)]


async def test_a_given_key_is_kept_and_texts_differ_by_case(databases: Databases) -> None:
    assert await databases.procedure.insert(NEW, procedure_row(id=77)) == 77
    request = {"biz_type": "cash_deposit", "procedure_id": 1, "result": "", "created_at": NOW, "updated_at": NOW}
    for name in ("abc", "ABC"):
        await databases.procedure.execute(NEW_IDEM, request | {"rpc_request_id": name})


async def test_a_key_that_is_given_as_zero_is_kept(databases: Databases) -> None:
    row = {"uid": 1, "card_no_enc": "x", "token": None, "last4": "1234", "bank_code": "hsbc", "card_type": "",
           "ccy_list": "", "holder_name": "A", "status": 3, "slot": None, "bound_at": None, "payouts": 0,
           "verified_by": "", "unbind_reason": "", "created_at": NOW, "updated_at": NOW}
    new = Statement(insert(bank_card))
    assert await databases.account.insert(new, row | {"id": 0}) == 0
    counted = await databases.account.insert(new, row)
    assert counted == 1 and await databases.account.insert(new, row | {"id": 7}) == 7
    assert await databases.account.all(Statement(select(bank_card.c.id).order_by(bank_card.c.id)), {}) == [
        (0,), (1,), (7,)]


async def test_an_exception_rolls_back_everything(databases: Databases) -> None:
    db = databases.procedure
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            key = await tx.insert(NEW, procedure_row())
            await tx.insert(NEW_FLOW, flow_row(procedure_id=key))
            assert await tx.first(FIND, {"b_id": key}) is not None
            raise ZeroDivisionError
    assert await db.all(EVERY, {}) == []
    assert await _count(databases) == 0
    assert databases.commits == 0
    async with db.transaction() as tx:  # the connection is clean
        await tx.insert(NEW, procedure_row())
    assert databases.commits == 1


async def test_callbacks_run_in_order_after_the_commit_only(databases: Databases) -> None:
    db, called = databases.procedure, []
    async with db.transaction() as tx:
        await tx.insert(NEW, procedure_row())
        tx.after_commit(lambda: called.append(("first", db.commits)))
        tx.after_commit(lambda: called.append(("second", db.commits)))
        assert called == []
    assert called == [("first", 1), ("second", 1)]
    with pytest.raises(RuntimeError):
        async with db.transaction() as tx:
            tx.after_commit(lambda: called.append(("never", 0)))
            raise RuntimeError
    assert len(called) == 2


async def test_a_duplicate_key_names_the_table_and_the_transaction_goes_on(databases: Databases) -> None:
    request = {"biz_type": "cash_deposit", "rpc_request_id": "r1", "procedure_id": 1, "result": "", "created_at": NOW,
               "updated_at": NOW}
    db = databases.procedure
    await db.execute(NEW_IDEM, request)
    async with db.transaction() as tx:
        with pytest.raises(UniqueViolation) as caught:
            await tx.execute(NEW_IDEM, request)
        assert caught.value.table == "proc_idem"
        await tx.insert(NEW, procedure_row())
    assert len(await db.all(EVERY, {})) == 1
    effect = {"procedure_id": 1, "attempt": 1, "effect": "freeze", "key": "P1:1:freeze", "payload": "{}", "state": 0,
              "tries": 0, "due_at": NOW, "created_at": NOW, "updated_at": NOW}
    await db.insert(Statement(insert(outbox)), effect)
    with pytest.raises(UniqueViolation, match="key"):
        await db.insert(Statement(insert(outbox)), effect)


@pytest.mark.req("LOCK-01")
async def test_of_two_writers_with_the_same_version_one_succeeds(databases: Databases) -> None:
    db = databases.procedure
    key = await db.insert(NEW, procedure_row())

    async def writer() -> int:
        row = await db.first(FIND, {"b_id": key})
        assert row is not None
        await asyncio.sleep(0)  # both have read by now
        async with db.transaction() as tx:
            done = await tx.execute(MOVE, {"b_id": key, "b_version": 0} | CONFIRMED)
            if done:
                await tx.insert(NEW_FLOW, flow_row(procedure_id=key))
            return done

    assert sorted(await asyncio.gather(writer(), writer())) == [0, 1]
    assert await db.first(FIND, {"b_id": key}) == (key, "new", "confirmed", 1)
    assert await _count(databases) == 1


@pytest.mark.parametrize(("table", "row"), [
    ("proc_info", procedure_row(status="paid", ext_status="")),
    ("proc_info", procedure_row(status="end_ok", ext_status="waiting")),
    ("proc_info", procedure_row(biz_type="loan")),
    ("proc_info", procedure_row(market=3)),
    ("proc_info", procedure_row(poll_exhausted=2)),
    ("proc_info", procedure_row(reason=None)),
    ("tasks", task_row(status=9)),
    ("tasks", task_row(ccy="EUR")),
    ("tasks", task_row(step="SIGN")),
    ("tasks", task_row(amount=0)),
])
async def test_the_tables_refuse_values_outside_their_enumerations(
        databases: Databases, table: str, row: dict[str, Any]) -> None:
    db, into = (databases.procedure, proc_info) if table == "proc_info" else (databases.primary, tasks)
    with pytest.raises(ConstraintViolation, match=table):
        await db.insert(Statement(insert(into)), row)


async def test_no_bucket_of_a_balance_becomes_negative(databases: Databases) -> None:
    place = {"trade_acc_id": 1, "ccy": "HKD", "available": 100, "frozen": 0, "in_transit": 0}
    await databases.assets.execute(Statement(insert(balance)), place)
    for bucket in ("available", "frozen", "in_transit"):
        less = Statement(update(balance).values({bucket: balance.c[bucket] - 101}))
        with pytest.raises(ConstraintViolation, match=bucket):
            await databases.assets.execute(less, {})


@pytest.mark.req("SBA-FLOW-04")
@pytest.mark.parametrize("database, table", [("procedure", "flow"), ("assets", "posting"), ("assets", "entry")])
async def test_an_immutable_row_cannot_be_changed_or_deleted(databases: Databases, database: str, table: str) -> None:
    db = getattr(databases, database)
    kept = db.metadata.tables[table]
    row = {"flow": flow_row(),
           "posting": {"key": "k", "op": "add", "trade_acc_id": 1, "ccy": "HKD", "amount": 1, "hold_id": "", "code": 0,
                       "created_at": NOW},
           "entry": {"posting_id": 1, "account": "1", "bucket": "available", "ccy": "HKD", "delta": 1}}[table]
    key = await db.insert(Statement(insert(kept)), row)
    before = await db.all(Statement(select(kept)), {})
    overwrite = Statement(upsert(kept, key=("id",), update=tuple(row)[:1]))
    for change in (Statement(update(kept).values(id=kept.c.id + 1)), Statement(delete(kept))):
        with pytest.raises(ConstraintViolation, match=f"{table} rows cannot be changed or deleted"):
            await db.execute(change, {})
    with pytest.raises(ConstraintViolation, match="cannot be changed"):
        await db.execute(overwrite, row | {"id": key})
    assert await db.all(Statement(select(kept)), {}) == before


@pytest.mark.req("DB-06")
async def test_auto_settings_has_one_row_per_bank_and_currency(databases: Databases) -> None:
    db, new = databases.primary, Statement(insert(auto_settings))
    for bank, ccy in (("airstar", "HKD"), ("airstar", "USD"), ("cmb", "HKD")):
        await db.insert(new, setting_row(bank=bank, ccy=ccy))
    with pytest.raises(UniqueViolation):
        await db.insert(new, setting_row(balance=1))
    everything = Statement(select(auto_settings.c.bank, auto_settings.c.ccy))
    assert sorted(await db.all(everything, {})) == [("airstar", "HKD"), ("airstar", "USD"), ("cmb", "HKD")]


async def test_an_upsert_inserts_or_overwrites_the_columns_named(databases: Databases) -> None:
    db = databases.primary
    put = Statement(upsert(auto_settings, key=("bank", "ccy"), update=("balance", "updated_at")))
    assert await db.execute(put, setting_row(balance=10)) == 1
    assert await db.execute(put, setting_row(balance=20, enabled=0, updated_at=NOW + 1)) == 1
    found = Statement(select(auto_settings.c.balance, auto_settings.c.enabled, auto_settings.c.updated_at))
    assert await db.all(found, {}) == [(20, 1, NOW + 1)]


async def test_select_for_update_works_everywhere(databases: Databases) -> None:
    locking = Statement(select(_P.version).where(_P.id == bindparam("b_id")).with_for_update())
    key = await databases.procedure.insert(NEW, procedure_row(version=5))
    async with databases.procedure.transaction() as tx:
        assert await tx.first(locking, {"b_id": key}) == (5,)


@pytest.mark.req("DB-01")
async def test_a_statement_runs_on_its_own_database_only(databases: Databases) -> None:
    with pytest.raises(WrongDatabase, match="tasks"):
        await databases.procedure.insert(NEW_TASK, task_row())
    async with databases.assets.transaction() as tx:
        with pytest.raises(WrongDatabase, match="proc_info"):
            await tx.first(FIND, {"b_id": 1})


async def test_a_transaction_inside_another_is_refused(databases: Databases) -> None:
    async with databases.procedure.transaction() as tx:
        with pytest.raises(TransactionOpen, match="a transaction on assets inside a transaction on procedure"):
            async with databases.assets.transaction():
                pass
        with pytest.raises(TransactionOpen, match="statement of its own"):
            await databases.procedure.first(FIND, {"b_id": 1})
        key = await tx.insert(NEW, procedure_row())
    assert await databases.procedure.first(FIND, {"b_id": key}) is not None


async def test_a_transaction_that_has_ended_does_nothing(databases: Databases) -> None:
    async with databases.procedure.transaction() as tx:
        await tx.insert(NEW, procedure_row())
    with pytest.raises(StorageError, match="has ended"):
        await tx.insert(NEW, procedure_row())
    assert len(await databases.procedure.all(EVERY, {})) == 1


async def test_a_missing_parameter_is_named(databases: Databases) -> None:
    with pytest.raises(StorageError, match="'b_version'"):
        await databases.procedure.execute(MOVE, {"b_id": 1} | CONFIRMED)


async def test_commits_are_counted_and_told_in_order(databases: Databases) -> None:
    told: list[tuple[str, int]] = []
    databases.on_commit = lambda name, number: told.append((name, number))
    async with databases.procedure.transaction() as tx:
        await tx.insert(NEW, procedure_row())
    await databases.primary.insert(NEW_TASK, task_row())
    await databases.primary.all(Statement(select(tasks.c.id)), {})
    async with databases.procedure.transaction() as tx:
        await tx.all(EVERY, {})  # reading commits nothing
    async with databases.procedure.transaction() as tx:
        await tx.insert(NEW_FLOW, flow_row())
    assert told == [("procedure", 1), ("primary", 2), ("procedure", 3)]
    assert (databases.commits, databases.procedure.commits, databases.primary.commits) == (3, 2, 1)


class Killed(BaseException):
    """The simulated death of a core."""


@pytest.mark.parametrize("boundary", [1, 2, 3])
async def test_a_core_killed_at_a_commit_has_committed_and_goes_no_further(databases: Databases, boundary: int) -> None:
    called: list[int] = []

    def kill(_name: str, number: int) -> None:
        if number == boundary:
            databases.sever()
            raise Killed

    databases.on_commit = kill
    step = 0
    with pytest.raises(Killed):
        for step in range(1, 5):
            async with databases.procedure.transaction() as tx:
                await tx.insert(NEW_FLOW, flow_row(created_at=step))
                tx.after_commit(partial(called.append, step))
    assert step == boundary
    assert called == list(range(1, boundary))
    with pytest.raises(Severed):
        await databases.procedure.first(COUNT_FLOWS, {})
    again = databases.reopen()
    assert await _count(again) == boundary
    assert again.commits == 0
    assert again.on_commit is None
    await again.close()


async def test_severing_inside_a_transaction_rolls_it_back(databases: Databases) -> None:
    with pytest.raises(Severed):
        async with databases.procedure.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            databases.sever()
            await tx.insert(NEW, procedure_row())
    again = databases.reopen()
    assert await again.procedure.all(EVERY, {}) == []
    assert await again.procedure.insert(NEW, procedure_row()) > 0
    with pytest.raises(Severed):
        async with databases.assets.transaction():
            pass
    await again.close()


async def test_a_severed_core_cannot_commit(databases: Databases) -> None:
    with pytest.raises(Severed):
        async with databases.procedure.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            databases.sever()
    again = databases.reopen()
    assert await again.procedure.all(EVERY, {}) == []
    await again.close()


async def test_sequences_never_repeat(databases: Databases) -> None:
    db = databases.primary
    sequence, asb = Sequence(db, "apply"), Sequence(db, "asb", table=asb_sequence)
    async with db.transaction() as tx:
        assert [await sequence.next(tx) for _ in range(3)] == [1, 2, 3]
        assert await asb.next(tx) == 1
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            assert await sequence.next(tx) == 4
            raise ZeroDivisionError
    one, other = sequence.block(10), Sequence(db, "apply").block(10)
    taken = [await block.next() for _ in range(12) for block in (one, other)]
    assert sorted(taken) == sorted(set(taken))
    assert min(taken) == 4
    assert await Sequence(db, "task").block(5).next() == 1


async def test_opening_again_finds_the_data(config: StorageConfig) -> None:
    databases = await open_databases(config)
    await databases.procedure.insert(NEW, procedure_row())
    again = databases.reopen() if config.kind == "memory" else await open_databases(config)
    assert len(await again.procedure.all(EVERY, {})) == 1
    await again.close()
    if again is not databases:
        await databases.close()


@pytest.mark.parametrize(("off", "says"), [(1, "this program knows version"), (-1, "this program needs version")])
async def test_tables_of_another_version_are_refused(tmp_path: Path, off: int, says: str) -> None:
    config, other = StorageConfig(kind="sqlite", folder=tmp_path), SCHEMA_VERSION + off
    databases = await open_databases(config)
    databases.assets.connection.execute(  # type: ignore[attr-defined]
        f"UPDATE schema_version SET version = {other}")
    await databases.close()
    with pytest.raises(SchemaMismatch, match=f"assets: the tables have version {other}, {says} {SCHEMA_VERSION}"):
        await open_databases(config)


async def test_a_statement_of_two_databases_cannot_be_made() -> None:
    with pytest.raises(WrongDatabase, match="exactly one database: proc_info, tasks"):
        Statement(select(tasks.c.id, proc_info.c.id).where(tasks.c.id == proc_info.c.id))
    with pytest.raises(WrongDatabase):
        Statement(update(tasks).values(remark=select(_P.reason).scalar_subquery()))
    with pytest.raises(WrongDatabase):
        Statement(select(applys["07"].c.id).where(applys["07"].c.id.in_(select(_P.id))))


async def test_a_runtime_sized_in_is_refused_when_compiled() -> None:
    with pytest.raises(StorageError, match="IN with the parameter 'b_ids'"):
        Statement(select(_P.id).where(_P.id.in_(bindparam("b_ids", expanding=True)))).for_sqlite()


async def test_on_sqlite_a_task_that_waits_inside_a_transaction_is_found_out(tmp_path: Path) -> None:
    databases = await open_databases(StorageConfig(kind="sqlite", folder=tmp_path))
    release = asyncio.Event()

    async def sleeper() -> None:
        async with databases.procedure.transaction() as tx:
            await tx.insert(NEW, procedure_row())
            await release.wait()

    asleep = asyncio.create_task(sleeper(), name="sleeper")
    await asyncio.sleep(0)
    with pytest.raises(TransactionOpen, match=r"a statement of its own \(tasks\) on primary by task .* while "
                                              "a transaction on procedure by task sleeper is open"):
        await databases.primary.insert(NEW_TASK, task_row())
    release.set()
    await asleep
    assert await databases.primary.insert(NEW_TASK, task_row()) == 1
    await databases.close()


async def test_on_sqlite_nothing_suspends(tmp_path: Path) -> None:
    databases = await open_databases(StorageConfig(kind="sqlite", folder=tmp_path))
    turns = 0

    def tick() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(tick)

    asyncio.get_running_loop().call_soon(tick)
    async with databases.procedure.transaction() as tx:
        key = await tx.insert(NEW, procedure_row())
        assert await tx.first(FIND, {"b_id": key}) is not None
        assert await tx.execute(MOVE, {"b_id": key, "b_version": 0} | CONFIRMED) == 1
    await Sequence(databases.primary, "apply").block(10).next()
    assert turns == 0
    await databases.close()
