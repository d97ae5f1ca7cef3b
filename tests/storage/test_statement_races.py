"""Two workers that change one statement entry on a server: neither takes back what the other has written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from crossing import Moment, Worker
from sqlalchemy import select
from storage_server import empty, on_server

from core.banks.bochk import entry_of
from core.deposits.statements import CANDIDATE, Flow
from core.storage import Databases, Statement, StorageConfig
from core.storage.primary import sequences
from core.trace import Event

pytestmark = pytest.mark.server

ENTRY = entry_of("TodayActivity", "01287500000011", "HKD", {
    "seq_no": "0000000007", "txnTime": "20260312081502", "ccy": "HKD", "drCr": "C", "amount": "10.00",
    "balance": "10.00"})
SNAPSHOT = Statement(select(sequences.c.value))


@pytest.fixture(params=["mariadb"])
def config(request: pytest.FixtureRequest, server: StorageConfig) -> Iterator[StorageConfig]:
    """Only the server: on SQLite no transaction begins while another is open."""
    yield server
    asyncio.run(on_server(empty))


async def test_a_name_that_comes_while_the_status_is_changed_stays(databases: Databases) -> None:
    clock, events = Moment(), list[Event]()
    one, other = (Worker(databases, clock, events) for _ in range(2))
    await one.statements.take("bochk", [ENTRY], "B2E")
    [flow] = await one.statements.between("bochk", ENTRY.credit_time, ENTRY.credit_time + 1)

    async def named() -> Flow | None:
        async with other.db.transaction() as tx:
            return await other.statements.change(tx, flow, en_name="CHAN TAI MAN", payer_acct="01233300000001")

    async with one.db.transaction() as tx:
        await tx.all(SNAPSHOT, {})  # from here on, plain reads of this transaction see what was before
        assert await asyncio.gather(named()) != [None]
        moved = await one.statements.change(tx, flow, status=CANDIDATE)
    assert moved is not None and moved.en_name == "CHAN TAI MAN"
    after = await one.statements.find("bochk", flow.id)
    assert after is not None
    assert (after.status, after.en_name, after.payer_acct) == (CANDIDATE, "CHAN TAI MAN", "01233300000001")
