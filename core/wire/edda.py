"""eDDA/eDDI codec of HSBC and Hang Seng: REST + JSON, JWS RS256 on both ways (gaps.md B-25; protocols.md).

Rules of the protocol, before any code:

* One interface, two bases (`BASES`), four messages (`ROUTES`). An amount is a string with exactly two decimals.
* A request is signed by a JWS with detached payload (RFC 7515, appendix F) in ``X-JWS-Signature``: the payload is the
  body, empty for a query. Its protected header binds what is asked: method (``htm``), path (``htu``), time (``iat``,
  epoch seconds) and a number used once (``jti``); all four are critical.
* An answer is a compact JWS whose payload is the JSON object. Its protected header binds it to one request (``jti``)
  and to its HTTP status (``sts``): what the bank has not signed for this request is not an answer.
* ``alg`` is RS256 and nothing else; a header that this codec does not know as critical is refused.
* A reference names one instruction for ever: sent again, it is answered with the original and the reason DUPL.
* Reasons of a definite refusal are ISO 20022 codes; HTTP 429 and 409 are said at the bank's door and tell nothing of
  an earlier sending.
* The report on authorisations is CSV with a header line (`REPORT_COLUMNS`).

The codec has no clock, socket or entropy of its own. Whatever bytes come in, the only exceptions that come out are
`WireError` and its direct kinds.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from enum import StrEnum
from typing import Any, Final, NamedTuple, Never

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from core.errors import InvalidAmount
from core.money import parse_wire

MAX_BODY_BYTES: Final = 65_536
HEADER: Final = "X-JWS-Signature"
BASES: Final[dict[str, str]] = {"hsbc": "/hsbc/edda/v1", "hase": "/hase/edda/v1"}
"""Bank -> where its interface stands."""

_PADDING = padding.PKCS1v15()
_DIGEST = hashes.SHA256()
_IDENT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_REQUEST_CRITICAL: Final = ["htm", "htu", "iat", "jti"]
_ANSWER_CRITICAL: Final = ["jti", "sts"]
_NOTHING: Final[Mapping[str, Any]] = {}


# --- messages ---------------------------------------------------------------------------------------------------


class AuthorisationStatus(StrEnum):
    """An eDDA authorisation as the bank writes it (B-25)."""

    INIT = "INIT"
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    REJECTED = "REJECTED"
    SUSPENDED = "SUSPENDED"
    CANCELLED = "CANCELLED"


class DebitStatus(StrEnum):
    """An eDDI debit as the bank writes it."""

    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    RETURNED = "RETURNED"


class Request(NamedTuple):
    """What the broker asks: a message of `ROUTES`, an id where its path has one, a body where it has one."""

    message: str
    ident: str = ""
    body: Mapping[str, Any] | None = None


class Reply(NamedTuple):
    """What the bank answers. A refusal has a ``code`` of `ERRORS` in its data; unknown fields are kept as they came."""

    status: int
    data: Mapping[str, Any] = _NOTHING

    @property
    def code(self) -> str:
        """The code of a refusal; "" if it is none."""
        code = self.data.get("code", "")
        return code if self.status >= 400 and isinstance(code, str) else ""


class Signed(NamedTuple):
    """A request whose signature and time are good. Its ``jti`` has still to be new to the server."""

    request: Request
    key_id: str
    jti: str
    issued_s: int


class Route(NamedTuple):
    method: str
    path: str
    purpose: str


ROUTES: Final[dict[str, Route]] = {
    "create_authorisation": Route("POST", "/authorisations", "ask for an authorisation (eDDA)"),
    "query_authorisation": Route("GET", "/authorisations/{id}", "status of an authorisation"),
    "create_debit": Route("POST", "/direct-debits", "debit the customer (eDDI)"),
    "query_debit": Route("GET", "/direct-debits/{id}", "what became of a debit"),
}
"""Every message of the protocol, by the name that both ends use for it."""

_BY_PATH = {(route.method, route.path.removesuffix("/{id}"), route.path.endswith("{id}")): name
            for name, route in ROUTES.items()}


def path_of(bank: str, request: Request) -> str:
    """The path of a request; an id that could not stand in one raises `MalformedMessage`."""
    path = BASES[bank] + ROUTES[request.message].path
    if "{id}" not in path:
        return path
    if _IDENT.fullmatch(request.ident) is None:
        raise MalformedMessage(f"{request.ident!r} cannot be an id in a path")
    return path.replace("{id}", request.ident)


def find_route(bank: str, method: str, path: str) -> tuple[str, str] | None:
    """(message, id or "") of a method and path; None if the interface has no such message."""
    base = BASES[bank]
    if not path.startswith(base):
        return None
    rest = path[len(base):]
    name = _BY_PATH.get((method, rest, False))
    if name is not None:
        return name, ""
    head, _, ident = rest.rpartition("/")
    name = _BY_PATH.get((method, head, True))
    return (name, ident) if name is not None and _IDENT.fullmatch(ident) else None


# --- refusals ---------------------------------------------------------------------------------------------------


class Treatment(StrEnum):
    """What a code means for the instruction that was sent."""

    FINAL = "final"  # refused, nothing happened, asking again changes nothing
    RETRYABLE = "retryable"  # refused, nothing happened, may be sent again
    RETRY_AT_OPENING = "retry_at_opening"  # refused, nothing happened, may be sent when the window opens
    NOT_FOUND = "not_found"  # the bank knows no such thing
    QUERY_ONLY = "query_only"  # nobody knows what happened


class Meaning(NamedTuple):
    meaning: str
    treatment: Treatment
    http: int
    at_the_door: bool = False  # said before the reference is looked up: tells nothing of an earlier sending of it


ERRORS: Final[dict[str, Meaning]] = {
    "AC01": Meaning("incorrect account number", Treatment.FINAL, 422),
    "AC04": Meaning("closed account", Treatment.FINAL, 422),
    "AM04": Meaning("insufficient funds", Treatment.FINAL, 422),
    "AM14": Meaning("amount exceeds the agreed maximum", Treatment.FINAL, 422),
    "MD01": Meaning("no mandate", Treatment.FINAL, 422),
    "DUPL": Meaning("the reference holds another instruction", Treatment.FINAL, 422),
    "INVALID": Meaning("invalid message", Treatment.FINAL, 400, at_the_door=True),
    "SIGNATURE": Meaning("signature invalid", Treatment.FINAL, 401, at_the_door=True),
    "NOT_FOUND": Meaning("no such authorisation or debit", Treatment.NOT_FOUND, 404),
    "EDDI_RATE": Meaning("more requests in this second than agreed", Treatment.RETRYABLE, 429, at_the_door=True),
    "EDDI_BUSY": Meaning("another request is in work, or this one is out of order", Treatment.RETRYABLE, 409,
                         at_the_door=True),
    "EDDI_CLOSED": Meaning("outside the session", Treatment.RETRY_AT_OPENING, 403),
    "MAINTENANCE": Meaning("maintenance", Treatment.RETRYABLE, 503, at_the_door=True),
    "ERROR": Meaning("internal error (outcome unknown)", Treatment.QUERY_ONLY, 500),
}
"""Every code of a refusal: the ISO 20022 reasons of protocols.md, then the interface's own."""

