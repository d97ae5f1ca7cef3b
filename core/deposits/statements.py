"""Bank statements: what collectors bring, kept twice and once each (A-10, DB-SHARD-02, -03).

    collector -> Entry -> {bank}_bank_flow          raw, as the bank told it, unique by (account, reference)
                       -> flows_{bank}_{YYYYMM}     normalised, by the month of credit in Hong Kong

An entry that comes again changes nothing, by whichever way it comes: pushed and pulled, re-pulled over the turn of a
month, or after a crash between two of them. Both rows are written in one transaction with whatever the collector adds
(its own cursor), so that a cursor never passes an entry that is not kept.

What was taken is looked at until it is settled, whatever date its bank gives it: ``flow_month`` names every month with
entries, and a month is forgotten only when it is older than what collectors still bring and nothing in it is open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, delete, insert, select, update

from core.clock import MS_PER_DAY, Clock, hkt_date
from core.statement import Entry
from core.storage import (
    Database,
    Questions,
    Sharded,
    Transaction,
    bank_month,
    ensure_flow_table,
    upsert,
)
from core.storage import Sequence as Numbers
from core.storage import Statement as Sql
from core.storage.primary import MATCHING_BANKS, bank_flows, flow_month, statement_flows
from core.trace import Trace

NEW, WINDOW_WAIT, CANDIDATE, MATCHED, CREDITED, ABNORMAL, VOID = range(7)
"""Statuses of a statement entry (gaps.md B-02)."""
STATUS_NAMES: Final = ("NEW", "WINDOW_WAIT", "CANDIDATE", "MATCHED", "CREDITED", "ABNORMAL", "VOID")
OPEN: Final = (NEW, WINDOW_WAIT, CANDIDATE)
STRUCK: Final = "StatementStruck"
"""Job: the bank has deleted an entry that was used (payload ``bank`` and ``flow``)."""


class Flow(NamedTuple):
    """One row of ``flows_{bank}_{YYYYMM}``; the last digits of ``id`` name its month (`month_of`)."""

    id: int
    bank_type: str
    our_account: str
    bank_ref: str
    seq_no: str
    ccy: str
    amount: int
    dr_cr: str
    balance: int | None
    credit_time: int
    en_name: str
    payer_acct: str
    remark: str
    status: int
    is_used: int
    raw_id: int | None
    emergency: int


class Taken(NamedTuple):
    """What became of a batch of entries."""

    accepted: int
    duplicate: int


_RAW = ("bank_type", "our_account", "bank_ref", "txn_time", "ccy", "amount", "dr_cr", "balance", "name", "account",
        "remark", "is_used", "raw", "created_at", "updated_at")
NEW_RAW = Sharded(lambda t: insert(t).values({name: bindparam(name) for name in _RAW}), bank_flows)
RAW_ID = Sharded(lambda t: select(t.c.id).where(
    t.c.our_account == bindparam("account"), t.c.bank_ref == bindparam("ref")), bank_flows)
UNREAD = Sharded(lambda t: select(t.c.id, t.c.raw).where(t.c.is_used == 0).order_by(t.c.txn_time, t.c.id)
                 .limit(bindparam("b_limit")), bank_flows)
READ = Sharded(lambda t: update(t).where(t.c.id == bindparam("b_id"), t.c.is_used == 0).values(
    is_used=1, updated_at=bindparam("updated_at")), bank_flows)
NEW_FLOW = Sharded(lambda t: insert(t).values({name: bindparam(name) for name in (
    *Flow._fields, "created_at", "updated_at")}), statement_flows)
FIND = Sharded(lambda t: select(*(t.c[name] for name in Flow._fields)).where(t.c.id == bindparam("b_id")),
               statement_flows)
LOCKED = Sharded(lambda t: select(*(t.c[name] for name in Flow._fields)).where(t.c.id == bindparam("b_id"))
                 .with_for_update(), statement_flows)
"""What stands there by now, whatever the transaction saw before; nobody else changes it until the transaction ends."""
BY_REFERENCE = Sharded(lambda t: select(*(t.c[name] for name in Flow._fields)).where(
    t.c.bank_type == bindparam("bank"), t.c.our_account == bindparam("account"), t.c.bank_ref == bindparam("ref")),
    statement_flows)
STILL_OPEN = Sharded(lambda t: select(*(t.c[name] for name in Flow._fields)).where(
    t.c.status.in_(OPEN)).order_by(t.c.credit_time, t.c.id), statement_flows)
BETWEEN = Sharded(lambda t: select(*(t.c[name] for name in Flow._fields)).where(
    t.c.credit_time >= bindparam("since"), t.c.credit_time < bindparam("until"))
    .order_by(t.c.credit_time, t.c.id), statement_flows)
CHANGE = Sharded(lambda t: update(t).where(t.c.id == bindparam("b_id"), and_(
    t.c.status == bindparam("b_status"), t.c.is_used == bindparam("b_used"))).values(
    {name: bindparam(name) for name in ("status", "is_used", "en_name", "payer_acct", "balance", "updated_at")}),
    statement_flows)
_M = flow_month.c
WATCH = Sql(upsert(flow_month, key=("bank_type", "month"), update=("updated_at",)))
WATCHED = Sql(select(_M.month).where(_M.bank_type == bindparam("bank")).order_by(_M.month))
FORGET = Sql(delete(flow_month).where(_M.bank_type == bindparam("b_bank"), _M.month == bindparam("b_month")))
_MONTHS: Final = 10**6
_OWN_RAW: Final = ("icbc",)
"""Banks whose collector keeps raw rows of another shape."""


def month_of(flow_id: int) -> int:
    """YYYYMM of the table in which an entry stands: its id ends in it."""
    return flow_id % _MONTHS


def month_at(ms: int) -> int:
    """YYYYMM in Hong Kong at a moment."""
    day = hkt_date(ms)
    return day.year * 100 + day.month


def months_between(since_ms: int, until_ms: int) -> Iterator[int]:
    """Every YYYYMM touched by ``[since, until)``, in order."""
    month, last = month_at(since_ms), month_at(max(since_ms, until_ms - 1))
    while month <= last:
        yield month
        month = month + 1 if month % 100 < 12 else month + 89


Also = Callable[[Transaction], Awaitable[Any]]
"""What a collector writes in the same transaction: its cursor."""


OnUse = Callable[[Questions, Flow], Awaitable[None]]
"""How a bank with raw rows of its own marks one as used, or free again, in the transaction that does it."""


class _Open(Exception):
    """An entry came while its month was to be forgotten: it is not."""


class Statements:
    """Statement entries of all matching banks in one core, in the primary database."""

    def __init__(self, db: Database, clock: Clock, trace: Trace, *, keep_months: int) -> None:
        """``keep_months``: how many months before this one are never forgotten."""
        self._db, self._clock, self._trace, self._keep_months = db, clock, trace, keep_months
        self.ids = Numbers(db, "statement")
        self.on_new: Callable[[str], None] = lambda _bank: None
        self.on_use: dict[str, OnUse] = {}
        self._made: dict[str, None] = {}
        self._watched: dict[str, None] = {}  # months of now that ``flow_month`` has for certain

    async def take(self, bank: str, entries: Sequence[Entry], source: str, also: Also | None = None, *,
                   emergency: bool = False) -> Taken:
        """Keep what a collector brings, each entry once; all of it is kept when this returns, and ``also`` with it.

        ``source`` says by which way it came (``push``, ``sftp``, ``TodayActivity`` …), for the event. ``emergency``: a
        person vouches for it, the bank's line did not bring it (gaps.md B-21)."""
        if bank not in MATCHING_BANKS:
            raise ValueError(f"{bank} is no bank whose statements are matched")
        for month in dict.fromkeys(month for entry in entries for month in months_between(
                entry.credit_time - MS_PER_DAY, entry.credit_time + MS_PER_DAY)):
            await self._table(bank, month)
        accepted = 0
        async with self._db.transaction() as tx:
            for entry in dict.fromkeys(entries):
                accepted += await self._keep(tx, bank, entry, source, int(emergency))
            if also is not None:
                await also(tx)
            if accepted:
                tx.after_commit(lambda: self.on_new(bank))
        return Taken(accepted, len(entries) - accepted)

    async def keep_raw(self, bank: str, entries: Sequence[Entry], also: Also | None = None) -> Taken:
        """The first half of `take`: raw rows only, for a bank whose statements are converted at hours of their own."""
        accepted = 0
        async with self._db.transaction() as tx:
            for entry in dict.fromkeys(entries):
                if not await self._is_known(tx, bank, entry):
                    await self._keep_raw(tx, bank, entry, self._clock.now_ms(), used=0)
                    accepted += 1
            if also is not None:
                await also(tx)
        return Taken(accepted, len(entries) - accepted)

    async def convert(self, bank: str, read: Callable[[str], Entry], source: str, limit: int) -> int:
        """The second half: entries of up to ``limit`` raw rows that have none yet, oldest first; gives their number.

        ``read`` makes an entry of what the collector had kept as ``raw``."""
        rows = [(row[0], read(row[1])) for row in await self._db.all(UNREAD[bank], {"b_limit": limit})]
        for month in dict.fromkeys(month_at(entry.credit_time) for _, entry in rows):
            await self._table(bank, month)
        converted, now = 0, self._clock.now_ms()
        async with self._db.transaction() as tx:
            for raw_id, entry in rows:
                if await tx.execute(READ[bank], {"b_id": raw_id, "updated_at": now}):
                    await self._normalise(tx, bank, entry, source, raw_id, now)
                    converted += 1
            if converted:
                tx.after_commit(lambda: self.on_new(bank))
        return converted

    async def _keep(self, tx: Transaction, bank: str, entry: Entry, source: str, emergency: int) -> int:
        now = self._clock.now_ms()
        if await self._is_known(tx, bank, entry):
            return 0
        raw_id = await self._keep_raw(tx, bank, entry, now, used=1)
        await self._normalise(tx, bank, entry, source, raw_id, now, emergency)
        return 1

    async def _normalise(
        self, tx: Transaction, bank: str, entry: Entry, source: str, raw_id: int | None, now: int, emergency: int = 0
    ) -> None:
        month, number = month_at(entry.credit_time), await self.ids.next(tx)
        flow = Flow(number * _MONTHS + month, bank, entry.our_account, entry.bank_ref, entry.seq_no, entry.ccy,
                    entry.amount, entry.dr_cr, entry.balance, entry.credit_time, entry.en_name[:140],
                    entry.payer_acct, entry.remark[:500], NEW if entry.dr_cr == "C" else VOID, 0, raw_id,
                    emergency)
        await self._watch(tx, bank, month, now)
        await tx.execute(NEW_FLOW[bank_month(bank, month)], flow._asdict() | {"created_at": now, "updated_at": now})
        self.publish(tx, flow, source)

    async def _is_known(self, tx: Questions, bank: str, entry: Entry) -> bool:
        """Whether the entry is kept: by its raw row, whatever moment the bank gives it this time. ICBC has raw rows of
        its own, one for each group; there the months around it are asked."""
        if bank not in _OWN_RAW:
            return await tx.first(RAW_ID[bank], {"account": entry.our_account, "ref": entry.bank_ref}) is not None
        around = months_between(entry.credit_time - MS_PER_DAY, entry.credit_time + MS_PER_DAY)
        asked = {"bank": bank, "account": entry.our_account, "ref": entry.bank_ref}
        for suffix in (bank_month(bank, month) for month in around):
            if suffix in self._made and await tx.first(BY_REFERENCE[suffix], asked) is not None:
                return True
        return False

    async def _keep_raw(self, tx: Transaction, bank: str, entry: Entry, now: int, *, used: int) -> int | None:
        if bank in _OWN_RAW:
            return None
        await tx.execute(NEW_RAW[bank], {
            "bank_type": bank, "our_account": entry.our_account, "bank_ref": entry.bank_ref,
            "txn_time": entry.credit_time, "ccy": entry.ccy, "amount": entry.amount, "dr_cr": entry.dr_cr,
            "balance": entry.balance, "name": entry.en_name[:140], "account": entry.payer_acct,
            "remark": entry.remark[:500], "is_used": used, "raw": entry.raw, "created_at": now, "updated_at": now})
        row = await tx.first(RAW_ID[bank], {"account": entry.our_account, "ref": entry.bank_ref})
        assert row is not None, entry
        return int(row[0])

    def publish(self, tx: Transaction, flow: Flow, source: str) -> None:
        """Tell of an entry as it stands now, when the transaction commits."""
        self._trace.publish(tx, "statement", f"F{flow.id}", {
            "flow": flow.id, "bank": flow.bank_type, "account": flow.our_account, "ref": flow.bank_ref,
            "ccy": flow.ccy, "amount": flow.amount, "dr_cr": flow.dr_cr, "credited_ms": flow.credit_time,
            "named": flow.en_name != "", "status": flow.status, "source": source})

    # Reading

    async def find(self, bank: str, flow_id: int) -> Flow | None:
        """The entry, or None."""
        shard = await self._table(bank, month_of(flow_id))
        row = await self._db.first(FIND[shard], {"b_id": flow_id})
        return Flow(*row) if row else None

    async def by_reference(self, bank: str, our_account: str, bank_ref: str, months: Iterable[int]) -> Flow | None:
        """The entry with this reference in one of these months."""
        for month in months:
            shard = await self._table(bank, month)
            row = await self._db.first(BY_REFERENCE[shard], {"bank": bank, "account": our_account, "ref": bank_ref})
            if row:
                return Flow(*row)
        return None

    async def open(self, bank: str) -> list[Flow]:
        """Entries that may still find their application, whatever their month, oldest first."""
        found: list[Flow] = []
        past = self._recent(self._clock.now_ms() - MS_PER_DAY)[0]  # by a day: what is being written is in by then
        for month in await self.open_months(bank):
            rows = await self._db.all(STILL_OPEN[await self._table(bank, month)], {})
            found += [Flow(*row) for row in rows]
            if not rows and month < past:
                await self._forget(bank, month)
        return sorted(found, key=lambda flow: (flow.credit_time, flow.id))

    async def open_months(self, bank: str) -> list[int]:
        """Months of which entries of a bank may be open, oldest first."""
        return [int(month) for (month,) in await self._db.all(WATCHED, {"bank": bank})]

    async def between(self, bank: str, since_ms: int, until_ms: int) -> list[Flow]:
        """Entries credited in ``[since, until)``, over all months that it touches."""
        found: list[Flow] = []
        for month in months_between(since_ms, until_ms):
            shard = await self._table(bank, month)
            found += [Flow(*row) for row in await self._db.all(BETWEEN[shard], {"since": since_ms, "until": until_ms})]
        return found

    def recent_months(self) -> list[int]:
        """This month and those before it in which entries are expected, oldest first."""
        return self._recent(self._clock.now_ms())

    def _recent(self, now_ms: int) -> list[int]:
        month, found = month_at(now_ms), []
        for _ in range(self._keep_months + 1):
            found.append(month)
            month = month - 1 if month % 100 > 1 else month - 89
        return found[::-1]

    # Changing

    async def change(self, tx: Transaction, flow: Flow, **fields: Any) -> Flow | None:
        """Set status, use, name, account or balance of an entry; None if it has moved since it was read. What is not
        given stays as it is by now: a name that came meanwhile is kept."""
        shard = bank_month(flow.bank_type, month_of(flow.id))
        row = await tx.first(LOCKED[shard], {"b_id": flow.id})
        if row is None:
            return None
        to = Flow(*row)._replace(**fields)
        if to.status in OPEN and flow.status not in OPEN:
            await self._watch(tx, flow.bank_type, month_of(flow.id), self._clock.now_ms())
        count = await tx.execute(CHANGE[shard], {
            "b_id": flow.id, "b_status": flow.status, "b_used": flow.is_used, "status": to.status,
            "is_used": to.is_used, "en_name": to.en_name[:140], "payer_acct": to.payer_acct, "balance": to.balance,
            "updated_at": self._clock.now_ms()})
        if count != 1:
            return None
        if to.is_used != flow.is_used and flow.bank_type in self.on_use:
            await self.on_use[flow.bank_type](tx, to)
        return to

    # Months

    async def _watch(self, tx: Transaction, bank: str, month: int, now: int) -> None:
        """Name the month of a new entry, before the entry: who forgets the month meanwhile waits for this."""
        key = bank_month(bank, month)
        if key in self._watched and month >= self.recent_months()[0]:
            return
        await tx.execute(WATCH, {"bank_type": bank, "month": month, "updated_at": now})
        tx.after_commit(lambda: self._watched.setdefault(key))

    async def _forget(self, bank: str, month: int) -> None:
        """Look at a month no more, unless something has come in meanwhile."""
        try:
            async with self._db.transaction() as tx:
                await tx.execute(FORGET, {"b_bank": bank, "b_month": month})
                if await tx.first(STILL_OPEN[bank_month(bank, month)], {}) is not None:
                    raise _Open
        except _Open:
            return

    async def _table(self, bank: str, month: int) -> str:
        """The suffix of a month's table, which exists from now on."""
        suffix = bank_month(bank, month)
        if suffix not in self._made:
            await ensure_flow_table(self._db, bank, month)
            self._made[suffix] = None
        return suffix


__all__ = ["ABNORMAL", "CANDIDATE", "CREDITED", "MATCHED", "NEW", "OPEN", "STATUS_NAMES", "VOID", "WINDOW_WAIT", "Flow",
           "Statements", "Taken", "month_at", "month_of", "months_between"]
