"""The emulated Airstar bank: mandates, instructions, codes, its own requests, its dice and its book."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from airstar_world import NOON_MS, World

from core.banks.airstar import Answer, Outcome
from core.domain import MANDATE_MOVES, MandateStatus, Market
from core.errors import InvariantBroken, Misconfigured
from core.wire.airstar import ERRORS, build_request
from emulators.airstar.bank import BROKER
from emulators.airstar.records import Customer, Mandate, Truth
from emulators.book import OUTSIDE

HOUR_MS = 3_600_000


def office_hours(ms: int) -> bool:
    """08:00-22:00 Hong Kong time."""
    return 8 <= (ms // HOUR_MS + 8) % 24 < 22


class Broker:
    """The messages of one run as plain calls, each under a new reference unless one is given."""

    def __init__(self, run: World, mandate: str) -> None:
        self._run, self._mandate, self._numbers = run, mandate, itertools.count(1)

    def ref(self) -> str:
        return f"ASBBST{next(self._numbers):09d}"

    def deposit(
        self, amount: int = 10_000, ref: str = "", mandate: str = "", market: int = 1, ccy: str = "HKD"
    ) -> Answer:
        call = self._run.gateway.deposit(ref or self.ref(), mandate or self._mandate, market, ccy, amount)
        answer = self._run.run(call)
        assert isinstance(answer, Answer)
        return answer

    def withdraw(self, amount: int = 10_000, ref: str = "", **more: Any) -> Answer:
        call = self._run.gateway.withdraw(ref or self.ref(), self._mandate, 1, "HKD", amount, **more)
        answer = self._run.run(call)
        assert isinstance(answer, Answer)
        return answer


@pytest.fixture
def shop(world: Callable[..., World]) -> Callable[..., tuple[World, Broker]]:
    """``shop(overlay, **options)`` -> (world, broker of a customer with an OPEN mandate and HKD 1,000,000.00)."""

    def open_(*arguments: Any, **options: Any) -> tuple[World, Broker]:
        run = world(*arguments, **options)
        return run, Broker(run, run.customer())

    return open_


# --- mandates ---------------------------------------------------------------------------------------------------


@pytest.mark.req("AIR-01")
def test_one_authorization_binds_all_three_markets(world: Callable[..., World]) -> None:
    run = world()
    card = run.bank.open_customer("u1", "CHAN TAI MAN", "hash", {"HKD": 1_000_000})
    asked = run.run(run.gateway.create_mandate("ref-1", card, "CHAN TAI MAN", "hash"))
    assert asked.outcome is Outcome.ACCEPTED
    assert run.run(run.gateway.query_mandate(asked.request_id)).data["market_mask"] == 0
    run.pass_s(62)
    opened = run.run(run.gateway.query_mandate(asked.request_id))
    assert (opened.outcome, opened.data["status"], opened.data["market_mask"]) == (Outcome.SUCCESS, 2, 1 | 2 | 4)
    for number, market in enumerate(Market):
        answer = run.run(run.gateway.deposit(f"ASBBST{number:09d}", asked.request_id, market, "HKD", 100))
        assert answer.outcome is Outcome.ACCEPTED


@pytest.mark.req("AIR-02")
@pytest.mark.parametrize(("start", "to"), list(itertools.product(MandateStatus, MandateStatus)))
def test_a_mandate_moves_as_the_table_says_and_in_no_other_way(start: MandateStatus, to: MandateStatus) -> None:
    mandate = Mandate("AM1", "ref", Customer("u1", "n", "h", "c", {}), 7)
    mandate.status = start
    if to in MANDATE_MOVES[start]:
        mandate.move(to)
        assert mandate.status is to
        assert mandate.market_mask == (7 if to is MandateStatus.OPEN else 0)
    else:
        with pytest.raises(InvariantBroken):
            mandate.move(to)
        assert mandate.status is start


@pytest.mark.req("AIR-02")
def test_the_mandate_table_is_that_of_the_specification() -> None:
    named = {state.name: sorted(to.name for to in moves) for state, moves in MANDATE_MOVES.items()}
    assert named == {
        "INIT": ["PROCESSING"], "PROCESSING": ["FAIL", "OPEN"], "OPEN": ["CLOSED", "SUSPENDED"], "FAIL": [],
        "SUSPENDED": ["CLOSED", "OPEN"], "CLOSED": []}  # fmt: skip
    assert int(MandateStatus.OPEN) == 2


@pytest.mark.req("AIR-02")
@pytest.mark.parametrize(("state", "suspend", "resume", "close"), [
    ("INIT", False, False, False), ("PROCESSING", False, False, False), ("OPEN", True, False, True),
    ("FAIL", False, False, False), ("SUSPENDED", False, True, True), ("CLOSED", False, False, False)])  # fmt: skip
def test_what_the_bank_can_do_to_a_mandate_depends_on_its_state(
    world: Callable[..., World], state: str, suspend: bool, resume: bool, close: bool
) -> None:
    for action, allowed in (("suspend_mandate", suspend), ("resume_mandate", resume), ("close_mandate", close)):
        run = world({"sim.airstar.mandate.fail_share": 1.0 if state == "FAIL" else 0.0})
        mandate_id = mandate_in(run, state)
        assert run.bank.mandate_status(mandate_id).name == state
        assert getattr(run.bank, action)(mandate_id) is allowed


def mandate_in(run: World, state: str) -> str:
    """A mandate brought into a state by the ways that lead there."""
    if state in ("OPEN", "SUSPENDED", "CLOSED"):
        mandate_id = run.customer()
        if state == "SUSPENDED":
            run.bank.suspend_mandate(mandate_id)
        if state == "CLOSED":
            run.bank.close_mandate(mandate_id)
        return mandate_id
    card = run.bank.open_customer("u1", "CHAN TAI MAN", "hash", {"HKD": 1})
    answer = run.run(run.gateway.create_mandate("ref-1", card, "CHAN TAI MAN", "hash"))
    seconds = {"INIT": 0, "PROCESSING": 2.5, "FAIL": 62}[state]
    run.pass_s(seconds)
    return str(answer.request_id)


def test_a_mandate_can_fail_and_says_why(world: Callable[..., World]) -> None:
    run = world({"sim.airstar.mandate.fail_share": 1.0})
    answer = run.run(run.gateway.query_mandate(mandate_in(run, "FAIL")))
    assert (answer.outcome, answer.code) == (Outcome.FAILED, run.settings["sim.airstar.mandate.fail_code"])


def test_creating_a_mandate_twice_gives_the_first(world: Callable[..., World]) -> None:
    run = world()
    card = run.bank.open_customer("u1", "CHAN TAI MAN", "hash", {"HKD": 1})
    first, second = (run.run(run.gateway.create_mandate("ref-1", card, "CHAN TAI MAN", "hash")) for _ in range(2))
    assert (second.outcome, second.code, second.request_id) == (Outcome.ACCEPTED, 140630003, first.request_id)


def test_closing_a_mandate_at_the_api(world: Callable[..., World]) -> None:
    run = world()
    mandate_id = run.customer()
    for _ in range(2):
        closed = run.run(run.gateway.close_mandate(mandate_id))
        assert (closed.outcome, closed.data["status"]) == (Outcome.ACCEPTED, 5)
    assert run.run(run.gateway.query_mandate(mandate_id)).outcome is Outcome.REJECTED


# --- instructions -----------------------------------------------------------------------------------------------


def test_a_deposit_takes_money_from_the_customer_to_the_broker(shop: Callable[..., tuple[World, Broker]]) -> None:
    run, broker = shop()
    before = run.bank.balance(BROKER, "HKD")
    answer = broker.deposit(12_345)
    assert (answer.outcome, answer.data["status"]) == (Outcome.ACCEPTED, "PENDING")
    assert run.run(run.gateway.query_deposit(answer.request_id)).outcome is Outcome.PENDING
    run.pass_s(21)
    result = run.run(run.gateway.query_deposit(answer.request_id))
    assert (result.outcome, result.amount, result.data["bank_ref_id"]) == (Outcome.SUCCESS, 12_345, "ASBBST000000001")
    assert run.bank.balance("u1", "HKD") == 100_000_000 - 12_345
    assert run.bank.balance(BROKER, "HKD") == before + 12_345
    assert run.of_kind("bank.book") == [
        {"bank": "airstar", "op": "collect", "ref": "ASBBST000000001", "request_id": answer.request_id, "ccy": "HKD",
         "amount": 12_345, "customer": "u1"}]  # fmt: skip


def test_a_withdrawal_pays_the_customer(shop: Callable[..., tuple[World, Broker]]) -> None:
    run, broker = shop()
    answer = broker.withdraw(500)
    run.pass_s(21)
    by_id = run.run(run.gateway.query_withdrawal(answer.request_id))
    by_ref = run.run(run.gateway.query_withdrawal(ref="ASBBST000000001"))
    assert by_id == by_ref
    assert by_id.outcome is Outcome.SUCCESS
    assert run.bank.balance("u1", "HKD") == 100_000_500
    assert run.book() == [("pay", "ASBBST000000001", 500)]


def test_a_status_is_pending_then_processing_then_the_result(shop: Callable[..., tuple[World, Broker]]) -> None:
    run, broker = shop()
    ident = broker.deposit().request_id
    seen = []
    for _ in range(22):
        seen.append(run.run(run.gateway.query_deposit(ident)).data["status"])
        run.pass_s(1)
    assert [status for status, _ in itertools.groupby(seen)] == ["PENDING", "PROCESSING", "SUCCESS"]


@pytest.mark.parametrize("way", ["deposit", "withdraw"])
def test_the_same_reference_twice_is_one_payment(shop: Callable[..., tuple[World, Broker]], way: str) -> None:
    run, broker = shop()
    first = getattr(broker, way)(ref="ASBBST000012345")
    again = [getattr(broker, way)(ref="ASBBST000012345")]
    run.pass_s(30)
    again.append(getattr(broker, way)(ref="ASBBST000012345"))
    assert [(one.outcome, one.code, one.request_id) for one in again] == [
        (Outcome.ACCEPTED, 140630003, first.request_id)] * 2  # fmt: skip
    run.pass_s(30)
    assert len(run.book()) == 1


def test_one_reference_is_not_for_both_directions(shop: Callable[..., tuple[World, Broker]]) -> None:
    _, broker = shop()
    broker.deposit(ref="ASBBST000000009")
    answer = broker.withdraw(ref="ASBBST000000009")
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, 140630001)


def test_a_deposit_is_not_found_as_a_withdrawal_nor_under_a_shorter_id(
    shop: Callable[..., tuple[World, Broker]],
) -> None:
    run, broker = shop()
    ident = broker.deposit(ref="ASBBST000000009").request_id
    for call in (run.gateway.query_withdrawal(ident), run.gateway.query_withdrawal(ref="ASBBST000000009"),
                 run.gateway.query_deposit(ident[:2] + "0"), run.gateway.query_deposit("AD000000000099")):  # fmt: skip
        assert run.run(call).outcome is Outcome.NOT_FOUND


def test_what_happens_meanwhile_decides_when_the_result_is_due(shop: Callable[..., tuple[World, Broker]]) -> None:
    def spend(run: World) -> None:
        account = run.bank.book.account("u1", "HKD")
        run.bank.book.move(account, run.bank.book.account(OUTSIDE, "HKD"), account.balance)

    changes: list[tuple[Callable[[World, str], Any], int]] = [
        (lambda run, mandate: run.bank.suspend_mandate(mandate), 140630005),
        (lambda run, mandate: run.bank.close_account("u1"), 140630006),
        (lambda run, mandate: spend(run), 140630007),
    ]
    for change, code in changes:
        run, broker = shop()
        ident = broker.deposit().request_id
        change(run, broker._mandate)
        run.pass_s(21)
        answer = run.run(run.gateway.query_deposit(ident))
        assert (answer.outcome, answer.code, run.book()) == (Outcome.FAILED, code, [])


def reach(code: int, shop: Callable[..., tuple[World, Broker]]) -> Answer:
    """The bank brought to answer with a code by the way that really leads there."""
    run, broker = shop({"sim.airstar.limit.single": {"HKD": 5_000, "USD": 1, "CNH": 1},
                        "sim.airstar.limit.daily": {"HKD": 8_000, "USD": 1, "CNH": 1},
                        "sim.airstar.limit.open_transactions": 2 if code == 140630016 else 100},
                       is_open=lambda ms: code != 140630010,
                       in_maintenance=lambda ms: code == 140630020)  # fmt: skip
    bank = run.bank
    if code == 140630001:
        return broker.deposit(0)
    if code == 140630002:
        bank.fault("clock_skew", skew_s=301)
    if code == 140630003:
        broker.deposit(ref="ASBBST000000077")
        return broker.deposit(ref="ASBBST000000077")
    if code == 140630004:
        return broker.deposit(mandate="AM999")
    if code == 140630005:
        bank.suspend_mandate(broker._mandate)
    if code == 140630006:
        bank.close_account("u1")
    if code == 140630007:
        poor = run.customer("u2", HKD=9_999)
        return broker.deposit(10_000, mandate=poor)
    if code == 140630008:
        return broker.deposit(500_001)
    if code == 140630009:
        broker.deposit(500_000)
        return broker.deposit(300_001)
    if code == 140630011:
        return broker.deposit(ccy="USD")
    if code == 140630012:
        bank.open_customer("u3", "n", "h", {"HKD": 10_000})
        return broker.deposit(mandate=bank.grant_mandate("u3", Market.HK), market=Market.US)
    if code == 140630013:
        card = bank.open_customer("u4", "WONG", "h", {"HKD": 1})
        return run.run(run.gateway.create_mandate("ref", card, "WANG", "h"))  # type: ignore[no-any-return]
    if code == 140630014:
        broker_account = bank.book.account(BROKER, "HKD")
        bank.book.move(broker_account, bank.book.account(OUTSIDE, "HKD"), broker_account.balance - 9_999)
        return broker.withdraw(10_000)
    if code == 140630015:
        bank.freeze_account("u1")
        return broker.withdraw()
    if code == 140630016:
        broker.deposit()
        broker.deposit()
    if code in (140630017, 140630999):
        bank.fault("fail_with", code=code)
    if code == 140630018:
        return run.run(run.gateway.query_deposit("AD000000000001"))  # type: ignore[no-any-return]
    if code == 140630019:
        began = bank.customer_deposits(broker._mandate, 1, "HKD", 100).request_id
        assert bank.customer_cancels(began)
        return run.run(run.gateway.acknowledge(began, True))  # type: ignore[no-any-return]
    return broker.deposit()


@pytest.mark.parametrize("code", list(ERRORS))
def test_every_code_can_be_reached(shop: Callable[..., tuple[World, Broker]], code: int) -> None:
    assert reach(code, shop).code == code


def test_a_daily_limit_is_per_direction_and_day_and_failures_give_it_back(
    shop: Callable[..., tuple[World, Broker]],
) -> None:
    limits = {"HKD": 8_000, "USD": 1, "CNH": 1}
    run, broker = shop({"sim.airstar.limit.daily": limits})
    run.bank.fault("fail_with", at="result", code=140630014, count=1)
    broker.deposit(800_000)
    assert broker.deposit(1).code == 140630009
    run.pass_s(21)
    assert broker.deposit(800_000).code == 0
    assert broker.withdraw(800_000).code == 0
    run.pass_s(12 * 3_600)
    assert run.clock.now_ms() > NOON_MS + 12 * HOUR_MS
    assert broker.deposit(800_000).code == 0


@pytest.mark.parametrize("change", [
    {"bank_ref_id": None}, {"bank_ref_id": ""}, {"bank_ref_id": 7}, {"bank_ref_id": "x" * 65}, {"mandate_id": []},
    {"market": "1"}, {"market": True}, {"ccy": None}, {"amount": "1"}, {"amount": 1.0}, {"amount": "0.00"},
    {"amount": None}])  # fmt: skip
def test_an_instruction_out_of_form_is_an_invalid_parameter(
    world: Callable[..., World], change: dict[str, Any]
) -> None:
    run = world()
    body = {"bank_ref_id": "R1", "mandate_id": run.customer(), "market": 1, "ccy": "HKD", "amount": "1.00"}
    reply, _ = run.bank.handle(build_request("deposit", body={**body, **change}))
    assert reply is not None
    assert reply.code == 140630001
    reply, _ = run.bank.handle(build_request("deposit", body=body))
    assert reply is not None
    assert reply.code == 0


@pytest.mark.parametrize("market", [0, 3, 7, 8, -1])
def test_a_market_is_exactly_one_of_three(shop: Callable[..., tuple[World, Broker]], market: int) -> None:
    _, broker = shop()
    assert broker.deposit(market=market).code == 140630012


# --- what customers begin ---------------------------------------------------------------------------------------


def test_a_customers_deposit_is_listed_accepted_collected_and_seen(shop: Callable[..., tuple[World, Broker]]) -> None:
    run, broker = shop()
    began = run.bank.customer_deposits(broker._mandate, 4, "HKD", 700).request_id
    run.pass_s(60)
    assert run.book() == []  # not before the broker has accepted
    accepted = run.run(run.gateway.acknowledge(began, True, transfer_ref_id="ASBBST000000050"))
    assert (accepted.outcome, accepted.request_id) == (Outcome.ACCEPTED, began)
    run.pass_s(21)
    result = run.run(run.gateway.query_deposit(began))
    assert (result.outcome, result.amount, result.data["market"]) == (Outcome.SUCCESS, 700, 4)
    assert run.book() == [("collect", "ASBBST000000050", 700)]
    again = run.run(run.gateway.acknowledge(began, True, transfer_ref_id="ASBBST000000050", attempt=2))
    assert (again.outcome, again.code) == (Outcome.ACCEPTED, 140630003)
    assert run.run(run.gateway.acknowledge(began, False)).outcome is Outcome.REJECTED
    run.pass_s(21)
    assert len(run.book()) == 1
    listed = run.run(run.gateway.bank_requests("IN", 0, run.clock.now_ms())).data["items"]
    assert [(item.request_id, item.status) for item in listed] == [(began, "ACCEPTED")]


def test_a_refused_request_moves_nothing(shop: Callable[..., tuple[World, Broker]]) -> None:
    run, broker = shop()
    began = run.bank.customer_deposits(broker._mandate, 1, "HKD", 700).request_id
    assert run.run(run.gateway.acknowledge(began, False, "blacklisted")).outcome is Outcome.ACCEPTED
    run.pass_s(60)
    assert run.book() == []
    assert run.run(run.gateway.query_deposit(began)).outcome is Outcome.NOT_FOUND
    assert not run.bank.customer_cancels(began)


def test_a_customers_withdrawal_is_accepted_and_then_paid_once(shop: Callable[..., tuple[World, Broker]]) -> None:
    run, broker = shop()
    began = run.bank.customer_withdraws(broker._mandate, 1, "HKD", 900).request_id
    assert broker.withdraw(900, bank_request_id=began).code == 140630001  # not yet acknowledged
    run.run(run.gateway.acknowledge(began, True))
    assert broker.withdraw(901, bank_request_id=began).code == 140630001  # not what the customer asked for
    first = broker.withdraw(900, bank_request_id=began)
    second = broker.withdraw(900, bank_request_id=began)  # under another reference
    assert (second.code, second.request_id) == (140630003, first.request_id)
    run.pass_s(30)
    assert len(run.book()) == 1
    assert broker.withdraw(900, bank_request_id="BO9").outcome is Outcome.NOT_FOUND


def test_a_customer_cannot_begin_what_the_bank_would_refuse(shop: Callable[..., tuple[World, Broker]]) -> None:
    run, broker = shop()
    assert run.bank.customer_deposits(broker._mandate, 1, "HKD", 100_000_001) == ("", 140630007)
    assert run.bank.customer_deposits("AM9", 1, "HKD", 1) == ("", 140630004)


def test_outside_the_window_instructions_are_refused_and_requests_wait(
    shop: Callable[..., tuple[World, Broker]],
) -> None:
    run, broker = shop(is_open=office_hours)
    before = broker.deposit().request_id
    run.pass_s(10 * 3_600)
    refused = broker.deposit()
    assert (refused.outcome, refused.code) == (Outcome.RETRYABLE, 140630010)
    assert run.run(run.gateway.query_deposit(before)).outcome is Outcome.SUCCESS  # polling goes on
    began = run.bank.customer_deposits(broker._mandate, 1, "HKD", 100).request_id
    assert run.run(run.gateway.bank_requests("IN", 0, run.clock.now_ms())).data["items"] == []
    run.pass_s(10 * 3_600)
    run.run(run.gateway.ping())
    run.pass_s(1)
    listed = run.run(run.gateway.bank_requests("IN", 0, run.clock.now_ms())).data["items"]
    assert [item.request_id for item in listed] == [began]
    assert office_hours(listed[0].created_ms)


# --- the dice ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deposit", [True, False])
def test_results_come_when_and_as_the_figures_say(world: Callable[..., World], deposit: bool) -> None:
    """Wide bounds: four standard deviations of a share of 20,000."""
    run = world(luck=True)
    rounds = 20_000
    plans = [run.bank._plan(deposit) for _ in range(rounds)]

    def near(count: int, share: float) -> bool:
        return bool(abs(count / rounds - share) <= 4 * (share * (1 - share) / rounds) ** 0.5 + 1e-9)

    for share, low, high in run.settings["sim.airstar.result.delay"][:-1]:
        inside = [us for us, plan in plans if plan.shown and low * 1e6 <= us < high * 1e6]
        assert near(len(inside), share)
        assert abs(sum(inside) / len(inside) / 1e6 - (low + high) / 2) < (high - low) * 0.1
    never = run.settings["sim.airstar.result.delay"][-1][0]
    assert near(sum(not plan.shown for _, plan in plans), never)
    fates = Counter(plan.fate.value for _, plan in plans if plan.shown)
    table = run.settings[f"sim.airstar.outcome.{'deposit' if deposit else 'withdrawal'}"]
    assert sorted(fates) == sorted(name for name, _ in table)
    assert all(near(fates[name], share * (1 - never)) for name, share in table)
    codes = Counter(plan.code for _, plan in plans if plan.shown and plan.code)
    assert sorted(codes) == sorted(
        code for code, _ in run.settings[f"sim.airstar.failure.{'deposit' if deposit else 'withdrawal'}"])  # fmt: skip


def test_the_same_seed_gives_the_same_run_and_another_seed_another(world: Callable[..., World]) -> None:
    def play(seed: int) -> list[Any]:
        run = world(luck=True, seed=seed)
        broker = Broker(run, run.customer())
        for _ in range(30):
            broker.deposit()
        run.pass_s(8_000)
        return run.events

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_a_result_that_never_shows_is_known_to_the_back_office(world: Callable[..., World]) -> None:
    for share, truth, moves in ((1.0, "PAID", 1), (0.0, "NOT_PAID", 0)):
        run = world({"sim.airstar.result.delay": [[0.0, 3, 20], [1.0, None, None]],
                     "sim.airstar.result.never_paid_share": share})  # fmt: skip
        broker = Broker(run, run.customer())
        ident = broker.withdraw(ref="ASBBST000000031").request_id
        assert run.bank.inquire("ASBBST000000031").status == "PENDING"
        run.pass_s(100_000)
        answer = run.run(run.gateway.query_withdrawal(ident))
        assert (answer.outcome, answer.data["status"]) == (Outcome.PENDING, "PENDING")
        said = run.bank.inquire("ASBBST000000031")
        assert (said.status, said.request_id, len(run.book())) == (truth, ident, moves)
        assert run.bank.inquire(ident) == said
        assert run.bank.publish(ident)
        shown = run.run(run.gateway.query_withdrawal(ident)).outcome
        assert shown is (Outcome.SUCCESS if moves else Outcome.FAILED)


def test_nobody_knows_a_reference_the_bank_never_got(world: Callable[..., World]) -> None:
    assert world().bank.inquire("ASBBST000000404") == Truth("NOT_RECEIVED", "", "ASBBST000000404")


@pytest.mark.parametrize("overlay", [
    {"sim.airstar.outcome.deposit": [["SUCCESS", 0.5]]}, {"sim.airstar.outcome.deposit": [["MAYBE", 1.0]]},
    {"sim.airstar.failure.deposit": [[140630123, 1.0]]}, {"sim.airstar.result.delay": [[1.0, 20.0, 3.0]]},
    {"sim.airstar.mandate.start": [-1.0, 3.0]}, {"sim.airstar.mandate.fail_code": 7}])  # fmt: skip
def test_figures_that_cannot_be_are_named(world: Callable[..., World], overlay: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as caught:
        world(overlay)
    assert next(iter(overlay)) in str(caught.value)


# --- the book ---------------------------------------------------------------------------------------------------


def test_the_book_balances_and_the_statement_lists_every_movement(world: Callable[..., World]) -> None:
    run = world(luck=True, seed=5)
    mandates = [run.customer(f"u{n}", HKD=30_000, USD=20_000) for n in range(5)]
    opening = run.bank.totals()

    async def trade() -> None:
        for n in range(300):
            act = run.gateway.deposit if n % 3 else run.gateway.withdraw
            await act(f"ASBBST{n:09d}", mandates[n % 5], 1, "HKD" if n % 2 else "USD", 100 + n * 17)

    run.run(trade())
    run.pass_s(10_000)
    run.bank.book.check()
    assert run.bank.open_transactions == 0
    assert all(sum(of_ccy.values()) == 0 for of_ccy in run.bank.totals().values())
    statement = run.bank.statement(0, run.clock.now_ms() + 1)
    signs = {"collect": 1, "pay": -1, "refund_collect": -1, "return_pay": 1}
    for ccy in ("HKD", "USD"):
        moved = sum(signs[entry.op] * entry.amount for entry in statement if entry.ccy == ccy)
        assert run.bank.totals()[ccy][BROKER] - opening[ccy][BROKER] == moved
    assert [(entry.op, entry.ref, entry.amount) for entry in statement] == run.book()
    assert len(statement) > 200
    middle = statement[100].booked_ms
    assert run.bank.statement(0, middle) + run.bank.statement(middle, run.clock.now_ms() + 1) == statement


def test_a_returned_payment_shows_in_the_statement_only(shop: Callable[..., tuple[World, Broker]]) -> None:
    run, broker = shop()
    ident = broker.withdraw(500).request_id
    assert not run.bank.return_payment(ident)
    run.pass_s(21)
    assert run.bank.return_payment(ident)
    assert not run.bank.return_payment(ident)
    assert [op for op, _, _ in run.book()] == ["pay", "return_pay"]
    assert run.run(run.gateway.query_withdrawal(ident)).outcome is Outcome.SUCCESS
    assert run.bank.inquire(ident).status == "NOT_PAID"
