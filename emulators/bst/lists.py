"""The day list (what the bank has told) and the reconciliation list (what it has booked), in fragments.

A fault makes a list disagree with the bank's own knowledge: an entry is missing, foreign, or has another amount.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from core.money import format_wire, parse_wire
from core.wire.socket import ListKind
from core.wire.socket import messages as m
from emulators.bst.records import Booked, Push

T = TypeVar("T")

FOREIGN: Final = "FOREIGN"
"""Begins the reference of an entry that nobody knows."""


def item_of(push: Push) -> m.ListItem:
    """The entry of the day list that stands for a push; `core.wire.socket.messages.push_of` is the way back."""
    body = push.body
    match body:
        case m.DepositPush() | m.BankWithdrawal():
            kind = ListKind.DEPOSIT if isinstance(body, m.DepositPush) else ListKind.WITHDRAWAL
            return m.ListItem(push.seq, kind, body.transfer_ref, 0, body.name, body.card_no, body.ccy, body.amount,
                              body.market, body.account, body.cert_type, body.cert_no)  # fmt: skip
        case m.TransferResult():
            return m.ListItem(push.seq, ListKind.RESULT, body.transfer_ref, body.code, ccy=body.ccy, amount=body.amount)
        case m.SignNotice():
            return m.ListItem(push.seq, ListKind(body.action.value), name=body.name, card_no=body.card_no,
                              market=body.market, account=body.account, cert_type=body.cert_type,
                              cert_no=body.cert_no)  # fmt: skip
    raise TypeError(f"a {type(body).__name__} stands in no day list")


def day_list(pushes: Iterable[Push], how: Sequence[str], spare_seq: Callable[[], int]) -> list[m.Body]:
    """The fragments of a day list, at least one; ``how`` it is made to disagree, a foreign entry with a number that
    belongs to no push."""
    items = [item_of(push) for push in pushes]
    for way in how:
        items = _disagreeing_day(items, way, spare_seq)
    return [m.DayList(0, tuple(part)) for part in _fragments(items)]


def reconciliation(
    session: str, booked: Iterable[Booked], currencies: Iterable[str], how: Sequence[str] = ()
) -> list[m.Body]:
    """The fragments of what was booked on a business day, at least one; the totals stand in the last."""
    items = [_booked_item(entry) for entry in booked]
    for way in how:
        items = _disagreeing_booked(items, way)
    totals = tuple(_total(ccy, items) for ccy in currencies)
    parts = _fragments(items)
    last = len(parts) - 1
    return [m.ReconciliationList(0, session, totals if number == last else (), tuple(part))
            for number, part in enumerate(parts)]  # fmt: skip


def _booked_item(entry: Booked) -> m.ReconciliationItem:
    transfer = entry.transfer
    return m.ReconciliationItem(transfer.ref, entry.deposit, transfer.ccy, format_wire(transfer.amount),
                                transfer.customer.card_no)  # fmt: skip


def _total(ccy: str, items: Sequence[m.ReconciliationItem]) -> m.ReconciliationTotal:
    sums = {True: [0, 0], False: [0, 0]}
    for item in items:
        if item.ccy == ccy:
            sums[item.deposit][0] += 1
            sums[item.deposit][1] += parse_wire(item.amount)
    return m.ReconciliationTotal(ccy, sums[True][0], format_wire(sums[True][1]),
                                 sums[False][0], format_wire(sums[False][1]))  # fmt: skip


def _fragments(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + m.MAX_ITEMS] for start in range(0, max(1, len(items)), m.MAX_ITEMS)]


# --- lists that disagree ----------------------------------------------------------------------------------------


def _disagreeing_day(items: list[m.ListItem], how: str, spare_seq: Callable[[], int]) -> list[m.ListItem]:
    money = [number for number, item in enumerate(items) if item.amount]
    if how == "foreign":
        seq = spare_seq()
        return [*items, m.ListItem(seq, ListKind.DEPOSIT, f"{FOREIGN}{seq:012d}", 0, "NOBODY", "0000000000000000",
                                   "HKD", "1.00", "HK")]  # fmt: skip
    if not money:
        return items[:-1] if how == "missing" else items
    return _changed(items, money[-1], how)


def _disagreeing_booked(items: list[m.ReconciliationItem], how: str) -> list[m.ReconciliationItem]:
    if how == "foreign":
        return [*items, m.ReconciliationItem(f"{FOREIGN}{len(items) + 1:012d}", True, "HKD", "1.00")]
    return _changed(items, len(items) - 1, how) if items else items


def _changed(items: list[T], number: int, how: str) -> list[T]:
    if how == "missing":
        return items[:number] + items[number + 1 :]
    return [*items[:number], _with_another_amount(items[number]), *items[number + 1 :]]


def _with_another_amount(item: Any) -> Any:
    return dataclasses.replace(item, amount=format_wire(parse_wire(item.amount) + 1))
