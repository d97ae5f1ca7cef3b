"""Numbers of pushes that cannot be trusted, and pushes that are not what they seem: begun again, told otherwise,
missing for ever, in a wrong currency or name, before the card was bound."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from platform_world import BANKS, CREDITED, START, Scene, at_bank
from sqlalchemy import delete, update

from core.alerts import RULES
from core.domain import Role
from core.errors import Code
from core.storage import Statement
from core.storage.account import bank_card_bst
from core.storage.primary import bst_push
from core.wire.socket import messages as m

pytestmark = pytest.mark.parametrize("bank", BANKS)
BY = {"cmb": "helper", "cmbc": "repull"}


def begin_again(scene: Scene) -> None:
    """The bank was restored: it numbers from 1, and its list has nothing of before."""
    scene.bank.desk.pushes.last_seq = 0
    scene.bank.desk.pushes._listed.clear()


def standing(scene: Scene) -> set[str]:
    return {push.status for push in scene.bank.desk.pushes.since(0)}


def numbers(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(row[0], row[2], row[4]) for row in rows]


async def tells(scene: Scene, message: str, body: Any) -> str:
    """The bank pushes what its own rules would not let it say."""
    customer = scene.bank.customers()[0]
    scene.bank.desk._push(message, lambda seq: replace(body, push_seq=seq), customer.id)
    await asyncio.sleep(60)
    return str(getattr(body, "transfer_ref", ""))


# --- begun again ------------------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-05", "DEDUP-08")
def test_a_push_under_a_number_of_another_one_is_kept_booked_once_and_told_to_people(bank: str) -> None:
    async def story(scene: Scene) -> None:
        first = [scene.asks("deposit", amount=10_000) for _ in range(2)]
        await asyncio.sleep(30)
        begin_again(scene)
        later = [scene.asks("deposit", amount=20_000)]
        await asyncio.sleep(30)
        later.append(scene.asks("deposit", amount=30_000))
        await asyncio.sleep(4_000)
        assert numbers(await scene.pushes()) == [
            (-2, later[1], "DONE"), (-1, later[0], "DONE"), (1, first[0], "DONE"), (2, first[1], "DONE")]
        assert (await scene.money())["available"] == START["available"] + 70_000
        assert standing(scene) == {"ACKNOWLEDGED"} and scene.alerts() == ["SOCK-09"]
        assert RULES["SOCK-09"].severity == "Critical"
        again = scene.asks("deposit", amount=40_000)  # and behind the old numbers as ever
        await asyncio.sleep(60)
        assert numbers(await scene.pushes())[-1] == (3, again, "DONE")

    at_bank(bank, story)


@pytest.mark.req("SOCK-05", "DEDUP-08")
def test_the_number_of_a_duplicate_is_another_transactions_too(bank: str) -> None:
    """Its row has no key of its own."""

    async def story(scene: Scene) -> None:
        scene.asks("deposit", amount=10_000)
        await asyncio.sleep(30)
        desk = scene.bank.desk
        told = desk.pushes.since(0)[0]
        desk._push(told.command, lambda seq: replace(told.body, push_seq=seq), told.customer)
        await asyncio.sleep(30)
        assert [row[2] for row in numbers(await scene.pushes())] == ["DONE", "DUPLICATE"]
        desk.pushes.last_seq = 1
        desk.pushes._listed.pop()
        later = scene.asks("deposit")
        await asyncio.sleep(60)
        assert numbers(await scene.pushes())[0] == (-1, later, "DONE")
        assert (await scene.money())["available"] == CREDITED["available"] + 10_000
        assert scene.alerts() == ["AIRSTAR-11", "SOCK-09"]

    at_bank(bank, story)


@pytest.mark.req("SOCK-03", "SOCK-04")
@pytest.mark.parametrize("missed", [1, 3, 5])
def test_what_was_missed_while_the_numbers_began_again_is_fetched(bank: str, missed: int) -> None:
    """Fewer, as many and more than the books know: what the list has under our last number tells."""

    async def story(scene: Scene) -> None:
        for _ in range(3):
            scene.asks("deposit", amount=1_000)
        await asyncio.sleep(30)
        begin_again(scene)
        scene.bank.fault("drop", server="both", for_s=30)
        await asyncio.sleep(1)
        later = {scene.asks("deposit", amount=10_000) for _ in range(missed)}
        await asyncio.sleep(4_000)
        rows = await scene.pushes()
        assert {row[2] for row in rows if row[3] == BY[bank]} == later and len(rows) == 3 + missed
        assert (await scene.money())["available"] == START["available"] + 3_000 + missed * 10_000
        assert scene.alerts("SOCK-09") and len(scene.alerts("SOCK-09")) == 1

    at_bank(bank, story)


def test_an_agreement_signed_under_the_new_numbers_counts_against_an_older_one(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.asks("deposit", amount=10_000)
        await asyncio.sleep(30)
        scene.bank.unsign("alice", "HK")
        await asyncio.sleep(30)
        begin_again(scene)
        scene.bank.sign("alice", "HK")
        await asyncio.sleep(30)
        scene.asks("deposit")
        await asyncio.sleep(60)
        assert (await scene.money())["available"] == CREDITED["available"] + 10_000
        assert scene.alerts() == ["SOCK-09"]

    at_bank(bank, story)


# --- told otherwise ---------------------------------------------------------------------------------------------


@pytest.mark.req("DEDUP-07")
@pytest.mark.parametrize("change", [{"amount": "90000.00"}, {"ccy": "USD"}, {"card_no": "6225000000000000"}])
def test_a_push_told_again_with_another_content_changes_nothing_and_is_told_to_people(
    bank: str, change: dict[str, Any]
) -> None:
    async def story(scene: Scene) -> None:
        scene.asks("deposit")
        await asyncio.sleep(30)
        before, (push,) = await scene.pushes(), scene.bank.desk.pushes.since(0)
        assert push.message is not None
        push.body = replace(push.body, **change)
        push.message = replace(push.message, body=push.body)
        scene.bank.desk.pushes.deliver(push)
        await asyncio.sleep(60)
        assert await scene.pushes() == before and await scene.money() == CREDITED
        (detail,) = scene.alerts("SOCK-10")
        assert next(iter(change.values())) in detail and RULES["SOCK-10"].severity == "Critical"

    at_bank(bank, story)


# --- not the holder's -------------------------------------------------------------------------------------------

NOT_HIS: dict[str, dict[str, Any]] = {
    "currency": {"ccy": "USD"}, "name": {"name": "SOMEBODY ELSE"}, "no name": {"name": ""}}


def hkd_only(bank: str) -> dict[str, Any]:
    return {f"socket.{bank}.currencies": ["HKD"]}


@pytest.mark.parametrize("what", [*NOT_HIS, ""])
def test_a_deposit_in_a_foreign_currency_or_name_is_for_people(bank: str, what: str) -> None:
    async def story(scene: Scene) -> None:
        known = next(one for one in scene.bank.customers() if one.card_no == scene.card())
        body = m.DepositPush("BX1", 0, known.name, scene.card(), "HKD", "10000.00", "HK")
        await tells(scene, m.DEPOSIT_PUSH, replace(body, **NOT_HIS.get(what, {})))
        assert [row[4] for row in await scene.pushes()] == ["REFUSED" if what else "DONE"]
        assert scene.alerts() == (["DEP-08"] if what else [])
        assert await scene.money() == (START if what else CREDITED)

    at_bank(bank, story, settings=hkd_only(bank), planted=not what)


@pytest.mark.parametrize("what", list(NOT_HIS))
def test_a_withdrawal_in_a_foreign_currency_or_name_is_refused_at_the_bank(bank: str, what: str) -> None:
    async def story(scene: Scene) -> None:
        known = next(one for one in scene.bank.customers() if one.card_no == scene.card())
        body = m.BankWithdrawal("BX1", 0, known.name, scene.card(), "HKD", "100.00", "HK")
        await tells(scene, m.BANK_WITHDRAWAL, replace(body, **NOT_HIS[what]))
        assert [row[4] for row in await scene.pushes()][:1] == ["REFUSED"]
        assert scene.heard("reverse") and not scene.heard("withdraw") and await scene.money() == START

    at_bank(bank, story, settings=hkd_only(bank))


# --- before the card was bound ----------------------------------------------------------------------------------


async def bound_anew(scene: Scene) -> None:
    """Alice's card has a new row in our books, with nothing agreed."""
    await scene.rig.world.databases.account.execute(
        Statement(delete(bank_card_bst).where(bank_card_bst.c.card_no == scene.card())), {})


