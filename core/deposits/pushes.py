"""What CMB and CMBC push: persisted, then acknowledged; each transaction takes effect once (SOCK-05, gaps.md B-22).

Rules:

* A push is a row of ``bst_push`` by the bank's number, written in one transaction with what it causes. Only then does
  `take` return, and only then is it acknowledged. The same number again is acknowledged and changes nothing.
* The same transaction under another number (`dedup`) is kept as DUPLICATE, reported, and causes nothing.
* What cannot be dealt with (an unknown card, an agreement that is not signed) is kept as REFUSED with an alert: the
  bank has the money or the wish, and people must know.
* A number that is missing means that the bank gave up on a push: the recovery is asked for at once, and what came
  behind the gap waits for one repetition, so that the recovery can bring first what was first: an agreement is signed
  before its customer moves money.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, exists, func, insert, select

from core.alerts import raise_alert
from core.banks.socket.gateway import Push
from core.clock import Clock
from core.errors import OutcomeUnknown
from core.hops import LINES, Hop
from core.storage import Database, Questions, Statement, Transaction, UniqueViolation
from core.storage.primary import bst_push
from core.trace import Trace
from core.wire.socket.messages import BankWithdrawal, DepositPush, SignNotice, TransferResult

TAKEN, REFUSED, DUPLICATE = "DONE", "REFUSED", "DUPLICATE"


class Noted(NamedTuple):
    """What became of a push, and why if nothing."""

    state: str
    reason: str = ""


Effect = Callable[[Transaction], Awaitable[Noted]]
"""What a push causes, within the transaction that keeps it."""
Prepare = Callable[[Push], Awaitable[Effect]]
"""Looks up what the effect needs, before the transaction; does nothing that a repetition would do again."""

_P = bst_push.c
KEEP = Statement(insert(bst_push).values({name: bindparam(name) for name in (
    "bank", "push_seq", "dedup", "kind", "transfer_ref", "code", "body", "source", "state", "reason", "created_at",
    "updated_at")}))
KNOWN = Statement(select(_P.dedup, _P.state).where(_P.bank == bindparam("bank"), _P.push_seq == bindparam("seq")))
HIGHEST = Statement(select(func.max(_P.push_seq)).where(_P.bank == bindparam("bank")))
_next = bst_push.alias("following")
BEFORE_GAP = Statement(
    select(func.min(_P.push_seq)).where(
        _P.bank == bindparam("bank"), _P.push_seq >= bindparam("since"),
        ~exists().where(_next.c.bank == _P.bank, _next.c.push_seq == _P.push_seq + 1)))

KINDS: dict[type, str] = {
    DepositPush: "DEPOSIT", TransferResult: "RESULT", BankWithdrawal: "WITHDRAW", SignNotice: "SIGN"}


def dedup_key(push: Push) -> str:
    """Names the transaction that a push tells of, whatever number it comes under. A transfer may have several results
    (-5, then 0); a notice is told from another only by its number."""
    body: Any = push.body
    if isinstance(body, SignNotice):
        return f"SIGN:{push.push_seq}"
    if isinstance(body, TransferResult):
        return f"RESULT:{body.transfer_ref}:{body.code}"
    return f"{KINDS[type(body)]}:{body.transfer_ref}"


class Pushes:
    """The pushes of one bank in one core."""

    def __init__(self, bank: str, db: Database, clock: Clock, trace: Trace, rooms: dict[type, Prepare]) -> None:
        """``rooms``: body of a push -> the room that deals with it."""
        self.bank, self._db, self._clock, self._trace, self._rooms = bank, db, clock, trace, rooms
        self._highest = self._complete_to = self._deferred = 0
        self.on_gap: Callable[[], None] = lambda: None

    async def begin(self) -> None:
        """Read where the books stand."""
        row = await self._db.first(HIGHEST, {"bank": self.bank})
        self._highest = row[0] or 0 if row else 0
        await self.complete_to()

    async def last_push_seq(self) -> int:
        """The highest number persisted, as sign-on tells the bank."""
        return self._highest

    async def complete_to(self) -> int:
        """The highest number up to which none is missing: what the recovery asks from."""
        if self._complete_to == 0 and await self._db.first(KNOWN, {"bank": self.bank, "seq": 1}) is None:
            return 0
        since = max(1, self._complete_to)
        row = await self._db.first(BEFORE_GAP, {"bank": self.bank, "since": since})
        self._complete_to = row[0] if row is not None and row[0] is not None else 0
        return self._complete_to

    async def knows(self, push_seq: int) -> bool:
        """Whether this push is in the books."""
        return await self._db.first(KNOWN, {"bank": self.bank, "seq": push_seq}) is not None

    async def take(self, push: Push, source: str = "push") -> None:
        """Persist a push with what it causes, or find it persisted; then it may be acknowledged."""
        with Hop(self._trace, f"push.{KINDS[type(push.body)].lower()}", LINES[self.bank], of=""):
            await self._take(push, source)

    async def _take(self, push: Push, source: str) -> None:
        known = await self._db.first(KNOWN, {"bank": self.bank, "seq": push.push_seq})
        if known is None and source == "push" and self._behind_a_new_gap(push.push_seq):
            self.on_gap()
            raise OutcomeUnknown(f"push {push.push_seq} waits for what is missing before it")
        if known is None:
            effect = await self._rooms[type(push.body)](push)
            if not await self._keep(push, source, dedup_key(push), effect):
                await self._keep(push, source, None, _duplicate)
        elif known[0] not in (None, dedup_key(push)):
            self._report(push, f"push {push.push_seq} came before with another content: {known[0]}")
        gap = push.push_seq > self._highest + 1 and source == "push"
        self._highest = max(self._highest, push.push_seq)
        if gap:
            self.on_gap()

    def _behind_a_new_gap(self, push_seq: int) -> bool:
        """Whether numbers before it are missing, noticed for the first time with this one."""
        if push_seq <= max(self._highest + 1, self._deferred):
            return False
        self._deferred = push_seq
        return True

    async def _keep(self, push: Push, source: str, dedup: str | None, effect: Effect) -> bool:
        """Whether the push is in the books now; False if its transaction is there under another number."""
        body: Any = push.body
        now = self._clock.now_ms()
        try:
            async with self._db.transaction() as tx:
                noted = await effect(tx)
                await tx.execute(KEEP, {
                    "bank": self.bank, "push_seq": push.push_seq, "dedup": dedup, "kind": KINDS[type(body)],
                    "transfer_ref": getattr(body, "transfer_ref", ""), "code": getattr(body, "code", 0),
                    "body": orjson.dumps(asdict(body)).decode(), "source": source, "state": noted.state,
                    "reason": noted.reason[:100], "created_at": now, "updated_at": now})
        except UniqueViolation:
            if dedup is None:  # another worker took the same push
                return True
            return await self.knows(push.push_seq)
        if noted.state == DUPLICATE:
            self._report(push, f"push {push.push_seq} tells again of {dedup_key(push)}")
        return True

    def _report(self, push: Push, detail: str) -> None:
        about = getattr(push.body, "transfer_ref", push.push_seq)
        raise_alert(self._trace, "AIRSTAR-11", f"{self.bank}:{about}", detail)


async def _duplicate(_tx: Questions) -> Noted:
    """A second push of one transaction causes nothing."""
    return Noted(DUPLICATE, "told before under another number")
