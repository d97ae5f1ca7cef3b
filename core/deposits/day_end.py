"""Day end at CMB and CMBC: the bank's reconciliation list against our book of transfers (gaps.md B-38).

The bank pushes what it booked on a business day; each fragment is kept before it is acknowledged, and the last one
queues the comparison for 05:00 (A-62), when what was missed has been fetched. A list that has not come whole some time
after the session is asked for (200110): the bank repeats a push five times and no more. A difference is a row of
``recon_diff``, once. Paid twice, or paid in our books only, is Critical; any other difference Medium.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import bindparam, delete, func, insert, select

from core.alerts import raise_alert
from core.banks.socket.gateway import Push, SocketGateway
from core.calendars import Calendars
from core.clock import MS_PER_DAY, MS_PER_S, Clock, from_yyyymmdd, hkt_midnight_ms
from core.deposits.transfers import DEPOSIT, DONE, JOBS, REVERSAL, Transfer, Transfers
from core.jobs import Done, Job, Jobs, Verdict
from core.money import parse_wire
from core.settings import Settings
from core.storage import Database, Statement, Transaction, UniqueViolation
from core.storage.primary import bst_day_end, bst_transfer, recon_diff
from core.trace import Trace
from core.wire.socket.messages import ReconciliationList

BANK_ONLY, BOOK_ONLY, AMOUNT_DIFF, DUPLICATE = "BANK_ONLY", "BOOK_ONLY", "AMOUNT_DIFF", "DUPLICATE"

_E, _D = bst_day_end.c, recon_diff.c
KEEP = Statement(insert(bst_day_end).values({name: bindparam(name) for name in (
    "bank", "day", "message_ref", "items", "totals", "is_last", "created_at")}))
FRAGMENTS = Statement(select(_E["items"]).where(_E.bank == bindparam("bank"), _E.day == bindparam("day"))
                      .order_by(_E.created_at, _E.message_ref))
HAS_LAST = Statement(select(_E.day).where(_E.bank == bindparam("bank"), _E.day == bindparam("day"), _E.is_last == 1))
FORGET = Statement(delete(bst_day_end).where(_E.bank == bindparam("bank"), _E.day == bindparam("day")))
BOOKS_BEGIN = Statement(select(func.min(bst_transfer.c.created_at)).where(bst_transfer.c.bank == bindparam("bank")))
DAY_BEFORE = Statement(select(func.max(_E.day)).where(_E.bank == bindparam("bank"), _E.day < bindparam("day")))
NEW_DIFF = Statement(insert(recon_diff).values({name: bindparam(name) for name in (
    "day", "bank", "ccy", "kind", "reference", "bank_amount", "book_amount", "procedure_id", "detail", "created_at",
    "updated_at")}))


ASKED: Final = "ASKED"
"""In place of a push's reference: the list was asked for."""
_LOOK_BACK: Final = 60
"""Quarters of a day in which the latest session is looked for; no session and no closure is passed over."""


class Difference(NamedTuple):
    """One difference; amounts in minor units, None where one side has nothing."""

    kind: str
    ccy: str
    reference: str
    bank_amount: int | None
    book_amount: int | None
    procedure_id: int | None
    detail: str

    @property
    def critical(self) -> bool:
        """Money may have left twice, or our books say paid and the bank does not (B-38)."""
        return self.kind == DUPLICATE or (self.kind == BOOK_ONLY and self.procedure_id is not None)


class Listed(NamedTuple):
    """One line of the bank's list."""

    reference: str
    deposit: bool
    ccy: str
    amount: int


