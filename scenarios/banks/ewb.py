"""East West Bank in a world: somebody of Frontline fetches the portal's files at times, and uploads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

from core.clock import MS_PER_DAY, US_PER_MS, hkt_date, hkt_midnight_ms
from core.deposits.ewb import EwbLines, Upload
from core.domain import Market, Role
from core.orchestration.records import Actor
from core.storage import Severed
from emulators.ewb.bank import BANK, FAULTS, EwbBank
from emulators.loop import timer_of
from scenarios.banks.bank import Life, Site
from scenarios.banks.credits import inject
from scenarios.banks.statement import ReceivingInWorld

EWB: Final = BANK
EWB_FAULTS: Final = FAULTS
EWB_WHOLE_LINES: Final = tuple(FAULTS)
"""All of them strike a file: every customer in it."""


class EwbInWorld(ReceivingInWorld):
    """Implements `scenarios.banks.BankInWorld` and `scenarios.banks.statement.StatementBank`."""

    bank: EwbBank

    def __init__(self, site: Site) -> None:
        super().__init__(EWB, "East West Bank", site,
                         EwbBank(site.loop, site.clock, site.streams, site.trace, site.settings))
        self._after_us = timer_of(site.loop)
        self._clerk = Actor(site.settings["sim.ewb.by"], Role.FRONTLINE)
        self._times_ms = sorted(_ms_of_day(text) for text in site.settings["sim.ewb.upload_at"])
        self._upload: Upload | None = None
        self._brought = date.min  # the day on which files were brought last: it was not over then
        self._under_way: dict[asyncio.Task[None], None] = {}

    async def open(self) -> None:
        """The clerk comes to work."""
        self._wait()

    def lines(self, life: Life) -> EwbLines:
        """Where one core lets files be brought."""

        def listen(upload: Upload) -> Callable[[], None]:
            def gone() -> None:
                life.forget(gone)
                if self._upload is upload:
                    self._upload = None

            self._upload = upload
            life.at_end(gone)
            return gone

        return EwbLines(listen)

    def inject(self, kind: str, parameters: Mapping[str, Any], customer: str | None,
               direction: str | None) -> Callable[[], None]:  # noqa: ARG002 - there are deposits only
        return inject(self.bank, kind, parameters, customer, EWB_WHOLE_LINES)

    # The clerk

    def _wait(self) -> None:
        """For the next time at which files are fetched."""
        now = self._site.clock.now_ms()
        midnight = hkt_midnight_ms(hkt_date(now))
        due = next(at for day in (0, 1) for at in (midnight + day * MS_PER_DAY + ms for ms in self._times_ms)
                   if at > now)
        self._after_us((due - now) * US_PER_MS, self._fetch)

    def _fetch(self) -> None:
        day = self.bank.today()
        if self._upload is not None and self._site.calendars.is_trading_day(Market.HK, day):
            task = self._site.loop.create_task(self._bring(self._upload))
            self._under_way[task] = None
            task.add_done_callback(self._under_way.pop)
        self._wait()

    async def _bring(self, upload: Upload) -> None:
        """The files of today, and of the days since the last time: what came after it is in theirs. The CSV first: the
        BAI2 file names what it has brought."""
        today = self.bank.today()
        try:
            for day in self.bank.days():
                if day >= self._brought:
                    await upload(self.bank.csv(day), f"EWB-{day:%Y%m%d}.csv", self._clerk)
                    await upload(self.bank.bai2(day), f"EWB-{day:%Y%m%d}.bai", self._clerk)
        except Severed:  # the core dies while a file is under way: next time all of them are brought
            return
        self._brought = today


def _ms_of_day(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return (int(hours) * 60 + int(minutes)) * 60_000
