"""What customers begin in Airstar's app: pulled, compared with our books, accepted, carried out once (JOB-009…017)."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from chain_watch import CREDITED, PAID, UNTOUCHED, alerts, in_state, job_row, moments, money, runs, told

from core.domain import ApplyStatus, JobState, MandateStatus
from core.errors import Code
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from core.screening import Kind, ListName, Value
from tests.rig import FRONTLINE, SUPERVISOR, Rig, play

FROM_BANK, FETCH, SYNC, ACK = "AsbBstCreateFromBankJob", "FetchBankRequest", "SyncAsbBstWithdraw", "AsbBstAcknowledge"


def asks(rig: Rig, kind: str, amount: int = 1_000_000, ccy: str = "HKD", market: int = 1) -> str:
    """Alice begins a deposit or a withdrawal at the bank: the bank's request id."""
    bank, mandate = rig.world.bank, rig.world.mandates[rig.customer("alice").index]
    ask = bank.customer_deposits if kind == "deposit" else bank.customer_withdraws
    started = ask(mandate, market, ccy, amount)
    assert started.request_id, started
    return str(started.request_id)


def pulls(rig: Rig, direction: str) -> list[float]:
    """Seconds of the day (Hong Kong) at which a list was asked for."""
    return [(event[1] / 1e6 + 8 * 3600) % 86_400 for event in rig.events
            if event[2] == "bank.request" and event[4]["message"] == "bank_requests" and event[3] == direction]


async def the_apply(rig: Rig) -> Any:
    applied = rig.of_kind("apply")
    found = await rig.core.applications.find(applied[-1]["apply"])
    assert found is not None
    return found


@pytest.mark.req("SBA-DEP-027", "JOB-009")
def test_a_deposit_begun_at_the_bank_becomes_a_source_2_deposit_and_is_credited() -> None:
    async def story(rig: Rig) -> None:
        request = asks(rig, "deposit")
        await asyncio.sleep(180)
        apply = await the_apply(rig)
        assert (apply.source, apply.trans_type, apply.request_id, apply.status) == (2, 304, request, ApplyStatus.DONE)
        procedure = await rig.sba.procedure(apply.sba_procedure_id)
        assert procedure is not None
        assert (procedure["source"], procedure["transfer_method"], procedure["bank_ref_id"]) == (
            2, 304, apply.bank_ref_id)
        assert [run["key"] for run in runs(rig, FROM_BANK) if run["state"] == "DONE"] == [request]
        assert not moments(rig, "deposit")
        assert await money(rig) == CREDITED

    play(story, start="2026-03-12 10:01")


@pytest.mark.req("SBA-DEP-027")
def test_a_deposit_asked_for_in_our_app_has_source_1_and_no_from_bank_job() -> None:
    async def story(rig: Rig) -> None:
        await rig.deposit()
        await asyncio.sleep(180)
        assert (await the_apply(rig)).source == 1
        assert not runs(rig, FROM_BANK)

    play(story)


@pytest.mark.req("JOB-010")
@pytest.mark.parametrize("every_s", [120, 300])
def test_requests_are_pulled_every_two_minutes_one_job_each_and_none_for_known_ones(every_s: int) -> None:
    async def story(rig: Rig) -> None:
        wanted = [asks(rig, "deposit", amount) for amount in (100_000, 200_000, 300_000)]
        await asyncio.sleep(3_600)
        pulled = pulls(rig, "IN")
        assert len(pulled) == 3_600 // every_s
        assert {round(b - a) for a, b in pairwise(pulled)} == {every_s}
        assert [run["key"] for run in runs(rig, FROM_BANK) if run["state"] == "READY"] == wanted
        assert len({one["apply"] for one in rig.of_kind("apply")}) == 3
        assert len(rig.paid("collect")) == 3

    play(story, start="2026-03-12 10:01", settings={"jobs.fetch_bank_request.period_s": every_s})


@pytest.mark.req("JOB-009")
def test_a_request_that_cannot_be_accepted_ends_as_an_exception_for_people() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("timeout", message="acknowledge", processed=False)
        request = asks(rig, "deposit")
        await asyncio.sleep(600)
        row = await job_row(rig, FROM_BANK, request)
        assert (row.state, row.retry_count, row.max_retry) == (JobState.EXCEPTION, 3, 3)
        assert [(one["rule"], one["key"]) for one in alerts(rig)] == [("DEP-08", request)]
        assert not rig.of_kind("apply")
        assert await money(rig) == UNTOUCHED

    play(story, start="2026-03-12 10:01")


