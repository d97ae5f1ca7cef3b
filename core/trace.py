"""The one event stream: whatever can be observed is an event, and every reader is a sink.

An event is a plain tuple ``(n, t_us, kind, subject, data)``:

* ``n``: running number from 1
* ``t_us``: epoch microseconds of the injected clock
* ``kind``: one of `KINDS`
* ``subject``: what it is about, as a string id (``"P17"`` a Procedure, ``"A3"`` an Apply, ``"T5"`` a Task, …); of a
  hop its trace id
* ``data``: a dict of JSON values (str, int, bool, None, list, dict); amounts in minor units

Sinks must not keep ``data`` beyond the call unless they copy it, and must never change it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from core.clock import Clock

Event = tuple[int, int, str, str, dict[str, Any]]
Sink = Callable[[Event], None]

KINDS: dict[str, str] = {
    "run": "start or end of a run",
    "apply": "a deposit application was created or changed its status",
    "task": "a withdrawal task was created or changed its status or step",
    "procedure": "a Procedure moved by one transition; carries one Flow record",
    "refused": "an operation was refused",
    "note": "a fact was recorded on a Procedure without moving it",
    "posting": "a posting in risk control's ledger",
    "debit": "a direct debit was created or changed its state",
    "edda": "a direct-debit authorisation changed its status",
    "bank.request": "our adapter sent a message to a bank",
    "bank.reply": "the bank's answer, or its absence",
    "bank.book": "a posting in the bank's own book",
    "statement": "an entry of a bank's statement was kept, or supplemented",
    "log": "a line of a collector's log: what it noticed, in the words for which people search",
    "match": "a statement entry and an application were put together, or taken apart",
    "reminder": "operations were reminded of a statement entry, with the applications that may be meant",
    "recovery": "pushes that a bank had made and nobody had heard were fetched",
    "bank.push": "a bank told something by itself",
    "bank.line": "a connection to a bank's exit server became active, was lost, or did not come about",
    "bank.gate": "a bank's service window opened or closed",
    "job": "a job was queued, ran, was repeated or ended",
    "card": "a customer's bank card was bound, verified, frozen or unbound",
    "hop": "a service did something for the deposit or withdrawal with this trace id",
    "fault": "an injected fault began or ended",
    "staff": "a member of staff acted",
    "alert": "an alert was raised or cleared",
    "notify": "a customer was told something",
    "core": "the core started, was killed, recovered",
    "calendar": "a calendar override became known",
}


class Committing(Protocol):
    """What publishes after a commit: a transaction."""

    def after_commit(self, callback: Callable[[], object]) -> None: ...


class Trace:
    """Numbers events and hands each to every sink, in order."""

    __slots__ = ("_n", "_sinks", "hops", "now_us", "polls")

    def __init__(self, clock: Clock, *sinks: Sink) -> None:
        self.now_us: Callable[[], int] = clock.now_us
        self.hops = 0  # how many have begun
        self.polls = False  # whether polls that found nothing new are told as hops
        self._sinks: list[Sink] = list(sinks)
        self._n = 0

    def subscribe(self, sink: Sink) -> None:
        """Add a reader; it sees events from now on."""
        self._sinks.append(sink)

    def emit(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Publish one event at the present moment."""
        self._n += 1
        event = (self._n, self.now_us(), kind, subject, data)
        for sink in self._sinks:
            sink(event)

    def publish(self, tx: Committing, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Publish one event when the transaction commits, and not if it does not."""
        tx.after_commit(partial(self.emit, kind, subject, data))
