"""A search over the hundred tables of applications finds what one list would (DB-SHARD-08)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from storage_rows import apply_row

from core.deposits.applications import NEW, Apply
from core.deposits.finder import LIMIT_MAX, ApplyFinder
from core.errors import Code, Refusal
from core.storage import Databases, Statement, StorageConfig, open_databases, shard_of
from core.storage.primary import applys

UIDS = st.sampled_from([7, 107, 8, 99, 100, 10_000_001, 10_000_101])  # some share a table, some a number otherwise
CARDS = st.sampled_from(["6225880123456789", "6225 8801 2345 6789", "6225-8801-2345-6789", "6225880123456780", "6225"])
AMOUNTS = st.sampled_from([1, 100_000, 100_001, 2**53])
CCYS = st.sampled_from(["HKD", "USD", "CNH"])
ROWS = st.lists(st.tuples(UIDS, CARDS, AMOUNTS, CCYS, st.integers(0, 3)), max_size=40)
ASKED = st.fixed_dictionaries({}, optional={
    "uid": UIDS, "card": CARDS, "amount": AMOUNTS, "ccy": CCYS, "limit": st.integers(1, 12)})


def plain(card: str) -> str:
    return card.replace(" ", "").replace("-", "")


def made(rows: list[tuple[int, str, int, str, int]]) -> list[Apply]:
    """The applications, in the order of their making."""
    found = []
    for n, (uid, card, amount, ccy, minute) in enumerate(rows, 1):
        row = apply_row(id=n * 100 + uid % 100, uid=uid, card_no=card, amount=amount, ccy=ccy,
                        created_at=minute * 60_000, request_id="", bank_ref_id="", mandate_id="")
        found.append(Apply(**{name: row[name] for name in Apply._fields}))
    return found


def naive(all_of: list[Apply], asked: dict[str, Any]) -> list[Apply]:
    """What one list gives."""
    found = [one for one in all_of
             if ("uid" not in asked or one.uid == asked["uid"])
             and ("card" not in asked or plain(one.card_no) == plain(asked["card"]))
             and ("amount" not in asked or one.amount == asked["amount"])
             and ("ccy" not in asked or one.ccy == asked["ccy"])]
    return sorted(found, key=lambda one: (-one.created_at, -one.id))[:asked.get("limit", 50)]


async def keep(databases: Databases, all_of: list[Apply]) -> None:
    async with databases.primary.transaction() as tx:
        for one in all_of:
            await tx.execute(NEW[shard_of(one.uid)], one._asdict() | {"updated_at": one.created_at})


@pytest.fixture(scope="module")
def memory() -> Any:
    with asyncio.Runner() as runner:
        databases = runner.run(open_databases(StorageConfig()))
        yield runner, databases
        runner.run(databases.close())


@pytest.mark.req("DB-SHARD-08")
@settings(deadline=None, max_examples=150)
@given(rows=ROWS, asked=ASKED)
def test_it_finds_what_one_list_would_in_the_same_order(memory: Any, rows: Any, asked: dict[str, Any]) -> None:
    runner, databases = memory
    all_of = made(rows)

    async def search() -> list[Apply] | Refusal:
        await keep(databases, all_of)
        try:
            return await ApplyFinder(databases.primary).find(**asked)
        finally:
            for shard in {shard_of(one.uid) for one in all_of}:
                await databases.primary.execute(Statement(delete(applys[shard])), {})

    found = runner.run(search())
    if not {"uid", "card", "amount"} & set(asked):
        assert isinstance(found, Refusal) and found.code is Code.INVALID_PARAM
    else:
        assert found == naive(all_of, asked)


@pytest.mark.req("DB-SHARD-08")
async def test_whatever_the_shard_every_driver_gives_the_same(databases: Databases) -> None:
    """A customer in each of the hundred tables, all with one card and one amount."""
    all_of = made([(uid, "6225 8801 2345 6789", 100_000, "HKD", uid % 7) for uid in range(10_000_000, 10_000_100)])
    await keep(databases, all_of)
    finder = ApplyFinder(databases.primary)
    for asked in ({"card": "6225880123456789", "limit": 100}, {"amount": 100_000, "limit": 100},
                  {"amount": 100_000, "card": "6225-8801-23456789"}, {"amount": 100_000, "ccy": "HKD", "limit": 3},
                  *({"uid": uid} for uid in range(10_000_000, 10_000_100))):
        assert await finder.find(**asked) == naive(all_of, asked) != [], asked  # type: ignore[arg-type]
    assert await finder.find(amount=100_000, ccy="USD") == [] == await finder.find(card="1")


@pytest.mark.parametrize("asked", [{}, {"card": " - "}, {"ccy": "HKD"}, {"uid": 7, "limit": 0},
                                   {"uid": 7, "limit": LIMIT_MAX + 1}])
async def test_a_search_for_nothing_or_without_a_bound_is_refused(databases: Databases, asked: dict[str, Any]) -> None:
    refused = await ApplyFinder(databases.primary).find(**asked)
    assert isinstance(refused, Refusal) and refused.code is Code.INVALID_PARAM and refused.detail
