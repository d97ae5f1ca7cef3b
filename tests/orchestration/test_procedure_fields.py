"""Fields of Procedures: which values they take, where they come from, and what is refused (orchestration.md §1.2,
§2.3, §3.6)."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from typing import Any

import pytest
from sqlalchemy import bindparam, insert

from core.deposits.applications import Apply
from core.errors import Code
from core.orchestration.records import DepositFields, WithdrawFields
from core.orchestration.requests import DepositRequest, MarketShare, WithdrawRequest
from core.storage import Statement
from core.storage.errors import ConstraintViolation
from core.storage.primary import applys, asb_request, refund, tasks
from core.storage.procedure import proc_cash_deposit, proc_cash_withdraw, proc_idem, proc_info
from emulators.airstar.bank import AirstarBank
from tests.orchestration.driving import (
    DEPOSIT_WAYS,
    WITHDRAW_WAYS,
    Way,
    by_hand,
    create_deposit,
    create_withdrawal,
    deposit_in_review,
    speak,
    way_to,
)
from tests.rig import SUPERVISOR, SYSTEM, USER, Rig, play

ROW = {"biz_type": "cash_deposit", "nn_uid": 1, "market": 1, "trade_acc_id": 101, "status": "new",
       "ext_status": "waiting", "transaction_date": 20260312, "created_at": 1, "updated_at": 1}
INSERT = Statement(insert(proc_info).values({name: bindparam(name) for name in ROW}))


async def refused(rig: Rig, code: Code, **changed: Any) -> str:
    """The request for a deposit changed like this is refused, and nothing is left behind."""
    reply = await rig.sba.create_deposit(rig.deposit_request(**changed))
    assert (reply.code, reply.procedure) == (code, None), reply
    return reply.message


# Identity


@pytest.mark.req("SBA-PROC-01")
def test_every_deposit_and_withdrawal_has_one_procedure_and_ids_only_grow():
    async def story(rig: Rig) -> None:
        applies = [await rig.deposit(who) for who in ("alice", "bob")]
        task_ids = [(await rig.withdraw(channel=channel)).id for channel in ("airstar", "hsbc")]
        await asyncio.sleep(300)
        of_applies = [(await rig.of_apply(apply.id))["id"] for apply in applies]
        of_tasks = [(await rig.of_task(task))["id"] for task in task_ids]
        shown = await rig.sba.procedures()
        assert sorted([*of_applies, *of_tasks]) == sorted(p["id"] for p in shown)
        assert len({*of_applies, *of_tasks}) == 4
        by_age = sorted(shown, key=lambda p: p["created_at"])
        assert [p["id"] for p in by_age] == sorted(p["id"] for p in shown)

    play(story)


@pytest.mark.req("SBA-PROC-01")
def test_ids_go_on_growing_after_a_crash():
    async def story(rig: Rig) -> None:
        first = await create_deposit(rig)
        rig.world.kill(1_000)
        await asyncio.sleep(3)
        assert (await create_deposit(rig))["id"] > first["id"]

    play(story)


@pytest.mark.parametrize("changed", [
    pytest.param({"biz_type": "cash_transfer"}, marks=pytest.mark.req("SBA-PROC-02")),
    pytest.param({"biz_type": ""}, marks=pytest.mark.req("SBA-PROC-02")),
    pytest.param({"market": 3}, marks=pytest.mark.req("SBA-PROC-03")),
    pytest.param({"market": 0}, marks=pytest.mark.req("SBA-PROC-03")),
    pytest.param({"status": "end"}, marks=pytest.mark.req("SBA-PROC-10")),
    pytest.param({"status": "pending", "ext_status": "transfer_done"}, marks=pytest.mark.req("SBA-PROC-11")),
    pytest.param({"status": "end_cancel", "ext_status": "waiting"}, marks=pytest.mark.req("SBA-PROC-10")),
])
def test_the_store_refuses_a_procedure_with_a_value_that_the_documents_do_not_know(changed: dict[str, Any]):
    async def story(rig: Rig) -> None:
        db = rig.world.databases.procedure
        with pytest.raises(ConstraintViolation):
            await db.insert(INSERT, ROW | changed)
        assert await db.insert(INSERT, ROW) == 1

    play(story, planted=True)


@pytest.mark.req("SBA-PROC-02")
def test_a_creation_gives_its_own_business_type():
    async def story(rig: Rig) -> None:
        assert (await create_deposit(rig))["biz_type"] == "cash_deposit"
        assert (await create_withdrawal(rig))["biz_type"] == "cash_withdraw"

    play(story)


@pytest.mark.req("SBA-PROC-03")
@pytest.mark.parametrize("market", [-1, 0, 1, 2, 3, 4, 5, 8])
def test_markets_are_1_2_and_4(market: int):
    async def story(rig: Rig) -> None:
        for reply in (await rig.sba.create_deposit(rig.deposit_request(market=market)),
                      await rig.sba.create_withdrawal(rig.withdraw_request(market=market))):
            assert reply.code is (Code.OK if market in (1, 2, 4) else Code.INVALID_PARAM)
            assert (reply.procedure or {"market": market})["market"] == market

    play(story)


@pytest.mark.req("SBA-PROC-05")
def test_postings_touch_only_the_trading_account_that_the_procedure_names():
    async def story(rig: Rig) -> None:
        alice = rig.customer("alice")
        second, ledger = alice.trade_acc_ids[0] + 1, rig.core.risk_control
        before = await rig.money()
        shown = await create_deposit(rig, trade_acc_id=second)
        assert (shown["nn_uid"], shown["trade_acc_id"]) == (alice.uid, second)
        assert (await ledger.balances(second, "HKD")).available == 1_000_000
        held = await create_withdrawal(rig, trade_acc_id=second, amount=400_000, settled_amount=400_000)
        assert (await ledger.balances(second, "HKD"))[:2] == (600_000, 400_000)
        assert held["trade_acc_id"] == second
        assert await rig.money() == before
        accounts = {posting["account"] for posting in rig.of_kind("posting") if posting["key"].startswith("P")}
        assert accounts == {second}

    play(story)


# Version, date, reason


@pytest.mark.req("SBA-PROC-06")
@pytest.mark.parametrize("way", [*(way for way in (*DEPOSIT_WAYS, *WITHDRAW_WAYS) if not way.planted)],
                         ids=lambda way: way.label)
def test_the_version_starts_at_1_and_grows_by_1_with_each_step_on_every_way(way: Way):
    async def story(rig: Rig) -> None:
        shown = await way.reached(rig)
        moves = rig.of_kind("procedure", id=shown["id"])
        assert [move["version"] for move in moves] == list(range(1, shown["version"] + 1))
        assert len(await rig.sba.history(shown["id"])) == shown["version"]
        speak(rig)

    play(story, **way.world)


DATES = [  # Hong Kong time, market, expected; March 2026: the 12th is a Thursday; US cutoff 04:00 Hong Kong time
    ("2026-03-12 10:00", 1, 20260312),
    ("2026-03-12 16:14", 1, 20260312),
    ("2026-03-12 16:15", 1, 20260313),
    ("2026-03-13 17:00", 1, 20260316),
    ("2026-03-14 09:00", 1, 20260316),
    ("2026-03-12 03:59", 2, 20260311),
    ("2026-03-12 04:00", 2, 20260312),
    ("2026-03-14 03:00", 2, 20260313),
    ("2026-03-14 04:00", 2, 20260316),
    ("2026-03-12 16:15", 4, 20260313),
    ("2026-02-16 17:00", 1, 20260220),  # Lunar New Year
]


@pytest.mark.req("SBA-PROC-07")
@pytest.mark.parametrize(("moment", "market", "date"), DATES)
def test_the_transaction_date_is_the_trading_day_that_the_moment_belongs_to(moment: str, market: int, date: int):
    async def story(rig: Rig) -> tuple[int, int]:
        ccy = "USD" if market == 2 else "HKD"
        deposit = await create_deposit(rig, market=market, ccy=ccy)
        withdrawal = await create_withdrawal(rig, market=market, ccy=ccy, amount=1_000, settled_amount=1_000)
        return deposit["transaction_date"], withdrawal["transaction_date"]

    assert play(story, start=moment) == (date, date)


@pytest.mark.req("SBA-PROC-08")
@pytest.mark.parametrize("way", [*DEPOSIT_WAYS, *WITHDRAW_WAYS], ids=lambda way: f"{way.drive.__name__}")
def test_a_reason_stands_with_every_failed_end_and_with_no_success(way: Way):
    async def story(rig: Rig) -> None:
        shown = await way.reached(rig)
        if shown["status"] in ("end_reject", "end_cancel"):
            assert shown["reason"]
        if shown["status"] == "end_ok":
            assert shown["reason"] == ""

    play(story, **(way.world | {"planted": True}))


@pytest.mark.req("SBA-PROC-08")
def test_a_rolled_back_withdrawal_that_was_completed_by_force_has_no_reason():
    async def story(rig: Rig) -> None:
        shown = await way_to("pending(return)").reached(rig)
        assert shown["reason"] == "MANUAL_TRANSFER_FAILED"
        speak(rig)
        reply = await rig.operate("CashWithdrawForceProcess", shown, SUPERVISOR, action="Complete",
                                  bank_status="TRANSFERRED")
        assert (reply.procedure["state"], reply.procedure["reason"]) == ("end_ok(transfer_done)", "")

    play(story, **way_to("pending(return)").world)


@pytest.mark.req("SBA-PROC-10")
def test_no_deposit_is_ever_cancelled_whatever_is_asked_of_it():
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        for by in (SUPERVISOR, SYSTEM, USER):
            assert not (await rig.operate("CashWithdrawCancel", shown, by)).ok
        assert (await rig.sba.procedure(shown["id"]))["state"] == "new(manual_confirm)"

    play(story)


@pytest.mark.req("SBA-PROC-11")
def test_a_bank_acknowledgement_is_shown_as_transfer_done_and_stored_as_a_moment():
    async def story(rig: Rig) -> None:
        rig.core.jobs.pause("AsbBstTransfer")
        shown = await rig.withdrawn("pending(transfer_auto)")
        assert (shown["shown_state"], shown["bank_ack_at"]) == ("pending(transfer_auto)", None)
        sent_from = rig.now_ms
        rig.core.jobs.resume("AsbBstTransfer")
        await asyncio.sleep(2)
        shown = await rig.sba.procedure(shown["id"])
        assert (shown["state"], shown["shown_state"]) == ("pending(transfer_auto)", "pending(transfer_done)")
        assert sent_from < shown["bank_ack_at"] <= rig.now_ms
        assert (shown["status"], shown["ext_status"]) == ("pending", "transfer_auto")
        assert len(await rig.sba.history(shown["id"])) == shown["version"]
        await rig.reach(lambda: rig.sba.procedure(shown["id"]), "end_ok(transfer_done)")

    play(story)


# Several markets


BST = {"transfer_method": 303, "deposit_type": 4}
SHARES = [MarketShare(1, "HKD", 300_000), MarketShare(2, "USD", 20_000), MarketShare(4, "CNH", 50_000)]


@pytest.mark.req("SBA-PROC-04")
def test_a_bank_securities_transfer_for_several_markets_makes_one_procedure_per_market_once():
    async def story(rig: Rig) -> None:
        request = rig.deposit_request(**BST, transaction_id="R1")
        replies = await rig.sba.create_deposit_per_market(request, SHARES)
        assert [(r.procedure["market"], r.procedure["ccy"], r.procedure["amount"]) for r in replies] == [
            (1, "HKD", 300_000), (2, "USD", 20_000), (4, "CNH", 50_000)]
        assert all(reply.code is Code.OK for reply in replies)
        assert len({reply.procedure["id"] for reply in replies}) == 3
        again = await rig.sba.create_deposit_per_market(request, SHARES)
        assert [reply.code for reply in again] == [Code.REPLAYED] * 3
        assert [r.procedure["id"] for r in again] == [r.procedure["id"] for r in replies]
        assert (await rig.money("alice", "CNH")).available == 50_000

    play(story)


@pytest.mark.req("SBA-PROC-04")
@pytest.mark.parametrize("shares", [
    [], [SHARES[0], SHARES[0]], [SHARES[0], MarketShare(3, "HKD", 1)], [SHARES[0], MarketShare(2, "USD", 0)],
])
def test_a_flaw_in_one_market_refuses_the_whole_transfer(shares):
    async def story(rig: Rig) -> None:
        [reply] = await rig.sba.create_deposit_per_market(rig.deposit_request(**BST), shares)
        assert reply.code is Code.INVALID_PARAM
        assert await rig.sba.procedures() == []

    play(story)


@pytest.mark.req("SBA-PROC-04")
def test_a_transfer_for_one_market_keeps_its_ids_and_a_statement_is_never_split():
    async def story(rig: Rig) -> None:
        [reply] = await rig.sba.create_deposit_per_market(rig.deposit_request(**BST, transaction_id="R1"), SHARES[:1])
        assert reply.procedure["transaction_id"] == "R1"
        [reply] = await rig.sba.create_deposit_per_market(rig.deposit_request(), SHARES)
        assert reply.code is Code.INVALID_PARAM

    play(story)


# Deposit fields


@pytest.mark.req("SBA-DEP-019")
@pytest.mark.parametrize("deposit_type", range(-1, 14))
def test_there_are_six_modes_of_deposit(deposit_type: int):
    async def story(rig: Rig) -> Code:
        held = {"hold_type": 1, "hold_apply_id": "F" * 32} if deposit_type == 11 else {}
        return (await rig.sba.create_deposit(rig.deposit_request(deposit_type=deposit_type, **held))).code

    assert play(story) is (Code.OK if deposit_type in (1, 2, 3, 4, 5, 11) else Code.INVALID_PARAM)


@pytest.mark.req("SBA-DEP-020")
@pytest.mark.parametrize("hold_apply_id", [None, "", "F" * 31, "F" * 33])
def test_a_held_deposit_needs_a_freeze_id_of_32_characters(hold_apply_id: str | None):
    async def story(rig: Rig) -> None:
        message = await refused(rig, Code.INVALID_PARAM, deposit_type=11, hold_type=1, hold_apply_id=hold_apply_id)
        assert "32 characters" in message
        shown = await create_deposit(rig, deposit_type=11, hold_type=1, hold_apply_id="F" * 32)
        assert shown["hold_apply_id"] == "F" * 32

    play(story)


@pytest.mark.req("SBA-DEP-021")
def test_a_hold_type_is_1_2_or_17_and_belongs_to_held_deposits_only():
    async def story(rig: Rig) -> None:
        for hold_type in (None, 0, 3, 16, 18, 99):
            await refused(rig, Code.INVALID_PARAM, deposit_type=11, hold_type=hold_type, hold_apply_id="F" * 32)
        for deposit_type in (1, 2, 3, 4, 5):
            await refused(rig, Code.INVALID_PARAM, deposit_type=deposit_type, hold_type=1)
            await refused(rig, Code.INVALID_PARAM, deposit_type=deposit_type, hold_apply_id="F" * 32)
        for hold_type in (1, 2, 17):
            shown = await create_deposit(rig, deposit_type=11, hold_type=hold_type, hold_apply_id=f"{hold_type:032d}")
            assert shown["hold_type"] == hold_type

    play(story)


@pytest.mark.req("SBA-DEP-024")
@pytest.mark.parametrize("ccy", ["HKD", "USD", "CNH", "CNY", "EUR", "hkd", ""])
def test_currencies_are_hkd_usd_and_cnh(ccy: str):
    async def story(rig: Rig) -> None:
        for reply in (await rig.sba.create_deposit(rig.deposit_request(ccy=ccy)),
                      await rig.sba.create_withdrawal(rig.withdraw_request(ccy=ccy))):
            assert reply.code is (Code.OK if ccy in ("HKD", "USD", "CNH") else Code.INVALID_PARAM)
            assert (reply.procedure or {"ccy": ccy})["ccy"] == ccy

    play(story)


# gaps.md B-03: code, bank, is_bs_transfer.
TRANS_TYPES = [
    (101, "any", 0), (102, "internal", 0), (201, "bochk", 0), (202, "hsbc", 0), (203, "hase", 0), (204, "icbc", 0),
    (205, "cgb", 0), (206, "scb", 0), (207, "ccba", 0), (208, "dbs", 0), (209, "za", 0), (210, "citi", 0),
    (211, "spd", 0), (212, "ewb", 0), (251, "hsbc", 0), (252, "hase", 0), (301, "cmb", 1), (302, "cmbc", 1),
    (303, "airstar", 1), (304, "airstar", 1)]


@pytest.mark.req("SBA-DEP-025", "SBA-DEP-026")
@pytest.mark.parametrize(("code", "bank", "bst"), TRANS_TYPES)
def test_the_transtype_says_bank_and_channel_and_whether_it_is_a_bank_securities_transfer(code, bank, bst):
    async def story(rig: Rig) -> None:
        shown = await create_deposit(rig, transfer_method=code)
        assert (shown["transfer_method"], shown["is_bs_transfer"]) == (code, bst)
        screen = await rig.sba.review_screen(shown["id"])
        assert screen["statement"]["bank"] == bank
        assert screen["statement"]["way"]

    play(story)


@pytest.mark.req("SBA-DEP-026")
@pytest.mark.parametrize("code", [0, 100, 103, 200, 213, 250, 253, 300, 305, 999])
def test_a_transtype_that_is_not_in_the_table_is_refused(code: int):
    async def story(rig: Rig) -> None:
        await refused(rig, Code.INVALID_PARAM, transfer_method=code)

    play(story)


@pytest.mark.req("SBA-DEP-027")
@pytest.mark.parametrize("source", [0, 3, -1])
def test_a_source_is_moomoo_or_the_bank(source: int):
    async def story(rig: Rig) -> None:
        await refused(rig, Code.INVALID_PARAM, source=source)
        assert (await create_deposit(rig, source=2))["source"] == 2

    play(story)


@pytest.mark.req("SBA-DEP-023", "SBA-DEP-027", "SBA-DEP-028", "SBA-DEP-025")
def test_an_airstar_deposit_from_the_app_carries_the_banks_id_and_our_reference():
    async def story(rig: Rig) -> None:
        apply = await rig.deposit()
        shown = await rig.reach(lambda: rig.of_apply(apply.id), "end_ok(deposit_ok)")
        [collected] = rig.paid("collect")
        assert shown["transaction_id"] == collected["request_id"]
        assert shown["bank_ref_id"] == collected["ref"]
        assert re.fullmatch(r"ASBBST\d{9}", shown["bank_ref_id"])
        assert (shown["source"], shown["transfer_method"], shown["is_bs_transfer"]) == (1, 303, 1)
        assert rig.of_kind("job", job="AsbBstCreateFromBankJob") == []

    play(story)


@pytest.mark.req("SBA-DEP-023", "SBA-DEP-027", "SBA-DEP-028")
def test_a_deposit_begun_at_airstar_has_source_2_and_comes_through_its_own_job():
    async def story(rig: Rig) -> None:
        bank: AirstarBank = rig.world.bank
        started = bank.customer_deposits(rig.world.mandates[rig.customer("alice").index], 1, "HKD", 250_000)
        await asyncio.sleep(300)
        [shown] = await rig.sba.procedures(biz_type="cash_deposit")
        assert (shown["state"], shown["source"], shown["transfer_method"]) == ("end_ok(deposit_ok)", 2, 304)
        assert shown["transaction_id"] == started.request_id
        assert re.fullmatch(r"ASBBST\d{9}", shown["bank_ref_id"])
        done = rig.of_kind("job", job="AsbBstCreateFromBankJob", state="DONE")
        assert [job["key"] for job in done] == [started.request_id]

    play(story)


@pytest.mark.req("SBA-DEP-023")
@pytest.mark.parametrize("transaction_id", ["", "x" * 65])
def test_a_deposit_without_a_statement_or_business_id_is_refused(transaction_id: str):
    async def story(rig: Rig) -> None:
        await refused(rig, Code.INVALID_PARAM, transaction_id=transaction_id)
        shown = await create_deposit(rig, transaction_id="bochk:77")
        assert shown["transaction_id"] == "bochk:77"

    play(story)


# Withdrawal fields


async def no_withdrawal(rig: Rig, **changed: Any) -> None:
    before = await rig.money()
    reply = await rig.sba.create_withdrawal(rig.withdraw_request(**changed))
    assert (reply.code, reply.procedure) == (Code.INVALID_PARAM, None), reply
    assert await rig.money() == before
    assert await rig.sba.procedures() == []


@pytest.mark.req("SBA-WD-043")
@pytest.mark.parametrize("amount", [0, -1, -1_000_000])
def test_a_withdrawal_of_nothing_is_refused(amount: int):
    async def story(rig: Rig) -> None:
        await no_withdrawal(rig, amount=amount, settled_amount=min(amount, 0))
        await refused(rig, Code.INVALID_PARAM, amount=amount)

    play(story)


@pytest.mark.req("SBA-WD-043", "SBA-WD-044", "SBA-WD-045")
@pytest.mark.parametrize("channel", ["auto_bs", "hsbc", "hase", "boc", "boc_fps", "sc", "cgb_fps_api", "chats_rtgs",
                                     "manual", "check", "tele_transfer", "ewb"])
def test_each_of_the_twelve_channels_is_accepted_without_a_fee(channel: str):
    async def story(rig: Rig) -> None:
        shown = await create_withdrawal(rig, transfer_method=channel, transfer_dest_bank="airstar", ccy="USD",
                                        amount=5_000, settled_amount=5_000, blacklisted=True)
        assert (shown["transfer_method"], shown["fee"], shown["ccy"]) == (channel, 0, "USD")

    play(story)


@pytest.mark.req("SBA-WD-045")
@pytest.mark.parametrize("channel", ["", "fps", "AUTO_BS", "bochk", "airstar"])
def test_a_thirteenth_channel_is_refused(channel: str):
    play(lambda rig: no_withdrawal(rig, transfer_method=channel))


@pytest.mark.req("SBA-WD-046")
@pytest.mark.parametrize("missing", ["transfer_dest_bank", "transfer_dest_card"])
def test_a_withdrawal_without_a_target_bank_or_card_is_refused(missing: str):
    play(lambda rig: no_withdrawal(rig, **{missing: ""}))


@pytest.mark.req("SBA-WD-046")
@pytest.mark.parametrize("method", ["auto_bs", "hsbc"])
def test_a_withdrawal_to_somebody_elses_card_is_refused_at_confirm_and_moves_no_money(method: str):
    async def story(rig: Rig) -> None:
        alice, bob = rig.customer("alice"), rig.customer("bob")
        bank = "airstar" if method == "auto_bs" else "hsbc"
        before = await rig.money()
        task = await rig.core.withdrawals.submit(
            alice.uid, alice.trade_acc_ids[0], 1, rig.world.card_id(bob, bank), bob.cards[bank].number, bank, "HKD",
            1_000_000, method)
        await asyncio.sleep(120)
        assert (await rig.core.withdrawals.find(task.id)).status == 4  # REJECTED
        assert await rig.sba.procedures() == []
        assert await rig.money() == before
        assert [row[:2] for row in await rig.core.withdrawals.log_of(task.id)] == [("CONFIRM", "refuse")]

    play(story)


@pytest.mark.req("SBA-WD-047")
@pytest.mark.parametrize(("launched", "channel", "good"), [
    (0, "hsbc", True), (0, "auto_bs", True), (1, "auto_bs", True), (1, "hsbc", False), (2, "auto_bs", False)])
def test_only_a_bank_securities_transfer_is_launched_by_the_bank(launched: int, channel: str, good: bool):
    async def story(rig: Rig) -> None:
        changed = {"bank_launched": launched, "transfer_method": channel, "transfer_dest_bank": "airstar",
                   "blacklisted": True}
        if good:
            assert (await create_withdrawal(rig, **changed))["bank_launched"] == launched
        else:
            await no_withdrawal(rig, **changed)

    play(story)


@pytest.mark.req("SBA-WD-047")
def test_a_withdrawal_from_the_app_is_0_and_one_begun_at_airstar_is_1():
    async def story(rig: Rig) -> None:
        task = await rig.withdraw()
        mine = await rig.reach(lambda: rig.of_task(task.id), "end_ok(transfer_done)")
        assert mine["bank_launched"] == 0
        rig.world.bank.customer_withdraws(rig.world.mandates[rig.customer("alice").index], 1, "HKD", 250_000)
        await rig.until("2026-03-12 12:05")  # pulled every two hours
        latest = (await rig.sba.procedures(biz_type="cash_withdraw"))[0]
        assert (latest["bank_launched"], latest["amount"]) == (1, 250_000)

    play(story)


@pytest.mark.req("SBA-WD-049")
@pytest.mark.parametrize(("settled", "good"), [
    (0, True), (1, True), (1_000_000, True), (1_000_001, False), (-1, False)])
def test_cash_and_margin_make_up_the_amount(settled: int, good: bool):
    async def story(rig: Rig) -> None:
        if not good:
            await no_withdrawal(rig, settled_amount=settled)
            return
        shown = await create_withdrawal(rig, settled_amount=settled)
        assert (shown["settled_amount"], shown["margin_amount"]) == (settled, 1_000_000 - settled)

    play(story)


@pytest.mark.req("SBA-WD-049")
@pytest.mark.parametrize("prehold", [True, False])
def test_a_customers_cash_is_used_before_any_margin(prehold: bool):
    """The amount itself is on hold when the request is made: it counts as cash all the same."""
    async def story(rig: Rig) -> None:
        cash = (await rig.money()).available
        task = await rig.withdraw(amount=cash, channel="hsbc")
        shown = await rig.reach(lambda: rig.of_task(task.id), "new(waiting)")
        assert (shown["settled_amount"], shown["margin_amount"]) == (cash, 0)

    play(story, settings={"withdraw.prehold": prehold})


# Names


@pytest.mark.req("DB-08")
def test_identifiers_that_the_documents_call_alike_have_names_of_their_own():
    """gaps.md A-11: names in code; columns as the documents have them."""
    shards = applys["00"].c
    assert "apply_id" in proc_cash_deposit.c and "hold_apply_id" not in proc_cash_deposit.c  # the freeze id
    assert {"hold_apply_id", "apply_ref"} <= set(DepositFields._fields)
    assert "apply_id" not in DepositFields._fields
    assert {"apply_id"} <= set(refund.c.keys()) & set(asb_request.c.keys())  # the application
    assert "rpc_request_id" in proc_idem.c and "request_id" not in proc_idem.c  # the call
    assert "request_id" in proc_cash_withdraw.c and "request_id" in shards and "request_id" in tasks.c  # Airstar's
    assert "bank_ref_id" in proc_cash_deposit.c and "bank_ref_id" in shards  # deposit
    assert "transfer_ref_id" in proc_cash_withdraw.c and "bank_ref_id" not in proc_cash_withdraw.c  # withdrawal
    assert {"transfer_ref_id", "request_id"} <= set(WithdrawFields._fields)
    assert "request_id" in Apply._fields
    assert "bank_ref_id" in Apply._fields
    assert {"rpc_request_id", "hold_apply_id", "bank_ref_id", "apply_ref"} <= {f.name for f in fields(DepositRequest)}
    assert "request_id" not in {f.name for f in fields(DepositRequest)}
    assert {"rpc_request_id", "request_id"} <= {f.name for f in fields(WithdrawRequest)}


@pytest.mark.req("DB-08")
def test_the_freeze_id_and_the_application_of_a_deposit_do_not_run_into_each_other():
    async def story(rig: Rig) -> None:
        shown = await create_deposit(rig, deposit_type=11, hold_type=1, hold_apply_id="F" * 32, apply_ref=4711)
        assert (shown["hold_apply_id"], shown["apply_ref"]) == ("F" * 32, 4711)

    play(story)


@pytest.mark.req("DB-08")
def test_airstars_request_id_is_not_the_call_that_created_the_withdrawal():
    async def story(rig: Rig) -> None:
        shown = await rig.withdrawn("end_ok(transfer_done)")
        [paid] = rig.paid()
        assert shown["request_id"] == paid["request_id"] != f"T{shown['task_id']}"
        assert shown["transfer_ref_id"] == paid["ref"]

    play(story)


@pytest.mark.req("DB-05")
def test_a_task_is_associated_with_its_procedure_and_only_when_it_has_one():
    async def story(rig: Rig) -> None:
        rig.core.jobs.pause("WithdrawStart")
        waiting = await rig.withdraw(channel="hsbc")
        assert await rig.core.withdrawals.procedure_of(waiting.id) is None
        rig.core.jobs.resume("WithdrawStart")
        shown = await rig.reach(lambda: rig.of_task(waiting.id), "pending(transfer_manual)")
        assert await rig.core.withdrawals.procedure_of(waiting.id) == shown["id"]
        assert shown["task_id"] == waiting.id
        poor = await rig.withdraw(amount=10**12)
        await asyncio.sleep(60)
        assert (await rig.core.withdrawals.find(poor.id)).status == 4  # REJECTED
        assert await rig.core.withdrawals.procedure_of(poor.id) is None

    play(story)


@pytest.mark.req("DB-04")
def test_the_operation_log_names_who_did_what_at_each_step():
    async def story(rig: Rig) -> None:
        shown = await rig.withdrawn("pending(transfer_manual)", channel="hsbc")
        log = await rig.core.withdrawals.log_of(shown["task_id"])
        assert [(row[0], row[2]) for row in log] == [
            ("AUDIT", "system"), ("CONFIRM", "system"), ("REMITTANCE", "system")]
        assert log[0][1] == "auto_pass"
        assert all(step and action and staff and at for step, action, staff, _, at in log)
        await rig.operate("SetManualTransferDone", shown)
        await asyncio.sleep(1)
        assert (await rig.core.withdrawals.log_of(shown["task_id"]))[-1][:2] == ("REMITTANCE", "end_ok")

    play(story, planted=True)  # nobody has paid by hand in this world's HSBC


def test_a_withdrawal_by_hand_is_driven_to_the_officer():
    assert play(by_hand)["state"] == "pending(transfer_manual)"
