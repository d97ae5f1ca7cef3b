"""A core's line to a socket bank ends with the core; a death trap at a message is sprung before the core hears it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.storage import Severed
from core.wire.socket import BadSignature, FrameType, Party
from core.wire.socket import messages as m
from scenarios.banks import KILL_POINTS, DeathTraps, Life
from scenarios.banks.socket_lines import CoreDial, CoreLine

STAMP = m.Stamp("R1", "20260312", "100000")
PUSH = m.compose(m.SIGN_NOTICE, FrameType.PUSH, m.SignNotice(1, m.Signing.SIGN, "CHAN", "622", "HK"), STAMP, "CMB",
                 "NOSTRO01", Party.BANK)
ACK = m.answer(PUSH, m.Answer(0), STAMP)


class Wire:
    """The bank's side of a line, and the core's ear: both only remember."""

    def __init__(self) -> None:
        self.said: list[m.Message] = []
        self.heard: list[object] = []
        self.closed = 0
        self.dialled: list[str] = []

    async def dial(self, address: str, listener: CoreLine) -> Wire:
        self.dialled.append(address)
        self.listener = listener
        return self

    def send(self, message: m.Message) -> None:
        self.said.append(message)

    def renew(self) -> None:
        self.said.append(PUSH)

    def close(self) -> None:
        self.closed += 1

    def received(self, message: m.Message) -> None:
        self.heard.append(message)

    def refused(self, error: object) -> None:
        self.heard.append(error)

    def renewed(self) -> None:
        self.heard.append("renewed")

    def lost(self, reason: str) -> None:
        self.heard.append(reason)


class Scene:
    """One life, its traps, and a wire."""

    def __init__(self) -> None:
        self.life, self.wire, self.kills = Life(), Wire(), list[int]()
        self.traps = DeathTraps(self.kill)

    def kill(self, restart_ms: int) -> None:
        self.kills.append(restart_ms)
        self.life.end()

    async def line(self) -> CoreLine:
        dial = CoreDial("cmb", self.wire.dial, {"127.0.0.1:7101": "10.0.1.1:7000"}, self.life, self.traps)
        return await dial("127.0.0.1:7101", self.wire)  # type: ignore[return-value]


def now(work) -> object:
    """What a coroutine that never waits returns."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_address_of_the_settings_stands_for_where_the_server_is(scene: Scene) -> None:
    now(scene.line())
    assert scene.wire.dialled == ["10.0.1.1:7000"]


def test_a_living_core_speaks_and_hears(scene: Scene) -> None:
    line = now(scene.line())
    line.send(ACK)
    line.renew()
    error = BadSignature("no", None)
    for tell in (lambda: line.received(PUSH), lambda: line.refused(error), line.renewed, lambda: line.lost("gone")):
        tell()
    assert scene.wire.said == [ACK, PUSH]
    assert scene.wire.heard == [PUSH, error, "renewed", "gone"]


SPEAK: dict[str, Callable[[CoreLine], None]] = {
    "send": lambda line: line.send(ACK), "renew": lambda line: line.renew(), "close": lambda line: line.close(),
    "received": lambda line: line.received(PUSH), "refused": lambda line: line.refused(BadSignature("no", None)),
    "renewed": lambda line: line.renewed(), "lost": lambda line: line.lost("gone")}


@pytest.mark.parametrize("act", list(SPEAK))
def test_after_its_end_a_core_neither_speaks_nor_hears(scene: Scene, act: str) -> None:
    line = now(scene.line())
    scene.life.end()
    assert scene.wire.closed == 1  # as the system closes what a dead process had open
    SPEAK[act](line)
    assert (scene.wire.said, scene.wire.heard, scene.wire.closed) == ([], [], 1)


@pytest.mark.parametrize("end", ["close", "lost"])
def test_what_has_ended_is_not_closed_again_with_the_core(scene: Scene, end: str) -> None:
    line = now(scene.line())
    SPEAK[end](line)
    closed = scene.wire.closed
    scene.life.end()
    assert scene.wire.closed == closed


def test_a_dead_core_cannot_connect(scene: Scene) -> None:
    scene.life.end()
    with pytest.raises(Severed):
        now(scene.line())
    assert scene.wire.dialled == []


def test_a_line_that_stands_too_late_is_closed(scene: Scene) -> None:
    async def dial(address: str, listener: object) -> Wire:
        scene.life.end()
        return scene.wire

    with pytest.raises(Severed):
        now(CoreDial("cmb", dial, {}, scene.life, scene.traps)("a:1", scene.wire))
    assert scene.wire.closed == 1


def test_a_line_lost_before_it_was_handed_over_leaves_nothing_to_close(scene: Scene) -> None:
    async def dial(address: str, listener: CoreLine) -> Wire:
        listener.lost("at once")
        return scene.wire

    now(CoreDial("cmb", dial, {}, scene.life, scene.traps)("a:1", scene.wire))
    scene.life.end()
    assert (scene.wire.heard, scene.wire.closed) == (["at once"], 0)


@pytest.mark.parametrize(("message", "act", "said", "heard"), [
    ("cmb 200107 PUSH", "received", 0, 0), ("cmb 200107 PUSH_ACK", "send", 0, 0),
    ("cmbc 200107 PUSH", "received", 0, 1), ("cmb 200101 PUSH", "received", 0, 1),
    ("cmb 200107 PUSH", "send", 1, 0)])
def test_a_trap_kills_at_its_message_only(scene: Scene, message: str, act: str, said: int, heard: int) -> None:
    line = now(scene.line())
    scene.traps.arm(message, 5_000, 1)
    SPEAK[act](line)
    assert (len(scene.wire.said), len(scene.wire.heard)) == (said, heard)
    assert scene.kills == ([] if said or heard else [5_000])


def test_every_kill_point_of_a_socket_bank_names_a_message_of_the_protocol() -> None:
    named = [words.split() for words in KILL_POINTS.values() if words.startswith(("cmb ", "cmbc "))]
    assert len(named) == 12
    for _, command, kind in named:
        assert m.row_of(command, FrameType[kind]).purpose
