"""Hops: what each service did for one deposit or withdrawal, on which tables, and how long it took (TRACE-05).

Rules
-----
* A deposit is followed under the id of its Apply (``A12``), a withdrawal under that of its Task (``T7``), a Procedure
  that was created without either under its own (``P3``): the trace id, from the wish or the push to the last
  write-back.
* A hop is one stretch of work of one service: a call from another service, an exchange with a bank, the run of a job,
  a push taken, a request of the App or of staff. When it ends it is told as a ``hop`` event under the trace id.
* Hops are numbered. One that is part of another names it (``in``), and belongs to the same deposit or withdrawal; where
  that is found out on the way (the Apply is created, the Procedure is read) `belongs_to` says so, and what has ended
  before is told then. What belongs to none, such as a mandate, is not told.
* Tables are recorded, not declared: each statement names its own to the hop in which it runs, the innermost.
* A poll that found nothing new is not told, nor is the run that asked (``jobs.trace_polls`` tells them as well).
* A core that dies tells nothing of what it was doing.

The hop under way is a context variable: it belongs to the running task, and to tasks that are gathered inside it. What
a core spawns to run by itself begins without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context, ContextVar, copy_context
from types import TracebackType
from typing import Any, Final, TypeVar

from core.domain import BizType
from core.errors import CallFailed, OutcomeUnknown
from core.rpc import Rpc
from core.trace import Trace

T = TypeVar("T")

SERVICES: Final[dict[str, str]] = {
    "sba.create_deposit": "sba_deposit_system",
    "sba.create_withdrawal": "sba_cash_withdraw_system",
    "sba.set_manual_transfer_done": "sba_cash_withdraw_system",
    "screening.deposit_black": "hk-deposit-blacklist-go",
    "screening.deposit_white": "hk-deposit-whitelist-go",
    "screening.withdraw": "hk-withdraw-blacklist-go",
    **{f"risk_control.{name}": "risk_control" for name in (
        "freeze", "release", "deduct", "refreeze", "restore", "consume", "settle", "add", "add_held", "debit", "query",
        "void", "hold")},
    "owner.instruct": "withdraw",
    "owner.tell_deposit": "deposit",
    "owner.tell_withdraw": "withdraw",
}
"""Every call between services, and the service that does it (architecture.md §2)."""

SBA: Final[dict[str, str]] = {
    BizType.CASH_DEPOSIT: "sba_deposit_system", BizType.CASH_WITHDRAW: "sba_cash_withdraw_system"}
LINES: Final[dict[str, str]] = {
    "airstar": "airstar_service", "cmb": "cmb_stock_trans", "cmbc": "ms_stock_bank_transaction",
    "hsbc_eddi": "sba_hsbc_eddi", "hase_eddi": "sba_hase_eddi"}
"""Bank -> the service that speaks with it."""
CARDS: Final = "bankcard_service"


class Hop:
    """``with Hop(trace, "deposit.submit", "deposit", of=""): …``: one hop, told when the block ends.

    ``of``: the trace id; "" if only the block finds it out; None for that of the enclosing hop.
    ``quiet``: nothing new was found; the block says so.
    """

    __slots__ = ("_before", "_began_us", "_ended", "_trace", "_whole", "call", "number", "quiet", "service", "tables",
                 "trace_id")

    def __init__(self, trace: Trace, call: str, service: str, of: str | None = None) -> None:
        before = _under_way.get()
        self._trace, self.call, self.service, self._before = trace, call, service, before
        self._whole = whole = before if of is None else None
        self.trace_id: str = of or (whole.trace_id if whole is not None else "")
        self._ended: list[dict[str, Any]] | None = None  # parts that have ended while nobody knew whose they are
        self.tables: dict[str, None] = {}
        self.quiet = False

    def __enter__(self) -> Hop:
        trace = self._trace
        trace.hops = self.number = trace.hops + 1
        self._began_us = trace.now_us()
        _under_way.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if kind is GeneratorExit:  # a coroutine that is thrown away, outside its task
            return
        whole = self._whole
        _under_way.set(self._before)
        self._before = self._whole = None  # who remembers this hop must not remember all that came before
        if (self.quiet and not self._trace.polls) or (whole is None and not self.trace_id):
            return
        outcome = "ok" if kind is None else _outcome(kind)
        if outcome:
            (whole or self).tell(self._ended, {
                "hop": self.number, "in": whole.number if whole is not None else None, "service": self.service,
                "call": self.call, "tables": list(self.tables), "began_us": self._began_us,
                "us": self._trace.now_us() - self._began_us, "outcome": outcome})

    def tell(self, before: list[dict[str, Any]] | None, last: dict[str, Any]) -> None:
        """What has ended here; it is kept until it is known for whom it was done."""
        if not self.trace_id:
            self._ended = [*(self._ended or ()), *(before or ()), last]
            return
        for data in before or ():
            self._trace.emit("hop", self.trace_id, data)
        self._trace.emit("hop", self.trace_id, last)

    def belongs_to(self, trace_id: str) -> None:
        """Found out what this is done for; so is what it is a part of."""
        hop: Hop | None = self
        while hop is not None and not hop.trace_id:
            hop.trace_id = trace_id
            hop = hop._whole


def _outcome(kind: type[BaseException]) -> str:
    """How a hop ended that raised; "" if its core died."""
    if issubclass(kind, OutcomeUnknown):
        return "unknown"
    if issubclass(kind, CallFailed):
        return "refused"
    return "failed" if issubclass(kind, Exception) else ""


_under_way: ContextVar[Hop | None] = ContextVar("hop", default=None)
under_way = _under_way.get
"""The innermost hop of the running task, or None."""


def apart() -> Context:
    """The running task's context without its hop: for what goes on by itself."""
    context = copy_context()
    context.run(_under_way.set, None)
    return context


def belongs_to(trace_id: str) -> None:
    """What is being done here is done for this deposit or withdrawal, if that was not known yet."""
    hop = _under_way.get()
    if hop is not None:
        hop.belongs_to(trace_id)


def tell_exchange(trace: Trace, bank: str, message: str, began_us: int, outcome: str) -> None:
    """An exchange with a bank has ended: a hop of the service that speaks with that bank. It touches no table, and has
    the answer as its outcome."""
    hop = _under_way.get()
    if hop is not None and (outcome != "PENDING" or trace.polls):
        trace.hops += 1
        hop.tell(None, {
            "hop": trace.hops, "in": hop.number, "service": LINES[bank], "call": f"{bank}.{message}", "tables": [],
            "began_us": began_us, "us": trace.now_us() - began_us, "outcome": outcome})


def trace_of(names: Mapping[str, Any]) -> str:
    """The trace id for what names an ``apply`` or a ``task``, such as the payload of a job; "" if it names neither."""
    apply, task = names.get("apply"), names.get("task")
    return f"A{apply}" if apply else f"T{task}" if task else ""


class TracedRpc:
    """Calls between services, each of them a hop."""

    def __init__(self, rpc: Rpc, trace: Trace) -> None:
        self._rpc, self._trace = rpc, trace

    async def __call__(self, name: str, function: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
        with Hop(self._trace, name, SERVICES[name]):
            return await self._rpc(name, function, *args, **kwargs)
