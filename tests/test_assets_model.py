"""Risk control against a plain reference book under random orders, replays, reused keys and crashes after a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.assets import RiskControl
from core.errors import Code
from core.storage import StorageConfig, open_databases
from core.trace import Event, Trace

T = TypeVar("T")
Terms = tuple[int, str, int]


class Book:
    """The ledger in words: nothing shared with the real one but codes. Buckets: (available, frozen, in_transit)."""

    def __init__(self) -> None:
        self.buckets: dict[tuple[int, str], list[int]] = {}
        self.outside: dict[str, int] = {}
        self.holds: dict[str, tuple[Terms, str]] = {}
        self.answers: dict[str, tuple[tuple[Any, ...], Code]] = {}

    def answer(self, op: str, key: str, hold_id: str, terms: Terms) -> tuple[Code, bool]:
        """Code and whether it is a stored answer."""
        asked = (op, hold_id, None if op in ("release", "deduct", "refreeze", "restore", "consume") else terms)
        if key in self.answers:
            order, code = self.answers[key]
            return (code, True) if order == asked else (Code.INVALID_PARAM, False)
        code = self.decide(op, hold_id, terms)
        self.answers[key] = (asked, code)
        return code, False

    def decide(self, op: str, hold_id: str, terms: Terms) -> Code:
        if op in ("add", "debit"):
            return self.shift(terms, "outside", 0) if op == "add" else self.shift(terms, 0, "outside")
        if hold_id not in self.holds:
            return self.without_hold(op, hold_id, terms)
        held, stage = self.holds[hold_id]
        return self.with_hold(op, hold_id, terms, held, stage)

    def without_hold(self, op: str, hold_id: str, terms: Terms) -> Code:
        if op not in ("freeze", "add_held", "settle"):
            return Code.NOT_FOUND
        code = {"freeze": (0, 1), "add_held": ("outside", 1), "settle": (0, "outside")}[op]
        done = self.shift(terms, *code)
        if done is Code.OK:
            self.holds[hold_id] = (terms, "consumed" if op == "settle" else "frozen")
        return done

    def with_hold(self, op: str, hold_id: str, terms: Terms, held: Terms, stage: str) -> Code:
        if op == "add_held":
            return Code.DUPLICATE
        if op == "freeze" and stage == "frozen":
            return Code.OK if terms == held else Code.INVALID_PARAM
        if op == "settle":
            return self.settle(hold_id, held, stage) if terms == held else Code.INVALID_PARAM
        moves = {("release", "frozen"): (1, 0, "returned"), ("deduct", "frozen"): (1, 2, "transit"),
                 ("refreeze", "transit"): (2, 1, "frozen"), ("restore", "transit"): (2, 0, "returned"),
                 ("consume", "transit"): (2, "outside", "consumed")}
        if (op, stage) not in moves:
            return Code.ILLEGAL_STATE
        origin, target, after = moves[op, stage]
        self.holds[hold_id] = (held, after)
        return self.shift(held, origin, target)

    def settle(self, hold_id: str, held: Terms, stage: str) -> Code:
        if stage == "consumed":
            return Code.OK
        done = self.shift(held, {"frozen": 1, "transit": 2, "returned": 0}[stage], "outside")
        if done is Code.OK:
            self.holds[hold_id] = (held, "consumed")
        return done

    def shift(self, terms: Terms, origin: Any, target: Any) -> Code:
        account, ccy, amount = terms
        buckets = self.buckets.setdefault((account, ccy), [0, 0, 0])
        if origin == 0 and buckets[0] < amount:
            return Code.INSUFFICIENT_BALANCE
        for place, delta in ((origin, -amount), (target, amount)):
            if place == "outside":
                self.outside[ccy] = self.outside.get(ccy, 0) + delta
            else:
                buckets[place] += delta
        return Code.OK


class Ticks:
    """Time that goes on by itself."""

    us = 1_773_300_000_000_000

    def now_us(self) -> int:
        self.us += 1
        return self.us

    def now_ms(self) -> int:
        return self.now_us() // 1000


class Killed(BaseException):
    """The process ends right after a commit."""


HOLDS, ACCOUNTS, CCYS = ("WD1", "WD2", "A3"), (1, 2), ("HKD", "USD")
TERMS = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(CCYS), st.sampled_from((1, 2, 50)))
OPS = ("freeze", "release", "deduct", "refreeze", "restore", "consume", "settle", "add", "add_held", "debit")


class Ledger(RuleBasedStateMachine):
    """Both books take the same orders; answers, balances, holds, totals and the event stream must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.book = Book()
        self.orders: list[tuple[str, str, str, Terms]] = []
        self.streamed: dict[tuple[int, str], dict[str, int]] = {}
        self.last = 0
        self.clock = Ticks()
        self.trace = Trace(self.clock, self.read)
        self.databases = self.run(open_databases(StorageConfig()))
        self.risk = RiskControl(self.databases.assets, self.clock, self.trace)

    def run(self, work: Awaitable[T]) -> T:
        async def main() -> T:
            return await work
        return self.runner.run(main())

    def teardown(self) -> None:
        self.run(self.databases.close())
        self.runner.close()

    def read(self, event: Event) -> None:
        """A reader of the stream that knows nothing but events."""
        data = event[4]
        self.last = max(self.last, data["posting"])
        place = self.streamed.setdefault((data["account"], data["ccy"]), dict.fromkeys(data["after"], 0))
        for bucket, delta in data["legs"]:
            if bucket != "external":
                place[bucket] += delta
        if not data["detail"].startswith("key"):
            assert place == data["after"] or data["replayed"]

    def send(self, order: tuple[str, str, str, Terms]) -> tuple[Code, bool]:
        op, key, hold_id, terms = order
        args: dict[str, tuple[Any, ...]] = {
            "freeze": (*terms, hold_id, 2), "add_held": (*terms, hold_id, 17), "add": terms, "debit": terms,
            "settle": (hold_id, *terms)}
        outcome = self.run(getattr(self.risk, op)(key, *args.get(op, (hold_id,))))
        return outcome.code, outcome.replayed

    def ask(self, order: tuple[str, str, str, Terms]) -> None:
        op, key, hold_id, terms = order
        assert self.send(order) == self.book.answer(op, key, "" if op in ("add", "debit") else hold_id, terms)

    @rule(op=st.sampled_from(OPS), hold_id=st.sampled_from(HOLDS), terms=TERMS)
    def order(self, op: str, hold_id: str, terms: Terms) -> None:
        order = (op, f"K{len(self.orders)}", hold_id, terms)
        self.orders.append(order)
        self.ask(order)

    @precondition(lambda self: self.book.holds)
    @rule(op=st.sampled_from(OPS), data=st.data())
    def order_on_an_existing_hold(self, op: str, data: st.DataObject) -> None:
        hold_id = data.draw(st.sampled_from(sorted(self.book.holds)))
        order = (op, f"K{len(self.orders)}", hold_id, self.book.holds[hold_id][0])
        self.orders.append(order)
        self.ask(order)

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        self.ask(data.draw(st.sampled_from(self.orders)))

    @precondition(lambda self: self.orders)
    @rule(op=st.sampled_from(OPS), hold_id=st.sampled_from(HOLDS), terms=TERMS, data=st.data())
    def use_a_key_again(self, op: str, hold_id: str, terms: Terms, data: st.DataObject) -> None:
        self.ask((op, data.draw(st.sampled_from(self.orders))[1], hold_id, terms))

    @rule(op=st.sampled_from(OPS), hold_id=st.sampled_from(HOLDS), terms=TERMS)
    def crash_right_after_the_commit(self, op: str, hold_id: str, terms: Terms) -> None:
        order = (op, f"K{len(self.orders)}", hold_id, terms)
        self.orders.append(order)

        def kill(name: str, number: int) -> None:
            raise Killed

        self.databases.on_commit = kill
        with pytest.raises(Killed):
            self.send(order)
        self.databases.sever()
        self.databases = self.databases.reopen()
        self.databases.on_commit = None
        self.risk = RiskControl(self.databases.assets, self.clock, self.trace)
        code, _ = self.book.answer(op, order[1], "" if op in ("add", "debit") else hold_id, terms)
        stored = self.run(self.risk.query(order[1]))
        assert stored is not None
        assert (stored.code, stored.replayed) == (code, True)
        assert self.run(self.risk.republish(self.last)) == 1

    @invariant()
    def the_books_agree(self) -> None:
        for (account, ccy), buckets in self.book.buckets.items():
            shown = self.run(self.risk.balances(account, ccy))
            assert list(shown) == buckets
            assert min(shown) >= 0
            assert list(self.streamed.get((account, ccy), {"": 0, " ": 0, "  ": 0}).values()) == buckets
        for hold_id, (terms, stage) in self.book.holds.items():
            hold = self.run(self.risk.hold(hold_id))
            assert hold is not None
            assert (hold.account, hold.ccy, hold.amount) == terms
            assert hold.stage.name == {"transit": "IN_TRANSIT"}.get(stage, stage.upper())

    @invariant()
    def the_totals_agree_and_the_check_finds_nothing(self) -> None:
        for ccy, totals in self.run(self.risk.totals()).items():
            assert totals.external == self.book.outside.get(ccy, 0)
            assert sum(totals) == 0
        assert self.run(self.risk.verify()) == []


TestLedger = pytest.mark.req("FRZ-05", "FRZ-06", "FRZ-07", "DEDUP-04")(Ledger.TestCase)
TestLedger.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True,
                               suppress_health_check=[HealthCheck.too_slow])
