"""Keys of the three banks and of us: from entropy, or kept in a folder."""

from __future__ import annotations

from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.wire.cgb import Secrets
from core.wire.sm2 import Entropy, KeyPair, Sm2

SM4_BYTES, SEED_BYTES, SECRET_BYTES = 16, 32, 32


class CgbKeys(NamedTuple):
    """Of both sides, and of somebody who is neither."""

    ours: KeyPair
    bank: KeyPair
    stranger: KeyPair
    sm4: bytes

    def of_us(self) -> Secrets:
        """What our side has."""
        return Secrets(self.ours, self.bank.public, self.sm4)

    def of_bank(self) -> Secrets:
        """What the bank has."""
        return Secrets(self.bank, self.ours.public, self.sm4)

    def of_stranger(self) -> Secrets:
        """What somebody would have who speaks in the bank's place."""
        return Secrets(self.stranger, self.ours.public, self.sm4)


class ScbKeys(NamedTuple):
    """Ed25519."""

    ours: Ed25519PrivateKey
    bank: Ed25519PrivateKey
    stranger: Ed25519PrivateKey


def cgb_keys(sm2: Sm2, entropy: Entropy) -> CgbKeys:
    """New keys of CGB's interface."""
    ours, bank, stranger = (sm2.key_pair(entropy) for _ in range(3))
    return CgbKeys(ours, bank, stranger, entropy(SM4_BYTES))


def scb_keys(entropy: Entropy) -> ScbKeys:
    """New keys of SCB's interface."""
    return ScbKeys(*(Ed25519PrivateKey.from_private_bytes(entropy(SEED_BYTES)) for _ in range(3)))
