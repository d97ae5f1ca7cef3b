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
from collections.abc import Container, Iterable, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

from core.deposits.matching.rules import (
    ABSENT,
    ACCOUNT_PROOFS,
    AMOUNT,
    BANK,
    CARD,
    CURRENCY,
    DATE,
    DIMENSIONS,
    FULL,
    FULL_OR_LAST4,
    LAST4,
    NAME,
    PART,
    PASSES,
    REFUTED,
    WAITS,
    WHOLE,
    BankRules,
    Credit,
    Wish,
)
from core.money import show

AUTO, HELD, TIED, WAITING, CANDIDATES, OPEN = "AUTO", "HELD", "TIED", "WAITING", "CANDIDATES", "OPEN"


class Candidate(NamedTuple):
    """An application that may be meant. ``fails``: dimensions that fail at the auto tier, in words for people."""

    wish: int
    fails: tuple[str, ...]
    amount_diff: int
    days: int


class Decision(NamedTuple):
    """What is to become of one entry. ``wish``: the application of AUTO and HELD; the others' ``best`` candidates, and
    the ids of ``all``."""

    credit: int
    outcome: str
    wish: int | None = None
    best: tuple[Candidate, ...] = ()
    all: tuple[int, ...] = ()


def decide(
    rules: BankRules, credits: Sequence[Credit], wishes: Sequence[Wish], open_ccys: Container[str], best: int = 3
) -> list[Decision]:
    """One decision for each entry, in their order. All are of the rules' bank."""
    pairs, claims, contested = _auto_pairs(rules, credits, wishes)
    new, decisions, rest = tuple.__new__, list[Any](), list[int]()
    for place, (entry, found) in enumerate(zip(credits, pairs, strict=True)):
        if type(found) is Wish and (wish := found[0]) not in contested:
            # made without the keyword machinery: this is the one line that every matched entry pays for
            decisions.append(new(Decision, (entry[0], AUTO if entry[2] in open_ccys else HELD, wish, (), ())))
        else:
            decisions.append(None)
            rest.append(place)
    if rest:
        near = _Near([one for one in wishes if one[0] not in claims or one[0] in contested])
        for place in rest:
            found = pairs[place]
            decisions[place] = _rest(rules, credits[place], (found,) if type(found) is Wish else found, near, best)
    return decisions


def _rest(rules: BankRules, entry: Credit, tied: Sequence[Wish], near: _Near, best: int) -> Decision:
    """An entry without an owner of its own."""
    among = near.within(entry, rules)
    if tied:
        return _offer(rules, entry, TIED, {one.id: one for one in (*tied, *among)}.values(), best)
    auto = rules.auto
    if any(auto.amount(entry, one) and auto.date(entry, one) and rules.card(entry, one) == WAITS for one in among):
        return _offer(rules, entry, WAITING, among, best)
    if among:
        return _offer(rules, entry, CANDIDATES, among, best)
    return Decision(entry.id, OPEN)


def _offer(rules: BankRules, entry: Credit, outcome: str, among: Iterable[Wish], best: int) -> Decision:
    ranked = sorted((explain(rules, entry, one) for one in among), key=rank)
    return Decision(entry.id, outcome, None, tuple(ranked[:best]), tuple(sorted(one.wish for one in ranked)))


def rank(one: Candidate) -> tuple[int, int, int, int]:
    """The likelier first: fewer dimensions fail, nearer in amount and day, older."""
    return len(one.fails), abs(one.amount_diff), abs(one.days), one.wish


def fails_plainly(rules: BankRules, entry: Credit, asked: Wish) -> int:
    """How many of the dimensions amount, currency, bank and date fail at the auto tier: those that need no look at
    names, and no words."""
    other_ccy = entry.ccy != asked.ccy
    return (other_ccy + (entry.bank != asked.bank) + (not rules.auto.date(entry, asked))
            + (entry.amount != asked.amount if other_ccy else not rules.auto.amount(entry, asked)))


def explain(rules: BankRules, entry: Credit, asked: Wish) -> Candidate:
    """An application against an entry, whatever separates them: which dimensions fail at the auto tier, and how."""
    diff, days = asked.amount - entry.amount, entry.day - asked.day
    other_ccy = entry.ccy != asked.ccy
    fails = []
    if other_ccy:
        if diff:
            fails.append((AMOUNT, f"{show(entry.amount, entry.ccy)}, the application says "
                                  f"{show(asked.amount, asked.ccy)}"))
        fails.append((CURRENCY, f"{entry.ccy}, the application says {asked.ccy}"))
    elif not rules.auto.amount(entry, asked):
        fails.append((AMOUNT, f"{show(abs(diff), entry.ccy)} {'less' if diff > 0 else 'more'} than the application"))
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

Found = Any
"""One `Wish`, or a sequence of none or several: most entries have one, and pay for no list."""
_NONE: Final[tuple[Wish, ...]] = ()


