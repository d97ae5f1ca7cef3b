"""`nostro emulate hsbc_eddi|hase_eddi`: real processes; `curl` asks, `openssl` signs and verifies, `sftp` fetches."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import run, sftp
from served import Process, emulator, refusal_of


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


class Client:
    """A broker of whom nothing is the project's. ``folder`` is its own."""

    def __init__(self, served: Process, folder: Path) -> None:
        self._served, self._folder = served, folder
        self.given, self.url = served.said["credentials"], served.said["addresses"]["api"]
        self._host, _, path = self.url.removeprefix("http://").partition("/")
        self._base = f"/{path}"
        self._number = 0

    def _run(self, *words: str, given: bytes = b"") -> bytes:
        return run(*words, folder=self._folder, given=given)

    def sign(self, method: str, path: str, body: bytes, **changed: Any) -> tuple[str, str]:
        """(number of the request, header with its detached JWS)."""
        self._number += 1
        jti = changed.get("jti", f"by-hand-{self._number}")
        head = {"alg": "RS256", "kid": self.given["broker_key_id"], "crit": ["htm", "htu", "iat", "jti"],
                "htm": method, "htu": self._base + path, "iat": self._served.get("/state")["clock"]["now_ms"] // 1_000,
                "jti": jti} | changed
        protected = base64url(json.dumps(head).encode())
        signature = self._run("openssl", "dgst", "-sha256", "-sign", self.given["broker_private_key"],
                              given=f"{protected}.{base64url(body)}".encode())
        return jti, f"X-JWS-Signature: {protected}..{base64url(signature)}"

    def send(self, method: str, path: str, header: str, body: bytes) -> tuple[int, bytes]:
        """(HTTP status, body of the answer)."""
        data = ("--data-binary", "@-", "-H", "Content-Type: application/json") if body else ()
        said = self._run("curl", "-sS", "-X", method, "-H", header, *data, "-w", "\n%{http_code}",
                         f"http://{self._host}{self._base}{path}", given=body)
        answer, _, status = said.rpartition(b"\n")
        return int(status), answer

    def ask(self, method: str, path: str, fields: dict[str, Any] | None = None, **changed: Any) -> tuple[int, Any]:
        """(HTTP status, what the bank has signed for this request). What is refused for its haste is asked again."""
        body = b"" if fields is None else json.dumps(fields).encode()
        for _ in range(100):
            jti, header = self.sign(method, path, body, **changed)
            status, answer = self.send(method, path, header, body)
            if status != 429:
                break
        return status, self.verified(answer, jti, status)

    def verified(self, answer: bytes, jti: str, status: int) -> Any:
        """What is in a compact JWS whose signature `openssl` has verified, made for this request."""
        head, payload, signature = answer.decode().split(".")
        (self._folder / "signature").write_bytes(unbase64url(signature))
        said = self._run("openssl", "dgst", "-sha256", "-verify", self.given["bank_public_key"], "-signature",
                         "signature", given=f"{head}.{payload}".encode())
        assert b"Verified OK" in said
        protected = json.loads(unbase64url(head))
        assert (protected["kid"], protected["sts"]) == (self.given["bank_key_id"], status)
        assert protected["jti"] in (jti, "-")
        return json.loads(unbase64url(payload))

    def authorise(self, reference: str = "EDDA0001", **changed: Any) -> tuple[int, Any]:
        return self.ask("POST", "/authorisations", {
            "reference": reference, "debtor_bank": self.given["bank_key_id"], "debtor_account": "6230000000000001",
            "debtor_name": "CHAN TAI MAN", "ccy": "HKD", "limit": "100000.00", "expiry": None} | changed)

    def debit(self, reference: str = "EDDI0001", amount: str = "250.50", sequence: int = 1, **changed: Any
              ) -> tuple[int, Any]:
        mandate = next(one["id"] for one in self._served.get("/authorisations")["authorisations"]
                       if one["customer"] == "chan" and one["status"] == "ACTIVE")
        return self.ask("POST", "/direct-debits", {
            "reference": reference, "sequence": sequence, "authorisation": mandate, "ccy": "HKD", "amount": amount,
        } | changed)


@pytest.fixture(scope="module", params=["hsbc", "hase"])
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with emulator(f"{request.param}_eddi", tmp_path_factory.mktemp("eddi")) as served:
        yield served


@pytest.fixture
def served(process: Process) -> Process:
    process.post("/reset", {"seed": 1, "start": "2026-03-12 09:00"})
    process.post("/clock", {"pause": True})
    return process


@pytest.fixture
def client(served: Process, tmp_path: Path) -> Client:
    return Client(served, tmp_path)


