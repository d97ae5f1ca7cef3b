"""The properties of the codec for golden bytes that were changed a little: a fixed number of tries, the same each time.

``make fuzz`` searches for minutes, guided by coverage; what it finds becomes a test in tests/wire.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import seeds
from tests.fuzz.properties import SCRIPTED, TARGETS, script_bytes, script_of

SEEDS = {name: seeds.seeds(name) for name in TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_search_begins_with_is_good(name: str) -> None:
    for data in SEEDS[name]:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@given(which=st.integers(0, 10_000), seed=st.integers(0, 2**32))
@settings(max_examples=150, derandomize=True, deadline=None, database=None)
def test_changed_golden_bytes_break_no_property(name: str, which: int, seed: int) -> None:
    random, data = Random(seed), SEEDS[name][which % len(SEEDS[name])]
    for _ in range(2):
        data = seeds.changed(name, data, random)
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=300))
@settings(max_examples=40, derandomize=True, deadline=None, database=None)
def test_any_bytes_break_no_property(name: str, data: bytes) -> None:
    TARGETS[name](data)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_script_and_a_script_is_its_bytes(data: bytes) -> None:
    flavour, steps = script_of(data)
    assert script_of(script_bytes(flavour, steps)) == (flavour, steps)
    assert all(name in TARGETS for name in SCRIPTED)
