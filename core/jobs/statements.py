"""The statements of the job queue (table ``queue``) and of the log of periodic jobs (``job_run``)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, insert, or_, select, update

from core.domain import JobState
from core.storage import Statement
from core.storage.primary import job_run, queue

OPEN = (int(JobState.READY), int(JobState.RUNNING), int(JobState.RETRY))
"""States in which a job still has a run ahead of it."""

RECORD = ("id", "event", "key", "payload", "state", "retry_count", "max_retry", "next_run_at", "lease_owner",
          "lease_until", "last_error", "created_at", "updated_at")

_Q = queue.c
_ROW = select(*(_Q[name] for name in RECORD))
_THIS = _Q.id == bindparam("b_id")
_MINE = _Q.lease_owner == bindparam("b_me")
_OPEN = _Q.state.in_(OPEN)
_FREE = or_(_Q.lease_until.is_(None), _Q.lease_until <= bindparam("b_now"))


def _to(*names: str) -> dict[str, Any]:
    return {name: bindparam(name) for name in names}


INSERT = Statement(insert(queue).values(_to(*(name for name in RECORD if name != "id"))))

SETTLE = Statement(update(queue).where(_THIS, _MINE, _OPEN).values(
    _to("state", "retry_count", "next_run_at", "last_error", "lease_owner", "lease_until", "updated_at")))
"""After a run, only by the holder of the lease."""

AGAIN = Statement(update(queue).where(_THIS, _MINE, _Q.state == int(JobState.RETRY)).values(
    _to("retry_count", "next_run_at", "last_error", "lease_until", "updated_at")))
"""One more poll of a job in RETRY by the holder of its lease: nothing that an index holds is set."""

SETTLE_PAYLOAD = Statement(update(queue).where(_THIS, _MINE, _OPEN).values(
    _to("state", "retry_count", "next_run_at", "last_error", "lease_owner", "lease_until", "updated_at", "payload")))

NOTE = Statement(update(queue).where(_THIS, _MINE, _OPEN).values(_to("payload", "updated_at")))
"""Something a run wants known whatever becomes of it; only by the holder of the lease."""

CLAIM = Statement(update(queue).where(_THIS, _OPEN, _Q.next_run_at <= bindparam("b_now"), or_(_MINE, _FREE)).values(
    state=int(JobState.RUNNING), **_to("lease_owner", "lease_until", "updated_at")))
"""Take a due job whose lease is mine, absent or over."""

RENEW = Statement(update(queue).where(_THIS, _MINE, _OPEN, _Q.lease_until == bindparam("b_until")).values(
    _to("lease_until")))
"""Compare and set: a lease that the run's own settling has moved meanwhile is left alone."""

GIVE_UP_LEASES = Statement(update(queue).where(_MINE, _OPEN).values(lease_owner=None, lease_until=None))

REOPEN = Statement(update(queue).where(_THIS, _Q.state == int(JobState.EXCEPTION)).values(
    state=int(JobState.RETRY), retry_count=_Q.max_retry, **_to("next_run_at", "lease_owner", "lease_until",
                                                              "updated_at")))

BY_ID = Statement(_ROW.where(_THIS))
BY_KEY = Statement(_ROW.where(_Q.event == bindparam("b_event"), _Q.key == bindparam("b_key")))
OPEN_JOBS = Statement(_ROW.where(_OPEN).order_by(_Q.next_run_at, _Q.id).limit(bindparam("b_limit")))
IN_STATE = Statement(_ROW.where(_Q.state == bindparam("b_state")).order_by(_Q.next_run_at, _Q.id).limit(
    bindparam("b_limit")))


_FURTHER: ColumnElement[bool] = or_(_Q.next_run_at > bindparam("b_due"), and_(
    _Q.next_run_at == bindparam("b_due"), _Q.id > bindparam("b_after")))

FREE_JOBS = Statement(_ROW.where(_OPEN, _FREE, _Q.next_run_at <= bindparam("b_horizon"), _FURTHER).order_by(
    _Q.next_run_at, _Q.id).limit(bindparam("b_limit")))
"""Jobs that nobody holds and that fall due by ``b_horizon``, after (``b_due``, ``b_after``).

Names are not asked for: with them a database goes by the unique key and reads every job ever done.
"""

_R = job_run.c
NEW_RUN = Statement(insert(job_run).values(_to("job", "started_at", "finished_at", "outcome", "skipped")))
END_RUN = Statement(update(job_run).where(_R.id == bindparam("b_id")).values(
    _to("finished_at", "outcome", "skipped")))
RUNS_OF = Statement(select(_R.id, _R.job, _R.started_at, _R.finished_at, _R.outcome, _R.skipped).where(
    _R.job == bindparam("b_job")).order_by(_R.started_at, _R.id))
