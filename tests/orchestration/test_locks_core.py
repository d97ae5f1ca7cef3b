"""Two workers on one Procedure: the lock keeps them apart, and the version stops whoever lost it (§6)."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from core.errors import Code
from core.locks import LocalLocks
from core.orchestration.engine import Fact, StaleVersion
from core.orchestration.records import Effect, Procedure
from core.runtime import Core
from tests.orchestration.driving import (
    CONFIRMED_BY_SUPERVISOR,
    QUICK,
    by_hand,
    deposit_credited,
    deposit_in_review,
    in_review,
    picture,
    silence,
    speak,
)
from tests.rig import FRONTLINE, SUPERVISOR, Rig, play

NOT_PAID = {"action": "Rollback", "bank_status": "NOT_TRANSFERRED"}


def second_core(rig: Rig, *, own_locks: bool) -> Core:
    """Another worker on the same databases; with locks of its own it does not see the first one's."""
    locks = LocalLocks(rig.world.clock) if own_locks else rig.world.locks
    return Core(replace(rig.core.given, locks=locks, worker="core-b"))


async def press(rig: Rig, core: Core, name: str, shown: dict[str, Any], by: Any = FRONTLINE, **params: Any) -> Any:
    return await core.operate(name, shown["id"], version=shown["version"], rpc_request_id=rig.request_id(), by=by,
                              remark="test", **params)


async def restate(rig: Rig, procedure_id: int) -> None:
    """The database at rest agrees with itself: version, history, and a chain without a gap."""
    shown, rows = await rig.sba.procedure(procedure_id), await rig.sba.history(procedure_id)
    assert len(rows) == shown["version"]
    assert (rows[0].to_status, rows[0].to_ext_status) == (shown["status"], shown["ext_status"])
    for later, earlier in pairwise(rows):
        assert (later.from_status, later.from_ext_status) == (earlier.to_status, earlier.to_ext_status)


@pytest.mark.req("LOCK-01")
@pytest.mark.parametrize("own_locks", [False, True], ids=["one lock service", "without locks"])
@pytest.mark.parametrize("names", [
    ("CashDepositManualConfirm", "CashDepositManualReject"),
    ("CashDepositManualReject", "CashDepositManualConfirm"),
    ("CashDepositManualConfirm", "CashDepositManualConfirm"),
])
def test_of_two_decisions_at_once_on_one_version_exactly_one_is_taken(names: tuple[str, str], own_locks: bool):
    async def story(rig: Rig) -> None:
        other = second_core(rig, own_locks=own_locks)
        shown, before = await deposit_in_review(rig), await rig.money()
        replies = await asyncio.gather(press(rig, rig.core, names[0], shown), press(rig, other, names[1], shown))
        assert sorted(reply.code.name for reply in replies) == ["OK", "VERSION_CONFLICT"]
        await asyncio.sleep(30)
        after = await rig.sba.procedure(shown["id"])
        winner = names[[reply.code is Code.OK for reply in replies].index(True)]
        credited = winner == "CashDepositManualConfirm"
        assert after["state"] == ("end_ok(deposit_ok)" if credited else "end_reject")
        assert (await rig.money()).available == before.available + (1_000_000 if credited else 0)
        await restate(rig, shown["id"])

    play(story)


@pytest.mark.req("LOCK-01", "LOCK-04")
def test_a_decision_that_was_overtaken_while_it_asked_risk_control_is_refused_and_changes_nothing():
    """ForceProcess asks which hold is open between its look and its write; a cancellation comes in between."""
    async def story(rig: Rig) -> None:
        other = second_core(rig, own_locks=True)
        shown, before = await in_review(rig), await rig.money()
        forced, cancelled = await asyncio.gather(
            press(rig, rig.core, "CashWithdrawForceProcess", shown, SUPERVISOR, **NOT_PAID),
            press(rig, other, "CashWithdrawCancel", shown, SUPERVISOR))
        assert (forced.code, cancelled.code) == (Code.VERSION_CONFLICT, Code.OK)
        await asyncio.sleep(30)
        after = await rig.sba.procedure(shown["id"])
        assert (after["state"], after["reason"]) == ("end_cancel", "OPS_CANCEL")
        assert (await rig.money()).available == before.available + 1_000_000
        assert [posting["op"] for posting in rig.of_kind("posting") if posting["legs"]].count("release") == 1
        await restate(rig, shown["id"])

    play(story)


