"""An emulated bank that notifies us of incoming transfers: a mailbox of JSON lines (gaps.md B-44, A-58).

A notification is made some minutes after the booking; it has its number when it comes into the mailbox, so bookings
may stand there in another order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from random import Random
from statistics import NormalDist
from typing import Any, Final

from core.clock import MS_PER_S, US_PER_S, Clock
from core.errors import Misconfigured
from core.money import format_wire
from core.settings import Settings
from core.trace import Trace
from core.wire.notices import Notice
from emulators.faults import Fault
from emulators.loop import timer_of
from emulators.numbered import NumberedBank
from emulators.numbered_faults import FAULTS, table_of
from emulators.receiving import Line

BANKS: Final = ("hase", "ccba", "dbs", "za", "spd")
_P95_SIGMAS: Final = NormalDist().inv_cdf(0.95)
_DELAY: Final = "sim.notices.delay"


class MailboxBank(NumberedBank):
    """One of the banks."""

    def __init__(
        self, bank: str, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Callable[[str], Random], trace: Trace,
        settings: Settings, *, in_maintenance: Callable[[int], bool] = lambda _ms: False,
    ) -> None:
        super().__init__(bank, loop, clock, streams, trace, settings, table_of(bank, FAULTS), in_maintenance)
        median, p95, cap = (settings[f"{_DELAY}.{name}"] for name in ("median_s", "p95_s", "cap_s"))
        if not 0 < median <= p95 <= cap:
            raise Misconfigured(f"median {median}, p95 {p95}, cap {cap}", where=_DELAY, remedy="each at least the last")
        self._mu, self._sigma = math.log(median), math.log(p95 / median) / _P95_SIGMAS
        self._whole = bank in settings["sim.notices.whole_account"]
        self._cap_s, self._rng, self._after_us = cap, streams(f"{bank}.notices"), timer_of(loop)

    def delay_s(self) -> float:
        """How long the next notification takes."""
        return float(min(self._cap_s, self._rng.lognormvariate(self._mu, self._sigma)))

    def credited(self, line: Line, struck: list[Fault]) -> None:
        self._after_us(round(self.delay_s() * US_PER_S), self._notify, line, struck)

    def _notify(self, line: Line, struck: list[Fault]) -> None:
        self.number_it(line, struck, self.now_ms())

    def item_of(self, line: Line, number: int, changes: Mapping[str, Any]) -> Notice:
        return Notice(number, self.bank, line.reference, line.ccy, format_wire(line.amount + ("changed" in changes)),
                      "" if "nameless" in changes else line.payer_name, line.payer_account[-4:],
                      line.booked_ms // MS_PER_S * MS_PER_S, line.payer_account if self._whole else "")
