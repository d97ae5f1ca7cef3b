"""The Airstar deposit chain: create, poll, credit, and each way it can stop (orchestration.md §5.1; JOB-002…009)."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from chain_watch import CREDITED, UNTOUCHED, alerts, in_state, job_row, moments, money, runs, status, told

from core.deposits.applications import Apply
from core.domain import ApplyStatus, DepositType, JobState, MandateStatus
from core.errors import Code
from tests.rig import Refusal, Rig, play

CREATE, RESULT, RETRY, CREDIT = "AsbBstCreateJob", "AsbBstCreateResultJob", "AsbBstCreateRetryJob", "AsbBstDepositJob"


async def credited(rig: Rig, **asked: Any) -> tuple[Apply, dict[str, Any]]:
    apply = await rig.deposit(**asked)
    shown = await rig.reach(lambda: rig.of_apply(apply.id), "end_ok(deposit_ok)")
    await asyncio.sleep(1)
    latest = await rig.core.applications.find(apply.id)
    assert latest is not None
    return latest, shown


@pytest.mark.req("JOB-002", "JOB-006")
def test_a_deposit_is_sent_once_polled_and_credited_when_the_bank_says_success() -> None:
    async def story(rig: Rig) -> None:
        apply, shown = await credited(rig)
        assert len(moments(rig, "deposit")) == 1
        assert apply.request_id and apply.request_id == rig.of_kind("bank.book")[0]["request_id"]
        assert [run["state"] for run in runs(rig, CREATE)] == ["READY", "DONE"]
        assert [run["state"] for run in runs(rig, CREDIT)] == ["READY", "DONE"]
        assert (apply.status, apply.sba_procedure_id, apply.credited_amount) == (
            ApplyStatus.DONE, shown["id"], 1_000_000)
        assert (shown["deposit_type"], shown["transfer_method"], shown["transaction_id"], shown["source"]) == (
            DepositType.TRANS_AUTO, 303, apply.request_id, 1)
        assert await money(rig) == CREDITED
        assert told(rig, "DEPOSIT_OK") == 1

    play(story)


@pytest.mark.req("JOB-006")
def test_nothing_is_credited_before_the_bank_says_success() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("slow", message="query_deposit", delay_s=2.5)  # SUCCESS is known at the bank, not here
        await rig.deposit()
        while not any(reply["outcome"] == "SUCCESS" for reply in rig.of_kind("bank.reply", message="query_deposit")):
            assert not runs(rig, CREDIT) and not rig.of_kind("procedure")
            assert await money(rig) == UNTOUCHED
            await asyncio.sleep(0.1)
        assert rig.of_kind("bank.book")
        await asyncio.sleep(5)
        assert await money(rig) == CREDITED

    play(story)


@pytest.mark.req("JOB-002")
@pytest.mark.parametrize("code", [140630001, 140630005, 140630007, 140630014])
def test_a_refused_creation_marks_the_apply_failed_and_tells_the_user(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="deposit")
        apply = await rig.deposit()
        await asyncio.sleep(900)
        failed = await rig.core.applications.find(apply.id)
        assert failed is not None
        assert (failed.status, failed.fail_code, failed.reject_reason) == (
            ApplyStatus.REJECTED, str(code), "BANK_REJECTED")
        assert told(rig, "DEPOSIT_FAILED") == 1
        assert (await job_row(rig, CREATE, f"A{apply.id}")).state is JobState.FAILED
        assert len(moments(rig, "deposit")) == 1
        assert await money(rig) == UNTOUCHED

    play(story)


@pytest.mark.req("JOB-003", "JOB-004", "STMT-08")
@pytest.mark.parametrize(("every_ms", "most"), [(3_000, 60), (4_000, 7)], ids=["as documented", "as set"])
def test_polls_start_at_a_fixed_rate_and_end_in_an_exception_with_an_alert(every_ms: int, most: int) -> None:
    """Poll k at t0 + 3k, k = 1…60 (A-41); then nothing more, for hours."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=True)
        apply = await rig.deposit()
        await asyncio.sleep(4 * 3600)
        polls = moments(rig, "query_deposit")
        assert polls == [pytest.approx(every_ms / 1000 * k, abs=0.002) for k in range(most)]
        row = await job_row(rig, RESULT, f"A{apply.id}:{apply.bank_ref_id}")
        assert (row.state, row.retry_count, row.max_retry) == (JobState.EXCEPTION, most, most)
        raised = alerts(rig, "AIRSTAR-04")
        assert [(one["severity"], one["key"]) for one in raised] == [("High", f"A{apply.id}")]
        assert (await status(rig, apply.id), await money(rig)) == ("INIT", UNTOUCHED)
        assert not rig.of_kind("notify")

    play(story, settings={"airstar.poll.deposit.interval_ms": every_ms, "airstar.poll.deposit.max": most})


