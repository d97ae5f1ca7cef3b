"""The matrix of 17 states against everything that may happen, driven for real (SBA-WD-039, gaps.md B-01.2).

For each state a Procedure is brought there as people, banks and faults bring it there. What the documents do not list
is refused with ILLEGAL_STATE and leaves version, Flow records, effects and money as they were; what they list happens.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from withdrawal_states import (
    COMPLETE,
    ENDS,
    OPEN,
    ROLLBACK,
    STATES,
    WAYS,
    at_rest,
    everything,
    flows,
    silent_bank,
)

from core.errors import Code, OutcomeUnknown
from core.orchestration.engine import Fact
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from core.orchestration.withdraw_table import FACTS
from tests.rig import FRONTLINE, SUPERVISOR, SYSTEM, Rig, play

# gaps.md B-01.2, written down state by state: what happens there -> the next state. An empty state: it stays, and the
# money is asked for first. Nothing here is taken from the code.
ROLLED_BACK = {"FORCE_ROLLBACK_DEDUCTED": "pending(return)", "FORCE_ROLLBACK_FROZEN": "pending(unfreeze)",
               "FORCE_ROLLBACK_UNFUNDED": "pending(transfer_reject)"}
FORCED = {"FORCE_COMPLETE": "", "SETTLED": "end_ok(transfer_done)", "SETTLE_REFUSED": "", **ROLLED_BACK}
DOCUMENTED: dict[str, dict[str, str]] = {
    "new(freeze)": {"FROZEN": "new(waiting)", "FREEZE_REFUSED": "pending(transfer_reject)",
                    "REJECT": "pending(transfer_reject)"},
    "new(waiting)": {"REVIEW_HIT": "new(manual_confirm)", "DRIVE": "new(blank)", "REJECT": "pending(unfreeze)",
                     "CANCEL": "pending(unfreeze)"},
    "new(manual_confirm)": {"CONFIRM": "new(confirmed)", "MANUAL_REJECT": "pending(unfreeze)",
                            "REJECT": "pending(unfreeze)", "CANCEL": "pending(unfreeze)"},
    "new(confirmed)": {"REVIEW_DONE": "new(blank)", "REJECT": "pending(unfreeze)", "CANCEL": "pending(unfreeze)"},
    "new(blank)": {"DEDUCTED": "pending(deduct_done)", "DEDUCT_REFUSED": "pending(transfer_reject)",
                   "REJECT": "pending(unfreeze)"},
    "pending(deduct_done)": {"GATES_OPEN": "pending(transfer_auto)", "START_MANUAL": "pending(transfer_manual)",
                             "MARKET_CLOSED": "pending(move_next)", "DEFER": "pending(move_next)",
                             "NO_TRADING_DAY": "pending(waiting_trade)"},
    "pending(transfer_auto)": {"BANK_SUCCESS": "", "MANUAL_DONE": "", "CONSUMED": "end_ok(transfer_done)",
                               "BANK_FAILED": "pending(return)", "MANUAL_FAILED": "pending(return)"},
    "pending(transfer_manual)": {"MANUAL_DONE": "", "CONSUMED": "end_ok(transfer_done)",
                                 "MANUAL_FAILED": "pending(return)", "DEFER": "pending(move_next)"},
    "pending(return)": {"RESTORED": "pending(transfer_reject)"},
    "pending(unfreeze)": {"RELEASED": "pending(transfer_reject)"},
    "pending(move_next)": {"DATE_ARRIVED": "new(freeze)"},
    "pending(waiting_trade)": {"TRADE_DAY_PAID": "", "CONSUMED": "end_ok(transfer_done)",
                               "TRADE_DAY_FAILED": "pending(return)", "TRADE_DAY_NO_LEG": "pending(transfer_manual)",
                               "BANK_SUCCESS": "", "BANK_FAILED": ""},
    "pending(transfer_reject)": {"HOLD_OUTSTANDING": "pending(unfreeze)", "CLOSE_REJECT": "end_reject",
                                 "CLOSE_CANCEL": "end_cancel"},
    "end_ok(transfer_done)": {"REVERSE": "", "ADDED_BACK": "end_reverse(transfer_done)"},
    "end_reject": {}, "end_cancel": {}, "end_reverse(transfer_done)": {},
}
for _label in OPEN:
    DOCUMENTED[_label] |= {fact: "" if to == _label else to for fact, to in FORCED.items()}
# A result after the decision is recorded and moves nothing.
RECORDED = {"pending(return)", "pending(unfreeze)", "pending(transfer_reject)", *ENDS}
BANK = ("BANK_SUCCESS", "BANK_FAILED")

ALLOWED: dict[str, set[str]] = {
    "new(freeze)": {"CashWithdrawReject"},
    "new(waiting)": {"CashWithdrawReject", "CashWithdrawCancel"},
    "new(manual_confirm)": {"CashWithdrawManualConfirm", "CashWithdrawManualReject", "CashWithdrawReject",
                            "CashWithdrawCancel"},
    "new(confirmed)": {"CashWithdrawReject", "CashWithdrawCancel"},
    "new(blank)": {"CashWithdrawReject", "CashWithdrawStartTransfer"},
    "pending(deduct_done)": {"CashWithdrawStartTransfer", "MoveNextTransactionDay"},
    "pending(transfer_manual)": {"SetManualTransferDone", "SetManualTransferFailed", "MoveNextTransactionDay"},
    "end_ok(transfer_done)": {"CashWithdrawReverse"},
}
for _label in OPEN:
    ALLOWED.setdefault(_label, set()).add("CashWithdrawForceProcess")
OPERATIONS: dict[str, dict[str, Any]] = {
    "CashWithdrawStartTransfer": {}, "CashWithdrawReject": {}, "CashWithdrawManualConfirm": {},
    "CashWithdrawManualReject": {}, "SetManualTransferDone": {}, "SetManualTransferFailed": {},
    "CashWithdrawForceProcess": ROLLBACK, "CashWithdrawCancel": {}, "MoveNextTransactionDay": {},
    "CashWithdrawReverse": {}, "CashDepositManualConfirm": {}, "CashDepositManualReject": {},
    "CashDepositReverse": {"confirmations": REVERSE_CONFIRMATIONS},
}

SUPERVISED = {"CashDepositReverse", "CashWithdrawForceProcess", "CashWithdrawCancel", "CashWithdrawReverse"}


def told(label: str, story, **more: Any) -> Any:
    """Tell a story of a Procedure that rests in a state: ``await story(rig, shown)``."""
    async def main(rig: Rig) -> Any:
        shown = await at_rest(rig, (await WAYS[label].go(rig))["id"])
        assert shown["state"] == label
        return await story(rig, shown)

    return play(main, start=WAYS[label].start, **more)


async def state_fact(rig: Rig, procedure_id: int, name: str, *, finished: bool = False):
    """Tell the engine that something happened, under the Procedure's lock."""
    engine = rig.core.engine
    token = await engine.lock(procedure_id)
    p = await engine.load(procedure_id)
    assert p is not None and token is not None
    try:
        return await engine.take(p, Fact(name, by=SYSTEM, tag="t"),
                                 finished=p.pending[0] if finished and p.pending else None)
    finally:
        await engine.unlock(procedure_id, token)


