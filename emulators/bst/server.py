"""An exit server of the bank: its listener, and the bank's ends of the connections to it.

A `Connection` is ready once the keys are agreed. It sends heartbeats, closes when it has heard nothing for too long,
and hands messages to the `Desk`. Who asks and does not read is not heard until they have read; who leaves more than a
limit unread is disconnected. What the line carries is the subclass's matter: `ByteConnection` real bytes,
`emulators.bst.line` messages. Faults of the line act here, in both.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple, Protocol, cast

from core.clock import US_PER_S
from core.errors import Misconfigured
from core.wire.sm2 import Entropy, Sm2
from core.wire.socket import (
    BankIdentity,
    BankSession,
    Established,
    Event,
    Flavour,
    ProtocolError,
    Received,
    RefusedMessage,
)
from core.wire.socket import messages as m
from emulators.bst.faults import SocketFaults
from emulators.bst.values import BankValues
from emulators.loop import Cancellable


class Flaw(Enum):
    """What is wrong with a frame that the bank writes."""

    NONE = "nothing"
    SIGNATURE = "its SM2 signature"
    SEQUENCE = "its sequence, one too high"


class Keys(NamedTuple):
    """What the bank needs for real bytes: who it is, its SM2 provider, and what its nonces and keys are drawn from."""

    identity: BankIdentity
    sm2: Sm2
    entropy: Entropy


class LineTime(NamedTuple):
    """The time that the lines keep, in µs: heartbeats, silence, key exchange, repeats of pushes. A bank whose days pass
    faster than its clients' gives its lines the clients' time."""

    now_us: Callable[[], int]
    after_us: Callable[..., Cancellable]


class Desk(Protocol):
    """Who deals with what comes in."""

    flavour: Flavour
    values: BankValues
    faults: SocketFaults

    def now_us(self) -> int: ...
    def heard(self, connection: Connection, message: m.Message) -> None: ...
    def refused(self, connection: Connection, error: RefusedMessage) -> None: ...
    def unsent(self, connection: Connection, message: m.Message, error: ProtocolError) -> None: ...
    def gone(self, connection: Connection) -> None: ...
    def heartbeat(self) -> m.Message: ...


# --- connections ------------------------------------------------------------------------------------------------


class Connection(ABC):
    """The bank's end of one connection."""

    def __init__(self, server: ExitServer) -> None:
        self.server = server
        self._desk = server.desk
        self.broker = ""
        self.ready = self.over = False
        self.renewals = 0
        self.since_us, self._heard_us = self._desk.now_us(), server.now_us()
        self._line_free_us = 0
        self._held: list[Any] = []
        self._timers: dict[str, Cancellable] = {}

    # What the line tells

    def opened(self) -> None:
        """Somebody connects: keys have to be agreed in time."""
        self.server.connections[self] = None
        self._set("handshake", self._desk.values.handshake_us, self._give_up)

    def established(self, broker: str) -> None:
        """Keys are agreed: messages may come and go."""
        self.broker, self.ready = broker, True
        self._stop("handshake")
        self.heard()
        self._set("heartbeat", self._desk.values.heartbeat_us, self._beat)
        self._set("silence", self._desk.values.loss_us, self._watch)

    def heard(self) -> None:
        """A frame has come, whatever it carries."""
        self._heard_us = self.server.now_us()

    def lost(self) -> None:
        """The connection has ended, from whichever side."""
        if not self.over:
            self.over = True
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            self._held.clear()
            self.server.connections.pop(self, None)
            self._desk.gone(self)

    # What the bank does

    def send(self, message: m.Message, flaw: Flaw = Flaw.NONE) -> None:
        """Write a message; on a connection that is not ready, or over, nothing happens. What the protocol has no room
        for is not sent, and the desk is told: the line goes on."""
        if not self.ready or self.over:
            return
        try:
            written = self._written(message, flaw)
        except ProtocolError as error:
            self._desk.unsent(self, message, error)
        else:
            self._put(written)

    def close(self) -> None:
        """End in order: what was written still travels."""
        if not self.over:
            self.lost()
            self._end(reset=False)

    def reset(self) -> None:
        """End at once."""
        if not self.over:
            self.lost()
            self._end(reset=True)

    def vanish(self) -> None:
        """The bank's end is gone and the other end hears nothing of it."""
        self.lost()

    @abstractmethod
    def _written(self, message: m.Message, flaw: Flaw) -> Any:
        """The message as it goes on the line."""

    @abstractmethod
    def _pieces(self, written: Any, parts: int) -> list[Any]:
        """What was written, cut for a line that splits; None for a piece that means nothing by itself."""

    @abstractmethod
    def _leave(self, written: list[Any]) -> None:
        """Put what was written on the line, now and at once."""

    @abstractmethod
    def _end(self, *, reset: bool) -> None:
        """Tell the line that it is over."""

    # Pace

    def _put(self, written: Any) -> None:
        now, after_us = self.server.now_us(), self.server.after_us
        merged, split = self.server.fault("merged"), self.server.fault("split")
        if self._held:
            self._held.append(written)
        elif merged is not None:
            self._held.append(written)
            after_us(max(0, self._line_free_us - now) + round(merged["hold_s"] * US_PER_S), self._release)
        elif split is not None:
            gap_us, starts_us = round(split["gap_s"] * US_PER_S), max(now, self._line_free_us)
            for number, piece in enumerate(self._pieces(written, split["parts"])):
                self._line_free_us = starts_us + number * gap_us
                if piece is not None:
                    after_us(self._line_free_us - now, self._leave_later, [piece])
        elif self._line_free_us > now:
            after_us(self._line_free_us - now, self._leave_later, [written])
        else:
            self._leave([written])

    def _release(self) -> None:
        held, self._held = self._held, []
        self._leave_later(held)

    def _leave_later(self, written: list[Any]) -> None:
        if not self.over and written:
            self._leave(written)

    # Time

    def _set(self, name: str, us: int, callback: Callable[[], None]) -> None:
        self._timers[name] = self.server.after_us(us, callback)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self) -> None:
        self.close()

    def _beat(self) -> None:
        if self.server.fault("silent_heartbeats") is None:
            self.send(self._desk.heartbeat())
        self._set("heartbeat", self._desk.values.heartbeat_us, self._beat)

    def _watch(self) -> None:
        left_us = self._heard_us + self._desk.values.loss_us - self.server.now_us()
        if left_us <= 0:
            self.close()
        else:
            self._set("silence", left_us, self._watch)


