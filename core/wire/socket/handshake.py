"""HELLO, ACK, CONFIRM: two ends prove their SM2 keys to each other and agree on an SM4 key (design/protocols.md).

Bodies of frames with command 100001; the first byte is the step:

=======  ==================================================================================================
HELLO    01, broker 12 (ASCII, spaces on the right), nonce A 16, certificate serial 32 (likewise), signature 64
ACK      02, nonce B 16, encrypted session key 113, signature 64
CONFIRM  03, HMAC-SM3 32
=======  ==================================================================================================

* The bank draws the session key, 16 bytes for SM4, and encrypts it with SM2 for the broker's certificate
  (``C1 || C3 || C2``, C1 uncompressed).
* HELLO's signature is over ``HELLO``, magic, version, and the body before it. ACK's is over ``ACK``, magic, version,
  broker and nonce A as in HELLO, and the body before it: both nonces, and the key, which therefore is the bank's.
* CONFIRM is HMAC-SM3 with the session key over ``CONFIRM``, magic, version, HELLO's body, ACK's body: the broker could
  decrypt the key, and both ends have read the same.

Signatures are SM2 with SM3 and the user id 1234567812345678. Nonces, keys and what SM2 draws come from the caller.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from core.errors import InvariantBroken
from core.wire.sm2 import CryptoError, Entropy, hmac_sm3
from core.wire.socket.fields import Kind, write_value
from core.wire.socket.frames import VERSION, BadHandshake, MalformedMessage

KEY_BYTES: Final = 16
NONCE_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64
WRAPPED_KEY_BYTES: Final = 65 + 32 + KEY_BYTES

HELLO_STEP, ACK_STEP, CONFIRM_STEP = 1, 2, 3
_HELLO: Final = struct.Struct(f">B12s{NONCE_BYTES}s32s{SIGNATURE_BYTES}s")
_ACK: Final = struct.Struct(f">B{NONCE_BYTES}s{WRAPPED_KEY_BYTES}s{SIGNATURE_BYTES}s")
_CONFIRM: Final = struct.Struct(">B32s")


class Sm2Use(Protocol):
    """What this protocol needs of an SM2 provider; `core.wire.sm2.Sm2` has it. `CryptoError` for wrong bytes."""

    def sign(self, private: bytes, message: bytes, *, entropy: Entropy) -> bytes:
        """``r || s``, 64 bytes."""

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the signature is of this key over this message."""

    def encrypt(self, public: bytes, plaintext: bytes, *, entropy: Entropy) -> bytes:
        """``C1 || C3 || C2``."""

    def decrypt(self, private: bytes, ciphertext: bytes) -> bytes:
        """The plaintext; raises if it was tampered with."""


@dataclass(frozen=True, slots=True)
class BrokerIdentity:
    """What the broker's end knows: who it is, its own private key (32 bytes) and the bank's public one (65)."""

    broker: str
    certificate_serial: str
    private: bytes
    bank_public: bytes


@dataclass(frozen=True, slots=True)
class BankIdentity:
    """What the bank's end knows: its private key, and whose public key a (broker, certificate serial) is, or None."""

    private: bytes
    broker_public: Callable[[str, str], bytes | None]


class Agreed(NamedTuple):
    """What a good handshake settles; ``transcript`` is what CONFIRM vouches for."""

    key: bytes
    peer_public: bytes
    transcript: bytes
    broker: str
    certificate_serial: str


class Crypto(NamedTuple):
    """The provider, the caller's entropy, and the magic that every signature is bound to."""

    sm2: Sm2Use
    entropy: Entropy
    magic: bytes

    @property
    def label(self) -> bytes:
        return self.magic + bytes([VERSION])


# --- broker -----------------------------------------------------------------------------------------------------


def hello(crypto: Crypto, identity: BrokerIdentity) -> bytes:
    """The body of a HELLO with a fresh nonce A."""
    head = _HELLO.pack(
        HELLO_STEP,
        _fill(identity.broker, 12, "broker"),
        _draw(crypto, NONCE_BYTES),
        _fill(identity.certificate_serial, 32, "certificate serial"),
        b"",
    )[:-SIGNATURE_BYTES]
    return head + crypto.sm2.sign(identity.private, _hello_signed(crypto, head), entropy=crypto.entropy)


def open_ack(crypto: Crypto, identity: BrokerIdentity, sent: bytes, ack: bytes) -> Agreed:
    """What the ACK to the HELLO ``sent`` settles; `BadHandshake` if the bank did not write it for this HELLO."""
    _check_shape(ack, _ACK, ACK_STEP)
    _, _, wrapped, signature = _ACK.unpack(ack)
    signed = _ack_signed(crypto, sent, ack[:-SIGNATURE_BYTES])
    try:
        if not crypto.sm2.verify(identity.bank_public, signed, signature):
            raise BadHandshake("the ACK is not signed by the bank")
        key = crypto.sm2.decrypt(identity.private, wrapped)
    except CryptoError as error:
        raise BadHandshake(f"ACK: {error}") from None
    return Agreed(key, identity.bank_public, sent + ack, identity.broker, identity.certificate_serial)


