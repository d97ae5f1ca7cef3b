"""eDDI deposits from the App to the credit: refusals, results at T+0 and T+1, faults, crashes (B-25, A-29, A-48)."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections import Counter
from datetime import date, datetime
from itertools import pairwise
from typing import Any

import pytest
from edda_world import World, play
from sqlalchemy import func, select

import core.withdrawals
from core.calendars import Override
from core.clock import epoch_ms
from core.domain import ApplyStatus, DepositType, EddaStatus, Market, Role
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from core.orchestration.requests import WithdrawRequest
from core.screening import Kind, ListName, Value
from core.storage import Statement
from core.storage.primary import matches, refund
from core.storage.procedure import proc_cash_deposit
from core.storage.sharding import SHARDS
from core.transfer import CHANNELS
from core.wire.edda import AuthorisationStatus
from emulators.edda.faults import FAULTS, HSBC_ONLY

BANKS = ("hsbc", "hase")
REFUNDS = Statement(select(refund.c.apply_id, refund.c.state, refund.c.source).order_by(refund.c.id))
PROCEDURES = Statement(select(
    proc_cash_deposit.c.transaction_id, proc_cash_deposit.c.transfer_method, proc_cash_deposit.c.deposit_type,
    proc_cash_deposit.c.amount, proc_cash_deposit.c.hold_type).order_by(proc_cash_deposit.c.procedure_id))


async def credited(world: World) -> list[int]:
    """Amounts that risk control has added for the customers, by customer."""
    risk = world.here.core.risk_control
    return [(await risk.balances(of.trade_acc_ids[0], "HKD")).available for of in world.customers]


# --- the whole way ----------------------------------------------------------------------------------------------


@pytest.mark.req("STMT-09", "JOB-026", "JOB-027", "LAT-10")
@pytest.mark.parametrize(("bank", "trans_type"), [("hsbc", 251), ("hase", 252)])
@pytest.mark.parametrize("wire", ["messages", "full"])
def test_a_debit_is_sent_polled_and_credited_once_without_matching(bank: str, trans_type: int, wire: str) -> None:
    async def story(world: World) -> None:
        apply = await world.debit(bank, amount=123_450)
        await asyncio.sleep(580)
        assert await world.states(bank) == {"processing": 1}
        assert (await world.apply(apply.id)).status == ApplyStatus.INIT and await credited(world) == [0]
        await asyncio.sleep(1_200)
        done = await world.apply(apply.id)
        assert (done.status, done.trans_type, done.bank_type) == (ApplyStatus.DONE, trans_type, f"{bank}_eddi")
        messages = [data["message"] for data in world.of_kind("bank.request", bank=f"{bank}_eddi")]
        assert messages[0] == "create_debit" and set(messages[1:]) == {"query_debit"}
        assert not world.of_kind("bank.push")  # the bank tells nothing by itself
        for job in ("EddiResultQuery", "EddiDepositProcess", "EddiResultQuery"):
            await world.run(job)
        assert await credited(world) == [123_450]
        assert await world.databases.procedure.all(PROCEDURES, {}) == [
            (f"{bank}_eddi:{done.request_id}", trans_type, int(DepositType.TRANS_AUTO), 123_450, None)]
        count = [await world.databases.primary.first(Statement(select(func.count()).select_from(matches[shard])), {})
                 for shard in SHARDS]
        assert sum(row[0] for row in count) == 0

    play(story, wire=wire)


@pytest.mark.req("JOB-027")
def test_nothing_is_credited_before_the_bank_confirmed_success() -> None:
    async def story(world: World) -> None:
        world.banks["hsbc"].bank.fault("result_missing")  # the money has moved, and the bank does not say so
        await world.debit("hsbc")
        await world.until("2026-03-12 17:55")
        assert world.collected() and await credited(world) == [0]

    play(story)


@pytest.mark.req("LAT-04")
@pytest.mark.parametrize(("bank", "share"), [("hsbc", 0.7), ("hase", 0.5)])
def test_deposits_are_credited_between_t_0_and_t_1(bank: str, share: float) -> None:
    """A Thursday's debits with the documented delays: by the evening a share of them, all by Friday 18:05."""
    count = 60

    async def story(world: World) -> None:
        made = [await world.debit(bank, index) for index in range(count)]
        await world.until("2026-03-13 00:00")
        today = sum(amount > 0 for amount in await credited(world))
        assert abs(today / count - share) < 0.2
        await world.until("2026-03-13 18:05")
        assert await credited(world) == [100_000] * count
        assert {(await world.apply(apply.id)).status for apply in made} == {ApplyStatus.DONE}
        assert not world.alerts("EDDI-01")

    play(story, customers=count, settings={"sim.edda.result.same_day": {"hsbc": 0.7, "hase": 0.5},
                                           "sim.edda.result.delay": [60.0, 7_200.0]})