REASONS: Final = ("AC01", "AC04", "AM04", "AM14", "MD01", "DUPL")
"""ISO 20022 reason codes: also what a failed debit or a rejected authorisation names."""


def treatment(code: str) -> Treatment:
    """How to treat a code; one outside the table says nothing certain."""
    known = ERRORS.get(code)
    return known.treatment if known is not None else Treatment.QUERY_ONLY


def refusal(code: str) -> Reply:
    """The reply that carries a code of the table."""
    meaning = ERRORS[code]
    return Reply(meaning.http, {"code": code, "message": meaning.meaning})


# --- what can be wrong with a message ---------------------------------------------------------------------------


class WireError(Exception):
    """A message that is not a message of this protocol; ``code`` is how the bank answers it."""

    code: str = "INVALID"


class MalformedMessage(WireError):
    """Not JSON, not an object, too long, a path that is none, or a field that is not in its form."""


class BadSignature(WireError):
    """No signature, not that of the named key over these very bytes, or made for another message."""

    code = "SIGNATURE"


class SkewedClock(WireError):
    """The time of signing is further from the reader's clock than allowed."""

    code = "SIGNATURE"


class MalformedReport(WireError):
    """A report that is none as a whole."""


# --- JWS --------------------------------------------------------------------------------------------------------


