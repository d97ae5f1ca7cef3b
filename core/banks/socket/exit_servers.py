"""Primary and backup exit_server of one bank: one of them is active, as long as one can be reached (SOCK-09, A-42).

* The platform begins at the primary. When the active connection is lost, a Critical alert is raised at once and the
  other server becomes active; if neither answers, both are tried again after 1, 2, 4, 8, 16, 30 s, and 30 s from then.
* While the backup is active, the primary is watched: a connection with heartbeats and without sign-on. After ten
  minutes without a break it becomes active again, and the backup is signed off.
* A -5 switches too, without an alert, for nothing was interrupted: the old connection stays open and watched, so that
  answers and results under way still arrive. One switch in the time of a response is enough. What is asked while a
  switch is under way waits for it: the question is for the other server.
* The bank pushes to the connection that has signed on last. Where a sign-on elsewhere got no answer, the bank may have
  heard it all the same: the active connection signs on anew, and what was pushed meanwhile is fetched.
* The watched primary that is lost is an interruption too: people are told, though nothing has to be switched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from core.alerts import clear_alert, raise_alert
from core.banks.socket.connection import Connection, Parties, Stamps
from core.banks.socket.line import Dial, Unreachable
from core.clock import US_PER_S, Clock, hkt
from core.errors import OutcomeUnknown
from core.trace import Trace
from core.wire.socket import FrameType, RefusedMessage
from core.wire.socket import messages as m

PRIMARY, BACKUP = "primary", "backup"
OTHER = {PRIMARY: BACKUP, BACKUP: PRIMARY}
RULE = "SOCK-01"


class Ear(Protocol):
    """Who hears what the connections bring."""

    def pushed(self, connection: Connection, message: m.Message) -> None:
        """A push."""

    def forged(self, connection: Connection, error: RefusedMessage) -> None:
        """A signature that is not the bank's."""

    async def last_push_seq(self) -> int:
        """For sign-on."""

    async def signed_on(self) -> None:
        """A connection has become active."""


