"""Where the banks of a world stand: in memory, or on real sockets of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from starlette.types import ASGIApp

from core.banks.airstar import Endpoint, HttpxEndpoint
from emulators.asgi import AsgiLink
from emulators.loop import SimLoop
from emulators.network import Link, Network
from emulators.streams import Draw, Streams


class Listening(Protocol):
    """A server that can be told where to listen (`emulators.bst.server.ExitServer`)."""

    async def listen(self, host: str | None, port: int) -> int:
        """Gives the port; 0 asks for a free one."""


class Places(Protocol):
    """Where servers listen and how they are reached."""

    async def listen(self, server: Listening, host: str, latency_us: Draw, peer: str = "core") -> str:
        """Let a server of a host take connections; gives the address to connect to. ``peer``: who connects, by the
        line of that latency."""

    async def endpoint(self, app: ASGIApp, host: str, latency: Callable[[], int]) -> Endpoint:
        """Serve an ASGI application of a host; gives the line to it. ``latency()``: a simulated round trip in µs."""

    async def close(self) -> None:
        """Nothing listens any more."""


class InMemory:
    """A memory network with a host for each server: repeatable to the microsecond."""

    PORT = 7000

    def __init__(self, loop: SimLoop, streams: Streams) -> None:
        self._loop, self._streams = loop, streams
        self.network: Network | None = None
        self._hosts = 0

    async def listen(self, server: Listening, host: str, latency_us: Draw, peer: str = "core") -> str:
        network = self.network = self.network or Network(self._loop, self._streams)
        self._hosts += 1
        network.host(host, f"10.0.1.{self._hosts}")
        network.link(peer, host, Link(latency_us))
        return f"{network.ip_of(host)}:{await server.listen(network.ip_of(host), self.PORT)}"

    async def endpoint(self, app: ASGIApp, host: str, latency: Callable[[], int]) -> Endpoint:
        return AsgiLink(app, self._loop, latency, host)

    async def close(self) -> None:
        """What is in memory goes with the world."""


class OnLoopback:
    """Real sockets on free ports of 127.0.0.1; what a line costs is what it costs."""

    HOST = "127.0.0.1"

    def __init__(self) -> None:
        self._ends: list[Callable[[], object]] = []
        self._serving: list[asyncio.Future[None]] = []
        self._lines: list[HttpxEndpoint] = []

    async def listen(
        self, server: Listening, host: str, latency_us: Draw, peer: str = "core"  # noqa: ARG002 - real lines
    ) -> str:
        return f"{self.HOST}:{await server.listen(self.HOST, 0)}"

    async def endpoint(
        self, app: ASGIApp, host: str, latency: Callable[[], int]  # noqa: ARG002 - real lines
    ) -> Endpoint:
        import uvicorn  # only where real sockets are wanted

        listening = socket.create_server((self.HOST, 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self._serving.append(asyncio.ensure_future(server.serve(sockets=[listening])))
        self._ends.append(lambda: setattr(server, "should_exit", True))
        line = HttpxEndpoint(f"http://{self.HOST}:{listening.getsockname()[1]}")
        self._lines.append(line)
        return line

    async def close(self) -> None:
        for line in self._lines:
            await line.close()
        for end in self._ends:
            end()
        await asyncio.gather(*self._serving)
