"""A Procedure stuck in ``new(waiting)`` (orchestration.md §9.1 scenario 1; gaps.md A-81): a review rule hit and nobody
flagged it. No decision of the platform leaves one there, so the bug is planted: SBA creates it and decides nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from core.domain import BizType
from core.orchestration import deposit_table as D
from core.orchestration.decisions import Decisions
from core.orchestration.records import Procedure
from scenarios.names import names
from scenarios.reading import load_text
from scenarios.runner import Run
from scenarios.world import World

SCENARIO = """\
name: stuck
title: A review rule hits, and the deposit stays in new(waiting)
start: 2026-03-12 10:00
end: 2026-03-12 10:20
seed: 11
wire: messages
customers:
  - {id: alice, balances: {HKD: 0}, at_bank: {HKD: "100,000"}, cards: [cmb]}
  - {id: bob, balances: {HKD: 0}, at_bank: {HKD: "100,000"}, cards: [cmb]}
settings: {sim.cmb.outcome: [[0, 1.0]], sim.cmb.unknown.share: 0.0}
workload:
  - recorded:
      - {at: "10:01", deposit: {customer: alice, channel: cmb, ccy: HKD, amount: "10,000", by: bank}}
      - {at: "10:05", deposit: {customer: bob, channel: cmb, ccy: HKD, amount: "20,000", by: bank}}
expect:
  - {that: deposits, state: new(waiting), equals: 1}
  - {that: deposits, state: end_ok(deposit_ok), equals: 1, why: "impact: single"}
  - {that: balance, customer: alice, ccy: HKD, available: 0, at_bank: "90,000"}
"""


class Forgetful:
    """Decides nothing about the first deposit that waits; all else as the real one."""

    def __init__(self, real: Decisions) -> None:
        self._real, self._first = real, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def next_fact(self, p: Procedure, now_ms: int) -> str | None:
        if p.biz_type == BizType.CASH_DEPOSIT and p.state == D.WAITING and self._first in (0, p.id):
            self._first = p.id
            return None
        return self._real.next_fact(p, now_ms)


@pytest.mark.req("EXC-D-01", "SBA-DEP-030")
def test_it_is_detected_after_a_minute_and_the_view_shows_that_no_flow_changed(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def plant(world: World) -> None:
        engine: Any = world.core.sba.engine
        engine._decisions = Forgetful(engine._decisions)
        world._keep(look(world))

    async def look(world: World) -> None:
        since = world.scenario.start
        await asyncio.sleep(100)  # 10:01:40
        seen["early"] = await world.core.sba.stuck(since, world.clock.now_ms() + 1)
        await asyncio.sleep(500)
        (stuck,) = await world.core.sba.stuck(since, world.clock.now_ms() + 1)
        seen["stuck"], seen["history"] = stuck, await world.core.sba.history(stuck.id)
        seen["alice"] = await world.core.sba.procedure(stuck.id)

    run = Run(load_text(SCENARIO, names()), names(), folder=tmp_path, tamper=plant).execute()
    assert run.passed, run.summary["expectations"]
    assert seen["early"] == []
    stuck, history = seen["stuck"], seen["history"]
    assert (stuck.biz, stuck.status, stuck.ext_status) == ("cash_deposit", "new", "waiting")
    assert stuck.for_ms > 8 * 60_000
    assert [(one.from_status, one.to_status, one.to_ext_status) for one in history] == [("", "new", "waiting")]
    assert seen["alice"]["version"] == 1, "no Flow record since its creation"
    page = (tmp_path / "report.html").read_text()
    listed = page[page.index('id=open'):page.index('id=slow-deposit')]
    assert "new(waiting)" in listed and listed.count("<details class=p>") == 1
    assert "<span class=n>1</span></summary>" in listed, "one step: the creation"
