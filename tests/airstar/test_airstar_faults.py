"""Each fault of the emulated Airstar bank does what its row says, whether messages or signed bytes are on the line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airstar_world import World

from core.banks.airstar import Answer, Outcome
from core.errors import Misconfigured
from emulators.airstar.faults import AIM, FAULTS

REF = "ASBBST000000001"


@pytest.fixture(params=["messages", "full"])
def run(request: pytest.FixtureRequest, world: Callable[..., World]) -> World:
    made = world(wire=request.param)
    made.customer()
    return made


def deposit(run: World, ref: str = REF, attempt: int = 1) -> Answer:
    mandate = next(iter(run.bank._mandates))
    return run.run(run.gateway.deposit(ref, mandate, 1, "HKD", 10_000, attempt=attempt))  # type: ignore[no-any-return]


def withdraw(run: World, ref: str = REF, attempt: int = 1) -> Answer:
    mandate = next(iter(run.bank._mandates))
    return run.run(run.gateway.withdraw(ref, mandate, 1, "HKD", 10_000, attempt=attempt))  # type: ignore[no-any-return]


def poll(run: World, ident: str) -> Answer:
    return run.run(run.gateway.query_deposit(ident))  # type: ignore[no-any-return]


def ops(run: World) -> list[str]:
    return [op for op, _, _ in run.book()]


def test_not_found_then_found(run: World) -> None:
    run.bank.fault("not_found_then_found", hidden_s=8)
    ident = withdraw(run).request_id
    for call in (run.gateway.query_withdrawal(ident), run.gateway.query_withdrawal(ref=REF)):
        assert run.run(call).outcome is Outcome.NOT_FOUND
    run.pass_s(8)
    assert run.run(run.gateway.query_withdrawal(ref=REF)).outcome in (Outcome.PENDING, Outcome.SUCCESS)
    assert withdraw(run, attempt=2).code == 140630003


@pytest.mark.parametrize("paid", [True, False])
def test_stuck_pending_for_ever(run: World, paid: bool) -> None:
    run.bank.fault("stuck_pending", paid=paid)
    ident = deposit(run).request_id
    run.pass_s(100_000)
    assert poll(run, ident).data["status"] == "PENDING"
    assert run.bank.inquire(REF).status == ("PAID" if paid else "NOT_PAID")
    assert ops(run) == (["collect"] if paid else [])


def test_stuck_pending_until_a_late_result(run: World) -> None:
    run.bank.fault("stuck_pending", paid=True, until_s=7_300)
    ident = deposit(run).request_id
    run.pass_s(7_290)
    assert poll(run, ident).outcome is Outcome.PENDING
    run.pass_s(11)
    assert poll(run, ident).outcome is Outcome.SUCCESS


@pytest.mark.parametrize("act", [deposit, withdraw])
def test_error_5xx_after_commit(run: World, act: Callable[..., Answer]) -> None:
    run.bank.fault("error_5xx_after_commit", count=1, status=502)
    assert act(run).outcome is Outcome.UNKNOWN
    again = act(run, attempt=2)
    assert (again.outcome, again.code) == (Outcome.ACCEPTED, 140630003)
    run.pass_s(21)
    assert len(run.book()) == 1


def test_refunded_before_credit(run: World) -> None:
    run.bank.fault("refunded_before_credit")
    ident = deposit(run).request_id
    run.pass_s(21)
    assert poll(run, ident).outcome is Outcome.REFUNDED
    assert ops(run) == []
    assert run.run(run.gateway.bank_requests("REFUND", 0, run.clock.now_ms())).data["items"] == []
    assert run.bank.inquire(ident).status == "REFUNDED"


def test_refunded_after_credit(run: World) -> None:
    run.bank.fault("refunded_after_credit", refund_s=600)
    ident = deposit(run).request_id
    run.pass_s(21)
    assert poll(run, ident).outcome is Outcome.SUCCESS
    run.pass_s(600)
    assert poll(run, ident).outcome is Outcome.REFUNDED
    assert ops(run) == ["collect", "refund_collect"]
    assert run.bank.balance("u1", "HKD") == 100_000_000
    listed = run.run(run.gateway.bank_requests("REFUND", 0, run.clock.now_ms())).data["items"]
    assert [(item.request_id, item.direction, item.amount, item.status) for item in listed] == [
        (ident, "REFUND", 10_000, "REFUNDED")]  # fmt: skip
    assert run.run(run.gateway.bank_requests("IN", 0, run.clock.now_ms())).data["items"] == []


def test_mandate_revoked_midflight(run: World) -> None:
    run.bank.fault("mandate_revoked_midflight", count=1)
    ident = deposit(run).request_id
    run.pass_s(21)
    answer = poll(run, ident)
    assert (answer.outcome, answer.code) == (Outcome.FAILED, 140630005)
    assert deposit(run, "ASBBST000000002").code == 140630005
    assert ops(run) == []


@pytest.mark.req("AIR-08")
def test_clock_skew(run: World) -> None:
    tolerance = run.settings["airstar.api.clock_skew"]
    fault = run.bank.fault("clock_skew", skew_s=tolerance + 5)
    answer = deposit(run)
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, 140630002)
    run.bank.clear(fault)
    run.bank.fault("clock_skew", skew_s=-(tolerance - 5))
    assert deposit(run).outcome is Outcome.ACCEPTED


def test_slow(run: World) -> None:
    run.bank.fault("slow", delay_s=5, count=1)
    assert deposit(run).outcome is Outcome.ACCEPTED
    assert 5_000 <= run.of_kind("bank.reply")[-1]["ms"] < 6_500
    run.bank.fault("slow", delay_s=11, count=1)
    assert deposit(run, "ASBBST000000002").outcome is Outcome.UNKNOWN  # beyond our patience, yet acted on
    assert deposit(run, "ASBBST000000002", attempt=2).code == 140630003


@pytest.mark.parametrize("processed", [True, False])
def test_timeout(run: World, processed: bool) -> None:
    run.bank.fault("timeout", processed=processed, count=1)
    assert withdraw(run).outcome is Outcome.UNKNOWN
    assert run.of_kind("bank.reply")[-1]["ms"] == run.settings["airstar.api.timeout"] * 1_000
    again = withdraw(run, attempt=2)
    assert (again.outcome, again.code) == (Outcome.ACCEPTED, 140630003 if processed else 0)
    run.pass_s(21)
    assert ops(run) == ["pay"]


@pytest.mark.parametrize("processed", [True, False])
def test_fail_with_at_reply(run: World, processed: bool) -> None:
    run.bank.fault("fail_with", code=140630017, processed=processed)
    answer = withdraw(run)
    assert (answer.outcome, answer.code) == (Outcome.UNKNOWN, 140630017)
    found = run.run(run.gateway.query_withdrawal(ref=REF)).outcome
    assert found is (Outcome.PENDING if processed else Outcome.NOT_FOUND)


def test_fail_with_at_result(run: World) -> None:
    run.bank.fault("fail_with", code=140630015, at="result")
    ident = withdraw(run).request_id
    run.pass_s(21)
    answer = run.run(run.gateway.query_withdrawal(ident))
    assert (answer.outcome, answer.code, ops(run)) == (Outcome.FAILED, 140630015, [])


def test_duplicate_result(run: World) -> None:
    run.bank.fault("duplicate_result", count=1)
    ident = deposit(run).request_id
    run.pass_s(21)
    listed = run.run(run.gateway.bank_requests("IN", 0, run.clock.now_ms())).data["items"]
    assert [item.request_id for item in listed] == [ident]
    taken = run.run(run.gateway.acknowledge(ident, True))
    assert (taken.outcome, taken.code, taken.request_id) == (Outcome.ACCEPTED, 140630003, ident)
    run.pass_s(60)
    assert ops(run) == ["collect"]


def test_outage(run: World) -> None:
    before = deposit(run).request_id
    fault = run.bank.fault("outage")
    assert run.run(run.gateway.ping()).outcome is Outcome.UNKNOWN
    assert deposit(run, "ASBBST000000002").outcome is Outcome.UNKNOWN
    run.bank.clear(fault)
    run.pass_s(21)
    assert run.bank.inquire("ASBBST000000002").status == "NOT_RECEIVED"
    assert poll(run, before).outcome is Outcome.SUCCESS  # the back office went on
    run.bank.fault("outage", answer="maintenance")
    answer = deposit(run, "ASBBST000000002")
    assert (answer.outcome, answer.code) == (Outcome.RETRYABLE, 140630020)


def test_an_outage_is_silent_to_bad_signatures_too(run: World) -> None:
    run.bank.fault("clock_skew", skew_s=1_000)
    run.bank.fault("outage")
    answer = deposit(run)
    assert (answer.outcome, answer.code) == (Outcome.UNKNOWN, 0)


@pytest.mark.parametrize(("aim", "struck"), [
    ({"reference": REF}, [True, False, False]), ({"customer": "u2"}, [False, False, True]),
    ({"customer": "u1", "count": 1}, [True, False, False]), ({"message": "withdraw"}, [False, False, False]),
    ({"share": 0.0}, [False, False, False])])  # fmt: skip
def test_a_fault_strikes_what_it_is_aimed_at(
    world: Callable[..., World], aim: dict[str, Any], struck: list[bool]
) -> None:
    run = world()
    mandates = [run.customer(), run.customer("u2")]
    run.bank.fault("fail_with", code=140630014, **aim)
    answers = [
        run.run(run.gateway.deposit(f"ASBBST00000000{n}", mandates[n == 3], 1, "HKD", 100)) for n in (1, 2, 3)
    ]
    assert [answer.code == 140630014 for answer in answers] == struck


def test_a_reference_names_an_instruction_in_its_queries_too(world: Callable[..., World]) -> None:
    run = world()
    run.customer()
    ident, other = deposit(run).request_id, deposit(run, "ASBBST000000002").request_id
    run.bank.fault("timeout", message="query_deposit", reference=REF)
    assert poll(run, ident).outcome is Outcome.UNKNOWN
    assert poll(run, other).outcome is not Outcome.UNKNOWN


def test_a_share_strikes_about_that_share(world: Callable[..., World]) -> None:
    run = world()
    mandate = run.customer()
    run.bank.fault("fail_with", code=140630014, share=0.3)

    async def send() -> int:
        answers = [await run.gateway.deposit(f"ASBBST{n:09d}", mandate, 1, "HKD", 100) for n in range(1_000)]
        return sum(answer.code != 0 for answer in answers)

    assert 240 < run.run(send()) < 360


def test_a_fault_begins_and_ends_at_its_time_and_is_traced(world: Callable[..., World]) -> None:
    run = world()
    run.customer()
    fault = run.bank.fault("outage", after_s=10, for_s=20, answer="maintenance")
    codes = []
    for _ in range(4):
        codes.append(run.run(run.gateway.ping()).code)
        run.pass_s(9.9)
    assert codes == [0, 0, 140630020, 140630020]
    run.pass_s(5)
    traced = [(t, data["phase"], data["fault"], data["target"]) for _, t, kind, subject, data in run.events
              if kind == "fault" and subject == fault]  # fmt: skip
    assert [row[1:] for row in traced] == [("begin", "outage", "airstar"), ("end", "outage", "airstar")]
    assert traced[1][0] - traced[0][0] == 20_000_000


def test_a_fault_that_has_struck_its_count_has_ended(world: Callable[..., World]) -> None:
    run = world()
    run.customer()
    fault = run.bank.fault("fail_with", code=140630014, count=2)
    assert [deposit(run, f"ASBBST00000000{n}").code for n in range(3)] == [140630014, 140630014, 0]
    assert [data["phase"] for data in run.of_kind("fault")] == ["begin", "end"]
    run.bank.clear(fault)
    assert len(run.of_kind("fault")) == 2


def test_a_fault_on_one_instruction_does_not_change_the_luck_of_others(world: Callable[..., World]) -> None:
    def results(faulty: bool) -> list[Any]:
        run = world(luck=True, seed=3)
        run.customer()
        if faulty:
            run.bank.fault("fail_with", at="result", code=140630014, reference="ASBBST000000005")
            run.bank.fault("refunded_after_credit", reference="ASBBST000000006")
        idents = [deposit(run, f"ASBBST{n:09d}").request_id for n in range(20)]
        run.pass_s(8_000)
        return [(one.truth, one.settled_ms) for ident in idents if (one := run.bank._transactions.by_id(ident))]

    plain, struck = results(False), results(True)
    assert [n for n in range(20) if plain[n] != struck[n]] == [5, 6]


@pytest.mark.parametrize(("name", "params"), [
    ("earthquake", {}), ("slow", {"delay": 5}), ("slow", {"delay_s": -1}), ("slow", {"delay_s": None}),
    ("fail_with", {"code": 7}), ("fail_with", {"at": "dawn"}), ("timeout", {"message": "hello"}),
    ("timeout", {"share": 2}), ("timeout", {"count": 0}), ("outage", {"answer": "no"}),
    ("error_5xx_after_commit", {"status": 404})])  # fmt: skip
def test_a_fault_that_cannot_be_is_refused_with_what_could(
    world: Callable[..., World], name: str, params: dict[str, Any]
) -> None:
    with pytest.raises(Misconfigured):
        world().bank.fault(name, **params)


def test_every_fault_of_the_brief_is_in_the_table_and_its_parameters_have_meanings() -> None:
    assert list(FAULTS) == [
        "not_found_then_found", "stuck_pending", "error_5xx_after_commit", "refunded_before_credit",
        "refunded_after_credit", "mandate_revoked_midflight", "clock_skew", "slow", "timeout", "fail_with",
        "duplicate_result", "outage"]  # fmt: skip
    for kind in FAULTS.values():
        assert kind.what
        assert all(parameter.meaning for parameter in (*kind.parameters.values(), *AIM.values()))
