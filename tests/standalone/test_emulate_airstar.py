"""`nostro emulate airstar`: a real process on real ports."""

from __future__ import annotations

import json
import math
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from served import AirstarClient, Process, emulator, refusal_of

from api.emulate import emulate
from core.errors import Misconfigured
from emulators.standalone.customers import read_file

SURE = ("--set", "sim.airstar.outcome.deposit=[[SUCCESS, 1.0]]",
        "--set", "sim.airstar.result.delay=[[1.0, 60.0, 60.0]]")  # fmt: skip


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with emulator("airstar", tmp_path_factory.mktemp("airstar"), *SURE) as served:
        yield served


@pytest.fixture
def served(process: Process) -> Process:
    """One process for all tests of this file: each begins with a fresh bank."""
    process.post("/reset", {"seed": 1, "start": "2026-03-12 09:00"})
    process.post("/clock", {"pause": True})
    return process


@pytest.fixture
def client(served: Process) -> Iterator[AirstarClient]:
    made = AirstarClient(served)
    yield made
    made.http.close()


def test_a_client_deposits_with_the_key_that_was_made(served: Process, client: AirstarClient) -> None:
    reply = client.deposit("ASBBST000000001", "250.50")
    assert (reply.code, reply.data["status"]) == (0, "PENDING")
    assert served.get("/truth/ASBBST000000001")["status"] == "PENDING"
    served.advance("1m")
    assert client.ask("query_deposit", reply.data["request_id"]).data["status"] == "SUCCESS"
    assert served.customer("chan")["balances"]["HKD"] == "999749.50"
    assert served.get("/book")["entries"] == [{
        "n": 1, "booked_at": "2026-03-12 09:01:00.000", "op": "collect", "reference": "ASBBST000000001",
        "request_id": reply.data["request_id"], "customer": "chan", "ccy": "HKD", "amount": "250.50"}]
    assert served.get("/truth/ASBBST000000001") == {
        "reference": "ASBBST000000001", "status": "PAID", "request_id": reply.data["request_id"],
        "booked_at": "2026-03-12 09:01:00.000"}


def test_the_journal_shows_what_came_decoded(served: Process, client: AirstarClient) -> None:
    before = served.get("/journal")["last"]
    client.deposit("ASBBST000000001")
    assert client.http.get("/bst/v1/ping").status_code == 401  # not signed: entered all the same
    entries = served.get("/journal", after=before)["entries"]
    assert [(entry["n"], entry["message"], entry["status"]) for entry in entries] == [
        (before + 1, "deposit", 200), (before + 2, "ping", 401)]
    assert entries[0]["body"]["amount"] == "100.00"
    assert entries[0]["answer"]["data"]["status"] == "PENDING"
    assert entries[0]["at"].startswith("2026-03-12 09:00")
    assert [entry["n"] for entry in served.get("/journal", after=before, limit=1)["entries"]] == [before + 1]


def test_what_customers_begin_at_the_bank(served: Process, client: AirstarClient) -> None:
    deposit = served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "12.34"}, 201)
    withdrawal = served.post("/withdrawals", {"card_no": "6230000000000002", "ccy": "HKD", "amount": "5.00"}, 201)
    for direction, begun, amount in (("IN", deposit, "12.34"), ("OUT", withdrawal, "5.00")):
        query = {"direction": direction, "from": "0", "to": str(2**50)}
        (item,) = client.ask("bank_requests", query=query).data["items"]
        assert (item["request_id"], item["amount"], item["status"]) == (begun["reference"], amount, "NEW")
    assert client.ask("acknowledge", deposit["reference"], decision="ACCEPT", ref="ASBBST000000009").code == 0
    served.advance("2m")
    assert served.customer("chan")["balances"]["HKD"] == "999987.66"


def test_faults_strike_for_a_window_of_virtual_time(served: Process, client: AirstarClient) -> None:
    order = {"fault": "fail_with", "params": {"code": 140630016, "message": "deposit"}, "for": "10m"}
    put = served.post("/faults", order, 201)
    assert (put["fault"], put["active"], put["params"]["for_s"]) == ("fail_with", True, 600.0)
    assert client.deposit("ASBBST000000001").code == 140630016
    served.advance("10m")
    assert served.get("/faults")["in_force"] == []
    assert client.deposit("ASBBST000000001").code == 0

    order = {"fault": "outage", "params": {"answer": "maintenance"}, "until": "2026-03-12 12:00"}
    put = served.post("/faults", order, 201)
    assert put["params"]["for_s"] == 2.0 * 3600 + 50 * 60
    assert client.ask("ping").code == 140630020
    assert served.delete(f"/faults/{put['id']}") == {"cleared": put["id"]}
    assert client.ask("ping").code == 0
    assert "none" in served.delete(f"/faults/{put['id']}", 404)["error"]


