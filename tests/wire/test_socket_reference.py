"""The protocol reference says what the code does, and its worked handshake convinces the ``openssl`` command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from core.wire.sm2 import (
    KeyPair,
    ciphertext_to_der,
    hmac_sm3,
    private_to_pem,
    public_to_pem,
    signature_to_der,
)
from tests.wire.openssl_command import Openssl
from tests.wire.socket_reference import PAGE, PARTS, Conversation, rewritten
from tests.wire.socket_samples import BANK_KEYS, BROKER_KEYS


def test_the_reference_has_every_generated_part_and_each_is_as_the_code_writes_it() -> None:
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("NOSTRO_GOLDEN") == "write":
        PAGE.write_text(rewritten(page), encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
    assert all(page.count(f"<!-- generated: {name} -->") == 1 for name in PARTS)
    assert page == rewritten(page), "run once with NOSTRO_GOLDEN=write and read what it says"


def foreign(folder: Path, keys: KeyPair) -> Openssl:
    """The command, with one of our key pairs."""
    folder.mkdir()
    command = Openssl(folder)
    command.install(private_to_pem(keys), public_to_pem(keys.public))
    return command


def test_openssl_finds_the_worked_handshake_good(tmp_path: Path) -> None:
    said = Conversation()
    broker, bank = foreign(tmp_path / "broker", BROKER_KEYS), foreign(tmp_path / "bank", BANK_KEYS)
    hello, ack, confirm = said.hello[24:-16], said.ack[24:-16], said.confirm[24:-16]
    assert broker.verifies(b"HELLO" + b"CMB1\x01" + hello[:61], signature_to_der(hello[61:]))
    assert bank.verifies(b"ACK" + b"CMB1\x01" + hello[1:29] + ack[:130], signature_to_der(ack[130:]))
    assert broker.decrypt(ciphertext_to_der(ack[17:130])) == said.key
    proof = b"CONFIRM" + b"CMB1\x01" + hello + ack
    assert confirm == b"\x03" + broker.hmac_sm3(said.key, proof) == b"\x03" + hmac_sm3(said.key, proof)
    signed = b"MESSAGE" + b"CMB1\x01" + b"\x03" + b"200101" + said.payload
    assert bank.verifies(signed, signature_to_der(said.received.signature))
    assert not bank.verifies(signed + b" ", signature_to_der(said.received.signature))


def sm4(mode: str, key: bytes, data: bytes, iv: bytes = b"") -> bytes:
    """SM4 by the command, which has ECB and CTR but no GCM."""
    command = ["openssl", "enc", f"-sm4-{mode}", "-nopad", "-K", key.hex(), *(["-iv", iv.hex()] if iv else [])]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def ghash(hash_key: bytes, data: bytes) -> bytes:
    """GHASH of NIST SP 800-38D, bit by bit."""
    h, y = int.from_bytes(hash_key), 0
    for at in range(0, len(data), 16):
        x, v, z = y ^ int.from_bytes(data[at : at + 16]), h, 0
        for bit in range(127, -1, -1):
            z ^= v if x >> bit & 1 else 0
            v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
        y = z
    return y.to_bytes(16)


def test_counter_mode_and_ghash_open_the_worked_push_as_the_page_says() -> None:
    said = Conversation()
    nonce = bytes.fromhex("00000002" + "0000000000000001")
    header, sealed, tag = said.push[:24], said.push[24:-16], said.push[-16:]
    plain = sm4("ctr", said.key, sealed, nonce + bytes.fromhex("00000002"))
    assert plain == said.payload + said.received.signature
    padded = header + bytes(-len(header) % 16) + sealed + bytes(-len(sealed) % 16)
    lengths = (8 * len(header)).to_bytes(8) + (8 * len(sealed)).to_bytes(8)
    mask = sm4("ecb", said.key, nonce + bytes.fromhex("00000001"))
    digest = ghash(sm4("ecb", said.key, bytes(16)), padded + lengths)
    assert tag == bytes(a ^ b for a, b in zip(digest, mask, strict=True))
