"""A stand-alone bank as a process: builds it, listens, serves until a signal comes, and begins again on demand.

The bank's state lives in memory: it is fresh at every start and after every reset. Its keys are kept in a folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastapi import APIRouter

from core.calendars import Calendars
from core.calendars.tables import OutsideCalendar
from core.calendars.windows import GATES
from core.clock import MS_PER_DAY, MS_PER_S
from core.errors import Misconfigured
from core.settings import Settings
from core.trace import Trace
from core.wire.sm2 import Entropy
from emulators.fps.bank import BANKS as FPS_BANKS
from emulators.loop import LoopClock
from emulators.mailbox.bank import BANKS as MAILBOXES
from emulators.standalone.airstar import StandingAirstar
from emulators.standalone.bochk import StandingBochk
from emulators.standalone.control import bank_control
from emulators.standalone.credits import StandingCredits
from emulators.standalone.customers import NewCustomer
from emulators.standalone.debit_control import debit_routes
from emulators.standalone.ewb import StandingEwb
from emulators.standalone.fault_control import FaultControl, described
from emulators.standalone.http import HttpFace
from emulators.standalone.icbc import StandingIcbc
from emulators.standalone.journal import Journal
from emulators.standalone.loop import ServedLoop
from emulators.standalone.pace import Pace, Wrong
from emulators.standalone.process import ended_by_broken_rules, ended_by_signals
from emulators.standalone.push_control import push_routes
from emulators.standalone.sockets import StandingSocketBank
from emulators.standalone.standing import Refused, Site, Standing
from emulators.standalone.web import Remembered
from emulators.standalone.words import moment_ms, show_moment
from emulators.streams import Streams

Routes = Callable[[Callable[[], Any]], APIRouter]
"""What one bank's control interface has besides; it is given how the bank that stands now is had."""


class Kind(NamedTuple):
    """How a bank is built, how many ports it has, one after the other, and what can be done to it alone."""

    make: Callable[[Site], Standing]
    ports: int
    routes: Routes | None = None
    of: str = ""
    """Direct debit: the bank whose it is, and whose maintenance it keeps."""
    skew: str = ""
    """Of a bank that checks the time in messages: the setting that says how far it may be off, in seconds."""
    timed: str = "requests"
    """Which messages these are."""


def _hsbc(site: Site) -> Standing:
    from emulators.standalone.hsbc import StandingHsbc  # AsyncSSH takes long to import

    return StandingHsbc(site)


def _debits(bank: str) -> Callable[[Site], Standing]:
    def make(site: Site) -> Standing:
        from emulators.standalone.debits import StandingDebits

        return StandingDebits(bank, site)

    return make


BANKS: Final[dict[str, Kind]] = {
    "airstar": Kind(StandingAirstar, 1, skew="airstar.api.clock_skew"),
    "cmb": Kind(partial(StandingSocketBank, "cmb"), 3, skew="sim.cmb.clock_skew", timed="requests for the day list"),
    "cmbc": Kind(partial(StandingSocketBank, "cmbc"), 2),
    "icbc": Kind(StandingIcbc, 2, skew="sim.icbc.clock_skew_s"),
    "bochk": Kind(StandingBochk, 2),
    "hsbc": Kind(_hsbc, 1, push_routes),
    "ewb": Kind(StandingEwb, 1),
    "hsbc_eddi": Kind(_debits("hsbc"), 2, debit_routes, "hsbc", "edda.api.clock_skew_s"),
    "hase_eddi": Kind(_debits("hase"), 1, debit_routes, "hase", "edda.api.clock_skew_s"),
    **{bank: Kind(partial(StandingCredits, bank), 1, skew="sim.credits.clock_skew_s") for bank in FPS_BANKS},
    **{bank: Kind(partial(StandingCredits, bank), 1) for bank in MAILBOXES},
}

STATE_IS = "in memory only: fresh at every start and after POST /reset; the keys are kept"


