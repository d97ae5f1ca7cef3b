"""The report of one run: a single offline file, verdict first, every figure leading to its records.

Nothing is fetched: uPlot and Inter come from ``reports/web/node_modules`` (``npm ci``) and are written into the page.
Style and script are allowed by their SHA-256 in the Content-Security-Policy; there is no ``style`` attribute and no
event attribute anywhere. Without JavaScript all but the three charts is there, and their numbers stand in a table.
"""

from __future__ import annotations

import base64
import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from core.clock import US_PER_MS, US_PER_S, hkt
from core.errors import Misconfigured
from core.money import show
from reports import diagrams
from reports.figures import Band, bar, histogram, latency_figure, sparkline, strip
from reports.latency import stage_cards
from reports.markup import Cell, Html, card, clock, clock_ms, day_of, duration, left, limit_words, share, table, text
from reports.model import BucketView, Hop, Latency, Procedure, RunModel, Step
from reports.verdict import Summary, checked, left_over, plural, total, verdict, violations, without_procedure

SIZE_LIMIT = 292_000
"""Bytes; histories beyond it are left out and counted (a report stays under 300 kB)."""
CHART_POINTS = 300
OPEN_SHOWN = 40
HISTORY_SHOWN = 30
HOPS_SHOWN = 40
HISTORIES_SHARE = 0.8
"""Of the room for single Procedures: what their histories may take before hops are shown."""
ROOM_AROUND = 2_000
PANELS = 9

_HERE = Path(__file__).resolve().parent
_MODULES = _HERE / "web" / "node_modules"
_UPLOT_JS = "uplot/dist/uPlot.iife.min.js"
_UPLOT_CSS = "uplot/dist/uPlot.min.css"
_INTER = "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2"

TITLES = {"deposit": "Deposits", "withdraw": "Withdrawals"}
SEVERITIES = {"critical": ("■", "failed"), "high": ("▲", "person"), "medium": ("◆", "bank"), "low": ("●", "system")}
NO_ANSWER = ("timeout", "unknown", "silent", "none", "lost", "no_answer", "no answer", "unreachable")
GOOD_ANSWER = ("ok", "success", "accepted", "answered", "pending", "processing", "done", "taken_on", "duplicate")
HELD = ("held", "violated")
WITHIN_S = (60, 300, 1_800, 7_200)


class Machine(NamedTuple):
    """One state machine with its drawing and the prefix of its shapes in the page."""

    name: str
    prefix: str
    drawing: diagrams.Drawing
    who: Mapping[str, str]


class Page(NamedTuple):
    """What every section reads."""

    summary: Summary
    model: RunModel
    machines: Mapping[str, Machine]
    day: str


def write_report(path: Path, summary: Summary, model: RunModel, diagram: Mapping[str, Any]) -> int:
    """Write ``report.html``; returns its size in bytes (below 300 kB for any run).

    ``summary`` as ``summary.json`` (an optional ``settings`` maps each key that differs from its default to
    ``{value, default, source, ref, unit}``), ``diagram`` as described in `reports.diagrams`.
    Raises `Misconfigured` when the npm packages are missing or a state has no position.
    """
    page = report(summary, model, diagram).encode()
    path.write_bytes(page)
    return len(page)


def report(summary: Summary, model: RunModel, diagram: Mapping[str, Any]) -> str:
    """The page as text."""
    machines = {name: _machine(name, diagram[name]) for name in TITLES}
    begin, end = model.span_us
    page = Page(summary, model, machines, day_of(begin) if end - begin <= 86_400 * US_PER_S else "")
    before = [_head(page), _broken(page), _keys(page), _judgement(page), _timeline(page), _states(page), _latency(page)]
    after = [_money(page), _operation(page), _settings(page), _footer(page)]
    shell = _shell(page)
    room = SIZE_LIMIT - sum(len(part.encode()) for part in (*shell, *before, *after))
    return "".join((shell[0], *before, _procedures(page, room), *after, shell[1]))


def _machine(name: str, table_of: Mapping[str, Any]) -> Machine:
    drawing = diagrams.lay_out(table_of)
    return Machine(name, name[0], drawing, {state["label"]: state["who"] for state in table_of["states"]})


# --- the page around the sections -----------------------------------------------------------------------------------


def _asset(name: str) -> bytes:
    try:
        return (_MODULES / name).read_bytes()
    except FileNotFoundError:
        raise Misconfigured(f"{name} is not installed", where=str(_MODULES), remedy="make setup") from None


def _style() -> str:
    font = base64.b64encode(_asset(_INTER)).decode()
    face = (f'@font-face{{font-family:"Inter Variable";font-weight:100 900;font-display:block;'
            f"src:url(data:font/woff2;base64,{font}) format(\"woff2\")}}")
    light, dark = diagrams.variables(diagrams.LIGHT), diagrams.variables(diagrams.DARK)
    themes = (
        f":root{{color-scheme:light;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}")
    own = (_HERE / "page.css").read_text("utf-8").replace("\n", "")
    return face + themes + _asset(_UPLOT_CSS).decode().strip() + own + diagrams.SHAPE_CSS.replace("\n", "")


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _shell(page: Page) -> tuple[str, str]:
    style = _style()
    script = _asset(_UPLOT_JS).decode().strip() + "\n" + (_HERE / "page.js").read_text("utf-8")
    policy = (f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; "
              "font-src data:; base-uri 'none'; form-action 'none'")
    title = text(page.summary.get("title") or page.summary["scenario"])
    shapes = "".join(diagrams.definitions(machine.drawing, machine.prefix) for machine in page.machines.values())
    start = (
        f'<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=Content-Security-Policy content="{policy}">'
        '<meta name=viewport content="width=device-width,initial-scale=1"><meta name=referrer content=no-referrer>'
        f"<title>{title} · Nostro</title><style>{style}</style>"
        f'<body><svg class="defs dg" aria-hidden=true><defs>{shapes}</defs></svg>{_bar(page)}<main>')
    # "<" is the only character that could end a script block early.
    data = orjson.dumps(_chart_data(page)).decode().replace("<", "\\u003c")
    return start, f'</main><script type="application/json" id=run-data>{data}</script><script>{script}</script>'


