"""Standard deposits on top of a small world's core: entries of statements are handed in as a collector would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from core.accounts import Accounts, CardHolder, CustomerNames
from core.deposits.applications import Apply
from core.deposits.crediting import Crediting
from core.deposits.matching.engine import Candidate
from core.deposits.matching.room import MatchingRooms
from core.deposits.matching.rules import BankRules
from core.deposits.standard import Submitted
from core.deposits.statements import Flow, Statements
from core.domain import Role
from core.errors import Refusal
from core.jobs import Timetable
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from core.orchestration.records import Actor
from core.statement import Entry
from core.storage import Statement as Sql
from core.storage.primary import deposits, matches
from core.trace import Event
from tests.rig import SUPERVISOR, Rig, play

BANKS = ("bochk", "hsbc", "hase", "icbc", "cgb", "scb", "ccba", "dbs", "za", "citi", "spd", "ewb")
FRONTLINE = Actor("staff_1005", Role.FRONTLINE)  # who matches; `tests.rig.FRONTLINE` reviews


class Cardholders:
    """The account service of a test: every customer has a card at every bank. Implements `core.accounts.Accounts`."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.names_of = {customer.uid: customer.name for customer in rig.world.customers}
        self.levels: dict[int, int] = {}
        self.unbound: list[tuple[int, str, str, str]] = []

    @staticmethod
    def number(uid: int, bank: str) -> str:
        return f"62{BANKS.index(bank):02d}{uid:08d}{uid % 10_000:04d}"

    async def trade_account(self, uid: int, market: int) -> int:
        return next(one.trade_acc_ids[0] for one in self._rig.world.customers if one.uid == uid)

    async def owns_card(self, uid: int, bank: str, card_no: str) -> bool:
        return card_no == self.number(uid, bank) and not any(one[:3] == (uid, bank, card_no) for one in self.unbound)

    async def has_bound(self, uid: int, bank: str, card_no: str) -> bool:
        return await self.owns_card(uid, bank, card_no)

    async def verify_card(self, uid: int, bank: str, card_no: str) -> bool:
        return False

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        return (await self._rig.core.risk_control.balances(trade_acc_id, ccy)).available

    async def card_no(self, card_id: int) -> str:
        raise NotImplementedError

    async def card_holder(self, bank: str, card_no: str) -> CardHolder | None:
        for uid, name in self.names_of.items():
            if card_no == self.number(uid, bank):
                return CardHolder(uid, 1, name, name)
        return None

    async def names(self, uid: int) -> CustomerNames | None:
        return CustomerNames(self.names_of[uid]) if uid in self.names_of else None

    async def risk_level(self, uid: int) -> int:
        return self.levels.get(uid, 1)

    async def unbind_card(self, uid: int, bank: str, card_no: str, reason: str) -> bool:
        self.unbound.append((uid, bank, card_no, reason))
        return True


