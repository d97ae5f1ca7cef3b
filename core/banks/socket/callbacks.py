"""How many of a bank's callbacks are timeouts (-5) and rejections (-6): alerts when too many (ALERT-SOCK-02, -03).

A callback is how an instruction ends, or seems to: the code of its result, or of an answer that brings no result after
it; a response that stays away counts as -5. An answer that says "taken on" (0), or only points to an earlier sending
(-4), is none. What is said again of the same instruction counts once. The share is of the instructions of the last 15
minutes, and says nothing while there are fewer than 20 (gaps.md B-14). Reported at most once in half an hour for each
bank.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from core.alerts import raise_alert
from core.clock import MS_PER_S, Clock
from core.trace import Trace

NOT_FINAL: Final = (0, -4)
"""Codes of answers to an instruction after which its result is still to come."""


class CallbackRatios:
    """The window of one bank."""

    def __init__(self, bank: str, clock: Clock, trace: Trace, settings: Mapping[str, Any]) -> None:
        self._bank, self._clock, self._trace = bank, clock, trace
        self._window_ms: int = settings["alerts.socket.window_s"] * MS_PER_S
        self._least: int = settings["alerts.socket.least"]
        self._quiet_ms: int = settings["alerts.dedup_s"] * MS_PER_S
        self._limits = {-5: ("SOCK-02", settings["alerts.socket.timeout_share"]),
                        -6: ("SOCK-03", settings["alerts.socket.rejection_share"])}
        self._seen: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._counts: Counter[int] = Counter()
        self._codes_of: Counter[str] = Counter()
        self._told: dict[str, int] = {}

    def answered(self, ref: str, code: int) -> None:
        """An instruction was answered."""
        if code not in NOT_FINAL:
            self.learn(ref, code)

    def learn(self, ref: str, code: int) -> None:
        """The code of an instruction; one that has been said of it within the window changes nothing."""
        now = self._clock.now_ms()
        self._forget(now - self._window_ms)
        if (ref, code) in self._seen:
            return
        self._seen[ref, code] = now
        self._counts[code] += 1
        self._codes_of[ref] += 1
        if code in self._limits:
            self._judge(code, now)

    def _forget(self, until: int) -> None:
        while self._seen:
            (ref, code), since = next(iter(self._seen.items()))
            if since > until:
                return
            del self._seen[ref, code]
            self._counts[code] -= 1
            self._codes_of[ref] -= 1
            if not self._codes_of[ref]:
                del self._codes_of[ref]

    def _judge(self, code: int, now: int) -> None:
        rule, limit = self._limits[code]
        number = len(self._codes_of)
        share = self._counts[code] / number
        if number < self._least or share <= limit or now - self._told.get(rule, -self._quiet_ms) < self._quiet_ms:
            return
        self._told[rule] = now
        raise_alert(self._trace, rule, self._bank,
                    f"{self._counts[code]} of {number} callbacks in {self._window_ms // 60_000} min are {code}")
