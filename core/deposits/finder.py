"""Finding deposit applications by what people know: customer, card, amount (architecture.md §3; DB-SHARD-08).

Nobody outside needs to know of the hundred tables: a customer's is computed, for anything else all are asked, each for
at most as many as are wanted, and what they give is put in one order. A card number is found however it was written,
with blanks or without (as `core.cards.numbers` compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Table, bindparam, func, select
from sqlalchemy.sql.elements import ColumnElement

from core.cards.numbers import normal
from core.deposits.applications import Apply
from core.errors import Code, Refusal
from core.storage import SHARDS, Database, Sharded, shard_of
from core.storage.primary import applys

LIMIT_MAX: Final = 500
_PLAIN = (" ", "-")


def _card(table: Table) -> ColumnElement[bool]:
    stored: Any = table.c.card_no
    for sign in _PLAIN:
        stored = func.replace(stored, sign, "")
    return stored == bindparam("b_card")  # type: ignore[no-any-return]


_FILTERS: Final[Mapping[str, Callable[[Table], ColumnElement[bool]]]] = {
    "uid": lambda table: table.c.uid == bindparam("b_uid"),
    "card": _card,
    "amount": lambda table: table.c.amount == bindparam("b_amount"),
    "ccy": lambda table: table.c.ccy == bindparam("b_ccy"),
}
_statements: dict[tuple[str, ...], Sharded] = {}


def _statement(filters: tuple[str, ...]) -> Sharded:
    """Of these filters, compiled once."""
    if filters not in _statements:
        _statements[filters] = Sharded(
            lambda table: select(*(table.c[name] for name in Apply._fields)).where(
                *(_FILTERS[name](table) for name in filters)).order_by(table.c.created_at.desc(), table.c.id.desc())
            .limit(bindparam("b_limit")), applys)
    return _statements[filters]


class ApplyFinder:
    """Looks over all applications of one core."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def find(self, *, uid: int | None = None, card: str = "", amount: int | None = None, ccy: str = "",
                   limit: int = 50) -> list[Apply] | Refusal:
        """Applications to which all that is given applies, the newest first, at most ``limit``. ``amount``: as it was
        applied for, minor units. INVALID_PARAM without customer, card and amount, or with another limit than 1 to 500.
        """
        plain = normal(card)
        if uid is None and not plain and amount is None:
            return Refusal(Code.INVALID_PARAM, "search by uid, card or amount: none is given")
        if not 1 <= limit <= LIMIT_MAX:
            return Refusal(Code.INVALID_PARAM, f"limit {limit}: 1 to {LIMIT_MAX}")
        asked = {"uid": uid, "card": plain or None, "amount": amount, "ccy": ccy or None}
        given = {name: value for name, value in asked.items() if value is not None}
        statement = _statement(tuple(given))
        parameters = {f"b_{name}": value for name, value in given.items()} | {"b_limit": limit}
        found = [Apply(*row) for shard in (SHARDS if uid is None else (shard_of(uid),))
                 for row in await self._db.all(statement[shard], parameters)]
        return sorted(found, key=lambda apply: (apply.created_at, apply.id), reverse=True)[:limit]
