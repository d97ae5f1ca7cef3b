"""What cores in real time share in these tests: a clock that runs as the machine's, and an account service."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from core.accounts import CustomerNames
from core.clock import epoch_ms

UID, ACCOUNT, CARD_ID, NAME = 7_000_001, 700_000_101, 42, "CHAN TAI MAN"


class ShiftedClock:
    """A clock that runs as the machine's and began at a Hong Kong time."""

    def __init__(self, begun: str) -> None:
        self._shift_us = epoch_ms(datetime.fromisoformat(begun)) * 1000 - time.monotonic_ns() // 1000

    def now_us(self) -> int:
        return time.monotonic_ns() // 1000 + self._shift_us

    def now_ms(self) -> int:
        return self.now_us() // 1000


class OneCustomer:
    """The account service of a platform with one customer."""

    def __init__(self, risk_control: Any) -> None:
        self._risk = risk_control

    async def trade_account(self, uid: int, market: int) -> int:
        return ACCOUNT

    async def settled_cash(self, trade_acc_id: int, ccy: str) -> int:
        return int((await self._risk.balances(trade_acc_id, ccy)).available)

    async def risk_level(self, uid: int) -> int:
        return 1

    async def names(self, uid: int) -> CustomerNames | None:
        return CustomerNames(NAME) if uid == UID else None
