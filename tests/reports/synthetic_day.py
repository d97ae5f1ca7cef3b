"""A made-up day of the platform: valid ways through both state machines, with faults, alerts, jobs and money.

Only for the tests of the readers; nothing here is the real core. Everything follows from the seed.
"""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import Any

from core.trace import Event

MIDNIGHT_US = 1_773_244_800_000_000  # 2026-03-12 00:00 Hong Kong time
SECOND = 1_000_000
HOUR = 3_600 * SECOND

OPEN_WHO = {
    "new(freeze)": "system", "new(waiting)": "system", "new(manual_confirm)": "person", "new(confirmed)": "system",
    "new(blank)": "system", "pending": "system", "pending(deduct_done)": "system", "pending(transfer_auto)": "bank",
    "pending(transfer_manual)": "person", "pending(return)": "system", "pending(unfreeze)": "system",
    "pending(move_next)": "system", "pending(waiting_trade)": "system", "pending(transfer_reject)": "system"}

DEPOSIT_MOVES = (
    ("DT-01", "", "new(waiting)"), ("DT-02", "new(waiting)", "new(manual_confirm)"),
    ("DT-03", "new(waiting)", "pending"), ("DT-04", "new(manual_confirm)", "pending"),
    ("DT-05", "new(manual_confirm)", "end_reject"), ("DT-06", "pending", "end_ok(deposit_ok)"),
    ("DT-07", "pending", "end_reject"), ("DT-08", "end_ok(deposit_ok)", "end_reverse(deposit_ok)"))
WITHDRAW_MOVES = (
    ("WT-01", "", "new(freeze)"), ("WT-02", "new(freeze)", "new(waiting)"),
    ("WT-03", "new(freeze)", "pending(transfer_reject)"), ("WT-04", "new(waiting)", "new(manual_confirm)"),
    ("WT-05", "new(waiting)", "new(blank)"), ("WT-06", "new(manual_confirm)", "new(confirmed)"),
    ("WT-07", "new(confirmed)", "new(blank)"), ("WT-08", "new(manual_confirm)", "pending(unfreeze)"),
    ("WT-09", "new(waiting)", "pending(unfreeze)"), ("WT-09", "new(blank)", "pending(unfreeze)"),
    ("WT-09", "new(confirmed)", "pending(unfreeze)"), ("WT-10", "new(waiting)", "pending(unfreeze)"),
    ("WT-11", "new(blank)", "pending(deduct_done)"), ("WT-12", "new(blank)", "pending(transfer_reject)"),
    ("WT-13", "pending(deduct_done)", "pending(transfer_auto)"),
    ("WT-14", "pending(deduct_done)", "pending(transfer_manual)"),
    ("WT-15", "pending(deduct_done)", "pending(move_next)"),
    ("WT-16", "pending(transfer_manual)", "pending(move_next)"), ("WT-17", "pending(move_next)", "new(freeze)"),
    ("WT-18", "pending(deduct_done)", "pending(waiting_trade)"),
    ("WT-19", "pending(waiting_trade)", "end_ok(transfer_done)"),
    ("WT-20", "pending(waiting_trade)", "pending(return)"),
    ("WT-21", "pending(waiting_trade)", "pending(transfer_manual)"),
    ("WT-22", "pending(transfer_auto)", "end_ok(transfer_done)"),
    ("WT-23", "pending(transfer_auto)", "pending(return)"),
    ("WT-24", "pending(transfer_manual)", "end_ok(transfer_done)"),
    ("WT-25", "pending(transfer_manual)", "pending(return)"),
    ("WT-26", "pending(return)", "pending(transfer_reject)"),
    ("WT-27", "pending(unfreeze)", "pending(transfer_reject)"),
    ("WT-28", "pending(transfer_reject)", "pending(unfreeze)"),
    ("WT-29", "pending(transfer_reject)", "end_reject"), ("WT-30", "pending(transfer_reject)", "end_cancel"),
    ("WT-31", "end_ok(transfer_done)", "end_reverse(transfer_done)"),
    *(("WT-32", label, "end_ok(transfer_done)") for label in OPEN_WHO if label != "pending"))