class DayEnd:
    """The reconciliation of one bank."""

    def __init__(
        self, bank: str, db: Database, clock: Clock, trace: Trace, jobs: Jobs, transfers: Transfers,
        calendars: Calendars, settings: Settings,
    ) -> None:
        self.bank, self._db, self._clock, self._trace, self._jobs = bank, db, clock, trace, jobs
        self._transfers, self._calendars, self._names = transfers, calendars, JOBS[bank]
        self._overdue_ms: int = settings["socket.day_end.overdue_s"] * MS_PER_S
        self._compare_ms: int = settings["socket.day_end.compare_s"] * MS_PER_S

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return {self._names.reconcile: self._reconcile}

    async def take(self, push: Push) -> None:
        """Keep a fragment; the last one queues the comparison. A fragment told again changes nothing, nor does one of a
        list that we have whole."""
        body = push.body
        assert isinstance(body, ReconciliationList), push
        if await self._is_whole(int(body.business_date)):
            return
        try:
            async with self._db.transaction() as tx:
                await self._keep(tx, body, push.header_ref, last=push.last_fragment)
        except UniqueViolation:
            return

    async def fetch_overdue(self, gateway: SocketGateway) -> None:
        """Ask for the list of the latest session, if it is over for some time and its list is not here whole. Raises
        `OutcomeUnknown` if it cannot be had."""
        day = self._latest_day()
        if day is None or await self._is_whole(day) or not await self._began_before(day):
            return
        body = await gateway.reconciliation(f"{day}")
        async with self._db.transaction() as tx:
            await tx.execute(FORGET, {"bank": self.bank, "day": day})
            await self._keep(tx, body, ASKED, last=True)

    async def _keep(self, tx: Transaction, body: ReconciliationList, ref: str, *, last: bool) -> None:
        day, now = int(body.business_date), self._clock.now_ms()
        await tx.execute(KEEP, {
            "bank": self.bank, "day": day, "message_ref": ref, "is_last": int(last),
            "items": orjson.dumps([asdict(item) for item in body.items]).decode(),
            "totals": orjson.dumps([asdict(total) for total in body.totals]).decode(), "created_at": now})
        if last:
            due = max(now, self._session(day)[1] + self._compare_ms)
            await self._jobs.enqueue(tx, self._names.reconcile, f"{day}", {"day": day}, due, 3)

    async def _is_whole(self, day: int) -> bool:
        return await self._db.first(HAS_LAST, {"bank": self.bank, "day": day}) is not None

    async def _began_before(self, day: int) -> bool:
        """Whether our books know of a transfer from before that session's end: else there is nothing to compare."""
        row = await self._db.first(BOOKS_BEGIN, {"bank": self.bank})
        return row is not None and row[0] is not None and row[0] < self._session(day)[1]

    def _latest_day(self) -> int | None:
        """The business day of the latest session whose list should be here by now."""
        now = self._clock.now_ms()
        for back in range(1, _LOOK_BACK):
            gate = self._calendars.bank_gate(self.bank, now - back * MS_PER_DAY // 4)
            if gate.open and gate.closes_ms + self._overdue_ms <= now:
                return gate.date
        return None

    async def _reconcile(self, job: Job) -> Verdict:
        day = job.payload["day"]
        listed = await self._listed(day)
        before = await self._db.first(DAY_BEFORE, {"bank": self.bank, "day": day})
        earlier = await self._listed(before[0]) if before is not None and before[0] is not None else []
        since, until = self._session(day)
        told = dict.fromkeys(line.reference for line in earlier)  # booked there before the close, heard of after it
        booked = [one for one in await self._transfers.finished(since, until)
                  if one.state == DONE and one.kind != REVERSAL and one.transfer_ref not in told]
        known = {line.reference: await self._transfers.find(line.reference) for line in listed}
        found = list(differences(listed, booked, known))
        now = self._clock.now_ms()
        async with self._db.transaction() as tx:
            for one in found:
                await tx.execute(NEW_DIFF, one._asdict() | {
                    "day": day, "bank": self.bank, "created_at": now, "updated_at": now})
                tx.after_commit(lambda one=one: self._alert(day, one))  # type: ignore[misc]
            return await job.settle(tx, Done())

    async def _listed(self, day: int) -> list[Listed]:
        return [line for (items,) in await self._db.all(FRAGMENTS, {"bank": self.bank, "day": day})
                for line in map(_line, orjson.loads(items))]

    def _alert(self, day: int, one: Difference) -> None:
        raise_alert(self._trace, "RECON-02" if one.critical else "RECON-01", f"{self.bank}:{one.reference}",
                    f"{day}: {one.kind} {one.detail}")

    def _session(self, day: int) -> tuple[int, int]:
        """[open, close) of the bank's session of a business day."""
        midnight = hkt_midnight_ms(from_yyyymmdd(day))
        for moment in range(midnight, midnight + MS_PER_DAY, MS_PER_DAY // 24):
            gate = self._calendars.bank_gate(self.bank, moment)
            if gate.date == day:
                return gate.opens_ms, gate.closes_ms
        return midnight, midnight + MS_PER_DAY


def _line(item: dict[str, Any]) -> Listed:
    return Listed(item["transfer_ref"], item["deposit"], item["ccy"], parse_wire(item["amount"]))


def differences(
    listed: list[Listed], booked: list[Transfer], known: dict[str, Transfer | None]
) -> Iterator[Difference]:
    """What the bank's list and our book disagree about. ``known``: our transfer of each listed reference, whenever it
    was finished; ``booked``: what we finished within the session."""
    times = Counter(line.reference for line in listed)
    for line in {line.reference: line for line in listed}.values():
        ours = known[line.reference]
        procedure = ours.procedure_id if ours else None
        if times[line.reference] > 1:
            yield Difference(DUPLICATE, line.ccy, line.reference, line.amount * times[line.reference],
                             ours.amount if ours else None, procedure, f"listed {times[line.reference]} times")
        elif ours is None or ours.state != DONE:
            yield Difference(BANK_ONLY, line.ccy, line.reference, line.amount, None, procedure,
                             "we do not know it" if ours is None else f"ours is {ours.state}")
        elif (ours.amount, ours.ccy, ours.kind == DEPOSIT) != (line.amount, line.ccy, line.deposit):
            yield Difference(AMOUNT_DIFF, line.ccy, line.reference, line.amount, ours.amount, procedure,
                             f"the bank booked {line.amount} {line.ccy}, we {ours.amount} {ours.ccy} (minor units)")
    for ours in booked:
        if ours.transfer_ref not in times:
            yield Difference(BOOK_ONLY, ours.ccy, ours.transfer_ref, None, ours.amount, ours.procedure_id,
                             f"{ours.kind} is not on the bank's list")
