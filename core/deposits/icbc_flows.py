"""ICBC's raw statements of both groups: the rows of ``icbc_bank_flow``, their balance chain, the view that compares.

Rules (tasks-and-monitoring.md §4; gaps.md B-21), before any code:

* One chain per account, currency and group, in the order of serials: balance before + credit - debit = balance after.
* *Ghost*: the balance after is the balance before although money moved (type 4).
* *Twin*: same time, amount and remark as a row that was there before, another serial: the group cannot tell whether it
  is one payment or two (type 3), and does not keep it. Rows that come in one answer are told apart by their serials.
  Where the bank's own words prove two payments (another payer, or balances that have moved twice), it says so at once
  (ICBC-07), and people credit it; else the chain tells with the next statement.
* A row that the bank deleted keeps its place with ``deleted_at``; the chain passes over it. Where the bank gives its
  serial to another payment, that takes its place, and is another entry for matching: ``serial#2``, ``serial#3`` …
  (``bank_ref``), the same in both groups. What stands under a serial in either group is never told twice; the groups
  may have another payment each under it, until the script has run.
* A serial that stands and is told again with another amount, side or payer is another payment: the one we have is gone
  at the bank (ICBC-07, type 1).
* Where a person has set a row's balance, the chain begins anew at it: what is missing before it is accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.banks.icbc import CANARY, GROUPS, PROD, Told
from core.clock import hkt_date
from core.screening.names import fold_name, fold_number
from core.storage import Database, Questions, Statement
from core.storage.primary import icbc_bank_flow, icbc_script


class Row(NamedTuple):
    """One row of ``icbc_bank_flow``."""

    id: int
    line_group: str
    our_account: str
    serial: str
    txn_time: int
    ccy: str
    credit: int
    debit: int
    close_balance: int
    remark: str
    name: str
    account: str
    is_used: int
    created_at: int
    deleted_at: int | None
    bank_ref: str

    @property
    def told(self) -> Told:
        """As the line told it."""
        return Told(self.serial, self.txn_time, self.ccy, self.credit, self.debit, self.close_balance, self.remark,
                    self.name, self.account)


_T = icbc_bank_flow
_COLUMNS: Final = tuple(_T.c[name] for name in Row._fields)
_OF: Final = (_T.c.line_group == bindparam("b_group"), _T.c.our_account == bindparam("b_account"))
_NEW: Final = tuple(name for name in Row._fields if name != "id")
NEW = Statement(insert(_T).values({name: bindparam(name) for name in (*_NEW, "updated_at")}))
ANEW = Statement(update(_T).where(_T.c.id == bindparam("b_id")).values(
    {name: bindparam(name) for name in (*_NEW, "updated_at")}))
BY_ID = Statement(select(*_COLUMNS).where(_T.c.id == bindparam("b_id")))
SINCE = Statement(select(*_COLUMNS).where(*_OF, _T.c.txn_time >= bindparam("b_since")).order_by(_T.c.serial))
BEFORE = Statement(select(*_COLUMNS).where(
    *_OF, _T.c.txn_time < bindparam("b_since"), _T.c.deleted_at.is_(None)).order_by(_T.c.serial.desc()).limit(1))
LAST = Statement(select(*_COLUMNS).where(*_OF, _T.c.deleted_at.is_(None)).order_by(_T.c.serial.desc()).limit(1))
PRECEDING = Statement(select(*_COLUMNS).where(
    *_OF, _T.c.serial < bindparam("b_serial"), _T.c.deleted_at.is_(None)).order_by(_T.c.serial.desc()).limit(1))
AFTER = Statement(select(*_COLUMNS).where(
    *_OF, _T.c.serial >= bindparam("b_serial"), _T.c.deleted_at.is_(None)).order_by(_T.c.serial))
WITH_SERIAL = Statement(select(*_COLUMNS).where(*_OF, _T.c.serial == bindparam("b_serial")))
AT_TIME = Statement(select(*_COLUMNS).where(*_OF, _T.c.txn_time == bindparam("b_time"), _T.c.deleted_at.is_(None)))
PRINT = Statement(update(_T).where(_T.c.id == bindparam("b_id")).values(
    close_balance=bindparam("close_balance"), updated_at=bindparam("updated_at")))
USE = Statement(update(_T).where(
    _T.c.our_account == bindparam("b_account"), _T.c.bank_ref == bindparam("b_ref")).values(
    is_used=bindparam("is_used"), updated_at=bindparam("updated_at")))
SET_BALANCES = Statement(select(icbc_script.c.serials, icbc_script.c.balance).where(
    icbc_script.c.kind == "BALANCE", icbc_script.c.line_group == bindparam("b_group"),
    icbc_script.c.our_account == bindparam("b_account")).order_by(icbc_script.c.id))
REFUNDED = Statement(select(icbc_script.c.serials).where(
    icbc_script.c.kind == "REFUND", icbc_script.c.result == "DONE",
    icbc_script.c.our_account == bindparam("account")).order_by(icbc_script.c.id))
NEW_SCRIPT = Statement(insert(icbc_script).values({name: bindparam(name) for name in (
    "kind", "line_group", "our_account", "balance", "ccy", "serials", "result", "operator", "remark", "script",
    "created_at")}))


class Break(NamedTuple):
    """The first row at which a chain does not hold; ``expected`` is what its balance should be."""

    row: Row
    expected: int
    first_of_day: bool

    @property
    def is_ghost(self) -> bool:
        """Money moved and the balance did not (type 4)."""
        return self.row.close_balance == self.expected - self.row.credit + self.row.debit


_AGAIN: Final = "#"
"""Between a serial, which is digits, and the number of a payment that came under it again."""
Anchors = Mapping[str, int]
"""Serial -> the balance that a person has set for it."""
_NO_ANCHORS: Final[Anchors] = {}


def breaks_of(rows: Iterable[Row], anchors: Anchors = _NO_ANCHORS) -> list[Break]:
    """All breaks in a chain of live rows in the order of serials; the first row is its beginning, and behind each break
    it goes on from the balance that the row says."""
    found: list[Break] = []
    before: Row | None = None
    for row in rows:
        if before is not None and anchors.get(row.serial) != row.close_balance:
            expected = before.close_balance + row.credit - row.debit
            if expected != row.close_balance:
                found.append(Break(row, expected, hkt_date(before.txn_time) != hkt_date(row.txn_time)))
        before = row
    return found


def is_whole(records: Sequence[Told], before: int | None) -> bool:
    """Whether the bank's own printed balances form a chain, behind this balance if there is one."""
    for record in records:
        if before is not None and before + record.credit - record.debit != record.balance:
            return False
        before = record.balance
    return True


