"""Workers that meet in one database, and act at the points where it hurts: between what another reads and writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from sqlalchemy import MetaData, Table

from core.calendars import Calendars
from core.clock import US_PER_MS
from core.deposits.collection import StatementRoom
from core.deposits.statements import Statements
from core.jobs import Jobs
from core.settings import Settings
from core.storage import Database, Databases, Statement, Transaction
from core.storage.statements import Parameters, Row
from core.trace import Event, Trace
from scenarios.schema import full_moment_ms

Act = Callable[[], Awaitable[Any]]


class Moment:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ms = full_moment_ms("2026-03-12 09:30")

    def now_ms(self) -> int:
        return self.ms

    def now_us(self) -> int:
        return self.ms * US_PER_MS


class CrossedTransaction:
    """Implements `core.storage.Transaction`, as an async context manager."""

    def __init__(self, of: CrossedDatabase) -> None:
        self._of, self._entered = of, of.real.transaction()
        self._tx: Transaction

    async def __aenter__(self) -> CrossedTransaction:
        await self._of.point(None)
        self._tx = await self._entered.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self._entered.__aexit__(kind, error, trace)

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        await self._of.point(statement)
        return await self._tx.execute(statement, parameters)

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        return await self._tx.insert(statement, parameters)

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        return await self._tx.first(statement, parameters)

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        return await self._tx.all(statement, parameters)

    def after_commit(self, callback: Callable[[], object]) -> None:
        self._tx.after_commit(callback)


class CrossedDatabase:
    """Implements `core.storage.Database` by another one; somebody acts once before a write. ``asked``: what was read
    outside transactions."""

    def __init__(self, real: Database) -> None:
        self.real = real
        self.asked: list[Statement] = []
        self._act: Act | None = None
        self._before: Statement | None = None

    def cross(self, act: Act, before: Statement | None = None) -> None:
        """Let ``act`` be done, in a task of its own, before this statement of a transaction; None: before the next
        transaction, or writing statement outside of one."""
        self._act, self._before = act, before

    async def point(self, statement: Statement | None) -> None:
        """A write is about to be made, or a transaction to begin."""
        if self._act is not None and statement is self._before:
            act, self._act = self._act, None
            await asyncio.gather(act())

    @property
    def crossed(self) -> bool:
        """Whether it came to that."""
        return self._act is None

    @property
    def name(self) -> str:
        return self.real.name

    @property
    def metadata(self) -> MetaData:
        return self.real.metadata

    @property
    def commits(self) -> int:
        return self.real.commits

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return CrossedTransaction(self)

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        await self.point(None)
        return await self.real.execute(statement, parameters)

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        await self.point(None)
        return await self.real.insert(statement, parameters)

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        self.asked.append(statement)
        return await self.real.first(statement, parameters)

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        self.asked.append(statement)
        return await self.real.all(statement, parameters)

    async def create(self, table: Table) -> None:
        await self.real.create(table)


class Worker:
    """What one worker collects statements with."""

    def __init__(self, databases: Databases, clock: Moment, events: list[Event]) -> None:
        self.clock, self.events, self.db, settings = clock, events, CrossedDatabase(databases.primary), Settings()
        trace = Trace(clock, events.append)
        self.statements = Statements(self.db, clock, trace, keep_months=2)
        jobs = Jobs(self.db, clock, trace, "w", settings, {}, lambda work: work.close())
        self.room = StatementRoom(self.db, clock, trace, settings, Calendars(settings), jobs, self.statements)

    def told(self, rule: str, phase: str = "raised") -> list[str]:
        """What the alerts of a rule say, of all workers."""
        return [f"{event[4]['key']}: {event[4]['detail']}" for event in self.events
                if event[2] == "alert" and event[3] == rule and event[4]["phase"] == phase]
