"""A server as a process: ended by signals, and by what must not be passed over."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from core.errors import NostroError
from emulators.standalone.loop import ServedLoop


class Stop(Protocol):
    """Ends a server; ``error`` is why, if it is not by wish."""

    def __call__(self, error: BaseException | None = None) -> None: ...


@contextmanager
def ended_by_signals(stop: Callable[[], None], loop: ServedLoop) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM call ``stop`` on the loop instead of ending the process."""

    def heard(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(stop)

    before = {number: signal.signal(number, heard) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ended_by_broken_rules(stop: Stop) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An exception handler: a broken rule of our own ends the server, anything else is told and it goes on."""

    def failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, NostroError):
            stop(error)
        else:
            loop.default_exception_handler(context)

    return failed
