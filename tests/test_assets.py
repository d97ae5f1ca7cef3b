"""Risk control's ledger: the freeze table of the documents, the table of operations, keys, refusals, the full check."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import pytest
from sqlalchemy import bindparam, insert, update

from core.assets import OPERATIONS, Balance, Bucket, Outcome, RiskControl, Stage, Totals
from core.assets.operations import CLOSES_AS, Adopt, Move
from core.domain import FreezeType
from core.errors import Code, InvariantBroken
from core.storage import Databases, Statement, StorageConfig, open_databases
from core.storage.assets import BUCKETS, CLOSINGS, balance, entry, hold, posting
from core.trace import Event, Trace

T = TypeVar("T")
ACCOUNT, OTHER, CCY = 1001, 1002, "HKD"
FULL, PART = 10_000_000, 1_000_000  # 100,000.00 and 10,000.00
CASH_OUT = FreezeType.CASH_OUT


class StillClock:
    """A moment that the test moves."""

    def __init__(self) -> None:
        self.us = 1_773_300_000_000_000

    def now_us(self) -> int:
        return self.us

    def now_ms(self) -> int:
        return self.us // 1000


class Desk:
    """A ledger on a fresh in-memory database, with the events it emitted; runs coroutines to their end."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.run_ = runner.run
        self.databases: Databases = self.run(open_databases(StorageConfig()))
        self.clock = StillClock()
        self.events: list[dict[str, Any]] = []
        self.trace = Trace(self.clock, self._see)
        self.risk = RiskControl(self.databases.assets, self.clock, self.trace)

    def run(self, work: Awaitable[T]) -> T:
        async def main() -> T:
            return await work
        return self.run_(main())

    def _see(self, event: Event) -> None:
        _, _, kind, subject, data = event
        assert (kind, subject) == ("posting", f"K{data['key']}")
        self.events.append(data)

    def do(self, op: str, key: str, *args: Any) -> Outcome:
        outcome: Outcome = self.run(getattr(self.risk, op)(key, *args))
        return outcome

    def ok(self, op: str, key: str, *args: Any) -> None:
        assert self.do(op, key, *args) == (Code.OK, "", False)

    def balance(self, account: int = ACCOUNT, ccy: str = CCY) -> Balance:
        return self.run(self.risk.balances(account, ccy))

    def findings(self) -> list[Any]:
        return self.run(self.risk.verify())


@pytest.fixture
def desk() -> Iterator[Desk]:
    with asyncio.Runner() as runner:
        desk = Desk(runner)
        yield desk
        found = desk.findings()
        runner.run(desk.databases.close())
        assert found == []


@pytest.fixture
def funded(desk: Desk) -> Desk:
    """100,000 available."""
    desk.ok("add", "seed", ACCOUNT, CCY, FULL)
    return desk


def shown(balance: Balance) -> tuple[int, int, int]:
    """Total, available, frozen: as the documents' table has them."""
    return balance.total, balance.available, balance.frozen_shown


# ---- the freeze table of the documents -------------------------------------------------------------------------


@pytest.mark.req("FRZ-01")
def test_a_withdrawal_in_progress_leaves_the_total_and_lowers_available(funded: Desk) -> None:
    assert shown(funded.balance()) == (FULL, FULL, 0)
    funded.ok("freeze", "f", ACCOUNT, CCY, PART, "WD1", CASH_OUT)
    assert shown(funded.balance()) == (FULL, FULL - PART, PART)


@pytest.mark.req("FRZ-04")
def test_deducted_money_is_still_shown_as_frozen(funded: Desk) -> None:
    funded.ok("freeze", "f", ACCOUNT, CCY, PART, "WD1", CASH_OUT)
    funded.ok("deduct", "d1", "WD1")
    assert funded.balance() == (FULL - PART, 0, PART)
    assert shown(funded.balance()) == (FULL, FULL - PART, PART)


