"""Calendar decisions of the day (typhoon, black rainstorm), stored and audited (CAL-010, CAL-012; gaps.md B-16).

A decision is known from a moment on: what was decided before it stays as it was. Each row is its own audit record:
who, when, which version; rows are only ever added.
"""

from __future__ import annotations

from datetime import date

from sqlalchemy import bindparam, insert, select

from core.calendars import Calendars, Override
from core.clock import Clock, from_yyyymmdd, yyyymmdd
from core.domain import Market, Role
from core.errors import InvariantBroken, Refusal
from core.storage import Database, Statement
from core.storage.primary import calendar_override
from core.trace import Trace

_C = calendar_override.c
_COLUMNS = ("market", "day", "is_open", "known_from", "operator", "version")
STORED = Statement(select(*(_C[name] for name in _COLUMNS)).order_by(_C.version))
STORE = Statement(insert(calendar_override).values({name: bindparam(name) for name in (
    *_COLUMNS, "created_at", "updated_at")}))


class CalendarBook:
    """The stored half of `core.calendars.Calendars`."""

    def __init__(self, db: Database, calendars: Calendars, clock: Clock, trace: Trace) -> None:
        self._db, self._calendars, self._clock, self._trace = db, calendars, clock, trace

    async def load(self) -> None:
        """Take up the decisions stored by an earlier core, in the order of their versions."""
        for market, day, is_open, known_from, operator, version in await self._db.all(STORED, {}):
            if version <= self._calendars.version:
                continue  # this process knows it already
            made = self._calendars.add_override(
                Market(market), from_yyyymmdd(day), bool(is_open), known_from_ms=known_from, operator=operator,
                role=Role.SETTLEMENT)
            if isinstance(made, Refusal) or made.version != version:
                raise InvariantBroken(f"stored calendar decision {version} cannot be taken up: {made}")

    async def decide(
        self, market: Market, day: date, *, is_open: bool, operator: str, role: Role, known_from_ms: int | None = None
    ) -> Override | Refusal:
        """Close (or open) a day of a market from ``known_from_ms`` (now, if not given) on. Role settlement only."""
        now = self._clock.now_ms()
        made = self._calendars.add_override(market, day, is_open, operator=operator, role=role,
                                            known_from_ms=now if known_from_ms is None else known_from_ms)
        if isinstance(made, Refusal):
            return made
        async with self._db.transaction() as tx:
            await tx.execute(STORE, {
                "market": int(market), "day": yyyymmdd(day), "is_open": int(is_open),
                "known_from": made.known_from_ms, "operator": operator, "version": made.version, "created_at": now,
                "updated_at": now})
            self._trace.publish(tx, "calendar", "calendar", made.event())
        return made
