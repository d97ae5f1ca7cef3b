"""``wire: messages`` saves the bytes and nothing else: the same transitions and books as ``wire: full``.

At Airstar the latencies of the line are drawn alike in both (one number per message from the stream ``airstar.line``),
so even every moment and the trace hash are the same.

At CMB and CMBC they are not: bytes have a handshake of their own, and segments where messages are whole, so that the
moments differ by fractions of a second. *The same* is there, for each deposit and withdrawal (told by customer, bank
and amount): the rows of the table by which it went, in order, and its reason; each movement in the banks' books; what
the customers were told; the alerts; the statuses of Applies and Tasks; each push with what became of it; all balances.
Requests lie far enough apart that nothing depends on who was first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select
from test_faults import SCENARIO, movements

from core.storage import Statement
from core.storage.primary import bst_push
from core.trace import Event
from scenarios.names import names
from scenarios.reading import load_text
from scenarios.runner import Run
from scenarios.world import World

FAULTS = "\n".join([
    '  - {at: "11:31", for: 20m, inject: airstar.timeout, share: 0.15, with: {processed: true}}',
    '  - {at: "11:31", for: 20m, inject: airstar.timeout, share: 0.15, with: {processed: false}}',
    '  - {at: "11:31", for: 20m, inject: airstar.error_5xx_after_commit, share: 0.15}',
    '  - {at: "11:31", for: 20m, inject: airstar.fail_with, share: 0.2, with: {code: 140630016}}',
    '  - {at: "11:31", for: 20m, inject: airstar.fail_with, share: 0.2, with: {code: 140630014, at: result}}',
    '  - {at: "11:31", for: 20m, inject: airstar.stuck_pending, share: 0.2, with: {until_s: 400}}',
    '  - {at: "11:31", for: 20m, inject: airstar.slow, share: 0.2, with: {delay_s: 4}}',
    '  - {at: "11:40", for: 1m, inject: airstar.clock_skew, with: {skew_s: 900}}',
    '  - {at: "11:45", for: 1m, inject: airstar.outage}',
    '  - {at: "11:31", inject: core.kill, times: 1, with: {at: "send:AsbBstTransfer", restart_after: 5s}}'])


@cache
def told(wire: str) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """(summary, (subject, row, from, to) of every transition) of twenty deposits and twenty withdrawals."""
    known = names()
    steps: list[tuple[Any, ...]] = []
    run = Run(load_text(SCENARIO.format(
        seed=5, wire=wire, movements=movements(20, 50), faults=FAULTS, cards="[airstar]"), known), known)
    run.trace.subscribe(lambda event: steps.append(
        (event[3], event[4]["row"], event[4]["from"], event[4]["to"])) if event[2] == "procedure" else None)
    return run.execute().summary, steps


@pytest.mark.parametrize("wire", ["full", "messages"])
def test_the_story_is_worth_comparing(wire: str) -> None:
    summary, steps = told(wire)
    assert not summary["invariants"]["violations"]
    assert len({row for _, row, _, _ in steps}) >= 9
    assert sum(summary["procedures"]["withdraw"].values()) == 20
    assert set(summary["procedures"]["withdraw"]) >= {"end_ok(transfer_done)", "end_reject"}


def test_transitions_and_books_are_the_same_in_both() -> None:
    (full, full_steps), (messages, message_steps) = told("full"), told("messages")
    assert full_steps == message_steps
    for key in ("procedures", "ledger", "latency", "open"):
        assert full[key] == messages[key], key


def test_even_every_moment_is_the_same() -> None:
    assert told("full")[0]["trace_hash"] == told("messages")[0]["trace_hash"]


# At the socket banks

AT_SOCKETS = """
name: sockets
title: Half an hour at CMB and CMBC, with every kind of trouble once
start: 2026-03-12 11:30
end: 2026-03-12 12:40
seed: 3
wire: {wire}
settings:
  sim.cmb.outcome: [[0, 1.0]]
  sim.cmb.unknown.share: 0.0
  sim.cmbc.outcome: [[0, 1.0]]
  sim.cmbc.unknown.share: 0.0
customers:
  - {{id: alice, balances: {{HKD: "500,000"}}, at_bank: {{HKD: "500,000"}}, cards: [cmb, cmbc]}}
  - {{id: bob, balances: {{HKD: "500,000"}}, at_bank: {{HKD: "500,000"}}, cards: [cmb, cmbc]}}
  - {{id: carol, balances: {{HKD: "1,000"}}, at_bank: {{HKD: "500,000"}}, cards: [cmb, cmbc]}}
workload:
  - recorded:
{movements}
faults:
  - {{at: "11:31", inject: cmb.answer_minus5, times: 1, only: {{customer: bob, kind: withdrawal}},
      with: {{late_s: 30}}}}
  - {{at: "11:31", inject: cmbc.answer_minus5, times: 1, only: {{customer: bob, kind: withdrawal}},
      with: {{processed: false}}}}
  - {{at: "11:31", inject: cmb.timeout, times: 1, only: {{customer: alice, kind: deposit}}, with: {{processed: true}}}}
  - {{at: "11:31", inject: cmbc.timeout, times: 1, only: {{customer: alice, kind: deposit}},
      with: {{processed: false}}}}
  - {{at: "11:31", inject: cmb.reject, times: 1, only: {{customer: alice, kind: withdrawal}}}}
  - {{at: "11:31", inject: cmbc.reject, times: 1, only: {{customer: alice, kind: withdrawal}}, with: {{at: answer}}}}
  - {{at: "11:36", inject: cmb.lost_push, times: 1, with: {{message: deposit_push}}}}
  - {{at: "11:36", inject: cmbc.duplicate_push, times: 1, with: {{message: deposit_push, fresh: true}}}}
  - {{at: "11:40", for: 2m, inject: cmb.drop, with: {{server: both}}}}
  - {{at: "11:44", inject: cmbc.half_open, with: {{server: primary}}}}
  - {{at: "11:48", inject: cmb.sequence_gap, times: 1, with: {{message: result}}}}
  - {{at: "11:48", inject: cmbc.bad_signature, times: 1, with: {{message: result}}}}
  - {{at: "11:52", inject: core.kill, times: 1, with: {{at: "push:CmbResult", restart_after: 5s}}}}
  - {{at: "11:54", inject: core.kill, times: 1, with: {{at: "ack:MsCredit", restart_after: 45s}}}}
