"""The operations of risk control's ledger: one literal table (gaps.md A-17, A-18).

Rules, before any code:

1. Money lies in one of three buckets per account and currency, or outside: `available`, `frozen`, `in_transit`;
   `external` is the contra account of everything that enters or leaves the platform.
2. A hold reserves one amount of one account under one id. Its money is in `frozen` while its stage is FROZEN, in
   `in_transit` while it is IN_TRANSIT, and has left both once it is closed: RETURNED to the customer or CONSUMED.
3. Every operation at every stage is a `Move`, an adoption (`ADOPT`: already so, answered OK without a second
   movement) or a refusal with a `Code`. There is no default.
4. A hold's reservation ends once. Money that was returned may be taken again only by `settle`, from `available`:
   the bank has paid although the hold was given back (ForceProcess(Complete), WT-32).
5. `VOID` is no operation: it closes a key under which nothing has happened, and nothing ever will.
6. `settle` without a hold leaves a consumed one behind, so that a late `freeze` of the same id is refused.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from core.errors import Code


class Bucket(StrEnum):
    """Where money lies."""

    AVAILABLE = "available"
    FROZEN = "frozen"
    IN_TRANSIT = "in_transit"
    EXTERNAL = "external"


class Stage(IntEnum):
    """How far a hold is. RETURNED and CONSUMED are the two ways of being closed."""

    NONE = 0
    FROZEN = 1
    IN_TRANSIT = 2
    RETURNED = 3
    CONSUMED = 4


class Move(NamedTuple):
    """Money goes from one bucket to another and leaves the hold at ``after`` (None: no hold takes part).

    ``signs`` is what that does to (available, frozen, in_transit): -1, 0 or 1 times the amount.
    """

    origin: Bucket
    target: Bucket
    after: Stage | None
    signs: tuple[int, int, int]


class Adopt(NamedTuple):
    """Already as asked, if account, currency and amount agree: OK without a movement."""


Step = Move | Adopt | Code

ADOPT: Final = Adopt()

VOID: Final = "void"
"""What a posting is that only closes its key: every order that comes under it is refused with BLOCKED, for good."""

_AVAILABLE, _FROZEN, _TRANSIT, _EXTERNAL = Bucket

def _move(origin: Bucket, target: Bucket, after: Stage | None) -> Move:
    available, frozen, in_transit = ((target is at) - (origin is at) for at in (_AVAILABLE, _FROZEN, _TRANSIT))
    return Move(origin, target, after, (available, frozen, in_transit))


_ILLEGAL, _MISSING, _DUPLICATE = Code.ILLEGAL_STATE, Code.NOT_FOUND, Code.DUPLICATE

# Written out in full: each row is an operation, each entry the stage the hold is in when it arrives.
OPERATIONS: Final[dict[str, dict[Stage, Step]]] = {
    "freeze": {
        Stage.NONE: _move(_AVAILABLE, _FROZEN, Stage.FROZEN),
        Stage.FROZEN: ADOPT,  # the hold of the Task, or of the day before
        Stage.IN_TRANSIT: _ILLEGAL,
        Stage.RETURNED: _ILLEGAL,
        Stage.CONSUMED: _ILLEGAL,
    },
    "release": {
        Stage.NONE: _MISSING,
        Stage.FROZEN: _move(_FROZEN, _AVAILABLE, Stage.RETURNED),
        Stage.IN_TRANSIT: _ILLEGAL,
        Stage.RETURNED: _ILLEGAL,
        Stage.CONSUMED: _ILLEGAL,
    },
    "deduct": {
        Stage.NONE: _MISSING,
        Stage.FROZEN: _move(_FROZEN, _TRANSIT, Stage.IN_TRANSIT),
        Stage.IN_TRANSIT: _ILLEGAL,
        Stage.RETURNED: _ILLEGAL,
        Stage.CONSUMED: _ILLEGAL,
    },
    "refreeze": {
        Stage.NONE: _MISSING,
        Stage.FROZEN: _ILLEGAL,
        Stage.IN_TRANSIT: _move(_TRANSIT, _FROZEN, Stage.FROZEN),
        Stage.RETURNED: _ILLEGAL,
        Stage.CONSUMED: _ILLEGAL,
    },
    "restore": {
        Stage.NONE: _MISSING,
        Stage.FROZEN: _ILLEGAL,
        Stage.IN_TRANSIT: _move(_TRANSIT, _AVAILABLE, Stage.RETURNED),
        Stage.RETURNED: _ILLEGAL,
        Stage.CONSUMED: _ILLEGAL,
    },
    "consume": {
        Stage.NONE: _MISSING,
        Stage.FROZEN: _ILLEGAL,
        Stage.IN_TRANSIT: _move(_TRANSIT, _EXTERNAL, Stage.CONSUMED),
        Stage.RETURNED: _ILLEGAL,
        Stage.CONSUMED: _ILLEGAL,
    },
    "settle": {
        Stage.NONE: _move(_AVAILABLE, _EXTERNAL, Stage.CONSUMED),
        Stage.FROZEN: _move(_FROZEN, _EXTERNAL, Stage.CONSUMED),
        Stage.IN_TRANSIT: _move(_TRANSIT, _EXTERNAL, Stage.CONSUMED),
        Stage.RETURNED: _move(_AVAILABLE, _EXTERNAL, Stage.CONSUMED),
        Stage.CONSUMED: ADOPT,  # paid and deducted already: nothing left to take
    },
    "add_held": {
        Stage.NONE: _move(_EXTERNAL, _FROZEN, Stage.FROZEN),
        Stage.FROZEN: _DUPLICATE,
        Stage.IN_TRANSIT: _DUPLICATE,
        Stage.RETURNED: _DUPLICATE,
        Stage.CONSUMED: _DUPLICATE,
    },
    # No hold takes part in these two.
    "add": {Stage.NONE: _move(_EXTERNAL, _AVAILABLE, None)},
    "debit": {Stage.NONE: _move(_AVAILABLE, _EXTERNAL, None)},
}


def stages_served(op: str) -> list[Stage]:
    """The stages of a hold in which an operation moves money, in the order of the table."""
    return [stage for stage, step in OPERATIONS[op].items() if isinstance(step, Move)]


CLOSES_AS: Final[dict[str, Stage]] = {
    op: step.after
    for op, steps in OPERATIONS.items()
    for step in steps.values()
    if isinstance(step, Move) and step.after in (Stage.RETURNED, Stage.CONSUMED)
}
"""The stage in which an operation leaves the hold it closes."""

ADOPTS: Final[tuple[str, ...]] = tuple(op for op, steps in OPERATIONS.items() if ADOPT in steps.values())
"""Operations that may be done without a movement."""
