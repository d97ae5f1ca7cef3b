"""Citi over HTTP in the bank's own bytes."""

from __future__ import annotations

from core.banks.airstar import Endpoint
from core.clock import Clock
from core.errors import OutcomeUnknown
from core.wire.citi import encode_query, parse_page
from core.wire.numbered import Page, Query


class CitiExchange:
    """An `Exchange` that signs each query and verifies each answer."""

    def __init__(self, endpoint: Endpoint, client: str, secret: bytes, clock: Clock, *, timeout_s: float) -> None:
        self._endpoint, self._client, self._secret = endpoint, client, secret
        self._clock, self._timeout_s = clock, timeout_s

    async def __call__(self, query: Query) -> Page:
        target, headers = encode_query(query, self._client, self._clock.now_ms(), self._secret)
        status, body = await self._endpoint.send("GET", target, headers, b"", self._timeout_s)
        if status >= 500:
            raise OutcomeUnknown(f"HTTP status {status}")
        return parse_page(body, query, self._secret)
