"""``nostro``: the command line.

Exit codes: 0 passed, 1 an expectation or invariant was violated, 2 wrong usage or configuration, 3 not
deterministic, 4 inconclusive (interrupted).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from core.errors import Misconfigured, NostroError
from emulators.guard import Nondeterminism

PASSED, VIOLATED, WRONG_USAGE, NOT_DETERMINISTIC, INCONCLUSIVE = range(5)
INTERRUPTED = 130

app = typer.Typer(
    name="nostro", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Nostro: the digital twin of a broker's deposit and withdrawal platform.")
spec = typer.Typer(no_args_is_help=True, help="What is generated from the tables: schema, diagrams, registry.")
config = typer.Typer(no_args_is_help=True, help="The settings: values, sources, reasons.")
app.add_typer(spec, name="spec")
app.add_typer(config, name="config")

Speed = Annotated[float | None, typer.Option(help="Virtual seconds per real second, 60 by default; 0 is paused.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")]


def _print_json(value: Any) -> None:
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A name (see `nostro scenarios`) or a path to a YAML file.")],
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream; the file's by default.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overlay a setting.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; runs/SCENARIO-SEED by default.")] = None,
    as_json: JsonFlag = False,
    keep_databases: Annotated[
        bool, typer.Option("--keep-databases", help="Leave the four databases in the folder.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Run twice and compare the trace hashes.")] = False,
) -> None:
    """Run a scenario in virtual time and write its report."""
    from core.settings import Settings
    from scenarios.names import names
    from scenarios.reading import load, parse_set
    from scenarios.runner import run as run_scenario

    overlay = dict(parse_set(text, Settings()) for text in set_ or [])
    loaded = load(scenario, names(), seed=seed, overlay=overlay)
    folder = out or Path("runs") / f"{loaded.name}-{loaded.seed}"
    with _Watched(silent=as_json) as report:
        result = run_scenario(scenario, seed=seed, overlay=overlay, folder=folder, keep_databases=keep_databases,
                              progress=report)
    if check:
        again = run_scenario(scenario, seed=seed, overlay=overlay)
        if again.summary["trace_hash"] != result.summary["trace_hash"]:
            Console(stderr=True).print(f"not deterministic: {result.summary['trace_hash']} and "
                                       f"{again.summary['trace_hash']}", style="red")
            raise typer.Exit(NOT_DETERMINISTIC)
    if as_json:
        _print_json(result.summary)
    else:
        _show(result, folder)
    raise typer.Exit(PASSED if result.passed else VIOLATED)


class _Reporter:
    """Progress on a terminal: virtual time, rate, time left. Silent when standard error is no terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: Any = None

    def __call__(self, virtual_ms: int, of_ms: int, events: int) -> None:

        if self._task is None:
            self._task = self._progress.add_task("", total=of_ms, events=0, clock="")
        hours, rest = divmod(virtual_ms // 60_000, 60)
        self._progress.update(self._task, completed=virtual_ms, events=events, clock=f"+{hours}:{rest:02d} h")


class _Watched:
    """Shows a run's progress while the block lasts."""

    def __init__(self, *, silent: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.fields[clock]}"), BarColumn(), TextColumn("{task.fields[events]:,} events"),
            TimeRemainingColumn(), console=console, transient=True, disable=silent or not console.is_terminal)

    def __enter__(self) -> _Reporter:
        self._progress.start()
        return _Reporter(self._progress)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def _show(result: Any, folder: Path) -> None:
    from reports.summary_text import print_summary
    from scenarios.runner import diagram

    console = Console()
    print_summary(console, result.summary, diagram())
    console.print(f"Report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


@app.command()
def emulate(
    bank: Annotated[str, typer.Argument(
        help="airstar, cmb, cmbc, bochk, hsbc, icbc, cgb, scb, citi, hase, ccba, dbs, za, spd, ewb, hsbc_eddi or "
             "hase_eddi.")],
    port: Annotated[int | None, typer.Option(
        help="Its port, at some the first of several; standalone.port.BANK by default, 0 for free ones.")] = None,
    speed: Speed = None,
    seed: Annotated[int, typer.Option(help="Seed of the bank's dice.", min=0)] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder of the keys; runs/emulate-BANK by default.")] = None,
    control_port: Annotated[int | None, typer.Option(help="Of the control interface; port + 9 by default.")] = None,
    start: Annotated[str | None, typer.Option(
        help="'now' or a Hong Kong time; '2026-03-12 09:00' by default.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    customers: Annotated[Path | None, typer.Option(help="YAML file with a list under customers:.")] = None,
    always_open: Annotated[bool, typer.Option("--always-open", help="No service window, no maintenance.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overlay a setting.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say where it listens in one line of JSON.")] = False,
) -> None:
    """Serve an emulated bank on real ports, with an HTTP interface to control it, until Ctrl-C."""
    from api.emulate import emulate as serve_bank
    from core.settings import Settings
    from scenarios.reading import parse_set

    serve_bank(bank, host=host, port=port, control_port=control_port, speed=speed, seed=seed, data=data, start=start,
               customers=customers, always_open=always_open, as_json=as_json,
               overlay=dict(parse_set(text, Settings()) for text in set_ or []))


@app.command()
def serve(
    scenario: Annotated[str | None, typer.Argument(help="A name or a path; normal_day by default.")] = None,
    speed: Speed = None,
    port: Annotated[int | None, typer.Option(help="Of the HTTP interface; 8080 by default, 0 for a free one.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Begin with the clock standing still.")] = False,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random stream; the file's by default.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overlay a setting.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say where it listens in one line of JSON.")] = False,
) -> None:
    """Run core and banks on a paced clock and real sockets, with an HTTP interface, until Ctrl-C."""
    from api.paced import serve_scenario
    from core.settings import Settings
    from scenarios.reading import parse_set

    serve_scenario(scenario, speed=0.0 if paused else speed, host=host, port=port, seed=seed, as_json=as_json,
                   overlay=dict(parse_set(text, Settings()) for text in set_ or []))


@app.command()
def scenarios(as_json: JsonFlag = False) -> None:
    """The scenarios of the library."""
    from scenarios.names import names
    from scenarios.reading import library, load

    known = names()
    rows = [{"name": name, "title": load(name, known).title, "file": str(path)} for name, path in library().items()]
    if as_json:
        _print_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        typer.echo(f"{row['name']:{width}}  {row['title']}")


@app.command("import")
def import_statements(
    bank: Annotated[str, typer.Argument(help="hsbc, bochk, ewb, hase, ccba, dbs, za, spd, cgb, scb or citi.")],
    files: Annotated[list[Path], typer.Argument(help="Statement files, pipes, or folders.", metavar="FILE...")],
    data: Annotated[Path, typer.Option(help="Folder of the databases, made if it is not there.")] = Path("runs/import"),
    as_of: Annotated[str | None, typer.Option(
        "--as-of", metavar="YYYY-MM-DD", help="The day on which the files came, by default today.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overlay a setting.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take statement files into databases: MT910, S16, CSV, BAI2, JSON lines. Exits with 2 if anything was refused."""
    from api.importing import AsOf, import_files
    from core.clock import MachineClock
    from core.settings import Settings
    from scenarios.reading import parse_set

    summary = import_files(bank, files, data, dict(parse_set(text, Settings()) for text in set_ or []),
                           AsOf(as_of, MachineClock()) if as_of else None)
    if as_json:
        _print_json(summary.shown())
    else:
        for line in summary.lines():
            typer.echo(line)
    raise typer.Exit(WRONG_USAGE if summary.refused else PASSED)


@spec.command("scenario-schema")
def scenario_schema() -> None:
    """The JSON Schema of scenario files, with every name filled in."""
    from scenarios.names import names
    from scenarios.reading import json_schema

    _print_json(json_schema(names()))


@spec.command("diagrams")
def diagrams(out: Annotated[Path, typer.Option(help="Folder for the SVG files.")] = Path("diagrams")) -> None:
    """Both state machines as SVG, drawn from the transition tables."""
    from reports.diagrams import render
    from scenarios.runner import diagram

    out.mkdir(parents=True, exist_ok=True)
    for name, machine in diagram().items():
        path = out / f"{name}.svg"
        path.write_text(render(machine), encoding="utf-8")
        typer.echo(str(path))


@spec.command("jobs")
def jobs(as_json: JsonFlag = False) -> None:
    """The job registry by domain, with the documented counts beside the actual ones."""
    from core.jobs import domains

    rows = domains()
    if as_json:
        _print_json([row._asdict() for row in rows])
        return
    for row in rows:
        documented = f"about {row.documented} documented, " if row.documented else ""
        typer.echo(f"{row.domain}: {documented}{row.actual} registered")
        for name in (*row.jobs, *(f"{name} (support)" for name in row.support)):
            typer.echo(f"  {name}")


@spec.command("banks")
def banks(as_json: JsonFlag = False) -> None:
    """Every bank with its way of telling of deposits, its automation level and its match rules."""
    from api.banks import bank_rows, bank_table

    rows = bank_rows()
    if as_json:
        _print_json(rows)
    else:
        for line in bank_table(rows):
            typer.echo(line)


@config.command("show")
def show_config(prefix: Annotated[str, typer.Argument(help="Only keys that begin so.")] = "",
                as_json: JsonFlag = False) -> None:
    """Every setting with its value and whether it is documented or assumed."""
    from core.settings import Settings

    chosen = {key: leaf for key, leaf in Settings().effective().items() if key.startswith(prefix)}
    if not chosen:
        raise Misconfigured(f"no setting begins with {prefix!r}", where="config show",
                            remedy="see `nostro config show`")
    if as_json:
        _print_json(chosen)
        return
    for key, leaf in chosen.items():
        typer.echo(f"{key:48} {orjson.dumps(leaf['value']).decode():28} {leaf['source']}")


@config.command("explain")
def explain_config(key: str) -> None:
    """One setting: its value, its source, its reason."""
    from core.settings import Settings

    leaf = Settings().leaf(key)
    typer.echo(f"{key} = {orjson.dumps(leaf.value).decode()}{' ' + leaf.unit if leaf.unit else ''}")
    typer.echo(f"{leaf.source}: {leaf.ref}")


def main() -> None:
    """Entry point: every error becomes one readable message on standard error and an exit code."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        app()
    except SystemExit as end:
        # Typer says 130 for an interruption, as shells do; of a run nothing can be concluded then.
        return INCONCLUSIVE if end.code == INTERRUPTED else int(end.code or PASSED)
    except KeyboardInterrupt:
        return _say("stopped", "interrupted; what was written so far is incomplete", INCONCLUSIVE)
    except Misconfigured as wrong:
        return _say("error", str(wrong), WRONG_USAGE)
    except OSError as failure:
        return _say("error", f"{failure.strerror or failure}: {failure.filename or ''}".rstrip(": "), WRONG_USAGE)
    except Nondeterminism as differs:
        return _say("not deterministic", str(differs), NOT_DETERMINISTIC)
    except NostroError as fault:
        return _say("stopped", str(fault), INCONCLUSIVE)
    return PASSED


def _say(what: str, detail: str, code: int) -> int:
    Console(stderr=True, soft_wrap=True).print(f"[red]{what}:[/red] {escape(detail)}", highlight=False)
    return code


if __name__ == "__main__":
    main()
