"""What a run was, read from its events in one pass.

`RunModel` is a trace sink: call it with each event, live or from ``events.jsonl``. It keeps aggregates and, per
Procedure, its Flow history as integers (five 8-byte numbers per Flow record, words interned), never the events.
All times are epoch microseconds of the virtual clock; amounts are minor units.

Latency (agreed once for runner and reports): a deposit takes from the first event of its Apply (its creation when it
has none) to its first ``end_ok``; a withdrawal from the first event of its Task likewise.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

from core.clock import US_PER_MS, US_PER_S
from core.errors import Misconfigured
from core.trace import Event
from reports.quantiles import percentile as percentile
from reports.stages import DepositStages

T = TypeVar("T")
Data = dict[str, Any]

MACHINES = {"cash_deposit": "deposit", "cash_withdraw": "withdraw"}
SLOWEST_KEPT = 20
FLOWS_KEPT = 400
HOPS_KEPT = 400
TEXT_KEPT = 200
LIST_KEPT = 1_000
BUCKETS_KEPT = 4_096
WIDTHS_S = (60, 300, 900, 3_600, 14_400, 86_400)
"""Bucket widths, each a multiple of the one before: widening is adding up."""
_HKT_US = 8 * 3_600 * US_PER_S
_FIELDS = 5
_HOP_FIELDS = 5


class Latency(NamedTuple):
    """Times of one channel, sorted, in microseconds."""

    channel: str
    samples: array[int]

    def seconds(self, share: float) -> float:
        """Percentile in seconds."""
        return percentile(self.samples, share) / US_PER_S

    def within(self, limit_us: int) -> int:
        """How many took at most this long."""
        return sum(1 for sample in self.samples if sample <= limit_us)


class Step(NamedTuple):
    """One Flow record of a Procedure, or (``row`` empty) a fact noted without moving it."""

    t_us: int
    row: str
    start: str
    end: str
    operator: str
    remark: str


class Hop(NamedTuple):
    """What one service did for a deposit or withdrawal, from ``t_us`` on for ``us`` microseconds."""

    t_us: int
    us: int
    depth: int  # how many others it is part of
    service: str
    call: str
    tables: tuple[str, ...]
    outcome: str


class Procedure:
    """A Procedure as the report needs it: where it stands, since when, and how long it took."""

    __slots__ = ("amount", "ccy", "channel", "created_us", "ended_us", "flows", "id", "left_out", "machine",
                 "reason", "settled_us", "since_us", "started_us", "state", "trace", "uid")

    def __init__(self, number: int, machine: str, t_us: int) -> None:
        self.id, self.machine = number, machine
        self.created_us = self.started_us = self.since_us = t_us
        self.settled_us = self.ended_us = -1
        self.channel = self.ccy = self.uid = self.reason = self.trace = ""
        self.state = ""
        self.amount = self.left_out = 0
        self.flows: array[int] = array("q")

    @property
    def open(self) -> bool:
        """Not in any ``end_*`` state."""
        return not self.state.startswith("end_")

    @property
    def latency_us(self) -> int:
        """From the customer's wish to the first ``end_ok``; -1 while it has not settled."""
        return self.settled_us - self.started_us if self.settled_us >= 0 else -1


