"""Arrivals and customers: counts, shapes, determinism, and that nothing shifts anything else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.clock import US_PER_MS, hkt
from core.domain import Initiator
from scenarios import population
from scenarios.names import names as platform_names
from scenarios.population import Customer, build, index_of, lognormal
from scenarios.reading import load, load_text
from scenarios.schema import HOUR_PROFILES, MAX_MINOR, Deposits, Names, Scenario, Withdrawals, full_moment_ms
from scenarios.workload import LEAST_MINOR, Arrival, arrivals, hours_between, two_digits

SeededStreams = Callable[[int], Callable[[str], random.Random]]
Run = Callable[..., tuple[list[Customer], list[Arrival]]]

PEOPLE = """
population:
  customers: 400
  balances: {HKD: {median: "10,000", p99: "500,000"}, USD: {median: "1,000", p99: "90,000", held_by: 0.5}}
  at_bank: {HKD: {median: "10,000", p99: "500,000"}, CNH: {median: "10,000", p99: "500,000", held_by: 0.5}}
  cards: {airstar: 1.0, hsbc: 0.3}
"""
DEPOSITS = """
  - deposits: {channel: airstar, count: 500, by: {app: 0.9, bank: 0.1}, ccy: {HKD: 0.75, CNH: 0.25},
               amount: {HKD: {median: 1000, p99: 50000}, CNH: {median: 500, p99: 9000}}, hours: trading_day}
"""
WITHDRAWALS = """
  - withdrawals: {channel: airstar, count: 300, ccy: {HKD: 0.8, USD: 0.2}, market: {HK: 0.6, US: 0.2, HKCC: 0.2},
                  amount: {of_balance: {from: 0.1, to: 0.5}}, hours: session}
"""
BY_HAND = """
  - withdrawals: {channel: hsbc, count: 50, ccy: {HKD: 1}, amount: {of_balance: {from: 0.1, to: 0.5}}}
