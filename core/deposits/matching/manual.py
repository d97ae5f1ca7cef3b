"""Matching by hand (Frontline Operations, gaps.md B-30): what the round could not decide, with its reasons.

A match by hand credits the statement's amount as an ABNORMAL deposit, which a reviewer must approve (MATCH-018). It can
be taken back until its credit begins. Each request id does one thing, once: asked again it gives the first result.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, insert, select

from core.clock import MS_PER_DAY, MS_PER_S, Clock
from core.deposits.abnormal_list import UNMATCHED, note_abnormal, was_abnormal
from core.deposits.applications import Applications, Apply
from core.deposits.matching.engine import Candidate, dimensions, explain, fails_plainly, rank
from core.deposits.matching.links import ASSISTED, MANUAL, Links, Match
from core.deposits.matching.rounds import Rounds, credit_of
from core.deposits.matching.rules import CURRENCY
from core.deposits.statements import ABNORMAL, NEW, OPEN, Flow, Statements, month_of
from core.domain import ApplyStatus, Role
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from core.settings import Settings
from core.storage import Database, Statement, Transaction
from core.storage.primary import MATCHING_BANKS, match_request
from core.storage.sharding import is_bank_month
from core.trace import Trace

MATCH, UNMATCH = "MATCH", "UNMATCH"
MAY: Final = (Role.FRONTLINE, Role.SUPERVISOR)
_FAILS_MAX: Final = 2
"""An application that fails more dimensions is not offered."""
_Q = match_request.c
ASKED = Statement(select(_Q.action, _Q.bank_type, _Q.flow_id, _Q.apply_id, _Q.match_id).where(
    _Q.request_id == bindparam("request")))
ASK = Statement(insert(match_request))


class Done(NamedTuple):
    """The result of a request: what was matched or taken apart. ``replayed``: the request had been carried out."""

    action: str
    bank: str
    flow_id: int
    apply_id: int
    match_id: int
    replayed: bool = False


class ManualMatching:
    """What people do in one core."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, statements: Statements, applications: Applications,
        links: Links, rounds: Rounds, settings: Settings,
    ) -> None:
        self._db, self._clock, self._trace = db, clock, trace
        self._statements, self._applications, self._links, self._rounds = statements, applications, links, rounds
        self._best: int = settings["match.candidates"]
        self._grace_ms: int = settings["match.manual.grace_s"] * MS_PER_S
        self._search_ms: int = settings["match.manual.search_days"] * MS_PER_DAY

    # Looking

    async def candidates(self, bank: str, flow_id: int, by: Actor) -> list[Candidate] | Refusal:
        """The best applications for an entry, whatever dimension separates them, each with the reasons."""
        if refusal := _role(by, "look for candidates"):
            return refusal
        flow = await self._flow(bank, flow_id)
        if isinstance(flow, Refusal):
            return flow
        rules = self._rounds.rules.get(bank)
        if rules is None:
            return Refusal(Code.NOT_FOUND, f"{bank} has no match rules")
        entry, since = credit_of(flow), self._clock.now_ms() - self._search_ms
        asked = [await self._rounds.wish_of(apply)
                 for apply in await self._rounds.waiting() if apply.created_at >= since]
        found = [explain(rules, entry, one) for one in asked if fails_plainly(rules, entry, one) <= _FAILS_MAX]
        found = [one for one in found if len(one.fails) <= _FAILS_MAX]
        return sorted(found, key=_usable_first)[:self._best]

    # Doing

    async def match(
        self, request_id: str, bank: str, flow_id: int, apply_id: int, by: Actor, remark: str = ""
    ) -> Done | Refusal:
        """This entry is the money of that application."""
        if refusal := _role(by, "match"):
            return self._refused(refusal, by, MATCH, apply_id)
        if (known := await self._known(request_id, MATCH, apply_id, bank, flow_id)) is not None:
            return known
        flow, apply = await self._flow(bank, flow_id), await self._applications.find(apply_id)
        refusal = flow if isinstance(flow, Refusal) else _unfit(flow, apply) or await self._cardless(apply)
        if refusal is not None:
            return self._refused(refusal, by, MATCH, apply_id)
        assert isinstance(flow, Flow) and apply is not None
        made = await self._match(request_id, flow, apply, by, remark)
        if made is None:
            known = await self._known(request_id, MATCH, apply_id, bank, flow_id)
            return known or self._refused(_moved(), by, MATCH, apply_id)
        self._tell(by, MATCH, apply_id, "OK")
        return Done(MATCH, bank, flow_id, apply_id, made.id)

    async def _cardless(self, apply: Apply | None) -> Refusal | None:
        if apply is None or await self._rounds.has_card(apply):
            return None
        return Refusal(Code.ILLEGAL_STATE, f"the card of application {apply.id} is not bound to its customer any more: "
                       "he binds it again first (ADR-007)")

    async def _match(self, request_id: str, flow: Flow, apply: Apply, by: Actor, remark: str) -> Match | None:
        rules = self._rounds.rules.get(flow.bank_type)
        asked, entry = await self._rounds.wish_of(apply), credit_of(flow)
        assisted = (rules is not None and apply.bank_type == flow.bank_type
                    and rules.assisted.amount(entry, asked) and rules.assisted.date(entry, asked))
        dims = dimensions(explain(rules, entry, asked)) if rules is not None else ""

        async def also(tx: Transaction, match: Match) -> None:
            await self._note(tx, request_id, MATCH, match, by, remark)

        return await self._links.match(flow, apply, ASSISTED if assisted else MANUAL, dims, by.id,
                                       wait_ms=self._grace_ms, remark=remark, also=also)

    async def unmatch(self, request_id: str, apply_id: int, by: Actor, remark: str = "") -> Done | Refusal:
        """Take a match back before its credit has begun: the application and the entry are open again."""
        if refusal := _role(by, "unmatch"):
            return self._refused(refusal, by, UNMATCH, apply_id)
        if (known := await self._known(request_id, UNMATCH, apply_id)) is not None:
            return known
        apply, link = await self._applications.find(apply_id), await self._links.latest(apply_id)
        if apply is None or link is None or apply.status != ApplyStatus.MATCHED:
            state = ApplyStatus(apply.status).name if apply is not None else "unknown"
            return self._refused(Refusal(Code.ILLEGAL_STATE, f"the application is {state}: only a match whose credit "
                                         "has not begun can be taken back"), by, UNMATCH, apply_id)
        match, deposit = link
        flow = await self._statements.find(match.bank_type, match.flow_id)
        assert flow is not None, match

        theirs = await was_abnormal(self._db, flow)  # people have it back: no round matches it

        async def also(tx: Transaction, of: Match) -> None:
            await self._note(tx, request_id, UNMATCH, of, by, remark)
            if theirs:
                await note_abnormal(tx, self._trace, flow, UNMATCHED, self._clock.now_ms())

        if not await self._links.unmatch(flow, apply, match, deposit, by.id, flow_to=ABNORMAL if theirs else NEW,
                                         also=also):
            return self._refused(_moved(), by, UNMATCH, apply_id)
        self._tell(by, UNMATCH, apply_id, "OK")
        return Done(UNMATCH, match.bank_type, match.flow_id, apply_id, match.id)

    # Request ids

    async def _known(self, request_id: str, action: str, apply_id: int, bank: str = "",
                     flow_id: int = 0) -> Done | Refusal | None:
        row = await self._db.first(ASKED, {"request": request_id})
        if row is None:
            return None
        done = Done(*row)._replace(replayed=True)
        same_flow = not bank or (bank, flow_id) == (done.bank, done.flow_id)
        if (action, apply_id) != (done.action, done.apply_id) or not same_flow:
            return Refusal(Code.DUPLICATE, f"request {request_id} was used for {done.action} of application "
                           f"{done.apply_id}")
        return done

    async def _note(self, tx: Transaction, request_id: str, action: str, match: Match, by: Actor, remark: str) -> None:
        await tx.execute(ASK, {
            "request_id": request_id, "action": action, "bank_type": match.bank_type, "flow_id": match.flow_id,
            "apply_id": match.apply_id, "match_id": match.id, "operator": by.id, "remark": remark,
            "created_at": self._clock.now_ms()})

    async def _flow(self, bank: str, flow_id: int) -> Flow | Refusal:
        known = bank in MATCHING_BANKS and is_bank_month(f"{bank}_{month_of(flow_id)}")
        flow = await self._statements.find(bank, flow_id) if known else None
        return flow or Refusal(Code.NOT_FOUND, f"{bank} has no statement entry {flow_id}")

    def _refused(self, refusal: Refusal, by: Actor, action: str, apply_id: int) -> Refusal:
        self._tell(by, action, apply_id, refusal.code.name)
        return refusal

    def _tell(self, by: Actor, action: str, apply_id: int, result: str) -> None:
        self._trace.emit("staff", by.id, {"operator": by.id, "role": by.role, "action": f"Deposit{action.title()}",
                                          "subject": f"A{apply_id}", "result": result})


