"""MySQL and MariaDB over asyncmy: the same statements, prepared on the server, on a bounded set of connections.

Isolation is REPEATABLE READ: what a transaction reads stands still; ``WHERE version = ?`` and ``FOR UPDATE`` see the
latest. Where the connection is lost before COMMIT nothing has happened (`Contention`); where it is lost during COMMIT,
or during a single writing statement, nobody here can know (`OutcomeUnknown`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import asyncmy
from asyncmy import errors
from asyncmy.constants import CLIENT, FIELD_TYPE
from asyncmy.converters import conversions
from sqlalchemy import MetaData, Table
from sqlalchemy.schema import CreateTable

from core.errors import Misconfigured, OutcomeUnknown
from core.hops import under_way
from core.storage.databases import StorageConfig
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
from core.storage.statements import MYSQL, Parameters, Row, Statement

PREPARED_MAX: Final = 512
"""Prepared statements kept per connection; the server's own limit is 16,382 over all."""

IDLE_PROBE_S: Final = 60.0
"""A connection that rested longer is probed before use."""

TABLE_OPTIONS: Final = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
_SESSION = ("SET SESSION innodb_lock_wait_timeout = 10, "
            "sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION'")
"""A key that is given is kept, be it 0: the server would count one of its own."""

_CONVERSIONS = {**conversions, FIELD_TYPE.NEWDECIMAL: int}
"""SUM of integers is a DECIMAL here and an integer in SQLite; nothing else of ours is one."""

_DUPLICATE = {1062, 1586}
_REFUSED = {1048, 1264, 1364, 1406, 1644, 3819, 4025}  # NULL, range, no default, too long, trigger's SIGNAL, CHECK
_IN_THE_WAY = {1020, 1205, 1213}  # changed since the snapshot (from 11.6 on), waited too long, deadlock
_LOST = {2003, 2006, 2013, 2014, 2055, 1927}
_NO_TABLE = 1146
_BROKEN = (OSError, EOFError, errors.MySQLError)


class Lost(Exception):
    """The connection is gone; its user says what that means."""


class Connection:
    """One connection of the driver with its prepared statements."""

    __slots__ = ("_prepared", "driver", "rested_at")

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.rested_at = 0.0
        self._prepared: OrderedDict[str, Any] = OrderedDict()

    async def run(self, text: str, arguments: Row = ()) -> Any:
        """Execute a prepared statement; the driver's result."""
        try:
            prepared = self._prepared.get(text)
            if prepared is None:
                prepared = await self._prepare(text)
            return await prepared.execute(arguments)
        except _BROKEN as error:
            if _is_lost(error):
                raise Lost(str(error)) from error
            raise

    async def command(self, text: str) -> None:
        """Execute text that is not worth preparing: BEGIN, COMMIT, DDL."""
        try:
            await self.driver.query(text)
        except _BROKEN as error:
            if _is_lost(error):
                raise Lost(str(error)) from error
            raise

    async def _prepare(self, text: str) -> Any:
        if len(self._prepared) >= PREPARED_MAX:
            _, oldest = self._prepared.popitem(last=False)
            await oldest.close()
        prepared = self._prepared[text] = await self.driver.prepare(text)
        return prepared


class Connections:
    """At most ``config.connections`` connections to one schema; a user waits until one is free."""

    def __init__(self, config: StorageConfig, schema: str) -> None:
        self.config: Final = config
        self.schema: Final = schema
        self.severed = False
        self._free: list[Connection] = []
        self._busy: dict[int, Connection] = {}
        self._places = asyncio.Semaphore(config.connections)

    async def take(self) -> Connection:
        """A connection that worked a moment ago."""
        await self._places.acquire()
        try:
            connection = await self._rested() or await self._new()
        except BaseException:
            self._places.release()
            raise
        self._busy[id(connection)] = connection
        return connection

    def give(self, connection: Connection, *, usable: bool = True) -> None:
        """Hand back; one that is not usable is closed."""
        del self._busy[id(connection)]
        if usable and not self.severed:
            connection.rested_at = asyncio.get_running_loop().time()
            self._free.append(connection)
        else:
            connection.driver.close()
        self._places.release()

    def sever(self) -> None:
        """Cut all connections: the server rolls back what they had open."""
        self.severed = True
        for connection in (*self._free, *self._busy.values()):
            connection.driver.close()
        self._free.clear()

    async def close(self) -> None:
        """Say goodbye to the server on all resting connections."""
        self.severed = True
        while self._free:
            await self._free.pop().driver.ensure_closed()

    async def _rested(self) -> Connection | None:
        now = asyncio.get_running_loop().time()
        while self._free:
            connection = self._free.pop()
            if now - connection.rested_at < IDLE_PROBE_S or await _answers(connection):
                return connection
            connection.driver.close()
        return None

    async def _new(self) -> Connection:
        if self.severed:
            raise Severed("the core of this connection was killed")
        return await connect(self.config, self.schema)