def ghosts_among(rows: Iterable[Row], anchors: Anchors = _NO_ANCHORS) -> frozenset[int]:
    """Ids of rows that look like ghosts: nothing of them goes to matching before people have looked."""
    return frozenset(broken.row.id for broken in breaks_of(rows, anchors) if broken.is_ghost)


class Shift(NamedTuple):
    """Rows one after the other whose balances are too high by the same amount."""

    rows: tuple[Row, ...]
    by: int


MOST_SUMS: Final = 4_096
"""Sums of refunded amounts that are looked at: those of twelve different amounts. More prove nothing: of thirty, nearly
any number is a sum, and of several subsets, so that a payment that is missing would pass for refunds. People decide."""


def shifts_of(chain: Sequence[Row], gone: Sequence[Row]) -> list[Shift]:
    """What was printed while refunded statements stood, and by how much it is too high.

    ``chain`` is one group's live rows, ``gone`` what was refunded, of whichever group: one that this group never heard
    of is in its balances all the same. A balance that no sum of refunded amounts explains, or more sums than prove
    anything, end the search."""
    lost = {row.bank_ref: row for row in gone}
    first = min(row.serial for row in gone)
    before = [row.close_balance for row in chain if row.serial < first]
    before += [row.close_balance - _amount(row) for row in chain if row.serial == first and not before]
    if not before:
        return []
    balance = before[-1]
    live = [row for row in chain if row.serial >= first and row.bank_ref not in lost]
    sums, off = {0}, list[tuple[Row, int]]()
    for row in sorted([*live, *lost.values()], key=lambda row: (row.serial, _generation(row.bank_ref))):
        if row.bank_ref in lost:
            sums |= {one + _amount(row) for one in sums}
            if len(sums) > MOST_SUMS:
                break
            continue
        balance += _amount(row)
        by = row.close_balance - balance
        if by not in sums:
            break
        off.append((row, by))
    return [Shift(tuple(row for row, _ in run), by) for by, run in groupby(off, key=lambda one: one[1]) if by]


