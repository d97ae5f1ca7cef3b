"""Black and white lists: who is hit, bulk changes all or nothing, expiry, names that look alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, update

from core.errors import Code, Refusal
from core.screening import Hit, Kind, ListName, Lists, Value, fold_name, similarity
from core.screening.lists import REASON_MAX, VALUE_MAX
from core.settings import Settings
from core.storage import ConstraintViolation, Statement, StorageConfig, open_databases
from core.storage.primary import list_change, list_entry

T = TypeVar("T")
BLACK, WHITE, WITHDRAW = ListName.DEPOSIT_BLACK, ListName.DEPOSIT_WHITE, ListName.WITHDRAW_BLACK
NOON = 1_773_300_000_000


class StillClock:
    """A moment that the test moves."""

    ms = NOON

    def now_us(self) -> int:
        return self.ms * 1000

    def now_ms(self) -> int:
        return self.ms


class Desk:
    """Lists on a fresh in-memory database; runs coroutines to their end."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.run_ = runner.run
        self.databases = self.run(open_databases(StorageConfig()))
        self.clock = StillClock()
        self.lists = Lists(self.databases.primary, self.clock, Settings())

    def run(self, work: Awaitable[T]) -> T:
        async def main() -> T:
            return await work
        return self.run_(main())

    def add(self, name: ListName, *values: Value) -> int | Refusal:
        return self.run(self.lists.add(name, values, "kim", "case 12"))

    def remove(self, name: ListName, *values: Value) -> int | Refusal:
        return self.run(self.lists.remove(name, values, "lee", "mistaken"))

    def hit(self, of_list: ListName, **asked: Any) -> Hit | None:
        return self.run(self.lists.hit(of_list, **asked))


@pytest.fixture
def desk() -> Iterator[Desk]:
    with asyncio.Runner() as runner:
        desk = Desk(runner)
        yield desk
        runner.run(desk.databases.close())


def uid(number: int, expires_at: int | None = None) -> Value:
    return Value(Kind.UID, str(number), expires_at)


def test_the_limits_are_those_of_the_columns() -> None:
    lengths = {name: getattr(list_entry.c[name].type, "length", None) for name in ("value", "reason")}
    assert lengths == {"value": VALUE_MAX, "reason": REASON_MAX}


def code_of(answer: int | Refusal) -> Code:
    assert isinstance(answer, Refusal)
    assert answer.detail
    return answer.code


def test_a_listed_customer_is_hit_on_that_list_only(desk: Desk) -> None:
    assert desk.add(BLACK, uid(7)) == 1
    hit = desk.hit(BLACK, uid=7)
    assert hit is not None
    assert (hit.kind, hit.value, hit.operator, hit.reason, hit.similarity) == ("uid", "7", "kim", "case 12", 1.0)
    assert desk.hit(BLACK, uid=8) is None
    assert desk.hit(WHITE, uid=7) is None
    assert desk.hit(WITHDRAW, uid=7) is None
    assert desk.hit(BLACK) is None


@pytest.mark.parametrize(("stored", "asked"), [
    (Value(Kind.CARD_NO, "6225 8801-2345 6789"), {"card_no": "6225880123456789"}),
    (Value(Kind.CARD_NO, "6225880123456789"), {"card_no": "6225 8801 2345 6789"}),
    (Value(Kind.ACCOUNT, "012-345-6-789012"), {"account": "0123456789012"}),
    (Value(Kind.NAME, "CHAN, Tai Man"), {"name": "tai  man chan"}),
    (Value(Kind.NAME, "陳大文"), {"name": "陳大文 "})])
def test_values_are_compared_after_normalisation(desk: Desk, stored: Value, asked: dict[str, str]) -> None:
    assert desk.add(BLACK, stored) == 1
    hit = desk.hit(BLACK, uid=1, **asked)
    assert hit is not None
    assert hit.kind == stored.kind


def test_a_number_is_met_exactly_and_by_its_own_kind(desk: Desk) -> None:
    desk.add(BLACK, Value(Kind.CARD_NO, "6225880123456789"))
    assert desk.hit(BLACK, card_no="6225880123456788") is None
    assert desk.hit(BLACK, account="6225880123456789") is None


@pytest.mark.parametrize(("name", "met"), [
    ("Alexander Montgomery Wong", True),
    ("Alexandre Montgomery Wong", True),  # 24 of 25 signs in common: 0.96
    ("Alexander Montgomery Wang", True),
    ("Alexander Montgomery Chin", False),  # equally long, 0.84
    ("Alexander Montgomery", False),  # 0.88
    ("Alexander Fong", False)])
def test_similar_names_are_hit_from_the_threshold_on(desk: Desk, name: str, met: bool) -> None:
    desk.add(BLACK, Value(Kind.NAME, "Wong Alexander Montgomery"), Value(Kind.NAME, "Lee Siu Ming"))
    hit = desk.hit(BLACK, name=name)
    assert (hit is not None) is met
    if hit is not None:
        assert hit.value == "alexander montgomery wong"
        assert hit.similarity >= 0.92


def test_the_most_similar_name_is_reported(desk: Desk) -> None:
    desk.add(BLACK, Value(Kind.NAME, "Alexander Montgomery Wang"), Value(Kind.NAME, "Alexander Montgomery Wongg"))
    hit = desk.hit(BLACK, name="Alexander Montgomery Wonggg")
    assert hit is not None
    assert hit.value == "alexander montgomery wongg"


