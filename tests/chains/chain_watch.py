"""What a chain test looks at: when which message left, what the books hold, what people were told."""

from __future__ import annotations

from typing import Any

from core.cards.mandates import CHANGE
from core.clock import US_PER_S
from core.domain import ApplyStatus, MandateStatus
from core.wire.airstar import ERRORS
from tests.rig import Rig

CODES = tuple(sorted(ERRORS))
# Written out here from gaps.md B-07, not taken from the program.
RETRYABLE = (140630010, 140630016, 140630020)
UNKNOWN = (140630003, 140630017, 140630999)  # 003 without the original's id tells nothing
FINAL = tuple(code for code in CODES if code not in RETRYABLE + UNKNOWN)

ALICE = 10_000_001
HELD = {"available": 9_000_000, "frozen": 0, "in_transit": 1_000_000}
UNTOUCHED = {"available": 10_000_000, "frozen": 0, "in_transit": 0}
PAID = {"available": 9_000_000, "frozen": 0, "in_transit": 0}
CREDITED = {"available": 11_000_000, "frozen": 0, "in_transit": 0}


def moments(rig: Rig, message: str) -> list[float]:
    """Virtual seconds at which a message to the bank left, counted from the first one."""
    sent = [event[1] for event in rig.events if event[2] == "bank.request" and event[4]["message"] == message]
    return [(at - sent[0]) / US_PER_S for at in sent]


def runs(rig: Rig, job: str) -> list[dict[str, Any]]:
    """Everything told of a queued job, in order."""
    return rig.of_kind("job", job=job)


def told(rig: Rig, event: str) -> int:
    """How often customers were told this."""
    return len(rig.of_kind("notify", event=event))


def alerts(rig: Rig, rule: str | None = None) -> list[dict[str, Any]]:
    """Alerts that were raised."""
    wanted = {"phase": "raised"} | ({"rule": rule} if rule else {})
    return rig.of_kind("alert", **wanted)


async def status(rig: Rig, apply_id: int) -> str:
    """Name of an Apply's status."""
    apply = await rig.core.applications.find(apply_id)
    assert apply is not None
    return ApplyStatus(apply.status).name


async def money(rig: Rig, who: str = "alice", ccy: str = "HKD") -> dict[str, int]:
    """The three buckets of a customer, minor units."""
    held = await rig.money(who, ccy)
    return {"available": held.available, "frozen": held.frozen, "in_transit": held.in_transit}


async def job_row(rig: Rig, event: str, key: str) -> Any:
    """The row of a queued job, or None."""
    return await rig.core.jobs.find(event, key)


async def in_state(rig: Rig, state: MandateStatus) -> None:
    """Bring alice's authorization, as our books know it, into a state."""
    mandate = await rig.core.mandates.of_card(rig.world.card_id(rig.customer("alice"), "airstar"))
    assert mandate is not None
    await rig.world.databases.account.execute(CHANGE, {
        "b_id": mandate.id, "b_status": mandate.status, "status": int(state), "mandate_id": mandate.mandate_id,
        "market_mask": 0, "opened_at": None, "closed_at": None, "fail_code": "", "updated_at": rig.now_ms})
