"""The engine of matching: each dimension, both tiers, uniqueness, and a naive matcher that agrees with it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.deposits.matching.engine import (
    AUTO,
    CANDIDATES,
    HELD,
    OPEN,
    TIED,
    WAITING,
    Decision,
    decide,
    dimensions,
    explain,
    fails_plainly,
)
from core.deposits.matching.rules import (
    CARD_RULES,
    MATCH_CLASSES,
    PASSES,
    STATEMENT_TRANS_TYPE,
    WAITS,
    BankRules,
    Credit,
    Tier,
    Wish,
    check_registration,
    credit,
    read_rules,
    wish,
)
from core.errors import Misconfigured
from core.money import Currency
from core.screening.names import fold_name, similarity
from core.settings import Settings
from core.storage.primary import MATCHING_BANKS

DEFAULTS = Settings()
RULES = read_rules(DEFAULTS)
DAY = 86_400_000
T0 = 1_773_280_800_000  # 2026-03-12 10:00 HKT
CARD, OTHER_CARD, NAME = "6222000011112222", "6222000033334444", "CHAN TAI MAN"
ALL = tuple(Currency)


def flow(id: int = 1, amount: int = 1_000_000, *, bank: str = "hsbc", ccy: str = "HKD", day: int = 0,
         account: str = CARD, name: str = NAME) -> Credit:
    return credit(id, bank, ccy, amount, T0 + day * DAY, account, name)


def asked(id: int = 1, amount: int = 1_000_000, *, bank: str = "hsbc", ccy: str = "HKD", day: int = 0,
          card: str = CARD, name: str = NAME) -> Wish:
    return wish(id, bank, ccy, amount, T0 + day * DAY, card, (name,))


def one(entry: Credit, *wishes: Wish, rules: BankRules | None = None) -> Decision:
    return decide(rules or RULES[entry.bank], [entry], wishes, ALL)[0]


# The five dimensions (ADR-001)


@pytest.mark.req("MATCH-001")
@pytest.mark.parametrize("bank", MATCHING_BANKS)
def test_five_dimensions_together_match_at_every_bank(bank: str) -> None:
    found = one(flow(bank=bank), asked(bank=bank))
    assert found == Decision(1, AUTO, 1)
    assert dimensions(explain(RULES[bank], flow(bank=bank), asked(bank=bank))) == "amount,currency,bank,date,card"


DIFFERENT = {
    "amount": (flow(amount=1_000_001), asked(), OPEN), "currency": (flow(ccy="USD"), asked(), OPEN),
    "date": (flow(day=3), asked(), CANDIDATES),
    "card": (flow(account=OTHER_CARD, name="WONG SIU MING"), asked(), CANDIDATES)}


@pytest.mark.req("MATCH-002")
@pytest.mark.parametrize("dimension", DIFFERENT)
def test_four_of_five_dimensions_are_no_match(dimension: str) -> None:
    entry, wanted, outcome = DIFFERENT[dimension]
    found = one(entry, wanted)
    assert found.outcome == outcome and found.wish is None
    failing = [words.partition(":")[0] for words in explain(RULES["hsbc"], entry, wanted).fails]
    assert failing == [dimension]


@pytest.mark.req("MATCH-003")
def test_the_card_separates_two_customers_of_the_same_amount() -> None:
    entries = [flow(1, account=CARD), flow(2, account=OTHER_CARD, name="WONG SIU MING")]
    wishes = [asked(1, card=OTHER_CARD, name="WONG SIU MING"), asked(2, card=CARD)]
    assert decide(RULES["hsbc"], entries, wishes, ALL) == [Decision(1, AUTO, 2), Decision(2, AUTO, 1)]


@pytest.mark.req("MATCH-015")
def test_equal_claims_are_ties_either_way() -> None:
    two_wishes = one(flow(), asked(1), asked(2))
    assert two_wishes.outcome == TIED and two_wishes.all == (1, 2) and two_wishes.wish is None
    two_entries = decide(RULES["hsbc"], [flow(1), flow(2)], [asked()], ALL)
    assert [found.outcome for found in two_entries] == [TIED, TIED]


# The tables of B-09

TOLERANCES = {  # (bank, currency) -> auto, assisted; major units, copied from gaps.md B-09
    "bochk": ((0, 0, 0), (50, 10, 50)), "hsbc": ((0, 0, 0), (50, 15, 50)), "hase": ((0, 0, 0), (50, 15, 50)),
    "icbc": ((0, 0, 0), (50, 15, 50)), "cgb": ((0, 0, 0), (20, 5, 20)), "scb": ((0, 0, 0), (20, 10, 20)),
    "ccba": ((0, 0, 0), (50, 20, 50)), "dbs": ((0, 0, 0), (50, 20, 50)), "za": ((0, 0, 0), (10, 5, 10)),
    "citi": ((0, 5, 0), (100, 40, 100)), "spd": ((1, 0, 1), (100, 30, 100)), "ewb": ((0, 10, 0), (100, 50, 100))}
CCYS = ("HKD", "USD", "CNH")
DAYS = {**dict.fromkeys(("bochk", "hsbc", "hase", "icbc", "ccba", "dbs"), ((-1, 2), (-3, 7))),
        **dict.fromkeys(("cgb", "scb", "za"), ((-1, 1), (-3, 5))),
        **dict.fromkeys(("citi", "spd"), ((-1, 3), (-3, 10))), "ewb": ((-1, 4), (-3, 14))}
NAMELESS = ("cgb", "scb", "za")


@pytest.mark.req("MATCH-004", "MATCH-007")
@pytest.mark.parametrize("bank", MATCHING_BANKS)
@pytest.mark.parametrize("place", range(3), ids=CCYS)
def test_two_tolerances_at_their_edges(bank: str, place: int) -> None:
    auto, assisted = (100 * tier[place] for tier in TOLERANCES[bank])
    expected = {0: AUTO, auto: AUTO, auto + 1: CANDIDATES, assisted: CANDIDATES, assisted + 1: OPEN, -1: OPEN}
    for below, outcome in expected.items():
        entry = flow(amount=1_000_000 - below, bank=bank, ccy=CCYS[place])
        assert one(entry, asked(bank=bank, ccy=CCYS[place])).outcome == outcome, below


@pytest.mark.req("MATCH-004", "MATCH-007")
@pytest.mark.parametrize("bank", MATCHING_BANKS)
def test_two_date_windows_at_their_edges(bank: str) -> None:
    (first, last), (early, late) = DAYS[bank]
    outcomes = {day: one(flow(day=day, bank=bank), asked(bank=bank)).outcome for day in range(early - 1, late + 2)}
    assert outcomes == {day: AUTO if first <= day <= last else CANDIDATES if early <= day <= late else OPEN
                        for day in outcomes}


@pytest.mark.req("MATCH-017")
@pytest.mark.parametrize("bank", MATCHING_BANKS)
def test_a_name_is_needed_where_the_bank_needs_one(bank: str) -> None:
    found = one(flow(bank=bank, name=""), asked(bank=bank))
    assert found.outcome == (AUTO if bank in NAMELESS else WAITING)
    assert found.wish == (1 if bank in NAMELESS else None)


# Card rule -> what passes: (account, name) -> verdict
SAME, FAR = NAME, "WONG SIU MING"
SEEN = {
    "whole": CARD, "other whole": OTHER_CARD, "other whole, same end": "9999000011112222", "last four": "2222",
    "other last four": "4444", "masked": "6222********2222", "masked otherwise": "9999********2222", "none": ""}
CARD_TABLE = {  # rule -> accounts that pass whatever the name; those that pass with the name alone
    "full": (("whole",), ("none",)),
    "full_or_last4": (("whole",), ("last four", "masked", "none")),
    "last4": (("whole",), ("other whole, same end", "last four", "masked", "none")),
    "name": ((), tuple(SEEN))}


@pytest.mark.req("MATCH-001", "MATCH-002")
@pytest.mark.parametrize("rule", CARD_RULES)
def test_what_proves_the_card(rule: str) -> None:
    rules = RULES["hsbc"]._replace(card_rule=rule)
    always, by_name = CARD_TABLE[rule]
    for seen, account in SEEN.items():
        for name, alike in ((SAME, True), (FAR, False)):
            passes = rules.card(flow(account=account, name=name), asked()) == PASSES
            assert passes == (seen in always or (alike and seen in by_name)), (seen, name)
            assert (one(flow(account=account, name=name), asked(), rules=rules).outcome == AUTO) == passes, (seen, name)


@pytest.mark.req("MATCH-008")
def test_twelve_banks_have_a_class_and_a_set_of_parameters_each() -> None:
    assert tuple(MATCH_CLASSES) == MATCHING_BANKS and len(set(MATCH_CLASSES.values())) == 12
    assert tuple(RULES) == MATCHING_BANKS and tuple(STATEMENT_TRANS_TYPE) == MATCHING_BANKS
    assert list(STATEMENT_TRANS_TYPE.values()) == list(range(201, 213))


@pytest.mark.req("MATCH-009")
def test_a_new_bank_is_a_class_and_its_numbers() -> None:
    row = {"auto": {"HKD": 2, "USD": 0, "CNH": 0}, "assisted": {"HKD": 5, "USD": 5, "CNH": 5}, "auto_days": [0, 0],
           "assisted_days": [0, 1], "card": "full", "name_required": False}
    numbers = {**{f"match.bank.newb.{key}": value for key, value in row.items()}, "match.name_similarity": 0.9}
    rules = read_rules(numbers, {"newb": "NewbMatch"})["newb"]
    assert rules.match_class == "NewbMatch"
    assert one(flow(amount=999_800, bank="newb"), asked(bank="newb"), rules=rules).outcome == AUTO
    assert one(flow(amount=999_799, bank="newb"), asked(bank="newb"), rules=rules).outcome == CANDIDATES


@pytest.mark.req("ADR-006-1")
def test_a_bank_that_is_not_registered_is_found_at_the_start() -> None:
    check_registration(MATCHING_BANKS, RULES, DEFAULTS)
    with pytest.raises(Misconfigured, match=r"newb has no match rules.*TransType.*receiving account"):
        check_registration([*MATCHING_BANKS, "newb"], RULES, DEFAULTS)
    with pytest.raises(Misconfigured, match="hsbc has no match rules"):
        check_registration(["hsbc"], {}, DEFAULTS)


@pytest.mark.parametrize(("key", "value"), [
    ("card", "half"), ("auto", {"HKD": 60, "USD": 0, "CNH": 0}), ("auto", {"HKD": 0}), ("auto_days", [-4, 2]),
    ("assisted_days", [1])])
def test_rules_that_cannot_be_are_told_with_their_key(key: str, value: object) -> None:
    with pytest.raises(Misconfigured, match=r"match\.bank\.hsbc"):
        read_rules(Settings({f"match.bank.hsbc.{key}": value}))


@pytest.mark.req("ADR-001-1")
@pytest.mark.parametrize("changed", MATCHING_BANKS)
def test_one_banks_parameters_change_no_other_banks_result(changed: str) -> None:
    loose = read_rules(Settings({f"match.bank.{changed}.auto": {"HKD": 3, "USD": 3, "CNH": 3},
                                 f"match.bank.{changed}.name_required": False}))
    for bank in MATCHING_BANKS:
        entries = [flow(1, 999_800, bank=bank), flow(2, 2_000_000, bank=bank, name="")]
        wishes = [asked(1, bank=bank), asked(2, 2_000_000, bank=bank)]
        now, before = (decide(rules[bank], entries, wishes, ALL) for rules in (loose, RULES))
        assert (now == before) == (bank != changed), bank
        assert bank != changed or now[0].outcome == AUTO


def test_outside_its_window_a_currency_is_held() -> None:
    entries = [flow(1), flow(2, ccy="USD")]
    wishes = [asked(1), asked(2, ccy="USD")]
    assert decide(RULES["hsbc"], entries, wishes, ("HKD",)) == [Decision(1, AUTO, 1), Decision(2, HELD, 2)]


def test_the_best_three_candidates_come_in_order() -> None:
    wishes = [asked(1, 1_000_300), asked(2, day=-5), asked(3, 1_000_100),
              asked(4, 1_000_200, card=OTHER_CARD, name=FAR), asked(5, 1_004_900)]
    found = one(flow(), *wishes)
    assert found.outcome == CANDIDATES and found.all == (1, 2, 3, 4, 5)
    assert [each.wish for each in found.best] == [2, 3, 1]
    assert found.best[1].fails == ("amount: 1.00 HKD less than the application",)
    assert explain(RULES["hsbc"], flow(amount=1_000_050), asked()).fails == (
        "amount: 0.50 HKD more than the application",)
    assert explain(RULES["hsbc"], flow(amount=1_000_000), asked(amount=128_000, ccy="USD")).fails == (
        "amount: 10,000.00 HKD, the application says 1,280.00 USD", "currency: HKD, the application says USD")


# A naive matcher


def naive(rules: BankRules, credits: list[Credit], wishes: list[Wish], open_ccys: tuple[str, ...]) -> list[tuple]:
    """The same by its definition: every entry against every application."""
    def fits(tier: Tier, e: Credit, w: Wish) -> bool:
        return (e.ccy == w.ccy and 0 <= w.amount - e.amount <= tier.tolerance[e.ccy]
                and tier.first <= e.day - w.day <= tier.last)

    pairs = {(e.id, w.id) for e in credits for w in wishes if fits(rules.auto, e, w) and card(rules, e, w) == PASSES}
    own = {e: w for e, w in pairs if sum(e == x for x, _ in pairs) == 1 == sum(w == y for _, y in pairs)}
    left = [w for w in wishes if w.id not in own.values()]
    answers = []
    for e in credits:
        near = {w.id for w in left if fits(rules.assisted, e, w)}
        tied = {w for x, w in pairs if x == e.id}
        if e.id in own:
            answers.append((AUTO if e.ccy in open_ccys else HELD, own[e.id], set()))
        elif tied:
            answers.append((TIED, None, near | tied))
        elif any(fits(rules.auto, e, w) and card(rules, e, w) == WAITS for w in left):
            answers.append((WAITING, None, near))
        else:
            answers.append((CANDIDATES if near else OPEN, None, near))
    return answers


def card(rules: BankRules, e: Credit, w: Wish) -> str:
    """A-61 in its own words."""
    whole = len(e.account) > 4 and "*" not in e.account
    if rules.card_rule == "name" or not e.account:
        needs_name = True
    elif e.account == w.card:
        needs_name = False
    elif (rules.card_rule == "full" or (whole and rules.card_rule != "last4") or w.card[-4:] != e.account[-4:]
          or ("*" in e.account and w.card[:4] != e.account[:4])):
        return "fails"
    else:
        needs_name = True
    if not e.name:
        return WAITS if rules.name_required else "fails" if needs_name else PASSES
    alike = max(similarity(e.name, name) for name in w.names) >= 0.9
    return PASSES if alike or not needs_name else "fails"


CARDS = ("6222000011112222", "6222000033332222", "7000000011112222", "6222000033334444")
NAMES = ("CHAN TAI MAN", "CHAN TAI MEN", "WONG SIU MING")
ACCOUNTS = st.sampled_from([*CARDS, "2222", "4444", "6222********2222", "7000********2222", ""])
CENTS = st.one_of(st.integers(999_900, 1_000_100), st.sampled_from([1_000_000, 995_000, 1_005_000]))
WISHES = st.lists(st.tuples(CENTS, st.sampled_from(("HKD", "USD")), st.integers(-4, 4), st.sampled_from(CARDS),
                            st.sampled_from(NAMES)), max_size=12)
CREDITS = st.lists(st.tuples(CENTS, st.sampled_from(("HKD", "USD")), st.integers(-4, 8), ACCOUNTS,
                             st.sampled_from((*NAMES, ""))), max_size=12)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MATCHING_BANKS), CREDITS, WISHES, st.sampled_from((("HKD", "USD"), ("HKD",), ())))
def test_a_naive_matcher_agrees(bank: str, rows: list, wanted: list, open_ccys: tuple[str, ...]) -> None:
    rules = RULES[bank]
    credits = [flow(n, a, bank=bank, ccy=c, day=d, account=acc, name=name)
               for n, (a, c, d, acc, name) in enumerate(rows, 1)]
    wishes = [asked(n, a, bank=bank, ccy=c, day=d, card=number, name=name)
              for n, (a, c, d, number, name) in enumerate(wanted, 1)]
    found = decide(rules, credits, wishes, open_ccys)
    assert [(one.outcome, one.wish, set(one.all)) for one in found] == naive(rules, credits, wishes, open_ccys)
    used = [one.wish for one in found if one.wish is not None]
    assert len(used) == len(set(used)), "an application has two entries"


@given(st.sampled_from(MATCHING_BANKS), CREDITS, WISHES)
def test_what_fails_without_a_look_at_names_is_what_the_explanation_says(bank: str, rows: list, wanted: list) -> None:
    for n, (amount, ccy, day, account, name) in enumerate(rows, 1):
        entry = flow(n, amount, bank=bank, ccy=ccy, day=day, account=account, name=name)
        for m, (sum_, currency, on, number, who) in enumerate(wanted, 1):
            one = asked(m, sum_, bank=bank if m % 2 else "hsbc", ccy=currency, day=on, card=number, name=who)
            fails = [why for why in explain(RULES[bank], entry, one).fails if not why.startswith("card:")]
            assert fails_plainly(RULES[bank], entry, one) == len(fails)


@given(st.sampled_from(NAMES), st.text(max_size=30))
def test_names_are_compared_as_the_lists_compare_them(name: str, other: str) -> None:
    entry, wanted = flow(name=other), asked(name=name)
    expected = similarity(fold_name(other), fold_name(name)) if fold_name(other) else 0.0
    assert RULES["hsbc"].alike(entry, wanted) == pytest.approx(expected)
