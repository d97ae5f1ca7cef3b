"""What a stand-alone bank has received: numbered, bounded, decoded.

Socket messages are entered by the bank's desk; `HttpJournal` enters what comes to an ASGI application.
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Callable
from enum import Enum
from itertools import islice
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulators.standalone.words import show_moment

SHOWN_BYTES = 65_536
"""Of one body; what is longer is cut in the journal, not for the bank."""


class Journal(deque[dict[str, Any]]):
    """The last ``limit`` entries; each has a running number ``n`` from 1."""

    def __init__(self, limit: int) -> None:
        super().__init__(maxlen=limit)
        self.last = 0

    def append(self, entry: dict[str, Any]) -> None:
        """Number and keep an entry; the oldest gives way."""
        self.last += 1
        super().append({"n": self.last, **entry})

    def after(self, n: int, limit: int) -> list[dict[str, Any]]:
        """Entries with numbers above ``n``, oldest first, at most ``limit``, as plain JSON values."""
        first = self.last - len(self) + 1
        return [_plain(entry) for entry in islice(self, max(0, n + 1 - first), max(0, n + 1 - first) + limit)]


def _plain(entry: dict[str, Any]) -> dict[str, Any]:
    shown = {key: _value(value) for key, value in entry.items() if value is not None}
    shown["at"] = show_moment(entry["at_ms"])
    return shown


def _value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _value(getattr(value, field.name)) for field in dataclasses.fields(value)
                if field.name != "extra" or getattr(value, field.name)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple | list):
        return [_value(item) for item in value]
    return value


class Entering(Protocol):
    """Where entries go."""

    def append(self, entry: dict[str, Any]) -> None: ...


class HttpJournal:
    """An ASGI application that enters each request with its answer; ``message_of`` names it by method and path,
    ``answer_of`` decodes answers that are no JSON and no text for people."""

    def __init__(
        self, app: ASGIApp, journal: Entering, now_ms: Callable[[], int], message_of: Callable[[str, str], str],
        answer_of: Callable[[bytearray], Any] | None = None,
    ) -> None:
        self._answer_of = answer_of or decoded
        self._app = app
        self._journal = journal
        self._now_ms = now_ms
        self._message_of = message_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(receive, send)
        at_ms = self._now_ms()
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._journal.append({
                "at_ms": at_ms, "message": self._message_of(scope["method"], scope["path"]), "method": scope["method"],
                "target": _target(scope), "body": decoded(exchange.asked), "status": exchange.status or None,
                "answer": self._answer_of(exchange.answered)})


class _Exchange:
    """One request and its answer, copied as they pass."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.asked, self.answered = bytearray(), bytearray()
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self.asked += message.get("body", b"")[:SHOWN_BYTES - len(self.asked)]
        return message

    async def send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.answered += message.get("body", b"")[:SHOWN_BYTES - len(self.answered)]
        await self._send(message)


def _target(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    return f"{scope['path']}?{query}" if query else str(scope["path"])


def decoded(data: bytearray) -> Any:
    """JSON, else text, else hexadecimal digits; None if there is nothing."""
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError:
        pass
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.hex()
