"""Rounds of two workers at the same moment, on every driver: each entry finds its application once (A-27)."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from sqlalchemy import select

from core.accounts import CardHolder
from core.calendars import Calendars
from core.clock import epoch_ms
from core.deposits.abnormal import AbnormalDeposits
from core.deposits.abnormal_list import UNMATCHED
from core.deposits.applications import Applications
from core.deposits.credit_statement import StatementCrediting
from core.deposits.matching.links import Links
from core.deposits.matching.manual import Done, ManualMatching
from core.deposits.matching.rounds import Rounds
from core.deposits.matching.rules import read_rules
from core.deposits.statements import CANDIDATE, MATCHED, Statements
from core.domain import ApplyStatus, Role
from core.jobs import Jobs
from core.orchestration.records import Actor
from core.settings import Settings
from core.statement import Entry
from core.storage import Databases, Statement
from core.storage.errors import Contention
from core.storage.primary import deposits, flow_claim, matches, queue
from core.trace import Trace

NOW = epoch_ms(datetime(2026, 3, 12, 10))
BANK, ACCOUNT, COUNT = "hsbc", "808000000011", 24
CLERK = Actor("staff_1001", Role.FRONTLINE)
CLAIMS = Statement(select(flow_claim.c.flow_id, flow_claim.c.apply_id).order_by(flow_claim.c.flow_id))
QUEUED = Statement(select(queue.c.event, queue.c.key))


class StillClock:
    """A Thursday morning."""

    def now_ms(self) -> int:
        return NOW

    def now_us(self) -> int:
        return NOW * 1000


class Holders:
    """The account service: customer n holds card n."""

    async def card_holder(self, bank: str, card_no: str) -> CardHolder | None:
        uid = int(card_no)
        return CardHolder(uid, uid, f"CHAN {uid}", f"CHAN {uid}")

    async def has_bound(self, uid: int, bank: str, card_no: str) -> bool:
        return uid == int(card_no)


class Worker:
    """The rooms of matching of one process."""

    def __init__(self, databases: Databases, name: str) -> None:
        db, clock, settings = databases.primary, StillClock(), Settings()
        trace, calendars = Trace(clock), Calendars(settings)
        jobs = Jobs(db, clock, trace, name, settings, {}, asyncio.ensure_future)
        self.db = db
        self.statements = Statements(db, clock, trace, keep_months=1)
        self.applications = Applications(db, clock, trace)
        self.links = Links(db, clock, trace, jobs, self.statements, self.applications, tries=3)
        self.rounds = Rounds(db, clock, trace, calendars, self.statements, self.applications, Holders(), self.links,  # type: ignore[arg-type]
                             settings, [BANK], read_rules(settings))
        self.manual = ManualMatching(db, clock, trace, self.statements, self.applications, self.links, self.rounds,
                                     settings)
        self.crediting = StatementCrediting(db, clock, trace, self.statements, self.applications, self.links,
                                            None, Holders(), settings, read_rules(settings))  # type: ignore[arg-type]
        self.abnormal = AbnormalDeposits(db, clock, trace, calendars, self.statements, self.applications, self.rounds,
                                         None, None, settings)  # type: ignore[arg-type]

    async def begin(self) -> None:
        await self.links.begin()
        await self.statements.ids.begin()
        await self.applications.ids.begin()


async def prepared(databases: Databases) -> tuple[Worker, Worker, list[int]]:
    """Two workers; as many entries as applications, each with an amount of its own: ids of the applications."""
    workers = Worker(databases, "w1"), Worker(databases, "w2")
    for worker in workers:
        await worker.begin()
    ids = []
    for number in range(COUNT):
        uid = 10_000_001 + number
        async with databases.primary.transaction() as tx:
            apply = await workers[0].applications.new(
                tx, uid=uid, trade_acc_id=uid, market=1, card_id=uid, card_no=f"{uid}", bank_type=BANK, ccy="HKD",
                amount=10_000 + number, source=1, trans_type=202, status=int(ApplyStatus.WAIT_MATCH))
        ids.append(apply.id)
    entries = [Entry(BANK, ACCOUNT, f"R{number}", "HKD", 10_000 + number, "C", NOW,
                     en_name=f"CHAN {10_000_001 + number}", payer_acct=f"{10_000_001 + number}")
               for number in range(COUNT)]
    taken = await asyncio.gather(*(worker.statements.take(BANK, entries, "test") for worker in workers),
                                 return_exceptions=True)
    again = [await worker.statements.take(BANK, entries, "test") for worker in workers]
    assert [one.accepted for one in again] in ([0, 0], [COUNT, 0]), taken
    return *workers, ids


async def round_of(worker: Worker) -> None:
    """A round; one that met another worker's is done again, as the timetable does in three minutes."""
    for _ in range(5):
        try:
            await worker.rounds.run()
            return
        except Contention:
            continue
    raise AssertionError("never alone")


