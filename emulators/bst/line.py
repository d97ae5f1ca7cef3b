"""The line to an exit server without bytes and cryptography (``wire: messages``), with the times and faults of bytes.

A connection takes two round trips before messages flow, as TCP and the key exchange do; the bank is ready one way
later, when CONFIRM would have come. A message takes one way, and none overtakes another. What a fault does to bytes
(a wrong signature, a gap, a stranger's key) is told to the listener as the session would have told it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from core.banks.socket.line import Line, Listener, Unreachable
from core.clock import US_PER_S
from core.errors import OutcomeUnknown
from core.wire.socket import BadSignature
from core.wire.socket import messages as m
from emulators.bst.bank import SocketBank
from emulators.bst.server import Connection, ExitServer, Flaw
from emulators.loop import timer_of


class MessageDialer:
    """A `Dial`: ``servers`` by address, ``latency()`` one way in µs, ``broker`` as it would stand in HELLO."""

    def __init__(
        self,
        servers: Mapping[str, ExitServer],
        loop: asyncio.AbstractEventLoop,
        latency: Callable[[], int],
        *,
        broker: str,
    ) -> None:
        self._servers = servers
        self._loop = loop
        self._latency = latency
        self._broker = broker
        self._after_us = timer_of(loop)

    async def __call__(self, address: str, listener: Listener) -> Line:
        """A line with keys agreed; `Unreachable` if the server refuses, or its proof is not the bank's."""
        await self._travel()
        server = self._servers.get(address)
        bank_end = None
        if server is not None and server.up:
            bank_end = MessageConnection(server, self._lane(), self._lane())
        await self._travel()  # SYN-ACK, or the refusal
        if bank_end is None:
            raise Unreachable(f"{address} refused the connection")
        line = MessageLine(bank_end, listener)
        try:
            await self._travel()  # HELLO
            await self._travel()  # ACK
        except BaseException:
            line.close()
            raise
        if bank_end.dead:
            raise Unreachable(f"{address} ended the connection during the key exchange")
        if not bank_end.trusted:
            line.close()
            raise Unreachable(f"{address}: the ACK is not signed by the bank")
        line.confirm(self._broker)
        return line

    def _lane(self) -> _Lane:
        return _Lane(self._after_us, self._loop, self._latency)

    async def _travel(self) -> None:
        arrived = self._loop.create_future()
        self._after_us(self._latency(), _arrive, arrived)
        await arrived


class MessageDayLists:
    """The day list that is fetched outside the socket, without HTTP and signatures: a round trip for each fragment."""

    def __init__(
        self, bank: SocketBank, loop: asyncio.AbstractEventLoop, latency: Callable[[], int], *, timeout_s: float
    ) -> None:
        self._bank = bank
        self._loop = loop
        self._latency = latency
        self._timeout_us = round(timeout_s * US_PER_S)
        self._after_us = timer_of(loop)

    async def items(self, since_seq: int, business_date: str = "") -> tuple[m.ListItem, ...]:
        """Every entry after a push number; `OutcomeUnknown` if the bank does not answer."""
        found: list[m.ListItem] = []
        last = False
        while not last:
            items, last = await self._fragment(since_seq, business_date)
            found += items
            since_seq = found[-1].push_seq if found else since_seq
        return tuple(found)

    async def _fragment(self, since_seq: int, business_date: str) -> tuple[tuple[m.ListItem, ...], bool]:
        there_us, back_us = self._latency(), self._latency()
        await self._pass(there_us)
        desk = self._bank.desk
        outage = desk.list_outage()
        if outage == "silence" or there_us + back_us >= self._timeout_us:
            await self._pass(max(0, self._timeout_us - there_us))
            raise OutcomeUnknown("no answer in time")
        answer = None if outage else desk.list_fragment(since_seq, business_date, self._bank.values.broker)
        await self._pass(back_us)
        if answer is None:
            raise OutcomeUnknown("the day list is out of service")
        assert isinstance(answer.body, m.DayList)
        return answer.body.items, answer.header.last_fragment

    async def _pass(self, us: int) -> None:
        passed = self._loop.create_future()
        self._after_us(us, _arrive, passed)
        await passed


