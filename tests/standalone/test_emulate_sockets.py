"""`nostro emulate cmb|cmbc`: a real process on real ports, our codec and the keys that it made."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import PATIENCE_S, Process, emulator, refusal_of

from core.banks.socket.line import Line, SocketDialer, Unreachable
from core.clock import hkt
from core.wire.sm2 import FastSm2, private_from_pem, public_from_pem
from core.wire.socket import CMB, CMBC, BrokerIdentity, Flavour, FrameType, Party, RefusedMessage, TransferState
from core.wire.socket import messages as m
from core.wire.socket.day_list import ListQuery, decode_list, sign_query, target_of

SM2 = FastSm2()
FLAVOURS = {"cmb": CMB, "cmbc": CMBC}
FOREIGN = Path(__file__).parents[1] / "foreign" / "socket_client.py"
CARD = "6230000000000001"


def sure(bank: str) -> list[str]:
    given = [f"sim.{bank}.outcome=[[0, 1.0]]", f"sim.{bank}.unknown.share=0.0"]
    return [part for setting in given for part in ("--set", setting)]


@pytest.fixture(scope="module", params=["cmb", "cmbc"])
def process(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with emulator(request.param, tmp_path_factory.mktemp(request.param), *sure(request.param)) as served:
        yield served


@pytest.fixture
def served(process: Process) -> Process:
    process.post("/reset", {"seed": 1, "start": "2026-03-12 09:00"})
    process.post("/clock", {"pause": True})
    return process


class Broker:
    """The broker's end of one line: acknowledges pushes and answers heartbeats."""

    def __init__(self, served: Process) -> None:
        self._served, given = served, served.said["credentials"]
        self.flavour: Flavour = FLAVOURS[served.said["bank"]]
        self.bank, self.name, self.serial = given["bank_name"], given["broker"], given["certificate_serial"]
        self.private = private_from_pem(Path(given["broker_private_key"]).read_text()).private
        self.bank_public = public_from_pem(Path(given["bank_public_key"]).read_text())
        assert self.bank_public.hex() == given["bank_public_point"]
        self.pushes: list[m.Body] = []
        self.over = ""
        self._answers: dict[str, asyncio.Future[m.Body]] = {}
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._numbers = count(1)
        self._line: Line

    async def connect(self, server: str = "primary") -> None:
        identity = BrokerIdentity(self.name, self.serial, self.private, self.bank_public)
        dial = SocketDialer(self.flavour, identity, SM2, os.urandom, handshake_wait_s=PATIENCE_S)
        self._line = await dial(self._served.said["addresses"][server], self)

    async def sign_on(self, server: str = "primary") -> None:
        await self.connect(server)
        assert await self.ask(m.SIGN_ON, m.SignOn("20260312", 0)) == m.Answer(0)

    async def ask(self, command: str, body: m.Body) -> m.Body:
        stamp = self._stamp()
        answer = self._answers[stamp.ref] = asyncio.get_running_loop().create_future()
        self._line.send(m.compose(command, FrameType.REQUEST, body, stamp, self.name, self.bank, Party.BROKER))
        async with asyncio.timeout(PATIENCE_S):
            return await answer

    async def until(self, look: Callable[[], bool]) -> None:
        """Wait until something that was heard makes it true."""
        if not look():
            heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((look, heard))
            async with asyncio.timeout(PATIENCE_S):
                await heard

    def close(self) -> None:
        self._line.close()

    def _stamp(self) -> m.Stamp:
        return m.Stamp(f"T{next(self._numbers):012d}", "20260312", "090000")

    def _heard(self) -> None:
        for look, heard in self._waiting:
            if not heard.done() and look():
                heard.set_result(None)

    # A listener

    def received(self, message: m.Message) -> None:
        if message.kind is FrameType.RESPONSE:
            self._answers.pop(message.header.related_ref).set_result(message.body)
        else:
            if message.kind is FrameType.PUSH:
                self.pushes.append(message.body)
            self._line.send(m.answer(message, m.Answer(0), self._stamp()))
        self._heard()

    def refused(self, error: RefusedMessage) -> None:
        raise AssertionError(error)

    def renewed(self) -> None: ...

    def lost(self, reason: str) -> None:
        self.over = reason
        self._heard()


