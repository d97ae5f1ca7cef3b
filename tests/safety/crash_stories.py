"""Small stories that a crash test tells again and again, and what must be the same at their end.

A story asks for one thing and says how long it lasts. Everything a crash could damage goes into an `End`: our book and
those of the banks, the states, what the customer was told, what was alerted, and every movement at the banks. How a
push came (heard, or fetched afterwards) is the only thing that a crash may change.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import select

from core.domain import ApplyStatus, JobState, Market, TaskStatus
from core.storage import Statement
from core.storage.primary import (
    applys,
    bst_push,
    bst_transfer,
    cmb_list,
    flow_claim,
    ms_list,
    queue,
    refund,
    sba_list,
    statement_flows,
    task_flows,
    tasks,
)
from core.storage.procedure import outbox, proc_info
from core.trace import Event
from scenarios.facts import INSTRUCTIONS
from tests.rig import Rig, play

PROCEDURES = Statement(select(
    proc_info.c.biz_type, proc_info.c.status, proc_info.c.ext_status, proc_info.c.version, proc_info.c.reason,
    proc_info.c.attempt_no, proc_info.c.transaction_date).order_by(proc_info.c.id))
PENDING_EFFECTS = Statement(select(outbox.c.effect).where(outbox.c.state == 0))
OPEN_JOBS = Statement(select(queue.c.event, queue.c.key).where(
    queue.c.state.in_([int(JobState.READY), int(JobState.RUNNING), int(JobState.RETRY)])).order_by(queue.c.id))
MOVES = ("apply", "statement", "match", "procedure", "posting")
TASKS = Statement(select(tasks.c.status, tasks.c.step, tasks.c.remark).order_by(tasks.c.id))
ASSOCIATIONS = Statement(select(sba_list.c.task_id, sba_list.c.procedure_id).order_by(sba_list.c.task_id))
STEPS = Statement(select(task_flows.c.task_id, task_flows.c.step, task_flows.c.action, task_flows.c.staff_id))
REFUNDS = Statement(select(refund.c.state, refund.c.amount).order_by(refund.c.id))
PUSHES = Statement(select(bst_push.c.bank, bst_push.c.push_seq, bst_push.c.dedup, bst_push.c.state, bst_push.c.reason)
                   .order_by(bst_push.c.bank, bst_push.c.push_seq))
TRANSFERS = Statement(select(
    bst_transfer.c.bank, bst_transfer.c.transfer_ref, bst_transfer.c.kind, bst_transfer.c.state)
    .order_by(bst_transfer.c.bank, bst_transfer.c.transfer_ref))
WISHES = {bank: Statement(select(table.c[ref], table.c.state, table.c.task_id).order_by(table.c[ref]))
          for bank, table, ref in (("cmb", cmb_list, "bank_tx_seq"), ("cmbc", ms_list, "org_ref_no"))}


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
    pushes: list[tuple[Any, ...]]
    transfers: list[tuple[Any, ...]]
    wishes: list[tuple[Any, ...]]
    statements: list[tuple[Any, ...]]
    truth: dict[str, str]
    told: Counter[tuple[int, str]]
    alerts: Counter[str]
    left_over: list[Any]


Begin = Callable[[Rig], Awaitable[Any]]


@dataclass(frozen=True)
class CrashStory:
    """``begin`` asks for something; the story has ``lasts_s`` to end, ``start`` and ``settings`` as in `play`."""

    name: str
    begin: Begin
    lasts_s: float
    ends: str
    start: str = "2026-03-12 10:01"
    settings: dict[str, Any] = field(default_factory=dict)
    bank: str = ""  # of a story at a socket bank
    like: str = ""  # another story that is the same until the bank is instructed
    statement: str = ""  # the bank of a story whose money is told of by statements

    def play(self, told: Callable[[Rig], Awaitable[Any]]) -> Any:
        """Tell it in a world where it can happen."""
        cards = {"cards": (self.bank,)} if self.bank else {}
        if self.statement:
            cards = {"cards": ("airstar", self.statement), "statements": (self.statement,)}
        return play(told, start=self.start, settings=self.settings, **cards)

    async def stand(self, rig: Rig) -> None:
        """The beginning, once the bank's line stands."""
        while self.bank and not rig.core.sockets[self.bank].gateway.available:
            await asyncio.sleep(0.1)


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


