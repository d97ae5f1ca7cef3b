"""Operations staff of a simulated broker: a reaction time is waiting time, only the handling keeps a colleague busy."""

from __future__ import annotations

from itertools import pairwise

import pytest

from core.clock import show_time
from core.deposits.matching import rounds
from emulators import staff
from scenarios.names import names
from scenarios.reading import load_text
from scenarios.runner import Run

DAY = """
name: staff
title: Many withdrawals by hand on one morning
start: 2026-03-12 09:00
end: {end}
seed: 5
population:
  customers: 50
  balances: {{HKD: {{median: "1,000,000", p99: "2,000,000"}}}}
  cards: {{hsbc: 1.0}}
workload:
  - withdrawals: {{channel: hsbc, count: {count}, ccy: {{HKD: 1.0}}, amount: {{of_balance: {{from: 0.005, to: 0.01}}}},
                   hours: office_hours, until: 2026-03-12 09:30}}
staff: {{transfer_officers: {officers}, forgets: 0}}
settings:
  sim.staff.transfer_s: [{reaction}, {reaction}]
  sim.staff.handling_s: [{handling}, {handling}]
"""


def confirmed(*, count: int, officers: int, reaction: float, handling: float,
              end: str = "2026-03-13 12:00") -> list[tuple[str, str]]:
    """Hong Kong seconds at which each withdrawal came to operations and was confirmed by them, in order."""
    came: dict[int, str] = {}
    done: list[tuple[str, str]] = []

    def see(event) -> None:
        data, now = event[4], show_time(event[1] // 1000)[:19]
        if event[2] == "procedure" and data["to"] == "pending(transfer_manual)":
            came[data["id"]] = now
        elif event[2] == "staff" and data["action"] == "SetManualTransferDone":
            assert data["result"] == "OK"
            done.append((came[int(data["subject"][1:])], now))

    text = DAY.format(count=count, officers=officers, reaction=reaction, handling=handling, end=end)
    run = Run(load_text(text, names()), names())
    run.trace.subscribe(see)
    assert run.execute().passed
    return done


def test_reaction_times_pass_side_by_side_however_few_colleagues_there_are():
    """Forty transfers that each lie for two hours, one officer: all are confirmed before noon, not after three days."""
    done = confirmed(count=40, officers=1, reaction=7200.0, handling=30.0)
    assert len(done) == 40
    assert all("2026-03-12 11:00:00" < at < "2026-03-12 12:00:00" for _, at in done)


@pytest.mark.parametrize(("officers", "gap_s"), [(1, 120), (2, 0)])
def test_the_handling_keeps_one_colleague_busy(officers, gap_s):
    """What comes at the same moment is handled one after the other by one, at once by two."""
    done = confirmed(count=40, officers=officers, reaction=0.0, handling=120.0)
    seconds = [int(at[11:13]) * 3600 + int(at[14:16]) * 60 + int(at[17:]) for _, at in done]
    gaps = [later - earlier for earlier, later in pairwise(seconds)]
    assert min(gaps) >= gap_s - 1
    assert gap_s or 0 in gaps


def test_nobody_confirms_outside_office_hours():
    """A transfer that would be confirmed in the night is confirmed the next morning."""
    done = confirmed(count=1, officers=1, reaction=9.5 * 3600, handling=60.0)
    assert [at for _, at in done] == ["2026-03-13 09:01:00"]


def test_the_reminder_that_people_leave_to_the_machine_is_told_in_the_rounds_own_words():
    """The emulated staff may not import the core's rooms: its copy of the words is held here."""
    assert staff._WINDOW == rounds.OUTSIDE
