"""Six small stories that a crash test tells again and again, and what must be the same at their end.

A story asks for one thing and says how long it lasts. Everything a crash could damage goes into a `Ledger of the
end`: both books, the states, what the customer was told, what was alerted, and every movement at the bank.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import select

from core.domain import ApplyStatus, JobState, TaskStatus
from core.storage import Statement
from core.storage.primary import applys, queue, refund, sba_list, task_flows, tasks
from core.storage.procedure import outbox, proc_info
from tests.rig import Rig, play

PROCEDURES = Statement(select(
    proc_info.c.biz_type, proc_info.c.status, proc_info.c.ext_status, proc_info.c.version, proc_info.c.reason,
    proc_info.c.attempt_no, proc_info.c.transaction_date).order_by(proc_info.c.id))
PENDING_EFFECTS = Statement(select(outbox.c.effect).where(outbox.c.state == 0))
OPEN_JOBS = Statement(select(queue.c.event, queue.c.key).where(
    queue.c.state.in_([int(JobState.READY), int(JobState.RUNNING), int(JobState.RETRY)])).order_by(queue.c.id))
TASKS = Statement(select(tasks.c.status, tasks.c.step, tasks.c.remark).order_by(tasks.c.id))
ASSOCIATIONS = Statement(select(sba_list.c.task_id, sba_list.c.procedure_id).order_by(sba_list.c.task_id))
STEPS = Statement(select(task_flows.c.task_id, task_flows.c.step, task_flows.c.action, task_flows.c.staff_id))
REFUNDS = Statement(select(refund.c.state, refund.c.amount).order_by(refund.c.id))
BUCKETS = ("available", "frozen", "in_transit")


class End(NamedTuple):
    """What a story comes to."""

    ours: dict[str, tuple[int, int, int]]
    at_bank: dict[str, int]
    bank_effects: list[tuple[str, str, int]]
    procedures: list[tuple[Any, ...]]
    ways: list[list[str]]
    applies: list[tuple[str, str]]
    tasks: list[tuple[str, str, str]]
    associations: list[tuple[int, int]]
    steps: Counter[tuple[int, str, str, str]]
    refunds: list[tuple[str, int]]
    told: Counter[tuple[int, str]]
    alerts: Counter[str]
    left_over: list[Any]


@dataclass(frozen=True)
class CrashStory:
    """``begin`` asks for something; the story has ``lasts_s`` to end, ``start`` and ``settings`` as in `play`."""

    name: str
    begin: Callable[[Rig], Awaitable[Any]]
    lasts_s: float
    ends: str
    start: str = "2026-03-12 10:01"
    settings: dict[str, Any] = field(default_factory=dict)


async def _deposit(rig: Rig) -> None:
    await rig.deposit()


async def _withdraw(rig: Rig) -> None:
    await rig.withdraw()


async def _rejected(rig: Rig) -> None:
    rig.world.bank.fault("fail_with", code=140630015, at="result", message="withdraw")
    await rig.withdraw()


async def _deferred(rig: Rig) -> None:
    """03:58: the US session is open until 04:00, the bank from 08:00 on: waits, is deferred, begins again."""
    await rig.withdraw(market=2, ccy="USD", amount=100_000)


async def _deposit_at_bank(rig: Rig) -> None:
    alice = rig.customer("alice")
    assert rig.world.bank.customer_deposits(rig.world.mandates[alice.index], 1, "HKD", 1_000_000).request_id


async def _withdraw_at_bank(rig: Rig) -> None:
    alice = rig.customer("alice")
    assert rig.world.bank.customer_withdraws(rig.world.mandates[alice.index], 1, "HKD", 1_000_000).request_id


async def _refunded_before(rig: Rig) -> None:
    rig.world.bank.fault("refunded_before_credit")
    await rig.deposit()


async def _refunded_after(rig: Rig) -> None:
    rig.world.bank.fault("refunded_after_credit", refund_s=330)
    await rig.deposit()


STORIES = {story.name: story for story in (
    CrashStory("deposit", _deposit, 200, "end_ok(deposit_ok)"),
    CrashStory("withdrawal", _withdraw, 200, "end_ok(transfer_done)"),
    CrashStory("rejected_withdrawal", _rejected, 200, "end_reject"),
    CrashStory("deferred_withdrawal", _deferred, 4.2 * 3600, "end_ok(transfer_done)", start="2026-03-12 03:58"),
    CrashStory("deposit_begun_at_the_bank", _deposit_at_bank, 300, "end_ok(deposit_ok)"),
    CrashStory("withdrawal_begun_at_the_bank", _withdraw_at_bank, 7200 + 400, "end_ok(transfer_done)",
               start="2026-03-12 11:59:30"),
    CrashStory("refunded_before_credit", _refunded_before, 200, ""),
    CrashStory("refunded_after_credit", _refunded_after, 700, "end_ok(deposit_ok)"),
)}


class Told(NamedTuple):
    """A story told once."""

    end: End
    commits: int
    kills: int


def tell(story: CrashStory, kills_after: tuple[int, ...] = (), restart_ms: int = 40_000) -> Told:
    """Tell a story; the core dies right after each of these commits, counted over all its lives."""
    commits = 0

    async def told(rig: Rig) -> Told:
        def after_commit(_database: str, _number: int) -> None:
            nonlocal commits
            commits += 1
            if commits in kills_after:
                rig.world.kill(restart_ms)

        rig.world.watch_commits(after_commit)
        await story.begin(rig)
        await asyncio.sleep(story.lasts_s + len(kills_after) * (restart_ms / 1000 + 60))
        rig.world.watch_commits(None)
        return Told(await end_of(rig), commits, rig.world.kills)

    return play(told, start=story.start, settings=story.settings)


async def end_of(rig: Rig) -> End:
    """Read the end from the databases, the bank's book and the event stream."""
    world, databases = rig.world, rig.world.databases
    shards = [row for key in sorted({f"{customer.uid % 100:02d}" for customer in world.customers})
              for row in await databases.primary.all(_applies(key), {})]
    procedures = await databases.procedure.all(PROCEDURES, {})
    return End(
        {f"{customer.id} {ccy}": await _money(rig, customer.id, ccy)
         for customer in world.customers for ccy in ("HKD", "USD")},
        {f"{customer.id} {ccy}": world.bank.balance(customer.id, ccy)
         for customer in world.customers for ccy in ("HKD", "USD")},
        [(one["op"], one["ccy"], one["amount"]) for one in rig.of_kind("bank.book")],
        procedures,
        [await rig.way(number) for number in range(1, len(procedures) + 1)],
        [(ApplyStatus(status).name, reason) for status, reason in shards],
        [(TaskStatus(status).name, step, remark)
         for status, step, remark in await databases.primary.all(TASKS, {})],
        list(await databases.primary.all(ASSOCIATIONS, {})),
        Counter(await databases.primary.all(STEPS, {})),
        list(await databases.primary.all(REFUNDS, {})),
        Counter((one["uid"], one["event"]) for one in rig.of_kind("notify")),
        Counter(one["rule"] for one in rig.of_kind("alert", phase="raised")),
        [*await databases.procedure.all(PENDING_EFFECTS, {}), *await databases.primary.all(OPEN_JOBS, {})])


async def _money(rig: Rig, who: str, ccy: str) -> tuple[int, int, int]:
    money = await rig.money(who, ccy)
    return money.available, money.frozen, money.in_transit


_APPLIES: dict[str, Statement] = {}


def _applies(shard: str) -> Statement:
    if shard not in _APPLIES:
        table = applys[shard]
        _APPLIES[shard] = Statement(select(table.c.status, table.c.reject_reason).order_by(table.c.id))
    return _APPLIES[shard]
