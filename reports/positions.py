"""Where each state stands in the diagrams, and how the lines between them run: authored, one literal table.

Unit: SVG user units (about one CSS pixel), centre of the box, y downwards. The transition tables say *which* lines
exist; this file only says where they run. A state without a position is an error (`missing_positions`); a line
without a route gets a plain curve, so a new row in a table still shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from core.errors import Misconfigured

BOX_WIDTH, BOX_HEIGHT = 116, 40

POSITIONS: dict[str, dict[str, tuple[int, int]]] = {
    "deposit": {
        "new(waiting)": (90, 34),
        "new(manual_confirm)": (266, 122),
        "pending": (442, 34),
        "end_ok(deposit_ok)": (618, 34),
        "end_reject": (618, 122),
        "end_reverse(deposit_ok)": (794, 34),
    },
    "withdraw": {
        "new(freeze)": (90, 196),
        "new(waiting)": (266, 196),
        "new(manual_confirm)": (266, 284),
        "new(confirmed)": (442, 284),
        "new(blank)": (442, 196),
        "pending(deduct_done)": (618, 196),
        "pending(transfer_auto)": (794, 196),
        "pending(transfer_manual)": (794, 108),
        "pending(return)": (794, 284),
        "pending(unfreeze)": (354, 376),
        "pending(move_next)": (530, 28),
        "pending(waiting_trade)": (618, 108),
        "pending(transfer_reject)": (618, 376),
        "end_ok(transfer_done)": (970, 196),
        "end_reject": (970, 376),
        "end_cancel": (970, 436),
        "end_reverse(transfer_done)": (1146, 196),
    },
}


class Route(NamedTuple):
    """A line of right angles: leaves at ``exit``, turns at each of ``bends``, arrives at ``enter``.

    ``exit`` and ``enter`` are a side (l, r, t, b) and an offset along it (``"r+12"``). ``bends`` are coordinates
    in turn, the first along the direction of leaving. ``label`` is the anchor of the text, when the middle of the
    longest stretch is not the best place.
    """

    exit: str
    bends: tuple[int, ...]
    enter: str
    label: tuple[int, int] | None = None


ROUTES: dict[str, dict[tuple[str, str], Route]] = {
    "deposit": {
        ("new(waiting)", "pending"): Route("r", (), "l"),
        ("new(waiting)", "new(manual_confirm)"): Route("b", (), "l"),
        ("new(manual_confirm)", "pending"): Route("r-10", (), "b-26", (358, 112)),
        ("new(manual_confirm)", "end_reject"): Route("r+10", (), "l+10"),
        ("pending", "end_ok(deposit_ok)"): Route("r", (), "l"),
        ("pending", "end_reject"): Route("b+26", (), "l-10", (514, 112)),
        ("end_ok(deposit_ok)", "end_reverse(deposit_ok)"): Route("r", (), "l"),
    },
    "withdraw": {
        ("new(freeze)", "new(waiting)"): Route("r", (), "l"),
        ("new(waiting)", "new(blank)"): Route("r-6", (), "l-6"),
        ("new(blank)", "pending(deduct_done)"): Route("r", (), "l"),
        ("pending(deduct_done)", "pending(transfer_auto)"): Route("r", (), "l"),
        ("pending(transfer_auto)", "end_ok(transfer_done)"): Route("r", (), "l"),
        ("end_ok(transfer_done)", "end_reverse(transfer_done)"): Route("r", (), "l"),
        ("new(waiting)", "new(manual_confirm)"): Route("b", (), "t"),
        ("new(manual_confirm)", "new(confirmed)"): Route("r", (), "l"),
        ("new(confirmed)", "new(blank)"): Route("t", (), "b"),
        ("new(manual_confirm)", "pending(unfreeze)"): Route("b+16", (336,), "t-32", (302, 330)),
        ("new(confirmed)", "pending(unfreeze)"): Route("b-16", (336,), "t+32", (406, 330)),
        ("new(waiting)", "pending(unfreeze)"): Route("r+10", (346,), "t-8", (328, 240)),
        ("new(blank)", "pending(unfreeze)"): Route("l+10", (362,), "t+8", (375, 240)),
        ("new(freeze)", "pending(transfer_reject)"): Route("b", (416,), "b-30"),
        ("new(blank)", "pending(transfer_reject)"): Route("r+12", (530, 336), "t-30"),
        ("pending(deduct_done)", "pending(waiting_trade)"): Route("t-20", (), "b-20"),
        ("pending(deduct_done)", "pending(transfer_manual)"): Route("r-12", (688,), "l+12", (688, 132)),
        ("pending(deduct_done)", "pending(move_next)"): Route("l-12", (536,), "b+6"),
        ("pending(transfer_manual)", "pending(move_next)"): Route("t", (), "r"),
        ("pending(move_next)", "new(freeze)"): Route("l", (), "t"),
        ("pending(waiting_trade)", "pending(transfer_manual)"): Route("r", (), "l"),
        ("pending(waiting_trade)", "end_ok(transfer_done)"): Route("b+40", (142,), "t-30", (870, 142)),
        ("pending(waiting_trade)", "pending(return)"): Route("b+16", (158, 706, 244), "t-30", (706, 226)),
        ("pending(transfer_auto)", "pending(return)"): Route("b+20", (), "t+20"),
        ("pending(transfer_manual)", "end_ok(transfer_done)"): Route("r", (), "t"),
        ("pending(transfer_manual)", "pending(return)"): Route("r+12", (880,), "r", (880, 240)),
        ("pending(return)", "pending(transfer_reject)"): Route("l", (), "t+30"),
        ("pending(unfreeze)", "pending(transfer_reject)"): Route("r-8", (), "l-8"),
        ("pending(transfer_reject)", "pending(unfreeze)"): Route("l+8", (), "r+8"),
        ("pending(transfer_reject)", "end_reject"): Route("r", (), "l"),
        ("pending(transfer_reject)", "end_cancel"): Route("b+30", (), "l"),
    },
}


def _label(state: Any) -> str:
    return str(state["label"] if isinstance(state, Mapping) else getattr(state, "label", state))


def missing_positions(states: Iterable[Any], machine: str | None = None) -> list[str]:
    """Labels without an authored position, in the order given.

    ``states``: labels, mappings with ``label`` or objects with a ``label`` attribute. ``machine`` (``deposit`` or
    ``withdraw``) narrows the look-up to one diagram; without it a label is missing when no diagram has it.
    """
    tables = POSITIONS.values() if machine is None else (POSITIONS[machine],)
    return [label for label in map(_label, states) if not any(label in table for table in tables)]


def machine_of(states: Iterable[Any]) -> str:
    """``deposit`` or ``withdraw``: the diagram that has a place for every one of these states."""
    known = list(states)
    gaps = {machine: missing_positions(known, machine) for machine in POSITIONS}
    machine = min(gaps, key=lambda name: len(gaps[name]))
    if gaps[machine]:
        raise Misconfigured(
            f"no position for {', '.join(gaps[machine])}", where=f"diagram {machine}",
            remedy="add it to POSITIONS in reports/positions.py")
    return machine


def placed(diagram: Mapping[str, Any]) -> dict[str, Any]:
    """The same ``{"deposit": …, "withdraw": …}`` structure with ``x`` and ``y`` filled in for every state."""
    return {
        machine: {**table, "states": [
            {**state, "x": POSITIONS[machine_of(table["states"])][state["label"]][0],
             "y": POSITIONS[machine_of(table["states"])][state["label"]][1]}
            for state in table["states"]]}
        for machine, table in diagram.items()}
