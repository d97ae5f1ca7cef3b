"""The HTML report: one safe, offline file below its limit, that says the truth first."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
import synthetic_day

from core.errors import Misconfigured
from reports import html
from reports.figures import histogram
from reports.markup import Html, clock, duration, share, table, text
from reports.model import RunModel

HOSTILE = "</script></style><img src=x onerror=alert(1)>\"'><svg/onload=alert(2)>\u202e\x00 javascript:alert(3)"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in self.raw else ""
        if self._inside:
            self.raw[tag].append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside][-1] += data
        else:
            self.words.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def make(model: RunModel, **changes: Any) -> str:
    return html.report(synthetic_day.summary(model.figures(), **changes), model, synthetic_day.DIAGRAM)


def test_a_day_of_3200_procedures_fits_below_300_kb(page: str, model: RunModel) -> None:
    assert len(model.procedures) == 3_200
    assert 100_000 < len(page.encode()) < 300_000


def test_everything_open_with_long_hostile_histories_still_fits() -> None:
    model = RunModel()
    way = {"biz": "cash_withdraw", "channel": "airstar withdrawal" * 9, "ccy": "HKD", "amount": 10**15, "uid": 1,
           "operator": HOSTILE * 3, "remark": HOSTILE * 9, "reason": HOSTILE}
    for number in range(60):
        before = ""
        for step in range(300):
            to = ("new(freeze)", "pending(move_next)")[step % 2]
            model((1, step * 10**6, "procedure", "P", {**way, "id": number, "row": "WT-17", "from": before, "to": to}))
            before = to
        for kind in range(300):
            model((1, 10**9, "alert", "R", {"rule": f"R{kind}{HOSTILE}", "severity": "High", "name": HOSTILE,
                                            "key": HOSTILE * 5, "detail": HOSTILE * 9, "phase": "raised"}))
            model((1, 10**9, "job", f"J{kind}", {"job": f"Job{kind}", "state": "READY", "error": HOSTILE * 9}))
    page = make(model, hostile=HOSTILE, violated=True)
    assert len(page.encode()) < 300_000
    assert re.search(r"\d+ procedures left out to keep this file small", page)
    assert "more rows left out; see events.jsonl" in page


def test_the_policy_allows_exactly_what_is_there(page: str) -> None:
    read = Reader(page)
    policy = next(attrs["content"] for tag, attrs in read.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    scripts = [body for body, (_, attrs) in zip(
        read.raw["script"], [tag for tag in read.tags if tag[0] == "script"], strict=True) if "type" not in attrs]
    for name, bodies in (("style", read.raw["style"]), ("script", scripts)):
        digests = [base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies]
        allowed = re.findall(rf"{name}-src ((?:'sha256-[^']+' ?)+);", policy)
        assert allowed == [" ".join(f"'sha256-{digest}'" for digest in digests)]


def test_nothing_comes_from_outside(page: str) -> None:
    read = Reader(page)
    for tag, attrs in read.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form"), tag
        for name, value in attrs.items():
            assert name not in ("style", "src", "srcset", "action", "ping") and not name.startswith("on"), (tag, name)
            assert name == "content" or "://" not in (value or ""), (tag, name, value)
            if name == "href":
                assert (value or "").startswith("#")
    for style in read.raw["style"]:
        assert all(url.startswith("data:font/woff2;base64,") for url in re.findall(r"url\(([^)]*)", style))
        assert "@import" not in style and "://" not in style
    for script in read.raw["script"]:
        assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\s*\(|\beval\(|new Function", script)


def test_hostile_words_stay_words() -> None:
    events = synthetic_day.day(3, 200, HOSTILE)
    model = RunModel.of(events)
    page = make(model, violated=True, hostile=HOSTILE)
    read = Reader(page)
    assert not {"img", "iframe"} & {tag for tag, _ in read.tags}
    assert not any(name.startswith("on") for _, attrs in read.tags for name in attrs)
    assert len([tag for tag, _ in read.tags if tag == "script"]) == 2
    assert "onerror=alert(1)" in "".join(read.words)
    assert "\x00" not in page and "\u202e" not in page
    data = next(body for body in read.raw["script"] if body.startswith("{"))
    assert orjson.loads(data)["n"] > 0


def test_tags_are_balanced_where_html_needs_it(page: str) -> None:
    for tag in ("div", "section", "details", "summary", "table", "svg", "span", "b", "h1", "h2", "h3", "main", "g"):
        body = page[page.index("<body>"):page.rindex("<script>")]
        assert len(re.findall(rf"<{tag}[\s>]", body)) == body.count(f"</{tag}>"), tag


def test_every_reference_has_its_target(page: str) -> None:
    read = Reader(page)
    names = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(names) == len(set(names))
    missing = {attrs["href"] for _, attrs in read.tags if attrs.get("href")} - {f"#{name}" for name in names}
    assert missing == set()
    charts = orjson.loads(next(body for body in read.raw["script"] if body.startswith("{")))["charts"]
    assert {chart["id"] for chart in charts} <= set(names)


def test_the_verdict_comes_first(model: RunModel) -> None:
    words = Reader(make(model)).words
    passed = " ".join(words)
    assert "Passed. 3,126 of 3,200 procedures finished well" in re.sub(r"\s+", " ", passed)
    failed = re.sub(r"\s+", " ", " ".join(Reader(make(model, violated=True)).words))
    assert failed.index("Failed.") < failed.index("nostro run airstar-busy-day --seed 1") < failed.index("Expectations")
    assert "Invariant “no hold outlives its Procedure” was violated." in failed


def test_summary_and_events_that_differ_are_pointed_out(model: RunModel) -> None:
    figures = {**model.figures(), "procedures": {"deposit": {"pending": 1}, "withdraw": {}}}
    page = html.report(synthetic_day.summary(figures), model, synthetic_day.DIAGRAM)
    assert "Summary and events differ." in page
    assert "Summary and events differ." not in make(model)


def test_all_states_and_channels_stand_in_the_tables(page: str, model: RunModel) -> None:
    for machine in synthetic_day.DIAGRAM.values():
        for state in machine["states"]:
            assert f'<span class="pill w-{state["who"]}">{state["label"]}</span>' in page
    for latency in model.latencies():
        assert f"<td>{latency.channel}<td class=n>{len(latency.samples):,}" in page.replace("</td>", "")


def test_slowest_and_open_procedures_have_their_history(page: str, model: RunModel) -> None:
    for procedure in (*model.unfinished(), *model.slowest("deposit"), *model.slowest("withdraw")):
        start = page.index(f"<span class=m>P{procedure.id}</span>")
        entry = page[start:page.index("</details>", start)]
        for step in model.history(procedure):
            assert step.row in entry and text(step.end) in entry
        assert 'class="v"' in entry and 'class="now' in entry


def test_connections_and_what_banks_told_stand_in_the_operation_section(page: str) -> None:
    def rows(anchor: str) -> list[list[str]]:
        body = page.partition(f'id="{anchor}"')[2].partition("<tbody>")[2].partition("</table>")[0]
        return [re.split("<td[^>]*>", row)[1:] for row in body.split("<tr>")[1:]]

    assert rows("connections") == [["cmb", "backup", "1", "0", "0", ""], ["cmb", "primary", "1", "1", "0", "reset"]]
    assert rows("pushes") == [["cmb", "deposit", "1"], ["cmb", "fetched afterwards (helper)", "2"]]


def test_a_message_that_a_bank_has_taken_on_is_answered() -> None:
    model = RunModel()
    for n, outcome in enumerate(("TAKEN_ON", "DUPLICATE", "UNKNOWN", "REJECTED"), 1):
        model((n, n, "bank.reply", "R", {"bank": "cmb", "message": "withdraw", "outcome": outcome, "ms": 5}))
    cells = re.sub(r"<[^>]*>", " ", make(model).partition('id="banks"')[2].partition("</table>")[0]).split()
    after = cells[cells.index("withdraw") + 1:]
    assert after[:4] == ["0", "2", "50.0", "%"], after


BOOK = {"bank": "hsbc", "ccy": "HKD", "received": 900, "credited": 500, "waiting": 100, "reversed": 200, "in_flight": 0,
        "to_reverse": 0, "difference": 100, "paid": 0, "settled": 0, "paying": 0, "paid_difference": 0}


def make_of(**summary: Any) -> str:
    """The page of a run without events whose summary says this."""
    model = RunModel()
    return html.report({**synthetic_day.summary(model.figures()), **summary}, model, synthetic_day.DIAGRAM)


def cells(page: str, anchor: str) -> list[list[str]]:
    """The rows of the table in a card, without marks."""
    body = page.partition(f'id="{anchor}"')[2].partition("</section>")[0].partition("<tbody>")[2]
    return [[re.sub("<[^>]*>", "", cell) for cell in re.split("<td[^>]*>", row)[1:]]
            for row in body.partition("</table>")[0].split("<tr>")[1:]]


def test_the_books_of_the_summary_stand_in_the_page_and_a_difference_is_an_error() -> None:
    sound = {**BOOK, "bank": "cmb", "received": 800, "difference": 0, "paid": 700, "settled": 600, "paying": 100}
    page = make_of(books=[BOOK, sound])
    assert cells(page, "books") == [
        ["hsbc", "HKD", "9.00", "5.00", "1.00", "2.00", "0.00", "0.00", "■ 1.00"],
        ["cmb", "HKD", "8.00", "5.00", "1.00", "2.00", "0.00", "0.00", "0.00"]]
    assert cells(page, "books-paid") == [["cmb", "HKD", "7.00", "6.00", "1.00", "0.00"]]
    assert page.count('<span class="mark w-failed">■ 1.00') == 1


def test_money_without_an_owner_has_a_key_figure_and_a_table() -> None:
    page = make_of(without_procedure={"applications": {"open": 1}, "tasks": {}}, leftovers=[
        {"bank": "hsbc", "ccy": "HKD", "reason": "DEPOSIT_REVERSED", "number": 1, "amount": 1_500_000},
        {"bank": "za", "ccy": "HKD", "reason": "", "number": 2, "amount": 700}])
    assert cells(page, "leftovers") == [["hsbc", "deposit reversed", "people", "1", "15,000.00 HKD"],
                                        ["za", "unmatched", "matching", "2", "7.00 HKD"]]
    keys = re.sub("<[^>]*>", " ", page.partition("<div class=keys>")[2].partition("</div>")[0])
    assert "1 more without a procedure" in keys and "no procedure, no application" not in keys
    assert "statement entries: 2 unmatched, 1 abnormal" in keys
    verdict = page.partition('<div class="verdict')[2].partition("</div>")[0]
    assert "2 statement entries are unmatched (7.00 HKD) and 1 abnormal deposit is open (15,000.00 HKD)." in verdict
    assert "no procedure, no application" in make_of()


def test_histograms_contain_every_settled_procedure(model: RunModel) -> None:
    found = model.latencies()
    low, high = min(each.samples[0] for each in found), max(each.samples[-1] for each in found)
    for latency in found:
        bins = histogram(latency.samples, low, high)
        assert sum(bins.counts) == len(latency.samples) and bins.counts[-1] == 0
        edges = (0.0, *bins.edges_s)
        for i, number in enumerate(bins.counts[:-1]):
            below = 0 if i == 0 else edges[i] * 1e6
            assert number == sum(1 for t in latency.samples if (below < t or i == 0) and t <= edges[i + 1] * 1e6)


def test_histogram_counts_what_is_beyond_the_last_bin() -> None:
    random = Random(5)
    values = sorted(random.randint(0, 10**13) for _ in range(500))
    assert sum(histogram(values, values[0], values[-1]).counts) == 500


def test_a_run_without_events_makes_a_page() -> None:
    model = RunModel()
    page = make(model)
    assert "The run has no events." in page and "No procedure ended well." in page


def test_missing_packages_name_the_remedy(model: RunModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_MODULES", tmp_path)
    with pytest.raises(Misconfigured, match="make setup"):
        make(model)


def test_a_cut_table_says_how_much_is_missing() -> None:
    made = table([("A", "")], [[str(i)] for i in range(12)], limit=5, left_out=3)
    assert made.count("<tr><td>") == 5 and "10 more rows left out" in made
    assert table([("A", "")], [], empty="None.") == "<p class=none>None.</p>"
    assert isinstance(made, Html)


@pytest.mark.parametrize(("us", "words"), [
    (0, "0 s"), (400, "0.4 ms"), (62_000, "62 ms"), (8_830_000, "8.8 s"), (59_960_000, "1 m 00 s"),
    (185_000_000, "3 m 05 s"), (4_320_000_000, "1 h 12 m"), (183_600_000_000, "2 d 03 h")])
def test_durations_for_people(us: int, words: str) -> None:
    assert duration(us).replace("\u00a0", " ") == words


def test_times_are_hong_kong_24_hour() -> None:
    assert clock(synthetic_day.MIDNIGHT_US + 15 * 3_600 * 10**6) == "12 Mar 15:00:00"
    assert clock(synthetic_day.MIDNIGHT_US + 15 * 3_600 * 10**6, "12 Mar") == "15:00:00"


def test_a_share_is_whole_only_when_it_is() -> None:
    assert (share(9_999, 10_000), share(1, 10_000), share(3, 3), share(0, 3), share(0, 0)) == (
        "99.9 %", "0.1 %", "100.0 %", "0.0 %", "–")
