"""Answers that are lost between the services: a Task and its Procedure never part, and nothing is sent out of hours.

SBA creates the Procedure of a Task under the Task's own id. Whatever becomes of the answer, the Task asks before it
refuses or is cancelled, and once it has given the creation up, a creation still under way is refused.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import bindparam, select, update

from core.assets.operations import Stage
from core.domain import ApplyStatus, MandateStatus, TaskStatus
from core.errors import Code
from core.storage import Statement
from core.storage.account import bank_card_asb_bst
from core.storage.primary import queue, sba_list
from scenarios.schema import full_moment_ms
from tests.orchestration.test_locks_core import second_core
from tests.rig import Rig, play

CREATE = "sba.create_withdrawal"
AMOUNT, BEFORE = 1_000_000, 10_000_000
REVOKE = Statement(update(bank_card_asb_bst).values(status=bindparam("status")))
EXPIRE = Statement(update(queue).where(queue.c.event == bindparam("b_event")).values(lease_owner=None, lease_until=0))
ASSOCIATIONS = Statement(select(sba_list.c.task_id, sba_list.c.procedure_id).order_by(sba_list.c.task_id))


def lose(rig: Rig, call: str, kind: str) -> None:
    """This call is not answered until `answer`; ``timeout_after``: although it is carried out."""
    rig.world.rpc.fault(kind, call, rig.world.streams(f"test.{call}"))


def answer(rig: Rig, *calls: str) -> None:
    for call in calls:
        rig.world.rpc.clear(call)


async def revoke(rig: Rig) -> None:
    """The authorization is closed on our side: from now on a withdrawal would be refused."""
    await rig.world.databases.account.execute(REVOKE, {"status": int(MandateStatus.CLOSED)})


async def status(rig: Rig, task_id: int) -> TaskStatus:
    return TaskStatus((await rig.core.withdrawals.find(task_id)).status)


async def together(rig: Rig, task_id: int, state: str, of_task: TaskStatus) -> None:
    """Exactly one Procedure, in this state, associated with the Task, whose status says the same."""
    [shown] = await rig.sba.procedures()
    assert (shown["task_id"], shown["state"]) == (task_id, state)
    assert await rig.world.databases.primary.all(ASSOCIATIONS, {}) == [(task_id, shown["id"])]
    assert await status(rig, task_id) is of_task


async def alone(rig: Rig, task_id: int, of_task: TaskStatus) -> None:
    """No Procedure, no association, nothing paid; the money is the customer's again and the hold is closed."""
    assert await rig.sba.procedures() == []
    assert await rig.world.databases.primary.all(ASSOCIATIONS, {}) == []
    assert await status(rig, task_id) is of_task
    assert rig.paid() == []
    money = await rig.money()
    assert (money.available, money.frozen, money.in_transit) == (BEFORE, 0, 0)
    hold = await rig.core.risk_control.hold(f"WD{task_id}")
    assert hold is None or hold.stage is Stage.RETURNED


async def left_once(rig: Rig) -> None:
    """The bank has paid once, and the customer's money has gone once."""
    assert [movement["amount"] for movement in rig.paid()] == [AMOUNT]
    money = await rig.money()
    assert (money.available, money.frozen, money.in_transit) == (BEFORE - AMOUNT, 0, 0)


@pytest.mark.req("DB-05")
@pytest.mark.parametrize("after_s", [1.5, 4.0, 16.0])
def test_a_task_whose_procedure_was_created_without_an_answer_cannot_be_cancelled_by_itself(after_s: float):
    async def story(rig: Rig) -> None:
        lose(rig, CREATE, "timeout_after")
        task = await rig.withdraw()
        await asyncio.sleep(after_s)
        refusal = await rig.core.withdrawals.cancel(task.id)
        assert refusal is not None
        assert refusal.code is Code.ILLEGAL_STATE
        await asyncio.sleep(300)
        await together(rig, task.id, "end_ok(transfer_done)", TaskStatus.DONE)
        await left_once(rig)
        assert [told["event"] for told in rig.of_kind("notify")] == ["WITHDRAW_OK"]

    play(story)


@pytest.mark.req("DB-05")
@pytest.mark.parametrize("after_s", [1.5, 100.0])
def test_nor_can_one_whose_procedure_is_in_the_hands_of_operations(after_s: float):
    async def story(rig: Rig) -> None:
        lose(rig, CREATE, "timeout_after")
        task = await rig.withdraw(channel="hsbc")
        await asyncio.sleep(after_s)
        refusal = await rig.core.withdrawals.cancel(task.id)
        assert refusal is not None
        assert refusal.code is Code.ILLEGAL_STATE
        await asyncio.sleep(300)
        await together(rig, task.id, "pending(transfer_manual)", TaskStatus.PROCESSING)
        assert (await rig.money()).in_transit == AMOUNT
        assert (await rig.operate("SetManualTransferDone", await rig.of_task(task.id))).ok
        await together(rig, task.id, "end_ok(transfer_done)", TaskStatus.DONE)

    play(story)


@pytest.mark.req("DB-05")
def test_a_task_whose_procedure_was_created_without_an_answer_is_not_refused_at_the_second_look():
    """Between the lost answer and the repetition the authorization is closed: too late, the bank is paying."""
    async def story(rig: Rig) -> None:
        lose(rig, CREATE, "timeout_after")
        task = await rig.withdraw()
        await asyncio.sleep(1.5)
        await revoke(rig)
        answer(rig, CREATE)
        await asyncio.sleep(300)
        await together(rig, task.id, "end_ok(transfer_done)", TaskStatus.DONE)
        await left_once(rig)
        assert [told["event"] for told in rig.of_kind("notify")] == ["WITHDRAW_OK"]

    play(story)


