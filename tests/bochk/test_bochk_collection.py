"""Collection over B2E: the cycle and its profiles, conversion, sessions, what comes twice or late, months, failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bochk_world import HKD, BochkWorld
from lxml import etree
from sqlalchemy import select

from core.clock import hkt, show_time
from core.deposits.cursors import Cursors
from core.errors import Misconfigured
from core.runtime.statement_banks import COLLECTORS
from core.settings import Settings
from core.storage import Statement, bank_month
from core.storage.primary import bank_flows, statement_flows

Make = Callable[..., BochkWorld]
PULLS = ["06:00", "07:00", "08:00", "10:00", "11:00", "12:00", "14:00", "15:00", "16:00"]
WIRES = pytest.mark.parametrize("wire", ["messages", "full"])


def busy_day(world: BochkWorld, day: str = "2026-03-12", last: int = 20) -> dict[str, str]:
    """A line every quarter of an hour from five o'clock; gives the moments by our reference of them."""
    booked = {}
    for hour in range(5, last):
        for minute in (5, 20, 35, 50):
            world.until(f"{day} {hour:02d}:{minute:02d}")
            world.pay(1_000 * hour + minute)
            booked[f"{hour:02d}:{minute:02d}"] = f"{hkt(world.clock.now_ms()):%Y%m%d%H%M%S}"
    return booked