def confirm(crypto: Crypto, agreed: Agreed) -> bytes:
    """The body of a CONFIRM."""
    return _CONFIRM.pack(CONFIRM_STEP, _proof(crypto, agreed))


# --- bank -------------------------------------------------------------------------------------------------------


def answer_hello(crypto: Crypto, identity: BankIdentity, received: bytes) -> tuple[bytes, Agreed]:
    """(body of the ACK, what it settles) for a HELLO; `BadHandshake` if no known broker signed it."""
    _check_shape(received, _HELLO, HELLO_STEP)
    _, broker_field, _, serial_field, signature = _HELLO.unpack(received)
    broker, serial = _text(broker_field, "broker"), _text(serial_field, "certificate serial")
    public = identity.broker_public(broker, serial)
    if public is None:
        raise BadHandshake(f"broker {broker} has no certificate {serial} here")
    try:
        good = crypto.sm2.verify(public, _hello_signed(crypto, received[:-SIGNATURE_BYTES]), signature)
    except CryptoError as error:
        raise BadHandshake(f"HELLO: {error}") from None
    if not good:
        raise BadHandshake(f"the HELLO is not signed by broker {broker}")
    ack, key = _ack(crypto, identity, received, public)
    return ack, Agreed(key, public, received + ack, broker, serial)


def _ack(crypto: Crypto, identity: BankIdentity, received: bytes, public: bytes) -> tuple[bytes, bytes]:
    nonce, key = _draw(crypto, NONCE_BYTES), _draw(crypto, KEY_BYTES)
    wrapped = crypto.sm2.encrypt(public, key, entropy=crypto.entropy)
    head = _ACK.pack(ACK_STEP, nonce, wrapped, b"")[:-SIGNATURE_BYTES]
    signature = crypto.sm2.sign(identity.private, _ack_signed(crypto, received, head), entropy=crypto.entropy)
    return head + signature, key


def _draw(crypto: Crypto, count: int) -> bytes:
    drawn = crypto.entropy(count)
    if len(drawn) != count:
        raise InvariantBroken(f"the entropy source gave {len(drawn)} bytes instead of {count}")
    return drawn


def check_confirm(crypto: Crypto, agreed: Agreed, received: bytes) -> None:
    """`BadHandshake` unless the broker has the session key and read what we wrote."""
    _check_shape(received, _CONFIRM, CONFIRM_STEP)
    if not hmac.compare_digest(received[1:], _proof(crypto, agreed)):
        raise BadHandshake("the CONFIRM does not fit the session key")


# --- what is signed ---------------------------------------------------------------------------------------------


def _hello_signed(crypto: Crypto, head: bytes) -> bytes:
    return b"HELLO" + crypto.label + head


def _ack_signed(crypto: Crypto, hello_body: bytes, head: bytes) -> bytes:
    return b"ACK" + crypto.label + hello_body[1 : 1 + 12 + NONCE_BYTES] + head


def _proof(crypto: Crypto, agreed: Agreed) -> bytes:
    return hmac_sm3(agreed.key, b"CONFIRM" + crypto.label + agreed.transcript)


def message_signed(crypto: Crypto, kind: int, command: str, payload: bytes) -> bytes:
    """The bytes that the signature of a money message is over: no sequence, so that it stays a proof for ever."""
    return b"MESSAGE" + crypto.label + bytes([kind]) + command.encode("ascii") + payload


# --- fields -----------------------------------------------------------------------------------------------------


def step_of(body: bytes) -> int:
    """The step that a handshake body says it is; 0 for an empty one."""
    return body[0] if body else 0


def _check_shape(body: bytes, shape: struct.Struct, step: int) -> None:
    if len(body) != shape.size or body[0] != step:
        raise BadHandshake(f"{len(body)} bytes that begin {body[:1].hex()!r} are not step {step}")


def _fill(text: str, width: int, name: str) -> bytes:
    raw = write_value(Kind.CODE, text, name).encode("ascii")
    if len(raw) > width:
        raise MalformedMessage(f"{name}: {len(raw)} bytes are more than {width}")
    return raw.ljust(width)


def _text(field: bytes, name: str) -> str:
    raw = field.rstrip(b" ")
    if not raw or any(byte < 0x21 or byte > 0x7E for byte in raw):
        raise BadHandshake(f"{name}: {field!r} is not visible ASCII")
    return raw.decode("ascii")
