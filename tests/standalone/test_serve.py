"""`nostro serve`: core and banks in one paced process, driven over HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from served import PATIENCE_S, Process

SCENARIO = """
name: served
title: One customer, served
start: 2026-03-12 09:00
end: 2026-03-12 18:00
seed: 5
settings:
  sim.airstar.outcome.deposit: [[SUCCESS, 1.0]]
  sim.airstar.outcome.withdrawal: [[SUCCESS, 1.0]]
  sim.airstar.result.delay: [[1.0, 5.0, 5.0]]
  sim.cmb.outcome: [[0, 1.0]]
  sim.cmb.unknown.share: 0.0
customers:
  - {id: chan, cards: [airstar, cmb], balances: {HKD: 1000}, at_bank: {HKD: "9,000"}}
expect: []
"""


STATEMENTS = """
name: receiving
title: One customer at banks of statements and direct debit
start: 2026-03-12 09:00
end: 2026-03-12 18:00
seed: 5
customers:
  - {id: chan, cards: [hsbc, bochk, icbc, dbs, scb, ewb, hsbc_eddi, hase_eddi], balances: {HKD: 0},
     at_bank: {HKD: "9,000", USD: "9,000"}}
workload:
  - recorded:
      - {at: 17:50, deposit: {customer: chan, channel: hsbc, ccy: HKD, amount: 1}}
      - {at: 17:50, deposit: {customer: chan, channel: bochk, ccy: HKD, amount: 2}}
      - {at: 17:50, deposit: {customer: chan, channel: icbc, ccy: HKD, amount: 3}}
      - {at: 17:50, deposit: {customer: chan, channel: dbs, ccy: HKD, amount: 4}}
      - {at: 17:50, deposit: {customer: chan, channel: scb, ccy: HKD, amount: 5}}
      - {at: 17:50, deposit: {customer: chan, channel: ewb, market: US, ccy: USD, amount: 6}}
expect: []
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("serve") / "served.yaml", SCENARIO) as one:
        yield one


@pytest.fixture(scope="module")
def receiving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serving(tmp_path_factory.mktemp("serve") / "receiving.yaml", STATEMENTS) as one:
        yield one