def test_an_entry_ends_when_it_expires_and_may_be_added_again(desk: Desk) -> None:
    desk.add(BLACK, uid(7, NOON + 1000), Value(Kind.NAME, "Alexander Wong Tai Man", NOON + 1000))
    desk.clock.ms += 999
    assert desk.hit(BLACK, uid=7)
    assert desk.hit(BLACK, name="Alexander Wong Tai Mann")
    desk.clock.ms += 1
    assert desk.hit(BLACK, uid=7) is None
    assert desk.hit(BLACK, name="Alexander Wong Tai Mann") is None
    assert code_of(desk.remove(BLACK, uid(7))) is Code.NOT_FOUND
    assert desk.add(BLACK, uid(7)) == 1
    assert desk.hit(BLACK, uid=7)


@pytest.mark.req("DEP-11")
def test_a_bulk_change_is_audited_with_operator_reason_and_time(desk: Desk) -> None:
    assert desk.add(BLACK, uid(7), uid(8)) == 2
    desk.clock.ms += 5
    assert desk.remove(BLACK, uid(7)) == 1
    assert desk.hit(BLACK, uid=7) is None
    seven, eight = desk.run(desk.lists.entries(BLACK))
    assert seven[1:] == ("uid", "7", "mistaken", "lee", NOON + 5, NOON, NOON + 5)
    assert eight[1:] == ("uid", "8", "case 12", "kim", None, NOON, NOON)
    assert desk.run(desk.lists.entries(BLACK, after=seven.entry, limit=1)) == [eight]


@pytest.mark.req("DEP-11")
def test_one_value_that_does_not_fit_leaves_the_list_as_it_was(desk: Desk) -> None:
    desk.add(BLACK, uid(1), uid(2))
    before = desk.run(desk.lists.entries(BLACK))
    assert code_of(desk.add(BLACK, uid(3), uid(2), uid(4))) is Code.DUPLICATE
    assert code_of(desk.remove(BLACK, uid(1), uid(3))) is Code.NOT_FOUND
    assert code_of(desk.add(BLACK, uid(3), Value(Kind.CARD_NO, " - "))) is Code.INVALID_PARAM
    assert code_of(desk.add(BLACK, uid(3), Value(Kind.NAME, "x" * 141))) is Code.INVALID_PARAM
    assert code_of(desk.add(BLACK, uid(3), uid(3))) is Code.INVALID_PARAM
    assert code_of(desk.add(BLACK, uid(3), uid(4, NOON))) is Code.INVALID_PARAM
    assert desk.run(desk.lists.entries(BLACK)) == before


@pytest.mark.req("DEP-11")
def test_at_most_a_thousand_values_per_call_and_never_without_operator_and_reason(desk: Desk) -> None:
    assert desk.add(BLACK, *map(uid, range(1000))) == 1000
    assert code_of(desk.add(WHITE, *map(uid, range(1001)))) is Code.INVALID_PARAM
    assert code_of(desk.add(WHITE)) is Code.INVALID_PARAM
    assert code_of(desk.run(desk.lists.add(WHITE, [uid(1)], "", "why"))) is Code.INVALID_PARAM
    assert code_of(desk.run(desk.lists.add(WHITE, [uid(1)], "kim", ""))) is Code.INVALID_PARAM
    assert desk.run(desk.lists.entries(WHITE)) == []
    assert desk.remove(BLACK, *map(uid, range(1000))) == 1000
    assert all(desk.hit(BLACK, uid=number) is None for number in (0, 500, 999))


def longest_common(one: str, other: str) -> int:
    """The textbook table."""
    row = [0] * (len(other) + 1)
    for sign in one:
        last = row[:]
        for j, met in enumerate(other):
            row[j + 1] = last[j] + 1 if sign == met else max(last[j + 1], row[j])
    return row[-1]


@given(st.text("abcd", max_size=30), st.text("abcd", max_size=30))
def test_similarity_is_the_longest_common_subsequence_over_the_mean_length(one: str, other: str) -> None:
    expected = 2 * longest_common(one, other) / (len(one) + len(other)) if one or other else 1.0
    assert similarity(one, other) == expected == similarity(other, one)


@given(st.text())
def test_a_name_in_normal_form_stays_as_it_is(name: str) -> None:
    assert fold_name(fold_name(name)) == fold_name(name)


@pytest.mark.req("DEP-11")
def test_the_audit_trail_keeps_every_change_and_is_never_changed_itself(desk: Desk) -> None:
    assert desk.add(BLACK, uid(7), uid(8, NOON + 100)) == 2
    desk.clock.ms += 5
    assert desk.remove(BLACK, uid(7)) == 1
    desk.clock.ms += 5
    assert desk.add(BLACK, uid(7)) == 1
    assert code_of(desk.add(BLACK, uid(9), uid(7))) is Code.DUPLICATE
    assert code_of(desk.remove(BLACK, uid(7), uid(9))) is Code.NOT_FOUND
    trail = [("ADD", "uid", "7", "case 12", "kim", None, NOON), ("ADD", "uid", "8", "case 12", "kim", NOON + 100, NOON),
             ("REMOVE", "uid", "7", "mistaken", "lee", NOON + 5, NOON + 5),
             ("ADD", "uid", "7", "case 12", "kim", None, NOON + 10)]
    assert desk.run(desk.lists.changes(BLACK)) == trail and desk.run(desk.lists.changes(WHITE)) == []
    assert desk.run(desk.lists.changes(BLACK, since_ms=NOON + 5, limit=1)) == trail[2:3]
    for change in (update(list_change).values(operator="nobody"), delete(list_change)):
        with pytest.raises(ConstraintViolation):
            desk.run(desk.databases.primary.execute(Statement(change), {}))
