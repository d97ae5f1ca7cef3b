"""What a paced run shows of itself: its latest events, Procedures by state, alerts that stand. A sink of the trace."""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import Any

import orjson

from core.clock import US_PER_MS
from core.trace import Event
from emulators.standalone.words import show_moment

_SHOWN = ("rule", "name", "severity", "triage", "key", "detail")


class Watch:
    """Keeps the last ``limit`` events, as JSON; counts are of the whole run."""

    def __init__(self, limit: int) -> None:
        self._events: deque[tuple[int, bytes]] = deque(maxlen=limit)
        self._states: dict[str, str] = {}
        self._counts: dict[str, Counter[str]] = {"cash_deposit": Counter(), "cash_withdraw": Counter()}
        self._alerts: dict[tuple[str, str], dict[str, Any]] = {}
        self.last = 0

    def __call__(self, event: Event) -> None:
        n, t_us, kind, subject, data = event
        at = show_moment(t_us // US_PER_MS)
        shown = {"n": n, "at": at, "t_us": t_us, "kind": kind, "subject": subject, "data": data}
        self._events.append((n, orjson.dumps(shown)))
        self.last = n
        if kind == "procedure":
            self._moved(subject, data)
        elif kind == "alert":
            self._alerted(at, data)

    def _moved(self, subject: str, data: dict[str, Any]) -> None:
        counts, before = self._counts[data["biz"]], self._states.get(subject)
        if before is not None:
            counts[before] -= 1
        counts[data["to"]] += 1
        self._states[subject] = data["to"]

    def _alerted(self, at: str, data: dict[str, Any]) -> None:
        key = (data["rule"], data["key"])
        if data["phase"] == "cleared":
            self._alerts.pop(key, None)
        elif key in self._alerts:
            self._alerts[key] |= {"detail": data["detail"], "times": self._alerts[key]["times"] + 1, "latest": at}
        else:
            self._alerts[key] = {name: data[name] for name in _SHOWN} | {"times": 1, "since": at, "latest": at}

    def procedures(self) -> dict[str, dict[str, int]]:
        """Business -> state -> how many Procedures are in it now."""
        return {biz: {state: number for state, number in sorted(counts.items()) if number}
                for biz, counts in self._counts.items()}

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that were raised and not cleared, oldest first."""
        return list(self._alerts.values())

    def events_json(self, after: int, limit: int) -> bytes:
        """``{"last": …, "events": […]}`` with events after a number, at most ``limit``; amounts in minor units."""
        oldest = self._events[0][0] if self._events else 1
        start = max(0, after + 1 - oldest)
        body = b",".join(line for _, line in islice(self._events, start, start + limit))
        return b'{"last":%d,"events":[%s]}' % (self.last, body)
