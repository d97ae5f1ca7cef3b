"""What a customer really does at his bank after he has announced a deposit (gaps.md B-45: 95 % as announced)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from core.clock import US_PER_S
from core.domain import Initiator
from core.money import MINOR_PER_MAJOR
from emulators.dice import Table
from emulators.streams import Streams
from scenarios.workload import LEAST_MINOR, Arrival

AS_ANNOUNCED, AMOUNT, NO_NAME, NO_APPLY, DUPLICATE = "none", "amount", "no_name", "no_apply", "duplicate"
APART_S = 90
"""Between the two transfers of a customer who makes one twice."""


class Made(NamedTuple):
    """One transfer: so long after the application, so much, under this name (None: the customer's)."""

    after_us: int
    amount: int
    payer: str | None


class Plan(NamedTuple):
    """What one customer does."""

    announced: bool
    made: tuple[Made, ...]


class Transfers:
    """Draws plans. Three numbers each, whatever comes of them: one flow more shifts nobody else's."""

    def __init__(self, settings: Mapping[str, Any], streams: Streams) -> None:
        self._after_s: tuple[float, float] = tuple(settings["sim.deposit.after_s"])
        self._fee: tuple[int, int] = tuple(settings["sim.deposit.fee"])
        self._exceptions: Table[str] = Table(settings["sim.deposit.exceptions"], "sim.deposit.exceptions")
        self._draw = streams("deposit.transfers").random

    def plan(self, arrival: Arrival) -> Plan:
        """A recorded movement does what it says; a drawn one is now and then an exception."""
        after, kind, fee = self._draw(), self._exceptions.at(self._draw()), self._draw()
        low, high = self._after_s
        made = Made(round((low + (high - low) * after) * US_PER_S), arrival.amount, None)
        if arrival.recorded:
            return self._as_recorded(arrival, made)
        if kind == AMOUNT:
            less = round(self._fee[0] + (self._fee[1] - self._fee[0]) * fee) * MINOR_PER_MAJOR
            made = made._replace(amount=max(LEAST_MINOR, made.amount - less))
        elif kind == NO_NAME:
            made = made._replace(payer="")
        again = (made._replace(after_us=made.after_us + APART_S * US_PER_S),) if kind == DUPLICATE else ()
        return Plan(kind != NO_APPLY and arrival.initiator is not Initiator.BANK, (made, *again))

    @staticmethod
    def _as_recorded(arrival: Arrival, made: Made) -> Plan:
        announced = arrival.initiator is not Initiator.BANK
        after = arrival.after_us if arrival.after_us is not None else made.after_us if announced else 0
        amount = arrival.amount if arrival.transfers is None else arrival.transfers
        return Plan(announced, (Made(after, amount, arrival.payer),) if amount else ())
