"""The dice of the emulated banks, and how their figures stand in the settings (gaps.md B-45).

What is drawn by one uniform number takes exactly one: a fault or a changed figure then shifts nobody else's draws.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import NormalDist
from typing import Final, Generic, NamedTuple, TypeVar

from core.clock import US_PER_S
from core.errors import Misconfigured
from core.money import MINOR_PER_MAJOR
from emulators.streams import lognormal_parameters

T = TypeVar("T")

_NORMAL: Final = NormalDist()
_TINY: Final = 2.0**-54


class Band(NamedTuple):
    """A result after ``low_us`` to ``high_us``; one that is not shown stays PENDING at the API for ever."""

    low_us: int
    high_us: int
    shown: bool


def at(span: Band, u: float) -> int:
    """The moment of a band at a uniform number in [0, 1), in µs."""
    return span.low_us + int((span.high_us - span.low_us) * u)


class Table(Generic[T]):
    """Alternatives with shares that sum to 1, drawn by one uniform number."""

    __slots__ = ("_bounds", "choices")

    def __init__(self, rows: Sequence[tuple[T, float]], where: str) -> None:
        shares = [float(share) for _, share in rows]
        if not rows or min(shares) < 0 or not math.isclose(sum(shares), 1.0, abs_tol=1e-9):
            raise Misconfigured(f"shares {shares} are not parts of 1", where=where, remedy="let them sum to 1")
        self.choices = [choice for choice, _ in rows]
        self._bounds = list(accumulate(shares))

    def at(self, u: float) -> T:
        """The alternative at a uniform number in [0, 1)."""
        for bound, choice in zip(self._bounds, self.choices, strict=True):
            if u < bound:
                return choice
        return self.choices[-1]


class Lognormal:
    """A lognormal time by its median and 99th percentile, in seconds; gives whole microseconds."""

    __slots__ = ("_draw", "_mu", "_sigma")

    def __init__(self, median_s: float, p99_s: float, stream: random.Random) -> None:
        if not 0 < median_s <= p99_s:
            raise Misconfigured(f"median {median_s} s and 99th percentile {p99_s} s", where="latency",
                                remedy="0 < median <= p99")  # fmt: skip
        self._mu, self._sigma = lognormal_parameters(median_s * US_PER_S, p99_s * US_PER_S)
        self._draw = stream.lognormvariate

    def __call__(self) -> int:
        """The next draw of the stream."""
        return int(self._draw(self._mu, self._sigma))

    def at(self, u: float) -> int:
        """The time at a uniform number in [0, 1)."""
        return int(math.exp(self._mu + self._sigma * _NORMAL.inv_cdf(max(u, _TINY))))


def band(pair: Sequence[float], where: str) -> Band:
    """[from s, to s] of a setting."""
    low, high = pair
    if not 0 <= low <= high:
        raise Misconfigured(f"{low} to {high} s is no time span", where=where, remedy="0 <= from <= to")
    return Band(round(low * US_PER_S), round(high * US_PER_S), True)


def minor(major: Mapping[str, int]) -> dict[str, int]:
    """{currency: major units} of a setting, in minor units."""
    return {str(ccy): round(amount * MINOR_PER_MAJOR) for ccy, amount in major.items()}