@pytest.mark.req("EDDA-01")
def test_direct_debit_is_no_way_of_a_withdrawal() -> None:
    """No channel, no room of a core, no module of the withdrawals knows it; asked for all the same, SBA refuses it."""
    assert not [key for key, channel in CHANNELS.items() if "edd" in f"{key} {channel.name} {channel.kind}".lower()]
    modules = [importlib.import_module(f"core.withdrawals.{found.name}")
               for found in pkgutil.iter_modules(core.withdrawals.__path__)]
    assert not [name for module in modules for name in vars(module) if "edd" in name.lower()]

    async def story(world: World) -> None:
        assert not {"hsbc_eddi", "hase_eddi"} & world.here.core.withdrawals_at.keys()
        of = world.customers[0]
        for method in ("hsbc_eddi", "hase_eddi", "eddi", "edda"):
            reply = await world.here.core.sba.create_withdrawal(WithdrawRequest(
                rpc_request_id=f"w-{method}", task_id=1, nn_uid=of.uid, trade_acc_id=of.trade_acc_ids[0], market=1,
                ccy="HKD", amount=100, transfer_method=method, transfer_dest_bank="hsbc", transfer_dest_card="1",
                hold_id=f"H-{method}", settled_amount=100))
            assert reply.code is Code.INVALID_PARAM

    play(story)


# --- refused before the bank is called --------------------------------------------------------------------------


@pytest.mark.req("EDDA-09")
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("status", [*EddaStatus, None])
def test_a_debit_without_an_active_authorisation_never_reaches_the_bank(bank: str, status: EddaStatus | None) -> None:
    async def story(world: World) -> None:
        if status is not None:
            await world.authorisations(bank).adopt(
                world.customers[0].uid, world.card(bank), world.debtor(0, bank), "M1", status)
        made = await world.debit(bank)
        assert isinstance(made, Refusal) is (status is not EddaStatus.ACTIVE)
        if isinstance(made, Refusal):
            assert made.code is Code.BLOCKED
            await asyncio.sleep(60)
            assert not world.of_kind("bank.request", message="create_debit") and not world.of_kind("apply")

    play(story, enrolled=False)


@pytest.mark.parametrize(("more", "code"), [
    ({"amount": 100_000_001}, Code.INVALID_PARAM), ({"amount": 0}, Code.INVALID_PARAM),
    ({"ccy": "USD"}, Code.INVALID_PARAM), ({"ccy": "CNH"}, Code.INVALID_PARAM)])
def test_amount_and_currency_are_checked_before_the_bank_is_called(more: dict[str, Any], code: Code) -> None:
    async def story(world: World) -> None:
        made = await world.debit("hsbc", **more)
        assert isinstance(made, Refusal) and made.code is code
        largest = await world.debit("hsbc", amount=100_000_000)  # HKD 1,000,000
        assert not isinstance(largest, Refusal)

    play(story)


