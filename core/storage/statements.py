"""Statements: declared with SQLAlchemy, compiled once per dialect, executed on the driver's own connection.

A statement belongs to one database: the `MetaData` of all its tables. Its parameters are ``bindparam("name")``;
constants are written into the text, so that the driver gets one tuple in the order of the text. Runtime-sized ``IN`` is
refused: it would need another text for every length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Column, Dialect, Insert, MetaData, Table, bindparam, insert
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy
from sqlalchemy.dialects.mysql.mysqldb import MySQLCompiler_mysqldb
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter, ClauseElement

from core.storage.errors import StorageError, WrongDatabase
from core.storage.sharding import ShardedTable

Parameters = Mapping[str, Any]
Row = tuple[Any, ...]
Prepared = tuple[str, Callable[[Parameters], Row]]
"""The text for the driver, and how its tuple of arguments is taken from the parameters."""


class _LiteralConstants(SQLCompiler):
    """Writes constants into the text; only what the caller gives stays a parameter."""

    def visit_bindparam(self, bindparam: Any, *args: Any, **kwargs: Any) -> str:
        if bindparam.required and bindparam.expanding:
            raise StorageError(f"IN with the parameter {bindparam.key!r}: its length is not known when the statement "
                               "is compiled; write the values out, or ask once per value")
        if not bindparam.required:
            kwargs["literal_binds"] = True
        text: str = super().visit_bindparam(bindparam, *args, **kwargs)  # type: ignore[no-untyped-call]
        return text


class _SqliteText(_LiteralConstants, SQLiteCompiler):
    """SQLite's text."""


class _MysqlText(_LiteralConstants, MySQLCompiler_mysqldb):
    """MySQL's and MariaDB's text."""


class _SqliteDialect(SQLiteDialect_pysqlite):
    statement_compiler = _SqliteText
    supports_statement_cache = True


class _MysqlDialect(MySQLDialect_asyncmy):
    statement_compiler = _MysqlText
    supports_statement_cache = True


SQLITE: Dialect = _SqliteDialect(paramstyle="qmark")
MYSQL: Dialect = _MysqlDialect(paramstyle="qmark")


class Upsert:
    """Insert a row of all columns, or overwrite ``update`` columns of the row that has the same ``key``."""

    def __init__(self, table: Table, key: tuple[str, ...], update: tuple[str, ...]) -> None:
        self.table, self._key, self._update = table, key, update

    def on(self, dialect: Dialect) -> Insert:
        """The dialect's own form."""
        values: dict[str, Any] = {column.key: bindparam(column.key) for column in self.table.columns}
        if dialect is SQLITE:
            new = sqlite.insert(self.table).values(values)
            return new.on_conflict_do_update(self._key, set_={name: new.excluded[name] for name in self._update})
        put = mysql.insert(self.table).values(values)
        return put.on_duplicate_key_update({name: put.inserted[name] for name in self._update})


def upsert(table: Table, *, key: tuple[str, ...], update: tuple[str, ...]) -> Upsert:
    """For ``Statement(upsert(auto_settings, key=("bank", "ccy"), update=("balance",)))``; executed, it counts as 1."""
    return Upsert(table, key, update)


class Statement:
    """One statement of one database; make it once, at module level.

    ``INSERT = Statement(insert(table))`` takes all columns by their names; a key that the database counts may be left
    out. Raises `WrongDatabase` if it touches two databases. ``tables``: the names of all that it reads or writes.
    """

    __slots__ = ("_source", "metadata", "mysql", "sqlite", "table", "tables")

    def __init__(self, source: ClauseElement | Upsert) -> None:
        tables = list(_tables(source))
        if len({id(table.metadata) for table in tables}) != 1:
            raise WrongDatabase("a statement touches the tables of exactly one database: "
                                f"{', '.join(sorted({table.name for table in tables})) or 'none given'}")
        self._source: ClauseElement | Upsert | _Renamed = source
        self.table = tables[0]
        self.tables: dict[str, None] = dict.fromkeys(table.name for table in tables)
        self.metadata: MetaData = tables[0].metadata
        self.sqlite: Prepared | None = None
        self.mysql: Prepared | None = None

    def for_sqlite(self) -> Prepared:
        """Compile for SQLite, once."""
        source = self._source
        self.sqlite = source.renamed(SQLITE) if isinstance(source, _Renamed) else _prepare(source, SQLITE)
        return self.sqlite

    def for_mysql(self) -> Prepared:
        """Compile for MySQL and MariaDB, once."""
        source = self._source
        self.mysql = source.renamed(MYSQL) if isinstance(source, _Renamed) else _prepare(source, MYSQL)
        return self.mysql

    def on_table(self, table: Table) -> Statement:
        """The same statement on another shard: its text with the other table's name, nothing compiled again."""
        twin = object.__new__(Statement)
        twin._source = _Renamed(self, table)
        twin.table, twin.metadata, twin.sqlite, twin.mysql = table, self.metadata, None, None
        twin.tables = dict.fromkeys(table.name if name == self.table.name else name for name in self.tables)
        return twin

    @property
    def is_upsert(self) -> bool:
        """MySQL counts an upsert that overwrote as two rows."""
        source = self._source.template._source if isinstance(self._source, _Renamed) else self._source
        return isinstance(source, Upsert)

    def __repr__(self) -> str:
        return f"Statement({(self.sqlite or self.for_sqlite())[0]!r})"


