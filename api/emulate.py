"""``nostro emulate``: one emulated bank as a server, from what stands on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console

from core.clock import MachineClock
from core.errors import Misconfigured
from core.settings import Settings
from emulators.standalone.customers import read_file
from emulators.standalone.server import BANKS, Options, serve, start_of

HIGHEST_PORT = 65_535


def emulate(
    bank: str, *, host: str | None, port: int | None, control_port: int | None, speed: float | None, seed: int,
    data: Path | None, start: str | None, customers: Path | None, always_open: bool, overlay: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Serve until a signal comes; what is absent is taken from the settings ``standalone.*``."""
    if bank not in BANKS:
        raise Misconfigured(f"no emulated bank {bank!r}", where="nostro emulate", remedy=f"one of {', '.join(BANKS)}")
    settings = Settings(overlay)
    folder = data or Path("runs") / f"emulate-{bank}"
    if folder.exists() and not folder.is_dir():
        raise Misconfigured(f"{folder} is no folder", where="--data", remedy="give one for the keys, new or existing")
    first = _first_port(bank, settings[f"standalone.port.{bank}"] if port is None else port)
    options = Options(
        bank=bank, host=host or settings["standalone.host"], port=first,
        control_port=_control_port(settings, bank, first, control_port), speed=speed_of(settings, speed), seed=seed,
        start_ms=start_of(start or settings["standalone.start"], MachineClock().now_ms()), folder=folder,
        settings=settings, customers=None if customers is None else read_file(customers), always_open=always_open)
    serve(options, os.urandom, print_line if as_json else _print_block)


def port_of(number: int, where: str) -> int:
    """A port as it was given; `Misconfigured` if it is none."""
    if not 0 <= number <= HIGHEST_PORT:
        raise Misconfigured(f"{number} is no port", where=where, remedy=f"1 to {HIGHEST_PORT}, or 0 for any free one")
    return number


def _first_port(bank: str, first: int) -> int:
    number = BANKS[bank].ports
    if port_of(first, "--port") + number - 1 > HIGHEST_PORT:
        raise Misconfigured(f"{bank} has {number} ports, one after the other: {first} leaves no room for them",
                            where="--port", remedy=f"at most {HIGHEST_PORT - number + 1}")
    return first


def _control_port(settings: Settings, bank: str, first: int, given: int | None) -> int:
    """The port given, or the first of the bank's and an offset; with a free port the bank's, a free one."""
    control = given
    if control is None:
        control = first + settings["standalone.control.offset"] if first else 0
        if control > HIGHEST_PORT:
            raise Misconfigured(f"{control}, the control port that goes with {first}, is no port", where="--port",
                                remedy="give a lower one, or --control-port")
    last = first + BANKS[bank].ports - 1
    if first and first <= control <= last:
        raise Misconfigured(f"{control} is one of the bank's ports {first} to {last}", where="--control-port",
                            remedy="choose another")
    return port_of(control, "--control-port")


def speed_of(settings: Settings, given: float | None) -> float:
    """The speed given, or that of the settings; `Misconfigured` if it is none."""
    speed, fastest = settings["standalone.speed"] if given is None else given, settings["standalone.control.fastest"]
    if not 0 <= speed <= fastest:
        raise Misconfigured(f"{speed:g} is no speed", where="--speed", remedy=f"0 (paused) to {fastest:g}")
    return float(speed)


def print_line(shown: Mapping[str, Any]) -> None:
    """Everything as one line of JSON."""
    sys.stdout.buffer.write(orjson.dumps(dict(shown)) + b"\n")
    sys.stdout.flush()


def _print_block(shown: dict[str, Any]) -> None:
    """Everything for a person."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]Emulated bank {shown['bank']}[/bold], {shown['virtual_time']} Hong Kong time, "
                  f"{pace(shown['speed'])}, seed {shown['seed']}")
    facts = {**{f"{name} address": at for name, at in shown["addresses"].items()}, "control": shown["control"],
             **shown["credentials"]}
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"  {name.replace('_', ' '):{width}}  {value}", markup=False)
    _print_customers(console, shown["customers"])
    if shown["clock"]:
        console.print(f"Clock: {shown['clock']}.", markup=False)
    console.print(f"State: {shown['state']}. Ctrl-C ends it.")


def pace(speed: float) -> str:
    """A speed in words."""
    return f"speed {speed:g}" if speed else "paused"


def _print_customers(console: Console, customers: list[dict[str, Any]]) -> None:
    """A line for each, never folded: a narrow terminal wraps it, a pipe gets it whole."""
    rows = [("customer", "name", "card", "balances", "authorized")]
    agreeing = any("mandates" in one or "markets" in one for one in customers)
    for one in customers:
        mandates = [f"{mandate['id']} {mandate['status']}" for mandate in one.get("mandates", ())]
        rows.append((one["id"], one["name"], one["card_no"],
                     ", ".join(f"{ccy} {amount}" for ccy, amount in one["balances"].items()),
                     ", ".join(mandates or one.get("markets", ())) or "no"))
    shown = [row if agreeing else row[:-1] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    for number, row in enumerate(shown):
        line = "  ".join(set_cell_size(text, width) for text, width in zip(row, widths, strict=True))
        console.print(line.rstrip(), markup=False, style=None if number else "bold")
