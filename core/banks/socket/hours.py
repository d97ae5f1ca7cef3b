"""A bank that says it is closed (-9) while our calendar says it is open (SOCK-11): people are told once, for one of the
two calendars is wrong and every instruction waits meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.alerts import clear_alert, raise_alert
from core.clock import MS_PER_S, Clock
from core.trace import Trace


class Hours:
    """What one bank says of its hours, from one instruction to the next."""

    def __init__(self, bank: str, clock: Clock, trace: Trace, settings: Mapping[str, Any]) -> None:
        self._bank, self._clock, self._trace = bank, clock, trace
        self._alert_ms: int = settings["socket.closed_alert_s"] * MS_PER_S
        self._since_ms: int | None = None
        self._told = False

    def served(self) -> None:
        """An instruction has got past the bank's door."""
        if self._told:
            clear_alert(self._trace, "SOCK-08", self._bank, "the bank takes instructions")
        self._since_ms, self._told = None, False

    def refused(self, *, expected: bool) -> None:
        """-9 was said, ``expected`` if our calendar says closed as well."""
        if expected:
            self._since_ms = None
            return
        now = self._clock.now_ms()
        self._since_ms = now if self._since_ms is None else self._since_ms
        if not self._told and now - self._since_ms >= self._alert_ms:
            self._told = True
            raise_alert(self._trace, "SOCK-08", self._bank, "the bank says -9 while our calendar says that it is open")
