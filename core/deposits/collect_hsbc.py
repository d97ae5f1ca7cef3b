"""HSBC's statements: files that the bank drops in real time, and the same by fetching (STMT-02 to -06, gaps.md B-20).

    the bank drops a file ─> kept as NEW ─> it rings ─┐
                                                      ├─> opened, read ─> entries, and the file TAKEN
    every 10 minutes: list, fetch what is new ─> NEW ─┘                └> QUARANTINED, with why (HSBC-01)

Rules:

* A file is kept before its arrival is acknowledged, and its entries are written together with what became of it: a
  crash at any point loses none and books none twice. Files left NEW are taken up at the start and at every pull.
* Push and pull bring the same messages. A message is known by account and reference (`Statements`), so it is one entry;
  told with another content (HSBC-02), the first telling stands.
* A file that is not the bank's, or not for us, gives no entry at all. In a genuine file each message stands for itself:
  the good ones are taken, and the file is kept for the sake of the others, those of another time among them.
* Fetched files are known by name and time: a late one, older than others that were fetched, is fetched as well.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.alerts import raise_alert
from core.banks.hsbc import BANK, HsbcLines, Mailbox, Opened, RemoteFile, read_file
from core.clock import MS_PER_S, US_PER_MS
from core.deposits.collection import StatementRoom
from core.deposits.statement_dates import StatementDates
from core.deposits.statements import Taken
from core.errors import OutcomeUnknown
from core.statement import Entry
from core.storage import Sharded, Statement, Transaction
from core.storage.primary import bank_flows, hsbc_file
from core.storage.standing import StandingAlerts
from core.wire.openpgp import Unopened

PULL: Final = "HsbcSftpPull"
PUSH, SFTP = "push", "sftp"
NEW, TAKEN, QUARANTINED = "NEW", "TAKEN", "QUARANTINED"
REASON_KEPT: Final = 500

_COLUMNS = ("source", "name", "version", "state", "accepted", "duplicate", "refused", "reason", "contents",
            "created_at", "updated_at")
NEW_FILE = Statement(insert(hsbc_file).values({name: bindparam(name) for name in _COLUMNS}))
KNOWN = Statement(select(hsbc_file.c.id).where(
    hsbc_file.c.source == bindparam("source"), hsbc_file.c.name == bindparam("name"),
    hsbc_file.c.version == bindparam("version")))
BY_NAME = Statement(select(hsbc_file.c.id).where(
    hsbc_file.c.source == bindparam("source"), hsbc_file.c.name == bindparam("name")))
WAITING = Statement(select(hsbc_file.c.id, hsbc_file.c.source, hsbc_file.c.name, hsbc_file.c.contents).where(
    hsbc_file.c.state == NEW).order_by(hsbc_file.c.id))
DONE = Statement(update(hsbc_file).where(hsbc_file.c.id == bindparam("b_id"), hsbc_file.c.state == NEW).values(
    {name: bindparam(name) for name in ("state", "accepted", "duplicate", "refused", "reason", "contents",
                                        "updated_at")}))
KEPT = Sharded(lambda t: select(t.c.ccy, t.c.amount).where(
    t.c.our_account == bindparam("account"), t.c.bank_ref == bindparam("ref")), bank_flows)


class HsbcFile(NamedTuple):
    """A file that waits to be taken."""

    id: int
    source: str
    name: str
    contents: str


class _Told(NamedTuple):
    """The entries of a file beside what is kept: ``fresh`` are new, ``contradicting`` are known otherwise."""

    fresh: tuple[Entry, ...]
    contradicting: tuple[Entry, ...]


class HsbcCollector:
    """Implements `core.deposits.collection.Collector`."""

    bank = BANK

    def __init__(self, lines: HsbcLines, room: StatementRoom) -> None:
        settings = room.settings
        self._lines, self._db, self._clock, self._trace = lines, room.db, room.clock, room.trace
        self._statements, self._calendars = room.statements, room.calendars
        self._standing = StandingAlerts(room.db, room.clock, room.trace)
        self._accounts = {number: ccy for ccy, number in settings["receiving.hsbc.accounts"].items()}
        self._limit: int = settings["hsbc.file.limit"]
        self._files_at_most: int = settings["hsbc.sftp.files_at_most"]
        self._alarm_after: int = settings["hsbc.sftp.alarm_after"]
        self._late_ms = round(settings["hsbc.late_after_s"] * MS_PER_S)
        self._folder: str = settings["hsbc.sftp.folder"]
        self._dates = StatementDates(settings)
        self._taking = asyncio.Lock()
        self._failed = 0
        self._spawn: Callable[[Coroutine[Any, Any, Any]], object] | None = None
        self._close: Callable[[], Awaitable[None]] | None = None

    @property
    def scheduled(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        return {PULL: self.pull}

    @property
    def handlers(self) -> Mapping[str, Any]:
        return {}

    async def start(self, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        """Take what was dropped and not taken, then let the bank drop."""
        self._spawn = spawn
        await self.take_waiting()
        if self._lines.listen is not None:
            self._close = await self._lines.listen(self.keep_dropped, self.rung)

    async def stop(self) -> None:
        if self._close is not None:
            await self._close()
            self._close = None

    # Push

    async def keep_dropped(self, name: str, content: bytes) -> None:
        """The bank has dropped a whole file: it is kept when this returns."""
        await self._keep(PUSH, name, self._clock.now_us(), content)
        self._trace.emit("bank.push", name, {"bank": BANK, "message": "mt910", "ref": name, "push_seq": 0, "code": 0})

    async def rung(self, name: str) -> bool:
        """The bank says that it has dropped a file; False if it has not."""
        if await self._db.first(BY_NAME, {"source": PUSH, "name": name}) is None:
            return False
        assert self._spawn is not None
        self._spawn(self.take_waiting())
        return True

    # Pull

    async def pull(self) -> str:
        """Fetch what is new at the bank, and take all that waits; what was done, in words. Nothing is asked of the bank
        during its own maintenance (gaps.md B-17)."""
        if self._calendars.maintenance(BANK, self._clock.now_ms()).under_way:
            taken = await self.take_waiting()
            return f"maintenance of the bank, {taken} taken" if taken else ""
        self._tell("bank.request", "", 0, 0)
        began_us = self._clock.now_us()
        try:
            fetched = await self._fetch()
        except OutcomeUnknown as silence:
            self._tell("bank.reply", "UNKNOWN", 0, self._clock.now_us() - began_us)
            await self.take_waiting()
            await self._missed(silence)
            raise
        self._tell("bank.reply", "ACCEPTED", fetched, self._clock.now_us() - began_us)
        self._failed = 0
        await self._standing.cleared("HSBC-03", BANK, "files are fetched again")
        taken = await self.take_waiting()
        return f"{fetched} files fetched, {taken} taken" if fetched or taken else ""

    async def _fetch(self) -> int:
        count = 0
        async with self._lines.connect() as mailbox:
            for file in await mailbox.files():
                if count == self._files_at_most:
                    break
                count += await self._fetch_one(mailbox, file)
        return count

    async def _fetch_one(self, mailbox: Mailbox, file: RemoteFile) -> bool:
        known = {"source": SFTP, "name": file.name, "version": file.modified_s}
        if await self._db.first(KNOWN, known) is not None:
            return False
        await self._keep(SFTP, file.name, file.modified_s, await mailbox.read(file, self._limit))
        return True

    async def _missed(self, silence: OutcomeUnknown) -> None:
        self._failed += 1
        if self._failed >= self._alarm_after:
            await self._standing.raised("HSBC-03", BANK, f"{self._failed} times in a row: {silence}")

    def _tell(self, kind: str, outcome: str, code: int, us: int) -> None:
        self._trace.emit(kind, BANK, {
            "bank": BANK, "message": "mt910_pull", "ref": self._folder, "request_id": "", "attempt": 1,
            "outcome": outcome, "code": code, "ms": us // US_PER_MS})

    # Taking

    async def _keep(self, source: str, name: str, version: int, content: bytes) -> None:
        now = self._clock.now_ms()
        await self._db.execute(NEW_FILE, {
            "source": source, "name": name, "version": version, "state": NEW, "accepted": 0, "duplicate": 0,
            "refused": 0, "reason": "", "contents": base64.b64encode(content[: self._limit + 1]).decode(),
            "created_at": now, "updated_at": now})

    async def take_waiting(self) -> int:
        """Take every file that is NEW, in the order of arrival; gives their number."""
        async with self._taking:
            files = [HsbcFile(*row) for row in await self._db.all(WAITING, {})]
            for file in files:
                await self._take(file)
        return len(files)

    async def _take(self, file: HsbcFile) -> None:
        content = base64.b64decode(file.contents)
        if len(content) > self._limit:
            await self._quarantine(file, f"larger than {self._limit} bytes")
            return
        try:
            opened = read_file(content, self._lines.envelope, self._accounts, self._wrong)
        except Unopened as fault:
            await self._quarantine(file, str(fault))
            return
        told = await self._compared(opened.entries)
        taken = await self._statements.take(
            BANK, opened.entries, file.source, lambda tx: self._done(tx, file, opened, told))
        self._alert(file, opened, told, taken)

    def _wrong(self, entry: Entry) -> str:
        return self._dates.wrong(entry.credit_time, self._clock.now_ms())

    async def _compared(self, entries: Sequence[Entry]) -> _Told:
        """Each entry beside what is kept under its account and reference, or stands before it in the file."""
        fresh: dict[tuple[str, str], Entry] = {}
        contradicting: list[Entry] = []
        for entry in entries:
            key = (entry.our_account, entry.bank_ref)
            row = await self._db.first(KEPT[BANK], {"account": entry.our_account, "ref": entry.bank_ref})
            if row is None and key in fresh:
                row = (fresh[key].ccy, fresh[key].amount)
            if row is None:
                fresh[key] = entry
            elif tuple(row) != (entry.ccy, entry.amount):
                contradicting.append(entry)
        return _Told(tuple(fresh.values()), tuple(contradicting))

    async def _done(self, tx: Transaction, file: HsbcFile, opened: Opened, told: _Told) -> None:
        """What became of a genuine file; its bytes are not needed any more if all of it was taken."""
        reason = "; ".join(opened.refused)
        await tx.execute(DONE, {
            "b_id": file.id, "state": QUARANTINED if reason else TAKEN, "accepted": len(told.fresh),
            "duplicate": len(opened.entries) - len(told.fresh), "refused": len(opened.refused),
            "reason": reason[:REASON_KEPT], "contents": file.contents if reason else "",
            "updated_at": self._clock.now_ms()})

    async def _quarantine(self, file: HsbcFile, why: str) -> None:
        """Keep the file with the reason, take nothing of it, and tell people."""
        await self._db.execute(DONE, {
            "b_id": file.id, "state": QUARANTINED, "accepted": 0, "duplicate": 0, "refused": 0,
            "reason": why[:REASON_KEPT], "contents": file.contents, "updated_at": self._clock.now_ms()})
        raise_alert(self._trace, "HSBC-01", file.name, f"by {file.source}: {why}")

    def _alert(self, file: HsbcFile, opened: Opened, told: _Told, taken: Taken) -> None:
        if opened.refused:
            raise_alert(self._trace, "HSBC-01", file.name,
                        f"by {file.source}: {len(opened.refused)} of {len(opened.refused) + len(opened.entries)} "
                        f"messages refused, {taken.accepted} taken: {'; '.join(opened.refused)}"[:REASON_KEPT])
        for entry in told.contradicting:
            raise_alert(self._trace, "HSBC-02", entry.bank_ref,
                        f"{file.name} says {entry.ccy} {entry.amount} for a reference that is kept otherwise")
        late = self._late(told.fresh, opened.booked)
        if late:
            raise_alert(self._trace, "HSBC-04", file.name, f"{len(late)} of {len(opened.entries)}: {', '.join(late)}"
                        [:REASON_KEPT])

    def _late(self, entries: Iterable[Entry], booked: Mapping[str, int]) -> list[str]:
        """References of entries that the bank had booked long before we heard of them."""
        since = self._clock.now_ms() - self._late_ms
        return [entry.bank_ref for entry in entries if entry.bank_ref in booked and entry.credit_time < since]
