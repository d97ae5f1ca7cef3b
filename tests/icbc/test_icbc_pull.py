"""Two groups on two lines: what each pulls, keeps and verifies, and which of them feeds matching."""

from __future__ import annotations

from typing import Any

import pytest
from icbc_world import HKD, IcbcWorld, icbc_world, ms_of

from core.alerts import RULES
from core.banks.icbc import CANARY, PROD
from core.deposits.icbc_flows import breaks_of
from core.domain import Role
from core.settings import Settings

WIRES = ("messages", "full")


def _asked(world: IcbcWorld) -> dict[str, list[tuple[str, str]]]:
    """(user, transaction) of every request that reaches the bank, by line, from now on."""
    seen: dict[str, list[tuple[str, str]]] = {"line1": [], "line2": []}
    admits = world.bank.admits

    def watched(line: str, request: Any) -> str | None:
        seen[line].append((request.head.user, request.head.trans))
        return admits(line, request)

    world.bank.admits = watched  # type: ignore[method-assign]
    return seen


# --- pulling ------------------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-02")
@pytest.mark.parametrize("wire", WIRES)
def test_each_group_asks_over_its_own_line_at_its_own_pace(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        world.pass_s(5)
        seen = _asked(world)
        world.pass_s(3600)
        accounts = len(world.bank.our_accounts)
        assert len(seen["line1"]) == 60 * accounts and len(seen["line2"]) == 15 * accounts
        assert {user for user, _ in seen["line1"]} == {world.settings["icbc.user.prod"]}
        assert {user for user, _ in seen["line2"]} == {world.settings["icbc.user.canary"]}


@pytest.mark.req("ICBC-03")
@pytest.mark.parametrize(("line", "down", "up"), [("line1", PROD, CANARY), ("line2", CANARY, PROD)])
def test_a_group_whose_line_is_away_does_not_use_the_other_line(line: str, down: str, up: str) -> None:
    with icbc_world() as world:
        world.pay("a")
        world.pass_s(300)
        seen = _asked(world)
        world.bank.fault("line_down", message=line)
        world.pay("b")
        world.pass_s(1000)
        other = next(name for name in seen if name != line)
        assert seen[line] == [] and {user for user, _ in seen[other]} == {world.settings[f"icbc.user.{up}"]}
        assert len(world.rows(down)) == 1 and len(world.rows(up)) == 2


def test_the_certificate_of_one_line_is_refused_on_the_other() -> None:
    with icbc_world(wire="full", settings={"icbc.user.canary": "nostro01"}) as world:  # both as production
        world.bank.users["line2"] = "nostro02"
        world.pay("a")
        world.pass_s(600)
        assert len(world.rows(PROD)) == 1 and world.rows(CANARY) == []
        assert "Refused: B0007" in world.said("unusable answer", CANARY)[0]


@pytest.mark.req("ICBC-01")
def test_a_list_whose_signature_is_not_good_is_not_taken() -> None:
    with icbc_world(wire="full") as world:
        world.pass_s(30)
        fault = world.bank.fault("bad_signature", message="line1")
        world.pay("a")
        world.pass_s(200)
        assert world.rows(PROD) == [] and world.flows() == []
        assert "BadSignature" in world.said("unusable answer", PROD)[0]
        assert world.open_alerts("ICBC-02") == {"prod"}
        world.bank.clear(fault)
        world.pass_s(61)
        assert len(world.rows(PROD)) == 1 and len(world.flows()) == 1 and world.open_alerts("ICBC-02") == set()


@pytest.mark.req("ICBC-01")
def test_a_pull_by_dates_brings_each_day_it_names_and_no_other() -> None:
    with icbc_world(start="2026-03-10 09:00") as world:
        serials = []
        for day in (10, 11, 12):
            world.until(f"2026-03-{day} 10:00")
            serials.append(world.pay("a").reference)
            world.pass_s(60)
        line = world.collector.groups[PROD].line
        for since, until, found in ((10, 10, serials[:1]), (10, 11, serials[:2]), (11, 12, serials[1:]), (13, 13, [])):
            told = world.run(line.history(HKD, "HKD", ms_of(f"2026-03-{since} 15:00"), ms_of(f"2026-03-{until} 15:00")))
            assert [record.serial for record in told.records] == found


# --- records that are none ----------------------------------------------------------------------------------------

SPOILT = {
    "a foreign currency": {"ccy": "USD"}, "far ahead": {"time_ms": ms_of("2027-04-12 09:00")},
    "misread": {"time_ms": ms_of("2079-03-12 09:00")}, "of last year": {"time_ms": ms_of("2025-03-12 09:00")}}
SPOILT_TEXTS = {"a remark too long": {"remark": "x" * 501}, "a mark of direction": {"name": "CHAN \u202eB"},
                "a serial that is none": {"serial": "x"}}
"""What only the bank's XML can hold."""


def spoil(world: IcbcWorld, customer: str, changed: dict[str, Any]) -> None:
    """The bank tells a customer's movements otherwise than they are, on both lines."""
    answer = world.bank.answer

    def spoilt(line: str, request: Any) -> Any:
        told = answer(line, request)
        return told._replace(records=tuple(
            record._replace(**changed) if record.account == f"6222{customer}" else record for record in told.records))

    world.bank.answer = spoilt  # type: ignore[method-assign]


@pytest.mark.req("ICBC-01")
@pytest.mark.parametrize(("wire", "changed"), [
    *(pytest.param(wire, changed, id=f"{what}-{wire}") for what, changed in SPOILT.items() for wire in WIRES),
    *(pytest.param("full", changed, id=what) for what, changed in SPOILT_TEXTS.items())])
def test_a_record_that_is_no_statement_holds_up_no_other(wire: str, changed: dict[str, Any]) -> None:
    """It is told once for both groups, with what the bank said; the chain misses its money, as it should."""
    with icbc_world(wire=wire, start="2026-03-12 23:30") as world:  # the day's list comes again at 00:30
        spoil(world, "b", changed)
        first, bad, last = world.pay("a"), world.pay("b", 77_777), world.pay("c")
        world.pass_s(600)
        after = world.pay("a", 5_000)
        world.until("2026-03-13 00:50")
        good = [line.reference for line in (first, last, after)]
        assert world.references() == good and world.serials() == world.serials("canary") == good
        [key], [detail] = world.alerts("ICBC-06"), world.details("ICBC-06")
        assert key.startswith(f"{HKD}:") and (bad.reference in key or "serial" in changed)
        assert "77777" in detail
        assert world.alerts("ICBC-02") == [] and world.alerts("ICBC-01") == ["prod:" + HKD, "canary:" + HKD]


def test_names_with_wide_spaces_are_names() -> None:
    with icbc_world(wire="full") as world:
        world.bank.open_customer("z", "陳\u3000大文", {"HKD": 100_000_000}, "6222z")
        world.pay("z")
        world.pass_s(120)
        assert [flow.en_name for flow in world.flows()] == ["陳\u3000大文"]


@pytest.mark.parametrize("wire", WIRES)
def test_a_list_of_many_pages_comes_whole_and_once(wire: str) -> None:
    with icbc_world(wire=wire, settings={"sim.icbc.page": 3}) as world:
        for n in range(11):
            world.pay("abc"[n % 3], 1_000 + n)
        world.pass_s(120)
        assert len(world.rows(PROD)) == 11 == len(world.flows()) and world.alerts() == []


@pytest.mark.parametrize("wire", WIRES)
def test_pages_without_end_are_noticed_and_nothing_is_kept(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        world.pass_s(30)
        fault = world.bank.fault("next_tag_loop", message="line1")
        world.pay("a")
        world.pass_s(120)
        assert world.rows(PROD) == [] and "comes again" in world.said("unusable answer", PROD)[0]
        world.bank.clear(fault)
        world.pass_s(60)
        assert len(world.rows(PROD)) == 1


@pytest.mark.parametrize("fault", ["garbled", "refuse", "clock_skew"])
def test_an_answer_that_cannot_be_used_is_asked_for_again(fault: str) -> None:
    with icbc_world(wire="full") as world:
        world.pass_s(30)
        ident = world.bank.fault(fault)
        world.pay("a")
        world.pass_s(70)
        assert world.rows(PROD) == []
        world.bank.clear(ident)
        world.pass_s(60)
        assert len(world.rows(PROD)) == 1 and world.alerts() == []


def test_a_serial_given_twice_in_one_list_is_kept_once_and_told() -> None:
    with icbc_world() as world:
        world.pass_s(30)
        world.bank.fault("duplicate_serial", message="line1", count=1)
        first, second = world.pay("a", 1_000), world.pay("b", 2_000)
        world.pass_s(40)
        assert world.serials(PROD) == [first.reference]
        assert len(world.said("duplicate flow", PROD)) == 1
        world.pass_s(60)  # it comes again under its own
        assert world.serials(PROD) == [first.reference, second.reference] == world.references()
        assert world.alerts() == []


def test_nobody_asks_while_the_bank_is_in_maintenance_and_nothing_is_missed() -> None:
    with icbc_world(start="2026-03-12 23:40") as world:
        world.pass_s(5)
        seen = _asked(world)
        world.until("2026-03-12 23:50")
        at_50 = len(seen["line1"])
        world.until("2026-03-12 23:55")
        late = world.pay("a")
        world.until("2026-03-13 00:19")
        assert len(seen["line1"]) == at_50
        early = world.pay("b")
        world.until("2026-03-13 00:25")
        assert world.serials(PROD) == [late.reference, early.reference] == world.serials(CANARY)
        assert world.events and not any(kind == "alert" for _, _, kind, _, _ in world.events)


def test_the_turn_of_a_month_keeps_each_statement_once_in_its_month() -> None:
    with icbc_world(start="2026-03-31 23:30") as world:
        march = world.pay("a")
        world.until("2026-04-01 00:25")
        april = world.pay("b")
        world.until("2026-04-01 07:00")
        assert [(flow.bank_ref, flow.id % 1_000_000) for flow in world.flows()] == [
            (march.reference, 202603), (april.reference, 202604)]
        assert world.serials(CANARY) == [march.reference, april.reference] and world.alerts() == []


def test_yesterday_is_pulled_again_and_changes_nothing() -> None:
    with icbc_world(start="2026-03-12 20:00") as world:
        for customer in "abc":
            world.pay(customer)
            world.pass_s(100)
        world.until("2026-03-13 00:29")
        before, seen = world.rows(PROD) + world.rows(CANARY), _asked(world)
        world.until("2026-03-13 00:31")
        for line in seen.values():
            assert [trans for _, trans in line].count("QHISD") == len(world.bank.our_accounts)
        assert world.rows(PROD) + world.rows(CANARY) == before and len(world.flows()) == 3


@pytest.mark.parametrize("wire", WIRES)
def test_three_failures_in_a_row_are_an_alert_of_that_group(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        world.pass_s(30)
        world.bank.fault("line_down", message="line1", answer="refused", for_s=125)
        world.pass_s(125)
        assert world.alerts("ICBC-02") == []  # two
        world.bank.fault("line_down", message="line1", answer="refused", for_s=180)
        world.pass_s(180)
        assert world.alerts("ICBC-02") == ["prod"]
        world.pass_s(60)
        assert world.open_alerts("ICBC-02") == set() and world.alerts("ICBC-02") == ["prod"]


@pytest.mark.parametrize("wire", WIRES)
def test_a_core_that_begins_again_goes_on_after_its_last_row(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        for n in range(4):
            world.pay("abc"[n % 3], 1_000 + n)
            world.pass_s(33)
            if n == 1:
                world.run(world.restart_core())
        world.pass_s(300)
        serials = [line.reference for line in world.bank.lines()]
        assert world.serials(PROD) == serials == world.serials(CANARY) == world.references()
        assert world.alerts() == []


def test_both_wires_keep_the_same_rows_and_entries() -> None:
    kept = []
    for wire in WIRES:
        with icbc_world(wire=wire) as world:
            world.bank.fault("ghost", count=1)
            for n in range(5):
                world.pay("abc"[n % 3], 1_000 + n, remark="" if n else "名 <&>")
                world.pass_s(97)
            world.bank.charge("HKD", 300, "fee")
            world.pass_s(400)
            told = [[row.told for row in world.rows(group)] for group in (PROD, CANARY)]
            kept.append((told, world.references(), world.alerts(), [flow.status for flow in world.flows()]))
    assert kept[0] == kept[1] and kept[0][3][-1] == 6  # our own payment is nothing to be matched


# --- the chain ----------------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-05")
@pytest.mark.parametrize(("group", "line"), [(PROD, "line1"), (CANARY, "line2")])
def test_a_balance_that_does_not_follow_alerts_for_the_group_that_heard_it(group: str, line: str) -> None:
    with icbc_world() as world:
        world.pay("a", 1_000)
        world.pass_s(300)
        booked = world.pay("b", 2_000)
        answer = world.bank.answer

        def wrong(name: str, request: Any) -> Any:
            said = answer(name, request)
            return said._replace(records=tuple(
                record._replace(balance="2999") if record.serial == booked.reference else record
                for record in said.records)) if name == line else said

        world.bank.answer = wrong  # type: ignore[method-assign]
        world.pass_s(300)
        assert world.alerts() == [f"{group}:{HKD}"]
        assert "close_balance 29.99 HKD instead of 30.00 HKD" in world.details()[0]
        broken = next(row for row in world.rows(group) if row.serial == booked.reference)
        assert f"flow_id {broken.id}" in world.details()[0]
        world.bank.answer = answer  # type: ignore[method-assign]
        world.until("2026-03-13 00:31")  # the whole days, as the bank prints them
        assert world.open_alerts() == set() and breaks_of(world.rows(group)) == []


@pytest.mark.req("ICBC-05")
def test_the_chain_of_a_whole_day_with_fees_holds() -> None:
    with icbc_world() as world:
        for n in range(60):
            world.pay("abc"[n % 3], 1_000 + n * 7)
            if n % 5 == 0:
                world.bank.charge("HKD", 100 + n, "fee")
            world.pass_s(137)
        world.pass_s(300)
        assert len(world.rows(PROD)) == 72 == len(world.rows(CANARY)) and world.alerts() == []
        balance = world.run(world.collector.groups[PROD].line.balance(HKD, "HKD"))
        assert world.rows(PROD)[-1].close_balance == balance == world.bank.balance("broker", "HKD")


def test_what_was_broken_when_a_core_died_is_told_by_the_next() -> None:
    with icbc_world() as world:
        world.bank.fault("refund", refund_s=400, count=1)
        world.pay("a")
        world.pass_s(500)
        world.pay("b")
        world.pass_s(300)
        assert world.open_alerts() == {f"prod:{HKD}", f"canary:{HKD}"}
        world.run(world.restart_core())
        assert world.alerts().count(f"prod:{HKD}") == 2


# --- use ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-06")
def test_a_row_is_used_in_both_groups_when_matching_uses_its_entry() -> None:
    with icbc_world() as world:
        used, free = world.pay("a"), world.pay("b")
        world.pass_s(70)
        assert [row.is_used for row in world.rows(PROD)] == [0, 0] and world.rows(CANARY) == []
        world.use(used.reference)
        assert [row.is_used for row in world.rows(PROD)] == [1, 0]
        world.until("2026-03-13 00:31")  # the canary hears of it, and all is pulled again
        for group in (PROD, CANARY):
            assert [row.serial for row in world.rows(group) if not row.is_used] == [free.reference]
        world.use(used.reference, status=0, is_used=0)
        assert [row.is_used for row in world.rows(PROD) + world.rows(CANARY)] == [0, 0, 0, 0]


# --- routing ------------------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-04")
@pytest.mark.parametrize("wire", WIRES)
def test_with_line_1_away_matching_reads_canary_flows_after_five_minutes_each_once(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        first = world.pay("a")
        world.pass_s(65)
        assert world.references() == [first.reference] and world.collector.route == PROD
        down = world.bank.fault("line_down", message="line1")
        second = world.pay("b")
        world.until("2026-03-12 09:05")
        assert world.serials(CANARY) == [first.reference, second.reference]
        assert world.references() == [first.reference] and world.collector.route == PROD
        world.until("2026-03-12 09:07")
        assert world.collector.route == CANARY and world.references() == [first.reference, second.reference]
        third = world.pay("c")
        world.pass_s(270)
        assert world.references() == [first.reference, second.reference, third.reference]
        world.bank.clear(down)
        world.pass_s(61)
        assert world.collector.route == PROD
        fourth = world.pay("a", 5_000)
        world.pass_s(300)
        assert world.references() == [first.reference, second.reference, third.reference, fourth.reference]
        assert world.serials(PROD) == world.references() == world.serials(CANARY) and world.alerts() == []


def test_with_both_lines_away_nobody_feeds_and_nothing_is_lost() -> None:
    with icbc_world() as world:
        world.pass_s(30)
        world.bank.fault("line_down", for_s=3_000)
        booked = world.pay("a")
        world.pass_s(2_900)
        assert world.references() == [] and world.collector.route == PROD
        world.pass_s(400)
        assert world.references() == [booked.reference]


# --- lag ----------------------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-INC-12")
def test_a_canary_less_than_five_minutes_behind_is_no_incident() -> None:
    with icbc_world() as world:
        world.pass_s(5)
        behind = 0
        for n in range(20):
            world.pay("abc"[n % 3], 1_000 + n)
            world.pass_s(30)
            behind = max(behind, len(world.rows(PROD)) - len(world.rows(CANARY)))
            assert world.run(world.collector.suggest(HKD)) == ()
            assert {one.suggests for one in world.run(world.collector.compare(HKD))} <= {0}
        assert behind >= 6
        assert not any(kind in ("alert", "log") for _, _, kind, _, _ in world.events)


def test_a_canary_more_than_ten_minutes_behind_is_told_and_one_between_only_logged() -> None:
    with icbc_world() as world:
        world.pass_s(5)
        fault = world.bank.fault("line_down", message="line2")
        world.pass_s(400)
        assert len(world.said("canary lag")) == 1 and world.alerts("ICBC-03") == []
        world.pass_s(300)
        assert world.alerts("ICBC-03") == ["canary"] and len(world.said("sync delay")) == 2
        world.bank.clear(fault)
        world.pass_s(300)
        assert world.open_alerts("ICBC-03") == set()


def test_the_rules_name_their_own_time_and_target_of_escalation() -> None:
    rule = RULES["ICBC-01"]
    assert Settings()[rule.escalate_after] == 600 and rule.escalate_to == Role.TECH_OPS
    assert {name for name, one in RULES.items() if one.escalate_after} == {
        "ICBC-01", "ICBC-02", "ICBC-04", "ICBC-07"}
