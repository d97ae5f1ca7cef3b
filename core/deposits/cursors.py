"""How far a collector has come: named texts in the database, written with what it brought."""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, select

from core.clock import Clock
from core.storage import Database, Questions, Statement, upsert
from core.storage.primary import collect_cursor as _T

READ: Final = Statement(select(_T.c.value).where(_T.c.bank == bindparam("bank"), _T.c.name == bindparam("name")))
READ_ALL: Final = Statement(select(_T.c.name, _T.c.value).where(_T.c.bank == bindparam("bank")))
WRITE: Final = Statement(upsert(_T, key=("bank", "name"), update=("value", "updated_at")))


class Cursors:
    """The cursors of one bank's collector."""

    def __init__(self, db: Database, clock: Clock, bank: str) -> None:
        self._db, self._clock, self._bank = db, clock, bank

    async def read(self, name: str) -> str | None:
        """The cursor, or None before it was first written."""
        row = await self._db.first(READ, {"bank": self._bank, "name": name})
        return None if row is None else str(row[0])

    async def beginning(self, prefix: str) -> dict[str, str]:
        """All cursors whose name begins so: the rest of the name -> the cursor."""
        rows = await self._db.all(READ_ALL, {"bank": self._bank})
        return {str(name)[len(prefix):]: str(value) for name, value in rows if str(name).startswith(prefix)}

    async def write(self, tx: Questions, name: str, value: str) -> None:
        """Set it, as part of the caller's transaction."""
        await tx.execute(WRITE, {"bank": self._bank, "name": name, "value": value, "updated_at": self._clock.now_ms()})
