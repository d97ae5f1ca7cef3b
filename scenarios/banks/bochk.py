"""BOCHK in a world: B2E over HTTP and S16 over FTP, or both without their bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from core.banks.bochk import BANK, BochkLines, Credentials, Exchange, S16File, S16Files, XmlExchange
from core.banks.bochk_ftp import FtpFiles
from core.clock import US_PER_S
from core.wire.bochk_b2e import Reply, Request
from emulators.bochk.app import bochk_app
from emulators.bochk.bank import BochkBank
from emulators.bochk.faults import FAULTS, Strikes
from emulators.bochk.link import MessageExchange, MessageFiles
from emulators.bochk.s16 import S16Writer
from emulators.streams import lognormal, lognormal_from
from scenarios.banks.bank import Life, LifeEndpoint, Site
from scenarios.banks.statement import ReceivingInWorld

BOCHK: Final = BANK
_FTP_GATE: Final = "bochk_ftp"


class BochkInWorld(ReceivingInWorld):
    """Implements `scenarios.banks.BankInWorld` and `scenarios.banks.statement.StatementBank`."""

    bank: BochkBank

    def __init__(self, site: Site) -> None:
        settings = site.settings
        secrets = site.streams("bochk.secrets")
        self._credentials = Credentials(
            settings["bochk.b2e.cust_id"], settings["bochk.b2e.user_id"], secrets.randbytes(12).hex(),
            settings["bochk.b2e.cert_name"], secrets.randbytes(12).hex(),
            next(iter(settings["receiving.bochk.accounts"].values())))
        self._ftp_password = secrets.randbytes(12).hex()
        bank = BochkBank(site.loop, site.clock, site.streams, site.trace, settings, self._credentials,
                         in_maintenance=site.in_maintenance(BANK))
        super().__init__(BANK, "BOCHK", site, bank)
        self.writer = S16Writer(bank, site.loop, site.clock, site.streams, settings,
                                lambda ms: site.calendars.bank_gate(_FTP_GATE, ms))
        self._exchange: Callable[[Life], Exchange]
        self._files: S16Files
        self._door: Any = None

    async def open(self) -> None:
        """Both services in the fidelity of the scenario, and the first period of S16 begins."""
        site, settings = self._site, self._site.settings
        self.writer.begin()
        rng = site.streams("bochk.line")
        median, p99 = settings["sim.bochk.link.median"], settings["sim.bochk.link.p99"]
        timeout_s = settings["bochk.b2e.timeout"]

        def latency() -> int:
            return round(lognormal(rng, median, p99) * US_PER_S)

        if site.wire == "messages":
            exchange = MessageExchange(self.bank, latency, timeout_s=timeout_s)
            self._exchange = lambda life: _LifeExchange(exchange, life)
            self._files = MessageFiles(self.writer, latency)
            return
        from emulators.bochk.ftp import FtpDoor  # only where there is FTP

        endpoint = await site.places.endpoint(bochk_app(self.bank), BANK, latency)
        self._exchange = lambda life: XmlExchange(LifeEndpoint(endpoint, life), timeout_s=timeout_s)
        user, folder = settings["bochk.s16.user"], settings["bochk.s16.folder"]
        self._door = FtpDoor(self.writer, user, self._ftp_password, folder)
        one_way = lognormal_from(median / 2 * US_PER_S, p99 / 2 * US_PER_S)
        host, _, port = (await site.places.listen(self._door, f"{BANK}-ftp", one_way)).rpartition(":")
        self._files = FtpFiles(host, int(port), user, self._ftp_password, folder,
                               timeout_s=settings["bochk.s16.timeout"])

    async def close(self) -> None:
        if self._door is not None:
            await self._door.close()

    def lines(self, life: Life) -> BochkLines:
        """How one core reaches the bank."""
        return BochkLines(self._exchange(life), _LifeFiles(self._files, life), self._credentials)

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:  # noqa: ARG002 - credits only
        given = dict(parameters)
        if customer is not None and Strikes.LINE in FAULTS[kind].strikes:
            given["customer"] = customer
        fault_id = self.bank.fault(kind, **given)
        return lambda: self.bank.clear(fault_id)


class _LifeExchange:
    """A line of one core: a dead core asks nothing and hears nothing."""

    def __init__(self, exchange: Exchange, life: Life) -> None:
        self._exchange, self._life = exchange, life

    async def __call__(self, request: Request) -> Reply:
        self._life.check()
        reply = await self._exchange(request)
        self._life.check()
        return reply


class _LifeFiles:
    """The same for files."""

    def __init__(self, files: S16Files, life: Life) -> None:
        self._files, self._life = files, life

    async def fetch(self, wanted: Callable[[Sequence[S16File]], Sequence[S16File]]) -> list[tuple[S16File, bytes]]:
        self._life.check()
        found = await self._files.fetch(wanted)
        self._life.check()
        return found
