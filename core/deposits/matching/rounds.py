"""The matching round: every three minutes, around the clock, each connected bank by its own rules (A-55, gaps.md B-09).

    entries NEW, WINDOW_WAIT, CANDIDATE + applications WAIT_MATCH  ->  `decide`  ->  a match, or a status and a reminder

Each match is a transaction of its own: a round that dies in the middle has made the matches it made, and the next one
goes on. Outside the window of its currency an entry is only reminded of; the first round inside matches it. A bank
without rules is reported and left alone; one whose customers cannot be looked up leaves the others working.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, insert, select, update

from core.accounts import Accounts
from core.calendars import Calendars
from core.clock import MS_PER_S, Clock
from core.deposits.abnormal_list import unowned
from core.deposits.applications import Applications, Apply
from core.deposits.matching import engine
from core.deposits.matching.engine import Candidate, Decision, decide, explain
from core.deposits.matching.links import AUTO, Links
from core.deposits.matching.rules import CARD, DIMENSIONS, BankRules, Credit, Wish, credit, wish
from core.deposits.statements import ABNORMAL, CANDIDATE, NEW, WINDOW_WAIT, Flow, Statements
from core.errors import CallFailed, OutcomeUnknown
from core.money import Currency
from core.settings import Settings
from core.storage import Database, Statement, Transaction
from core.storage.primary import smart_reminder
from core.storage.standing import StandingAlerts
from core.trace import Trace

_R = smart_reminder.c
REMINDED = Statement(select(_R.flow_id, _R.count, _R.reminded_at).where(_R.bank_type == bindparam("bank"))
                     .order_by(_R.flow_id))
REMIND = Statement(insert(smart_reminder))
REMIND_AGAIN = Statement(
    update(smart_reminder).where(_R.bank_type == bindparam("b_bank"), _R.flow_id == bindparam("b_flow"),
                                 _R.count == bindparam("b_count"))
    .values(count=bindparam("count"), reminded_at=bindparam("reminded_at")))

OUTSIDE, NOT_UNIQUE, NOT_CERTAIN = "outside the matching window", "several applications", "not certain"
NOT_BOUND = "the card is not bound any more"

UNBOUND, LISTED = "UNBOUND", "LISTED"
"""Outcomes beside the engine's: all agrees and the card is not the customer's any more; nothing fits, and people have
the entry among the abnormal deposits already."""
_WHY: Final = {engine.TIED: NOT_UNIQUE, engine.CANDIDATES: NOT_CERTAIN, UNBOUND: NOT_BOUND, LISTED: ""}
"""Outcome of an entry that is for people, window or no window -> why no machine matches it, or "" if they know."""
_STATUS: Final = dict.fromkeys(_WHY, CANDIDATE) | {LISTED: ABNORMAL}
"""What such an entry becomes."""


class Rounds:
    """Automatic matching in one core. ``banks``: those whose statements are collected here."""

    def __init__(
        self, db: Database, clock: Clock, trace: Trace, calendars: Calendars, statements: Statements,
        applications: Applications, accounts: Accounts, links: Links, settings: Settings, banks: Sequence[str],
        rules: Mapping[str, BankRules],
    ) -> None:
        self._db, self._clock, self._trace, self._calendars = db, clock, trace, calendars
        self._statements, self._applications, self._accounts, self._links = statements, applications, accounts, links
        self.banks, self.rules = tuple(banks), rules
        self._best: int = settings["match.candidates"]
        self._remind_ms: int = settings["match.reminder.every_s"] * MS_PER_S
        self._alive_ms: int = settings["match.alive.alert_s"] * MS_PER_S
        self._backlog: int = settings["match.backlog.alert"]
        self._backlog_ms: int = settings["match.backlog.age_s"] * MS_PER_S
        self._waits: dict[int, Apply] = {}  # as the last look found them
        self._wishes: dict[int, Wish] = {}
        self.last_ms: int | None = None  # when a round was last carried out to its end, or watching began
        self._ended = False  # whether this core has carried out a round
        self._standing = StandingAlerts(db, clock, trace)

    @property
    def scheduled(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """Job of the timetable -> what is done for it."""
        return {"AutoMatchRound": self.run, "FlowMonitor": self.monitor}

    # A round

    async def run(self) -> str:
        """One round; what it did, in words, or "" for nothing."""
        matched, old, failed, waiting, now = 0, 0, list[str](), None, self._clock.now_ms()
        for bank in self.banks:
            flows = await self._statements.open(bank)
            if not flows:
                continue
            old += sum(now - flow.credit_time > self._backlog_ms
                       and self._calendars.matching_gate(flow.ccy, now).open for flow in flows)
            if bank not in self.rules:
                await self._standing.raised(
                    "MATCH-01", bank, f"{len(flows)} entries are not matched: register the bank's rules")
                continue
            if waiting is None:
                waiting = await self._waiting()
            try:
                matched += await self._match_bank(bank, flows, waiting.get(bank, []))
            except (CallFailed, OutcomeUnknown) as failure:
                failed.append(f"{bank}: {failure}")
        self.last_ms, self._ended = self._clock.now_ms(), True
        await self._standing.hold("DEP-01", "statements", old > self._backlog, f"{old} entries without an owner")
        for bank in await self._standing.keys("MATCH-01"):
            if bank in self.rules:
                await self._standing.cleared("MATCH-01", bank, "the bank's rules are registered")
        if failed:
            raise CallFailed("; ".join(failed))
        return f"{matched} matched" if matched else ""

    async def waiting(self) -> Collection[Apply]:
        """Applications that wait for their money; of those that waited before only the numbers are asked."""
        self._waits = waits = await self._applications.waiting(self._waits)
        self._wishes = {id: wish for id, wish in self._wishes.items() if id in waits}
        return waits.values()

    async def _waiting(self) -> dict[str, list[Apply]]:
        """The same by bank."""
        found: dict[str, list[Apply]] = {}
        for apply in await self.waiting():
            found.setdefault(apply.bank_type, []).append(apply)
        return found

    async def _match_bank(self, bank: str, flows: Sequence[Flow], applies: Sequence[Apply]) -> int:
        now = self._clock.now_ms()
        inside = dict.fromkeys(ccy for ccy in Currency if self._calendars.matching_gate(ccy, now).open)
        credits, wishes = [credit_of(flow) for flow in flows], [await self.wish_of(apply) for apply in applies]
        decisions = decide(self.rules[bank], credits, wishes, inside, self._best)
        by_id = {apply.id: apply for apply in applies}
        alone = any(one.outcome == engine.OPEN for one in decisions)
        theirs = await unowned(self._db, bank) if alone else {}
        reminded = {flow: (count, at) for flow, count, at in await self._db.all(REMINDED, {"bank": bank})}
        matched = 0
        for flow, entry, decision in zip(flows, credits, decisions, strict=True):
            found = decision
            if decision.wish is None:
                if decision.outcome == engine.OPEN and flow.id in theirs:
                    found = decision._replace(outcome=LISTED)
            elif not await self.has_card(apply := by_id[decision.wish]):
                found = unbound(self.rules[bank], entry, await self.wish_of(apply))
            elif decision.outcome == engine.HELD:
                found = held(self.rules[bank], entry, await self.wish_of(apply))
            else:
                matched += await self._links.match(flow, apply, AUTO, ",".join(DIMENSIONS), "system") is not None
                continue
            await self._set_aside(flow, found, flow.ccy in inside, reminded.get(flow.id))
        return matched

    async def has_card(self, apply: Apply) -> bool:
        """Whether the customer still has the card he announced the transfer from: after a reversal he must bind it
        again before it deposits (ADR-007)."""
        return await self._accounts.has_bound(apply.uid, apply.bank_type, apply.card_no)

    async def wish_of(self, apply: Apply) -> Wish:
        """The application with its customer's names, asked once as long as it waits."""
        known = self._wishes.get(apply.id)
        if known is None:
            holder = await self._accounts.card_holder(apply.bank_type, apply.card_no)
            names = (holder.en_name, holder.name) if holder is not None and holder.uid == apply.uid else ()
            known = self._wishes[apply.id] = wish(
                apply.id, apply.bank_type, apply.ccy, apply.amount, apply.created_at, apply.card_no, names)
        return known

    # What is not matched

    async def _set_aside(self, flow: Flow, decision: Decision, inside: bool, reminded: tuple[int, int] | None) -> None:
        """Its status, and the reminder if one is due, in one transaction. A reason that the opening of the window does
        not cure is told before the window."""
        status = _STATUS.get(decision.outcome, NEW if inside else WINDOW_WAIT)
        why = _WHY.get(decision.outcome, "" if inside else OUTSIDE)
        due = bool(why) and (reminded is None or self._clock.now_ms() - reminded[1] >= self._remind_ms)
        if status == flow.status and not due:
            return
        async with self._db.transaction() as tx:
            if status != flow.status:
                changed = await self._statements.change(tx, flow, status=status)
                if changed is None:
                    return
                if status == ABNORMAL:
                    self._statements.publish(tx, changed, "AutoMatchRound")
            if due:
                await self._remind(tx, flow, decision, why, reminded[0] if reminded else 0)

    async def _remind(self, tx: Transaction, flow: Flow, decision: Decision, why: str, count: int) -> None:
        now = self._clock.now_ms()
        if count == 0:
            await tx.execute(REMIND, {"bank_type": flow.bank_type, "flow_id": flow.id, "count": 1, "reminded_at": now})
        elif not await tx.execute(REMIND_AGAIN, {"b_bank": flow.bank_type, "b_flow": flow.id, "b_count": count,
                                                 "count": count + 1, "reminded_at": now}):
            return
        self._trace.publish(tx, "reminder", f"F{flow.id}", {
            "flow": flow.id, "bank": flow.bank_type, "ccy": flow.ccy, "amount": flow.amount, "why": why,
            "count": count + 1, "candidates": shown(decision.best)})

    # Watching

    async def wanted(self) -> dict[int, None]:
        """Applications that an open entry may belong to, as a round would see it now: people decide about them."""
        waiting, found = await self._waiting(), dict[int, None]()
        for bank in self.banks:
            flows = await self._statements.open(bank) if bank in self.rules and bank in waiting else []
            if flows:
                wishes = [await self.wish_of(apply) for apply in waiting[bank]]
                for decision in decide(self.rules[bank], [credit_of(flow) for flow in flows], wishes, (), self._best):
                    found |= dict.fromkeys(decision.all if decision.wish is None else (decision.wish,))
        return found

    async def monitor(self) -> None:
        """FlowMonitor: DEP-04 if rounds have stopped, over once this core has carried one out. That entries pile up
        (DEP-01) is seen by the round itself."""
        now = self._clock.now_ms()
        self.last_ms = now if self.last_ms is None else self.last_ms
        stopped = now - self.last_ms > self._alive_ms
        if stopped or self._ended:
            await self._standing.hold("DEP-04", "AutoMatchRound", stopped,
                                      f"no round has ended for {(now - self.last_ms) // MS_PER_S} s")


def held(rules: BankRules, entry: Credit, one: Wish) -> Decision:
    """All dimensions agree, and the window is closed."""
    return Decision(entry.id, engine.HELD, one.id, (explain(rules, entry, one),), (one.id,))


def unbound(rules: BankRules, entry: Credit, one: Wish) -> Decision:
    """All dimensions agree, and the card is not the customer's any more."""
    found = explain(rules, entry, one)._replace(fails=(f"{CARD}: {NOT_BOUND}",))
    return Decision(entry.id, UNBOUND, None, (found,), (one.id,))


def credit_of(flow: Flow) -> Credit:
    """A statement entry as matching sees it."""
    return credit(flow.id, flow.bank_type, flow.ccy, flow.amount, flow.credit_time, flow.payer_acct, flow.en_name)


def shown(candidates: Iterable[Candidate]) -> list[dict[str, Any]]:
    """Candidates for an event or a screen."""
    return [{"apply": one.wish, "fails": list(one.fails), "amount_diff": one.amount_diff, "days": one.days}
            for one in candidates]
