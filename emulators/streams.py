"""Named random streams: one seed per run, one stream per actor.

A stream's numbers depend on the run's seed and its own name only, so adding an actor shifts nobody else's draws
(common random numbers: two variants of a run stay comparable). Python's hash seed has no part in it.
Source: gaps.md B-45 (TWIN-02).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random

Draw = Callable[[Random], float]
"""A distribution: takes its next value from the stream it is given."""

_P99_SIGMAS = 2.3263478740408408
"""The 99th percentile of the standard normal distribution."""


class Streams:
    """``streams("airstar.results")`` is the stream of that name: the same `random.Random` at every call."""

    __slots__ = ("_by_name", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._by_name: dict[str, Random] = {}

    def __call__(self, name: str) -> Random:
        stream = self._by_name.get(name)
        if stream is None:
            stream = self._by_name[name] = Random(self._seed_of(name))
        return stream

    def _seed_of(self, name: str) -> int:
        return int.from_bytes(blake2b(f"{self.seed}\0{name}".encode(), digest_size=32).digest(), "big")


def lognormal(rng: Random, median: float, p99: float) -> float:
    """One draw of the lognormal distribution with this median and 99th percentile, in their unit."""
    mu, sigma = lognormal_parameters(median, p99)
    return rng.lognormvariate(mu, sigma)


def lognormal_parameters(median: float, p99: float) -> tuple[float, float]:
    """(mu, sigma) of the lognormal distribution with this median and 99th percentile; 0 < median <= p99."""
    if not 0 < median <= p99:
        raise ValueError(f"a lognormal needs 0 < median <= p99, not median {median} and p99 {p99}")
    return math.log(median), math.log(p99 / median) / _P99_SIGMAS


def lognormal_from(median: float, p99: float) -> Draw:
    """The same distribution as a `Draw`, its parameters computed once."""
    mu, sigma = lognormal_parameters(median, p99)
    return lambda rng: rng.lognormvariate(mu, sigma)


def constant(value: float) -> Draw:
    """Always the same value; takes nothing from the stream."""
    return lambda _rng: value


def uniform(low: float, high: float) -> Draw:
    """Evenly between two bounds."""
    return lambda rng: rng.uniform(low, high)


def exponential(mean: float) -> Draw:
    """Times between independent arrivals, ``mean`` apart on average."""
    if mean <= 0:
        raise ValueError(f"a mean time between arrivals is positive, not {mean}")
    return lambda rng: rng.expovariate(1 / mean)


def mixture(parts: Sequence[tuple[float, Draw]]) -> Draw:
    """One of several distributions, picked by weight at each draw: ``[(0.95, usual), (0.05, slow)]``."""
    weights = [weight for weight, _ in parts]
    if not parts or min(weights) < 0 or not math.isclose(sum(weights), 1.0, abs_tol=1e-9):
        raise ValueError(f"the weights of a mixture are not negative and sum to 1, not {weights}")

    def draw(rng: Random) -> float:
        point = rng.random()
        for weight, part in parts:
            point -= weight
            if point < 0:
                return part(rng)
        return parts[-1][1](rng)

    return draw


def happens(rng: Random, probability: float) -> bool:
    """True with this probability; always takes exactly one number, so changing a probability shifts nothing else."""
    return rng.random() < probability
