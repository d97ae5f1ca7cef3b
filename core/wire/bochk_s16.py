"""BOCHK S16 report codec: one text file per account and period of the day (gaps.md B-19; BOCHK-S16-01 to -07).

    AGS01287500000011UC01.TXT          AGS, account (14 digits), UC, period 01 to 24
    H|S16|01287500000011|20260312|01|083000
    D|BE26C000000004711|20260312|081502|HKD|C|1000.00|51000.00|CHAN TAI MAN|012345678901|transfer
    T|1|1000.00|0.00

* Text in UTF-8, CRLF, fields separated by ``|``, which therefore cannot stand in one. The trailer holds the number of
  D records and the sums of their credits and debits; it decides: a file whose trailer is wrong is refused whole.
* Lines that end otherwise (LF alone, or CR alone: a program has rewritten the file) are refused as what they are.
* A file that breaks off before its trailer is *partial*: it may still be being written, and is to be asked for again.
* A record of which a text has a character that none may have (`core.wire.text`) is refused by itself; it counts for the
  trailer, and the others are good.
* A name of S14 (``AGS…AC1.TXT``) is recognised, so that it can be refused by name (BOCHK-S16-07).
* `seq_of`: the Transaction Reference Number without its first five characters and leading zeros, which equals the
  statement's seq_no without leading zeros; None if nothing is left, or what is left is not a number.

Whatever bytes come in, the only exceptions that come out are `S16Error` and its direct kinds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from core.clock import HKT, epoch_ms, hkt
from core.errors import InvalidAmount
from core.money import Currency, format_wire, parse_wire
from core.wire.text import refused_in, shown

MAX_FILE_BYTES: Final = 4_194_304
MAX_RECORDS: Final = 20_000
PERIODS: Final = 24
PREFIX_CHARS: Final = 5
_BOM: Final = b"\xef\xbb\xbf"
_S16_NAME = re.compile(r"AGS(\d{14})UC(\d{2})\.TXT", re.ASCII)
_S14_NAME = re.compile(r"AGS(\d{14})AC(\d{1,2})\.TXT", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}", re.ASCII)
_REFERENCE = re.compile(r"[!-{}~]{1,64}", re.ASCII)
_OTHER_END = re.compile(r"(?:(?<!\r)\n|\r(?!\n))(?=[DT]\|)|(?<!\r)\n\Z")
"""The end of a line of ours that is not CR LF: behind it begins a record, or nothing."""
_ANY_END = re.compile(r"\r\n|\r|\n")
_WIDTHS: Final = {"H": 6, "D": 11, "T": 4}


class S16Error(Exception):
    """A file that cannot be taken; ``line`` counts from 1 (0: the file as a whole)."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line, self.reason = line, reason


class PartialReport(S16Error):
    """The file breaks off before its trailer."""


class WrongTrailer(S16Error):
    """The trailer is not that of the records."""


class GarbledReport(S16Error):
    """A line that is none of the report's."""


class FileName(NamedTuple):
    """What a name says: ``report`` S16 or S14."""

    report: str
    account: str
    period: int


class Record(NamedTuple):
    """One movement; amounts in minor units, ``at_ms`` by value date and time in Hong Kong."""

    reference: str
    at_ms: int
    ccy: str
    dr_cr: str
    amount: int
    balance: int
    name: str
    remitter: str
    remark: str = ""


class Refused(NamedTuple):
    """A movement that is not to be used: its line, why, and what stands there."""

    line: int
    reason: str
    said: str


class Report(NamedTuple):
    """One file: our account, day as YYYYMMDD, period from 1, when it was made, its movements, those refused."""

    account: str
    day: int
    period: int
    created_ms: int
    records: tuple[Record, ...]
    refused: tuple[Refused, ...] = ()


def lined(report: Report) -> list[tuple[int, Record]]:
    """Each movement with its line in the file."""
    refused = {one.line for one in report.refused}
    lines = (line for line in range(2, len(report.records) + len(refused) + 2) if line not in refused)
    return list(zip(lines, report.records, strict=True))


def parse_name(name: str) -> FileName | None:
    """What a file's name says; None for a name of neither report."""
    for report, pattern in (("S16", _S16_NAME), ("S14", _S14_NAME)):
        match = pattern.fullmatch(name)
        if match is not None and (report == "S14" or 1 <= int(match[2]) <= PERIODS):
            return FileName(report, match[1], int(match[2]))
    return None


def name_of(account: str, period: int) -> str:
    """The name of a period's file."""
    return f"AGS{account}UC{period:02d}.TXT"


def seq_of(reference: str) -> str | None:
    """The seq_no that a reference names, without leading zeros; None if it names none (B-19)."""
    rest = reference[PREFIX_CHARS:]
    if not (rest.isascii() and rest.isdigit()):
        return None
    return rest.lstrip("0") or None


# --- writing ----------------------------------------------------------------------------------------------------


def encode(report: Report) -> bytes:
    """The bytes of a report; `S16Error` for a text that cannot stand in a field."""
    created = hkt(report.created_ms)
    lines = [f"H|S16|{report.account}|{report.day:08d}|{report.period:02d}|{created:%H%M%S}"]
    lines += [_line(record) for record in report.records]
    credits, debits = _totals(report.records)
    lines.append(f"T|{len(report.records)}|{format_wire(credits)}|{format_wire(debits)}")
    return "".join(f"{line}\r\n" for line in lines).encode()


def _line(record: Record) -> str:
    at = hkt(record.at_ms)
    fields = ("D", record.reference, f"{at:%Y%m%d}", f"{at:%H%M%S}", record.ccy, record.dr_cr,
              format_wire(record.amount), format_wire(record.balance), record.name, record.remitter, record.remark)
    for field in fields:
        if "|" in field or refused_in(field):
            raise S16Error(f"{field[:64]!r} cannot stand in a field")
    return "|".join(fields)