class _FlawedSession(BankSession):
    """A bank's session that can be made to write one wrong frame."""

    _spoiled = False

    def write(self, message: m.Message, flaw: Flaw) -> bytes:
        if flaw is Flaw.SEQUENCE:
            self._sending.sequence += 1
        self._spoiled = flaw is Flaw.SIGNATURE
        try:
            return self.encode(message)
        finally:
            self._spoiled = False

    def _sign(self, message: m.Message, payload: bytes) -> bytes:
        signature = super()._sign(message, payload)
        return bytes([signature[0] ^ 1]) + signature[1:] if self._spoiled else signature


class ByteConnection(Connection, asyncio.Protocol):
    """A connection of real bytes."""

    def __init__(self, server: ExitServer, keys: Keys) -> None:
        super().__init__(server)
        self._session = _FlawedSession(
            server.desk.flavour, keys.identity, keys.sm2, keys.entropy, server.desk.values.frame_limit
        )
        self._transport: asyncio.Transport | None = None
        self._unread_limit = server.desk.values.unread_limit
        self._unread = False  # whether the other end lets what is written pile up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.opened()

    def data_received(self, data: bytes) -> None:
        if self.over:
            return
        events = self._session.feed(data)
        self._write(self._session.output())
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        if self.over:
            return
        if isinstance(event, Exception) and not isinstance(event, RefusedMessage):
            self.close()
            return
        self.heard()
        if isinstance(event, Received):
            self._desk.heard(self, event.message)
        elif isinstance(event, RefusedMessage):
            self._desk.refused(self, event)
        elif isinstance(event, Established):
            self.established(event.broker)
        else:
            self.renewals += 1

    def eof_received(self) -> None:
        self.close()

    def pause_writing(self) -> None:
        """The other end does not read: nothing more of it is read either, so that nothing more is answered."""
        self._unread = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It has read."""
        self._unread = False
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        self.lost()
        self.server.ghosts.pop(self, None)
        self._session.close()
        self._transport = None

    def vanish(self) -> None:
        super().vanish()
        self.server.ghosts[self] = None

    def bury(self) -> None:
        """Give the socket of a vanished end back."""
        self._end(reset=True)

    def _written(self, message: m.Message, flaw: Flaw) -> bytes:
        return self._session.write(message, flaw)

    def _pieces(self, written: Any, parts: int) -> list[Any]:
        size = max(1, len(written) // parts)
        ends = [*range(size, size * parts, size), len(written)]
        return [written[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _leave(self, written: list[Any]) -> None:
        self._write(b"".join(written))

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > self._unread_limit:
                self.reset()

    def _end(self, *, reset: bool) -> None:
        if self._transport is not None:
            if reset or self._unread:  # what nobody reads would never have left
                self._transport.abort()
            else:
                self._transport.close()


# --- servers ----------------------------------------------------------------------------------------------------


class ExitServer:
    """One of the bank's two addresses. It takes connections from `listen` or `attach` on, unless it is down."""

    def __init__(
        self, name: str, desk: Desk, loop: asyncio.AbstractEventLoop, time: LineTime, keys: Keys | None
    ) -> None:  # fmt: skip
        self.name = name
        self.desk = desk
        self.now_us, self.after_us = time
        self.connections: dict[Connection, None] = {}
        self.ghosts: dict[ByteConnection, None] = {}  # vanished, but the machine still holds their sockets
        self._loop = loop
        self._keys = keys
        self._stranger = b""
        self._listener: asyncio.AbstractServer | None = None
        self._address: tuple[str | None, int] | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}

    @property
    def up(self) -> bool:
        """Whether somebody who connects now is let in."""
        return self.fault("drop") is None

    @property
    def trusted(self) -> bool:
        """Whether the bank proves its own key in a handshake that begins now."""
        return self.fault("wrong_key") is None

    def fault(self, name: str) -> dict[str, Any] | None:
        """The parameters of a fault in force on this server's lines."""
        faults = self.desk.faults
        fault = faults.on_server(name, self.name) if faults else None
        return fault.params if fault is not None else None

    async def listen(self, host: str | None, port: int) -> int:
        """Serve real bytes there; gives the port (``port`` 0: any free one)."""
        if self._keys is None:
            raise Misconfigured("without keys a bank cannot serve bytes", where=f"exit server {self.name}",
                                remedy="give the bank its keys, or attach it to a line of messages")  # fmt: skip
        self._address = (host, port)
        await self._open()
        return self._address[1]

    async def close(self) -> None:
        """Listen no more and end every connection."""
        self._address = None
        self._shut()
        for connection in tuple(self.connections):
            connection.close()
        for ghost in tuple(self.ghosts):
            ghost.bury()
        for task in tuple(self._tasks):
            await task

    async def _open(self) -> None:
        if not self._wanted() or self._address is None:
            return
        host, port = self._address
        listener = await self._loop.create_server(self._accept, host, port)
        if self._wanted():
            self._listener = listener
            self._address = (host, listener.sockets[0].getsockname()[1])
        else:
            listener.close()

    def _wanted(self) -> bool:
        """Whether to listen, as things stand now."""
        return self._address is not None and self._listener is None and self.up

    def _shut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _accept(self) -> ByteConnection:
        keys = cast(Keys, self._keys)
        if not self.trusted:
            self._stranger = self._stranger or keys.sm2.key_pair(keys.entropy).private
            keys = keys._replace(identity=BankIdentity(self._stranger, keys.identity.broker_public))
        return ByteConnection(self, keys)

    # Faults

    def fall(self) -> None:
        """Reset every connection and refuse new ones while the fault lasts."""
        self._shut()
        for connection in tuple(self.connections):
            connection.reset()

    def rise(self) -> None:
        """Listen again, unless another fault forbids it."""
        if self._wanted():
            task = self._loop.create_task(self._open(), name=f"exit server {self.name} listens again")
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)

    def vanish(self) -> None:
        """Lose every connection without a word."""
        for connection in tuple(self.connections):
            connection.vanish()

    def close_connections(self) -> int:
        """End every connection in order; gives how many there were."""
        open_ = tuple(self.connections)
        for connection in open_:
            connection.close()
        return len(open_)

    def state(self) -> dict[str, Any]:
        """For a control interface."""
        return {
            "up": self.up,
            "listening": self._listener is not None,
            "address": None if self._address is None else f"{self._address[0]}:{self._address[1]}",
            "connections": [{"broker": connection.broker, "ready": connection.ready, "renewals": connection.renewals,
                             "since_us": connection.since_us} for connection in self.connections],
        }
