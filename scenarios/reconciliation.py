"""The last look of a run: our databases against themselves, and our books against the bank's.

Every movement in the bank's book has a state of ours that explains it, and every credit and payment of ours a
movement. What is under way, waits for a person, or was refunded and waits for its reversal, explains a difference.
The total of every account is what its Procedures made it (FRZ-06).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import func, select

from core.clock import MS_PER_DAY
from core.deposits.abnormal_list import OPENED
from core.deposits.statements import CREDITED, MATCHED, VOID, Flow
from core.domain import JobState
from core.storage import Statement
from core.storage.assets import balance
from core.storage.primary import abnormal_deposits, bst_push, bst_transfer, queue
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
GIVEN_TO_PEOPLE = Statement(select(
    abnormal_deposits.c.bank_type, abnormal_deposits.c.flow_id, abnormal_deposits.c.reason)
    .where(abnormal_deposits.c.status == OPENED).order_by(abnormal_deposits.c.id))

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
    facts = world.facts
    known = dict.fromkeys(ref for bank in world.banks for _, _, ref, _, _ in facts.applied(bank))
    known |= dict.fromkeys(ref for _, _, refs, _ in facts.instructed() for ref in refs)
    known |= await _under_way(world)
    for table in (TRANSFERS, PUSHED_DEPOSITS):
        known |= dict.fromkeys(row[0] for row in await world.databases.primary.all(table, {}))
    known |= dict.fromkeys(ref for ref in facts.references() if set(facts.effects(ref)) <= TRANSFERRED)
    return [("one_bank_effect", f"the bank did {' and '.join(facts.effects(ref))} under {ref}, which our books do not "
             "know", "run") for ref in facts.references() if ref not in known]


async def _under_way(world: World) -> dict[str, None]:
    """References whose job is not done, or of which the bank could not tell us yet."""
    jobs = await world.databases.primary.all(SENDERS, {})
    return dict.fromkeys(orjson.loads(row[0])["ref"] for row in jobs) | dict.fromkeys(
        ref for bank in world.banks.values() for ref in bank.untold())


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


# What is left over, and the books side by side

Kept = Mapping[str, list[Flow]]
"""Bank -> credit entries of its statements."""
Part = tuple[str, str, str, int]
"""(column of the books, bank, currency, minor units)."""
NOT_CREDITED: Final = ("waiting", "reversed", "in_flight", "to_reverse")
"""Columns of what a bank has received for us and no customer has: it waits for its owner, or people; it was credited
and taken back; it is under way. ``to_reverse``, less than nothing: the bank has given back what is still credited."""


async def kept_entries(world: World) -> Kept:
    """What was kept of every bank's statements in the run; a bank's clock may be ahead."""
    since, until = world.scenario.start - MS_PER_DAY, world.clock.now_ms() + MS_PER_DAY
    return {bank: [entry for entry in await world.core.statements.between(bank, since, until) if entry.dr_cr == "C"]
            for bank in world.receivers}


async def leftovers(world: World, kept: Kept) -> list[dict[str, Any]]:
    """Entries that no customer has, by bank, currency and reason: ``{bank, ccy, reason, number, amount}``, minor units.
    ``reason`` is that of the open abnormal deposit, "" of an entry that is only unmatched."""
    people = {(row[0], row[1]): str(row[2]) for row in await world.databases.primary.all(GIVEN_TO_PEOPLE, {})}
    found: dict[tuple[str, str, str], list[int]] = {}
    for bank, flows in kept.items():
        for entry in flows:
            if entry.status not in (MATCHED, CREDITED, VOID):
                row = found.setdefault((bank, entry.ccy, people.get((bank, entry.id), "")), [0, 0])
                row[0], row[1] = row[0] + 1, row[1] + entry.amount
    return [{"bank": bank, "ccy": ccy, "reason": reason, "number": number, "amount": amount}
            for (bank, ccy, reason), (number, amount) in sorted(found.items())]


async def books(world: World, kept: Kept) -> list[dict[str, Any]]:
    """Each bank's book beside ours, by currency, in minor units: what the bank has ``received`` for us (less what it
    gave back) is ``credited`` or one of `NOT_CREDITED`; what it has ``paid`` is ``settled`` or still ``paying``. What
    is none of these is the ``difference``, or the ``paid_difference``: an error."""
    facts = world.facts
    rows: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for key, ops in facts.booked().items():
        rows[key]["received"] = ops["collect"] + ops["receive"] - ops["refund_collect"] - ops["refund_receive"]
        rows[key]["paid"] = ops["pay"] - ops["return_pay"]
    for (bank, ccy), amount in facts.credited().items():
        if bank in world.banks:
            rows[bank, ccy]["credited"] += amount
    parts = [*_applied_parts(world), *await _pushed_parts(world), *_entry_parts(world, kept),
             *_refunded_parts(world, kept), *_untold_parts(world, kept), *_paid_parts(world)]
    for column, bank, ccy, amount in parts:
        rows[bank, ccy][column] += amount
    return [{"bank": bank, "ccy": ccy, **{name: row[name] for name in ("received", "credited", *NOT_CREDITED)},
             "difference": row["received"] - row["credited"] - sum(row[name] for name in NOT_CREDITED),
             **{name: row[name] for name in ("paid", "settled", "paying")},
             "paid_difference": row["paid"] - row["settled"] - row["paying"]}
            for (bank, ccy), row in sorted(rows.items())]


def _not_credited(state: str) -> str:
    """The column of money that the bank keeps for a deposit Procedure in this state; "" if it is credited."""
    if state.startswith("end_ok"):
        return ""
    if state.startswith("end_reverse"):
        return "reversed"
    return "waiting" if state.startswith("end_") else "in_flight"


def _applied_parts(world: World) -> Iterator[Part]:
    """Bank-securities transfer and direct debit: by the reference of the application."""
    facts = world.facts
    for bank in (*world.bst, *world.debiting):
        for _, status, ref, procedure, _ in facts.applied(bank):
            collected, state = facts.moved(ref, "collect"), facts.state(procedure)
            if collected is None or (not state and status not in ("INIT", "CREDITING")):
                continue
            if "refund_collect" not in facts.effects(ref):
                if column := _not_credited(state):
                    yield column, bank, *collected
            elif state.startswith("end_ok"):
                yield "to_reverse", bank, collected[0], -collected[1]


async def _pushed_parts(world: World) -> list[Part]:
    """Deposits begun at the bank that have no application: not told yet, or told and nobody's."""
    facts, under_way = world.facts, await _under_way(world)
    applied = dict.fromkeys(ref for bank in world.banks for _, _, ref, _, _ in facts.applied(bank))
    pushed = dict.fromkeys(row[0] for row in await world.databases.primary.all(PUSHED_DEPOSITS, {}))
    found: list[Part] = []
    for ref in facts.references():
        collected = facts.moved(ref, "collect")
        if collected is None or ref in applied or "refund_collect" in facts.effects(ref):
            continue
        if ref in under_way or ref in pushed:
            found.append(("in_flight" if ref in under_way else "waiting", facts.booked_at(ref), *collected))
    return found