def asked(world: BochkWorld) -> list[tuple[str, str]]:
    """(moment, message) of every first listing of a pull."""
    found: list[tuple[str, str]] = []
    for _, us, kind, _, data in world.events:
        if kind == "bank.request" and data["message"] not in ("SignOn", "S16"):
            entry = (show_time(us // 1_000)[11:16], data["message"])
            if entry not in found:
                found.append(entry)
    return found


def batches(world: BochkWorld) -> dict[str, int]:
    """Hour in which converted statements became flows -> how many."""
    hours = [moment[:2] for moment in world.moments("statement", source="B2E")]
    return {hour: hours.count(hour) for hour in dict.fromkeys(hours)}


@pytest.mark.req("BOCHK-01", "BOCHK-02")
@WIRES
def test_each_cycle_pulls_today_statement_activity(world: Make, wire: str) -> None:
    one = world("2026-03-12 05:00", wire=wire)
    busy_day(one)
    one.until("2026-03-12 21:00")
    messages = ["TodayActivity", "AcctStatement", "AcctActivity"] * 3
    assert asked(one) == list(zip(PULLS, messages, strict=True))
    assert {moment[:2] for moment in one.moments("statement", source="B2E")} == {"09", "13", "17"}
    third = [moment for moment, message in asked(one) if message == "AcctActivity"]
    for pulled, converted in zip(third, ("09", "13", "17"), strict=True):
        assert 0 < int(converted) - int(pulled[:2]) <= 2  # within two hours after the third pull


@pytest.mark.req("BOCHK-03")
def test_three_batches_with_everything_visible_at_the_third_pull(world: Make) -> None:
    one = world("2026-03-12 05:00")
    booked = busy_day(one)
    one.until("2026-03-12 23:00")
    assert list(batches(one)) == ["09", "13", "17"]
    kept = {flow.bank_ref[:14]: show_time(flow_kept_ms(one, flow.id))[11:13] for flow in one.flows()}
    for moment, reference in booked.items():
        batch = next((hour for hour, end in (("09", "08:00"), ("13", "12:00"), ("17", "16:00")) if moment < end), None)
        assert kept.get(reference) == batch, moment


def flow_kept_ms(world: BochkWorld, flow_id: int) -> int:
    table = statement_flows[bank_month("bochk", flow_id % 10**6)]
    kept = Statement(select(table.c.created_at).where(table.c.id == flow_id))
    row = world.run(world.databases.primary.first(kept, {}))
    return int(row[0])


def test_morning_only_leaves_the_rest_to_the_next_day(world: Make) -> None:
    one = world("2026-03-12 05:00", settings={"bochk.profile": "morning_only"})
    booked = busy_day(one)
    one.until("2026-03-12 23:00")
    assert asked(one) == list(zip(PULLS[:3], ["TodayActivity", "AcctStatement", "AcctActivity"], strict=True))
    assert list(batches(one)) == ["09"]
    assert len(one.flows()) == sum(moment < "08:00" for moment in booked)
    one.until("2026-03-13 10:00")
    assert len(one.flows()) == len(booked)


def test_a_profile_that_does_not_exist_is_refused(world: Make) -> None:
    one = world()
    for overlay, what in (({"bochk.profile": "hourly"}, "cycle or morning_only"),
                          ({"jobs.bochk.pull_at": ["06:00", "07:00"]}, "no cycles of 3")):
        room = one.room._replace(settings=Settings(overlay))
        with pytest.raises(Misconfigured, match=what):
            COLLECTORS["bochk"](one.place.lines(one.life), room)


# --- sessions and packages --------------------------------------------------------------------------------------


@pytest.mark.req("BOCHK-04")
@WIRES
def test_an_expired_token_costs_one_sign_on_and_no_statement(world: Make, wire: str) -> None:
    """The token dies between two pages of one listing; the listing goes on where it was."""
    one = world("2026-03-12 05:30", wire=wire, settings={"sim.bochk.page": 5, "receiving.bochk.accounts": {"HKD": HKD}})
    for number in range(23):
        one.pay(100 + number)
    one.until("2026-03-12 07:30")
    signed_on = len(one.told("bank.request", message="SignOn"))

    def at_the_third_page(event: Any) -> None:
        """Yesterday's page, refused for the token of an hour ago, and again; then three of today's."""
        if event[2] == "bank.request" and event[4]["message"] == "AcctActivity" and len(
                one.told("bank.request", message="AcctActivity")) == 5:
            one.bank.fault("expired_session", message="AcctActivity", count=1)

    one.trace.subscribe(at_the_third_page)
    one.until("2026-03-12 08:30")
    assert len(one.told("bank.request", message="SignOn")) - signed_on == 2  # one for each expiry
    assert [data["code"] for data in one.told("bank.reply", message="AcctActivity")] == [1, 2, 0, 0, 1, 0, 0, 0]
    one.until("2026-03-12 09:30")
    assert sorted(flow.amount for flow in one.flows()) == [100 + number for number in range(23)]
    assert one.told("alert") == []


def test_a_bank_that_takes_no_token_at_all_is_a_failure_not_a_loop(world: Make) -> None:
    one = world("2026-03-12 05:30")
    one.bank.fault("expired_session")
    one.until("2026-03-12 06:01")
    assert len(one.told("bank.request", message="SignOn")) == 2 * 3  # twice for each account
    assert [job["state"] for job in one.told("job", job="BochkPull")] == ["RETRY"]


@WIRES
def test_a_package_id_taken_for_used_is_replaced(world: Make, wire: str) -> None:
    one = world("2026-03-12 05:30", wire=wire)
    one.pay(700)
    one.bank.fault("duplicate_package", count=4)
    one.until("2026-03-12 09:30")
    assert [flow.amount for flow in one.flows()] == [700]
    refs = [data["ref"] for data in one.told("bank.request") if data["message"] != "S16"]
    assert len(refs) == len(set(refs))


# --- what comes twice, late or anew -----------------------------------------------------------------------------


@pytest.mark.req("BOCHK-05")
@WIRES
def test_a_statement_told_by_every_pull_is_stored_once(world: Make, wire: str) -> None:
    one = world("2026-03-12 05:30", wire=wire)
    one.pay(700)
    one.bank.fault("duplicate_rows")
    one.until("2026-03-13 09:30")
    assert [flow.amount for flow in one.flows()] == [700]
    assert len(one.run(one.databases.primary.all(Statement(select(bank_flows["bochk"].c.id)), {}))) == 1
    assert len(one.told("statement", source="B2E")) == 1


def test_rows_inserted_behind_the_cursor_are_found(world: Make) -> None:
    one = world("2026-03-12 05:00")
    fault = one.bank.fault("back_inserted", hidden_s=4_500)  # 05:10 + 75 min: after TodayActivity, before AcctStatement
    one.pay_at("2026-03-12 05:10", 100)
    one.bank.clear(fault)
    one.pay_at("2026-03-12 05:20", 200)  # a higher seq_no, told at once
    one.until("2026-03-12 06:30")
    assert one.run(raw_amounts(one)) == [200]
    one.until("2026-03-12 09:30")
    assert sorted(flow.amount for flow in one.flows()) == [100, 200]


async def raw_amounts(world: BochkWorld) -> list[int]:
    table = bank_flows["bochk"]
    return [row[0] for row in await world.databases.primary.all(Statement(select(table.c.amount)), {})]


def test_a_row_that_appears_a_day_late_is_found_by_the_whole_days(world: Make) -> None:
    one = world("2026-03-12 15:00")
    one.bank.fault("back_inserted", hidden_s=54_000, count=1)  # until the next morning at 06:30
    one.pay_at("2026-03-12 15:30", 100)
    one.until("2026-03-12 23:00")
    assert one.flows() == []
    one.until("2026-03-13 09:30")
    assert [flow.amount for flow in one.flows()] == [100]


def test_a_count_begun_anew_loses_nothing(world: Make) -> None:
    one = world("2026-03-12 05:00")
    for number in range(5):
        one.pay(100 + number)
    one.until("2026-03-12 09:30")
    one.bank.fault("seq_reset")
    for number in range(3):
        one.pay_at(f"2026-03-12 09:4{number}", 200 + number)
    one.until("2026-03-12 13:30")
    flows = one.flows()
    assert sorted(flow.amount for flow in flows) == [100, 101, 102, 103, 104, 200, 201, 202]
    assert sorted(flow.seq_no for flow in flows) == sorted("12345123")
    assert {flow.en_name for flow in flows} == {"CHAN TAI MAN"}


def test_debits_are_kept_and_void(world: Make) -> None:
    one = world("2026-03-12 05:00")
    one.pay(1_000)
    assert one.bank.charge("HKD", 250, "fee") is not None
    one.until("2026-03-12 09:30")
    assert sorted((flow.dr_cr, flow.status, flow.amount, flow.remark) for flow in one.flows()) == [
        ("C", 0, 1_000, ""), ("D", 6, 250, "fee")]


# --- raw and normalised, months ---------------------------------------------------------------------------------


@pytest.mark.req("DB-03")
def test_raw_rows_first_and_entries_of_them_once(world: Make) -> None:
    one = world("2026-03-12 05:00")
    one.pay(700)
    one.until("2026-03-12 08:30")
    table = bank_flows["bochk"]
    raw = Statement(select(table.c.id, table.c.amount, table.c.is_used))
    assert one.run(one.databases.primary.all(raw, {})) == [(1, 700, 0)]
    assert one.flows() == []
    one.until("2026-03-12 09:30")
    assert one.run(one.databases.primary.all(raw, {})) == [(1, 700, 1)]
    assert [(flow.raw_id, flow.amount) for flow in one.flows()] == [(1, 700)]
    one.until("2026-03-12 23:30")
    assert len(one.flows()) == 1


@pytest.mark.req("DB-SHARD-02", "DB-SHARD-03")
def test_entries_stand_in_the_month_of_their_credit(world: Make) -> None:
    one = world("2026-03-31 15:00")
    one.pay_at("2026-03-31 15:30", 300)
    one.pay_at("2026-03-31 23:59", 301)
    one.pay_at("2026-04-01 00:00", 400)
    one.until("2026-04-01 09:30")
    db = one.databases.primary

    def amounts(month: int) -> list[int]:
        table = statement_flows[bank_month("bochk", month)]
        return [row[0] for row in one.run(db.all(Statement(select(table.c.amount).order_by(table.c.amount)), {}))]

    names = {row[0] for row in db.connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'flows_bochk_%'")
             if not row[0].startswith("sqlite")}
    assert {"flows_bochk_202603", "flows_bochk_202604"} <= names
    assert (amounts(202603), amounts(202604)) == ([300, 301], [400])
    march, april = ("2026-03-01 00:00", "2026-04-01 00:00"), ("2026-04-01 00:00", "2026-05-01 00:00")
    assert [flow.amount for flow in one.flows(*march)] == [300, 301]
    assert [flow.amount for flow in one.flows(*april)] == [400]
    assert [flow.amount for flow in one.flows(march[0], april[1])] == [300, 301, 400]


# --- failures ---------------------------------------------------------------------------------------------------

HARM = {
    "silence": ("timeout", {}), "silence before": ("timeout", {"processed": False}), "9999": ("error", {}),
    "another reply": ("foreign_reply", {}), "cut": ("malformed", {"how": "cut"}),
    "entity": ("malformed", {"how": "entity"}), "oversized": ("malformed", {"how": "oversized"}),
    "too slow": ("slow", {"delay_s": 40.0}), "used packages": ("duplicate_package", {})}


@pytest.mark.parametrize("harm", HARM)
@WIRES
def test_whatever_goes_wrong_with_a_pull_the_next_one_brings_it(world: Make, wire: str, harm: str) -> None:
    one = world("2026-03-12 05:30", wire=wire)
    one.pay(700)
    name, params = HARM[harm]
    fault = one.bank.fault(name, **params)
    one.until("2026-03-12 07:20")
    assert one.run(raw_amounts(one)) == []
    one.bank.clear(fault)
    one.until("2026-03-12 09:30")
    assert [flow.amount for flow in one.flows()] == [700]


def test_three_failures_in_a_row_are_an_alert_and_it_is_cleared(world: Make) -> None:
    one = world("2026-03-12 05:30")
    fault = one.bank.fault("timeout")
    one.until("2026-03-12 06:11")
    assert one.alerts("BOCHK-01") == []
    one.until("2026-03-12 06:30")
    assert len(one.alerts("BOCHK-01")) == 1
    assert [alert["key"] for alert in one.alerts("JOB-01")] == ["BochkPull"]  # after three repetitions
    assert [job["state"] for job in one.told("job", job="BochkPull")] == ["RETRY"] * 3 + ["EXCEPTION"]
    one.bank.clear(fault)
    one.until("2026-03-12 07:30")
    assert len(one.alerts("BOCHK-01")) == len(one.alerts("BOCHK-01", "cleared")) == 1


SPOILT = {
    "nothing credited": {"amount": "0.00"}, "a foreign currency": {"ccy": "EUR"},
    "a negative amount": {"amount": "-1.00"}, "a day that is none": {"txnTime": "20260231060000"},
    "no direction": {"drCr": "X"},
    "far ahead": {"txnTime": "20270412060000"}, "misread": {"txnTime": "20790312060000"},
    "of last year": {"txnTime": "20250312060000"}}


SPOILT_TEXTS = {"a name with a line in it": {"en_name": "CHAN\nTAI MAN"}, "a remark too long": {"remark": "x" * 201}}
"""What only a document can hold."""


def spoil(world: BochkWorld, wire: str, amount: str, changed: dict[str, str]) -> None:
    """The bank tells the movement of this amount otherwise, whoever asks."""
    if wire == "messages":
        of = world.collector._b2e
        of._exchange = SpoiltReplies(of._exchange, amount, changed)
    else:
        exchange = world.collector._b2e._exchange
        exchange._endpoint = SpoiltDocuments(exchange._endpoint, amount, changed)


class SpoiltReplies:
    def __init__(self, inner: Any, amount: str, changed: dict[str, str]) -> None:
        self._inner, self._amount, self._changed = inner, amount, changed

    async def __call__(self, request: Any) -> Any:
        reply = await self._inner(request)
        return reply._replace(records=tuple(
            record | self._changed if record.get("amount") == self._amount else record for record in reply.records))


class SpoiltDocuments:
    def __init__(self, inner: Any, amount: str, changed: dict[str, str]) -> None:
        self._inner, self._amount, self._changed = inner, amount, changed

    async def send(self, *given: Any) -> tuple[int, bytes]:
        status, body = await self._inner.send(*given)
        root = etree.fromstring(body)
        for record in root.iter("Record"):
            if record.findtext("amount") == self._amount:
                for tag, text in self._changed.items():
                    found = record.find(tag)
                    (etree.SubElement(record, tag) if found is None else found).text = text
        return status, etree.tostring(root, xml_declaration=True, encoding="UTF-8")


@pytest.mark.req("BOCHK-05")
@pytest.mark.parametrize(("wire", "changed"), [
    *(pytest.param(wire, changed, id=f"{what}-{wire}") for what, changed in SPOILT.items()
      for wire in ("messages", "full")),
    *(pytest.param("full", changed, id=what) for what, changed in SPOILT_TEXTS.items())])
def test_a_record_that_is_no_statement_holds_up_no_other(world: Make, wire: str, changed: dict[str, str]) -> None:
    """All three listings tell it; it is said once, with what the bank said, and those around it are kept."""
    one = world("2026-03-12 05:00", wire=wire)
    spoil(one, wire, "777.77", changed)
    one.bank.fault("s16_missing")
    for minute, amount, who in ((20, 100_000, "alice"), (21, 77_777, "bob"), (22, 100_001, "alice")):
        one.pay_at(f"2026-03-12 05:{minute}", amount, who=who)
    one.pay_at("2026-03-12 08:30", 100_002)
    one.until("2026-03-13 20:00")
    assert [flow.amount for flow in one.flows()] == [100_000, 100_001, 100_002]
    [alert] = one.alerts("BOCHK-02")
    assert next(iter(changed.values()))[:4] in alert["detail"] and HKD in alert["key"]
    assert one.alerts("BOCHK-01") == []


@WIRES
def test_an_overdrawn_account_is_told_as_it_is(world: Make, wire: str) -> None:
    one = world("2026-03-12 05:00", wire=wire)
    one.bank.fault("s16_missing")
    spoil(one, wire, "1000.00", {"balance": "-25.50"})
    one.pay(100_000)
    one.until("2026-03-12 09:05")
    assert [(flow.amount, flow.balance) for flow in one.flows()] == [(100_000, -2_550)]
    assert one.alerts("BOCHK-02") == []


def test_one_account_that_fails_does_not_keep_the_others(world: Make) -> None:
    one = world("2026-03-12 05:30")
    one.pay(700)
    one.pay(800, ccy="USD")
    one.bank.fault("error", reference=HKD)
    one.until("2026-03-12 09:30")
    assert [(flow.ccy, flow.amount) for flow in one.flows()] == [("USD", 800)]


def test_a_day_without_the_bank_is_made_up(world: Make) -> None:
    one = world("2026-03-10 05:00")
    one.pay_at("2026-03-10 08:30", 100)
    one.until("2026-03-10 13:30")
    fault = one.bank.fault("timeout")
    one.pay_at("2026-03-10 20:00", 200)
    one.pay_at("2026-03-11 12:00", 300)
    one.until("2026-03-12 05:00")
    one.bank.clear(fault)
    one.until("2026-03-12 09:30")
    assert [flow.amount for flow in one.flows()] == [100, 200, 300]


def test_monday_morning_waits_for_the_end_of_maintenance(world: Make) -> None:
    """The bank is away until 08:00: no alert, and AcctActivity at 08:00 brings Sunday's."""
    one = world("2026-03-15 12:30")
    one.pay_at("2026-03-15 20:30", 500)
    one.until("2026-03-15 23:00")
    of_sunday = asked(one)
    one.until("2026-03-16 07:59")
    assert asked(one) == of_sunday  # nothing was sent on Monday
    one.until("2026-03-16 09:30")
    assert [flow.amount for flow in one.flows()] == [500]
    assert one.told("alert") == []


def test_another_core_goes_on_where_the_first_was(world: Make) -> None:
    one = world("2026-03-12 05:30")
    one.pay(100)
    one.until("2026-03-12 06:30")
    one.pay(200)
    one.restart()
    one.until("2026-03-12 09:30")
    one.restart()
    one.pay(300)
    one.until("2026-03-12 13:30")
    assert [flow.amount for flow in one.flows()] == [100, 200, 300]
    cursors = Cursors(one.databases.primary, one.clock, "bochk")
    assert one.run(cursors.read(f"AcctActivity {HKD}")) == "20260312"
    assert one.run(cursors.read(f"TodayActivity {HKD}")) == "20260312:3"


@pytest.mark.parametrize("moment", ["06:00", "07:00", "08:00"])
def test_a_core_killed_in_the_middle_of_a_pull_loses_and_doubles_nothing(world: Make, moment: str) -> None:
    for after_ms in (1, 30, 60, 100, 150, 200, 300):
        one = world("2026-03-12 05:00", settings={"sim.bochk.page": 3, "bochk.convert.batch": 4})
        for number in range(10):
            one.pay(100 + number)
        one.until(f"2026-03-12 {moment}")
        one.pass_s(after_ms / 1_000)
        one.restart(killed=True)
        one.until("2026-03-12 13:30")
        assert sorted(flow.amount for flow in one.flows()) == [100 + number for number in range(10)], after_ms


def test_people_may_ask_for_a_pull_at_any_hour(world: Make) -> None:
    one = world("2026-03-12 02:00")
    one.pay(100)
    one.pass_s(60)
    assert one.timetable.run_now("BochkPull", "staff_1001")
    one.pass_s(60)
    assert [message for _, message in asked(one)] == ["AcctActivity"]
    assert one.run(raw_amounts(one)) == [100]


@WIRES
def test_the_same_seed_gives_the_same_events(world: Make, wire: str) -> None:
    def told() -> list[Any]:
        one = world("2026-03-12 05:00", wire=wire)
        busy_day(one, last=13)
        one.until("2026-03-12 14:00")
        return one.events

    assert told() == told()


def test_both_wires_end_alike(world: Make) -> None:
    def kept(wire: str) -> list[Any]:
        one = world("2026-03-12 05:00", wire=wire)
        busy_day(one, last=16)
        one.until("2026-03-12 18:00")
        return [flow._replace(id=0, raw_id=0) for flow in one.flows()]

    assert kept("messages") == kept("full") != []
