"""The banks' books beside ours at the end of a run, and what is left over: page, terminal, summary (DEP-02)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from core.domain import ApplyStatus, TaskStatus
from core.money import show
from reports.verdict import verdict
from scenarios.facts import OVER
from scenarios.names import names
from scenarios.reading import load
from scenarios.runner import Run, RunResult
from scenarios.world import World
from tests.safety.scenario_runs import SCENARIOS, here

ENTRY = ("NEW", "WINDOW_WAIT", "CANDIDATE", "MATCHED", "CREDITED", "ABNORMAL", "VOID")
KINDS = {  # one scenario for each kind of bank, with what is special in it
    "deposit_not_announced": "hsbc", "duplicate_deposit_reversed": "hsbc", "risk_control_refuses_deposit": "hsbc",
    "bochk_day": "bochk", "icbc_customer_refund": "icbc", "icbc_line_down": "icbc", "icbc_day": "icbc",
    "notice_banks_day": "dbs", "ewb_day": "ewb", "hsbc_eddi_day": "hsbc_eddi", "hase_eddi_day": "hase_eddi",
    "cmb_socket_drop": "cmb", "cmbc_reconnect_repull": "cmbc", "refunded_after_credit": "airstar"}
MONEY_IN, MONEY_BACK = ("collect", "receive"), ("refund_collect", "refund_receive")
Key = tuple[str, str]


def folder_of(name: str) -> Path:
    folder = here(name).folder
    assert folder is not None
    return folder


def told(folder: Path) -> tuple[dict[str, Counter[Key]], dict[str, Counter[Key]]]:
    """From the events alone: operation of the banks' books, and state of deposit Procedures, each with what it moved by
    (bank, currency)."""
    book: dict[str, Counter[Key]] = {}
    last: dict[int, dict[str, Any]] = {}
    for line in (folder / "events.jsonl").read_bytes().splitlines():
        _, _, kind, _, data = json.loads(line)
        if kind == "bank.book":
            book.setdefault(data["op"], Counter())[data["bank"], data["ccy"]] += data["amount"]
        elif kind == "procedure" and data["biz"] == "cash_deposit":
            last[data["id"]] = data
    states: dict[str, Counter[Key]] = {}
    for data in last.values():
        key = data["channel"].removesuffix(" deposit"), data["ccy"]
        states.setdefault(data["to"].partition("(")[0], Counter())[key] += data["amount"]
    return book, states


def entries(folder: Path) -> dict[str, Counter[Key]]:
    """From the database: status of credit entries -> what they show by (bank, currency)."""
    found: dict[str, Counter[Key]] = {}
    with closing(sqlite3.connect(folder / "primary.sqlite")) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                  if re.fullmatch(r"flows_[a-z]+_\d{6}", name)]
        for table in tables:
            for status, ccy, amount in db.execute(f"SELECT status, ccy, amount FROM {table} WHERE dr_cr = 'C'"):
                found.setdefault(ENTRY[status], Counter())[table.split("_")[1], ccy] += amount
    return found


def people(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "primary.sqlite")) as db:
        return int(db.execute("SELECT count(*) FROM abnormal_deposits WHERE status = 'OPEN'").fetchone()[0])


def shown(folder: Path, anchor: str) -> list[list[str]]:
    """The cells of a table of the page, without marks."""
    page = (folder / "report.html").read_text("utf-8")
    body = page.partition(f'id="{anchor}"')[2].partition("</section>")[0].partition("<tbody>")[2]
    return [[re.sub("<[^>]*>", "", cell) for cell in re.split("<td[^>]*>", row)[1:]]
            for row in body.partition("</table>")[0].split("<tr>")[1:]]


@pytest.mark.parametrize("name", KINDS)
def test_the_money_table_says_what_the_books_say(name: str) -> None:
    folder = folder_of(name)
    (book, states), kept = told(folder), entries(folder)
    rows = shown(folder, "books")
    assert KINDS[name] in {row[0] for row in rows}
    assert [row[:2] for row in rows] == sorted(row[:2] for row in rows)
    for bank, ccy, *amounts in rows:
        received, credited, waits, back, in_flight, to_reverse, difference = amounts
        key = bank, ccy
        assert received == show(sum(book.get(op, Counter())[key] for op in MONEY_IN)
                                - sum(book.get(op, Counter())[key] for op in MONEY_BACK)), key
        assert credited == show(states.get("end_ok", Counter())[key]), key
        assert difference == "0.00", key
        if bank in {bank for found in kept.values() for bank, _ in found}:
            nobodys = sum(kept.get(status, Counter())[key] for status in ENTRY if status not in (
                "MATCHED", "CREDITED", "VOID"))
            reversed_ = kept.get("ABNORMAL", Counter())[key] and states.get("end_reverse", Counter())[key]
            assert (waits, back) == (show(nobodys - reversed_), show(reversed_)), key
            assert (in_flight, to_reverse) == (show(kept.get("MATCHED", Counter())[key]), "0.00"), key


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_sound_run_shows_a_difference(name: str) -> None:
    for each in here(name).summary["books"]:
        assert (each["difference"], each["paid_difference"]) == (0, 0), each
    assert all("■" not in cell for anchor in ("books", "books-paid") for row in shown(folder_of(name), anchor)
               for cell in row)


def test_a_credit_that_the_bank_has_taken_back_is_to_be_reversed() -> None:
    """Bob has spent what Airstar refunded him: his credit stands."""
    assert shown(folder_of("refunded_after_credit"), "books") == [
        ["airstar", "HKD", "0.00", "20,000.00", "0.00", "0.00", "0.00", "-20,000.00", "0.00"]]


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_left_over_is_what_the_databases_hold(name: str) -> None:
    result, folder = here(name), folder_of(name)
    left, kept = result.summary["leftovers"], entries(folder)
    amounts = Counter[Key]()
    for each in left:
        amounts[each["bank"], each["ccy"]] += each["amount"]
    nobodys = sum((kept.get(status, Counter()) for status in ("NEW", "WINDOW_WAIT", "CANDIDATE", "ABNORMAL")),
                  Counter[Key]())
    assert amounts == nobodys
    assert sum(each["number"] for each in left if each["reason"]) == people(folder)
    waiting = Counter[Key]({(each["bank"], each["ccy"]): each["waiting"] + each["reversed"]
                            for each in result.summary["books"] if (each["bank"], each["ccy"]) in amounts})
    assert waiting == amounts
    assert ("unmatched" in verdict(result.summary).sentence or "abnormal" in verdict(result.summary).sentence) == bool(
        left)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_application_and_task_stands_in_the_summary_with_a_procedure_or_without(name: str) -> None:
    summary, folder = here(name).summary, folder_of(name)
    seen: dict[str, dict[str, tuple[str, bool]]] = {"apply": {}, "task": {}}
    for line in (folder / "events.jsonl").read_bytes().splitlines():
        _, _, kind, subject, data = json.loads(line)
        if kind in seen:
            had = seen[kind].get(subject, ("", False))[1]
            seen[kind][subject] = data["status"], had or data["procedure"] is not None
    for kind, key in (("apply", "applications"), ("task", "tasks")):
        alone = Counter("ended" if status in OVER[kind] else "open" for status, has in seen[kind].values() if not has)
        assert summary["without_procedure"][key] == alone


def test_an_application_rests_in_the_statuses_that_nothing_leaves() -> None:
    assert set(OVER["apply"]) == {one.name for one in ApplyStatus} - {"INIT", "WAIT_MATCH", "MATCHED", "CREDITING"}
    assert set(OVER["task"]) == {one.name for one in TaskStatus} - {"PENDING", "PROCESSING"}


NEVER_TOLD = """
name: never_told
title: A line that its bank never tells
start: 2026-03-12 09:00
end: 2026-03-13 12:00
seed: 1
customers:
  - {id: alice, at_bank: {HKD: "50,000"}, cards: [bochk]}