def deposit(ref: str, amount: str = "100.00") -> m.DepositRequest:
    return m.DepositRequest(ref, "CHAN TAI MAN", CARD, "HKD", amount, "HK")


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def control(ask: Callable[..., Any], *arguments: Any) -> Any:
    """The control interface, while our own loop goes on answering the bank."""
    return await asyncio.to_thread(ask, *arguments)


def test_a_deposit_over_the_socket(served: Process) -> None:
    async def story() -> None:
        broker = Broker(served)
        await broker.sign_on()
        ref = f"{broker.bank}S000000000001"
        answer = await broker.ask(m.DEPOSIT, deposit(ref, "250.50"))
        assert isinstance(answer, m.TransferAnswer) and answer.code == 0
        await control(served.advance, "1m")
        await broker.until(lambda: bool(broker.pushes))
        (result,) = broker.pushes
        assert isinstance(result, m.TransferResult)
        assert (result.transfer_ref, result.code, result.amount) == (ref, 0, "250.50")
        asked = await broker.ask(m.QUERY, m.Query(ref))
        assert isinstance(asked, m.QueryAnswer) and asked.state is TransferState.DONE
        broker.close()
        assert served.customer("chan")["balances"]["HKD"] == "999749.50"
        assert served.get(f"/truth/{ref}")["status"] == "PAID"
        journal = [(entry["command"], entry["type"], entry["message"])
                   for entry in served.get("/journal")["entries"][-4:]]
        assert journal == [(m.SIGN_ON, "REQUEST", "sign_on"), (m.DEPOSIT, "REQUEST", "deposit"),
                           (m.TRANSFER_RESULT, "PUSH_ACK", "result"), (m.QUERY, "REQUEST", "query")]
        entry = served.get("/journal")["entries"][-3]
        assert (entry["server"], entry["body"]["amount"], entry["body"]["market"]) == ("primary", "250.50", "HK")

    run(story())


def test_what_customers_begin_at_the_bank_is_pushed(served: Process) -> None:
    async def story() -> None:
        broker = Broker(served)
        await broker.sign_on("backup")
        state = served.get("/state")
        assert state["signed_on"] == "backup"
        assert [one["ready"] for one in state["servers"]["backup"]["connections"]] == [True]
        begun = [served.post(f"/{what}", {"customer": "chan", "ccy": "HKD", "amount": "12.34"}, 201)["reference"]
                 for what in ("deposits", "withdrawals")]
        served.post("/agreements", {"customer": "ho", "action": "sign", "markets": ["US"]})
        await control(served.advance, "1m")
        await broker.until(lambda: len(broker.pushes) == 3)
        told = {type(push): push for push in broker.pushes}
        assert told[m.DepositPush].transfer_ref == begun[0]  # type: ignore[union-attr]
        assert told[m.BankWithdrawal].transfer_ref == begun[1]  # type: ignore[union-attr]
        assert told[m.SignNotice].market == "US"  # type: ignore[union-attr]
        broker.close()
        assert served.customer("ho")["markets"] == ["US"]
        state = served.get("/state")
        assert (state["pushes"], state["wishes"], state["movements"]) == ({"last_seq": 3, "undelivered": 0}, 1, 1)

    run(story())


def test_lines_outlive_an_advance_and_pushes_are_not_repeated_by_it(served: Process) -> None:
    async def story() -> None:
        broker = Broker(served)
        await broker.sign_on()
        served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "1.00"}, 201)
        await control(served.advance, "10h")  # far more than the 60 s of silence that end a line
        await broker.until(lambda: bool(broker.pushes))
        assert await broker.ask(m.QUERY, m.Query("X")) is not None
        assert (len(broker.pushes), broker.over) == (1, "")
        assert served.get("/state")["pushes"] == {"last_seq": 1, "undelivered": 0}
        broker.close()

    run(story())


