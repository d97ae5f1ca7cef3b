"""``wire: messages`` saves the bytes and nothing else: the same transitions, books and moments as ``wire: full``.

The latencies of the line are drawn alike in both (one number per message from the stream ``airstar.line``), so even
the trace hash is the same.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from test_faults import SCENARIO, movements

from scenarios.names import names
from scenarios.reading import load_text
from scenarios.runner import Run

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
    run = Run(load_text(SCENARIO.format(seed=5, wire=wire, movements=movements(20, 50), faults=FAULTS), known), known)
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
