"""A match as rows: an entry of a statement bound to an application, until the match is taken apart before the credit,
or its deposit is rejected: then the claim is given up, with a row that says so, and people decide about the entry.

One transaction writes all of it: ``is_used`` 0 -> 1 by compare-and-set, the global claim (A-27), the row of ``matches``
and that of ``deposits``, the Apply's move to MATCHED, the job that credits, and the closing of the entry among the
abnormal deposits. Whoever comes second finds one of them taken, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, insert, select, update

from core.clock import Clock
from core.deposits.abnormal_list import OWNED, close_abnormal
from core.deposits.applications import Applications, Apply
from core.deposits.statements import MATCHED, NEW, Flow, Statements
from core.domain import ApplyStatus
from core.hops import belongs_to
from core.jobs import Jobs
from core.orchestration.records import RC_REASONS
from core.storage import Database, Questions, Sequence, Sharded, Statement, Transaction, UniqueViolation
from core.storage.primary import deposits, flow_claim, flow_release, matches, smart_reminder
from core.trace import Trace

CREDIT: Final = "StatementCredit"
AUTO, ASSISTED, MANUAL = "AUTO", "ASSISTED", "MANUAL"
"""Tiers of a match: by the round, or by a person with or without a candidate of the round."""


class Match(NamedTuple):
    """One row of ``matches_NN``; its id ends in its shard, like an Apply's."""

    id: int
    apply_id: int
    uid: int
    flow_id: int
    bank_type: str
    tier: str
    dims: str
    amount_diff: int
    operator: str
    created_at: int


class Deposit(NamedTuple):
    """One row of ``deposits_NN``: the crediting of a match. ``status`` is an `ApplyStatus`."""

    id: int
    apply_id: int
    uid: int
    match_id: int | None
    procedure_id: int | None
    ccy: str
    amount: int
    status: int


def _shard(id: int) -> str:
    return f"{id % 100:02d}"


NEW_MATCH = Sharded(lambda t: insert(t).values({name: bindparam(name) for name in (
    *Match._fields, "updated_at")}), matches)
MATCH = Sharded(lambda t: select(*(t.c[name] for name in Match._fields)).where(t.c.id == bindparam("b_id")), matches)
NEW_DEPOSIT = Sharded(lambda t: insert(t).values({name: bindparam(name) for name in (
    *Deposit._fields, "created_at", "updated_at")}), deposits)
DEPOSIT = Sharded(lambda t: select(*(t.c[name] for name in Deposit._fields)).where(t.c.id == bindparam("b_id")),
                  deposits)
DEPOSITS_OF = Sharded(lambda t: select(*(t.c[name] for name in Deposit._fields)).where(
    t.c.apply_id == bindparam("apply")).order_by(t.c.id.desc()), deposits)
MOVE_DEPOSIT = Sharded(lambda t: update(t).where(
    t.c.id == bindparam("b_id"), t.c.status == bindparam("b_status")).values(
    {name: bindparam(name) for name in ("status", "procedure_id", "updated_at")}), deposits)
CLAIM = Statement(insert(flow_claim).values({name: bindparam(name) for name in (
    "bank_type", "flow_id", "apply_id", "claimed_at")}))
OWNER = Statement(select(flow_claim.c.apply_id).where(
    flow_claim.c.bank_type == bindparam("bank"), flow_claim.c.flow_id == bindparam("flow")))
GIVE_UP_CLAIM = Statement(delete(flow_claim).where(
    flow_claim.c.bank_type == bindparam("b_bank"), flow_claim.c.flow_id == bindparam("b_flow")))
_G = flow_release.c
_OF_FLOW = (_G.bank_type == bindparam("bank"), _G.flow_id == bindparam("flow"))
RELEASE = Statement(insert(flow_release))
RELEASED = Statement(select(_G.attempt, _G.apply_id).where(*_OF_FLOW).order_by(_G.attempt.desc()).limit(1))
REFUSED = Statement(select(_G.apply_id).where(*_OF_FLOW, _G.reason.in_(RC_REASONS)).order_by(_G.attempt))
FORGET_REMINDER = Statement(delete(smart_reminder).where(
    smart_reminder.c.bank_type == bindparam("b_bank"), smart_reminder.c.flow_id == bindparam("b_flow")))

Also = Callable[[Transaction, Match], Awaitable[None]]
"""What else belongs to the transaction of a match, given the match."""