def test_faults_of_lines_and_instructions(served: Process) -> None:
    async def story() -> None:
        broker = Broker(served)
        await broker.sign_on()
        served.post("/faults", {"fault": "limit", "params": {"count": 1}}, 201)
        refused = await broker.ask(m.DEPOSIT, deposit("X1"))
        assert isinstance(refused, m.TransferAnswer) and refused.code == -8
        drop = served.post("/faults", {"fault": "drop", "for": "10m"}, 201)
        await broker.until(lambda: bool(broker.over))
        with pytest.raises(Unreachable):
            await Broker(served).connect()
        again = Broker(served)
        await again.sign_on("backup")
        again.close()
        assert [fault["id"] for fault in served.get("/faults")["in_force"]] == [drop["id"]]
        await control(served.advance, "10m")
        await again.sign_on()
        again.close()
        served.post("/faults", {"fault": "wrong_key"}, 201)
        with pytest.raises(Unreachable):
            await Broker(served).connect()

    run(story())


def test_a_reset_gives_a_fresh_bank_on_the_same_ports(served: Process) -> None:
    async def story() -> None:
        broker = Broker(served)
        await broker.sign_on()
        await broker.ask(m.DEPOSIT, deposit("X1"))
        served.post("/faults", {"fault": "half_open", "params": {"server": "both"}}, 201)
        await control(served.post, "/reset", {"start": "2026-03-13 08:00"})
        await broker.until(lambda: bool(broker.over))
        await broker.sign_on()
        found = await broker.ask(m.QUERY, m.Query("X1"))
        assert isinstance(found, m.QueryAnswer) and found.state is TransferState.NOT_FOUND
        assert served.get("/state")["session"] == "20260313"
        broker.close()

    run(story())


def test_the_window_closes_and_the_reconciliation_comes(served: Process) -> None:
    async def story() -> None:
        broker = Broker(served)
        await broker.sign_on()
        await control(served.post, "/clock", {"to": "2026-03-13 04:02"})
        await broker.until(lambda: bool(broker.pushes))
        assert isinstance(broker.pushes[0], m.ReconciliationList)
        closed = await broker.ask(m.DEPOSIT, deposit("X1"))
        assert isinstance(closed, m.TransferAnswer) and closed.code == -9
        broker.close()

    run(story())


def test_the_day_list_over_http_is_cmbs_only(served: Process) -> None:
    if served.said["bank"] == "cmbc":
        assert "day_list" not in served.said["addresses"]
        return
    broker = Broker(served)
    served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "9.99"}, 201)
    served.advance("1m")
    at = hkt(served.get("/state")["clock"]["now_ms"])
    query = ListQuery(broker.name, broker.serial, 0, "20260312", f"{at:%Y%m%d%H%M%S}")
    url = served.said["addresses"]["day_list"].removesuffix("/day-list") + target_of(query)
    signature = sign_query(CMB, query, broker.private, SM2, os.urandom)
    answer = httpx.get(url, headers={"X-Signature": signature})
    assert answer.status_code == 200, answer.text
    listed = decode_list(CMB, answer.content, broker.bank_public, SM2).body
    assert isinstance(listed, m.DayList) and [item.amount for item in listed.items] == ["9.99"]
    assert httpx.get(url, headers={"X-Signature": "00" * 64}).status_code == 403
    assert [(entry["message"], entry["status"]) for entry in served.get("/journal")["entries"][-2:]] == [
        ("day_list", 200), ("day_list", 403)]


def test_a_bank_says_what_it_cannot_do(served: Process) -> None:
    whose = {"customer": "chan"}
    assert "cmb" in served.post("/agreements", whose | {"action": "suspend"}, 422)["error"]
    assert "already" in served.post("/agreements", whose | {"action": "sign"}, 409)["error"]
    unsigned = {"customer": "ho", "ccy": "HKD", "amount": "1.00"}
    assert "-7 customer not signed: not signed for HK" in served.post("/deposits", unsigned, 409)["error"]
    much = {"customer": "wong", "ccy": "HKD", "amount": "50000.01"}
    assert served.post("/deposits", much, 409)["error"].endswith("balance too low")
    for path, body in (("/deposits", unsigned), ("/agreements", whose | {"action": "sign"})):
        assert served.post(path, body | {"mandate": "AM1"}, 422)["error"].startswith("mandate: ")
    assert served.get("/faults")["table"]["drop"]["parameters"]["server"]["default"] == "primary"
    if served.said["bank"] == "cmbc":
        assert served.post("/deposits", whose | {"ccy": "CNH", "amount": "1.00"}, 422)["error"].startswith("ccy: ")


