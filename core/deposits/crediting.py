"""The last link of every deposit: an Apply whose money the bank has goes into SBA and is credited.

Asked again as documented (1/5/30 s, gaps.md B-15); what then still fails is Critical: the money is at the bank and not
with the customer. However often this runs, SBA creates one Procedure for an Apply, and one for a business id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from core.clock import Clock
from core.deposits.applications import Applications, Apply
from core.domain import DepositType
from core.errors import CallFailed, Code, OutcomeUnknown
from core.jobs import Again, Done, Exhausted, Job, Verdict
from core.orchestration.requests import DepositRequest
from core.orchestration.service import Sba
from core.rpc import Rpc
from core.screening import ListName, Lists
from core.settings import Settings
from core.storage import Database, Transaction


class Terms(NamedTuple):
    """What is credited besides the Apply's own words. ``amount``: minor units, None for the Apply's; ``trans_type``: 0
    for the Apply's; ``remitter`` and ``account``: who sent it as the bank says, for the blacklist; ``proposed_by``: the
    operator on whose word it is credited; ``alert``: the rule raised when the job gives up; ``created``: what else is
    written with the Procedure's id."""

    deposit_type: DepositType = DepositType.TRANS_AUTO
    amount: int | None = None
    trans_type: int = 0
    remitter: str = ""
    account: str = ""
    hold_type: int | None = None
    hold_apply_id: str | None = None
    proposed_by: str = ""
    alert: str = "DEP-05"
    created: Callable[[Transaction, int], Awaitable[None]] | None = None


TRANSFER = Terms()
"""A bank-securities transfer."""


class Crediting:
    """CashDepositCreate for an Apply, with both lists asked first."""

    def __init__(
        self, db: Database, clock: Clock, applications: Applications, sba: Sba, lists: Lists, rpc: Rpc,
        settings: Settings,
    ) -> None:
        self._db, self._clock, self._applications = db, clock, applications
        self._sba, self._lists, self._rpc = sba, lists, rpc
        self._waits_ms: list[int] = [s * 1000 for s in settings["airstar.deposit_job.delays_s"]]

    @property
    def tries(self) -> int:
        """Retries of the job that credits."""
        return len(self._waits_ms)

    def gave_up(self, job: Job) -> bool:
        """Whether a job that credits had used all its retries before this run: if a person has it run again, its alert
        stands."""
        return job.retry_count >= self.tries

    async def run(self, job: Job, transaction_id: str, terms: Terms = TRANSFER, apply: Apply | None = None) -> Verdict:
        """One run of the job of an Apply (``payload["apply"]``, also given where it was read before);
        ``transaction_id``: its business id at the bank, or its statement's."""
        apply = apply or await self._applications.find(job.payload["apply"])
        assert apply is not None, job.payload
        error = ""
        try:
            reply = await self._rpc("sba.create_deposit", self._sba.create_deposit,
                                    await self._request(apply, transaction_id, terms))
        except (OutcomeUnknown, CallFailed) as failure:
            reply, error = None, str(failure)
        if reply is not None and reply.ok and reply.procedure is not None:
            return await self._credited(job, apply, reply.procedure["id"], terms)
        if reply is not None and reply.code is Code.DUPLICATE:
            return Exhausted(f"{transaction_id} was credited for another Apply: {reply.message}", "AIRSTAR-11",
                             f"A{apply.id}")
        error = error or (f"{reply.code.name} {reply.message}" if reply is not None else "")
        if self.gave_up(job):
            return Exhausted(error, terms.alert, f"A{apply.id}")
        return Again(self._clock.now_ms() + self._waits_ms[job.retry_count], error)

    async def _credited(self, job: Job, apply: Apply, procedure_id: int, terms: Terms) -> Verdict:
        latest = await self._applications.find(apply.id)  # it may be DONE by now, with its Procedure
        async with self._db.transaction() as tx:
            if latest is not None and latest.sba_procedure_id is None:
                await self._applications.change(tx, latest, sba_procedure_id=procedure_id)
            if terms.created is not None:
                await terms.created(tx, procedure_id)
            return await job.settle(tx, Done())

    async def _request(self, apply: Apply, transaction_id: str, terms: Terms) -> DepositRequest:
        black, white = await screened(self._rpc, self._lists, apply.uid, apply.card_no, terms.remitter, terms.account)
        return DepositRequest(
            rpc_request_id=f"A{apply.id}", nn_uid=apply.uid, trade_acc_id=apply.trade_acc_id, market=apply.market,
            ccy=apply.ccy, amount=apply.amount if terms.amount is None else terms.amount,
            transaction_id=transaction_id, transfer_method=terms.trans_type or apply.trans_type,
            deposit_type=int(terms.deposit_type), source=apply.source, bank_ref_id=apply.bank_ref_id,
            apply_ref=apply.id, hold_type=terms.hold_type, hold_apply_id=terms.hold_apply_id, blacklisted=black,
            whitelisted=white, proposed_by=terms.proposed_by)


async def screened(rpc: Rpc, lists: Lists, uid: int, card_no: str, remitter: str = "",
                   account: str = "") -> tuple[bool, bool]:
    """(blacklisted, whitelisted): both lists are asked at once (DEP-06). One that does not answer counts as a hit of
    the black list, and as none of the white list: never as a pass (B-36)."""

    async def black() -> bool:
        try:
            return await rpc("screening.deposit_black", lists.hit, ListName.DEPOSIT_BLACK, uid=uid, card_no=card_no,
                             name=remitter, account=account) is not None
        except (OutcomeUnknown, CallFailed):
            return True

    async def white() -> bool:
        try:
            return await rpc("screening.deposit_white", lists.hit, ListName.DEPOSIT_WHITE, uid=uid) is not None
        except (OutcomeUnknown, CallFailed):
            return False

    return await asyncio.gather(black(), white())
