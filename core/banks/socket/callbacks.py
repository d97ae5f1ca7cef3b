"""How many of a bank's callbacks are timeouts (-5) and rejections (-6): alerts when too many (ALERT-SOCK-02, -03).

A callback is a result code learned, in an answer or a push; a response that stays away counts as -5. The share is of
the last 15 minutes, and says nothing while there are fewer than 20 (gaps.md B-14). Reported at most once in half an
hour for each bank.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from core.alerts import raise_alert
from core.clock import MS_PER_S, Clock
from core.trace import Trace


class CallbackRatios:
    """The window of one bank."""

    def __init__(self, bank: str, clock: Clock, trace: Trace, settings: Mapping[str, Any]) -> None:
        self._bank, self._clock, self._trace = bank, clock, trace
        self._window_ms: int = settings["alerts.socket.window_s"] * MS_PER_S
        self._least: int = settings["alerts.socket.least"]
        self._quiet_ms: int = settings["alerts.dedup_s"] * MS_PER_S
        self._limits = {-5: ("SOCK-02", settings["alerts.socket.timeout_share"]),
                        -6: ("SOCK-03", settings["alerts.socket.rejection_share"])}
        self._seen: deque[tuple[int, int]] = deque()
        self._counts: Counter[int] = Counter()
        self._told: dict[str, int] = {}

    def learn(self, code: int) -> None:
        """One callback code."""
        now = self._clock.now_ms()
        self._seen.append((now, code))
        self._counts[code] += 1
        while self._seen[0][0] <= now - self._window_ms:
            self._counts[self._seen.popleft()[1]] -= 1
        if code in self._limits:
            self._judge(code, now)

    def _judge(self, code: int, now: int) -> None:
        rule, limit = self._limits[code]
        number, share = len(self._seen), self._counts[code] / len(self._seen)
        if number < self._least or share <= limit or now - self._told.get(rule, -self._quiet_ms) < self._quiet_ms:
            return
        self._told[rule] = now
        raise_alert(self._trace, rule, self._bank,
                    f"{self._counts[code]} of {number} callbacks in {self._window_ms // 60_000} min are {code}")