@pytest.mark.req("LOCK-04")
def test_a_worker_that_lost_its_lock_in_the_middle_of_a_credit_credits_nothing_twice():
    async def story(rig: Rig) -> None:
        other = second_core(rig, own_locks=True)
        before = await rig.money()
        request = rig.deposit_request()
        creating = asyncio.ensure_future(rig.sba.create_deposit(request))
        await asyncio.sleep(0.001)
        [shown] = await rig.sba.procedures()
        assert shown["state"] == "pending"
        await other.engine.resume(shown["id"])  # takes the same effect up while the first still waits for its answer
        reply = await creating
        assert reply.code is Code.OK
        await asyncio.sleep(60)
        after = await rig.sba.procedure(shown["id"])
        assert (after["state"], after["version"]) == ("end_ok(deposit_ok)", 3)
        assert (await rig.money()).available == before.available + 1_000_000
        await restate(rig, shown["id"])

    play(story)


@pytest.mark.req("LOCK-04")
def test_a_worker_that_lost_its_lock_does_not_confirm_a_transfer_that_another_has_failed():
    async def story(rig: Rig) -> None:
        other = second_core(rig, own_locks=True)
        shown, before = await by_hand(rig), await rig.money()
        failed, done = await asyncio.gather(
            press(rig, rig.core, "SetManualTransferFailed", shown), press(rig, other, "SetManualTransferDone", shown))
        assert [failed.code, done.code].count(Code.OK) == 1
        await asyncio.sleep(60)
        after, money = await rig.sba.procedure(shown["id"]), await rig.money()
        if failed.code is Code.OK:
            assert after["state"] == "end_reject"
            assert money == before._replace(available=before.available + 1_000_000, in_transit=0)
        else:
            assert after["state"] == "end_ok(transfer_done)"
            assert money == before._replace(in_transit=0)
        await restate(rig, shown["id"])

    play(story)


@pytest.mark.req("LOCK-04")
@pytest.mark.parametrize("own_locks", [False, True], ids=["one lock service", "without locks"])
def test_whatever_two_workers_do_at_once_the_books_and_the_trail_agree(own_locks: bool):
    """Every pair of operations at a withdrawal by hand, one of them a little later."""
    names = [("SetManualTransferDone", FRONTLINE, {}), ("SetManualTransferFailed", FRONTLINE, {}),
             ("MoveNextTransactionDay", FRONTLINE, {}), ("CashWithdrawForceProcess", SUPERVISOR, NOT_PAID)]

    async def story(rig: Rig, first: Any, second: Any, delay: float) -> None:
        other = second_core(rig, own_locks=own_locks)
        shown, before = await by_hand(rig), await rig.money()

        async def later() -> Any:
            await asyncio.sleep(delay)
            return await press(rig, other, second[0], shown, second[1], **second[2])

        one, two = await asyncio.gather(press(rig, rig.core, first[0], shown, first[1], **first[2]), later())
        assert [one.code, two.code].count(Code.OK) == 1, (one, two)
        await asyncio.sleep(60)
        after, money = await rig.sba.procedure(shown["id"]), await rig.money()
        left = 1_000_000 if after["state"] == "end_ok(transfer_done)" else 0
        assert money.total == before.total - left
        assert money.in_transit == 0
        assert money.frozen == (1_000_000 if after["state"] == "pending(move_next)" else 0)
        await restate(rig, shown["id"])

    for first in names:
        for second in names:
            for delay in (0.0, 0.01, 0.05):
                play(lambda rig, given=(first, second, delay): story(rig, *given))