# At CMB and CMBC: steady banks, whose results a story changes by faults


def _pushed(bank: str, kind: Any, amount: int = 1_000_000) -> Begin:
    """The customer begins a transfer at the bank, which tells us (source 2, or a wish for money)."""

    async def begin(rig: Rig) -> None:
        assert rig.world.banks[bank].ask(rig.customer("alice"), kind, Market.HK, "HKD", amount) == 0

    return begin


def _asked(bank: str, kind: str, *faults: tuple[str, dict[str, Any]]) -> Begin:
    """The customer asks in our app (source 1); the bank does what these faults say, each once unless told."""

    async def begin(rig: Rig) -> None:
        for name, parameters in faults:
            rig.world.sockets[bank].bank.fault(name, **{"count": 1, **parameters})
        await (rig.withdraw(channel=bank) if kind == "withdraw" else _collect(rig, bank))

    return begin


async def _collect(rig: Rig, bank: str) -> None:
    alice = rig.customer("alice")
    await rig.core.deposits_at[bank].submit(
        alice.uid, alice.trade_acc_ids[0], int(Market.HK), rig.world.card_id(alice, bank), alice.cards[bank].number,
        "HKD", 1_000_000)


def _refused_later(bank: str) -> Begin:
    """A withdrawal begun at the bank whose payment the bank then rejects: it is refused there."""

    async def begin(rig: Rig) -> None:
        rig.world.sockets[bank].bank.fault("reject", message="withdraw")
        await _pushed(bank, "withdraw")(rig)

    return begin


def _steady(bank: str) -> dict[str, Any]:
    return {f"sim.{bank}.outcome": [[0, 1.0]], f"sim.{bank}.unknown.share": 0.0}


def _at(bank: str, name: str, begin: Begin, ends: str, start: str = "2026-03-12 10:01", like: str = "") -> CrashStory:
    return CrashStory(f"{bank}_{name}", begin, 200, ends, start, _steady(bank), bank, like)


