"""Several workers at one thing: who finds it changed since he looked writes nothing, and looks again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from core.storage import Contention, UniqueViolation

T = TypeVar("T")

CROSSINGS: Final = 5
"""How often something is done anew because others were quicker; each time, something of theirs has come in."""


class Crossed(Exception):
    """Another worker has changed what was read: nothing is written, and it is looked at again."""


IN_THE_WAY: Final = (Crossed, UniqueViolation, Contention)
"""What says that somebody else was quicker."""


async def uncrossed(act: Callable[[], Awaitable[T]]) -> T:
    """Look and write until nobody comes between; after `CROSSINGS` times one of `IN_THE_WAY` goes up. ``act`` writes
    all or nothing."""
    for _ in range(CROSSINGS - 1):
        try:
            return await act()
        except IN_THE_WAY:
            continue
    return await act()
