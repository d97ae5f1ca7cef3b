"""How much of raw sqlite3's speed is left on the storage path: same statements, same tables, same run, interleaved.

One transaction is BEGIN IMMEDIATE, ``UPDATE … WHERE version``, INSERT of the audit row, COMMIT (memory and WAL file).
The shards are one INSERT each into ``applys_00`` … ``applys_99`` in turn, one commit each.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from sqlalchemy import bindparam, insert, update

from core.storage import SHARDS, Databases, Sharded, Statement, StorageConfig, open_databases
from core.storage.primary import applys
from core.storage.procedure import flow, proc_info

ROUNDS = 31
ROWS = 1_000
PER_ROUND = 1_000

_P = proc_info.c
NEW = Statement(insert(proc_info))
MOVE = Statement(
    update(proc_info)
    .where(_P.id == bindparam("b_id"), _P.version == bindparam("b_version"))
    .values(version=_P.version + 1, status=bindparam("status"), ext_status=bindparam("ext_status"),
            updated_at=bindparam("updated_at")))
AUDIT = Statement(insert(flow))
APPLY = Sharded(insert, applys)

STATES = (("new", "waiting"), ("new", ""))


def _procedure(number: int) -> dict[str, Any]:
    return {"biz_type": "cash_withdraw", "nn_uid": number, "market": 1, "trade_acc_id": number, "status": "new",
            "ext_status": "waiting", "version": 0, "revision": 0, "transaction_date": 20260401, "reason": "",
            "intent": "",
            "attempt_no": 1, "poll_exhausted": 0, "abnormal": 0, "bank_ack_at": None, "bank_result": "",
            "hold_id": f"WD{number}", "due_at": None, "created_at": number, "updated_at": number}


def _apply(number: int) -> dict[str, Any]:
    return {"id": number, "uid": number, "trade_acc_id": number, "market": 1, "card_id": 1,
            "card_no": "6222000011112222", "bank_type": "airstar", "ccy": "HKD",
            "amount": 1_000_000, "status": 0, "source": 1, "trans_type": 303,
            "sba_procedure_id": None, "matched_flow_id": None, "credited_amount": None, "voucher_file_id": "",
            "reject_reason": "", "request_id": None, "bank_ref_id": f"ASBBST{number:09d}", "mandate_id": "M1",
            "fail_code": "", "created_at": number, "updated_at": number}


def _apply_row(number: int) -> tuple[Any, ...]:
    """The same in the order of the table's columns."""
    return (number, number, number, 1, 1, "6222000011112222", "airstar", "HKD", 1_000_000, 0, 1, 303, None, None, None,
            "", "", None, f"ASBBST{number:09d}", "M1", "", number, number)


def _texts() -> dict[str, str]:
    """What the driver is given for each shard."""
    return {shard: APPLY[shard].for_sqlite()[0] for shard in SHARDS}


async def _storage_transactions(databases: Databases, versions: list[int], count: int) -> None:
    db = databases.procedure
    for step in range(count):
        number = step % ROWS
        version = versions[number]
        (from_status, from_ext), (status, ext) = STATES[version % 2], STATES[(version + 1) % 2]
        async with db.transaction() as tx:
            moved = await tx.execute(MOVE, {"b_id": number + 1, "b_version": version, "status": status,
                                            "ext_status": ext, "updated_at": step})
            await tx.execute(AUDIT, {
                "procedure_id": number + 1, "from_status": from_status, "to_status": status,
                "from_ext_status": from_ext, "to_ext_status": ext, "operator": "system", "remark": "",
                "created_at": step})
        assert moved == 1
        versions[number] = version + 1