DEPOSITED, PAID, REJECTED = "end_ok(deposit_ok)", "end_ok(transfer_done)", "end_reject"
TOO_MUCH = 20_000_000  # twice what alice has with us
LATE = ("answer_minus5", {"message": "withdraw", "late_s": 20})
LOST = ("answer_minus5", {"message": "withdraw", "processed": False})
LATER = ("answer_minus5", {"message": "withdraw", "at": "result", "late_s": 20})
NEVER = ("reject", {"message": "withdraw", "at": "answer", "count": None})
BEFORE_OPENING = "2026-03-12 06:59"
SOCKET_STORIES = (
    _at("cmb", "deposit_pushed", _pushed("cmb", "deposit"), DEPOSITED),
    _at("cmb", "deposit", _asked("cmb", "deposit"), DEPOSITED),
    _at("cmb", "rejected_deposit",
        _asked("cmb", "deposit", ("reject", {"message": "deposit"})), "", like="cmb_deposit"),
    _at("cmb", "withdrawal", _asked("cmb", "withdraw"), PAID),
    _at("cmb", "rejected_withdrawal",
        _asked("cmb", "withdraw", ("reject", {"message": "withdraw"})), REJECTED, like="cmb_withdrawal"),
    _at("cmb", "withdrawal_never_taken_on", _asked("cmb", "withdraw", NEVER), REJECTED, like="cmb_withdrawal"),
    _at("cmb", "deposit_before_opening", _asked("cmb", "deposit"), DEPOSITED, BEFORE_OPENING),
    _at("cmb", "deposit_pushed_at_opening", _pushed("cmb", "deposit"), DEPOSITED, BEFORE_OPENING),
    _at("cmb", "minus5_and_paid_late", _asked("cmb", "withdraw", LATE), PAID, like="cmb_withdrawal"),
    _at("cmb", "minus5_and_paid_the_second_time", _asked("cmb", "withdraw", LOST), PAID, like="cmb_withdrawal"),
    _at("cmb", "result_minus5_then_0", _asked("cmb", "withdraw", LATER), PAID, like="cmb_withdrawal"),
    _at("cmb", "withdrawal_begun_at_the_bank", _pushed("cmb", "withdraw"), PAID),
    _at("cmb", "withdrawal_refused_at_the_bank", _pushed("cmb", "withdraw", TOO_MUCH), ""),
    _at("cmb", "withdrawal_begun_at_the_bank_and_rejected",
        _refused_later("cmb"), REJECTED, like="cmb_withdrawal_begun_at_the_bank"),
    # Where CMBC's code differs: the re-pull over the socket, ms_list, the payee's name in English letters.
    _at("cmbc", "deposit_pushed", _pushed("cmbc", "deposit"), DEPOSITED),
    _at("cmbc", "deposit", _asked("cmbc", "deposit"), DEPOSITED),
    _at("cmbc", "withdrawal", _asked("cmbc", "withdraw"), PAID, like="cmb_withdrawal"),
    _at("cmbc", "withdrawal_begun_at_the_bank", _pushed("cmbc", "withdraw"), PAID),
    _at("cmbc", "withdrawal_refused_at_the_bank", _pushed("cmbc", "withdraw", TOO_MUCH), ""),
)



def _announced(bank: str) -> Begin:
    """An application, and the transfer it announces, at a bank that tells of it in its statements."""

    async def begin(rig: Rig) -> None:
        alice = rig.customer("alice")
        await rig.core.deposits_at[bank].submit(
            alice.uid, alice.trade_acc_ids[0], int(Market.HK), rig.world.card_id(alice, bank),
            alice.cards[bank].number, "HKD", 1_000_000)
        assert rig.world.banks[bank].pay(alice, "HKD", 1_000_000) is not None

    return begin


def _statement(bank: str, lasts_s: float = 600, start: str = "2026-03-12 10:01") -> CrashStory:
    return CrashStory(f"{bank}_statement", _announced(bank), lasts_s, DEPOSITED, start, statement=bank)


# One for each way in which statements come: pushed files, rows converted at hours, two lines, a mailbox, calls.
STATEMENT_STORIES = (_statement("hsbc"), _statement("icbc"), _statement("dbs", 3 * 3600), _statement("scb"),
                     _statement("bochk", 24 * 3600, "2026-03-11 20:00"))

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
    *SOCKET_STORIES, *STATEMENT_STORIES,
)}


class Told(NamedTuple):
    """A story told once."""

    end: End
    commits: int
    kills: int
    instructed: int  # commits until the bank was first instructed
    moved: tuple[int, ...]  # commits that moved an application, an entry, a Procedure or money


def tell(story: CrashStory, kills_after: tuple[int, ...] = (), restart_ms: int = 40_000) -> Told:
    """Tell a story; the core dies right after each of these commits, counted over all its lives."""
    commits = instructed = 0
    moved: dict[int, None] = {}

    async def told(rig: Rig) -> Told:
        def on_event(event: Event) -> None:
            nonlocal instructed
            if event[2] == "bank.request" and event[4]["message"] in INSTRUCTIONS:
                instructed = instructed or commits
            if event[2] in MOVES:
                moved[commits] = None

        def after_commit(_database: str, _number: int) -> None:
            nonlocal commits
            commits += 1
            if commits in kills_after:
                rig.world.kill(restart_ms)

        await story.stand(rig)
        rig.world.watch_commits(after_commit)
        rig.world.trace.subscribe(on_event)
        await story.begin(rig)
        await asyncio.sleep(story.lasts_s + len(kills_after) * (restart_ms / 1000 + 60))
        rig.world.watch_commits(None)
        return Told(await end_of(rig), commits, rig.world.kills, instructed, tuple(moved))

    return story.play(told)  # type: ignore[no-any-return]


