"""Matching of 100,000 applications with 100,000 entries against a bare dict join on the same keys, and its growth.

The population is that of gaps.md B-45 in kind: amounts of thousands that many customers share, 95 % of entries with an
owner, 3 % with a fee taken off, 2 % of strangers; entries name a whole account or its end, as their bank does, and
3 % none. Both sides get the same prepared rows in the same lists; the join finds for each entry the applications of the
same bank, currency, amount and card.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
from collections.abc import Callable
from time import perf_counter, process_time

from core.deposits.matching.engine import AUTO, decide
from core.deposits.matching.rules import BankRules, Credit, Wish, credit, read_rules, wish
from core.settings import Settings

RULES = read_rules(Settings())
SIZES = (50_000, 100_000, 200_000)
ROUNDS = 5
T0, DAY = 1_773_280_800_000, 86_400_000
CCYS = ("HKD", "USD", "CNH")
Rows = list[tuple[BankRules, list[Credit], list[Wish]]]


def population(count: int, seed: int = 7) -> Rows:
    """Entries and applications, as many of each, bank by bank."""
    rng = random.Random(seed)
    found: Rows = []
    for number, rules in enumerate(RULES.values()):
        credits, wishes = list[Credit](), list[Wish]()
        for n in range(count // len(RULES)):
            card = f"{62_000_000 + number}{rng.randrange(10**8):08d}"
            name = f"{rng.choice(SURNAMES)} {rng.choice(GIVEN)} {rng.choice(GIVEN)}"
            amount = round(math.exp(rng.gauss(9.2, 1.4))) * 100 + (rng.randrange(100) if rng.random() < 0.5 else 0)
            ccy, at = rng.choices(CCYS, (80, 15, 5))[0], T0 + rng.randrange(5) * DAY
            wishes.append(wish(n, rules.bank, ccy, amount, at, card, (name,)))
            credits.append(_entry(rng, n, rules, ccy, amount, at, card, name))
        rng.shuffle(credits)
        found.append((rules, credits, wishes))
    return found


def _entry(
    rng: random.Random, n: int, rules: BankRules, ccy: str, amount: int, at: int, card: str, name: str
) -> Credit:
    kind = rng.random()
    if kind > 0.98:
        amount += 7_777_777
    elif kind > 0.95:
        amount = max(1, amount - 500)
    shown = card if rules.card_rule.startswith("full") else card[-4:]
    return credit(n, rules.bank, ccy, amount, at + rng.randrange(2) * DAY, shown if rng.random() < 0.97 else "", name)


SURNAMES = ("CHAN", "WONG", "LEE", "CHEUNG", "LAU", "HO", "NG", "LAM", "LEUNG", "YEUNG", "TSANG", "KWOK")
GIVEN = ("TAI", "MAN", "SIU", "MING", "KA", "YAN", "WAI", "HING", "CHI", "KEUNG", "MEI", "LING", "HOI", "LOK")


def ours(rows: Rows) -> int:
    """Number of entries matched automatically."""
    return sum(one.outcome == AUTO for rules, credits, wishes in rows for one in decide(rules, credits, wishes, CCYS))


def bare_join(rows: Rows) -> int:
    """Entries that have one application of the same bank, currency, amount and card."""
    index: dict[tuple[str, str, int, str], list[Wish]] = {}
    for _, _, wishes in rows:
        for one in wishes:
            index.setdefault((one.bank, one.ccy, one.amount, one.card), []).append(one)
    joined = [(entry, index.get((entry.bank, entry.ccy, entry.amount, entry.account), ()))
              for _, credits, _ in rows for entry in credits]
    return sum(len(hits) == 1 for _, hits in joined)


def _polars_join(rows: Rows) -> Callable[[], int] | None:
    """The same join in Polars, if it is installed; frames are made beforehand."""
    try:
        import polars as pl
    except ImportError:
        return None
    left = pl.DataFrame([(e.bank, e.ccy, e.amount, e.account) for _, credits, _ in rows for e in credits],
                        schema=["bank", "ccy", "amount", "card"], orient="row")
    right = pl.DataFrame([(w.bank, w.ccy, w.amount, w.card) for _, _, wishes in rows for w in wishes],
                         schema=["bank", "ccy", "amount", "card"], orient="row")
    return lambda: left.join(right, on=["bank", "ccy", "amount", "card"]).height


def seconds(work: Callable[[], object]) -> float:
    """Of the processor for one call, without the collector's pauses; Polars uses both cores."""
    gc.collect()
    gc.disable()
    begin = process_time()
    work()
    spent = process_time() - begin
    gc.enable()
    return spent


def measure() -> dict[str, float]:
    """Seconds and ratios, medians of interleaved rounds; the growth is that of the best rounds."""
    figures: dict[str, float] = {}
    spent: dict[int, float] = {}
    for size in SIZES:
        begin = perf_counter()
        rows = population(size)
        prepare = perf_counter() - begin
        works: dict[str, Callable[[], int]] = {"match": lambda rows=rows: ours(rows),  # type: ignore[misc]
                                               "dict join": lambda rows=rows: bare_join(rows)}  # type: ignore[misc]
        if size == 100_000 and (polars := _polars_join(rows)) is not None:
            works["polars join"] = polars
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                times[name].append(seconds(work))
        spent[size] = min(times["match"])
        figures |= {f"{name} of {size:,} s": statistics.median(of) for name, of in times.items()}
        figures[f"match to dict join at {size:,}"] = statistics.median(
            mine / bare for mine, bare in zip(times["match"], times["dict join"], strict=True))
        if size == 100_000:
            figures |= {"matched automatically share": ours(rows) / size, "making the population s": prepare}
    figures["growth exponent 50,000 to 200,000"] = math.log(spent[SIZES[-1]] / spent[SIZES[0]]) / math.log(
        SIZES[-1] / SIZES[0])
    return figures
