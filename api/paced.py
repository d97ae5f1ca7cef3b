"""A scenario's world as a paced run: banks on real loopback sockets, one loop with the core, wishes from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from rich.console import Console
from rich.markup import escape
from starlette.types import ASGIApp

from api.emulate import pace, port_of, print_line, speed_of
from api.serve import Wish, serve
from core.banks.airstar import Endpoint, HttpxEndpoint
from core.calendars.windows import BST_BANKS
from core.clock import Clock
from core.domain import Initiator
from core.errors import Misconfigured
from core.settings import Settings
from core.trace import Trace
from emulators import numbered_faults
from emulators.airstar import faults as airstar_faults
from emulators.bochk import faults as bochk_faults
from emulators.bst import faults as socket_faults
from emulators.edda import faults as edda_faults
from emulators.ewb.bank import AIM as EWB_AIM
from emulators.faults import FaultKind, Parameter
from emulators.hsbc import faults as hsbc_faults
from emulators.icbc import faults as icbc_faults
from emulators.loop import LoopClock
from emulators.receiving import ReceivingBank
from emulators.standalone.fault_control import described
from emulators.standalone.http import HttpFace
from emulators.standalone.loop import ServedLoop
from emulators.standalone.pace import Wrong
from emulators.standalone.standing import Named, aimed, named, timed
from scenarios.banks import AIRSTAR, STATEMENT_BANKS, EddaInWorld, OnLoopback, faults_of
from scenarios.names import names
from scenarios.reading import load
from scenarios.schema import Names, Scenario
from scenarios.workload import Arrival, Kind
from scenarios.world import World

NO_ENTRY = -1
"""Of an arrival that no entry of the scenario has made."""


class Faulty(Protocol):
    """Where faults of a bank are put and ended: every emulated bank."""

    def fault(self, name: str, **params: Any) -> str: ...
    def clear(self, fault_id: str) -> None: ...


class BankInRun(NamedTuple):
    """One bank of the run, of whatever kind. ``kinds``: its faults; ``aim``: what each takes besides its own
    parameters; ``state``: its view of itself, for people."""

    bank: Faulty
    kinds: Mapping[str, FaultKind]
    aim: Mapping[str, Parameter]
    customers: Callable[[], Sequence[Named]]
    state: Callable[[], dict[str, Any]]
    in_force: Callable[[], list[dict[str, Any]]]


class ServedPlaces(OnLoopback):
    """Real sockets on free ports of 127.0.0.1. HTTP connections keep real time, and no server of a bank listens to the
    signals of the process."""

    def __init__(self, loop: ServedLoop, idle_s: int) -> None:
        super().__init__()
        self._loop, self._idle_s = loop, idle_s
        self._closing: list[HttpFace | HttpxEndpoint] = []

    async def endpoint(self, app: ASGIApp, host: str, latency: Callable[[], int]) -> Endpoint:  # noqa: ARG002 - real
        face = HttpFace(app, self._loop, self._idle_s)
        line = HttpxEndpoint(f"http://{self.HOST}:{await face.listen(self.HOST, 0)}")
        self._closing += [line, face]
        return line

    async def close(self) -> None:
        for end in self._closing:
            await end.close()
        await super().close()


class ServedWorld:
    """Implements `api.serve.PacedWorld` over a `scenarios.world.World`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._begun = False
        self._banks = _banks(world)
        self._tables = {f"{name}.{fault}": row for name, bank in self._banks.items()
                        for fault, row in described(bank.kinds, bank.aim).items()}
        self._unaimed = [name for name in world.names.unaimed if name in self._tables]  # they strike every customer
        for name in self._unaimed:
            self._tables[name]["parameters"].pop("customer", None)

    @property
    def clock(self) -> Clock:
        return self._world.clock

    @property
    def trace(self) -> Trace:
        return self._world.trace

    @property
    def settings(self) -> Settings:
        return self._world.settings

    @property
    def title(self) -> str:
        return self._world.scenario.title

    @property
    def fault(self) -> BaseException | None:
        core_fault = self._world.core.fault if self._begun else None
        return self._world.fault or core_fault

    async def begin(self) -> None:
        await self._world.begin()
        self._begun = True

    async def run(self) -> None:
        await self._world.run()

    async def close(self) -> None:
        if self._begun:
            await self._world.core.stop()
        await self._world.close()

    def check(self, ms: int) -> None:
        for bank in BST_BANKS:
            self._world.calendars.bank_gate(bank, ms)

    def banks(self) -> dict[str, dict[str, Any]]:
        shown = {name: timed(bank.state()) for name, bank in self._banks.items()}
        for name, rooms in self._world.core.sockets.items():
            shown[name]["line"] = {"connected": rooms.gateway.available, **rooms.gateway.servers.state()}
        return shown

    # Wishes

    def wish(self, wish: Wish) -> None:
        world, known = self._world, self._world.names
        channels = known.deposit_channels if wish.kind == "deposit" else known.withdrawal_channels
        served = [channel for channel in channels if not wish.at_bank or channel in world.banks]
        if wish.channel not in served:
            begun = f"{wish.kind} begun at the bank" if wish.at_bank else wish.kind
            raise Wrong(f"channel: there is no {begun} by {wish.channel!r}: choose of {', '.join(served)}")
        customer = named(world.customers, wish.customer)
        if channels[wish.channel] not in customer.cards:
            cards = ", ".join(customer.cards) or "none at all"
            raise Wrong(f"channel: {customer.id} has no card at {channels[wish.channel]}: there are: {cards}")
        if wish.ccy not in known.markets[wish.market]:
            raise Wrong(f"ccy: market {wish.market} takes {', '.join(known.markets[wish.market])}")
        kind: Kind = "deposit" if wish.kind == "deposit" else "withdraw"
        by = Initiator.BANK if wish.at_bank else Initiator.MOOMOO
        world.arrive(Arrival(world.clock.now_us(), kind, customer.index, wish.channel, wish.market, wish.ccy,
                             wish.amount, by, NO_ENTRY))

    # Faults of the banks

    def fault_table(self) -> Mapping[str, dict[str, Any]]:
        return self._tables

    def put_fault(self, name: str, params: Mapping[str, Any]) -> str:
        place, _, kind = name.partition(".")
        bank = self._banks[place]
        if params.get("customer") is not None and name in self._unaimed:
            raise Misconfigured(f"{kind} strikes every customer", where="faults", remedy="leave customer out")
        aimed(params, bank.customers())
        return bank.bank.fault(kind, **params)

    def clear_fault(self, fault_id: str) -> None:
        self._banks[fault_id.partition(":")[0]].bank.clear(fault_id)

    def faults_in_force(self) -> list[dict[str, Any]]:
        return [fault for bank in self._banks.values() for fault in bank.in_force()]