def _amount(row: Row) -> int:
    return row.credit - row.debit


# --- which payment it is ----------------------------------------------------------------------------------------


def other_payer(one: Told, other: Told) -> bool:
    """Whether both say who paid, and it is not the same."""
    names = fold_name(one.name), fold_name(other.name)
    numbers = fold_number(one.account), fold_number(other.account)
    return (all(names) and names[0] != names[1]) or (all(numbers) and numbers[0] != numbers[1])


def other_payment(one: Told, other: Told) -> bool:
    """Whether two records of one serial cannot be the same payment."""
    return (one.credit, one.debit) != (other.credit, other.debit) or other_payer(one, other)


def _generation(bank_ref: str) -> int:
    return int(bank_ref.partition(_AGAIN)[2] or 1)


def next_reference(serial: str, rows: Iterable[Row]) -> str:
    """What another payment under a serial is known by, given those that were there before."""
    last = max((_generation(row.bank_ref) for row in rows), default=0)
    return f"{serial}{_AGAIN}{last + 1}" if last else serial


def serial_of(bank_ref: str) -> str:
    """The bank's own serial in a reference."""
    return bank_ref.partition(_AGAIN)[0]


# --- the comparison ---------------------------------------------------------------------------------------------


class Compared(NamedTuple):
    """One statement in both groups. ``difference``: empty, or why they differ; ``type``: the incident it suggests."""

    serial: str
    prod: Row | None
    canary: Row | None
    difference: str
    suggests: int

    @property
    def created_at(self) -> int:
        """When the first of the groups kept it."""
        return min(row.created_at for row in (self.prod, self.canary) if row is not None)


def compared(prod: Sequence[Row], canary: Sequence[Row], canary_pulled_ms: int) -> list[Compared]:
    """Live rows of both groups side by side, by ``created_at``. What production kept after the canary's last pull is
    no difference: the canary has had no chance yet (its delay alone is no incident)."""
    sides = {PROD: {row.serial: row for row in prod}, CANARY: {row.serial: row for row in canary}}
    last, ghosts = max(sides[CANARY], default=""), ghosts_among(prod)
    found = []
    for serial in dict.fromkeys(serial for group in GROUPS for serial in sides[group]):
        one, other = sides[PROD].get(serial), sides[CANARY].get(serial)
        waits = one is not None and other is None and one.created_at > canary_pulled_ms
        difference, suggests = ("", 0) if waits else _difference(one, other, last, ghosts)
        found.append(Compared(serial, one, other, difference, suggests))
    return sorted(found, key=lambda row: (row.created_at, row.serial))


def _difference(prod: Row | None, canary: Row | None, last: str, ghosts: frozenset[int]) -> tuple[str, int]:
    if prod is None:
        return "only in canary", 3
    if canary is None and prod.serial > last and prod.id not in ghosts:
        return "canary has fewer", 2
    if canary is None:
        return "only in production", 4
    return ("told differently", 4) if prod.told != canary.told else ("", 0)


def suggested(broken: Iterable[str], *, first_of_day: bool = False, stalled: bool = False,
              differences: Iterable[Compared] = ()) -> tuple[int, ...]:
    """Incident types that the pattern of alerts suggests, the likeliest first (tasks-and-monitoring.md §4.4)."""
    groups = frozenset(broken)
    if stalled:
        return (2,)
    if groups == frozenset(GROUPS):
        return (5, 1) if first_of_day else (1,)
    if groups == {PROD}:
        seen = {one.suggests for one in differences} & {3, 4}
        return tuple(sorted(seen)) or (3, 4)
    return (2,) if groups == {CANARY} else ()


# --- the table --------------------------------------------------------------------------------------------------