@pytest.mark.req("LOCK-02")
def test_whoever_finds_the_lock_taken_waits_for_it_and_then_goes_on():
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        token = await rig.world.locks.acquire(f"procedure:{shown['id']}", "somebody", 30_000)
        asked = rig.now_ms
        pressing = asyncio.ensure_future(press(rig, rig.core, "CashDepositManualConfirm", shown))
        await asyncio.sleep(1.5)
        assert not pressing.done()
        assert (await rig.sba.procedure(shown["id"]))["version"] == shown["version"]
        await rig.world.locks.release(f"procedure:{shown['id']}", token)
        assert (await pressing).code is Code.OK
        assert rig.now_ms - asked < 2_000

    play(story)


@pytest.mark.req("LOCK-02")
def test_a_lock_that_stays_taken_is_lock_busy_after_the_documented_wait_and_nothing_changes():
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        before = await picture(rig, shown["id"])
        await rig.world.locks.acquire(f"procedure:{shown['id']}", "somebody", 30_000)
        asked = rig.now_ms
        reply = await press(rig, rig.core, "CashDepositManualConfirm", shown)
        assert reply.code is Code.LOCK_BUSY
        assert rig.now_ms - asked == rig.world.settings["sba.lock.wait_ms"]
        assert await picture(rig, shown["id"]) == before
        fact = await rig.sba.bank_result(shown["id"], success=True)
        assert fact.code is Code.LOCK_BUSY

    play(story)


@pytest.mark.req("LOCK-02")
def test_the_lock_of_one_procedure_does_not_hold_another_up():
    async def story(rig: Rig) -> None:
        first, second = await deposit_in_review(rig), await deposit_in_review(rig)
        await rig.world.locks.acquire(f"procedure:{first['id']}", "somebody", 30_000)
        asked = rig.now_ms
        assert (await press(rig, rig.core, "CashDepositManualConfirm", second)).code is Code.OK
        assert rig.now_ms - asked < 1_000

    play(story)


@pytest.mark.req("LOCK-02")
def test_two_workers_never_carry_out_something_of_one_procedure_in_parallel():
    async def story(rig: Rig) -> None:
        other = second_core(rig, own_locks=False)
        at_work: Counter[int] = Counter()
        most: Counter[int] = Counter()

        def watched(core: Core) -> None:
            for name, perform in core.performers.table.items():
                async def counting(p: Procedure, effect: Effect, perform: Any = perform) -> Any:
                    at_work[p.id] += 1
                    most[p.id] = max(most[p.id], at_work[p.id])
                    try:
                        return await perform(p, effect)
                    finally:
                        at_work[p.id] -= 1

                core.performers.table[name] = counting

        watched(rig.core)
        watched(other)
        silence(rig, "add", "timeout_after")
        shown = (await rig.sba.create_deposit(rig.deposit_request())).procedure
        speak(rig)
        await asyncio.gather(*(core.engine.resume(shown["id"]) for core in (rig.core, other) * 5))
        assert (await rig.sba.procedure(shown["id"]))["state"] == "end_ok(deposit_ok)"
        assert most == {shown["id"]: 1}

    play(story, settings=QUICK)


@pytest.mark.req("LOCK-01")
def test_a_write_with_a_version_that_has_passed_is_refused_by_the_database():
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        engine = rig.core.engine
        stale = await engine.load(shown["id"])
        assert (await press(rig, rig.core, "CashDepositManualReject", shown)).ok
        before = await picture(rig, shown["id"])
        with pytest.raises(StaleVersion):
            await engine.take(stale, Fact("CONFIRM"))
        assert await picture(rig, shown["id"]) == before

    play(story)


@pytest.mark.req("LOCK-01")
def test_two_reversals_at_once_take_the_money_back_once():
    async def story(rig: Rig) -> None:
        other = second_core(rig, own_locks=True)
        shown, before = await deposit_credited(rig), await rig.money()
        replies = await asyncio.gather(*(press(rig, core, "CashDepositReverse", shown, SUPERVISOR,
                                               **CONFIRMED_BY_SUPERVISOR) for core in (rig.core, other)))
        assert any(reply.ok for reply in replies)
        await asyncio.sleep(60)
        assert (await rig.sba.procedure(shown["id"]))["state"] == "end_reverse(deposit_ok)"
        assert (await rig.money()).available == before.available - 1_000_000
        await restate(rig, shown["id"])

    play(story)
