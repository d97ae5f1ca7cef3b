"""CGB, SCB and Citi in a world: FPS credits, in the bank's own bytes or as messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from core.banks.airstar import Endpoint
from core.banks.fps import CreditLines, Hear
from core.banks.numbered import Exchange
from core.clock import MS_PER_S, US_PER_S
from core.errors import OutcomeUnknown
from core.storage import Severed
from core.wire.fps import Credit
from core.wire.numbered import Page, Query
from emulators.fps.bank import BANKS, FAULTS, SCB, FpsBank
from emulators.fps.keys import SECRET_BYTES
from emulators.numbered import NumberedLink
from emulators.numbered_faults import whole_lines
from emulators.streams import lognormal
from scenarios.banks.bank import Life, LifeEndpoint, Site
from scenarios.banks.statement import ReceivingInWorld

CREDIT_BANKS: Final = BANKS
CREDIT_FAULTS: Final = FAULTS
CREDIT_WHOLE_LINES: Final = {bank: whole_lines(faults) for bank, faults in FAULTS.items()}
"""Bank -> faults of its line: they strike every customer."""
TITLES: Final = {"cgb": "CGB", SCB: "Standard Chartered", "citi": "Citi"}


class CreditBankInWorld(ReceivingInWorld):
    """Implements `scenarios.banks.BankInWorld` and `scenarios.banks.statement.StatementBank`."""

    bank: FpsBank

    def __init__(self, name: str, site: Site) -> None:
        bank = FpsBank(name, site.loop, site.clock, site.streams, site.trace, site.settings,
                       in_maintenance=site.in_maintenance(name))
        super().__init__(name, TITLES[name], site, bank)
        self._full = site.wire != "messages"
        self._trip = trips(site, name, "sim.credits.link")
        self._line: MessageLine | CgbLine | ScbLine | CitiLine

    async def open(self) -> None:
        """The bank answers."""
        make = _FULL[self.name] if self._full else MessageLine
        self._line = make(self._site, self.bank, self._trip)
        await self._line.open()

    def lines(self, life: Life) -> CreditLines:
        """How one core asks the bank, and is called by it."""
        return self._line.lines(life)

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:  # noqa: ARG002 - there are deposits only
        return inject(self.bank, kind, parameters, customer, CREDIT_WHOLE_LINES[self.name])


def inject(bank: Any, kind: str, parameters: Mapping[str, Any], customer: str | None,
           whole: tuple[str, ...]) -> Callable[[], None]:
    """Put a fault in force; gives what ends it. A fault of the line is neither aimed nor counted: the reader has seen
    to it."""
    given = {name: value for name, value in parameters.items() if kind not in whole or name not in ("share", "count")}
    if customer is not None and kind not in whole:
        given["customer"] = customer
    fault_id = bank.fault(kind, **given)
    return lambda: bank.clear(fault_id)


def trips(site: Site, name: str, key: str) -> Callable[[], int]:
    rng = site.streams(f"{name}.line")
    median, p99 = (site.settings[f"{key}.{which}"] for which in ("median", "p99"))
    return lambda: round(lognormal(rng, median, p99) * US_PER_S)


def of_a_life(exchange: Exchange, life: Life) -> Exchange:
    """The same, as long as the core lives."""

    async def ask(query: Query) -> Page:
        life.check()
        answer = await exchange(query)
        life.check()
        return answer

    return ask


class Listeners:
    """Who hears the bank's calls now: the last core that listens, until it dies."""

    def __init__(self) -> None:
        self._hear: Hear | None = None

    async def heard(self, credit: Credit) -> bool:
        """Hand a credit to whoever listens; whether it was kept."""
        return self._hear is not None and await self._hear(credit)

    def listen(self, life: Life, hear: Hear) -> Callable[[], None]:
        """From now on this core; gives what ends it."""

        async def heard(credit: Credit) -> bool:
            try:
                life.check()
                return await hear(credit)
            except Severed:
                return False

        def gone() -> None:
            life.forget(gone)
            if self._hear is heard:
                self._hear = None

        self._hear = heard
        life.at_end(gone)
        return gone


class MessageLine:
    """Messages without serialisation and cryptography."""

    def __init__(self, site: Site, bank: FpsBank, trip: Callable[[], int]) -> None:
        self._site, self._bank = site, bank
        self._link = NumberedLink(bank, site.loop, trip, timeout_s=site.settings["credits.timeout_s"])
        self._listeners = Listeners()

    async def open(self) -> None:
        if self._bank.bank == SCB:
            self._bank.courier = self._call

    def lines(self, life: Life) -> CreditLines:
        async def listen(hear: Hear) -> Callable[[], Awaitable[None]]:
            gone = self._listeners.listen(life, hear)

            async def close() -> None:
                gone()

            return close

        return CreditLines(of_a_life(self._link, life), listen if self._bank.bank == SCB else None)

    async def _call(self, credit: Credit, forged: bool) -> bool:
        """A forged call is refused at our door."""
        return not forged and await self._listeners.heard(credit)