@pytest.mark.parametrize("silent", [None, "risk_control.void", "risk_control.release"])
def test_a_task_refused_after_its_money_was_held_gives_the_money_back_however_long_risk_control_is_silent(
    silent: str | None,
):
    async def story(rig: Rig) -> None:
        lose(rig, CREATE, "timeout_before")
        if silent:
            lose(rig, silent, "timeout_before")
        task = await rig.withdraw()
        await asyncio.sleep(1.5)
        assert (await rig.money()).frozen == AMOUNT
        await revoke(rig)
        answer(rig, CREATE)
        if silent:
            await asyncio.sleep(3_600)
            assert await status(rig, task.id) is TaskStatus.REJECTED
            assert (await rig.money()).frozen == AMOUNT
            answer(rig, silent)
        await asyncio.sleep(300)
        await alone(rig, task.id, TaskStatus.REJECTED)
        assert [told["event"] for told in rig.of_kind("notify")] == ["REAUTHORIZE"]

    play(story)


@pytest.mark.parametrize("silent", [None, "risk_control.void", "risk_control.release"])
def test_a_task_cancelled_after_its_money_was_held_gives_the_money_back_also_over_a_crash(silent: str | None):
    async def story(rig: Rig) -> None:
        lose(rig, CREATE, "timeout_before")
        task = await rig.withdraw()
        await asyncio.sleep(1.5)
        if silent:
            lose(rig, silent, "timeout_before")
        cancelling = asyncio.ensure_future(rig.core.withdrawals.cancel(task.id))
        await asyncio.sleep(0.001)
        rig.world.kill(1_000)
        assert await cancelling is None
        await asyncio.sleep(60)
        if silent:
            answer(rig, silent)
        answer(rig, CREATE)
        await asyncio.sleep(300)
        await alone(rig, task.id, TaskStatus.CANCELLED)

    play(story)


@pytest.mark.req("DB-05")
def test_a_creation_still_under_way_when_the_customer_cancels_creates_nothing():
    """The call to SBA takes 200 ms. He cancels at many moments of it and of the hold before it; all three ends must
    occur, and none between."""
    ends: dict[str, None] = {}

    async def story(rig: Rig, after_ms: int) -> None:
        slow_down(rig, 0.2)
        task = await rig.withdraw()
        await asyncio.sleep(after_ms / 1000)
        refusal = await rig.core.withdrawals.cancel(task.id)
        await asyncio.sleep(300)
        if refusal is None:
            met = rig.of_kind("refused", operation="CashWithdrawCreate", code="ILLEGAL_STATE")
            ends["cancelled on the way" if met else "cancelled before"] = None
            await alone(rig, task.id, TaskStatus.CANCELLED)
        else:
            ends["went on"] = None
            assert refusal.code is Code.ILLEGAL_STATE
            await together(rig, task.id, "end_ok(transfer_done)", TaskStatus.DONE)
            await left_once(rig)

    for after_ms in (0, 10, 60, 100, 140, 180, 220, 300):
        play(lambda rig, after_ms=after_ms: story(rig, after_ms))
    assert list(ends) == ["cancelled before", "cancelled on the way", "went on"], ends


@pytest.mark.req("DB-05")
def test_a_creation_still_under_way_when_another_worker_refuses_the_task_creates_nothing():
    """The first worker's creation is on its way when his lease is over; meanwhile the authorization was closed."""
    async def story(rig: Rig) -> None:
        slow_down(rig, 3.0)
        task = await rig.withdraw()
        await asyncio.sleep(0.5)
        await revoke(rig)
        await rig.world.databases.primary.execute(EXPIRE, {"b_event": "WithdrawStart"})
        other = second_core(rig, own_locks=False)
        await other.start()
        await asyncio.sleep(300)
        await other.stop()
        assert rig.of_kind("refused", operation="CashWithdrawCreate", code="ILLEGAL_STATE")
        await alone(rig, task.id, TaskStatus.REJECTED)

    play(story)


def slow_down(rig: Rig, seconds: float) -> None:
    """A creation is so long on its way to SBA."""
    create = rig.core.withdrawals._sba.create_withdrawal

    async def late(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(seconds)
        return await create(*args, **kwargs)

    rig.core.withdrawals._sba.create_withdrawal = late


# The bank's window


@pytest.mark.req("WIN-02")
@pytest.mark.parametrize(("start", "opens"), [
    ("2026-03-12 22:00", "2026-03-13 08:00"),
    ("2026-03-12 22:30", "2026-03-13 08:00"),
    ("2026-03-13 07:59", "2026-03-13 08:00"),
    ("2026-03-13 22:30", "2026-03-16 08:00"),
])  # fmt: skip
def test_a_deposit_asked_for_outside_the_window_of_the_bank_is_sent_when_it_opens_and_not_before(
    start: str, opens: str
):
    async def story(rig: Rig) -> None:
        sent: list[int] = []
        rig.world.trace.subscribe(lambda event: sent.append(rig.now_ms) if event[2] == "bank.request"
                                  and event[4]["message"] == "deposit" else None)
        opening = full_moment_ms(opens)
        apply = await rig.deposit()
        await asyncio.sleep((opening - rig.now_ms - 1) / 1000)
        assert sent == []
        await asyncio.sleep(120)
        assert [moment // 1_000 for moment in sent] == [opening // 1_000]
        assert rig.world.bank.inquire(apply.bank_ref_id).status == "PAID"
        assert ApplyStatus((await rig.core.applications.find(apply.id)).status) is ApplyStatus.DONE
        assert (await rig.money()).available == BEFORE + AMOUNT

    play(story, start=start)
