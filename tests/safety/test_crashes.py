"""The core dies right after every single commit of every story, and the end is the same as without (DEDUP-12).

First the story is told undisturbed and its commits are counted; then once more for each of them, with a kill right
after it (what stories have in common is tried once). Both books, states, steps, notices, alerts and the bank's
movements must come out equal, nothing may be left over, and every invariant is watched all the way. The core also dies
at each message on a bank's line: its answer, or a push, is not heard, or a push is not acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from crash_stories import PUSHES, STORIES, CrashStory, End, end_of, same, tell, undisturbed

from core.wire.socket import FrameType
from core.wire.socket import messages as m
from scenarios.banks.sockets import KILLS
from tests.rig import Rig, play

TTL_OVER_MS = 40_000  # leases and locks live for 30 s: the new core finds them over
AT_ONCE_MS = 1_000  # and here it does not
DEEPEST, DEEPEST_AT_SOCKETS = 4, 2  # second kills are tried up to so many commits after the first


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"story", "commit"} <= set(metafunc.fixturenames):
        metafunc.parametrize(("story", "commit"), [
            pytest.param(story, commit, id=f"{name}-{commit}")
            for name, story in STORIES.items() for commit in _commits(story)])


def _commits(story: CrashStory) -> Sequence[int]:
    """After which commits it is killed: what it shares with another story is tried there, and what a bank writes all
    day long that has nothing to do with the deposit (S16 reports) is tried by its own tests."""
    told = undisturbed(story.name)
    return told.moved if story.statement else range(
        max(1, told.instructed - 1) if story.like else 1, told.commits + 1)


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
    deepest = DEEPEST_AT_SOCKETS if story.bank or story.statement else DEEPEST
    for second in range(commit + 1, commit + 1 + deepest):
        told = tell(story, (commit, second), AT_ONCE_MS)
        if told.kills < 2:
            break
        same(told.end, undisturbed(story.name).end)


AT_AIRSTAR = {
    "deposit": ("deposit", "query_deposit"), "withdrawal": ("withdraw", "query_withdrawal"),
    "rejected_withdrawal": ("withdraw", "query_withdrawal"),
    "deposit_begun_at_the_bank": ("acknowledge", "bank_requests"),
    "withdrawal_begun_at_the_bank": ("acknowledge", "withdraw")}
"""Story -> messages whose answer the core does not live to hear."""

TOLD_OF_DEPOSIT = ((m.DEPOSIT_PUSH, FrameType.PUSH), (m.DEPOSIT_PUSH, FrameType.PUSH_ACK))
TOLD_OF_WISH = ((m.BANK_WITHDRAWAL, FrameType.PUSH), (m.BANK_WITHDRAWAL, FrameType.PUSH_ACK))
TOLD_OF_RESULT = ((m.TRANSFER_RESULT, FrameType.PUSH), (m.TRANSFER_RESULT, FrameType.PUSH_ACK))
SENT, TO_COLLECT = (m.WITHDRAWAL, FrameType.RESPONSE), (m.DEPOSIT, FrameType.RESPONSE)
ASKED, REFUSED = (m.QUERY, FrameType.RESPONSE), (m.REVERSAL, FrameType.RESPONSE)
AT_SOCKETS = {
    "cmb_deposit_pushed": TOLD_OF_DEPOSIT, "cmbc_deposit_pushed": TOLD_OF_DEPOSIT,
    "cmb_deposit": (TO_COLLECT, *TOLD_OF_RESULT), "cmbc_deposit": (TO_COLLECT, *TOLD_OF_RESULT),
    "cmb_rejected_deposit": (TO_COLLECT, *TOLD_OF_RESULT),
    "cmb_withdrawal": (SENT, *TOLD_OF_RESULT), "cmbc_withdrawal": (SENT, *TOLD_OF_RESULT),
    "cmb_rejected_withdrawal": (SENT, *TOLD_OF_RESULT),
    "cmb_withdrawal_never_taken_on": (SENT,),
    "cmb_deposit_before_opening": (TO_COLLECT, *TOLD_OF_RESULT),
    "cmb_deposit_pushed_at_opening": TOLD_OF_DEPOSIT,
    "cmb_minus5_and_paid_late": (SENT, ASKED, *TOLD_OF_RESULT),
    "cmb_minus5_and_paid_the_second_time": (SENT, ASKED, *TOLD_OF_RESULT),
    "cmb_result_minus5_then_0": (SENT, ASKED, *TOLD_OF_RESULT),
    "cmb_withdrawal_begun_at_the_bank": (*TOLD_OF_WISH, SENT, *TOLD_OF_RESULT),
    "cmbc_withdrawal_begun_at_the_bank": (*TOLD_OF_WISH, SENT, *TOLD_OF_RESULT),
    "cmb_withdrawal_refused_at_the_bank": (*TOLD_OF_WISH, ASKED, REFUSED, *TOLD_OF_RESULT),
    "cmbc_withdrawal_refused_at_the_bank": (*TOLD_OF_WISH, ASKED, REFUSED, *TOLD_OF_RESULT),
    "cmb_withdrawal_begun_at_the_bank_and_rejected": (*TOLD_OF_WISH, SENT, ASKED, *TOLD_OF_RESULT)}
"""Story -> messages at which the core dies: RESPONSE, the answer is not heard; PUSH, it is not heard; PUSH_ACK, what
was pushed is persisted and not acknowledged."""

DEATHS = [(message, story) for story, messages in AT_AIRSTAR.items() for message in messages] + [
    (f"{STORIES[story].bank} {command} {kind.name}", story)
    for story, messages in AT_SOCKETS.items() for command, kind in messages]


def test_every_message_is_tried_at_which_a_scenario_may_kill_the_core_at_a_socket_bank() -> None:
    assert set(KILLS.values()) <= {message for message, _ in DEATHS}
    assert set(AT_SOCKETS) == {story.name for story in STORIES.values() if story.bank}


@pytest.mark.req("DEDUP-12", "SOCK-03", "SOCK-04", "SOCK-05")
@pytest.mark.parametrize("restart_s", [1, 40, 600])
@pytest.mark.parametrize(("message", "story"), DEATHS)
def test_killed_when_the_bank_has_acted_and_before_we_hear_it(message: str, story: str, restart_s: int) -> None:
    """The moment between sending and recording, for every message of the chains. A dead pull keeps its lock for three
    periods (B-15), so the next one that runs is six minutes later."""
    told = STORIES[story]

    async def played(rig: Rig) -> End:
        await told.stand(rig)
        rig.world.traps.arm(message, restart_s * 1000, 1)
        await told.begin(rig)
        await asyncio.sleep(told.lasts_s + restart_s + 480)
        assert rig.world.kills == 1
        return await end_of(rig)

    same(told.play(played), undisturbed(story).end)


@pytest.mark.req("SOCK-05")
@pytest.mark.parametrize("too_early", [False, True], ids=["", "planted"])
@pytest.mark.parametrize(("story", "command"), [
    (story, command) for story, messages in AT_SOCKETS.items() for command, kind in messages
    if kind is FrameType.PUSH_ACK])
def test_when_an_acknowledgement_leaves_what_it_is_for_is_in_our_books(
    story: str, command: str, too_early: bool
) -> None:
    """The core dies as it acknowledges; its database is read while it lies there. ``planted``: a core that
    acknowledges what it is going to persist is found out."""
    told = STORIES[story]

    async def played(rig: Rig) -> None:
        await told.stand(rig)
        if too_early:
            _acknowledge_first(rig, told.bank)
        rig.world.traps.arm(f"{told.bank} {command} {FrameType.PUSH_ACK.name}", TTL_OVER_MS, 1)
        await told.begin(rig)
        while not rig.world.down:
            await asyncio.sleep(0.1)
        pushed = rig.world.sockets[told.bank].bank.desk.pushes
        number = max(push.seq for push in pushed.since(0) if push.command == command and push.sends)
        kept = [row[1] for row in await rig.world.databases.reopen().primary.all(PUSHES, {})]
        assert (number in kept) is not too_early
        await asyncio.sleep(told.lasts_s)

    told.play(played)


def _acknowledge_first(rig: Rig, bank: str) -> None:
    gateway = rig.core.sockets[bank].gateway
    take = gateway._take

    async def eager(connection: Any, message: Any) -> None:
        connection.acknowledge(message)
        await take(connection, message)

    gateway._take = eager


@pytest.mark.req("DEDUP-12", "SOCK-05")
@pytest.mark.parametrize("kills", range(1, 5))
@pytest.mark.parametrize(("story", "command"), [
    ("cmb_deposit_pushed", m.DEPOSIT_PUSH), ("cmbc_deposit_pushed", m.DEPOSIT_PUSH),
    ("cmb_withdrawal", m.TRANSFER_RESULT), ("cmbc_withdrawal_begun_at_the_bank", m.BANK_WITHDRAWAL)])
def test_killed_again_and_again_at_every_acknowledgement(story: str, command: str, kills: int) -> None:
    """The bank repeats the push, whoever restarts hears it again and books nothing more."""
    told = STORIES[story]

    async def played(rig: Rig) -> End:
        await told.stand(rig)
        rig.world.traps.arm(f"{told.bank} {command} {FrameType.PUSH_ACK.name}", AT_ONCE_MS, kills)
        await told.begin(rig)
        await asyncio.sleep(told.lasts_s + kills * 60)
        assert rig.world.kills == kills
        return await end_of(rig)

    same(told.play(played), undisturbed(story).end)


@pytest.mark.req("DEDUP-12", "SOCK-04")
@pytest.mark.parametrize("kills", [1, 3])
@pytest.mark.parametrize("story", [name for name, story in STORIES.items() if story.bank == "cmbc"])
def test_killed_while_it_fetches_what_it_missed_and_it_is_fetched_by_the_next(story: str, kills: int) -> None:
    """The bank's first push is not heard, and of the first re-pulls nobody lives to hear the answer."""
    told = STORIES[story]

    async def played(rig: Rig) -> End:
        await told.stand(rig)
        await asyncio.sleep(1)
        for command, kind in AT_SOCKETS[story]:
            if kind is FrameType.PUSH:
                rig.world.traps.arm(f"cmbc {command} {kind.name}", TTL_OVER_MS, 1)
                break
        rig.world.traps.arm(f"cmbc {m.DAY_LIST} {FrameType.RESPONSE.name}", TTL_OVER_MS, kills)
        await told.begin(rig)
        await asyncio.sleep(told.lasts_s + (kills + 1) * 60)
        assert rig.world.kills == kills + 1
        return await end_of(rig)

    same(told.play(played), undisturbed(story).end)


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


@pytest.mark.req("SOCK-03")
def test_the_lock_of_a_core_that_died_while_it_fetched_what_it_had_missed_holds_nobody_up() -> None:
    """For three periods of the job nobody else can have it (B-15): an hour and a half. A reconnection does not wait."""
    told = STORIES["cmb_deposit_pushed"]

    async def played(rig: Rig) -> End:
        await told.stand(rig)
        await asyncio.sleep(1)
        assert await rig.world.locks.acquire("job:SyncBstDataHelper", "dead", 5_400_000)
        bank = rig.world.sockets[told.bank].bank
        bank.fault("lost_push", message="deposit_push", count=1)
        await told.begin(rig)
        await asyncio.sleep(120)
        assert not rig.of_kind("apply")
        bank.fault("drop", server="both", for_s=10)
        await asyncio.sleep(told.lasts_s)
        return await end_of(rig)

    same(told.play(played), undisturbed(told.name).end, but=("alerts",))


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
