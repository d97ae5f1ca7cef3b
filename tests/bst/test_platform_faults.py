"""Each fault that CMB and CMBC know, and what the platform does while it rages and after it: one table.

The same quarter of an hour for every row: a withdrawal and a deposit asked for in our App, a withdrawal, a deposit and
an unsigning begun at the bank, while the fault is in force. Money moves once for each, nothing is lost, nobody is told
without need, and afterwards the primary carries everything again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from platform_world import BANKS, Scene, at_bank

from emulators.bst.faults import FAULTS

P, B = "primary", "backup"
PLAIN: Mapping[str, Any] = {}
BOTH = {"server": "both"}
RAGES_S, TAKES_S = 300, 2400
PAID, BACK, STUCK = "paid", "returned", "stuck"
MEANS = {"DONE": PAID, "FAILED": BACK, "REJECTED": BACK, "PROCESSING": STUCK, "INIT": STUCK}  # Task and Apply
WISHES = ("withdrawal", "deposit", "withdrawal at the bank", "deposit at the bank")


class Row(NamedTuple):
    """A fault, and what comes of it."""

    fault: str
    given: Mapping[str, Any] = PLAIN
    over: tuple[str, ...] = (P,)  # the exit servers that were active, in order, until the end
    alerts: tuple[str, ...] = ()
    alerts_at: Mapping[str, tuple[str, ...]] = PLAIN  # where a bank's flavour tells more
    returned: tuple[str, ...] = ()  # what was not paid
    stuck: tuple[str, ...] = ()  # what waits for people; all else was paid
    fetched: tuple[str, ...] = ()  # kinds of pushes that only the recovery brought; what came behind them may be, too
    sent: int = 1  # how often an instruction was sent at most
    also: Mapping[str, Any] = PLAIN  # another fault, to let this one show
    sealed: bool = False  # also told in sealed and signed bytes


ASKED = WISHES[:3]  # what we have to instruct
SWITCHED = (P, B, P)
LOST_DEPOSIT = {"name": "lost_push", "message": "deposit_push"}
TABLE = (
    # the lines
    Row("drop", over=SWITCHED, alerts=("SOCK-01",)),
    Row("drop", BOTH, over=SWITCHED, alerts=("SOCK-01",), fetched=("DEPOSIT", "SIGN", "WITHDRAW"), sealed=True),
    Row("half_open", over=SWITCHED, alerts=("SOCK-01",)),
    Row("half_open", BOTH, over=SWITCHED, alerts=("SOCK-01",)),
    Row("silent_heartbeats", over=SWITCHED, alerts=("SOCK-01",)),
    Row("silent_heartbeats", BOTH, over=(P, B, P, B, P), alerts=("SOCK-01",)),
    Row("wrong_key", over=SWITCHED, alerts=("SOCK-01",), also={"name": "drop", "for_s": 1}),
    Row("wrong_key", BOTH, over=SWITCHED, alerts=("SOCK-01",), also={"name": "drop", "for_s": 1},
        fetched=("DEPOSIT", "SIGN", "WITHDRAW"), sealed=True),
    Row("split", BOTH),
    Row("merged", BOTH, sealed=True),
    # what is written
    Row("bad_signature", {"message": "withdraw", "count": 1}, over=SWITCHED, alerts=("SOCK-04",), sealed=True),
    Row("bad_signature", {"message": "result"}, alerts=("SOCK-04",), fetched=("RESULT",)),
    Row("bad_signature", {"message": "deposit_push"}, alerts=("SOCK-04",), fetched=("DEPOSIT",)),
    Row("sequence_gap", {"message": "withdraw", "count": 1}, over=SWITCHED, alerts=("SOCK-01",)),
    Row("sequence_gap", {"message": "deposit_push", "count": 1}, over=SWITCHED, alerts=("SOCK-01",),
        fetched=("DEPOSIT",), sealed=True),
    # pushes
    Row("duplicate_push"),
    Row("duplicate_push", {"fresh": True}, alerts=("AIRSTAR-11",)),
    Row("lost_push", {"count": 2}, fetched=("RESULT",)),
    Row("lost_push", {"message": "deposit_push"}, fetched=("DEPOSIT",)),
    Row("lost_push", {"message": "sign_notice"}, fetched=("SIGN",)),
    Row("lost_push", fetched=("DEPOSIT", "RESULT", "SIGN", "WITHDRAW")),
    Row("lost_ack", {"count": 4}),
    Row("lost_ack"),
    # answers and results
    Row("timeout", {"message": "withdraw", "processed": True, "count": 1}, over=SWITCHED),
    Row("timeout", {"message": "withdraw", "processed": False, "count": 1}, over=SWITCHED, sent=2),
    Row("timeout", {"processed": True}),
    Row("timeout", {"processed": False}, over=SWITCHED, sent=2),
    Row("answer_minus5", {"late_s": 40}, over=SWITCHED),
    Row("answer_minus5", {"processed": False, "server": P}, over=SWITCHED, sent=2),
    Row("answer_minus5", {"at": "result", "late_s": 40}, over=SWITCHED),
    Row("reject", returned=ASKED),
    Row("reject", {"at": "answer"}, returned=ASKED),
    Row("system_error", {"server": P}, over=SWITCHED, sent=2),
    Row("system_error", {"processed": True}, over=SWITCHED),
    Row("malformed", {"count": 1}, sent=2),
    Row("malformed", returned=ASKED, sent=2),
    Row("forged", alerts=("SOCK-04", "SOCK-05"), stuck=ASKED),
    Row("unsigned", returned=ASKED),
    Row("limit", returned=ASKED),
    Row("closed", sent=6),
    Row("slow"),
    Row("slow", {"delay_s": 20}),
    # lists
    Row("list_disagrees", {"how": "missing", "message": "list"}, fetched=("DEPOSIT",),
        also=LOST_DEPOSIT),
    Row("list_disagrees", {"how": "foreign", "message": "list"}, fetched=("DEPOSIT",), alerts=("DEP-08",),
        alerts_at={"cmbc": ("DEP-08", "SOCK-09")}, also=LOST_DEPOSIT),
    Row("list_outage", fetched=("DEPOSIT",), also=LOST_DEPOSIT, sealed=True),
    Row("list_outage", {"answer": "silence"}, fetched=("DEPOSIT",),
        also=LOST_DEPOSIT),
)


def test_every_fault_has_a_row() -> None:
    assert {row.fault for row in TABLE} == set(FAULTS)


class Ends:
    """What the four wishes have come to."""

    def __init__(self, scene: Scene, task: Any, apply: Any) -> None:
        self._scene, self._task, self._apply = scene, task, apply

    async def all(self) -> dict[str, str]:
        scene = self._scene
        tasks = [await scene.task_status(self._task), (await self._at_bank("task"))["status"]]
        applies = [await scene.apply_status(self._apply), (await self._at_bank("apply"))["status"]]
        said = [tasks[0], applies[0], tasks[1], applies[1]]
        return {wish: MEANS.get(one, one) for wish, one in zip(WISHES, said, strict=True)}

    async def _at_bank(self, kind: str) -> dict[str, Any]:
        known = self._task.id if kind == "task" else self._apply.id
        return [one for one in self._scene.rig.of_kind(kind) if one[kind] != known][-1]


def each(rows: tuple[Row, ...] = TABLE) -> list[Any]:
    return [pytest.param(row, id=" ".join([row.fault, *(f"{k}={v}" for k, v in row.given.items())])) for row in rows]


def lines(scene: Scene) -> tuple[str, ...]:
    """The servers that became active, in order."""
    return tuple(one["server"] for one in scene.rig.of_kind("bank.line", bank=scene.name, phase="active"))


async def rage(scene: Scene, row: Row) -> Ends:
    """The quarter of an hour."""
    await asyncio.sleep(60)
    scene.bank.fault(row.fault, for_s=RAGES_S, **row.given)
    if row.also:
        scene.bank.fault(**({"for_s": RAGES_S} | dict(row.also)))
    await asyncio.sleep(1)
    task, apply = await scene.withdraw("alice"), await scene.deposit("bob")
    await asyncio.sleep(60)
    scene.asks("withdraw", "alice")
    scene.asks("deposit", "bob")
    await asyncio.sleep(30)
    scene.bank.unsign("bob", 2)
    await asyncio.sleep(TAKES_S)
    return Ends(scene, task, apply)


def moved(row: Row, direction: str) -> int:
    """How many of the two wishes of a direction were paid."""
    return sum(wish.startswith(direction) for wish in WISHES if wish not in row.returned + row.stuck)


def check(bank: str, row: Row, wire: str = "messages") -> None:
    """Tell the story and look at everything that the fault may have touched."""

    async def story(scene: Scene) -> None:
        ends = await rage(scene, row)
        assert await ends.all() == {
            wish: BACK if wish in row.returned else STUCK if wish in row.stuck else PAID for wish in WISHES}
        held = len([wish for wish in row.stuck if wish.startswith("withdrawal")])
        paid, collected = moved(row, "withdrawal"), moved(row, "deposit")
        assert await scene.money("alice") == {
            "available": 10_000_000 - 1_000_000 * (paid + held), "frozen": 0, "in_transit": 1_000_000 * held}
        assert await scene.money("bob") == {
            "available": 10_000_000 + 1_000_000 * collected, "frozen": 0, "in_transit": 0}
        assert (len(scene.booked("pay")), len(scene.booked("collect"))) == (paid, collected)
        assert lines(scene) == row.over and scene.active == P
        assert tuple(sorted({*scene.alerts()})) == row.alerts_at.get(scene.name, row.alerts)
        sendings = Counter(ref for kind in ("withdraw", "deposit") for _, _, ref in scene.heard(kind))
        assert max(sendings.values()) == row.sent
        fetched = {kind for _, kind, _, source, _ in await scene.pushes() if source != "push"}
        assert fetched >= set(row.fetched) and (row.fetched or not fetched)
        unsigned = await scene.rig.core.agreements[bank].of_card(
            scene.rig.world.card_id(scene.rig.customer("bob"), bank), 2)
        assert unsigned is not None and not unsigned.signed

    at_bank(bank, story, wire=wire)


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("row", each())
def test_what_the_platform_does_under_a_fault(bank: str, row: Row) -> None:
    check(bank, row)


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("row", each(tuple(row for row in TABLE if row.sealed)))
def test_the_same_in_sealed_and_signed_bytes(bank: str, row: Row) -> None:
    check(bank, row, wire="full")
