"""Withdrawals by bank-securities transfer at CMB and CMBC (orchestration.md §5.5, gaps.md B-08): one bank in one core.

    SBA -> INSTRUCT -> transfer job -> 200102 -> pushed result 200103 -> SBA
    bank -> push 200104 -> cmb_list / ms_list -> Task (bank_launched) -> SBA -> 200102 under the bank's reference

Nothing here releases money on silence: an unknown outcome is queried under the same reference, and what stays
unknown is for people, with the freeze where it is. A withdrawal that the customer began at the bank and that is not to
be paid is refused there by 200109, so that the bank does not wait for us.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import bindparam, insert, update

from core.accounts import Accounts, CardHolder
from core.alerts import raise_alert
from core.banks.socket.gateway import Answer, Outcome, Push, SocketGateway, result_of
from core.banks.socket.gateway import Customer as BankCustomer
from core.calendars import Calendars
from core.cards.agreements import Agreements
from core.clock import Clock
from core.deposits.bst import SocketDeposits, read_wish
from core.deposits.pushes import REFUSED, TAKEN, Effect, Noted
from core.deposits.transfers import (
    DEPOSIT,
    JOBS,
    NOT_OURS,
    OPEN,
    REVERSAL,
    USED_ELSEWHERE,
    WITHDRAW,
    Sending,
    Transfer,
    Transfers,
    differs,
)
from core.domain import JobState, Market
from core.errors import Code, OutcomeUnknown
from core.hops import CARDS, Hop, belongs_to, trace_of
from core.jobs import Again, Done, Exhausted, Failed, Job, Jobs, Verdict
from core.money import parse_wire
from core.orchestration.records import BST, Procedure, Reply
from core.orchestration.records import Effect as Asked
from core.orchestration.service import Sba
from core.settings import Settings
from core.storage import Database, Statement, Transaction
from core.storage.primary import cmb_list, ms_list
from core.trace import Trace
from core.wire.socket.messages import DUPLICATE, Action, BankWithdrawal, TransferResult, callback
from core.withdrawals.tasks import Task, Withdrawals

_OPEN_JOB = (JobState.READY, JobState.RUNNING, JobState.RETRY)
_LISTS = {"cmb": (cmb_list, "bank_tx_seq"), "cmbc": (ms_list, "org_ref_no")}
_BUSY = (Code.LOCK_BUSY, Code.DEPENDENCY_TIMEOUT, Code.VERSION_CONFLICT)
_NO_LONGER_WAITING = (Outcome.TAKEN_ON, Outcome.DUPLICATE, Outcome.REJECTED)
"""Answers to a refusal of ours after which the bank pays nothing: refused now, before, or lapsed there by itself."""
OUTSIDE_WINDOW = -9
"""Code of a withdrawal that could not be sent before its market's cutoff."""
NOT_SIGNED = "BANK_REJECTED"
"""Reason of a withdrawal that the bank refuses because its customer has not signed (B-08, -7)."""
_IMPOSSIBLE = "the agreement is not signed for this market"


class _List:
    """The bank's list of withdrawals that customers began there (DB-07)."""

    def __init__(self, bank: str) -> None:
        table, reference = _LISTS[bank]
        self.reference = reference
        self.new = Statement(insert(table).values({name: bindparam(name) for name in (
            reference, "card_no", "ccy", "amount", "market", "task_id", "state", "created_at", "updated_at")}))
        self.accept = Statement(update(table).where(table.c[reference] == bindparam("b_ref")).values(
            task_id=bindparam("task_id")))
        self.change = Statement(update(table).where(table.c[reference] == bindparam("b_ref")).values(
            state=bindparam("state"), updated_at=bindparam("updated_at")))


