"""Verdict, JUnit and the terminal summary say the same."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import synthetic_day
from rich.console import Console

from reports.junit import write_junit
from reports.model import RunModel
from reports.summary_text import print_summary
from reports.verdict import beside, plural, verdict


@pytest.fixture
def passed(model: RunModel) -> dict[str, Any]:
    return synthetic_day.summary(model.figures())


@pytest.fixture
def failed(model: RunModel) -> dict[str, Any]:
    return synthetic_day.summary(model.figures(), violated=True)


def printed(summary: dict[str, Any], width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_summary(console, summary, synthetic_day.DIAGRAM)
    out = console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue()


def test_a_run_that_held_passes_with_its_counts(passed: dict[str, Any]) -> None:
    found = verdict(passed)
    assert found.passed and found.reproduce == ""
    assert found.sentence == (
        "3,126 of 3,200 procedures finished well, 69 were rejected, cancelled or reversed and 5 are still open. "
        "All 4 expectations were met and 14 invariants held throughout.")


def test_a_violation_fails_and_brings_its_command(failed: dict[str, Any]) -> None:
    found = verdict(failed)
    assert (found.passed, found.headline) == (False, "Failed.")
    assert found.sentence.startswith(
        "Invariant “no hold outlives its Procedure” was violated. "
        "Expectation “every withdrawal finishes within 2 h” was not met. 3,126 of 3,200")
    assert found.reproduce == "nostro run airstar-busy-day --seed 1 --until-event 31207"


def test_an_unmet_expectation_alone_fails(passed: dict[str, Any]) -> None:
    passed["expectations"][0]["passed"] = False
    assert not verdict(passed).passed
    passed["expectations"][1]["passed"] = False
    assert "and 1 other were not met" in verdict(passed).sentence


def test_nothing_expected_is_said() -> None:
    bare = {"scenario": "x", "procedures": {}, "open": 0}
    assert verdict(bare).sentence == ("0 of 0 procedures finished well and none is left open. "
                                      "Nothing was expected of it and no invariant was checked.")


LEFT = {"scenario": "x", "seed": 1, "open": 0, "procedures": {"deposit": {"end_ok(deposit_ok)": 2, "end_reject": 1}},
        "without_procedure": {"applications": {"ended": 1, "open": 2}, "tasks": {}},
        "leftovers": [{"bank": "hsbc", "ccy": "USD", "reason": "", "number": 1, "amount": 900},
                      {"bank": "icbc", "ccy": "HKD", "reason": "", "number": 2, "amount": 100_000},
                      {"bank": "hsbc", "ccy": "HKD", "reason": "DEPOSIT_REVERSED", "number": 1, "amount": 1_500_000}]}


def test_what_has_no_procedure_and_money_without_an_owner_is_told_on_the_terminal() -> None:
    assert verdict(LEFT).sentence.startswith(
        "2 of 3 procedures finished well, 1 was rejected, cancelled or reversed and no procedure is left open. "
        "1 application ended and 2 are open without a procedure. "
        "3 statement entries are unmatched (1,000.00 HKD, 9.00 USD) and 1 abnormal deposit is open (15,000.00 HKD). ")
    out = " ".join(printed(LEFT).split())
    assert "1 abnormal deposit is open (15,000.00 HKD)" in out and "none is left open" not in out


@pytest.mark.parametrize(("counts", "sentence"), [
    ({"applications": {"open": 1}, "tasks": {}}, "1 application is open without a procedure."),
    ({"applications": {}, "tasks": {"ended": 2}}, "2 tasks ended without a procedure."),
    ({"applications": {"ended": 1_500, "open": 1}, "tasks": {"open": 3}},
     "1,500 applications ended and 1 is open without a procedure and 3 tasks are open without a procedure.")])
def test_applications_and_tasks_without_a_procedure(counts: dict[str, Any], sentence: str) -> None:
    assert beside({"without_procedure": counts}) == [sentence]


def test_a_clean_end_is_told_as_one() -> None:
    clean = {**LEFT, "without_procedure": {"applications": {}, "tasks": {}}, "leftovers": []}
    assert verdict(clean).sentence.startswith(
        "2 of 3 procedures finished well, 1 was rejected, cancelled or reversed and none is left open. Nothing")


def test_plurals() -> None:
    assert [plural(1, "alert"), plural(3_200, "alert"), plural(2, "entry"), plural(2, "day")] == [
        "1 alert", "3,200 alerts", "2 entries", "2 days"]


def test_junit_has_a_case_for_each_expectation_and_violation(failed: dict[str, Any], tmp_path: Path) -> None:
    failed["expectations"][0]["detail"] = "bad \x00 character"
    write_junit(tmp_path / "junit.xml", failed)
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    suites = {suite.get("name"): suite for suite in root}
    assert {name: (suite.get("tests"), suite.get("failures")) for name, suite in suites.items()} == {
        "expectations": ("4", "1"), "invariants": ("2", "1")}
    for suite in suites.values():
        cases = suite.findall("testcase")
        assert len(cases) == int(suite.get("tests") or -1)
        assert sum(1 for case in cases if case.find("failure") is not None) == int(suite.get("failures") or -1)
    assert "nostro run airstar-busy-day --seed 1" in (suites["invariants"].find("testcase/failure").text or "")  # type: ignore[union-attr]
    assert suites["expectations"].find("properties/property[@name='seed']") is not None


def test_junit_names_invariants_when_the_summary_does(passed: dict[str, Any], tmp_path: Path) -> None:
    passed["invariants"] = {"checked": ["money is conserved", "no hold outlives"], "violations": []}
    write_junit(tmp_path / "junit.xml", passed)
    names = [case.get("name") for case in ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testcase")]
    assert "money is conserved" in names and "no hold outlives" in names


def test_the_terminal_summary_tells_verdict_states_times_and_expectations(failed: dict[str, Any]) -> None:
    out = printed(failed)
    assert out.startswith("■ Failed. Invariant")
    for words in ("end_ok(transfer_done)", "airstar withdrawal", "■ not met", "● met", "14 invariants", "1,587",
                  "nostro run airstar-busy-day --seed 1 --until-event 31207"):
        assert words in out
    assert out.index("pending(transfer_auto)") < out.index("end_ok(transfer_done)")


def test_rich_markup_in_names_is_not_obeyed(passed: dict[str, Any]) -> None:
    passed["expectations"][0]["name"] = "[red]no[/red] [link=x]"
    assert "[red]no[/red] [link=x]" in printed(passed)


def test_a_passed_run_on_a_narrow_terminal(passed: dict[str, Any]) -> None:
    out = printed(passed, 60)
    assert out.startswith("● Passed.") and all(len(line) <= 60 for line in out.splitlines())
