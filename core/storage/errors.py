"""What storage raises. Only `UniqueViolation` and `Contention` are ordinary events; the rest are our own faults."""

from __future__ import annotations

from core.errors import NostroError


class StorageError(NostroError):
    """The database, or the way it is used, is wrong."""


class UniqueViolation(StorageError):
    """A key exists already: ``table`` as far as the database tells, ``detail`` in its own words."""

    def __init__(self, table: str, detail: str) -> None:
        super().__init__(f"{table}: {detail}")
        self.table, self.detail = table, detail


class ConstraintViolation(StorageError):
    """A row breaks a CHECK or NOT NULL constraint, or a trigger refuses the change (Flow, postings)."""


class Contention(StorageError):
    """Another transaction was in the way (deadlock, lock timeout); this one is rolled back and may be done again."""


class WrongDatabase(StorageError):
    """A statement met tables of another database, or of two: data crosses databases by RPC only (DB-01)."""


class TransactionOpen(StorageError):
    """A transaction or statement began while another transaction was open where only one may be."""


class SchemaMismatch(StorageError):
    """The tables found are not those of this program."""


class Severed(BaseException):
    """The core of this connection was killed: nothing may be read or written any more.

    Not an `Exception`: code of a killed core must not catch it and go on.
    """
