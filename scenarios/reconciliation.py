"""The last look of a run: our databases against themselves, and our books against the bank's.

Every movement in the bank's book has a state of ours that explains it, and every credit and payment of ours a
movement. What is under way, waits for a person, or was refunded and waits for its reversal, explains a difference.
The total of every account is what its Procedures made it (FRZ-06).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import func, select

from core.clock import MS_PER_DAY
from core.domain import JobState
from core.storage import Statement
from core.storage.assets import balance
from core.storage.primary import bst_push, bst_transfer, queue
from core.storage.procedure import flow, outbox, proc_cash_deposit, proc_cash_withdraw, proc_info

if TYPE_CHECKING:
    from scenarios.world import World

Finding = tuple[str, str, str]
"""(invariant, detail, subject)."""

FLOWS = Statement(select(flow.c.procedure_id, func.count(flow.c.id)).group_by(flow.c.procedure_id)
                  .order_by(flow.c.procedure_id))
VERSIONS = Statement(select(proc_info.c.id, proc_info.c.version, proc_info.c.biz_type, proc_info.c.status,
                            proc_info.c.hold_id).order_by(proc_info.c.id))

TOTALS = Statement(select(balance.c.trade_acc_id, balance.c.ccy,
                          balance.c.available + balance.c.frozen + balance.c.in_transit)
                   .order_by(balance.c.trade_acc_id, balance.c.ccy))
DEPOSITS = Statement(select(proc_info.c.id, proc_info.c.trade_acc_id, proc_info.c.status, proc_cash_deposit.c.ccy,
                            proc_cash_deposit.c.amount)
                     .where(proc_cash_deposit.c.procedure_id == proc_info.c.id).order_by(proc_info.c.id))
WITHDRAWALS = Statement(select(proc_info.c.id, proc_info.c.trade_acc_id, proc_info.c.status, proc_cash_withdraw.c.ccy,
                               proc_cash_withdraw.c.amount)
                        .where(proc_cash_withdraw.c.procedure_id == proc_info.c.id).order_by(proc_info.c.id))
UNDER_WAY = Statement(select(outbox.c.procedure_id).where(outbox.c.state == 0).group_by(outbox.c.procedure_id)
                      .order_by(outbox.c.procedure_id))
SENDERS = Statement(select(queue.c.payload).where(
    queue.c.event.in_(("AsbBstTransfer", "AsbBstCreateFromBankJob")), queue.c.state != int(JobState.DONE))
    .order_by(queue.c.id))
TRANSFERS = Statement(select(bst_transfer.c.transfer_ref).order_by(bst_transfer.c.bank, bst_transfer.c.transfer_ref))
PUSHED_DEPOSITS = Statement(select(bst_push.c.transfer_ref).where(bst_push.c.kind == "DEPOSIT")
                            .order_by(bst_push.c.bank, bst_push.c.push_seq))

Money3 = tuple[str, str, int]
"""(our account, currency, minor units)."""
TRANSFERRED = {"receive", "charge", "refund_receive"}
"""Operations of a bank's book on our accounts there that nobody but the customer or the bank began."""

# Statuses of an Apply under which the bank may have collected although we have not credited.
_COLLECTED_NOT_CREDITED = ("INIT", "CREDITING", "REJECTED")


async def reconcile(world: World) -> list[Finding]:
    """Everything that does not fit; empty when all is well."""
    return [*await _databases(world), *await _totals(world), *_deposits(world), *_withdrawals(world),
            *await _strangers(world), *_statements(world), *_matches(world)]


async def _totals(world: World) -> list[Finding]:
    """Each account's total against what Procedures (and other hands, such as trades) did to it."""
    databases = world.databases
    under_way = dict.fromkeys(row[0] for row in await databases.procedure.all(UNDER_WAY, {}))
    wanted, slack = Counter(world.facts.foreign()), Counter[tuple[int, str]]()
    for statement, sign in ((DEPOSITS, 1), (WITHDRAWALS, -1)):
        for procedure_id, account, status, ccy, amount in await databases.procedure.all(statement, {}):
            if procedure_id in under_way:
                slack[account, ccy] += amount
            if status == "end_ok":
                wanted[account, ccy] += sign * amount
    found: list[Finding] = []
    for account, ccy, total in await databases.assets.all(TOTALS, {}):
        if abs(total - wanted[account, ccy]) > slack[account, ccy]:
            found.append(("explained_totals", f"account {account} has {total} {ccy}, its Procedures make "
                          f"{wanted[account, ccy]}", "run"))
    return found


