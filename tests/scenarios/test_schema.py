"""The models against their exported JSON Schema, judged by a foreign validator; values; the library."""

from __future__ import annotations

import copy
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic_core import PydanticCustomError

from core.clock import MS_PER_DAY, epoch_ms, hkt
from core.errors import Misconfigured
from scenarios.names import names as platform_names
from scenarios.reading import json_schema, library, load, load_text, read_document
from scenarios.schema import (
    HOUR_PROFILES,
    Names,
    Quantity,
    Scenario,
    amount_minor,
    duration_ms,
    full_moment_ms,
    hour_weights,
    moment_ms,
    quantity,
    trading_date,
)

START = full_moment_ms("2026-03-12 09:00")


def errors(schema: dict[str, Any], data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(data)]


# --- JSON Schema ----------------------------------------------------------------------------------------------------


def test_exported_schema_is_a_schema_with_the_names_filled_in(names: Names) -> None:
    schema = json_schema(names)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    text = json.dumps(schema)
    for word in ("airstar.stuck_pending", "SetManualTransferDone", "pending(move_next)", "AIRSTAR-06", "hsbc",
                 "AsbBstTransfer", "airstar.poll.deposit.max", "risk_control.freeze"):
        assert word in text
    assert not [key for key in _keys(schema) if key == "names"]


def _keys(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [*node, *(key for value in node.values() for key in _keys(value))]
    return [key for value in node for key in _keys(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", sorted(library()))
def test_library_file_passes_schema_and_models(name: str) -> None:
    file, names = library()[name], platform_names()
    assert errors(json_schema(names), read_document(file.read_text("utf-8"), str(file)).data) == []
    scenario = load(name, names)
    assert (scenario.name, scenario.start < scenario.end) == (name, True)
    assert scenario.expect, "a scenario without expectations proves nothing"


def test_library_is_complete() -> None:
    assert set(library()) >= {"normal_day", "friday_evening_withdrawal", "lunar_new_year", "airstar_poll_timeout",
                              "refunded_after_credit", "crash_between_send_and_record"}


def test_full_scenario_passes_schema_and_models(names: Names, full: str) -> None:
    assert errors(json_schema(names), read_document(full, "full").data) == []
    assert len(load_text(full, names).expect) == 23


@pytest.mark.parametrize(("path", "value"), [
    (("wire",), "ful"), (("unknown",), 1), (("settings", "airstar.poll.deposit.max"), "many"),
    (("settings", "airstar.pol"), 1), (("workload", 0, "deposits", "channel"), "hsbc"),
    (("workload", 0, "deposits", "count"), 0), (("workload", 0, "deposits", "hours"), "nights"),
    (("workload", 2, "recorded", 0, "at"), "soon"), (("faults", 0, "inject"), "airstar.slo"),
    (("faults", 0, "with"), {"delay": 3}), (("faults", 0, "with"), {}), (("faults", 1, "with", "at"), "nowhere"),
    (("staff", "actions", 0, "with"), {"bank_status": "UNCERTAIN"}), (("staff", "actions", 0, "do"), "Force"),
    (("expect", 0, "that"), "deposit"), (("expect", 0, "state"), "end_ok"), (("expect", 0, "at_least"), "most"),
    (("expect", 5, "way", 0), "new(frozen)"), (("population", "balances", "EUR"), {"median": 1, "p99": 2}),
    (("overrides", 0, "market"), "UK"), (("customers", 0, "id"), "Alice Chan"),
])
def test_schema_and_models_refuse_the_same_mistakes(
    path: tuple[str | int, ...], value: Any, names: Names, full: str,
) -> None:
    data = copy.deepcopy(read_document(full, "full").data)
    node = data
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    assert errors(json_schema(names), data)
    with pytest.raises(Misconfigured):
        load_text(json.dumps(data), names)


def test_the_full_scenario_uses_every_model(full: str) -> None:
    """Mutation tests start from it: a model that it does not use would not be tested."""
    used = json.dumps(read_document(full, "full").data)
    models = Scenario.model_json_schema()["$defs"]
    missing = [name for name, model in models.items() if not any(f'"{key}"' in used for key in model["properties"])]
    assert missing == ["RecordedIn"]  # a file beside the scenario: test_reading


# --- Values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "ms"), [
    ("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5h", 5_400_000),
    ("2d", 2 * MS_PER_DAY),
])
def test_durations(text: str, ms: int) -> None:
    assert duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "10", 10, "10 m", "m", "-5m", "1y", "401d", "5m\n", None, True])
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(PydanticCustomError):
        duration_ms(text)