class ExitServers:
    """Keeps one connection active. ``start`` begins; nothing happens before."""

    def __init__(
        self, bank: str, dial: Dial, clock: Clock, trace: Trace, settings: Mapping[str, Any], ear: Ear
    ) -> None:
        self.bank, self._dial, self._clock, self._trace, self._ear = bank, dial, clock, trace, ear
        self._settings = settings
        self._parties = Parties(settings["socket.broker"], settings[f"socket.{bank}.name"])
        self._address = {server: settings[f"socket.{bank}.{server}"] for server in OTHER}
        self._waits_s: list[float] = settings["socket.reconnect_s"]
        self._steady_us: int = settings["socket.return_to_primary_s"] * US_PER_S
        self._patience_us: int = settings["socket.response_wait_s"] * US_PER_S
        self._stamps = Stamps(bank, clock)
        self.active: Connection | None = None
        self._standing: dict[str, Connection] = {}
        self._prefer = PRIMARY
        self._alerted = self._stopping = False
        self._switched_us: int | None = None  # the latest switch after a -5
        self._switch = ""
        self._wake = asyncio.Event()
        self._switched = asyncio.Event()  # not set while a switch is asked for and not tried yet
        self._switched.set()
        self._spawn: Callable[[Any], object] = asyncio.ensure_future

    @property
    def available(self) -> bool:
        """Whether instructions can leave."""
        return self.active is not None

    def state(self) -> dict[str, Any]:
        """For people: which server is active, and which connections stand."""
        return {"active": self.active.server if self.active is not None else None, "standing": list(self._standing)}

    async def start(self, spawn: Callable[[Any], object]) -> None:
        """Connect if a server is there; go on trying if not."""
        self._spawn = spawn
        await self._advance()
        spawn(self._keep())

    async def stop(self) -> None:
        """Sign off and close."""
        self._stopping = True
        for connection in list(self._standing.values()):
            await self._sign_off(connection, "the broker stops")
        self.halt()

    def halt(self) -> None:
        """Close everything at once, without a word."""
        self._stopping = True
        for connection in list(self._standing.values()):
            connection.close()
        self._standing.clear()
        self.active = None
        self._wake.set()
        self._switched.set()

    def switch(self, reason: str) -> bool:
        """An answer stayed away or was -5: go on over the other server. False if the latest switch is too recent."""
        now = self._clock.now_us()
        recently = self._switched_us is not None and now - self._switched_us < self._patience_us
        if self.active is not None and not recently:
            self._switched_us = now
            self._switch = reason or "-5"
            self._switched.clear()
            self._wake.set()
        return not recently

    async def ready(self) -> Connection | None:
        """The active connection; where a switch has been asked for, what is active after it."""
        await self._switched.wait()
        return self.active

    async def leave(self, server: str, reason: str) -> bool:
        """Be active elsewhere than at this server, where there is an elsewhere. False if it is too soon to try: another
        switch has just led here."""
        connection = await self.ready()
        if connection is None or connection.server != server:
            return True
        if not self.switch(reason):
            return False
        await self.ready()
        return True

    # Keeping one active

    async def _keep(self) -> None:
        failures = 0
        while not self._stopping:
            self._wake.clear()
            stands = await self._advance()
            if not self._switch:
                self._switched.set()
            failures = 0 if stands else failures + 1
            await self._rest(failures)

    async def _rest(self, failures: int) -> None:
        """Until something happens, or it is time to try again or to return."""
        wait_s = self._waits_s[min(max(failures - 1, 0), len(self._waits_s) - 1)] if failures else self._idle_s()
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _idle_s(self) -> float | None:
        """With an active connection: when to sign on again, or to look at the primary if it is not the active one."""
        primary = self._standing.get(PRIMARY)
        if self.active is not None and not self.active.signed_on:
            return self._waits_s[-1]
        if self.active is None or self.active.server == PRIMARY:
            return None
        if primary is None:
            return self._waits_s[-1]
        return max(0.0, (self._returns_us(primary) - self._clock.now_us()) / US_PER_S)

    def _returns_us(self, primary: Connection) -> int:
        """When the primary, which stands, has been steady for long enough: without a break, and without a -5."""
        return max(primary.since_us, self._switched_us or 0) + self._steady_us

    async def _advance(self) -> bool:
        """One look at how things are; False if no server could be made active."""
        if self._switch and self.active is not None:
            self._switch, wanted = "", OTHER[self.active.server]
            await self._make_active(wanted)
        elif self.active is None:
            self._switch = ""  # there is nothing left to switch away from
            return await self._make_active(self._prefer) or await self._make_active(OTHER[self._prefer]) or self._tell(
                "no exit_server can be reached")
        else:
            await self._look_at_primary()
        await self._be_heard()
        return True

    async def _be_heard(self) -> None:
        """See that the bank pushes to the active connection."""
        active = self.active
        if active is not None and not active.signed_on and await self._signs_on(active):
            self._spawn(self._ear.signed_on())

    async def _look_at_primary(self) -> None:
        if self.active is None or self.active.server == PRIMARY:
            return
        primary = self._standing.get(PRIMARY)
        if primary is None:
            primary = await self._connect(PRIMARY)
        if primary is not None and self._clock.now_us() >= self._returns_us(primary):
            await self._make_active(PRIMARY)

    async def _make_active(self, server: str) -> bool:
        """Sign on there; what was active before is signed off if it is the backup, and watched if it is the primary."""
        connection = self._standing.get(server) or await self._connect(server)
        if connection is None or not await self._sign_on(connection):
            return False
        before, self.active = self.active, connection
        self._prefer = server
        if before is not None and before is not connection and before.server == BACKUP:
            self._spawn(self._retire(before))
        if self._alerted:
            self._alerted = False
            clear_alert(self._trace, RULE, self.bank, f"{server} is active")
        self._trace.emit("bank.line", self.bank, {"bank": self.bank, "server": server, "phase": "active"})
        self._spawn(self._ear.signed_on())
        return True

    async def _connect(self, server: str) -> Connection | None:
        connection = Connection(server, self._parties, self._stamps, self._clock, self._settings, self)
        try:
            connection.adopt(await self._dial(self._address[server], connection))
        except Unreachable as why:
            self._trace.emit("bank.line", self.bank, {"bank": self.bank, "server": server, "phase": "unreachable",
                                                      "reason": str(why)})
            return None
        if connection.over or self._stopping:  # lost, or not wanted, before it could be used
            connection.close()
            return None
        self._standing[server] = connection
        return connection

    async def _sign_on(self, connection: Connection) -> bool:
        """Sign on, or do without this connection."""
        return await self._signs_on(connection) or self._give_up(connection)

    async def _signs_on(self, connection: Connection) -> bool:
        """Whether the bank has answered that it pushes there; if not, it may do so all the same, and not elsewhere."""
        body = m.SignOn(f"{hkt(self._clock.now_ms()):%Y%m%d}", await self._ear.last_push_seq())
        for other in self._standing.values():
            other.signed_on = False
        try:
            (reply,) = await connection.ask(connection.compose(m.SIGN_ON, FrameType.REQUEST, body))
        except (OutcomeUnknown, ValueError):
            return False
        connection.signed_on = isinstance(reply.body, m.Answer) and reply.body.code == 0 and not connection.over
        return connection.signed_on

    def _give_up(self, connection: Connection) -> bool:
        if self._standing.get(connection.server) is connection:
            del self._standing[connection.server]
        connection.close()
        return False

    async def _retire(self, connection: Connection) -> None:
        """Late answers may still come over it for the time of a response."""
        await asyncio.sleep(self._patience_us / US_PER_S)
        if connection is not self.active:
            await self._sign_off(connection, "back at the primary")
            self._give_up(connection)

    async def _sign_off(self, connection: Connection, reason: str) -> None:
        if connection.over:
            return
        try:
            await connection.ask(connection.compose(m.SIGN_OFF, FrameType.REQUEST, m.SignOff(reason)), 1.0)
        except OutcomeUnknown:
            return

    # What the connections tell (`core.banks.socket.connection.Hearer`)

    def pushed(self, connection: Connection, message: m.Message) -> None:
        """To the ear."""
        self._ear.pushed(connection, message)

    def forged(self, connection: Connection, error: RefusedMessage) -> None:
        """To the ear."""
        self._ear.forged(connection, error)

    def ended(self, connection: Connection, reason: str) -> None:
        """One is over. If it was the active one: alert, and the other server, at once."""
        if self._standing.get(connection.server) is connection:
            del self._standing[connection.server]
        self._trace.emit("bank.line", self.bank, {"bank": self.bank, "server": connection.server, "phase": "lost",
                                                  "reason": reason})
        detail = f"{connection.server}: {reason}"
        if connection is self.active:
            self.active = None
            self._prefer = OTHER[connection.server]
            self._tell(detail)
            self._wake.set()
        elif connection.server == PRIMARY and self.active is not None and not self._stopping:
            raise_alert(self._trace, RULE, self.bank, detail)
            clear_alert(self._trace, RULE, self.bank, f"{self.active.server} is active")
            self._wake.set()

    def _tell(self, detail: str) -> bool:
        """Raise the alert once for each interruption."""
        if not self._alerted and not self._stopping:
            self._alerted = True
            raise_alert(self._trace, RULE, self.bank, detail)
        return False
