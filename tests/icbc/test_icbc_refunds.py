"""A statement of ICBC that was used and is refunded: from the bank's deletion to the customer's money (A-29)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from core.deposits.applications import Apply
from core.deposits.icbc_incidents import Handled
from core.deposits.statements import CREDITED, MATCHED, VOID, Flow
from core.domain import ApplyStatus, Role
from core.errors import Code
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from core.orchestration.records import Actor, Reply
from core.screening import Kind, ListName, Value
from core.storage import Statement
from core.storage.primary import refund
from scenarios.schema import Fault
from tests.rig import SUPERVISOR, Rig, play

AMOUNT, BEFORE = 500_000, 10_000_000
OUR_HKD = "861000000011"
ON_DUTY = Actor("staff_2001", Role.ON_DUTY)
REFUNDS = Statement(select(refund.c.source, refund.c.apply_id, refund.c.flow_id, refund.c.amount, refund.c.state))


class Case:
    """One deposit of alice's at ICBC."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.bank = rig, rig.world.receivers["icbc"]
        self.reference = ""
        self.id = 0

    async def begin(self) -> None:
        """Announced, transferred, collected and matched; credited if nothing holds it up."""
        alice = self.rig.customer("alice")
        apply = await self.rig.core.deposits_at["icbc"].submit(
            alice.uid, alice.trade_acc_ids[0], 1, self.rig.world.card_id(alice, "icbc"), alice.cards["icbc"].number,
            "HKD", AMOUNT)
        self.id = apply.id
        line = self.bank.pay(alice, "HKD", AMOUNT)
        assert line is not None
        self.reference = line.reference
        await asyncio.sleep(400)

    async def refunded(self, script: bool = True) -> None:
        """The bank gives the money back and deletes its statement; bob's comes later, and the script is run."""
        self.bank.bank.refund(self.reference)
        self.bank.pay(self.rig.customer("bob"), "HKD", 1_000)
        await asyncio.sleep(400)
        if script:
            await self.script()
            await asyncio.sleep(10)

    async def script(self) -> None:
        done = await self.rig.core.icbc_incidents.run_script(OUR_HKD, ON_DUTY)
        assert isinstance(done, Handled) and done.result == "DONE" and done.serials == (self.reference,)

    async def apply(self) -> Apply:
        found = await self.rig.core.applications.find(self.id)
        assert found is not None
        return found

    async def flow(self) -> Flow:
        months = self.rig.core.statements.recent_months()
        found = await self.rig.core.statements.by_reference("icbc", OUR_HKD, self.reference, months)
        assert found is not None
        return found

    async def refunds(self) -> list[Any]:
        return await self.rig.core.given.databases.primary.all(REFUNDS, {})

    async def operate(self, name: str, **params: Any) -> Reply:
        shown = await self.rig.of_apply(self.id)
        assert shown is not None
        reply = await self.rig.operate(name, shown, SUPERVISOR, **params)
        await asyncio.sleep(5)
        return reply

    async def reverse(self) -> Reply:
        return await self.operate("CashDepositReverse", confirmations=REVERSE_CONFIRMATIONS)

    async def money(self) -> int:
        return int((await self.rig.money()).available)

    def notices(self) -> list[str]:
        return [one["event"] for one in self.rig.of_kind("notify", uid=self.rig.customer("alice").uid)]

    def alerts(self, rule: str) -> list[str]:
        return [one["key"] for one in self.rig.of_kind("alert", rule=rule)]


def tell(story: Callable[[Case], Awaitable[Any]], **more: Any) -> Any:
    async def told(rig: Rig) -> None:
        await story(Case(rig))

    return play(told, cards=("airstar", "icbc"), statements=("icbc",), **more)


@pytest.mark.parametrize("killed", [False, True])
def test_before_the_credit_the_application_is_refunded_and_the_customer_told(killed: bool) -> None:
    """Also if the core dies right after the script: what is to follow is queued with it."""
    async def story(case: Case) -> None:
        world = case.rig.world
        resume = world._inject_job("stop", Fault.model_construct(parameters={"job": "StatementCredit"}))
        await case.begin()
        assert (await case.apply()).status == ApplyStatus.MATCHED and (await case.flow()).status == MATCHED
        await case.refunded(script=False)
        case.rig.core.jobs.pause("StatementStruck")
        await case.script()
        assert (await case.apply()).status == ApplyStatus.MATCHED
        if killed:
            world.kill(1_000)
        else:
            case.rig.core.jobs.resume("StatementStruck")
        await asyncio.sleep(60)
        resume()
        await asyncio.sleep(200)
        flow, apply = await case.flow(), await case.apply()
        assert (apply.status, apply.matched_flow_id) == (ApplyStatus.REFUNDED, None)
        assert (flow.status, flow.is_used) == (VOID, 0)
        assert await case.refunds() == [("icbc", case.id, flow.id, AMOUNT, "NOT_CREDITED")]
        assert case.notices() == ["DEPOSIT_REFUNDED"] and case.alerts("ICBC-05") == [f"F{flow.id}"]
        assert await case.money() == BEFORE and case.rig.of_kind("procedure") == [], "nothing was credited"
        assert case.alerts("DEP-09") == [], "nobody has anything to reverse"

    tell(story)


