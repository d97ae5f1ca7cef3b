"""A world: one core, the emulated banks, their customers and staff, on one clock, as a scenario describes it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from core.accounts import Customers
from core.assets import RiskControl
from core.calendars import Calendars
from core.cards.bank_cards import Adoption, BankCards
from core.cards.numbers import CardNumbers
from core.clock import MS_PER_DAY, US_PER_MS, US_PER_S, from_yyyymmdd
from core.deposits.statements import STATUS_NAMES
from core.domain import Initiator, Market, Role
from core.errors import Code, Misconfigured, Refusal
from core.locks import LocalLocks, Locks
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from core.orchestration.records import BST, Actor
from core.runtime import Core, Surroundings
from core.settings import Settings
from core.storage import Databases, Severed, StorageConfig, open_databases
from core.trace import Event, Trace
from emulators.airstar.bank import AirstarBank
from emulators.loop import LoopClock, SimLoop
from emulators.rpc import SimulatedRpc
from emulators.staff import Staff, Team
from emulators.streams import Streams
from scenarios.accounts import CustomerAccounts, card_id
from scenarios.banks import (
    AIRSTAR,
    DIRECT_DEBIT,
    KILL_POINTS,
    KILLED_AT,
    SOCKET_BANKS,
    STATEMENT_BANKS,
    AirstarInWorld,
    BankInWorld,
    DeathTraps,
    EddaInWorld,
    InMemory,
    Life,
    Places,
    Site,
    SocketBankInWorld,
    StatementBank,
)
from scenarios.expectations import Balance
from scenarios.facts import RunFacts
from scenarios.population import BankCard, Customer, banks_of, build, deposit_banks_of, index_of
from scenarios.runbook import carry_out, match_application
from scenarios.schema import Action, Authorisation, Fault, Names, Scenario
from scenarios.transfers import Transfers
from scenarios.workload import Arrival, arrivals, authorisations

PATIENCE_S = 1.0
"""How soon people try again when the core does not answer."""

T = TypeVar("T")


class CoreLocks:
    """The lock service as one core reaches it: not at all once that core is dead."""

    def __init__(self, locks: Locks, life: Life) -> None:
        self._locks, self._life = locks, life

    async def acquire(self, key: str, owner: str, ttl_ms: int, wait_ms: int = 0) -> str | None:
        self._life.check()
        return await self._locks.acquire(key, owner, ttl_ms, wait_ms)

    async def renew(self, key: str, token: str, ttl_ms: int) -> bool:
        self._life.check()
        return await self._locks.renew(key, token, ttl_ms)

    async def release(self, key: str, token: str) -> bool:
        self._life.check()
        return await self._locks.release(key, token)


CARD_KEY = bytes(32)
"""Under which the card numbers of a run are sealed."""


class World:
    """Build with `begin`; afterwards `run` to the end of the scenario."""

    def __init__(
        self, scenario: Scenario, names: Names, loop: SimLoop, trace: Trace, clock: LoopClock,
        places: Places | None = None, databases: Callable[[], Awaitable[Databases]] | None = None,
    ) -> None:
        """``places``: where the banks' servers stand; ``databases``: opens the core's. Both in memory unless told."""
        self.scenario, self.names, self.loop, self.trace, self.clock = scenario, names, loop, trace, clock
        self.streams = Streams(scenario.seed)
        self.settings = Settings(scenario.settings)
        self.calendars = Calendars(self.settings)
        self.customers = build(scenario, names, self.streams)
        self.locks = LocalLocks(clock)
        self.rpc = SimulatedRpc(self.streams("rpc"), self.settings)
        self.traps = DeathTraps(self.kill)
        self._listening = False  # to what is committed: only once a fault asks for it
        self.places = places or InMemory(loop, self.streams)
        site = Site(scenario.wire, names, loop, clock, trace, self.streams, self.settings, self.calendars, self.places,
                    self.traps)
        self.airstar = AirstarInWorld(site)
        self.sockets = {name: SocketBankInWorld(name, site) for name in SOCKET_BANKS if name in banks_of(scenario)}
        self.bst: dict[str, BankInWorld] = {AIRSTAR: self.airstar, **self.sockets}
        self.receivers: dict[str, StatementBank] = {
            name: STATEMENT_BANKS[name].make(site) for name in deposit_banks_of(scenario, names)
            if name in STATEMENT_BANKS}
        self.debiting = {name: EddaInWorld(DIRECT_DEBIT[name], site) for name in DIRECT_DEBIT
                         if name in (*banks_of(scenario), *deposit_banks_of(scenario, names))}
        self.banks: dict[str, BankInWorld] = {**self.bst, **self.receivers, **self.debiting}
        self._transfers = Transfers(self.settings, self.streams)
        self._open_databases = databases or partial(open_databases, StorageConfig("memory"))
        self.databases: Databases
        self.core: Core
        self.kills = 0
        self._down = False
        self._life: Life
        self._on_commit: Callable[[str, int], None] | None = None
        self._stopped: dict[str, None] = {}  # jobs that a fault has stopped, for every core to come
        self._background: dict[asyncio.Task[Any], None] = {}
        self.fault: BaseException | None = None
        loop.set_exception_handler(self._failed)

    @property
    def bank(self) -> AirstarBank:
        """The emulated Airstar bank, which is in every world."""
        return self.airstar.bank

    @property
    def mandates(self) -> dict[int, str]:
        """Customer's index -> mandate at Airstar."""
        return self.airstar.mandates

    # Building

    async def begin(self) -> None:
        """Open the books and the banks, then start the core."""
        self.databases = await self._open_databases()
        for bank in self.banks.values():
            await bank.open()
        for customer in self.customers:
            for bank, card in self._authorized(customer):
                bank.enroll(customer, card)
        await self._take_over(RiskControl(self.databases.assets, self.clock, self.trace))
        await self._compose()

    async def close(self) -> None:
        """The end, after the core's: the banks' servers listen no more."""
        for bank in self.banks.values():
            await bank.close()
        await self.places.close()

    def _authorized(self, customer: Customer) -> Iterator[tuple[BankInWorld, BankCard]]:
        """The banks of this world at which a customer has a card."""
        for name, bank in self.banks.items():
            if name in customer.cards:
                yield bank, customer.cards[name]

    async def _take_over(self, risk_control: RiskControl) -> None:
        """Opening balances, cards and authorizations, taken over from the day before."""
        accounts = CustomerAccounts(self.customers, self.names, risk_control)
        cards = BankCards(self.databases.account, self.clock, Trace(self.clock), CardNumbers(CARD_KEY), accounts,
                          self.settings)
        await cards.adopt(Adoption(self.card_id(customer, bank), customer.uid, bank, card.number, customer.name)
                          for customer in self.customers for bank, card in customer.cards.items())
        for customer in self.customers:
            for ccy, amount in customer.balances.items():
                if amount:
                    await risk_control.add(f"OPENING:{customer.uid}:{ccy}", customer.trade_acc_ids[0], ccy, amount)
            for bank, card in self._authorized(customer):
                await bank.adopt(customer, card, self.databases)

    async def _compose(self) -> None:
        def accounts(risk_control: RiskControl) -> Customers:
            return CustomerAccounts(self.customers, self.names, risk_control)

        self._life = Life()
        self.core = Core(Surroundings(
            self.settings, self.databases, self.clock, self.trace, CoreLocks(self.locks, self._life), self.rpc,
            self.calendars, self.airstar.line(self._life),
            {name: bank.lines(self._life) for name, bank in self.sockets.items()}, accounts, CARD_KEY,
            f"core-{self.kills + 1}", {name: bank.lines(self._life) for name, bank in self.receivers.items()},
            {bank.of: bank.lines(self._life) for bank in self.debiting.values()}))
        for job in self._stopped:
            self._pause(job)
        await self.core.start()

    def card_id(self, customer: Customer, bank: str) -> int:
        """Our id of a customer's card."""
        return card_id(customer, bank, self.names)

    # Running

    async def run(self) -> None:
        """Everything the scenario says, until its end."""
        for override in self.scenario.overrides:
            self._at(override.known_from, self._override, override)
        for fault in self.scenario.faults:
            self._at(fault.at, self._inject, fault)
        for action in self.scenario.staff.actions:
            self._at(action.at, self._act, action)
        for record in authorisations(self.scenario):
            self._at(record.at, self._authorise, record.authorise)
        self.loop.env.process(self._customers(arrivals(self.scenario, self.customers, self.names, self.streams)))
        await asyncio.sleep((self.scenario.end - self.scenario.start) / 1000)

    def _at(self, at_ms: int, do: Callable[[Any], None], what: Any) -> None:
        delay = max(0, at_ms - self.scenario.start) * US_PER_MS
        self.loop.call_after_us(delay, do, what)

    def _customers(self, coming: Iterator[Arrival]) -> Generator[Any, Any, None]:
        """A SimPy process: each arrival at its time."""
        start_us = self.scenario.start * US_PER_MS
        for arrival in coming:
            wait = arrival.at_us - start_us - self.loop.now_us
            if wait > 0:
                yield self.loop.env.timeout(wait)
            self.arrive(arrival)

    def arrive(self, arrival: Arrival) -> None:
        """A request of a customer, from the scenario or from outside it."""
        if arrival.kind == "deposit" and arrival.channel in self.receivers:
            self._transfer_by_himself(arrival)
        elif arrival.initiator is Initiator.BANK:
            self._ask_at_bank(arrival)
        elif arrival.kind == "deposit":
            self._during(lambda core: self._deposit(core, arrival))
        else:
            self._during(lambda core: self._withdraw(core, arrival))

    def _during(self, work: Callable[[Core], Coroutine[Any, Any, Any]]) -> None:
        """A request of the App: served by the core that is there; while none is, the customer tries again."""
        if self._down:
            self.loop.call_after_us(round(PATIENCE_S * US_PER_S), self._during, work)
        else:
            self.core.spawn(work(self.core))

    async def _deposit(self, core: Core, arrival: Arrival) -> None:
        customer = self.customers[arrival.customer]
        bank = self.names.deposit_channels[arrival.channel]
        refused = await core.deposits_at[bank].submit(
            customer.uid, customer.trade_acc_ids[0], Market[arrival.market], self.card_id(customer, bank),
            customer.cards[bank].number, arrival.ccy, arrival.amount)
        if isinstance(refused, Refusal):
            self.trace.emit("refused", f"U{customer.uid}", {
                "operation": "SubmitDeposit", "code": refused.code.name, "detail": refused.detail,
                "operator": f"user_{customer.uid}"})

    def _authorise(self, wish: Authorisation) -> None:
        """A customer authorises us in the App to debit his account."""
        customer, bank = self.customers[index_of(wish.customer, self.scenario)], self.debiting[wish.channel]

        async def begin(core: Core) -> None:
            made = await core.direct_debit.banks[bank.of].authorisations.begin(
                customer.uid, self.card_id(customer, bank.name), bank.debtor(customer))
            if isinstance(made, Refusal):
                self.trace.emit("refused", f"U{customer.uid}", {
                    "operation": "Authorise", "code": made.code.name, "detail": made.detail,
                    "operator": f"user_{customer.uid}"})

        self._during(begin)

    async def _withdraw(self, core: Core, arrival: Arrival) -> None:
        customer = self.customers[arrival.customer]
        bank = self.names.withdrawal_channels[arrival.channel]
        method = BST if arrival.channel in self.bst else arrival.channel
        await core.withdrawals.submit(
            customer.uid, customer.trade_acc_ids[0], Market[arrival.market], self.card_id(customer, bank),
            customer.cards[bank].number, bank, arrival.ccy, arrival.amount, method)

    def _ask_at_bank(self, arrival: Arrival) -> None:
        customer, bank = self.customers[arrival.customer], self.banks[arrival.channel]
        code = bank.ask(customer, arrival.kind, Market[arrival.market], arrival.ccy, arrival.amount)
        if code:
            self.trace.emit("refused", f"U{customer.uid}", {
                "operation": "AskAtBank", "code": str(code), "detail": "refused by the bank at once",
                "operator": f"user_{customer.uid}"})

    def _transfer_by_himself(self, arrival: Arrival) -> None:
        """An ordinary deposit: announced in the App, then transferred at the bank; some customers do it otherwise."""
        customer, bank = self.customers[arrival.customer], self.receivers[arrival.channel]
        plan = self._transfers.plan(arrival)
        if plan.announced:
            self._during(lambda core: self._deposit(core, arrival))
        for made in plan.made:
            self.loop.call_after_us(made.after_us, self._pay, bank, customer, arrival.ccy, made.amount, made.payer)

    def _pay(self, bank: StatementBank, customer: Customer, ccy: str, amount: int, payer: str | None) -> None:
        if bank.pay(customer, ccy, amount, payer_name=payer) is None:
            self.trace.emit("refused", f"U{customer.uid}", {
                "operation": "TransferAtBank", "code": "NO_MONEY", "operator": f"user_{customer.uid}",
                "detail": f"{bank.name}: the account does not bear it"})

    def _override(self, override: Any) -> None:
        self._keep(self._decide_day(override))

    async def _decide_day(self, override: Any) -> None:
        made = await self._served(lambda core: core.calendar_book.decide(
            Market[override.market], from_yyyymmdd(override.date), is_open=not override.closed,
            known_from_ms=override.known_from, operator="staff_4001", role=Role.SETTLEMENT))
        if isinstance(made, Refusal):
            raise Misconfigured(made.detail, where="overrides", remedy="see nostro spec scenario-schema")

    # Faults

    def _inject(self, fault: Fault) -> None:
        place, _, kind = fault.inject.partition(".")
        if place in self.banks:  # the bank tells of its own faults itself
            end = self._inject_bank(self.banks[place], kind, fault)
            if fault.lasts is not None:
                self.loop.call_after_us(fault.lasts * US_PER_MS, end)
            return
        fault_id = f"F{fault.inject}@{fault.at}"
        begun = {"fault": fault.inject, "target": str(fault.only.customer if fault.only else ""), "phase": "begin",
                 "params": dict(fault.parameters)}
        self.trace.emit("fault", fault_id, begun)
        ended = getattr(self, f"_inject_{place}")(kind, fault)
        if fault.lasts is not None and ended is not None:
            self.loop.call_after_us(fault.lasts * US_PER_MS, self._end_fault, fault_id, begun, ended)

    def _end_fault(self, fault_id: str, begun: dict[str, Any], end: Callable[[], None]) -> None:
        end()
        self.trace.emit("fault", fault_id, begun | {"phase": "end"})

    def _inject_bank(self, bank: BankInWorld, kind: str, fault: Fault) -> Callable[[], None]:
        given = dict(fault.parameters) | {"share": fault.share, "count": fault.times}
        only = fault.only
        customer = None if only is None or only.customer is None else self.customers[
            index_of(only.customer, self.scenario)].id
        return bank.inject(kind, given, customer, only.kind if only is not None else None)

    def _inject_rpc(self, kind: str, fault: Fault) -> Callable[[], None]:
        call = fault.parameters["call"]
        self.rpc.fault(kind, call, self.streams(f"rpc.{call}"), fault.share)
        return lambda: self.rpc.clear(call)

    def _inject_core(self, kind: str, fault: Fault) -> None:  # noqa: ARG002 - there is one kind: kill
        point: str = fault.parameters["at"]
        if point.startswith(KILLED_AT) and not self._listening:
            self._listening = True
            self.trace.subscribe(self._committed)
        self.traps.arm(KILL_POINTS[point], fault.parameters["restart_after"], fault.times or 1)

    def _committed(self, event: Event) -> None:
        """Something has been committed at which the core may have to die."""
        if event[2] in KILLED_AT and not self._down:
            self.traps.passes(f"{event[2]} {event[4]['bank']}")

    def _inject_job(self, kind: str, fault: Fault) -> Callable[[], None]:  # noqa: ARG002 - there is one kind: stop
        job = fault.parameters["job"]
        self._stopped[job] = None
        self._pause(job)
        return lambda: self._resume(job)

    def _pause(self, job: str) -> None:
        """Stop a job of the timetable, of the queue, or of both; what this core does not run stands still already."""
        if any(job == status.name for status in self.core.timetable.status()):
            self.core.timetable.pause(job)
        if job in self.core.jobs.handled:
            self.core.jobs.pause(job)

    def _resume(self, job: str) -> None:
        self._stopped.pop(job, None)
        if any(job == status.name for status in self.core.timetable.status()):
            self.core.timetable.resume(job)
        if job in self.core.jobs.handled:
            self.core.jobs.resume(job)

    @property
    def down(self) -> bool:
        """Whether no core is there at the moment."""
        return self._down

    def watch_commits(self, listener: Callable[[str, int], None] | None) -> None:
        """Call this after every commit of this core and of those that follow it: (database, number in this life)."""
        self._on_commit = self.databases.on_commit = listener

    def kill(self, restart_ms: int) -> None:
        """The core dies now, wherever it is; a new one takes over after ``restart_ms``."""
        self.kills += 1
        self._down = True
        self.databases.sever()
        self._life.end()
        self.core.kill()
        self.trace.emit("core", "core", {"phase": "killed", "detail": f"restart after {restart_ms} ms"})
        self.loop.call_after_us(restart_ms * US_PER_MS, self._restart, self.kills)

    def _restart(self, kill: int) -> None:
        if kill == self.kills:  # it was not killed again meanwhile
            self.databases = self.databases.reopen()
            self.databases.on_commit = self._on_commit
            self._keep(self._compose_again(kill))

    async def _compose_again(self, kill: int) -> None:
        try:
            await self._compose()
        except Severed:  # killed again while it recovered
            return
        if kill == self.kills:
            self._down = False
            self.trace.emit("core", "core", {"phase": "recovered", "detail": f"core-{self.kills + 1}"})

    async def _served(self, ask: Callable[[Core], Awaitable[T]]) -> T:
        """What people ask of the core. While none is there, or when it dies under their hands, they try again."""
        while True:
            if not self._down:
                try:
                    return await ask(self.core)
                except Severed:
                    pass
            await asyncio.sleep(PATIENCE_S)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error in a callback of the world's own: a run must not pass over it."""
        error = context.get("exception")
        if self.fault is None and isinstance(error, Exception):
            self.fault = error
        loop.default_exception_handler(context)

    def _keep(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._background[task] = None
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Future[Any]) -> None:
        self._background.pop(task, None)  # type: ignore[call-overload]
        if not task.cancelled() and task.exception() is not None and self.fault is None:
            self.fault = task.exception()

    # Staff

    def staff(self) -> Staff:
        """The operations staff of this scenario."""
        wanted, values = self.scenario.staff, self.settings

        def seconds(own: Any, key: str) -> tuple[float, float]:
            return (own.at_least / 1000, own.at_most / 1000) if own is not None else tuple(values[key])

        team = Team(wanted.reviewers, wanted.transfer_officers, wanted.supervisors,
                    seconds(wanted.review, "sim.staff.review_s"), seconds(wanted.transfer, "sim.staff.transfer_s"),
                    seconds(None, "sim.staff.inquiry_s"), seconds(None, "sim.staff.handling_s"),
                    values["sim.staff.forgotten_share"] if wanted.forgets is None else wanted.forgets)
        return Staff(self.loop, self.clock, team, self, self.banks, self._office_opens, self.streams, self.approve,
                     self.match_by_hand)

    def _office_opens(self, ms: int) -> int:
        gate = self.calendars.bank_gate("ops_approval", ms)
        return ms if gate.open else gate.opens_ms

    async def procedure(self, procedure_id: int) -> dict[str, Any] | None:
        """What staff see of a Procedure."""
        return await self._served(lambda core: core.sba.procedure(procedure_id))

    async def press(self, operation: str, procedure_id: int, operator: str, role: str, remark: str,
                    params: Mapping[str, Any]) -> str:
        """Press a button; on a version conflict refresh and try again, as people are told to."""
        given = dict(params)
        if operation == "CashDepositReverse":
            given.setdefault("confirmations", REVERSE_CONFIRMATIONS)
        code = Code.NOT_FOUND
        for attempt in range(3):
            shown = await self.procedure(procedure_id)
            if shown is None:
                break
            request = f"{operator}-{procedure_id}-{shown['version']}-{self.clock.now_ms() % 10**10}-{attempt}"
            press = partial(Core.operate, name=operation, procedure_id=procedure_id, version=shown["version"],
                            rpc_request_id=request, by=Actor(operator, Role(role)), remark=remark, **given)
            code = (await self._served(press)).code
            if code not in (Code.VERSION_CONFLICT, Code.LOCK_BUSY):
                break
        return code.name

    async def approve(self, task: int, step: str, operator: str) -> str:
        """Pass the step of a Task that waits for people; the request id makes a repetition harmless."""
        made = await self._served(lambda core: core.withdrawals.approve(
            task, step, Actor(operator, Role.FRONTLINE), f"{operator}-T{task}-{step}"))
        return made.code.name if isinstance(made, Refusal) else Code.OK.name

    async def match_by_hand(self, bank: str, flow: int, operator: str) -> str:
        """Match an entry with the application that fits best, if none fits as well: else it is left for others."""
        by = Actor(operator, Role.FRONTLINE)
        found = await self._served(lambda core: core.matching.manual.candidates(bank, flow, by))
        if isinstance(found, Refusal):
            return found.code.name
        if not found or (len(found) > 1 and len(found[0].fails) == len(found[1].fails)):
            return "NOT_CERTAIN"
        made = await self._served(lambda core: core.matching.manual.match(
            f"{operator}-F{flow}", bank, flow, found[0].wish, by, "plainly this application"))
        return made.code.name if isinstance(made, Refusal) else Code.OK.name

    async def query_bank(self, apply_id: int, operator: str) -> str:
        """Press "Query bank" on a deposit application."""
        bank, _ = await self.application(apply_id)
        code = await self._served(lambda core: core.deposits_at[bank].query_bank(apply_id, operator))
        self.trace.emit("staff", operator, {"operator": operator, "role": "frontline_ops", "action": "QueryBank",
                                            "subject": f"A{apply_id}", "result": code.name})
        return code.name

    async def application(self, apply_id: int) -> tuple[str, str]:
        """(bank, what the bank knows it by) of a deposit application."""
        apply = await self._served(lambda core: core.applications.find(apply_id))
        return (apply.bank_type, apply.request_id or apply.bank_ref_id) if apply else ("", "")

    facts: RunFacts

    def _act(self, action: Action) -> None:
        self._keep(self._do(action))

    async def _do(self, action: Action) -> None:
        operator = {"frontline_ops": "staff_1001", "supervisor": "staff_3001"}.get(action.by, f"staff_{action.by}")
        if action.on is None:
            await self._follow_runbook(action, Actor(operator, Role(action.by)))
            return
        found = self.facts.wish(action.on) if action.on is not None else None
        if found is None:
            self.trace.emit("staff", operator, {
                "operator": operator, "role": action.by, "action": action.do, "subject": str(action.on),
                "result": "NOT_FOUND"})
            return
        number, wish = found
        given = dict(action.parameters)
        remark = given.pop("remark", "")
        if action.do == "QueryBank" and action.on is not None and action.on.kind == "deposit":
            await self.query_bank(number, operator)
        elif action.do == "QueryBank":
            await self._query_withdrawal(number, wish.procedure or 0, operator)
        elif action.do == "SuspendMandate":
            await self._suspend(self.banks[wish.channel], wish.uid)
        elif action.do == "MatchByHand":
            await self._match_application(wish.channel, number, Actor(operator, Role(action.by)), remark)
        else:
            await self.press(action.do, wish.procedure or 0, operator, action.by, remark, given)

    async def _follow_runbook(self, action: Action, by: Actor) -> None:
        """What is done on no deposit or withdrawal."""
        result = await self._served(lambda core: carry_out(action.do, action.parameters, by, core, self.banks))
        self.trace.emit("staff", by.id, {"operator": by.id, "role": by.role, "action": action.do, "subject": "runbook",
                                         "result": result})

    async def _match_application(self, bank: str, apply_id: int, by: Actor, remark: str) -> None:
        """Match an application by hand with the entry that it fits best, as the page of candidates shows it."""
        result = await self._served(lambda core: match_application(core, bank, apply_id, by, remark))
        self.trace.emit("staff", by.id, {"operator": by.id, "role": by.role, "action": "MatchByHand",
                                         "subject": f"A{apply_id}", "result": result})

    async def _query_withdrawal(self, task_id: int, procedure_id: int, operator: str) -> None:
        """Ask the bank about a withdrawal; only a bank-securities transfer has a bank that can be asked."""
        shown = await self.procedure(procedure_id)
        bank = shown["transfer_dest_bank"] if shown is not None else ""
        asked = bank in self.core.withdrawals_at
        if asked:
            await self._served(lambda core: core.withdrawals_at[bank].query_bank(procedure_id))
        self.trace.emit("staff", operator, {
            "operator": operator, "role": "frontline_ops", "action": "QueryBank", "subject": f"T{task_id}",
            "result": "OK" if asked else "NOT_FOUND"})

    async def _suspend(self, bank: BankInWorld, uid: int) -> None:
        """The customer ends the authorization at the bank."""
        tell = bank.suspend(next(one for one in self.customers if one.uid == uid))
        if tell is not None:
            await self._served(tell)

    # Asking at the end

    def uid_of(self, customer: str | int) -> int:
        """The uid of a customer as a scenario writes him."""
        return self.customers[index_of(customer, self.scenario)].uid

    async def entries(self) -> Counter[tuple[str, str]]:
        """(bank, status) -> credit entries of its statements."""
        since, until = self.scenario.start - MS_PER_DAY, self.clock.now_ms() + 1
        found = Counter[tuple[str, str]]()
        for bank in self.receivers:
            flows = await self.core.statements.between(bank, since, until)
            found.update((bank, STATUS_NAMES[flow.status]) for flow in flows if flow.dr_cr == "C")
        return found

    async def balances(self) -> dict[tuple[int, str], Balance]:
        """(place of the customer, ccy) -> money of the customers whom expectations may name."""
        found: dict[tuple[int, str], Balance] = {}
        for customer in self.customers[: len(self.scenario.customers)] or self.customers[:1000]:
            for ccy in self.names.currencies:
                ours = await self.core.risk_control.balances(customer.trade_acc_ids[0], ccy)
                at_bank = sum(bank.balance(customer, ccy) for bank, _ in self._authorized(customer))
                found[customer.index, ccy] = Balance(ours.available, ours.frozen, ours.in_transit, at_bank)
        return found
