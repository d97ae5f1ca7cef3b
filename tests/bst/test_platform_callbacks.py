"""What the platform does with each callback code of gaps.md B-08, wherever the bank can say it: one table.

The answer to an instruction and the pushed result, for withdrawals and for deposits begun in our App, at both banks.
Whatever the bank says, money moves at most once under one reference, and silence or doubt releases nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from platform_world import BANKS, CREDITED, HELD, PAID, START, Scene, at_bank

from core.clock import MS_PER_S, hkt
from core.domain import JobState
from core.errors import Code
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
    deposit: str = ""  # what a deposit comes to, if to something else: nothing of the customer's waits with us
    slow: bool = False  # whether the result takes its time
    result: int = 0  # what the bank comes to
    about: str = ""


def fault(name: str, **given: Any) -> Callable[[Scene, str], object]:
    """A fault of the bank's, for this instruction."""
    return lambda scene, kind: scene.bank.fault(name, message=kind, **given)


def nothing(_scene: Scene, _kind: str) -> None:
    """The bank does what it does."""


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


def came_late(scene: Scene, kind: str) -> None:
    """Our first sending is on its way for so long that it comes to the bank a moment before the second."""
    scene.bank.fault("timeout", message=kind, processed=False, count=1)
    copied_before(scene, kind, attempt=2)


def copied_before(scene: Scene, kind: str, attempt: int = 1) -> None:
    """The same instruction comes to the bank by another way, a moment before ours."""

    def copy(event: Any) -> None:
        if event[2] == "bank.request" and (event[4]["message"], event[4]["attempt"]) == (kind, attempt):
            ref, card, amount = event[3], scene.card(), format_wire(1_000_000)
            holder = scene.rig.customer("alice").name
            body = (m.DepositRequest(ref, holder, card, "HKD", amount, "HK") if kind == "deposit" else
                    m.WithdrawalRequest(ref, holder, card, "HKD", amount, "HK", holder))
            scene.bank.instruct(kind, body, "backup")

    scene.rig.world.trace.subscribe(copy)


CASES = (
    Case(0, ANSWER, nothing, DONE, about="taken on, and the result is 0"),
    Case(0, RESULT, fault("slow", delay_s=7), DONE, about="the result comes before its own answer"),
    Case(-1, ANSWER, fault("system_error", count=1), DONE, (P, B), (B,), about="nothing was done"),
    Case(-1, ANSWER, fault("system_error", count=1, processed=True), DONE, (P,), (B,), slow=True, about="it was done"),
    Case(-1, ANSWER, fault("system_error"), STUCK, (P, B), (B,), ("SOCK-05",), BACK, about="by both servers"),
    Case(-1, RESULT, said_early(-1), DONE, (P,), (B,), slow=True),
    Case(-2, ANSWER, fault("malformed", count=1), DONE, (P, P), about="once more, and it is read"),
    Case(-2, ANSWER, fault("malformed"), BACK, (P, P), about="once more, then failed"),
    Case(-2, RESULT, said_early(-2), DONE, (P,), (B,), slow=True),
    Case(-3, ANSWER, fault("forged", count=1), STUCK, (P,), (), ("SOCK-04", "SOCK-05"), about="never again"),
    Case(-3, RESULT, said_early(-3), DONE, (P,), (B,), slow=True),
    Case(-4, ANSWER, came_late, DONE, (P, B), (B,), slow=True, about="after a doubt: the original's result"),
    Case(-4, RESULT, said_early(-4), DONE, (P,), (B,), slow=True),
    Case(-5, ANSWER, fault("answer_minus5", count=1, processed=False), DONE, (P, B), (B,), about="nothing was done"),
    Case(-5, ANSWER, fault("answer_minus5", count=1, late_s=LATE_S), DONE, (P,), (B,), about="a late 0"),
    Case(-5, ANSWER, fault("answer_minus5", processed=False), STUCK, (P, B), (B,), ("SOCK-05",), BACK, about="by both"),
    Case(-5, ANSWER, fault("timeout", count=1, processed=False), DONE, (P, B), (B,), about="silence, nothing done"),
    Case(-5, ANSWER, fault("timeout", count=1), DONE, (P,), (), slow=False, about="silence, and the result is pushed"),
    Case(-5, RESULT, fault("answer_minus5", count=1, at="result", late_s=LATE_S), DONE, (P,), (B,), about="a late 0"),
    Case(-6, ANSWER, fault("reject", at="answer"), BACK),
    Case(-6, RESULT, fault("reject"), BACK),
    Case(-7, ANSWER, fault("unsigned"), BACK),
    Case(-7, RESULT, nothing, BACK, result=-7),
    Case(-8, ANSWER, fault("limit"), BACK),
    Case(-8, RESULT, nothing, BACK, result=-8),
    Case(-9, ANSWER, fault("closed", count=3), DONE, (P, P, P, P), about="again until the bank is open"),
    Case(-9, RESULT, said_early(-9), DONE, (P,), (B,), slow=True),
)