def _banks(world: World) -> dict[str, BankInRun]:
    """Every bank of the run, by the name that scenarios give it."""
    found = {AIRSTAR: _securities(world.airstar.bank, airstar_faults.FAULTS, airstar_faults.AIM)}
    found |= {name: _securities(bank.bank, socket_faults.FAULTS, socket_faults.AIM)
              for name, bank in world.sockets.items()}
    found |= {name: _receiving(name, bank.bank, world) for name, bank in world.receivers.items()}
    return found | {name: _debiting(bank, world) for name, bank in world.debiting.items()}


def _securities(bank: Any, kinds: Mapping[str, FaultKind], aim: Mapping[str, Parameter]) -> BankInRun:
    """A bank of bank-securities transfer."""
    return BankInRun(bank, kinds, aim, bank.customers, lambda: _without_money(bank.state()),
                     lambda: list(bank.state()["faults"]))


def _receiving(name: str, bank: ReceivingBank, world: World) -> BankInRun:
    """A bank of statements: closed in its maintenance only; its accounts of ours with the lines of each."""

    def state() -> dict[str, Any]:
        return {"open": not world.calendars.in_maintenance(name, world.clock.now_ms()),
                "customers": len(bank.customers()),
                "statements": {number: sum(1 for _ in bank.lines(number)) for number in bank.our_accounts.values()}}

    return BankInRun(bank, STATEMENT_BANKS[name].faults, _AIMS.get(name, numbered_faults.AIM), bank.customers, state,
                     bank.faults.shown)


def _debiting(debits: EddaInWorld, world: World) -> BankInRun:
    """An interface of direct debit: the states of its debits, and whether it takes any now."""
    bank = debits.bank

    def state() -> dict[str, Any]:
        now = world.clock.now_ms()
        closed = world.calendars.in_maintenance(debits.of, now) or not world.calendars.bank_gate(debits.name, now).open
        return {"open": not closed, "customers": len(bank.debtors()), "debits": bank.totals()}

    return BankInRun(bank, faults_of(debits.name), edda_faults.AIM, bank.debtors, state, bank.faults_shown)


_AIMS: Final = {"bochk": bochk_faults.AIM, "hsbc": hsbc_faults.AIM, "icbc": icbc_faults.AIM, "ewb": EWB_AIM}
"""Of the statement banks that do not number their credits."""


def _without_money(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if name not in ("totals", "faults")}


def paced_world(scenario: Scenario, known: Names, loop: ServedLoop) -> ServedWorld:
    """The world of a scenario on ``loop``, its banks on free loopback ports and with signed bytes, whatever fidelity
    the scenario names. Nothing listens before `begin`."""
    scenario = scenario.model_copy(update={"wire": "full"})
    clock = LoopClock(loop, scenario.start)
    places = ServedPlaces(loop, Settings(scenario.settings)["standalone.http.idle_s"])
    return ServedWorld(World(scenario, known, loop, Trace(clock), clock, places))


def serve_scenario(
    scenario: str | None, *, speed: float | None, host: str | None, port: int | None, seed: int | None,
    overlay: Mapping[str, Any], as_json: bool,
) -> None:
    """Serve a scenario until a signal comes; what is absent is taken from the settings ``standalone.*``."""
    known = names()
    loaded = load(scenario or Settings(overlay)["standalone.serve.scenario"], known, seed=seed, overlay=overlay)
    settings = Settings(loaded.settings)
    serve(lambda loop: paced_world(loaded, known, loop), speed=speed_of(settings, speed),
          host=host or settings["standalone.host"],
          port=port_of(settings["standalone.serve.port"] if port is None else port, "--port"),
          announce=print_line if as_json else _print_lines)


def _print_lines(shown: Mapping[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{escape(shown['title'])}[/bold], {shown['clock']['virtual_time']} Hong Kong time, "
                  f"{pace(shown['clock']['speed'])}")
    console.print(f"  control  {shown['control']}", markup=False)
    console.print(f"  banks    {', '.join(shown['banks'])}", markup=False)
    console.print("Ctrl-C ends it.")
