"""HSBC's report on authorisations: a CSV file fetched by SFTP twice a day (gaps.md B-25, `hsbc_edda_report`).

Each file is taken once, in the order in which the bank wrote them; its rows change the authorisations that they name.
A file that is no report, and rows that cannot be read, are kept with the reason and told as an alert; the good rows of
a file are taken all the same. On a business day a new report is expected: without one the run has failed and is
repeated (jobs.edda_report.repeat).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from sqlalchemy import bindparam, insert, select

from core.alerts import raise_alert
from core.banks.hsbc import Mailbox, RemoteFile
from core.calendars import Calendars
from core.cards.edda import Authorisations
from core.clock import MS_PER_S, Clock, hkt_date
from core.domain import EddaStatus
from core.errors import OutcomeUnknown
from core.settings import Settings
from core.storage import Database, Statement, UniqueViolation
from core.storage.account import edda_report
from core.trace import Trace
from core.wire.edda import MalformedReport, Report, parse_report

JOB: Final = "HsbcEddaReport"
REASON_KEPT: Final = 500
_R = edda_report.c
KNOWN: Final = Statement(select(_R.state).where(_R.name == bindparam("name"), _R.version == bindparam("version")))
TAKEN: Final = Statement(insert(edda_report))


class EddaReports:
    """The reports as one core takes them."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, calendars: Calendars, authorisations: Authorisations,
        connect: Callable[[], AbstractAsyncContextManager[Mailbox]], settings: Settings,
    ) -> None:
        self._db, self._clock, self._trace, self._calendars = db, clock, trace, calendars
        self._authorisations, self._connect = authorisations, connect
        self._limit: int = settings["edda.report.limit"]

    async def fetch(self) -> str:
        """HsbcEddaReport: what was taken, in words. `OutcomeUnknown` if the bank's server is silent, or if there is no
        new report on a business day."""
        fetched = await self._fetch()
        changed = 0
        for file, content in fetched:
            changed += await self._take(file, content)
        if not fetched and self._calendars.business_day(hkt_date(self._clock.now_ms())):
            raise OutcomeUnknown("there is no new report")
        return f"{len(fetched)} reports, {changed} authorisations changed" if fetched else ""

    async def _fetch(self) -> list[tuple[RemoteFile, bytes]]:
        async with self._connect() as mailbox:
            found = [file for file in await mailbox.files()
                     if await self._db.first(KNOWN, {"name": file.name, "version": file.modified_s}) is None]
            return [(file, await mailbox.read(file, self._limit))
                    for file in sorted(found, key=lambda file: (file.modified_s, file.name))]

    async def _take(self, file: RemoteFile, content: bytes) -> int:
        try:
            if len(content) > self._limit:
                raise MalformedReport(f"larger than {self._limit} bytes")
            report = parse_report(content)
        except MalformedReport as fault:
            await self._keep(file, content, "REFUSED", 0, (str(fault),))
            return 0
        changed = await self._apply(report, file.modified_s * MS_PER_S)
        await self._keep(file, content, "TAKEN", changed, report.refused)
        return changed

    async def _apply(self, report: Report, as_of_ms: int) -> int:
        changed = 0
        for row in report.rows:
            changed += await self._authorisations.bank_says(
                row.mandate_ref, EddaStatus[row.status.value], row.reason, as_of_ms)
        return changed

    async def _keep(self, file: RemoteFile, content: bytes, state: str, changes: int, refused: tuple[str, ...]) -> None:
        """Only after its rows: a crash in between takes the file again, which changes nothing a second time."""
        why = "; ".join(refused)[:REASON_KEPT]
        try:
            await self._db.execute(TAKEN, {
                "name": file.name, "version": file.modified_s, "state": state, "changes": changes,
                "refused": len(refused), "reason": why, "raw": content[: self._limit].decode("utf-8", "replace"),
                "created_at": self._clock.now_ms()})
        except UniqueViolation:
            return  # another worker took it as well
        if refused:
            raise_alert(self._trace, "EDDA-03", file.name, why)
