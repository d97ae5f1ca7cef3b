"""The HTTP face of one line of the emulated ICBC: an ASGI application for each line, with the certificate it admits."""

from __future__ import annotations

import asyncio

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from core.clock import US_PER_S
from core.wire.icbc import (
    MAX_BODY_BYTES,
    PATH,
    MalformedMessage,
    Request,
    WireError,
    encode_answer,
    encode_refusal,
    parse_request,
)
from emulators.airstar.keys import in_memory
from emulators.asgi import Silence
from emulators.icbc.bank import IcbcBank


def icbc_app(bank: IcbcBank, line_name: str, broker_key: RSAPublicKey, own: RSAPrivateKey) -> Starlette:
    """One line's application, with the certificate it admits and the key that signs its answers."""
    door = _Door(bank, line_name, broker_key, own)
    return Starlette(routes=[Route(PATH, door.answer, methods=["POST"])])


class _Door:
    def __init__(self, bank: IcbcBank, line_name: str, broker_key: RSAPublicKey, own: RSAPrivateKey) -> None:
        self._bank, self._line, self._broker_key, self._own = bank, line_name, broker_key, own

    async def answer(self, http: HttpRequest) -> Response:
        bank, line_name = self._bank, self._line
        fate = bank.arrives(line_name)
        if fate in ("silence", "refused"):
            return Silence()
        try:
            request = await self._admit(http)
        except WireError as error:
            return _said(encode_refusal(fate or error.code))
        fate = fate or bank.admits(line_name, request)
        if fate is not None:
            return _said(encode_refusal(fate))
        answer, delay_us, spoilt = bank.leaves(line_name, bank.answer(line_name, request))
        if delay_us:
            await asyncio.sleep(delay_us / US_PER_S)
        body = encode_answer(answer, in_memory() if "bad_signature" in spoilt else self._own)
        return _said(body[:len(body) // 2] if "garbled" in spoilt else body)

    async def _admit(self, http: HttpRequest) -> Request:
        body = bytearray()
        async for chunk in http.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise MalformedMessage(f"more than {MAX_BODY_BYTES} bytes")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in http.scope["headers"]}
        user = self._bank.users[self._line]
        return parse_request(http.scope["query_string"].decode("latin-1"), headers, bytes(body),
                             lambda asked: self._broker_key if asked == user else None,
                             now_ms=self._bank.now_ms(), max_skew_ms=self._bank.max_skew_ms)


def _said(body: bytes) -> Response:
    return Response(body, 200, media_type="text/plain; charset=GBK")
