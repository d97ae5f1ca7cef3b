"""One of CMB and CMBC within a core: gateway, agreements, deposits, withdrawals, pushes, recovery, day end.

Both banks are wired alike and know nothing of each other (ADR-006); what differs is how missed pushes are fetched:
CMB by the recovery service over HTTP, CMBC by a re-pull over the socket (A-42).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from core.accounts import Accounts
from core.alerts import raise_alert
from core.banks.socket.gateway import Push, SocketGateway
from core.banks.socket.line import Dial
from core.calendars import Calendars
from core.cards.agreements import Agreements
from core.clock import Clock
from core.deposits.applications import Applications
from core.deposits.bst import SocketDeposits
from core.deposits.crediting import Crediting
from core.deposits.day_end import DayEnd
from core.deposits.pushes import REFUSED, TAKEN, Effect, Noted, Pushes
from core.deposits.recovery import RECOVERY_TRIES, Recovery, Report
from core.deposits.transfers import Transfers
from core.domain import Market, Role
from core.errors import Code, OutcomeUnknown
from core.jobs import Jobs
from core.orchestration.service import Sba
from core.settings import Settings
from core.storage import Database, Databases, Transaction
from core.trace import Trace
from core.wire.socket import Flavour, Signing
from core.wire.socket.messages import (
    BankWithdrawal,
    DepositPush,
    ListItem,
    ReconciliationList,
    SignNotice,
    TransferResult,
)
from core.withdrawals.bst import SocketWithdrawals
from core.withdrawals.tasks import Withdrawals


class DayLists(Protocol):
    """CMB's day list outside the socket (`core.banks.socket.day_list.DayListClient`)."""

    async def items(self, since_seq: int, business_date: str = "") -> tuple[ListItem, ...]:
        """Entries after a push number; raises `OutcomeUnknown`."""


class SocketLines(NamedTuple):
    """What connects a core with one of the two banks. ``day_lists``: CMB only."""

    dial: Dial
    day_lists: DayLists | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """The rooms of a core that both banks use."""

    databases: Databases
    clock: Clock
    trace: Trace
    settings: Settings
    calendars: Calendars
    jobs: Jobs
    applications: Applications
    agreements: dict[str, Agreements]
    crediting: Crediting
    accounts: Accounts
    sba: Sba
    withdrawals: Withdrawals