def test_an_authorisation_bears_its_own_limit_until_its_expiry() -> None:
    async def story(world: World) -> None:
        world.banks["hsbc"].bank.open_debtor("c0", "hsbc", world.debtor().account, world.customers[0].name, {})
        await world.authorisations("hsbc").begin(
            world.customers[0].uid, world.card("hsbc"), world.debtor(), limit=5_000, expiry=20260312)
        await asyncio.sleep(900)
        assert isinstance(await world.debit("hsbc", amount=5_001), Refusal)
        assert not isinstance(await world.debit("hsbc", amount=5_000), Refusal)
        await world.until("2026-03-13 10:00")
        assert isinstance(await world.debit("hsbc", amount=5_000), Refusal)

    play(story, enrolled=False)


# --- what may become of a debit ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["AC04", "AM04", "MD01"])
@pytest.mark.parametrize("bank", BANKS)
def test_a_debit_that_fails_ends_the_application_and_tells_the_customer(bank: str, reason: str) -> None:
    async def story(world: World) -> None:
        of = world.banks[bank].bank
        apply = await world.debit(bank)
        await asyncio.sleep(30)
        if reason == "AC04":
            of.close_account("c0")
        elif reason == "AM04":
            of.book.move(of.book.account("c0", "HKD"), of.book.account("outside", "HKD"), 1_000_000_000)
        else:
            of.set_status(world.banks[bank].mandates[0], AuthorisationStatus.CANCELLED)
        await asyncio.sleep(1_200)
        ended = await world.apply(apply.id)
        assert (ended.status, ended.fail_code) == (ApplyStatus.REJECTED, reason)
        assert "DEPOSIT_FAILED" in [data["event"] for data in world.of_kind("notify")]
        assert await credited(world) == [0] and not world.collected()
        one = await world.authorisations(bank).of_card(world.card(bank))
        assert (one.status == EddaStatus.CANCELLED) is (reason == "MD01")  # asked at once, not tomorrow morning

    play(story)


def test_a_debit_that_the_bank_refuses_at_once_ends_the_application() -> None:
    async def story(world: World) -> None:
        world.banks["hase"].bank.close_account("c0")
        apply = await world.debit("hase")
        await asyncio.sleep(5)
        assert (await world.apply(apply.id)).status == ApplyStatus.REJECTED
        assert await world.states("hase") == {"failed": 1}
        other = await world.debit("hase", 1)
        await asyncio.sleep(5)
        assert (await world.apply(other.id)).request_id  # it held up nobody

    play(story, customers=2)


@pytest.mark.parametrize(("return_s", "apply_status", "refund_state"), [
    (1.0, ApplyStatus.REFUNDED, "NOT_CREDITED"), (7_200.0, ApplyStatus.DONE, "PENDING_REVERSE")])
def test_a_returned_debit_is_not_credited_or_waits_for_a_person_to_reverse_it(
    return_s: float, apply_status: ApplyStatus, refund_state: str
) -> None:
    async def story(world: World) -> None:
        world.banks["hsbc"].bank.fault("returned", return_s=return_s)
        apply = await world.debit("hsbc")
        await world.until("2026-03-12 15:00")
        assert await world.states("hsbc") == {"returned": 1}
        assert (await world.apply(apply.id)).status == apply_status
        assert await world.databases.primary.all(REFUNDS, {}) == [(apply.id, refund_state, "hsbc_eddi")]
        assert len(world.alerts("EDDI-03")) == 1
        assert await credited(world) == [0 if apply_status is ApplyStatus.REFUNDED else 100_000]

    play(story, settings={"sim.edda.result.delay": [900.0, 900.0]})


@pytest.mark.parametrize(("operation", "refund_state"), [
    ("CashDepositManualReject", "NOT_CREDITED"), ("CashDepositManualConfirm", "PENDING_REVERSE")])
