"""What Airstar lists: requests that customers began there, and deposits that it took back (gaps.md B-07, A-29).

Every request ends up in ``asb_request`` once. Our own instructions stand there too, in state `OURS`: if the bank
lists one of them as begun by a customer, it is a duplicate and begins nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy import bindparam, func, insert, select, update

from core.alerts import raise_alert
from core.banks.airstar import AirstarGateway, BankRequest, Outcome
from core.clock import Clock
from core.errors import OutcomeUnknown
from core.storage import Database, Statement, Transaction
from core.storage.primary import asb_request
from core.trace import Trace

NEW, ACCEPTED, REFUSED, OURS, DUPLICATE = "NEW", "ACCEPTED", "REFUSED", "OURS", "DUPLICATE"
LISTED_TWICE = "the bank lists our own instruction as begun by a customer"
_BEGINS = {"IN": NEW, "OUT": NEW, "REFUND": "REFUNDED"}
"""Direction -> the bank's status of an entry that is to be dealt with; all else in its list is history."""

_R = asb_request.c
_THIS = _R.request_id == bindparam("request")
STATE = Statement(select(_R.state).where(_THIS))
OWNER = Statement(select(_R.apply_id).where(_THIS))
REQUEST = Statement(select(*(_R[name] for name in (
    "request_id", "direction", "mandate_id", "market", "ccy", "amount", "created_at", "state"))).where(_THIS))
NEWEST = Statement(select(func.max(_R.created_at)).where(
    _R.direction == bindparam("direction"), _R.state.not_in((OURS, DUPLICATE))))
KEEP = Statement(insert(asb_request).values({name: bindparam(name) for name in (
    "request_id", "direction", "mandate_id", "ccy", "amount", "market", "apply_id", "task_id", "state", "created_at",
    "updated_at")}))
CLOSE = Statement(update(asb_request).where(_R.request_id == bindparam("b_request")).values(
    {name: bindparam(name) for name in ("apply_id", "task_id", "state", "updated_at")}))
MARK = Statement(update(asb_request).where(_R.request_id == bindparam("b_request")).values(
    {name: bindparam(name) for name in ("state", "updated_at")}))


async def keep_request(
    tx: Transaction, item: BankRequest, now_ms: int, state: str = NEW, *, apply_id: int | None = None,
    task_id: int | None = None,
) -> None:
    """Note a request; `UniqueViolation` if it stands there already."""
    await tx.execute(KEEP, {
        "request_id": request_key(item.direction, item.request_id), "direction": item.direction,
        "mandate_id": item.mandate_id, "ccy": item.ccy, "amount": item.amount, "market": item.market,
        "apply_id": apply_id, "task_id": task_id, "state": state, "created_at": item.created_ms, "updated_at": now_ms})


async def close_request(
    tx: Transaction, request_id: str, now_ms: int, state: str, *, apply_id: int | None = None,
    task_id: int | None = None,
) -> None:
    """Note what became of a customer's request: `ACCEPTED` for an Apply or a Task, or `REFUSED`."""
    await tx.execute(CLOSE, {"b_request": request_id, "apply_id": apply_id, "task_id": task_id, "state": state,
                             "updated_at": now_ms})


async def take_over(tx: Transaction, ours: BankRequest, apply_id: int, now_ms: int) -> bool:
    """Note that the bank's request is our instruction for this Apply; whether it was listed as a customer's before the
    bank's answer reached us (a duplicate, to be reported once)."""
    listed = await tx.first(STATE, {"request": ours.request_id}) is not None
    if listed:
        await close_request(tx, ours.request_id, now_ms, DUPLICATE, apply_id=apply_id)
    else:
        await keep_request(tx, ours, now_ms, OURS, apply_id=apply_id)
    return listed


def request_key(direction: str, request_id: str) -> str:
    """Key in ``asb_request``: a refund is listed under the id of the deposit that it takes back."""
    return f"REFUND:{request_id}" if direction == "REFUND" else request_id


class Pulls:
    """Pulls a list so that nothing is left out and nothing is taken twice (JOB-010, JOB-016, JOB-017).

    A pull looks back ``look_back_ms`` behind the last one that succeeded: however long pulls fail or do not run, the
    next good one sees all. A new process begins at the newest request that the books know.
    """

    def __init__(self, db: Database, clock: Clock, trace: Trace, gateway: AirstarGateway) -> None:
        self._db, self._clock, self._trace, self._gateway = db, clock, trace, gateway
        self._complete_to: dict[str, int] = {}  # direction -> all that was listed before is in the books

    async def take(
        self, direction: str, look_back_ms: int, keep: Callable[[BankRequest], Awaitable[int]]
    ) -> int:
        """Give every request that the books do not know to ``keep``, oldest first; returns the sum of its answers.

        Raises `OutcomeUnknown` if the bank does not answer.
        """
        now = self._clock.now_ms()
        since = max(0, await self._since(direction) - look_back_ms)
        answer = await self._gateway.bank_requests(direction, since, now + 1)
        if answer.outcome is not Outcome.ACCEPTED:
            raise OutcomeUnknown(f"bank-requests {direction}: {answer.message or answer.code}")
        taken = 0
        for item in answer.data["items"]:
            if item.status == _BEGINS[direction] and await self._is_new(item):
                taken += await keep(item)
        self._complete_to[direction] = now
        return taken

    async def _since(self, direction: str) -> int:
        known = self._complete_to.get(direction)
        if known is None:
            row = await self._db.first(NEWEST, {"direction": direction})
            known = row[0] if row is not None and row[0] is not None else 0
        return known

    async def _is_new(self, item: BankRequest) -> bool:
        key = request_key(item.direction, item.request_id)
        row = await self._db.first(STATE, {"request": key})
        if row is not None and row[0] == OURS:
            await self._db.execute(MARK, {"b_request": key, "state": DUPLICATE, "updated_at": self._clock.now_ms()})
            raise_alert(self._trace, "AIRSTAR-11", key, LISTED_TWICE)
        return row is None