@pytest.mark.req("JOB-009")
def test_a_request_whose_acceptance_was_lost_on_the_way_back_is_credited_once() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("timeout", message="acknowledge", count=2)
        asks(rig, "deposit")
        await asyncio.sleep(600)
        assert (len(rig.paid("collect")), await money(rig)) == (1, CREDITED)

    play(story, start="2026-03-12 10:01")


def test_a_withdrawal_accepted_at_the_bank_and_then_not_paid_is_told_to_people() -> None:
    """Accepted there in the transaction that makes the Task; the Task's own start then finds the money gone."""
    async def story(rig: Rig) -> None:
        rig.world.rpc.fault("timeout_before", "risk_control.freeze", rig.world.streams("test"))  # both accepted first
        first, second = asks(rig, "withdrawal", 7_000_000), asks(rig, "withdrawal", 7_000_000)
        await asyncio.sleep(65)
        rig.world.rpc.clear("risk_control.freeze")
        await asyncio.sleep(300)
        states = {one["task"]: one["status"] for one in rig.of_kind("task")}
        assert sorted(states.values()) == ["DONE", "REJECTED"]
        assert len(rig.paid()) == 1
        (told_people,) = [one for one in alerts(rig) if one["rule"] == "WD-09"]
        assert told_people["key"] in (first, second) and "70,000.00 HKD" in told_people["detail"]

    play(story, start="2026-03-12 11:59")


@pytest.mark.req("AIR-03")
@pytest.mark.parametrize("kind", ["deposit", "withdrawal"])
def test_a_request_under_an_authorization_that_is_not_open_here_is_refused_at_the_bank(kind: str) -> None:
    async def story(rig: Rig) -> None:
        request = asks(rig, kind)
        await in_state(rig, MandateStatus.SUSPENDED)
        await asyncio.sleep(200)
        assert rig.world.bank._requests[request].status == "REFUSED"
        assert not rig.of_kind("apply") and not rig.of_kind("task") and not rig.of_kind("bank.book")
        assert await money(rig) == UNTOUCHED

    play(story, start="2026-03-12 11:59")


@pytest.mark.req("JOB-016")
@pytest.mark.parametrize("every_s", [7_200, 3_600])
def test_withdrawals_are_pulled_every_two_hours_and_become_procedures_once(every_s: int) -> None:
    async def story(rig: Rig) -> None:
        request = asks(rig, "withdrawal")
        await asyncio.sleep(6 * 3600)
        pulled = pulls(rig, "OUT")
        assert [round(b - a) for a, b in pairwise(pulled)] == [every_s] * (len(pulled) - 1)
        assert len(pulled) == 6 * 3600 // every_s
        created = rig.of_kind("procedure", row="WT-01")
        assert len(created) == 1
        assert {(one["bank_launched"], one["procedure"]) for one in rig.of_kind("task", status="DONE")} == {
            (1, created[0]["id"])}
        procedure = await rig.sba.procedure(created[0]["id"])
        assert procedure is not None and procedure["bank_launched"] == 1
        assert rig.world.bank._requests[request].status == "ACCEPTED"
        assert (len(rig.paid()), await money(rig)) == (1, PAID)

    play(story, start="2026-03-12 09:59", settings={"airstar.sync.pull_s": every_s})


@pytest.mark.req("JOB-016")
def test_a_withdrawal_begun_at_the_bank_that_the_balance_does_not_bear_is_refused_there() -> None:
    async def story(rig: Rig) -> None:
        request = asks(rig, "withdrawal", 10_000_001)
        await asyncio.sleep(120)
        assert rig.world.bank._requests[request].status == "REFUSED"
        assert not rig.of_kind("task")
        assert await money(rig) == UNTOUCHED

    play(story, start="2026-03-12 11:59")


