"""Statements of CGB, SCB and Citi, and of the five mailboxes: collected once each, whatever the banks do."""

from __future__ import annotations

from statistics import median, quantiles
from typing import Any

import pytest
from credits_world import credits_world

from core.statement import Entry
from core.wire import fps
from core.wire.numbered import Unread
from emulators.fps.bank import BANKS, FAULTS
from emulators.mailbox.bank import BANKS as MAILBOXES
from emulators.numbered_faults import FAULTS as MAILBOX_FAULTS
from emulators.receiving import Line

WIRES = ("messages", "full")


@pytest.mark.req("STMT-10", "STMT-13")
@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("bank", BANKS)
def test_credits_arrive_within_seconds(bank, wire):
    with credits_world(bank, wire=wire) as world:
        for n in range(12):
            world.pay(bank, "abc"[n % 3], 10_000 + n, ("HKD", "CNH", "USD")[n % 3])
            world.pass_s(7)
        world.bank(bank).charge("HKD", 5, "a fee, of which nobody tells")
        world.pass_s(20)
        assert world.kept(bank) == world.told(bank)
        assert max(world.seconds_to_arrive(bank)) < 20
        flow = world.flows(bank)[0]
        assert (flow.en_name, flow.payer_acct, flow.remark, flow.dr_cr) == ("CHAN A", f"{bank}-000a4321", "for a", "C")


@pytest.mark.req("STMT-11")
@pytest.mark.parametrize("wire", WIRES)
def test_notifications_arrive_within_minutes_to_hours(wire):
    with credits_world(*MAILBOXES, wire=wire) as world:
        for bank in MAILBOXES:
            for n in range(30):
                world.pay(bank, "abc"[n % 3], 10_000 + n, ("HKD", "USD")[n % 2])
        world.pass_s(6 * 3600 + 200)
        for bank in MAILBOXES:
            assert world.kept(bank) == world.told(bank)
            assert {flow.payer_acct[-4:] for flow in world.flows(bank)} == {"4321"}
            assert {len(flow.payer_acct) > 4 for flow in world.flows(bank)} == {bank == "za"}
        waited = [seconds for bank in MAILBOXES for seconds in world.seconds_to_arrive(bank)]
        assert 6 * 60 <= median(waited) <= 30 * 60
        pulled = [t_us // 1_000_000 % 180 for _, t_us, kind, _, data in world.events if kind == "statement"]
        assert set(pulled) <= {0, 1}, "every three minutes"


@pytest.mark.req("STMT-11")
def test_the_delay_of_a_notification_is_as_assumed():
    with credits_world("dbs") as world:
        drawn = [world.bank("dbs").delay_s() for _ in range(20_000)]
    assert median(drawn) == pytest.approx(480, rel=0.03)
    assert quantiles(drawn, n=20)[-1] == pytest.approx(1440, rel=0.05)
    assert max(drawn) <= 21_600


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("bank", "fault"), [
    *((bank, fault) for bank in BANKS for fault in FAULTS[bank]), *(("za", fault) for fault in MAILBOX_FAULTS)])
def test_every_fault_costs_nothing_in_the_end(bank, fault, wire):
    """During a fault credits may wait; after it each is there once, but for those that are not ours to take."""
    quick = {"sim.notices.delay.median_s": 5, "sim.notices.delay.p95_s": 15, "sim.notices.delay.cap_s": 60,
             "jobs.other_bank.period_s": 10}
    with credits_world(bank, wire=wire, settings=quick) as world:
        ident = world.bank(bank).fault(fault)
        lines = [world.pay(bank, "abc"[n % 3], 10_000 + n) for n in range(5)]
        world.pass_s(90)
        world.bank(bank).clear(ident)
        lines += [world.pay(bank, "a", 20_000)]
        world.pass_s(1_000)
        wanted = {line.reference for line in (lines[5:] if fault == "stranger" else lines)}
        assert sorted(world.references(bank)) == sorted(wanted)
        assert sum(flow.amount for flow in world.flows(bank)) == sum(
            line.amount for line in lines if line.reference in wanted)
        assert all(flow.en_name for flow in world.flows(bank)) == (fault != "nameless")


