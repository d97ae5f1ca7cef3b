"""Airstar BST codec: REST + JSON with RSA-SHA256 signed requests (gaps.md B-07; AIR-06, AIR-08).

Rules of the protocol, before any code:

* A request carries ``X-App-Id``, ``X-Timestamp`` (epoch ms), ``X-Nonce`` and ``X-Sign``, the base64 of an RSA
  PKCS#1 v1.5 SHA-256 signature over ``method \\n path \\n timestamp \\n nonce \\n SHA256(body)``. The path includes
  the query string, if there is one; the digest is lower-case hex; there is no line end after it.
* A timestamp further than the allowed skew from the bank's clock, and a nonce used before, are refused.
* A reply is ``{code, message, data}``; code 0 means accepted. Replies are not signed: TLS vouches for them.
* An amount is a string with exactly two decimals. Fields that the codec does not know are kept as they came.
* A reference (bank_ref_id, transfer_ref_id, client_ref) names one instruction for ever: sent again, it is answered
  with the original's id and code 140630003, and nothing happens twice.

The codec has no clock, socket or entropy of its own: the caller gives the time, the nonce and the keys. Whatever
bytes come in, the only exceptions that come out are `WireError` and its direct kinds.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, Never
from urllib.parse import parse_qsl, urlencode

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from core.errors import InvalidAmount
from core.money import parse_wire

MAX_BODY_BYTES: Final = 65_536
"""Longest body, of a request or a reply; a longer one is malformed."""

_PADDING = padding.PKCS1v15()
_DIGEST = hashes.SHA256()
_TIMESTAMP = re.compile(r"\d{1,15}", re.ASCII)
_NONCE = re.compile(r"[A-Za-z0-9_-]{8,64}", re.ASCII)
_IDENT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_NOTHING: Final[Mapping[str, Any]] = {}


# --- messages ---------------------------------------------------------------------------------------------------


class Request(NamedTuple):
    """What the broker asks. ``body`` is None where the message has none; amounts in it are wire strings."""

    method: str
    path: str
    query: Mapping[str, str] = _NOTHING
    body: Mapping[str, Any] | None = None


class Reply(NamedTuple):
    """What the bank answers: HTTP status, code (0 accepted, else a key of `ERRORS`), text, fields, unknown fields."""

    status: int
    code: int
    message: str
    data: Mapping[str, Any] = _NOTHING
    extra: Mapping[str, Any] = _NOTHING


class Signed(NamedTuple):
    """A request whose signature and time are good. The nonce still has to pass the server's `NonceMemory`."""

    request: Request
    app_id: str
    timestamp_ms: int
    nonce: str