class _Lane:
    """One direction: what was put on it earlier arrives earlier."""

    __slots__ = ("_after_us", "_cut", "_due_us", "_latency", "_loop")

    def __init__(
        self, after_us: Callable[..., object], loop: asyncio.AbstractEventLoop, latency: Callable[[], int]
    ) -> None:
        self._after_us = after_us
        self._loop = loop
        self._latency = latency
        self._due_us = 0
        self._cut: list[bool] = [False]

    def put(self, arrive: Callable[[], object]) -> None:
        now_us = round(self._loop.time() * US_PER_S)
        self._due_us = max(now_us + self._latency(), self._due_us)
        self._after_us(self._due_us - now_us, self._arrive, self._cut, arrive)

    def drop(self) -> None:
        """What is under way is lost."""
        self._cut[0] = True
        self._cut, self._due_us = [False], 0

    @staticmethod
    def _arrive(cut: list[bool], arrive: Callable[[], object]) -> None:
        if not cut[0]:
            arrive()


class MessageConnection(Connection):
    """The bank's end of a line of messages."""

    def __init__(self, server: ExitServer, to_bank: _Lane, to_broker: _Lane) -> None:
        super().__init__(server)
        self.to_bank = to_bank
        self._to_broker = to_broker
        self.trusted = server.trusted
        self.dead = False  # what the broker's end has heard
        self._line: MessageLine | None = None
        self.opened()

    def attach(self, line: MessageLine) -> None:
        """Who hears what the bank sends."""
        self._line = line

    def receive(self, message: m.Message) -> None:
        """A message has come from the broker."""
        if not self.over:
            self.heard()
            self._desk.heard(self, message)

    def receive_confirm(self, broker: str) -> None:
        """CONFIRM has come: the bank is ready, too."""
        if not self.over:
            self.established(broker)

    def receive_hello(self) -> None:
        """The broker wants a new key."""
        if not self.over:
            self._to_broker.put(self._tell_ack)

    def receive_end(self) -> None:
        """The broker has closed."""
        self.lost()

    def _tell_ack(self) -> None:
        if self._line is not None and self._line.renewed():
            self.to_bank.put(self._receive_renewal)

    def _receive_renewal(self) -> None:
        if not self.over:
            self.heard()
            self.renewals += 1

    def _written(self, message: m.Message, flaw: Flaw) -> tuple[m.Message, Flaw]:
        m.check_message(message)
        return message, flaw

    def _pieces(self, written: Any, parts: int) -> list[Any]:
        return [None] * (parts - 1) + [written]

    def _leave(self, written: list[Any]) -> None:
        for message, flaw in written:
            self._to_broker.put(partial(self._tell, message, flaw))

    def _tell(self, message: m.Message, flaw: Flaw) -> None:
        if self._line is not None:
            self._line.receive(message, flaw)

    def _end(self, *, reset: bool) -> None:
        if reset:
            self._to_broker.drop()
        self._to_broker.put(partial(self._tell_end, "reset" if reset else "closed by the bank"))

    def _tell_end(self, reason: str) -> None:
        self.dead = True
        if self._line is not None:
            self._line.ended(reason)


class MessageLine:
    """The broker's end: a `Line`."""

    def __init__(self, bank_end: MessageConnection, listener: Listener) -> None:
        self._bank_end = bank_end
        self._listener = listener
        self._over = self._renewing = self._ready = False
        bank_end.attach(self)

    def confirm(self, broker: str) -> None:
        """The key exchange is done on this side."""
        self._ready = True
        self._bank_end.to_bank.put(partial(self._bank_end.receive_confirm, broker))

    def send(self, message: m.Message) -> None:
        m.check_message(message)
        if not self._over:
            self._bank_end.to_bank.put(partial(self._bank_end.receive, message))

    def renew(self) -> None:
        if not self._over and not self._renewing:
            self._renewing = True
            self._bank_end.to_bank.put(self._bank_end.receive_hello)

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._bank_end.to_bank.put(self._bank_end.receive_end)

    # What the bank's end tells

    def receive(self, message: m.Message, flaw: Flaw) -> None:
        """A message of the bank, as a session would have made of it."""
        if self._over:
            return
        if flaw is Flaw.SEQUENCE:
            self.close()
            self._listener.lost("SequenceGap: a frame is missing")
        elif flaw is Flaw.SIGNATURE:
            self._listener.refused(BadSignature(f"{message.command} is not signed by the peer", message.header))
        else:
            self._listener.received(message)

    def renewed(self) -> bool:
        """The ACK of a renewal has come; whether anybody is there to answer it."""
        if self._over:
            return False
        self._renewing = False
        self._listener.renewed()
        return True

    def ended(self, reason: str) -> None:
        """The bank has closed, or was reset."""
        if not self._over:
            self._over = True
            if self._ready:
                self._listener.lost(reason)


def _arrive(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)
