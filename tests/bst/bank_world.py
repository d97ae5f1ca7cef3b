"""A broker's end of a line, a bank and what lies between them, in virtual time: what these tests are built with."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from core.clock import hkt
from core.settings import Settings
from core.trace import Event, Trace
from core.wire.sm2 import FastSm2
from core.wire.socket import (
    BankIdentity,
    BrokerIdentity,
    BrokerSession,
    Established,
    FrameType,
    Party,
    Received,
    RefusedMessage,
    Renewed,
)
from core.wire.socket import messages as m
from emulators.bst.bank import SocketBank
from emulators.bst.line import MessageDialer
from emulators.bst.server import Keys
from emulators.cmb import cmb_bank
from emulators.cmbc import cmbc_bank
from emulators.loop import LoopClock, SimLoop
from emulators.network import Link, Network, on_host
from emulators.streams import Streams, constant

NOON_MS = 1_773_288_000_000
"""2026-03-12 12:00 Hong Kong time."""

HOUR_MS = 3_600_000
WAY_US = 10_000
"""One way between broker and bank."""

BROKER, SERIAL = "NOSTRO01", "2026000000000001"
BUILD = {"cmb": cmb_bank, "cmbc": cmbc_bank}
SM2 = FastSm2()
_RNG = Streams(0)("keys")
BANK_KEYS, BROKER_KEYS = SM2.key_pair(_RNG.randbytes), SM2.key_pair(_RNG.randbytes)


def sure(bank: str) -> dict[str, Any]:
    """A bank without bad luck: what goes wrong is then the test's doing."""
    return {
        f"sim.{bank}.outcome": [[0, 1.0]],
        f"sim.{bank}.unknown.share": 0.0,
    }


