"""Cheque deposits keyed by operations: held, cleared, bounced; what the customer has at every moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from by_hand_world import AMOUNT, OPS, Counter, tell
from sqlalchemy import select

from core.deposits.cheques import BOUNCED, CLEARED, HELD, KEYED, REJECTED, REVERSED, Cheque, Drawn, Keyed
from core.domain import ApplyStatus, DepositType, FreezeType, Role
from core.errors import CallFailed, Code, OutcomeUnknown, Refusal
from core.orchestration.records import Actor
from core.screening import Kind, ListName, Value
from core.storage import Statement
from core.storage.primary import CHEQUE_STATES, refund
from scenarios.schema import Fault

BEFORE = 10_000_000
REFUNDS = Statement(select(refund.c.apply_id, refund.c.procedure_id, refund.c.amount, refund.c.state))


async def money(counter: Counter) -> tuple[int, int]:
    """(available, frozen)."""
    found = await counter.rig.money()
    return found.available, found.frozen


async def refunds(counter: Counter) -> list[tuple[Any, ...]]:
    return await counter.rig.core.given.databases.primary.all(REFUNDS, {})


def refused(found: Any) -> Code:
    assert isinstance(found, Refusal) and found.detail
    return found.code


def test_the_states_are_those_of_the_table() -> None:
    assert CHEQUE_STATES == (KEYED, HELD, CLEARED, BOUNCED, REJECTED, REVERSED)


# Held, then cleared


@pytest.mark.req("DEP-17", "SBA-DEP-022")
def test_a_keyed_cheque_is_the_customers_but_held_until_it_is_cleared() -> None:
    async def story(counter: Counter) -> None:
        rig = counter.rig
        cheque = await counter.keyed()
        shown, apply = await counter.procedure(cheque), await counter.apply(cheque)
        assert (shown["state"], shown["transfer_method"], shown["deposit_type"], shown["hold_type"]) == (
            "end_ok(deposit_ok)", 101, DepositType.NORMAL_HOLD, FreezeType.CASH_IN)
        assert shown["hold_apply_id"] == cheque.hold_id and len(cheque.hold_id) == 32
        assert (apply.status, apply.trans_type, apply.credited_amount) == (ApplyStatus.DONE, 101, AMOUNT)
        assert cheque.state == HELD and await money(counter) == (BEFORE, AMOUNT)
        assert (await rig.core.risk_control.hold(cheque.hold_id)).freeze_type == FreezeType.CASH_IN
        (file,) = await counter.vouchers.of_apply(apply.id)
        assert file.uid == apply.uid
        await rig.until("2026-03-12 14:01")  # the branch run of Thursday
        assert (await counter.now(cheque)).clears_on == 20260316, "Friday, Monday"
        await rig.until("2026-03-16 16:59")
        assert (await counter.now(cheque)).state == HELD and await money(counter) == (BEFORE, AMOUNT)
        await rig.until("2026-03-16 17:01")
        assert (await counter.now(cheque)).state == CLEARED and await money(counter) == (BEFORE + AMOUNT, 0)
        await rig.until("2026-03-18 18:00")
        assert await money(counter) == (BEFORE + AMOUNT, 0), "once"
        assert counter.notices() == ["DEPOSIT_OK"] and await refunds(counter) == []

    tell(story)


@pytest.mark.parametrize(("keyed", "clears_on"), [
    ("2026-03-12 13:59", 20260316), ("2026-03-12 14:01", 20260317),  # the run of Friday
    ("2026-03-13 14:01", 20260318),  # that of Monday
    ("2026-04-01 10:00", 20260408),  # Thursday 2nd; Friday to Tuesday are holidays
])
def test_the_days_count_from_the_branch_run(keyed: str, clears_on: int) -> None:
    async def story(counter: Counter) -> None:
        cheque = await counter.keyed()
        await asyncio.sleep(6 * 86_400)
        assert (await counter.now(cheque)).clears_on == clears_on

    tell(story, start=keyed)


def test_how_many_days_is_a_setting() -> None:
    async def story(counter: Counter) -> None:
        cheque = await counter.keyed()
        await counter.rig.until("2026-03-13 17:01")
        assert (await counter.now(cheque)).state == CLEARED

    tell(story, settings={"cheque.clear_days": 1})


@pytest.mark.parametrize("killed_at", ["2026-03-12 10:00:00", "2026-03-12 14:00:01", "2026-03-16 16:59:59"])
def test_it_outlives_the_core(killed_at: str) -> None:
    async def story(counter: Counter) -> None:
        cheque = await counter.key()
        assert isinstance(cheque, Cheque)
        if not killed_at.endswith("10:00:00"):
            await counter.rig.until(killed_at)
        counter.rig.world.kill(2_000)
        await counter.rig.until("2026-03-16 18:01")
        assert (await counter.now(cheque)).state == CLEARED and await money(counter) == (BEFORE + AMOUNT, 0)
        assert counter.notices() == ["DEPOSIT_OK"]

    tell(story)


# What is refused


@pytest.mark.parametrize(("changed", "code"), [
    ({"by": Actor("user_1", Role.USER)}, Code.FORBIDDEN), ({"by": Actor("system", Role.SYSTEM)}, Code.FORBIDDEN),
    ({"drawn": Drawn("hase", "024-1234567", "WONG", "12345")}, Code.INVALID_PARAM),
    ({"drawn": Drawn("hase", "024-1234567", "WONG", "1234567")}, Code.INVALID_PARAM),
    ({"drawn": Drawn("", "024-1234567", "WONG", "123456")}, Code.INVALID_PARAM),
    ({"drawn": Drawn("hase", "??", "WONG", "123456")}, Code.INVALID_PARAM),
    ({"drawn": Drawn("hase", "024-1234567", "", "123456")}, Code.INVALID_PARAM),
    ({"wish": Keyed(1, 1, 1, "hsbc", "HKD", 0)}, Code.INVALID_PARAM),
    ({"wish": Keyed(1, 1, 1, "nobank", "HKD", 1)}, Code.INVALID_PARAM),
    ({"wish": Keyed(1, 1, 3, "hsbc", "HKD", 1)}, Code.INVALID_PARAM),
    ({"file_id": "nothing"}, Code.NOT_FOUND)])
def test_what_is_no_cheque_is_refused_and_leaves_nothing(changed: dict[str, Any], code: Code) -> None:
    async def story(counter: Counter) -> None:
        assert refused(await counter.key(**changed)) is code
        assert counter.rig.of_kind("apply") == [] and await money(counter) == (BEFORE, 0)

    tell(story)


def test_a_cheque_and_a_voucher_are_keyed_once() -> None:
    async def story(counter: Counter) -> None:
        file = await counter.file()
        first = await counter.keyed(file_id=file.file_id)
        assert refused(await counter.key()) is Code.DUPLICATE, "the same number of the same account"
        assert refused(await counter.key(number="100002", file_id=file.file_id)) is Code.DUPLICATE
        his = await counter.file("bob")
        assert refused(await counter.key(number="100003", file_id=his.file_id)) is Code.NOT_FOUND
        other = Drawn("hase", "024-7654321", "WONG", "100001")
        assert isinstance(await counter.key(drawn=other), Cheque), "another drawer's"
        await asyncio.sleep(10)
        assert await money(counter) == (BEFORE, 2 * AMOUNT) and (await counter.now(first)).state == HELD

    tell(story)


def test_a_blacklisted_drawer_is_reviewed_and_a_rejected_cheque_is_over() -> None:
    async def story(counter: Counter) -> None:
        entry = [Value(Kind.ACCOUNT, "024-1234567")]
        await counter.rig.core.lists.add(ListName.DEPOSIT_BLACK, entry, "staff_1001", "test")
        cheque = await counter.keyed()
        shown = await counter.procedure(cheque)
        assert shown["state"] == "new(manual_confirm)" and cheque.state == KEYED
        assert (await counter.rig.operate("CashDepositManualReject", shown)).ok
        await asyncio.sleep(5)
        assert (await counter.now(cheque)).state == REJECTED
        await counter.rig.until("2026-03-18 18:00")
        assert (await counter.now(cheque)).banked_at is None and await money(counter) == (BEFORE, 0)
        assert refused(await counter.cheques.bounce(cheque.apply_id, OPS, "late")) is Code.ILLEGAL_STATE

    tell(story)


# Bounced


@pytest.mark.req("DEP-17")
@pytest.mark.parametrize("cleared", [False, True])
def test_a_bounced_cheque_waits_for_a_supervisor_who_takes_the_money_from_where_it_is(cleared: bool) -> None:
    async def story(counter: Counter) -> None:
        cheque = await counter.keyed()
        if cleared:
            await counter.rig.until("2026-03-16 17:01")
        lies = await money(counter)
        assert lies == ((BEFORE + AMOUNT, 0) if cleared else (BEFORE, AMOUNT))
        done = await counter.cheques.bounce(cheque.apply_id, OPS, "refer to drawer")
        assert isinstance(done, Cheque) and (done.state, done.remark) == (BOUNCED, "refer to drawer")
        assert await refunds(counter) == [(cheque.apply_id, 1, AMOUNT, "PENDING_REVERSE")]
        assert counter.alerts("DEP-10") == [f"A{cheque.apply_id}"]
        assert counter.notices() == ["DEPOSIT_OK", "CHEQUE_BOUNCED"]
        await counter.rig.until("2026-03-18 18:00")
        assert await money(counter) == lies, "no machine reverses, and none releases"
        assert (await counter.reverse(cheque)).ok
        assert await money(counter) == (BEFORE, 0) and (await refunds(counter))[0][3] == "REVERSED"
        assert (await counter.now(cheque)).state == BOUNCED
        assert [one["phase"] for one in counter.rig.of_kind("alert", rule="DEP-10")] == ["raised", "cleared"]
        assert (await counter.apply(cheque)).status == ApplyStatus.REVERSED
        assert counter.notices()[-1] == "DEPOSIT_REVERSED", "there is no card to unbind"
        assert refused(await counter.cheques.bounce(cheque.apply_id, OPS, "again")) is Code.ILLEGAL_STATE

    tell(story)


def test_a_cleared_cheque_whose_money_is_gone_is_a_shortfall() -> None:
    async def story(counter: Counter) -> None:
        cheque = await counter.keyed()
        await counter.rig.until("2026-03-16 17:01")
        alice = counter.rig.customer("alice")
        await counter.rig.core.risk_control.debit("spent", alice.trade_acc_ids[0], "HKD", BEFORE + AMOUNT - 1)
        await counter.cheques.bounce(cheque.apply_id, OPS, "refer to drawer")
        assert (await counter.reverse(cheque)).code is Code.INSUFFICIENT_BALANCE
        assert (await refunds(counter))[0][3] == "SHORTFALL" and len(counter.alerts("DEP-07")) == 1

    tell(story, planted=True)


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_cheque_that_bounces_in_review_gets_its_refund_record_when_it_is_credited_after_all(confirmed: bool) -> None:
    async def story(counter: Counter) -> None:
        entry = [Value(Kind.ACCOUNT, "024-1234567")]
        await counter.rig.core.lists.add(ListName.DEPOSIT_BLACK, entry, "staff_1001", "test")
        cheque = await counter.keyed()
        assert isinstance(await counter.cheques.bounce(cheque.apply_id, OPS, "no money"), Cheque)
        assert await refunds(counter) == []
        (warned,) = counter.rig.of_kind("alert", rule="DEP-10")
        assert "reject it" in warned["detail"], "whoever reviews it learns that the bank has given it back"
        name = "CashDepositManualConfirm" if confirmed else "CashDepositManualReject"
        assert (await counter.rig.operate(name, await counter.procedure(cheque))).ok
        await asyncio.sleep(5)
        assert (await counter.now(cheque)).state == BOUNCED
        wanted = [(cheque.apply_id, 1, AMOUNT, "PENDING_REVERSE")] if confirmed else []
        assert await refunds(counter) == wanted
        assert [one["phase"] for one in counter.rig.of_kind("alert", rule="DEP-10")] == [
            "raised", "raised" if confirmed else "cleared"]
        await counter.rig.until("2026-03-18 18:00")
        assert await money(counter) == (BEFORE, AMOUNT if confirmed else 0)

    tell(story)


def test_a_credit_that_gave_up_and_is_made_after_all_clears_its_alert() -> None:
    async def story(counter: Counter) -> None:
        heal = counter.rig.world._inject_rpc("fail", Fault.model_construct(parameters={"call": "sba.create_deposit"}))
        cheque = await counter.key()
        await asyncio.sleep(60)
        assert [one["phase"] for one in counter.rig.of_kind("alert", rule="DEP-03")] == ["raised"]
        heal()
        job = await counter.rig.core.jobs.find("ChequeCredit", f"A{cheque.apply_id}")
        await counter.rig.core.jobs.retry_now(job.id, "staff_1001")
        await asyncio.sleep(5)
        assert (await counter.apply(cheque)).status == ApplyStatus.DONE
        assert [(one["key"], one["phase"]) for one in counter.rig.of_kind("alert", rule="DEP-03")] == [
            (f"A{cheque.apply_id}", "raised"), (f"A{cheque.apply_id}", "cleared")]

    tell(story)


def test_a_cheque_reversed_otherwise_is_not_cleared() -> None:
    async def story(counter: Counter) -> None:
        cheque = await counter.keyed()
        assert (await counter.reverse(cheque)).ok and (await counter.now(cheque)).state == REVERSED
        await counter.rig.until("2026-03-18 18:00")
        assert await money(counter) == (BEFORE, 0) and await refunds(counter) == []

    tell(story)


@pytest.mark.parametrize("role", list(Role))
def test_bouncing_is_for_operations(role: Role) -> None:
    async def story(counter: Counter) -> None:
        cheque = await counter.keyed()
        done = await counter.cheques.bounce(cheque.apply_id, Actor("somebody", role), "why")
        allowed = role in (Role.FRONTLINE, Role.SUPERVISOR)
        assert isinstance(done, Cheque) if allowed else refused(done) is Code.FORBIDDEN
        assert refused(await counter.cheques.bounce(99, OPS, "why")) is Code.NOT_FOUND
        assert refused(await counter.cheques.bounce(cheque.apply_id, OPS, " ")) is Code.INVALID_PARAM

    tell(story)


# A release that fails


@pytest.mark.parametrize(("error", "times"), [(OutcomeUnknown, 2), (CallFailed, 3), (OutcomeUnknown, 99)])
def test_a_release_is_asked_again_then_told(error: type[Exception], times: int) -> None:
    async def story(counter: Counter) -> None:
        cheque, tries = await counter.keyed(), list[int]()
        rpc = counter.cheques._rpc

        async def failing(name: str, function: Any, /, *args: Any) -> Any:
            if name == "risk_control.release":
                tries.append(counter.rig.now_ms)
                if len(tries) <= times:
                    if error is OutcomeUnknown:  # it was done, and its answer is lost
                        await rpc(name, function, *args)
                    raise error("silence")
            return await rpc(name, function, *args)

        counter.cheques._rpc = failing
        await counter.rig.until("2026-03-16 17:05")
        assert (await counter.now(cheque)).state == CLEARED
        assert len(tries) == min(times + 1, 4) and await money(counter) == (BEFORE + AMOUNT, 0)
        assert counter.alerts("DEP-11") == ([f"A{cheque.apply_id}"] if times == 99 else [])

    tell(story)


def test_a_cheque_that_bounces_between_clearing_and_release_is_reversed_from_its_hold() -> None:
    async def story(counter: Counter) -> None:
        cheque = await counter.keyed()
        counter.rig.core.jobs.pause("ChequeRelease")
        await counter.rig.until("2026-03-16 17:01")
        assert (await counter.now(cheque)).state == CLEARED and await money(counter) == (BEFORE, AMOUNT)
        await counter.cheques.bounce(cheque.apply_id, OPS, "late return")
        assert (await counter.reverse(cheque)).ok
        counter.rig.core.jobs.resume("ChequeRelease")
        await asyncio.sleep(60)
        assert await money(counter) == (BEFORE, 0) and counter.alerts("DEP-11") == []

    tell(story)