def test_the_instruction_follows_the_acceptance_even_if_that_was_delayed() -> None:
    """The bank refuses a payment for a request that was not accepted yet."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("timeout", message="acknowledge", processed=False, count=2)
        asks(rig, "withdrawal")
        await asyncio.sleep(300)
        assert (len(rig.paid()), await money(rig)) == (1, PAID)

    play(story, start="2026-03-12 11:59")


def test_a_request_that_the_customer_took_back_moves_nothing() -> None:
    async def story(rig: Rig) -> None:
        request = asks(rig, "withdrawal")
        await rig.until("2026-03-12 11:59:59.900")
        rig.world.bank.fault("slow", message="acknowledge", delay_s=0.1)
        assert rig.world.bank.customer_cancels(request)
        await asyncio.sleep(300)
        assert not rig.paid()
        assert await money(rig) == UNTOUCHED

    play(story, start="2026-03-12 11:59")


@pytest.mark.req("JOB-017")
@pytest.mark.parametrize("kind", ["deposit", "withdrawal"])
@pytest.mark.parametrize("fails_for_s", [900, 4 * 3600, 7 * 3600])
def test_a_pull_that_fails_for_long_loses_no_request(kind: str, fails_for_s: int) -> None:
    async def story(rig: Rig) -> None:
        await asyncio.sleep(300)
        rig.world.bank.fault("timeout", message="bank_requests", processed=False, for_s=fails_for_s)
        await asyncio.sleep(30)
        asks(rig, kind)
        await asyncio.sleep(fails_for_s + 2 * 3600 + 300)
        assert len(rig.of_kind("bank.book")) == 1
        assert await money(rig) == (CREDITED if kind == "deposit" else PAID)

    play(story, start="2026-03-12 08:01")


@pytest.mark.req("JOB-017")
@pytest.mark.parametrize("kind", ["deposit", "withdrawal"])
def test_a_request_begun_while_we_were_away_for_hours_is_not_lost(kind: str) -> None:
    async def story(rig: Rig) -> None:
        asks(rig, kind, 100_000)
        await asyncio.sleep(2 * 3600)
        rig.world.kill(5 * 3600 * 1000)
        await asyncio.sleep(60)
        asks(rig, kind)
        await asyncio.sleep(9 * 3600)
        assert [one["amount"] for one in rig.of_kind("bank.book")] == [100_000, 1_000_000]

    play(story, start="2026-03-12 08:01")


@pytest.mark.req("JOB-017")
def test_a_stopped_pull_takes_what_it_missed_when_it_runs_again() -> None:
    async def story(rig: Rig) -> None:
        await asyncio.sleep(300)
        rig.core.timetable.pause(FETCH)
        asks(rig, "deposit")
        await asyncio.sleep(3_600)
        rig.core.timetable.resume(FETCH)
        await asyncio.sleep(300)
        assert await money(rig) == CREDITED

    play(story)


@pytest.mark.parametrize("kind", ["deposit", "withdrawal"])
def test_our_own_instruction_listed_as_a_customers_request_begins_nothing_and_is_reported_once(kind: str) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("duplicate_result")
        await (rig.deposit() if kind == "deposit" else rig.withdraw())
        await asyncio.sleep(3 * 3600)
        assert len(rig.of_kind("bank.book")) == 1
        assert [one["rule"] for one in alerts(rig)] == ["AIRSTAR-11"]
        assert len({one["apply"] for one in rig.of_kind("apply")} | {
            one["task"] for one in rig.of_kind("task")}) == 1
        assert await money(rig) == (CREDITED if kind == "deposit" else PAID)

    play(story)


@pytest.mark.parametrize("answered", ["before the list was asked for", "after it was asked for"])
def test_a_deposit_whose_answer_was_lost_and_that_the_bank_lists_meanwhile_is_credited_once(answered: str) -> None:
    """The bank's list says a customer began it; our own sending is not answered yet, so we cannot know better."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("duplicate_result")
        rig.world.bank.fault("timeout", message="deposit", count=1)
        await rig.until("2026-03-12 10:01:50" if answered.startswith("after") else "2026-03-12 10:01:39")
        await rig.deposit()
        await asyncio.sleep(900)
        assert (len(rig.of_kind("bank.book")), await money(rig)) == (1, CREDITED)
        assert list({one["apply"]: one["status"] for one in rig.of_kind("apply")}.values()) == ["DONE"]
        assert len(alerts(rig, "AIRSTAR-11")) == 1
        assert told(rig, "DEPOSIT_OK") == 1

    play(story, start="2026-03-12 10:01")


def test_a_deposit_begun_at_the_bank_and_listed_twice_is_credited_once() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("duplicate_result")
        asks(rig, "deposit")
        await asyncio.sleep(3_600)
        assert (len(rig.of_kind("bank.book")), await money(rig)) == (1, CREDITED)
        assert told(rig, "DEPOSIT_OK") == 1

    play(story)


