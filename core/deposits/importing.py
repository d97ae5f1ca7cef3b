"""Statement files that somebody hands over: made by foreign tools, by a bank's portal, or by hand.

| Bank | Files |
|---|---|
| hsbc | MT910 in plain text |
| bochk | S16 reports: they name and supplement statements, and are no statements themselves |
| ewb | CSV, which brings entries, and BAI2, which names them |
| hase, ccba, dbs, za, spd, cgb, scb, citi | JSON lines, as a notification mailbox writes them |

What a file brings is kept as if its bank's collector had brought it: known entries are duplicates, however they came
before. What cannot be taken is told with its line and why, and whether that is one message, one record or the whole
file. ICBC's rows belong to one of its two lines, so nobody can hand them over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import bindparam, func, select

from core.banks.bochk import S16File
from core.banks.fps import CREDIT_BANKS
from core.banks.hsbc.entries import entry_of
from core.banks.notices import MAILBOX_BANKS, NoticeReader
from core.deposits.bochk_s16 import REFUSED, S16Room
from core.deposits.collection import StatementRoom
from core.deposits.crossing import uncrossed
from core.deposits.ewb import BAI2, EwbCollector, EwbLines
from core.deposits.statement_dates import StatementDates
from core.domain import Role
from core.errors import Misconfigured, Refusal
from core.orchestration.records import Actor
from core.statement import Entry
from core.storage import Sharded, Statement
from core.storage.primary import bank_flows, bochk_s16_record
from core.wire import mt910, notices
from core.wire.bochk_s16 import S16Error, decode, lined, name_of, parse_name, seq_of
from core.wire.packed import packed

SOURCE: Final = "import"
BY: Final = Actor("import", Role.FRONTLINE)
MESSAGE, RECORD, FILE = "message", "record", "file"
BOM: Final = b"\xef\xbb\xbf"
EMPTY: Final = "the file is empty: fetch it again"
"""Of each format, for a download that has failed looks so: a day without movements has a header, or no file."""
_AT_LINE = re.compile(r"line (\d+)(?:, |: | )(.*)", re.DOTALL)

KEPT = Sharded(lambda t: select(t.c.ccy, t.c.amount).where(
    t.c.our_account == bindparam("account"), t.c.bank_ref == bindparam("ref")), bank_flows)
S16_KEPT = Statement(select(func.count()).select_from(bochk_s16_record).where(bochk_s16_record.c.state != REFUSED))


class Told(NamedTuple):
    """What was refused: its line in the file (0: nowhere in particular), why, and what it is: a `MESSAGE`, a `RECORD`,
    or the whole `FILE`."""

    line: int
    reason: str
    kind: str = RECORD


class Brings(StrEnum):
    """What the accepted records of a format are: entries, payers' names of entries that are there (BAI2), or what
    supplements statements, now or once they come (S16)."""

    ENTRIES = "entries"
    NAMES = "named"
    SUPPLEMENTS = "supplements"


class Imported(NamedTuple):
    """What became of one file; ``brings``: what its accepted records are."""

    format: str
    accepted: int
    duplicate: int
    refused: tuple[Told, ...]
    brings: Brings = Brings.ENTRIES


Take = Callable[[str, StatementRoom, str, bytes], Awaitable[Imported]]
"""(bank, room, file name, contents) -> what became of it."""


async def import_file(bank: str, room: StatementRoom, name: str, content: bytes) -> Imported:
    """Take one file of a bank; `Misconfigured` for a bank whose statements do not come in files."""
    take = _format_of(bank)
    why = EMPTY if not content.removeprefix(BOM).strip() else packed(content)
    return refused_whole("file", why) if why else await take(bank, room, name, content)


def refused_whole(kind: str, why: str, line: int = 0) -> Imported:
    """Nothing was taken of a file of a kind."""
    return Imported(kind, 0, 0, (Told(line, why, FILE),))


def _format_of(bank: str) -> Take:
    if bank not in FORMATS:
        raise Misconfigured(f"no statements of {bank!r} come in files", where="import",
                            remedy=f"one of {', '.join(FORMATS)}")
    return FORMATS[bank]


def check_bank(bank: str) -> None:
    """`Misconfigured` for a bank whose statements do not come in files."""
    _format_of(bank)


# --- entries ------------------------------------------------------------------------------------------------------


async def _keep(
    bank: str, room: StatementRoom, kind: str, one: str, read: Sequence[tuple[int, Entry | str]]
) -> Imported:
    """Keep what was read, line by line; what is kept otherwise by then is refused, whoever brought it."""
    entries = [(line, told) for line, told in read if not isinstance(told, str)]
    taken = await uncrossed(lambda: room.statements.take(bank, [entry for _, entry in entries], SOURCE))
    refused = [Told(line, told, one) for line, told in read if isinstance(told, str)]
    others = list[Told]()
    for line, entry in entries:
        row = await room.db.first(KEPT[bank], {"account": entry.our_account, "ref": entry.bank_ref})
        if row != (entry.ccy, entry.amount):
            others.append(Told(line, f"{entry.bank_ref} is kept with another amount or currency", one))
    return Imported(kind, taken.accepted, taken.duplicate - len(others), tuple(sorted([*refused, *others])))


async def _mt910(bank: str, room: StatementRoom, name: str, content: bytes) -> Imported:  # noqa: ARG001 - `Take`
    accounts = {number: ccy for ccy, number in room.settings["receiving.hsbc.accounts"].items()}
    read: list[tuple[int, Entry | str]] = []
    for message in mt910.read(content):
        if isinstance(message, mt910.FinError):
            read.append((message.line, _after_line(str(message))))
        else:
            told = entry_of(message, accounts, _wrong_by(room))
            read.append((message.line, _after_line(told) if isinstance(told, str) else told))
    return await _keep(bank, room, "MT910", MESSAGE, read)


def _wrong_by(room: StatementRoom) -> Callable[[Entry], str]:
    """Why an entry cannot be of its date."""
    dates, now_ms = StatementDates(room.settings), room.clock.now_ms()
    return lambda entry: dates.wrong(entry.credit_time, now_ms)


def _after_line(reason: str) -> str:
    """The reason without the line in front of it."""
    found = _AT_LINE.fullmatch(reason)
    return found[2] if found else reason


async def _json_lines(bank: str, room: StatementRoom, name: str, content: bytes) -> Imported:  # noqa: ARG001 - `Take`
    reader, wrong = NoticeReader(bank, room.settings), _wrong_by(room)
    read: list[tuple[int, Entry | str]] = []
    for line, found in notices.lines(content):
        told = found.reason if isinstance(found, notices.BadLine) else reader(found)
        read.append((line, told if isinstance(told, str) else wrong(told) or told))
    return await _keep(bank, room, "JSON lines", RECORD, read)


# --- files with rules of their own --------------------------------------------------------------------------------


async def _ewb(bank: str, room: StatementRoom, name: str, content: bytes) -> Imported:  # noqa: ARG001 - `Take`
    done = await EwbCollector(EwbLines(), room).upload(content, name, BY)
    if isinstance(done, Refusal):
        return refused_whole("CSV", done.detail)
    return Imported(done.kind.upper(), done.accepted, done.duplicate, tuple(
        Told(one.line, one.reason, FILE if one.whole else RECORD) for one in done.refused),
        Brings.NAMES if done.kind == BAI2 else Brings.ENTRIES)


class _Given:
    """Implements `core.banks.bochk.S16Files`: one file that is at hand."""

    def __init__(self, file: S16File, content: bytes) -> None:
        self._file, self._content = file, content

    async def fetch(self, wanted: Callable[[Sequence[S16File]], Sequence[S16File]]) -> list[tuple[S16File, bytes]]:
        return [(file, self._content) for file in wanted([self._file])]


async def _s16(bank: str, room: StatementRoom, name: str, content: bytes) -> Imported:  # noqa: ARG001 - `Take`
    """A report is known by its contents: its name comes again every day. Where the name is one of the bank's, the
    header must be that of the name, as when we fetch it."""
    kind, named = "S16", parse_name(name.upper())
    if named is not None and named.report != "S16" and not room.settings["bochk.s16.s14_rollback"]:
        return refused_whole(kind, "an S14 report: S16 is what we take")
    try:
        report = decode(content, "S16" if named is None else named.report)
    except S16Error as wrong:
        return refused_whole(kind, wrong.reason, wrong.line)
    if named is not None and (report.account, report.period) != (named.account, named.period):
        return refused_whole(kind, f"the header is that of {report.account}, period {report.period}: name the file as "
                                   "the bank did, or ask for it again", 1)
    accounts: Mapping[str, str] = room.settings["receiving.bochk.accounts"]
    if report.account not in accounts.values():
        return refused_whole(kind, f"{report.account} is no account of ours at bochk", 1)
    stamp = hashlib.sha256(content).hexdigest()[:40]
    before = await _kept(room)
    given = S16File(name_of(report.account, report.period) if named is None else name.upper(), stamp)
    s16 = S16Room(_Given(given, content), room, dict(accounts))
    await s16.begin(0)
    await s16.pull()
    accepted, report = await _kept(room) - before, s16.of_our_time(report)
    refused = [Told(one.line, one.reason) for one in report.refused]
    refused += [Told(line, f"{record.reference} names no seq_no")
                for line, record in lined(report) if seq_of(record.reference) is None]
    duplicate = len(report.records) + len(report.refused) - len(refused) - accepted
    return Imported(kind, accepted, duplicate, tuple(sorted(refused)), Brings.SUPPLEMENTS)


async def _kept(room: StatementRoom) -> int:
    row = await room.db.first(S16_KEPT, {})
    assert row is not None
    return int(row[0])


FORMATS: Final[dict[str, Take]] = {
    "hsbc": _mt910, "bochk": _s16, "ewb": _ewb, **dict.fromkeys((*MAILBOX_BANKS, *CREDIT_BANKS), _json_lines)}
"""Bank -> how its files are taken."""


def brings_entries(content: bytes) -> bool:
    """Whether a file has to be taken before those that only name what is there: all but BAI2 and S16 do."""
    return not content.lstrip(BOM + b" \t\r\n").startswith((b"01,", b"H|"))


__all__ = ["FILE", "FORMATS", "MESSAGE", "RECORD", "Brings", "Imported", "Told", "brings_entries", "check_bank",
           "import_file", "refused_whole"]
