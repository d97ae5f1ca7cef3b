"""The HTTP face of the emulated Airstar bank: signature, nonce, clock and JSON, then `AirstarBank.handle`.

An ASGI application: called directly through a simulated link, or served on a port by uvicorn. Silence (a fault) is a
connection that stays open until the client gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from core.clock import US_PER_S
from core.wire.airstar import (
    MAX_BODY_BYTES,
    ROUTES,
    MalformedMessage,
    NonceMemory,
    Reply,
    Request,
    WireError,
    encode_reply,
    parse_request,
    refusal,
)
from emulators.airstar.bank import NOT_FOUND, AirstarBank
from emulators.asgi import Silence


def airstar_app(bank: AirstarBank, keys: Mapping[str, RSAPublicKey]) -> Starlette:
    """The bank's application; ``keys`` holds the public key of each application id that may call."""
    door = _Door(bank, keys)
    templates: dict[str, list[str]] = {}
    for route in ROUTES.values():
        templates.setdefault(route.path, []).append(route.method)
    return Starlette(
        routes=[Route(path, door.answer, methods=methods) for path, methods in templates.items()],
        exception_handlers={404: door.answer_unrouted, 405: door.answer_unrouted},
    )


class _Door:
    """Lets in what is signed, timely, new and well formed."""

    def __init__(self, bank: AirstarBank, keys: Mapping[str, RSAPublicKey]) -> None:
        self._bank = bank
        self._key_of = keys.get
        self._nonces = NonceMemory(bank.values.max_skew_ms, bank.values.nonce_limit)

    async def answer(self, http: HttpRequest) -> Response:
        try:
            request = await self._admit(http)
        except WireError as error:
            return _respond(None if self._bank.silent else refusal(error.code))
        reply, delay_us = self._bank.handle(request)
        if delay_us:
            await asyncio.sleep(delay_us / US_PER_S)
        return _respond(reply)

    async def answer_unrouted(self, http: HttpRequest, error: Exception) -> Response:  # noqa: ARG002 - Starlette's shape
        """A path or method that the protocol does not have."""
        return _respond(None if self._bank.silent else refusal(NOT_FOUND))

    async def _admit(self, http: HttpRequest) -> Request:
        scope = http.scope
        now_ms = self._bank.now_ms()
        signed = parse_request(
            scope["method"],
            (scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            await _body(http),
            self._key_of,
            now_ms=now_ms,
            max_skew_ms=self._bank.values.max_skew_ms,
        )
        self._nonces.use(signed, now_ms)
        return signed.request


async def _body(http: HttpRequest) -> bytes:
    chunks = bytearray()
    async for chunk in http.stream():
        chunks += chunk
        if len(chunks) > MAX_BODY_BYTES:
            raise MalformedMessage(f"more than {MAX_BODY_BYTES} bytes")
    return bytes(chunks)


def _respond(reply: Reply | None) -> Response:
    if reply is None:
        return Silence()
    status, body = encode_reply(reply)
    return Response(body, status, media_type="application/json")