def machine(moves: tuple[tuple[str, str, str], ...]) -> dict[str, Any]:
    """A diagram of one machine in the shape the runner hands over."""
    labels = dict.fromkeys(label for _, start, end in moves for label in (start, end) if label)
    return {
        "states": [{"label": label, "status": label.partition("(")[0],
                    "who": OPEN_WHO.get(label, "done" if label.startswith("end_ok") else "failed")}
                   for label in labels],
        "moves": [{"row": row, "from": start, "to": end, "fact": f"fact of {row}"} for row, start, end in moves]}


DIAGRAM = {"deposit": machine(DEPOSIT_MOVES), "withdraw": machine(WITHDRAW_MOVES)}
ROWS = {"deposit": {(a, b): row for row, a, b in reversed(DEPOSIT_MOVES)},
        "withdraw": {(a, b): row for row, a, b in reversed(WITHDRAW_MOVES)}}


class Day:
    """Collects events out of order and numbers them in order of time."""

    def __init__(self, seed: int, hostile: str = "") -> None:
        self.random = Random(seed)
        self.hostile = hostile
        self.raw: list[tuple[int, int, str, str, dict[str, Any]]] = []
        self.postings = 0

    def emit(self, t_us: float, kind: str, subject: str, data: dict[str, Any]) -> None:
        self.raw.append((int(t_us), len(self.raw), kind, subject, data))

    def events(self) -> list[Event]:
        ordered = sorted(self.raw, key=lambda raw: raw[:2])
        return [(n, MIDNIGHT_US + t_us, kind, subject, data)
                for n, (t_us, _, kind, subject, data) in enumerate(ordered, 1)]

    # --- parts of a way -------------------------------------------------------------------------------------------

    def outage(self, t_us: float) -> bool:
        return 10.5 * HOUR <= t_us <= 10.9 * HOUR

    def arrival(self) -> float:
        peak = self.random.random()
        if peak < 0.45:
            return min(max(self.random.gauss(10.2, 1.1), 0.1), 23.4) * HOUR
        if peak < 0.8:
            return min(max(self.random.gauss(14.4, 1.3), 0.1), 23.4) * HOUR
        return self.random.uniform(0.1, 23.4) * HOUR

    def move(self, t_us: float, p: dict[str, Any], end: str, remark: str = "", operator: str = "system",
             reason: str = "") -> None:
        p["version"] += 1
        row = ROWS[p["machine"]][p["state"], end]
        self.emit(t_us, "procedure", f"P{p['id']}", {
            "id": p["id"], "biz": "cash_deposit" if p["machine"] == "deposit" else "cash_withdraw", "row": row,
            "from": p["state"], "to": end, "version": p["version"], "attempt": 1, "operator": operator,
            "remark": remark or self.hostile, "fact": f"fact of {row}", "uid": p["uid"], "channel": p["channel"],
            "ccy": p["ccy"], "amount": p["amount"], "date": 20260312, "reason": reason, "seq": p["version"]})
        p["state"] = end

    def post(self, t_us: float, p: dict[str, Any], op: str, legs: list[list[Any]]) -> None:
        self.postings += 1
        self.emit(t_us, "posting", f"K{self.postings}", {
            "op": op, "key": f"K{self.postings}", "account": 7_000 + p["id"] % 900, "ccy": p["ccy"],
            "amount": p["amount"], "hold": f"H{p['id']}", "code": 0, "legs": legs,
            "after": {"available": 0, "frozen": 0, "in_transit": 0}})

    def ask(self, t_us: float, bank: str, message: str, ref: str, outcome: str, ms: int) -> None:
        common = {"bank": bank, "message": message, "ref": ref, "request_id": f"R{ref}", "attempt": 1}
        self.emit(t_us, "bank.request", ref, {**common, "outcome": "", "code": "", "ms": None})
        self.emit(t_us + ms * 1000, "bank.reply", ref, {**common, "outcome": outcome, "code": "", "ms": ms})

    def polls(self, t_us: float, p: dict[str, Any], every_s: float, seconds: float) -> float:
        ref = f"ASBBST{p['id']:09d}"
        silent = self.outage(t_us)
        for i in range(1, min(int(seconds / every_s) + 2, 12)):
            outcome = "timeout" if silent and self.random.random() < 0.7 else "ok"
            self.ask(t_us + i * every_s * SECOND, p["bank"], "query", ref, outcome, self.random.randint(60, 900))
        if silent:
            return t_us + seconds * SECOND + self.random.uniform(120, 2_400) * SECOND
        return t_us + seconds * SECOND

    def job(self, t_us: float, number: int, name: str, state: str, retry: int, error: str = "") -> None:
        self.emit(t_us, "job", f"J{number}", {
            "job": name, "id": number, "key": f"k{number}", "state": state, "retry": retry, "max": 60,
            "due_ms": int(t_us / 1000), "error": error})

    # --- whole ways ---------------------------------------------------------------------------------------------

    def deposit(self, number: int) -> None:
        random, t_us = self.random, self.arrival()
        bank = random.choice(("airstar", "airstar", "airstar", "cmb", "bochk"))
        ccy = random.choice(("HKD", "HKD", "USD", "CNH"))
        p: dict[str, Any] = {
            "id": number, "machine": "deposit", "state": "", "version": 0, "uid": 80_000 + number % 1_700,
            "channel": f"{bank} deposit", "bank": bank, "ccy": ccy,
            "amount": int(random.lognormvariate(14.2, 1.2))}
        apply = {"apply": number, "uid": p["uid"], "source": 1, "bank": bank, "ccy": ccy, "amount": p["amount"],
                 "procedure": None, "reason": ""}
        self.emit(t_us, "apply", f"A{number}", {**apply, "status": "INIT"})
        self.ask(t_us + 0.1 * SECOND, bank, "deposit", f"ASBBST{number:09d}", "ok", random.randint(80, 600))
        t_us = self.polls(t_us, p, 3, {"airstar": random.lognormvariate(2.1, 0.6), "cmb": 0.4,
                                        "bochk": random.uniform(60, 420)}[bank])
        self.emit(t_us, "bank.book", f"ASBBST{number:09d}", {
            "bank": bank, "op": "collect", "ref": f"ASBBST{number:09d}", "request_id": f"R{number}", "ccy": ccy,
            "amount": p["amount"], "customer": f"C{p['uid']}"})
        self.job(t_us + 1_000, number, "AsbBstDepositJob", "READY", 0)
        self.move(t_us + 0.2 * SECOND, p, "new(waiting)")
        self.emit(t_us + 0.2 * SECOND, "apply", f"A{number}", {**apply, "status": "CREDITING", "procedure": number})
        self.job(t_us + 0.3 * SECOND, number, "AsbBstDepositJob", "DONE", 0)
        t_us += 0.25 * SECOND
        if random.random() < 0.03:
            self.move(t_us, p, "new(manual_confirm)", "large deposit")
            t_us += random.lognormvariate(7.2, 0.8) * SECOND
            if t_us > 23.9 * HOUR:
                return
            if random.random() < 0.2:
                self.move(t_us, p, "end_reject", "source not proven", "staff_lee", "MANUAL_REJECT")
                return
            self.move(t_us, p, "pending", "source verified", "staff_lee")
            self.emit(t_us, "staff", "staff_lee", {"operator": "staff_lee", "role": "frontline_ops",
                      "action": "CashDepositManualConfirm", "subject": f"P{number}", "result": "OK"})
        else:
            self.move(t_us, p, "pending")
        t_us += 0.08 * SECOND
        self.post(t_us, p, "add", [["available", p["amount"]], ["external", -p["amount"]]])
        self.move(t_us + 1_000, p, "end_ok(deposit_ok)")
        self.emit(t_us + 2_000, "apply", f"A{number}", {**apply, "status": "DONE", "procedure": number})
        self.emit(t_us + 2_500, "notify", f"U{p['uid']}", {"uid": p["uid"], "event": "deposit credited", "detail": ""})
        if random.random() < 0.002 and t_us < 22 * HOUR:
            self.move(t_us + HOUR, p, "end_reverse(deposit_ok)", "duplicate credit", "staff_chan", "DUPLICATE")

    def withdraw(self, number: int) -> None:
        random, t_us = self.random, self.arrival()
        bank = random.choice(("airstar", "airstar", "cmb", "cgb"))
        channel = {"airstar": "airstar withdrawal", "cmb": "cmb withdrawal", "cgb": "cgb fps withdrawal"}[bank]
        ccy = random.choice(("HKD", "HKD", "USD"))
        p: dict[str, Any] = {
            "id": number, "machine": "withdraw", "state": "", "version": 0, "uid": 80_000 + number % 1_700,
            "channel": channel, "bank": bank, "ccy": ccy, "amount": int(random.lognormvariate(14.0, 1.3))}
        task = {"task": number, "uid": p["uid"], "step": "REMITTANCE", "method": bank, "bank_launched": 0,
                "ccy": ccy, "amount": p["amount"], "procedure": None, "reason": ""}
        self.emit(t_us, "task", f"T{number}", {**task, "status": "PENDING"})
        t_us += random.uniform(0.2, 2) * SECOND
        self.move(t_us, p, "new(freeze)")
        self.emit(t_us, "task", f"T{number}", {**task, "status": "PROCESSING", "procedure": number})
        t_us += 0.06 * SECOND
        if random.random() < 0.012:
            self.move(t_us, p, "pending(transfer_reject)", "available balance too small", reason="FREEZE_FAILED")
            self.move(t_us + 0.1 * SECOND, p, "end_reject", reason="INSUFFICIENT_BALANCE")
            return
        amount = p["amount"]
        self.post(t_us, p, "freeze", [["available", -amount], ["frozen", amount]])
        self.move(t_us, p, "new(waiting)")
        if bank != "airstar":
            t_us += random.uniform(1, 180) * SECOND
        if random.random() < 0.05:
            self.move(t_us, p, "new(manual_confirm)", "high risk customer")
            t_us += random.lognormvariate(7.0, 0.9) * SECOND
            if t_us > 23.9 * HOUR:
                return
            if random.random() < 0.25:
                self.move(t_us, p, "pending(unfreeze)", "card does not belong to the user", "staff_wong",
                          "MANUAL_REJECT")
                self.post(t_us + 50_000, p, "release", [["available", amount], ["frozen", -amount]])
                self.move(t_us + 60_000, p, "pending(transfer_reject)")
                self.move(t_us + 90_000, p, "end_reject", reason="MANUAL_REJECT")
                return
            self.move(t_us, p, "new(confirmed)", "checked", "staff_wong")
            t_us += 0.05 * SECOND
        self.move(t_us, p, "new(blank)")
        t_us += 0.07 * SECOND
        self.post(t_us, p, "deduct", [["frozen", -amount], ["in_transit", amount]])
        self.move(t_us, p, "pending(deduct_done)")
        t_us += 0.04 * SECOND
        if bank == "cgb":
            self.move(t_us, p, "pending(transfer_manual)", "submitted in batch", "staff_ho")
            t_us += random.lognormvariate(6.6, 0.7) * SECOND
            ok = random.random() > 0.01
        else:
            self.move(t_us, p, "pending(transfer_auto)")
            self.job(t_us, 100_000 + number, "AsbBstTransfer", "READY", 0)
            self.ask(t_us, bank, "transfer", f"ASBBST{number:09d}", "ok", random.randint(90, 900))
            t_us = self.polls(t_us, p, 5, random.lognormvariate(2.4, 0.5) if bank == "airstar" else 0.6)
            self.job(t_us, 100_000 + number, "AsbBstTransfer", "DONE", random.randint(0, 9))
            ok = random.random() > 0.015
            if random.random() < 0.002:
                self.emit(t_us, "alert", "AIRSTAR-06", {
                    "rule": "AIRSTAR-06", "name": "Withdrawal polling timeout", "severity": "High", "notify": "P1",
                    "triage": "T2", "key": f"P{number}", "detail": f"10 polls without a result for P{number}",
                    "phase": "raised"})
                return
        if t_us > 23.95 * HOUR:
            return
        if ok:
            self.emit(t_us, "bank.book", f"ASBBST{number:09d}", {
                "bank": bank, "op": "pay", "ref": f"ASBBST{number:09d}", "request_id": f"R{number}", "ccy": ccy,
                "amount": amount, "customer": f"C{p['uid']}"})
            self.post(t_us + 30_000, p, "consume", [["in_transit", -amount], ["external", amount]])
            self.move(t_us + 40_000, p, "end_ok(transfer_done)")
            self.emit(t_us + 50_000, "task", f"T{number}", {**task, "status": "DONE", "procedure": number})
            return
        self.move(t_us, p, "pending(return)", "bank refused: account closed", reason="BANK_FAILED")
        self.post(t_us + 40_000, p, "restore", [["in_transit", -amount], ["available", amount]])
        self.move(t_us + 50_000, p, "pending(transfer_reject)")
        self.move(t_us + 80_000, p, "end_reject", reason="BANK_FAILED")

    def surroundings(self) -> None:
        for subject, fault, target, begin, end in (
                ("F1", "outage", "airstar", 10.5, 10.9), ("F2", "slow answers", "cmb", 14.0, 15.25),
                ("F3", "duplicate callback", "airstar", 16.1, 16.2), ("F4", "kill core", "core", 18.0, 18.01)):
            for phase, hour in (("begin", begin), ("end", end)):
                self.emit(hour * HOUR, "fault", subject, {
                    "fault": fault, "target": target, "phase": phase, "params": {"share": 0.7}})
        for hour, rule, name, severity in (
                (10.55, "AIRSTAR-12", "API connectivity failure", "Critical"),
                (10.6, "AIRSTAR-04", "Deposit polling timeout", "High"),
                (14.2, "JOB-02", "Job hangs", "High"), (18.0, "JOB-01", "Job gave up", "Medium")):
            data = {"rule": rule, "name": name, "severity": severity, "notify": "P0", "triage": "T1",
                    "key": rule, "detail": self.hostile or "seen by the monitor", "phase": "raised"}
            self.emit(hour * HOUR, "alert", rule, data)
            self.emit((hour + 0.4) * HOUR, "alert", rule, {**data, "phase": "cleared"})
        self.emit(18 * HOUR, "core", "core", {"phase": "killed", "detail": "after commit 41,233"})
        self.emit(18.001 * HOUR, "core", "core", {"phase": "recovered", "detail": "3 jobs taken over"})
        self.emit(23 * HOUR, "bank.gate", "airstar", {"bank": "airstar", "open": False})
        self.emit(3 * HOUR, "bank.gate", "cmb", {"bank": "cmb", "open": False})
        self.emit(7 * HOUR, "bank.gate", "cmb", {"bank": "cmb", "open": True})
        for at, server, phase in ((7, "primary", "active"), (11, "primary", "lost"), (11.001, "backup", "active")):
            self.emit(at * HOUR, "bank.line", "cmb", {
                "bank": "cmb", "server": server, "phase": phase, "reason": self.hostile or "reset" * (phase == "lost")})
        self.emit(11.01 * HOUR, "bank.push", "CMBB1", {
            "bank": "cmb", "message": "push.deposit", "ref": "CMBB1", "push_seq": 1, "code": 0})
        self.emit(11.02 * HOUR, "recovery", "cmb", {
            "bank": "cmb", "source": "helper", "since": 1, "requested": 3, "missing": 2, "injected": 2, "skipped": 1})
        self.emit(9 * HOUR, "calendar", "calendar", {
            "market": "HK", "date": 20260313, "open": False, "known_from_ms": 0, "operator": "staff_chan",
            "version": 2})
        for i in range(40):
            self.emit((9 + i / 6) * HOUR, "refused", f"P{1 + i}", {
                "operation": "CashWithdrawCancel", "code": 1003, "detail": "state has moved on", "operator": "u1"})
            self.emit((9 + i / 6) * HOUR + 1, "note", f"P{1 + i}", {
                "id": 1 + i, "fact": "BANK_SUCCESS", "detail": self.hostile or "late result, recorded"})