"""


@pytest.fixture(scope="session")
def run(names: Names, streams: SeededStreams, head: str) -> Run:
    """Customers and arrivals of a scenario: the head, people, and the workload given."""

    def of(*entries: str, people: str = PEOPLE, seed: int = 1) -> tuple[list[Customer], list[Arrival]]:
        scenario = load_text(head + people + "workload:" + "".join(entries), names)
        customers = build(scenario, names, streams(seed))
        return customers, list(arrivals(scenario, customers, names, streams(seed)))

    return of


def entry(found: list[Arrival], number: int) -> list[Arrival]:
    return [arrival._replace(entry=0) for arrival in found if arrival.entry == number]


# --- Arrivals -------------------------------------------------------------------------------------------------------


def test_counts_are_exact_and_arrivals_are_in_order_of_time(run: Run) -> None:
    _, found = run(DEPOSITS, WITHDRAWALS)
    assert Counter(arrival.kind for arrival in found) == {"deposit": 500, "withdraw": 300}
    assert all(one.at_us <= two.at_us for one, two in pairwise(found))
    start, end = full_moment_ms("2026-03-12 09:00"), full_moment_ms("2026-03-12 18:00")
    assert all(start * US_PER_MS <= arrival.at_us < end * US_PER_MS for arrival in found)


def test_the_same_seed_gives_the_same_arrivals_and_customers_another_seed_others(run: Run) -> None:
    first, second, other = (run(DEPOSITS, WITHDRAWALS, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first[0] != other[0]
    assert first[1] != other[1]


@pytest.mark.parametrize("entries", [(BY_HAND, DEPOSITS, WITHDRAWALS), (DEPOSITS, WITHDRAWALS, BY_HAND),
                                     (DEPOSITS, BY_HAND, WITHDRAWALS), (WITHDRAWALS, DEPOSITS)])
def test_entries_do_not_shift_each_other(entries: tuple[str, ...], run: Run) -> None:
    _, alone = run(DEPOSITS)
    _, found = run(*entries)
    assert entry(found, entries.index(DEPOSITS)) == entry(alone, 0)


def test_a_named_entry_keeps_its_draws_behind_one_of_its_kind(run: Run) -> None:
    named = DEPOSITS.replace("count: 500", "count: 500, name: morning")
    assert entry(run(DEPOSITS, named)[1], 1) == entry(run(named)[1], 0)
    assert entry(run(DEPOSITS, DEPOSITS)[1], 1) != entry(run(DEPOSITS)[1], 0)


def test_aspects_do_not_shift_each_other(run: Run) -> None:
    """Twice the amounts: the same people at the same times; other hours: the same amounts in the same order."""
    _, base = run(DEPOSITS.replace("count: 500", "count: 500, affordable: false"))
    _, larger = run(DEPOSITS.replace("1000, p99: 50000", "2000, p99: 100000")
                    .replace("count: 500", "count: 500, affordable: false"))
    assert [one[:6] for one in base] == [two[:6] for two in larger], "all but the amounts"
    assert all(one.amount <= two.amount for one, two in zip(base, larger, strict=True))
    _, later = run(DEPOSITS.replace("trading_day", "{17: 1}").replace("count: 500", "count: 500, affordable: false"))
    assert [one.amount for one in base] == [two.amount for two in later]


def test_times_follow_the_hours(run: Run) -> None:
    _, found = run(DEPOSITS.replace("trading_day", "{9: 3, 14-16: 1}").replace("count: 500", "count: 5000"))
    by_hour = Counter(hkt(arrival.at_us // US_PER_MS).hour for arrival in found)
    assert set(by_hour) == {9, 14, 15}
    assert by_hour[9] == pytest.approx(3000, abs=150)  # 3/5 of 5000; 4 standard deviations are 139
    minutes = Counter(hkt(arrival.at_us // US_PER_MS).minute // 15 for arrival in found)
    assert all(count == pytest.approx(1250, abs=130) for count in minutes.values())


def test_kinds_follow_their_shares_and_currencies_fit_their_markets(run: Run, names: Names) -> None:
    _, found = run(DEPOSITS.replace("500", "4000", 1), WITHDRAWALS)
    deposits = [arrival for arrival in found if arrival.kind == "deposit"]
    assert Counter(arrival.ccy for arrival in deposits)["CNH"] == pytest.approx(1000, abs=110)
    assert Counter(arrival.initiator for arrival in deposits)[Initiator.BANK] == pytest.approx(400, abs=76)
    assert all(arrival.ccy in names.markets[arrival.market] for arrival in found)
    assert {arrival.market for arrival in deposits} == {"HK"}, "without a wish: the home of the currency"
    assert {arrival.market for arrival in found if arrival.kind == "withdraw"} == {"HK", "US", "HKCC"}


def test_nobody_spends_more_than_he_has_and_only_with_a_card(run: Run) -> None:
    customers, found = run(DEPOSITS, WITHDRAWALS, BY_HAND)
    left = {(one.index, ccy, number): amount for one in customers for number, held in enumerate(
        (one.at_bank, one.balances, one.balances)) for ccy, amount in held.items()}
    for arrival in found:
        left[arrival.customer, arrival.ccy, arrival.entry] -= arrival.amount
        assert left[arrival.customer, arrival.ccy, arrival.entry] >= 0
        assert arrival.amount >= LEAST_MINOR
        assert arrival.customer >= 1, "named customers move money only as recorded"
        assert arrival.channel in customers[arrival.customer].cards
    assert len({arrival.customer for arrival in found if arrival.channel == "hsbc"}) > 20


def test_amounts_beyond_means_are_drawn_when_asked_for(run: Run) -> None:
    large = DEPOSITS.replace("median: 1000, p99: 50000", "median: 9000000, p99: 9000000")
    customers, found = run(large.replace("count: 500", "count: 500, affordable: false"))
    beyond = [one for one in found if one.ccy == "HKD" and one.amount > customers[one.customer].at_bank["HKD"]]
    assert len(beyond) > 300


def test_a_share_of_the_amounts_is_round(run: Run) -> None:
    flow = DEPOSITS.replace("count: 500", "count: 500, affordable: false, round_numbers: {}")
    whole = {share: sum(one.amount % 100 == 0 for one in run(flow.replace("{}", share, 1))[1])
             for share in ("0.0", "0.5", "1.0")}
    assert whole["0.0"] < 30
    assert 200 < whole["0.5"] < 300
    assert whole["1.0"] == 500


def test_recorded_arrivals_are_taken_as_they_stand(run: Run) -> None:
    customers, found = run("""
  - recorded:
    - {at: 12:00, withdraw: {customer: 7, channel: hsbc, market: HKCC, ccy: HKD, amount: "10.50", by: bank}}
    - {at: 11:00, deposit: {customer: alice, channel: airstar, ccy: USD, amount: 3}}
