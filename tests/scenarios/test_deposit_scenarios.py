"""What the scenarios of standard deposits decide: latencies, bottlenecks, exceptions and incidents of the documents.

Each scenario's own expectations say what must be true at its end, and it passes only if all of them are. What they
cannot say, such as the level at which an alert calls people, is read here from its events.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.safety.scenario_runs import here


def happened(name: str, kind: str, **wanted: Any) -> list[dict[str, Any]]:
    """Data of the events of a kind, in order."""
    folder = here(name).folder
    assert folder is not None
    with (folder / "events.jsonl").open("rb") as lines:
        events = (json.loads(line) for line in lines)
        return [data for _, _, of, _, data in events
                if of == kind and all(data[key] == value for key, value in wanted.items())]


def levels(name: str, rule: str) -> list[str]:
    """At which level an alert was raised, each time."""
    return [alert["notify"] for alert in happened(name, "alert", rule=rule, phase="raised")]


@pytest.mark.parametrize("name", [
    pytest.param("hsbc_day", marks=pytest.mark.req("LAT-05", "MATCH-010")),
    pytest.param("bochk_day", marks=pytest.mark.req("LAT-06", "MATCH-010")),
    pytest.param("icbc_day", marks=pytest.mark.req("ICBC-INC-12", "MATCH-010")),
    pytest.param("bochk_names_by_s16", marks=pytest.mark.req("BOCHK-S16-03", "BOCHK-S16-04", "LAT-06")),
    pytest.param("bochk_s16_late", marks=pytest.mark.req("BOCHK-S16-04")),
    pytest.param("bochk_s16_wrong", marks=pytest.mark.req("BOCHK-S16-05", "BOCHK-S16-07")),
    pytest.param("icbc_customer_refund", marks=pytest.mark.req("ICBC-INC-1", "ICBC-INC-11")),
    pytest.param("icbc_refund_script_stalls", marks=pytest.mark.req("ICBC-INC-2")),
    pytest.param("icbc_identical_statements", marks=pytest.mark.req("ICBC-INC-3")),
    pytest.param("icbc_ghost_statement", marks=pytest.mark.req("ICBC-INC-4")),
    pytest.param("icbc_late_statements", marks=pytest.mark.req("ICBC-INC-5")),
    pytest.param("deposit_amount_differs", marks=pytest.mark.req("EXC-D-05", "MATCH-018")),
])
def test_a_scenario_meets_what_the_documents_say(name: str) -> None:
    assert here(name).passed, [one for one in here(name).summary["expectations"] if not one["passed"]]


@pytest.mark.req("BOT-02")
def test_a_stopped_round_concerns_every_bank_and_calls_people_at_p1() -> None:
    assert here("matching_stopped").passed
    assert levels("matching_stopped", "DEP-04") == ["P1"]
    stored = [entry["bank"] for entry in happened("matching_stopped", "statement")]
    assert stored == ["hsbc", "hsbc", "icbc"]


@pytest.mark.req("BOT-03")
def test_a_creation_that_times_out_is_asked_for_again_and_made_once() -> None:
    assert here("sba_creation_timeout").passed
    assert levels("sba_creation_timeout", "DEP-03") == ["P1"]
    asked = happened("sba_creation_timeout", "job", job="StatementCredit", state="RETRY")
    assert {job["error"] for job in asked if job["error"]} == {"sba.create_deposit: no answer within 3 s"}
    created = happened("sba_creation_timeout", "procedure", to="new(waiting)")
    assert len(created) == len({one["id"] for one in created}) == 3


@pytest.mark.req("BOT-06", "EXC-D-06")
def test_sixty_polls_without_a_result_leave_an_exception_that_shows_them() -> None:
    assert here("airstar_poll_timeout").passed
    given_up = happened("airstar_poll_timeout", "job", job="AsbBstCreateResultJob", state="EXCEPTION")
    assert [job["retry"] for job in given_up] == [60]
    assert levels("airstar_poll_timeout", "AIRSTAR-04") == ["P1"]


@pytest.mark.req("EXC-D-04")
def test_a_refunded_customer_is_told_and_the_credit_is_returned() -> None:
    assert here("refunded_after_credit").passed
    assert len(happened("refunded_after_credit", "notify", event="DEPOSIT_REFUNDED")) == 2
    assert len(happened("refunded_after_credit", "notify", event="DEPOSIT_REVERSED", detail="REVERSAL")) == 1


def test_what_staff_do_by_the_runbook_is_told_with_its_result() -> None:
    def results(name: str, action: str) -> list[str]:
        return [one["result"] for one in happened(name, "staff", action=action)]

    assert results("icbc_customer_refund", "IcbcRunScript") == ["DONE"]
    assert results("icbc_refund_script_stalls", "IcbcRunScript") == ["REFUND_SCRIPT_STALLED", "DONE"]
    assert results("icbc_identical_statements", "IcbcSetBalance") == ["DONE"]
    assert results("icbc_identical_statements", "IcbcEmergencyCredit") == ["OK"]
    assert results("icbc_ghost_statement", "IcbcDeleteGhosts") == ["DONE"]
    assert results("sba_creation_timeout", "RetryJob") == ["OK"]
