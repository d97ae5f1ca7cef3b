"""A SQLAlchemy async engine that works in line: for operators' pages in virtual time, never on hot paths.

aiosqlite gives each connection a thread, whose answers arrive in real time and break virtual time's order. This
connection is aiosqlite's own in every respect but one: it calls the driver itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

T = TypeVar("T")


class InlineConnection(aiosqlite.Connection):
    """An aiosqlite connection on an open sqlite3 connection, without a thread; closing leaves that one open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(lambda: connection, iter_chunk_size=64)
        self._connection = connection

    async def _execute(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return fn(*args, **kwargs)

    def __await__(self) -> Generator[Any, None, aiosqlite.Connection]:
        return self._connect().__await__()

    async def close(self) -> None:
        self.stop()

    def stop(self) -> asyncio.Future[Any] | None:
        self._running = False
        self._connection = None
        return None


def inline_async_engine(connection: sqlite3.Connection) -> AsyncEngine:
    """An async engine on one open SQLite connection (the one of a `SqliteDatabase`), for reading.

    It uses its own cursors on that connection: a session must not be open while a transaction of the core is.
    """

    async def connected() -> aiosqlite.Connection:
        return await InlineConnection(connection)

    return create_async_engine("sqlite+aiosqlite://", async_creator=connected, poolclass=StaticPool)
