"""The two gates of A-51: an instruction leaves only while the market gate and the bank gate are both open.

* Market gate closed: `Decision.DEFER`, the Procedure moves to the next trading day (``move_next``).
* Market gate open, bank gate closed: `Decision.WAIT_BANK`, it stays in ``deduct_done``; when the market cutoff comes
  before the bank opens, the waiting ends in DEFER at the cutoff.
* The cutoff of its ``transaction_date`` has passed: DEFER, even if another session has opened since.

Only *new* instructions ask here; polling, fallback and results go on around the clock (A-72).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from core.calendars.gates import Sessions
from core.errors import Misconfigured

SEARCH_SESSIONS = 120
"""How many gate edges are walked for a common opening."""


class Decision(StrEnum):
    """What to do with a new instruction now."""

    OPEN = "open"
    WAIT_BANK = "wait_bank"
    DEFER = "defer"


class Dispatch(NamedTuple):
    """A decision for one moment.

    ``wake_ms``: OPEN: when one of the gates closes; WAIT_BANK: when to ask again (the bank's opening, or the market
    cutoff if that comes first); DEFER: the first moment at which the deferred Procedure can leave.
    ``date``: the transaction date (yyyymmdd) that holds; for DEFER the one to move to.
    ``then``: what the decision is going to be at ``wake_ms`` for this ``date``, as far as is known now.
    """

    decision: Decision
    wake_ms: int
    date: int
    then: Decision
    reason: str


class TwoGates:
    """One market's gate and one bank's gate together, under one state of knowledge."""

    __slots__ = ("_bank", "_dispatch", "_from", "_market", "_name", "_until")

    def __init__(self, name: str, market: Sessions, bank: Sessions) -> None:
        self._name, self._market, self._bank = name, market, bank
        self._from = self._until = 0
        self._dispatch = Dispatch(Decision.DEFER, 0, 0, Decision.DEFER, "")

    def at(self, t_ms: int) -> Dispatch:
        """The decision for a Procedure whose transaction date is the one of this moment."""
        if self._from <= t_ms < self._until:
            return self._dispatch
        self._dispatch, self._until = self._decide(t_ms)
        self._from = t_ms
        return self._dispatch

    def on(self, t_ms: int, transaction_date: int) -> Dispatch:
        """The decision for a Procedure of a given transaction date, passed or still to come."""
        now = self.at(t_ms)
        if transaction_date == now.date:
            return now
        if transaction_date > now.date:
            return Dispatch(Decision.DEFER, self.resume_ms(t_ms, transaction_date), transaction_date, Decision.OPEN,
                            f"transaction date {transaction_date} has not come")
        return Dispatch(Decision.DEFER, self.first_opening(t_ms), now.date, Decision.OPEN,
                        f"the cutoff of {transaction_date} has passed")

    def _decide(self, t_ms: int) -> tuple[Dispatch, int]:
        """The decision, and until when it stays the same."""
        market, bank = self._market.at(t_ms), self._bank.at(t_ms)
        if not market.open:
            until = self._market.until_ms  # read before looking ahead
            wake = self.first_opening(market.opens_ms)
            return Dispatch(Decision.DEFER, wake, market.date, Decision.OPEN, market.reason), until
        if bank.open:
            closes = min(market.closes_ms, bank.closes_ms)
            then = Decision.DEFER if market.closes_ms <= bank.closes_ms else Decision.WAIT_BANK
            return Dispatch(Decision.OPEN, closes, market.date, then, ""), closes
        wake = min(bank.opens_ms, market.closes_ms)
        then = Decision.OPEN if bank.opens_ms < market.closes_ms else Decision.DEFER
        return Dispatch(Decision.WAIT_BANK, wake, market.date, then, bank.reason), wake

    def first_opening(self, from_ms: int) -> int:
        """The first moment at or after ``from_ms`` at which both gates are open."""
        moment = from_ms
        for _ in range(SEARCH_SESSIONS):
            market = self._market.at(moment)
            moment = moment if market.open else market.opens_ms
            bank = self._bank.at(moment)
            if bank.open and market.open:
                return moment
            moment = moment if bank.open else bank.opens_ms
        raise Misconfigured("market and bank are never open at the same time", where=self._name,
                            remedy="correct the windows")

    def resume_ms(self, from_ms: int, date: int) -> int:
        """The first moment of transaction date ``date``, or of a later one if that has none, with both gates open."""
        moment = from_ms
        for _ in range(SEARCH_SESSIONS):
            market = self._market.at(moment)
            if market.date >= date:
                return self.first_opening(max(moment, market.opens_ms))
            moment = market.closes_ms
        raise Misconfigured(f"{date} is more than {SEARCH_SESSIONS} sessions away", where=self._name,
                            remedy="check the transaction date")
