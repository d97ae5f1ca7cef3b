"""What a run knows at its end, for its expectations: a trace sink with compact counts, and the books' last word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from core.banks.edda import CHANNELS
from core.clock import US_PER_MS
from core.trace import Event
from scenarios.expectations import Balance, Step
from scenarios.schema import ENDED, OPEN, Target

Who = str | int


INSTRUCTIONS = ("deposit", "withdraw", "create_debit")
"""Messages to a bank that order it to move money, whichever bank it is."""
SYSTEM = "system"
"""Who moves a Procedure when no person does."""
OVER = {"apply": ("DONE", "REJECTED", "CANCELLED", "REVERSED", "REFUNDED"),
         "task": ("DONE", "REJECTED", "CANCELLED", "FAILED", "REVERSED")}
"""Statuses in which an Apply or a Task rests (gaps.md B-02)."""
_OF_PROCEDURE = re.compile(r"P\d+:")
"""How the idempotency keys of SBA's postings begin."""


Money = tuple[str, int]
"""(ccy, minor units)."""


class _Wish(NamedTuple):
    """An Apply or a Task."""

    uid: int
    channel: str
    status: str
    procedure: int | None
    ref: str
    money: Money


class _Flow(NamedTuple):
    uid: int
    channel: str
    state: str
    money: Money


