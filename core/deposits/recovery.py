"""Recovery of pushes that were missed while the line was down (SOCK-03, SOCK-04, gaps.md B-43).

CMB: `SyncBstDataHelper` downloads the day list over HTTP, on reconnect, when a number is missing, every 30 minutes and
daily at 04:15. CMBC: the re-pull over the socket, at the same moments. Both ask from the number up to which nothing is
missing, and hand what the books do not know to `Pushes.take`, in the bank's order: booked once, however it came.

The last push that is known is asked for as well: if the bank has another transaction under its number, or none, its
numbering began again, and everything is fetched (SOCK-09). A number that stays missing is given up after
`RECOVERY_TRIES`: people are told (SOCK-06) and the next recovery asks from behind it, until the program starts again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from core.alerts import raise_alert
from core.banks.socket.gateway import Push
from core.deposits.pushes import Pushes
from core.trace import Trace
from core.wire.socket.messages import ListItem, push_of

RECOVERY_TRIES = 3
"""How often a recovery fails, or leaves the same number missing, before people are told (B-15: 3)."""

Fetch = Callable[[int], Awaitable[tuple[ListItem, ...]]]
"""All entries after a push number, ascending; raises `OutcomeUnknown` if the bank does not answer."""


class Report(NamedTuple):
    """Of one recovery: entries the bank listed, how many of them were missing, booked now, and known before."""

    requested: int
    missing: int
    injected: int
    skipped: int


class Recovery:
    """Fetches what one bank pushed and nobody heard."""

    def __init__(self, bank: str, source: str, pushes: Pushes, fetch: Fetch, trace: Trace) -> None:
        """``source``: how ``bst_push`` names this way, helper or repull."""
        self.bank, self._source, self._pushes, self._fetch, self._trace = bank, source, pushes, fetch, trace
        self._hole = self._futile = 0

    async def run(self) -> Report:
        """Once. Raises `OutcomeUnknown` if the list cannot be had: nothing is lost, the next run asks again."""
        since = await self._pushes.complete_to()
        requested = injected = skipped = 0
        for item in await self._listed(since):
            requested += 1
            push = self._push(item)
            if await self._pushes.holds(push):
                skipped += 1
                continue
            await self._pushes.take(push, self._source)
            injected += 1
        await self._give_up()
        report = Report(requested, requested - skipped, injected, skipped)
        self._trace.emit("recovery", self.bank, {"bank": self.bank, "source": self._source, "since": since,
                                                 **report._asdict()})
        return report

    def _push(self, item: ListItem) -> Push:
        command, body = push_of(item)
        return Push(self.bank, item.push_seq, command, body)

    async def _listed(self, since: int) -> tuple[ListItem, ...]:
        """What the bank told after a number, if it has under that number what our books have; else everything."""
        if since == 0:
            return await self._fetch(0)
        items = await self._fetch(since - 1)
        if items and items[0].push_seq == since and await self._pushes.is_at(self._push(items[0])):
            await self._pushes.holds(self._push(items[0]))  # says so if it tells otherwise of it
            return items[1:]
        everything = await self._fetch(0)
        there = [self._push(item) for item in everything if item.push_seq == since]
        if not there or not await self._pushes.is_at(there[0]):
            self._pushes.began_again(f"the bank's list does not have push {since} as our books have it")
        return everything

    async def _give_up(self) -> None:
        """Count how often the first missing number stayed missing; after the third time go on from behind it."""
        hole = await self._pushes.complete_to() + 1
        if hole > await self._pushes.last_push_seq():
            self._hole = self._futile = 0
            return
        self._futile = self._futile + 1 if hole == self._hole else 1
        self._hole = hole
        if self._futile == RECOVERY_TRIES and await self._pushes.pass_over():
            raise_alert(self._trace, "SOCK-06", f"{self.bank}:{hole}",
                        f"push {hole} is not in the bank's list, asked {RECOVERY_TRIES} times; going on behind it")
