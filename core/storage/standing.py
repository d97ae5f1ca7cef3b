"""Alerts that stand, kept in the primary database: they outlive the core that raised them, and belong to all workers.

Whoever watches a condition says how it finds it, as often as it likes: `raised` tells only of an alert that does not
stand, `cleared` only of one that does. A look costs one read by the key; only a change is written. The change is told
just before the commit that keeps it: a core killed between the two leaves it to the next one to tell again. So it is
told twice at worst, and never lost; of two workers that see it at the same moment one tells it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, delete, insert, select

from core.alerts import clear_alert, raise_alert
from core.clock import Clock
from core.storage.errors import UniqueViolation
from core.storage.life import Database
from core.storage.primary import standing_alert
from core.storage.statements import Statement
from core.trace import Trace

_T = standing_alert.c
_THIS: Final = (_T.rule == bindparam("b_rule"), _T.alert_key == bindparam("b_key"))
STANDS = Statement(select(_T.raised_at).where(*_THIS))
KEYS = Statement(select(_T.alert_key).where(_T.rule == bindparam("b_rule")).order_by(_T.alert_key))
RAISE = Statement(insert(standing_alert))
CLEAR = Statement(delete(standing_alert).where(*_THIS))


class StandingAlerts:
    """The alerts of one core that stand until what they tell of is well again. Not inside a transaction."""

    def __init__(self, db: Database, clock: Clock, trace: Trace) -> None:
        """``db``: the primary database."""
        self._db, self._clock, self._trace = db, clock, trace

    async def stands(self, rule: str, key: str) -> bool:
        """Whether it was raised, by whichever core, and not cleared."""
        return await self._db.first(STANDS, {"b_rule": rule, "b_key": key}) is not None

    async def keys(self, rule: str) -> list[str]:
        """The keys under which a rule's alerts stand."""
        return [str(key) for (key,) in await self._db.all(KEYS, {"b_rule": rule})]

    async def hold(self, rule: str, key: str, wrong: bool, detail: str) -> None:
        """Raise it when something has become wrong, clear it when that is well again."""
        await (self.raised if wrong else self.cleared)(rule, key, detail)

    async def raised(self, rule: str, key: str, detail: str) -> None:
        """Raise an alert, unless it stands."""
        if await self.stands(rule, key):
            return
        try:
            async with self._db.transaction() as tx:
                await tx.execute(RAISE, {"rule": rule, "alert_key": key, "raised_at": self._clock.now_ms()})
                raise_alert(self._trace, rule, key, detail)
        except UniqueViolation:
            return  # another worker was quicker

    async def cleared(self, rule: str, key: str, detail: str) -> None:
        """Clear an alert, if it stands."""
        if not await self.stands(rule, key):
            return
        async with self._db.transaction() as tx:
            if await tx.execute(CLEAR, {"b_rule": rule, "b_key": key}):
                clear_alert(self._trace, rule, key, detail)
