"""How far a deposit had come when: its stages, read from the events (architecture.md §7).

    wished --transfer--> booked --retrieval--> known --matching--> matched --crediting--> credited

* wished: the customer said in the App what he would deposit; booked: his bank moved the money; known: the bank's
  statement was kept, or (bank-securities transfer, direct debit) the bank's result was known; matched: a statement and
  the application were put together; credited: the first ``end_ok``.
* Only an ordinary transfer has *transfer* and *matching*: all else is retrieved from the wish on, or from the bank's
  booking where the customer began there.
* *crediting* is SBA and Risk Control, from matched (or known) to credited. It is not taken of deposits for which a
  person decided (``new(manual_confirm)``): people do not take milliseconds.
* *total* is from the wish, or from the bank's booking where the customer began there, to credited.

Times are epoch microseconds, -1 for what has not happened; what is told here of one deposit is a few integers.

The documents' words are judged by the median, in seconds (``latency.words``) or, where they count days, in business
days of the bank (``latency.business_days``): a debit that is asked for before a holiday has its T+1 after it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from core.clock import US_PER_MS, US_PER_S
from core.trace import Event
from reports.quantiles import percentile

STAGES: Final = ("transfer", "retrieval", "matching", "crediting", "total")
EXPECTED: Final = ("retrieval", "matching", "crediting", "total")
"""Those of which the documents say something, in the order of ``latency.stages.*``."""
SKIPPED: Final = "skipped"
MOMENTS: Final = ("wished", "sent", "booked", "known", "matched", "credited")
HOPS: Final = "latency.hops."
WITHDRAWALS: Final = "latency.withdrawals."
HOPS_AT: Final = 0.95
BusinessDays = Callable[[str, int, int], int]
"""(bank, from, to), epoch microseconds -> n of T+n: 0 up to the end of the day T on which the bank works on what is
asked of it at the first moment, 1 up to the end of its next business day, and so on."""
_BOOKED: Final = ("collect", "receive")
_SENT: Final = ("deposit", "create_debit")
_REVIEW: Final = "new(manual_confirm)"
_JUDGED: Final = ("screening", "sba", "risk_control", "owner")


class Way:
    """One deposit: the moments of `MOMENTS`, and whether a person decided about it."""

    __slots__ = ("bank", "booked", "credited", "known", "matched", "procedure", "reviewed", "sent", "standard",
                 "wished")

    def __init__(self, bank: str, wished: int) -> None:
        self.bank, self.wished = bank, wished
        self.sent = self.booked = self.known = self.matched = self.credited = -1
        self.procedure = -1
        self.standard = self.reviewed = False

    def stages(self) -> dict[str, int]:
        """Stage -> microseconds, as far as it came."""
        return {name: end - begin for name, (begin, end) in self.spans().items()}

    def spans(self) -> dict[str, tuple[int, int]]:
        """Stage -> when it began and ended, as far as it came."""
        found: dict[str, tuple[int, int]] = {}
        begun = self.wished if self.booked < 0 else min(self.wished, self.booked)
        if self.standard:
            found["transfer"] = self.wished, self.booked
            found["retrieval"] = self.booked, self.known
            found["matching"] = max(self.known, self.wished), self.matched
            begun = self.wished
        elif self.known >= 0:
            found["retrieval"] = begun, self.known
        if self.credited >= 0:
            ready = self.matched if self.standard else self.known
            if ready >= 0 and not self.reviewed:
                found["crediting"] = ready, self.credited
            found["total"] = begun, self.credited
        return {name: (begin, end) for name, (begin, end) in found.items() if end >= begin}


class _Entry(NamedTuple):
    """A statement entry: when the bank booked it, and when we had it."""

    booked: int
    known: int


class DepositStages:
    """A reader of the event stream: call it with each event."""

    def __init__(self) -> None:
        self.ways: dict[int, Way] = {}  # Apply -> its way
        self.hops: dict[tuple[str, str], array[int]] = {}  # (bank, call) -> microseconds without its parts
        self._by_ref: dict[str, Way] = {}
        self._by_procedure: dict[int, Way] = {}
        self._booked: dict[tuple[str, str], int] = {}  # (bank, its reference) -> when, of what nobody has asked for
        self._at_second: dict[tuple[str, str, int, int], list[str]] = {}  # (bank, ccy, amount, second) -> references
        self._entries: dict[int, _Entry] = {}
        self._parts: dict[int, int] = {}
        self._readers: dict[str, Callable[[Event], None]] = {
            "apply": self._on_apply, "bank.request": self._on_request, "bank.book": self._on_book,
            "statement": self._on_statement, "match": self._on_match, "procedure": self._on_procedure,
            "hop": self._on_hop}

    def __call__(self, event: Event) -> None:
        reader = self._readers.get(event[2])
        if reader is not None:
            reader(event)

    def _on_apply(self, event: Event) -> None:
        _, t_us, _, _, data = event
        way = self.ways.get(data["apply"])
        if way is None:
            way = self.ways[data["apply"]] = Way(str(data["bank"]), t_us)
            way.standard = data["status"] == "WAIT_MATCH"
        reference = data.get("ref")
        if reference and reference not in self._by_ref:
            self._by_ref[reference] = way
            way.booked = self._booked.pop((way.bank, reference), way.booked)  # begun at the bank, before we heard of it
        if data["status"] == "CREDITING" and way.known < 0 and not way.standard:
            way.known = t_us
        if data.get("procedure") is not None:
            self._follow(way, data["procedure"])

    def _follow(self, way: Way, procedure: int) -> None:
        if way.procedure < 0:
            way.procedure = procedure
            before = self._by_procedure.get(procedure)
            if before is not None:  # its Procedure was told before: what is known of it belongs to this one
                way.credited, way.reviewed = before.credited, before.reviewed
            self._by_procedure[procedure] = way

    def _on_request(self, event: Event) -> None:
        data = event[4]
        if data["message"] in _SENT:
            way = self._by_ref.get(data["ref"])
            if way is not None and way.sent < 0:
                way.sent = event[1]

    def _on_book(self, event: Event) -> None:
        data = event[4]
        if data["op"] in _BOOKED:
            way = self._by_ref.get(data["ref"])
            if way is not None and way.booked < 0:
                way.booked = event[1]
            elif way is None:
                self._booked[data["bank"], data["ref"]] = event[1]
                self._at_second.setdefault(_second_of(data, event[1]), []).append(data["ref"])

    def _on_statement(self, event: Event) -> None:
        """The bank's own moment, where it is known: a statement may have the minute only, or the day."""
        data = event[4]
        if data["dr_cr"] == "C" and data["flow"] not in self._entries:
            told_us = int(data["credited_ms"]) * US_PER_MS
            booked = self._booked.pop((data["bank"], self._line_of(data, told_us)), told_us)
            self._entries[data["flow"]] = _Entry(booked, event[1])

    def _line_of(self, data: Mapping[str, Any], told_us: int) -> str:
        """The bank's own reference of the line that an entry shows: as it is, within a longer one, or, where our entry
        has another (BOCHK), that of the first such amount in the same second."""
        bank, reference = data["bank"], data["ref"]
        named = next((one for one in (reference, *reference.split("-")) if (bank, one) in self._booked), None)
        if named is not None:
            return str(named)
        same = self._at_second.get(_second_of(data, told_us), [])
        return next((one for one in same if (bank, one) in self._booked), "")

    def _on_match(self, event: Event) -> None:
        data = event[4]
        way = self.ways.get(data["apply"])
        if way is None:
            return
        entry = self._entries.get(data["flow"])
        if data["phase"] == "MATCHED":
            way.matched = event[1]
            way.booked, way.known = entry if entry is not None else (-1, -1)
        else:
            way.matched = way.booked = way.known = -1

    def _on_procedure(self, event: Event) -> None:
        _, t_us, _, _, data = event
        if data["biz"] != "cash_deposit":
            return
        way = self._by_procedure.get(data["id"])
        if way is None:
            way = self._by_procedure[data["id"]] = Way("", t_us)
        if data["to"] == _REVIEW:
            way.reviewed = True
        elif data["to"].startswith("end_ok") and way.credited < 0:
            way.credited = t_us

    def _on_hop(self, event: Event) -> None:
        """A hop's own time: without its parts, which have ended before it."""
        data = event[4]
        parts = self._parts.pop(data["hop"], 0)
        if data["in"] is not None and event[3].startswith("A"):
            self._parts[data["in"]] = self._parts.get(data["in"], 0) + data["us"]
        way = self.ways.get(int(event[3][1:])) if event[3].startswith("A") else None
        if way is not None and data["outcome"] == "ok" and data["call"].partition(".")[0] in _JUDGED:
            self.hops.setdefault((way.bank, data["call"]), array("q")).append(max(0, data["us"] - parts))

    # What readers ask

    def samples(self) -> dict[str, dict[str, list[int]]]:
        """Channel's bank -> stage -> sorted microseconds of deposits that were credited."""
        found: dict[str, dict[str, list[int]]] = {}
        for way in self.ways.values():
            if way.credited >= 0:
                stages = found.setdefault(way.bank, {name: [] for name in STAGES})
                for name, us in way.stages().items():
                    stages[name].append(us)
        for stages in found.values():
            for values in stages.values():
                values.sort()
        return dict(sorted(found.items()))


    def spans(self, bank: str, stage: str) -> Iterator[tuple[int, int]]:
        """(begin, end) of a stage of each deposit of a bank that was credited."""
        for way in self.ways.values():
            if way.bank == bank and way.credited >= 0 and (span := way.spans().get(stage)) is not None:
                yield span


