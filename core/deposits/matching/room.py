"""Everything of standard deposits in one core, wired: App, round, people, credit, abnormal deposits, reversals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from core.accounts import Accounts
from core.calendars import Calendars
from core.clock import Clock
from core.deposits.abnormal import AbnormalDeposits
from core.deposits.applications import Applications
from core.deposits.credit_statement import StatementCrediting
from core.deposits.crediting import Crediting
from core.deposits.matching.links import Links
from core.deposits.matching.manual import ManualMatching
from core.deposits.matching.rounds import Rounds
from core.deposits.matching.rules import BankRules, check_registration, read_rules
from core.deposits.reversals import Unbinding
from core.deposits.standard import StandardDeposits
from core.deposits.statements import Statements
from core.jobs import Jobs
from core.orchestration.service import Sba
from core.rpc import Rpc
from core.screening import Lists
from core.settings import Settings
from core.storage import Database
from core.trace import Trace


class MatchingRooms:
    """The rooms of one core. ``banks``: those whose statements are collected here; one that is not registered with all
    it needs is `Misconfigured`, unless ``rules`` are given."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, calendars: Calendars, jobs: Jobs, statements: Statements,
        applications: Applications, accounts: Accounts, sba: Sba, crediting: Crediting, lists: Lists, rpc: Rpc,
        settings: Settings, banks: Sequence[str], rules: Mapping[str, BankRules] | None = None,
    ) -> None:
        known = dict(read_rules(settings) if rules is None else rules)
        if rules is None:
            check_registration(banks, known, settings)
        self._sba = sba
        self.standard = StandardDeposits(db, clock, trace, applications, accounts, settings, tuple(banks))
        self.links = Links(db, clock, trace, jobs, statements, applications, tries=crediting.tries)
        self.rounds = Rounds(db, clock, trace, calendars, statements, applications, accounts, self.links, settings,
                             banks, known)
        self.manual = ManualMatching(db, clock, trace, statements, applications, self.links, self.rounds, settings)
        self.crediting = StatementCrediting(db, clock, trace, statements, applications, self.links, crediting,
                                            accounts, settings, known)
        self.abnormal = AbnormalDeposits(db, clock, trace, calendars, statements, applications, self.rounds, lists,
                                         rpc, settings)
        self.unbinding = Unbinding(applications, accounts, self._reversal_remark, settings)

    @property
    def handlers(self) -> dict[str, Any]:
        """Job of the queue -> handler."""
        return self.crediting.handlers

    @property
    def scheduled(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """Job of the timetable -> what is done for it."""
        return {**self.rounds.scheduled, **self.abnormal.scheduled}

    async def begin(self) -> None:
        """Once at a core's start, before its jobs."""
        await self.links.begin()

    async def _reversal_remark(self, procedure_id: int) -> str:
        """What the person wrote who asked for the reversal: in the newest record of the audit trail."""
        history = await self._sba.history(procedure_id)
        return history[0].remark if history else ""
