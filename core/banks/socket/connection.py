"""One line in use: heartbeats, the answers to what was asked, the life of its keys (SOCK-02; PROTOCOL.md §5).

A heartbeat leaves every 20 s and the other end's is answered; when no frame has come for 60 s the connection is dead,
whatever the transport believes. Answers find their question by the reference that they repeat, in any order. What
comes unasked goes to the `Hearer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from core.banks.socket.line import Line
from core.clock import US_PER_S, Clock, hkt, hkt_texts
from core.errors import OutcomeUnknown
from core.wire.socket import BadSignature, FrameType, Party, RefusedMessage
from core.wire.socket import messages as m


class Stamps:
    """References and times of our own messages: unique for this process, told from those of an earlier one by the
    moment it began."""

    def __init__(self, bank: str, clock: Clock) -> None:
        self._clock = clock
        self._prefix = f"{bank.upper()}{hkt(clock.now_ms()):%y%m%d%H%M%S}"
        self._number = 0

    def next(self) -> m.Stamp:
        """Of the next message."""
        self._number += 1
        return m.Stamp(f"{self._prefix}{self._number:09d}", *hkt_texts(self._clock.now_ms()))


class Hearer(Protocol):
    """Who hears of a connection what was not asked for."""

    def pushed(self, connection: Connection, message: m.Message) -> None:
        """The bank pushes something: to be acknowledged with `Connection.acknowledge` once it is persisted."""

    def forged(self, connection: Connection, error: RefusedMessage) -> None:
        """Something arrived whose signature is not the bank's."""

    def ended(self, connection: Connection, reason: str) -> None:
        """The connection is over, once."""


class Parties(NamedTuple):
    """How the two name each other in headers."""

    broker: str
    bank: str


class _Question:
    """Asked and not answered yet: fragments until the last one."""

    __slots__ = ("answer", "fragments")

    def __init__(self, answer: asyncio.Future[list[m.Message]]) -> None:
        self.answer = answer
        self.fragments: list[m.Message] = []


class Connection:
    """One line to ``server``; it listens from `adopt` on. Durations in seconds from the settings ``socket.*``."""

    def __init__(
        self, server: str, parties: Parties, stamps: Stamps, clock: Clock, settings: Mapping[str, Any], hearer: Hearer
    ) -> None:
        self.server = server
        self.signed_on = self.over = False
        self._parties, self._stamps, self._clock, self._hearer = parties, stamps, clock, hearer
        self._beat_s: float = settings["socket.heartbeat.period_s"]
        self._loss_us: int = settings["socket.heartbeat.loss_s"] * US_PER_S
        self._renew_s: float = settings["socket.key.renewal_s"]
        self._wait_s: float = settings["socket.response_wait_s"]
        self.since_us = self._heard_us = clock.now_us()
        self._line: Line | None = None
        self._questions: dict[str, _Question] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.renewals = 0

    def adopt(self, line: Line) -> None:
        """The line stands: keep it alive from now on."""
        self._line = line
        self.since_us = self._heard_us = self._clock.now_us()
        self._later("beat", self._beat_s, self._beat)
        self._later("silence", self._loss_us / US_PER_S, self._watch)
        self._later("renew", self._renew_s, self._renew)

    # Saying

    def compose(self, command: str, kind: FrameType, body: m.Body) -> m.Message:
        """A message of ours, ready to be sent."""
        return m.compose(command, kind, body, self._stamps.next(), *self._parties, Party.BROKER)

    def send(self, message: m.Message) -> None:
        """Put it on the line; on a connection that is over nothing happens."""
        if self._line is not None and not self.over:
            self._line.send(message)

    async def ask(self, message: m.Message, wait_s: float | None = None) -> list[m.Message]:
        """The answer, in its fragments; `OutcomeUnknown` if none comes in time or the line is lost."""
        if self.over or self._line is None:
            raise OutcomeUnknown(f"the line to {self.server} is down")
        question = _Question(asyncio.get_running_loop().create_future())
        self._questions[message.header.ref] = question
        wait_s = self._wait_s if wait_s is None else wait_s
        try:
            self.send(message)
            async with asyncio.timeout(wait_s):
                return await question.answer
        except TimeoutError:
            raise OutcomeUnknown(f"no answer within {wait_s:g} s") from None
        finally:
            self._questions.pop(message.header.ref, None)

    def acknowledge(self, push: m.Message) -> None:
        """The push is persisted (SOCK-05)."""
        self.send(m.answer(push, m.Answer(0), self._stamps.next()))

    def close(self) -> None:
        """Our end closes; nothing is heard any more."""
        if not self.over:
            self._finish("we closed the connection")
            if self._line is not None:
                self._line.close()

    # Hearing (`core.banks.socket.line.Listener`)

    def received(self, message: m.Message) -> None:
        """A message has come."""
        self._heard_us = self._clock.now_us()
        if message.kind is FrameType.RESPONSE:
            self._answered(message)
        elif message.kind is FrameType.PUSH:
            self._hearer.pushed(self, message)
        else:
            self._asked(message)

    def refused(self, error: RefusedMessage) -> None:
        """Something came that cannot be accepted: the bank is told; whoever waits for it knows no more than before."""
        self._heard_us = self._clock.now_us()
        self.send(m.rejection(error, self._stamps.next(), *self._parties, Party.BROKER))
        if isinstance(error, BadSignature):
            self._hearer.forged(self, error)
        question = self._questions.get(error.header.related_ref) if error.header is not None else None
        if question is not None and not question.answer.done():
            question.answer.set_exception(OutcomeUnknown(f"the answer cannot be accepted: {error}"))

    def renewed(self) -> None:
        """The key has been changed."""
        self._heard_us = self._clock.now_us()
        self.renewals += 1

    def lost(self, reason: str) -> None:
        """The connection is over."""
        if not self.over:
            self._finish(reason)
            self._hearer.ended(self, reason)

    def _answered(self, message: m.Message) -> None:
        question = self._questions.get(message.header.related_ref)
        if question is None:
            return  # a heartbeat's answer, or one that came too late: what it says is asked for again, not guessed
        question.fragments.append(message)
        if message.header.last_fragment and not question.answer.done():
            question.answer.set_result(question.fragments)

    def _asked(self, message: m.Message) -> None:
        """The bank's own requests: heartbeat, and the end of business on this connection."""
        self.send(m.answer(message, m.Answer(0), self._stamps.next()))
        if message.command == m.SIGN_OFF:
            self.lost("the bank signed off")
            if self._line is not None:
                self._line.close()

    # Time

    def _beat(self) -> None:
        self.send(self.compose(m.HEARTBEAT, FrameType.REQUEST, m.Heartbeat()))
        self._later("beat", self._beat_s, self._beat)

    def _watch(self) -> None:
        left_us = self._heard_us + self._loss_us - self._clock.now_us()
        if left_us > 0:
            self._later("silence", left_us / US_PER_S, self._watch)
            return
        self.lost(f"no frame for {self._loss_us // US_PER_S} s")
        if self._line is not None:
            self._line.close()

    def _renew(self) -> None:
        if self._line is not None:
            self._line.renew()
        self._later("renew", self._renew_s, self._renew)

    def _later(self, name: str, seconds: float, callback: Callable[[], None]) -> None:
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, callback)

    def _finish(self, reason: str) -> None:
        self.over = True
        self.signed_on = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for question in self._questions.values():
            if not question.answer.done():
                question.answer.set_exception(OutcomeUnknown(f"{self.server}: {reason}"))
