"""Alert rules: one literal table (tasks-and-monitoring.md §8, severities decided in gaps.md A.3a).

Whoever detects a condition emits an ``alert`` event through `raise_alert`; delivery, SLA and escalation are
readers of that stream. Severity fixes the notification level one to one (A-44).
"""

from __future__ import annotations

from typing import NamedTuple

from core.domain import Role
from core.trace import Trace

NOTIFY = {"Critical": "P0", "High": "P1", "Medium": "P2"}


class Rule(NamedTuple):
    name: str
    severity: str
    triage: str  # T0..T3
    group: str
    resolution: str
    escalate_after: str = ""  # setting with the seconds after which it escalates; by its severity if empty
    escalate_to: str = ""  # to whom then


RULES: dict[str, Rule] = {
    "AIRSTAR-01": Rule("Authorization creation timeout", "High", "T2", "airstar", "Check Airstar API connectivity"),
    "AIRSTAR-02": Rule("Authorization failure rate spike", "High", "T3", "airstar", "Investigate bank-side anomaly"),
    "AIRSTAR-03": Rule("Deposit creation failure", "High", "T3", "airstar", "Check request parameters and API"),
    "AIRSTAR-04": Rule("Deposit polling timeout", "High", "T2", "airstar", "Manually query bank side"),
    "AIRSTAR-05": Rule("Deposit refund", "High", "T2", "airstar", "Reversal + notify user"),
    "AIRSTAR-06": Rule("Withdrawal polling timeout", "High", "T2", "airstar", "Enters SyncAsbBstWithdraw"),
    "AIRSTAR-07": Rule("Withdrawal sync timeout", "Critical", "T0", "airstar", "Manually confirm bank-side status"),
    "AIRSTAR-08": Rule("Freeze not released", "Critical", "T0", "airstar", "Manually release freeze"),
    "AIRSTAR-09": Rule("Daily circuit breaker triggered", "Medium", "T3", "airstar", "Assess whether to resume"),
    "AIRSTAR-10": Rule("Cumulative alarm triggered", "Medium", "T3", "airstar", "Operations to monitor"),
    "AIRSTAR-11": Rule("Duplicate transaction detected", "High", "T2", "airstar", "Check deduplication logic"),
    "AIRSTAR-12": Rule("API connectivity failure", "Critical", "T1", "airstar", "Contact Airstar technical support"),
    "SOCK-01": Rule("Socket connection dropped", "Critical", "T1", "cmb_cmbc", "Auto-switch to backup server"),
    "SOCK-02": Rule("Timeout rate increase", "High", "T2", "cmb_cmbc", "Check network and bank-side status"),
    "SOCK-03": Rule("Rejection rate increase", "High", "T2", "cmb_cmbc", "Contact bank to confirm rejection reason"),
    "SOCK-04": Rule("Signature refused", "Critical", "T1", "cmb_cmbc", "Check the certificates with the bank"),
    "SOCK-05": Rule("No result of a transfer", "High", "T2", "cmb_cmbc", "Ask the bank by the reference"),
    "SOCK-06": Rule("Recovery of missed pushes failed", "High", "T2", "cmb_cmbc", "Run it again; ask the bank"),
    "SOCK-07": Rule("Reference used by somebody else", "Critical", "T0", "cmb_cmbc",
                    "Ask the bank whose transfer it has under the reference; pay and release nothing before"),
    "SOCK-08": Rule("Bank closed against our calendar", "High", "T2", "cmb_cmbc",
                    "Ask the bank for its hours; correct the calendar"),
    "SOCK-09": Rule("Push numbers began again", "Critical", "T1", "cmb_cmbc",
                    "Ask the bank since when; compare its day lists with what was taken"),
    "SOCK-10": Rule("Push told again with another content", "Critical", "T1", "cmb_cmbc",
                    "Ask the bank which is true; what was booked first stands"),
    "SOCK-11": Rule("Agreement of a card that is not bound here", "Medium", "T3", "cmb_cmbc",
                    "Counts once the customer has bound the card"),
    "ICBC-01": Rule("Balance chain break", "High", "T2", "icbc", "Run the alert handling script",
                    "icbc.escalate_after_s", Role.TECH_OPS),
    "ICBC-02": Rule("Pull timeout", "High", "T1", "icbc", "Check the group's dedicated line",
                    "icbc.escalate_after_s", Role.TECH_OPS),
    "ICBC-03": Rule("Canary lag", "Medium", "T3", "icbc", "Compare both groups; check line 2"),
    "ICBC-04": Rule("REFUND_SCRIPT_STALLED", "High", "T2", "icbc", "Investigate the canary's statements by hand",
                    "icbc.escalate_after_s", Role.TECH_OPS),
    "ICBC-05": Rule("Statement refunded after use", "High", "T2", "icbc", "Reversal + notify user"),
    "ICBC-06": Rule("ICBC statement refused", "High", "T2", "icbc", "Ask the bank what was meant; enter it by hand"),
    "ICBC-07": Rule("ICBC payment not taken as one of its own", "High", "T2", "icbc",
                    "Compare both groups with the bank's statement; credit it by emergency, or run the script",
                    "icbc.escalate_after_s", Role.TECH_OPS),
    "RECON-01": Rule("Reconciliation difference", "Medium", "T3", "reconciliation", "Compare with the bank's list"),
    "RECON-02": Rule("Paid twice, or paid in our books only", "Critical", "T0", "reconciliation",
                     "Stop, ask the bank by the reference"),
    "HSBC-01": Rule("Statement file quarantined", "High", "T2", "statements",
                    "Ask the bank for the file again; check both parties' keys"),
    "HSBC-02": Rule("Reference told with another content", "High", "T2", "statements",
                    "Ask the bank which of the two holds; void the wrong one"),
    "HSBC-03": Rule("SFTP pull fails", "High", "T1", "statements", "Check the line, host key and login"),
    "HSBC-04": Rule("Statement told late", "Medium", "T3", "statements", "Ask the bank why; tell the customers"),
    "BOCHK-01": Rule("BOCHK statements cannot be pulled", "High", "T2", "statements", "Check line and session"),
    "BOCHK-02": Rule("BOCHK statement refused", "High", "T2", "statements",
                     "Ask the bank what was meant; enter it by hand"),
    "CREDIT-01": Rule("Credits or notifications cannot be pulled", "High", "T2", "statements",
                      "Check the bank's line and our credentials"),
    "CREDIT-02": Rule("A credit that the bank counts is not told", "High", "T2", "statements",
                      "Ask the bank for the number; enter the credit by hand"),
    "CREDIT-03": Rule("Credit refused", "High", "T2", "statements", "Ask the bank what was meant; enter it by hand"),
    "CREDIT-04": Rule("Numbers of credits began again", "Critical", "T1", "statements",
                      "Ask the bank since when; compare its list with what was taken, hand the rest over in a file"),
    "S16-01": Rule("S16 report delay", "High", "T2", "statements",
                   "Check the FTP connection; confirm whether within bank service hours"),
    "S16-02": Rule("Statement correlation failure", "Medium", "T3", "statements",
                   "Check reference parsing; the bank may have a new unknown format"),
    "S16-03": Rule("Name not updated", "Medium", "T3", "statements",
                   "Check that S16 is pulled normally and the report contains the statement"),
    "S16-04": Rule("S16 file refused", "High", "T2", "statements", "Ask the bank to write the file again"),
    "DEP-01": Rule("Bank Statement backlog", "High", "T3", "deposit", "Check Matching task runs normally"),
    "DEP-02": Rule("Abnormal deposit", "Medium", "T3", "deposit", "Operations to review abnormal deposits"),
    "DEP-03": Rule("Auto-crediting failure", "High", "T2", "deposit", "Check SBA orchestration status"),
    "DEP-04": Rule("Matching engine stopped", "High", "T3", "deposit", "Check the matching round; restart the worker"),
    "DEP-05": Rule("AsbBstDepositJob accounting failure", "Critical", "T0", "deposit", "Check SBA orchestration"),
    "DEP-07": Rule("Refund needs a reversal the balance cannot bear", "Critical", "T0", "deposit",
                   "Contact the customer; note the debt"),
    "DEP-08": Rule("Bank-initiated deposit not processed", "High", "T2", "deposit", "Verify with the bank by hand"),
    "DEP-09": Rule("Statement of a credited deposit taken back", "High", "T2", "deposit", "Reversal + notify user"),
    "DEP-10": Rule("Cheque bounced", "High", "T2", "deposit", "Reversal + notify user"),
    "DEP-11": Rule("Hold of a cleared cheque not released", "High", "T2", "deposit", "Check risk control; release it"),
    "MATCH-01": Rule("Statements of a bank without match rules", "High", "T3", "deposit", "Register the bank's rules"),
    "WD-03": Rule("Reversal operation", "High", "T2", "withdrawal", "Confirm Reversal reason"),
    "WD-04": Rule("Reversal (restoration) failure", "Critical", "T0", "withdrawal", "Contact risk control"),
    "WD-09": Rule("Withdrawal begun at the bank not paid", "High", "T2", "withdrawal", "Cancel it at the bank"),
    "WD-08": Rule("Late result contradicts the decision", "Critical", "T0", "withdrawal", "Confirm with the bank"),
    # Bottleneck 4 of architecture.md §10: P2. That a *matched* deposit was not credited is DEP-03, at P1.
    "SBA-01": Rule("Risk control refused a deposit", "Medium", "T2", "deposit", "Escalate to the technical team"),
    "EDDA-01": Rule("Direct-debit authorisation not decided", "Medium", "T3", "edda", "Ask the bank about the mandate"),
    "EDDA-02": Rule("Bank contradicts an ended authorisation", "High", "T2", "edda",
                    "Ask the bank which holds; let the customer authorise anew"),
    "EDDA-03": Rule("Report on authorisations refused", "High", "T2", "edda", "Ask the bank for the report again"),
    "EDDI-01": Rule("eDDI result overdue", "High", "T2", "edda", "Ask the bank by the reference"),
    "EDDI-02": Rule("Direct debits without an answer", "High", "T1", "edda", "Check the bank's interface"),
    "EDDI-03": Rule("Direct debit returned", "High", "T2", "edda", "Reversal + notify user"),
    "EDDI-04": Rule("Bank debited another amount", "Critical", "T0", "edda", "Ask the bank by the reference"),
    "JOB-01": Rule("Job gave up", "High", "T2", "jobs", "See the job's last error"),
    "JOB-02": Rule("Job hangs", "High", "T3", "jobs", "Check the worker; restart it"),
}


def raise_alert(trace: Trace, rule: str, key: str, detail: str) -> None:
    """Publish an alert; an unknown rule is a programming error (KeyError)."""
    _publish(trace, rule, key, detail, "raised")


def clear_alert(trace: Trace, rule: str, key: str, detail: str) -> None:
    """What was raised under this key is over."""
    _publish(trace, rule, key, detail, "cleared")


def escalate_alert(trace: Trace, rule: str, key: str, detail: str) -> None:
    """What was raised under this key stands for longer than its rule allows: to whom the rule says (A-46)."""
    _publish(trace, rule, key, detail, "escalated", to=RULES[rule].escalate_to)


def _publish(trace: Trace, rule: str, key: str, detail: str, phase: str, **more: str) -> None:
    found = RULES[rule]
    trace.emit("alert", rule, {
        "rule": rule, "name": found.name, "severity": found.severity, "notify": NOTIFY[found.severity],
        "triage": found.triage, "key": key, "detail": detail, "phase": phase, **more})
