"""The engine: takes a fact, writes the step, carries out what the step requested, takes the outcome as the next fact.

One transaction per step holds the new state (guarded by ``version``), the Flow record, the outbox rows and the
request id. Whatever dies between two awaits is found again in the outbox and asked again under the same key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from sqlalchemy import bindparam, update

from core.alerts import raise_alert
from core.clock import Clock
from core.domain import BizType, Role
from core.errors import CallFailed, Code, OutcomeUnknown, Refusal
from core.hops import Hop, belongs_to
from core.locks import Locks
from core.orchestration import records as R
from core.orchestration import withdraw_table as W
from core.orchestration.decisions import Decisions
from core.orchestration.records import SYSTEM, Actor, Effect, Procedure
from core.orchestration.table import Row, State, Verdict
from core.settings import Settings
from core.storage import Database, Statement, Transaction
from core.storage.procedure import outbox
from core.trace import Trace
from core.transfer import TRANS_TYPES

PENDING, DONE, SUPERSEDED = 0, 1, 2

# What a fact means for a withdrawal that will not be paid, or a deposit that will not be credited.
REASONS = {
    "FREEZE_REFUSED": "FREEZE_FAILED", "DEDUCT_REFUSED": "DEDUCT_FAILED", "REJECT": "OPS_REJECT",
    "MANUAL_REJECT": "MANUAL_REJECT", "CANCEL": "OPS_CANCEL", "BANK_FAILED": "BANK_FAILED",
    "MANUAL_FAILED": "MANUAL_TRANSFER_FAILED", "TRADE_DAY_FAILED": "BANK_FAILED", "CREDIT_REFUSED": "RC_REJECTED",
    "FORCE_ROLLBACK_DEDUCTED": "FORCE_ROLLBACK", "FORCE_ROLLBACK_FROZEN": "FORCE_ROLLBACK",
    "FORCE_ROLLBACK_UNFUNDED": "FORCE_ROLLBACK", "DEBITED": "REVERSAL", "ADDED_BACK": "REVERSAL",
}
INTENTS = {fact: "reject" for fact in REASONS if fact not in ("DEBITED", "ADDED_BACK", "CREDIT_REFUSED")}
INTENTS["CANCEL"] = "cancel"
# What is true at the bank, as far as the fact says.
BANK_RESULTS = {"BANK_SUCCESS": "SUCCESS", "BANK_FAILED": "FAILED", "MANUAL_DONE": "SUCCESS", "MANUAL_FAILED": "FAILED",
                "FORCE_COMPLETE": "SUCCESS", "FORCE_ROLLBACK_DEDUCTED": "FAILED", "FORCE_ROLLBACK_FROZEN": "FAILED",
                "FORCE_ROLLBACK_UNFUNDED": "FAILED"}
# What a supervisor's force leaves undone: it was not known to have been said, and now something else is true.
UNSAID = ("INSTRUCT", "TELL_WITHDRAW")
# Effects whose definite failure needs a person at once, and the alert that says so.
GUARDED = {"RELEASE": "AIRSTAR-08", "RESTORE": "WD-04", "CONSUME": "WD-04"}


LEAVE = Statement(
    update(outbox).where(outbox.c.id == bindparam("b_id"), outbox.c.state == PENDING)
    .values(state=SUPERSEDED, updated_at=bindparam("now")))


class Fact(NamedTuple):
    """Something that happened, with what is worth keeping of it."""

    name: str
    reason: str = ""
    remark: str = ""
    by: Actor = SYSTEM
    tag: str = ""  # request id of an operator's request: part of the keys of the effects it asks for


class Outcome(NamedTuple):
    """What came of an effect: the next fact, or none; ``marks`` are columns of the Procedure to write with it."""

    fact: Fact | None = None
    marks: Mapping[str, Any] = {}
    refusal: Refusal | None = None


Performer = Callable[[Procedure, Effect], Awaitable[Outcome]]
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Request(NamedTuple):
    """An operation's idempotency: written with its first step."""

    biz: str
    id: str
    result: str


class Voided(Exception):
    """An effect's key was closed before anything happened under it: it is asked for again under a new one."""


