"""A scenario may have the core die just after it has kept a statement entry, or matched it, at any statement bank."""

from __future__ import annotations

import pytest

from scenarios.banks import KILL_POINTS, STATEMENT_BANKS
from scenarios.names import names
from scenarios.reading import load_text
from scenarios.runner import Run

TEXT = """
name: killed
title: The core dies when it has just kept or matched an entry
start: 2026-03-11 20:00
end: 2026-03-12 13:00
seed: 5
wire: messages
customers:
  - {{id: alice, balances: {{{ccy}: "100"}}, at_bank: {{{ccy}: "50,000"}}, cards: [{bank}]}}
workload:
  - recorded:
      - {{at: +1h, deposit: {{customer: alice, channel: {bank}, market: {market}, ccy: {ccy}, amount: "20,000"}}}}
faults:
  - {{at: +1m, inject: core.kill, with: {{at: "{point}:{bank}", restart_after: 5s}}, times: 1}}
expect:
  - {{that: applications, status: DONE, equals: 1}}
  - {{that: deposits, state: open, equals: 0}}
"""


@pytest.mark.parametrize("point", ["statement", "match"])
@pytest.mark.parametrize("bank", STATEMENT_BANKS)
def test_a_core_that_dies_there_credits_once_in_its_next_life(bank: str, point: str) -> None:
    known, seen = names(), list[tuple[str, str]]()
    assert f"{point}:{bank}" in KILL_POINTS
    ccy, market = ("USD", "US") if bank == "ewb" else ("HKD", "HK")
    run = Run(load_text(TEXT.format(bank=bank, point=point, ccy=ccy, market=market), known), known)
    run.trace.subscribe(lambda event: seen.append((event[2], event[4].get("phase", ""))))
    done = run.execute()
    assert not done.summary["invariants"]["violations"]
    assert [one for one in done.summary["expectations"] if not one["passed"]] == []
    killed = [number for number, (kind, phase) in enumerate(seen) if (kind, phase) == ("core", "killed")]
    assert len(killed) == 1 and point in (kind for kind, _ in seen[killed[0] - 1:killed[0] + 2])
    assert sum(kind == "match" for kind, _ in seen) == 1
