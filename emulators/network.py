"""A network in memory: asyncio's streams between named hosts, with the faults of real lines.

`Network` stands under ``loop.create_connection`` and ``loop.create_server``, so stock libraries (asyncio streams,
asyncssh, uvicorn, httpx) run on it unmodified. A `ContextVar` says on which host a coroutine runs: `on_host`.

The model is a TCP stream, not packets:

* Bytes arrive whole and in order. A link delays them (latency, bandwidth); loss shows as retransmission delay.
* A **partition** holds bytes back; after **heal** they arrive. It may cut one direction only (the request arrives, the
  answer does not). Who waits longer than TCP would (`give_up_us`) gets TimeoutError(ETIMEDOUT).
* **reset** ends connections at both ends with ConnectionResetError.
* **half_open**: one end vanishes without a word; the other does not notice until it gives up writing, or is reset.
* Connecting where nobody listens is refused after one round trip; across a partition it hangs as SYNs do.
* Acknowledgements are not modelled: a sender's buffer empties when the receiver's protocol takes the bytes.
* ``ssl=`` and ``start_tls`` work through asyncio's own `sslproto`. OpenSSL draws its own entropy: the bytes differ
  from run to run, and on a link with bandwidth so may the microseconds; plain streams are exactly repeatable.

Source: gaps.md B-46 (faults), B-50 (TWIN-01).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl as tls
import weakref
from asyncio import sslproto, transports
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from random import Random
from typing import Any, Final, cast

from core.clock import US_PER_S
from core.errors import Misconfigured
from emulators.loop import SimLoop, Timer
from emulators.streams import Draw, Streams, constant, happens

HOST: ContextVar[str] = ContextVar("nostro_host", default="core")
"""The host on which the running coroutine lives. Tasks inherit it; a server's callbacks have the server's."""

_secure: Any = sslproto.SSLProtocol
"""TLS between a protocol and a transport; asyncio's type stubs say whole seconds where it takes fractions."""

_MTU = 1_460
_LONGEST_RETRY_US = 60 * US_PER_S
_LOOPBACK_US = 30
_FIRST_EPHEMERAL_PORT = 49_152
_EVERYWHERE = ("", "0.0.0.0", "::")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HALF_A_MILLISECOND = constant(500)
_EOF: Final = "end of stream"
_RESET: Final = "reset"


