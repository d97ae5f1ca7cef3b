"""Run a scenario: one world on a virtual clock, judged at every event, its results in one folder.

This is the only module of the simulation that looks at the wall clock: to say how long a run took.
"""

from __future__ import annotations

import asyncio
import math
import resource
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from core.banks.socket.settings import check_socket_settings
from core.calendars import GATES, Calendars, OutsideCalendar
from core.clock import MS_PER_S, US_PER_MS, from_yyyymmdd, hkt_date
from core.domain import Market
from core.errors import InvariantBroken, Misconfigured, NostroError
from core.orchestration.deposit_table import CREATION as DEPOSIT_CREATION
from core.orchestration.deposit_table import DEPOSIT
from core.orchestration.table import Machine
from core.orchestration.withdraw_table import CREATION as WITHDRAW_CREATION
from core.orchestration.withdraw_table import WITHDRAW
from core.settings import Settings
from core.trace import Trace
from emulators.guard import determinism_guard
from emulators.loop import LoopClock, SimLoop
from reports.model import RunModel
from reports.quantiles import percentile
from reports.stages import BusinessDays, report_stages
from scenarios.banks import Places
from scenarios.expectations import Balance, evaluate
from scenarios.facts import RunFacts
from scenarios.invariants import INVARIANTS, Invariants, Violation
from scenarios.names import names as all_names
from scenarios.reading import load
from scenarios.reconciliation import books, kept_entries, leftovers, reconcile
from scenarios.schema import Names, Scenario
from scenarios.world import World

