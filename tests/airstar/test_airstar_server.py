"""The bank's HTTP face: what it refuses at the door, and the same application on a real port."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn
from airstar_world import APP_ID, SURE, World
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from core.banks.airstar import AirstarGateway, HttpxEndpoint, Outcome, SignedExchange
from core.clock import MachineClock
from core.errors import OutcomeUnknown
from core.settings import Settings
from core.trace import Trace
from core.wire.airstar import build_request, parse_reply, sign_request
from emulators.airstar.app import airstar_app
from emulators.airstar.bank import AirstarBank
from emulators.airstar.keys import in_memory
from emulators.airstar.link import AsgiLink
from emulators.streams import Streams

NONCE = "00112233445566778899aabbccddeeff"


class Wire:
    """Raw requests to the bank's application."""

    def __init__(self, run: World, key: RSAPrivateKey) -> None:
        self._run, self._key = run, key
        self._link = AsgiLink(run.app, run.loop, lambda: 20_000)

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        answer = self._run.run(self._link.send(method, target, headers, body, 10.0))
        assert isinstance(answer, tuple)
        return answer

    def deposit(self, nonce: str = NONCE, skew_ms: int = 0, key: RSAPrivateKey | None = None, **headers: str) -> int:
        """The code of the bank's reply to a deposit of the first mandate."""
        mandate = next(iter(self._run.bank._mandates))
        body = {"bank_ref_id": "ASBBST000000001", "mandate_id": mandate, "market": 1, "ccy": "HKD", "amount": "1.00"}
        request = build_request("deposit", body=body)
        signed, raw = sign_request(request, APP_ID, key or self._key, self._run.clock.now_ms() + skew_ms, nonce)
        renamed = {name.replace("_", "-"): value for name, value in headers.items()}
        status, answer = self.send("POST", request.path, {**signed, **renamed}, raw)
        reply = parse_reply(status, answer)
        assert status == (200 if reply.code in (0, 140630003) else 401)
        return reply.code


@pytest.fixture
def wire(world: Callable[..., World], key: RSAPrivateKey) -> Wire:
    run = world(wire="full")
    run.customer()
    return Wire(run, key)


@pytest.mark.req("AIR-08")
def test_the_bank_refuses_a_bad_signature_and_takes_a_good_one(wire: Wire) -> None:
    assert wire.deposit(key=in_memory()) == 140630002
    assert wire.deposit(X_App_Id="stranger") == 140630002
    assert wire.deposit(X_Sign="AAAA") == 140630002
    assert wire.deposit() == 0  # nothing of it was taken in before


@pytest.mark.req("AIR-08")
def test_the_bank_refuses_a_reused_nonce(wire: Wire) -> None:
    assert wire.deposit() == 0
    assert wire.deposit() == 140630002
    assert wire.deposit(nonce=NONCE[::-1]) == 140630003  # a new nonce gets as far as the reference


@pytest.mark.req("AIR-08")
def test_a_refused_signature_does_not_burn_the_nonce(wire: Wire) -> None:
    assert wire.deposit(key=in_memory()) == 140630002
    assert wire.deposit() == 0


@pytest.mark.req("AIR-08")
def test_the_bank_refuses_a_clock_out_of_tolerance(wire: Wire) -> None:
    tolerance_ms = round(Settings()["airstar.api.clock_skew"] * 1_000)
    assert wire.deposit(skew_ms=tolerance_ms + 100) == 140630002
    assert wire.deposit(skew_ms=-tolerance_ms - 100) == 140630002
    assert wire.deposit(skew_ms=tolerance_ms) == 0


def test_replies_are_json_envelopes_whatever_is_asked(wire: Wire) -> None:
    asked = [("GET", "/nowhere", 140630018), ("PUT", "/bst/v1/deposits", 140630018),
             ("POST", "/bst/v1/deposits", 140630002), ("GET", "/bst/v1/ping", 140630002)]  # fmt: skip
    for method, target, code in asked:
        status, body = wire.send(method, target, {}, b"")
        envelope = json.loads(body)
        assert (list(envelope), envelope["code"]) == (["code", "message", "data"], code)
        assert status in (401, 404)


