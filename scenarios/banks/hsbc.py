"""HSBC in a world: its SFTP server and ours, the webhook, and the files between them, in full or as messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from core.banks.hsbc import Deliver, HsbcLines, Notice
from core.clock import US_PER_S
from core.errors import OutcomeUnknown
from core.storage import Severed
from core.wire.openpgp import OpenPgp
from emulators.dice import Lognormal
from emulators.hsbc.bank import HsbcBank
from emulators.hsbc.faults import FAULTS, Strikes
from emulators.hsbc.keys import HsbcKeys, all_keys, known_host
from emulators.hsbc.line import MessageBank, MessageCourier
from emulators.hsbc.seal import PgpSealing, PlainEnvelope, PlainSealing
from emulators.network import on_host
from emulators.streams import lognormal_from
from scenarios.banks.bank import Life, Site
from scenarios.banks.statement import ReceivingInWorld

if TYPE_CHECKING:
    from core.banks.airstar import Endpoint
    from emulators.hsbc.courier import Address

TITLE: Final = "HSBC"
_OURS, _WEBHOOK = "core-sftp", "core-webhook"
"""Our servers' hosts in the memory network."""

WHOLE_LINES: Final = tuple(name for name, kind in FAULTS.items() if Strikes.SERVER in kind.strikes)
"""Faults of the bank's server: they strike everybody."""


class HsbcInWorld(ReceivingInWorld):
    """``bank`` is the emulated HSBC; ``bank.fault(name, …)`` injects."""

    bank: HsbcBank

    def __init__(self, site: Site) -> None:
        self._full = site.wire != "messages"
        self._keys: HsbcKeys | None = None
        if self._full:
            keys = self._keys = all_keys(lambda whose: site.streams(whose).randbytes)
            sealing: Any = PgpSealing(keys.bank.secret, keys.ours.certificate, keys.stranger)
        else:
            sealing = PlainSealing()
        bank = HsbcBank(site.loop, site.clock, site.streams, site.trace, site.settings, sealing,
                        in_maintenance=site.in_maintenance("hsbc"))
        super().__init__("hsbc", TITLE, site, bank)
        self._line: _FullLine | _MessageLine = _FullLine(site, bank, self._keys) if self._keys is not None else (
            _MessageLine(site, bank))
        bank.courier = self._line.courier

    async def open(self) -> None:
        """The bank's SFTP server takes connections."""
        await self._line.open()

    async def close(self) -> None:
        """The bank drops nothing more, its server ends."""
        await self.bank.close()
        await self._line.close()

    def lines(self, life: Life) -> HsbcLines:
        """How one core fetches from the bank, and is dropped at."""
        return self._line.lines(life)

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:  # noqa: ARG002 - statements have one direction
        given = dict(parameters)
        if kind in WHOLE_LINES:  # neither aimed nor counted: the reader has seen to it
            given = {name: value for name, value in given.items() if name not in ("share", "count")}
        if customer is not None:
            given["customer"] = customer
        fault_id = self.bank.fault(kind, **given)
        return lambda: self.bank.clear(fault_id)


class _MessageLine:
    """Without SSH and OpenPGP."""

    def __init__(self, site: Site, bank: HsbcBank) -> None:
        settings = site.settings
        latency = Lognormal(settings["sim.hsbc.link.median"], settings["sim.hsbc.link.p99"], site.streams("hsbc.line"))
        self.courier = MessageCourier(latency)
        self._mailbox = MessageBank(bank, latency)

    async def open(self) -> None:
        """Nothing listens."""

    async def close(self) -> None:
        """Nothing listens."""

    def lines(self, life: Life) -> HsbcLines:
        async def listen(deliver: Deliver, notice: Notice) -> Callable[[], Awaitable[None]]:
            life.at_end(self.courier.deaf)
            return await self.courier.listen(*_while_alive(life, deliver, notice))

        return HsbcLines(self._mailbox, PlainEnvelope(), listen)