def _entry_parts(world: World, kept: Kept) -> Iterator[Part]:
    """Entries of statements, by their status; whose credit has ended well is counted by its Procedure."""
    for bank, flows in kept.items():
        for entry in flows:
            state = world.facts.owned(entry.id)
            if entry.status == MATCHED:
                column = "" if state.startswith("end_ok") else "in_flight"
            elif entry.status in (CREDITED, VOID):
                column = ""
            else:
                column = "reversed" if state.startswith("end_reverse") else "waiting"
            if column:
                yield column, bank, entry.ccy, entry.amount


def _refunded_parts(world: World, kept: Kept) -> Iterator[Part]:
    """The bank has given back what is still credited, or what stands in its statement as if it were there."""
    for bank, flows in kept.items():
        for entry in flows:
            if "refund_receive" in world.facts.effects(entry.bank_ref):
                if world.facts.owned(entry.id).startswith("end_ok"):
                    yield "to_reverse", bank, entry.ccy, -entry.amount
                elif entry.status != VOID:
                    yield "in_flight", bank, entry.ccy, -entry.amount


def _untold_parts(world: World, kept: Kept) -> Iterator[Part]:
    """Lines of less than a day of which no statement has told us yet."""
    late_ms, facts = world.clock.now_ms() - MS_PER_DAY, world.facts
    for bank, receiver in world.receivers.items():
        known = dict.fromkeys(entry.bank_ref for entry in kept[bank])
        booked, fresh = Counter[Money3](), Counter[Money3]()
        for line in receiver.bank.ever():
            if line.credit and (line.reference in known or "refund_receive" not in facts.effects(line.reference)):
                booked[line.our_account, line.ccy, line.amount] += 1
                fresh[line.our_account, line.ccy, line.amount] += line.booked_ms >= late_ms
        told = Counter((entry.our_account, entry.ccy, entry.amount) for entry in kept[bank])
        for what, number in ((booked - told) & fresh).items():
            yield "in_flight", bank, what[1], what[2] * number


def _paid_parts(world: World) -> Iterator[Part]:
    """Withdrawals for which a bank was instructed; one that it paid and took back again is to be reversed by us."""
    facts = world.facts
    for procedure, state, refs, (ccy, amount) in facts.instructed():
        paid, bank = [ref for ref in refs if "pay" in facts.effects(ref)], facts.withdrawn_at(procedure)
        if state.startswith("end_ok"):
            yield "settled", bank, ccy, amount
        returned = any("return_pay" in facts.effects(ref) for ref in paid)
        if returned and state.startswith("end_ok"):
            yield "paying", bank, ccy, -amount
        elif paid and not returned and not state.startswith("end_"):
            yield "paying", bank, ccy, amount