def mandate(served: Process, customer: str = "chan") -> dict[str, Any]:
    return dict(served.customer(customer)["mandates"][-1])


def test_a_client_made_by_hand_is_authorised_and_debits(served: Process, client: Client) -> None:
    status, asked = client.authorise()
    assert (status, asked["status"]) == (201, "PENDING")
    decided = served.post("/authorisations/EDDA0001", {"status": "ACTIVE"})
    assert (decided["id"], decided["customer"], decided["status"]) == (asked["id"], "chan", "ACTIVE")
    assert client.ask("GET", f"/authorisations/{asked['id']}")[1]["status"] == "ACTIVE"
    status, debit = client.debit()
    assert (status, debit["status"], debit["amount"]) == (201, "PROCESSING", "250.50")
    assert served.get("/truth/EDDI0001")["status"] == "PENDING"
    ended = served.post("/debits/EDDI0001", {"result": "SUCCESS"})
    assert (ended["id"], ended["status"], ended["truth"]) == (debit["id"], "SUCCESS", "SUCCESS")
    assert client.ask("GET", f"/direct-debits/{debit['id']}")[1]["status"] == "SUCCESS"
    assert served.customer("chan")["balances"]["HKD"] == "999749.50"
    state = served.get("/state")
    assert state["book"]["HKD"] == {"broker": "250.50", "customers": "1379749.50"} and state["debits"]["SUCCESS"] == 1
    [booked] = served.get("/book")["entries"]
    assert (booked["op"], booked["reference"], booked["amount"]) == ("collect", "EDDI0001", "250.50")
    assert served.get("/truth/EDDI0001")["status"] == "PAID"
    status, again = client.debit()
    assert (status, again["id"], again["reason"]) == (200, debit["id"], "DUPL")
    served.advance("2h")  # what was due later does not come any more
    assert served.get("/state")["movements"] == 1
    heard = [(one["message"], one["answer"]["status"]) for one in served.get("/journal")["entries"]
             if one["status"] in (200, 201)]
    assert heard == [("create_authorisation", "PENDING"), ("query_authorisation", "ACTIVE"),
                     ("create_debit", "PROCESSING"), ("query_debit", "SUCCESS"), ("create_debit", "SUCCESS")]


def test_without_a_decision_by_hand_the_debtor_bank_decides_in_its_time(served: Process, client: Client) -> None:
    client.authorise()
    client.debit()
    served.advance("30h")
    [earlier, *_, asked] = served.get("/authorisations")["authorisations"]
    assert earlier["customer"] == "chan" and asked["status"] in ("ACTIVE", "REJECTED")
    [debit] = served.get("/debits")["debits"]
    assert debit["status"] in ("SUCCESS", "FAILED") and debit["settled_at"] is not None


def test_the_back_office_lets_debits_fail_and_gives_them_back(served: Process, client: Client) -> None:
    for number, reference in enumerate(("EDDI0001", "EDDI0002"), 1):
        assert client.debit(reference, "100.00", number)[0] == 201
    assert client.debit("EDDI0003", "1000000.01", 3)[1]["code"] == "AM14"  # more than may be debited at once
    failed = served.post("/debits/EDDI0001", {"result": "FAILED", "reason": "AC04"})
    assert (failed["status"], failed["reason"]) == ("FAILED", "AC04")
    assert client.ask("GET", f"/direct-debits/{failed['id']}")[1]["reason"] == "AC04"
    served.post("/debits/EDDI0002", {"result": "SUCCESS"})
    assert served.post("/debits/EDDI0002", {"result": "RETURNED"})["status"] == "RETURNED"
    assert served.customer("chan")["balances"]["HKD"] == "1000000.00"
    assert [one["op"] for one in served.get("/book")["entries"]] == ["collect", "refund_collect"]
    assert served.get("/truth/EDDI0002")["status"] == "REFUNDED"


