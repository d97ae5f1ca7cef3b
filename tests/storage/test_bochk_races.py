"""S16 of several workers on one database: who comes too late changes nothing, whatever lay between look and write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crossing import Moment, Worker
from sqlalchemy import select

from core.banks.bochk import S16File, entry_from, entry_of
from core.deposits.bochk_s16 import BY_SEQ, CORRECT, DONE, OVERDUE, S16Room
from core.deposits.statements import Flow
from core.storage import Databases, Statement
from core.storage.mysql import MysqlDatabase
from core.storage.primary import bochk_s16_record
from core.trace import Event
from core.wire.bochk_s16 import Record, Report, encode, name_of

ACCOUNT = "01287500000011"
ENTRY = entry_of("TodayActivity", ACCOUNT, "HKD", {
    "seq_no": "0000000007", "txnTime": "20260312081502", "ccy": "HKD", "drCr": "C", "amount": "10.00",
    "balance": "10.00"})
CHAN = Record("BE26C000000000007", ENTRY.credit_time, "HKD", "C", 1_000, 1_000, "CHAN TAI MAN", "01233300000001")
LEE = CHAN._replace(name="LEE SIU MING", remitter="01244400000002")
KEPT = Statement(select(bochk_s16_record.c.reference, bochk_s16_record.c.state, bochk_s16_record.c.name)
                 .order_by(bochk_s16_record.c.id))


class Folder:
    """Implements `S16Files`: the last report, under a stamp of its own."""

    def __init__(self) -> None:
        self._files: list[tuple[S16File, bytes]] = []

    def put(self, *records: Record, at_ms: int) -> None:
        report = Report(ACCOUNT, 20260312, 1, at_ms // 1_000 * 1_000, records)
        self._files.append((S16File(name_of(ACCOUNT, 1), str(len(self._files))), encode(report)))

    async def fetch(self, wanted: Callable[[Sequence[S16File]], Sequence[S16File]]) -> list[tuple[S16File, bytes]]:
        return [(file, content) for file, content in self._files[-1:] if file in wanted([file])]


class S16Worker(Worker):
    def __init__(self, databases: Databases, clock: Moment, events: list[Event]) -> None:
        super().__init__(databases, clock, events)
        self.folder = Folder()
        self.s16 = S16Room(self.folder, self.room, {"HKD": ACCOUNT})

    async def takes(self, *records: Record) -> None:
        self.folder.put(*records, at_ms=self.clock.ms)
        assert await self.s16.pull() == 1

    async def converts(self) -> None:
        await self.statements.keep_raw("bochk", [ENTRY])
        assert await self.statements.convert("bochk", entry_from, "B2E", 10) == 1

    async def correlates(self) -> None:
        await self.s16.statements_until(self.clock.ms)


async def two(databases: Databases) -> tuple[S16Worker, S16Worker]:
    clock, events = Moment(), list[Event]()
    one, other = (S16Worker(databases, clock, events) for _ in range(2))
    for worker in (one, other):
        await worker.s16.begin(clock.ms)
    return one, other


async def standing(worker: S16Worker) -> tuple[Flow, list[Any]]:
    """The entry, and (reference, state, name) of the records."""
    [flow] = await worker.statements.between("bochk", ENTRY.credit_time, ENTRY.credit_time + 1)
    return flow, await worker.db.all(KEPT, {})


async def test_a_correction_that_crosses_a_correlation_leaves_the_entry_its_payer(databases: Databases) -> None:
    one, other = await two(databases)
    await other.takes(CHAN)
    await one.converts()
    one.db.cross(lambda: other.takes(LEE))
    await one.correlates()
    flow, records = await standing(one)
    assert one.db.crossed and (flow.en_name, flow.payer_acct) == (LEE.name, LEE.remitter)
    assert records == [(CHAN.reference, DONE, LEE.name)]


async def test_a_rival_record_that_crosses_a_correlation_is_not_passed_over(databases: Databases) -> None:
    one, other = await two(databases)
    await other.takes(CHAN)
    await one.converts()
    one.db.cross(lambda: other.takes(CHAN, LEE._replace(reference="XX99X000000000007")))
    await one.correlates()
    flow, records = await standing(one)
    assert one.db.crossed and (flow.en_name, flow.payer_acct) == ("", "")
    assert [state for _, state, _ in records] == [OVERDUE, OVERDUE]
    assert len(one.told("S16-02")) == 2


async def test_a_record_that_finds_its_entry_while_it_is_to_be_told_is_not(databases: Databases) -> None:
    one, other = await two(databases)
    await other.takes(CHAN)
    one.clock.ms += 3_601_000

    async def found() -> None:
        await other.converts()
        await other.correlates()

    one.db.cross(found)
    await one.s16.watch()
    flow, records = await standing(one)
    assert one.db.crossed and flow.en_name == CHAN.name
    assert records == [(CHAN.reference, DONE, CHAN.name)] and one.told("S16-02") == []


async def test_two_workers_that_watch_tell_once(databases: Databases) -> None:
    one, other = await two(databases)
    await other.takes(CHAN)
    one.clock.ms += 3_601_000
    one.db.cross(other.s16.watch)
    await one.s16.watch()
    assert one.db.crossed and len(one.told("S16-02")) == 1


async def test_on_the_server_a_correlation_that_crosses_a_correction_is_corrected(databases: Databases) -> None:
    """Between the correction's look at the record and its write, the entry gets the payer that was told first."""
    if not isinstance(databases.primary, MysqlDatabase):
        return  # nobody writes there while a transaction is open
    one, other = await two(databases)
    await other.takes(CHAN)
    await one.converts()
    one.db.cross(other.correlates, before=CORRECT)
    await one.takes(LEE)
    flow, records = await standing(one)
    assert one.db.crossed and (flow.en_name, flow.payer_acct) == (LEE.name, LEE.remitter)
    assert records == [(CHAN.reference, DONE, LEE.name)]
    assert len(one.told("S16-02")) == 1 and "from now on" in one.told("S16-02", "cleared")[0]


async def test_a_record_told_to_two_workers_at_once_is_kept_once(databases: Databases) -> None:
    one, other = await two(databases)
    one.db.cross(lambda: other.takes(CHAN))
    await one.takes(CHAN)
    assert one.db.crossed and [name for _, _, name in await one.db.all(KEPT, {})] == [CHAN.name]


async def test_a_round_asks_for_the_entries_of_what_is_new_only(databases: Databases) -> None:
    """Records that have none wait, and are not asked about again before an entry has come, whoever converted it."""
    one, other = await two(databases)

    async def asked(*records: Record) -> int:
        one.db.asked.clear()
        await one.takes(*records)
        return one.db.asked.count(BY_SEQ["bochk_202603"])

    lost = [CHAN._replace(reference=f"BE26C{number:012d}") for number in range(20, 30)]
    assert await asked(*lost) == 10
    assert await asked(*lost) == 0
    assert await asked(*lost, CHAN) == 1
    assert await asked(CHAN._replace(name=LEE.name)) == 1, "it is told otherwise"
    assert one.told("S16-02") != [] and await asked(*lost) == 0
    await other.converts()
    assert await asked(*lost) == 11
    assert (await standing(one))[0].en_name == LEE.name
    assert await asked(*lost) == 0
