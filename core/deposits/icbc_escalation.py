"""ICBC's alerts as incidents that are remembered, and their escalation (gaps.md A-46; tasks-and-monitoring.md §4.4).

    raised -> row open, job due in `icbc.escalate_after_s` -> open still -> the on-duty technical Operations, once
                                                           -> cleared in time: nobody

The row, not the memory of a core, says since when an alert stands: one that is told again after a restart is the same
incident, with the same ten minutes. What a break is about is the row that broke: another one is another incident.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.alerts import RULES, clear_alert, escalate_alert, raise_alert
from core.clock import MS_PER_S
from core.deposits.collection import StatementRoom
from core.jobs import Done, Job, Verdict
from core.storage import Statement, Transaction, UniqueViolation
from core.storage.primary import icbc_alert

JOB: Final = "IcbcEscalate"
_T = icbc_alert.c
NEW = Statement(insert(icbc_alert))
_CLOSED: Final[dict[str, Any]] = {"open_key": None, "cleared_at": bindparam("cleared_at")}
IS_OPEN = Statement(select(_T.id).where(_T.open_key == bindparam("b_key")))
CLOSE = Statement(update(icbc_alert).where(_T.open_key == bindparam("b_key")).values(_CLOSED))
CLOSE_OTHER = Statement(update(icbc_alert).where(
    _T.open_key == bindparam("b_key"), _T.about != bindparam("b_about")).values(_CLOSED))
ESCALATED = Statement(update(icbc_alert).where(
    _T.id == bindparam("b_id"), _T.open_key.is_not(None), _T.escalated_at.is_(None)).values(
    escalated_at=bindparam("escalated_at")))


class Incident(NamedTuple):
    """One row of ``icbc_alert``; ``about``: the row that broke, or ""; moments in epoch milliseconds."""

    id: int
    rule: str
    alert_key: str
    about: str
    detail: str
    opened_at: int
    cleared_at: int | None
    escalated_at: int | None


BY_ID = Statement(select(*(_T[name] for name in Incident._fields)).where(_T.id == bindparam("b_id")))
OPEN_OF = Statement(select(*(_T[name] for name in Incident._fields)).where(
    _T.rule == bindparam("b_rule"), _T.open_key.is_not(None)).order_by(_T.id))
Stands = Callable[[Incident], Awaitable[bool]]
"""Whether what an alert was about is still so, looked at now."""


class IcbcAlerts:
    """The alerts of one core that escalate by a time of their own."""

    def __init__(self, room: StatementRoom, stands: Stands) -> None:
        self._room, self._stands = room, stands

    async def is_open(self, rule: str, key: str) -> bool:
        """Whether it was raised, by whichever core, and not cleared."""
        return await self._room.db.first(IS_OPEN, {"b_key": f"{rule} {key}"}) is not None

    async def open_of(self, rule: str) -> list[Incident]:
        """The open incidents of a rule, oldest first."""
        return [Incident(*row) for row in await self._room.db.all(OPEN_OF, {"b_rule": rule})]

    async def raised(self, rule: str, key: str, detail: str, about: str = "") -> None:
        """Raise an alert; it is a new incident unless this very one is open."""
        raise_alert(self._room.trace, rule, key, detail)
        try:
            async with self._room.db.transaction() as tx:
                await self._open(tx, rule, key, detail, about)
        except UniqueViolation:
            return  # it is open

    async def _open(self, tx: Transaction, rule: str, key: str, detail: str, about: str) -> None:
        now, open_key = self._room.clock.now_ms(), f"{rule} {key}"
        await tx.execute(CLOSE_OTHER, {"b_key": open_key, "b_about": about, "cleared_at": now})
        number = await tx.insert(NEW, {
            "rule": rule, "alert_key": key, "about": about, "detail": detail[:500], "open_key": open_key,
            "opened_at": now, "cleared_at": None, "escalated_at": None})
        wait_s: float = self._room.settings[RULES[rule].escalate_after]
        await self._room.jobs.enqueue(tx, JOB, f"{number}", {"incident": number}, now + round(wait_s * MS_PER_S), 0)

    async def cleared(self, rule: str, key: str, detail: str) -> None:
        """What was raised is over; nothing happens if it was not open."""
        if await self.is_open(rule, key) and await self._room.db.execute(
                CLOSE, {"b_key": f"{rule} {key}", "cleared_at": self._room.clock.now_ms()}):
            clear_alert(self._room.trace, rule, key, detail)

    async def escalate(self, job: Job) -> Verdict:
        """IcbcEscalate: its time is over. Nobody is called for what is well again by now, whoever has seen to it."""
        incident = await self._find(job.payload["incident"])
        if incident.cleared_at is None and not await self._stands(incident):
            await self.cleared(incident.rule, incident.alert_key, "it is well again")
        async with self._room.db.transaction() as tx:
            if await tx.execute(ESCALATED, {"b_id": incident.id, "escalated_at": self._room.clock.now_ms()}):
                tx.after_commit(lambda: escalate_alert(
                    self._room.trace, incident.rule, incident.alert_key, incident.detail))
            return await job.settle(tx, Done())

    async def _find(self, number: int) -> Incident:
        row = await self._room.db.first(BY_ID, {"b_id": number})
        assert row is not None, number
        return Incident(*row)