@pytest.mark.req("ICBC-INC-11")
def test_after_the_credit_a_supervisor_reverses_and_no_machine() -> None:
    async def story(case: Case) -> None:
        await case.begin()
        assert (await case.flow()).status == CREDITED and await case.money() == BEFORE + AMOUNT
        await case.refunded()
        flow = await case.flow()
        assert flow.status == VOID and (await case.apply()).status == ApplyStatus.DONE
        assert await case.refunds() == [("icbc", case.id, flow.id, AMOUNT, "PENDING_REVERSE")]
        assert case.alerts("ICBC-05") == [f"F{flow.id}"] and case.alerts("DEP-09") == [f"A{case.id}"]
        assert case.notices() == ["DEPOSIT_OK", "DEPOSIT_REFUNDED"]
        await asyncio.sleep(86_400)
        assert await case.money() == BEFORE + AMOUNT, "it waits for a person"
        assert (await case.reverse()).ok
        assert await case.money() == BEFORE and (await case.refunds())[0][4] == "REVERSED"
        assert (await case.apply()).status == ApplyStatus.REVERSED
        assert case.notices()[2:] == ["DEPOSIT_REVERSED", "DEPOSIT_REVERSED", "CARD_UNBOUND"]

    tell(story)


@pytest.mark.req("ICBC-INC-11")
def test_a_reversal_that_the_balance_does_not_bear_is_a_shortfall_and_critical() -> None:
    async def story(case: Case) -> None:
        await case.begin()
        await case.refunded()
        account = case.rig.customer("alice").trade_acc_ids[0]
        await case.rig.core.risk_control.debit("spent", account, "HKD", BEFORE + 1)
        assert (await case.reverse()).code is Code.INSUFFICIENT_BALANCE
        assert (await case.refunds())[0][4] == "SHORTFALL"
        (alert,) = case.rig.of_kind("alert", rule="DEP-07")
        assert alert["severity"] == "Critical"
        await case.rig.core.risk_control.add("paid in", account, "HKD", AMOUNT)
        assert (await case.reverse()).ok and (await case.refunds())[0][4] == "REVERSED"

    tell(story, planted=True)


@pytest.mark.parametrize("confirmed", [False, True])
def test_one_in_review_is_for_the_reviewer_first(confirmed: bool) -> None:
    """Rejected, there is nothing to reverse; confirmed after all, it is as any credited one."""
    async def story(case: Case) -> None:
        black = [Value(Kind.UID, str(case.rig.customer("alice").uid))]
        await case.rig.core.lists.add(ListName.DEPOSIT_BLACK, black, "staff_1001", "test")
        await case.begin()
        await case.refunded()
        assert [row[4] for row in await case.refunds()] == ["PENDING_REVERSE"] and (await case.flow()).status == VOID
        assert (await case.operate(f"CashDepositManual{'Confirm' if confirmed else 'Reject'}")).ok
        assert (await case.apply()).status == (ApplyStatus.DONE if confirmed else ApplyStatus.REJECTED)
        assert [row[4] for row in await case.refunds()] == ["PENDING_REVERSE" if confirmed else "NOT_CREDITED"]
        assert (await case.flow()).status == VOID and await case.rig.core.matching.abnormal.listed() == []
        if confirmed:
            assert (await case.reverse()).ok
        assert await case.money() == BEFORE

    tell(story)


@pytest.mark.req("ICBC-INC-11")
def test_one_that_was_rejected_or_reversed_before_only_gets_its_record() -> None:
    async def story(case: Case) -> None:
        await case.begin()
        assert (await case.reverse()).ok
        await case.refunded()
        assert [row[4] for row in await case.refunds()] == ["REVERSED"] and case.alerts("DEP-09") == []
        assert (await case.flow()).status == VOID and await case.money() == BEFORE

    tell(story)
