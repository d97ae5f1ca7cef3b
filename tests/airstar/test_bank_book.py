"""The emulated banks' own double-entry book."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvariantBroken
from emulators.book import OUTSIDE, Book

OWNERS = [OUTSIDE, "broker", "u1", "u2"]


def a_book() -> Book:
    book = Book()
    for ccy in ("HKD", "USD"):
        for owner in OWNERS:
            book.open(owner, ccy, floor=None if owner == OUTSIDE else 0)
    return book


OWNER, CCY = st.sampled_from(OWNERS), st.sampled_from(["HKD", "USD"])
MOVE = st.tuples(OWNER, OWNER, CCY, st.integers(1, 1_000))


@given(st.lists(MOVE, max_size=40))
def test_whatever_is_moved_the_book_balances_and_no_floor_breaks(moves: list[tuple[str, str, str, int]]) -> None:
    book = a_book()
    for source, target, ccy, amount in moves:
        if source == target:
            continue
        giver, taker = book.account(source, ccy), book.account(target, ccy)
        before = giver.balance, taker.balance
        moved = book.move(giver, taker, amount)
        assert moved is (source == OUTSIDE or before[0] >= amount)
        assert (giver.balance, taker.balance) == ((before[0] - amount, before[1] + amount) if moved else before)
        book.check()


def test_a_posting_is_all_or_nothing_and_sums_to_zero() -> None:
    book = a_book()
    outside, one, two = (book.account(owner, "HKD") for owner in (OUTSIDE, "u1", "u2"))
    assert book.post([(outside, -100), (one, 70), (two, 30)])
    assert not book.post([(one, -80), (two, 80)])
    assert book.post([(one, -80), (two, 70), (one, 10)])  # legs of one account count together
    assert (one.balance, two.balance) == (0, 100)
    with pytest.raises(InvariantBroken):
        book.post([(one, 1)])
    with pytest.raises(InvariantBroken):
        book.post([(one, 1), (book.account("u2", "USD"), -1)])


def test_what_cannot_be_moved_is_our_own_fault() -> None:
    book = a_book()
    one, two = book.account("u1", "HKD"), book.account("u2", "HKD")
    for source, target, amount in ((one, two, 0), (one, two, -5), (one, one, 5), (one, book.account("u2", "USD"), 5)):
        with pytest.raises(InvariantBroken):
            book.move(source, target, amount)
    with pytest.raises(InvariantBroken):
        book.open("u1", "HKD")


def test_a_book_that_does_not_balance_is_found() -> None:
    book = a_book()
    book.account("u1", "HKD").balance = 1
    with pytest.raises(InvariantBroken):
        book.check()
    book.account("u1", "HKD").balance = -1
    book.account(OUTSIDE, "HKD").balance = 1
    with pytest.raises(InvariantBroken):
        book.check()
