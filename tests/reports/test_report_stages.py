"""Stages of deposits by hand-made events, the judgement beside the documents' words, and their cards in the page."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from core.settings import Settings
from core.trace import Event
from reports.latency import STAGE_TITLES, stage_cards
from reports.stages import BusinessDays, DepositStages
from reports.stages import report_stages as judge
from reports.summary_text import print_summary

S = 1_000_000
APPLY = {"bank": "hsbc", "ccy": "HKD", "amount": 500, "ref": "", "procedure": None}
PROCEDURE = {"id": 7, "biz": "cash_deposit"}


def read(*told: tuple[float, str, str, dict[str, Any]]) -> DepositStages:
    """The stages after these events: (second, kind, subject, data)."""
    stages = DepositStages()
    for n, (at_s, kind, subject, data) in enumerate(told, 1):
        event: Event = (n, round(at_s * S), kind, subject, data)
        stages(event)
    return stages


def apply(at_s: float, status: str, **more: Any) -> tuple[float, str, str, dict[str, Any]]:
    return at_s, "apply", "A3", {**APPLY, "apply": 3, "status": status, **more}


def procedure(at_s: float, to: str) -> tuple[float, str, str, dict[str, Any]]:
    return at_s, "procedure", "P7", {**PROCEDURE, "to": to}


def booked(at_s: float, ref: str, op: str = "receive", bank: str = "hsbc") -> tuple[float, str, str, dict[str, Any]]:
    return at_s, "bank.book", ref, {"bank": bank, "op": op, "ref": ref, "ccy": "HKD", "amount": 500}


def entry(at_s: float, ref: str, flow: int = 9, credited_ms: int = 0) -> tuple[float, str, str, dict[str, Any]]:
    return at_s, "statement", f"F{flow}", {"bank": "hsbc", "flow": flow, "ref": ref, "ccy": "HKD", "amount": 500,
                                           "dr_cr": "C", "credited_ms": credited_ms}


def match(at_s: float, phase: str = "MATCHED", flow: int = 9) -> tuple[float, str, str, dict[str, Any]]:
    return at_s, "match", "A3", {"phase": phase, "apply": 3, "flow": flow}


def hop(number: int, within: int | None, call: str, us: int, outcome: str = "ok") -> tuple[
        float, str, str, dict[str, Any]]:
    return 0, "hop", "A3", {"hop": number, "in": within, "service": "", "call": call, "us": us, "outcome": outcome}


STANDARD = (apply(10, "WAIT_MATCH"), booked(70, "R1"), entry(82, "R1"), match(100), apply(100, "MATCHED"),
            procedure(100.01, "new(waiting)"), procedure(100.05, "end_ok(deposit_ok)"),
            apply(100.06, "DONE", procedure=7))


def natural_days(_bank: str, begin: int, end: int) -> int:
    """A calendar on which the bank works every day, and on 1970-01-01 begins at midnight UTC."""
    return end // (86_400 * S) - begin // (86_400 * S)


def report_stages(stages: DepositStages, withdrawals: dict[str, Any], settings: Settings,
                  passed: BusinessDays = natural_days) -> dict[str, Any]:
    return judge(stages, withdrawals, settings, passed)


def samples(*told: Any) -> dict[str, list[int]]:
    ((_, found),) = read(*told).samples().items()
    return {name: values for name, values in found.items() if values}


def test_an_ordinary_transfer_has_all_stages_and_they_add_up() -> None:
    found = samples(*STANDARD)
    assert found == {"transfer": [60 * S], "retrieval": [12 * S], "matching": [18 * S], "crediting": [50_000],
                     "total": [90 * S + 50_000]}
    assert sum(values[0] for name, values in found.items() if name != "total") == found["total"][0]


def test_without_the_banks_book_the_statements_own_moment_counts() -> None:
    told = [one for one in STANDARD if one[1] != "bank.book"]
    told[1] = entry(82, "R1", credited_ms=65_000)
    assert samples(*told)["retrieval"] == [17 * S]


def test_of_two_bookings_alike_the_one_with_the_reference_is_meant() -> None:
    told = [STANDARD[0], booked(60, "R0"), *STANDARD[1:]]
    assert samples(*told)["transfer"] == [60 * S]


def test_of_two_equal_deposits_each_entry_has_its_own_booking() -> None:
    """The second is told first: BOCHK's reference is of its own making, EWB's longer than the line's."""
    for first, second, ms in (("BE1", "BE2", 70_000), ("EWB1", "EWB2", 0)):
        reference = "20260312000110-2" if ms else "20260312-EWB2-C500-900"
        told = [STANDARD[0], booked(60.2, first), booked(70.3, second), entry(82, reference, credited_ms=ms),
                *STANDARD[3:]]
        assert samples(*told)["transfer"] == [round(60.3 * S)], second