def test_every_code_is_said_everywhere_in_the_table() -> None:
    assert {(case.code, case.where) for case in CASES} == {(code, where) for code in CALLBACKS
                                                          for where in (ANSWER, RESULT)}


def each() -> list[Any]:
    return [pytest.param(case, id=f"{case.where} {case.code} {case.about}".strip()) for case in CASES]


def of_bank(bank: str, case: Case) -> dict[str, Any]:
    """Settings of the bank that the case wants."""
    slow = {f"sim.{bank}.result.{name}": value for name, value in SLOW.items()} if case.slow else {}
    return {f"sim.{bank}.outcome": [[case.result, 1.0]], **slow}


async def begin(scene: Scene, kind: str) -> Any:
    return await (scene.withdraw() if kind == "withdraw" else scene.deposit())


async def ended(scene: Scene, kind: str, begun: Any, reason: str) -> str:
    """What the transfer has come to, with everything that belongs to it."""
    money, status = await scene.money(), ""
    if kind == "withdraw":
        shown = await scene.of_task(begun)
        status, held = await scene.task_status(begun), shown["state"]
        known = {("end_ok(transfer_done)", "DONE"): (DONE, PAID), ("end_reject", "FAILED"): (BACK, START),
                 ("pending(transfer_auto)", "PROCESSING"): (STUCK, HELD)}
        if held == "end_reject":
            assert "pending(return)" in await scene.rig.way(shown["id"]) and shown["reason"] == reason
    else:
        status, held = await scene.apply_status(begun), ""
        known = {("", "DONE"): (DONE, CREDITED), ("", "REJECTED"): (BACK, START), ("", "INIT"): (STUCK, START)}
    assert (held, status) in known, (held, status)
    end, expected = known[held, status]
    assert money == expected, (end, money)
    return end


def check(bank: str, kind: str, case: Case, wire: str = "messages") -> None:
    """Tell the case's story and look at everything that it may have touched."""

    async def story(scene: Scene) -> None:
        await asyncio.sleep(700)
        case.how(scene, kind)
        begun, reason = await begin(scene, kind), "BANK_REJECTED" if case.code == -7 else "BANK_FAILED"
        await asyncio.sleep(2.5 * 3600 if case.end == STUCK else 240)
        end = case.deposit if kind == "deposit" and case.deposit else case.end
        assert await ended(scene, kind, begun, reason) == end
        sent = scene.heard(kind)
        assert [server for _, server, _ in sent] == list(case.over)
        assert len({reference for _, _, reference in sent}) == 1  # one reference, whatever happens
        asked = [(at, server) for at, server, _ in scene.heard("query")]
        assert [server for _, server in asked][:len(case.asked)] == list(case.asked)
        if case.over[1:] and case.asked:  # the query comes before the second sending
            assert sent[0][0] < asked[0][0] < sent[1][0]
        moved = scene.booked("pay" if kind == "withdraw" else "collect")
        assert moved == ([(sent[0][2], 1_000_000)] if end == DONE else [])
        assert tuple(sorted({*scene.alerts()})) == (case.alerts if end == case.end else ())

    at_bank(bank, story, settings=of_bank(bank, case), wire=wire)


@pytest.mark.req("SOCK-07", "SOCK-08")
@pytest.mark.parametrize("kind", ["withdraw", "deposit"])
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("case", each())
def test_what_the_platform_does_with_a_callback_code(bank: str, kind: str, case: Case) -> None:
    check(bank, kind, case)


