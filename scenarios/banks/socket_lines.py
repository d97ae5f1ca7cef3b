"""A core's lines to a socket bank: they end with the core, and the core may die at a message on them."""

from __future__ import annotations

from collections.abc import Mapping

from core.banks.socket.line import Dial, Line, Listener
from core.runtime.socket_bank import DayLists
from core.wire.socket import RefusedMessage
from core.wire.socket.messages import ListItem, Message
from scenarios.banks.bank import DeathTraps, Life


def message_at(bank: str, message: Message) -> str:
    """A message as kill points name it, such as ``cmb 200102 RESPONSE``; command and type say who wrote it."""
    return f"{bank} {message.command} {message.kind.name}"


class CoreDial:
    """A `Dial` of one core. ``addresses``: address in the settings -> where the exit server really is."""

    def __init__(self, bank: str, dial: Dial, addresses: Mapping[str, str], life: Life, traps: DeathTraps) -> None:
        self._bank, self._dial, self._addresses = bank, dial, addresses
        self._life, self._traps = life, traps

    async def __call__(self, address: str, listener: Listener) -> Line:
        self._life.check()
        line = CoreLine(self._bank, self._life, self._traps, listener)
        inner = await self._dial(self._addresses.get(address, address), line)
        if self._life.over:
            inner.close()
        self._life.check()
        line.connect(inner)
        return line


class CoreLine:
    """Both a `Line` towards the core and a `Listener` towards the bank. The line of a dead core is closed as its
    process would leave it, and nobody hears it any more."""

    def __init__(self, bank: str, life: Life, traps: DeathTraps, listener: Listener) -> None:
        self._bank, self._life, self._traps, self._listener = bank, life, traps, listener
        self._inner: Line
        self._over = False

    def connect(self, inner: Line) -> None:
        """The line stands; it may have been lost since."""
        self._inner = inner
        if not self._over:
            self._life.at_end(self._cut)

    def _cut(self) -> None:
        self._inner.close()

    def _dies_at(self, message: Message) -> bool:
        if not self._life.over and self._traps.armed:
            self._traps.passes(message_at(self._bank, message))
        return self._life.over

    # The core speaks

    def send(self, message: Message) -> None:
        if not self._dies_at(message):
            self._inner.send(message)

    def renew(self) -> None:
        if not self._life.over:
            self._inner.renew()

    def close(self) -> None:
        if not self._life.over:
            self._end()
            self._inner.close()

    def _end(self) -> None:
        self._over = True
        self._life.forget(self._cut)

    # The bank speaks

    def received(self, message: Message) -> None:
        if not self._dies_at(message):
            self._listener.received(message)

    def refused(self, error: RefusedMessage) -> None:
        if not self._life.over:
            self._listener.refused(error)

    def renewed(self) -> None:
        if not self._life.over:
            self._listener.renewed()

    def lost(self, reason: str) -> None:
        if not self._life.over:
            self._end()
            self._listener.lost(reason)


class CoreDayLists:
    """Day lists as one core fetches them: a dead core asks for none and hears none."""

    def __init__(self, day_lists: DayLists, life: Life) -> None:
        self._day_lists, self._life = day_lists, life

    async def items(self, since_seq: int, business_date: str = "") -> tuple[ListItem, ...]:
        self._life.check()
        items = await self._day_lists.items(since_seq, business_date)
        self._life.check()
        return items
