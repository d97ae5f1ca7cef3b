"""Quantiles as every reader of a run takes them."""

from __future__ import annotations

from array import array


def percentile(ordered: array[int] | list[int], share: float) -> int:
    """Nearest-rank percentile of sorted values: the smallest that at least ``share`` of them do not exceed."""
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * round(share * 1_000_000) // 1_000_000)
    return ordered[max(rank, 1) - 1]
