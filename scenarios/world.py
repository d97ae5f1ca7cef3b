"""A world: one core, the emulated bank, its customers and staff, on one virtual clock, as a scenario describes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from core.accounts import Accounts
from core.assets import RiskControl
from core.banks.airstar import Exchange, SignedExchange
from core.calendars import Calendars
from core.cards.mandates import Mandates
from core.clock import US_PER_MS, US_PER_S, from_yyyymmdd
from core.domain import Initiator, MandateStatus, Market, Role
from core.errors import Code, Misconfigured, Refusal
from core.locks import LocalLocks, Locks
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from core.orchestration.records import Actor
from core.runtime import Core, Surroundings
from core.settings import Settings
from core.storage import Databases, Severed, StorageConfig, open_databases
from core.trace import Trace
from core.wire.airstar import Reply, Request, find_route
from emulators.airstar import keys
from emulators.airstar.app import airstar_app
from emulators.airstar.bank import AirstarBank
from emulators.airstar.link import AsgiLink, MessageLink
from emulators.loop import LoopClock, SimLoop
from emulators.rpc import SimulatedRpc
from emulators.staff import Staff, Team
from emulators.streams import Streams, lognormal
from scenarios.expectations import Balance
from scenarios.facts import RunFacts
from scenarios.population import Customer, build, index_of
from scenarios.schema import Action, Fault, Names, Scenario
from scenarios.workload import Arrival, arrivals

BANK = "airstar"
PATIENCE_S = 1.0
"""How soon people try again when the core does not answer."""
CARD_STEP = 100  # card ids: customer index * CARD_STEP + place of the bank
_KILL_MESSAGES = {"send:AsbBstTransfer": "withdraw", "send:AsbBstCreateJob": "deposit",
                  "poll:AsbBstTransfer": "query_withdrawal", "poll:AsbBstCreateResultJob": "query_deposit"}


T = TypeVar("T")


class Lines:
    """What connects one core with what outlives it: the lock service and the bank. A dead core's lines are cut, so
    it can neither let go of a lock (only its TTL does) nor say another word to the bank."""

    def __init__(self, locks: Locks, exchange: Exchange) -> None:
        self._locks, self._exchange, self._cut = locks, exchange, False

    def cut(self) -> None:
        """The core is dead."""
        self._cut = True

    def _alive(self) -> None:
        if self._cut:
            raise Severed("the core of this line was killed")

    async def acquire(self, key: str, owner: str, ttl_ms: int, wait_ms: int = 0) -> str | None:
        self._alive()
        return await self._locks.acquire(key, owner, ttl_ms, wait_ms)

    async def renew(self, key: str, token: str, ttl_ms: int) -> bool:
        self._alive()
        return await self._locks.renew(key, token, ttl_ms)

    async def release(self, key: str, token: str) -> bool:
        self._alive()
        return await self._locks.release(key, token)

    async def ask(self, request: Request) -> Reply:
        """The core's line to the bank."""
        self._alive()
        reply = await self._exchange(request)
        self._alive()  # an answer that comes after the end is heard by nobody
        return reply


