"""The match rules of each bank: one table of classes, one table of numbers in the settings (ADR-001, gaps.md B-09).

A bank is registered by a row in `MATCH_CLASSES` and its numbers under ``match.bank.<bank>``; nothing else of matching
knows a bank's name, so that changing one bank's rules changes no other bank's results.

The card dimension (gaps.md A-61), asked in this order:

* a full account number that is the application's passes, whatever the name (a name that is another's makes the deposit
  HIGH_RISK later);
* a full number that is not the application's fails, except where the bank shows last digits only (``last4``);
* last digits or a masked number that fit, and a missing account, pass with a remitter's name of enough similarity;
* where the bank needs a name (``name_required``) and has not given it yet, what would otherwise pass or need the name
  `WAITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from core.clock import hkt_date
from core.errors import Misconfigured
from core.money import MINOR_PER_MAJOR, Currency
from core.screening.names import fold_name, fold_number, similarity
from core.transfer import TRANS_TYPES

MATCH_CLASSES: Final[dict[str, str]] = {
    "bochk": "BocMatch", "hsbc": "HsbcMatch", "hase": "HaseMatch", "icbc": "IcbcMatch", "cgb": "CgbMatch",
    "scb": "ScbMatch", "ccba": "CcbaMatch", "dbs": "DbsMatch", "za": "ZaMatch", "citi": "CitiMatch",
    "spd": "SpdMatch", "ewb": "EwbMatch"}
"""Bank -> its match class."""

STATEMENT_TRANS_TYPE: Final[dict[str, int]] = {
    row.bank: code for code, row in TRANS_TYPES.items() if row.bank in MATCH_CLASSES and row.way != "eDDI"}
"""Bank -> TransType of a deposit by its statement (gaps.md B-03)."""

FULL, FULL_OR_LAST4, LAST4, NAME = CARD_RULES = ("full", "full_or_last4", "last4", "name")
AMOUNT, CURRENCY, BANK, DATE, CARD = DIMENSIONS = ("amount", "currency", "bank", "date", "card")
SHORT: Final = 4
"""An account of so few digits is the end of a number."""


class Credit(NamedTuple):
    """A statement entry as matching sees it. ``account``: as folded, its ``end`` apart; ``kind``: what it is."""

    id: int
    bank: str
    ccy: str
    amount: int
    day: int
    account: str
    name: str
    kind: str
    end: str


class Wish(NamedTuple):
    """An application as matching sees it; ``names``: the customer's, folded."""

    id: int
    bank: str
    ccy: str
    amount: int
    day: int
    card: str
    names: tuple[str, ...]
    end: str


WHOLE, PART, ABSENT = "whole", "part", ""


def account_kind(account: str) -> str:
    """Whether a folded account number is whole, shows its end only, or is missing."""
    if not account:
        return ABSENT
    return PART if len(account) <= SHORT or "*" in account else WHOLE


def credit(id: int, bank: str, ccy: str, amount: int, at_ms: int, account: str, name: str) -> Credit:
    """A statement entry, folded once."""
    folded = fold_number(account)
    return Credit(id, bank, ccy, amount, hkt_date(at_ms).toordinal(), folded, fold_name(name) if name else "",
                  account_kind(folded), folded[-SHORT:])


def wish(id: int, bank: str, ccy: str, amount: int, at_ms: int, card: str, names: Iterable[str]) -> Wish:
    """An application, folded once."""
    folded = fold_number(card)
    return Wish(id, bank, ccy, amount, hkt_date(at_ms).toordinal(), folded,
                tuple(dict.fromkeys(fold_name(name) for name in names if name)), folded[-SHORT:])


class Tier(NamedTuple):
    """What one tier allows: minor units below the application by currency, days from ``first`` to ``last``."""

    tolerance: dict[str, int]
    first: int
    last: int

    def amount(self, entry: Credit, asked: Wish) -> bool:
        """Fees make a statement smaller, never larger."""
        return 0 <= asked.amount - entry.amount <= self.tolerance[entry.ccy]

    def date(self, entry: Credit, asked: Wish) -> bool:
        return self.first <= entry.day - asked.day <= self.last


PASSES, FAILS, WAITS = "passes", "fails", "waits"


class BankRules(NamedTuple):
    """One bank's rules."""

    bank: str
    match_class: str
    auto: Tier
    assisted: Tier
    card_rule: str
    name_required: bool
    name_similarity: float

    def card(self, entry: Credit, asked: Wish) -> str:
        """The card dimension: PASSES, FAILS, or WAITS for the remitter's name."""
        proof = ACCOUNT_PROOFS[self.card_rule](entry, asked)
        if proof == REFUTED:
            return FAILS
        if not entry.name:
            return WAITS if self.name_required else PASSES if proof == PROVEN else FAILS
        return PASSES if proof == PROVEN or self.alike(entry, asked) >= self.name_similarity else FAILS

    def alike(self, entry: Credit, asked: Wish) -> float:
        """How similar the remitter's name is to the customer's; 0.0 without one."""
        if not entry.name:
            return 0.0
        return 1.0 if entry.name in asked.names else max((similarity(entry.name, name) for name in asked.names),
                                                         default=0.0)


