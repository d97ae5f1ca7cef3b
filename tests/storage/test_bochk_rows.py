"""What BOCHK's collection writes and asks, on every kind of database: raw rows, entries, cursors, S16 files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crossing import Moment, Worker

from core.banks.bochk import S16File, entry_from, entry_of
from core.deposits.bochk_s16 import S16Room
from core.deposits.cursors import Cursors
from core.storage import Databases
from core.trace import Event
from core.wire.bochk_s16 import Record, Report, encode, name_of

ACCOUNT = "01287500000011"
RECORD = {"seq_no": "0000000007", "txnTime": "20260312081502", "ccy": "HKD", "drCr": "C", "amount": "10.00",
          "balance": "10.00"}


class Folder:
    """A folder with files that one puts there."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def fetch(self, wanted: Callable[[Sequence[S16File]], Sequence[S16File]]) -> list[tuple[S16File, bytes]]:
        listed = [S16File(name, str(len(content))) for name, content in self.files.items()]
        return [(file, self.files[file.name]) for file in wanted(listed)]


async def test_raw_rows_entries_and_reports(databases: Databases) -> None:
    clock, events = Moment(), list[Event]()
    worker = Worker(databases, clock, events)
    statements, cursors = worker.statements, Cursors(databases.primary, clock, "bochk")

    async def advance(tx: Any) -> None:
        await cursors.write(tx, "TodayActivity", "20260312:7")

    entry = entry_of("TodayActivity", ACCOUNT, "HKD", RECORD)
    assert await cursors.read("TodayActivity") is None
    assert await statements.keep_raw("bochk", [entry], advance) == (1, 0)
    assert await statements.keep_raw("bochk", [entry], advance) == (0, 1)
    assert await cursors.read("TodayActivity") == "20260312:7"
    assert await statements.convert("bochk", entry_from, "B2E", 10) == 1
    assert await statements.convert("bochk", entry_from, "B2E", 10) == 0

    folder = Folder()
    s16 = S16Room(folder, worker.room, {"HKD": ACCOUNT})
    await s16.begin(clock.ms)
    clock.ms += 3 * 3_600_000
    await s16.watch()
    assert [event[3] for event in events if event[2] == "alert"] == ["S16-01", "S16-03"]
    found = Record("BE26C000000000007", entry.credit_time, "HKD", "C", 1_000, 1_000, "CHAN TAI MAN", "0123")
    lost = found._replace(reference="BE26C000000000008")
    report = Report(ACCOUNT, 20260312, 1, clock.ms // 1_000 * 1_000, (found, lost))
    folder.files = {name_of(ACCOUNT, 1): encode(report), name_of(ACCOUNT, 2): b"H|S16\r\nT|0|0.00|0.00\r\n"}
    assert await s16.pull() == 2
    assert await s16.pull() == 0
    (flow,) = await statements.between("bochk", entry.credit_time, entry.credit_time + 1)
    assert (flow.en_name, flow.payer_acct, flow.seq_no) == ("CHAN TAI MAN", "0123", "7")
    clock.ms += 3_601_000
    await s16.statements_until(clock.ms)
    await s16.watch()
    told = [(event[3], event[4]["phase"]) for event in events if event[2] == "alert"]
    assert told[2:] == [("S16-04", "raised"), ("S16-02", "raised"), ("S16-03", "cleared")]