def _totals(records: Sequence[Record]) -> tuple[int, int]:
    credits = sum(record.amount for record in records if record.dr_cr == "C")
    return credits, sum(record.amount for record in records) - credits


# --- reading ----------------------------------------------------------------------------------------------------


def decode(data: bytes, report: str = "S16") -> Report:
    """The report in a file, all of it or a `S16Error`; S14 is read alike (the documents give it no form of its own)."""
    if len(data) > MAX_FILE_BYTES:
        raise GarbledReport(f"{len(data)} bytes are more than {MAX_FILE_BYTES}")
    lines = _lines(data)
    head = _fields(lines[0], 1)
    if head[0] != "H":
        raise GarbledReport("the first record is not H", 1)
    account, day, period, created_ms = _header(head, report)
    if len(lines) < 2 or not lines[-1].startswith("T|"):
        raise PartialReport("no trailer", len(lines))
    if len(lines) - 2 > MAX_RECORDS:
        raise GarbledReport(f"{len(lines) - 2} records are more than {MAX_RECORDS}")
    records = [_record(_fields(line, number), number) for number, line in enumerate(lines[1:-1], 2)]
    _check_trailer(_fields(lines[-1], len(lines)), records, len(lines))
    refused = [Refused(number, f"its text has the character {character}", shown(line))
               for number, line in enumerate(lines[1:-1], 2) if (character := refused_in(line))]
    spoilt = {one.line for one in refused}
    good = [record for number, record in enumerate(records, 2) if number not in spoilt]
    return Report(account, day, period, created_ms, tuple(good), tuple(refused))


def _lines(data: bytes) -> list[str]:
    """The lines of a file that ends with a line end; a partial one may end in the middle of a character."""
    if not data:
        raise PartialReport("the file is empty")
    data = data.removeprefix(_BOM)
    whole = data.endswith(b"\r\n")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if not whole and error.reason == "unexpected end of data":
            raise PartialReport("the last line is cut off") from None
        raise GarbledReport(f"not UTF-8 at byte {error.start}", data.count(b"\n", 0, error.start) + 1) from None
    other = _OTHER_END.search(text)
    if other is not None:
        raise GarbledReport("lines must end in CR LF: convert them (unix2dos), or fetch it in binary",
                            len(_ANY_END.findall(text[:other.start()])) + 1)
    lines = text.split("\r\n")
    if not whole:
        if lines[0][:2] != "H|"[:len(lines[0])]:
            raise GarbledReport("the first record is not H", 1)
        raise PartialReport("the last line is cut off: it does not end in CR LF", len(lines))
    return lines[:-1]


def _fields(line: str, number: int) -> list[str]:
    fields = line.split("|")
    if _WIDTHS.get(fields[0]) != len(fields):
        raise GarbledReport(f"{fields[0][:8]!r} with {len(fields)} fields is no record", number)
    if fields[0] != "D" and refused_in(line):
        raise GarbledReport("a control character", number)
    return fields


def _header(fields: list[str], wanted: str) -> tuple[str, int, int, int]:
    _, report, account, day, period, created = fields
    if report != wanted:
        raise GarbledReport(f"report {report[:8]!r} is not {wanted}", 1)
    if re.fullmatch(r"\d{14}", account, re.ASCII) is None or re.fullmatch(r"\d{2}", period, re.ASCII) is None:
        raise GarbledReport("account or period is not of its form", 1)
    if not 1 <= int(period) <= PERIODS:
        raise GarbledReport(f"there is no period {period}", 1)
    return account, int(day) if day.isascii() and day.isdigit() else 0, int(period), _moment(day, created, 1)


def _moment(day: str, time: str, number: int) -> int:
    if re.fullmatch(r"\d{8}", day, re.ASCII) is None or re.fullmatch(r"\d{6}", time, re.ASCII) is None:
        raise GarbledReport(f"{day[:16]!r} {time[:16]!r} is no moment", number)
    try:
        return epoch_ms(datetime(int(day[:4]), int(day[4:6]), int(day[6:]), int(time[:2]), int(time[2:4]),
                                 int(time[4:]), tzinfo=HKT))
    except ValueError:
        raise GarbledReport(f"{day} {time} is no moment", number) from None


def _record(fields: list[str], number: int) -> Record:
    if fields[0] != "D":
        raise GarbledReport(f"{fields[0]} between header and trailer", number)
    _, reference, day, time, ccy, dr_cr, amount, balance, name, remitter, remark = fields
    if _REFERENCE.fullmatch(reference) is None:
        raise GarbledReport(f"{reference[:64]!r} is no reference", number)
    if dr_cr not in ("C", "D") or ccy not in Currency.__members__:
        raise GarbledReport(f"{ccy[:8]!r} {dr_cr[:8]!r} is no currency and direction", number)
    return Record(reference, _moment(day, time, number), ccy, dr_cr, _amount(amount, number),
                  _amount(balance, number), name, remitter, remark)


def _amount(text: str, number: int) -> int:
    try:
        return parse_wire(text)
    except InvalidAmount as wrong:
        raise GarbledReport(str(wrong)[:160], number) from None


def _check_trailer(fields: list[str], records: Sequence[Record], number: int) -> None:
    _, count, credits, debits = fields
    if _NUMBER.fullmatch(count) is None:
        raise GarbledReport(f"{count[:16]!r} is no count", number)
    told = (int(count), _amount(credits, number), _amount(debits, number))
    if told != (len(records), *_totals(records)):
        raise WrongTrailer(f"the trailer says {told}, the records are {(len(records), *_totals(records))}", number)
