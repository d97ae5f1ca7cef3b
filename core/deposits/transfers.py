"""Transfers with CMB and CMBC, each under one reference for ever: our book of them, and the sending of an instruction.

Sending (gaps.md B-08, A-42; SOCK-07, SOCK-11):

* A sending whose outcome is unknown (silence, -5, -1, -4) is *queried* before anything else, over the other exit
  server. Only "never heard of it" leads to another sending, under the same reference, once for each server.
* -4 on what was surely never sent before: the reference was used by somebody else (books restored from a backup, say).
  The original is not ours, whatever it looks like. Nor is what a query says if it is about another card, kind, currency
  or amount. Nothing is concluded then: people, and a Critical alert.
* A definite refusal ends it. -2 is sent once more, -3 never again by a machine, -9 at the opening of the window; if
  the market's cutoff comes first, the bank is asked, and what it never had fails.
* What people have decided meanwhile is not sent: they are asked for (`Wanted`) before each sending.
* What was taken on waits for the bank's push; the queries on the ladder are the net below, not the way.
* Nothing leaves while no exit server is connected, and then nothing is in doubt either.

The doubt is written before the bytes leave, as for Airstar: whoever runs the job next takes a refusal at the bank's
door for what it is, a word about the repetition only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.banks.socket.gateway import Answer, Outcome, SocketGateway
from core.calendars import Calendars
from core.clock import MS_PER_S, Clock
from core.deposits.airstar import nothing_happened, surely_unsent
from core.jobs import Again, Exhausted, Failed, Job, Verdict
from core.settings import Settings
from core.storage import Database, Questions, Statement
from core.storage.primary import bst_transfer
from core.wire.socket.messages import DUPLICATE

OPEN, DONE, FAILED = "OPEN", "DONE", "FAILED"
DEPOSIT, WITHDRAW, REVERSAL = "DEPOSIT", "WITHDRAW", "REVERSAL"
AT_THE_DOOR = (Outcome.CLOSED, Outcome.MALFORMED, Outcome.FORGED)
"""Said before the bank looks up the reference: this sending did nothing."""
NOTHING_DONE = (*AT_THE_DOOR, Outcome.REJECTED)
"""Answers after which no money moves by this sending."""
SERVERS = 2
"""An instruction is sent at most once over each exit server (A-42)."""
USED_ELSEWHERE = "SOCK-07"
"""Alert: what the bank has under our reference is not our transfer."""
NOT_OURS = "the bank knew the reference before we first sent it: it was used by somebody else"
NEVER_HAD = "the bank never had it, and it is too late to send it"
OUTSIDE_WINDOW, NO_SERVER = "outside the bank's window", "no exit server is connected"


class JobNames(NamedTuple):
    """The jobs of one bank: separate names, so that one bank's jobs can be stopped and the other's not."""

    collect: str  # send a deposit that was started in our app
    credit: str
    transfer: str  # send a withdrawal
    result: str  # take a pushed result
    refuse: str  # refuse a withdrawal begun at the bank
    reconcile: str
    heartbeat: str  # done by a connection as long as it stands


JOBS: dict[str, JobNames] = {
    "cmb": JobNames("CmbCollect", "CmbCredit", "CmbTransfer", "CmbResult", "CmbRefuse", "CmbReconcile",
                    "CmbHeartbeat"),
    "cmbc": JobNames("MsCollect", "MsCredit", "MsTransfer", "MsResult", "MsRefuse", "MsReconcile",
                     "MsHeartbeat"),
}


class Transfer(NamedTuple):
    """One row of ``bst_transfer``; ``amount`` in minor units."""

    bank: str
    transfer_ref: str
    kind: str
    state: str
    ccy: str
    amount: int
    card_no: str
    apply_id: int | None
    task_id: int | None
    procedure_id: int | None
    result: int | None
    finished_at: int | None

    @property
    def not_ours(self) -> bool:
        """Whether what the bank has under this reference is somebody else's: ours was never taken on."""
        return self.state == FAILED and self.result == DUPLICATE


def differs(transfer: Transfer, answer: Answer) -> str:
    """In what the bank's word is about another transfer than ours, or ""; what it does not name does not differ."""
    said = (("amount", answer.amount, transfer.amount), ("currency", answer.ccy, transfer.ccy),
            ("card", answer.card_no, transfer.card_no), ("kind", answer.kind, transfer.kind))
    wrong = [f"{name} {theirs}, ours is {ours}" for name, theirs, ours in said if theirs not in (None, "", ours)]
    return f"{transfer.transfer_ref} is another transfer at the bank: {'; '.join(wrong)}" if wrong else ""


