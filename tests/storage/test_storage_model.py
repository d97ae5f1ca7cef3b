"""Random transactions against a model: a dict that is copied at begin and put back at a rollback."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, delete, insert, select, update
from storage_rows import setting_row

from core.storage import Databases, Statement, StorageConfig, UniqueViolation, open_databases, upsert
from core.storage.primary import auto_settings

_C = auto_settings.c
NEW = Statement(insert(auto_settings))
PUT = Statement(upsert(auto_settings, key=("bank", "ccy"), update=("balance",)))
SPEND = Statement(
    update(auto_settings).where(_C.bank == bindparam("b_bank"), _C.ccy == "HKD", _C.balance >= bindparam("b_amount"))
    .values(balance=_C.balance - bindparam("b_amount")))
DROP = Statement(delete(auto_settings).where(_C.bank == bindparam("b_bank")))
EVERY = Statement(select(_C.bank, _C.balance).order_by(_C.bank))

BANKS = st.sampled_from(["airstar", "cmb", "cmbc", "Airstar"])
AMOUNTS = st.integers(0, 2**62)


@dataclass(frozen=True)
class Step:
    """One statement: what it does, to which bank's row, with which amount."""

    act: str
    bank: str
    amount: int


@dataclass(frozen=True)
class Work:
    """One transaction; ``ends`` is commit, an exception in its block, or a killed core."""

    steps: list[Step]
    ends: str


STEPS = st.builds(Step, st.sampled_from(["new", "put", "spend", "drop"]), BANKS, AMOUNTS)
WORKS = st.builds(Work, st.lists(STEPS, max_size=6), st.sampled_from(["commit", "commit", "fail", "kill"]))


class Failed(Exception):
    """A transaction's block went wrong."""


def _expected(model: dict[str, int], step: Step) -> int | None:
    """Change the model; the rows found, or None for a duplicate key."""
    present = step.bank in model
    if step.act == "new" and present:
        return None
    if step.act in ("new", "put"):
        model[step.bank] = step.amount
        return 1
    if step.act == "drop":
        return int(model.pop(step.bank, None) is not None)
    if present and model[step.bank] >= step.amount:
        model[step.bank] -= step.amount
        return 1
    return 0


async def _done(tx: Any, step: Step) -> int | None:
    parameters = {"b_bank": step.bank, "b_amount": step.amount}
    try:
        if step.act in ("new", "put"):
            row = setting_row(bank=step.bank, balance=step.amount)
            return int(await tx.execute(NEW if step.act == "new" else PUT, row))
        return int(await tx.execute(SPEND if step.act == "spend" else DROP, parameters))
    except UniqueViolation:
        return None


async def _carry_out(databases: Databases, work: Work, model: dict[str, int]) -> tuple[Databases, dict[str, int]]:
    """One transaction on both; returns what is current afterwards."""
    then = dict(model)
    try:
        async with databases.primary.transaction() as tx:
            for step in work.steps:
                assert await _done(tx, step) == _expected(then, step), step
                assert await tx.all(EVERY, {}) == sorted(then.items())
            if work.ends != "commit":
                if work.ends == "kill":
                    databases.sever()
                raise Failed
    except Failed:
        return (databases.reopen() if work.ends == "kill" else databases), model
    return databases, then


async def _history(works: list[Work], config: StorageConfig) -> None:
    databases = await open_databases(config)
    model: dict[str, int] = {}
    await databases.primary.execute(Statement(delete(auto_settings)), {})
    for work in works:
        databases, model = await _carry_out(databases, work, model)
        assert await databases.primary.all(EVERY, {}) == sorted(model.items())
    await databases.close()


@given(works=st.lists(WORKS, max_size=8))
@settings(max_examples=60, deadline=None)
def test_random_transactions_leave_what_the_model_says(works: list[Work]) -> None:
    asyncio.run(_history(works, StorageConfig()))


def test_the_same_on_every_driver(config: StorageConfig) -> None:
    @given(works=st.lists(WORKS, max_size=5))
    @settings(max_examples=15, deadline=None, database=None)
    def check(works: list[Work]) -> None:
        asyncio.run(_history(works, config))

    check()