@contextmanager
def on_host(name: str) -> Iterator[None]:
    """What runs inside, and the tasks it starts, live on this host."""
    token = HOST.set(name)
    try:
        yield
    finally:
        HOST.reset(token)


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a line between two hosts.

    ``latency_us``: one way, microseconds. ``bandwidth``: bytes per second, None for no limit. ``loss``: probability
    that a segment of 1,460 bytes is lost and sent again after ``retry_us``, doubling.
    """

    latency_us: Draw = _HALF_A_MILLISECOND
    bandwidth: int | None = None
    loss: float = 0.0
    retry_us: int = 200_000

    def transit_us(self, rng: Random, size: int) -> int:
        """Microseconds from the last byte's departure to its arrival."""
        transit = max(0, round(self.latency_us(rng)))
        if self.loss:
            survives: float = (1 - self.loss) ** (1 + size // _MTU)
            retry_us = self.retry_us
            while happens(rng, 1 - survives):
                transit += retry_us
                retry_us = min(retry_us * 2, _LONGEST_RETRY_US)
        return transit


class Pipe:
    """One direction of a connection: what its source has sent and its target's protocol has not taken yet.

    The timer belongs to the first segment: a later one that would overtake it waits behind it.
    """

    __slots__ = ("_free_us", "_give_up", "_link", "_network", "_rng", "_segments", "_stalled", "_timer",
                 "lost", "source", "target", "untaken")  # fmt: skip

    def __init__(self, network: Network, source: MemoryTransport, target: MemoryTransport) -> None:
        self._network, self.source, self.target = network, source, target
        self._link, self._rng = network.line(source.host, target.host)
        self._segments: deque[tuple[int, bytes | str]] = deque()
        self._timer: Timer | None = None
        self._give_up: Timer | None = None
        self._free_us = 0
        self._stalled = False
        self.lost = False
        self.untaken = 0

    def send(self, payload: bytes | str, size: int = 0) -> None:
        """Put bytes, `_EOF` or `_RESET` on the line, behind all that was sent before."""
        self.untaken += size
        if self.lost:
            self._begin_giving_up()
            return
        now = depart = self._network.loop.now_us
        if self._link.bandwidth:
            depart = self._free_us = max(now, self._free_us) + size * US_PER_S // self._link.bandwidth
        arrival = depart + self._link.transit_us(self._rng, size)
        self._segments.append((arrival, payload))
        if self._timer is None and not self._stalled:
            self._timer = self._network.loop.call_after_us(arrival - now, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        if self._network.is_cut(self.source.host, self.target.host):
            self._stalled = True
            self._begin_giving_up()
            return
        now, segments, chunks = self._network.loop.now_us, self._segments, []
        ending = ""
        while segments and segments[0][0] <= now and not ending:
            _, payload = segments.popleft()
            if isinstance(payload, str):
                ending = payload
            else:
                chunks.append(payload)
        if segments:
            self._timer = self._network.loop.call_after_us(max(0, segments[0][0] - now), self._arrive)
        if chunks:
            self.target.receive(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        if ending:
            self.target.receive_ending(ending)

    def resume(self) -> None:
        """The partition is over: what was held arrives after a retransmission."""
        if not self._stalled:
            return
        self._stalled = False
        self._stop_giving_up()
        delay = self._link.transit_us(self._rng, 0) + self._link.retry_us
        self._timer = self._network.loop.call_after_us(delay, self._arrive)

    def drop(self) -> None:
        """Forget what is on its way."""
        self._segments.clear()
        self._stalled = False
        self._stop_giving_up()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def taken(self, size: int) -> None:
        """The target's protocol has taken bytes: the source may have room again."""
        self.untaken -= size
        self.source.room_made()

    def _begin_giving_up(self) -> None:
        if self._give_up is None:
            self._give_up = self._network.loop.call_after_us(self._network.give_up_us, self._gave_up)

    def _stop_giving_up(self) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None

    def _gave_up(self) -> None:
        self.drop()
        self.source.fail(_timed_out(self.source.peername))


class StandInSocket:
    """What ``get_extra_info("socket")`` gives: addresses and options like a socket's, but no line to the machine.

    Its ``fileno()`` never becomes readable while the connection is open, which is what connection pools look for.
    """

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(self, network: Network, sockname: tuple[str, int], transport: MemoryTransport | None = None) -> None:
        self._network, self._sockname, self._transport = network, sockname, transport
        self._options: dict[tuple[int, int], Any] = {}

    def getsockname(self) -> tuple[str, int]:
        return self._sockname

    def getpeername(self) -> tuple[str, int]:
        if self._transport is None:
            raise OSError(errno.ENOTCONN, "a listening socket has no peer")
        return self._transport.peername

    def setsockopt(self, level: int, option: int, value: Any, *_length: int) -> None:
        self._options[level, option] = value

    def getsockopt(self, level: int, option: int, _length: int = 0) -> Any:
        return self._options.get((level, option), 0)

    def fileno(self) -> int:
        closed = self._transport is None or self._transport.is_closing() or self._transport.ended
        return -1 if closed else self._network.quiet_fd()


class MemoryTransport(transports._FlowControlMixin):
    """One end of a connection: an `asyncio.Transport` whose wire is a `Pipe`."""

    _start_tls_compatible = True

    # of asyncio's flow control, which its type stubs leave out
    _extra: dict[str, Any]
    _protocol_paused: bool
    _maybe_pause_protocol: Callable[[], None]
    _maybe_resume_protocol: Callable[[], None]

    def __init__(
        self, network: Network, host: str, sockname: tuple[str, int], peername: tuple[str, int], context: Context
    ) -> None:
        super().__init__({"sockname": sockname, "peername": peername}, network.loop)
        self._extra["socket"] = StandInSocket(network, sockname, self)
        self._network, self.host, self._context = network, host, context
        self.sockname, self.peername = sockname, peername
        self.out: Pipe
        self.inward: Pipe
        self.server: MemoryServer | None = None
        self._protocol: Any = None
        self._inbox: deque[bytes | str] = deque()
        self._reading = False
        self._closing = self._lost = self._eof_sent = False
        self.ended = False

    # -- opening and protocols -------------------------------------------------------------------------------------

    def open(self, protocol: asyncio.BaseProtocol) -> None:
        """Introduce the protocol; bytes flow to it from now on."""
        self._protocol = protocol
        self._reading = True
        protocol.connection_made(self)
        self._network.loop.call_soon(self._empty_inbox, context=self._context)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast(asyncio.BaseProtocol, self._protocol)

    # -- writing ---------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: a bytes-like object is required, not {type(data).__name__}")
        if self._eof_sent:
            raise RuntimeError("cannot write after write_eof")
        if self._closing or not data:
            return
        self.out.send(bytes(data), len(data))
        self._maybe_pause_protocol()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if not (self._eof_sent or self._closing):
            self._eof_sent = True
            self.out.send(_EOF)

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        """Bytes beyond what the line itself holds (`Network.window`)."""
        return max(0, self.out.untaken - self._network.window)

    def room_made(self) -> None:
        """The other end took bytes."""
        if self._protocol_paused and not self._lost:
            self._network.loop.call_soon(self._maybe_resume_protocol, context=self._context)

    # -- reading ---------------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not (self._reading or self._closing):
            self._reading = True
            self._network.loop.call_soon(self._empty_inbox, context=self._context)

    def receive(self, data: bytes) -> None:
        """Bytes have arrived from the line; a closed end answers them with a reset, as TCP does."""
        if self._closing:
            self.out.send(_RESET)
        elif self._reading and not self._inbox:
            self._context.run(self._hand_over, data)
        else:
            self._inbox.append(data)

    def receive_ending(self, ending: str) -> None:
        """The other end has finished or was reset."""
        self.ended = True
        if ending == _RESET:
            self.fail(ConnectionResetError(errno.ECONNRESET, f"connection reset by {_show(self.peername)}"))
        elif self._reading and not self._inbox:
            self._context.run(self._hand_over_eof)
        else:
            self._inbox.append(ending)

    def _empty_inbox(self) -> None:
        while self._inbox and self._reading and not self._closing:
            item = self._inbox.popleft()
            if isinstance(item, str):
                self._hand_over_eof()
            else:
                self._hand_over(item)

    def _hand_over(self, data: bytes) -> None:
        self.inward.taken(len(data))
        try:
            if isinstance(self._protocol, asyncio.BufferedProtocol):
                _fill(self._protocol, data)
            else:
                self._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._break(error, "protocol.data_received() call failed")

    def _hand_over_eof(self) -> None:
        if self._closing:
            return
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._break(error, "protocol.eof_received() call failed")
            return
        if not keep_open:
            self.close()

    def _break(self, error: BaseException, message: str) -> None:
        """The protocol failed: report it and drop the connection."""
        context = {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        self._network.loop.call_exception_handler(context)
        self._force_close(error)

    # -- ending ----------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Finish: what was written still travels."""
        if not self._closing:
            self.write_eof()
            self._end(None)

    def abort(self) -> None:
        """End at once: what is on its way is lost and the other end is reset."""
        self._force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        if not self._closing:
            self.out.drop()
            self.out.send(_RESET)
            self._end(error)

    def fail(self, error: BaseException) -> None:
        """The line broke: end without telling the other side."""
        if not self._closing:
            self.out.drop()
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._closing = True
        self._inbox.clear()
        self._network.loop.call_soon(self._lose, error, context=self._context)

    def _lose(self, error: BaseException | None) -> None:
        self._lost = True
        protocol, self._protocol = self._protocol, None
        self._network.forget(self)
        if self.server is not None:
            self.server.detach(self)
        if protocol is not None:
            protocol.connection_lost(error)

    def is_lost(self) -> bool:
        """True once the protocol has heard of the end."""
        return self._lost


class MemoryServer(asyncio.AbstractServer):
    """A listening port of a host of the memory network."""

    def __init__(self, network: Network, endpoints: list[tuple[str, int]], accept: Callable[[], Any]) -> None:
        self._network, self._endpoints, self.accept = network, endpoints, accept
        self._transports: dict[MemoryTransport, None] = {}
        self._serving = False
        self._closed: asyncio.Future[None] = network.loop.create_future()
        self._contexts: dict[str, Context] = {}
        for host, _ in endpoints:
            self._contexts[host] = copy_context()
            self._contexts[host].run(HOST.set, host)

    @property
    def sockets(self) -> tuple[StandInSocket, ...]:
        if self._closed.done():
            return ()
        return tuple(StandInSocket(self._network, (self._network.ip_of(host), port)) for host, port in self._endpoints)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._network.loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        self._serving = True

    async def serve_forever(self) -> None:
        """Serve until cancelled or closed."""
        self._serving = True
        try:
            await asyncio.shield(self._closed)
        finally:
            self.close()

    def close(self) -> None:
        """Listen no more; open connections go on."""
        self._serving = False
        self._network.stop_listening(self._endpoints, self)
        if not self._closed.done():
            self._closed.set_result(None)

    async def wait_closed(self) -> None:
        await asyncio.shield(self._closed)

    def context_for(self, host: str) -> Context:
        """A context of its own for each connection, on the server's host."""
        return self._contexts[host].copy()

    def attach(self, transport: MemoryTransport) -> None:
        self._transports[transport] = None

    def detach(self, transport: MemoryTransport) -> None:
        self._transports.pop(transport, None)

    def abort_clients(self) -> None:
        """Reset every open connection of this server."""
        for transport in list(self._transports):
            transport.abort()


class Network:
    """Hosts, links and faults; attaches itself to the loop.

    ``window``: bytes a line takes before a writer's buffer grows. ``give_up_us``: how long unacknowledged bytes are
    sent again (Linux ``tcp_retries2``); ``connect_give_up_us``: the same for SYNs (``tcp_syn_retries``).
    """

    def __init__(
        self,
        loop: SimLoop,
        streams: Streams,
        *,
        default: Link = Link(),
        window: int = 262_144,
        give_up_us: int = 924_600_000,
        connect_give_up_us: int = 127_000_000,
    ) -> None:
        self.loop, self._streams, self._default = loop, streams, default
        self.window, self.give_up_us, self.connect_give_up_us = window, give_up_us, connect_give_up_us
        self._ips: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._servers: dict[tuple[str, int], MemoryServer] = {}
        self._clients: dict[MemoryTransport, None] = {}
        self._held: list[tuple[str, str, asyncio.Future[None]]] = []
        self._next_port: dict[str, int] = {}
        self._quiet_fd: int | None = None
        self.host("core", "10.0.0.1")
        loop.network = self

    # -- the map ---------------------------------------------------------------------------------------------------

    def host(self, name: str, ip: str) -> None:
        """Declare a host and its address."""
        address = str(ipaddress.ip_address(ip))
        if self._names.get(address, name) != name:
            raise Misconfigured(f"{address} is already the address of {self._names[address]!r}", where=f"host {name}")
        self._names.pop(self._ips.get(name, ""), None)
        self._ips[name], self._names[address] = address, name

    def link(self, a: str, b: str, link: Link, back: Link | None = None) -> None:
        """Describe the line from a to b, and back the same unless said otherwise; new connections use it."""
        self._links[self._known(a), self._known(b)] = link
        self._links[b, a] = link if back is None else back

    def line(self, source: str, target: str) -> tuple[Link, Random]:
        """The link in this direction and the stream its draws come from."""
        default = Link(constant(_LOOPBACK_US)) if source == target else self._default
        return self._links.get((source, target), default), self._streams(f"network.{source}->{target}")

    def ip_of(self, name: str) -> str:
        """Address of a declared host."""
        return self._ips[self._known(name)]

    def address_of(self, host: Any) -> str:
        """Literal address for a name, an address or nothing (this host); socket.gaierror for an unknown name."""
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or name in _EVERYWHERE or name in _LOOPBACK:
            return "127.0.0.1"
        if name in self._ips:
            return self._ips[name]
        try:
            return str(ipaddress.ip_address(name))
        except ValueError:
            known = ", ".join(self._ips)
            raise socket.gaierror(socket.EAI_NONAME, f"no host {name!r} in the memory network ({known})") from None

    def _host_at(self, address: Any) -> str:
        ip = self.address_of(address)
        if ip == "127.0.0.1":
            return self._known(HOST.get())
        if ip not in self._names:
            raise OSError(errno.EHOSTUNREACH, f"no host of the memory network has the address {ip}")
        return self._names[ip]

    def _known(self, name: str) -> str:
        if name not in self._ips:
            raise Misconfigured(f"no host {name!r}", where="network", remedy=f"declared: {', '.join(self._ips)}")
        return name

    # -- faults ----------------------------------------------------------------------------------------------------

    def partition(self, a: str, b: str, *, both_ways: bool = True) -> None:
        """Nothing from a reaches b any more (nor back, unless told); bytes are held, not lost."""
        self._cuts.add((self._known(a), self._known(b)))
        if both_ways:
            self._cuts.add((b, a))

    def heal(self, a: str, b: str) -> None:
        """End every partition between a and b; held bytes and connection attempts travel again."""
        self._cuts -= {(self._known(a), self._known(b)), (b, a)}
        for client in self._between(a, b):
            client.out.resume()
            client.inward.resume()
        waiting = [future for source, target, future in self._held if {source, target} == {a, b}]
        self._held = [entry for entry in self._held if {entry[0], entry[1]} != {a, b}]
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether bytes in this direction are held back."""
        return bool(self._cuts) and (source, target) in self._cuts

    def reset(self, a: str, b: str) -> int:
        """End every connection between a and b with ConnectionResetError at both ends; gives their number."""
        clients = self._between(a, b)
        for client in clients:
            for end in (client, client.inward.source):
                end.out.drop()
                end.receive_ending(_RESET)
        return len(clients)

    def half_open(self, survivor: str, gone: str, *, rebooted: bool = False) -> int:
        """The ends on ``gone`` vanish silently (ConnectionAbortedError there, nothing at all at the survivor).

        What the survivor writes is swallowed until it gives up; if the other host has ``rebooted``, a write is
        answered by a reset. Gives the number of connections.
        """
        clients = self._between(survivor, gone)
        for client in clients:
            left, vanished = client, client.inward.source
            if client.host != survivor:
                left, vanished = vanished, left
            vanished.out.drop()
            vanished.out.lost = not rebooted
            left.out.drop()
            left.out.lost = not rebooted
            vanished.fail(ConnectionAbortedError(errno.ECONNABORTED, f"{gone} vanished"))
        return len(clients)

    def _between(self, a: str, b: str) -> list[MemoryTransport]:
        pair = {self._known(a), self._known(b)}
        return [client for client in self._clients if {client.host, client.inward.source.host} == pair]

    def forget(self, transport: MemoryTransport) -> None:
        """A connection both of whose ends have been lost is no longer subject to faults."""
        other = transport.inward.source
        if other.is_lost():
            self._clients.pop(transport, None)
            self._clients.pop(other, None)

    # -- connecting ------------------------------------------------------------------------------------------------

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any,
        port: Any,
        *,
        ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        local_addr: tuple[str, int] | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        **_options: Any,
    ) -> tuple[asyncio.BaseTransport, Any]:
        """As `asyncio.loop.create_connection`; address family and happy-eyeballs options mean nothing here."""
        source, target = self._known(HOST.get()), self._host_at(host)
        own_port = local_addr[1] if local_addr and local_addr[1] else self._ephemeral_port(source)
        client = await self._shake_hands(source, own_port, target, int(port))
        protocol = protocol_factory()
        try:
            if not ssl:
                client.open(protocol)
                return client, protocol
            opened = self.loop.create_future()
            secure = _secure(
                self.loop, protocol, tls.create_default_context() if ssl is True else ssl, opened, False,
                server_hostname if server_hostname is not None else str(host),
                ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
            )  # fmt: skip
            client.open(secure)
            await opened
            return secure._app_transport, protocol
        except BaseException:
            client.abort()
            raise

    async def _shake_hands(self, source: str, own_port: int, target: str, port: int) -> MemoryTransport:
        """SYN there, SYN-ACK back; raises ConnectionRefusedError or TimeoutError(ETIMEDOUT)."""
        client: MemoryTransport | None = None
        try:
            async with asyncio.timeout(self.connect_give_up_us / US_PER_S) as patience:
                await self._travel(source, target)
                server = self._servers.get((target, port))
                if server is not None and server.is_serving():
                    client = self._accept(server, source, own_port, target, port)
                await self._travel(target, source)
        except BaseException as error:
            if client is not None:
                client.abort()
            if isinstance(error, TimeoutError) and patience.expired():
                raise _timed_out((self.ip_of(target), port)) from None
            raise
        if client is None:
            address = _show((self.ip_of(target), port))
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"{target} {address} refused the connection: no listener")
        return client

    async def _travel(self, source: str, target: str) -> None:
        """One packet without payload, sent again after a partition."""
        link, rng = self.line(source, target)
        await asyncio.sleep(link.transit_us(rng, 0) / US_PER_S)
        while self.is_cut(source, target):
            healed: asyncio.Future[None] = self.loop.create_future()
            self._held.append((source, target, healed))
            await healed
            await asyncio.sleep((link.transit_us(rng, 0) + link.retry_us) / US_PER_S)

    def _accept(self, server: MemoryServer, source: str, own_port: int, target: str, port: int) -> MemoryTransport:
        """Both ends of a connection; the server's protocol is introduced now, the client's when it hears of it."""
        near, far = (self.ip_of(source), own_port), (self.ip_of(target), port)
        client = MemoryTransport(self, source, near, far, copy_context())
        context = server.context_for(target)
        accepted = MemoryTransport(self, target, far, near, context)
        client.out = accepted.inward = Pipe(self, client, accepted)
        accepted.out = client.inward = Pipe(self, accepted, client)
        accepted.server = server
        server.attach(accepted)
        self._clients[client] = None
        context.run(self._introduce, server, accepted)
        return client

    def _introduce(self, server: MemoryServer, accepted: MemoryTransport) -> None:
        try:
            accepted.open(server.accept())
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            accepted._break(error, "the protocol of an incoming connection failed")

    def _ephemeral_port(self, host: str) -> int:
        port = self._next_port.get(host, _FIRST_EPHEMERAL_PORT)
        while (host, port) in self._servers:
            port += 1
        self._next_port[host] = _FIRST_EPHEMERAL_PORT if port >= 65_535 else port + 1
        return port

    # -- listening -------------------------------------------------------------------------------------------------

    async def create_server(
        self,
        protocol_factory: Callable[[], Any],
        host: Any,
        port: Any,
        *,
        ssl: tls.SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        **_options: Any,
    ) -> MemoryServer:
        """As `asyncio.loop.create_server`. A server bound to a host's address or name runs on that host."""

        def accept_secure() -> Any:
            return _secure(
                self.loop, protocol_factory(), ssl, None, True,
                ssl_handshake_timeout=ssl_handshake_timeout, ssl_shutdown_timeout=ssl_shutdown_timeout,
            )  # fmt: skip

        hosts = list(host) if isinstance(host, (list, tuple)) else [host]
        names = list(dict.fromkeys(self._host_at(entry) for entry in hosts))
        endpoints = [(name, int(port or 0) or self._ephemeral_port(name)) for name in names]
        for name, number in endpoints:
            if (name, number) in self._servers:
                raise OSError(errno.EADDRINUSE, f"port {number} of {name} is in use")
        server = MemoryServer(self, endpoints, accept_secure if ssl else protocol_factory)
        self._servers.update(dict.fromkeys(endpoints, server))
        if start_serving:
            await server.start_serving()
        return server

    def stop_listening(self, endpoints: list[tuple[str, int]], server: MemoryServer) -> None:
        """Free the ports of a server."""
        for endpoint in endpoints:
            if self._servers.get(endpoint) is server:
                del self._servers[endpoint]

    def quiet_fd(self) -> int:
        """A real descriptor on which nothing ever arrives, made when first asked for."""
        if self._quiet_fd is None:
            ends = os.pipe()
            self._quiet_fd = ends[0]
            weakref.finalize(self, _close_all, ends)
        return self._quiet_fd


def _fill(protocol: Any, data: bytes) -> None:
    """Hand bytes to a protocol that brings its own buffer."""
    rest = memoryview(data)
    while rest:
        buffer = protocol.get_buffer(len(rest))
        size = min(len(buffer), len(rest))
        if not size:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:size] = rest[:size]
        protocol.buffer_updated(size)
        rest = rest[size:]


def _close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _timed_out(address: tuple[str, int]) -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, f"connection to {_show(address)} timed out")


def _show(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
