"""Frames per second of the emulated bank on real sockets, beside a bare asyncio echo of the same frames.

One process serves, this one is the load: 64 connections, each sends a frame when the one before is answered. Between
the echo, which takes frames apart by a length of four bytes, and the whole bank stand two servers that do a part of
its work, framing (header, type, sequence) and framing with SM4-GCM, and the bank itself with payloads that it neither
reads nor writes: session, keys, desk. The load is the same for all: frames are sealed before the clock runs, answers
are counted by their bytes and read when it has stopped. The bank answers heartbeats.

Two measures. Frames per second of wall time are what a client sees; where the load is as busy as the server, or
neighbours use the machine, they flatter the slower server. Frames per CPU second of the serving process, its system
calls included, are the server's own. Variants take turns, and a ratio is the median over turns of what stood next to
each other.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter, process_time
from typing import NamedTuple, cast

from core.clock import MachineClock
from core.settings import Settings
from core.trace import Trace
from core.wire.sm2 import FastSm2, sm4_gcm_decrypt, sm4_gcm_encrypt
from core.wire.socket import (
    CMB,
    CMBC,
    BankIdentity,
    BrokerIdentity,
    BrokerSession,
    Flavour,
    Frame,
    FrameDecoder,
    FrameType,
    Party,
    Received,
)
from core.wire.socket import messages as m
from core.wire.socket.frames import CLEAR_TAG, pack_header
from emulators.bst.bank import SocketBank
from emulators.bst.faults import PRIMARY
from emulators.bst.server import Keys
from emulators.streams import Streams

CONNECTIONS = 64
FRAMES = 200
TURNS = 7
HOST, BROKER, SERIAL, KEY = "127.0.0.1", "NOSTRO01", "1", bytes(range(16))
SM2 = FastSm2()
BROKER_KEYS, BANK_KEYS = (SM2.key_pair(random.Random(seed).randbytes) for seed in ("broker", "bank"))
TO_BANK, TO_BROKER = (1).to_bytes(4), (2).to_bytes(4)
FROM_BROKER = m.Stamp("R000000000000001", "20260312", "101530")
FROM_BANK = m.Stamp("CMBM000000000001", "20260312", "101530")


# --- servers ----------------------------------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    """Length, body; answers with the same."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) >= (end := 4 + int.from_bytes(self._buffer[:4])):
            body = bytes(self._buffer[4:end])
            del self._buffer[:end]
            self._transport.write(len(body).to_bytes(4) + body)


class Framing(asyncio.Protocol):
    """Frames of the protocol in the clear; answers with the same body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._decoder, self._sequence = FrameDecoder(CMB.magic), 0

    def data_received(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            assert isinstance(frame, Frame) and frame.sequence == self._sequence
            self._answer(frame)
            self._sequence += 1

    def _answer(self, frame: Frame) -> None:
        header = pack_header(CMB.magic, FrameType.RESPONSE, frame.command, self._sequence, len(frame.body))
        self._transport.write(header + frame.body + CLEAR_TAG)


class Sealing(Framing):
    """The same under SM4-GCM."""

    def _answer(self, frame: Frame) -> None:
        sequence = self._sequence.to_bytes(8)
        plain = sm4_gcm_decrypt(KEY, TO_BANK + sequence, frame.body, frame.tag, frame.header)
        header = pack_header(CMB.magic, FrameType.RESPONSE, frame.command, self._sequence, len(plain))
        body, tag = sm4_gcm_encrypt(KEY, TO_BROKER + sequence, plain, header)
        self._transport.write(header + body + tag)


HEARTBEAT = m.compose(m.HEARTBEAT, FrameType.REQUEST, m.Heartbeat(), FROM_BROKER, BROKER, "CMB", Party.BROKER)
BODY, ANSWERED = CMB.encode(HEARTBEAT), CMB.encode(m.answer(HEARTBEAT, m.Answer(0), FROM_BANK))


def read_nothing(_kind: FrameType, _command: str, _payload: bytes) -> m.Message:
    return HEARTBEAT


UNREAD = Flavour(CMB.name, CMB.magic, lambda _message: ANSWERED, read_nothing)
BANKS = {"emulated bank, payloads unread": UNREAD, "emulated CMB": CMB, "emulated CMBC": CMBC}


def bank(flavour: Flavour, loop: asyncio.AbstractEventLoop) -> SocketBank:
    """The emulated bank, on the machine's clock."""
    clock, streams = MachineClock(), Streams(1)
    identity = BankIdentity(BANK_KEYS.private, lambda _broker, _serial: BROKER_KEYS.public)
    keys = Keys(identity, SM2, streams("keys").randbytes)
    return SocketBank(
        flavour.name, flavour, loop, clock, streams, Trace(clock, lambda _: None), Settings(), keys=keys)