def test_a_silent_bank_holds_the_line_until_the_client_gives_up(served: Process, client: AirstarClient) -> None:
    served.post("/faults", {"fault": "timeout", "params": {"count": 1, "message": "deposit"}}, 201)
    with pytest.raises(httpx.ReadTimeout):
        client.ask("deposit", bank_ref_id="ASBBST000000001", mandate_id="AM000000000001", market=1, ccy="HKD",
                   amount="1.00", timeout_s=0.3)
    served.advance("2m")
    assert served.get("/truth/ASBBST000000001")["status"] == "PAID"
    assert client.deposit("ASBBST000000001", "1.00").code == 140630003


def test_the_clock_obeys(served: Process, client: AirstarClient) -> None:
    def time() -> str:
        return str(served.get("/state")["clock"]["virtual_time"])

    assert time() == time() == "2026-03-12 09:00:00.000"
    served.post("/clock", {"to": "2026-03-12 16:00"})
    assert time() == "2026-03-12 16:00:00.000"
    reference = client.deposit("ASBBST000000001").data["request_id"]
    served.post("/clock", {"next_event": True})
    assert time() == "2026-03-12 16:01:00.000"
    assert client.ask("query_deposit", reference).data["status"] == "SUCCESS"
    served.post("/clock", {"to": "2026-03-12 22:00"})
    assert client.deposit("ASBBST000000002").code == 140630010  # the bank has closed
    assert served.post("/clock", {"speed": 30})["paused"] is False
    assert served.post("/clock", {"pause": True})["speed"] == 0
    assert served.post("/clock", {"resume": True})["speed"] == 30


def test_a_running_clock_gives_results_by_itself(served: Process, client: AirstarClient) -> None:
    reference = client.deposit("ASBBST000000001").data["request_id"]
    served.post("/clock", {"speed": 3_600})
    while client.ask("query_deposit", reference).data["status"] in ("PENDING", "PROCESSING"):
        assert served.get("/state")["clock"]["virtual_time"] < "2026-03-12 10:00"
    assert served.get("/truth/ASBBST000000001")["status"] == "PAID"


def test_connections_outlive_fast_and_paused_clocks(served: Process, client: AirstarClient) -> None:
    assert client.ask("ping").code == 0
    connections = served.get("/state")["connections"]
    served.advance("3h")
    served.post("/clock", {"speed": 100_000})
    assert client.ask("ping").code in (0, 140630002)  # the clock may have run away from the signature
    served.post("/clock", {"pause": True})
    assert client.ask("ping").code in (0, 140630020)
    assert served.get("/state")["connections"] == connections == {"api": 1}


def test_a_reset_gives_a_fresh_bank_with_the_same_keys(served: Process, client: AirstarClient) -> None:
    client.deposit("ASBBST000000001")
    served.post("/customers", {"id": "new", "name": "NEW MAN", "balances": {"HKD": "1.00"}}, 201)
    served.advance("1h")
    state = served.post("/reset", {"seed": 7, "start": "2026-03-13 10:00"})
    assert (state["seed"], state["clock"]["virtual_time"]) == (7, "2026-03-13 10:00:00.000")
    assert state["book"] == served.post("/reset", {"seed": 7})["book"]
    assert [one["id"] for one in state["customers"]] == ["chan", "wong", "lee", "ho"]
    assert served.get("/truth/ASBBST000000001")["status"] == "NOT_RECEIVED"
    assert state["addresses"] == served.said["addresses"]
    assert client.deposit("ASBBST000000001").code == 0  # the same key, on a new connection


def test_mandates_are_signed_suspended_and_ended_at_the_bank(served: Process, client: AirstarClient) -> None:
    whose = {"customer": "chan"}
    served.post("/agreements", whose | {"action": "suspend"})
    assert client.deposit("ASBBST000000001").code == 140630005
    assert "no open mandate" in served.post("/deposits", whose | {"ccy": "HKD", "amount": "1.00"}, 409)["error"]
    shown = served.post("/agreements", whose | {"action": "resume", "mandate": "AM000000000001"})
    assert shown["mandates"] == [{"id": "AM000000000001", "status": "OPEN", "markets": ["HK", "US", "HKCC"]}]
    shown = served.post("/agreements", {"customer": "ho", "action": "sign", "markets": ["US"]})
    assert [(one["status"], one["markets"]) for one in shown["mandates"]] == [("OPEN", ["US"])]
    served.post("/agreements", whose | {"action": "unsign"})
    assert "CLOSED" in served.post("/agreements", whose | {"action": "unsign"}, 409)["error"]


