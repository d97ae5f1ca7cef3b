"""eDDA authorisations: begun, polled, synchronised, reported; who may be debited (B-25, B-55)."""

from __future__ import annotations

import asyncio
from itertools import pairwise, product
from typing import Any

import pytest
from edda_world import World, play
from sqlalchemy import select

from core.cards.edda import Authorisation, way
from core.domain import EDDA_MOVES, EddaStatus
from core.errors import Code, Refusal
from core.storage import Statement
from core.storage.account import edda_report
from core.wire.edda import AuthorisationStatus

BANKS = ("hsbc", "hase")
LISTED = {  # gaps.md B-55, written out here
    "hsbc": {"hsbc", "hase", "bochk", "scb", "dbs", "citi", "icbc", "ccba", "bea", "cgb", "za", "mox", "welab", "livi"},
    "hase": {"hase", "hsbc", "bochk", "scb", "bea"}}
EVERY_BANK = sorted(LISTED["hsbc"] | {"airstar", "cmb", "cmbc", "spd", "ewb", "nobody", ""})
REPORTS = Statement(select(edda_report.c.name, edda_report.c.state, edda_report.c.changes, edda_report.c.reason)
                    .order_by(edda_report.c.version))
LATER = {"sim.edda.decision.delay": [[1.0, 3_600.0, 3_600.0]]}


async def begin(world: World, bank: str = "hsbc", **more: Any) -> Authorisation | Refusal:
    world.banks[bank].bank.open_debtor("c0", bank, world.debtor(0, bank).account, world.customers[0].name, {})
    return await world.authorisations(bank).begin(
        world.customers[0].uid, world.card(bank), world.debtor(0, bank), **more)


async def status(world: World, bank: str = "hsbc") -> EddaStatus:
    return EddaStatus((await world.authorisations(bank).of_card(world.card(bank))).status)


def asked(world: World, bank: str, message: str) -> int:
    return len(world.of_kind("bank.request", bank=f"{bank}_eddi", message=message))


# --- who may be debited -----------------------------------------------------------------------------------------


@pytest.mark.req("EDDA-11")
@pytest.mark.parametrize("bank", BANKS)
def test_a_card_of_a_bank_that_is_not_listed_cannot_be_bound_and_the_bank_is_not_asked(bank: str) -> None:
    async def story(world: World) -> None:
        room, uid = world.authorisations(bank), world.customers[0].uid
        for number, debtor in enumerate(EVERY_BANK):
            made = await room.begin(uid, 500 + number, world.debtor(0, bank)._replace(bank=debtor))
            assert isinstance(made, Refusal) is (debtor not in LISTED[bank]), debtor
            if isinstance(made, Refusal):
                assert made.code is Code.BLOCKED
        assert asked(world, bank, "create_authorisation") == len(LISTED[bank])

    play(story, enrolled=False)


@pytest.mark.req("EDDA-11")
def test_the_list_is_a_setting() -> None:
    async def story(world: World) -> None:
        made = await begin(world, "hase")
        assert isinstance(made, Refusal) and "bea" in made.detail

    play(story, enrolled=False, settings={"edda.debtor_banks.hase": ["bea"]})


# --- the life of an authorisation -------------------------------------------------------------------------------


@pytest.mark.req("JOB-025")
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("wire", ["messages", "full"])
def test_the_poll_every_five_minutes_finds_the_decision(bank: str, wire: str) -> None:
    async def story(world: World) -> None:
        made = await begin(world, bank)
        assert isinstance(made, Authorisation) and made.status == EddaStatus.PENDING
        assert world.banks[bank].bank.status(made.mandate_ref) is AuthorisationStatus.PENDING
        await asyncio.sleep(3_500)
        assert await status(world, bank) is EddaStatus.PENDING
        assert asked(world, bank, "query_authorisation") == 12  # at the full hour, then every five minutes
        await asyncio.sleep(400)
        assert await status(world, bank) is EddaStatus.ACTIVE
        polls = asked(world, bank, "query_authorisation")
        await asyncio.sleep(1_000)
        assert asked(world, bank, "query_authorisation") == polls  # no longer PENDING

    play(story, enrolled=False, settings=LATER, wire=wire)


def test_one_that_the_bank_rejects_is_rejected_with_its_reason() -> None:
    async def story(world: World) -> None:
        await begin(world, limit=100)
        await asyncio.sleep(900)
        one = await world.authorisations("hsbc").of_card(world.card("hsbc"))
        assert (one.status, one.reason) == (EddaStatus.REJECTED, "AC01")
        again = await world.authorisations("hsbc").begin(world.customers[0].uid, world.card("hsbc"), world.debtor())
        assert isinstance(again, Authorisation)  # ended: the customer may authorise anew

    play(story, enrolled=False, settings={"sim.edda.decision.reject_share": 1.0})


