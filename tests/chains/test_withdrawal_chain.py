"""The Airstar withdrawal chain: send once, ten polls, two hours of fallback, then people (orchestration.md §5.2)."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from chain_watch import HELD, PAID, UNTOUCHED, alerts, in_state, job_row, moments, money, told

from core.domain import JobState, MandateStatus, TaskStatus
from core.errors import Code
from tests.rig import SUPERVISOR, Rig, play

TRANSFER, SYNC = "AsbBstTransfer", "SyncAsbBstWithdraw"
AUTO = "pending(transfer_auto)"


async def begun(rig: Rig, **asked: Any) -> dict[str, Any]:
    """A withdrawal that waits for the bank."""
    return await rig.withdrawn(AUTO, **asked)


async def now_of(rig: Rig, shown: dict[str, Any]) -> dict[str, Any]:
    found = await rig.sba.procedure(shown["id"])
    assert found is not None
    return found


@pytest.mark.req("JOB-011")
def test_a_withdrawal_is_sent_once_when_approved_and_polled_until_the_bank_has_paid() -> None:
    async def story(rig: Rig) -> None:
        shown = await rig.withdrawn("end_ok(transfer_done)")
        assert (len(moments(rig, "withdraw")), len(moments(rig, "query_withdrawal"))) == (1, 1)
        assert [one["ref"] for one in rig.paid()] == [shown["transfer_ref_id"]]
        assert await money(rig) == PAID
        row = await job_row(rig, TRANSFER, f"P{shown['id']}:1")
        assert (row.state, row.payload["ref"]) == (JobState.DONE, shown["transfer_ref_id"])

    play(story)


@pytest.mark.req("JOB-011", "JOB-012", "TMO-01")
@pytest.mark.parametrize(("every_ms", "most"), [(5_000, 10), (7_000, 4)], ids=["as documented", "as set"])
def test_ten_polls_at_a_fixed_rate_then_an_alert_and_the_freeze_stays(every_ms: int, most: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=False)
        shown = await begun(rig)
        await asyncio.sleep(every_ms * most / 1000 + 5)
        assert moments(rig, "query_withdrawal") == [
            pytest.approx(every_ms / 1000 * k, abs=0.002) for k in range(most)]
        assert len(moments(rig, "withdraw")) == 1
        after = await now_of(rig, shown)
        assert (after["state"], after["poll_exhausted"], after["poll_count"], after["abnormal"]) == (
            AUTO, True, most, False)
        assert [(one["rule"], one["severity"], one["notify"], one["key"]) for one in alerts(rig)] == [
            ("AIRSTAR-06", "High", "P1", f"P{shown['id']}")]
        assert await money(rig) == HELD
        assert not rig.of_kind("notify")
        assert (await job_row(rig, TRANSFER, f"P{shown['id']}:1")).state is JobState.EXCEPTION
        sync = await job_row(rig, SYNC, f"P{shown['id']}:1")
        assert (sync.state, sync.payload["ref"]) == (JobState.READY, after["transfer_ref_id"])

    play(story, settings={"airstar.poll.withdraw.interval_ms": every_ms, "airstar.poll.withdraw.max": most})


@pytest.mark.req("JOB-013", "JOB-015")
@pytest.mark.parametrize(("every_s", "window_s"), [(60, 7_200), (30, 600)], ids=["as documented", "as set"])
def test_the_fallback_asks_for_two_hours_and_then_people_must(every_s: int, window_s: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=True)
        shown = await begun(rig)
        await asyncio.sleep(60)
        fast = len(moments(rig, "query_withdrawal"))
        await asyncio.sleep(window_s + 3 * 3600)
        slow = moments(rig, "query_withdrawal")[fast:]
        assert len(slow) == window_s // every_s
        assert {round(b - a, 1) for a, b in pairwise(slow)} == {float(every_s)}
        after = await now_of(rig, shown)
        assert (after["state"], after["abnormal"]) == (AUTO, True)
        assert [(one["rule"], one["severity"]) for one in alerts(rig)] == [
            ("AIRSTAR-06", "High"), ("AIRSTAR-07", "Critical")]
        assert await money(rig) == HELD
        assert not rig.of_kind("notify")

    play(story, settings={"airstar.sync.period_s": every_s, "airstar.sync.window_s": window_s})


@pytest.mark.req("JOB-015")
def test_operations_asking_the_bank_after_two_hours_get_its_result_applied() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=True)
        shown = await begun(rig)
        await asyncio.sleep(3 * 3600)
        answer = await rig.core.airstar_withdrawals.query_bank(shown["id"])
        assert str(answer.outcome) == "PENDING" and (await now_of(rig, shown))["state"] == AUTO
        assert rig.world.bank.publish((await now_of(rig, shown))["request_id"])
        assert (await rig.core.airstar_withdrawals.query_bank(shown["id"])).code is Code.OK
        assert (await now_of(rig, shown))["state"] == "end_ok(transfer_done)"
        assert await money(rig) == PAID

    play(story)


@pytest.mark.req("JOB-014")
@pytest.mark.parametrize(("paid", "ends", "has"), [
    (True, "end_ok(transfer_done)", PAID), (False, "end_reject", UNTOUCHED)])
@pytest.mark.parametrize("after_s", [120, 3_600, 7_000])
def test_a_result_found_by_the_fallback_completes_the_procedure(
    after_s: int, paid: bool, ends: str, has: dict[str, int]
) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=paid, until_s=after_s)
        shown = await begun(rig)
        await asyncio.sleep(after_s - 10)
        assert ((await now_of(rig, shown))["state"], await money(rig)) == (AUTO, HELD)
        await asyncio.sleep(90)
        assert ((await now_of(rig, shown))["state"], await money(rig)) == (ends, has)
        assert not alerts(rig, "AIRSTAR-07")

    play(story)


@pytest.mark.req("AIR-05")
@pytest.mark.parametrize("code", [140630006, 140630014, 140630015, 140630016])
def test_a_failed_withdrawal_releases_the_money_and_stores_the_code(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, at="result", message="withdraw")
        shown = await rig.withdrawn("end_reject")
        assert (shown["reason"], shown["bank_code"]) == ("BANK_FAILED", str(code))
        assert await money(rig) == UNTOUCHED
        assert (await rig.way(shown["id"]))[-4:] == [AUTO, "pending(return)", "pending(transfer_reject)", "end_reject"]
        await asyncio.sleep(5)
        assert told(rig, "WITHDRAW_FAILED") == 1
        assert not rig.paid()

    play(story)


@pytest.mark.req("DEDUP-11")
@pytest.mark.parametrize("silent", [1, 2, 3])
def test_a_send_that_times_out_is_repeated_under_its_reference_and_paid_once(silent: int) -> None:
    """The bank acts and its answer is lost; three sendings, then it is asked by the reference (A-40)."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("timeout", message="withdraw", count=silent)
        shown = await rig.withdrawn("end_ok(transfer_done)")
        sent = rig.of_kind("bank.request", message="withdraw")
        assert len(sent) == min(silent + 1, 3)
        assert {one["ref"] for one in sent} == {shown["transfer_ref_id"]}
        assert len(rig.paid()) == 1
        assert len(moments(rig, "find_withdrawal")) == (1 if silent == 3 else 0)
        assert await money(rig) == PAID

    play(story)


