"""The four databases of one core, and what each of them holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

from sqlalchemy import MetaData, Table

from core.storage import account, assets, primary, procedure
from core.storage.errors import SchemaMismatch
from core.storage.life import Database, Life, OnCommit

SCHEMA_VERSION: Final = 5
"""Raised whenever a table changes."""


class Schema(NamedTuple):
    """The tables of one database, and those of them whose rows are never changed."""

    name: str
    metadata: MetaData
    immutable: tuple[str, ...]

    def tables(self) -> list[Table]:
        """The tables that always exist: all but the monthly ones."""
        monthly = set(primary.statement_flows)
        return [table for table in self.metadata.sorted_tables if table not in monthly]


SCHEMAS: Final[tuple[Schema, ...]] = (
    Schema("primary", primary.METADATA, primary.IMMUTABLE),
    Schema("account", account.METADATA, account.IMMUTABLE),
    Schema("procedure", procedure.METADATA, procedure.IMMUTABLE),
    Schema("assets", assets.METADATA, assets.IMMUTABLE),
)


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """Where the databases are.

    * ``memory``: SQLite in memory
    * ``sqlite``: four SQLite files in ``folder``; ``durable``: every commit survives a power failure
    * ``mysql``: four schemas ``{prefix}_primary`` … on a MySQL or MariaDB server, ``connections`` to each
    """

    kind: Literal["memory", "sqlite", "mysql"] = "memory"
    folder: Path | None = None
    durable: bool = True
    host: str = "127.0.0.1"
    port: int = 3306
    user: str = "root"
    password: str = ""
    prefix: str = "nostro"
    connections: int = 16


class Opened(Database, Protocol):
    """A database as its owner sees it."""

    def sever(self) -> None:
        """Roll back what is open; refuse everything from now on."""

    async def close(self) -> None:
        """Close the connections."""

    def copy_to(self, file: Path) -> None:
        """Copy the data into an SQLite file."""


class Databases:
    """The four databases of one core."""

    def __init__(self, opened: Mapping[str, Opened], life: Life, again: Callable[[], Databases]) -> None:
        self.primary: Final[Database] = opened["primary"]
        self.account: Final[Database] = opened["account"]
        self.procedure: Final[Database] = opened["procedure"]
        self.assets: Final[Database] = opened["assets"]
        self._opened: Final = opened
        self._life: Final = life
        self._again: Final = again

    @property
    def commits(self) -> int:
        """Commits of this core over all four databases; a transaction that wrote nothing is none."""
        return self._life.commits

    @property
    def on_commit(self) -> OnCommit | None:
        """Called after each commit with the database's name and the running number over all four.

        It may raise: the data is committed, but the callbacks of `Transaction.after_commit` are not called.
        """
        return self._life.on_commit

    @on_commit.setter
    def on_commit(self, listener: OnCommit | None) -> None:
        self._life.on_commit = listener

    def sever(self) -> None:
        """Kill: what is open is rolled back, every further use raises `Severed`."""
        for database in self._opened.values():
            database.sever()

    def reopen(self) -> Databases:
        """The databases of a new core on the same data; this one's are severed."""
        self.sever()
        return self._again()

    async def close(self) -> None:
        """Close the connections; data in memory is gone."""
        for database in self._opened.values():
            await database.close()

    def copy_to(self, folder: Path) -> None:
        """Copy the data as SQLite files ``primary.sqlite`` … into a folder (from SQLite only)."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, database in self._opened.items():
            database.copy_to(folder / f"{name}.sqlite")


def check_version(name: str, found: int) -> None:
    """Refuse tables of another version, with the remedy."""
    if found > SCHEMA_VERSION:
        raise SchemaMismatch(f"{name}: the tables have version {found}, this program knows version {SCHEMA_VERSION}; "
                             "run the newer program")
    if found < SCHEMA_VERSION:
        raise SchemaMismatch(f"{name}: the tables have version {found}, this program needs version {SCHEMA_VERSION}; "
                             "copy the data into new tables")
