"""Airstar authorizations: asked for once, polled as gaps.md B-06 says, one for all three markets (AIR-01…AIR-03)."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from chain_watch import alerts, moments

from core.cards.mandates import ALL_MARKETS, Mandate
from core.domain import MANDATE_MOVES, MandateStatus, Market
from core.errors import InvariantBroken
from tests.rig import Rig, play


async def authorize(rig: Rig, who: str = "bob") -> Mandate:
    """The customer authorizes his card anew."""
    customer = rig.customer(who)
    return await rig.core.airstar_deposits.authorize(
        customer.uid, rig.world.card_id(customer, "airstar"), customer.cards["airstar"].number, customer.name,
        f"h{customer.uid}")


async def of_card(rig: Rig, who: str = "bob") -> Mandate:
    found = await rig.core.mandates.of_card(rig.world.card_id(rig.customer(who), "airstar"))
    assert found is not None
    return found


@pytest.mark.req("AIR-01")
@pytest.mark.parametrize("market", list(Market))
def test_one_authorization_binds_all_three_markets(market: Market) -> None:
    async def story(rig: Rig) -> None:
        await authorize(rig)
        await asyncio.sleep(120)
        opened = await of_card(rig)
        assert (opened.status, opened.market_mask) == (MandateStatus.OPEN, ALL_MARKETS)
        assert opened.covers(market)
        assert len(moments(rig, "create_mandate")) == 1
        assert rig.world.bank.mandate_status(opened.mandate_id) is MandateStatus.OPEN

    play(story, settings={"sim.airstar.mandate.fail_share": 0.0})


def test_the_bank_is_asked_every_5_s_then_30_s_then_10_minutes_and_given_up_after_a_day() -> None:
    """B-06; past ten minutes it is reported, once."""

    async def story(rig: Rig) -> None:
        await authorize(rig)
        await asyncio.sleep(2 * 86_400)
        asked = moments(rig, "query_mandate")
        for before, after in pairwise(asked):
            wanted = 5 if before < 54 else 30 if before < 590 else 600
            assert after - before == pytest.approx(wanted, abs=1), before
        assert 86_400 - 600 <= asked[-1] <= 86_400 + 600
        given_up = await of_card(rig)
        assert (given_up.status, given_up.fail_code) == (MandateStatus.FAIL, "timeout")
        assert [(one["rule"], one["key"]) for one in alerts(rig)] == [("AIRSTAR-01", given_up.mandate_id)]

    play(story, settings={"sim.airstar.mandate.processing": [200_000.0, 200_000.0]})


def test_a_refused_authorization_fails_with_the_banks_code() -> None:
    async def story(rig: Rig) -> None:
        await authorize(rig)
        await asyncio.sleep(120)
        failed = await of_card(rig)
        assert (failed.status, failed.fail_code, failed.market_mask) == (MandateStatus.FAIL, "140630014", 0)

    play(story, settings={"sim.airstar.mandate.fail_share": 1.0})


@pytest.mark.parametrize("code", [140630001, 140630006, 140630013])
def test_an_authorization_refused_at_once_fails_with_that_code(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="create_mandate")
        await authorize(rig)
        await asyncio.sleep(60)
        assert ((await of_card(rig)).status, (await of_card(rig)).fail_code) == (MandateStatus.FAIL, str(code))
        assert not moments(rig, "query_mandate")

    play(story)


@pytest.mark.parametrize("processed", [True, False])
def test_an_authorization_whose_answer_was_lost_is_asked_for_under_the_same_reference(processed: bool) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("timeout", message="create_mandate", processed=processed, count=2)
        await authorize(rig)
        await asyncio.sleep(200)
        assert len({one["ref"] for one in rig.of_kind("bank.request", message="create_mandate")}) == 1
        assert (await of_card(rig)).status == MandateStatus.OPEN

    play(story, settings={"sim.airstar.mandate.fail_share": 0.0})


@pytest.mark.parametrize("kill_at_s", [0.0, 0.01, 0.5, 3.0, 7.0])
def test_a_crash_while_authorizing_leaves_nothing_half_done(kill_at_s: float) -> None:
    async def story(rig: Rig) -> None:
        await authorize(rig)
        await asyncio.sleep(kill_at_s)
        rig.world.kill(40_000)
        await asyncio.sleep(300)
        opened = await of_card(rig)
        assert opened.status == MandateStatus.OPEN
        assert rig.world.bank.mandate_status(opened.mandate_id) is MandateStatus.OPEN

    play(story, settings={"sim.airstar.mandate.fail_share": 0.0})


def test_an_authorization_suspended_before_we_saw_it_open_is_suspended_here_too() -> None:
    async def story(rig: Rig) -> None:
        await authorize(rig)
        await asyncio.sleep(12)
        processing = await of_card(rig)
        assert processing.status == MandateStatus.PROCESSING
        assert rig.world.bank.suspend_mandate(processing.mandate_id)
        await asyncio.sleep(60)
        assert (await of_card(rig)).status == MandateStatus.SUSPENDED

    play(story, settings={"sim.airstar.mandate.fail_share": 0.0, "sim.airstar.mandate.start": [1.0, 1.0],
                          "sim.airstar.mandate.processing": [10.0, 10.0]})


@pytest.mark.req("AIR-02")
@pytest.mark.parametrize("before", list(MandateStatus))
@pytest.mark.parametrize("after", list(MandateStatus))
def test_our_books_move_an_authorization_only_along_its_table(before: MandateStatus, after: MandateStatus) -> None:
    async def story(rig: Rig) -> None:
        mandates, alice = rig.core.mandates, rig.customer("alice")
        number = f"AM-{before}-{after}"
        await mandates.adopt(alice.uid, 777, number, before)
        if after in MANDATE_MOVES[before]:
            assert (await mandates.bank_says(number, after)).status == after
        else:
            with pytest.raises(InvariantBroken):
                await mandates.bank_says(number, after)
            unmoved = await mandates.by_mandate_id(number)
            assert unmoved is not None and unmoved.status == before

    play(story)


@pytest.mark.req("AIR-02")
def test_there_are_six_states_and_open_is_2() -> None:
    assert len(MandateStatus) == 6 and MandateStatus.OPEN == 2


@pytest.mark.req("AIR-03")
def test_a_suspended_authorization_that_the_bank_reopens_serves_again() -> None:
    async def story(rig: Rig) -> None:
        alice = rig.customer("alice")
        mandate = rig.world.mandates[alice.index]
        await rig.core.mandates.bank_says(mandate, MandateStatus.SUSPENDED)
        assert not hasattr(await rig.deposit(), "bank_ref_id")
        await rig.core.mandates.bank_says(mandate, MandateStatus.OPEN)
        apply = await rig.deposit()
        await rig.reach(lambda: rig.of_apply(apply.id), "end_ok(deposit_ok)")

    play(story)


def test_closing_is_done_at_the_bank_first() -> None:
    async def story(rig: Rig) -> None:
        card = rig.world.card_id(rig.customer("alice"), "airstar")
        rig.world.bank.fault("timeout", message="close_mandate", processed=False, count=1)
        refused = await rig.core.mandates.close(card)
        assert not isinstance(refused, Mandate)
        assert (await of_card(rig, "alice")).status == MandateStatus.OPEN
        closed = await rig.core.mandates.close(card)
        assert isinstance(closed, Mandate) and closed.status == MandateStatus.CLOSED
        assert rig.world.bank.mandate_status(closed.mandate_id) is MandateStatus.CLOSED

    play(story)