class _FullLine:
    """Real SSH sessions and OpenPGP files."""

    def __init__(self, site: Site, bank: HsbcBank, keys: HsbcKeys) -> None:
        from emulators.hsbc.courier import SftpCourier  # AsyncSSH takes long to import
        from emulators.sftp import SftpServer

        settings = self._settings = site.settings
        self._site, self._keys = site, keys
        self._latency_us = lognormal_from(settings["sim.hsbc.link.median"] * US_PER_S,
                                          settings["sim.hsbc.link.p99"] * US_PER_S)
        self._trip = Lognormal(settings["sim.hsbc.link.median"], settings["sim.hsbc.link.p99"],
                               site.streams("hsbc.webhook"))
        self._server = SftpServer(bank.files, keys.bank_host.private,
                                  {settings["sim.hsbc.sftp.user"]: keys.our_login.public}, bank.is_up)
        self._at = ("", 0)
        self._ours: Address | None = None
        self._bell: Endpoint | None = None
        self.courier = SftpCourier(
            lambda: self._ours, settings["hsbc.inbound.user"], keys.bank_login, settings["hsbc.inbound.folder"],
            self._post, bank.values.push_timeout_s, partial(on_host, "hsbc"))

    async def open(self) -> None:
        self._at = _split(await self._site.places.listen(self._server, "hsbc", self._latency_us))

    async def close(self) -> None:
        await self._server.close()

    def lines(self, life: Life) -> HsbcLines:
        from core.banks.hsbc.sftp import SftpBank

        settings, keys = self._settings, self._keys
        host, port = self._at
        bank = SftpBank(host, port, settings["sim.hsbc.sftp.user"], keys.our_login.private,
                        known_host(host, port, keys.bank_host), settings["hsbc.sftp.folder"],
                        settings["hsbc.sftp.timeout_s"], settings["hsbc.sftp.rekey_s"])
        return HsbcLines(bank, OpenPgp(keys.ours.secret, [keys.bank.certificate]), partial(self._listen, life))

    async def _listen(self, life: Life, deliver: Deliver, notice: Notice) -> Callable[[], Awaitable[None]]:
        """Our own servers, until this core ends."""
        from core.banks.hsbc.inbound import Inbound, webhook
        from emulators.hsbc.courier import Address

        settings, places = self._settings, self._site.places
        deliver, notice = _while_alive(life, deliver, notice)
        inbound = Inbound(
            self._keys.our_host.private, self._keys.bank_login.public, settings["hsbc.inbound.user"],
            settings["hsbc.inbound.folder"], deliver, limit=settings["hsbc.file.limit"],
            open_at_most=settings["hsbc.inbound.open_at_most"], login_s=settings["hsbc.inbound.login_s"],
            rekey_s=settings["hsbc.sftp.rekey_s"])
        ours = Address(*_split(await places.listen(inbound, _OURS, self._latency_us, "hsbc")), self._keys.our_host)
        bell = await places.endpoint(webhook(settings["hsbc.inbound.webhook"], notice), _WEBHOOK,
                                     lambda: self._trip() + self._trip())
        self._ours, self._bell = ours, bell

        def gone() -> None:
            inbound.halt()
            if self._ours is ours:
                self._ours = self._bell = None

        async def close() -> None:
            life.forget(gone)
            gone()
            await inbound.close()

        life.at_end(gone)
        return close

    async def _post(self, body: bytes) -> int:
        if self._bell is None:
            raise OutcomeUnknown("nobody is there")
        status, _ = await self._bell.send("POST", self._settings["hsbc.inbound.webhook"],
                                          {"content-type": "application/json"}, body,
                                          self._settings["sim.hsbc.push.timeout_s"])
        return status


def _while_alive(life: Life, deliver: Deliver, notice: Notice) -> tuple[Deliver, Notice]:
    """The same, as the bank's side may call them: a core that is dead breaks the connection, not the bank."""

    async def delivered(name: str, content: bytes) -> None:
        try:
            life.check()
            await deliver(name, content)
        except Severed as dead:
            raise ConnectionResetError(str(dead)) from None

    async def noticed(name: str) -> bool:
        try:
            life.check()
            return await notice(name)
        except Severed:
            return False

    return delivered, noticed


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
