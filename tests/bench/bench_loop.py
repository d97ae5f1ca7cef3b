"""How many events per second the virtual loop carries, beside plain SimPy on the same machine in the same run.

Repetitions of the variants are interleaved, so a busy neighbour slows all of them; medians are compared.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any

import simpy

from emulators.loop import SimLoop
from emulators.network import Network
from emulators.streams import Streams

EVENTS = 100_000
REPETITIONS = 5


def plain_simpy(processes: int, events: int = EVENTS) -> float:
    """Timeouts per second of SimPy alone: each process yields one timeout after the other."""

    def process(env: simpy.Environment, delay: int, times: int) -> Generator[Any, Any, None]:
        for _ in range(times):
            yield env.timeout(delay)

    env = simpy.Environment(0)
    for number in range(processes):
        env.process(process(env, 1_000 + number, events // processes))
    return _rate(env.run, events)


def sleeps(tasks: int, events: int = EVENTS) -> float:
    """asyncio.sleep calls per second on `SimLoop`."""

    async def sleeper(delay: float, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(delay)

    async def main() -> None:
        await asyncio.gather(*[sleeper(0.001 + n / 1_000_000, events // tasks) for n in range(tasks)])

    return _on_loop(lambda loop: loop.run_until_complete(main()), events)


def callbacks(chains: int, events: int = EVENTS) -> float:
    """`call_after_us` timers per second: chains that set their own successor."""

    def chain(loop: SimLoop, delay: int, left: int) -> None:
        if left:
            loop.call_after_us(delay, chain, loop, delay, left - 1)
        elif delay == 1_000 + chains - 1:
            loop.stop()

    def run(loop: SimLoop) -> None:
        for number in range(chains):
            loop.call_after_us(1_000 + number, chain, loop, 1_000 + number, events // chains)
        loop.run_forever()

    return _on_loop(run, events)


def processes_on_loop(processes: int, events: int = EVENTS) -> float:
    """SimPy timeouts per second when `SimLoop` steps the environment."""

    def process(loop: SimLoop, delay: int, times: int) -> Generator[Any, Any, None]:
        for _ in range(times):
            yield loop.env.timeout(delay)

    async def main(loop: SimLoop) -> None:
        started = [loop.env.process(process(loop, 1_000 + n, events // processes)) for n in range(processes)]
        await loop.wait(loop.env.all_of(started))

    return _on_loop(lambda loop: loop.run_until_complete(main(loop)), events)


def echoes(connections: int, messages: int = 20_000) -> float:
    """Messages of 100 bytes there and back per second, asyncio streams over the memory network."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def customer(times: int) -> None:
        reader, writer = await asyncio.open_connection("bank", 443)
        for _ in range(times):
            writer.write(bytes(100))
            await reader.readexactly(100)
        writer.close()

    async def main(loop: SimLoop) -> None:
        Network(loop, Streams(1)).host("bank", "10.0.0.2")
        server = await asyncio.start_server(serve, "bank", 443)
        await asyncio.gather(*[customer(messages // connections) for _ in range(connections)])
        await asyncio.sleep(1)
        server.close()

    return _on_loop(lambda loop: loop.run_until_complete(main(loop)), messages)


def _on_loop(run: Callable[[SimLoop], object], events: int) -> float:
    loop = SimLoop()
    try:
        return _rate(lambda: run(loop), events)
    finally:
        loop.close()


def _rate(run: Callable[[], object], events: int) -> float:
    gc.collect()
    start = perf_counter()
    run()
    return events / (perf_counter() - start)


VARIANTS: dict[str, Callable[[], float]] = {
    "plain_simpy_per_s": lambda: plain_simpy(1),
    "plain_simpy_1000_per_s": lambda: plain_simpy(1_000),
    "sleeps_per_s_1": lambda: sleeps(1),
    "sleeps_per_s_1000": lambda: sleeps(1_000),
    "sleeps_per_s_100000": lambda: sleeps(100_000),
    "call_after_us_per_s": lambda: callbacks(1_000),
    "simpy_on_loop_per_s": lambda: processes_on_loop(1_000),
    "echoes_per_s_1": lambda: echoes(1),
    "echoes_per_s_100": lambda: echoes(100),
}


def measure(repetitions: int = REPETITIONS) -> dict[str, float]:
    """Medians of events per second, and ``ratio`` (1 task) and ``ratio_1000`` to plain SimPy of the same width."""
    samples: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(repetitions):
        for name, variant in VARIANTS.items():
            samples[name].append(variant())
    figures = {name: statistics.median(rates) for name, rates in samples.items()}
    figures["ratio"] = figures["sleeps_per_s_1"] / figures["plain_simpy_per_s"]
    figures["ratio_1000"] = figures["sleeps_per_s_1000"] / figures["plain_simpy_1000_per_s"]
    return figures


if __name__ == "__main__":
    print(json.dumps({name: round(figure, 3) for name, figure in measure().items()}, indent=2))
