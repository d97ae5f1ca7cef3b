"""Small SVG figures without script: sparklines, bars, latency histograms, the strip of incidents.

Only presentation attributes, never ``style``: the page's Content-Security-Policy allows its own style sheet alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from core.clock import US_PER_S
from reports.markup import Html, text

_EDGES_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 450, 600, 900, 1_200, 1_800, 2_700,
            3_600, 5_400, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800)
"""Upper edges of histogram bins, seconds; the last bin is everything above."""
LANDMARKS = {1: "1 s", 10: "10 s", 60: "1 min", 600: "10 min", 3_600: "1 h", 21_600: "6 h", 86_400: "1 d"}


class Histogram(NamedTuple):
    """Counts per bin: bin ``i`` holds values ≤ ``edges_s[i]`` and above the edge before; one more for the rest."""

    edges_s: tuple[float, ...]
    counts: tuple[int, ...]


def histogram(ordered_us: Sequence[int], low_us: int, high_us: int) -> Histogram:
    """Bins over sorted values, from the bin of ``low_us`` to that of ``high_us`` (so that channels share an axis)."""
    first = next((i for i, edge in enumerate(_EDGES_S) if low_us <= edge * US_PER_S), len(_EDGES_S) - 1)
    last = next((i for i, edge in enumerate(_EDGES_S) if high_us <= edge * US_PER_S), len(_EDGES_S) - 1)
    edges = _EDGES_S[first:last + 1]
    counts, at = [0] * (len(edges) + 1), 0
    for value in ordered_us:
        while at < len(edges) and value > edges[at] * US_PER_S:
            at += 1
        counts[at] += 1
    return Histogram(edges, tuple(counts))


def latency_figure(found: Histogram, marks: Sequence[tuple[str, int]]) -> Html:
    """Histogram with the share settled as a line, and marks (``p50``, µs) above it."""
    width, height, left, right, top, bottom = 380, 148, 30, 38, 22, 22
    counts = found.counts if found.counts[-1] else found.counts[:-1]
    step, floor = (width - left - right) / len(counts), height - bottom
    tallest, whole = max(*counts, 1), max(sum(counts), 1)
    scale = (floor - top) / tallest
    parts = [f'<path class=g d="M{left} {top}H{width - right}M{left} {(top + floor) / 2:g}H{width - right}"/>']
    cumulative, line = 0, [f"M{left} {floor}"]
    for i, number in enumerate(counts):
        x = left + i * step
        if number:
            tall = max(number * scale, 1)
            parts.append(f'<rect class=b x="{x + .5:.1f}" y="{floor - tall:.1f}" width="{step - 1:.1f}"'
                         f' height="{tall:.1f}"/>')
        cumulative += number
        line.append(f"L{x + step:.1f} {floor - (floor - top) * cumulative / whole:.1f}")
    parts.append(f'<path class=c d="{"".join(line)}"/><path class=x d="M{left} {floor}H{width - right}"/>')
    parts.append(f'<text class=e x="{left - 5}" y="{top + 4}">{tallest:,}</text>'
                 f'<text class=e x="{left - 5}" y="{floor + 1}">0</text>'
                 f'<text x="{width - right + 5}" y="{top + 4}">100 %</text>'
                 f'<text x="{width - right + 5}" y="{floor + 1}">0 %</text>')
    for i, edge in enumerate(found.edges_s[:len(counts)]):
        if edge in LANDMARKS:
            x = left + (i + 1) * step
            parts.append(f'<text class=k x="{x:.1f}" y="{height - 6}">{LANDMARKS[int(edge)]}</text>')
    parts += _marks(found, marks, left, step, top, floor, len(counts))
    return Html(f'<svg class=lat viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>')


def _marks(found: Histogram, marks: Sequence[tuple[str, int]], left: float, step: float, top: int, floor: float,
           bins: int) -> list[str]:
    parts, reached = [], 0.0
    for name, value in marks:
        at = next((i for i, edge in enumerate(found.edges_s) if value <= edge * US_PER_S), len(found.edges_s))
        low = found.edges_s[at - 1] if at else 0.0
        high = found.edges_s[at] if at < len(found.edges_s) else low
        inside = (value / US_PER_S - low) / (high - low) if high > low else 0.5
        x = min(left + (at + inside) * step, left + bins * step)
        parts.append(f'<path class=p d="M{x:.1f} {top - 4}V{floor:g}"/>')
        word = max(x, reached + 13)
        parts.append(f'<text class=q x="{word:.1f}" y="{top - 9}">{name}</text>')
        reached = word + 13
    return parts


def sparkline(values: Sequence[int], who: str) -> Html:
    """Area of a level over time, 0 at the bottom; empty when it never left 0."""
    highest = max(values, default=0)
    if not highest:
        return Html("")
    width, height = 300, 20
    points, before = [f"M0 {height}"], 0
    for i, value in enumerate(values):
        if value != before:
            points.append(f"H{i * width / len(values):.0f}V{height - 1 - (height - 2) * value / highest:.0f}")
            before = value
    points.append(f"H{width}V{height}Z")
    return Html(f'<svg class="sp w-{who}" viewBox="0 0 {width} {height}" preserveAspectRatio="none">'
                f'<path d="{"".join(points)}"/></svg>')


def bar(value: int, most: int, who: str) -> Html:
    """A horizontal bar in the colour of who acts next."""
    if not value or not most:
        return Html("")
    wide = max(100 * value / most, 1.5)
    return Html(f'<svg class="br w-{who}" viewBox="0 0 100 10" preserveAspectRatio="none">'
                f'<rect width="{wide:.1f}" height="10"/></svg>')


class Band(NamedTuple):
    """Something that lasted, or (equal ends) a moment; ``kind`` is its colour class."""

    begin_us: int
    end_us: int
    kind: str
    words: str


def strip(lanes: Sequence[tuple[str, Sequence[Band]]], begin_us: int, end_us: int) -> Html:
    """Lanes of bands over the virtual day, in line with the charts below; each band carries its words."""
    span = max(end_us - begin_us, 1)
    parts = []
    for name, bands in lanes:
        boxes = "".join(
            f'<rect class="{band.kind}" x="{1000 * (band.begin_us - begin_us) / span:.1f}" y="2"'
            f' width="{max(1000 * (band.end_us - band.begin_us) / span, 2.2):.1f}" height="12">'
            f"<title>{text(band.words)}</title></rect>" for band in bands)
        parts.append(f'<div class=lane><span>{text(name)}</span>'
                     f'<svg viewBox="0 0 1000 16" preserveAspectRatio="none">{boxes}</svg></div>')
    return Html(f"<div class=strip>{''.join(parts)}</div>")