def test_of_a_debit_returned_while_it_is_reviewed_only_a_credit_is_left_to_reverse(
    operation: str, refund_state: str
) -> None:
    async def story(world: World) -> None:
        core, uid = world.here.core, world.customers[0].uid
        await core.lists.add(ListName.DEPOSIT_BLACK, [Value(Kind.UID, str(uid))], "staff_3001", "test")
        world.banks["hsbc"].bank.fault("returned", return_s=5_400)
        apply = await world.debit("hsbc")
        await world.until("2026-03-12 15:00")
        shown = await core.sba.procedure((await world.apply(apply.id)).sba_procedure_id or 0)
        assert shown is not None and shown["state"] == "new(manual_confirm)"
        assert await world.states("hsbc") == {"returned": 1}
        reply = await core.operate(operation, shown["id"], version=shown["version"], rpc_request_id="r1",
                                   by=Actor("staff_3001", Role.SUPERVISOR), remark="test")
        assert reply.ok, reply
        await asyncio.sleep(60)
        assert await world.databases.primary.all(REFUNDS, {}) == [(apply.id, refund_state, "hsbc_eddi")]

    play(story)


def test_a_result_that_is_overdue_alarms_once_after_t_1_18_00_and_people_may_ask_again() -> None:
    async def story(world: World) -> None:
        bank = world.banks["hase"].bank
        bank.fault("result_missing")
        apply = await world.debit("hase")
        await world.until("2026-03-13 17:59")
        assert not world.alerts("EDDI-01")
        asked = len(world.of_kind("bank.request", message="query_debit"))
        await world.until("2026-03-16 12:00")
        assert len(world.alerts("EDDI-01")) == 1
        assert len(world.of_kind("bank.request", message="query_debit")) <= asked + 2  # after T+1 18:00 once a day
        assert bank.publish((await world.apply(apply.id)).request_id)
        assert await world.deposits("hase").query_bank(apply.id, "staff_1001") is Code.OK
        await asyncio.sleep(301)
        assert (await world.apply(apply.id)).status == ApplyStatus.DONE

    play(story)


# --- three days -------------------------------------------------------------------------------------------------

EASTER, NEW_YEAR = "2026-04-02 16:30", "2026-02-16 16:30"
"""After the session of the eve; the next one is on Wednesday 8 April, on Friday 20 February."""
AWAY: dict[str, Any] = {"edda.send.refused_s": 900}
"""A bank that takes nothing for days is not asked each second."""


@pytest.mark.req("JOB-024")
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize(("begun", "days", "kept", "gone"), [
    ("2026-03-12 16:30", 3, "2026-03-15 16:29", "2026-03-16 01:01"),
    ("2026-03-13 16:30", 3, "2026-03-16 15:59", "2026-03-17 01:01"),
    ("2026-03-13 16:30", 1, "2026-03-16 15:59", "2026-03-17 01:01"),  # a weekend is no day for an answer either
    ("2026-03-12 10:00", 1, "2026-03-13 15:59", "2026-03-14 01:01"),  # nor is what is left of a session
    (EASTER, 3, "2026-04-08 15:59", "2026-04-09 01:01"), (NEW_YEAR, 3, "2026-02-20 15:59", "2026-02-21 01:01"),
    (EASTER, 7, "2026-04-09 16:29", "2026-04-10 01:01")])
