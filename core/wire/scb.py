"""SCB codec: credits of the FPS interface, protobuf in gRPC-Web frames, and the signed webhook (gaps.md B-24, A-49).

Rules of the protocol, before any code:

* The messages are those of ``scb.proto`` (O) in protobuf's wire format (P); ``scb_pb2`` is generated from it.
* A call is gRPC-Web's unary call over HTTP/1.1 (P): ``POST /scb.fps.v1.ScbFps/ScbFpsCredits``, its body one frame:
  flag 0, length (4 bytes), message. The answer is a frame with the message and a frame with flag 0x80 that holds the
  trailers as ``name:value CR LF``; ``grpc-status`` 0 is success. Compression (flag 1) is not used.
* Metadata of a call (O): ``scb-client``, ``scb-time`` (seconds), ``scb-request`` (never used twice), ``scb-sign``:
  base64 of an Ed25519 signature over ``request LF time LF client LF`` and the body. An answer's trailer
  ``scb-sign`` is over ``request LF`` and the message: no answer serves for another call.
* The webhook (O) is a POST with ``CreditNotice``, ``x-scb-time`` (seconds) and ``x-scb-sign``: Ed25519 over ``time LF``
  and the body. A notice that is too old is refused; one that comes again is known by its credit's reference.

HTTP/2 frames are not spoken: grpcio's C core brings threads and a clock of its own, and grpclib reads the machine's
clock for deadlines, so neither runs in virtual time. gRPC-Web carries the same messages over any HTTP line.

The codec has no clock, socket or entropy. Whatever bytes come in, only `WireError` and its kinds come out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from cryptography.exceptions import InvalidSignature
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from core.wire import scb_pb2 as pb
from core.wire.fps import MAX_BODY_BYTES, TO_WIRE, Credit, number_in, ours
from core.wire.fps import checked as credit_checked
from core.wire.numbered import (
    MAX_ITEMS,
    BadSignature,
    Malformed,
    Page,
    Query,
    Refused,
    Unread,
    WireError,
    checked,
    number,
    parted,
    skew_checked,
)
from core.wire.text import shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PATH: Final = "/scb.fps.v1.ScbFps/ScbFpsCredits"
CONTENT_TYPE: Final = "application/grpc-web+proto"
OK: Final = 0
_MESSAGE, _TRAILERS = 0x00, 0x80
_HEAD: Final = 5

STATUS: Final[dict[str, int]] = {"MALFORMED": 3, "SIGNATURE": 16, "CLOCK": 16, "REPLAY": 6, "MAINTENANCE": 14}
"""What the bank says -> ``grpc-status``: INVALID_ARGUMENT, UNAUTHENTICATED, ALREADY_EXISTS, UNAVAILABLE."""


# --- frames -----------------------------------------------------------------------------------------------------


def frame(flag: int, content: bytes) -> bytes:
    """One frame."""
    return bytes((flag,)) + len(content).to_bytes(4) + content


def frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    """(flag, content) of each frame of a body."""
    if len(body) > MAX_BODY_BYTES:
        raise Malformed(f"more than {MAX_BODY_BYTES} bytes")
    at = 0
    while at < len(body):
        end = at + _HEAD + int.from_bytes(body[at + 1:at + _HEAD])
        if end > len(body) or at + _HEAD > len(body):
            raise Malformed("a frame is cut off")
        yield body[at], body[at + _HEAD:end]
        at = end


# --- the call ---------------------------------------------------------------------------------------------------


def encode_query(query: Query, client: str, now_ms: int, key: Ed25519PrivateKey) -> tuple[dict[str, str], bytes]:
    """(headers, body) of a call."""
    body = frame(_MESSAGE, pb.CreditsRequest(since=query.since, limit=query.limit).SerializeToString())
    time = str(now_ms // 1_000)
    return {"content-type": CONTENT_TYPE, "scb-client": client, "scb-time": time, "scb-request": query.request_id,
            "scb-sign": _signed(key, _called(query.request_id, time, client) + body)}, body


def parse_query(headers: Mapping[str, str], body: bytes, client: str, now_ms: int, max_skew_ms: int,
                key: Ed25519PublicKey) -> Query:
    """A call whose signature and time are good. Whether its request id is new the receiver knows."""
    request, time = headers.get("scb-request", ""), headers.get("scb-time", "")
    if headers.get("scb-client") != client:
        raise BadSignature("a client that is not known here")
    _verify(key, headers.get("scb-sign", ""), _called(request, time, client) + body)
    skew_checked(number(time) * 1_000, now_ms, max_skew_ms)
    found = list(frames(body))
    if len(found) != 1 or found[0][0] != _MESSAGE:
        raise Malformed("a call is one frame")
    message = pb.CreditsRequest()
    _parse(message, found[0][1])
    return checked(Query(message.since, message.limit, request), MAX_ITEMS)


def encode_page(page: Page, request_id: str, key: Ed25519PrivateKey) -> bytes:
    """The body of an answer."""
    message = pb.CreditsReply(credits=[_credit(credit) for credit in page.items], last=page.last,
                              more=page.more).SerializeToString(deterministic=True)
    trailers = f"grpc-status:{OK}\r\nscb-sign:{_signed(key, _answered(request_id) + message)}\r\n"
    return frame(_MESSAGE, message) + frame(_TRAILERS, trailers.encode())


def encode_refusal(code: str) -> bytes:
    """The body of a refusal: trailers only."""
    return frame(_TRAILERS, f"grpc-status:{STATUS.get(code, 2)}\r\ngrpc-message:{quote(code)}\r\n".encode())


def parse_page(body: bytes, query: Query, key: Ed25519PublicKey) -> Page:
    """The answer to this query, if it is the bank's."""
    found = list(frames(body))
    if not found or found[-1][0] != _TRAILERS:
        raise Malformed("an answer ends in trailers")
    trailers = _trailers(found[-1][1])
    if trailers.get("grpc-status") != str(OK):
        raise Refused(unquote(trailers.get("grpc-message", ""))[:16] or "UNKNOWN")
    if len(found) != 2 or found[0][0] != _MESSAGE:
        raise Malformed("an answer is one message and trailers")
    _verify(key, trailers.get("scb-sign", ""), _answered(query.request_id) + found[0][1])
    message = _RawReply()
    _parse(message, found[0][1])
    if len(message.credits) > MAX_ITEMS:
        raise Malformed(f"{len(message.credits)} credits are more than {MAX_ITEMS}")
    items, spoilt = parted(map(_one, message.credits))
    return Page(items, message.last, message.more, spoilt)


