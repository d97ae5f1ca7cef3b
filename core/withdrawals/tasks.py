"""Withdrawal tasks: the customer's side of a withdrawal, and its way into SBA.

The approval steps are passed automatically (AUDIT ``auto_pass``, CONFIRM, REMITTANCE), each with its row in the
operation log. Before anything else the amount is held at risk control under ``WD{task id}`` (A-15), which the
Procedure's own freeze adopts: no moment at which the money could be spent twice.

A bank-securities transfer that has passed Confirm is taken from the quota of its bank and currency (`AutoSettings`)
in the transaction that moves its step to REMITTANCE: the step is the mark that this was done. Where the quota does not
bear it the Task degrades (B-14): it waits at CONFIRM, then at REMITTANCE, for somebody of operations to approve it.

    step        ``reason``  a PENDING Task
    CONFIRM     ""          is about to be confirmed by itself
    CONFIRM     why         waits for a person's approval, or another method
    REMITTANCE  why         is approved once and waits for the second time
    REMITTANCE  ""          goes into SBA
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

from sqlalchemy import bindparam, insert, select, update

from core.accounts import Accounts
from core.calendars import Calendars
from core.clock import Clock, from_yyyymmdd
from core.domain import BizType, FreezeType, MandateStatus, TaskStatus
from core.errors import CallFailed, Code, OutcomeUnknown, Refusal
from core.hops import CARDS, Hop, belongs_to
from core.jobs import Again, Done, Exhausted, Failed, Job, Jobs, Verdict
from core.orchestration.operations import OPS
from core.orchestration.performers import RiskControl
from core.orchestration.records import BST, Actor, Effect, Procedure, Reply
from core.orchestration.requests import REQUEST_ID_MAX, WithdrawRequest, check_wish
from core.orchestration.service import Sba
from core.rpc import Rpc
from core.screening import ListName, Lists
from core.settings import Settings
from core.storage import Database, Sequence, Statement, Transaction
from core.storage.primary import nick_list, sba_list, task_flows, tasks
from core.trace import Trace
from core.transfer import CHANNELS
from core.withdrawals.auto_settings import AutoSettings

START, UNHOLD = "WithdrawStart", "WithdrawUnhold"
AUDIT, CONFIRM, REMITTANCE = "AUDIT", "CONFIRM", "REMITTANCE"
DEGRADED = "AUTO_SETTINGS"
"""Why a Task waits for people: the quota of automatic withdrawals does not bear it (B-05, condition 3)."""


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
    reason: str = ""  # why it waits for people at its step; "" while nobody is needed

    @property
    def waits(self) -> bool:
        """Whether it waits for a person's approval."""
        return self.status == TaskStatus.PENDING and self.reason != ""


SET_METHODS = tuple(name for name, channel in CHANNELS.items() if "Set" in channel.groups)
"""``allSetMethod()``: what operations may choose at Confirm (channels.md §7)."""
_TEMPLATE = {BST: "bst_auto"}  # of what the customer asks for in the App; all else is "default" (B-04)
_UNBATCHED = ("bst", "fps_api")  # kinds of channel that are sent one by one
_T = tasks.c
FIND = Statement(select(*(_T[name] for name in Task._fields)).where(_T.id == bindparam("b_id")))
NEW = Statement(insert(tasks).values({name: bindparam(name) for name in (*Task._fields, "created_at", "updated_at")}))
CHANGE = Statement(update(tasks).where(_T.id == bindparam("b_id"), _T.status == bindparam("b_status")).values(
    {name: bindparam(name) for name in ("status", "step", "remark", "updated_at")}))
MOVE = Statement(update(tasks).where(
    _T.id == bindparam("b_id"), _T.status == int(TaskStatus.PENDING), _T.step == bindparam("b_step"),
    _T.method == bindparam("b_method"), _T.reason == bindparam("b_reason")).values(
    {name: bindparam(name) for name in ("template", "step", "method", "batch_date", "reason", "remark", "updated_at")}))
"""From one place of the approval to another, only by who saw where it stood."""
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
OPEN_OF_CARD = Statement(select(_T.id).where(_T.uid == bindparam("uid"), _T.card_id == bindparam("card"), _T.status.in_(
    (int(TaskStatus.PENDING), int(TaskStatus.PROCESSING)))).order_by(_T.id).limit(1))
ENGLISH_NAME = Statement(select(nick_list.c.en_name, nick_list.c.cn_name).where(nick_list.c.uid == bindparam("uid")))