def test_a_debit_that_the_bank_never_got_is_rejected_after_its_days_and_a_session_and_not_earlier(
    bank: str, begun: str, days: int, kept: str, gone: str
) -> None:
    async def story(world: World) -> None:
        world.banks[bank].bank.fault("outage", answer="maintenance", for_s=10 * 86_400.0)
        apply = await world.debit(bank)
        await world.until(kept)
        assert await world.run("ApplyTimeoutReject") == 0
        assert (await world.apply(apply.id)).status == ApplyStatus.INIT
        await world.until(gone)
        ended = await world.apply(apply.id)
        assert (ended.status, ended.reject_reason) == (ApplyStatus.REJECTED, "TIMEOUT")
        assert [debit.reason for debit in await world.debits(bank)] == ["TIMEOUT"]
        assert [one["detail"] for one in world.of_kind("notify", event="DEPOSIT_REJECT")] == ["TIMEOUT"]
        sent = len(world.of_kind("bank.request", message="create_debit"))
        await asyncio.sleep(86_400)
        assert len(world.of_kind("bank.request", message="create_debit")) == sent and world.collected() == []

    play(story, start=begun, settings=AWAY | {
        "deposit.timeout_days.by_bank": {"hsbc_eddi": days, "hase_eddi": days}})


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize(("eve", "opening"), [(EASTER, "2026-04-08 07:00"), (NEW_YEAR, "2026-02-20 07:00")])
def test_a_debit_of_the_eve_of_a_long_holiday_is_sent_when_its_bank_opens_again(
    bank: str, eve: str, opening: str
) -> None:
    async def story(world: World) -> None:
        apply = await world.debit(bank)
        await world.until(opening)
        assert (await world.apply(apply.id)).status == ApplyStatus.INIT and world.collected() == []
        await asyncio.sleep(3_600)
        assert (await world.apply(apply.id)).status == ApplyStatus.DONE
        assert world.collected() == [apply.bank_ref_id] and world.of_kind("notify", event="DEPOSIT_REJECT") == []

    play(story, start=eve)


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize(("reason", "status"), [("", ApplyStatus.DONE), ("AC04", ApplyStatus.REJECTED)])
def test_a_debit_that_the_bank_works_on_is_asked_for_each_day_and_ends_as_the_bank_says(
    bank: str, reason: str, status: ApplyStatus
) -> None:
    async def story(world: World) -> None:
        of = world.banks[bank].bank
        of.fault("result_missing")
        apply = await world.debit(bank)
        await asyncio.sleep(30)
        if reason:
            of.close_account("c0")
        await world.until("2026-03-16 00:59")
        asked = len(world.of_kind("bank.request", message="query_debit"))
        await world.until("2026-03-20 00:30")
        assert len(world.of_kind("bank.request", message="query_debit")) == asked + 4  # Monday to Thursday
        assert (await world.apply(apply.id)).status == ApplyStatus.INIT and len(world.alerts("EDDI-01")) == 1
        assert of.publish((await world.apply(apply.id)).request_id)
        await world.until("2026-03-20 01:10")
        ended = await world.apply(apply.id)
        assert (ended.status, ended.fail_code) == (status, reason)
        assert await credited(world) == [0 if reason else 100_000]

    play(story)


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("processed", [True, False])
def test_a_debit_that_the_bank_may_have_is_never_rejected_by_time(bank: str, processed: bool) -> None:
    """It is sent on under its reference, and debited once."""
    async def story(world: World) -> None:
        fault = world.banks[bank].bank.fault("timeout", count=10**6, processed=processed)
        apply = await world.debit(bank)
        await world.until("2026-03-16 06:00")
        assert await world.run("ApplyTimeoutReject") == 0
        assert (await world.apply(apply.id)).status == ApplyStatus.INIT and await world.states(bank) == {"submitted": 1}
        assert len(world.alerts("EDDI-01")) == 1
        world.banks[bank].bank.clear(fault)
        await world.until("2026-03-17 01:10")
        assert (await world.apply(apply.id)).status == ApplyStatus.DONE and len(world.collected()) == 1

    play(story)


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("known_from", ["05:00", "11:00"])
def test_a_session_that_is_called_off_or_broken_off_counts_for_nothing(bank: str, known_from: str) -> None:
    """A typhoon on the Monday after the request."""
    async def story(world: World) -> None:
        assert isinstance(world.calendars.add_override(
            Market.HK, date(2026, 3, 16), False, operator="staff_5001", role=Role.SETTLEMENT,
            known_from_ms=epoch_ms(datetime.fromisoformat(f"2026-03-16 {known_from}"))), Override)
        fault = world.banks[bank].bank.fault("outage", answer="maintenance", for_s=10 * 86_400.0)
        apply = await world.debit(bank)
        await world.until("2026-03-17 06:00")
        assert (await world.apply(apply.id)).status == ApplyStatus.INIT
        world.banks[bank].bank.clear(fault)
        await world.until("2026-03-17 08:00")
        assert (await world.apply(apply.id)).status == ApplyStatus.DONE and world.collected() == [apply.bank_ref_id]

    play(story, start="2026-03-13 16:30", settings=AWAY)


