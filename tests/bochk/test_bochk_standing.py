"""What stands at BOCHK outlives a core: S16-03; BOCHK-01 is over when the bank's server answers, not a file by hand.
"""

from __future__ import annotations

from bochk_world import HKD
from test_bochk_s16_collection import Make, converted, hand_in, record_of, the_flow

from core.deposits.importing import import_file
from core.wire.bochk_s16 import Report, encode, name_of


def test_a_statement_without_a_name_is_told_once_and_cleared_by_the_core_that_learns_it(world: Make) -> None:
    one = converted(world, named=0.0)
    flow = the_flow(one)
    one.until("2026-03-12 11:02")
    one.restart(killed=True)
    one.pass_s(300)
    assert [alert["key"] for alert in one.alerts("S16-03")] == [f"F{flow.id}"]
    one.restart(killed=True)
    hand_in(one, record_of(flow))
    one.pass_s(120)
    assert (len(one.alerts("S16-03")), len(one.alerts("S16-03", "cleared"))) == (1, 1)


def test_a_report_that_people_bring_says_nothing_of_the_line(world: Make) -> None:
    one = converted(world, named=0.0)
    one.bank.fault("ftp_down")
    one.pass_s(2_400)
    report = Report(HKD, 20260312, 5, one.clock.now_ms() // 1_000 * 1_000, (record_of(the_flow(one)),))
    done = one.run(import_file("bochk", one.room, name_of(HKD, 5), encode(report)))
    assert (done.accepted, the_flow(one).en_name) == (1, "WONG KA YAN")
    one.restart(killed=True)
    one.pass_s(2_400)
    assert [alert["key"] for alert in one.alerts("BOCHK-01")] == ["S16"] and one.alerts("BOCHK-01", "cleared") == []
