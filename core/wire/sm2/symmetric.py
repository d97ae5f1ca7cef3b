"""SM3 by hashlib, HMAC-SM3, SM4-GCM by `cryptography` (RFC 8998: 128-bit key, 96-bit nonce, 128-bit tag)."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from core.errors import Misconfigured
from core.wire.sm2.forms import CryptoError

if TYPE_CHECKING:
    from hashlib import _Hash

KEY_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_MISSING: Final = "install a Python whose OpenSSL has SM3 (hashlib.algorithms_available tells)"


def sm3_hash(data: bytes = b"") -> _Hash:
    """A running SM3 hash; `Misconfigured` where this Python's OpenSSL has none (a FIPS or trimmed build)."""
    try:
        return hashlib.new("sm3", data)
    except ValueError as error:
        raise Misconfigured("hashlib has no SM3", remedy=_MISSING) from error


def sm3(data: bytes) -> bytes:
    """32 bytes (GB/T 32905)."""
    return sm3_hash(data).digest()


def hmac_sm3(key: bytes, data: bytes) -> bytes:
    """32 bytes (RFC 2104 with SM3). Compare with `hmac.compare_digest`."""
    try:
        return hmac.digest(key, data, "sm3")
    except ValueError as error:
        raise Misconfigured("hashlib has no SM3", remedy=_MISSING) from error


def sm4_gcm_encrypt(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes = b"") -> tuple[bytes, bytes]:
    """(ciphertext of the plaintext's length, tag of 16 bytes). The caller never uses a nonce twice under one key."""
    sealing = _sm4(key, nonce, None).encryptor()
    sealing.authenticate_additional_data(aad)
    ciphertext = sealing.update(plaintext) + sealing.finalize()
    return ciphertext, sealing.tag


def sm4_gcm_decrypt(key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes, aad: bytes = b"") -> bytes:
    """The plaintext; `CryptoError` if one bit of key, nonce, ciphertext, tag or aad differs."""
    if len(tag) != TAG_BYTES:
        raise CryptoError(f"an SM4-GCM tag has {TAG_BYTES} bytes, not {len(tag)}")
    opening = _sm4(key, nonce, tag).decryptor()
    opening.authenticate_additional_data(aad)
    plaintext = opening.update(ciphertext)
    try:
        return plaintext + opening.finalize()
    except InvalidTag as error:
        raise CryptoError("SM4-GCM: the tag does not fit") from error


def _sm4(key: bytes, nonce: bytes, tag: bytes | None) -> Cipher[modes.GCM]:
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise CryptoError(f"SM4-GCM takes a key of {KEY_BYTES} and a nonce of {NONCE_BYTES} bytes, "
                          f"not {len(key)} and {len(nonce)}")
    try:
        return Cipher(algorithms.SM4(key), modes.GCM(nonce, tag))
    except UnsupportedAlgorithm as error:
        raise Misconfigured("`cryptography` has no SM4-GCM here", remedy="install one of its own wheels") from error