@pytest.mark.req("JOB-003")
def test_the_first_poll_comes_one_interval_after_the_bank_has_answered() -> None:
    async def story(rig: Rig) -> None:
        await rig.deposit()
        await asyncio.sleep(20)
        answered = next(event for event in rig.events if event[2] == "bank.reply" and event[4]["message"] == "deposit")
        asked = next(event for event in rig.events
                     if event[2] == "bank.request" and event[4]["message"] == "query_deposit")
        assert 2.999 <= (asked[1] - answered[1]) / 1e6 <= 3.001

    play(story)


@pytest.mark.req("JOB-003")
def test_after_an_outage_of_ours_the_missed_polls_are_no_burst() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=True)
        await rig.deposit()
        await asyncio.sleep(10)
        rig.world.kill(90_000)
        await asyncio.sleep(120)
        polls = moments(rig, "query_deposit")
        gaps = [after - before for before, after in pairwise(polls)]
        assert min(gaps) > 1.0, polls
        await asyncio.sleep(600)
        assert len(moments(rig, "query_deposit")) == 60

    play(story)


@pytest.mark.req("JOB-005")
def test_query_bank_polls_once_and_success_resumes_the_chain_with_the_same_request() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=True)
        apply = await rig.deposit()
        await asyncio.sleep(300)
        exhausted = await rig.core.applications.find(apply.id)
        assert exhausted is not None and len(moments(rig, "query_deposit")) == 60

        assert await rig.core.airstar_deposits.query_bank(apply.id, "staff_1001") is Code.OK
        await asyncio.sleep(300)
        row = await job_row(rig, RESULT, f"A{apply.id}:{apply.bank_ref_id}")
        assert (row.state, len(moments(rig, "query_deposit"))) == (JobState.EXCEPTION, 61)
        assert await status(rig, apply.id) == "INIT"

        assert rig.world.bank.publish(exhausted.request_id)
        assert await rig.core.airstar_deposits.query_bank(apply.id, "staff_1001") is Code.OK
        await asyncio.sleep(30)
        done = await rig.core.applications.find(apply.id)
        assert done is not None
        assert (done.status, done.request_id) == (ApplyStatus.DONE, exhausted.request_id)
        assert (len(moments(rig, "query_deposit")), len(moments(rig, "deposit"))) == (62, 1)
        assert await money(rig) == CREDITED
        assert await rig.core.airstar_deposits.query_bank(apply.id, "staff_1001") is Code.ILLEGAL_STATE

    play(story)


def test_query_bank_of_an_unknown_deposit_is_not_found() -> None:
    async def story(rig: Rig) -> None:
        assert await rig.core.airstar_deposits.query_bank(4711, "staff_1001") is Code.NOT_FOUND

    play(story)


@pytest.mark.req("JOB-007")
@pytest.mark.parametrize("fault", ["fail", "timeout_before"])
def test_a_failing_accounting_raises_a_critical_alert_after_its_retries(fault: str) -> None:
    """Three retries at 1, 5 and 30 seconds, then Critical (gaps.md B-15); credited once the fault is over."""

    async def story(rig: Rig) -> None:
        rig.world.rpc.fault(fault, "sba.create_deposit", rig.world.streams("test"))
        apply = await rig.deposit()
        await asyncio.sleep(120)
        tries = [run for run in runs(rig, CREDIT) if run["state"] in ("RETRY", "EXCEPTION")]
        assert [run["state"] for run in tries] == ["RETRY", "RETRY", "RETRY", "EXCEPTION"]
        assert [(one["rule"], one["severity"], one["key"]) for one in alerts(rig)] == [
            ("DEP-05", "Critical", f"A{apply.id}")]
        assert (await status(rig, apply.id), await money(rig)) == ("CREDITING", UNTOUCHED)
        rig.world.rpc.clear("sba.create_deposit")
        row = await job_row(rig, CREDIT, f"A{apply.id}")
        assert await rig.core.jobs.retry_now(row.id, "staff_1001")
        await asyncio.sleep(10)
        assert (await status(rig, apply.id), await money(rig)) == ("DONE", CREDITED)

    play(story)