@pytest.mark.req("SOCK-07", "SOCK-08")
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("case", [one for one in each() if one.values[0].code in (0, -3, -5, -6)
                                  and not one.values[0].about.startswith(("silence", "by both"))])
def test_the_same_in_sealed_and_signed_bytes(bank: str, case: Case) -> None:
    check(bank, "withdraw", case, wire="full")


# --- the window -------------------------------------------------------------------------------------------------

LONG_WAY = {"median": 1.5, "p99": 1.51}  # seconds from us to the bank: it may close meanwhile


def long_way(bank: str) -> dict[str, Any]:
    return {f"sim.{bank}.link.{name}": value for name, value in LONG_WAY.items()}


def clock_of(scene: Scene, at_s: float) -> str:
    return f"{hkt(round(at_s * MS_PER_S)):%H:%M}"


@pytest.mark.req("SOCK-11")
@pytest.mark.parametrize("kind", ["withdraw", "deposit"])
@pytest.mark.parametrize("bank", BANKS)
def test_outside_the_window_it_stays_and_is_sent_again_at_the_opening_under_the_same_reference(
    bank: str, kind: str
) -> None:
    async def story(scene: Scene) -> None:
        await scene.rig.until("2026-03-13 03:59:59")  # still Thursday's session; our instruction arrives after it
        begun = await begin(scene, kind)
        await scene.rig.until("2026-03-13 06:59:59")
        assert await ended(scene, kind, begun, "") == STUCK
        await scene.rig.until("2026-03-13 07:01")
        assert await ended(scene, kind, begun, "") == DONE
        sent = scene.heard(kind)
        assert [clock_of(scene, at) for at, _, _ in sent] == ["04:00", "07:00"]
        assert len({reference for _, _, reference in sent}) == 1
        assert len(scene.booked("pay" if kind == "withdraw" else "collect")) == 1
        assert not scene.alerts()

    at_bank(bank, story, start="2026-03-13 03:55", settings=long_way(bank))


