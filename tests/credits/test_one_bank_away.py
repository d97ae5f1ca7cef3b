"""One service for each bank (ADR-006): whichever is away, the deposits at all other banks are credited.

One world with all of them: twelve statement banks, direct debits from two, and the three banks of bank-securities
transfers. One customer deposits at each; one bank, or our service for it, is away from before that until the end.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.banks.notices import MAILBOX_BANKS
from core.runtime.core import Core
from core.storage.primary import MATCHING_BANKS
from scenarios.banks import AIRSTAR, DIRECT_DEBIT, SOCKET_BANKS
from scenarios.runner import RunResult, run
from scenarios.world import World

BANKS = (*MATCHING_BANKS, *DIRECT_DEBIT, AIRSTAR, *SOCKET_BANKS)
AWAY: dict[str, tuple[str, ...]] = {
    "bochk": ("bochk.timeout", "bochk.ftp_down"), "hsbc": ("hsbc.push_off", "hsbc.sftp_down"),
    "icbc": ("icbc.line_down",), "ewb": ("ewb.bad_header",),
    "scb": ("scb.outage", "scb.webhook_lost"),
    **{bank: (f"{bank}.drop, with: {{server: both}}",) for bank in SOCKET_BANKS},
    **{bank: (f"{bank}.outage",) for bank in (
        "hase", "cgb", "ccba", "dbs", "za", "citi", "spd", *DIRECT_DEBIT, AIRSTAR)}}
"""What takes a bank away altogether; EWB brings nothing itself: its files cannot be read."""
SETTINGS: dict[str, Any] = {
    "sim.bochk.named_share": 1.0,
    "sim.notices.delay.median_s": 60, "sim.notices.delay.p95_s": 120, "sim.notices.delay.cap_s": 300,
    "sim.edda.result.same_day": {"hsbc": 1.0, "hase": 1.0}, "sim.edda.result.delay": [60.0, 600.0],
    "sim.edda.result.outcome": [["SUCCESS", 1.0]],
    "sim.airstar.result.delay": [[1.0, 5.0, 5.0]],
    "sim.airstar.outcome.deposit": [["SUCCESS", 1.0], ["FAILED", 0.0]],
    **{f"sim.{bank}.{name}": value for bank in SOCKET_BANKS
       for name, value in (("outcome", [[0, 1.0]]), ("unknown.share", 0.0))}}
CCY = dict.fromkeys(BANKS, "HKD") | {"ewb": "USD"}
AT = dict.fromkeys(BANKS, "07:50") | {AIRSTAR: "08:10"}


def text(away: tuple[str, ...], faults: tuple[str, ...]) -> str:
    """The morning as a scenario: all deposits are credited but those at banks that are away."""
    lines = ["name: one_bank_away", "title: One bank is away", "start: 2026-03-12 07:30", "end: 2026-03-12 10:15",
             "seed: 4601", "wire: messages", f"settings: {json.dumps(SETTINGS)}", "customers:"]
    lines += [f'  - {{id: c_{bank}, at_bank: {{{CCY[bank]}: "50,000"}}, cards: [{bank}]}}' for bank in BANKS]
    lines += ["workload:", "  - recorded:"]
    lines += [f"      - {{at: {AT[bank]}, deposit: {{customer: c_{bank}, channel: {bank}, ccy: {CCY[bank]}, "
              'amount: "10,000"}}' for bank in BANKS]
    lines += ["faults:", *(f"  - {{at: 07:31, inject: {fault}}}" for fault in faults)] if faults else []
    lines += ["expect:"]
    lines += [f"  - {{that: deposits, channel: {bank}, state: end_ok(deposit_ok), equals: {int(bank not in away)}}}"
              for bank in BANKS]
    return "\n".join(lines) + "\n"


def told(tmp_path: Path, away: tuple[str, ...], faults: tuple[str, ...] = (), *, stop: bool = False) -> RunResult:
    path = tmp_path / "one_bank_away.yaml"
    path.write_text(text(away, faults))
    return run(path, folder=tmp_path / "run", tamper=partial(stop_service, banks=away) if stop else None)


def stop_service(world: World, banks: tuple[str, ...]) -> None:
    """A service of ours ends a minute after the start: it asks for nothing, and hears nothing."""

    async def ends(core: Core) -> None:
        for collector in (core.collectors[bank] for bank in banks):
            for job in collector.scheduled:
                core.timetable.pause(job)
            for event in collector.handlers:
                core.jobs.pause(event)
            await collector.stop()

    world.loop.call_after_us(60_000_000, lambda: world.core.spawn(ends(world.core)))


@pytest.mark.req("STMT-01")
@pytest.mark.parametrize("away", ["", *BANKS])
def test_whichever_bank_is_away_every_other_banks_deposit_is_credited(away: str, tmp_path: Path) -> None:
    result = told(tmp_path, (away,), AWAY.get(away, ()))
    assert result.passed, [one for one in result.summary["expectations"] if not one["passed"]]


SERVICES = (*((bank,) for bank in MATCHING_BANKS if bank not in MAILBOX_BANKS), tuple(MAILBOX_BANKS))
"""Banks of each service of ours: the one of "other banks" scans five mailboxes (A-48)."""


@pytest.mark.req("STMT-01")
@pytest.mark.parametrize("banks", SERVICES, ids="-".join)
def test_whichever_service_is_stopped_the_deposits_of_all_others_are_credited(
    banks: tuple[str, ...], tmp_path: Path
) -> None:
    result = told(tmp_path, banks, stop=True)
    assert result.passed, [one for one in result.summary["expectations"] if not one["passed"]]