class StaleVersion(Exception):
    """Somebody else moved the Procedure between our read and our write (LOCK-01, LOCK-04)."""


class Engine:
    """Steps Procedures of one core. Holds no Procedure between calls: a waiting one is a row and a due time."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, locks: Locks, decisions: Decisions, settings: Settings,
        performers: Mapping[str, Performer], spawn: Spawn, owner: str,
    ) -> None:
        self._db, self._clock, self._trace, self._locks = db, clock, trace, locks
        self._decisions, self._performers, self._spawn, self._owner = decisions, performers, spawn, owner
        self._lock_ttl: int = settings["sba.lock.ttl_ms"]
        self._lock_wait: int = settings["sba.lock.wait_ms"]
        self._retry_ms: int = settings["sba.outbox.retry_ms"]
        self._alert_tries: int = settings["sba.outbox.alert_tries"]
        self._alert_age: int = settings["sba.outbox.alert_age_ms"]
        self._lease_ms: int = settings["sba.outbox.lease_ms"]
        self._held: dict[int, tuple[str, int]] = {}  # Procedure -> token of its lock, epoch ms until which it holds
        self._replaced: dict[int, list[Effect]] = {}  # Procedure whose lock is held -> effects a decision replaces
        self._timers: dict[int, asyncio.TimerHandle] = {}  # Procedure -> when it is resumed
        self._resuming: dict[int, None] = {}
        self._alerted: dict[int, None] = {}  # effects whose failing was alerted; forgotten at a restart

    # Reading

    async def load(self, procedure_id: int) -> Procedure | None:
        """The Procedure with its pending effects, or None."""
        row = await self._db.first(R.FIND, {"b_id": procedure_id})
        if row is None:
            return None
        p = Procedure(*row)
        if p.biz_type == BizType.CASH_DEPOSIT:
            detail = await self._db.first(R.FIND_DEPOSIT, {"b_id": procedure_id})
            p.fields = R.DepositFields._make(detail or ())
        else:
            detail = await self._db.first(R.FIND_WITHDRAW, {"b_id": procedure_id})
            p.fields = R.WithdrawFields._make(detail or ())
        p.pending = [Effect(*effect) for effect in await self._db.all(R.EFFECTS_OF, {"b_id": procedure_id})]
        belongs_to(p.trace_id)
        return p

    # Locking (LOCK-02): a second worker waits, then is told LOCK_BUSY

    async def lock(self, procedure_id: int) -> str | None:
        """Token of ``procedure:{id}``, or None when another worker holds it for longer than the wait."""
        token = await self._locks.acquire(f"procedure:{procedure_id}", self._owner, self._lock_ttl, self._lock_wait)
        if token is not None:
            self._held[procedure_id] = (token, self._clock.now_ms() + self._lock_ttl)
        return token

    async def _keep(self, procedure_id: int) -> None:
        """Renew the lock before an effect that may outlast it (B-31); raises `StaleVersion` if it is lost (LOCK-04)."""
        token, until = self._held.get(procedure_id, ("", 0))
        now = self._clock.now_ms()
        if until - now > self._lock_ttl * 3 // 4:  # the tries of one effect take up to 20 s (gaps.md B-14)
            return
        if not await self._locks.renew(f"procedure:{procedure_id}", token, self._lock_ttl):
            raise StaleVersion(f"the lock of P{procedure_id} was lost")
        self._held[procedure_id] = (token, now + self._lock_ttl)

    async def unlock(self, procedure_id: int, token: str) -> None:
        if self._held.get(procedure_id, ("", 0))[0] == token:
            del self._held[procedure_id]
        self._replaced.pop(procedure_id, None)
        await self._locks.release(f"procedure:{procedure_id}", token)

    # Creating

    async def create(
        self, p: Procedure, fields: dict[str, Any], row: Row, by: Actor, remark: str, request: Request
    ) -> None:
        """Insert a Procedure with its first Flow record and take the decisions that follow at once; sets ``p.id``."""
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            p.id = await tx.insert(R.NEW_INFO, {name: getattr(p, name) for name in R._INFO if name != "id"})
            statement = R.NEW_DEPOSIT if p.biz_type == BizType.CASH_DEPOSIT else R.NEW_WITHDRAW
            await tx.execute(statement, {"procedure_id": p.id, **fields})
            await self._record(tx, p, row, None, Fact("CREATE", remark=remark, by=by), now)
            await self._request(tx, p, row.effects, now, Fact("CREATE"), asked=False)
            await self._remember(tx, p, request, now)
            await self._decide_on(tx, p, now)
            tx.after_commit(lambda: belongs_to(p.trace_id))

    # Stepping

    async def take(
        self, p: Procedure, fact: Fact, *, request: Request | None = None, finished: Effect | None = None,
        marks: Mapping[str, Any] | None = None, outcome: bool = False,
    ) -> Refusal | None:
        """Write one fact and all that follows from it at once, in one transaction.

        Returns a refusal (nothing was written) when no row takes the fact; raises `StaleVersion` when the row moved,
        `OutcomeUnknown` when something else is in flight that may still move it. The caller holds the lock.
        ``finished``: the outbox row whose ``outcome`` this fact is, or else the one that this decision replaces.
        """
        verdict = p.machine.verdict(p.state, fact.name)
        if verdict is Verdict.REFUSED:
            return Refusal(Code.ILLEGAL_STATE, f"{fact.name} does not apply in {p.state.label}")
        replaced = self._replaced_by(p, fact, finished)
        ended = {effect.id: SUPERSEDED for effect in replaced}
        if finished is not None:
            ended[finished.id] = DONE if outcome else SUPERSEDED
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            for effect_id, state in ended.items():
                await tx.execute(R.EFFECT_DONE, {"b_id": effect_id, "state": state, "now": now})
            if marks:
                await self._mark(tx, p, marks)
            if verdict is Verdict.IGNORED or _contradicts(p, fact):
                await self._late(tx, p, fact, now)
            else:
                await self._move(tx, p, verdict, fact, now)
                await self._decide_on(tx, p, now)
            if request is not None:
                await self._remember(tx, p, request, now)
        p.pending = [effect for effect in p.pending if effect.id not in ended]
        self._replaced.pop(p.id, None)
        return None

    def _replaced_by(self, p: Procedure, fact: Fact, finished: Effect | None) -> list[Effect]:
        """Further effects that a decision leaves undone; one whose outcome may still come lets nobody decide."""
        others = [effect for effect in p.pending if finished is None or effect.id != finished.id]
        unsaid = [effect for effect in others if fact.name.startswith("FORCE_") and effect.name in UNSAID]
        flying = [effect for effect in others if effect not in unsaid]
        if flying:
            raise OutcomeUnknown(f"P{p.id}: {flying[0].name} is in flight; wait for its outcome")
        return self._replaced.get(p.id, []) + unsaid

    async def _decide_on(self, tx: Transaction, p: Procedure, now: int) -> None:
        """Take the decisions that follow at once. The machines have no cycle of decisions, so this ends."""
        before = p.due_at
        while (name := self._decisions.next_fact(p, now)) is not None:
            row = p.machine.verdict(p.state, name)
            assert isinstance(row, Row), (p.state, name)
            await self._move(tx, p, row, Fact(name), now)
            before = p.due_at
        if p.due_at != before:
            await self._mark(tx, p, {})

    async def _move(self, tx: Transaction, p: Procedure, row: Row, fact: Fact, now: int) -> None:
        p.reason = fact.reason or REASONS.get(fact.name, p.reason)
        p.intent = INTENTS.get(fact.name, p.intent)
        p.bank_result = BANK_RESULTS.get(fact.name, p.bank_result)
        if row.target is None:
            if fact.name == "SETTLE_REFUSED":
                p.bank_result = ""
            await self._mark(tx, p, {})
            self._trace.publish(tx, "note", f"P{p.id}", {"id": p.id, "fact": fact.name, "detail": fact.remark})
        else:
            await self._change_state(tx, p, row, fact, now)
        await self._request(tx, p, row.effects, now, fact, asked=row.target is None)

    async def _change_state(self, tx: Transaction, p: Procedure, row: Row, fact: Fact, now: int) -> None:
        assert row.target is not None
        left = p.state
        if row.target == W.MOVE_NEXT and p.biz_type == BizType.CASH_WITHDRAW:
            p.transaction_date, p.due_at = self._decisions.defer(p, now, past_today=fact.name == "DEFER")
            p.attempt_no += 1
        elif left != W.DEDUCT_DONE or row.target != W.WAITING_TRADE:
            p.due_at = None
        if row.target.status == "end_ok":
            p.reason = p.intent = ""
        p.status, p.ext_status = row.target
        changed = await tx.execute(R.MOVE, {
            "b_id": p.id, "b_version": p.version, "b_revision": p.revision, "status": p.status,
            "ext_status": p.ext_status,
            "transaction_date": p.transaction_date, "reason": p.reason, "intent": p.intent,
            "attempt_no": p.attempt_no, "bank_result": p.bank_result, "due_at": p.due_at, "updated_at": now})
        if changed != 1:
            raise StaleVersion(f"P{p.id} is no longer at version {p.version}")
        p.version += 1
        p.revision += 1
        p.updated_at = now
        if row.target == W.END_REVERSE and p.biz_type == BizType.CASH_WITHDRAW:
            await tx.execute(R.FREE_TASK, {"b_id": p.id})
        await self._record(tx, p, row, left, fact, now)

    async def _record(self, tx: Transaction, p: Procedure, row: Row, left: State | None, fact: Fact, now: int) -> None:
        """The Flow record and the event of one transition (SBA-FLOW-01)."""
        flow_id = await tx.insert(R.NEW_FLOW, {
            "procedure_id": p.id, "from_status": left.status if left else "", "to_status": p.status,
            "from_ext_status": left.ext if left else "", "to_ext_status": p.ext_status, "operator": fact.by.id,
            "remark": fact.remark, "created_at": now})
        self._trace.publish(tx, "procedure", f"P{p.id}", {
            "id": p.id, "trace": p.trace_id, "biz": p.biz_type, "row": row.id,
            "from": left.label if left else "", "to": p.state.label,
            "version": p.version, "attempt": p.attempt_no, "operator": fact.by.id, "remark": fact.remark,
            "fact": fact.name, "uid": p.nn_uid, "channel": channel(p), "ccy": p.fields.ccy, "amount": p.fields.amount,
            "date": p.transaction_date, "reason": p.reason, "hold": p.hold_id, "seq": flow_id})

    async def _request(
        self, tx: Transaction, p: Procedure, effects: tuple[str, ...], now: int, fact: Fact, *, asked: bool
    ) -> None:
        """Outbox rows. The version makes the key new for each request and the same for each retry of it; what an
        operator requests without a change of version (a second reversal) is told apart by his request id.

        ``asked``: the state moves on the outcome only, so the effect carries who asked for it into that Flow record.
        """
        for name in effects:
            key = f"P{p.id}:{p.attempt_no}:{p.version}:{name}" + (f":{fact.tag}" if fact.tag else "")
            await self._enqueue(tx, p, name, key, now, _asked(fact) if asked else "")

    async def _enqueue(self, tx: Transaction, p: Procedure, name: str, key: str, now: int, asked: str) -> None:
        effect_id = await tx.insert(R.NEW_EFFECT, {
            "procedure_id": p.id, "attempt": p.attempt_no, "effect": name, "key": key, "payload": asked,
            "state": PENDING, "tries": 0, "due_at": now + self._lease_ms, "created_at": now, "updated_at": now})
        p.pending.append(Effect(effect_id, name, key, p.attempt_no, 0, now, asked))

    async def _mark(self, tx: Transaction, p: Procedure, marks: Mapping[str, Any]) -> None:
        """Write attributes that are no state: they neither move the Procedure nor raise its version."""
        own = {name: value for name, value in marks.items() if name in R.Procedure.__slots__}
        for name, value in own.items():
            setattr(p, name, value)
        changed = await tx.execute(R.MARK, {
            "b_id": p.id, "b_version": p.version, "b_revision": p.revision,
            "poll_exhausted": p.poll_exhausted, "abnormal": p.abnormal,
            "bank_ack_at": p.bank_ack_at, "bank_result": p.bank_result, "reason": p.reason, "intent": p.intent,
            "due_at": p.due_at})
        if changed != 1:
            raise StaleVersion(f"P{p.id} was written by somebody else at version {p.version}")
        p.revision += 1
        detail = {name: value for name, value in marks.items() if name not in own}
        if detail.get("transfer_ref_id"):
            self._trace.publish(tx, "note", f"P{p.id}", {
                "id": p.id, "fact": "INSTRUCTED", "detail": detail["transfer_ref_id"]})
        if detail:
            p.fields = p.fields._replace(**detail)
            w = p.withdraw
            await tx.execute(R.MARK_WITHDRAW, {
                "b_id": p.id, "transfer_ref_id": w.transfer_ref_id, "request_id": w.request_id,
                "poll_count": w.poll_count, "bank_submitted": w.bank_submitted, "bank_code": w.bank_code})

    async def _late(self, tx: Transaction, p: Procedure, fact: Fact, now: int) -> None:
        """A bank result after the decision: recorded, compared, never applied (A-22, SBA-API-18)."""
        result = BANK_RESULTS[fact.name]
        await tx.execute(R.NEW_LATE, {"procedure_id": p.id, "result": result, "code": fact.reason,
                                      "source": fact.by.id, "created_at": now})
        self._trace.publish(tx, "note", f"P{p.id}", {"id": p.id, "fact": fact.name, "detail": f"late: {result}"})
        if result != (p.bank_result or "FAILED"):
            tx.after_commit(lambda: raise_alert(
                self._trace, "WD-08", f"P{p.id}", f"bank says {result}, decided was {p.bank_result or 'not paid'}"))

    async def _remember(self, tx: Transaction, p: Procedure, request: Request, now: int) -> None:
        await tx.execute(R.REMEMBER, {"biz_type": request.biz, "rpc_request_id": request.id, "procedure_id": p.id,
                                      "result": request.result, "created_at": now, "updated_at": now})

    # Marks from outside (poll counts, references): same guard, no step

    async def mark(self, p: Procedure, **marks: Any) -> None:
        """Write attributes of a Procedure whose lock the caller holds."""
        async with self._db.transaction() as tx:
            await self._mark(tx, p, marks)

    # Carrying out

    async def run(self, p: Procedure) -> Refusal | None:
        """Carry out pending effects until none is left or one's outcome stays unknown (it is tried again later).

        Returns the refusal of the last effect, if it was refused.
        """
        refusal = None
        while p.pending:
            await self._keep(p.id)
            effect = p.pending[0]
            try:
                outcome = await self._perform(p, effect)
            except Voided:
                await self._ask_anew(p, effect)
                continue
            if outcome is None:
                return Refusal(Code.DEPENDENCY_TIMEOUT, f"{effect.name}: outcome unknown, it is asked again")
            refusal = outcome.refusal
            await self._finish(p, effect, outcome)
        return refusal

    async def _finish(self, p: Procedure, effect: Effect, outcome: Outcome) -> None:
        if outcome.fact is not None:
            refused = await self.take(p, _in_name_of(effect, outcome.fact), finished=effect, marks=outcome.marks,
                                      outcome=True)
            assert refused is None, refused
            return
        async with self._db.transaction() as tx:
            await tx.execute(R.EFFECT_DONE, {"b_id": effect.id, "state": DONE, "now": self._clock.now_ms()})
            if outcome.marks:
                await self._mark(tx, p, outcome.marks)
        p.pending.remove(effect)

    async def _ask_anew(self, p: Procedure, effect: Effect) -> None:
        """Whoever closed this key did not decide in the end (he was killed, or lacked an answer): a new key."""
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            if await tx.execute(LEAVE, {"b_id": effect.id, "now": now}) != 1:
                raise StaleVersion(f"P{p.id}: somebody decided without {effect.name}")
            p.pending.remove(effect)
            await self._enqueue(tx, p, effect.name, f"{effect.key}#", now, effect.asked)
        p.pending.insert(0, p.pending.pop())

    async def _perform(self, p: Procedure, effect: Effect) -> Outcome | None:
        """The outcome, or None when it stays unknown or failed in a way that must be tried again."""
        try:
            return await self._performers[effect.name](p, effect)
        except OutcomeUnknown as silence:
            await self._later(p, effect, str(silence), definite=False)
        except CallFailed as failure:
            await self._later(p, effect, str(failure), definite=True)
        return None

    async def _later(self, p: Procedure, effect: Effect, why: str, *, definite: bool) -> None:
        now = self._clock.now_ms()
        tries = effect.tries + 1
        await self._db.execute(R.EFFECT_LATER, {
            "b_id": effect.id, "tries": tries, "due": now + self._retry_ms, "now": now})
        rule = GUARDED.get(effect.name)
        failing = (definite and tries >= self._alert_tries) or now - effect.created_at > self._alert_age
        if rule and failing and effect.id not in self._alerted:
            self._alerted[effect.id] = None
            raise_alert(self._trace, rule, f"P{p.id}", f"{effect.name} has failed {tries} times: {why}")
        p.pending = [effect._replace(tries=tries) if other.id == effect.id else other for other in p.pending]
        self._call_later(p.id)

    def _call_later(self, procedure_id: int) -> None:
        """One timer per Procedure, however many ask for it: what stays silent must not be asked ever more often."""
        if procedure_id not in self._timers:
            self._timers[procedure_id] = asyncio.get_running_loop().call_later(
                self._retry_ms / 1000, self._wake, procedure_id)

    def _wake(self, procedure_id: int) -> None:
        del self._timers[procedure_id]
        self._spawn(self.resume(procedure_id))

    async def resume(self, procedure_id: int) -> None:
        """Go on with whatever is pending for a Procedure: after silence, a crash, or a lost worker."""
        if procedure_id in self._resuming:
            return
        self._resuming[procedure_id] = None
        try:
            with Hop(self._trace, "sba.resume", "procedure_system", of=""):
                await self._resume(procedure_id)
        finally:
            del self._resuming[procedure_id]

    async def _resume(self, procedure_id: int) -> None:
        token = await self.lock(procedure_id)
        if token is None:
            self._call_later(procedure_id)
            return
        try:
            p = await self.load(procedure_id)
            if p is not None:
                await self.run(p)
        except StaleVersion:
            self._call_later(procedure_id)
        finally:
            await self.unlock(procedure_id, token)

    async def sweep(self) -> int:
        """Resume every Procedure whose effect is overdue and that is not looked after here already; returns how many.
        Run at start and periodically."""
        due = await self._db.all(R.EFFECTS_DUE, {"now": self._clock.now_ms()})
        forgotten = [row[0] for row in due if row[0] not in self._timers and row[0] not in self._resuming]
        for procedure_id in forgotten:
            self._spawn(self.resume(procedure_id))
        return len(forgotten)

    async def supersede(self, p: Procedure, effect: Effect) -> None:
        """Leave out an effect that is proven not to have happened and never will (its key was voided).

        The decision that replaces it writes that down with itself; if none is taken, it is asked for anew.
        """
        p.pending.remove(effect)
        self._replaced.setdefault(p.id, []).append(effect)


def _asked(fact: Fact) -> str:
    """Who asked for an effect and why, for its outbox row; empty for the platform itself."""
    return "" if fact.by == SYSTEM else json.dumps([fact.by.id, fact.by.role, fact.remark])


def _in_name_of(effect: Effect, outcome: Fact) -> Fact:
    """The outcome of what a person asked for is his action in the audit trail (SBA-FLOW-03, SBA-FLOW-06)."""
    if not effect.asked:
        return outcome
    operator, role, remark = json.loads(effect.asked)
    return outcome._replace(by=Actor(operator, Role(role)), remark=outcome.remark or remark)


def _contradicts(p: Procedure, fact: Fact) -> bool:
    """A bank that says the opposite of what it said while the trading day was awaited: recorded and alerted, the first
    word stands until a person decides."""
    return p.state == W.WAITING_TRADE and fact.name in ("BANK_SUCCESS", "BANK_FAILED") and (
        p.bank_result not in ("", BANK_RESULTS[fact.name]))


def channel(p: Procedure) -> str:
    """Channel label of reports and latencies."""
    if p.biz_type == BizType.CASH_DEPOSIT:
        return TRANS_TYPES[p.deposit.transfer_method].channel
    return f"{p.withdraw.transfer_dest_bank if p.is_bst else p.withdraw.transfer_method} withdrawal"
