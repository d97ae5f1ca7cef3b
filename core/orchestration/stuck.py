"""How long a Procedure may stay in a state before it is worth a look (orchestration.md §2, §3.2; gaps.md B-14)."""

from __future__ import annotations

from typing import NamedTuple


class Stuck(NamedTuple):
    """A Procedure that stays too long; ``for_ms`` since its last move."""

    id: int
    biz: str
    status: str
    ext_status: str
    for_ms: int


# (biz, status, ext_status) -> setting with the threshold in seconds
STUCK_AFTER: dict[tuple[str, str, str], str] = {
    ("cash_deposit", "new", "waiting"): "sba.stuck.deposit_waiting_s",
    ("cash_deposit", "pending", ""): "sba.stuck.deposit_pending_s",
    ("cash_withdraw", "new", "freeze"): "sba.stuck.freeze_s",
    ("cash_withdraw", "new", "waiting"): "sba.stuck.withdraw_waiting_s",
    ("cash_withdraw", "new", ""): "sba.stuck.blank_s",
    ("cash_withdraw", "pending", "return"): "sba.stuck.return_s",
    ("cash_withdraw", "pending", "unfreeze"): "sba.stuck.unfreeze_s",
    ("cash_withdraw", "pending", "transfer_auto"): "sba.stuck.transfer_auto_s",
    ("cash_withdraw", "pending", "transfer_manual"): "sba.stuck.transfer_manual_s",
}
