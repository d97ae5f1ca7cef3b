"""The ports of storage, and the life of one core on its four databases."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sqlalchemy import MetaData, Table

from core.storage.errors import TransactionOpen
from core.storage.statements import Parameters, Row, Statement

OnCommit = Callable[[str, int], None]


class Questions(Protocol):
    """What may be asked and ordered, in a transaction or as a statement of its own."""

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        """Carry out a writing statement; how many rows it found (matched, also if nothing changed in them)."""

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        """Carry out an INSERT; the key that the database counted, or the one given."""

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        """The first row in the order of the select, or None."""

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        """All rows."""


class Transaction(Questions, Protocol):
    """An open transaction on one database."""

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call this right after a successful commit, in the order of the calls; not at all if there is none."""


class Database(Questions, Protocol):
    """One of the four databases."""

    @property
    def name(self) -> str:
        """``primary``, ``account``, ``procedure`` or ``assets``."""

    @property
    def metadata(self) -> MetaData:
        """The tables that live here."""

    @property
    def commits(self) -> int:
        """How many writing transactions and statements were committed."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Commits at the end of the block, rolls back at any exception. One at a time per task (per core on SQLite)."""

    async def create(self, table: Table) -> None:
        """Create a table that is declared but may not exist yet. Outside transactions only."""


class Life:
    """One core's life on its databases: the open transaction, the commits, who is told of them.

    On SQLite nothing suspends inside a transaction, so one place for the open one suffices; on a server each task may
    have its own.
    """

    __slots__ = ("by_task", "commits", "on_commit", "open")

    def __init__(self) -> None:
        self.commits = 0
        self.on_commit: OnCommit | None = None
        self.open: Any = None
        self.by_task: dict[asyncio.Task[Any] | None, Any] = {}

    def committed(self, name: str) -> None:
        """Count a commit and tell; may raise what the one told raises (a simulated crash)."""
        self.commits += 1
        if self.on_commit is not None:
            self.on_commit(name, self.commits)


def already_open(holder: Any, name: str, what: str) -> TransactionOpen:
    """The error for somebody who begins while ``holder``, a transaction, is open; names both."""
    newcomer = _current_task()
    if _holds(_running_frames(), holder):
        return TransactionOpen(f"{what} on {name} inside a transaction on {holder.name} of the same "
                               f"{_called(newcomer)}: use the transaction, or end it first")
    return TransactionOpen(
        f"{what} on {name} by {_called(newcomer)} while a transaction on {holder.name} by "
        f"{_called(_task_holding(holder))} is open: that one awaits something other than its statements inside it")


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _called(task: asyncio.Task[Any] | None) -> str:
    return "task (unknown)" if task is None else f"task {task.get_name()}"


def _task_holding(transaction: Any) -> asyncio.Task[Any] | None:
    """The waiting task in whose variables a transaction is. Searched for the text of an error: noting it would cost."""
    if _current_task() is None:
        return None
    return next((task for task in asyncio.all_tasks() if _holds(_awaited_frames(task), transaction)), None)


def _holds(frames: Iterator[Any], transaction: Any) -> bool:
    return any(value is transaction for frame in frames for value in frame.f_locals.values()
               if frame.f_globals is not globals())


def _running_frames() -> Iterator[Any]:
    frame = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]


def _awaited_frames(task: asyncio.Task[Any]) -> Iterator[Any]:
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        if frame is not None:
            yield frame
        awaited = getattr(awaited, "cr_await", None)
