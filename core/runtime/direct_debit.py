"""Direct debit within a core: the interfaces of HSBC and Hang Seng, as far as this core has lines to them.

Both banks are wired alike and know nothing of each other (ADR-006); what differs is the pace at which requests leave
(ADR-004) and that HSBC reports on authorisations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from core.banks.edda import CHANNELS, EddaGateway, EddaLines
from core.banks.edda_pace import Pace, SerialLock, TokenBucket, Turnstile
from core.cards.edda import Authorisations
from core.cards.edda_report import JOB as REPORT
from core.cards.edda_report import EddaReports
from core.clock import MS_PER_S, Clock
from core.deposits.eddi import CREDIT, IN_ORDER, EddiDeposits, Room, Spawn
from core.jobs import Done, Job, Verdict
from core.runtime.statement_banks import each
from core.settings import Settings
from core.storage import Database

SYNC: Final = "EddaStatusSync"
Function = Callable[[], Awaitable[Any]]


class DirectDebitBank:
    """One of the two in one core."""

    def __init__(self, bank: str, lines: EddaLines, room: Room, account: Database, worker: str) -> None:
        self.bank, self._room = bank, room
        pace = _pace(bank, room.clock, room.settings, worker)
        gateway = EddaGateway(bank, lines.exchange, Turnstile(pace, room.db, room.clock), room.clock, room.trace)
        self.authorisations = Authorisations(
            account, room.clock, room.trace, room.calendars, gateway, room.settings)
        self.deposits = EddiDeposits(gateway, self.authorisations, room)
        self.reports = None if lines.reports is None else EddaReports(
            account, room.clock, room.trace, room.calendars, self.authorisations, lines.reports, room.settings)

    async def sync(self) -> int:
        """EddaStatusSync. The bank is not asked during its own maintenance (gaps.md B-17): a job of the queue does it
        when that ends."""
        room = self._room
        maintenance = room.calendars.maintenance(self.bank, room.clock.now_ms())
        if not maintenance.under_way:
            return await self.authorisations.sync()
        async with room.db.transaction() as tx:
            await room.jobs.enqueue(tx, SYNC, f"{self.bank}:{maintenance.ends_ms}", {"bank": self.bank},
                                    maintenance.ends_ms, room.settings["jobs.edda_status.repeat.times"])
        return 0


def _pace(bank: str, clock: Clock, settings: Settings, worker: str) -> Pace:
    if IN_ORDER[bank]:
        return SerialLock(bank, clock, worker, round(settings["edda.send.lease_s"] * MS_PER_S),
                          settings[f"edda.pace.{bank}.look_ms"])
    return TokenBucket(bank, clock, settings[f"edda.pace.{bank}.rate"],
                       round(settings["edda.api.timeout_s"] * MS_PER_S))


class DirectDebit:
    """All of it in one core. ``lines``: bank -> its lines; a bank without lines is not connected."""

    def __init__(self, lines: Mapping[str, EddaLines], room: Room, account: Database, worker: str) -> None:
        self.banks = {bank: DirectDebitBank(bank, of, room, account, worker) for bank, of in lines.items()}

    @property
    def deposits_at(self) -> dict[str, EddiDeposits]:
        """Name of the interface (``hsbc_eddi``) -> where customers ask for deposits by it."""
        return {CHANNELS[bank]: of.deposits for bank, of in self.banks.items()}

    @property
    def scheduled(self) -> dict[str, Function]:
        """Job of the timetable -> what this core does for it: nothing without a bank."""
        banks = self.banks.values()
        jobs: dict[str, Sequence[Function]] = {
            "EddaAuthPoll": [of.authorisations.poll for of in banks],
            "EddiResultQuery": [of.deposits.query_results for of in banks],
            CREDIT: [of.deposits.process for of in banks],
            SYNC: [of.sync for of in banks],
            "ApplyTimeoutReject": [of.deposits.reject_overdue for of in banks],
        }
        found: dict[str, Function] = {job: partial(each, functions) for job, functions in jobs.items() if functions}
        for of in banks:
            if of.reports is not None:
                found[REPORT] = of.reports.fetch
        return found

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return {CREDIT: self._credit, SYNC: self._sync} if self.banks else {}

    async def _credit(self, job: Job) -> Verdict:
        return await self.banks[job.payload["bank"]].deposits.credit(job)

    async def _sync(self, job: Job) -> Verdict:
        """What the morning's run has left for the end of the maintenance."""
        await self.banks[job.payload["bank"]].authorisations.sync()
        return Done()

    async def start(self, spawn: Spawn) -> None:
        """Begin sending what waits."""
        for of in self.banks.values():
            await of.deposits.start(spawn)

    async def stop(self) -> None:
        """Send nothing more; what is under way is answered."""
        for of in self.banks.values():
            await of.deposits.stop()

    def halt(self) -> None:
        """What a killed process leaves."""
        for of in self.banks.values():
            of.deposits.halt()