expect:
  - {{that: deposits, state: open, equals: 0}}
  - {{that: withdrawals, state: open, equals: 0}}
"""
EVERY_S = 15
PUSHES = Statement(select(bst_push.c.bank, bst_push.c.dedup, bst_push.c.state, bst_push.c.reason)
                   .order_by(bst_push.c.bank, bst_push.c.push_seq))


def at_sockets(count: int = 104) -> str:
    """One request every fifteen seconds from 11:32 on, of each customer at each bank, of each kind and begun at each
    end in turn, each with an amount of its own. What carol withdraws she does not have: it is refused."""
    lines = []
    for number in range(count):
        minute, second = divmod(2 * 60 + number * EVERY_S, 60)
        bank, kind = ("cmb", "cmbc")[number % 2], ("deposit", "withdraw")[number // 2 % 2]
        who, by = ("alice", "bob", "carol")[number // 4 % 3], ("app", "bank")[number // 12 % 2]
        amount = 2_000 + number + (100_000 if (who, kind) == ("carol", "withdraw") else 0)
        lines.append(f'      - {{at: "11:{30 + minute}:{second:02d}", {kind}: {{customer: {who}, channel: {bank}, '
                     f'market: HK, ccy: HKD, amount: "{amount}", by: {by}}}}}')
    return "\n".join(lines)


class Alike(NamedTuple):
    """What must be the same. ``ways``: (uid, channel, amount) -> (row, reason) of every transition, in order."""

    ways: dict[tuple[int, str, int], list[tuple[str, str]]]
    moved: Counter[tuple[str, str, int, str]]
    wishes: Counter[tuple[str, int, int, str, str]]
    told: Counter[tuple[int, str]]
    alerts: Counter[str]
    pushes: list[tuple[Any, ...]]
    balances: dict[tuple[int, str], Any]
    ledger: dict[str, dict[str, int]]


@cache
def alike(wire: str) -> tuple[dict[str, Any], Alike, list[Event]]:
    """(summary, what must be the same, all events)."""
    known = names()
    events: list[Event] = []
    pushes: list[tuple[Any, ...]] = []

    async def read_at_the_end(world: World) -> None:
        await asyncio.sleep(70 * 60 - 1)
        pushes.extend(await world.databases.primary.all(PUSHES, {}))

    run = Run(load_text(AT_SOCKETS.format(wire=wire, movements=at_sockets()), known), known,
              tamper=lambda world: world._keep(read_at_the_end(world)))
    run.trace.subscribe(events.append)
    summary = run.execute().summary
    ways: dict[tuple[int, str, int], list[tuple[str, str]]] = {}
    wishes: dict[tuple[str, int], tuple[int, int, str, str]] = {}
    for _, _, kind, _, data in events:
        if kind == "procedure":
            ways.setdefault((data["uid"], data["channel"], data["amount"]), []).append((data["row"], data["reason"]))
        elif kind in ("apply", "task"):
            wishes[kind, data[kind]] = (data["uid"], data["amount"], data["status"], data["reason"])
    of_kind = {name: [data for _, _, kind, _, data in events if kind == name] for name in (
        "bank.book", "notify", "alert")}
    return summary, Alike(
        ways, Counter((one["bank"], one["op"], one["amount"], one["ccy"]) for one in of_kind["bank.book"]),
        Counter((kind, *wish) for (kind, _), wish in wishes.items()),
        Counter((one["uid"], one["event"]) for one in of_kind["notify"]),
        Counter(one["rule"] for one in of_kind["alert"] if one["phase"] == "raised"),
        pushes, run._balances, summary["ledger"]), events


@pytest.mark.req("SOCK-01")
@pytest.mark.parametrize("wire", ["full", "messages"])
def test_the_story_of_the_sockets_is_worth_comparing(wire: str) -> None:
    summary, same, events = alike(wire)
    assert summary["invariants"]["violations"] == []
    assert summary["open"] == 0
    assert summary["procedures"] == {
        "deposit": {"end_ok(deposit_ok)": 52}, "withdraw": {"end_ok(transfer_done)": 34, "end_reject": 2}}
    assert {push[2] for push in same.pushes} == {"DONE", "DUPLICATE", "REFUSED"}
    assert set(same.alerts) >= {"SOCK-01", "SOCK-04", "AIRSTAR-11"}
    of_kind = Counter((kind, data.get("bank"), data.get("phase"), data.get("attempt")) for *_, kind, _, data in events)
    assert of_kind["core", None, "killed", None] == 2
    for bank in ("cmb", "cmbc"):
        assert any(kind == "recovery" and data["bank"] == bank and data["injected"] for *_, kind, _, data in events)
        assert of_kind["bank.line", bank, "lost", None]
        assert of_kind["bank.request", bank, None, 2]


@pytest.mark.parametrize("field", Alike._fields)
def test_over_bytes_and_over_messages_the_sockets_come_to_the_same(field: str) -> None:
    assert getattr(alike("full")[1], field) == getattr(alike("messages")[1], field)