def test_a_booking_belongs_to_one_entry_only() -> None:
    told = [STANDARD[0], booked(70, "R1"), entry(71, "X1", flow=8, credited_ms=70_000),
            entry(82, "X2", credited_ms=70_500), *STANDARD[3:]]
    stages = read(*told)
    assert stages.ways[3].booked == 70_500_000, "the statement's own moment: the line has another entry"


def test_two_deposits_begun_at_the_bank_alike_have_their_own_bookings() -> None:
    bst = {"bank": "cmb"}
    stages = read(booked(10, "B1", "collect", "cmb"), booked(12, "B2", "collect", "cmb"),
                  apply(13, "CREDITING", **bst, ref="B2"), (14, "apply", "A4", {
                      **APPLY, **bst, "apply": 4, "status": "CREDITING", "ref": "B1"}))
    assert (stages.ways[3].booked, stages.ways[4].booked) == (12 * S, 10 * S)


def test_a_statement_that_is_supplemented_is_known_since_it_first_came() -> None:
    told = [*STANDARD[:3], entry(90, "R1"), *STANDARD[3:]]
    assert samples(*told)["retrieval"] == [12 * S]


def test_a_match_that_was_taken_apart_does_not_count() -> None:
    told = [*STANDARD[:3], match(85), match(90, "RELEASED"), *STANDARD[3:]]
    assert samples(*told)["matching"] == [18 * S]


def test_what_a_person_decided_is_no_time_of_sba_and_risk_control() -> None:
    told = [*STANDARD[:6], procedure(100.02, "new(manual_confirm)"), procedure(700, "end_ok(deposit_ok)"), STANDARD[7]]
    found = samples(*told)
    assert "crediting" not in found and found["total"] == [690 * S]


@pytest.mark.req("LAT-10")
def test_a_deposit_pushed_by_its_bank_is_retrieved_from_the_booking_on_and_skips_matching() -> None:
    bst = {"bank": "cmb", "ref": "B1"}
    found = samples(booked(10, "B1", "collect", "cmb"), apply(10.4, "CREDITING", **bst),
                    procedure(10.41, "new(waiting)"), procedure(10.47, "end_ok(deposit_ok)"),
                    apply(10.5, "DONE", procedure=7, **bst))
    assert found == {"retrieval": [400_000], "crediting": [70_000], "total": [470_000]}


def test_a_deposit_begun_in_the_app_is_retrieved_from_the_wish_on() -> None:
    bst = {"bank": "airstar", "ref": "ASBBST000000001"}
    stages = read(apply(10, "INIT", **bst), (10.02, "bank.request", "", {"message": "deposit", "ref": bst["ref"]}),
                  booked(15, bst["ref"], "collect", "airstar"), apply(22, "CREDITING", **bst),
                  procedure(22.01, "new(waiting)"), procedure(22.06, "end_ok(deposit_ok)"),
                  apply(22.1, "DONE", procedure=7, **bst))
    assert stages.samples()["airstar"]["retrieval"] == [12 * S]
    way = stages.ways[3]
    assert (way.wished, way.sent, way.booked, way.known, way.matched) == (10 * S, 10_020_000, 15 * S, 22 * S, -1)


def test_a_hop_counts_without_its_parts() -> None:
    stages = read(*STANDARD, hop(3, 2, "risk_control.add", 30_000), hop(4, 2, "owner.tell_deposit", 9_000),
                  hop(2, 1, "sba.create_deposit", 50_000), hop(5, 1, "risk_control.add", 3_000_000, "unknown"))
    assert {call: list(values) for (_, call), values in stages.hops.items()} == {
        "risk_control.add": [30_000], "owner.tell_deposit": [9_000], "sba.create_deposit": [11_000]}


