"""Airstar withdrawals: AsbBstTransfer sends once and polls ten times, SyncAsbBstWithdraw goes on for two hours and
pulls what customers began at the bank (orchestration.md §5.2, channels.md §2, gaps.md A-38…A-40).

One reference per attempt, written with the job that sends it: however often the job runs, the bank pays once.
Nothing here releases money on silence: after ten polls the freeze stays, after two hours it stays, and people decide.
What has been decided is not sent any more, and nothing is sent outside the bank's window (WIN-02).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.accounts import Accounts
from core.alerts import raise_alert
from core.banks.airstar import AirstarGateway, Answer, BankRequest, Outcome
from core.cards.mandates import Mandate, Mandates
from core.clock import Clock
from core.deposits.airstar import (
    NOTHING_HAPPENED,
    OUTSIDE_WINDOW,
    AirstarDeposits,
    believed,
    nothing_happened,
    surely_unsent,
)
from core.deposits.bank_requests import ACCEPTED, NEW, OURS, REFUSED, STATE, close_request, keep_request
from core.domain import JobState
from core.errors import Code
from core.hops import Hop
from core.jobs import Again, Done, Exhausted, Failed, Job, Jobs, Verdict
from core.orchestration.records import BST, Effect, Procedure, Reply
from core.orchestration.service import Sba
from core.settings import Settings
from core.storage import Database, Transaction, UniqueViolation
from core.trace import Trace
from core.withdrawals.tasks import Task, Withdrawals

WINDOW_CLOSED: Final = 140630010
_OPEN: Final = (JobState.READY, JobState.RUNNING, JobState.RETRY)
TRANSFER, SYNC, ACKNOWLEDGE = "AsbBstTransfer", "SyncAsbBstWithdraw", "AsbBstAcknowledge"


class AirstarWithdrawals:
    """The withdrawal side of Airstar in one core."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, jobs: Jobs, mandates: Mandates, gateway: AirstarGateway,
        sba: Sba, withdrawals: Withdrawals, deposits: AirstarDeposits, accounts: Accounts, settings: Settings,
    ) -> None:
        self._db, self._clock, self._trace, self._jobs = db, clock, trace, jobs
        self._mandates, self._gateway, self._sba = mandates, gateway, sba
        self._withdrawals, self._deposits, self._accounts = withdrawals, deposits, accounts
        self._poll_ms: int = settings["airstar.poll.withdraw.interval_ms"]
        self._poll_max: int = settings["airstar.poll.withdraw.max"]
        self._sync_ms: int = settings["airstar.sync.period_s"] * 1000
        self._window_ms: int = settings["airstar.sync.window_s"] * 1000
        self._pull_ms: int = settings["airstar.sync.pull_s"] * 1000
        self._resend_ms: int = settings["airstar.resend.delay_ms"]
        self._resend_max: int = settings["airstar.resend.max"]
        self._busy_ms: list[int] = [s * 1000 for s in settings["airstar.create_retry.delays_s"]]

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return {TRANSFER: self._transfer, SYNC: self._sync, ACKNOWLEDGE: self._acknowledge}

    # From SBA: give the instruction

    async def instruct(self, p: Procedure, _effect: Effect) -> dict[str, Any]:
        """INSTRUCT: queue the transfer of this attempt under one reference; asked twice it answers the same."""
        key = f"P{p.id}:{p.attempt_no}"
        known = await self._jobs.find(TRANSFER, key)
        if known is None:
            await self._queue(p, key)
            known = await self._jobs.find(TRANSFER, key)
        assert known is not None, key
        return {"transfer_ref_id": known.payload["ref"], "bank_submitted": 1}

    async def _queue(self, p: Procedure, key: str) -> None:
        task = await self._withdrawals.find(p.withdraw.task_id)
        assert task is not None, key
        mandate = await self._mandates.of_card(task.card_id)
        async with self._db.transaction() as tx:
            reference = await self._deposits.reference(tx)
            payload = {
                "procedure": p.id, "task": task.id, "ref": reference, "mandate": mandate.mandate_id if mandate
                else "", "market": p.market, "ccy": p.withdraw.ccy, "amount": p.withdraw.amount,
                "bank_request": task.request_id or None, "attempt": p.attempt_no, "request": "", "sent": 0}
            await self._jobs.enqueue(tx, TRANSFER, key, payload, self._clock.now_ms(), self._poll_max)

    # Sending and polling

    async def _transfer(self, job: Job) -> Verdict:
        return await (self._poll(job) if job.payload["request"] else self._send(job))

    async def _send(self, job: Job) -> Verdict:
        w = job.payload
        if not await self._still_wanted(w):
            return Failed("decided before it was sent")
        if self._deposits.window_opens() > self._clock.now_ms():
            return await self._too_late(job, certain=not w.get("doubt", 0))
        certain = await surely_unsent(job)
        answer = believed(await self._instruct_bank(w, 1 if certain else max(2, w["sent"] + 1)), certain)
        if answer.outcome is Outcome.ACCEPTED:
            return await self._accepted(job, answer.request_id)
        if certain and answer.outcome in NOTHING_HAPPENED:
            await nothing_happened(job)
        if answer.outcome in (Outcome.REJECTED, Outcome.NOT_FOUND):
            return await self._result(job, answer, success=False)
        return await self._send_again(job, answer)

    async def _still_wanted(self, w: Mapping[str, Any]) -> bool:
        """Whether this attempt still waits for the bank: a person may have decided while it could not be sent."""
        shown = await self._sba.procedure(w["procedure"])
        return shown is not None and shown["state"] == "pending(transfer_auto)" and shown["attempt_no"] == w["attempt"]

    async def _too_late(self, job: Job, *, certain: bool) -> Verdict:
        """The window has closed since the gates were open: what was surely not sent fails, else the bank is asked."""
        if certain:
            await nothing_happened(job)  # under the lease, or nothing is concluded
            return await self._result(job, Answer(Outcome.REJECTED, "", WINDOW_CLOSED, OUTSIDE_WINDOW), success=False)
        return Again(self._clock.now_ms() + self._poll_ms, OUTSIDE_WINDOW, counts=False,
                     payload=job.payload | {"request": "?"})

    async def _instruct_bank(self, w: Mapping[str, Any], number: int) -> Answer:
        """Send the instruction; for one that the customer began at the bank, after we have accepted it there."""
        if w["bank_request"]:
            answer = await self._gateway.acknowledge(w["bank_request"], True, transfer_ref_id=w["ref"], attempt=number)
            if answer.outcome is not Outcome.ACCEPTED:
                return answer
        return await self._gateway.withdraw(
            w["ref"], w["mandate"], w["market"], w["ccy"], w["amount"], w["bank_request"], number)

    async def _accepted(self, job: Job, request_id: str) -> Verdict:
        w, now = job.payload, self._clock.now_ms()
        await self._sba.note_bank(w["procedure"], request_id=request_id, bank_ack_at=now)
        ours = BankRequest(request_id, "OUT", w["mandate"], w["market"], w["ccy"], w["amount"], now, OURS)
        async with self._db.transaction() as tx:
            if await tx.first(STATE, {"request": request_id}) is None:
                await keep_request(tx, ours, now, OURS)
            return await job.settle(tx, Again(now + self._poll_ms, counts=False, payload=w | {"request": request_id}))

    async def _send_again(self, job: Job, answer: Answer) -> Verdict:
        """Busy: wait as documented. Silence: the same reference again, three times, then ask by reference (A-40)."""
        sent = job.payload["sent"] + 1
        payload = job.payload | {"sent": sent}
        error = str(answer.code or answer.message)
        if answer.outcome is Outcome.RETRYABLE:
            if sent > len(self._busy_ms):
                return await self._result(job, answer, success=False)
            return Again(self._clock.now_ms() + self._busy_ms[sent - 1], error, counts=False, payload=payload)
        if sent < self._resend_max:
            return Again(self._clock.now_ms() + self._resend_ms, error, counts=False, payload=payload)
        return Again(self._clock.now_ms() + self._poll_ms, error, counts=False, payload=payload | {"request": "?"})

    async def _ask(self, job: Job, poll: int) -> Answer:
        request = job.payload["request"]
        return await self._gateway.query_withdrawal(request if request != "?" else None, job.payload["ref"], poll)

    async def _poll(self, job: Job) -> Verdict:
        poll = job.retry_count + 1
        answer = await self._ask(job, poll)
        if answer.outcome in (Outcome.SUCCESS, Outcome.FAILED):
            return await self._result(job, answer, success=answer.outcome is Outcome.SUCCESS)
        if poll < self._poll_max:
            return Again(job.next_on_grid(self._poll_ms, self._clock.now_ms()), str(answer.code or ""))
        return await self._exhaust(job, poll, answer)

    async def _exhaust(self, job: Job, poll: int, answer: Answer) -> Verdict:
        """Ten polls: alert, hand over to the two-hour fallback; the freeze stays (TMO-01, JOB-012)."""
        p = job.payload["procedure"]
        await self._sba.note_bank(p, poll_exhausted=1, poll_count=poll, bank_code=str(answer.code or ""))
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            await self._jobs.enqueue(tx, SYNC, job.key, job.payload | {"until": now + self._window_ms},
                                     now + self._sync_ms, self._window_ms // self._sync_ms + 1)
            return await job.settle(tx, Exhausted(
                f"{poll} polls without a result; the freeze stays", "AIRSTAR-06", f"P{p}"))

    async def _sync(self, job: Job) -> Verdict:
        """SyncAsbBstWithdraw, fallback: every 60 s for two hours after the polls are used up (JOB-013…015)."""
        answer = await self._ask(job, job.retry_count + 1)
        if answer.outcome in (Outcome.SUCCESS, Outcome.FAILED):
            return await self._result(job, answer, success=answer.outcome is Outcome.SUCCESS)
        following = job.next_on_grid(self._sync_ms, self._clock.now_ms())
        if following <= job.payload["until"]:
            return Again(following, str(answer.code or ""))
        p = job.payload["procedure"]
        reply = await self._sba.procedure(p)
        if reply is not None and reply["state"] == "pending(transfer_auto)":
            await self._sba.note_bank(p, abnormal=1)
            return Exhausted("no result within two hours; ask the bank", "AIRSTAR-07", f"P{p}")
        return Exhausted("no result within two hours; decided by a person", alert="")

    async def _result(self, job: Job, answer: Answer, *, success: bool) -> Verdict:
        if success and answer.amount is not None and answer.amount != job.payload["amount"]:
            return Exhausted(f"the bank paid {answer.amount}, instructed were {job.payload['amount']} (minor units)")
        reply = await self._sba.bank_result(
            job.payload["procedure"], success=success, code=str(answer.code or ""), detail=answer.message,
            request_id=answer.request_id)
        if reply.code in (Code.LOCK_BUSY, Code.DEPENDENCY_TIMEOUT, Code.VERSION_CONFLICT):
            return Again(self._clock.now_ms() + self._resend_ms, reply.code.name, counts=False)
        return Done() if reply.code is Code.OK else Exhausted(f"{reply.code.name} {reply.message}")

    async def on_its_way(self, procedure_id: int) -> bool:
        """Whether our own instruction may be on its way to the bank at this moment: a sending has begun, and neither
        its answer nor the bank's id is known. Nobody outside can say then that the bank has not been told."""
        shown = await self._sba.procedure(procedure_id)
        if shown is None or shown["state"] != "pending(transfer_auto)":
            return False
        job = await self._jobs.find(TRANSFER, f"P{procedure_id}:{shown['attempt_no']}")
        return job is not None and job.state in _OPEN and bool(job.payload.get("doubt")) and not job.payload["request"]

    async def query_bank(self, procedure_id: int) -> Reply | Answer:
        """Operations ask the bank about one withdrawal: a definite result is applied, anything else only shown."""
        with Hop(self._trace, "withdraw.query_bank", "withdraw", of=""):
            return await self._query_bank(procedure_id)

    async def _query_bank(self, procedure_id: int) -> Reply | Answer:
        shown = await self._sba.procedure(procedure_id)
        if shown is None:
            return Reply(Code.NOT_FOUND, f"no Procedure {procedure_id}")
        answer = await self._gateway.query_withdrawal(shown["request_id"] or None, shown["transfer_ref_id"])
        if answer.outcome not in (Outcome.SUCCESS, Outcome.FAILED):
            return answer
        return await self._sba.bank_result(procedure_id, success=answer.outcome is Outcome.SUCCESS,
                                           code=str(answer.code or ""), detail=answer.message)

    # Begun at the bank

    async def pull_bank_requests(self) -> int:
        """SyncAsbBstWithdraw, pull: a Task for each withdrawal that a customer began at the bank and we do not know;
        returns how many were new (JOB-016)."""
        return await self._deposits.pulls.take("OUT", self._pull_ms, self._keep)

    async def _keep(self, item: BankRequest) -> int:
        """Accept or refuse at the bank by a job of its own, and for an accepted one a Task in the same transaction."""
        with Hop(self._trace, "withdraw.begun_at_bank", "withdraw", of=""):
            return await self._take_on(item)

    async def _take_on(self, item: BankRequest) -> int:
        mandate = await self._mandates.by_mandate_id(item.mandate_id)
        account = await self._accounts.trade_account(mandate.uid, item.market) if mandate is not None else 0
        objection = await self._objection(item, mandate, account)
        card_no = await self._accounts.card_no(mandate.card_id) if mandate is not None else ""
        now = self._clock.now_ms()
        try:
            async with self._db.transaction() as tx:
                await keep_request(tx, item, now, REFUSED if objection else NEW)
                task_id = None
                if mandate is not None and not objection:
                    task = await self._withdrawals.new(
                        tx, uid=mandate.uid, trade_acc_id=account, market=item.market, card_id=mandate.card_id,
                        card_no=card_no, bank_code="airstar", ccy=item.ccy,
                        amount=item.amount, method=BST, template="bank_launched", bank_launched=1,
                        request_id=item.request_id)
                    task_id = task.id
                    await close_request(tx, item.request_id, now, ACCEPTED, task_id=task_id)
                await self._jobs.enqueue(tx, ACKNOWLEDGE, item.request_id, {
                    "request": item.request_id, "objection": objection, "task": task_id}, now, self._resend_max)
        except UniqueViolation:
            return 0
        return 1

    async def not_paid(self, tx: Transaction, task: Task, why: str) -> None:
        """What the customer began at the bank, and we accepted there, has ended without payment: Airstar has no message
        for that, so people must tell the bank (WD-09)."""
        tx.after_commit(lambda: raise_alert(self._trace, "WD-09", task.request_id, f"T{task.id}: {why}"))

    async def _objection(self, item: BankRequest, mandate: Mandate | None, account: int) -> str:
        """Why a withdrawal begun at the bank is refused there at once, or "" (A-69)."""
        if mandate is None or not mandate.covers(item.market):
            return "authorization is not open"
        short = await self._accounts.settled_cash(account, item.ccy) < item.amount
        return "insufficient balance" if short else ""

    async def _acknowledge(self, job: Job) -> Verdict:
        objection = job.payload["objection"]
        answer = await self._gateway.acknowledge(
            job.payload["request"], not objection, objection, attempt=job.retry_count + 1)
        if answer.outcome in (Outcome.ACCEPTED, Outcome.REJECTED):
            return Done()
        return Again(self._clock.now_ms() + self._resend_ms, str(answer.code or answer.message))