class Client:
    """The broker's end of one connection: sends, hears, and by default acknowledges pushes and answers heartbeats."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.heard: list[tuple[int, m.Message]] = []
        self.refusals: list[RefusedMessage] = []
        self.renewals = 0
        self.ended: list[tuple[int, str]] = []
        self.acks = self.beats = True
        self.line: Any = None

    # A listener

    def received(self, message: m.Message) -> None:
        self.heard.append((self._rig.loop.now_us, message))
        if (message.kind is FrameType.PUSH and self.acks) or (message.kind is FrameType.REQUEST and self.beats):
            self.line.send(m.answer(message, m.Answer(0), self._rig.stamp()))

    def refused(self, error: RefusedMessage) -> None:
        self.refusals.append(error)

    def renewed(self) -> None:
        self.renewals += 1

    def lost(self, reason: str) -> None:
        self.ended.append((self._rig.loop.now_us, reason))

    # What a test does and asks

    def send(self, command: str, body: m.Body, receiver: str = "") -> str:
        """A request; gives its ref."""
        stamp = self._rig.stamp()
        receiver = receiver or self._rig.bank.values.name
        self.line.send(m.compose(command, FrameType.REQUEST, body, stamp, BROKER, receiver, Party.BROKER))
        return stamp.ref

    def ask(self, command: str, body: m.Body, within_s: float = 1.0) -> m.Body:
        """The body of the one answer to a request."""
        answers = self.ask_all(command, body, within_s)
        assert len(answers) == 1, answers
        return answers[0]

    def ask_all(self, command: str, body: m.Body, within_s: float = 1.0) -> list[m.Body]:
        """The bodies of all answers to a request."""
        ref = self.send(command, body)
        self._rig.pass_s(within_s)
        found = [message for _, message in self.heard if message.header.related_ref == ref]
        if found:
            assert [message.header.last_fragment for message in found] == [False] * (len(found) - 1) + [True]
        return [message.body for message in found]

    def sign_on(self, last_push_seq: int = 0) -> None:
        session = self._rig.bank.session()
        assert self.ask(m.SIGN_ON, m.SignOn(session, last_push_seq)) == m.Answer(0)

    def pushes(self, kind: type[m.Body] | None = None) -> list[Any]:
        """The bodies of all pushes that have come, repetitions too."""
        return [message.body for _, message in self.heard
                if message.kind is FrameType.PUSH and (kind is None or isinstance(message.body, kind))]

    def bodies(self) -> list[tuple[int, m.Body]]:
        return [(at_us, message.body) for at_us, message in self.heard]


class ByteLine(asyncio.Protocol):
    """A `BrokerSession` on a transport."""

    def __init__(self, session: BrokerSession, listener: Client, ready: asyncio.Future[None]) -> None:
        self._session, self._listener, self._ready = session, listener, ready
        self._over = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._session.start())

    def data_received(self, data: bytes) -> None:
        events = self._session.feed(data)
        self._transport.write(self._session.output())
        for event in events:
            if self._over:
                return
            if isinstance(event, Established):
                self._ready.set_result(None)
            elif isinstance(event, Received):
                self._listener.received(event.message)
            elif isinstance(event, Renewed):
                self._listener.renewed()
            elif isinstance(event, RefusedMessage):
                self._listener.refused(event)
            else:
                self._end(f"{type(event).__name__}: {event}")
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc or "closed"))

    def _end(self, reason: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(reason))
        elif not self._over:
            self._listener.lost(reason)
        self._over = True

    def send(self, message: m.Message) -> None:
        if not self._over:
            self._transport.write(self._session.encode(message))

    def renew(self) -> None:
        if not self._over:
            self._transport.write(self._session.renew())

    def close(self) -> None:
        self._over = True
        self._transport.close()


class Rig:
    """One bank, on real bytes through the memory network or on messages."""

    def __init__(
        self, bank: str = "cmb", wire: str = "bytes", seed: int = 1, *, luck: bool = False,
        overlay: dict[str, Any] | None = None, is_open: Callable[[int], bool] | None = None,
        start_ms: int = NOON_MS,
    ) -> None:  # fmt: skip
        self.loop, self.wire = SimLoop(), wire
        self.clock, self.streams = LoopClock(self.loop, start_ms), Streams(seed)
        self.settings = Settings({**({} if luck else sure(bank)), **(overlay or {})})
        self.events: list[Event] = []
        identity = BankIdentity(BANK_KEYS.private, lambda broker, serial: BROKER_KEYS.public)
        keys = Keys(identity, SM2, self.streams(f"{bank}.keys").randbytes)
        options: dict[str, Any] = {} if is_open is None else {"is_open": is_open}
        trace = Trace(self.clock, self.events.append)
        self.bank: SocketBank = BUILD[bank](
            self.loop, self.clock, self.streams, trace, self.settings, keys=keys, **options
        )
        self._numbers = itertools.count(1)
        self._entropy = self.streams("broker").randbytes
        self.network = Network(self.loop, self.streams, default=Link(constant(WAY_US)))
        self.network.host("bank", "10.0.0.2")
        self._ports = {"primary": 7101, "backup": 7102}
        self._dial = MessageDialer(self.bank.servers, self.loop, lambda: WAY_US, broker=BROKER)
        if wire == "bytes":
            self.run(self._listen())

    async def _listen(self) -> None:
        with on_host("bank"):
            for name, server in self.bank.servers.items():
                await server.listen("10.0.0.2", self._ports[name])

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    def pass_s(self, seconds: float) -> None:
        async def wait() -> None:
            await self.loop.advance(round(seconds * 1_000_000))

        self.run(wait())

    def stamp(self) -> m.Stamp:
        moment = hkt(self.clock.now_ms())
        return m.Stamp(f"R{next(self._numbers):012d}", f"{moment:%Y%m%d}", f"{moment:%H%M%S}")

    def connect(self, server: str = "primary") -> Client:
        """A connection with keys agreed."""
        client = Client(self)
        self.run(self._connect(client, server))
        return client

    async def _connect(self, client: Client, server: str) -> None:
        if self.wire == "messages":
            client.line = await self._dial(server, client)
            return
        identity = BrokerIdentity(BROKER, SERIAL, BROKER_KEYS.private, BANK_KEYS.public)
        ready: asyncio.Future[None] = self.loop.create_future()
        session = BrokerSession(self.bank.desk.flavour, identity, SM2, self._entropy)
        _, client.line = await self.loop.create_connection(
            lambda: ByteLine(session, client, ready), "10.0.0.2", self._ports[server]
        )
        await ready

    def signed_on(self, server: str = "primary", last_push_seq: int = 0) -> Client:
        """A connection that is signed on."""
        client = self.connect(server)
        client.sign_on(last_push_seq)
        return client

    def customer(self, ident: str = "u1", markets: int = 7, **balances: int) -> str:
        """A customer who signed earlier, with HKD 1,000,000.00 unless told; gives the card number."""
        card = self.bank.open_customer(ident, "CHAN TAI MAN", f"hash-{ident}", balances or {"HKD": 100_000_000})
        if markets:
            self.bank.grant(ident, markets)
        return card

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [data for _, _, name, _, data in self.events if name == kind]

    def book(self) -> list[tuple[str, str, int]]:
        """(op, reference, amount) of every movement in the bank's book."""
        return [(data["op"], data["ref"], data["amount"]) for data in self.of_kind("bank.book")]

    def close(self) -> None:
        async def end() -> None:
            for server in self.bank.servers.values():
                await server.close()
            await self.loop.advance(1_000_000)

        self.run(end())
        self.loop.close()


def withdrawal(card: str, ref: str = "CMBS000000000001", amount: str = "100.00", **more: str) -> m.WithdrawalRequest:
    fields = {"name": "CHAN TAI MAN", "ccy": "HKD", "market": "HK", "payee_name": "CHAN TAI MAN"} | more
    return m.WithdrawalRequest(transfer_ref=ref, card_no=card, amount=amount, **fields)


def deposit(card: str, ref: str = "CMBS000000000002", amount: str = "100.00", **more: str) -> m.DepositRequest:
    fields = {"name": "CHAN TAI MAN", "ccy": "HKD", "market": "HK"} | more
    return m.DepositRequest(transfer_ref=ref, card_no=card, amount=amount, **fields)
