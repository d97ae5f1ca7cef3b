"""SM3, HMAC-SM3 and SM4-GCM: published vectors, other implementations, tampering."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from gmssl.sm4 import SM4_ENCRYPT, CryptSM4
from hypothesis import given, settings
from hypothesis import strategies as st

from core.wire.sm2 import CryptoError, hmac_sm3, sm3, sm4_gcm_decrypt, sm4_gcm_encrypt
from tests.wire.openssl_command import Openssl

# RFC 8998, A.1.
KEY = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
NONCE = bytes.fromhex("00001234567800000000ABCD")
AAD = bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
PLAINTEXT = bytes.fromhex("AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCCDDDDDDDDDDDDDDDD"
                          "EEEEEEEEEEEEEEEEFFFFFFFFFFFFFFFFEEEEEEEEEEEEEEEEAAAAAAAAAAAAAAAA")
CIPHERTEXT = bytes.fromhex("17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
                           "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D")
TAG = bytes.fromhex("83DE3541E4C2B58177E065A9BF7B62EC")


class OtherGcm:
    """GCM of SP 800-38D by its text, on gmssl's SM4 block cipher."""

    def __init__(self, key: bytes) -> None:
        self._cipher = CryptSM4(padding_mode=0)
        self._cipher.set_key(key, SM4_ENCRYPT)
        self._hash_key = int.from_bytes(self._block(bytes(16)))

    def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> tuple[bytes, bytes]:
        stream = b"".join(self._block(nonce + (2 + n).to_bytes(4)) for n in range((len(plaintext) + 15) // 16))
        ciphertext = bytes(a ^ b for a, b in zip(plaintext, stream, strict=False))
        lengths = (8 * len(aad)).to_bytes(8) + (8 * len(ciphertext)).to_bytes(8)
        total = 0
        for part in (aad, ciphertext, lengths):
            for at in range(0, len(part), 16):
                total = self._times_hash_key(total ^ int.from_bytes(part[at:at + 16].ljust(16, b"\0")))
        first = int.from_bytes(self._block(nonce + (1).to_bytes(4)))
        return ciphertext, (total ^ first).to_bytes(16)

    def _block(self, block: bytes) -> bytes:
        return bytes(self._cipher.one_round(self._cipher.sk, list(block)))

    def _times_hash_key(self, x: int) -> int:
        product, v = 0, self._hash_key
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                product ^= v
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
        return product


def test_sm3_of_the_standards_examples() -> None:
    """GB/T 32905, annex A."""
    assert sm3(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert sm3(b"abcd" * 16).hex() == "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"


def test_sm3_and_its_hmac_are_those_of_the_openssl_command(tmp_path: Path) -> None:
    openssl, stream = Openssl(tmp_path), random.Random(1)
    for key_size, size in ((1, 0), (16, 55), (32, 56), (64, 64), (65, 1_000)):
        key, data = stream.randbytes(key_size), stream.randbytes(size)
        assert sm3(data) == openssl.sm3(data)
        assert hmac_sm3(key, data) == openssl.hmac_sm3(key, data)


def test_sm4_gcm_of_rfc_8998() -> None:
    assert sm4_gcm_encrypt(KEY, NONCE, PLAINTEXT, AAD) == (CIPHERTEXT, TAG)
    assert sm4_gcm_decrypt(KEY, NONCE, CIPHERTEXT, TAG, AAD) == PLAINTEXT
    assert OtherGcm(KEY).seal(NONCE, PLAINTEXT, AAD) == (CIPHERTEXT, TAG)


@given(key=st.binary(min_size=16, max_size=16), nonce=st.binary(min_size=12, max_size=12),
       plaintext=st.binary(max_size=100), aad=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_sm4_gcm_is_that_of_another_implementation(key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> None:
    sealed = sm4_gcm_encrypt(key, nonce, plaintext, aad)
    assert sealed == OtherGcm(key).seal(nonce, plaintext, aad)
    assert sm4_gcm_decrypt(key, nonce, *sealed, aad) == plaintext


@pytest.mark.parametrize("part", range(5), ids=["key", "nonce", "ciphertext", "tag", "aad"])
def test_one_turned_bit_anywhere_is_refused(part: int) -> None:
    parts = [KEY, NONCE, CIPHERTEXT, TAG, AAD]
    for bit in range(8 * len(parts[part])):
        wrong = parts.copy()
        wrong[part] = (int.from_bytes(parts[part]) ^ 1 << bit).to_bytes(len(parts[part]))
        with pytest.raises(CryptoError, match="tag does not fit"):
            sm4_gcm_decrypt(*wrong)


@pytest.mark.parametrize("size", [0, 1, 4, 12, 15, 17, 32])
def test_a_shortened_or_lengthened_tag_is_refused(size: int) -> None:
    with pytest.raises(CryptoError, match="16 bytes"):
        sm4_gcm_decrypt(KEY, NONCE, CIPHERTEXT, (TAG + bytes(16))[:size], AAD)


@pytest.mark.parametrize(("key", "nonce"), [(b"", NONCE), (KEY[1:], NONCE), (KEY * 2, NONCE), (KEY, b""),
                                            (KEY, NONCE[1:]), (KEY, NONCE + b"\0")])
def test_keys_and_nonces_of_another_size_are_refused(key: bytes, nonce: bytes) -> None:
    with pytest.raises(CryptoError):
        sm4_gcm_encrypt(key, nonce, PLAINTEXT)
    with pytest.raises(CryptoError):
        sm4_gcm_decrypt(key, nonce, CIPHERTEXT, TAG)


@given(key=st.binary(max_size=20), nonce=st.binary(max_size=20), ciphertext=st.binary(max_size=50),
       tag=st.binary(max_size=20), aad=st.binary(max_size=20))
def test_fuzz_decrypt_raises_nothing_but_crypto_error(
    key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes, aad: bytes
) -> None:
    with pytest.raises(CryptoError):
        sm4_gcm_decrypt(key, nonce, ciphertext, tag, aad)
