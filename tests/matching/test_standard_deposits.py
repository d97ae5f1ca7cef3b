"""Standard deposits from the App to the credit: what the customer sees, what is reviewed, what a reversal does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from sqlalchemy import select

from core.deposits.applications import Apply
from core.deposits.matching.manual import Done
from core.deposits.standard import TEXTS, Receiving, Submitted
from core.deposits.statements import ABNORMAL, CREDITED, VOID, Flow
from core.domain import ApplyStatus, DepositType, Role
from core.errors import CallFailed, Code, Misconfigured, OutcomeUnknown, Refusal
from core.money import Currency
from core.orchestration.records import Actor
from core.screening import Kind, ListName, Value
from core.settings import Settings
from core.storage import Severed, Statement
from core.storage.primary import flow_claim, flow_release
from scenarios.schema import Fault
from tests.matching.matching_world import BANKS, FRONTLINE, Desk, tell
from tests.rig import SUPERVISOR, USER, play

REVIEW = "new(manual_confirm)"
CLAIMS = Statement(select(flow_claim.c.flow_id, flow_claim.c.apply_id))
RELEASES = Statement(select(*(flow_release.c[name] for name in (
    "bank_type", "flow_id", "attempt", "apply_id", "reason"))))


# The App


@pytest.mark.req("DEP-01", "DEP-19")
@pytest.mark.parametrize("bank", BANKS)
def test_an_application_shows_the_configured_account_and_moves_nothing(bank: str) -> None:
    async def story(desk: Desk) -> None:
        settings, before = Settings(), [await desk.rig.money(ccy=ccy) for ccy in ("HKD", "USD", "CNH")]
        accounts = settings[f"receiving.{bank}.accounts"]
        for ccy in Currency:
            found = await desk.submit(ccy=ccy, bank=bank)
            if ccy not in accounts:
                assert isinstance(found, Refusal) and found.code is Code.INVALID_PARAM
                continue
            assert isinstance(found, Submitted)
            assert found.receiving == Receiving(
                bank, ccy, accounts[ccy], settings[f"receiving.{bank}.fps_id"], settings["receiving.payee_name"],
                settings["receiving.verified_on"])
            assert found.apply.status == ApplyStatus.WAIT_MATCH and found.apply.created_at == desk.rig.now_ms
        assert [await desk.rig.money(ccy=ccy) for ccy in ("HKD", "USD", "CNH")] == before

    tell(story)


@pytest.mark.req("DEP-02")
def test_the_customer_sees_processing_then_the_money_and_one_notice() -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.applied()
        view = await desk.rooms.standard.view(apply.uid, apply.id)
        assert not isinstance(view, Refusal) and view["text"] == "Deposit processing"
        assert view["receiving"]["account"] == "808000000011" and view["credited"] is None
        await desk.arrives()
        await asyncio.sleep(60)
        assert (await desk.rooms.standard.view(apply.uid, apply.id))["text"] == "Deposit processing"  # type: ignore[index]
        await desk.round()
        await asyncio.sleep(5)
        view = await desk.rooms.standard.view(apply.uid, apply.id)
        assert not isinstance(view, Refusal) and (view["text"], view["credited"]) == ("Deposit successful", 1_000_000)
        assert (await desk.rig.money()).available == 11_000_000
        assert [one["event"] for one in desk.rig.of_kind("notify", uid=apply.uid)] == ["DEPOSIT_OK"]
        assert isinstance(await desk.rooms.standard.view(desk.uid("bob"), apply.id), Refusal)

    tell(story)
    assert set(TEXTS) == set(ApplyStatus)


def test_a_waiting_application_can_be_cancelled_by_its_owner_only() -> None:
    async def story(desk: Desk) -> None:
        apply, standard = await desk.applied(), desk.rooms.standard
        refused = await standard.cancel(desk.uid("bob"), apply.id)
        assert isinstance(refused, Refusal) and refused.code is Code.NOT_FOUND
        cancelled = await standard.cancel(apply.uid, apply.id)
        assert not isinstance(cancelled, Refusal) and cancelled.status == ApplyStatus.CANCELLED
        await desk.arrives()
        assert await desk.round() == ""
        refused = await standard.cancel(apply.uid, apply.id)
        assert isinstance(refused, Refusal) and refused.code is Code.ILLEGAL_STATE

    tell(story)


# Review (A-28, B-10)


async def _listed(desk: Desk, *lists: ListName, who: str = "alice") -> None:
    for name in lists:
        assert await desk.rig.core.lists.add(name, [Value(Kind.UID, str(desk.uid(who)))], "staff_1001", "test") == 1


BLACK, WHITE = ListName.DEPOSIT_BLACK, ListName.DEPOSIT_WHITE
LARGE, FIRST = 400_000_000, 150_000_000  # HKD 4,000,000 and 1,500,000 in minor units
# lists, kind of deposit -> credited without review
PRECEDENCE: list[tuple[tuple[ListName, ...], str, bool]] = [
    ((), "normal", True), ((), "risky", False), ((), "first", False), ((), "expected", False), ((), "large", False),
    ((), "third_party", False), ((), "by_hand", False),
    ((WHITE,), "normal", True), ((WHITE,), "risky", True), ((WHITE,), "first", True), ((WHITE,), "expected", True),
    ((WHITE,), "large", True), ((WHITE,), "third_party", True), ((WHITE,), "by_hand", False),
    ((BLACK,), "normal", False), ((BLACK, WHITE), "normal", False), ((BLACK, WHITE), "risky", False),
    ((BLACK, WHITE), "expected", False), ((BLACK, WHITE), "large", False), ((BLACK, WHITE), "by_hand", False)]
KINDS = {"normal": 1, "risky": 5, "first": 5, "third_party": 5, "expected": 2, "large": 1, "by_hand": 3}


@pytest.mark.req("DEP-07", "DEP-08", "DEP-09", "DEP-10", "MATCH-018")
@pytest.mark.parametrize(("lists", "kind", "credited"), PRECEDENCE)
def test_which_deposits_people_review(lists: tuple[ListName, ...], kind: str, credited: bool) -> None:
    async def story(desk: Desk) -> None:
        await _listed(desk, *lists)
        amount, name = {"large": LARGE, "first": FIRST}.get(kind, 1_000_000), None
        if kind == "large":  # not his first one
            await desk.matched("alice", 1_234_500)
            if BLACK in lists:
                await desk.rig.operate("CashDepositManualConfirm", desk_shown := (
                    await desk.rig.sba.procedures(status="new"))[0]) and desk_shown
                await asyncio.sleep(5)
        elif kind == "risky":
            desk.accounts.levels[desk.uid("alice")] = 4
        elif kind == "expected":
            await desk.rooms.crediting.pre_approve(desk.uid("alice"), "HKD", 1_005_000, FRONTLINE, "a friend")
        elif kind == "third_party":
            name = "ZZYZX"
        apply = await desk.applied(amount=amount)
        if kind == "by_hand":
            await desk.by_hand(await desk.arrives(amount=amount, ccy="HKD", account="x", name="ELSE"), apply)
        else:
            await desk.arrives(amount=amount, name=name)
            assert await desk.round() == "1 matched"
        await asyncio.sleep(90)
        shown = await desk.procedure(apply)
        assert shown["deposit_type"] == KINDS[kind]
        assert shown["state"] == ("end_ok(deposit_ok)" if credited else REVIEW)
        assert (await desk.apply(apply)).status == (ApplyStatus.DONE if credited else ApplyStatus.CREDITING)

    tell(story)


@pytest.mark.parametrize(("amount", "first"), [(100_000_000, False), (100_000_100, True)])
def test_a_first_deposit_is_of_high_risk_above_its_threshold(amount: int, first: bool) -> None:
    async def story(desk: Desk) -> None:
        shown = await desk.procedure(await desk.matched(amount=amount))
        assert shown["deposit_type"] == (DepositType.HIGH_RISK if first else DepositType.NORMAL)

    tell(story)


@pytest.mark.parametrize(("amount", "days", "used"), [
    (1_010_000, 0, True), (1_010_100, 0, False), (990_000, 0, True), (989_900, 0, False), (1_000_000, 5, False)])
def test_a_pre_approval_holds_for_its_amount_its_days_and_one_deposit(amount: int, days: int, used: bool) -> None:
    async def story(desk: Desk) -> None:
        crediting = desk.rooms.crediting
        refused = await crediting.pre_approve(desk.uid("alice"), "HKD", 1_000_000, USER, "")
        assert isinstance(refused, Refusal) and refused.code is Code.FORBIDDEN
        await crediting.pre_approve(desk.uid("alice"), "HKD", 1_000_000, FRONTLINE, "expected")
        await asyncio.sleep(days * 86_400)
        kinds = [(await desk.procedure(await desk.matched(amount=amount)))["deposit_type"] for _ in range(2)]
        assert kinds == [DepositType.PRE_APPROVAL if used else DepositType.NORMAL, DepositType.NORMAL]

    tell(story, start="2026-03-04 10:00")


def test_two_equal_deposits_at_once_do_not_share_a_pre_approval() -> None:
    async def story(desk: Desk) -> None:
        pre_approve, uid = desk.rooms.crediting.pre_approve, desk.uid("alice")
        await pre_approve(uid, "HKD", 1_000_000, FRONTLINE, "expected")
        amounts = (1_000_000, 1_000_100, 1_000_200)
        applies = [await desk.applied(amount=amount) for amount in amounts]
        for amount in amounts:
            await desk.arrives(amount=amount)
        assert await desk.round() == "3 matched"
        await asyncio.sleep(5)
        kinds = [(await desk.procedure(one))["deposit_type"] for one in applies]
        assert sorted(kinds) == [DepositType.NORMAL, DepositType.NORMAL, DepositType.PRE_APPROVAL]

    tell(story)


def test_a_pre_approval_is_the_deposits_own_before_sba_hears_of_it() -> None:
    """However often its creation is tried, and though the days of the pre-approval are over meanwhile."""
    async def story(desk: Desk) -> None:
        crediting = desk.rooms.crediting._crediting
        rpc, kinds = crediting._rpc, list[int]()

        async def refusing(name: str, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            if name == "sba.create_deposit":
                kinds.append(args[0].deposit_type)
                raise CallFailed("SBA is down")
            return await rpc(name, function, *args, **kwargs)

        crediting._rpc = refusing
        for _ in range(2):
            await desk.rooms.crediting.pre_approve(desk.uid("alice"), "HKD", 1_000_000, FRONTLINE, "expected")
        first = await desk.matched()
        await asyncio.sleep(60)
        assert kinds == [DepositType.PRE_APPROVAL] * 4
        crediting._rpc = rpc
        second = await desk.matched(amount=1_000_100)
        assert (await desk.procedure(second))["deposit_type"] == DepositType.PRE_APPROVAL, "the other one"
        await asyncio.sleep(6 * 86_400)
        await retried(desk, first)
        assert (await desk.procedure(first))["deposit_type"] == DepositType.PRE_APPROVAL
        assert (await desk.procedure(await desk.matched(amount=1_000_200)))["deposit_type"] == DepositType.NORMAL

    tell(story, start="2026-03-05 10:00")


async def retried(desk: Desk, apply: Apply) -> None:
    """Somebody of operations lets the credit that gave up run once more."""
    link = await desk.rooms.links.latest(apply.id)
    assert link is not None
    job = await desk.rig.core.jobs.find("StatementCredit", f"M{link[0].id}")
    await desk.rig.core.jobs.retry_now(job.id, "staff_1001")
    await asyncio.sleep(5)


@pytest.mark.req("DEP-06", "DEP-12")
@pytest.mark.parametrize("failing", ["screening.deposit_black", "screening.deposit_white"])
def test_both_lists_are_asked_at_once_and_silence_is_a_hit(failing: str) -> None:
    async def story(desk: Desk) -> None:
        asked: list[tuple[str, int]] = []
        crediting = desk.rooms.crediting._crediting
        rpc = crediting._rpc

        async def silent(name: str, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            if name.startswith("screening."):
                asked.append((name, desk.rig.now_ms))
            if name == failing:
                await asyncio.sleep(3)
                raise OutcomeUnknown(name)
            return await rpc(name, function, *args, **kwargs)

        crediting._rpc = silent
        await _listed(desk, WHITE)
        desk.accounts.levels[desk.uid("alice")] = 4
        apply = await desk.matched()
        await asyncio.sleep(10)
        assert [name for name, _ in asked] == ["screening.deposit_black", "screening.deposit_white"]
        assert asked[0][1] == asked[1][1], "in parallel"
        assert (await desk.apply(apply)).status == ApplyStatus.CREDITING
        assert (await desk.procedure(apply))["state"] == REVIEW

    tell(story)


@pytest.mark.req("DEP-07")
@pytest.mark.parametrize("value", [Value(Kind.NAME, "CHEAT GREAT"), Value(Kind.ACCOUNT, "6202100000010001")])
def test_a_blacklisted_remitter_is_reviewed(value: Value) -> None:
    async def story(desk: Desk) -> None:
        desk.accounts.names_of[desk.uid("alice")] = "CHEAT GREAT"
        account = desk.card("alice", "hsbc")
        of = value._replace(value=account) if value.kind is Kind.ACCOUNT else value
        assert await desk.rig.core.lists.add(BLACK, [of], "staff_1001", "test") == 1
        assert (await desk.procedure(await desk.matched()))["state"] == REVIEW

    tell(story)


@pytest.mark.req("DEP-11")
def test_a_bulk_change_is_all_or_nothing_and_keeps_who_and_why() -> None:
    async def story(desk: Desk) -> None:
        lists = desk.rig.core.lists
        await _listed(desk, BLACK)
        both = [Value(Kind.UID, str(desk.uid(who))) for who in ("bob", "alice")]
        refused = await lists.add(BLACK, both, "staff_1002", "sweep")
        assert isinstance(refused, Refusal) and refused.code is Code.DUPLICATE
        assert (await desk.procedure(await desk.matched("bob")))["state"] == "end_ok(deposit_ok)", "none was added"
        assert await lists.remove(BLACK, both[1:], "staff_1003", "cleared") == 1
        assert await lists.add(BLACK, both, "staff_1002", "sweep") == 2
        assert {(one.operator, one.reason) for one in await lists.entries(BLACK)} == {("staff_1002", "sweep")}
        assert (await desk.procedure(await desk.matched("bob")))["state"] == REVIEW

    tell(story)


# Crediting that fails


@pytest.mark.req("ALERT-DEP-03", "DEP-04")
def test_a_credit_that_cannot_be_made_is_tried_again_then_alerted() -> None:
    async def story(desk: Desk) -> None:
        crediting = desk.rooms.crediting._crediting
        rpc, tries = crediting._rpc, list[int]()

        async def refusing(name: str, function: Any, /, *args: Any, **kwargs: Any) -> Any:
            if name == "sba.create_deposit":
                tries.append(desk.rig.now_ms)
                raise CallFailed("SBA is down")
            return await rpc(name, function, *args, **kwargs)

        crediting._rpc = refusing
        apply = await desk.matched()
        await asyncio.sleep(60)
        assert [round((at - tries[0]) / 1000) for at in tries] == [0, 1, 6, 36]
        (alert,) = desk.alerts("DEP-03")
        assert alert["key"] == f"A{apply.id}" and alert["severity"] == "High"
        crediting._rpc = rpc
        await retried(desk, apply)
        done = await desk.apply(apply)
        assert done.status == ApplyStatus.DONE and done.sba_procedure_id == (await desk.procedure(apply))["id"]
        assert [one["phase"] for one in desk.alerts("DEP-03")] == ["raised", "cleared"]

    tell(story)


@pytest.mark.req("ALERT-DEP-03")
@pytest.mark.parametrize("end", ["credited", "struck", "struck when matched", "struck in review"])
def test_a_refused_credit_is_over_when_its_money_is_credited_or_gone(end: str) -> None:
    async def story(desk: Desk) -> None:
        refuse = desk.rig.world._inject_rpc("reject", Fault.model_construct(
            parameters={"call": "risk_control.add"}))
        apply = await desk.matched()
        refuse()
        assert (apply.status, apply.reject_reason) == (ApplyStatus.REJECTED, "RC_REJECTED")

        def told() -> list[str]:
            return [one["phase"] for one in desk.rig.of_kind("alert", rule="DEP-03", key=f"A{apply.id}")]

        flow = await desk.statements.find("hsbc", apply.matched_flow_id or 0)
        assert flow is not None and told() == ["raised"]
        if end != "struck":
            again = await desk.applied()
            assert isinstance(await desk.by_hand(flow, again), Done)
            assert told() == ["raised"], "it can be taken back"
        if end in ("credited", "struck in review"):
            await asyncio.sleep(65)
        if end != "credited":
            become = {"struck": "", "struck when matched": "REFUNDED", "struck in review": "PENDING_REVERSE"}[end]
            assert await desk.rooms.crediting.struck(await desk.flow(flow)) == become
        if end in ("credited", "struck in review"):
            assert told() == ["raised"]
            name = "CashDepositManualConfirm" if end == "credited" else "CashDepositManualReject"
            await desk.rig.operate(name, await desk.procedure(again))
            await asyncio.sleep(5)
        assert told() == ["raised", "cleared"]

    tell(story)


# Endings


def test_what_review_rejects_is_for_people() -> None:
    async def story(desk: Desk) -> None:
        desk.accounts.levels[desk.uid("alice")] = 5
        apply = await desk.matched()
        await desk.rig.operate("CashDepositManualReject", await desk.procedure(apply))
        await asyncio.sleep(5)
        rejected = await desk.apply(apply)
        assert (rejected.status, rejected.reject_reason) == (ApplyStatus.REJECTED, "MANUAL_REJECT")
        (one,) = await desk.rooms.abnormal.listed()
        assert one.reason == "DEPOSIT_REJECTED" and one.flow_id == apply.matched_flow_id
        flow = await desk.statements.find("hsbc", one.flow_id)
        assert flow is not None and (flow.status, flow.is_used) == (ABNORMAL, 0)
        assert desk.alerts("DEP-03") == [], "a person decided"
        assert (await desk.rig.money()).available == 10_000_000
        await desk.applied()
        assert await desk.round() == "", "people decide about it, no machine"

    tell(story)


async def rejected(desk: Desk, apply: Apply) -> Flow:
    """The reviewer rejects the deposit; its entry."""
    await desk.rig.operate("CashDepositManualReject", await desk.procedure(apply))
    await asyncio.sleep(5)
    flow = await desk.statements.find("hsbc", apply.matched_flow_id or 0)
    assert flow is not None
    return flow


@pytest.mark.req("MATCH-016")
def test_the_money_of_a_rejected_deposit_is_matched_again_by_a_person_and_credited_once() -> None:
    async def story(desk: Desk) -> None:
        desk.accounts.levels[desk.uid("alice")] = 5
        first = await desk.matched()
        flow = await rejected(desk, first)
        assert await desk.db.all(CLAIMS, {}) == []
        second = await desk.applied("bob")
        assert isinstance(await desk.by_hand(flow, second), Done)
        await asyncio.sleep(65)
        third = await rejected(desk, await desk.apply(second))
        assert await desk.db.all(CLAIMS, {}) == [] and third.is_used == 0
        last = await desk.applied("bob")
        await desk.by_hand(third, last, "q2")
        await asyncio.sleep(65)
        assert await desk.db.all(CLAIMS, {}) == [(flow.id, last.id)]
        await desk.rig.operate("CashDepositManualConfirm", await desk.procedure(last))
        await asyncio.sleep(5)
        credited = await desk.statements.find("hsbc", flow.id)
        assert credited is not None and (credited.status, credited.is_used) == (CREDITED, 1)
        assert (await desk.rig.money("bob")).available == 11_000_000
        assert (await desk.rig.money()).available == 10_000_000
        shown = [(await desk.procedure(one))["transaction_id"] for one in (first, second, last)]
        assert shown == [f"hsbc:{flow.id}", f"hsbc:{flow.id}:2", f"hsbc:{flow.id}:3"]
        reason = "MANUAL_REJECT"
        assert await desk.db.all(RELEASES, {}) == [("hsbc", flow.id, 1, first.id, reason),
                                                   ("hsbc", flow.id, 2, second.id, reason)]
        matched, deposited = await desk.links()
        assert sorted(row[2] for row in matched) == sorted((first.id, second.id, last.id)), "the history is kept"
        assert sorted(row[8] for row in deposited) == sorted(
            (int(ApplyStatus.REJECTED), int(ApplyStatus.REJECTED), int(ApplyStatus.DONE)))
        assert await desk.rooms.abnormal.listed() == []

    tell(story)


@pytest.mark.req("MATCH-016")
@pytest.mark.parametrize("commit", range(1, 4))
def test_a_death_while_the_rejection_is_written_releases_the_entry_once(commit: int) -> None:
    async def story(desk: Desk) -> None:
        desk.accounts.levels[desk.uid("alice")] = 5
        apply, world, seen = await desk.matched(), desk.rig.world, [0]
        shown = await desk.procedure(apply)

        def die(_name: str, _number: int) -> None:
            seen[0] += 1
            if seen[0] == commit:
                world.watch_commits(None)
                world.kill(restart_ms=1000)

        world.watch_commits(die)
        with contextlib.suppress(Severed):
            await desk.rig.operate("CashDepositManualReject", shown)
        await asyncio.sleep(120)
        assert world.kills == 1
        flow = await desk.statements.find("hsbc", apply.matched_flow_id or 0)
        assert flow is not None and (flow.status, flow.is_used) == (ABNORMAL, 0)
        assert (await desk.apply(apply)).status == ApplyStatus.REJECTED and await desk.db.all(CLAIMS, {}) == []
        assert [row[2:4] for row in await desk.db.all(RELEASES, {})] == [(1, apply.id)]
        assert len(await desk.rooms.abnormal.listed()) == 1

    tell(story)


def test_a_rejected_deposit_whose_entry_the_bank_strikes_is_refunded_to_nobody_else() -> None:
    async def story(desk: Desk) -> None:
        desk.accounts.levels[desk.uid("alice")] = 5
        apply = await desk.matched()
        flow = await rejected(desk, apply)
        assert await desk.rooms.crediting.struck(flow) == ""
        assert (await desk.flow(flow)).status == VOID and await desk.rooms.abnormal.listed() == []
        assert await desk.rig.core.applications.refund_of(apply.id) == "NOT_CREDITED"
        assert [one["event"] for one in desk.rig.of_kind("notify", uid=apply.uid)] == [
            "DEPOSIT_REJECT", "DEPOSIT_REFUNDED"]
        assert await desk.rooms.crediting.struck(await desk.flow(flow)) == ""
        again = await desk.applied("bob")
        refused = await desk.rooms.manual.match("r1", "hsbc", flow.id, again.id, FRONTLINE)
        assert isinstance(refused, Refusal) and refused.code is Code.ILLEGAL_STATE

    tell(story)


@pytest.mark.req("ADR-007-1", "ADR-007-2")
def test_a_reversal_unbinds_the_card_and_tells_the_customer() -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.matched()
        assert "unbound" in desk.rooms.unbinding.notice()
        await desk.reverse(apply)
        assert desk.accounts.unbound == [(apply.uid, "hsbc", apply.card_no, "REVERSAL")]
        assert [one["event"] for one in desk.rig.of_kind("notify", uid=apply.uid)] == [
            "DEPOSIT_OK", "DEPOSIT_REVERSED", "DEPOSIT_REVERSED", "CARD_UNBOUND"]
        flow = await desk.statements.find("hsbc", apply.matched_flow_id or 0)
        assert flow is not None and flow.status == ABNORMAL
        assert (await desk.links())[1][0][8] == int(ApplyStatus.REVERSED)
        refused = await desk.submit()
        assert isinstance(refused, Refusal) and refused.code is Code.BLOCKED
        desk.accounts.unbound.clear()  # bound again
        assert (await desk.apply(await desk.matched())).status == ApplyStatus.DONE

    tell(story)


@pytest.mark.req("ADR-007-3")
@pytest.mark.parametrize(("policy", "remark", "unbound"), [
    ("always", "our own mistake", True), ("never", "FRAUD found", False), ("by_reason", "FRAUD found", True),
    ("by_reason", "our own mistake", False)])
def test_whether_it_unbinds_is_a_setting(policy: str, remark: str, unbound: bool) -> None:
    async def story(desk: Desk) -> None:
        await desk.reverse(await desk.matched(), remark)
        assert bool(desk.accounts.unbound) == unbound
        assert bool(desk.rig.of_kind("notify", event="CARD_UNBOUND")) == unbound

    tell(story, settings={"reverse.unbind_policy": policy})
    assert Settings()["reverse.unbind_policy"] == "always"


def test_an_unknown_policy_is_told() -> None:
    with pytest.raises(Misconfigured, match=r"reverse\.unbind_policy"):
        tell(lambda _desk: asyncio.sleep(0), settings={"reverse.unbind_policy": "sometimes"})


def test_a_struck_entry_is_void_whatever_was_made_of_it() -> None:
    async def story(desk: Desk) -> None:
        crediting = desk.rooms.crediting
        unused = await desk.arrives(amount=5_000)
        assert await crediting.struck(unused) == "" and (await desk.flow(unused)).status == VOID

        waiting = await desk.applied(amount=999_000)
        entry = await desk.arrives(amount=998_000)
        await desk.by_hand(entry, waiting)
        assert await crediting.struck(await desk.flow(entry)) == "REFUNDED"
        await asyncio.sleep(120)
        assert (await desk.apply(waiting)).status == ApplyStatus.REFUNDED
        assert (await desk.flow(entry)).status == VOID and desk.rig.of_kind("procedure") == []

        credited = await desk.matched()
        flow = await desk.statements.find("hsbc", credited.matched_flow_id or 0)
        assert flow is not None and flow.status == CREDITED
        assert await crediting.struck(flow) == "PENDING_REVERSE"
        assert await desk.rig.core.applications.refund_of(credited.id) == "PENDING_REVERSE"
        assert len(desk.alerts("DEP-09")) == 1 and (await desk.rig.money()).available == 11_000_000
        await desk.reverse(credited)
        assert await desk.rig.core.applications.refund_of(credited.id) == "REVERSED"
        assert (await desk.flow(flow)).status == VOID and (await desk.rig.money()).available == 10_000_000
        assert [(one["key"], one["phase"]) for one in desk.alerts("DEP-09")] == [
            (f"A{credited.id}", "raised"), (f"A{credited.id}", "cleared")]

    tell(story)


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_struck_deposit_in_review_is_to_be_reversed_only_if_it_is_credited_after_all(confirmed: bool) -> None:
    async def story(desk: Desk) -> None:
        desk.accounts.levels[desk.uid("alice")] = 5
        apply = await desk.matched()
        flow = await desk.statements.find("hsbc", apply.matched_flow_id or 0)
        assert flow is not None and await desk.rooms.crediting.struck(flow) == "PENDING_REVERSE"
        name = "CashDepositManualConfirm" if confirmed else "CashDepositManualReject"
        await desk.rig.operate(name, await desk.procedure(apply))
        await asyncio.sleep(5)
        assert [one["phase"] for one in desk.alerts("DEP-09")] == ["raised"] + ["cleared"] * (not confirmed)
        if confirmed:
            await desk.reverse(apply)
            assert [one["phase"] for one in desk.alerts("DEP-09")] == ["raised", "cleared"]

    tell(story)


@pytest.mark.req("LAT-10")
def test_a_bank_securities_transfer_has_no_match() -> None:
    async def story(rig: Any) -> None:
        desk = Desk(rig, ("hsbc",), None)
        await desk.begin()
        apply = await rig.deposit()
        await asyncio.sleep(60)
        done = await rig.core.applications.find(apply.id)
        assert (done.status, done.matched_flow_id) == (ApplyStatus.DONE, None)
        assert await desk.links() == ([], []) and rig.of_kind("match") == []

    play(story)


# By hand


def test_who_may_match_by_hand() -> None:
    async def story(desk: Desk) -> None:
        apply, flow = await desk.applied(), await desk.arrives(amount=990_000)
        manual = desk.rooms.manual
        for refused in (await manual.match("q1", "hsbc", flow.id, apply.id, USER),
                        await manual.unmatch("q1", apply.id, USER), await manual.candidates("hsbc", flow.id, USER)):
            assert isinstance(refused, Refusal) and refused.code is Code.FORBIDDEN
        assert not isinstance(await manual.match("q1", "hsbc", flow.id, apply.id, SUPERVISOR), Refusal)

    tell(story)


def test_a_request_does_one_thing_once() -> None:
    async def story(desk: Desk) -> None:
        apply, other = await desk.applied(), await desk.applied("bob")
        flow = await desk.arrives(amount=999_000)
        first, again = await desk.by_hand(flow, apply), await desk.by_hand(flow, apply)
        assert again == first._replace(replayed=True) and len((await desk.links())[0]) == 1
        assert (await desk.by_hand(flow, other)).code is Code.DUPLICATE
        assert (await desk.by_hand(flow, other, "q2")).code is Code.ILLEGAL_STATE
        usd = await desk.applied("bob", ccy="USD")
        extra = await desk.arrives("bob", 7_000)
        assert (await desk.by_hand(extra, usd, "q3")).code is Code.INVALID_PARAM
        assert (await desk.rooms.manual.match("q4", "hsbc", 1, usd.id, FRONTLINE)).code is Code.NOT_FOUND

    tell(story)


@pytest.mark.req("MATCH-018")
@pytest.mark.parametrize("role", [Role.FRONTLINE, Role.SUPERVISOR])
def test_who_matched_by_hand_does_not_approve_the_deposit(role: Role) -> None:
    """Four eyes (gaps.md B-30), whatever the role."""
    async def story(desk: Desk) -> None:
        apply, by = await desk.applied(amount=999_000), Actor("staff_7001", role)
        flow = await desk.arrives(amount=998_000)
        assert not isinstance(await desk.rooms.manual.match("q1", "hsbc", flow.id, apply.id, by), Refusal)
        await asyncio.sleep(120)
        shown = await desk.procedure(apply)
        alone = await desk.rig.operate("CashDepositManualConfirm", shown, by)
        assert alone.code is Code.FORBIDDEN and "staff_7001 matched" in alone.message
        assert (await desk.procedure(apply))["state"] == "new(manual_confirm)"
        assert (await desk.rig.operate("CashDepositManualConfirm", shown)).ok
        await asyncio.sleep(5)
        assert (await desk.apply(apply)).status == ApplyStatus.DONE

    tell(story)


def test_a_match_is_taken_back_before_its_credit_and_not_after() -> None:
    async def story(desk: Desk) -> None:
        apply, right = await desk.applied(), await desk.applied("bob")
        flow = await desk.arrives("bob", 999_000)
        manual = desk.rooms.manual
        await desk.by_hand(flow, apply)
        back = await manual.unmatch("q2", apply.id, FRONTLINE, "wrong customer")
        assert not isinstance(back, Refusal) and back.flow_id == flow.id
        assert await manual.unmatch("q2", apply.id, FRONTLINE) == back._replace(replayed=True)
        waits, open_again = await desk.apply(apply), await desk.flow(flow)
        assert (waits.status, waits.matched_flow_id) == (ApplyStatus.WAIT_MATCH, None)
        assert (open_again.is_used, open_again.status) == (0, 0)
        await desk.by_hand(flow, right, "q3")
        await asyncio.sleep(120)
        assert desk.rig.of_kind("procedure")[0]["biz"] == "cash_deposit"
        assert (await desk.apply(apply)).sba_procedure_id is None, "the first match's job did nothing"
        assert (await desk.procedure(right))["amount"] == 999_000
        late = await manual.unmatch("q4", right.id, FRONTLINE)
        assert isinstance(late, Refusal) and late.code is Code.ILLEGAL_STATE

    tell(story)


def test_candidates_say_what_separates_them() -> None:
    async def story(desk: Desk) -> None:
        dear, usd = await desk.applied(amount=1_000_300), await desk.applied(ccy="USD")
        await desk.applied("bob", 5_000_000, "CNH", "dbs")
        flow = await desk.arrives()
        found = await desk.candidates(flow)
        assert [(one.wish, one.fails) for one in found] == [
            (dear.id, ("amount: 3.00 HKD less than the application",)),
            (usd.id, ("currency: HKD, the application says USD",))]

    tell(story)


# Abnormal deposits and deadlines

# amount, arrival, (still open at, given to people by), reason
TOO_LONG = [
    (1_000_000, "2026-03-12 10:00", ("2026-03-13 09:55", "2026-03-13 10:35"), "UNMATCHED"),
    (400_000_000, "2026-03-12 10:00", ("2026-03-12 13:55", "2026-03-12 14:35"), "LARGE_UNMATCHED"),
    (400_000_000, "2026-03-12 17:00", ("2026-03-13 11:55", "2026-03-13 12:35"), "LARGE_UNMATCHED"),
    (1_000_000, "2026-03-14 12:00", ("2026-03-17 06:55", "2026-03-17 07:35"), "UNMATCHED")]


@pytest.mark.req("ALERT-DEP-02")
@pytest.mark.parametrize(("amount", "arrival", "around", "reason"), TOO_LONG)
def test_an_entry_open_for_too_long_is_given_to_people(
    amount: int, arrival: str, around: tuple[str, str], reason: str
) -> None:
    async def story(desk: Desk) -> None:
        await desk.rig.until(arrival)
        flow = await desk.arrives(amount=amount)
        await desk.timetable.start()
        await desk.rig.until(around[0])
        assert await desk.rooms.abnormal.listed() == []
        await desk.rig.until(around[1])
        (one,) = await desk.rooms.abnormal.listed()
        assert (one.flow_id, one.reason) == (flow.id, reason) and (await desk.flow(flow)).status == ABNORMAL
        assert [alert["key"] for alert in desk.alerts("DEP-02")] == [f"F{flow.id}"]
        await desk.timetable.stop()
        apply = await desk.applied(amount=amount)
        assert not isinstance(await desk.by_hand(flow, apply), Refusal)
        assert await desk.rooms.abnormal.listed() == []
        assert [alert["phase"] for alert in desk.alerts("DEP-02")] == ["raised", "cleared"]

    tell(story)


def test_a_blacklisted_remitters_entry_is_given_to_people_at_once() -> None:
    async def story(desk: Desk) -> None:
        await desk.rig.core.lists.add(BLACK, [Value(Kind.NAME, "CHEAT GREAT")], "staff_1001", "test")
        flow, other = await desk.arrives(name="GREAT, CHEAT"), await desk.arrives("bob")
        assert await desk.rooms.abnormal.detect() == 1 and await desk.rooms.abnormal.detect() == 0
        assert ((await desk.flow(flow)).status, (await desk.flow(other)).status) == (ABNORMAL, 0)

    tell(story)


DEADLINES = {**dict.fromkeys(BANKS, 7), "ewb": 15, "citi": 15, "spd": 15}


@pytest.mark.parametrize("bank", ["hsbc", "ewb"])
def test_an_application_without_money_is_rejected_after_its_banks_days(bank: str) -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.applied(ccy="USD", bank=bank)
        day, abnormal = 86_400, desk.rooms.abnormal
        assert {one: abnormal.deadline_ms(one, 0) // 1000 // day for one in BANKS} == DEADLINES
        await asyncio.sleep((DEADLINES[bank] - 1) * day)
        await desk.timetable.start()
        await asyncio.sleep(day - 60)
        assert (await desk.apply(apply)).status == ApplyStatus.WAIT_MATCH
        await asyncio.sleep(16 * 3600)  # 01:00 of the next day has passed
        gone = await desk.apply(apply)
        assert (gone.status, gone.reject_reason) == (ApplyStatus.REJECTED, "TIMEOUT")
        (run,) = {event[1] for event in desk.rig.events if event[2] == "notify"}
        assert (run // 1_000_000 + 8 * 3600) % 86_400 // 60 == 60, "at 01:00"
        assert [one["event"] for one in desk.rig.of_kind("notify", uid=apply.uid)] == ["DEPOSIT_REJECT"]
        await desk.timetable.stop()

    tell(story, banks=(bank,))


def test_an_application_with_a_candidate_is_never_rejected() -> None:
    async def story(desk: Desk) -> None:
        apply, other = await desk.applied(), await desk.applied("bob", 500_000)
        flow = await desk.arrives(amount=998_000)
        await desk.round()
        await asyncio.sleep(7 * 86_400)
        await desk.timetable.start()
        await asyncio.sleep(86_400)
        assert ((await desk.apply(apply)).status, (await desk.apply(other)).status) == (
            ApplyStatus.WAIT_MATCH, ApplyStatus.REJECTED)
        assert (await desk.flow(flow)).status == 2 and len(await desk.rooms.abnormal.listed()) == 1
        await desk.timetable.stop()

    tell(story, banks=("hsbc",))
