"""How a bank behaves, read once from the settings ``sim.<bank>.*`` (gaps.md B-45) and ``socket.*`` (B-22)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.banks.socket.settings import check_socket_settings
from core.clock import US_PER_S
from core.errors import Misconfigured
from core.wire.socket.messages import CALLBACKS
from emulators.dice import Band, Lognormal, Table, band, minor


@dataclass(frozen=True, slots=True)
class BankValues:
    """All figures of a bank; times in µs, amounts in minor units."""

    name: str
    broker: str
    result_delay: Lognormal
    late: Band
    outcome: Table[int]
    unknown_share: float
    unknown_processed_share: float
    single_limit: dict[str, int]
    daily_limit: dict[str, int]
    broker_opening: dict[str, int]
    reconciliation_us: int
    journal_limit: int
    unread_limit: int
    max_skew_ms: int
    heartbeat_us: int
    loss_us: int
    handshake_us: int
    push_repeat_us: int
    push_repeats: int
    frame_limit: int

    @classmethod
    def of(cls, bank: str, settings: Mapping[str, Any], results: random.Random) -> BankValues:
        """Read and check; a bad value raises `Misconfigured` naming its key."""
        check_socket_settings(settings, (bank,))
        sim = f"sim.{bank}."

        def us(key: str) -> int:
            return round(float(settings[key]) * US_PER_S)

        return cls(
            name=str(settings[f"socket.{bank}.name"]),
            broker=str(settings["socket.broker"]),
            result_delay=Lognormal(settings[sim + "result.median"], settings[sim + "result.p99"], results),
            late=band(settings[sim + "result.late"], sim + "result.late"),
            outcome=_codes(settings[sim + "outcome"], sim + "outcome"),
            unknown_share=_share(settings[sim + "unknown.share"], sim + "unknown.share"),
            unknown_processed_share=_share(settings[sim + "unknown.processed_share"], sim + "unknown.processed_share"),
            single_limit=minor(settings[sim + "limit.single"]),
            daily_limit=minor(settings[sim + "limit.daily"]),
            broker_opening=_of_each(settings[f"socket.{bank}.currencies"], settings[sim + "broker.opening"],
                                    sim + "broker.opening"),
            reconciliation_us=us(sim + "reconciliation.delay"),
            journal_limit=int(settings[sim + "journal.limit"]),
            unread_limit=int(settings[sim + "unread.limit"]),
            max_skew_ms=us(sim + "clock_skew") // 1_000,
            heartbeat_us=us("socket.heartbeat.period_s"),
            loss_us=us("socket.heartbeat.loss_s"),
            handshake_us=us("socket.handshake_wait_s"),
            push_repeat_us=us("socket.push.repeat_s"),
            push_repeats=int(settings["socket.push.repeats"]),
            frame_limit=int(settings["socket.frame.limit"]),
        )


def link_latency(bank: str, settings: Mapping[str, Any], stream: random.Random) -> Lognormal:
    """One way between us and the bank: a draw in µs at each call."""
    return Lognormal(settings[f"sim.{bank}.link.median"], settings[f"sim.{bank}.link.p99"], stream)


def _of_each(currencies: Sequence[str], major: Mapping[str, int], where: str) -> dict[str, int]:
    missing = [ccy for ccy in currencies if ccy not in major]
    if missing:
        raise Misconfigured(f"nothing for {missing[0]}", where=where, remedy="an amount for each currency of the bank")
    return minor({ccy: major[ccy] for ccy in currencies})


def _share(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise Misconfigured(f"{value!r} is no share", where=where, remedy="0 to 1")
    return float(value)


def _codes(rows: Sequence[Sequence[Any]], where: str) -> Table[int]:
    for code, _ in rows:
        if code not in CALLBACKS or not CALLBACKS[code].certain or CALLBACKS[code].at_the_door:
            raise Misconfigured(f"{code!r} is no result of a transfer", where=where, remedy="0, -6, -7 or -8")
    return Table([(int(code), share) for code, share in rows], where)
