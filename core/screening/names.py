"""Names as the lists compare them: normalised, then by similarity.

The similarity is ``2 * LCS / (length of a + length of b)``: what rapidfuzz calls ``fuzz.ratio``, so that library
may replace the function without moving a threshold.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_SIGNS: Final = re.compile(r"[^\W_]+")  # what `str.isalnum` takes, in a row


def fold(text: str) -> str:
    """Compatibility form, case folded, punctuation and surplus blanks gone: how every list value is stored."""
    wide = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_SIGNS.findall(wide))


def fold_number(text: str) -> str:
    """A card or account number without blanks, hyphens and other separators; masks (``*``) stay."""
    wide = unicodedata.normalize("NFKC", text).casefold()
    return wide if wide.isalnum() else "".join(sign for sign in wide if sign.isalnum() or sign == "*")


def fold_name(text: str) -> str:
    """A name with its words in alphabetical order: "CHAN, Tai Man" and "Tai Man Chan" are one."""
    return " ".join(sorted(fold(text).split()))


def similarity(one: str, other: str) -> float:
    """1.0 for equal texts, 0.0 for texts without a common character; symmetric."""
    if not one and not other:
        return 1.0
    return 2 * _common_length(_places(one), len(one), other) / (len(one) + len(other))


def most_similar(name: str, others: Sequence[str], threshold: float) -> tuple[int, float] | None:
    """Index and similarity of the most similar text from the threshold on; the first of equally similar ones."""
    places, best = _places(name), None
    for index, other in enumerate(others):
        both = len(name) + len(other)
        if 2 * min(len(name), len(other)) < threshold * both:
            continue  # lengths so different cannot reach it
        reached = 2 * _common_length(places, len(name), other) / both
        if reached >= threshold and (best is None or reached > best[1]):
            best = (index, reached)
    return best


def _places(text: str) -> dict[str, int]:
    """Where each character stands, as bits."""
    places: dict[str, int] = {}
    for position, sign in enumerate(text):
        places[sign] = places.get(sign, 0) | 1 << position
    return places


def _common_length(places: dict[str, int], length: int, other: str) -> int:
    """Length of the longest common subsequence: Hyyrö's bit-parallel algorithm, one integer step per character."""
    full = (1 << length) - 1
    row = full
    for sign in other:
        met = row & places.get(sign, 0)
        row = (row + met | row - met) & full
    return length - row.bit_count()
