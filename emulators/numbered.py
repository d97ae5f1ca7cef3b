"""A bank that numbers its credits and tells them page by page: what the FPS banks and the mailboxes share.

Credits get their numbers without gaps, from 1; a credit is shown from a moment on. Debits are not told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Final

from core.clock import MS_PER_S, US_PER_S, Clock
from core.errors import OutcomeUnknown
from core.settings import Settings
from core.trace import Trace
from core.wire.numbered import BadSignature, Malformed, Page, Query, Refused, WireError
from emulators.asgi import deliver, give_up
from emulators.faults import Fault, FaultsInForce, FaultTable
from emulators.loop import timer_of
from emulators.numbered_faults import CREDIT, QUERY, Strikes
from emulators.receiving import Line, ReceivingBank

SILENCE, ERROR = "silence", "error"
MAINTENANCE: Final = "MAINTENANCE"
UNAVAILABLE: Final = 503


class NumberedBank(ReceivingBank):
    """``in_maintenance``: whether the bank refuses everything at a moment. A bank's own class numbers its credits
    (`number_it`) and says what an item looks like (`item_of`)."""

    def __init__(
        self, bank: str, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Callable[[str], Random], trace: Trace,
        settings: Settings, table: FaultTable, in_maintenance: Callable[[int], bool],
    ) -> None:
        super().__init__(bank, clock, trace, settings[f"receiving.{bank}.accounts"])
        self._in_maintenance, self._after_us = in_maintenance, timer_of(loop)
        self.now_ms = clock.now_ms
        self.faults = FaultsInForce(bank, table, self._after_us, trace, streams(f"{bank}.faults").random)
        self._items: list[tuple[Any, int]] = []  # (item, shown from this moment on), by number from 1
        self.listen(self._booked)

    # Faults

    # Numbering

    def item_of(self, line: Line, number: int, changes: Mapping[str, Any]) -> Any:
        """The item that tells of a line; ``changes``: what a fault makes of it."""
        raise NotImplementedError

    def _booked(self, line: Line) -> None:
        if line.credit:
            self.credited(line, self.faults.strike(Strikes.BOOKING, CREDIT, (line.reference,), line.customer))

    def credited(self, line: Line, struck: list[Fault]) -> None:
        """A credit was booked, with the faults that strike it."""
        raise NotImplementedError

    def number_it(self, line: Line, struck: list[Fault], shown_ms: int) -> Any:
        """Give a credit its number, and show it from a moment on."""
        changes: dict[str, Any] = {}
        for fault in struck:
            if fault.name == "gap":
                shown_ms += round(fault.params["late_s"] * MS_PER_S)
            elif fault.name in ("nameless", "stranger"):
                changes[fault.name] = True
        item = self._append(line, changes, shown_ms)
        for fault in struck:
            if fault.name in ("twice", "changed"):
                self._append(line, {**changes, fault.name: True}, shown_ms)
        return item

    def _append(self, line: Line, changes: Mapping[str, Any], shown_ms: int) -> Any:
        item = self.item_of(line, len(self._items) + 1, changes)
        self._items.append((item, shown_ms))
        return item

    # Telling

    @property
    def told(self) -> int:
        """How many credits have a number."""
        return len(self._items)

    def arrives(self) -> str | None:
        """What becomes of a query before anybody looks at it: `SILENCE`, `ERROR`, a code, or None."""
        if self._in_maintenance(self.now_ms()):
            return MAINTENANCE
        if self.faults:
            for fault in self.faults.strike(Strikes.ARRIVAL, QUERY, (), ""):
                return str(fault.params["answer" if fault.name == "outage" else "code"])
        return None

    def answer(self, query: Query) -> Page:
        """What comes after a number, as it is shown now."""
        if query.since >= len(self._items):
            return Page((), query.since, False)
        now, found = self.now_ms(), []
        for item, shown_ms in self._items[query.since:]:
            if shown_ms <= now:
                found.append(item)
                if len(found) > query.limit:
                    break
        page = found[:query.limit]
        return Page(tuple(page), page[-1].number if page else query.since, len(found) > len(page))

    def leaves(self, page: Page, query: Query) -> tuple[Page, int, frozenset[str]]:
        """A page on its way back, its delay in µs, and which of ``bad_signature`` and ``garbled`` strike it."""
        if not self.faults:
            return page, 0, frozenset()
        delay_us, spoilt = 0, set()
        for fault in self.faults.strike(Strikes.REPLY, QUERY, (), ""):
            if fault.name == "slow":
                delay_us += round(fault.params["delay_s"] * US_PER_S)
            elif fault.name == "page_order":
                page = page._replace(items=page.items[::-1])
            elif fault.name == "duplicate":
                page = page._replace(items=page.items * 2)
            elif fault.name == "no_end":
                page = page._replace(last=query.since, more=True)
            else:
                spoilt.add(fault.name)
        return page, delay_us, frozenset(spoilt)


class NumberedLink:
    """An exchange without serialisation and cryptography (``wire: messages``). ``latency()`` draws a round trip in µs;
    after ``timeout_s`` without an answer the exchange is `OutcomeUnknown`."""

    def __init__(self, bank: NumberedBank, loop: asyncio.AbstractEventLoop, latency: Callable[[], int], *,
                 timeout_s: float) -> None:
        self._bank, self._latency = bank, latency
        self._new_answer, self._after_us = loop.create_future, timer_of(loop)
        self._timeout_us = round(timeout_s * US_PER_S)

    def __call__(self, query: Query) -> Awaitable[Page]:
        answer: asyncio.Future[Page] = self._new_answer()
        trip_us = self._latency()
        self._after_us(trip_us // 2, self._arrive, query, trip_us // 2, trip_us - trip_us // 2, answer)
        return answer

    def _arrive(self, query: Query, there_us: int, back_us: int, answer: asyncio.Future[Page]) -> None:
        patience_us = max(0, self._timeout_us - there_us)
        fate = self._bank.arrives()
        if fate == SILENCE:
            self._after_us(patience_us, give_up, answer)
        elif fate is not None:
            self._fail(answer, back_us, OutcomeUnknown(f"HTTP status {UNAVAILABLE}") if fate == ERROR else
                       Refused(fate))
        else:
            page, delay_us, spoilt = self._bank.leaves(self._bank.answer(query), query)
            if delay_us + back_us >= patience_us:
                self._after_us(patience_us, give_up, answer)
            elif spoilt:
                self._fail(answer, delay_us + back_us, _noise(spoilt))
            else:
                self._after_us(delay_us + back_us, deliver, answer, page)

    def _fail(self, answer: asyncio.Future[Page], after_us: int, error: Exception) -> None:
        self._after_us(after_us, _failed, answer, error)


def _noise(spoilt: frozenset[str]) -> WireError:
    return Malformed("the answer breaks off") if "garbled" in spoilt else BadSignature("signed by somebody else")


def _failed(answer: asyncio.Future[Page], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