async def check(one: Worker, ids: list[int]) -> None:
    claims = await one.db.all(CLAIMS, {})
    assert len(claims) == COUNT == len({apply for _, apply in claims})
    for flow_id, apply_id in claims:
        flow, apply = await one.statements.find(BANK, flow_id), await one.applications.find(apply_id)
        assert flow is not None and apply is not None
        assert (flow.status, flow.is_used, flow.amount) == (MATCHED, 1, apply.amount)
        assert (apply.status, apply.matched_flow_id) == (ApplyStatus.MATCHED, flow_id)
    rows = {table.name: len(await one.db.all(Statement(select(table.c.id)), {})) for table in (*matches, *deposits)}
    assert sum(count for name, count in rows.items() if name.startswith("matches")) == COUNT
    assert sum(count for name, count in rows.items() if name.startswith("deposits")) == COUNT
    assert len(await one.db.all(QUEUED, {})) == COUNT, "one credit is queued for each"
    assert sorted(ids) == sorted(apply for _, apply in claims)


@pytest.mark.req("MATCH-016")
async def test_two_rounds_at_the_same_moment_match_each_entry_once(databases: Databases) -> None:
    one, other, ids = await prepared(databases)
    await asyncio.gather(round_of(one), round_of(other))
    await check(one, ids)


@pytest.mark.req("MATCH-016")
async def test_a_person_and_a_round_at_the_same_moment_match_each_entry_once(databases: Databases) -> None:
    one, other, ids = await prepared(databases)
    flows = await one.statements.open(BANK)

    async def by_hand(number: int) -> bool:
        try:
            done = await other.manual.match(f"q{number}", BANK, flows[number].id, ids[number], CLERK)
        except Contention:
            return False
        return isinstance(done, Done)

    _, *made = await asyncio.gather(round_of(one), *(by_hand(number) for number in range(COUNT)))
    await round_of(one)
    await check(one, ids)
    tiers = [row[0] for table in matches for row in await one.db.all(Statement(select(table.c.tier)), {})]
    assert len([tier for tier in tiers if tier != "AUTO"]) == sum(made)


async def test_an_entry_that_is_noted_while_it_is_matched_does_not_stay_on_the_list(databases: Databases) -> None:
    one, other, ids = await prepared(databases)
    for flow in await one.statements.open(BANK):
        async with databases.primary.transaction() as tx:
            assert await one.statements.change(tx, flow, status=CANDIDATE) is not None
    flows = await one.statements.open(BANK)

    async def note(number: int) -> bool:
        try:
            return await other.abnormal._note(flows[number], UNMATCHED)
        except Contention:
            return False

    _, *noted = await asyncio.gather(round_of(one), *(note(number) for number in range(COUNT)))
    await round_of(one)
    await check(one, ids)
    assert await one.abnormal.listed() == [] and len(await one.abnormal.listed("CLOSED")) == sum(noted)


async def test_two_deposits_at_the_same_moment_do_not_take_one_pre_approval(databases: Databases) -> None:
    one, other, ids = await prepared(databases)
    flow = (await one.statements.open(BANK))[0]
    for apply_id in ids[:8]:
        apply = await one.applications.find(apply_id)
        assert apply is not None
        assert isinstance(await one.crediting.pre_approve(apply.uid, "HKD", 10_000, CLERK, "expected"), int)
        both = (apply, apply._replace(id=apply.id + 1_000_000))
        took = await asyncio.gather(*(
            worker.crediting._takes_approval(of, flow) for worker in (one, other) for of in both))
        assert took[:2] == took[2:] and sorted(took[:2]) == [False, True], "whoever asks twice is told the same"
