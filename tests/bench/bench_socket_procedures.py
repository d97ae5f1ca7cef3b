"""Complete CMB procedures per CPU second in virtual time, in both fidelities, beside Airstar's and beside bare crypto.

Deposits are pushed by the bank, withdrawals go to it and end by its push; both pass through a whole core. Baselines of
the same run: Airstar's procedures by the same harness (``messages``), and the SM2 and SM4 operations of the very same
messages by themselves (``full``). Heartbeats of the day are in every figure. Figures are of one core.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from time import process_time
from typing import Any, Final, NamedTuple

from core.settings import Settings
from core.trace import Event
from core.wire.sm2 import FastSm2, sm4_gcm_decrypt, sm4_gcm_encrypt
from tests.bench import bench_procedures

TEXT: Final = """
name: bench
title: Benchmark
start: 2026-03-12 09:00
end: 2026-03-12 15:30
seed: 1
wire: {wire}
settings:
  jobs.fetch_bank_request.period_s: 86400   # Airstar's signed polls are no part of this
  auto_settings.row.cmb.HKD.balance: 100000000000   # a day's quota would end the run of many
  auto_settings.stop_count: 1000000
  auto_settings.alarm_count: 1000000
population:
  customers: {customers}
  balances: {{HKD: {{median: "250,000", p99: "8,000,000"}}}}
  at_bank: {{HKD: {{median: "400,000", p99: "9,000,000"}}}}
  cards: {{cmb: 1.0}}
  mandate: {{OPEN: 1.0}}
workload: {workload}
staff: {{reviewers: 3, transfer_officers: 2, supervisors: 1}}
"""
DAY_H: Final = 6.5
HOURS: Final = "hours: {9-15: 1}, until: 15:00"
DEPOSITS: Final = """
  - deposits: {{channel: cmb, count: {count}, by: {{bank: 1.0}}, ccy: {{HKD: 1.0}},
               amount: {{HKD: {{median: "2,000", p99: "90,000"}}}}, {hours}}}"""
WITHDRAWALS: Final = """
  - withdrawals: {{channel: cmb, count: {count}, by: {{app: 1.0}}, ccy: {{HKD: 1.0}},
                  amount: {{of_balance: {{from: 0.005, to: 0.02}}}}, {hours}}}"""
MESSAGE, FRAME = bytes(401), bytes(398)
"""As long as a pushed deposit: what is signed, and what is sealed."""


class Load(NamedTuple):
    """CPU seconds of a day and what happened in it."""

    cpu: float
    finished: float
    signatures: int
    frames: int

    @property
    def us(self) -> float:
        """CPU of one procedure."""
        return self.cpu / self.finished * 1e6


def load(deposits: int, withdrawals: int, wire: str) -> Load:
    """A trading day with so many procedures."""
    workload = DEPOSITS.format(count=deposits, hours=HOURS) if deposits else ""
    workload += WITHDRAWALS.format(count=withdrawals, hours=HOURS) if withdrawals else ""
    crossed: Counter[str] = Counter()

    def count(event: Event) -> None:
        if event[2] in ("bank.request", "bank.push") and event[4]["bank"] == "cmb":
            crossed[event[4]["message"]] += 1

    number = deposits + withdrawals
    ran = bench_procedures.run(TEXT.format(wire=wire, customers=max(50, number // 4), workload=workload or "[]"),
                               watch=count)
    if ran["finished"] < 0.97 * number:
        raise AssertionError(f"{ran['finished']} of {number} procedures finished")
    return Load(ran["cpu"], ran["finished"], *_crossed(crossed))


def _crossed(messages: Counter[str]) -> tuple[int, int]:
    """(SM2 signatures, frames) of the day: every message is answered, a request for money and its answer are signed, of
    a push the push, of a question the answer; each end says every 20 s that it lives."""
    signatures = sum(messages.values()) + messages["withdraw"]
    beats = round(DAY_H * 3600 / Settings()["socket.heartbeat.period_s"])
    return signatures, 2 * sum(messages.values()) + 4 * beats


def crypto_us() -> tuple[float, float]:
    """CPU µs of a signature that is made and verified, and of a frame that is sealed and opened."""
    sm2, entropy = FastSm2(), random.Random(1).randbytes
    pair = sm2.key_pair(entropy)

    def signed() -> None:
        assert sm2.verify(pair.public, MESSAGE, sm2.sign(pair.private, MESSAGE, entropy=entropy))

    def sealed() -> None:
        text, tag = sm4_gcm_encrypt(bytes(16), bytes(12), FRAME, MESSAGE[:24])
        assert sm4_gcm_decrypt(bytes(16), bytes(12), text, tag, MESSAGE[:24]) == FRAME

    return _us(signed, 1_000), _us(sealed, 5_000)


def _us(once: Callable[[], Any], rounds: int) -> float:
    """Best of three, once the tables of a key are built."""
    best = float("inf")
    for _ in range(100):
        once()
    for _ in range(3):
        began = process_time()
        for _ in range(rounds):
            once()
        best = min(best, (process_time() - began) / rounds)
    return best * 1e6


def _growth(small: Load, large: Load, idle_s: float) -> float:
    """b in CPU time ~ n^b between two numbers of procedures, beyond what a day without any takes."""
    return math.log((large.cpu - idle_s) / (small.cpu - idle_s)) / math.log(large.finished / small.finished)


def measure() -> dict[str, float]:
    """Every figure of this file; seconds are CPU seconds of this process, as the machine may be shared."""
    load(100, 60, "messages")
    airstar = bench_procedures.story(4_000)
    mixed, full = load(2_500, 1_500, "messages"), load(1_000, 600, "full")
    deposits, withdrawals = load(4_000, 0, "messages"), load(0, 2_000, "messages")
    idle = bench_procedures.run(TEXT.format(wire="messages", customers=50, workload="[]"))
    signature_us, frame_us = crypto_us()
    alone_s = (full.signatures * signature_us + full.frames * frame_us) / 1e6
    return {
        "messages: procedures per CPU s": 1e6 / mixed.us,
        "messages: Airstar procedures per CPU s": airstar["finished"] / airstar["cpu"],
        "messages: over Airstar": airstar["cpu"] / airstar["finished"] * 1e6 / mixed.us,
        "messages: pushed deposits per CPU s": 1e6 / deposits.us,
        "messages: withdrawals per CPU s": 1e6 / withdrawals.us,
        "messages: growth exponent, 500 to 4,000 deposits": _growth(load(500, 0, "messages"), deposits, idle["cpu"]),
        "messages: idle connected hours per CPU s": DAY_H / idle["cpu"],
        "full: procedures per CPU s": 1e6 / full.us,
        "full: over messages": mixed.us / full.us,
        "full: SM2 signatures made and verified per procedure": full.signatures / full.finished,
        "full: CPU over SM2 and SM4 alone": full.cpu / alone_s,
        "SM2 sign and verify, us": signature_us,
        "SM4-GCM seal and open, us": frame_us,
    }


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:56} {value:12.3f}")
