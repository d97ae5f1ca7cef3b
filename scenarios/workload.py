"""Arrivals: who asks for which deposit or withdrawal, and when.

A flow's count is exact. Its times are those of a Poisson process with the intensity of its hours, given that count:
independent draws from the normalised intensity, sorted. Each flow draws times, customers, kinds and amounts from
four streams of its own, so that adding an entry, or changing one aspect of it, shifts nothing else (common random
numbers for comparison).
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from core.clock import US_PER_MS, hkt_date, hkt_midnight_ms
from core.domain import Initiator
from scenarios.population import Customer, Streams, lognormal
from scenarios.schema import (
    AmountOfBalance,
    By,
    Deposits,
    Flow,
    Names,
    Recorded,
    RecordedAuthorisation,
    RecordedDeposit,
    Scenario,
    Withdrawals,
)

MS_PER_HOUR = 3_600_000
LEAST_MINOR = 100
"""Smallest amount drawn: one unit of the currency."""
TRIES = 40
"""How many customers a draw considers before it takes one who may not have the money."""

Kind = Literal["deposit", "withdraw"]


class Arrival(NamedTuple):
    """One request. ``customer`` is the place in `scenarios.population.build`'s list; ``amount`` minor units."""

    at_us: int
    kind: Kind
    customer: int
    channel: str
    market: str
    ccy: str
    amount: int
    initiator: Initiator
    entry: int
    transfers: int | None = None  # of a deposit at a statement bank: what is really transferred, minor units
    payer: str | None = None  # as the statement shows it
    after_us: int | None = None  # from the application to the transfer
    recorded: bool = False


class Slice(NamedTuple):
    """A part of one hour with its weight, for drawing times."""

    start_ms: int
    end_ms: int
    weight: float