def encode_part(raw: bytes) -> str:
    """Base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_part(text: str) -> bytes:
    """The bytes of one part; only the one canonical writing of them is taken."""
    if text and _PART.fullmatch(text) is None:
        raise BadSignature("not base64url")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise BadSignature("not base64url") from None
    if encode_part(raw) != text:
        raise BadSignature("not canonical base64url")
    return raw


def sign_jws(protected: Mapping[str, Any], payload: bytes, key: RSAPrivateKey) -> str:
    """A compact JWS, RS256."""
    head = encode_part(dump_json({"alg": "RS256", **protected}))
    signed = f"{head}.{encode_part(payload)}"
    return f"{signed}.{encode_part(key.sign(signed.encode(), _PADDING, _DIGEST))}"


def verify_jws(
    compact: str, key_of: Callable[[str], RSAPublicKey | None], critical: list[str]
) -> tuple[dict[str, Any], bytes]:
    """(protected header, payload) of a compact JWS, if it is signed by the key that it names and has exactly these
    critical headers; else a `WireError`."""
    parts = compact.split(".")
    if len(parts) != 3:
        raise BadSignature("not a compact JWS")
    head, payload, signature = (decode_part(part) for part in parts)
    try:
        protected = parse_object(head)
    except MalformedMessage as fault:
        raise BadSignature(f"protected header: {fault}") from None
    if protected.get("alg") != "RS256" or protected.get("crit") != critical:
        raise BadSignature("alg is RS256, crit names what this protocol has")
    kid = protected.get("kid")
    key = key_of(kid) if isinstance(kid, str) else None
    if key is None:
        raise BadSignature("unknown key")
    try:
        key.verify(signature, f"{parts[0]}.{parts[1]}".encode(), _PADDING, _DIGEST)
    except InvalidSignature:
        raise BadSignature("the signature does not fit the message") from None
    return protected, payload


def sign_request(
    bank: str, request: Request, key_id: str, key: RSAPrivateKey, issued_s: int, jti: str
) -> tuple[str, str, dict[str, str], bytes]:
    """(method, path, headers, body) of a request, signed."""
    method, path = ROUTES[request.message].method, path_of(bank, request)
    body = b"" if request.body is None else dump_json(request.body)
    protected = {"kid": key_id, "crit": _REQUEST_CRITICAL, "htm": method, "htu": path, "iat": issued_s, "jti": jti}
    head, _, signature = sign_jws(protected, body, key).split(".")
    headers = {HEADER: f"{head}..{signature}"}
    if body:
        headers["Content-Type"] = "application/json"
    return method, path, headers, body


def parse_request(
    bank: str, method: str, path: str, headers: Mapping[str, str], body: bytes,
    key_of: Callable[[str], RSAPublicKey | None], *, now_s: int, max_skew_s: int,
) -> Signed:
    """The request in these bytes if it is signed for exactly them, timely and well formed; else a `WireError`."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"{len(body)} bytes are more than {MAX_BODY_BYTES}")
    detached = {name.lower(): value for name, value in headers.items()}.get(HEADER.lower(), "")
    head, _, signature = detached.partition("..")
    if not head or not signature:
        raise BadSignature(f"{HEADER} is missing or not detached")
    protected, _ = verify_jws(f"{head}.{encode_part(body)}.{signature}", key_of, _REQUEST_CRITICAL)
    issued, jti = protected.get("iat"), protected.get("jti")
    if protected.get("htm") != method or protected.get("htu") != path:
        raise BadSignature("signed for another method or path")
    if not isinstance(jti, str) or _IDENT.fullmatch(jti) is None or type(issued) is not int:
        raise BadSignature("jti or iat is not in its form")
    if abs(issued - now_s) > max_skew_s:
        raise SkewedClock(f"signed at {issued}, more than {max_skew_s} s from {now_s}")
    return Signed(_read(bank, method, path, body), protected["kid"], jti, issued)


def _read(bank: str, method: str, path: str, body: bytes) -> Request:
    route = find_route(bank, method, path)
    if route is None:
        raise MalformedMessage(f"there is no {method} {path[:80]}")
    if (ROUTES[route[0]].method == "POST") != bool(body):
        raise MalformedMessage("a body belongs to POST, and to nothing else")
    return Request(route[0], route[1], parse_object(body) if body else None)


def sign_reply(reply: Reply, jti: str, key_id: str, key: RSAPrivateKey) -> bytes:
    """The body of an answer to the request with this ``jti`` (content type ``application/jose``)."""
    protected = {"kid": key_id, "crit": _ANSWER_CRITICAL, "jti": jti, "sts": reply.status}
    return sign_jws(protected, dump_json(reply.data), key).encode()


