"""The run on a terminal: verdict, states, time to settle, expectations. Rich drops the colours where it must."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.clock import US_PER_S
from reports.latency import STAGE_TITLES
from reports.markup import duration
from reports.verdict import Summary, checked, total, verdict, violations

STYLES = {"system": "bright_black", "bank": "blue", "person": "yellow", "done": "green", "failed": "red"}
BAR_WIDTH = 24
VIOLATIONS_SHOWN = 5


def print_summary(console: Console, summary: Summary, diagram: Mapping[str, Any] | None = None) -> None:
    """Print it; ``diagram`` (as for the report) gives the order of states and their colours."""
    found = verdict(summary)
    head = Text(f"{'●' if found.passed else '■'} {found.headline} ", "bold green" if found.passed else "bold red")
    console.print(head + Text(found.sentence))
    console.print(Text(
        f"{summary['scenario']}  seed {summary['seed']}  virtual "
        f"{duration(float(summary.get('virtual_seconds', 0)) * US_PER_S)}  wall "
        f"{float(summary.get('wall_seconds', 0)):,.1f} s ({float(summary.get('speedup', 0)):,.0f}×)  "
        f"{int(summary.get('events', 0)):,} events  {float(summary.get('peak_rss_mb', 0)):,.0f} MB  trace "
        f"{str(summary.get('trace_hash', ''))[:12]}", "bright_black"))
    for table in (_states(summary, diagram), _latency(summary), _stages(summary), _expectations(summary)):
        if table.row_count:
            console.print(table)
    _print_violations(console, summary)


def _table(title: str, *columns: tuple[str, str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, side in columns:
        table.add_column(name, justify="right" if side == "r" else "left", header_style="bright_black",
                         overflow="fold")
    return table


def _states(summary: Summary, diagram: Mapping[str, Any] | None) -> Table:
    table = _table("Procedures by state", ("", "l"), ("State", "l"), ("Number", "r"), ("", "l"))
    for machine, states in summary.get("procedures", {}).items():
        who = {state["label"]: state["who"] for state in (diagram or {}).get(machine, {}).get("states", ())}
        most = max(states.values(), default=0)
        order = [*(label for label in who if label in states), *(label for label in states if label not in who)]
        for i, label in enumerate(order):
            style = STYLES.get(who.get(label) or _guess(label), "")
            wide = -(-BAR_WIDTH * states[label] // most) if most else 0
            table.add_row(Text(machine if i == 0 else "", "bright_black"), Text(label, style), f"{states[label]:,}",
                          Text("█" * wide, style))
    return table


def _guess(label: str) -> str:
    if label.startswith("end_ok"):
        return "done"
    return "failed" if label.startswith("end_") else "system"


def _latency(summary: Summary) -> Table:
    table = _table("Time to settle", ("Channel", "l"), ("Settled", "r"), ("p50", "r"), ("p95", "r"), ("p99", "r"))
    for channel, found in summary.get("latency", {}).items():
        table.add_row(Text(channel), f"{found['n']:,}",
                      *(duration(float(found[name]) * US_PER_S) if found.get(name) is not None else "–"
                        for name in ("p50", "p95", "p99")))
    return table


def _stages(summary: Summary) -> Table:
    """Medians by stage; below each what the documents say, with a mark whether the median is within it."""
    table = _table("Deposits by stage: median, what the documents say", ("Channel", "l"),
                   *((name, "r") for name in STAGE_TITLES.values()))
    for channel, stages in summary.get("stages", {}).get("channels", {}).items():
        table.add_row(Text(channel.removesuffix(" deposit")), *(_stage(stages.get(name)) for name in STAGE_TITLES))
    return table


def _stage(found: Mapping[str, Any] | None) -> Text:
    if found is None:
        return Text("–", "bright_black")
    median = Text(duration(found["p50"] * US_PER_S) if found["n"] else "–", "" if found["n"] else "bright_black")
    if not found["expected"]:
        return median
    mark, style = {True: ("●", "green"), False: ("■", "red")}.get(found["met"], ("", "bright_black"))
    return median + Text(f"\n{mark} {found['expected']}", style)


def _expectations(summary: Summary) -> Table:
    table = _table("Expectations", ("", "l"), ("", "l"), ("", "l"))
    table.show_header = False
    for each in sorted(summary.get("expectations", ()), key=lambda each: bool(each["passed"])):
        mark = Text("● met", "green") if each["passed"] else Text("■ not met", "red")
        table.add_row(mark, Text(str(each["name"])), Text(str(each.get("detail", "")), "bright_black"))
    if checked(summary):
        broken = len({each["invariant"] for each in violations(summary)})
        table.add_row(Text("■ violated", "red") if broken else Text("● held", "green"),
                      Text(f"{checked(summary)} invariants"),
                      Text(f"{broken} violated" if broken else f"over {total(summary):,} procedures", "bright_black"))
    return table


def _print_violations(console: Console, summary: Summary) -> None:
    found = violations(summary)
    for each in found[:VIOLATIONS_SHOWN]:
        console.print(Text("■ ", "red") + Text(str(each["invariant"]), "bold") + Text(f": {each.get('detail', '')}"))
        if each.get("reproduce"):
            console.print(Text(f"  {each['reproduce']}", "cyan"), soft_wrap=True)
    if len(found) > VIOLATIONS_SHOWN:
        console.print(Text(f"  and {len(found) - VIOLATIONS_SHOWN} more; see summary.json", "bright_black"))
