"""S16 in a core that is killed at a commit: what was refused is told by it or by the next one, never by neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bochk_world import HKD, BochkWorld

from core.deposits.bochk_s16 import BY_SEQ
from core.wire.bochk_s16 import Record, Report, encode, name_of
from emulators.bochk.s16 import Stored
from scenarios.schema import full_moment_ms

Make = Callable[..., BochkWorld]
AT_MS = full_moment_ms("2026-03-12 06:30")
FIRST = Record("BE26C000000000001", AT_MS, "HKD", "C", 100_000, 777_00, "CHAN TAI MAN", "01233300000001")
WHOLE = encode(Report(HKD, 20260312, 5, full_moment_ms("2026-03-12 09:20"), (FIRST,)))


class Killed(BaseException):
    """The process is gone, right after a commit."""


def file_of(*records: Record) -> bytes:
    return encode(Report(HKD, 20260312, 5, full_moment_ms("2026-03-12 09:20"), records))


def put(one: BochkWorld, content: bytes) -> None:
    one.place.writer.files[name_of(HKD, 5)] = Stored(content, one.clock.now_ms())


def killed_at(one: BochkWorld, commit: int, job: str) -> bool:
    """Run a job in a core that is killed after its commit of this number; whether it came to that. Another core follows
    either way."""
    left = commit

    def count(_name: str, _number: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    one.databases.on_commit = count
    try:
        one.run(one.collector.scheduled[job]())
        was_killed = False
    except Killed:
        was_killed = True
    one.databases.on_commit = None
    one.restart(killed=True)
    return was_killed


def converted(world: Make) -> BochkWorld:
    """One statement was converted, without a name; the bank's own reports never come."""
    one = world("2026-03-12 05:00", settings={"sim.bochk.named_share": 0.0})
    one.bank.fault("s16_missing")
    one.pay_at("2026-03-12 06:30", 100_000)
    one.until("2026-03-12 09:25")
    one.timetable.pause("BochkS16Pull")
    assert [flow.credit_time // 60_000 for flow in one.flows()] == [AT_MS // 60_000]
    return one


def taken_before(one: BochkWorld, content: bytes) -> None:
    put(one, content)
    one.run(one.collector.scheduled["BochkS16Pull"]())
    one.pass_s(60)


REFUSED = [
    ("S16-04", WHOLE.replace(b"T|1|", b"T|2|"), "the trailer says"),
    ("S16-04", file_of(FIRST._replace(reference="BE26C000000000009", at_ms=full_moment_ms("2025-03-12 06:30")), FIRST),
     "months back"),
    ("S16-04", WHOLE.replace(b"CHAN TAI MAN", "CHAN \u202eTAI".encode()), "U+202E"),
    ("S16-02", file_of(FIRST, FIRST._replace(reference="BE26CX1")), "names no seq_no"),
]


@pytest.mark.parametrize("commit", [1, 2])
@pytest.mark.parametrize(("rule", "content", "why"), REFUSED)
def test_a_refusal_is_told_though_the_core_dies_at_any_commit(
    world: Make, rule: str, content: bytes, why: str, commit: int
) -> None:
    one = converted(world)
    put(one, content)
    killed_at(one, commit, "BochkS16Pull")
    one.pass_s(1_300)
    assert any(why in alert["detail"] for alert in one.alerts(rule))
    told = len(one.alerts(rule))
    one.pass_s(3_600)
    assert len(one.alerts(rule)) == told, "the next core knows it"


@pytest.mark.parametrize(("changed", "commit"), [
    ({"name": "LEE SIU MING", "remitter": "01244400000002"}, 1), ({"amount": 100_001}, 1)])
def test_a_correction_is_told_though_the_core_dies(world: Make, changed: dict[str, Any], commit: int) -> None:
    one = converted(world)
    first = FIRST._replace(at_ms=one.flows()[0].credit_time)
    taken_before(one, file_of(first))
    assert one.flows()[0].en_name == "CHAN TAI MAN"
    put(one, file_of(first._replace(**changed)))
    assert killed_at(one, commit, "BochkS16Pull")
    one.pass_s(1_300)
    assert "told again otherwise" in one.alerts("S16-02")[0]["detail"]
    assert one.flows()[0].en_name == changed.get("name", "CHAN TAI MAN")


def test_a_record_that_waited_in_vain_is_told_though_the_core_dies(world: Make) -> None:
    one = converted(world)
    taken_before(one, file_of(FIRST._replace(reference="BE26C000000009999")))
    one.timetable.pause("S16Monitor")
    one.pass_s(3_600)
    assert one.alerts("S16-02") == []
    assert killed_at(one, 1, "S16Monitor")
    one.pass_s(600)
    assert [alert["key"] for alert in one.alerts("S16-02")] == [f"{HKD}:BE26C000000009999"]


def test_a_record_that_contradicts_its_entry_is_told_though_the_core_dies(world: Make) -> None:
    one = converted(world)
    first = FIRST._replace(at_ms=one.flows()[0].credit_time)
    taken_before(one, file_of(first))
    put(one, file_of(first._replace(reference="XX99X000000000001", name="LEE SIU MING")))
    killed_at(one, 2, "BochkS16Pull")
    one.pass_s(1_300)
    assert len(one.alerts("S16-02")) == 1 and "has the record" in one.alerts("S16-02")[0]["detail"]


def test_what_a_killed_core_kept_is_correlated_by_the_first_pull_of_the_next(world: Make) -> None:
    one = converted(world)
    put(one, file_of(FIRST._replace(at_ms=one.flows()[0].credit_time)))
    assert killed_at(one, 1, "BochkS16Pull")
    assert one.flows()[0].en_name == ""
    one.pass_s(700)
    assert one.flows()[0].en_name == "CHAN TAI MAN"


def test_the_entry_of_a_record_is_found_without_a_search_of_the_month(world: Make) -> None:
    one = converted(world)
    text, _ = BY_SEQ["bochk_202603"].for_sqlite()
    plan = one.databases.primary.connection.execute(f"EXPLAIN QUERY PLAN {text}", (0,) * text.count("?")).fetchall()
    assert [row[3].partition("INDEX ")[2] for row in plan] == [
        "ix_flows_bochk_202603_credit_time (credit_time>? AND credit_time<?)"]
