"""The SBA service: creates Procedures, takes operations and bank results, answers what operations ask.

Every call is idempotent by ``rpc_request_id``; every operation states the version it saw; refusals are values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from core.clock import Clock
from core.domain import BizType, DepositType, Role
from core.errors import CallFailed, Code, OutcomeUnknown, Refusal
from core.hops import SBA, Hop
from core.orchestration import deposit_table as D
from core.orchestration import records as R
from core.orchestration import withdraw_table as W
from core.orchestration.decisions import Decisions, deposit_review, withdraw_review
from core.orchestration.engine import SUPERSEDED, Engine, Fact, Request, StaleVersion
from core.orchestration.operations import (
    BANK_STATUS,
    OPERATIONS,
    REVERSE_CONFIRMATIONS,
    Operation,
    allowed_role,
    allowed_state,
    enabled,
)
from core.orchestration.performers import FROZEN, IN_TRANSIT, Performers, RiskControl
from core.orchestration.records import SYSTEM, Actor, Effect, HistoryRow, Procedure, Reply, snapshot
from core.orchestration.requests import (
    REMARK_MAX,
    REQUEST_ID_MAX,
    DepositRequest,
    MarketShare,
    WithdrawRequest,
    check_deposit,
    check_withdraw,
    per_market,
)
from core.orchestration.screens import Deferral, deferral, review_screen
from core.orchestration.stuck import STUCK_AFTER, Stuck
from core.settings import Settings
from core.storage import Database, UniqueViolation
from core.trace import Trace

__all__ = ["DepositRequest", "MarketShare", "Sba", "WithdrawRequest"]

_UNDOABLE = ("FREEZE", "DEDUCT", "REFREEZE", "RESTORE", "RELEASE", "CONSUME", "SETTLE", "ADD_BACK", "CREDIT", "DEBIT")
# Operations that only ask risk control and stay in their state until it answers; where they lead if it agrees.
_ENDS_IN = {"CashDepositReverse": ("end_reverse",), "CashWithdrawForceProcess Complete": ("end_ok", "end_reverse")}
# What a creation's request id stands for: the same id with another of these is another request.
_IDENTITY = ("nn_uid", "trade_acc_id", "market", "ccy", "amount", "is_bs_transfer", "transaction_id", "task_id",
             "transfer_method", "transfer_dest_bank", "transfer_dest_card", "bank_launched", "hold_id", "deposit_type",
             "hold_type", "hold_apply_id", "source")
VOID = "VOID"  # result of a request id under which nothing was created and nothing will be
_REASONS = {"CashDepositManualReject": "MANUAL_REJECT"}  # where the fact alone would say something else
_UNDOING = ("CashWithdrawReject", "CashWithdrawForceProcess")
_CREATIONS: dict[str, str] = {BizType.CASH_DEPOSIT: "CashDepositCreate", BizType.CASH_WITHDRAW: "CashWithdrawCreate"}
_STARTED = (W.TRANSFER_AUTO, W.TRANSFER_MANUAL, W.MOVE_NEXT, W.WAITING_TRADE)


class _Order(NamedTuple):
    """One operation as it was asked for."""

    operation: Operation
    procedure_id: int
    version: int
    request_id: str
    by: Actor
    remark: str
    params: Mapping[str, Any]

    @property
    def what(self) -> str:
        """What the request id stands for: the operation, with the action of a force."""
        return " ".join(filter(None, (self.operation.name, self.params.get("action"))))

    @property
    def request(self) -> Request:
        return Request(self.operation.biz, self.request_id, self.what)


class Sba:
    """The service of one core."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, engine: Engine, decisions: Decisions, performers: Performers,
        risk_control: RiskControl, settings: Settings,
    ) -> None:
        self._db, self._clock, self._trace = db, clock, trace
        self.engine, self._decisions, self._performers, self._risk = engine, decisions, performers, risk_control
        self._stuck_after = {state: settings[key] * 1000 for state, key in STUCK_AFTER.items()}

    # Creation

    async def create_deposit(self, request: DepositRequest, by: Actor = SYSTEM) -> Reply:
        """CashDepositCreate: a Procedure in ``new(waiting)``, reviewed at once, credited unless a rule hits."""
        refusal = allowed_role(OPERATIONS["CashDepositCreate"], by) or check_deposit(request)
        if refusal:
            return self._refused("CashDepositCreate", "P0", refusal, by)
        hits = deposit_review(
            DepositType(request.deposit_type), request.amount, self._decisions.deposit_threshold(request.ccy),
            blacklisted=request.blacklisted, whitelisted=request.whitelisted)
        fields = R.DepositFields(
            request.apply_ref, request.transaction_id, request.amount, request.ccy, request.is_bs_transfer,
            request.transfer_method, request.deposit_type, request.hold_type, request.hold_apply_id, request.source,
            request.bank_ref_id, ",".join(hits), request.proposed_by)
        p = self._blank(BizType.CASH_DEPOSIT, request, D.WAITING, fields)
        row = {("apply_id" if name == "hold_apply_id" else name): value for name, value in fields._asdict().items()}
        existing = (R.SAME_TRANSACTION, {"bst": request.is_bs_transfer, "transaction": request.transaction_id})
        return await self._create(p, row, D.CREATION, by, request.rpc_request_id, existing)

    async def create_deposit_per_market(
        self, request: DepositRequest, shares: Sequence[MarketShare], by: Actor = SYSTEM
    ) -> list[Reply]:
        """A bank-securities transfer for several markets: one Procedure per market, in the order of ``shares``
        (SBA-PROC-04). A flaw in one refuses them all, with one reply; asked again it creates nothing twice."""
        requests = per_market(request, shares)
        refusal = requests if isinstance(requests, Refusal) else None
        if isinstance(requests, Refusal) or (refusal := _first_flaw(requests)):
            assert refusal is not None
            return [self._refused("CashDepositCreate", "P0", refusal, by)]
        return [await self.create_deposit(one, by) for one in requests]

    async def create_withdrawal(self, request: WithdrawRequest, by: Actor = SYSTEM) -> Reply:
        """CashWithdrawCreate: a Procedure in ``new(freeze)``, frozen at once; BST goes on to the bank by itself."""
        refusal = allowed_role(OPERATIONS["CashWithdrawCreate"], by) or check_withdraw(request)
        if refusal:
            return self._refused("CashWithdrawCreate", "P0", refusal, by)
        hits = withdraw_review(
            request.amount, self._decisions.withdraw_threshold(request.ccy),
            blacklisted=request.blacklisted, high_risk=request.high_risk)
        fields = R.WithdrawFields(
            request.task_id, request.amount, 0, request.ccy, request.transfer_method, request.transfer_dest_bank,
            request.transfer_dest_card, request.bank_launched, "", request.settled_amount,
            request.amount - request.settled_amount, request.payee_name, request.request_id, request.reviewed_by,
            ",".join(hits), 0, 0, "")
        p = self._blank(BizType.CASH_WITHDRAW, request, W.FREEZE, fields)
        p.hold_id = request.hold_id
        owner = await self._db.first(R.SAME_HOLD, {"hold": request.hold_id})
        if owner is not None and await self._owned_by_another(owner[0], request):
            held = Refusal(Code.INVALID_PARAM, f"hold {request.hold_id} belongs to P{owner[0]}")
            return self._refused("CashWithdrawCreate", f"P{owner[0]}", held, by)
        row = fields._asdict() | {"task_key": request.task_id}
        existing = (R.SAME_TASK, {"task": request.task_id})
        return await self._create(p, row, W.CREATION, by, request.rpc_request_id, existing)

    async def _owned_by_another(self, procedure_id: int, request: WithdrawRequest) -> bool:
        """A hold serves one withdrawal: that of its own Task, and again when that one was reversed."""
        other = await self.procedure(procedure_id)
        return other is not None and other.get("task_id") != request.task_id

    def _blank(self, biz: BizType, request: Any, state: Any, fields: Any) -> Procedure:
        now = self._clock.now_ms()
        p = Procedure(
            0, biz, request.nn_uid, request.market, request.trade_acc_id, state.status, state.ext, 1, 1, 0, "", "", 1,
            0, 0, None, "", "", None, now, now, fields)
        p.transaction_date = self._decisions.transaction_date(p, now)
        return p

    async def _create(
        self, p: Procedure, row: dict[str, Any], creation: Any, by: Actor, request_id: str,
        existing: tuple[Any, dict[str, Any]],
    ) -> Reply:
        name = _CREATIONS[p.biz_type]
        if (before := await self._created_before(name, p, request_id, by)) is not None:
            return before
        try:
            await self.engine.create(p, row, creation, by, "", Request(p.biz_type, request_id, name))
        except UniqueViolation:
            return await self._created_before(name, p, request_id, by) or await self._duplicate(*existing)
        token = await self.engine.lock(p.id)
        if token is None:  # somebody resumed it in the meantime; it goes on there
            return Reply(Code.OK, "", snapshot(p))
        try:
            refusal = await self.engine.run(p)
        except StaleVersion:  # the lock was lost, and whoever had it went on with the same keys
            return Reply(Code.OK, "", await self.procedure(p.id))
        finally:
            await self.engine.unlock(p.id, token)
        return Reply(Code.OK, refusal.detail if refusal else "", snapshot(p))

    async def _duplicate(self, statement: Any, params: dict[str, Any]) -> Reply:
        found = await self._db.first(statement, params)
        assert found is not None, "a unique key was violated by a row that is not there"
        return Reply(Code.DUPLICATE, f"P{found[0]} exists for this", await self.procedure(found[0]))

    async def _created_before(self, name: str, wanted: Procedure, request_id: str, by: Actor) -> Reply | None:
        """REPLAYED with the Procedure that this request id created (A-26); another request under it is refused."""
        row = await self._db.first(R.SEEN, {"biz": wanted.biz_type, "request": request_id})
        if row is None:
            return None
        if row[1] == VOID:
            return self._refused(name, "P0", Refusal(Code.ILLEGAL_STATE, f"{request_id} was given up"), by)
        stored, asked = await self.procedure(row[0]) or {}, snapshot(wanted)
        other = [field for field in _IDENTITY if stored.get(field) != asked.get(field)]
        if other or row[1] != name:
            return self._refused(name, f"P{row[0]}", _used(request_id, row, ", ".join(other)), by)
        return Reply(Code.REPLAYED, "", stored)

    async def created(self, biz: BizType, request_id: str) -> dict[str, Any] | None:
        """The Procedure that was created under a request id, or None (so far)."""
        row = await self._db.first(R.SEEN, {"biz": biz, "request": request_id})
        return await self.procedure(row[0]) if row is not None and row[1] != VOID else None

    async def give_up_creation(self, biz: BizType, request_id: str) -> dict[str, Any] | None:
        """None, and a creation under this id that is still under way will be refused; or the Procedure that exists."""
        if await self._db.first(R.SEEN, {"biz": biz, "request": request_id}) is None:
            now = self._clock.now_ms()
            try:
                await self._db.execute(R.REMEMBER, {
                    "biz_type": biz, "rpc_request_id": request_id, "procedure_id": 0, "result": VOID,
                    "created_at": now, "updated_at": now})
                return None
            except UniqueViolation:  # it was created at this moment
                pass
        return await self.created(biz, request_id)

    # Operations

    async def operate(
        self, name: str, procedure_id: int, *, version: int, rpc_request_id: str, by: Actor, remark: str = "",
        **params: Any,
    ) -> Reply:
        """One of the operations of `OPERATIONS` on an existing Procedure (all but the two creations).

        ``params``: ``confirmations`` (CashDepositReverse), ``action`` and ``bank_status`` (CashWithdrawForceProcess).
        """
        operation = OPERATIONS.get(name)
        if operation is None:
            return self._refused(name, f"P{procedure_id}", Refusal(Code.INVALID_PARAM, f"no operation {name!r}"), by)
        order = _Order(operation, procedure_id, version, rpc_request_id, by, remark, params)
        refusal = allowed_role(operation, by) or _check_params(order)
        if refusal:
            return self._refused(name, f"P{procedure_id}", refusal, by)
        token = await self.engine.lock(procedure_id)
        if token is None:
            return self._refused(name, f"P{procedure_id}", Refusal(Code.LOCK_BUSY, "another worker is on it"), by)
        try:
            return await self._replayed(order) or await self._operate(order)
        except StaleVersion as stale:
            return self._refused(name, f"P{procedure_id}", Refusal(Code.VERSION_CONFLICT, str(stale)), by)
        except (OutcomeUnknown, CallFailed) as silence:
            return self._refused(name, f"P{procedure_id}", Refusal(Code.DEPENDENCY_TIMEOUT, str(silence)), by)
        finally:
            await self.engine.unlock(procedure_id, token)

    async def _replayed(self, order: _Order) -> Reply | None:
        """The stored answer to a request id that came before, from what became of it; None if it is new."""
        row = await self._db.first(R.SEEN, {"biz": order.operation.biz, "request": order.request_id})
        if row is None:
            return None
        if row != (order.procedure_id, order.what):
            refusal = _used(order.request_id, row, "")
            return self._refused(order.operation.name, f"P{order.procedure_id}", refusal, order.by)
        p = await self.engine.load(order.procedure_id)
        assert p is not None, row
        if p.status in _ENDS_IN.get(order.what, (p.status,)):
            return Reply(Code.REPLAYED, "", snapshot(p))
        if p.pending:
            return Reply(Code.DEPENDENCY_TIMEOUT, "its outcome is still unknown", snapshot(p))
        return Reply(Code.INSUFFICIENT_BALANCE, "it was refused under this request id", snapshot(p))

    async def _operate(self, order: _Order) -> Reply:
        operation, by = order.operation, order.by
        p = await self.engine.load(order.procedure_id)
        if p is None:
            missing = Refusal(Code.NOT_FOUND, "no such Procedure")
            return self._refused(operation.name, f"P{order.procedure_id}", missing, by)
        refusal = _same_version(p, order.version) or allowed_state(operation, p, by)
        if refusal is None and p.pending:
            if operation.name in _UNDOING:
                await self._void(p)
            else:
                refusal = await self.engine.run(p)
            if operation.name == "CashWithdrawStartTransfer" and p.state in _STARTED:
                return await self._started(p, order)
            refusal = refusal or allowed_state(operation, p, by)
        if refusal:
            return self._refused(operation.name, f"P{p.id}", refusal, by, p)
        if operation.name == "CashWithdrawStartTransfer":
            return await self._start_transfer(p, order)
        return await self._state(p, order, await self._fact_of(p, order))

    async def _state(self, p: Procedure, order: _Order, fact: Fact) -> Reply:
        """State a fact in an operator's name and carry out what follows. Where the state has not moved because risk
        control is silent the answer is DEPENDENCY_TIMEOUT: it is asked again until it answers (B-31)."""
        name, before = order.operation.name, p.version
        refusal = await self.engine.take(p, fact, request=order.request)
        if refusal:
            return self._refused(name, f"P{p.id}", refusal, order.by, p)
        asked = list(p.pending)
        try:
            refusal = await self.engine.run(p)
        except StaleVersion:
            return await self._overtaken(order, asked)
        if refusal is None:
            return Reply(Code.OK, "", snapshot(p))
        if refusal.code is not Code.DEPENDENCY_TIMEOUT:
            return self._refused(name, f"P{p.id}", refusal, order.by, p)
        return Reply(refusal.code if p.version == before else Code.OK, refusal.detail, snapshot(p))

    async def _overtaken(self, order: _Order, asked: list[Effect]) -> Reply:
        """The lock was lost in the middle (LOCK-04). Whoever had it has carried on what was asked for here, and the
        answer is what came of it; or has decided otherwise instead, and this is a version conflict after all."""
        for effect in asked:
            row = await self._db.first(R.EFFECT_STATE, {"b_id": effect.id})
            if row is not None and row[0] == SUPERSEDED:
                raise StaleVersion(f"P{order.procedure_id}: another decision has replaced this one")
        reply = await self._replayed(order)
        assert reply is not None, order
        return replace(reply, code=Code.OK) if reply.code is Code.REPLAYED else reply

    async def _fact_of(self, p: Procedure, order: _Order) -> Fact:
        name = order.operation.fact or await self._force_fact(p, order.params)
        reason = "USER_CANCEL" if order.by.role is Role.USER else _REASONS.get(order.operation.name, "")
        return Fact(name, reason, order.remark, order.by, order.request_id)

    async def _void(self, p: Procedure) -> None:
        """Before a decision that undoes what is in flight: prove that it has not happened and never will, and leave it
        to the decision to replace it; if it did happen, take its outcome first, and the decision meets that (A-23)."""
        for effect in [effect for effect in p.pending if effect.name in _UNDOABLE]:
            done = await self._performers.ask("void", self._risk.void, effect.key)
            if done is not None and done.code is Code.OK:
                await self._take_outcome(p, effect)
                return
            await self.engine.supersede(p, effect)
        for question in [effect for effect in p.pending if effect.name == "INSPECT"]:
            await self.engine.supersede(p, question)

    async def _take_outcome(self, p: Procedure, effect: Effect) -> None:
        await self.engine.run(p)
        if any(other.id == effect.id for other in p.pending):
            raise OutcomeUnknown(f"{effect.name} has happened, and risk control does not say so yet")

    async def _start_transfer(self, p: Procedure, order: _Order) -> Reply:
        """From ``deduct_done``: look at the gates again. In ``new(blank)`` the deduction is carried out before this."""
        if p.state != W.DEDUCT_DONE:
            refusal = Refusal(Code.ILLEGAL_STATE, f"no deduction is under way; P{p.id} is {p.state.label}")
            return self._refused(order.operation.name, f"P{p.id}", refusal, order.by, p)
        route = self._decisions.route(p, self._clock.now_ms())
        if route.fact is None:
            blocked = Refusal(Code.BLOCKED, f"the bank's window opens at {route.due_at} (epoch ms)")
            return self._refused(order.operation.name, f"P{p.id}", blocked, order.by, p)
        return await self._state(p, order, Fact(route.fact, "", order.remark, order.by, order.request_id))

    async def _started(self, p: Procedure, order: _Order) -> Reply:
        """The deduction has led on to the transfer by itself (A-68): what was asked for is done."""
        now = self._clock.now_ms()
        await self._db.execute(R.REMEMBER, {
            "biz_type": order.operation.biz, "rpc_request_id": order.request_id, "procedure_id": p.id,
            "result": order.what, "created_at": now, "updated_at": now})
        return Reply(Code.OK, "", snapshot(p))

    async def _force_fact(self, p: Procedure, params: Mapping[str, Any]) -> str:
        if params["action"] == "Complete":
            return "FORCE_COMPLETE"
        hold = await self._performers.ask("hold", self._risk.hold, p.hold_id)
        stage = hold.stage if hold is not None else 0
        return {IN_TRANSIT: "FORCE_ROLLBACK_DEDUCTED", FROZEN: "FORCE_ROLLBACK_FROZEN"}.get(
            stage, "FORCE_ROLLBACK_UNFUNDED")

    def _refused(self, name: str, subject: str, refusal: Refusal, by: Actor, p: Procedure | None = None) -> Reply:
        self._trace.emit("refused", subject, {
            "operation": name, "code": refusal.code.name, "detail": refusal.detail, "operator": by.id})
        return Reply(refusal.code, refusal.detail, snapshot(p) if p else None)

    # Facts from the platform

    async def drive(self, procedure_id: int) -> Reply:
        """The scheduled script picks up a regular withdrawal in ``new(waiting)`` (WT-05, JOB-021)."""
        return await self._fact(procedure_id, Fact("DRIVE"))

    async def bank_result(
        self, procedure_id: int, *, success: bool, code: str = "", detail: str = "", request_id: str = "",
        reason: str = "",
    ) -> Reply:
        """A bank's definite result. Applied where the Procedure waits for it, recorded as late elsewhere. ``reason``:
        of a failure, where it is another than BANK_FAILED."""
        name = "BANK_SUCCESS" if success else "BANK_FAILED"
        marks: dict[str, Any] = {"bank_code": code} if code else {}
        if request_id:
            marks["request_id"] = request_id
        return await self._fact(procedure_id, Fact(name, reason, " ".join(filter(None, (code, detail)))), marks)

    async def note_bank(self, procedure_id: int, **marks: Any) -> None:
        """Record what became known of the bank leg: ``bank_ack_at``, ``request_id``, ``poll_count``, ``bank_code``,
        ``poll_exhausted``, ``abnormal``, ``bank_submitted``. Raises `OutcomeUnknown` when the lock is busy."""
        with Hop(self._trace, "sba.note_bank", SBA[BizType.CASH_WITHDRAW]):
            await self._note_bank(procedure_id, marks)

    async def _note_bank(self, procedure_id: int, marks: Mapping[str, Any]) -> None:
        token = await self.engine.lock(procedure_id)
        if token is None:
            raise OutcomeUnknown(f"P{procedure_id} is locked by another worker")
        try:
            p = await self.engine.load(procedure_id)
            if p is not None and not p.state.terminal:
                await self.engine.mark(p, **marks)
        except StaleVersion as stale:  # somebody else has it: what was to be noted is asked again
            raise OutcomeUnknown(str(stale)) from stale
        finally:
            await self.engine.unlock(procedure_id, token)

    async def _fact(self, procedure_id: int, fact: Fact, marks: Mapping[str, Any] | None = None) -> Reply:
        """State a fact of a withdrawal in the platform's name and carry out what follows."""
        with Hop(self._trace, f"sba.{fact.name.lower()}", SBA[BizType.CASH_WITHDRAW]):
            return await self._state_fact(procedure_id, fact, marks)

    async def _state_fact(self, procedure_id: int, fact: Fact, marks: Mapping[str, Any] | None) -> Reply:
        token = await self.engine.lock(procedure_id)
        if token is None:
            return Reply(Code.LOCK_BUSY, "another worker is on it")
        try:
            p = await self.engine.load(procedure_id)
            if p is None:
                return Reply(Code.NOT_FOUND, f"no Procedure {procedure_id}")
            refusal = await self.engine.run(p) if p.pending else None
            if p.pending:
                return Reply(Code.DEPENDENCY_TIMEOUT, refusal.detail if refusal else "", snapshot(p))
            refusal = await self.engine.take(p, fact, marks=marks if not p.state.terminal else None)
            if refusal:
                return Reply(refusal.code, refusal.detail, snapshot(p))
            await self.engine.run(p)
            return Reply(Code.OK, "", snapshot(p))
        except StaleVersion as stale:
            return Reply(Code.VERSION_CONFLICT, str(stale))
        finally:
            await self.engine.unlock(procedure_id, token)

    # Scheduled work

    async def drive_waiting(self) -> int:
        """WithdrawDriveJob: every regular withdrawal in ``new(waiting)`` goes on; returns how many."""
        rows = await self._db.all(R.IN_STATE, {"biz": BizType.CASH_WITHDRAW, "status": "new", "ext": "waiting"})
        for (procedure_id,) in rows:
            await self.drive(procedure_id)
        return len(rows)

    async def resume_due(self) -> int:
        """MoveNextResumeJob: what waits for a date or a gate, and whose moment has come; returns how many."""
        rows = await self._db.all(R.DUE, {"now": self._clock.now_ms()})
        done = 0
        for procedure_id, ext in rows:
            if ext == "move_next":
                await self._fact(procedure_id, Fact("DATE_ARRIVED"))
            elif ext == "deduct_done":
                await self._gate(procedure_id)
            else:
                continue
            done += 1
        return done

    async def channel_back(self, bank: str) -> int:
        """The channel of a bank is there again: what waits for it looks at its gates now; returns how many."""
        rows = await self._db.all(R.WAITING_FOR_BANK, {"bank": bank})
        for (procedure_id,) in rows:
            await self._gate(procedure_id)
        return len(rows)

    async def resume_trading_day(self) -> int:
        """WaitingTradeJob: what waits for the trading day that has come (A-19); returns how many."""
        rows = await self._db.all(R.DUE, {"now": self._clock.now_ms()})
        waiting = [procedure_id for procedure_id, ext in rows if ext == "waiting_trade"]
        for procedure_id in waiting:
            p = await self.engine.load(procedure_id)
            if p is None or p.state != W.WAITING_TRADE:
                continue
            route = self._decisions.route(p, self._clock.now_ms())
            if route.fact != "START_MANUAL":  # closed after all (calendar override): wait for the next day
                await self.note_bank(procedure_id, due_at=route.due_at)
                continue
            await self._fact(procedure_id, Fact(_TRADE_DAY[p.bank_result]))
        return len(waiting)

    async def _gate(self, procedure_id: int) -> None:
        p = await self.engine.load(procedure_id)
        if p is None or p.state != W.DEDUCT_DONE:
            return
        route = self._decisions.route(p, self._clock.now_ms())
        if route.fact is None:
            await self.note_bank(procedure_id, due_at=route.due_at)
        else:
            await self._fact(procedure_id, Fact(route.fact))

    # What operations ask

    async def procedure(self, procedure_id: int) -> dict[str, Any] | None:
        """The Procedure as a page shows it, or None."""
        p = await self.engine.load(procedure_id)
        return snapshot(p) if p else None

    async def procedures(self, *, after: int = 0, limit: int = 100, **wanted: Any) -> list[dict[str, Any]]:
        """The Procedure list, latest first, one page of at most ``limit``, of ids below ``after`` (0: from the top).

        ``wanted``: any of ``nn_uid``, ``biz_type``, ``status``, ``ext_status``, ``market``, and ``since`` and
        ``until`` (epoch ms) for [created_at) (SBA-PROC-09, orchestration.md §8).
        """
        found = await self._db.all(R.listing(*sorted(wanted)), {
            **{f"b_{name}": value for name, value in wanted.items()}, "b_after": after or 1 << 62, "b_limit": limit})
        shown = [await self.procedure(procedure_id) for (procedure_id,) in found]
        return [one for one in shown if one is not None]

    async def review_screen(self, procedure_id: int) -> dict[str, Any] | None:
        """What a reviewer sees before approving or rejecting (SBA-DEP-031), or None without such a Procedure."""
        p = await self.engine.load(procedure_id)
        return review_screen(p, self._decisions.threshold(p)) if p else None

    async def deferral_of(self, procedure_id: int) -> Deferral | None:
        """Why a withdrawal waits, or waited last, for another day or for the bank's window; names the calendar where
        the calendar is the cause (CAL-011). None if it was never deferred."""
        p = await self.engine.load(procedure_id)
        if p is None or p.biz_type != BizType.CASH_WITHDRAW:
            return None
        return deferral(p, await self.history(procedure_id), self._decisions.diagnose)

    async def find_deposit(self, transaction_id: str, *, bst: bool = True) -> dict[str, Any] | None:
        """The deposit Procedure of a statement or business id, or None."""
        row = await self._db.first(R.SAME_TRANSACTION, {"bst": int(bst), "transaction": transaction_id})
        return await self.procedure(row[0]) if row else None

    async def history(self, procedure_id: int) -> list[HistoryRow]:
        """View History: Flow records, latest first (SBA-FLOW-05)."""
        return [HistoryRow(*row) for row in await self._db.all(R.HISTORY, {"b_id": procedure_id})]

    async def late_results(self, procedure_id: int) -> list[tuple[str, str, str, int]]:
        """(result, code, source, epoch ms) of bank results that came after the decision."""
        return [(row[0], row[1], row[2], row[3]) for row in await self._db.all(R.LATE_OF, {"b_id": procedure_id})]

    async def buttons(self, procedure_id: int, by: Actor) -> dict[str, str | None]:
        """For each operation with a button: None if enabled for this person now, else why it is greyed."""
        p = await self.engine.load(procedure_id)
        if p is None:
            return {}
        return {o.name: enabled(o, p, by) for o in OPERATIONS.values() if o.button and o.biz == p.biz_type}

    async def stuck(self, since_ms: int, until_ms: int, status: str | None = None) -> list[Stuck]:
        """Procedures created in [since, until) that stay in a state for longer than its threshold (SBA-TRB-01)."""
        now = self._clock.now_ms()
        rows = await self._db.all(R.CREATED_BETWEEN, {"since": since_ms, "until": until_ms})
        found = []
        for procedure_id, biz, main, ext, updated_at in rows:
            limit = self._stuck_after.get((biz, main, ext))
            if limit is not None and (status is None or status == main) and now - updated_at > limit:
                found.append(Stuck(procedure_id, biz, main, ext, now - updated_at))
        return found