async def was_released(tx: Questions, flow: Flow) -> bool:
    """Whether an entry was to credit a deposit that was rejected."""
    return await tx.first(RELEASED, {"bank": flow.bank_type, "flow": flow.id}) is not None


class _Moved(Exception):
    """Somebody else was quicker: the transaction is rolled back."""


class Links:
    """The matches of one core, in the primary database."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, jobs: Jobs, statements: Statements, applications: Applications,
        *, tries: int,
    ) -> None:
        """``tries``: retries of the job that credits."""
        self._db, self._clock, self._trace, self._jobs = db, clock, trace, jobs
        self._statements, self._applications, self._tries = statements, applications, tries
        self.match_ids, self.deposit_ids = Sequence(db, "match"), Sequence(db, "deposit")

    async def begin(self) -> None:
        """Once at a core's start."""
        await self.match_ids.begin()
        await self.deposit_ids.begin()

    async def match(
        self, flow: Flow, apply: Apply, tier: str, dims: str, operator: str, *, wait_ms: int = 0,
        remark: str = "", also: Also | None = None,
    ) -> Match | None:
        """Bind an entry to an application and queue the credit of the statement's amount; None (nothing is written) if
        one of the two has moved since it was read, or the entry is claimed. ``wait_ms``: before the credit begins;
        ``remark``: why, for the list of abnormal deposits if the entry is on it."""
        try:
            async with self._db.transaction() as tx:
                return await self._match(tx, flow, apply, tier, dims, operator, wait_ms, remark, also)
        except (_Moved, UniqueViolation):
            return None

    async def _match(self, tx: Transaction, flow: Flow, apply: Apply, tier: str, dims: str, operator: str,
                     wait_ms: int, remark: str, also: Also | None) -> Match:
        now = self._clock.now_ms()
        if await self._statements.change(tx, flow, status=MATCHED, is_used=1) is None:
            raise _Moved
        await close_abnormal(tx, self._trace, flow, OWNED, operator, remark, now)
        await tx.execute(CLAIM, {"bank_type": flow.bank_type, "flow_id": flow.id, "apply_id": apply.id,
                                 "claimed_at": now})
        if await self._applications.change(tx, apply, ApplyStatus.MATCHED, matched_flow_id=flow.id) is None:
            raise _Moved
        match = Match(await self._id(tx, self.match_ids, apply), apply.id, apply.uid, flow.id, flow.bank_type, tier,
                      dims, apply.amount - flow.amount, operator, now)
        await tx.execute(NEW_MATCH[_shard(match.id)], match._asdict() | {"updated_at": now})
        deposit = Deposit(await self._id(tx, self.deposit_ids, apply), apply.id, apply.uid, match.id, None, flow.ccy,
                          flow.amount, int(ApplyStatus.MATCHED))
        await tx.execute(NEW_DEPOSIT[_shard(deposit.id)], deposit._asdict() | {"created_at": now, "updated_at": now})
        await tx.execute(FORGET_REMINDER, {"b_bank": flow.bank_type, "b_flow": flow.id})
        if also is not None:
            await also(tx, match)
        await self._jobs.enqueue(tx, CREDIT, f"M{match.id}", {
            "apply": apply.id, "deposit": deposit.id, "attempt": await self._attempts(tx, flow) + 1},
            now + wait_ms, self._tries)
        self._tell(tx, match, "MATCHED", deposit.id)
        tx.after_commit(lambda: belongs_to(f"A{apply.id}"))
        return match

    @staticmethod
    async def _id(tx: Transaction, numbers: Sequence, apply: Apply) -> int:
        return await numbers.next(tx) * 100 + apply.uid % 100

    async def unmatch(
        self, flow: Flow, apply: Apply, match: Match, deposit: Deposit, operator: str, *,
        to: ApplyStatus = ApplyStatus.WAIT_MATCH, flow_to: int = NEW, also: Also | None = None,
    ) -> bool:
        """Take a match apart whose credit has not begun; False if it has, or something else moved. ``to``, ``flow_to``:
        what the application and the entry become."""
        if deposit.status != ApplyStatus.MATCHED:
            return False
        try:
            async with self._db.transaction() as tx:
                if not await self.move(tx, deposit, ApplyStatus.CANCELLED):
                    raise _Moved
                if await self._applications.change(tx, apply, to, matched_flow_id=None) is None:
                    raise _Moved
                if await self._statements.change(tx, flow, status=flow_to, is_used=0) is None:
                    raise _Moved
                await tx.execute(GIVE_UP_CLAIM, {"b_bank": flow.bank_type, "b_flow": flow.id})
                if also is not None:
                    await also(tx, match)
                self._tell(tx, match._replace(operator=operator), "UNMATCHED", deposit.id)
        except _Moved:
            return False
        return True

    async def release(self, tx: Transaction, flow: Flow, apply: Apply, procedure_id: int, reason: str, *,
                      flow_to: int) -> bool:
        """The deposit that an entry was to credit is rejected for good: the entry is unused again, within the caller's
        transaction. False if it has moved since it was read."""
        if await self._statements.change(tx, flow, status=flow_to, is_used=0) is None:
            return False
        await tx.execute(GIVE_UP_CLAIM, {"b_bank": flow.bank_type, "b_flow": flow.id})
        await tx.execute(RELEASE, {
            "bank_type": flow.bank_type, "flow_id": flow.id, "attempt": await self._attempts(tx, flow) + 1,
            "apply_id": apply.id, "procedure_id": procedure_id, "reason": reason[:64],
            "released_at": self._clock.now_ms()})
        return True

    async def released_by(self, tx: Questions, flow: Flow) -> int | None:
        """The application that had an entry last and was rejected, or None."""
        row = await tx.first(RELEASED, {"bank": flow.bank_type, "flow": flow.id})
        return int(row[1]) if row else None

    async def refused_of(self, tx: Questions, flow: Flow) -> list[int]:
        """The applications that an entry was to be credited for, and risk control refused."""
        return [int(apply_id) for (apply_id,) in await tx.all(REFUSED, {"bank": flow.bank_type, "flow": flow.id})]

    @staticmethod
    async def _attempts(tx: Questions, flow: Flow) -> int:
        """How many deposits from an entry were rejected."""
        row = await tx.first(RELEASED, {"bank": flow.bank_type, "flow": flow.id})
        return int(row[0]) if row else 0

    async def move(self, tx: Questions, deposit: Deposit, to: ApplyStatus, procedure_id: int | None = None) -> bool:
        """Set the status of a crediting, and its Procedure; False if it has moved since it was read."""
        return await tx.execute(MOVE_DEPOSIT[_shard(deposit.id)], {
            "b_id": deposit.id, "b_status": deposit.status, "status": int(to),
            "procedure_id": procedure_id or deposit.procedure_id, "updated_at": self._clock.now_ms()}) == 1

    # Reading

    async def deposit(self, deposit_id: int) -> Deposit:
        """A crediting that exists."""
        row = await self._db.first(DEPOSIT[_shard(deposit_id)], {"b_id": deposit_id})
        assert row is not None, deposit_id
        return Deposit(*row)

    async def latest(self, apply_id: int) -> tuple[Match, Deposit] | None:
        """The match of an application that was made last, with its crediting."""
        rows = await self._db.all(DEPOSITS_OF[_shard(apply_id)], {"apply": apply_id})
        if not rows or (deposit := Deposit(*rows[0])).match_id is None:
            return None
        return await self.of(deposit), deposit

    async def latest_in(self, tx: Questions, apply_id: int) -> Deposit | None:
        """The crediting of an application's last match, within the caller's transaction."""
        row = await tx.first(DEPOSITS_OF[_shard(apply_id)], {"apply": apply_id})
        return Deposit(*row) if row else None

    async def owner_of(self, bank: str, flow_id: int) -> int | None:
        """The application that has claimed an entry."""
        row = await self._db.first(OWNER, {"bank": bank, "flow": flow_id})
        return int(row[0]) if row else None

    async def of(self, deposit: Deposit) -> Match:
        """The match that a crediting belongs to."""
        assert deposit.match_id is not None, deposit
        row = await self._db.first(MATCH[_shard(deposit.match_id)], {"b_id": deposit.match_id})
        assert row is not None, deposit
        return Match(*row)

    def _tell(self, tx: Transaction, match: Match, phase: str, deposit_id: int) -> None:
        data: dict[str, Any] = {
            "phase": phase, "match": match.id, "apply": match.apply_id, "uid": match.uid, "flow": match.flow_id,
            "bank": match.bank_type, "tier": match.tier, "dims": match.dims, "amount_diff": match.amount_diff,
            "operator": match.operator, "deposit": deposit_id}
        self._trace.publish(tx, "match", f"A{match.apply_id}", data)
