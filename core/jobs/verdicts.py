"""What a run of a queued job ends with. Handlers return one of four; the queue turns it into the job's row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Done:
    """Finished: the job never runs again, and its (event, key) stays taken."""


class Again(NamedTuple):
    """Run again at ``due_ms`` (epoch milliseconds; a past moment means now).

    ``error``: what went wrong, a bank's code first; empty for a plain poll without a result.
    ``counts``: this run uses up one retry; one more than ``max_retry`` makes the job an exception (JOB-018).
    ``payload``: replaces the job's payload.
    """

    due_ms: int
    error: str = ""
    counts: bool = True
    payload: Mapping[str, Any] | None = None


class Exhausted(NamedTuple):
    """EXCEPTION: people must look at it. The run counts as one retry as far as ``max_retry`` allows.

    ``alert``: the rule of `core.alerts.RULES` to raise after the commit, under the key ``about`` (the job's own id if
    empty); "" if the handler raises its own.
    """

    error: str
    alert: str = "JOB-01"
    about: str = ""


class Failed(NamedTuple):
    """FAILED: a definite end without success, dealt with by the handler. No alert."""

    error: str


Verdict = Done | Again | Exhausted | Failed


class Ending(NamedTuple):
    """The row after a run, and what is to be said about it. ``error`` is this run's, ``last_error`` the row's."""

    state: int
    retry_count: int
    due_ms: int
    error: str
    last_error: str
    payload: Mapping[str, Any]
    lease_until: int | None
    alert: str = ""
    about: str = ""
