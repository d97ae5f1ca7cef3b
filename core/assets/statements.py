"""Risk control's statements on its own database. Parameters begin with ``b_``."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Column, String, and_, bindparam, func, insert, select, update

from core.assets.operations import VOID, Bucket
from core.storage import Statement
from core.storage.assets import balance, entry, hold, posting


def _length(column: Column[Any]) -> int:
    """How many characters a VARCHAR takes."""
    kind = column.type
    assert isinstance(kind, String) and kind.length is not None
    return kind.length


KEY_MAX: Final = _length(posting.c.key)
HOLD_MAX: Final = _length(hold.c.hold_id)

_THIS_BALANCE = and_(balance.c.trade_acc_id == bindparam("b_account"), balance.c.ccy == bindparam("b_ccy"))

FIND_POSTING = Statement(
    select(posting.c.id, posting.c.key, posting.c.op, posting.c.trade_acc_id, posting.c.ccy, posting.c.amount,
           posting.c.hold_id, posting.c.code).where(posting.c.key == bindparam("b_key")))

SAVE_POSTING = Statement(insert(posting).values(
    key=bindparam("b_key"), op=bindparam("b_op"), trade_acc_id=bindparam("b_account"), ccy=bindparam("b_ccy"),
    amount=bindparam("b_amount"), hold_id=bindparam("b_hold_id"), code=bindparam("b_code"),
    created_at=bindparam("b_created_at")))

SAVE_ENTRIES = Statement(insert(entry).values([
    {"posting_id": bindparam("b_posting_id"), "account": bindparam("b_origin_account"),
     "bucket": bindparam("b_origin"), "ccy": bindparam("b_ccy"), "delta": bindparam("b_less")},
    {"posting_id": bindparam("b_posting_id"), "account": bindparam("b_target_account"),
     "bucket": bindparam("b_target"), "ccy": bindparam("b_ccy"), "delta": bindparam("b_more")}]))

FIND_BALANCE = Statement(select(balance.c.available, balance.c.frozen, balance.c.in_transit).where(_THIS_BALANCE))

# Matches no row if a bucket would become negative (FRZ-05): the row's own lock decides, not an earlier reading.
CHANGE_BALANCE = Statement(
    update(balance)
    .where(_THIS_BALANCE, balance.c.available + bindparam("b_available") >= 0,
           balance.c.frozen + bindparam("b_frozen") >= 0, balance.c.in_transit + bindparam("b_in_transit") >= 0)
    .values(available=balance.c.available + bindparam("b_available"), frozen=balance.c.frozen + bindparam("b_frozen"),
            in_transit=balance.c.in_transit + bindparam("b_in_transit")))

ADD_BALANCE = Statement(insert(balance).values(
    trade_acc_id=bindparam("b_account"), ccy=bindparam("b_ccy"), available=bindparam("b_available"),
    frozen=bindparam("b_frozen"), in_transit=bindparam("b_in_transit")))

FIND_HOLD = Statement(
    select(hold.c.hold_id, hold.c.trade_acc_id, hold.c.ccy, hold.c.amount, hold.c.freeze_type, hold.c.stage,
           hold.c.closed_by, hold.c.opened_at, hold.c.closed_at).where(hold.c.hold_id == bindparam("b_hold_id")))

SAVE_HOLD = Statement(insert(hold).values(
    hold_id=bindparam("b_hold_id"), trade_acc_id=bindparam("b_account"), ccy=bindparam("b_ccy"),
    amount=bindparam("b_amount"), freeze_type=bindparam("b_freeze_type"), stage=bindparam("b_stage"),
    closed_by=bindparam("b_closed_by"), opened_at=bindparam("b_opened_at"), closed_at=bindparam("b_closed_at")))

# The guard is what was read; a hold that was closed may still be taken by settle, hence both columns.
CHANGE_HOLD = Statement(
    update(hold)
    .where(hold.c.hold_id == bindparam("b_hold_id"), hold.c.stage == bindparam("b_was"),
           hold.c.closed_by.is_not_distinct_from(bindparam("b_was_by")))
    .values(stage=bindparam("b_stage"), closed_by=bindparam("b_closed_by"), closed_at=bindparam("b_closed_at")))

TOTAL_BALANCES = Statement(
    select(balance.c.ccy, func.sum(balance.c.available), func.sum(balance.c.frozen), func.sum(balance.c.in_transit))
    .group_by(balance.c.ccy).order_by(balance.c.ccy))

TOTAL_EXTERNAL = Statement(
    select(entry.c.ccy, func.sum(entry.c.delta)).where(entry.c.bucket == Bucket.EXTERNAL.value).group_by(entry.c.ccy))

_FROM = entry.alias("origin")
_TO = entry.alias("target")

POSTINGS_AFTER = Statement(
    select(posting.c.id, posting.c.key, posting.c.op, posting.c.trade_acc_id, posting.c.ccy, posting.c.amount,
           posting.c.hold_id, posting.c.code, _FROM.c.bucket, _TO.c.bucket)
    .select_from(posting.outerjoin(_FROM, and_(_FROM.c.posting_id == posting.c.id, _FROM.c.delta < 0))
                 .outerjoin(_TO, and_(_TO.c.posting_id == posting.c.id, _TO.c.delta > 0)))
    .where(posting.c.id > bindparam("b_after"), posting.c.op != VOID)
    .order_by(posting.c.id).limit(bindparam("b_limit")))

BALANCE_THEN = Statement(
    select(entry.c.bucket, func.sum(entry.c.delta))
    .where(entry.c.account == bindparam("b_account"), entry.c.ccy == bindparam("b_ccy"),
           entry.c.posting_id <= bindparam("b_id")).group_by(entry.c.bucket))