@contextmanager
def serving(file: Path, scenario: str) -> Iterator[Process]:
    """A scenario, paused, on a free port; it ends with exit code 0 and says nothing besides."""
    file.write_text(scenario)
    command = [sys.executable, "-m", "api.cli", "serve", str(file), "--paused", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        one = Process(process, json.loads(line))
        yield one
        code, said, complained = one.stop(), process.stdout.read(), process.stderr.read()
        assert (code, said, complained) == (0, "", ""), complained
    finally:
        process.kill()
        process.communicate()


def events(served: Process, after: int, kind: str) -> list[dict[str, Any]]:
    return [event for event in served.get("/events", after=after)["events"] if event["kind"] == kind]


@pytest.mark.parametrize("channel", ["airstar", "cmb"])
def test_a_wish_becomes_money_at_both_ends(served: Process, channel: str) -> None:
    assert served.control.get("/health").text == "ok"
    for kind, by, op in (("deposit", "app", "collect"), ("withdrawal", "app", "pay"), ("deposit", "bank", "collect")):
        asked = {"kind": kind, "customer": "chan", "channel": channel, "ccy": "HKD", "amount": "100.00", "by": by}
        after = served.post("/wishes", asked, 202)["events_after"]
        served.advance("10m")
        booked = events(served, after, "bank.book")
        assert [(event["data"]["bank"], event["data"]["op"], event["data"]["amount"]) for event in booked] == [
            (channel, op, 10_000)]
        last = events(served, after, "procedure")[-1]
        assert last["data"]["to"].startswith("end_ok"), last
    assert served.control.get("/health").text == "ok"
    assert sum(served.get("/state")["procedures"]["cash_withdraw"].values()) >= 1


def test_banks_say_whether_they_are_connected(served: Process) -> None:
    banks = served.get("/state")["banks"]
    assert banks["cmb"]["line"] == {"connected": True, "active": "primary", "standing": ["primary"]}
    assert banks["airstar"]["open"] is True


def test_a_dropped_exit_server_is_left_for_the_other(served: Process) -> None:
    before = served.get("/state")["events"]
    put = served.post("/faults", {"fault": "cmb.drop", "for": "30m"}, 201)
    served.advance("1m")
    assert served.get("/state")["banks"]["cmb"]["line"]["active"] == "backup"
    told = [(event["data"]["rule"], event["data"]["phase"]) for event in events(served, before, "alert")]
    assert told[0] == ("SOCK-01", "raised")
    standing = [alert["rule"] for alert in served.get("/alerts")["alerts"]]
    assert ("SOCK-01" in standing) is (("SOCK-01", "cleared") not in told)
    assert served.delete(f"/faults/{put['id']}") == {"cleared": put["id"]}
    served.advance("20m")
    assert served.get("/state")["banks"]["cmb"]["line"]["active"] == "primary"


# --- banks of statements, and direct debit ----------------------------------------------------------------------------


def test_every_bank_of_the_run_is_told_of(receiving: Process) -> None:
    names = {"airstar", "hsbc", "bochk", "icbc", "dbs", "scb", "ewb", "hsbc_eddi", "hase_eddi"}
    assert set(receiving.said["banks"]) == names
    assert {name: bank["open"] for name, bank in receiving.get("/state")["banks"].items()} == dict.fromkeys(names, True)
    table = receiving.get("/faults")["table"]
    assert {name.partition(".")[0] for name in table} == names
    assert {name.partition(".")[2] for name in table if name.startswith("hase_eddi.")} < {
        name.partition(".")[2] for name in table if name.startswith("hsbc_eddi.")}  # only HSBC writes a report


@pytest.mark.parametrize("fault", ["hsbc.garbled", "bochk.timeout", "icbc.refund", "dbs.outage", "scb.nameless",
                                   "ewb.bad_row", "hsbc_eddi.timeout", "hase_eddi.timeout"])
def test_a_fault_of_any_bank_is_put_shown_and_ended(receiving: Process, fault: str) -> None:
    put = receiving.post("/faults", {"fault": fault, "for": "30m"}, 201)
    assert (put["fault"], put["active"]) == (fault.partition(".")[2], True)
    assert [one["id"] for one in receiving.get("/state")["faults"]] == [put["id"]]
    assert receiving.delete(f"/faults/{put['id']}") == {"cleared": put["id"]}
    assert receiving.get("/faults")["in_force"] == []


@pytest.mark.parametrize(("fault", "params", "status", "says"), [
    ("hsbc.nameless_", {}, 422, r"^fault: there is no 'hsbc.nameless_'"),
    ("dbs.nameless", {"customer": "nobody"}, 404, r"no customer 'nobody'; there are: chan"),
    ("hsbc_eddi.timeout", {"customer": "nobody"}, 404, r"no customer 'nobody'; there are: chan"),
    ("ewb.bad_row", {"customer": "chan"}, 422, r"^params: bad_row strikes every customer: leave customer out"),
    ("hsbc.sftp_down", {"customer": "chan"}, 422, r"^params: sftp_down strikes every customer: leave customer out")])
def test_a_fault_that_would_strike_nobody_or_others_is_refused(
    receiving: Process, fault: str, params: dict[str, Any], status: int, says: str
) -> None:
    error = receiving.post("/faults", {"fault": fault, "params": params}, status)["error"]
    assert re.search(says, error), error


def test_a_fault_strikes_what_a_customer_wishes_meanwhile(receiving: Process) -> None:
    """The transfer names nobody, in what the core has collected too."""
    put = receiving.post("/faults", {"fault": "dbs.nameless", "for": "8h"}, 201)
    wish = {"kind": "deposit", "customer": "chan", "channel": "dbs", "ccy": "HKD", "amount": "100.00", "by": "app"}
    after = receiving.post("/wishes", wish, 202)["events_after"]
    receiving.advance("20m")
    [booked] = events(receiving, after, "bank.book")
    [entry] = events(receiving, after, "statement")
    assert (entry["data"]["ref"], entry["data"]["named"]) == (booked["data"]["ref"], False)
    assert sum(receiving.get("/state")["banks"]["dbs"]["statements"].values()) == 1
    receiving.delete(f"/faults/{put['id']}")


# --- what is wrong ----------------------------------------------------------------------------------------------------


WISH = {"kind": "deposit", "customer": "chan", "channel": "airstar", "ccy": "HKD", "amount": "1.00"}
WRONG = [
    ("/wishes", WISH | {"customer": "nobody"}, 404, r"there are: chan"),
    ("/wishes", WISH | {"channel": "icbc_x"}, 422, r"^channel: .*airstar"),
    ("/wishes", WISH | {"channel": "icbc_x", "by": "bank"}, 422, r"^channel: .*begun at the bank.*airstar"),
    ("/wishes", WISH | {"ccy": "USD"}, 422, r"^ccy: market HK takes HKD"),
    ("/wishes", WISH | {"amount": "1.5"}, 422, r"^amount: "),
    ("/wishes", WISH | {"amout": "1.00"}, 422, r"^amout: is not known here: nearest: amount$"),
    ("/faults", {"fault": "cmb.slow", "params": {"customer": "nobody"}}, 404, r"no customer 'nobody'"),
    ("/faults", {"fault": "cmb.dropp"}, 422, r"nearest: cmb.*\.drop"),
    ("/clock", {"to": "2026-03-12 08:00"}, 422, r"backwards"),
]


@pytest.mark.parametrize(("path", "body", "status", "says"), WRONG)
def test_what_is_wrong_is_said_in_a_sentence(served: Process, path: str, body: Any, status: int, says: str) -> None:
    error = served.post(path, body, status)["error"]
    assert re.search(says, error), error


def test_a_repeated_key_wishes_once(served: Process) -> None:
    first = served.post("/wishes", WISH, 202, key="w1")
    assert served.post("/wishes", WISH, 202, key="w1") == first
    served.advance("10m")
    assert len(events(served, first["events_after"], "bank.book")) == 1


def test_the_end_of_the_scenario_pauses_it(served: Process) -> None:
    assert "18:00:00" in served.post("/clock", {"to": "2026-03-12 18:30"}, 409)["error"]
    state = served.get("/state")
    assert (state["ended"], state["broken"], state["clock"]["paused"]) == (True, False, True)
    served.advance("1h")  # it can be looked at further
    assert served.control.get("/health").text == "ok"


@pytest.mark.parametrize("options", [("--port", "{}"), ("--set", "standalone.serve.port={}")])
def test_a_port_in_use_is_refused(tmp_path: Path, served: Process, options: tuple[str, str]) -> None:
    file = tmp_path / "served.yaml"
    file.write_text(SCENARIO)
    port = served.said["control"].rpartition(":")[2]
    command = [sys.executable, "-m", "api.cli", "serve", str(file), *(option.format(port) for option in options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE_S, check=False)
    assert done.returncode == 2 and "in use" in done.stderr, done