def test_moments_in_their_three_forms_are_hong_kong_time() -> None:
    assert full_moment_ms("2026-03-12 09:00") == 1_773_277_200_000  # 01:00 UTC
    assert moment_ms("10:30", START) == full_moment_ms("2026-03-12T10:30") == START + 5_400_000
    assert moment_ms("+1h30m", START) == START + 5_400_000
    assert moment_ms("2026-03-13 9:00:00.25", START) == START + MS_PER_DAY + 250


@pytest.mark.parametrize("text", [
    "25:00", "2026-02-30 10:00", "10.30", "+", "tomorrow", 1030, "2026-03-12 10:00+08:00"])
def test_what_is_no_moment(text: Any) -> None:
    with pytest.raises(PydanticCustomError):
        moment_ms(text, START)


@given(st.datetimes(min_value=hkt(0).replace(tzinfo=None), max_value=hkt(4_000_000_000_000).replace(tzinfo=None)))
def test_full_moments_agree_with_the_clock(moment: Any) -> None:
    moment = moment.replace(microsecond=0)
    assert full_moment_ms(moment.strftime("%Y-%m-%d %H:%M:%S")) == epoch_ms(moment)


@pytest.mark.parametrize(("text", "minor"), [
    ("1,234.50", 123_450), ("0", 0), (250_000, 25_000_000), ("10.5", 1_050), ("0.01", 1), ("8,000,000", 800_000_000)])
def test_amounts(text: Any, minor: int) -> None:
    assert amount_minor(text) == minor


@pytest.mark.parametrize("text", [10.5, "10.505", "-1", -1, "", "1e3", True, None, "HKD 5", 10**20, "٣"])
def test_what_is_no_amount(text: Any) -> None:
    with pytest.raises(PydanticCustomError):
        amount_minor(text)


@given(st.dates())
def test_both_forms_of_a_date_agree(day: date) -> None:
    if day.year >= 1000:
        assert trading_date(day.isoformat()) == trading_date(int(day.strftime("%Y%m%d"))) == int(day.strftime("%Y%m%d"))


@pytest.mark.parametrize("value", [20260230, "2026-3-1", "2026-0312", 1, True, None, "20261301"])
def test_what_is_no_date(value: Any) -> None:
    with pytest.raises(PydanticCustomError):
        trading_date(value)


def test_quantities() -> None:
    assert quantity(1900) == Quantity(1900, False)
    assert quantity("95%") == Quantity(95.0, True)
    for value in (1.5, -1, "95", "many", True, "1000%0"):
        with pytest.raises(PydanticCustomError):
            quantity(value)


def test_hours_by_name_by_hour_and_by_range() -> None:
    assert hour_weights("session") == HOUR_PROFILES["session"]
    weights = hour_weights({"9": 3, "10-12": 1.5})
    assert weights[8:13] == (0, 3, 1.5, 1.5, 0)
    assert all(len(profile) == 24 for profile in HOUR_PROFILES.values())


@pytest.mark.parametrize("value", [
    "nights", {}, {"24": 1}, {"12-9": 1}, {"9": -1}, {"9": "x"}, {"9": 0}, {"9-11": 1, "10": 1}, {"noon": 1}, 7, None])
def test_what_is_no_hours(value: Any) -> None:
    with pytest.raises(PydanticCustomError):
        hour_weights(value)
