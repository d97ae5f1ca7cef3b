"""State diagrams as SVG: which lines exist comes from the transition tables, where they run from `positions`.

A machine is ``{"states": [{"label", "status", "who"}, …], "moves": [{"row", "from", "to", "fact"}, …]}``:

* ``who`` acts next: system | bank | person | done | failed; it is the colour of the box
* a move from ``""`` is the creation: a dot before its target
* a move without target (or to its own state) only asks for effects and is not drawn
* a row that leaves more than `MANY_SOURCES` states ("any open state") is written below the drawing instead of being
  drawn from each; where a Procedure really took it, the line is drawn

The same shapes serve three purposes: a stand-alone file (`render`), one shared set of definitions in a page
(`definitions`), and small drawings of one Procedure's way that only refer to these (`overlay`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

from reports.positions import BOX_HEIGHT, BOX_WIDTH, POSITIONS, ROUTES, Route, machine_of

Pair = tuple[str, str]
Visits = Mapping[Pair, int]
Machine = Mapping[str, Any]
Point = tuple[float, float]

MANY_SOURCES = 5
CORNER = 10
HEAD = 7
MARGIN = 18
STUB = 34
WHO = {"system": "the platform", "bank": "the bank", "person": "a person", "done": "done", "failed": "failed"}

# Inside <use> only rules whose whole selector lies in the referenced shape match, and only inherited values come in:
# so the shapes have names of their own, and highlighting is done with custom properties.
SHAPE_CSS = """
.dg{display:block;width:100%;height:auto;font-size:12px}
.dge{color:var(--edge-now,var(--edge));stroke-width:var(--edge-line,1.2)}
.dge path{fill:none;stroke:currentColor}
.dge .dgh{fill:currentColor;stroke:none}
.dg .v{--edge-now:var(--accent);--edge-line:2.4}
.dgn rect{fill:var(--box,var(--card));stroke:var(--who);stroke-width:var(--line,1.2)}
.dgn text{text-anchor:middle;fill:var(--ink,var(--text));font-weight:500}
.dgn .dgs{font-size:10px;fill:var(--ink,var(--muted));font-weight:400}
.dg .on{--line:2.2}
.dg .now{--box:var(--who);--ink:var(--card);--line:2.2}
.dg .dim{opacity:.42}
.dgl,.dgc{font-size:9.5px;fill:var(--muted);text-anchor:middle;paint-order:stroke;stroke:var(--card);stroke-width:4px;
stroke-linejoin:round}
.dgc{font-size:11px;font-weight:650;fill:var(--accent);font-variant-numeric:tabular-nums}
.dgb{fill:var(--card)}
.dg .note{font-size:11px;fill:var(--muted)}
.w-system{--who:var(--system)}.w-bank{--who:var(--bank)}.w-person{--who:var(--person)}
.w-done{--who:var(--done)}.w-failed{--who:var(--failed)}
"""

LIGHT = {
    "bg": "#f4f6fa", "card": "#ffffff", "line-soft": "#e7ebf1", "border": "#d8dee8", "text": "#17202b",
    "muted": "#566173", "accent": "#2b52d3", "system": "#5c677a", "bank": "#0b67a8", "person": "#8f5b06",
    "done": "#147a4b", "failed": "#bf2530", "violet": "#6a3cc2", "teal": "#0a8577", "edge": "#98a2b1",
    "pass-bg": "#e6f4ec", "fail-bg": "#fdeaea", "warn-bg": "#fdf1d9", "violet-bg": "#f0e9fb", "hover": "#eef2f8"}
DARK = {
    "bg": "#0d1117", "card": "#161b22", "line-soft": "#232a34", "border": "#2d3541", "text": "#e6eaf0",
    "muted": "#98a3b3", "accent": "#7f97ff", "system": "#97a3b4", "bank": "#62b4f3", "person": "#f0b23e",
    "done": "#45c285", "failed": "#ff7070", "violet": "#b99af8", "teal": "#3fc6b5", "edge": "#566172",
    "pass-bg": "#12281d", "fail-bg": "#351a1d", "warn-bg": "#33270f", "violet-bg": "#2a2140", "hover": "#1c232d"}


def variables(palette: Mapping[str, str]) -> str:
    """CSS custom properties of a palette, ready for a rule body."""
    return "".join(f"--{name}:{value};" for name, value in palette.items())


class Line(NamedTuple):
    """One arrow: its path, its head, where its label stands (``level``: on a horizontal stretch), its rows."""

    path: str
    head: str
    label: Point
    level: bool
    rows: tuple[str, ...]
    title: str


class Drawing(NamedTuple):
    """A machine laid out: boxes, lines by (from, to), words below it, its size."""

    machine: str
    states: tuple[Mapping[str, Any], ...]
    places: Mapping[str, Point]
    lines: Mapping[Pair, Line]
    notes: tuple[str, ...]
    width: int
    height: int


def lay_out(machine: Machine) -> Drawing:
    """Positions, routes and words of a machine; raises `Misconfigured` for a state without a position."""
    name = machine_of(machine["states"])
    states = tuple(machine["states"])
    places = {
        state["label"]: (float(state.get("x", POSITIONS[name][state["label"]][0])),
                         float(state.get("y", POSITIONS[name][state["label"]][1])))
        for state in states}
    moves = [move for move in machine["moves"] if move["to"] and move["to"] != move["from"]]
    anywhere = _rows_from_anywhere(moves)
    lines = _lines(name, places, [move for move in moves if move["row"] not in anywhere])
    width = int(max(x for x, _ in places.values()) + BOX_WIDTH / 2 + 8)
    height = int(max(y for _, y in places.values()) + BOX_HEIGHT / 2 + 12)
    return Drawing(name, states, places, lines, _notes(moves, anywhere), width, height)


def _rows_from_anywhere(moves: list[Mapping[str, Any]]) -> list[str]:
    sources: dict[str, dict[str, None]] = {}
    for move in moves:
        sources.setdefault(move["row"], {})[move["from"]] = None
    return [row for row, froms in sources.items() if len(froms) > MANY_SOURCES]


def _notes(moves: list[Mapping[str, Any]], rows: list[str]) -> tuple[str, ...]:
    def targets(row: str) -> str:
        return " / ".join(dict.fromkeys(move["to"] for move in moves if move["row"] == row))
    return tuple(f"{row}: any open state → {targets(row)}, by a supervisor's force" for row in rows)


def _lines(name: str, places: Mapping[str, Point], moves: list[Mapping[str, Any]]) -> dict[Pair, Line]:
    rows: dict[Pair, dict[str, None]] = {}
    words: dict[Pair, list[str]] = {}
    for move in moves:
        pair = (move["from"], move["to"])
        rows.setdefault(pair, {})[move["row"]] = None
        words.setdefault(pair, []).append(f"{move['row']} {move['fact']}")
    return {pair: line(name, places, pair, tuple(taken), "; ".join(words[pair])) for pair, taken in rows.items()}


def line(name: str, places: Mapping[str, Point], pair: Pair, rows: tuple[str, ...] = (), title: str = "") -> Line:
    """The arrow of one pair: its authored route, a short stub for a creation, otherwise a plain curve."""
    start, end = pair
    if start == "":
        x, y = places[end]
        return _polyline([(x - BOX_WIDTH / 2 - STUB, y), (x - BOX_WIDTH / 2, y)], None, rows, title)
    route = ROUTES[name].get(pair)
    if route is None:
        return _curve(places[start], places[end], rows, title)
    return _polyline(_corners(places[start], places[end], route), route.label, rows, title)


def _port(place: Point, port: str) -> Point:
    side, offset = port[0], int(port[1:] or 0)
    x, y = place
    return {
        "l": (x - BOX_WIDTH / 2, y + offset), "r": (x + BOX_WIDTH / 2, y + offset),
        "t": (x + offset, y - BOX_HEIGHT / 2), "b": (x + offset, y + BOX_HEIGHT / 2)}[side]


def _corners(start: Point, end: Point, route: Route) -> list[Point]:
    here, goal = _port(start, route.exit), _port(end, route.enter)
    points, along_x = [here], route.exit[0] in "lr"
    for bend in route.bends:
        here = (bend, here[1]) if along_x else (here[0], bend)
        points.append(here)
        along_x = not along_x
    points += [(goal[0], here[1]) if along_x else (here[0], goal[1]), goal]
    return [point for i, point in enumerate(points) if i == 0 or point != points[i - 1]]


def _polyline(points: list[Point], label: Point | None, rows: tuple[str, ...], title: str) -> Line:
    path = [f"M{_xy(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(CORNER, _length(before, corner) / 2, _length(corner, after) / 2)
        path.append(f"L{_xy(_toward(corner, before, radius))}Q{_xy(corner)} {_xy(_toward(corner, after, radius))}")
    tip, base = points[-1], _toward(points[-1], points[-2], HEAD)
    path.append(f"L{_xy(base)}")
    longest = max(pairwise(points), key=lambda part: _length(*part))
    middle = ((longest[0][0] + longest[1][0]) / 2, (longest[0][1] + longest[1][1]) / 2)
    anchor = label or middle
    level = any(a[1] == b[1] == anchor[1] for a, b in pairwise(points))
    return Line("".join(path), _head(base, tip), anchor, level, rows, title)


def _curve(start: Point, end: Point, rows: tuple[str, ...], title: str) -> Line:
    down = end[1] >= start[1]
    here, goal = _port(start, "b" if down else "t"), _port(end, "t" if down else "b")
    if abs(start[1] - end[1]) < BOX_HEIGHT:
        here, goal = _port(start, "t"), _port(end, "t")
        bow = -70.0 - abs(start[0] - end[0]) / 12
        first, second = (here[0], here[1] + bow), (goal[0], goal[1] + bow)
    else:
        bend = (goal[1] - here[1]) * 0.5
        first, second = (here[0], here[1] + bend), (goal[0], goal[1] - bend)
    base = _toward(goal, second, HEAD)
    middle = ((here[0] + 3 * (first[0] + second[0]) + goal[0]) / 8,
              (here[1] + 3 * (first[1] + second[1]) + goal[1]) / 8)
    return Line(f"M{_xy(here)}C{_xy(first)} {_xy(second)} {_xy(base)}", _head(base, goal), middle, False, rows, title)


def _head(base: Point, tip: Point) -> str:
    dx, dy = (tip[0] - base[0]) / HEAD * 4, (tip[1] - base[1]) / HEAD * 4
    return f"M{_xy(tip)}L{_xy((base[0] - dy, base[1] + dx))}L{_xy((base[0] + dy, base[1] - dx))}Z"


def _length(one: Point, other: Point) -> float:
    return float(abs(one[0] - other[0]) + abs(one[1] - other[1]))


def _toward(start: Point, goal: Point, distance: float) -> Point:
    span = ((goal[0] - start[0]) ** 2 + (goal[1] - start[1]) ** 2) ** 0.5 or 1.0
    return (start[0] + (goal[0] - start[0]) / span * distance, start[1] + (goal[1] - start[1]) / span * distance)


def _xy(point: Point) -> str:
    return f"{point[0]:.4g} {point[1]:.4g}" if max(point) < 1000 else f"{point[0]:.5g} {point[1]:.5g}"


def _edge(line: Line, extra: str) -> str:
    title = f"<title>{escape(line.title)}</title>" if line.title else ""
    return f'<g class="dge"{extra}>{title}<path d="{line.path}"/><path class="dgh" d="{line.head}"/></g>'


def _box(state: Mapping[str, Any], place: Point, extra: str) -> str:
    x, y = place
    status, _, ext = state["label"].partition("(")
    who = state["who"] if state["who"] in WHO else "system"
    words = (
        f'<text class="dgs" x="{x:g}" y="{y - 4:g}">{escape(status)}</text>'
        f'<text x="{x:g}" y="{y + 11:g}">{escape(ext.rstrip(")"))}</text>'
        if ext else f'<text x="{x:g}" y="{y + 4:g}">{escape(status)}</text>')
    return (f'<g class="dgn w-{who}"{extra}><rect x="{x - BOX_WIDTH / 2:g}" y="{y - BOX_HEIGHT / 2:g}" rx="6"'
            f' width="{BOX_WIDTH}" height="{BOX_HEIGHT}"/>{words}</g>')


def _row_label(line: Line, visits: int) -> str:
    numbers = "·".join(row.partition("-")[2] or row for row in line.rows)
    x, y = line.label
    if line.level:
        y -= 8
    if not visits:
        return f'<text class="dgl" x="{x:g}" y="{y + 3.2:g}">{escape(numbers)}</text>' if numbers else ""
    wide = 4 + 5.8 * len(numbers)
    return (f'<rect class="dgb" x="{x - wide / 2:g}" y="{y - 5:g}" width="{wide:g}" height="10"/>'
            f'<text class="dgc" x="{x:g}" y="{y + 4:g}">{visits:,}</text>')


def _dot(drawing: Drawing, pair: Pair) -> str:
    x, y = drawing.places[pair[1]]
    return f'<circle cx="{x - BOX_WIDTH / 2 - STUB:g}" cy="{y:g}" r="4" fill="var(--muted)"/>'


def definitions(drawing: Drawing, prefix: str) -> str:
    """``<defs>`` content: every line ``{prefix}e{i}``, box ``{prefix}n{i}`` and the whole machine ``{prefix}``."""
    edges = [_edge(line, f' id="{prefix}e{i}"') for i, line in enumerate(drawing.lines.values())]
    boxes = [_box(state, drawing.places[state["label"]], f' id="{prefix}n{i}"')
             for i, state in enumerate(drawing.states)]
    labels = [_row_label(line, 0) for line in drawing.lines.values()]
    dots = [_dot(drawing, pair) for pair in drawing.lines if not pair[0]]
    return f'<g id="{prefix}">{"".join(edges)}{"".join(dots)}{"".join(labels)}{"".join(boxes)}</g>'


def overlay(
    drawing: Drawing, prefix: str, visited: Visits, current: str | None = None, *, show_counts: bool = False,
) -> str:
    """A small SVG that refers to `definitions` and only adds the way taken; the rest is dimmed."""
    order = {pair: i for i, pair in enumerate(drawing.lines)}
    numbers = {state["label"]: i for i, state in enumerate(drawing.states)}
    parts = [f'<use href="#{prefix}" class="dim"/>']
    for pair, visits in _drawable(drawing, visited):
        if pair in order:
            parts.append(f'<use href="#{prefix}e{order[pair]}" class="v"/>')
        else:
            parts.append(_edge(line(drawing.machine, drawing.places, pair), "").replace('"dge"', '"dge v"'))
        if show_counts or visits > 1:
            found = drawing.lines.get(pair) or line(drawing.machine, drawing.places, pair)
            parts.append(_row_label(found, visits))
    for label in _visited_states(drawing, visited, current):
        who = next(state["who"] for state in drawing.states if state["label"] == label)
        mark = "now" if label == current else "on"
        parts.append(f'<use href="#{prefix}n{numbers[label]}" class="{mark} w-{who}"/>')
    return f'<svg class="dg" {_view(drawing, drawing.height)}>{"".join(parts)}</svg>'


def _view(drawing: Drawing, height: int) -> str:
    return f'viewBox="-{MARGIN} 0 {drawing.width + MARGIN} {height}" role="img"'


def _drawable(drawing: Drawing, visited: Visits) -> list[tuple[Pair, int]]:
    return [(pair, visits) for pair, visits in visited.items()
            if visits and pair[1] in drawing.places and pair[0] != pair[1]
            and (pair[0] in drawing.places or pair in drawing.lines)]


def _visited_states(drawing: Drawing, visited: Visits, current: str | None) -> list[str]:
    met = dict.fromkeys(label for pair, visits in visited.items() if visits for label in pair)
    if current is not None:
        met[current] = None
    return [label for label in met if label in drawing.places]


def render(
    diagram: Machine, visited: Counter[Pair] | Visits | None = None, current: str | None = None,
    counts: Mapping[str, int] | None = None,
) -> str:
    """A stand-alone SVG of one machine (light and dark), fit for a file or an ``<img>``.

    ``visited``: how often each (from, to) was taken, drawn thick with the number. ``current``: the state to fill.
    ``counts``: Procedures now in each state, written at the corner of its box.
    """
    drawing = lay_out(diagram)
    taken = dict(_drawable(drawing, visited or {}))
    lines = {**drawing.lines, **{pair: line(drawing.machine, drawing.places, pair)
                                 for pair in taken if pair not in drawing.lines}}
    met = _visited_states(drawing, visited or {}, current)
    body = [_edge(each, "").replace('"dge"', '"dge v"' if taken.get(pair) else '"dge"')
            for pair, each in sorted(lines.items(), key=lambda item: bool(taken.get(item[0])))]
    body += [_dot(drawing, pair) for pair in lines if not pair[0]]
    body += [_row_label(each, taken.get(pair, 0)) for pair, each in lines.items()]
    body += [_marked_box(drawing, state, current, met) for state in drawing.states]
    body += [_badge(drawing.places[label], number) for label, number in (counts or {}).items()
             if number and label in drawing.places]
    height = drawing.height + 18 * len(drawing.notes) + 26
    words = [f'<text class="note" x="32" y="{drawing.height + 14 + 18 * i}">{escape(note)}</text>'
             for i, note in enumerate(drawing.notes)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" class="dg" {_view(drawing, height)}'
            f' font-family="Inter Variable,Inter,system-ui,sans-serif"><style>{_own_css()}</style>'
            f'<rect x="-{MARGIN}" width="{drawing.width + MARGIN}" height="{height}" fill="var(--card)"/>'
            f'{"".join(body)}{"".join(words)}{legend(32, height - 12)}</svg>')


def _own_css() -> str:
    return (f".dg{{{variables(LIGHT)}}}@media (prefers-color-scheme:dark){{.dg{{{variables(DARK)}}}}}{SHAPE_CSS}"
            ).replace("\n", "")


def _marked_box(drawing: Drawing, state: Mapping[str, Any], current: str | None, met: list[str]) -> str:
    label = state["label"]
    mark = "now" if label == current else "on" if label in met else ""
    return _box(state, drawing.places[label], "").replace('"dgn ', f'"dgn {mark} ' if mark else '"dgn ')


def _badge(place: Point, number: int) -> str:
    text = f"{number:,}"
    width = 10 + 6.5 * len(text)
    x, y = place[0] + BOX_WIDTH / 2 - width + 8, place[1] - BOX_HEIGHT / 2 - 8
    return (f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="16" rx="8" fill="var(--accent)"/>'
            f'<text x="{x + width / 2:g}" y="{y + 12:g}" text-anchor="middle" font-size="11"'
            f' style="fill:var(--card);font-weight:600">{text}</text>')


def legend(x: float, y: float) -> str:
    """Colour = who acts next, as a row of swatches starting at (x, y)."""
    parts = []
    for who, words in WHO.items():
        text = words if who in ("done", "failed") else f"{words} acts next"
        parts.append(f'<g class="w-{who}"><rect x="{x:g}" y="{y - 9:g}" width="10" height="10" rx="2"'
                     f' fill="var(--who)"/><text class="note" x="{x + 15:g}" y="{y:g}">{text}</text></g>')
        x += 30 + 6.1 * len(text)
    return "".join(parts)
