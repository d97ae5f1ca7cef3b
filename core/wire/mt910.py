"""SWIFT FIN MT910, confirmation of credit: files of 1 to n messages (gaps.md B-20; STMT-05).

Rules of the format, before any code:

* A message is ``{1:basic header}{2:application header}[{3:user header}]{4:CRLF fields CRLF-}[{5:trailers}]``. Messages
  follow one another in a file, with nothing, line ends or ``$`` between them.
* Fields stand in the order of `ORDER`, each at most once, each on a new line that begins ``:tag:``; lines end in CR LF
  and hold characters of SWIFT's set X. Any other tag, and any other place, is an error (T13).
* A reference neither begins nor ends with a slash nor holds two in a row (T26). Dates and times exist (T50, T38), a
  currency is ISO 4217's (T52). An amount is digits, one comma, digits: at least one before it (T40), the comma there
  and 15 characters at most (T43), no more behind it than the currency has (C03).
* The ordering customer (50a) or the ordering institution (52a) is named (C06).

What is wrong with one message is told with SWIFT's own code and the line of the file, and the other messages of the
file are good nevertheless. SWIFT's handbook gives the three codes of an amount together and does not say which of
them is which: that division is ours, and so is `FRAME` for what is no FIN message at all.

`read` takes bytes, with or without a byte order mark, and gives messages and errors; it raises nothing. There is no
clock, key or socket here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import Final, NamedTuple

from core.errors import NostroError
from core.wire.iso4217 import DECIMALS

FRAME: Final = "FRAME"
"""Our own code: the blocks of a FIN message of type 910 are not there."""

CODES: Final[dict[str, str]] = {
    "T13": "a field that is unknown, out of its order, given twice, or missing",
    "T15": "a sign that is neither + nor -",
    "T16": "a time offset that cannot be",
    "T26": "a reference with a slash at an end, or two in a row",
    "T27": "a BIC that is none",
    "T33": "a text that is empty, too long, or has too many lines",
    "T38": "a time that does not exist",
    "T40": "an amount without a digit before the comma",
    "T43": "an amount without its comma, with two, longer than 15, or with something that is no digit",
    "T50": "a date that does not exist",
    "T52": "a currency that is not in ISO 4217",
    "C03": "more digits behind the comma than the currency has",
    "C06": "neither ordering customer nor ordering institution",
    "M60": "a character that is not in SWIFT's set, or a line end that is not CR LF",
    FRAME: "no FIN message of type 910",
}
"""Every code that `read` gives, and what it says."""

ORDER: Final[dict[str, int]] = {
    "20": 0, "21": 1, "25": 2, "25P": 2, "13D": 3, "32A": 4, "50A": 5, "50F": 5, "50K": 5, "52A": 6, "52D": 6,
    "56A": 7, "56D": 7, "72": 8}
"""Tag -> its place in the message; tags of one place exclude each other."""

_MANDATORY: Final = {0: "20", 1: "21", 2: "25", 4: "32A"}
_CUSTOMER, _INSTITUTION, _INTERMEDIARY, _NARRATIVE = 5, 6, 7, 8
_MOST_LINES: Final = 4
_WIDTH: Final = 35
_BOM: Final = b"\xef\xbb\xbf"
_TO_FOLLOW: Final = "\r\n"
_BETWEEN: Final = " \t\r\n$"
_AMOUNT_LENGTH: Final = 15
_TURN: Final = 80  # of two digits of a year: 80 to 99 are of the twentieth century

_X = r"[A-Za-z0-9/\-?:().,'+ ]"
_NOT_X = re.compile(r"[^A-Za-z0-9/\-?:().,'+ \r\n]")
_BLOCKS = re.compile(
    r"\{1:([^{}]*)\}(?:\{2:([^{}]*)\})?(?:\{3:((?:\{[^{}]*\})*)\})?\{4:\r\n(.*?)\r\n-\}"
    r"(?:\{5:((?:\{[^{}]*\})*)\})?(?:\{S:((?:\{[^{}]*\})*)\})?", re.DOTALL)
_BARE_LF = re.compile(r"(?<!\r)\n")
_BASIC = re.compile(r"F01[A-Z0-9]{12}\d{10}", re.ASCII)
_OUTPUT = re.compile(r"O(\d{3})\d{4}\d{6}[A-Z0-9]{12}\d{10}\d{6}\d{4}[SUN]", re.ASCII)
_INPUT = re.compile(r"I(\d{3})[A-Z0-9]{12}[SUN](?:\d(?:\d{3})?)?", re.ASCII)
_TAG = re.compile(r":(\d\d[A-Z]?):(.*)", re.DOTALL)
_REFERENCE = re.compile(_X + r"{1,16}")
_BIC = re.compile(r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}(?:[A-Z0-9]{3})?")
_MOMENT = re.compile(r"(\d{6})(\d{4})(.)(\d{4})", re.ASCII)
_VALUE = re.compile(r"(\d{6})([A-Z]{3})(.*)", re.ASCII | re.DOTALL)
_AMOUNT = re.compile(r"\d*,\d*", re.ASCII)
_DIGIT = re.compile(r"\d", re.ASCII)
_NUMBERED = re.compile(r"[1-8]/" + _X + r"{1,33}")


class Party(NamedTuple):
    """Field 50a, 52a or 56a: the letter of its option and its lines, an account line (``/…``) first."""

    option: str
    lines: tuple[str, ...]

    @property
    def account(self) -> str:
        """The account or identifier of the first line, without its slash; "" if there is none."""
        return self.lines[0].removeprefix("/") if self.lines[0].startswith("/") or self.option == "F" else ""

    @property
    def name(self) -> str:
        """The name alone, without an address; "" where only a BIC stands (A).

        F numbers its lines: those numbered 1 are the name. K and D are "name and address" in four lines of 35 without
        a mark between the two: the first line is the name. It goes on in the next one only where that one's first word
        would not have fitted behind it, and where it has no digit, as addresses have. A name taken too short or too
        long is like nobody's, and people look; a name with an address behind it would be like nobody's every time.
        """
        if self.option == "F":
            return " ".join(line[2:] for line in self.lines[1:] if line.startswith("1/")).strip()
        lines = [] if self.option == "A" else self.lines[1:] if self.lines[0].startswith("/") else list(self.lines)
        name = lines[0] if lines else ""
        for before, line in pairwise(lines):
            if len(before) + 1 + len(line.split(" ", 1)[0]) <= _WIDTH or _DIGIT.search(line):
                break
            name += line if len(before) == _WIDTH and " " not in before else f" {line}"
        return name.strip()

    @property
    def text(self) -> str:
        """All that stands behind the account, as one line for people."""
        return " ".join(self.lines[1:] if self.lines[0].startswith("/") else self.lines).strip()


class Mt910(NamedTuple):
    """One confirmation of credit. ``amount`` as it stands on the wire (``"1234,5"``), ``booked`` with the bank's
    offset. The blocks around the text are kept as they came; ``line`` is where the message begins in its file."""

    reference: str
    related: str
    account: str
    value_date: date
    ccy: str
    amount: str
    booked: datetime | None = None
    customer: Party | None = None
    institution: Party | None = None
    intermediary: Party | None = None
    narrative: tuple[str, ...] = ()
    account_bic: str = ""
    basic: str = ""
    application: str = ""
    user: str | None = None
    trailers: str | None = None
    system: str | None = None
    line: int = 1


class FinError(NamedTuple):
    """What is wrong with one message: a code of `CODES`, the field, and the line of the file on which it stands."""

    code: str
    tag: str
    line: int
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", :{self.tag}:" if self.tag else "")
        return f"{where} {self.code} {self.text}"


class Unwritable(NostroError):
    """A message of ours that is no MT910: the caller's mistake."""


