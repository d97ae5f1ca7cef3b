"""ICBC: statements of two deployment groups over two lines that cannot be exchanged (tasks-and-monitoring.md §4).

Rules, before any code:

* Production pulls over line 1, canary over line 2, each what comes after its last serial (A-59); the first pull of a
  day and ``IcbcPullYesterday`` ask for whole days. In the bank's own maintenance nobody asks.
* Each group keeps its own rows and verifies its own balance chain when it keeps one. A break raises ICBC-01 for that
  group; it is cleared when the chain holds again, whoever mended it. A list of whole days whose own printed balances
  form a chain, and in which none of our rows is missing, replaces our balances: the bank has the last word.
* Routing (A-64): the flows of one group feed matching, production's by default. After five minutes without a successful
  production pull, and a canary pull since, canary's do, until production recovers. An entry is known by ICBC's serial
  (`Book.reference`), so none is taken twice. A ghost feeds nothing until people have looked at it.
* A payment that a group does not take, though the bank's own words prove it, is told at once (ICBC-07); that is cleared
  when somebody has taken it or the bank shows it no more. A core that begins behind such a payment asks the bank for
  the days on which an earlier one was told of it; until it has answered, the alert stands.
* Three failed pulls in a row raise ICBC-02; a canary more than ten minutes behind ICBC-03, below five nothing is said.
* A record that is no statement of the account (unreadable, in another currency, of another time) is told as ICBC-06,
  once, with what the bank said; the others are taken.
* A row is used in both groups when its flow is (`Statements.on_use`).
* What is noticed is told as ``log`` events of ``icbc_be_relay`` in the words for which people search (§4.5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from core.alerts import raise_alert
from core.banks.icbc import BANK, CANARY, GROUPS, PROD, Exchange, IcbcLine, Identity, Lines, Listed, Refused, Told
from core.clock import MS_PER_DAY, MS_PER_S, hkt_date, hkt_midnight_ms
from core.deposits.collection import StatementRoom
from core.deposits.icbc_escalation import JOB as ESCALATE
from core.deposits.icbc_escalation import IcbcAlerts, Incident
from core.deposits.icbc_flows import (
    Book,
    Break,
    Compared,
    Row,
    breaks_of,
    compared,
    ghosts_among,
    is_whole,
    other_payer,
    other_payment,
    suggested,
)
from core.deposits.statement_dates import StatementDates
from core.deposits.statements import VOID, Flow, months_between
from core.errors import BankFault, CallFailed, OutcomeUnknown
from core.money import show
from core.statement import Entry
from core.storage import Questions, Transaction
from core.storage.standing import StandingAlerts
from core.wire.text import shown

SERVICE: Final = "icbc_be_relay"
REMEMBERED: Final = 1_000
"""Records refused are remembered, the oldest forgotten."""
_JOBS: Final = {"IcbcPullProd": PROD, "IcbcPullCanary": CANARY}


class Group:
    """One deployment group: its line, and when it last succeeded."""

    def __init__(self, name: str, line: IcbcLine) -> None:
        self.name, self.line = name, line
        self.lock = asyncio.Lock()  # its pulls, by whatever job, one after the other
        self.pulled_ms = 0  # last success
        self.excused_ms = 0  # last moment at which nobody asks anyway
        self.failures = 0
        self.told_late = 0.0  # up to which lag it was told

    @property
    def good_ms(self) -> int:
        """The last moment at which nothing was amiss with its pulls."""
        return max(self.pulled_ms, self.excused_ms)


class _New(NamedTuple):
    """A record to be kept: what matching knows it by, the deleted row in its place, whether it is used."""

    record: Told
    bank_ref: str
    old: Row | None
    used: int


class _Plan(NamedTuple):
    """What of a list is to be kept."""

    new: list[_New]
    held: dict[str, None]  # serials of ghosts
    reprinted: list[tuple[Row, int]]
    begin: str  # serial of the row before the first new one


class IcbcCollector:
    """Implements `core.deposits.collection.Collector`."""

    bank = BANK

    def __init__(self, lines: Lines, room: StatementRoom) -> None:
        self.room = room
        self.book = Book(room.db)
        settings = room.settings
        self.accounts: dict[str, str] = {number: ccy for ccy, number in settings["receiving.icbc.accounts"].items()}
        self.groups = {name: Group(name, self._line(name, exchange))
                       for name, exchange in zip(GROUPS, lines, strict=True)}
        self.route = PROD
        self.open: dict[tuple[str, str], Break] = {}  # (group, account) -> the break that was told
        self.odd: dict[str, Told] = {}  # "group:account:serial" -> a payment that was told as not taken
        self.lost: dict[str, Incident] = {}  # the like that an earlier core was told, until the bank tells this one
        self._told: dict[tuple[str, str], None] = {}  # (group, serial) of duplicates that were told
        self._refused: dict[str, None] = {}  # key of what was told as refused
        self._dates = StatementDates(settings)
        self._failures = settings["icbc.pull.failures"]
        self._route_ms = settings["icbc.route.after_s"] * MS_PER_S
        self._lags = (settings["icbc.lag.defer_s"], settings["icbc.lag.alert_s"])
        self._chain_days: int = settings["icbc.chain.days"]
        self._back_days: int = settings["icbc.pull.back_days"]
        self.alerts = IcbcAlerts(room, self._stands)
        self._standing = StandingAlerts(room.db, room.clock, room.trace)
        self.struck_tries: int = len(settings["airstar.deposit_job.delays_s"])
        room.statements.on_use[BANK] = self._used

    def _line(self, group: str, exchange: Exchange) -> IcbcLine:
        settings = self.room.settings
        identity = Identity(settings["icbc.cis"], settings["icbc.bank_code"], settings[f"icbc.user.{group}"])
        return IcbcLine(group, exchange, identity, self.room.clock, self.room.trace,
                        max_pages=settings["icbc.api.max_pages"])

    @property
    def scheduled(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        """Jobs of the timetable."""
        return {**{job: partial(self.pull, group) for job, group in _JOBS.items()},
                "IcbcPullYesterday": self.pull_yesterday}

    @property
    def handlers(self) -> Mapping[str, Any]:
        """Jobs of the queue."""
        return {ESCALATE: self.alerts.escalate}

    async def start(self, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:  # noqa: ARG002 - nothing runs
        """The cursors are the rows themselves. What was broken when an earlier core ended is told again; what is well
        again is over, though that core did not come to say so."""
        self.lost = {incident.alert_key: incident for incident in await self.alerts.open_of("ICBC-07")}
        for group in self.groups.values():
            group.excused_ms = self.room.clock.now_ms()
            for account in self.accounts:
                if await self.verify(group.name, account) is None:
                    await self.alerts.cleared("ICBC-01", f"{group.name}:{account}", "the balance chain holds")

    async def stop(self) -> None:
        """Nothing is open."""

    # Pulling

    async def pull(self, name: str) -> int:
        """What came after the last serial; whole days after a midnight. The number of rows that were kept."""
        group = self.groups[name]
        return await self._pulled(group, self._news)

    async def pull_yesterday(self) -> int:
        """The day before once more, over both lines."""
        kept, faults = 0, []
        for group in self.groups.values():
            try:
                kept += await self._pulled(group, partial(self._days, since_ms=self.now_ms() - MS_PER_DAY))
            except (OutcomeUnknown, CallFailed) as fault:  # the other line is none the worse for it
                faults.append(fault)
        if faults:
            raise faults[0]
        return kept

    async def _pulled(self, group: Group, ask: Callable[[Group, str, str], Awaitable[tuple[Listed, bool]]]) -> int:
        if self.room.calendars.maintenance(BANK, self.now_ms()).under_way:
            for one in self.groups.values():
                one.excused_ms = self.now_ms()
            return 0
        async with group.lock:
            try:
                lists = {account: await ask(group, account, ccy) for account, ccy in self.accounts.items()}
            except (OutcomeUnknown, BankFault) as fault:
                await self._failed(group, fault)
                await self._follow_route()
                raise CallFailed(str(fault)) if isinstance(fault, BankFault) else fault
            kept = 0
            for account, (listed, whole_days) in lists.items():
                for refused in listed.refused:
                    self._refuse(refused)
                records = [record for record in listed.records if self._is_of_our_time(account, record)]
                kept += await self._take(group, account, records, whole_days)
            await self._find(group)
        await self._succeeded(group)
        await self._follow_route()
        return kept

    async def _news(self, group: Group, account: str, ccy: str) -> tuple[Listed, bool]:
        last = await self.book.last(group.name, account)
        now = self.now_ms()
        begun = max(last.txn_time, now - self._back_days * MS_PER_DAY) if last else now
        if group.pulled_ms == 0 or hkt_date(group.pulled_ms) != hkt_date(now):
            return await self._days(group, account, ccy, since_ms=min(begun, group.pulled_ms or now))
        serial = last.serial if last is not None and hkt_date(last.txn_time) == hkt_date(now) else ""
        return await group.line.today(account, ccy, serial), False

    async def _days(self, group: Group, account: str, ccy: str, *, since_ms: int) -> tuple[Listed, bool]:
        return await group.line.history(account, ccy, since_ms, self.now_ms()), True

    # Keeping

    def _is_of_our_time(self, account: str, record: Told) -> bool:
        why = self._dates.wrong(record.time_ms, self.now_ms())
        if why:
            self._refuse(Refused(f"{account}:{record.serial}", record.serial, f"{record.serial}: {why}",
                                 shown(record._asdict())))
        return not why

    def _refuse(self, one: Refused) -> None:
        if one.key in self._refused:
            return
        self._refused[one.key] = None
        if len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]
        raise_alert(self.room.trace, "ICBC-06", one.key, f"{one.reason}; the bank says {one.said}")

    async def _take(self, group: Group, account: str, records: Sequence[Told], whole_days: bool) -> int:
        if not records:
            return 0
        plan = await self._plan(group, account, sorted(records), whole_days)
        if whole_days:
            await self._withdrawn(group.name, account, records)
        if not plan.new and not plan.reprinted:
            return 0
        now = self.now_ms()

        async def also(tx: Transaction) -> None:
            for record, bank_ref, old, used in plan.new:
                await self.book.keep(tx, group.name, account, record, bank_ref, now, old)
                if used:
                    await self.book.use(tx, account, bank_ref, 1, now)
            for row, balance in plan.reprinted:
                await self.book.print_balance(tx, row, balance, now)

        entries = [entry_of(account, one.record, one.bank_ref) for one in plan.new
                   if group.name == self.route and one.record.serial not in plan.held]
        await self.room.statements.take(BANK, entries, f"line {group.name}", also)
        middle = plan.reprinted or (group.name, account) in self.open
        await self.verify(group.name, account, "" if middle else plan.begin)
        await self.review(account)
        return len(plan.new)

    async def _plan(self, group: Group, account: str, records: Sequence[Told], whole_days: bool) -> _Plan:
        """What of a list is new, in the order of serials."""
        new: list[_New] = []
        known: list[tuple[Row, Told]] = []
        held: dict[str, None] = {}
        before = await self.book.preceding(group.name, account, records[0].serial)
        begin, balance = before.serial if before else "", before.close_balance if before else None
        fresh: dict[str, Told] = {}
        for record in records:
            old = await self.book.with_serial(group.name, account, record.serial)
            if old is not None and old.deleted_at is None:
                known.append((old, record))
                await self._same(group, old, record)
            elif record.serial in fresh:
                if fresh[record.serial] != record:
                    self._duplicate(group, account, record, record.serial)
            elif old is not None and old.told._replace(balance=record.balance) == record:
                continue  # we deleted it, and the bank shows it still
            elif (twin := await self.book.twin_of(group.name, account, record)) is not None:
                self._duplicate(group, account, record, twin.serial)
                two = balance is not None and balance + record.credit - record.debit == record.balance
                if two or other_payer(record, twin.told):
                    await self._odd(group.name, account, record, f"as serial {twin.serial}, and another payment by its "
                                    f"{'balance' if two else 'payer'}: not taken; likely type 3")
            else:
                fresh[record.serial] = record
                if record.balance == balance:
                    held[record.serial] = None
                bank_ref = await self.book.reference(account, record)
                new.append(_New(record, bank_ref, old, await self._is_used(account, record, bank_ref)))
                await self._say_late(group, account, record)
            balance = record.balance
        reprinted = await self._reprinted(group, account, records, known) if whole_days else []
        return _Plan(new, held, reprinted, begin)

    async def _same(self, group: Group, old: Row, record: Told) -> None:
        """The bank tells a serial again: it should be the same statement."""
        if old.told._replace(balance=record.balance) != record:
            self._duplicate(group, old.our_account, record, old.serial)
        if other_payment(old.told, record):
            await self._odd(group.name, old.our_account, record, f"in place of {show(_amount(old.told), old.ccy)} of "
                            f"{old.name or 'somebody'}: not taken; likely type 1")

    async def _reprinted(
        self, group: Group, account: str, records: Sequence[Told], known: Sequence[tuple[Row, Told]]
    ) -> list[tuple[Row, int]]:
        """Rows whose balance the bank prints otherwise now, where its list is whole and none of our rows misses."""
        changed = [(row, record.balance) for row, record in known if row.close_balance != record.balance]
        if not changed:
            return []
        first = await self.book.preceding(group.name, account, records[0].serial)
        ours = await self.book.since(group.name, account, hkt_midnight_ms(hkt_date(records[0].time_ms)))
        told = {record.serial for record in records}
        missing = any(row.deleted_at is None and row.serial not in told for row in ours)
        whole = is_whole(records, first.close_balance if first else None)
        return changed if whole and not missing else []

    async def _is_used(self, account: str, record: Told, bank_ref: str) -> int:
        """Whether the statement was used in matching before this group heard of it."""
        flow = await self._flow(account, record, bank_ref)
        return flow.is_used if flow is not None else 0

    async def _flow(self, account: str, record: Told, bank_ref: str) -> Flow | None:
        months = months_between(record.time_ms - MS_PER_DAY, record.time_ms + MS_PER_DAY)
        return await self.room.statements.by_reference(BANK, account, bank_ref, months)

    async def _used(self, tx: Questions, flow: Flow) -> None:
        await self.book.use(tx, flow.our_account, flow.bank_ref, flow.is_used, self.now_ms())

    # Feeding matching

    def _routed(self) -> str:
        prod, canary, now = self.groups[PROD], self.groups[CANARY], self.now_ms()
        silent = now - prod.good_ms >= self._route_ms
        heard = prod.good_ms < canary.pulled_ms and now - canary.pulled_ms < self._route_ms
        return CANARY if silent and heard else PROD

    async def _follow_route(self) -> None:
        """Let the other group's flows feed matching where A-64 says so, and what it has kept meanwhile."""
        routed = self._routed()
        if routed != self.route:
            self.route = routed
            self.log(routed, f"routing: matching reads the flows of {routed}")
            for account in self.accounts:
                await self.feed(account)

    async def feed(self, account: str) -> int:
        """Give matching what the routed group has kept and nobody has taken yet."""
        chain = await self.book.chain(self.route, account, self.window_ms())
        ghosts = ghosts_among(chain, await self.book.anchors(self.route, account))
        entries = [entry_of(account, row.told, row.bank_ref) for row in chain if row.id not in ghosts]
        taken = await self.room.statements.take(BANK, entries, f"routed {self.route}")
        return taken.accepted

    # Payments that the bank proves and nobody has taken (ICBC-07)

    async def _odd(self, group: str, account: str, record: Told, why: str) -> None:
        key = f"{group}:{account}:{record.serial}"
        if record.credit and key not in self.odd and not await self._is_taken(group, account, record):
            await self._tell_odd(key, record, f"serial {record.serial}, {show(_amount(record), record.ccy)} of "
                                              f"{record.name or 'somebody'}, is told {why}")

    async def _tell_odd(self, key: str, record: Told, detail: str) -> None:
        self.odd[key] = record
        self.lost.pop(key, None)
        await self.alerts.raised("ICBC-07", key, detail)

    async def _find(self, group: Group) -> None:
        """Ask for the payments of `lost` that this pull has not told again. In silence they stay lost, and stand."""
        for key, incident in [*self.lost.items()]:
            name, account, serial = key.split(":")
            if name != group.name or account not in self.accounts:
                continue
            since = incident.opened_at - self._back_days * MS_PER_DAY
            try:
                listed = await group.line.history(account, self.accounts[account], since, incident.opened_at)
            except (OutcomeUnknown, BankFault):
                return
            for refused in listed.refused:
                self._refuse(refused)
            there = [one for one in listed.records if one.serial == serial and one.credit]
            missing = [one for one in there if not await self._is_taken(name, account, one)]
            if missing:
                await self._tell_odd(key, missing[0], incident.detail)
            elif there:
                await self._settled(key, "it has been taken")
            elif all(refused.serial for refused in listed.refused):  # else it may be the one without a serial
                await self._settled(key, "the bank shows no such statement any more")

    async def _is_taken(self, group: str, account: str, record: Told) -> bool:
        """Whether matching has this payment, over whichever line or by emergency, and no other stands in its place."""
        row = await self.book.with_serial(group, account, record.serial)
        if row is not None and row.deleted_at is None and other_payment(row.told, record):
            return False
        flow = await self._flow(account, record, await self.book.reference(account, record))
        return flow is not None and flow.status != VOID and not other_payment(_told(flow), record)

    async def review(self, account: str) -> None:
        """Clear what has been taken by now."""
        for key, record in [*self.odd.items()]:
            group, of, _ = key.split(":")
            if of == account and await self._is_taken(group, account, record):
                await self._settled(key, "it has been taken")

    async def _withdrawn(self, group: str, account: str, records: Sequence[Told]) -> None:
        """Clear what the bank's list of whole days shows no more."""
        since = hkt_midnight_ms(hkt_date(min(record.time_ms for record in records)))
        for key, record in [*self.odd.items()]:
            gone = not any(one.serial == record.serial and not other_payment(one, record) for one in records)
            if key == f"{group}:{account}:{record.serial}" and record.time_ms >= since and gone:
                await self._settled(key, "the bank shows it no more")

    async def _settled(self, key: str, why: str) -> None:
        self.odd.pop(key, None)
        self.lost.pop(key, None)
        await self.alerts.cleared("ICBC-07", key, why)

    # The chain

    def window_ms(self) -> int:
        """From when on chains are verified."""
        return hkt_midnight_ms(hkt_date(self.now_ms())) - (self._chain_days - 1) * MS_PER_DAY

    async def verify(self, group: str, account: str, begin: str = "") -> Break | None:
        """Verify a chain, from a serial on if nothing before it is in doubt; raises or clears the group's alert."""
        rows = await (self.book.after(group, account, begin) if begin else
                      self.book.chain(group, account, self.window_ms()))
        found = breaks_of(rows, await self.book.anchors(group, account))
        broken = found[0] if found else None
        known = self.open.get((group, account))
        if broken is not None and (known is None or known.row.id != broken.row.id):
            self.open[group, account] = broken
            await self._say_broken(group, account, broken)
        elif broken is None and known is not None:
            del self.open[group, account]
            self.log(group, f"balance chain of {account} restored")
            await self.alerts.cleared("ICBC-01", f"{group}:{account}", "the balance chain holds again")
        return broken

    async def _stands(self, incident: Incident) -> bool:
        """Whether what was told is still so: the chain is verified again; a line that has answered since is well."""
        if incident.rule == "ICBC-02":
            return self.groups[incident.alert_key].pulled_ms <= incident.opened_at
        if incident.rule == "ICBC-07":
            if incident.alert_key not in self.odd:  # an earlier core was told: the next pull asks the bank
                self.lost[incident.alert_key] = incident
                return True
            await self.review(incident.alert_key.split(":")[1])
            return incident.alert_key in self.odd
        group, _, account = incident.alert_key.rpartition(":")
        return any([await self.verify(one, account) is not None for one in ((group,) if group else GROUPS)])

    async def _say_broken(self, group: str, account: str, broken: Break) -> None:
        row, ccy = broken.row, broken.row.ccy
        self.log(group, f"balance mismatch: flow_id {row.id}, serial {row.serial}: close_balance "
                        f"{show(row.close_balance, ccy)}, expected {show(broken.expected, ccy)}")
        if broken.first_of_day:
            self.log(group, f"missing T-1: {show(row.close_balance - broken.expected, ccy)} before serial {row.serial}")
        types = await self.suggest(account)
        await self.alerts.raised("ICBC-01", f"{group}:{account}",
                                 f"flow_id {row.id}: close_balance {show(row.close_balance, ccy)} instead of "
                                 f"{show(broken.expected, ccy)}; likely type {' or '.join(map(str, types))}",
                                 f"{row.id}")

    async def suggest(self, account: str) -> tuple[int, ...]:
        """The incident types that the alerts of an account suggest now."""
        broken = {group: found for (group, of), found in self.open.items() if of == account}
        boundary = bool(broken) and all(found.first_of_day for found in broken.values())
        return suggested(broken, first_of_day=boundary, differences=await self.compare(account))

    async def compare(self, account: str, since_ms: int | None = None) -> list[Compared]:
        """The statements of both groups of the day, or from a moment on, sorted by ``created_at``."""
        since = hkt_midnight_ms(hkt_date(self.now_ms())) if since_ms is None else since_ms
        prod, canary = await self._live(PROD, account, since), await self._live(CANARY, account, since)
        return compared(prod, canary, self.groups[CANARY].pulled_ms)

    async def _live(self, group: str, account: str, since_ms: int) -> list[Row]:
        return [row for row in await self.book.since(group, account, since_ms) if row.deleted_at is None]

    # What is noticed

    def now_ms(self) -> int:
        return self.room.clock.now_ms()

    def log(self, group: str, text: str) -> None:
        """One line of the service's log."""
        self.room.trace.emit("log", BANK, {"service": SERVICE, "group": group, "text": text})

    def _duplicate(self, group: Group, account: str, record: Told, other: str) -> None:
        if (group.name, record.serial) not in self._told:
            self._told[group.name, record.serial] = None
            self.log(group.name, f"duplicate flow: serial {record.serial} and {other} of {account}, "
                                 f"same remarks {record.remark!r}, {show(record.credit or record.debit, record.ccy)}")

    async def _say_late(self, group: Group, account: str, record: Told) -> None:
        last = await self.book.last(group.name, account)
        if last is not None and record.serial < last.serial and hkt_date(record.time_ms) < hkt_date(self.now_ms()):
            self.log(group.name, f"late push: serial {record.serial} of T-1 came after {last.serial}")

    async def _failed(self, group: Group, fault: Exception) -> None:
        group.failures += 1
        word = "connection refused" if "Connect" in str(fault) else "timeout"
        self.log(group.name, f"{word if isinstance(fault, OutcomeUnknown) else 'unusable answer'}: {fault}")
        # An earlier core may have raised it.
        if group.failures == self._failures and not await self.alerts.is_open("ICBC-02", group.name):
            await self.alerts.raised("ICBC-02", group.name, f"{group.failures} pulls in a row failed: {fault}")
        await self._watch_lag()

    async def _succeeded(self, group: Group) -> None:
        if group.failures >= self._failures or not group.pulled_ms:  # an earlier core may have raised it
            await self.alerts.cleared("ICBC-02", group.name, "pulled again")
        group.failures, group.pulled_ms = 0, self.now_ms()
        if group.name == CANARY:  # a lag that is excused has not ended
            await self._standing.cleared("ICBC-03", CANARY, "the canary pulls again")
        await self._watch_lag()

    async def _watch_lag(self) -> None:
        """Say once when the canary is more than five minutes behind, and once at ten."""
        canary = self.groups[CANARY]
        lag_s = (self.now_ms() - canary.good_ms) / MS_PER_S
        defer_s, alert_s = self._lags
        if lag_s < defer_s:
            canary.told_late = 0.0
        elif lag_s > alert_s >= canary.told_late:
            self._say_lag(canary, lag_s)
            await self._standing.raised("ICBC-03", CANARY, f"canary lag {lag_s:.0f} s")
        elif canary.told_late == 0:
            self._say_lag(canary, lag_s)

    def _say_lag(self, canary: Group, lag_s: float) -> None:
        canary.told_late = lag_s
        self.log(CANARY, f"canary lag, sync delay {lag_s:.0f} s")


def _amount(record: Told) -> int:
    return record.credit or record.debit


def _told(flow: Flow) -> Told:
    """A flow as a line would have told it."""
    credit, debit = (flow.amount, 0) if flow.dr_cr == "C" else (0, flow.amount)
    return Told(flow.seq_no, flow.credit_time, flow.ccy, credit, debit, flow.balance or 0, flow.remark, flow.en_name,
                flow.payer_acct)


def entry_of(account: str, record: Told, bank_ref: str) -> Entry:
    """A record in the platform's words; ``bank_ref``: its serial, or what it is known by in its place."""
    return Entry(BANK, account, bank_ref, record.ccy, _amount(record), "C" if record.credit else "D", record.time_ms,
                 record.serial, record.balance, record.name, record.account, record.remark)