@pytest.mark.req("DEDUP-11")
def test_sendings_that_never_arrived_are_no_polls_and_end_with_people() -> None:
    """Nothing reached the bank, but we cannot know: not released, not sent under a new reference."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("timeout", message="withdraw", processed=False)
        shown = await begun(rig)
        await asyncio.sleep(3 * 3600)
        assert (len(moments(rig, "withdraw")), len({one["ref"] for one in rig.of_kind(
            "bank.request", message="withdraw")})) == (3, 1)
        assert len(moments(rig, "find_withdrawal")) == 10 + 120
        after = await now_of(rig, shown)
        assert (after["state"], after["abnormal"], await money(rig)) == (AUTO, True, HELD)

    play(story)


@pytest.mark.req("DEDUP-12")
@pytest.mark.parametrize("restart_s", [1, 20, 40, 3_600])
def test_a_crash_between_sending_and_recording_pays_once(restart_s: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.traps.arm("withdraw", restart_s * 1000, 1)
        await rig.withdraw()
        await asyncio.sleep(restart_s + 200)
        sent = rig.of_kind("bank.request", message="withdraw")
        assert len(sent) == 2 and len({one["ref"] for one in sent}) == 1
        assert (len(rig.paid()), await money(rig)) == (1, PAID)

    play(story)


@pytest.mark.req("DEDUP-12", "AIR-07")
@pytest.mark.parametrize("code", [140630001, 140630002, 140630016, 140630020])
def test_after_such_a_crash_a_refusal_at_the_banks_door_is_not_believed(code: int) -> None:
    """The bank paid before we died; busy or confused afterwards, it must not make us give the money back."""

    async def story(rig: Rig) -> None:
        rig.world.traps.arm("withdraw", 40_000, 1)
        await rig.withdraw()
        await asyncio.sleep(20)
        assert rig.world.down
        rig.world.bank.fault("fail_with", code=code, message="withdraw")
        await asyncio.sleep(1_500)
        assert (len(rig.paid()), await money(rig)) == (1, PAID)
        assert rig.of_kind("procedure", to="end_ok(transfer_done)")

    play(story)


@pytest.mark.req("DEDUP-12")
@pytest.mark.parametrize("code", [140630016, 140630020])
def test_the_same_holds_for_a_deposit(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.traps.arm("deposit", 40_000, 1)
        apply = await rig.deposit()
        await asyncio.sleep(20)
        rig.world.bank.fault("fail_with", code=code, message="deposit")
        await asyncio.sleep(1_500)
        found = await rig.core.applications.find(apply.id)
        assert found is not None and found.status == 0  # INIT: neither failed nor credited
        assert [(one["rule"], one["severity"]) for one in alerts(rig, "AIRSTAR-12")] == [("AIRSTAR-12", "Critical")]
        rig.world.bank.clear(next(iter(rig.world.bank._faults._faults)))
        assert await rig.core.airstar_deposits.query_bank(apply.id, "staff_1001") is Code.OK
        await asyncio.sleep(30)
        assert len(rig.paid("collect")) == 1
        assert (await money(rig))["available"] == 11_000_000

    play(story)


def test_what_a_supervisor_has_rolled_back_is_not_sent_when_the_bank_is_free_again() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=140630016, message="withdraw", count=1)
        shown = await begun(rig)
        await asyncio.sleep(20)
        reply = await rig.operate("CashWithdrawForceProcess", await now_of(rig, shown), SUPERVISOR,
                                  action="Rollback", bank_status="NOT_TRANSFERRED")
        assert reply.code is Code.OK
        await asyncio.sleep(3_600)
        assert (len(moments(rig, "withdraw")), rig.paid(), await money(rig)) == (1, [], UNTOUCHED)
        assert (await job_row(rig, TRANSFER, f"P{shown['id']}:1")).state is JobState.FAILED

    play(story)


@pytest.mark.req("AIR-03")
@pytest.mark.parametrize("state", [state for state in MandateStatus if state is not MandateStatus.OPEN])
def test_confirm_refuses_without_an_open_authorization_and_says_to_authorize_again(state: MandateStatus) -> None:
    async def story(rig: Rig) -> None:
        await in_state(rig, state)
        task = await rig.withdraw()
        await asyncio.sleep(30)
        found = await rig.core.withdrawals.find(task.id)
        assert found is not None
        assert found.status == TaskStatus.REJECTED and "authorize" in found.remark
        assert (told(rig, "REAUTHORIZE"), moments(rig, "withdraw"), await money(rig)) == (1, [], UNTOUCHED)
        assert not rig.of_kind("procedure")

    play(story)


@pytest.mark.req("WIN-02")
@pytest.mark.parametrize(("start", "market", "ccy"), [
    ("2026-03-12 22:00", 2, "USD"), ("2026-03-12 07:00", 1, "HKD"), ("2026-03-12 23:30", 1, "HKD"),
    ("2026-03-14 12:00", 1, "HKD"), ("2026-03-13 21:59:59.9", 2, "USD")],
    ids=["22:00 US", "07:00 HK", "night HK", "Saturday", "a blink before 22:00"])
def test_no_withdrawal_leaves_outside_the_window(start: str, market: int, ccy: str) -> None:
    async def story(rig: Rig) -> None:
        await rig.withdraw(market=market, ccy=ccy, amount=100_000)
        await asyncio.sleep(70 * 3600)
        for event in rig.events:
            if event[2] == "bank.request" and event[4]["message"] == "withdraw":
                assert rig.world.calendars.bank_gate("airstar", event[1] // 1000).open, event

    play(story, start=start)


@pytest.mark.req("WIN-02")
def test_a_withdrawal_waits_for_the_opening_and_leaves_then() -> None:
    from scenarios.schema import full_moment_ms

    async def story(rig: Rig) -> None:
        await rig.withdraw()
        await rig.until("2026-03-12 08:05")
        sent = next(event[1] for event in rig.events
                    if event[2] == "bank.request" and event[4]["message"] == "withdraw")
        assert 0 <= sent // 1000 - full_moment_ms("2026-03-12 08:00") < 61_000
        assert await money(rig) == PAID

    play(story, start="2026-03-12 07:00")


@pytest.mark.req("WIN-02")
def test_an_instruction_that_could_not_leave_before_the_window_closed_is_given_back() -> None:
    """The gates were open, the bank was busy, and 22:00 came: surely not paid, and it must not leave any more."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=140630016, message="withdraw", count=1)
        await rig.withdraw(market=2, ccy="USD", amount=100_000)
        await asyncio.sleep(300)
        assert len(moments(rig, "withdraw")) == 1
        assert rig.of_kind("procedure", to="end_reject")
        assert (await money(rig, ccy="USD"))["available"] == 1_000_000

    play(story, start="2026-03-12 21:59:30")