_RESULT = {"end_ok": TaskStatus.DONE, "end_reject": TaskStatus.FAILED, "end_cancel": TaskStatus.CANCELLED,
           "end_reverse": TaskStatus.REVERSED}
_NOTICE = {"end_ok": "WITHDRAW_OK", "end_reject": "WITHDRAW_FAILED", "end_cancel": "WITHDRAW_CANCELLED",
           "end_reverse": "WITHDRAW_FAILED"}
_MAY = {TaskStatus.PENDING: {TaskStatus.PROCESSING, TaskStatus.REJECTED, TaskStatus.CANCELLED, TaskStatus.DONE,
                             TaskStatus.FAILED},
        TaskStatus.PROCESSING: {TaskStatus.DONE, TaskStatus.FAILED, TaskStatus.CANCELLED},
        TaskStatus.DONE: {TaskStatus.REVERSED}}


class Authorizations(Protocol):
    """What a bank lets a card do: a mandate (Airstar) or an agreement (CMB, CMBC)."""

    async def check(self, card_id: int, market: int, card_no: str = "") -> Any:
        """Something if the card is authorized for the market, else a `Refusal` with what the customer should do.
        ``card_no``: what the bank said of this number before it was bound counts now."""


NotPaid = Callable[[Transaction, "Task", str], Awaitable[None]]
"""Tells a bank, within the transaction, that a withdrawal which its customer began there is not paid, and why."""


