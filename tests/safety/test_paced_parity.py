"""The same scenario on the memory network in virtual time, and paced on real sockets: transitions and books are alike.

*The same* leaves out when: a real line has its own latencies, so moments, event numbers and ids of Procedures differ,
and so may the order of what is independent. What is compared: the way of each customer's deposits and withdrawals
through the states, with reasons; what each bank's book moved; every balance at both ends; statuses of Applies and
Tasks; and that no invariant was broken. The line of CMB drops in the middle of it, on both.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import pytest

from core.trace import Event
from scenarios.banks import OnLoopback, Places
from scenarios.names import names
from scenarios.reading import load_text
from scenarios.runner import Run

SPEED = 40.0
"""Virtual seconds per second: seven minutes in ten seconds, and a time-out of the banks' lines is still 375 ms."""

SCENARIO = """
name: parity
title: Seven minutes at three banks
start: 2026-03-12 10:00
end: 2026-03-12 10:07
seed: 9
wire: full
settings:
  sim.airstar.result.delay: [[1.0, 3.0, 6.0]]
  sim.airstar.outcome.deposit: [[SUCCESS, 1.0]]
  sim.airstar.outcome.withdrawal: [[SUCCESS, 1.0]]
  sim.cmb.unknown.share: 0.0
  sim.cmb.outcome: [[0, 1.0]]
  sim.cmbc.unknown.share: 0.0
  sim.cmbc.outcome: [[0, 1.0]]
customers:
  - {id: ann, balances: {HKD: "90,000"}, at_bank: {HKD: "50,000"}, cards: [airstar]}
  - {id: ben, balances: {HKD: "90,000"}, at_bank: {HKD: "50,000"}, cards: [cmb]}
  - {id: cat, balances: {HKD: "90,000", USD: 0}, at_bank: {HKD: "50,000", USD: "5,000"}, cards: [cmbc]}
  - {id: dan, balances: {HKD: "1,000"}, at_bank: {HKD: "50,000"}, cards: [cmb]}
workload:
  - recorded:
      - {at: "10:00:20", deposit: {customer: ann, channel: airstar, market: HK, ccy: HKD, amount: "1,000"}}
      - {at: "10:00:21", deposit: {customer: ben, channel: cmb, market: HK, ccy: HKD, amount: "2,000", by: bank}}
      - {at: "10:00:22", deposit: {customer: cat, channel: cmbc, market: US, ccy: USD, amount: "3,000"}}
      - {at: "10:00:40", withdraw: {customer: ann, channel: airstar, market: HK, ccy: HKD, amount: "4,000"}}
      - {at: "10:00:41", withdraw: {customer: ben, channel: cmb, market: HK, ccy: HKD, amount: "5,000"}}
      - {at: "10:00:42", withdraw: {customer: cat, channel: cmbc, market: HK, ccy: HKD, amount: "6,000", by: bank}}
      - {at: "10:01:00", withdraw: {customer: dan, channel: cmb, market: HK, ccy: HKD, amount: "7,000", by: bank}}
      - {at: "10:03:00", deposit: {customer: ben, channel: cmb, market: HK, ccy: HKD, amount: "8,000", by: bank}}
      - {at: "10:03:01", withdraw: {customer: dan, channel: cmb, market: HK, ccy: HKD, amount: "500"}}
      - {at: "10:03:30", withdraw: {customer: cat, channel: cmbc, market: HK, ccy: HKD, amount: "9,000"}}
faults:
  - {at: "10:02:00", for: 3m, inject: cmb.drop, with: {server: both}}
  - {at: "10:00:00", inject: cmbc.reject, only: {customer: cat, kind: withdrawal}, with: {message: withdraw}}
expect:
  - {that: deposits, state: open, equals: 0}
  - {that: withdrawals, state: open, equals: 0}
  - {that: recovered, bank: cmb, at_least: 1}
"""


class Story(NamedTuple):
    """What a run comes to, without moments and ids."""

    passed: bool
    ways: Counter[tuple[int, str, str, tuple[str, ...], str]]
    moved: Counter[tuple[str, str, str, int]]
    wishes: Counter[tuple[str, int, str]]
    balances: dict[tuple[int, str], Any]
    ledger: dict[str, dict[str, int]]


def told(speed: float, places: Places | None) -> Story:
    run = Run(load_text(SCENARIO, _names()), _names(), speed=speed, places=places)
    events: list[Event] = []
    run.trace.subscribe(events.append)
    result = run.execute()
    ways: dict[int, tuple[int, str, str, list[str], str]] = {}
    wishes: dict[tuple[str, int], tuple[int, str]] = {}
    for _, _, kind, _, data in events:
        if kind == "procedure":
            way = ways.setdefault(data["id"], (data["uid"], data["biz"], data["channel"], [], ""))
            ways[data["id"]] = (*way[:3], [*way[3], data["to"]], data["reason"])
        elif kind in ("apply", "task"):
            wishes[kind, data[kind]] = (data["uid"], data["status"])
    return Story(
        result.passed, Counter((uid, biz, channel, tuple(way), why) for uid, biz, channel, way, why in ways.values()),
        Counter((data["bank"], data["op"], data["ccy"], data["amount"]) for _, _, kind, _, data in events
                if kind == "bank.book"),
        Counter((kind, *wish) for (kind, _), wish in wishes.items()), run._balances, result.summary["ledger"])


@cache
def _names() -> Any:
    return names()


@cache
def virtual() -> Story:
    return told(float("inf"), None)


@pytest.mark.req("SOCK-03", "SOCK-09", "SOCK-10")
def test_the_story_itself_is_told_whole() -> None:
    """Else there would be nothing to compare: nine Procedures, two of them rejected, and a wish refused at once."""
    story = virtual()
    assert story.passed
    assert sum(story.ways.values()) == 9
    ends = Counter(way[-1] for (_, _, _, way, _), n in story.ways.items() for _ in range(n))
    assert ends == {"end_ok(deposit_ok)": 4, "end_ok(transfer_done)": 3, "end_reject": 2}
    assert sum(n for (kind, _, _), n in story.wishes.items() if kind == "task") == 5  # the refused wish became none


def test_paced_on_real_sockets_it_ends_with_the_same_transitions_and_the_same_books() -> None:
    paced, expected = told(SPEED, OnLoopback()), virtual()
    for field in Story._fields:
        assert getattr(paced, field) == getattr(expected, field), field
