"""A client that does not read, on real sockets, and messages that the protocol has no room for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from bank_world import BANK_KEYS, BROKER, BROKER_KEYS, BUILD, SERIAL, SM2, Rig

from core.clock import MachineClock, hkt
from core.domain import Market
from core.settings import Settings
from core.trace import Trace
from core.wire.socket import BankIdentity, BrokerIdentity, BrokerSession, Established, FrameType, Party, Received
from core.wire.socket import messages as m
from emulators.bst.bank import SocketBank
from emulators.bst.server import ByteConnection, Keys
from emulators.streams import Streams

SMALL = 4_096
"""Bytes that the machine keeps for either end: what does not fit lies with the bank."""
BANKS = ("cmb", "cmbc")


class SlowReader:
    """A broker with keys that asks for signs of life and reads the answers when it likes."""

    def __init__(self, bank: SocketBank, port: int) -> None:
        identity = BrokerIdentity(BROKER, SERIAL, BROKER_KEYS.private, BANK_KEYS.public)
        self._session = BrokerSession(bank.desk.flavour, identity, SM2, Streams(2)("broker").randbytes)
        self._bank, self._port, self._number = bank, port, 0
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self._socket.setblocking(False)
        self.answers = 0

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
        await loop.sock_sendall(self._socket, self._session.start())
        while not await self.read():
            pass

    async def read(self) -> bool:
        """Read once; whether the keys have come to be agreed."""
        data = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        if not data:
            raise ConnectionResetError
        events = self._session.feed(data)
        await asyncio.get_running_loop().sock_sendall(self._socket, self._session.output())
        self.answers += sum(isinstance(event, Received) and event.message.kind is FrameType.RESPONSE
                            for event in events)
        return any(isinstance(event, Established) for event in events)

    async def ask(self, times: int) -> None:
        for _ in range(times):
            self._number += 1
            moment = hkt(MachineClock().now_ms())
            stamp = m.Stamp(f"S{self._number:09d}", f"{moment:%Y%m%d}", f"{moment:%H%M%S}")
            asked = m.compose(m.HEARTBEAT, FrameType.REQUEST, m.Heartbeat(), stamp, BROKER, self._bank.values.name,
                              Party.BROKER)
            await asyncio.get_running_loop().sock_sendall(self._socket, self._session.encode(asked))

    def close(self) -> None:
        self._socket.close()


Story = Callable[[SocketBank, SlowReader, ByteConnection], Awaitable[None]]


def on_real_sockets(name: str, limit: int, story: Story) -> None:
    async def told() -> None:
        loop, clock = asyncio.get_running_loop(), MachineClock()
        identity = BankIdentity(BANK_KEYS.private, lambda *_: BROKER_KEYS.public)
        bank = BUILD[name](loop, clock, Streams(1), Trace(clock, lambda _: None),
                           Settings({f"sim.{name}.unread.limit": limit}),
                           keys=Keys(identity, SM2, Streams(1)("bank").randbytes))
        server = bank.servers["primary"]
        reader = SlowReader(bank, await server.listen("127.0.0.1", 0))
        try:
            await reader.connect()
            (connection,) = (cast(ByteConnection, one) for one in server.connections)
            await until(lambda: connection.ready)
            transport_of(connection).get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            async with asyncio.timeout(20):
                await story(bank, reader, connection)
        finally:
            reader.close()
            for one in bank.servers.values():
                await one.close()

    asyncio.run(told())


def transport_of(connection: ByteConnection) -> Any:
    assert connection._transport is not None
    return connection._transport


async def until(look: Callable[[], bool]) -> None:
    """Let the loop turn until it is so."""
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0)


@pytest.mark.parametrize("name", BANKS)
def test_who_does_not_read_is_not_heard_until_they_have_read(name: str) -> None:
    """The bank's buffer stays small, and once the client reads, every question is answered."""

    async def story(_bank: SocketBank, reader: SlowReader, connection: ByteConnection) -> None:
        transport, times = transport_of(connection), 3_000
        asking = asyncio.ensure_future(reader.ask(times))
        await until(lambda: not transport.is_reading())
        assert transport.get_write_buffer_size() < 512 * 1024 and not connection.over
        while reader.answers < times:
            await reader.read()
        await asking
        assert transport.is_reading() and transport.get_write_buffer_size() == 0

    on_real_sockets(name, 1 << 20, story)


@pytest.mark.parametrize("name", BANKS)
def test_who_leaves_more_than_the_limit_unread_is_disconnected(name: str) -> None:
    async def story(bank: SocketBank, reader: SlowReader, connection: ByteConnection) -> None:
        transport, largest = transport_of(connection), 0
        while not connection.over:
            largest = max(largest, transport.get_write_buffer_size())
            connection.send(bank.desk.heartbeat())
            await asyncio.sleep(0)
        assert 150_000 < largest <= 200_000
        assert not bank.servers["primary"].connections
        with contextlib.suppress(ConnectionResetError):
            while True:
                await reader.read()

    on_real_sockets(name, 200_000, story)


@pytest.mark.parametrize("name", BANKS)
def test_what_the_protocol_has_no_room_for_is_not_sent_and_the_line_goes_on(name: str) -> None:
    """A customer's name that no message can carry, as a test or an earlier version may have opened one."""
    rig = Rig(name, wire="bytes")
    try:
        client = rig.signed_on()
        rig.bank.open_customer("odd", "CHAN\x07TAI MAN" + "X" * 200, "hash-odd", {"HKD": 100_000})
        rig.bank.sign("odd", Market.HK)
        rig.pass_s(30)
        assert not client.pushes() and not client.ended
        unsent = [entry for entry in rig.bank.desk.journal if entry["type"] == "UNSENT"]
        assert unsent and all(entry["error"].startswith("name: ") for entry in unsent)
        rig.customer("u1", markets=0)
        rig.bank.sign("u1", Market.HK)
        rig.pass_s(5)
        assert [push.name for push in client.pushes(m.SignNotice)] == ["CHAN TAI MAN"]
    finally:
        rig.close()
