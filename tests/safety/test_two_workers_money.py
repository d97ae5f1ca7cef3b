"""Two workers on one database: what one has sent the other never takes back, and of two writers one is refused.

Doubt about a sending is a column, not a memory: whoever takes a job over finds that its reference may be known to the
bank (A-40). Every write of a Procedure names the revision it was decided on, also those that leave its version alone.
At the socket banks both workers have lines of their own, and hear the same push, or fetch it, at one time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, update

from core.banks.socket.gateway import Push
from core.domain import ApplyStatus, Market, TaskStatus
from core.errors import Code
from core.orchestration.engine import Fact, StaleVersion
from core.runtime import Core
from core.storage import Statement
from core.storage.primary import queue
from scenarios.schema import full_moment_ms
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


async def sent_by_another(rig: Rig, event: str, message: str, ask: Callable[[], Awaitable[Any]],
                          bank: str = "airstar") -> Any:
    """The other worker sends what was asked for, the bank acts on it, and he dies before he hears of it."""
    other = second_core(rig, own_locks=False)
    await other.start()
    rig.core.jobs.pause(event)
    asked = await ask()
    reference = await sending(rig, message, bank)
    other.kill()
    assert rig.world.banks[bank].inquire(reference).status != "NOT_RECEIVED"
    assert not rig.of_kind("bank.reply", message=message)
    return asked


async def sending(rig: Rig, message: str, bank: str = "airstar") -> str:
    """The reference of an instruction that the bank has just taken in; its answer is still under way."""
    asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def heard(event: Any) -> None:
        if event[2] == "bank.request" and event[4]["message"] == message and not asked.done():
            asked.set_result(event[4]["ref"])

    rig.world.trace.subscribe(heard)
    reference = await asyncio.wait_for(asked, 300)
    while rig.world.banks[bank].inquire(reference).status == "NOT_RECEIVED":
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


def hold_up(core: Core, seconds: float, bank: str = "airstar", name: str = "") -> asyncio.Event:
    """The next answer to a withdrawal instruction (or ``name``) reaches this core late; the event says that the bank
    has spoken."""
    spoken = asyncio.Event()
    gateway = core.gateway if bank == "airstar" else core.sockets[bank].gateway
    name = name or ("withdraw" if bank == "airstar" else "pay")
    ask = getattr(gateway, name)

    async def late(*args: Any, **kwargs: Any) -> Any:
        answer = await ask(*args, **kwargs)
        if not spoken.is_set():
            spoken.set()
            await asyncio.sleep(seconds)
        return answer

    setattr(gateway, name, late)
    return spoken


# The same at CMB and CMBC

SOCKETS = {"cmb": ("CmbTransfer", "CmbCollect", "CmbResult"), "cmbc": ("MsTransfer", "MsCollect", "MsResult")}
"""Bank -> its jobs that pay, collect, and take a pushed result."""
STEADY = {f"sim.{bank}.{key}": value for bank in SOCKETS
          for key, value in (("outcome", [[0, 1.0]]), ("unknown.share", 0.0))}


def play_at(bank: str, story: Callable[[Rig], Awaitable[Any]], **settings: Any) -> None:
    async def standing(rig: Rig) -> None:
        await asyncio.sleep(1)
        await story(rig)

    play(standing, settings={**STEADY, **settings}, cards=(bank,))


async def collect(rig: Rig, bank: str) -> Any:
    """Alice asks in our app for a deposit from her account there: an Apply."""
    alice = rig.customer("alice")
    return await rig.core.deposits_at[bank].submit(
        alice.uid, alice.trade_acc_ids[0], 1, rig.world.card_id(alice, bank), alice.cards[bank].number, "HKD", AMOUNT)


async def credited_once(rig: Rig) -> None:
    """One Apply, one Procedure, one credit, and the bank has collected once."""
    [shown] = await rig.sba.procedures()
    assert shown["state"] == "end_ok(deposit_ok)"
    assert [movement["amount"] for movement in rig.paid("collect")] == [AMOUNT]
    assert (await rig.money()).available == 11_000_000
    assert ApplyStatus((await rig.core.applications.find(shown["apply_ref"])).status) is ApplyStatus.DONE
    assert [told["event"] for told in rig.of_kind("notify")] == ["DEPOSIT_OK"]
    await restate(rig, shown["id"])


@pytest.mark.req("DEDUP-12", "SOCK-07")
@pytest.mark.parametrize("fault", ["closed", "malformed", "forged", "unsigned", "answer_minus5"])
@pytest.mark.parametrize("bank", SOCKETS)
def test_what_a_dead_worker_has_sent_to_a_socket_bank_is_asked_for_and_not_sent_again(bank: str, fault: str):
    """Whatever the bank would say to a second sending."""
    async def story(rig: Rig) -> None:
        transfer, *_ = SOCKETS[bank]
        task = await sent_by_another(rig, transfer, "withdraw", lambda: rig.withdraw(channel=bank), bank)
        rig.world.sockets[bank].bank.fault(fault, message="withdraw")
        rig.core.jobs.resume(transfer)
        await asyncio.sleep(1_800)
        assert len(rig.of_kind("bank.request", message="withdraw")) == 1
        await paid_once(rig, task.id)

    play_at(bank, story)


@pytest.mark.req("DEDUP-12", "SOCK-11", "WIN-02")
@pytest.mark.parametrize("bank", SOCKETS)
def test_what_a_dead_worker_has_sent_to_a_socket_bank_is_not_returned_because_its_window_has_closed_since(bank: str):
    async def story(rig: Rig) -> None:
        transfer, *_ = SOCKETS[bank]
        task = await sent_by_another(rig, transfer, "withdraw", lambda: rig.withdraw(channel=bank), bank)
        await rig.until("2026-03-12 10:03")
        rig.core.jobs.resume(transfer)
        await asyncio.sleep(600)
        assert len(rig.of_kind("bank.request", message="withdraw")) == 1
        await paid_once(rig, task.id)

    play_at(bank, story, **{f"windows.{bank}.close": "10:03"})


@pytest.mark.req("DEDUP-12", "SOCK-07")
@pytest.mark.parametrize("fault", ["closed", "malformed", "forged", "answer_minus5"])
@pytest.mark.parametrize("bank", SOCKETS)
def test_a_deposit_that_a_dead_worker_has_asked_a_socket_bank_for_is_credited_once(bank: str, fault: str):
    async def story(rig: Rig) -> None:
        _, collecting, _ = SOCKETS[bank]
        await sent_by_another(rig, collecting, "deposit", lambda: collect(rig, bank), bank)
        rig.world.sockets[bank].bank.fault(fault, message="deposit")
        rig.core.jobs.resume(collecting)
        await asyncio.sleep(1_800)
        await credited_once(rig)

    play_at(bank, story)


DEFINITE = {"reject": {"at": "answer"}, "unsigned": {}, "limit": {}, "closed": {}, "malformed": {}, "forged": {}}


@pytest.mark.req("DEDUP-12", "SOCK-08")
@pytest.mark.parametrize("fault", DEFINITE)
@pytest.mark.parametrize("bank", SOCKETS)
def test_a_worker_that_lost_his_lease_concludes_nothing_from_being_refused_by_a_socket_bank(bank: str, fault: str):
    """He is refused for certain, but late; meanwhile his successor has sent under the same reference, and succeeded."""
    async def story(rig: Rig) -> None:
        transfer, *_ = SOCKETS[bank]
        other = second_core(rig, own_locks=False)
        rig.world.sockets[bank].bank.fault(fault, message="withdraw", count=1, **DEFINITE[fault])
        first = hold_up(rig.core, 3.0, bank)
        task = await rig.withdraw(channel=bank)
        while not first.is_set():
            await asyncio.sleep(0.001)
        await rig.world.databases.primary.execute(EXPIRE, {"b_event": transfer})
        await other.start()
        await sending(rig, "withdraw", bank)
        other.kill()
        await asyncio.sleep(1_800)
        await paid_once(rig, task.id)

    play_at(bank, story)


@pytest.mark.req("DEDUP-12", "SOCK-11")
@pytest.mark.parametrize("bank", SOCKETS)
def test_a_worker_that_lost_his_lease_fails_nothing_at_the_cutoff_that_another_has_sent_before_it(bank: str):
    """The bank tells him that it has nothing, but late; meanwhile his successor has sent, and then comes the cutoff."""
    async def story(rig: Rig) -> None:
        transfer, *_ = SOCKETS[bank]
        other, office = second_core(rig, own_locks=False), rig.world.sockets[bank].bank
        office.fault("timeout", message="withdraw", processed=False, count=1)
        office.fault("timeout", message="query", count=1)  # the next question is a minute after the sending
        await rig.until("2026-03-12 10:00:57")
        task = await rig.withdraw(channel=bank)
        await rig.until("2026-03-12 10:01:50")
        other.jobs.pause(transfer)
        await other.start()
        first = hold_up(rig.core, 5.0, bank, "query")
        await first.wait()
        await rig.world.databases.primary.execute(EXPIRE, {"b_event": transfer})
        other.jobs.resume(transfer)
        await sending(rig, "withdraw", bank)
        other.kill()
        assert rig.now_ms < full_moment_ms("2026-03-12 10:02")
        await asyncio.sleep(1_800)
        await paid_once(rig, task.id)

    play_at(bank, story, **{"windows.market_hk.close": "10:02", "jobs.sweep.period_s": 1})


@pytest.mark.req("SOCK-05", "DEDUP-07", "DEDUP-08")
@pytest.mark.parametrize("ways", [("push", "push"), ("push", "fetch"), ("fetch", "fetch")])
@pytest.mark.parametrize("bank", SOCKETS)
def test_a_deposit_that_two_workers_hear_of_at_one_time_is_credited_once(bank: str, ways: tuple[str, str]):
    async def story(rig: Rig) -> None:
        other, office = second_core(rig, own_locks=True), rig.world.sockets[bank].bank
        await other.start()
        await asyncio.sleep(1)
        office.fault("lost_push", message="deposit_push")
        assert rig.world.banks[bank].ask(rig.customer("alice"), "deposit", Market.HK, "HKD", AMOUNT) == 0
        await asyncio.sleep(60)
        assert not rig.of_kind("apply")
        [told] = office.desk.pushes.since(0)
        push = Push(bank, told.seq, told.command, told.body)
        await asyncio.gather(*(
            core.sockets[bank].take(push) if way == "push" else core.sockets[bank].recover()
            for core, way in zip((rig.core, other), ways, strict=True)))
        await asyncio.sleep(120)
        await credited_once(rig)
        await other.stop()

    play_at(bank, story)


@pytest.mark.req("SOCK-06", "DEDUP-12")
@pytest.mark.parametrize("order", ["asked first", "pushed first", "at one time"])
@pytest.mark.parametrize("bank", SOCKETS)
def test_a_result_that_one_worker_asks_for_and_another_was_told_is_taken_once(bank: str, order: str):
    async def story(rig: Rig) -> None:
        transfer, _, result = SOCKETS[bank]
        other = second_core(rig, own_locks=False)
        await other.start()
        await asyncio.sleep(1)
        for core in (rig.core, other):
            core.jobs.pause(result)
        task = await rig.withdraw(channel=bank)
        await sending(rig, "withdraw", bank)
        await asyncio.sleep(10)  # it is paid and pushed, the next question is in 20 s
        assert rig.of_kind("bank.push", message="push.result")
        if order == "asked first":
            await asyncio.sleep(60)
            assert (await rig.of_task(task.id))["state"] == "end_ok(transfer_done)"
        for core in (rig.core, other):
            if order == "pushed first":
                core.jobs.pause(transfer)
            core.jobs.resume(result)
        if order == "at one time":
            shown = await rig.of_task(task.id)
            await asyncio.gather(*(core.sockets[bank].withdrawals.query_bank(shown["id"])
                                   for core in (rig.core, other)))
        await asyncio.sleep(600)
        for core in (rig.core, other):
            core.jobs.resume(transfer)
        await asyncio.sleep(600)
        await paid_once(rig, task.id)
        assert [told["event"] for told in rig.of_kind("notify")] == ["WITHDRAW_OK"]
        await other.stop()

    play_at(bank, story)


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