@pytest.mark.req("SOCK-11")
@pytest.mark.parametrize("bank", BANKS)
def test_a_doubt_at_the_closing_waits_for_the_opening_and_is_asked_about_before_it_is_sent_again(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("answer_minus5", processed=False, count=1)
        await scene.rig.until("2026-03-13 03:59:57")
        begun = await begin(scene, "withdraw")
        await scene.rig.until("2026-03-13 06:59:59")
        assert await ended(scene, "withdraw", begun, "") == STUCK
        assert not scene.alerts()
        await scene.rig.until("2026-03-13 07:01")
        assert await ended(scene, "withdraw", begun, "") == DONE
        sent, asked = scene.heard("withdraw"), scene.heard("query")
        assert [(clock_of(scene, at), server) for at, server, _ in sent] == [("03:59", P), ("07:00", B)]
        assert sent[0][2] == sent[1][2] and asked[-1][0] < sent[1][0]
        assert len(scene.booked("pay")) == 1

    at_bank(bank, story, start="2026-03-13 03:55", settings=long_way(bank))


@pytest.mark.req("SOCK-11")
@pytest.mark.parametrize("bank", BANKS)
def test_outside_the_window_after_a_doubt_does_not_count_as_a_sending(bank: str) -> None:
    """-5 over the primary, -9 over the backup: neither has paid, and the same reference goes on being sent."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("answer_minus5", processed=False, count=1)
        scene.bank.fault("closed", server=B, count=3)
        begun = await begin(scene, "withdraw")
        await asyncio.sleep(300)
        assert await ended(scene, "withdraw", begun, "") == DONE
        assert scene.over("withdraw") == [P, B, B, B, B]
        assert len(scene.booked("pay")) == 1 and not scene.alerts()

    at_bank(bank, story)


@pytest.mark.req("SOCK-11")
@pytest.mark.parametrize("bank", BANKS)
def test_if_the_market_closes_before_the_bank_opens_the_bank_is_asked_and_the_money_returns(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("closed")
        begun = await begin(scene, "withdraw")
        await scene.rig.until("2026-03-12 16:14:59")
        assert await ended(scene, "withdraw", begun, "") == STUCK
        await scene.rig.until("2026-03-12 16:16")
        assert await ended(scene, "withdraw", begun, "BANK_FAILED") == BACK
        assert (await scene.of_task(begun))["bank_code"] == "-9"
        assert scene.heard("query")[-1][0] > scene.heard("withdraw")[-1][0] and not scene.booked("pay")

    at_bank(bank, story, start="2026-03-12 16:12")


@pytest.mark.parametrize("bank", BANKS)
def test_what_the_bank_has_after_all_is_paid_though_the_market_has_closed(bank: str) -> None:
    """The last sending before the cutoff was in doubt: what the bank knows of it counts, not the hour."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("answer_minus5", late_s=120)
        begun = await begin(scene, "withdraw")
        await asyncio.sleep(300)
        assert await ended(scene, "withdraw", begun, "") == DONE
        assert len(scene.booked("pay")) == 1

    at_bank(bank, story, start="2026-03-12 16:14:30")


# --- people -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bank", BANKS)
def test_what_people_have_decided_is_not_sent_again(bank: str) -> None:
    """The first sending was lost, both servers were away for hours, people asked the bank and gave the money back: a
    job that somebody retries then must not pay."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("timeout", message="withdraw", processed=False, count=1)
        task = await scene.withdraw()
        await asyncio.sleep(2)
        scene.bank.fault("drop", server="both", for_s=3 * 3600)
        await asyncio.sleep(2.5 * 3600)
        shown = await scene.of_task(task)
        assert shown["poll_exhausted"] and "SOCK-05" in scene.alerts()
        reply = await scene.rig.operate("SetManualTransferFailed", shown)
        assert reply.ok, reply
        await asyncio.sleep(3600)
        assert await ended(scene, "withdraw", task, "MANUAL_TRANSFER_FAILED") == BACK
        (given_up,) = await scene.rig.core.jobs.in_state(JobState.EXCEPTION)
        assert await scene.rig.core.jobs.retry_now(given_up.id, "staff_1001")
        await asyncio.sleep(60)
        assert len(scene.heard("withdraw")) == 1 and not scene.booked("pay")
        assert await ended(scene, "withdraw", task, "MANUAL_TRANSFER_FAILED") == BACK

    at_bank(bank, story)


@pytest.mark.parametrize(("first", "then"), [(-6, 0), (0, -6)])
@pytest.mark.parametrize("kind", ["withdraw", "deposit"])
@pytest.mark.parametrize("bank", BANKS)
def test_a_bank_that_contradicts_itself_moves_nothing_and_people_are_told_at_once(
    bank: str, kind: str, first: int, then: int
) -> None:
    async def story(scene: Scene) -> None:
        begun = await begin(scene, kind)
        await asyncio.sleep(30)
        end = BACK if first else DONE
        assert await ended(scene, kind, begun, "BANK_FAILED") == end
        transfer = scene.bank.find(scene.heard(kind)[0][2])
        assert transfer is not None
        scene.bank.desk.tell_result(transfer, then)
        await asyncio.sleep(30)
        assert await ended(scene, kind, begun, "BANK_FAILED") == end
        assert scene.alerts() == ["WD-08"]

    at_bank(bank, story, settings={f"sim.{bank}.outcome": [[first, 1.0]]})


@pytest.mark.parametrize("bank", BANKS)
def test_a_result_of_none_of_our_transfers_is_kept_and_told_at_once(bank: str) -> None:
    async def story(scene: Scene) -> None:
        strange = scene.bank._transfer("ELSEWHERE1", "withdraw", scene.bank.customers()[0], "HK", "HKD", 500)
        scene.bank.desk.tell_result(strange, 0)
        await asyncio.sleep(30)
        assert scene.alerts() == ["RECON-02"]
        assert [row[3:] for row in await scene.pushes()] == [("push", "REFUSED")]
        assert await scene.money() == START

    at_bank(bank, story)


@pytest.mark.parametrize("kind", ["withdraw", "deposit"])
@pytest.mark.parametrize("bank", BANKS)
def test_a_result_with_another_amount_is_not_believed(bank: str, kind: str) -> None:
    async def story(scene: Scene) -> None:
        begun = await begin(scene, kind)
        while not scene.heard(kind):
            await asyncio.sleep(0.1)
        transfer = scene.bank.find(scene.heard(kind)[0][2])
        assert transfer is not None
        transfer.amount += 1
        scene.bank.desk.tell_result(transfer, 0)
        transfer.amount -= 1
        await asyncio.sleep(10)
        assert await ended(scene, kind, begun, "") == STUCK
        assert len(scene.alerts()) == 1
        await asyncio.sleep(120)  # the true result under the same code is no news; the query finds it
        assert await ended(scene, kind, begun, "") == DONE
        assert len(scene.booked("pay" if kind == "withdraw" else "collect")) == 1

    at_bank(bank, story, settings={f"sim.{bank}.result.{name}": value for name, value in SLOW.items()})


# --- a reference that the bank has from somebody else, or with another content ---------------------------------------


async def of_job(scene: Scene, kind: str, begun: Any) -> str:
    """The key of alerts about the transfer."""
    return f"P{(await scene.of_task(begun))['id']}" if kind == "withdraw" else f"A{begun.id}"


def keys(scene: Scene, rule: str) -> list[str]:
    return [one["key"] for one in scene.rig.of_kind("alert", phase="raised") if one["rule"] == rule]


@pytest.mark.req("SOCK-07", "SOCK-08", "DEDUP-08")
@pytest.mark.parametrize("kind", ["withdraw", "deposit"])
@pytest.mark.parametrize("bank", BANKS)
def test_a_reference_that_the_bank_had_before_we_first_sent_it_is_not_ours(bank: str, kind: str) -> None:
    """The books were restored from a backup, say, and the number is drawn once more. It may even look the same."""

    async def story(scene: Scene) -> None:
        copied_before(scene, kind)
        begun = await begin(scene, kind)
        await asyncio.sleep(3600)  # the other one's result has been pushed meanwhile
        assert await ended(scene, kind, begun, "") == STUCK
        assert keys(scene, "SOCK-07") == [await of_job(scene, kind, begun)]
        assert [row[1:] for row in await scene.transfers()] == [("WITHDRAW" if kind == "withdraw" else "DEPOSIT",
                                                                "FAILED", -4)]
        if kind == "withdraw":  # asked by people, the bank says PAID, of the other one
            shown = await scene.of_task(begun)
            assert (await scene.rooms.withdrawals.query_bank(shown["id"])).outcome.value == "UNKNOWN"
        (given_up,) = [job for job in await scene.rig.core.jobs.in_state(JobState.EXCEPTION)
                       if job.event in (scene.rooms.withdrawals._names.transfer, scene.rooms.deposits._names.collect)]
        assert await scene.rig.core.jobs.retry_now(given_up.id, "staff_1001")
        await asyncio.sleep(60)
        assert await ended(scene, kind, begun, "") == STUCK
        if kind == "withdraw":  # and people may give the money back
            assert (await scene.rig.operate("SetManualTransferFailed", await scene.of_task(begun))).ok
            await asyncio.sleep(60)
            assert await ended(scene, kind, begun, "MANUAL_TRANSFER_FAILED") == BACK
        assert len(scene.heard(kind)) == 1

    at_bank(bank, story, planted=True)


@pytest.mark.parametrize("bank", BANKS)
def test_the_bank_refuses_a_known_reference_with_another_content(bank: str) -> None:
    """B-08, -2: nothing was done, once more, then failed: the money is the customer's again."""

    async def story(scene: Scene) -> None:
        def before(event: Any) -> None:
            if event[2] == "bank.request" and event[4]["message"] == "withdraw" and event[4]["attempt"] == 1:
                bob = scene.rig.customer("bob").name
                ruling = scene.bank.instruct("withdraw", m.WithdrawalRequest(
                    event[3], bob, scene.card("bob"), "HKD", "10000.00", "HK", bob), "backup")
                assert ruling.code in (0, -4), ruling

        scene.rig.world.trace.subscribe(before)
        begun = await begin(scene, "withdraw")
        await asyncio.sleep(240)
        assert await ended(scene, "withdraw", begun, "BANK_FAILED") == BACK
        assert scene.over("withdraw") == [P, P]

    at_bank(bank, story, planted=True)


def another(scene: Scene, reference: str, what: str) -> None:
    """What the bank has under the reference is another's, in one thing."""
    transfer = scene.bank.find(reference)
    assert transfer is not None
    changed = {"amount": 900_000, "ccy": "USD", "kind": "deposit" if transfer.kind == "withdraw" else "withdraw",
               "customer": next(one for one in scene.bank.customers() if one.card_no == scene.card("bob"))}
    setattr(transfer, what, changed[what])


@pytest.mark.req("SOCK-07", "DEDUP-08")
@pytest.mark.parametrize("result", [0, -6])
@pytest.mark.parametrize("what", ["amount", "ccy", "kind", "customer"])
@pytest.mark.parametrize("kind", ["withdraw", "deposit"])
@pytest.mark.parametrize("bank", BANKS)
def test_an_answer_about_another_transfer_settles_nothing(bank: str, kind: str, what: str, result: int) -> None:
    """Neither as paid nor as failed: not by the machine, nor when people have the bank asked."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("lost_push", message="result")
        begun = await begin(scene, kind)
        while not scene.heard(kind):
            await asyncio.sleep(0.1)
        another(scene, scene.heard(kind)[0][2], what)
        await asyncio.sleep(120)
        assert await ended(scene, kind, begun, "") == STUCK
        assert keys(scene, "SOCK-07") == [await of_job(scene, kind, begun)]
        if kind == "withdraw":
            shown = await scene.of_task(begun)
            assert (await scene.rooms.withdrawals.query_bank(shown["id"])).outcome.value == "UNKNOWN"
            assert await ended(scene, kind, begun, "") == STUCK

    at_bank(bank, story, planted=True, settings={f"sim.{bank}.outcome": [[result, 1.0]]} | {
        f"sim.{bank}.result.{name}": value for name, value in SLOW.items()})


# --- people, while the bank has it --------------------------------------------------------------------------------


@pytest.mark.parametrize("bank", BANKS)
def test_people_cannot_call_failed_what_the_bank_still_has_or_has_paid(bank: str) -> None:
    """Given back here and paid there a little later, it would be paid twice."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("lost_push", message="result")
        scene.bank.fault("answer_minus5", message="withdraw", late_s=9600, count=1)
        task = await scene.withdraw()
        await asyncio.sleep(9500)
        shown = await scene.of_task(task)
        assert shown["poll_exhausted"]
        reply = await scene.rig.operate("SetManualTransferFailed", shown)  # PENDING
        assert reply.code is Code.BANK_STATUS_REQUIRED
        await asyncio.sleep(200)
        reply = await scene.rig.operate("SetManualTransferFailed", await scene.of_task(task))  # paid, not told
        assert reply.code is Code.BANK_STATUS_REQUIRED
        assert (await scene.rooms.withdrawals.query_bank(shown["id"])).ok
        await asyncio.sleep(10)
        assert await ended(scene, "withdraw", task, "") == DONE

    at_bank(bank, story)


# --- a bank that is closed against our calendar -------------------------------------------------------------------


@pytest.mark.req("SOCK-11")
@pytest.mark.parametrize("kind", ["withdraw", "deposit"])
@pytest.mark.parametrize("bank", BANKS)
def test_a_bank_closed_against_our_calendar_is_asked_on_the_ladder_and_people_are_told_once(
    bank: str, kind: str
) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("closed", message=kind, for_s=3000)
        begun = await begin(scene, kind)
        await asyncio.sleep(200)
        assert not scene.alerts()
        await asyncio.sleep(2700)
        assert scene.alerts() == ["SOCK-08"]
        assert await ended(scene, kind, begun, "") == STUCK
        sent = [at for at, _, _ in scene.heard(kind)]
        gaps = [round(later - earlier) for earlier, later in pairwise(sent)]
        assert gaps[:7] == [30, 30, 60, 60, 120, 300, 300]
        await asyncio.sleep(600)
        assert await ended(scene, kind, begun, "") == DONE
        assert [one["rule"] for one in scene.rig.of_kind("alert", phase="cleared")] == ["SOCK-08"]

    at_bank(bank, story)
