"""The shape of a state machine: rows of (state, fact) -> next state and effects.

Rules, the same for both machines:

1. A row is found by (state, fact) or the fact does not move the Procedure. There is no default branch.
2. What does not move is named: a fact is *ignored* in a state (recorded, nothing happens: a late bank result)
   or *refused* there (ILLEGAL_STATE). A test enumerates every state x fact.
3. A row whose target is `None` stays: it requests effects without changing the state, so no Flow record is
   written and the version does not change. The outcome of the effect moves.
4. Effects are requested in the transaction that writes the state, and carried out after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple


class State(NamedTuple):
    """Main status and sub-status."""

    status: str
    ext: str

    @property
    def label(self) -> str:
        """``new(freeze)``, ``new(blank)`` for new without sub-status, ``end_reject``."""
        if self.ext:
            return f"{self.status}({self.ext})"
        return "new(blank)" if self.status == "new" else self.status

    @property
    def acts_next(self) -> str:
        """Who acts next: system, bank or person; for an end: done or failed. Colours follow it."""
        if self.status.startswith("end_"):
            return "done" if self.status == "end_ok" else "failed"
        waits_for = {"transfer_auto": "bank", "transfer_manual": "person", "manual_confirm": "person"}
        return waits_for.get(self.ext, "system")

    @property
    def terminal(self) -> bool:
        """True for every ``end_*``; only reversal leads out of ``end_ok``."""
        return self.status.startswith("end_")


class Row(NamedTuple):
    """One line of a table. ``target`` None: stay and only request the effects."""

    id: str
    state: State
    fact: str
    target: State | None
    effects: tuple[str, ...] = ()


class Verdict(Enum):
    """What happens to a fact that no row moves."""

    IGNORED = "ignored"
    REFUSED = "refused"


class Machine(NamedTuple):
    """A whole state machine, checked when it is built."""

    biz: str
    states: tuple[State, ...]
    facts: tuple[str, ...]
    rows: tuple[Row, ...]
    moves: Mapping[tuple[State, str], Row]
    ignored: frozenset[tuple[State, str]]
    by_label: Mapping[str, State]

    def verdict(self, state: State, fact: str) -> Row | Verdict:
        """The row that this fact takes in this state, or why there is none."""
        row = self.moves.get((state, fact))
        if row is not None:
            return row
        return Verdict.IGNORED if (state, fact) in self.ignored else Verdict.REFUSED


def machine(
    biz: str, states: tuple[State, ...], facts: Iterable[str], rows: tuple[Row, ...],
    ignored: Mapping[str, Iterable[State]],
) -> Machine:
    """Build a machine; two rows for one (state, fact), or a word that is not declared, is a mistake in the table."""
    known, moves = tuple(facts), {}
    for row in rows:
        assert row.state in states and row.fact in known and (row.target is None or row.target in states), row
        assert (row.state, row.fact) not in moves, f"two rows for {row.state.label} + {row.fact}"
        moves[row.state, row.fact] = row
    passed_over = frozenset((state, fact) for fact, where in ignored.items() for state in where)
    assert not passed_over & moves.keys(), "a fact both moves and is ignored"
    return Machine(biz, states, known, rows, moves, passed_over, {state.label: state for state in states})
