"""Deposits by bank-securities transfer at CMB and CMBC (architecture.md §8.1, gaps.md A-79): one bank in one core.

    bank -> push 200101 -> Apply (source 2) -> credit job -> SBA        the money has moved; acknowledged once persisted
    App  -> Apply (source 1) -> collect job -> 200108 -> pushed result -> credit job -> SBA

There is no polling: the bank pushes results in real time (JOB-020). Queries are the net below (`Sending`).
"""

from __future__ import annotations

from typing import Any

from core.accounts import Accounts, CardHolder
from core.alerts import raise_alert
from core.banks.socket.gateway import Answer, Outcome, Push, SocketGateway
from core.banks.socket.gateway import Customer as BankCustomer
from core.calendars import Calendars
from core.cards.agreements import Agreements
from core.clock import Clock
from core.deposits.applications import Applications, Apply
from core.deposits.crediting import Crediting
from core.deposits.pushes import REFUSED, TAKEN, Effect, Noted
from core.deposits.transfers import (
    DEPOSIT,
    DONE,
    JOBS,
    NOT_OURS,
    OPEN,
    USED_ELSEWHERE,
    Sending,
    Transfer,
    Transfers,
    differs,
)
from core.domain import ApplyStatus, Initiator, Market
from core.errors import Code, InvalidAmount, Refusal
from core.hops import CARDS, Hop
from core.jobs import Done, Exhausted, Failed, Job, Jobs, Verdict
from core.money import Currency, parse_wire
from core.orchestration.requests import check_wish
from core.screening.names import fold_name, similarity
from core.settings import Settings
from core.storage import Database, Sequence, Transaction
from core.trace import Trace
from core.wire.socket.messages import TIMEOUT, DepositPush

TRANS_TYPE = {"cmb": 301, "cmbc": 302}


