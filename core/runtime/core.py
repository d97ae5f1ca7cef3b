"""One core: every room wired to its neighbours, from what its surroundings give (architecture.md §2).

The same composition runs in virtual time, paced and in production; only the `Surroundings` differ. A core can be
killed at any moment: what it had not written never happened, what it had written is found again by the next core.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from core.accounts import Customers
from core.alerts import raise_alert
from core.assets import RiskControl
from core.banks.airstar import AirstarGateway, Exchange
from core.banks.edda import EddaLines
from core.calendars import Calendars
from core.cards.agreements import Agreements
from core.cards.bank_cards import BST as BY_BST
from core.cards.bank_cards import BankCards, CardAccounts
from core.cards.mandates import Mandates
from core.cards.numbers import CardNumbers
from core.clock import Clock
from core.deposits.airstar import AirstarDeposits
from core.deposits.applications import Applications, Apply
from core.deposits.cheques import Cheques
from core.deposits.collect_icbc import IcbcCollector
from core.deposits.collection import StatementRoom
from core.deposits.crediting import Crediting
from core.deposits.eddi import Room
from core.deposits.finder import ApplyFinder
from core.deposits.icbc_incidents import IcbcIncidents
from core.deposits.matching.room import MatchingRooms
from core.deposits.reversals import ReversalNotices
from core.deposits.statements import Statements
from core.deposits.transfers import JOBS
from core.deposits.vouchers import Vouchers
from core.domain import Role
from core.errors import CallFailed, Code, Refusal
from core.hops import SBA, Hop, TracedRpc, apart
from core.jobs import Jobs, Timetable
from core.locks import Locks
from core.orchestration.decisions import Decisions
from core.orchestration.engine import Engine
from core.orchestration.operations import OPERATIONS
from core.orchestration.performers import Performers
from core.orchestration.records import Actor, Effect, Procedure, Reply
from core.orchestration.service import Sba
from core.rpc import Rpc
from core.runtime.calendar_book import CalendarBook
from core.runtime.direct_debit import DirectDebit
from core.runtime.socket_bank import Shared, SocketBankRooms, SocketLines
from core.runtime.statement_banks import collectors, each, scheduled
from core.screening import Lists
from core.settings import Settings
from core.storage import Databases, Transaction
from core.trace import Trace
from core.wire.socket import CMB, CMBC
from core.withdrawals.airstar import AirstarWithdrawals
from core.withdrawals.auto_settings import RESET, AutoSettings
from core.withdrawals.tasks import Task, Withdrawals

FLAVOURS = {"cmb": CMB, "cmbc": CMBC}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a core needs from outside. ``card_key``: 32 bytes under which card numbers are kept.

    ``sockets``: lines to CMB and CMBC; ``statements``: lines to the banks whose
    statements are collected. A bank without lines is not connected."""

    settings: Settings
    databases: Databases
    clock: Clock
    trace: Trace
    locks: Locks
    rpc: Rpc
    calendars: Calendars
    airstar: Exchange
    sockets: Mapping[str, SocketLines]
    accounts: Callable[[RiskControl], Customers]
    card_key: bytes
    worker: str
    statements: Mapping[str, Any] = field(default_factory=dict)
    direct_debit: Mapping[str, EddaLines] = field(default_factory=dict)


class DepositRoom(Protocol):
    """Where customers ask for deposits by bank-securities transfer at one bank."""

    async def submit(self, uid: int, trade_acc_id: int, market: int, card_id: int, card_no: str, ccy: str,
                     amount: int) -> Apply | Refusal: ...

    async def query_bank(self, apply_id: int, operator: str) -> Code: ...


class WithdrawalRoom(Protocol):
    """What gives instructions to one BST bank."""

    async def instruct(self, p: Procedure, _effect: Effect) -> dict[str, Any]: ...

    async def on_its_way(self, procedure_id: int) -> bool: ...

    async def query_bank(self, procedure_id: int) -> Any: ...

    async def not_paid(self, tx: Transaction, task: Task, why: str) -> None: ...