class Withdrawals:
    """Tasks of one core, in the primary database."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, jobs: Jobs,
        authorizations: Mapping[str, Authorizations], sba: Sba,
        risk_control: RiskControl, lists: Lists, accounts: Accounts, rpc: Rpc, calendars: Calendars,
        quotas: AutoSettings, settings: Settings,
    ) -> None:
        """``authorizations``: by BST bank."""
        self._db, self._clock, self._trace, self._jobs = db, clock, trace, jobs
        self._authorizations, self._sba, self._risk, self._lists = (
            authorizations, sba, risk_control, lists)
        self._accounts, self._rpc, self._calendars, self._quotas = accounts, rpc, calendars, quotas
        self._currencies: dict[str, list[str]] = _of_banks(settings, "currencies")
        self._english_only = [bank for bank, only in _of_banks(settings, "english_payee").items() if only]
        self.ids = Sequence(db, "task")
        self._prehold: bool = settings["withdraw.prehold"]
        self._retry_ms: int = settings["sba.outbox.retry_ms"]
        self._start_tries: int = settings["withdraw.start.max"]
        self.not_paid_at: dict[str, NotPaid] = {}

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
        with Hop(self._trace, "withdraw.submit", "withdraw", of=""):
            async with self._db.transaction() as tx:
                return await self.new(tx, uid=uid, trade_acc_id=trade_acc_id, market=market, card_id=card_id,
                                      card_no=card_no, bank_code=bank_code, ccy=ccy, amount=amount, method=method)

    async def new(self, tx: Transaction, **fields: Any) -> Task:
        """A Task with its start queued, within the caller's transaction."""
        now = self._clock.now_ms()
        task = Task(**{**_EMPTY, "template": _TEMPLATE.get(fields["method"], "default"), **fields,
                       "id": await self.ids.next(tx), "batch_date": self._batch_date(fields["method"], now)})
        await tx.execute(NEW, task._asdict() | {"created_at": now, "updated_at": now})
        await self._jobs.enqueue(tx, START, f"T{task.id}", {"task": task.id}, now, self._start_tries)
        self._publish(tx, task, None)
        tx.after_commit(lambda: belongs_to(f"T{task.id}"))
        return task

    def _batch_date(self, method: str, now: int) -> int | None:
        return self._calendars.batch_date(now) if CHANNELS[method].kind not in _UNBATCHED else None

    async def find(self, task_id: int) -> Task | None:
        """The Task, or None."""
        row = await self._db.first(FIND, {"b_id": task_id})
        return Task(*row) if row else None

    async def open_of_card(self, uid: int, card_id: int) -> int | None:
        """Id of a Task to this card that is not over: as long as there is one, the card stays bound (B-40)."""
        row = await self._db.first(OPEN_OF_CARD, {"uid": uid, "card": card_id})
        return int(row[0]) if row else None

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
        if task.status != TaskStatus.PENDING or task.waits:
            return Done()
        try:
            refusal = await self._check_card(task) or await self._hold(task)
            if refusal:
                return await self._refuse(job, task, refusal)
            if task.method == BST and task.step == CONFIRM:
                remitted = await self._auto_out(job, task)
                if not isinstance(remitted, Task):
                    return remitted
                task = remitted
            reply = await self._rpc("sba.create_withdrawal", self._sba.create_withdrawal, await self._request(task))
        except (OutcomeUnknown, CallFailed) as silence:
            return Again(self._clock.now_ms() + self._retry_ms, str(silence))
        if reply.procedure is None:
            return await self._refuse(job, task, Refusal(reply.code, reply.message))
        return await self._created(job, task, reply.procedure)

    async def _check_card(self, task: Task) -> Refusal | None:
        with Hop(self._trace, "bankcard.check", CARDS):
            return await self._confirm(task)

    async def _confirm(self, task: Task) -> Refusal | None:
        """Confirm: the card is the customer's, and a BST card is authorized for the market (AIR-03). The authorization
        first: one that the bank told of before the card was bound verifies it when it is asked for."""
        refusal = await self._unauthorized(task) if task.method == BST else None
        if not await self._accounts.pays_to(task.uid, task.card_id, task.bank_code, task.card_no):
            return Refusal(Code.BLOCKED, f"card {task.card_no} is not bound to user {task.uid}")
        return refusal

    async def _unauthorized(self, task: Task) -> Refusal | None:
        of_bank = self._authorizations.get(task.bank_code)
        if of_bank is None:
            return Refusal(Code.BLOCKED, f"{task.bank_code} has no bank-securities transfer")
        if task.ccy not in self._currencies.get(task.bank_code, (task.ccy,)):
            return Refusal(Code.INVALID_PARAM, f"{task.bank_code} does not transfer {task.ccy}")
        found = await of_bank.check(task.card_id, task.market, task.card_no)
        if not isinstance(found, Refusal):
            found = await self._payee(task)
        return found if isinstance(found, Refusal) else None

    async def _payee(self, task: Task) -> str | Refusal:
        """The payee's name for the channel, English preferred. A bank that pays to English names only gets the account
        service's where operations have noted none; without one the Task does not pass (SBA-WD-050)."""
        names = await self._db.first(ENGLISH_NAME, {"uid": task.uid})
        if task.method != BST or task.bank_code not in self._english_only:
            return (names[0] or names[1]) if names else ""
        holder = await self._accounts.card_holder(task.bank_code, task.card_no) if names is None else None
        english: str = names[0] if names else holder.en_name if holder is not None else ""
        if english and english.isascii():
            return english
        return Refusal(Code.INVALID_PARAM, f"no English name is known: {task.bank_code} pays to English names only")

    async def _auto_out(self, job: Job, task: Task) -> Task | Verdict:
        """autoOut(): the Task at REMITTANCE with its amount taken from the quota, both or neither; if the quota does
        not bear it, the Task waits for people and this job is over (CH-BST-04)."""
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            at_remittance = task._replace(step=REMITTANCE)
            if not await self._move(tx, task, at_remittance):
                return Again(now, "the Task has moved on")
            await self._log(tx, task.id, AUDIT, "auto_pass", "system", "", now)
            why = await self._quotas.auto_out(tx, task.bank_code, task.ccy, task.amount, f"T{task.id}")
            if not why:
                await self._log(tx, task.id, CONFIRM, "pass", "system", "", now)
                self._publish(tx, at_remittance, None)
                return at_remittance
            waiting = task._replace(template="default", reason=DEGRADED, remark=why)
            await self._move(tx, at_remittance, waiting)
            await self._log(tx, task.id, CONFIRM, "degrade", "system", why, now)
            self._publish(tx, waiting, None)
            return await job.settle(tx, Done())

    async def _move(self, tx: Transaction, task: Task, to: Task) -> bool:
        """Another step, method or reason of a PENDING Task; False if it is not where it was seen."""
        return await tx.execute(MOVE, {
            "b_id": task.id, "b_step": task.step, "b_method": task.method, "b_reason": task.reason,
            "template": to.template, "step": to.step, "method": to.method, "batch_date": to.batch_date,
            "reason": to.reason, "remark": to.remark, "updated_at": self._clock.now_ms()}) == 1

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
        except (OutcomeUnknown, CallFailed):  # a list that cannot be asked counts as a hit (B-36)
            listed = True
        cash = await self._accounts.settled_cash(task.trade_acc_id, task.ccy)
        payee = await self._payee(task)
        return WithdrawRequest(
            rpc_request_id=f"T{task.id}", task_id=task.id, nn_uid=task.uid, trade_acc_id=task.trade_acc_id,
            market=task.market, ccy=task.ccy, amount=task.amount, transfer_method=task.method,
            transfer_dest_bank=task.bank_code, transfer_dest_card=task.card_no, hold_id=f"WD{task.id}",
            settled_amount=min(task.amount, cash if not self._prehold else cash + task.amount),
            bank_launched=task.bank_launched, payee_name="" if isinstance(payee, Refusal) else payee,
            request_id=task.request_id, blacklisted=listed)

    async def _created(self, job: Job, task: Task, procedure: dict[str, Any]) -> Verdict:
        now = self._clock.now_ms()
        procedure_id: int = procedure["id"]
        async with self._db.transaction() as tx:
            if await tx.first(PROCEDURE_OF, {"task": task.id}) is None:
                await tx.execute(ASSOCIATE, {"task_id": task.id, "procedure_id": procedure_id, "attempt": 1,
                                             "state": procedure["state"], "created_at": now, "updated_at": now})
                passed = ((AUDIT, "auto_pass"), (CONFIRM, "pass")) if task.step == CONFIRM else ()
                for step, action in (*passed, (REMITTANCE, "create")):
                    await self._log(tx, task.id, step, action, "system", "", now)
            await self._change(tx, task, TaskStatus.PROCESSING, procedure_id, step=REMITTANCE)
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
                await self._tell_bank(tx, task, refusal.detail)
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
            if await self._change(tx, task, _RESULT[p.status], p.id, step=REMITTANCE, remark=p.reason):
                await self._log(tx, task.id, REMITTANCE, p.status, "system", p.reason, self._clock.now_ms())
                self._trace.publish(tx, "notify", f"U{task.uid}", {
                    "uid": task.uid, "event": _NOTICE[p.status], "detail": p.reason})
                if p.status in ("end_reject", "end_cancel"):
                    await self._tell_bank(tx, task, p.reason)
        return {}

    async def _tell_bank(self, tx: Transaction, task: Task, why: str) -> None:
        """What the customer began at the bank and we do not pay must not stay accepted there (A-69)."""
        if task.bank_launched and task.bank_code in self.not_paid_at:
            await self.not_paid_at[task.bank_code](tx, task, why)

    async def set_transfer_done(
        self, task_id: int, *, version: int, rpc_request_id: str, by: Actor, method: str | None = None,
        remark: str = "",
    ) -> Reply:
        """setTransferDone(): a person (for CGB FPS the poller) has transferred by hand; one SetManualTransferDone to
        SBA (A-34). ``method`` None: as stored at startTransfer (A-35); another one than stored is refused.

        ``version``: of the Procedure as it was shown. Silence is DEPENDENCY_TIMEOUT: ask again under the same id.
        """
        with Hop(self._trace, "withdraw.set_transfer_done", "withdraw", of=f"T{task_id}"):
            return await self._set_done(task_id, version, rpc_request_id, by, method, remark)

    async def _set_done(
        self, task_id: int, version: int, rpc_request_id: str, by: Actor, method: str | None, remark: str
    ) -> Reply:
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
                await self._log(tx, task_id, REMITTANCE, "transfer_done", by.id, remark, self._clock.now_ms())
        return reply

    # What people decide while a Task waits for them

    async def approve(self, task_id: int, step: str, by: Actor, rpc_request_id: str) -> Refusal | Task:
        """Pass the step at which a Task waits. After CONFIRM a bank-securities transfer waits at REMITTANCE for another
        approval; anything else, and what has both, goes into SBA. The same request id again answers the same."""
        made = await self._approved(task_id, step, by, rpc_request_id)
        self._tell_act("ApproveTask", task_id, by, made)
        return made

    async def _approved(self, task_id: int, step: str, by: Actor, request: str) -> Refusal | Task:
        if refusal := _only_operations("approve", by):
            return refusal
        if not 1 <= len(request) <= REQUEST_ID_MAX:
            return Refusal(Code.INVALID_PARAM, f"rpc_request_id: 1 to {REQUEST_ID_MAX} characters")
        task = await self.find(task_id)
        if task is None:
            return Refusal(Code.NOT_FOUND, f"no Task {task_id}")
        if task.waits and task.step == step:
            if (passed := await self._pass(task, by, request)) is not None:
                return passed
            task = await self.find(task_id)  # somebody was quicker, perhaps this very request
            assert task is not None, task_id
        if (step, "approve", by.id, request) in [row[:4] for row in await self.log_of(task_id)]:
            return task
        return Refusal(Code.ILLEGAL_STATE, f"Task {task_id} does not wait for {step}: it is "
                                           f"{TaskStatus(task.status).name} at {task.step}")

    async def _pass(self, task: Task, by: Actor, request: str) -> Task | None:
        """Its next place, written; None if it is not where it was seen."""
        into_sba = task.step == REMITTANCE or task.method != BST
        passed = task._replace(step=REMITTANCE)
        if into_sba:
            passed = passed._replace(reason="", remark="")
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            if not await self._move(tx, task, passed):
                return None
            await self._log(tx, task.id, task.step, "approve", by.id, request, now)
            if into_sba:
                await self._jobs.enqueue(tx, START, f"T{task.id}:approved", {"task": task.id}, now, self._start_tries)
            self._publish(tx, passed, None)
        return passed

    async def change_method(self, task_id: int, method: str, by: Actor) -> Refusal | Task:
        """Operations send a Task that waits for them by another channel of ``allSetMethod()`` (B-14); it is to be
        confirmed anew. What the customer began at the bank is paid there or not at all."""
        made = await self._other_method(task_id, method, by)
        self._tell_act("ChangeMethod", task_id, by, made)
        return made

    async def _other_method(self, task_id: int, method: str, by: Actor) -> Refusal | Task:
        if refusal := _only_operations("change_method", by):
            return refusal
        if method not in SET_METHODS:
            return Refusal(Code.INVALID_PARAM, f"method {method!r}: one of {', '.join(SET_METHODS)}")
        task = await self.find(task_id)
        if task is None:
            return Refusal(Code.NOT_FOUND, f"no Task {task_id}")
        if not task.waits:
            return Refusal(Code.ILLEGAL_STATE, f"Task {task_id} waits for nobody: it is "
                                               f"{TaskStatus(task.status).name} at {task.step}")
        if task.bank_launched:
            return Refusal(Code.ILLEGAL_STATE, f"Task {task_id} was begun at {task.bank_code}: approve or cancel it")
        if task.method == method:
            return task
        now = self._clock.now_ms()
        changed = task._replace(step=CONFIRM, method=method, batch_date=self._batch_date(method, now))
        async with self._db.transaction() as tx:
            if not await self._move(tx, task, changed):
                return Refusal(Code.VERSION_CONFLICT, f"Task {task_id} has moved on: refresh")
            await self._log(tx, task_id, task.step, "change_method", by.id, f"{task.method} -> {method}", now)
            self._publish(tx, changed, None)
        return changed

    def _tell_act(self, action: str, task_id: int, by: Actor, made: Refusal | Task) -> None:
        self._trace.emit("staff", by.id, {
            "operator": by.id, "role": by.role, "action": action, "subject": f"T{task_id}",
            "result": made.code.name if isinstance(made, Refusal) else Code.OK.name})

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
            await self._tell_bank(tx, task, "USER_CANCEL")
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
            "template": task.template, "waits": task.reason if task.waits else "",
            "method": task.method, "bank": task.bank_code, "bank_launched": task.bank_launched,
            "ccy": task.ccy, "amount": task.amount, "procedure": procedure_id, "reason": task.remark})


