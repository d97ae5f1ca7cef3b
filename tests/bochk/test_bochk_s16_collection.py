"""S16 in our books: correlation, supplement, refusals, and the three monitoring points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bochk_world import HKD, BochkWorld

from core.clock import show_time
from core.deposits.statements import CREDITED, Flow
from core.wire.bochk_s16 import Record, Report, encode, name_of
from emulators.bochk.s16 import Stored
from scenarios.schema import full_moment_ms

Make = Callable[..., BochkWorld]
WIRES = pytest.mark.parametrize("wire", ["messages", "full"])


def the_flow(world: BochkWorld) -> Flow:
    (flow,) = world.flows()
    return flow


def hand_in(world: BochkWorld, *records: Record, period: int = 5, account: str = HKD, name: str = "") -> None:
    """A file of our own making in the bank's folder, and the pull that fetches it."""
    now = world.clock.now_ms()
    world.place.writer.files[name or name_of(account, period)] = Stored(
        encode(Report(account, 20260312, period, now // 1_000 * 1_000, records)), now)
    world.pass_s(601)


def record_of(flow: Flow, **changed: Any) -> Record:
    given = {"reference": f"BE26C{int(flow.seq_no):012d}", "at_ms": flow.credit_time, "ccy": flow.ccy,
             "dr_cr": flow.dr_cr, "amount": flow.amount, "balance": 777_00, "name": "WONG KA YAN",
             "remitter": "99988800000003", "remark": ""}
    return Record(**(given | changed))


def converted(world: Make, *, named: float, **settings: Any) -> BochkWorld:
    """A world in which one statement was converted at nine and the bank's own reports never come."""
    one = world("2026-03-12 05:00", settings={"sim.bochk.named_share": named, **settings})
    one.bank.fault("s16_missing")
    one.pay_at("2026-03-12 06:30", 100_000)
    one.until("2026-03-12 09:05")
    assert (the_flow(one).en_name != "", the_flow(one).payer_acct) == (named == 1.0, "")
    return one


# --- correlation and supplement ---------------------------------------------------------------------------------


@pytest.mark.req("BOCHK-S16-02")
def test_an_entry_with_a_name_gets_balance_and_account_only(world: Make) -> None:
    one = converted(world, named=1.0)
    before = the_flow(one)
    hand_in(one, record_of(before, name="Tai-Man, CHAN"))
    assert the_flow(one) == before._replace(balance=77_700, payer_acct="99988800000003")
    assert before.en_name == "CHAN TAI MAN"
    assert one.alerts("S16-02") == []


@pytest.mark.req("BOCHK-S16-05")
def test_a_record_that_names_another_payer_than_the_entry_is_told_and_changes_nothing(world: Make) -> None:
    one = converted(world, named=1.0)
    before = the_flow(one)
    hand_in(one, record_of(before, name="WONG KA YAN"))
    [alert] = one.alerts("S16-02")
    assert alert["key"] == f"{HKD}:BE26C000000000001" and "'CHAN TAI MAN''s" in alert["detail"]
    one.pass_s(8_000)
    assert len(one.alerts("S16-02")) == 1 and one.alerts("S16-02", "cleared") == []
    changes_nothing(one, before)


@pytest.mark.req("BOCHK-S16-05")
@pytest.mark.parametrize("named", [0.0, 1.0])
def test_two_records_of_one_entry_name_nobody(world: Make, named: float) -> None:
    one = converted(world, named=named)
    before = the_flow(one)
    hand_in(one, record_of(before, name="CHAN TAI MAN"),
            record_of(before, reference="XX99X000000000001", name="WONG KA YAN", remitter="01233300000001"))
    assert [alert["key"] for alert in one.alerts("S16-02")] == [
        f"{HKD}:{prefix}000000000001" for prefix in ("BE26C", "XX99X")]
    one.pass_s(8_000)
    assert len(one.alerts("S16-02")) == 2
    changes_nothing(one, before)


@pytest.mark.req("BOCHK-S16-05")
@pytest.mark.parametrize("again", [{"reference": "XX99X000000000001"}, {"at_ms": full_moment_ms("2026-03-12 06:31")}])
@pytest.mark.parametrize("payer", [{}, {"name": "LEE SIU MING", "remitter": "01244400000002"}])
def test_an_entry_that_has_its_record_takes_no_other(world: Make, again: dict[str, Any], payer: dict[str, str]) -> None:
    one = converted(world, named=0.0)
    flow = the_flow(one)
    hand_in(one, record_of(flow))
    settled = the_flow(one)
    hand_in(one, record_of(flow, **again, **payer), period=6)
    assert the_flow(one) == settled
    [alert] = one.alerts("S16-02")
    assert "has the record BE26C000000000001 already" in alert["detail"]


# --- reports made anew --------------------------------------------------------------------------------------------

CORRECTED = {"name": "LEE SIU MING", "remitter": "01244400000002"}


@pytest.mark.parametrize("named", [0.0, 1.0])
def test_a_corrected_payer_is_told_and_taken_over_while_the_entry_is_unmatched(world: Make, named: float) -> None:
    """The name only where it came from the report: what the statement itself says is no report's to correct."""
    one = converted(world, named=named)
    first = {"name": "CHAN TAI MAN", "remitter": "01233300000001"}
    hand_in(one, record_of(the_flow(one), **first))
    hand_in(one, record_of(the_flow(one), **(CORRECTED if named == 0.0 else first | {"remitter": "5"})), period=6)
    assert (the_flow(one).en_name, the_flow(one).payer_acct) == (
        ("LEE SIU MING", "01244400000002") if named == 0.0 else ("CHAN TAI MAN", "5"))
    [told], [cleared] = one.alerts("S16-02"), one.alerts("S16-02", "cleared")
    assert "account '01233300000001' is" in told["detail"] and "from now on" in cleared["detail"]
    hand_in(one, record_of(the_flow(one), **(CORRECTED if named == 0.0 else first | {"remitter": "5"})), period=7)
    assert len(one.alerts("S16-02")) == 1, "it is known"


@pytest.mark.parametrize("how", [
    {"used": True}, {"named": 1.0}, {"amount": 100_001}, {"status": CREDITED}, {"dr_cr": "D"}])
def test_a_correction_that_comes_too_late_or_says_too_much_is_told_only(world: Make, how: dict[str, Any]) -> None:
    one = converted(world, named=how.get("named", 0.0))
    hand_in(one, record_of(the_flow(one), name="CHAN TAI MAN", remitter="01233300000001"))

    async def move(**to: int) -> None:
        async with one.databases.primary.transaction() as tx:
            assert await one.statements.change(tx, settled, **to) is not None

    settled = the_flow(one)
    if how.get("used") or how.get("status"):
        one.run(move(**({"is_used": 1} if how.get("used") else {"status": CREDITED})))
        settled = the_flow(one)
    movement = {name: how[name] for name in ("amount", "dr_cr") if name in how}
    hand_in(one, record_of(settled, **(CORRECTED | movement)), period=6)
    assert the_flow(one) == settled
    [told] = one.alerts("S16-02")
    assert "people decide" in told["detail"] and one.alerts("S16-02", "cleared") == []


def test_a_record_that_waits_is_corrected_before_it_finds_its_entry(world: Make) -> None:
    one = world("2026-03-12 08:05", settings={"sim.bochk.named_share": 0.0})
    one.bank.fault("s16_missing")
    line = one.pay(4_000)
    one.pass_s(1)
    told = Record("BE26C" + "1".zfill(12), line.booked_ms, "HKD", "C", 4_000, 4_000, "WONG", "01")
    hand_in(one, told)
    hand_in(one, told._replace(**CORRECTED), period=6)
    assert len(one.alerts("S16-02")) == 1 == len(one.alerts("S16-02", "cleared"))
    one.until("2026-03-12 13:01")
    assert (the_flow(one).en_name, the_flow(one).payer_acct) == ("LEE SIU MING", "01244400000002")
    assert len(one.alerts("S16-02")) == 1


@pytest.mark.req("BOCHK-S16-03")
def test_an_entry_without_a_name_gets_all_three(world: Make) -> None:
    one = converted(world, named=0.0)
    before = the_flow(one)
    hand_in(one, record_of(before))
    assert the_flow(one) == before._replace(balance=77_700, payer_acct="99988800000003", en_name="WONG KA YAN")
    assert [data["named"] for data in one.told("statement")] == [False, True]


@pytest.mark.req("BOCHK-S16-03")
@WIRES
def test_the_banks_own_report_names_every_statement(world: Make, wire: str) -> None:
    one = world("2026-03-12 05:00", wire=wire, settings={"sim.bochk.named_share": 0.0})
    for hour in range(6, 16):
        one.pay_at(f"2026-03-12 {hour:02d}:10", 1_000 + hour, who="alice" if hour % 2 else "bob")
    one.until("2026-03-12 18:00")
    assert {(flow.en_name, flow.payer_acct) for flow in one.flows()} == {
        ("CHAN TAI MAN", "01233300000001"), ("LEE SIU MING", "01244400000002")}
    assert len(one.flows()) == 10
    assert one.told("alert") == []


@pytest.mark.req("BOCHK-S16-01")
@pytest.mark.parametrize("reference", ["BE26C1", "BE26C000000000001", "ZZZZZ01"])
def test_prefix_and_padding_do_not_matter(world: Make, reference: str) -> None:
    one = converted(world, named=0.0)
    hand_in(one, record_of(the_flow(one), reference=reference))
    assert the_flow(one).en_name == "WONG KA YAN"


def changes_nothing(one: BochkWorld, before: Flow) -> None:
    assert the_flow(one) == before
    assert one.told("statement", source="S16") == []


@pytest.mark.req("BOCHK-S16-05")
def test_a_record_of_no_statement_is_told_and_changes_nothing(world: Make) -> None:
    one = converted(world, named=0.0)
    before = the_flow(one)
    hand_in(one, record_of(before, reference="BE26C000000009999"))
    received = one.clock.now_ms()
    one.pass_s(3_000)
    assert one.alerts("S16-02") == []
    one.pass_s(700)  # 60 minutes after receipt
    (alert,) = one.alerts("S16-02")
    assert (alert["key"], alert["severity"]) == (f"{HKD}:BE26C000000009999", "Medium")
    assert received < one.clock.now_ms()
    one.pass_s(3_600)
    assert len(one.alerts("S16-02")) == 1
    changes_nothing(one, before)


@pytest.mark.req("BOCHK-S16-06", "BOCHK-S16-05")
@pytest.mark.parametrize("reference", ["BE26C000000000000", "BE26C", "BE26", "1", "BE2026C000000000001", "BE26CX1"])
def test_a_reference_that_names_nothing_is_told_at_once(world: Make, reference: str) -> None:
    one = converted(world, named=0.0)
    before = the_flow(one)
    hand_in(one, record_of(before, reference=reference))
    assert [alert["key"] for alert in one.alerts("S16-02")] == [f"{HKD}:{reference}"]
    one.until("2026-03-12 17:30")
    assert len(one.alerts("S16-02")) == 1
    changes_nothing(one, before)


@pytest.mark.parametrize("differs", [
    {"amount": 100_001}, {"ccy": "USD"}, {"dr_cr": "D"}, {"at_ms": full_moment_ms("2026-03-12 06:36")}])
def test_the_same_seq_no_of_another_movement_is_not_taken_for_it(world: Make, differs: dict[str, Any]) -> None:
    """The bank counts anew: name and account of another payment would credit the wrong customer."""
    one = converted(world, named=0.0)
    before = the_flow(one)
    hand_in(one, record_of(before, **differs))
    one.pass_s(3_600)
    changes_nothing(one, before)


@pytest.mark.parametrize("again", ["2026-03-11 10:00", "2026-03-12 07:00"])
def test_after_a_count_begun_anew_each_movement_gets_its_own_name(world: Make, again: str) -> None:
    """The same seq_no, currency and amount; the report of the second is here before its statement is converted."""
    one = world("2026-03-11 05:00", settings={"sim.bochk.named_share": 0.0})
    one.pay_at("2026-03-11 07:00", 5_000, who="alice")
    one.until("2026-03-11 09:30")
    one.bank.fault("seq_reset")
    one.pay_at(again, 5_000, who="bob")
    one.until("2026-03-12 18:00")
    assert [(flow.seq_no, flow.en_name, flow.payer_acct) for flow in one.flows()] == [
        ("1", "CHAN TAI MAN", "01233300000001"), ("1", "LEE SIU MING", "01244400000002")]


def test_two_movements_that_nothing_tells_apart_get_no_name(world: Make) -> None:
    one = world("2026-03-12 05:00", settings={"sim.bochk.named_share": 0.0})
    one.pay_at("2026-03-12 06:00", 5_000, who="alice")
    one.bank.fault("seq_reset")
    one.pay_at("2026-03-12 06:02", 5_000, who="bob")
    one.until("2026-03-12 12:00")
    assert [flow.en_name for flow in one.flows()] == ["", ""]
    assert len(one.alerts("S16-02")) == 2  # for people


def test_a_report_that_comes_before_its_statement_waits_for_it(world: Make) -> None:
    """The ordinary case of three conversions a day: no alert, however long it waits for the conversion."""
    one = world("2026-03-12 08:05", settings={"sim.bochk.named_share": 0.0})
    one.pay(4_000)
    one.until("2026-03-12 12:59")
    assert one.told("alert") == []
    one.until("2026-03-12 13:01")
    assert the_flow(one).en_name == "CHAN TAI MAN"


def test_a_statement_that_comes_after_the_alert_is_still_supplemented(world: Make) -> None:
    one = world("2026-03-12 05:30", settings={"sim.bochk.named_share": 0.0})
    one.bank.fault("back_inserted", hidden_s=30_000)
    one.pay(4_000)  # shown at 13:50, though it belongs before the first cycle
    one.until("2026-03-12 13:30")
    assert len(one.alerts("S16-02")) == 1
    one.until("2026-03-12 17:30")
    assert the_flow(one).en_name == "CHAN TAI MAN"
    assert len(one.alerts("S16-02", "cleared")) == 1


def test_an_entry_already_credited_is_supplemented_as_it_stands(world: Make) -> None:
    one = converted(world, named=1.0)

    async def credit() -> Flow | None:
        async with one.databases.primary.transaction() as tx:
            return await one.statements.change(tx, the_flow_of[0], status=CREDITED, is_used=1)

    the_flow_of = one.flows()
    one.run(credit())
    hand_in(one, record_of(the_flow_of[0], name="CHAN TAI MAN"))
    assert (the_flow(one).status, the_flow(one).is_used, the_flow(one).payer_acct) == (CREDITED, 1, "99988800000003")


def test_an_empty_account_or_name_takes_nothing_away(world: Make) -> None:
    one = converted(world, named=0.0)
    hand_in(one, record_of(the_flow(one)))
    hand_in(one, record_of(the_flow(one), name="", remitter=""), period=6)
    assert (the_flow(one).en_name, the_flow(one).payer_acct) == ("WONG KA YAN", "99988800000003")
    assert one.alerts("S16-02") == []


# --- files ------------------------------------------------------------------------------------------------------


@pytest.mark.req("BOCHK-S16-07")
@WIRES
def test_every_period_is_taken_and_s14_is_refused(world: Make, wire: str) -> None:
    one = world("2026-03-12 07:50", wire=wire, settings={"receiving.bochk.accounts": {"HKD": HKD}})
    fault = one.bank.fault("s16_old_format")
    one.until("2026-03-12 09:20")
    refused = [alert["key"] for alert in one.alerts("S16-04")]
    assert refused == [f"AGS{HKD}AC1.TXT", f"AGS{HKD}AC2.TXT"]
    assert taken(one) == []
    one.bank.clear(fault)
    one.until("2026-03-13 08:20")
    assert taken(one) == [name_of(HKD, period) for period in range(3, 25)]  # the last one in the next morning


@pytest.mark.req("BOCHK-S16-07")
@WIRES
def test_with_rollback_s14_is_taken(world: Make, wire: str) -> None:
    one = world("2026-03-12 07:50", wire=wire, settings={
        "bochk.s16.s14_rollback": True, "receiving.bochk.accounts": {"HKD": HKD}})
    now = one.clock.now_ms()
    content = encode(Report(HKD, 20260312, 1, now // 1_000 * 1_000, ())).replace(b"S16", b"S14")
    one.place.writer.files[f"AGS{HKD}AC1.TXT"] = Stored(content, now)
    one.until("2026-03-12 08:05")
    assert taken(one) == [f"AGS{HKD}AC1.TXT"]
    assert one.alerts("S16-04") == []


def taken(world: BochkWorld, state: str = "TAKEN") -> list[str]:
    return [row[0] for row in world.databases.primary.connection.execute(
        f"SELECT name FROM bochk_s16_file WHERE state = '{state}' ORDER BY created_at, name")]


@pytest.mark.parametrize(("fault", "reason"), [
    ("s16_garbled", "line 2"), ("s16_wrong_trailer", "the trailer says"), ("s16_partial", "cut off")])
@WIRES
def test_a_file_that_is_wrong_is_refused_whole_until_it_is_right(
    world: Make, wire: str, fault: str, reason: str
) -> None:
    one = world("2026-03-12 07:50", wire=wire, settings={
        "sim.bochk.named_share": 0.0, "receiving.bochk.accounts": {"HKD": HKD}})
    one.bank.fault(fault, count=1, **({"whole_s": 7_200.0} if fault == "s16_partial" else {}))
    line = one.pay_at("2026-03-12 08:05", 4_000)
    one.until("2026-03-12 09:20")
    (alert,) = one.alerts("S16-04")
    assert (alert["key"], alert["severity"]) == (name_of(HKD, 1), "High") and reason in alert["detail"]
    assert taken(one, "REFUSED") == [name_of(HKD, 1)]
    assert one.databases.primary.connection.execute("SELECT count(*) FROM bochk_s16_record").fetchone() == (0,)
    if fault != "s16_partial":  # the bank writes it again
        now = one.clock.now_ms()
        one.place.writer.files[name_of(HKD, 1)] = Stored(encode(Report(HKD, 20260312, 1, now // 1_000 * 1_000, (
            Record(line.reference, line.booked_ms, "HKD", "C", 4_000, 4_000, "CHAN TAI MAN", "1"),))), now)
    one.until("2026-03-12 13:10")
    assert the_flow(one).en_name == "CHAN TAI MAN"
    assert len(one.alerts("S16-04")) == 1


@WIRES
def test_a_file_still_being_written_is_taken_when_it_is_whole(world: Make, wire: str) -> None:
    one = world("2026-03-12 07:50", wire=wire, settings={"receiving.bochk.accounts": {"HKD": HKD}})
    one.bank.fault("s16_partial", count=1, whole_s=300.0)
    one.pay_at("2026-03-12 08:05", 4_000)
    one.until("2026-03-12 09:05")
    assert taken(one) == [name_of(HKD, 1)]
    assert one.alerts("S16-04") == []


def test_a_header_of_another_file_is_refused(world: Make) -> None:
    one = converted(world, named=0.0)
    hand_in(one, record_of(the_flow(one)), period=7, name=name_of(HKD, 8))
    assert [alert["key"] for alert in one.alerts("S16-04")] == [name_of(HKD, 8)]
    assert the_flow(one).en_name == ""


def test_files_of_strangers_are_left_alone(world: Make) -> None:
    one = converted(world, named=0.0)
    flow = the_flow(one)
    hand_in(one, record_of(flow), account="99999999999999")
    hand_in(one, record_of(flow), name="README.TXT")
    assert (the_flow(one), one.alerts("S16-04"), taken(one)) == (flow, [], [])


def test_another_core_fetches_no_file_twice(world: Make) -> None:
    one = world("2026-03-12 07:50")
    one.pay_at("2026-03-12 08:05", 4_000)
    one.until("2026-03-12 09:25")
    files = taken(one)
    one.restart()
    one.until("2026-03-12 09:28")
    one.timetable.run_now("BochkS16Pull", "staff_1001")
    one.pass_s(5)
    assert taken(one) == files != []


# --- the monitoring points --------------------------------------------------------------------------------------


@pytest.mark.req("BOCHK-S16-08", "BOCHK-MON-01")
def test_we_pull_around_the_clock_and_nothing_is_told_outside_the_banks_hours(world: Make) -> None:
    """Friday to Monday: 144 attempts a day; refusals at night and on Sunday are no failure and no alert."""
    one = world("2026-03-13 00:00")
    one.pay_at("2026-03-13 21:00", 900)
    one.until("2026-03-17 00:00")
    per_day: dict[str, int] = {}
    for _, us, kind, _, data in one.events:
        if kind == "bank.request" and data["message"] == "S16":
            day = show_time(us // 1_000)[:10]
            per_day[day] = per_day.get(day, 0) + 1
    assert {day: count for day, count in per_day.items() if day < "2026-03-17"} == dict.fromkeys(
        ("2026-03-13", "2026-03-14", "2026-03-15", "2026-03-16"), 144)
    assert one.told("alert") == []
    assert [job for job in one.told("job", job="BochkS16Pull") if job["state"] != "DONE"] == []
    assert {flow.en_name for flow in one.flows()} == {"CHAN TAI MAN"}


@pytest.mark.req("BOCHK-MON-01")
@pytest.mark.parametrize("fault", ["s16_missing", "ftp_down", "s16_late"])
def test_an_hour_without_a_report_in_the_banks_hours_is_told(world: Make, fault: str) -> None:
    one = world("2026-03-12 07:50", settings={"receiving.bochk.accounts": {"HKD": HKD}})
    one.until("2026-03-12 11:25")
    assert one.alerts("S16-01") == []
    last = full_moment_ms("2026-03-12 11:25") - since_last_ms(one)
    in_force = one.bank.fault(fault, **({"delay_s": 7_200.0} if fault == "s16_late" else {}))
    one.until("2026-03-12 14:00")
    (alert,) = one.alerts("S16-01")
    assert (alert["key"], alert["severity"]) == (HKD, "High")
    raised_us = next(us for _, us, kind, _, data in one.events if kind == "alert" and data["rule"] == "S16-01")
    assert 3_600_000 < raised_us // 1_000 - last <= 3_600_000 + 61_000
    one.bank.clear(in_force)
    one.until("2026-03-12 15:30")
    assert (len(one.alerts("S16-01")), len(one.alerts("S16-01", "cleared"))) == (1, 1)


def since_last_ms(world: BochkWorld) -> int:
    (last,) = world.databases.primary.connection.execute("SELECT max(created_at) FROM bochk_s16_file").fetchone()
    return world.clock.now_ms() - int(last)


@pytest.mark.req("BOCHK-MON-01")
def test_the_delay_is_not_evaluated_before_an_hour_after_opening_nor_after_closing(world: Make) -> None:
    one = world("2026-03-13 07:30")
    one.until("2026-03-13 19:00")
    one.bank.fault("s16_missing")
    one.until("2026-03-16 09:00")  # Friday evening, a Saturday without a report, Sunday, Monday's first hour
    moments = one.moments("alert", rule="S16-01", phase="raised")
    days = [show_time(us // 1_000)[:10] for _, us, kind, _, data in one.events
            if kind == "alert" and data["rule"] == "S16-01"]
    assert set(days) == {"2026-03-14"}  # told on Saturday at 09:00, one for each account
    assert moments == ["09:01"] * 3


@pytest.mark.req("BOCHK-MON-02")
def test_a_statement_without_a_name_for_two_hours_is_told(world: Make) -> None:
    one = converted(world, named=0.0)
    flow = the_flow(one)
    one.until("2026-03-12 10:58")
    assert one.alerts("S16-03") == []
    one.until("2026-03-12 11:02")
    (alert,) = one.alerts("S16-03")
    assert (alert["key"], alert["severity"]) == (f"F{flow.id}", "Medium")
    hand_in(one, record_of(flow))
    one.pass_s(120)
    assert (len(one.alerts("S16-03")), len(one.alerts("S16-03", "cleared"))) == (1, 1)


@pytest.mark.req("BOCHK-MON-02")
def test_neither_a_named_credit_nor_a_debit_is_told(world: Make) -> None:
    one = converted(world, named=1.0)
    assert one.bank.charge("HKD", 100, "fee") is not None
    one.until("2026-03-12 19:59")
    assert len(one.flows()) == 2
    assert one.alerts("S16-03") == []


@pytest.mark.req("BOCHK-MON-02")
def test_a_report_without_names_does_not_count_as_one(world: Make) -> None:
    one = world("2026-03-12 05:30", settings={"sim.bochk.named_share": 0.0})
    one.bank.fault("s16_unnamed")
    one.pay(4_000)
    one.until("2026-03-12 11:05")
    assert len(one.alerts("S16-03")) == 1


@pytest.mark.parametrize(("fault", "told"), [("s16_unknown_prefix", 1), ("s16_stranger", 1)])
@WIRES
def test_the_banks_strange_references_are_told(world: Make, wire: str, fault: str, told: int) -> None:
    one = world("2026-03-12 05:30", wire=wire, settings={"receiving.bochk.accounts": {"HKD": HKD}})
    one.bank.fault(fault, count=1)
    one.pay(4_000)
    one.until("2026-03-12 13:30")
    assert len(one.alerts("S16-02")) == told
    assert len(one.flows()) == 1


def test_the_ftp_line_down_in_the_banks_hours_is_a_failure(world: Make) -> None:
    one = world("2026-03-12 08:05")
    fault = one.bank.fault("ftp_down")
    one.until("2026-03-12 08:45")
    assert [job["state"] for job in one.told("job", job="BochkS16Pull")] == ["RETRY"] * 4
    assert [alert["key"] for alert in one.alerts("BOCHK-01")] == ["S16"]
    one.bank.clear(fault)
    one.until("2026-03-12 09:01")
    assert len(one.alerts("BOCHK-01", "cleared")) == 1


# --- records refused by themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize(("changed", "why"), [
    ({"name": "WONG \u202eKA"}, "U+202E"), ({"remark": "a\x85b"}, "U+0085"),
    ({"at_ms": full_moment_ms("2027-04-12 06:00")}, "days ahead"),
    ({"at_ms": full_moment_ms("2025-03-12 06:00")}, "months back")])
def test_a_record_that_is_refused_costs_no_other(world: Make, changed: dict[str, Any], why: str) -> None:
    one = converted(world, named=0.0)
    flow = the_flow(one)
    bad = record_of(flow, reference="BE26C000000000999", name="LEE", amount=5)
    now = one.clock.now_ms()
    plain = encode(Report(HKD, 20260312, 5, now // 1_000 * 1_000, (
        bad._replace(at_ms=changed.get("at_ms", bad.at_ms)), record_of(flow, name="CHAN\u3000TAI MAN"))))
    for field, text in changed.items():
        if field == "name":
            plain = plain.replace(b"|LEE|", f"|{text}|".encode())
        elif field == "remark":
            plain = plain.replace(b"|99988800000003|\r\n", f"|99988800000003|{text}\r\n".encode(), 1)
    one.place.writer.files[name_of(HKD, 5)] = Stored(plain, now)
    one.pass_s(601)
    assert the_flow(one).en_name == "CHAN\u3000TAI MAN"
    [alert] = one.alerts("S16-04")
    assert alert["key"] == f"{name_of(HKD, 5)}:2" and why in alert["detail"]
    one.pass_s(24 * 3_600)
    assert [data["key"] for data in one.alerts("S16-02")] == []
