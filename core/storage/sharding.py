"""Tables in many copies: by the customer's number (00..99), or by bank and month.

The copies are declared once, as one SQLModel class; each copy is an ordinary table of its database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sqlalchemy import CheckConstraint, Index, MetaData, Table, UniqueConstraint

SHARDS: Final[tuple[str, ...]] = tuple(f"{number:02d}" for number in range(100))
"""Suffixes of the tables sharded by customer (DB-SHARD-01, -07)."""

_BANK_MONTH = re.compile(r"[a-z]{2,16}_20\d{2}(0[1-9]|1[0-2])", re.ASCII)


def shard_of(uid: int) -> str:
    """Suffix of a customer's tables: ``uid % 100`` in two digits."""
    return SHARDS[uid % 100]


def bank_month(bank: str, yyyymm: int | str) -> str:
    """Suffix of a bank's statement table: ``("bochk", 202604)`` -> ``"bochk_202604"``."""
    suffix = f"{bank}_{yyyymm}"
    if not is_bank_month(suffix):
        raise ValueError(f"{suffix!r} is not a bank code and a month such as bochk_202604")
    return suffix


def is_bank_month(suffix: str) -> bool:
    """Whether a suffix names a bank and a month."""
    return _BANK_MONTH.fullmatch(suffix) is not None


class ShardedTable:
    """The copies of one table: ``applys["07"]`` is the `Table` ``applys_07``, declared at first use."""

    def __init__(self, shape: Table, metadata: MetaData, accepts: Callable[[str], bool], name: str) -> None:
        """``name`` is the pattern of the copies' names, with ``{}`` where the suffix goes."""
        self.name: Final = name
        self._shape, self._metadata, self._accepts = shape, metadata, accepts
        self._tables: dict[str, Table] = {}

    def __getitem__(self, suffix: str) -> Table:
        table = self._tables.get(suffix)
        if table is None:
            if not self._accepts(suffix):
                raise KeyError(f"there is no table {self.name.format(suffix)}")
            table = self._tables[suffix] = _copy(self._shape, self._metadata, self.name.format(suffix))
        return table

    def __iter__(self) -> Iterator[Table]:
        """The copies declared so far."""
        return iter(self._tables.values())


def by_customer(shape: Table, metadata: MetaData) -> ShardedTable:
    """All hundred copies of a table sharded by ``uid % 100``."""
    return _declared(SHARDS, shape, metadata, f"{shape.name}_{{}}")


def by_bank(banks: Iterable[str], shape: Table, metadata: MetaData) -> ShardedTable:
    """One copy per bank: ``bochk_bank_flow``."""
    return _declared(tuple(banks), shape, metadata, f"{{}}_{shape.name}")


def by_bank_month(shape: Table, metadata: MetaData) -> ShardedTable:
    """A table with one copy per bank and month; the copies come into being as they are named."""
    return ShardedTable(shape, metadata, is_bank_month, f"{shape.name}_{{}}")


def _declared(suffixes: tuple[str, ...], shape: Table, metadata: MetaData, name: str) -> ShardedTable:
    copies = ShardedTable(shape, metadata, frozenset(suffixes).__contains__, name)
    for suffix in suffixes:
        copies[suffix]  # declares the table
    return copies


def _copy(shape: Table, metadata: MetaData, name: str) -> Table:
    """A table of the same columns, constraints and indexes; names follow the copy's own name."""
    columns = [column._copy() for column in shape.columns]
    unique = [UniqueConstraint(*(c.name for c in constraint.columns))
              for constraint in sorted(shape.constraints, key=lambda c: str(c.name))
              if isinstance(constraint, UniqueConstraint) and not constraint._column_flag]
    checks = [CheckConstraint(str(constraint.sqltext), name=str(constraint.name).removeprefix(f"ck_{shape.name}_"))
              for constraint in sorted(shape.constraints, key=lambda c: str(c.name))
              if isinstance(constraint, CheckConstraint)]
    indexes = [Index(None, *(c.name for c in index.columns), unique=index.unique)
               for index in sorted(shape.indexes, key=lambda i: str(i.name)) if not index._column_flag]
    return Table(name, metadata, *columns, *unique, *checks, *indexes, info={"shape": f"copies of {shape.name}"})


def creation(tables: Iterable[Table], texts_of: Callable[[Table], list[str]]) -> Iterator[str]:
    """The texts that create tables; of the copies of one shape only the first is compiled, the others are renamed."""
    compiled: dict[str, tuple[str, list[str]]] = {}
    for table in tables:
        shape = table.info.get("shape", table.name)
        name, texts = compiled.get(shape) or compiled.setdefault(shape, (table.name, texts_of(table)))
        yield from (text.replace(name, table.name) for text in texts)
