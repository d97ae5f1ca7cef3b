"""What the scenarios of standard deposits decide: latencies, bottlenecks, exceptions and incidents of the documents.

Each scenario's own expectations say what must be true at its end, and it passes only if all of them are. What they
cannot say, such as the level at which an alert calls people, is read here from its events.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.safety.scenario_runs import here


def happened(
    name: str, kind: str, *, after_us: int = 0, before_us: int = 2**63, **wanted: Any
) -> list[dict[str, Any]]:
    """Data of the events of a kind, in order."""
    folder = here(name).folder
    assert folder is not None
    with (folder / "events.jsonl").open("rb") as lines:
        events = (json.loads(line) for line in lines)
        return [data for _, t_us, of, _, data in events
                if of == kind and after_us <= t_us < before_us
                and all(data[key] == value for key, value in wanted.items())]


def levels(name: str, rule: str) -> list[str]:
    """At which level an alert was raised, each time."""
    return [alert["notify"] for alert in happened(name, "alert", rule=rule, phase="raised")]


@pytest.mark.parametrize("name", [
    # LAT-05 says 3 to 10 minutes from the bank's credit; with A-57's push in 2 to 20 s and a round every 3 minutes that
    # is about 100 s, and what is 3 to 10 minutes is A-57's end-to-end, from the customer's wish: that is judged.
    pytest.param("hsbc_day", marks=pytest.mark.req("LAT-05", "MATCH-010")),
    pytest.param("bochk_day", marks=pytest.mark.req("LAT-06", "MATCH-010")),
    pytest.param("icbc_day", marks=pytest.mark.req("ICBC-INC-12", "MATCH-010")),
    pytest.param("cgb_day"), pytest.param("scb_day"), pytest.param("citi_day"), pytest.param("ewb_day"),
    pytest.param("notice_banks_day", marks=pytest.mark.req("LAT-07")),
    pytest.param("bochk_s16_night", marks=pytest.mark.req("BOCHK-S16-08")),
    pytest.param("duplicate_deposit_reversed", marks=pytest.mark.req("EXC-D-03")),
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


@pytest.mark.req("BOT-01")
def test_a_statement_that_is_not_received_leaves_an_application_without_an_entry() -> None:
    name = "statement_not_received"
    assert here(name).passed
    _, bob, carol = (one["apply"] for one in happened(name, "apply", status="WAIT_MATCH"))
    assert {one["apply"] for one in happened(name, "match")} == {bob, carol}, "no entry for Alice's, whatever was tried"
    noon = 1_773_288_000_000_000  # of 12 March: an hour and a half after the three announced
    assert [data["amount"] for data in happened(name, "statement", before_us=noon)] == [3_000_000], "impact: single"
    assert levels(name, "HSBC-04") == ["P2"]


@pytest.mark.req("BOT-04", "EXC-D-02")
def test_a_credit_that_risk_control_refuses_ends_with_its_reason_and_concerns_one_customer() -> None:
    name = "risk_control_refuses_deposit"
    assert here(name).passed
    ended = happened(name, "procedure", to="end_reject")
    assert [(one["from"], one["reason"]) for one in ended] == [("pending", "RC_REJECTED"), ("pending", "RC_ERROR")]
    assert here(name).summary["procedures"]["deposit"] == {"end_ok(deposit_ok)": 1, "end_reject": 2}
    assert levels(name, "SBA-01") == ["P2", "P2"]


@pytest.mark.req("BOT-09")
@pytest.mark.parametrize("name", ["cmb_both_servers_down", "cmb_socket_drop"])
def test_a_socket_that_drops_concerns_the_whole_channel_and_calls_people_at_p0(name: str) -> None:
    assert here(name).passed
    assert levels(name, "SOCK-01") == ["P0"]
    assert {line["bank"] for line in happened(name, "bank.line", phase="lost")} == {"cmb"}
    if name == "cmb_both_servers_down":  # while it lasts nothing of CMB's ends, and CMBC's goes on
        lost, back = 1_773_280_800_000_000, 1_773_282_300_000_000  # 10:00 and 10:25
        ended = happened(name, "procedure", before_us=back, after_us=lost, to="end_ok(transfer_done)")
        assert [one["channel"] for one in ended] == ["cmbc withdrawal"]


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