@pytest.mark.parametrize(("path", "body", "status", "says"), [
    ("/authorisations/X", {"status": "ACTIVE"}, 404, "no authorisation 'X'; the latest are: MD"),
    ("/authorisations/earlier-chan-0", {"status": "ACTIVE"}, 409, "is ACTIVE: it cannot become ACTIVE"),
    ("/authorisations/earlier-chan-0", {"status": "ACTIVE", "reason": "AC01"}, 422, "reason: ACTIVE has none: leave"),
    ("/authorisations/earlier-chan-0", {"status": "GONE"}, 422, "status: Input should be 'ACTIVE', 'REJECTED'"),
    ("/debits/X", {"result": "SUCCESS"}, 404, "no debit 'X'; the latest are: DD"),
    ("/debits/EDDI0001", {"result": "RETURNED"}, 409, "is PROCESSING: it cannot become RETURNED"),
    ("/debits/EDDI0001", {"result": "SUCCESS", "reason": "AM04"}, 422, "reason: SUCCESS has none: leave it out"),
    ("/debits/EDDI0001", {"result": "FAILED", "reason": "XX99"}, 422, "reason: Input should be"),
    ("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "1.00"}, 409, "begins with the broker: POST http://"),
    ("/withdrawals", {"customer": "chan", "ccy": "HKD", "amount": "1.00"}, 409, "only brings money to the broker"),
    ("/deposits", {"customer": "chan", "ccy": "USD", "amount": "1.00"}, 422, "keeps no USD: choose of HKD, CNH"),
    ("/agreements", {"customer": "chan", "action": "resume"}, 409, "resume is not possible: MD"),
    ("/agreements", {"customer": "ho", "action": "unsign"}, 409, "there is no authorisation"),
    ("/agreements", {"customer": "chan", "action": "unsign", "mandate": "X"}, 404, "chan has no 'X'"),
    ("/customers", {"id": "x", "name": "X", "balances": {"HKD": "1.00"}, "debtor_bank": "spd"}, 409,
     "debtor_bank: 'spd' is none of h"),
    ("/customers", {"id": "chan", "name": "X", "balances": {"HKD": "1.00"}}, 409, "choose another id or card_no")])
def test_what_cannot_be_is_refused_with_the_remedy(
    served: Process, client: Client, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    if "/debits" in path:
        client.debit()
    assert says in served.post(path, body, status)["error"]


def test_a_debit_that_has_ended_stays_so(served: Process, client: Client) -> None:
    client.debit()
    served.post("/debits/EDDI0001", {"result": "FAILED"})
    for result in ("SUCCESS", "FAILED", "RETURNED"):
        assert "is FAILED: it cannot become" in served.post("/debits/EDDI0001", {"result": result}, 409)["error"]


def test_a_result_that_does_not_show_is_shown_by_hand(served: Process, client: Client) -> None:
    served.post("/faults", {"fault": "result_missing", "params": {"count": 1}}, 201)
    _, debit = client.debit()
    served.advance("30h")
    [one] = served.get("/debits")["debits"]
    assert one["status"] == "PROCESSING" and one["truth"] in ("SUCCESS", "FAILED")
    assert served.post("/debits/EDDI0001", {"result": one["truth"]})["status"] == one["truth"]
    served.post("/clock", {"to": "2026-03-13 16:00"})
    assert client.ask("GET", f"/direct-debits/{debit['id']}")[1]["status"] == one["truth"]


def test_customers_sign_suspend_resume_and_end_an_authorisation(served: Process, client: Client) -> None:
    who = {"customer": "chan"}
    for action, status in (("suspend", "SUSPENDED"), ("resume", "ACTIVE"), ("unsign", "CANCELLED"), ("sign", "ACTIVE")):
        served.post("/agreements", {**who, "action": action})
        assert mandate(served)["status"] == status
    served.post("/agreements", {**who, "action": "suspend"})
    _, refused = client.ask("POST", "/direct-debits", {
        "reference": "EDDI0001", "sequence": 1, "authorisation": mandate(served)["id"], "ccy": "HKD", "amount": "1.00"})
    assert refused["code"] == "MD01"


def test_the_door_refuses_what_it_should(served: Process, client: Client, tmp_path: Path) -> None:
    assert client.ask("GET", "/direct-debits/DD1", jti="once")[1]["code"] == "NOT_FOUND"
    assert client.ask("GET", "/direct-debits/DD1", jti="once") == (
        401, {"code": "SIGNATURE", "message": "signature invalid"})
    now_s = served.get("/state")["clock"]["now_ms"] // 1_000
    assert client.ask("GET", "/direct-debits/DD1", iat=now_s - 301)[0] == 401
    assert client.ask("GET", "/direct-debits/DD1", htu="/elsewhere")[0] == 401
    assert client.ask("GET", "/direct-debits/DD1", kid="nobody")[0] == 401
    assert client.send("GET", "/direct-debits/DD1", "X-Nothing: 1", b"")[0] == 401
    run("openssl", "genpkey", "-algorithm", "RSA", "-out", "stranger.pem", folder=tmp_path)
    client.given = {**client.given, "broker_private_key": str(tmp_path / "stranger.pem")}
    assert client.ask("GET", "/direct-debits/DD1")[0] == 401
    client.given = served.said["credentials"]
    served.post("/clock", {"to": "2026-03-12 16:00"})
    assert client.debit()[1]["code"] == "EDDI_CLOSED"


def test_the_door_keeps_the_clients_time_while_the_banks_stands_still(served: Process, client: Client) -> None:
    """Of twelve at once HSBC takes four a second, and Hang Seng one after another: all answered at a paused clock."""
    before = served.get("/state")
    config = []
    for _ in range(12):
        _, header = client.sign("GET", "/direct-debits/DD1", b"")
        config += [f'url = "{client.url}/direct-debits/DD1"', f'header = "{header}"',
                   'write-out = "\\n%{http_code}\\n"', "silent", "next"]
    said = run("curl", "--parallel", "--parallel-immediate", "--config", "-", folder=client._folder,
               given="\n".join(config[:-1]).encode())
    statuses = [line for line in said.decode().splitlines() if line.isdigit()]
    busy = "429" if served.said["bank"] == "hsbc_eddi" else "409"
    assert len(statuses) == 12 and set(statuses) == {"404", busy}
    assert 1 <= statuses.count("404") <= (8 if busy == "429" else 3)  # they may fall into two seconds
    after = served.get("/state")
    assert after["refused_at_the_door"] - before["refused_at_the_door"] == statuses.count(busy)
    assert after["clock"] == before["clock"]


def test_faults_are_put_by_the_control_interface(served: Process, client: Client) -> None:
    served.post("/faults", {"fault": "fail_with", "params": {"reason": "AC04", "customer": "chan", "count": 1}}, 201)
    client.debit()
    served.advance("30h")
    assert served.get("/debits")["debits"][0]["reason"] == "AC04"
    served.post("/clock", {"to": "2026-03-13 15:30"})
    served.post("/faults", {"fault": "bad_signature", "params": {"count": 1}}, 201)
    with pytest.raises(AssertionError):
        client.ask("GET", "/direct-debits/DD1")
    assert ("report_late" in served.get("/faults")["table"]) is (served.said["bank"] == "hsbc_eddi")
    served.post("/faults", {"fault": "rate", "params": {"customer": "nobody"}}, 404)


def test_an_order_with_a_known_key_acts_once(served: Process, client: Client) -> None:
    client.debit()
    order = {"result": "SUCCESS"}
    assert served.post("/debits/EDDI0001", order, key="k") == served.post("/debits/EDDI0001", order, key="k")
    served.post("/debits/EDDI0001", order, 409)


def test_sftp_fetches_hsbcs_report(tmp_path: Path) -> None:
    with emulator("hsbc_eddi", tmp_path / "keys") as served:
        client, given = Client(served, tmp_path), served.said["credentials"]
        _, asked = client.authorise()
        served.post("/authorisations/EDDA0001", {"status": "REJECTED"})
        served.post("/agreements", {"customer": "lee", "action": "suspend"})
        served.post("/clock", {"to": "2026-03-12 18:20"})
        [name] = served.get("/state")["reports"]
        code, said = sftp(tmp_path, given["sftp_private_key"], given["known_hosts"], served.said["addresses"]["sftp"],
                          "ls -l", f"get {name}")
        assert code == 0 and name in said, said
        assert name == "HSBC_EDDA_20260312_182000.csv"
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [(row["mandate_ref"], row["status"], row["change_date"], row["reason"]) for row in rows] == [
            (asked["id"], "REJECTED", "2026-03-12", "AC01"),
            (served.customer("lee")["mandates"][0]["id"], "SUSPENDED", "2026-03-12", "")]
        heard = [one["message"] for one in served.get("/journal")["entries"]]
        assert heard[0] == "create_authorisation" and {"login", "list", "fetch"} <= set(heard)


def test_keys_are_kept_and_debtors_may_be_at_other_banks(tmp_path: Path) -> None:
    folder, file = tmp_path / "keys", tmp_path / "customers.yaml"
    file.write_text('customers: [{id: yip, name: YIP KA FAI, card_no: "88880001", debtor_bank: bochk, '
                    'balances: {HKD: "500.00"}, markets: []}]')
    with emulator("hase_eddi", folder, "--customers", str(file)) as served:
        first = {path.name: path.read_bytes() for path in folder.iterdir()}
        client = Client(served, tmp_path)
        _, asked = client.authorise(debtor_bank="bochk", debtor_account="88880001", debtor_name="YIP KA FAI")
        assert served.get("/authorisations")["authorisations"][-1]["customer"] == "yip"
        assert client.ask("GET", f"/authorisations/{asked['id']}")[1]["status"] == "PENDING"
        assert served.customer("yip")["debtor_bank"] == "bochk"
    with emulator("hase_eddi", folder) as served:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.key*"))
    assert "debtor_bank: only direct debit reaches other banks" in refusal_of(
        "dbs", "--port", "0", "--data", str(folder), "--customers", str(file))
