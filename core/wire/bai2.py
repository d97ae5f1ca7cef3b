"""BAI2 cash management reports, version 2 (gaps.md B-26; STMT-EWB-02, -03).

Rules of the format, before any code:

* Records, one on a line: 01 file header, 02 group header, 03 account, 16 transaction detail, 88 continuation, 49, 98
  and 99 trailers of account, group and file. Fields are separated by commas, a record ends with ``/`` or, where its
  last field is text, with the line; so may the last of a file. Spaces that pad a line, and empty lines, are nothing.
* Amounts are whole cents; those of a 16 have no sign. 88 continues the record before it: the fields of a 03, the text
  of a 16. In the text ``ORIG:`` begins the originator's name and ``OBI:`` the remark; a line without either goes on.
  A text with a character that no text may have (`core.wire.text`) costs its transaction, not the file.
* The trailers decide: a control total is the sum of all amounts (of 03 and 16, of accounts, of groups), a count that
  of the accounts, of the groups, and of the records from header to trailer, both and every 88 included. A file of which
  one is wrong is refused whole, and so is one that is not in this order.

Whatever bytes come in, the only exceptions that come out are `Bai2Error` and its direct kinds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final, NamedTuple

from core.wire.text import refused_in

MAX_FILE_BYTES: Final = 4_194_304
INCOMING_WIRE: Final = "195"
NAME, REMARK = "ORIG:", "OBI:"
_CODE = re.compile(r"(01|02|03|16|88|49|98|99),?(.*)", re.ASCII)
_AMOUNT = re.compile(r"[+-]?\d{1,17}", re.ASCII)
_PLAIN = re.compile(r"\d{1,17}", re.ASCII)
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_TYPE = re.compile(r"\d{3}", re.ASCII)
_DATE = re.compile(r"(\d{2})(\d{2})(\d{2})", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z0-9-]{1,34}", re.ASCII)
_REFERENCE = re.compile(r"[ -~]{0,64}", re.ASCII)
_TAGS = re.compile(f"(?:^|(?<= ))({NAME}|{REMARK})")
_TEXT: Final = {"88", "16"}
_OPEN_END: Final = {*_TEXT, "99"}
"""May end with the line: what says that nothing is missing stands in the last record of a file itself."""


class Bai2Error(Exception):
    """A file that cannot be taken; ``line`` counts from 1 (0: the file as a whole)."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.line, self.reason = line, reason


class WrongTotal(Bai2Error):
    """A trailer is not that of what stands before it."""


class Detail(NamedTuple):
    """One transaction; ``amount`` in cents. ``wrong``: why its texts are not to be used."""

    type_code: str
    amount: int
    bank_ref: str
    customer_ref: str
    name: str = ""
    remark: str = ""
    line: int = 0
    wrong: str = ""


class Account(NamedTuple):
    """One account; ``summaries``: (type code, amount in cents) of its 03."""

    number: str
    ccy: str
    details: tuple[Detail, ...] = ()
    summaries: tuple[tuple[str, int], ...] = ()


class Group(NamedTuple):
    """The accounts of one day."""

    as_of: date
    accounts: tuple[Account, ...]
    ccy: str = "USD"


class File(NamedTuple):
    """One file."""

    sender: str
    receiver: str
    created: date
    ident: str
    groups: tuple[Group, ...]


# --- writing ----------------------------------------------------------------------------------------------------


def encode(file: File) -> bytes:
    """The bytes of a file."""
    lines = [f"01,{file.sender},{file.receiver},{file.created:%y%m%d},0000,{file.ident},,,2/"]
    total = 0
    for group in file.groups:
        written, amount = _group(file, group)
        lines += written
        total += amount
    lines.append(f"99,{total},{len(file.groups)},{len(lines) + 1}/")
    return "".join(f"{line}\r\n" for line in lines).encode()


def _group(file: File, group: Group) -> tuple[list[str], int]:
    lines = [f"02,{file.receiver},{file.sender},1,{group.as_of:%y%m%d},,{group.ccy},2/"]
    total = 0
    for account in group.accounts:
        written, amount = _account(account)
        lines += written
        total += amount
    return [*lines, f"98,{total},{len(group.accounts)},{len(lines) + 1}/"], total


