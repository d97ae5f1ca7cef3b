"""SQLite in line: the driver's calls happen inside the coroutine, which therefore never suspends.

No thread, so virtual time stays in order; one connection per database, so a transaction is alone by construction. All
statements of a connection go through one cursor: whatever a former SELECT left open is closed by the next statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

from sqlalchemy import MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable

from core.hops import under_way
from core.storage.errors import (
    ConstraintViolation,
    Contention,
    SchemaMismatch,
    Severed,
    StorageError,
    UniqueViolation,
    WrongDatabase,
)
from core.storage.life import Life, already_open
from core.storage.statements import SQLITE, Parameters, Row, Statement

CACHED_STATEMENTS: Final = 4096
"""The driver keeps this many compiled statements: hundred shards times the statements on each, with room."""

_PRAGMAS = ("PRAGMA recursive_triggers = ON",)  # so that REPLACE cannot pass by a trigger that refuses DELETE
_FILE_PRAGMAS = ("PRAGMA journal_mode = WAL", "PRAGMA busy_timeout = 5000")
_UNIQUE = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class _Unusable:
    """Stands where a cursor was: after the end of a transaction, or of the core."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        self._error = error

    def execute(self, *_args: object) -> NoReturn:
        raise self._error()


_ENDED: Any = _Unusable(lambda: StorageError("this transaction has ended"))
_SEVERED: Any = _Unusable(lambda: Severed("the core of this connection was killed"))


def connect(path: Path | None, *, durable: bool) -> sqlite3.Connection:
    """A connection to a file, or to a new database in memory. ``durable``: every commit survives a power failure."""
    connection = sqlite3.connect(str(path) if path else ":memory:", isolation_level=None,
                                 cached_statements=CACHED_STATEMENTS, check_same_thread=False)
    synchronous = f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}"
    for pragma in (*_PRAGMAS, *((*_FILE_PRAGMAS, synchronous) if path else ())):
        connection.execute(pragma).fetchall()
    return connection


class SqliteDatabase:
    """One database on one connection; see `core.storage.life.Database`."""

    def __init__(self, name: str, metadata: MetaData, connection: sqlite3.Connection, life: Life) -> None:
        self.name: Final = name
        self.metadata: Final = metadata
        self.commits = 0
        self.life: Final = life
        self.connection: Final = connection
        self.cursor: Any = connection.cursor()
        self._created: set[str] = set()

    def transaction(self) -> SqliteTransaction:
        """BEGIN IMMEDIATE … COMMIT."""
        return SqliteTransaction(self)

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        self._alone(statement)
        count: int = _run(self.cursor, self.metadata, statement, parameters).rowcount
        self._committed()
        return count

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        self._alone(statement)
        key: int = _run(self.cursor, self.metadata, statement, parameters).lastrowid
        self._committed()
        return key

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        self._alone(statement)
        row: Row | None = _run(self.cursor, self.metadata, statement, parameters).fetchone()
        return row

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        self._alone(statement)
        rows: list[Row] = _run(self.cursor, self.metadata, statement, parameters).fetchall()
        return rows

    async def create(self, table: Table) -> None:
        if table.name in self._created:
            return
        if self.life.open is not None:
            raise already_open(self.life.open, self.name, f"creating {table.name}")
        for text in ddl_of(table):
            self.cursor.execute(text)
        self._created.add(table.name)

    async def close(self) -> None:
        """Close the connection; that of a killed core belongs to the next one."""
        if self.cursor is not _SEVERED:
            self.sever()
            self.connection.close()

    def copy_to(self, file: Path) -> None:
        """Copy the data, as of the last commit, into a file."""
        target = sqlite3.connect(str(file))
        try:
            self.connection.backup(target)
        finally:
            target.close()

    def sever(self) -> None:
        """Roll back what is open; refuse everything from now on."""
        if self.cursor is _SEVERED:
            return  # a new core may be at work on this connection
        if self.connection.in_transaction:
            self.connection.rollback()
        self.cursor = _SEVERED
        if self.life.open is not None and self.life.open.database is self:
            self.life.open.cut()
            self.life.open = None

    def _alone(self, statement: Statement) -> None:
        if self.life.open is not None:
            raise already_open(self.life.open, self.name, f"a statement of its own ({statement.table.name})")

    def _committed(self) -> None:
        self.commits += 1
        self.life.committed(self.name)