async def signed_before_it_was_bound(scene: Scene) -> None:
    """As the books stand when a card was signed at the bank first, and bound here then."""
    scene.bank.sign("alice", "HK")
    await asyncio.sleep(30)
    await scene.rig.world.databases.primary.execute(
        Statement(update(bst_push).where(bst_push.c.bank == scene.name).values(state="REFUSED")), {})
    await bound_anew(scene)


def test_an_agreement_of_a_card_that_is_not_bound_is_told_to_people(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.open_customer("carl", "CARL", "h", {"HKD": 10_000_000}, "6222999900001111")
        scene.bank.sign("carl", 1)
        await asyncio.sleep(30)
        assert [(row[1], row[4]) for row in await scene.pushes()] == [("SIGN", "REFUSED")]
        assert scene.alerts() == ["SOCK-11"] and standing(scene) == {"ACKNOWLEDGED"}

    at_bank(bank, story)


def test_an_agreement_signed_before_the_card_was_bound_counts_when_it_is_asked_for(bank: str) -> None:
    async def story(scene: Scene) -> None:
        await signed_before_it_was_bound(scene)
        scene.asks("deposit")
        await asyncio.sleep(60)
        assert await scene.money() == CREDITED
        assert [row[4] for row in await scene.pushes()] == ["DONE", "DONE"]

    at_bank(bank, story)


def test_people_take_a_refused_deposit_again_once(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.unsign("alice", "HK")
        scene.bank.grant("alice")
        await asyncio.sleep(10)
        scene.asks("deposit")
        await asyncio.sleep(60)
        again = scene.rooms.take_again
        assert await again(2, "staff_1", Role.USER) is Code.FORBIDDEN
        assert await again(9, "staff_1", Role.FRONTLINE) is Code.NOT_FOUND
        assert await again(2, "staff_1", Role.FRONTLINE) is Code.ILLEGAL_STATE  # the reason is still there
        assert await scene.money() == START
        scene.bank.sign("alice", "HK")
        await asyncio.sleep(30)
        assert [await again(2, "staff_1", role) for role in (Role.FRONTLINE, Role.SUPERVISOR)] == [Code.OK, Code.OK]
        await asyncio.sleep(60)
        assert await scene.money() == CREDITED and len(scene.rig.of_kind("apply")) > 0
        assert len(await scene.transfers()) == 1

    at_bank(bank, story)


# --- missing for ever -------------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-03", "SOCK-04")
def test_a_number_that_stays_missing_is_told_once_and_passed_over(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.asks("deposit", amount=10_000)
        await asyncio.sleep(30)
        hole = scene.bank.desk.pushes.spare_seq()
        for _ in range(4):
            scene.asks("deposit", amount=10_000)
        await asyncio.sleep(3 * 1_800 + 100)
        assert len(scene.alerts("SOCK-06")) == 1 and f"push {hole} " in scene.alerts("SOCK-06")[0]
        assert (await scene.rooms.recovery.run()).requested == 0
        await asyncio.sleep(3 * 1_800)
        assert scene.alerts() == ["SOCK-06"]
        scene.asks("deposit", amount=10_000)
        await asyncio.sleep(60)
        assert (await scene.money())["available"] == START["available"] + 60_000

    at_bank(bank, story)
