"""Alert rules: one literal table (tasks-and-monitoring.md §8, severities decided in gaps.md A.3a).

Whoever detects a condition emits an ``alert`` event through `raise_alert`; delivery, SLA and escalation are
readers of that stream. Severity fixes the notification level one to one (A-44).
"""

from __future__ import annotations

from typing import NamedTuple

from core.trace import Trace

NOTIFY = {"Critical": "P0", "High": "P1", "Medium": "P2"}


class Rule(NamedTuple):
    name: str
    severity: str
    triage: str  # T0..T3
    group: str
    resolution: str


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
    "RECON-01": Rule("Reconciliation difference", "Medium", "T3", "reconciliation", "Compare with the bank's list"),
    "RECON-02": Rule("Paid twice, or paid in our books only", "Critical", "T0", "reconciliation",
                     "Stop, ask the bank by the reference"),
    "DEP-05": Rule("AsbBstDepositJob accounting failure", "Critical", "T0", "deposit", "Check SBA orchestration"),
    "DEP-07": Rule("Refund needs a reversal the balance cannot bear", "Critical", "T0", "deposit",
                   "Contact the customer; note the debt"),
    "DEP-08": Rule("Bank-initiated deposit not processed", "High", "T2", "deposit", "Verify with the bank by hand"),
    "WD-03": Rule("Reversal operation", "High", "T2", "withdrawal", "Confirm Reversal reason"),
    "WD-04": Rule("Reversal (restoration) failure", "Critical", "T0", "withdrawal", "Contact risk control"),
    "WD-09": Rule("Withdrawal begun at the bank not paid", "High", "T2", "withdrawal", "Cancel it at the bank"),
    "WD-08": Rule("Late result contradicts the decision", "Critical", "T0", "withdrawal", "Confirm with the bank"),
    "SBA-01": Rule("Risk control refused a deposit", "High", "T2", "deposit", "Escalate to the technical team"),
    "JOB-01": Rule("Job gave up", "High", "T2", "jobs", "See the job's last error"),
    "JOB-02": Rule("Job hangs", "High", "T3", "jobs", "Check the worker; restart it"),
}


def raise_alert(trace: Trace, rule: str, key: str, detail: str) -> None:
    """Publish an alert; an unknown rule is a programming error (KeyError)."""
    _publish(trace, rule, key, detail, "raised")


def clear_alert(trace: Trace, rule: str, key: str, detail: str) -> None:
    """What was raised under this key is over."""
    _publish(trace, rule, key, detail, "cleared")


def _publish(trace: Trace, rule: str, key: str, detail: str, phase: str) -> None:
    found = RULES[rule]
    trace.emit("alert", rule, {
        "rule": rule, "name": found.name, "severity": found.severity, "notify": NOTIFY[found.severity],
        "triage": found.triage, "key": key, "detail": detail, "phase": phase})