class SocketDeposits:
    """The deposit side of one of the two banks."""

    def __init__(
        self, bank: str, db: Database, clock: Clock, trace: Trace, jobs: Jobs, applications: Applications,
        agreements: Agreements, gateway: SocketGateway, transfers: Transfers, crediting: Crediting, accounts: Accounts,
        calendars: Calendars, settings: Settings,
    ) -> None:
        self.bank, self._db, self._clock, self._trace, self._jobs = bank, db, clock, trace, jobs
        self._applications, self._agreements, self._gateway = applications, agreements, gateway
        self._transfers, self._crediting, self._accounts = transfers, crediting, accounts
        self._names = JOBS[bank]
        self._currencies: list[str] = settings[f"socket.{bank}.currencies"]
        self._same_name: float = settings["card.name_similarity"]
        self._sending = Sending(bank, gateway, calendars, clock, settings, late_code=TIMEOUT)
        self.references = Sequence(db, bank)

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return {self._names.collect: self._collect, self._names.credit: self._credit}

    async def reference(self, tx: Transaction) -> str:
        """A reference drawn by us, for either direction; it names its transfer for ever (DEDUP-08)."""
        return f"{self.bank.upper()}S{await self.references.next(tx):012d}"

    # Started in our app (source 1)

    async def submit(
        self, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, ccy: str, amount: int
    ) -> Apply | Refusal:
        """The customer asks in the App to move ``amount`` minor units from the account at the bank to us."""
        if refusal := check_wish(market, ccy, amount):
            return refusal
        if ccy not in self._currencies:
            return Refusal(Code.INVALID_PARAM, f"ccy {ccy}: {self.bank} carries {', '.join(self._currencies)}")
        with Hop(self._trace, "deposit.submit", "deposit", of=""):
            with Hop(self._trace, "bankcard.check", CARDS):
                agreement = await self._agreements.check(card_id, market, card_no)
                bound = await self._accounts.owns_card(uid, self.bank, card_no)
            if isinstance(agreement, Refusal):
                return agreement
            if not bound:
                return Refusal(Code.BLOCKED, f"card {card_no[-4:]} at {self.bank} is not bound: bind it first")
            return await self._begin(uid, trade_acc_id, market, card_id, card_no, ccy, amount)

    async def _begin(
        self, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, ccy: str, amount: int
    ) -> Apply:
        async with self._db.transaction() as tx:
            reference = await self.reference(tx)
            apply = await self._applications.new(
                tx, uid=uid, trade_acc_id=trade_acc_id, market=market, card_id=card_id, card_no=card_no,
                bank_type=self.bank, ccy=ccy, amount=amount, source=int(Initiator.MOOMOO),
                trans_type=TRANS_TYPE[self.bank], bank_ref_id=reference)
            await self._transfers.begin(tx, reference, DEPOSIT, ccy, amount, card_no, apply_id=apply.id)
            await self._jobs.enqueue(tx, self._names.collect, f"A{apply.id}",
                                     Sending.payload(reference, apply=apply.id), self._clock.now_ms(), 0)
        return apply

    async def _collect(self, job: Job) -> Verdict:
        apply = await self._applications.find(job.payload["apply"])
        assert apply is not None, job.payload
        transfer = await self._transfers.find(job.payload["ref"])
        if transfer is None or transfer.state != OPEN:  # its result was pushed, or it is for people
            return Done()
        holder = await self._accounts.card_holder(self.bank, apply.card_no)
        customer = BankCustomer(holder.name if holder else "", apply.card_no)

        async def send(attempt: int) -> Answer:
            return await self._gateway.collect(apply.bank_ref_id, customer, apply.market, apply.ccy, apply.amount,
                                               attempt)

        # No money of the customer's waits with us: what the bank does not know when people would be told has failed.
        outcome = await self._sending.run(job, transfer, send, cutoff_ms=job.payload["until"] or None)
        if isinstance(outcome, Answer):
            return await self.settle(job, transfer, outcome)
        if isinstance(outcome, Exhausted):
            return outcome._replace(alert=outcome.alert or "SOCK-05", about=f"A{apply.id}")
        return outcome

    async def settle(self, job: Job, transfer: Transfer, answer: Answer) -> Verdict:
        """A definite result of a deposit that we asked for: credit it, or the end. The job's last act."""
        success = answer.outcome is Outcome.SUCCESS
        assert transfer.apply_id is not None, transfer
        if answer.outcome is Outcome.DUPLICATE:
            return await self._not_ours(job, transfer, answer)
        if wrong := differs(transfer, answer):
            return Exhausted(wrong, USED_ELSEWHERE, f"A{transfer.apply_id}")
        apply = await self._applications.find(transfer.apply_id)
        assert apply is not None, transfer
        async with self._db.transaction() as tx:
            if await self._transfers.finish(tx, transfer.transfer_ref, success=success, code=answer.code):
                await self._conclude(tx, apply, answer, success=success)
            elif await self._transfers.contradicts(tx, transfer.transfer_ref, success=success):
                late = f"A{apply.id} is {ApplyStatus(apply.status).name}, the bank says {answer.said}"
                tx.after_commit(lambda: raise_alert(self._trace, "WD-08", f"A{apply.id}", late))
            return await job.settle(tx, Done() if success else Failed(str(answer.code)))

    async def _not_ours(self, job: Job, transfer: Transfer, answer: Answer) -> Verdict:
        """The bank has another's transfer under this reference: ours is never sent, and the Apply is for people."""
        async with self._db.transaction() as tx:
            await self._transfers.finish(tx, transfer.transfer_ref, success=False, code=answer.code)
            return await job.settle(tx, Exhausted(NOT_OURS, USED_ELSEWHERE, f"A{transfer.apply_id}"))

    async def _conclude(self, tx: Transaction, apply: Apply, answer: Answer, *, success: bool) -> None:
        if success and await self._applications.change(
                tx, apply, ApplyStatus.CREDITING, request_id=answer.bank_serial) is not None:
            await self._queue_credit(tx, apply)
        elif not success and await self._applications.change(
                tx, apply, ApplyStatus.REJECTED, fail_code=str(answer.code), reject_reason="BANK_REJECTED") is not None:
            self._applications.tell(tx, apply.uid, "DEPOSIT_FAILED", str(answer.code))

    # Begun at the bank (source 2)

    async def pushed(self, push: Push) -> Effect:
        """A customer has moved money to us at the bank: an Apply, and its crediting queued."""
        body = push.body
        assert isinstance(body, DepositPush), push
        found = await self._whose(body)
        if isinstance(found, str):
            return self._refusing(push, body, found)
        holder, market, amount = found
        account = await self._accounts.trade_account(holder.uid, market)

        async def take(tx: Transaction) -> Noted:
            with Hop(self._trace, "deposit.begun_at_bank", "deposit"):
                apply = await self._applications.new(
                    tx, uid=holder.uid, trade_acc_id=account, market=market, card_id=holder.card_id,
                    card_no=body.card_no, bank_type=self.bank, ccy=body.ccy, amount=amount, source=int(Initiator.BANK),
                    trans_type=TRANS_TYPE[self.bank], bank_ref_id=body.transfer_ref, status=int(ApplyStatus.CREDITING))
                await self._transfers.begin(tx, body.transfer_ref, DEPOSIT, body.ccy, amount, body.card_no,
                                            apply_id=apply.id, state=DONE)
                await self._queue_credit(tx, apply)
            return Noted(TAKEN)

        return take

    async def _whose(self, body: DepositPush) -> tuple[CardHolder, Market, int] | str:
        """Holder, market and minor units of a pushed deposit, or why it cannot be credited."""
        wish = read_wish(body.market, body.ccy, body.amount)
        if isinstance(wish, str):
            return wish
        holder = await self._accounts.card_holder(self.bank, body.card_no)
        if holder is None:
            return f"no customer has bound card {body.card_no}"
        if foreign := self.foreign(holder, body.ccy, body.name):
            return foreign
        with Hop(self._trace, "bankcard.check", CARDS):
            agreement = await self._agreements.of_card(holder.card_id, wish[0], body.card_no)
        if agreement is None or not agreement.signed:
            return f"the agreement of card {body.card_no} is not signed for {body.market}"
        return holder, *wish

    def foreign(self, holder: CardHolder, ccy: str, name: str) -> str:
        """Why what the bank tells under a holder's card is not the holder's business with us, or "". Names are
        compared as when the card was bound (B-40)."""
        if ccy not in self._currencies:
            return f"{self.bank} does not carry {ccy}"
        said = fold_name(name)
        if max(similarity(said, fold_name(known)) for known in (holder.name, holder.en_name)) < self._same_name:
            return f"the name {name!r} is not that of the card's holder"
        return ""

    def _refusing(self, push: Push, body: DepositPush, why: str) -> Effect:
        """The money is at the bank and belongs to nobody we know: people must look (DEP-08)."""

        async def refuse(tx: Transaction) -> Noted:
            tx.after_commit(lambda: raise_alert(
                self._trace, "DEP-08", f"{self.bank}:{body.transfer_ref}", f"push {push.push_seq}: {why}"))
            return Noted(REFUSED, why)

        return refuse

    # Crediting

    async def _queue_credit(self, tx: Transaction, apply: Apply) -> None:
        await self._jobs.enqueue(tx, self._names.credit, f"A{apply.id}", {
            "apply": apply.id, "ref": apply.bank_ref_id}, self._clock.now_ms(), self._crediting.tries)

    async def _credit(self, job: Job) -> Verdict:
        return await self._crediting.run(job, f"{self.bank}:{job.payload['ref']}")

    # What operations do

    async def query_bank(self, apply_id: int, operator: str) -> Code:
        """"Query bank" on a deposit without a result: its job asks once more (A-74)."""
        job = await self._jobs.find(self._names.collect, f"A{apply_id}")
        if job is None:
            return Code.NOT_FOUND
        return Code.OK if await self._jobs.retry_now(job.id, operator) else Code.ILLEGAL_STATE


def read_wish(market: str, ccy: str, amount: str) -> tuple[Market, int] | str:
    """(market, minor units) of what the bank writes, or what is wrong with it."""
    if market not in Market.__members__:
        return f"there is no market {market!r}"
    if ccy not in Currency.__members__:
        return f"there is no currency {ccy!r}"
    try:
        minor = parse_wire(amount)
    except InvalidAmount as wrong:
        return str(wrong)
    return (Market[market], minor) if minor > 0 else f"amount {amount} is not positive"
