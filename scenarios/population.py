"""Customers of a run: the named ones of the scenario, then those drawn at random.

Every property is drawn from a stream of its own and in the order of the customers, so that adding a currency, a bank
or a customer leaves the others as they were. Named customers come first and draw nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from scenarios.schema import (
    MAX_MINOR,
    Deposits,
    Holding,
    NamedCustomer,
    Names,
    Population,
    Recorded,
    RecordedDeposit,
    Scenario,
)

Streams = Callable[[str], random.Random]

NAMED_UID = 10_000_000
DRAWN_UID = 20_000_000
NAME_POOL = 200
_NORMAL = NormalDist()
_P99 = _NORMAL.inv_cdf(0.99)


@dataclass(frozen=True, slots=True)
class BankCard:
    """A card or account of a customer at a bank; ``mandate`` is a status name of `MandateStatus`, of the authorization
    that this bank calls mandate or agreement."""

    bank: str
    number: str
    mandate_id: str
    mandate: str


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer. Amounts are minor units by currency; ``balances`` lie on the first trading account, ``at_bank`` at
    each bank where the customer has a card."""

    index: int
    id: str
    uid: int
    trade_acc_ids: tuple[int, ...]
    name: str
    cards: Mapping[str, BankCard]
    balances: Mapping[str, int]
    at_bank: Mapping[str, int]


def build(scenario: Scenario, names: Names, stream: Streams) -> list[Customer]:
    """All customers of a scenario; ``Customer.index`` is the place in the list, named customers first."""
    pool = _name_pool(stream("population.names"))
    named = [_named(index, entry, pool, names) for index, entry in enumerate(scenario.customers)]
    drawn = _drawn(scenario.population, len(named), pool, names, stream) if scenario.population else []
    return [*named, *drawn]


def banks_of(scenario: Scenario) -> tuple[str, ...]:
    """Banks at which customers of the scenario have cards, or may have drawn one."""
    drawn = scenario.population.cards if scenario.population is not None else {}
    return tuple(dict.fromkeys((*(bank for customer in scenario.customers for bank in customer.cards),
                                *(bank for bank, share in drawn.items() if share))))


def deposit_banks_of(scenario: Scenario, names: Names) -> tuple[str, ...]:
    """Banks that a scenario needs for its deposits, its faults and what it recorded."""
    found: dict[str, None] = {}
    for item in scenario.workload:
        if isinstance(item, Deposits):
            found[names.deposit_channels[item.deposits.channel]] = None
        elif isinstance(item, Recorded):
            found |= {names.deposit_channels[record.deposit.channel]: None for record in item.recorded
                      if isinstance(record, RecordedDeposit) and record.deposit.channel in names.deposit_channels}
    injected = (fault.inject.partition(".")[0] for fault in scenario.faults)
    return tuple(found | {bank: None for bank in injected if bank in names.banks})


def index_of(customer: str | int, scenario: Scenario) -> int:
    """Place in `build`'s list of a customer as a scenario writes it: a name, or a number of the population."""
    if isinstance(customer, int):
        return len(scenario.customers) + customer
    return next(index for index, entry in enumerate(scenario.customers) if entry.id == customer)


def _name_pool(stream: random.Random) -> list[str]:
    """Names as Hong Kong banks print them (romanised, capitals); Faker is slow, so a pool is made once."""
    from faker import Faker  # loaded late: importing it takes longer than drawing a population

    faker = Faker("zh_CN")
    faker.seed_instance(stream.getrandbits(64))
    pool: dict[str, None] = {}
    while len(pool) < NAME_POOL:
        given, surname = faker.romanized_name().upper().rsplit(" ", 1)
        pool[f"{surname} {given}"] = None
    return list(pool)


def _named(index: int, entry: NamedCustomer, pool: list[str], names: Names) -> Customer:
    uid = NAMED_UID + index + 1
    cards = {bank: _card(bank, uid, entry.mandate, names) for bank in entry.cards}
    return Customer(index, entry.id, uid, (_trade_account(uid),), f"{entry.id.upper()} {pool[index % NAME_POOL]}",
                    cards, dict(entry.balances), dict(entry.at_bank))


def _drawn(
    population: Population, first: int, pool: list[str], names: Names, stream: Streams,
) -> list[Customer]:
    count = population.customers
    called = stream("population.called")
    who = [pool[called.randrange(NAME_POOL)] for _ in range(count)]
    balances = _holdings(population.balances, count, "balances", stream)
    at_bank = _holdings(population.at_bank, count, "at_bank", stream)
    cards = {bank: _shares(share, count, stream(f"population.cards.{bank}"))
             for bank, share in population.cards.items()}
    mandates = stream("population.mandate").choices(
        list(population.mandate), list(population.mandate.values()), k=count)
    return [
        Customer(
            first + number, f"#{number}", uid, (_trade_account(uid),), who[number],
            {bank: _card(bank, uid, mandates[number], names) for bank, held in cards.items() if held[number]},
            {ccy: held[number] for ccy, held in balances.items() if held[number]},
            {ccy: held[number] for ccy, held in at_bank.items() if held[number]})
        for number in range(count)
        for uid in [DRAWN_UID + number + 1]]


def _shares(share: float, count: int, stream: random.Random) -> list[bool]:
    return [stream.random() < share for _ in range(count)]


def _holdings(holdings: Mapping[str, Holding], count: int, what: str, stream: Streams) -> dict[str, list[int]]:
    """Amount by currency and customer; 0 for those who hold none."""
    result: dict[str, list[int]] = {}
    for ccy, holding in holdings.items():
        holds = _shares(holding.held_by, count, stream(f"population.{what}.{ccy}.holds"))
        amounts = stream(f"population.{what}.{ccy}.amount")
        drawn = [lognormal(amounts.random(), holding.median, holding.p99) for _ in range(count)]
        result[ccy] = [amount if held else 0 for amount, held in zip(drawn, holds, strict=True)]
    return result


def lognormal(uniform: float, median: int, p99: int) -> int:
    """Minor units at a quantile (0..1) of the lognormal distribution with this median and p99; at least one cent.

    By inversion, one uniform number each: a change of the distribution keeps every customer's rank.
    """
    sigma = math.log(p99 / median) / _P99
    normal = _NORMAL.inv_cdf(min(max(uniform, 1e-12), 1 - 1e-12))
    return max(1, min(MAX_MINOR, round(median * math.exp(sigma * normal))))


def _trade_account(uid: int) -> int:
    """One cash ledger per trading account and currency (gaps.md B-41); each customer has one account."""
    return uid * 100 + 1


def _card(bank: str, uid: int, mandate: str, names: Names) -> BankCard:
    """A card number of 16 digits: three for the bank, the customer's number, a check digit (Luhn)."""
    body = f"{700 + names.banks.index(bank):03d}{uid:012d}"
    return BankCard(bank, body + _luhn(body), f"M{body}", mandate)


def _luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)
