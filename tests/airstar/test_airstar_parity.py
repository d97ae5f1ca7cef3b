"""Wire fidelity: signed bytes and bare messages give the same answers, the same books and the same moments."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from airstar_world import World

from core.banks.airstar import Answer


async def play(run: World) -> list[Answer]:
    """A day's mixture of messages under faults; every choice from a stream of its own."""
    pick = random.Random(11)
    gateway, bank = run.gateway, run.bank
    mandates = [run.customer(f"u{n}", HKD=300_000, USD=50_000) for n in range(4)]
    card = bank.open_customer("new", "LEE SIU LUNG", "h", {"HKD": 5_000})
    answers = [await gateway.ping(), await gateway.create_mandate("c1", card, "LEE SIU LUNG", "h")]
    mandates.append(answers[-1].request_id)
    bank.fault("timeout", share=0.05)
    bank.fault("timeout", share=0.05, processed=False)
    bank.fault("error_5xx_after_commit", share=0.05)
    bank.fault("slow", share=0.05, delay_s=9.9)
    bank.fault("not_found_then_found", share=0.1)
    bank.fault("stuck_pending", share=0.1)
    bank.fault("fail_with", share=0.05, code=140630016)
    bank.fault("refunded_after_credit", share=0.1, refund_s=30)
    bank.fault("duplicate_result", share=0.05)
    bank.fault("clock_skew", after_s=300, for_s=20, skew_s=1_000)
    bank.fault("outage", after_s=400, for_s=30)
    known: list[tuple[bool, str]] = []
    for number in range(250):
        await run.loop.advance(pick.randrange(3_000_000))
        what, mandate = pick.random(), pick.choice(mandates)
        ref, amount = f"ASBBST{number - pick.randrange(2):09d}", pick.randrange(1, 40_000)
        ccy = pick.choice(["HKD", "USD"])
        if what < 0.3:
            answers.append(await gateway.deposit(ref, mandate, pick.choice([1, 2, 4]), ccy, amount, attempt=2))
            known.append((True, answers[-1].request_id))
        elif what < 0.5:
            answers.append(await gateway.withdraw(ref, mandate, 1, ccy, amount))
            known.append((False, answers[-1].request_id))
        elif what < 0.8 and known:
            deposit, ident = pick.choice(known)
            if deposit and ident:
                answers.append(await gateway.query_deposit(ident))
            else:
                answers.append(await gateway.query_withdrawal(ident or None, ref))
        elif what < 0.9:
            began = bank.customer_deposits(mandate, 1, ccy, amount)
            if began.request_id:
                answers.append(await gateway.acknowledge(began.request_id, pick.random() < 0.8))
        else:
            answers.append(await gateway.bank_requests("IN", 0, run.clock.now_ms()))
            answers.append(await gateway.query_mandate(mandate))
    await run.loop.advance(4_000_000_000)
    return answers


@pytest.mark.parametrize("seed", [1, 2])
def test_both_fidelities_give_the_same_answers_books_and_trace(world: Callable[..., World], seed: int) -> None:
    runs: list[tuple[World, Any]] = []
    for wire in ("full", "messages"):
        run = world(wire=wire, seed=seed, luck=True)
        runs.append((run, run.run(play(run))))
    (full, full_answers), (bare, bare_answers) = runs
    assert len(full_answers) > 150
    assert len({answer.outcome for answer in full_answers}) >= 7
    assert full_answers == bare_answers
    assert full.bank.totals() == bare.bank.totals()
    assert full.bank.statement(0, 2**62) == bare.bank.statement(0, 2**62)
    assert full.events == bare.events
    full.bank.book.check()


def test_a_request_under_way_arrives_although_its_sender_has_died(world: Callable[..., World]) -> None:
    for wire in ("full", "messages"):
        run = world(wire=wire)
        mandate = run.customer()

        async def die(run: World = run, mandate: str = mandate) -> None:
            task = run.loop.create_task(run.gateway.deposit("ASBBST000000001", mandate, 1, "HKD", 100))
            await run.loop.advance(1)
            task.cancel()
            await run.loop.advance(60_000_000)

        run.run(die())
        assert run.bank.inquire("ASBBST000000001").status == "PAID"
        assert run.of_kind("bank.reply") == []
