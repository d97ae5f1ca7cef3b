"""East West Bank standing alone: its portal on one port, from which the files of a day are downloaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import Misconfigured
from emulators.ewb.app import PATH, ewb_app, message_of
from emulators.ewb.bank import AIM, FAULTS, EwbBank
from emulators.standalone.http import HttpFace
from emulators.standalone.journal import HttpJournal
from emulators.standalone.receiving import StandingReceiving
from emulators.standalone.standing import Site


class StandingEwb(StandingReceiving):
    """Implements `emulators.standalone.standing.Standing`."""

    faults = FAULTS
    aim = {name: one for name, one in AIM.items() if name != "customer"}  # noqa: RUF012 - as the class above has it

    def __init__(self, site: Site) -> None:
        self._bank = EwbBank(site.loop, site.clock, site.streams, site.trace, site.settings)
        super().__init__(self._bank)
        entered = HttpJournal(ewb_app(self._bank), site.journal, site.clock.now_ms, message_of)
        self._face = HttpFace(entered, site.loop, site.settings["standalone.http.idle_s"])
        self._address = ""

    # Listening

    async def open(self, host: str, ports: Sequence[int]) -> dict[str, int]:
        port = await self._face.listen(host, ports[0])
        self._address = f"http://{host}:{port}{PATH}"
        return {"portal": port}

    async def close(self) -> None:
        await self._face.close()

    def addresses(self) -> dict[str, str]:
        return {"portal": self._address}

    def credentials(self) -> dict[str, str]:
        today = f"{self._address}/{self._bank.today()}"
        return {"csv_of_today": f"{today}.csv", "bai2_of_today": f"{today}.bai2",
                **self.accounts()}

    # Faults and the bank's view

    def put_fault(self, name: str, params: Mapping[str, Any]) -> str:
        if params.get("customer") is not None:
            raise Misconfigured("a file tells of all customers at once", remedy="leave customer out")
        return super().put_fault(name, params)

    def state(self) -> dict[str, Any]:
        return {"faults": self._bank.faults.shown(), "totals": self.totals(), "connections": self._face.connections,
                "days": [f"{day}" for day in self._bank.days()]}