@pytest.mark.req("FRZ-02")
@pytest.mark.parametrize("path", [("deduct", "consume"), ("settle",), ("deduct", "settle")])
def test_after_success_the_money_has_left(funded: Desk, path: tuple[str, ...]) -> None:
    funded.ok("freeze", "f", ACCOUNT, CCY, PART, "WD1", CASH_OUT)
    for op in path:
        funded.ok(op, f"k{op}", "WD1", *((ACCOUNT, CCY, PART) if op == "settle" else ()))
    assert shown(funded.balance()) == (FULL - PART, FULL - PART, 0)


@pytest.mark.req("FRZ-03")
@pytest.mark.parametrize("path", [("release",), ("deduct", "restore"), ("deduct", "refreeze", "release")])
def test_after_failure_the_money_is_back(funded: Desk, path: tuple[str, ...]) -> None:
    funded.ok("freeze", "f", ACCOUNT, CCY, PART, "WD1", CASH_OUT)
    for op in path:
        funded.ok(op, f"k{op}", "WD1")
    assert shown(funded.balance()) == (FULL, FULL, 0)


@pytest.mark.req("FRZ-05")
@pytest.mark.parametrize("op", ["freeze", "debit", "settle"])
def test_more_than_available_is_refused_while_a_withdrawal_is_in_progress(funded: Desk, op: str) -> None:
    funded.ok("freeze", "f", ACCOUNT, CCY, PART, "WD1", CASH_OUT)
    before, too_much = funded.balance(), FULL - PART + 1
    terms: tuple[Any, ...] = (ACCOUNT, CCY, too_much)
    args = {"freeze": (*terms, "WD2", CASH_OUT), "settle": ("WD2", *terms), "debit": terms}[op]
    assert funded.do(op, "second", *args).code is Code.INSUFFICIENT_BALANCE
    assert funded.balance() == before
    assert funded.run(funded.risk.hold("WD2")) is None


@pytest.mark.req("FRZ-06")
def test_the_sum_of_the_buckets_changes_by_credits_completions_and_reversals_only(funded: Desk) -> None:
    changes = {}
    for op, args in (("freeze", (ACCOUNT, CCY, PART, "WD1", CASH_OUT)), ("deduct", ("WD1",)), ("refreeze", ("WD1",)),
                     ("freeze", (ACCOUNT, CCY, PART, "WD1", CASH_OUT)), ("deduct", ("WD1",)), ("restore", ("WD1",)),
                     ("freeze", (ACCOUNT, CCY, PART, "WD2", CASH_OUT)), ("release", ("WD2",)),
                     ("freeze", (ACCOUNT, CCY, PART, "WD3", CASH_OUT)), ("deduct", ("WD3",)), ("consume", ("WD3",)),
                     ("settle", ("WD4", ACCOUNT, CCY, PART)), ("add", (ACCOUNT, CCY, PART)),
                     ("add_held", (ACCOUNT, CCY, PART, "A9", FreezeType.CASH_IN)), ("debit", (ACCOUNT, CCY, PART))):
        before = funded.balance().total
        funded.ok(op, f"k{len(funded.events)}", *args)
        changes[op] = funded.balance().total - before
    assert changes == {"freeze": 0, "deduct": 0, "refreeze": 0, "restore": 0, "release": 0, "consume": -PART,
                       "settle": -PART, "add": PART, "add_held": PART, "debit": -PART}


@pytest.mark.req("FRZ-07")
@pytest.mark.parametrize("first", ["release", "restore", "consume", "settle"])
def test_a_hold_is_closed_once(funded: Desk, first: str) -> None:
    terms = (ACCOUNT, CCY, PART)
    funded.ok("freeze", "f", *terms, "WD1", CASH_OUT)
    if first in ("restore", "consume"):
        funded.ok("deduct", "d", "WD1")
    funded.ok(first, "first", "WD1", *(terms if first == "settle" else ()))
    hold = funded.run(funded.risk.hold("WD1"))
    assert hold is not None
    assert (hold.is_open, hold.closed_by, hold.closed_at) == (False, first, funded.clock.now_ms())
    before = funded.balance()
    for op in ("release", "restore", "consume", "deduct", "refreeze"):
        assert funded.do(op, f"again-{op}", "WD1").code is Code.ILLEGAL_STATE
    assert funded.do("freeze", "again-freeze", *terms, "WD1", CASH_OUT).code is Code.ILLEGAL_STATE
    assert funded.balance() == before
    assert (before.frozen, before.in_transit) == (0, 0)


