"""Calls between services (SRPC): one port, so that latency, timeouts and faults have one place.

In one process a call is an await. The simulation's `Rpc` adds the documented latencies and injected faults by
name; between processes the same names are gRPC methods. Silence raises `core.errors.OutcomeUnknown`: the caller
asks again with the same idempotency key, it never guesses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Rpc(Protocol):
    """``await rpc("risk_control.freeze", risk_control.freeze, key, …)``."""

    async def __call__(self, name: str, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T: ...


async def in_process(name: str, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:  # noqa: ARG001 - the port's shape
    """The live form within one process: nothing between caller and callee."""
    return await function(*args, **kwargs)