class SqliteTransaction:
    """See `core.storage.life.Transaction`."""

    __slots__ = ("_callbacks", "_cursor", "_wrote", "database")

    def __init__(self, db: SqliteDatabase) -> None:
        self.database: Final = db
        self._cursor: Any = _ENDED
        self._callbacks: list[Callable[[], object]] | None = None
        self._wrote = False

    @property
    def name(self) -> str:
        """Of the database."""
        return self.database.name

    def cut(self) -> None:
        """The core is killed: nothing more is written."""
        self._cursor = _SEVERED

    async def __aenter__(self) -> SqliteTransaction:
        db = self.database
        if db.life.open is not None:
            raise already_open(db.life.open, db.name, "a transaction")
        try:
            db.cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise _translated(error, "") from error
        self._cursor = db.cursor
        db.life.open = self
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        db, cursor = self.database, self._cursor
        self._cursor = _ENDED
        if kind is not None:
            self._roll_back()
            return
        db.life.open = None
        try:
            cursor.execute("COMMIT")
        except sqlite3.Error as refused:
            self._roll_back()
            raise _translated(refused, "") from refused
        if self._wrote:
            db.commits += 1
            db.life.committed(db.name)
        if self._callbacks is not None:
            for callback in self._callbacks:
                callback()

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        self._wrote = True
        count: int = _run(self._cursor, self.database.metadata, statement, parameters).rowcount
        return count

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        self._wrote = True
        key: int = _run(self._cursor, self.database.metadata, statement, parameters).lastrowid
        return key

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        row: Row | None = _run(self._cursor, self.database.metadata, statement, parameters).fetchone()
        return row

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        rows: list[Row] = _run(self._cursor, self.database.metadata, statement, parameters).fetchall()
        return rows

    def after_commit(self, callback: Callable[[], object]) -> None:
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    def _roll_back(self) -> None:
        db = self.database
        if db.cursor is _SEVERED:
            return  # rolled back already, and the connection may serve a new core
        db.life.open = None
        if db.connection.in_transaction:  # some errors have rolled back by themselves
            db.cursor.execute("ROLLBACK")


def _run(cursor: Any, metadata: MetaData, statement: Statement, parameters: Parameters) -> Any:
    """Execute on the one cursor and hand it back."""
    if statement.metadata is not metadata:
        raise WrongDatabase(f"{statement.table.name} is not a table of this database")
    text, arguments = statement.sqlite or statement.for_sqlite()
    if (hop := under_way()) is not None:
        hop.tables.update(statement.tables)
    try:
        return cursor.execute(text, arguments(parameters))
    except sqlite3.Error as error:
        raise _translated(error, statement.table.name) from error
    except KeyError as missing:
        raise StorageError(f"no parameter {missing} for {text}") from missing


def _translated(error: sqlite3.Error, table: str) -> StorageError:
    """The driver's errors in our words."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _UNIQUE:
        return UniqueViolation(table, str(error))
    if isinstance(error, sqlite3.IntegrityError):
        return ConstraintViolation(f"{table}: {error}")
    if code & 0xFF in _BUSY:
        return Contention(str(error))
    if isinstance(error, sqlite3.OperationalError) and "no such table" in str(error):
        return SchemaMismatch(f"{error}: monthly tables are created before their first use")
    return StorageError(f"{table}: {error}")


def ddl_of(table: Table) -> list[str]:
    """CREATE TABLE and its indexes, each only if absent."""
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    return [str(CreateTable(table, if_not_exists=True).compile(dialect=SQLITE)),
            *(str(CreateIndex(index, if_not_exists=True).compile(dialect=SQLITE)) for index in indexes)]


def immutable(table: str) -> list[str]:
    """Triggers that refuse to change or delete a row of a table (SBA-FLOW-04)."""
    return [f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} rows cannot be changed or deleted'); END"
            for act in ("UPDATE", "DELETE")]
