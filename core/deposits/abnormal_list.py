"""The list of abnormal deposits: entries that people have, one row of ``abnormal_deposits`` each (gaps.md B-10).

The alert DEP-02 stands as long as a row is open because no machine could match its entry. What a reviewer rejected, or
a supervisor reversed, is on the list without one: they have seen it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import bindparam, insert, select, update

from core.alerts import clear_alert, raise_alert
from core.deposits.statements import Flow
from core.storage import Questions, Statement, Transaction
from core.storage.primary import abnormal_deposits
from core.trace import Trace

UNMATCHED, LARGE_UNMATCHED, BLACKLISTED = "UNMATCHED", "LARGE_UNMATCHED", "BLACKLISTED_REMITTER"
NOT_CREDITED, REVERSED = "DEPOSIT_REJECTED", "DEPOSIT_REVERSED"
"""Reasons why an entry is for people."""
OWNED: Final = "MATCH"
"""Reason why it is not any more: it has found its application."""
OPENED, CLOSED = "OPEN", "CLOSED"
_ALERT: Final = "DEP-02"
_ALERTED: Final = (UNMATCHED, LARGE_UNMATCHED, BLACKLISTED)

_A = abnormal_deposits.c
NEW_ABNORMAL = Statement(insert(abnormal_deposits))
KNOWN = Statement(select(_A.id, _A.status, _A.reason).where(
    _A.bank_type == bindparam("bank"), _A.flow_id == bindparam("flow")))
AGAIN = Statement(update(abnormal_deposits).where(_A.id == bindparam("b_id")).values(
    {name: bindparam(name) for name in ("reason", "status", "handler", "note", "updated_at")}))
UNOWNED = Statement(select(_A.flow_id).where(
    _A.bank_type == bindparam("bank"), _A.status == OPENED, _A.reason.in_(_ALERTED)))


async def note_abnormal(tx: Transaction, trace: Trace, flow: Flow, reason: str, now_ms: int) -> None:
    """Give an entry to people, within the caller's transaction; one row for each entry."""
    row = await tx.first(KNOWN, {"bank": flow.bank_type, "flow": flow.id})
    if row is None:
        await tx.execute(NEW_ABNORMAL, {
            "bank_type": flow.bank_type, "flow_id": flow.id, "reason": reason, "status": OPENED, "handler": "",
            "note": "", "created_at": now_ms, "updated_at": now_ms})
    else:
        await tx.execute(AGAIN, {"b_id": row[0], "reason": reason, "status": OPENED, "handler": "", "note": "",
                                 "updated_at": now_ms})
    if reason in _ALERTED:
        tx.after_commit(lambda: raise_alert(
            trace, _ALERT, f"F{flow.id}", f"{flow.bank_type} {flow.bank_ref}: {reason}"))


async def close_abnormal(
    tx: Transaction, trace: Trace, flow: Flow, reason: str, handler: str, note: str, now_ms: int
) -> None:
    """An entry has been dealt with, if it was abnormal; within the transaction that deals with it."""
    row = await tx.first(KNOWN, {"bank": flow.bank_type, "flow": flow.id})
    if row is None:
        return
    number, status, was = row
    await tx.execute(AGAIN, {"b_id": number, "reason": reason, "status": CLOSED, "handler": handler, "note": note,
                             "updated_at": now_ms})
    if status == OPENED and was in _ALERTED:
        tx.after_commit(lambda: clear_alert(
            trace, _ALERT, f"F{flow.id}", f"{flow.bank_type} {flow.bank_ref}: {reason}"))


async def was_abnormal(db: Questions, flow: Flow) -> bool:
    """Whether an entry was given to people before it was matched."""
    return await db.first(KNOWN, {"bank": flow.bank_type, "flow": flow.id}) is not None


async def unowned(db: Questions, bank: str) -> dict[int, None]:
    """Entries of a bank that people have because no machine could match them."""
    return dict.fromkeys(flow_id for (flow_id,) in await db.all(UNOWNED, {"bank": bank}))
