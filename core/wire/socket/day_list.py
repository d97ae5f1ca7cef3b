"""CMB's day list over HTTP, sans-IO: the request's target and signature, the answer's payload and signature
(PROTOCOL.md §9; gaps.md B-43).

The signature of the request is over ``LIST``, magic, version byte, and the target as it stands in the request line; the
one of the answer is that of a sealed body. Both are SM2 with SM3.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from core.wire.sm2 import CryptoError, Entropy
from core.wire.socket.fields import Kind, read_value
from core.wire.socket.frames import VERSION, BadSignature, FrameType, MalformedMessage
from core.wire.socket.handshake import SIGNATURE_BYTES, Crypto, Sm2Use, message_signed
from core.wire.socket.layout import Flavour
from core.wire.socket.messages import DAY_LIST, Message, check_message

PATH: Final = "/day-list"
MAX_TARGET: Final = 300
# Only characters that no URL escapes and no field separates: a target has one reading.
_TARGET: Final = re.compile(
    r"/day-list\?broker=([0-9A-Za-z._~-]{1,12})&serial=([0-9A-Za-z._~-]{1,32})"
    r"&since=(0|[1-9][0-9]{0,15})&date=([0-9]{8})?&at=([0-9]{14})"
)


class ListQuery(NamedTuple):
    """Every push after ``since_seq``; of one business day (YYYYMMDD) or, with "", of all. ``at``: when it was signed,
    YYYYMMDDHHMMSS in Hong Kong."""

    broker: str
    certificate_serial: str
    since_seq: int
    business_date: str
    at: str


def target_of(query: ListQuery) -> str:
    """The request target: path and query string, in this one form."""
    target = (f"{PATH}?broker={query.broker}&serial={query.certificate_serial}&since={query.since_seq}"
              f"&date={query.business_date}&at={query.at}")
    if _TARGET.fullmatch(target) is None:
        raise MalformedMessage(f"a day-list request that nobody would read: {target}")
    return target


def sign_query(flavour: Flavour, query: ListQuery, private: bytes, sm2: Sm2Use, entropy: Entropy) -> str:
    """The header ``X-Signature``: 128 hexadecimal digits."""
    return sm2.sign(private, _signed(flavour, target_of(query)), entropy=entropy).hex()


def read_query(
    flavour: Flavour, target: str, signature_hex: str, broker_public: Callable[[str, str], bytes | None], sm2: Sm2Use
) -> ListQuery:
    """The request, if it is in its one form and signed by the broker it names; `MalformedMessage`, `BadSignature`."""
    found = _TARGET.fullmatch(target) if len(target) <= MAX_TARGET else None
    if found is None:
        raise MalformedMessage("no day-list request in its one form")
    query = ListQuery(found[1], found[2], int(found[3]), found[4] or "", found[5])
    for date in filter(None, (query.business_date, query.at[:8])):
        read_value(Kind.DATE, date, "date")
    read_value(Kind.TIME, query.at[8:], "at")
    public = broker_public(query.broker, query.certificate_serial)
    if public is None or not _verified(sm2, public, _signed(flavour, target), _unhex(signature_hex)):
        raise BadSignature("the day-list request is not signed by the broker it names")
    return query


def encode_list(flavour: Flavour, message: Message, private: bytes, sm2: Sm2Use, entropy: Entropy) -> bytes:
    """One fragment of a day list as the body of an answer: payload and the bank's signature."""
    check_message(message)
    payload = flavour.encode(message)
    crypto = Crypto(sm2, entropy, flavour.magic)
    return payload + sm2.sign(private, message_signed(crypto, message.kind, message.command, payload), entropy=entropy)


def decode_list(flavour: Flavour, data: bytes, bank_public: bytes, sm2: Sm2Use) -> Message:
    """The fragment, if the bank signed it; `BadSignature` or `MalformedMessage` if not."""
    payload, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    crypto = Crypto(sm2, _no_entropy, flavour.magic)
    if not _verified(sm2, bank_public, message_signed(crypto, FrameType.RESPONSE, DAY_LIST, payload), signature):
        raise BadSignature("the day list is not signed by the bank")
    return flavour.decode(FrameType.RESPONSE, DAY_LIST, payload)


def _signed(flavour: Flavour, target: str) -> bytes:
    return b"LIST" + flavour.magic + bytes([VERSION]) + target.encode("ascii")


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{128}", text) else b""


def _verified(sm2: Sm2Use, public: bytes, signed: bytes, signature: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        return sm2.verify(public, signed, signature)
    except CryptoError:
        return False


def _no_entropy(size: int) -> bytes:
    raise AssertionError(f"reading draws nothing, {size} bytes were asked for")
