"""Airstar standing alone: the signed HTTP API on one port."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.domain import MandateStatus, Market
from core.wire.airstar import ERRORS, find_route
from emulators.airstar import keys
from emulators.airstar.app import airstar_app
from emulators.airstar.bank import BANK, AirstarBank
from emulators.airstar.faults import AIM, FAULTS
from emulators.airstar.records import Customer, Mandate, Started
from emulators.office import Entry, Truth
from emulators.standalone.customers import NewCustomer
from emulators.standalone.http import HttpFace
from emulators.standalone.journal import HttpJournal
from emulators.standalone.standing import Agreement, Movement, Refused, Site, Unknown, aimed, holder, opened
from emulators.standalone.words import decimal


class StandingAirstar:
    """Implements `emulators.standalone.standing.Standing`."""

    bank = BANK
    actions = ("sign", "unsign", "suspend", "resume")
    mandates = True
    faults = FAULTS
    aim = AIM

    def __init__(self, site: Site) -> None:
        self._site = site
        self._app_id = str(site.settings["standalone.airstar.app_id"])
        self._folder = site.folder.resolve()
        key = keys.load_or_create(self._folder)
        self._bank = AirstarBank(
            site.loop, site.clock, site.streams, site.trace, site.settings, is_open=site.is_open,
            in_maintenance=site.in_maintenance)
        app = airstar_app(self._bank, {self._app_id: key.public_key()})
        entered = HttpJournal(app, site.journal, site.clock.now_ms, _message_of)
        self._face = HttpFace(entered, site.loop, site.settings["standalone.http.idle_s"])
        self._address = ""

    # Listening

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        port = await self._face.listen(host, ports[0])
        self._address = f"http://{host}:{port}"
        return {"api": port}

    async def close(self) -> None:
        await self._face.close()

    def addresses(self) -> dict[str, str]:
        return {"api": self._address}

    def credentials(self) -> dict[str, str]:
        return {"app_id": self._app_id, "app_private_key": str(self._folder / keys.PRIVATE),
                "app_public_key": str(self._folder / keys.PUBLIC)}

    # Customers

    @property
    def currencies(self) -> tuple[str, ...]:
        return self._bank.currencies

    def add(self, customer: NewCustomer) -> None:
        opened(self._bank, customer)
        if customer.mask:
            self._bank.grant_mandate(customer.id, customer.mask)

    def customer(self, ident: str, card_no: str) -> str:
        return holder(self._bank.customers(), ident, card_no).id

    def customers(self) -> list[dict[str, Any]]:
        return [self._shown(one) for one in self._bank.customers()]

    def _shown(self, one: Customer) -> dict[str, Any]:
        return {
            "id": one.id, "name": one.name, "id_no_hash": one.id_no_hash, "card_no": one.card_no,
            "balances": {ccy: decimal(account.balance) for ccy, account in one.accounts.items()},
            "mandates": [_mandate(mandate) for mandate in self._bank.mandates_of(one.id)],
        }

    # What customers do at the bank

    def deposit(self, movement: Movement) -> str:
        mandate = self._mandate_for(movement)
        return _began(self._bank.customer_deposits(mandate, movement.market, movement.ccy, movement.amount))

    def withdraw(self, movement: Movement) -> str:
        mandate = self._mandate_for(movement)
        return _began(self._bank.customer_withdraws(mandate, movement.market, movement.ccy, movement.amount))

    def _mandate_for(self, movement: Movement) -> str:
        if movement.mandate:
            return self._own_mandate(movement.customer, movement.mandate).id
        for mandate in self._bank.mandates_of(movement.customer):
            if mandate.status is MandateStatus.OPEN and mandate.market_mask & movement.market:
                return mandate.id
        raise Refused(f"{movement.customer} has no open mandate for that market: sign one with POST /agreements")

    def _own_mandate(self, customer: str, ident: str) -> Mandate:
        mandates = self._bank.mandates_of(customer)
        for mandate in mandates:
            if mandate.id == ident:
                return mandate
        there = ", ".join(mandate.id for mandate in mandates) or "none"
        raise Unknown(f"{customer} has no mandate {ident!r}; there are: {there}")

    def agree(self, agreement: Agreement) -> None:
        if agreement.action == "sign":
            self._bank.grant_mandate(agreement.customer, agreement.markets)
            return
        move = {"unsign": self._bank.close_mandate, "suspend": self._bank.suspend_mandate,
                "resume": self._bank.resume_mandate}[agreement.action]
        mandates = self._bank.mandates_of(agreement.customer)
        if agreement.mandate:
            mandates = [self._own_mandate(agreement.customer, agreement.mandate)]
        moved = [mandate for mandate in mandates if move(mandate.id)]
        if not moved:
            states = ", ".join(f"{one.id} is {one.status.name}" for one in mandates) or "there is no mandate"
            raise Refused(f"{agreement.action} is not possible: {states}")

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
        return self._bank.state() | {"connections": {"api": self._face.connections}}


def _message_of(method: str, path: str) -> str:
    route = find_route(method, path)
    return route[0] if route is not None else ""


def _mandate(mandate: Mandate) -> dict[str, Any]:
    mask = mandate.market_mask or mandate.markets
    return {"id": mandate.id, "status": mandate.status.name,
            "markets": [market.name for market in Market if mask & market]}


def _began(started: Started) -> str:
    if started.code:
        raise Refused(f"the bank refuses at once: {started.code} {ERRORS[started.code].meaning}")
    return started.request_id
