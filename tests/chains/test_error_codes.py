"""Every code 140630xxx at every place where the bank can say it (gaps.md B-07; AIR-06, AIR-07).

Three kinds: final (refused, nothing happened), retryable (refused for now, nothing happened), unknown (ask, never
guess). Money is released only on the first, and on the second once its retries are used up; never on the third.
"""

from __future__ import annotations

import asyncio

import pytest
from chain_watch import (
    CODES,
    CREDITED,
    FINAL,
    HELD,
    PAID,
    RETRYABLE,
    UNKNOWN,
    UNTOUCHED,
    alerts,
    job_row,
    moments,
    money,
    status,
    told,
)

from core.domain import JobState
from tests.rig import Rig, play

AUTO = "pending(transfer_auto)"
HOURS_3 = 3 * 3600


def test_every_code_of_the_bank_is_of_one_kind() -> None:
    assert sorted(FINAL + RETRYABLE + UNKNOWN) == list(CODES) and len(CODES) == 21


async def _withdrawal(rig: Rig, after_s: float = HOURS_3) -> tuple[str, str]:
    """(state, code on record) of alice's withdrawal after a while."""
    task = await rig.withdraw()
    await asyncio.sleep(after_s)
    shown = await rig.of_task(task.id)
    assert shown is not None
    return shown["state"], shown["bank_code"]


# At the creation of a deposit


@pytest.mark.req("AIR-06", "AIR-07", "JOB-008")
@pytest.mark.parametrize("code", CODES)
def test_a_deposit_whose_creation_is_always_answered_with(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="deposit")
        apply = await rig.deposit()
        await asyncio.sleep(HOURS_3)
        assert len(moments(rig, "deposit")) == (1 if code in FINAL else 4)
        assert len({one["ref"] for one in rig.of_kind("bank.request", message="deposit")}) == 1
        unknown = code in UNKNOWN
        assert await status(rig, apply.id) == ("INIT" if unknown else "REJECTED")
        assert told(rig, "DEPOSIT_FAILED") == (0 if unknown else 1)
        assert len(alerts(rig, "AIRSTAR-12")) == (1 if unknown else 0)
        assert await money(rig) == UNTOUCHED

    play(story)


@pytest.mark.req("AIR-06", "AIR-07")
@pytest.mark.parametrize("code", [*RETRYABLE, *UNKNOWN])
@pytest.mark.parametrize("times", [1, 3])
def test_a_deposit_whose_creation_is_for_a_while_answered_with(code: int, times: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="deposit", count=times)
        apply = await rig.deposit()
        await asyncio.sleep(1_200)
        assert (await status(rig, apply.id), await money(rig)) == ("DONE", CREDITED)
        assert len(rig.paid("collect")) == 1

    play(story)


@pytest.mark.req("AIR-07", "DEDUP-10")
@pytest.mark.parametrize("code", UNKNOWN)
def test_a_deposit_that_the_bank_has_taken_although_it_answered_with(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="deposit", processed=True, count=1)
        apply = await rig.deposit()
        await asyncio.sleep(1_200)
        assert (await status(rig, apply.id), await money(rig)) == ("DONE", CREDITED)
        assert len(rig.paid("collect")) == 1

    play(story)


# At a poll, and as a result


@pytest.mark.req("AIR-06", "AIR-07")
@pytest.mark.parametrize("code", CODES)
def test_a_deposit_whose_polls_are_answered_with(code: int) -> None:
    """A refused question says nothing of the deposit: collected, not credited, not failed; people ask the bank."""

    async def story(rig: Rig) -> None:
        fault = rig.world.bank.fault("fail_with", code=code, message="query_deposit")
        apply = await rig.deposit()
        await asyncio.sleep(HOURS_3)
        found = await rig.core.applications.find(apply.id)
        assert found is not None
        row = await job_row(rig, "AsbBstCreateResultJob", f"A{apply.id}:{found.bank_ref_id}")
        assert (row.state, row.last_error[:9]) == (JobState.EXCEPTION, "60 polls ")
        assert (await status(rig, apply.id), await money(rig), told(rig, "DEPOSIT_FAILED")) == ("INIT", UNTOUCHED, 0)
        rig.world.bank.clear(fault)
        await rig.core.airstar_deposits.query_bank(apply.id, "staff_1001")
        await asyncio.sleep(30)
        assert (await status(rig, apply.id), await money(rig)) == ("DONE", CREDITED)

    play(story)


@pytest.mark.req("AIR-06")
@pytest.mark.parametrize("code", CODES)
def test_a_deposit_that_fails_at_the_bank_with(code: int) -> None:
    """A definite failure; with a retryable code it is instructed anew, at most three times (B-01.3)."""

    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, at="result", message="deposit")
        apply = await rig.deposit()
        await asyncio.sleep(HOURS_3)
        found = await rig.core.applications.find(apply.id)
        assert found is not None
        assert (await status(rig, apply.id), found.fail_code) == ("REJECTED", str(code))
        assert len({one["ref"] for one in rig.of_kind("bank.request", message="deposit")}) == (
            4 if code in RETRYABLE else 1)
        assert (told(rig, "DEPOSIT_FAILED"), await money(rig)) == (1, UNTOUCHED)

    play(story)


# At the sending of a withdrawal


