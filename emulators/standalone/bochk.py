"""BOCHK standing alone: a port for B2E (XML over HTTP) and one for the S16 reports (FTP)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from core.banks.bochk import PATH, Credentials
from core.calendars import Calendars
from emulators.bochk.app import bochk_app
from emulators.bochk.bank import BochkBank
from emulators.bochk.faults import AIM, FAULTS
from emulators.bochk.ftp import FtpDoor
from emulators.bochk.s16 import S16Writer
from emulators.standalone.http import HttpFace, listening
from emulators.standalone.journal import HttpJournal
from emulators.standalone.receiving import StandingReceiving
from emulators.standalone.standing import Site

SECRETS: Final = "bochk.secrets.json"
_NAMES: Final = ("password", "cert_password", "ftp_password")


class StandingBochk(StandingReceiving):
    """Implements `emulators.standalone.standing.Standing`. FTP keeps its hours whatever the options say."""

    faults = FAULTS
    aim = AIM

    def __init__(self, site: Site) -> None:
        settings = self._settings = site.settings
        self._path = site.folder.resolve() / SECRETS
        secrets = _secrets(self._path, site)
        self._who = Credentials(
            settings["bochk.b2e.cust_id"], settings["bochk.b2e.user_id"], secrets["password"],
            settings["bochk.b2e.cert_name"], secrets["cert_password"],
            next(iter(settings["receiving.bochk.accounts"].values())))
        self._bank = BochkBank(site.loop, site.clock, site.streams, site.trace, settings, self._who,
                               in_maintenance=site.in_maintenance)
        super().__init__(self._bank)
        calendars = Calendars(settings)
        self._writer = S16Writer(self._bank, site.loop, site.clock, site.streams, settings,
                                 lambda ms: calendars.bank_gate("bochk_ftp", ms))
        entered = HttpJournal(bochk_app(self._bank), site.journal, site.clock.now_ms, _message_of)
        self._face = HttpFace(entered, site.loop, settings["standalone.http.idle_s"])
        self._door = FtpDoor(self._writer, settings["bochk.s16.user"], secrets["ftp_password"],
                             settings["bochk.s16.folder"])
        self._addresses: dict[str, str] = {}

    # Listening

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        found = {"b2e": await self._face.listen(host, ports[0])}
        found["ftp"] = await listening(self._door.listen(host, ports[1]), host, ports[1])
        self._writer.begin()
        self._addresses = {"b2e": f"http://{host}:{found['b2e']}{PATH}",
                           "ftp": f"ftp://{host}:{found['ftp']}{self._settings['bochk.s16.folder']}"}
        return found

    async def close(self) -> None:
        await self._face.close()
        await self._door.close()

    def addresses(self) -> dict[str, str]:
        return dict(self._addresses)

    def credentials(self) -> dict[str, str]:
        who = self._who
        return {"cust_id": who.cust_id, "user_id": who.user_id, "cert_name": who.cert_name,
                "ftp_user": str(self._settings["bochk.s16.user"]), "secrets": str(self._path),
                **self.accounts()}

    # The bank's view

    def state(self) -> dict[str, Any]:
        return self._bank.state() | {
            "totals": self.totals(), "files": sorted(self._writer.files),
            "connections": {"b2e": self._face.connections, "ftp": self._door.connections}}


def _secrets(path: Path, site: Site) -> dict[str, str]:
    """The passwords, made at the first start and kept for the owner's eyes only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps({name: site.entropy(12).hex() for name in _NAMES}), encoding="utf-8")
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def _message_of(method: str, path: str) -> str:
    return "B2E" if (method, path) == ("POST", PATH) else ""