@cache
def undisturbed(name: str) -> Told:
    """A story with nothing in its way."""
    return tell(STORIES[name])


def same(end: End, as_without: End, but: Container[str] = ()) -> None:
    """Two ends are equal, ``but`` for what may differ."""
    for what, found, wanted in zip(End._fields, end, as_without, strict=True):
        assert what in but or found == wanted, what


async def end_of(rig: Rig) -> End:
    """Read the end from the databases, the bank's book and the event stream."""
    world, databases = rig.world, rig.world.databases
    shards = [row for key in sorted({f"{customer.uid % 100:02d}" for customer in world.customers})
              for row in await databases.primary.all(_applies(key), {})]
    procedures = await databases.procedure.all(PROCEDURES, {})
    statements = [row for bank in world.receivers for statement in _statements(bank)
                  for row in await databases.primary.all(statement, {})]
    transfers = list(await databases.primary.all(TRANSFERS, {}))
    wishes = [(bank, *row) for bank, of_bank in WISHES.items() for row in await databases.primary.all(of_bank, {})]
    return End(
        {f"{customer.id} {ccy}": await _money(rig, customer.id, ccy)
         for customer in world.customers for ccy in ("HKD", "USD")},
        {f"{bank} {customer.id} {ccy}": at.balance(customer, ccy) for bank, at in world.banks.items()
         for customer in world.customers if bank in customer.cards for ccy in ("HKD", "USD")},
        [(one["op"], one["ccy"], one["amount"]) for one in rig.of_kind("bank.book")],
        procedures,
        [await rig.way(number) for number in range(1, len(procedures) + 1)],
        [(ApplyStatus(status).name, reason) for status, reason in shards],
        [(TaskStatus(status).name, step, remark)
         for status, step, remark in await databases.primary.all(TASKS, {})],
        list(await databases.primary.all(ASSOCIATIONS, {})),
        Counter(await databases.primary.all(STEPS, {})),
        list(await databases.primary.all(REFUNDS, {})),
        list(await databases.primary.all(PUSHES, {})),
        transfers,
        wishes,
        statements,
        {ref: world.banks[bank].inquire(ref).status for bank, ref, *_ in (*transfers, *wishes)},
        Counter((one["uid"], one["event"]) for one in rig.of_kind("notify")),
        Counter(one["rule"] for one in rig.of_kind("alert", phase="raised") if _told_as_it_should(one["rule"])),
        [*await databases.procedure.all(PENDING_EFFECTS, {}), *await databases.primary.all(OPEN_JOBS, {})])


def _told_as_it_should(rule: str) -> bool:
    """All alerts but DEP-04: a core that dies in a matching round leaves its lock for nine minutes, and meanwhile no
    round ends."""
    return rule != "DEP-04"


async def _money(rig: Rig, who: str, ccy: str) -> tuple[int, int, int]:
    money = await rig.money(who, ccy)
    return money.available, money.frozen, money.in_transit


@cache
def _statements(bank: str) -> tuple[Statement, ...]:
    """What is kept of entries, and to whom each was given."""
    flows = statement_flows[f"{bank}_202603"].c
    return (Statement(select(flows.status, flows.is_used, flows.amount, flows.en_name).order_by(flows.id)),
            Statement(select(flow_claim.c.flow_id, flow_claim.c.apply_id).order_by(flow_claim.c.flow_id)))


_APPLIES: dict[str, Statement] = {}


def _applies(shard: str) -> Statement:
    if shard not in _APPLIES:
        table = applys[shard]
        _APPLIES[shard] = Statement(select(table.c.status, table.c.reject_reason).order_by(table.c.id))
    return _APPLIES[shard]
