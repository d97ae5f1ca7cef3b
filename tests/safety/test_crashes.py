"""The core dies right after every single commit of every story, and the end is the same as without (DEDUP-12).

First the story is told undisturbed and its commits are counted; then once more for each of them, with a kill right
after it. Both books, states, steps, notices, alerts and the bank's movements must come out equal, nothing may be
left over, and every invariant is watched all the way.
"""

from __future__ import annotations

import asyncio
from functools import cache

import pytest
from crash_stories import STORIES, CrashStory, End, Told, end_of, tell

from tests.rig import Rig, play

TTL_OVER_MS = 40_000  # leases and locks live for 30 s: the new core finds them over
AT_ONCE_MS = 1_000  # and here it does not
DEEPEST = 4  # second kills are tried up to so many commits after the first


@cache
def undisturbed(name: str) -> Told:
    return tell(STORIES[name])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"story", "commit"} <= set(metafunc.fixturenames):
        metafunc.parametrize(("story", "commit"), [
            pytest.param(story, commit, id=f"{name}-{commit}")
            for name, story in STORIES.items() for commit in range(1, undisturbed(name).commits + 1)])


def same(end: End, as_without: End) -> None:
    for field, found, wanted in zip(End._fields, end, as_without, strict=True):
        assert found == wanted, field


@pytest.mark.parametrize("name", STORIES)
def test_undisturbed_each_story_comes_to_its_end(name: str) -> None:
    end, story = undisturbed(name).end, STORIES[name]
    assert not end.left_over
    assert [way[-1] for way in end.ways] == ([story.ends] if story.ends else [])
    effects = [op for op, _, _ in end.bank_effects]
    assert len(effects) == len(set(effects)) <= 2


@pytest.mark.req("DEDUP-12")
@pytest.mark.parametrize("restart_ms", [TTL_OVER_MS, AT_ONCE_MS])
def test_killed_after_a_commit_the_story_ends_as_if_nothing_had_been(
    story: CrashStory, commit: int, restart_ms: int
) -> None:
    told = tell(story, (commit,), restart_ms)
    assert told.kills == 1
    same(told.end, undisturbed(story.name).end)


@pytest.mark.req("DEDUP-12")
def test_killed_again_while_it_recovers_the_story_still_ends_the_same(story: CrashStory, commit: int) -> None:
    for second in range(commit + 1, commit + 1 + DEEPEST):
        told = tell(story, (commit, second), AT_ONCE_MS)
        if told.kills < 2:
            break
        same(told.end, undisturbed(story.name).end)


@pytest.mark.req("DEDUP-12")
@pytest.mark.parametrize("restart_s", [1, 40, 600])
@pytest.mark.parametrize(("message", "story"), [
    ("deposit", "deposit"), ("query_deposit", "deposit"),
    ("withdraw", "withdrawal"), ("query_withdrawal", "withdrawal"),
    ("withdraw", "rejected_withdrawal"), ("query_withdrawal", "rejected_withdrawal"),
    ("acknowledge", "deposit_begun_at_the_bank"), ("bank_requests", "deposit_begun_at_the_bank"),
    ("acknowledge", "withdrawal_begun_at_the_bank"), ("withdraw", "withdrawal_begun_at_the_bank")])
def test_killed_when_the_bank_has_acted_and_before_we_hear_it(message: str, story: str, restart_s: int) -> None:
    """The moment between sending and recording, for every message of the chains. A dead pull keeps its lock for three
    periods (B-15), so the next one that runs is six minutes later."""
    told = STORIES[story]

    async def played(rig: Rig) -> End:
        rig.world.traps.arm(message, restart_s * 1000, 1)
        await told.begin(rig)
        await asyncio.sleep(told.lasts_s + restart_s + 480)
        assert rig.world.kills == 1
        return await end_of(rig)

    same(play(played, start=told.start), undisturbed(story).end)


@pytest.mark.req("DEDUP-12")
@pytest.mark.parametrize("kills", range(1, 7))
def test_killed_again_and_again_at_every_sending(kills: int) -> None:
    """Whoever restarts it sends once more, under the same reference: one payment."""

    async def played(rig: Rig) -> End:
        rig.world.traps.arm("withdraw", AT_ONCE_MS, kills)
        await rig.withdraw()
        await asyncio.sleep(200 + kills * 40)
        assert rig.world.kills == kills
        assert len(rig.of_kind("bank.request", message="withdraw")) == kills + 1
        return await end_of(rig)

    same(play(played), undisturbed("withdrawal").end)


def test_a_dead_core_lets_go_of_no_lock_and_says_nothing_more_to_the_bank() -> None:
    """What a simulation must not forgive: a killed process runs no ``finally``."""

    async def story(rig: Rig) -> None:
        shown = await rig.withdrawn("pending(transfer_auto)")
        core = rig.core
        token = await core.engine.lock(shown["id"])
        assert token is not None
        rig.world.kill(AT_ONCE_MS)
        said = len(rig.of_kind("bank.request"))
        with pytest.raises(BaseException, match="killed"):
            await core.engine.unlock(shown["id"], token)
        with pytest.raises(BaseException, match="killed"):
            await core.gateway.ping()
        await asyncio.sleep(5)
        assert not rig.world.down
        assert await rig.world.locks.acquire(f"procedure:{shown['id']}", "other", 1_000) is None
        await asyncio.sleep(60)
        assert rig.of_kind("procedure", to="end_ok(transfer_done)")
        assert not rig.of_kind("bank.request", message="ping") or said

    play(story)


def test_people_who_press_a_button_while_the_core_is_away_are_served_when_it_is_back() -> None:
    async def story(rig: Rig) -> None:
        shown = await rig.withdrawn("pending(transfer_manual)", channel="hsbc")
        rig.world.kill(30_000)
        pressed = await rig.world.press("SetManualTransferDone", shown["id"], "staff_1001", "frontline_ops", "done", {})
        assert pressed == "OK"
        assert rig.of_kind("procedure", to="end_ok(transfer_done)")

    play(story)
