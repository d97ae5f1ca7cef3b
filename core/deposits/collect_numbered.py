"""Statements of banks that number what they tell: CGB, SCB, Citi (FPS credits) and five mailboxes of notifications.

    every 10 s / 3 min: what comes after the cursor ─┐
                                                     ├─> entries, and the cursor with them
    SCB calls us: one credit ────────────────────────┘   (a call moves no cursor)

Rules (A-49, A-58, gaps.md B-15, B-23, B-24, B-44; STMT-10, -11, -13):

* The bank counts without gaps from 1. The cursor is the number up to which nothing is missing; it is written with the
  entries. Order within a list does not matter, and what comes again is known by its reference.
* A number that is missing holds the cursor: what follows is taken and asked for again, so that a credit told late is
  taken when it comes. After ``gap_s`` the bank is taken at its word: the cursor passes, CREDIT-02 names the number, and
  it is kept with the cursor that this one may still come, by a call.
* An item that cannot be an entry (not our account, unreadable, of another time) is told as CREDIT-03, once, with what
  the bank said, and holds nothing up: its number counts. One of which not even the number can be read is told likewise;
  to the cursor it is missing. A known reference with another amount is told, too: the first telling stands. One whose
  reference is known is never of another time: people would enter by hand what was credited long ago.
* A bank that begins to count anew would have nothing to tell behind our cursor for ever. So each list begins with the
  cursor's own number: if the bank has nothing under it, or a credit that we do not know, that is CREDIT-04. What the
  bank shows is taken; the cursor stays, since only people can say where it belongs, and the alert is cleared only when
  the bank shows what it had shown. What that was is kept with the cursor: a refused item is not told again.
* A call with a number that was told, and a credit that we do not know, is CREDIT-04 of its own. No list says that it
  is over: only people do.
* Some failed pulls in a row raise CREDIT-01. In the bank's own maintenance nobody asks.
* Each bank has a collector of its own; nothing is shared between two.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, select

from core.alerts import raise_alert
from core.banks.fps import CREDIT_BANKS, CreditLines, CreditReader
from core.banks.notices import MAILBOX_BANKS, NoticeReader
from core.banks.numbered import Exchange, Item, NumberedBank, Read, Told
from core.clock import MS_PER_S
from core.deposits.collection import Collect, StatementRoom
from core.deposits.cursors import Cursors
from core.deposits.statement_dates import StatementDates
from core.errors import BankFault, CallFailed, OutcomeUnknown
from core.statement import Entry
from core.storage import Sharded, Transaction
from core.storage.primary import bank_flows
from core.storage.standing import StandingAlerts
from core.wire.fps import Credit
from core.wire.text import digest, refused_in, shown

CURSOR: Final = "number"
UNDER: Final = "under"  # cursor: what stood under that number (`_mark`)
PASSED_OVER: Final = "passed over "  # and a number -> the last of those from it on that the bank did not tell
OTHER_BANK_PULL: Final = "OtherBankPull"
CREDIT_PULLS: Final = {"cgb": "CgbCreditPull", "scb": "ScbCreditPull", "citi": "CitiCreditPull"}
WEBHOOK: Final = "webhook"
REMEMBERED: Final = 1_000
"""Things told once are remembered, the oldest forgotten."""
MAX_REFERENCE: Final = 64

KEPT = Sharded(lambda t: select(t.c.ccy, t.c.amount).where(
    t.c.our_account == bindparam("account"), t.c.bank_ref == bindparam("ref")), bank_flows)


class Terms(NamedTuple):
    """What distinguishes one bank's collection: its job, the name of its message, its settings and its way of reading;
    ``hears``: an item that the bank brings by itself -> kept."""

    job: str
    message: str
    settings: str
    read: Read


class NumberedCollector:
    """Implements `core.deposits.collection.Collector`."""

    def __init__(self, bank: str, terms: Terms, lines: CreditLines, room: StatementRoom) -> None:
        settings, under = room.settings, terms.settings
        self.bank, self._terms, self._lines, self._room = bank, terms, lines, room
        self._source = NumberedBank(bank, terms.message, lines.exchange, terms.read, room.clock, room.trace,
                                    page=settings[f"{under}.page"], max_pages=settings[f"{under}.max_pages"])
        self._cursors = Cursors(room.db, room.clock, bank)
        self._standing = StandingAlerts(room.db, room.clock, room.trace)
        self._gap_ms = round(settings[f"{under}.gap_s"] * MS_PER_S)
        self._alarm_after: int = settings[f"{under}.alarm_after"]
        self._taking = asyncio.Lock()
        self._failed = 0
        self._missing = (0, 0)  # (number that is missing, since when)
        self._passed_over: dict[int, int] = {}  # numbers that the bank did not tell: first -> last
        self._under = ""  # the mark of what stood under the cursor
        self._counts_anew = False
        self._called_anew = False
        self._dates = StatementDates(settings)
        self._accounts: list[str] = sorted(set(settings[f"receiving.{bank}.accounts"].values()))
        self._said: dict[str, None] = {}
        self.cursor = 0
        self._close: Callable[[], Awaitable[None]] | None = None

    @property
    def scheduled(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        return {self._terms.job: self.pull}

    @property
    def handlers(self) -> Mapping[str, Any]:
        return {}

    async def start(self, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:  # noqa: ARG002 - nothing runs
        """Read the cursor, and whether it still counts; then let the bank call."""
        self.cursor = int(await self._cursors.read(CURSOR) or 0)
        self._under = await self._cursors.read(UNDER) or ""
        self._counts_anew = await self._standing.stands("CREDIT-04", self.bank)
        self._passed_over = {int(first): int(last)
                             for first, last in (await self._cursors.beginning(PASSED_OVER)).items()}
        if self._lines.listen is not None:
            self._close = await self._lines.listen(self.heard)

    async def stop(self) -> None:
        if self._close is not None:
            await self._close()
            self._close = None

    # Pull

    async def pull(self) -> int:
        """Take what the bank has after the cursor; the number of entries that are new."""
        if self._room.calendars.in_maintenance(self.bank, self._room.clock.now_ms()):
            return 0
        try:
            told = await self._source.after(self.cursor)
        except (OutcomeUnknown, BankFault) as fault:
            await self._missed(fault)
            raise CallFailed(str(fault)) if isinstance(fault, BankFault) else fault
        await self._succeeded()
        for unread in told.spoilt:
            await self._refuse_item(f"unnumbered {digest(unread.said)}", unread.reason, unread.said)
        await self._watch_numbers(told)
        return await self._take_list(told.items) if told.items else 0

    async def _take_list(self, items: Sequence[Item]) -> int:
        async with self._taking:
            cursor, passed_over = self._passed(items)
            under = next((_mark(item) for item in items if item.number == cursor), self._under)
            if self._counts_anew and cursor != self.cursor:
                under = ""  # by its new count it shows nothing that it had shown
            entries = await self._readable(items)

            async def also(tx: Transaction) -> None:
                if cursor != self.cursor:
                    await self._cursors.write(tx, CURSOR, str(cursor))
                    await self._cursors.write(tx, UNDER, under)
                for first, last in passed_over.items():
                    await self._cursors.write(tx, f"{PASSED_OVER}{first}", str(last))

            accepted = await self._keep(entries, "pull", also)
            self._passed_over |= passed_over
            if cursor != self.cursor:
                self.cursor = cursor
                self._under = under
        return accepted

    def _passed(self, items: Sequence[Item]) -> tuple[int, dict[int, int]]:
        """The number up to which nothing is missing any more, or has been missing for long enough, and which those
        are: first -> last."""
        cursor, passed_over = self.cursor, dict[int, int]()
        for number in sorted({item.number for item in items}):
            if number > cursor + 1:
                if not self._given_up(cursor + 1, number):
                    return cursor, passed_over
                passed_over[cursor + 1] = number - 1
            cursor = max(cursor, number)
        self._missing = (0, 0)
        return cursor, passed_over

    def _given_up(self, missing: int, then: int) -> bool:
        now = self._room.clock.now_ms()
        if self._missing[0] != missing:
            self._missing = (missing, now)
        if now - self._missing[1] < self._gap_ms:
            return False
        raise_alert(self._room.trace, "CREDIT-02", f"{self.bank}:{missing}",
                    f"{self.bank} tells no number {missing}" + (f" to {then - 1}" if then - 1 > missing else ""))
        return True

    # Numbers that begin again

    async def _watch_numbers(self, told: Told) -> None:
        """Whether the bank still has under the cursor's number what it has told us under it."""
        if self.cursor == 0:
            return
        if told.before is None:
            if not told.spoilt:  # which might be it
                await self._say_anew(
                    f"{self.bank} has nothing under {self.cursor} any more, the last number that it told")
            return
        if _mark(told.before) == self._under:
            await self._say_as_before()
            return
        async with self._taking:
            entries = await self._readable([told.before])
            unknown = [entry for entry in entries if not await self._is_known(entry)]
            if unknown:
                await self._keep(unknown, "pull")
        if entries and not unknown and not self._under and not self._counts_anew:
            self._under = _mark(told.before)  # the cursor is older than the marks
        if unknown:
            await self._say_anew(f"{unknown[0].bank_ref} stands under {self.cursor}, where another was told")

    async def _say_anew(self, why: str) -> None:
        if not self._counts_anew:
            await self._standing.raised("CREDIT-04", self.bank, why)
            self._counts_anew = True

    async def _say_as_before(self) -> None:
        if self._counts_anew:
            await self._standing.cleared("CREDIT-04", self.bank, f"{self.cursor} is what it was")
            self._counts_anew = False

    async def _is_known(self, entry: Entry) -> bool:
        row = await self._room.db.first(KEPT[self.bank], {"account": entry.our_account, "ref": entry.bank_ref})
        return row is not None

    # The bank calls

    async def heard(self, credit: Credit) -> bool:
        """The bank tells of one credit by itself; it is kept, or told as refused, when this returns."""
        self._room.trace.emit("bank.push", credit.reference, {
            "bank": self.bank, "message": "credit", "ref": credit.reference, "push_seq": credit.number, "code": 0})
        item = self._source.item_of(credit)
        async with self._taking:
            entries = await self._readable([item])
            if entries and not self._is_awaited(credit.number) and not await self._is_known(entries[0]):
                self._say_called_anew(credit)
            await self._keep(entries, WEBHOOK)
        return True

    def _is_awaited(self, number: int) -> bool:
        return number > self.cursor or any(first <= number <= last for first, last in self._passed_over.items())

    def _say_called_anew(self, credit: Credit) -> None:
        if not self._called_anew:
            self._called_anew = True
            raise_alert(self._room.trace, "CREDIT-04", f"{self.bank}:call",
                        f"{credit.reference} is told under {credit.number}, and {self.cursor} was told before")

    # Keeping

    async def _readable(self, items: Sequence[Item]) -> list[Entry]:
        found = []
        for item in items:
            if isinstance(item.told, str):
                await self._refuse_item(str(item.number), item.told, item.said)
                continue
            why = self._dates.wrong(item.told.credit_time, self._room.clock.now_ms())
            if why and not await self._is_known(item.told):
                self._refuse(str(item.number), why, item.said)
            else:
                found.append(item.told)
        return found

    async def _keep(self, entries: Sequence[Entry], source: str,
                    also: Callable[[Transaction], Awaitable[Any]] | None = None) -> int:
        told: dict[tuple[str, str], tuple[str, int]] = {}
        for entry in entries:
            await self._compare(entry, told)
        return (await self._room.statements.take(self.bank, entries, source, also)).accepted

    async def _compare(self, entry: Entry, told: dict[tuple[str, str], tuple[str, int]]) -> None:
        """Against what is kept under its reference, or was told before it in the same list."""
        row = await self._room.db.first(KEPT[self.bank], {"account": entry.our_account, "ref": entry.bank_ref})
        first = told.setdefault((entry.our_account, entry.bank_ref), (entry.ccy, entry.amount))
        ccy, amount = first if row is None else tuple(row)
        if (ccy, amount) != (entry.ccy, entry.amount):
            self._refuse(entry.bank_ref, f"{entry.bank_ref}: {entry.ccy} {entry.amount}, but {ccy} {amount} is kept "
                         "under this reference: do not enter it a second time", entry.raw)

    # What is noticed

    async def _refuse_item(self, key: str, why: str, said: str) -> None:
        """An item of which the reference may not be read: told again by a new core, it may have been entered by hand
        meanwhile, and that would be seen under any text that the bank says."""
        if _said_as(key, said) in self._said:
            return
        for ref, account in product(_texts(said), self._accounts):
            if await self._room.db.first(KEPT[self.bank], {"account": account, "ref": ref}) is not None:
                why += f"; an entry {ref} is kept already: do not enter it a second time"
        self._refuse(key, why, said)

    def _refuse(self, key: str, why: str, said: str) -> None:
        known = _said_as(key, said)
        if known in self._said:
            return
        self._said[known] = None
        if len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
        raise_alert(self._room.trace, "CREDIT-03", f"{self.bank}:{key}", f"{why}; the bank says {shown(said)}")

    async def _missed(self, fault: Exception) -> None:
        self._failed += 1
        if self._failed >= self._alarm_after:
            await self._standing.raised("CREDIT-01", self.bank, f"{self._failed} times in a row: {fault}")

    async def _succeeded(self) -> None:
        self._failed = 0
        await self._standing.cleared("CREDIT-01", self.bank, "pulled again")


