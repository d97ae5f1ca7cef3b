"""SCB over HTTP in the bank's own bytes, and our webhook for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from core.banks.airstar import Endpoint
from core.banks.fps.entries import Hear
from core.clock import Clock
from core.errors import OutcomeUnknown
from core.wire.fps import MAX_BODY_BYTES
from core.wire.numbered import Malformed, Page, Query, WireError
from core.wire.scb import PATH, encode_query, parse_notice, parse_page

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from starlette.types import ASGIApp


class ScbExchange:
    """An `Exchange` by gRPC-Web that signs each call and verifies each answer."""

    def __init__(self, endpoint: Endpoint, client: str, key: Ed25519PrivateKey, bank_key: Ed25519PublicKey,
                 clock: Clock, *, timeout_s: float) -> None:
        self._endpoint, self._client, self._key, self._bank_key = endpoint, client, key, bank_key
        self._clock, self._timeout_s = clock, timeout_s

    async def __call__(self, query: Query) -> Page:
        headers, body = encode_query(query, self._client, self._clock.now_ms(), self._key)
        status, answer = await self._endpoint.send("POST", PATH, headers, body, self._timeout_s)
        if status >= 500:
            raise OutcomeUnknown(f"HTTP status {status}")
        return parse_page(answer, query, self._bank_key)


def webhook(path: str, hear: Hear, bank_key: Ed25519PublicKey, clock: Clock, max_skew_ms: int) -> ASGIApp:
    """Our HTTP endpoint for the bank's notices; 200 once the credit is kept, 503 if it is not, 401 for
    what is not the bank's."""

    async def noticed(http: Request) -> Response:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in http.scope["headers"]}
        try:
            credit = parse_notice(headers, await _body(http), clock.now_ms(), max_skew_ms, bank_key)
        except WireError as refused:
            return PlainTextResponse(refused.code, 400 if isinstance(refused, Malformed) else 401)
        return PlainTextResponse("OK", 200) if await hear(credit) else PlainTextResponse("LATER", 503)

    return Starlette(routes=[Route(path, noticed, methods=["POST"])])


async def _body(http: Request) -> bytes:
    body = bytearray()
    async for chunk in http.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Malformed(f"more than {MAX_BODY_BYTES} bytes")
    return bytes(body)