def parse_reply(
    status: int, body: bytes, jti: str, key_of: Callable[[str], RSAPublicKey | None]
) -> Reply:
    """The bank's answer to the request with this ``jti``; whatever else is in these bytes raises a `WireError`."""
    if len(body) > 2 * MAX_BODY_BYTES:
        raise MalformedMessage(f"{len(body)} bytes are too many")
    try:
        compact = body.decode("ascii")
    except UnicodeDecodeError:
        raise BadSignature("not a compact JWS") from None
    protected, payload = verify_jws(compact, key_of, _ANSWER_CRITICAL)
    if protected.get("jti") != jti or type(protected.get("sts")) is not int or protected["sts"] != status:
        raise BadSignature("an answer to another request, or under another status")
    return Reply(status, parse_object(payload))


# --- JSON -------------------------------------------------------------------------------------------------------


def dump_json(value: Mapping[str, Any]) -> bytes:
    """Compact UTF-8 JSON in the order of the mapping; what JSON cannot hold raises `MalformedMessage`."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedMessage(f"cannot be written as JSON: {error}") from None


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object, read strictly: UTF-8, each key once, no NaN, amounts in wire form."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"{len(body)} bytes are more than {MAX_BODY_BYTES}")
    try:
        orjson.loads(body)  # the strict reader: UTF-8, lone surrogates, depth; it cannot see a key that stands twice
        value = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedMessage("the body is not a JSON object")
    for name in ("amount", "limit"):
        if value.get(name) is not None:
            _check_amount(value[name])
    return value


def _check_amount(written: Any) -> None:
    try:
        parse_wire(written)
    except InvalidAmount as error:
        raise MalformedMessage(str(error)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise MalformedMessage("a key stands twice in one object")
    return read


def _not_a_number(text: str) -> Never:
    raise ValueError(f"{text} is not JSON")


# --- the report on authorisations -------------------------------------------------------------------------------

REPORT_COLUMNS: Final = ("mandate_ref", "status", "change_date", "reason")
MAX_REPORT_BYTES: Final = 16 * 1024 * 1024
_REASON_LENGTH: Final = 64


class ReportRow(NamedTuple):
    """One change of an authorisation; ``change_date`` as yyyymmdd."""

    mandate_ref: str
    status: AuthorisationStatus
    change_date: int
    reason: str


class Report(NamedTuple):
    """What can be read of a report, and what cannot: "line 7: …"."""

    rows: tuple[ReportRow, ...]
    refused: tuple[str, ...]


def write_report(rows: Iterable[ReportRow]) -> bytes:
    """The file: UTF-8, a header line, CRLF."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(REPORT_COLUMNS)
    for row in rows:
        number = row.change_date
        writer.writerow([row.mandate_ref, row.status.value,
                         f"{number // 10_000:04d}-{number // 100 % 100:02d}-{number % 100:02d}", row.reason])
    return text.getvalue().encode()


def parse_report(content: bytes) -> Report:
    """Every row for itself; a file that has not the right header is no report (`MalformedReport`)."""
    if len(content) > MAX_REPORT_BYTES:
        raise MalformedReport(f"larger than {MAX_REPORT_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedReport(f"not UTF-8: {error}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(next(reader, ())) != REPORT_COLUMNS:
            raise MalformedReport(f"the first line is not {','.join(REPORT_COLUMNS)}")
        return _report(reader)
    except csv.Error as error:
        raise MalformedReport(f"line {reader.line_num}: {error}") from None


def _report(reader: Any) -> Report:
    rows: list[ReportRow] = []
    refused: list[str] = []
    for fields in reader:
        read = _report_row(fields)
        if isinstance(read, ReportRow):
            rows.append(read)
        else:
            refused.append(f"line {reader.line_num}: {read}")
    return Report(tuple(rows), tuple(refused))


def _report_row(fields: list[str]) -> ReportRow | str:
    if len(fields) != len(REPORT_COLUMNS):
        return f"{len(fields)} fields, not {len(REPORT_COLUMNS)}"
    mandate, status, changed, reason = fields
    if _IDENT.fullmatch(mandate) is None:
        return "mandate_ref is not in its form"
    if status not in AuthorisationStatus.__members__:
        return f"no status {status[:20]!r}"
    if re.fullmatch(r"\d{4}-\d\d-\d\d", changed, re.ASCII) is None:
        return f"change_date {changed[:20]!r} is not a date"
    try:
        day = date.fromisoformat(changed)
    except ValueError:
        return f"change_date {changed!r} is not a date"
    if len(reason) > _REASON_LENGTH:
        return f"reason has more than {_REASON_LENGTH} characters"
    return ReportRow(mandate, AuthorisationStatus(status), day.year * 10_000 + day.month * 100 + day.day, reason)