@pytest.mark.parametrize("late_ms", [0, 1])
def test_of_a_sending_and_the_rejection_at_the_same_moment_one_is_written(late_ms: int) -> None:
    """The opening of the session and the job fall together; on the day before the bank took nothing."""
    async def story(world: World) -> None:
        world.banks["hase"].bank.fault("outage", answer="maintenance", for_s=6 * 86_400.0)
        apply = await world.debit("hase")
        await world.until("2026-04-09 00:59")
        assert await world.states("hase") == {"new_blank": 1}
        world.here.core.timetable.pause("ApplyTimeoutReject")
        await world.until("2026-04-09 07:00")
        await asyncio.sleep(late_ms / 1000)
        rejected = await world.run("ApplyTimeoutReject")
        await asyncio.sleep(1_200)
        status = (await world.apply(apply.id)).status
        assert status == (ApplyStatus.REJECTED if rejected else ApplyStatus.DONE)
        assert len(world.collected()) == 1 - rejected and await credited(world) == [0 if rejected else 100_000]

    play(story, start=EASTER, settings=AWAY)


def test_a_success_over_another_amount_is_not_credited_and_alarms() -> None:
    async def story(world: World) -> None:
        apply = await world.debit("hsbc")
        await asyncio.sleep(30)
        (debit,) = world.banks["hsbc"].bank._debits.values()
        debit.amount = 90_000
        await asyncio.sleep(1_200)
        assert await credited(world) == [0] and world.alerts("EDDI-04")
        assert (await world.apply(apply.id)).status == ApplyStatus.INIT

    play(story)


# --- faults and crashes -----------------------------------------------------------------------------------------

HANDS: dict[str, dict[str, Any]] = {"outage": {"for_s": 900.0}, "rate": {"for_s": 30.0}, "busy": {"for_s": 30.0},
                                    "result_missing": {"until_s": 3_600.0}, "slow": {"delay_s": 20.0, "count": 3},
                                    "timeout": {"count": 3}}
UNLIKE = {"fail_with": ApplyStatus.REJECTED, "mandate_cancelled_midflight": ApplyStatus.REJECTED}


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize(("fault", "more"), [
    *((name, HANDS.get(name, {"count": 3})) for name in FAULTS if name not in HSBC_ONLY),
    ("timeout", {"processed": False, "count": 3}), ("outage", {"answer": "maintenance", "for_s": 900.0})])
def test_after_every_fault_each_debit_ends_and_our_books_agree_with_the_banks(
    bank: str, fault: str, more: dict[str, Any]
) -> None:
    async def story(world: World) -> None:
        of = world.banks[bank].bank
        of.fault(fault, **more)
        made = [await world.debit(bank, index) for index in range(4)]
        await world.until("2026-03-13 18:05")
        states = [(await world.apply(apply.id)).status for apply in made]
        assert set(states) <= {ApplyStatus.DONE, ApplyStatus.REJECTED, ApplyStatus.REFUNDED}, states
        if fault in UNLIKE:
            assert states.count(UNLIKE[fault]) == 3 and states.count(ApplyStatus.DONE) == 1
        elif fault != "returned":
            assert set(states) == {ApplyStatus.DONE}
        done = Counter(data["ref"] for data in world.of_kind("bank.book", op="collect"))
        assert set(done.values()) <= {1}
        assert {apply.bank_ref_id for apply, status in zip(made, states, strict=True)
                if status == ApplyStatus.DONE} <= set(done)
        assert await credited(world) == [100_000 if status == ApplyStatus.DONE else 0 for status in states]
        held = 100_000 * len(done) - 100_000 * len(world.of_kind("bank.book", op="refund_collect"))
        assert of.balance("broker", "HKD") == held

    play(story, customers=4)