def test_a_hold_keeps_its_freeze_type(funded: Desk) -> None:
    funded.ok("freeze", "f", ACCOUNT, CCY, PART, "WD1", CASH_OUT)
    hold = funded.run(funded.risk.hold("WD1"))
    assert hold is not None
    assert hold == ("WD1", ACCOUNT, CCY, PART, 2, Stage.FROZEN, None, funded.clock.now_ms(), None)


# ---- the table of operations -----------------------------------------------------------------------------------

STAGES = (Stage.NONE, Stage.FROZEN, Stage.IN_TRANSIT, Stage.RETURNED, Stage.CONSUMED)
NO, LATE, TWICE = Code.NOT_FOUND, Code.ILLEGAL_STATE, Code.DUPLICATE
# Change of (available, frozen, in_transit) and the hold's stage afterwards; None: OK, nothing moves; or the refusal.
FREEZES, RELEASES = ((-1, 1, 0), Stage.FROZEN), ((1, -1, 0), Stage.RETURNED)
EXPECTED: dict[str, tuple[Any, ...]] = {
    #            no hold                          FROZEN                            IN_TRANSIT         RETURNED CONSUMED
    "freeze":   (FREEZES, None, LATE, LATE, LATE),
    "release":  (NO, RELEASES, LATE, LATE, LATE),
    "deduct":   (NO, ((0, -1, 1), Stage.IN_TRANSIT), LATE, LATE, LATE),
    "refreeze": (NO, LATE, ((0, 1, -1), Stage.FROZEN), LATE, LATE),
    "restore":  (NO, LATE, ((1, 0, -1), Stage.RETURNED), LATE, LATE),
    "consume":  (NO, LATE, ((0, 0, -1), Stage.CONSUMED), LATE, LATE),
    "settle":   (((-1, 0, 0), Stage.CONSUMED), ((0, -1, 0), Stage.CONSUMED), ((0, 0, -1), Stage.CONSUMED),
                 ((-1, 0, 0), Stage.CONSUMED), None),
    "add_held": (((0, 1, 0), Stage.FROZEN), TWICE, TWICE, TWICE, TWICE),
}
PATHS: dict[Stage, tuple[str, ...]] = {
    Stage.NONE: (), Stage.FROZEN: ("freeze",), Stage.IN_TRANSIT: ("freeze", "deduct"),
    Stage.RETURNED: ("freeze", "deduct", "restore"), Stage.CONSUMED: ("freeze", "deduct", "consume"),
}


def args_of(op: str, hold_id: str = "WD1", account: int = ACCOUNT, ccy: str = CCY,
            amount: int = PART) -> tuple[Any, ...]:
    """Arguments of an operation after its key."""
    terms = (account, ccy, amount)
    return {"freeze": (*terms, hold_id, CASH_OUT), "add_held": (*terms, hold_id, CASH_OUT), "add": terms,
            "debit": terms, "settle": (hold_id, *terms)}.get(op, (hold_id,))


def brought_to(desk: Desk, stage: Stage, hold_id: str = "WD1") -> None:
    for op in PATHS[stage]:
        desk.ok(op, f"{hold_id}-{op}", *args_of(op, hold_id))


def stage_of(desk: Desk, hold_id: str = "WD1") -> Stage:
    hold = desk.run(desk.risk.hold(hold_id))
    return Stage.NONE if hold is None else hold.stage


