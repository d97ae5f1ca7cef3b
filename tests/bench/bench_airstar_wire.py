"""What the Airstar line costs: RSA alone, signed round trips through ASGI, bare messages, the bank itself."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from time import perf_counter
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from core.banks.airstar import Exchange, SignedExchange
from core.settings import Settings
from core.trace import Trace
from core.wire.airstar import build_request
from emulators.airstar.app import airstar_app
from emulators.airstar.bank import AirstarBank
from emulators.airstar.keys import in_memory
from emulators.airstar.link import AsgiLink, MessageLink
from emulators.airstar.values import Latency
from emulators.loop import LoopClock, SimLoop
from emulators.streams import Streams

NOON_MS = 1_773_288_000_000
APP_ID = "nostro"
PLENTY = {
    "sim.airstar.limit.daily": {"HKD": 10**9, "USD": 10**9, "CNH": 10**9},
    "sim.airstar.limit.open_transactions": 10**7,
}
TEXT = b"GET\n/bst/v1/deposits/AD000000000001\n1773288000000\n00112233445566778899aabbccddeeff\n" + b"0" * 64


def per_second(act: Callable[[], Any], rounds: int) -> float:
    """Calls per real second."""
    began = perf_counter()
    for _ in range(rounds):
        act()
    return rounds / (perf_counter() - began)


def rsa(key: RSAPrivateKey) -> tuple[float, float]:
    """(signatures, verifications) per second of the canonical string of a poll."""
    pad, digest, public = padding.PKCS1v15(), hashes.SHA256(), key.public_key()
    signature = key.sign(TEXT, pad, digest)
    return (
        per_second(lambda: key.sign(TEXT, pad, digest), 600),
        per_second(lambda: public.verify(signature, TEXT, pad, digest), 6_000),
    )


class Bench:
    """A bank on a virtual loop with customers and one poll target."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self.loop = SimLoop()
        self.clock = LoopClock(self.loop, NOON_MS)
        self.settings = Settings(PLENTY)
        streams = Streams(1)
        self.bank = AirstarBank(self.loop, self.clock, streams, Trace(self.clock), self.settings)
        self.latency = Latency.of_link(self.settings, streams("airstar.link"))
        self.nonces = streams("airstar.nonces")
        self.key = key
        self.mandates = []
        for number in range(100):
            self.bank.open_customer(f"u{number}", "CHAN TAI MAN", "hash", {"HKD": 10**12})
            self.mandates.append(self.bank.grant_mandate(f"u{number}"))

    def messages(self) -> Exchange:
        timeout_s = self.settings["airstar.api.timeout"]
        return MessageLink(self.bank, self.loop, self.clock, self.latency, timeout_s=timeout_s)

    def full(self) -> Exchange:
        app = airstar_app(self.bank, {APP_ID: self.key.public_key()})
        link = AsgiLink(app, self.loop, self.latency)
        timeout_s = self.settings["airstar.api.timeout"]
        return SignedExchange(
            link, APP_ID, self.key, self.clock, lambda: self.nonces.randbytes(16), timeout_s=timeout_s
        )

    def deposit(self, number: int) -> Any:
        body = {"bank_ref_id": f"ASBBST{number:09d}", "mandate_id": self.mandates[number % 100], "market": 1,
                "ccy": "HKD", "amount": "100.00"}  # fmt: skip
        return build_request("deposit", body=body)

    def round_trips(self, exchange: Exchange, rounds: int) -> float:
        """Polls per real second, one after another."""
        reply, _ = self.bank.handle(self.deposit(0))
        assert reply is not None
        poll = build_request("query_deposit", reply.data["request_id"])

        async def go() -> None:
            for _ in range(rounds):
                await exchange(poll)

        began = perf_counter()
        self.loop.run_until_complete(go())
        return rounds / (perf_counter() - began)

    def instructions(self, rounds: int) -> float:
        """µs of real time the bank spends on one instruction and its result."""
        requests = [self.deposit(number) for number in range(1, rounds + 1)]
        gc.collect()
        began = perf_counter()
        for request in requests:
            self.bank.handle(request)
        self.loop.run_until_complete(asyncio.sleep(4_000))
        assert self.bank.open_transactions == 0
        return (perf_counter() - began) / rounds * 1e6


def measure() -> dict[str, float]:
    """RSA and round trips per second, the bank's µs per instruction, and RSA's share of a signed round trip."""
    key = in_memory()
    signs, verifies = rsa(key)
    bench = Bench(key)
    signed, bare = bench.round_trips(bench.full(), 600), bench.round_trips(bench.messages(), 20_000)
    figures = {
        "airstar rsa signatures/s": signs,
        "airstar rsa verifications/s": verifies,
        "airstar signed round trips/s": signed,
        "airstar message round trips/s": bare,
        "airstar rsa share of a signed round trip": signed * (1 / signs + 1 / verifies),
        "airstar bank us per instruction": bench.instructions(20_000),
    }
    bench.loop.close()
    return figures


if __name__ == "__main__":
    for name, figure in measure().items():
        print(f"{name}: {figure:,.2f}")