@pytest.mark.req("SOCK-01")
def test_a_client_that_shares_no_code_takes_a_deposit_begun_over_http(served: Process) -> None:
    """Printed keys and addresses, the protocol reference and the ``openssl`` command are all that it needs."""
    given, port = served.said["credentials"], served.said["addresses"]["primary"].rpartition(":")[2]
    command = [sys.executable, str(FOREIGN), "--port", port, "--bank", given["bank_name"], "--broker", given["broker"],
               "--serial", given["certificate_serial"], "--key", given["broker_private_key"],
               "--bank-key", given["bank_public_key"], "--wait", str(int(PATIENCE_S))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert [json.loads(client.stdout.readline())["event"] for _ in range(2)] == ["keys agreed", "signed on"]
        assert served.get("/state")["signed_on"] == "primary"
        begun = served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "88.00"}, 201)["reference"]
        served.advance("1m")
        deposit, query, off = (json.loads(line) for line in client.stdout)
    assert client.returncode == 0
    assert (deposit["event"], deposit["signature"], deposit["reference"]) == ("deposit", "good", begun)
    assert (deposit["card_no"], deposit["ccy"], deposit["amount"]) == (CARD, "HKD", "88.00")
    assert (query["state"], off["event"]) == ("DONE", "signed off")
    assert served.get("/state")["pushes"] == {"last_seq": 1, "undelivered": 0}


def test_openssl_reads_the_keys(served: Process) -> None:
    given = served.said["credentials"]
    private = Path(given["broker_private_key"])
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    public = ("broker_public_key", "bank_public_key")
    for arguments in (("-in", str(private)), *(("-pubin", "-in", given[name]) for name in public)):
        command = ["openssl", "pkey", *arguments, "-noout", "-text"]
        assert "SM2" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


NAMED = {"id": "odd", "name": "ODD MAN", "balances": {"HKD": "1.00"}}
UNFIT: list[tuple[str, dict[str, Any], str]] = [
    (bank, NAMED | wrong, says) for bank, wrong, says in (
        ("cmb", {"name": "陳大文" * 11}, r"customer odd: name: 66 bytes are more than 60"),
        ("cmb", {"name": "CHAN\x07MAN"}, r"customer odd: name: .*visible characters"),
        ("cmb", {"name": "CHAN\nMAN"}, r"customer odd: name: .*visible characters"),
        ("cmb", {"name": "CHAN\u2028MAN"}, r"customer odd: name: .*visible characters"),
        ("cmbc", {"name": "CHAN\x07MAN"}, r"customer odd: name: .*visible characters"),
        ("cmb", {"card_no": "1234"}, r"^card_no: "), ("cmbc", {"card_no": "6" * 20}, r"^card_no: "),
        ("cmb", {"id": "x y"}, r"^id: "), ("cmb", {"id_no_hash": "a b"}, r"^id_no_hash: "))]


@pytest.mark.parametrize(("bank", "customer", "says"), UNFIT)
def test_a_customer_whom_no_message_can_name_is_refused(
    served: Process, bank: str, customer: dict[str, Any], says: str
) -> None:
    if served.said["bank"] == bank:
        assert re.search(says, served.post("/customers", customer, 422)["error"])
        assert "odd" not in [one["id"] for one in served.get("/state")["customers"]]
    else:
        fits = NAMED | {"name": "陳大文" * (10 if served.said["bank"] == "cmb" else 2)}
        assert served.post("/customers", fits, 201)["name"] == fits["name"]
        served.post("/reset")


@pytest.mark.parametrize("bank", ["cmb", "cmbc"])
def test_a_file_with_a_customer_whom_no_message_can_name_is_refused(bank: str, tmp_path: Path) -> None:
    file = tmp_path / "customers.json"
    file.write_text(json.dumps({"customers": [NAMED | {"name": "CHAN\tMAN"}]}))
    error = refusal_of(bank, "--port", "0", "--data", str(tmp_path), "--customers", str(file))
    assert "customer odd: name: " in error and bank in error, error