class SocketBankRooms:
    """One bank's rooms, and what it says put into them (`core.banks.socket.gateway.Inbound`)."""

    def __init__(self, bank: str, flavour: Flavour, lines: SocketLines, of: Shared) -> None:
        db: Database = of.databases.primary
        self.bank, self._trace, self._accounts = bank, of.trace, of.accounts
        self._sba = of.sba
        self._retry_s: float = of.settings["socket.recovery.retry_s"]
        self._period_s: float = of.settings["socket.recovery.period_s"]
        self.gateway = SocketGateway(bank, flavour, lines.dial, of.clock, of.trace, of.settings, self)
        self.agreements = of.agreements[bank]
        self.transfers = Transfers(bank, db, of.clock)
        self.deposits = SocketDeposits(
            bank, db, of.clock, of.trace, of.jobs, of.applications, self.agreements, self.gateway, self.transfers,
            of.crediting, of.accounts, of.calendars, of.settings)
        self.withdrawals = SocketWithdrawals(
            bank, db, of.clock, of.trace, of.jobs, self.agreements, self.gateway, self.transfers, of.sba,
            of.withdrawals, self.deposits, of.accounts, of.calendars, of.settings)
        self.day_end = DayEnd(bank, db, of.clock, of.trace, of.jobs, self.transfers, of.calendars, of.settings)
        self.pushes = Pushes(bank, db, of.clock, of.trace, {
            DepositPush: self.deposits.pushed, TransferResult: self.withdrawals.result_pushed,
            BankWithdrawal: self.withdrawals.pushed, SignNotice: self._signed})
        by_helper = lines.day_lists is not None
        self.recovery = Recovery(bank, "helper" if by_helper else "repull", self.pushes,
                                 lines.day_lists.items if lines.day_lists is not None else self.gateway.day_list,
                                 of.trace)
        self.on_reconnect: Callable[[], object] | None = None  # asks for a run of the recovery job, where it is a job
        self.pushes.on_gap = self._gap
        self.agreements.on_unknown = self.pushes.take_notices_again
        self._spawn: Callable[[Any], object] = asyncio.ensure_future
        self._recovering = self._wanted = False

    @property
    def handlers(self) -> dict[str, Any]:
        """Job name -> handler."""
        return self.deposits.handlers | self.withdrawals.handlers | self.day_end.handlers

    async def start(self, spawn: Callable[[Any], object]) -> None:
        """Connect; what was missed is fetched after each sign-on."""
        self._spawn = spawn
        await self.deposits.references.begin()
        await self.pushes.begin()
        if self.on_reconnect is None:
            spawn(self._now_and_then())
        await self.gateway.start(spawn)

    # What the gateway hears

    async def take(self, push: Push) -> None:
        """Persist what the bank pushed (`Inbound`)."""
        if isinstance(push.body, ReconciliationList):
            await self.day_end.take(push)
        else:
            await self.pushes.take(push)

    async def last_push_seq(self) -> int:
        """For sign-on (`Inbound`)."""
        return await self.pushes.last_push_seq()

    async def signed_on(self) -> None:
        """A line stands again (`Inbound`): fetch what was missed, send what has waited for it."""
        self._recover_soon()
        await self._sba.channel_back(self.bank)

    def _gap(self) -> None:
        self._recover_soon()

    def _recover_soon(self) -> None:
        self._wanted = True
        if self.on_reconnect is not None:
            self.on_reconnect()
        else:
            self.recover_apart()

    def recover_apart(self) -> None:
        """Fetch what was missed outside the timetable, as often as it takes: two at once book nothing twice."""
        if not self._recovering:
            self._recovering = True
            self._spawn(self._recover())

    async def _recover(self) -> None:
        """Until it is done, or the line is down: the next sign-on asks for it anew."""
        failures = 0
        try:
            while True:
                try:
                    await self.recover()
                    return
                except OutcomeUnknown as silence:
                    error = str(silence)
                failures += 1
                if not self.gateway.available:
                    return
                if failures == RECOVERY_TRIES:
                    raise_alert(self._trace, "SOCK-06", self.bank, error)
                await asyncio.sleep(self._retry_s)
        finally:
            self._recovering = False

    async def recover(self) -> Report:
        """One run of the recovery, for the timetable and for people; another if one was asked for meanwhile."""
        while True:
            self._wanted = False
            report = await self.recovery.run()
            await self.day_end.fetch_overdue(self.gateway)
            if not self._wanted:
                return report

    async def _now_and_then(self) -> None:
        """What the bank pushed last leaves no gap behind it."""
        while True:
            await asyncio.sleep(self._period_s)
            self._recover_soon()

    # Signing

    async def _signed(self, push: Push) -> Effect:
        """A customer signed or ended the agreement at the bank (200107)."""
        body = push.body
        assert isinstance(body, SignNotice), push
        holder = await self._accounts.card_holder(self.bank, body.card_no)
        known = holder is not None and body.market in Market.__members__
        if holder is not None and known:
            await self.agreements.notice(holder, body.card_no, int(Market[body.market]),
                                         signed=body.action is Signing.SIGN, push_seq=push.push_seq)

        why = f"no customer has bound card {body.card_no}" if holder is None else f"there is no market {body.market!r}"

        async def take(tx: Transaction) -> Noted:
            if known:  # the notice is in the account database already
                return Noted(TAKEN)
            tx.after_commit(lambda: raise_alert(self._trace, "SOCK-11", f"{self.bank}:{body.card_no}", why))
            return Noted(REFUSED, why)

        return take

    # What operations do

    async def take_again(self, push_seq: int, operator: str, role: Role) -> Code:
        """Deal once more with a push that was kept as REFUSED, once its reason is gone."""
        if role not in (Role.FRONTLINE, Role.SUPERVISOR):
            return Code.FORBIDDEN
        return await self.pushes.take_again(push_seq, f"taken again by {operator}")