class SocketWithdrawals:
    """The withdrawal side of one of the two banks."""

    def __init__(
        self, bank: str, db: Database, clock: Clock, trace: Trace, jobs: Jobs, agreements: Agreements,
        gateway: SocketGateway, transfers: Transfers, sba: Sba, withdrawals: Withdrawals, deposits: SocketDeposits,
        accounts: Accounts, calendars: Calendars, settings: Settings,
    ) -> None:
        self.bank, self._db, self._clock, self._trace, self._jobs = bank, db, clock, trace, jobs
        self._agreements, self._gateway, self._transfers, self._sba = agreements, gateway, transfers, sba
        self._withdrawals, self._deposits, self._accounts = withdrawals, deposits, accounts
        self._calendars, self._names, self._list = calendars, JOBS[bank], _List(bank)
        self._sending = Sending(bank, gateway, calendars, clock, settings, late_code=OUTSIDE_WINDOW)
        self._retry_ms: int = settings["sba.outbox.retry_ms"]
        self._refuse_tries: int = settings["socket.refuse.max"]

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return {self._names.transfer: self._transfer, self._names.result: self._result,
                self._names.refuse: self._refuse}

    # From SBA: give the instruction

    async def instruct(self, p: Procedure, _effect: Asked) -> dict[str, Any]:
        """INSTRUCT: queue the transfer of this attempt under one reference; asked twice it answers the same."""
        key = f"P{p.id}:{p.attempt_no}"
        known = await self._jobs.find(self._names.transfer, key)
        if known is None:
            await self._queue(p, key)
            known = await self._jobs.find(self._names.transfer, key)
        assert known is not None, key
        return {"transfer_ref_id": known.payload["ref"], "bank_submitted": 1}

    async def _queue(self, p: Procedure, key: str) -> None:
        """One reference for each attempt; for a withdrawal begun at the bank the bank's own, for ever."""
        task = await self._withdrawals.find(p.withdraw.task_id)
        assert task is not None, key
        async with self._db.transaction() as tx:
            if task.bank_launched:
                reference = task.request_id
                await self._transfers.attach(tx, reference, p.id)
            else:
                reference = await self._deposits.reference(tx)
                await self._transfers.begin(tx, reference, WITHDRAW, p.withdraw.ccy, p.withdraw.amount, task.card_no,
                                            task_id=task.id, procedure_id=p.id)
            await self._jobs.enqueue(tx, self._names.transfer, key, Sending.payload(
                reference, procedure=p.id, task=task.id, attempt=p.attempt_no, market=p.market, card_no=task.card_no,
                payee=p.withdraw.payee_name, cutoff=self._cutoff_ms(p.market)), self._clock.now_ms(), 0)

    # Sending

    async def _transfer(self, job: Job) -> Verdict:
        w = job.payload
        transfer = await self._transfers.find(w["ref"])
        assert transfer is not None, w
        if transfer.not_ours:
            return await self._for_people(NOT_OURS, w["procedure"], USED_ELSEWHERE)
        if transfer.state != OPEN:  # its result was pushed and taken
            return Done()
        holder = await self._accounts.card_holder(self.bank, transfer.card_no)
        customer = self._customer(transfer, holder, w["payee"])

        async def send(attempt: int) -> Answer:
            return await self._gateway.pay(transfer.transfer_ref, customer, w["market"], transfer.ccy, transfer.amount,
                                           attempt)

        async def wanted() -> bool:
            return await self._still_wanted(w)

        before = w["taken"]
        outcome = await self._sending.run(job, transfer, send, wanted=wanted, cutoff_ms=w["cutoff"])
        if isinstance(outcome, Answer):
            return await self.settle(job, transfer, outcome)
        if isinstance(outcome, Exhausted):
            return await self._for_people(outcome.error, w["procedure"], outcome.alert or "SOCK-05")
        if isinstance(outcome, Failed):
            return await self._not_sent(job, transfer, outcome)
        if isinstance(outcome, Again) and outcome.payload and outcome.payload["taken"] and not before:
            with suppress(OutcomeUnknown):  # a mark; whoever has the Procedure at this moment may bring its result
                await self._sba.note_bank(w["procedure"], bank_ack_at=self._clock.now_ms())
        return outcome

    async def _not_sent(self, job: Job, transfer: Transfer, why: Failed) -> Verdict:
        """A person has decided, or an earlier run of this job has, and died: over in our book as well, unless another
        attempt goes on, perhaps under this reference (`_queue`)."""
        shown = await self._sba.procedure(job.payload["procedure"])
        async with self._db.transaction() as tx:
            if shown is not None and shown["attempt_no"] == job.payload["attempt"]:
                await self._transfers.finish(tx, transfer.transfer_ref, success=False, code=None)
            return await job.settle(tx, why)

    @staticmethod
    def _customer(transfer: Transfer, holder: CardHolder | None, payee: str) -> BankCustomer:
        name = holder.name if holder else payee
        return BankCustomer(name, transfer.card_no, payee_name=payee or (holder.en_name if holder else ""))

    async def _still_wanted(self, w: Mapping[str, Any]) -> bool:
        """Whether this attempt still waits for the bank: a person may have decided while it could not be sent."""
        shown = await self._sba.procedure(w["procedure"])
        return shown is not None and shown["state"] == "pending(transfer_auto)" and shown["attempt_no"] == w["attempt"]

    def _cutoff_ms(self, market: int) -> int:
        """When the market's session in which this is dispatched ends: nothing is sent after it (B-08, -9)."""
        now = self._clock.now_ms()
        gate = self._calendars.market_gate(Market(market), now, bst=True)
        return gate.closes_ms if gate.open else now

    async def _for_people(self, error: str, procedure_id: int, alert: str) -> Verdict:
        """No machine goes on: people may decide now (A-22), with what the bank tells them."""
        try:
            await self._sba.note_bank(procedure_id, poll_exhausted=1, abnormal=1)
        except OutcomeUnknown as busy:
            return Again(self._clock.now_ms() + self._retry_ms, str(busy), counts=False)
        return Exhausted(error, alert, f"P{procedure_id}")

    async def settle(self, job: Job, transfer: Transfer, answer: Answer) -> Verdict:
        """A definite result of a withdrawal: into SBA, then into our book of transfers. The job's last act."""
        success = answer.outcome is Outcome.SUCCESS
        if transfer.procedure_id is None:
            return Exhausted(f"a result of {transfer.transfer_ref}, which was never instructed")
        if answer.outcome is Outcome.DUPLICATE:
            return await self._not_ours(transfer, transfer.procedure_id)
        if transfer.not_ours:
            return Exhausted(f"{NOT_OURS}: {answer.said}", alert="")  # people know
        if wrong := differs(transfer, answer):
            return await self._for_people(wrong, transfer.procedure_id, USED_ELSEWHERE)
        reply = await self._sba.bank_result(
            transfer.procedure_id, success=success, code=str(answer.code), detail=answer.text,
            request_id=answer.bank_serial,
            reason=NOT_SIGNED if callback(answer.code).action is Action.RETURN_REJECTED else "")
        if reply.code in _BUSY:
            return Again(self._clock.now_ms() + self._retry_ms, reply.code.name, counts=False)
        async with self._db.transaction() as tx:
            await self._transfers.finish(tx, transfer.transfer_ref, success=success, code=answer.code)
            refused = Exhausted(f"{reply.code.name} {reply.message}")
            return await job.settle(tx, Done() if reply.code is Code.OK else refused)

    async def _not_ours(self, transfer: Transfer, procedure_id: int) -> Verdict:
        """The bank has another's transfer under this reference: ours was never taken on. Into our book first, so that
        nothing said of the other one counts as a word on ours."""
        async with self._db.transaction() as tx:
            await self._transfers.finish(tx, transfer.transfer_ref, success=False, code=DUPLICATE)
        return await self._for_people(NOT_OURS, procedure_id, USED_ELSEWHERE)

    # Pushed results

    async def result_pushed(self, push: Push) -> Effect:
        """A result of a transfer of ours: a job takes it to the Procedure or the Apply."""
        body = push.body
        assert isinstance(body, TransferResult), push
        known = await self._transfers.find(body.transfer_ref)

        async def take(tx: Transaction) -> Noted:
            if known is None:
                unknown = f"{self.bank}:{body.transfer_ref}"
                tx.after_commit(lambda: raise_alert(self._trace, "RECON-02", unknown, "a result of none of ours"))
                return Noted(REFUSED, "no transfer with this reference")
            owner = {"apply": known.apply_id, "task": known.task_id}
            tx.after_commit(lambda: belongs_to(trace_of(owner)))
            await self._jobs.enqueue(tx, self._names.result, f"{body.transfer_ref}:{body.code}", owner | {
                "ref": body.transfer_ref, "code": body.code, "ccy": body.ccy, "text": body.text,
                "amount": parse_wire(body.amount) if body.amount else None,  # a day list may leave it out
                "serial": body.bank_serial}, self._clock.now_ms(), self._refuse_tries)
            return Noted(TAKEN)

        return take

    async def _result(self, job: Job) -> Verdict:
        of = job.payload
        transfer = await self._transfers.find(of["ref"])
        assert transfer is not None, of
        outcome = result_of(of["code"])
        answer = Answer(outcome, of["code"], of["text"], of["serial"], of["amount"], ccy=of["ccy"])
        if outcome not in (Outcome.SUCCESS, Outcome.FAILED):
            self._gateway.switch(f"{of['ref']}: result {of['code']}")
            answer = await self._gateway.query(of["ref"])
            if answer.outcome not in (Outcome.SUCCESS, Outcome.FAILED):
                return Done()  # still unknown: the job that sent it goes on asking
        return await self._settle_kind(job, transfer, answer)

    async def _settle_kind(self, job: Job, transfer: Transfer, answer: Answer) -> Verdict:
        if transfer.kind == DEPOSIT:
            return await self._deposits.settle(job, transfer, answer)
        if transfer.kind == WITHDRAW:
            return await self.settle(job, transfer, answer)
        if wrong := differs(transfer, answer):
            return Exhausted(wrong, USED_ELSEWHERE, f"{self.bank}:{transfer.transfer_ref}")
        async with self._db.transaction() as tx:
            await self._transfers.finish(tx, transfer.transfer_ref, success=answer.outcome is Outcome.SUCCESS,
                                         code=answer.code)
            return await job.settle(tx, Done())

    # Begun at the bank

    async def pushed(self, push: Push) -> Effect:
        """A customer asks at the bank for money from us: a Task, or a refusal at the bank (A-69)."""
        body = push.body
        assert isinstance(body, BankWithdrawal), push
        wish = read_wish(body.market, body.ccy, body.amount)
        holder = await self._accounts.card_holder(self.bank, body.card_no)
        market, amount = (Market.HK, 0) if isinstance(wish, str) else wish
        account = await self._accounts.trade_account(holder.uid, market) if holder is not None else 0
        objection = wish if isinstance(wish, str) else self._foreign(holder, body) or await self._objection(
            holder, account, market, body, amount)

        async def take(tx: Transaction) -> Noted:
            if objection or holder is None:
                return await self._take_refused(tx, body, objection, market, amount)
            with Hop(self._trace, "withdraw.begun_at_bank", "withdraw"):
                await self._enlist(tx, body, market, amount, "ACCEPTED")
                task = await self._withdrawals.new(
                    tx, uid=holder.uid, trade_acc_id=account, market=int(market), card_id=holder.card_id,
                    card_no=body.card_no, bank_code=self.bank, ccy=body.ccy, amount=amount, method=BST,
                    template="bank_launched", bank_launched=1, request_id=body.transfer_ref)
                await tx.execute(self._list.accept, {"b_ref": body.transfer_ref, "task_id": task.id})
                await self._transfers.begin(tx, body.transfer_ref, WITHDRAW, body.ccy, amount, body.card_no,
                                            task_id=task.id)
            return Noted(TAKEN)

        return take

    def _foreign(self, holder: CardHolder | None, body: BankWithdrawal) -> str:
        return self._deposits.foreign(holder, body.ccy, body.name) if holder is not None else ""

    async def _objection(
        self, holder: CardHolder | None, account: int, market: Market, body: BankWithdrawal, amount: int
    ) -> str:
        """Why a withdrawal begun at the bank is refused there at once, or ""."""
        if holder is None:
            return "no customer has bound this card"
        with Hop(self._trace, "bankcard.check", CARDS):
            agreement = await self._agreements.of_card(holder.card_id, market, body.card_no)
        if agreement is None or not agreement.signed:
            return _IMPOSSIBLE
        return "insufficient balance" if await self._accounts.settled_cash(account, body.ccy) < amount else ""

    async def _take_refused(
        self, tx: Transaction, body: BankWithdrawal, objection: str, market: Market, amount: int
    ) -> Noted:
        if amount > 0:
            await self._enlist(tx, body, market, amount, "REFUSED")
            await self._queue_refusal(tx, body.transfer_ref, body.ccy, amount, body.card_no, objection)
        else:
            tx.after_commit(lambda: raise_alert(self._trace, "WD-09", f"{self.bank}:{body.transfer_ref}", objection))
        return Noted(REFUSED, objection)

    async def _enlist(
        self, tx: Transaction, body: BankWithdrawal, market: Market, amount: int, state: str
    ) -> None:
        """Into the bank's list, before there is a Task (DB-07)."""
        now = self._clock.now_ms()
        await tx.execute(self._list.new, {
            self._list.reference: body.transfer_ref, "card_no": body.card_no, "ccy": body.ccy, "amount": amount,
            "market": int(market), "task_id": None, "state": state, "created_at": now, "updated_at": now})

    # Refusing at the bank what the customer began there

    async def not_paid(self, tx: Transaction, task: Task, why: str) -> None:
        """A Task that the bank began has ended without payment: tell the bank, in the same transaction."""
        now = self._clock.now_ms()
        await tx.execute(self._list.change, {"b_ref": task.request_id, "state": "REFUSED", "updated_at": now})
        await self._queue_refusal(tx, task.request_id, task.ccy, task.amount, task.card_no, why, task.id)

    async def _queue_refusal(
        self, tx: Transaction, original: str, ccy: str, amount: int, card_no: str, why: str,
        task_id: int | None = None,
    ) -> None:
        await self._jobs.enqueue(tx, self._names.refuse, original, {
            "ref": await self._deposits.reference(tx), "original": original, "ccy": ccy, "amount": amount,
            "card_no": card_no, "why": why[:60], "task": task_id}, self._clock.now_ms(), self._refuse_tries)

    async def _refuse(self, job: Job) -> Verdict:
        """Ask first: what the bank has ended itself, or has paid, is not to be taken back by a refusal. What it has
        only noted is no transfer there yet, and not found."""
        of = job.payload
        if not self._gateway.available:
            return Again(self._clock.now_ms() + self._retry_ms, "no exit server is connected", counts=False)
        known = await self._gateway.query(of["original"], job.retry_count + 1)
        if known.outcome is Outcome.FAILED:
            return await self._refused(job, known)
        if known.outcome is Outcome.NOT_FOUND:
            await self._note_reversal(of)
            known = await self._gateway.reverse(of["ref"], of["original"], of["ccy"], of["amount"], of["why"],
                                                job.retry_count + 1)
            if known.outcome in _NO_LONGER_WAITING:
                return await self._refused(job, known)
        error = f"{known.outcome} {known.said}"
        if known.outcome is Outcome.CLOSED:  # what nobody has taken lapses there with the session: asked at the opening
            again, shut = self._sending.again_ms(of.get("shut", 0))
            return Again(again, error, counts=False, payload=of | {"shut": shut})
        if job.retry_count >= job.max_retry or known.outcome is Outcome.SUCCESS:
            return Exhausted(error, "WD-09", f"{self.bank}:{of['original']}")
        return Again(self._clock.now_ms() + self._sending.wait_ms(job.retry_count), error)

    async def _note_reversal(self, of: Mapping[str, Any]) -> None:
        """Into our book before it leaves, for its result is pushed."""
        if await self._transfers.find(of["ref"]) is None:
            async with self._db.transaction() as tx:
                await self._transfers.begin(tx, of["ref"], REVERSAL, of["ccy"], of["amount"], of["card_no"])

    async def _refused(self, job: Job, answer: Answer) -> Verdict:
        """Nothing is paid there any more; a refusal that the bank did not need has no result of its own."""
        async with self._db.transaction() as tx:
            if answer.outcome is Outcome.REJECTED:
                await self._transfers.finish(tx, job.payload["ref"], success=False, code=answer.code)
            await self._transfers.finish(tx, job.payload["original"], success=False, code=-6)
            return await job.settle(tx, Done())

    # What operations ask

    async def on_its_way(self, procedure_id: int) -> bool:
        """Whether our instruction may be on its way to the bank at this moment, neither answered nor found there."""
        shown = await self._sba.procedure(procedure_id)
        if shown is None or shown["state"] != "pending(transfer_auto)":
            return False
        job = await self._jobs.find(self._names.transfer, f"P{procedure_id}:{shown['attempt_no']}")
        return job is not None and job.state in _OPEN_JOB and bool(job.payload["doubt"]) and not job.payload["taken"]

    async def has_it(self, procedure_id: int) -> bool:
        """Whether the bank says, asked now, that it still works on our instruction or has paid it."""
        with Hop(self._trace, "withdraw.query_bank", "withdraw"):
            shown = await self._sba.procedure(procedure_id)
            transfer = await self._transfers.find(shown["transfer_ref_id"]) if shown is not None else None
            if transfer is None or transfer.not_ours:
                return False
            answer = await self._gateway.query(transfer.transfer_ref)
            return answer.outcome in (Outcome.PENDING, Outcome.SUCCESS) and not differs(transfer, answer)

    async def query_bank(self, procedure_id: int) -> Reply | Answer:
        """Operations ask the bank about one withdrawal: a definite result is applied, anything else only shown."""
        with Hop(self._trace, "withdraw.query_bank", "withdraw", of=""):
            return await self._query_bank(procedure_id)

    async def _query_bank(self, procedure_id: int) -> Reply | Answer:
        shown = await self._sba.procedure(procedure_id)
        if shown is None:
            return Reply(Code.NOT_FOUND, f"no Procedure {procedure_id}")
        reference = shown["transfer_ref_id"]
        transfer = await self._transfers.find(reference)
        answer = await self._gateway.query(reference)
        if answer.outcome not in (Outcome.SUCCESS, Outcome.FAILED) or transfer is None:
            return answer
        if wrong := NOT_OURS if transfer.not_ours else differs(transfer, answer):
            return answer._replace(outcome=Outcome.UNKNOWN, text=wrong)  # no word on our transfer
        success = answer.outcome is Outcome.SUCCESS
        reply = await self._sba.bank_result(procedure_id, success=success, code=str(answer.code), detail=answer.text)
        if reply.ok:
            async with self._db.transaction() as tx:
                await self._transfers.finish(tx, reference, success=success, code=answer.code)
        return reply