class TransactionStatus(StrEnum):
    """Status of a deposit or withdrawal at the bank; REFUNDED belongs to deposits only."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    REFUNDED = "REFUNDED"


class Route(NamedTuple):
    method: str
    path: str
    purpose: str


ROUTES: Final[dict[str, Route]] = {
    "create_mandate": Route("POST", "/bst/v1/mandates", "create an authorization"),
    "query_mandate": Route("GET", "/bst/v1/mandates/{id}", "status of an authorization"),
    "close_mandate": Route("POST", "/bst/v1/mandates/{id}/close", "close an authorization"),
    "deposit": Route("POST", "/bst/v1/deposits", "debit the customer, credit the broker"),
    "query_deposit": Route("GET", "/bst/v1/deposits/{id}", "poll a deposit"),
    "withdraw": Route("POST", "/bst/v1/withdrawals", "pay the customer"),
    "query_withdrawal": Route("GET", "/bst/v1/withdrawals/{id}", "poll a withdrawal"),
    "find_withdrawal": Route("GET", "/bst/v1/withdrawals", "poll a withdrawal by ?ref= (transfer_ref_id)"),
    "bank_requests": Route("GET", "/bst/v1/bank-requests", "what began at the bank: IN, OUT, and REFUND (ours)"),
    "acknowledge": Route("POST", "/bst/v1/bank-requests/{id}/ack", "accept or refuse what a customer began"),
    "ping": Route("GET", "/bst/v1/ping", "health"),
}
"""Every message of the protocol, by the name that both ends use for it."""

_EXACT = {(route.method, route.path): name for name, route in ROUTES.items() if "{id}" not in route.path}
_ITEM = {
    (route.method, route.path.removesuffix("/{id}")): name
    for name, route in ROUTES.items()
    if route.path.endswith("/{id}")
}
_ACTION = {
    (route.method, *route.path.split("/{id}/")): name for name, route in ROUTES.items() if "/{id}/" in route.path
}


def build_request(
    name: str, ident: str = "", query: Mapping[str, str] = _NOTHING, body: Mapping[str, Any] | None = None
) -> Request:
    """The request of a message in `ROUTES`; an id that could not stand in a path raises `MalformedMessage`."""
    route = ROUTES[name]
    if not ident:
        return Request(route.method, route.path, query, body)
    if _IDENT.fullmatch(ident) is None:
        raise MalformedMessage(f"{ident!r} cannot be an id in a path")
    return Request(route.method, route.path.replace("{id}", ident), query, body)


def find_route(method: str, path: str) -> tuple[str, str] | None:
    """(message name, id or "") of a method and path; None if the protocol has no such message."""
    name = _EXACT.get((method, path))
    if name is not None:
        return name, ""
    head, _, tail = path.rpartition("/")
    name, ident = _ITEM.get((method, head)), tail
    if name is None:
        prefix, _, ident = head.rpartition("/")
        name = _ACTION.get((method, prefix, tail))
    return (name, ident) if name is not None and _IDENT.fullmatch(ident) else None


# --- error codes ------------------------------------------------------------------------------------------------


class Treatment(StrEnum):
    """What a code means for the instruction that was sent (AIR-06)."""

    FINAL = "final"  # refused, nothing happened, asking again changes nothing
    RETRYABLE = "retryable"  # refused, nothing happened, may be sent again
    RETRY_AT_OPENING = "retry_at_opening"  # refused, nothing happened, may be sent when the window opens
    DUPLICATE = "duplicate"  # already known under this reference: the original stands
    QUERY_ONLY = "query_only"  # nobody knows what happened: ask, never guess
    NOT_FOUND = "not_found"  # the bank knows no such thing


class Meaning(NamedTuple):
    meaning: str
    treatment: Treatment
    http: int = 200
    at_the_door: bool = False  # refused before the reference is looked up: says nothing of an earlier send of it


ERRORS: Final[dict[int, Meaning]] = {
    140630001: Meaning("invalid parameter", Treatment.FINAL, 400, at_the_door=True),
    140630002: Meaning("signature invalid", Treatment.FINAL, 401, at_the_door=True),
    140630003: Meaning("duplicate reference", Treatment.DUPLICATE),
    140630004: Meaning("mandate not found", Treatment.FINAL, 404),
    140630005: Meaning("mandate not open", Treatment.FINAL),
    140630006: Meaning("card or account closed", Treatment.FINAL),
    140630007: Meaning("insufficient customer balance", Treatment.FINAL),
    140630008: Meaning("single limit exceeded", Treatment.FINAL),
    140630009: Meaning("daily limit exceeded", Treatment.FINAL),
    140630010: Meaning("outside service window", Treatment.RETRY_AT_OPENING),
    140630011: Meaning("currency not supported", Treatment.FINAL),
    140630012: Meaning("market not bound", Treatment.FINAL),
    140630013: Meaning("name mismatch", Treatment.FINAL),
    140630014: Meaning("rejected by bank risk control", Treatment.FINAL),
    140630015: Meaning("beneficiary account frozen", Treatment.FINAL),
    140630016: Meaning("system busy", Treatment.RETRYABLE, at_the_door=True),
    140630017: Meaning("downstream timeout (outcome unknown)", Treatment.QUERY_ONLY),
    140630018: Meaning("request not found", Treatment.NOT_FOUND, 404),
    140630019: Meaning("already refunded", Treatment.FINAL),
    140630020: Meaning("maintenance", Treatment.RETRYABLE, at_the_door=True),
    140630999: Meaning("unknown error (outcome unknown)", Treatment.QUERY_ONLY),
}
"""140630xxx (gaps.md B-07): the one list of the bank's error codes."""

INVALID_PARAMETER: Final = 140630001
SIGNATURE_INVALID: Final = 140630002
SYSTEM_BUSY: Final = 140630016
UNKNOWN_ERROR: Final = 140630999


def treatment(code: int) -> Treatment:
    """How to treat a code; a code outside the table says nothing certain, so it is query only."""
    known = ERRORS.get(code)
    return known.treatment if known is not None else Treatment.QUERY_ONLY


