"""What the platform does with each callback code of gaps.md B-08, wherever the bank can say it: one table.

The answer to an instruction and the pushed result, for withdrawals and for deposits begun in our App, at both banks.
Whatever the bank says, money moves at most once under one reference, and silence or doubt releases nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from platform_world import BANKS, CREDITED, HELD, PAID, START, Scene, at_bank

from core.clock import MS_PER_S
from core.money import format_wire
from core.wire.socket import messages as m
from core.wire.socket.messages import CALLBACKS

ANSWER, RESULT = "answer", "result"
DONE, BACK, STUCK = "paid", "returned", "held"  # what a transfer comes to
P, B = "primary", "backup"
LATE_S = 40  # the true result, where the bank says something else before it
SLOW = {"median": 20.0, "p99": 20.1}  # seconds: a result that the bank has not got yet


class Case(NamedTuple):
    """What the bank says, how it is made to, and what must come of it."""

    code: int
    where: str
    how: Callable[[Scene, str], object]  # (scene, withdraw or deposit)
    end: str
    over: tuple[str, ...] = (P,)  # exit servers over which the instruction is sent, in order
    asked: tuple[str, ...] = ()  # exit servers that are asked where it stands, before anything else
    alerts: tuple[str, ...] = ()
    slow: bool = False  # whether the result takes its time
    about: str = ""


def fault(name: str, **given: Any) -> Callable[[Scene, str], object]:
    """A fault of the bank's, for this instruction."""
    return lambda scene, kind: scene.bank.fault(name, message=kind, **given)


def outcome(code: int) -> Callable[[Scene, str], object]:
    """The bank takes it on, and this is its result."""
    return lambda scene, kind: scene.bank.values.outcome.__init__([(code, 1.0)], "outcome")


def said_early(code: int) -> Callable[[Scene, str], object]:
    """The bank pushes this code as a result, before it has the true one."""

    def arrange(scene: Scene, kind: str) -> None:
        async def say() -> None:
            while not scene.heard(kind):
                await asyncio.sleep(0.1)
            transfer = scene.bank.find(scene.heard(kind)[0][2])
            assert transfer is not None
            scene.bank.desk.tell_result(transfer, code)

        scene.rig.world._keep(say())

    return arrange


def had_before(scene: Scene, kind: str) -> None:
    """The same instruction has come to the bank by another way, a moment before ours."""

    def copy(event: Any) -> None:
        if event[2] == "bank.request" and event[4]["message"] == ("deposit" if kind == "deposit" else "withdraw"):
            ref, card, amount = event[3], scene.card(), format_wire(1_000_000)
            holder = scene.rig.customer("alice").name
            body = (m.DepositRequest(ref, holder, card, "HKD", amount, "HK") if kind == "deposit" else
                    m.WithdrawalRequest(ref, holder, card, "HKD", amount, "HK", holder))
            scene.bank.instruct(kind, body, "backup")

    scene.rig.world.trace.subscribe(copy)


