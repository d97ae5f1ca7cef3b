"""Columns in the words of the tables: what a SQLModel field becomes in SQLite and in MySQL.

All integers are BIGINT, codes SMALLINT, texts VARCHAR. A default is the database's own (``DEFAULT`` in the table),
so that every way of writing a row gives the same row.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Integer, MetaData, SmallInteger, String, Text
from sqlalchemy import text as sql_text
from sqlalchemy.orm import registry
from sqlmodel import Field

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}
_KEY = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only in a column declared INTEGER."""


def tables() -> registry:
    """A registry for the tables of one database: its own `MetaData`."""
    return registry(metadata=MetaData(naming_convention=_NAMES))


def key() -> Any:
    """The primary key that the database counts; it may also be given."""
    return Field(default=None, primary_key=True, sa_type=_KEY)


def given_key() -> Any:
    """An integer primary key (or a part of one) that the writer always gives."""
    return Field(primary_key=True, sa_type=_KEY, sa_column_kwargs={"autoincrement": False})


def text_key(length: int) -> Any:
    """A VARCHAR primary key, or a part of one."""
    return Field(primary_key=True, sa_type=String(length))


def number(default: int | None = None, *, unique: bool = False, index: bool = False) -> Any:
    """A count, an id, an amount in minor units."""
    return _field(BigInteger(), default, unique=unique, index=index)


def moment() -> Any:
    """Epoch milliseconds."""
    return _field(BigInteger(), None)


def code(default: int | None = None) -> Any:
    """A small enumerated number or a flag 0/1."""
    return _field(SmallInteger(), default)


def text(length: int, default: str | None = None, *, unique: bool = False, index: bool = False) -> Any:
    """At most ``length`` characters."""
    return _field(String(length), default, unique=unique, index=index)


def document() -> Any:
    """Text without a practical limit, such as JSON. Never indexed, no default."""
    return _field(Text(), None)


def long_document() -> Any:
    """Text of up to 16 million characters, such as a whole file."""
    return _field(Text(1 << 24), None)


def _field(kind: Any, default: int | str | None, *, unique: bool = False, index: bool = False) -> Any:
    more: dict[str, Any] = {} if default is None else {"default": default}
    column: dict[str, Any] = {"default": None}
    if default is not None:
        column["server_default"] = sql_text(str(default)) if isinstance(default, int) else default
    return Field(sa_type=kind, unique=unique, index=index, sa_column_kwargs=column, **more)


def nullable(kind: Any) -> Any:
    """The same column, without a value at first: annotate the field ``… | None``."""
    kind.default = None
    return kind


def one_of(column: str, values: Iterable[Any], *, or_null: bool = False) -> CheckConstraint:
    """CHECK that a column holds one of an enumeration's values.

    A run of integers becomes BETWEEN, all else an OR chain: SQLite builds a table at every statement for a longer IN.
    """
    known = [value.value if isinstance(value, Enum) else value for value in values]
    condition = f"{column} IS NULL OR {_among(column, known)}" if or_null else _among(column, known)
    return CheckConstraint(condition, name=column)


def _among(column: str, known: list[Any]) -> str:
    if all(isinstance(value, int) for value in known) and sorted(known) == list(range(min(known), max(known) + 1)):
        return f"{column} BETWEEN {min(known)} AND {max(known)}"
    return " OR ".join(f"{column} = {value!r}" for value in known)


def flag(column: str) -> CheckConstraint:
    """CHECK that a column is 0 or 1."""
    return one_of(column, (0, 1))
