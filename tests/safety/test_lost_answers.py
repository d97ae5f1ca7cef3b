"""Answers that are lost between the services: a Task and its Procedure never part, and nothing is sent out of hours.

SBA creates the Procedure of a Task under the Task's own id. Whatever becomes of the answer, the Task asks before it
refuses or is cancelled, and once it has given the creation up, a creation still under way is refused.

The stories of the socket banks end alike whichever answer is lost, between the services or on the bank's line.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from crash_stories import STORIES, End, end_of, same, undisturbed
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


# At the socket banks: the stories of `crash_stories`, with something lost


class Losing(random.Random):
    """Loses every answer and counts them."""

    lost = 0

    def random(self) -> float:
        self.lost += 1
        return 0.0


CREDITING = ("sba.create_deposit", "risk_control.add", "owner")
HOLDING = ("risk_control.freeze", "risk_control.deduct", CREATE, "owner")
PAYING, RETURNING = (*HOLDING, "risk_control.consume"), (*HOLDING, "risk_control.hold", "risk_control.restore")
BETWEEN_SERVICES = {
    "cmb_deposit_pushed": CREDITING, "cmbc_deposit_pushed": CREDITING, "cmb_deposit": CREDITING,
    "cmbc_deposit": CREDITING, "cmb_withdrawal_never_taken_on": RETURNING,
    "cmb_withdrawal": PAYING, "cmbc_withdrawal": PAYING,
    "cmb_rejected_withdrawal": RETURNING, "cmb_minus5_and_paid_late": HOLDING,
    "cmb_minus5_and_paid_the_second_time": PAYING, "cmb_result_minus5_then_0": HOLDING,
    "cmb_withdrawal_begun_at_the_bank": PAYING, "cmbc_withdrawal_begun_at_the_bank": PAYING,
    "cmb_withdrawal_begun_at_the_bank_and_rejected": RETURNING}
"""Story -> calls of it that are lost; screening is not among them: its silence sends a deposit to people (B-36)."""


@pytest.mark.req("DEDUP-04")
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after"])
@pytest.mark.parametrize(("story", "call"), [(story, call) for story, calls in BETWEEN_SERVICES.items()
                                             for call in calls])
def test_a_story_at_a_socket_bank_ends_the_same_though_this_call_is_not_answered_for_a_while(
    story: str, call: str, kind: str
) -> None:
    told, losing = STORIES[story], Losing()

    async def played(rig: Rig) -> End:
        await told.stand(rig)
        rig.world.rpc.fault(kind, call, losing)
        await told.begin(rig)
        await asyncio.sleep(20)
        answer(rig, call)
        await asyncio.sleep(told.lasts_s + 300)
        assert losing.lost
        return await end_of(rig)

    same(told.play(played), undisturbed(story).end)


COLLECTED, SENT_OUT, REFUSED = {"message": "deposit"}, {"message": "withdraw"}, {"message": "reverse"}
TOLD, WISHED, RESULT = {"message": "deposit_push"}, {"message": "bank_withdrawal"}, {"message": "result"}
ASKED = {"message": "query"}
SAYS: dict[str, tuple[dict[str, Any], ...]] = {
    "cmb_deposit_pushed": (TOLD,), "cmbc_deposit_pushed": (TOLD,),
    "cmb_deposit": (COLLECTED, RESULT), "cmbc_deposit": (COLLECTED, RESULT),
    "cmb_rejected_deposit": (COLLECTED, RESULT),
    "cmb_withdrawal": (SENT_OUT, RESULT), "cmbc_withdrawal": (SENT_OUT, RESULT),
    "cmb_rejected_withdrawal": (SENT_OUT, RESULT),
    "cmb_withdrawal_never_taken_on": (SENT_OUT,), "cmb_deposit_before_opening": (COLLECTED, RESULT),
    "cmb_deposit_pushed_at_opening": (TOLD,),
    "cmb_minus5_and_paid_late": (ASKED, RESULT), "cmb_result_minus5_then_0": (ASKED,),
    "cmb_minus5_and_paid_the_second_time": (ASKED, RESULT),
    "cmb_withdrawal_begun_at_the_bank": (WISHED, SENT_OUT, RESULT),
    "cmbc_withdrawal_begun_at_the_bank": (WISHED, SENT_OUT, RESULT),
    "cmb_withdrawal_refused_at_the_bank": (WISHED, REFUSED, RESULT),
    "cmbc_withdrawal_refused_at_the_bank": (WISHED, REFUSED, RESULT),
    "cmb_withdrawal_begun_at_the_bank_and_rejected": (WISHED, SENT_OUT, ASKED, RESULT)}
"""Story -> the messages of the bank that it needs."""
ANSWERS = ("deposit", "withdraw", "reverse", "query")
LOSSES: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("timeout", {"processed": True, "count": 2}, ANSWERS), ("timeout", {"processed": False, "count": 1}, ANSWERS),
    ("slow", {"delay_s": 20.0, "count": 2}, ANSWERS),  # past the 15 s for which it is waited
    ("system_error", {"processed": True, "count": 2}, ANSWERS[:3]),
    ("system_error", {"processed": False, "count": 1}, ANSWERS[:3]),
    ("answer_minus5", {"processed": True, "late_s": 45, "count": 1}, ANSWERS[:3]),
    ("lost_ack", {"count": 3}, ("deposit_push", "bank_withdrawal", "result")), ("lost_push", {}, ("result",)))
"""(fault of the bank, how, messages that it can strike). A bank that twice has nothing of it leaves it to people."""


@pytest.mark.req("DEDUP-11", "SOCK-05", "SOCK-07")
@pytest.mark.parametrize(("story", "fault", "given"), [
    pytest.param(story, fault, {**given, **aimed}, id=f"{story} {fault} {aimed['message']} {number}")
    for story, messages in SAYS.items() for number, (fault, given, strikes) in enumerate(LOSSES)
    for aimed in messages if aimed["message"] in strikes])
def test_a_story_at_a_socket_bank_ends_the_same_though_the_bank_is_not_heard(
    story: str, fault: str, given: dict[str, Any]
) -> None:
    """Silence, -1 and -5 say nothing: it is asked, and sent again under the same reference only if the bank has never
    had it. A result that is not pushed is asked for; then its push alone is missing."""
    told = STORIES[story]

    async def played(rig: Rig) -> End:
        await told.stand(rig)
        rig.world.sockets[told.bank].bank.fault(fault, **given)
        await told.begin(rig)
        await asyncio.sleep(told.lasts_s + 400)
        return await end_of(rig)

    same(told.play(played), undisturbed(story).end, but=("pushes", "transfers") if fault == "lost_push" else ())


@pytest.mark.req("SOCK-03", "SOCK-04", "SOCK-05")
@pytest.mark.parametrize("story", [name for name in SAYS if name.endswith(("_pushed", "_at_the_bank"))])
def test_what_the_bank_has_never_sent_is_fetched_once_its_next_push_shows_that_one_is_missing(story: str) -> None:
    told = STORIES[story]

    async def played(rig: Rig) -> End:
        await told.stand(rig)
        bank = rig.world.sockets[told.bank].bank
        bank.fault("lost_push", count=1, **SAYS[story][0])
        await told.begin(rig)
        await asyncio.sleep(120)
        assert not rig.of_kind("bank.push")
        bank.unsign("bob", "US")
        await asyncio.sleep(told.lasts_s)
        assert len([report for report in rig.of_kind("recovery", bank=told.bank) if report["injected"]]) == 1
        return await end_of(rig)

    same(told.play(played), undisturbed(story).end, but=("pushes",))