CASES = (
    Case(0, ANSWER, lambda scene, kind: None, DONE, about="taken on, and the result is 0"),
    Case(0, RESULT, fault("slow", delay_s=7), DONE, about="the result comes before its own answer"),
    Case(-1, ANSWER, fault("system_error", count=1), DONE, (P, B), (B,), about="nothing was done"),
    Case(-1, ANSWER, fault("system_error", count=1, processed=True), DONE, (P,), (B,), slow=True, about="it was done"),
    Case(-1, ANSWER, fault("system_error"), STUCK, (P, B), (B,), ("SOCK-05",), about="said by both servers"),
    Case(-1, RESULT, said_early(-1), DONE, (P,), (B,), slow=True),
    Case(-2, ANSWER, fault("malformed", count=1), DONE, (P, P), about="once more, and it is read"),
    Case(-2, ANSWER, fault("malformed"), BACK, (P, P), about="once more, then failed"),
    Case(-2, RESULT, said_early(-2), DONE, (P,), (B,), slow=True),
    Case(-3, ANSWER, fault("forged", count=1), STUCK, (P,), (), ("SOCK-04", "SOCK-05"), about="never again"),
    Case(-3, RESULT, said_early(-3), DONE, (P,), (B,), slow=True),
    Case(-4, ANSWER, had_before, DONE, (P,), (P,), slow=True, about="the original's result"),
    Case(-4, RESULT, said_early(-4), DONE, (P,), (B,), slow=True),
    Case(-5, ANSWER, fault("answer_minus5", count=1, processed=False), DONE, (P, B), (B,), about="nothing was done"),
    Case(-5, ANSWER, fault("answer_minus5", count=1, late_s=LATE_S), DONE, (P,), (B,), about="a late 0"),
    Case(-5, ANSWER, fault("answer_minus5", processed=False), STUCK, (P, B), (B,), ("SOCK-05",), about="by both"),
    Case(-5, ANSWER, fault("timeout", count=1, processed=False), DONE, (P, B), (B,), about="silence, nothing done"),
    Case(-5, ANSWER, fault("timeout", count=1), DONE, (P,), (), slow=False, about="silence, and the result is pushed"),
    Case(-5, RESULT, fault("answer_minus5", count=1, at="result", late_s=LATE_S), DONE, (P,), (B,), about="a late 0"),
    Case(-6, ANSWER, fault("reject", at="answer"), BACK),
    Case(-6, RESULT, fault("reject"), BACK),
    Case(-7, ANSWER, fault("unsigned"), BACK),
    Case(-7, RESULT, outcome(-7), BACK),
    Case(-8, ANSWER, fault("limit"), BACK),
    Case(-8, RESULT, outcome(-8), BACK),
    Case(-9, ANSWER, fault("closed", count=3), DONE, (P, P, P, P), about="again until the bank is open"),
    Case(-9, RESULT, said_early(-9), DONE, (P,), (B,), slow=True),
)


def test_every_code_is_said_everywhere_in_the_table() -> None:
    assert {(case.code, case.where) for case in CASES} == {(code, where) for code in CALLBACKS
                                                          for where in (ANSWER, RESULT)}


def each() -> list[Any]:
    return [pytest.param(case, id=f"{case.where} {case.code} {case.about}".strip()) for case in CASES]


async def begin(scene: Scene, kind: str) -> Any:
    return await (scene.withdraw() if kind == "withdraw" else scene.deposit())


async def ended(scene: Scene, kind: str, begun: Any) -> str:
    """What the transfer has come to, with everything that belongs to it."""
    money, status = await scene.money(), ""
    if kind == "withdraw":
        shown = await scene.of_task(begun)
        status, held = await scene.task_status(begun), shown["state"]
        known = {("end_ok(transfer_done)", "DONE"): (DONE, PAID), ("end_reject", "FAILED"): (BACK, START),
                 ("pending(transfer_auto)", "PROCESSING"): (STUCK, HELD)}
        if held == "end_reject":
            assert "pending(return)" in await scene.rig.way(shown["id"]) and shown["reason"] == "BANK_REJECTED"
    else:
        status, held = await scene.apply_status(begun), ""
        known = {("", "DONE"): (DONE, CREDITED), ("", "REJECTED"): (BACK, START), ("", "INIT"): (STUCK, START)}
    assert (held, status) in known, (held, status)
    end, expected = known[held, status]
    assert money == expected, (end, money)
    return end


@pytest.mark.req("SOCK-07", "SOCK-08", "SOCK-11")
@pytest.mark.parametrize("kind", ["withdraw", "deposit"])
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("case", each())
def test_what_the_platform_does_with_a_callback_code(bank: str, kind: str, case: Case) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(700)
        case.how(scene, kind)
        begun = await begin(scene, kind)
        await asyncio.sleep(3 * 3600)
        assert await ended(scene, kind, begun) == case.end
        sent = scene.heard(kind)
        assert [server for _, server, _ in sent] == list(case.over)
        assert len({reference for _, _, reference in sent}) == 1  # one reference, whatever happens
        asked = [(at, server) for at, server, _ in scene.heard("query")]
        assert [server for _, server in asked][:len(case.asked)] == list(case.asked)
        if case.over[1:] and case.asked:  # the query comes before the second sending
            assert sent[0][0] < asked[0][0] < sent[1][0]
        moved = scene.booked("pay" if kind == "withdraw" else "collect")
        assert moved == ([(sent[0][2], 1_000_000)] if case.end == DONE else [])
        assert tuple(sorted({*scene.alerts()})) == case.alerts
        await decided(scene, kind, case)

    slow = {f"sim.{bank}.result.{name}": value for name, value in SLOW.items()} if case.slow else {}
    at_bank(bank, story, settings=slow)


async def decided(scene: Scene, kind: str, case: Case) -> None:
    pass
