"""Airstar withdrawals: AsbBstTransfer sends once and polls ten times, SyncAsbBstWithdraw goes on for two hours and
pulls what customers began at the bank (orchestration.md §5.2, channels.md §2, gaps.md A-38…A-40).

One reference per attempt, written with the job that sends it: however often the job runs, the bank pays once.
Nothing here releases money on silence: after ten polls the freeze stays, after two hours it stays, and people decide.
"""

from __future__ import annotations

from typing import Any

from core.accounts import Accounts
from core.banks.airstar import AirstarGateway, Answer, BankRequest, Outcome
from core.cards.mandates import Mandates
from core.clock import Clock
from core.deposits.airstar import NOTHING_HAPPENED, OUTSIDE_WINDOW, AirstarDeposits
from core.deposits.bank_requests import ACCEPTED, NEW, OURS, REFUSED, close_request, keep_request
from core.errors import Code, OutcomeUnknown
from core.jobs import Again, Done, Exhausted, Job, Jobs, Verdict
from core.orchestration.records import BST, Effect, Procedure, Reply
from core.orchestration.service import Sba
from core.settings import Settings
from core.storage import Database, UniqueViolation
from core.withdrawals.tasks import Withdrawals

TRANSFER, SYNC, ACKNOWLEDGE = "AsbBstTransfer", "SyncAsbBstWithdraw", "AsbBstAcknowledge"


class AirstarWithdrawals:
    """The withdrawal side of Airstar in one core."""

    def __init__(
        self, db: Database, clock: Clock, jobs: Jobs, mandates: Mandates, gateway: AirstarGateway,
        sba: Sba, withdrawals: Withdrawals, deposits: AirstarDeposits, accounts: Accounts, settings: Settings,
    ) -> None:
        self._db, self._clock, self._jobs = db, clock, jobs
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
            payload = {
                "procedure": p.id, "ref": await self._deposits.reference(tx), "mandate": mandate.mandate_id if mandate
                else "", "market": p.market, "ccy": p.withdraw.ccy, "amount": p.withdraw.amount,
                "bank_request": task.request_id or None, "request": "", "sent": 0}
            await self._jobs.enqueue(tx, TRANSFER, key, payload, self._clock.now_ms(), self._poll_max)

    # Sending and polling

    async def _transfer(self, job: Job) -> Verdict:
        return await (self._poll(job) if job.payload["request"] else self._send(job))

    async def _send(self, job: Job) -> Verdict:
        w = job.payload
        answer = await self._gateway.withdraw(
            w["ref"], w["mandate"], w["market"], w["ccy"], w["amount"], w["bank_request"], w["sent"] + 1)
        if answer.outcome is Outcome.ACCEPTED:
            await self._sba.note_bank(w["procedure"], request_id=answer.request_id, bank_ack_at=self._clock.now_ms())
            return Again(self._clock.now_ms() + self._poll_ms, counts=False, payload=w | {"request": answer.request_id})
        if answer.outcome is Outcome.REJECTED:
            return await self._result(job, answer, success=False)
        return await self._send_again(job, answer)

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
            return Again(job.due_ms + self._poll_ms, str(answer.code or ""))
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
        if job.due_ms + self._sync_ms <= job.payload["until"]:
            return Again(job.due_ms + self._sync_ms, str(answer.code or ""))
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

    async def query_bank(self, procedure_id: int) -> Reply | Answer:
        """Operations ask the bank about one withdrawal: a definite result is applied, anything else only shown."""
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
        returns how many were new. It looks back two periods, so a failed pull loses nothing."""
        now = self._clock.now_ms()
        answer = await self._gateway.bank_requests("OUT", now - 2 * self._pull_ms, now + 1)
        if answer.outcome is not Outcome.ACCEPTED:
            raise OutcomeUnknown(f"bank-requests: {answer.message or answer.code}")
        fresh = 0
        for item in answer.data["items"]:
            if await self._db.first(SEEN, {"request": item.request_id}) is None:
                fresh += await self._keep(item)
        return fresh

    async def _keep(self, item: BankRequest) -> int:
        """Accept or refuse at the bank by a job of its own, and for an accepted one a Task in the same transaction."""
        now = self._clock.now_ms()
        mandate = await self._mandates.by_mandate_id(item.mandate_id)
        accept = mandate is not None and mandate.covers(item.market)
        try:
            async with self._db.transaction() as tx:
                await keep_bank_request(tx, item, now)
                await self._jobs.enqueue(tx, ACKNOWLEDGE, item.request_id, {
                    "request": item.request_id, "accept": accept}, now, self._resend_max)
                if mandate is not None and accept:
                    account = await self._accounts.trade_account(mandate.uid, item.market)
                    task = await self._withdrawals.new(
                        tx, uid=mandate.uid, trade_acc_id=account, market=item.market, card_id=mandate.card_id,
                        card_no=await self._accounts.card_no(mandate.card_id), bank_code="airstar", ccy=item.ccy,
                        amount=item.amount, method=BST, template="bank_launched", bank_launched=1,
                        request_id=item.request_id)
                    await tx.execute(USED, {"b_request": item.request_id, "apply_id": None, "task_id": task.id,
                                            "state": "ACCEPTED", "updated_at": now})
        except UniqueViolation:
            return 0
        return 1

    async def _acknowledge(self, job: Job) -> Verdict:
        accept = job.payload["accept"]
        answer = await self._gateway.acknowledge(
            job.payload["request"], accept, "" if accept else "authorization is not open", attempt=job.retry_count + 1)
        if answer.outcome in (Outcome.ACCEPTED, Outcome.REJECTED):
            return Done()
        return Again(self._clock.now_ms() + self._resend_ms, str(answer.code or answer.message))
