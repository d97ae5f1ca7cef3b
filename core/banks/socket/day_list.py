"""CMB's day list outside the socket: what its recovery service downloads (gaps.md B-43)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from core.clock import Clock, hkt
from core.errors import OutcomeUnknown
from core.wire.sm2 import Entropy
from core.wire.socket import BrokerIdentity, Flavour, ProtocolError, Sm2Use
from core.wire.socket.day_list import ListQuery, decode_list, sign_query, target_of
from core.wire.socket.messages import DayList, ListItem

if TYPE_CHECKING:
    import httpx

MAX_FRAGMENTS: Final = 2_000
"""Of 50 entries each; a longer list is asked for in several runs."""

Fetch = Callable[[str, str], Awaitable[tuple[int, bytes]]]
"""(target, signature) -> (HTTP status, body); raises `OutcomeUnknown` on silence."""


class DayListClient:
    """Downloads day lists of one bank, whole or not at all."""

    def __init__(
        self, flavour: Flavour, identity: BrokerIdentity, sm2: Sm2Use, entropy: Entropy, clock: Clock, fetch: Fetch
    ) -> None:
        self._flavour, self._identity, self._sm2, self._entropy = flavour, identity, sm2, entropy
        self._clock, self._fetch = clock, fetch

    async def items(self, since_seq: int, business_date: str = "") -> tuple[ListItem, ...]:
        """Entries after a push number, ascending; `OutcomeUnknown` if a fragment cannot be had or believed."""
        found: list[ListItem] = []
        for _ in range(MAX_FRAGMENTS):
            body, last = await self._fragment(since_seq, business_date)
            found.extend(body.items)
            if last or not body.items:
                return tuple(sorted(found, key=lambda item: item.push_seq))
            since_seq = max(item.push_seq for item in body.items)
        return tuple(sorted(found, key=lambda item: item.push_seq))

    async def _fragment(self, since_seq: int, business_date: str) -> tuple[DayList, bool]:
        query = ListQuery(self._identity.broker, self._identity.certificate_serial, since_seq, business_date,
                          f"{hkt(self._clock.now_ms()):%Y%m%d%H%M%S}")
        signature = sign_query(self._flavour, query, self._identity.private, self._sm2, self._entropy)
        status, data = await self._fetch(target_of(query), signature)
        if status != 200:
            raise OutcomeUnknown(f"the day list was answered with HTTP {status}")
        try:
            message = decode_list(self._flavour, data, self._identity.bank_public, self._sm2)
        except ProtocolError as wrong:
            raise OutcomeUnknown(f"the day list cannot be believed: {wrong}") from wrong
        body = message.body
        if not isinstance(body, DayList) or body.code != 0:
            raise OutcomeUnknown(f"the day list was refused: {body}")
        return body, message.header.last_fragment


class HttpFetch:
    """A `Fetch` over HTTP on real sockets."""

    def __init__(self, base_url: str, *, timeout_s: float) -> None:
        self._base_url, self._timeout_s = base_url.rstrip("/"), timeout_s
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, target: str, signature: str) -> tuple[int, bytes]:
        """(HTTP status, body)."""
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout_s)
        try:
            reply = await self._client.get(self._base_url + target, headers={"X-Signature": signature})
        except httpx.HTTPError as fault:
            raise OutcomeUnknown(f"{type(fault).__name__}: {fault}") from fault
        return reply.status_code, reply.content

    async def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.aclose()
