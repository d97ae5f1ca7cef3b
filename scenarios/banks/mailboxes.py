"""Hang Seng, CCB Asia, DBS, ZA and SPD in a world: their notification mailboxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from core.banks.notices import MailboxExchange
from core.banks.numbered import Exchange
from emulators.mailbox.bank import BANKS, MailboxBank
from emulators.numbered import NumberedLink
from emulators.numbered_faults import FAULTS, whole_lines
from scenarios.banks.bank import Life, LifeEndpoint, Site
from scenarios.banks.credits import inject, of_a_life, trips
from scenarios.banks.statement import ReceivingInWorld

MAILBOX_BANKS: Final = BANKS
MAILBOX_FAULTS: Final = FAULTS
MAILBOX_WHOLE_LINES: Final = whole_lines(FAULTS)
"""Faults of a line: they strike every customer."""
TITLES: Final = {"hase": "Hang Seng", "ccba": "CCB Asia", "dbs": "DBS", "za": "ZA Bank", "spd": "SPD"}
_TOKEN_BYTES: Final = 16


class MailboxInWorld(ReceivingInWorld):
    """Implements `scenarios.banks.BankInWorld` and `scenarios.banks.statement.StatementBank`."""

    bank: MailboxBank

    def __init__(self, name: str, site: Site) -> None:
        bank = MailboxBank(name, site.loop, site.clock, site.streams, site.trace, site.settings,
                           in_maintenance=site.in_maintenance(name))
        super().__init__(name, TITLES[name], site, bank)
        self._trip = trips(site, name, "sim.notices.link")
        self._make: Callable[[Life], Exchange]

    async def open(self) -> None:
        """The mailbox can be read."""
        site, timeout_s = self._site, self._site.settings["notices.timeout_s"]
        if site.wire == "messages":
            link = NumberedLink(self.bank, site.loop, self._trip, timeout_s=timeout_s)
            self._make = lambda life: of_a_life(link, life)
            return
        from emulators.mailbox.app import mailbox_app

        token = site.streams(f"{self.name}.entropy").randbytes(_TOKEN_BYTES).hex()
        endpoint = await site.places.endpoint(mailbox_app(self.bank, token), self.name, self._trip)
        self._make = lambda life: MailboxExchange(LifeEndpoint(endpoint, life), token, timeout_s=timeout_s)

    def lines(self, life: Life) -> Exchange:
        """How one core reads the mailbox."""
        return self._make(life)

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:  # noqa: ARG002 - there are deposits only
        return inject(self.bank, kind, parameters, customer, MAILBOX_WHOLE_LINES)