def test_a_body_beyond_the_limit_is_refused_unread(wire: Wire) -> None:
    status, body = wire.send("POST", "/bst/v1/deposits", {}, b"x" * 70_000)
    assert (status, json.loads(body)["code"]) == (400, 140630001)


AT_ONCE = {
    **SURE,
    "sim.airstar.result.delay": [[1.0, 0.0, 0.0]],
    "sim.airstar.mandate.start": [0.0, 0.0],
    "sim.airstar.mandate.processing": [0.0, 0.0],
}


async def serve_and_talk(key: RSAPrivateKey, talk: Callable[[AirstarBank, AirstarGateway], Any]) -> None:
    """The application on a loopback port under uvicorn, our adapter over httpx, both on this ordinary loop."""
    clock, streams, settings = MachineClock(), Streams(1), Settings(AT_ONCE)
    trace = Trace(clock)
    bank = AirstarBank(asyncio.get_running_loop(), clock, streams, trace, settings)
    listener = socket.create_server(("127.0.0.1", 0))
    app = airstar_app(bank, {APP_ID: key.public_key()})
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve([listener]))
    endpoint = HttpxEndpoint(f"http://127.0.0.1:{listener.getsockname()[1]}")
    nonces = random.Random(1)
    exchange = SignedExchange(endpoint, APP_ID, key, clock, lambda: nonces.randbytes(16), timeout_s=0.5)
    try:
        await talk(bank, AirstarGateway(exchange, clock, trace, max_pages=10))
    finally:
        await endpoint.close()
        server.should_exit = True
        await serving
        listener.close()


async def talk(bank: AirstarBank, gateway: AirstarGateway) -> None:
    assert (await gateway.ping()).outcome is Outcome.ACCEPTED
    card = bank.open_customer("u1", "CHAN TAI MAN", "hash", {"HKD": 1_000_000})
    mandate = (await gateway.create_mandate("ref", card, "CHAN TAI MAN", "hash")).request_id
    while (await gateway.query_mandate(mandate)).outcome is Outcome.PENDING:
        pass
    first = await gateway.deposit("ASBBST000000001", mandate, 1, "HKD", 12_345)
    while (answer := await gateway.query_deposit(first.request_id)).outcome is Outcome.PENDING:
        pass
    assert (answer.outcome, answer.amount) == (Outcome.SUCCESS, 12_345)
    paid = await gateway.withdraw("ASBBST000000002", mandate, 1, "HKD", 345)
    while (await gateway.query_withdrawal(ref="ASBBST000000002")).outcome is Outcome.PENDING:
        pass
    assert (await gateway.query_withdrawal(paid.request_id)).outcome is Outcome.SUCCESS
    assert bank.balance("u1", "HKD") == 1_000_000 - 12_000
    began = bank.customer_deposits(mandate, 1, "HKD", 55).request_id
    listed = await gateway.bank_requests("IN", 0, 2**50)
    assert [item.request_id for item in listed.data["items"]] == [began]
    bank.fault("timeout", message="withdraw", count=1)
    assert (await gateway.withdraw("ASBBST000000003", mandate, 1, "HKD", 5)).outcome is Outcome.UNKNOWN
    assert (await gateway.withdraw("ASBBST000000003", mandate, 1, "HKD", 5, attempt=2)).code == 140630003
    bank.book.check()


def test_on_a_real_port_under_uvicorn(key: RSAPrivateKey) -> None:
    asyncio.run(serve_and_talk(key, talk))


def test_foreign_network_errors_become_outcome_unknown() -> None:
    async def knock() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            endpoint = HttpxEndpoint(f"http://127.0.0.1:{nobody.getsockname()[1]}")
            with pytest.raises(OutcomeUnknown) as caught:
                await endpoint.send("GET", "/bst/v1/ping", {}, b"", 1.0)
            assert isinstance(caught.value.__cause__, httpx.ConnectError)
            await endpoint.close()

    asyncio.run(knock())