class RunFacts:
    """Implements `scenarios.expectations.Facts`. ``followed``: uids whose Procedures keep their history."""

    def __init__(
        self, followed: frozenset[int], uid_of: Callable[[Who], int], balance: Callable[[Who, str], Balance],
        quantile_ms: Callable[[str, float, str | None], float | None],
        moment_us: Callable[[int, str], int] = lambda _apply, _what: -1,
    ) -> None:
        """``moment_us``: when something of an Apply appeared, epoch microseconds; -1 for never."""
        self._followed, self._uid_of, self._balance, self._quantile = followed, uid_of, balance, quantile_ms
        self._moment_us = moment_us
        self._procedures: dict[str, dict[int, _Flow]] = {"cash_deposit": {}, "cash_withdraw": {}}
        self._wishes: dict[str, dict[int, _Wish]] = {"apply": {}, "task": {}}
        self._wished: dict[tuple[str, int], list[int]] = {}
        self._histories: dict[int, list[Step]] = {}
        self._refs: dict[int, list[str]] = {}
        self._effects: dict[str, list[tuple[str, Money]]] = {}
        self._booked_at: dict[str, str] = {}  # reference -> bank
        self._booked: dict[tuple[str, str], Counter[str]] = {}  # (bank, ccy) -> operation -> minor units
        self._sendings: Counter[str] = Counter()
        self._lines: Counter[tuple[str, str, str]] = Counter()
        self._recovered: Counter[str] = Counter()
        self._entries: dict[int, tuple[str, str, Money]] = {}  # id -> (bank, our account, money) of credits
        self.kept_entries: Counter[tuple[str, str]] = Counter()  # (bank, status) of credit entries: the last look
        self._matched: dict[int, int] = {}  # Apply -> entry
        self._owners: dict[int, int] = {}  # entry -> the Apply that had it last
        self._tiers: dict[int, tuple[str, str]] = {}  # Apply -> (bank, tier)
        self._reminded: dict[int, str] = {}  # entry -> bank
        self._debits: dict[tuple[str, int], str] = {}  # (bank, debit) -> state
        self._authorisations: dict[tuple[str, int], str] = {}  # (bank, authorisation) -> status
        self._log: Counter[str] = Counter()
        self._foreign: Counter[tuple[int, str]] = Counter()
        self._alerts: Counter[tuple[str, str, str]] = Counter()
        self._standing: dict[tuple[str, str], str] = {}  # (rule, key) -> severity
        self._contradicted: dict[str, None] = {}
        self._decided: dict[str, None] = {}  # subjects of which a person said what became of the money
        self._jobs: dict[int, tuple[str, str, int]] = {}
        self._notices: Counter[tuple[str, int]] = Counter()
        self._refusals: Counter[tuple[str, str]] = Counter()
        self._readers: dict[str, Callable[[Event], None]] = {
            "procedure": self._on_procedure, "apply": self._on_wish, "task": self._on_wish, "note": self._on_note,
            "alert": self._on_alert, "job": self._on_job, "notify": self._on_notify, "refused": self._on_refused,
            "bank.book": self._on_book, "posting": self._on_posting, "bank.request": self._on_request,
            "bank.line": self._on_line, "recovery": self._on_recovery, "statement": self._on_statement,
            "match": self._on_match, "reminder": self._on_reminder, "log": self._on_log,
            "debit": self._on_debit, "edda": self._on_edda}

    def __call__(self, event: Event) -> None:
        reader = self._readers.get(event[2])
        if reader is not None:
            reader(event)

    # Reading

    def _on_procedure(self, event: Event) -> None:
        data = event[4]
        self._procedures[data["biz"]][data["id"]] = _Flow(
            data["uid"], data["channel"], data["to"], (data["ccy"], data["amount"]))
        if data["operator"] != SYSTEM and data["from"].startswith("pending("):
            self._decided[event[3]] = None
        if data["uid"] in self._followed:
            self._histories.setdefault(data["id"], []).append(
                Step(data["to"], event[1] // 1000, data["date"], data["reason"]))

    def _on_wish(self, event: Event) -> None:
        data, kind = event[4], event[2]
        number = data[kind]
        known = self._wishes[kind].get(number)
        if known is None:
            self._wished.setdefault((kind, data["uid"]), []).append(number)
        channel = data["bank"] if kind == "apply" else _channel_key(data)
        procedure = data["procedure"] if data["procedure"] is not None else known.procedure if known else None
        self._wishes[kind][number] = _Wish(
            data["uid"], channel, data["status"], procedure, data.get("ref", ""), (data["ccy"], data["amount"]))

    def _on_note(self, event: Event) -> None:
        if event[4]["fact"] == "INSTRUCTED":
            self._refs.setdefault(event[4]["id"], []).append(event[4]["detail"])

    def _on_alert(self, event: Event) -> None:
        data = event[4]
        self._alerts[data["rule"], data["severity"], data["phase"]] += 1
        if data["phase"] != "raised":
            self._standing.pop((data["rule"], data["key"]), None)
            return
        self._standing[data["rule"], data["key"]] = data["severity"]
        if data["rule"] == "WD-08":
            self._contradicted[data["key"]] = None

    def _on_job(self, event: Event) -> None:
        data = event[4]
        self._jobs[data["id"]] = (data["job"], data["state"], data["retry"])

    def _on_notify(self, event: Event) -> None:
        self._notices[event[4]["event"], event[4]["uid"]] += 1

    def _on_refused(self, event: Event) -> None:
        self._refusals[event[4]["operation"], event[4]["code"]] += 1

    def _on_book(self, event: Event) -> None:
        data = event[4]
        self._effects.setdefault(data["ref"], []).append((data["op"], (data["ccy"], data["amount"])))
        self._booked_at[data["ref"]] = data["bank"]
        self._booked.setdefault((data["bank"], data["ccy"]), Counter())[data["op"]] += data["amount"]

    def _on_request(self, event: Event) -> None:
        if event[4]["message"] in INSTRUCTIONS:
            self._sendings[event[4]["ref"]] += 1

    def _on_line(self, event: Event) -> None:
        self._lines[event[4]["bank"], event[4]["server"], event[4]["phase"]] += 1

    def _on_recovery(self, event: Event) -> None:
        self._recovered[event[4]["bank"]] += event[4]["injected"]

    def _on_statement(self, event: Event) -> None:
        data = event[4]
        if data["dr_cr"] == "C":
            self._entries[data["flow"]] = (data["bank"], data["account"], (data["ccy"], data["amount"]))

    def _on_match(self, event: Event) -> None:
        data = event[4]
        if data["phase"] == "MATCHED":
            self._matched[data["apply"]] = data["flow"]
            self._owners[data["flow"]] = data["apply"]
            self._tiers[data["apply"]] = (data["bank"], data["tier"])
        else:
            self._matched.pop(data["apply"], None)
            self._owners.pop(data["flow"], None)
            self._tiers.pop(data["apply"], None)

    def _on_reminder(self, event: Event) -> None:
        self._reminded[event[4]["flow"]] = event[4]["bank"]

    def _on_debit(self, event: Event) -> None:
        self._debits[event[4]["bank"], event[4]["debit"]] = event[4]["state"]

    def _on_edda(self, event: Event) -> None:
        self._authorisations[event[4]["bank"], event[4]["id"]] = event[4]["status"]

    def _on_log(self, event: Event) -> None:
        self._log[event[4]["text"]] += 1

    def _on_posting(self, event: Event) -> None:
        data = event[4]
        if not _OF_PROCEDURE.match(data["key"]):
            self._foreign[data["account"], data["ccy"]] -= sum(
                delta for bucket, delta in data["legs"] if bucket == "external")

    # Answering

    def deposits(self, state: str | None, channel: str | None, customer: Who | None) -> int:
        return self._count("cash_deposit", state, channel and f"{channel} deposit", customer)

    def withdrawals(self, state: str | None, channel: str | None, customer: Who | None) -> int:
        return self._count("cash_withdraw", state, channel and f"{channel} withdrawal", customer)

    def _count(self, biz: str, state: str | None, channel: str | None, customer: Who | None) -> int:
        uid = None if customer is None else self._uid_of(customer)
        return sum(
            _in_state(flow.state, state) and channel in (None, flow.channel) and uid in (None, flow.uid)
            for flow in self._procedures[biz].values())

    def states(self, biz: str) -> dict[str, int]:
        """State label -> number of Procedures, in order of the labels."""
        return dict(sorted(Counter(flow.state for flow in self._procedures[biz].values()).items()))

    def statuses(self, kind: str) -> dict[str, int]:
        """Status name -> number of applications (``apply``) or tasks (``task``), also those that never became a
        Procedure; in order of the names."""
        return dict(sorted(Counter(wish.status for wish in self._wishes[kind].values()).items()))

    def without_procedure(self) -> dict[str, dict[str, int]]:
        """Applications and tasks that no Procedure stands for: how many have ended, and how many are open."""
        return {name: dict(Counter("ended" if wish.status in OVER[kind] else "open"
                                   for wish in self._wishes[kind].values() if wish.procedure is None))
                for name, kind in (("applications", "apply"), ("tasks", "task"))}

    def applications(self, status: str | None, channel: str | None, customer: Who | None) -> int:
        return self._wishes_in("apply", status, channel, customer)

    def tasks(self, status: str | None, channel: str | None, customer: Who | None) -> int:
        return self._wishes_in("task", status, channel, customer)

    def _wishes_in(self, kind: str, status: str | None, channel: str | None, customer: Who | None) -> int:
        uid = None if customer is None else self._uid_of(customer)
        return sum(status in (None, wish.status) and channel in (None, wish.channel) and uid in (None, wish.uid)
                   for wish in self._wishes[kind].values())

    def latency_ms(self, channel: str, quantile: float, stage: str | None) -> float | None:
        return self._quantile(channel, quantile, stage)

    def moment_ms(self, target: Target, what: str) -> int | None:
        found = self.wish(target)
        at_us = -1 if found is None else self._moment_us(found[0], what)
        return None if at_us < 0 else at_us // US_PER_MS

    def debits(self, channel: str, state: str | None) -> int:
        return _of_bank(self._debits, channel, state)

    def authorisations(self, channel: str, status: str | None) -> int:
        return _of_bank(self._authorisations, channel, status)

    def wish(self, target: Target) -> tuple[int, _Wish] | None:
        """(id, record) of the n-th Apply or Task of a customer."""
        kind = "apply" if target.kind == "deposit" else "task"
        numbers = self._wished.get((kind, self._uid_of(target.customer)), [])
        if target.nth > len(numbers):
            return None
        number = numbers[target.nth - 1]
        return number, self._wishes[kind][number]

    def procedure(self, target: Target) -> int | None:
        """Id of the Procedure of a target."""
        found = self.wish(target)
        return found[1].procedure if found else None

    def history(self, target: Target) -> Sequence[Step] | None:
        procedure = self.procedure(target)
        return self._histories.get(procedure) if procedure is not None else None

    def balance(self, customer: Who, ccy: str) -> Balance:
        return self._balance(customer, ccy)

    def bank_effects(self, target: Target, op: str | None) -> int:
        return sum(op in (None, done) for ref in self._references_of(target) for done in self.effects(ref))

    def sendings(self, target: Target) -> int:
        return sum(self._sendings[ref] for ref in self._references_of(target))

    def _references_of(self, target: Target) -> list[str]:
        """The references under which the bank knows an Apply or the Procedure of a Task."""
        found = self.wish(target)
        if found is None:
            return []
        return [found[1].ref] if target.kind == "deposit" else self._refs.get(found[1].procedure or 0, [])

    def connections(self, bank: str, server: str | None, phase: str | None) -> int:
        return sum(n for (of, a, b), n in self._lines.items()
                   if of == bank and server in (None, a) and phase in (None, b))

    def recovered(self, bank: str) -> int:
        return self._recovered[bank]

    # For the reconciliation

    def foreign(self) -> Counter[tuple[int, str]]:
        """(account, ccy) -> minor units that came or went by other hands than SBA's: opening balances, trades."""
        return self._foreign

    def references(self) -> Iterator[str]:
        """Every reference under which the bank moved money, in order."""
        return iter(self._effects)

    def effects(self, ref: str) -> list[str]:
        """Operations of the bank's book under a reference, in order."""
        return [op for op, _ in self._effects.get(ref, [])]

    def moved(self, ref: str, op: str) -> Money | None:
        """The money of an operation of the bank's book, None if there is none."""
        return dict(self._effects.get(ref, [])).get(op)

    def booked(self) -> dict[tuple[str, str], Counter[str]]:
        """(bank, currency) -> operation of the bank's book -> minor units."""
        return self._booked

    def booked_at(self, ref: str) -> str:
        """The bank that moved money under a reference."""
        return self._booked_at[ref]

    def credited(self) -> Counter[tuple[str, str]]:
        """(bank, currency) -> minor units of deposits that are credited, and were not taken back."""
        found = Counter[tuple[str, str]]()
        for flow in self._procedures["cash_deposit"].values():
            if flow.state.startswith("end_ok"):
                found[flow.channel.partition(" ")[0], flow.money[0]] += flow.money[1]
        return found

    def withdrawn_at(self, procedure: int) -> str:
        """The bank of a withdrawal Procedure."""
        return self._procedures["cash_withdraw"][procedure].channel.partition(" ")[0]

    def owned(self, flow: int) -> str:
        """State of the deposit Procedure of the application that had an entry last; "" if there is none."""
        apply_id = self._owners.get(flow)
        return self.state(None if apply_id is None else self._wishes["apply"][apply_id].procedure)

    def state(self, deposit: int | None) -> str:
        """State of a deposit Procedure; "" if there is none."""
        found = None if deposit is None else self._procedures["cash_deposit"].get(deposit)
        return found.state if found is not None else ""

    def applied(self, bank: str) -> Iterator[tuple[int, str, str, int | None, Money]]:
        """(id, status, reference, Procedure, money) of every deposit application at a bank."""
        for number, wish in self._wishes["apply"].items():
            if wish.channel == bank:
                yield number, wish.status, wish.ref, wish.procedure, wish.money

    def entries(self, bank: str) -> Iterator[tuple[str, str, int]]:
        """(our account, currency, amount) of every credit entry kept of a bank's statements."""
        return ((account, *money) for of, account, money in self._entries.values() if of == bank)

    def matched(self, apply_id: int) -> tuple[int, Money] | None:
        """(entry, its money) that an application was matched with."""
        flow = self._matched.get(apply_id)
        return None if flow is None else (flow, self._entries[flow][2])

    def money(self, biz: str, procedure: int) -> Money:
        """Currency and amount of a Procedure."""
        return self._procedures[biz][procedure].money

    def instructed(self) -> Iterator[tuple[int, str, list[str], Money]]:
        """(id, state, references, money) of every withdrawal Procedure for which a bank instruction exists."""
        for procedure, refs in self._refs.items():
            flow = self._procedures["cash_withdraw"][procedure]
            yield procedure, flow.state, refs, flow.money

    def contradicted(self, subject: str) -> bool:
        """Whether an alert says that the bank contradicts what a person decided; a machine goes by the bank's word."""
        return subject in self._contradicted and subject in self._decided

    def kept(self, bank: str, status: str | None) -> int:
        return sum(n for (of, at), n in self.kept_entries.items() if of == bank and status in (None, at))

    def matches(self, bank: str, tier: str | None) -> int:
        return sum(of == bank and tier in (None, by) for of, by in self._tiers.values())

    def reminders(self, bank: str) -> int:
        return sum(of == bank for of in self._reminded.values())

    def logged(self, says: str) -> int:
        return sum(n for text, n in self._log.items() if says in text)

    def alerts(self, rule: str | None, severity: str | None, phase: str | None) -> int:
        if phase == "standing":
            return sum(rule in (None, a) and severity in (None, b) for (a, _), b in self._standing.items())
        return sum(n for (a, b, c), n in self._alerts.items()
                   if rule in (None, a) and severity in (None, b) and c == (phase or "raised"))

    def jobs(self, job: str, state: str | None, retries: int | None) -> int:
        return sum(name == job and state in (None, at) and retries in (None, retry)
                   for name, at, retry in self._jobs.values())

    def notices(self, event: str | None, customer: Who | None) -> int:
        uid = None if customer is None else self._uid_of(customer)
        return sum(n for (a, b), n in self._notices.items() if event in (None, a) and uid in (None, b))

    def refusals(self, operation: str | None, code: str | None) -> int:
        return sum(n for (a, b), n in self._refusals.items() if operation in (None, a) and code in (None, b))


def _of_bank(found: dict[tuple[str, int], str], channel: str, wanted: str | None) -> int:
    return sum(CHANNELS[bank] == channel and wanted in (None, at) for (bank, _), at in found.items())


def _in_state(label: str, wanted: str | None) -> bool:
    if wanted == OPEN:
        return not label.startswith("end_")
    return label.startswith("end_") if wanted == ENDED else wanted in (None, label)


def _channel_key(task: dict[str, Any]) -> str:
    """The channel of a Task as scenarios name it: a BST withdrawal goes by the name of its bank."""
    return str(task["bank"] if task["method"] == "auto_bs" else task["method"])


__all__ = ["RunFacts"]
