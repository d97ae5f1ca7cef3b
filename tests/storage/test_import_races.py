"""One file brought by two people at once: its entries are kept once, and both are told what became of theirs."""

from __future__ import annotations

import json

import pytest
from crossing import Moment, Worker

from core.deposits.importing import Imported, import_file
from core.storage import Databases
from core.trace import Event


def notice(ref: str, amount: str = "10.00") -> str:
    return json.dumps({"bank": "dbs", "ref": ref, "ccy": "HKD", "amount": amount, "name": "CHAN", "last4": "4321",
                       "time": "2026-03-12T09:20:01+08:00"}) + "\n"


@pytest.mark.parametrize(("theirs", "becomes", "refused"), [("10.00", (1, 1), 0), ("11.00", (1, 0), 1)])
async def test_a_file_that_crosses_another_is_compared_with_what_came_first(
    databases: Databases, theirs: str, becomes: tuple[int, int], refused: int
) -> None:
    clock, events = Moment(), list[Event]()
    one, other = (Worker(databases, clock, events) for _ in range(2))

    async def brings(worker: Worker, *lines: str) -> Imported:
        return await import_file("dbs", worker.room, "a.jsonl", "".join(lines).encode())

    one.db.cross(lambda: brings(other, notice("D1", theirs)))
    done = await brings(one, notice("D1"), notice("D2"))
    assert one.db.crossed and ((done.accepted, done.duplicate), len(done.refused)) == (becomes, refused)
    assert all(told.reason.startswith("D1 is kept with another amount") for told in done.refused)
    since, until = clock.ms - 3_600_000, clock.ms
    assert [flow.bank_ref for flow in await one.statements.between("dbs", since, until)] == ["D1", "D2"]
