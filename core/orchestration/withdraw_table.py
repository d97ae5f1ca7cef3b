"""The withdrawal Procedure: 17 states, transitions WT-01…WT-33 (orchestration.md §3, gaps.md B-01.2).

Money moves before the state does: a row that ends the Procedure well (WT-19, 22, 24, 32) is taken on the outcome
``CONSUMED`` or ``SETTLED`` of an effect that an earlier row (same id with a letter) requested. So no terminal
Procedure ever has an open hold, at any commit. ``move_next`` turns the deduction back into a freeze (A-18).
A row id with a letter is the requesting half of the documented transition; it stays in its state.
"""

from __future__ import annotations

from core.orchestration.table import Machine, Row, State, machine

FREEZE = State("new", "freeze")
WAITING = State("new", "waiting")
MANUAL_CONFIRM = State("new", "manual_confirm")
CONFIRMED = State("new", "confirmed")
BLANK = State("new", "")
DEDUCT_DONE = State("pending", "deduct_done")
TRANSFER_AUTO = State("pending", "transfer_auto")
TRANSFER_MANUAL = State("pending", "transfer_manual")
RETURN = State("pending", "return")
UNFREEZE = State("pending", "unfreeze")
MOVE_NEXT = State("pending", "move_next")
WAITING_TRADE = State("pending", "waiting_trade")
TRANSFER_REJECT = State("pending", "transfer_reject")
END_OK = State("end_ok", "transfer_done")
END_REJECT = State("end_reject", "")
END_CANCEL = State("end_cancel", "")
END_REVERSE = State("end_reverse", "transfer_done")

NEW = (FREEZE, WAITING, MANUAL_CONFIRM, CONFIRMED, BLANK)
PENDING = (DEDUCT_DONE, TRANSFER_AUTO, TRANSFER_MANUAL, RETURN, UNFREEZE, MOVE_NEXT, WAITING_TRADE, TRANSFER_REJECT)
TERMINAL = (END_OK, END_REJECT, END_CANCEL, END_REVERSE)
OPEN = NEW + PENDING
STATES = OPEN + TERMINAL

FACTS = {
    "FROZEN": "risk control froze the amount",
    "FREEZE_REFUSED": "risk control refused the freeze",
    "REVIEW_HIT": "a review rule wants a person to look and no audit is on record",
    "DRIVE": "the scheduled script (or, for BST, the platform at once) drives on",
    "CONFIRM": "operations approved the review",
    "REVIEW_DONE": "a confirmed review goes on by itself",
    "MANUAL_REJECT": "operations rejected in review",
    "REJECT": "operations rejected",
    "CANCEL": "the user or a supervisor cancelled",
    "DEDUCTED": "risk control deducted formally",
    "DEDUCT_REFUSED": "risk control refused the deduction definitely",
    "GATES_OPEN": "BST: market gate and bank gate are open",
    "START_MANUAL": "not BST: operations transfer by hand",
    "MARKET_CLOSED": "BST: the market gate is closed",
    "DEFER": "operations or the platform defer to the next trading day",
    "NO_TRADING_DAY": "not BST, and today is no trading day",
    "DATE_ARRIVED": "the transaction date has arrived",
    "TRADE_DAY_PAID": "the trading day arrived and the bank's success is on record",
    "TRADE_DAY_FAILED": "the trading day arrived and the bank's failure is on record",
    "TRADE_DAY_NO_LEG": "the trading day arrived and no bank leg exists",
    "BANK_SUCCESS": "the bank paid",
    "BANK_FAILED": "the bank did not pay, definitely",
    "MANUAL_DONE": "operations confirm the transfer",
    "MANUAL_FAILED": "operations confirm that the transfer failed",
    "CONSUMED": "risk control closed the hold: the money has left",
    "RESTORED": "risk control gave the deducted amount back",
    "RELEASED": "risk control released the freeze",
    "HOLD_OUTSTANDING": "a hold is still open",
    "CLOSE_REJECT": "no hold is open, the intent is reject",
    "CLOSE_CANCEL": "no hold is open, the intent is cancel",
    "REVERSE": "a supervisor reverses a completed withdrawal",
    "ADDED_BACK": "risk control gave the money of a completed withdrawal back",
    "FORCE_COMPLETE": "a supervisor states: the bank has paid",
    "SETTLED": "risk control closed whatever was held: the money has left",
    "SETTLE_REFUSED": "nothing is held and the balance does not suffice",
    "FORCE_ROLLBACK_DEDUCTED": "a supervisor states: not paid; the amount is deducted",
    "FORCE_ROLLBACK_FROZEN": "a supervisor states: not paid; the amount is frozen",
    "FORCE_ROLLBACK_UNFUNDED": "a supervisor states: not paid; nothing is held",
}

