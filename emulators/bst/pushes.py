"""What the bank has to tell: numbered, kept for ever in the day list, delivered while somebody is signed on.

A push that is not acknowledged is sent again every `repeat_us`, `repeats` times, as a new frame with the same message.
What nobody took then, or while nobody was signed on, is not sent again: the broker finds it in the day list.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from core.wire.socket import messages as m
from emulators.bst.records import Push
from emulators.loop import Cancellable


class Repetition(NamedTuple):
    """How long the bank waits for an acknowledgement, in µs, and how often it sends again."""

    repeat_us: int
    repeats: int


class Pushes:
    """``post`` writes a push to the line that is signed on; False if there is none."""

    def __init__(
        self, post: Callable[[Push], bool], after_us: Callable[..., Cancellable], repetition: Repetition
    ) -> None:
        self._post = post
        self._after_us = after_us
        self._repetition = repetition
        self._listed: list[Push] = []
        self.last_seq = 0
        self._open: dict[str, tuple[Push, Cancellable, Callable[[], object] | None]] = {}

    def spare_seq(self) -> int:
        """A number that no push will have."""
        self.last_seq += 1
        return self.last_seq

    def number(self, command: str, body_of: Callable[[int], m.Body], session: str, customer: str) -> Push:
        """A new push in the list; `deliver` sends it."""
        seq = self.spare_seq()
        push = Push(seq, command, body_of(seq), session, customer)
        self._listed.append(push)
        return push

    def deliver(self, push: Push, then: Callable[[], object] | None = None) -> None:
        """Send a push until it is acknowledged, then call ``then``; never, if nobody takes it."""
        push.sends += 1
        if not self._post(push):
            push.status = "UNDELIVERED"
            return
        timer = self._after_us(self._repetition.repeat_us, self._repeat, push)
        if push.message is not None:
            self._open[push.message.header.ref] = (push, timer, then)

    def _repeat(self, push: Push) -> None:
        message = push.message
        kept = self._open.pop(message.header.ref, None) if message is not None else None
        if kept is None:
            return
        if push.sends > self._repetition.repeats:
            push.status = "UNDELIVERED"
        else:
            self.deliver(push, kept[2])

    def pushed(self, message_ref: str) -> Push | None:
        """The push that waits for an acknowledgement of this message."""
        kept = self._open.get(message_ref)
        return kept[0] if kept is not None else None

    def acknowledge(self, message_ref: str) -> None:
        """The broker has persisted the push; harmless for one that does not wait."""
        kept = self._open.pop(message_ref, None)
        if kept is None:
            return
        push, timer, then = kept
        timer.cancel()
        push.status = "ACKNOWLEDGED"
        if then is not None:
            then()

    def since(self, seq: int, session: str = "") -> list[Push]:
        """Every push after a number, of one business day or of all, whether it was delivered or not."""
        later = self._listed[bisect_right(self._listed, seq, key=attrgetter("seq")):]
        return [push for push in later if not session or push.session == session]

    def undelivered(self) -> int:
        """How many pushes nobody has acknowledged."""
        return sum(push.status != "ACKNOWLEDGED" for push in self._listed)
