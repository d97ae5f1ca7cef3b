"""The one sentence a run comes down to; the same in HTML, terminal and JUnit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from core.money import show

Summary = Mapping[str, Any]


class Verdict(NamedTuple):
    """``headline`` Passed. / Failed., ``sentence`` why, ``reproduce`` the command for the first violation or ''."""

    passed: bool
    headline: str
    sentence: str
    reproduce: str


def violations(summary: Summary) -> list[Mapping[str, Any]]:
    """Violated invariants of a summary."""
    return list(summary.get("invariants", {}).get("violations", ()))


def checked(summary: Summary) -> int:
    """How many invariants were checked; the summary gives a number or a list of names."""
    found = summary.get("invariants", {}).get("checked", 0)
    return found if isinstance(found, int) else len(found)


def unmet(summary: Summary) -> list[Mapping[str, Any]]:
    """Expectations that did not hold."""
    return [each for each in summary.get("expectations", ()) if not each["passed"]]


def total(summary: Summary, machine: str = "", *prefixes: str) -> int:
    """Procedures of one machine (or both) in states that begin with one of the prefixes (or any)."""
    return sum(
        number for name, states in summary.get("procedures", {}).items() if machine in ("", name)
        for state, number in states.items() if not prefixes or state.startswith(prefixes))


def plural(number: int, word: str) -> str:
    """``1 alert``, ``3,200 alerts``; a word ending in y changes as English does."""
    if number == 1:
        return f"1 {word}"
    return f"{number:,} {word[:-1] + 'ies' if word.endswith('y') and word[-2] not in 'aeiou' else word + 's'}"


def verdict(summary: Summary) -> Verdict:
    """Failed when an invariant was violated or an expectation not met; counts either way."""
    broken, missed = violations(summary), unmet(summary)
    if not broken and not missed:
        return Verdict(True, "Passed.", f"{_outcome(summary)} {_held(summary)}", "")
    reasons = []
    if broken:
        more = f" and {plural(len(broken) - 1, 'more violation')}" if len(broken) > 1 else ""
        reasons.append(f"Invariant “{broken[0]['invariant']}” was violated{more}.")
    if missed:
        more = f" and {plural(len(missed) - 1, 'other')}" if len(missed) > 1 else ""
        were = "were" if len(missed) > 1 else "was"
        reasons.append(f"Expectation “{missed[0]['name']}”{more} {were} not met.")
    reproduce = next((str(each["reproduce"]) for each in broken if each.get("reproduce")), "")
    return Verdict(False, "Failed.", f"{' '.join(reasons)} {_outcome(summary)}", reproduce)


def _outcome(summary: Summary) -> str:
    everything, ok = total(summary), total(summary, "", "end_ok")
    stopped, left = total(summary, "", "end_reject", "end_cancel", "end_reverse"), int(summary.get("open", 0))
    words = [f"{ok:,} of {plural(everything, 'procedure')} finished well"]
    if stopped:
        words.append(f"{stopped:,} {'was' if stopped == 1 else 'were'} rejected, cancelled or reversed")
    rest = beside(summary)
    none = "no procedure is left open" if rest else "none is left open"
    words.append(f"{left:,} {_are(left)} still open" if left else none)
    return " ".join([f"{listed(words)}.", *rest])


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)


def without_procedure(summary: Summary, what: str) -> int:
    """Applications and tasks, ``open`` or ``ended``, for which no Procedure stands."""
    return sum(counts.get(what, 0) for counts in summary.get("without_procedure", {}).values())


def left_over(summary: Summary, abnormal: bool) -> tuple[int, str]:
    """Statement entries that no customer has, given to people or only unmatched: number, and amount by currency."""
    number, money = 0, dict[str, int]()
    for each in summary.get("leftovers", ()):
        if bool(each["reason"]) == abnormal:
            number += each["number"]
            money[each["ccy"]] = money.get(each["ccy"], 0) + each["amount"]
    return number, ", ".join(show(amount, ccy) for ccy, amount in sorted(money.items()))


def beside(summary: Summary) -> list[str]:
    """Sentences about what no Procedure stands for: applications and tasks, and money without an owner; [] if there is
    nothing."""
    told = []
    for name, counts in summary.get("without_procedure", {}).items():
        ended, still = counts.get("ended", 0), counts.get("open", 0)
        words = [f"{plural(ended, name[:-1])} ended"] if ended else []
        if still:
            words.append(f"{still:,}" if ended else plural(still, name[:-1]))
            words[-1] += f" {_are(still)} open"
        if words:
            told.append(f"{listed(words)} without a procedure")
    money = []
    for abnormal, word, state in ((False, "statement entry", "unmatched"), (True, "abnormal deposit", "open")):
        number, amounts = left_over(summary, abnormal)
        if number:
            money.append(f"{plural(number, word)} {_are(number)} {state} ({amounts})")
    return [f"{listed(words)}." for words in (told, money) if words]


def _held(summary: Summary) -> str:
    expectations = len(summary.get("expectations", ()))
    parts = []
    if expectations:
        parts.append("the expectation was met" if expectations == 1 else f"all {expectations} expectations were met")
    if checked(summary):
        parts.append(f"{plural(checked(summary), 'invariant')} held throughout")
    if not parts:
        return "Nothing was expected of it and no invariant was checked."
    text = " and ".join(parts)
    return text[0].upper() + text[1:] + "."
