"""Kinds of field values, and the one text form that both flavours write of each (gaps.md B-22; forms are ours).

A value has exactly one text: what is written differently is refused, so that nothing changes by being read and
written again. The text of an amount is its wire form ``1234.50``; minor units exist in the adapter only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from enum import StrEnum
from typing import Any, Final, NamedTuple

from core.wire.socket.frames import MalformedMessage


class Party(StrEnum):
    """Initiator of a transaction, and the two ends of a connection (JR/T 0046)."""

    BROKER = "S"
    BANK = "B"


class Signing(StrEnum):
    """What a sign or unsign notice says (A-43: signed is OPEN, unsigned is CLOSED)."""

    SIGN = "SIGN"
    UNSIGN = "UNSIGN"


class TransferState(StrEnum):
    """Where a transfer stands at the bank, as a query answers it."""

    PENDING = "PENDING"  # accepted, no result yet
    DONE = "DONE"  # the result is final: money moved
    FAILED = "FAILED"  # the result is final: no money moved
    NOT_FOUND = "NOTFOUND"  # the bank has never accepted this reference


class TransferKind(StrEnum):
    """What a transfer is, as a query answers it."""

    DEPOSIT = "DEPOSIT"  # money to the broker
    WITHDRAW = "WITHDRAW"  # money to the customer
    REVERSAL = "REVERSAL"  # another transfer taken back, or a customer's request refused


class ListKind(StrEnum):
    """What an entry of a day list is about."""

    DEPOSIT = "DEPOSIT"  # begun at the bank, 200101
    RESULT = "RESULT"  # result of a transfer that we asked for, 200103
    WITHDRAWAL = "WITHDRAW"  # begun at the bank, 200104
    SIGN = "SIGN"  # 200107
    UNSIGN = "UNSIGN"  # 200107


class Kind(StrEnum):
    """Kind of a field; the value is how the protocol reference names it."""

    TEXT = "text"
    CODE = "code"
    ENGLISH = "english"
    NUMBER = "number"
    RESULT = "result"
    AMOUNT = "amount"
    CURRENCY = "currency"
    DATE = "date"
    TIME = "time"
    FLAG = "flag"
    PARTY = "party"
    SIGNING = "signing"
    STATE = "state"
    TRANSFER_KIND = "transfer kind"
    LIST_KIND = "list kind"


def _same(text: str) -> str:
    return text


def _is_day(text: str) -> bool:
    """Whether eight digits name a day of the calendar (the pattern lets 30 February pass)."""
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True


def _yes(text: str) -> bool:
    return text == "Y"


def _yes_or_no(flag: bool) -> str:
    return "Y" if flag else "N"


class Form(NamedTuple):
    """How a kind is written: the pattern of its text, the type of its value, and the way between the two."""

    pattern: re.Pattern[str]
    type: type
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    meaning: str


def _form(pattern: str, type_: type, read: Callable[[str], Any], write: Callable[[Any], str], meaning: str) -> Form:
    return Form(re.compile(pattern, re.ASCII), type_, read, write, meaning)


def _choice(enum: type[StrEnum]) -> Form:
    return _form("|".join(enum), enum, enum, str, "one of " + ", ".join(enum))


# A visible character, in text: no control, no line or paragraph separator, no surrogate, no noncharacter.
_VISIBLE = "[^\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]"

_WORDS = "[A-Za-z][A-Za-z.,'()/-]*(?: [A-Za-z.,'()/-]+)*"

FORMS: Final[dict[Kind, Form]] = {
    Kind.TEXT: _form(f"{_VISIBLE}+(?: +{_VISIBLE}+)*", str, _same, _same, "visible characters, no space at the ends"),
    Kind.CODE: _form("[!-~]+", str, _same, _same, "visible ASCII without spaces"),
    Kind.ENGLISH: _form(_WORDS, str, _same, _same, "English letters and . , ' ( ) / -, single spaces between words"),
    Kind.NUMBER: _form("0|[1-9][0-9]{0,17}", int, int, str, "decimal digits, no leading zeros"),
    Kind.RESULT: _form("0|-?[1-9][0-9]{0,2}", int, int, str, "callback code, no leading zeros, with - if negative"),
    Kind.AMOUNT: _form(r"(?:0|[1-9][0-9]{0,14})\.[0-9]{2}", str, _same, _same,
                       "digits, a point, two decimals, no leading zeros"),
    Kind.CURRENCY: _form("[A-Z]{3}", str, _same, _same, "three capital letters"),
    Kind.DATE: _form("[12][0-9]{3}(?:0[1-9]|1[0-2])[0-3][0-9]", str, _same, _same, "YYYYMMDD, Hong Kong"),
    Kind.TIME: _form("(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]", str, _same, _same, "HHMMSS, Hong Kong"),
    Kind.FLAG: _form("[YN]", bool, _yes, _yes_or_no, "Y or N"),
    Kind.PARTY: _choice(Party),
    Kind.SIGNING: _choice(Signing),
    Kind.STATE: _choice(TransferState),
    Kind.TRANSFER_KIND: _choice(TransferKind),
    Kind.LIST_KIND: _choice(ListKind),
}  # fmt: skip
"""The one list of kinds. ``read`` is only called with a text that fits the pattern."""


def write_value(kind: Kind, value: Any, name: str) -> str:
    """The text of a present value; `MalformedMessage` names the field if it is not of its kind."""
    form = FORMS[kind]
    if type(value) is not form.type:
        raise MalformedMessage(f"{name}: {value!r} is not {form.meaning}")
    text: str = form.write(value)
    if form.pattern.fullmatch(text) is None or (kind is Kind.DATE and not _is_day(text)):
        raise MalformedMessage(f"{name}: {text!r} is not {form.meaning}")
    return text


def read_value(kind: Kind, text: str, name: str) -> Any:
    """The value that a text stands for; `MalformedMessage` names the field if there is none."""
    form = FORMS[kind]
    if form.pattern.fullmatch(text) is None or (kind is Kind.DATE and not _is_day(text)):
        raise MalformedMessage(f"{name}: {text!r} is not {form.meaning}")
    return text if form.type is str else form.read(text)


def absent(kind: Kind) -> str | None:
    """The value of an optional field that is not there."""
    return "" if FORMS[kind].type is str else None
