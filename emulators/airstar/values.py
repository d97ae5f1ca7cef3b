"""How the emulated bank behaves, read once from the settings ``sim.airstar.*`` (gaps.md B-45), and its dice."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from core.errors import Misconfigured
from core.wire.airstar import ERRORS
from emulators.dice import Band, Lognormal, Table, band, minor


class Fate(StrEnum):
    """What becomes of an instruction at the bank."""

    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    REFUNDED_BEFORE_CREDIT = "REFUNDED_BEFORE_CREDIT"
    REFUNDED_AFTER_CREDIT = "REFUNDED_AFTER_CREDIT"


class Latency(Lognormal):
    """The time that a message takes, drawn from a stream."""

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
            refund_delay=band(get("sim.airstar.result.refund_delay"), "sim.airstar.result.refund_delay"),
            mandate_start=band(get("sim.airstar.mandate.start"), "sim.airstar.mandate.start"),
            mandate_processing=band(get("sim.airstar.mandate.processing"), "sim.airstar.mandate.processing"),
            mandate_fail_share=float(get("sim.airstar.mandate.fail_share")),
            mandate_fail_code=_code(get("sim.airstar.mandate.fail_code"), "sim.airstar.mandate.fail_code"),
            single_limit=minor(get("sim.airstar.limit.single")),
            daily_limit=minor(get("sim.airstar.limit.daily")),
            open_limit=int(get("sim.airstar.limit.open_transactions")),
            broker_opening=minor(get("sim.airstar.broker.opening")),
            page_size=int(get("sim.airstar.list.page_size")),
            max_skew_ms=round(get("airstar.api.clock_skew") * 1000),
            nonce_limit=int(get("sim.airstar.nonces.limit")),
        )


DIRECTIONS = ("deposit", "withdrawal")


def _delays(rows: Sequence[Sequence[Any]], where: str) -> Table[Band]:
    """Rows [share, from s, to s]; null times are a result that is never shown, worked on as fast as the first row."""
    first = band(rows[0][1:], where)
    bands = [
        (first._replace(shown=False) if low is None else band((low, high), where), share) for share, low, high in rows
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
