"""How an emulated direct-debit interface behaves, read once from the settings ``sim.edda.*`` (gaps.md B-25)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.errors import Misconfigured
from core.money import MINOR_PER_MAJOR
from core.wire.edda import REASONS
from emulators.dice import Band, Table, band

PAID: Final = ""
"""The outcome of a debit that is collected; else a reason code."""


@dataclass(frozen=True, slots=True)
class BankValues:
    """All figures of one bank; spans in µs, amounts in minor units, times of day in ms after midnight."""

    decision: Table[Band]
    reject_share: float
    same_day_share: float
    same_day: Band
    next_day: tuple[int, int]
    outcome: Table[str]
    work: Band
    limit: dict[str, int]
    rate: int
    skew_s: int
    replay_memory: int
    report_at: tuple[int, ...]
    keep_days: int
    report_folder: str

    @classmethod
    def of(cls, settings: Mapping[str, Any], bank: str) -> BankValues:
        """Read and check; a bad value raises `Misconfigured` naming its key."""
        get, key = settings.__getitem__, "sim.edda"
        first, last = (time_of_day(text, f"{key}.result.next_day") for text in get(f"{key}.result.next_day"))
        return cls(
            decision=Table([(band((low, high), f"{key}.decision.delay"), share)
                            for share, low, high in get(f"{key}.decision.delay")], f"{key}.decision.delay"),
            reject_share=float(get(f"{key}.decision.reject_share")),
            same_day_share=float(get(f"{key}.result.same_day")[bank]),
            same_day=band(get(f"{key}.result.delay"), f"{key}.result.delay"),
            next_day=(first, last),
            outcome=Table([(_outcome(name), share) for name, share in get(f"{key}.result.outcome")],
                          f"{key}.result.outcome"),
            work=band(get(f"{key}.work")[bank], f"{key}.work"),
            limit={ccy: major * MINOR_PER_MAJOR for ccy, major in get("edda.limit").items()},
            rate=int(get(f"{key}.rate")),
            skew_s=int(get("edda.api.clock_skew_s")),
            replay_memory=int(get(f"{key}.replay_memory")),
            report_at=tuple(time_of_day(text, f"{key}.report.at") for text in get(f"{key}.report.at")),
            keep_days=int(get(f"{key}.report.keep_days")),
            report_folder=str(get("edda.report.folder")),
        )


def time_of_day(text: str, where: str) -> int:
    """"18:00" -> ms after midnight."""
    hours, _, minutes = str(text).partition(":")
    if not (hours.isdigit() and minutes.isdigit() and int(hours) < 24 and int(minutes) < 60):
        raise Misconfigured(f"{text!r} is no time", where=where, remedy='write it as "18:00"')
    return (int(hours) * 60 + int(minutes)) * 60_000


def _outcome(name: str) -> str:
    if name == "SUCCESS":
        return PAID
    if name not in REASONS:
        raise Misconfigured(f"{name!r} is no outcome", where="sim.edda.result.outcome",
                            remedy=f"SUCCESS or one of {', '.join(REASONS)}")
    return name
