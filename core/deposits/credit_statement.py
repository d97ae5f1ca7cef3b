"""Crediting of a matched statement: what kind of deposit it is, and what follows its end (A-28, A-29, A-67, B-10).

    MATCHED -> StatementCredit -> CREDITING -> SBA CashDepositCreate (transaction_id {bank}:{flow_id}) -> DONE
                                                                                                       -> REJECTED

The statement's amount is credited, whatever the application says. The kind, the first that holds: a match made by a
person, or of a card that was unbound meanwhile (ADR-007), is ABNORMAL; a customer of high risk, a first deposit above
its threshold and a remitter of another name are HIGH_RISK; one that operations expect is PRE_APPROVAL; all else is
NORMAL. Black list, white list and the large threshold are SBA's review. The move to CREDITING is a commit of its own:
before it a match can be taken back, after it only SBA's review can stop the money. A rejected deposit used no money:
its entry goes back to unused with the claim given up, in the transaction that writes the rejection, and is abnormal:
people match it again or deal with it. What is matched again is another deposit at SBA (transaction_id
{bank}:{flow_id}:{attempt}). A reversed deposit keeps its entry: the money was credited and taken back by a person, for
good.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from sqlalchemy import bindparam, insert, select, update

from core.accounts import Accounts, CardHolder
from core.alerts import clear_alert, raise_alert
from core.clock import MS_PER_DAY, Clock
from core.deposits.abnormal_list import NOT_CREDITED, REVERSED, close_abnormal, note_abnormal
from core.deposits.applications import Applications, Apply, Write
from core.deposits.crediting import Crediting, Terms
from core.deposits.matching.links import AUTO, CREDIT, Deposit, Links, Match
from core.deposits.matching.rounds import credit_of
from core.deposits.matching.rules import STATEMENT_TRANS_TYPE, BankRules, wish
from core.deposits.statements import ABNORMAL, CREDITED, STRUCK, VOID, Flow, Statements
from core.domain import ApplyStatus, DepositType, Role
from core.errors import Code, Refusal
from core.hops import belongs_to
from core.jobs import Again, Done, Failed, Job, Verdict
from core.money import MINOR_PER_MAJOR
from core.orchestration.records import RC_REASONS, Actor, Procedure
from core.orchestration.requests import check_wish
from core.settings import Settings
from core.storage import Database, Sharded, Statement, Transaction, shard_of
from core.storage.primary import applys, pre_approval
from core.trace import Trace

EARLIER: Final = Sharded(lambda t: select(t.c.id).where(
    t.c.uid == bindparam("uid"), t.c.status.in_((int(ApplyStatus.DONE), int(ApplyStatus.REVERSED),
                                                 int(ApplyStatus.REFUNDED))),
    t.c.sba_procedure_id.is_not(None)).limit(1), applys)
_A = pre_approval.c
NEW_APPROVAL = Statement(insert(pre_approval))
APPROVALS = Statement(select(_A.id, _A.amount, _A.apply_id).where(
    _A.uid == bindparam("uid"), _A.ccy == bindparam("ccy"),
    ((_A.apply_id.is_(None)) & (_A.valid_until > bindparam("now"))) | (_A.apply_id == bindparam("apply")))
    .order_by(_A.apply_id.is_(None), _A.id))
"""The one that an application has taken, then those that are free."""
TAKE_APPROVAL = Statement(update(pre_approval).where(
    _A.id == bindparam("b_id"), (_A.apply_id.is_(None)) | (_A.apply_id == bindparam("b_apply")))
    .values(apply_id=bindparam("b_apply"), updated_at=bindparam("updated_at")))
STAFF: Final = (Role.FRONTLINE, Role.SUPERVISOR)
HIGH_RISK_LEVEL, FIRST_LARGE, THIRD_PARTY = "risk level", "first large deposit", "third-party remitter"


class StatementCrediting:
    """Credits of matched statements in one core. Construct it once: it follows the ends of applications."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, statements: Statements, applications: Applications,
        links: Links, crediting: Crediting, accounts: Accounts, settings: Settings, rules: dict[str, BankRules],
    ) -> None:
        self._db, self._clock, self._trace = db, clock, trace
        self._statements, self._applications, self._links = statements, applications, links
        self._crediting, self._accounts, self._rules = crediting, accounts, rules
        self._risk_level: int = settings["deposit.high_risk_level"]
        self._first_large: dict[str, int] = {
            ccy: major * MINOR_PER_MAJOR for ccy, major in settings["deposit.first_large"].items()}
        self._third_party: float = settings["deposit.third_party"]
        self._same_name: float = settings["card.name_similarity"]
        self._tolerance: float = settings["deposit.pre_approval.tolerance"]
        self._valid_ms: int = settings["deposit.pre_approval.valid_days"] * MS_PER_DAY
        applications.closings.append(self._closing)

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return {CREDIT: self._credit, STRUCK: self._take_struck}

    # The job

    async def _credit(self, job: Job) -> Verdict:
        apply = await self._applications.find(job.payload["apply"])
        deposit = await self._links.deposit(job.payload["deposit"])
        assert apply is not None, job.payload
        if deposit.status == ApplyStatus.CANCELLED:
            return Failed("the match was taken back")
        match = await self._links.of(deposit)
        flow = await self._statements.find(match.bank_type, match.flow_id)
        assert flow is not None, match
        if deposit.status == ApplyStatus.MATCHED and not await self._begin(apply, deposit):
            return Failed("the match was taken back")
        return await self._crediting.run(job, _business_id(flow, job.payload.get("attempt", 1)),
                                         await self._terms(job, apply, match, flow), apply)

    async def _begin(self, apply: Apply, deposit: Deposit) -> bool:
        """MATCHED -> CREDITING; False if the match was taken apart meanwhile."""
        async with self._db.transaction() as tx:
            moved = await self._links.move(tx, deposit, ApplyStatus.CREDITING)
            return moved and await self._applications.change(tx, apply, ApplyStatus.CREDITING) is not None

    async def _terms(self, job: Job, apply: Apply, match: Match, flow: Flow) -> Terms:
        kind = await self._deposit_type(apply, match, flow)

        async def created(tx: Transaction, procedure_id: int) -> None:
            known = await self._links.latest_in(tx, apply.id)
            if known is not None and known.procedure_id is None:
                await self._links.move(tx, known, ApplyStatus(known.status), procedure_id)
            if self._crediting.gave_up(job):
                tx.after_commit(lambda: clear_alert(self._trace, "DEP-03", f"A{apply.id}", f"P{procedure_id}"))

        return Terms(kind, flow.amount, STATEMENT_TRANS_TYPE[flow.bank_type], flow.en_name, flow.payer_acct,
                     proposed_by="" if match.tier == AUTO else match.operator, alert="DEP-03", created=created)

    async def _deposit_type(self, apply: Apply, match: Match, flow: Flow) -> DepositType:
        """What kind of deposit a match makes; one that operations expect takes its pre-approval."""
        holder = await self._holder(apply) if match.tier == AUTO else None
        if holder is None:
            return DepositType.ABNORMAL
        if await self.risks(apply, flow, holder):
            return DepositType.HIGH_RISK
        return DepositType.PRE_APPROVAL if await self._takes_approval(apply, flow) else DepositType.NORMAL

    async def risks(self, apply: Apply, flow: Flow, holder: CardHolder) -> tuple[str, ...]:
        """Why a deposit from a card of the customer is of high risk (gaps.md B-10); empty: it is not."""
        hits = [HIGH_RISK_LEVEL] if await self._accounts.risk_level(apply.uid) >= self._risk_level else []
        if flow.amount > self._first_large[flow.ccy] and await self._is_first(apply.uid):
            hits.append(FIRST_LARGE)
        if flow.en_name and self._alike(apply, flow, holder) < self._third_party:
            hits.append(THIRD_PARTY)
        return tuple(hits)

    async def _holder(self, apply: Apply) -> CardHolder | None:
        """The customer with the card he announced the transfer from; None: it is not his any more, or frozen."""
        holder = await self._accounts.card_holder(apply.bank_type, apply.card_no)
        return holder if holder is not None and holder.uid == apply.uid else None

    def _alike(self, apply: Apply, flow: Flow, holder: CardHolder) -> float:
        """How much the remitter's name resembles the customer's."""
        asked = wish(apply.id, apply.bank_type, apply.ccy, apply.amount, apply.created_at, apply.card_no,
                     (holder.en_name, holder.name))
        return self._rules[flow.bank_type].alike(credit_of(flow), asked)

    async def _is_first(self, uid: int) -> bool:
        return await self._db.first(EARLIER[shard_of(uid)], {"uid": uid}) is None

    # Pre-approvals

    async def pre_approve(self, uid: int, ccy: str, amount: int, by: Actor, remark: str) -> int | Refusal:
        """Operations expect this deposit: its number. Valid five days, for one deposit of about this amount."""
        if by.role not in STAFF:
            return Refusal(Code.FORBIDDEN, f"{by.role} may not pre-approve: frontline_ops or supervisor")
        if refusal := check_wish(1, ccy, amount):
            return refusal
        now = self._clock.now_ms()
        return await self._db.insert(NEW_APPROVAL, {
            "uid": uid, "ccy": ccy, "amount": amount, "valid_until": now + self._valid_ms, "operator": by.id,
            "remark": remark, "apply_id": None, "created_at": now, "updated_at": now})

    async def _takes_approval(self, apply: Apply, flow: Flow) -> bool:
        """Whether this deposit has a pre-approval: it is taken before SBA hears of the deposit, so that of two equal
        ones at once only one has it; who asks again still has it, whatever has expired meanwhile."""
        now = self._clock.now_ms()
        for number, amount, taken_by in await self._db.all(APPROVALS, {
                "uid": apply.uid, "ccy": flow.ccy, "now": now, "apply": apply.id}):
            if taken_by is not None:
                return True
            if abs(flow.amount - amount) <= amount * self._tolerance and await self._db.execute(
                    TAKE_APPROVAL, {"b_id": number, "b_apply": apply.id, "updated_at": now}):
                return True
        return False

    # The end

    async def _closing(self, p: Procedure, apply: Apply) -> Write | None:
        """What an end of the Procedure makes of the entry and of the crediting."""
        link = await self._links.latest(apply.id) if apply.matched_flow_id is not None else None
        if link is None:
            return None
        match, deposit = link
        flow = await self._statements.find(match.bank_type, match.flow_id)
        assert flow is not None, match
        if p.status == "end_reject" and p.reason in RC_REASONS and flow.status != VOID:
            raise_alert(self._trace, "DEP-03", f"A{apply.id}", p.reason)
        if p.status == "end_ok" and match.tier == AUTO:
            await self._verify_card(apply, flow)
        to, status, reason = _ENDS[p.status]

        async def write(tx: Transaction) -> None:
            await self._links.move(tx, deposit, to, p.id)
            gone, credited = flow.status == VOID, p.status == "end_ok"  # gone: struck while it was reviewed, or later
            if not gone and await self._ended(tx, flow, apply, p, status) and reason:
                await note_abnormal(tx, self._trace, flow, reason, self._clock.now_ms())
            if gone and not credited:
                tx.after_commit(lambda: clear_alert(self._trace, "DEP-09", f"A{apply.id}", to.name))
            if gone or credited:
                await self._no_more_refused(tx, flow, to.name)

        return write

    async def _no_more_refused(self, tx: Transaction, flow: Flow, how: str) -> None:
        """What risk control refused of an entry is over: its money is credited all the same, or gone."""
        for apply_id in await self._links.refused_of(tx, flow):
            tx.after_commit(partial(clear_alert, self._trace, "DEP-03", f"A{apply_id}", f"F{flow.id} {how}"))

    async def _ended(self, tx: Transaction, flow: Flow, apply: Apply, p: Procedure, status: int) -> bool:
        if p.status == "end_reject":
            return await self._links.release(tx, flow, apply, p.id, p.reason, flow_to=status)
        return await self._statements.change(tx, flow, status=status) is not None

    async def _verify_card(self, apply: Apply, flow: Flow) -> None:
        """The first deposit that the round matched by itself, under the holder's name, verifies the card it came from
        (B-40). One that a person matched does not: that the money is his says nothing of the card."""
        holder = await self._holder(apply) if flow.en_name else None
        if holder is not None and not holder.verified and self._alike(apply, flow, holder) >= self._same_name:
            await self._accounts.verify_card(apply.uid, apply.bank_type, apply.card_no)

    # The bank takes back what it told

    async def _take_struck(self, job: Job) -> Verdict:
        """StatementStruck: a bank's collector has seen that an entry in use is gone."""
        flow = await self._statements.find(job.payload["bank"], job.payload["flow"])
        assert flow is not None, job.payload
        if await self.struck(flow) is not None:
            return Done()
        return Again(self._clock.now_ms(), f"F{flow.id} moved at this moment")

    async def struck(self, flow: Flow) -> str | None:
        """The bank has deleted an entry (A-29; the customer was refunded): VOID, and what was made of it undone as far
        as a machine may. Returns what becomes of its application: "" (there is none, or it was struck before),
        REFUNDED, or PENDING_REVERSE for a person; None if the entry has moved since it was read: ask again."""
        if flow.status == VOID:
            return ""
        if flow.is_used == 0:
            return await self._strike_unused(flow)
        owner = await self._links.owner_of(flow.bank_type, flow.id)
        link = await self._links.latest(owner) if owner is not None else None
        apply = await self._applications.find(owner) if owner is not None else None
        if link is None or apply is None:  # its match is being taken apart
            return None
        match, deposit = link
        belongs_to(f"A{apply.id}")

        async def refunded(tx: Transaction, _match: Match) -> None:
            await self._applications.open_refund(tx, apply, "NOT_CREDITED", flow_id=flow.id, amount=flow.amount)
            self._applications.tell(tx, apply.uid, "DEPOSIT_REFUNDED", "")
            await self._no_more_refused(tx, flow, STRUCK)

        if await self._links.unmatch(flow, apply, match, deposit, "system", to=ApplyStatus.REFUNDED, flow_to=VOID,
                                     also=refunded):
            return "REFUNDED"
        return await self._to_reverse(flow, apply)

    async def _strike_unused(self, flow: Flow) -> str | None:
        """Nobody's by now; the customer whose deposit was rejected is told that the bank gave him the money back."""
        async with self._db.transaction() as tx:
            if await self._statements.change(tx, flow, status=VOID) is None:
                return None
            await close_abnormal(tx, self._trace, flow, STRUCK, "system", "", self._clock.now_ms())
            await self._no_more_refused(tx, flow, STRUCK)
            owner = await self._links.released_by(tx, flow)
            apply = await self._applications.find(owner, tx) if owner is not None else None
            if apply is not None:
                await self._applications.open_refund(tx, apply, "NOT_CREDITED", flow_id=flow.id, amount=flow.amount)
                self._applications.tell(tx, apply.uid, "DEPOSIT_REFUNDED", "")
        return ""

    async def _to_reverse(self, flow: Flow, apply: Apply) -> str | None:
        """The credit has begun: a supervisor reverses it, no machine does. One that was refused or reversed already
        leaves nothing to reverse."""
        over = apply.status in (ApplyStatus.REJECTED, ApplyStatus.REVERSED)
        async with self._db.transaction() as tx:
            if await self._statements.change(tx, flow, status=VOID) is None:
                return None
            await self._applications.open_refund(tx, apply, _OVER.get(apply.status, "PENDING_REVERSE"),
                                                 flow_id=flow.id, amount=flow.amount)
            self._applications.tell(tx, apply.uid, "DEPOSIT_REFUNDED", "")
            if not over:
                tx.after_commit(lambda: raise_alert(self._trace, "DEP-09", f"A{apply.id}", f"F{flow.id}"))
        return "" if over else "PENDING_REVERSE"


def _business_id(flow: Flow, attempt: int) -> str:
    """What SBA knows the credit of an entry by; another one after each rejection."""
    return f"{flow.bank_type}:{flow.id}" + (f":{attempt}" if attempt > 1 else "")


_OVER: Final = {int(ApplyStatus.REJECTED): "NOT_CREDITED", int(ApplyStatus.REVERSED): "REVERSED"}
"""Status of an application whose credit is over -> state of the refund record."""
_ENDS: Final[dict[str, tuple[ApplyStatus, int, str]]] = {
    "end_ok": (ApplyStatus.DONE, CREDITED, ""),
    "end_reject": (ApplyStatus.REJECTED, ABNORMAL, NOT_CREDITED),
    "end_reverse": (ApplyStatus.REVERSED, ABNORMAL, REVERSED)}
"""End of a Procedure -> status of the crediting, status of the entry, reason why people must look at the entry."""
