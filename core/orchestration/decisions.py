"""Decisions the platform takes at once, inside the transaction that reached the state: no waiting, no network.

Review rules of deposits: orchestration.md §2.1 with the precedence of gaps.md A-28. Routing of withdrawals after
the deduction: gaps.md A-19, A-51.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from core.calendars import Calendars, Decision, Diagnosis
from core.clock import MS_PER_S, from_yyyymmdd, hkt_midnight_ms, yyyymmdd
from core.domain import BizType, DepositType, Market
from core.orchestration import deposit_table as D
from core.orchestration import withdraw_table as W
from core.orchestration.records import Procedure
from core.orchestration.table import State
from core.settings import Settings

BLACKLIST, ABNORMAL, HIGH_RISK, PRE_APPROVAL, LARGE = "blacklist", "abnormal", "high_risk", "pre_approval", "large"
PAID = "SUCCESS"
_BY_TYPE = {DepositType.ABNORMAL: ABNORMAL, DepositType.HIGH_RISK: HIGH_RISK, DepositType.PRE_APPROVAL: PRE_APPROVAL}


def deposit_review(
    deposit_type: DepositType, amount: int, threshold: int, *, blacklisted: bool, whitelisted: bool
) -> tuple[str, ...]:
    """Rules that want a person to look, in order of precedence; empty: credit automatically.

    ``amount`` and ``threshold`` in minor units; an amount equal to the threshold is not large (SBA-DEP-017).
    The whitelist waives high risk, pre-approval and large; never blacklist and abnormal (A-28).
    """
    hits = [BLACKLIST] if blacklisted else []
    by_type = _BY_TYPE.get(deposit_type)
    if by_type == ABNORMAL:
        hits.append(ABNORMAL)
    if not whitelisted:
        hits += [by_type] if by_type in (HIGH_RISK, PRE_APPROVAL) else []
        hits += [LARGE] if amount > threshold else []
    return tuple(hits)


def withdraw_review(amount: int, threshold: int, *, blacklisted: bool, high_risk: bool) -> tuple[str, ...]:
    """Rules of WT-04: blacklist, high risk, large (``amount >= threshold``, B-14)."""
    return tuple(name for name, hit in (
        (BLACKLIST, blacklisted), (HIGH_RISK, high_risk), (LARGE, amount >= threshold)) if hit)


class Route(NamedTuple):
    """Where a deducted withdrawal goes: a fact now, or a moment to look again."""

    fact: str | None
    due_at: int | None = None


class Decisions:
    """Bound to the calendars and settings of one core."""

    def __init__(
        self, calendars: Calendars, settings: Settings, bank_of: Callable[[str], str],
        reachable: Callable[[str], bool] = lambda _bank: True,
    ) -> None:
        """``reachable``: whether the channel of a BST bank is there; without it its withdrawals wait (SOCK-10)."""
        self._calendars = calendars
        self._bank_of, self._reachable = bank_of, reachable
        self._look_again_ms: int = settings["sba.unreachable_s"] * MS_PER_S
        self._deposit_large: dict[str, int] = {
            ccy: major * 100 for ccy, major in settings["deposit.large_threshold"].items()}
        self._withdraw_large: dict[str, int] = {
            ccy: major * 100 for ccy, major in settings["withdraw.large_threshold"].items()}
        # Keyed by business too: both machines have a new(waiting).
        self._decided: dict[tuple[str, State], Callable[[Procedure, int], str | None]] = {
            (BizType.CASH_DEPOSIT, D.WAITING): self._deposit_waiting,
            (BizType.CASH_WITHDRAW, W.WAITING): self._withdraw_waiting,
            (BizType.CASH_WITHDRAW, W.CONFIRMED): lambda _p, _now: "REVIEW_DONE",
            (BizType.CASH_WITHDRAW, W.DEDUCT_DONE): self._deducted,
        }

    def deposit_threshold(self, ccy: str) -> int:
        """Minor units from which (exclusive) a deposit is large."""
        return self._deposit_large[ccy]

    def withdraw_threshold(self, ccy: str) -> int:
        """Minor units from which (inclusive) a withdrawal is large."""
        return self._withdraw_large[ccy]

    def threshold(self, p: Procedure) -> int:
        """The one of the two that this Procedure was measured against."""
        large = self._deposit_large if p.biz_type == BizType.CASH_DEPOSIT else self._withdraw_large
        return large[p.fields.ccy]

    def next_fact(self, p: Procedure, now_ms: int) -> str | None:
        """The fact that follows at once from the state just reached, or None: somebody or something must act.

        Nothing more is started for a withdrawal that has been paid: a supervisor who completes it by force in
        ``deduct_done`` must not have the bank instructed a moment later.
        """
        if p.bank_result == PAID:
            return None
        decide = self._decided.get((p.biz_type, p.state))
        return decide(p, now_ms) if decide else None

    def _deposit_waiting(self, p: Procedure, _now: int) -> str:
        return "REVIEW_HIT" if p.deposit.review_hits else "REVIEW_CLEAR"

    def _withdraw_waiting(self, p: Procedure, _now: int) -> str | None:
        if p.withdraw.review_hits and not p.withdraw.reviewed_by:
            return "REVIEW_HIT"
        return "DRIVE" if p.is_bst else None

    def _deducted(self, p: Procedure, now_ms: int) -> str | None:
        route = self.route(p, now_ms)
        p.due_at = route.due_at
        return route.fact

    def route(self, p: Procedure, now_ms: int) -> Route:
        """Two gates for BST (A-51); for all else the trading day (A-19)."""
        market = Market(p.market)
        if not p.is_bst:
            if self._calendars.is_trading_day(market, self._calendars.session_date(market, now_ms), now_ms):
                return Route("START_MANUAL")
            return Route("NO_TRADING_DAY", self._calendars.market_gate(market, now_ms).opens_ms)
        bank = self._bank_of(p.withdraw.transfer_dest_bank)
        dispatch = self._calendars.dispatch(bank, market, now_ms, p.transaction_date)
        if dispatch.decision is Decision.OPEN:
            return Route("GATES_OPEN") if self._reachable(bank) else Route(None, now_ms + self._look_again_ms)
        if dispatch.decision is Decision.DEFER:
            return Route("MARKET_CLOSED")
        return Route(None, dispatch.wake_ms)

    def transaction_date(self, p: Procedure, now_ms: int) -> int:
        """Settlement date at this moment (yyyymmdd)."""
        return self._calendars.transaction_date(Market(p.market), now_ms, bst=p.is_bst)

    def defer(self, p: Procedure, now_ms: int, *, past_today: bool) -> tuple[int, int]:
        """(transaction date, moment to resume) of a Procedure that moves to the next trading day.

        ``past_today``: also when the market is still open (MoveNextTransactionDay pressed by operations).
        """
        market = Market(p.market)
        date = self._calendars.transaction_date(market, now_ms, bst=p.is_bst)
        if past_today and date == p.transaction_date:
            day = self._calendars.next_trading_day(market, from_yyyymmdd(date), now_ms, bst=p.is_bst)
            date = yyyymmdd(day)
        if not p.is_bst:
            return date, hkt_midnight_ms(from_yyyymmdd(date))
        return date, self._calendars.resume_ms(market, date, self._bank_of(p.withdraw.transfer_dest_bank), now_ms)

    def diagnose(self, p: Procedure, at_ms: int) -> Diagnosis:
        """Why this withdrawal did not leave at that moment, as known then (CAL-011)."""
        bank = self._bank_of(p.withdraw.transfer_dest_bank) if p.is_bst else None
        return self._calendars.diagnose_deferral(Market(p.market), at_ms, bank, p.is_bst)
