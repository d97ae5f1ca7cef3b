"""An emulated bank at which we receive FPS credits: CGB, SCB or Citi.

A credit has its number when it is booked and is shown some moments later, so two may be shown in the wrong order. SCB
calls our webhook besides, usually before its list shows the credit, and again until somebody acknowledges.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import Random
from typing import Any, Final

from core.clock import MS_PER_S, US_PER_MS, US_PER_S, Clock
from core.money import format_wire
from core.settings import Settings
from core.trace import Trace
from core.wire.fps import Credit, Payee
from emulators.dice import Lognormal, Table
from emulators.faults import Fault, FaultKind
from emulators.loop import timer_of
from emulators.numbered import NumberedBank
from emulators.numbered_faults import CALL, FPS_FAULTS, SCB_FAULTS, Strikes, table_of
from emulators.receiving import Line

SCB: Final = "scb"
BANKS: Final = ("cgb", SCB, "citi")
FAULTS: Final[dict[str, dict[str, FaultKind]]] = {
    bank: SCB_FAULTS if bank == SCB else FPS_FAULTS for bank in BANKS}

Courier = Callable[[Credit, bool], Awaitable[bool]]
"""Calls the webhook with a credit, forged or not; whether it was acknowledged."""


class FpsBank(NumberedBank):
    """``courier``: calls our webhook, where the bank has one and somebody listens."""

    def __init__(
        self, bank: str, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Callable[[str], Random], trace: Trace,
        settings: Settings, *, in_maintenance: Callable[[int], bool] = lambda _ms: False,
    ) -> None:
        super().__init__(bank, loop, clock, streams, trace, settings, table_of(bank, FAULTS[bank]), in_maintenance)
        sim = "sim.credits."
        self._lag_us = Lognormal(settings[sim + "lag.median"], settings[sim + "lag.p99"], streams(f"{bank}.lag"))
        self._kinds = Table([(Payee(kind), share) for kind, share in settings[sim + "payee_kinds"]],
                            sim + "payee_kinds")
        self._draw = streams(f"{bank}.payee").random
        self._payees = {Payee.SVID: settings[f"receiving.{bank}.fps_id"], **{
            Payee(kind): payee for kind, payee in settings["credits.proxies"].items()}}
        self._loop, self._after_us = loop, timer_of(loop)
        self._call_us = round(settings[sim + "webhook.delay_s"] * US_PER_S)
        self._retries_us = [round(wait * US_PER_S) for wait in settings[sim + "webhook.retries_s"]]
        self._calls: dict[asyncio.Task[None], None] = {}
        self.max_skew_ms = round(settings[sim + "clock_skew_s"] * MS_PER_S)
        self._request_limit: int = settings[sim + "requests"]
        self._requests: dict[str, int] = {}
        self.courier: Courier | None = None

    # Credits

    def credited(self, line: Line, struck: list[Fault]) -> None:
        credit = self.number_it(line, struck, self.now_ms() + self._lag_us() // US_PER_MS)
        if self.bank == SCB:
            self._announce(credit, line.customer)

    def item_of(self, line: Line, number: int, changes: Mapping[str, Any]) -> Credit:
        kind = self._kind(line.ccy)
        payee = line.our_account if kind is Payee.BBAN else self._payees[kind]
        return Credit(
            number, line.reference, line.our_account, kind, "169999999" if "stranger" in changes else payee, line.ccy,
            format_wire(line.amount + ("changed" in changes)), line.booked_ms // MS_PER_S * MS_PER_S,
            "" if "nameless" in changes else line.payer_name, line.payer_account, line.remark)

    def _kind(self, ccy: str) -> Payee:
        """FPS carries Hong Kong dollars and renminbi; what comes otherwise names the account."""
        kind = self._kinds.at(self._draw())
        return kind if ccy != "USD" and self._payees.get(kind) else Payee.BBAN

    # The door

    def is_new(self, request_id: str) -> bool:
        """Whether a request id was not used before; refused as well when too many would have to be remembered."""
        now = self.now_ms()
        for known, seen_ms in list(self._requests.items()):
            if seen_ms >= now - 2 * self.max_skew_ms:
                break
            del self._requests[known]
        if request_id in self._requests or len(self._requests) >= self._request_limit:
            return False
        self._requests[request_id] = now
        return True

    # The webhook

    def _announce(self, credit: Credit, customer: str) -> None:
        after_us, again_us, forged = self._call_us, 0, False
        for fault in self.faults.strike(Strikes.CALL, CALL, (credit.reference,), customer):
            if fault.name == "webhook_lost":
                return
            if fault.name == "webhook_late":
                after_us += round(fault.params["late_s"] * US_PER_S)
            elif fault.name == "webhook_repeated":
                again_us = round(fault.params["again_s"] * US_PER_S)
            else:
                forged = True
        self._after_us(after_us, self._begin_call, credit, forged, 0)
        if again_us:
            self._after_us(after_us + again_us, self._begin_call, credit, forged, 0)

    def _begin_call(self, credit: Credit, forged: bool, attempt: int) -> None:
        if self.courier is not None:
            self._spawn(self._call(credit, forged, attempt))

    async def _call(self, credit: Credit, forged: bool, attempt: int) -> None:
        assert self.courier is not None
        if not await self.courier(credit, forged) and attempt < len(self._retries_us):
            self._after_us(self._retries_us[attempt], self._begin_call, credit, forged, attempt + 1)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work, name=f"{self.bank} calls")
        self._calls[task] = None
        task.add_done_callback(self._calls.pop)