class Options(NamedTuple):
    """What a person chose. ``customers`` None: those of the settings; ``port`` 0: any free ports."""

    bank: str
    host: str
    port: int
    control_port: int
    speed: float
    seed: int
    start_ms: int
    folder: Path
    settings: Settings
    customers: Sequence[NewCustomer] | None
    always_open: bool


class BankServer:
    """Implements `emulators.standalone.control.StandAlone`. ``entropy`` gives bytes that nobody can foresee."""

    def __init__(self, options: Options, loop: ServedLoop, entropy: Entropy) -> None:
        self._options, self._loop, self._entropy = options, loop, entropy
        settings = self._settings = options.settings
        self._kind = BANKS[options.bank]
        self._ports = [options.port + n if options.port else 0 for n in range(self._kind.ports)]
        self._start_ms = options.start_ms
        self.seed = options.seed
        self.page = int(settings["standalone.control.page"])
        self.journal = Journal(settings["standalone.control.journal"])
        self._calendars = Calendars(settings)
        self._check(options.start_ms)
        self.stopped: asyncio.Future[None] = loop.create_future()
        clock = LoopClock(loop, options.start_ms)
        self.pace = Pace(loop, clock, check=self._check, fastest=settings["standalone.control.fastest"],
                         longest_ms=round(settings["standalone.control.longest_advance"] * MS_PER_DAY))
        self.faults = FaultControl(self, clock)
        self.standing = self._build(clock)
        self._remembered = Remembered(bank_control(self), settings["standalone.control.answers"],
                                      settings["standalone.http.body_limit"])
        self._control = HttpFace(self._remembered, loop, settings["standalone.http.idle_s"])
        self._control_port = 0

    def _build(self, clock: LoopClock) -> Standing:
        options = self._options
        standing = self._kind.make(Site(
            self._loop, clock, Streams(self.seed), Trace(clock), self._settings, self._is_open, self._in_maintenance,
            options.folder, self._entropy, self.journal))
        for customer in self._first_customers(standing.currencies):
            try:
                self._add(standing, customer)
            except Refused as error:
                raise Misconfigured(str(error), where="customers") from None
        return standing

    def _add(self, standing: Standing, customer: NewCustomer) -> None:
        if customer.debtor_bank and not self._kind.of:
            raise Refused(f"{customer.id}: debtor_bank: only direct debit reaches other banks: leave it out")
        standing.add(customer)

    def _first_customers(self, currencies: Sequence[str]) -> list[NewCustomer]:
        if self._options.customers is None:
            rows = self._settings["standalone.customers"]
            return [NewCustomer.model_validate(row).kept_by(currencies) for row in rows]
        for customer in self._options.customers:
            unkept = customer.beyond(currencies)
            if unkept:
                raise Misconfigured(f"{customer.id}: {self._options.bank} keeps no {unkept[0]}", where="customers",
                                    remedy=f"choose of {', '.join(currencies)}")
        return list(self._options.customers)

    # The bank's calendar

    def _check(self, ms: int) -> None:
        """`Misconfigured` for a moment that no calendar covers; a bank of statements only has no gate (B-17)."""
        if self._options.bank in GATES:
            self._calendars.bank_gate(self._options.bank, ms)

    def _is_open(self, ms: int) -> bool:
        if self._options.always_open or self._options.bank not in GATES:
            return True
        return self._asked(lambda: self._calendars.bank_gate(self._options.bank, ms).open)

    def _in_maintenance(self, ms: int) -> bool:
        if self._options.always_open:
            return False
        return self._asked(lambda: self._calendars.in_maintenance(self._kind.of or self._options.bank, ms))

    def _asked(self, ask: Callable[[], bool]) -> bool:
        """The end of the calendars is the end of the server, whoever came to it."""
        try:
            return ask()
        except OutsideCalendar as outside:
            self.stop(outside)
            raise

    # Serving

    async def open(self) -> None:
        """Listen for clients and for control."""
        options = self._options
        found = await self.standing.open(options.host, self._ports)
        self._ports = list(found.values())
        self._control_port = await self._control.listen(options.host, options.control_port)

    async def close(self) -> None:
        """End every connection and listen no more."""
        await self.standing.close()
        await self._control.close()

    def stop(self, error: BaseException | None = None) -> None:
        """Serve no longer; ``error`` is why, if it is not by wish."""
        if self.stopped.done():
            return
        if error is None:
            self.stopped.set_result(None)
        else:
            self.stopped.set_exception(error)

    def shown(self) -> dict[str, Any]:
        """What a client and a person need to know, once it listens."""
        control = f"http://{self._options.host}:{self._control_port}"
        return {
            "bank": self._options.bank, "virtual_time": show_moment(self.pace.clock.now_ms()),
            "speed": self._options.speed, "seed": self.seed, "addresses": self.standing.addresses(),
            "control": control, "credentials": self.standing.credentials(), "customers": self.standing.customers(),
            "clock": self._clock_is(), "state": STATE_IS,
        }

    def _clock_is(self) -> str | None:
        """What a client's clock has to do with the bank's; None where no time in a message is checked (N-018)."""
        kind = self._kind
        if not kind.skew:
            return None
        return (f"{kind.timed} whose time is more than {self._settings[kind.skew]:g} s off the bank's are refused: "
                "start it with --start now --speed 1, or stamp them with its time (GET /state)")

    # What the control interface asks

    def own_routes(self) -> APIRouter | None:
        """What the control interface of this bank has besides that of every bank."""
        return None if self._kind.routes is None else self._kind.routes(lambda: self.standing)

    def customer_added(self, customer: NewCustomer) -> None:
        """A customer by the control interface."""
        self._add(self.standing, customer)

    @property
    def reset(self) -> Callable[[int | None, int | None], Awaitable[None]]:
        return self._begin_again

    async def _begin_again(self, seed: int | None, start_ms: int | None) -> None:
        """A fresh bank on the same ports."""
        self.pace.refuse_while_advancing()
        if start_ms is not None:
            try:
                self._check(start_ms)
            except OutsideCalendar as outside:
                raise Wrong(f"start: {show_moment(start_ms)}: {outside}") from None
            self._start_ms = start_ms
        if seed is not None:
            self.seed = seed
        await self.standing.close()
        self._loop.begin_again()
        clock = LoopClock(self._loop, self._start_ms)
        self.pace.clock = self.faults.clock = clock
        self.journal.clear()
        self._remembered.forget()
        self.standing = self._build(clock)
        try:
            await self.standing.open(self._options.host, self._ports)
        except Misconfigured as taken:  # somebody was quicker: without its ports the bank is nothing
            self.stop(taken)
            raise

    def fault_table(self) -> dict[str, dict[str, Any]]:
        """As `emulators.standalone.fault_control.FaultPort` says."""
        return described(self.standing.faults, self.standing.aim)

    def put_fault(self, name: str, params: Mapping[str, Any]) -> str:
        return self.standing.put_fault(name, params)

    def clear_fault(self, fault_id: str) -> None:
        self.standing.clear_fault(fault_id)

    def faults_in_force(self) -> list[dict[str, Any]]:
        return self.standing.faults_in_force()


def serve(options: Options, entropy: Entropy, announce: Callable[[dict[str, Any]], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``announce`` is called once everything listens."""
    loop = ServedLoop(options.speed)
    try:
        server = BankServer(options, loop, entropy)
        loop.set_exception_handler(ended_by_broken_rules(server.stop))
        with ended_by_signals(server.stop, loop):
            loop.run_until_complete(until_stopped(server, announce))
    finally:
        loop.close()


async def until_stopped(server: BankServer, announce: Callable[[dict[str, Any]], None]) -> None:
    """Open, announce, wait for the end, close."""
    try:
        await server.open()
        announce(server.shown())
        await server.stopped
    finally:
        await server.close()


def start_of(text: str, now_ms: int) -> int:
    """``now`` or a Hong Kong time in epoch ms; `Misconfigured` for anything else."""
    if text == "now":
        return now_ms // MS_PER_S * MS_PER_S
    try:
        return moment_ms(text)
    except ValueError as error:
        raise Misconfigured(str(error), where="--start", remedy="or 'now'") from None
