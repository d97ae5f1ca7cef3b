"""Storage: four isolated databases, tables declared with SQLModel, statements compiled once and run on the driver."""

from core.storage.databases import Databases, StorageConfig
from core.storage.errors import (
    ConstraintViolation,
    Contention,
    SchemaMismatch,
    Severed,
    StorageError,
    TransactionOpen,
    UniqueViolation,
    WrongDatabase,
)
from core.storage.life import Database, Questions, Transaction
from core.storage.opening import ensure_flow_table, open_databases
from core.storage.sequences import Block, Sequence
from core.storage.sharding import SHARDS, ShardedTable, bank_month, shard_of
from core.storage.statements import Parameters, Row, Sharded, Statement, upsert

__all__ = [
    "SHARDS",
    "Block",
    "ConstraintViolation",
    "Contention",
    "Database",
    "Databases",
    "Parameters",
    "Questions",
    "Row",
    "SchemaMismatch",
    "Sequence",
    "Severed",
    "Sharded",
    "ShardedTable",
    "Statement",
    "StorageConfig",
    "StorageError",
    "Transaction",
    "TransactionOpen",
    "UniqueViolation",
    "WrongDatabase",
    "bank_month",
    "ensure_flow_table",
    "open_databases",
    "shard_of",
    "upsert",
]