@pytest.mark.req("DEDUP-10")
@pytest.mark.parametrize("lost", ["sba.create_deposit", "risk_control.add"])
def test_accounting_repeated_after_a_lost_answer_credits_once(lost: str) -> None:
    """The call was carried out and its answer was lost: the job runs again and again."""

    async def story(rig: Rig) -> None:
        rig.world.rpc.fault("timeout_after", lost, rig.world.streams("test"))
        apply = await rig.deposit()
        await asyncio.sleep(60)
        rig.world.rpc.clear(lost)
        await asyncio.sleep(120)
        credit = await job_row(rig, CREDIT, f"A{apply.id}")
        if credit.state is JobState.EXCEPTION:
            assert await rig.core.jobs.retry_now(credit.id, "staff_1001")
            await asyncio.sleep(10)
        assert [one["amount"] for one in rig.of_kind("posting", op="add") if one["legs"]
                and not one["key"].startswith("OPENING:")] == [1_000_000]
        assert (await status(rig, apply.id), await money(rig)) == ("DONE", CREDITED)
        assert len(rig.of_kind("procedure", row="DT-01")) == 1

    play(story)


@pytest.mark.req("JOB-008")
@pytest.mark.parametrize("delays", [[60, 120, 240], [5, 7]], ids=["as documented", "as set"])
@pytest.mark.parametrize("code", [140630016, 140630020])
def test_a_busy_bank_is_asked_again_as_documented_and_then_the_deposit_fails(code: int, delays: list[int]) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="deposit")
        apply = await rig.deposit()
        await asyncio.sleep(1_200)
        expected = [0.0]
        for delay in delays:
            expected.append(expected[-1] + delay)
        assert moments(rig, "deposit") == [pytest.approx(at, abs=2.0) for at in expected]
        assert len({one["ref"] for one in rig.of_kind("bank.request", message="deposit")}) == 1
        failed = await rig.core.applications.find(apply.id)
        assert failed is not None and (failed.status, failed.fail_code) == (ApplyStatus.REJECTED, str(code))
        assert told(rig, "DEPOSIT_FAILED") == 1
        assert not alerts(rig, "AIRSTAR-12")
        assert await money(rig) == UNTOUCHED

    play(story, settings={"airstar.create_retry.delays_s": delays})


@pytest.mark.req("JOB-008")
@pytest.mark.parametrize("busy", [1, 2, 3])
def test_a_bank_that_is_busy_for_a_while_is_paid_attention_to_once(busy: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=140630016, message="deposit", count=busy)
        apply = await rig.deposit()
        await asyncio.sleep(600)
        assert len(moments(rig, "deposit")) == busy + 1
        assert (await status(rig, apply.id), await money(rig)) == ("DONE", CREDITED)
        assert len(rig.of_kind("bank.book")) == 1

    play(story)


