"""What risk control answers: outcomes, balances, holds, totals, findings. Amounts are integer minor units."""

from __future__ import annotations

from typing import NamedTuple

from core.assets.operations import Stage
from core.errors import Code


class Outcome(NamedTuple):
    """The answer to one operation; a refusal is a value. ``replayed``: the key was known, nothing happened now."""

    code: Code
    detail: str = ""
    replayed: bool = False

    @property
    def ok(self) -> bool:
        """The ledger is as the operation wanted it."""
        return self.code is Code.OK


class Balance(NamedTuple):
    """One account in one currency (gaps.md A-17)."""

    available: int = 0
    frozen: int = 0
    in_transit: int = 0

    @property
    def total(self) -> int:
        """Total assets: unchanged while a withdrawal is in progress (FRZ-01)."""
        return self.available + self.frozen + self.in_transit

    @property
    def frozen_shown(self) -> int:
        """The "frozen amount" people see: deducted but unconfirmed money counts as frozen (FRZ-04)."""
        return self.frozen + self.in_transit


class Hold(NamedTuple):
    """A reservation. ``freeze_type``: a `core.domain.FreezeType`; ``closed_by``: the operation that closed it."""

    hold_id: str
    account: int
    ccy: str
    amount: int
    freeze_type: int
    stage: Stage
    closed_by: str | None
    opened_at: int
    closed_at: int | None

    @property
    def is_open(self) -> bool:
        """Money still lies in `frozen` or `in_transit` under this hold."""
        return self.stage in (Stage.FROZEN, Stage.IN_TRANSIT)


class Totals(NamedTuple):
    """All accounts in one currency; ``external`` is minus the sum of the other three."""

    available: int
    frozen: int
    in_transit: int
    external: int


class Finding(NamedTuple):
    """One thing that `RiskControl.verify` found wrong: which check, about what, and how."""

    check: str
    subject: str
    detail: str
