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
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
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
        found: dict[str, int] = {}
        begun = self.wished if self.booked < 0 else min(self.wished, self.booked)
        if self.standard:
            found["transfer"] = self.booked - self.wished
            found["retrieval"] = self.known - self.booked
            found["matching"] = self.matched - max(self.known, self.wished)
            begun = self.wished
        elif self.known >= 0:
            found["retrieval"] = self.known - begun
        if self.credited >= 0:
            ready = self.matched if self.standard else self.known
            if ready >= 0 and not self.reviewed:
                found["crediting"] = self.credited - ready
            found["total"] = self.credited - begun
        return {name: us for name, us in found.items() if us >= 0}


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
        self._booked: dict[tuple[str, str, int], list[tuple[str, int]]] = {}
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
            self._booked_before(way, data, reference)
        if data["status"] == "CREDITING" and way.known < 0 and not way.standard:
            way.known = t_us
        if data.get("procedure") is not None:
            self._follow(way, data["procedure"])

    def _booked_before(self, way: Way, data: Mapping[str, Any], reference: str) -> None:
        """What began at the bank was booked there before we heard of it."""
        for booked, t_us in self._booked.get((way.bank, data["ccy"], data["amount"]), ()):
            if booked == reference:
                way.booked = t_us

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
                self._booked.setdefault((data["bank"], data["ccy"], data["amount"]), []).append((data["ref"], event[1]))

    def _on_statement(self, event: Event) -> None:
        """The bank's own moment, where it is known: a statement may have the day only."""
        data = event[4]
        if data["dr_cr"] == "C" and data["flow"] not in self._entries:
            waiting = self._booked.get((data["bank"], data["ccy"], data["amount"]), [])
            at = next((place for place, (ref, _) in enumerate(waiting) if ref == data["ref"]), 0)
            booked = waiting.pop(at)[1] if waiting else int(data["credited_ms"]) * US_PER_MS
            self._entries[data["flow"]] = _Entry(booked, event[1])

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


class Judged(NamedTuple):
    """One stage of one channel: times in seconds, what the documents say, and whether the median is within it (None:
    they say nothing, or there is nothing)."""

    n: int
    p50: float
    p95: float
    expected: str
    met: bool | None


def report_stages(
    stages: DepositStages, withdrawals: Mapping[str, array[int]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The latency report of ``summary.json``: ``channels``: channel -> stage -> `Judged` as a mapping; ``withdrawals``:
    channel -> `Judged` of the whole, from sorted microseconds; ``hops``: call -> the same against the bound of its
    trace. Expectations come from the settings ``latency.*``."""
    words: Mapping[str, list[float]] = settings["latency.words"]
    channels = {f"{bank} deposit": _channel(found, _expected(settings, bank), words)
                for bank, found in stages.samples().items()}
    whole = {channel: _judged(list(ordered), _of_withdrawal(settings, channel), words)._asdict()
             for channel, ordered in withdrawals.items()}
    return {"channels": channels, "withdrawals": whole, "hops": _hops(stages, settings)}


def _of_withdrawal(settings: Mapping[str, Any], channel: str) -> str:
    key = f"{WITHDRAWALS}{channel.removesuffix(' withdrawal')}"
    return str(settings[key if key in set(settings) else f"{WITHDRAWALS}other"])


def _expected(settings: Mapping[str, Any], bank: str) -> dict[str, str]:
    key = f"latency.stages.{bank}"
    return dict(zip(EXPECTED, settings[key], strict=True)) if key in set(settings) else {}


def _channel(found: Mapping[str, list[int]], expected: Mapping[str, str], words: Mapping[str, list[float]]) -> Any:
    return {name: _judged(found[name], expected.get(name, ""), words)._asdict()
            for name in STAGES if found[name] or expected.get(name)}


def _judged(ordered: list[int], expected: str, words: Mapping[str, list[float]]) -> Judged:
    if not ordered:
        return Judged(0, 0.0, 0.0, expected, True if expected == SKIPPED else None)
    median, high = (round(percentile(ordered, share) / US_PER_S, 3) for share in (0.5, 0.95))
    if expected not in words:
        return Judged(len(ordered), median, high, expected, None)
    low, limit = words[expected]
    return Judged(len(ordered), median, high, expected, low <= median <= limit)


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
