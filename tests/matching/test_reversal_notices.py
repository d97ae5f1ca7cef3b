"""The customer hears of a reversal before it and after it: one notice each, whatever is repeated or dies (NTF-02)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from sqlalchemy import select

from core.domain import ApplyStatus
from core.errors import Code
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from core.storage import Severed, Statement
from core.storage.primary import reversal_notice
from tests.matching.matching_world import FRONTLINE, Desk, tell
from tests.rig import SUPERVISOR, Rig

BEFORE = ("DEPOSIT_REVERSED", "IN_ADVANCE")
NOTICES = Statement(select(reversal_notice.c.procedure_id, reversal_notice.c.apply_id))


def told(rig: Rig) -> list[tuple[str, str]]:
    return [(one["event"], one["detail"]) for one in rig.of_kind("notify") if one["event"] == "DEPOSIT_REVERSED"]


async def reversed_by(desk: Desk, shown: dict[str, Any], by: Any = SUPERVISOR, **more: Any) -> Any:
    asked = {"confirmations": REVERSE_CONFIRMATIONS} | more
    return await desk.rig.operate("CashDepositReverse", shown, by, **asked)


@pytest.mark.req("NTF-02")
def test_one_notice_before_the_money_moves_and_one_after() -> None:
    async def story(desk: Desk) -> None:
        shown = await desk.procedure(await desk.matched())
        assert (await reversed_by(desk, shown, request_id="q")).ok
        assert (await reversed_by(desk, shown, request_id="q")).ok
        await asyncio.sleep(5)
        assert told(desk.rig)[0] == BEFORE and len(told(desk.rig)) == 2 and told(desk.rig)[1] != BEFORE
        order = [kind for _, _, kind, _, data in desk.rig.events
                 if (kind == "notify" and data["event"] == "DEPOSIT_REVERSED")
                 or (kind == "ledger" and data["op"] in ("debit", "deduct", "take"))
                 or (kind == "procedure" and data["to"] == "end_reverse(deposit_ok)")]
        assert order[0] == order[-1] == "notify" and len(order) > 2

    tell(story)


@pytest.mark.req("NTF-02")
def test_what_is_refused_is_not_announced() -> None:
    async def story(desk: Desk) -> None:
        shown = await desk.procedure(await desk.matched())
        refused = [await reversed_by(desk, shown, FRONTLINE), await reversed_by(desk, shown, confirmations=()),
                   await reversed_by(desk, shown, version=shown["version"] - 1)]
        assert not any(reply.ok for reply in refused) and told(desk.rig) == []
        assert (await reversed_by(desk, shown)).ok
        gone = await desk.rig.core.sba.procedure(shown["id"])
        assert gone is not None and not (await reversed_by(desk, gone)).ok
        await asyncio.sleep(5)
        assert len(told(desk.rig)) == 2

    tell(story)


@pytest.mark.req("NTF-02")
def test_a_reversal_that_the_balance_does_not_bear_at_first_is_announced_once() -> None:
    async def story(desk: Desk) -> None:
        shown = await desk.procedure(await desk.matched())
        account = desk.rig.customer("alice").trade_acc_ids[0]
        await desk.rig.core.risk_control.debit("spent", account, "HKD", 10_500_000)
        assert (await reversed_by(desk, shown)).code is Code.INSUFFICIENT_BALANCE
        assert told(desk.rig) == [BEFORE]
        await desk.rig.core.risk_control.add("paid in", account, "HKD", 1_000_000)
        again = await desk.rig.core.sba.procedure(shown["id"])
        assert again is not None and (await reversed_by(desk, again)).ok
        await asyncio.sleep(5)
        assert len(told(desk.rig)) == 2

    tell(story, planted=True)


@pytest.mark.req("NTF-02")
@pytest.mark.parametrize("commit", range(1, 6))
def test_a_death_at_any_commit_tells_nothing_twice(commit: int) -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.matched()
        shown, world, seen = await desk.procedure(apply), desk.rig.world, [0]

        def die(_name: str, _number: int) -> None:
            seen[0] += 1
            if seen[0] == commit:
                world.watch_commits(None)
                world.kill(restart_ms=1000)

        world.watch_commits(die)
        with contextlib.suppress(Severed):
            await reversed_by(desk, shown, request_id="q")
        await asyncio.sleep(120)
        assert world.kills == 1
        now = await desk.rig.core.sba.procedure(shown["id"])
        assert now is not None
        if now["state"] != "end_reverse(deposit_ok)":
            assert (await reversed_by(desk, now, request_id="q2")).ok
        await asyncio.sleep(60)
        assert (await desk.apply(apply)).status == ApplyStatus.REVERSED
        assert told(desk.rig).count(BEFORE) <= 1 and len(told(desk.rig)) - told(desk.rig).count(BEFORE) <= 1
        rows = await desk.db.all(NOTICES, {})
        assert rows == [(shown["id"], apply.id)]

    tell(story)
