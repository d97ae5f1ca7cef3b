"""Voiding a key at risk control: what has not happened under it never will, and what has happened stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from core.assets import OPERATIONS
from core.domain import FreezeType
from core.errors import Code
from core.storage import Statement
from core.storage.assets import entry, posting
from tests.rig import Rig, play

AMOUNT, HOLD = 1_000_000, "HOLD-1"
COUNT = Statement(select(func.count(posting.c.id)))
ENTRIES = Statement(select(func.count(entry.c.id)))


def orders(rig: Rig) -> dict[str, tuple[Any, ...]]:
    """Every operation's parameters after its key, on the hold `HOLD` and alice's account."""
    place = (rig.customer("alice").trade_acc_ids[0], "HKD", AMOUNT)
    on_hold = dict.fromkeys(("release", "deduct", "refreeze", "restore", "consume"), (HOLD,))
    return on_hold | {"freeze": (*place, HOLD, FreezeType.CASH_OUT), "settle": (HOLD, *place), "add": place,
                      "debit": place, "add_held": (*place, HOLD, FreezeType.CASH_OUT)}


def ledger(rig: Rig):
    return rig.core.risk_control


async def order(rig: Rig, op: str, key: str):
    return await getattr(ledger(rig), op)(key, *orders(rig)[op])


BEFORE = {"release": ["freeze"], "deduct": ["freeze"], "refreeze": ["freeze", "deduct"],
          "restore": ["freeze", "deduct"], "consume": ["freeze", "deduct"]}


@pytest.mark.parametrize("op", OPERATIONS)
def test_a_late_order_under_a_voided_key_is_refused_for_good_and_moves_nothing(op):
    """Whatever the order is: under a fresh key it would have moved money."""
    async def story(rig):
        for number, earlier in enumerate(BEFORE.get(op, [])):
            assert (await order(rig, earlier, f"before{number}")).ok
        before, moved = await rig.money(), await rig.world.databases.assets.first(ENTRIES, {})
        assert await ledger(rig).void("K") is None
        for _ in range(2):
            late = await order(rig, op, "K")
            assert (late.code, late.replayed) == (Code.BLOCKED, True)
            assert "voided" in late.detail
        assert await rig.money() == before
        assert await rig.world.databases.assets.first(ENTRIES, {}) == moved
        assert await ledger(rig).void("K") is None
        assert (await ledger(rig).query("K")).code is Code.BLOCKED
        assert (await order(rig, op, "another key")).ok

    play(story)


@pytest.mark.parametrize("op", OPERATIONS)
def test_what_has_happened_under_a_key_is_told_and_stays(op):
    async def story(rig):
        for number, earlier in enumerate(BEFORE.get(op, [])):
            assert (await order(rig, earlier, f"before{number}")).ok
        done = await order(rig, op, "K")
        after = await rig.money()
        for _ in range(2):
            known = await ledger(rig).void("K")
            assert (known.code, known.replayed) == (done.code, True) == (Code.OK, True)
        assert await rig.money() == after
        assert (await order(rig, op, "K")).ok

    play(story)


def test_a_stored_refusal_is_told_too():
    async def story(rig):
        assert (await order(rig, "release", "K")).code is Code.NOT_FOUND
        assert (await ledger(rig).void("K")).code is Code.NOT_FOUND

    play(story)


def test_voiding_is_one_transaction_and_only_the_first_one_writes():
    async def story(rig):
        db = rig.world.databases.assets
        (before,), commits, told = await db.first(COUNT, {}), db.commits, rig.of_kind("posting")
        assert await ledger(rig).void("K") is None
        assert (await db.first(COUNT, {}), db.commits) == ((before + 1,), commits + 1)
        assert await ledger(rig).void("K") is None
        assert await db.first(COUNT, {}) == (before + 1,)
        assert rig.of_kind("posting") == told  # nothing moved: nothing to tell, and nothing to tell again
        assert await ledger(rig).republish(told[-1]["posting"]) == 0
        assert await ledger(rig).verify() == []

    play(story)


@pytest.mark.parametrize("first", ["void", "freeze"])
def test_of_a_void_and_its_order_at_the_same_moment_the_first_one_wins(first):
    async def story(rig):
        asked = [ledger(rig).void("K"), order(rig, "freeze", "K")]
        answers = await asyncio.gather(*(asked if first == "void" else reversed(asked)))
        void, freeze = answers if first == "void" else reversed(answers)
        assert (void, freeze.code) == (None, Code.BLOCKED) if first == "void" else (void.code, freeze.code) == (0, 0)
        assert (await rig.money()).frozen == (0 if first == "void" else AMOUNT)

    play(story)


@pytest.mark.parametrize("key", ["", "k" * 81])
def test_a_key_that_is_none_cannot_be_voided(key):
    async def story(rig):
        assert (await ledger(rig).void(key)).code is Code.INVALID_PARAM

    play(story)
