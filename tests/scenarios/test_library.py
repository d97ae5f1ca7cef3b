"""Each scenario of the library passes, and leaves a folder that other tools can read."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pytest
import yaml

from core.trace import KINDS
from scenarios.invariants import INVARIANTS
from tests.safety.scenario_runs import SCENARIOS, here

KEYS = {"scenario", "title", "seed", "virtual_start_ms", "virtual_seconds", "wall_seconds", "speedup", "trace_hash",
        "events", "procedures", "open", "invariants", "expectations", "latency", "peak_rss_mb", "ledger"}
FILES = {"summary.json", "events.jsonl", "report.html", "junit.xml", "trace.pftrace", "config.yaml"}
DEPOSITS = {
    "bochk_day", "hsbc_day", "icbc_day",
    "deposit_amount_differs", "deposit_not_announced", "deposit_made_twice", "statement_not_received",
    "matching_stopped", "sba_creation_timeout", "risk_control_refuses_deposit",
    "icbc_customer_refund", "icbc_refund_script_stalls", "icbc_identical_statements", "icbc_ghost_statement",
    "icbc_late_statements", "icbc_line_down",
    "bochk_names_by_s16", "bochk_s16_late", "bochk_s16_wrong",
    "hsbc_push_off", "hsbc_forged_file", "hsbc_duplicate",
    "cgb_day", "scb_day", "citi_day", "notice_banks_day", "ewb_day", "duplicate_deposit_reversed", "bochk_s16_night",
    "hsbc_eddi_day", "hase_eddi_day", "edda_refused", "edda_report_late", "eddi_answer_lost", "hsbc_eddi_rate",
    "hase_eddi_lock_held"}
"""Of standard deposits and direct debits: an ordinary day at each bank, the exceptions, the incidents."""
BASES = {"primary": "applys_01", "account": "bank_card_asb_bst", "procedure": "proc_info", "assets": "entry"}


@pytest.fixture(params=SCENARIOS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def folder(name: str) -> Path:
    found = here(name).folder
    assert found is not None
    return found


def test_every_scenario_of_the_library_is_known() -> None:
    assert {"normal_day", "friday_evening_withdrawal", "lunar_new_year", "airstar_poll_timeout",
            "crash_between_send_and_record", "refunded_after_credit", *DEPOSITS} <= set(SCENARIOS)


def test_it_passes(name: str) -> None:
    result = here(name)
    assert not result.summary["invariants"]["violations"]
    assert [one for one in result.summary["expectations"] if not one["passed"]] == []
    assert result.summary["expectations"]
    assert result.passed


@pytest.mark.req("FRZ-06", "FRZ-07")
def test_every_invariant_that_its_events_concern_was_checked(name: str) -> None:
    checked = here(name).summary["invariants"]["checked"]
    assert set(checked) == set(INVARIANTS)
    for invariant in ("conservation", "no_negative_bucket", "version_is_flows", "table_transitions"):
        assert checked[invariant] > 0


def test_the_summary_has_the_keys_that_readers_rely_on(name: str) -> None:
    written = json.loads((folder(name) / "summary.json").read_text())
    assert set(written) >= KEYS
    assert written == json.loads(json.dumps(here(name).summary))
    assert written["scenario"] == name
    assert set(written["invariants"]) == {"checked", "violations"}
    assert all(set(one) == {"name", "passed", "detail"} for one in written["expectations"])
    assert all(set(one) == {"n", "p50", "p95", "p99"} for one in written["latency"].values())
    assert all(set(one) == {"available", "frozen", "in_transit", "external"} for one in written["ledger"].values())
    assert set(written["procedures"]) == {"deposit", "withdraw"}


def test_the_ledger_sums_to_zero_in_every_currency(name: str) -> None:
    for ccy, buckets in here(name).summary["ledger"].items():
        assert sum(buckets.values()) == 0, ccy


def test_its_folder_holds_every_file_and_each_can_be_read(name: str) -> None:
    assert {file.name for file in folder(name).iterdir()} >= FILES
    report = (folder(name) / "report.html").read_text(encoding="utf-8")
    assert report.lstrip().lower().startswith("<!doctype html") and escape(here(name).summary["title"]) in report
    suite = ElementTree.parse(folder(name) / "junit.xml").getroot()
    assert list(suite.iter("testcase")) and not list(suite.iter("failure"))
    assert yaml.safe_load((folder(name) / "config.yaml").read_text())["airstar.poll.deposit.max"]["value"] == 60
    assert (folder(name) / "trace.pftrace").stat().st_size > 100


def events(name: str) -> Iterator[list[object]]:
    with (folder(name) / "events.jsonl").open("rb") as lines:
        for line in lines:
            yield json.loads(line)


@pytest.mark.req("TWIN-02")
def test_the_hash_is_that_of_the_events_file(name: str) -> None:
    digest = hashlib.blake2b((folder(name) / "events.jsonl").read_bytes(), digest_size=16).hexdigest()
    assert digest == here(name).summary["trace_hash"]


def test_events_are_numbered_in_order_of_time_and_of_known_kinds(name: str) -> None:
    before = 0
    count = 0
    for number, at_us, kind, subject, data in events(name):  # type: ignore[misc]
        count += 1
        assert number == count and at_us >= before  # type: ignore[has-type, operator]
        assert kind in KINDS and isinstance(subject, str) and isinstance(data, dict)  # type: ignore[has-type]
        before = at_us  # type: ignore[has-type]
    assert count == here(name).summary["events"]


def test_the_databases_left_behind_open_in_sqlite_and_are_sound(name: str) -> None:
    for base, table in BASES.items():
        with sqlite3.connect(f"file:{folder(name) / base}.sqlite?mode=ro", uri=True) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] >= 0


def test_the_procedures_in_the_database_are_those_of_the_summary(name: str) -> None:
    with sqlite3.connect(f"file:{folder(name) / 'procedure'}.sqlite?mode=ro", uri=True) as database:
        rows = dict(database.execute("SELECT biz_type, count(*) FROM proc_info GROUP BY biz_type").fetchall())
    counted = {kind: sum(states.values()) for kind, states in here(name).summary["procedures"].items()}
    assert rows.get("cash_deposit", 0) == counted["deposit"]
    assert rows.get("cash_withdraw", 0) == counted["withdraw"]


@pytest.mark.req("TWIN-01")
def test_a_trading_day_finishes_in_bounded_real_time() -> None:
    """Thirty-eight hours with 3,260 movements; the bound is generous for a machine that does other things too."""
    summary = here("normal_day").summary
    assert summary["virtual_seconds"] == 38 * 3600
    assert sum(summary["procedures"]["deposit"].values()) > 1_800
    assert summary["wall_seconds"] < 120
