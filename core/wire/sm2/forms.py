"""The curve, the `Sm2` interface, and the byte forms of keys, signatures and ciphertexts.

Every backend takes its inputs through the checks of this file, so the three refuse the same things with the same
words: scalars out of range, points that are not on the curve, signatures and ciphertexts of a wrong shape.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

# The recommended curve, GB/T 32918.5 (sm2p256v1, OID 1.2.156.10197.1.301).
P: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
N: Final = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
A: Final = P - 3
B: Final = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
GX: Final = 0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7
GY: Final = 0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0

USER_ID: Final = b"1234567812345678"
"""The distinguishing id of both sides unless a contract names another (GM/T 0009)."""

MAX_USER_ID_BYTES: Final = 8_190
"""Its length in bits is written in 16 bits; OpenSSL stops one byte earlier than the standard, so all do."""

MAX_PLAINTEXT_BYTES: Final = 65_536
"""Longest plaintext: no frame is longer (protocols.md)."""

DRAWS: Final = 16
"""How often a scalar is drawn before the entropy source counts as broken; a second draw is a matter of 1 in 2**32."""

SCALAR_BYTES: Final = 32
PUBLIC_BYTES: Final = 65
SIGNATURE_BYTES: Final = 64
DIGEST_BYTES: Final = 32
CIPHERTEXT_EXTRA: Final = PUBLIC_BYTES + DIGEST_BYTES


Entropy = Callable[[int], bytes]
"""``entropy(count)`` gives that many bytes: ``os.urandom`` when live, ``stream.randbytes`` of a seeded stream else."""


class CryptoError(Exception):
    """Bytes that are not what they claim: a tampered ciphertext, a point off the curve, a key out of range."""


class KeyPair(NamedTuple):
    """``private`` is 32 bytes, ``public`` 65 (``04 || x || y``)."""

    private: bytes
    public: bytes


class Sm2(Protocol):
    """What the codecs and adapters need of SM2. All methods raise `CryptoError` for keys and bytes that are wrong."""

    def key_pair(self, entropy: Entropy) -> KeyPair:
        """A key pair whose private key is the entropy's first 32 bytes that are a scalar in 1 … n-2."""

    def public_key(self, private: bytes) -> bytes:
        """The public key that belongs to a private one."""

    def sign(self, private: bytes, message: bytes, *, entropy: Entropy, user_id: bytes = USER_ID) -> bytes:
        """``r || s``, 64 bytes, over SM3 of user id, curve, public key and message (GB/T 32918.2)."""

    def verify(self, public: bytes, message: bytes, signature: bytes, *, user_id: bytes = USER_ID) -> bool:
        """Whether the signature is of this key over this message; False for any bytes that are no signature."""

    def encrypt(self, public: bytes, plaintext: bytes, *, entropy: Entropy) -> bytes:
        """``C1 || C3 || C2`` of 1 … 65,536 bytes (GB/T 32918.4)."""

    def decrypt(self, private: bytes, ciphertext: bytes) -> bytes:
        """The plaintext; raises if one bit of the ciphertext was changed."""


# --- scalars and points -----------------------------------------------------------------------------------------


def draw_scalar(entropy: Entropy, largest: int) -> int:
    """A scalar in 1 … largest, uniform if the entropy is: draws of 32 bytes, those out of range thrown away."""
    for _ in range(DRAWS):
        drawn = entropy(SCALAR_BYTES)
        if len(drawn) != SCALAR_BYTES:
            raise CryptoError(f"the entropy source gave {len(drawn)} bytes instead of {SCALAR_BYTES}")
        scalar = int.from_bytes(drawn)
        if 1 <= scalar <= largest:
            return scalar
    raise CryptoError(f"the entropy source gave no scalar in range in {DRAWS} draws")


def private_scalar(private: bytes) -> int:
    """The private key as a number in 1 … n-2 (n-1 has no inverse of 1 + d)."""
    if len(private) != SCALAR_BYTES:
        raise CryptoError(f"an SM2 private key has {SCALAR_BYTES} bytes, not {len(private)}")
    scalar = int.from_bytes(private)
    if not 1 <= scalar <= N - 2:
        raise CryptoError("the SM2 private key is out of range")
    return scalar


