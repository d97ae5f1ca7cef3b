"""Both procedure tables, enumerated whole against the documented transitions (gaps.md B-01.1, B-01.2)."""

from __future__ import annotations

import pytest

from core.orchestration import deposit_table as D
from core.orchestration import withdraw_table as W
from core.orchestration.table import Machine, Row, State, Verdict
from reports.positions import missing_positions

# The documents' own words, row by row; nothing here is taken from the code.
DEPOSIT_TRANSITIONS = {
    "DT-02": [("new(waiting)", "new(manual_confirm)")],
    "DT-03": [("new(waiting)", "pending")],
    "DT-04": [("new(manual_confirm)", "pending")],
    "DT-05": [("new(manual_confirm)", "end_reject")],
    "DT-06": [("pending", "end_ok(deposit_ok)")],
    "DT-07": [("pending", "end_reject")],
    "DT-08": [("end_ok(deposit_ok)", "end_reverse(deposit_ok)")],
}
NEW = ["new(freeze)", "new(waiting)", "new(manual_confirm)", "new(confirmed)", "new(blank)"]
PENDING = ["pending(deduct_done)", "pending(transfer_auto)", "pending(transfer_manual)", "pending(return)",
           "pending(unfreeze)", "pending(move_next)", "pending(waiting_trade)", "pending(transfer_reject)"]
ENDS = ["end_ok(transfer_done)", "end_reject", "end_cancel", "end_reverse(transfer_done)"]
ROLLBACK = ["pending(return)", "pending(unfreeze)", "pending(transfer_reject)"]
WITHDRAW_TRANSITIONS = {
    "WT-02": [("new(freeze)", "new(waiting)")],
    "WT-03": [("new(freeze)", "pending(transfer_reject)")],
    "WT-04": [("new(waiting)", "new(manual_confirm)")],
    "WT-05": [("new(waiting)", "new(blank)")],
    "WT-06": [("new(manual_confirm)", "new(confirmed)")],
    "WT-07": [("new(confirmed)", "new(blank)")],
    "WT-08": [("new(manual_confirm)", "pending(unfreeze)")],
    "WT-09": [(state, "pending(unfreeze)") for state in NEW[1:]],
    "WT-10": [(state, "pending(unfreeze)") for state in NEW[1:4]],
    "WT-11": [("new(blank)", "pending(deduct_done)")],
    "WT-12": [("new(blank)", "pending(transfer_reject)")],
    "WT-13": [("pending(deduct_done)", "pending(transfer_auto)")],
    "WT-14": [("pending(deduct_done)", "pending(transfer_manual)")],
    "WT-15": [("pending(deduct_done)", "pending(move_next)")],
    "WT-16": [("pending(transfer_manual)", "pending(move_next)")],
    "WT-17": [("pending(move_next)", "new(freeze)")],
    "WT-18": [("pending(deduct_done)", "pending(waiting_trade)")],
    "WT-19": [("pending(waiting_trade)", "end_ok(transfer_done)")],
    "WT-20": [("pending(waiting_trade)", "pending(return)")],
    "WT-21": [("pending(waiting_trade)", "pending(transfer_manual)")],
    "WT-22": [("pending(transfer_auto)", "end_ok(transfer_done)")],
    "WT-23": [("pending(transfer_auto)", "pending(return)")],
    "WT-24": [("pending(transfer_manual)", "end_ok(transfer_done)")],
    "WT-25": [("pending(transfer_manual)", "pending(return)")],
    "WT-26": [("pending(return)", "pending(transfer_reject)")],
    "WT-27": [("pending(unfreeze)", "pending(transfer_reject)")],
    "WT-28": [("pending(transfer_reject)", "pending(unfreeze)")],
    "WT-29": [("pending(transfer_reject)", "end_reject")],
    "WT-30": [("pending(transfer_reject)", "end_cancel")],
    "WT-31": [("end_ok(transfer_done)", "end_reverse(transfer_done)")],
    "WT-32": [(state, "end_ok(transfer_done)") for state in NEW + PENDING],
    "WT-33": [(state, target) for state in NEW + PENDING for target in ROLLBACK if state != target],
}
CASES = [pytest.param(D.DEPOSIT, DEPOSIT_TRANSITIONS, id="deposit"),
         pytest.param(W.WITHDRAW, WITHDRAW_TRANSITIONS, id="withdraw")]


