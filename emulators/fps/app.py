"""The HTTP faces of the emulated CGB, SCB and Citi: one door, three ways of speaking."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from core.clock import US_PER_S
from core.wire import cgb, citi
from core.wire.numbered import Page, Query, Refused, WireError
from core.wire.sm2 import Entropy, Sm2
from emulators.asgi import Silence
from emulators.fps.bank import FpsBank
from emulators.fps.keys import CgbKeys, ScbKeys
from emulators.numbered import ERROR, SILENCE, UNAVAILABLE

BODY_LIMIT = 65_536


class Face(Protocol):
    """How one bank speaks."""

    method: str
    path: str

    def parse(self, target: str, headers: Mapping[str, str], body: bytes) -> Query: ...

    def page(self, page: Page, request_id: str, *, forged: bool) -> bytes: ...

    def refusal(self, code: str, headers: Mapping[str, str]) -> bytes: ...


def fps_app(bank: FpsBank, face: Face) -> Starlette:
    """The bank's application."""
    return Starlette(routes=[Route(face.path, _Door(bank, face).answer, methods=[face.method])])


class _Door:
    def __init__(self, bank: FpsBank, face: Face) -> None:
        self._bank, self._face = bank, face

    async def answer(self, http: Request) -> Response:
        bank, face = self._bank, self._face
        fate = bank.arrives()
        if fate == SILENCE:
            return Silence()
        if fate == ERROR:
            return Response(b"", UNAVAILABLE)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in http.scope["headers"]}
        try:
            query = await self._admit(http, headers, fate)
        except WireError as refused:
            return Response(face.refusal(refused.code, headers), 200)
        page, delay_us, spoilt = bank.leaves(bank.answer(query), query)
        if delay_us:
            await asyncio.sleep(delay_us / US_PER_S)
        body = face.page(page, query.request_id, forged="bad_signature" in spoilt)
        return Response(body[:len(body) // 2] if "garbled" in spoilt else body, 200)

    async def _admit(self, http: Request, headers: Mapping[str, str], fate: str | None) -> Query:
        body = bytearray()
        async for chunk in http.stream():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise Refused("TOO_LONG")
        asked = http.scope["query_string"].decode("latin-1")
        query = self._face.parse(self._face.path + (f"?{asked}" if asked else ""), headers, bytes(body))
        if fate is not None or not self._bank.is_new(query.request_id):
            raise Refused(fate or "REPLAY")
        return query


class CgbFace:
    """SM2, SM3, SM4."""

    method, path = "GET", cgb.PATH

    def __init__(self, bank: FpsBank, app: str, keys: CgbKeys, sm2: Sm2, entropy: Entropy) -> None:
        self._bank, self._app, self._sm2, self._entropy = bank, app, sm2, entropy
        self._secrets, self._forged = keys.of_bank(), keys.of_stranger()

    def parse(self, target: str, headers: Mapping[str, str], body: bytes) -> Query:  # noqa: ARG002 - a GET has none
        return cgb.parse_query(target, headers, self._app, self._bank.now_ms(), self._bank.max_skew_ms, self._secrets,
                               self._sm2)

    def page(self, page: Page, request_id: str, *, forged: bool) -> bytes:
        return cgb.encode_page(page, request_id, self._forged if forged else self._secrets, self._sm2, self._entropy)

    def refusal(self, code: str, headers: Mapping[str, str]) -> bytes:
        return cgb.encode_refusal(code, headers.get("x-cgb-request", ""), self._secrets, self._sm2, self._entropy)


class CitiFace:
    """JSON Web Tokens."""

    method, path = "GET", citi.PATH

    def __init__(self, bank: FpsBank, client: str, secret: bytes) -> None:
        self._bank, self._client, self._secret = bank, client, secret

    def parse(self, target: str, headers: Mapping[str, str], body: bytes) -> Query:  # noqa: ARG002 - a GET has none
        return citi.parse_query(target, headers, self._client, self._bank.now_ms(), self._bank.max_skew_ms,
                                self._secret)

    def page(self, page: Page, request_id: str, *, forged: bool) -> bytes:
        return citi.encode_page(page, request_id, b"a stranger's" if forged else self._secret)

    def refusal(self, code: str, headers: Mapping[str, str]) -> bytes:
        return citi.encode_refusal(code, citi.request_id_of(headers), self._secret)


class ScbFace:
    """Protobuf in gRPC-Web frames."""

    method = "POST"

    def __init__(self, bank: FpsBank, client: str, keys: ScbKeys) -> None:
        from core.wire import scb  # protobuf takes a while to load

        self._wire, self.path = scb, scb.PATH
        self._bank, self._client, self._keys = bank, client, keys

    def parse(self, target: str, headers: Mapping[str, str], body: bytes) -> Query:  # noqa: ARG002 - it is all in the body
        return self._wire.parse_query(headers, body, self._client, self._bank.now_ms(), self._bank.max_skew_ms,
                                      self._keys.ours.public_key())

    def page(self, page: Page, request_id: str, *, forged: bool) -> bytes:
        return self._wire.encode_page(page, request_id, self._keys.stranger if forged else self._keys.bank)

    def refusal(self, code: str, headers: Mapping[str, str]) -> bytes:  # noqa: ARG002 - trailers only
        return self._wire.encode_refusal(code)
