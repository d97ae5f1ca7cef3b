"""Airstar deposits: the chain of jobs from the customer's wish to the credit (orchestration.md §5.1, §5.3).

    App -> Apply -> AsbBstCreateJob -> AsbBstCreateResultJob (60 polls, 3 s start to start) -> AsbBstDepositJob -> SBA
    bank -> FetchBankRequest (2 min) -> AsbBstCreateFromBankJob -> AsbBstCreateResultJob -> AsbBstDepositJob -> SBA

Each job settles in the transaction that writes its result and queues the next: no link is lost or doubled. A
create whose outcome is unknown is sent again under the same reference; the bank answers with the original request.
An instruction leaves only while the bank's window is open (WIN-02); polls and results go on around the clock (A-72).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, select

from core.accounts import Accounts
from core.alerts import raise_alert
from core.banks.airstar import AirstarGateway, Answer, BankRequest, Outcome
from core.calendars import Calendars
from core.cards.mandates import Mandate, Mandates
from core.clock import Clock
from core.deposits.applications import Applications, Apply
from core.deposits.bank_requests import (
    ACCEPTED,
    LISTED_TWICE,
    NEW,
    OURS,
    OWNER,
    REFUSED,
    REQUEST,
    STATE,
    Pulls,
    close_request,
    keep_request,
    request_key,
    take_over,
)
from core.deposits.crediting import screened
from core.domain import ApplyStatus, DepositType, Initiator
from core.errors import CallFailed, Code, OutcomeUnknown, Refusal
from core.hops import CARDS, Hop
from core.jobs import Again, Done, Exhausted, Failed, Job, Jobs, Verdict
from core.orchestration.requests import DepositRequest, check_wish
from core.orchestration.service import Sba
from core.rpc import Rpc
from core.screening import Lists
from core.settings import Settings
from core.storage import Database, Sequence, Sharded, Transaction, UniqueViolation
from core.storage.primary import applys, asb_sequence
from core.trace import Trace
from core.wire.airstar import Treatment

CREATE, RESULT, RETRY = "AsbBstCreateJob", "AsbBstCreateResultJob", "AsbBstCreateRetryJob"
FROM_BANK, CREDIT, MANDATE = "AsbBstCreateFromBankJob", "AsbBstDepositJob", "AsbMandatePoll"
TRANS_TYPE = {Initiator.MOOMOO: 303, Initiator.BANK: 304}

NOTHING_HAPPENED = (Outcome.REJECTED, Outcome.RETRYABLE, Outcome.NOT_FOUND)
"""Outcomes of a sending after which the bank certainly holds nothing under its reference."""
UNANSWERED = Sharded(lambda t: select(t.c.id).where(
    t.c.uid == bindparam("uid"), t.c.status == int(ApplyStatus.INIT), t.c.request_id == "",
    t.c.source == int(Initiator.MOOMOO), t.c.mandate_id == bindparam("mandate"), t.c.ccy == bindparam("ccy"),
    t.c.amount == bindparam("amount")).limit(1), applys)
BANK, OUTSIDE_WINDOW = "airstar", "outside the bank's window"


async def surely_unsent(job: Job) -> bool:
    """Whether the bank certainly holds nothing under this job's reference; from now on it may (a sending begins).

    The doubt is written before the bytes leave, under the lease: another worker, or this one after a restart, finds
    it and takes a refusal at the bank's door for what it is, a word about the repetition only (A-40, AIR-07).
    """
    certain = not job.payload.get("doubt", 0)
    if certain:
        await job.note(job.payload | {"doubt": 1})
    return certain


async def nothing_happened(job: Job) -> None:
    """The only sending so far was refused for certain: take the doubt back. Under the lease: whoever has lost it must
    conclude nothing, another worker may have sent meanwhile."""
    await job.note(job.payload | {"doubt": 0})


def believed(answer: Answer, certain: bool) -> Answer:
    """The answer to a sending, as far as it tells of the reference: "not now" is said at the bank's door, and says
    nothing of an earlier sending whose fate is unknown (AIR-07)."""
    if certain or answer.outcome is not Outcome.RETRYABLE:
        return answer
    return answer._replace(outcome=Outcome.UNKNOWN)


class AirstarDeposits:
    """The deposit side of Airstar in one core."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, jobs: Jobs, applications: Applications, mandates: Mandates,
        gateway: AirstarGateway, sba: Sba, lists: Lists, accounts: Accounts, rpc: Rpc, settings: Settings,
        calendars: Calendars,
    ) -> None:
        """``calendars`` know the bank's window: nothing is sent outside it (WIN-02)."""
        self._db, self._clock, self._trace, self._jobs = db, clock, trace, jobs
        self._applications, self._mandates, self._gateway = applications, mandates, gateway
        self._sba, self._lists, self._accounts, self._rpc = sba, lists, accounts, rpc
        self._calendars = calendars
        self.pulls = Pulls(db, clock, trace, gateway)
        self.references = Sequence(db, "asb", table=asb_sequence)
        self._poll_ms: int = settings["airstar.poll.deposit.interval_ms"]
        self._poll_max: int = settings["airstar.poll.deposit.max"]
        self._retry_ms: list[int] = [s * 1000 for s in settings["airstar.create_retry.delays_s"]]
        self._credit_ms: list[int] = [s * 1000 for s in settings["airstar.deposit_job.delays_s"]]
        self._from_bank_max: int = settings["airstar.from_bank.max"]
        self._resend_ms: int = settings["airstar.resend.delay_ms"]
        self._look_back_ms: int = settings["airstar.fetch.look_back_s"] * 1000
        self._failures_alert: int = settings["airstar.create.failures_alert"]
        self._failures = 0

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return {CREATE: self._create, RESULT: self._result, RETRY: self._create, FROM_BANK: self._from_bank,
                CREDIT: self._credit, MANDATE: self._mandate}

    # The customer

    async def submit(
        self, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, ccy: str, amount: int
    ) -> Apply | Refusal:
        """The customer asks in the App to move ``amount`` minor units from his Airstar account to us."""
        if refusal := check_wish(market, ccy, amount):
            return refusal
        with Hop(self._trace, "deposit.submit", "deposit", of=""):
            with Hop(self._trace, "bankcard.check", CARDS):
                mandate = await self._mandates.check(card_id, market)
                bound = await self._accounts.owns_card(uid, "airstar", card_no)
            if isinstance(mandate, Refusal):
                return mandate
            if not bound:
                return Refusal(Code.BLOCKED, f"card {card_no[-4:]} at airstar is not bound: bind it first")
            return await self._begin(mandate, uid, trade_acc_id, market, card_id, card_no, ccy, amount)

    async def _begin(
        self, mandate: Mandate, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, ccy: str,
        amount: int,
    ) -> Apply:
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            apply = await self._applications.new(
                tx, uid=uid, trade_acc_id=trade_acc_id, market=market, card_id=card_id, card_no=card_no,
                bank_type="airstar", ccy=ccy, amount=amount, source=int(Initiator.MOOMOO),
                trans_type=TRANS_TYPE[Initiator.MOOMOO], mandate_id=mandate.mandate_id,
                bank_ref_id=await self.reference(tx))
            await self._jobs.enqueue(tx, CREATE, f"A{apply.id}", {"apply": apply.id}, now, 0)
        return apply

    async def reference(self, tx: Transaction) -> str:
        """``ASBBST`` and nine digits: one increasing sequence for both directions (DEDUP-09)."""
        return f"ASBBST{await self.references.next(tx):09d}"

    async def authorize(self, uid: int, card_id: int, card_no: str, name: str, id_no_hash: str) -> Mandate:
        """The customer authorizes his Airstar card: a job asks the bank for it and polls its decision."""
        mandate = await self._mandates.begin(uid, card_id)
        payload = {"mandate": mandate.id, "card_no": card_no, "name": name, "id_no_hash": id_no_hash}
        async with self._db.transaction() as tx:
            await self._jobs.enqueue(tx, MANDATE, f"M{mandate.id}", payload, self._clock.now_ms(), 1 << 30)
        return mandate

    async def _mandate(self, job: Job) -> Verdict:
        of = job.payload
        wait = await self._mandates.advance(
            of["mandate"], of["card_no"], of["name"], of["id_no_hash"], alerted=of.get("alerted", False))
        if wait is None:
            return Done()
        return Again(self._clock.now_ms() + wait.seconds * 1000, payload=of | {"alerted": wait.alerted})

    # Sending

    async def _create(self, job: Job) -> Verdict:
        apply = await self._applications.find(job.payload["apply"])
        if apply is None or apply.status != ApplyStatus.INIT:
            return Done()
        if (opens := self.window_opens()) > self._clock.now_ms():
            return Again(opens, OUTSIDE_WINDOW, counts=False)
        answer = await self._send(job, apply, job.retry_count + job.payload.get("sent", 0) + 1)
        if answer.outcome is Outcome.ACCEPTED:
            self._failures = 0
            return await self._accepted(job, apply, answer.request_id)
        self._count_failure(apply)
        if answer.outcome in (Outcome.RETRYABLE, Outcome.UNKNOWN):
            return await self._try_again(job, apply, answer)
        return await self._give_up(job, apply, answer)

    def window_opens(self) -> int:
        """When an instruction may leave, epoch ms: now, or the next opening of the bank's window."""
        now = self._clock.now_ms()
        gate = self._calendars.bank_gate(BANK, now)
        return now if gate.open else gate.opens_ms

    async def _send(self, job: Job, apply: Apply, number: int) -> Answer:
        """Send the ``number``-th time. To the bank's door it is a repetition unless all before were surely refused."""
        certain = await surely_unsent(job)
        answer = await self._gateway.deposit(
            apply.bank_ref_id, apply.mandate_id, apply.market, apply.ccy, apply.amount,
            1 if certain else max(2, number))
        answer = believed(answer, certain)
        if certain and answer.outcome in NOTHING_HAPPENED:
            await nothing_happened(job)
        return answer

    async def _accepted(self, job: Job, apply: Apply, request_id: str) -> Verdict:
        now = self._clock.now_ms()
        ours = BankRequest(request_id, "IN", apply.mandate_id, apply.market, apply.ccy, apply.amount, now, OURS)
        async with self._db.transaction() as tx:
            if await take_over(tx, ours, apply.id, now):
                tx.after_commit(lambda: raise_alert(self._trace, "AIRSTAR-11", request_id, LISTED_TWICE))
            await self._applications.change(tx, apply, request_id=request_id)
            await self._jobs.enqueue(tx, RESULT, f"A{apply.id}:{apply.bank_ref_id}", {
                "apply": apply.id, "request": request_id, "ref": apply.bank_ref_id,
                "tried": job.payload.get("tried", 0)}, now + self._poll_ms, self._poll_max)
            return await job.settle(tx, Done())

    def _count_failure(self, apply: Apply) -> None:
        self._failures += 1
        if self._failures == self._failures_alert:
            raise_alert(self._trace, "AIRSTAR-03", f"A{apply.id}", f"{self._failures} creations failed in a row")

    async def _try_again(self, job: Job, apply: Apply, answer: Answer) -> Verdict:
        """AsbBstCreateRetryJob takes over, under the same reference: the bank never debits twice."""
        error = str(answer.code or answer.message)
        if job.event == RETRY:
            if job.retry_count < len(self._retry_ms) - 1:
                return Again(self._clock.now_ms() + self._retry_ms[job.retry_count + 1], error)
            if answer.outcome is Outcome.UNKNOWN:
                return Exhausted(f"outcome unknown after {len(self._retry_ms)} retries: {error}", "AIRSTAR-12",
                                 f"A{apply.id}")
            return await self._give_up(job, apply, answer)
        due = self._clock.now_ms() + (self._retry_ms[0] if answer.outcome is Outcome.RETRYABLE else self._resend_ms)
        async with self._db.transaction() as tx:
            await self._jobs.enqueue(tx, RETRY, f"A{apply.id}:{apply.bank_ref_id}", job.payload | {"sent": 1}, due,
                                     len(self._retry_ms))
            return await job.settle(tx, Done())

    async def _give_up(self, job: Job, apply: Apply, answer: Answer) -> Verdict:
        """Terminal failure: the Apply is marked failed and the user notified (JOB-002, JOB-008)."""
        async with self._db.transaction() as tx:
            if await self._applications.change(tx, apply, ApplyStatus.REJECTED, fail_code=str(answer.code),
                                               reject_reason="BANK_REJECTED") is not None:
                self._applications.tell(tx, apply.uid, "DEPOSIT_FAILED", str(answer.code))
            return await job.settle(tx, Failed(str(answer.code)))

    # Polling

    async def _result(self, job: Job) -> Verdict:
        poll = job.retry_count + 1
        answer = await self._gateway.query_deposit(job.payload["request"], job.payload["ref"], poll)
        if answer.outcome is Outcome.SUCCESS:
            return await self._succeeded(job, answer)
        if answer.outcome is Outcome.FAILED:
            return await self._failed(job, answer)
        if answer.outcome is Outcome.REFUNDED:
            return await self._refunded(job)
        if poll >= self._poll_max:
            return Exhausted(f"{poll} polls without a result", "AIRSTAR-04", f"A{job.payload['apply']}")
        return Again(job.next_on_grid(self._poll_ms, self._clock.now_ms()), str(answer.code or ""))

    async def _succeeded(self, job: Job, answer: Answer) -> Verdict:
        apply = await self._applications.find(job.payload["apply"])
        assert apply is not None, job.payload
        if answer.amount is not None and answer.amount != apply.amount:
            return Exhausted(f"the bank collected {answer.amount}, the Apply says {apply.amount} (minor units)")
        if await self._db.first(STATE, {"request": request_key("REFUND", job.payload["request"])}) is not None:
            return await self._refunded(job)  # taken back since this answer left the bank
        async with self._db.transaction() as tx:
            if await self._applications.change(tx, apply, ApplyStatus.CREDITING) is not None:
                await self._jobs.enqueue(tx, CREDIT, f"A{apply.id}", {"apply": apply.id}, self._clock.now_ms(),
                                         len(self._credit_ms))
            return await job.settle(tx, Done())

    async def _failed(self, job: Job, answer: Answer) -> Verdict:
        """A definite failure: with a retryable code a new instruction under a new reference, else the end."""
        apply = await self._applications.find(job.payload["apply"])
        assert apply is not None, job.payload
        tried = job.payload.get("tried", 0)
        if answer.treatment not in (Treatment.RETRYABLE, Treatment.RETRY_AT_OPENING) or tried >= len(self._retry_ms):
            return await self._give_up(job, apply, answer)
        async with self._db.transaction() as tx:
            fresh = await self._applications.change(tx, apply, bank_ref_id=await self.reference(tx), request_id="")
            if fresh is not None:
                reference = fresh.bank_ref_id
                await self._jobs.enqueue(
                    tx, RETRY, f"A{apply.id}:{reference}", {"apply": apply.id, "tried": tried + 1},
                    self._clock.now_ms() + self._retry_ms[tried], len(self._retry_ms))
            return await job.settle(tx, Done())

    async def _refunded(self, job: Job) -> Verdict:
        """REFUNDED instead of SUCCESS: never credited, so there is nothing to reverse (A-29)."""
        apply = await self._applications.find(job.payload["apply"])
        assert apply is not None, job.payload
        async with self._db.transaction() as tx:
            if await self._applications.change(tx, apply, ApplyStatus.REFUNDED) is not None:
                await self._applications.open_refund(tx, apply, "NOT_CREDITED")
                self._applications.tell(tx, apply.uid, "DEPOSIT_REFUNDED", "")
                tx.after_commit(lambda: raise_alert(
                    self._trace, "AIRSTAR-05", f"A{apply.id}", "refunded before it was credited"))
            return await job.settle(tx, Done())

    # Crediting

    async def _credit(self, job: Job) -> Verdict:
        apply = await self._applications.find(job.payload["apply"])
        assert apply is not None, job.payload
        error = ""
        try:
            reply = await self._rpc("sba.create_deposit", self._sba.create_deposit, await self._request(apply))
        except (OutcomeUnknown, CallFailed) as failure:
            reply, error = None, str(failure)
        if reply is not None and reply.ok and reply.procedure is not None:
            return await self._credited(job, apply, reply.procedure["id"])
        if reply is not None and reply.code is Code.DUPLICATE:
            return Exhausted(f"{apply.request_id} was credited for another Apply: {reply.message}", "AIRSTAR-11",
                             f"A{apply.id}")
        error = error or (f"{reply.code.name} {reply.message}" if reply is not None else "")
        if job.retry_count >= len(self._credit_ms):
            return Exhausted(error, "DEP-05", f"A{apply.id}")
        return Again(self._clock.now_ms() + self._credit_ms[job.retry_count], error)

    async def _credited(self, job: Job, apply: Apply, procedure_id: int) -> Verdict:
        latest = await self._applications.find(apply.id)  # it may be DONE by now, with its Procedure
        async with self._db.transaction() as tx:
            if latest is not None and latest.sba_procedure_id is None:
                await self._applications.change(tx, latest, sba_procedure_id=procedure_id)
            return await job.settle(tx, Done())

    async def _request(self, apply: Apply) -> DepositRequest:
        black, white = await screened(self._rpc, self._lists, apply.uid, apply.card_no)
        return DepositRequest(
            rpc_request_id=f"A{apply.id}", nn_uid=apply.uid, trade_acc_id=apply.trade_acc_id, market=apply.market,
            ccy=apply.ccy, amount=apply.amount, transaction_id=apply.request_id, transfer_method=apply.trans_type,
            deposit_type=int(DepositType.TRANS_AUTO), source=apply.source, bank_ref_id=apply.bank_ref_id,
            apply_ref=apply.id, blacklisted=black, whitelisted=white)

    # Begun at the bank

    async def fetch_bank_requests(self) -> int:
        """FetchBankRequest: new deposits that customers began at the bank, and deposits that it took back; returns how
        many were new."""
        fresh = await self.pulls.take("IN", self._look_back_ms, self._keep)
        return fresh + await self.pulls.take("REFUND", self._look_back_ms, self._note_refund)

    async def _keep(self, item: BankRequest) -> int:
        now = self._clock.now_ms()
        try:
            async with self._db.transaction() as tx:
                await keep_request(tx, item, now)
                await self._jobs.enqueue(tx, FROM_BANK, item.request_id, {
                    "request": item.request_id, "ref": await self.reference(tx)}, now, self._from_bank_max)
        except UniqueViolation:  # another worker's pull saw it first
            return 0
        return 1

    async def _from_bank(self, job: Job) -> Verdict:
        """AsbBstCreateFromBankJob: accept what the customer began (source=2), or refuse it at the bank."""
        row = await self._db.first(REQUEST, {"request": job.payload["request"]})
        assert row is not None, job.payload
        item = BankRequest(*row)
        if item.status != NEW:
            return Failed(LISTED_TWICE)
        mandate = await self._mandates.by_mandate_id(item.mandate_id)
        if mandate is not None and await self._may_be_ours(item, mandate):
            return Again(self._clock.now_ms() + self._resend_ms, "may be a deposit of ours that was not answered yet",
                         counts=False)
        card_no = await self._accounts.card_no(mandate.card_id) if mandate is not None else ""
        objection = await self._objection(item, mandate, card_no)
        answer = await self._gateway.acknowledge(item.request_id, not objection, objection, job.payload["ref"],
                                                 job.retry_count + 1)
        if answer.outcome is not Outcome.ACCEPTED:
            return self._unprocessed(job, answer)
        if mandate is None or objection:
            async with self._db.transaction() as tx:
                await close_request(tx, item.request_id, self._clock.now_ms(), REFUSED)
                return await job.settle(tx, Failed(objection))
        return await self._begin_from_bank(job, item, mandate, card_no)

    async def _objection(self, item: BankRequest, mandate: Mandate | None, card_no: str) -> str:
        """Why a deposit begun at the bank is refused there, or ""."""
        if mandate is None or not mandate.covers(item.market):
            return "authorization is not open"
        with Hop(self._trace, "bankcard.check", CARDS):
            bound = await self._accounts.owns_card(mandate.uid, "airstar", card_no)
        return "" if bound else "the card is not bound"

    async def _may_be_ours(self, item: BankRequest, mandate: Mandate) -> bool:
        """Whether a deposit of the same customer and amount was sent and not answered: the bank may list that one."""
        return await self._db.first(UNANSWERED[f"{mandate.uid % 100:02d}"], {
            "uid": mandate.uid, "mandate": mandate.mandate_id, "ccy": item.ccy, "amount": item.amount}) is not None

    def _unprocessed(self, job: Job, answer: Answer) -> Verdict:
        error = str(answer.code or answer.message)
        if job.retry_count < self._from_bank_max:
            return Again(self._clock.now_ms() + self._resend_ms, error)
        return Exhausted(error, "DEP-08", job.payload["request"])

    async def _begin_from_bank(self, job: Job, item: BankRequest, mandate: Mandate, card_no: str) -> Verdict:
        account = await self._accounts.trade_account(mandate.uid, item.market)
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            apply = await self._applications.new(
                tx, uid=mandate.uid, trade_acc_id=account, market=item.market, card_id=mandate.card_id,
                card_no=card_no, bank_type="airstar", ccy=item.ccy, amount=item.amount, source=int(Initiator.BANK),
                trans_type=TRANS_TYPE[Initiator.BANK], mandate_id=mandate.mandate_id, request_id=item.request_id,
                bank_ref_id=job.payload["ref"])
            await close_request(tx, item.request_id, now, ACCEPTED, apply_id=apply.id)
            await self._jobs.enqueue(tx, RESULT, f"A{apply.id}:{apply.bank_ref_id}", {
                "apply": apply.id, "request": item.request_id, "ref": apply.bank_ref_id,
                "tried": len(self._retry_ms),  # a request begun at the bank is not begun again by us
            }, now + self._poll_ms, self._poll_max)
            return await job.settle(tx, Done())

    # Refunded after it was credited

    async def _note_refund(self, item: BankRequest) -> int:
        """The bank took a credited deposit back: a supervisor must reverse, never a machine (A-29). One that was not
        credited yet is known as refunded by its own poll."""
        owner = await self._db.first(OWNER, {"request": item.request_id})
        apply = await self._applications.find(owner[0]) if owner is not None and owner[0] is not None else None
        credited = apply is not None and apply.status in (ApplyStatus.CREDITING, ApplyStatus.DONE)
        try:
            async with self._db.transaction() as tx:
                await keep_request(tx, item, self._clock.now_ms())
                if apply is not None and credited:
                    await self._applications.open_refund(tx, apply, "PENDING_REVERSE")
                    self._applications.tell(tx, apply.uid, "DEPOSIT_REFUNDED", "")
        except UniqueViolation:
            return 0
        if apply is not None and credited:
            raise_alert(self._trace, "AIRSTAR-05", f"A{apply.id}", "refunded after it was credited: reverse it")
        return 1

    # What operations do and see

    async def query_bank(self, apply_id: int, operator: str) -> Code:
        """"Query bank" on a deposit whose polls are used up: one poll, SUCCESS resumes the chain (A-74). If not even
        the creation was answered, one more sending under the same reference: it is answered with the original."""
        apply = await self._applications.find(apply_id)
        if apply is None:
            return Code.NOT_FOUND
        key = f"A{apply_id}:{apply.bank_ref_id}"
        job = await self._jobs.find(RESULT, key) or await self._jobs.find(RETRY, key)
        if job is None:
            return Code.NOT_FOUND
        return Code.OK if await self._jobs.retry_now(job.id, operator) else Code.ILLEGAL_STATE