workload:
  - recorded:
      - {at: "10:10", deposit: {customer: alice, channel: bochk, ccy: HKD, amount: "10,000"}}
"""


def test_money_that_our_books_do_not_know_is_a_difference(tmp_path: Path) -> None:
    def plant(world: World) -> None:
        bank = world.receivers["bochk"].bank
        bank.strike(bank.receive("HKD", 70_000, payer_name="CHAN TAI MAN").seq)

    result = lived(tmp_path, NEVER_TOLD, plant)
    (row,) = [each for each in result.summary["books"] if each["bank"] == "bochk"]
    assert (row["received"], row["in_flight"], row["difference"]) == (1_070_000, 0, 70_000)
    assert shown(tmp_path / "run", "books")[0][-1] == "■ 700.00"


def test_what_no_statement_has_told_yet_is_in_flight(tmp_path: Path) -> None:
    early = NEVER_TOLD.replace("2026-03-13 12:00", "2026-03-12 10:11:30")
    result = lived(tmp_path, early.replace("customers:", "settings: {sim.deposit.after_s: [60, 60]}\ncustomers:"))
    assert [(row["received"], row["in_flight"], row["difference"]) for row in result.summary["books"]] == [
        (1_000_000, 1_000_000, 0)]
    assert result.summary["without_procedure"]["applications"] == {"open": 1}


def lived(folder: Path, text: str, plant: Any = None) -> RunResult:
    path = folder / "scenario.yaml"
    path.write_text(text)
    (folder / "run").mkdir()
    known = names()
    return Run(load(path, known), known, folder=folder / "run", tamper=plant).execute()
