"""HTML pieces: escaping by default, tables with a stated cut, times and amounts for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from core.clock import US_PER_MS, US_PER_S, hkt

CELL_KEPT = 240
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters and direction overrides: a remark must not rearrange the page around it."""


class Html(str):
    """Markup made here; everything else is text and is escaped."""

    __slots__ = ()


Cell = str | int | Html | None


def text(value: object, limit: int = CELL_KEPT) -> Html:
    """Escaped, shortened, without control characters."""
    plain = _CONTROL.sub("\ufffd", str(value) if value is not None else "")
    if len(plain) > limit:
        plain = plain[: limit - 1] + "…"
    return Html(escape(plain))


def cell(value: Cell) -> str:
    """A cell's content: numbers grouped, text escaped."""
    if isinstance(value, Html):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return text(value)


def table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Cell]], *, limit: int = 1_000, left_out: int = 0,
          caption: str = "", empty: str = "None.") -> Html:
    """A table; ``columns`` are (title, class) with class '' text, ``n`` number, ``m`` code, ``w`` may wrap.

    Rows beyond ``limit`` are not shown; the number left out (with ``left_out`` already missing) is stated below.
    """
    shown, more = [], left_out
    for number, row in enumerate(rows):
        if number < limit:
            shown.append(row)
        else:
            more += 1
    if not shown:
        return Html(f"<p class=none>{text(empty)}</p>")
    kinds = [f" class={kind}" if kind else "" for _, kind in columns]
    head = "".join(f"<th{kind}>{text(title)}" for kind, (title, _) in zip(kinds, columns, strict=True))
    body = "".join("<tr>" + "".join(f"<td{kind}>{cell(value)}" for kind, value in zip(kinds, row, strict=True))
                   for row in shown)
    title = f"<caption>{text(caption)}</caption>" if caption else ""
    return Html(f"<div class=scroll><table>{title}<thead><tr>{head}<tbody>{body}</table></div>{left(more)}")


def left(number: int, what: str = "row") -> Html:
    """The sentence about what was cut, or nothing."""
    return Html(f"<p class=cut>{number:,} more {what}{'' if number == 1 else 's'} left out; "
                "see events.jsonl.</p>" if number else "")


def card(title: str, *parts: str, anchor: str = "", hint: str = "") -> Html:
    """A titled box."""
    name = f' id="{anchor}"' if anchor else ""
    aside = f"<span class=hint>{text(hint)}</span>" if hint else ""
    return Html(f"<section class=card{name}><h3>{text(title)}{aside}</h3>{''.join(parts)}</section>")


def clock(t_us: int, day: str = "") -> str:
    """24-hour Hong Kong time; with the date when it is not ``day`` (``12 Mar``)."""
    moment = hkt(t_us // US_PER_MS)
    date = f"{moment.day} {moment:%b}"
    return f"{'' if date == day else date + ' '}{moment:%H:%M:%S}"


def clock_ms(t_us: int, day: str = "") -> str:
    """As `clock`, with milliseconds."""
    return f"{clock(t_us, day)}.{t_us // US_PER_MS % 1_000:03d}"


def day_of(t_us: int) -> str:
    """``12 Mar``: the day that `clock` leaves out."""
    moment = hkt(t_us // US_PER_MS)
    return f"{moment.day} {moment:%b}"


def duration(us: float) -> str:
    """With no-break spaces: ``0.4 ms``, ``62 ms``, ``8.8 s``, ``3 m 05 s``, ``1 h 12 m``, ``2 d 03 h``."""
    if us < 1_000:
        words = f"{us / 1_000:.1f} ms" if us else "0 s"
    elif us < US_PER_S - 500:
        words = f"{us / 1_000:.0f} ms"
    elif us < 59.95 * US_PER_S:
        words = f"{us / US_PER_S:.1f} s"
    else:
        words = _long(round(us / US_PER_S))
    return words.replace(" ", "\u00a0")


def _long(seconds: int) -> str:
    if seconds < 3_600:
        return f"{seconds // 60} m {seconds % 60:02d} s"
    if seconds < 86_400:
        return f"{seconds // 3_600} h {seconds % 3_600 // 60:02d} m"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3_600:02d} h"


def limit_words(seconds: int) -> str:
    """A round limit: ``5 min``, ``2 h``."""
    return f"{seconds // 60} min" if seconds < 3_600 else f"{seconds // 3_600} h"


def share(part: int, whole: int) -> str:
    """``98.7 %``; 100.0 % and 0.0 % only when exactly so."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < part < whole:
        percent = min(max(percent, 0.1), 99.9)
    return f"{percent:.1f} %"
