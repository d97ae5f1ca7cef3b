"""The last look of a run: our databases against themselves, and our books against the bank's.

Every movement in the bank's book has a state of ours that explains it, and every credit and payment of ours a
movement. What is under way, waits for a person, or was refunded and waits for its reversal, explains a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from core.storage import Statement
from core.storage.procedure import flow, proc_info

if TYPE_CHECKING:
    from scenarios.world import World

Finding = tuple[str, str, str]
"""(invariant, detail, subject)."""

FLOWS = Statement(select(flow.c.procedure_id, func.count(flow.c.id)).group_by(flow.c.procedure_id)
                  .order_by(flow.c.procedure_id))
VERSIONS = Statement(select(proc_info.c.id, proc_info.c.version, proc_info.c.biz_type, proc_info.c.status,
                            proc_info.c.hold_id).order_by(proc_info.c.id))

# Statuses of an Apply under which the bank may have collected although we have not credited.
_COLLECTED_NOT_CREDITED = ("INIT", "CREDITING", "REJECTED")


async def reconcile(world: World) -> list[Finding]:
    """Everything that does not fit; empty when all is well."""
    return [*await _databases(world), *_deposits(world), *_withdrawals(world)]


async def _databases(world: World) -> list[Finding]:
    """Ledger against its entries, versions against Flow records, ends against holds: read from the databases."""
    found: list[Finding] = [("conservation", f"{one.check}: {one.detail}", "run")
                            for one in await world.core.risk_control.verify()]
    flows = dict(await world.databases.procedure.all(FLOWS, {}))
    for procedure_id, version, biz, status, hold_id in await world.databases.procedure.all(VERSIONS, {}):
        if flows.get(procedure_id, 0) != version:
            found.append(("version_is_flows", f"P{procedure_id} has version {version} and "
                          f"{flows.get(procedure_id, 0)} Flow records in the database", f"P{procedure_id}"))
        if biz == "cash_withdraw" and status.startswith("end_"):
            hold = await world.core.risk_control.hold(hold_id)
            if hold is not None and hold.is_open:
                found.append(("no_terminal_hold", f"P{procedure_id} is {status}, hold {hold_id} is open",
                              f"P{procedure_id}"))
    return found


def _deposits(world: World) -> Iterator[Finding]:
    for apply_id, status, ref, procedure in world.facts.applied("airstar"):
        done = world.facts.effects(ref)
        kept = "collect" in done and "refund_collect" not in done
        subject = f"P{procedure}" if procedure is not None else "run"
        if status == "DONE" and "collect" not in done:
            yield "books_agree", f"A{apply_id} is credited; the bank collected nothing under {ref}", subject
        if kept and status not in (*_COLLECTED_NOT_CREDITED, "DONE"):
            yield "books_agree", f"the bank keeps {ref}; A{apply_id} is {status}", subject


def _withdrawals(world: World) -> Iterator[Finding]:
    for procedure, state, refs in world.facts.instructed():
        paid = [ref for ref in refs if "pay" in world.facts.effects(ref)]
        subject = f"P{procedure}"
        if len(paid) > 1:
            yield "one_bank_effect", f"{subject} was paid under {' and '.join(paid)}", subject
        if state == "end_ok(transfer_done)" and not paid:
            yield "books_agree", f"{subject} is {state}; the bank paid nothing under {', '.join(refs)}", subject
        if state in ("end_reject", "end_cancel") and paid and not world.facts.contradicted(subject):
            yield "books_agree", f"{subject} is {state}; the bank paid under {paid[0]}", subject
