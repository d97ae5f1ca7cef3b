"""The deposit Procedure: 6 states, transitions DT-01…DT-08 (orchestration.md §2, gaps.md B-01.1).

A deposit is created in ``new(waiting)`` (DT-01), reviewed by rules at once, credited by risk control, and may be
reversed once. An unknown risk control outcome is no fact: the effect is asked again by its key, ``pending`` stays.
"""

from __future__ import annotations

from core.orchestration.table import Machine, Row, State, machine

WAITING = State("new", "waiting")
MANUAL_CONFIRM = State("new", "manual_confirm")
PENDING = State("pending", "")
END_OK = State("end_ok", "deposit_ok")
END_REJECT = State("end_reject", "")
END_REVERSE = State("end_reverse", "deposit_ok")

STATES = (WAITING, MANUAL_CONFIRM, PENDING, END_OK, END_REJECT, END_REVERSE)

FACTS = {
    "REVIEW_HIT": "a review rule wants a person to look",
    "REVIEW_CLEAR": "no review rule hit, or whitelisted",
    "CONFIRM": "operations approved",
    "REJECT": "operations rejected",
    "CREDITED": "risk control added the money",
    "CREDIT_REFUSED": "risk control refused definitely",
    "REVERSE": "a supervisor wants the credit back",
    "DEBITED": "risk control took the money back",
    "DEBIT_REFUSED": "the balance does not suffice for the reversal",
}

# Effects: CREDIT and DEBIT are risk control's; TELL_DEPOSIT writes the result back to the Apply.
ROWS = (
    Row("DT-02", WAITING, "REVIEW_HIT", MANUAL_CONFIRM),
    Row("DT-03", WAITING, "REVIEW_CLEAR", PENDING, ("CREDIT",)),
    Row("DT-04", MANUAL_CONFIRM, "CONFIRM", PENDING, ("CREDIT",)),
    Row("DT-05", MANUAL_CONFIRM, "REJECT", END_REJECT, ("TELL_DEPOSIT",)),
    Row("DT-06", PENDING, "CREDITED", END_OK, ("TELL_DEPOSIT",)),
    Row("DT-07", PENDING, "CREDIT_REFUSED", END_REJECT, ("TELL_DEPOSIT",)),
    Row("DT-08a", END_OK, "REVERSE", None, ("DEBIT",)),
    Row("DT-08", END_OK, "DEBITED", END_REVERSE, ("TELL_DEPOSIT",)),
    Row("DT-08b", END_OK, "DEBIT_REFUSED", None),
)
CREATION = Row("DT-01", WAITING, "CREATE", WAITING)

DEPOSIT: Machine = machine("cash_deposit", STATES, FACTS, ROWS, ignored={})