REFUSING = ("outage", "refuse", "garbled", "bad_signature", "no_end")


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("fault", REFUSING)
@pytest.mark.parametrize("bank", BANKS)
def test_a_line_that_fails_is_told_once_and_cleared(bank, fault, wire):
    with credits_world(bank, wire=wire) as world:
        world.pass_s(30)
        world.pay(bank)
        ident = world.bank(bank).fault(fault)
        world.pass_s(120)
        assert world.alerts("CREDIT-01") == [bank]
        world.bank(bank).clear(ident)
        world.pass_s(60)
        assert world.alerts("CREDIT-01", "cleared") == [bank]
        assert world.kept(bank) == world.told(bank)


@pytest.mark.parametrize("wire", WIRES)
def test_scb_calls_first_and_the_list_adds_nothing(wire):
    with credits_world("scb", wire=wire) as world:
        line = world.pay("scb")
        world.pass_s(1)
        assert world.sources("scb") == [(line.reference, "webhook")]
        world.pass_s(60)
        assert world.references("scb") == [line.reference]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(("fault", "source"), [
    ("webhook_lost", "pull"), ("webhook_late", "pull"), ("webhook_repeated", "webhook"), ("webhook_forged", "pull")])
def test_scb_is_believed_by_its_signature_and_does_not_depend_on_its_calls(fault, source, wire):
    with credits_world("scb", wire=wire) as world:
        world.bank("scb").fault(fault)
        line = world.pay("scb")
        world.pass_s(400)
        assert world.sources("scb") == [(line.reference, source)]


def test_a_call_that_nobody_acknowledged_comes_again():
    with credits_world("scb", settings={"jobs.credit_pull.period_s": 3600}) as world:
        world.end_core()
        line = world.pay("scb")
        world.pass_s(2)
        world.run(world.begin_core())
        world.pass_s(6)
        assert world.sources("scb") == [(line.reference, "webhook")]


def test_a_missing_number_holds_the_cursor_until_it_comes():
    with credits_world("cgb") as world:
        world.bank("cgb").fault("gap", count=1, late_s=900.0)
        late, others = world.pay("cgb"), [world.pay("cgb", "b") for _ in range(3)]
        world.pass_s(60)
        assert world.references("cgb") == [line.reference for line in others]
        assert world.collectors["cgb"].cursor == 0
        world.pass_s(900)
        assert sorted(world.references("cgb")) == sorted(line.reference for line in (late, *others))
        assert world.collectors["cgb"].cursor == 4
        assert world.alerts("CREDIT-02") == []


def test_a_number_that_never_comes_is_told_and_passed():
    with credits_world("cgb") as world:
        world.bank("cgb").fault("gap", count=1, late_s=1e6)
        world.pay("cgb")
        line = world.pay("cgb", "b")
        world.pass_s(3700)
        assert world.alerts("CREDIT-02") == ["cgb:1"]
        assert world.collectors["cgb"].cursor == 2
        assert world.references("cgb") == [line.reference]


def test_what_is_refused_is_told_once_and_holds_nothing_up():
    with credits_world("citi") as world:
        world.bank("citi").fault("stranger", count=1)
        world.bank("citi").fault("changed", customer="b")
        world.pay("citi")
        changed = world.pay("citi", "b", 5_000)
        world.pass_s(60)
        assert world.alerts("CREDIT-03") == ["citi:1", f"citi:{changed.reference}"]
        assert [flow.amount for flow in world.flows("citi")] == [5_000]
        assert world.collectors["citi"].cursor == 3


def spoil(world: Any, bank: str, customer: str, **changed: Any) -> None:
    """From now on the bank tells a customer's credits otherwise than anybody could read them. SCB does not call."""
    told = world.bank(bank)
    item_of = told.item_of

    def spoilt(line: Line, number: int, changes: Any) -> Any:
        item = item_of(line, number, changes)
        return item._replace(**changed) if line.customer == customer else item

    told.item_of, told.courier = spoilt, None


def number_of(world: Any, bank: str, line: Line) -> int:
    return next(item.number for item, _ in world.bank(bank)._items if item.reference == line.reference)


UNREADABLE = {
    "a control character": {"name": "CHAN\x07A"}, "a NUL": {"name": "CHAN\x00A"},
    "a mark of direction": {"name": "CHAN \u202eA"},
    "a negative amount": {"amount": "-1.00"}, "no amount": {"amount": ""}, "a name without end": {"name": "A" * 141}}
