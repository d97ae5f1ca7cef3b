"""A new OpenPGP key pair on Curve25519, from the entropy that the caller gives: RFC 4880, and 6637 with the curve's
usual form (algorithm 22 for signatures, 18 for encryption).

Sequoia makes keys too, but draws its own entropy, and says in them that their owner reads RFC 9580's newer encryption,
which stock GnuPG 2.2 does not. A key of ours says AES and integrity protection, and asks for *no compression*:
GnuPG heeds that, and Sequoia refuses compressed messages. Who brings a key of his own should give it the same
preferences (``setpref AES256 AES SHA512 SHA256 Uncompressed``).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

Entropy = Callable[[int], bytes]

_ED25519 = bytes.fromhex("092b06010401da470f01")
_CURVE25519 = bytes.fromhex("0a2b060104019755010501")
_KDF = bytes.fromhex("03010807")  # SHA-256, AES-128
_EDDSA, _ECDH, _SHA512 = 22, 18, 10
_SIGNATURE, _SECRET, _PUBLIC, _SECRET_SUB, _USER, _PUBLIC_SUB = 2, 5, 6, 7, 13, 14
_POSITIVE, _BINDING = 0x13, 0x18
_CERTIFY_AND_SIGN, _ENCRYPT = 0x03, 0x0C
_PREFERENCES: Final = (
    (11, bytes((9, 7))),  # AES-256, AES-128
    (21, bytes((10, 8))),  # SHA-512, SHA-256
    (22, bytes((0,))),  # no compression
    (25, bytes((1,))),  # the primary user id
    (30, bytes((1,))),  # integrity protection
)


class KeyPair(NamedTuple):
    """Both as binary packets; a certificate is what the other party is given."""

    secret: bytes
    certificate: bytes


def new_pair(name: str, entropy: Entropy, created_s: int) -> KeyPair:
    """``name`` as ``Name <address>``; ``created_s`` in epoch seconds, which may not lie ahead of any reader's clock."""
    signing = Ed25519PrivateKey.from_private_bytes(entropy(32))
    seed = _clamped(entropy(32))
    public = signing.public_key().public_bytes_raw()
    key = _key(created_s, _EDDSA, _ED25519 + _number(b"\x40" + public))
    shared = X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    sub = _key(created_s, _ECDH, _CURVE25519 + _number(b"\x40" + shared) + _KDF)
    user = name.encode()
    certified = _sign(signing, key, _POSITIVE, _with_length(0xB4, ">I", user), created_s,
                      ((27, bytes((_CERTIFY_AND_SIGN,))), *_PREFERENCES))
    bound = _sign(signing, key, _BINDING, _with_length(0x99, ">H", sub), created_s, ((27, bytes((_ENCRYPT,))),))
    return KeyPair(
        _packet(_SECRET, key + _secret(signing.private_bytes_raw())) + _packet(_USER, user) + certified
        + _packet(_SECRET_SUB, sub + _secret(seed[::-1])) + bound,
        _packet(_PUBLIC, key) + _packet(_USER, user) + certified + _packet(_PUBLIC_SUB, sub) + bound)


def _clamped(seed: bytes) -> bytes:
    """As X25519 uses it: written out, so that readers who do not clamp agree."""
    return bytes((seed[0] & 0xF8, *seed[1:31], seed[31] & 0x7F | 0x40))


def _key(created_s: int, algorithm: int, material: bytes) -> bytes:
    return struct.pack(">BIB", 4, created_s, algorithm) + material


def _number(value: bytes) -> bytes:
    """A multiprecision integer: its length in bits, then the bytes without leading zeros."""
    value = value.lstrip(b"\0")
    bits = len(value) * 8 - (8 - value[0].bit_length() if value else 0)
    return struct.pack(">H", bits) + value


def _secret(value: bytes) -> bytes:
    """The secret part, without a passphrase, and its checksum."""
    written = _number(value)
    return b"\0" + written + struct.pack(">H", sum(written) & 0xFFFF)


def _with_length(first: int, form: str, body: bytes) -> bytes:
    return bytes((first,)) + struct.pack(form, len(body)) + body


def _packet(tag: int, body: bytes) -> bytes:
    return bytes((0xC0 | tag, 0xFF)) + struct.pack(">I", len(body)) + body


def _subpackets(rows: tuple[tuple[int, bytes], ...]) -> bytes:
    return b"".join(bytes((len(value) + 1, kind)) + value for kind, value in rows)


def _sign(
    signer: Ed25519PrivateKey, key: bytes, kind: int, about: bytes, created_s: int, rows: tuple[tuple[int, bytes], ...]
) -> bytes:
    """A signature packet by the primary key over itself and what the signature is about."""
    over = _with_length(0x99, ">H", key)
    fingerprint = hashlib.sha1(over, usedforsecurity=False).digest()
    hashed = _subpackets(((2, struct.pack(">I", created_s)), (33, b"\4" + fingerprint), *rows))
    head = struct.pack(">BBBBH", 4, kind, _EDDSA, _SHA512, len(hashed)) + hashed
    digest = hashlib.sha512(over + about + head + struct.pack(">BBI", 4, 0xFF, len(head))).digest()
    signature = signer.sign(digest)
    issuer = _subpackets(((16, fingerprint[-8:]),))
    return _packet(_SIGNATURE, head + struct.pack(">H", len(issuer)) + issuer + digest[:2]
                   + _number(signature[:32]) + _number(signature[32:]))