class Desk:
    """What a story of standard deposits holds in its hands."""

    def __init__(self, rig: Rig, banks: Sequence[str], rules: Mapping[str, BankRules] | None,
                 port: Callable[[Desk], Accounts] | None = None) -> None:
        self.rig, self._banks, self._rules, self._port = rig, banks, rules, port
        self.accounts = Cardholders(rig)
        self._refs = 0
        self._wire()

    def _wire(self) -> None:
        """The rooms, on the core that lives now."""
        core, banks, rules = self.rig.core, self._banks, self._rules
        given = core.given
        db, clock, trace, settings = given.databases.primary, given.clock, given.trace, given.settings
        self.db = db
        self.statements = Statements(db, clock, trace, keep_months=settings["match.look_back_months"])
        core.applications.closings.clear()  # those of the core's own rooms, in whose place ours stand
        crediting = Crediting(db, clock, core.applications, core.sba, core.lists, given.rpc, settings)
        self.rooms = MatchingRooms(
            db, clock, trace, given.calendars, core.jobs, self.statements, core.applications,
            self.accounts if self._port is None else self._port(self), core.sba,
            crediting, core.lists, given.rpc, settings, banks, rules)
        self.timetable = Timetable(db, clock, trace, given.locks, given.worker, settings, given.calendars,
                                   self.rooms.scheduled, core.spawn)

    async def begin(self) -> None:
        core = self.rig.core
        await core.jobs.stop()
        core.jobs.register(self.rooms.handlers)
        await self.rooms.begin()
        await core.jobs.start()
        self.rig.world.trace.subscribe(self._reborn)

    def _reborn(self, event: Event) -> None:
        """A new core starts: it gets its rooms before it takes anything up."""
        if event[2] == "core" and event[4]["phase"] == "start":
            self._wire()
            self.rig.core.jobs.register(self.rooms.handlers)

    def uid(self, who: str) -> int:
        return self.rig.customer(who).uid

    def card(self, who: str, bank: str) -> str:
        return self.accounts.number(self.uid(who), bank)

    async def submit(self, who: str = "alice", amount: int = 1_000_000, ccy: str = "HKD",
                     bank: str = "hsbc") -> Submitted | Refusal:
        customer = self.rig.customer(who)
        return await self.rooms.standard.submit(
            customer.uid, customer.trade_acc_ids[0], 1, 1, self.card(who, bank), bank, ccy, amount)

    async def applied(self, who: str = "alice", amount: int = 1_000_000, ccy: str = "HKD", bank: str = "hsbc") -> Apply:
        found = await self.submit(who, amount, ccy, bank)
        assert isinstance(found, Submitted), found
        return found.apply

    async def arrives(self, who: str = "alice", amount: int = 1_000_000, ccy: str = "HKD", bank: str = "hsbc", *,
                      name: str | None = None, account: str | None = None, ref: str = "", ago_ms: int = 0) -> Flow:
        """The bank's statement shows a transfer of this customer."""
        self._refs += 1
        ref = ref or f"R{self._refs}"
        entry = Entry(bank, f"our-{bank}-{ccy}", ref, ccy, amount, "C", self.rig.now_ms - ago_ms,
                      en_name=self.accounts.names_of[self.uid(who)] if name is None else name,
                      payer_acct=self.card(who, bank) if account is None else account)
        await self.statements.take(bank, [entry], "test")
        return await self.by_reference(entry)

    async def by_reference(self, entry: Entry) -> Flow:
        found = await self.statements.by_reference(entry.bank, entry.our_account, entry.bank_ref,
                                                   self.statements.recent_months())
        assert found is not None
        return found

    async def round(self) -> str:
        return await self.rooms.rounds.run()

    async def matched(self, who: str = "alice", amount: int = 1_000_000, ccy: str = "HKD",
                      bank: str = "hsbc", **more: Any) -> Apply:
        """An application that the round has matched just now, and its credit left some time."""
        apply = await self.applied(who, amount, ccy, bank)
        await self.arrives(who, amount, ccy, bank, **more)
        assert await self.round() == "1 matched"
        await asyncio.sleep(5)
        return await self.apply(apply)

    async def reverse(self, apply: Apply, remark: str = "test") -> None:
        """A supervisor reverses its credit."""
        reply = await self.rig.operate(
            "CashDepositReverse", await self.procedure(apply), SUPERVISOR, remark=remark,
            confirmations=REVERSE_CONFIRMATIONS)
        assert reply.ok, reply
        await asyncio.sleep(5)

    async def by_hand(self, flow: Flow, apply: Apply, request: str = "q1") -> Any:
        return await self.rooms.manual.match(request, flow.bank_type, flow.id, apply.id, FRONTLINE, "by hand")

    async def candidates(self, flow: Flow) -> list[Candidate]:
        found = await self.rooms.manual.candidates(flow.bank_type, flow.id, FRONTLINE)
        assert not isinstance(found, Refusal)
        return found

    # Looking

    async def apply(self, apply: Apply) -> Apply:
        found = await self.rig.core.applications.find(apply.id)
        assert found is not None
        return found

    async def flow(self, flow: Flow) -> Flow:
        found = await self.statements.find(flow.bank_type, flow.id)
        assert found is not None
        return found

    async def procedure(self, apply: Apply) -> dict[str, Any]:
        shown = await self.rig.of_apply(apply.id)
        assert shown is not None
        return shown

    async def rows(self, table: Any) -> list[Any]:
        """Ids and shards of all rows of a table sharded by customer."""
        return [(copy.name[-2:], *row) for copy in table for row in await self.db.all(Sql(select(copy)), {})]

    async def links(self) -> tuple[list[Any], list[Any]]:
        return await self.rows(matches), await self.rows(deposits)

    def reminders(self, **wanted: Any) -> list[dict[str, Any]]:
        return self.rig.of_kind("reminder", **wanted)

    def alerts(self, rule: str) -> list[dict[str, Any]]:
        return self.rig.of_kind("alert", rule=rule)


def tell(story: Callable[[Desk], Awaitable[Any]], *, banks: Sequence[str] = BANKS,
         rules: Mapping[str, BankRules] | None = None, port: Callable[[Desk], Accounts] | None = None,
         **more: Any) -> Any:
    """Tell a story of standard deposits; see `tests.rig.play`. ``port``: makes the account service of each core, by
    default `Cardholders`."""

    async def told(rig: Rig) -> Any:
        desk = Desk(rig, banks, rules, port)
        await desk.begin()
        return await story(desk)

    return play(told, **more)
