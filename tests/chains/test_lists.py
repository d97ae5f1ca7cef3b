"""Black and white lists where they decide: deposits of every way into SBA, withdrawals; changed in bulk, or silent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.errors import Refusal
from core.screening import Kind, ListName, Value
from tests.rig import Rig, play

BLACK, WHITE, WITHDRAW = ListName.DEPOSIT_BLACK, ListName.DEPOSIT_WHITE, ListName.WITHDRAW_BLACK
REVIEW, CREDITED = "new(manual_confirm)", "end_ok(deposit_ok)"
STEADY: dict[str, Any] = {
    f"sim.{bank}.{key}": value for bank in ("cmb", "cmbc")
    for key, value in (("outcome", [[0, 1.0]]), ("unknown.share", 0.0))} | {
    "deposit.large_threshold": {"HKD": 4_000, "USD": 500, "CNH": 4_000}}  # as large as these customers are rich
BANKS = ("airstar", "cmb", "cmbc", "icbc")
SMALL, BIG = 300_000, 450_000


def told(story: Any, bank: str, **more: Any) -> Any:
    return play(story, cards=("airstar",) if bank == "airstar" else ("airstar", bank), settings=STEADY,
                statements=("icbc",) if bank == "icbc" else (), **more)


async def listed(rig: Rig, name: ListName, *who: str, remove: bool = False) -> None:
    values = [Value(Kind.UID, str(rig.customer(one).uid)) for one in who]
    change = rig.core.lists.remove if remove else rig.core.lists.add
    assert await change(name, values, "staff_1001", "test") == len(values)


async def deposited(rig: Rig, bank: str, who: str = "alice", amount: int = SMALL) -> str:
    """The state into which a deposit comes; at a statement bank it is announced and transferred."""
    customer = rig.customer(who)
    apply = await rig.core.deposits_at[bank].submit(
        customer.uid, customer.trade_acc_ids[0], 1, rig.world.card_id(customer, bank), customer.cards[bank].number,
        "HKD", amount)
    assert not isinstance(apply, Refusal), apply
    if bank in rig.world.receivers:
        assert rig.world.receivers[bank].pay(customer, "HKD", amount) is not None
    for _ in range(60):
        await asyncio.sleep(10)
        shown = await rig.of_apply(apply.id)
        if shown is not None:
            return str(shown["state"])
    raise AssertionError("it never came into SBA")


# lists, amount -> state
DECIDED = [((), SMALL, CREDITED), ((), BIG, REVIEW), ((BLACK,), SMALL, REVIEW), ((WHITE,), BIG, CREDITED),
           ((BLACK, WHITE), SMALL, REVIEW), ((BLACK, WHITE), BIG, REVIEW)]


@pytest.mark.req("DEP-07", "DEP-08", "DEP-09")
@pytest.mark.parametrize(("lists", "amount", "state"), DECIDED)
@pytest.mark.parametrize("bank", BANKS)
def test_what_the_lists_make_of_a_deposit(bank: str, lists: tuple[ListName, ...], amount: int, state: str) -> None:
    async def story(rig: Rig) -> None:
        for name in lists:
            await listed(rig, name, "alice")
        before = (await rig.money()).available
        assert await deposited(rig, bank, amount=amount) == state
        assert (await rig.money()).available == before + (amount if state == CREDITED else 0)

    told(story, bank)


@pytest.mark.req("DEP-06")
@pytest.mark.parametrize("bank", BANKS)
def test_both_lists_are_asked_at_once_and_the_asking_fails_no_application(bank: str) -> None:
    async def story(rig: Rig) -> None:
        for call in ("screening.deposit_black", "screening.deposit_white"):
            rig.world.rpc.fault("fail", call, rig.world.streams("test"))
        assert await deposited(rig, bank) == REVIEW
        black, white = (rig.of_kind("hop", call=f"screening.deposit_{name}")[0] for name in ("black", "white"))
        assert black["began_us"] == white["began_us"] and black["outcome"] == white["outcome"] == "refused"
        assert rig.of_kind("apply", status="REJECTED") == []

    told(story, bank)


@pytest.mark.req("DEP-12")
@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "fail"])
@pytest.mark.parametrize(("silent", "white", "amount", "state"), [
    ("screening.deposit_black", False, SMALL, REVIEW), ("screening.deposit_black", True, SMALL, REVIEW),
    ("screening.deposit_white", True, BIG, REVIEW), ("screening.deposit_white", False, SMALL, CREDITED)])
@pytest.mark.parametrize("bank", ["airstar", "cmb"])
def test_a_silent_list_is_a_hit_of_the_black_one_and_no_pass_of_the_white_one(
        bank: str, silent: str, white: bool, amount: int, state: str, kind: str) -> None:
    async def story(rig: Rig) -> None:
        if white:
            await listed(rig, WHITE, "alice")
        rig.world.rpc.fault(kind, silent, rig.world.streams("test"))
        assert await deposited(rig, bank, amount=amount) == state

    told(story, bank)


@pytest.mark.req("DEP-12", "SVC-23")
@pytest.mark.parametrize("channel", ["airstar", "cmb", "cmbc", "hsbc"])
@pytest.mark.parametrize("why", ["", "listed", "timeout_before", "timeout_after", "fail"])
def test_a_listed_withdrawal_goes_to_the_reviewers_and_so_does_one_that_cannot_be_asked_for(
        channel: str, why: str) -> None:
    async def story(rig: Rig) -> None:
        if why == "listed":
            await listed(rig, WITHDRAW, "alice")
        elif why:
            rig.world.rpc.fault(why, "screening.withdraw", rig.world.streams("test"))
        task = await rig.withdraw(amount=SMALL, channel=channel)
        await asyncio.sleep(300)
        shown = await rig.of_task(task.id)
        assert shown is not None and (shown["state"] == REVIEW) == bool(why)
        (hop,) = rig.of_kind("hop", call="screening.withdraw")
        assert hop["service"] == "hk-withdraw-blacklist-go"
        assert not why or (await rig.money()).frozen == SMALL

    play(story, cards=("airstar", "cmb", "cmbc", "hsbc"), settings=STEADY, planted=True)


@pytest.mark.req("DEP-11", "SVC-21", "SVC-22")
@pytest.mark.parametrize(("name", "service", "amount", "on", "off"), [
    (BLACK, "hk-deposit-blacklist-go", SMALL, REVIEW, CREDITED),
    (WHITE, "hk-deposit-whitelist-go", BIG, CREDITED, REVIEW)])
def test_a_list_is_changed_in_bulk_and_asked_at_every_deposit(
        name: ListName, service: str, amount: int, on: str, off: str) -> None:
    async def story(rig: Rig) -> None:
        crowd = [Value(Kind.UID, str(number)) for number in range(998)]
        both = [Value(Kind.UID, str(rig.customer(who).uid)) for who in ("alice", "bob")]
        assert await rig.core.lists.add(name, [*crowd, *both], "staff_1001", "sweep") == 1000
        assert len(await rig.core.lists.entries(name, limit=1000)) == 1000
        assert [await deposited(rig, "airstar", who, amount) for who in ("alice", "bob")] == [on, on]
        refused = await rig.core.lists.remove(name, [both[0], Value(Kind.UID, "998")], "staff_1002", "cleared")
        assert isinstance(refused, Refusal)
        assert await deposited(rig, "airstar", "alice", amount) == on, "all or nothing"
        assert await rig.core.lists.remove(name, [*crowd, both[0]], "staff_1002", "cleared") == 999
        assert [await deposited(rig, "airstar", who, amount) for who in ("alice", "bob")] == [off, on]
        assert len(rig.of_kind("hop", service=service)) == 5
        changes = await rig.core.lists.changes(name, limit=1000)
        assert {(one.action, one.operator, one.reason) for one in changes} == {("ADD", "staff_1001", "sweep")}

    told(story, "airstar")
