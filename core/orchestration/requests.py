"""What the deposit and withdrawal services ask SBA to create, and the checks on it.

SBA-DEP-019 to SBA-DEP-026, SBA-WD-043 to SBA-WD-049, SBA-PROC-03, SBA-PROC-04.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from core.domain import NORMAL_HOLD_TYPES, DepositType, Market
from core.errors import Code, Refusal
from core.money import Currency
from core.transfer import CHANNELS, TRANS_TYPES

HOLD_ID_LENGTH = 32
MAX_AMOUNT = 10**15  # minor units
REQUEST_ID_MAX, TRANSACTION_ID_MAX, REMARK_MAX = 40, 64, 500
"""Widths of the columns that keep them."""


@dataclass(frozen=True, slots=True)
class DepositRequest:
    """CashDepositCreate. ``amount`` in minor units; ``transaction_id`` is the statement's id or the BST business id."""

    rpc_request_id: str
    nn_uid: int
    trade_acc_id: int
    market: int
    ccy: str
    amount: int
    transaction_id: str
    transfer_method: int
    deposit_type: int
    source: int = 1
    bank_ref_id: str = ""
    apply_ref: int | None = None
    hold_type: int | None = None
    hold_apply_id: str | None = None
    blacklisted: bool = False
    whitelisted: bool = False
    proposed_by: str = ""

    @property
    def is_bs_transfer(self) -> int:
        """1 for the BST banks' TransTypes, else 0 (SBA-DEP-025)."""
        found = TRANS_TYPES.get(self.transfer_method)
        return int(found is not None and found.is_bs_transfer)


@dataclass(frozen=True, slots=True)
class WithdrawRequest:
    """CashWithdrawCreate. ``amount`` and ``settled_amount`` (cash portion) in minor units."""

    rpc_request_id: str
    task_id: int
    nn_uid: int
    trade_acc_id: int
    market: int
    ccy: str
    amount: int
    transfer_method: str
    transfer_dest_bank: str
    transfer_dest_card: str
    hold_id: str
    settled_amount: int
    bank_launched: int = 0
    payee_name: str = ""
    request_id: str = ""
    reviewed_by: str = ""
    blacklisted: bool = False
    high_risk: bool = False


class MarketShare(NamedTuple):
    """The part of a bank-securities transfer that goes to one market; ``amount`` in minor units."""

    market: int
    ccy: str
    amount: int


def per_market(request: DepositRequest, shares: Sequence[MarketShare]) -> list[DepositRequest] | Refusal:
    """One request per market (SBA-PROC-04, gaps.md B-41), each with its own request id and business id: those of
    ``request`` with the market's number, or unchanged if there is only one share. Withdrawals need no such thing:
    a Task has one market, so an application for several makes several Tasks."""
    markets = [share.market for share in shares]
    if not shares or len(set(markets)) < len(markets):
        return _bad(f"markets {markets}: at least one, each once")
    if len(shares) > 1 and not request.is_bs_transfer:
        return _bad(f"transfer_method {request.transfer_method}: only a bank-securities transfer has several markets")
    if len(shares) == 1:
        return [replace(request, **shares[0]._asdict())]
    return [replace(request, **share._asdict(), rpc_request_id=f"{request.rpc_request_id}:{share.market}",
                    transaction_id=f"{request.transaction_id}:{share.market}") for share in shares]


def check_wish(market: int, ccy: str, amount: int) -> Refusal | None:
    """What a customer asks for in the App: a known market and currency, an amount of money."""
    if market not in tuple(Market):
        return _bad(f"market {market}: 1 HK, 2 US or 4 A-Share Connect")
    if ccy not in Currency.__members__:
        return _bad(f"ccy {ccy!r}: HKD, USD or CNH")
    if not 0 < amount < MAX_AMOUNT:
        return _bad(f"amount {amount}: positive minor units below {MAX_AMOUNT}")
    return None


def _bad(detail: str) -> Refusal:
    return Refusal(Code.INVALID_PARAM, detail)


def _check_common(request: DepositRequest | WithdrawRequest) -> Refusal | None:
    if not 1 <= len(request.rpc_request_id) <= REQUEST_ID_MAX:
        return _bad(f"rpc_request_id: 1 to {REQUEST_ID_MAX} characters")
    return check_wish(request.market, request.ccy, request.amount)


def check_deposit(request: DepositRequest) -> Refusal | None:
    """None, or which field is wrong and what it may be."""
    if refusal := _check_common(request):
        return refusal
    if request.deposit_type not in tuple(DepositType):
        return _bad(f"deposit_type {request.deposit_type}: one of {', '.join(str(int(t)) for t in DepositType)}")
    if request.transfer_method not in TRANS_TYPES:
        return _bad(f"transfer_method {request.transfer_method}: not in the TransType table")
    if request.source not in (1, 2):
        return _bad(f"source {request.source}: 1 moomoo or 2 bank")
    if not 1 <= len(request.transaction_id) <= TRANSACTION_ID_MAX:
        return _bad(f"transaction_id: 1 to {TRANSACTION_ID_MAX} characters, the statement's id or the business id of "
                    f"the bank-securities transfer")
    return _check_hold(request)


def _check_hold(request: DepositRequest) -> Refusal | None:
    if request.deposit_type != DepositType.NORMAL_HOLD:
        if request.hold_type is not None or request.hold_apply_id is not None:
            return _bad("hold_type and apply_id belong to NORMAL_HOLD only")
        return None
    if request.hold_apply_id is None or len(request.hold_apply_id) != HOLD_ID_LENGTH:
        return _bad(f"apply_id: NORMAL_HOLD needs a freeze id of {HOLD_ID_LENGTH} characters")
    if request.hold_type not in NORMAL_HOLD_TYPES:
        return _bad(f"hold_type {request.hold_type}: 1 EXCHANGE, 2 CASH_OUT or 17 CASH_IN")
    return None


def check_withdraw(request: WithdrawRequest) -> Refusal | None:
    """None, or which field is wrong and what it may be."""
    if refusal := _check_common(request):
        return refusal
    if request.transfer_method not in CHANNELS:
        return _bad(f"transfer_method {request.transfer_method!r}: one of {', '.join(CHANNELS)}")
    if not request.transfer_dest_bank or not request.transfer_dest_card:
        return _bad("transfer_dest_bank and transfer_dest_card are mandatory")
    if request.bank_launched not in (0, 1) or (request.bank_launched and request.transfer_method != "auto_bs"):
        return _bad("bank_launched: 0, or 1 for a bank-securities transfer only")
    if not 0 <= request.settled_amount <= request.amount:
        return _bad("settled_amount: between 0 and amount; the rest is margin")
    if not request.hold_id or len(request.hold_id) > HOLD_ID_LENGTH:
        return _bad(f"hold_id: 1 to {HOLD_ID_LENGTH} characters")
    return None
