"""Recovery of pushes that were missed while the line was down (SOCK-03, SOCK-04, gaps.md B-43).

CMB: `SyncBstDataHelper` downloads the day list over HTTP, on reconnect, when a number is missing, every 30 minutes and
daily at 04:15. CMBC: the re-pull over the socket, at the same moments. Both ask from the number up to which nothing is
missing, and hand what the books do not know to `Pushes.take`, in the bank's order: booked once, however it came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from core.banks.socket.gateway import Push
from core.deposits.pushes import Pushes
from core.trace import Trace
from core.wire.socket.messages import ListItem, push_of

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

    async def run(self) -> Report:
        """Once. Raises `OutcomeUnknown` if the list cannot be had: nothing is lost, the next run asks again."""
        since = await self._pushes.complete_to()
        requested = injected = skipped = 0
        for item in await self._fetch(since):
            requested += 1
            if await self._pushes.knows(item.push_seq):
                skipped += 1
                continue
            command, body = push_of(item)
            await self._pushes.take(Push(self.bank, item.push_seq, command, body), self._source)
            injected += 1
        report = Report(requested, requested - skipped, injected, skipped)
        self._trace.emit("recovery", self.bank, {"bank": self.bank, "source": self._source, "since": since,
                                                 **report._asdict()})
        return report
