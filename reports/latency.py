"""The latency report in the page: each stage of the deposits beside what the documents lead to expect (LAT-11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.clock import US_PER_S
from reports.markup import Cell, Html, card, duration, table, text
from reports.verdict import Summary

STAGE_TITLES: Final[dict[str, str]] = {
    "transfer": "Transfer", "retrieval": "Retrieval", "matching": "Matching", "crediting": "SBA + RC", "total": "Total"}
"""Stage of ``summary.json`` -> title, in order."""
DOCUMENTED: Final = ("documented", "doc")
"""A column of what the documents say, beside what was found."""


def stage_cards(summary: Summary) -> str:
    """Deposits by stage, withdrawals, and the hops of SBA and Risk Control; nothing without deposits or withdrawals."""
    found = summary.get("stages", {})
    rest = [part for part in (_withdrawals(found.get("withdrawals", {})), _hops(found.get("hops", {}))) if part]
    below = f"<div class=grid>{''.join(rest)}</div>" if rest else ""
    return _deposits(found.get("channels", {})) + below


def _deposits(channels: Mapping[str, Mapping[str, Any]]) -> str:
    if not channels:
        return ""
    columns: list[tuple[str, str]] = [("Channel", ""), ("Credited", "n")]
    for name, title in STAGE_TITLES.items():
        columns += [(title, "n")] if name == "transfer" else [(title, "n"), DOCUMENTED]
    rows = [[channel.removesuffix(" deposit"), stages["total"]["n"], *_cells(stages)]
            for channel, stages in channels.items()]
    return card("Deposits by stage", table(columns, rows, limit=60), anchor="stages",
                hint="medians, beside what the documents say; transfer: until the customer’s bank books it; SBA + RC: "
                     "without those that a person decided")


def _cells(stages: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = []
    for name in STAGE_TITLES:
        found = stages.get(name)
        cells.append(_time(found))
        if name != "transfer":
            cells.append(_said(found))
    return cells


def _time(found: Mapping[str, Any] | None) -> str:
    return duration(found["p50"] * US_PER_S) if found is not None and found["n"] else ""


def _said(found: Mapping[str, Any] | None) -> Html:
    """The documents' words with a mark whether the median is within them."""
    if found is None or not found["expected"]:
        return Html("")
    return Html(f"{_mark(found['met'])}{text(found['expected'])}")


def _mark(met: bool | None) -> str:
    """Within what is documented, beyond it, or nobody can say."""
    if met is None:
        return ""
    return '<span class="mark w-done">●</span> ' if met else '<span class="mark w-failed">■</span> '


def _withdrawals(channels: Mapping[str, Mapping[str, Any]]) -> str:
    rows: list[list[Cell]] = [[channel.removesuffix(" withdrawal"), found["n"], _time(found), _said(found)]
                              for channel, found in channels.items()]
    columns = [("Channel", ""), ("Settled", "n"), ("Median", "n"), DOCUMENTED]
    return card("Withdrawals", table(columns, rows, limit=30), hint="beside what the documents say") if rows else ""


def _hops(hops: Mapping[str, Mapping[str, Any]]) -> str:
    rows: list[list[Cell]] = [
        [Html(f"<code>{text(call)}</code>"), found["n"], duration(found["p50"] * US_PER_S),
         duration(found["p95"] * US_PER_S), _bound(found)] for call, found in hops.items()]
    columns = [("Call", ""), ("Number", "n"), ("p50", "n"), ("p95", "n"), DOCUMENTED]
    return card("SBA and Risk Control, hop by hop", table(columns, rows, limit=30),
                hint="own time; p95 beside the bound of its trace") if rows else ""


def _bound(found: Mapping[str, Any]) -> Html:
    return Html(f"{_mark(found['met'])}under {duration(found['bound'] * US_PER_S)}")