def _trailers(content: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in content.decode("latin-1").split("\r\n")[:-1]:
        name, colon, value = line.partition(":")
        if not colon or name.lower() in found:
            raise Malformed("trailers that are none")
        found[name.lower()] = value.strip()
    return found


def _called(request: str, time: str, client: str) -> bytes:
    return f"{request}\n{time}\n{client}\n".encode("utf-8", "replace")


def _answered(request: str) -> bytes:
    return f"{request}\n".encode()


# --- the webhook ------------------------------------------------------------------------------------------------


def encode_notice(credit: Credit, now_ms: int, key: Ed25519PrivateKey) -> tuple[dict[str, str], bytes]:
    """(headers, body) of a notice."""
    body = pb.CreditNotice(credit=_credit(credit)).SerializeToString(deterministic=True)
    time = str(now_ms // 1_000)
    return {"content-type": "application/x-protobuf", "x-scb-time": time,
            "x-scb-sign": _signed(key, f"{time}\n".encode() + body)}, body


def parse_notice(headers: Mapping[str, str], body: bytes, now_ms: int, max_skew_ms: int,
                 key: Ed25519PublicKey) -> Credit:
    """The credit of a notice that is the bank's, and no old one."""
    if len(body) > MAX_BODY_BYTES:
        raise Malformed(f"more than {MAX_BODY_BYTES} bytes")
    time = headers.get("x-scb-time", "")
    _verify(key, headers.get("x-scb-sign", ""), f"{time}\n".encode("utf-8", "replace") + body)
    skew_checked(number(time) * 1_000, now_ms, max_skew_ms)
    message = _RawNotice()
    _parse(message, body)
    return _read(message.credit)


# --- parts ------------------------------------------------------------------------------------------------------


def _signed(key: Ed25519PrivateKey, data: bytes) -> str:
    return base64.b64encode(key.sign(data)).decode()


def _verify(key: Ed25519PublicKey, signature: str, data: bytes) -> None:
    try:
        key.verify(base64.b64decode(signature, validate=True), data)
    except (InvalidSignature, binascii.Error, ValueError):
        raise BadSignature("the signature is not good for these bytes") from None


def _raw_messages() -> tuple[Any, Any]:
    """`CreditsReply` and `CreditNotice` with bytes in place of texts: the same on the wire. Protobuf refuses a whole
    message for one text that is not UTF-8; read like this, such a credit costs only itself."""
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    for kind in file.message_type:
        for field in kind.field:
            if field.type == field.TYPE_STRING:
                field.type = field.TYPE_BYTES
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    reply, notice = (pool.FindMessageTypeByName(f"scb.fps.v1.{name}") for name in ("CreditsReply", "CreditNotice"))
    return message_factory.GetMessageClass(reply), message_factory.GetMessageClass(notice)


_RawReply, _RawNotice = _raw_messages()


def _parse(message: Message, data: bytes) -> None:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise Malformed(f"protobuf: {error}"[:160]) from None


def _credit(credit: Credit) -> pb.Credit:
    return pb.Credit(
        number=credit.number, reference=credit.reference, account=credit.account,
        payee_kind=credit.payee_kind, payee=credit.payee, currency=TO_WIRE[credit.ccy],
        amount=credit.amount, credited_at=credit.time_ms // 1_000, payer_name=credit.name,
        payer_account=credit.payer_account, remark=credit.remark)


def _one(said: Any) -> Credit | Unread:
    try:
        return _read(said)
    except Malformed as wrong:
        told = {field.name: value for field, value in said.ListFields()}
        return Unread(number_in(said.number), str(wrong), shown(told))


def _read(said: Any) -> Credit:
    """A credit with bytes for texts."""
    kind = pb.PayeeKind.Name(said.payee_kind) if said.payee_kind in pb.PayeeKind.values() else str(said.payee_kind)
    reference, account, payee, currency, amount, name, payer_account, remark = (
        _text(said, field) for field in ("reference", "account", "payee", "currency", "amount", "payer_name",
                                         "payer_account", "remark"))
    return credit_checked(Credit(
        said.number, reference, account, kind, payee, ours(currency), amount, said.credited_at * 1_000, name,
        payer_account, remark))


def _text(said: Any, field: str) -> str:
    value: bytes = getattr(said, field)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{field} is not UTF-8") from None


__all__ = ["CONTENT_TYPE", "PATH", "WireError", "encode_notice", "encode_page", "encode_query", "encode_refusal",
           "parse_notice", "parse_page", "parse_query"]
