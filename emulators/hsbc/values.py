"""How the bank behaves, read once from the settings ``sim.hsbc.*``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.clock import MS_PER_S, US_PER_S
from core.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class HsbcValues:
    """All figures of the bank; times in µs unless they say otherwise."""

    push_least_us: int
    push_most_us: int
    push_timeout_s: float
    retries_us: tuple[int, ...]
    batch_ms: int
    batch_offset_ms: int
    keep_ms: int
    maintenance_wait_us: int
    bic: str
    terminal: str
    to: str
    folder: str

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> HsbcValues:
        """Read and check; a bad value raises `Misconfigured` naming its key."""
        sim = "sim.hsbc."
        least, most = settings[sim + "push.delay_s"]
        if not 0 <= least <= most:
            raise Misconfigured(f"{[least, most]} is no span", where=sim + "push.delay_s", remedy="[least, most]")
        if settings[sim + "batch.period_s"] <= 0:
            raise Misconfigured("a period is more than nothing", where=sim + "batch.period_s", remedy="such as 600")
        return cls(
            push_least_us=_us(least), push_most_us=_us(most), push_timeout_s=float(settings[sim + "push.timeout_s"]),
            retries_us=tuple(_us(wait) for wait in settings[sim + "push.retries_s"]),
            batch_ms=round(settings[sim + "batch.period_s"] * MS_PER_S),
            batch_offset_ms=round(settings[sim + "batch.offset_s"] * MS_PER_S),
            keep_ms=round(settings[sim + "batch.keep_h"] * 3_600 * MS_PER_S),
            maintenance_wait_us=_us(settings[sim + "maintenance_wait_s"]),
            bic=settings[sim + "bic"], terminal=settings[sim + "terminal"], to=settings[sim + "to"],
            folder=settings["hsbc.sftp.folder"])


def _us(seconds: float) -> int:
    return round(seconds * US_PER_S)
