"""What people see of a Procedure when they must judge it: the review screen, and why a withdrawal was deferred."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from core.calendars import Diagnosis
from core.domain import BizType
from core.orchestration import withdraw_table as W
from core.orchestration.records import SYSTEM, HistoryRow, Procedure
from core.orchestration.table import State
from core.transfer import TRANS_TYPES

BLACKLIST = "blacklist"


def review_screen(p: Procedure, large: int) -> dict[str, Any]:
    """Amounts in minor units. ``rules``: the review rules that hit, strongest first; ``large``: the threshold.

    A deposit shows the statement it was matched with (SBA-DEP-031); a withdrawal its card and the audit before it.
    """
    rules = [rule for rule in p.fields.review_hits.split(",") if rule]
    shown: dict[str, Any] = {
        "id": p.id, "version": p.version, "state": p.state.label, "nn_uid": p.nn_uid, "amount": p.fields.amount,
        "ccy": p.fields.ccy, "large": large, "blacklisted": BLACKLIST in rules, "rules": rules}
    return shown | (_statement(p) if p.biz_type == BizType.CASH_DEPOSIT else _payment(p))


def _statement(p: Procedure) -> dict[str, Any]:
    d, way = p.deposit, TRANS_TYPES[p.deposit.transfer_method]
    return {"deposit_type": d.deposit_type, "statement": {
        "bank": way.bank, "way": way.way, "transaction_id": d.transaction_id, "bank_ref_id": d.bank_ref_id,
        "source": d.source}}


def _payment(p: Procedure) -> dict[str, Any]:
    w = p.withdraw
    return {"bank": w.transfer_dest_bank, "card": w.transfer_dest_card, "channel": w.transfer_method,
            "payee": w.payee_name, "settled": w.settled_amount, "margin": w.margin_amount,
            "reviewed_by": w.reviewed_by}


class Deferral(NamedTuple):
    """Why a withdrawal waits. ``cause``: "calendar", "weekend", "cutoff", "bank window" or "operations"; ``since``
    and ``resumes_at`` epoch ms, the latter None once it has gone on; ``date`` its transaction date (yyyymmdd)."""

    cause: str
    detail: str
    remedy: str
    since: int
    date: int
    resumes_at: int | None


def deferral(
    p: Procedure, history: Sequence[HistoryRow], diagnose: Callable[[Procedure, int], Diagnosis]
) -> Deferral | None:
    """The last deferral of a Procedure whose ``history`` is given latest first; None if there was none."""
    row = next((row for row in history if _deferred(row, p)), None)
    if row is None:
        return None
    if row.operator != SYSTEM.id:
        return Deferral("operations", f"{row.operator}: {row.remark}", "", row.created_at, p.transaction_date, p.due_at)
    found = diagnose(p, row.created_at)
    return Deferral(str(found.cause), found.detail, found.remedy, row.created_at, p.transaction_date, p.due_at)


def _deferred(row: HistoryRow, p: Procedure) -> bool:
    """Moved to another day; or deducted, and waiting for the bank's window right now."""
    to = State(row.to_status, row.to_ext_status)
    return to in (W.MOVE_NEXT, W.WAITING_TRADE) or (to == W.DEDUCT_DONE == p.state and p.due_at is not None)
