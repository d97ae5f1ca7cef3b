"""What must hold at every event (architecture.md §6, issue: FRZ-06, FRZ-07): a reader of the event stream.

It keeps its own picture of accounts, holds and Procedures and shares no code with the ledger or the engine that it
judges; the transition tables come in as data. The first violation stops the run with the history of its subject.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.trace import Event

INVARIANTS: dict[str, str] = {
    "conservation": "every posting sums to zero, and each account is what its postings made it",
    "no_negative_bucket": "available, frozen and in transit are never negative",
    "hold_closed_once": "a hold is opened once and closed once, with the amount it was opened with",
    "hold_follows_state": "before the deduction a withdrawal's amount is frozen, after it in transit",
    "no_terminal_hold": "a terminal withdrawal Procedure has no open hold",
    "version_is_flows": "the version of a Procedure is the number of its Flow records",
    "table_transitions": "a Procedure moves only along its table",
    "one_bank_effect": "the bank moves money at most once per reference, and one reference per attempt pays",
    "core_intact": "nothing in the core has found its own books broken",
    "books_agree": "the bank's book and ours agree, or what is in flight explains the difference",
    "explained_totals": "an account's total changes only by deposits credited, withdrawals completed and reversals",
}
_BUCKETS = ("available", "frozen", "in_transit")
_HELD_AS = {"new(waiting)": "frozen", "new(manual_confirm)": "frozen", "new(confirmed)": "frozen",
            "new(blank)": "frozen", "pending(deduct_done)": "in_transit", "pending(transfer_auto)": "in_transit",
            "pending(transfer_manual)": "in_transit", "pending(waiting_trade)": "in_transit"}
_KEY = re.compile(r"(P\d+):")


@dataclass
class Violation:
    """One broken invariant, with where and how to see it again."""

    invariant: str
    detail: str
    event: Any
    procedure: str = ""
    history: list[Any] = field(default_factory=list)
    reproduce: str = ""

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Invariants:
    """A trace sink. ``moves``: for each biz the allowed (row id, from label, to label)."""

    def __init__(
        self, moves: Mapping[str, frozenset[tuple[str, str, str]]], on_violation: Callable[[Violation], None],
        opening: Mapping[tuple[int, str], int] | None = None,
    ) -> None:
        self._moves, self._on_violation = moves, on_violation
        self.checked: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self._balances: dict[tuple[int, str], list[int]] = {
            key: [amount, 0, 0] for key, amount in (opening or {}).items()}
        self._holds: dict[str, list[Any]] = {}  # hold -> [amount, bucket or "" when closed]
        self._keys: set[str] = set()
        self._flows: dict[str, tuple[int, str]] = {}  # subject -> (version, state)
        self._bank: dict[str, list[tuple[str, int]]] = {}
        self._procedure_of: dict[str, str] = {}  # hold or bank reference -> subject of its Procedure
        self._readers: dict[str, Callable[[Event], None]] = {
            "posting": self._posting, "procedure": self._procedure, "bank.book": self._book, "note": self._note}

    def __call__(self, event: Event) -> None:
        reader = self._readers.get(event[2])
        if reader is not None:
            reader(event)

    # Ledger

    def _posting(self, event: Event) -> None:
        data = event[4]
        if data["code"] or not data["legs"]:
            return
        self.checked["conservation"] += 1
        balance = self._balances.setdefault((data["account"], data["ccy"]), [0, 0, 0])
        rest = 0
        for bucket, delta in data["legs"]:
            rest += delta
            if bucket != "external":
                balance[_BUCKETS.index(bucket)] += delta
        after = [data["after"][bucket] for bucket in _BUCKETS]
        if rest or after != balance:
            self._violated("conservation", f"{data['op']} {data['key']}: legs leave {rest}; account "
                           f"{data['account']} is {after}, its postings make {balance}", event)
        self.checked["no_negative_bucket"] += 1
        if min(balance) < 0:
            self._violated("no_negative_bucket", f"account {data['account']} {data['ccy']}: {balance}", event)
        if data["key"] in self._keys:
            self._violated("conservation", f"key {data['key']} moved money twice", event)
        self._keys.add(data["key"])
        self._hold(event, data)

    def _hold(self, event: Event, data: dict[str, Any]) -> None:
        hold = data["hold"]
        if not hold or not any(bucket in ("frozen", "in_transit") for bucket, _ in data["legs"]):
            return  # paid from what is available: its hold was closed before (WT-32)
        self.checked["hold_closed_once"] += 1
        into = next((bucket for bucket, delta in data["legs"] if delta > 0), "")
        known = self._holds.get(hold)
        if known is None:
            if into == "frozen":
                self._holds[hold] = [data["amount"], "frozen"]
            else:
                self._violated("hold_closed_once", f"{data['op']} on {hold}, which was never opened", event)
            return
        if not known[1] or known[0] != data["amount"]:
            self._violated("hold_closed_once", f"{data['op']} of {data['amount']} on hold {hold}: "
                           f"{'closed' if not known[1] else known[1]}, opened with {known[0]}", event)
        known[1] = into if into in ("frozen", "in_transit") else ""

    # Procedures

    def _procedure(self, event: Event) -> None:
        subject, data = event[3], event[4]
        version, state = self._flows.get(subject, (0, ""))
        self.checked["version_is_flows"] += 1
        if data["version"] != version + 1:
            self._violated("version_is_flows",
                           f"{subject} has version {data['version']} with {version + 1} Flow records", event)
        self.checked["table_transitions"] += 1
        if data["from"] != state or (data["row"], data["from"], data["to"]) not in self._moves[data["biz"]]:
            self._violated("table_transitions",
                           f"{subject} was {state or 'not there'}; {data['row']} {data['from']} -> {data['to']}", event)
        self._flows[subject] = (data["version"], data["to"])
        if data.get("hold"):
            self._procedure_of[data["hold"]] = subject
        if data["biz"] == "cash_withdraw" and data["to"].startswith("end_"):
            self._no_hold(event, subject, data)
        elif data["biz"] == "cash_withdraw" and data["to"] in _HELD_AS:
            self._hold_as_state(event, subject, data)

    def _no_hold(self, event: Event, subject: str, data: dict[str, Any]) -> None:
        self.checked["no_terminal_hold"] += 1
        hold = data.get("hold", "")
        if self._holds.get(hold, [0, ""])[1]:
            self._violated("no_terminal_hold", f"{subject} is {data['to']} and hold {hold} is "
                           f"{self._holds[hold][1]}", event)

    def _note(self, event: Event) -> None:
        if event[4]["fact"] == "INSTRUCTED":
            self._procedure_of[event[4]["detail"]] = event[3]

    def _hold_as_state(self, event: Event, subject: str, data: dict[str, Any]) -> None:
        self.checked["hold_follows_state"] += 1
        held = self._holds.get(data.get("hold", ""), [0, ""])
        if held != [data["amount"], _HELD_AS[data["to"]]]:
            self._violated("hold_follows_state", f"{subject} of {data['amount']} is {data['to']} and its hold is "
                           f"{held[1] or 'not open'} with {held[0]}", event)

    # The bank

    def _book(self, event: Event) -> None:
        data = event[4]
        self.checked["one_bank_effect"] += 1
        effects = self._bank.setdefault(data["ref"], [])
        if any(op == data["op"] for op, _ in effects):
            self._violated("one_bank_effect", f"the bank did {data['op']} twice under {data['ref']}", event)
        effects.append((data["op"], data["amount"]))

    def report(self, invariant: str, detail: str, subject: str = "") -> None:
        """A check at the end of the run found something (books, databases)."""
        self._violated(invariant, detail, (0, 0, "run", subject, {}))

    def _violated(self, invariant: str, detail: str, event: Event) -> None:
        violation = Violation(invariant, detail, list(event), self._subject(event))
        self.violations.append(violation)
        self._on_violation(violation)

    def _subject(self, event: Event) -> str:
        """The Procedure that an event is about: its own, that of its hold or reference, or of its posting's key."""
        if event[3].startswith("P"):
            return event[3]
        known = self._procedure_of.get(event[4].get("hold") or event[4].get("ref") or "")
        key = _KEY.match(event[4].get("key") or "")
        return known or (key.group(1) if key else "")
