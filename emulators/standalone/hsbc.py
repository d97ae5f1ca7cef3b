"""HSBC standing alone: an SFTP server with its MT910 files, signed and encrypted, which it also drops at a client's."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import httpx

from core.clock import US_PER_S
from core.errors import OutcomeUnknown
from core.wire.openpgp_keys import new_pair
from emulators.hsbc.bank import DropFailed, HsbcBank
from emulators.hsbc.courier import Address, SftpCourier
from emulators.hsbc.faults import AIM, FAULTS
from emulators.hsbc.keys import CREATED_S, SshKey
from emulators.hsbc.seal import PgpSealing
from emulators.standalone import pgp
from emulators.standalone.loop import ServedLoop
from emulators.standalone.push_control import PushOrder, keep, kept
from emulators.standalone.receiving import StandingReceiving
from emulators.standalone.ssh import SftpFace, load_or_create
from emulators.standalone.standing import Site

T = TypeVar("T")
PUSH_TO: Final = "hsbc.push.json"
_OF_THE_BANK, _OF_THE_BROKER = "HSBC (emulated) <hsbc@nostro.invalid>", "Broker <broker@nostro.invalid>"
_NO_LIMIT_S: Final = 10.0**9
"""Of the courier's own, which would be by the bank's clock."""


class StandingHsbc(StandingReceiving):
    """Implements `emulators.standalone.standing.Standing` and `emulators.standalone.push_control.Pushing`."""

    faults = FAULTS
    aim = AIM

    def __init__(self, site: Site) -> None:
        self._site, self._folder, settings = site, site.folder.resolve(), site.settings
        entropy = site.entropy
        own = pgp.load_or_create(self._folder, "hsbc.bank", _OF_THE_BANK, entropy)
        ours = pgp.certificate_of(self._folder, "hsbc.broker", _OF_THE_BROKER, entropy)
        stranger = new_pair("stranger <stranger@nostro.invalid>", entropy, CREATED_S)
        self._bank = HsbcBank(site.loop, site.clock, site.streams, site.trace, settings,
                              PgpSealing(own.secret, ours, stranger), in_maintenance=site.in_maintenance)
        super().__init__(self._bank)
        self._login = load_or_create(self._folder, "hsbc.push", entropy)
        self._face = SftpFace("hsbc.sftp", site, self._bank.files, settings["sim.hsbc.sftp.user"],
                              self._bank.values.folder, self._bank.is_up)
        self._push: Pushes | None = None
        self._hanging_up: dict[asyncio.Task[None], None] = {}
        self._take(kept(self._folder / PUSH_TO))

    # Listening

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        return {"sftp": await self._face.listen(host, ports[0])}

    async def close(self) -> None:
        await self._bank.close()
        await asyncio.gather(*self._hanging_up, return_exceptions=True)
        await self._face.close()

    def addresses(self) -> dict[str, str]:
        return {"sftp": self._face.address}

    def credentials(self) -> dict[str, str]:
        secret = self._folder / "hsbc.broker.key.asc"
        made = {"broker_pgp_private_key": str(secret)} if secret.exists() else {}
        push = {} if self._push is None else {"push_to": self._push.where}
        return {**self._face.credentials(), **made, "broker_pgp_certificate": str(self._folder / "hsbc.broker.pub.asc"),
                "bank_pgp_certificate": str(self._folder / "hsbc.bank.pub.asc"),
                "push_public_key": str(self._folder / "hsbc.push.pub"), **push,
                **self.accounts()}

    # Dropping

    def push_to(self, order: PushOrder | None) -> None:
        keep(self._folder / PUSH_TO, order)
        self._take(order)

    def _take(self, order: PushOrder | None) -> None:
        if self._push is not None:
            task = self._site.loop.create_task(self._push.close())
            self._hanging_up[task] = None
            task.add_done_callback(self._hanging_up.pop)
        self._push = self._bank.courier = None if order is None else Pushes(order, self._site, self._login)

    def pushing(self) -> dict[str, Any]:
        if self._push is None:
            return {"to": None}
        return self._push.shown()

    # The bank's view

    def state(self) -> dict[str, Any]:
        folder = self._bank.values.folder
        return {"faults": self._bank.faults.shown(), "totals": self.totals(), "connections": self._face.connections,
                "files": [path.rpartition("/")[2] for path, _ in self._bank.files.under(folder)],
                "push": self.pushing()}


class Pushes:
    """Implements `emulators.hsbc.bank.Courier`: by SFTP and HTTP, within real time, and counted."""

    def __init__(self, order: PushOrder, site: Site, login: SshKey) -> None:
        settings = site.settings
        user, folder = order.user or settings["hsbc.inbound.user"], order.folder or settings["hsbc.inbound.folder"]
        self.where = f"sftp://{user}@{order.host}:{order.port}{folder}"
        self._loop, self._webhook = site.loop, order.webhook
        self._limit_s: float = settings["sim.hsbc.push.timeout_s"]
        address = Address(order.host, order.port, SshKey(b"", order.host_key.encode()))
        self._inner = SftpCourier(lambda: address, user, login, folder, self._post, _NO_LIMIT_S)
        self._counts = {"dropped": 0, "rung": 0, "failed": 0}
        self._last = ""

    def shown(self) -> dict[str, Any]:
        """Where, and how it went."""
        return {"to": self.where, "webhook": self._webhook, **self._counts, "last_failure": self._last or None}

    async def drop(self, name: str, content: bytes) -> None:
        await self._counted("dropped", name, self._inner.drop(name, content))

    async def ring(self, name: str) -> None:
        if self._webhook is not None:
            await self._counted("rung", name, self._inner.ring(name))

    async def _counted(self, deed: str, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await within_real(self._loop, self._limit_s, work)
        except (DropFailed, TimeoutError) as error:
            why = str(error) or f"nothing within {self._limit_s:g} s"
            self._counts["failed"] += 1
            self._last = f"{name} was not {deed}: {why}"
            if isinstance(error, TimeoutError):
                await self.close()
                raise DropFailed(why) from None
            raise
        self._counts[deed] += 1

    async def _post(self, body: bytes) -> int:
        assert self._webhook is not None
        try:
            async with httpx.AsyncClient(timeout=None, trust_env=False) as client:
                answer = await client.post(self._webhook, content=body, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"{type(error).__name__}: {error}") from error
        return answer.status_code

    async def close(self) -> None:
        with suppress(TimeoutError):
            await within_real(self._loop, self._limit_s, self._inner.close())


async def within_real(loop: ServedLoop, limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; `TimeoutError` after so many real seconds, whatever the bank's clock does meanwhile."""
    task: asyncio.Task[T] = loop.create_task(work)
    late = loop.call_after_real_us(round(limit_s * US_PER_S), task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if late.cancelled:  # it has fired: nobody else has called it off yet
            raise TimeoutError from None
        task.cancel()
        raise
    finally:
        late.cancel()