def refusal(code: int, data: Mapping[str, Any] = _NOTHING) -> Reply:
    """The reply that carries an error code of the table, with its own text."""
    meaning = ERRORS[code]
    return Reply(meaning.http, code, meaning.meaning, data)


# --- what can be wrong with a message ---------------------------------------------------------------------------


class WireError(Exception):
    """A message that is not a message of this protocol; ``code`` is how the bank answers it."""

    code: int = INVALID_PARAMETER


class MissingHeader(WireError):
    """A signing header is absent or not in its form."""

    code = SIGNATURE_INVALID


class SkewedClock(WireError):
    """The timestamp is further from the bank's clock than allowed."""

    code = SIGNATURE_INVALID


class BadSignature(WireError):
    """The signature is not that of the named application over these very bytes."""

    code = SIGNATURE_INVALID


class ReusedNonce(WireError):
    """The nonce was used before: a replay."""

    code = SIGNATURE_INVALID


class NonceMemoryFull(WireError):
    """More nonces are alive than the memory may hold: refused rather than let a replay through."""

    code = SYSTEM_BUSY


class MalformedMessage(WireError):
    """Not JSON, not an object, too long, a bad query string, or not a reply."""


class DuplicateKey(WireError):
    """A JSON object names a key twice: two readers could read two different amounts."""


class WrongAmount(WireError):
    """An amount that is not a string of digits with two decimals."""


# --- signing ----------------------------------------------------------------------------------------------------


def canonical(method: str, target: str, timestamp: str, nonce: str, body: bytes) -> bytes:
    """The bytes that are signed. ``target`` is the path with the query string, as on the request line."""
    return f"{method}\n{target}\n{timestamp}\n{nonce}\n{hashlib.sha256(body).hexdigest()}".encode()


def target_of(request: Request) -> str:
    """Path and query string as they stand on the request line."""
    return f"{request.path}?{urlencode(request.query)}" if request.query else request.path


def nonce_of(entropy: bytes) -> str:
    """A nonce from the caller's entropy (16 bytes are enough)."""
    return entropy.hex()


def sign_request(
    request: Request, app_id: str, private_key: RSAPrivateKey, timestamp_ms: int, nonce: str
) -> tuple[dict[str, str], bytes]:
    """(headers, body) of a request signed by an application at a time with a nonce of 8-64 characters."""
    body = b"" if request.body is None else dump_json(request.body)
    signed = canonical(request.method, target_of(request), str(timestamp_ms), nonce, body)
    headers = {
        "X-App-Id": app_id,
        "X-Timestamp": str(timestamp_ms),
        "X-Nonce": nonce,
        "X-Sign": base64.b64encode(private_key.sign(signed, _PADDING, _DIGEST)).decode(),
    }
    if body:
        headers["Content-Type"] = "application/json"
    return headers, body


