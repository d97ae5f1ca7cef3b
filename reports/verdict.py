"""The one sentence a run comes down to; the same in HTML, terminal and JUnit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

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
        words.append(f"{stopped:,} were rejected, cancelled or reversed")
    words.append(f"{left:,} {'is' if left == 1 else 'are'} still open" if left else "none is left open")
    return ", ".join(words[:-1]) + f" and {words[-1]}."


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
