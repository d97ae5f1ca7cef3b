"""ICBC in a world: one book, two lines, in the fidelity of the scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from core.banks.icbc import Exchange, Lines, SignedExchange
from core.clock import US_PER_S
from core.wire.icbc import Answer, Request
from emulators.icbc import keys
from emulators.icbc.app import icbc_app
from emulators.icbc.bank import BANK, IcbcBank
from emulators.icbc.faults import FAULTS, LINES, WHOLE_LINES
from emulators.icbc.link import LineEndpoint, MessageLink
from emulators.streams import lognormal
from scenarios.banks.bank import Life, LifeEndpoint, Site
from scenarios.banks.statement import ReceivingInWorld

ICBC: Final = BANK
ICBC_FAULTS: Final = FAULTS
ICBC_WHOLE_LINES: Final = WHOLE_LINES
"""Faults of lines: they strike every customer."""


class IcbcInWorld(ReceivingInWorld):
    """Implements `scenarios.banks.BankInWorld` and `scenarios.banks.statement.StatementBank`."""

    bank: IcbcBank

    def __init__(self, site: Site) -> None:
        bank = IcbcBank(site.loop, site.clock, site.streams, site.trace, site.settings,
                        in_maintenance=site.in_maintenance(ICBC))
        super().__init__(ICBC, "ICBC", site, bank)
        self._make: Callable[[str, Life], Exchange]

    async def open(self) -> None:
        """Both lines stand."""
        site, settings = self._site, self._site.settings
        timeout_s = settings["icbc.api.timeout_s"]
        if site.wire == "messages":
            links = {line: MessageLink(self.bank, line, site.loop, self._latency(line), timeout_s=timeout_s)
                     for line in LINES}
            self._make = lambda line, life: _of_a_life(links[line], life)
            return
        pairs, endpoints = keys.in_memory(), {}
        for line in LINES:
            app = icbc_app(self.bank, line, pairs[line].public_key(), pairs["bank"])
            endpoint = await site.places.endpoint(app, f"{ICBC}-{line}", self._latency(line))
            endpoints[line] = LineEndpoint(endpoint, self.bank, line)
        self._make = lambda line, life: SignedExchange(
            LifeEndpoint(endpoints[line], life), pairs[line], pairs["bank"].public_key(), timeout_s=timeout_s)

    def _latency(self, line: str) -> Callable[[], int]:
        rng = self._site.streams(f"icbc.{line}")
        median, p99 = (self._site.settings[f"sim.icbc.link.{name}"] for name in ("median", "p99"))
        return lambda: round(lognormal(rng, median, p99) * US_PER_S)

    def lines(self, life: Life) -> Lines:
        """One core's lines: production's and the canary's."""
        return Lines(*(self._make(line, life) for line in LINES))

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:  # noqa: ARG002 - there are deposits only
        given = dict(parameters)
        if kind in WHOLE_LINES:  # neither aimed nor counted: the reader has seen to it
            given = {name: value for name, value in given.items() if name not in ("share", "count")}
        elif customer is not None:
            given["customer"] = customer
        fault_id = self.bank.fault(kind, **given)
        return lambda: self.bank.clear(fault_id)


def _of_a_life(exchange: Exchange, life: Life) -> Exchange:
    async def ask(request: Request) -> Answer:
        life.check()
        answer = await exchange(request)
        life.check()
        return answer

    return ask