class CustomerAccounts:
    """The account service as the core asks it, over the scenario's customers."""

    def __init__(self, customers: list[Customer], names: Names, risk_control: RiskControl) -> None:
        self._by_uid = {customer.uid: customer for customer in customers}
        self._customers, self._banks, self._risk = customers, names.banks, risk_control

    async def trade_account(self, uid: int, market: int) -> int:  # noqa: ARG002 - one account serves all markets here
        return self._by_uid[uid].trade_acc_ids[0]

    async def owns_card(self, uid: int, bank: str, card_no: str) -> bool:
        customer = self._by_uid.get(uid)
        return customer is not None and bank in customer.cards and customer.cards[bank].number == card_no

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        return (await self._risk.balances(trade_acc_id, ccy)).available

    async def card_no(self, card_id: int) -> str:
        customer = self._customers[card_id // CARD_STEP]
        return customer.cards[self._banks[card_id % CARD_STEP]].number


class World:
    """Build with `begin`; afterwards `run` to the end of the scenario."""

    def __init__(self, scenario: Scenario, names: Names, loop: SimLoop, trace: Trace, clock: LoopClock) -> None:
        self.scenario, self.names, self.loop, self.trace, self.clock = scenario, names, loop, trace, clock
        self.streams = Streams(scenario.seed)
        self.settings = Settings(scenario.settings)
        self.calendars = Calendars(self.settings)
        self.customers = build(scenario, names, self.streams)
        self.locks = LocalLocks(clock)
        self.rpc = SimulatedRpc(self.streams("rpc"), self.settings)
        self.bank = AirstarBank(
            loop, clock, self.streams, trace, self.settings,
            is_open=lambda ms: self.calendars.bank_gate(BANK, ms).open,
            in_maintenance=lambda ms: self.calendars.maintenance(BANK, ms).under_way)
        self.mandates: dict[int, str] = {}
        self.databases: Databases
        self.core: Core
        self.kills = 0
        self._down = False
        self._lines: Lines
        self._on_commit: Callable[[str, int], None] | None = None
        self._stopped: dict[str, None] = {}  # jobs that a fault has stopped, for every core to come
        self._exchange = self._line()
        self._armed: list[tuple[str, int, list[int]]] = []  # (message, restart after ms, [times left])
        self._background: dict[asyncio.Task[Any], None] = {}
        self.fault: BaseException | None = None
        loop.set_exception_handler(self._failed)

    # Building

    def _line(self) -> Exchange:
        """The line to the bank in the fidelity the scenario asks for; adapter and bank do not know which."""
        rng = self.streams("airstar.line")
        median, p99 = self.settings["sim.airstar.link.median"], self.settings["sim.airstar.link.p99"]

        def latency() -> int:
            return round(lognormal(rng, median, p99) * US_PER_S)

        if self.scenario.wire == "messages":
            return MessageLink(self.bank, self.loop, self.clock, latency,
                               timeout_s=self.settings["airstar.api.timeout"])
        key = keys.in_memory()
        app = airstar_app(self.bank, {"nostro": key.public_key()})
        nonces = self.streams("airstar.nonces")
        return SignedExchange(AsgiLink(app, self.loop, latency), "nostro", key, self.clock,
                              lambda: nonces.randbytes(16), timeout_s=self.settings["airstar.api.timeout"])

    async def begin(self) -> None:
        """Open the books, then start the core."""
        self.databases = await open_databases(StorageConfig("memory"))
        self._enroll_at_bank()
        await self._enroll_with_us(RiskControl(self.databases.assets, self.clock, self.trace))
        await self._compose()

    async def _compose(self) -> None:
        def accounts(risk_control: RiskControl) -> Accounts:
            return CustomerAccounts(self.customers, self.names, risk_control)

        self._lines = Lines(self.locks, self._ask_bank)
        self.core = Core(Surroundings(
            self.settings, self.databases, self.clock, self.trace, self._lines, self.rpc, self.calendars,
            self._lines.ask, accounts, f"core-{self.kills + 1}"))
        for job in self._stopped:
            self._pause(job)
        await self.core.start()

    def _enroll_at_bank(self) -> None:
        for customer in self.customers:
            card = customer.cards.get(BANK)
            if card is None:
                continue
            held = {ccy: customer.at_bank.get(ccy, 0) for ccy in self.names.currencies}
            self.bank.open_customer(customer.id, customer.name, f"h{customer.uid}", held, card.number)
            mandate = self.bank.grant_mandate(customer.id)
            if card.mandate == MandateStatus.SUSPENDED.name:
                self.bank.suspend_mandate(mandate)
            elif card.mandate == MandateStatus.CLOSED.name:
                self.bank.close_mandate(mandate)
            self.mandates[customer.index] = mandate

    async def _enroll_with_us(self, risk_control: RiskControl) -> None:
        """Opening balances and mandates, taken over from the day before."""
        books = Mandates(self.databases.account, self.clock, self.trace, None, self.settings)  # type: ignore[arg-type]
        for customer in self.customers:
            for ccy, amount in customer.balances.items():
                if amount:
                    await risk_control.add(f"OPENING:{customer.uid}:{ccy}", customer.trade_acc_ids[0], ccy, amount)
            mandate = self.mandates.get(customer.index)
            if mandate is not None:
                await books.adopt(customer.uid, self.card_id(customer, BANK), mandate,
                                  MandateStatus[customer.cards[BANK].mandate])

    def card_id(self, customer: Customer, bank: str) -> int:
        """Our id of a customer's card."""
        return customer.index * CARD_STEP + self.names.banks.index(bank)

    # Running

    async def run(self) -> None:
        """Everything the scenario says, until its end."""
        for override in self.scenario.overrides:
            self._at(override.known_from, self._override, override)
        for fault in self.scenario.faults:
            self._at(fault.at, self._inject, fault)
        for action in self.scenario.staff.actions:
            self._at(action.at, self._act, action)
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
            self._arrive(arrival)

    def _arrive(self, arrival: Arrival) -> None:
        if arrival.initiator is Initiator.BANK:
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
        refused = await core.airstar_deposits.submit(
            customer.uid, customer.trade_acc_ids[0], Market[arrival.market], self.card_id(customer, BANK),
            customer.cards[BANK].number, arrival.ccy, arrival.amount)
        if isinstance(refused, Refusal):
            self.trace.emit("refused", f"U{customer.uid}", {
                "operation": "SubmitDeposit", "code": refused.code.name, "detail": refused.detail,
                "operator": f"user_{customer.uid}"})

    async def _withdraw(self, core: Core, arrival: Arrival) -> None:
        customer = self.customers[arrival.customer]
        bank = self.names.withdrawal_channels[arrival.channel]
        method = "auto_bs" if arrival.channel == BANK else arrival.channel
        await core.withdrawals.submit(
            customer.uid, customer.trade_acc_ids[0], Market[arrival.market], self.card_id(customer, bank),
            customer.cards[bank].number, bank, arrival.ccy, arrival.amount, method)

    def _ask_at_bank(self, arrival: Arrival) -> None:
        customer = self.customers[arrival.customer]
        ask = self.bank.customer_deposits if arrival.kind == "deposit" else self.bank.customer_withdraws
        started = ask(self.mandates[customer.index], Market[arrival.market], arrival.ccy, arrival.amount)
        if not started.request_id:
            self.trace.emit("refused", f"U{customer.uid}", {
                "operation": "AskAtBank", "code": str(started.code), "detail": "refused by the bank at once",
                "operator": f"user_{customer.uid}"})

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
        fault_id = f"F{fault.inject}@{fault.at}"
        begun = {"fault": fault.inject, "target": str(fault.only.customer if fault.only else ""), "phase": "begin",
                 "params": dict(fault.parameters)}
        if place != BANK:  # the bank tells of its own faults itself
            self.trace.emit("fault", fault_id, begun)
        end = getattr(self, f"_inject_{place}")(kind, fault)
        if fault.lasts is not None and end is not None:
            self.loop.call_after_us(fault.lasts * US_PER_MS, self._end_fault, fault_id, begun, end, place)

    def _end_fault(self, fault_id: str, begun: dict[str, Any], end: Callable[[], None], place: str) -> None:
        end()
        if place != BANK:
            self.trace.emit("fault", fault_id, begun | {"phase": "end"})

    def _inject_airstar(self, kind: str, fault: Fault) -> Callable[[], None]:
        given = dict(fault.parameters) | {"share": fault.share, "count": fault.times}
        if fault.only is not None and fault.only.customer is not None:
            given["customer"] = self.customers[index_of(fault.only.customer, self.scenario)].id
        if fault.only is not None and fault.only.kind is not None:
            given["message"] = "deposit" if fault.only.kind == "deposit" else "withdraw"
        fault_id = self.bank.fault(kind, **given)
        return lambda: self.bank.clear(fault_id)

    def _inject_rpc(self, kind: str, fault: Fault) -> Callable[[], None]:
        call = fault.parameters["call"]
        self.rpc.fault(kind, call, self.streams(f"rpc.{call}"), fault.share)
        return lambda: self.rpc.clear(call)

    def _inject_core(self, kind: str, fault: Fault) -> None:  # noqa: ARG002 - there is one kind: kill
        self._armed.append((_KILL_MESSAGES[fault.parameters["at"]], fault.parameters["restart_after"],
                            [fault.times or 1]))

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

    async def _ask_bank(self, request: Request) -> Reply:
        """The core's line to the bank, on which the core may die after the bank has acted."""
        reply = await self._exchange(request)
        if self._armed:
            self._die_if_armed(request)
        return reply

    def _die_if_armed(self, request: Request) -> None:
        route = find_route(request.method, request.path)
        for message, restart_ms, left in self._armed:
            if left[0] and route is not None and route[0] == message:
                left[0] -= 1
                self.kill(restart_ms)

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
        self._lines.cut()
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
        return Staff(self.loop, self.clock, team, self, self.bank, self._office_opens, self.streams)

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

    async def query_bank(self, apply_id: int, operator: str) -> str:
        """Press "Query bank" on a deposit application."""
        code = await self._served(lambda core: core.airstar_deposits.query_bank(apply_id, operator))
        self.trace.emit("staff", operator, {"operator": operator, "role": "frontline_ops", "action": "QueryBank",
                                            "subject": f"A{apply_id}", "result": code.name})
        return code.name

    async def apply_request(self, apply_id: int) -> str:
        """The bank's request id of an application."""
        apply = await self._served(lambda core: core.applications.find(apply_id))
        return apply.request_id if apply else ""

    facts: RunFacts

    def _act(self, action: Action) -> None:
        self._keep(self._do(action))

    async def _do(self, action: Action) -> None:
        operator = {"frontline_ops": "staff_1001", "supervisor": "staff_3001"}.get(action.by, f"staff_{action.by}")
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
            await self._served(lambda core: core.airstar_withdrawals.query_bank(wish.procedure or 0))
        elif action.do == "SuspendMandate":
            await self._suspend(wish.uid)
        else:
            await self.press(action.do, wish.procedure or 0, operator, action.by, remark, given)

    async def _suspend(self, uid: int) -> None:
        customer = next(one for one in self.customers if one.uid == uid)
        mandate = self.mandates[customer.index]
        if self.bank.suspend_mandate(mandate):
            await self._served(lambda core: core.mandates.bank_says(mandate, MandateStatus.SUSPENDED))

    # Asking at the end

    def uid_of(self, customer: str | int) -> int:
        """The uid of a customer as a scenario writes him."""
        return self.customers[index_of(customer, self.scenario)].uid

    async def balances(self) -> dict[tuple[int, str], Balance]:
        """(place of the customer, ccy) -> money of the customers whom expectations may name."""
        found: dict[tuple[int, str], Balance] = {}
        for customer in self.customers[: len(self.scenario.customers)] or self.customers[:1000]:
            for ccy in self.names.currencies:
                ours = await self.core.risk_control.balances(customer.trade_acc_ids[0], ccy)
                at_bank = self.bank.balance(customer.id, ccy) if customer.index in self.mandates else 0
                found[customer.index, ccy] = Balance(ours.available, ours.frozen, ours.in_transit, at_bank)
        return found
