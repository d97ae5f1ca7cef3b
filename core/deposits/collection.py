"""What a core asks of every collector of statements: one per bank, each for itself (ADR-006).

A collector owns its bank's way of telling: sessions, cursors, schedules, files. It turns what it hears into `Entry` and
hands it to `Statements`; nothing else of the platform knows the bank. One that fails leaves the others working: its
jobs are its own, and it shares no state with another collector.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, Protocol

from core.calendars import Calendars
from core.clock import Clock
from core.deposits.statements import Statements
from core.jobs import Jobs
from core.settings import Settings
from core.storage import Database
from core.trace import Trace


class StatementRoom(NamedTuple):
    """What every collector is given."""

    db: Database
    clock: Clock
    trace: Trace
    settings: Settings
    calendars: Calendars
    jobs: Jobs
    statements: Statements


class Collector(Protocol):
    """One bank's collection of statements."""

    bank: str

    @property
    def scheduled(self) -> Mapping[str, Callable[[], Awaitable[Any]]]:
        """Job of the timetable -> what is done for it."""

    @property
    def handlers(self) -> Mapping[str, Any]:
        """Job of the queue -> handler."""

    async def start(self, spawn: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        """Read cursors, connect, listen for pushes; returns when it is ready or goes on trying."""

    async def stop(self) -> None:
        """Close what is open."""


Collect = Callable[[Any, StatementRoom], Collector]
"""Makes the collector of one bank from its lines (whatever that bank's adapter needs) and the room."""