def test_a_new_customer_can_be_used_at_once(served: Process, client: AirstarClient) -> None:
    made = served.post("/customers", {
        "id": "new", "name": "NEW MAN", "id_no_hash": "abc", "balances": {"HKD": "500.00"}, "markets": []}, 201)
    asked = client.ask("create_mandate", client_ref="REF1", card_no=made["card_no"], name="NEW MAN", id_no_hash="abc",
                       markets=[1])  # fmt: skip
    assert asked.code == 0
    served.advance("5m")
    assert client.deposit("ASBBST000000001", "500.00", asked.data["mandate_id"]).code in (0, 140630005)  # 2 % fail


def test_a_repeated_key_acts_once(served: Process) -> None:
    body = {"customer": "chan", "ccy": "HKD", "amount": "1.00"}
    first = served.post("/deposits", body, 201, key="k1")
    assert served.post("/deposits", body, 201, key="k1") == first
    assert served.post("/deposits", body, 201, key="k2") != first
    assert "Idempotency-Key" in served.post("/withdrawals", body, 409, key="k1")["error"]
    assert served.get("/state")["requests"] == 2
    wrong = served.post("/deposits", body | {"ccy": "EUR"}, 422, key="k3")
    assert served.post("/deposits", body | {"ccy": "EUR"}, 422, key="k3") == wrong
    served.post("/reset")
    assert served.post("/deposits", body, 201, key="k1") == first  # a fresh bank, acted anew: its first request again


MOVE = {"customer": "chan", "ccy": "HKD", "amount": "1.00"}
WRONG = [
    ("/deposits", MOVE | {"amount": "1.5"}, 422, r"amount: .*two decimals"),
    ("/deposits", MOVE | {"amount": -1}, 422, r"amount: .*two decimals"),
    ("/deposits", MOVE | {"amount": True}, 422, r"amount: .*two decimals"),
    ("/deposits", MOVE | {"amount": 10**15}, 422, r"amount: .*two decimals"),
    ("/deposits", MOVE | {"amount": 0}, 422, r"amount: .*at least '0\.01'"),
    ("/deposits", MOVE | {"amout": "1.00"}, 422, r"^amout: is not known here: nearest: amount$"),
    ("/faults", {"fault": "slow", "with": {}}, 422, r"^with: is not known here: there are fault, params, for, "),
    ("/clock", {"sped": 1}, 422, r"^sped: is not known here: nearest: speed$"),
    ("/reset", {"sead": 1}, 422, r"^sead: is not known here: nearest: seed"),
    ("/deposits", MOVE | {"amount": 1.5}, 422, r"amount: .*two decimals"),
    ("/deposits", MOVE | {"amount": "0.00"}, 422, r"amount: .*at least '0\.01'"),
    ("/deposits", MOVE | {"ccy": "EUR"}, 422, r"ccy: .*HKD"),
    ("/deposits", MOVE | {"market": "JP"}, 422, r"market: .*HKCC"),
    ("/deposits", MOVE | {"card_no": "1"}, 422, r"either customer or card_no"),
    ("/deposits", MOVE | {"more": 1}, 422, r"more: is not known"),
    ("/deposits", {"ccy": "HKD"}, 422, r"amount: is missing"),
    ("/deposits", MOVE | {"customer": "nobody"}, 404, r"no customer 'nobody'; there are: chan, wong"),
    ("/deposits", MOVE | {"customer": "wong", "amount": "50000.01"}, 409, r"insufficient customer balance"),
    ("/deposits", MOVE | {"mandate": "AM9"}, 404, r"AM000000000001"),
    ("/deposits", None, 422, r"body: .*application/json"),
    ("/customers", {"id": "x y", "name": "N", "balances": {"HKD": "1.00"}}, 422, r"^id: "),
    ("/customers", {"id": "x", "name": "N", "balances": {"EUR": "1.00"}}, 422, r"balances\.EUR"),
    ("/customers", {"id": "x", "name": "N", "balances": {}}, 422, r"^balances: "),
    ("/customers", {"id": "chan", "name": "N", "balances": {"HKD": "1.00"}}, 409, r"choose another id"),
    ("/faults", {"fault": "time_out"}, 422, r"^fault: .*nearest: timeout"),
    ("/faults", {"fault": "qqq"}, 422, r"^fault: .*GET /faults"),
    ("/faults", {"fault": "timeout", "params": {"delay": 1}}, 422, r"^params: .*'delay'.*processed"),
    ("/faults", {"fault": "slow", "params": {"delay_s": -1}}, 422, r"^params: .*delay_s cannot be -1"),
    ("/faults", {"fault": "slow", "params": {"message": ["deposit"]}}, 422, r"^params: .*message cannot be"),
    ("/faults", {"fault": "fail_with", "params": {"code": []}}, 422, r"^params: .*code cannot be"),
    ("/faults", {"fault": "slow", "params": {"customer": "nobody"}}, 404, r"no customer 'nobody'; there are: chan"),
    ("/faults", {"fault": "slow", "params": {"customer": 5}}, 422, r"^params: .*customer cannot be 5"),
    ("/faults", {"fault": "slow", "params": {"for_s": 5}, "for": "1m"}, 422, r"^params: for_s is given beside for"),
    ("/faults", {"fault": "slow", "for": "0s"}, 422, r"^for: .*longer"),
    ("/faults", {"fault": "slow", "for": "ten minutes"}, 422, r"for: .*'1h30m'"),
    ("/faults", {"fault": "slow", "for": "1m", "until": "2026-03-12 10:00"}, 422, r"until: .*not both"),
    ("/faults", {"fault": "slow", "until": "2026-03-12 08:00"}, 422, r"until: .*later"),
    ("/clock", {}, 422, r"exactly one of speed, pause"),
    ("/clock", {"speed": 1, "pause": True}, 422, r"exactly one"),
    ("/clock", {"speed": -1}, 422, r"^speed: "),
    ("/clock", {"speed": 1e9}, 422, r"^speed: .*advance"),
    ("/clock", {"advance": "90"}, 422, r"^advance: "),
    ("/clock", {"advance": "40d"}, 422, r"^advance: at most 31 days"),
    ("/clock", {"to": "2026-03-12 08:00"}, 422, r"^to: .*backwards"),
    ("/clock", {"to": "tomorrow"}, 422, r"^to: .*'2026-03-12 16:00'"),
    ("/reset", {"seed": -1}, 422, r"^seed: "),
    ("/reset", {"start": "1999-01-04 09:00"}, 422, r"^start: 1999-01-04 09:00.*outside the loaded years"),
    ("/reset", {"start": "1900-01-01 00:00"}, 422, r"^start: '1900-01-01 00:00' is too long ago: .* 1970-01-01"),
    ("/reset", {"start": "0001-01-01 00:00"}, 422, r"^start: .*too long ago"),
    ("/reset", {"start": "9999-12-31 23:59"}, 422, r"^start: .*too far ahead"),
    ("/reset", {"start": "9998-12-31 23:59"}, 422, r"^start: 9998-12-31 .*outside the loaded years"),
    ("/reset", {"start": "1900-01-01"}, 422, r"^start: '1900-01-01' is no moment"),
    ("/agreements", {"customer": "chan", "action": "burn"}, 422, r"^action: "),
    ("/deposits", [], 422, r"body: this is no object.*application/json"),
    ("/nothing", {}, 404, r"GET / lists"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "says"), WRONG)
