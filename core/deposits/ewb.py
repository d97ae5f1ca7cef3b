"""East West Bank: files that people upload (gaps.md B-26; STMT-EWB-01 to -03).

    CSV  ─> entries without a name, each once
    BAI2 ─> the payer's name of an entry that is there, found by reference and amount; never an entry

Rules:

* An entry is known by account, post date, reference, amount and running balance: together they are its reference
  here, so the same file adds nothing, and two equal wires of one day stay two.
* Another balance or amount under an account, date, reference and side that is kept is a correction, not one more
  payment: it is told as refused, and the entry stays, so that its name still finds it. One more payment under them is
  what comes in a file that shows all those kept again, each as it was.
* Uploads meet in the database, whoever makes them (two imports, two cores): what is kept is counted, and a CSV is taken
  only if nothing was taken since it was compared; else it is compared again.
* A CSV row stands for itself: the others are taken. A BAI2 file is taken whole or not at all: its totals decide.
* A name that is there is never replaced; another one for the same entry is told as refused.
* Frontline uploads; a supervisor may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.clock import MS_PER_DAY, hkt_midnight_ms
from core.deposits.collection import StatementRoom
from core.deposits.crossing import IN_THE_WAY, Crossed, uncrossed
from core.deposits.cursors import Cursors
from core.deposits.statement_dates import StatementDates
from core.deposits.statements import FIND, Flow, Taken, month_of, months_between
from core.domain import Role
from core.errors import Code, Refusal
from core.money import Currency, show
from core.orchestration.records import Actor
from core.statement import Entry
from core.storage import Sharded, Statement, Transaction, bank_month, ensure_flow_table
from core.storage.primary import collect_cursor, statement_flows
from core.wire import bai2, ewb_csv
from core.wire.bai2 import INCOMING_WIRE, Bai2Error, Detail
from core.wire.ewb_csv import BadRow, CsvError, Row

BANK: Final = "ewb"
MAY: Final = (Role.FRONTLINE, Role.SUPERVISOR)
REFERENCE_CHARS: Final = 64
CSV, BAI2 = "csv", "bai2"
_UPLOADS: Final = "uploads"
"""Cursor: how many CSV files were taken."""

BY_WIRE = Sharded(lambda t: select(*(t.c[name] for name in Flow._fields)).where(
    t.c.our_account == bindparam("account"), t.c.seq_no == bindparam("reference"),
    t.c.amount == bindparam("amount"), t.c.ccy == bindparam("ccy"), t.c.dr_cr == "C",
    t.c.credit_time >= bindparam("since"), t.c.credit_time < bindparam("until")).order_by(t.c.id), statement_flows)

_C = collect_cursor.c
BEGIN = Statement(insert(collect_cursor))
COUNT = Statement(update(collect_cursor).where(
    _C.bank == BANK, _C.name == _UPLOADS, _C.value == bindparam("b_seen")).values(
    value=bindparam("value"), updated_at=bindparam("updated_at")))
NAME = Sharded(lambda t: update(t).where(t.c.id == bindparam("b_id"), t.c.en_name == "").values(
    en_name=bindparam("en_name"), updated_at=bindparam("updated_at")), statement_flows)

Upload = Callable[[bytes, str, Actor], Awaitable["Uploaded | Refusal"]]
"""Contents and name of a file, and who brings it."""


class RefusedRecord(NamedTuple):
    """A record that was not taken: its line and why; or, for ``whole``, the file, and where it was given up (0: nowhere
    in particular)."""

    line: int
    reason: str
    whole: bool = False


class Uploaded(NamedTuple):
    """What became of a file: of a CSV its rows, of a BAI2 its incoming wires."""

    kind: str
    accepted: int
    duplicate: int
    refused: tuple[RefusedRecord, ...]


_Wire = tuple[str, int, str, str]


def _wire(one: Entry | Flow) -> _Wire:
    """What the bank calls a movement by: account, day, reference, side."""
    return one.our_account, one.credit_time, one.seq_no, one.dr_cr


class EwbLines(NamedTuple):
    """How the files come: ``listen`` is given where to bring them, and gives what ends it. None: by people only."""

    listen: Callable[[Upload], Callable[[], None]] | None = None


class EwbCollector:
    """Implements `core.deposits.collection.Collector`; nothing is pulled."""

    bank = BANK

    def __init__(self, lines: EwbLines, room: StatementRoom) -> None:
        self._lines, self._room = lines, room
        self._accounts = {number: ccy for ccy, number in room.settings["receiving.ewb.accounts"].items()}
        self._dates = StatementDates(room.settings)
        self._days: tuple[int, int] = tuple(room.settings["ewb.supplement_days"])
        self._cursors = Cursors(room.db, room.clock, BANK)
        self._one_by_one = asyncio.Lock()  # uploads of one core need not cross
        self._close: Callable[[], None] | None = None

    @property
    def scheduled(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        return {}

    @property
    def handlers(self) -> Mapping[str, Any]:
        return {}

    async def start(self, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:  # noqa: ARG002 - nothing runs
        if self._lines.listen is not None:
            self._close = self._lines.listen(self.upload)

    async def stop(self) -> None:
        if self._close is not None:
            self._close()
            self._close = None

    # Uploading

    async def upload(self, content: bytes, name: str, by: Actor) -> Uploaded | Refusal:
        """Take a file of either kind: a BAI2 begins with its record 01."""
        if by.role not in MAY:
            return Refusal(Code.FORBIDDEN, f"{by.role} may not upload statements: {' or '.join(MAY)}")
        is_bai2 = content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"01,")
        done = await (self._bai2(content) if is_bai2 else self._csv(content))
        self._room.trace.emit("staff", by.id, {
            "operator": by.id, "role": by.role, "action": "UploadStatements", "subject": name,
            "result": f"{done.kind}: {done.accepted} accepted, {done.duplicate} duplicate, "
                      f"{len(done.refused)} refused"})
        return done

    async def _csv(self, content: bytes) -> Uploaded:
        try:
            rows = ewb_csv.decode(content)
        except CsvError as wrong:
            return Uploaded(CSV, 0, 0, (RefusedRecord(wrong.line, wrong.reason, whole=True),))
        read: list[tuple[int, Entry]] = []
        refused: list[RefusedRecord] = []
        for row in rows:
            told = RefusedRecord(row.line, row.reason) if isinstance(row, BadRow) else self._entry(row)
            if isinstance(told, Entry):
                read.append((row.line, told))
            else:
                refused.append(told)
        async with self._one_by_one:
            try:
                taken, corrections = await uncrossed(lambda: self._take(read))
            except IN_THE_WAY:
                other = RefusedRecord(0, "other files are being taken: upload it again", whole=True)
                return Uploaded(CSV, 0, 0, (other,))
        return Uploaded(CSV, taken.accepted, taken.duplicate, tuple(sorted([*refused, *corrections])))

    async def _take(self, read: Sequence[tuple[int, Entry]]) -> tuple[Taken, Sequence[RefusedRecord]]:
        """Take what corrects nothing; `Crossed` if what is kept is not what it was compared with any more."""
        seen = await self._uploads()
        corrections = await self._corrections(read)
        entries = [entry for line, entry in read if line not in corrections]
        return (await self._room.statements.take(BANK, entries, CSV, partial(self._count, seen)),
                [*corrections.values()])

    async def _uploads(self) -> str:
        """How many were taken, as the cursor has it; it begins at the first."""
        seen = await self._cursors.read(_UPLOADS)
        if seen is None:
            seen = "0"
            await self._room.db.execute(BEGIN, {
                "bank": BANK, "name": _UPLOADS, "value": seen, "updated_at": self._room.clock.now_ms()})
        return seen

    async def _count(self, seen: str, tx: Transaction) -> None:
        if not await tx.execute(COUNT, {
                "b_seen": seen, "value": str(int(seen) + 1), "updated_at": self._room.clock.now_ms()}):
            raise Crossed

    async def _corrections(self, read: Sequence[tuple[int, Entry]]) -> dict[int, RefusedRecord]:
        """Rows that tell otherwise what is kept, by line."""
        kept: dict[_Wire, dict[str, Flow]] = {}
        for at in dict.fromkeys(entry.credit_time for _, entry in read):
            for flow in await self._room.statements.between(BANK, at, at + 1):
                kept.setdefault(_wire(flow), {})[flow.bank_ref] = flow
        told: dict[_Wire, dict[str, None]] = {}
        for _, entry in read:
            told.setdefault(_wire(entry), {})[entry.bank_ref] = None
        found: dict[int, RefusedRecord] = {}
        for line, entry in read:
            known = kept.get(_wire(entry), {})
            missing = [flow for ref, flow in known.items() if ref not in told[_wire(entry)]]
            if missing and entry.bank_ref not in known:
                found[line] = RefusedRecord(line, (
                    f"{entry.seq_no} of that day is kept as {show(missing[0].amount, entry.ccy)} with a balance of "
                    f"{show(missing[0].balance or 0, entry.ccy)}: ask the bank which holds; a second payment comes in "
                    "a file that shows both"))
        return found

    def _entry(self, row: Row) -> Entry | RefusedRecord:
        ccy = self._accounts.get(row.account)
        if ccy is None:
            return RefusedRecord(row.line, f"{row.account} is no account of ours at {BANK}")
        reference = f"{row.posted:%Y%m%d}-{row.reference}-{row.dr_cr}{row.amount}-{row.balance}"
        if len(reference) > REFERENCE_CHARS:
            return RefusedRecord(row.line, f"{reference} is longer than {REFERENCE_CHARS} characters")
        if why := self._dates.wrong(hkt_midnight_ms(row.posted), self._room.clock.now_ms()):
            return RefusedRecord(row.line, why)
        return Entry(BANK, row.account, reference, ccy, row.amount, row.dr_cr, hkt_midnight_ms(row.posted),
                     row.reference, row.balance, "", "", row.description, ewb_csv.encode([row]).decode())

    # Names

    async def _bai2(self, content: bytes) -> Uploaded:
        try:
            file = bai2.decode(content)
        except Bai2Error as wrong:
            return Uploaded(BAI2, 0, 0, (RefusedRecord(wrong.line, wrong.reason, whole=True),))
        accepted = duplicate = 0
        refused: list[RefusedRecord] = []
        for group in file.groups:
            why = self._dates.wrong(hkt_midnight_ms(group.as_of), self._room.clock.now_ms())
            if why:
                refused += [RefusedRecord(detail.line, why) for account in group.accounts for detail in account.details]
                continue
            since, until = (hkt_midnight_ms(group.as_of + timedelta(days=days)) for days in self._days)
            for account in group.accounts:
                for detail in account.details:
                    if detail.type_code != INCOMING_WIRE:
                        continue
                    amiss = await self._supplement(account.number, account.ccy, detail, since, until + MS_PER_DAY)
                    accepted += amiss is None
                    duplicate += amiss == ""
                    refused += [RefusedRecord(detail.line, amiss)] if amiss else []
        return Uploaded(BAI2, accepted, duplicate, tuple(refused))

    async def _supplement(self, account: str, ccy: str, detail: Detail, since: int, until: int) -> str | None:
        """Give an entry its payer's name; None if it has it from now on, "" if it had it, else why not."""
        if detail.wrong:
            return detail.wrong
        if not detail.name:
            return "no ORIG: the payer is not named"
        told = f"{detail.bank_ref or detail.customer_ref}, {show(detail.amount, ccy)}"
        found = await self._entries(account, ccy, detail, since, until)
        if not found:
            return f"{told}: no entry has this reference and amount; upload the CSV first"
        if len(found) > 1:
            return f"{told}: {len(found)} entries have this reference and amount"
        [flow] = found
        given, name = await self._name(flow, detail.name)
        return None if given else "" if name == detail.name else f"{told}: the entry is {name}'s already"

    async def _name(self, flow: Flow, name: str) -> tuple[bool, str]:
        """Name an entry that has no name; whether that was so, and the name that it has now."""
        if flow.en_name:
            return False, flow.en_name
        shard = bank_month(BANK, month_of(flow.id))
        async with self._room.db.transaction() as tx:
            given = await tx.execute(NAME[shard], {
                "b_id": flow.id, "en_name": name[:140], "updated_at": self._room.clock.now_ms()})
            row = await tx.first(FIND[shard], {"b_id": flow.id})
            assert row is not None, flow
            now = Flow(*row)
            if given:
                self._room.statements.publish(tx, now, BAI2)
        return bool(given), now.en_name

    async def _entries(self, account: str, ccy: str, detail: Detail, since: int, until: int) -> Sequence[Flow]:
        if ccy not in Currency.__members__:
            return []
        found: dict[int, Flow] = {}
        for reference in dict.fromkeys(filter(None, (detail.bank_ref, detail.customer_ref))):
            for month in months_between(since, until):
                rows = await self._room.db.all(BY_WIRE[await ensure_flow_table(self._room.db, BANK, month)], {
                    "account": account, "reference": reference, "amount": detail.amount, "ccy": ccy,
                    "since": since, "until": until})
                found |= {row[0]: Flow(*row) for row in rows}
        return list(found.values())
