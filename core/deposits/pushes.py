"""What CMB and CMBC push: persisted, then acknowledged; each transaction takes effect once (SOCK-05, gaps.md B-22).

Rules:

* A push is a row of ``bst_push`` by the bank's number, written in one transaction with what it causes. Only then does
  `take` return, and only then is it acknowledged. The same number again is acknowledged and changes nothing; if it
  names another amount, card or market than the first time, people are told (SOCK-10).
* A number that our books know with another transaction means that the bank's numbering began again: people are told
  (SOCK-09) and the push is kept by its transaction, under a negative number of our own. So it needs no second
  key, never meets a number of the bank's, and leaves alone what is counted upwards (highest number, gaps).
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
from sqlalchemy import bindparam, exists, func, insert, select, update

from core.alerts import raise_alert
from core.banks.socket.gateway import Push
from core.clock import Clock
from core.errors import Code, OutcomeUnknown
from core.hops import LINES, Hop
from core.storage import Database, Questions, Statement, Transaction, UniqueViolation
from core.storage.primary import bst_push
from core.trace import Trace
from core.wire.socket import Signing
from core.wire.socket.messages import (
    BANK_WITHDRAWAL,
    DEPOSIT_PUSH,
    SIGN_NOTICE,
    TRANSFER_RESULT,
    BankWithdrawal,
    DepositPush,
    SignNotice,
    TransferResult,
)

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
_ROW = (_P.push_seq, _P.dedup, _P.kind, _P.transfer_ref, _P.code, _P.body, _P.state)
KNOWN = Statement(select(*_ROW).where(_P.bank == bindparam("bank"), _P.push_seq == bindparam("seq")))
ABOUT = Statement(select(*_ROW).where(_P.bank == bindparam("bank"), _P.transfer_ref == bindparam("about"))
                  .order_by(_P.push_seq))
REFUSED_ONES = Statement(select(_P.push_seq).where(_P.bank == bindparam("bank"), _P.state == REFUSED).order_by(
    _P.created_at, _P.push_seq))
LOWEST = Statement(select(func.min(_P.push_seq)).where(_P.bank == bindparam("bank")))
FIRST_AFTER = Statement(
    select(func.min(_P.push_seq)).where(_P.bank == bindparam("bank"), _P.push_seq > bindparam("seq")))
SETTLE = Statement(
    update(bst_push).where(_P.bank == bindparam("b_bank"), _P.push_seq == bindparam("b_seq"),
                           _P.state == bindparam("b_state")).values(
        state=bindparam("state"), reason=bindparam("reason"), updated_at=bindparam("updated_at")))
HIGHEST = Statement(select(func.max(_P.push_seq)).where(_P.bank == bindparam("bank")))
_next = bst_push.alias("following")
BEFORE_GAP = Statement(
    select(func.min(_P.push_seq)).where(
        _P.bank == bindparam("bank"), _P.push_seq >= bindparam("since"),
        ~exists().where(_next.c.bank == _P.bank, _next.c.push_seq == _P.push_seq + 1)))

KINDS: dict[type, str] = {
    DepositPush: "DEPOSIT", TransferResult: "RESULT", BankWithdrawal: "WITHDRAW", SignNotice: "SIGN"}
_COMMANDS: dict[type, str] = {DepositPush: DEPOSIT_PUSH, TransferResult: TRANSFER_RESULT,
                              BankWithdrawal: BANK_WITHDRAWAL, SignNotice: SIGN_NOTICE}
_BODIES: dict[str, type] = {kind: body for body, kind in KINDS.items()}
_AGAIN = (DepositPush, SignNotice)
"""What may be taken again by people: a refused withdrawal has been refused at the bank as well."""
_CONTENT = ("name", "card_no", "ccy", "amount", "market")
"""Fields that a second telling must not change; a day list may leave some of them out."""


class Kept(NamedTuple):
    """A row of ``bst_push``."""

    push_seq: int
    dedup: str | None
    kind: str
    transfer_ref: str
    code: int
    body: str
    state: str

    @property
    def key(self) -> str:
        """`dedup_key` of what it tells of; a DUPLICATE has none of its own in the table."""
        if self.dedup is not None:
            return self.dedup
        return f"{self.kind}:{self.transfer_ref}" + (f":{self.code}" if self.kind == "RESULT" else "")

    def differs(self, body: Any) -> list[str]:
        """What another telling of it says otherwise."""
        said = orjson.loads(self.body)
        pairs = ((name, said.get(name), getattr(body, name, None)) for name in _CONTENT)
        return [f"{name} {new}, was {old}" for name, old, new in pairs if old and new and str(old) != str(new)]

    def push(self, bank: str) -> Push:
        """As it came, under the number by which it is kept."""
        cls = _BODIES[self.kind]
        said = orjson.loads(self.body) | {"extra": ()}
        if cls is SignNotice:
            said["action"] = Signing(said["action"])
        return Push(bank, self.push_seq, _COMMANDS[cls], cls(**said))


def dedup_key(push: Push) -> str:
    """Names the transaction that a push tells of, whatever number it comes under. A transfer may have several results
    (-5, then 0); a notice is told from its like only by the bank's number."""
    body: Any = push.body
    if isinstance(body, SignNotice):
        return f"SIGN:{body.push_seq}:{body.action.value}:{body.market}:{body.card_no}"
    if isinstance(body, TransferResult):
        return f"RESULT:{body.transfer_ref}:{body.code}"
    return f"{KINDS[type(body)]}:{body.transfer_ref}"