class _Refused(Exception):
    def __init__(self, code: str, tag: str, line: int, text: str) -> None:
        super().__init__(code)
        self.error = FinError(code, tag, line, f"{text} ({CODES[code]})")


# --- reading ------------------------------------------------------------------------------------------------------


def read(data: bytes) -> list[Mt910 | FinError]:
    """All messages of a file in their order, each read or refused; a file without any is one error."""
    text = data.removeprefix(_BOM).decode("latin-1")
    found = [_message(segment, line) for segment, line in _segments(text)]
    return found or [FinError(FRAME, "", 1, f"the file is empty ({CODES[FRAME]})")]


def _segments(text: str) -> Iterator[tuple[str, int]]:
    """What begins like a message, up to the next that does; and whatever stands before the first."""
    line, begin = 1, 0
    while begin < len(text):
        end = text.find("{1:", begin + 1)
        end = len(text) if end < 0 else end
        segment = text[begin:end]
        stripped = segment.lstrip(_BETWEEN)
        if stripped:
            yield stripped.rstrip(_BETWEEN), line + segment.count("\n", 0, len(segment) - len(stripped))
        line += segment.count("\n")
        begin = end


def _message(segment: str, line: int) -> Mt910 | FinError:
    try:
        return _parsed(segment, line)
    except _Refused as refused:
        return refused.error


