"""Opening the databases, and creating what comes into being on demand."""

from __future__ import annotations

from core.storage.databases import Databases, StorageConfig
from core.storage.life import Database
from core.storage.opening_sqlite import open_files, open_memory
from core.storage.primary import statement_flows
from core.storage.sharding import bank_month


async def open_databases(config: StorageConfig) -> Databases:
    """Open, and create the tables when absent. Raises `SchemaMismatch` for tables of another version."""
    if config.kind == "memory":
        return open_memory()
    if config.kind == "sqlite":
        return open_files(config.folder, config)
    from core.storage.opening_mysql import open_mysql  # the driver is needed with a server only

    return await open_mysql(config)


async def ensure_flow_table(db: Database, bank: str, yyyymm: int | str) -> str:
    """Make ``flows_{bank}_{yyyymm}`` exist; returns its suffix, the key for `Sharded` (``"bochk_202604"``)."""
    suffix = bank_month(bank, yyyymm)
    await db.create(statement_flows[suffix])
    return suffix
