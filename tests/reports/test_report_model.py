"""The one-pass model against a naive recount, and its limits."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
import synthetic_day
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Misconfigured
from core.trace import Event
from reports.model import BUCKETS_KEPT, FLOWS_KEPT, LIST_KEPT, WIDTHS_S, Buckets, RunModel, percentile, read_events

SECOND = 1_000_000


def moves(events: list[Event]) -> dict[int, list[Event]]:
    """Procedure events by Procedure."""
    found: dict[int, list[Event]] = {}
    for event in events:
        if event[2] == "procedure":
            found.setdefault(event[4]["id"], []).append(event)
    return found


def wishes(events: list[Event]) -> dict[int, int]:
    """Procedure -> earliest moment of an Apply or Task that names it, by reading the stream backwards and forwards."""
    first: dict[str, int] = {}
    starts: dict[int, int] = {}
    for _, t_us, kind, subject, _ in events:
        if kind in ("apply", "task"):
            first.setdefault(subject, t_us)
    for _, _, kind, subject, data in events:
        if kind in ("apply", "task") and data["procedure"] is not None:
            starts[data["procedure"]] = min(first[subject], starts.get(data["procedure"], first[subject]))
    return starts


def recount(events: list[Event]) -> dict[str, Any]:
    """What the model must say, counted without any cleverness."""
    ways, starts = moves(events), wishes(events)
    states: dict[str, Counter[str]] = {"deposit": Counter(), "withdraw": Counter()}
    times: dict[str, list[int]] = {}
    for number, way in ways.items():
        machine = "deposit" if way[0][4]["biz"] == "cash_deposit" else "withdraw"
        states[machine][way[-1][4]["to"]] += 1
        ended = [t_us for _, t_us, _, _, data in way if data["to"].startswith("end_ok")]
        if ended:
            start = min(way[0][1], starts.get(number, way[0][1]))
            times.setdefault(way[0][4]["channel"], []).append(ended[0] - start)
    return {"states": {machine: dict(counts) for machine, counts in states.items()},
            "times": {channel: sorted(values) for channel, values in sorted(times.items())},
            "edges": Counter((data["from"], data["to"]) for way in ways.values() for *_, data in way)}


def agree(events: list[Event]) -> None:
    model, naive = RunModel.of(events), recount(events)
    assert model.counts() == naive["states"]
    assert {each.channel: list(each.samples) for each in model.latencies()} == naive["times"]
    assert model.edges["deposit"] + model.edges["withdraw"] == naive["edges"]
    assert model.events == len(events) == sum(model.kinds.values())
    view = model.over_time(300)
    ended = {machine: sum(1 for way in moves(events).values() if way[-1][4]["to"].startswith("end_")
                          and way[0][4]["biz"].endswith(machine)) for machine in ("deposit", "withdraw")}
    for machine in ended:
        started = sum(view.sums("started", machine))
        assert started == sum(naive["states"][machine].values())
        assert sum(view.sums("ended", machine)) == ended[machine]
        for label, number in naive["states"][machine].items():
            assert view.levels("level", machine, label)[-1] == number


def test_a_day_agrees_with_a_naive_recount(events: list[Event]) -> None:
    agree(events)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), procedures=st.integers(0, 30))
def test_small_days_agree_with_a_naive_recount(seed: int, procedures: int) -> None:
    agree(synthetic_day.day(seed, procedures))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 9)), min_size=1, max_size=60))
def test_widening_buckets_loses_nothing(points: list[tuple[int, int]]) -> None:
    buckets = Buckets()
    for minutes, amount in points:
        buckets.add(minutes * 60 * SECOND, amount, "x")
    for most in (1, 10, 300, BUCKETS_KEPT):
        view = buckets.view(most, 0, 40_000 * 60 * SECOND)
        assert sum(view.sums("x")) == sum(amount for _, amount in points)
        assert view.length <= most or view.width_s == WIDTHS_S[-1]
        for minutes, _ in points:
            place = (minutes * 60 * SECOND - view.start_us) // (view.width_s * SECOND)
            assert view.sums("x")[place] > 0


def test_buckets_begin_at_full_hours_of_hong_kong(model: RunModel) -> None:
    view = model.over_time(24)
    assert (view.width_s, view.length, view.start_us) == (3_600, 24, synthetic_day.MIDNIGHT_US)


@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=50), st.sampled_from((0.5, 0.95, 0.99, 1.0)))
def test_percentile_is_the_smallest_value_that_the_share_does_not_exceed(values: list[int], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    enough = math.ceil(len(values) * share - 1e-9)
    assert sum(value <= found for value in values) >= enough
    assert sum(value < found for value in values) < enough


def test_an_apply_that_names_its_procedure_late_still_counts() -> None:
    base = {"uid": 1, "bank": "airstar", "ccy": "HKD", "amount": 1, "source": 1, "reason": ""}
    way = {"id": 7, "biz": "cash_deposit", "channel": "airstar deposit", "ccy": "HKD", "amount": 1, "uid": 1,
           "operator": "system", "remark": "", "reason": ""}
    model = RunModel.of([
        (1, 10 * SECOND, "apply", "A1", {**base, "apply": 1, "status": "INIT", "procedure": None}),
        (2, 14 * SECOND, "procedure", "P7", {**way, "row": "DT-01", "from": "", "to": "new(waiting)"}),
        (3, 15 * SECOND, "procedure", "P7", {**way, "row": "DT-03", "from": "new(waiting)", "to": "pending"}),
        (4, 16 * SECOND, "procedure", "P7", {**way, "row": "DT-06", "from": "pending", "to": "end_ok(deposit_ok)"}),
        (5, 17 * SECOND, "apply", "A1", {**base, "apply": 1, "status": "DONE", "procedure": 7})])
    assert [list(each.samples) for each in model.latencies()] == [[6 * SECOND]]
    assert model.statuses["apply"]["DONE"] == 1 and model.statuses["apply"]["INIT"] == 0
    assert model.figures()["latency"] == {"airstar deposit": {"n": 1, "p50": 6.0, "p95": 6.0, "p99": 6.0}}


def test_history_gives_back_every_flow_record(events: list[Event], model: RunModel) -> None:
    for number in (1, 2, 728, 1412):
        told = [(s.t_us, s.row, s.start, s.end, s.operator) for s in model.history(model.procedures[number]) if s.row]
        assert told == [(t, d["row"], d["from"], d["to"], d["operator"]) for _, t, _, _, d in moves(events)[number]]


def test_stays_add_up_to_the_life_of_each_finished_procedure(events: list[Event], model: RunModel) -> None:
    life = sum(way[-1][1] - way[0][1] for way in moves(events).values())
    assert sum(sum(times.stays) for times in model.states.values()) == life


def test_what_exceeds_a_limit_is_counted() -> None:
    model = RunModel()
    way = {"id": 1, "biz": "cash_withdraw", "row": "WT-01", "channel": "x", "operator": "", "remark": "r" * 999}
    model((1, 1, "procedure", "P1", {**way, "from": "", "to": "new(freeze)"}))
    for n in range(FLOWS_KEPT + 5):
        model((n + 2, n + 2, "note", "P1", {"id": 1, "fact": "BANK_SUCCESS", "detail": ""}))
    for n in range(LIST_KEPT + 3):
        model((n, 10**6 + n, "alert", "R", {"rule": "R", "severity": "High", "key": str(n), "phase": "raised"}))
    found = model.procedures[1]
    assert found.left_out == 6 and sum(1 for _ in model.history(found)) == FLOWS_KEPT
    assert len(next(model.history(found)).remark) == 200
    assert len(model.alerts) == LIST_KEPT and model.alerts.left_out == 3
    assert model.alert_counts["High", "R"] == LIST_KEPT + 3


def test_ledger_is_the_sum_of_the_legs(events: list[Event], model: RunModel) -> None:
    legs: Counter[tuple[str, str]] = Counter()
    for _, _, kind, _, data in events:
        if kind == "posting":
            for bucket, delta in data["legs"]:
                legs[data["ccy"], bucket] += delta
    assert {(ccy, bucket): n for ccy, totals in model.ledger.items() for bucket, n in totals.items()} == dict(legs)
    assert all(sum(totals.values()) == 0 for totals in model.ledger.values())


def test_faults_alerts_and_gates_are_matched_with_their_end(model: RunModel) -> None:
    assert [(f.subject, f.end_us > f.begin_us) for f in model.faults] == [
        ("F1", True), ("F2", True), ("F3", True), ("F4", True)]
    cleared = {alert.rule for alert in model.alerts if alert.cleared_us > alert.raised_us}
    assert cleared == {"AIRSTAR-12", "AIRSTAR-04", "JOB-01", "JOB-02"}
    assert all(alert.cleared_us == -1 for alert in model.alerts if alert.rule not in cleared)
    assert [(bank, end < 0) for bank, _, end in model.closed_gates()] == [("cmb", False), ("airstar", True)]


def test_a_file_reads_like_the_stream(events: list[Event], tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE) for event in events[:5_000]))
    assert RunModel.of(read_events(path)).figures() == RunModel.of(events[:5_000]).figures()


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'[1,2,"run","run",{}]\n[2,\n')
    with pytest.raises(Misconfigured, match=r"events\.jsonl:2"):
        list(read_events(path))
