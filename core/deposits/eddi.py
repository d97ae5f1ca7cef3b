"""Direct-debit deposits (eDDI) at HSBC and Hang Seng: one bank in one core (gaps.md B-25, A-48, A-54; ADR-004).

    App ─> authorisation ACTIVE? ─> Apply + debit ─> sent at the bank's pace ─> processing
        ─> EddiResultQuery: success | failed | returned ─> EddiDepositProcess ─> SBA

Rules:

* What is to be sent is a row, and what may be sent is decided in the transaction that takes the bank's turn for it
  (`core.banks.edda_pace`): a crash loses no debit, and a debit without a turn waits.
* HSBC: as many at once as there are tokens, without an order. Outside the window a debit stays *queued*.
* Hang Seng: one after the other, in the order of their numbers; one whose outcome is unknown holds up those behind it.
  Outside the session a debit is *new_blank*; the opening makes all of them *queued*, in order.
* *submitted* is written before the bytes leave. After silence a debit is sent again under the same reference, and the
  bank answers with the original. A refusal at the door ends the doubt only if no earlier sending may have arrived.
* What the bank has not got after ``deposit.timeout_days`` is rejected (gaps.md B-10): natural days, but never before it
  has been open for a whole session since the customer asked. Over a long holiday it could not have got it (A-54). What
  it has is asked for again then, once a day, and what it may have goes on being sent under its reference: neither is
  ever rejected by time.
* Crediting is queued once for each success. A deposit that the bank takes back after that is reversed by a person
  (A-29).
* Direct debits are deposits only (EDDA-01), and skip matching (A-48).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from core.alerts import raise_alert
from core.banks.edda import Answer, EddaGateway, Outcome
from core.banks.edda_pace import Passed, written
from core.calendars import Calendars
from core.cards.edda import Authorisation, Authorisations, limits
from core.clock import MS_PER_DAY, MS_PER_S, Clock, hkt_date, hkt_midnight_ms
from core.deposits.abnormal import TIMEOUT
from core.deposits.applications import Applications, Apply
from core.deposits.crediting import Crediting, Terms
from core.deposits.eddi_debits import (
    FAILED,
    NEW_BLANK,
    PROCESSING,
    QUEUED,
    RETURNED,
    SUBMITTED,
    SUCCESS,
    Debit,
    Debits,
)
from core.domain import ApplyStatus, DebitState, Initiator
from core.errors import Code, InvariantBroken, Refusal
from core.hops import CARDS, LINES, Hop
from core.jobs import Failed, Job, Jobs, Verdict
from core.money import show
from core.orchestration.requests import check_wish
from core.settings import Settings
from core.storage import Database, Transaction
from core.trace import Trace
from core.wire.edda import Treatment, treatment

CREDIT: Final = "EddiDepositProcess"
TRANS_TYPE: Final[dict[str, int]] = {"hsbc": 251, "hase": 252}
IN_ORDER: Final[dict[str, bool]] = {"hsbc": False, "hase": True}
"""Whether a bank takes debits one after the other only; such a one also has *new_blank* (ADR-004)."""

Spawn = Callable[[Coroutine[Any, Any, Any]], object]


@dataclass(frozen=True, slots=True)
class Room:
    """The rooms of a core that both banks use."""

    db: Database
    clock: Clock
    trace: Trace
    settings: Settings
    calendars: Calendars
    jobs: Jobs
    applications: Applications
    crediting: Crediting


class EddiDeposits:
    """The direct debits of one bank. `start` begins sending."""

    def __init__(self, gateway: EddaGateway, authorisations: Authorisations, room: Room) -> None:
        settings = room.settings
        self.bank, self.channel, self.authorisations = gateway.bank, gateway.channel, authorisations
        self._gateway, self._db, self._clock, self._trace = gateway, room.db, room.clock, room.trace
        self._calendars, self._jobs, self._applications = room.calendars, room.jobs, room.applications
        self._crediting = room.crediting
        self.debits = Debits(self.bank, room.db, room.clock, room.trace)
        self._in_order = IN_ORDER[self.bank]
        self._limits = limits(settings)
        self._repeat_ms: list[int] = [round(wait * MS_PER_S) for wait in settings["edda.send.repeat_s"]]
        self._refused_ms = round(settings["edda.send.refused_s"] * MS_PER_S)
        self._alarm_after: int = settings["edda.send.alarm_after"]
        self._timeout_ms = settings["deposit.timeout_days.by_bank"][self.channel] * MS_PER_DAY
        self._lease_ms = round(settings["edda.send.lease_s"] * MS_PER_S)
        self._returns_ms = round(settings["edda.result.returns_every_s"] * MS_PER_S)
        hours, minutes = settings["edda.result.overdue_at"].split(":")
        self._overdue_ms = (int(hours) * 60 + int(minutes)) * 60_000
        self._spawn: Spawn | None = None
        self._woken = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._under_way = 0

    # Life

    async def start(self, spawn: Spawn) -> None:
        """Send what waits, from now on."""
        await self._gateway.turnstile.begin()
        await self.debits.ids.begin()
        self._spawn = spawn
        spawn(self._send_for_ever())

    async def stop(self) -> None:
        """Send nothing more, and wait for the answers to what is under way."""
        self._spawn = None
        self._woken.set()
        await self._idle.wait()

    def halt(self) -> None:
        """What a killed process leaves: nothing is sent any more."""
        self._spawn = None

    # The customer

    async def submit(
        self, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, ccy: str, amount: int
    ) -> Apply | Refusal:
        """The customer asks in the App to have ``amount`` minor units debited. Without an ACTIVE authorisation the
        bank never hears of it (EDDA-09)."""
        if refusal := check_wish(market, ccy, amount) or self._too_much(ccy, amount):
            return refusal
        with Hop(self._trace, "deposit.submit", "deposit", of=""):
            with Hop(self._trace, "bankcard.check", CARDS):
                authorisation = await self.authorisations.check(card_id, ccy, amount)
            if isinstance(authorisation, Refusal):
                return authorisation
            apply = await self._begin(authorisation, uid, trade_acc_id, market, card_id, card_no, ccy, amount)
        self._woken.set()
        return apply

    def _too_much(self, ccy: str, amount: int) -> Refusal | None:
        if ccy not in self._limits:
            return Refusal(Code.INVALID_PARAM, f"ccy {ccy}: direct debits are in {', '.join(self._limits)}")
        if amount > self._limits[ccy]:
            return Refusal(Code.INVALID_PARAM, f"{show(amount, ccy)}: a debit is of {show(self._limits[ccy], ccy)} at "
                           "most")
        return None

    async def _begin(
        self, authorisation: Authorisation, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str,
        ccy: str, amount: int,
    ) -> Apply:
        assert authorisation.mandate_ref is not None
        state = NEW_BLANK if self._in_order and self._opens_ms() else QUEUED
        async with self._db.transaction() as tx:
            number = await self.debits.ids.next(tx)
            reference = f"EDDI{self.bank.upper()}{number:010d}"
            apply = await self._applications.new(
                tx, uid=uid, trade_acc_id=trade_acc_id, market=market, card_id=card_id, card_no=card_no,
                bank_type=self.channel, ccy=ccy, amount=amount, source=int(Initiator.MOOMOO),
                trans_type=TRANS_TYPE[self.bank], mandate_id=authorisation.mandate_ref, bank_ref_id=reference)
            await self.debits.new(tx, number, state, apply_id=apply.id, authorisation_id=authorisation.id,
                                  mandate_ref=authorisation.mandate_ref, reference=reference, ccy=ccy, amount=amount)
        return apply

    def _opens_ms(self) -> int:
        """When the bank's window opens, epoch ms; 0 if it is open."""
        gate = self._calendars.bank_gate(self.channel, self._clock.now_ms())
        return 0 if gate.open else gate.opens_ms

    # Sending

    async def _send_for_ever(self) -> None:
        while self._spawn is not None:
            self._woken.clear()
            await self._rest(await self._round())

    async def _rest(self, until_ms: int | None) -> None:
        """Until something new is to be sent, or that moment."""
        seconds = None if until_ms is None else max(0, until_ms - self._clock.now_ms()) / MS_PER_S
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _round(self) -> int | None:
        """Send what may be sent now; when to look again, None if nothing waits."""
        if self._in_order:
            await self._open_or_close()
        while self._spawn is not None and not self._opens_ms():
            passed = await self._gateway.turnstile.enter(self._next)
            if passed is None:
                break
            self._under_way += 1
            self._idle.clear()
            if self._in_order:
                await self._send(passed)
            else:
                self._spawn(self._send(passed))
        return self._opens_ms() or await self._next_look_ms()

    async def _next_look_ms(self) -> int | None:
        if self._in_order:
            head = await self.debits.head(self._db)
            return None if head is None else head.due_at
        return await self.debits.next_due_ms()

    async def _open_or_close(self) -> None:
        """Move what waits between *new_blank* and *queued*, as the session is (A-54), in order."""
        waiting, to = (NEW_BLANK, QUEUED) if not self._opens_ms() else (QUEUED, NEW_BLANK)
        for debit in await self.debits.in_state(waiting):
            async with self._db.transaction() as tx:
                await self.debits.change(tx, debit, to)

    async def _next(self, tx: Transaction) -> Debit | None:
        """The debit to be sent now, marked as sent; in the transaction that takes the bank's turn."""
        if self._opens_ms() or self._spawn is None:
            return None  # it closed, or we stop, while we waited for the turn
        now = self._clock.now_ms()
        debit = await (self.debits.head(tx) if self._in_order else self.debits.due(tx))
        if debit is None or debit.due_at > now or debit.state == NEW_BLANK:
            return None
        return await self.debits.change(
            tx, debit, None if debit.state == SUBMITTED else SUBMITTED, attempts=debit.attempts + 1,
            doubt=int(debit.state == SUBMITTED),  # nobody knows what became of the sending before
            due_at=now + self._lease_ms, submitted_at=debit.submitted_at or now)

    async def _send(self, passed: Passed[Debit]) -> None:
        debit, turn = passed
        turnstile = self._gateway.turnstile

        async def write(tx: Transaction) -> None:
            await turnstile.give_back(tx, turn)
            await self._answered(tx, debit, answer)

        try:
            with Hop(self._trace, "eddi.send", LINES[self.channel], of=f"A{debit.apply_id}"):
                answer = await self._gateway.debit(
                    debit.reference, debit.id, debit.mandate_ref, debit.ccy, debit.amount,
                    max(2, debit.attempts) if debit.doubt else 1)
                await written(self._db, write)
        finally:
            turnstile.leave()
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        self._woken.set()
        if answer.code == "MD01":
            await self.authorisations.refresh(debit.authorisation_id)

    async def _answered(self, tx: Transaction, debit: Debit, answer: Answer) -> None:
        now = self._clock.now_ms()
        if answer.outcome is Outcome.ACCEPTED:
            if await self.debits.change(tx, debit, PROCESSING, bank_id=answer.ident, asked_at=now) is not None:
                await self._note_id(tx, debit, answer.ident)
        elif answer.outcome in (Outcome.REJECTED, Outcome.NOT_FOUND):
            if await self.debits.change(tx, debit, FAILED, reason=answer.code) is not None:
                await self._give_up(tx, debit, answer.code)
        elif answer.outcome is Outcome.RETRYABLE:
            # A closed window is told after the reference was looked up: whatever came before, the bank has not got it.
            await self.debits.change(tx, debit, QUEUED, doubt=0, due_at=now + self._refused_ms, submitted_at=None)
        else:
            await self._doubt(tx, debit, answer, now)

    async def _doubt(self, tx: Transaction, debit: Debit, answer: Answer, now: int) -> None:
        """Nobody knows whether it arrived: it is sent again under the same reference."""
        wait = self._repeat_ms[min(debit.attempts, len(self._repeat_ms)) - 1]
        if treatment(answer.code) is Treatment.RETRYABLE:  # the door is busy; that tells nothing of the debit
            wait = self._refused_ms
        changed = await self.debits.change(tx, debit, due_at=now + wait)
        if changed is not None and debit.attempts == self._alarm_after:
            tx.after_commit(partial(raise_alert, self._trace, "EDDI-02", debit.reference,
                                    f"sent {debit.attempts} times: {answer.code or answer.message}"))

    async def _note_id(self, tx: Transaction, debit: Debit, ident: str) -> None:
        apply = await self._applications.find(debit.apply_id, tx)
        if apply is not None:
            await self._applications.change(tx, apply, request_id=ident)

    async def _give_up(self, tx: Transaction, debit: Debit, code: str) -> None:
        """The bank does not debit: the Apply ends and the customer is told."""
        apply = await self._applications.find(debit.apply_id, tx)
        if apply is not None and await self._applications.change(
                tx, apply, ApplyStatus.REJECTED, fail_code=code, reject_reason="BANK_REJECTED") is not None:
            self._applications.tell(tx, apply.uid, "DEPOSIT_FAILED", code)

    # Results

    def _answer_by_ms(self, debit: Debit) -> int:
        """T+1 18:00 of a debit, T the day of its sending (B-15)."""
        assert debit.submitted_at is not None, debit
        following = self._calendars.next_business_day(hkt_date(debit.submitted_at))
        return hkt_midnight_ms(following) + self._overdue_ms

    async def query_results(self) -> int:
        """EddiResultQuery: ask what became of the debits that the bank has, until T+1 18:00; how many moved."""
        now = self._clock.now_ms()
        moved = 0
        # Returns are looked for among those sent in the last two weeks at most: no holidays last longer.
        for debit in await self.debits.to_ask(now - 14 * MS_PER_DAY, now - self._returns_ms):
            if now <= self._answer_by_ms(debit):
                moved += await self._ask(debit)
        return moved

    async def _ask(self, debit: Debit) -> bool:
        with Hop(self._trace, "eddi.query", LINES[self.channel], of=f"A{debit.apply_id}") as hop:
            answer = await self._gateway.query_debit(debit.bank_id, debit.reference)
            hop.quiet = answer.outcome is Outcome.PENDING
            to = _RESULT.get(answer.outcome)
            if answer.outcome is Outcome.SUCCESS and answer.amount != debit.amount:
                raise_alert(self._trace, "EDDI-04", debit.reference,
                            f"{answer.amount} instead of {debit.amount} minor units")
                to = None
            async with self._db.transaction() as tx:
                known = await self.debits.find(debit.id, tx)
                moved = await self._result(tx, known, to, answer.code)
        if moved and answer.code == "MD01":
            await self.authorisations.refresh(debit.authorisation_id)
        return moved

    async def _result(self, tx: Transaction, debit: Debit, to: DebitState | None, reason: str) -> bool:
        now = self._clock.now_ms()
        if to is None or debit.state == to.value or debit.state not in (PROCESSING, SUCCESS):
            await self.debits.change(tx, debit, asked_at=now)
            return False
        if debit.state == SUCCESS and to is not RETURNED:
            return False  # the bank told a success before: nothing but a return follows it
        if await self.debits.change(tx, debit, to, asked_at=now, reason=reason) is None:
            return False
        if to is FAILED:
            await self._give_up(tx, debit, reason)
        elif to is RETURNED:
            await self._returned(tx, debit)
        return True

    async def _returned(self, tx: Transaction, debit: Debit) -> None:
        """The money went back to the customer: not credited yet, there is nothing to reverse; else a person does
        (A-29)."""
        apply = await self._applications.find(debit.apply_id, tx)
        if apply is None:
            return
        credited = bool(debit.credit)
        if credited:
            await self._applications.open_refund(tx, apply, "PENDING_REVERSE")
        elif await self._applications.change(tx, apply, ApplyStatus.REFUNDED) is not None:
            await self._applications.open_refund(tx, apply, "NOT_CREDITED")
        self._applications.tell(tx, apply.uid, "DEPOSIT_REFUNDED", "")
        tx.after_commit(partial(raise_alert, self._trace, "EDDI-03", f"A{apply.id}",
                                "after it was credited: reverse it" if credited else "before it was credited"))

    # Crediting

    async def process(self) -> int:
        """EddiDepositProcess: queue the crediting of every successful debit, once; how many. Also tells of debits whose
        result is overdue, and looks whether something waits to be sent."""
        self._woken.set()
        await self._tell_overdue()
        queued = 0
        for debit in await self.debits.to_credit():
            queued += await self._queue_credit(debit)
        return queued

    async def _queue_credit(self, debit: Debit) -> bool:
        async with self._db.transaction() as tx:
            apply = await self._applications.find(debit.apply_id, tx)
            assert apply is not None, debit
            if await self._applications.change(tx, apply, ApplyStatus.CREDITING) is None:
                return False  # another worker has done it
            if await self.debits.change(tx, debit, credit=1) is None:
                raise InvariantBroken(f"{debit.reference} moved while its Apply did not")
            await self._jobs.enqueue(tx, CREDIT, f"A{apply.id}", {
                "apply": apply.id, "bank": self.bank, "debit": debit.id}, self._clock.now_ms(), self._crediting.tries)
        return True

    async def credit(self, job: Job) -> Verdict:
        """The last link: the Apply of a successful debit goes into SBA."""
        debit = await self.debits.find(job.payload["debit"])
        if debit.state not in (SUCCESS, RETURNED):
            return Failed(f"the debit is {debit.state}")
        debtor = (await self.authorisations.find(debit.authorisation_id)).debtor
        return await self._crediting.run(job, f"{self.channel}:{debit.bank_id}", Terms(
            remitter=debtor.name, account=debtor.account, alert="DEP-03"))

    async def _tell_overdue(self) -> None:
        now = self._clock.now_ms()
        for state in (SUBMITTED, PROCESSING):
            for debit in await self.debits.in_state(state):
                if not debit.overdue and now > self._answer_by_ms(debit):
                    async with self._db.transaction() as tx:
                        if await self.debits.change(tx, debit, overdue=1) is not None:
                            tx.after_commit(partial(raise_alert, self._trace, "EDDI-01", debit.reference,
                                                    f"{debit.state} at the bank since T+1"))

    async def reject_overdue(self) -> int:
        """ApplyTimeoutReject: how many applications were rejected. A debit may be sent at this very moment: whoever
        writes its row first decides."""
        before = self._clock.now_ms() - self._timeout_ms
        rejected = 0
        for state in (NEW_BLANK, QUEUED):
            for debit in await self.debits.in_state(state):
                if debit.created_at <= before and self._had_a_session(debit):
                    rejected += await self._reject(debit)
        for debit in await self.debits.in_state(PROCESSING):
            if debit.created_at <= before:
                await self._ask(debit)
        return rejected

    def _had_a_session(self, debit: Debit) -> bool:
        """Whether the bank has been open for a whole session since the customer asked. A session that was called off
        (a typhoon) was none: each is looked at as it was known at its end."""
        gate = self._calendars.bank_gate(self.channel, debit.created_at)
        if gate.open:
            gate = self._calendars.bank_gate(self.channel, gate.closes_ms)
        while gate.closes_ms <= self._clock.now_ms():
            gate = self._calendars.bank_gate(self.channel, gate.closes_ms - 1)
            if gate.open:
                return True
        return False

    async def _reject(self, debit: Debit) -> bool:
        """The bank has not got it (any more), and does not get it."""
        async with self._db.transaction() as tx:
            if await self.debits.change(tx, debit, FAILED, reason=TIMEOUT) is None:
                return False
            apply = await self._applications.find(debit.apply_id, tx)
            if apply is None or await self._applications.change(
                    tx, apply, ApplyStatus.REJECTED, reject_reason=TIMEOUT) is None:
                raise InvariantBroken(f"{debit.reference} ends, and its Apply has ended before")
            self._applications.tell(tx, apply.uid, "DEPOSIT_REJECT", TIMEOUT)
        return True

    # What operations do

    async def query_bank(self, apply_id: int, operator: str) -> Code:  # noqa: ARG002 - the shape of the door
        """"Query bank": ask once more what became of the debit, also after T+1 18:00."""
        debit = await self.debits.of_apply(apply_id)
        if debit is None:
            return Code.NOT_FOUND
        if debit.state not in (PROCESSING, SUCCESS):
            return Code.ILLEGAL_STATE
        await self._ask(debit)
        return Code.OK


_RESULT: Final[Mapping[Outcome, DebitState]] = {
    Outcome.SUCCESS: SUCCESS, Outcome.FAILED: FAILED, Outcome.RETURNED: RETURNED}