@pytest.mark.parametrize("fault", ["timeout", "error_5xx_after_commit", "bad_signature", "rate"])
def test_one_that_the_bank_did_not_acknowledge_is_asked_for_again_under_its_reference(fault: str) -> None:
    async def story(world: World) -> None:
        world.banks["hsbc"].bank.fault(fault, count=1)
        made = await begin(world)
        assert isinstance(made, Authorisation) and made.status == EddaStatus.INIT
        await asyncio.sleep(1_300)
        assert await status(world) is EddaStatus.ACTIVE
        references = [data["ref"] for data in world.of_kind("bank.request", message="create_authorisation")]
        assert references == [made.reference] * 2

    play(story, enrolled=False)


def test_a_card_has_one_authorisation_at_a_time() -> None:
    async def story(world: World) -> None:
        await begin(world)
        again = await world.authorisations("hsbc").begin(world.customers[0].uid, world.card("hsbc"), world.debtor())
        assert isinstance(again, Refusal) and again.code is Code.DUPLICATE

    play(story, enrolled=False)


@pytest.mark.parametrize(("more", "word"), [
    ({"ccy": "CNH"}, "HKD"), ({"ccy": "USD"}, "HKD"), ({"limit": 100_000_001}, "1,000,000.00 HKD"),
    ({"limit": 0}, "limit")])
def test_currency_and_limit_are_those_of_the_configuration(more: dict[str, Any], word: str) -> None:
    async def story(world: World) -> None:
        made = await begin(world, **more)
        assert isinstance(made, Refusal) and word in made.detail

    play(story, enrolled=False)


def test_after_three_business_days_the_poll_ends_people_are_told_and_the_daily_sync_still_finds_it() -> None:
    """Begun on Thursday: the third business day is Tuesday."""

    async def story(world: World) -> None:
        await begin(world)
        await world.until("2026-03-18 00:06")
        assert len(world.alerts("EDDA-01")) == 1
        polls = asked(world, "hsbc", "query_authorisation")
        await world.until("2026-03-18 06:29")
        assert asked(world, "hsbc", "query_authorisation") == polls
        await world.until("2026-03-18 06:31")
        assert asked(world, "hsbc", "query_authorisation") == polls + 1
        await world.until("2026-03-19 06:31")
        assert await status(world) is EddaStatus.ACTIVE
        assert len(world.alerts("EDDA-01")) == 1

    play(story, enrolled=False, settings={"sim.edda.decision.delay": [[1.0, 6.5 * 86_400, 6.5 * 86_400]],
                                          "jobs.edda_report.at": ["23:30"], "sim.edda.report.at": ["23:20"],
                                          "jobs.edda_auth.period_s": 300})


@pytest.mark.req("JOB-028")
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("to", ["SUSPENDED", "CANCELLED"])
def test_the_daily_sync_finds_what_changed_at_the_bank(bank: str, to: str) -> None:
    async def story(world: World) -> None:
        world.here.core.timetable.pause("HsbcEddaReport")
        world.banks[bank].bank.set_status(world.banks[bank].mandates[0], AuthorisationStatus[to])
        await world.until("2026-03-13 06:29")
        assert await status(world, bank) is EddaStatus.ACTIVE
        await world.until("2026-03-13 06:31")
        assert await status(world, bank) is EddaStatus[to]
        assert [data["event"] for data in world.of_kind("notify")] == ["REAUTHORIZE"]
        assert isinstance(await world.debit(bank), Refusal)

    play(story)


def test_a_sync_to_which_the_bank_is_silent_is_repeated() -> None:
    async def story(world: World) -> None:
        world.banks["hsbc"].bank.set_status(world.banks["hsbc"].mandates[0], AuthorisationStatus.SUSPENDED)
        await world.until("2026-03-13 06:25")
        world.banks["hsbc"].bank.fault("outage", for_s=600.0)
        await world.until("2026-03-13 06:45")
        assert await status(world) is EddaStatus.SUSPENDED

    play(story)


def test_a_follower_hears_of_every_status() -> None:
    async def story(world: World) -> None:
        heard: list[int] = []

        async def hear(one: Authorisation) -> None:
            heard.append(one.status)

        world.authorisations("hsbc").followers.append(hear)
        await begin(world)
        await asyncio.sleep(900)
        assert heard == [EddaStatus.PENDING, EddaStatus.ACTIVE]

    play(story, enrolled=False)


# --- the way between two statuses -------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "to"), list(product(EddaStatus, EddaStatus)))
def test_every_pair_of_statuses_has_a_way_along_the_moves_or_none(start: EddaStatus, to: EddaStatus) -> None:
    found = way(start, to)
    if found is None:
        reachable, before = {start}, set[EddaStatus]()
        while reachable != before:
            before = set(reachable)
            reachable |= {following for one in before for following in EDDA_MOVES[one]}
        assert to not in reachable
    else:
        steps = [start, *found]
        assert steps[-1] is to
        assert all(following in EDDA_MOVES[one] for one, following in pairwise(steps))


# --- HSBC's report ----------------------------------------------------------------------------------------------


def no_questions(world: World) -> None:
    for job in ("EddaStatusSync", "EddaAuthPoll"):
        world.here.core.timetable.pause(job)


