"""What the scenarios of direct debits decide: pace, order and lock, as the bank saw them; times from T+0 to T+1."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.safety.scenario_runs import here


def happened(name: str, kind: str, **wanted: Any) -> list[tuple[int, dict[str, Any]]]:
    """(epoch µs, data) of the events of a kind, in order."""
    folder = here(name).folder
    assert folder is not None
    with (folder / "events.jsonl").open("rb") as lines:
        events = (json.loads(line) for line in lines)
        return [(t_us, data) for _, t_us, of, _, data in events
                if of == kind and all(data[key] == value for key, value in wanted.items())]


@pytest.mark.req("LAT-04", "LAT-10")
@pytest.mark.parametrize("name", ["hsbc_eddi_day", "hase_eddi_day"])
def test_a_day_of_debits_is_credited_between_t_0_and_t_1_without_matching(name: str) -> None:
    assert here(name).passed, [one for one in here(name).summary["expectations"] if not one["passed"]]
    channel = f"{name.removesuffix('_day')} deposit"
    stages = here(name).summary["stages"]["channels"][channel]
    assert stages["matching"] == {"n": 0, "p50": 0.0, "p95": 0.0, "expected": "skipped", "met": True}
    assert stages["total"]["met"] and stages["total"]["expected"] == "T+0 to T+1"
    assert not happened(name, "match")
    days = {data["ref"]: t_us for t_us, data in happened(name, "bank.book", op="collect")}
    assert len({t_us // 86_400_000_000 for t_us in days.values()}) == 2  # some on each of both days


@pytest.mark.req("EDDA-02", "EDDA-03")
def test_hsbc_never_sees_a_fifth_debit_in_a_second_and_each_debit_leaves() -> None:
    assert here("hsbc_eddi_rate").passed
    asked = happened("hsbc_eddi_rate", "bank.request", bank="hsbc_eddi", message="create_debit")
    in_second = Counter(t_us // 1_000_000 for t_us, _ in asked)
    assert max(in_second.values()) == 4 and sum(number == 4 for number in in_second.values()) >= 9
    assert len({data["ref"] for _, data in asked}) == 41


@pytest.mark.req("EDDA-05", "EDDA-06")
@pytest.mark.parametrize("name", ["hase_eddi_day", "hase_eddi_lock_held", "eddi_answer_lost"])
def test_hang_seng_has_one_debit_in_work_and_takes_them_in_order(name: str) -> None:
    assert here(name).passed
    exchanges = [(t_us, 1, data["ref"]) for t_us, data in happened(
        name, "bank.request", bank="hase_eddi", message="create_debit")]
    answers = [(t_us, -1, data["ref"]) for t_us, data in happened(
        name, "bank.reply", bank="hase_eddi", message="create_debit")]
    first_sendings = list(dict.fromkeys(ref for _, _, ref in exchanges))
    assert first_sendings == sorted(first_sendings)
    if name != "hase_eddi_lock_held":  # there the first answer is heard by nobody
        under_way = 0
        for _, step, _ in sorted([*exchanges, *answers]):
            under_way += step
            assert 0 <= under_way <= 1


@pytest.mark.req("EDDA-08")
def test_a_late_report_is_fetched_by_a_later_try_and_changes_the_authorisation() -> None:
    assert here("edda_report_late").passed
    ((t_us, data),) = happened("edda_report_late", "edda")
    assert data["status"] == "SUSPENDED"
    assert t_us // 1_000_000 == here("edda_report_late").summary["virtual_start_ms"] // 1_000 + 535 * 60  # 18:50


@pytest.mark.req("EDDA-09")
def test_a_refused_authorisation_leads_to_no_debit() -> None:
    assert here("edda_refused").passed
    ((_, refused),) = happened("edda_refused", "edda", status="REJECTED")
    assert refused["reason"] == "AC04"
    assert len(happened("edda_refused", "bank.request", message="create_debit")) == 1
