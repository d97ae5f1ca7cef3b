"""CMB flavour: fields of fixed length in GB18030 (gaps.md B-22, design/protocols.md; widths are ours).

* A payload is the header's fields, then the body's, without separators. Widths are bytes.
* Numbers, amounts and result codes stand on the right, filled with zeros on the left (a result code keeps its sign
  in the first byte, ``-005`` or ``0000``); everything else stands on the left, filled with spaces.
* An absent optional field is all spaces. A group is a count of three digits and as many entries.
* A value that does not fit is refused, never cut; so are other paddings and bytes after the last field. So a payload
  that is read is written again byte for byte. There is no room for fields that the tables do not name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple, cast

from core.wire.socket.fields import FORMS, Kind, absent, read_value, write_value
from core.wire.socket.frames import FrameType, MalformedMessage
from core.wire.socket.layout import Flavour, build_message
from core.wire.socket.messages import (
    MAX_ITEMS,
    Answer,
    BankWithdrawal,
    Body,
    DayList,
    DepositPush,
    DepositRequest,
    Header,
    Heartbeat,
    ListItem,
    ListRequest,
    Message,
    Query,
    QueryAnswer,
    ReconciliationItem,
    ReconciliationList,
    ReconciliationRequest,
    ReconciliationTotal,
    Record,
    ReversalRequest,
    SignNotice,
    SignOff,
    SignOn,
    TransferAnswer,
    TransferResult,
    WithdrawalRequest,
    check_message,
)

ENCODING: Final = "gb18030"
_COUNT: Final = struct.Struct("3s")


class Fixed(NamedTuple):
    """A field: attribute, kind, width in bytes; ``label`` is the bank's name for it where it differs."""

    name: str
    kind: Kind
    width: int
    required: bool = True
    label: str = ""


class Group(NamedTuple):
    """A count and entries of one record, at most ``limit``."""

    name: str
    record: type
    limit: int = MAX_ITEMS


_REF = Fixed("transfer_ref", Kind.CODE, 32, label="bank_tx_seq")
_PUSH_SEQ = Fixed("push_seq", Kind.NUMBER, 16)
_RESULT = Fixed("code", Kind.RESULT, 4)
_NAME = Fixed("name", Kind.TEXT, 60)
_CARD = Fixed("card_no", Kind.CODE, 32)
_CCY = Fixed("ccy", Kind.CURRENCY, 3)
_AMOUNT = Fixed("amount", Kind.AMOUNT, 18)
_MARKET = Fixed("market", Kind.CODE, 4)
_ACCOUNT = Fixed("account", Kind.CODE, 20, required=False)
_CERT_TYPE = Fixed("cert_type", Kind.CODE, 2, required=False)
_CERT_NO = Fixed("cert_no", Kind.CODE, 30, required=False)
_TEXT = Fixed("text", Kind.TEXT, 60, required=False)
_SERIAL = Fixed("bank_serial", Kind.CODE, 32, required=False)
_DAY = Fixed("business_date", Kind.DATE, 8)
_CUSTOMER = (_ACCOUNT, _CERT_TYPE, _CERT_NO)
_MONEY = (_NAME, _CARD, _CCY, _AMOUNT, _MARKET)

