"""Cheque deposits, keyed by operations (TransType 101) from a voucher: credited at once, held until cleared (B-29).

    KEYED -> HELD       credited by SBA as NORMAL_HOLD: the money is the customer's, frozen as CASH_IN
    HELD -> CLEARED     some business days after it was banked: the hold is released
    KEYED, HELD, CLEARED -> BOUNCED    the bank has given it back: a refund record, and a supervisor reverses
    KEYED -> REJECTED, HELD or CLEARED -> REVERSED    what became of the Procedure otherwise

Rules, before any code:

* A cheque is banked on the next branch run after it was keyed; the days to its clearing count from there.
* The state decides alone, by compare-and-set: a cheque that has bounced is not released, one that is being released can
  still bounce. The release is a job queued in the transaction that says CLEARED.
* A cheque that bounces before SBA has credited it gets its refund record when SBA has.
* The reversal takes the money from the hold while that is open, else from what is available; a balance that does not
  bear it is SHORTFALL (A-29).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.alerts import clear_alert, raise_alert
from core.calendars import Calendars
from core.clock import MS_PER_S, Clock, hkt_date, yyyymmdd
from core.deposits.applications import Applications, Apply, Write
from core.deposits.crediting import Crediting, Terms
from core.deposits.vouchers import Vouchers
from core.domain import ApplyStatus, DepositType, FreezeType, Initiator, Role
from core.errors import CallFailed, Code, OutcomeUnknown, Refusal
from core.hops import Hop
from core.jobs import Again, Done, Exhausted, Failed, Job, Jobs, Verdict
from core.orchestration.performers import RiskControl
from core.orchestration.records import Actor, Procedure
from core.orchestration.requests import HOLD_ID_LENGTH, check_wish
from core.rpc import Rpc
from core.settings import Settings
from core.storage import Database, Questions, Statement, Transaction, UniqueViolation
from core.storage.primary import cheque_deposit
from core.trace import Trace

TRANS_TYPE: Final = 101
CREDIT, RELEASE = "ChequeCredit", "ChequeRelease"
KEYED, HELD, CLEARED, BOUNCED, REJECTED, REVERSED = "KEYED", "HELD", "CLEARED", "BOUNCED", "REJECTED", "REVERSED"
MAY: Final = (Role.FRONTLINE, Role.SUPERVISOR)
_NUMBER: Final = re.compile(r"\d{6}")
_ACCOUNT: Final = re.compile(r"[0-9A-Za-z-]{4,34}")


class Cheque(NamedTuple):
    """One row of ``cheque_deposit``."""

    apply_id: int
    hold_id: str
    drawer_bank: str
    drawer_account: str
    cheque_no: str
    state: str
    banked_at: int | None
    clears_on: int | None
    operator: str
    remark: str


class Drawn(NamedTuple):
    """A cheque as it is written: who draws it, on which account at which bank, and its number."""

    bank: str
    account: str
    name: str
    number: str


class Keyed(NamedTuple):
    """For whom a cheque is keyed, how much it is, and at which bank of ours it is paid in; amount in minor units."""

    uid: int
    trade_acc_id: int
    market: int
    bank: str
    ccy: str
    amount: int


_C = cheque_deposit.c
_COLUMNS = tuple(_C[name] for name in Cheque._fields)
NEW = Statement(insert(cheque_deposit))
OF_APPLY = Statement(select(*_COLUMNS).where(_C.apply_id == bindparam("apply")))
IN_STATE = Statement(select(*_COLUMNS).where(_C.state == bindparam("state")).order_by(_C.id))
MOVE = Statement(update(cheque_deposit).where(
    _C.apply_id == bindparam("b_apply"), _C.state == bindparam("b_state")).values(
    state=bindparam("state"), remark=bindparam("remark"), updated_at=bindparam("updated_at")))
TO_BANK = Statement(select(_C.apply_id).where(
    _C.banked_at.is_(None), (_C.state == KEYED) | (_C.state == HELD)).order_by(_C.id))
BANK = Statement(update(cheque_deposit).where(_C.apply_id == bindparam("b_apply"), _C.banked_at.is_(None)).values(
    banked_at=bindparam("banked_at"), clears_on=bindparam("clears_on"), updated_at=bindparam("banked_at")))
DUE = Statement(select(*_COLUMNS).where(_C.state == HELD, _C.clears_on <= bindparam("today")).order_by(_C.id))


class Cheques:
    """Cheque deposits of one core. Construct it once: it follows the ends of applications."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, jobs: Jobs, calendars: Calendars, applications: Applications,
        crediting: Crediting, risk_control: RiskControl, vouchers: Vouchers, rpc: Rpc, settings: Settings,
    ) -> None:
        self._db, self._clock, self._trace, self._jobs, self._calendars = db, clock, trace, jobs, calendars
        self._applications, self._crediting, self._risk = applications, crediting, risk_control
        self._vouchers, self._rpc = vouchers, rpc
        self._clear_days: int = settings["cheque.clear_days"]
        self._again_ms: list[int] = [s * MS_PER_S for s in settings["cheque.release.delays_s"]]
        self._ours: Mapping[str, Any] = {
            key.split(".")[1]: settings[key] for key in settings
            if key.startswith("receiving.") and key.endswith(".accounts")}
        applications.closings.append(self._closing)

    @property
    def handlers(self) -> dict[str, Any]:
        """Job of the queue -> handler."""
        return {CREDIT: self._credit, RELEASE: self._release}

    @property
    def scheduled(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """Job of the timetable -> what is done for it."""
        return {"ChequeBranchRun": self.branch_run, "ChequeClear": self.clear_due}

    # Keying

    async def key(self, wish: Keyed, drawn: Drawn, file_id: str, by: Actor, remark: str = "") -> Cheque | Refusal:
        """Somebody of operations keys a cheque of a customer from its voucher."""
        refusal = self._flaw(wish, drawn, by)
        if refusal:
            return refusal
        file = await self._vouchers.find(file_id)
        if file is None or file.uid != wish.uid:
            return Refusal(Code.NOT_FOUND, f"customer {wish.uid} has uploaded no voucher {file_id}")
        with Hop(self._trace, "deposit.key_cheque", "deposit", of=""):
            try:
                async with self._db.transaction() as tx:
                    cheque = await self._new(tx, wish, drawn, by, remark)
                    if not await self._vouchers.give(tx, file, cheque.apply_id):
                        raise _Used
            except _Used:
                return Refusal(Code.DUPLICATE, f"{file.filename} proves another application already")
            except UniqueViolation:
                return Refusal(Code.DUPLICATE, f"{drawn.bank} {drawn.account} cheque {drawn.number} was keyed before")
        return cheque

    def _flaw(self, wish: Keyed, drawn: Drawn, by: Actor) -> Refusal | None:
        if by.role not in MAY:
            return Refusal(Code.FORBIDDEN, f"{by.role} may not: {', '.join(MAY)}")
        if refusal := check_wish(wish.market, wish.ccy, wish.amount):
            return refusal
        if wish.ccy not in self._ours.get(wish.bank, ()):
            return _bad(f"we have no account in {wish.ccy} at {wish.bank!r}")
        if not _NUMBER.fullmatch(drawn.number):
            return _bad("cheque number: six digits")
        if not 0 < len(drawn.bank) <= 16 or not _ACCOUNT.fullmatch(drawn.account) or not 0 < len(drawn.name) <= 140:
            return _bad("bank, account and name of the drawer are needed")
        return None

    async def _new(self, tx: Transaction, wish: Keyed, drawn: Drawn, by: Actor, remark: str) -> Cheque:
        now = self._clock.now_ms()
        apply = await self._applications.new(
            tx, uid=wish.uid, trade_acc_id=wish.trade_acc_id, market=wish.market, card_id=0, card_no="",
            bank_type=wish.bank, ccy=wish.ccy, amount=wish.amount, source=int(Initiator.MOOMOO), trans_type=TRANS_TYPE,
            status=int(ApplyStatus.CREDITING))
        cheque = Cheque(apply.id, f"CHQ{apply.id:0{HOLD_ID_LENGTH - 3}d}", drawn.bank, drawn.account, drawn.number,
                        KEYED, None, None, by.id, remark)
        await tx.execute(NEW, cheque._asdict() | {"created_at": now, "updated_at": now})
        await self._jobs.enqueue(tx, CREDIT, f"A{apply.id}", {"apply": apply.id, "drawer": drawn.name}, now,
                                 self._crediting.tries)
        self._staff(tx, by, "key_cheque", cheque, f"{drawn.bank} {drawn.number}")
        return cheque

    async def _credit(self, job: Job) -> Verdict:
        cheque = await self._known(job.payload["apply"])

        async def created(tx: Transaction, procedure_id: int) -> None:
            if self._crediting.gave_up(job):
                tx.after_commit(lambda: clear_alert(
                    self._trace, "DEP-03", f"A{cheque.apply_id}", f"P{procedure_id}"))

        return await self._crediting.run(job, f"cheque:{cheque.apply_id}", Terms(
            DepositType.NORMAL_HOLD, remitter=job.payload["drawer"], account=cheque.drawer_account,
            hold_type=int(FreezeType.CASH_IN), hold_apply_id=cheque.hold_id, alert="DEP-03", created=created))

    # Clearing

    async def branch_run(self) -> int:
        """ChequeBranchRun: what was keyed is taken to the bank (A-78); how many."""
        now = self._clock.now_ms()
        clears = yyyymmdd(self._calendars.next_business_day(hkt_date(now), self._clear_days, now))
        return sum([await self._db.execute(BANK, {"b_apply": apply, "banked_at": now, "clears_on": clears})
                    for (apply,) in await self._db.all(TO_BANK, {})])

    async def clear_due(self) -> int:
        """ChequeClear: what was banked long enough ago, and not given back by the bank, is free; how many."""
        now, cleared = self._clock.now_ms(), 0
        for row in await self._db.all(DUE, {"today": yyyymmdd(hkt_date(now))}):
            cheque = Cheque(*row)
            async with self._db.transaction() as tx:
                if await self._move(tx, cheque, CLEARED):
                    await self._jobs.enqueue(tx, RELEASE, f"A{cheque.apply_id}", {"apply": cheque.apply_id}, now,
                                             len(self._again_ms))
                    cleared += 1
        return cleared

    async def _release(self, job: Job) -> Verdict:
        """ChequeRelease. A hold that is closed was taken back by a reversal meanwhile."""
        cheque = await self._known(job.payload["apply"])
        try:
            answer = await self._rpc("risk_control.release", self._risk.release, f"{cheque.hold_id}:release",
                                     cheque.hold_id)
        except (OutcomeUnknown, CallFailed) as failure:
            if job.retry_count >= len(self._again_ms):
                return Exhausted(str(failure), "DEP-11", f"A{cheque.apply_id}")
            return Again(self._clock.now_ms() + self._again_ms[job.retry_count], str(failure))
        if answer.code is Code.OK:
            return Done()
        return Failed(f"{answer.code.name} {answer.detail}")

    # Bounced

    async def bounce(self, apply_id: int, by: Actor, reason: str) -> Cheque | Refusal:
        """The bank has given a cheque back: what was credited must be reversed, by a supervisor."""
        if by.role not in MAY:
            return Refusal(Code.FORBIDDEN, f"{by.role} may not: {', '.join(MAY)}")
        if not reason.strip():
            return _bad("the bank's reason is needed")
        cheque = await self.find(apply_id)
        if cheque is None:
            return Refusal(Code.NOT_FOUND, f"no cheque of application {apply_id}")
        if cheque.state not in (KEYED, HELD, CLEARED):
            return Refusal(Code.ILLEGAL_STATE, f"the cheque is {cheque.state}")
        apply = await self._applications.find(apply_id)
        assert apply is not None, cheque
        async with self._db.transaction() as tx:
            if not await self._move(tx, cheque, BOUNCED, reason):
                return Refusal(Code.VERSION_CONFLICT, "the cheque has moved: look again")
            self._staff(tx, by, "bounce_cheque", cheque, reason)
            if cheque.state == KEYED:  # SBA still credits or reviews it
                tx.after_commit(lambda: raise_alert(
                    self._trace, "DEP-10", f"A{apply_id}", f"before it was credited: reject it ({reason})"))
            else:
                await self._to_reverse(tx, apply, reason)
        return cheque._replace(state=BOUNCED, remark=reason)

    async def _to_reverse(self, tx: Transaction, apply: Apply, reason: str) -> None:
        await self._applications.open_refund(tx, apply, "PENDING_REVERSE")
        self._applications.tell(tx, apply.uid, "CHEQUE_BOUNCED", reason)
        tx.after_commit(lambda: raise_alert(self._trace, "DEP-10", f"A{apply.id}", reason))

    async def _closing(self, p: Procedure, apply: Apply) -> Write | None:
        """What an end of the Procedure makes of the cheque."""
        if apply.trans_type != TRANS_TYPE:
            return None

        async def write(tx: Transaction) -> None:
            row = await tx.first(OF_APPLY, {"apply": apply.id})
            cheque = Cheque(*row) if row else None
            if cheque is None:
                return
            if cheque.state in _ENDS[p.status][1]:
                if not await self._move(tx, cheque, _ENDS[p.status][0]):
                    raise OutcomeUnknown(f"the cheque of A{apply.id} moved at this moment")  # the outbox asks again
            elif cheque.state == BOUNCED and p.status == "end_ok":
                await self._to_reverse(tx, apply._replace(sba_procedure_id=p.id), cheque.remark)
            elif cheque.state == BOUNCED:
                tx.after_commit(lambda: clear_alert(self._trace, "DEP-10", f"A{apply.id}", p.status))

        return write

    async def _move(self, tx: Questions, cheque: Cheque, to: str, remark: str | None = None) -> bool:
        return await tx.execute(MOVE, {
            "b_apply": cheque.apply_id, "b_state": cheque.state, "state": to,
            "remark": (cheque.remark if remark is None else remark)[:500], "updated_at": self._clock.now_ms()}) == 1

    # Reading

    async def find(self, apply_id: int) -> Cheque | None:
        """The cheque of an application, or None."""
        row = await self._db.first(OF_APPLY, {"apply": apply_id})
        return Cheque(*row) if row else None

    async def listed(self, state: str) -> list[Cheque]:
        """All of a state, oldest first."""
        return [Cheque(*row) for row in await self._db.all(IN_STATE, {"state": state})]

    async def _known(self, apply_id: int) -> Cheque:
        cheque = await self.find(apply_id)
        assert cheque is not None, apply_id
        return cheque

    def _staff(self, tx: Transaction, by: Actor, action: str, cheque: Cheque, result: str) -> None:
        self._trace.publish(tx, "staff", by.id, {
            "operator": by.id, "role": by.role, "action": action, "subject": f"A{cheque.apply_id}", "result": result})


class _Used(Exception):
    """The voucher proves another application: nothing is written."""


_ENDS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "end_ok": (HELD, (KEYED,)), "end_reject": (REJECTED, (KEYED,)), "end_reverse": (REVERSED, (HELD, CLEARED))}
"""End of a Procedure -> what the cheque becomes, and from which states; one that bounced stays so."""


def _bad(detail: str) -> Refusal:
    return Refusal(Code.INVALID_PARAM, detail)
