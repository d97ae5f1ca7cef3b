"""CGB over HTTP in the bank's own bytes."""

from __future__ import annotations

from core.banks.airstar import Endpoint
from core.clock import Clock
from core.errors import OutcomeUnknown
from core.wire.cgb import Secrets, encode_query, parse_page
from core.wire.numbered import Page, Query
from core.wire.sm2 import Entropy, Sm2


class CgbExchange:
    """An `Exchange` that signs each query, verifies and opens each answer."""

    def __init__(self, endpoint: Endpoint, app: str, secrets: Secrets, sm2: Sm2, entropy: Entropy, clock: Clock, *,
                 timeout_s: float) -> None:
        self._endpoint, self._app, self._secrets, self._sm2 = endpoint, app, secrets, sm2
        self._entropy, self._clock, self._timeout_s = entropy, clock, timeout_s

    async def __call__(self, query: Query) -> Page:
        target, headers = encode_query(query, self._app, self._clock.now_ms(), self._secrets, self._sm2, self._entropy)
        status, body = await self._endpoint.send("GET", target, headers, b"", self._timeout_s)
        if status >= 500:
            raise OutcomeUnknown(f"HTTP status {status}")
        return parse_page(body, query, self._secrets, self._sm2)