def about(push: Push) -> str:
    """What a push is found by besides its number: the reference of its transfer, or the card of a notice."""
    body: Any = push.body
    return body.card_no if isinstance(body, SignNotice) else body.transfer_ref


class Pushes:
    """The pushes of one bank in one core."""

    def __init__(self, bank: str, db: Database, clock: Clock, trace: Trace, rooms: dict[type, Prepare]) -> None:
        """``rooms``: body of a push -> the room that deals with it."""
        self.bank, self._db, self._clock, self._trace, self._rooms = bank, db, clock, trace, rooms
        self._highest = self._complete_to = self._deferred = 0
        self._began_again = False
        self._reported: set[tuple[int, str]] = set()
        self.on_gap: Callable[[], None] = lambda: None

    async def begin(self) -> None:
        """Read where the books stand."""
        row = await self._db.first(HIGHEST, {"bank": self.bank})
        self._highest = max(0, row[0] or 0) if row else 0
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

    async def pass_over(self) -> bool:
        """Go on from behind the first hole, in this run of the program; False if there is none. Its number is still
        taken if it comes."""
        hole = await self.complete_to()
        row = await self._db.first(FIRST_AFTER, {"bank": self.bank, "seq": hole})
        if row is None or row[0] is None:
            return False
        self._complete_to = row[0]
        return True

    async def holds(self, push: Push) -> bool:
        """Whether what this push tells of is in the books, under its number or (if that is another's) one of ours."""
        row = await self._row(push.push_seq)
        return row is not None and (self._same(push, row) or await self._told(push))

    async def is_at(self, push: Push) -> bool:
        """Whether our books have this very push under its number."""
        row = await self._row(push.push_seq)
        return row is not None and row.key == dedup_key(push)

    async def take(self, push: Push, source: str = "push") -> None:
        """Persist a push with what it causes, or find it persisted; then it may be acknowledged."""
        with Hop(self._trace, f"push.{KINDS[type(push.body)].lower()}", LINES[self.bank], of=""):
            await self._take(push, source)

    async def _take(self, push: Push, source: str) -> None:
        known = await self._row(push.push_seq)
        if known is None and source == "push" and self._behind_a_new_gap(push.push_seq):
            self.on_gap()
            raise OutcomeUnknown(f"push {push.push_seq} waits for what is missing before it")
        if known is None and await self._persist(push, source, push.push_seq):
            gap = push.push_seq > self._highest + 1 and source == "push"
            self._highest = max(self._highest, push.push_seq)
            if gap:
                self.on_gap()
        elif known is None or not self._same(push, known):
            await self._take_apart(push, source)

    async def _take_apart(self, push: Push, source: str) -> None:
        """Its number is another transaction's: keep it under a number of our own."""
        while not await self._told(push):
            row = await self._db.first(LOWEST, {"bank": self.bank})
            if await self._persist(push, source, min(0, row[0] or 0 if row else 0) - 1):
                break
        if self.began_again(f"push {push.push_seq} is {dedup_key(push)}, our books have another transaction there"):
            self.on_gap()

    def began_again(self, detail: str) -> bool:
        """The bank's numbers are not those of our books: tell people, once in a run of the program."""
        first, self._began_again = not self._began_again, True
        if first:
            raise_alert(self._trace, "SOCK-09", self.bank, detail)
        return first

    async def _row(self, push_seq: int) -> Kept | None:
        row = await self._db.first(KNOWN, {"bank": self.bank, "seq": push_seq})
        return Kept(*row) if row is not None else None

    async def _told(self, push: Push) -> bool:
        """Whether the transaction is in the books under any number."""
        rows = await self._db.all(ABOUT, {"bank": self.bank, "about": about(push)})
        return any(self._same(push, Kept(*row)) for row in rows)

    def _same(self, push: Push, row: Kept) -> bool:
        """Whether a row tells of the same transaction; if it does so otherwise, people are told (SOCK-10)."""
        if row.key != dedup_key(push):
            return False
        if (other := row.differs(push.body)) and (row.push_seq, str(other)) not in self._reported:
            self._reported.add((row.push_seq, str(other)))
            raise_alert(self._trace, "SOCK-10", f"{self.bank}:{about(push)}",
                        f"push {push.push_seq} tells again of {row.key}: {'; '.join(other)}")
        return True

    def _behind_a_new_gap(self, push_seq: int) -> bool:
        """Whether numbers before it are missing, noticed for the first time with this one."""
        if push_seq <= max(self._highest + 1, self._deferred):
            return False
        self._deferred = push_seq
        return True

    async def _persist(self, push: Push, source: str, number: int) -> bool:
        """Keep a push under a number; False if the number has become another transaction's meanwhile."""
        effect = await self._rooms[type(push.body)](push._replace(push_seq=number))
        if await self._keep(push, source, number, dedup_key(push), effect):
            return True
        row = await self._row(number)
        if row is None:  # its transaction is there under another number
            if await self._keep(push, source, number, None, _duplicate):
                await self._told(push)
                self._report(push, f"push {push.push_seq} tells again of {dedup_key(push)}")
                return True
            row = await self._row(number)
        return row is not None and row.key == dedup_key(push)  # another worker took the same push

    async def _keep(self, push: Push, source: str, number: int, dedup: str | None, effect: Effect) -> bool:
        """Whether it is written; False if the number or the transaction is there already."""
        body: Any = push.body
        now = self._clock.now_ms()
        try:
            async with self._db.transaction() as tx:
                noted = await effect(tx)
                await tx.execute(KEEP, {
                    "bank": self.bank, "push_seq": number, "dedup": dedup, "kind": KINDS[type(body)],
                    "transfer_ref": about(push), "code": getattr(body, "code", 0),
                    "body": orjson.dumps(asdict(body)).decode(), "source": source, "state": noted.state,
                    "reason": noted.reason[:100], "created_at": now, "updated_at": now})
        except UniqueViolation:
            return False
        return True

    # What was refused, once more

    async def refused(self) -> list[int]:
        """Numbers of the pushes that are kept as REFUSED, in the order in which they came."""
        return [number for (number,) in await self._db.all(REFUSED_ONES, {"bank": self.bank})]

    async def take_again(self, number: int, by: str = "") -> Code:
        """Deal once more with a deposit or notice that was kept as REFUSED, say after its card was bound. Done twice it
        changes nothing; what is still to be refused stays so (ILLEGAL_STATE)."""
        row = await self._row(number)
        if row is None:
            return Code.NOT_FOUND
        push = row.push(self.bank)
        if row.state != REFUSED or not isinstance(push.body, _AGAIN):
            return Code.OK if row.state == TAKEN else Code.ILLEGAL_STATE
        effect = await self._rooms[type(push.body)](push)
        try:
            async with self._db.transaction() as tx:
                if not await self._settle(tx, number, REFUSED, Noted(TAKEN, by)):
                    return Code.OK  # somebody else was quicker
                noted = await effect(tx)
                if noted.state != TAKEN:
                    await self._settle(tx, number, TAKEN, noted)
        except UniqueViolation:  # the transaction was told and taken otherwise
            return Code.ILLEGAL_STATE
        return Code.OK if noted.state == TAKEN else Code.ILLEGAL_STATE

    async def take_notices_again(self, card_no: str) -> None:
        """A card is bound: what the bank said of its agreement before counts now."""
        for row in map(Kept._make, await self._db.all(ABOUT, {"bank": self.bank, "about": card_no})):
            if row.kind == "SIGN" and row.state == REFUSED:
                await self.take_again(row.push_seq, "the card was bound")

    async def _settle(self, tx: Transaction, number: int, before: str, noted: Noted) -> bool:
        return await tx.execute(SETTLE, {
            "b_bank": self.bank, "b_seq": number, "b_state": before, "state": noted.state,
            "reason": noted.reason[:100], "updated_at": self._clock.now_ms()}) == 1

    def _report(self, push: Push, detail: str) -> None:
        raise_alert(self._trace, "AIRSTAR-11", f"{self.bank}:{about(push)}", detail)


async def _duplicate(_tx: Questions) -> Noted:
    """A second push of one transaction causes nothing."""
    return Noted(DUPLICATE, "told before under another number")