def day(seed: int = 1, procedures: int = 3_200, hostile: str = "") -> list[Event]:
    """Events of a whole day with this many Procedures, half of them deposits."""
    made = Day(seed, hostile)
    for phase, hour in (("start", 0.0), ("end", 24.0)):
        made.emit(hour * HOUR, "run", "run", {
            "phase": phase, "scenario": "airstar-busy-day", "seed": seed,
            "virtual_start_ms": MIDNIGHT_US // 1000, "virtual_end_ms": MIDNIGHT_US // 1000 + 86_400_000})
    made.surroundings()
    for number in range(1, procedures + 1):
        if number % 2:
            made.deposit(number)
        else:
            made.withdraw(number)
    return made.events()


def summary(figures: dict[str, Any], *, seed: int = 1, violated: bool = False, hostile: str = "") -> dict[str, Any]:
    """A ``summary.json`` around the figures of a model."""
    violation = {
        "invariant": "no hold outlives its Procedure", "detail": hostile or "hold H1412 is open, P1412 is end_reject",
        "event": 31_207, "procedure": 1412, "history": ["new(freeze) → new(waiting)", "new(waiting) → new(blank)"],
        "reproduce": f"nostro run airstar-busy-day --seed {seed} --until-event 31207"}
    return {
        "scenario": "airstar-busy-day", "title": "Airstar, a busy day with an outage", "seed": seed,
        "virtual_start_ms": MIDNIGHT_US // 1000, "virtual_seconds": 86_400, "wall_seconds": 3.41,
        "speedup": 25_337.2, "trace_hash": hashlib.sha256(json.dumps(figures).encode()).hexdigest(),
        "peak_rss_mb": 182.4, **figures,
        "invariants": {"checked": 14, "violations": [violation] if violated else []},
        "expectations": [
            {"name": "deposits settle: airstar p95 ≤ 60 s", "passed": True, "detail": "p95 31.2 s of 975"},
            {"name": "every withdrawal finishes within 2 h", "passed": not violated,
             "detail": "2 of 1,571 took longer" if violated else "the longest took 1 h 12 m"},
            {"name": "sometimes: a late bank result is recorded", "passed": True, "detail": "40 times"},
            {"name": "no Critical alert outside an injected fault", "passed": True, "detail": hostile or "1 in F1"}],
        "settings": {
            "airstar.poll.deposit.max": {"value": 60, "default": 60, "source": "documented", "ref": "SBA §5.1",
                                          "unit": "polls"},
            "airstar.poll.withdraw.every": {"value": 4, "default": 5, "source": "documented", "ref": "SBA §5.2",
                                             "unit": "s"},
            "review.large.deposit": {"value": 50_000_000, "default": 100_000_000, "source": "assumed",
                                      "ref": "gaps.md B-12", "unit": "minor units"}}}