def test_the_table_speaks_of_every_operation_at_every_stage() -> None:
    assert {op: tuple(steps) for op, steps in OPERATIONS.items()} == {
        **dict.fromkeys(EXPECTED, STAGES), "add": (Stage.NONE,), "debit": (Stage.NONE,)}
    assert all(isinstance(step, Move | Adopt | Code) for steps in OPERATIONS.values() for step in steps.values())
    assert tuple(Bucket) == BUCKETS
    assert tuple(CLOSES_AS) == CLOSINGS


@pytest.mark.req("FRZ-07")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("op", EXPECTED)
def test_each_operation_at_each_stage_moves_adopts_or_refuses(funded: Desk, op: str, stage: Stage) -> None:
    brought_to(funded, stage)
    before, expected = funded.balance(), EXPECTED[op][STAGES.index(stage)]
    outcome = funded.do(op, "K", *args_of(op))
    event = funded.events[-1]
    if isinstance(expected, Code):
        assert outcome.code is expected
        assert outcome.detail
    else:
        assert outcome == (Code.OK, "", False)
    change, after = expected if isinstance(expected, tuple) else ((0, 0, 0), stage)
    now = funded.balance()
    told = funded.balance(event["account"])  # account 0 if there is no hold that would name one
    assert now == tuple(was + PART * sign for was, sign in zip(before, change, strict=True))
    assert stage_of(funded) is after
    assert event["after"] == {"available": told.available, "frozen": told.frozen, "in_transit": told.in_transit}
    assert event["account"] == (0 if outcome.code is Code.NOT_FOUND else ACCOUNT)
    assert sum(delta for _, delta in event["legs"]) == 0
    assert len(event["legs"]) == (2 if isinstance(expected, tuple) else 0)
    assert (event["code"], event["op"], event["hold"]) == (int(outcome.code), op, "WD1")


@pytest.mark.req("DEDUP-04")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("op", EXPECTED)
def test_each_answer_is_given_again_and_moves_nothing(funded: Desk, op: str, stage: Stage) -> None:
    """Replays after the world moved on, too: the stored answer, not a new decision."""
    brought_to(funded, stage)
    first = funded.do(op, "K", *args_of(op))
    funded.do("settle", "afterwards", *args_of("settle"))
    now, holds = funded.balance(), stage_of(funded)
    for _ in range(2):
        assert funded.do(op, "K", *args_of(op)) == (first.code, first.detail, True)
        assert (funded.events[-1]["legs"], funded.events[-1]["replayed"]) == ([], True)
    assert funded.run(funded.risk.query("K")) == (first.code, first.detail, True)
    assert (funded.balance(), stage_of(funded)) == (now, holds)


@pytest.mark.req("DEDUP-04")
@pytest.mark.parametrize("op", ["add", "debit"])
def test_a_credit_or_debit_repeated_counts_once(funded: Desk, op: str) -> None:
    funded.ok(op, "K", ACCOUNT, CCY, PART)
    once = funded.balance()
    assert funded.do(op, "K", ACCOUNT, CCY, PART) == (Code.OK, "", True)
    assert funded.balance() == once


def test_a_key_that_never_arrived_is_unknown(desk: Desk) -> None:
    assert desk.run(desk.risk.query("nothing")) is None
    assert desk.run(desk.risk.hold("nothing")) is None
    assert desk.balance() == (0, 0, 0)


@pytest.mark.req("DEDUP-04")
@pytest.mark.parametrize("other", [
    ("freeze", args_of("freeze", amount=PART + 1)), ("freeze", args_of("freeze", hold_id="WD2")),
    ("freeze", args_of("freeze", account=OTHER)), ("freeze", args_of("freeze", ccy="USD")),
    ("add", args_of("add")), ("deduct", args_of("deduct"))])
def test_a_key_used_for_another_order_is_refused_and_told(funded: Desk, other: tuple[str, tuple[Any, ...]]) -> None:
    funded.ok("freeze", "K", *args_of("freeze"))
    before = funded.balance()
    op, args = other
    outcome = funded.do(op, "K", *args)
    assert outcome.code is Code.INVALID_PARAM
    assert "key K" in outcome.detail
    assert funded.balance() == before
    assert (funded.events[-1]["code"], funded.events[-1]["legs"]) == (int(Code.INVALID_PARAM), [])
    assert funded.run(funded.risk.query("K")) == (Code.OK, "", True)


