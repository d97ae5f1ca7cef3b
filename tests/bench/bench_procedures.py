"""Complete Airstar procedures per second through core and emulated bank, in both fidelities, and how it grows.

``bare``: nobody reads the events. ``judged``: hash, invariants, model and facts read each event, as `nostro run` does.
Figures are of one core; the time of opening the books (customers, balances, mandates) is taken out.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path

from core.trace import Event, Trace
from emulators.airstar.keys import in_memory
from emulators.loop import LoopClock, SimLoop
from reports.model import RunModel
from scenarios.facts import RunFacts
from scenarios.invariants import Invariants
from scenarios.names import names
from scenarios.reading import load_text
from scenarios.recorder import Recorder
from scenarios.runner import MOVES
from scenarios.world import World
from tests.bench import bench_airstar_wire

NAMES = names()
TEXT = """
name: bench
title: Benchmark
start: 2026-03-12 07:00
end: 2026-03-12 {end}
seed: 1
wire: {wire}
settings:            # a day's quota of automatic withdrawals would end the run of many
  auto_settings.row.airstar.HKD.balance: 100000000000
  auto_settings.stop_count: 1000000
  auto_settings.alarm_count: 1000000
population:
  customers: {customers}
  balances: {{HKD: {{median: "250,000", p99: "8,000,000"}}}}
  at_bank: {{HKD: {{median: "400,000", p99: "9,000,000"}}}}
  cards: {{airstar: 1.0}}
  mandate: {{OPEN: 1.0}}
workload:
  - deposits: {{channel: airstar, count: {deposits}, by: {{app: 0.9, bank: 0.1}}, ccy: {{HKD: 1.0}},
               amount: {{HKD: {{median: "20,000", p99: "900,000"}}}}, hours: {{8-12: 1}}, until: 12:00}}
  - withdrawals: {{channel: airstar, count: {withdrawals}, by: {{app: 0.9, bank: 0.1}}, ccy: {{HKD: 1.0}},
                  amount: {{of_balance: {{from: 0.02, to: 0.5}}}}, hours: {{8-12: 1}}, until: 12:00}}
staff: {{reviewers: 3, transfer_officers: 2, supervisors: 1}}
"""


def story(count: int, *, wire: str = "messages", judged: bool = False, end: str = "15:30") -> dict[str, float]:
    """Run ``count`` procedures (5 deposits to 3 withdrawals); seconds and counts."""
    deposits = count * 5 // 8
    return run(TEXT.format(wire=wire, customers=max(50, count), deposits=deposits, withdrawals=count - deposits,
                           end=end), judged=judged)


def run(
    text: str, *, judged: bool = False, watch: Callable[[Event], None] | None = None,
    begun: Callable[[World], object] | None = None,
) -> dict[str, float]:
    """Run a scenario; seconds of wall and CPU time, and counts. ``judged``: everybody who reads a run's events does;
    ``watch`` does besides; ``begun`` is called when the books are open and nothing has happened yet."""
    scenario = load_text(text, NAMES)
    loop = SimLoop()
    clock = LoopClock(loop, scenario.start)
    trace = Trace(clock)
    finished = [0, 0, 0]

    def count_ends(event: Event) -> None:
        finished[1] += 1
        if event[2] == "procedure" and event[4]["to"].startswith("end_"):
            finished[0] += 1
        elif event[2] == "bank.request":
            finished[2] += 1

    trace.subscribe(count_ends)
    if watch is not None:
        trace.subscribe(watch)
    measured: dict[str, float] = {}

    async def main() -> None:
        world = World(scenario, NAMES, loop, trace, clock)
        world.facts = RunFacts(frozenset(), world.uid_of, lambda *_: None, lambda *_: None)  # type: ignore[arg-type]
        if judged:
            for sink in (Recorder(None), RunModel(), Invariants(MOVES, lambda violation: None), world.facts):
                trace.subscribe(sink)
        trace.subscribe(world.staff())
        await world.begin()
        if begun is not None:
            begun(world)
        gc.collect()
        opened = world.databases.commits
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        began = time.perf_counter()
        await world.run()
        measured["seconds"] = time.perf_counter() - began
        measured["cpu"] = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
        measured["rpc_calls"] = world.rpc.calls
        measured["commits"] = world.databases.commits - opened
        await world.core.stop()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    return measured | {"finished": finished[0], "events": finished[1], "bank_requests": finished[2],
                       "per_second": finished[0] / measured["seconds"]}


def growth_exponent(small: int, large: int) -> float:
    """b in CPU time ~ n^b between two numbers of procedures."""
    a, b = story(small), story(large)
    return math.log(b["cpu"] / a["cpu"]) / math.log(b["finished"] / a["finished"])


IN_FLIGHT = """
name: in_flight
title: Deposits that all wait for their bank at one moment
start: 2026-03-12 10:00
end: 2026-03-12 10:02
seed: 1
wire: messages
settings: {{sim.airstar.result.delay: [[1.0, 170.0, 170.0]]}}
population:
  customers: {customers}
  balances: {{}}
  at_bank: {{HKD: {{median: "400,000", p99: "9,000,000"}}}}
  cards: {{airstar: 1.0}}
  mandate: {{OPEN: 1.0}}