async def _raw_transactions(connection: sqlite3.Connection, versions: list[int], count: int) -> None:
    move, audit = (MOVE.sqlite or MOVE.for_sqlite())[0], (AUDIT.sqlite or AUDIT.for_sqlite())[0]
    cursor = connection.cursor()
    for step in range(count):
        number = step % ROWS
        version = versions[number]
        (from_status, from_ext), (status, ext) = STATES[version % 2], STATES[(version + 1) % 2]
        cursor.execute("BEGIN IMMEDIATE")
        moved = cursor.execute(move, (status, ext, step, number + 1, version)).rowcount
        cursor.execute(audit, (None, number + 1, from_status, status, from_ext, ext, "system", "", step))
        cursor.execute("COMMIT")
        assert moved == 1
        versions[number] = version + 1


async def _storage_shards(databases: Databases, begin: int, count: int) -> None:
    db = databases.primary
    for number in range(begin, begin + count):
        await db.execute(APPLY[SHARDS[number % 100]], _apply(number))


async def _raw_shards(connection: sqlite3.Connection, texts: dict[str, str], begin: int, count: int) -> None:
    cursor = connection.cursor()
    for number in range(begin, begin + count):
        cursor.execute(texts[SHARDS[number % 100]], _apply_row(number))


async def _seconds(work: Callable[[], Awaitable[None]]) -> float:
    gc.collect()
    gc.disable()
    begin = perf_counter()
    await work()
    spent = perf_counter() - begin
    gc.enable()
    return spent


async def _prepared(config: StorageConfig) -> tuple[Databases, list[int]]:
    databases = await open_databases(config)
    async with databases.procedure.transaction() as tx:
        for number in range(ROWS):
            await tx.insert(NEW, _procedure(number))
    return databases, [0] * ROWS


async def _compare(ours: StorageConfig, raws: StorageConfig) -> dict[str, float]:
    """Interleaved rounds on two databases of the same tables and rows: ours through storage, the other raw."""
    through, versions = await _prepared(ours)
    beside, raw_versions = await _prepared(raws)
    raw_procedure, raw_primary = beside.procedure.connection, beside.primary.connection  # type: ignore[attr-defined]
    texts = _texts()
    spent: dict[str, list[float]] = {"transaction": [], "raw transaction": [], "shards": [], "raw shards": []}
    for turn in range(ROUNDS):
        first = 1 + turn * PER_ROUND
        spent["transaction"].append(await _seconds(partial(_storage_transactions, through, versions, PER_ROUND)))
        spent["raw transaction"].append(
            await _seconds(partial(_raw_transactions, raw_procedure, raw_versions, PER_ROUND)))
        spent["shards"].append(await _seconds(partial(_storage_shards, through, first, PER_ROUND)))
        spent["raw shards"].append(await _seconds(partial(_raw_shards, raw_primary, texts, first, PER_ROUND)))
    await through.close()
    await beside.close()
    rates = {name: PER_ROUND / statistics.median(times) for name, times in spent.items()}
    return rates | {f"{name} ratio": _ratio(spent[f"raw {name}"], spent[name]) for name in ("transaction", "shards")}


def _ratio(raw: list[float], ours: list[float]) -> float:
    """Median of the rounds' own ratios: neighbours in time suffer the same neighbours on the machine."""
    return statistics.median(one / other for one, other in zip(raw, ours, strict=True))


async def _measure() -> dict[str, float]:
    memory = await _compare(StorageConfig(), StorageConfig())
    with tempfile.TemporaryDirectory() as folder:
        file = await _compare(*(StorageConfig(kind="sqlite", folder=Path(folder) / name, durable=False)
                                for name in ("through", "raw")))
    return {
        "transaction_ratio": memory["transaction ratio"],
        "transactions_per_second": memory["transaction"],
        "shards_ratio": memory["shards ratio"],
        "shard_inserts_per_second": memory["shards"],
        "file_transaction_ratio": file["transaction ratio"],
        "file_transactions_per_second": file["transaction"],
    }


def measure() -> dict[str, float]:
    """Ratios to raw sqlite3 (1.0 = as fast) and rates per second; medians over interleaved rounds."""
    return asyncio.run(_measure())


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:32} {value:12,.2f}")
