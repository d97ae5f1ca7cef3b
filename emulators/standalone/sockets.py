"""CMB and CMBC standing alone: two exit servers, and at CMB the day list over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.clock import hkt_texts
from core.domain import Market
from core.errors import Misconfigured
from core.wire.sm2 import FastSm2
from core.wire.socket import BankIdentity, FrameType, MalformedMessage, Party, Signing
from core.wire.socket import messages as m
from core.wire.socket.messages import CALLBACKS
from emulators.bst.bank import SocketBank
from emulators.bst.day_list import PATH, day_list_app
from emulators.bst.faults import AIM, BACKUP, FAULTS, PRIMARY
from emulators.bst.records import Customer, Started
from emulators.bst.server import Keys, LineTime
from emulators.cmb import cmb_bank
from emulators.cmbc import cmbc_bank
from emulators.office import Entry, Truth
from emulators.standalone import keys
from emulators.standalone.customers import NewCustomer
from emulators.standalone.http import HttpFace, listening
from emulators.standalone.journal import HttpJournal
from emulators.standalone.loop import real_us
from emulators.standalone.standing import (
    Agreement,
    Movement,
    Refused,
    Site,
    aimed,
    holder,
    named,
    opened,
    timed,
)
from emulators.standalone.words import decimal

DAY_LIST: Final = "day_list"
ANY_CARD: Final = "6220000000000000"
"""In the place of a card number that the bank has yet to draw."""
_MAKE: Final = {"cmb": cmb_bank, "cmbc": cmbc_bank}
_WITH_DAY_LIST: Final = ("cmb",)
"""Banks whose broker fetches the day list over HTTP; CMBC's asks for it on the socket."""