workload:
  - deposits: {{channel: airstar, count: {count}, ccy: {{HKD: 1.0}}, amount: {{HKD: {{median: "2,000", p99: "9,000"}}}},
               hours: round_the_clock, until: "10:01"}}
"""


def _resident_mb() -> float:
    """Resident memory of this process without what the allocator keeps for later (glibc gives it back here)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def memory_in_flight(count: int = 10_000) -> dict[str, float]:
    """MB per 1,000 deposits that wait for the bank: core, databases and emulated bank together, no readers."""
    scenario = load_text(IN_FLIGHT.format(count=count, customers=count // 10), NAMES)
    loop = SimLoop()
    clock = LoopClock(loop, scenario.start)
    trace = Trace(clock)
    measured: dict[str, float] = {}

    async def main() -> None:
        world = World(scenario, NAMES, loop, trace, clock)
        world.facts = RunFacts(frozenset(), world.uid_of, lambda *_: None, lambda *_: None)  # type: ignore[arg-type]
        await world.begin()
        before = _resident_mb()
        await world.run()
        measured["in_flight"] = float(world.bank.open_transactions)
        measured["mb_per_1000"] = (_resident_mb() - before) / world.bank.open_transactions * 1000
        await world.core.stop()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    return measured


def measure() -> dict[str, float]:
    """Every figure of this file. Seconds are CPU seconds of this process: the machine may be shared."""
    story(200)
    memory = memory_in_flight()
    bare, judged, full = story(4_000), story(4_000, judged=True), story(400, wire="full")
    signs, verifies = bench_airstar_wire.rsa(in_memory())
    signing_s = full["bank_requests"] * (1 / signs + 1 / verifies)
    return {
        "messages_procedures_per_cpu_s": bare["finished"] / bare["cpu"],
        "messages_judged_procedures_per_cpu_s": judged["finished"] / judged["cpu"],
        "messages_us_per_procedure": bare["cpu"] / bare["finished"] * 1e6,
        "messages_events_per_procedure": bare["events"] / bare["finished"],
        "messages_bank_requests_per_procedure": bare["bank_requests"] / bare["finished"],
        "full_procedures_per_cpu_s": full["finished"] / full["cpu"],
        "full_ratio_to_rsa_alone": full["cpu"] / signing_s,
        "growth_exponent_1000_to_20000": growth_exponent(1_000, 20_000),
        "in_flight": memory["in_flight"], "mb_per_1000_in_flight": memory["mb_per_1000"],
    }


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:44} {value:12.3f}")