QUICK = {"sim.notices.delay.median_s": 5, "sim.notices.delay.p95_s": 15, "sim.notices.delay.cap_s": 60,
         "jobs.other_bank.period_s": 10}


@pytest.mark.parametrize("bank", [*BANKS, *MAILBOXES])
@pytest.mark.parametrize("changed", UNREADABLE.values(), ids=UNREADABLE)
def test_one_that_cannot_be_read_holds_up_no_other(bank, changed):
    """It is told once with what the bank said, the cursor passes it, and those around it are kept."""
    with credits_world(bank, wire="full", settings=QUICK) as world:
        spoil(world, bank, "b", **changed)
        first, bad, last = world.pay(bank, "a"), world.pay(bank, "b", 77_700), world.pay(bank, "c")
        world.pass_s(120)
        after = world.pay(bank, "a", 5_000)
        world.pass_s(8_000)
        assert sorted(world.references(bank)) == sorted(line.reference for line in (first, last, after))
        assert world.collectors[bank].cursor == 4
        assert world.alerts("CREDIT-03") == [f"{bank}:{number_of(world, bank, bad)}"]
        assert (world.alerts("CREDIT-01"), world.alerts("CREDIT-02"), world.alerts("CREDIT-04")) == ([], [], [])
        [detail] = world.details("CREDIT-03")
        assert bad.reference in detail and (bad.payer_name in detail or "name" in changed)


def test_half_a_character_holds_up_no_other():
    """No database could be asked for it."""
    with credits_world("citi", wire="messages") as world:
        half = Unread(1, "half a character", '{"sequence":1,"transactionId":"CITI\\ud800"}')
        item_of = world.bank("citi").item_of
        world.bank("citi").item_of = lambda line, number, changes: half if number == 1 else item_of(
            line, number, changes)
        world.pay("citi")
        line = world.pay("citi", "b")
        world.pass_s(60)
        assert (world.references("citi"), world.alerts("CREDIT-03")) == ([line.reference], ["citi:1"])


@pytest.mark.parametrize("bank", [*BANKS, "dbs"])
@pytest.mark.parametrize("ccy", ["EUR", "JPY"])
def test_a_credit_in_a_currency_that_we_have_not_holds_up_no_other(bank, ccy, monkeypatch):
    monkeypatch.setitem(fps.TO_WIRE, ccy, ccy)  # the bank's side can write it
    with credits_world(bank, wire="full", settings=QUICK) as world:
        spoil(world, bank, "a", ccy=ccy)
        bad, last = world.pay(bank, "a"), world.pay(bank, "c")
        world.pass_s(120)
        assert world.references(bank) == [last.reference]
        assert world.alerts("CREDIT-03") == [f"{bank}:{number_of(world, bank, bad)}"]
        assert ccy in world.details("CREDIT-03")[0]
        assert world.collectors[bank].cursor == 2


@pytest.mark.parametrize("bank", [*BANKS, *MAILBOXES])
def test_names_with_wide_spaces_are_names(bank):
    with credits_world(bank, wire="full", settings=QUICK) as world:
        world.bank(bank).open_customer("z", "陳\u3000大\u00a0文", {"HKD": 10**8}, f"{bank}-000z4321")
        world.pay(bank, "z")
        world.pass_s(120)
        assert [flow.en_name for flow in world.flows(bank)] == ["陳\u3000大\u00a0文"]
        assert world.alerts("CREDIT-03") == []