@pytest.mark.parametrize("args", [args_of("freeze", account=OTHER), args_of("freeze", ccy="USD"),
                                  args_of("freeze", amount=PART - 1)])
@pytest.mark.parametrize("stage", [Stage.FROZEN, Stage.IN_TRANSIT, Stage.RETURNED, Stage.CONSUMED])
def test_a_hold_of_other_terms_is_neither_adopted_nor_settled(
        funded: Desk, stage: Stage, args: tuple[Any, ...]) -> None:
    for account, ccy in ((OTHER, CCY), (ACCOUNT, "USD")):
        funded.ok("add", f"seed-{account}-{ccy}", account, ccy, FULL)
    brought_to(funded, stage)
    before = funded.run(funded.risk.totals())
    terms = args[:3]
    assert funded.do("settle", "s", "WD1", *terms).code is Code.INVALID_PARAM
    assert funded.do("freeze", "f", *args).code is (Code.INVALID_PARAM if stage is Stage.FROZEN else Code.ILLEGAL_STATE)
    assert funded.run(funded.risk.totals()) == before
    assert stage_of(funded) is stage


@pytest.mark.parametrize(("op", "args", "word"), [
    ("add", (0, CCY, 1), "account"), ("add", (ACCOUNT, CCY, 0), "amount"),
    ("add", (ACCOUNT, CCY, -1), "amount"), ("add", (ACCOUNT, "EUR", 1), "ccy"),
    ("freeze", (ACCOUNT, CCY, 1, "", CASH_OUT), "hold_id"),
    ("freeze", (ACCOUNT, CCY, 1, "W" * 41, CASH_OUT), "hold_id"),
    ("freeze", (ACCOUNT, CCY, 1, "WD1", 20), "freeze_type"), ("add_held", (ACCOUNT, CCY, 1, "A1", 0), "freeze_type"),
    ("release", ("",), "hold_id"), ("settle", ("WD1", ACCOUNT, CCY, -5), "amount")])
def test_an_order_that_is_none_is_refused_without_using_up_its_key(
        funded: Desk, op: str, args: tuple[Any, ...], word: str) -> None:
    outcome = funded.do(op, "K", *args)
    assert outcome.code is Code.INVALID_PARAM
    assert outcome.detail.startswith(word)
    assert funded.events[-1]["code"] == int(Code.INVALID_PARAM)
    assert funded.run(funded.risk.query("K")) is None
    assert funded.balance() == (FULL, 0, 0)


@pytest.mark.parametrize("key", ["", "K" * 81])
def test_a_key_has_a_length(funded: Desk, key: str) -> None:
    assert funded.do("add", key, ACCOUNT, CCY, 1).detail.startswith("key")


# ---- the stories the table is for ------------------------------------------------------------------------------


@pytest.mark.req("DEDUP-04", "FRZ-07")
def test_the_task_s_hold_is_adopted_deferred_and_consumed_on_the_second_day(funded: Desk) -> None:
    """A-15 and A-18: one hold from the Task to the end, never available in between; keys carry the attempt."""
    funded.ok("freeze", "T7:hold", *args_of("freeze", "WD7"))
    for attempt in (1, 2):
        funded.ok("freeze", f"P3:freeze:{attempt}", *args_of("freeze", "WD7"))
        assert funded.balance() == (FULL - PART, PART, 0)
        funded.ok("deduct", f"P3:deduct:{attempt}", "WD7")
        if attempt == 1:
            funded.ok("refreeze", "P3:refreeze:1", "WD7")
            assert funded.balance() == (FULL - PART, PART, 0)
    funded.ok("consume", "P3:consume", "WD7")
    assert funded.balance() == (FULL - PART, 0, 0)