def point_of(public: bytes) -> tuple[int, int]:
    """Affine coordinates of an uncompressed point; the curve has prime order, so on the curve is in the group."""
    if len(public) != PUBLIC_BYTES or public[0] != 4:
        raise CryptoError(f"an SM2 point is 04 || x || y, {PUBLIC_BYTES} bytes")
    x, y = int.from_bytes(public[1:33]), int.from_bytes(public[33:])
    if x >= P or y >= P or (y * y - (x * x + A) * x - B) % P:
        raise CryptoError("the point is not on the SM2 curve")
    return x, y


def point_bytes(x: int, y: int) -> bytes:
    """``04 || x || y``."""
    return b"\x04" + x.to_bytes(32) + y.to_bytes(32)


# --- signatures and ciphertexts ---------------------------------------------------------------------------------


def split_signature(signature: bytes) -> tuple[int, int] | None:
    """(r, s), each in 1 … n-1 and their sum not n; None for anything else (GB/T 32918.2, 7.1 B1, B2, B5)."""
    if len(signature) != SIGNATURE_BYTES:
        return None
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    return (r, s) if 0 < r < N and 0 < s < N and r + s != N else None


def join_signature(r: int, s: int) -> bytes:
    """``r || s``."""
    return r.to_bytes(32) + s.to_bytes(32)


def checked_user_id(user_id: bytes) -> bytes:
    """The id, if its length can be written in the digest."""
    if len(user_id) > MAX_USER_ID_BYTES:
        raise CryptoError(f"a distinguishing id has at most {MAX_USER_ID_BYTES} bytes, not {len(user_id)}")
    return user_id


def checked_plaintext(plaintext: bytes) -> bytes:
    """1 … 65,536 bytes: SM2 cannot encrypt nothing (the mask of no bytes counts as all zero)."""
    if not 1 <= len(plaintext) <= MAX_PLAINTEXT_BYTES:
        raise CryptoError(f"SM2 encrypts 1 to {MAX_PLAINTEXT_BYTES} bytes here, not {len(plaintext)}")
    return plaintext


class Ciphertext(NamedTuple):
    """The parts in the order of GB/T 32918.4: point, digest, masked plaintext."""

    c1: bytes
    c3: bytes
    c2: bytes

    def joined(self) -> bytes:
        return self.c1 + self.c3 + self.c2


def split_ciphertext(ciphertext: bytes) -> Ciphertext:
    """The parts; C1 is a point of the curve."""
    size = len(ciphertext) - CIPHERTEXT_EXTRA
    if not 1 <= size <= MAX_PLAINTEXT_BYTES:
        raise CryptoError(f"an SM2 ciphertext cannot have {len(ciphertext)} bytes")
    point_of(ciphertext[:PUBLIC_BYTES])
    return Ciphertext(ciphertext[:PUBLIC_BYTES], ciphertext[PUBLIC_BYTES:CIPHERTEXT_EXTRA],
                      ciphertext[CIPHERTEXT_EXTRA:])


# --- DER, as OpenSSL and GM/T 0009 write it ---------------------------------------------------------------------

_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_SEQUENCE: Final = 0x30


def signature_to_der(signature: bytes) -> bytes:
    """``SEQUENCE { INTEGER r, INTEGER s }`` of ``r || s``."""
    pair = split_signature(signature)
    if pair is None:
        raise CryptoError("not an SM2 signature: 64 bytes, r and s in range")
    return _tagged(_SEQUENCE, b"".join(map(_der_integer, pair)))


def signature_from_der(der: bytes) -> bytes:
    """``r || s`` of ``SEQUENCE { INTEGER r, INTEGER s }``."""
    r, s = _members(der, _INTEGER, _INTEGER)
    return join_signature(_scalar_of(r), _scalar_of(s))


def ciphertext_to_der(ciphertext: bytes) -> bytes:
    """``SEQUENCE { INTEGER x, INTEGER y, OCTET STRING C3, OCTET STRING C2 }`` of ``C1 || C3 || C2``."""
    parts = split_ciphertext(ciphertext)
    coordinates = b"".join(map(_der_integer, point_of(parts.c1)))
    return _tagged(_SEQUENCE, coordinates + _tagged(_OCTETS, parts.c3) + _tagged(_OCTETS, parts.c2))


def ciphertext_from_der(der: bytes) -> bytes:
    """``C1 || C3 || C2`` of OpenSSL's sequence."""
    x, y, c3, c2 = _members(der, _INTEGER, _INTEGER, _OCTETS, _OCTETS)
    if len(c3) != DIGEST_BYTES:
        raise CryptoError("C3 of an SM2 ciphertext has 32 bytes")
    return split_ciphertext(point_bytes(_scalar_of(x), _scalar_of(y)) + c3 + c2).joined()