def parse_request(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    key_of: Callable[[str], RSAPublicKey | None],
    *,
    now_ms: int,
    max_skew_ms: int,
) -> Signed:
    """The request in these bytes if it is signed, timely and well formed; else a `WireError`.

    ``path`` and ``query`` are the two parts of the request target as sent (``query`` without the question mark),
    ``key_of`` gives the public key of an application id or None, ``now_ms`` is the bank's clock.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    app_id = _header(fields, "x-app-id", _IDENT)
    timestamp = _header(fields, "x-timestamp", _TIMESTAMP)
    nonce = _header(fields, "x-nonce", _NONCE)
    signature = fields.get("x-sign")
    if not signature:
        raise MissingHeader("x-sign is missing")
    if abs(int(timestamp) - now_ms) > max_skew_ms:
        raise SkewedClock(f"timestamp {timestamp} is more than {max_skew_ms} ms from {now_ms}")
    target = f"{path}?{query}" if query else path
    _verify(method, target, timestamp, nonce, body, signature, key_of(app_id))
    return Signed(
        Request(method, path, _parse_query(query), _parse_object(body) if body else None), app_id, int(timestamp), nonce
    )


def _header(fields: Mapping[str, str], name: str, form: re.Pattern[str]) -> str:
    value = fields.get(name, "")
    if form.fullmatch(value) is None:
        raise MissingHeader(f"{name} is missing or malformed")
    return value


def _verify(
    method: str, target: str, timestamp: str, nonce: str, body: bytes, signature: str, key: RSAPublicKey | None
) -> None:
    if key is None:
        raise BadSignature("unknown application")
    if not (method.isascii() and target.isascii()):
        raise BadSignature("the request target is not ASCII")
    try:
        raw = base64.b64decode(signature, validate=True)
        key.verify(raw, canonical(method, target, timestamp, nonce, body), _PADDING, _DIGEST)
    except (InvalidSignature, binascii.Error, ValueError):
        raise BadSignature("the signature does not fit the request") from None


class NonceMemory:
    """Nonces seen within the time in which their timestamps would still pass; bounded.

    A timestamp lies at most ``max_skew_ms`` ahead of the clock and passes for ``max_skew_ms`` after its time, so a
    nonce seen now cannot come back later than ``2 * max_skew_ms`` from now.
    """

    __slots__ = ("_keep_ms", "_limit", "_seen")

    def __init__(self, max_skew_ms: int, limit: int) -> None:
        self._keep_ms = 2 * max_skew_ms
        self._limit = limit
        self._seen: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def use(self, signed: Signed, now_ms: int) -> None:
        """Remember the nonce of a verified request; `ReusedNonce` if it is known, `NonceMemoryFull` at the limit."""
        self._forget(now_ms)
        key = (signed.app_id, signed.nonce)
        if key in self._seen:
            raise ReusedNonce(f"nonce {signed.nonce} was used before")
        if len(self._seen) >= self._limit:
            raise NonceMemoryFull(f"{self._limit} nonces are alive")
        self._seen[key] = now_ms

    def _forget(self, now_ms: int) -> None:
        """Drop what can no longer be replayed, oldest first."""
        oldest = now_ms - self._keep_ms
        while self._seen:
            key, seen_ms = next(iter(self._seen.items()))
            if seen_ms >= oldest:
                return
            del self._seen[key]


# --- replies ----------------------------------------------------------------------------------------------------


def encode_reply(reply: Reply) -> tuple[int, bytes]:
    """(HTTP status, body) of a reply."""
    envelope = {**reply.extra, "code": reply.code, "message": reply.message, "data": reply.data}
    return reply.status, dump_json(envelope)


def parse_reply(status: int, body: bytes) -> Reply:
    """The reply in these bytes; a body that is not an envelope raises a `WireError`."""
    envelope = _parse_object(body)
    code, message, data = envelope.pop("code", None), envelope.pop("message", ""), envelope.pop("data", None)
    if type(code) is not int or not isinstance(message, str):
        raise MalformedMessage("a reply has an integer code and a text message")
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise MalformedMessage("the data of a reply is an object")
    _check_amounts(data)
    return Reply(status, code, message, data, envelope)


# --- JSON -------------------------------------------------------------------------------------------------------


def dump_json(value: Mapping[str, Any]) -> bytes:
    """Compact UTF-8 JSON in the order of the mapping; what JSON cannot hold raises `MalformedMessage`."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"cannot be written as JSON: {error}") from None


def _parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object, read strictly: UTF-8, no duplicate keys, no NaN or Infinity, amounts in wire form."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"{len(body)} bytes are more than {MAX_BODY_BYTES}")
    try:
        orjson.loads(body)  # the strict reader: UTF-8, lone surrogates, depth; it cannot see duplicate keys
        value = json.loads(
            body.decode(), object_pairs_hook=_unique, parse_float=_finite, parse_constant=_not_a_number
        )
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedMessage("the body is not a JSON object")
    _check_amounts(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise DuplicateKey("a key stands twice in one object")
    return read


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _not_a_number(text: str) -> Never:
    raise ValueError(f"{text} is not JSON")


def _check_amounts(fields: Mapping[str, Any]) -> None:
    """Refuse an ``amount`` that is not in wire form, in an object and in the ``items`` of a list reply."""
    amount = fields.get("amount")
    if amount is not None:
        try:
            parse_wire(amount)
        except InvalidAmount as error:
            raise WrongAmount(str(error)) from None
    items = fields.get("items")
    if isinstance(items, list):
        for item in items:
            if isinstance(item, dict):
                _check_amounts(item)


def _parse_query(query: str) -> dict[str, str]:
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=16, errors="strict")
    except ValueError as error:
        raise MalformedMessage(f"query string: {error}") from None
    read = dict(pairs)
    if len(read) != len(pairs):
        raise MalformedMessage("query string: a name stands twice")
    return read
