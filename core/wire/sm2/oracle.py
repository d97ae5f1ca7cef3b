"""`GmsslSm2`: the gmssl package as an oracle, with the checks it lacks. Thousands of times too slow for anything else.

What gmssl 3.2.2 does wrong, and what is done about it here:

* its ``decrypt`` never compares C3, so it accepts tampered ciphertext: here C3 decides;
* its ``encrypt`` and ``sign_with_sm3`` draw the nonce from the process-wide ``random``, so a seeded run would give the
  key away: here its arithmetic is called with the caller's nonce;
* its constructor strips every leading 0 and 4 digit of the public key (``lstrip("04")``): the key is set afterwards;
* its ``verify`` checks neither the ranges of r and s nor that points are on the curve: the shared checks do so first.

It knows the distinguishing id 1234567812345678 only; any other raises `CryptoError`.
"""

from __future__ import annotations

from typing import Any

from gmssl import sm2 as gmssl_sm2
from gmssl import sm3 as gmssl_sm3

from core.wire.sm2.forms import (
    DRAWS,
    SIGNATURE_BYTES,
    USER_ID,
    Ciphertext,
    CryptoError,
    Entropy,
    KeyPair,
    N,
    checked_plaintext,
    draw_scalar,
    point_of,
    private_scalar,
    split_ciphertext,
    split_signature,
)

_TABLE = gmssl_sm2.default_ecc_table


class GmsslSm2:
    """`Sm2` by gmssl's arithmetic and digests; nonces from the caller's entropy."""

    def key_pair(self, entropy: Entropy) -> KeyPair:
        private = draw_scalar(entropy, N - 2).to_bytes(32)
        return KeyPair(private, self.public_key(private))

    def public_key(self, private: bytes) -> bytes:
        return b"\x04" + _multiple(private_scalar(private), _TABLE["g"])

    def sign(self, private: bytes, message: bytes, *, entropy: Entropy, user_id: bytes = USER_ID) -> bytes:
        _only_default(user_id)
        crypt = _crypt(private, self.public_key(private))
        for _ in range(DRAWS):
            signature = crypt.sign_with_sm3(message, f"{draw_scalar(entropy, N - 1):064x}")
            if signature is not None and len(signature) == 2 * SIGNATURE_BYTES:
                return bytes.fromhex(signature)
        raise CryptoError("the entropy source gives no usable nonce")

    def verify(self, public: bytes, message: bytes, signature: bytes, *, user_id: bytes = USER_ID) -> bool:
        _only_default(user_id)
        point_of(public)
        if split_signature(signature) is None:
            return False
        try:
            return bool(_crypt(bytes(32), public).verify_with_sm3(signature.hex(), message))
        except TypeError:  # the sum is the point at infinity, which gmssl writes as None and then reads on
            return False

    def encrypt(self, public: bytes, plaintext: bytes, *, entropy: Entropy) -> bytes:
        point_of(public)
        checked_plaintext(plaintext)
        for _ in range(DRAWS):
            nonce = draw_scalar(entropy, N - 1)
            shared = _multiple(nonce, public[1:].hex())
            mask = _mask(shared, len(plaintext))
            if any(mask):
                c1 = b"\x04" + _multiple(nonce, _TABLE["g"])
                return Ciphertext(c1, _check(shared, plaintext), _xor(plaintext, mask)).joined()
        raise CryptoError("the entropy source gives no usable nonce")

    def decrypt(self, private: bytes, ciphertext: bytes) -> bytes:
        scalar = private_scalar(private)
        parts = split_ciphertext(ciphertext)
        shared = _multiple(scalar, parts.c1[1:].hex())
        mask = _mask(shared, len(parts.c2))
        plaintext = _xor(parts.c2, mask)
        if not any(mask) or _check(shared, plaintext) != parts.c3:
            raise CryptoError("the SM2 ciphertext was tampered with, or is for another key")
        return plaintext


def _only_default(user_id: bytes) -> None:
    if user_id != USER_ID:
        raise CryptoError("gmssl knows the distinguishing id 1234567812345678 only")


def _crypt(private: bytes, public: bytes) -> Any:
    crypt = gmssl_sm2.CryptSM2(private_key=private.hex(), public_key="")
    crypt.public_key = public[1:].hex()
    return crypt


def _multiple(scalar: int, point: str) -> bytes:
    """x || y of the multiple of a point given as 128 hex digits."""
    return bytes.fromhex(gmssl_sm2.CryptSM2(private_key="", public_key="")._kg(scalar, point))


def _mask(shared: bytes, size: int) -> bytes:
    return bytes.fromhex(gmssl_sm3.sm3_kdf(shared.hex().encode("ascii"), size))


def _check(shared: bytes, plaintext: bytes) -> bytes:
    return bytes.fromhex(gmssl_sm3.sm3_hash(list(shared[:32] + plaintext + shared[32:])))


def _xor(text: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(text, mask, strict=True))