@pytest.mark.req("AIR-06", "AIR-07", "AIR-05")
@pytest.mark.parametrize("code", CODES)
def test_a_withdrawal_whose_sending_is_always_answered_with(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="withdraw")
        state, kept = await _withdrawal(rig)
        assert len(moments(rig, "withdraw")) == (1 if code in FINAL else 4 if code in RETRYABLE else 3)
        if code in UNKNOWN:
            assert (state, await money(rig), told(rig, "WITHDRAW_FAILED")) == (AUTO, HELD, 0)
            assert [one["rule"] for one in alerts(rig)] == ["AIRSTAR-06", "AIRSTAR-07"]
        else:
            assert (state, kept, await money(rig)) == ("end_reject", str(code), UNTOUCHED)
            assert told(rig, "WITHDRAW_FAILED") == 1
        assert not rig.paid()

    play(story)


@pytest.mark.req("AIR-06")
@pytest.mark.parametrize("code", RETRYABLE)
def test_a_busy_bank_gets_the_withdrawal_again_after_the_documented_waits(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="withdraw", count=3)
        state, _ = await _withdrawal(rig, 900)
        assert moments(rig, "withdraw") == [pytest.approx(at, abs=2) for at in (0, 60, 180, 420)]
        assert (state, await money(rig), len(rig.paid())) == ("end_ok(transfer_done)", PAID, 1)

    play(story)


@pytest.mark.req("AIR-07", "DEDUP-11")
@pytest.mark.parametrize("code", UNKNOWN)
@pytest.mark.parametrize("times", [1, 2, None])
def test_a_withdrawal_that_the_bank_has_taken_although_it_answered_with(code: int, times: int | None) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, message="withdraw", processed=True, count=times)
        state, _ = await _withdrawal(rig, 300)
        assert (state, await money(rig), len(rig.paid())) == ("end_ok(transfer_done)", PAID, 1)

    play(story)


@pytest.mark.req("AIR-07")
@pytest.mark.parametrize("code", RETRYABLE)
def test_after_a_lost_answer_a_busy_bank_is_no_proof_that_nothing_was_paid(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("timeout", message="withdraw", count=1)
        await rig.reach(lambda: _moved(rig), "moved")
        rig.world.bank.fault("fail_with", code=code, message="withdraw")
        await asyncio.sleep(1_500)
        assert rig.of_kind("procedure", to="end_ok(transfer_done)")
        assert (await money(rig), len(rig.paid())) == (PAID, 1)

    async def _moved(rig: Rig) -> dict[str, str]:
        if not rig.of_kind("task"):
            await rig.withdraw()
        return {"state": "moved" if rig.paid() else "waiting"}

    play(story)


# At a poll of a withdrawal, at a query by reference, and as a result


@pytest.mark.req("AIR-06", "AIR-07")
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("message", ["query_withdrawal", "find_withdrawal"])
def test_a_withdrawal_whose_polls_are_answered_with(code: int, message: str) -> None:
    async def story(rig: Rig) -> None:
        fault = rig.world.bank.fault("fail_with", code=code, message=message)
        if message == "find_withdrawal":  # asked by our reference when no sending was answered
            rig.world.bank.fault("timeout", message="withdraw")
        state, _ = await _withdrawal(rig, 1_800)
        assert (state, await money(rig)) == (AUTO, HELD)
        assert not rig.of_kind("notify")
        rig.world.bank.clear(fault)
        await asyncio.sleep(61)
        assert rig.of_kind("procedure", to="end_ok(transfer_done)")
        assert (await money(rig), len(rig.paid())) == (PAID, 1)

    play(story)


@pytest.mark.req("AIR-05", "AIR-06")
@pytest.mark.parametrize("code", CODES)
def test_a_withdrawal_that_fails_at_the_bank_with(code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("fail_with", code=code, at="result", message="withdraw")
        state, kept = await _withdrawal(rig, 300)
        assert (state, kept, await money(rig)) == ("end_reject", str(code), UNTOUCHED)
        assert len(moments(rig, "withdraw")) == 1

    play(story)


# Silence and noise


@pytest.mark.req("AIR-07")
@pytest.mark.parametrize("status_code", [500, 502, 503])
def test_an_http_error_after_the_bank_has_acted_is_resolved_by_asking(status_code: int) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("error_5xx_after_commit", status=status_code, message="withdraw")
        rig.world.bank.fault("error_5xx_after_commit", status=status_code, message="deposit", count=1)
        await rig.deposit("bob")
        state, _ = await _withdrawal(rig, 300)
        assert (state, await money(rig)) == ("end_ok(transfer_done)", PAID)
        assert (len(rig.paid()), len(rig.paid("collect"))) == (1, 1)

    play(story)


@pytest.mark.req("AIR-07")
@pytest.mark.parametrize("hidden_s", [8.0, 40.0, 3_000.0])
def test_an_instruction_that_cannot_be_found_yet_is_not_taken_for_lost(hidden_s: float) -> None:
    async def story(rig: Rig) -> None:
        rig.world.bank.fault("not_found_then_found", hidden_s=hidden_s)
        state, _ = await _withdrawal(rig, hidden_s + 120)
        assert (state, await money(rig), len(rig.paid())) == ("end_ok(transfer_done)", PAID, 1)

    play(story)