def test_what_is_not_credited_is_no_sample() -> None:
    assert read(*STANDARD[:5]).samples() == {}


# --- beside the documents -------------------------------------------------------------------------------------------


@pytest.mark.req("LAT-11")
def test_each_stage_stands_beside_what_the_documents_say_and_whether_it_is_within() -> None:
    found = report_stages(read(*STANDARD), {}, Settings())["channels"]["hsbc deposit"]
    assert list(found) == list(STAGE_TITLES)
    assert {name: (one["p50"], one["expected"], one["met"]) for name, one in found.items()} == {
        "transfer": (60.0, "", None), "retrieval": (12.0, "minutes", True), "matching": (18.0, "3 min", True),
        "crediting": (0.05, "milliseconds", True), "total": (90.05, "3-10 minutes", False)}  # quicker than documented


@pytest.mark.req("LAT-11")
def test_what_the_documents_say_is_a_setting() -> None:
    ours = Settings({"latency.stages.hsbc": ["seconds", "skipped", "milliseconds", "hours"]})
    found = report_stages(read(*STANDARD), {}, ours)["channels"]["hsbc deposit"]
    assert {name: one["met"] for name, one in found.items() if name != "transfer"} == {
        "retrieval": False, "matching": False, "crediting": True, "total": False}


@pytest.mark.req("LAT-04", "LAT-11")
def test_t_plus_1_is_counted_in_business_days_and_judged_by_the_median() -> None:
    debit = {"bank": "hsbc_eddi", "ref": "D1"}
    told = read(apply(0, "INIT", **debit), apply(500_000, "CREDITING", **debit), procedure(500_000.01, "new(waiting)"),
                procedure(500_000.05, "end_ok(deposit_ok)"), apply(500_000.06, "DONE", procedure=7, **debit))
    for days, met in ((0, True), (1, True), (2, False)):
        asked: list[tuple[str, int, int]] = []

        def passed(bank: str, begin: int, end: int, days: int = days,
                   asked: list[tuple[str, int, int]] = asked) -> int:
            asked.append((bank, begin, end))
            return days

        found = report_stages(told, {}, Settings(), passed)["channels"]["hsbc_eddi deposit"]
        assert (found["retrieval"]["met"], found["total"]["met"]) == (met, met)
        assert asked == [("hsbc_eddi", 0, 500_000 * S), ("hsbc_eddi", 0, 500_000 * S + 50_000)]


def test_a_hop_is_judged_by_the_bound_of_its_trace() -> None:
    for us, met in ((200_000, True), (200_999, False)):
        hops = report_stages(read(*STANDARD, hop(3, 2, "risk_control.add", us)), {}, Settings())["hops"]
        assert list(hops) == ["risk_control.add"] and hops["risk_control.add"]["met"] is met


def summary(stages: dict[str, Any]) -> dict[str, Any]:
    return {"scenario": "x", "seed": 1, "procedures": {}, "expectations": [], "stages": stages}


def test_the_page_and_the_terminal_show_the_same_words_and_marks() -> None:
    from array import array

    stages = report_stages(read(*STANDARD), {"hsbc withdrawal": array("q", [60 * S])}, Settings())
    page = stage_cards(summary(stages))
    console = Console(file=io.StringIO(), width=110, color_system=None)
    print_summary(console, summary(stages))
    told = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("12.0\u00a0s", "minutes", "18.0\u00a0s", "3 min", "50\u00a0ms", "milliseconds", "3-10 minutes"):
        assert words in page and words in told
    assert page.count("●") == 3 and page.count("■") == 2  # too quick in all, and a withdrawal in a minute
    assert told.count("■ 3-10 minutes") == 1 and "hours to days" in page


def test_no_deposits_no_cards() -> None:
    assert stage_cards(summary({"channels": {}, "withdrawals": {}, "hops": {}})) == stage_cards({}) == ""


def test_words_of_a_setting_are_text_in_the_page() -> None:
    found = report_stages(read(*STANDARD), {}, Settings({
        "latency.stages.hsbc": ["<b>", "3 min", "milliseconds", "minutes"]}))
    assert "&lt;b&gt;" in stage_cards(summary(found)) and "<b>" not in stage_cards(summary(found))
