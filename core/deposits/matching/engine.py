"""Who belongs together: statement entries against applications of one bank, decided as data (gaps.md B-09).

Pure functions: no clock, no database. An entry and an application of one bank and one currency are

* an **auto pair** if amount, date and card pass at the auto tier (five dimensions with currency and bank);
* **matched** if each is the other's only auto pair, and the window of the currency is open (outside: `HELD`);
* **tied** if an entry has auto pairs but none is unique both ways: for people, never automatic;
* **waiting** if only the remitter's name is missing where the bank needs one: no reminder, the name will come;
* **candidates** if amount and date pass at the assisted tier and the application is not matched otherwise.

Auto pairs are looked up, not searched: applications are hashed by currency and amount together with their card, its
last four digits, or nothing, as far as the entries' account numbers go. Where a tolerance is allowed, amounts are
hashed in steps of it. Candidates are searched among what is left, over amounts in order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Final, NamedTuple

from core.deposits.matching.rules import (
    ABSENT,
    AMOUNT,
    BANK,
    CARD,
    CURRENCY,
    DATE,
    DIMENSIONS,
    FULL,
    LAST4,
    NAME,
    PART,
    PASSES,
    WAITS,
    BankRules,
    Credit,
    Wish,
)

AUTO, HELD, TIED, WAITING, CANDIDATES, OPEN = "AUTO", "HELD", "TIED", "WAITING", "CANDIDATES", "OPEN"


class Candidate(NamedTuple):
    """An application that may be meant. ``fails``: dimensions that fail at the auto tier, in words for people."""

    wish: int
    fails: tuple[str, ...]
    amount_diff: int
    days: int


class Decision(NamedTuple):
    """What is to become of one entry. ``wish``: the application of AUTO and HELD; ``all``: ids of every candidate."""

    credit: int
    outcome: str
    wish: int | None = None
    best: tuple[Candidate, ...] = ()
    all: tuple[int, ...] = ()


def decide(
    rules: BankRules, credits: Sequence[Credit], wishes: Sequence[Wish], open_ccys: Container[str], best: int = 3
) -> list[Decision]:
    """One decision for each entry, in their order. All are of the rules' bank."""
    pairs = _auto_pairs(rules, credits, wishes)
    claims: dict[int, int] = {}
    for found in pairs:
        for one in found:
            claims[one.id] = claims.get(one.id, 0) + 1
    taken: dict[int, None] = {}
    decisions: list[Decision | None] = []
    rest: list[int] = []
    for place, (entry, found) in enumerate(zip(credits, pairs, strict=True)):
        if len(found) == 1 and claims[found[0].id] == 1:
            wish = found[0].id
            taken[wish] = None
            decisions.append(Decision(entry.id, AUTO if entry.ccy in open_ccys else HELD, wish))
        else:
            decisions.append(None)
            rest.append(place)
    if rest:
        near = _Near([one for one in wishes if one.id not in taken])
        for place in rest:
            decisions[place] = _rest(rules, credits[place], pairs[place], near, best)
    return decisions  # type: ignore[return-value]


def _rest(rules: BankRules, entry: Credit, tied: Sequence[Wish], near: _Near, best: int) -> Decision:
    """An entry without an owner of its own."""
    among = near.within(entry, rules)
    if tied:
        return _offer(rules, entry, TIED, {one.id: one for one in (*tied, *among)}.values(), best)
    auto = rules.auto
    if any(auto.amount(entry, one) and auto.date(entry, one) and rules.card(entry, one) == WAITS for one in among):
        return Decision(entry.id, WAITING, all=tuple(sorted(one.id for one in among)))
    if among:
        return _offer(rules, entry, CANDIDATES, among, best)
    return Decision(entry.id, OPEN)


def _offer(rules: BankRules, entry: Credit, outcome: str, among: Iterable[Wish], best: int) -> Decision:
    ranked = sorted((explain(rules, entry, one) for one in among), key=rank)
    return Decision(entry.id, outcome, None, tuple(ranked[:best]), tuple(sorted(one.wish for one in ranked)))


def rank(one: Candidate) -> tuple[int, int, int, int]:
    """The likelier first: fewer dimensions fail, nearer in amount and day, older."""
    return len(one.fails), abs(one.amount_diff), abs(one.days), one.wish


def explain(rules: BankRules, entry: Credit, asked: Wish) -> Candidate:
    """An application against an entry, whatever separates them: which dimensions fail at the auto tier, and how."""
    diff, days = asked.amount - entry.amount, entry.day - asked.day
    other_ccy = entry.ccy != asked.ccy
    fails = []
    if (diff != 0) if other_ccy else not rules.auto.amount(entry, asked):
        fails.append((AMOUNT, f"{abs(diff)} minor units {'below' if diff > 0 else 'above'} the application"))
    if other_ccy:
        fails.append((CURRENCY, f"{entry.ccy}, the application says {asked.ccy}"))
    if entry.bank != asked.bank:
        fails.append((BANK, f"{entry.bank}, the application says {asked.bank}"))
    if not rules.auto.date(entry, asked):
        fails.append((DATE, f"{days:+d} days from the application"))
    card = rules.card(entry, asked)
    if card != PASSES:
        fails.append((CARD, "the remitter's name is missing" if card == WAITS else
                      f"account {entry.account or 'missing'}, name {rules.alike(entry, asked):.2f} alike"))
    return Candidate(asked.id, tuple(f"{name}: {why}" for name, why in fails), diff, days)


