"""RSA keys of the bank, and of the certificates of both lines."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from emulators.airstar import keys
from emulators.icbc.faults import LINES

OWNERS: Final = ("bank", *LINES)


def in_memory() -> dict[str, RSAPrivateKey]:
    """Keys for this run only."""
    return {owner: keys.in_memory() for owner in OWNERS}


def load_or_create(folder: Path) -> dict[str, RSAPrivateKey]:
    """The keys ``icbc.{owner}.key.pem`` of a folder, made there if it has none, with their public halves."""
    return {owner: keys.load_or_create(folder, f"icbc.{owner}") for owner in OWNERS}