def _auto_pairs(
    rules: BankRules, credits: Sequence[Credit], wishes: Sequence[Wish]
) -> tuple[list[Found], dict[int, int], dict[int, None]]:
    """For each entry its auto pairs; the applications that are in a pair; and those of them that are not in a pair of
    one to one."""
    (widths, first, last), named, rule = rules.auto, rules.name_required, rules.card_rule
    index = _Index(rules, credits, wishes)
    main = index.ends if rule == LAST4 else index.any if rule == NAME else index.cards
    pairs, claims, contested = list[Found](), dict[int, int](), dict[int, None]()
    for place, entry in enumerate(credits):
        _, _, ccy, amount, day, account, name, kind, end = entry
        # By far the most entries are told by one look-up and a few comparisons; all others by `_proven`.
        found: Found = _UNTOLD
        if not widths[ccy]:
            if kind == WHOLE and rule in _WHOLE_CARDS:
                found = main.get((ccy, amount, account), _NONE) if name or not named else _NONE
                if type(found) is Wish and not first <= day - found[4] <= last:
                    found = _NONE
            elif rule == NAME or (rule == LAST4 and (kind == WHOLE or (kind == PART and account == end))):
                found = main.get((ccy, amount, end if rule == LAST4 else ""), _NONE)
                if type(found) is Wish and not (name in found[6] and first <= day - found[4] <= last):
                    found = _UNTOLD
        if found is _UNTOLD or type(found) is list:
            found = _only(_proven(rules, entry, index.of(entry)))
        pairs.append(found)
        if type(found) is Wish:
            # whoever comes second contests it for both
            if claims.setdefault(found[0], place) != place:
                contested[found[0]] = None
        elif found:
            for one in found:
                claims[one[0]] = place
                contested[one[0]] = None
    return pairs, claims, contested


_UNTOLD: Final = object()
_WHOLE_CARDS: Final = (FULL, FULL_OR_LAST4)


def _only(found: Sequence[Wish]) -> Found:
    return found[0] if len(found) == 1 else found


def _proven(rules: BankRules, entry: Credit, among: Iterable[Wish]) -> Sequence[Wish]:
    """Those whose amount, date and card pass; names that are equal are not measured."""
    auto, name = rules.auto, entry.name
    near = [one for one in among if auto.first <= entry.day - one.day <= auto.last and auto.amount(entry, one)]
    if not near:
        return _NONE
    return [one for one in near
            if (name in one.names and ACCOUNT_PROOFS[rules.card_rule](entry, one) != REFUTED if name else False)
            or rules.card(entry, one) == PASSES]


class _Index:
    """Applications by currency, step of the amount (as wide as the tolerance), and what of the card an entry shows:
    the number, its end, or nothing. Each index is made when it is needed; a place holds one application, or a list."""

    def __init__(self, rules: BankRules, credits: Sequence[Credit], wishes: Sequence[Wish]) -> None:
        self._rule, self._credits, self._wishes = rules.card_rule, credits, wishes
        self._widths = {ccy: tolerance + 1 for ccy, tolerance in rules.auto.tolerance.items()}
        self._plain = max(self._widths.values()) == 1

    def of(self, entry: Credit) -> Sequence[Wish]:
        """Those whose amount may fit, and that the entry's account number may mean."""
        if self._rule == NAME or entry.kind == ABSENT:
            shown, index = "", self.any
        elif self._rule == FULL or (entry.kind == WHOLE and self._rule != LAST4):
            shown, index = entry.account, self.cards
        else:
            shown, index = entry.end, self.ends
        width = self._widths[entry.ccy]
        step = entry.amount // width
        found = _all(index.get((entry.ccy, step, shown), _NONE))
        return found if width == 1 else (*found, *_all(index.get((entry.ccy, step + 1, shown), _NONE)))

    @cached_property
    def cards(self) -> dict[Any, Found]:
        return self._made(self._wishes, _CARD)

    @cached_property
    def ends(self) -> dict[Any, Found]:
        return self._made(self._wishes if self._rule == LAST4 else self._near(PART), _END)

    @cached_property
    def any(self) -> dict[Any, Found]:
        return self._made(self._wishes if self._rule == NAME else self._near(ABSENT), None)

    def _near(self, kind: str) -> Iterable[Wish]:
        """Applications of the amounts that entries of a rare kind have."""
        steps = {entry.amount // width + more for entry in self._credits if entry.kind == kind
                 for width in (self._widths[entry.ccy],) for more in ((0,) if width == 1 else (0, 1))}
        if self._plain:
            return [one for one in self._wishes if one[3] in steps]
        return [one for one in self._wishes if one[3] // self._widths[one[2]] in steps]

    def _made(self, wishes: Iterable[Wish], field: int | None) -> dict[Any, Found]:
        index, widths, plain = dict[Any, Any](), self._widths, self._plain
        for one in wishes:
            if plain and field is not None:
                key = (one[2], one[3], one[field])
            else:
                key = (one[2], one[3] // widths[one[2]], "" if field is None else one[field])
            known = index.setdefault(key, one)
            if known is not one:
                if type(known) is list:
                    known.append(one)
                else:
                    index[key] = [known, one]
        return index


_CARD, _END = Wish._fields.index("card"), Wish._fields.index("end")


def _all(found: Found) -> Sequence[Wish]:
    return (found,) if type(found) is Wish else found


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