FIELDS: Final[dict[type, tuple[Fixed | Group, ...]]] = {
    Header: (
        Fixed("version", Kind.CODE, 4),
        Fixed("system_type", Kind.CODE, 1),
        Fixed("instruction", Kind.CODE, 8),
        Fixed("initiator", Kind.PARTY, 1),
        Fixed("sender", Kind.CODE, 12),
        Fixed("receiver", Kind.CODE, 12),
        Fixed("date", Kind.DATE, 8),
        Fixed("time", Kind.TIME, 6),
        Fixed("ref", Kind.CODE, 32),
        Fixed("related_ref", Kind.CODE, 32, required=False),
        Fixed("last_fragment", Kind.FLAG, 1),
    ),
    Heartbeat: (),
    SignOn: (_DAY, Fixed("last_push_seq", Kind.NUMBER, 16)),
    SignOff: (Fixed("reason", Kind.TEXT, 60, required=False),),
    Answer: (_RESULT, _TEXT),
    DepositPush: (_REF, _PUSH_SEQ, *_MONEY, *_CUSTOMER),
    DepositRequest: (_REF, *_MONEY, *_CUSTOMER),
    WithdrawalRequest: (_REF, *_MONEY, Fixed("payee_name", Kind.TEXT, 60, required=False), *_CUSTOMER),
    BankWithdrawal: (_REF, _PUSH_SEQ, *_MONEY, *_CUSTOMER),
    TransferAnswer: (_RESULT, _REF._replace(required=False), _TEXT, _SERIAL),
    TransferResult: (_REF, _PUSH_SEQ, _RESULT, _CCY, _AMOUNT, _TEXT, _SERIAL),
    Query: (_REF,),
    QueryAnswer: (
        _RESULT,
        _REF._replace(required=False),
        Fixed("state", Kind.STATE, 8, required=False),
        Fixed("result", Kind.RESULT, 4, required=False),
        _CCY._replace(required=False),
        _AMOUNT._replace(required=False),
        _TEXT,
        _SERIAL,
        Fixed("kind", Kind.TRANSFER_KIND, 8, required=False),
        _CARD._replace(required=False),
    ),
    ListRequest: (Fixed("since_seq", Kind.NUMBER, 16), _DAY._replace(required=False)),
    ListItem: (
        _PUSH_SEQ,
        Fixed("kind", Kind.LIST_KIND, 8),
        _REF._replace(required=False),
        _RESULT,
        *(field._replace(required=False) for field in _MONEY),
        *_CUSTOMER,
    ),
    DayList: (_RESULT, Group("items", ListItem), _TEXT),
    SignNotice: (_PUSH_SEQ, Fixed("action", Kind.SIGNING, 6), _NAME, _CARD, _MARKET, *_CUSTOMER),
    ReversalRequest: (
        _REF,
        Fixed("original_ref", Kind.CODE, 32),
        _CCY,
        _AMOUNT,
        Fixed("reason", Kind.TEXT, 60, required=False),
    ),
    ReconciliationRequest: (_DAY,),
    ReconciliationItem: (_REF, Fixed("deposit", Kind.FLAG, 1), _CCY, _AMOUNT, _CARD._replace(required=False)),
    ReconciliationTotal: (
        _CCY,
        Fixed("deposits", Kind.NUMBER, 8),
        Fixed("deposited", Kind.AMOUNT, 18),
        Fixed("withdrawals", Kind.NUMBER, 8),
        Fixed("withdrawn", Kind.AMOUNT, 18),
    ),
    ReconciliationList: (
        _RESULT,
        _DAY._replace(required=False),
        Group("totals", ReconciliationTotal, 10),
        Group("items", ReconciliationItem),
        _TEXT,
    ),
}
"""Every field of every record, in the order of the wire."""

_ZERO_FILLED = (Kind.NUMBER, Kind.AMOUNT)
_RIGHT_FILLED = (*_ZERO_FILLED, Kind.RESULT)

# Values of short fields come again and again (who, when, which instruction): the last ones of each are remembered.
_SHORT: Final = 12
_REMEMBERED: Final = 256


# --- writing ----------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """The payload of a message; `MalformedMessage` if a value is not of its kind or does not fit its field."""
    check_message(message)
    parts: list[bytes] = []
    _write_record(message.header, parts)
    _write_record(message.body, parts)
    return b"".join(parts)


def _write_record(record: Record, parts: list[bytes]) -> None:
    if record.extra:
        raise MalformedMessage(f"{record.extra[0].tag}: this flavour has no room for unknown fields")
    for part in _PARTS[type(record)]:
        if isinstance(part, Group):
            _write_group(part, getattr(record, part.name), parts)
        else:
            parts += [write(value) for write, value in zip(part.writers, part.values(record), strict=True)]


def _write_group(group: Group, entries: Sequence[Record], parts: list[bytes]) -> None:
    if len(entries) > group.limit:
        raise MalformedMessage(f"{group.name}: {len(entries)} entries are more than {group.limit}")
    parts.append(b"%03d" % len(entries))
    for entry in entries:
        if type(entry) is not group.record:
            raise MalformedMessage(f"{group.name}: {entry!r} is no {group.record.__name__}")
        _write_record(entry, parts)


def _fill(field: Fixed, value: Any) -> bytes:
    """The bytes of a value, filled up to the width of its field."""
    if value is None or value == "":
        if field.required:
            raise MalformedMessage(f"{field.name} is missing")
        return b" " * field.width
    text = write_value(field.kind, value, field.name).encode(ENCODING)
    if len(text) > field.width:
        raise MalformedMessage(f"{field.name}: {len(text)} bytes are more than {field.width}")
    return _padded(field, text)


def _padded(field: Fixed, text: bytes) -> bytes:
    if field.kind in _ZERO_FILLED:
        return text.rjust(field.width, b"0")
    if field.kind is Kind.RESULT:
        return text.zfill(field.width)
    return text.ljust(field.width)


# --- reading ----------------------------------------------------------------------------------------------------


