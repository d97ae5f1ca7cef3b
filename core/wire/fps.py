"""FPS credits, in the words that the codecs of CGB, SCB and Citi share (gaps.md B-23, B-24, A-49; STMT-13).

A payer addresses us by account number (BBAN), FPS identifier (SVID), mobile number (MOBN) or e-mail address (EMAL):
the four kinds are the scheme's. Amounts stay text with two decimals here and become minor units in the adapter. The
scheme's renminbi is CNY; ours is CNH. Each credit of a list stands for itself: one that cannot be read is an `Unread`
under its number, and the others are good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from core.clock import HKT, epoch_ms, hkt
from core.wire.numbered import MAX_ITEMS, MAX_NUMBER, TIMES_MS, Malformed, Unread
from core.wire.text import refused_in, shown

MAX_BODY_BYTES: Final = 262_144
TO_WIRE: Final = {"HKD": "HKD", "USD": "USD", "CNH": "CNY"}
FROM_WIRE: Final = {theirs: ours for ours, theirs in TO_WIRE.items()}

_AMOUNT = re.compile(r"\d{1,15}\.\d{2}", re.ASCII)
_IDENT = re.compile(r"[A-Za-z0-9/_.-]{1,64}", re.ASCII)
_DEEP: Final = 8
_DIGITS: Final = 18


class Payee(StrEnum):
    """How the payer addressed us."""

    BBAN = "BBAN"
    SVID = "SVID"
    MOBN = "MOBN"
    EMAL = "EMAL"


class Credit(NamedTuple):
    """One credit as the bank tells it: ``ccy`` ours, ``amount`` as on the wire, time to the second."""

    number: int
    reference: str
    account: str
    payee_kind: str
    payee: str
    ccy: str
    amount: str
    time_ms: int
    name: str = ""
    payer_account: str = ""
    remark: str = ""


def checked(credit: Credit) -> Credit:
    """The credit, if every field is of its kind."""
    if not 1 <= credit.number <= MAX_NUMBER:
        raise Malformed(f"number {credit.number}")
    for name, value in (("reference", credit.reference), ("account", credit.account)):
        if _IDENT.fullmatch(value) is None:
            raise Malformed(f"{name} {value[:64]!r}")
    if _AMOUNT.fullmatch(credit.amount) is None:
        raise Malformed(f"amount {credit.amount[:40]!r}")
    if credit.payee_kind not in Payee.__members__:
        raise Malformed(f"payee kind {credit.payee_kind[:16]!r}")
    if credit.time_ms not in TIMES_MS or credit.time_ms % 1_000:
        raise Malformed(f"time {credit.time_ms}")
    for name, value, most in (("payee", credit.payee, 254), ("name", credit.name, 140),
                              ("payer's account", credit.payer_account, 64), ("remark", credit.remark, 500)):
        if len(value) > most:
            raise Malformed(f"{name}: {len(value)} characters are more than {most}")
        if refused := refused_in(value):
            raise Malformed(f"{name} has the character {refused}")
    return credit


def ours(ccy: str) -> str:
    """Our currency of the scheme's."""
    if ccy not in FROM_WIRE:
        raise Malformed(f"currency {ccy[:8]!r}")
    return FROM_WIRE[ccy]


def stamp(ms: int) -> str:
    """``20260312093001``, Hong Kong time."""
    return hkt(ms).strftime("%Y%m%d%H%M%S")


def unstamped(text: str) -> int:
    """Epoch ms of such a stamp."""
    if re.fullmatch(r"\d{14}", text, re.ASCII) is None:
        raise Malformed(f"time {text[:20]!r}")
    parts = (text[:4], *(text[at:at + 2] for at in range(4, 14, 2)))
    try:
        return epoch_ms(datetime(*map(int, parts), tzinfo=HKT))  # type: ignore[misc,arg-type]
    except (ValueError, OverflowError):
        raise Malformed(f"time {text[:20]!r}") from None


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def from_json(data: bytes) -> Mapping[str, Any]:
    """A JSON object; no name twice, no depth that this protocol does not have. What a credit has twice spoils that
    credit (`listed`), and a number that is none (``NaN``) is a value of no kind."""
    if len(data) > MAX_BODY_BYTES:
        raise Malformed(f"more than {MAX_BODY_BYTES} bytes")
    if data.count(b"[") + data.count(b"{") > (MAX_ITEMS + 1) * _DEEP:
        raise Malformed("too many objects")
    try:
        found = json.loads(data, object_pairs_hook=_object, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"JSON: {error}"[:160]) from None
    if not isinstance(found, dict):
        raise Malformed("not a JSON object")
    _check_once(found)
    return found


class _Twice(dict[str, Any]):
    """An object in which a name is given twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Twice(found)


def _integer(digits: str) -> int | float:
    """An integer; one of more digits than any of ours is a number of another kind."""
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def _check_once(value: Any, depth: int = _DEEP) -> None:
    if isinstance(value, _Twice):
        raise Malformed("a name is given twice")
    if isinstance(value, dict):
        if depth == 0:
            raise Malformed("objects in objects in objects")
        for inner in value.values():
            _check_once(inner, depth - 1)


def field(of: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    """A value of an object, of its kind; the default where it is absent and has one."""
    value = of.get(name, default)
    if type(value) is not kind:
        raise Malformed(f"{name}: {str(value)[:40]!r}")
    return value


def listed(
    of: Mapping[str, Any], name: str, numbered: str, read: Callable[[Mapping[str, Any]], Credit]
) -> list[Credit | Unread]:
    """The credits of a list, each read or not; ``numbered``: what the bank calls the number of one."""
    rows = field(of, name, list)
    if len(rows) > MAX_ITEMS:
        raise Malformed(f"{len(rows)} credits are more than {MAX_ITEMS}")
    return [_one(row, numbered, read) for row in rows]


def _one(row: Any, numbered: str, read: Callable[[Mapping[str, Any]], Credit]) -> Credit | Unread:
    try:
        if not isinstance(row, dict):
            raise Malformed("not a JSON object")
        _check_once(row)
        return checked(read(row))
    except Malformed as wrong:
        return Unread(number_in(row.get(numbered) if isinstance(row, dict) else None), str(wrong), shown(row))


def number_in(value: Any) -> int:
    """A value as the number of an item, 0 if it is none."""
    return value if type(value) is int and 1 <= value <= MAX_NUMBER else 0