async def connect(config: StorageConfig, schema: str | None) -> Connection:
    """A new connection; rows found are counted, not rows changed, as SQLite does."""
    try:
        driver: Any = await asyncmy.connect(
            host=config.host, port=config.port, user=config.user, password=config.password, database=schema,
            charset="utf8mb4", autocommit=True, client_flag=CLIENT.FOUND_ROWS, conv=_CONVERSIONS,
            init_command=_ISOLATION)
        await driver.query(_SESSION)
    except _BROKEN as error:
        raise StorageError(f"no connection to {config.user}@{config.host}:{config.port}/{schema or ''}: {error}"
                           ) from error
    return Connection(driver)


async def _answers(connection: Connection) -> bool:
    try:
        await connection.driver.ping(reconnect=False)
    except _BROKEN:
        return False
    return True


class MysqlDatabase:
    """One schema on a server; see `core.storage.life.Database`."""

    def __init__(self, name: str, metadata: MetaData, connections: Connections, life: Life) -> None:
        self.name: Final = name
        self.metadata: Final = metadata
        self.commits = 0
        self.life: Final = life
        self.connections: Final = connections
        self._created: set[str] = set()

    def transaction(self) -> MysqlTransaction:
        """START TRANSACTION … COMMIT."""
        return MysqlTransaction(self)

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        count = _count(statement, await self._single(statement, parameters))
        self._committed()
        return count

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        key = int((await self._single(statement, parameters)).insert_id)
        self._committed()
        return key

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        rows = (await self._single(statement, parameters)).rows
        return rows[0] if rows else None

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        return list((await self._single(statement, parameters)).rows)

    async def create(self, table: Table) -> None:
        if table.name in self._created:
            return
        for text in ddl_of(table):
            await self.command(text, f"creating {table.name}")
        self._created.add(table.name)

    async def command(self, text: str, what: str) -> None:
        """Carry out DDL, which commits by itself on this server: outside transactions only."""
        self._alone(what)
        connection = await self.connections.take()
        usable = False
        try:
            await connection.command(text)
            usable = True
        except Lost as lost:
            raise self.unknown(lost, what) from lost
        finally:
            self.connections.give(connection, usable=usable)

    def sever(self) -> None:
        self.connections.sever()

    async def close(self) -> None:
        await self.connections.close()

    def copy_to(self, file: Path) -> None:
        """Refused: a server's data is copied with the server's own tools."""
        raise Misconfigured(f"{self.name} is on a server and cannot be copied to {file.name}", where="storage",
                            remedy="use mariadb-dump")

    def unknown(self, lost: Lost, what: str) -> BaseException:
        """What a lost connection means when something may have been committed."""
        if self.connections.severed:
            return Severed("the core of this connection was killed")
        return OutcomeUnknown(f"{self.name}: {what}: connection lost ({lost})")

    async def _single(self, statement: Statement, parameters: Parameters) -> Any:
        self._alone(f"a statement of its own ({statement.table.name})")
        connection = await self.connections.take()
        usable = False
        try:
            result = await _run(connection, self.metadata, statement, parameters)
            usable = True
        except Lost as lost:
            raise self.unknown(lost, statement.table.name) from lost
        except StorageError:
            usable = True
            raise
        finally:
            self.connections.give(connection, usable=usable)
        return result

    def _alone(self, what: str) -> None:
        holder = self.life.by_task.get(asyncio.current_task())
        if holder is not None:
            raise already_open(holder, self.name, what)

    def _committed(self) -> None:
        self.commits += 1
        self.life.committed(self.name)