class _Reader:
    """Takes record after record off a payload."""

    __slots__ = ("_at", "_payload")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def record(self, record: type) -> Any:
        values: dict[str, Any] = {}
        for part in _PARTS[record]:
            if isinstance(part, Group):
                values[part.name] = self._group(part)
            else:
                raws = self._take(part.shape, record)
                found = [read(raw) for read, raw in zip(part.readers, raws, strict=True)]
                values |= zip(part.names, found, strict=True)
        return record(**values)

    def end(self) -> None:
        rest = len(self._payload) - self._at
        if rest:
            raise MalformedMessage(f"{rest} bytes after the last field")

    def _take(self, shape: struct.Struct, record: type) -> tuple[Any, ...]:
        at = self._at
        self._at = at + shape.size
        if self._at > len(self._payload):
            raise MalformedMessage(f"the payload ends within the {record.__name__}")
        return shape.unpack_from(self._payload, at)

    def _group(self, group: Group) -> tuple[Any, ...]:
        (raw,) = self._take(_COUNT, group.record)
        if not raw.isdigit() or int(raw) > group.limit:
            raise MalformedMessage(f"{group.name}: {raw!r} is not a count up to {group.limit}")
        return tuple(self.record(group.record) for _ in range(int(raw)))


def _read(field: Fixed, raw: bytes) -> Any:
    """The value of a field's bytes."""
    stripped = raw.rstrip(b" ")
    if not stripped:
        if field.required:
            raise MalformedMessage(f"{field.name} is missing")
        return absent(field.kind)
    if field.kind in _RIGHT_FILLED:
        stripped = _without_zeros(field, raw)
        if _padded(field, stripped) != raw:
            raise MalformedMessage(f"{field.name}: {raw!r} is not how this value is written")
    return read_value(field.kind, _decoded(field, stripped), field.name)


def _decoded(field: Fixed, raw: bytes) -> str:
    try:
        return raw.decode(ENCODING)
    except UnicodeDecodeError:
        raise MalformedMessage(f"{field.name}: {raw.hex()} is not GB18030") from None


def _without_zeros(field: Fixed, raw: bytes) -> bytes:
    """The bytes of a number's text, without the zeros that filled the field."""
    if field.kind is Kind.NUMBER:
        return raw.lstrip(b"0") or b"0"
    if field.kind is Kind.AMOUNT:
        text = raw.lstrip(b"0")
        return b"0" + text if text.startswith(b".") else text
    digits = raw[1:].lstrip(b"0") or b"0"
    return b"-" + digits if raw.startswith(b"-") else raw.lstrip(b"0") or b"0"


def decode(kind: FrameType, command: str, payload: bytes) -> Message:
    """The message in a payload; a `MalformedMessage` carries the header if that could be read."""
    reader = _Reader(payload)
    header: Header = reader.record(Header)

    def read_body(record: type) -> Body:
        body = reader.record(record)
        reader.end()
        return cast(Body, body)

    message = build_message(kind, command, header, read_body)
    check_message(message)
    return message


# --- the table at work ------------------------------------------------------------------------------------------


class _Run(NamedTuple):
    """Fields that stand side by side, at work: cut by one shape, each read and written by a function of its own."""

    names: tuple[str, ...]
    shape: struct.Struct
    readers: tuple[Callable[[bytes], Any], ...]
    writers: tuple[Callable[[Any], bytes], ...]
    values: Callable[[Any], tuple[Any, ...]]


def _run(fields: Sequence[Fixed]) -> _Run:
    names = tuple(field.name for field in fields)
    shape = struct.Struct("".join(f"{field.width}s" for field in fields))
    several = attrgetter(*names)
    values = several if len(names) > 1 else lambda record: (several(record),)
    return _Run(names, shape, tuple(map(_reader, fields)), tuple(map(_writer, fields)), values)


def _reader(field: Fixed) -> Callable[[bytes], Any]:
    read = partial(_read, field)
    return lru_cache(_REMEMBERED)(read) if field.width <= _SHORT else read


def _writer(field: Fixed) -> Callable[[Any], bytes]:
    write = partial(_fill, field)
    if field.width > _SHORT:
        return write
    known, type_ = lru_cache(_REMEMBERED)(write), FORMS[field.kind].type
    return lambda value: known(value) if type(value) is type_ else write(value)


def _parts(fields: Sequence[Fixed | Group]) -> tuple[_Run | Group, ...]:
    """Runs of fields, and the groups between them."""
    parts: list[_Run | Group] = []
    for _, same in groupby(fields, key=lambda field: field if isinstance(field, Group) else None):
        found = list(same)
        parts.append(found[0] if isinstance(found[0], Group) else _run(cast(Sequence[Fixed], found)))
    return tuple(parts)


_PARTS: Final = {record: _parts(fields) for record, fields in FIELDS.items()}


CMB: Final = Flavour("cmb", b"CMB1", encode, decode)
