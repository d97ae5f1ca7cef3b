"""Every operation in every state by every role, against a table written from the documents (orchestration.md §4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from core.domain import Role
from core.errors import Code
from core.orchestration.records import Actor
from tests.orchestration.driving import (
    BY_CGB,
    CONFIRMED_BY_SUPERVISOR,
    DEPOSIT_WAYS,
    EXHAUSTED,
    WITHDRAW_WAYS,
    Way,
    by_hand,
    deposit_credited,
    deposit_in_review,
    deposit_reversed,
    picture,
    silence,
    speak,
    way_to,
)
from tests.rig import FRONTLINE, SUPERVISOR, SYSTEM, Rig, play

FRONT = ("frontline_ops", "supervisor")  # B-30: a supervisor may do everything of frontline
SUPER = ("supervisor",)
NEW = ("new(freeze)", "new(waiting)", "new(manual_confirm)", "new(confirmed)", "new(blank)")
OPEN = (*NEW, "pending(deduct_done)", "pending(transfer_auto)", "pending(transfer_manual)", "pending(return)",
        "pending(unfreeze)", "pending(move_next)", "pending(waiting_trade)", "pending(transfer_reject)")
NOT_PAID = {"action": "Rollback", "bank_status": "NOT_TRANSFERRED"}
PAID = {"action": "Complete", "bank_status": "TRANSFERRED"}


class Rule(NamedTuple):
    """One line of the documents: prerequisite states, roles, parameters, and where it leads."""

    operation: str
    biz: str
    states: tuple[str, ...]
    roles: tuple[str, ...]
    leads_to: str
    params: Mapping[str, Any] = {}


# orchestration.md §4.1 and §4.2, with A-20 (cancel), A-22 (poll_exhausted), A-36 (system for CGB), A-68 (new(blank)).
RULES = (
    Rule("CashDepositManualConfirm", "deposit", ("new(manual_confirm)",), FRONT, "end_ok(deposit_ok)"),
    Rule("CashDepositManualReject", "deposit", ("new(manual_confirm)",), FRONT, "end_reject"),
    Rule("CashDepositReverse", "deposit", ("end_ok(deposit_ok)",), SUPER, "end_reverse(deposit_ok)",
         CONFIRMED_BY_SUPERVISOR),
    Rule("CashWithdrawStartTransfer", "withdraw", ("new(blank)",), (*FRONT, "system"), "pending(transfer_manual)"),
    Rule("CashWithdrawStartTransfer", "withdraw", ("pending(deduct_done)",), (*FRONT, "system"),
         "pending(transfer_auto)"),
    Rule("CashWithdrawReject", "withdraw", NEW, FRONT, "end_reject"),
    Rule("CashWithdrawManualConfirm", "withdraw", ("new(manual_confirm)",), FRONT, "pending(transfer_manual)"),
    Rule("CashWithdrawManualReject", "withdraw", ("new(manual_confirm)",), FRONT, "end_reject"),
    Rule("SetManualTransferDone", "withdraw", ("pending(transfer_manual)",), FRONT, "end_ok(transfer_done)"),
    Rule("SetManualTransferFailed", "withdraw", ("pending(transfer_manual)",), FRONT, "end_reject"),
    Rule("CashWithdrawForceProcess", "withdraw", OPEN, SUPER, "end_reject", NOT_PAID),
    Rule("CashWithdrawForceProcess", "withdraw", OPEN, SUPER, "end_ok(transfer_done)", PAID),
    Rule("CashWithdrawCancel", "withdraw", ("new(waiting)", "new(manual_confirm)", "new(confirmed)"), SUPER,
         "end_cancel"),
    Rule("CashWithdrawCancel", "withdraw", ("new(waiting)",), ("user",), "end_cancel"),
    Rule("MoveNextTransactionDay", "withdraw", ("pending(deduct_done)", "pending(transfer_manual)"),
         (*FRONT, "system"), "pending(move_next)"),
    Rule("CashWithdrawReverse", "withdraw", ("end_ok(transfer_done)",), SUPER, "end_reverse(transfer_done)"),
)
# The same state under a condition of its own, with the rule that then holds.
CONDITIONED = (
    (EXHAUSTED, Rule("SetManualTransferDone", "withdraw", (), FRONT, "end_ok(transfer_done)")),
    (EXHAUSTED, Rule("SetManualTransferFailed", "withdraw", (), FRONT, "end_reject")),
    (BY_CGB, Rule("SetManualTransferDone", "withdraw", (), ("system",), "end_ok(transfer_done)")),
    (BY_CGB, Rule("SetManualTransferFailed", "withdraw", (), ("system",), "end_reject")),
)
# Who may press at all, whatever the state; pressing elsewhere is ILLEGAL_STATE, not FORBIDDEN.
MAY: dict[str, set[str]] = {}
for _rule in (*RULES, *(rule for _, rule in CONDITIONED)):
    MAY.setdefault(_rule.operation, set()).update(_rule.roles)
PARAMS = {"CashDepositReverse": CONFIRMED_BY_SUPERVISOR, "CashWithdrawForceProcess": NOT_PAID}
WAYS = {"deposit": DEPOSIT_WAYS, "withdraw": WITHDRAW_WAYS}


def actor(role: str) -> Actor:
    ids = {"system": "system", "user": "user_10000001"}
    return Actor(ids.get(role, "staff_1001"), Role(role))


def expected_refusal(operation: str, biz: str, label: str, role: str) -> Code | None:
    """What the documents answer, or None where they allow it."""
    if role not in MAY[operation]:
        return Code.FORBIDDEN
    states = [rule for rule in RULES if rule.operation == operation and rule.biz == biz and label in rule.states]
    if any(role in rule.roles for rule in states):
        return None
    # The platform confirms a transfer by hand for CGB FPS only, whose Procedures look the same (B-30, A-36).
    if operation.startswith("SetManual") and role == "system" and label in (
            "pending(transfer_manual)", "pending(transfer_auto)"):
        return Code.FORBIDDEN
    return Code.ILLEGAL_STATE


def every_state() -> Iterator[Any]:
    for biz, ways in WAYS.items():
        for way in ways:
            yield pytest.param(biz, way, id=f"{biz}-{way.label}")


@pytest.mark.req(
    "SBA-API-02", "SBA-API-03", "SBA-API-04", "SBA-API-07", "SBA-API-09", "SBA-API-11", "SBA-API-13", "SBA-API-14",
    "SBA-API-15", "SBA-API-16", "SBA-API-17", "SBA-API-19", "SBA-API-23", "SBA-API-24", "SBA-API-25", "SBA-API-26",
    "SBA-API-27", "SBA-DEP-011")
@pytest.mark.parametrize(("biz", "way"), list(every_state()))
def test_what_the_documents_do_not_allow_in_a_state_is_refused_for_every_role_and_changes_nothing(biz: str, way: Way):
    async def story(rig: Rig) -> None:
        shown = await way.reached(rig)
        before = await picture(rig, shown["id"])
        for operation in MAY:
            for role in Role:
                wanted = expected_refusal(operation, biz, way.label, role)
                if wanted is not None:
                    reply = await rig.operate(operation, shown, actor(role), **PARAMS.get(operation, {}))
                    assert reply.code is wanted, (operation, role, reply)
        assert await picture(rig, shown["id"]) == before
        speak(rig)

    play(story, **way.world)


def every_permission() -> Iterator[Any]:
    found = [(way_to(label, WAYS[rule.biz]), rule) for rule in RULES for label in rule.states]
    for way, rule in (*found, *CONDITIONED):
        for role in rule.roles:
            action = rule.params.get("action", "")
            yield pytest.param(way, rule, role, id=f"{rule.operation}{action}-{way.label}-{way.drive.__name__}-{role}")


@pytest.mark.req(
    "SBA-API-02", "SBA-API-03", "SBA-API-04", "SBA-API-09", "SBA-API-10", "SBA-API-11", "SBA-API-13", "SBA-API-14",
    "SBA-API-15", "SBA-API-16", "SBA-API-17", "SBA-API-19", "SBA-API-20", "SBA-API-21", "SBA-API-23", "SBA-API-24",
    "SBA-API-25", "SBA-API-26", "SBA-API-28")
@pytest.mark.parametrize(("way", "rule", "role"), list(every_permission()))
def test_what_the_documents_allow_is_done_with_the_version_seen_and_with_no_other(way: Way, rule: Rule, role: str):
    async def story(rig: Rig) -> None:
        shown = await way.reached(rig)
        by, before = actor(role), await picture(rig, shown["id"])
        for stale in (shown["version"] - 1, shown["version"] + 1):
            reply = await rig.operate(rule.operation, shown, by, version=stale, **rule.params)
            assert reply.code is Code.VERSION_CONFLICT, reply
            assert await picture(rig, shown["id"]) == before
        speak(rig)
        reply = await rig.operate(rule.operation, shown, by, **rule.params)
        assert reply.code is Code.OK, reply
        await rig.reach(lambda: rig.sba.procedure(shown["id"]), rule.leads_to, within_s=30)

    # Stating TRANSFERRED where the bank was never instructed leaves the bank's book and ours apart, as it must.
    apart = rule.operation == "CashWithdrawForceProcess" or way is EXHAUSTED
    play(story, **(way.world | {"planted": way.planted or apart}))


@pytest.mark.req("SBA-API-01", "SBA-API-08")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SYSTEM])
def test_only_the_platform_creates_procedures(role: Role):
    async def story(rig: Rig) -> None:
        by = actor(role)
        for reply in (await rig.sba.create_deposit(rig.deposit_request(), by),
                      await rig.sba.create_withdrawal(rig.withdraw_request(), by)):
            assert reply.code is Code.FORBIDDEN
            assert reply.procedure is None
        assert await rig.sba.procedures() == []
        assert (await rig.sba.create_deposit(rig.deposit_request(), SYSTEM)).code is Code.OK

    play(story)


@pytest.mark.req("SBA-API-01", "SBA-API-08")
def test_creation_is_no_operation_on_an_existing_procedure():
    async def story(rig: Rig) -> None:
        for shown, name in ((await deposit_in_review(rig), "CashDepositCreate"),
                            (await by_hand(rig), "CashWithdrawCreate")):
            before = await picture(rig, shown["id"])
            assert (await rig.operate(name, shown, SYSTEM)).code is Code.ILLEGAL_STATE
            assert (await rig.operate(name, shown, FRONTLINE)).code is Code.FORBIDDEN
            assert await picture(rig, shown["id"]) == before

    play(story)


def test_an_unknown_operation_or_procedure_is_refused_with_its_code():
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        assert (await rig.operate("CashDepositApprove", shown)).code is Code.INVALID_PARAM
        missing = await rig.operate("CashDepositManualConfirm", {"id": 77, "version": 1})
        assert missing.code is Code.NOT_FOUND

    play(story)


@pytest.mark.req("SBA-API-05")
def test_a_reversal_that_the_balance_does_not_bear_is_refused_and_the_deposit_stays_credited():
    async def story(rig: Rig) -> None:
        shown = await deposit_credited(rig)
        spent = await rig.money()
        await rig.core.risk_control.debit("spent", shown["trade_acc_id"], "HKD", spent.available - 999_999)
        before = await picture(rig, shown["id"])
        request = rig.request_id()
        for _ in range(2):  # the second time with the same request id: the stored answer, no second try
            reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR, request_id=request,
                                      **CONFIRMED_BY_SUPERVISOR)
            assert reply.code is Code.INSUFFICIENT_BALANCE
            assert reply.procedure["state"] == "end_ok(deposit_ok)"
        after = await picture(rig, shown["id"])
        assert {key: after[key] for key in ("shown", "history", "pending", "money")} == {
            key: before[key] for key in ("shown", "history", "pending", "money")}
        assert len(rig.of_kind("posting", op="debit")) == 2  # "spent" above, and one refused reversal
        # With money back in the account a new request succeeds.
        await rig.core.risk_control.add("back", shown["trade_acc_id"], "HKD", 1)
        reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR, **CONFIRMED_BY_SUPERVISOR)
        assert reply.code is Code.OK
        assert (await rig.money()).available == 0

    play(story)


@pytest.mark.req("SBA-API-06")
@pytest.mark.parametrize("missing", ["erroneous_credit", "sufficient_balance", "user_notified"])
def test_a_reversal_without_one_of_the_three_confirmations_is_refused_by_name(missing: str):
    async def story(rig: Rig) -> None:
        shown = await deposit_credited(rig)
        before = await picture(rig, shown["id"])
        given = [name for name in CONFIRMED_BY_SUPERVISOR["confirmations"] if name != missing]
        reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR, confirmations=given)
        assert reply.code is Code.INVALID_PARAM
        assert missing in reply.message
        assert await picture(rig, shown["id"]) == before
        reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR)
        assert reply.code is Code.INVALID_PARAM

    play(story)


@pytest.mark.req("SBA-API-07")
def test_a_reversed_deposit_is_never_credited_again_whoever_tries():
    async def story(rig: Rig) -> None:
        shown = await deposit_reversed(rig)
        money = await rig.money()
        for operation in MAY:
            for by in (SYSTEM, FRONTLINE, SUPERVISOR):
                assert not (await rig.operate(operation, shown, by, **PARAMS.get(operation, {}))).ok
        again = await rig.sba.create_deposit(rig.deposit_request(transaction_id=shown["transaction_id"]))
        assert again.code is Code.DUPLICATE
        await rig.core.engine.resume(shown["id"])
        assert await rig.money() == money

    play(story, then_s=60)


@pytest.mark.req("SBA-API-22")
@pytest.mark.parametrize(("given", "code"), [
    ({}, Code.BANK_STATUS_REQUIRED),
    ({"action": "Rollback"}, Code.BANK_STATUS_REQUIRED),
    ({"action": "Rollback", "bank_status": "UNCERTAIN"}, Code.BANK_STATUS_REQUIRED),
    ({"action": "Complete", "bank_status": "UNCERTAIN"}, Code.BANK_STATUS_REQUIRED),
    ({"action": "Complete", "bank_status": "NOT_TRANSFERRED"}, Code.INVALID_PARAM),
    ({"action": "Rollback", "bank_status": "TRANSFERRED"}, Code.INVALID_PARAM),
    ({"bank_status": "TRANSFERRED"}, Code.INVALID_PARAM),
])
def test_a_force_that_does_not_follow_the_banks_certain_word_is_refused_and_the_freeze_stays(given, code):
    async def story(rig: Rig) -> None:
        shown = await by_hand(rig)
        before = await picture(rig, shown["id"])
        assert (await rig.operate("CashWithdrawForceProcess", shown, SUPERVISOR, **given)).code is code
        silent = await rig.operate("CashWithdrawForceProcess", shown, SUPERVISOR, remark=" ", **NOT_PAID)
        assert silent.code is Code.INVALID_PARAM
        assert await picture(rig, shown["id"]) == before

    play(story)


@pytest.mark.req("SBA-API-24")
def test_a_user_cancels_his_own_withdrawal_only():
    async def story(rig: Rig) -> None:
        shown = await way_to("new(waiting)").reached(rig)
        reply = await rig.operate("CashWithdrawCancel", shown, Actor("user_10000002", Role.USER))
        assert reply.code is Code.FORBIDDEN
        reply = await rig.operate("CashWithdrawCancel", shown, actor("user"))
        assert (reply.code, reply.procedure["reason"]) == (Code.OK, "USER_CANCEL")

    play(story)


@pytest.mark.req("SBA-API-24")
def test_a_user_cancels_a_task_that_has_no_procedure_yet_and_gets_his_money_back():
    async def story(rig: Rig) -> None:
        before = await rig.money()
        rig.core.jobs.pause("WithdrawStart")
        task = await rig.withdraw()
        assert await rig.core.withdrawals.cancel(task.id) is None
        rig.core.jobs.resume("WithdrawStart")
        return before

    async def whole(rig: Rig) -> None:
        before = await story(rig)
        import asyncio

        await asyncio.sleep(30)
        assert await rig.sba.procedures() == []
        assert await rig.money() == before

    play(whole)


@pytest.mark.req("SBA-API-28")
def test_an_operation_whose_effect_is_unknown_says_so_and_is_done_when_risk_control_speaks():
    async def story(rig: Rig) -> None:
        shown = await deposit_credited(rig)
        money = await rig.money()
        silence(rig, "debit", "timeout_after")
        request = rig.request_id()
        for _ in range(2):
            reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR, request_id=request,
                                      **CONFIRMED_BY_SUPERVISOR)
            assert (reply.code, reply.procedure["state"]) == (Code.DEPENDENCY_TIMEOUT, "end_ok(deposit_ok)")
        speak(rig)
        await rig.reach(lambda: rig.sba.procedure(shown["id"]), "end_reverse(deposit_ok)", within_s=10)
        reply = await rig.operate("CashDepositReverse", shown, SUPERVISOR, request_id=request,
                                  **CONFIRMED_BY_SUPERVISOR)
        assert reply.code is Code.REPLAYED
        assert (await rig.money()).available == money.available - 1_000_000

    play(story, settings={"srpc.timeout_s": 0.001, "srpc.backoff_s": []})


def test_a_request_id_stands_for_one_operation_on_one_procedure():
    async def story(rig: Rig) -> None:
        first, second = await deposit_in_review(rig), await deposit_in_review(rig)
        request = rig.request_id()
        assert (await rig.operate("CashDepositManualConfirm", first, request_id=request)).code is Code.OK
        replayed = await rig.operate("CashDepositManualConfirm", first, request_id=request)
        assert replayed.code is Code.REPLAYED
        assert replayed.procedure["state"] == "end_ok(deposit_ok)"
        for name, shown in (("CashDepositManualConfirm", second), ("CashDepositManualReject", first)):
            assert (await rig.operate(name, shown, request_id=request)).code is Code.INVALID_PARAM
        assert (await rig.sba.procedure(second["id"]))["state"] == "new(manual_confirm)"

    play(story)


@pytest.mark.parametrize(("request_id", "remark"), [("", "ok"), ("x" * 41, "ok"), ("ok", "x" * 501)])
def test_a_request_that_the_records_cannot_hold_is_refused(request_id: str, remark: str):
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        reply = await rig.core.operate("CashDepositManualConfirm", shown["id"], version=shown["version"],
                                       rpc_request_id=request_id, by=FRONTLINE, remark=remark)
        assert reply.code is Code.INVALID_PARAM
        assert (await rig.sba.procedure(shown["id"]))["version"] == shown["version"]

    play(story)


@pytest.mark.req("SBA-API-25")
def test_a_withdrawal_whose_instruction_the_bank_has_is_not_moved_to_another_day():
    async def story(rig: Rig) -> None:
        shown = await by_hand(rig)
        await rig.sba.note_bank(shown["id"], bank_submitted=1)
        before = await picture(rig, shown["id"])
        assert (await rig.operate("MoveNextTransactionDay", shown)).code is Code.ILLEGAL_STATE
        assert await picture(rig, shown["id"]) == before

    play(story)