async def _strangers(world: World) -> list[Finding]:
    """Movements at the banks under references that our books do not know. A reference is known from its Apply, or from
    the Procedure that gave the instruction; while its job is not done, from the job. Of a socket bank we also know what
    we have noted as a transfer, and the deposits that it told us of, credited or not; what it could not tell us yet is
    under way. What customers transferred by themselves is compared by `_statements`."""
    facts, primary = world.facts, world.databases.primary
    known = dict.fromkeys(ref for bank in world.banks for _, _, ref, _, _ in facts.applied(bank))
    known |= dict.fromkeys(ref for _, _, refs, _ in facts.instructed() for ref in refs)
    known |= dict.fromkeys(orjson.loads(row[0])["ref"] for row in await primary.all(SENDERS, {}))
    for table in (TRANSFERS, PUSHED_DEPOSITS):
        known |= dict.fromkeys(row[0] for row in await primary.all(table, {}))
    known |= dict.fromkeys(ref for bank in world.banks.values() for ref in bank.untold())
    known |= dict.fromkeys(ref for ref in facts.references() if set(facts.effects(ref)) <= TRANSFERRED)
    return [("one_bank_effect", f"the bank did {' and '.join(facts.effects(ref))} under {ref}, which our books do not "
             "know", "run") for ref in facts.references() if ref not in known]


async def _databases(world: World) -> list[Finding]:
    """Ledger against its entries, versions against Flow records, ends against holds: read from the databases."""
    found: list[Finding] = [("conservation", f"{one.check}: {one.detail}", "run")
                            for one in await world.core.risk_control.verify()]
    flows = {row[0]: row[1] for row in await world.databases.procedure.all(FLOWS, {})}
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
    applied = (one for bank in (*world.bst, *world.debiting) for one in world.facts.applied(bank))
    for apply_id, status, ref, procedure, money in applied:
        done = world.facts.effects(ref)
        kept = "collect" in done and "refund_collect" not in done
        subject = f"P{procedure}" if procedure is not None else "run"
        if status == "DONE" and "collect" not in done:
            yield "books_agree", f"A{apply_id} is credited; the bank collected nothing under {ref}", subject
        elif status == "DONE" and (collected := world.facts.moved(ref, "collect")) != money:
            yield "books_agree", f"A{apply_id} is credited with {money}; the bank collected {collected}", subject
        given_up = status == "REJECTED" and procedure is None
        if kept and (given_up or status not in (*_COLLECTED_NOT_CREDITED, "DONE")):
            yield "books_agree", f"the bank keeps {ref}; A{apply_id} is {status}", subject


def _statements(world: World) -> Iterator[Finding]:
    """Our entries against the bank's own lines, by account, currency and amount: none of ours that the bank never had,
    none twice, and none of the bank's that has not reached us after a day."""
    late_ms = world.clock.now_ms() - MS_PER_DAY
    for bank, receiver in world.receivers.items():
        kept = Counter(world.facts.entries(bank))
        booked, old = Counter[Money3](), Counter[Money3]()
        for line in receiver.bank.ever():
            if line.credit:
                booked[line.our_account, line.ccy, line.amount] += 1
                old[line.our_account, line.ccy, line.amount] += line.booked_ms < late_ms
        for what in (kept - booked) or ():
            yield "books_agree", f"{bank}: {kept[what]} entries of {what}, the bank booked {booked[what]}", "run"
        for what in (old - kept) or ():
            yield "books_agree", f"{bank}: the bank booked {old[what]} of {what} a day ago, we have {kept[what]}", "run"


def _matches(world: World) -> Iterator[Finding]:
    """A standard deposit is credited by exactly one entry, with its amount, and no entry credits two."""
    facts = world.facts
    used: dict[int, int] = {}
    for bank in world.receivers:
        for apply_id, status, _, procedure, _ in facts.applied(bank):
            if status != "DONE" or procedure is None:
                continue
            found = facts.matched(apply_id)
            if found is None:
                yield "books_agree", f"A{apply_id} is credited, and no entry belongs to it", f"P{procedure}"
                continue
            flow, money = found
            if flow in used:
                yield "books_agree", f"entry F{flow} credits both A{used[flow]} and A{apply_id}", f"P{procedure}"
            used[flow] = apply_id
            if money != facts.money("cash_deposit", procedure):
                yield "books_agree", f"A{apply_id} is credited with another amount than F{flow} shows", f"P{procedure}"


def _withdrawals(world: World) -> Iterator[Finding]:
    for procedure, state, refs, money in world.facts.instructed():
        paid = [ref for ref in refs if "pay" in world.facts.effects(ref)]
        subject = f"P{procedure}"
        if len(paid) > 1:
            yield "one_bank_effect", f"{subject} was paid under {' and '.join(paid)}", subject
        if state == "end_ok(transfer_done)" and not paid:
            yield "books_agree", f"{subject} is {state}; the bank paid nothing under {', '.join(refs)}", subject
        for ref in paid:
            if (sent := world.facts.moved(ref, "pay")) != money:
                yield "books_agree", f"{subject} is of {money}; the bank paid {sent} under {ref}", subject
        if state in ("end_reject", "end_cancel") and paid and not world.facts.contradicted(subject):
            yield "books_agree", f"{subject} is {state}; the bank paid under {paid[0]}", subject
