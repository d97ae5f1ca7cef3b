"""The HTTP face of the emulated BOCHK: documents in, documents out (an ASGI application)."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from core.banks.bochk import PATH
from core.clock import US_PER_S
from core.wire.bochk_b2e import (
    MAX_DOCUMENT_BYTES,
    REFUSED,
    SIGN_ON,
    B2eError,
    Reply,
    decode_request,
    encode_reply,
)
from emulators.asgi import Silence
from emulators.bochk.bank import BochkBank
from emulators.bochk.faults import CUT, ENTITY

_MEDIA: Final = "application/xml; charset=utf-8"
_NO_PACKAGE: Final = "0" * 17
_DTD: Final = b'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY e SYSTEM "file:///etc/hostname">]><BOCHKE2B>&e;</BOCHKE2B>'


def bochk_app(bank: BochkBank) -> Starlette:
    """The bank's B2E interface."""

    async def answer(http: HttpRequest) -> Response:
        try:
            request = decode_request(await _body(http))
        except B2eError as error:
            return _written(Reply(SIGN_ON, _NO_PACKAGE, REFUSED, str(error)[:200].replace("\n", " ")))
        answered = bank.handle(request)
        if answered.reply is None:
            return Silence()
        if answered.delay_us:
            await asyncio.sleep(answered.delay_us / US_PER_S)
        document = encode_reply(answered.reply)
        return Response(spoil(document, answered.spoilt) if answered.spoilt else document, media_type=_MEDIA)

    return Starlette(routes=[Route(PATH, answer, methods=["POST"])])


def spoil(document: bytes, how: str) -> bytes:
    """A document that is none of the protocol any more."""
    if how == CUT:
        return document[: len(document) // 2]
    return _DTD if how == ENTITY else document + b" " * MAX_DOCUMENT_BYTES


async def _body(http: HttpRequest) -> bytes:
    chunks = bytearray()
    async for chunk in http.stream():
        chunks += chunk
        if len(chunks) > MAX_DOCUMENT_BYTES:
            raise B2eError(f"more than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(chunks)


def _written(reply: Reply) -> Response:
    return Response(encode_reply(reply), media_type=_MEDIA)
