"""Black and white lists of deposits and withdrawals (gaps.md B-36, A-28).

An entry is one value of one kind on one list, with the operator and the reason of its last change. A removed entry
stays as a row that has expired, so the list remembers it. Every change is written down besides (`Lists.changes`), in
the transaction that makes it, and never changed itself. Values are compared after normalisation, names also by
similarity. What a hit means (manual review, fast track), which list wins, and that silence of this service counts as
a hit, are decisions of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, insert, or_, select, union_all, update

from core.clock import Clock
from core.errors import Code, Refusal
from core.screening.names import fold_name, fold_number, most_similar
from core.storage import Database, Statement, Transaction, UniqueViolation
from core.storage.primary import list_change, list_entry


class ListName(StrEnum):
    """The lists of the platform (SVC-21, SVC-22, SVC-23)."""

    DEPOSIT_BLACK = "deposit_black"
    DEPOSIT_WHITE = "deposit_white"
    WITHDRAW_BLACK = "withdraw_black"


class Kind(StrEnum):
    """What a value is."""

    UID = "uid"
    CARD_NO = "card_no"
    NAME = "name"
    ACCOUNT = "account"


class Value(NamedTuple):
    """One value to add or remove; ``expires_at`` in epoch ms, None for never (ignored when removing)."""

    kind: Kind
    value: str
    expires_at: int | None = None


class Hit(NamedTuple):
    """An entry in force that met what was asked; ``similarity`` is 1.0 but for similar names."""

    list: str
    kind: str
    value: str
    entry: int
    reason: str
    operator: str
    expires_at: int | None
    similarity: float = 1.0


class Entry(NamedTuple):
    """A row of a list as staff see it, in force or expired."""

    entry: int
    kind: str
    value: str
    reason: str
    operator: str
    expires_at: int | None
    created_at: int
    updated_at: int


class Change(NamedTuple):
    """A row of the audit trail. ``action``: ADD or REMOVE."""

    action: str
    kind: str
    value: str
    reason: str
    operator: str
    expires_at: int | None
    created_at: int


NORMAL_FORM: Final[dict[Kind, Callable[[str], str]]] = {
    Kind.UID: str.strip, Kind.CARD_NO: fold_number, Kind.NAME: fold_name, Kind.ACCOUNT: fold_number,
}

_E = list_entry.c
VALUE_MAX: Final = 140
REASON_MAX: Final = 255
_PAGE_MAX: Final = 1000

_SHOWN = (_E.kind, _E.value, _E.id, _E.reason, _E.operator, _E.expires_at)
_ONE = and_(_E.list == bindparam("b_list"), _E.kind == bindparam("b_kind"), _E.value == bindparam("b_value"))
_IN_FORCE = or_(_E.expires_at.is_(None), _E.expires_at > bindparam("b_now"))

MET = Statement(union_all(*(select(*_SHOWN).where(
    _E.list == bindparam("b_list"), _E.kind == kind.value, _E.value == bindparam(f"b_{kind.value}"), _IN_FORCE)
    for kind in Kind)))  # one look into the key for each kind; with OR the whole list would be read
FIND_ANY = Statement(select(_E.id, _E.expires_at).where(_ONE))
NAMES = Statement(
    select(*_SHOWN).where(_E.list == bindparam("b_list"), _E.kind == Kind.NAME.value, _IN_FORCE).order_by(_E.id))
PAGE = Statement(
    select(_E.id, _E.kind, _E.value, _E.reason, _E.operator, _E.expires_at, _E.created_at, _E.updated_at)
    .where(_E.list == bindparam("b_list"), _E.id > bindparam("b_after")).order_by(_E.id).limit(bindparam("b_limit")))
ADD = Statement(insert(list_entry).values(
    list=bindparam("b_list"), kind=bindparam("b_kind"), value=bindparam("b_value"), reason=bindparam("b_reason"),
    operator=bindparam("b_operator"), expires_at=bindparam("b_expires_at"), created_at=bindparam("b_now"),
    updated_at=bindparam("b_now")))
CHANGE = Statement(
    update(list_entry).where(_E.id == bindparam("b_id"))
    .values(reason=bindparam("b_reason"), operator=bindparam("b_operator"), expires_at=bindparam("b_expires_at"),
            updated_at=bindparam("b_now")))
NOTE = Statement(insert(list_change))
CHANGES = Statement(select(*(list_change.c[name] for name in Change._fields)).where(
    list_change.c.list == bindparam("b_list"), list_change.c.created_at >= bindparam("b_since"))
    .order_by(list_change.c.id).limit(bindparam("b_limit")))
_ADD, _REMOVE = "ADD", "REMOVE"


class Lists:
    """All lists. ``db`` is the primary database; reads ``lists.name_similarity`` and ``lists.bulk_max`` once."""

    def __init__(self, db: Database, clock: Clock, settings: Mapping[str, Any]) -> None:
        self._db = db
        self._clock = clock
        self._threshold: float = settings["lists.name_similarity"]
        self._bulk_max: int = settings["lists.bulk_max"]

    async def hit(self, name_of_list: ListName, *, uid: int | None = None, card_no: str = "", account: str = "",
                  name: str = "") -> Hit | None:
        """The first entry in force that meets: uid, card, account, equal name, then the most similar name."""
        asked = {Kind.UID: "" if uid is None else str(uid), Kind.CARD_NO: card_no, Kind.ACCOUNT: account,
                 Kind.NAME: name}
        values = {kind: given and NORMAL_FORM[kind](given) for kind, given in asked.items()}  # "" stands on no list
        if any(values.values()):
            met = {row[0]: row for row in await self._db.all(MET, {
                "b_list": name_of_list.value, "b_now": self._clock.now_ms(),
                **{f"b_{kind.value}": value for kind, value in values.items()}})}
            for kind in asked:
                if kind.value in met:
                    return Hit(name_of_list.value, *met[kind.value])
        return await self._similar(name_of_list, values[Kind.NAME]) if values[Kind.NAME] else None

    async def entries(self, name_of_list: ListName, after: int = 0, limit: int = 100) -> list[Entry]:
        """A page of a list in the order of entry numbers, expired ones too; at most 1,000."""
        rows = await self._db.all(PAGE, {"b_list": name_of_list.value, "b_after": after,
                                         "b_limit": min(limit, _PAGE_MAX)})
        return [Entry(*row) for row in rows]

    async def changes(self, name_of_list: ListName, since_ms: int = 0, limit: int = _PAGE_MAX) -> list[Change]:
        """What was put on a list and taken off it from a moment on, in order; at most 1,000."""
        return [Change(*row) for row in await self._db.all(CHANGES, {
            "b_list": name_of_list.value, "b_since": since_ms, "b_limit": min(limit, _PAGE_MAX)})]

    async def add(self, name_of_list: ListName, values: Sequence[Value], operator: str, reason: str) -> int | Refusal:
        """Put all values on the list, or none: number added, or INVALID_PARAM, or DUPLICATE (in force already)."""
        now = self._clock.now_ms()
        wanted = self._wanted(values, operator, reason)
        if isinstance(wanted, Refusal):
            return wanted
        late = next((value for value in wanted if value.expires_at is not None and value.expires_at <= now), None)
        if late is not None:
            return Refusal(Code.INVALID_PARAM, f"expires_at: {late.kind.value} {late.value} would have expired already")
        try:
            async with self._db.transaction() as tx:
                known = [await self._known(tx, name_of_list, value) for value in wanted]
                for value, row in zip(wanted, known, strict=True):
                    if row is not None and _in_force(row, now):
                        return Refusal(Code.DUPLICATE, f"{value.kind.value} {value.value} is on {name_of_list.value}")
                for value, row in zip(wanted, known, strict=True):
                    await self._put(tx, name_of_list, _ADD, value, row, operator, reason, now)
        except UniqueViolation:
            return Refusal(Code.DUPLICATE, f"another operator put one of them on {name_of_list.value} meanwhile")
        return len(wanted)

    async def remove(self, name_of_list: ListName, values: Sequence[Value], operator: str,
                     reason: str) -> int | Refusal:
        """Take all values off the list, or none: number removed, or INVALID_PARAM, or NOT_FOUND (not in force)."""
        wanted = self._wanted(values, operator, reason)
        if isinstance(wanted, Refusal):
            return wanted
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            known = [await self._known(tx, name_of_list, value) for value in wanted]
            for value, row in zip(wanted, known, strict=True):
                if row is None or not _in_force(row, now):
                    return Refusal(Code.NOT_FOUND, f"{value.kind.value} {value.value} is not on {name_of_list.value}")
            for value, row in zip(wanted, known, strict=True):
                await self._put(tx, name_of_list, _REMOVE, value._replace(expires_at=now), row, operator, reason, now)
        return len(wanted)

    def _wanted(self, values: Sequence[Value], operator: str, reason: str) -> list[Value] | Refusal:
        """The values in normal form; a flaw in one refuses them all."""
        if not 1 <= len(values) <= self._bulk_max:
            return Refusal(Code.INVALID_PARAM, f"values: 1 to {self._bulk_max} per call, not {len(values)}")
        if not operator or not 1 <= len(reason) <= REASON_MAX:
            return Refusal(Code.INVALID_PARAM, f"operator and reason (at most {REASON_MAX} characters) are required")
        wanted = [value._replace(value=NORMAL_FORM[value.kind](value.value)) for value in values]
        for given, value in zip(values, wanted, strict=True):
            if not 1 <= len(value.value) <= VALUE_MAX:
                return Refusal(Code.INVALID_PARAM, f"{value.kind.value} {given.value!r}: 1 to {VALUE_MAX} characters")
        if len({(value.kind, value.value) for value in wanted}) < len(wanted):
            return Refusal(Code.INVALID_PARAM, "values: one is given twice")
        return wanted

    async def _similar(self, name_of_list: ListName, name: str) -> Hit | None:
        """The most similar name in force from the threshold on; the older entry if two are equally similar."""
        rows = await self._db.all(NAMES, {"b_list": name_of_list.value, "b_now": self._clock.now_ms()})
        best = most_similar(name, [row[1] for row in rows], self._threshold)
        return best and Hit(name_of_list.value, *rows[best[0]])._replace(similarity=best[1])

    async def _known(self, tx: Transaction, name_of_list: ListName, value: Value) -> tuple[Any, ...] | None:
        return await tx.first(FIND_ANY, {"b_list": name_of_list.value, "b_kind": value.kind.value,
                                         "b_value": value.value})

    async def _put(self, tx: Transaction, name_of_list: ListName, action: str, value: Value,
                   row: tuple[Any, ...] | None, operator: str, reason: str, now: int) -> None:
        """Write an entry as new, or give an old row the new end, operator and reason; and that this was done."""
        await tx.execute(NOTE, {
            "list": name_of_list.value, "action": action, "kind": value.kind.value, "value": value.value,
            "reason": reason, "operator": operator, "expires_at": value.expires_at, "created_at": now})
        change = {"b_reason": reason, "b_operator": operator, "b_expires_at": value.expires_at, "b_now": now}
        if row is None:
            await tx.execute(ADD, {"b_list": name_of_list.value, "b_kind": value.kind.value, "b_value": value.value,
                                   **change})
        else:
            await tx.execute(CHANGE, {"b_id": row[0], **change})


def _in_force(row: tuple[Any, ...], now: int) -> bool:
    return row[1] is None or row[1] > now
