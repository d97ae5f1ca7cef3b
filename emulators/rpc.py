"""SRPC as the simulation sees it: every call takes its documented time and may fail on command.

Faults are named by the call (``risk_control.freeze``) or by a service (``risk_control``):
``fail`` is an error that does definitely nothing; ``reject`` is the service's own no, a value (risk control's internal
rule); ``timeout_before`` is silence and nothing was done; ``timeout_after`` is silence although it was done: the caller
cannot tell the last two apart.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast

from core.errors import CallFailed, Code, Misconfigured, OutcomeUnknown, Refusal
from emulators.streams import lognormal_parameters

T = TypeVar("T")
FAULTS = ("fail", "reject", "timeout_before", "timeout_after")
REJECTING = ("risk_control.freeze", "risk_control.deduct", "risk_control.add", "risk_control.add_held",
             "risk_control.debit")
"""Calls that a service may answer with a no of its own."""


class SimulatedRpc:
    """The `core.rpc.Rpc` of virtual and paced runs. Times in seconds."""

    def __init__(self, rng: random.Random, values: Mapping[str, Any]) -> None:
        self._draw = rng.lognormvariate
        self._srpc = lognormal_parameters(values["sim.rpc.median_s"], values["sim.rpc.p99_s"])
        self._risk = lognormal_parameters(values["sim.rpc.risk_median_s"], values["sim.rpc.risk_p99_s"])
        self._timeout: float = values["srpc.timeout_s"]
        self._faults: dict[str, tuple[str, float, random.Random]] = {}
        self.calls = 0

    def fault(self, kind: str, call: str, rng: random.Random, share: float = 1.0) -> None:
        """From now on ``share`` of the calls named ``call`` (or of that service) suffer ``kind``."""
        if kind not in FAULTS:
            raise Misconfigured(f"no rpc fault {kind!r}", remedy=f"one of {', '.join(FAULTS)}")
        if kind == "reject" and call not in REJECTING:
            raise Misconfigured(f"{call} is not rejected by a rule", remedy=f"one of {', '.join(REJECTING)}")
        self._faults[call] = (kind, share, rng)

    def clear(self, call: str) -> None:
        """End the fault of a call."""
        self._faults.pop(call, None)

    async def __call__(self, name: str, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        self.calls += 1
        mu, sigma = self._risk if name.startswith("risk_control.") else self._srpc
        await asyncio.sleep(self._draw(mu, sigma))
        if self._faults:
            kind = self._suffers(name)
            if kind is not None:
                return await self._fail(kind, name, function, args, kwargs)
        return await function(*args, **kwargs)

    def _suffers(self, name: str) -> str | None:
        found = self._faults.get(name) or self._faults.get(name.partition(".")[0])
        return found[0] if found and found[2].random() < found[1] else None

    async def _fail(self, kind: str, name: str, function: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
        if kind == "fail":
            raise CallFailed(f"{name} refused")
        if kind == "reject":
            return cast(T, Refusal(Code.FORBIDDEN, "refused by an internal rule"))
        if kind == "timeout_after":
            await function(*args, **kwargs)
        await asyncio.sleep(self._timeout)
        raise OutcomeUnknown(f"{name}: no answer within {self._timeout:g} s")

