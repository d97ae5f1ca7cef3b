"""The same seed and scenario give the same events, byte for byte, in any process; time is virtual (TWIN-01, -02)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import simpy

from emulators.guard import Nondeterminism
from scenarios.names import names
from scenarios.population import banks_of
from scenarios.reading import load
from scenarios.runner import Run
from scenarios.world import World
from tests.safety.scenario_runs import SCENARIOS, elsewhere, here


def test_runs_with_the_sealed_bytes_of_both_socket_banks_are_among_them() -> None:
    known = names()
    read = [load(name, known) for name in SCENARIOS]
    banks = [banks_of(scenario) for scenario in read if scenario.wire == "full"]
    assert any({"cmb", "cmbc"} <= set(of) for of in banks)
    assert any(fault.inject.startswith(("cmb.", "cmbc.")) for scenario in read for fault in scenario.faults)


@pytest.mark.req("TWIN-02")
@pytest.mark.parametrize("name", SCENARIOS)
def test_another_process_with_another_order_of_hashing_gives_the_same_events(name: str) -> None:
    assert elsewhere(name) == here(name).summary["trace_hash"]


def moments(name: str, seed: int | None = None) -> list[tuple[Any, ...]]:
    """(moment, kind, subject) of every event but the run's own."""
    known = names()
    seen: list[tuple[Any, ...]] = []
    run = Run(load(name, known, seed=seed), known)
    run.trace.subscribe(lambda event: seen.append(event[1:4]) if event[2] != "run" else None)
    run.execute()
    return seen


@pytest.mark.req("TWIN-02")
@pytest.mark.parametrize("name", ["crash_between_send_and_record", "refunded_after_credit"])
def test_another_seed_gives_other_events_and_the_same_one_the_same(name: str) -> None:
    assert moments(name) == moments(name)
    assert moments(name) != moments(name, seed=99)


@pytest.mark.req("TWIN-01")
def test_the_clock_of_a_run_is_a_simpy_environment() -> None:
    known = names()
    run = Run(load("crash_between_send_and_record", known), known)
    assert isinstance(run.loop.env, simpy.Environment)
    run.execute()
    assert run.loop.env.now >= (run.scenario.end - run.scenario.start) * 1000


@pytest.mark.req("TWIN-01")
@pytest.mark.parametrize("culprit", ["sleeps", "looks at the clock", "draws unseeded"])
def test_whoever_sleeps_or_looks_at_the_wall_clock_in_a_run_is_caught(culprit: str) -> None:
    """The guard is active during runs; the code under guard is ours, so it is compiled into one of our rooms."""
    acts = {"sleeps": "import time\ndef act(): time.sleep(0)",
            "looks at the clock": "import time\ndef act(): time.time()",
            "draws unseeded": "import random\ndef act(): random.random()"}
    module: dict[str, Any] = {"__name__": "core.planted"}
    exec(compile(acts[culprit], "core/planted.py", "exec"), module)
    caught: list[BaseException] = []

    def tamper(world: World) -> None:
        async def later() -> None:
            await asyncio.sleep(60)
            try:
                module["act"]()
            except Nondeterminism as violation:
                caught.append(violation)

        world._keep(later())

    known = names()
    with pytest.raises(Nondeterminism, match=r"planted\.py"):
        Run(load("crash_between_send_and_record", known), known, tamper=tamper).execute()
    assert len(caught) == 1


@pytest.mark.req("TWIN-01")
def test_three_and_a_half_hours_pass_without_waiting() -> None:
    began = time.process_time()
    moments("crash_between_send_and_record")
    assert time.process_time() - began < 10
