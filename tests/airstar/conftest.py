"""Fixtures of the Airstar tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airstar_world import APP_ID, NOON_MS, SURE, World
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from core.banks.airstar import AirstarGateway, SignedExchange
from core.settings import Settings
from core.trace import Event, Trace
from emulators.airstar.app import airstar_app
from emulators.airstar.bank import AirstarBank
from emulators.airstar.keys import in_memory
from emulators.airstar.link import AsgiLink, MessageLink
from emulators.airstar.values import Latency
from emulators.loop import LoopClock, SimLoop
from emulators.streams import Streams


@pytest.fixture(scope="session")
def key() -> RSAPrivateKey:
    return in_memory()


@pytest.fixture
def world(key: RSAPrivateKey) -> Iterator[Callable[..., World]]:
    """``world(overlay, wire="messages"|"full", seed=1, luck=False, **bank options)``."""
    loops: list[SimLoop] = []

    def make(
        overlay: dict[str, Any] | None = None,
        *,
        wire: str = "messages",
        seed: int = 1,
        luck: bool = False,
        **options: Any,
    ) -> World:
        loop = SimLoop()
        loops.append(loop)
        settings = Settings({**({} if luck else SURE), **(overlay or {})})
        clock, streams = LoopClock(loop, NOON_MS), Streams(seed)
        events: list[Event] = []
        trace = Trace(clock, events.append)
        bank = AirstarBank(loop, clock, streams, trace, settings, **options)
        latency, timeout_s = Latency.of_link(settings, streams("airstar.link")), settings["airstar.api.timeout"]
        app = airstar_app(bank, {APP_ID: key.public_key()})
        if wire == "messages":
            exchange: Any = MessageLink(bank, loop, clock, latency, timeout_s=timeout_s)
        else:
            link = AsgiLink(app, loop, latency)
            nonces = streams("airstar.nonces")
            exchange = SignedExchange(link, APP_ID, key, clock, lambda: nonces.randbytes(16), timeout_s=timeout_s)
        gateway = AirstarGateway(exchange, clock, trace, max_pages=settings["airstar.list.max_pages"])
        return World(loop, clock, bank, gateway, settings, trace, events, app)

    yield make
    for loop in loops:
        loop.close()