def _usable_first(one: Candidate) -> tuple[Any, ...]:
    """An application in another currency explains, but can never be matched."""
    return any(why.startswith(f"{CURRENCY}:") for why in one.fails), rank(one)


def _role(by: Actor, what: str) -> Refusal | None:
    if by.role in MAY:
        return None
    return Refusal(Code.FORBIDDEN, f"{by.role} may not {what}: {' or '.join(MAY)}")


def _moved() -> Refusal:
    return Refusal(Code.VERSION_CONFLICT, "the entry or the application has moved meanwhile: look again")


def _unfit(flow: Flow, apply: Apply | None) -> Refusal | None:
    """Why an entry cannot be the money of an application, whatever people say."""
    if apply is None:
        return Refusal(Code.NOT_FOUND, "there is no such application")
    if flow.is_used or flow.status not in (*OPEN, ABNORMAL):
        return Refusal(Code.ILLEGAL_STATE, f"entry {flow.id} is used, or void")
    if apply.status != ApplyStatus.WAIT_MATCH:
        return Refusal(Code.ILLEGAL_STATE, f"application {apply.id} is {ApplyStatus(apply.status).name}")
    if flow.ccy != apply.ccy:
        return Refusal(Code.INVALID_PARAM, f"the entry is in {flow.ccy}, the application in {apply.ccy} (SBA-DEP-024)")
    return None
