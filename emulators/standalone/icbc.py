"""ICBC standing alone: a port for each of its two lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.wire.icbc import PATH
from emulators.icbc import keys
from emulators.icbc.app import icbc_app
from emulators.icbc.bank import IcbcBank
from emulators.icbc.faults import AIM, FAULTS, LINES
from emulators.standalone.http import HttpFace
from emulators.standalone.journal import HttpJournal
from emulators.standalone.receiving import StandingReceiving
from emulators.standalone.standing import Site


class StandingIcbc(StandingReceiving):
    """Implements `emulators.standalone.standing.Standing`. A line that is away is one that says nothing: the port of a
    process does not close."""

    faults = FAULTS
    aim = AIM

    def __init__(self, site: Site) -> None:
        self._bank = IcbcBank(site.loop, site.clock, site.streams, site.trace, site.settings,
                              in_maintenance=site.in_maintenance)
        super().__init__(self._bank)
        self._settings, self._folder = site.settings, site.folder.resolve()
        pairs = keys.load_or_create(self._folder)
        self._faces = {}
        for line in LINES:
            app = icbc_app(self._bank, line, pairs[line].public_key(), pairs["bank"])
            entered = HttpJournal(app, site.journal, site.clock.now_ms, _message_of(line))
            self._faces[line] = HttpFace(entered, site.loop, site.settings["standalone.http.idle_s"])
        self._addresses: dict[str, str] = {}

    # Listening

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        found = {line: await face.listen(host, port)
                 for (line, face), port in zip(self._faces.items(), ports, strict=False)}
        self._addresses = {line: f"http://{host}:{port}{PATH}" for line, port in found.items()}
        return found

    async def close(self) -> None:
        for face in self._faces.values():
            await face.close()

    def addresses(self) -> dict[str, str]:
        return dict(self._addresses)

    def credentials(self) -> dict[str, str]:
        shown = {f"{owner}_{half}": str(self._folder / f"icbc.{owner}.{kind}.pem")
                 for owner in keys.OWNERS for half, kind in (("private_key", "key"), ("public_key", "pub"))
                 if (owner, half) != ("bank", "private_key")}
        names = {f"{line}_user": user for line, user in self._bank.users.items()}
        return {"cis": str(self._settings["icbc.cis"]), "bank_code": str(self._settings["icbc.bank_code"]), **names,
                **shown, **self.accounts()}

    # The bank's view

    def state(self) -> dict[str, Any]:
        return {"faults": self._bank.faults.shown(), "totals": self.totals(),
                "connections": {line: face.connections for line, face in self._faces.items()},
                "statements": {number: len(list(self._bank.lines(number)))
                               for number in self._bank.our_accounts.values()}}


def _message_of(line: str) -> Any:
    return lambda method, path: line if (method, path) == ("POST", PATH) else ""