_T = bst_transfer.c
_THIS = (_T.bank == bindparam("b_bank"), _T.transfer_ref == bindparam("b_ref"))
FIND = Statement(select(*(_T[name] for name in Transfer._fields)).where(*_THIS))
NEW = Statement(insert(bst_transfer).values({name: bindparam(name) for name in (
    *Transfer._fields, "created_at", "updated_at")}))
FINISH = Statement(update(bst_transfer).where(*_THIS, _T.state == OPEN).values(
    {name: bindparam(name) for name in ("state", "result", "finished_at", "updated_at")}))
ATTACH = Statement(update(bst_transfer).where(*_THIS).values(
    {name: bindparam(name) for name in ("procedure_id", "updated_at")}))
FINISHED = Statement(
    select(*(_T[name] for name in Transfer._fields))
    .where(_T.bank == bindparam("bank"), _T.finished_at >= bindparam("since"), _T.finished_at < bindparam("until"))
    .order_by(_T.finished_at, _T.transfer_ref))


class Transfers:
    """One bank's transfers in our book, in the primary database."""

    def __init__(self, bank: str, db: Database, clock: Clock) -> None:
        self.bank, self._db, self._clock = bank, db, clock

    async def begin(
        self, tx: Questions, transfer_ref: str, kind: str, ccy: str, amount: int, card_no: str, *,
        apply_id: int | None = None, task_id: int | None = None, procedure_id: int | None = None, state: str = OPEN,
    ) -> None:
        """Note a transfer within the caller's transaction; `UniqueViolation` if its reference was used before."""
        now = self._clock.now_ms()
        await tx.execute(NEW, {
            "bank": self.bank, "transfer_ref": transfer_ref, "kind": kind, "state": state, "ccy": ccy,
            "amount": amount, "card_no": card_no, "apply_id": apply_id, "task_id": task_id,
            "procedure_id": procedure_id, "result": 0 if state == DONE else None,
            "finished_at": now if state == DONE else None, "created_at": now, "updated_at": now})

    async def find(self, transfer_ref: str) -> Transfer | None:
        """The transfer with this reference, or None."""
        row = await self._db.first(FIND, {"b_bank": self.bank, "b_ref": transfer_ref})
        return Transfer(*row) if row else None

    async def attach(self, tx: Questions, transfer_ref: str, procedure_id: int) -> None:
        """A withdrawal begun at the bank has got its Procedure."""
        await tx.execute(ATTACH, {"b_bank": self.bank, "b_ref": transfer_ref, "procedure_id": procedure_id,
                                  "updated_at": self._clock.now_ms()})

    async def finish(self, tx: Questions, transfer_ref: str, *, success: bool, code: int | None) -> bool:
        """Its final result; False if it had one. ``code`` None: the bank has said nothing of it."""
        now = self._clock.now_ms()
        return await tx.execute(FINISH, {
            "b_bank": self.bank, "b_ref": transfer_ref, "state": DONE if success else FAILED, "result": code,
            "finished_at": now, "updated_at": now}) == 1

    async def contradicts(self, tx: Questions, transfer_ref: str, *, success: bool) -> bool:
        """Whether a later word of the bank's is another than the result on which we have acted."""
        row = await tx.first(FIND, {"b_bank": self.bank, "b_ref": transfer_ref})
        return row is not None and Transfer(*row).state == (FAILED if success else DONE)

    async def finished(self, since_ms: int, until_ms: int) -> list[Transfer]:
        """What was finished in ``[since, until)``."""
        rows = await self._db.all(FINISHED, {"bank": self.bank, "since": since_ms, "until": until_ms})
        return [Transfer(*row) for row in rows]


Send = Callable[[int], Awaitable[Answer]]
"""Sends the instruction for the n-th time."""
Wanted = Callable[[], Awaitable[bool]]
"""Whether the instruction is still to be sent: people may have decided meanwhile."""


async def _always() -> bool:
    return True


