"""The same thing asked twice happens once: creations, statements, tasks, instructions (orchestration.md §6)."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from core.errors import Code
from tests.orchestration.driving import (
    CONFIRMED_BY_SUPERVISOR,
    QUICK,
    create_deposit,
    create_withdrawal,
    deposit_credited,
    silence,
    speak,
)
from tests.rig import SUPERVISOR, Rig, play

AMOUNT = 1_000_000


@pytest.mark.req("DEDUP-01", "DEDUP-05")
def test_a_statement_that_was_credited_is_not_credited_to_a_customer_of_another_shard():
    async def story(rig: Rig) -> None:
        alice, bob = rig.customer("alice"), rig.customer("bob")
        assert alice.uid % 100 != bob.uid % 100  # the shard of a customer's applications
        first = await create_deposit(rig, transaction_id="bochk:4711")
        before = await rig.money("bob")
        reply = await rig.sba.create_deposit(rig.deposit_request(
            transaction_id="bochk:4711", nn_uid=bob.uid, trade_acc_id=bob.trade_acc_ids[0], amount=AMOUNT))
        assert reply.code is Code.DUPLICATE
        assert reply.procedure["id"] == first["id"]
        assert reply.procedure["nn_uid"] == alice.uid
        assert await rig.money("bob") == before
        assert len(await rig.sba.procedures()) == 1

    play(story)


@pytest.mark.req("DEDUP-05")
@pytest.mark.parametrize(("method", "other_method", "same"), [
    (201, 202, True), (303, 304, True), (201, 303, False)])
def test_a_transaction_id_is_used_once_among_statements_and_once_among_bank_securities_transfers(
    method: int, other_method: int, same: bool
):
    async def story(rig: Rig) -> None:
        first = await create_deposit(rig, transaction_id="X1", transfer_method=method)
        reply = await rig.sba.create_deposit(rig.deposit_request(transaction_id="X1", transfer_method=other_method))
        assert reply.code is (Code.DUPLICATE if same else Code.OK)
        assert (reply.procedure["id"] == first["id"]) is same

    play(story)


@pytest.mark.req("DEDUP-05")
def test_a_rejected_deposits_statement_stays_used():
    async def story(rig: Rig) -> None:
        shown = await create_deposit(rig, transaction_id="X1", deposit_type=5)
        await rig.operate("CashDepositManualReject", shown)
        reply = await rig.sba.create_deposit(rig.deposit_request(transaction_id="X1"))
        assert (reply.code, reply.procedure["id"]) == (Code.DUPLICATE, shown["id"])

    play(story)


@pytest.mark.req("DEDUP-02")
def test_a_task_has_one_living_procedure_and_a_new_one_only_after_a_reversal():
    async def story(rig: Rig) -> None:
        first = await create_withdrawal(rig, task_id=77)
        before = await rig.money()
        reply = await rig.sba.create_withdrawal(rig.withdraw_request(task_id=77))
        assert (reply.code, reply.procedure["id"]) == (Code.DUPLICATE, first["id"])
        assert await rig.money() == before
        driven = (await rig.sba.drive(first["id"])).procedure
        done = (await rig.operate("SetManualTransferDone", driven)).procedure
        assert (await rig.sba.create_withdrawal(rig.withdraw_request(task_id=77))).code is Code.DUPLICATE
        await rig.operate("CashWithdrawReverse", done, SUPERVISOR)
        reply = await rig.sba.create_withdrawal(rig.withdraw_request(task_id=77))
        assert reply.code is Code.OK
        assert reply.procedure["id"] != first["id"]

    play(story)


@pytest.mark.req("DEDUP-03")
def test_a_creation_sent_again_under_its_request_id_gives_the_same_procedure_and_one_credit():
    async def story(rig: Rig) -> None:
        before = await rig.money()
        request = rig.deposit_request()
        first = await rig.sba.create_deposit(request)
        again = [await rig.sba.create_deposit(request) for _ in range(5)]
        assert first.code is Code.OK
        assert [reply.code for reply in again] == [Code.REPLAYED] * 5
        assert {reply.procedure["id"] for reply in again} == {first.procedure["id"]}
        assert (await rig.money()).available == before.available + AMOUNT

    play(story)


@pytest.mark.req("DEDUP-03")
def test_a_creation_sent_again_after_a_crash_still_gives_the_same_procedure():
    async def story(rig: Rig) -> None:
        before = await rig.money()
        request = rig.deposit_request()
        first = await rig.sba.create_deposit(request)
        rig.world.kill(1_000)
        await asyncio.sleep(2)
        again = await rig.sba.create_deposit(request)
        assert (again.code, again.procedure["id"]) == (Code.REPLAYED, first.procedure["id"])
        assert (await rig.money()).available == before.available + AMOUNT

    play(story)


@pytest.mark.req("DEDUP-03")
@pytest.mark.parametrize("changed", [{"amount": 2}, {"transaction_id": "other"}, {"ccy": "USD"}, {"nn_uid": 1},
                                     {"trade_acc_id": 1}, {"market": 2}])
def test_a_request_id_with_another_deposit_under_it_is_refused_and_not_taken_for_done(changed):
    async def story(rig: Rig) -> None:
        request = rig.deposit_request()
        await rig.sba.create_deposit(request)
        reply = await rig.sba.create_deposit(replace(request, **changed))
        assert reply.code is Code.INVALID_PARAM
        assert len(await rig.sba.procedures()) == 1

    play(story)


@pytest.mark.req("DEDUP-03")
def test_a_request_id_of_a_withdrawal_stands_for_that_withdrawal_only():
    async def story(rig: Rig) -> None:
        request = rig.withdraw_request()
        first = await rig.sba.create_withdrawal(request)
        assert (await rig.sba.create_withdrawal(request)).code is Code.REPLAYED
        other = await rig.sba.create_withdrawal(replace(request, task_id=request.task_id + 1))
        assert (other.code, other.procedure) == (Code.INVALID_PARAM, None)
        operated = await rig.operate("CashWithdrawReject", first.procedure, request_id=request.rpc_request_id)
        assert operated.code is Code.INVALID_PARAM
        # The same id for a deposit is another key: biz_type + rpc_request_id.
        deposit = await rig.sba.create_deposit(rig.deposit_request(rpc_request_id=request.rpc_request_id))
        assert deposit.code is Code.OK

    play(story)


@pytest.mark.req("DEDUP-06", "DEDUP-01")
@pytest.mark.parametrize("same_request", [True, False])
def test_of_concurrent_creations_for_one_statement_one_makes_the_procedure(same_request: bool):
    async def story(rig: Rig) -> None:
        before = await rig.money()
        requests = [rig.deposit_request(transaction_id="bochk:1") for _ in range(6)]
        if same_request:
            requests = [requests[0]] * 6
        replies = await asyncio.gather(*map(rig.sba.create_deposit, requests))
        assert Counter(reply.code for reply in replies) == {
            Code.OK: 1, Code.REPLAYED if same_request else Code.DUPLICATE: 5}
        assert len({reply.procedure["id"] for reply in replies}) == 1
        await asyncio.sleep(60)
        assert (await rig.money()).available == before.available + AMOUNT
        assert len(rig.of_kind("procedure", row="DT-01")) == 1

    play(story)


@pytest.mark.req("DEDUP-04")
@pytest.mark.parametrize(("call", "op"), [("freeze", "freeze"), ("deduct", "deduct"), ("consume", "consume")])
def test_an_instruction_of_a_withdrawal_is_carried_out_once_however_often_its_answer_is_lost(call: str, op: str):
    async def story(rig: Rig) -> None:
        silence(rig, call, "timeout_after")
        shown = await create_withdrawal(rig)
        if call != "freeze":
            await rig.sba.drive(shown["id"])
        if call == "consume":
            await rig.operate("SetManualTransferDone", await rig.sba.procedure(shown["id"]))
        await asyncio.sleep(60)
        speak(rig)
        await asyncio.sleep(30)
        asked = [posting for posting in rig.of_kind("posting", op=op) if posting["key"].startswith(f"P{shown['id']}:")]
        assert len(asked) > 10
        assert len({posting["key"] for posting in asked}) == 1
        assert sum(bool(posting["legs"]) for posting in asked) == 1

    play(story, settings=QUICK)


@pytest.mark.req("DEDUP-04")
@pytest.mark.parametrize(("call", "operation"), [("restore", "SetManualTransferFailed"), ("refreeze", "MoveNext"),
                                                 ("release", "CashWithdrawReject")])
def test_money_is_given_back_once_however_often_the_answer_is_lost(call: str, operation: str):
    async def story(rig: Rig) -> None:
        before = await rig.money()
        shown = await create_withdrawal(rig)
        if call != "release":
            shown = (await rig.sba.drive(shown["id"])).procedure
        silence(rig, call, "timeout_after")
        name = "MoveNextTransactionDay" if call == "refreeze" else operation
        assert (await rig.operate(name, shown)).ok
        await asyncio.sleep(60)
        speak(rig)
        await asyncio.sleep(30)
        moved = [posting for posting in rig.of_kind("posting", op=call) if posting["legs"]]
        assert len(moved) == 1
        after = await rig.money()
        assert after.total == before.total
        assert after.available == before.available - (AMOUNT if call == "refreeze" else 0)

    play(story, settings=QUICK)


@pytest.mark.req("DEDUP-04")
def test_each_attempt_of_a_deferred_withdrawal_has_keys_of_its_own():
    async def story(rig: Rig) -> None:
        shown = await create_withdrawal(rig)
        shown = (await rig.sba.drive(shown["id"])).procedure
        await rig.operate("MoveNextTransactionDay", shown)
        rig.core.timetable.resume("WithdrawDriveJob")
        await rig.until("2026-03-13 10:00")
        again = await rig.sba.procedure(shown["id"])
        assert (again["state"], again["attempt_no"]) == ("pending(transfer_manual)", 2)
        keys = [posting["key"] for posting in rig.of_kind("posting", op="deduct") if posting["legs"]]
        assert len(keys) == len(set(keys)) == 2
        assert [key.split(":")[1] for key in keys] == ["1", "2"]

    play(story)


@pytest.mark.req("DEDUP-04")
def test_an_operation_sent_again_under_its_request_id_is_done_once():
    async def story(rig: Rig) -> None:
        shown = await deposit_credited(rig)
        before = await rig.money()
        request = rig.request_id()
        codes = [(await rig.operate("CashDepositReverse", shown, SUPERVISOR, request_id=request,
                                    **CONFIRMED_BY_SUPERVISOR)).code for _ in range(4)]
        assert codes == [Code.OK, Code.REPLAYED, Code.REPLAYED, Code.REPLAYED]
        assert (await rig.money()).available == before.available - AMOUNT

    play(story)


@pytest.mark.req("DEDUP-04")
def test_an_operation_sent_twice_at_once_under_its_request_id_is_done_once():
    async def story(rig: Rig) -> None:
        shown = await deposit_credited(rig)
        before = await rig.money()
        request = rig.request_id()
        replies = await asyncio.gather(*(rig.operate("CashDepositReverse", shown, SUPERVISOR, request_id=request,
                                                     **CONFIRMED_BY_SUPERVISOR) for _ in range(4)))
        assert Counter(reply.code for reply in replies) == {Code.OK: 1, Code.REPLAYED: 3}
        assert (await rig.money()).available == before.available - AMOUNT

    play(story)
