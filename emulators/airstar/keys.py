"""RSA keys of an emulated bank that signs with RSA, and of those that may call it."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from core.errors import Misconfigured

BITS = 2048
PRIVATE, PUBLIC = "airstar.key.pem", "airstar.pub.pem"


def in_memory() -> rsa.RSAPrivateKey:
    """A key for this run only. Signatures never stand in the trace, so a run's hash does not depend on it."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=BITS)


def load_or_create(folder: Path, name: str = "airstar") -> rsa.RSAPrivateKey:
    """The key in ``{name}.key.pem`` of a folder; made there, readable by its owner only, if the folder has none. The
    public half is written beside it if it is not there. A file that is no RSA key raises `Misconfigured`."""
    path, public = folder / f"{name}.key.pem", folder / f"{name}.pub.pem"
    key = _load(path) if path.exists() else _create(path)
    half = public_pem(key)
    if not public.exists() or public.read_bytes() != half:  # another key was put there
        public.write_bytes(half)
    return key


def _load(path: Path) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise Misconfigured(str(error), where=str(path), remedy="give a PEM key without a password") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Misconfigured("not an RSA key", where=str(path), remedy="the bank's protocol signs with RSA-SHA256")
    return key


def _create(path: Path) -> rsa.RSAPrivateKey:
    key = in_memory()
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    return key


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    """The public half, as the bank is given it."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
