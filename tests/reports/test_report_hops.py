"""The hops of a Procedure in the report: in order, indented, escaped, and fewer before a history is left out."""

from __future__ import annotations

import re
from typing import Any

import pytest
import synthetic_day
from test_report_html import HOSTILE, make

from core.trace import Event
from reports.model import HOPS_KEPT, RunModel

NOON_US = synthetic_day.MIDNIGHT_US + 12 * 3_600_000_000


def hop(number: int, part_of: int | None, at_ms: int, ms: int, **said: Any) -> Event:
    """A hop of the deposit A7, as it is told when it ends."""
    began = NOON_US + at_ms * 1_000
    return (1, began + ms * 1_000, "hop", "A7", {
        "hop": number, "in": part_of, "service": "deposit", "call": f"call.{number}", "tables": ["applys_07"],
        "began_us": began, "us": ms * 1_000, "outcome": "ok"} | said)


def procedure(number: int = 7, trace: str = "A7", state: str = "new(waiting)") -> Event:
    return (1, NOON_US, "procedure", f"P{number}", {
        "id": number, "trace": trace, "biz": "cash_deposit", "channel": "cmb deposit", "ccy": "HKD",
        "amount": 1_000_000, "uid": 7, "operator": "system", "remark": "", "reason": "", "row": "DT-01", "from": "",
        "to": state})


def test_hops_come_in_the_order_in_which_they_began_each_below_what_it_is_part_of() -> None:
    """Told at their ends: the innermost first. Two that began at one moment keep the order of their numbers."""
    model = RunModel.of([
        hop(1, None, 0, 0), hop(4, 3, 0, 20), hop(3, 2, 0, 30), hop(5, 2, 31, 5), hop(2, None, 0, 40),
        hop(7, 6, 90, 1)])
    assert [(each.call, each.depth, each.us) for each in model.hops("A7")] == [
        ("call.1", 0, 0), ("call.2", 0, 40_000), ("call.3", 1, 30_000), ("call.4", 2, 20_000), ("call.5", 1, 5_000),
        ("call.7", 0, 1_000)]  # what 7 is part of was not told
    assert model.hops("A8") == [] and model.hop_count("A7") == 6


def test_what_is_too_much_to_be_kept_is_counted() -> None:
    model = RunModel.of(hop(number, None, number, 1) for number in range(1, HOPS_KEPT + 11))
    assert len(model.hops("A7")) == HOPS_KEPT and model.hop_count("A7") == HOPS_KEPT + 10


@pytest.mark.req("TRACE-05")
def test_the_page_lists_the_hops_of_a_procedure_with_service_tables_and_duration() -> None:
    page = make(RunModel.of([procedure(), hop(1, None, 0, 40, call="CmbCredit"), hop(
        2, 1, 3, 12, service="risk_control", call="risk_control.add", tables=["posting", "balance"],
        outcome="unknown")]))
    assert "Trace A7: 2 hops of 2 services" in page
    assert ("<tr><td>12:00:00.000<td>deposit<td>CmbCredit<td>applys_07<td>40\u00a0ms"
            "<tr><td>12:00:00.003<td>risk_control<td class=i1>risk_control.add<td>posting, balance"
            "<td>unknown, 12\u00a0ms") in page


def test_what_a_hop_says_is_escaped() -> None:
    said = {"service": HOSTILE, "call": HOSTILE, "tables": [HOSTILE], "outcome": HOSTILE}
    page = make(RunModel.of([procedure(), hop(1, None, 0, 1, **said)]))
    assert "Trace A7: 1 hop of 1 service" in page
    assert "<img" not in page and "onerror=alert(1)>" not in page.replace("&gt;", "")


def test_a_long_trace_shows_its_beginning_and_its_end() -> None:
    page = make(RunModel.of([procedure(), *(hop(number, None, number, 1) for number in range(1, 101))]))
    shown = re.findall(r"<td>call\.(\d+)<td>", page)
    assert shown == [str(number) for number in (*range(1, 21), *range(81, 101))]
    assert "60 more hops left out; see events.jsonl." in page


def test_histories_come_before_hops_and_a_trace_that_is_left_out_is_named() -> None:
    model = RunModel()
    for number in range(40):
        model(procedure(number, f"A{number}"))
        for each in range(1, 41):
            _, t_us, kind, _, data = hop(each, None, each, 1)
            model((1, t_us, kind, f"A{number}", data))
    page = make(model)
    assert len(page.encode()) < 300_000
    assert page.count("<details class=p>") == 40
    whole, named = page.count("<summary>Trace A"), page.count("40 hops; see events.jsonl.")
    assert 0 < whole < 40 and whole + named == 40
    assert "<summary>Trace A0:" in page  # the longest open first


def test_a_procedure_without_hops_has_no_trace(page: str) -> None:
    assert "<summary>Trace" not in page and "hops; see" not in page
