"""BOCHK's statements: pulled in cycles, converted in batches, supplemented from the S16 report (A-50, B-15, B-19).

A cycle pulls TodayActivity, AcctStatement and AcctActivity at three moments an hour apart; the conversion an hour after
the third makes entries of everything pulled so far and not yet converted. The three overlap on purpose: TodayActivity
goes on from the last seq_no of the day, AcctStatement covers all days since the last one, AcctActivity reads those days
whole. So what is inserted behind a seq_no, told after the bank has begun to count anew, or missed while it was away
comes with the next one that covers it, and what comes twice is known (BOCHK-05).

A record that cannot be an entry, or is of another time, is told as BOCHK-02, once, with what the bank said, and holds
nothing up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import date, timedelta
from typing import Any, Final

from core.alerts import raise_alert
from core.banks.bochk import BANK, B2e, BochkLines, Found, Refused, entry_from
from core.clock import hkt_date, hkt_midnight_ms, yyyymmdd
from core.deposits.bochk_s16 import S16Room
from core.deposits.collection import StatementRoom
from core.deposits.cursors import Cursors
from core.deposits.statement_dates import StatementDates
from core.errors import BankFault, Misconfigured, OutcomeUnknown
from core.statement import Entry
from core.storage import Transaction
from core.storage.standing import StandingAlerts
from core.wire.bochk_b2e import ACTIVITY, STATEMENT, TODAY

ORDER: Final = (TODAY, STATEMENT, ACTIVITY)
"""The order of a cycle (BOCHK-01)."""
CYCLE, MORNING_ONLY = "cycle", "morning_only"
REMEMBERED: Final = 1_000
"""Records refused are remembered, the oldest forgotten."""
_CLOSED: Final = "cycle closed"
_CONVERTED: Final = "converted"


class BochkCollector:
    """Implements `core.deposits.collection.Collector`."""

    bank = BANK

    def __init__(self, lines: BochkLines, room: StatementRoom) -> None:
        self._room, settings = room, room.settings
        self._accounts: dict[str, str] = settings["receiving.bochk.accounts"]
        self._b2e = B2e(lines.exchange, lines.credentials, room.clock, room.trace, settings)
        self._cursors = Cursors(room.db, room.clock, BANK)
        self._standing = StandingAlerts(room.db, room.clock, room.trace)
        self._pulls = _moments(settings["jobs.bochk.pull_at"])
        if settings["bochk.profile"] not in (CYCLE, MORNING_ONLY):
            raise Misconfigured(f"bochk.profile is {settings['bochk.profile']!r}", where="settings",
                                remedy=f"{CYCLE} or {MORNING_ONLY}")
        self._morning_only = settings["bochk.profile"] == MORNING_ONLY
        self._batch = settings["bochk.convert.batch"]
        self._failures = 0
        self._said: dict[str, None] = {}
        self._dates = StatementDates(settings)
        self._s16 = S16Room(lines.files, room, self._accounts, over_line=True)

    @property
    def scheduled(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        return {"BochkPull": self.pull, "BochkConvert": self.convert, "BochkS16Pull": self._s16.pull,
                "S16Monitor": self._s16.watch}

    @property
    def handlers(self) -> Mapping[str, Any]:
        """None: nothing of this bank is queued."""
        return {}

    async def start(self, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:  # noqa: ARG002 - nothing runs
        """Read what an earlier core has left."""
        await self._s16.begin(await self._moment_of(_CONVERTED))

    async def stop(self) -> None:
        """Nothing is open between two pulls."""

    # Pulling

    async def pull(self) -> str:
        """The message whose turn it is, for every account; the first failure is raised when all have been tried."""
        now = self._room.clock.now_ms()
        message = self._turn(now)
        if message is None:
            return ""
        if self._room.calendars.maintenance(BANK, now).under_way:
            return f"{message}: the bank is in maintenance"
        accepted, faults = 0, list[Exception]()
        for ccy, account in self._accounts.items():
            try:
                accepted += await self._pull(message, account, ccy)
            except (BankFault, OutcomeUnknown) as fault:
                faults.append(fault)
        await self._account_for(message, now, faults)
        return f"{message}: {accepted} new"

    def _turn(self, now_ms: int) -> str | None:
        """TodayActivity, AcctStatement or AcctActivity by the latest moment of the timetable that has come; before the
        first of the day, when only people ask, the whole days. None where the profile has no pull."""
        past = now_ms - hkt_midnight_ms(hkt_date(now_ms))
        number = sum(moment <= past for moment in self._pulls) - 1
        if number < 0:
            return ACTIVITY
        return None if self._morning_only and number >= len(ORDER) else ORDER[number % len(ORDER)]

    async def _pull(self, message: str, account: str, ccy: str) -> int:
        if message == TODAY:
            return await self._pull_today(account, ccy)
        today = hkt_date(self._room.clock.now_ms())
        first = await self._first_day(message, account, today)
        if message == STATEMENT:
            found = await self._b2e.statement(account, ccy, _text(first), _text(today))
            return await self._keep(found, _day_cursor(message, account), _text(today))
        accepted = 0
        while first <= today:
            found = await self._b2e.activity(account, ccy, _text(first))
            accepted += await self._keep(found, _day_cursor(message, account), _text(first))
            first += timedelta(days=1)
        return accepted

    async def _pull_today(self, account: str, ccy: str) -> int:
        """What has come since the last TodayActivity of the same day."""
        today, cursor = _text(hkt_date(self._room.clock.now_ms())), f"{TODAY} {account}"
        day, _, seq = (await self._cursors.read(cursor) or "").partition(":")
        found: Found = await self._b2e.today(account, ccy, int(seq) if day == today else 0)
        last = max(found.last_seq, int(seq)) if day == today else found.last_seq
        return await self._keep(found, cursor, f"{today}:{last}")

    async def _first_day(self, message: str, account: str, today: date) -> date:
        """The last day covered, which has perhaps gone on since, within the limits."""
        settings = self._room.settings
        covered = await self._cursors.read(_day_cursor(message, account))
        first = (today - timedelta(days=settings["bochk.b2e.lookback_days"]) if covered is None
                 else min(today, date.fromisoformat(covered)))
        return max(first, today - timedelta(days=settings["bochk.b2e.max_days"]))

    async def _keep(self, found: Found, cursor: str, value: str) -> int:
        """Raw rows and the cursor behind them, in one transaction."""
        for one in found.refused:
            self._refuse(one)
        entries = [entry for entry in found.entries if self._is_of_our_time(entry)]

        async def advance(tx: Transaction) -> None:
            await self._cursors.write(tx, cursor, value)

        return (await self._room.statements.keep_raw(BANK, entries, advance)).accepted

    def _is_of_our_time(self, entry: Entry) -> bool:
        why = self._dates.wrong(entry.credit_time, self._room.clock.now_ms())
        if why:
            self._refuse(Refused(f"{entry.our_account}:{entry.bank_ref}", why, entry.raw))
        return not why

    def _refuse(self, one: Refused) -> None:
        if one.key in self._said:
            return
        self._said[one.key] = None
        if len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
        raise_alert(self._room.trace, "BOCHK-02", one.key, f"{one.reason}; the bank says {one.said}")

    async def _account_for(self, message: str, began_ms: int, faults: list[Exception]) -> None:
        """Close the cycle, or tell of the failure: in an alert once there were several in a row (B-14)."""
        if faults:
            self._failures += 1
            if self._failures >= self._room.settings["bochk.b2e.alert_after"]:
                await self._standing.raised("BOCHK-01", BANK, f"{message}: {faults[0]}")
            raise faults[0]
        self._failures = 0
        await self._standing.cleared("BOCHK-01", BANK, f"{message} was pulled")
        if message == ACTIVITY:
            async with self._room.db.transaction() as tx:
                await self._cursors.write(tx, _CLOSED, str(began_ms))

    # Converting

    async def convert(self) -> int:
        """Entries of all that has been pulled, then what the S16 report knows about them; gives their number."""
        converted = 0
        while count := await self._room.statements.convert(BANK, entry_from, "B2E", self._batch):
            converted += count
        closed = await self._moment_of(_CLOSED)
        async with self._room.db.transaction() as tx:
            await self._cursors.write(tx, _CONVERTED, str(closed))
        await self._s16.statements_until(closed)
        return converted

    async def _moment_of(self, cursor: str) -> int:
        return int(await self._cursors.read(cursor) or 0)


def _text(day: date) -> str:
    return str(yyyymmdd(day))


def _day_cursor(message: str, account: str) -> str:
    return f"{message} {account}"


def _moments(times: list[str]) -> tuple[int, ...]:
    """Milliseconds of the day; the timetable has checked their form."""
    if len(times) % len(ORDER):
        raise Misconfigured(f"{len(times)} pulls a day are no cycles of {len(ORDER)}", where="jobs.bochk.pull_at",
                            remedy="three times for each cycle")
    written = (time.partition(":") for time in times)
    return tuple(sorted((int(hours) * 60 + int(minutes)) * 60_000 for hours, _, minutes in written))


__all__ = ["CYCLE", "MORNING_ONLY", "ORDER", "BochkCollector"]