_EMPTY: dict[str, Any] = {"step": CONFIRM, "status": int(TaskStatus.PENDING),
                          "bank_launched": 0, "request_id": "", "remark": "", "batch_date": None}


def _of_banks(settings: Settings, what: str) -> dict[str, Any]:
    """Bank -> what its settings say, such as the currencies it transfers (B-17); a bank that is not named transfers all
    that we know, to names in any script."""
    return {key.split(".")[1]: settings[key] for key in settings if re.fullmatch(rf"socket\.\w+\.{what}", key)}


def _only_operations(action: str, by: Actor) -> Refusal | None:
    if by.role in OPS:
        return None
    return Refusal(Code.FORBIDDEN, f"{action} needs role {' or '.join(sorted(OPS))}, {by.id} has {by.role}")


def deferred_text(day: Any) -> str:
    """What a customer reads about a deferred withdrawal (orchestration.md §3.3): no error, and when it goes on."""
    return (f"Your withdrawal has been accepted. Bank-securities transfers run during trading hours; it will be "
            f"processed automatically on the next trading day ({day:%A}, {day:%d %B %Y}). Estimated arrival: 1-2 "
            f"business days.")


def mandate_name(status: int) -> str:
    """Name of a mandate status, for views."""
    return MandateStatus(status).name
