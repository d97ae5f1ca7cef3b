"""Messages per CPU second of the socket codec: payload, sealed frame, sealed and signed; both flavours and directions.

A message counts when one end has written it and the other has read it. "with SM2" is a deposit push, signed and
verified; "without SM2" a sign notice, about as long, which the table does not have signed.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from time import process_time

from core.wire.sm2 import FastSm2, LibcryptoSm2, Sm2
from core.wire.socket import (
    CMB,
    CMBC,
    BankIdentity,
    BankSession,
    BrokerIdentity,
    BrokerSession,
    Flavour,
    FrameType,
    Party,
    Received,
    Signing,
)
from core.wire.socket import messages as m

STAMP = m.Stamp("R000000000000001", "20260312", "101530")
CUSTOMER = ("10086420", "01", "11010119900307451X")
CARD = "6225880212345678"
PUSH = m.DepositPush("20260312000042", 42, "欧阳祥", CARD, "HKD", "1234.50", "HK", *CUSTOMER)
NOTICE = m.SignNotice(42, Signing.SIGN, "欧阳祥", CARD, "HK", *CUSTOMER)


def from_bank(command: str, body: m.Body) -> m.Message:
    """A push of the bank's."""
    return m.compose(command, FrameType.PUSH, body, STAMP, "BANK", "NOSTRO01", Party.BANK)


def connected(flavour: Flavour, sm2: Sm2) -> tuple[BrokerSession, BankSession]:
    """Two ends after the handshake."""
    entropy = random.Random(1).randbytes
    broker_keys, bank_keys = sm2.key_pair(entropy), sm2.key_pair(entropy)
    identity = BrokerIdentity("NOSTRO01", "1", broker_keys.private, bank_keys.public)
    broker = BrokerSession(flavour, identity, sm2, entropy)
    register = BankIdentity(bank_keys.private, lambda _broker, _serial: broker_keys.public)
    bank = BankSession(flavour, register, sm2, entropy)
    bank.feed(broker.start())
    broker.feed(bank.output())
    bank.feed(broker.output())
    return broker, bank


def rate(once: Callable[[], object], rounds: int) -> float:
    """Best of three: times per second."""
    best = 0.0
    for _ in range(3):
        gc.collect()
        began = process_time()
        for _ in range(rounds):
            once()
        best = max(best, rounds / (process_time() - began))
    return best


def payloads(flavour: Flavour) -> float:
    """Without crypto: written and read."""
    message = from_bank(m.DEPOSIT_PUSH, PUSH)
    return rate(lambda: flavour.decode(message.kind, message.command, flavour.encode(message)), 2_000)


def frames(flavour: Flavour, message: m.Message, sm2: Sm2, rounds: int) -> float:
    """Through both sessions."""
    broker, bank = connected(flavour, sm2)
    for _ in range(100):  # past the point where the fast backend builds its tables
        broker.feed(bank.encode(message))

    def once() -> None:
        (event,) = broker.feed(bank.encode(message))
        assert isinstance(event, Received)

    return rate(once, rounds)


def handshakes(flavour: Flavour, sm2: Sm2) -> float:
    return rate(lambda: connected(flavour, sm2), 20)


def measure() -> dict[str, float]:
    """Messages per second."""
    figures: dict[str, float] = {}
    signed, unsigned = from_bank(m.DEPOSIT_PUSH, PUSH), from_bank(m.SIGN_NOTICE, NOTICE)
    for flavour in (CMB, CMBC):
        name = flavour.name
        figures[f"{name} payloads/s"] = payloads(flavour)
        figures[f"{name} frames/s without SM2"] = frames(flavour, unsigned, FastSm2(), 2_000)
        figures[f"{name} frames/s with SM2, fast"] = frames(flavour, signed, FastSm2(), 500)
        figures[f"{name} frames/s with SM2, libcrypto"] = frames(flavour, signed, LibcryptoSm2(), 300)
        figures[f"{name} handshakes/s, fast"] = handshakes(flavour, FastSm2())
    return figures


if __name__ == "__main__":
    for name, figure in measure().items():
        print(f"{name}: {figure:,.1f}")