def _parsed(segment: str, line: int) -> Mt910:
    blocks = _BLOCKS.fullmatch(segment)
    if blocks is None:
        raise _frame(segment, line)
    basic, application, user, text, trailers, system = blocks.groups()
    _check_headers(basic, application or "", line)
    fields = _fields(text, line + segment.count("\n", 0, blocks.start(4)))
    return _assembled(fields, line)._replace(
        basic=basic, application=application, user=user, trailers=trailers, system=system, line=line)


def _frame(segment: str, line: int) -> _Refused:
    if not segment.startswith("{1:"):
        return _Refused(FRAME, "", line, "a message begins with {1:")
    if _BARE_LF.search(segment) or ("{4:" in segment and "\r\n" not in segment):
        return _Refused("M60", "", line, "lines must end in CR LF: convert them (unix2dos), or fetch it in binary")
    if "-}" not in segment:
        return _Refused(FRAME, "", line, "the message has no end")
    return _Refused(FRAME, "", line, "blocks 1 to 5 are not there, or not in order")


def _check_headers(basic: str, application: str, line: int) -> None:
    if _BASIC.fullmatch(basic) is None:
        raise _Refused(FRAME, "", line, f"basic header {basic[:40]!r}")
    kind = _OUTPUT.fullmatch(application) or _INPUT.fullmatch(application)
    if kind is None:
        raise _Refused(FRAME, "", line, f"application header {application[:60]!r}")
    if kind[1] != "910":
        raise _Refused(FRAME, "", line, f"message type {kind[1]}")


class _Field(NamedTuple):
    tag: str
    lines: tuple[str, ...]
    line: int


def _fields(text: str, line: int) -> dict[int, _Field]:
    """The fields of block 4 by their place, whose order is right."""
    found: dict[int, _Field] = {}
    last = -1
    for field in _split(text, line):
        place = ORDER.get(field.tag)
        if place is None or place <= last:
            raise _Refused("T13", field.tag, field.line, "not expected here")
        found[place] = field
        last = place
    for place, tag in _MANDATORY.items():
        if place not in found:
            raise _Refused("T13", tag, line, "missing")
    return found


def _split(text: str, line: int) -> Iterator[_Field]:
    tag, began, lines = "", line, list[str]()
    for number, content in enumerate(text.split(_TO_FOLLOW), line):
        wrong = _NOT_X.search(content)
        if wrong is not None or "\n" in content or "\r" in content:
            raise _Refused("M60", tag, number, repr(wrong[0]) if wrong else "a line that does not end in CR LF")
        begins = _TAG.fullmatch(content)
        if begins is not None:
            if tag:
                yield _Field(tag, tuple(lines), began)
            tag, began, lines = begins[1], number, [begins[2]]
        elif not tag or content.startswith((":", "-")):
            raise _Refused("T13", tag, number, "a line that begins no field and continues none")
        else:
            lines.append(content)
    if tag:
        yield _Field(tag, tuple(lines), began)


