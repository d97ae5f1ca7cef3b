"""Risk control's own database: balances, holds, postings and their entries (gaps.md A-17)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Index, MetaData, Table
from sqlmodel import SQLModel

from core.domain import FreezeType
from core.money import Currency
from core.storage.columns import code, given_key, key, moment, nullable, number, one_of, tables, text, text_key

BUCKETS: Final = ("available", "frozen", "in_transit", "external")
CLOSINGS: Final = ("release", "restore", "consume", "settle")


class AssetsTable(SQLModel, registry=tables()):
    """Base of this database's tables."""


class Balance(AssetsTable, table=True):
    """One account in one currency; no bucket is ever negative."""

    __tablename__ = "balance"
    __table_args__ = (
        one_of("ccy", Currency),
        CheckConstraint("available >= 0", name="available"),
        CheckConstraint("frozen >= 0", name="frozen"),
        CheckConstraint("in_transit >= 0", name="in_transit"),
        {"sqlite_with_rowid": False},
    )
    trade_acc_id: int = given_key()
    ccy: str = text_key(3)
    available: int = number(0)
    frozen: int = number(0)
    in_transit: int = number(0)


class Hold(AssetsTable, table=True):
    """Money reserved: stage 1 FROZEN, 2 IN_TRANSIT, 3 CLOSED; ``closed_by`` names the operation that closed it."""

    __tablename__ = "hold"
    __table_args__ = (
        one_of("ccy", Currency),
        one_of("freeze_type", FreezeType),
        one_of("stage", (1, 2, 3)),
        one_of("closed_by", CLOSINGS, or_null=True),
        CheckConstraint("amount > 0", name="amount"),
        Index(None, "trade_acc_id", "ccy"),
        {"sqlite_with_rowid": False},
    )
    hold_id: str = text_key(40)
    trade_acc_id: int = number()
    ccy: str = text(3)
    amount: int = number()
    freeze_type: int = code()
    stage: int = code()
    closed_by: str | None = nullable(text(16))
    opened_at: int = moment()
    closed_at: int | None = nullable(moment())


class Posting(AssetsTable, table=True):
    """One answered operation, accepted or refused, under its idempotency key; never changed."""

    __tablename__ = "posting"
    __table_args__ = (Index(None, "hold_id"),)
    id: int | None = key()
    key: str = text(80, unique=True)
    op: str = text(16)
    trade_acc_id: int = number()
    ccy: str = text(3)
    amount: int = number()
    hold_id: str = text(40, "")
    code: int = code(0)
    created_at: int = moment()


class Entry(AssetsTable, table=True):
    """One side of a posting; the entries of a posting sum to zero. Never changed."""

    __tablename__ = "entry"
    __table_args__ = (one_of("bucket", BUCKETS), Index(None, "posting_id"))
    id: int | None = key()
    posting_id: int = number()
    account: str = text(40)
    bucket: str = text(16)
    ccy: str = text(3)
    delta: int = number()


class Sequences(AssetsTable, table=True):
    """Numbers given out so far."""

    __tablename__ = "sequences"
    __table_args__ = ({"sqlite_with_rowid": False},)
    name: str = text_key(64)
    value: int = number(0)


METADATA: MetaData = AssetsTable.metadata
IMMUTABLE: Final = ("posting", "entry")

balance: Table = METADATA.tables["balance"]
hold: Table = METADATA.tables["hold"]
posting: Table = METADATA.tables["posting"]
entry: Table = METADATA.tables["entry"]
sequences: Table = METADATA.tables["sequences"]