def _tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _der_integer(number: int) -> bytes:
    return _tagged(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def _scalar_of(content: bytes) -> int:
    """A non-negative INTEGER of at most 256 bits in its shortest form."""
    number = int.from_bytes(content, signed=True)
    if not content or number < 0 or number >> 256 or len(content) != number.bit_length() // 8 + 1:
        raise CryptoError("DER: not a non-negative integer of at most 256 bits")
    return number


def _members(der: bytes, *tags: int) -> list[bytes]:
    """Contents of the members of one SEQUENCE, which must have exactly these tags and nothing behind."""
    outer = list(_elements(der))
    if [tag for tag, _ in outer] != [_SEQUENCE]:
        raise CryptoError("DER: not one sequence")
    inner = list(_elements(outer[0][1]))
    if [tag for tag, _ in inner] != list(tags):
        raise CryptoError("DER: the sequence has other members")
    return [content for _, content in inner]


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(der):
        begin, size = _extent(der, at)
        if begin + size > len(der):
            raise CryptoError("DER: cut short")
        yield der[at], der[begin:begin + size]
        at = begin + size


def _extent(der: bytes, at: int) -> tuple[int, int]:
    """(where the content begins, its size) of the element at a place; only shortest forms of up to 4 bytes."""
    first = der[at + 1] if at + 1 < len(der) else 0xFF
    if first < 0x80:
        return at + 2, first
    count = first & 0x7F
    length = der[at + 2:at + 2 + count]
    size = int.from_bytes(length)
    if not 1 <= count <= 4 or len(length) != count or size < 0x80 or length[0] == 0:
        raise CryptoError("DER: bad length")
    return at + 2 + count, size


# --- PEM, as the openssl command reads and writes it ------------------------------------------------------------

_CURVE_OID: Final = bytes.fromhex("06082a811ccf5501822d")
_ALGORITHM: Final = bytes.fromhex("301306072a8648ce3d0201") + _CURVE_OID
_SPKI: Final = bytes.fromhex("3059") + _ALGORITHM + bytes.fromhex("034200")
_PKCS8: Final = bytes.fromhex("308187020100") + _ALGORITHM + bytes.fromhex("046d306b0201010420")
_PKCS8_PUBLIC: Final = bytes.fromhex("a144034200")


def public_to_pem(public: bytes) -> str:
    """SubjectPublicKeyInfo of a public key, for ``openssl … -pubin``."""
    point_of(public)
    return _pem("PUBLIC KEY", _SPKI + public)


def public_from_pem(pem: str) -> bytes:
    """The public key of a SubjectPublicKeyInfo with an uncompressed point."""
    der = _unpem("PUBLIC KEY", pem)
    public = der[len(_SPKI):]
    if not der.startswith(_SPKI):
        raise CryptoError("the PEM is not an SM2 public key with an uncompressed point")
    point_of(public)
    return public


def private_to_pem(pair: KeyPair) -> str:
    """PKCS #8 without encryption, exactly as ``openssl genpkey -algorithm SM2`` writes it."""
    private_scalar(pair.private)
    point_of(pair.public)
    return _pem("PRIVATE KEY", _PKCS8 + pair.private + _PKCS8_PUBLIC + pair.public)


def private_from_pem(pem: str) -> KeyPair:
    """The pair in a PKCS #8 PEM of ``openssl genpkey -algorithm SM2``; that the two belong together is not checked."""
    der = _unpem("PRIVATE KEY", pem)
    middle = len(_PKCS8) + SCALAR_BYTES
    if not der.startswith(_PKCS8) or der[middle:middle + len(_PKCS8_PUBLIC)] != _PKCS8_PUBLIC:
        raise CryptoError("the PEM is not an SM2 private key with its public key (PKCS #8, not encrypted)")
    pair = KeyPair(der[len(_PKCS8):middle], der[middle + len(_PKCS8_PUBLIC):])
    private_scalar(pair.private)
    point_of(pair.public)
    return pair


def _pem(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode("ascii")
    lines = [text[at:at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def _unpem(label: str, pem: str) -> bytes:
    lines = [line.strip() for line in pem.strip().splitlines()]
    if len(lines) < 3 or (lines[0], lines[-1]) != (f"-----BEGIN {label}-----", f"-----END {label}-----"):
        raise CryptoError(f"not a PEM with one {label}")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CryptoError("the PEM is not base64") from error
