"""The quota of automatic bank-securities withdrawals: what it lets through, whom it tells, what goes to people instead.

The small quota of most stories: 100,000.00 HKD, alarm below 70,000.00, stop below 40,000.00.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from chain_watch import alerts, in_state, money
from sqlalchemy import bindparam, update

from core.alerts import RULES
from core.clock import show_time
from core.domain import JobState, MandateStatus, Role, TaskStatus
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from core.settings import Settings
from core.storage import Severed, Statement
from core.storage.primary import queue
from core.transfer import CHANNELS
from core.withdrawals.auto_settings import Quota
from core.withdrawals.tasks import Task
from emulators.staff import Staff, Team
from tests.orchestration.test_locks_core import second_core
from tests.rig import FRONTLINE, SUPERVISOR, SYSTEM, USER, Rig, play

HKD = "auto_settings.row.airstar.HKD."
SMALL: dict[str, Any] = {HKD + "balance": 100_000, HKD + "alarm_amount": 70_000, HKD + "stop_amount": 40_000}
ROOMY = {HKD + "balance": 100_000, HKD + "alarm_amount": 1, HKD + "stop_amount": 1}
CLOSED = {HKD + "balance": 40_000, HKD + "stop_amount": 40_000}  # closes with the first withdrawal
FULL, PART = 10_000_000, 1_000_000  # minor units: 100,000.00 and 10,000.00
EXPIRE = Statement(update(queue).where(queue.c.event == bindparam("b_event")).values(lease_owner=None, lease_until=0))


async def quota(rig: Rig, bank: str = "airstar", ccy: str = "HKD") -> Quota:
    found: Quota | None = await rig.core.auto_settings.find(bank, ccy)
    assert found is not None
    return found


async def settled(rig: Rig, amount: int = PART, who: str = "alice", **more: Any) -> Task:
    """A withdrawal and the minute in which it ends, or comes to wait for people."""
    task = await rig.withdraw(who, amount, **more)
    await asyncio.sleep(60)
    return await seen(rig, task)


async def seen(rig: Rig, task: Task) -> Task:
    found: Task | None = await rig.core.withdrawals.find(task.id)
    assert found is not None
    return found


async def degraded(rig: Rig) -> Task:
    """With `CLOSED`: bob's withdrawal closes the row, alice's comes to wait for people."""
    await settled(rig, who="bob")
    task = await settled(rig)
    assert task.waits
    return task


async def approve(rig: Rig, task: Task, step: str, by: Actor = FRONTLINE, request: str = "") -> Refusal | Task:
    made: Refusal | Task = await rig.core.withdrawals.approve(task.id, step, by, request or rig.request_id())
    return made


async def steps(rig: Rig, task: Task) -> list[tuple[str, str, str]]:
    """(step, action, who) of the operation log."""
    return [(step, action, who) for step, action, who, *_ in await rig.core.withdrawals.log_of(task.id)]


def order_of_writes(rig: Rig) -> list[str]:
    """From now on: the quota is written, a Procedure is created, a message goes to the bank; in order."""
    found: list[str] = []
    for database in (rig.world.databases.primary, rig.world.databases.procedure):
        database.connection.set_trace_callback(lambda text: found.extend(  # type: ignore[attr-defined]
            word for word in ("UPDATE auto_settings", "INSERT INTO proc_info") if text.startswith(word)))
    rig.world.trace.subscribe(lambda event: found.append(
        f"bank {event[4]['message']}") if event[2] == "bank.request" else None)
    return found


# What is taken


@pytest.mark.req("CH-BST-01")
def test_the_quota_is_taken_before_the_procedure_and_the_instruction() -> None:
    async def story(rig: Rig) -> None:
        order = order_of_writes(rig)
        assert (await settled(rig)).status == TaskStatus.DONE
        assert order[:3] == ["UPDATE auto_settings", "INSERT INTO proc_info", "bank withdraw"]

    play(story, start="2026-03-12 10:01")


@pytest.mark.req("CH-BST-01")
def test_a_withdrawal_begun_at_the_bank_is_taken_from_the_quota_too() -> None:
    async def story(rig: Rig) -> None:
        order = order_of_writes(rig)
        mandate = rig.world.mandates[rig.customer("alice").index]
        assert rig.world.bank.customer_withdraws(mandate, 1, "HKD", PART).request_id
        await asyncio.sleep(200)
        assert len(rig.paid()) == 1
        assert (await quota(rig)).balance == FULL - PART
        kept = [one for one in order if one.startswith(("UPDATE", "INSERT")) or one.endswith(" withdraw")]
        assert kept == ["UPDATE auto_settings", "INSERT INTO proc_info", "bank withdraw"]

    play(story, start="2026-03-12 11:59", settings=ROOMY)


@pytest.mark.req("CH-BST-02")
@pytest.mark.parametrize(("ccy", "market", "amount"), [("HKD", 1, 123_456), ("USD", 2, 1)])
def test_the_amount_is_taken_from_the_row_of_bank_and_currency_and_from_no_other(
    ccy: str, market: int, amount: int
) -> None:
    async def story(rig: Rig) -> None:
        before = await rig.core.auto_settings.rows()
        for _ in range(2):
            assert (await settled(rig, amount, ccy=ccy, market=market)).status == TaskStatus.DONE
        after = await rig.core.auto_settings.rows()
        assert [(b.key, b.balance - a.balance, a.day_count) for b, a in zip(before, after, strict=True)
                if a != b] == [(f"airstar:{ccy}", 2 * amount, 2)]

    play(story)


@pytest.mark.parametrize("why", ["another channel", "refused at Confirm", "no money"])
def test_what_does_not_come_to_the_remittance_of_a_bank_securities_transfer_takes_nothing(why: str) -> None:
    async def story(rig: Rig) -> None:
        if why == "refused at Confirm":
            task = await rig.core.withdrawals.submit(
                rig.customer("alice").uid, rig.customer("alice").trade_acc_ids[0], 1, 4_711, "not hers", "airstar",
                "HKD", PART, "auto_bs")
        else:
            task = await rig.withdraw(amount=FULL + 1 if why == "no money" else PART,
                                      channel="hsbc" if why == "another channel" else "airstar")
        await asyncio.sleep(60)
        wanted = TaskStatus.PROCESSING if why == "another channel" else TaskStatus.REJECTED
        assert (await seen(rig, task)).status == wanted
        assert (await quota(rig)).balance == 50_000_000_00

    play(story)


# Whom it tells


@pytest.mark.req("CH-BST-03", "ALERT-AIRSTAR-10")
@pytest.mark.parametrize(("amount", "alarmed"), [(3_000_000, False), (3_000_001, True)])
def test_below_the_alarm_amount_and_not_at_it_its_recipient_is_told(amount: int, alarmed: bool) -> None:
    async def story(rig: Rig) -> None:
        assert (await settled(rig, amount)).status == TaskStatus.DONE
        told = alerts(rig)
        assert [(one["rule"], one["key"], one["severity"]) for one in told] == (
            [("AIRSTAR-10", "airstar:HKD", "Medium")] if alarmed else [])
        assert all(one["detail"].startswith("to ops_bst: airstar HKD has 69,999.99 HKD left") for one in told)
        assert (await quota(rig)).enabled == 1

    play(story, settings=SMALL)


@pytest.mark.req("ALERT-AIRSTAR-09", "ALERT-AIRSTAR-10")
def test_counts_trigger_when_they_are_reached() -> None:
    async def story(rig: Rig) -> None:
        told = []
        for _ in range(4):
            task = await settled(rig, 100)
            told.append(([one["rule"] for one in alerts(rig)], TaskStatus(task.status).name))
        assert told == [([], "DONE"), (["AIRSTAR-10"], "DONE"), (["AIRSTAR-10", "AIRSTAR-09"], "DONE"),
                        (["AIRSTAR-10", "AIRSTAR-09"], "PENDING")]
        assert {one["severity"] for one in alerts(rig)} == {"Medium"}
        assert (await quota(rig)).day_count == 3

    play(story, settings={"auto_settings.alarm_count": 2, "auto_settings.stop_count": 3})


@pytest.mark.req("CH-BST-06")
@pytest.mark.parametrize("interval_s", [3_600, 600])
def test_the_same_row_alarms_at_most_once_per_interval(interval_s: int) -> None:
    async def story(rig: Rig) -> None:
        began = rig.now_ms
        for at_s in (0, interval_s / 2, interval_s - 1, interval_s + 1, 1.5 * interval_s, 2 * interval_s + 2):
            await asyncio.sleep((began - rig.now_ms) / 1000 + at_s)
            await rig.withdraw("alice", 100)
            await asyncio.sleep(0.5)
        told = [(event[1] // 1000 - began) // 1000 for event in rig.events
                if event[2] == "alert" and event[3] == "AIRSTAR-10"]
        assert told == [0, interval_s + 1, 2 * interval_s + 2]

    play(story, settings=ROOMY | {HKD + "alarm_amount": 100_000, "auto_settings.alarm_interval_s": interval_s},
         then_s=600)


def test_the_documented_interval_is_an_hour() -> None:
    leaf = Settings().leaf("auto_settings.alarm_interval_s")
    assert (leaf.value, leaf.source) == (3_600, "documented")


@pytest.mark.req("CH-BST-07")
def test_another_recipient_hears_the_next_alert() -> None:
    async def story(rig: Rig) -> None:
        await settled(rig, 100)
        made = await rig.core.auto_settings.set_alarm_staff("airstar", "HKD", "ops_night", SUPERVISOR)
        assert isinstance(made, Quota) and made.alarm_staff_name == "ops_night"
        await asyncio.sleep(3_600)
        await settled(rig, 100)
        assert [one["detail"].partition(":")[0] for one in alerts(rig)] == ["to ops_bst", "to ops_night"]
        page = await rig.core.auto_settings.settings_rows()
        assert [(row["bank"], row["ccy"]) for row in page if row["alarm_staff_name"] == "ops_night"] == [
            ("airstar", "HKD")]

    play(story, settings=ROOMY | {HKD + "alarm_amount": 100_000})


@pytest.mark.parametrize(("bank", "name", "by", "code"), [
    ("airstar", "ops", FRONTLINE, Code.FORBIDDEN), ("airstar", "ops", SYSTEM, Code.FORBIDDEN),
    ("airstar", " ", SUPERVISOR, Code.INVALID_PARAM), ("airstar", "x" * 33, SUPERVISOR, Code.INVALID_PARAM),
    ("airstar", "a\nb", SUPERVISOR, Code.INVALID_PARAM), ("hsbc", "ops", SUPERVISOR, Code.NOT_FOUND)])
def test_recipients_are_not_changed_by_anybody_to_anything(bank: str, name: str, by: Actor, code: Code) -> None:
    async def story(rig: Rig) -> None:
        made = await rig.core.auto_settings.set_alarm_staff(bank, "HKD", name, by)
        assert isinstance(made, Refusal) and made.code is code
        assert (await quota(rig)).alarm_staff_name == "ops_bst"
        assert [one["result"] for one in rig.of_kind("staff")] == [code.name]

    play(story)


# Closing, and what goes to people then


@pytest.mark.req("CH-BST-04", "ALERT-AIRSTAR-09")
@pytest.mark.parametrize(("amount", "closes"), [(6_000_000, False), (6_000_001, True)])
def test_the_withdrawal_that_crosses_the_stop_amount_is_sent_and_later_ones_wait_for_people(
    amount: int, closes: bool
) -> None:
    async def story(rig: Rig) -> None:
        assert (await settled(rig, amount)).status == TaskStatus.DONE
        assert len(rig.paid()) == 1
        row = await quota(rig)
        assert (bool(row.enabled), row.balance) == (not closes, FULL - amount)
        assert [(one["rule"], one["severity"]) for one in alerts(rig)] == [
            ("AIRSTAR-10", "Medium"), *[("AIRSTAR-09", "Medium")][:closes]]
        later = await settled(rig, 100)
        if not closes:
            assert later.status == TaskStatus.DONE
            return
        assert (later.status, later.template, later.method, later.step) == (
            TaskStatus.PENDING, "default", "auto_bs", "CONFIRM")
        assert (await quota(rig)).balance == FULL - amount
        assert await rig.of_task(later.id) is None
        assert len(rig.paid()) == 1
        assert (await money(rig))["frozen"] == 100  # the hold stays while it waits

    play(story, settings=SMALL)


@pytest.mark.req("CH-BST-04")
def test_a_withdrawal_that_the_balance_does_not_bear_waits_for_people_and_takes_nothing() -> None:
    async def story(rig: Rig) -> None:
        waiting = await settled(rig, 5_000_001)
        assert waiting.waits and waiting.template == "default"
        row = await quota(rig)
        assert (row.enabled, row.balance, row.day_count) == (1, 5_000_000, 0)
        assert [one["rule"] for one in alerts(rig)] == ["AIRSTAR-10"]
        assert (await settled(rig, 1_000_000, who="bob")).status == TaskStatus.DONE  # a smaller one still goes
        assert (await settled(rig, 4_000_000, who="bob")).status == TaskStatus.DONE  # the rest, to the cent

    play(story, settings=ROOMY | {HKD + "balance": 50_000})


@pytest.mark.req("CH-BST-08")
def test_a_closed_row_closes_no_other() -> None:
    async def story(rig: Rig) -> None:
        await degraded(rig)
        assert [row.key for row in await rig.core.auto_settings.rows() if not row.enabled] == ["airstar:HKD"]
        assert (await settled(rig, ccy="USD", market=2, amount=100)).status == TaskStatus.DONE
        async with rig.world.databases.primary.transaction() as tx:
            assert not await rig.core.auto_settings.auto_out(tx, "cmb", "HKD", PART, "T0")
            assert await rig.core.auto_settings.auto_out(tx, "airstar", "HKD", PART, "T0")

    play(story, settings=CLOSED)


def test_a_waiting_task_goes_on_after_two_approvals_each_logged_with_its_person() -> None:
    async def story(rig: Rig) -> None:
        task = await degraded(rig)
        first = await approve(rig, task, "CONFIRM")
        assert isinstance(first, Task) and first.waits and first.step == "REMITTANCE"
        await asyncio.sleep(600)
        assert await rig.of_task(task.id) is None
        second = await approve(rig, task, "REMITTANCE", Actor("staff_1002", Role.FRONTLINE))
        assert isinstance(second, Task) and not second.waits
        await asyncio.sleep(60)
        assert (await seen(rig, task)).status == TaskStatus.DONE
        assert len(rig.paid()) == 2
        assert await steps(rig, task) == [
            ("AUDIT", "auto_pass", "system"), ("CONFIRM", "degrade", "system"), ("CONFIRM", "approve", "staff_1001"),
            ("REMITTANCE", "approve", "staff_1002"), ("REMITTANCE", "create", "system"),
            ("REMITTANCE", "end_ok", "system")]
        assert (await quota(rig)).balance == 4_000_000 - PART  # only what went by itself was taken

    play(story, settings=CLOSED)


def test_a_withdrawal_begun_at_the_bank_waits_for_people_too_and_can_only_be_paid_there() -> None:
    async def story(rig: Rig) -> None:
        await settled(rig, who="bob")
        mandate = rig.world.mandates[rig.customer("alice").index]
        assert rig.world.bank.customer_withdraws(mandate, 1, "HKD", PART).request_id
        await asyncio.sleep(7_300)
        task = await rig.core.withdrawals.find(rig.of_kind("task")[-1]["task"])
        assert (task.waits, task.template, task.bank_launched) == (True, "default", 1)
        refused = await rig.core.withdrawals.change_method(task.id, "hsbc", FRONTLINE)
        assert isinstance(refused, Refusal) and refused.code is Code.ILLEGAL_STATE
        for step in ("CONFIRM", "REMITTANCE"):
            assert isinstance(await approve(rig, task, step), Task)
        await asyncio.sleep(60)
        assert (await seen(rig, task)).status == TaskStatus.DONE
        assert len(rig.paid()) == 2

    play(story, settings=CLOSED)


@pytest.mark.parametrize(("by", "may"), [
    *((Actor("staff_9", role), role in (Role.FRONTLINE, Role.SUPERVISOR)) for role in Role)])
def test_frontline_and_supervisors_approve_and_nobody_else(by: Actor, may: bool) -> None:
    async def story(rig: Rig) -> None:
        task = await degraded(rig)
        for made in (await approve(rig, task, "CONFIRM", by),
                     await rig.core.withdrawals.change_method(task.id, "hsbc", by)):
            assert isinstance(made, Task) is may
            assert may or made.code is Code.FORBIDDEN  # type: ignore[union-attr]

    play(story, settings=CLOSED)


def test_an_approval_counts_once_and_only_for_the_step_that_waits() -> None:
    async def story(rig: Rig) -> None:
        task = await degraded(rig)

        async def code(step: str, request: str, by: Actor = FRONTLINE) -> str:
            made = await rig.core.withdrawals.approve(task.id, step, by, request)
            return made.code.name if isinstance(made, Refusal) else f"{made.step} {made.reason}".strip()

        assert await code("REMITTANCE", "a") == "ILLEGAL_STATE"
        assert await code("AUDIT", "a") == "ILLEGAL_STATE"
        assert await code("CONFIRM", "") == "INVALID_PARAM"
        assert await code("CONFIRM", "x" * 65) == "INVALID_PARAM"
        assert await code("CONFIRM", "b") == "REMITTANCE AUTO_SETTINGS"
        assert await code("CONFIRM", "c") == "ILLEGAL_STATE"  # somebody has confirmed it already
        assert await code("CONFIRM", "b", SUPERVISOR) == "ILLEGAL_STATE"  # and it was not he
        assert await code("CONFIRM", "b") == "REMITTANCE AUTO_SETTINGS"  # asked again, the same answer
        assert await asyncio.gather(*(code("REMITTANCE", "d") for _ in range(3))) == ["REMITTANCE"] * 3
        assert await code("REMITTANCE", "e") == "ILLEGAL_STATE"
        await asyncio.sleep(60)
        assert await code("REMITTANCE", "d") == "REMITTANCE"
        assert len(rig.paid()) == 2
        assert [row[1] for row in await steps(rig, task)].count("approve") == 2
        unknown = await rig.core.withdrawals.approve(999, "CONFIRM", FRONTLINE, "f")
        assert isinstance(unknown, Refusal) and unknown.code is Code.NOT_FOUND

    play(story, settings=CLOSED)


def test_what_goes_by_itself_waits_for_nobody() -> None:
    async def story(rig: Rig) -> None:
        for channel in ("airstar", "hsbc"):
            task = await rig.withdraw(channel=channel)
            for made in (await approve(rig, task, "CONFIRM"),
                         await rig.core.withdrawals.change_method(task.id, "hase", FRONTLINE)):
                assert isinstance(made, Refusal) and made.code is Code.ILLEGAL_STATE

    play(story, then_s=60)


@pytest.mark.parametrize("method", [*CHANNELS, "carrier_pigeon"])
@pytest.mark.parametrize("confirmed", [False, True])
def test_operations_may_send_it_by_any_channel_of_the_set_group(method: str, confirmed: bool) -> None:
    """Written out here from channels.md §7: the online banking class and cheques."""
    allowed = ("manual", "boc", "hase", "hsbc", "boc_fps", "cgb_fps_api", "chats_rtgs", "sc", "check")

    async def story(rig: Rig) -> None:
        task = await degraded(rig)
        if confirmed:
            await approve(rig, task, "CONFIRM")
        made = await rig.core.withdrawals.change_method(task.id, method, FRONTLINE)
        if method not in allowed:
            assert isinstance(made, Refusal) and made.code is Code.INVALID_PARAM
            return
        assert isinstance(made, Task) and (made.method, made.step, made.waits) == (method, "CONFIRM", True)
        assert (made.batch_date is None) is (method == "cgb_fps_api")
        assert isinstance(await approve(rig, task, "CONFIRM"), Task)
        shown = await rig.reach(lambda: rig.of_task(task.id), "pending(transfer_manual)")
        assert (shown["transfer_method"], shown["transfer_dest_bank"]) == (method, "airstar")
        assert len(rig.paid()) == 1
        by = SYSTEM if method == "cgb_fps_api" else FRONTLINE
        reply = await rig.core.withdrawals.set_transfer_done(
            task.id, version=shown["version"], rpc_request_id="done", by=by)
        assert reply.code is Code.OK
        await asyncio.sleep(60)
        assert (await seen(rig, task)).status == TaskStatus.DONE

    play(story, settings=CLOSED)


@pytest.mark.parametrize("confirmed", [False, True])
def test_the_customer_can_take_it_back_while_it_waits_and_has_his_money_again(confirmed: bool) -> None:
    async def story(rig: Rig) -> None:
        task = await degraded(rig)
        if confirmed:
            await approve(rig, task, "CONFIRM")
        assert await rig.core.withdrawals.cancel(task.id) is None
        await asyncio.sleep(60)
        assert await money(rig) == {"available": FULL, "frozen": 0, "in_transit": 0}
        refused = await approve(rig, task, "REMITTANCE" if confirmed else "CONFIRM")
        assert isinstance(refused, Refusal) and refused.code is Code.ILLEGAL_STATE
        assert len(rig.paid()) == 1

    play(story, settings=CLOSED)


def test_what_is_no_longer_authorized_when_it_is_approved_is_refused() -> None:
    async def story(rig: Rig) -> None:
        task = await degraded(rig)
        await in_state(rig, MandateStatus.SUSPENDED)
        for step in ("CONFIRM", "REMITTANCE"):
            await approve(rig, task, step)
        await asyncio.sleep(60)
        assert (await seen(rig, task)).status == TaskStatus.REJECTED
        assert await money(rig) == {"available": FULL, "frozen": 0, "in_transit": 0}

    play(story, settings=CLOSED)


@pytest.mark.parametrize(("ccy", "detail"), [("CNH", "cmbc does not transfer CNH"), ("HKD", "")])
def test_a_currency_that_the_bank_does_not_transfer_is_refused_at_confirm(ccy: str, detail: str) -> None:
    """B-17: CMBC moves HKD and USD. In HKD the card is fine."""

    async def story(rig: Rig) -> None:
        task = await rig.withdraw(amount=100, ccy=ccy, channel="cmbc")
        await asyncio.sleep(5)
        ended = await seen(rig, task)
        assert (ended.status == TaskStatus.REJECTED, ended.remark) == (bool(detail), detail)

    play(story, cards=("airstar", "hsbc", "cmbc"))


# Giving back


@pytest.mark.req("CH-BST-05")
@pytest.mark.parametrize("how", ["to full", "by amount"])
def test_a_rejection_gives_nothing_back_and_a_supervisor_does(how: str) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=140630015, at="result", message="withdraw")
        assert (await settled(rig)).status == TaskStatus.FAILED
        await asyncio.sleep(4 * 3600)
        assert (await money(rig))["available"] == FULL  # the customer has his money again,
        assert (await quota(rig)).balance == FULL - PART  # the quota has not
        made = await rig.core.auto_settings.restore("airstar", "HKD", SUPERVISOR, None if how == "to full" else PART)
        assert isinstance(made, Quota)
        assert (await quota(rig)).balance == FULL
        assert (await quota(rig)).day_count == (0 if how == "to full" else 1)

    play(story, settings=ROOMY)


@pytest.mark.parametrize("rest", [600_000, 6_000_000])
def test_a_restored_row_is_open_again_and_what_waits_goes_on_waiting(rest: int) -> None:
    async def story(rig: Rig) -> None:
        waiting = await degraded(rig)
        made = await rig.core.auto_settings.restore("airstar", "HKD", SUPERVISOR)
        assert isinstance(made, Quota) and made.enabled == 1
        assert [(one["rule"], one["key"]) for one in rig.of_kind("alert", phase="cleared")] == [
            ("AIRSTAR-09", "airstar:HKD")]
        assert (await settled(rig, rest)).status == TaskStatus.DONE
        assert (await seen(rig, waiting)).waits

    play(story, settings=CLOSED | {HKD + "balance": 100_000, HKD + "stop_amount": 90_001, HKD + "alarm_amount": 1})


@pytest.mark.parametrize(("by", "amount", "shown", "code"), [
    (FRONTLINE, None, None, Code.FORBIDDEN), (SYSTEM, None, None, Code.FORBIDDEN), (USER, None, None, Code.FORBIDDEN),
    (SUPERVISOR, 0, None, Code.INVALID_PARAM), (SUPERVISOR, -1, None, Code.INVALID_PARAM),
    (SUPERVISOR, PART + 1, None, Code.INVALID_PARAM),  # more than full
    (SUPERVISOR, 1, None, Code.INVALID_PARAM),  # it would close again at once
    (SUPERVISOR, PART, 1, Code.VERSION_CONFLICT)])
def test_a_quota_is_not_restored_by_anybody_nor_by_any_amount(
    by: Actor, amount: int | None, shown: int | None, code: Code
) -> None:
    async def story(rig: Rig) -> None:
        await settled(rig, who="bob")
        before = await quota(rig)
        made = await rig.core.auto_settings.restore("airstar", "HKD", by, amount, shown=shown)
        assert isinstance(made, Refusal) and made.code is code
        assert await quota(rig) == before
        assert rig.of_kind("staff", action="RestoreQuota")[-1]["result"] == code.name

    play(story, settings=CLOSED)


def test_every_morning_at_six_the_balance_is_full_and_a_closed_row_stays_closed() -> None:
    async def story(rig: Rig) -> None:
        await degraded(rig)
        await settled(rig, ccy="USD", market=2, amount=100_00)
        await rig.until("2026-03-13 05:59:59.500")
        assert (await quota(rig)).balance == 4_000_000 - PART
        await rig.until("2026-03-13 06:00:01")
        hkd, usd = await quota(rig), await quota(rig, ccy="USD")
        assert (hkd.balance, hkd.day_count, hkd.enabled) == (4_000_000, 0, 0)
        assert (usd.balance, usd.day_count, usd.enabled) == (5_000_000_00, 0, 1)
        job = next(one for one in rig.of_kind("job", job="AutoSettingReset"))
        assert (job["state"], job["key"]) == ("DONE", "2026-03-13 06:00:00")
        rig.core.timetable.run_now("AutoSettingReset", "staff_3001")  # once more gives nothing
        await asyncio.sleep(4 * 3600)
        assert (await settled(rig)).waits
        await rig.core.auto_settings.restore("airstar", "HKD", SUPERVISOR)
        assert not (await settled(rig, who="bob", amount=100)).waits

    play(story, settings=CLOSED)


def test_both_rules_are_in_the_catalogue_as_medium() -> None:
    assert {RULES[rule].severity for rule in ("AIRSTAR-09", "AIRSTAR-10")} == {"Medium"}


# Crashes, and two workers


class End(NamedTuple):
    """What must be the same however often a core died."""

    tasks: list[Any]
    quotas: list[tuple[int, int, int]]
    money: dict[str, int]
    paid: int
    log: list[Any]
    left_over: int


async def _at_the_end(rig: Rig) -> End:
    numbers = sorted({one["task"] for one in rig.of_kind("task")})
    found = [await rig.core.withdrawals.find(number) for number in numbers]
    log = [row[:3] for number in numbers for row in await rig.core.withdrawals.log_of(number)]
    return End([task and (task.status, task.step, task.template, task.reason) for task in found],
               [(row.balance, row.day_count, row.enabled) for row in await rig.core.auto_settings.rows()],
               await money(rig), len(rig.paid()), sorted(log),
               sum(job.state is not JobState.DONE for job in await rig.core.jobs.open_jobs()))


async def insist(rig: Rig, ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """As people do: while no core is there, or when it dies under their hands, once more."""
    while True:
        if not rig.world.down:
            try:
                return await ask()
            except Severed:
                pass
        await asyncio.sleep(1)


async def _crossing(rig: Rig) -> None:
    await insist(rig, lambda: rig.withdraw("alice", 7_000_000))
    await asyncio.sleep(60)


async def _approved(rig: Rig) -> None:
    task = await insist(rig, lambda: rig.withdraw("alice", 7_000_000))
    await asyncio.sleep(60)
    for step in ("CONFIRM", "REMITTANCE"):
        await insist(rig, lambda step=step: approve(rig, task, step, request=f"click on {step}"))  # type: ignore[misc]


Begin = Callable[[Rig], Coroutine[Any, Any, None]]


def tell(begin: Begin, overlay: dict[str, Any], kill_after: int) -> tuple[End, int]:
    """The end and the number of commits; the core dies right after one of them."""
    commits = 0

    async def story(rig: Rig) -> tuple[End, int]:
        def committed(_database: str, _number: int) -> None:
            nonlocal commits
            commits += 1
            if commits == kill_after:
                rig.world.kill(1_000)

        rig.world.watch_commits(committed)
        await begin(rig)
        await asyncio.sleep(200)
        rig.world.watch_commits(None)
        return await _at_the_end(rig), commits

    told: tuple[End, int] = play(story, settings=overlay)
    return told


@pytest.mark.req("CH-BST-02")
@pytest.mark.parametrize(("begin", "overlay"), [(_crossing, SMALL), (_approved, ROOMY | {HKD + "balance": 50_000})],
                         ids=["crossing", "degraded and approved"])
def test_killed_after_any_commit_the_quota_is_taken_as_often_as_without(
    begin: Begin, overlay: dict[str, Any]
) -> None:
    """Among them the commit between autoOut and the Procedure. (The customer's own click is not repeated: kill it from
    the second commit on.)"""
    undisturbed, commits = tell(begin, overlay, 0)
    assert undisturbed.paid == 1
    assert undisturbed.left_over == 0
    for commit in range(2, commits + 1):
        assert tell(begin, overlay, commit)[0] == undisturbed, commit


@pytest.mark.req("CH-BST-02")
def test_a_worker_that_takes_over_after_the_deduction_does_not_take_it_again() -> None:
    async def story(rig: Rig) -> None:
        other = second_core(rig, own_locks=True)
        await other.start()
        rig.core.jobs.pause("WithdrawStart")
        rig.world.rpc.fault("timeout_before", "sba.create_withdrawal", rig.world.streams("test"))
        task = await other.withdrawals.submit(*_wish(rig))
        assert isinstance(task, Task)
        await asyncio.sleep(30)
        assert (await quota(rig)).balance == FULL - PART
        other.kill()
        rig.world.rpc.clear("sba.create_withdrawal")
        await rig.world.databases.primary.execute(EXPIRE, {"b_event": "WithdrawStart"})
        rig.core.jobs.resume("WithdrawStart")
        await asyncio.sleep(120)
        assert (await seen(rig, task)).status == TaskStatus.DONE
        assert ((await quota(rig)).balance, len(rig.paid())) == (FULL - PART, 1)

    play(story, settings=ROOMY)


def _wish(rig: Rig) -> tuple[Any, ...]:
    alice = rig.customer("alice")
    return (alice.uid, alice.trade_acc_ids[0], 1, rig.world.card_id(alice, "airstar"), alice.cards["airstar"].number,
            "airstar", "HKD", PART, "auto_bs")


def test_of_two_workers_that_are_asked_at_once_one_passes_the_step() -> None:
    async def story(rig: Rig) -> None:
        other = second_core(rig, own_locks=True)
        task = await degraded(rig)
        made = await asyncio.gather(
            rig.core.withdrawals.approve(task.id, "CONFIRM", FRONTLINE, "a"),
            other.withdrawals.approve(task.id, "CONFIRM", SUPERVISOR, "b"),
            other.withdrawals.change_method(task.id, "hsbc", FRONTLINE))
        assert any(isinstance(one, Task) for one in made)
        approvals = [row for row in await steps(rig, task) if row[1] == "approve"]
        assert len(approvals) == 1

    play(story, settings=CLOSED)


# Staff


class Console:
    """The one button that these staff press."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.pressed = rig, []  # type: ignore[var-annotated]

    async def approve(self, task: int, step: str, operator: str) -> str:
        made = await self.rig.core.withdrawals.approve(
            task, step, Actor(operator, Role.FRONTLINE), f"{operator}-{task}-{step}")
        self.pressed.append((show_time(self.rig.now_ms)[:16], step, operator))
        return made.code.name if isinstance(made, Refusal) else "OK"


@pytest.mark.parametrize(("start", "confirmed_at", "remitted_at"), [
    ("2026-03-12 10:00", "2026-03-12 10:22", "2026-03-12 10:43"),
    ("2026-03-12 17:45", "2026-03-13 09:01", "2026-03-13 09:22"),  # a review ends after the office has closed
    ("2026-03-13 19:00", "2026-03-16 09:21", "2026-03-16 09:42")])  # Friday evening
def test_staff_approve_what_waits_in_office_hours_one_colleague_after_the_other(
    start: str, confirmed_at: str, remitted_at: str
) -> None:
    async def story(rig: Rig) -> None:
        console, world = Console(rig), rig.world
        staff = Staff(world.loop, world.clock, Team(1, 0, 0, (1200, 1200), (0, 0), (0, 0), (60, 60), 0.0), world,
                      {}, world._office_opens, world.streams, console.approve)
        world.trace.subscribe(staff)
        task = await degraded(rig)
        await asyncio.sleep(3 * 86_400)
        assert console.pressed == [(confirmed_at, "CONFIRM", "staff_1001"), (remitted_at, "REMITTANCE", "staff_1002")]
        assert (await seen(rig, task)).status == TaskStatus.DONE

    play(story, start=start, settings=CLOSED)
