"""EWB's files brought twice at once: an original and its correction are one entry, as when they come one by one."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from crossing import Moment, Worker

from core.deposits.ewb import EwbCollector, EwbLines, Uploaded
from core.deposits.importing import BY
from core.deposits.statements import Flow
from core.storage import Databases
from core.trace import Event
from core.wire import bai2
from core.wire.ewb_csv import Row, encode
from scenarios.schema import full_moment_ms

ACCOUNT, DAY = "8600000001", date(2026, 3, 12)
SINCE, UNTIL = full_moment_ms("2026-03-12 00:00"), full_moment_ms("2026-03-13 00:00")


def csv_of(*rows: tuple[str, int, int]) -> bytes:
    """(reference, amount, balance) of credits."""
    return encode([Row(ACCOUNT, DAY, reference, "WIRE", "C", amount, balance) for reference, amount, balance in rows])


def bai2_of(reference: str, amount: int, name: str) -> bytes:
    group = bai2.Group(DAY, (bai2.Account(ACCOUNT, "USD", (bai2.Detail("195", amount, reference, "", name),)),))
    return bai2.encode(bai2.File("EWB", "NOSTRO", DAY, "1", (group,)))


class EwbWorker(Worker):
    def __init__(self, databases: Databases, clock: Moment, events: list[Event]) -> None:
        super().__init__(databases, clock, events)
        self.collector = EwbCollector(EwbLines(), self.room)

    async def uploads(self, content: bytes) -> Uploaded:
        done = await self.collector.upload(content, "file", BY)
        assert isinstance(done, Uploaded)
        return done

    async def flows(self) -> list[Flow]:
        return await self.statements.between("ewb", SINCE, UNTIL)


async def two(databases: Databases) -> tuple[EwbWorker, EwbWorker]:
    clock, events = Moment(), list[Event]()
    one, other = (EwbWorker(databases, clock, events) for _ in range(2))
    assert (await one.uploads(csv_of(("F0", 5, 5)))).accepted == 1
    return one, other


@pytest.mark.req("STMT-EWB-01")
@pytest.mark.parametrize("corrected", [("F1", 100, 200), ("F1", 110, 110), ("F1", 110, 100)])
async def test_a_correction_that_crosses_its_original_is_no_second_payment(
    databases: Databases, corrected: tuple[str, int, int]
) -> None:
    one, other = await two(databases)
    one.db.cross(lambda: other.uploads(csv_of(("F1", 100, 100))))
    done = await one.uploads(csv_of(corrected, ("F2", 50, 350)))
    assert one.db.crossed and (done.accepted, done.duplicate, [told.line for told in done.refused]) == (1, 0, [2])
    assert done.refused[0].reason.startswith("F1 of that day is kept as 1.00 USD")
    assert [(flow.seq_no, flow.amount) for flow in await one.flows()] == [("F0", 5), ("F1", 100), ("F2", 50)]


@pytest.mark.req("STMT-EWB-01")
async def test_a_file_that_crosses_itself_is_taken_once(databases: Databases) -> None:
    one, other = await two(databases)
    content = csv_of(("F1", 100, 100), ("F2", 200, 300))
    one.db.cross(lambda: other.uploads(content))
    assert await one.uploads(content) == Uploaded("csv", 0, 2, ())
    assert one.db.crossed and len(await one.flows()) == 3


async def test_the_very_first_two_files_cross_as_well(databases: Databases) -> None:
    clock, events = Moment(), list[Event]()
    one, other = (EwbWorker(databases, clock, events) for _ in range(2))
    one.db.cross(lambda: other.uploads(csv_of(("F1", 100, 100))))
    done = await one.uploads(csv_of(("F1", 110, 110)))
    assert one.db.crossed and (done.accepted, len(done.refused)) == (0, 1)
    assert [flow.amount for flow in await one.flows()] == [100]


async def test_originals_and_corrections_at_the_same_time_are_one_entry_each(databases: Databases) -> None:
    one, other = await two(databases)
    for number in range(10):
        done = await asyncio.gather(one.uploads(csv_of((f"R{number}", 100, 100))),
                                    other.uploads(csv_of((f"R{number}", 110, 110))))
        assert sorted((each.accepted, len(each.refused)) for each in done) == [(0, 1), (1, 0)]
    assert len(await one.flows()) == 11


@pytest.mark.req("STMT-EWB-02")
async def test_of_two_names_at_once_the_first_stays(databases: Databases) -> None:
    one, other = await two(databases)
    one.db.cross(lambda: other.uploads(bai2_of("F0", 5, "CHAN A")))
    done = await one.uploads(bai2_of("F0", 5, "WONG B"))
    assert one.db.crossed and (done.accepted, len(done.refused)) == (0, 1)
    assert done.refused[0].reason.endswith("the entry is CHAN A's already")
    assert [flow.en_name for flow in await one.flows()] == ["CHAN A"]