def _bar(page: Page) -> Html:
    begin, end = page.model.span_us
    links = (("#timeline", "Timeline"), ("#states", "States"), ("#latency", "Latency"), ("#procedures", "Procedures"),
             ("#money", "Money"), ("#operation", "Operation"), ("#settings", "Settings"))
    nav = "".join(f'<a href="{target}">{name}</a>' for target, name in links)
    return Html(f"<header><b>Nostro</b><span class=badge>SIMULATION</span><nav>{nav}</nav>"
                f"<span class=m>{_moment(begin)} → {_moment(end, begin)}</span>"
                '<button id=theme type=button title="Light or dark" aria-label="Light or dark">◐</button></header>')


def _moment(t_us: int, after: int | None = None) -> str:
    moment = hkt(t_us // US_PER_MS)
    same = after is not None and hkt(after // US_PER_MS).date() == moment.date()
    return f"{moment:%H:%M}" if same else f"{moment:%Y-%m-%d %H:%M}"


# --- verdict, key figures, what was expected ------------------------------------------------------------------------


def _head(page: Page) -> str:
    summary = page.summary
    found = verdict(summary)
    facts = [f"scenario {text(summary['scenario'])}", f"seed {text(summary['seed'])}",
             f"virtual {duration(float(summary.get('virtual_seconds', 0)) * US_PER_S)}",
             f"wall {float(summary.get('wall_seconds', 0)):,.1f} s ({float(summary.get('speedup', 0)):,.0f}×)",
             f"{plural(int(summary.get('events', 0)), 'event')}",
             f"trace <code title=\"{text(summary.get('trace_hash', ''))}\">"
             f"{text(str(summary.get('trace_hash', ''))[:12])}</code>"]
    look = "pass w-done" if found.passed else "fail w-failed"
    again = f"<pre><code>{text(found.reproduce, 400)}</code></pre>" if found.reproduce else ""
    line = " · ".join(f"<span>{fact}</span>" for fact in facts)
    return (f"<h1>{text(summary.get('title') or summary['scenario'])}</h1><p class=sub>{line}</p>"
            f'<div class="verdict {look}"><b>{found.headline}</b> {text(found.sentence, 800)}{again}</div>'
            f"{_disagreement(page)}")


def _disagreement(page: Page) -> str:
    """The summary and the events tell the same story, or the report says so."""
    said = {machine: {state: n for state, n in states.items() if n}
            for machine, states in page.summary.get("procedures", {}).items()}
    read = page.model.counts()
    if said in ({}, read) and page.summary.get("events", page.model.events) == page.model.events:
        return ""
    return ('<div class="verdict fail w-failed"><b>Summary and events differ.</b> This report was made from '
            f"{page.model.events:,} events with {sum(map(len, read.values()))} states in use; the summary counts "
            f"{text(page.summary.get('events', '?'))} events. Figures below come from the events.</div>")


def _broken(page: Page) -> str:
    found = violations(page.summary)
    cards = []
    for each in found[:20]:
        words = [f"<div class=pad>{text(each.get('detail', ''), 1_000)}</div>"]
        facts = [("event", each.get("event")), ("procedure", each.get("procedure")),
                 ("reproduce with", each.get("reproduce"))]
        words.append("<div class=pad>" + " · ".join(
            f"{name} <code>{text(value, 400)}</code>" for name, value in facts if value not in (None, "")) + "</div>")
        words.append(_violation_history(page, each))
        cards.append(card(f"■ Violated: {each['invariant']}", *words))
    return "".join(cards) + left(len(found) - 20 if len(found) > 20 else 0, "violation")


def _violation_history(page: Page, violation: Mapping[str, Any]) -> str:
    number = violation.get("procedure")
    digits = str(number).lstrip("P")
    found = page.model.procedures.get(int(digits)) if digits.isdigit() else None
    if found is not None:
        return _way(page, found, _hops(page, found))
    told = violation.get("history") or ()
    lines = told.splitlines() if isinstance(told, str) else list(told)
    steps = [[" ".join(map(str, each)) if isinstance(each, list | tuple) else str(each)] for each in lines]
    return table([("History", "w")], steps, limit=HISTORY_SHOWN) if steps else ""


def _keys(page: Page) -> str:
    summary, model = page.summary, page.model
    procedures, ok = total(summary), total(summary, "", "end_ok")
    stopped = total(summary, "", "end_reject", "end_cancel", "end_reverse")
    opened = int(summary.get("open", 0))
    waiting = sum(1 for p in model.unfinished() if page.machines[p.machine].who.get(p.state) == "person")
    alerts = Counter[str]()
    for (severity, _), number in model.alert_counts.items():
        alerts[severity] += number
    by_severity = ", ".join(f"{SEVERITIES.get(name.lower(), ('●', ''))[0]}\u00a0{n}\u00a0{name}"
                            for name, n in sorted(alerts.items(), key=lambda item: _rank(item[0])))
    boxes = [
        ("#states", "Finished well", share(ok, procedures), "", f"{ok:,} of {plural(procedures, 'procedure')}"),
        ("#states", "Ended otherwise", f"{stopped:,}", "bad" if stopped else "", "rejected, cancelled or reversed"),
        ("#open", "Open at the end", f"{opened:,}", "wait" if waiting else "", _still_open(summary, opened, waiting)),
        _ownerless(summary),
        *_latency_key(model, "deposit"), *_latency_key(model, "withdraw"),
        ("#alerts", "Alerts", f"{sum(alerts.values()):,}", "", by_severity or "none"),
        ("#faults", "Injected faults", f"{len(model.faults) + model.faults.left_out:,}", "sim",
         ", ".join(dict.fromkeys(fault.fault for fault in model.faults)) or "none")]
    return "<div class=keys>" + "".join(
        f'<a class=key href="{target}"><i>{name}</i><b class="{look}">{value}</b><s>{text(more, 60)}</s></a>'
        for target, name, value, look, more in boxes) + "</div>"


def _still_open(summary: Summary, opened: int, waiting: int) -> str:
    words = [f"{waiting:,} wait for a person"] if opened else []
    if more := without_procedure(summary, "open"):
        words.append(f"{more:,} more without a procedure")
    return ", ".join(words) or "no procedure, no application"


def _ownerless(summary: Summary) -> tuple[str, str, str, str, str]:
    """The key figure of money that no customer has; its amounts stand in the verdict and in the table."""
    unmatched, abnormal = left_over(summary, False)[0], left_over(summary, True)[0]
    words = [f"{number:,} {state}" for number, state in ((unmatched, "unmatched"), (abnormal, "abnormal")) if number]
    number = unmatched + abnormal
    entries = f"statement {'entry' if number == 1 else 'entries'}: {', '.join(words)}"
    return ("#leftovers", "Without owner", f"{number:,}", "wait" if number else "",
            entries if number else "no statement entry")


def _latency_key(model: RunModel, machine: str) -> list[tuple[str, str, str, str, str]]:
    times = sorted(p.latency_us for p in model.procedures.values() if p.machine == machine and p.settled_us >= 0)
    name = TITLES[machine][:-1] + ", median"
    if not times:
        return [("#latency", name, "–", "", "none settled")]
    every = Latency(machine, array("q", times))
    return [("#latency", name, duration(every.seconds(0.5) * US_PER_S), "",
             f"p95 {duration(every.seconds(0.95) * US_PER_S)}")]


def _judgement(page: Page) -> str:
    summary = page.summary
    expected = [[_mark(each["passed"], ("met", "not met")), each["name"], each.get("detail", "")]
                for each in sorted(summary.get("expectations", ()), key=lambda each: bool(each["passed"]))]
    met = sum(1 for each in summary.get("expectations", ()) if each["passed"])
    return ("<div class=grid>"
            + card("Expectations", table([("", ""), ("Expectation", "w"), ("Found", "w")], expected, limit=60,
                                         empty="The scenario expects nothing."),
                   anchor="expectations", hint=f"{met} of {len(expected)} met")
            + card("Invariants", _invariants(page), anchor="invariants", hint=f"{checked(summary):,} checked")
            + "</div>")


def _invariants(page: Page) -> str:
    names = page.summary.get("invariants", {}).get("checked", 0)
    broken = Counter(str(each["invariant"]) for each in violations(page.summary))
    rows: list[list[Cell]] = [[_mark(False, HELD), name, number] for name, number in broken.items()]
    if not isinstance(names, int):
        rows += [[_mark(True, HELD), str(name), ""] for name in names if str(name) not in broken]
    elif names - len(broken) > 0:
        rows.append([_mark(True, HELD), f"{names - len(broken):,} held at every event", ""])
    return table([("", ""), ("Invariant", "w"), ("Violations", "n")], rows, limit=60, empty="No invariant was checked.")


def _mark(good: object, words: tuple[str, str]) -> Html:
    return Html(f'<span class="mark w-done">● {words[0]}</span>' if good
                else f'<span class="mark w-failed">■ {words[1]}</span>')


# --- timeline -------------------------------------------------------------------------------------------------------


def _chart_data(page: Page) -> dict[str, Any]:
    model = page.model
    view = model.over_time(CHART_POINTS)
    begin, end = model.span_us
    faults = [[fault.begin_us // US_PER_S, (fault.end_us if fault.end_us >= 0 else end) // US_PER_S]
              for fault in model.faults[:100]]
    alerts = [[alert.raised_us // US_PER_S, alert.severity.lower()] for alert in model.alerts[:200]]
    return {
        "n": view.length, "start": view.start_us // US_PER_S, "step": view.width_s,
        "begin": begin // US_PER_S, "end": -(-end // US_PER_S),
        "days": -(-(end - begin) // (86_400 * US_PER_S)), "faults": faults, "alerts": alerts,
        "charts": [
            {"id": "chart-flow", "stacked": False, "series": _flow_series(view)},
            {"id": "chart-waiting", "stacked": True, "series": _waiting_series(page, view)},
            {"id": "chart-answers", "stacked": True, "series": _answer_series(model, view)}]}


def _flow_series(view: BucketView) -> list[dict[str, Any]]:
    failed = [a + b for a, b in zip(view.sums("failed", "deposit"), view.sums("failed", "withdraw"), strict=True)]
    return [
        {"label": "Deposits started", "colour": "accent", "values": view.sums("started", "deposit")},
        {"label": "finished", "colour": "accent", "dash": True, "thin": True, "values": view.sums("ended", "deposit")},
        {"label": "Withdrawals started", "colour": "teal", "values": view.sums("started", "withdraw")},
        {"label": "finished", "colour": "teal", "dash": True, "thin": True, "values": view.sums("ended", "withdraw")},
        {"label": "Rejected, cancelled, reversed", "colour": "failed", "fill": True, "thin": True, "values": failed}]


def _waiting_series(page: Page, view: BucketView) -> list[dict[str, Any]]:
    sums = {who: [0] * view.length for who in ("person", "bank", "system")}
    for machine, label in _levels(page):
        who = page.machines[machine].who.get(label, "system")
        if who in sums:
            sums[who] = [a + b for a, b in zip(sums[who], view.levels("level", machine, label), strict=True)]
    names = {"person": "A person acts next", "bank": "The bank", "system": "The platform"}
    return [{"label": names[who], "colour": who, "fill": True, "thin": True, "values": values}
            for who, values in sums.items()]


def _levels(page: Page) -> Iterable[tuple[str, str]]:
    return ((name[1], name[2]) for name in page.model.buckets.names("level"))


def _answer_kind(outcome: str) -> str:
    word = outcome.lower()
    if any(each in word for each in NO_ANSWER):
        return "No answer"
    return "Answered" if word in GOOD_ANSWER else "Refused or failed"


def _answer_series(model: RunModel, view: BucketView) -> list[dict[str, Any]]:
    colours = {"No answer": "failed", "Refused or failed": "person", "Answered": "bank"}
    sums = {kind: [0] * view.length for kind in colours}
    for name in model.buckets.names("answers"):
        kind = _answer_kind(name[2])
        sums[kind] = [a + b for a, b in zip(sums[kind], view.sums(*name), strict=True)]
    return [{"label": kind, "colour": colours[kind], "fill": True, "thin": True, "values": values}
            for kind, values in sums.items()]


def _timeline(page: Page) -> str:
    model = page.model
    if not model.events:
        return "<h2 id=timeline>Timeline</h2>" + card("Nothing happened", "<p class=none>The run has no events.</p>")
    width = _width(model.over_time(CHART_POINTS).width_s)
    charts = (("chart-flow", f"Procedures started and finished, per {width}"),
              ("chart-waiting", f"Waiting, by who acts next, at the end of each {width}"),
              ("chart-answers", f"Bank answers, per {width}"))
    plots = "".join(f"<h3>{title}</h3><div class=chart id={name}></div>" for name, title in charts)
    return ('<h2 id=timeline>Timeline <span class=hint>Hong Kong time; violet: injected faults; '
            "■ ▲ ◆ alerts; drag to zoom, double click to reset</span></h2><section class=card>"
            f"{_incidents(page)}{plots}<noscript><p class=none>The charts need JavaScript; their figures follow.</p>"
            "</noscript><details class=more><summary>Figures by the hour</summary>"
            f"{_hours(page)}</details></section>")


def _width(seconds: int) -> str:
    return {60: "minute", 3_600: "hour", 86_400: "day"}.get(
        seconds, f"{seconds // 60} minutes" if seconds < 3_600 else f"{seconds // 3_600} hours")


def _incidents(page: Page) -> Html:
    model = page.model
    begin, end = model.span_us
    lanes: list[tuple[str, list[Band]]] = []
    faults = [Band(f.begin_us, f.end_us if f.end_us >= 0 else end, "fault",
                   f"{f.fault} {f.target}, {clock(f.begin_us, page.day)} to "
                   f"{clock(f.end_us, page.day) if f.end_us >= 0 else 'the end'}") for f in model.faults[:100]]
    gates = [Band(a, b if b >= 0 else end, "gate", f"{bank} closed") for bank, a, b in model.closed_gates()[:100]]
    alerts = [Band(a.raised_us, a.raised_us, a.severity.lower() if a.severity.lower() in SEVERITIES else "low",
                   f"{a.severity} {a.rule} {a.name}, {clock(a.raised_us, page.day)}") for a in model.alerts[:200]]
    core = [Band(t, t, "core", f"core {phase} {detail}") for t, phase, detail in model.core[:100] if phase != "start"]
    for name, bands in (("Faults", faults), ("Closed", gates), ("Alerts", alerts), ("Core", core)):
        if bands:
            lanes.append((name, bands))
    return strip(lanes, begin, end) if lanes else Html("")


def _hours(page: Page) -> Html:
    view = page.model.over_time(48)
    columns = [view.sums(kind, machine) for machine in TITLES for kind in ("started", "ended", "failed")]
    answers = Counter[int]()
    silent = Counter[int]()
    for name in page.model.buckets.names("answers"):
        for i, number in enumerate(view.sums(*name)):
            answers[i] += number
            if _answer_kind(name[2]) != "Answered":
                silent[i] += number
    rows: list[list[Cell]] = [[_moment(view.start_us + i * view.width_s * US_PER_S), *(column[i] for column in columns),
             answers[i], silent[i]] for i in range(view.length)]
    return table([("From", "m"), ("Deposits started", "n"), ("finished", "n"), ("failed", "n"),
                  ("Withdrawals started", "n"), ("finished", "n"), ("failed", "n"), ("Bank answers", "n"),
                  ("not usable", "n")], rows, limit=60)


# --- states ---------------------------------------------------------------------------------------------------------


def _states(page: Page) -> str:
    words = "".join(f"<span class=w-{who}>{name if who in ('done', 'failed') else name + ' acts next'}</span>"
                    for who, name in diagrams.WHO.items())
    return (f"<h2 id=states>Procedures by state</h2><div class=who>{words}</div>"
            + "".join(_state_card(page, machine) for machine in page.machines.values()))


def _state_card(page: Page, machine: Machine) -> Html:
    model = page.model
    known = [state["label"] for state in machine.drawing.states]
    strays = [label for name, label in model.states if name == machine.name and label not in machine.who]
    most = max((model.states[machine.name, label].now for label in known if (machine.name, label) in model.states),
               default=0)
    rows = [_state_row(page, machine, label, most) for label in (*known, *strays)]
    edges = model.edges[machine.name]
    picture = diagrams.overlay(machine.drawing, machine.prefix, edges, show_counts=True)
    notes = "".join(f"<p class=note>{text(note)}</p>" for note in machine.drawing.notes)
    count = sum(1 for p in model.procedures.values() if p.machine == machine.name)
    return card(
        TITLES[machine.name],
        table([("State", ""), ("Now", "n"), ("", "bc"), ("Entered", "n"), ("Median stay", "n"), ("Longest stay", "n"),
               ("Most at once", "n"), ("at", "n"), ("Waiting over the run", "sc")], rows),
        f'<div class=dgw><div class="d-{machine.name}">{picture}</div>{notes}</div>',
        anchor=f"states-{machine.name}", hint=f"{count:,} in all; on each line, how often the transition was taken")


def _state_row(page: Page, machine: Machine, label: str, most: int) -> list[Cell]:
    who, times = machine.who.get(label, "system"), page.model.states.get((machine.name, label))
    name = Html(f'<span class="pill w-{who}">{text(label)}</span>')
    if times is None:
        return [name, Html("<span class=z>0</span>"), "", Html("<span class=z>never</span>"), "", "", "", "", ""]
    stays = sorted(times.stays) if who not in ("done", "failed") else []
    levels = page.model.over_time(96).levels("level", machine.name, label) if who not in ("done", "failed") else []
    now: Cell = times.now or Html("<span class=z>0</span>")
    return [name, now, bar(times.now, most, who), times.entered,
            duration(stays[(len(stays) - 1) // 2]) if stays else "", duration(stays[-1]) if stays else "",
            times.peak if levels else "", clock(times.peak_us, page.day)[:-3] if levels else "",
            sparkline(levels, who)]


# --- latency --------------------------------------------------------------------------------------------------------


def _latency(page: Page) -> str:
    found = [latency for latency in page.model.latencies() if latency.samples]
    if not found:
        return "<h2 id=latency>Time to settle</h2>" + card("Nothing settled", "<p class=none>No procedure ended well.")
    columns = [("Channel", ""), ("Settled", "n"), ("p50", "n"), ("p95", "n"), ("p99", "n"), ("Longest", "n"),
               *((f"within {limit_words(s)}", "n") for s in WITHIN_S)]
    rows: list[list[Cell]] = [
        [latency.channel, len(latency.samples),
         *(duration(latency.seconds(q) * US_PER_S) for q in (0.5, 0.95, 0.99, 1.0)),
         *(share(latency.within(s * US_PER_S), len(latency.samples)) for s in WITHIN_S)] for latency in found]
    low, high = min(each.samples[0] for each in found), max(each.samples[-1] for each in found)
    panels = "".join(_panel(latency, low, high) for latency in found[:PANELS])
    more = left(len(found) - PANELS, "channel") if len(found) > PANELS else ""
    return ("<h2 id=latency>Time to settle <span class=hint>from the customer’s wish to end_ok, virtual time; bars: "
            "procedures per bin (bins widen to the right), line: share settled within</span></h2>"
            + card("By channel", table(columns, rows, limit=60)) + stage_cards(page.summary)
            + f'<div class="grid three">{panels}</div>{more}')


def _panel(latency: Latency, low: int, high: int) -> Html:
    found = histogram(latency.samples, low, high)
    marks = [(name, round(latency.seconds(q) * US_PER_S)) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))]
    return card(latency.channel, latency_figure(found, marks), hint=f"{len(latency.samples):,} settled")


# --- single procedures ----------------------------------------------------------------------------------------------


class _List(NamedTuple):
    """Procedures shown under one title, of how many, and what their last but one column says."""

    anchor: str
    title: str
    shown: Sequence[Procedure]
    of: int
    took: str


def _procedures(page: Page, room: int) -> str:
    """Open ones and the slowest, each with its history and, where there is room, with its hops."""
    lists = _lists(page.model)
    ranked = {procedure.id: procedure for rank in range(max(len(each.shown) for each in lists))
              for each in lists for procedure in each.shown[rank:rank + 1]}
    entries = _entries(page, ranked, room - ROOM_AROUND)
    left_out = len(ranked) - len(entries)
    cut = (f"<p class=cut>{plural(left_out, 'procedure')} left out to keep this file small; see events.jsonl."
           "</p>" if left_out else "")
    return f"<h2 id=procedures>Procedures</h2>{''.join(_listing(each, entries) for each in lists)}{cut}"


def _lists(model: RunModel) -> list[_List]:
    unfinished = model.unfinished()
    lists = [_List("open", "Open, the longest in one state first", unfinished[:OPEN_SHOWN], len(unfinished),
                   "In this state")]
    for machine, title in TITLES.items():
        settled = sum(1 for p in model.procedures.values() if p.machine == machine and p.settled_us >= 0)
        lists.append(_List(f"slow-{machine}", f"Slowest {title.lower()}", model.slowest(machine), settled, "Took"))
    return lists


def _entries(page: Page, ranked: Mapping[int, Procedure], room: int) -> dict[int, str]:
    """What fits, of the first ones: most of the room is for histories, then come their hops, then further histories."""
    without = {number: _entry(page, procedure, _trace_line(page, procedure)) for number, procedure in ranked.items()}
    entries = _fitting(without, round(room * HISTORIES_SHARE))
    room -= sum(_size(entry) for entry in entries.values())
    for number, entry in entries.items():
        whole = _entry(page, ranked[number], _hops(page, ranked[number]))
        if _size(whole) - _size(entry) <= room:
            room -= _size(whole) - _size(entry)
            entries[number] = whole
    return entries | _fitting({number: one for number, one in without.items() if number not in entries}, room)


def _size(part: str) -> int:
    return len(part.encode())


def _fitting(parts: Mapping[int, str], room: int) -> dict[int, str]:
    """The first parts that fit into so many bytes together; a long one is passed over."""
    fitting = {}
    for key, part in parts.items():
        if (size := _size(part)) <= room:
            fitting[key] = part
            room -= size
    return fitting


def _listing(each: _List, entries: Mapping[int, str]) -> str:
    if not each.shown:
        return card(each.title, "<p class=none>None.</p>", anchor=each.anchor)
    head = "".join(f"<span{kind}>{name}</span>" for name, kind in (
        ("", ""), ("Procedure", ""), ("Channel", ""), ("Amount", " class=n"), ("State", ""), ("Since", " class=n"),
        (each.took, " class=n"), ("Steps", " class=n")))
    rows = [entries[procedure.id] for procedure in each.shown if procedure.id in entries]
    return (f'<section class="card rows" id={each.anchor}><h3>{each.title}<span class=hint>{len(rows):,} of '
            f"{each.of:,}</span></h3><div class=head>{head}</div>{''.join(rows)}</section>")


def _entry(page: Page, procedure: Procedure, trace: str) -> str:
    _, end = page.model.span_us
    who = page.machines[procedure.machine].who.get(procedure.state, "system")
    took = end - procedure.since_us if procedure.open else procedure.latency_us
    return (f"<details class=p><summary><span class=m>P{procedure.id}</span><span>{text(procedure.channel, 40)}</span>"
            f"<span class=n>{text(show(procedure.amount, procedure.ccy))}</span>"
            f'<span><span class="pill w-{who}">{text(procedure.state, 60)}</span></span>'
            f"<span class=n>{clock(procedure.since_us, page.day)}</span><span class=n>{duration(took)}</span>"
            f"<span class=n>{len(procedure.flows) // 5}</span></summary><div>{_way(page, procedure, trace)}</div>"
            "</details>")


def _way(page: Page, procedure: Procedure, trace: str) -> str:
    """History, trace, and the diagram of the way taken."""
    machine, steps = page.machines[procedure.machine], list(page.model.history(procedure))
    _, end = page.model.span_us
    visits = Counter((step.start, step.end) for step in steps if step.row)
    shown = steps if len(steps) <= HISTORY_SHOWN else [*steps[:HISTORY_SHOWN // 2], *steps[-HISTORY_SHOWN // 2:]]
    rows = [_step(step, steps, end, page.day) for step in shown]
    more = len(steps) - len(shown) + procedure.left_out
    facts = " · ".join(f"{name} {text(value)}" for name, value in (
        ("customer", procedure.uid), ("wished", clock_ms(procedure.started_us, page.day)),
        ("reason", procedure.reason)) if value)
    return (f"<div class=pad>{facts}</div>"
            + table([("Time", "m"), ("From", ""), ("To", ""), ("Row", "m"), ("Operator", ""), ("Remark", "w"),
                     ("Stayed", "n")], rows) + left(more, "step")
            + trace
            + f'<div class="d-{machine.name}">'
            + diagrams.overlay(machine.drawing, machine.prefix, visits, procedure.state) + "</div>")


def _trace_line(page: Page, procedure: Procedure) -> str:
    """Where the hops are, if they are not here."""
    number = page.model.hop_count(procedure.trace)
    return (f"<p class=cut>Trace {text(procedure.trace)}: {plural(number, 'hop')}; see events.jsonl.</p>"
            if number else "")


def _hops(page: Page, procedure: Procedure) -> str:
    """What each service did for it, and on which tables, below a line that opens (TRACE-05)."""
    hops = page.model.hops(procedure.trace)
    if not hops:
        return ""
    half = HOPS_SHOWN // 2
    shown = hops if len(hops) <= HOPS_SHOWN else [*hops[:half], *hops[-half:]]
    days = [page.day, *(day_of(hop.t_us) for hop in shown)]  # a date is written where it changes
    rows = "".join(
        f"<tr><td>{clock_ms(hop.t_us, day)}<td>{text(hop.service)}<td{_indent(hop)}>{text(hop.call, 60)}"
        f"<td>{text(', '.join(hop.tables))}<td>{_odd(hop)}{duration(hop.us)}"
        for day, hop in zip(days, shown, strict=False))
    number = page.model.hop_count(procedure.trace)
    services = plural(len({hop.service for hop in hops}), "service")
    return (f"<details class=more><summary>Trace {text(procedure.trace)}: {plural(number, 'hop')} of {services}"
            f"</summary><div class=scroll><table class=hops><thead><tr><th>Began<th>Service<th>Call"
            f"<th>Tables<th>Took<tbody>{rows}</table></div>{left(number - len(shown), 'hop')}</details>")


def _indent(hop: Hop) -> str:
    return f" class=i{min(hop.depth, 4)}" if hop.depth else ""


def _odd(hop: Hop) -> str:
    """How it ended, where that is worth a word; a bank's answer always is."""
    return "" if hop.outcome == "ok" else f"{text(hop.outcome.lower(), 20)}, "


def _step(step: Step, steps: Sequence[Step], end_us: int, day: str) -> list[Cell]:
    time = clock_ms(step.t_us, day)
    if not step.row:
        return [time, Html("<span class=z>noted</span>"), text(step.end, 40), "", text(step.operator, 24),
                text(step.remark, 120), ""]
    after = next((each.t_us for each in steps if each.row and each.t_us >= step.t_us and each.start == step.end
                  and each is not step), None)
    stayed = "" if after is None and step.end.startswith("end_") else duration((after or end_us) - step.t_us)
    return [time, text(step.start, 40), text(step.end, 40), step.row, text(step.operator, 24), text(step.remark, 120),
            stayed]


# --- money ----------------------------------------------------------------------------------------------------------


def _money(page: Page) -> str:
    model = page.model
    buckets = ("available", "frozen", "in_transit", "external")
    ledger: list[list[Cell]] = [
        [ccy, *(show(totals[bucket]) for bucket in buckets), show(sum(totals[bucket] for bucket in buckets))]
        for ccy, totals in sorted(model.ledger.items())]
    columns = [("Currency", ""), *((name, "n") for name in ("Available", "Frozen", "In transit", "External")),
               ("Sum", "n")]
    return ("<h2 id=money>Money</h2><div class=grid>"
            + card("Ledger, change over the run", table(columns, ledger, empty="No postings."), anchor="ledger",
                   hint="the sum of each row must be zero")
            + card("Postings", table([("Operation", ""), ("Result", ""), ("Number", "n")], [
                [op, "ok" if code == 0 else f"code {code}", number] for (op, code), number in model.postings.items()],
                limit=40), anchor="postings") + "</div>"
            + card("Deposits: the banks’ books against ours", _received(page), anchor="books",
                   hint="what a bank has received for us, less what it gave back; a difference is an error")
            + "<div class=grid>"
            + card("Withdrawals: the banks’ books against ours", _paid(page), anchor="books-paid",
                   hint="a difference is an error")
            + card("Money without owner", _leftovers(page), anchor="leftovers", hint="statement entries, at the end")
            + "</div>")


def _received(page: Page) -> Html:
    names = ("received", "credited", "waiting", "reversed", "in_flight", "to_reverse")
    rows: list[list[Cell]] = [
        [each["bank"], each["ccy"], *(_amount(each[name]) for name in names), _difference(each["difference"])]
        for each in page.summary.get("books", ()) if any(each[name] for name in (*names, "difference"))]
    return table([("Bank", ""), ("Currency", ""), ("Received", "n"), ("Credited", "n"), ("Waits for its owner", "n"),
                  ("Reversed by us", "n"), ("In flight", "n"), ("Given back, to be reversed", "n"),
                  ("Difference", "n")],
                 rows, limit=60, empty="No bank received anything for us in this run.")


def _paid(page: Page) -> Html:
    names = ("paid", "settled", "paying")
    rows: list[list[Cell]] = [
        [each["bank"], each["ccy"], *(_amount(each[name]) for name in names), _difference(each["paid_difference"])]
        for each in page.summary.get("books", ()) if any(each[name] for name in (*names, "paid_difference"))]
    return table([("Bank", ""), ("Currency", ""), ("Paid", "n"), ("Settled", "n"), ("In flight", "n"),
                  ("Difference", "n")], rows, limit=60, empty="No bank paid anything in this run.")


def _leftovers(page: Page) -> Html:
    rows: list[list[Cell]] = [
        [each["bank"], (each["reason"] or "unmatched").replace("_", " ").lower(),
         "people" if each["reason"] else "matching", each["number"], show(each["amount"], each["ccy"])]
        for each in page.summary.get("leftovers", ())]
    return table([("Bank", ""), ("Reason", "w"), ("With", ""), ("Entries", "n"), ("Amount", "n")], rows, limit=60,
                 empty="Every entry has its owner.")


def _amount(minor: int) -> Html:
    return Html(show(minor) if minor else "<span class=z>0.00</span>")


def _difference(minor: int) -> Html:
    return Html(f'<span class="mark w-failed">■ {show(minor)}</span>' if minor else "<span class=z>0.00</span>")


# --- operation ------------------------------------------------------------------------------------------------------


def _operation(page: Page) -> str:
    model, day = page.model, page.day
    faults = [[Html('<span class="mark w-sim">◆</span>'), fault.fault, fault.target, clock(fault.begin_us, day),
               clock(fault.end_us, day) if fault.end_us >= 0 else "lasts", text(fault.params, 80)]
              for fault in model.faults]
    parts = [
        card("Alerts", _alerts(page), anchor="alerts", hint=f"{sum(model.alert_counts.values()):,} raised"),
        card("Injected faults", table(
            [("", ""), ("Fault", ""), ("Target", ""), ("From", "n"), ("To", "n"), ("Parameters", "w")], faults,
            limit=30, left_out=model.faults.left_out, empty="None was injected."), anchor="faults"),
        card("Banks", _exchanges(page), anchor="banks"), *_lines(page), card("Jobs", _jobs(page), anchor="jobs")]
    small = [
        _tally("Refusals", [("Operation", ""), ("Code", "m")], model.refusals),
        _tally("Facts noted without a move", [("Fact", "")], model.notes),
        _tally("Staff", [("Role", ""), ("Action", ""), ("Result", "")], model.staff),
        _tally("Told to customers", [("Event", "")], model.notices),
        _tally("Applies by status", [("Status", "")], +model.statuses["apply"]),
        _tally("Tasks by status", [("Status", "")], +model.statuses["task"]),
        _tally("Events", [("Kind", "m")], model.kinds), _chronicle(page)]
    return ("<h2 id=operation>Operation</h2>" + "".join(parts)
            + f'<div class="grid three">{"".join(part for part in small if part)}</div>')


def _tally(title: str, columns: list[tuple[str, str]], counts: Mapping[Any, int]) -> str:
    rows = [[*(key if isinstance(key, tuple) else (key,)), number]
            for key, number in sorted(counts.items(), key=lambda item: -item[1])]
    return card(title, table([*columns, ("Number", "n")], rows, limit=18)) if rows else ""


def _chronicle(page: Page) -> str:
    told = [(t, f"core {phase}", detail) for t, phase, detail in page.model.core]
    told += [(t, "calendar", words) for t, words in page.model.calendar]
    rows = [[clock(t, page.day), what, text(detail, 100)] for t, what, detail in sorted(told)]
    return card("Core and calendar", table([("Time", "n"), ("What", ""), ("Detail", "w")], rows, limit=18,
                                           left_out=page.model.core.left_out)) if rows else ""


def _alerts(page: Page) -> Html:
    ranked = sorted(page.model.alerts, key=lambda a: (_rank(a.severity), a.raised_us))
    rows = []
    for alert in ranked:
        shape, who = SEVERITIES.get(alert.severity.lower(), ("●", "system"))
        rows.append([Html(f'<span class="mark w-{who}">{shape} {text(alert.severity, 16)}</span>'), alert.triage,
                     alert.rule, alert.name, text(alert.key, 40), text(alert.detail, 120),
                     clock(alert.raised_us, page.day),
                     clock(alert.cleared_us, page.day) if alert.cleared_us >= 0 else "open"])
    return table([("Severity", ""), ("Triage", ""), ("Rule", "m"), ("Alert", ""), ("About", "m"), ("Detail", "w"),
                  ("Raised", "n"), ("Cleared", "n")], rows, limit=50, left_out=page.model.alerts.left_out)


def _rank(severity: str) -> int:
    order = list(SEVERITIES)
    return order.index(severity.lower()) if severity.lower() in order else len(order)


def _exchanges(page: Page) -> Html:
    rows: list[list[Cell]] = []
    for (bank, message), found in sorted(page.model.exchanges.items()):
        times, replies = sorted(found.times_ms), sum(found.outcomes.values())
        good = sum(n for outcome, n in found.outcomes.items() if _answer_kind(outcome) == "Answered")
        others = ", ".join(f"{outcome} {n:,}" for outcome, n in found.outcomes.most_common()
                           if _answer_kind(outcome) != "Answered")
        rows.append([bank, message, found.sent, good, share(good, replies),
                     *(duration(times[-(-len(times) * q // 100) - 1] * 1_000) if times else "" for q in (50, 95, 99)),
                     others])
    return table([("Bank", ""), ("Message", ""), ("Sent", "n"), ("Answered", "n"), ("Share", "n"), ("p50", "n"),
                  ("p95", "n"), ("p99", "n"), ("Otherwise", "w")], rows, limit=60, empty="No bank was asked anything.")


def _lines(page: Page) -> list[str]:
    """Connections to exit servers and what came over them; nothing where no bank of the run has any."""
    model = page.model
    if not model.lines and not model.pushes:
        return []
    lines: list[list[Cell]] = [
        [bank, server, *(found.phases[phase] for phase in ("active", "lost", "unreachable")), text(found.reason, 120)]
        for (bank, server), found in sorted(model.lines.items())]
    pushes: list[list[Cell]] = [[bank, message, n] for (bank, message), n in sorted(model.pushes.items())]
    pushes += [[bank, f"fetched afterwards ({source})", n] for (bank, source), n in sorted(model.recovered.items())]
    return [
        card("Connections", table(
            [("Bank", ""), ("Exit server", ""), ("Became active", "n"), ("Lost", "n"), ("Not reached", "n"),
             ("Last reason", "w")], lines, limit=20, empty="No connection was tried."), anchor="connections",
            hint="how often"),
        card("Told by the banks", table(
            [("Bank", ""), ("Push", ""), ("Number", "n")], pushes, limit=60, empty="No bank told anything."),
            anchor="pushes")]


def _jobs(page: Page) -> Html:
    rows: list[list[Cell]] = [
        [name, counts.jobs, ", ".join(f"{state} {n:,}" for state, n in counts.states.items() if n),
         counts.most_retries, text(counts.last_error, 120)] for name, counts in sorted(page.model.jobs.items())]
    return table([("Job", ""), ("Number", "n"), ("State at the end", "w"), ("Most retries", "n"), ("Last error", "w")],
                 rows, limit=60, empty="No job ran.")


# --- settings and footer --------------------------------------------------------------------------------------------


def _settings(page: Page) -> str:
    settings = page.summary.get("settings")
    if settings is None:
        return ""
    rows: list[list[Cell]] = []
    for key, leaf in settings.items():
        known = leaf if isinstance(leaf, Mapping) else {"value": leaf}
        changed = "default" in known and known["default"] != known.get("value")
        value = Html(f"<b>{_value(known.get('value'))}</b>") if changed else _value(known.get("value"))
        rows.append([key, value, _value(known.get("default")), str(known.get("unit", "")), str(known.get("source", "")),
                     str(known.get("ref", ""))])
    return "<h2 id=settings>Settings that differ from the defaults</h2>" + card("Overlay of this run", table(
        [("Key", "m"), ("Value", "n"), ("Default", "n"), ("Unit", ""), ("Source", ""), ("Reference", "w")], rows,
        limit=120, empty="Every setting has its default."), hint="bold: changed")


def _value(value: object) -> Html:
    if isinstance(value, int) and not isinstance(value, bool):
        return Html(f"{value:,}")
    return text("" if value is None else value, 80)


def _footer(page: Page) -> str:
    summary = page.summary
    return ("<footer>Beside this file: summary.json, events.jsonl (every record), trace.pftrace (each procedure on its "
            "own track, for Perfetto), junit.xml, config.yaml. "
            f"Peak memory {float(summary.get('peak_rss_mb', 0)):,.0f} MB. "
            f"Trace <code>{text(summary.get('trace_hash', ''))}</code></footer>")
