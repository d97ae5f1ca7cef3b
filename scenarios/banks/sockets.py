"""CMB and CMBC in a world: socket banks with two exit servers, their lines as messages or as sealed bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from core.banks.socket.day_list import DayListClient
from core.banks.socket.line import Dial, SocketDialer
from core.cards.agreements import Agreements
from core.clock import US_PER_S
from core.domain import MandateStatus, Market
from core.runtime.socket_bank import DayLists, SocketLines
from core.storage import Databases
from core.wire.sm2 import FastSm2, KeyPair, Sm2
from core.wire.socket import CMB, CMBC, BankIdentity, BrokerIdentity, Flavour, FrameType
from core.wire.socket import messages as m
from emulators.bst.bank import ALL_MARKETS, SocketBank
from emulators.bst.day_list import day_list_app
from emulators.bst.faults import BACKUP, FAULTS, PRIMARY, Strikes
from emulators.bst.line import MessageDayLists, MessageDialer
from emulators.bst.server import Keys
from emulators.bst.values import link_latency
from emulators.cmb import cmb_bank
from emulators.cmbc import cmbc_bank
from emulators.office import Truth
from emulators.streams import lognormal_from
from scenarios.accounts import holder_of
from scenarios.banks.bank import Life, Site, Tell
from scenarios.banks.socket_lines import CoreDayLists, CoreDial
from scenarios.population import BankCard, Customer
from scenarios.workload import Kind

SOCKET_BANKS: Final[dict[str, tuple[Flavour, Callable[..., SocketBank]]]] = {
    "cmb": (CMB, cmb_bank), "cmbc": (CMBC, cmbc_bank)}

DAY_LIST_BANKS: Final = ("cmb",)
"""Whose missed pushes are fetched outside the socket (gaps.md A-42, B-43)."""

_POINTS: Final = (
    ("send", "transfer", m.WITHDRAWAL, FrameType.RESPONSE), ("send", "collect", m.DEPOSIT, FrameType.RESPONSE),
    ("push", "credit", m.DEPOSIT_PUSH, FrameType.PUSH), ("ack", "credit", m.DEPOSIT_PUSH, FrameType.PUSH_ACK),
    ("push", "result", m.TRANSFER_RESULT, FrameType.PUSH), ("ack", "result", m.TRANSFER_RESULT, FrameType.PUSH_ACK))
"""(how, which job, command, type) of the messages at which the core may die: send: the answer is not heard; push: it
is not heard; ack: it is persisted and not acknowledged."""

_JOBS: Final = {"cmb": "Cmb", "cmbc": "Ms"}
KILLS: Final = {f"{how}:{_JOBS[bank]}{job.title()}": f"{bank} {command} {kind.name}"
                for bank in SOCKET_BANKS for how, job, command, kind in _POINTS}
"""Where the core may be killed -> the message as `socket_lines.message_at` names it."""

_OF_DIRECTION: Final = {"deposit": ("deposit", "deposit_push"), "withdrawal": ("withdraw", "bank_withdrawal")}
"""What a scenario restricts a fault to -> messages of that direction, the first that the fault strikes."""

WHOLE_LINES: Final = tuple(name for name, kind in FAULTS.items() if Strikes.SERVER in kind.strikes)
"""Faults of lines: they strike every customer and both directions."""


class SocketBankInWorld:
    """Implements `scenarios.banks.BankInWorld` for one of the two."""

    def __init__(self, name: str, site: Site) -> None:
        self.name = name
        self._site = site
        self._flavour, make = SOCKET_BANKS[name]
        settings = site.settings
        self.title: str = settings[f"socket.{name}.name"]
        self._sm2: Sm2 = FastSm2()
        self._broker, self._own = self._key_pair("broker"), self._key_pair("bank")
        self._keys = self._bank_keys()
        self.bank = make(site.loop, site.clock, site.streams, site.trace, settings, is_open=site.is_open(name),
                         keys=self._keys)
        self._addresses: dict[str, str] = {}
        self._dial: Dial
        self._day_lists: DayLists | None = None

    # Keys: made for this run only, from its streams

    def _entropy(self, whose: str) -> Callable[[int], bytes]:
        return self._site.streams(f"{self.name}.{whose}.entropy").randbytes

    def _key_pair(self, whose: str) -> KeyPair:
        return self._sm2.key_pair(self._site.streams(f"{self.name}.{whose}.key").randbytes)

    def _bank_keys(self) -> Keys:
        settings = self._site.settings
        certificates = {(settings["socket.broker"], settings["socket.certificate_serial"]): self._broker.public}
        identity = BankIdentity(self._own.private, lambda broker, serial: certificates.get((broker, serial)))
        return Keys(identity, self._sm2, self._entropy("bank"))

    # The line

    async def open(self) -> None:
        """Let both exit servers take connections, in the fidelity of the scenario."""
        site, settings = self._site, self._site.settings
        addresses = {server: settings[f"socket.{self.name}.{server}"] for server in (PRIMARY, BACKUP)}
        if site.wire == "messages":
            servers = {address: self.bank.servers[server] for server, address in addresses.items()}
            latency = link_latency(self.name, settings, site.streams(f"{self.name}.line"))
            self._dial = MessageDialer(servers, site.loop, latency, broker=settings["socket.broker"])
            if self.name in DAY_LIST_BANKS:
                self._day_lists = MessageDayLists(
                    self.bank, site.loop, link_latency(self.name, settings, site.streams(f"{self.name}.day_list")),
                    timeout_s=settings["socket.response_wait_s"])
            return
        latency_us = lognormal_from(settings[f"sim.{self.name}.link.median"] * US_PER_S,
                                    settings[f"sim.{self.name}.link.p99"] * US_PER_S)
        for server, address in addresses.items():
            host = self.name if server == PRIMARY else f"{self.name}-{server}"
            self._addresses[address] = await site.places.listen(self.bank.servers[server], host, latency_us)
        identity = BrokerIdentity(settings["socket.broker"], settings["socket.certificate_serial"],
                                  self._broker.private, self._own.public)
        self._dial = SocketDialer(self._flavour, identity, self._sm2, self._entropy("broker"),
                                  limit=settings["socket.frame.limit"],
                                  handshake_wait_s=settings["socket.handshake_wait_s"])
        if self.name in DAY_LIST_BANKS:
            self._day_lists = await self._day_list_client(identity)

    async def _day_list_client(self, identity: BrokerIdentity) -> DayListClient:
        site, settings = self._site, self._site.settings
        trip = link_latency(self.name, settings, site.streams(f"{self.name}.day_list"))
        endpoint = await site.places.endpoint(
            day_list_app(self.bank, self._keys), f"{self.name}-day-list", lambda: trip() + trip())

        async def fetch(target: str, signature: str) -> tuple[int, bytes]:
            return await endpoint.send("GET", target, {"x-signature": signature}, b"",
                                       settings["socket.response_wait_s"])

        return DayListClient(self._flavour, identity, self._sm2, self._entropy("day-list"), site.clock, fetch)

    async def close(self) -> None:
        """Both exit servers end."""
        for server in self.bank.servers.values():
            await server.close()

    def lines(self, life: Life) -> SocketLines:
        """How one core connects to the exit servers, by their addresses in the settings, and fetches day lists."""
        day_lists = self._day_lists
        return SocketLines(CoreDial(self.name, self._dial, self._addresses, life, self._site.traps),
                           None if day_lists is None else CoreDayLists(day_lists, life))

    # Customers

    def enroll(self, customer: Customer, card: BankCard) -> None:
        held = {ccy: customer.at_bank.get(ccy, 0) for ccy in self.bank.currencies}
        self.bank.open_customer(customer.id, customer.name, f"h{customer.uid}", held, card.number)
        if card.mandate == MandateStatus.OPEN.name:
            self.bank.grant(customer.id)

    async def adopt(self, customer: Customer, card: BankCard, databases: Databases) -> None:
        books = Agreements(self.name, self.title, databases.account, self._site.clock)
        await books.adopt(holder_of(customer, self.name, self._site.names), card.number, ALL_MARKETS,
                          signed=card.mandate == MandateStatus.OPEN.name)

    def ask(self, customer: Customer, kind: Kind, market: Market, ccy: str, amount: int) -> int:
        begin = self.bank.customer_deposits if kind == "deposit" else self.bank.customer_withdraws
        return begin(customer.cards[self.name].number, market, ccy, amount).code

    def suspend(self, customer: Customer) -> Tell | None:
        """Unsigned for every market; the bank tells us itself."""
        for market in Market:
            if self.bank.is_signed(customer.id, market):
                self.bank.unsign(customer.id, market)
        return None

    def balance(self, customer: Customer, ccy: str) -> int:
        return self.bank.balance(customer.id, ccy) if ccy in self.bank.currencies else 0

    # Faults and the telephone

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:
        given = dict(parameters)
        if kind in WHOLE_LINES:  # neither aimed nor counted: the reader has seen to it
            given = {name: value for name, value in given.items() if name not in ("share", "count")}
        if customer is not None:
            given["customer"] = customer
        if direction is not None and "message" not in given:
            struck = FAULTS[kind].messages
            given["message"] = next((name for name in _OF_DIRECTION[direction] if name in struck), None)
        fault_id = self.bank.fault(kind, **given)
        return lambda: self.bank.clear(fault_id)

    def inquire(self, reference: str) -> Truth:
        return self.bank.inquire(reference)

    def untold(self) -> Iterable[str]:
        told = {push.ref for push in self.bank.desk.pushes.since(0) if push.status == "ACKNOWLEDGED"}
        return [entry.ref for entry in self.bank.statement(0, self._site.clock.now_ms() + 1) if entry.ref not in told]

    def publish(self, request_id: str) -> bool:
        """The bank tells of every result by itself and answers queries; it only has to have worked on it."""
        return self.bank.inquire(request_id).status != "PENDING"
