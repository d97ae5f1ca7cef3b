"""`nostro emulate bochk`: a real process, reached by `curl` over HTTP and FTP; lxml writes and reads its documents."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree
from served import PATIENCE_S, Process, emulator

DOCUMENT = ("<BOCHKE2B><Head><PackageId>{package:017d}</PackageId><CBSAcctNo>{account}</CBSAcctNo>"
            "<UserId>{user}</UserId>{password}<ECertName>{cert}</ECertName>{cert_password}{token}</Head><Tx><{name}REQ>"
            '<Requests noOfRecord="1"><Record>{record}</Record></Requests></{name}REQ></Tx></BOCHKE2B>')


class Curl:
    """A client of which nothing is the project's."""

    def __init__(self, served: Process) -> None:
        self._said, self._given = served.said, served.said["credentials"]
        self._secrets = json.loads(Path(self._given["secrets"]).read_text())
        self._number, self.token = 0, ""

    def _run(self, *command: str, body: bytes = b"", code: int = 0) -> bytes:
        done = subprocess.run(["curl", "-sS", *command], input=body, capture_output=True, timeout=PATIENCE_S,
                              check=False)
        assert done.returncode == code, done.stderr.decode()
        return done.stdout

    def post(self, body: bytes) -> etree._Element:
        return etree.fromstring(self._run("--data-binary", "@-", self._said["addresses"]["b2e"], body=body))

    def ask(self, name: str, password: str | None = None, **fields: str) -> etree._Element:
        self._number += 1
        secret = self._secrets["password"] if password is None else password
        first = name == "SignOn"
        return self.post(DOCUMENT.format(
            package=self._number, account=self._given["account_hkd"], user=self._given["user_id"],
            cert=self._given["cert_name"], name=name, token="" if first else f"<Token>{self.token}</Token>",
            password=f"<Password>{secret}</Password>" if first else "",
            cert_password=f"<ECertPwd>{self._secrets['cert_password']}</ECertPwd>" if first else "",
            record="".join(f"<{tag}>{text}</{tag}>" for tag, text in fields.items())).encode())

    def sign_on(self) -> None:
        answer = self.ask("SignOn", custId=self._given["cust_id"], ts="20260312090000")
        self.token = str(answer.findtext("Tx/SignOnRES/Responses/Record/token"))

    def ftp(self, path: str = "", code: int = 0) -> bytes:
        user = f"{self._given['ftp_user']}:{self._secrets['ftp_password']}"
        return self._run("--user", user, f"{self._said['addresses']['ftp']}/{path}", code=code)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with emulator("bochk", tmp_path_factory.mktemp("bochk")) as served:
        yield served


@pytest.fixture
def served(process: Process) -> Process:
    process.post("/reset", {"seed": 1, "start": "2026-03-12 09:00"})
    process.post("/clock", {"pause": True})
    return process


def test_curl_pulls_a_statement_and_its_report(served: Process) -> None:
    paid = served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "250.50"}, 201)
    served.advance("2m")
    client = Curl(served)
    client.sign_on()
    given = served.said["credentials"]
    answer = client.ask("AcctActivity", acctNo=given["account_hkd"], ccy="HKD", date="20260312", seq="0")
    assert answer.findtext("Head/RetCode") == "0000"
    [record] = answer.findall("Tx/AcctActivityRES/Responses/Record")
    assert [record.findtext(tag) for tag in ("seq_no", "amount", "drCr")] == ["0000000001", "250.50", "C"]
    assert paid["reference"] == "BE26C000000000001"
    assert client.ftp() == b""
    served.advance("50m")
    name = f"AGS{given['account_hkd']}UC03.TXT"
    listed = client.ftp().decode().splitlines()
    assert {line.split()[-1] for line in listed} == {
        f"AGS{number}UC03.TXT" for key, number in given.items() if key.startswith("account_")}
    assert all(" Mar 12 09:" in line for line in listed)
    head, told, trailer = client.ftp(name).decode().splitlines()
    assert head.startswith(f"H|S16|{given['account_hkd']}|20260312|03|")
    assert told.split("|")[:2] == ["D", "BE26C000000000001"] and "|CHAN TAI MAN|6230000000000001|" in told
    assert trailer == "T|1|250.50|0.00"
    assert client.ftp("none.TXT", code=78) == b""
    assert name in served.get("/state")["files"]
    assert [entry["message"] for entry in served.get("/journal")["entries"]] == ["B2E", "B2E"]


def test_the_door_refuses_what_it_should(served: Process) -> None:
    client = Curl(served)
    assert client.ask("SignOn", "wrong", custId="NOSTRO01", ts="20260312090000").findtext("Head/RetCode") == "0004"
    account = served.said["credentials"]["account_hkd"]
    assert client.ask("TodayActivity", acctNo=account, ccy="HKD", fromSeq="0").findtext("Head/RetCode") == "0001"
    for document in (b"<x/>", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><BOCHKE2B>&e;</BOCHKE2B>'):
        assert client.post(document).findtext("Head/RetCode") == "0004"
    served.advance("11h")
    assert client.ftp(code=28) == b""  # 421 after 20:00: to curl a timeout


def test_faults_by_the_control_interface(served: Process) -> None:
    client = Curl(served)
    client.sign_on()
    account = served.said["credentials"]["account_hkd"]
    served.post("/faults", {"fault": "expired_session", "params": {"count": 1}}, 201)
    ask = {"acctNo": account, "ccy": "HKD", "fromSeq": "0"}
    assert client.ask("TodayActivity", **ask).findtext("Head/RetCode") == "0001"
    client.sign_on()
    assert client.ask("TodayActivity", **ask).findtext("Head/RetCode") == "0002"
