"""Hops: what each service did for one deposit or withdrawal, on which tables, and how long it took (TRACE-05).

A deposit is followed under the id of its Apply (``A12``), a withdrawal under that of its Task (``T7``), from the first
push or job to the last write-back. Whoever works for it says so with `follow`; calls between services made meanwhile
are told as ``hop`` events. The id travels in a context variable: it belongs to the running task and its children.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, NamedTuple, TypeVar

from core.clock import Clock
from core.errors import CallFailed, OutcomeUnknown
from core.rpc import Rpc
from core.trace import Trace

T = TypeVar("T")
_following: ContextVar[str] = ContextVar("trace id", default="")


class Hop(NamedTuple):
    """The service that does a call, and the tables it touches (architecture.md §2, §5)."""

    service: str
    tables: tuple[str, ...]


_SBA = ("proc_info", "flow", "outbox", "proc_idem")
_LEDGER = ("balance", "hold", "posting", "entry")
HOPS: Final[dict[str, Hop]] = {
    "push.deposit": Hop("deposit", ("bst_push", "applys", "bst_transfer", "queue")),
    "push.withdrawal": Hop("withdraw", ("bst_push", "tasks", "bst_transfer", "queue")),
    "sba.create_deposit": Hop("sba_deposit_system", (*_SBA, "proc_cash_deposit")),
    "sba.create_withdrawal": Hop("sba_cash_withdraw_system", (*_SBA, "proc_cash_withdraw")),
    "sba.set_manual_transfer_done": Hop("sba_cash_withdraw_system", _SBA),
    "screening.deposit_black": Hop("hk-deposit-blacklist-go", ("list_entry",)),
    "screening.deposit_white": Hop("hk-deposit-whitelist-go", ("list_entry",)),
    "screening.withdraw": Hop("hk-withdraw-blacklist-go", ("list_entry",)),
    "risk_control.freeze": Hop("risk_control", _LEDGER),
    "risk_control.release": Hop("risk_control", _LEDGER),
    "risk_control.deduct": Hop("risk_control", _LEDGER),
    "risk_control.refreeze": Hop("risk_control", _LEDGER),
    "risk_control.restore": Hop("risk_control", _LEDGER),
    "risk_control.consume": Hop("risk_control", _LEDGER),
    "risk_control.settle": Hop("risk_control", _LEDGER),
    "risk_control.add": Hop("risk_control", _LEDGER),
    "risk_control.add_held": Hop("risk_control", _LEDGER),
    "risk_control.debit": Hop("risk_control", _LEDGER),
    "risk_control.query": Hop("risk_control", ("posting",)),
    "risk_control.void": Hop("risk_control", ("posting",)),
    "risk_control.hold": Hop("risk_control", ("hold",)),
    "owner.instruct": Hop("withdraw", ("queue", "tasks")),
    "owner.tell_deposit": Hop("deposit", ("applys", "refund")),
    "owner.tell_withdraw": Hop("withdraw", ("tasks", "flows")),
}
"""Every call between services. A call that is missing here fails the test that enumerates them."""


def follow(trace_id: str) -> None:
    """What this task does from now on, it does for this deposit or withdrawal; "" for none."""
    _following.set(trace_id)


def follow_job(payload: Mapping[str, Any]) -> None:
    """As `follow`, for a job whose payload names an Apply or a Task."""
    apply, task = payload.get("apply"), payload.get("task")
    _following.set(f"A{apply}" if apply else f"T{task}" if task else "")


def followed() -> str:
    """The deposit or withdrawal that this task works for, or ""."""
    return _following.get()


def tell_hop(trace: Trace, trace_id: str, call: str, took_us: int, outcome: str = "ok") -> None:
    """One hop that has ended now."""
    hop = HOPS[call]
    trace.emit("hop", trace_id, {"trace": trace_id, "service": hop.service, "call": call, "tables": list(hop.tables),
                                 "us": took_us, "outcome": outcome})


class TracedRpc:
    """Calls between services, each told as a hop of what is being followed."""

    def __init__(self, rpc: Rpc, clock: Clock, trace: Trace) -> None:
        self._rpc, self._clock, self._trace = rpc, clock, trace

    async def __call__(self, name: str, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        trace_id = _following.get()
        if not trace_id:
            return await self._rpc(name, function, *args, **kwargs)
        began, outcome = self._clock.now_us(), "ok"
        try:
            return await self._rpc(name, function, *args, **kwargs)
        except (OutcomeUnknown, CallFailed) as failure:
            outcome = "unknown" if isinstance(failure, OutcomeUnknown) else "refused"
            raise
        finally:
            tell_hop(self._trace, trace_id, name, self._clock.now_us() - began, outcome)
