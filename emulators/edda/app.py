"""The HTTP face of an emulated direct-debit interface: JWS, clock and JSON, then `EddaBank.handle`.

An ASGI application: called directly through a simulated link, or served on a port by uvicorn. Every answer is a compact
JWS for the request that it answers. Silence (a fault) is a connection that stays open until the client gives up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from core.clock import US_PER_S
from core.wire.edda import (
    BASES,
    MAX_BODY_BYTES,
    BadSignature,
    MalformedMessage,
    Reply,
    Signed,
    WireError,
    parse_request,
    refusal,
    sign_reply,
)
from emulators.airstar.keys import in_memory
from emulators.asgi import Silence
from emulators.edda.bank import EddaBank

NOBODY = "-"
"""The request of an answer to what is no request."""


async def on_the_loop(us: int) -> None:
    """Waits by the loop's clock."""
    await asyncio.sleep(us / US_PER_S)


def edda_app(
    bank: EddaBank, key_id: str, key: RSAPrivateKey, brokers: Mapping[str, RSAPublicKey],
    wait: Callable[[int], Awaitable[None]] = on_the_loop,
) -> Starlette:
    """The bank's application. ``key``: with which it signs, by the name of ``key_id``; ``brokers``: public key of each
    key id that may call; ``wait``: passes the µs that an answer takes."""
    door = _Door(bank, key_id, key, brokers, wait)
    return Starlette(routes=[Route(f"{BASES[bank.bank]}/{{rest:path}}", door.answer, methods=["GET", "POST"])])


class _Door:
    """Lets in what is signed, timely, new and well formed."""

    def __init__(
        self, bank: EddaBank, key_id: str, key: RSAPrivateKey, brokers: Mapping[str, RSAPublicKey],
        wait: Callable[[int], Awaitable[None]],
    ) -> None:
        self._wait = wait
        self._bank, self._key_id, self._key, self._key_of = bank, key_id, key, brokers.get
        self._strangers: RSAPrivateKey | None = None
        self._seen: dict[tuple[str, str], int] = {}

    async def answer(self, http: HttpRequest) -> Response:
        try:
            signed = await self._admit(http)
        except WireError as error:
            return Silence() if self._bank.silent else self._respond(refusal(error.code), NOBODY, self._key)
        handled = self._bank.handle(signed.request)
        if handled.delay_us:
            await self._wait(handled.delay_us)
        if handled.reply is None:
            return Silence()
        return self._respond(handled.reply, signed.jti, self._stranger() if handled.forged else self._key)

    def _stranger(self) -> RSAPrivateKey:
        self._strangers = self._strangers or in_memory()
        return self._strangers

    async def _admit(self, http: HttpRequest) -> Signed:
        scope = http.scope
        signed = parse_request(
            self._bank.bank, scope["method"], (scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
            {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}, await _body(http),
            self._key_of, now_s=self._bank.now_s(), max_skew_s=self._bank.values.skew_s)
        self._use(signed)
        return signed

    def _use(self, signed: Signed) -> None:
        """A number is used once; forgotten when its time could not pass any more."""
        oldest = self._bank.now_s() - 2 * self._bank.values.skew_s
        while self._seen and next(iter(self._seen.values())) < oldest:
            del self._seen[next(iter(self._seen))]
        key = (signed.key_id, signed.jti)
        if key in self._seen or len(self._seen) >= self._bank.values.replay_memory:
            raise BadSignature(f"jti {signed.jti} was used before, or too many are alive")
        self._seen[key] = self._bank.now_s()

    def _respond(self, reply: Reply, jti: str, key: RSAPrivateKey) -> Response:
        body = sign_reply(reply, jti, self._key_id, key)
        return Response(body, reply.status, media_type="application/jose")


async def _body(http: HttpRequest) -> bytes:
    chunks = bytearray()
    async for chunk in http.stream():
        chunks += chunk
        if len(chunks) > MAX_BODY_BYTES:
            raise MalformedMessage(f"more than {MAX_BODY_BYTES} bytes")
    return bytes(chunks)
