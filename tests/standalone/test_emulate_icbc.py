"""`nostro emulate icbc`: a real process; `curl` asks, `openssl` signs and verifies, lxml reads."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from lxml import etree
from served import PATIENCE_S, Process, emulator

from core.clock import hkt

XML = ('<?xml version="1.0" encoding="GBK"?><CMS><eb><pub><TransCode>{trans}</TransCode><CIS>{cis}</CIS>'
       "<BankCode>{bank}</BankCode><ID>{user}</ID><TranDate>{day}</TranDate><TranTime>{time}000</TranTime>"
       "<fSeqno>{package}</fSeqno></pub><in><AccNo>{account}</AccNo><CurrType>013</CurrType></in></eb></CMS>")


class Curl:
    """A client of one line of which nothing is the project's."""

    def __init__(self, served: Process, folder: Path, line: str = "line1") -> None:
        self._served, self._folder, self._line, self.address = served, folder, line, served.said["addresses"][line]
        self._given = served.said["credentials"]
        self._number = 0

    def _run(self, *command: str) -> bytes:
        done = subprocess.run(command, cwd=self._folder, capture_output=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def ask(self, trans: str = "QPD", *, signer: str = "", package: str = "", time: str = "") -> bytes:
        """The body of the answer."""
        given, stamp = self._given, hkt(self._served.get("/state")["clock"]["now_ms"]).strftime("%Y%m%d%H%M%S") + "000"
        self._number += 1
        user, package = given[f"{self._line}_user"], package or f"P{self._number}"
        stamp = time or stamp
        xml = XML.format(trans=trans, cis=given["cis"], bank=given["bank_code"], user=user, day=stamp[:8],
                         time=stamp[8:], package=package, account=given["account_hkd"])
        form = {"Version": "0.0.0.1", "TransCode": trans, "BankCode": given["bank_code"], "GroupCIS": given["cis"],
                "ID": user, "PackageID": package, "Cert": "", "reqData": xml}
        (self._folder / "form").write_text("&".join(f"{name}={quote_plus(text)}" for name, text in form.items()))
        self._run("openssl", "dgst", "-sha256", "-sign", given[f"{signer or self._line}_private_key"], "-out", "sign",
                  "form")
        signature = base64.b64encode((self._folder / "sign").read_bytes()).decode()
        url = f"{self.address}?userID={user}&PackageID={package}&SendTime={stamp}"
        return self._run("curl", "-sS", "--data-binary", "@form", "-H", f"X-ICBC-Sign: {signature}", url)

    def read(self, body: bytes) -> etree._Element:
        """The XML of an answer whose signature `openssl` has verified."""
        data, _, signature = body.removeprefix(b"reqData=").partition(b"&sign=")
        (self._folder / "xml").write_bytes(base64.b64decode(data))
        (self._folder / "sign").write_bytes(base64.b64decode(signature))
        said = self._run("openssl", "dgst", "-sha256", "-verify", self._given["bank_public_key"], "-signature", "sign",
                         "xml")
        assert b"Verified OK" in said
        return etree.fromstring((self._folder / "xml").read_bytes())


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with emulator("icbc", tmp_path_factory.mktemp("icbc")) as served:
        yield served


@pytest.fixture
def served(process: Process) -> Process:
    process.post("/reset", {"seed": 1, "start": "2026-03-12 09:00"})
    process.post("/clock", {"pause": True})
    return process


def test_curl_and_openssl_pull_a_statement_over_either_line(served: Process, tmp_path: Path) -> None:
    paid = served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "250.50"}, 201)
    one, two = Curl(served, tmp_path), Curl(served, tmp_path, "line2")
    served.advance("5s")
    root = one.read(one.ask())
    assert root.findtext("eb/pub/RetCode") == "0" and root.findtext("eb/out/TotalNum") == "1"
    [record] = root.findall("eb/out/rd")
    assert {child.tag: child.text for child in record} == {
        "Drcrf": "2", "SerialNo": paid["reference"], "Date": "20260312", "Time": "090000", "CurrType": "013",
        "CreditAmount": "25050", "DebitAmount": "0", "Balance": "25050", "RecipName": "CHAN TAI MAN",
        "RecipAccNo": "6230000000000001"}
    assert two.read(two.ask(package="Q1")).findall("eb/out/rd") == []  # line 2 is later
    served.advance("20s")
    assert len(two.read(two.ask(package="Q2")).findall("eb/out/rd")) == 1
    balance = one.read(one.ask("QACCBAL", package="Q3"))
    assert balance.findtext("eb/out/Balance") == "25050"
    assert served.get(f"/truth/{paid['reference']}")["status"] == "PAID"
    assert served.get("/state")["book"]["HKD"] == {"broker": "250.50", "customers": "1379749.50"}
    assert [entry["message"] for entry in served.get("/journal")["entries"]] == ["line1", "line2", "line2", "line1"]


def test_the_door_refuses_what_it_should(served: Process, tmp_path: Path) -> None:
    client = Curl(served, tmp_path)
    client.read(client.ask(package="once"))
    assert client.ask(package="once") == b"errorCode=B0005"
    assert client.ask(signer="line2") == b"errorCode=B0002"
    assert client.ask(time="20260312085459000") == b"errorCode=B0004"
    assert client.read(client.ask("PAYENT")).findtext("eb/pub/RetCode") == "B0006"
    other = Curl(served, tmp_path, "line2")
    other.address = client.address
    assert other.ask(package="R1") == b"errorCode=B0007"  # line 2's certificate on line 1
    served.post("/clock", {"to": "2026-03-12 23:51"})
    assert client.ask(package="R2") == b"errorCode=B0010"


def test_faults_are_put_by_the_control_interface(served: Process, tmp_path: Path) -> None:
    client = Curl(served, tmp_path)
    served.post("/faults", {"fault": "refund", "params": {"refund_s": 60.0, "count": 1}}, 201)
    served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "250.50"}, 201)
    served.advance("30s")
    assert len(client.read(client.ask()).findall("eb/out/rd")) == 1
    served.advance("1m")
    assert client.read(client.ask()).findall("eb/out/rd") == []
    assert served.customer("chan")["balances"]["HKD"] == "1000000.00"
    served.post("/faults", {"fault": "bad_signature", "params": {"message": "line1"}}, 201)
    with pytest.raises(AssertionError):
        client.read(client.ask())
    assert {"refund", "identical", "ghost", "late_push", "line_down"} <= set(json.loads(
        served.control.get("/faults").text)["table"])
