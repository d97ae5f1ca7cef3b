"""Money without an owner, and applications without money (gaps.md B-10): what is given to people, and what is closed.

``AbnormalDepositJob`` notes an entry that has been open for too long, or whose remitter is blacklisted, in
``abnormal_deposits`` and alerts (DEP-02). An entry that was a candidate stays one, and is the round's, too, until its
last candidate goes. Time counts from when the entry was known, and only once its matching window has been open: nobody
could match it before.

``ApplyTimeoutReject`` rejects what waited longer than its bank's days, but never an application that an open entry may
belong to and whose card is still bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, select

from core.calendars import Calendars
from core.clock import MS_PER_DAY, Clock
from core.deposits.abnormal_list import BLACKLISTED, LARGE_UNMATCHED, OPENED, UNMATCHED, note_abnormal, was_abnormal
from core.deposits.applications import Applications
from core.deposits.matching.rounds import Rounds
from core.deposits.statements import ABNORMAL, CANDIDATE, Flow, Statements, month_of
from core.domain import ApplyStatus
from core.errors import CallFailed, OutcomeUnknown
from core.money import MINOR_PER_MAJOR
from core.rpc import Rpc
from core.screening import ListName, Lists
from core.settings import Settings
from core.storage import Database, Sharded, Statement, bank_month
from core.storage.primary import abnormal_deposits, statement_flows
from core.trace import Trace

TIMEOUT: Final = "TIMEOUT"
_HOUR_MS: Final = 3_600_000

_A = abnormal_deposits.c
LISTED = Statement(select(_A.id, _A.bank_type, _A.flow_id, _A.reason, _A.status, _A.handler, _A.note, _A.created_at)
                   .where(_A.status == bindparam("status")).order_by(_A.id))
KNOWN_SINCE = Sharded(lambda t: select(t.c.created_at).where(t.c.id == bindparam("b_id")), statement_flows)


class Abnormal(NamedTuple):
    """One row of ``abnormal_deposits``."""

    id: int
    bank_type: str
    flow_id: int
    reason: str
    status: str
    handler: str
    note: str
    created_at: int


class AbnormalDeposits:
    """Both jobs of one core."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, calendars: Calendars, statements: Statements,
        applications: Applications, rounds: Rounds, lists: Lists, rpc: Rpc, settings: Settings,
    ) -> None:
        self._db, self._clock, self._trace, self._calendars = db, clock, trace, calendars
        self._statements, self._applications, self._rounds = statements, applications, rounds
        self._lists, self._rpc = lists, rpc
        self._age_ms: int = settings["deposit.abnormal.age_h"] * _HOUR_MS
        self._large_ms: int = settings["deposit.abnormal.large_business_h"] * _HOUR_MS
        self._large: dict[str, int] = {
            ccy: major * MINOR_PER_MAJOR for ccy, major in settings["deposit.large_threshold"].items()}
        self._days: int = settings["deposit.timeout_days.default"]
        self._days_at: dict[str, int] = settings["deposit.timeout_days.by_bank"]

    @property
    def scheduled(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """Job of the timetable -> what is done for it."""
        return {"AbnormalDepositJob": self.detect, "ApplyTimeoutReject": self.reject_overdue}

    async def listed(self, status: str = OPENED) -> list[Abnormal]:
        """What people have to look at, oldest first."""
        return [Abnormal(*row) for row in await self._db.all(LISTED, {"status": status})]

    # Entries

    async def detect(self) -> int:
        """AbnormalDepositJob: how many entries were given to people."""
        found = 0
        for bank in self._rounds.banks:
            for flow in await self._statements.open(bank):
                reason = await self._reason(flow)
                if reason:
                    found += await self._note(flow, reason)
        return found

    async def _reason(self, flow: Flow) -> str:
        if await self._blacklisted(flow):
            return BLACKLISTED
        row = await self._db.first(KNOWN_SINCE[bank_month(flow.bank_type, month_of(flow.id))], {"b_id": flow.id})
        assert row is not None, flow
        now, since = self._clock.now_ms(), self._matchable_ms(flow.ccy, row[0])
        if flow.amount > self._large[flow.ccy] and self.business_ms(since, now) > self._large_ms:
            return LARGE_UNMATCHED
        return UNMATCHED if now - since > self._age_ms else ""

    async def _blacklisted(self, flow: Flow) -> bool:
        """Silence is no reason here: the entry stays open, and the list is asked again before any credit."""
        try:
            return await self._rpc("screening.deposit_black", self._lists.hit, ListName.DEPOSIT_BLACK,
                                   name=flow.en_name, account=flow.payer_acct) is not None
        except (OutcomeUnknown, CallFailed):
            return False

    def _matchable_ms(self, ccy: str, known_ms: int) -> int:
        """When an entry could first have been matched."""
        gate = self._calendars.matching_gate(ccy, known_ms)
        return known_ms if gate.open else gate.opens_ms

    def business_ms(self, since_ms: int, until_ms: int) -> int:
        """How much of ``[since, until)`` lies in the hours of operations."""
        spent, at = 0, since_ms
        while at < until_ms:
            gate = self._calendars.bank_gate("ops_approval", at)
            begin = at if gate.open else gate.opens_ms
            spent += max(0, min(gate.closes_ms, until_ms) - begin)
            at = gate.closes_ms
        return spent

    async def _note(self, flow: Flow, reason: str) -> bool:
        """Once for each entry; False if people have it already, or it has found its owner meanwhile."""
        async with self._db.transaction() as tx:
            if await was_abnormal(tx, flow):
                return False
            status = CANDIDATE if flow.status == CANDIDATE and reason != BLACKLISTED else ABNORMAL
            changed = await self._statements.change(tx, flow, status=status)
            if changed is None:
                return False
            self._statements.publish(tx, changed, "AbnormalDepositJob")
            await note_abnormal(tx, self._trace, flow, reason, self._clock.now_ms())
        return True

    # Applications

    def deadline_ms(self, bank: str, created_ms: int) -> int:
        """From when an application of this bank is overdue."""
        return created_ms + self._days_at.get(bank, self._days) * MS_PER_DAY

    async def reject_overdue(self) -> int:
        """ApplyTimeoutReject: how many applications were rejected."""
        now = self._clock.now_ms()
        overdue = [apply for apply in await self._rounds.waiting()
                   if now >= self.deadline_ms(apply.bank_type, apply.created_at)]
        wanted = await self._rounds.wanted() if overdue else {}
        rejected = 0
        for apply in overdue:
            if apply.id in wanted and await self._rounds.has_card(apply):  # without it nothing matches (ADR-007)
                continue
            async with self._db.transaction() as tx:
                if await self._applications.change(tx, apply, ApplyStatus.REJECTED, reject_reason=TIMEOUT) is not None:
                    self._applications.tell(tx, apply.uid, "DEPOSIT_REJECT", TIMEOUT)
                    rejected += 1
        return rejected