class MysqlTransaction:
    """See `core.storage.life.Transaction`."""

    __slots__ = ("_callbacks", "_connection", "_db", "_task", "_wrote")

    def __init__(self, db: MysqlDatabase) -> None:
        self._db = db
        self._connection: Connection | None = None
        self._task: asyncio.Task[Any] | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._wrote = False

    @property
    def name(self) -> str:
        """Of the database."""
        return self._db.name

    async def __aenter__(self) -> MysqlTransaction:
        db = self._db
        self._task = asyncio.current_task()
        holder = db.life.by_task.get(self._task)
        if holder is not None:
            raise already_open(holder, db.name, "a transaction")
        connection = await db.connections.take()
        try:
            await connection.command("START TRANSACTION")
        except BaseException as error:
            db.connections.give(connection, usable=False)
            raise self._before_commit(error) from error
        self._connection = connection
        db.life.by_task[self._task] = self
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        db, connection = self._db, self._connection
        assert connection is not None
        self._connection = None
        del db.life.by_task[self._task]
        if kind is not None:
            await self._roll_back(connection, kind)
            return
        await self._commit(connection)
        if self._wrote:
            db.commits += 1
            db.life.committed(db.name)
        for callback in self._callbacks:
            callback()

    async def execute(self, statement: Statement, parameters: Parameters) -> int:
        self._wrote = True
        return _count(statement, await self._do(statement, parameters))

    async def insert(self, statement: Statement, parameters: Parameters) -> int:
        self._wrote = True
        return int((await self._do(statement, parameters)).insert_id)

    async def first(self, statement: Statement, parameters: Parameters) -> Row | None:
        rows = (await self._do(statement, parameters)).rows
        return rows[0] if rows else None

    async def all(self, statement: Statement, parameters: Parameters) -> list[Row]:
        return list((await self._do(statement, parameters)).rows)

    def after_commit(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    async def _do(self, statement: Statement, parameters: Parameters) -> Any:
        if self._connection is None:
            raise StorageError("this transaction has ended")
        try:
            return await _run(self._connection, self._db.metadata, statement, parameters)
        except Lost as lost:
            raise self._before_commit(lost) from lost

    def _before_commit(self, error: BaseException) -> BaseException:
        """A connection lost before COMMIT: the server rolls back, so it may be done again."""
        if not isinstance(error, Lost):
            return error
        if self._db.connections.severed:
            return Severed("the core of this connection was killed")
        return Contention(f"{self._db.name}: connection lost before the commit ({error})")

    async def _commit(self, connection: Connection) -> None:
        usable = False
        try:
            await connection.command("COMMIT")
            usable = True
        except Lost as lost:
            raise self._db.unknown(lost, "commit") from lost
        finally:
            self._db.connections.give(connection, usable=usable)

    async def _roll_back(self, connection: Connection, kind: type[BaseException]) -> None:
        """Roll back, or cut the connection, which makes the server roll back."""
        usable = False
        try:
            if kind is not GeneratorExit:  # a coroutine being closed cannot await
                await connection.command("ROLLBACK")
                usable = True
        except (Lost, errors.MySQLError):
            usable = False
        finally:
            self._db.connections.give(connection, usable=usable)


async def _run(connection: Connection, metadata: MetaData, statement: Statement, parameters: Parameters) -> Any:
    if statement.metadata is not metadata:
        raise WrongDatabase(f"{statement.table.name} is not a table of this database")
    text, arguments = statement.mysql or statement.for_mysql()
    if (hop := under_way()) is not None:
        hop.tables.update(statement.tables)
    try:
        return await connection.run(text, arguments(parameters))
    except errors.MySQLError as error:
        raise _translated(error, statement.table.name) from error
    except KeyError as missing:
        raise StorageError(f"no parameter {missing} for {text}") from missing


def _count(statement: Statement, result: Any) -> int:
    """Rows found; the server counts an upsert that overwrote as two."""
    return 1 if statement.is_upsert else int(result.affected_rows)


def _number(error: BaseException) -> int:
    """The server's or the driver's number of an error; 0 if it has none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, as opposed to a statement refused."""
    refused = isinstance(error, errors.MySQLError) and not isinstance(error, errors.InterfaceError)
    return not refused or _number(error) in _LOST


def _translated(error: errors.MySQLError, table: str) -> StorageError:
    """The driver's errors in our words."""
    number = _number(error)
    if number in _DUPLICATE:
        return UniqueViolation(table, str(error))
    if number in _REFUSED:
        return ConstraintViolation(f"{table}: {error}")
    if number in _IN_THE_WAY:
        return Contention(f"{table}: {error}")
    if number == _NO_TABLE:
        return SchemaMismatch(f"{error}: monthly tables are created before their first use")
    return StorageError(f"{table}: {error}")


def ddl_of(table: Table) -> list[str]:
    """CREATE TABLE with its indexes inside, only if absent."""
    text = str(CreateTable(table, if_not_exists=True).compile(dialect=MYSQL)).rstrip()
    keys = "".join(f", \n\t{_key(index)}" for index in sorted(table.indexes, key=lambda index: str(index.name)))
    return [text.removesuffix(")").rstrip() + keys + "\n)" + TABLE_OPTIONS]


def _key(index: Any) -> str:
    quote = MYSQL.identifier_preparer.quote
    columns = ", ".join(quote(column.name) for column in index.columns)
    return f"{'UNIQUE ' if index.unique else ''}INDEX {quote(str(index.name))} ({columns})"


def immutable(table: str) -> list[str]:
    """Triggers that refuse to change or delete a row of a table (SBA-FLOW-04)."""
    return [f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} FOR EACH ROW "
            f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{table} rows cannot be changed or deleted'"
            for act in ("UPDATE", "DELETE")]