def test_what_is_wrong_is_said_in_a_sentence(
    served: Process, path: str, body: object, status: int, says: str
) -> None:
    error = served.post(path, body, status)["error"]
    assert re.search(says, error), error
    assert served.get("/state")["clock"]["virtual_time"] == "2026-03-12 09:00:00.000"


def test_the_state_shows_everything_and_the_interface_describes_itself(served: Process) -> None:
    state = served.get("/state")
    assert state["clock"] == {"virtual_time": "2026-03-12 09:00:00.000", "now_ms": 1_773_277_200_000, "speed": 0.0,
                              "paused": True}
    assert state["book"]["HKD"] == {"broker": "500000000.00", "customers": "1380000.00"}
    assert (state["open"], state["faults"], state["movements"]) == (True, [], 0)
    paths = served.get("/openapi.json")["paths"]
    for path in ("/state", "/customers", "/deposits", "/withdrawals", "/agreements", "/faults", "/clock", "/reset",
                 "/journal", "/truth/{reference}", "/book"):
        assert path in paths
    fault = served.get("/faults")["table"]["slow"]
    assert fault["parameters"]["delay_s"] == {"default": 5.0, "meaning": "seconds added to the answer"}
    assert "customer" in fault["parameters"]


def test_the_interface_lists_what_there_is(served: Process) -> None:
    told = served.control.get("/").text
    for method, path in (("GET", "/state"), ("POST", "/clock"), ("DELETE", "/faults/{fault_id}")):
        assert re.search(rf"^{method} +{re.escape(path)} +[A-Z]", told, re.MULTILINE), told
    assert served.get("/nothing", 404)["error"].endswith("GET / lists what there is")