class Sending:
    """Drives the job of one instruction to a definite answer. The job's payload: ``ref``, ``sent`` (sendings so far),
    ``at`` and ``over`` (moment and exit server of the latest of them), ``taken`` (the bank has it), ``asked`` (queries
    so far), ``doubt``, ``unread`` (-2 was said), ``until`` (when people are told, 0: not set), ``shut`` (how often
    -9 was said while our calendar says open)."""

    def __init__(
        self, bank: str, gateway: SocketGateway, calendars: Calendars, clock: Clock, settings: Settings, *,
        late_code: int,
    ) -> None:
        """``late_code``: of what the bank never had and is not sent any more."""
        self._bank, self._gateway, self._calendars, self._clock = bank, gateway, calendars, clock
        self._late_code = late_code
        self._ladder_ms: list[int] = [s * MS_PER_S for s in settings["socket.result.query_s"]]
        self._give_up_ms: int = settings["socket.result.give_up_s"] * MS_PER_S
        self._no_server_ms: int = settings["socket.no_server_s"] * MS_PER_S

    @staticmethod
    def payload(reference: str, **more: Any) -> dict[str, Any]:
        """Of a job that has sent nothing yet."""
        return {"ref": reference, "sent": 0, "at": 0, "over": "", "taken": 0, "asked": 0, "doubt": 0, "until": 0,
                "unread": 0, "shut": 0, **more}

    async def run(
        self, job: Job, transfer: Transfer, send: Send, *, wanted: Wanted = _always, cutoff_ms: int | None = None
    ) -> Answer | Verdict:
        """A definite `Answer` (SUCCESS, FAILED, REJECTED; DUPLICATE: not ours), or how the job goes on. ``cutoff_ms``:
        after this moment nothing is sent any more, and what the bank does not know fails."""
        w = job.payload
        if w["taken"] or w["doubt"]:
            return await self._ask(job, transfer, send, wanted, cutoff_ms)
        if not await wanted():
            return Failed("decided before it was sent")
        return await self._send(job, send, cutoff_ms)

    # Sending

    async def _send(self, job: Job, send: Send, cutoff_ms: int | None) -> Answer | Verdict:
        now = self._clock.now_ms()
        if (opens := self.opens_ms()) > now:
            return self._at_opening(job, opens, cutoff_ms)
        if cutoff_ms is not None and now >= cutoff_ms:
            return self._too_late(job)
        if not self._gateway.available:
            return Again(now + self._no_server_ms, NO_SERVER, counts=False)
        job.payload = job.payload | {"at": now}
        await surely_unsent(job)
        answer = await send(job.payload["sent"] + 1)
        if answer.outcome in NOTHING_DONE:
            await nothing_happened(job)  # under the lease, or nothing is concluded: another may have sent meanwhile
        if answer.outcome in AT_THE_DOOR:
            return self._refused_at_the_door(job.payload, answer, cutoff_ms)
        if answer.outcome is Outcome.DUPLICATE:
            await job.note(job.payload)  # likewise
            return answer
        return self._answered(job.payload | {"sent": job.payload["sent"] + 1}, answer)

    async def _send_again(self, job: Job, send: Send, cutoff_ms: int | None) -> Answer | Verdict:
        """The bank does not know the reference: once more, over the other exit server. What is said at the door then
        tells of this sending only; the earlier one may still be on its way."""
        before = job.payload
        if not await self._gateway.leave(before["over"], f"{before['ref']}: sent again"):
            return self._later(job, "not found; the other exit server has just been left")
        await job.note(before | {"at": self._clock.now_ms(), "over": ""})
        answer = await send(before["sent"] + 1)
        if answer.outcome is Outcome.CLOSED:
            return self._closed(before, answer, cutoff_ms)
        sent = job.payload | {"sent": before["sent"] + 1}  # counted when heard of: a core may die before it sends
        if answer.outcome in NOTHING_DONE:
            await job.note(sent)  # likewise
        if answer.outcome in AT_THE_DOOR:
            return self._later_with(sent, answer.said)
        return self._answered(sent, answer)

    def _answered(self, w: dict[str, Any], answer: Answer) -> Answer | Verdict:
        """What the bank's answer makes of an instruction that it has looked at, or may have."""
        if answer.outcome is Outcome.REJECTED:
            return answer
        now = self._clock.now_ms()
        sent = w | {"over": answer.server, "until": w["until"] or now + self._give_up_ms}
        if answer.outcome is Outcome.TAKEN_ON:
            return Again(now + self._ladder_ms[0], counts=False, payload=sent | {"taken": 1})
        if answer.outcome is Outcome.UNKNOWN:
            self._gateway.switch(f"{w['ref']}: {answer.text or answer.code}")
        return Again(now, answer.said, counts=False, payload=sent | {"doubt": 1})

    def _refused_at_the_door(self, w: dict[str, Any], answer: Answer, cutoff_ms: int | None) -> Answer | Verdict:
        """Certainly nothing has happened. -9: at the opening. -2: once more. -3: people first, for our key or the
        bank's is not what it should be."""
        if answer.outcome is Outcome.CLOSED:
            return self._closed(w, answer, cutoff_ms)
        if answer.outcome is Outcome.MALFORMED and not w["unread"]:
            return Again(self._clock.now_ms(), answer.said, counts=False, payload=w | {"unread": 1})
        if answer.outcome is Outcome.MALFORMED:
            return answer._replace(outcome=Outcome.REJECTED)
        return Exhausted(answer.said, alert="")

    def _closed(self, w: dict[str, Any], answer: Answer, cutoff_ms: int | None) -> Verdict:
        """-9: this sending does not count, the next one is at the opening; nobody is told meanwhile (SOCK-11)."""
        now = self._clock.now_ms()
        again, shut = self.again_ms(w.get("shut", 0))
        due = again if cutoff_ms is None else min(again, max(cutoff_ms, now))
        return Again(due, answer.said, counts=False, payload=w | {"until": 0, "shut": shut})

    def again_ms(self, shut: int) -> tuple[int, int]:
        """(when to try again after a -9, epoch ms; how often it was said against our calendar): at the next opening, on
        the ladder if our calendar says open."""
        opens, now = self.opens_ms(), self._clock.now_ms()
        self._gateway.hours.refused(expected=opens > now)
        if opens > now:
            return max(opens, now + self._ladder_ms[0]), 0
        return now + self.wait_ms(shut), shut + 1

    def wait_ms(self, number: int) -> int:
        """Between the n-th question (from 0) and the next."""
        return self._ladder_ms[min(number, len(self._ladder_ms) - 1)]

    def opens_ms(self) -> int:
        """When an instruction may leave, epoch ms: now, or the next opening of the bank's window."""
        now = self._clock.now_ms()
        gate = self._calendars.bank_gate(self._bank, now)
        return now if gate.open else gate.opens_ms

    def _at_opening(self, job: Job, opens_ms: int, cutoff_ms: int | None) -> Verdict:
        if cutoff_ms is not None and opens_ms >= cutoff_ms:
            # What the platform could not send before the market's cutoff is not sent after it: the bank is asked first.
            return Again(max(cutoff_ms, self._clock.now_ms()), OUTSIDE_WINDOW, counts=False,
                         payload=job.payload | {"doubt": 1, "sent": SERVERS})
        return Again(opens_ms, OUTSIDE_WINDOW, counts=False)

    def _too_late(self, job: Job) -> Verdict:
        return Again(self._clock.now_ms(), "the market's cutoff has passed", counts=False,
                     payload=job.payload | {"doubt": 1, "sent": SERVERS})

    # Asking

    async def _ask(
        self, job: Job, transfer: Transfer, send: Send, wanted: Wanted, cutoff_ms: int | None
    ) -> Answer | Verdict:
        w = job.payload
        if not self._gateway.available:
            return self._later(job, NO_SERVER)
        answer = await self._gateway.query(w["ref"], w["asked"] + 1)
        if wrong := differs(transfer, answer):
            return Exhausted(wrong, USED_ELSEWHERE)
        if answer.outcome in (Outcome.SUCCESS, Outcome.FAILED):
            return answer
        if answer.outcome is Outcome.PENDING:
            return self._later(job, "", taken=1)
        if answer.outcome is Outcome.NOT_FOUND and not w["taken"]:
            return await self._not_found(job, answer, send, wanted, cutoff_ms)
        return self._later(job, f"{answer.outcome} {answer.said}")

    async def _not_found(
        self, job: Job, answer: Answer, send: Send, wanted: Wanted, cutoff_ms: int | None
    ) -> Answer | Verdict:
        """The bank does not know the reference at this moment: once more over the other server, or the end."""
        w, now = job.payload, self._clock.now_ms()
        if not await wanted():
            return Failed("decided before it was sent again")
        if cutoff_ms is not None and now >= cutoff_ms:
            if self._answers_are_in(job):
                await job.note(w)  # under the lease: another may have sent since we asked
                return answer._replace(outcome=Outcome.REJECTED, code=self._late_code, text=NEVER_HAD)
        elif w["sent"] < SERVERS:
            if self.opens_ms() <= now:
                return await self._send_again(job, send, cutoff_ms)
            return self._closed(w, answer._replace(text=OUTSIDE_WINDOW), cutoff_ms)
        return self._later(job, f"{answer.outcome} {answer.said}")

    def _answers_are_in(self, job: Job) -> bool:
        """Whether nothing of ours can still be on its way: what was sent is older than any answer may take."""
        sent_ms: int = job.payload["at"]
        return self._clock.now_ms() - sent_ms >= self._ladder_ms[0]

    def _later(self, job: Job, error: str, taken: int | None = None) -> Verdict:
        return self._later_with(job.payload if taken is None else job.payload | {"taken": taken}, error)

    def _later_with(self, w: dict[str, Any], error: str) -> Verdict:
        now = self._clock.now_ms()
        until = w["until"] or now + self._give_up_ms
        if now >= until:
            return Exhausted(f"no result: {error or 'pending at the bank'}", alert="")
        return Again(now + self.wait_ms(w["asked"]), error, counts=False, payload=w | {
            "asked": w["asked"] + 1, "doubt": 1, "until": until})
