"""An adapter of a bank that tells numbered items: whole lists, page by page, in our words.

* Everything here is reading: silence (`OutcomeUnknown`) and an answer that cannot be used (`BankFault`) end the pull,
  and the next one asks again after the same number.
* A page that leads nowhere (more to come, and no number further) is a fault of the bank's, and so is a list of more
  pages than allowed.
* An item that cannot be read, or cannot be an entry of ours, is told with why and what the bank said; the others are
  good.
* Each list begins one number earlier, with what we have under that: a bank that counts anew has not (`Told.before`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from core.clock import US_PER_MS, Clock
from core.errors import BankFault, OutcomeUnknown
from core.statement import Entry
from core.trace import Trace
from core.wire.numbered import MAX_ITEMS, Page, Query, Refused, Unread, WireError
from core.wire.text import shown

Exchange = Callable[[Query], Awaitable[Page]]
"""Carries a query to the bank and its page back; `OutcomeUnknown` on silence, `WireError` on noise."""

Read = Callable[[Any], Entry | str]
"""An item as an entry, or why it cannot be one."""

_IDS_PER_S: Final = 1_000


class Item(NamedTuple):
    """One item: its number at the bank, its entry or why there is none, and what the bank said."""

    number: int
    told: Entry | str
    said: str = ""


class Told(NamedTuple):
    """A whole list. ``before``: what the bank has under the number after which it was asked, None if nothing.
    ``spoilt``: items without a number that can be read."""

    items: list[Item]
    spoilt: list[Unread]
    before: Item | None = None


class NumberedBank:
    """One bank's list."""

    def __init__(self, bank: str, message: str, exchange: Exchange, read: Read, clock: Clock, trace: Trace, *,
                 page: int, max_pages: int) -> None:
        """``message``: its name in events."""
        self._bank, self._message, self._exchange, self._read = bank, message, exchange, read
        self._clock, self._trace, self._page, self._max_pages = clock, trace, page, max_pages
        self._number = 0

    async def after(self, since: int) -> Told:
        """All that the bank has after a number."""
        began_us = self._clock.now_us()
        try:
            told = await self._list(since)
        except (OutcomeUnknown, BankFault) as fault:
            self._tell(began_us, "UNKNOWN" if isinstance(fault, OutcomeUnknown) else "REFUSED", str(fault))
            raise
        if told.items or told.spoilt or self._trace.polls:
            self._tell(began_us, "ACCEPTED", "")
        return told

    async def _list(self, since: int) -> Told:
        items: list[Item] = []
        spoilt: list[Unread] = []
        after = max(0, since - 1)
        for _ in range(self._max_pages):
            page = await self._ask(after, self._page + (after < since))
            items += map(self.item_of, page.items)
            spoilt += page.spoilt
            if not page.more:
                before = [item for item in items if item.number == since]
                return Told([item for item in items if item.number != since], spoilt, before[0] if before else None)
            if page.last <= after:
                raise BankFault(f"{self._bank}: more after {page.last}, which we have: the list has no end")
            after = page.last
        raise BankFault(f"{self._bank}: more than {self._max_pages} pages")

    def item_of(self, item: Any) -> Item:
        """An item of a page, or one that the bank brings by itself."""
        if isinstance(item, Unread):
            return Item(item.number, item.reason, item.said)
        told = self._read(item)
        return Item(item.number, told, told.raw if isinstance(told, Entry) else shown(item._asdict()))

    async def _ask(self, after: int, limit: int) -> Page:
        """One exchange; the one place where the bank's noise becomes an error of ours."""
        try:
            return await self._exchange(Query(after, min(limit, MAX_ITEMS), self._request_id()))
        except Refused as refused:
            raise BankFault(f"{self._bank} refuses: {refused.code}") from refused
        except WireError as noise:
            raise BankFault(f"{self._bank}: {type(noise).__name__}: {noise}") from noise

    def _request_id(self) -> str:
        """Never again, not even after a restart."""
        self._number = (self._number + 1) % _IDS_PER_S
        return f"{self._clock.now_ms()}-{self._number:03d}"

    def _tell(self, began_us: int, outcome: str, detail: str) -> None:
        self._trace.emit("bank.reply", self._bank, {
            "bank": self._bank, "message": self._message, "ref": self._message, "request_id": "", "attempt": 1,
            "outcome": outcome, "code": 0, "detail": detail, "ms": (self._clock.now_us() - began_us) // US_PER_MS})