@pytest.mark.req("EDDA-08")
@pytest.mark.parametrize("wire", ["messages", "full"])
def test_the_report_is_fetched_on_schedule_and_updates_the_authorisations(wire: str) -> None:
    async def story(world: World) -> None:
        no_questions(world)
        bank = world.banks["hsbc"].bank
        bank.set_status(world.banks["hsbc"].mandates[0], AuthorisationStatus.SUSPENDED, "AC04")
        bank.set_status(world.banks["hsbc"].mandates[1], AuthorisationStatus.CANCELLED)
        await world.until("2026-03-12 18:29:59")
        assert await status(world) is EddaStatus.ACTIVE
        await world.until("2026-03-12 18:30:10")
        rows = [await world.authorisations("hsbc").of_card(world.card("hsbc", index)) for index in range(3)]
        assert [(one.status, one.reason) for one in rows] == [
            (EddaStatus.SUSPENDED, "AC04"), (EddaStatus.CANCELLED, ""), (EddaStatus.ACTIVE, "")]
        bank.set_status(world.banks["hsbc"].mandates[0], AuthorisationStatus.ACTIVE)
        await world.until("2026-03-13 07:30:10")
        assert await status(world) is EddaStatus.ACTIVE
        assert asked(world, "hsbc", "query_authorisation") == 0
        assert await world.databases.account.all(REPORTS, {}) == [
            ("HSBC_EDDA_20260312_182000.csv", "TAKEN", 2, ""), ("HSBC_EDDA_20260313_072000.csv", "TAKEN", 1, "")]

    play(story, customers=3, wire=wire)


@pytest.mark.req("EDDA-08")
@pytest.mark.parametrize(("how", "state", "changes", "after"), [
    ("row", "TAKEN", 1, EddaStatus.SUSPENDED), ("file", "REFUSED", 0, EddaStatus.ACTIVE)])
def test_a_garbled_report_is_kept_with_the_reason_and_its_good_rows_are_taken(
    how: str, state: str, changes: int, after: EddaStatus
) -> None:
    async def story(world: World) -> None:
        no_questions(world)
        world.banks["hsbc"].bank.fault("report_garbled", how=how, count=1)
        world.banks["hsbc"].bank.set_status(world.banks["hsbc"].mandates[0], AuthorisationStatus.SUSPENDED)
        await world.until("2026-03-12 18:31")
        assert await status(world) is after
        assert len(world.alerts("EDDA-03")) == 1
        ((_, kept, number, reason),) = await world.databases.account.all(REPORTS, {})
        assert (kept, number) == (state, changes) and "line" in reason

    play(story)


@pytest.mark.req("EDDA-08")
@pytest.mark.parametrize(("fault", "alarmed"), [("report_late", False), ("report_missing", True), ("outage", True)])
def test_a_report_that_is_late_is_fetched_by_a_repetition_and_one_that_never_comes_alarms(
    fault: str, alarmed: bool
) -> None:
    async def story(world: World) -> None:
        no_questions(world)
        bank = world.banks["hsbc"].bank
        if fault == "outage":
            bank.fault("outage", after_s=8 * 3_600.0, for_s=3 * 3_600.0)
        else:
            bank.fault(fault, count=1)
        bank.set_status(world.banks["hsbc"].mandates[0], AuthorisationStatus.SUSPENDED)
        await world.until("2026-03-12 19:10")
        assert (await status(world) is EddaStatus.ACTIVE) is alarmed
        assert bool(world.alerts("JOB-01")) is alarmed
        await world.until("2026-03-13 07:31")
        assert await status(world) is EddaStatus.SUSPENDED  # the next report tells it

    play(story)


def test_what_the_bank_has_told_later_than_a_report_was_written_stands() -> None:
    async def story(world: World) -> None:
        world.here.core.timetable.pause("HsbcEddaReport")
        bank, mandate = world.banks["hsbc"].bank, world.banks["hsbc"].mandates[0]
        bank.set_status(mandate, AuthorisationStatus.SUSPENDED)
        await world.until("2026-03-12 18:25")  # the report says SUSPENDED
        bank.set_status(mandate, AuthorisationStatus.ACTIVE)
        await world.run("EddaStatusSync")
        await world.run("HsbcEddaReport")
        assert await status(world) is EddaStatus.ACTIVE
        assert world.of_kind("edda") == []

    play(story)


def test_a_bank_that_revives_an_ended_authorisation_is_contradicted_by_people() -> None:
    async def story(world: World) -> None:
        bank, mandate = world.banks["hsbc"].bank, world.banks["hsbc"].mandates[0]
        bank.set_status(mandate, AuthorisationStatus.CANCELLED)
        await world.run("EddaStatusSync")
        assert not await world.authorisations("hsbc").bank_says(
            mandate, EddaStatus.ACTIVE, "", world.clock.now_ms() + 1)
        assert await status(world) is EddaStatus.CANCELLED
        assert len(world.alerts("EDDA-02")) == 1

    play(story)
