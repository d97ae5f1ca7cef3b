"""An alert of ICBC's that stands for ten minutes goes to the on-duty technical Operations, once (gaps.md A-46)."""

from __future__ import annotations

from typing import Any

import pytest
from icbc_world import HKD, ON_DUTY, IcbcWorld, icbc_world

from core.deposits.icbc_incidents import Handled
from core.domain import Role
from core.settings import Settings

BOTH = [f"prod:{HKD}", f"canary:{HKD}"]


def broken(world: IcbcWorld) -> dict[str, int]:
    """The bank deletes a statement, both chains break; key -> when it was told, ms."""
    world.bank.fault("refund", refund_s=350, count=1)
    world.pay("a", 100_000)
    world.pass_s(300)
    world.pay("b", 20_000)
    while len(world.alerts()) < 2:
        world.pass_s(10)
        if len(world.serials("canary")) == 2 and not world.alerts():
            world.pay("c", 3_000)
    return moments(world, "raised")


def moments(world: IcbcWorld, phase: str, rule: str = "ICBC-01") -> dict[str, int]:
    return {data["key"]: us // 1000 for _, us, kind, subject, data in world.events
            if kind == "alert" and subject == rule and data["phase"] == phase}


def escalated(world: IcbcWorld, rule: str = "ICBC-01") -> list[dict[str, Any]]:
    return [data for _, _, kind, subject, data in world.events
            if kind == "alert" and subject == rule and data["phase"] == "escalated"]


@pytest.mark.req("ICBC-INC-9")
@pytest.mark.parametrize("after_s", [None, 60])
def test_a_break_that_stands_for_ten_minutes_escalates_once(after_s: int | None) -> None:
    settings = {} if after_s is None else {"icbc.escalate_after_s": after_s}
    with icbc_world(settings=settings) as world:
        told = broken(world)
        wait_ms = (after_s or 600) * 1000
        assert Settings()["icbc.escalate_after_s"] == 600 and sorted(told) == sorted(BOTH)
        world.pass_s(600)
        assert {one["key"]: one["to"] for one in escalated(world)} == dict.fromkeys(BOTH, Role.TECH_OPS)
        assert all(0 <= at - told[key] - wait_ms < 2_000 for key, at in moments(world, "escalated").items())
        world.pass_s(7_200)
        assert len(escalated(world)) == 2 and world.open_alerts() == set(BOTH)


@pytest.mark.req("ICBC-INC-9")
@pytest.mark.parametrize("restarted", [False, True])
def test_one_that_is_resolved_in_time_does_not_and_the_next_incident_has_ten_minutes_of_its_own(
    restarted: bool
) -> None:
    with icbc_world() as world:
        broken(world)
        world.pass_s(300)
        if restarted:
            world.run(world.restart_core())
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and done.result == "DONE"
        world.pass_s(3_600)
        assert escalated(world) == [] and world.open_alerts() == set()
        before = len(world.alerts())
        world.bank.fault("refund", refund_s=60, count=1)
        world.pay("a", 40_000)
        world.pass_s(300)
        world.pay("b", 5_000)
        world.pass_s(300)
        assert len(world.alerts()) > before
        world.pass_s(900)
        assert {one["key"] for one in escalated(world)} == world.open_alerts() != set()


@pytest.mark.req("ICBC-INC-9")
@pytest.mark.parametrize("at_s", [(1,), (300,), (599,), (200, 200, 100), (700,), (100, 900)])
def test_it_survives_restarts_with_the_ten_minutes_it_had(at_s: tuple[int, ...]) -> None:
    with icbc_world() as world:
        told = broken(world)
        for wait_s in at_s:
            world.pass_s(wait_s)
            world.run(world.restart_core())
        world.pass_s(max(0, 700 - sum(at_s)))
        found = moments(world, "escalated")
        assert sorted(found) == sorted(BOTH) and len(escalated(world)) == 2
        assert all(599_000 < at - told[key] < 640_000 for key, at in found.items()), "a dead worker's lease at most"
        world.pass_s(3_600)
        world.run(world.restart_core())
        world.pass_s(3_600)
        assert len(escalated(world)) == 2


@pytest.mark.req("ICBC-INC-9")
def test_one_that_was_resolved_while_the_core_was_dead_does_not() -> None:
    with icbc_world() as world:
        broken(world)
        world.pass_s(60)
        other = world.incidents  # somebody else's core mends it: this one does not hear of it
        world.collector.open.clear()
        assert isinstance(world.run(other.run_script(HKD, ON_DUTY)), Handled)
        world.run(world.restart_core())
        world.pass_s(3_600)
        assert escalated(world) == []


# The line, the script


@pytest.mark.req("ICBC-INC-9")
@pytest.mark.parametrize("group", ["prod", "canary"])
@pytest.mark.parametrize(("down_s", "restarted", "called"), [
    (3_600, False, True), (3_600, True, True), (1_000, False, False), (1_000, True, False)])
def test_a_line_that_stays_down_escalates_and_one_that_comes_back_does_not(
    group: str, down_s: int, restarted: bool, called: bool
) -> None:
    with icbc_world() as world:
        world.pass_s(5)
        fault = world.bank.fault("line_down", message={"prod": "line1", "canary": "line2"}[group])
        while not world.alerts("ICBC-02"):
            world.pass_s(10)
        if restarted:
            world.pass_s(100)
            world.run(world.restart_core())
        world.pass_s(300 if not called else 0)
        if not called:
            world.bank.clear(fault)
        world.pass_s(down_s)
        assert [(one["key"], one["to"]) for one in escalated(world, "ICBC-02")] == (
            [(group, Role.TECH_OPS)] if called else [])
        world.bank.clear(fault)
        world.pass_s(600)
        assert world.open_alerts("ICBC-02") == set()


@pytest.mark.req("ICBC-INC-9")
def test_a_script_that_stalls_escalates_until_it_has_run() -> None:
    with icbc_world() as world:
        broken(world)
        world.bank.fault("line_down", message="line2")
        stalled = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(stalled, Handled) and stalled.result == "REFUND_SCRIPT_STALLED"
        again = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(again, Handled) and world.alerts("ICBC-04") == [HKD, HKD]
        world.pass_s(700)
        assert [(one["key"], one["to"]) for one in escalated(world, "ICBC-04")] == [(HKD, Role.TECH_OPS)]


def test_a_lag_of_the_canary_is_nobodys_to_escalate() -> None:
    with icbc_world() as world:
        world.pass_s(5)
        world.bank.fault("line_down", message="line2")
        world.pass_s(3_600)
        assert world.alerts("ICBC-03") and escalated(world, "ICBC-03") == []