@pytest.mark.req("JOB-008")
def test_an_instruction_that_fails_with_a_retryable_code_is_given_anew_three_times_and_then_fails() -> None:
    """Each new instruction has its own reference, and the limit is for all of them together."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=140630016, at="result", message="deposit")
        apply = await rig.deposit()
        await asyncio.sleep(3 * 3600)
        refs = [one["ref"] for one in rig.of_kind("bank.request", message="deposit")]
        assert len(refs) == len(set(refs)) == 4
        assert await status(rig, apply.id) == "REJECTED"
        assert (told(rig, "DEPOSIT_FAILED"), await money(rig)) == (1, UNTOUCHED)

    play(story)


@pytest.mark.req("DEDUP-09", "SBA-DEP-028")
def test_references_are_asbbst_and_nine_digits_from_one_rising_sequence_for_both_directions() -> None:
    async def story(rig: Rig) -> None:
        for _ in range(3):
            await rig.deposit(amount=10_000)
            await rig.withdraw(amount=10_000)
            await rig.withdraw("bob", amount=10_000)
            await asyncio.sleep(20)
        refs = [one["ref"] for message in ("deposit", "withdraw") for one in rig.of_kind("bank.request",
                                                                                         message=message)]
        assert all(len(ref) == 15 and ref[:6] == "ASBBST" and ref[6:].isdigit() for ref in refs)
        assert sorted(int(ref[6:]) for ref in refs) == list(range(1, 10))
        in_order = [event[4]["ref"] for event in rig.events
                    if event[2] == "bank.request" and event[4]["message"] in ("deposit", "withdraw")]
        assert in_order[0] == "ASBBST000000001" and len(in_order) == 9
        procedures = [await rig.sba.procedure(number) for number in range(1, 10)]
        stored = [p["bank_ref_id"] for p in procedures if p and p["biz_type"] == "cash_deposit"]
        assert stored == [one["ref"] for one in rig.of_kind("bank.request", message="deposit")]

    play(story)


@pytest.mark.req("DEDUP-09")
def test_references_go_on_after_a_restart() -> None:
    async def story(rig: Rig) -> None:
        await rig.deposit(amount=10_000)
        await asyncio.sleep(20)
        rig.world.kill(1_000)
        await asyncio.sleep(5)
        await rig.deposit(amount=10_000)
        await asyncio.sleep(20)
        assert [one["ref"] for one in rig.of_kind("bank.request", message="deposit")] == [
            "ASBBST000000001", "ASBBST000000002"]

    play(story)


@pytest.mark.req("SBA-DEP-029", "AIR-03")
@pytest.mark.parametrize("state", [state for state in MandateStatus if state is not MandateStatus.OPEN])
def test_without_an_open_authorization_no_deposit_reaches_the_bank(state: MandateStatus) -> None:
    async def story(rig: Rig) -> None:
        await in_state(rig, state)
        refused = await rig.deposit()
        assert isinstance(refused, Refusal)
        assert refused.code is Code.BLOCKED and "authorize" in refused.detail
        await asyncio.sleep(30)
        assert not moments(rig, "deposit")
        assert not rig.of_kind("apply")

    play(story)


@pytest.mark.req("AIR-03", "SBA-DEP-029")
@pytest.mark.parametrize("market", [1, 2, 4])
def test_an_authorization_opens_all_three_markets(market: int) -> None:
    async def story(rig: Rig) -> None:
        ccy = {1: "HKD", 2: "USD", 4: "HKD"}[market]
        rig.world.bank.top_up(rig.customer("alice").id, ccy, 1_000_000)
        apply, _ = await credited(rig, market=market, ccy=ccy, amount=500_000)
        assert apply.market == market

    play(story)


def test_a_mandate_closed_between_two_of_our_looks_fails_the_deposit_at_the_bank() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("mandate_revoked_midflight")
        apply = await rig.deposit()
        await asyncio.sleep(60)
        failed = await rig.core.applications.find(apply.id)
        assert failed is not None and (failed.status, failed.fail_code) == (ApplyStatus.REJECTED, "140630005")
        assert await money(rig) == UNTOUCHED

    play(story)


@pytest.mark.req("WIN-02")
@pytest.mark.parametrize(("start", "opens"), [
    ("2026-03-12 22:00", "2026-03-13 08:00"), ("2026-03-12 07:59:30", "2026-03-12 08:00"),
    ("2026-03-13 23:00", "2026-03-16 08:00"), ("2026-03-14 12:00", "2026-03-16 08:00"),
], ids=["at 22:00", "before 08:00", "Friday night", "Saturday"])
def test_a_deposit_asked_for_outside_the_window_leaves_when_it_opens(start: str, opens: str) -> None:
    from scenarios.schema import full_moment_ms

    async def story(rig: Rig) -> None:
        apply = await rig.deposit()
        await rig.until(opens)
        assert not moments(rig, "deposit")
        await asyncio.sleep(60)
        sent = next(event[1] for event in rig.events
                    if event[2] == "bank.request" and event[4]["message"] == "deposit")
        assert sent // 1000 == full_moment_ms(opens)
        assert await status(rig, apply.id) == "DONE"

    play(story, start=start)


@pytest.mark.req("WIN-02")
def test_a_retry_that_falls_outside_the_window_waits_for_the_opening() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=140630016, message="deposit", count=1)
        apply = await rig.deposit()
        await rig.until("2026-03-13 08:01")
        sent = moments(rig, "deposit")
        assert len(sent) == 2 and sent[1] > 9 * 3600
        assert await status(rig, apply.id) == "DONE"

    play(story, start="2026-03-12 21:59:30")


@pytest.mark.req("WIN-10")
def test_polls_and_crediting_go_on_after_the_window_has_closed() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=True, until_s=60)
        apply = await rig.deposit()
        await asyncio.sleep(90)
        polls = [event[1] for event in rig.events
                 if event[2] == "bank.request" and event[4]["message"] == "query_deposit"]
        assert len(polls) > 15
        assert await status(rig, apply.id) == "DONE"

    play(story, start="2026-03-12 21:59:55")