def test_keys_stay_and_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        with emulator("airstar", tmp_path) as served:
            path = Path(served.said["credentials"]["app_private_key"])
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            keys.append(path.read_bytes())
            public = Path(served.said["credentials"]["app_public_key"])
            assert load_pem_public_key(public.read_bytes())
        public.unlink()  # it is written again from the private one
    assert keys[0] == keys[1]
    subprocess.run(["openssl", "rsa", "-in", str(path), "-check", "-noout"], check=True, capture_output=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("speed", ["0", "60"])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: int, speed: str) -> None:
    with emulator("airstar", tmp_path, "--speed", speed) as served:
        client = AirstarClient(served)
        client.ask("ping")
        assert served.stop(number) == 0
        client.http.close()
        served.process.poll = lambda: None  # type: ignore[method-assign] # it has ended, as it was to


def test_customers_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "customers.yaml"
    file.write_text("customers:\n- {id: solo, name: SOLO, card_no: '12345678', balances: {USD: '7.50'}}\n")
    with emulator("airstar", tmp_path, "--customers", str(file)) as served:
        (only,) = served.said["customers"]
        assert (only["id"], only["balances"], only["card_no"]) == ("solo", {"USD": "7.50"}, "12345678")


BAD_FILES = [
    ("customers:\n- {id: a, name: A, balances: {HKD: 7.50}}\n", r"customer 1: balances\.HKD: .*in quotes"),
    ("customers:\n- {id: a, balances: {HKD: '7.50'}}\n", r"customer 1: name: is missing"),
    ("customers: []\n", r"no customers .*customers:"),
    ("customers: [\n", r":2:1: this is not YAML"),
    ("- 1\n", r"no customers"),
]


@pytest.mark.parametrize(("text", "says"), BAD_FILES)
def test_a_bad_customers_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "customers.yaml"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=re.escape(str(file))) as refused:
        read_file(file)
    assert re.search(says, str(refused.value), re.DOTALL)


@pytest.mark.parametrize("option", ["--port", "--control-port"])
def test_a_port_in_use_is_refused(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        error = refusal_of("airstar", "--port", "0", option, port, "--data", str(tmp_path))
    assert re.search(rf"cannot listen on 127\.0\.0\.1:{port}: .*in use.*--port", error), error


WRONG_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"bank": "hbsc"}, r"no emulated bank 'hbsc'.*airstar, cmb, cmbc"),
    ({"port": 99_999}, r"99999 is no port"),
    ({"speed": math.inf}, r"--speed"),
    ({"speed": math.nan}, r"--speed"),
    ({"start": "noon"}, r"--start: 'noon'.*now"),
    ({"start": "1999-01-01 00:00"}, r"1999"),
    ({"bank": "cmb", "port": 20_000, "control_port": 20_002}, r"one of the bank's ports 20000 to 20002"),
    ({"overlay": {"standalone.sped": 1}}, r"standalone\.speed"),
    ({"bank": "cmb", "port": 65_534}, r"--port: cmb has 3 ports.*at most 65533"),
    ({"port": 65_530}, r"--port: 65539, the control port.*--control-port"),
    ({"data": Path(__file__)}, r"--data: .* is no folder"),
    ({"host": "203.0.113.1", "port": 0}, r"cannot listen on 203\.0\.113\.1:0: Cannot assign"),
    ({"customers": [{}, {}]}, r"customers: customer twice .*choose another id"),
    ({"bank": "cmbc", "customers": [{"balances": {"CNH": "1.00"}}]}, r"customers: twice: cmbc keeps no CNH"),
]


@pytest.mark.parametrize(("given", "says"), WRONG_OPTIONS)
def test_wrong_options_are_refused_with_a_sentence(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    usual: dict[str, Any] = {
        "bank": "airstar", "host": None, "port": None, "control_port": None, "speed": None, "seed": 1, "data": tmp_path,
        "start": None, "customers": None, "always_open": False, "overlay": {}, "as_json": True}
    if "customers" in given:
        rows = [{"id": "twice", "name": "ONE", "balances": {"HKD": "1.00"}} | row for row in given["customers"]]
        (tmp_path / "c.yaml").write_text(json.dumps({"customers": rows}))
        given = given | {"port": 0, "customers": tmp_path / "c.yaml"}
    with pytest.raises(Misconfigured, match=says):
        emulate(**usual | given)


def test_the_command_line_loads_no_server_before_it_serves() -> None:
    code = "import api.cli, sys; sys.exit(any(name in sys.modules for name in ('fastapi', 'uvicorn', 'starlette')))"
    subprocess.run([sys.executable, "-c", code], check=True)