def _assembled(fields: dict[int, _Field], line: int) -> Mt910:
    account, bic = _account(fields[2])
    value_date, ccy, amount = _value(fields[4])
    customer, institution = fields.get(_CUSTOMER), fields.get(_INSTITUTION)
    if customer is None and institution is None:
        raise _Refused("C06", "50a", line, "nobody is named")
    return Mt910(
        _reference(fields[0]), _reference(fields[1]), account, value_date, ccy, amount,
        booked=_booked(fields[3]) if 3 in fields else None,
        customer=_party(customer) if customer else None,
        institution=_party(institution) if institution else None,
        intermediary=_party(fields[_INTERMEDIARY]) if _INTERMEDIARY in fields else None,
        narrative=_narrative(fields[_NARRATIVE]) if _NARRATIVE in fields else (),
        account_bic=bic)


def _one_line(field: _Field) -> str:
    if len(field.lines) != 1:
        raise _Refused("T33", field.tag, field.line, "more than one line")
    return field.lines[0]


def _reference(field: _Field) -> str:
    value = _one_line(field)
    if _REFERENCE.fullmatch(value) is None:
        raise _Refused("T33", field.tag, field.line, "1 to 16 characters")
    if value.startswith("/") or value.endswith("/") or "//" in value:
        raise _Refused("T26", field.tag, field.line, value)
    return value


def _account(field: _Field) -> tuple[str, str]:
    """The account, and the BIC of option P."""
    most = 2 if field.tag == "25P" else 1
    value = field.lines[0]
    if len(field.lines) != most or not 1 <= len(value) <= 35:
        raise _Refused("T33", field.tag, field.line, "an account of 1 to 35 characters")
    bic = field.lines[1] if most == 2 else ""
    if bic and _BIC.fullmatch(bic) is None:
        raise _Refused("T27", field.tag, field.line + 1, bic)
    if most == 2 and not bic:
        raise _Refused("T27", field.tag, field.line + 1, "no BIC")
    return value, bic


def _booked(field: _Field) -> datetime:
    parts = _MOMENT.fullmatch(_one_line(field))
    if parts is None:
        raise _Refused("T33", field.tag, field.line, "not YYMMDDHHMM+HHMM")
    day = _date(parts[1], field)
    hour, minute = int(parts[2][:2]), int(parts[2][2:])
    if hour > 23 or minute > 59:
        raise _Refused("T38", field.tag, field.line, parts[2])
    if parts[3] not in "+-":
        raise _Refused("T15", field.tag, field.line, repr(parts[3]))
    away = timedelta(hours=int(parts[4][:2]), minutes=int(parts[4][2:]))
    if int(parts[4][:2]) > 13 or int(parts[4][2:]) > 59:
        raise _Refused("T16", field.tag, field.line, parts[4])
    zone = timezone(away if parts[3] == "+" else -away)
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)


def _date(written: str, field: _Field) -> date:
    year = int(written[:2])
    try:
        return date(year + (1900 if year >= _TURN else 2000), int(written[2:4]), int(written[4:]))
    except ValueError:
        raise _Refused("T50", field.tag, field.line, written) from None


def _value(field: _Field) -> tuple[date, str, str]:
    parts = _VALUE.fullmatch(_one_line(field))
    if parts is None:
        raise _Refused("T33", field.tag, field.line, "not YYMMDD, currency, amount")
    day, ccy, amount = _date(parts[1], field), parts[2], parts[3]
    if ccy not in DECIMALS:
        raise _Refused("T52", field.tag, field.line, ccy)
    if len(amount) > _AMOUNT_LENGTH or _AMOUNT.fullmatch(amount) is None:
        raise _Refused("T40" if not amount else "T43", field.tag, field.line, repr(amount))
    whole, _, decimals = amount.partition(",")
    if not whole:
        raise _Refused("T40", field.tag, field.line, repr(amount))
    if len(decimals) > DECIMALS[ccy]:
        raise _Refused("C03", field.tag, field.line, f"{amount} {ccy}")
    return day, ccy, amount


