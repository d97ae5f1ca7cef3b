"""Named random streams."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulators.streams import (
    Streams,
    constant,
    exponential,
    happens,
    lognormal,
    lognormal_from,
    lognormal_parameters,
    mixture,
    uniform,
)

ROOT = Path(__file__).resolve().parent.parent


def test_same_name_gives_the_same_object():
    streams = Streams(7)
    assert streams("airstar.results") is streams("airstar.results")
    assert streams("airstar.results") is not streams("airstar.latency")


@given(st.integers(), st.text(min_size=1), st.lists(st.text(min_size=1)))
def test_a_stream_depends_on_seed_and_name_only(seed, name, neighbours):
    alone, crowded = Streams(seed), Streams(seed)
    for neighbour in neighbours:
        if neighbour != name:
            crowded(neighbour).random()
    assert alone(name).random() == crowded(name).random()


def test_seeds_and_names_give_different_numbers():
    first = {Streams(seed)(name).random() for seed in range(20) for name in ("a", "b", "1", "11")}
    assert len(first) == 80


def test_numbers_do_not_depend_on_the_hash_seed():
    program = (
        "from emulators.streams import *\ns = Streams(3)\n"
        "print([s(n).random() for n in 'abc'], lognormal(s('d'), 1, 9))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }  # fmt: skip
    assert len(outputs) == 1


@given(st.floats(0.001, 1e6), st.floats(1.0, 100.0))
def test_lognormal_parameters_are_those_of_the_quantiles(median, spread):
    mu, sigma = lognormal_parameters(median, median * spread)
    distribution = statistics.NormalDist(mu, sigma) if sigma else None
    assert math.isclose(math.exp(mu), median, rel_tol=1e-9)
    if distribution:
        assert math.isclose(math.exp(distribution.inv_cdf(0.99)), median * spread, rel_tol=1e-9)


def test_lognormal_draws_have_their_median_and_tail():
    rng = Streams(1)("latency")
    draws = [lognormal(rng, 200, 900) for _ in range(20_000)]
    percentiles = statistics.quantiles(draws, n=100)
    assert 190 < percentiles[49] < 210
    assert 800 < percentiles[98] < 1_000


def test_lognormal_from_draws_as_lognormal():
    draw, one, two = lognormal_from(2, 5), Streams(1)("x"), Streams(1)("x")
    assert [draw(one) for _ in range(5)] == [lognormal(two, 2, 5) for _ in range(5)]


def test_mixture_picks_by_weight():
    rng = Streams(2)("mix")
    draw = mixture([(0.9, constant(1)), (0.1, constant(100))])
    draws = [draw(rng) for _ in range(10_000)]
    assert set(draws) == {1, 100}
    assert 800 < draws.count(100) < 1_200


def test_bounds_of_the_simple_draws():
    rng = Streams(2)("simple")
    assert all(3 <= uniform(3, 4)(rng) <= 4 for _ in range(100))
    assert 9 < statistics.mean(exponential(10)(rng) for _ in range(10_000)) < 11
    assert not happens(rng, 0.0)
    assert happens(rng, 1.0)


def test_a_changed_probability_shifts_nothing_else():
    one, two = Streams(5)("faults"), Streams(5)("faults")
    for _ in range(100):
        happens(one, 0.01)
        happens(two, 0.9)
    assert one.random() == two.random()


@pytest.mark.parametrize("median, p99", [(0, 1), (-1, 1), (2, 1)])
def test_impossible_lognormals_are_refused(median, p99):
    with pytest.raises(ValueError, match="median"):
        lognormal_from(median, p99)


@pytest.mark.parametrize("weights", [[], [0.5], [0.5, 0.6], [1.5, -0.5]])
def test_impossible_mixtures_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        mixture([(weight, constant(1)) for weight in weights])


def test_an_exponential_needs_a_positive_mean():
    with pytest.raises(ValueError, match="mean"):
        exponential(0)