@pytest.mark.parametrize("bank", ["hsbc", pytest.param("hase", marks=pytest.mark.req("EDDA-05"))])
@pytest.mark.parametrize("message", ["create_debit", "query_debit"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_core_that_dies_before_it_hears_the_answer_debits_and_credits_once(bank: str, message: str, nth: int) -> None:
    async def story(world: World) -> None:
        traps = world.banks[bank]._site.traps
        for _ in range(nth):
            traps.arm(f"{bank}_eddi.{message}", 1_000, 1)
        made = [await world.debit(bank, index) for index in range(3)]
        for _ in range(60 + 60 * nth):  # a dead core's lock on a job is free after three periods
            if world.here.life.over:
                await asyncio.sleep(1)
                await world.restart()
            await asyncio.sleep(60)
        for apply in made:
            assert (await world.apply(apply.id)).status == ApplyStatus.DONE
        assert world.lives > 1
        assert await credited(world) == [100_000] * 3
        assert sorted(world.collected()) == sorted(apply.bank_ref_id for apply in made)
        assert world.banks[bank].bank.refused_at_the_door == 0
        if bank == "hase":  # strictly in the order of their numbers, whichever core sends them
            ids = [debit.id for debit in sorted(await world.debits(bank))]
            assert [int(ref[-10:]) for ref in world.banks[bank].bank.order] == ids and len(ids) == 3

    play(story, customers=3)


def test_a_refusal_at_the_door_tells_nothing_of_a_sending_before_it() -> None:
    """The answer to the first sending is lost, the second meets 429: still in doubt, not back in the queue."""

    async def story(world: World) -> None:
        bank = world.banks["hsbc"].bank
        bank.fault("timeout", count=1)
        await world.debit("hsbc")
        await asyncio.sleep(12)
        bank.fault("rate", for_s=5.0)
        await asyncio.sleep(5)
        assert await world.states("hsbc") == {"submitted": 1}
        await asyncio.sleep(30)
        assert await world.states("hsbc") == {"processing": 1} and len(bank.order) == 1

    play(story)


def test_three_sendings_without_an_answer_alarm_once() -> None:
    async def story(world: World) -> None:
        world.banks["hase"].bank.fault("outage", for_s=1_800.0)
        await world.debit("hase")
        await asyncio.sleep(1_200)
        assert len(world.alerts("EDDI-02")) == 1

    play(story)


@pytest.mark.req("JOB-029")
def test_direct_debits_are_asked_about_less_often_than_airstar() -> None:
    async def story(world: World) -> None:
        await world.debit("hsbc")
        await asyncio.sleep(7_100)
        moments = [t_us / 1e6 for _, t_us, kind, _, data in world.events
                   if kind == "bank.request" and data["message"] == "query_debit"]
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert min(gaps) * 1_000 > 100 * world.settings["airstar.poll.deposit.interval_ms"]

    play(story, settings={"sim.edda.result.delay": [7_000.0, 7_000.0]})


def test_one_bank_away_leaves_the_other_working() -> None:
    """ADR-006: HSBC answers nothing at all, Hang Seng's deposits are credited as ever."""

    async def story(world: World) -> None:
        world.banks["hsbc"].bank.fault("outage", for_s=36_000.0)
        away, there = await world.debit("hsbc"), await world.debit("hase")
        await asyncio.sleep(1_800)
        assert (await world.apply(there.id)).status == ApplyStatus.DONE
        assert (await world.apply(away.id)).status == ApplyStatus.INIT

    play(story)
