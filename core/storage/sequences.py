"""Numbers that never repeat: rows of the table ``sequences`` of each database."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from sqlalchemy import Table, bindparam, insert, select, update

from core.storage.errors import UniqueViolation
from core.storage.life import Database, Questions
from core.storage.statements import Statement


class _Statements(NamedTuple):
    raise_by: Statement
    read: Statement
    begin: Statement


@lru_cache(maxsize=8)
def _on(table: Table) -> _Statements:
    """The statements on one database's table."""
    this = table.c.name == bindparam("b_name")
    return _Statements(
        Statement(update(table).where(this).values(value=table.c.value + bindparam("b_by"))),
        Statement(select(table.c.value).where(this)),
        Statement(insert(table)))


class Sequence:
    """A named sequence of one database, from 1; it begins at its first use.

    A number taken in a transaction that is rolled back is given again; a block leaves a gap when the process ends.
    """

    def __init__(self, db: Database, name: str, *, table: Table | None = None) -> None:
        """``table``: another one of the columns ``name`` and ``value``, such as ``asb_sequence``."""
        self._db: Final = db
        self._name: Final = name
        self._sql: Final = _on(db.metadata.tables["sequences"] if table is None else table)

    async def begin(self) -> None:
        """Make its row, if it has none. Once at a core's start: two transactions that both begin a sequence at its
        first use would wait for each other on a server (each holds the gap the other wants to write to)."""
        if await self._db.first(self._sql.read, {"b_name": self._name}) is None:
            try:
                await self._db.execute(self._sql.begin, {"name": self._name, "value": 0})
            except UniqueViolation:
                return  # another process was quicker

    async def next(self, tx: Questions) -> int:
        """The next number, as part of the caller's transaction."""
        return await self._raise(tx, 1)

    def block(self, size: int) -> Block:
        """Numbers taken ``size`` at a time, in a transaction of their own."""
        return Block(self, size)

    async def take(self, count: int) -> int:
        """Take ``count`` numbers in a transaction of their own; returns the last one."""
        for _ in range(2):
            try:
                async with self._db.transaction() as tx:
                    return await self._raise(tx, count)
            except UniqueViolation:
                continue  # another process began the sequence at the same moment
        raise AssertionError("a row that was there is gone")

    async def _raise(self, tx: Questions, count: int) -> int:
        if not await tx.execute(self._sql.raise_by, {"b_name": self._name, "b_by": count}):
            await tx.execute(self._sql.begin, {"name": self._name, "value": count})
            return count
        row = await tx.first(self._sql.read, {"b_name": self._name})
        assert row is not None
        return int(row[0])


class Block:
    """A cached run of numbers; ``await next()`` costs a transaction once in ``size`` calls."""

    __slots__ = ("_last", "_next", "_sequence", "_size")

    def __init__(self, sequence: Sequence, size: int) -> None:
        self._sequence, self._size = sequence, size
        self._next, self._last = 1, 0

    async def next(self) -> int:
        """The next number. Not inside a transaction: taking a block is one."""
        if self._next > self._last:
            last = await self._sequence.take(self._size)
            self._next, self._last = last - self._size + 1, last
        number = self._next
        self._next = number + 1
        return number