def _second_of(data: Mapping[str, Any], t_us: int) -> tuple[str, str, int, int]:
    return data["bank"], data["ccy"], data["amount"], t_us // US_PER_S


class Judged(NamedTuple):
    """One stage of one channel: times in seconds, what the documents say, and whether the median is within it (None:
    they say nothing, or there is nothing)."""

    n: int
    p50: float
    p95: float
    expected: str
    met: bool | None


class Said(NamedTuple):
    """What a median may be for each word of the documents: [from, to] seconds, or the last n of T+n."""

    seconds: Mapping[str, list[float]]
    business_days: Mapping[str, int]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Said:
        """As the settings have it."""
        return cls(settings["latency.words"], settings["latency.business_days"])


def report_stages(
    stages: DepositStages, withdrawals: Mapping[str, array[int]], settings: Mapping[str, Any], passed: BusinessDays,
) -> dict[str, Any]:
    """The latency report of ``summary.json``: ``channels``: channel -> stage -> `Judged` as a mapping; ``withdrawals``:
    channel -> `Judged` of the whole, from sorted microseconds; ``hops``: call -> the same against the bound of its
    trace. Expectations come from the settings ``latency.*``; ``passed`` counts the business days of a channel."""
    said = Said.of(settings)

    def channel(bank: str, found: Mapping[str, list[int]]) -> dict[str, Any]:
        expected = _expected(settings, bank)
        return {name: _judged(found[name], expected.get(name, ""), said, (
            passed(bank, begin, end) for begin, end in stages.spans(bank, name)))._asdict()
            for name in STAGES if found[name] or expected.get(name)}

    channels = {f"{bank} deposit": channel(bank, found) for bank, found in stages.samples().items()}
    whole = {name: _judged(list(ordered), _of_withdrawal(settings, name), said)._asdict()
             for name, ordered in withdrawals.items()}
    return {"channels": channels, "withdrawals": whole, "hops": _hops(stages, settings)}