class _Renamed(NamedTuple):
    """A statement told by another one of the same shape and its own table."""

    template: Statement
    table: Table

    def renamed(self, dialect: Dialect) -> Prepared:
        """The template's text and arguments with this table's name; shard names occur as whole words only."""
        template = self.template
        if dialect is SQLITE:
            text, arguments = template.sqlite or template.for_sqlite()
        else:
            text, arguments = template.mysql or template.for_mysql()
        return re.sub(rf"\b{template.table.name}\b", self.table.name, text), arguments


class Sharded:
    """One statement for every shard of a table: ``APPLY["07"]``, ``FLOW["bochk_202604"]``.

    Declared and compiled for the first shard asked for; the others take its text (100 shards cost one compilation).
    """

    __slots__ = ("_build", "_made", "_tables", "_template")

    def __init__(self, build: Callable[[Table], ClauseElement | Upsert], tables: ShardedTable) -> None:
        self._build, self._tables = build, tables
        self._made: dict[str, Statement] = {}
        self._template: Statement | None = None

    def __getitem__(self, shard: str) -> Statement:
        made = self._made.get(shard)
        if made is None:
            made = self._made[shard] = self._make(self._tables[shard])
        return made

    def _make(self, table: Table) -> Statement:
        if self._template is not None:
            return self._template.on_table(table)
        self._template = Statement(self._build(table))
        return self._template


def _tables(source: ClauseElement | Upsert) -> Iterator[Table]:
    """The tables of a statement, the one it writes first."""
    if isinstance(source, Upsert):
        yield source.table
        return
    written = getattr(source, "table", None)
    if isinstance(written, Table):
        yield written
    for element in visitors.iterate(source):
        if isinstance(element, Table):
            yield element
        elif isinstance(element, Column) and isinstance(element.table, Table):
            yield element.table


def _prepare(source: ClauseElement | Upsert, dialect: Dialect) -> Prepared:
    element = source.on(dialect) if isinstance(source, Upsert) else source
    optional = _counted_key(source)
    if isinstance(element, Insert) and _takes_all_columns(element):
        element = insert(element.table).values({c.key: bindparam(c.key) for c in element.table.columns})
    compiled = element.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    names = list(compiled.positiontup or ())
    for name in names:
        _refuse_converted(compiled.binds[name], dialect)
    return str(compiled), _arguments(names, optional)


def _takes_all_columns(element: Insert) -> bool:
    return not (element._values or element._multi_values or element._select_names)


def _counted_key(source: ClauseElement | Upsert) -> str:
    """Name of the key that may be left out of an INSERT of all columns; "" if there is none."""
    table = source.table if isinstance(source, Upsert) else getattr(source, "table", None)
    whole = isinstance(source, Upsert) or (isinstance(source, Insert) and _takes_all_columns(source))
    counted = table.autoincrement_column if whole and isinstance(table, Table) else None
    return "" if counted is None else counted.key


def _refuse_converted(parameter: BindParameter[Any], dialect: Dialect) -> None:
    """Values go to the driver as they are: integers and texts."""
    if parameter.type.dialect_impl(dialect).bind_processor(dialect) is not None:
        raise StorageError(f"parameter {parameter.key!r} of type {parameter.type!r} would need conversion; "
                           "columns are integers and texts")


def _arguments(names: list[str], optional: str) -> Callable[[Parameters], Row]:
    """How to take the driver's tuple from a mapping."""
    if not names:
        return _nothing
    if len(names) == 1:
        return _single(names[0])
    take: Callable[[Parameters], Row] = itemgetter(*names)
    return _with_default(take, optional) if optional else take


def _nothing(_parameters: Parameters) -> Row:
    return ()


def _single(name: str) -> Callable[[Parameters], Row]:
    return lambda parameters: (parameters[name],)


def _with_default(take: Callable[[Parameters], Row], optional: str) -> Callable[[Parameters], Row]:
    absent = {optional: None}
    return lambda parameters: take(parameters if optional in parameters else {**absent, **parameters})
