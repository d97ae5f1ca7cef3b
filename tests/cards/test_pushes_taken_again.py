"""Operations deal once more with what CMB or CMBC pushed before a card was bound: the door is a staff action."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.cards.bank_cards import Card
from core.domain import Market, Role
from core.orchestration.records import Actor
from scenarios.names import names
from scenarios.runbook import carry_out
from tests.bst.platform_world import steady
from tests.rig import FRONTLINE, USER, Rig, play


async def act(rig: Rig, bank: str, by: Actor = FRONTLINE) -> str:
    return await carry_out("TakePushesAgain", {"bank": bank}, by, rig.core, rig.world.banks)


@pytest.mark.parametrize("bank", ["cmb", "cmbc"])
def test_a_deposit_pushed_before_its_card_was_bound_is_credited_once_people_take_it_again(bank: str) -> None:
    async def story(rig: Rig) -> None:
        alice, core = rig.customer("alice"), rig.core
        number, before = alice.cards[bank].number, await rig.money()
        assert await act(rig, bank) == "NOT_FOUND", "nothing was refused"
        assert isinstance(await core.cards.unbind(alice.uid, rig.world.card_id(alice, bank)), Card)
        started = rig.world.sockets[bank].bank.customer_deposits(number, Market.HK, "HKD", 500_000)
        assert started.ref
        await asyncio.sleep(60)
        assert await rig.money() == before
        assert await act(rig, bank) == "ILLEGAL_STATE", "the reason is still there"
        assert isinstance(await core.cards.bind(alice.uid, bank, number, alice.name), Card)
        rig.world.sockets[bank].bank.sign("alice", "HK")
        await asyncio.sleep(30)
        assert await act(rig, bank, USER) == "FORBIDDEN"
        assert await act(rig, bank, Actor("staff_5001", Role.COMPLIANCE)) == "FORBIDDEN"
        assert await rig.money() == before
        assert await act(rig, bank) == "OK" and await act(rig, bank) == "NOT_FOUND"
        await asyncio.sleep(60)
        assert (await rig.money()).available == before.available + 500_000

    play(story, cards=("airstar", bank), settings=steady())


def test_where_there_is_no_line_there_is_nothing_to_take() -> None:
    async def story(rig: Rig) -> None:
        assert await act(rig, "cmb") == "NOT_FOUND"

    play(story)


def test_it_is_an_action_of_the_schema() -> None:
    found: Any = names().operations["TakePushesAgain"]
    assert found.on == "nothing" and found.parameters["bank"].one_of == ("cmb", "cmbc")
