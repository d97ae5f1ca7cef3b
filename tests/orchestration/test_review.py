"""What a reviewer sees before he approves or rejects, and which buttons he can press (§2, §3.2, §4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.domain import Role
from core.orchestration.operations import OPERATIONS
from core.orchestration.records import Actor
from core.runtime.views import withdrawal_review
from core.screening import Kind, ListName, Value
from tests.orchestration.driving import (
    DEPOSIT_WAYS,
    EXHAUSTED,
    WITHDRAW_WAYS,
    Way,
    create_deposit,
    create_withdrawal,
    in_review,
    speak,
    way_to,
)
from tests.rig import FRONTLINE, SUPERVISOR, Rig, play

# Documented prerequisites (orchestration.md §4); the label of each button is the document's.
BUTTONS = {
    "new(waiting)": {}, "pending": {}, "end_reject": {}, "end_reverse(deposit_ok)": {},
    "new(manual_confirm)": {"CashDepositManualConfirm": FRONTLINE, "CashDepositManualReject": FRONTLINE},
    "end_ok(deposit_ok)": {"CashDepositReverse": SUPERVISOR},
}
LABELS = {
    "CashDepositManualConfirm": "Approve", "CashDepositManualReject": "Reject", "CashDepositReverse": "Reverse",
    "CashWithdrawStartTransfer": "Start Transfer", "CashWithdrawReject": "Reject",
    "CashWithdrawManualConfirm": "Approve", "CashWithdrawManualReject": "Reject Review",
    "SetManualTransferDone": "Confirm Transfer Complete", "SetManualTransferFailed": "Transfer Failed",
    "CashWithdrawForceProcess": "Force Process", "CashWithdrawCancel": "Cancel Withdrawal",
    "MoveNextTransactionDay": "Defer to Next Trading Day", "CashWithdrawReverse": "Reverse",
}


@pytest.mark.req("SBA-DEP-031")
def test_the_review_of_a_deposit_shows_amount_blacklist_and_the_statement_it_was_matched_with():
    async def story(rig: Rig) -> None:
        shown = await create_deposit(rig, blacklisted=True, deposit_type=3, amount=123_456, transaction_id="bochk:4711",
                                     transfer_method=201)
        screen = await rig.sba.review_screen(shown["id"])
        assert (screen["amount"], screen["ccy"], screen["nn_uid"]) == (123_456, "HKD", rig.customer("alice").uid)
        assert screen["blacklisted"] is True
        assert screen["rules"] == ["blacklist", "abnormal"]
        assert screen["large"] == rig.core.decisions.deposit_threshold("HKD")
        assert screen["statement"] == {"bank": "bochk", "way": "statement transfer", "transaction_id": "bochk:4711",
                                       "bank_ref_id": "", "source": 1}
        assert (screen["version"], screen["state"]) == (shown["version"], "new(manual_confirm)")

    play(story)


@pytest.mark.req("SBA-DEP-031")
def test_the_review_of_an_airstar_deposit_shows_the_banks_references():
    async def story(rig: Rig) -> None:
        await rig.core.lists.add(ListName.DEPOSIT_BLACK, [Value(Kind.UID, "10000001")], "staff_1001", "notice")
        apply = await rig.deposit()
        shown = await rig.reach(lambda: rig.of_apply(apply.id), "new(manual_confirm)")
        [collected] = rig.paid("collect")
        screen = await rig.sba.review_screen(shown["id"])
        assert screen["blacklisted"]
        assert screen["statement"]["transaction_id"] == collected["request_id"]
        assert screen["statement"]["bank_ref_id"] == collected["ref"]
        assert screen["statement"]["bank"] == "airstar"

    play(story)


@pytest.mark.req("SBA-DEP-031")
def test_a_deposit_that_is_large_only_is_shown_as_not_blacklisted():
    async def story(rig: Rig) -> None:
        shown = await create_deposit(rig, amount=10**12)
        screen = await rig.sba.review_screen(shown["id"])
        assert (screen["blacklisted"], screen["rules"]) == (False, ["large"])
        assert screen["amount"] > screen["large"]
        assert await rig.sba.review_screen(99) is None

    play(story)


@pytest.mark.req("SBA-WD-055")
def test_the_review_of_a_withdrawal_shows_amount_against_balance_the_cards_owner_and_the_rules():
    async def story(rig: Rig) -> None:
        alice, before = rig.customer("alice"), await rig.money()
        shown = await create_withdrawal(rig, blacklisted=True, high_risk=True,
                                        transfer_dest_card=alice.cards["hsbc"].number)
        screen = await withdrawal_review(rig.core, shown["id"])
        assert (screen["amount"], screen["ccy"]) == (1_000_000, "HKD")
        assert (screen["available"], screen["held"]) == (before.available - 1_000_000, 1_000_000)
        assert screen["card_of_customer"] is True
        assert screen["rules"] == ["blacklist", "high_risk"]
        assert (screen["bank"], screen["card"], screen["channel"]) == ("hsbc", alice.cards["hsbc"].number, "hsbc")

    play(story)


@pytest.mark.req("SBA-WD-055")
def test_the_review_tells_a_card_that_is_not_the_customers():
    async def story(rig: Rig) -> None:
        shown = await create_withdrawal(rig, blacklisted=True,
                                        transfer_dest_card=rig.customer("bob").cards["hsbc"].number)
        assert (await withdrawal_review(rig.core, shown["id"]))["card_of_customer"] is False
        deposit = await create_deposit(rig, deposit_type=5)
        assert await withdrawal_review(rig.core, deposit["id"]) is None
        assert await withdrawal_review(rig.core, 99) is None

    play(story)


@pytest.mark.req("SBA-WD-055")
def test_what_is_released_is_no_longer_shown_as_held():
    async def story(rig: Rig) -> None:
        before = await rig.money()
        shown = await in_review(rig)
        assert (await rig.operate("CashWithdrawManualReject", shown)).ok
        screen = await withdrawal_review(rig.core, shown["id"])
        assert (screen["available"], screen["held"]) == (before.available, 0)

    play(story)


def _enabled(buttons: dict[str, Any]) -> set[str]:
    return {name for name, why in buttons.items() if why is None}


@pytest.mark.req("SBA-API-02", "SBA-API-03", "SBA-API-04")
@pytest.mark.parametrize("way", DEPOSIT_WAYS, ids=lambda way: way.label)
def test_a_deposits_buttons_are_enabled_where_the_documents_say_and_greyed_with_the_reason_elsewhere(way: Way):
    async def story(rig: Rig) -> None:
        shown = await way.reached(rig)
        documented = BUTTONS[way.label]
        for by in (FRONTLINE, SUPERVISOR, Actor("staff_9001", Role.COMPLIANCE)):
            may = {name for name, who in documented.items()
                   if by is SUPERVISOR or (by is FRONTLINE and who is FRONTLINE)}
            buttons = await rig.sba.buttons(shown["id"], by)
            assert set(buttons) == {"CashDepositManualConfirm", "CashDepositManualReject", "CashDepositReverse"}
            assert _enabled(buttons) == may
            assert all(why for name, why in buttons.items() if name not in may)
        speak(rig)

    play(story, **way.world)


@pytest.mark.parametrize("way", [*WITHDRAW_WAYS, EXHAUSTED], ids=lambda way: way.drive.__name__)
def test_a_withdrawals_button_is_enabled_exactly_where_pressing_it_is_not_refused(way: Way):
    async def story(rig: Rig) -> None:
        shown = await way.reached(rig)
        buttons = await rig.sba.buttons(shown["id"], SUPERVISOR)
        assert set(buttons) == {name for name in LABELS if not name.startswith("CashDeposit")}
        for name, why in buttons.items():
            if why is not None:
                reply = await rig.operate(name, shown, SUPERVISOR, action="Rollback", bank_status="NOT_TRANSFERRED")
                assert reply.code.name in ("ILLEGAL_STATE", "FORBIDDEN"), (name, reply)
                assert why == reply.message
        speak(rig)

    play(story, **way.world)


def test_the_buttons_are_called_what_the_documents_call_them():
    assert {name: operation.button for name, operation in OPERATIONS.items() if operation.button} == LABELS
    assert len(OPERATIONS) == 15


@pytest.mark.req("SBA-WD-055")
def test_a_reviewer_sees_what_is_true_now_and_not_what_was_true_at_creation():
    async def story(rig: Rig) -> None:
        shown = await way_to("new(manual_confirm)").reached(rig)
        before = await withdrawal_review(rig.core, shown["id"])
        await rig.core.risk_control.debit("spent", shown["trade_acc_id"], "HKD", 500_000)
        await asyncio.sleep(1)
        after = await withdrawal_review(rig.core, shown["id"])
        assert after["available"] == before["available"] - 500_000

    play(story)