def transitions(machine: Machine) -> dict[str, list[tuple[str, str]]]:
    """Row id -> (from, to) pairs, as the table has them."""
    found: dict[str, set[tuple[str, str]]] = {}
    for row in machine.rows:
        if row.target is not None:
            found.setdefault(row.id, set()).add((row.state.label, row.target.label))
    return {row: sorted(pairs) for row, pairs in found.items()}


@pytest.mark.parametrize(("machine", "documented"), CASES)
def test_the_table_has_the_documented_transitions_and_no_other(machine, documented):
    assert transitions(machine) == {row: sorted(pairs) for row, pairs in documented.items()}


@pytest.mark.req("SBA-DEP-012", "SBA-WD-038", "SBA-PROC-10")
def test_states_are_exactly_6_and_17_and_use_the_six_main_statuses():
    assert [state.label for state in D.STATES] == [
        "new(waiting)", "new(manual_confirm)", "pending", "end_ok(deposit_ok)", "end_reject", "end_reverse(deposit_ok)"]
    assert sorted(state.label for state in W.STATES) == sorted(NEW + PENDING + ENDS)
    assert len(set(W.STATES)) == 17
    mains = {"new", "pending", "end_ok", "end_reject", "end_cancel", "end_reverse"}
    assert {state.status for state in W.STATES} == mains
    assert {state.status for state in D.STATES} == mains - {"end_cancel"}


@pytest.mark.parametrize(("machine", "documented"), CASES)
def test_every_state_and_fact_is_a_row_or_named_as_ignored_or_refused(machine, documented, golden):
    """The whole matrix stands in a file: a change of the table shows as a change of that file."""
    lines = []
    for state in machine.states:
        for fact in machine.facts:
            verdict = machine.verdict(state, fact)
            what = (f"{verdict.id} -> {verdict.target.label if verdict.target else '(stays)'}"
                    f"{' ' + ' '.join(verdict.effects) if verdict.effects else ''}"
                    if isinstance(verdict, Row) else verdict.value)
            lines.append(f"{state.label:28} {fact:26} {what}")
    golden(f"{machine.biz}_matrix.txt", "\n".join(lines) + "\n")


@pytest.mark.req("SBA-WD-013")
def test_no_row_leads_from_deduct_done_back_to_a_new_state():
    targets = [row.target for row in W.WITHDRAW.rows if row.state == W.DEDUCT_DONE and row.target is not None]
    assert targets
    assert all(target.status != "new" for target in targets)


@pytest.mark.req("SBA-DEP-010", "SBA-WD-037")
@pytest.mark.parametrize("machine", [D.DEPOSIT, W.WITHDRAW])
def test_terminal_states_lead_nowhere_but_from_end_ok_to_end_reverse(machine):
    out = {(row.state.status, row.target.status) for row in machine.rows
           if row.state.terminal and row.target is not None}
    assert out == {("end_ok", "end_reverse")}


def test_only_bank_results_are_ever_ignored():
    assert {fact for _, fact in W.WITHDRAW.ignored} == {"BANK_SUCCESS", "BANK_FAILED"}
    assert not D.DEPOSIT.ignored


@pytest.mark.req("SBA-WD-042")
def test_the_phase_follows_from_the_state_and_there_are_four():
    phases = {state.label: W.phase(state) for state in W.STATES}
    assert set(phases.values()) == {"FREEZE", "REVIEW", "DEDUCT_TRANSFER", "RESULT"}
    assert phases["new(freeze)"] == "FREEZE"
    assert {label for label, phase in phases.items() if phase == "REVIEW"} == {
        "new(waiting)", "new(manual_confirm)", "new(confirmed)"}
    assert {label for label, phase in phases.items() if phase == "RESULT"} == set(ENDS)


def test_every_state_has_an_authored_position_in_the_diagrams():
    assert missing_positions(D.STATES) == []
    assert missing_positions(W.STATES) == []


def test_two_rows_for_one_state_and_fact_are_a_mistake():
    from core.orchestration.table import machine

    a, b = State("new", "a"), State("new", "b")
    with pytest.raises(AssertionError, match="two rows"):
        machine("x", (a, b), ["F"], (Row("1", a, "F", b), Row("2", a, "F", a)), {})
    assert machine("x", (a, b), ["F"], (Row("1", a, "F", b),), {}).verdict(b, "F") is Verdict.REFUSED