def test_the_literal_tables_of_this_file_name_every_state_fact_and_operation():
    assert tuple(DOCUMENTED) == STATES
    assert {fact for facts in DOCUMENTED.values() for fact in facts} == set(FACTS)
    assert {name for names in ALLOWED.values() for name in names} <= set(OPERATIONS)
    assert len(STATES) == 17


@pytest.mark.req("SBA-WD-038", "SBA-WD-039", "SBA-WD-013", "SBA-WD-037")
@pytest.mark.parametrize("label", STATES)
def test_what_the_documents_do_not_list_in_a_state_is_refused_there_and_changes_nothing(label):
    async def story(rig, shown):
        before = await everything(rig, shown["id"])
        for fact in FACTS:
            if fact in DOCUMENTED[label] or (fact in BANK and label in RECORDED):
                continue
            refusal = await state_fact(rig, shown["id"], fact)
            assert refusal is not None and refusal.code is Code.ILLEGAL_STATE, fact
            assert await everything(rig, shown["id"]) == before, fact

    told(label, story)


@pytest.mark.req("SBA-WD-039")
@pytest.mark.parametrize("label", sorted(RECORDED))
@pytest.mark.parametrize("fact", BANK)
def test_a_bank_result_after_the_decision_is_recorded_and_moves_nothing(label, fact):
    async def story(rig, shown):
        before = await everything(rig, shown["id"])
        reply = await rig.sba.bank_result(shown["id"], success=fact == "BANK_SUCCESS")
        after = await everything(rig, shown["id"])
        if label in OPEN:  # the money is still asked for; the result comes again (its job repeats it)
            assert reply.code is Code.DEPENDENCY_TIMEOUT
            assert after == before
            return
        assert reply.ok
        assert [late[0] for late in after.pop("late")] == [fact.removeprefix("BANK_")]
        assert before.pop("late") == []
        assert after == before

    told(label, story)


@pytest.mark.req("SBA-WD-039")
@pytest.mark.parametrize(("label", "fact"), [(label, fact) for label in STATES for fact in DOCUMENTED[label]])
def test_what_the_documents_list_in_a_state_leads_where_they_say(label, fact):
    """One Flow record from this state to the documented one; or the state stays, and only the money is asked for."""
    async def story(rig, shown):
        seen = len(flows(rig, shown["id"]))
        assert await state_fact(rig, shown["id"], fact, finished=True) is None
        new = flows(rig, shown["id"])[seen:]
        wanted = DOCUMENTED[label][fact]
        if wanted:
            assert (new[0]["from"], new[0]["to"]) == (label, wanted)
            assert new[0]["version"] == shown["version"] + 1
        else:
            assert new == []

    told(label, story, planted=True)  # facts without their causes: the books need not agree


