"""DER and PEM forms of SM2: as ``openssl`` writes them, in one form only; all else is a `CryptoError`."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.wire import sm2
from core.wire.sm2 import CryptoError, FastSm2
from core.wire.sm2.forms import N

FAST = FastSm2()
ENTROPY = random.Random(3).randbytes
PAIR = FAST.key_pair(ENTROPY)
SIGNATURE = FAST.sign(PAIR.private, b"text", entropy=ENTROPY)
CIPHERTEXT = FAST.encrypt(PAIR.public, b"text", entropy=ENTROPY)
PRIVATE_PEM, PUBLIC_PEM = sm2.private_to_pem(PAIR), sm2.public_to_pem(PAIR.public)

scalars = st.one_of(st.integers(1, N - 1), st.integers(0, 255).map(lambda bits: max(1, (1 << bits) % N)))


@given(r=scalars, s=scalars)
def test_a_signature_survives_der_whatever_its_leading_bits(r: int, s: int) -> None:
    raw = r.to_bytes(32) + (s if (r + s) % N else s + 1).to_bytes(32)
    der = sm2.signature_to_der(raw)
    assert der[0] == 0x30
    assert der[1] == len(der) - 2
    assert sm2.signature_from_der(der) == raw


@pytest.mark.parametrize("size", [1, 30, 31, 127, 128, 129, 255, 256, 2_000, 65_400, 65_536])
def test_a_ciphertext_survives_der_at_every_length_form(size: int) -> None:
    raw = FAST.encrypt(PAIR.public, ENTROPY(size), entropy=ENTROPY)
    assert sm2.ciphertext_from_der(sm2.ciphertext_to_der(raw)) == raw


def _sequence(*members: bytes) -> bytes:
    content = b"".join(members)
    return bytes((0x30, len(content))) + content


ONE = b"\x02\x01\x01"
BAD_DER = {
    "nothing": b"", "tag only": b"\x30", "empty sequence": b"\x30\x00", "a set": b"\x31" + _sequence(ONE, ONE)[1:],
    "one member": _sequence(ONE), "three members": _sequence(ONE, ONE, ONE),
    "a byte behind": _sequence(ONE, ONE) + b"\0",
    "cut": _sequence(ONE, ONE)[:-1], "empty integer": _sequence(b"\x02\x00", ONE),
    "negative": _sequence(b"\x02\x01\x80", ONE), "padded": _sequence(b"\x02\x02\x00\x01", ONE),
    "too large": _sequence(b"\x02\x22\x01" + bytes(33), ONE), "octets": _sequence(b"\x04\x01\x01", ONE),
    "long form of a short length": b"\x30\x81\x06" + ONE + ONE, "indefinite": b"\x30\x80" + ONE + ONE + b"\0\0",
    "length of five bytes": b"\x30\x85\x01\x00\x00\x00\x00", "length cut": b"\x30\x82\x01",
    "length with a leading zero": b"\x30\x82\x00\x80" + bytes(128),
}


@pytest.mark.parametrize("der", BAD_DER.values(), ids=BAD_DER)
@pytest.mark.parametrize("read", [sm2.signature_from_der, sm2.ciphertext_from_der])
def test_der_in_another_form_is_refused(read: Callable[[bytes], bytes], der: bytes) -> None:
    with pytest.raises(CryptoError):
        read(der)


def test_what_is_no_signature_or_ciphertext_is_not_written_as_der() -> None:
    for raw in (b"", bytes(64), b"\xff" * 64, SIGNATURE + b"\0"):
        with pytest.raises(CryptoError):
            sm2.signature_to_der(raw)
    for raw in (b"", bytes(98), CIPHERTEXT[:97], CIPHERTEXT[:64] + bytes([CIPHERTEXT[64] ^ 1]) + CIPHERTEXT[65:]):
        with pytest.raises(CryptoError):
            sm2.ciphertext_to_der(raw)


def test_a_digest_of_another_size_is_refused() -> None:
    der = bytearray(sm2.ciphertext_to_der(CIPHERTEXT))
    at = der.index(b"\x04\x20" + CIPHERTEXT[65:97])
    shorter = bytes(der[:at]) + b"\x04\x1f" + bytes(der[at + 2:at + 33]) + bytes(der[at + 34:])
    with pytest.raises(CryptoError):
        sm2.ciphertext_from_der(shorter[:1] + bytes([shorter[1] - 1]) + shorter[2:])


@given(der=st.one_of(st.binary(max_size=150), st.binary(max_size=120).map(_sequence)),
       at=st.integers(0, 70), octet=st.integers(0, 255))
@settings(max_examples=300)
def test_fuzz_readers_refuse_or_give_what_writes_back_the_same(der: bytes, at: int, octet: int) -> None:
    near = bytearray(sm2.signature_to_der(SIGNATURE))
    near[at % len(near)] = octet
    for text in (der, bytes(near)):
        with suppress(CryptoError):
            assert sm2.signature_to_der(sm2.signature_from_der(text)) == text
        with suppress(CryptoError):
            assert sm2.ciphertext_to_der(sm2.ciphertext_from_der(text)) == text


def test_keys_survive_pem() -> None:
    assert sm2.private_from_pem(PRIVATE_PEM) == PAIR
    assert sm2.public_from_pem(PUBLIC_PEM) == PAIR.public
    assert sm2.public_from_pem("\r\n" + PUBLIC_PEM.replace("\n", "\r\n")) == PAIR.public


@pytest.mark.parametrize("pem", ["", "-----BEGIN PUBLIC KEY-----", PRIVATE_PEM, PUBLIC_PEM.replace("M", "!"),
                                 PUBLIC_PEM.replace("M", "\u4e2d"), PUBLIC_PEM.replace("MFk", "MFo"),
                                 PUBLIC_PEM[:60] + PUBLIC_PEM[65:]])
def test_a_pem_that_is_no_public_key_is_refused(pem: str) -> None:
    with pytest.raises(CryptoError):
        sm2.public_from_pem(pem)


def test_a_pem_that_is_no_private_key_in_range_is_refused() -> None:
    der = base64.b64decode("".join(PRIVATE_PEM.splitlines()[1:-1]))
    for wrong in (der.replace(PAIR.private, bytes(32)), der.replace(PAIR.public[40:], bytes(25)), der[:-1], der + b"\0",
                  b"\x31" + der[1:]):
        body = base64.b64encode(wrong).decode()
        with pytest.raises(CryptoError):
            sm2.private_from_pem(f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(CryptoError):
        sm2.private_from_pem(PUBLIC_PEM)