def _account(account: Account) -> tuple[list[str], int]:
    summaries = "".join(f",{code},{amount},," for code, amount in account.summaries) or ",,,,"
    lines = [f"03,{account.number},{account.ccy}{summaries}/"]
    for detail in account.details:
        lines.append(f"16,{detail.type_code},{detail.amount},Z,{detail.bank_ref},{detail.customer_ref},/")
        lines += [f"88,{tag}{text}" for tag, text in ((NAME, detail.name), (REMARK, detail.remark)) if text]
    total = sum(amount for _, amount in account.summaries) + sum(detail.amount for detail in account.details)
    return [*lines, f"49,{total},{len(lines) + 1}/"], total


# --- reading ----------------------------------------------------------------------------------------------------


class _Record(NamedTuple):
    code: str
    fields: list[str]  # of the record itself, and of those that continue a 03
    texts: list[str]  # of the records that continue a 16
    rows: int
    line: int


def decode(data: bytes) -> File:
    """The file, all of it or a `Bai2Error`."""
    if len(data) > MAX_FILE_BYTES:
        raise Bai2Error(f"{len(data)} bytes are more than {MAX_FILE_BYTES}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Bai2Error("not UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    return _Reading(_logical(text)).file()


def _logical(text: str) -> list[_Record]:
    """Records with what continues them."""
    found: list[_Record] = []
    for line, content in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        content = content.rstrip(" ")
        if not content:
            continue
        parts = _CODE.fullmatch(content)
        if parts is None or (parts[1] not in _TEXT and refused_in(content)):
            raise Bai2Error(f"{content[:16]!r} is no record", line)
        code, rest = parts[1], parts[2].removesuffix("/")
        if not content.endswith("/") and code not in _OPEN_END:
            raise Bai2Error(f"record {code} does not end with /", line)
        if code != "88":
            found.append(_Record(code, rest.split(","), [], 1, line))
        elif not found or found[-1].code not in ("03", "16"):
            raise Bai2Error("88 continues nothing", line)
        else:
            found[-1] = _continued(found[-1], rest)
    return found


def _continued(record: _Record, rest: str) -> _Record:
    if record.code == "16":
        return record._replace(texts=[*record.texts, rest], rows=record.rows + 1)
    fields = record.fields[:-1] if record.fields[-1:] == [""] and len(record.fields) % 4 == 3 else record.fields
    return record._replace(fields=[*fields, *rest.split(",")], rows=record.rows + 1)


class _Reading:
    """The records of one file, one after the other."""

    def __init__(self, records: Sequence[_Record]) -> None:
        self._records, self._at = records, 0

    def _take(self, code: str, least: int) -> _Record:
        record = self._records[self._at] if self._at < len(self._records) else None
        last = self._records[-1].line if self._records else 0
        if record is None:
            raise Bai2Error(f"the file ends where {code} is expected", last)
        if record.code != code:
            raise Bai2Error(f"record {record.code} where {code} is expected", record.line)
        if len(record.fields) < least:
            raise Bai2Error(f"record {code} has {len(record.fields)} fields, {least} at least", record.line)
        self._at += 1
        return record

    def _next_is(self, code: str) -> bool:
        return self._at < len(self._records) and self._records[self._at].code == code

    def _rows_since(self, start: int) -> int:
        return sum(record.rows for record in self._records[start:self._at])

    def file(self) -> File:
        head = self._take("01", 8)
        if head.fields[7] != "2":
            raise Bai2Error(f"version {head.fields[7][:8]!r} is not 2", head.line)
        groups: list[Group] = []
        total = 0
        while self._next_is("02"):
            group, amount = self._group()
            groups.append(group)
            total += amount
        end = self._take("99", 3)
        _check(end, ("file control total", total), ("number of groups", len(groups)),
               ("number of records", self._rows_since(0)))
        if self._at != len(self._records):
            raise Bai2Error("something stands behind 99", self._records[self._at].line)
        if not groups:
            raise Bai2Error("a file without groups", head.line)
        return File(_ref(head, 0), _ref(head, 1), _day(head, 2), _ref(head, 4), tuple(groups))

    def _group(self) -> tuple[Group, int]:
        start = self._at
        head = self._take("02", 4)
        ccy = head.fields[5] if len(head.fields) > 5 and head.fields[5] else "USD"
        accounts: list[Account] = []
        total = 0
        while self._next_is("03"):
            account, amount = self._account(ccy)
            accounts.append(account)
            total += amount
        end = self._take("98", 3)
        _check(end, ("group control total", total), ("number of accounts", len(accounts)),
               ("number of records", self._rows_since(start)))
        return Group(_day(head, 3), tuple(accounts), ccy), total

    def _account(self, group_ccy: str) -> tuple[Account, int]:
        start = self._at
        head = self._take("03", 1)
        number = head.fields[0]
        if _ACCOUNT.fullmatch(number) is None:
            raise Bai2Error(f"account {number[:40]!r} is no account number: 1 to 34 letters, digits and hyphens",
                            head.line)
        summaries = tuple(_summaries(head))
        details: list[Detail] = []
        while self._next_is("16"):
            details.append(_detail(self._take("16", 3)))
        end = self._take("49", 2)
        total = sum(amount for _, amount in summaries) + sum(detail.amount for detail in details)
        _check(end, ("account control total", total), ("number of records", self._rows_since(start)))
        ccy = (head.fields[1] if len(head.fields) > 1 else "") or group_ccy
        return Account(number, ccy, tuple(details), summaries), total


def _check(trailer: _Record, *told: tuple[str, int]) -> None:
    """The numbers of a trailer, the first of them an amount."""
    for place, (what, found) in enumerate(told):
        text = trailer.fields[place]
        form = _COUNT if place else _AMOUNT
        if form.fullmatch(text) is None:
            raise Bai2Error(f"the {what} {text[:20]!r} is no whole number", trailer.line)
        if int(text) != found:
            raise WrongTotal(f"the {what} is said to be {text}, it is {found}", trailer.line)


def _day(record: _Record, place: int) -> date:
    parts = _DATE.fullmatch(record.fields[place])
    if parts is not None:
        try:
            return date(2000 + int(parts[1]), int(parts[2]), int(parts[3]))
        except ValueError:
            pass
    raise Bai2Error(f"{record.fields[place][:12]!r} is no day as YYMMDD", record.line)


def _ref(record: _Record, place: int) -> str:
    text = record.fields[place]
    if _REFERENCE.fullmatch(text) is None:
        raise Bai2Error(f"{text[:40]!r} is no reference", record.line)
    return text


def _summaries(head: _Record) -> Iterator[tuple[str, int]]:
    """(type code, amount) of each summary: code, amount, item count, funds type and what belongs to it."""
    rest = head.fields[2:]
    while len(rest) > 1 or rest[:1] not in ([], [""]):
        code, amount, _, *after = [*rest, "", "", ""][:max(4, len(rest))]
        if code and _TYPE.fullmatch(code) is None:
            raise Bai2Error(f"type code {code[:8]!r} is not three digits", head.line)
        if amount and (not code or _AMOUNT.fullmatch(amount) is None):
            raise Bai2Error(f"amount {amount[:20]!r} is no number of whole cents with its type code", head.line)
        if amount:
            yield code, int(amount)
        rest = after[1 + _availability(after, head.line):] if after else []


def _availability(fields: Sequence[str], line: int) -> int:
    """How many fields belong to the funds type that stands first."""
    kind = fields[0] if fields else ""
    if kind in ("", "Z", "0", "1", "2"):
        return 0
    if kind in ("S", "V"):
        return 3 if kind == "S" else 2
    if kind == "D" and len(fields) > 1 and _COUNT.fullmatch(fields[1]):
        return 1 + 2 * int(fields[1])
    raise Bai2Error(f"funds type {kind[:8]!r} is none of Z, 0, 1, 2, S, V and D with its number of parts", line)


def _detail(record: _Record) -> Detail:
    code, amount = record.fields[:2]
    if _TYPE.fullmatch(code) is None:
        raise Bai2Error(f"type code {code[:8]!r} is not three digits", record.line)
    if _PLAIN.fullmatch(amount) is None:
        raise Bai2Error(f"amount {amount[:20]!r} is no number of whole cents without a sign", record.line)
    rest = record.fields[3 + _availability(record.fields[2:], record.line):]
    bank_ref, customer_ref, *text = [*rest, "", ""] if len(rest) < 2 else rest
    for reference in (bank_ref, customer_ref):
        if _REFERENCE.fullmatch(reference) is None:
            raise Bai2Error(f"{reference[:40]!r} is no reference", record.line)
    name, remark = _texts([",".join(text), *record.texts])
    refused = refused_in(",".join((*text, *record.texts)))
    return Detail(code, int(amount), bank_ref, customer_ref, name, remark, record.line,
                  f"its text has the character {refused}" if refused else "")


def _texts(lines: Sequence[str]) -> tuple[str, str]:
    """(originator's name, remark) of the text of a detail."""
    found = {NAME: "", REMARK: ""}
    tag = REMARK
    for line in lines:
        for part in _TAGS.split(line):
            if part in found:
                tag = part
            elif part.strip():
                found[tag] = f"{found[tag]} {part.strip()}".strip()
    return found[NAME][:140], found[REMARK][:500]