def _mark(item: Item) -> str:
    """What an item is known by: its reference, however the bank writes the rest; if it cannot be read, what was said.
    """
    told = item.told
    return digest(item.said if isinstance(told, str) else f"{told.our_account} {told.bank_ref}")


def _said_as(key: str, said: str) -> str:
    return f"{key} {digest(said)}"


def _texts(said: str) -> list[str]:
    """The texts of what a bank said, if it is a JSON object: one of them is the reference. None that no database could
    be asked for."""
    try:
        row = json.loads(said)
    except (ValueError, RecursionError):
        return []
    found = row.values() if isinstance(row, dict) else ()
    return list(dict.fromkeys(text for text in found if isinstance(text, str) and 0 < len(text) <= MAX_REFERENCE
                              and not refused_in(text)))


def _credits(bank: str, lines: CreditLines, room: StatementRoom) -> NumberedCollector:
    terms = Terms(CREDIT_PULLS[bank], "credits", "credits", CreditReader(bank, room.settings))
    return NumberedCollector(bank, terms, lines, room)


def _mailbox(bank: str, exchange: Exchange, room: StatementRoom) -> NumberedCollector:
    terms = Terms(OTHER_BANK_PULL, "notifications", "notices", NoticeReader(bank, room.settings))
    return NumberedCollector(bank, terms, CreditLines(exchange), room)


NUMBERED: Final[dict[str, Collect]] = {
    **{bank: partial(_credits, bank) for bank in CREDIT_BANKS},
    **{bank: partial(_mailbox, bank) for bank in MAILBOX_BANKS},
}
"""Bank -> what makes its collector of its lines."""