PROVEN, NEEDS_NAME, REFUTED = "proven", "needs_name", "refuted"


def _whole_or(part: str, other: str) -> Callable[[Credit, Wish], str]:
    """``part``: what the end of the application's number proves; ``other``: what a whole number with its end does."""

    def proof(entry: Credit, asked: Wish) -> str:
        if entry.kind == ABSENT:
            return NEEDS_NAME
        if entry.account == asked.card:
            return PROVEN
        if not _ends_alike(entry, asked):
            return REFUTED
        return part if entry.kind == PART else other

    return proof


def _ends_alike(entry: Credit, asked: Wish) -> bool:
    """Whether the last four digits agree, and what a mask leaves of the beginning."""
    before, mask, after = entry.account.partition("*")
    end = after.rpartition("*")[2] if mask else entry.account
    return len(end) >= SHORT and asked.card.endswith(entry.end if entry.kind == WHOLE else end) and (
        not mask or asked.card.startswith(before))


ACCOUNT_PROOFS: Final[dict[str, Callable[[Credit, Wish], str]]] = {
    FULL: _whole_or(REFUTED, REFUTED),
    FULL_OR_LAST4: _whole_or(NEEDS_NAME, REFUTED),
    LAST4: _whole_or(NEEDS_NAME, NEEDS_NAME),
    NAME: lambda _entry, _asked: NEEDS_NAME,
}
"""Card rule -> what the statement's account number says of the application's card."""


# Reading


def read_rules(settings: Mapping[str, Any], classes: Mapping[str, str] = MATCH_CLASSES) -> dict[str, BankRules]:
    """The rules of every registered bank; a value that cannot be used raises `Misconfigured` with its key."""
    return {bank: _rules_of(settings, bank, name) for bank, name in classes.items()}


def _rules_of(settings: Mapping[str, Any], bank: str, match_class: str) -> BankRules:
    key = f"match.bank.{bank}"
    card = settings[f"{key}.card"]
    if card not in CARD_RULES:
        raise Misconfigured(f"{card!r} is no card rule", where=f"{key}.card", remedy=f"one of {', '.join(CARD_RULES)}")
    rules = BankRules(bank, match_class, _tier(settings, key, "auto"), _tier(settings, key, "assisted"), card,
                      settings[f"{key}.name_required"], settings["match.name_similarity"])
    if any(rules.auto.tolerance[ccy] > rules.assisted.tolerance[ccy] for ccy in Currency) or not (
            rules.assisted.first <= rules.auto.first <= rules.auto.last <= rules.assisted.last):
        raise Misconfigured("the assisted tier must hold the auto tier", where=key)
    return rules


def _tier(settings: Mapping[str, Any], key: str, tier: str) -> Tier:
    tolerance, days = settings[f"{key}.{tier}"], settings[f"{key}.{tier}_days"]
    if set(tolerance) != set(Currency) or min(tolerance.values()) < 0:
        raise Misconfigured(f"{tolerance!r}: one amount of 0 or more for each of {', '.join(Currency)}",
                            where=f"{key}.{tier}")
    if len(days) != 2:
        raise Misconfigured(f"{days!r}: the first and the last day", where=f"{key}.{tier}_days")
    return Tier({ccy: round(major * MINOR_PER_MAJOR) for ccy, major in tolerance.items()}, *days)


def check_registration(banks: Iterable[str], rules: Mapping[str, BankRules], settings: Mapping[str, Any]) -> None:
    """A statement bank that is connected has match rules, a TransType and a receiving account, or nothing starts
    (ADR-006): `Misconfigured` names what is missing."""
    for bank in banks:
        missing = [what for what, there in (
            ("match rules (core/deposits/matching/rules.py MATCH_CLASSES, match.bank in the settings)", bank in rules),
            ("a TransType (core/transfer.py)", bank in STATEMENT_TRANS_TYPE),
            ("a receiving account (receiving in the settings)", bool(_receiving(settings, bank)))) if not there]
        if missing:
            raise Misconfigured(f"{bank} has no {' and no '.join(missing)}", where="statement banks",
                                remedy="register the bank, or do not connect it")


def _receiving(settings: Mapping[str, Any], bank: str) -> Mapping[str, str]:
    try:
        accounts: Mapping[str, str] = settings[f"receiving.{bank}.accounts"]
    except (Misconfigured, KeyError):
        return {}
    return accounts
