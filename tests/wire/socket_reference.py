"""Writes the generated parts of core/wire/socket/PROTOCOL.md from the tables and from one real conversation."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.wire.sm2 import sm3
from core.wire.socket import (
    CMB,
    BankIdentity,
    BankSession,
    BrokerIdentity,
    BrokerSession,
    FrameType,
    Kind,
    Party,
    cmb,
    cmbc,
)
from core.wire.socket import messages as m
from core.wire.socket.fields import FORMS
from tests.wire.socket_samples import BANK_KEYS, BROKER_ID, BROKER_KEYS, SERIAL, SM2, known_certificate, sample

PAGE = Path(__file__).parents[2] / "core" / "wire" / "socket" / "PROTOCOL.md"
_PART = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rewritten(page: str) -> str:
    """The page with each generated part made anew."""
    return _PART.sub(lambda found: f"{found[1]}{PARTS[found[2]]()}\n{found[3]}", page)


def table(*rows: tuple[object, ...]) -> str:
    """A Markdown table; the first row is its head."""
    head, *rest = [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def messages() -> str:
    """Every message: who, what, body, signed."""
    who = {(Party.BROKER,): "broker → bank", (Party.BANK,): "bank → broker"}
    rows = [
        (command, f"{int(kind)} {kind.name.lower().replace('_', '-')}", who.get(row.by, "both"), row.body.__name__,
         row.instruction, "SM2" if row.signed else "", row.purpose)
        for (command, kind), row in m.MESSAGES.items()
    ]  # fmt: skip
    return table(("command", "type", "direction", "body", "instruction", "signed", "says"), *rows)


def kinds() -> str:
    """How each kind of value is written."""
    left, right = "left, spaces", "right, zeros"
    fill = {Kind.NUMBER: right, Kind.AMOUNT: right, Kind.RESULT: "right, zeros; `-` in the first byte"}
    rows = [(kind, form.meaning, fill.get(kind, left)) for kind, form in FORMS.items()]
    return table(("kind", "text of the value", "stands in a CMB field"), *rows)


def fixed_fields() -> str:
    """CMB: one table for each record, with offsets while they are fixed."""
    return "\n\n".join(f"**{record.__name__}**\n\n{_fixed(fields)}" for record, fields in cmb.FIELDS.items())


def _fixed(fields: tuple[cmb.Fixed | cmb.Group, ...]) -> str:
    if not fields:
        return "No fields."
    rows: list[tuple[object, ...]] = [("offset", "width", "field", "kind", "")]
    at: int | None = 0
    for field in fields:
        shown: object = "…" if at is None else at
        if isinstance(field, cmb.Group):
            note = f"3 digits, at most {field.limit}; then so many {field.record.__name__}"
            rows.append((shown, 3, field.name, "count", note))
            at = None
        else:
            optional = "" if field.required else "optional"
            rows.append((shown, field.width, field.label or field.name, field.kind, optional))
            at = None if at is None else at + field.width
    return table(*rows)


def elements() -> str:
    """CMBC: one table for each record."""
    return "\n\n".join(f"**{record.__name__}**\n\n{_elements(fields)}" for record, fields in cmbc.FIELDS.items())


def _elements(fields: tuple[cmbc.Element | cmbc.Group, ...]) -> str:
    if not fields:
        return "No elements."
    rows: list[tuple[object, ...]] = [("element", "longest", "field", "kind", "")]
    for field in fields:
        if isinstance(field, cmbc.Group):
            rows.append((f"`{field.tag}`", field.limit, field.name, f"`{field.item}` …", field.record.__name__))
        else:
            optional = "" if field.required else "optional"
            rows.append((f"`{field.tag}`", field.limit, field.name, field.kind, optional))
    return table(*rows)


def callback_codes() -> str:
    """The codes, and what the broker does on each."""
    rows = [
        (code, callback.meaning, "yes" if callback.certain else "no",
         "nothing" if callback.at_the_door else "the same", callback.action)
        for code, callback in m.CALLBACKS.items()
    ]  # fmt: skip
    head = ("code", "meaning", "says what became of this sending", "of earlier ones", "broker's action")
    return table(head, *rows)


# --- the worked example -----------------------------------------------------------------------------------------


class Draws:
    """Entropy that anybody can compute: SM3 of a counter. Remembers what was drawn."""

    def __init__(self) -> None:
        self.drawn: list[bytes] = []

    def __call__(self, count: int) -> bytes:
        self.drawn.append(sm3(b"worked handshake" + bytes([len(self.drawn)]))[:count])
        return self.drawn[-1]


def hexes(data: bytes, indent: str = "    ") -> str:
    return "\n".join(indent + line for line in textwrap.wrap(data.hex(), 96))


class Conversation:
    """One handshake, a signed push and its acknowledgement; the bytes of each step."""

    def __init__(self) -> None:
        self.draws = Draws()
        identity = BrokerIdentity(BROKER_ID, SERIAL, BROKER_KEYS.private, BANK_KEYS.public)
        broker = BrokerSession(CMB, identity, SM2, self.draws)
        bank = BankSession(CMB, BankIdentity(BANK_KEYS.private, known_certificate), SM2, self.draws)
        self.hello = broker.start()
        bank.feed(self.hello)
        self.ack = bank.output()
        broker.feed(self.ack)
        self.confirm = broker.output()
        bank.feed(self.confirm)
        self.key = bank._sending.key or b""
        self.message = sample(m.DEPOSIT_PUSH, FrameType.PUSH)
        self.payload = CMB.encode(self.message)
        self.push = bank.encode(self.message)
        (received,) = broker.feed(self.push)
        self.received: Any = received
        stamp = m.Stamp("A000000000000001", "20260312", "101531")
        self.answer = m.answer(self.message, m.Answer(0), stamp)
        self.push_ack = broker.encode(self.answer)


def worked_handshake() -> str:
    """The conversation in hex."""
    return "\n".join(_told(Conversation()))


def _told(said: Conversation) -> Iterator[str]:
    names = ("nonce A", "k of HELLO's signature", "nonce B", "session key", "k of the encryption",
             "k of ACK's signature", "k of the push's signature")  # fmt: skip
    keys = {"broker's private key": BROKER_KEYS.private, "broker's public key": BROKER_KEYS.public,
            "bank's private key": BANK_KEYS.private, "bank's public key": BANK_KEYS.public}  # fmt: skip
    assert len(names) == len(said.draws.drawn) and said.draws.drawn[3] == said.key
    for name, value in [*keys.items(), *zip(names, said.draws.drawn, strict=True)]:
        yield f"{name}:\n\n{hexes(value)}\n"
    hello_body, ack_body = said.hello[24:-16], said.ack[24:-16]
    yield f"HELLO, {len(said.hello)} bytes (header, body, empty tag):\n\n{hexes(said.hello)}\n"
    yield f"signed by the broker:\n\n{hexes(b'HELLO' + b'CMB1' + bytes([1]) + hello_body[:-64])}\n"
    yield f"ACK, {len(said.ack)} bytes:\n\n{hexes(said.ack)}\n"
    signed = b"ACK" + b"CMB1" + bytes([1]) + hello_body[1:29] + ack_body[:-64]
    yield f"signed by the bank:\n\n{hexes(signed)}\n"
    yield f"CONFIRM, {len(said.confirm)} bytes:\n\n{hexes(said.confirm)}\n"
    proven = b"CONFIRM" + b"CMB1" + bytes([1]) + hello_body + ack_body
    yield f"under HMAC-SM3 with the session key:\n\n{hexes(proven)}\n"
    yield f"payload of a deposit push (200101), {len(said.payload)} bytes:\n\n{hexes(said.payload)}\n"
    yield f"signed by the bank:\n\n{hexes(said.received.signed)}\n"
    yield f"signature, put behind the payload:\n\n{hexes(said.received.signature)}\n"
    yield f"SM4-GCM nonce (bank to broker, sequence 1):\n\n{hexes((2).to_bytes(4) + (1).to_bytes(8))}\n"
    yield f"frame of the push, {len(said.push)} bytes:\n\n{hexes(said.push)}\n"
    yield f"payload of its acknowledgement:\n\n{hexes(CMB.encode(said.answer))}\n"
    yield f"SM4-GCM nonce (broker to bank, sequence 2):\n\n{hexes((1).to_bytes(4) + (2).to_bytes(8))}\n"
    yield f"frame of the acknowledgement, {len(said.push_ack)} bytes:\n\n{hexes(said.push_ack)}"


PARTS: dict[str, Callable[[], str]] = {
    "messages": messages,
    "kinds": kinds,
    "cmb fields": fixed_fields,
    "cmbc elements": elements,
    "callback codes": callback_codes,
    "worked handshake": worked_handshake,
}
"""Name of each generated part and what writes it."""
