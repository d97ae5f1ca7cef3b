"""The direct-debit interfaces of HSBC and Hang Seng in a world: authorisations of customers, debits, HSBC's report.

A customer's card "at hsbc_eddi" is his account at HSBC, authorised for direct debit by HSBC's interface; "at
hase_eddi" likewise at Hang Seng.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from core.banks.edda import CHANNELS, Debtor, EddaGateway, EddaLines, Exchange, SignedExchange
from core.banks.hsbc import Mailbox
from core.cards.edda import Authorisations
from core.clock import US_PER_S, hkt_date, hkt_midnight_ms
from core.domain import EddaStatus, MandateStatus, Market
from core.storage import Databases
from core.wire.edda import AuthorisationStatus, Reply, Request
from emulators.airstar.keys import in_memory
from emulators.dice import Lognormal
from emulators.edda.app import edda_app
from emulators.edda.bank import EddaBank
from emulators.edda.faults import FAULTS, HSBC_ONLY, Strikes
from emulators.edda.link import MessageLink, MessageReports
from emulators.faults import FaultKind
from emulators.office import Truth
from emulators.streams import lognormal_from
from scenarios.accounts import card_id
from scenarios.banks.bank import Life, LifeEndpoint, Site, Tell
from scenarios.population import BankCard, Customer
from scenarios.workload import Kind

Reports = Callable[[], AbstractAsyncContextManager[Mailbox]]
TITLES: Final[dict[str, str]] = {"hsbc": "HSBC direct debit", "hase": "Hang Seng direct debit"}
BANK_OF: Final[dict[str, str]] = {channel: bank for bank, channel in CHANNELS.items()}
"""Name of an interface (``hsbc_eddi``) -> its bank."""

KILLS: Final[dict[str, str]] = {
    **{f"send:{channel}": f"{channel}.create_debit" for channel in BANK_OF},
    **{f"poll:{channel}": f"{channel}.query_debit" for channel in BANK_OF}}
"""Where the core may be killed -> the message whose answer it then does not hear."""

_STATUS: Final[dict[str, tuple[EddaStatus, AuthorisationStatus]]] = {
    MandateStatus.OPEN.name: (EddaStatus.ACTIVE, AuthorisationStatus.ACTIVE),
    MandateStatus.SUSPENDED.name: (EddaStatus.SUSPENDED, AuthorisationStatus.SUSPENDED),
    MandateStatus.CLOSED.name: (EddaStatus.CANCELLED, AuthorisationStatus.CANCELLED)}
NO_SUCH_SERVICE: Final = -1


def faults_of(channel: str) -> dict[str, FaultKind]:
    """The faults of one interface."""
    return {name: kind for name, kind in FAULTS.items() if channel == "hsbc_eddi" or name not in HSBC_ONLY}


REPORT_FAULTS: Final = tuple(name for name, kind in FAULTS.items() if Strikes.REPORT in kind.strikes)
"""Faults that strike no customer in particular."""


class EddaInWorld:
    """Implements `scenarios.banks.BankInWorld`. ``mandates``: customer's index -> reference of the authorisation."""

    def __init__(self, bank: str, site: Site) -> None:
        """``bank``: hsbc or hase."""
        self.of, self.name, self.title = bank, CHANNELS[bank], TITLES[bank]
        self._site = site
        calendars = site.calendars
        self.bank = EddaBank(
            bank, site.loop, site.clock, site.streams, site.trace, site.settings, is_open=site.is_open(self.name),
            in_maintenance=site.in_maintenance(bank),
            next_business_day=lambda ms: hkt_midnight_ms(calendars.next_business_day(hkt_date(ms))))
        self.mandates: dict[int, str] = {}
        self._exchange: Callable[[Life], Exchange]
        self._reports: Reports | None = None
        self._server: Any = None

    async def open(self) -> None:
        """Make the lines in the fidelity of the scenario; adapter and bank do not know which."""
        settings = self._site.settings
        latency = self._latency("line")
        if self.of == "hsbc":
            self.bank.begin_reports()
        if self._site.wire == "messages":
            link = MessageLink(self.bank, self._site.loop, latency, timeout_s=settings["edda.api.timeout_s"])
            self._exchange = lambda _life: link
            self._reports = MessageReports(self.bank, self._latency("reports")) if self.of == "hsbc" else None
            return
        await self._open_full(latency)

    def _latency(self, line: str) -> Lognormal:
        settings = self._site.settings
        return Lognormal(settings["sim.edda.link.median"], settings["sim.edda.link.p99"],
                         self._site.streams(f"{self.name}.{line}"))

    async def _open_full(self, latency: Callable[[], int]) -> None:
        """The interface with its signatures; at HSBC also the SFTP server with the reports."""
        site = self._site
        ours, banks = in_memory(), in_memory()
        app = edda_app(self.bank, self.of, banks, {"nostro": ours.public_key()})
        endpoint = await site.places.endpoint(app, self.name, latency)
        numbers = site.streams(f"{self.name}.numbers")
        keys = {self.of: banks.public_key()}

        def exchange(life: Life) -> Exchange:
            return SignedExchange(
                self.of, LifeEndpoint(endpoint, life), "nostro", ours, keys.get, site.clock,
                lambda: numbers.randbytes(16), timeout_s=site.settings["edda.api.timeout_s"])

        self._exchange = exchange
        if self.of == "hsbc":
            self._reports = await self._open_reports()

    async def _open_reports(self) -> Reports:
        from core.banks.hsbc.sftp import SftpBank  # AsyncSSH takes long to import
        from emulators.hsbc.keys import known_host, ssh_key
        from emulators.sftp import SftpServer

        site, settings = self._site, self._site.settings
        host_key, login = (ssh_key(site.streams(f"{self.name}.ssh.{whose}").randbytes) for whose in ("bank", "ours"))
        self._server = SftpServer(self.bank.files, host_key.private, {settings["sim.edda.report.user"]: login.public},
                                  self.bank.is_up)
        line = lognormal_from(settings["sim.edda.link.median"] * US_PER_S / 2,
                              settings["sim.edda.link.p99"] * US_PER_S / 2)
        host, _, port = (await site.places.listen(self._server, f"{self.name}-sftp", line)).rpartition(":")
        return SftpBank(host, int(port), settings["sim.edda.report.user"], login.private,
                        known_host(host, int(port), host_key), settings["edda.report.folder"],
                        settings["edda.report.timeout_s"], settings["edda.report.rekey_s"])

    async def close(self) -> None:
        """The SFTP server ends; all else is the places'."""
        if self._server is not None:
            await self._server.close()

    def lines(self, life: Life) -> EddaLines:
        """One core's lines, on which it may die after the bank has acted."""
        traps, exchange = self._site.traps, self._exchange(life)

        async def ask(request: Request) -> Reply:
            life.check()
            reply = await exchange(request)
            if traps.armed:
                traps.passes(f"{self.name}.{request.message}")
            life.check()  # an answer that comes after the end is heard by nobody
            return reply

        return EddaLines(ask, None if self._reports is None else _while_alive(self._reports, life))

    # Customers

    def enroll(self, customer: Customer, card: BankCard) -> None:
        self.bank.open_debtor(customer.id, self.of, card.number, customer.name, customer.at_bank)
        if card.mandate not in _STATUS:
            return  # has not authorised us
        mandate = self.mandates[customer.index] = self.bank.grant(customer.id)
        _, status = _STATUS[card.mandate]
        if status is not AuthorisationStatus.ACTIVE:
            self.bank.set_status(mandate, status)

    async def adopt(self, customer: Customer, card: BankCard, databases: Databases) -> None:
        if customer.index not in self.mandates:
            return
        site = self._site
        # Taking an authorisation over asks the bank nothing: the gateway needs no line.
        gateway = EddaGateway(self.of, None, None, site.clock, site.trace)  # type: ignore[arg-type]
        books = Authorisations(databases.account, site.clock, site.trace, site.calendars, gateway, site.settings)
        await books.adopt(customer.uid, card_id(customer, self.name, site.names),
                          self.debtor(customer), self.mandates[customer.index],
                          _STATUS[card.mandate][0])

    def debtor(self, customer: Customer) -> Debtor:
        """The customer's account, as an authorisation names it."""
        return Debtor(self.of, customer.cards[self.name].number, customer.name)

    def ask(self, customer: Customer, kind: Kind, market: Market, ccy: str, amount: int) -> int:  # noqa: ARG002
        """Nothing begins at the bank: a direct debit is asked for in our App."""
        return NO_SUCH_SERVICE

    def suspend(self, customer: Customer) -> Tell | None:
        """The customer suspends the authorisation at the bank; the morning's status sync finds out."""
        self.bank.set_status(self.mandates[customer.index], AuthorisationStatus.SUSPENDED)
        return None

    def balance(self, customer: Customer, ccy: str) -> int:
        return self.bank.balance(customer.id, ccy)

    # Faults and the telephone

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:  # noqa: ARG002 - direct debits are deposits only
        given = dict(parameters)
        if customer is not None:
            given["customer"] = customer
        fault_id = self.bank.fault(kind, **given)
        return lambda: self.bank.clear(fault_id)

    def inquire(self, reference: str) -> Truth:
        return self.bank.inquire(reference)

    def untold(self) -> Iterable[str]:
        """None: this bank is asked, it does not tell."""
        return ()

    def publish(self, request_id: str) -> bool:
        return self.bank.publish(request_id)


def _while_alive(reports: Reports, life: Life) -> Reports:
    """The same folder, as a core reaches it that may die."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[Mailbox]:
        life.check()
        async with reports() as mailbox:
            yield mailbox
            life.check()

    return connect
