"""Questions of operations: the list, what is stuck and why, why a withdrawal was deferred (orchestration.md §3.3, §5.4,
§8)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.domain import MandateStatus
from core.errors import Misconfigured
from core.runtime.views import stuck_deposit, stuck_withdrawal
from tests.orchestration.driving import (
    QUICK,
    SLOW_BANK,
    WITHDRAW_WAYS,
    Way,
    by_hand,
    create_deposit,
    create_withdrawal,
    deposit_in_review,
    freezing,
    in_review,
    plant,
    speak,
    way_to,
)
from tests.rig import Rig, play


@pytest.mark.req("SBA-PROC-09")
def test_the_list_is_filtered_by_status_and_sub_status():
    async def story(rig: Rig) -> None:
        in_review_id = (await deposit_in_review(rig))["id"]
        credited = (await create_deposit(rig))["id"]
        waiting = (await create_withdrawal(rig))["id"]
        manual = (await by_hand(rig))["id"]

        async def ids(**wanted: Any) -> list[int]:
            return [p["id"] for p in await rig.sba.procedures(**wanted)]

        assert await ids() == [manual, waiting, credited, in_review_id]
        assert await ids(status="new") == [waiting, in_review_id]
        assert await ids(status="new", ext_status="waiting") == [waiting]
        assert await ids(ext_status="transfer_manual") == [manual]
        assert await ids(status="end_ok", ext_status="deposit_ok") == [credited]
        assert await ids(status="pending", ext_status="waiting") == []
        assert await ids(biz_type="cash_withdraw", status="new") == [waiting]
        assert await ids(nn_uid=rig.customer("bob").uid) == []
        assert await ids(limit=2) == [manual, waiting]
        assert await ids(limit=2, after=waiting) == [credited, in_review_id]

    play(story)


@pytest.mark.req("SBA-PROC-09")
def test_the_list_is_cut_by_the_moment_of_creation_and_an_unknown_filter_is_named():
    async def story(rig: Rig) -> None:
        first = await create_deposit(rig)
        await asyncio.sleep(60)
        second = await create_deposit(rig)
        at = second["created_at"]
        assert [p["id"] for p in await rig.sba.procedures(since=at)] == [second["id"]]
        assert [p["id"] for p in await rig.sba.procedures(since=0, until=at)] == [first["id"]]
        with pytest.raises(Misconfigured, match="colour"):
            await rig.sba.procedures(colour="red")

    play(story)


# Stuck


# orchestration.md §2, §3.2 and gaps.md B-14: state -> the setting with its threshold; the rest may take their time.
THRESHOLDS = {
    "new(freeze)": "sba.stuck.freeze_s", "new(waiting)": "sba.stuck.withdraw_waiting_s",
    "new(blank)": "sba.stuck.blank_s", "pending(return)": "sba.stuck.return_s",
    "pending(unfreeze)": "sba.stuck.unfreeze_s", "pending(transfer_auto)": "sba.stuck.transfer_auto_s",
    "pending(transfer_manual)": "sba.stuck.transfer_manual_s",
}


@pytest.mark.req("SBA-TRB-01")
@pytest.mark.parametrize("way", [way for way in WITHDRAW_WAYS if way.label != "pending(move_next)"],
                         ids=lambda way: way.label)
def test_a_withdrawal_is_stuck_beyond_the_threshold_of_its_state_and_an_ended_one_never(way: Way):
    async def story(rig: Rig) -> None:
        since = rig.now_ms
        for job in ("MoveNextResumeJob", "WaitingTradeJob", "SyncAsbBstWithdraw"):
            rig.core.timetable.pause(job)
        rig.core.jobs.pause("AsbBstTransfer")
        shown = await way.reached(rig)
        limit = rig.world.settings[THRESHOLDS[way.label]] if way.label in THRESHOLDS else 90_000
        moved = (await rig.sba.history(shown["id"]))[0].created_at
        await asyncio.sleep(max(0.0, limit - 0.5 - (rig.now_ms - moved) / 1000))
        assert await rig.sba.stuck(since, rig.now_ms) == []
        await asyncio.sleep(1)
        found = [stuck.id for stuck in await rig.sba.stuck(since, rig.now_ms)]
        assert found == ([shown["id"]] if way.label in THRESHOLDS else [])
        if found:
            assert await rig.sba.stuck(since, rig.now_ms, shown["status"]) != []
            assert await rig.sba.stuck(since, rig.now_ms, "end_ok") == []
            assert await rig.sba.stuck(since, shown["created_at"]) == []
            assert await rig.sba.stuck(shown["created_at"] + 1, rig.now_ms) == []

    # Risk control stays silent to the end: the world is left with work in hand.
    play(story, **(way.world | {"planted": True}))


@pytest.mark.req("SBA-TRB-01")
def test_the_batch_query_names_exactly_the_stuck_ones_among_many():
    async def story(rig: Rig) -> None:
        since = rig.now_ms
        await create_deposit(rig)
        await deposit_in_review(rig)
        await in_review(rig)
        waiting = await create_withdrawal(rig)
        frozen = await freezing(rig)
        linger = await plant(rig, await deposit_in_review(rig), "new", "waiting")
        await asyncio.sleep(601)
        stuck = await rig.sba.stuck(since, rig.now_ms)
        assert [one.id for one in stuck] == [waiting["id"], frozen["id"], linger["id"]]
        assert [one.id for one in await rig.sba.stuck(since, rig.now_ms, "pending")] == []
        speak(rig)

    play(story, settings=QUICK, planted=True)


# Why deferred


@pytest.mark.req("CAL-011")
def test_a_business_day_that_is_missing_in_the_calendar_is_named_as_the_cause():
    closed = [{"market": "HK", "date": 20260312, "state": "closed", "effective_from": "2026-03-01 00:00"}]

    async def story(rig: Rig) -> None:
        shown = await rig.withdrawn("pending(move_next)")
        assert shown["transaction_date"] == 20260313
        why = await rig.sba.deferral_of(shown["id"])
        assert why.cause == "calendar"
        assert "20260312" in why.detail
        assert "settlement" in why.remedy
        assert (why.since, why.date) == ((await rig.sba.history(shown["id"]))[0].created_at, 20260313)
        assert why.resumes_at > rig.now_ms

    play(story, settings={"calendar.overrides": closed})


@pytest.mark.req("CAL-011")
def test_the_cause_stays_what_it_was_when_the_calendar_is_corrected_later():
    closed = [{"market": "HK", "date": 20260312, "state": "closed", "effective_from": "2026-03-01 00:00"},
              {"market": "HK", "date": 20260312, "state": "open", "effective_from": "2026-03-12 11:00"}]

    async def story(rig: Rig) -> None:
        shown = await rig.withdrawn("pending(move_next)")
        await rig.until("2026-03-12 12:00")
        assert (await rig.sba.deferral_of(shown["id"])).cause == "calendar"

    play(story, settings={"calendar.overrides": closed})


@pytest.mark.req("CAL-011")
@pytest.mark.parametrize(("start", "state", "channel", "cause", "date"), [
    ("2026-03-12 16:30", "pending(move_next)", "airstar", "cutoff", 20260313),
    ("2026-03-14 12:00", "pending(move_next)", "airstar", "weekend", 20260316),
    ("2026-02-17 10:00", "pending(move_next)", "airstar", "calendar", 20260220),
    ("2026-03-14 12:00", "pending(waiting_trade)", "hsbc", "weekend", 20260316),
    ("2026-03-12 07:00", "pending(deduct_done)", "airstar", "bank window", 20260312),
])
def test_each_kind_of_waiting_has_its_own_cause(start: str, state: str, channel: str, cause: str, date: int):
    async def story(rig: Rig) -> None:
        shown = await rig.withdrawn(state, channel=channel)
        why = await rig.sba.deferral_of(shown["id"])
        assert (why.cause, why.date) == (cause, date)
        assert why.resumes_at > rig.now_ms

    play(story, start=start)


@pytest.mark.req("CAL-011")
def test_operations_who_deferred_are_the_cause_and_a_withdrawal_that_left_at_once_has_none():
    async def story(rig: Rig) -> None:
        shown = await by_hand(rig)
        assert await rig.sba.deferral_of(shown["id"]) is None
        await rig.operate("MoveNextTransactionDay", shown, remark="bank asks to wait")
        why = await rig.sba.deferral_of(shown["id"])
        assert (why.cause, why.detail) == ("operations", "staff_1001: bank asks to wait")
        assert await rig.sba.deferral_of((await create_deposit(rig))["id"]) is None
        assert await rig.sba.deferral_of(99) is None

    play(story)


# An Airstar transaction that does not move


ORDER = ["mandate", "retries", "bank_code", "pull"]


@pytest.mark.req("TMO-05")
def test_a_stuck_deposit_shows_mandate_retries_of_60_bank_code_and_pull_health_in_this_order():
    async def story(rig: Rig) -> None:
        apply = await rig.deposit()
        await asyncio.sleep(31)
        view = await stuck_deposit(rig.core, apply.id)
        assert list(view) == ORDER
        assert view["mandate"] == "OPEN"
        assert (view["retries"]["job"], view["retries"]["max"]) == (
            "AsbBstCreateResultJob", rig.world.settings["airstar.poll.deposit.max"])
        assert view["retries"]["count"] == 10
        assert (view["pull"]["job"], view["pull"]["healthy"]) == ("FetchBankRequest", True)
        await asyncio.sleep(180)
        view = await stuck_deposit(rig.core, apply.id)
        assert (view["retries"]["count"], view["retries"]["state"]) == (view["retries"]["max"], "EXCEPTION")
        assert await stuck_deposit(rig.core, 9_901) is None

    play(story, settings=SLOW_BANK)


@pytest.mark.req("TMO-05")
def test_a_stuck_withdrawal_shows_retries_of_10_and_the_pull_of_its_direction():
    async def story(rig: Rig) -> None:
        shown = await way_to("pending(transfer_auto)").reached(rig)
        await asyncio.sleep(26)
        view = await stuck_withdrawal(rig.core, shown["task_id"])
        assert list(view) == ORDER
        assert view["mandate"] == "OPEN"
        assert (view["retries"]["job"], view["retries"]["max"]) == (
            "AsbBstTransfer", rig.world.settings["airstar.poll.withdraw.max"])
        assert 0 < view["retries"]["count"] < view["retries"]["max"]
        assert (view["pull"]["job"], view["pull"]["healthy"]) == ("SyncAsbBstWithdraw", True)
        await asyncio.sleep(60)
        view = await stuck_withdrawal(rig.core, shown["task_id"])
        assert (view["retries"]["count"], view["retries"]["state"]) == (view["retries"]["max"], "EXCEPTION")
        assert await stuck_withdrawal(rig.core, 99) is None

    play(story, settings=SLOW_BANK)


@pytest.mark.req("TMO-05")
def test_the_view_shows_the_banks_code():
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=140630006, count=1)
        apply = await rig.deposit()
        await asyncio.sleep(120)
        view = await stuck_deposit(rig.core, apply.id)
        assert "140630006" in view["bank_code"]

    play(story)


@pytest.mark.req("TMO-05")
def test_a_mandate_that_is_no_longer_open_stands_in_the_first_line():
    async def story(rig: Rig) -> None:
        apply = await rig.deposit()
        await asyncio.sleep(2)
        await rig.core.mandates.bank_says(rig.world.mandates[0], MandateStatus.SUSPENDED)
        assert (await stuck_deposit(rig.core, apply.id))["mandate"] == "SUSPENDED"

    play(story)


@pytest.mark.req("TMO-05")
def test_a_pull_that_does_not_run_is_unhealthy():
    async def story(rig: Rig) -> None:
        apply = await rig.deposit()
        await asyncio.sleep(300)
        assert (await stuck_deposit(rig.core, apply.id))["pull"]["healthy"] is True
        rig.core.timetable.pause("FetchBankRequest")
        view = (await stuck_deposit(rig.core, apply.id))["pull"]
        assert (view["healthy"], view["paused"]) == (False, True)
        await asyncio.sleep(600)
        rig.core.timetable.resume("FetchBankRequest")
        assert (await stuck_deposit(rig.core, apply.id))["pull"]["healthy"] is False  # silent for five periods
        await asyncio.sleep(180)
        assert (await stuck_deposit(rig.core, apply.id))["pull"]["healthy"] is True

    play(story)


@pytest.mark.req("TMO-05")
def test_a_task_that_has_no_procedure_yet_shows_what_there_is():
    async def story(rig: Rig) -> None:
        rig.core.jobs.pause("WithdrawStart")
        task = await rig.withdraw()
        view = await stuck_withdrawal(rig.core, task.id)
        assert (view["mandate"], view["retries"], view["bank_code"]) == ("OPEN", None, "")
        rig.core.jobs.resume("WithdrawStart")
        await rig.reach(lambda: rig.of_task(task.id), "end_ok(transfer_done)")

    play(story)
