"""East West Bank's uploads: entries once each, names supplemented, wrong files refused whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import pytest

from core.calendars import Calendars
from core.clock import epoch_ms
from core.deposits.collection import StatementRoom
from core.deposits.ewb import EwbCollector, Uploaded
from core.deposits.statements import Flow, Statements
from core.domain import Role
from core.errors import Code, Misconfigured, Refusal
from core.jobs import Jobs
from core.orchestration.records import Actor
from core.runtime.statement_banks import collectors
from core.settings import Settings
from core.storage import StorageConfig, open_databases
from core.trace import Event, Trace
from core.wire import bai2
from core.wire.ewb_csv import Row, encode
from emulators.ewb.bank import FAULTS
from emulators.loop import LoopClock, SimLoop
from emulators.streams import Streams
from scenarios.banks import DeathTraps, InMemory, Life, Site
from scenarios.banks.ewb import EwbInWorld
from scenarios.names import names

FRONTLINE = Actor("staff_1001", Role.FRONTLINE)
ACCOUNT, DAY = "8600000001", date(2026, 3, 12)
NAMES = names()


class EwbWorld:
    """The bank, the clerk and one core."""

    def __init__(self, start: datetime) -> None:
        self.loop = SimLoop()
        clock = LoopClock(self.loop, epoch_ms(start))
        self.events: list[Event] = []
        trace, settings, streams = Trace(clock, self.events.append), Settings(), Streams(3)
        calendars = Calendars(settings)
        site = Site("messages", NAMES, self.loop, clock, trace, streams, settings, calendars,
                    InMemory(self.loop, streams), DeathTraps(lambda _ms: None))
        self.world, self.life = EwbInWorld(site), Life()
        self.bank = self.world.bank
        for customer in "abc":
            self.bank.open_customer(customer, f"CHAN {customer.upper()}", {"USD": 100_000_000}, f"6222{customer}")
        self.databases = self.run(open_databases(StorageConfig()))
        db = self.databases.primary
        self.statements = Statements(db, clock, trace, keep_months=2)
        jobs = Jobs(db, clock, trace, "w1", settings, {}, self.loop.create_task)
        room = StatementRoom(db, clock, trace, settings, calendars, jobs, self.statements)
        collector = collectors({"ewb": self.world.lines(self.life)}, room)["ewb"]
        assert isinstance(collector, EwbCollector)
        self.collector = collector
        self.run(self.world.open())
        self.run(collector.start(self.loop.create_task))

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def pass_s(self, seconds: float) -> None:
        self.run(self.loop.advance(round(seconds * 1_000_000)))

    def pay(self, customer: str = "a", amount: int = 100_000) -> Any:
        return self.bank.transfer(customer, "USD", amount, remark="rent")

    def upload(self, content: bytes, by: Actor = FRONTLINE) -> Uploaded | Refusal:
        return self.run(self.collector.upload(content, "file", by))

    def flows(self) -> list[Flow]:
        since, until = (epoch_ms(datetime(2026, month, 1)) for month in (2, 6))
        return list(self.run(self.statements.between("ewb", since, until)))

    def said(self) -> list[str]:
        return [data["result"] for _, _, kind, _, data in self.events if kind == "staff"]


@contextmanager
def ewb_world(start: datetime = datetime(2026, 3, 12, 9, 0)) -> Iterator[EwbWorld]:
    world = EwbWorld(start)
    try:
        yield world
    finally:
        world.life.end()
        world.run(world.databases.close())
        world.loop.close()


def csv_of(*rows: tuple[str, int, int], day: date = DAY) -> bytes:
    """(reference, amount, balance) of credits."""
    return encode([Row(ACCOUNT, day, reference, "WIRE", "C", amount, balance) for reference, amount, balance in rows])


def bai2_of(*wires: tuple[str, int, str], kind: str = "195", day: date = DAY) -> bytes:
    """(reference, amount, name)."""
    details = tuple(bai2.Detail(kind, amount, reference, "", name) for reference, amount, name in wires)
    group = bai2.Group(day, (bai2.Account(ACCOUNT, "USD", details),))
    return bai2.encode(bai2.File("EWB", "NOSTRO", day, "1", (group,)))


@pytest.mark.req("STMT-EWB-01")
def test_the_same_csv_twice_adds_nothing():
    with ewb_world() as world:
        content = csv_of(("F1", 100, 100), ("F2", 200, 300))
        assert world.upload(content) == Uploaded("csv", 2, 0, ())
        assert world.upload(content) == Uploaded("csv", 0, 2, ())
        assert world.upload(csv_of(("F2", 200, 300), ("F3", 50, 350))) == Uploaded("csv", 1, 1, ())
        assert [(flow.seq_no, flow.amount, flow.balance) for flow in world.flows()] == [
            ("F1", 100, 100), ("F2", 200, 300), ("F3", 50, 350)]


@pytest.mark.req("STMT-EWB-01")
def test_each_part_of_the_key_tells_entries_apart():
    with ewb_world() as world:
        for content, rows in ((csv_of(("F1", 100, 100), ("F1", 100, 200), ("F1", 101, 200)), 3),
                              (csv_of(("F2", 100, 100)), 1), (csv_of(("F1", 100, 100), day=date(2026, 3, 11)), 1)):
            assert world.upload(content) == Uploaded("csv", rows, 0, ())
        assert len(world.flows()) == 5


@pytest.mark.req("STMT-EWB-01")
@pytest.mark.parametrize("corrected", [("F1", 100, 200), ("F1", 110, 110), ("F1", 110, 100)])
def test_a_corrected_row_is_told_and_is_no_further_payment(corrected):
    with ewb_world() as world:
        world.upload(csv_of(("F1", 100, 100), ("F2", 200, 300)))
        before = world.flows()
        done = world.upload(csv_of(corrected, ("F2", 200, 300), ("F3", 50, 350)))
        assert isinstance(done, Uploaded) and (done.accepted, done.duplicate) == (1, 1)
        [refused] = done.refused
        assert refused.line == 2
        assert refused.reason.startswith("F1 of that day is kept as 1.00 USD with a balance of 1.00")
        assert world.flows()[:2] == before and len(world.flows()) == 3
        assert world.said()[-1] == "csv: 1 accepted, 1 duplicate, 1 refused"


@pytest.mark.req("STMT-EWB-02")
@pytest.mark.parametrize("named_first", [False, True])
def test_a_corrected_balance_leaves_the_name_its_way(named_first):
    with ewb_world() as world:
        report = bai2_of(("F1", 100, "CHAN A"))
        world.upload(csv_of(("F1", 100, 100)))
        if named_first:
            world.upload(report)
        world.upload(csv_of(("F1", 100, 200)))
        done = world.upload(report)
        assert done == Uploaded("bai2", int(not named_first), int(named_first), ())
        assert [(flow.amount, flow.balance, flow.en_name) for flow in world.flows()] == [(100, 100, "CHAN A")]


@pytest.mark.req("STMT-EWB-01")
def test_one_more_payment_under_a_reference_comes_with_those_that_are_kept():
    with ewb_world() as world:
        world.upload(csv_of(("F1", 100, 100)))
        assert world.upload(csv_of(("F1", 100, 100), ("F1", 100, 200))) == Uploaded("csv", 1, 1, ())
        done = world.upload(csv_of(("F1", 100, 200), ("F1", 100, 300)))
        assert isinstance(done, Uploaded) and (done.accepted, done.duplicate, done.refused[0].line) == (0, 1, 3)
        assert [flow.balance for flow in world.flows()] == [100, 200]


def test_a_charge_under_the_reference_of_a_wire_corrects_nothing():
    with ewb_world() as world:
        world.upload(csv_of(("F1", 100, 100)))
        charge = encode([Row(ACCOUNT, DAY, "F1", "WIRE FEE", "D", 15, 85)])
        assert world.upload(charge) == Uploaded("csv", 1, 0, ())


@pytest.mark.req("STMT-EWB-02")
def test_bai2_names_what_the_csv_brought_and_makes_no_entry():
    with ewb_world() as world:
        report = bai2_of(("F1", 100, "CHAN A"), ("F9", 900, "CHAN Z"))
        first = world.upload(report)
        assert isinstance(first, Uploaded) and (first.accepted, len(first.refused)) == (0, 2) and world.flows() == []
        world.upload(csv_of(("F1", 100, 100), ("F1", 200, 300), ("F2", 100, 400)))
        done = world.upload(report)
        assert isinstance(done, Uploaded)
        assert (done.accepted, done.duplicate, [refused.line for refused in done.refused]) == (1, 0, [6])
        assert [(flow.seq_no, flow.amount, flow.en_name) for flow in world.flows()] == [
            ("F1", 100, "CHAN A"), ("F1", 200, ""), ("F2", 100, "")]
        again = world.upload(report)
        assert isinstance(again, Uploaded) and (again.accepted, again.duplicate) == (0, 1)


@pytest.mark.req("STMT-EWB-02")
@pytest.mark.parametrize(("wires", "kind", "named"), [
    ([("F1", 100, "CHAN A")], "195", "CHAN A"), ([("F1", 101, "CHAN A")], "195", ""),
    ([("F2", 100, "CHAN A")], "195", ""), ([("F1", 100, "")], "195", ""), ([("F1", 100, "CHAN A")], "495", "")])
def test_a_name_is_given_by_reference_and_amount_of_an_incoming_wire_only(wires, kind, named):
    with ewb_world() as world:
        world.upload(csv_of(("F1", 100, 100)))
        world.upload(bai2_of(*wires, kind=kind))
        assert [flow.en_name for flow in world.flows()] == [named]


def test_a_name_is_never_replaced_and_never_guessed():
    with ewb_world() as world:
        world.upload(csv_of(("F1", 100, 100), ("F2", 100, 200), ("F2", 100, 300)))
        world.upload(bai2_of(("F1", 100, "CHAN A")))
        done = world.upload(bai2_of(("F1", 100, "WONG B"), ("F2", 100, "CHAN C")))
        assert isinstance(done, Uploaded)
        assert [refused.reason.partition(": ")[2] for refused in done.refused] == [
            "the entry is CHAN A's already", "2 entries have this reference and amount"]
        assert [flow.en_name for flow in world.flows()] == ["CHAN A", "", ""]


@pytest.mark.req("STMT-EWB-03")
@pytest.mark.parametrize("place", [b"49,300,", b"98,300,", b"99,300,"])
def test_one_wrong_control_total_refuses_the_whole_file(place):
    with ewb_world() as world:
        world.upload(csv_of(("F1", 100, 100), ("F2", 200, 300)))
        report = bai2_of(("F1", 100, "CHAN A"), ("F2", 200, "CHAN B"))
        done = world.upload(report.replace(place, place.replace(b"300", b"301")))
        assert isinstance(done, Uploaded)
        assert (done.accepted, len(done.refused)) == (0, 1) and "total" in done.refused[0].reason
        assert [flow.en_name for flow in world.flows()] == ["", ""]


def test_rows_that_cannot_be_taken_are_told_with_line_and_reason():
    with ewb_world() as world:
        content = csv_of(("F1", 100, 100)) + b"123,03/12/2026,F2,WIRE,,1.00,1.00\r\n" + b"x\r\n" + csv_of(
            ("F3", 100, 200)).splitlines(keepends=True)[1]
        done = world.upload(content)
        assert isinstance(done, Uploaded) and (done.kind, done.accepted, done.duplicate) == ("csv", 2, 0)
        assert [(refused.line, refused.reason) for refused in done.refused] == [
            (3, "123 is no account of ours at ewb"), (4, "1 fields instead of 7")]


def test_only_operations_upload():
    with ewb_world() as world:
        for role in Role:
            done = world.upload(csv_of((f"F{role}", 100, 100)), Actor("somebody", role))
            allowed = role in (Role.FRONTLINE, Role.SUPERVISOR)
            assert isinstance(done, Uploaded) == allowed
            if isinstance(done, Refusal):
                assert done.code is Code.FORBIDDEN
        assert len(world.flows()) == 2


def test_in_a_world_a_clerk_brings_both_files_every_few_hours():
    with ewb_world() as world:
        lines = [world.pay("a", 100_000), world.pay("b", 100_000)]
        world.bank.charge("USD", 500, "a fee")
        world.pass_s(2 * 3600)
        lines.append(world.pay("c", 5_000))
        world.pass_s(8 * 3600)
        assert [(flow.seq_no, flow.amount, flow.en_name) for flow in world.flows() if flow.dr_cr == "C"] == [
            (line.reference, line.amount, line.payer_name) for line in lines]
        assert [flow.amount for flow in world.flows() if flow.dr_cr == "D"] == [500]
        assert world.said()[:2] == [
            "csv: 3 accepted, 0 duplicate, 0 refused", "bai2: 2 accepted, 0 duplicate, 0 refused"]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_of_a_file_is_over_with_the_next_one(fault):
    with ewb_world() as world:
        world.bank.fault(fault, count=1)
        for customer in "abc":
            world.pay(customer)
        world.pass_s(2 * 3600)
        assert world.said() != [f"{kind}: 3 accepted, 0 duplicate, 0 refused" for kind in ("csv", "bai2")]
        world.pass_s(4 * 3600)
        assert sorted(flow.en_name for flow in world.flows()) == ["CHAN A", "CHAN B", "CHAN C"]
        assert sum(flow.amount for flow in world.flows()) == 300_000


def test_the_bank_refuses_a_currency_in_which_we_have_no_account():
    with ewb_world() as world:
        for pay in (lambda: world.bank.transfer("a", "HKD", 100), lambda: world.bank.charge("HKD", 100, "a fee"),
                    lambda: world.bank.receive("HKD", 100, payer_name="CHAN A"),
                    lambda: world.bank.top_up("a", "HKD", 100)):
            with pytest.raises(Misconfigured, match=r"accounts: we have no account in HKD at ewb \(pay in USD"):
                pay()
        world.bank.book.check()
        assert world.bank.ever() == []


def test_on_a_day_without_trading_nobody_is_there():
    with ewb_world(datetime(2026, 3, 14, 9, 0)) as world:
        world.pay()
        world.pass_s(24 * 3600)
        assert world.said() == []


