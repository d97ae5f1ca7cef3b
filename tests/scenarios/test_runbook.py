"""What staff find when there is nothing to find: the runbook's actions on a bank in order, and on no bank at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scenarios.names import names
from scenarios.reading import load_text
from scenarios.runner import Run

SCENARIO = """\
name: quiet
title: Nothing is amiss
start: 2026-03-12 10:00
end: 2026-03-12 10:30
seed: 9
wire: messages
customers:
  - {{id: alice, at_bank: {{HKD: "100,000"}}, cards: [{card}]}}
workload:
  - recorded:
      - {{at: 10:01, deposit: {{customer: alice, channel: {card}, ccy: HKD, amount: "10,000", after: 1m}}}}
staff:
  actions:
    - {{at: 10:20, by: supervisor, do: {do}, {more}}}
expect:
  - {{that: balance, customer: alice, ccy: HKD, available: "10,000"}}
  - {{that: alerts, equals: 0}}
"""


def came_of(tmp_path: Path, do: str, card: str, more: str) -> str:
    """The result of an action."""
    scenario = load_text(SCENARIO.format(do=do, card=card, more=more), names())
    run = Run(scenario, names(), folder=tmp_path).execute()
    assert run.passed, run.summary["expectations"]
    events = (json.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines())
    (result,) = [data["result"] for _, _, kind, _, data in events
                 if kind == "staff" and data["action"] == do]
    return str(result)


@pytest.mark.parametrize(("do", "card", "more", "result"), [
    ("IcbcRunScript", "icbc", "with: {ccy: HKD}", "NOTHING"),
    ("IcbcDeleteGhosts", "icbc", "with: {ccy: HKD}", "NOT_FOUND"),
    ("IcbcSetBalance", "icbc", "with: {remark: all is well}", "NOT_FOUND"),
    ("IcbcEmergencyCredit", "icbc", "with: {remark: all is well}", "NOT_FOUND"),
    ("IcbcRunScript", "hsbc", "with: {ccy: HKD}", "NOT_FOUND"),
    ("RetryJob", "hsbc", "with: {job: StatementCredit}", "NOT_FOUND"),
    ("MatchByHand", "hsbc", "on: {customer: alice, deposit: 1}", "NOT_FOUND"),  # it is credited already
])
def test_an_action_without_its_incident_changes_nothing(
    tmp_path: Path, do: str, card: str, more: str, result: str
) -> None:
    assert came_of(tmp_path, do, card, more) == result