def dimensions(candidate: Candidate) -> str:
    """The dimensions that pass at the auto tier, for the row of a match."""
    failing = [words.partition(":")[0] for words in candidate.fails]
    return ",".join(name for name in DIMENSIONS if name not in failing)


# Auto pairs, looked up


def _auto_pairs(rules: BankRules, credits: Sequence[Credit], wishes: Sequence[Wish]) -> list[Sequence[Wish]]:
    """For each entry its auto pairs."""
    if any(rules.auto.tolerance.values()):
        return _within_tolerance(rules, credits, wishes)
    first, last = rules.auto.first, rules.auto.last
    whole = rules.card_rule not in (LAST4, NAME)
    index: dict[Any, Any] = {}
    if whole:  # by far the most entries name a whole account: their applications are one look-up away
        for one in wishes:
            key = (one.ccy, one.amount, one.card)
            if (known := index.setdefault(key, one)) is not one:
                index[key] = (*known, one) if type(known) is tuple else (known, one)
    others = _Lookups(rules, wishes)
    found: list[Sequence[Wish]] = []
    for entry in credits:
        _, _, ccy, amount, day, account, name, kind = entry
        if whole and kind not in _NOT_WHOLE:
            hit = index.get((ccy, amount, account))
            if hit is None or (not name and rules.name_required):
                found.append(())
            elif type(hit) is Wish:
                found.append((hit,) if first <= day - hit.day <= last else ())
            else:
                found.append([one for one in hit if first <= day - one.day <= last])
        else:
            found.append([one for one in others.of(entry, amount) if first <= day - one.day <= last
                          and rules.card(entry, one) == PASSES])
    return found


_NOT_WHOLE: Final = (PART, ABSENT)


def _within_tolerance(rules: BankRules, credits: Sequence[Credit], wishes: Sequence[Wish]) -> list[Sequence[Wish]]:
    """The same where some currency has a tolerance: amounts are hashed in steps as wide as it."""
    widths = {ccy: tolerance + 1 for ccy, tolerance in rules.auto.tolerance.items()}
    lookups = _Lookups(rules, wishes, lambda one: one.amount // widths[one.ccy])
    auto, found = rules.auto, list[Sequence[Wish]]()
    for entry in credits:
        width = widths[entry.ccy]
        steps = (entry.amount,) if width == 1 else (entry.amount // width, entry.amount // width + 1)
        found.append([one for step in steps for one in lookups.of(entry, step)
                      if auto.amount(entry, one) and auto.date(entry, one) and rules.card(entry, one) == PASSES])
    return found


class _Lookups:
    """Applications by currency, step of the amount, and what an entry shows of the card; each made when needed."""

    def __init__(
        self, rules: BankRules, wishes: Sequence[Wish], step: Callable[[Wish], int] = lambda one: one.amount
    ) -> None:
        self._rule, self._wishes, self._step = rules.card_rule, wishes, step
        self._made: dict[str, dict[Any, list[Wish]]] = {}

    def of(self, entry: Credit, step: int) -> Sequence[Wish]:
        """Those that the entry's account number may mean."""
        if self._rule == NAME or entry.kind == ABSENT:
            return self._index("", lambda _: "").get((entry.ccy, step, ""), ())
        if self._rule == FULL or (entry.kind != PART and self._rule != LAST4):
            return self._index(FULL, lambda one: one.card).get((entry.ccy, step, entry.account), ())
        if "*" in entry.account and len(entry.account.rpartition("*")[2]) < _LAST:
            return ()
        return self._index(LAST4, lambda one: one.card[-_LAST:]).get((entry.ccy, step, entry.account[-_LAST:]), ())

    def _index(self, name: str, card: Callable[[Wish], str]) -> dict[Any, list[Wish]]:
        index = self._made.get(name)
        if index is None:
            index = self._made[name] = {}
            step = self._step
            for one in self._wishes:
                index.setdefault((one.ccy, step(one), card(one)), []).append(one)
        return index


_LAST: Final = 4


# Candidates, searched


class _Near:
    """Applications in the order of their amounts, by currency."""

    def __init__(self, wishes: Sequence[Wish]) -> None:
        self._by_ccy: dict[str, list[Wish]] = {}
        for one in wishes:
            self._by_ccy.setdefault(one.ccy, []).append(one)
        for ordered in self._by_ccy.values():
            ordered.sort(key=_amount)

    def within(self, entry: Credit, rules: BankRules) -> list[Wish]:
        """Those whose amount and date pass at the assisted tier."""
        ordered, tier = self._by_ccy.get(entry.ccy, []), rules.assisted
        low = bisect_left(ordered, entry.amount, key=_amount)
        high = bisect_right(ordered, entry.amount + tier.tolerance[entry.ccy], lo=low, key=_amount)
        return [one for one in ordered[low:high] if tier.date(entry, one)]


def _amount(one: Wish) -> int:
    return one.amount


__all__ = ["AUTO", "CANDIDATES", "HELD", "OPEN", "TIED", "WAITING", "Candidate", "Decision", "decide",
           "dimensions", "explain",
           "rank"]