def _party(field: _Field) -> Party:
    option, lines = field.tag[2], field.lines
    party = Party(option, lines)
    has_account = lines[0].startswith("/") or option == "F"
    rest = lines[1:] if has_account else lines
    if has_account and not 2 <= len(lines[0]) <= _account_length(field.tag):
        raise _Refused("T33", field.tag, field.line, "an account line that is too long, or empty")
    if option == "A":
        if len(rest) != 1 or _BIC.fullmatch(rest[0]) is None:
            raise _Refused("T27", field.tag, field.line, " ".join(rest))
    elif not 1 <= len(rest) <= _MOST_LINES or not all(_fits(line, option) for line in rest):
        raise _Refused("T33", field.tag, field.line, "1 to 4 lines of 1 to 35 characters")
    return party


def _account_length(tag: str) -> int:
    """``/34x``; an institution's may have a letter between two slashes before it."""
    return 35 if tag.startswith("50") else 37


def _fits(line: str, option: str) -> bool:
    return _NUMBERED.fullmatch(line) is not None if option == "F" else 1 <= len(line) <= 35


def _narrative(field: _Field) -> tuple[str, ...]:
    if len(field.lines) > 6 or not all(1 <= len(line) <= 35 for line in field.lines):
        raise _Refused("T33", field.tag, field.line, "1 to 6 lines of 1 to 35 characters")
    return field.lines


# --- writing ------------------------------------------------------------------------------------------------------


def encode(message: Mt910) -> bytes:
    """The message as FIN bytes; `Unwritable` for one that `read` would refuse."""
    user = f"{{3:{message.user}}}" if message.user is not None else ""
    trailers = f"{{5:{message.trailers}}}" if message.trailers is not None else ""
    system = f"{{S:{message.system}}}" if message.system is not None else ""
    text = _TO_FOLLOW.join(f":{tag}:{content}" for tag, content in _written(message))
    whole = (f"{{1:{message.basic}}}{{2:{message.application}}}{user}{{4:{_TO_FOLLOW}{text}{_TO_FOLLOW}-}}"
             f"{trailers}{system}")
    again = _message(whole, message.line)
    if again != message:
        raise Unwritable(f"{message.reference}: {again if isinstance(again, FinError) else 'it would read otherwise'}")
    return whole.encode("latin-1")


def _written(message: Mt910) -> Iterator[tuple[str, str]]:
    yield "20", message.reference
    yield "21", message.related
    if message.account_bic:
        yield "25P", f"{message.account}{_TO_FOLLOW}{message.account_bic}"
    else:
        yield "25", message.account
    if message.booked is not None:
        yield "13D", show_moment(message.booked)
    yield "32A", f"{message.value_date:%y%m%d}{message.ccy}{message.amount}"
    parties = (("50", message.customer), ("52", message.institution), ("56", message.intermediary))
    for number, party in parties:
        if party is not None:
            yield f"{number}{party.option}", _TO_FOLLOW.join(party.lines)
    if message.narrative:
        yield "72", _TO_FOLLOW.join(message.narrative)


def show_moment(at: datetime) -> str:
    """Field 13D of an aware moment."""
    away = at.utcoffset()
    assert away is not None, at
    minutes = abs(away) // timedelta(minutes=1)
    return f"{at:%y%m%d%H%M}{'-' if away < timedelta() else '+'}{minutes // 60:02d}{minutes % 60:02d}"


def wrapped(text: str, width: int = _WIDTH, most: int = _MOST_LINES) -> tuple[str, ...]:
    """A name or a note as lines of a field: characters outside SWIFT's set become points, words stay whole where they
    can, and what does not fit is cut."""
    clean = _NOT_X.sub(".", text.replace("\r", " ").replace("\n", " "))
    lines: list[str] = []
    for word in clean.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += [word[at : at + width] for at in range(0, len(word), width)]
    return tuple(line if line[0] not in ":-/" else f".{line[1:]}" for line in lines[:most])
