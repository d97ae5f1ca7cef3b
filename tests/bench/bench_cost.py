"""What one Airstar deposit and one withdrawal cost, event by event, in microseconds of CPU (``wire: messages``).

One procedure at a time goes through core and emulated bank; the time from one event to the next is the cost of what
lies between them (transactions, timers, coroutines, the bank). Medians over many procedures, one poll each.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections import defaultdict
from itertools import pairwise
from typing import Any

from core.trace import Event, Trace
from emulators.loop import LoopClock, SimLoop
from scenarios.facts import RunFacts
from scenarios.reading import load_text
from scenarios.world import World
from tests.bench.bench_procedures import NAMES

TEXT = """
name: cost
title: One after another
start: 2026-03-12 08:00
end: 2026-03-12 16:00
seed: 1
wire: messages
settings: {sim.airstar.result.delay: [[1.0, 2.5, 2.5]], jobs.trace_polls: true}
customers:
  - {id: alice, balances: {HKD: "900,000,000"}, at_bank: {HKD: "900,000,000"}, cards: [airstar]}
"""
COUNT, APART_S = 400, 20


def label(event: Event) -> str:
    """What happened, without numbers."""
    _, _, kind, _, data = event
    match kind:
        case "procedure":
            return f"{data['row']} {data['to']}"
        case "job":
            return f"job {data['job']} {data['state']}"
        case "posting":
            return f"posting {data['op']}{' (adopted)' if not data['legs'] else ''}"
        case "apply" | "task":
            return f"{kind} {data['status']}"
        case "bank.request" | "bank.reply":
            return f"{kind} {data['message']} {data['outcome']}".rstrip()
        case "bank.book":
            return f"bank books {data['op']}"
        case "note":
            return f"note {data['fact']}"
        case _:
            return kind


def costs(kind: str) -> list[tuple[str, float]]:
    """(event, µs since the event before) of a ``deposit`` or ``withdrawal``, in order."""
    scenario = load_text(TEXT, NAMES)
    loop = SimLoop()
    clock = LoopClock(loop, scenario.start)
    stamps: list[tuple[str, int]] = []
    trace = Trace(clock, lambda event: stamps.append((label(event), time.process_time_ns())))
    rows: list[list[tuple[str, int]]] = []

    async def main() -> None:
        world = World(scenario, NAMES, loop, trace, clock)
        world.facts = RunFacts(frozenset(), world.uid_of, lambda *_: None, lambda *_: None)  # type: ignore[arg-type]
        await world.begin()
        for name in world.core._scheduled():
            world.core.timetable.pause(name)
        gc.disable()
        for _ in range(COUNT):
            stamps.clear()
            began = time.process_time_ns()
            await _ask(world, kind)
            await asyncio.sleep(APART_S)
            rows.append([("the customer asks", began), *stamps])
        gc.enable()
        await world.core.stop()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
    return _medians(rows)


async def _ask(world: World, kind: str) -> None:
    alice = world.customers[0]
    card = world.card_id(alice, "airstar")
    if kind == "deposit":
        await world.core.airstar_deposits.submit(
            alice.uid, alice.trade_acc_ids[0], 1, card, alice.cards["airstar"].number, "HKD", 100_000)
    else:
        await world.core.withdrawals.submit(
            alice.uid, alice.trade_acc_ids[0], 1, card, alice.cards["airstar"].number, "airstar", "HKD", 100_000,
            "auto_bs")


def _medians(rows: list[list[tuple[str, int]]]) -> list[tuple[str, float]]:
    """The usual sequence of events, and the median time of each step of it."""
    shapes: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for row in rows:
        shapes[tuple(name for name, _ in row)].append([
            after - before for (_, before), (_, after) in pairwise(row)])
    usual = max(shapes, key=lambda shape: len(shapes[shape]))
    steps = zip(*shapes[usual], strict=True)
    return [(name, statistics.median(times) / 1000) for name, times in zip(usual[1:], steps, strict=True)]


def measure() -> dict[str, float]:
    """``deposit 07 posting add`` -> µs, and the sums."""
    figures: dict[str, Any] = {}
    for kind in ("deposit", "withdrawal"):
        steps = costs(kind)
        for number, (name, us) in enumerate(steps, 1):
            figures[f"{kind} {number:02d} {name}"] = us
        figures[f"{kind} all {len(steps)} events"] = sum(us for _, us in steps)
    return figures


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:70} {value:8.1f}")
