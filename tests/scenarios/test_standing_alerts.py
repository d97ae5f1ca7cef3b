"""Alerts that stand outlive the core that raised them: the next core does not raise them again, and clears them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from sqlalchemy import select

from core.clock import MS_PER_S, US_PER_MS, epoch_ms, show_time
from core.storage import Statement
from core.storage.primary import standing_alert
from core.trace import Event
from scenarios.names import names
from scenarios.reading import load_text
from scenarios.runner import Run
from scenarios.schema import Names
from scenarios.world import World

SCENARIO = """
name: standing
title: What stands when a core dies
start: {start}
end: {end}
seed: 7
wire: messages
{settings}
customers:
  - {{id: alice, balances: {{HKD: 0}}, at_bank: {{HKD: "500,000"}}, cards: [{cards}]}}
workload:
  - recorded:
{workload}
faults:
{faults}
staff: {{reviewers: 1}}
expect:
  - {{that: alerts, severity: Critical, equals: 0}}
"""
BANKS = "dbs, hsbc, bochk, icbc"
LINES = ("dbs.outage", "hsbc.sftp_down", "bochk.ftp_down", "bochk.timeout", "icbc.line_down")
BOCHK_OFTEN = """settings:
  jobs.bochk.pull_at: ["09:35", "09:45", "09:55", "10:50", "11:20", "11:40"]
  jobs.bochk.repeat.times: 1
  jobs.bochk.repeat.every_s: 60"""
STANDING = Statement(select(standing_alert.c.rule, standing_alert.c.alert_key).order_by(
    standing_alert.c.rule, standing_alert.c.alert_key))


@cache
def known() -> Names:
    return names()


def deposit(at: str, channel: str, amount: str = "10,000") -> str:
    return f'      - {{at: "{at}", deposit: {{customer: alice, channel: {channel}, ccy: HKD, amount: "{amount}"}}}}'


def fault(at: str, lasts: str, of: str, given: str = "") -> str:
    return f'  - {{at: "{at}", for: {lasts}, inject: {of}{given and f", with: {given}"}}}'


class Told:
    """What a run told of alerts, and what stood in the database at its end."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.at: dict[tuple[str, str], str] = {}
        self.left: list[Any] = []
        self.violations: list[Any] = []

    def of(self, rule: str, key: str = "") -> list[str]:
        """Phases of an alert, in order: escalations left out."""
        return [phase for of, about, phase in self.events
                if of == rule and key in ("", about) and phase != "escalated"]

    def keys(self, rule: str) -> list[str]:
        return sorted({key for of, key, _ in self.events if of == rule})


def ran(faults: Iterable[str], *, kills: Iterable[str], workload: Iterable[str] = (), settings: str = "",
        start: str = "2026-03-12 09:00", end: str = "2026-03-12 12:00", cards: str = BANKS,
        dies_with: tuple[str, str] | None = None) -> Told:
    """A run in which the core is killed at these moments, each time for half a minute, and when it first tells of the
    alert ``dies_with`` (rule, phase)."""
    told = Told()

    async def strike(world: World) -> None:
        for at in kills:
            await asyncio.sleep((moment(start, at) - world.clock.now_ms()) / MS_PER_S)
            world.kill(30 * MS_PER_S)
        await asyncio.sleep((moment(end, "") - world.clock.now_ms()) / MS_PER_S - 1)
        told.left += await world.databases.primary.all(STANDING, {})

    text = SCENARIO.format(
        start=start, end=end, cards=cards, faults="\n".join(faults), settings=settings,
        workload="\n".join(workload) or deposit(f"{start[11:13]}:01", cards.split(",")[0]))
    worlds: list[World] = []

    def tamper(world: World) -> None:
        worlds.append(world)
        world._keep(strike(world))

    def hear(event: Event) -> None:
        if event[2] == "alert":
            rule, phase = event[4]["rule"], event[4]["phase"]
            told.events.append((rule, event[4]["key"], phase))
            told.at[rule, phase] = show_time(event[1] // US_PER_MS)[11:16]
            if (rule, phase) == dies_with and worlds[0].kills == 0:
                worlds[0].kill(30 * MS_PER_S)

    run = Run(load_text(text, known()), known(), tamper=tamper)
    run.trace.subscribe(hear)
    told.violations += run.execute().summary["invariants"]["violations"]
    return told


def moment(start: str, at: str) -> int:
    return epoch_ms(datetime.fromisoformat(at if len(at) > 5 else f"{start[:10]} {at}" if at else start))


ONCE = ["raised", "cleared"]


@pytest.mark.parametrize("kills", [("10:40",), ("10:35", "10:45", "10:55")])
def test_lines_that_come_back_after_a_kill_are_told_once_and_cleared_once(kills: tuple[str, ...]) -> None:
    told = ran([fault("09:30", "90m", of) for of in LINES], kills=kills, settings=BOCHK_OFTEN)
    assert not told.violations
    for rule, key in (("CREDIT-01", "dbs"), ("HSBC-03", "hsbc"), ("BOCHK-01", "bochk"), ("BOCHK-01", "S16"),
                      ("ICBC-02", "prod"), ("ICBC-02", "canary"), ("ICBC-03", "canary"), ("JOB-01", "BochkPull")):
        assert told.of(rule, key) == ONCE, (rule, key)
    assert len(told.keys("S16-01")) > 1
    assert all(told.of("S16-01", key) == ONCE for key in told.keys("S16-01"))
    assert told.left == []


def test_a_round_that_stands_still_over_kills_is_cleared_when_one_has_ended() -> None:
    told = ran([fault("09:30", "60m", "job.stop", "{job: AutoMatchRound}")], kills=("09:50", "10:10"), cards="hsbc")
    assert not told.violations
    assert told.of("DEP-04") == ONCE and told.left == []
    assert "10:30" <= told.at["DEP-04", "cleared"] < "10:35"


def test_an_alert_that_was_told_without_being_kept_is_told_again() -> None:
    """The core dies at the very moment at which it tells."""
    faults = [fault("09:30", "60m", "dbs.outage")]
    told = ran(faults, kills=(), cards="dbs", dies_with=("CREDIT-01", "raised"))
    assert not told.violations and told.of("CREDIT-01") == ["raised", *ONCE] and told.left == []
    told = ran(faults, kills=(), cards="dbs", dies_with=("CREDIT-01", "cleared"))
    assert not told.violations and told.of("CREDIT-01") == [*ONCE, "cleared"] and told.left == []