class FullLine:
    """What the three have in common over HTTP."""

    def __init__(self, site: Site, bank: FpsBank, trip: Callable[[], int]) -> None:
        self._site, self._bank, self._trip = site, bank, trip
        self._entropy = site.streams(f"{bank.bank}.entropy").randbytes
        self._timeout_s: float = site.settings["credits.timeout_s"]
        self._endpoint: Endpoint

    async def _serve(self, face: Any) -> None:
        from emulators.fps.app import fps_app

        self._endpoint = await self._site.places.endpoint(fps_app(self._bank, face), self._bank.bank, self._trip)


class CgbLine(FullLine):
    """SM2, SM3 and SM4."""

    async def open(self) -> None:
        from core.wire.sm2 import FastSm2
        from emulators.fps.app import CgbFace
        from emulators.fps.keys import cgb_keys

        self._sm2 = FastSm2()
        self._keys = cgb_keys(self._sm2, self._entropy)
        self._app: str = self._site.settings["credits.cgb.app"]
        await self._serve(CgbFace(self._bank, self._app, self._keys, self._sm2, self._entropy))

    def lines(self, life: Life) -> CreditLines:
        from core.banks.fps.cgb import CgbExchange

        return CreditLines(CgbExchange(LifeEndpoint(self._endpoint, life), self._app, self._keys.of_us(), self._sm2,
                                       self._entropy, self._site.clock, timeout_s=self._timeout_s))


class CitiLine(FullLine):
    """JSON Web Tokens."""

    async def open(self) -> None:
        from emulators.fps.app import CitiFace

        self._secret = self._entropy(SECRET_BYTES)
        self._client: str = self._site.settings["credits.citi.client"]
        await self._serve(CitiFace(self._bank, self._client, self._secret))

    def lines(self, life: Life) -> CreditLines:
        from core.banks.fps.citi import CitiExchange

        return CreditLines(CitiExchange(LifeEndpoint(self._endpoint, life), self._client, self._secret,
                                        self._site.clock, timeout_s=self._timeout_s))


class ScbLine(FullLine):
    """Protobuf by gRPC-Web, and the webhook."""

    async def open(self) -> None:
        from emulators.fps.app import ScbFace
        from emulators.fps.keys import scb_keys

        settings = self._site.settings
        self._keys = scb_keys(self._entropy)
        self._client: str = settings["credits.scb.client"]
        self._path: str = settings["credits.scb.webhook"]
        self._patience_s: float = settings["sim.credits.webhook.timeout_s"]
        self._listeners = Listeners()
        self._hook: Endpoint | None = None
        await self._serve(ScbFace(self._bank, self._client, self._keys))
        self._bank.courier = self._call

    def lines(self, life: Life) -> CreditLines:
        from core.banks.fps.scb import ScbExchange

        exchange = ScbExchange(LifeEndpoint(self._endpoint, life), self._client, self._keys.ours,
                               self._keys.bank.public_key(), self._site.clock, timeout_s=self._timeout_s)

        async def listen(hear: Hear) -> Callable[[], Awaitable[None]]:
            return await self._listen(life, hear)

        return CreditLines(exchange, listen)

    async def _listen(self, life: Life, hear: Hear) -> Callable[[], Awaitable[None]]:
        """Our own server, from now on this core's."""
        from core.banks.fps.scb import webhook

        gone = self._listeners.listen(life, hear)
        if self._hook is None:
            skew_ms = round(self._site.settings["credits.scb.webhook_skew_s"] * MS_PER_S)
            app = webhook(self._path, self._listeners.heard, self._keys.bank.public_key(), self._site.clock, skew_ms)
            self._hook = await self._site.places.endpoint(app, "core-webhook-scb", self._trip)

        async def close() -> None:
            gone()

        return close

    async def _call(self, credit: Credit, forged: bool) -> bool:
        from core.wire.scb import encode_notice

        if self._hook is None:
            return False
        headers, body = encode_notice(credit, self._bank.now_ms(), self._keys.stranger if forged else self._keys.bank)
        try:
            status, _ = await self._hook.send("POST", self._path, headers, body, self._patience_s)
        except OutcomeUnknown:
            return False
        return status == 200


_FULL: Final[dict[str, type[CgbLine] | type[ScbLine] | type[CitiLine]]] = {
    "cgb": CgbLine, SCB: ScbLine, "citi": CitiLine}