def test_a_freeze_that_arrives_after_the_settlement_is_refused(funded: Desk) -> None:
    """Its answer was lost, the supervisor forced Complete, then it arrives: nothing may stay frozen."""
    funded.ok("settle", "force", *args_of("settle"))
    assert funded.do("freeze", "late", *args_of("freeze")).code is Code.ILLEGAL_STATE
    assert funded.do("settle", "force again", *args_of("settle")) == (Code.OK, "", False)
    assert funded.balance() == (FULL - PART, 0, 0)


def test_a_normal_hold_deposit_is_frozen_under_its_apply(desk: Desk) -> None:
    desk.ok("add_held", "A5:credit", ACCOUNT, CCY, PART, "A5", FreezeType.EXCHANGE)
    assert desk.balance() == (0, PART, 0)
    hold = desk.run(desk.risk.hold("A5"))
    assert hold is not None
    assert (hold.amount, hold.freeze_type, hold.is_open) == (PART, FreezeType.EXCHANGE, True)
    desk.ok("release", "A5:release", "A5")
    assert desk.balance() == (PART, 0, 0)


def test_a_credit_raises_available_by_exactly_the_amount_once(funded: Desk) -> None:
    for _ in range(3):
        assert funded.do("add", "P1:credit", ACCOUNT, CCY, 12_345).ok
    assert funded.balance() == (FULL + 12_345, 0, 0)


def test_accounts_and_currencies_do_not_touch_each_other(funded: Desk) -> None:
    funded.ok("add", "usd", ACCOUNT, "USD", 7)
    funded.ok("add", "other", OTHER, CCY, 9)
    funded.ok("freeze", "f", *args_of("freeze"))
    assert (funded.balance(ccy="USD"), funded.balance(OTHER)) == ((7, 0, 0), (9, 0, 0))
    assert funded.run(funded.risk.totals()) == {
        "HKD": Totals(FULL + 9 - PART, PART, 0, -FULL - 9), "USD": Totals(7, 0, 0, -7)}


# ---- crashes ---------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends."""


@pytest.mark.req("DEDUP-04")
def test_a_crash_right_after_the_commit_loses_nothing_and_the_event_is_published_again(funded: Desk) -> None:
    def kill(name: str, number: int) -> None:
        raise Killed

    last = funded.events[-1]["posting"]
    funded.databases.on_commit = kill
    with pytest.raises(Killed):
        funded.do("freeze", "K", *args_of("freeze"))
    assert len(funded.events) == 1
    funded.databases.sever()
    funded.databases = funded.databases.reopen()
    funded.risk = RiskControl(funded.databases.assets, funded.clock, funded.trace)
    assert funded.run(funded.risk.query("K")) == (Code.OK, "", True)
    assert funded.run(funded.risk.republish(last)) == 1
    assert (funded.events[-1]["key"], funded.events[-1]["legs"]) == ("K", [["available", -PART], ["frozen", PART]])
    assert funded.do("freeze", "K", *args_of("freeze")) == (Code.OK, "", True)
    assert funded.balance() == (FULL - PART, PART, 0)


def test_republished_events_equal_the_first_ones(funded: Desk) -> None:
    for op in ("freeze", "deduct", "restore", "consume"):
        funded.do(op, f"k-{op}", *args_of(op))
    for number in range(600):  # more than a page
        funded.do("add", f"usd-{number}", OTHER, "USD", 3)
    first, funded.events = funded.events, []
    assert funded.run(funded.risk.republish(0)) == len(first)
    assert funded.events == first


# ---- the full check --------------------------------------------------------------------------------------------

SPOIL = Statement(
    update(balance).where(balance.c.trade_acc_id == bindparam("b_account"))
    .values(available=balance.c.available + bindparam("b_available"), frozen=balance.c.frozen + bindparam("b_frozen")))
SPOIL_HOLD = Statement(
    update(hold).where(hold.c.hold_id == bindparam("b_hold_id"))
    .values(stage=bindparam("b_stage"), closed_by=bindparam("b_closed_by")))
