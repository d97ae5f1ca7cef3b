"""The audit trail: one Flow record per step, in the same transaction, by name, never changed (§1.3)."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, update

from core.storage import Statement
from core.storage.errors import StorageError
from core.storage.procedure import flow
from tests.orchestration.driving import (
    CONFIRMED_BY_SUPERVISOR,
    DEPOSIT_WAYS,
    WITHDRAW_WAYS,
    Way,
    by_hand,
    create_withdrawal,
    deposit_credited,
    deposit_in_review,
    in_review,
    paid,
    speak,
)
from tests.rig import SUPERVISOR, USER, Rig, play

REST = [way for way in (*DEPOSIT_WAYS, *WITHDRAW_WAYS) if not way.planted]
STATES_AND_FLOWS = """
    SELECT p.id, p.status, p.ext_status, p.version, count(f.id),
           (SELECT to_status || '/' || to_ext_status FROM flow WHERE procedure_id = p.id ORDER BY id DESC LIMIT 1)
    FROM proc_info p LEFT JOIN flow f ON f.procedure_id = p.id GROUP BY p.id"""


class Witness:
    """Looks into the Procedure database after every single commit, as somebody would who pulled the plug there."""

    def __init__(self, rig: Rig) -> None:
        self.looked, self.states = 0, set()
        self._connection = rig.world.databases.procedure.connection
        rig.world.databases.on_commit = self._look

    def _look(self, database: str, _number: int) -> None:
        if database != "procedure":
            return
        self.looked += 1
        for _, status, ext, version, flows, last in self._connection.execute(STATES_AND_FLOWS).fetchall():
            assert version == flows
            assert last == f"{status}/{ext}"
            self.states.add((status, ext))


@pytest.mark.req("SBA-FLOW-01")
@pytest.mark.parametrize("way", REST, ids=lambda way: f"{way.drive.__name__}")
def test_at_every_commit_each_step_has_its_record_and_each_record_its_step(way: Way):
    async def story(rig: Rig) -> None:
        witness = Witness(rig)
        shown = await way.reached(rig)
        await asyncio.sleep(5)
        assert witness.looked
        assert (shown["status"], shown["ext_status"]) in witness.states
        speak(rig)

    play(story, **way.world)


@pytest.mark.req("SBA-FLOW-01")
def test_attributes_change_without_a_record_because_they_move_nothing():
    async def story(rig: Rig) -> None:
        shown = await by_hand(rig)
        await rig.sba.note_bank(shown["id"], bank_ack_at=1, abnormal=1, bank_code="X")
        assert len(await rig.sba.history(shown["id"])) == shown["version"]
        after = await rig.sba.procedure(shown["id"])
        assert (after["version"], after["abnormal"], after["bank_code"]) == (shown["version"], True, "X")

    play(story)


@pytest.mark.req("SBA-FLOW-01")
def test_a_refused_operation_writes_no_record():
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        await rig.operate("CashDepositManualConfirm", shown, version=99)
        await rig.operate("CashDepositReverse", shown, SUPERVISOR, **CONFIRMED_BY_SUPERVISOR)
        assert len(await rig.sba.history(shown["id"])) == 2

    play(story)


@pytest.mark.req("SBA-FLOW-02", "SBA-FLOW-03", "SBA-FLOW-06")
def test_a_record_says_from_where_to_where_by_whom_why_and_when_to_the_millisecond():
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        await asyncio.sleep(1.234)
        pressed = rig.now_ms
        await rig.operate("CashDepositManualConfirm", shown, remark="source of funds verified")
        latest, credited, *_ = rows = list(reversed(await rig.sba.history(shown["id"])))[2:]
        assert len(rows) == 2
        assert (latest.from_status, latest.from_ext_status) == ("new", "manual_confirm")
        assert (latest.to_status, latest.to_ext_status) == ("pending", "")
        assert (latest.operator, latest.remark) == ("staff_1001", "source of funds verified")
        assert latest.created_at == pressed
        assert latest.created_at % 1000 == 234
        assert (credited.operator, credited.remark) == ("system", "")
        assert credited.created_at > latest.created_at

    play(story, start="2026-03-12 10:00")


@pytest.mark.req("SBA-FLOW-02")
def test_the_first_record_comes_from_nowhere():
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        first = (await rig.sba.history(shown["id"]))[-1]
        assert (first.from_status, first.from_ext_status, first.to_status, first.to_ext_status) == (
            "", "", "new", "waiting")

    play(story)


MANUAL = [
    (deposit_in_review, "CashDepositManualReject", {}), (deposit_in_review, "CashDepositManualConfirm", {}),
    (deposit_credited, "CashDepositReverse", CONFIRMED_BY_SUPERVISOR),
    (in_review, "CashWithdrawManualConfirm", {}), (in_review, "CashWithdrawManualReject", {}),
    (in_review, "CashWithdrawReject", {}), (in_review, "CashWithdrawCancel", {}),
    (by_hand, "SetManualTransferFailed", {}), (by_hand, "MoveNextTransactionDay", {}),
    (by_hand, "SetManualTransferDone", {}), (paid, "CashWithdrawReverse", {}),
    (by_hand, "CashWithdrawForceProcess", {"action": "Rollback", "bank_status": "NOT_TRANSFERRED"}),
    (by_hand, "CashWithdrawForceProcess", {"action": "Complete", "bank_status": "TRANSFERRED"}),
]


@pytest.mark.req("SBA-FLOW-03", "SBA-FLOW-06")
@pytest.mark.parametrize(("drive", "operation", "params"), MANUAL,
                         ids=[f"{row[1]}{row[2].get('action', '')}" for row in MANUAL])
def test_every_manual_action_is_in_the_trail_under_its_operator_with_his_remark(drive, operation, params):
    async def story(rig: Rig) -> list[tuple[str, str]]:
        shown = await drive(rig)
        reply = await rig.operate(operation, shown, SUPERVISOR, remark="as agreed by phone", **params)
        assert reply.ok
        await asyncio.sleep(5)
        fresh = (await rig.sba.history(shown["id"]))[:-shown["version"]]
        assert {row.operator for row in fresh} <= {"system", SUPERVISOR.id}
        return [(row.operator, row.remark) for row in fresh]

    assert (SUPERVISOR.id, "as agreed by phone") in play(story)


@pytest.mark.req("SBA-FLOW-03")
def test_a_user_who_cancels_stands_in_the_trail_as_the_user():
    async def story(rig: Rig) -> None:
        shown = await create_withdrawal(rig)
        await rig.operate("CashWithdrawCancel", shown, USER, remark="changed my mind")
        row = next(row for row in await rig.sba.history(shown["id"]) if row.operator != "system")
        assert (row.operator, row.remark) == ("user_10000001", "changed my mind")

    play(story)


CHANGES: list[tuple[Statement, dict[str, Any]]] = [
    (Statement(update(flow).where(flow.c.id == bindparam("b_id")).values(remark=bindparam("remark"))),
     {"b_id": 1, "remark": "never happened"}),
    (Statement(update(flow).values(operator=bindparam("operator"))), {"operator": "system"}),
    (Statement(delete(flow).where(flow.c.id == bindparam("b_id"))), {"b_id": 1}),
    (Statement(delete(flow)), {}),
]


@pytest.mark.req("SBA-FLOW-04")
@pytest.mark.parametrize(("statement", "params"), CHANGES)
def test_the_store_refuses_to_change_or_delete_a_record(statement: Statement, params: dict[str, Any]):
    async def story(rig: Rig) -> None:
        shown = await deposit_in_review(rig)
        before = await rig.sba.history(shown["id"])
        with pytest.raises(StorageError, match="cannot be changed or deleted"):
            await rig.world.databases.procedure.execute(statement, params)
        assert await rig.sba.history(shown["id"]) == before

    play(story)


@pytest.mark.req("SBA-FLOW-05")
@pytest.mark.parametrize("way", REST, ids=lambda way: f"{way.drive.__name__}")
def test_the_history_begins_with_the_latest_record_which_leads_to_the_present_state(way: Way):
    async def story(rig: Rig) -> None:
        shown = await way.reached(rig)
        rows = await rig.sba.history(shown["id"])
        order = [(row.created_at, row.id) for row in rows]
        assert order == sorted(order, reverse=True)
        assert (rows[0].to_status, rows[0].to_ext_status) == (shown["status"], shown["ext_status"])
        for later, earlier in pairwise(rows):  # an unbroken chain
            assert (later.from_status, later.from_ext_status) == (earlier.to_status, earlier.to_ext_status)
        speak(rig)

    play(story, **way.world)


@pytest.mark.req("SBA-FLOW-05")
def test_histories_of_two_procedures_do_not_mix():
    async def story(rig: Rig) -> None:
        first, second = await deposit_in_review(rig), await deposit_credited(rig)
        ids = [{row.id for row in await rig.sba.history(shown["id"])} for shown in (first, second)]
        assert len(ids[0]) == 2
        assert len(ids[1]) == 3
        assert not ids[0] & ids[1]
        assert await rig.sba.history(999) == []

    play(story)
