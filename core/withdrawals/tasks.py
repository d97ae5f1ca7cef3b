"""Withdrawal tasks: the customer's side of a withdrawal, and its way into SBA.

The approval steps are passed automatically here (template ``default``: AUDIT ``auto_pass``, CONFIRM, REMITTANCE),
each with its row in the operation log. Before anything else the amount is held at risk control under
``WD{task id}`` (A-15), which the Procedure's own freeze adopts: no moment at which the money could be spent twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.accounts import Accounts
from core.calendars import Calendars
from core.cards.mandates import Mandates
from core.clock import Clock, from_yyyymmdd
from core.domain import BizType, FreezeType, MandateStatus, TaskStatus
from core.errors import CallFailed, Code, OutcomeUnknown, Refusal
from core.jobs import Again, Done, Exhausted, Failed, Job, Jobs, Verdict
from core.orchestration.performers import RiskControl
from core.orchestration.records import BST, Actor, Effect, Procedure, Reply
from core.orchestration.requests import WithdrawRequest, check_wish
from core.orchestration.service import Sba
from core.rpc import Rpc
from core.screening import ListName, Lists
from core.settings import Settings
from core.storage import Database, Sequence, Statement, Transaction
from core.storage.primary import nick_list, sba_list, task_flows, tasks
from core.trace import Trace
from core.transfer import CHANNELS

START, UNHOLD = "WithdrawStart", "WithdrawUnhold"


class Task(NamedTuple):
    """One row of ``tasks``; amounts in minor units."""

    id: int
    uid: int
    trade_acc_id: int
    market: int
    card_id: int
    card_no: str
    bank_code: str
    ccy: str
    amount: int
    method: str
    template: str
    step: str
    status: int
    bank_launched: int
    request_id: str
    remark: str
    batch_date: int | None  # yyyymmdd of the batch that takes it; None where there are no batches


_UNBATCHED = ("bst", "fps_api")  # kinds of channel that are sent one by one
_T = tasks.c
FIND = Statement(select(*(_T[name] for name in Task._fields)).where(_T.id == bindparam("b_id")))
NEW = Statement(insert(tasks).values({name: bindparam(name) for name in (*Task._fields, "created_at", "updated_at")}))
CHANGE = Statement(update(tasks).where(_T.id == bindparam("b_id"), _T.status == bindparam("b_status")).values(
    {name: bindparam(name) for name in ("status", "step", "remark", "updated_at")}))
LOG = Statement(insert(task_flows).values({name: bindparam(name) for name in (
    "task_id", "step", "action", "staff_id", "remark", "created_at")}))
LOG_OF = Statement(select(*(task_flows.c[name] for name in ("step", "action", "staff_id", "remark", "created_at")))
                   .where(task_flows.c.task_id == bindparam("task")).order_by(task_flows.c.id))
ASSOCIATE = Statement(insert(sba_list).values({name: bindparam(name) for name in (
    "task_id", "procedure_id", "attempt", "state", "created_at", "updated_at")}))
PROCEDURE_OF = Statement(select(sba_list.c.procedure_id).where(sba_list.c.task_id == bindparam("task")))
RECENT = Statement(select(_T.id, _T.status).where(
    _T.created_at >= bindparam("since"), _T.created_at < bindparam("until"), _T.status == bindparam("status"))
    .order_by(_T.created_at, _T.id))
ENGLISH_NAME = Statement(select(nick_list.c.en_name, nick_list.c.cn_name).where(nick_list.c.uid == bindparam("uid")))

_RESULT = {"end_ok": TaskStatus.DONE, "end_reject": TaskStatus.FAILED, "end_cancel": TaskStatus.CANCELLED,
           "end_reverse": TaskStatus.REVERSED}
_NOTICE = {"end_ok": "WITHDRAW_OK", "end_reject": "WITHDRAW_FAILED", "end_cancel": "WITHDRAW_CANCELLED",
           "end_reverse": "WITHDRAW_FAILED"}
_MAY = {TaskStatus.PENDING: {TaskStatus.PROCESSING, TaskStatus.REJECTED, TaskStatus.CANCELLED, TaskStatus.DONE,
                             TaskStatus.FAILED},
        TaskStatus.PROCESSING: {TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.CANCELLED},
        TaskStatus.DONE: {TaskStatus.REVERSED}}


class Withdrawals:
    """Tasks of one core, in the primary database."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, jobs: Jobs, mandates: Mandates, sba: Sba,
        risk_control: RiskControl, lists: Lists, accounts: Accounts, rpc: Rpc, calendars: Calendars,
        settings: Settings,
    ) -> None:
        self._db, self._clock, self._trace, self._jobs = db, clock, trace, jobs
        self._mandates, self._sba, self._risk, self._lists = mandates, sba, risk_control, lists
        self._accounts, self._rpc, self._calendars = accounts, rpc, calendars
        self.ids = Sequence(db, "task")
        self._prehold: bool = settings["withdraw.prehold"]
        self._retry_ms: int = settings["sba.outbox.retry_ms"]
        self._start_tries: int = settings["withdraw.start.max"]

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return {START: self._start, UNHOLD: self._unhold}

    async def submit(
        self, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, bank_code: str, ccy: str,
        amount: int, method: str,
    ) -> Task | Refusal:
        """The customer confirms a withdrawal of ``amount`` minor units by channel ``method``."""
        if refusal := check_wish(market, ccy, amount):
            return refusal
        async with self._db.transaction() as tx:
            return await self.new(tx, uid=uid, trade_acc_id=trade_acc_id, market=market, card_id=card_id,
                                  card_no=card_no, bank_code=bank_code, ccy=ccy, amount=amount, method=method)

    async def new(self, tx: Transaction, **fields: Any) -> Task:
        """A Task with its start queued, within the caller's transaction."""
        now = self._clock.now_ms()
        batched = CHANNELS[fields["method"]].kind not in _UNBATCHED
        task = Task(**{**_EMPTY, **fields, "id": await self.ids.next(tx),
                       "batch_date": self._calendars.batch_date(now) if batched else None})
        await tx.execute(NEW, task._asdict() | {"created_at": now, "updated_at": now})
        await self._jobs.enqueue(tx, START, f"T{task.id}", {"task": task.id}, now, self._start_tries)
        self._publish(tx, task, None)
        return task

    async def find(self, task_id: int) -> Task | None:
        """The Task, or None."""
        row = await self._db.first(FIND, {"b_id": task_id})
        return Task(*row) if row else None

    async def procedure_of(self, task_id: int) -> int | None:
        """Id of the Procedure of a Task, or None while it has none (DB-05)."""
        row = await self._db.first(PROCEDURE_OF, {"task": task_id})
        return row[0] if row else None

    async def log_of(self, task_id: int) -> list[tuple[Any, ...]]:
        """(step, action, staff_id, remark, created_at) of a Task, in order (DB-04)."""
        return await self._db.all(LOG_OF, {"task": task_id})

    # Into SBA

    async def _start(self, job: Job) -> Verdict:
        """Into SBA. Whether the Procedure exists is asked first: an earlier run's answer may have been lost."""
        task = await self.find(job.payload["task"])
        assert task is not None, job.payload
        known = await self._sba.created(BizType.CASH_WITHDRAW, f"T{task.id}")
        if known is not None:
            return await self._created(job, task, known)
        if task.status != TaskStatus.PENDING:
            return Done()
        try:
            refusal = await self._confirm(task) or await self._hold(task)
            if refusal:
                return await self._refuse(job, task, refusal)
            reply = await self._rpc("sba.create_withdrawal", self._sba.create_withdrawal, await self._request(task))
        except (OutcomeUnknown, CallFailed) as silence:
            return Again(self._clock.now_ms() + self._retry_ms, str(silence))
        if reply.procedure is None:
            return await self._refuse(job, task, Refusal(reply.code, reply.message))
        return await self._created(job, task, reply.procedure)

    async def _confirm(self, task: Task) -> Refusal | None:
        """Confirm: the card is the customer's, and a BST card is authorized for the market (AIR-03)."""
        if not await self._accounts.owns_card(task.uid, task.bank_code, task.card_no):
            return Refusal(Code.BLOCKED, f"card {task.card_no} is not bound to user {task.uid}")
        if task.method != BST:
            return None
        mandate = await self._mandates.check(task.card_id, task.market)
        return mandate if isinstance(mandate, Refusal) else None

    async def _hold(self, task: Task) -> Refusal | None:
        if not self._prehold:
            return None
        answer = await self._rpc(
            "risk_control.freeze", self._risk.freeze, f"T{task.id}:hold", task.trade_acc_id, task.ccy, task.amount,
            f"WD{task.id}", int(FreezeType.CASH_OUT))
        return None if answer.code is Code.OK else Refusal(answer.code, answer.detail)

    async def _queue_unhold(self, tx: Transaction, task: Task) -> None:
        """The hold of a Task that ends without a Procedure is released by a job of its own: durably."""
        if self._prehold:
            await self._jobs.enqueue(tx, UNHOLD, f"T{task.id}", {"task": task.id}, self._clock.now_ms(),
                                     self._start_tries)

    async def _unhold(self, job: Job) -> Verdict:
        """Void the freeze if it has not happened yet, release it if it has."""
        task_id = job.payload["task"]
        try:
            frozen = await self._rpc("risk_control.void", self._risk.void, f"T{task_id}:hold")
            if frozen is None or frozen.code is not Code.OK:
                return Done()
            answer = await self._rpc(
                "risk_control.release", self._risk.release, f"T{task_id}:unhold", f"WD{task_id}")
        except (OutcomeUnknown, CallFailed) as silence:
            return Again(self._clock.now_ms() + self._retry_ms, str(silence))
        if answer.code is Code.OK:
            return Done()
        return Exhausted(f"{answer.code.name} {answer.detail}", "AIRSTAR-08", f"T{task_id}")

    async def _request(self, task: Task) -> WithdrawRequest:
        try:
            hit = await self._rpc("screening.withdraw", self._lists.hit, ListName.WITHDRAW_BLACK, uid=task.uid,
                                  card_no=task.card_no)
            listed = hit is not None
        except OutcomeUnknown:
            listed = True
        cash = await self._accounts.settled_cash(task.trade_acc_id, task.ccy)
        names = await self._db.first(ENGLISH_NAME, {"uid": task.uid})
        return WithdrawRequest(
            rpc_request_id=f"T{task.id}", task_id=task.id, nn_uid=task.uid, trade_acc_id=task.trade_acc_id,
            market=task.market, ccy=task.ccy, amount=task.amount, transfer_method=task.method,
            transfer_dest_bank=task.bank_code, transfer_dest_card=task.card_no, hold_id=f"WD{task.id}",
            settled_amount=min(task.amount, cash if not self._prehold else cash + task.amount),
            bank_launched=task.bank_launched, payee_name=(names[0] or names[1]) if names else "",
            request_id=task.request_id, blacklisted=listed)

    async def _created(self, job: Job, task: Task, procedure: dict[str, Any]) -> Verdict:
        now = self._clock.now_ms()
        procedure_id: int = procedure["id"]
        async with self._db.transaction() as tx:
            if await tx.first(PROCEDURE_OF, {"task": task.id}) is None:
                await tx.execute(ASSOCIATE, {"task_id": task.id, "procedure_id": procedure_id, "attempt": 1,
                                             "state": procedure["state"], "created_at": now, "updated_at": now})
                for step, action in (("AUDIT", "auto_pass"), ("CONFIRM", "pass"), ("REMITTANCE", "create")):
                    await self._log(tx, task.id, step, action, "system", "", now)
            await self._change(tx, task, TaskStatus.PROCESSING, procedure_id, step="REMITTANCE")
            return await job.settle(tx, Done())

    async def _refuse(self, job: Job, task: Task, refusal: Refusal) -> Verdict:
        """No Procedure, and never one under this Task's id; should there be one after all, it stands."""
        known = await self._sba.give_up_creation(BizType.CASH_WITHDRAW, f"T{task.id}")
        if known is not None:
            return await self._created(job, task, known)
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            await self._log(tx, task.id, task.step, "refuse", "system", refusal.detail, now)
            if await self._change(tx, task, TaskStatus.REJECTED, None, remark=refusal.detail):
                event = "REAUTHORIZE" if refusal.code is Code.BLOCKED else "WITHDRAW_FAILED"
                self._trace.publish(tx, "notify", f"U{task.uid}", {
                    "uid": task.uid, "event": event, "detail": refusal.detail})
            await self._queue_unhold(tx, task)
            return await job.settle(tx, Failed(refusal.code.name))

    # Out of SBA

    async def closed(self, p: Procedure, _effect: Effect) -> dict[str, Any]:
        """TELL_WITHDRAW: the Procedure's end (or deferral) written to its Task and told to the customer, once."""
        task = await self.find(p.withdraw.task_id)
        if task is None:
            return {}
        async with self._db.transaction() as tx:
            if p.ext_status == "move_next":
                day = from_yyyymmdd(p.transaction_date)
                self._trace.publish(tx, "notify", f"U{task.uid}", {
                    "uid": task.uid, "event": "WITHDRAW_DEFERRED", "detail": deferred_text(day)})
                return {}
            if await self._change(tx, task, _RESULT[p.status], p.id, step="REMITTANCE", remark=p.reason):
                await self._log(tx, task.id, "REMITTANCE", p.status, "system", p.reason, self._clock.now_ms())
                self._trace.publish(tx, "notify", f"U{task.uid}", {
                    "uid": task.uid, "event": _NOTICE[p.status], "detail": p.reason})
        return {}

    async def set_transfer_done(
        self, task_id: int, *, version: int, rpc_request_id: str, by: Actor, method: str | None = None,
        remark: str = "",
    ) -> Reply:
        """setTransferDone(): a person (for CGB FPS the poller) has transferred by hand; one SetManualTransferDone to
        SBA (A-34). ``method`` None: as stored at startTransfer (A-35); another one than stored is refused.

        ``version``: of the Procedure as it was shown. Silence is DEPENDENCY_TIMEOUT: ask again under the same id.
        """
        task, procedure_id = await self.find(task_id), await self.procedure_of(task_id)
        if task is None or procedure_id is None:
            return Reply(Code.NOT_FOUND, f"Task {task_id} {'has no Procedure' if task else 'does not exist'}")
        if method not in (None, task.method):
            return Reply(Code.INVALID_PARAM, f"Task {task_id} goes by {task.method}, not by {method}")
        try:
            reply = await self._rpc(
                "sba.set_manual_transfer_done", self._sba.operate, "SetManualTransferDone", procedure_id,
                version=version, rpc_request_id=rpc_request_id, by=by, remark=remark)
        except (OutcomeUnknown, CallFailed) as silence:
            return Reply(Code.DEPENDENCY_TIMEOUT, str(silence))
        if reply.code is Code.OK:
            async with self._db.transaction() as tx:
                await self._log(tx, task_id, "REMITTANCE", "transfer_done", by.id, remark, self._clock.now_ms())
        return reply

    async def cancel(self, task_id: int) -> Refusal | None:
        """The user cancels a Task that has no Procedure yet (A-20); with one, `Sba.operate` decides."""
        task = await self.find(task_id)
        if task is None:
            return Refusal(Code.NOT_FOUND, f"no Task {task_id}")
        if task.status != TaskStatus.PENDING:
            return Refusal(Code.ILLEGAL_STATE, f"Task {task_id} is {TaskStatus(task.status).name}")
        known = await self._sba.give_up_creation(BizType.CASH_WITHDRAW, f"T{task_id}")
        if known is not None:
            return Refusal(Code.ILLEGAL_STATE, f"Task {task_id} has Procedure P{known['id']}: cancel that")
        async with self._db.transaction() as tx:
            if not await self._change(tx, task, TaskStatus.CANCELLED, None, remark="USER_CANCEL"):
                return Refusal(Code.ILLEGAL_STATE, f"Task {task_id} has moved on")
            await self._queue_unhold(tx, task)
        return None

    async def _change(
        self, tx: Transaction, task: Task, to: TaskStatus, procedure_id: int | None, **fields: Any
    ) -> bool:
        if to not in _MAY.get(TaskStatus(task.status), set()):
            return False
        changed = task._replace(status=int(to), **fields)
        count = await tx.execute(CHANGE, {"b_id": task.id, "b_status": task.status, "status": changed.status,
                                          "step": changed.step, "remark": changed.remark,
                                          "updated_at": self._clock.now_ms()})
        if count == 1:
            self._publish(tx, changed, procedure_id)
        return count == 1

    async def _log(self, tx: Transaction, task_id: int, step: str, action: str, staff: str, remark: str,
                   now: int) -> None:
        await tx.execute(LOG, {"task_id": task_id, "step": step, "action": action, "staff_id": staff,
                               "remark": remark, "created_at": now})

    def _publish(self, tx: Transaction, task: Task, procedure_id: int | None) -> None:
        self._trace.publish(tx, "task", f"T{task.id}", {
            "task": task.id, "uid": task.uid, "status": TaskStatus(task.status).name, "step": task.step,
            "method": task.method, "bank_launched": task.bank_launched, "ccy": task.ccy, "amount": task.amount,
            "procedure": procedure_id, "reason": task.remark})


_EMPTY: dict[str, Any] = {"template": "default", "step": "CONFIRM", "status": int(TaskStatus.PENDING),
                          "bank_launched": 0, "request_id": "", "remark": "", "batch_date": None}


def deferred_text(day: Any) -> str:
    """What a customer reads about a deferred withdrawal (orchestration.md §3.3): no error, and when it goes on."""
    return (f"Your withdrawal has been accepted. Bank-securities transfers run during trading hours; it will be "
            f"processed automatically on the next trading day ({day:%A}, {day:%d %B %Y}). Estimated arrival: 1-2 "
            f"business days.")


def mandate_name(status: int) -> str:
    """Name of a mandate status, for views."""
    return MandateStatus(status).name
