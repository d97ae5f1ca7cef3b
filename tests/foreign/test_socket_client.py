"""The foreign client against the worked handshake of PROTOCOL.md: every byte computed again, without our code."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.foreign import socket_client as client

PAGE = Path(__file__).parents[2] / "core" / "wire" / "socket" / "PROTOCOL.md"
MAGIC, BROKER, SERIAL = b"CMB1", "NOSTRO01", "2026000000000001"

# The curve of GB/T 32918.5.
P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
A = P - 3
B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
G = (0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
     0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0)  # fmt: skip

Point = tuple[int, int] | None


def worked() -> dict[str, list[bytes]]:
    """§8: what stands under each line that ends with a colon; some lines stand there twice."""
    part = PAGE.read_text(encoding="utf-8").split("<!-- generated: worked handshake -->")[1].split("<!-- end -->")[0]
    found: dict[str, list[bytes]] = {}
    for name, digits in re.findall(r"^(\S[^\n]*):\n\n((?:    [0-9a-f]+\n)+)", part, re.MULTILINE):
        found.setdefault(name, []).append(bytes.fromhex("".join(digits.split())))
    return found


SAID = worked()


def said(name: str, which: int = 0) -> bytes:
    return next(values for key, values in SAID.items() if key.startswith(name))[which]


def sum_of(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return one or other
    (x, y), (u, v) = one, other
    if x == u and (y + v) % P == 0:
        return None
    slope = (3 * x * x + A) * pow(2 * y, -1, P) if one == other else (v - y) * pow(u - x, -1, P)
    w = (slope * slope - x - u) % P
    return w, (slope * (x - w) - y) % P


def times(factor: int, point: Point) -> tuple[int, int]:
    total: Point = None
    while factor:
        total = sum_of(total, point) if factor & 1 else total
        factor, point = factor >> 1, sum_of(point, point)
    assert total is not None
    return total


def octets(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(32, "big") for number in numbers)


def number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def sm3(data: bytes) -> bytes:
    return hashlib.new("sm3", data).digest()


def signature(private: bytes, public: bytes, message: bytes, k: bytes) -> bytes:
    """GB/T 32918.2 with the k that the page gives."""
    ident = client.USER_ID.encode()
    z = sm3((8 * len(ident)).to_bytes(2, "big") + ident + octets(A, B, *G) + public[1:])
    e, d = number(sm3(z + message)), number(private)
    r = (e + times(number(k), G)[0]) % N
    return octets(r, pow(1 + d, -1, N) * (number(k) - r * d) % N)


def encrypted(public: bytes, plain: bytes, k: bytes) -> bytes:
    """GB/T 32918.4, C1 ‖ C3 ‖ C2, for at most 32 bytes."""
    x, y = times(number(k), (number(public[1:33]), number(public[33:])))
    pad = sm3(octets(x, y) + b"\0\0\0\1")
    c2 = bytes(a ^ b for a, b in zip(plain, pad, strict=False))
    return b"\4" + octets(*times(number(k), G)) + sm3(octets(x) + plain + octets(y)) + c2


KEYS: dict[str, Callable[[], bytes]] = {
    "broker's public key": lambda: b"\4" + octets(*times(number(said("broker's private key")), G)),
    "bank's public key": lambda: b"\4" + octets(*times(number(said("bank's private key")), G)),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_public_keys_are_those_of_the_private_ones(name: str) -> None:
    assert said(name) == KEYS[name]()


def test_the_draws_are_sm3_of_a_counter_in_the_order_of_the_page() -> None:
    names = [name for name in SAID if name.startswith(("nonce A", "k of", "nonce B", "session key"))]
    assert names == ["nonce A", "k of HELLO's signature", "nonce B", "session key", "k of the encryption",
                     "k of ACK's signature", "k of the push's signature"]  # fmt: skip
    for counter, name in enumerate(names):
        assert said(name) == sm3(b"worked handshake" + bytes([counter]))[: len(said(name))]


def clear_frame(kind: int, sequence: int, body: bytes) -> bytes:
    return client.HEADER.pack(MAGIC, 1, kind, b"100001", sequence, len(body)) + body + bytes(16)


def test_hello_byte_for_byte() -> None:
    unsigned = b"\1" + BROKER.encode().ljust(12) + said("nonce A") + SERIAL.encode().ljust(32)
    signed = client.hello_signed(MAGIC, unsigned)
    assert signed == said("signed by the broker")
    proof = signature(said("broker's private key"), said("broker's public key"), signed, said("k of HELLO"))
    assert clear_frame(client.REQUEST, 0, unsigned + proof) == said("HELLO, 165 bytes")


def test_ack_byte_for_byte() -> None:
    hello = said("HELLO, 165 bytes")[24:-16]
    wrapped = encrypted(said("broker's public key"), said("session key"), said("k of the encryption"))
    unsigned = b"\2" + said("nonce B") + wrapped
    signed = client.ack_signed(MAGIC, hello, unsigned)
    assert signed == said("signed by the bank")
    proof = signature(said("bank's private key"), said("bank's public key"), signed, said("k of ACK"))
    assert clear_frame(client.RESPONSE, 0, unsigned + proof) == said("ACK, 234 bytes")


def test_confirm_byte_for_byte() -> None:
    hello, ack = said("HELLO, 165 bytes")[24:-16], said("ACK, 234 bytes")[24:-16]
    assert client.confirm_proved(MAGIC, hello, ack) == said("under HMAC-SM3")
    confirm = client.confirm_body(MAGIC, said("session key"), hello, ack)
    assert clear_frame(client.REQUEST, 1, confirm) == said("CONFIRM, 73 bytes")


def test_the_push_byte_for_byte() -> None:
    payload = said("payload of a deposit push")
    message = client.read_payload("CMB", client.PUSH, client.DEPOSIT, payload)
    assert client.write_payload("CMB", message) == payload
    assert message.body == {
        "reference": "20260312000042", "push_seq": "42", "name": "欧阳𠮷祥", "card_no": "6225880212345678",
        "ccy": "HKD", "amount": "1234.50", "market": "HK", "account": "10086420", "cert_type": "01",
        "cert_no": "11010119900307451X",
    }  # fmt: skip
    signed = client.message_signed(MAGIC, client.PUSH, client.DEPOSIT, payload)
    assert signed == said("signed by the bank", 1)
    proof = signature(said("bank's private key"), said("bank's public key"), signed, said("k of the push"))
    assert proof == said("signature, put behind the payload")
    sealer = client.Sealer(said("session key"), client.TO_BROKER)
    assert sealer.nonce(1) == said("SM4-GCM nonce (bank to broker")
    frame = said("frame of the push")
    header = client.HEADER.pack(MAGIC, 1, client.PUSH, b"200101", 1, len(payload) + 64)
    assert header + sealer.seal(header, 1, payload + proof) == frame
    assert sealer.open(header, 1, frame[24:]) == payload + proof
    with pytest.raises(client.Failure, match="wrong tag"):
        sealer.open(header, 2, frame[24:])


def test_the_acknowledgement_byte_for_byte() -> None:
    payload = said("payload of its acknowledgement")
    message = client.read_payload("CMB", client.ACK, client.DEPOSIT, payload)
    assert message.body == {"code": "0", "text": ""} and message.header["initiator"] == "B"
    assert client.write_payload("CMB", message) == payload
    sealer = client.Sealer(said("session key"), client.TO_BANK)
    assert sealer.nonce(2) == said("SM4-GCM nonce (broker to bank")
    header = client.HEADER.pack(MAGIC, 1, client.ACK, b"200101", 2, len(payload))
    assert header + sealer.seal(header, 2, payload) == said("frame of the acknowledgement")


# --- the same by the openssl command --------------------------------------------------------------------------------

_EC, _SM2 = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06082a811ccf5501822d")  # object identifiers


def pem(name: str, encoded: bytes) -> str:
    return f"-----BEGIN {name}-----\n{base64.encodebytes(encoded).decode()}-----END {name}-----\n"


def pem_files(folder: Path, who: str) -> tuple[Path, Path]:
    """Private and public key of the page as the command reads them (SEC 1 in PKCS #8, SubjectPublicKeyInfo)."""
    private, public = said(f"{who}'s private key"), said(f"{who}'s public key")
    algorithm, bits = client.der(0x30, _EC + _SM2), client.der(3, b"\0" + public)
    inner = client.der(0x30, client.der(2, b"\1") + client.der(4, private) + client.der(0xA1, bits))
    key, known = folder / f"{who}.pem", folder / f"{who}.public.pem"
    key.write_text(pem("PRIVATE KEY", client.der(0x30, client.der(2, b"\0") + algorithm + client.der(4, inner))))
    known.write_text(pem("PUBLIC KEY", client.der(0x30, algorithm + bits)))
    return key, known


def test_the_command_accepts_every_signature_of_the_page_and_no_other(tmp_path: Path) -> None:
    (_, broker), (_, bank) = pem_files(tmp_path, "broker"), pem_files(tmp_path, "bank")
    hello, ack = said("HELLO, 165 bytes")[24:-16], said("ACK, 234 bytes")[24:-16]
    assert client.sm2_verify(broker, said("signed by the broker"), hello[61:])
    assert client.sm2_verify(bank, said("signed by the bank"), ack[130:])
    assert client.sm2_verify(bank, said("signed by the bank", 1), said("signature, put behind"))
    assert not client.sm2_verify(bank, said("signed by the bank", 1) + b" ", said("signature, put behind"))
    assert not client.sm2_verify(broker, said("signed by the bank"), ack[130:])


def test_the_client_opens_the_ack_of_the_page(tmp_path: Path) -> None:
    (key, broker), (_, bank) = pem_files(tmp_path, "broker"), pem_files(tmp_path, "bank")
    hello, ack = said("HELLO, 165 bytes")[24:-16], said("ACK, 234 bytes")[24:-16]
    assert client.session_key(MAGIC, hello, ack, key, bank) == said("session key")
    with pytest.raises(client.Failure, match="not signed by the bank"):
        client.session_key(MAGIC, hello, ack, key, broker)
    with pytest.raises(client.Failure, match="not signed by the bank"):
        client.session_key(MAGIC, hello[:20] + bytes(1) + hello[21:], ack, key, bank)


def test_what_the_client_signs_the_command_verifies(tmp_path: Path) -> None:
    key, public = pem_files(tmp_path, "broker")
    for turn in range(4):  # r and s begin with a zero now and then
        message = bytes([turn]) * 100
        raw = client.sm2_sign(key, message)
        assert len(raw) == 64 and client.sm2_verify(public, message, raw)


@pytest.mark.parametrize(
    "raw", [bytes(31) + b"\1" + bytes(31) + b"\x80", b"\xff" * 64, b"\0\x80" + bytes(30) + b"\x7f" * 32]
)
def test_a_signature_goes_to_der_and_back(raw: bytes) -> None:
    assert client.raw_signature(client.der_signature(raw)) == raw


def test_a_payload_in_xml_is_written_and_read() -> None:
    header = dict.fromkeys((name for name, _, _, _ in client.HEAD), "x") | {"instruction": "Trf.005", "related_ref": ""}
    asked = client.Message(client.REQUEST, client.QUERY, header, {"reference": "A<B&C"})
    assert client.read_payload("CMBC", client.REQUEST, client.QUERY, client.write_payload("CMBC", asked)) == asked
