"""Bank-securities agreements of CMB and CMBC: a customer's card is signed for a market, or it is not (channels.md §2).

Signing happens at the bank; the bank tells of it with a notice (200107). One notice may overtake another when missed
ones are fetched later, so a notice older than the one that counts changes nothing. Signed means OPEN, unsigned CLOSED
(gaps.md A-43): the one check of the Confirm step for all three banks.

The bank knows a card by its number, we by its row: a card that was unbound and bound again has to be signed again, and
the notice of that gives the agreement to the new row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sqlalchemy import bindparam, insert, select, update

from core.accounts import CardHolder
from core.cards.opened import Opened, nothing_follows
from core.clock import Clock
from core.domain import MandateStatus
from core.errors import Code, Refusal
from core.storage import Database, Questions, Statement, Transaction, UniqueViolation
from core.storage.account import bank_card_bst as agreement_table


class Agreement(NamedTuple):
    """One row of ``bank_card_bst``; ``push_seq``: the notice it rests on, 0 if taken over from an earlier platform."""

    id: int
    uid: int
    card_id: int
    bank: str
    card_no: str
    market: int
    signed: int
    push_seq: int

    @property
    def status(self) -> MandateStatus:
        """In the words that all BST banks share (A-43)."""
        return MandateStatus.OPEN if self.signed else MandateStatus.CLOSED


_C = agreement_table.c
_COLUMNS = tuple(_C[name] for name in Agreement._fields)
OF_CARD = Statement(select(*_COLUMNS).where(_C.card_id == bindparam("card"), _C.market == bindparam("market")))
OF_NUMBER = Statement(select(*_COLUMNS).where(
    _C.bank == bindparam("bank"), _C.card_no == bindparam("number"), _C.market == bindparam("market")))
NEW = Statement(insert(agreement_table).values({name: bindparam(name) for name in (
    *Agreement._fields[1:], "signed_at", "unsigned_at", "created_at", "updated_at")}))
CHANGE = Statement(
    update(agreement_table).where(_C.id == bindparam("b_id"), _C.push_seq < bindparam("b_seq")).values(
        uid=bindparam("uid"), card_id=bindparam("card_id"), signed=bindparam("signed"), push_seq=bindparam("seq"),
        signed_at=bindparam("signed_at"), unsigned_at=bindparam("unsigned_at"), updated_at=bindparam("now")))


async def _nothing_waits(_card_no: str) -> None:
    """Of an account database that nobody pushes to."""


class Agreements:
    """Agreements with one of the two banks, in the account database."""

    def __init__(self, bank: str, name: str, db: Database, clock: Clock) -> None:
        """``bank``: cmb or cmbc; ``name``: as customers call it."""
        self.bank, self._name, self._db, self._clock = bank, name, db, clock
        self.on_open: Opened = nothing_follows
        self.on_unknown: Callable[[str], Awaitable[None]] = _nothing_waits

    async def adopt(self, holder: CardHolder, card_no: str, markets: int, *, signed: bool = True) -> None:
        """Record what was agreed before this platform (``markets``: a mask of HK 1, US 2, HKCC 4)."""
        for market in (1, 2, 4):
            if markets & market:
                await self._insert(self._db, holder, card_no, market, signed, 0)

    async def of_card(self, card_id: int, market: int, card_no: str = "") -> Agreement | None:
        """The agreement of a card for a market; what the bank said of its number before it was bound counts now."""
        row = await self._db.first(OF_CARD, {"card": card_id, "market": market})
        if row is None and card_no:
            await self.on_unknown(card_no)
            row = await self._db.first(OF_CARD, {"card": card_id, "market": market})
        return Agreement(*row) if row else None

    async def check(self, card_id: int, market: int, card_no: str = "") -> Agreement | Refusal:
        """The agreement of a signed card, or BLOCKED with what the customer should do (AIR-03, A-43)."""
        agreement = await self.of_card(card_id, market, card_no)
        if agreement is None or not agreement.signed:
            state = "has not been signed" if agreement is None else "has been ended"
            return Refusal(Code.BLOCKED, f"the {self._name} agreement {state} for this market: please sign at the bank")
        return agreement

    async def notice(self, holder: CardHolder, card_no: str, market: int, *, signed: bool, push_seq: int) -> bool:
        """The bank's word that a card was signed or unsigned; False if a later one is known already. ``push_seq`` below
        0 is no number of the bank's: such a notice counts as the latest (`core.deposits.pushes`)."""
        try:
            async with self._db.transaction() as tx:
                return await self._notice(tx, holder, card_no, market, signed, push_seq)
        except UniqueViolation:  # another worker wrote the first one at this moment
            async with self._db.transaction() as tx:
                return await self._notice(tx, holder, card_no, market, signed, push_seq)

    async def _notice(self, tx: Transaction, holder: CardHolder, card_no: str, market: int, signed: bool,
                      push_seq: int) -> bool:
        row = await tx.first(OF_NUMBER, {"bank": self.bank, "number": card_no, "market": market})
        if row is None:
            await self._insert(tx, holder, card_no, market, signed, max(0, push_seq))
        elif not await self._change(tx, row[0], holder, signed, push_seq if push_seq >= 0 else row[-1] + 1):
            return False
        if signed:
            await self.on_open(tx, holder.card_id)
        return True

    async def _change(self, tx: Transaction, agreement: int, holder: CardHolder, signed: bool, push_seq: int) -> bool:
        now = self._clock.now_ms()
        return await tx.execute(CHANGE, {
            "b_id": agreement, "b_seq": push_seq, "uid": holder.uid, "card_id": holder.card_id, "signed": int(signed),
            "seq": push_seq, "signed_at": now if signed else None, "unsigned_at": None if signed else now,
            "now": now}) == 1

    async def _insert(self, db: Questions, holder: CardHolder, card_no: str, market: int, signed: bool,
                      push_seq: int) -> None:
        now = self._clock.now_ms()
        await db.execute(NEW, {
            "uid": holder.uid, "card_id": holder.card_id, "bank": self.bank, "card_no": card_no, "market": market,
            "signed": int(signed), "push_seq": push_seq, "signed_at": now if signed else None,
            "unsigned_at": None if signed else now, "created_at": now, "updated_at": now})