Progress = Callable[[int, int, int], None]
"""(virtual ms so far, virtual ms in all, events so far)."""
PROGRESS_EVERY = 2_000


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run leaves: ``summary`` (see README), the model the report is made of, and the folder if there is one."""

    summary: dict[str, Any]
    model: RunModel
    folder: Path | None

    @property
    def passed(self) -> bool:
        """No invariant broken, every expectation met."""
        return not self.summary["invariants"]["violations"] and all(
            expectation["passed"] for expectation in self.summary["expectations"])


class _Stop(Exception):
    """The run ends early: an invariant is broken."""


def moves(machine: Machine) -> frozenset[tuple[str, str, str]]:
    """(row, from, to) of every transition of a machine, the creation included."""
    creation = DEPOSIT_CREATION if machine is DEPOSIT else WITHDRAW_CREATION
    assert creation.target is not None
    return frozenset({(creation.id, "", creation.target.label)} | {
        (row.id, row.state.label, row.target.label) for row in machine.rows if row.target is not None})


MOVES = {machine.biz: moves(machine) for machine in (DEPOSIT, WITHDRAW)}


class Run:
    """One run of one scenario."""

    def __init__(
        self, scenario: Scenario, names: Names, *, folder: Path | None = None, keep_databases: bool = False,
        progress: Progress | None = None, command: str = "", tamper: Callable[[World], None] | None = None,
        speed: float = math.inf, places: Places | None = None,
    ) -> None:
        """``tamper``: called once the world stands, before anything happens (tests plant bugs there). ``speed``:
        virtual seconds per second of the machine. ``places``: where the banks' servers stand; with real sockets the
        speed must be finite, and two runs are alike in what happens, not in when."""
        from scenarios.recorder import Recorder

        self.scenario, self._names, self._folder, self._keep = scenario, names, folder, keep_databases
        self._progress, self._command, self._tamper = progress, command, tamper
        self.loop = SimLoop(speed)
        self._places = places
        self.clock = LoopClock(self.loop, scenario.start)
        self.recorder = Recorder(folder / "events.jsonl" if folder else None)
        self.model = RunModel()
        self.trace = Trace(self.clock, self.recorder, self.model)
        self.invariants = Invariants(MOVES, self._violated)
        self.trace.subscribe(self.invariants)
        self._stopping: asyncio.Event | None = None
        self._balances: dict[tuple[int, str], Balance] = {}
        self._leftovers: list[dict[str, Any]] = []
        self._books: list[dict[str, Any]] = []

    def execute(self) -> RunResult:
        """Run to the end (or to the first violation) and write the folder."""
        began = time.perf_counter()  # noqa: TID251 - how long a run took is real time
        with determinism_guard(self.loop), asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            world = runner.run(self._live())
        took = time.perf_counter() - began  # noqa: TID251 - as above
        summary = self._summary(world, took)
        if self._folder is not None:
            self._write(summary, world)
        return RunResult(summary, self.model, self._folder)

    async def _live(self) -> World:
        self._stopping = asyncio.Event()
        world = World(self.scenario, self._names, self.loop, self.trace, self.clock, self._places)
        self.facts = world.facts = RunFacts(
            frozenset(customer.uid for customer in world.customers[: len(self.scenario.customers)]), world.uid_of,
            lambda customer, ccy: self._balances[world.customers[_place(world, customer)].index, ccy], self._quantile,
            self._moment_us)
        self.trace.subscribe(self.facts)
        self.trace.subscribe(world.staff())
        if self._progress is not None:
            self.trace.subscribe(self._report_progress)
        self.trace.emit("run", "run", self._bounds("start"))
        await world.begin()
        if self._tamper is not None:
            self._tamper(world)
        await self._until_end(world)
        await self._last_look(world)
        self.trace.emit("run", "run", self._bounds("end"))
        return world

    async def _until_end(self, world: World) -> None:
        assert self._stopping is not None
        living = asyncio.ensure_future(world.run())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((living, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not living.done():
            living.cancel()
        elif living.exception() is not None:
            raise living.exception() or AssertionError
        fault = world.fault or world.core.fault
        if isinstance(fault, InvariantBroken):
            self.invariants.report("core_intact", str(fault))
        elif fault is not None:
            raise NostroError(f"the core failed: {type(fault).__name__}: {fault}") from fault

    async def _last_look(self, world: World) -> None:
        """The end of the run: books compared, databases checked, then everything stops."""
        if not self.invariants.violations:
            for invariant, detail, subject in await reconcile(world):
                self.invariants.report(invariant, detail, subject)
        for violation in self.invariants.violations:
            await self._describe(violation, world)
        self._balances = await world.balances()
        self.facts.kept_entries = await world.entries()
        kept = await kept_entries(world)
        self._leftovers, self._books = await leftovers(world, kept), await books(world, kept)
        await world.core.stop()
        await world.close()

    async def _describe(self, violation: Violation, world: World) -> None:
        violation.reproduce = self._command
        if violation.procedure:
            rows = await world.core.sba.history(int(violation.procedure[1:]))
            violation.history = [dict(row._asdict()) for row in reversed(rows)]

    def _violated(self, violation: Violation) -> None:  # noqa: ARG002 - kept by the invariants themselves
        if self._stopping is not None:
            self._stopping.set()

    def _report_progress(self, event: Any) -> None:
        if event[0] % PROGRESS_EVERY == 0 and self._progress is not None:
            self._progress(event[1] // US_PER_MS - self.scenario.start, self.scenario.end - self.scenario.start,
                           event[0])

    def _bounds(self, phase: str) -> dict[str, Any]:
        return {"phase": phase, "scenario": self.scenario.name, "seed": self.scenario.seed,
                "virtual_start_ms": self.scenario.start, "virtual_end_ms": self.scenario.end}

    def _moment_us(self, apply_id: int, what: str) -> int:
        way = self.model.stages.ways.get(apply_id)
        return -1 if way is None else int(getattr(way, what))

    def _quantile(self, channel: str, share: float, stage: str | None = None) -> float | None:
        if stage is not None:
            taken = self.model.stages.samples().get(channel.removesuffix(" deposit"), {}).get(stage)
            return percentile(taken, share) / US_PER_MS if taken else None
        found = next((one for one in self.model.latencies() if one.channel == channel), None)
        return found.seconds(share) * MS_PER_S if found is not None else None

    def _summary(self, world: World, wall_s: float) -> dict[str, Any]:
        trace_hash = self.recorder.close()
        virtual_s = (self.scenario.end - self.scenario.start) / MS_PER_S
        return {
            "scenario": self.scenario.name, "title": self.scenario.title, "seed": self.scenario.seed,
            "wire": self.scenario.wire, "virtual_start_ms": self.scenario.start, "virtual_seconds": virtual_s,
            "wall_seconds": round(wall_s, 3), "speedup": round(virtual_s / wall_s, 1), "trace_hash": trace_hash,
            "events": self.recorder.events,
            "procedures": {"deposit": self.facts.states("cash_deposit"),
                           "withdraw": self.facts.states("cash_withdraw")},
            "applications": self.facts.statuses("apply"), "tasks": self.facts.statuses("task"),
            "without_procedure": self.facts.without_procedure(),
            "open": self.facts.deposits("open", None, None) + self.facts.withdrawals("open", None, None),
            "invariants": {"checked": {name: self.invariants.checked[name] for name in INVARIANTS},
                           "violations": [violation.as_dict() for violation in self.invariants.violations]},
            "expectations": list(evaluate(self.scenario.expect, self.facts)),
            "latency": self._latencies(), "stages": self._stages(world),
            "ledger": self._ledger(), "books": self._books, "leftovers": self._leftovers,
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "settings": self._settings(world), "command": self._command,
        }

    def _latencies(self) -> dict[str, dict[str, float]]:
        return {found.channel: {"n": len(found.samples), **{
            f"p{round(share * 100)}": round(found.seconds(share), 3) for share in (0.50, 0.95, 0.99)}}
            for found in self.model.latencies()}

    def _stages(self, world: World) -> dict[str, Any]:
        withdrawals = {found.channel: found.samples for found in self.model.latencies()
                       if found.channel.endswith(" withdrawal")}
        return report_stages(self.model.stages, withdrawals, world.settings, business_days(world.calendars))

    @staticmethod
    def _settings(world: World) -> dict[str, Any]:
        """The overlay of this run beside the defaults it replaces."""
        return {key: {"value": value, "default": leaf.value, "source": leaf.source, "ref": leaf.ref, "unit": leaf.unit}
                for key, value, leaf in ((key, value, world.settings.leaf(key))
                                         for key, value in world.settings.overlay.items())}

    def _ledger(self) -> dict[str, dict[str, int]]:
        return {ccy: {bucket: totals[bucket] for bucket in ("available", "frozen", "in_transit", "external")}
                for ccy, totals in sorted(self.model.ledger.items())}

    def _write(self, summary: dict[str, Any], world: World) -> None:
        from reports.html import write_report
        from reports.junit import write_junit
        from reports.perfetto import write_trace

        folder = self._folder
        assert folder is not None
        (folder / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        (folder / "config.yaml").write_text(
            yaml.safe_dump(world.settings.effective(), sort_keys=False, allow_unicode=True), encoding="utf-8")
        write_junit(folder / "junit.xml", summary)
        write_report(folder / "report.html", summary, self.model, diagram())
        with (folder / "events.jsonl").open("rb") as lines:
            write_trace(folder / "trace.pftrace", (tuple(orjson.loads(line)) for line in lines))
        if self._keep:
            world.databases.copy_to(folder)


def business_days(calendars: Calendars) -> BusinessDays:
    """How `reports.stages` counts T+n. T is the day of the session in which a bank was asked, or of its next one if it
    was asked out of hours (A-54); of a bank without a session it is the transaction date."""

    def passed(bank: str, begun_us: int, ended_us: int) -> int:
        asked, number = begun_us // US_PER_MS, 0
        day = from_yyyymmdd(calendars.bank_gate(bank, asked).date if bank in GATES
                            else calendars.transaction_date(Market.HK, asked))
        while day < hkt_date(ended_us // US_PER_MS):
            day, number = calendars.next_business_day(day), number + 1
        return number

    return passed


def _place(world: World, customer: str | int) -> int:
    from scenarios.population import index_of

    return index_of(customer, world.scenario)


def diagram() -> dict[str, Any]:
    """Both tables as plain data, for diagrams."""
    return {key: {
        "states": [{"label": state.label, "status": state.status, "who": state.acts_next} for state in machine.states],
        "moves": [{"row": creation.id, "from": "", "to": creation.state.label, "fact": creation.fact},
                  *({"row": row.id, "from": row.state.label, "to": row.target.label, "fact": row.fact}
                    for row in machine.rows if row.target is not None)],
    } for key, machine, creation in (
        ("deposit", DEPOSIT, DEPOSIT_CREATION), ("withdraw", WITHDRAW, WITHDRAW_CREATION))}


def reproducing_command(scenario: str, seed: int, overlay: Mapping[str, Any]) -> str:
    """The one command that shows the same run again."""
    sets = [f"--set {shlex.quote(f'{key}={orjson.dumps(value).decode()}')}" for key, value in overlay.items()]
    return " ".join(["nostro run", shlex.quote(scenario), f"--seed {seed}", *sets])


RUN_FILES = ("summary.json", "events.jsonl", "report.html", "junit.xml", "trace.pftrace", "config.yaml",
             "primary.sqlite", "account.sqlite", "procedure.sqlite", "assets.sqlite")


def _clear(folder: Path) -> None:
    """A run's folder holds that run only: an interrupted run must not lie beside another one's results."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in RUN_FILES:
        (folder / name).unlink(missing_ok=True)


def _check_years(scenario: Scenario) -> None:
    """The calendars must cover the run, and the trading day after it."""
    calendars = Calendars(Settings(scenario.settings))
    for key, moment in (("start", scenario.start), ("end", scenario.end)):
        try:
            calendars.transaction_date(Market.HK, moment, bst=True)
        except OutsideCalendar as outside:
            raise Misconfigured(str(outside), where=f"{scenario.name}: {key}",
                                remedy="choose dates within the loaded years") from None


def run(
    path_or_name: str | Path, *, seed: int | None = None, overlay: Mapping[str, Any] | None = None,
    folder: Path | None = None, keep_databases: bool = False, progress: Progress | None = None,
    tamper: Callable[[World], None] | None = None,
) -> RunResult:
    """Run a scenario by name or path; ``folder`` is created and receives the results."""
    known = all_names()
    scenario = load(path_or_name, known, seed=seed, overlay=overlay)
    check_socket_settings(Settings(scenario.settings))
    _check_years(scenario)
    if folder is not None:
        _clear(folder)
    command = reproducing_command(str(path_or_name), scenario.seed, overlay or {})
    return Run(scenario, known, folder=folder, keep_databases=keep_databases, progress=progress, command=command,
               tamper=tamper).execute()
