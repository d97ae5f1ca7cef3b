"""BOCHK's S16 reports: fetched by FTP around the clock, correlated with the statement, watched.

* A file is fetched when its stamp is new: names come again every day. A file that still breaks off is asked for again;
  one that is garbled, contradicts its own trailer or its name, or is of S14 is refused whole, with line and reason
  (S16-04), and nothing of it is used. A record of another time, or with a character that no text may have, is refused
  by itself.
* A record and a statement entry are the same if the record's reference, without its first five characters and leading
  zeros, is the entry's seq_no without leading zeros, on the same account. The bank may count anew, and the entry may
  come hours after the report: so currency, direction and amount must agree too, and the moment to some minutes; else a
  payment would get the account of another.
* The entry gets balance and account number, and the name if it has none (BOCHK-S16-02, -03). One record tells of one
  entry: a record that names another payer than the entry does, or whose entry has a record already, and records of
  different payers that claim one entry, change nothing and are told (S16-02).
* A record is known by account, reference and moment. Told again with another payer or movement, it is told (S16-02).
  What the bank says last counts as long as no harm is done: for a record that has no entry yet, all of it; for one that
  has, the payer, if the entry is unmatched and has its payer from this very record. Else people decide, and the entry
  stays as it is. What a report leaves empty takes nothing away.
* S16-02 tells of a reference that can name no entry at once, and of one that has found none when `uncorrelated_s` have
  passed *and* the statements of its time have been converted: with three conversions a day (A-50) most reports are here
  hours before their statements, and that is no failure.
* Workers meet in the database: what is read and then changed is changed only if it is still as it was read, a record
  and its entry in one transaction. Who comes too late changes nothing and looks again.
* What is refused or told is told just before the commit that settles it: a core killed between the two leaves it to the
  next one to settle, and to tell again. So it is told twice at worst, and never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from core.alerts import clear_alert, raise_alert
from core.banks.bochk import BANK, S16File, S16Files
from core.clock import MS_PER_DAY, MS_PER_S, US_PER_MS, show_time
from core.deposits.collection import StatementRoom
from core.deposits.crossing import Crossed, uncrossed
from core.deposits.matching.rules import WHOLE, account_kind
from core.deposits.statement_dates import StatementDates
from core.deposits.statements import ABNORMAL, FIND, LOCKED, OPEN, VOID, Flow, month_of, months_between
from core.errors import OutcomeUnknown
from core.screening.names import fold_name, fold_number, similarity
from core.storage import Sharded, Statement, Transaction, bank_month, ensure_flow_table, upsert
from core.storage.primary import bank_flows, statement_flows
from core.storage.primary import bochk_s16_file as _F
from core.storage.primary import bochk_s16_record as _R
from core.storage.standing import StandingAlerts
from core.wire.bochk_s16 import PartialReport, Record, Refused, Report, S16Error, decode, lined, parse_name, seq_of

WAITING, OVERDUE, DONE, REFUSED = "WAITING", "OVERDUE", "DONE", "REFUSED"
TAKEN: Final = "TAKEN"
UNMATCHED: Final = (*OPEN, ABNORMAL)
"""Statuses of an entry that nobody has been credited for, if it is unused."""
_WINDOW: Final = "bochk_ftp"

NEW_FILE = Statement(upsert(_F, key=("name", "stamp"), update=("state", "records", "reason", "raw")))
KNOWN_FILES = Statement(select(_F.c.name, _F.c.stamp, _F.c.account, _F.c.state, _F.c.created_at).where(
    _F.c.created_at >= bindparam("since")).order_by(_F.c.created_at))
NEW_RECORD = Statement(insert(_R))
KNOWN_RECORD = Statement(select(*_R.columns).where(
    _R.c.our_account == bindparam("account"), _R.c.reference == bindparam("reference"),
    _R.c.txn_time == bindparam("at")))
LOOSE = Statement(select(*_R.columns).where(
    or_(_R.c.state == WAITING, _R.c.state == OVERDUE), _R.c.txn_time >= bindparam("since")).order_by(_R.c.id))
LATE = Statement(select(*_R.columns).where(
    _R.c.state == WAITING, _R.c.created_at < bindparam("received"), _R.c.txn_time < bindparam("converted"))
    .order_by(_R.c.id))
_TOLD: Final = ("ccy", "amount", "dr_cr", "balance", "name", "account", "remark")
_AS_READ: Final = and_(_R.c.id == bindparam("b_id"), *(
    _R.c[name] == bindparam(f"b_{name}") for name in ("state", *_TOLD)))
SETTLE = Statement(update(_R).where(_AS_READ).values(
    state=bindparam("state"), flow_id=bindparam("flow_id"), updated_at=bindparam("updated_at")))
OWNER = Statement(select(_R.c.reference).where(
    _R.c.flow_id == bindparam("flow_id"), _R.c.our_account == bindparam("account"), _R.c.state == DONE).limit(1))
CORRECT = Statement(update(_R).where(_AS_READ).values(
    {name: bindparam(name) for name in (*_TOLD, "updated_at")}))
RAW_NAME = Statement(select(bank_flows[BANK].c.name).where(bank_flows[BANK].c.id == bindparam("id")))
BY_SEQ = Sharded(lambda t: select(*(t.c[name] for name in Flow._fields)).where(
    t.c.credit_time >= bindparam("since"), t.c.credit_time < bindparam("until"),
    t.c.our_account == bindparam("account"), t.c.seq_no == bindparam("seq_no")), statement_flows)
"""By the index of the moment: the table is of one bank, and to name it would have its whole month searched instead."""
NEWEST = Sharded(lambda t: select(func.max(t.c.id)), statement_flows)
UNNAMED = Sharded(lambda t: select(t.c.id, t.c.bank_ref, t.c.created_at).where(and_(
    t.c.status.in_(OPEN), t.c.en_name == "", t.c.dr_cr == "C", t.c.created_at < bindparam("before")))
    .order_by(t.c.id), statement_flows)
NAMED = Sharded(lambda t: select(t.c.bank_ref, func.length(t.c.en_name), t.c.status).where(
    t.c.id == bindparam("id")), statement_flows)


class Loose(NamedTuple):
    """A row of ``bochk_s16_record``."""

    id: int
    our_account: str
    reference: str
    seq_no: str
    txn_time: int
    ccy: str
    amount: int
    dr_cr: str
    balance: int
    name: str
    account: str
    remark: str
    state: str
    flow_id: int | None
    created_at: int
    updated_at: int


def _as_read(record: Loose) -> dict[str, Any]:
    """The record as it must still be if it is to be changed."""
    return {f"b_{name}": getattr(record, name) for name in ("id", "state", *_TOLD)}


def contradiction(flow: Flow, record: Loose, same_name: float) -> str:
    """How a record names another payer than the entry that it tells of does; "" if it does not. ``same_name``: from
    which similarity on two names are one."""
    one, other = fold_name(flow.en_name), fold_name(record.name)
    if one and other and one != other and similarity(one, other) < same_name:
        return f"it is {flow.en_name!r}'s, not {record.name!r}'s"
    ours, told = fold_number(flow.payer_acct), fold_number(record.account)
    if account_kind(ours) == account_kind(told) == WHOLE and ours != told:
        return f"it came from {flow.payer_acct}, not from {record.account}"
    return ""


class S16Room:
    """The S16 side of one core's collection from BOCHK. ``over_line``: the files come from the bank's server, so what
    can be fetched shows that the line is well."""

    def __init__(self, files: S16Files, room: StatementRoom, accounts: dict[str, str], *, over_line: bool = False,
                 ) -> None:
        self._files, self._room, self._over_line = files, room, over_line
        self._standing = StandingAlerts(room.db, room.clock, room.trace)
        self._accounts = dict.fromkeys(accounts.values())
        settings = room.settings
        self._rollback: bool = settings["bochk.s16.s14_rollback"]
        self._same_name: float = settings["match.name_similarity"]
        self._apart_ms = settings["bochk.s16.apart_s"] * MS_PER_S
        self._dates = StatementDates(settings)
        self._tables: dict[int, str] = {}
        self._known: dict[str, str] = {}
        self._partial: dict[str, str] = {}
        self._last: dict[str, int] = {}
        self._due = True  # what an earlier core took, or a round cut short left, is to be correlated
        self._newest: dict[int, int] = {}  # month -> id of its newest entry, when the last round looked
        self._lonely: dict[int, Loose] = {}  # id -> record as it was then, without its one entry
        self._converted_ms = 0
        self._failures = 0

    async def begin(self, converted_ms: int) -> None:
        """Take up where an earlier core has stopped."""
        self._converted_ms = converted_ms
        asked = {"since": self._remembered_ms()}
        for name, stamp, account, state, created_at in await self._room.db.all(KNOWN_FILES, asked):
            self._known[name] = stamp
            if state == TAKEN:
                self._last[account] = created_at

    def _now(self) -> int:
        return self._room.clock.now_ms()

    def _remembered_ms(self) -> int:
        """Files and records from before are done with, whatever became of them."""
        return self._now() - int(self._room.settings["bochk.s16.remembered_days"]) * MS_PER_DAY

    def _open(self) -> bool:
        return self._room.calendars.bank_gate(_WINDOW, self._now()).open

    # Fetching

    async def pull(self) -> int:
        """Fetch new files, take them, correlate; gives the number of files. Outside the bank's hours a refusal is
        what is expected, and no failure (BOCHK-S16-08)."""
        began_us = self._room.clock.now_us()
        self._tell("bank.request", 0, "")
        try:
            fetched = await self._files.fetch(self._new)
        except OutcomeUnknown as silence:
            self._tell("bank.reply", began_us, "UNKNOWN")
            if self._open():
                await self._failed(silence)
                raise
            return 0
        self._tell("bank.reply", began_us, "ACCEPTED")
        await self._succeeded()
        for file, content in fetched:
            await self._take(file, content)
        if fetched or self._due:
            await self._correlate()
        return len(fetched)

    def _new(self, listed: Sequence[S16File]) -> list[S16File]:
        """Files of ours that we have not got as they are now; those of S14 are refused by name."""
        wanted = []
        for file in listed:
            name = parse_name(file.name)
            if name is None or name.account not in self._accounts or self._known.get(file.name) == file.stamp:
                continue
            if name.report == "S14" and not self._rollback:
                self._known[file.name] = file.stamp
                raise_alert(self._room.trace, "S16-04", file.name, "an S14 report: S16 is what we take")
                continue
            wanted.append(file)
        return wanted

    async def _take(self, file: S16File, content: bytes) -> None:
        name = parse_name(file.name)
        assert name is not None, file  # `_new` has picked it
        try:
            report = decode(content, name.report)
            if (report.account, report.period) != (name.account, name.period):
                raise S16Error(f"the header is that of {report.account}, period {report.period}", 1)
        except PartialReport as cut:
            if self._partial.get(file.name) == file.stamp:  # as it was ten minutes ago: nobody is writing it any more
                await self._refuse(file, name.account, content, cut)
            self._partial[file.name] = file.stamp
            return
        except S16Error as wrong:
            await self._refuse(file, name.account, content, wrong)
            return
        await self._keep(file, self.of_our_time(report), content)

    async def _refuse(self, file: S16File, account: str, content: bytes, why: S16Error) -> None:
        """Nothing of it is used; it is kept for people, and fetched again when the bank has written it again."""
        raise_alert(self._room.trace, "S16-04", file.name, str(why))
        async with self._room.db.transaction() as tx:
            await self._note(tx, file, account, REFUSED, 0, str(why), content)
        self._known[file.name] = file.stamp

    async def _keep(self, file: S16File, report: Report, content: bytes) -> None:
        for one in report.refused:
            raise_alert(self._room.trace, "S16-04", f"{file.name}:{one.line}",
                        f"line {one.line}: {one.reason}; the bank says {one.said}")
        await uncrossed(lambda: self._keep_records(file, report, content))
        self._known[file.name] = file.stamp
        self._partial.pop(file.name, None)
        self._last[report.account] = self._now()

    async def _keep_records(self, file: S16File, report: Report, content: bytes) -> None:
        """The file and its records, all or none; `Crossed` if one was changed while it was looked at."""
        amiss = list[tuple[str, str]]()
        async with self._room.db.transaction() as tx:
            await self._note(tx, file, report.account, TAKEN, len(report.records), "", content)
            for record in report.records:
                why = await self._keep_record(tx, report.account, record)
                if why:
                    amiss.append((record.reference, why))
            for reference, why in amiss:
                self._uncorrelated(report.account, reference, why)

    def of_our_time(self, report: Report) -> Report:
        """The report, with those of its movements refused that can be of no entry."""
        told = [(line, record, self._dates.wrong(record.at_ms, self._now())) for line, record in lined(report)]
        refused = [Refused(line, why, f"{record.reference} of {show_time(record.at_ms)}")
                   for line, record, why in told if why]
        return report._replace(records=tuple(record for _, record, why in told if not why),
                               refused=(*report.refused, *refused))

    async def _keep_record(self, tx: Transaction, account: str, record: Record) -> str:
        """Keep a record once; what people are to be told of it, "" if nothing."""
        known = {"account": account, "reference": record.reference, "at": record.at_ms}
        told = {"ccy": record.ccy, "amount": record.amount, "dr_cr": record.dr_cr, "balance": record.balance,
                "name": record.name[:140], "account": record.remitter[:64], "remark": record.remark[:500]}
        row = await tx.first(KNOWN_RECORD, known)
        if row is not None:
            return await self._told_again(tx, Loose(*row), told)
        seq_no, now = seq_of(record.reference), self._now()
        await tx.execute(NEW_RECORD, {
            "our_account": account, "reference": record.reference, "seq_no": seq_no or "", "txn_time": record.at_ms,
            **told, "state": REFUSED if seq_no is None else WAITING, "flow_id": None, "created_at": now,
            "updated_at": now})
        return "the reference names no seq_no" if seq_no is None else ""

    async def _told_again(self, tx: Transaction, known: Loose, told: dict[str, Any]) -> str:
        """A report was made anew: what it corrects is told, and taken over where that does no harm."""
        told = told | {name: told[name] or getattr(known, name) for name in ("name", "account")}
        to = known._replace(**told)
        changed = [f"{name} {getattr(known, name)!r} is {told[name]!r} now"
                   for name in ("ccy", "amount", "dr_cr", "name", "account") if getattr(known, name) != told[name]]
        if not changed or known.state == REFUSED:
            return ""
        done = f"no entry had it yet: {known.reference} is taken as told now"
        if known.state == DONE:
            flow = await self._renamed(tx, known, to)
            done = f"{flow.bank_ref} is unmatched and has it from now on" if flow is not None else ""
        if done and not await tx.execute(CORRECT, {**_as_read(known), **told, "updated_at": self._now()}):
            raise Crossed
        if done and known.state != OVERDUE:
            tx.after_commit(lambda: clear_alert(self._room.trace, "S16-02", _key(known), done))
        return f"told again otherwise: {', '.join(changed)}" + (
            "" if done else "; what was taken stays: people decide")

    async def _renamed(self, tx: Transaction, known: Loose, to: Loose) -> Flow | None:
        """The entry with the payer that its record names now; None if it keeps the one it has."""
        assert known.flow_id is not None, known
        row = await tx.first(FIND[bank_month(BANK, month_of(known.flow_id))], {"b_id": known.flow_id})
        flow = Flow(*row) if row else None
        same = (known.ccy, known.amount, known.dr_cr) == (to.ccy, to.amount, to.dr_cr)
        if flow is None or not same or flow.is_used or flow.status not in UNMATCHED or (
                flow.payer_acct != known.account):
            return None
        raw = await tx.first(RAW_NAME, {"id": flow.raw_id})
        ours = raw is not None and not raw[0]  # the statement itself named nobody
        if not ours and contradiction(flow._replace(payer_acct=""), to, self._same_name):
            return None
        named = await self._room.statements.change(
            tx, flow, en_name=to.name if ours else flow.en_name, payer_acct=to.account, balance=to.balance)
        if named is not None:
            self._room.statements.publish(tx, named, "S16")
        return named

    async def _note(self, tx: Transaction, file: S16File, account: str, state: str, records: int, reason: str,
                    content: bytes) -> None:
        await tx.execute(NEW_FILE, {
            "name": file.name, "stamp": file.stamp, "account": account, "state": state, "records": records,
            "reason": reason[:255], "raw": content.decode("utf-8", "backslashreplace"), "created_at": self._now()})

    # Correlating

    async def statements_until(self, converted_ms: int) -> None:
        """Statements pulled up to this moment have been converted: what waited for them may find them now."""
        self._converted_ms = converted_ms
        await self._correlate()

    async def _correlate(self) -> None:
        """One round: what is new, changed or may have an entry now."""
        self._due = False
        try:
            for claim in (await self._claims()).values():
                payers = dict.fromkeys((record.name, record.account) for record, _ in claim)
                why = f"{len(claim)} records of different payers tell of it" if len(payers) > 1 else ""
                for record, flow in claim:
                    await self._settle(record, flow, why)
        except BaseException:
            self._due = True
            raise

    async def _claims(self) -> dict[int, list[tuple[Loose, Flow]]]:
        """Entry -> records without one that tell of it. A record that had none is not asked about again while it is as
        it was and no entry has come: what tells entries apart never changes."""
        newest = await self._newest_entries()  # before the records: what comes meanwhile is newer next time
        asked = self._lonely if newest == self._newest else {}
        lonely: dict[int, Loose] = {}
        claims: dict[int, list[tuple[Loose, Flow]]] = {}
        for row in await self._room.db.all(LOOSE, {"since": self._remembered_ms()}):
            record = Loose(*row)
            flow = None if asked.get(record.id) == record else await self._entry_of(record)
            if flow is None:
                lonely[record.id] = record
            else:
                claims.setdefault(flow.id, []).append((record, flow))
        self._newest, self._lonely = newest, lonely
        return claims

    async def _newest_entries(self) -> dict[int, int]:
        """Month -> id of its newest entry; ids grow in the order of the commits, whichever core converts."""
        found: dict[int, int] = {}
        for month in await self._room.statements.open_months(BANK):
            row = await self._room.db.first(NEWEST[await self._table(month)], {})
            found[month] = row[0] if row and row[0] else 0
        return found

    async def _settle(self, record: Loose, claimed: Flow, why: str) -> None:
        """Supplement an entry by its record, unless something speaks against it, all seen under the entry's lock."""
        try:
            async with self._room.db.transaction() as tx:
                row = await tx.first(LOCKED[bank_month(BANK, month_of(claimed.id))], {"b_id": claimed.id})
                assert row is not None, claimed
                flow = Flow(*row)
                owner = await tx.first(OWNER, {"flow_id": flow.id, "account": record.our_account})
                why = (f"it has the record {owner[0]} already" if owner
                       else why or contradiction(flow, record, self._same_name))
                if not why:
                    await self._supplement(tx, record, flow)
                elif record.state == WAITING:
                    await self._overdue(tx, record, f"{flow.bank_ref}: {why}; nothing is taken over")
        except Crossed:
            self._due = True

    async def _entry_of(self, record: Loose) -> Flow | None:
        """The one entry that the record tells of; None if there is none, or no telling which."""
        since, until = record.txn_time - self._apart_ms, record.txn_time + self._apart_ms + 1
        found = [flow for flow in await self._with_seq(record, since, until)
                 if (flow.ccy, flow.dr_cr, flow.amount) == (record.ccy, record.dr_cr, record.amount)]
        return found[0] if len(found) == 1 else None

    async def _with_seq(self, record: Loose, since: int, until: int) -> list[Flow]:
        found: list[Flow] = []
        for month in months_between(since, until):
            rows = await self._room.db.all(BY_SEQ[await self._table(month)], {
                "since": since, "until": until, "account": record.our_account, "seq_no": record.seq_no})
            found += [Flow(*row) for row in rows]
        return found

    async def _supplement(self, tx: Transaction, record: Loose, flow: Flow) -> None:
        statements = self._room.statements
        to = await statements.change(tx, flow, balance=record.balance, payer_acct=record.account or flow.payer_acct,
                                     en_name=flow.en_name or record.name)
        if to is None or not await tx.execute(SETTLE, {
                **_as_read(record), "state": DONE, "flow_id": flow.id, "updated_at": self._now()}):
            raise Crossed
        statements.publish(tx, to, "S16")
        if record.state == OVERDUE:
            tx.after_commit(lambda: clear_alert(self._room.trace, "S16-02", _key(record), f"it is {flow.bank_ref}"))

    async def _table(self, month: int) -> str:
        """The suffix of a month's table, which exists from now on."""
        if month not in self._tables:
            self._tables[month] = await ensure_flow_table(self._room.db, BANK, month)
        return self._tables[month]

    # Watching (S16Monitor, every minute; evaluated in the bank's hours only, A-63)

    async def watch(self) -> None:
        """Delay, correlation, names."""
        gate = self._room.calendars.bank_gate(_WINDOW, self._now())
        if not gate.open:
            return
        await self._watch_delay(gate.opens_ms)
        await self._watch_correlation()
        if self._now() - gate.opens_ms > self._room.settings["bochk.s16.delay_s"] * MS_PER_S:
            await self._watch_names()

    async def _watch_delay(self, opened_ms: int) -> None:
        """What stands is over with the next report, and not because the bank has opened again."""
        for account in self._accounts:
            since = max(self._last.get(account, 0), opened_ms)
            late = self._now() - since > self._room.settings["bochk.s16.delay_s"] * MS_PER_S
            if late:
                await self._standing.raised("S16-01", account, f"no new report since {show_time(since)}")
            elif self._last.get(account, 0) == since:
                await self._standing.cleared("S16-01", account, f"a report came at {show_time(since)}")

    async def _watch_correlation(self) -> None:
        received = self._now() - self._room.settings["bochk.s16.uncorrelated_s"] * MS_PER_S
        asked = {"received": received, "converted": self._converted_ms}
        for record in (Loose(*row) for row in await self._room.db.all(LATE, asked)):
            with suppress(Crossed):
                async with self._room.db.transaction() as tx:
                    await self._overdue(tx, record, f"no statement of {show_time(record.txn_time)}")

    async def _overdue(self, tx: Transaction, record: Loose, why: str) -> None:
        if not await tx.execute(SETTLE, {
                **_as_read(record), "state": OVERDUE, "flow_id": None, "updated_at": self._now()}):
            raise Crossed
        self._uncorrelated(record.our_account, record.reference, why)

    def _uncorrelated(self, account: str, reference: str, why: str) -> None:
        raise_alert(self._room.trace, "S16-02", f"{account}:{reference}", why)

    async def _watch_names(self) -> None:
        before = self._now() - self._room.settings["bochk.s16.unnamed_s"] * MS_PER_S
        told = dict.fromkeys(await self._standing.keys("S16-03"))
        for key in told:
            flow_id = int(key[1:])
            row = await self._room.db.first(NAMED[await self._table(month_of(flow_id))], {"id": flow_id})
            reference, named, status = (key, 0, VOID) if row is None else row
            if named or status not in OPEN:
                await self._standing.cleared("S16-03", key, f"{reference} has a name, or needs none")
        for month in await self._room.statements.open_months(BANK):
            for flow_id, reference, kept in await self._room.db.all(
                    UNNAMED[await self._table(month)], {"before": before}):
                if f"F{flow_id}" not in told:
                    await self._standing.raised("S16-03", f"F{flow_id}",
                                                f"{reference} has no name since {show_time(kept)}")

    # Telling

    async def _failed(self, why: Exception) -> None:
        self._failures += 1
        if self._failures >= self._room.settings["bochk.b2e.alert_after"]:
            await self._standing.raised("BOCHK-01", "S16", str(why))

    async def _succeeded(self) -> None:
        self._failures = 0
        if self._over_line:
            await self._standing.cleared("BOCHK-01", "S16", "the files can be fetched again")

    def _tell(self, kind: str, began_us: int, outcome: str) -> None:
        data: dict[str, Any] = {"bank": BANK, "message": "S16", "ref": "S16", "request_id": "", "attempt": 1,
                                "outcome": outcome, "code": 0, "ms": 0}
        if began_us:
            data["ms"] = (self._room.clock.now_us() - began_us) // US_PER_MS
        self._room.trace.emit(kind, "S16", data)


def _key(record: Loose) -> str:
    return f"{record.our_account}:{record.reference}"
