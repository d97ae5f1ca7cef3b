"""The 15 operations of the SBA service: where each is allowed, by whom, and the fact it states.

Sources: orchestration.md §4, gaps.md A-20 to A-24, A-36, A-68, B-30, B-31. CRM's buttons are drawn from this table:
a button is enabled where `enabled` says None and greyed with the text it returns otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

from core.domain import BizType, Role
from core.errors import Code, Refusal
from core.orchestration import deposit_table as D
from core.orchestration import withdraw_table as W
from core.orchestration.records import Actor, Procedure
from core.orchestration.table import State

OPS = frozenset({Role.FRONTLINE, Role.SUPERVISOR})
SUPERVISOR = frozenset({Role.SUPERVISOR})
SYSTEM = frozenset({Role.SYSTEM})


class Operation(NamedTuple):
    """One operation. ``fact`` None: the service decides which fact it states."""

    name: str
    biz: BizType
    states: tuple[State, ...]
    roles: frozenset[Role]
    fact: str | None
    button: str


_DEPOSIT, _WITHDRAW = BizType.CASH_DEPOSIT, BizType.CASH_WITHDRAW
_TABLE = (
    Operation("CashDepositCreate", _DEPOSIT, (), SYSTEM, None, ""),
    Operation("CashDepositManualConfirm", _DEPOSIT, (D.MANUAL_CONFIRM,), OPS, "CONFIRM", "Approve"),
    Operation("CashDepositManualReject", _DEPOSIT, (D.MANUAL_CONFIRM,), OPS, "REJECT", "Reject"),
    Operation("CashDepositReverse", _DEPOSIT, (D.END_OK,), SUPERVISOR, "REVERSE", "Reverse"),
    Operation("CashWithdrawCreate", _WITHDRAW, (), SYSTEM, None, ""),
    Operation("CashWithdrawStartTransfer", _WITHDRAW, (W.BLANK, W.DEDUCT_DONE), OPS | SYSTEM, None, "Start Transfer"),
    Operation("CashWithdrawReject", _WITHDRAW, W.NEW, OPS, "REJECT", "Reject"),
    Operation("CashWithdrawManualConfirm", _WITHDRAW, (W.MANUAL_CONFIRM,), OPS, "CONFIRM", "Approve"),
    Operation("CashWithdrawManualReject", _WITHDRAW, (W.MANUAL_CONFIRM,), OPS, "MANUAL_REJECT", "Reject Review"),
    Operation("SetManualTransferDone", _WITHDRAW, (W.TRANSFER_MANUAL, W.TRANSFER_AUTO), OPS | SYSTEM, "MANUAL_DONE",
              "Confirm Transfer Complete"),
    Operation("SetManualTransferFailed", _WITHDRAW, (W.TRANSFER_MANUAL, W.TRANSFER_AUTO), OPS | SYSTEM,
              "MANUAL_FAILED", "Transfer Failed"),
    Operation("CashWithdrawForceProcess", _WITHDRAW, W.OPEN, SUPERVISOR, None, "Force Process"),
    Operation("CashWithdrawCancel", _WITHDRAW, (W.WAITING, W.MANUAL_CONFIRM, W.CONFIRMED),
              SUPERVISOR | {Role.USER}, "CANCEL", "Cancel Withdrawal"),
    Operation("MoveNextTransactionDay", _WITHDRAW, (W.DEDUCT_DONE, W.TRANSFER_MANUAL), OPS | SYSTEM, "DEFER",
              "Defer to Next Trading Day"),
    Operation("CashWithdrawReverse", _WITHDRAW, (W.END_OK,), SUPERVISOR, "REVERSE", "Reverse"),
)
OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
REVERSE_CONFIRMATIONS = ("erroneous_credit", "sufficient_balance", "user_notified")
BANK_STATUS = {"NOT_TRANSFERRED": "Rollback", "TRANSFERRED": "Complete"}
AUTOMATIC_MANUAL_CHANNEL = "cgb_fps_api"  # the poller completes it as ``system``


def allowed_role(operation: Operation, by: Actor) -> Refusal | None:
    """The role check; which role would do is part of the refusal."""
    if by.role in operation.roles:
        return None
    wanted = " or ".join(sorted(operation.roles))
    return Refusal(Code.FORBIDDEN, f"{operation.name} needs role {wanted}, {by.id} has {by.role}")


def allowed_state(operation: Operation, p: Procedure, by: Actor) -> Refusal | None:
    """The prerequisite state, with the conditions that lie on the Procedure itself."""
    if p.biz_type != operation.biz:
        return Refusal(Code.ILLEGAL_STATE, f"{operation.name} is for {operation.biz}, P{p.id} is a {p.biz_type}")
    if p.state not in operation.states:
        wanted = ", ".join(state.label for state in operation.states)
        return Refusal(Code.ILLEGAL_STATE, f"{operation.name} needs {wanted}; P{p.id} is {p.state.label}")
    if by.role is Role.USER:
        return _own_and_waiting(p, by)
    if operation.name in ("SetManualTransferDone", "SetManualTransferFailed"):
        return _manual_result(p, by)
    if operation.name == "CashDepositManualConfirm" and by.id == p.deposit.proposed_by:
        return Refusal(Code.FORBIDDEN,
                       f"{by.id} matched the deposit of P{p.id} by hand: somebody else approves it (B-30)")
    if operation.name == "MoveNextTransactionDay" and p.withdraw.bank_submitted:
        return Refusal(Code.ILLEGAL_STATE, "a bank instruction was submitted and is not confirmed failed (A-18)")
    return None


def _own_and_waiting(p: Procedure, by: Actor) -> Refusal | None:
    """A user cancels what is his own, and only while it waits (A-20, SBA-API-24)."""
    if by.id != f"user_{p.nn_uid}":
        return Refusal(Code.FORBIDDEN, f"P{p.id} is not of {by.id}")
    if p.state != W.WAITING:
        return Refusal(Code.ILLEGAL_STATE, f"a user can cancel only in new(waiting); P{p.id} is {p.state.label}")
    return None


def _manual_result(p: Procedure, by: Actor) -> Refusal | None:
    if by.role is Role.SYSTEM and p.withdraw.transfer_method != AUTOMATIC_MANUAL_CHANNEL:
        return Refusal(Code.FORBIDDEN, f"system may confirm a manual transfer for {AUTOMATIC_MANUAL_CHANNEL} only")
    if p.state == W.TRANSFER_AUTO and not p.poll_exhausted:
        return Refusal(Code.ILLEGAL_STATE, "the bank is still being polled; wait for its answer (A-22)")
    return None


def enabled(operation: Operation, p: Procedure, by: Actor) -> str | None:
    """None when the button is enabled for this person now, else why it is greyed."""
    refusal = allowed_role(operation, by) or allowed_state(operation, p, by)
    return refusal.detail if refusal else None