class StandingSocketBank:
    """Implements `emulators.standalone.standing.Standing`. The lines keep real time, the bank its own."""

    actions = ("sign", "unsign")
    mandates = False
    faults = FAULTS
    aim = AIM

    def __init__(self, bank: str, site: Site) -> None:
        self.bank = bank
        self._site = site
        settings, sm2 = site.settings, FastSm2()
        folder = site.folder.resolve()
        self._own = keys.load_or_create(folder, f"{bank}.bank", sm2, site.entropy)
        self._broker = keys.load_or_create(folder, f"{bank}.broker", sm2, site.entropy)
        self._names = (str(settings["socket.broker"]), str(settings["socket.certificate_serial"]))
        identity = BankIdentity(self._own.pair.private, self._public_of)
        sealed = Keys(identity, sm2, site.entropy)
        self._bank: SocketBank = _MAKE[bank](
            site.loop, site.clock, site.streams, site.trace, settings, is_open=site.is_open, keys=sealed,
            line_time=LineTime(real_us, site.loop.call_after_real_us))
        self._bank.desk.journal = site.journal
        self._face: HttpFace | None = None
        if bank in _WITH_DAY_LIST:
            app = HttpJournal(day_list_app(self._bank, sealed), site.journal, site.clock.now_ms, _message_of)
            self._face = HttpFace(app, site.loop, settings["standalone.http.idle_s"])
        self._addresses: dict[str, str] = {}

    def _public_of(self, broker: str, serial: str) -> bytes | None:
        return self._broker.pair.public if (broker, serial) == self._names else None

    # Listening

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        found = {}
        for name, port in zip((PRIMARY, BACKUP), ports, strict=False):
            found[name] = await listening(self._bank.servers[name].listen(host, port), host, port)
        self._addresses = {name: f"{host}:{port}" for name, port in found.items()}
        if self._face is not None:
            found[DAY_LIST] = await self._face.listen(host, ports[2])
            self._addresses[DAY_LIST] = f"http://{host}:{found[DAY_LIST]}{PATH}"
        return found

    async def close(self) -> None:
        for server in self._bank.servers.values():
            await server.close()
        if self._face is not None:
            await self._face.close()

    def addresses(self) -> dict[str, str]:
        return dict(self._addresses)

    def credentials(self) -> dict[str, str]:
        broker, serial = self._names
        return {
            "bank_name": self._bank.values.name, "broker": broker, "certificate_serial": serial,
            "broker_private_key": str(self._broker.private), "broker_public_key": str(self._broker.public),
            "bank_public_key": str(self._own.public), "bank_public_point": self._own.pair.public.hex(),
        }

    # Customers

    @property
    def currencies(self) -> tuple[str, ...]:
        return self._bank.currencies

    def add(self, customer: NewCustomer) -> None:
        self._check(customer)
        opened(self._bank, customer)
        self._bank.grant(customer.id, customer.mask)

    def _check(self, customer: NewCustomer) -> None:
        """`Misconfigured` naming the field that the bank's messages about this customer have no room for."""
        desk, card_no = self._bank.desk, customer.card_no or ANY_CARD
        about = m.SignNotice(1, Signing.SIGN, customer.name, card_no, Market.HK.name)
        stamp = m.Stamp("CHECK", *hkt_texts(self._site.clock.now_ms()))
        broker, bank = self._names[0], self._bank.values.name
        try:
            desk.flavour.encode(m.compose(m.SIGN_NOTICE, FrameType.PUSH, about, stamp, bank, broker, Party.BANK))
        except MalformedMessage as unfit:
            raise Misconfigured(f"{unfit}", where=f"customer {customer.id}",
                                remedy=f"write what a message of {self.bank} can carry") from None

    def customer(self, ident: str, card_no: str) -> str:
        return holder(self._bank.customers(), ident, card_no).id

    def customers(self) -> list[dict[str, Any]]:
        return [_shown(one) for one in self._bank.customers()]

    # What customers do at the bank

    def deposit(self, movement: Movement) -> str:
        card_no = self._card_of(movement.customer)
        return _began(self._bank.customer_deposits(card_no, movement.market, movement.ccy, movement.amount))

    def withdraw(self, movement: Movement) -> str:
        card_no = self._card_of(movement.customer)
        return _began(self._bank.customer_withdraws(card_no, movement.market, movement.ccy, movement.amount))

    def _card_of(self, ident: str) -> str:
        return named(self._bank.customers(), ident).card_no

    def agree(self, agreement: Agreement) -> None:
        signs = agreement.action == "sign"
        markets = [market for market in Market if agreement.markets & market
                   and self._bank.is_signed(agreement.customer, market) is not signs]
        if not markets:
            raise Refused(f"{agreement.customer} is {'' if signs else 'not '}signed for those markets already")
        for market in markets:
            (self._bank.sign if signs else self._bank.unsign)(agreement.customer, market)

    # Faults, the telephone, the book

    def put_fault(self, name: str, params: Mapping[str, Any]) -> str:
        aimed(params, self._bank.customers())
        return self._bank.fault(name, **params)

    def clear_fault(self, fault_id: str) -> None:
        self._bank.clear(fault_id)

    def faults_in_force(self) -> list[dict[str, Any]]:
        return list(self._bank.state()["faults"])

    def inquire(self, reference: str) -> Truth:
        return self._bank.inquire(reference)

    def movements(self) -> list[Entry]:
        return self._bank.statement(0, self._site.clock.now_ms() + 1)

    def state(self) -> dict[str, Any]:
        return timed(self._bank.state())


def _message_of(method: str, path: str) -> str:
    return DAY_LIST if (method, path) == ("GET", PATH) else ""


def _shown(one: Customer) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name, "id_no_hash": one.id_no_hash, "card_no": one.card_no,
        "balances": {ccy: decimal(account.balance) for ccy, account in one.accounts.items()},
        "markets": [market.name for market in Market if one.markets & market],
    }


def _began(started: Started) -> str:
    if started.code:
        raise Refused(f"the bank refuses at once: {started.code} {CALLBACKS[started.code].meaning}: {started.text}")
    return started.ref
