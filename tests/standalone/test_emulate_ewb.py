"""`nostro emulate ewb`: a real process; `curl` downloads its files, bai2 reads them, `nostro import` takes them."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bai2 import bai2 as foreign
from bai2.exceptions import IntegrityException
from programs import run
from served import Process, emulator

DAY, NEXT = "2026-03-12", "2026-03-13"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with emulator("ewb", tmp_path_factory.mktemp("ewb")) as served:
        yield served


@pytest.fixture
def served(process: Process) -> Process:
    process.post("/reset", {"seed": 1, "start": f"{DAY} 09:00"})
    process.post("/clock", {"pause": True})
    return process


def pay(served: Process, customer: str = "chan", amount: str = "250.50") -> str:
    return str(served.post("/deposits", {"customer": customer, "ccy": "USD", "amount": amount}, 201)["reference"])


def get(served: Process, name: str, folder: Path) -> bytes:
    return run("curl", "-sS", f"{served.said['addresses']['portal']}{name}", folder=folder)


def report(content: bytes) -> list[tuple[str, int, list[tuple[str, int, str]]]]:
    """(account, closing balance, wires) as the foreign reader finds them, all totals checked."""
    [group] = foreign.parse_from_string(content.decode(), check_integrity=True).children
    return [(account.header.customer_account_number, account.header.summary_items[0].amount,
             [(one.bank_reference, one.amount, one.text.lstrip(",")) for one in account.children])
            for account in group.children]


def test_curl_downloads_what_staff_would_and_import_takes_it(served: Process, tmp_path: Path) -> None:
    references = [pay(served), pay(served, "lee", "1000.00")]
    for name in (f"/{DAY}.csv", f"/{DAY}.bai2"):
        run("curl", "-sS", "-OJ", served.said["addresses"]["portal"] + name, folder=tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "EWB-20260312.csv").read_text(), newline="")))
    assert [(row["Account Number"], row["Reference"], row["Credit"], row["Balance"]) for row in rows] == [
        ("8600000001", references[0], "250.50", "250.50"), ("8600000001", references[1], "1000.00", "1250.50")]
    assert report((tmp_path / "EWB-20260312.bai").read_bytes()) == [("8600000001", 125_050, [
        (references[0], 25_050, "ORIG:CHAN TAI MAN"), (references[1], 100_000, "ORIG:LEE KA YAN")])]
    taken = json.loads(run(sys.executable, "-m", "api.cli", "import", "ewb", str(tmp_path / "EWB-20260312.csv"),
                           str(tmp_path / "EWB-20260312.bai"), "--data", str(tmp_path / "data"), "--json",
                           "--as-of", DAY,
                           folder=Path.cwd()))
    assert [(one["format"], one["accepted"], one["refused"]) for one in taken["files"]] == [
        ("CSV", 2, []), ("BAI2", 2, [])]
    assert served.get(f"/truth/{references[0]}")["status"] == "PAID"
    assert served.get("/state")["book"]["USD"] == {"broker": "1250.50", "customers": "228749.50"}
    assert [one["message"] for one in served.get("/journal")["entries"]] == ["csv", "bai2"]


def test_each_day_has_its_files_and_its_own_closing_balance(served: Process, tmp_path: Path) -> None:
    pay(served)
    served.post("/clock", {"to": f"{NEXT} 09:00"})
    pay(served, amount="100.00")
    days = json.loads(get(served, "", tmp_path))["days"]
    assert [day["day"] for day in days] == [DAY, NEXT] == served.get("/state")["days"]
    assert [report(get(served, f"/{day}.bai2", tmp_path))[0][1] for day in ("2026-03-11", DAY, NEXT)] == [
        0, 25_050, 35_050]
    assert [len(get(served, f"/{day}.csv", tmp_path).splitlines()) for day in ("2026-03-11", DAY, NEXT)] == [1, 2, 2]


@pytest.mark.parametrize(("name", "says"), [
    (f"/{NEXT}.csv", f"there is no {NEXT} yet: it is {DAY} at the bank"),
    (f"/{DAY}.pdf", f"there is no '{DAY}.pdf': ask for a day, such as /statements/{DAY}.csv or .bai2"),
    ("/2026-02-30.csv", f"there is no '2026-02-30.csv': ask for a day, such as /statements/{DAY}.csv or .bai2"),
    ("/a/b", "GET /statements/a/b: there is GET /statements and what that lists")])
def test_what_is_not_there_is_told(served: Process, tmp_path: Path, name: str, says: str) -> None:
    assert json.loads(get(served, name, tmp_path)) == {"error": says}


def test_faults_strike_the_next_file(served: Process, tmp_path: Path) -> None:
    pay(served)
    served.post("/faults", {"fault": "wrong_total", "params": {"count": 1}}, 201)
    with pytest.raises(IntegrityException):
        report(get(served, f"/{DAY}.bai2", tmp_path))
    assert len(report(get(served, f"/{DAY}.bai2", tmp_path))[0][2]) == 1
    served.post("/faults", {"fault": "bad_row", "params": {"count": 1}}, 201)
    assert ",,WIRE,," in get(served, f"/{DAY}.csv", tmp_path).decode()
    refused = served.post("/faults", {"fault": "bad_row", "params": {"customer": "chan"}}, 422)
    assert refused["error"] == "params: a file tells of all customers at once: leave customer out"


def test_only_dollars_are_kept(served: Process) -> None:
    order = {"customer": "chan", "ccy": "HKD", "amount": "1.00"}
    assert served.post("/deposits", order, 422)["error"] == "ccy: this bank keeps no HKD: choose of USD"
    order = {"customer": "wong", "ccy": "USD", "amount": "1.00"}
    assert served.post("/deposits", order, 409)["error"] == "wong has not that much USD"