_TRADE_DAY = {"SUCCESS": "TRADE_DAY_PAID", "FAILED": "TRADE_DAY_FAILED", "": "TRADE_DAY_NO_LEG"}


def _same_version(p: Procedure, version: int) -> Refusal | None:
    if p.version == version:
        return None
    return Refusal(Code.VERSION_CONFLICT, f"P{p.id} is at version {p.version}, you saw {version}: refresh and retry")


def _used(request_id: str, row: tuple[Any, ...], difference: str) -> Refusal:
    detail = f" with other {difference}" if difference else ""
    return Refusal(Code.INVALID_PARAM, f"request id {request_id} was used for {row[1]} of P{row[0]}{detail}")


def _first_flaw(requests: Sequence[DepositRequest]) -> Refusal | None:
    return next(filter(None, map(check_deposit, requests)), None)


def _check_params(order: _Order) -> Refusal | None:
    if not 1 <= len(order.request_id) <= REQUEST_ID_MAX:
        return Refusal(Code.INVALID_PARAM, f"rpc_request_id: 1 to {REQUEST_ID_MAX} characters")
    if len(order.remark) > REMARK_MAX:
        return Refusal(Code.INVALID_PARAM, f"remark: at most {REMARK_MAX} characters")
    if order.operation.name == "CashDepositReverse":
        given: Sequence[str] = order.params.get("confirmations", ())
        missing = [name for name in REVERSE_CONFIRMATIONS if name not in given]
        return Refusal(Code.INVALID_PARAM, f"confirm first: {', '.join(missing)}") if missing else None
    if order.operation.name == "CashWithdrawForceProcess":
        return _check_force(order.remark, order.params)
    return None


def _check_force(remark: str, params: Mapping[str, Any]) -> Refusal | None:
    if not remark.strip():
        return Refusal(Code.INVALID_PARAM, "ForceProcess needs a remark")
    action, bank = params.get("action"), params.get("bank_status")
    if bank not in BANK_STATUS:
        return Refusal(Code.BANK_STATUS_REQUIRED,
                       f"bank status {bank!r}: state NOT_TRANSFERRED or TRANSFERRED; while it is uncertain, wait")
    if action != BANK_STATUS[bank]:
        return Refusal(Code.INVALID_PARAM, f"{bank} allows only {BANK_STATUS[bank]}, not {action!r}")
    return None
