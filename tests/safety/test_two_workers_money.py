"""Two workers on one database: what one has sent the other never takes back, and of two writers one is refused.

Doubt about a sending is a column, not a memory: whoever takes a job over finds that its reference may be known to the
bank (A-40). Every write of a Procedure names the revision it was decided on, also those that leave its version alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, update

from core.domain import ApplyStatus, TaskStatus
from core.errors import Code
from core.orchestration.engine import Fact, StaleVersion
from core.runtime import Core
from core.storage import Statement
from core.storage.primary import queue
from tests.orchestration.driving import by_hand, deposit_credited, paid
from tests.orchestration.test_locks_core import restate, second_core
from tests.rig import FRONTLINE, SUPERVISOR, Rig, play

AMOUNT = 1_000_000
BUSY, MAINTENANCE, SIGNATURE = 140630016, 140630020, 140630002
RISK_CONTROL = 140630014  # a definite refusal
AT_THE_DOOR = (BUSY, MAINTENANCE, SIGNATURE)
"""Codes that the bank says before it looks for the reference: they tell nothing of an earlier sending."""
# The worker of this name is taken for dead.
EXPIRE = Statement(update(queue).where(queue.c.event == bindparam("b_event")).values(lease_owner=None, lease_until=0))


# One sends and dies, the other takes over


async def sent_by_another(rig: Rig, event: str, message: str, ask: Callable[[], Awaitable[Any]]) -> Any:
    """The other worker sends what was asked for, the bank acts on it, and he dies before he hears of it."""
    other = second_core(rig, own_locks=False)
    await other.start()
    rig.core.jobs.pause(event)
    asked = await ask()
    reference = await sending(rig, message)
    other.kill()
    assert rig.world.bank.inquire(reference).status != "NOT_RECEIVED"
    assert not rig.of_kind("bank.reply", message=message)
    return asked


async def sending(rig: Rig, message: str) -> str:
    """The reference of an instruction that the bank has just taken in; its answer is still under way."""
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def heard(event: Any) -> None:
        if event[2] == "bank.request" and event[4]["message"] == message and not asked.done():
            asked.set_result(event[4]["ref"])

    rig.world.trace.subscribe(heard)
    reference = await asyncio.wait_for(asked, 300)
    while rig.world.bank.inquire(reference).status == "NOT_RECEIVED":
        await asyncio.sleep(0.0005)
    return reference


async def paid_once(rig: Rig, task_id: int) -> None:
    """The Task is done and the money has left us exactly as often as the bank has paid: once."""
    shown = await rig.of_task(task_id)
    assert shown is not None
    assert shown["state"] == "end_ok(transfer_done)"
    assert [movement["amount"] for movement in rig.paid()] == [AMOUNT]
    ops = [posting["op"] for posting in rig.of_kind("posting") if posting["legs"]]
    assert "release" not in ops
    assert "restore" not in ops
    money = await rig.money()
    assert (money.available, money.frozen, money.in_transit) == (9_000_000, 0, 0)
    task = await rig.core.withdrawals.find(task_id)
    assert TaskStatus(task.status) is TaskStatus.DONE
    await restate(rig, shown["id"])


@pytest.mark.req("DEDUP-12", "AIR-07")
@pytest.mark.parametrize("code", AT_THE_DOOR)
def test_a_withdrawal_that_a_dead_worker_has_sent_is_not_returned_because_the_bank_is_busy_for_his_successor(code: int):
    async def story(rig: Rig) -> None:
        task = await sent_by_another(rig, "AsbBstTransfer", "withdraw", rig.withdraw)
        rig.world.bank.fault("fail_with", code=code, message="withdraw")
        rig.core.jobs.resume("AsbBstTransfer")
        await asyncio.sleep(1_800)
        assert {reply["outcome"] for reply in rig.of_kind("bank.reply", message="withdraw")} == {"UNKNOWN"}
        await paid_once(rig, task.id)

    play(story)


@pytest.mark.req("DEDUP-12", "AIR-07", "WIN-02")
def test_a_withdrawal_that_a_dead_worker_has_sent_is_not_returned_because_the_window_has_closed_since():
    async def story(rig: Rig) -> None:
        task = await sent_by_another(rig, "AsbBstTransfer", "withdraw", rig.withdraw)
        await rig.until("2026-03-12 10:03")
        rig.core.jobs.resume("AsbBstTransfer")
        await asyncio.sleep(600)
        assert len(rig.of_kind("bank.request", message="withdraw")) == 1
        await paid_once(rig, task.id)

    play(story, settings={"windows.airstar.close": "10:03"})


@pytest.mark.req("DEDUP-12", "AIR-07")
@pytest.mark.parametrize("code", AT_THE_DOOR)
def test_a_deposit_that_a_dead_worker_has_sent_is_not_given_up_because_the_bank_is_busy_for_his_successor(code: int):
    async def story(rig: Rig) -> None:
        apply = await sent_by_another(rig, "AsbBstCreateJob", "deposit", rig.deposit)
        busy = rig.world.bank.fault("fail_with", code=code, message="deposit")
        rig.core.jobs.resume("AsbBstCreateJob")
        await asyncio.sleep(1_800)
        assert rig.world.bank.inquire(apply.bank_ref_id).status == "PAID"
        silent = await rig.core.applications.find(apply.id)
        assert ApplyStatus(silent.status) is ApplyStatus.INIT  # alerted and still open, the money lies at the bank
        assert [alert["key"] for alert in rig.of_kind("alert", rule="AIRSTAR-12")] == [f"A{apply.id}"]
        rig.world.bank.clear(busy)
        [job] = [job for job in await rig.core.jobs.in_state(4) if job.event == "AsbBstCreateRetryJob"]
        assert await rig.core.jobs.retry_now(job.id, FRONTLINE.id)
        shown = await rig.reach(lambda: rig.of_apply(apply.id), "end_ok(deposit_ok)")
        assert shown["amount"] == AMOUNT
        assert [movement["amount"] for movement in rig.paid("collect")] == [AMOUNT]
        assert (await rig.money()).available == 11_000_000

    play(story)


@pytest.mark.req("DEDUP-12", "AIR-07")
@pytest.mark.parametrize("code", [BUSY, RISK_CONTROL])
def test_a_worker_that_lost_his_lease_while_he_sent_concludes_nothing_from_being_refused(code: int):
    """He is refused for certain, but late; meanwhile his successor has sent under the same reference, and succeeded."""
    async def story(rig: Rig) -> None:
        bank, other = rig.world.bank, second_core(rig, own_locks=False)
        bank.fault("fail_with", code=code, message="withdraw", count=1)
        first = hold_up(rig.core, 3.0)
        task = await rig.withdraw()
        while not first.is_set():
            await asyncio.sleep(0.001)
        await rig.world.databases.primary.execute(EXPIRE, {"b_event": "AsbBstTransfer"})
        await other.start()
        await sending(rig, "withdraw")
        other.kill()
        bank.fault("fail_with", code=BUSY, message="withdraw")
        await asyncio.sleep(1_800)
        await paid_once(rig, task.id)

    play(story)


def hold_up(core: Core, seconds: float) -> asyncio.Event:
    """The next answer to a withdrawal instruction reaches this core late; the event says that the bank has spoken."""
    gateway, spoken = core.gateway, asyncio.Event()
    ask = gateway.withdraw

    async def late(*args: Any, **kwargs: Any) -> Any:
        answer = await ask(*args, **kwargs)
        if not spoken.is_set():
            spoken.set()
            await asyncio.sleep(seconds)
        return answer

    gateway.withdraw = late
    return spoken


# Two writers of one Procedure


DONE, FAILED = Fact("MANUAL_DONE", by=FRONTLINE), Fact("MANUAL_FAILED", by=FRONTLINE)
LATER = Fact("DEFER", by=FRONTLINE)
FIRST, SECOND = Fact("REVERSE", by=SUPERVISOR, tag="first"), Fact("REVERSE", by=SUPERVISOR, tag="second")
FORCED = Fact("FORCE_COMPLETE", by=SUPERVISOR, tag="forced")
RACES = {
    "paid and failed by hand": (by_hand, DONE, FAILED, "end_ok(transfer_done)"),
    "paid by hand twice": (by_hand, DONE, DONE, "end_ok(transfer_done)"),
    "paid by hand and deferred": (by_hand, DONE, LATER, "end_ok(transfer_done)"),
    "paid by hand and forced": (by_hand, DONE, FORCED, "end_ok(transfer_done)"),
    "forced and failed by hand": (by_hand, FORCED, FAILED, "end_ok(transfer_done)"),
    "a withdrawal reversed twice": (paid, FIRST, SECOND, "end_reverse(transfer_done)"),
    "a deposit reversed twice": (deposit_credited, FIRST, SECOND, "end_reverse(deposit_ok)"),
}  # fmt: skip
LEFT = {"end_ok(transfer_done)": -AMOUNT, "end_reverse(transfer_done)": 0, "end_reverse(deposit_ok)": 0}


@pytest.mark.req("LOCK-01", "LOCK-04")
@pytest.mark.parametrize("race", RACES)
def test_of_two_workers_that_decide_on_the_same_revision_the_second_is_refused_and_the_money_moves_once(race: str):
    drive, one, two, end = RACES[race]

    async def story(rig: Rig) -> None:
        before = await rig.money()
        shown = await drive(rig)
        first, second = rig.core.engine, second_core(rig, own_locks=True).engine
        locks = [(engine, await engine.lock(shown["id"])) for engine in (first, second)]
        mine, his = await first.load(shown["id"]), await second.load(shown["id"])
        assert await first.take(mine, one) is None
        with pytest.raises(StaleVersion):
            await second.take(his, two)
        assert await first.run(mine) is None
        for engine, token in locks:
            await engine.unlock(shown["id"], token)
        await asyncio.sleep(120)
        assert (await rig.sba.procedure(shown["id"]))["state"] == end
        money = await rig.money()
        assert (money.available, money.frozen, money.in_transit) == (before.available + LEFT[end], 0, 0)
        assert (await first.load(shown["id"])).pending == []
        await restate(rig, shown["id"])

    play(story)


@pytest.mark.req("LOCK-01")
@pytest.mark.parametrize("write", ["a fact that moves", "a fact that stays", "a mark"])
@pytest.mark.parametrize("before", ["a fact that stays", "a mark"])
def test_no_write_is_accepted_that_was_decided_before_another_write(before: str, write: str):
    """Also those that leave the version alone: a stale mark would undo what was noted in between."""
    async def story(rig: Rig) -> None:
        shown = await by_hand(rig)
        engine = rig.core.engine
        fresh, stale = await engine.load(shown["id"]), await engine.load(shown["id"])

        async def do(p: Any, what: str, fact: Fact) -> None:
            await (engine.mark(p, bank_ack_at=rig.now_ms) if what == "a mark" else engine.take(p, fact))

        await do(fresh, before, DONE)
        kept = await engine.load(shown["id"])
        with pytest.raises(StaleVersion):
            await do(stale, write, FAILED if write == "a fact that moves" else DONE)
        after = await engine.load(shown["id"])
        assert (after.revision, after.version, after.bank_ack_at, after.pending) == (
            kept.revision, kept.version, kept.bank_ack_at, kept.pending)
        await engine.resume(shown["id"])

    play(story)


def test_a_supervisor_cannot_roll_back_while_our_own_instruction_is_on_its_way() -> None:
    """He may state that the bank has not paid; that it never will, nobody knows while the request is on the wire."""

    async def story(rig: Rig) -> None:
        task = await rig.withdraw()
        while not rig.of_kind("bank.request", message="withdraw"):
            await asyncio.sleep(0.001)
        shown = await rig.of_task(task.id)
        early = await rig.operate("CashWithdrawForceProcess", shown, SUPERVISOR, action="Rollback",
                                  bank_status="NOT_TRANSFERRED")
        assert early.code is Code.BANK_STATUS_REQUIRED
        await rig.reach(lambda: rig.of_task(task.id), "end_ok(transfer_done)")
        assert (len(rig.paid()), (await rig.money()).available) == (1, 9_000_000)

    play(story)
