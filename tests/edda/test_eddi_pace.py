"""How fast debits leave (ADR-004): HSBC by tokens, Hang Seng one after the other; windows of both (A-54)."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from edda_world import World, play
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from core.clock import hkt_date, hkt_midnight_ms
from core.storage import Statement
from core.storage.primary import eddi_token_bucket
from core.wire.edda import Request
from emulators.edda.bank import EddaBank

BUCKET = Statement(select(eddi_token_bucket.c.tokens, eddi_token_bucket.c.rate, eddi_token_bucket.c.second))
FRIDAY_EVENING, LONG_WEEKEND = "2026-03-13 17:00", "2026-04-02 15:59"


def sent(world: World, channel: str, *messages: str) -> list[int]:
    """Moments, in ms, at which messages left for a bank."""
    return [t_us // 1000 for _, t_us, kind, _, data in world.events
            if kind == "bank.request" and data["bank"] == channel and data["message"] in (messages or data["message"])]


def references(world: World, channel: str) -> list[str]:
    return [data["ref"] for data in world.of_kind("bank.request", bank=channel, message="create_debit")]


async def all_ended(world: World, bank: str, count: int) -> None:
    """Until nothing waits for its turn any more."""
    for _ in range(4_000):
        states = await world.states(bank)
        if sum(states.get(state, 0) for state in ("processing", "success", "failed")) == count:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(states)


# --- HSBC -------------------------------------------------------------------------------------------------------


@pytest.mark.req("EDDA-02", "EDDA-03")
def test_nine_debits_at_once_leave_within_three_seconds_and_none_is_lost_or_refused() -> None:
    async def story(world: World) -> None:
        made = await asyncio.gather(*(world.debit("hsbc", index) for index in range(9)))
        await all_ended(world, "hsbc", 9)
        assert list(Counter(ms // 1000 for ms in sent(world, "hsbc_eddi")).values()) == [4, 4, 1]
        assert sorted(references(world, "hsbc_eddi")) == sorted(apply.bank_ref_id for apply in made)
        bank = world.banks["hsbc"].bank
        assert (bank.most_in_a_second, bank.refused_at_the_door, len(bank.order)) == (4, 0, 9)

    play(story, customers=9)


@pytest.mark.req("EDDA-02")
@given(seed=st.integers(0, 10_000), median=st.sampled_from([0.005, 0.05, 0.4, 1.5]), at_ms=st.integers(0, 999))
@settings(max_examples=12, deadline=None)
def test_the_bank_never_sees_more_than_four_in_a_second_however_long_a_request_takes(
    seed: int, median: float, at_ms: int
) -> None:
    """Debits, questions about debits and about authorisations, all at once, over lines of any speed."""

    async def story(world: World) -> None:
        await asyncio.sleep(at_ms / 1000)
        await asyncio.gather(*(world.debit("hsbc", index) for index in range(14)), world.run("EddaStatusSync"))
        await world.run("EddiResultQuery")
        await all_ended(world, "hsbc", 14)
        bank = world.banks["hsbc"].bank
        assert bank.most_in_a_second <= 4
        assert bank.refused_at_the_door == 0

    play(story, customers=14, seed=seed, settings={
        "sim.edda.link.median": median, "sim.edda.link.p99": median * 6,
        "edda.api.timeout_s": 120.0, "edda.send.lease_s": 150})  # slow, not silent


@pytest.mark.req("EDDA-02")
def test_the_emulated_hsbc_answers_429_to_a_fifth_in_a_whole_second_of_the_clock() -> None:
    async def story(world: World) -> None:
        bank: EddaBank = world.banks["hsbc"].bank
        await asyncio.sleep(0.9)
        codes = [bank.handle(Request("query_debit", "none")).reply for _ in range(5)]
        assert [reply.status for reply in codes if reply is not None] == [404, 404, 404, 404, 429]
        assert codes[4] is not None and codes[4].code == "EDDI_RATE"
        await asyncio.sleep(0.2)  # another second: the count begins anew
        reply = bank.handle(Request("query_debit", "none")).reply
        assert reply is not None and reply.status == 404

    play(story)


@pytest.mark.req("ADR-004-1")
@pytest.mark.parametrize("rate", [1, 2, 4])
def test_the_rate_is_one_configured_value(rate: int) -> None:
    async def story(world: World) -> None:
        await asyncio.gather(*(world.debit("hsbc", index) for index in range(5)))
        await all_ended(world, "hsbc", 5)
        assert world.banks["hsbc"].bank.most_in_a_second == rate
        assert (await world.databases.primary.first(BUCKET, {}))[1] == rate

    play(story, customers=5, settings={"edda.pace.hsbc.rate": rate})


def test_a_rate_above_the_banks_is_refused_at_its_door_and_still_nothing_is_lost() -> None:
    async def story(world: World) -> None:
        await asyncio.gather(*(world.debit("hsbc", index) for index in range(12)))
        await all_ended(world, "hsbc", 12)
        bank = world.banks["hsbc"].bank
        assert bank.refused_at_the_door > 0 and len(bank.order) == len(set(bank.order)) == 12

    play(story, customers=12, settings={"edda.pace.hsbc.rate": 8})


@pytest.mark.req("EDDA-04")
def test_a_core_that_starts_again_finds_the_tokens_as_they_were() -> None:
    async def story(world: World) -> None:
        await asyncio.gather(*(world.debit("hsbc", index) for index in range(3)))
        await asyncio.sleep(0.5)
        world.kill()
        await world.restart()
        second = world.clock.now_ms() // 1000
        assert await world.databases.primary.first(BUCKET, {}) == (1, 4, second)
        await asyncio.gather(*(world.debit("hsbc", index) for index in range(3, 7)))
        await all_ended(world, "hsbc", 7)
        assert list(Counter(ms // 1000 for ms in sent(world, "hsbc_eddi")).values()) == [4, 3]

    play(story, customers=7)


@pytest.mark.req("EDDA-07")
def test_an_hsbc_debit_outside_the_window_stays_queued_until_the_opening() -> None:
    async def story(world: World) -> None:
        made = [await world.debit("hsbc", index) for index in range(6)]
        await world.until("2026-03-16 06:59:59")
        assert await world.states("hsbc") == {"queued": 6}
        await world.until("2026-03-16 07:00:10")
        assert await world.states("hsbc") == {"processing": 6}
        assert {data["state"] for data in world.of_kind("debit", bank="hsbc")} == {"queued", "submitted", "processing"}
        assert sorted(references(world, "hsbc_eddi")) == sorted(apply.bank_ref_id for apply in made)

    play(story, customers=6, start=FRIDAY_EVENING)


# --- Hang Seng --------------------------------------------------------------------------------------------------


def spans(world: World, channel: str) -> list[tuple[int, int]]:
    """(sent, answered or given up) of every message to a bank, in µs, in the order of sending."""
    begun: dict[str, int] = {}
    found: list[tuple[int, int]] = []
    for _, t_us, kind, _, data in world.events:
        if kind in ("bank.request", "bank.reply") and data["bank"] == channel:
            key = f"{data['message']} {data['ref']}"
            if kind == "bank.request":
                begun[key] = t_us
            else:
                found.append((begun.pop(key), t_us))
    return sorted(found)


@pytest.mark.req("EDDA-05")
@pytest.mark.parametrize("fault", ["", "timeout", "slow", "busy"])
def test_hang_seng_debits_leave_one_after_the_other_in_the_order_of_their_numbers(fault: str) -> None:
    async def story(world: World) -> None:
        bank = world.banks["hase"].bank
        if fault:
            bank.fault(fault, count=2, message="create_debit", share=1.0)
        made = await asyncio.gather(*(world.debit("hase", index) for index in range(8)), world.run("EddaStatusSync"))
        await all_ended(world, "hase", 8)
        ids = [debit.id for debit in sorted(await world.debits("hase"))]
        assert [int(ref[-10:]) for ref in bank.order] == ids
        numbers = [int(ref[-10:]) for ref in references(world, "hase_eddi")]
        assert numbers == sorted(numbers) and sorted(set(numbers)) == ids
        assert all(answered <= begun for (_, answered), (begun, _) in pairwise(spans(world, "hase_eddi")))
        assert len({apply.id for apply in made[:-1]}) == 8

    play(story, customers=8)


@pytest.mark.req("EDDA-05")
def test_the_emulated_hang_seng_answers_409_to_a_second_request_and_to_one_out_of_order() -> None:
    async def story(world: World) -> None:
        bank: EddaBank = world.banks["hase"].bank
        mandate = world.banks["hase"].mandates[0]

        def ask(reference: str, sequence: int) -> Any:
            return bank.handle(Request("create_debit", "", {
                "reference": reference, "sequence": sequence, "authorisation": mandate, "ccy": "HKD",
                "amount": "1.00"})).reply

        assert ask("R5", 5).status == 201
        assert (ask("R6", 6).status, ask("R6", 6).code) == (409, "EDDI_BUSY")  # R5 is still in work
        await asyncio.sleep(1)
        assert ask("R4", 4).code == "EDDI_BUSY"  # out of order
        await asyncio.sleep(1)
        assert (ask("R5", 5).status, bank.order) == (200, ["R5"])  # known: the original, whatever its place
        await asyncio.sleep(1)
        assert ask("R6", 6).status == 201

    play(story)


@pytest.mark.req("EDDA-06", "EDDA-10")
def test_a_hang_seng_debit_outside_the_session_is_new_blank_and_sent_in_order_at_the_opening() -> None:
    async def story(world: World) -> None:
        made = [await world.debit("hase", index) for index in range(4)]
        for moment in ("2026-03-13 23:00", "2026-03-14 10:00", "2026-03-15 10:00", "2026-03-16 06:59:59"):
            await world.until(moment)
            assert await world.states("hase") == {"new_blank": 4}
        await world.until("2026-03-16 07:00:20")
        assert await world.states("hase") == {"processing": 4}
        assert references(world, "hase_eddi") == [apply.bank_ref_id for apply in made]
        for debit in await world.debits("hase"):
            assert [data["state"] for data in world.of_kind("debit", debit=debit.id)] == [
                "new_blank", "queued", "submitted", "processing"]

    play(story, customers=4, start=FRIDAY_EVENING)


def test_what_was_not_sent_when_the_session_closes_is_new_blank_again_and_keeps_its_place() -> None:
    async def story(world: World) -> None:
        world.banks["hase"].bank.fault("busy", for_s=120.0)
        first = await world.debit("hase", 0)
        await world.until("2026-03-13 16:00:30")
        second = await world.debit("hase", 1)
        await world.until("2026-03-13 16:05:00")
        assert await world.states("hase") == {"new_blank": 2}
        await world.until("2026-03-16 07:01")
        assert world.banks["hase"].bank.order == [first.bank_ref_id, second.bank_ref_id]

    play(story, customers=2, start="2026-03-13 15:59:00")


# --- both -------------------------------------------------------------------------------------------------------


@pytest.mark.req("EDDA-10")
@pytest.mark.parametrize("bank", ["hsbc", "hase"])
def test_no_debit_leaves_outside_the_window_of_business_days(bank: str) -> None:
    """A week over Easter 2026 (3 to 7 April are no business days), a debit asked for every thirteen hours. Those of the
    first days have waited for more than three days by then; none is rejected before the bank could have got it."""
    holidays = {date(2026, 4, 3), date(2026, 4, 6), date(2026, 4, 7)}

    async def story(world: World) -> None:
        for _ in range(13):
            await world.debit(bank, 0)
            await asyncio.sleep(13 * 3600)
        moments = sent(world, f"{bank}_eddi", "create_debit")
        for ms in moments:
            day = hkt_date(ms)
            assert day.weekday() < 5 and day not in holidays, day
            assert timedelta(hours=7) <= timedelta(milliseconds=ms - hkt_midnight_ms(day)) < timedelta(hours=16)
        rejected = world.of_kind("notify", event="DEPOSIT_REJECT", detail="TIMEOUT")
        assert (len(moments), len(rejected)) == (13, 0)

    play(story, start=LONG_WEEKEND)
