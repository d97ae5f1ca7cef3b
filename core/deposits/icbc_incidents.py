"""What people do about ICBC's alerts: compare, run the script, delete ghosts, set a balance, credit by emergency.

Rules (tasks-and-monitoring.md §4.4; gaps.md B-21), before any code:

* Every change of ``icbc_bank_flow`` is SQL that is written down first and carried out as it is written, in one
  transaction with the record of it (``icbc_script``).
* The alert handling script (type 1) asks the bank, each group over its own line. What it kept and the bank has no more
  was refunded, unless it was never in the chain (a ghost: type 4); so was what the bank shows as another payment now.
  It needs a later statement in both groups; without one it stalls (type 2) and changes nothing.
* Balances that were printed while the refunded statement stood are corrected, in a group that never heard of it too,
  and also those that came only after the script had run.
* A refunded statement that matching used opens a refund record (A-29) and undoes what may be undone by a machine; one
  that it did not is VOID.
* A statement that was used is never deleted as a ghost, nor one that the bank still shows.
* An emergency credit names the person and the reason, and the bank's serial: if the line brings it after all, it is
  known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from sqlalchemy import Update, update

from core.alerts import raise_alert
from core.banks.icbc import BANK, CANARY, GROUPS, PROD, Listed, Refused, Told
from core.clock import MS_PER_DAY
from core.deposits.abnormal_list import close_abnormal
from core.deposits.collect_icbc import IcbcCollector, entry_of
from core.deposits.icbc_flows import (
    NEW_SCRIPT,
    REFUNDED,
    Row,
    Shift,
    ghosts_among,
    next_reference,
    other_payment,
    serial_of,
    shifts_of,
)
from core.deposits.matching.links import was_released
from core.deposits.statements import STRUCK, VOID, Flow, months_between
from core.domain import Role
from core.errors import BankFault, Code, OutcomeUnknown, Refusal
from core.money import show
from core.orchestration.records import Actor
from core.statement import Entry
from core.storage import Statement, Transaction
from core.storage.primary import icbc_bank_flow

MAY: Final[dict[str, tuple[Role, ...]]] = {
    "run_script": (Role.ON_DUTY, Role.SUPERVISOR, Role.TECH_OPS),
    "delete_ghosts": (Role.SUPERVISOR, Role.TECH_OPS),
    "set_close_balance": (Role.SUPERVISOR, Role.TECH_OPS),
    "emergency_credit": (Role.SUPERVISOR,),
}
"""Action -> roles (gaps.md B-21, B-30; the runbook's first responder runs the script)."""

DONE, NOTHING, STALLED, UNRESOLVED = "DONE", "NOTHING", "REFUND_SCRIPT_STALLED", "UNRESOLVED"


class Handled(NamedTuple):
    """What the script did. ``result``: DONE (the chains hold again), NOTHING (nothing was refunded),
    REFUND_SCRIPT_STALLED or UNRESOLVED (done, and a chain is broken still)."""

    result: str
    detail: str
    serials: tuple[str, ...] = ()
    script: str = ""


class _Moved(Exception):
    """A statement was used or changed while it was looked at: nothing is done."""


class _Unreadable(Exception):
    """A record at the bank that could be any of our rows: what is gone cannot be told."""

    def __init__(self, group: str, record: Refused) -> None:
        super().__init__(f"{group}: {record.reason}; its serial, and time or amounts, cannot be read: it could be any "
                         "statement; ask the bank what it is, and to tell it anew")
        self.group, self.record = group, record


class IcbcIncidents:
    """The runbook's steps on one collector."""

    def __init__(self, collector: IcbcCollector) -> None:
        self.collector = self._collector = collector
        self._book = collector.book
        self._db, self._statements = collector.room.db, collector.room.statements
        self._trace = collector.room.trace

    # Looking

    async def at_the_bank(self, group: str, account: str) -> Listed:
        """The bank's own statement since the beginning of the window, over the group's line."""
        since, now = self._collector.window_ms(), self._collector.now_ms()
        line = self._collector.groups[group].line
        return await line.history(account, self._collector.accounts[account], since, now)

    async def _gone(self, group: str, account: str) -> list[Row]:
        """Live rows of a group that the bank has no more. One that cannot be read (any more) is there nevertheless: by
        its serial, or as any row of its time and amounts; `_Unreadable` if it could be each of them."""
        listed = await self.at_the_bank(group, account)
        nameless = [one for one in listed.refused if not one.serial]
        if unknown := [one for one in nameless if one.shape is None]:
            raise _Unreadable(group, unknown[0])
        unread, shapes = {one.serial for one in listed.refused}, {one.shape for one in nameless}
        told = {record.serial: record for record in listed.records}
        rows = await self._book.since(group, account, self._collector.window_ms())
        return [row for row in rows if row.deleted_at is None and row.serial not in unread
                and (row.txn_time, row.credit, row.debit) not in shapes
                and (row.serial not in told or other_payment(row.told, told[row.serial]))]

    # Type 1: the alert handling script

    async def run_script(self, account: str, by: Actor) -> Handled | Refusal:
        """Find what the bank has deleted after a refund, and mend both groups' chains."""
        refused = self._may("run_script", by, "run")
        if refused is not None:
            return refused
        async with self._alone():
            return await self._run_script(account, by)

    async def _run_script(self, account: str, by: Actor) -> Handled | Refusal:
        try:
            gone = {group: await self._refunded(group, account) for group in GROUPS}
        except _Unreadable as unreadable:
            return self._unread(account, by, unreadable)
        except (OutcomeUnknown, BankFault) as fault:
            return await self._stalled(account, by, f"the bank's statement is not to be had: {fault}")
        serials = tuple(sorted({row.serial for rows in gone.values() for row in rows}))
        for group in GROUPS if serials else ():
            last = await self._book.last(group, account)
            if last is None or last.serial <= serials[-1]:
                await self._db.execute(NEW_SCRIPT, self._script("REFUND", account, serials, by, "", "") | {
                    "result": "STALLED"})
                return await self._stalled(account, by, f"{group} has no statement after {serials[-1]}")
        rows = [row for group in GROUPS for row in (*gone[group], *await self._refunded_before(group, account))]
        statements = [one for group in GROUPS for one in await self._corrections(group, account, gone[group], rows)]
        if not statements:
            return self._said(by, account, Handled(NOTHING, "the bank has deleted nothing that stood in a chain"))
        try:
            withdrawn = [row for rows in gone.values() for row in rows]
            script = await self._carry_out("REFUND", account, serials, by, "", statements, withdrawn=withdrawn)
        except _Moved as moved:
            return Refusal(Code.VERSION_CONFLICT, f"{moved}: run it again")
        broken = [group for group in GROUPS if await self._collector.verify(group, account) is not None]
        if not broken:
            await self._collector.alerts.cleared("ICBC-04", account, "the script has run")
        detail = f"refunded: {', '.join(serials)}" if serials else "balances printed before a refund, and told after it"
        detail += f"; still broken: {', '.join(broken)}" if broken else ""
        return self._said(by, account, Handled(UNRESOLVED if broken else DONE, detail, serials, script))

    async def _refunded(self, group: str, account: str) -> list[Row]:
        """What stood in the chain and is gone at the bank."""
        chain = await self._book.chain(group, account, self._collector.window_ms())
        ghosts = ghosts_among(chain, await self._book.anchors(group, account))
        return [row for row in await self._gone(group, account) if row.id not in ghosts]

    async def _refunded_before(self, group: str, account: str) -> list[Row]:
        """What earlier scripts have found refunded, as far as its place is not another payment's by now."""
        scripts = await self._db.all(REFUNDED, {"account": account})
        serials = {serial for (line,) in scripts for serial in line.split()}
        rows = await self._book.since(group, account, self._collector.window_ms())
        return [row for row in rows if row.deleted_at is not None and row.serial in serials]

    async def _corrections(
        self, group: str, account: str, own: Sequence[Row], refunded: Sequence[Row]
    ) -> list[Update]:
        """The SQL for one group: what was refunded goes, and what was printed with it is corrected."""
        chain, now = await self._book.chain(group, account, self._collector.window_ms()), self._collector.now_ms()
        shifts = shifts_of(chain, refunded) if refunded else []
        return [*(_deleted(row, now) for row in own), *(_shifted(shift, now) for shift in shifts)]

    async def _stalled(self, account: str, by: Actor, why: str) -> Handled:
        self._collector.log(CANARY, f"REFUND_SCRIPT_STALLED: {why}")
        await self._collector.alerts.raised("ICBC-04", account,
                                            f"{why}; likely type 2: investigate the canary by hand")
        return self._said(by, account, Handled(STALLED, why))

    def _unread(self, account: str, by: Actor, why: _Unreadable) -> Handled:
        """No type 2: the canary is well, and by hand nobody could tell either before the bank has."""
        self._collector.log(why.group, f"REFUND_SCRIPT_STALLED: {why}")
        raise_alert(self._trace, "ICBC-06", why.record.key, f"{why}; the bank says {why.record.said}")
        return self._said(by, account, Handled(STALLED, str(why)))

    # Types 3, 4, 5

    async def delete_ghosts(self, account: str, serials: Sequence[str], by: Actor, remark: str,
                            group: str = PROD) -> Handled | Refusal:
        """Delete anomalous statements that the bank has withdrawn and nobody has used (type 4)."""
        refused = self._may("delete_ghosts", by, remark)
        if refused is not None:
            return refused
        async with self._alone():
            return await self._delete_ghosts(account, serials, by, remark, group)

    async def _delete_ghosts(
        self, account: str, serials: Sequence[str], by: Actor, remark: str, group: str
    ) -> Handled | Refusal:
        try:
            gone = {row.serial: row for row in await self._gone(group, account)}
        except _Unreadable as unreadable:
            return Refusal(Code.ILLEGAL_STATE, str(unreadable))
        except (OutcomeUnknown, BankFault) as fault:
            return Refusal(Code.DEPENDENCY_TIMEOUT, f"the bank's statement is not to be had: {fault}")
        for serial in serials:
            row = await self._book.with_serial(group, account, serial)
            if row is None or row.deleted_at is not None:
                return Refusal(Code.NOT_FOUND, f"{group} has no statement {serial}")
            if row.is_used:
                return Refusal(Code.ILLEGAL_STATE, f"{serial} was used in matching (is_used=1): not a ghost any more")
            if serial not in gone:
                return Refusal(Code.ILLEGAL_STATE, f"the bank still shows {serial}")
        now = self._collector.now_ms()
        table = icbc_bank_flow
        statements = [update(table).where(table.c.id == gone[serial].id, table.c.is_used == 0).values(
            deleted_at=now, updated_at=now) for serial in serials]
        try:
            script = await self._carry_out("GHOST", account, serials, by, remark, statements, group=group,
                                           withdrawn=[gone[serial] for serial in serials])
        except _Moved as moved:
            return Refusal(Code.VERSION_CONFLICT, f"{moved}: look again")
        return await self._mended(by, account, group, tuple(serials), script)

    async def set_close_balance(self, row_id: int, balance: int, by: Actor, remark: str) -> Handled | Refusal:
        """Set the balance of one row so that the chain holds (types 3 and 5)."""
        refused = self._may("set_close_balance", by, remark)
        if refused is not None:
            return refused
        async with self._alone():
            return await self._set_close_balance(row_id, balance, by, remark)

    async def _set_close_balance(self, row_id: int, balance: int, by: Actor, remark: str) -> Handled | Refusal:
        row = await self._book.find(row_id)
        if row is None or row.deleted_at is not None:
            return Refusal(Code.NOT_FOUND, f"no statement {row_id}")
        statement = update(icbc_bank_flow).where(
            icbc_bank_flow.c.id == row.id, icbc_bank_flow.c.close_balance == row.close_balance).values(
            close_balance=balance, updated_at=self._collector.now_ms())
        try:
            script = await self._carry_out("BALANCE", row.our_account, [row.serial], by, remark, [statement],
                                           group=row.line_group, balance=balance)
        except _Moved as moved:
            return Refusal(Code.VERSION_CONFLICT, f"{moved}: look again")
        return await self._mended(by, row.our_account, row.line_group, (row.serial,), script)

    async def _mended(self, by: Actor, account: str, group: str, serials: tuple[str, ...], script: str) -> Handled:
        """Verify, and go on feeding matching with what had been held back."""
        broken = await self._collector.verify(group, account)
        await self._collector.feed(account)
        detail = "the chain holds" if broken is None else f"broken still at serial {broken.row.serial}"
        return self._said(by, account, Handled(DONE if broken is None else UNRESOLVED, detail, serials, script))

    async def emergency_credit(self, entry: Entry, by: Actor, remark: str) -> Flow | Refusal:
        """Make a statement entry that the line did not bring (types 3 and 5); ``bank_ref`` is ICBC's serial.

        Where statements stand under the serial, it must be one of them by amount, currency, side and payer; one that
        was deleted is not credited again."""
        refused = self._may("emergency_credit", by, remark)
        if refused is not None:
            return refused
        serial = serial_of(entry.bank_ref)
        entry = entry._replace(bank=BANK, dr_cr="C", seq_no=serial, remark=entry.remark or remark.strip(),
                               raw=remark.strip())
        if not entry.bank_ref or entry.amount <= 0 or self._collector.accounts.get(entry.our_account) != entry.ccy:
            return Refusal(Code.INVALID_PARAM, "an emergency credit needs serial, amount, and our account and currency")
        rows = await self._book.under(entry.our_account, serial)
        told = Told(serial, entry.credit_time, entry.ccy, entry.amount, 0, 0, entry.remark, entry.en_name,
                    entry.payer_acct)
        alike = [row for row in rows if row.ccy == told.ccy and not other_payment(row.told, told)]
        if any(row.deleted_at is None for row in rows) and not any(row.deleted_at is None for row in alike):
            return Refusal(Code.INVALID_PARAM, f"{rows[0].line_group} has {serial} with another amount, currency or "
                                               "payer: credit what it tells, or run the script first")
        entry = entry._replace(bank_ref=alike[0].bank_ref if alike else next_reference(serial, rows))
        taken = await self._statements.take(BANK, [entry], "emergency", emergency=True)
        flow = await self._flow(entry.our_account, entry.bank_ref, entry.credit_time)
        assert flow is not None, entry
        if not taken.accepted:
            return Refusal(Code.DUPLICATE, f"{entry.bank_ref} is statement F{flow.id} already")
        await self._collector.review(entry.our_account)
        self._staff(by, "emergency_credit", f"F{flow.id}",
                    f"{show(flow.amount, flow.ccy)}, serial {flow.bank_ref}: {remark.strip()}")
        return flow

    async def evidence(self, account: str, serial: str) -> Entry | None:
        """What either group knows of a serial, to be credited by emergency."""
        for row in await self._book.under(account, serial):
            return entry_of(account, row.told, row.bank_ref)
        return None

    # Writing

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """No pull of either group between looking and writing."""
        prod, canary = (self._collector.groups[group].lock for group in GROUPS)
        async with prod, canary:
            yield

    async def _carry_out(
        self, kind: str, account: str, serials: Sequence[str], by: Actor, remark: str, statements: Sequence[Update],
        *, group: str = "", balance: int | None = None, withdrawn: Sequence[Row] = (),
    ) -> str:
        """Execute the SQL with its record, and what it means for matching, in one transaction; gives the text.
        ``withdrawn``: the rows that the bank has no more, by which matching knows them: the other group may have
        another payment under the same serial."""
        known = {row.bank_ref: row for row in withdrawn}.values()
        flows = [flow for row in known if (flow := await self._flow(account, row.bank_ref, row.txn_time)) is not None]
        ready = [Statement(one) for one in statements]
        async with self._db.transaction() as tx:
            for statement in ready:
                if not await tx.execute(statement, {}):
                    raise _Moved("a statement has changed meanwhile")
            for flow in flows:
                await self._withdraw(tx, flow, kind == "REFUND")
            script = _text(ready)
            await tx.execute(NEW_SCRIPT, self._script(kind, account, serials, by, remark, script) | {
                "line_group": group, "balance": balance})
        return script

    async def _withdraw(self, tx: Transaction, flow: Flow, refunded: bool) -> None:
        """The bank has taken the statement back: VOID if it was never used; else what was made of it is undone by the
        room of credits, and a refund record opened (A-29): a job of its own, queued with the script. So it is with one
        that is unused again because its deposit was rejected."""
        if not flow.is_used and not (refunded and await was_released(tx, flow)):
            if await self._statements.change(tx, flow, status=VOID) is None:
                raise _Moved(f"F{flow.id} was used meanwhile")
            await close_abnormal(tx, self._trace, flow, STRUCK, "system", "", self._collector.now_ms())
            return
        if not refunded:
            raise _Moved(f"F{flow.id} was used meanwhile")
        room = self._collector.room
        await room.jobs.enqueue(tx, STRUCK, f"{BANK}:{flow.id}", {"bank": BANK, "flow": flow.id},
                                self._collector.now_ms(), self._collector.struck_tries)
        tx.after_commit(lambda: raise_alert(
            self._trace, "ICBC-05", f"F{flow.id}", f"{show(flow.amount, flow.ccy)} given back by the bank"))

    async def _flow(self, account: str, bank_ref: str, credit_ms: int) -> Flow | None:
        months = months_between(credit_ms - MS_PER_DAY, credit_ms + MS_PER_DAY)
        return await self._statements.by_reference(BANK, account, bank_ref, months)

    def _script(self, kind: str, account: str, serials: Sequence[str], by: Actor, remark: str,
                script: str) -> dict[str, Any]:
        return {"kind": kind, "line_group": "", "our_account": account, "balance": None,
                "ccy": self._collector.accounts[account], "serials": " ".join(serials)[:500], "result": DONE,
                "operator": by.id, "remark": remark.strip()[:500], "script": script,
                "created_at": self._collector.now_ms()}

    def _may(self, action: str, by: Actor, remark: str) -> Refusal | None:
        if by.role not in MAY[action]:
            return Refusal(Code.FORBIDDEN, f"{action} is for {', '.join(MAY[action])}")
        return None if remark.strip() else Refusal(Code.INVALID_PARAM, "a remark is needed")

    def _said(self, by: Actor, account: str, handled: Handled) -> Handled:
        self._staff(by, "icbc_incident", account, f"{handled.result}: {handled.detail}")
        return handled

    def _staff(self, by: Actor, action: str, subject: str, result: str) -> None:
        self._trace.emit("staff", by.id, {"operator": by.id, "role": by.role, "action": action, "subject": subject,
                                          "result": result})


def _deleted(row: Row, now: int) -> Update:
    return update(icbc_bank_flow).where(icbc_bank_flow.c.id == row.id).values(deleted_at=now, updated_at=now)


def _shifted(shift: Shift, now: int) -> Update:
    """What was printed with an amount that has gone is printed without it."""
    table, rows = icbc_bank_flow, shift.rows
    return update(table).where(
        table.c.line_group == rows[0].line_group, table.c.our_account == rows[0].our_account,
        table.c.serial >= rows[0].serial, table.c.serial <= rows[-1].serial, table.c.deleted_at.is_(None)).values(
        close_balance=table.c.close_balance - shift.by, updated_at=now)


def _text(statements: Sequence[Statement]) -> str:
    """The SQL as the driver gets it."""
    return "\n".join(f"{(statement.sqlite or statement.for_sqlite())[0]};" for statement in statements)
