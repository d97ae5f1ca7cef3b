"""Alerts of matching that stand when a core dies: DEP-01, DEP-04, MATCH-01."""

from __future__ import annotations

import asyncio

import pytest

from core.deposits.matching.rules import read_rules
from core.settings import Settings
from tests.matching.matching_world import Desk, tell

HOUR_MS = 3_600_000


async def die(desk: Desk) -> None:
    desk.rig.world.kill(restart_ms=1_000)
    await asyncio.sleep(5)


def phases(desk: Desk, rule: str) -> list[str]:
    return [one["phase"] for one in desk.alerts(rule)]


@pytest.mark.req("ALERT-DEP-01")
def test_a_backlog_that_stands_is_not_told_again_and_cleared_when_it_is_gone() -> None:
    async def story(desk: Desk) -> None:
        for n in range(3):
            await desk.arrives(amount=1000 + n, ago_ms=HOUR_MS)
        await desk.round()
        await die(desk)
        await desk.round()
        assert phases(desk, "DEP-01") == ["raised"]
        await die(desk)
        for n in range(3):
            await desk.applied(amount=1000 + n)
        await desk.round()
        await desk.round()
        assert phases(desk, "DEP-01") == ["raised", "cleared"]

    tell(story, settings={"match.backlog.alert": 2})


def test_rounds_that_stand_still_are_told_once_and_well_again_only_after_one() -> None:
    async def story(desk: Desk) -> None:
        await desk.rooms.rounds.monitor()
        await asyncio.sleep(400)
        await desk.rooms.rounds.monitor()
        assert phases(desk, "DEP-04") == ["raised"]
        await die(desk)
        for wait_s in (0, 60, 400):  # a core that watches anew has seen no round either
            await asyncio.sleep(wait_s)
            await desk.rooms.rounds.monitor()
            assert phases(desk, "DEP-04") == ["raised"]
        await desk.round()
        await desk.rooms.rounds.monitor()
        assert phases(desk, "DEP-04") == ["raised", "cleared"]

    tell(story)


def test_a_bank_whose_rules_come_with_the_next_core_is_cleared() -> None:
    rules = read_rules(Settings())

    async def story(desk: Desk) -> None:
        await desk.arrives(bank="dbs")
        await desk.round()
        await die(desk)
        await desk.round()
        assert phases(desk, "MATCH-01") == ["raised"]
        desk._rules = rules
        await die(desk)
        await desk.round()
        await desk.round()
        assert phases(desk, "MATCH-01") == ["raised", "cleared"]

    tell(story, rules={bank: of for bank, of in rules.items() if bank != "dbs"})