STRAY_ENTRY, STRAY_POSTING = Statement(insert(entry)), Statement(insert(posting))
SUM, REFUSED, MISSING = "entries sum to zero", "a refusal moves nothing", "an operation done has entries"
BALANCES, HELD = "balances equal the entries", "open holds equal frozen and in_transit"
STAGED, RECORDED = "a hold's entries equal its stage", "a hold's closing is recorded"


def stray(number: int, bucket: str, delta: int) -> tuple[Statement, dict[str, Any]]:
    """One more entry of a posting: postings are 1 add, 2 freeze, 3 release refused, 4 freeze, 5 release."""
    account = "external" if bucket == "external" else str(ACCOUNT)
    return STRAY_ENTRY, {"posting_id": number, "account": account, "bucket": bucket, "ccy": CCY, "delta": delta}


def staged(hold_id: str, stage: int, closed_by: str | None) -> tuple[Statement, dict[str, Any]]:
    return SPOIL_HOLD, {"b_hold_id": hold_id, "b_stage": stage, "b_closed_by": closed_by}


@pytest.mark.req("FRZ-06", "FRZ-07")
@pytest.mark.parametrize(("damage", "checks"), [
    ([], []),
    ([(SPOIL, {"b_account": ACCOUNT, "b_available": 5, "b_frozen": 0})], [BALANCES]),
    ([(SPOIL, {"b_account": ACCOUNT, "b_available": 5, "b_frozen": -5})], [BALANCES, HELD]),
    ([stray(1, "external", 1)], [SUM]),
    ([stray(1, "available", 1)], [SUM, BALANCES]),
    ([stray(1, "available", 1), stray(1, "external", -1)], [BALANCES]),
    ([stray(3, "external", 1), stray(3, "external", -1)], [REFUSED, REFUSED]),
    ([(STRAY_POSTING, {"key": "x", "op": "add", "trade_acc_id": ACCOUNT, "ccy": CCY, "amount": 1, "hold_id": "",
                       "code": 0, "created_at": 1})], [MISSING]),
    ([staged("WD1", 2, None)], [HELD, STAGED]),
    ([staged("WD1", 3, "release")], [HELD, STAGED, RECORDED]),
    ([staged("WD2", 3, None)], [RECORDED]),
    ([staged("WD2", 1, None)], [HELD, STAGED, RECORDED]),
    # WD2 released a second time: the books still balance, yet more has left the hold than was in it.
    ([stray(5, "frozen", -PART), stray(5, "available", PART),
      (SPOIL, {"b_account": ACCOUNT, "b_available": PART, "b_frozen": -PART})], [HELD, STAGED])])
def test_the_full_check_names_what_was_damaged(damage: list[Any], checks: list[str]) -> None:
    with asyncio.Runner() as runner:
        desk = Desk(runner)
        for op, key, args in (("add", "1", (ACCOUNT, CCY, FULL)), ("freeze", "2", args_of("freeze")),
                              ("release", "3", ("WD9",)), ("freeze", "4", args_of("freeze", "WD2")),
                              ("release", "5", ("WD2",))):
            desk.do(op, key, *args)
        for statement, parameters in damage:
            desk.run(desk.databases.assets.execute(statement, parameters))
        assert [finding.check for finding in desk.findings()] == checks
        runner.run(desk.databases.close())


def test_a_hold_without_its_money_stops_the_ledger_and_changes_nothing(funded: Desk) -> None:
    """A broken invariant raises; it is no refusal, and the key stays free."""
    funded.ok("freeze", "f", *args_of("freeze"))
    stolen = {"b_account": ACCOUNT, "b_available": 0, "b_frozen": -1}
    funded.run(funded.databases.assets.execute(SPOIL, stolen))
    with pytest.raises(InvariantBroken, match="frozen has less"):
        funded.do("release", "K", "WD1")
    assert funded.run(funded.risk.query("K")) is None
    assert stage_of(funded) is Stage.FROZEN
    funded.run(funded.databases.assets.execute(SPOIL, {**stolen, "b_frozen": 1}))
