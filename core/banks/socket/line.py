"""One connection to an exit server as the adapter sees it: the ports, and their form on real bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, cast

from core.errors import NostroError
from core.wire.sm2 import Entropy
from core.wire.socket import (
    MAX_FRAME,
    BrokerIdentity,
    BrokerSession,
    Established,
    Event,
    Flavour,
    ProtocolError,
    Received,
    RefusedMessage,
    Sm2Use,
)
from core.wire.socket.messages import Message


class Unreachable(NostroError):
    """No connection came about: refused, silent, or without the bank's proof."""


class Listener(Protocol):
    """Who hears one connection."""

    def received(self, message: Message) -> None:
        """The bank said something."""

    def refused(self, error: RefusedMessage) -> None:
        """Something arrived intact and cannot be accepted: to be answered with 100000."""

    def renewed(self) -> None:
        """The session key has been changed."""

    def lost(self, reason: str) -> None:
        """The connection is over, once, and nothing is heard after it; not after our own close."""


class Line(Protocol):
    """One connection, keys agreed."""

    def send(self, message: Message) -> None:
        """Never suspends; on a lost line it does nothing."""

    def renew(self) -> None:
        """Ask for a new session key."""

    def close(self) -> None:
        """End the connection; the listener hears nothing more."""


Dial = Callable[[str, Listener], Awaitable[Line]]
"""Connects to ``host:port``; raises `Unreachable`."""


class SocketDialer:
    """A `Dial` on real bytes: TCP, the key exchange, then messages."""

    def __init__(
        self, flavour: Flavour, identity: BrokerIdentity, sm2: Sm2Use, entropy: Entropy, *,
        limit: int = MAX_FRAME, handshake_wait_s: float,
    ) -> None:
        """``limit``: bytes of a frame; ``handshake_wait_s``: from the first packet to CONFIRM."""
        self._new_session = partial(BrokerSession, flavour, identity, sm2, entropy, limit)
        self._wait_s = handshake_wait_s

    async def __call__(self, address: str, listener: Listener) -> Line:
        """A line with keys agreed; `Unreachable` otherwise."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        line = SocketLine(self._new_session(), listener, loop.create_future())
        try:
            async with asyncio.timeout(self._wait_s):
                await loop.create_connection(lambda: line, host, int(port))
                await line.ready
        except (OSError, ConnectionError) as refused:
            raise Unreachable(f"{address}: {refused}") from refused
        except TimeoutError:
            raise Unreachable(f"{address}: no key exchange within {self._wait_s:g} s") from None
        finally:
            if not line.established:
                line.close()
        return line


class SocketLine(asyncio.Protocol):
    """One TCP connection with its session."""

    def __init__(self, session: BrokerSession, listener: Listener, ready: asyncio.Future[None]) -> None:
        self._session, self._listener, self.ready = session, listener, ready
        self._transport: asyncio.Transport | None = None
        self._over = False

    @property
    def established(self) -> bool:
        """Whether the key exchange is done."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None

    # What the caller does

    def send(self, message: Message) -> None:
        """Never suspends; on a lost line it does nothing."""
        if not self._over:
            self._write(self._session.encode(message))

    def renew(self) -> None:
        """Ask for a new session key; nothing happens while one is being agreed."""
        if not self._over:
            self._write(self._session.renew())

    def close(self) -> None:
        """End the connection; the listener hears nothing more."""
        self._over = True
        self._session.close()
        if self._transport is not None:
            self._transport.close()

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._over:
            self._transport.close()
        else:
            self._write(self._session.start())

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        events = self._session.feed(data)
        self._write(self._session.output())
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        if self._over:
            return
        if isinstance(event, Received):
            self._listener.received(event.message)
        elif isinstance(event, RefusedMessage):
            self._listener.refused(event)
        elif isinstance(event, ProtocolError):
            self._end(f"{type(event).__name__}: {event}")
        elif isinstance(event, Established):
            self.ready.set_result(None)
        else:
            self._listener.renewed()

    def eof_received(self) -> None:
        errors = self._session.feed_eof()
        self._end(f"the bank closed the connection{f' within a frame: {errors[0]}' if errors else ''}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection was lost: {exc}" if exc is not None else "the bank closed the connection")

    def _end(self, reason: str) -> None:
        if self._over:
            return
        established = self.established
        self.close()
        if established:
            self._listener.lost(reason)
        elif not self.ready.done():
            self.ready.set_exception(Unreachable(reason))

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
