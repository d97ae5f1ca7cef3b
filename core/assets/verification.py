"""The full check of risk control's books: entries, balances and holds tell the same story (FRZ-06, FRZ-07).

Each check is one query and one sentence. Balances and holds are compared with the entries, never with each other's
cached sums alone, so a finding names the place where the story first differs.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from sqlalchemy import and_, case, func, or_, select

from core.assets.answers import Finding
from core.assets.operations import ADOPTS, Bucket
from core.storage import Database, Statement
from core.storage.assets import balance, entry, hold, posting

MAX_PER_CHECK: Final = 100
"""Findings reported per check: the first ones show the cause."""

_FROZEN, _TRANSIT, _CLOSED = 1, 2, 3
_BUCKETS: Final = (Bucket.AVAILABLE, Bucket.FROZEN, Bucket.IN_TRANSIT)


def _sum_of(bucket: Bucket) -> Any:
    return func.coalesce(func.sum(case((entry.c.bucket == bucket.value, entry.c.delta), else_=0)), 0)


def _held_in(stage: int) -> Any:
    return func.sum(case((hold.c.stage == stage, hold.c.amount), else_=0))


UNBALANCED = Statement(
    select(entry.c.posting_id, entry.c.ccy, func.sum(entry.c.delta)).group_by(entry.c.posting_id, entry.c.ccy)
    .having(func.sum(entry.c.delta) != 0).order_by(entry.c.posting_id).limit(MAX_PER_CHECK))

REFUSED_YET_MOVED = Statement(
    select(posting.c.key, posting.c.code).where(posting.c.code != 0, posting.c.id == entry.c.posting_id)
    .order_by(posting.c.id).limit(MAX_PER_CHECK))

DONE_YET_UNMOVED = Statement(
    select(posting.c.key, posting.c.op)
    .select_from(posting.outerjoin(entry, entry.c.posting_id == posting.c.id))
    .where(posting.c.code == 0, posting.c.op.not_in(ADOPTS), entry.c.id.is_(None))
    .order_by(posting.c.id).limit(MAX_PER_CHECK))

BY_ENTRIES = Statement(
    select(entry.c.account, entry.c.ccy, *map(_sum_of, _BUCKETS)).where(entry.c.bucket != Bucket.EXTERNAL.value)
    .group_by(entry.c.account, entry.c.ccy).order_by(entry.c.account, entry.c.ccy))

BY_BALANCE = Statement(
    select(balance.c.trade_acc_id, balance.c.ccy, balance.c.available, balance.c.frozen, balance.c.in_transit)
    .order_by(balance.c.trade_acc_id, balance.c.ccy))

BY_HOLDS = Statement(
    select(hold.c.trade_acc_id, hold.c.ccy, _held_in(_FROZEN), _held_in(_TRANSIT)).where(hold.c.stage != _CLOSED)
    .group_by(hold.c.trade_acc_id, hold.c.ccy).order_by(hold.c.trade_acc_id, hold.c.ccy))

# What the entries of a hold's own postings leave in frozen and in_transit: its amount while open, nothing afterwards.
# A hold closed twice leaves a negative sum, one never opened by a posting leaves too little.
_LEFT_FROZEN, _LEFT_TRANSIT = _sum_of(Bucket.FROZEN), _sum_of(Bucket.IN_TRANSIT)
HOLDS_ASTRAY = Statement(
    select(hold.c.hold_id, hold.c.stage, hold.c.amount, _LEFT_FROZEN, _LEFT_TRANSIT)
    .select_from(hold.outerjoin(posting, posting.c.hold_id == hold.c.hold_id)
                 .outerjoin(entry, entry.c.posting_id == posting.c.id))
    .group_by(hold.c.hold_id, hold.c.stage, hold.c.amount)
    .having(or_(case((hold.c.stage == _FROZEN, hold.c.amount), else_=0) != _LEFT_FROZEN,
                case((hold.c.stage == _TRANSIT, hold.c.amount), else_=0) != _LEFT_TRANSIT))
    .order_by(hold.c.hold_id).limit(MAX_PER_CHECK))

CLOSING_UNRECORDED = Statement(
    select(hold.c.hold_id, hold.c.stage)
    .where(or_(and_(hold.c.stage == _CLOSED, or_(hold.c.closed_by.is_(None), hold.c.closed_at.is_(None))),
               and_(hold.c.stage != _CLOSED, or_(hold.c.closed_by.is_not(None), hold.c.closed_at.is_not(None)))))
    .order_by(hold.c.hold_id).limit(MAX_PER_CHECK))


async def verify(db: Database) -> list[Finding]:
    """All findings, in one transaction: the books as they are at one moment."""
    async with db.transaction() as tx:
        found = [
            *(Finding("entries sum to zero", f"posting {number}", f"{ccy} entries sum to {total}")
              for number, ccy, total in await tx.all(UNBALANCED, {})),
            *(Finding("a refusal moves nothing", f"posting {key}", f"has entries in spite of code {code}")
              for key, code in await tx.all(REFUSED_YET_MOVED, {})),
            *(Finding("an operation done has entries", f"posting {key}", f"{op} has none")
              for key, op in await tx.all(DONE_YET_UNMOVED, {})),
        ]
        entries = {(account, ccy): tuple(map(int, sums)) for account, ccy, *sums in await tx.all(BY_ENTRIES, {})}
        balances = {(str(account), ccy): tuple(sums) for account, ccy, *sums in await tx.all(BY_BALANCE, {})}
        holds = {(str(account), ccy): tuple(map(int, sums)) for account, ccy, *sums in await tx.all(BY_HOLDS, {})}
        found += _differences("balances equal the entries", balances, entries, (0, 0, 0))
        found += _differences("open holds equal frozen and in_transit", holds,
                              {place: sums[1:] for place, sums in balances.items()}, (0, 0))
        found += [Finding("a hold's entries equal its stage", f"hold {hold_id}",
                          f"stage {stage} of {amount}, entries leave {frozen} frozen and {transit} in transit")
                  for hold_id, stage, amount, frozen, transit in await tx.all(HOLDS_ASTRAY, {})]
        found += [Finding("a hold's closing is recorded", f"hold {hold_id}", f"stage {stage}")
                  for hold_id, stage in await tx.all(CLOSING_UNRECORDED, {})]
    return found


_Sums = dict[tuple[str, str], tuple[int, ...]]


def _differences(check: str, ours: _Sums, theirs: _Sums, nothing: tuple[int, ...]) -> list[Finding]:
    """Places where two books differ; a place missing from one counts as zeros there."""
    pairs = ((place, ours.get(place, nothing), theirs.get(place, nothing)) for place in sorted({**ours, **theirs}))
    found = (Finding(check, f"account {place[0]} {place[1]}", f"{list(one)} against {list(other)}")
             for place, one, other in pairs if one != other)
    return list(islice(found, MAX_PER_CHECK))