""")
    noon = full_moment_ms("2026-03-12 12:00") * US_PER_MS
    assert found == [
        Arrival(noon - 3_600_000_000, "deposit", 0, "airstar", "US", "USD", 300, Initiator.MOOMOO, 0,
                recorded=True),
        Arrival(noon, "withdraw", 8, "hsbc", "HKCC", "HKD", 1050, Initiator.BANK, 0, recorded=True)]
    assert (customers[0].id, customers[8].id) == ("alice", "#7")


def test_a_whole_day_of_the_library(streams: SeededStreams) -> None:
    names = platform_names()
    scenario = load("normal_day", names)
    customers = build(scenario, names, streams(scenario.seed))
    found = list(arrivals(scenario, customers, names, streams(scenario.seed)))
    wanted = Counter[tuple[str, str]]()
    for item in scenario.workload:
        assert isinstance(item, Deposits | Withdrawals)
        flow, kind = (item.deposits, "deposit") if isinstance(item, Deposits) else (item.withdrawals, "withdraw")
        wanted[kind, flow.channel] += flow.count
    assert Counter((one.kind, one.channel) for one in found) == wanted
    assert sum(wanted.values()) > 2_000


# --- Hours and amounts ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 200 * 3_600_000), st.sampled_from(sorted(HOUR_PROFILES)))
def test_slices_lie_between_the_moments_do_not_overlap_and_carry_the_weight(
    offset: int, length: int, profile: str,
) -> None:
    since = full_moment_ms("2026-03-12 00:00") + offset * 977
    slices = hours_between(since, since + length, HOUR_PROFILES[profile])
    assert all(since <= part.start_ms < part.end_ms <= since + length for part in slices)
    assert all(one.end_ms <= two.start_ms for one, two in pairwise(slices))
    for part in slices:
        weight = HOUR_PROFILES[profile][hkt(part.start_ms).hour]
        assert part.weight == pytest.approx(weight * (part.end_ms - part.start_ms) / 3_600_000)
        assert hkt(part.start_ms).hour == hkt(part.end_ms - 1).hour
    if all(HOUR_PROFILES[profile]):
        assert sum(part.end_ms - part.start_ms for part in slices) == length


@given(st.floats(0, 1), st.integers(1, 10**12), st.integers(1, 1000))
def test_lognormal_rises_with_the_quantile_and_stays_an_amount(uniform: float, middle: int, factor: int) -> None:
    amount = lognormal(uniform, middle, middle * factor)
    assert 1 <= amount <= MAX_MINOR
    assert lognormal(0.5, middle, middle * factor) == middle
    assert lognormal(0.99, middle, middle * factor) == pytest.approx(min(middle * factor, MAX_MINOR), rel=1e-6, abs=1)
    assert (amount <= middle) == (uniform <= 0.5) or amount == middle


@given(st.integers(1, MAX_MINOR))
def test_round_numbers_have_two_digits_and_are_not_above(minor: int) -> None:
    rounded = two_digits(minor)
    assert 0 < rounded <= minor
    if minor >= 100:
        assert rounded % 100 == 0
        assert len(str(rounded).rstrip("0")) <= 2
        assert minor - rounded < max(100, minor / 10)


# --- Customers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def people(names: Names, streams: SeededStreams, head: str) -> Callable[[str], tuple[Scenario, list[Customer]]]:
    def of(text: str) -> tuple[Scenario, list[Customer]]:
        scenario = load_text(head + text, names)
        return scenario, build(scenario, names, streams(5))

    return of


def test_customers_are_distinct_named_first(people: Callable[[str], tuple[Scenario, list[Customer]]]) -> None:
    scenario, found = people(PEOPLE)
    assert [one.index for one in found] == list(range(401))
    assert (found[0].id, found[0].balances, list(found[0].cards)) == ("alice", {"HKD": 100_000}, ["airstar"])
    assert len({one.uid for one in found}) == len({one.trade_acc_ids for one in found}) == 401
    numbers = [card.number for one in found for card in one.cards.values()]
    assert len(set(numbers)) == len(numbers)
    assert (index_of("alice", scenario), index_of(3, scenario)) == (0, 4)
    assert len({one.name for one in found}) > 100


def test_card_numbers_carry_a_luhn_digit(people: Callable[[str], tuple[Scenario, list[Customer]]]) -> None:
    for customer in people(PEOPLE)[1]:
        for card in customer.cards.values():
            digits = [int(digit) for digit in card.number]
            doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
            assert len(digits) == 16
            assert (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def test_holdings_follow_the_distribution(people: Callable[[str], tuple[Scenario, list[Customer]]]) -> None:
    _, found = people(PEOPLE.replace("400", "4000"))
    held = [one.balances["HKD"] for one in found[1:]]
    assert median(held) == pytest.approx(1_000_000, rel=0.1)
    assert sorted(held)[3959] == pytest.approx(50_000_000, rel=0.35)
    assert sum("USD" in one.balances for one in found) == pytest.approx(2000, abs=130)
    assert sum("hsbc" in one.cards for one in found) == pytest.approx(1200, abs=120)


def test_adding_people_currencies_or_banks_changes_nobody(
    people: Callable[[str], tuple[Scenario, list[Customer]]],
) -> None:
    base = people(PEOPLE)[1]
    assert people(PEOPLE.replace("400", "500"))[1][:401] == base
    dollars = ', USD: {median: "1,000", p99: "90,000", held_by: 0.5}'
    fewer = people(PEOPLE.replace(", hsbc: 0.3", "").replace(dollars, ""))
    assert [one.balances["HKD"] for one in fewer[1]] == [one.balances["HKD"] for one in base]
    assert [one.cards["airstar"] for one in fewer[1]] == [one.cards["airstar"] for one in base]
    assert [one.name for one in fewer[1]] == [one.name for one in base]


def test_mandates_follow_their_shares(people: Callable[[str], tuple[Scenario, list[Customer]]]) -> None:
    _, found = people(PEOPLE + "  mandate: {OPEN: 0.75, SUSPENDED: 0.25}\n")
    states = Counter(one.cards["airstar"].mandate for one in found[1:])
    assert states["SUSPENDED"] == pytest.approx(100, abs=35)
    assert states.total() == 400


def test_names_come_from_a_seeded_pool(streams: SeededStreams) -> None:
    pool = population._name_pool(streams(1)("x"))
    assert pool == population._name_pool(streams(1)("x")) != population._name_pool(streams(2)("x"))
    assert len(set(pool)) == population.NAME_POOL
    assert all(name.isupper() and " " in name for name in pool)
