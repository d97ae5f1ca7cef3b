"""Keys of one run, from the entropy that it gives: for SSH (both ends) and for OpenPGP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from core.wire.openpgp_keys import KeyPair, new_pair

Entropy = Callable[[int], bytes]
CREATED_S: Final = 1_577_836_800
"""2020-01-01: behind the clock of every machine, whatever a run's virtual time says."""


class SshKey(NamedTuple):
    """``public`` as one line of ``authorized_keys``, or after a host's name in ``known_hosts``."""

    private: bytes
    public: bytes


class HsbcKeys(NamedTuple):
    """All that both parties agreed upon, and one of nobody's."""

    bank_host: SshKey
    bank_login: SshKey
    our_host: SshKey
    our_login: SshKey
    bank: KeyPair
    ours: KeyPair
    stranger: KeyPair


def ssh_key(entropy: Entropy) -> SshKey:
    """Ed25519, in OpenSSH's own form."""
    key = Ed25519PrivateKey.from_private_bytes(entropy(32))
    return SshKey(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
                  key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def all_keys(entropy: Callable[[str], Entropy]) -> HsbcKeys:
    """``entropy``: by whose key it is."""
    def ssh(whose: str) -> SshKey:
        return ssh_key(entropy(f"hsbc.ssh.{whose}"))

    def pgp(whose: str) -> KeyPair:
        return new_pair(f"{whose} <{whose}@nostro.invalid>", entropy(f"hsbc.pgp.{whose}"), CREATED_S)

    return HsbcKeys(ssh("bank_host"), ssh("bank_login"), ssh("our_host"), ssh("our_login"), pgp("bank"), pgp("ours"),
                    pgp("stranger"))


def known_host(host: str, port: int, key: SshKey) -> bytes:
    """A line of ``known_hosts``."""
    where = host if port == 22 else f"[{host}]:{port}"
    return where.encode() + b" " + key.public + b"\n"
