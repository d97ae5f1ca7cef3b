"""The Airstar adapter: every code has one treatment, silence and noise are unknown, pages are read to the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from airstar_world import NOON_MS, World

from core.banks.airstar import SENT, AirstarGateway, Answer, BankRequest, Outcome
from core.errors import OutcomeUnknown
from core.wire.airstar import ERRORS, MalformedMessage, Reply, Request, Treatment, refusal, treatment

RETRYABLE = {140630016, 140630020}
AT_OPENING = {140630010}
QUERY_ONLY = {140630017, 140630999}


def expected(code: int) -> Outcome:
    """The column "Retryable" of gaps.md B-07, read anew."""
    if code in RETRYABLE | AT_OPENING:
        return Outcome.RETRYABLE
    if code in QUERY_ONLY:
        return Outcome.UNKNOWN
    return {140630003: Outcome.ACCEPTED, 140630018: Outcome.NOT_FOUND}.get(code, Outcome.REJECTED)


async def send(
    gateway: AirstarGateway, way: str, mandate: str, attempt: int = 1, ref: str = "ASBBST000000001"
) -> Answer:
    act = gateway.deposit if way == "deposit" else gateway.withdraw
    return await act(ref, mandate, 1, "HKD", 12_345, attempt=attempt)


def test_the_table_of_codes_is_complete() -> None:
    assert list(ERRORS) == [*range(140630001, 140630021), 140630999]


@pytest.mark.req("AIR-06")
@pytest.mark.parametrize("way", ["deposit", "withdraw"])
@pytest.mark.parametrize("wire", ["messages", "full"])
def test_every_code_of_an_instruction_has_one_treatment(world: Callable[..., World], way: str, wire: str) -> None:
    for code in ERRORS:
        run = world(wire=wire)
        mandate = run.customer()
        run.bank.fault("fail_with", code=code, message=way, count=1)
        if code == 140630003:
            run.run(send(run.gateway, way, mandate))  # the struck one: nothing was taken in, so nothing to refer to
            first = run.run(send(run.gateway, way, mandate))
            answer = run.run(send(run.gateway, way, mandate, attempt=2))
            assert (answer.request_id, first.code) == (first.request_id, 0)
        else:
            answer = run.run(send(run.gateway, way, mandate))
        assert (answer.outcome, answer.code) == (expected(code), code)
        assert answer.treatment is treatment(code)


@pytest.mark.req("AIR-06")
def test_a_code_in_answer_to_a_query_says_nothing_of_the_instruction(world: Callable[..., World]) -> None:
    for code in ERRORS:
        run = world()
        mandate = run.customer()
        ids = [run.run(send(run.gateway, way, mandate, ref=f"ASBBST00000000{way[0]}")).request_id
               for way in ("deposit", "withdraw")]  # fmt: skip
        for message in ("query_deposit", "query_withdrawal", "find_withdrawal", "query_mandate"):
            run.bank.fault("fail_with", code=code, message=message)
        answers = [
            run.run(run.gateway.query_deposit(ids[0])),
            run.run(run.gateway.query_withdrawal(ids[1])),
            run.run(run.gateway.query_withdrawal(ref="ASBBST00000000w")),
            run.run(run.gateway.query_mandate(mandate)),
        ]
        known = Outcome.NOT_FOUND if code in (140630004, 140630018) else Outcome.UNKNOWN
        assert [(answer.outcome, answer.code) for answer in answers] == [(known, code)] * 4


@pytest.mark.parametrize("code", [140630001, 140630002, 140630016, 140630020])
def test_a_repetition_refused_at_the_door_says_nothing_of_the_first_sending(
    world: Callable[..., World], code: int
) -> None:
    run = world()
    mandate = run.customer()
    run.bank.fault("timeout", message="withdraw", count=1)
    assert run.run(send(run.gateway, "withdraw", mandate)).outcome is Outcome.UNKNOWN
    run.bank.fault("fail_with", code=code, message="withdraw", count=1)
    assert run.run(send(run.gateway, "withdraw", mandate, attempt=2)).outcome is Outcome.UNKNOWN
    assert run.run(send(run.gateway, "withdraw", mandate, attempt=3)).outcome is Outcome.ACCEPTED


def test_a_repetition_refused_for_its_content_is_final(world: Callable[..., World]) -> None:
    run = world()
    mandate = run.customer()
    run.bank.fault("timeout", message="withdraw", count=1, processed=False)
    run.run(send(run.gateway, "withdraw", mandate))
    run.bank.close_mandate(mandate)
    answer = run.run(send(run.gateway, "withdraw", mandate, attempt=2))
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, 140630005)


@pytest.fixture
def alone(world: Callable[..., World]) -> Callable[..., Any]:
    """``alone(reply or exception, name of a method, arguments)`` -> the answer, without a bank behind."""
    run = world()

    def ask(says: Reply | Exception, method: str, *arguments: Any, **named: Any) -> Answer:
        async def exchange(request: Request) -> Reply:
            if isinstance(says, Exception):
                raise says
            return says

        gateway = AirstarGateway(exchange, run.clock, run.trace, max_pages=3)
        call: Callable[..., Awaitable[Answer]] = getattr(gateway, method)

        async def asking() -> Answer:
            return await call(*arguments, **named)

        answer = run.run(asking())
        assert isinstance(answer, Answer)
        return answer

    return ask


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("create_mandate", ("ref", "card", "name", "hash")), ("query_mandate", ("AM1",)), ("close_mandate", ("AM1",)),
    ("deposit", ("R1", "AM1", 1, "HKD", 100)), ("query_deposit", ("AD1",)),
    ("withdraw", ("R1", "AM1", 1, "HKD", 100)), ("query_withdrawal", ("AW1",)), ("query_withdrawal", (None, "R1")),
    ("bank_requests", ("IN", 0, 1)), ("acknowledge", ("BI1", True)), ("ping", ()),
]  # fmt: skip


@pytest.mark.parametrize(("method", "arguments"), CALLS)
@pytest.mark.parametrize("says", [
    OutcomeUnknown("silence"), MalformedMessage("noise"), Reply(500, 0, "accepted", {"request_id": "AD1"}),
    Reply(503, 140630016, "system busy"), Reply(200, 140630777, "a code nobody knows"),
    refusal(140630999)])  # fmt: skip
def test_silence_and_noise_are_unknown(
    alone: Callable[..., Answer], method: str, arguments: tuple[Any, ...], says: Any
) -> None:
    assert alone(says, method, *arguments).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("data", [
    {}, {"request_id": "AD1"}, {"request_id": "AD1", "status": "WEIRD"}, {"request_id": "AD1", "status": None},
    {"request_id": "AD1", "status": True}, {"request_id": "AD1", "status": ["SUCCESS"]},
    {"request_id": "AD2", "status": "SUCCESS"}, {"status": "SUCCESS"}])  # fmt: skip
def test_a_status_that_cannot_be_is_unknown(alone: Callable[..., Answer], data: dict[str, Any]) -> None:
    assert alone(Reply(200, 0, "accepted", data), "query_deposit", "AD1").outcome is Outcome.UNKNOWN


def test_a_withdrawal_cannot_be_refunded(alone: Callable[..., Answer]) -> None:
    reply = Reply(200, 0, "accepted", {"request_id": "AW1", "status": "REFUNDED"})
    assert alone(reply, "query_withdrawal", "AW1").outcome is Outcome.UNKNOWN
    assert alone(reply, "query_deposit", "AW1").outcome is Outcome.REFUNDED


def test_an_answer_about_another_reference_or_amount_is_unknown(alone: Callable[..., Answer]) -> None:
    other = Reply(200, 0, "accepted", {"request_id": "AW1", "transfer_ref_id": "R2", "status": "SUCCESS"})
    assert alone(other, "query_withdrawal", None, "R1").outcome is Outcome.UNKNOWN
    for field, value in (("amount", "2.00"), ("ccy", "USD")):
        held = refusal(140630003, {"request_id": "AD1", field: value})
        assert alone(held, "deposit", "R1", "AM1", 1, "HKD", 100).outcome is Outcome.UNKNOWN
    same = refusal(140630003, {"request_id": "AD1", "amount": "1.00", "ccy": "HKD"})
    assert alone(same, "deposit", "R1", "AM1", 1, "HKD", 100)[:3] == (Outcome.ACCEPTED, "AD1", 140630003)


@pytest.mark.parametrize("reply", [
    Reply(200, 0, "accepted", {}), Reply(200, 0, "accepted", {"request_id": ""}),
    Reply(200, 0, "accepted", {"request_id": 7}), refusal(140630003)])  # fmt: skip
def test_an_acceptance_without_an_id_is_unknown(alone: Callable[..., Answer], reply: Reply) -> None:
    assert alone(reply, "withdraw", "R1", "AM1", 1, "HKD", 100).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("status", "outcome"), [
    (0, Outcome.PENDING), (1, Outcome.PENDING), (2, Outcome.SUCCESS), (3, Outcome.FAILED), (4, Outcome.REJECTED),
    (5, Outcome.REJECTED), (6, Outcome.UNKNOWN), ("OPEN", Outcome.UNKNOWN)])  # fmt: skip
def test_only_an_open_mandate_is_a_success(alone: Callable[..., Answer], status: Any, outcome: Outcome) -> None:
    reply = Reply(200, 0, "accepted", {"mandate_id": "AM1", "status": status})
    assert alone(reply, "query_mandate", "AM1").outcome is outcome


def test_the_list_of_bank_requests_is_read_page_by_page(world: Callable[..., World]) -> None:
    run = world({"sim.airstar.list.page_size": 7})
    mandate = run.customer()
    began = []
    for number in range(23):
        direction = run.bank.customer_withdraws if number % 4 == 0 else run.bank.customer_deposits
        began.append(direction(mandate, 2, "HKD", 100 + number).request_id)
        run.pass_s(1)
    until = run.clock.now_ms()
    found = run.run(run.gateway.bank_requests("IN", NOON_MS, until)).data["items"]
    assert [item.request_id for item in found] == [one for n, one in enumerate(began) if n % 4]
    assert found[0] == BankRequest(began[1], "IN", mandate, 2, "HKD", 101, NOON_MS + 1_000, "NEW")
    asked = [data["attempt"] for data in run.of_kind("bank.request") if data["message"] == "bank_requests"]
    assert asked == [1, 2, 3]
    out = run.run(run.gateway.bank_requests("OUT", NOON_MS, until)).data["items"]
    assert [item.request_id for item in out] == began[::4]
    part = run.run(run.gateway.bank_requests("IN", NOON_MS + 1_000, NOON_MS + 3_000)).data["items"]
    assert [item.request_id for item in part] == began[1:3]  # from is included, to is not


def test_a_page_that_cannot_be_read_gives_no_half_list(world: Callable[..., World]) -> None:
    run = world({"sim.airstar.list.page_size": 1})
    mandate = run.customer()
    for _ in range(3):
        run.bank.customer_deposits(mandate, 1, "HKD", 100)
    run.pass_s(1)

    async def break_after_the_first() -> Answer:
        reading = run.loop.create_task(run.gateway.bank_requests("IN", 0, run.clock.now_ms()))
        while len(run.of_kind("bank.reply")) < 1:
            await run.loop.advance(1_000)
        run.bank.fault("timeout", message="bank_requests")
        return await reading

    answer = run.run(break_after_the_first())
    assert (answer.outcome, answer.data) == (Outcome.UNKNOWN, {})


def test_a_list_that_is_no_list_or_never_ends_is_unknown(alone: Callable[..., Answer]) -> None:
    for data in ({}, {"items": [], "pages": "1"}, {"items": [1], "pages": 1}, {"items": [{}], "pages": 1}):
        assert alone(Reply(200, 0, "accepted", data), "bank_requests", "IN", 0, 1).outcome is Outcome.UNKNOWN
    endless = alone(Reply(200, 0, "accepted", {"items": [], "pages": 99}), "bank_requests", "IN", 0, 1)
    assert endless.outcome is Outcome.UNKNOWN
    assert "3 pages" in endless.message


def test_what_is_said_and_answered_stands_in_the_trace(world: Callable[..., World]) -> None:
    run = world()
    mandate = run.customer()
    accepted = run.run(send(run.gateway, "deposit", mandate))
    run.run(run.gateway.query_deposit(accepted.request_id, ref="ASBBST000000001", attempt=7))
    said, heard = run.of_kind("bank.request"), run.of_kind("bank.reply")
    shape = ["bank", "message", "ref", "request_id", "attempt", "outcome", "code", "ms"]
    assert all(list(data) == shape for data in said + heard)
    assert [(data["message"], data["outcome"], data["attempt"]) for data in heard] == [
        ("deposit", "ACCEPTED", 1), ("query_deposit", "PENDING", 7)]  # fmt: skip
    assert {data["ref"] for data in said + heard} == {"ASBBST000000001"}
    assert all(data["request_id"] == accepted.request_id for data in heard)
    assert 0 < heard[0]["ms"] < 1_000


def test_every_treatment_has_an_outcome() -> None:
    assert list(SENT) == list(Treatment)