def _of_withdrawal(settings: Mapping[str, Any], channel: str) -> str:
    key = f"{WITHDRAWALS}{channel.removesuffix(' withdrawal')}"
    return str(settings[key if key in set(settings) else f"{WITHDRAWALS}other"])


def _expected(settings: Mapping[str, Any], bank: str) -> dict[str, str]:
    key = f"latency.stages.{bank}"
    return dict(zip(EXPECTED, settings[key], strict=True)) if key in set(settings) else {}


def _judged(ordered: list[int], expected: str, said: Said, days: Iterable[int] = ()) -> Judged:
    """``days``: the same times as T+n; read only where the documents count so."""
    if not ordered:
        return Judged(0, 0.0, 0.0, expected, True if expected == SKIPPED else None)
    median, high = (round(percentile(ordered, share) / US_PER_S, 3) for share in (0.5, 0.95))
    met = None
    if expected in said.seconds:
        low, limit = said.seconds[expected]
        met = low <= median <= limit
    elif expected in said.business_days and (counted := sorted(days)):
        met = percentile(counted, 0.5) <= said.business_days[expected]
    return Judged(len(ordered), median, high, expected, met)


def _hops(stages: DepositStages, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Each hop with a bound in a trace, over all channels."""
    found: dict[str, list[int]] = {}
    for (_, call), values in stages.hops.items():
        found.setdefault(call, []).extend(values)
    bounds = {key.removeprefix(HOPS): float(settings[key]) for key in settings if key.startswith(HOPS)}
    return {call: _bounded(sorted(found[call]), bound) for call, bound in bounds.items() if call in found}


def _bounded(ordered: list[int], bound: float) -> dict[str, Any]:
    median, high = (round(percentile(ordered, share) / US_PER_S, 3) for share in (0.5, HOPS_AT))
    return {"n": len(ordered), "p50": median, "p95": high, "bound": bound, "met": high <= bound}
