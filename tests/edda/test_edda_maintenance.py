"""The morning's questions about authorisations (06:30) while a bank is in its own maintenance (gaps.md B-15, B-17)."""

from __future__ import annotations

import pytest
from edda_world import World, play

from core.domain import EddaStatus
from core.wire.edda import AuthorisationStatus

SATURDAY, SUNDAY = "2026-03-14 20:00", "2026-03-15"
ENDS = {"hase": ("06:59:59", "07:00:40"), "hsbc": ("07:59:59", "08:00:40")}
"""Bank -> just before the end of its maintenance, and after it: a dead worker's lease is over by then."""


async def status(world: World, bank: str) -> EddaStatus:
    return EddaStatus((await world.authorisations(bank).of_card(world.card(bank))).status)


def asked(world: World, bank: str) -> int:
    return len(world.of_kind("bank.request", bank=f"{bank}_eddi", message="query_authorisation"))


def suspend(world: World) -> None:
    """Both banks suspend the authorisation, and no report tells it."""
    world.here.core.timetable.pause("HsbcEddaReport")
    for bank in ENDS:
        world.banks[bank].bank.set_status(world.banks[bank].mandates[0], AuthorisationStatus.SUSPENDED)


@pytest.mark.parametrize("killed", ["", "06:45"])
def test_a_bank_in_maintenance_is_asked_when_that_ends(killed: str) -> None:
    async def story(world: World) -> None:
        suspend(world)
        if killed:
            await world.until(f"{SUNDAY} {killed}")
            world.kill()
            await world.restart()
        for bank, (before, after) in ENDS.items():
            await world.until(f"{SUNDAY} {before}")
            assert asked(world, bank) == 0
            assert await status(world, bank) is EddaStatus.ACTIVE
            await world.until(f"{SUNDAY} {after}")
            assert await status(world, bank) is EddaStatus.SUSPENDED
        asked_before = [asked(world, bank) for bank in ENDS]
        await world.until("2026-03-16 06:31")
        assert [asked(world, bank) for bank in ENDS] == [count + 1 for count in asked_before], "on Monday again"
        assert world.alerts("JOB-01") == []

    play(story, start=SATURDAY)


def test_one_that_is_silent_when_its_maintenance_ends_is_asked_again() -> None:
    async def story(world: World) -> None:
        suspend(world)
        await world.until(f"{SUNDAY} 07:55")
        world.banks["hsbc"].bank.fault("outage", for_s=900.0)
        await world.until(f"{SUNDAY} 08:30")
        assert await status(world, "hsbc") is EddaStatus.SUSPENDED
        assert asked(world, "hsbc") > 1 and world.alerts("JOB-01") == []

    play(story, start=SATURDAY)


def test_asked_for_twice_in_the_maintenance_it_is_done_once_after_it() -> None:
    async def story(world: World) -> None:
        await world.until(f"{SUNDAY} 05:00")
        for _ in range(2):
            await world.run("EddaStatusSync")
        await world.until(f"{SUNDAY} 09:00")
        assert [asked(world, bank) for bank in ENDS] == [1, 1]

    play(story, start=SATURDAY)
