"""Notification mailbox codec: JSON lines, one incoming transfer each (gaps.md B-44; STMT-11).

    {"no":12,"bank":"dbs","ref":"DBS000000000012","ccy":"HKD","amount":"1000.00","name":"CHAN TAI MAN",
     "last4":"4321","time":"2026-03-12T09:30:01+08:00"}     (on one line)

* ``bank``, ``ref``, ``ccy``, ``amount``, ``name``, ``last4`` and ``time`` are those of B-44. ``no`` is the number of
  the notification in its mailbox, from 1 without gaps; in a file that somebody hands over it may be missing. A bank
  may name the payer's whole account besides (``account``, ours: ZA's rule of matching needs it, B-09). What is more is
  ignored.
* Each line stands for itself: one that cannot be read is told with its line and why, and the others are good.
* Currency: HKD, USD, CNH (or CNY, as banks write it). ``time`` has an offset. An amount is more than nothing.

``read`` raises nothing. There is no clock, key or socket here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from core.clock import epoch_ms, hkt
from core.errors import InvalidAmount
from core.money import parse_wire
from core.wire.numbered import MAX_NUMBER, TIMES_MS
from core.wire.text import refused_in, shown

PATH: Final = "/notifications"
MAX_LINE: Final = 4_096
_CCY: Final = {"HKD": "HKD", "USD": "USD", "CNH": "CNH", "CNY": "CNH"}
_BANK = re.compile(r"[a-z]{2,16}", re.ASCII)
_REF = re.compile(r"[!-~]{1,64}", re.ASCII)
_ACCOUNT = re.compile(r"[0-9A-Za-z-]{0,34}", re.ASCII)
_LAST4 = re.compile(r"[0-9A-Za-z]{0,4}", re.ASCII)
_IS: Final = {_BANK: "2 to 16 small letters", _REF: "1 to 64 ASCII characters without spaces",
              _ACCOUNT: "at most 34 digits, letters or hyphens", _LAST4: "at most 4 digits or letters"}
"""Form -> what has it."""
_CCY_CHARS: Final = 64  # a longer one is told as what it is: none of ours


class Notice(NamedTuple):
    """One incoming transfer; ``amount`` as on the wire, ``number`` 0 where there is none."""

    number: int
    bank: str
    reference: str
    ccy: str
    amount: str
    name: str
    last4: str
    time_ms: int
    account: str = ""


class BadLine(NamedTuple):
    """A line that cannot be read, counted from 1; ``number`` is its notification's, if that can be read (else 0), and
    ``said`` what stands in it."""

    line: int
    reason: str
    number: int = 0
    said: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class _Wrong(Exception):
    """Why a line cannot be read."""


def encode(notice: Notice) -> bytes:
    """One line, its end included."""
    said: dict[str, Any] = {"no": notice.number} if notice.number else {}
    said |= {"bank": notice.bank, "ref": notice.reference, "ccy": notice.ccy, "amount": notice.amount,
             "name": notice.name, "last4": notice.last4,
             "time": hkt(notice.time_ms).isoformat(timespec="seconds")}
    said |= {"account": notice.account} if notice.account else {}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def read(data: bytes) -> Iterator[Notice | BadLine]:
    """All lines in their order, each read or refused; empty ones are none."""
    return (found for _, found in lines(data))


def lines(data: bytes) -> Iterator[tuple[int, Notice | BadLine]]:
    """The same, each with its number from 1."""
    for line, content in enumerate(data.split(b"\n"), 1):
        if content.strip():
            yield line, _line(line, content)


def _line(line: int, content: bytes) -> Notice | BadLine:
    number = 0
    try:
        said = _object(content)
        number = _number(said)
        return _notice(number, said)
    except _Wrong as wrong:
        return BadLine(line, str(wrong), number, shown(content.strip()))


def _object(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_LINE:
        raise _Wrong(f"longer than {MAX_LINE} bytes")
    try:
        said = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise _Wrong("not JSON in UTF-8") from None
    if not isinstance(said, dict):
        raise _Wrong("not a JSON object")
    return said


def _number(said: dict[str, Any]) -> int:
    number = said.get("no", 0)
    if type(number) is not int or not 0 <= number <= MAX_NUMBER:
        raise _Wrong(f"no: {str(number)[:20] if type(number) is int else repr(number)[:22]} is not a whole number from "
                     f"1 to {MAX_NUMBER}")
    return number


def _notice(number: int, said: dict[str, Any]) -> Notice:
    ccy = _text(said, "ccy", _CCY_CHARS)
    if ccy not in _CCY:
        raise _Wrong(f"ccy: {ccy!r} is none of {', '.join(_CCY)}")
    return Notice(number, _shaped(said, "bank", _BANK), _shaped(said, "ref", _REF), _CCY[ccy], _amount(said),
                  _text(said, "name", 140), _shaped(said, "last4", _LAST4), _moment(said),
                  _shaped(said, "account", _ACCOUNT) if "account" in said else "")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _text(said: dict[str, Any], name: str, most: int) -> str:
    value = said.get(name)
    if not isinstance(value, str):
        raise _Wrong(f"{name}: {'missing' if value is None else 'not a text'}")
    if len(value) > most:
        raise _Wrong(f"{name}: {value[:40]!r}{'…' * (len(value) > 40)} is longer than {most} characters")
    if refused := refused_in(value):
        raise _Wrong(f"{name}: it has the character {refused}")
    return value


def _shaped(said: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = _text(said, name, 64)
    if form.fullmatch(value) is None:
        small = value.lower()
        wanted = repr(small) if form is _BANK and form.fullmatch(small) else _IS[form]
        raise _Wrong(f"{name}: {value[:40]!r} is not {wanted}")
    return value


def _amount(said: dict[str, Any]) -> str:
    value = _text(said, "amount", 20)
    try:
        minor = parse_wire(value)
    except InvalidAmount as wrong:
        raise _Wrong(str(wrong)) from None
    if minor == 0:
        raise _Wrong("amount: nothing was credited")
    return value


def _moment(said: dict[str, Any]) -> int:
    value = _text(said, "time", 40)
    try:
        found = datetime.fromisoformat(value)
        at_ms = epoch_ms(found)
    except (ValueError, OverflowError):
        raise _Wrong(f"time: {value!r} is none") from None
    if found.tzinfo is None or at_ms not in TIMES_MS:
        raise _Wrong(f"time: {value!r} has no offset, or another century")
    return at_ms