@pytest.mark.req("WIN-10")
def test_polls_fallback_and_results_go_on_after_the_window_has_closed() -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("stuck_pending", paid=True, until_s=3_600)
        shown = await begun(rig, market=2, ccy="USD", amount=100_000)
        await asyncio.sleep(3_700)
        assert (await now_of(rig, shown))["state"] == "end_ok(transfer_done)"
        closes = next(event[1] for event in rig.events
                      if event[2] == "bank.request" and event[4]["message"] == "withdraw") + 5_000_000
        later = [event for event in rig.events if event[2] == "bank.request" and event[1] > closes
                 and event[4]["message"] == "query_withdrawal"]
        assert len(later) > 60

    play(story, start="2026-03-12 21:59:55")


@pytest.mark.req("JOB-021")
def test_the_script_moves_regular_withdrawals_and_when_stopped_they_stay() -> None:
    async def story(rig: Rig) -> None:
        rig.world.core.timetable.pause("WithdrawDriveJob")
        task = await rig.withdraw(channel="hsbc")
        await asyncio.sleep(3_600)
        shown = await rig.of_task(task.id)
        assert shown is not None and shown["state"] == "new(waiting)"
        rig.world.core.timetable.resume("WithdrawDriveJob")
        await asyncio.sleep(61)
        assert (await now_of(rig, shown))["state"] == "pending(transfer_manual)"

    play(story)


@pytest.mark.req("JOB-021")
def test_the_script_leaves_bank_securities_transfers_alone() -> None:
    async def story(rig: Rig) -> None:
        rig.world.core.timetable.pause("WithdrawDriveJob")
        await rig.withdrawn("end_ok(transfer_done)")

    play(story)