@pytest.mark.req("SBA-API-12")
@pytest.mark.parametrize(("label", "fact"), [
    ("new(freeze)", "REJECT"), ("new(blank)", "REJECT"), ("pending(return)", "FORCE_ROLLBACK_DEDUCTED"),
    ("pending(unfreeze)", "FORCE_COMPLETE"), ("pending(transfer_reject)", "FORCE_COMPLETE")])
def test_nobody_decides_over_a_call_whose_outcome_may_still_come(label, fact):
    """The engine's own guard (A-23): whoever decides must have made the call void, or have its outcome, first."""
    async def story(rig, shown):
        before = await everything(rig, shown["id"])
        with pytest.raises(OutcomeUnknown, match="in flight"):
            await state_fact(rig, shown["id"], fact)
        assert await everything(rig, shown["id"]) == before

    told(label, story)


@pytest.mark.req("SBA-WD-039", "SBA-API-09", "SBA-API-11", "SBA-API-13", "SBA-API-14", "SBA-API-15", "SBA-API-16",
                 "SBA-API-17", "SBA-API-19", "SBA-API-23", "SBA-API-25", "SBA-API-26", "SBA-API-27")
@pytest.mark.parametrize("label", STATES)
def test_a_button_that_does_not_belong_to_a_state_is_refused_there_and_changes_nothing(label):
    async def story(rig, shown):
        before = await everything(rig, shown["id"])
        for name, params in OPERATIONS.items():
            if name in ALLOWED.get(label, ()):
                continue
            for by in (FRONTLINE, SUPERVISOR):
                reply = await rig.operate(name, shown, by, **params)
                forbidden = by is FRONTLINE and name in SUPERVISED
                assert reply.code is (Code.FORBIDDEN if forbidden else Code.ILLEGAL_STATE), (name, reply)
                assert await everything(rig, shown["id"]) == before, name

    told(label, story)


@pytest.mark.req("SBA-API-09", "SBA-API-11", "SBA-API-13", "SBA-API-14", "SBA-API-15", "SBA-API-16", "SBA-API-19",
                 "SBA-API-23", "SBA-API-25", "SBA-API-26")
@pytest.mark.parametrize(("label", "name"), [(label, name) for label in STATES for name in
                                             sorted(ALLOWED.get(label, ()))])
def test_a_button_that_belongs_to_a_state_is_accepted_there(label, name):
    """Accepted: done, or asked for while risk control or the bank's window lets it wait; never ILLEGAL_STATE."""
    async def story(rig, shown):
        by = SUPERVISOR if name in SUPERVISED else FRONTLINE
        reply = await rig.operate(name, shown, by, **OPERATIONS[name])
        silent = {"new(freeze)", "new(blank)", "pending(return)", "pending(unfreeze)", "pending(transfer_reject)"}
        accepted = {Code.OK} | ({Code.DEPENDENCY_TIMEOUT} if label in silent else set())
        if (label, name) == ("pending(deduct_done)", "CashWithdrawStartTransfer"):
            accepted = {Code.BLOCKED}  # at 07:00 the bank's window is closed
        assert reply.code in accepted, reply

    told(label, story)


@pytest.mark.req("SBA-API-19", "SBA-API-21")
@pytest.mark.parametrize("label", OPEN)
def test_force_complete_from_every_open_state_deducts_once_and_ends_well(label):
    async def story(rig, shown):
        who = "alice"
        if label == "pending(transfer_auto)":  # alice was not paid; what a supervisor says must be true
            who = "bob"
            silent_bank(rig, paid=True, who=who)
            shown = await rig.withdrawn(label, who)
            await asyncio.sleep(10)
        for call in ("freeze", "deduct", "restore", "release", "hold"):
            rig.world.rpc.clear(f"risk_control.{call}")
        reply = await rig.operate("CashWithdrawForceProcess", shown, SUPERVISOR, **COMPLETE)
        assert reply.ok, reply
        assert reply.procedure["state"] == "end_ok(transfer_done)"
        money = await rig.money(who)
        assert (money.available, money.frozen, money.in_transit) == (9_000_000, 0, 0)

    told(label, story, then_s=30)


@pytest.mark.req("SBA-API-19", "SBA-API-20")
@pytest.mark.parametrize("label", OPEN)
def test_force_rollback_from_every_open_state_gives_the_money_back_once_and_ends_rejected(label):
    async def story(rig, shown):
        for call in ("freeze", "deduct", "restore", "release", "hold"):
            rig.world.rpc.clear(f"risk_control.{call}")
        reply = await rig.operate("CashWithdrawForceProcess", shown, SUPERVISOR, **ROLLBACK)
        assert reply.ok, reply
        assert reply.procedure["state"] == "end_reject"
        assert reply.procedure["reason"]
        money = await rig.money()
        assert (money.available, money.frozen, money.in_transit) == (10_000_000, 0, 0)

    told(label, story, then_s=30)
