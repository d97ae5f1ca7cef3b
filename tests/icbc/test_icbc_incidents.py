"""The five incident types (tasks-and-monitoring.md §4): what appears where, what is suggested, what resolves it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from icbc_world import FRONTLINE, HKD, ON_DUTY, SUPERVISOR, TECH, IcbcWorld, icbc_world
from sqlalchemy import select, update

from core.banks.icbc import CANARY, PROD
from core.deposits.abnormal_list import UNMATCHED, note_abnormal, unowned
from core.deposits.icbc_flows import MOST_SUMS, Row, breaks_of, shifts_of, suggested
from core.deposits.icbc_incidents import MAY, Handled
from core.deposits.statements import MATCHED, NEW, VOID
from core.domain import Role
from core.errors import Code, Refusal
from core.orchestration.records import Actor
from core.statement import Entry
from core.storage import Statement
from core.storage.primary import icbc_bank_flow, queue, refund

BOTH = {f"prod:{HKD}", f"canary:{HKD}"}
WIRES = ("messages", "full")


def _refunded(world: IcbcWorld) -> tuple[str, str, str]:
    """a pays, b pays, a is refunded, c pays: serials of the three."""
    world.bank.fault("refund", refund_s=700, count=1)
    first = world.pay("a", 100_000).reference
    world.pass_s(300)
    second = world.pay("b", 20_000).reference
    world.pass_s(500)
    third = world.pay("c", 3_000).reference
    world.pass_s(300)
    return first, second, third


def _statuses(world: IcbcWorld) -> dict[str, int]:
    return {flow.bank_ref: flow.status for flow in world.flows()}


def _refunds(world: IcbcWorld) -> list[tuple[Any, ...]]:
    return list(world.run(world.databases.primary.all(Statement(select(
        refund.c.source, refund.c.apply_id, refund.c.flow_id, refund.c.ccy, refund.c.amount, refund.c.state)), {})))


# --- type 1 -------------------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-INC-1", "ICBC-INC-10")
@pytest.mark.parametrize("wire", WIRES)
def test_type_1_both_groups_alert_and_the_script_restores_the_chain(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        first, second, third = _refunded(world)
        assert world.open_alerts() == BOTH
        assert world.details()[-1].endswith("likely type 1")
        assert len(world.said("balance mismatch")) == 2 == len(world.said("close_balance"))
        before = {group: [row.told for row in world.rows(group)] for group in (PROD, CANARY)}
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and (done.result, done.serials) == ("DONE", (first,))
        assert world.open_alerts() == set() and world.alerts(phase="cleared") == [f"prod:{HKD}", f"canary:{HKD}"]
        for group in (PROD, CANARY):
            assert breaks_of(world.rows(group)) == [] and world.serials(group) == [second, third]
            assert [row.told for row in world.rows(group)] == [
                before[group][1]._replace(balance=before[group][1].balance - 100_000), before[group][2]]
            assert world.rows(group)[-1].close_balance == world.bank.balance("broker", "HKD")
        assert _statuses(world) == {first: VOID, second: NEW, third: NEW} and _refunds(world) == []


def test_what_the_script_takes_back_is_not_left_on_the_list_of_abnormal_deposits() -> None:
    with icbc_world() as world:
        first, _, _ = _refunded(world)
        [flow] = [one for one in world.flows() if one.bank_ref == first]

        async def listed() -> None:
            async with world.databases.primary.transaction() as tx:
                await note_abnormal(tx, world.trace, flow, UNMATCHED, world.clock.now_ms())

        world.run(listed())
        assert isinstance(world.run(world.incidents.run_script(HKD, ON_DUTY)), Handled)
        told = [(event[4]["key"], event[4]["phase"]) for event in world.events if event[3] == "DEP-02"]
        assert told == [(f"F{flow.id}", "raised"), (f"F{flow.id}", "cleared")]
        assert world.run(unowned(world.databases.primary, "icbc")) == {}


def test_the_scripts_sql_is_kept_and_is_what_was_carried_out() -> None:
    with icbc_world() as world, icbc_world() as other:
        for one in (world, other):
            _refunded(one)
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        [(kind, result, operator, _, script)] = world.scripts()
        assert (kind, result, operator, script) == ("REFUND", "DONE", ON_DUTY.id, done.script)
        for text in script.removesuffix(";").split(";\n"):
            assert text.startswith("UPDATE icbc_bank_flow SET ")
            other.databases.primary.connection.execute(text)  # type: ignore[attr-defined]
        for group in (PROD, CANARY):
            assert world.rows(group, deleted=True) == other.rows(group, deleted=True)


def test_the_scripts_sql_is_the_same_on_either_server() -> None:
    table = icbc_bank_flow
    statement = Statement(update(table).where(table.c.serial >= "0010", table.c.deleted_at.is_(None)).values(
        close_balance=table.c.close_balance - 5, updated_at=7))
    assert statement.for_sqlite()[0] == statement.for_mysql()[0]


def test_a_script_that_finds_nothing_refunded_changes_nothing() -> None:
    with icbc_world() as world:
        world.pay("a")
        world.pass_s(300)
        before = world.rows(PROD), world.rows(CANARY)
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and done.result == "NOTHING"
        assert (world.rows(PROD), world.rows(CANARY)) == before and world.scripts() == []


def test_a_refunded_statement_that_was_used_is_handed_to_the_room_of_credits_with_the_script() -> None:
    with icbc_world() as world:
        world.bank.fault("refund", refund_s=400, count=1)
        booked = world.pay("a")
        world.pass_s(70)
        flow = world.use(booked.reference, status=MATCHED)
        world.pass_s(500)
        world.pay("b")
        world.pass_s(300)
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and done.result == "DONE"
        queued = select(queue.c.event, queue.c.payload).where(queue.c.event == "StatementStruck")
        handed = [("StatementStruck", f'{{"bank":"icbc","flow":{flow.id}}}')]
        assert world.run(world.databases.primary.all(Statement(queued), {})) == handed
        assert world.alerts("ICBC-05") == [f"F{flow.id}"] and _statuses(world)[booked.reference] == MATCHED
        again = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(again, Handled) and again.result == "NOTHING"
        assert world.run(world.databases.primary.all(Statement(queued), {})) == handed and _refunds(world) == []


# --- type 2 -------------------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-INC-2")
@pytest.mark.parametrize("wire", WIRES)
def test_type_2_without_a_later_statement_in_the_canary_the_script_stalls(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        world.bank.fault("refund", refund_s=700, count=1)
        world.pay("a", 100_000)
        world.pass_s(800)
        world.pass_s((240 - (world.clock.now_ms() // 1000) % 240) + 5)  # right after a pull of the canary's
        world.pay("c", 3_000)
        world.pass_s(70)
        assert world.open_alerts() == {f"prod:{HKD}"}
        before = world.rows(PROD), world.rows(CANARY)
        stalled = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(stalled, Handled) and stalled.result == "REFUND_SCRIPT_STALLED"
        assert "canary has no statement after" in stalled.detail
        assert (world.rows(PROD), world.rows(CANARY)) == before
        assert world.scripts() == [("REFUND", "STALLED", ON_DUTY.id, "", "")]
        assert "investigate the canary by hand" in world.details("ICBC-04")[0]
        world.pass_s(240)  # the canary has pulled
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and done.result == "DONE"
        assert world.open_alerts() == set() == world.open_alerts("ICBC-04")


def test_the_script_stalls_without_the_banks_word() -> None:
    with icbc_world() as world:
        _refunded(world)
        world.bank.fault("line_down", message="line2", answer="refused")
        stalled = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(stalled, Handled) and stalled.result == "REFUND_SCRIPT_STALLED"
        assert world.open_alerts() == BOTH and world.scripts() == []


def _unreadable(world: IcbcWorld, **changed: Any) -> None:
    """The bank tells what c paid under a serial that is none, and what else is changed."""
    answer = world.bank.answer

    def spoilt(line: str, request: Any) -> Any:
        told = answer(line, request)
        return told._replace(records=tuple(
            record._replace(serial="x", **changed) if record.account == "6222c" else record
            for record in told.records))

    world.bank.answer = spoilt  # type: ignore[method-assign]


@pytest.mark.req("ICBC-INC-1")
def test_a_record_without_a_serial_keeps_only_the_rows_that_it_could_be() -> None:
    """It is one of ours by its time and amounts; what is gone beside it is found all the same."""
    with icbc_world(wire="full") as world:
        gone = _refunded(world)[0]
        kept = [serial for serial in world.serials() if serial != gone]
        _unreadable(world)
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and (done.result, done.serials) == ("DONE", (gone,))
        assert world.serials() == kept == world.serials(CANARY), "what the bank shows without a serial is not gone"
        assert world.alerts("ICBC-04") == []
        refused = world.run(world.incidents.delete_ghosts(HKD, [kept[-1]], SUPERVISOR, "odd"))
        assert isinstance(refused, Refusal) and "still shows" in refused.detail


def test_a_record_that_could_be_any_row_stops_the_script_and_says_what_to_do() -> None:
    with icbc_world(wire="full") as world:
        gone = _refunded(world)[0]
        before = world.rows(PROD), world.rows(CANARY)
        _unreadable(world, credit="3_000")
        stalled = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(stalled, Handled) and stalled.result == "REFUND_SCRIPT_STALLED"
        refused = world.run(world.incidents.delete_ghosts(HKD, [gone], SUPERVISOR, "odd"))
        assert isinstance(refused, Refusal) and refused.code is Code.ILLEGAL_STATE
        for said in (stalled.detail, refused.detail, world.details("ICBC-06")[-1]):
            assert "ask the bank" in said and "could be any" in said and "canary by hand" not in said
        assert world.alerts("ICBC-04") == [] and (world.rows(PROD), world.rows(CANARY)) == before


# --- type 3 -------------------------------------------------------------------------------------------------------


def _identical(world: IcbcWorld) -> tuple[str, str]:
    """Two users pay alike; somebody else pays after them. Serials of the two."""
    world.pay("c", 50)
    world.pass_s(300)
    world.bank.fault("identical", count=1)
    first = world.pay("a", 100_000, remark="deposit").reference
    world.pass_s(10)
    second = world.pay("b", 100_000, remark="deposit").reference
    world.pass_s(300)
    world.pay("c", 3_000)
    world.pass_s(300)
    return first, second


@pytest.mark.req("ICBC-INC-3")
@pytest.mark.parametrize("wire", WIRES)
def test_type_3_only_production_alerts_and_both_users_money_is_taken_once(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        first, second = _identical(world)
        assert world.open_alerts() == {f"prod:{HKD}"} and world.alerts() == [f"prod:{HKD}"]
        assert len(world.said("duplicate flow", PROD)) == 1 == len(world.said("same remarks", PROD))
        assert second in world.serials(CANARY) and second not in world.serials(PROD)
        assert world.run(world.collector.suggest(HKD)) == (3,)
        [missing] = [one for one in world.run(world.collector.compare(HKD)) if one.difference]
        assert (missing.serial, missing.difference, missing.suggests) == (second, "only in canary", 3)
        kept = next(row for row in world.rows(PROD) if row.serial == first)
        done = world.run(world.incidents.set_close_balance(kept.id, kept.close_balance + 100_000, SUPERVISOR, "two"))
        assert isinstance(done, Handled) and done.result == "DONE" and world.open_alerts() == set()
        entry = world.run(world.incidents.evidence(HKD, second))
        flow = world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "b's payment, told to the canary only"))
        assert not isinstance(flow, Refusal) and (flow.emergency, flow.amount, flow.status) == (1, 100_000, NEW)
        again = world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "once more"))
        assert isinstance(again, Refusal) and again.code is Code.DUPLICATE
        paid = {(flow.payer_acct, flow.emergency) for flow in world.flows() if flow.amount == 100_000}
        assert paid == {("6222a", 0), ("6222b", 1)}
        world.bank.fault("line_down", message="line1")
        world.pass_s(800)  # and not once more over the other group
        assert world.collector.route == CANARY
        assert sum(flow.amount == 100_000 for flow in world.flows()) == 2


# --- type 4 -------------------------------------------------------------------------------------------------------


def _ghost(world: IcbcWorld) -> str:
    """The bank tells production of a statement that does not exist, and withdraws it. Its serial."""
    world.pay("c", 50)
    world.pass_s(300)
    world.bank.fault("ghost", count=1)
    real = world.pay("a", 100_000).reference
    world.pass_s(300)
    return str(int(real) + 5).zfill(16)


@pytest.mark.req("ICBC-INC-4")
@pytest.mark.parametrize("wire", WIRES)
def test_type_4_only_production_alerts_and_deleting_the_ghost_lets_collection_go_on(wire: str) -> None:
    with icbc_world(wire=wire) as world:
        ghost = _ghost(world)
        assert world.open_alerts() == {f"prod:{HKD}"} and ghost in world.serials(PROD)
        assert ghost not in world.references() and ghost not in world.serials(CANARY)
        assert world.run(world.collector.suggest(HKD)) == (4,)
        [odd] = [one for one in world.run(world.collector.compare(HKD)) if one.difference]
        assert (odd.serial, odd.difference) == (ghost, "only in production")
        assert ghost not in {told.serial for told in world.run(world.incidents.at_the_bank(PROD, HKD)).records}
        done = world.run(world.incidents.delete_ghosts(HKD, [ghost], SUPERVISOR, "not in the bank's statement"))
        assert isinstance(done, Handled) and done.result == "DONE" and world.open_alerts() == set()
        assert re.search(r"deleted_at=\d+ WHERE icbc_bank_flow.id = \d+ AND icbc_bank_flow.is_used = 0;$", done.script)
        later = world.pay("b", 700).reference
        world.pass_s(300)
        assert later in world.serials(PROD) and ghost not in world.references() and world.open_alerts() == set()
        assert world.serials(PROD) == world.serials(CANARY) == world.references()


def test_a_refund_script_leaves_a_ghost_alone() -> None:
    with icbc_world() as world:
        ghost = _ghost(world)
        world.pay("b", 700)
        world.pass_s(300)
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and done.result == "NOTHING" and ghost in world.serials(PROD)


@pytest.mark.req("ICBC-INC-8")
def test_a_ghost_that_was_used_is_not_deleted() -> None:
    with icbc_world() as world:
        ghost = _ghost(world)
        row = next(row for row in world.rows(PROD) if row.serial == ghost)
        entry = world.run(world.incidents.evidence(HKD, ghost))
        world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "taken for true"))
        world.use(ghost)
        refused = world.run(world.incidents.delete_ghosts(HKD, [ghost], SUPERVISOR, "a ghost"))
        assert isinstance(refused, Refusal) and refused.code is Code.ILLEGAL_STATE and "is_used=1" in refused.detail
        kept = world.run(world.collector.book.find(row.id))
        assert kept.deleted_at is None and kept.is_used == 1 and world.scripts() == []
        world.use(ghost, status=0, is_used=0)
        assert isinstance(world.run(world.incidents.delete_ghosts(HKD, [ghost], SUPERVISOR, "a ghost")), Handled)
        assert _statuses(world)[ghost] == VOID


def test_what_the_bank_still_shows_is_not_deleted() -> None:
    with icbc_world() as world:
        real = world.pay("a").reference
        world.pass_s(300)
        refused = world.run(world.incidents.delete_ghosts(HKD, [real], SUPERVISOR, "looks odd"))
        assert isinstance(refused, Refusal) and "still shows" in refused.detail and world.serials(PROD) == [real]
        missing = world.run(world.incidents.delete_ghosts(HKD, ["9" * 16], SUPERVISOR, "looks odd"))
        assert isinstance(missing, Refusal) and missing.code is Code.NOT_FOUND


# --- type 5 -------------------------------------------------------------------------------------------------------


def _late(world: IcbcWorld, late_s: float) -> tuple[str, str, str]:
    """A statement of the evening that the bank tells of only after midnight. Serials: before, late, after."""
    world.until("2026-03-12 22:30")
    world.pay("c", 20)
    before = world.pay("c", 50).reference
    world.pass_s(300)
    world.bank.fault("late_push", late_s=late_s, count=1)
    late = world.pay("a", 100_000).reference
    world.until("2026-03-13 00:40")
    after = world.pay("b", 700).reference
    world.until("2026-03-13 00:50")
    return before, late, after


@pytest.mark.req("ICBC-INC-5")
def test_type_5_both_groups_alert_and_a_balance_and_an_emergency_credit_resolve_it() -> None:
    with icbc_world(start="2026-03-12 21:50") as world:
        before, late, after = _late(world, late_s=12 * 3600)
        assert world.open_alerts() == BOTH and world.references()[1:] == [before, after]
        assert len(world.said("missing T-1")) == 2
        assert world.run(world.collector.suggest(HKD)) == (5, 1)
        for group in (PROD, CANARY):
            row = next(row for row in world.rows(group) if row.serial == before)
            world.run(world.incidents.set_close_balance(row.id, row.close_balance + 100_000, TECH, "T-1 misses one"))
        assert world.open_alerts() == set()
        entry = Entry("icbc", HKD, late, "HKD", 100_000, "C", world.clock.now_ms() - 3 * 3_600_000, en_name="CHAN A",
                      payer_acct="6222a")
        flow = world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "bank's letter of 13 March"))
        assert not isinstance(flow, Refusal) and flow.emergency == 1
        world.until("2026-03-13 13:00")
        world.run(world.collector.pull_yesterday())  # now the bank tells of it after all
        assert sorted(world.references())[1:] == [before, late, after]
        assert world.serials(PROD)[1:] == [before, late, after] == world.serials(CANARY)[1:]
        assert len(world.said("late push")) == 2 and world.open_alerts() == set()
        assert breaks_of(world.rows(PROD)) == [] == breaks_of(world.rows(CANARY))
        assert [(kind, operator, remark) for kind, _, operator, remark, _ in world.scripts()] == [
            ("BALANCE", TECH.id, "T-1 misses one")] * 2


def test_type_5_resolves_itself_where_the_re_pull_brings_the_missing_statement() -> None:
    with icbc_world(start="2026-03-12 21:50") as world:
        before, late, after = _late(world, late_s=3 * 3600)
        assert world.open_alerts() == BOTH
        world.until("2026-03-13 06:31")
        assert world.open_alerts() == set() and sorted(world.references())[1:] == [before, late, after]
        assert len(world.said("late push")) == 2


# --- what is suggested --------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-INC-6")
def test_the_pattern_of_alerts_suggests_the_type() -> None:
    assert suggested({PROD, CANARY}) == (1,)
    assert suggested({PROD}) == (3, 4)
    assert suggested({PROD, CANARY}, stalled=True) == (2,) == suggested({PROD}, stalled=True)
    assert suggested({PROD, CANARY}, first_of_day=True) == (5, 1)
    assert suggested({CANARY}) == (2,) and suggested(()) == ()


@pytest.mark.req("ICBC-INC-7")
def test_the_comparison_tells_a_ghost_from_a_canary_that_is_behind() -> None:
    with icbc_world() as world:
        ghost = _ghost(world)
        shown = world.run(world.collector.compare(HKD))
        assert [one.created_at for one in shown] == sorted(one.created_at for one in shown) and len(shown) == 3
        assert [(one.serial, one.suggests) for one in shown if one.difference] == [(ghost, 4)]
    with icbc_world() as world:
        world.pay("a")
        world.pass_s(300)
        answer = world.bank.answer

        def slow(line: str, request: Any) -> Any:  # the bank answers on line 2, and knows nothing of what is new
            said = answer(line, request)
            return said._replace(records=()) if line == "line2" else said

        world.bank.answer = slow  # type: ignore[method-assign]
        late = world.pay("b").reference
        world.pass_s(300)
        assert [(one.serial, one.difference, one.suggests) for one in world.run(world.collector.compare(HKD))
                if one.difference] == [(late, "canary has fewer", 2)]


@pytest.mark.req("ICBC-INC-10")
def test_the_log_says_the_words_for_which_people_search() -> None:
    with icbc_world(start="2026-03-12 21:50") as world:
        world.pass_s(5)
        world.bank.fault("line_down", message="line1", for_s=65)
        world.bank.fault("line_down", message="line2", answer="refused", for_s=700)
        world.pass_s(720)
        assert world.said("timeout", PROD) and not world.said("timeout", CANARY)
        assert world.said("connection refused", CANARY) and not world.said("connection refused", PROD)
        assert world.said("canary lag", CANARY) and world.said("sync delay", CANARY)
        _late(world, late_s=3 * 3600)
        world.until("2026-03-13 06:31")
        assert world.said("missing T-1") and world.said("late push")
        _identical(world)
        assert world.said("duplicate flow") and world.said("same remarks")
        assert world.said("balance mismatch") and world.said("close_balance")


# --- who may ------------------------------------------------------------------------------------------------------


def _every_action(world: IcbcWorld, by: Actor, remark: str) -> dict[str, Any]:
    row = world.rows(PROD)[0]
    entry = Entry("icbc", HKD, "0000000000000777", "HKD", 500, "C", world.clock.now_ms())
    return {
        "run_script": world.run(world.incidents.run_script(HKD, by)),
        "delete_ghosts": world.run(world.incidents.delete_ghosts(HKD, ["9" * 16], by, remark)),
        "set_close_balance": world.run(world.incidents.set_close_balance(row.id, row.close_balance, by, remark)),
        "emergency_credit": world.run(world.incidents.emergency_credit(entry, by, remark)),
    }


@pytest.mark.parametrize("role", list(Role))
def test_each_action_is_for_its_roles_only(role: Role) -> None:
    with icbc_world() as world:
        world.pay("a")
        world.pass_s(300)
        for action, done in _every_action(world, Actor("staff_9", role), "because").items():
            forbidden = isinstance(done, Refusal) and done.code is Code.FORBIDDEN
            assert forbidden is (role not in MAY[action]), action


def test_what_people_change_needs_a_remark() -> None:
    with icbc_world() as world:
        world.pay("a")
        world.pass_s(300)
        for action, done in _every_action(world, SUPERVISOR, "  ").items():
            if action != "run_script":
                assert isinstance(done, Refusal) and done.code is Code.INVALID_PARAM, action
        assert world.run(world.incidents.run_script(HKD, FRONTLINE)).code is Code.FORBIDDEN


@pytest.mark.parametrize("change", [{"amount": 0}, {"bank_ref": ""}, {"ccy": "USD"}, {"our_account": "1"},
                                    {"amount": 999}])
def test_an_emergency_credit_says_what_the_groups_say(change: dict[str, Any]) -> None:
    with icbc_world() as world:
        ghost = _ghost(world)
        entry = world.run(world.incidents.evidence(HKD, ghost))._replace(**change)
        before = world.references()
        refused = world.run(world.incidents.emergency_credit(entry, SUPERVISOR, "because"))
        assert isinstance(refused, Refusal) and refused.code is Code.INVALID_PARAM and world.references() == before


# --- how much refunds may explain ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("refunds", "corrected"), [(12, True), (13, False), (60, False)])
def test_a_shift_is_corrected_while_the_refunds_prove_it_and_no_longer(refunds: int, corrected: bool) -> None:
    """Of more amounts nearly any number is a sum: people decide, and the script ends in good time."""
    amounts = [10, *(2**number for number in range(refunds)), 7]
    balances = [sum(amounts[:number + 1]) for number in range(len(amounts))]
    rows = [Row(number, PROD, HKD, f"{number:016d}", number, "HKD", amount, 0, balance, "", "", "", 0, 0, None,
                f"{number}") for number, (amount, balance) in enumerate(zip(amounts, balances, strict=True))]
    assert MOST_SUMS == 2**12
    found = shifts_of([rows[0], rows[-1]], rows[1:-1])
    assert [(shift.rows, shift.by) for shift in found] == [((rows[-1],), 2**refunds - 1)] * corrected


# --- whatever the order -------------------------------------------------------------------------------------------

STEPS = st.lists(st.one_of(
    st.tuples(st.just("pay"), st.integers(1, 5_000)), st.tuples(st.just("fee"), st.integers(1, 50)),
    st.tuples(st.just("refund"), st.integers(0, 5)), st.tuples(st.just("wait"), st.integers(20, 400)),
    st.tuples(st.just("script"), st.just(0))), min_size=3, max_size=14)


@settings(max_examples=20, deadline=None)
@example([("pay", 1), ("pay", 1), ("wait", 180), ("pay", 1), ("refund", 0), ("script", 0)])  # told after the script
@given(STEPS)
def test_whatever_is_paid_and_refunded_the_script_ends_with_the_banks_statement(steps: list[tuple[str, int]]) -> None:
    """Both groups end with whole chains, the bank's balance, and entries for exactly what the bank still shows. What is
    refunded was heard of by production at least: of what nobody heard, only the bank's letter can tell."""
    with icbc_world() as world:
        world.pay("c", 900_000)
        world.pass_s(300)
        for number, (step, value) in enumerate(steps):
            if step == "pay":
                world.pay("ab"[value % 2], value * 100 + number, remark=f"n{number}")
            elif step == "fee":
                world.bank.charge("HKD", value, "fee")
            elif step == "refund":
                heard = world.serials(PROD)
                credits = [line for line in world.bank.lines(HKD) if line.credit and line.reference in heard][1:]
                if credits:
                    world.bank.refund(credits[value % len(credits)].reference)
            elif step == "wait":
                world.pass_s(value)
            else:
                world.run(world.incidents.run_script(HKD, ON_DUTY))
        world.pass_s(300)
        world.pay("c", 77)
        world.pass_s(300)
        done = world.run(world.incidents.run_script(HKD, ON_DUTY))
        assert isinstance(done, Handled) and done.result in ("DONE", "NOTHING"), done
        there = [line.reference for line in world.bank.lines(HKD)]
        for group in (PROD, CANARY):
            assert world.serials(group) == there and breaks_of(world.rows(group)) == []
            assert world.rows(group)[-1].close_balance == world.bank.balance("broker", "HKD")
        alive = [flow.bank_ref for flow in world.flows() if flow.status != VOID]
        assert alive == [line.reference for line in world.bank.lines(HKD) if line.credit]
        assert world.open_alerts() == set()
