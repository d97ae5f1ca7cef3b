"""Airstar in a world: API bank with mandates, its line as messages or as signed requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from core.banks.airstar import Exchange, SignedExchange
from core.cards.mandates import Mandates
from core.clock import US_PER_S
from core.domain import MandateStatus, Market
from core.storage import Databases
from core.wire.airstar import Reply, Request, find_route
from emulators.airstar import keys
from emulators.airstar.app import airstar_app
from emulators.airstar.bank import AirstarBank
from emulators.airstar.link import MessageLink
from emulators.office import Truth
from emulators.streams import lognormal
from scenarios.accounts import card_id
from scenarios.banks.bank import Life, Site, Tell
from scenarios.population import BankCard, Customer
from scenarios.workload import Kind

AIRSTAR: Final = "airstar"
KILLS: Final = {"send:AsbBstTransfer": "withdraw", "send:AsbBstCreateJob": "deposit",
                "poll:AsbBstTransfer": "query_withdrawal", "poll:AsbBstCreateResultJob": "query_deposit"}
"""Where the core may be killed -> the message whose answer it then does not hear."""


class AirstarInWorld:
    """Implements `scenarios.banks.BankInWorld`. ``mandates``: customer's index -> id of the mandate."""

    name = AIRSTAR
    title = "Airstar"

    def __init__(self, site: Site) -> None:
        self._site = site
        self.bank = AirstarBank(
            site.loop, site.clock, site.streams, site.trace, site.settings, is_open=site.is_open(AIRSTAR),
            in_maintenance=site.in_maintenance(AIRSTAR))
        self.mandates: dict[int, str] = {}
        self._exchange: Exchange

    async def open(self) -> None:
        """Make the line in the fidelity of the scenario; adapter and bank do not know which."""
        site = self._site
        rng = site.streams("airstar.line")
        median, p99 = site.settings["sim.airstar.link.median"], site.settings["sim.airstar.link.p99"]
        timeout_s = site.settings["airstar.api.timeout"]

        def latency() -> int:
            return round(lognormal(rng, median, p99) * US_PER_S)

        if site.wire == "messages":
            self._exchange = MessageLink(self.bank, site.loop, site.clock, latency, timeout_s=timeout_s)
            return
        key = keys.in_memory()
        endpoint = await site.places.endpoint(airstar_app(self.bank, {"nostro": key.public_key()}), AIRSTAR, latency)
        nonces = site.streams("airstar.nonces")
        self._exchange = SignedExchange(endpoint, "nostro", key, site.clock, lambda: nonces.randbytes(16),
                                        timeout_s=timeout_s)

    async def close(self) -> None:
        """Nothing of its own: the places close what they opened."""

    def line(self, life: Life) -> Exchange:
        """One core's line, on which it may die after the bank has acted."""
        traps = self._site.traps

        async def ask(request: Request) -> Reply:
            life.check()
            reply = await self._exchange(request)
            if traps.armed:
                route = find_route(request.method, request.path)
                traps.passes(route[0] if route is not None else "")
            life.check()  # an answer that comes after the end is heard by nobody
            return reply

        return ask

    # Customers

    def enroll(self, customer: Customer, card: BankCard) -> None:
        held = {ccy: customer.at_bank.get(ccy, 0) for ccy in self._site.names.currencies}
        self.bank.open_customer(customer.id, customer.name, f"h{customer.uid}", held, card.number)
        mandate = self.mandates[customer.index] = self.bank.grant_mandate(customer.id)
        if card.mandate == MandateStatus.SUSPENDED.name:
            self.bank.suspend_mandate(mandate)
        elif card.mandate == MandateStatus.CLOSED.name:
            self.bank.close_mandate(mandate)

    async def adopt(self, customer: Customer, card: BankCard, databases: Databases) -> None:
        site = self._site
        # Taking a mandate over asks the bank nothing: no gateway is needed.
        books = Mandates(databases.account, site.clock, site.trace, None, site.settings)  # type: ignore[arg-type]
        await books.adopt(customer.uid, card_id(customer, AIRSTAR, site.names), self.mandates[customer.index],
                          MandateStatus[card.mandate])

    def ask(self, customer: Customer, kind: Kind, market: Market, ccy: str, amount: int) -> int:
        begin = self.bank.customer_deposits if kind == "deposit" else self.bank.customer_withdraws
        return begin(self.mandates[customer.index], market, ccy, amount).code

    def suspend(self, customer: Customer) -> Tell | None:
        mandate = self.mandates[customer.index]
        if not self.bank.suspend_mandate(mandate):
            return None
        return lambda core: core.mandates.bank_says(mandate, MandateStatus.SUSPENDED)

    def balance(self, customer: Customer, ccy: str) -> int:
        return self.bank.balance(customer.id, ccy)

    # Faults and the telephone

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:
        given = dict(parameters)
        if customer is not None:
            given["customer"] = customer
        if direction is not None:
            given["message"] = "deposit" if direction == "deposit" else "withdraw"
        fault_id = self.bank.fault(kind, **given)
        return lambda: self.bank.clear(fault_id)

    def inquire(self, reference: str) -> Truth:
        return self.bank.inquire(reference)

    def untold(self) -> Iterable[str]:
        """None: this bank is asked, it does not tell."""
        return ()

    def publish(self, request_id: str) -> bool:
        return self.bank.publish(request_id)