@pytest.mark.req("DEP-13")
@pytest.mark.parametrize("begun", ["in the App", "at the bank"])
def test_a_refund_before_the_credit_ends_the_deposit_without_a_reversal(begun: str) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("refunded_before_credit")
        if begun == "in the App":
            await rig.deposit()
        else:
            asks(rig, "deposit")
        await asyncio.sleep(400)
        applies = rig.of_kind("apply")
        assert applies[-1]["status"] == "REFUNDED" and rig.of_kind("procedure") == []
        assert await rig.core.applications.refund_of(applies[-1]["apply"]) in (None, "NOT_CREDITED")
        assert (await rig.money()).available == 10_000_000
        assert [one["event"] for one in rig.of_kind("notify")] == ["DEPOSIT_REFUNDED"]

    play(story)


@pytest.mark.req("DEP-14", "DEP-15")
@pytest.mark.parametrize("bears", [True, False])
def test_a_refund_after_the_credit_changes_the_balance_only_when_a_supervisor_reverses(bears: bool) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("refunded_after_credit", refund_s=60)
        apply = await rig.deposit()
        await asyncio.sleep(86_400)
        assert (await rig.money()).available == 11_000_000
        assert await rig.core.applications.refund_of(apply.id) == "PENDING_REVERSE"
        assert len(alerts(rig, "AIRSTAR-05")) == 1
        if not bears:
            account = rig.customer("alice").trade_acc_ids[0]
            await rig.core.risk_control.debit("spent", account, "HKD", 10_000_001)
        shown = await rig.of_apply(apply.id)
        assert shown is not None
        refused = await rig.operate("CashDepositReverse", shown, FRONTLINE, confirmations=REVERSE_CONFIRMATIONS)
        assert refused.code is Code.FORBIDDEN
        reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR, confirmations=REVERSE_CONFIRMATIONS)
        assert reply.ok == bears
        await asyncio.sleep(5)
        assert await rig.core.applications.refund_of(apply.id) == ("REVERSED" if bears else "SHORTFALL")
        assert (await rig.money()).available == (10_000_000 if bears else 999_999)
        assert [one["severity"] for one in alerts(rig, "DEP-07")] == ([] if bears else ["Critical"])

    play(story, planted=not bears)


@pytest.mark.parametrize("when", ["between result and credit", "after the credit"])
def test_a_refund_is_noted_for_a_supervisor_whenever_it_comes(when: str) -> None:
    """The bank takes the money back before our accounting has run: the credit that follows must be reversed."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("refunded_after_credit", refund_s=60)
        if when == "between result and credit":
            rig.world.rpc.fault("timeout_before", "sba.create_deposit", rig.world.streams("test"))
        apply = await rig.deposit()
        await asyncio.sleep(400)
        rig.world.rpc.clear("sba.create_deposit")
        credit = await job_row(rig, "AsbBstDepositJob", f"A{apply.id}")
        if credit.state is JobState.EXCEPTION:
            await rig.core.jobs.retry_now(credit.id, "staff_1001")
        await asyncio.sleep(30)
        assert await rig.core.applications.refund_of(apply.id) == "PENDING_REVERSE"
        assert len(alerts(rig, "AIRSTAR-05")) == 1
        assert told(rig, "DEPOSIT_REFUNDED") == 1

    play(story, start="2026-03-12 10:01")


def test_a_deposit_refunded_while_it_is_reviewed_and_then_rejected_leaves_nothing_to_reverse() -> None:
    async def story(rig: Rig) -> None:
        uid = str(rig.customer("alice").uid)
        await rig.core.lists.add(ListName.DEPOSIT_BLACK, [Value(Kind.UID, uid)], "staff_1001", "test")
        rig.world.bank.fault("refunded_after_credit", refund_s=60)
        apply = await rig.deposit()
        await asyncio.sleep(400)
        assert await rig.core.applications.refund_of(apply.id) == "PENDING_REVERSE"
        shown = await rig.of_apply(apply.id)
        assert shown is not None and (await rig.operate("CashDepositManualReject", shown)).ok
        await asyncio.sleep(30)
        assert await rig.core.applications.refund_of(apply.id) == "NOT_CREDITED"

    play(story, start="2026-03-12 10:01")


@pytest.mark.req("WIN-10")
def test_a_deposit_begun_just_before_the_window_closed_is_credited_after_it() -> None:
    async def story(rig: Rig) -> None:
        asks(rig, "deposit")
        await asyncio.sleep(300)
        assert await money(rig) == CREDITED

    play(story, start="2026-03-12 21:59:30")
