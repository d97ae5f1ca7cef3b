"""Worlds with BOCHK in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bochk_world import BochkWorld


@pytest.fixture
def world() -> Iterator[Callable[..., BochkWorld]]:
    """``world(start, wire=…, settings=…)``; what escaped from a task fails the test."""
    made: list[BochkWorld] = []

    def make(*given: Any, **options: Any) -> BochkWorld:
        made.append(BochkWorld(*given, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
        assert one.raised == []
