"""``nostro spec banks``: the banks' table beside the match rules in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.deposits.banks import BANKS
from core.deposits.matching.rules import Tier, read_rules
from core.money import show
from core.settings import Settings

_COLUMNS = ("bank", "title", "automation", "collected", "credited", "match")


def bank_rows() -> list[dict[str, Any]]:
    """One row for each bank; ``match`` is None where nothing is matched."""
    rules = read_rules(Settings())
    rows = []
    for bank, row in BANKS.items():
        of = rules.get(bank)
        rows.append({
            "bank": bank, "title": row.title, "automation": row.automation, "collected": row.way,
            "jobs": list(row.jobs), "credited": row.credited,
            "match": None if of is None else {
                "class": of.match_class, "auto": _tier(of.auto), "assisted": _tier(of.assisted), "card": of.card_rule,
                "name_required": of.name_required}})
    return rows


def _tier(tier: Tier) -> dict[str, Any]:
    return {"tolerance": {ccy: show(amount) for ccy, amount in tier.tolerance.items()},
            "days": [tier.first, tier.last]}


def bank_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """For people: a line for each bank."""
    cells = [_COLUMNS, *(tuple(_cell(row, column) for column in _COLUMNS) for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cell(row: dict[str, Any], column: str) -> str:
    if column != "match":
        return str(row[column])
    of = row["match"]
    return "none: credited without matching" if of is None else (
        f"{of['class']}, card {of['card']}{', name required' if of['name_required'] else ''}")
