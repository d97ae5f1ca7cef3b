"""The SBA service: creates Procedures, takes operations and bank results, answers what operations ask.

Every call is idempotent by ``rpc_request_id``; every operation states the version it saw; refusals are values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.clock import Clock
from core.domain import BizType, DepositType, Role
from core.errors import Code, OutcomeUnknown, Refusal
from core.orchestration import deposit_table as D
from core.orchestration import records as R
from core.orchestration import withdraw_table as W
from core.orchestration.decisions import Decisions, deposit_review, withdraw_review
from core.orchestration.engine import BANK_RESULTS, Engine, Fact, Request, StaleVersion
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
from core.orchestration.records import SYSTEM, Actor, HistoryRow, Procedure, Reply, snapshot
from core.orchestration.requests import DepositRequest, WithdrawRequest, check_deposit, check_withdraw
from core.orchestration.stuck import STUCK_AFTER, Stuck
from core.settings import Settings
from core.storage import Database, UniqueViolation
from core.trace import Trace

__all__ = ["DepositRequest", "Sba", "WithdrawRequest"]

_UNDOABLE = ("FREEZE", "DEDUCT", "REFREEZE", "RESTORE", "RELEASE", "CONSUME", "SETTLE", "ADD_BACK", "CREDIT", "DEBIT")


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
        seen = await self._seen(BizType.CASH_DEPOSIT, request.rpc_request_id)
        if seen is not None:
            return seen
        hits = deposit_review(
            DepositType(request.deposit_type), request.amount, self._decisions.deposit_threshold(request.ccy),
            blacklisted=request.blacklisted, whitelisted=request.whitelisted)
        fields = R.DepositFields(
            request.apply_ref, request.transaction_id, request.amount, request.ccy, request.is_bs_transfer,
            request.transfer_method, request.deposit_type, request.hold_type, request.hold_apply_id, request.source,
            request.bank_ref_id, ",".join(hits))
        p = self._blank(BizType.CASH_DEPOSIT, request, D.WAITING, fields)
        row = {("apply_id" if name == "hold_apply_id" else name): value for name, value in fields._asdict().items()}
        existing = (R.SAME_TRANSACTION, {"bst": request.is_bs_transfer, "transaction": request.transaction_id})
        return await self._create(p, row, D.CREATION, by, request.rpc_request_id, existing)

    async def create_withdrawal(self, request: WithdrawRequest, by: Actor = SYSTEM) -> Reply:
        """CashWithdrawCreate: a Procedure in ``new(freeze)``, frozen at once; BST goes on to the bank by itself."""
        refusal = allowed_role(OPERATIONS["CashWithdrawCreate"], by) or check_withdraw(request)
        if refusal:
            return self._refused("CashWithdrawCreate", "P0", refusal, by)
        seen = await self._seen(BizType.CASH_WITHDRAW, request.rpc_request_id)
        if seen is not None:
            return seen
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
        row = fields._asdict() | {"task_key": request.task_id}
        existing = (R.SAME_TASK, {"task": request.task_id})
        return await self._create(p, row, W.CREATION, by, request.rpc_request_id, existing)

    def _blank(self, biz: BizType, request: Any, state: Any, fields: Any) -> Procedure:
        now = self._clock.now_ms()
        p = Procedure(
            0, biz, request.nn_uid, request.market, request.trade_acc_id, state.status, state.ext, 1, 0, "", "", 1,
            0, 0, None, "", "", None, now, now, fields)
        p.transaction_date = self._decisions.transaction_date(p, now)
        return p

    async def _create(
        self, p: Procedure, row: dict[str, Any], creation: Any, by: Actor, request_id: str,
        existing: tuple[Any, dict[str, Any]],
    ) -> Reply:
        try:
            await self.engine.create(p, row, creation, by, "", Request(p.biz_type, request_id, "OK"))
        except UniqueViolation:
            return await self._seen(p.biz_type, request_id) or await self._duplicate(*existing)
        token = await self.engine.lock(p.id)
        if token is None:  # somebody resumed it in the meantime; it goes on there
            return Reply(Code.OK, "", snapshot(p))
        try:
            refusal = await self.engine.run(p)
        finally:
            await self.engine.unlock(p.id, token)
        return Reply(Code.OK, refusal.detail if refusal else "", snapshot(p))

    async def _duplicate(self, statement: Any, params: dict[str, Any]) -> Reply:
        found = await self._db.first(statement, params)
        assert found is not None, "a unique key was violated by a row that is not there"
        return Reply(Code.DUPLICATE, f"P{found[0]} exists for this", await self.procedure(found[0]))

    async def _seen(self, biz: str, request_id: str) -> Reply | None:
        row = await self._db.first(R.SEEN, {"biz": biz, "request": request_id})
        if row is None:
            return None
        return Reply(Code.REPLAYED, row[1], await self.procedure(row[0]))

    # Operations

    async def operate(
        self, name: str, procedure_id: int, *, version: int, rpc_request_id: str, by: Actor, remark: str = "",
        **params: Any,
    ) -> Reply:
        """One of the operations of `OPERATIONS` on an existing Procedure (all but the two creations).

        ``params``: ``confirmations`` (CashDepositReverse), ``action`` and ``bank_status`` (CashWithdrawForceProcess).
        """
        operation = OPERATIONS[name]
        refusal = allowed_role(operation, by) or _check_params(operation, rpc_request_id, remark, params)
        if refusal:
            return self._refused(name, f"P{procedure_id}", refusal, by)
        seen = await self._seen(operation.biz, rpc_request_id)
        if seen is not None:
            return seen
        token = await self.engine.lock(procedure_id)
        if token is None:
            return self._refused(name, f"P{procedure_id}", Refusal(Code.LOCK_BUSY, "another worker is on it"), by)
        try:
            return await self._operate(operation, procedure_id, version, rpc_request_id, by, remark, params)
        except StaleVersion as stale:
            return self._refused(name, f"P{procedure_id}", Refusal(Code.VERSION_CONFLICT, str(stale)), by)
        except OutcomeUnknown as silence:
            return self._refused(name, f"P{procedure_id}", Refusal(Code.DEPENDENCY_TIMEOUT, str(silence)), by)
        finally:
            await self.engine.unlock(procedure_id, token)

    async def _operate(
        self, operation: Operation, procedure_id: int, version: int, request_id: str, by: Actor, remark: str,
        params: Mapping[str, Any],
    ) -> Reply:
        p = await self.engine.load(procedure_id)
        if p is None:
            return self._refused(operation.name, f"P{procedure_id}", Refusal(Code.NOT_FOUND, "no such Procedure"), by)
        refusal = _same_version(p, version) or allowed_state(operation, p, by)
        if refusal is None and p.pending:
            refusal = await self._settle_first(p, operation) or allowed_state(operation, p, by)
        if refusal:
            return self._refused(operation.name, f"P{p.id}", refusal, by, p)
        if operation.name == "CashWithdrawStartTransfer":
            return await self._start_transfer(p, request_id, by, remark)
        fact = Fact(operation.fact or await self._force_fact(p, params), "", remark, by, request_id)
        if operation.name == "CashWithdrawCancel" and by.role is Role.USER:
            fact = fact._replace(reason="USER_CANCEL")
        refusal = await self.engine.take(p, fact, request=Request(operation.biz, request_id, "OK"))
        if refusal is None:
            refusal = await self.engine.run(p)
        if refusal and refusal.code is not Code.DEPENDENCY_TIMEOUT:
            return self._refused(operation.name, f"P{p.id}", refusal, by, p)
        return Reply(Code.OK, refusal.detail if refusal else "", snapshot(p))

    async def _settle_first(self, p: Procedure, operation: Operation) -> Refusal | None:
        """Before a person's decision, know what is in flight: void it where the decision undoes it, else finish it."""
        if operation.name not in ("CashWithdrawReject", "CashWithdrawForceProcess"):
            return await self.engine.run(p)
        for effect in list(p.pending):
            if effect.name not in _UNDOABLE:
                continue
            done = await self._performers.ask("void", self._risk.void, effect.key)
            if done is None or done.code is not Code.OK:
                await self.engine.supersede(p, effect)
            else:  # it did happen: take its outcome first, the decision meets the new state
                await self.engine.run(p)
                break
        return None

    async def _start_transfer(self, p: Procedure, request_id: str, by: Actor, remark: str) -> Reply:
        """From ``new(blank)`` the deduction was carried out just now; from ``deduct_done`` look at the gates again."""
        if p.state == W.DEDUCT_DONE:
            route = self._decisions.route(p, self._clock.now_ms())
            if route.fact is None:
                blocked = Refusal(Code.BLOCKED, f"the bank's window opens at {route.due_at} (epoch ms)")
                return self._refused("CashWithdrawStartTransfer", f"P{p.id}", blocked, by, p)
            request = Request(BizType.CASH_WITHDRAW, request_id, "OK")
            await self.engine.take(p, Fact(route.fact, "", remark, by, request_id), request=request)
            await self.engine.run(p)
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
        self, procedure_id: int, *, success: bool, code: str = "", detail: str = "", request_id: str = ""
    ) -> Reply:
        """A bank's definite result. Applied where the Procedure waits for it, recorded as late elsewhere."""
        name = "BANK_SUCCESS" if success else "BANK_FAILED"
        marks: dict[str, Any] = {"bank_code": code} if code else {}
        if request_id:
            marks["request_id"] = request_id
        return await self._fact(procedure_id, Fact(name, remark=" ".join(filter(None, (code, detail)))), marks)

    async def note_bank(self, procedure_id: int, **marks: Any) -> None:
        """Record what became known of the bank leg: ``bank_ack_at``, ``request_id``, ``poll_count``, ``bank_code``,
        ``poll_exhausted``, ``abnormal``, ``bank_submitted``. Raises `OutcomeUnknown` when the lock is busy."""
        token = await self.engine.lock(procedure_id)
        if token is None:
            raise OutcomeUnknown(f"P{procedure_id} is locked by another worker")
        try:
            p = await self.engine.load(procedure_id)
            if p is not None and not p.state.terminal:
                await self.engine.mark(p, **marks)
        finally:
            await self.engine.unlock(procedure_id, token)

    async def _fact(self, procedure_id: int, fact: Fact, marks: Mapping[str, Any] | None = None) -> Reply:
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


def _check_params(operation: Operation, request_id: str, remark: str, params: Mapping[str, Any]) -> Refusal | None:
    if not 1 <= len(request_id) <= 40:
        return Refusal(Code.INVALID_PARAM, "rpc_request_id: 1 to 40 characters")
    if operation.name == "CashDepositReverse":
        given: Sequence[str] = params.get("confirmations", ())
        missing = [name for name in REVERSE_CONFIRMATIONS if name not in given]
        return Refusal(Code.INVALID_PARAM, f"confirm first: {', '.join(missing)}") if missing else None
    if operation.name == "CashWithdrawForceProcess":
        return _check_force(remark, params)
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
