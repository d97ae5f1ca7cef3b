"""CGB codec: credits of the FPS interface, with SM2, SM3 and SM4 (gaps.md B-23; design/protocols.md, CGB).

Rules of the protocol, before any code (all O, but the algorithms):

* ``GET /fps/v1/credits?since=N&limit=M`` asks for the credits after number N. Four headers come with it: ``x-cgb-app``,
  ``x-cgb-time`` (yyyyMMddHHmmss, Hong Kong time), ``x-cgb-request`` (never used twice) and ``x-cgb-sign``: base64 of
  the SM2 signature ``r || s`` over ``app LF time LF request LF target LF hex(SM3(body))``; the body is empty.
* An answer is JSON ``{"sign", "data"}``: ``data`` is base64 of nonce (12) + SM4-GCM ciphertext + tag (16) under the key
  that both sides have agreed upon, with the request id as associated data; ``sign`` is base64 of the bank's SM2
  signature over ``request LF hex(SM3(sealed bytes))``. Signature first, then decryption: nothing of a stranger is
  decrypted, and no answer serves for another request.
* Decrypted: ``{"code": "00", "credits": […], "last": N, "hasMore": "Y" | "N"}``. Another code is a refusal.

The codec has no clock, socket or entropy. Whatever bytes come in, only `WireError` and its kinds come out.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from core.wire.fps import (
    MAX_BODY_BYTES,
    TO_WIRE,
    Credit,
    field,
    from_json,
    listed,
    ours,
    stamp,
    to_json,
    unstamped,
)
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
from core.wire.sm2 import CryptoError, Entropy, KeyPair, Sm2, sm3, sm4_gcm_decrypt, sm4_gcm_encrypt

PATH: Final = "/fps/v1/credits"
OK: Final = "00"
_NONCE, _TAG = 12, 16


class Secrets(NamedTuple):
    """One side's: its own pair, the other's public key, and the SM4 key of both."""

    own: KeyPair
    other: bytes
    sm4: bytes


def target_of(query: Query) -> str:
    """Path and query string."""
    return f"{PATH}?since={query.since}&limit={query.limit}"


def encode_query(query: Query, app: str, now_ms: int, secrets: Secrets, sm2: Sm2,
                 entropy: Entropy) -> tuple[str, dict[str, str]]:
    """(target, headers) of a signed request."""
    target, time = target_of(query), stamp(now_ms)
    signed = sm2.sign(secrets.own.private, _asked(app, time, query.request_id, target), entropy=entropy)
    return target, {"x-cgb-app": app, "x-cgb-time": time, "x-cgb-request": query.request_id,
                    "x-cgb-sign": base64.b64encode(signed).decode()}


def parse_query(target: str, headers: Mapping[str, str], app: str, now_ms: int, max_skew_ms: int, secrets: Secrets,
                sm2: Sm2) -> Query:
    """A query whose signature and time are good. Whether its request id is new the receiver knows."""
    time, request = headers.get("x-cgb-time", ""), headers.get("x-cgb-request", "")
    if headers.get("x-cgb-app") != app:
        raise BadSignature("an application that is not known here")
    if not sm2.verify(secrets.other, _asked(app, time, request, target), _unbase(headers.get("x-cgb-sign", ""))):
        raise BadSignature("the signature is not good for this request")
    skew_checked(unstamped(time), now_ms, max_skew_ms)
    path, _, asked = target.partition("?")
    pairs = parse_qsl(asked, keep_blank_values=True)
    found = dict(pairs)
    if path != PATH or len(pairs) != 2 or set(found) != {"since", "limit"}:
        raise Malformed(f"target {target[:80]!r}")
    return checked(Query(number(found["since"]), number(found["limit"]), request), MAX_ITEMS)


def _asked(app: str, time: str, request: str, target: str) -> bytes:
    return "\n".join((app, time, request, target, sm3(b"").hex())).encode("utf-8", "replace")


def encode_page(page: Page, request_id: str, secrets: Secrets, sm2: Sm2, entropy: Entropy) -> bytes:
    """The body of an answer."""
    return _sealed({"code": OK, "credits": [_credit(credit) for credit in page.items], "last": page.last,
                    "hasMore": "Y" if page.more else "N"}, request_id, secrets, sm2, entropy)


def encode_refusal(code: str, request_id: str, secrets: Secrets, sm2: Sm2, entropy: Entropy) -> bytes:
    """The body of a refusal."""
    return _sealed({"code": code}, request_id, secrets, sm2, entropy)


def parse_page(body: bytes, query: Query, secrets: Secrets, sm2: Sm2) -> Page:
    """The answer to this query, if it is the bank's."""
    said = from_json(_opened(body, query.request_id, secrets, sm2))
    code = field(said, "code", str)
    if code != OK:
        raise Refused(code[:16])
    items, spoilt = parted(listed(said, "credits", "seqNo", _read))
    return Page(items, field(said, "last", int), field(said, "hasMore", str) == "Y", spoilt)


def _sealed(said: Any, request_id: str, secrets: Secrets, sm2: Sm2, entropy: Entropy) -> bytes:
    nonce = entropy(_NONCE)
    ciphertext, tag = sm4_gcm_encrypt(secrets.sm4, nonce, to_json(said), request_id.encode())
    sealed = nonce + ciphertext + tag
    signature = sm2.sign(secrets.own.private, _answered(request_id, sealed), entropy=entropy)
    return to_json({"sign": base64.b64encode(signature).decode(), "data": base64.b64encode(sealed).decode()})


def _opened(body: bytes, request_id: str, secrets: Secrets, sm2: Sm2) -> bytes:
    envelope = from_json(body)
    sealed = _unbase(field(envelope, "data", str))
    signature = _unbase(field(envelope, "sign", str))
    if not sm2.verify(secrets.other, _answered(request_id, sealed), signature):
        raise BadSignature("the signature is not good for this answer")
    if not _NONCE + _TAG <= len(sealed) <= MAX_BODY_BYTES:
        raise Malformed(f"{len(sealed)} sealed bytes")
    try:
        return sm4_gcm_decrypt(secrets.sm4, sealed[:_NONCE], sealed[_NONCE:-_TAG], sealed[-_TAG:], request_id.encode())
    except CryptoError as error:
        raise BadSignature(str(error)) from None


def _answered(request_id: str, sealed: bytes) -> bytes:
    return f"{request_id}\n{sm3(sealed).hex()}".encode()


def _unbase(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("not base64") from None


def _credit(credit: Credit) -> dict[str, Any]:
    return {"seqNo": credit.number, "fpsRef": credit.reference, "accNo": credit.account,
            "payeeType": credit.payee_kind, "payeeId": credit.payee, "ccy": TO_WIRE[credit.ccy],
            "amount": credit.amount, "txnTime": stamp(credit.time_ms), "payerName": credit.name,
            "payerAcc": credit.payer_account, "remark": credit.remark}


def _read(row: Mapping[str, Any]) -> Credit:
    return Credit(
        field(row, "seqNo", int), field(row, "fpsRef", str), field(row, "accNo", str), field(row, "payeeType", str),
        field(row, "payeeId", str), ours(field(row, "ccy", str)), field(row, "amount", str),
        unstamped(field(row, "txnTime", str)), field(row, "payerName", str, ""), field(row, "payerAcc", str, ""),
        field(row, "remark", str, ""))