# Effects of risk control: FREEZE DEDUCT REFREEZE RESTORE RELEASE CONSUME SETTLE ADD_BACK INSPECT (which hold is open?);
# INSTRUCT gives the bank instruction to the withdrawal service; TELL_WITHDRAW writes the result back to the Task.
_DIRECT = (
    Row("WT-02", FREEZE, "FROZEN", WAITING),
    Row("WT-03", FREEZE, "FREEZE_REFUSED", TRANSFER_REJECT, ("INSPECT",)),
    Row("WT-03", FREEZE, "REJECT", TRANSFER_REJECT, ("INSPECT",)),
    Row("WT-04", WAITING, "REVIEW_HIT", MANUAL_CONFIRM),
    Row("WT-05", WAITING, "DRIVE", BLANK, ("DEDUCT",)),
    Row("WT-06", MANUAL_CONFIRM, "CONFIRM", CONFIRMED),
    Row("WT-07", CONFIRMED, "REVIEW_DONE", BLANK, ("DEDUCT",)),
    Row("WT-08", MANUAL_CONFIRM, "MANUAL_REJECT", UNFREEZE, ("RELEASE",)),
    Row("WT-09", WAITING, "REJECT", UNFREEZE, ("RELEASE",)),
    Row("WT-09", MANUAL_CONFIRM, "REJECT", UNFREEZE, ("RELEASE",)),
    Row("WT-09", CONFIRMED, "REJECT", UNFREEZE, ("RELEASE",)),
    Row("WT-09", BLANK, "REJECT", UNFREEZE, ("RELEASE",)),
    Row("WT-10", WAITING, "CANCEL", UNFREEZE, ("RELEASE",)),
    Row("WT-10", MANUAL_CONFIRM, "CANCEL", UNFREEZE, ("RELEASE",)),
    Row("WT-10", CONFIRMED, "CANCEL", UNFREEZE, ("RELEASE",)),
    Row("WT-11", BLANK, "DEDUCTED", DEDUCT_DONE),
    Row("WT-12", BLANK, "DEDUCT_REFUSED", TRANSFER_REJECT, ("INSPECT",)),
    Row("WT-13", DEDUCT_DONE, "GATES_OPEN", TRANSFER_AUTO, ("INSTRUCT",)),
    Row("WT-14", DEDUCT_DONE, "START_MANUAL", TRANSFER_MANUAL),
    Row("WT-15", DEDUCT_DONE, "MARKET_CLOSED", MOVE_NEXT, ("REFREEZE", "TELL_WITHDRAW")),
    Row("WT-15", DEDUCT_DONE, "DEFER", MOVE_NEXT, ("REFREEZE", "TELL_WITHDRAW")),
    Row("WT-16", TRANSFER_MANUAL, "DEFER", MOVE_NEXT, ("REFREEZE", "TELL_WITHDRAW")),
    Row("WT-17", MOVE_NEXT, "DATE_ARRIVED", FREEZE, ("FREEZE",)),
    Row("WT-18", DEDUCT_DONE, "NO_TRADING_DAY", WAITING_TRADE),
    Row("WT-19a", WAITING_TRADE, "TRADE_DAY_PAID", None, ("CONSUME",)),
    Row("WT-19", WAITING_TRADE, "CONSUMED", END_OK, ("TELL_WITHDRAW",)),
    Row("WT-20", WAITING_TRADE, "TRADE_DAY_FAILED", RETURN, ("RESTORE",)),
    Row("WT-21", WAITING_TRADE, "TRADE_DAY_NO_LEG", TRANSFER_MANUAL),
    Row("WT-19b", WAITING_TRADE, "BANK_SUCCESS", None),
    Row("WT-20b", WAITING_TRADE, "BANK_FAILED", None),
    Row("WT-22a", TRANSFER_AUTO, "BANK_SUCCESS", None, ("CONSUME",)),
    Row("WT-22b", TRANSFER_AUTO, "MANUAL_DONE", None, ("CONSUME",)),
    Row("WT-22", TRANSFER_AUTO, "CONSUMED", END_OK, ("TELL_WITHDRAW",)),
    Row("WT-23", TRANSFER_AUTO, "BANK_FAILED", RETURN, ("RESTORE",)),
    Row("WT-23", TRANSFER_AUTO, "MANUAL_FAILED", RETURN, ("RESTORE",)),
    Row("WT-24a", TRANSFER_MANUAL, "MANUAL_DONE", None, ("CONSUME",)),
    Row("WT-24", TRANSFER_MANUAL, "CONSUMED", END_OK, ("TELL_WITHDRAW",)),
    Row("WT-25", TRANSFER_MANUAL, "MANUAL_FAILED", RETURN, ("RESTORE",)),
    Row("WT-26", RETURN, "RESTORED", TRANSFER_REJECT, ("INSPECT",)),
    Row("WT-27", UNFREEZE, "RELEASED", TRANSFER_REJECT, ("INSPECT",)),
    Row("WT-28", TRANSFER_REJECT, "HOLD_OUTSTANDING", UNFREEZE, ("RELEASE",)),
    Row("WT-29", TRANSFER_REJECT, "CLOSE_REJECT", END_REJECT, ("TELL_WITHDRAW",)),
    Row("WT-30", TRANSFER_REJECT, "CLOSE_CANCEL", END_CANCEL, ("TELL_WITHDRAW",)),
    Row("WT-31a", END_OK, "REVERSE", None, ("ADD_BACK",)),
    Row("WT-31", END_OK, "ADDED_BACK", END_REVERSE, ("TELL_WITHDRAW",)),
)
# A supervisor's force comes from every open state. Rolling back what already rolls back only asks again.
_FORCED = tuple(
    row
    for state in OPEN
    for row in (
        Row("WT-32a", state, "FORCE_COMPLETE", None, ("SETTLE",)),
        Row("WT-32", state, "SETTLED", END_OK, ("TELL_WITHDRAW",)),
        Row("WT-32b", state, "SETTLE_REFUSED", None),
        Row("WT-33", state, "FORCE_ROLLBACK_DEDUCTED", RETURN if state is not RETURN else None, ("RESTORE",)),
        Row("WT-33", state, "FORCE_ROLLBACK_FROZEN", UNFREEZE if state is not UNFREEZE else None, ("RELEASE",)),
        Row("WT-33", state, "FORCE_ROLLBACK_UNFUNDED", TRANSFER_REJECT if state is not TRANSFER_REJECT else None,
            ("INSPECT",)),
    )
)
CREATION = Row("WT-01", FREEZE, "CREATE", FREEZE, ("FREEZE",))

# A bank result after a decision was made is recorded and compared, never applied.
LATE = (RETURN, UNFREEZE, TRANSFER_REJECT, END_OK, END_REJECT, END_CANCEL, END_REVERSE)

WITHDRAW: Machine = machine(
    "cash_withdraw", STATES, FACTS, _DIRECT + _FORCED, ignored={"BANK_SUCCESS": LATE, "BANK_FAILED": LATE})


def phase(state: State) -> str:
    """The phase a person sees, derived and never stored (A-03, SBA-WD-042)."""
    if state in (FREEZE,):
        return "FREEZE"
    if state in (WAITING, MANUAL_CONFIRM, CONFIRMED):
        return "REVIEW"
    return "RESULT" if state.terminal else "DEDUCT_TRANSFER"
