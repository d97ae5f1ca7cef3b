"""Deposit Procedures: what moves them, what never does, and where the money is at each end (orchestration.md §2)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.domain import MandateStatus
from core.errors import Code, Refusal
from core.orchestration import deposit_table as D
from core.orchestration.engine import Fact
from core.orchestration.requests import DepositRequest
from core.screening import Kind, ListName, Value
from tests.orchestration.driving import (
    CONFIRMED_BY_SUPERVISOR,
    DEPOSIT_WAYS,
    QUICK,
    Way,
    create_deposit,
    deposit_credited,
    deposit_in_review,
    deposit_pending,
    deposit_waiting,
    picture,
    silence,
    speak,
    way_to,
)
from tests.rig import SUPERVISOR, Rig, play

AMOUNT = 1_000_000
# gaps.md B-01.1, as pairs of states.
DOCUMENTED = {
    ("new(waiting)", "new(manual_confirm)"), ("new(waiting)", "pending"), ("new(manual_confirm)", "pending"),
    ("new(manual_confirm)", "end_reject"), ("pending", "end_ok(deposit_ok)"), ("pending", "end_reject"),
    ("end_ok(deposit_ok)", "end_reverse(deposit_ok)"),
}


# The whole matrix


async def _moved_by(rig: Rig, shown: dict[str, Any], fact: str) -> str | None:
    """The state that a fact leads to from the one shown; None if it was refused and nothing changed."""
    before = await picture(rig, shown["id"])
    token = await rig.core.engine.lock(shown["id"])
    p = await rig.core.engine.load(shown["id"])
    for effect in list(p.pending):  # what is in flight would answer for itself
        await rig.core.engine.supersede(p, effect)
    refusal = await rig.core.engine.take(p, Fact(fact))
    await rig.core.engine.unlock(shown["id"], token)
    if refusal is not None:
        assert refusal.code is Code.ILLEGAL_STATE
        assert await picture(rig, shown["id"]) == before
        return None
    return (await rig.sba.procedure(shown["id"]))["state"]


@pytest.mark.req("SBA-DEP-011", "SBA-DEP-010")
@pytest.mark.parametrize("way", DEPOSIT_WAYS, ids=lambda way: way.label)
def test_of_the_36_pairs_of_states_only_the_documented_seven_can_be_passed(way: Way):
    async def one(rig: Rig, fact: str) -> tuple[str, str] | None:
        shown = await way.reached(rig)
        to = await _moved_by(rig, shown, fact)
        return None if to in (None, way.label) else (way.label, to)

    pairs = {play(lambda rig, fact=fact: one(rig, fact), **(way.world | {"planted": True})) for fact in D.FACTS}
    assert pairs - {None} == {pair for pair in DOCUMENTED if pair[0] == way.label}


@pytest.mark.req("SBA-DEP-011")
@pytest.mark.parametrize("fact", [*D.FACTS, "CREATE", "FROZEN", "BANK_SUCCESS"])
def test_a_fact_that_does_not_belong_to_a_state_is_refused_with_illegal_state(fact: str):
    taken = {("new(waiting)", "REVIEW_HIT"), ("new(waiting)", "REVIEW_CLEAR"), ("new(manual_confirm)", "CONFIRM"),
             ("new(manual_confirm)", "REJECT"), ("pending", "CREDITED"), ("pending", "CREDIT_REFUSED"),
             ("end_ok(deposit_ok)", "REVERSE"), ("end_ok(deposit_ok)", "DEBITED"),
             ("end_ok(deposit_ok)", "DEBIT_REFUSED")}

    async def story(rig: Rig, way: Way) -> None:
        assert await _moved_by(rig, await way.reached(rig), fact) is None
        speak(rig)

    for way in DEPOSIT_WAYS:
        if (way.label, fact) not in taken:
            play(lambda rig, way=way: story(rig, way), **way.world)


# The ways through


@pytest.mark.req("SBA-DEP-001", "SBA-DEP-002", "SBA-DEP-006", "SBA-DEP-018")
@pytest.mark.parametrize("deposit_type", [1, 4])
def test_an_ordinary_deposit_is_credited_by_itself_once(deposit_type: int):
    async def story(rig: Rig) -> None:
        before = await rig.money()
        shown = await create_deposit(rig, deposit_type=deposit_type)
        assert await rig.way(shown["id"]) == ["new(waiting)", "pending", "end_ok(deposit_ok)"]
        after = await rig.money()
        assert after == before._replace(available=before.available + AMOUNT)
        assert {row.operator for row in await rig.sba.history(shown["id"])} == {"system"}

    play(story, then_s=120)


RULES = [
    pytest.param({"deposit_type": 5}, "high_risk", id="high risk", marks=pytest.mark.req("SBA-DEP-013")),
    pytest.param({"deposit_type": 3}, "abnormal", id="abnormal", marks=pytest.mark.req("SBA-DEP-014")),
    pytest.param({"deposit_type": 2}, "pre_approval", id="pre-approval", marks=pytest.mark.req("SBA-DEP-015")),
    pytest.param({"blacklisted": True}, "blacklist", id="blacklist", marks=pytest.mark.req("SBA-DEP-016")),
    pytest.param({"amount": -1}, "large", id="large", marks=pytest.mark.req("SBA-DEP-017")),
]


@pytest.mark.req("SBA-DEP-003", "SBA-DEP-004")
@pytest.mark.parametrize(("changed", "rule"), RULES)
def test_each_review_rule_stops_the_deposit_until_a_person_approves(changed: dict[str, Any], rule: str):
    async def story(rig: Rig) -> None:
        if changed.get("amount"):
            changed["amount"] = rig.core.decisions.deposit_threshold("HKD") + 1
        before = await rig.money()
        shown = await create_deposit(rig, **changed)
        await asyncio.sleep(3_600)
        assert await rig.sba.procedure(shown["id"]) == shown
        assert await rig.way(shown["id"]) == ["new(waiting)", "new(manual_confirm)"]
        assert shown["review_hits"] == rule
        assert await rig.money() == before
        reply = await rig.operate("CashDepositManualConfirm", shown)
        assert reply.procedure["state"] == "end_ok(deposit_ok)"
        assert (await rig.way(shown["id"]))[1:] == ["new(manual_confirm)", "pending", "end_ok(deposit_ok)"]
        assert await rig.money() == before._replace(available=before.available + shown["amount"])

    play(story)


@pytest.mark.req("SBA-DEP-017")
@pytest.mark.parametrize("ccy", ["HKD", "USD", "CNH"])
def test_an_amount_equal_to_the_threshold_is_not_large_and_a_cent_more_is(ccy: str):
    async def story(rig: Rig) -> list[str]:
        equal = rig.world.settings["deposit.large_threshold"][ccy] * 100
        return [(await create_deposit(rig, ccy=ccy, amount=equal + more))["state"] for more in (0, 1)]

    assert play(story) == ["end_ok(deposit_ok)", "new(manual_confirm)"]


@pytest.mark.req("SBA-DEP-016", "SBA-DEP-018")
@pytest.mark.parametrize(("changed", "hits"), [
    ({}, []),
    ({"deposit_type": 5}, []),
    ({"deposit_type": 2}, []),
    ({"amount": 10**12}, []),
    ({"deposit_type": 3}, ["abnormal"]),
    ({"blacklisted": True}, ["blacklist"]),
    ({"blacklisted": True, "deposit_type": 3}, ["blacklist", "abnormal"]),
    ({"blacklisted": True, "deposit_type": 5, "amount": 10**12}, ["blacklist"]),
])
def test_the_whitelist_waives_high_risk_pre_approval_and_large_and_nothing_else(changed, hits):
    """gaps.md A-28."""
    async def story(rig: Rig) -> None:
        shown = await create_deposit(rig, whitelisted=True, **changed)
        assert shown["review_hits"] == ",".join(hits)
        assert shown["state"] == ("new(manual_confirm)" if hits else "end_ok(deposit_ok)")

    play(story)


def test_several_rules_are_all_named_the_strongest_first():
    async def story(rig: Rig) -> None:
        shown = await create_deposit(rig, blacklisted=True, deposit_type=3, amount=10**12)
        assert shown["review_hits"] == "blacklist,abnormal,large"

    play(story)


@pytest.mark.req("SBA-DEP-016")
def test_a_customer_on_the_blacklist_is_reviewed_however_the_bank_answers():
    async def story(rig: Rig) -> None:
        added = await rig.core.lists.add(
            ListName.DEPOSIT_BLACK, [Value(Kind.UID, "10000001")], "staff_1001", "police notice")
        assert added == 1
        apply = await rig.deposit()
        shown = await rig.reach(lambda: rig.of_apply(apply.id), "new(manual_confirm)")
        assert shown["review_hits"] == "blacklist"
        other = await rig.deposit("bob")
        await rig.reach(lambda: rig.of_apply(other.id), "end_ok(deposit_ok)")

    play(story)


@pytest.mark.req("SBA-DEP-016")
def test_a_list_service_that_does_not_answer_counts_as_a_hit():
    """gaps.md B-36."""
    async def story(rig: Rig) -> None:
        rig.world.rpc.fault("timeout_before", "screening.deposit_black", rig.world.streams("test"))
        apply = await rig.deposit()
        await rig.reach(lambda: rig.of_apply(apply.id), "new(manual_confirm)")

    play(story)


@pytest.mark.req("SBA-DEP-005")
def test_a_rejected_review_ends_with_its_reason_and_moves_no_money():
    async def story(rig: Rig) -> None:
        before = await rig.money()
        shown = await deposit_in_review(rig)
        postings = len(rig.of_kind("posting"))
        reply = await rig.operate("CashDepositManualReject", shown)
        assert (reply.procedure["state"], reply.procedure["reason"]) == ("end_reject", "MANUAL_REJECT")
        await asyncio.sleep(120)
        assert await rig.money() == before
        assert len(rig.of_kind("posting")) == postings

    play(story)


# Risk control


@pytest.mark.req("SBA-DEP-007", "SBA-DEP-032")
def test_a_credit_that_risk_control_fails_definitely_ends_rejected_and_is_escalated():
    async def story(rig: Rig) -> None:
        before = await rig.money()
        silence(rig, "add", "fail")
        shown = await create_deposit(rig)
        assert await rig.way(shown["id"]) == ["new(waiting)", "pending", "end_reject"]
        assert (shown["reason"], shown["escalate"]) == ("RC_ERROR", True)
        speak(rig)
        await asyncio.sleep(120)
        assert await rig.money() == before
        assert [alert["key"] for alert in rig.of_kind("alert", rule="SBA-01")] == [f"P{shown['id']}"]

    play(story)


@pytest.mark.req("SBA-DEP-007", "SBA-DEP-032")
def test_a_credit_that_risk_control_refuses_ends_rejected_with_its_words():
    """The freeze id was used before: risk control answers DUPLICATE."""
    held = {"deposit_type": 11, "hold_type": 17, "hold_apply_id": "F" * 32}

    async def story(rig: Rig) -> None:
        await create_deposit(rig, **held)
        before = await rig.money()
        shown = await create_deposit(rig, **held)
        assert (shown["state"], shown["reason"], shown["escalate"]) == ("end_reject", "RC_REJECTED", True)
        assert "was credited before" in (await rig.sba.history(shown["id"]))[0].remark
        assert await rig.money() == before

    play(story)


@pytest.mark.req("SBA-DEP-032")
def test_a_rejection_by_a_reviewer_is_not_escalated():
    async def story(rig: Rig) -> None:
        shown = await way_to("end_reject", DEPOSIT_WAYS).reached(rig)
        assert shown["escalate"] is False
        assert rig.of_kind("alert", rule="SBA-01") == []
        credited = await deposit_credited(rig)
        assert credited["escalate"] is False

    play(story)


@pytest.mark.req("SBA-DEP-008")
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after"])
def test_silence_keeps_the_deposit_pending_until_the_same_key_is_answered(kind: str):
    async def story(rig: Rig) -> None:
        before = await rig.money()
        silence(rig, "add", kind)
        shown = await create_deposit(rig)
        assert shown["state"] == "pending"
        await asyncio.sleep(600)
        shown = await rig.sba.procedure(shown["id"])
        assert shown["state"] == "pending"
        speak(rig)
        await rig.reach(lambda: rig.sba.procedure(shown["id"]), "end_ok(deposit_ok)", within_s=30)
        assert (await rig.money()).available == before.available + AMOUNT
        credits = [posting for posting in rig.of_kind("posting", op="add") if posting["key"].startswith("P")]
        assert len({posting["key"] for posting in credits}) == 1
        assert len([posting for posting in credits if posting["legs"]]) == 1
        # It is asked again about every two seconds (B-01.1), here each ask takes some 10 s of tries.
        assert len(credits) == 1 if kind == "timeout_before" else len(credits) > 30

    play(story)


@pytest.mark.req("SBA-DEP-008")
def test_silence_does_not_reject_even_after_a_crash():
    async def story(rig: Rig) -> None:
        silence(rig, "add", "timeout_after")
        shown = await create_deposit(rig)
        rig.world.kill(5_000)
        await asyncio.sleep(10)
        assert (await rig.sba.procedure(shown["id"]))["state"] == "pending"
        speak(rig)
        await rig.reach(lambda: rig.sba.procedure(shown["id"]), "end_ok(deposit_ok)", within_s=120)
        moved = [posting for posting in rig.of_kind("posting", op="add") if posting["legs"] and
                 posting["key"].startswith("P")]
        assert len(moved) == 1

    play(story)


@pytest.mark.req("SBA-DEP-022")
@pytest.mark.parametrize("hold_type", [1, 2, 17])
def test_a_held_deposit_ends_frozen_under_its_freeze_id(hold_type: int):
    async def story(rig: Rig) -> None:
        before = await rig.money()
        shown = await create_deposit(rig, deposit_type=11, hold_type=hold_type, hold_apply_id=f"{hold_type:032d}")
        assert shown["state"] == "end_ok(deposit_ok)"
        assert await rig.money() == before._replace(frozen=before.frozen + AMOUNT)
        hold = await rig.core.risk_control.hold(f"{hold_type:032d}")
        assert (hold.amount, hold.freeze_type, hold.is_open) == (AMOUNT, hold_type, True)

    play(story, then_s=60)


@pytest.mark.req("SBA-DEP-009")
def test_a_reversal_takes_exactly_the_credit_back_and_says_so_to_everybody():
    async def story(rig: Rig) -> None:
        apply = await rig.deposit()
        shown = await rig.reach(lambda: rig.of_apply(apply.id), "end_ok(deposit_ok)")
        await asyncio.sleep(5)
        before = await rig.money()
        reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR, **CONFIRMED_BY_SUPERVISOR)
        assert reply.procedure["state"] == "end_reverse(deposit_ok)"
        assert await rig.money() == before._replace(available=before.available - AMOUNT)
        assert (await rig.core.applications.find(apply.id)).status == 7  # REVERSED
        assert rig.of_kind("alert", rule="WD-03")
        assert rig.of_kind("notify", event="DEPOSIT_REVERSED", uid=apply.uid)

    play(story, planted=True)  # the bank still has the money it collected: a person settles that with the bank


@pytest.mark.req("SBA-DEP-010")
def test_a_second_reversal_is_refused():
    async def story(rig: Rig) -> None:
        shown = await way_to("end_reverse(deposit_ok)", DEPOSIT_WAYS).reached(rig)
        before = await rig.money()
        reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR, **CONFIRMED_BY_SUPERVISOR)
        assert reply.code is Code.ILLEGAL_STATE
        assert await rig.money() == before

    play(story)


# Authorization and watching


@pytest.mark.req("SBA-DEP-029")
@pytest.mark.parametrize("status", ["SUSPENDED", "CLOSED"])
def test_a_deposit_without_an_open_authorization_is_refused_before_any_instruction(status: str):
    async def story(rig: Rig) -> None:
        mandate = rig.world.mandates[rig.customer("alice").index]
        await rig.core.mandates.bank_says(mandate, MandateStatus[status])
        refused = await rig.deposit()
        assert isinstance(refused, Refusal)
        assert refused.code is Code.BLOCKED
        assert "authorize" in refused.detail
        await asyncio.sleep(600)
        assert rig.of_kind("bank.request", message="deposit") == []
        assert rig.of_kind("apply") == []
        assert await rig.sba.procedures() == []

    play(story)


@pytest.mark.req("SBA-DEP-029")
def test_a_card_without_any_authorization_cannot_deposit():
    async def story(rig: Rig) -> None:
        alice = rig.customer("alice")
        refused = await rig.core.airstar_deposits.submit(
            alice.uid, alice.trade_acc_ids[0], 1, rig.world.card_id(alice, "hsbc"), "123", "HKD", AMOUNT)
        assert isinstance(refused, Refusal)
        assert rig.of_kind("apply") == []

    play(story)


@pytest.mark.req("SBA-DEP-030")
def test_a_deposit_that_lingers_in_waiting_is_stuck_after_its_threshold_and_not_before():
    async def story(rig: Rig) -> None:
        limit = rig.world.settings["sba.stuck.deposit_waiting_s"]
        shown = await deposit_waiting(rig)
        since = rig.now_ms - 1_000
        await asyncio.sleep(limit)
        assert await rig.sba.stuck(since, rig.now_ms + 1) == []
        await asyncio.sleep(0.1)
        [stuck] = await rig.sba.stuck(since, rig.now_ms + 1)
        assert (stuck.id, stuck.status, stuck.ext_status) == (shown["id"], "new", "waiting")
        assert stuck.for_ms > limit * 1000

    play(story, planted=True)


@pytest.mark.req("SBA-DEP-030")
def test_a_deposit_that_hangs_in_pending_is_stuck_too_and_one_in_review_is_not():
    async def story(rig: Rig) -> None:
        since = rig.now_ms
        await deposit_in_review(rig)
        shown = await deposit_pending(rig)
        await asyncio.sleep(rig.world.settings["sba.stuck.deposit_pending_s"] + 1)
        assert [stuck.id for stuck in await rig.sba.stuck(since, rig.now_ms)] == [shown["id"]]
        speak(rig)
        await rig.reach(lambda: rig.sba.procedure(shown["id"]), "end_ok(deposit_ok)", within_s=30)
        assert await rig.sba.stuck(since, rig.now_ms) == []

    play(story, settings=QUICK)


@pytest.mark.req("SBA-DEP-001")
def test_a_deposit_request_that_is_refused_leaves_nothing_behind():
    async def story(rig: Rig) -> None:
        request: DepositRequest = rig.deposit_request(amount=0)
        assert (await rig.sba.create_deposit(request)).code is Code.INVALID_PARAM
        assert await rig.sba.procedures() == []
        assert rig.of_kind("procedure") == []

    play(story)