class Buckets:
    """Sums in fixed buckets of virtual time, aligned to Hong Kong time; widened when there are too many."""

    __slots__ = ("_level", "_series", "first", "last")

    def __init__(self) -> None:
        self._level = 0
        self._series: dict[tuple[str, ...], dict[int, int]] = {}
        self.first: int | None = None
        self.last = 0

    @property
    def width_us(self) -> int:
        """Width of a bucket now."""
        return WIDTHS_S[self._level] * US_PER_S

    def add(self, t_us: int, amount: int, *name: str) -> None:
        """Add an amount at a moment to the series of this name."""
        place = (t_us + _HKT_US) // (WIDTHS_S[self._level] * US_PER_S)
        series = self._series.get(name)
        if series is None:
            series = self._series[name] = {}
        series[place] = series.get(place, 0) + amount
        if self.first is None:
            self.first = self.last = place
        elif place > self.last:
            self.last = place
            if place - self.first >= BUCKETS_KEPT and self._level + 1 < len(WIDTHS_S):
                self._widen()
        elif place < self.first:
            self.first = place

    def _widen(self) -> None:
        assert self.first is not None
        times = WIDTHS_S[self._level + 1] // WIDTHS_S[self._level]
        self._level += 1
        self.first, self.last = self.first // times, self.last // times
        for name, series in self._series.items():
            wider: dict[int, int] = {}
            for place, amount in series.items():
                wider[place // times] = wider.get(place // times, 0) + amount
            self._series[name] = wider

    def names(self, first_word: str) -> list[tuple[str, ...]]:
        """Series whose name begins with this word, in order of appearance."""
        return [name for name in self._series if name[0] == first_word]

    def view(self, most: int, begin_us: int, end_us: int) -> BucketView:
        """The same sums from ``begin_us`` to ``end_us``, in at most ``most`` buckets where the widths allow."""
        own = self.width_us
        first, last = (begin_us + _HKT_US) // own, (max(end_us - 1, begin_us) + _HKT_US) // own
        if self.first is not None:
            first, last = min(first, self.first), max(last, self.last)
        width = next((wider for wider in WIDTHS_S[self._level:]
                      if (last - first + 1) * WIDTHS_S[self._level] <= most * wider), WIDTHS_S[-1])
        times = width // WIDTHS_S[self._level]
        return BucketView(self._series, times, first // times, last // times, width)


class BucketView(NamedTuple):
    """Sums read out: ``length`` buckets of ``width_s`` seconds from ``start_us``."""

    series: dict[tuple[str, ...], dict[int, int]]
    times: int
    first: int
    last: int
    width_s: int

    @property
    def start_us(self) -> int:
        """Beginning of the first bucket."""
        return self.first * self.width_s * US_PER_S - _HKT_US

    @property
    def length(self) -> int:
        """Number of buckets."""
        return self.last - self.first + 1

    def sums(self, *name: str) -> list[int]:
        """Amount per bucket; zeros for a series that never had any."""
        values = [0] * self.length
        for place, amount in self.series.get(name, {}).items():
            values[place // self.times - self.first] += amount
        return values

    def levels(self, *name: str) -> list[int]:
        """Running total at the end of each bucket."""
        total, values = 0, self.sums(*name)
        for i, amount in enumerate(values):
            total += amount
            values[i] = total
        return values


class FaultSpan(NamedTuple):
    """An injected fault; ``end_us`` -1 while it lasts."""

    subject: str
    fault: str
    target: str
    params: str
    begin_us: int
    end_us: int


class AlertSpan(NamedTuple):
    """An alert; ``cleared_us`` -1 while nobody cleared it."""

    rule: str
    name: str
    severity: str
    triage: str
    key: str
    detail: str
    raised_us: int
    cleared_us: int


class JobCounts:
    """What happened to the jobs of one name."""

    __slots__ = ("events", "jobs", "last_error", "most_retries", "states")

    def __init__(self) -> None:
        self.jobs = self.events = self.most_retries = 0
        self.states: Counter[str] = Counter()
        self.last_error = ""


class StateTimes:
    """What one state of a machine saw: entries, present and highest number, and each stay in microseconds."""

    __slots__ = ("entered", "now", "peak", "peak_us", "stays")

    def __init__(self) -> None:
        self.entered = self.now = self.peak = self.peak_us = 0
        self.stays: array[int] = array("q")


class Exchange:
    """Messages of one kind with one bank: sent, answered by outcome, answer times in milliseconds."""

    __slots__ = ("outcomes", "sent", "times_ms")

    def __init__(self) -> None:
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        self.times_ms: array[int] = array("q")


class Connections:
    """What connections to one exit server went through, by phase, and why the last one ended or did not come about."""

    __slots__ = ("phases", "reason")

    def __init__(self) -> None:
        self.phases: Counter[str] = Counter()
        self.reason = ""


class Kept(list[T]):
    """A list with a written limit that counts what it leaves out."""

    def __init__(self, limit: int = LIST_KEPT) -> None:
        super().__init__()
        self.limit, self.left_out = limit, 0

    def append(self, item: T) -> None:
        if len(self) < self.limit:
            super().append(item)
        else:
            self.left_out += 1


class RunModel:
    """Aggregates of one run; call it with each event, in order."""

    def __init__(self) -> None:
        self.events = 0
        self.first_us = self.last_us = 0
        self.kinds: Counter[str] = Counter()
        self.run: Data = {}
        self.buckets = Buckets()
        self.procedures: dict[int, Procedure] = {}
        self.states: dict[tuple[str, str], StateTimes] = {}
        self.edges: dict[str, Counter[tuple[str, str]]] = {"deposit": Counter(), "withdraw": Counter()}
        self.rows: Counter[str] = Counter()
        self.statuses: dict[str, Counter[str]] = {"apply": Counter(), "task": Counter()}
        self.ledger: dict[str, Counter[str]] = {}
        self.postings: Counter[tuple[str, int]] = Counter()
        self.exchanges: dict[tuple[str, str], Exchange] = {}
        self.faults: Kept[FaultSpan] = Kept()
        self.alerts: Kept[AlertSpan] = Kept()
        self.alert_counts: Counter[tuple[str, str]] = Counter()
        self.gates: Kept[tuple[str, int, int]] = Kept()
        self.lines: dict[tuple[str, str], Connections] = {}
        self.pushes: Counter[tuple[str, str]] = Counter()
        self.recovered: Counter[tuple[str, str]] = Counter()
        self.jobs: dict[str, JobCounts] = {}
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.notes: Counter[str] = Counter()
        self.staff: Counter[tuple[str, str, str]] = Counter()
        self.notices: Counter[str] = Counter()
        self.core: Kept[tuple[int, str, str]] = Kept()
        self.calendar: Kept[tuple[int, str]] = Kept()
        self.stages = DepositStages()
        self._words: dict[str, int] = {"": 0}
        self._texts: list[str] = [""]
        self._wishes: dict[str, tuple[int, str]] = {}
        self._hops: dict[str, array[int]] = {}
        self._hop_kinds: dict[tuple[str, ...], int] = {}
        self._hops_left_out: Counter[str] = Counter()
        self._starts: dict[int, int] = {}
        self._job_states: dict[str, str] = {}
        self._open_alerts: dict[tuple[str, str], int] = {}
        self._open_faults: dict[str, int] = {}
        self._closed_gates: dict[str, int] = {}
        self._readers: dict[str, Callable[[Event], None]] = {
            "run": self._on_run, "apply": self._on_apply, "task": self._on_task, "procedure": self._on_procedure,
            "refused": self._on_refused, "note": self._on_note, "hop": self._on_hop, "posting": self._on_posting,
            "bank.request": self._on_request, "bank.reply": self._on_reply,
            "bank.gate": self._on_gate, "bank.line": self._on_line, "bank.push": self._on_push,
            "recovery": self._on_recovery, "job": self._on_job, "fault": self._on_fault, "staff": self._on_staff,
            "alert": self._on_alert, "notify": self._on_notify, "core": self._on_core, "calendar": self._on_calendar}

    @classmethod
    def of(cls, events: Iterable[Event]) -> RunModel:
        """The model of a whole stream."""
        model = cls()
        for event in events:
            model(event)
        return model

    def __call__(self, event: Event) -> None:
        """Read one event; a kind unknown here is only counted."""
        kind = event[2]
        if not self.events:
            self.first_us = event[1]
        self.events += 1
        self.last_us = event[1]
        self.kinds[kind] += 1
        reader = self._readers.get(kind)
        if reader is not None:
            reader(event)
        self.stages(event)

    # --- Procedures ---------------------------------------------------------------------------------------------

    def _word(self, text: object) -> int:
        short = str(text) if text is not None else ""
        if len(short) > TEXT_KEPT:
            short = short[: TEXT_KEPT - 1] + "…"
        number = self._words.get(short)
        if number is None:
            number = self._words[short] = len(self._texts)
            self._texts.append(short)
        return number

    def _on_procedure(self, event: Event) -> None:
        _, t_us, _, _, data = event
        number, end = data["id"], data["to"]
        found = self.procedures.get(number)
        if found is None:
            found = self._created(number, MACHINES[data["biz"]], t_us, data)
        start, machine = found.state, found.machine
        self._move(found, t_us, start, end)
        self._record(found, t_us, data["row"], end, data.get("operator"), data.get("remark"))
        self.edges[machine][start, end] += 1
        self.rows[data["row"]] += 1
        if data.get("reason"):
            found.reason = str(data["reason"])

    def _created(self, number: int, machine: str, t_us: int, data: Data) -> Procedure:
        found = self.procedures[number] = Procedure(number, machine, t_us)
        found.channel = self._texts[self._word(data.get("channel") or machine)]
        found.ccy, found.amount = self._texts[self._word(data.get("ccy"))], int(data.get("amount") or 0)
        found.uid, found.trace = str(data.get("uid") or ""), str(data.get("trace") or "")
        found.started_us = min(t_us, self._starts.pop(number, t_us))
        self.buckets.add(t_us, 1, "started", machine)
        return found

    def _move(self, found: Procedure, t_us: int, start: str, end: str) -> None:
        machine, stay = found.machine, t_us - found.since_us
        if start:
            left = self.states[machine, start]
            left.now -= 1
            left.stays.append(stay)
            self.buckets.add(t_us, -1, "level", machine, start)
        entered = self._state(machine, end)
        entered.entered += 1
        entered.now += 1
        if entered.now > entered.peak:
            entered.peak, entered.peak_us = entered.now, t_us
        self.buckets.add(t_us, 1, "level", machine, end)
        found.state, found.since_us = self._texts[self._word(end)], t_us
        if end.startswith("end_"):
            self._ended(found, t_us, end.partition("(")[0])

    def _state(self, machine: str, label: str) -> StateTimes:
        times = self.states.get((machine, label))
        if times is None:
            times = self.states[machine, label] = StateTimes()
        return times

    def _ended(self, found: Procedure, t_us: int, status: str) -> None:
        if found.ended_us < 0:
            found.ended_us = t_us
            self.buckets.add(t_us, 1, "ended", found.machine)
        if status == "end_ok" and found.settled_us < 0:
            found.settled_us = t_us
            self.buckets.add(t_us, found.amount, "volume", found.machine, found.ccy)
        elif status != "end_ok":
            self.buckets.add(t_us, 1, "failed", found.machine)

    def _record(self, found: Procedure, t_us: int, row: object, end: object, operator: object, remark: object) -> None:
        if len(found.flows) >= FLOWS_KEPT * _FIELDS:
            found.left_out += 1
            return
        word = self._word
        found.flows.extend((t_us, word(row), word(end), word(operator), word(remark)))

    def _on_note(self, event: Event) -> None:
        _, t_us, _, _, data = event
        self.notes[str(data["fact"])] += 1
        found = self.procedures.get(data["id"])
        if found is not None:
            self._record(found, t_us, "", data["fact"], "", data.get("detail"))

    def _on_refused(self, event: Event) -> None:
        data = event[4]
        self.refusals[str(data["operation"]), str(data["code"])] += 1

    def history(self, procedure: Procedure) -> Iterator[Step]:
        """Flow records and notes of a Procedure, oldest first."""
        flows, texts, state = procedure.flows, self._texts, ""
        for at in range(0, len(flows), _FIELDS):
            t_us, row, end, operator, remark = flows[at:at + _FIELDS]
            yield Step(t_us, texts[row], state, texts[end], texts[operator], texts[remark])
            if row:
                state = texts[end]

    # --- hops -----------------------------------------------------------------------------------------------------

    def _on_hop(self, event: Event) -> None:
        _, _, _, trace, data = event
        kept = self._hops.get(trace)
        if kept is None:
            kept = self._hops[trace] = array("q")
        elif len(kept) >= HOPS_KEPT * _HOP_FIELDS:
            self._hops_left_out[trace] += 1
            return
        words = (data["service"], data["call"], data["outcome"], *data["tables"])
        kind = self._hop_kinds.setdefault(words, len(self._hop_kinds))
        kept.extend((data["began_us"], data["hop"], data["in"] or 0, data["us"], kind))

    def hops(self, trace: str) -> list[Hop]:
        """The hops under a trace id in the order in which they began."""
        kept, kinds = self._hops.get(trace, ()), list(self._hop_kinds)
        places = sorted(range(0, len(kept), _HOP_FIELDS), key=lambda at: (kept[at], kept[at + 1]))
        depths: dict[int, int] = {}
        told = []
        for at in places:
            t_us, number, whole, us, kind = kept[at:at + _HOP_FIELDS]
            depths[number] = depths[whole] + 1 if whole in depths else 0
            service, call, outcome, *tables = kinds[kind]
            told.append(Hop(t_us, us, depths[number], service, call, tuple(tables), outcome))
        return told

    def hop_count(self, trace: str) -> int:
        """How many hops were told under a trace id; of very many not all are kept."""
        return len(self._hops.get(trace, ())) // _HOP_FIELDS + self._hops_left_out[trace]

    # --- wishes of customers ------------------------------------------------------------------------------------

    def _on_apply(self, event: Event) -> None:
        _, t_us, _, subject, data = event
        self._wish("apply", t_us, subject, data)

    def _on_task(self, event: Event) -> None:
        _, t_us, _, subject, data = event
        self._wish("task", t_us, subject, data)

    def _wish(self, kind: str, t_us: int, subject: str, data: Data) -> None:
        status = self._texts[self._word(data["status"])]
        first_us, before = self._wishes.get(subject, (t_us, ""))
        if before:
            self.statuses[kind][before] -= 1
        self.statuses[kind][status] += 1
        self._wishes[subject] = (first_us, status)
        number = data.get("procedure")
        if number is None:
            return
        found = self.procedures.get(number)
        if found is not None:
            found.started_us = min(found.started_us, first_us)
        else:
            self._starts[number] = min(first_us, self._starts.get(number, first_us))

    # --- money --------------------------------------------------------------------------------------------------

    def _on_posting(self, event: Event) -> None:
        data = event[4]
        self.postings[data["op"], int(data.get("code") or 0)] += 1
        totals = self.ledger.get(data["ccy"])
        if totals is None:
            totals = self.ledger[data["ccy"]] = Counter()
        for bucket, delta in data.get("legs") or ():
            totals[bucket] += delta

    # --- banks --------------------------------------------------------------------------------------------------

    def _exchange(self, data: Data) -> Exchange:
        key = (str(data["bank"]), str(data["message"]))
        found = self.exchanges.get(key)
        if found is None:
            found = self.exchanges[key] = Exchange()
        return found

    def _on_request(self, event: Event) -> None:
        data = event[4]
        self._exchange(data).sent += 1

    def _on_reply(self, event: Event) -> None:
        _, t_us, _, _, data = event
        outcome, exchange = str(data["outcome"]), self._exchange(data)
        exchange.outcomes[outcome] += 1
        if data.get("ms") is not None:
            exchange.times_ms.append(int(data["ms"]))
        self.buckets.add(t_us, 1, "answers", str(data["bank"]), outcome)

    def _on_gate(self, event: Event) -> None:
        _, t_us, _, _, data = event
        bank = str(data["bank"])
        if not data["open"]:
            self._closed_gates.setdefault(bank, t_us)
        elif bank in self._closed_gates:
            self.gates.append((bank, self._closed_gates.pop(bank), t_us))

    def _on_line(self, event: Event) -> None:
        data = event[4]
        found = self.lines.setdefault((str(data["bank"]), str(data["server"])), Connections())
        found.phases[str(data["phase"])] += 1
        found.reason = str(data.get("reason", "")) or found.reason

    def _on_push(self, event: Event) -> None:
        data = event[4]
        self.pushes[str(data["bank"]), str(data["message"]).removeprefix("push.")] += 1

    def _on_recovery(self, event: Event) -> None:
        data = event[4]
        self.recovered[str(data["bank"]), str(data["source"])] += int(data["injected"])

    def closed_gates(self) -> list[tuple[str, int, int]]:
        """(bank, from, to) of each time a bank's window was closed; -1 when it was still closed at the end."""
        return [*self.gates, *((bank, since, -1) for bank, since in self._closed_gates.items())]

    # --- operation ----------------------------------------------------------------------------------------------

    def _on_run(self, event: Event) -> None:
        data = event[4]
        self.run.update({key: value for key, value in data.items() if key != "phase" and value is not None})

    def _on_job(self, event: Event) -> None:
        _, _, _, subject, data = event
        counts = self.jobs.get(data["job"])
        if counts is None:
            counts = self.jobs[data["job"]] = JobCounts()
        state, before = self._texts[self._word(data["state"])], self._job_states.get(subject)
        counts.events += 1
        if before is None:
            counts.jobs += 1
        else:
            counts.states[before] -= 1
        counts.states[state] += 1
        self._job_states[subject] = state
        counts.most_retries = max(counts.most_retries, int(data.get("retry") or 0))
        if data.get("error"):
            counts.last_error = str(data["error"])[:TEXT_KEPT]

    def _on_fault(self, event: Event) -> None:
        _, t_us, _, subject, data = event
        if data["phase"] == "end":
            at = self._open_faults.pop(subject, None)
            if at is not None:
                self.faults[at] = self.faults[at]._replace(end_us=t_us)
            return
        if len(self.faults) < self.faults.limit:
            self._open_faults[subject] = len(self.faults)
        params = orjson.dumps(data.get("params") or {}).decode()[:TEXT_KEPT]
        self.faults.append(FaultSpan(subject, str(data["fault"]), str(data["target"]), params, t_us, -1))

    def _on_alert(self, event: Event) -> None:
        _, t_us, _, _, data = event
        key = (str(data["rule"]), str(data.get("key") or ""))
        if data.get("phase") == "cleared":
            at = self._open_alerts.pop(key, None)
            if at is not None:
                self.alerts[at] = self.alerts[at]._replace(cleared_us=t_us)
            return
        if data.get("phase") == "escalated":  # it stands already
            return
        self.alert_counts[str(data["severity"]), key[0]] += 1
        self.buckets.add(t_us, 1, "alerts", str(data["severity"]))
        if len(self.alerts) < self.alerts.limit:
            self._open_alerts[key] = len(self.alerts)
        self.alerts.append(AlertSpan(
            key[0], str(data.get("name") or ""), str(data["severity"]), str(data.get("triage") or ""), key[1],
            str(data.get("detail") or "")[:TEXT_KEPT], t_us, -1))

    def _on_staff(self, event: Event) -> None:
        data = event[4]
        self.staff[str(data.get("role") or ""), str(data["action"]), str(data.get("result") or "")] += 1

    def _on_notify(self, event: Event) -> None:
        data = event[4]
        self.notices[str(data["event"])] += 1

    def _on_core(self, event: Event) -> None:
        _, t_us, _, _, data = event
        self.core.append((t_us, str(data["phase"]), str(data.get("detail") or "")[:TEXT_KEPT]))

    def _on_calendar(self, event: Event) -> None:
        _, t_us, _, _, data = event
        opening = "open" if data["open"] else "closed"
        self.calendar.append((t_us, f"{data['market']} {data['date']} {opening}, by {data.get('operator') or '?'}"))

    # --- what readers ask ---------------------------------------------------------------------------------------

    @property
    def span_us(self) -> tuple[int, int]:
        """Virtual time covered: the run's own bounds where known, else the first and last event."""
        start, end = self.run.get("virtual_start_ms"), self.run.get("virtual_end_ms")
        begin = int(start) * US_PER_MS if start is not None else self.first_us
        return begin, max(int(end) * US_PER_MS if end is not None else 0, self.last_us)

    def over_time(self, most: int) -> BucketView:
        """Every series over the whole run in at most ``most`` buckets."""
        return self.buckets.view(most, *self.span_us)

    def latencies(self) -> list[Latency]:
        """Per channel, in order of name."""
        samples: dict[str, list[int]] = {}
        for found in self.procedures.values():
            if found.settled_us >= 0:
                samples.setdefault(found.channel, []).append(found.latency_us)
        return [Latency(channel, array("q", sorted(samples[channel]))) for channel in sorted(samples)]

    def slowest(self, machine: str, count: int = SLOWEST_KEPT) -> list[Procedure]:
        """Settled Procedures that took longest, longest first; equals by id."""
        settled = [p for p in self.procedures.values() if p.machine == machine and p.settled_us >= 0]
        return sorted(settled, key=lambda p: (-p.latency_us, p.id))[:count]

    def unfinished(self) -> list[Procedure]:
        """Open Procedures, the one longest in its state first."""
        return sorted((p for p in self.procedures.values() if p.open), key=lambda p: (p.since_us, p.id))

    def counts(self) -> dict[str, dict[str, int]]:
        """Procedures by state now: ``{"deposit": {label: n}, "withdraw": {…}}``, states with none left out."""
        found: dict[str, dict[str, int]] = {"deposit": {}, "withdraw": {}}
        for (machine, label), times in self.states.items():
            if times.now:
                found[machine][label] = times.now
        return found

    def figures(self) -> Data:
        """The parts of ``summary.json`` that come from events: procedures, open, latency (seconds), ledger, events."""
        return {
            "events": self.events,
            "procedures": self.counts(),
            "open": sum(1 for p in self.procedures.values() if p.open),
            "latency": {
                latency.channel: {"n": len(latency.samples), "p50": latency.seconds(0.5),
                                  "p95": latency.seconds(0.95), "p99": latency.seconds(0.99)}
                for latency in self.latencies()},
            "ledger": {ccy: {bucket: totals[bucket] for bucket in ("available", "frozen", "in_transit", "external")}
                       for ccy, totals in sorted(self.ledger.items())},
        }


def read_events(path: Path) -> Iterator[Event]:
    """Events of an ``events.jsonl`` file, one JSON array ``[n, t_us, kind, subject, data]`` per line."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                n, t_us, kind, subject, data = orjson.loads(line)
            except ValueError as problem:
                raise Misconfigured(f"not an event: {problem}", where=f"{path}:{number}",
                                    remedy="one JSON array of five per line") from problem
            yield n, t_us, kind, subject, data
