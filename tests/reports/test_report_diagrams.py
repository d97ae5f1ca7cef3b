"""Diagrams: every state has its place, every move its line, nothing is drawn that the tables do not have."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
import synthetic_day

from core.errors import Misconfigured
from reports import diagrams
from reports.positions import BOX_HEIGHT, BOX_WIDTH, POSITIONS, ROUTES, machine_of, missing_positions, placed

SVG = "{http://www.w3.org/2000/svg}"
MACHINES = ("deposit", "withdraw")


def shapes(svg: str, name: str) -> list[ElementTree.Element]:
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")
    return [group for group in groups if name in (group.get("class") or "").split()]


@pytest.mark.parametrize("machine", MACHINES)
def test_all_states_have_positions(machine: str) -> None:
    states = synthetic_day.DIAGRAM[machine]["states"]
    assert missing_positions(states, machine) == [] == missing_positions([state["label"] for state in states])
    assert machine_of(states) == machine
    assert len(POSITIONS[machine]) == {"deposit": 6, "withdraw": 17}[machine]


def test_a_state_without_a_position_is_named() -> None:
    strange = {"states": [*synthetic_day.DIAGRAM["deposit"]["states"],
                          {"label": "pending(lost)", "status": "pending", "who": "bank"}], "moves": []}
    assert missing_positions(["pending", "pending(lost)"]) == ["pending(lost)"]
    with pytest.raises(Misconfigured, match=r"pending\(lost\)"):
        diagrams.render(strange)


@pytest.mark.parametrize("machine", MACHINES)
def test_no_two_boxes_touch(machine: str) -> None:
    places = list(POSITIONS[machine].values())
    for i, (x, y) in enumerate(places):
        for other_x, other_y in places[i + 1:]:
            assert abs(x - other_x) > BOX_WIDTH or abs(y - other_y) > BOX_HEIGHT


@pytest.mark.parametrize("machine", MACHINES)
def test_routes_run_at_right_angles_and_through_no_box(machine: str) -> None:
    places = {label: (float(x), float(y)) for label, (x, y) in POSITIONS[machine].items()}
    for (start, end), route in ROUTES[machine].items():
        points = diagrams._corners(places[start], places[end], route)
        for one, other in pairwise(points):
            assert one[0] == other[0] or one[1] == other[1], (start, end)
            for label, (x, y) in places.items():
                clear = (max(one[0], other[0]) <= x - BOX_WIDTH / 2 or min(one[0], other[0]) >= x + BOX_WIDTH / 2
                         or max(one[1], other[1]) <= y - BOX_HEIGHT / 2 or min(one[1], other[1]) >= y + BOX_HEIGHT / 2)
                assert clear, f"{start} -> {end} runs through {label}"


@pytest.mark.parametrize("machine", MACHINES)
def test_each_move_is_a_line_and_each_state_a_box(machine: str) -> None:
    table = synthetic_day.DIAGRAM[machine]
    svg = diagrams.render(table)
    drawn = {(move["from"], move["to"]) for move in table["moves"] if move["row"] != "WT-32"}
    assert len(shapes(svg, "dge")) == len(drawn)
    assert len(shapes(svg, "dgn")) == len(table["states"])
    titles = " ".join(title.text or "" for title in ElementTree.fromstring(svg).iter(f"{SVG}title"))
    assert all(move["row"] in titles for move in table["moves"] if move["row"] != "WT-32")


def test_a_row_from_anywhere_is_written_and_drawn_only_where_taken() -> None:
    plain = diagrams.render(synthetic_day.DIAGRAM["withdraw"])
    assert "WT-32: any open state" in plain
    forced = diagrams.render(synthetic_day.DIAGRAM["withdraw"],
                             Counter({("new(blank)", "end_ok(transfer_done)"): 2}), "end_ok(transfer_done)")
    assert len(shapes(forced, "dge")) == len(shapes(plain, "dge")) + 1
    assert len(shapes(forced, "v")) == 1
    assert [box.get("class") for box in shapes(forced, "now")] == ["dgn now w-done"]


def test_visits_are_written_on_the_lines() -> None:
    svg = diagrams.render(synthetic_day.DIAGRAM["deposit"],
                          {("", "new(waiting)"): 1_600, ("new(waiting)", "pending"): 1_562}, None, {"pending": 12})
    numbers = [text.text for text in ElementTree.fromstring(svg).iter(f"{SVG}text") if text.get("class") == "dgc"]
    assert sorted(numbers, key=str) == ["1,562", "1,600"]
    assert ">12<" in svg


def test_moves_that_stay_are_not_drawn() -> None:
    table: dict[str, Any] = {"states": synthetic_day.DIAGRAM["deposit"]["states"], "moves": [
        {"row": "DT-08a", "from": "end_ok(deposit_ok)", "to": None, "fact": "REVERSE"},
        {"row": "DT-08b", "from": "end_ok(deposit_ok)", "to": "end_ok(deposit_ok)", "fact": "x"}]}
    assert shapes(diagrams.render(table), "dge") == []


def test_a_stand_alone_file_brings_its_style_and_nothing_from_outside() -> None:
    svg = diagrams.render(synthetic_day.DIAGRAM["withdraw"])
    assert "prefers-color-scheme:dark" in svg
    assert svg.count("http") == 1 and 'xmlns="http://www.w3.org/2000/svg"' in svg
    assert len(svg) < 20_000


def test_hostile_facts_are_escaped() -> None:
    table = {**synthetic_day.DIAGRAM["deposit"], "moves": [
        {"row": '"><script>', "from": "new(waiting)", "to": "pending", "fact": "</title><script>alert(1)</script>"}]}
    svg = diagrams.render(table)
    assert "<script" not in svg
    ElementTree.fromstring(svg)


def test_placed_fills_in_the_positions() -> None:
    found = placed(synthetic_day.DIAGRAM)
    for machine in MACHINES:
        assert {state["label"]: (state["x"], state["y"]) for state in found[machine]["states"]} == POSITIONS[machine]


@pytest.mark.parametrize("palette", [diagrams.LIGHT, diagrams.DARK])
def test_colours_of_words_have_contrast(palette: dict[str, str]) -> None:
    def light(colour: str) -> float:
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for name in ("text", "muted", "accent", "system", "bank", "person", "done", "failed", "violet"):
        for ground in ("card", "bg"):
            one, other = sorted((light(palette[name]), light(palette[ground])), reverse=True)
            assert (one + 0.05) / (other + 0.05) >= 4.5, (name, ground)