class Core:
    """A wired core. `start` begins scheduled work and takes up what an earlier core left behind."""

    def __init__(self, given: Surroundings) -> None:
        self.given = given
        settings, databases, clock, trace = given.settings, given.databases, given.clock, given.trace
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._trace, trace.polls = trace, settings["jobs.trace_polls"]
        rpc = TracedRpc(given.rpc, trace)
        self._escaped: BaseException | None = None

        self.risk_control = RiskControl(databases.assets, clock, trace)
        customers = given.accounts(self.risk_control)
        self.cards = BankCards(databases.account, clock, trace, CardNumbers(given.card_key), customers, settings)
        self.accounts = CardAccounts(customers, self.cards)
        self.lists = Lists(databases.primary, clock, settings)
        self.gateway = AirstarGateway(given.airstar, clock, trace, max_pages=settings["airstar.list.max_pages"])
        self.mandates = Mandates(databases.account, clock, trace, self.gateway, settings)
        self.calendar_book = CalendarBook(databases.primary, given.calendars, clock, trace)
        self.agreements = {bank: Agreements(bank, bank.upper(), databases.account, clock) for bank in FLAVOURS}
        self.mandates.on_open = opened = partial(self.cards.verified, how=BY_BST)
        for agreements in self.agreements.values():
            agreements.on_open = opened
        self.sockets: dict[str, SocketBankRooms] = {}
        self.decisions = Decisions(given.calendars, settings, bank_of=lambda bank: bank, reachable=self._reachable)
        self.jobs = Jobs(databases.primary, clock, trace, given.worker, settings, {}, self.spawn)
        self.applications = Applications(databases.primary, clock, trace)

        self._owners: dict[str, Any] = {}
        self.performers = Performers(rpc, self.risk_control, self._owners, settings)
        self.engine = Engine(databases.procedure, clock, trace, given.locks, self.decisions, settings,
                             self.performers.table, self.spawn, given.worker)
        self.sba = Sba(databases.procedure, clock, trace, self.engine, self.decisions, self.performers,
                       self.risk_control, settings)
        self.airstar_deposits = AirstarDeposits(
            databases.primary, clock, trace, self.jobs, self.applications, self.mandates, self.gateway, self.sba,
            self.lists, self.accounts, rpc, settings, given.calendars)
        self.finder = ApplyFinder(databases.primary)
        self.reversal_notices = ReversalNotices(databases.primary, clock, self.applications, self.sba.procedure)
        self.auto_settings = AutoSettings(databases.primary, clock, trace, settings)
        self.withdrawals = Withdrawals(
            databases.primary, clock, trace, self.jobs, {"airstar": self.mandates, **self.agreements}, self.sba,
            self.risk_control, self.lists, self.accounts, rpc, given.calendars, self.auto_settings, settings)
        self.cards.open_task = self.withdrawals.open_of_card
        self.airstar_withdrawals = AirstarWithdrawals(
            databases.primary, clock, trace, self.jobs, self.mandates, self.gateway, self.sba, self.withdrawals,
            self.airstar_deposits, self.accounts, settings)
        crediting = Crediting(databases.primary, clock, self.applications, self.sba, self.lists, rpc, settings)
        self.vouchers = Vouchers(databases.primary, clock, self.applications, settings)
        self.cheques = Cheques(
            databases.primary, clock, trace, self.jobs, given.calendars, self.applications, crediting,
            self.risk_control, self.vouchers, rpc, settings)
        shared = Shared(databases, clock, trace, settings, given.calendars, self.jobs, self.applications,
                        self.agreements, crediting, self.accounts, self.sba, self.withdrawals)
        self.sockets.update({bank: SocketBankRooms(bank, FLAVOURS[bank], lines, shared)
                             for bank, lines in given.sockets.items()})
        self.statements = Statements(databases.primary, clock, trace, keep_months=settings["match.look_back_months"])
        self.collectors = collectors(given.statements, StatementRoom(
            databases.primary, clock, trace, settings, given.calendars, self.jobs, self.statements))
        icbc = self.collectors.get("icbc")
        self.icbc_incidents = IcbcIncidents(icbc) if isinstance(icbc, IcbcCollector) else None
        self.matching = MatchingRooms(
            databases.primary, clock, trace, given.calendars, self.jobs, self.statements, self.applications,
            self.accounts, self.sba, crediting, self.lists, rpc, settings, tuple(self.collectors))
        self.direct_debit = DirectDebit(given.direct_debit, Room(
            databases.primary, clock, trace, settings, given.calendars, self.jobs, self.applications, crediting),
            databases.account, given.worker)
        self.deposits_at: dict[str, DepositRoom] = {"airstar": self.airstar_deposits} | {
            bank: rooms.deposits for bank, rooms in self.sockets.items()} | {
            bank: self.matching.standard.at(bank) for bank in self.collectors} | {
            **self.direct_debit.deposits_at}
        self.withdrawals_at: dict[str, WithdrawalRoom] = {"airstar": self.airstar_withdrawals} | {
            bank: rooms.withdrawals for bank, rooms in self.sockets.items()}
        self.withdrawals.not_paid_at.update({bank: room.not_paid for bank, room in self.withdrawals_at.items()})
        self._owners.update({
            "TELL_DEPOSIT": self.applications.closed, "TELL_WITHDRAW": self.withdrawals.closed,
            "INSTRUCT": self._instruct})
        for handlers in (self.airstar_deposits.handlers, self.withdrawals.handlers, self.airstar_withdrawals.handlers,
                         self.cheques.handlers,
                         *(rooms.handlers for rooms in self.sockets.values()),
                         *(collector.handlers for collector in self.collectors.values()),
                         *([self.matching.handlers] if self.collectors else []), self.direct_debit.handlers):
            self.jobs.register(handlers)
        self.timetable = Timetable(
            databases.primary, clock, trace, given.locks, given.worker, settings, given.calendars, self._scheduled(),
            self.spawn)

    def _scheduled(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """Job of the timetable -> what this core does for it."""
        return {
            "FetchBankRequest": self.airstar_deposits.fetch_bank_requests,
            "SyncAsbBstWithdraw": self.airstar_withdrawals.pull_bank_requests,
            "WithdrawDriveJob": self.sba.drive_waiting,
            "MoveNextResumeJob": self.sba.resume_due,
            "WaitingTradeJob": self.sba.resume_trading_day,
            "OutboxSweep": self.engine.sweep,
            RESET: self.auto_settings.reset,
            **self.cheques.scheduled,
            **({"SyncBstDataHelper": self.sockets["cmb"].recover} if "cmb" in self.sockets else {}),
            **_together(self._collected(), self.direct_debit.scheduled),
        }

    def _collected(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """Jobs of the statement banks that are connected, and of matching if any is."""
        return {**self.matching.scheduled, **scheduled(self.collectors)} if self.collectors else {}

    @property
    def in_connection(self) -> tuple[str, ...]:
        """Jobs of the registry that this core's connections to banks do as long as they stand."""
        return tuple(JOBS[bank].heartbeat for bank in self.sockets)

    def _reachable(self, bank: str) -> bool:
        """Whether instructions for a BST bank can leave this core: an exit server is connected, or none is needed."""
        rooms = self.sockets.get(bank)
        return bank not in FLAVOURS or (rooms is not None and rooms.gateway.available)

    async def _instruct(self, p: Procedure, effect: Effect) -> dict[str, Any]:
        """INSTRUCT: to the room of the bank that is to pay."""
        bank = p.withdraw.transfer_dest_bank
        if bank not in self.withdrawals_at:
            raise CallFailed(f"this core has no line to {bank}")
        return await self.withdrawals_at[bank].instruct(p, effect)

    async def start(self) -> None:
        """Take up what is pending, then begin scheduled work."""
        self._trace.emit("core", "core", {"phase": "start", "detail": self.given.worker})
        for sequence in (self.applications.ids, self.withdrawals.ids, self.airstar_deposits.references):
            await sequence.begin()
        await self.calendar_book.load()
        await self.cards.begin()
        await self.auto_settings.begin()
        if self.collectors:
            await self.statements.ids.begin()
            await self.matching.begin()
        await self.jobs.start()
        await self.engine.sweep()
        await asyncio.gather(*(collector.start(self.spawn) for collector in self.collectors.values()))
        await self.direct_debit.start(self.spawn)
        await self.timetable.start()
        for bank, rooms in self.sockets.items():
            if bank == "cmb":
                rooms.on_reconnect = partial(self.timetable.request, "SyncBstDataHelper", rooms.recover_apart)
        await asyncio.gather(*(rooms.start(self.spawn) for rooms in self.sockets.values()))  # none waits for the other

    async def stop(self) -> None:
        """End orderly: no new work begins, running work finishes, leases are given back."""
        await self.timetable.stop()
        await self.jobs.stop()
        await self.direct_debit.stop()
        for rooms in self.sockets.values():
            await rooms.gateway.stop()
        for collector in self.collectors.values():
            await collector.stop()
        self._cancel()

    def kill(self) -> None:
        """End at once, wherever it is, as a power cut does; the caller has severed the databases."""
        self.timetable.halt()
        self.jobs.halt()
        self.direct_debit.halt()
        for rooms in self.sockets.values():
            rooms.gateway.halt()
        self._cancel()

    def _cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something of this core's own, part of no hop; what escapes it is kept in `fault`."""
        task = asyncio.get_running_loop().create_task(work, context=apart())
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None and self._escaped is None:
            self._escaped = error

    @property
    def fault(self) -> BaseException | None:
        """The first error of our own that escaped: production goes on and alerts, a simulation stops on it."""
        return self._escaped or self.jobs.unexpected or self.timetable.unexpected

    # Operations of people

    async def operate(
        self, name: str, procedure_id: int, *, version: int, rpc_request_id: str, by: Actor, remark: str = "",
        **params: Any,
    ) -> Reply:
        """One of SBA's operations, with what belongs to it outside SBA: notices, refunds, alerts."""
        service = SBA[OPERATIONS[name].biz] if name in OPERATIONS else ""
        if name == "CashDepositReverse":
            await self.reversal_notices.before(procedure_id, version, by, params.get("confirmations", ()))
        with Hop(self._trace, f"sba.{name}", service, of=""):
            reply = await self._operate(name, procedure_id, version, rpc_request_id, by, remark, params)
        self._trace.emit("staff", by.id, {
            "operator": by.id, "role": by.role, "action": name, "subject": f"P{procedure_id}",
            "result": reply.code.name})
        if name in ("CashDepositReverse", "CashWithdrawReverse"):
            await self._reversed(name, procedure_id, reply)
        return reply

    async def _operate(
        self, name: str, procedure_id: int, version: int, request_id: str, by: Actor, remark: str,
        params: Mapping[str, Any],
    ) -> Reply:
        rolls_back = params.get("action") == "Rollback" and by.role is Role.SUPERVISOR
        if rolls_back and await self._on_its_way(procedure_id):
            return Reply(Code.BANK_STATUS_REQUIRED, "our instruction is on its way to the bank: wait for its answer")
        calls_failed = name == "SetManualTransferFailed" and by.role in OPERATIONS[name].roles
        if calls_failed and await self._at_bank(procedure_id):
            return Reply(Code.BANK_STATUS_REQUIRED, "the bank has the transfer, or has paid it: wait for its result")
        return await self.sba.operate(
            name, procedure_id, version=version, rpc_request_id=request_id, by=by, remark=remark, **params)

    async def _on_its_way(self, procedure_id: int) -> bool:
        """Whether our own instruction may be on its way to the bank at this moment."""
        shown = await self.sba.procedure(procedure_id)
        room = self.withdrawals_at.get(shown.get("transfer_dest_bank", "")) if shown is not None else None
        return room is not None and await room.on_its_way(procedure_id)

    async def _at_bank(self, procedure_id: int) -> bool:
        """Whether CMB or CMBC, asked now, has what people are about to call failed: given back here it would be paid
        twice. A bank that does not answer leaves it to them (A-22)."""
        shown = await self.sba.procedure(procedure_id)
        if shown is None or shown["state"] != "pending(transfer_auto)" or not shown["poll_exhausted"]:
            return False
        rooms = self.sockets.get(shown.get("transfer_dest_bank", ""))
        return rooms is not None and await rooms.withdrawals.has_it(procedure_id)

    async def _reversed(self, name: str, procedure_id: int, reply: Reply) -> None:
        if reply.ok:
            raise_alert(self._trace, "WD-03", f"P{procedure_id}", name)
        elif name == "CashDepositReverse" and reply.code is Code.INSUFFICIENT_BALANCE:
            await self._short(procedure_id, reply)

    async def _short(self, procedure_id: int, reply: Reply) -> None:
        """A refund whose reversal the balance does not bear: SHORTFALL, and a Critical alert (A-29)."""
        apply_ref = reply.procedure["apply_ref"] if reply.procedure else None
        if apply_ref is not None and await self.applications.refund_of(apply_ref) == "PENDING_REVERSE":
            await self.applications.refund_short(apply_ref)
            raise_alert(self._trace, "DEP-07", f"P{procedure_id}", reply.message)


def _together(*parts: Mapping[str, Callable[[], Awaitable[Any]]]) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Jobs of the timetable of several rooms; what two of them do under one name, both do (``ApplyTimeoutReject``)."""
    found: dict[str, list[Callable[[], Awaitable[Any]]]] = {}
    for part in parts:
        for job, function in part.items():
            found.setdefault(job, []).append(function)
    return {job: of[0] if len(of) == 1 else partial(each, of) for job, of in found.items()}