def hours_between(since_ms: int, until_ms: int, weights: Sequence[float]) -> list[Slice]:
    """The hours with a weight between two moments (clipped), by Hong Kong hour; weight in proportion to length."""
    midnight = hkt_midnight_ms(hkt_date(since_ms))
    first = midnight + (since_ms - midnight) // MS_PER_HOUR * MS_PER_HOUR
    slices = []
    for start in range(first, until_ms, MS_PER_HOUR):
        weight = weights[(start - midnight) // MS_PER_HOUR % 24]
        begin, end = max(start, since_ms), min(start + MS_PER_HOUR, until_ms)
        if weight > 0 and end > begin:
            slices.append(Slice(begin, end, weight * (end - begin) / MS_PER_HOUR))
    return slices


def markets_for(ccy: str, wanted: Mapping[str, float] | None, names: Names) -> dict[str, float]:
    """Markets that take the currency with their weights; without a wish, the currency's home."""
    if wanted is None:
        home = names.home_market(ccy)
        return {home: 1.0} if home else {}
    return {market: share for market, share in wanted.items() if share > 0 and ccy in names.markets[market]}


def arrivals(scenario: Scenario, customers: Sequence[Customer], names: Names, stream: Streams) -> Iterator[Arrival]:
    """All arrivals of a scenario in the order of time; at equal times in the order of the entries."""
    drawn: dict[str, int] = {}
    sources: list[list[Arrival]] = []
    for entry, item in enumerate(scenario.workload):
        if isinstance(item, Recorded):
            sources.append(_recorded(item, entry, scenario, names))
        elif isinstance(item, Deposits):
            label = _label("deposits", item.deposits, item.deposits.channel, drawn)
            sources.append(_Drawing(item.deposits, "deposit", item.deposits.channel, names, customers, scenario,
                                    stream, label).arrivals(entry))
        elif isinstance(item, Withdrawals):
            label = _label("withdrawals", item.withdrawals, item.withdrawals.channel, drawn)
            sources.append(_Drawing(item.withdrawals, "withdraw", item.withdrawals.channel, names, customers,
                                    scenario, stream, label).arrivals(entry))
    return heapq.merge(*sources, key=lambda arrival: (arrival.at_us, arrival.entry))


def authorisations(scenario: Scenario) -> Iterator[RecordedAuthorisation]:
    """What customers authorise in the run."""
    return (record for item in scenario.workload if isinstance(item, Recorded) for record in item.recorded
            if isinstance(record, RecordedAuthorisation))


def _label(kind: str, flow: Flow, channel: str, drawn: dict[str, int]) -> str:
    """The name of a flow's streams: its own, or kind, channel and number among those alike; never its place."""
    if flow.name:
        return f"workload.{flow.name}"
    alike = f"workload.{kind}.{channel}"
    drawn[alike] = drawn.get(alike, 0) + 1
    return f"{alike}.{drawn[alike]}"


def _recorded(item: Recorded, entry: int, scenario: Scenario, names: Names) -> list[Arrival]:
    places = {customer.id: index for index, customer in enumerate(scenario.customers)}
    result = []
    for record in item.recorded:
        if isinstance(record, RecordedAuthorisation):
            continue  # moves no money
        kind: Kind = "deposit" if isinstance(record, RecordedDeposit) else "withdraw"
        movement = record.deposit if isinstance(record, RecordedDeposit) else record.withdraw
        market = movement.market or names.home_market(movement.ccy) or ""
        who = movement.customer
        customer = places[who] if isinstance(who, str) else len(places) + who
        result.append(Arrival(record.at * US_PER_MS, kind, customer, movement.channel, market,
                              movement.ccy, movement.amount, _initiator(movement.by), entry, movement.transfers,
                              movement.payer, None if movement.after is None else movement.after * US_PER_MS, True))
    result.sort(key=lambda arrival: arrival.at_us)
    return result


def _initiator(by: str) -> Initiator:
    return Initiator.BANK if by == "bank" else Initiator.MOOMOO


class _Drawing:
    """Draws one flow. Keeps its own plan of what each customer has left, so that amounts stay affordable."""

    def __init__(self, flow: Flow, kind: Kind, channel: str, names: Names, customers: Sequence[Customer],
                 scenario: Scenario, stream: Streams, label: str) -> None:
        self.flow, self.kind, self.channel, self.names = flow, kind, channel, names
        self.times, self.who, self.what, self.amounts = (
            stream(f"{label}.{aspect}") for aspect in ("times", "who", "what", "amounts"))
        self.slices = hours_between(flow.since or scenario.start, flow.until or scenario.end, flow.hours)
        bank = (names.deposit_channels if kind == "deposit" else names.withdrawal_channels)[channel]
        first = len(scenario.customers)
        self.eligible = [customer for customer in customers[first:] if bank in customer.cards]
        self.left: dict[tuple[int, str], int] = {}

    def arrivals(self, entry: int) -> list[Arrival]:
        """All arrivals of the flow, sorted; none if nobody has the card (a share may draw nobody)."""
        if not self.eligible:
            return []
        return [self._arrival(at_us, entry) for at_us in self._times_us()]

    def _times_us(self) -> list[int]:
        cumulative = list(accumulate(part.weight for part in self.slices))
        chosen = self.times.choices(self.slices, cum_weights=cumulative, k=self.flow.count)
        return sorted(part.start_ms * US_PER_MS + self.times.randrange((part.end_ms - part.start_ms) * US_PER_MS)
                      for part in chosen)

    def _arrival(self, at_us: int, entry: int) -> Arrival:
        ccy = _chosen(self.what, self.flow.ccy)
        market = _chosen(self.what, markets_for(ccy, self.flow.market, self.names))
        by = _chosen(self.what, self.flow.by)
        customer = self._customer(ccy)
        amount = self._amount(customer, ccy)
        self.left[customer.index, ccy] = max(0, self._has(customer, ccy) - amount)
        return Arrival(at_us, self.kind, customer.index, self.channel, market, ccy, amount, _initiator(by), entry)

    def _has(self, customer: Customer, ccy: str) -> int:
        held = customer.at_bank if self.kind == "deposit" else customer.balances
        return self.left.get((customer.index, ccy), held.get(ccy, 0))

    def _customer(self, ccy: str) -> Customer:
        """Somebody with the card and, if amounts must be affordable, with money left; else the richest seen."""
        best = self.eligible[self.who.randrange(len(self.eligible))]
        if not (self.flow.affordable or isinstance(self.flow.amount, AmountOfBalance)):
            return best
        for _ in range(TRIES):
            if self._has(best, ccy) >= LEAST_MINOR:
                break
            best = max(best, self.eligible[self.who.randrange(len(self.eligible))], key=lambda one: self._has(one, ccy))
        return best

    def _amount(self, customer: Customer, ccy: str) -> int:
        """Minor units, at least one unit of the currency. Two draws each time, whatever the distribution."""
        uniform, rounding = self.amounts.random(), self.amounts.random()
        if isinstance(self.flow.amount, AmountOfBalance):
            bounds = self.flow.amount.of_balance
            amount = int(self._has(customer, ccy) * (bounds.at_least + uniform * (bounds.at_most - bounds.at_least)))
        else:
            spread = self.flow.amount[ccy]
            amount = lognormal(uniform, spread.median, spread.p99)
            if self.flow.affordable:
                amount = min(amount, self._has(customer, ccy))
        if rounding < self.flow.round_numbers:
            amount = two_digits(amount)
        return max(amount, LEAST_MINOR)


def _chosen(stream: random.Random, weights: Mapping[By, float] | Mapping[str, float]) -> str:
    return stream.choices(list(weights), list(weights.values()))[0]


def two_digits(minor: int) -> int:
    """Rounded down to two significant digits and whole units, as people do: 2341755 -> 2300000; cents stay."""
    if minor < 100:
        return minor
    step: int = max(100, 10 ** (len(str(minor)) - 2))
    return minor // step * step
