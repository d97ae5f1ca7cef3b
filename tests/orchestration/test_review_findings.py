"""What a review found, kept found: reversals of held credits, broken books in the core, holds, replays, wishes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.assets.operations import Stage
from core.domain import DepositType, FreezeType
from core.errors import Code, InvariantBroken, Refusal
from core.orchestration.requests import MAX_AMOUNT
from scenarios.runner import run
from tests.orchestration.driving import CONFIRMED_BY_SUPERVISOR, QUICK, silence, speak
from tests.rig import SUPERVISOR, Rig, play

AMOUNT, BEFORE, HOLD = 1_000_000, 10_000_000, "F" * 32
TRANSFER = "AsbBstTransfer"


# A reversed NORMAL_HOLD deposit is taken from its own freeze


async def held(rig: Rig) -> dict[str, Any]:
    reply = await rig.sba.create_deposit(rig.deposit_request(
        deposit_type=int(DepositType.NORMAL_HOLD), hold_type=int(FreezeType.EXCHANGE), hold_apply_id=HOLD))
    assert reply.code is Code.OK
    assert await buckets(rig) == (BEFORE, AMOUNT, 0)
    return reply.procedure


async def buckets(rig: Rig) -> tuple[int, int, int]:
    money = await rig.money()
    return money.available, money.frozen, money.in_transit


async def reverse(rig: Rig, shown: dict[str, Any], **more: Any) -> Any:
    return await rig.operate("CashDepositReverse", shown, SUPERVISOR, **CONFIRMED_BY_SUPERVISOR, **more)


@pytest.mark.req("SBA-DEP-009", "SBA-DEP-022")
@pytest.mark.parametrize("other", [0, BEFORE], ids=["with available money", "without any"])
def test_a_reversed_hold_deposit_takes_its_own_freeze_and_leaves_available_money_alone(other: int):
    """``other``: money frozen for something else in between, so that nothing is available."""
    async def story(rig: Rig) -> None:
        shown, risk_control = await held(rig), rig.core.risk_control
        if other:
            await risk_control.freeze("o1", shown["trade_acc_id"], "HKD", other, "other", int(FreezeType.EXCHANGE))
        reply = await reverse(rig, shown)
        assert (reply.code, reply.procedure["state"]) == (Code.OK, "end_reverse(deposit_ok)")
        assert await buckets(rig) == (BEFORE - other, other, 0)
        assert (await risk_control.hold(HOLD)).stage is Stage.CONSUMED
        if other:
            await risk_control.release("o2", "other")

    play(story)


@pytest.mark.req("SBA-DEP-009", "SBA-DEP-022")
def test_a_hold_deposit_whose_freeze_was_released_is_taken_from_available_money():
    async def story(rig: Rig) -> None:
        shown = await held(rig)
        await rig.core.risk_control.release("free", HOLD)
        assert await buckets(rig) == (BEFORE + AMOUNT, 0, 0)
        assert (await reverse(rig, shown)).code is Code.OK
        assert await buckets(rig) == (BEFORE, 0, 0)

    play(story)


@pytest.mark.req("SBA-DEP-009")
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after"])
def test_a_reversed_hold_deposit_is_taken_back_once_however_often_it_is_asked_for(kind: str):
    async def story(rig: Rig) -> None:
        shown = await held(rig)
        silence(rig, "settle", kind)
        assert (await reverse(rig, shown)).code is Code.DEPENDENCY_TIMEOUT
        speak(rig)
        await rig.core.engine.resume(shown["id"])
        assert (await rig.sba.procedure(shown["id"]))["state"] == "end_reverse(deposit_ok)"
        assert await buckets(rig) == (BEFORE, 0, 0)

    play(story, settings=QUICK)


# The core's own books


def in_a_job(world: Any) -> None:
    async def broken(_job: Any) -> Any:
        raise InvariantBroken("the books do not agree")

    world.core.jobs._handlers[TRANSFER] = broken


def in_a_task_of_its_own(world: Any) -> None:
    async def broken() -> None:
        raise InvariantBroken("the books do not agree")

    world.core.spawn(broken())


def in_scheduled_work(world: Any) -> None:
    async def broken() -> int:
        raise InvariantBroken("the books do not agree")

    world.core.timetable._job("FetchBankRequest").function = broken


@pytest.mark.parametrize("place", [in_a_job, in_a_task_of_its_own, in_scheduled_work])
def test_a_run_fails_whose_core_finds_its_own_books_broken(place: Any):
    result = run("airstar_poll_timeout", tamper=place)
    assert not result.passed
    [violation] = result.summary["invariants"]["violations"]
    assert (violation["invariant"], violation["detail"]) == ("core_intact", "the books do not agree")
    assert "airstar_poll_timeout" in violation["reproduce"]


# One hold, one withdrawal


@pytest.mark.parametrize("amount", [AMOUNT, AMOUNT // 2], ids=["of the same amount", "of another amount"])
def test_a_hold_serves_one_withdrawal(amount: int):
    async def story(rig: Rig) -> None:
        first = await rig.sba.create_withdrawal(rig.withdraw_request(hold_id="HX"))
        assert first.code is Code.OK
        second = await rig.sba.create_withdrawal(rig.withdraw_request(
            hold_id="HX", amount=amount, settled_amount=amount))
        assert second.code is Code.INVALID_PARAM
        assert "HX" in second.message
        assert [shown["id"] for shown in await rig.sba.procedures()] == [first.procedure["id"]]
        assert await buckets(rig) == (BEFORE - AMOUNT, AMOUNT, 0)
        await rig.reach(lambda: rig.sba.procedure(first.procedure["id"]), "pending(transfer_manual)")
        assert (await rig.operate("SetManualTransferDone", await rig.sba.procedure(first.procedure["id"]))).ok
        assert await buckets(rig) == (BEFORE - AMOUNT, 0, 0)
        again = await rig.sba.create_withdrawal(rig.withdraw_request(hold_id="HX"))
        assert again.code is Code.INVALID_PARAM  # nor is it opened again for another Task

    play(story)


# A request id stands for one request


OTHER_WITHDRAWAL = {
    "nn_uid": 10_000_999, "trade_acc_id": 1_000_000_999, "market": 2, "ccy": "USD", "amount": 5, "task_id": 77_777,
    "transfer_method": "boc_fps", "transfer_dest_bank": "bochk", "transfer_dest_card": "666", "hold_id": "HOTHER",
}  # fmt: skip
GOES_WITH = {"amount": {"settled_amount": 5}, "task_id": {"hold_id": "HOTHER"}}  # or it is refused for another reason
OTHER_DEPOSIT = {
    "nn_uid": 10_000_999, "trade_acc_id": 1_000_000_999, "market": 2, "ccy": "USD", "amount": 5,
    "transaction_id": "bochk:other", "transfer_method": 101, "deposit_type": 5, "source": 2,
}  # fmt: skip


@pytest.mark.parametrize("field", OTHER_WITHDRAWAL)
def test_a_withdrawal_request_is_not_repeated_with_another(field: str):
    async def story(rig: Rig) -> None:
        asked = rig.withdraw_request(rpc_request_id="same")
        first = await rig.sba.create_withdrawal(asked)
        assert first.code is Code.OK
        changed = {field: OTHER_WITHDRAWAL[field], **GOES_WITH.get(field, {})}
        other = await rig.sba.create_withdrawal(replace(asked, **changed))
        assert (other.code, other.procedure) == (Code.INVALID_PARAM, None)
        assert field in other.message
        replayed = await rig.sba.create_withdrawal(asked)
        assert (replayed.code, replayed.procedure["id"]) == (Code.REPLAYED, first.procedure["id"])
        assert len(await rig.sba.procedures()) == 1

    play(story)


@pytest.mark.parametrize("field", OTHER_DEPOSIT)
def test_a_deposit_request_is_not_repeated_with_another(field: str):
    async def story(rig: Rig) -> None:
        asked = rig.deposit_request(rpc_request_id="same")
        first = await rig.sba.create_deposit(asked)
        assert first.code is Code.OK
        other = await rig.sba.create_deposit(replace(asked, **{field: OTHER_DEPOSIT[field]}))
        assert (other.code, other.procedure) == (Code.INVALID_PARAM, None)
        assert field in other.message
        replayed = await rig.sba.create_deposit(asked)
        assert (replayed.code, replayed.procedure["id"]) == (Code.REPLAYED, first.procedure["id"])
        assert len(await rig.sba.procedures()) == 1
        assert await buckets(rig) == (BEFORE + AMOUNT, 0, 0)

    play(story)


# What a customer asks for


WISHES = [
    *({"amount": amount} for amount in (0, -1, -100, MAX_AMOUNT, 10**17, 2**63, 10**19, 10**30)),
    *({"ccy": ccy} for ccy in ("XXX", "", "hkd", "EUR")),
    *({"market": market} for market in (0, 3, 5, -1)),
]


@pytest.mark.parametrize("way", ["deposit", "withdraw"])
@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_a_wish_that_makes_no_sense_is_refused_and_leaves_nothing_behind(way: str, wish: dict[str, Any]):
    async def story(rig: Rig) -> None:
        asked = await (rig.deposit if way == "deposit" else rig.withdraw)(**wish)
        assert isinstance(asked, Refusal)
        assert asked.code is Code.INVALID_PARAM
        assert next(iter(wish)) in asked.detail
        assert await rig.core.jobs.open_jobs() == []
        assert rig.of_kind("apply") == rig.of_kind("task") == []

    play(story)
