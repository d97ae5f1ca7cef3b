"""SM2 keys of a socket bank and of its broker, kept in a folder as PEM files that ``openssl`` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from core.errors import Misconfigured
from core.wire.sm2 import (
    CryptoError,
    Entropy,
    KeyPair,
    Sm2,
    private_from_pem,
    private_to_pem,
    public_to_pem,
)

OWNER_ONLY = 0o600


class KeyFiles(NamedTuple):
    """A key pair and where its two halves lie."""

    pair: KeyPair
    private: Path
    public: Path


def load_or_create(folder: Path, name: str, sm2: Sm2, entropy: Entropy) -> KeyFiles:
    """The pair in ``{name}.key.pem``; made there, readable by its owner only, if the folder has none. The public half
    is written beside it if it is not there. A file that is no SM2 key raises `Misconfigured`."""
    private, public = folder / f"{name}.key.pem", folder / f"{name}.pub.pem"
    if not private.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_secret(private, private_to_pem(sm2.key_pair(entropy)))
    pair = _load(private)
    half = public_to_pem(pair.public)
    if not public.exists() or public.read_text(encoding="ascii", errors="replace") != half:  # another key was put there
        public.write_text(half, encoding="ascii")
    return KeyFiles(pair, private, public)


def _load(path: Path) -> KeyPair:
    try:
        return private_from_pem(path.read_text(encoding="ascii"))
    except (CryptoError, UnicodeDecodeError) as error:
        raise Misconfigured(str(error), where=str(path), remedy="give an SM2 key in PEM, or remove the file") from None


def write_secret(path: Path, text: str) -> None:
    """A new file that its owner only can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
