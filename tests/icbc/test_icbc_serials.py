"""Which payment a serial is: one that the bank gives twice, and two that look alike (gaps.md B-21)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
from icbc_world import HKD, ON_DUTY, SUPERVISOR, IcbcWorld, icbc_world, ms_of

from core.banks.icbc import CANARY, PROD, Told
from core.clock import hkt_date, yyyymmdd
from core.deposits.icbc_flows import other_payer, other_payment
from core.deposits.icbc_incidents import Handled
from core.deposits.statements import NEW, VOID
from core.errors import Code, Refusal
from core.statement import Entry
from emulators.receiving import Line

WIRES = ("messages", "full")
EVENING = "2026-03-12 23:12"
"""Late enough for a short night: what is paid until 23:50 comes again with the pulls of whole days, 00:20 and 00:30."""


def put(world: IcbcWorld, line: Line) -> None:
    """The bank gives a serial to this line; balances behind it are printed anew."""
    world.bank._lines[line.seq] = line
    ordered, before = dict(sorted(world.bank._lines.items())), 0
    for seq, one in ordered.items():
        before += one.amount if one.credit else -one.amount
        ordered[seq] = dataclasses.replace(one, balance=before)
    world.bank._lines = ordered


def refunded(world: IcbcWorld) -> Line:
    """a pays and is refunded, the script has run: the line whose serial is free again."""
    line = world.pay("a", 100_000)
    world.pass_s(300)
    world.pay("b", 50_000)
    world.pass_s(300)
    world.bank.refund(line.reference)
    world.pass_s(30)
    world.pay("c", 70_000)
    world.pass_s(600)
    script(world, line)
    return line


def script(world: IcbcWorld, line: Line) -> None:
    done = world.run(world.incidents.run_script(HKD, ON_DUTY))
    assert isinstance(done, Handled) and (done.result, done.serials) == ("DONE", (line.reference,))


def again(world: IcbcWorld, line: Line, customer: str = "c", amount: int = 30_000) -> Line:
    """The serial is given to a payment of somebody else."""
    new = dataclasses.replace(line, amount=amount, payer_name=f"CHAN {customer.upper()}",
                              payer_account=f"6222{customer}", booked_ms=world.clock.now_ms() - 1_000)
    assert world.bank.book.move(world.bank.book.account(customer, "HKD"), world.bank._broker["HKD"], amount)
    put(world, new)
    return new


def hear(world: IcbcWorld) -> Counter[str]:
    """How often the bank tells each serial from now on, over both lines."""
    told, answer = Counter[str](), world.bank.answer

    def heard(line: str, request: Any) -> Any:
        said = answer(line, request)
        told.update(record.serial for record in said.records)
        return said

    world.bank.answer = heard  # type: ignore[method-assign]
    return told


def under(world: IcbcWorld, line: Line) -> list[tuple[str, int, str, int]]:
    """(reference, amount, name, status) of what matching knows under a serial."""
    return [(flow.bank_ref, flow.amount, flow.en_name, flow.status) for flow in world.flows()
            if flow.seq_no == line.reference]


def next_day(world: IcbcWorld, day: int = 13) -> None:
    world.until(f"2026-03-{day} 00:50")


# --- a serial given again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
def test_a_serial_given_again_after_a_refund_is_another_entry_once(wire: str) -> None:
    with icbc_world(wire=wire, start=EVENING) as world:
        line = refunded(world)
        first = (line.reference, 100_000, "CHAN A", VOID)
        assert under(world, line) == [first]
        again(world, line)
        next_day(world)
        both = [first, (f"{line.reference}#2", 30_000, "CHAN C", NEW)]
        assert under(world, line) == both
        for group in (PROD, CANARY):
            [row] = [row for row in world.rows(group) if row.serial == line.reference]
            assert (row.bank_ref, row.credit, row.deleted_at) == (f"{line.reference}#2", 30_000, None)
        told = hear(world)
        world.run(world.collector.pull_yesterday())
        assert told.pop(line.reference) == 2 and under(world, line) == both, "a pull of whole days brings it again"
        world.run(world.restart_core())
        world.pass_s(300)
        assert told.pop(line.reference) == 2 and under(world, line) == both, "and another core asks for all"
        entry = world.run(world.incidents.evidence(HKD, line.reference))
        refused = world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "once more"))
        assert isinstance(refused, Refusal) and refused.code is Code.DUPLICATE and under(world, line) == both


def test_a_serial_given_three_times_is_three_entries() -> None:
    with icbc_world(start=EVENING) as world:
        line = refunded(world)
        second = again(world, line)
        next_day(world)
        world.bank.refund(second.reference)
        world.pass_s(300)
        world.pay("b", 10)
        world.pass_s(300)
        script(world, line)
        again(world, line, "b", 20_000)
        next_day(world, 14)
        assert [(ref.removeprefix(line.reference), status) for ref, _, _, status in under(world, line)] == [
            ("", VOID), ("#2", VOID), ("#3", NEW)]
        world.run(world.collector.pull_yesterday())
        assert len(under(world, line)) == 3


def test_use_is_marked_at_the_payment_that_was_used() -> None:
    with icbc_world(start=EVENING) as world:
        line = refunded(world)
        again(world, line)
        next_day(world)
        world.use(f"{line.reference}#2")
        used = {group: [row.is_used for row in world.rows(group) if row.serial == line.reference]
                for group in (PROD, CANARY)}
        assert used == {PROD: [1], CANARY: [1]}
        world.use(line.reference, status=VOID, is_used=1)  # the one that was refunded says nothing of it
        world.use(line.reference, status=VOID, is_used=0)
        assert [row.is_used for row in world.rows(PROD) if row.serial == line.reference] == [1]


def test_a_group_that_never_heard_of_the_first_payment_knows_the_second_by_the_same_name() -> None:
    with icbc_world() as world:
        world.pay("b", 50)
        world.pass_s(300)
        world.bank.fault("line_down", message="line2", for_s=900)
        line = world.pay("a", 100_000)
        world.pass_s(120)
        world.bank.refund(line.reference)
        world.pay("b", 60)
        world.pass_s(1_200)
        script(world, line)
        again(world, line)
        next_day(world)
        rows = [row for group in (PROD, CANARY) for row in world.rows(group) if row.serial == line.reference]
        assert [row.bank_ref for row in rows] == [f"{line.reference}#2"] * 2
        world.bank.fault("line_down", message="line1")
        world.pass_s(800)
        assert world.collector.route == CANARY and len(under(world, line)) == 2, "not once more over the other group"


def test_what_is_credited_by_emergency_before_the_line_tells_it_is_known() -> None:
    with icbc_world(start=EVENING) as world:
        line = refunded(world)
        new = again(world, line)
        entry = world.run(world.incidents.evidence(HKD, line.reference))
        gone = world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "the one that was refunded"))
        assert isinstance(gone, Refusal) and gone.code is Code.DUPLICATE
        flow = world.run(world.incidents.emergency_credit(entry._replace(
            amount=new.amount, en_name="CHAN C", payer_acct="6222c", credit_time=new.booked_ms), SUPERVISOR, "letter"))
        assert not isinstance(flow, Refusal) and (flow.bank_ref, flow.emergency) == (f"{line.reference}#2", 1)
        next_day(world)
        assert [ref for ref, *_ in under(world, line)] == [line.reference, f"{line.reference}#2"]


def test_a_serial_given_again_before_the_script_ran_is_told_and_found_by_it() -> None:
    with icbc_world(start=EVENING) as world:
        line = world.pay("a", 100_000)
        world.pass_s(300)
        world.pay("b", 50_000)
        world.pass_s(300)
        world.bank.refund(line.reference)
        again(world, line)
        next_day(world)
        assert world.open_alerts("ICBC-07") == {f"{group}:{HKD}:{line.reference}" for group in (PROD, CANARY)}
        assert "likely type 1" in world.details("ICBC-07")[0]
        assert under(world, line) == [(line.reference, 100_000, "CHAN A", NEW)]
        script(world, line)
        next_day(world, 14)
        assert under(world, line) == [(line.reference, 100_000, "CHAN A", VOID),
                                      (f"{line.reference}#2", 30_000, "CHAN C", NEW)]
        assert world.open_alerts("ICBC-07") == set()


# --- the groups have another payment each under one serial ------------------------------------------------------


def apart(world: IcbcWorld, down: str, amount: int = 30_000) -> Line:
    """One line is down while a pays and is refunded and c gets the serial: each group has another payment under it."""
    world.pay("b", 50)
    world.pass_s(300)
    world.bank.fault("line_down", message=down, for_s=900)
    line = world.pay("a", 100_000)
    world.pass_s(500)
    world.bank.refund(line.reference)
    again(world, line, amount=amount)
    world.pay("b", 60)
    world.pass_s(1_200)
    return line


def names_under(world: IcbcWorld, line: Line) -> dict[str, list[tuple[str, str]]]:
    """Group -> (reference without the serial, name) of its live row."""
    return {group: [(row.bank_ref.removeprefix(line.reference), row.name) for row in world.rows(group)
                    if row.serial == line.reference] for group in (PROD, CANARY)}


APART = pytest.mark.parametrize("down", ["line1", "line2"])
SAME_OR_NOT = pytest.mark.parametrize("amount", [30_000, 100_000])


@APART
@SAME_OR_NOT
def test_what_stands_under_a_serial_in_the_other_group_may_be_another_payment(down: str, amount: int) -> None:
    with icbc_world(start=EVENING) as world:
        line = apart(world, down, amount)
        later = CANARY if down == "line2" else PROD
        earlier = PROD if down == "line2" else CANARY
        assert names_under(world, line) == {earlier: [("", "CHAN A")], later: [("#2", "CHAN C")]}
        world.use(line.reference)
        used = {group: [row.is_used for row in world.rows(group) if row.serial == line.reference]
                for group in (PROD, CANARY)}
        assert used == {earlier: [1], later: [0]}, "the use of one is not the other's"
        world.use(line.reference, status=NEW, is_used=0)
        next_day(world)
        assert world.open_alerts("ICBC-07") == {f"{earlier}:{HKD}:{line.reference}"}
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and (done.serials, done.result) == (
            (line.reference,), "DONE" if amount == line.amount else "UNRESOLVED")
        next_day(world, 14)
        both = [(line.reference, 100_000, "CHAN A", VOID), (f"{line.reference}#2", amount, "CHAN C", NEW)]
        assert under(world, line) == both
        assert names_under(world, line) == {PROD: [("#2", "CHAN C")], CANARY: [("#2", "CHAN C")]}
        assert world.open_alerts("ICBC-07") == set() == world.open_alerts()
        assert [row.close_balance for row in world.rows(PROD)] == [row.close_balance for row in world.rows(CANARY)]
        world.run(world.restart_core())
        next_day(world, 15)
        assert under(world, line) == both, "once"


@SAME_OR_NOT
def test_it_stays_told_and_can_be_credited_until_matching_has_it(amount: int) -> None:
    with icbc_world(start=EVENING) as world:
        line = apart(world, "line2", amount)
        next_day(world)
        world.run(world.incidents.run_script(HKD, ON_DUTY))
        world.run(world.collector.review(HKD))
        assert world.open_alerts("ICBC-07") == {f"{PROD}:{HKD}:{line.reference}"}, "a row of the canary takes nothing"
        entry = world.run(world.incidents.evidence(HKD, line.reference))
        assert (entry.amount, entry.en_name) == (amount, "CHAN C")
        flow = world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "the line does not tell it"))
        assert not isinstance(flow, Refusal) and flow.bank_ref == f"{line.reference}#2"
        assert world.open_alerts("ICBC-07") == set()
        next_day(world, 14)
        assert [ref for ref, *_ in under(world, line)] == [line.reference, f"{line.reference}#2"]


@APART
@SAME_OR_NOT
def test_each_is_credited_as_the_row_that_tells_it(down: str, amount: int) -> None:
    with icbc_world() as world:
        line = apart(world, down, amount)
        first = Entry("icbc", HKD, line.reference, "HKD", 100_000, "C", line.booked_ms, en_name="CHAN A")
        gone = world.run(world.incidents.emergency_credit(first, SUPERVISOR, "a"))
        assert isinstance(gone, Refusal) and gone.code is Code.DUPLICATE and line.reference in gone.detail
        second = world.run(world.incidents.emergency_credit(
            first._replace(amount=amount, en_name="CHAN C"), SUPERVISOR, "c"))
        if down == "line1":
            assert isinstance(second, Refusal) and second.detail.startswith(f"{line.reference}#2 ")
        else:
            assert not isinstance(second, Refusal) and second.bank_ref == f"{line.reference}#2"
        other = world.run(world.incidents.emergency_credit(first._replace(en_name="LEE"), SUPERVISOR, "?"))
        assert isinstance(other, Refusal) and other.code is Code.INVALID_PARAM and "payer" in other.detail
        assert [ref for ref, *_ in under(world, line)] == [line.reference, f"{line.reference}#2"]


def test_the_other_group_feeds_its_own_payment_when_it_is_its_turn() -> None:
    with icbc_world() as world:
        line = apart(world, "line2")
        world.bank.fault("line_down", message="line1")
        world.pass_s(800)
        assert world.collector.route == CANARY
        assert under(world, line) == [(line.reference, 100_000, "CHAN A", NEW),
                                      (f"{line.reference}#2", 30_000, "CHAN C", NEW)]


# --- two that look alike ----------------------------------------------------------------------------------------


def alike(world: IcbcWorld, other: str = "b", shown: str = "") -> tuple[Line, Line]:
    """Two payments of one second, amount and (no) remark; the second is shown one pull later, or at that moment, and
    then a payment of the new day came between. Nothing else follows them."""
    world.pay("c", 50)
    world.pass_s(300)
    one, two = (world.bank.transfer(who, "HKD", 100_000, remark="") for who in ("a", other))
    hidden = world.bank._lines.pop(two.seq)
    world.pass_s(70)
    if shown:
        world.until("2026-03-13 00:21")
        world.pay("c", 60)
        world.until(shown)
    world.bank._lines[two.seq] = hidden
    world.pass_s(70)
    return one, two


@pytest.mark.req("ICBC-INC-3")
@pytest.mark.parametrize("other", ["a", "b"])
@pytest.mark.parametrize("wire", WIRES)
def test_a_payment_that_is_proven_and_not_taken_is_told_at_once(wire: str, other: str) -> None:
    """By another payer, or by the balances alone; no other statement has to come for it."""
    with icbc_world(wire=wire, start=EVENING) as world:
        _, two = alike(world, other)
        key = f"{PROD}:{HKD}:{two.reference}"
        assert world.alerts("ICBC-07") == [key] and "likely type 3" in world.details("ICBC-07")[0]
        assert len(world.said("duplicate flow", PROD)) == 1 and world.open_alerts() == set()
        assert two.reference not in world.references()
        world.pass_s(480)
        assert world.open_alerts("ICBC-07") == {key}, "once, and only production"
        entry = world.run(world.incidents.evidence(HKD, two.reference))
        assert entry is not None
        flow = world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "two payments"))
        assert not isinstance(flow, Refusal) and flow.bank_ref == two.reference
        assert world.open_alerts("ICBC-07") == set()
        next_day(world)
        assert world.alerts("ICBC-07") == [key] and world.references().count(two.reference) == 1


def test_after_a_restart_it_is_told_again_until_somebody_takes_it() -> None:
    with icbc_world() as world:
        _, two = alike(world)
        world.run(world.restart_core())
        world.pass_s(120)
        assert world.alerts("ICBC-07") == [f"{PROD}:{HKD}:{two.reference}"] * 2
        world.run(world.incidents.emergency_credit(
            world.run(world.incidents.evidence(HKD, two.reference)), SUPERVISOR, "two payments"))
        world.run(world.restart_core())
        world.pass_s(120)
        assert len(world.alerts("ICBC-07")) == 2 and world.open_alerts("ICBC-07") == set()


def over_midnight(world: IcbcWorld) -> Line:
    """The pull of the day before tells of the second of two at 00:30. The core dies, and the next one begins behind a
    row of the new day: by itself the bank does not tell it of the evening any more."""
    _, two = alike(world, shown="2026-03-13 00:29")
    world.until("2026-03-13 00:31")
    assert world.open_alerts("ICBC-07") >= {f"{PROD}:{HKD}:{two.reference}"}
    world.end_core()
    world.until("2026-03-13 00:33")
    return two


def refuse_other_days(world: IcbcWorld, until: str) -> None:
    """Until a moment the bank tells of the day itself only."""
    admits, until_ms = world.bank.admits, ms_of(until)

    def admitted(line: str, request: Any) -> str | None:
        past = 0 < int(request.query.begin_date or 0) < yyyymmdd(hkt_date(world.clock.now_ms()))
        return "B0099" if past and world.clock.now_ms() < until_ms else admits(line, request)

    world.bank.admits = admitted  # type: ignore[method-assign]


@pytest.mark.parametrize("bank", ["answers", "is silent", "refuses other days"])
def test_over_midnight_and_a_restart_it_stands_until_somebody_takes_it(bank: str) -> None:
    """Also while the bank does not say whether it is there. It is escalated as ever."""
    with icbc_world(start="2026-03-12 23:35") as world:
        two = over_midnight(world)
        keys = world.open_alerts("ICBC-07")
        if bank == "refuses other days":
            refuse_other_days(world, "2026-03-13 00:53")
        elif bank == "is silent":
            world.bank.fault("line_down", message="line1", for_s=1_200)
            world.bank.fault("line_down", message="line2", for_s=1_200)
        world.run(world.restart_core())
        world.until("2026-03-13 00:50")
        assert world.open_alerts("ICBC-07") == keys, "the entry is missing still"
        assert set(world.alerts("ICBC-07", "escalated")) == keys
        world.until("2026-03-13 01:00")
        assert world.open_alerts("ICBC-07") == keys
        credit(world, two)
        assert world.open_alerts("ICBC-07") == set()


def credit(world: IcbcWorld, line: Line) -> None:
    entry = Entry("icbc", HKD, line.reference, "HKD", line.amount, "C", line.booked_ms, en_name=line.payer_name)
    assert not isinstance(world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "two payments")), Refusal)


def test_one_that_is_taken_before_the_bank_has_told_of_it_again_is_over_when_it_does() -> None:
    with icbc_world(start="2026-03-12 23:35") as world:
        two = over_midnight(world)
        refuse_other_days(world, "2026-03-13 00:53")
        world.run(world.restart_core())
        world.until("2026-03-13 00:35")
        credit(world, two)
        world.until("2026-03-13 00:58")
        assert world.open_alerts("ICBC-07") == set() and world.references().count(two.reference) == 1
        assert world.details("ICBC-07")[-1] == "it has been taken"


def test_over_midnight_and_a_restart_it_is_over_when_the_bank_shows_it_no_more() -> None:
    with icbc_world(start="2026-03-12 23:35") as world:
        two = over_midnight(world)
        world.bank._lines.pop(two.seq)
        world.run(world.restart_core())
        world.until("2026-03-13 00:39")
        assert world.open_alerts("ICBC-07") == set()
        world.until("2026-03-13 00:50")
        assert world.alerts("ICBC-07", "escalated") == []


def test_what_the_bank_shows_no_more_needs_nobody() -> None:
    with icbc_world() as world:
        _, two = alike(world)
        world.bank._lines.pop(two.seq)
        world.until("2026-03-13 00:31")
        assert len(world.alerts("ICBC-07")) == 1 and world.open_alerts("ICBC-07") == set()


def test_the_same_statement_under_another_serial_proves_nothing() -> None:
    with icbc_world() as world:
        one = world.pay("a", 100_000)
        world.pass_s(70)
        copy = world.pay("a", 100_000)
        world.bank._lines[copy.seq] = dataclasses.replace(copy, booked_ms=one.booked_ms, balance=one.balance)
        world.pass_s(70)
        assert len(world.said("duplicate flow", PROD)) == 1
        assert world.alerts("ICBC-07") == [] and copy.reference not in world.references()


TOLD = Told("1", 5, "HKD", 100, 0, 900, "rent", "CHAN Tai-Man", "6222 1")


@pytest.mark.parametrize(("changed", "payer", "payment"), [
    ({}, False, False), ({"name": "TAI MAN, CHAN", "account": "62221"}, False, False),
    ({"name": ""}, False, False), ({"account": ""}, False, False), ({"name": "", "account": "62222"}, True, True),
    ({"name": "LEE", "account": ""}, True, True), ({"account": "62222"}, True, True), ({"credit": 101}, False, True),
    ({"credit": 0, "debit": 100}, False, True), ({"remark": "x"}, False, False), ({"balance": 1}, False, False)])
def test_what_proves_another_payer_or_payment(changed: dict[str, Any], payer: bool, payment: bool) -> None:
    other = TOLD._replace(**changed)
    assert (other_payer(TOLD, other), other_payment(TOLD, other)) == (payer, payment)
    assert (other_payer(other, TOLD), other_payment(other, TOLD)) == (payer, payment)
