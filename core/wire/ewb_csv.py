"""East West Bank's account activity as CSV (gaps.md B-26; STMT-EWB-01).

    Account Number,Post Date,Reference,Description,Debit,Credit,Balance
    8600000001,03/12/2026,FT0312001,INCOMING WIRE,,1000.00,51000.00

* UTF-8, with or without a byte order mark; fields as RFC 4180 has them; exactly this header.
* A date is MM/DD/YYYY. An amount has two decimals and may have thousands separated by commas; one of debit and credit
  is given, and more than nothing. The running balance may be negative.
* A file with another header, or that is no CSV, is refused as a whole: `CsvError`. A row that cannot be read is told
  with its line and why; the others are good.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import date
from typing import Final, NamedTuple

from core.errors import InvalidAmount
from core.money import format_wire, parse_wire
from core.wire.text import refused_in

HEADER: Final = ("Account Number", "Post Date", "Reference", "Description", "Debit", "Credit", "Balance")
MAX_FILE_BYTES: Final = 4_194_304
MAX_ROWS: Final = 20_000
MAX_DESCRIPTION: Final = 500
_ACCOUNT = re.compile(r"[A-Za-z0-9-]{1,34}", re.ASCII)
_REFERENCE = re.compile(r"[!-~]{1,32}", re.ASCII)
_DATE = re.compile(r"(\d{2})/(\d{2})/(20\d{2})", re.ASCII)
_REWRITTEN = re.compile(r"\d+(?:\.\d+)?E\+?\d+", re.ASCII | re.IGNORECASE)
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+\.\d{2}", re.ASCII)


class CsvError(Exception):
    """A file that cannot be taken; ``line`` counts from 1 (0: the file as a whole)."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line, self.reason = line, reason


class Row(NamedTuple):
    """One movement; amounts in minor units, ``balance`` after it."""

    account: str
    posted: date
    reference: str
    description: str
    dr_cr: str
    amount: int
    balance: int
    line: int = 0


class BadRow(NamedTuple):
    """A row that cannot be read."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class _Wrong(Exception):
    """Why a row cannot be read."""


def encode(rows: Iterator[Row] | tuple[Row, ...] | list[Row]) -> bytes:
    """A file with these rows."""
    lines = [",".join(HEADER), *map(_line, rows)]
    return "".join(f"{line}\r\n" for line in lines).encode()


def _line(row: Row) -> str:
    amount = format_wire(row.amount)
    debit, credit = ("", amount) if row.dr_cr == "C" else (amount, "")
    fields = (row.account, f"{row.posted:%m/%d/%Y}", row.reference, row.description, debit, credit,
              ("-" if row.balance < 0 else "") + format_wire(abs(row.balance)))
    return ",".join(f'"{field.replace(chr(34), 2 * chr(34))}"' if set(field) & set(',"') else field
                    for field in fields)


def decode(data: bytes) -> list[Row | BadRow]:
    """All rows of a file in their order, each read or refused; `CsvError` for the file as a whole."""
    if len(data) > MAX_FILE_BYTES:
        raise CsvError(f"{len(data)} bytes are more than {MAX_FILE_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CsvError("not UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[Row | BadRow] = []
    try:
        if tuple(field.strip() for field in next(reader, [])) != HEADER:
            raise CsvError(f"the header is not {','.join(HEADER)}", 1)
        for fields in reader:
            if any(field.strip() for field in fields):
                found.append(_row(fields, reader.line_num))
            if len(found) > MAX_ROWS:
                raise CsvError(f"more than {MAX_ROWS} rows", reader.line_num)
    except csv.Error as error:
        raise CsvError(str(error), reader.line_num) from None
    return found


def _row(fields: list[str], line: int) -> Row | BadRow:
    try:
        return _read([field.strip() for field in fields], line)
    except _Wrong as wrong:
        return BadRow(line, str(wrong))


def _read(fields: list[str], line: int) -> Row:
    if len(fields) != len(HEADER):
        raise _Wrong(f"{len(fields)} fields instead of {len(HEADER)}")
    account, posted, reference, description, debit, credit, balance = fields
    if _ACCOUNT.fullmatch(account) is None:
        why = (": a spreadsheet has rewritten it: format the column as text, or take the bank's own file"
               if _REWRITTEN.fullmatch(account) else " is not 1 to 34 letters, digits or hyphens")
        raise _Wrong(f"Account Number {account[:40]!r}{why}")
    if _REFERENCE.fullmatch(reference) is None:
        raise _Wrong(f"Reference {reference[:40]!r} is not 1 to 32 ASCII characters without spaces")
    if len(description) > MAX_DESCRIPTION:
        raise _Wrong(f"Description {description[:40]!r}… is longer than {MAX_DESCRIPTION} characters")
    if refused := refused_in(description):
        raise _Wrong(f"Description {description[:40]!r} has the character {refused}")
    amounts = {"D": _amount("Debit", debit) if debit else 0, "C": _amount("Credit", credit) if credit else 0}
    if (amounts["D"] > 0) == (amounts["C"] > 0):
        raise _Wrong(f"Debit {debit!r} and Credit {credit!r}: one of the two, and more than nothing")
    side = "C" if amounts["C"] else "D"
    negative = balance.startswith("-")
    return Row(account, _day(posted), reference, description, side, amounts[side],
               (-1 if negative else 1) * _amount("Balance", balance[negative:]), line)


def _day(text: str) -> date:
    parts = _DATE.fullmatch(text)
    if parts is not None:
        try:
            return date(int(parts[3]), int(parts[1]), int(parts[2]))
        except ValueError:
            pass
    raise _Wrong(f"Post Date {text[:20]!r} is not MM/DD/YYYY")


def _amount(name: str, text: str) -> int:
    try:
        return parse_wire(text.replace(",", "") if _GROUPED.fullmatch(text) else text)
    except InvalidAmount:
        raise _Wrong(f"{name} {text[:40]!r} is no amount such as 1234.50") from None
