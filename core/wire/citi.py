"""Citi codec: credits of the FPS API, JSON in signed tokens (A-09, A-49; design/protocols.md, Citi).

Rules of the protocol, before any code:

* ``GET /fps/v1/credits?after=N&limit=M`` (O), with ``Authorization: Bearer`` and a JWT (RFC 7519) whose claims are
  ``iss`` (our client id), ``iat`` (seconds), ``jti`` (never used twice) and ``htu`` (path and query string).
* An answer is a JWS in compact form (RFC 7515) with the claims ``rqi`` (the request's ``jti``) and ``credits``,
  ``last``, ``more``, or ``error``: a refusal. Both are HS256 with the secret that both sides have agreed upon; a token
  that names another algorithm, ``none`` among them, is refused.

The codec has no clock, socket or entropy. Whatever bytes come in, only `WireError` and its kinds come out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from core.clock import epoch_ms, hkt
from core.wire.fps import MAX_BODY_BYTES, TO_WIRE, Credit, field, from_json, listed, ours, to_json
from core.wire.numbered import (
    MAX_ITEMS,
    BadSignature,
    Malformed,
    Page,
    Query,
    Refused,
    checked,
    number,
    parted,
    skew_checked,
)

PATH: Final = "/fps/v1/credits"
_HEADER: Final = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
_BEARER: Final = "Bearer "


def target_of(query: Query) -> str:
    """Path and query string."""
    return f"{PATH}?after={query.since}&limit={query.limit}"


def encode_query(query: Query, client: str, now_ms: int, secret: bytes) -> tuple[str, dict[str, str]]:
    """(target, headers) of a request."""
    target = target_of(query)
    claims = {"iss": client, "iat": now_ms // 1_000, "jti": query.request_id, "htu": target}
    return target, {"authorization": _BEARER + _token(claims, secret).decode()}


def parse_query(target: str, headers: Mapping[str, str], client: str, now_ms: int, max_skew_ms: int,
                secret: bytes) -> Query:
    """A query whose token is good. Whether its ``jti`` is new the receiver knows."""
    given = headers.get("authorization", "")
    if not given.startswith(_BEARER):
        raise BadSignature("no token")
    claims = _claims(given[len(_BEARER):].encode("latin-1", "replace"), secret)
    if (field(claims, "iss", str), field(claims, "htu", str)) != (client, target):
        raise BadSignature("the token is another client's, or for another request")
    skew_checked(field(claims, "iat", int) * 1_000, now_ms, max_skew_ms)
    path, _, asked = target.partition("?")
    pairs = parse_qsl(asked, keep_blank_values=True)
    found = dict(pairs)
    if path != PATH or len(pairs) != 2 or set(found) != {"after", "limit"}:
        raise Malformed(f"target {target[:80]!r}")
    return checked(Query(number(found["after"]), number(found["limit"]), field(claims, "jti", str)), MAX_ITEMS)


def encode_page(page: Page, request_id: str, secret: bytes) -> bytes:
    """The body of an answer."""
    return _token({"rqi": request_id, "credits": [_credit(credit) for credit in page.items], "last": page.last,
                   "more": page.more}, secret)


def encode_refusal(code: str, request_id: str, secret: bytes) -> bytes:
    """The body of a refusal."""
    return _token({"rqi": request_id, "error": code}, secret)


def parse_page(body: bytes, query: Query, secret: bytes) -> Page:
    """The answer to this query, if it is the bank's."""
    said = _claims(body, secret)
    if field(said, "rqi", str) != query.request_id:
        raise BadSignature("an answer to another request")
    if "error" in said:
        raise Refused(field(said, "error", str)[:16])
    items, spoilt = parted(listed(said, "credits", "sequence", _read))
    return Page(items, field(said, "last", int), field(said, "more", bool), spoilt)


def _token(claims: Mapping[str, Any], secret: bytes) -> bytes:
    signed = _HEADER + b"." + base64.urlsafe_b64encode(to_json(claims)).rstrip(b"=")
    return signed + b"." + base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")


def _claims(token: bytes, secret: bytes) -> Mapping[str, Any]:
    if len(token) > 2 * MAX_BODY_BYTES:
        raise Malformed("a token that long")
    signed, _, signature = token.rpartition(b".")
    header, dot, payload = signed.partition(b".")
    if not dot or b"." in payload:
        raise Malformed("not three parts")
    if not hmac.compare_digest(_unbase(signature), hmac.digest(secret, signed, "sha256")):
        raise BadSignature("the signature is not good for this token")
    if field(from_json(_unbase(header)), "alg", str) != "HS256":
        raise BadSignature("another algorithm")
    return from_json(_unbase(payload))


def _unbase(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("not base64url") from None


def _credit(credit: Credit) -> dict[str, Any]:
    return {"sequence": credit.number, "transactionId": credit.reference, "account": credit.account,
            "proxy": {"type": credit.payee_kind, "value": credit.payee},
            "amount": {"currency": TO_WIRE[credit.ccy], "value": credit.amount},
            "creditedAt": hkt(credit.time_ms).isoformat(timespec="seconds"),
            "debtor": {"name": credit.name, "account": credit.payer_account}, "remittance": credit.remark}


def _read(row: Mapping[str, Any]) -> Credit:
    proxy, amount, debtor = (field(row, name, dict) for name in ("proxy", "amount", "debtor"))
    return Credit(
        field(row, "sequence", int), field(row, "transactionId", str), field(row, "account", str),
        field(proxy, "type", str), field(proxy, "value", str), ours(field(amount, "currency", str)),
        field(amount, "value", str), _moment(field(row, "creditedAt", str)), field(debtor, "name", str, ""),
        field(debtor, "account", str, ""), field(row, "remittance", str, ""))


def _moment(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError
        return epoch_ms(found)
    except (ValueError, OverflowError):
        raise Malformed(f"time {text[:40]!r}") from None


def request_id_of(headers: Mapping[str, str]) -> str:
    """The ``jti`` that a request claims, verified or not: a refusal names it."""
    payload = headers.get("authorization", "")[len(_BEARER):].encode("latin-1", "replace").split(b".")[1:2]
    try:
        return str(field(from_json(_unbase(payload[0])), "jti", str)) if payload else ""
    except Malformed:
        return ""
