"""How the emulated bank behaves, read once from the settings ``sim.airstar.*`` (gaps.md B-45), and its dice."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

from core.clock import US_PER_S
from core.errors import Misconfigured
from core.money import MINOR_PER_MAJOR
from core.wire.airstar import ERRORS

T = TypeVar("T")

_P99 = 2.3263478740408408
"""99th percentile of the standard normal distribution."""


class Fate(StrEnum):
    """What becomes of an instruction at the bank."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    REFUNDED_BEFORE_CREDIT = "REFUNDED_BEFORE_CREDIT"
    REFUNDED_AFTER_CREDIT = "REFUNDED_AFTER_CREDIT"


class Band(NamedTuple):
    """A result after ``low_us`` to ``high_us``; one that is not shown stays PENDING at the API for ever."""

    low_us: int
    high_us: int
    shown: bool


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


class Latency:
    """A lognormal time by its median and 99th percentile, in seconds; draws whole microseconds."""

    __slots__ = ("_draw", "_mu", "_sigma")

    def __init__(self, median_s: float, p99_s: float, stream: random.Random) -> None:
        if not 0 < median_s <= p99_s:
            raise Misconfigured(f"median {median_s} s and 99th percentile {p99_s} s", where="latency",
                                remedy="0 < median <= p99")  # fmt: skip
        self._mu = math.log(median_s * US_PER_S)
        self._sigma = (math.log(p99_s) - math.log(median_s)) / _P99
        self._draw = stream.lognormvariate

    def __call__(self) -> int:
        return int(self._draw(self._mu, self._sigma))

    @classmethod
    def of_link(cls, settings: Mapping[str, Any], stream: random.Random) -> Latency:
        """A round trip between us and Airstar (B-45, HTTP)."""
        return cls(settings["sim.airstar.link.median"], settings["sim.airstar.link.p99"], stream)


@dataclass(frozen=True, slots=True)
class BankValues:
    """All figures of the bank; times in µs, amounts in minor units."""

    delay: Table[Band]
    fate: dict[str, Table[Fate]]
    failure: dict[str, Table[int]]
    never_paid_share: float
    pending_ms: int
    refund_delay: Band
    mandate_start: Band
    mandate_processing: Band
    mandate_fail_share: float
    mandate_fail_code: int
    single_limit: dict[str, int]
    daily_limit: dict[str, int]
    open_limit: int
    broker_opening: dict[str, int]
    page_size: int
    max_skew_ms: int
    nonce_limit: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> BankValues:
        """Read and check; a bad value raises `Misconfigured` naming its key."""
        get = settings.__getitem__
        return cls(
            delay=_delays(get("sim.airstar.result.delay"), "sim.airstar.result.delay"),
            fate={d: _fates(get(f"sim.airstar.outcome.{d}"), f"sim.airstar.outcome.{d}") for d in DIRECTIONS},
            failure={d: _codes(get(f"sim.airstar.failure.{d}"), f"sim.airstar.failure.{d}") for d in DIRECTIONS},
            never_paid_share=float(get("sim.airstar.result.never_paid_share")),
            pending_ms=round(get("sim.airstar.result.pending") * 1000),
            refund_delay=_band(get("sim.airstar.result.refund_delay"), "sim.airstar.result.refund_delay"),
            mandate_start=_band(get("sim.airstar.mandate.start"), "sim.airstar.mandate.start"),
            mandate_processing=_band(get("sim.airstar.mandate.processing"), "sim.airstar.mandate.processing"),
            mandate_fail_share=float(get("sim.airstar.mandate.fail_share")),
            mandate_fail_code=_code(get("sim.airstar.mandate.fail_code"), "sim.airstar.mandate.fail_code"),
            single_limit=_minor(get("sim.airstar.limit.single")),
            daily_limit=_minor(get("sim.airstar.limit.daily")),
            open_limit=int(get("sim.airstar.limit.open_transactions")),
            broker_opening=_minor(get("sim.airstar.broker.opening")),
            page_size=int(get("sim.airstar.list.page_size")),
            max_skew_ms=round(get("airstar.api.clock_skew") * 1000),
            nonce_limit=int(get("sim.airstar.nonces.limit")),
        )


DIRECTIONS = ("deposit", "withdrawal")


def at(band: Band, u: float) -> int:
    """The moment of a band at a uniform number in [0, 1), in µs."""
    return band.low_us + int((band.high_us - band.low_us) * u)


def _band(pair: Sequence[float], where: str) -> Band:
    low, high = pair
    if not 0 <= low <= high:
        raise Misconfigured(f"{low} to {high} s is no time span", where=where, remedy="0 <= from <= to")
    return Band(round(low * US_PER_S), round(high * US_PER_S), True)


def _delays(rows: Sequence[Sequence[Any]], where: str) -> Table[Band]:
    """Rows [share, from s, to s]; null times are a result that is never shown, worked on as fast as the first row."""
    first = _band(rows[0][1:], where)
    bands = [
        (first._replace(shown=False) if low is None else _band((low, high), where), share) for share, low, high in rows
    ]
    return Table(bands, where)


def _fates(rows: Sequence[Sequence[Any]], where: str) -> Table[Fate]:
    try:
        return Table([(Fate(name), share) for name, share in rows], where)
    except ValueError as error:
        raise Misconfigured(str(error), where=where, remedy=f"one of {', '.join(Fate)}") from None


def _codes(rows: Sequence[Sequence[Any]], where: str) -> Table[int]:
    return Table([(_code(code, where), share) for code, share in rows], where)


def _code(code: Any, where: str) -> int:
    if code not in ERRORS:
        raise Misconfigured(f"{code!r} is no code of the bank", where=where, remedy="see core.wire.airstar.ERRORS")
    return int(code)


def _minor(major: Mapping[str, int]) -> dict[str, int]:
    return {str(ccy): round(amount * MINOR_PER_MAJOR) for ccy, amount in major.items()}
