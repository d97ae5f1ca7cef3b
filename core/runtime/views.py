"""Screens that need more than one room: the review of a withdrawal, and an Airstar transaction that does not move.

Questions only: nothing here changes anything. Amounts are minor units, moments epoch milliseconds.
"""

from __future__ import annotations

from typing import Any

from core.cards.mandates import Mandate
from core.deposits.airstar import CREATE, RESULT, RETRY
from core.domain import MandateStatus
from core.jobs.queue import JobRecord
from core.runtime.core import Core
from core.withdrawals.airstar import TRANSFER

# The periodic pull of each direction, and the setting with its period.
PULLS = {"deposit": ("FetchBankRequest", "jobs.fetch_bank_request.period_s"),
         "withdrawal": ("SyncAsbBstWithdraw", "airstar.sync.pull_s")}


async def withdrawal_review(core: Core, procedure_id: int) -> dict[str, Any] | None:
    """What a reviewer of a withdrawal sees: the amount against the balance, whose card it is, and the rules that hit
    (SBA-WD-055). ``available`` is what the customer could still spend; ``held`` what this withdrawal has reserved."""
    shown, p = await core.sba.review_screen(procedure_id), await core.sba.procedure(procedure_id)
    if shown is None or p is None or p["biz_type"] != "cash_withdraw":
        return None
    money = await core.risk_control.balances(p["trade_acc_id"], p["ccy"])
    hold = await core.risk_control.hold(p["hold_id"])
    owned = await core.accounts.owns_card(p["nn_uid"], shown["bank"], shown["card"])
    return shown | {"available": money.available, "held": hold.amount if hold and hold.is_open else 0,
                    "card_of_customer": owned}


async def stuck_deposit(core: Core, apply_id: int) -> dict[str, Any] | None:
    """An Airstar deposit that does not move, in the order in which operations look (orchestration.md §5.4, TMO-05):
    mandate, retries, the bank's code, the health of the pull. None without such an application."""
    apply = await core.applications.find(apply_id)
    if apply is None:
        return None
    key = f"A{apply.id}:{apply.bank_ref_id}"
    places = ((RESULT, key), (RETRY, key), (CREATE, f"A{apply.id}"))
    job = next((job for job in [await core.jobs.find(*place) for place in places] if job is not None), None)
    return _stuck(core, await core.mandates.of_card(apply.card_id), job, apply.fail_code, "deposit")


async def stuck_withdrawal(core: Core, task_id: int) -> dict[str, Any] | None:
    """The same for an Airstar withdrawal. None without such a Task."""
    task, procedure_id = await core.withdrawals.find(task_id), await core.withdrawals.procedure_of(task_id)
    if task is None:
        return None
    p = await core.sba.procedure(procedure_id) if procedure_id is not None else None
    job = await core.jobs.find(TRANSFER, f"P{p['id']}:{p['attempt_no']}") if p else None
    return _stuck(core, await core.mandates.of_card(task.card_id), job, p["bank_code"] if p else "", "withdrawal")


def _stuck(core: Core, mandate: Mandate | None, job: JobRecord | None, code: str, direction: str) -> dict[str, Any]:
    return {
        "mandate": MandateStatus(mandate.status).name if mandate else "none",
        "retries": {"job": job.event, "state": job.state.name, "count": job.retry_count, "max": job.max_retry}
        if job else None,
        "bank_code": code or (job.last_error if job else ""),
        "pull": _pull(core, *PULLS[direction])}


def _pull(core: Core, name: str, period: str) -> dict[str, Any]:
    """Healthy: not paused, and finished within the last three periods or not yet due that long."""
    job = next(one for one in core.timetable.status() if one.name == name)
    now, patience = core.given.clock.now_ms(), 3 * round(core.given.settings[period] * 1000)
    late = job.next_ms is not None and now > job.next_ms
    silent = job.last_finished_ms is not None and now - job.last_finished_ms > patience
    hanging = job.running_since_ms is not None and now - job.running_since_ms > patience
    return {"job": name, "healthy": not (job.paused or late or silent or hanging), "paused": job.paused,
            "last_finished": job.last_finished_ms, "failed": job.failed, "last_error": job.last_error}