class Book:
    """``icbc_bank_flow`` of one core."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def since(self, group: str, account: str, since_ms: int, tx: Questions | None = None) -> list[Row]:
        """Rows from a moment on in the order of serials, deleted ones too."""
        return [Row(*row) for row in await (tx or self.db).all(SINCE, _of(group, account, b_since=since_ms))]

    async def chain(self, group: str, account: str, since_ms: int) -> list[Row]:
        """Live rows from a moment on, behind the last one before it."""
        before = await self.db.first(BEFORE, _of(group, account, b_since=since_ms))
        live = [row for row in await self.since(group, account, since_ms) if row.deleted_at is None]
        return [Row(*before), *live] if before else live

    async def anchors(self, group: str, account: str) -> Anchors:
        """Balances that people have set."""
        return dict(await self.db.all(SET_BALANCES, _of(group, account)))

    async def after(self, group: str, account: str, serial: str) -> list[Row]:
        """Live rows from a serial on."""
        return [Row(*row) for row in await self.db.all(AFTER, _of(group, account, b_serial=serial))]

    async def preceding(self, group: str, account: str, serial: str) -> Row | None:
        """The live row right before a serial."""
        row = await self.db.first(PRECEDING, _of(group, account, b_serial=serial))
        return Row(*row) if row else None

    async def last(self, group: str, account: str) -> Row | None:
        """The live row with the highest serial."""
        row = await self.db.first(LAST, _of(group, account))
        return Row(*row) if row else None

    async def find(self, row_id: int) -> Row | None:
        """The row, deleted or not."""
        row = await self.db.first(BY_ID, {"b_id": row_id})
        return Row(*row) if row else None

    async def with_serial(self, group: str, account: str, serial: str) -> Row | None:
        """The row of a serial, deleted or not."""
        row = await self.db.first(WITH_SERIAL, _of(group, account, b_serial=serial))
        return Row(*row) if row else None

    async def under(self, account: str, serial: str) -> list[Row]:
        """What either group has under a serial, what stands first."""
        rows = [row for group in GROUPS if (row := await self.with_serial(group, account, serial)) is not None]
        return sorted(rows, key=lambda row: row.deleted_at is not None)

    async def reference(self, account: str, record: Told) -> str:
        """What a record is known by in matching: as the row that stands under its serial, unless that is another
        payment, or as one that told the very same; else as another payment under the serial."""
        rows = await self.under(account, record.serial)
        for row in rows:
            stands = row.deleted_at is None and not other_payment(row.told, record)
            if stands or row.told._replace(balance=record.balance) == record:
                return row.bank_ref
        return next_reference(record.serial, rows)

    async def twin_of(self, group: str, account: str, record: Told) -> Row | None:
        """A live row of the same time, amount and remark under another serial."""
        for found in await self.db.all(AT_TIME, _of(group, account, b_time=record.time_ms)):
            row = Row(*found)
            same = (row.credit, row.debit, row.remark) == (record.credit, record.debit, record.remark)
            if same and row.serial != record.serial:
                return row
        return None

    async def keep(
        self, tx: Questions, group: str, account: str, record: Told, bank_ref: str, now: int, old: Row | None
    ) -> None:
        """Insert a record; or, where the bank gives a deleted row's serial to something else, put it in its place."""
        values: dict[str, Any] = {
            "line_group": group, "our_account": account, "serial": record.serial, "txn_time": record.time_ms,
            "ccy": record.ccy, "credit": record.credit, "debit": record.debit, "close_balance": record.balance,
            "remark": record.remark, "name": record.name, "account": record.account, "is_used": 0, "created_at": now,
            "deleted_at": None, "bank_ref": bank_ref, "updated_at": now}
        if old is None:
            await tx.execute(NEW, values)
        else:
            await tx.execute(ANEW, values | {"b_id": old.id})

    async def print_balance(self, tx: Questions, row: Row, balance: int, now: int) -> None:
        """Take over a balance that the bank prints now."""
        await tx.execute(PRINT, {"b_id": row.id, "close_balance": balance, "updated_at": now})

    async def use(self, tx: Questions, account: str, bank_ref: str, used: int, now: int) -> None:
        """Mark a statement as used in matching, or free again, in both groups."""
        await tx.execute(USE, {"b_account": account, "b_ref": bank_ref, "is_used": used, "updated_at": now})


def _of(group: str, account: str, **more: Any) -> dict[str, Any]:
    return {"b_group": group, "b_account": account, **more}