async def serve() -> None:
    """All servers, each on a port of its own; prints the ports, then for each line of input its CPU time so far, in
    seconds, until its input ends."""
    loop = asyncio.get_running_loop()
    listeners = [await loop.create_server(protocol, HOST, 0) for protocol in (Echo, Framing, Sealing)]
    ports = [listener.sockets[0].getsockname()[1] for listener in listeners]
    ports += [await bank(flavour, loop).servers[PRIMARY].listen(HOST, 0) for flavour in BANKS.values()]
    print(*ports, flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(process_time(), flush=True)


# --- load -------------------------------------------------------------------------------------------------------


class Caller(asyncio.Protocol):
    """One connection: the next frame goes out when as many bytes have come as an answer has."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self._wanted = 0
        self._arrived: asyncio.Future[None] | None = None
        self._frames: Iterator[bytes] = iter(())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard += data
        while self._wanted and len(self.heard) >= self._wanted:
            self._next()

    def _next(self) -> None:
        frame = next(self._frames, None)
        if frame is not None:
            self._wanted += self._answer_bytes
            self.transport.write(frame)
        else:
            self._wanted = 0
            if self._arrived is not None:
                self._arrived.set_result(None)

    async def hear(self, size: int) -> bytes:
        """So many bytes, outside the measured time."""
        await self.call([], size)
        data = bytes(self.heard[:size])
        del self.heard[:size]
        return data

    def call(self, frames: list[bytes], answer_bytes: int) -> asyncio.Future[None]:
        """Send one after the other; done when the last is answered. Without frames: wait for one answer."""
        self._arrived = asyncio.get_running_loop().create_future()
        self._frames, self._answer_bytes = iter(frames), answer_bytes
        if frames:
            self._next()
        else:
            self._wanted = answer_bytes
        return self._arrived


class Prepared(NamedTuple):
    """What one connection will send, how long an answer is, and how many answers its bytes turn out to be."""

    frames: list[bytes]
    answer_bytes: int
    read: Callable[[bytes], int]


Prepare = Callable[[Caller], Awaitable[Prepared]]

async def for_echo(_: Caller) -> Prepared:
    """As many bytes as a frame has."""
    body = BODY + bytes(36)
    frame = len(body).to_bytes(4) + body
    return Prepared([frame] * FRAMES, len(frame), lambda heard: heard.count(frame))


async def for_framing(_: Caller) -> Prepared:
    frames = [pack_header(CMB.magic, FrameType.REQUEST, m.HEARTBEAT, number, len(BODY)) + BODY + CLEAR_TAG
              for number in range(FRAMES)]  # fmt: skip
    return Prepared(frames, len(frames[0]), _count_frames)


async def for_sealing(_: Caller) -> Prepared:
    frames = []
    for number in range(FRAMES):
        header = pack_header(CMB.magic, FrameType.REQUEST, m.HEARTBEAT, number, len(BODY))
        frames.append(header + b"".join(sm4_gcm_encrypt(KEY, TO_BANK + number.to_bytes(8), BODY, header)))
    return Prepared(frames, len(frames[0]), _count_frames)


def _count_frames(heard: bytes) -> int:
    return sum(isinstance(frame, Frame) for frame in FrameDecoder(CMB.magic).feed(heard))


def for_bank(flavour: Flavour) -> Prepare:
    """Keys are agreed; then heartbeats."""
    name = flavour.name.upper()
    beat = m.compose(m.HEARTBEAT, FrameType.REQUEST, m.Heartbeat(), FROM_BROKER, BROKER, name, Party.BROKER)
    said = m.answer(beat, m.Answer(0), FROM_BANK._replace(ref=f"{name}M000000000001"))
    answer_bytes = 40 + len(flavour.encode(said))

    async def prepare(caller: Caller) -> Prepared:
        identity = BrokerIdentity(BROKER, SERIAL, BROKER_KEYS.private, BANK_KEYS.public)
        session = BrokerSession(flavour, identity, SM2, random.Random(1).randbytes)
        caller.transport.write(session.start())
        session.feed(await caller.hear(234))
        caller.transport.write(session.output())

        def read(heard: bytes) -> int:
            return sum(isinstance(event, Received) and event.message.kind is FrameType.RESPONSE
                       for event in session.feed(heard))  # fmt: skip

        return Prepared([session.encode(beat) for _ in range(FRAMES)], answer_bytes, read)

    return prepare


class Rate(NamedTuple):
    """Frames answered per second, over all connections."""

    wall: float
    cpu: float


async def turn(port: int, prepare: Prepare, served_s: Callable[[], float]) -> Rate:
    """Every connection sends its frames; ``served_s`` gives the CPU seconds of the server so far."""
    loop = asyncio.get_running_loop()
    callers = [(await loop.create_connection(Caller, HOST, port))[1] for _ in range(CONNECTIONS)]
    loads = [await prepare(caller) for caller in callers]
    gc.collect()
    served, began = served_s(), perf_counter()
    done = asyncio.gather(*(caller.call(load.frames, load.answer_bytes)
                            for caller, load in zip(callers, loads, strict=True)))  # fmt: skip
    while not done.done():
        await asyncio.sleep(0)  # the load never sleeps: waking it would be at the cost of whoever answers
    took, served = perf_counter() - began, served_s() - served
    answered = [load.read(bytes(caller.heard)) for caller, load in zip(callers, loads, strict=True)]
    assert answered == [FRAMES] * CONNECTIONS, answered
    for caller in callers:
        caller.transport.close()
    return Rate(CONNECTIONS * FRAMES / took, CONNECTIONS * FRAMES / served)


LOADS: dict[str, Prepare] = {
    "echo": for_echo,
    "framing": for_framing,
    "framing and SM4": for_sealing,
    "emulated bank, payloads unread": for_bank(CMB),
    "emulated CMB": for_bank(CMB),
    "emulated CMBC": for_bank(CMBC),
}


async def turns(ports: list[int], served_s: Callable[[], float]) -> dict[str, list[Rate]]:
    """The variants one after the other, again and again; the first time does not count."""
    rates: dict[str, list[Rate]] = {name: [] for name in LOADS}
    for _ in range(1 + TURNS):
        for (name, prepare), port in zip(LOADS.items(), ports, strict=True):
            rates[name].append(await turn(port, prepare, served_s))
    return {name: each[1:] for name, each in rates.items()}


def measure() -> dict[str, float]:
    """Frames answered per second, and ratios to the echo, by both measures."""
    code = "import asyncio; from tests.bench.bench_socket_server import serve; asyncio.run(serve())"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        said, heard = server.stdin, server.stdout

        def served_s() -> float:
            said.write(b"\n")
            said.flush()
            return float(heard.readline())

        rates = asyncio.run(turns([int(port) for port in heard.readline().split()], served_s))
        server.stdin.close()
    figures: dict[str, float] = {}
    for measured, unit in (("wall", "s"), ("cpu", "CPU s of the server")):
        of = {name: [float(getattr(rate, measured)) for rate in each] for name, each in rates.items()}
        figures |= {f"{name}, frames per {unit}": statistics.median(each) for name, each in of.items()}
        figures |= {f"{name} over echo, by {measured}": _median_ratio(each, of["echo"])
                    for name, each in of.items() if name != "echo"}
    return figures


def _median_ratio(mine: list[float], echo: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(mine, echo, strict=True))


if __name__ == "__main__":
    for name, figure in measure().items():
        print(f"{name:52} {figure:12,.3f}")