@pytest.mark.parametrize("bank", [*BANKS, "dbs"])
@pytest.mark.parametrize("days", [6, 400, -100, -400])
def test_a_credit_of_another_time_is_told_and_not_kept(bank, days):
    """No round of matching would ever look at it."""
    with credits_world(bank, wire="full", settings=QUICK) as world:
        spoil(world, bank, "a", time_ms=(world.clock.now_ms() // 1_000 + days * 86_400) * 1_000)
        bad, last = world.pay(bank, "a"), world.pay(bank, "b")
        world.pass_s(120)
        assert world.references(bank) == [last.reference]
        assert world.alerts("CREDIT-03") == [f"{bank}:{number_of(world, bank, bad)}"]
        assert world.alerts("CREDIT-04") == []
        assert ("days ahead" if days > 0 else "months back") in world.details("CREDIT-03")[0]


# --- numbers that begin again -------------------------------------------------------------------------------------


def begins_anew(world: Any, bank: str) -> None:
    """The bank has lost its count, and its list with it."""
    world.bank(bank)._items.clear()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("bank", [*BANKS, *MAILBOXES])
def test_a_bank_that_counts_anew_is_noticed(bank, wire):
    with credits_world(bank, wire=wire, settings=QUICK) as world:
        for _ in range(3):
            world.pay(bank)
        world.pass_s(120)
        assert world.alerts("CREDIT-04") == [] and world.collectors[bank].cursor == 3
        world.bank(bank).courier = None
        begins_anew(world, bank)
        world.pay(bank, "b")
        world.pass_s(120)
        assert world.alerts("CREDIT-04") == [bank], "told once, though the bank says nothing for ever"
        assert world.collectors[bank].cursor == 3


@pytest.mark.parametrize("bank", [*BANKS, "dbs"])
def test_a_bank_that_counts_anew_and_catches_up_is_noticed(bank):
    """What it shows is taken all the same."""
    with credits_world(bank, wire="full", settings=QUICK) as world:
        world.pay(bank)
        world.pass_s(120)
        world.bank(bank).courier = None
        begins_anew(world, bank)
        fresh = [world.pay(bank, "b"), world.pay(bank, "c")]
        world.pass_s(120)
        assert (world.alerts("CREDIT-04"), world.alerts("CREDIT-04", "cleared")) == ([bank], [])
        assert world.references(bank)[1:] == [line.reference for line in fresh]


def test_a_call_with_a_number_that_was_told_before_is_noticed_and_kept():
    with credits_world("scb", settings={"jobs.credit_pull.period_s": 600}) as world:
        world.pay("scb")
        world.pass_s(601)
        assert world.collectors["scb"].cursor == 1
        begins_anew(world, "scb")
        line = world.pay("scb", "b")
        world.pass_s(5)
        assert world.alerts("CREDIT-04") == ["scb:call"]
        assert line.reference in world.references("scb")


def test_a_call_with_a_number_that_was_waited_for_is_an_ordinary_one():
    with credits_world("scb") as world:
        world.bank("scb").fault("gap", count=1, late_s=1e6)
        world.bank("scb").fault("webhook_late", count=1, late_s=4_000.0)
        late, line = world.pay("scb"), world.pay("scb", "b")
        world.pass_s(5_000)
        assert world.alerts("CREDIT-02") == ["scb:1"] and world.alerts("CREDIT-04") == []
        assert sorted(world.references("scb")) == sorted((late.reference, line.reference))


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("bank", [*BANKS, "dbs"])
def test_a_list_that_comes_back_clears_it(bank, earlier):
    with credits_world(bank, settings=QUICK) as world:
        world.pay(bank)
        world.pass_s(120)
        if earlier:  # a cursor of a version that did not keep what stood under it
            world.collectors[bank]._under = ""
            world.pass_s(30)
        kept = list(world.bank(bank)._items)
        begins_anew(world, bank)
        world.pass_s(60)
        world.bank(bank)._items[:] = kept
        world.pass_s(60)
        assert (world.alerts("CREDIT-04"), world.alerts("CREDIT-04", "cleared")) == ([bank], [bank])


def another(world: Any, number: int, **changed: Any) -> Any:
    """A credit that nobody knows, under a number of SCB's."""
    item, _ = world.bank("scb")._items[0]
    return item._replace(number=number, reference="SCB-UNHEARD-OF", **changed)


def test_what_a_call_has_shown_is_not_over_because_the_list_is_as_before():
    with credits_world("scb") as world:
        world.pay("scb")
        world.pay("scb", "b")
        world.pass_s(60)
        world.run(world.collectors["scb"].heard(another(world, 1)))
        world.pass_s(60)
        assert (world.alerts("CREDIT-04"), world.alerts("CREDIT-04", "cleared")) == (["scb:call"], [])
        assert "SCB-UNHEARD-OF" in world.references("scb")


def test_a_call_and_a_list_with_other_numbers_are_told_apart():
    with credits_world("scb") as world:
        world.pay("scb")
        world.pass_s(60)
        world.run(world.collectors["scb"].heard(another(world, 1)))
        kept = list(world.bank("scb")._items)
        begins_anew(world, "scb")
        world.pass_s(60)
        world.bank("scb")._items[:] = kept
        world.pass_s(60)
        assert world.alerts("CREDIT-04") == ["scb:call", "scb"]
        assert world.alerts("CREDIT-04", "cleared") == ["scb"]


@pytest.mark.parametrize("missing", [1, 3])
def test_a_number_that_was_given_up_is_waited_for_over_a_restart(missing):
    with credits_world("scb") as world:
        world.pay("scb")
        world.pass_s(60)
        world.bank("scb").courier = None
        world.bank("scb").fault("gap", count=missing, late_s=1e6)
        late = [world.pay("scb") for _ in range(missing)]
        world.pay("scb", "b")
        world.pass_s(3_700)
        assert world.alerts("CREDIT-02") == ["scb:2"]
        world.restart_core()
        for item, _ in world.bank("scb")._items[1:-1]:
            world.run(world.collectors["scb"].heard(item))
        assert world.alerts("CREDIT-04") == []
        assert {line.reference for line in late} <= set(world.references("scb"))
        world.run(world.collectors["scb"].heard(another(world, 1)))
        assert world.alerts("CREDIT-04") == ["scb:call"], "a number that was told is none that is missing"


# --- quiet times --------------------------------------------------------------------------------------------------


SELDOM = QUICK | {"jobs.credit_pull.period_s": 43_200, "jobs.other_bank.period_s": 43_200}
DAYS_90 = 90 * 86_400


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("bank", [*BANKS, *MAILBOXES])
def test_after_quiet_months_the_last_credit_is_what_it_was(bank, restarts):
    """It was credited: told as too old, people would enter it once more. And a bank that counts anew is noticed."""
    with credits_world(bank, settings=SELDOM) as world:
        old = world.pay(bank)
        world.pass_s(90_000)
        assert world.references(bank) == [old.reference]
        world.pass_s(DAYS_90)
        if restarts:
            world.restart_core()
            world.pass_s(90_000)
        assert (world.alerts("CREDIT-03"), world.alerts("CREDIT-04")) == ([], [])
        world.bank(bank).courier = None
        begins_anew(world, bank)
        world.pay(bank, "b")
        world.pass_s(90_000)
        assert (world.alerts("CREDIT-03"), world.alerts("CREDIT-04")) == ([], [bank])


@pytest.mark.parametrize("again", ["called", "listed"])
def test_a_credit_that_is_kept_is_none_that_came_too_late(again):
    """Whichever way the bank tells it once more, under its number or another."""
    with credits_world("scb", settings=SELDOM) as world:
        old = world.pay("scb")
        world.pass_s(90_000 + DAYS_90)
        item, shown_ms = world.bank("scb")._items[0]
        if again == "called":
            world.run(world.collectors["scb"].heard(item))
        else:
            world.bank("scb")._items.append((item._replace(number=2), shown_ms))
            world.pass_s(90_000)
            assert world.collectors["scb"].cursor == 2
        assert (world.alerts("CREDIT-03"), world.alerts("CREDIT-04")) == ([], [])
        assert [flow.bank_ref for flow in world.run(world.statements.open("scb"))] == [old.reference]


REFUSED = {"too old": -100, "ahead": 6, "not ours": 0, "unreadable": 0}


@pytest.mark.parametrize("bank", [*BANKS, "dbs"])
@pytest.mark.parametrize("how", REFUSED)
def test_what_was_refused_is_not_told_again_by_a_new_core(bank, how):
    """People may have entered it by hand meanwhile; nor is it taken later, when its date has come."""
    with credits_world(bank, wire="full", settings=SELDOM) as world:
        if how == "not ours" and bank != "dbs":
            world.bank(bank).fault("stranger", count=1)
        else:
            spoil(world, bank, "a", **({"name": "CHAN\x07A"} if not REFUSED[how] else {
                "time_ms": (world.clock.now_ms() // 1_000 + REFUSED[how] * 86_400) * 1_000}))
        world.pay(bank)
        world.pass_s(90_000)
        assert world.alerts("CREDIT-03") == [f"{bank}:1"] and world.collectors[bank].cursor == 1
        world.restart_core()
        world.pass_s(10 * 86_400)
        assert (world.alerts("CREDIT-03"), world.alerts("CREDIT-04")) == ([f"{bank}:1"], [])
        assert world.references(bank) == []


@pytest.mark.parametrize("bank", [*BANKS, "dbs"])
def test_a_refusal_that_is_told_again_says_that_the_credit_was_entered_meanwhile(bank):
    """A missing number holds the cursor, so a new core, which remembers nothing, hears of the refused one again."""
    with credits_world(bank, wire="full", settings=QUICK) as world:
        spoil(world, bank, "b", name="CHAN\x07A")
        world.bank(bank).fault("gap", customer="a", count=1, late_s=1e6)
        world.pay(bank, "a")
        world.pass_s(120)
        bad = world.pay(bank, "b", 77_700)
        world.pass_s(120)
        by_hand = Entry(bank, bad.our_account, bad.reference, bad.ccy, bad.amount, "C", bad.booked_ms)
        world.run(world.statements.take(bank, [by_hand], "import"))
        world.restart_core()
        world.pass_s(120)
        first, again = world.details("CREDIT-03")
        assert "is kept already" not in first
        assert f"an entry {bad.reference} is kept already: do not enter it a second time" in again


def test_a_refusal_says_what_is_kept_already():
    with credits_world("citi") as world:
        world.bank("citi").fault("changed", customer="b")
        line = world.pay("citi", "b", 5_000)
        world.pass_s(60)
        [detail] = world.details("CREDIT-03")
        assert f"{line.reference}: HKD 5001, but HKD 5000 is kept under this reference: do not enter it" in detail


@pytest.mark.parametrize("bank", [*BANKS, "dbs"])
def test_a_new_core_goes_on_where_the_last_one_stopped(bank):
    with credits_world(bank) as world:
        for _ in range(3):
            world.pay(bank)
        world.pass_s(3600 * 6 if bank == "dbs" else 30)
        world.restart_core()
        assert world.collectors[bank].cursor == 3
        world.pay(bank)
        world.pass_s(3600 * 6 if bank == "dbs" else 30)
        assert world.kept(bank) == world.told(bank)


def test_over_the_turn_of_a_month_nothing_is_taken_twice():
    with credits_world("cgb", start="2026-03-31 23:59") as world:
        world.bank("cgb").fault("duplicate")
        for _ in range(12):
            world.pay("cgb")
            world.pass_s(10)
        world.pass_s(30)
        assert world.kept("cgb") == world.told("cgb")
        assert {flow.id % 10**6 for flow in world.flows("cgb")} == {202603, 202604}


@pytest.mark.parametrize("bank", [*BANKS, "hase"])
def test_a_list_of_many_pages_is_taken_whole(bank):
    few = {"credits.page": 3, "notices.page": 3}
    with credits_world(bank, settings=few) as world:
        for n in range(20):
            world.pay(bank, amount=1_000 + n)
        world.pass_s(6 * 3600 + 200)
        assert world.kept(bank) == world.told(bank)


@pytest.mark.req("STMT-01")
@pytest.mark.parametrize("silent", [*BANKS, *MAILBOXES])
@pytest.mark.parametrize("how", ["stopped", "silent", "refusing"])
def test_one_bank_less_leaves_the_others_flows_arriving(silent, how):
    """Its service is stopped, or its bank says nothing, or no to everything."""
    banks = (*BANKS, *MAILBOXES)
    quick = {"sim.notices.delay.median_s": 5, "sim.notices.delay.p95_s": 15, "sim.notices.delay.cap_s": 60}
    with credits_world(*banks, settings=quick) as world:
        if how == "stopped":
            world.end_core()
            stopped = world.worlds.pop(silent)
            world.run(world.begin_core())
            world.worlds[silent] = stopped
        else:
            world.bank(silent).fault("outage" if how == "silent" else "refuse")
            world.bank(silent).courier = None
        for bank in banks:
            world.pay(bank)
        world.pass_s(600)
        arrived = {bank for bank in banks if world.kept(bank) == world.told(bank)}
        assert arrived == set(banks) - {silent}


def test_in_its_maintenance_a_bank_is_not_asked():
    with credits_world("cgb", start="2026-03-15 02:00") as world:
        world.pay("cgb")
        world.pass_s(600)
        assert not [event for event in world.events if event[2] == "bank.reply"]
        world.until("2026-03-15 05:01")
        assert world.kept("cgb") == world.told("cgb")
