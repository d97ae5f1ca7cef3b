"""A broker's end of the CMB and CMBC socket protocol that shares no code with the project.

Written from ``core/wire/socket/PROTOCOL.md`` alone (the § in the comments are its), with the standard library and the
``openssl`` command: SM2 and SM4 are the command's, GHASH is written out after NIST SP 800-38D. It signs on, answers
heartbeats, waits for a deposit push, verifies and acknowledges it, queries it by reference and signs off. What happens
is printed as JSON, an object a line; a failure is printed as ``{"event": "failed", …}`` and the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

HEADER = struct.Struct(">4sBB6sQI")  # §2: magic, version, type, command, sequence, length of the body
TAG = 16
MAX_FRAME = 65_536
REQUEST, RESPONSE, PUSH, ACK = 1, 2, 3, 4
TO_BANK, TO_BROKER = 1, 2  # §2: the direction in the nonce
USER_ID = "1234567812345678"
HEARTBEAT_S, DEAD_S = 20.0, 60.0  # §5
MAGIC = {"CMB": b"CMB1", "CMBC": b"MSB1"}
REFUSAL, HEARTBEAT, SIGN_ON, SIGN_OFF, DEPOSIT, QUERY = "100000", "100002", "100003", "100004", "200101", "200105"
GOOD, MALFORMED, BAD_SIGNATURE = "0", "-2", "-3"

# --- tables: §5, and the fields of §6 and §7 that this client needs -------------------------------------------------

INSTRUCTION = {
    (REFUSAL, RESPONSE): "Sysm.008", (HEARTBEAT, REQUEST): "Sysm.005", (HEARTBEAT, RESPONSE): "Sysm.006",
    (SIGN_ON, REQUEST): "Sysm.001", (SIGN_ON, RESPONSE): "Sysm.002", (SIGN_OFF, REQUEST): "Sysm.003",
    (SIGN_OFF, RESPONSE): "Sysm.004", (DEPOSIT, PUSH): "Trf.001", (DEPOSIT, ACK): "Trf.002",
    (QUERY, REQUEST): "Trf.005", (QUERY, RESPONSE): "Trf.006",
}  # fmt: skip
SIGNED = {(DEPOSIT, PUSH), (QUERY, RESPONSE)}

Field = tuple[str, str, int, str]  # name here, element (CMBC), width (CMB), kind: text, number, result or amount

HEAD: list[Field] = [
    ("version", "Ver", 4, "text"), ("system_type", "SysType", 1, "text"), ("instruction", "InstrCd", 8, "text"),
    ("initiator", "TradSrc", 1, "text"), ("sender", "Sender", 12, "text"), ("receiver", "Recver", 12, "text"),
    ("date", "Date", 8, "text"), ("time", "Time", 6, "text"), ("ref", "Ref", 32, "text"),
    ("related_ref", "RltdRef", 32, "text"), ("last_fragment", "LstFrag", 1, "text"),
]  # fmt: skip
ANSWER: list[Field] = [("code", "RetCode", 4, "result"), ("text", "RetMsg", 60, "text")]
BODY: dict[tuple[str, int], list[Field]] = {
    (REFUSAL, RESPONSE): ANSWER, (HEARTBEAT, REQUEST): [], (HEARTBEAT, RESPONSE): ANSWER,
    (SIGN_ON, REQUEST): [("business_date", "BusiDate", 8, "text"), ("last_push_seq", "LastPushSeq", 16, "number")],
    (SIGN_ON, RESPONSE): ANSWER, (SIGN_OFF, REQUEST): [("reason", "Reason", 60, "text")],
    (SIGN_OFF, RESPONSE): ANSWER, (DEPOSIT, ACK): ANSWER,
    (DEPOSIT, PUSH): [
        ("reference", "OrgRefNo", 32, "text"), ("push_seq", "PushSeq", 16, "number"), ("name", "CustName", 60, "text"),
        ("card_no", "CardNo", 32, "text"), ("ccy", "Ccy", 3, "text"), ("amount", "TrfAmt", 18, "amount"),
        ("market", "Market", 4, "text"), ("account", "ScAcct", 20, "text"), ("cert_type", "CertType", 2, "text"),
        ("cert_no", "CertId", 30, "text"),
    ],
    (QUERY, REQUEST): [("reference", "OrgRefNo", 32, "text")],
    (QUERY, RESPONSE): [
        ("code", "RetCode", 4, "result"), ("reference", "OrgRefNo", 32, "text"), ("state", "TrfState", 8, "text"),
        ("result", "TrfCode", 4, "result"), ("ccy", "Ccy", 3, "text"), ("amount", "TrfAmt", 18, "amount"),
        ("text", "RetMsg", 60, "text"), ("bank_serial", "BkSerial", 32, "text"), ("kind", "TrfType", 8, "text"),
        ("card_no", "CardNo", 32, "text"),
    ],
}  # fmt: skip


class Failure(Exception):
    """The conversation cannot go on."""


class Unreadable(Failure):
    """A payload that does not say what its command promises."""


# --- SM2, SM3, SM4 ------------------------------------------------------------------------------------------------


def openssl(*arguments: str, data: bytes = b"", refusal: bool = False) -> bytes | None:
    """What the command prints; None if it refuses and a refusal is an answer."""
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False)
    if done.returncode == 0:
        return done.stdout
    if refusal:
        return None
    raise Failure(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")


def sm3(data: bytes) -> bytes:
    return hashlib.new("sm3", data).digest()


def hmac_sm3(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, "sm3").digest()


def der(tag: int, content: bytes) -> bytes:
    """One element; content of at most 255 bytes."""
    size = len(content)
    return bytes([tag, size] if size < 128 else [tag, 0x81, size]) + content


def der_integer(unsigned: bytes) -> bytes:
    value = unsigned.lstrip(b"\0") or b"\0"
    return der(2, b"\0" + value if value[0] & 0x80 else value)


def der_signature(raw: bytes) -> bytes:
    """§3: r ‖ s as the command wants it."""
    return der(0x30, der_integer(raw[:32]) + der_integer(raw[32:]))


def raw_signature(encoded: bytes) -> bytes:
    """The other way; a signature is shorter than 128 bytes, so every length is one byte."""
    r_ends = 4 + encoded[3]
    r, s = encoded[4:r_ends], encoded[r_ends + 2 : r_ends + 2 + encoded[r_ends + 1]]
    return b"".join(part.lstrip(b"\0").rjust(32, b"\0") for part in (r, s))


def der_ciphertext(raw: bytes) -> bytes:
    """§3: C1 ‖ C3 ‖ C2 as the command wants it."""
    x, y, c3, c2 = raw[1:33], raw[33:65], raw[65:97], raw[97:]
    return der(0x30, der_integer(x) + der_integer(y) + der(4, c3) + der(4, c2))


_SM2 = ("-rawin", "-digest", "sm3", "-pkeyopt", f"distid:{USER_ID}")


def sm2_sign(key: Path, message: bytes) -> bytes:
    with TemporaryDirectory() as folder:
        said = Path(folder) / "message"
        said.write_bytes(message)
        return raw_signature(openssl("pkeyutl", "-sign", "-inkey", str(key), *_SM2, "-in", str(said)) or b"")


def sm2_verify(public: Path, message: bytes, signature: bytes) -> bool:
    with TemporaryDirectory() as folder:
        said, sealed = Path(folder) / "message", Path(folder) / "signature"
        said.write_bytes(message)
        sealed.write_bytes(der_signature(signature))
        files = ("-in", str(said), "-sigfile", str(sealed))
        return openssl("pkeyutl", "-verify", "-pubin", "-inkey", str(public), *_SM2, *files, refusal=True) is not None


def sm2_decrypt(key: Path, ciphertext: bytes) -> bytes:
    return openssl("pkeyutl", "-decrypt", "-inkey", str(key), data=der_ciphertext(ciphertext)) or b""


def sm4_ctr(key: bytes, counter: bytes, data: bytes) -> bytes:
    return openssl("enc", "-sm4-ctr", "-nopad", "-K", key.hex(), "-iv", counter.hex(), data=data) or b""


def ghash(hash_key: bytes, data: bytes) -> bytes:
    """NIST SP 800-38D, 6.4: bit by bit, the leftmost bit of a block is its lowest power."""
    h, y = int.from_bytes(hash_key, "big"), 0
    for at in range(0, len(data), 16):
        x, v, y = y ^ int.from_bytes(data[at : at + 16], "big"), h, 0
        for bit in range(127, -1, -1):
            if x >> bit & 1:
                y ^= v
            v = v >> 1 ^ (0xE1 << 120) if v & 1 else v >> 1
    return y.to_bytes(16, "big")


class Sealer:
    """§2: SM4-GCM with one key in one direction. Counter 1 masks the tag and counter 2 begins the text, so one run
    of the command over 16 zero bytes and the text gives both."""

    def __init__(self, key: bytes, direction: int) -> None:
        self._key, self._direction = key, direction
        self._hash_key = sm4_ctr(key, bytes(16), bytes(16))

    def nonce(self, sequence: int) -> bytes:
        return struct.pack(">IQ", self._direction, sequence)

    def seal(self, header: bytes, sequence: int, plain: bytes) -> bytes:
        """Ciphertext and tag."""
        mask, text = self._run(sequence, plain)
        return text + self._tag(header, text, mask)

    def open(self, header: bytes, sequence: int, sealed: bytes) -> bytes:
        text, tag = sealed[:-TAG], sealed[-TAG:]
        mask, plain = self._run(sequence, text)
        if not hmac.compare_digest(tag, self._tag(header, text, mask)):
            raise Failure(f"frame {sequence} of the bank has a wrong tag")
        return plain

    def _run(self, sequence: int, data: bytes) -> tuple[bytes, bytes]:
        done = sm4_ctr(self._key, self.nonce(sequence) + b"\0\0\0\1", bytes(16) + data)
        return done[:16], done[16:]

    def _tag(self, header: bytes, text: bytes, mask: bytes) -> bytes:
        padded = header + bytes(-len(header) % 16) + text + bytes(-len(text) % 16)
        digest = ghash(self._hash_key, padded + struct.pack(">QQ", 8 * len(header), 8 * len(text)))
        return bytes(a ^ b for a, b in zip(digest, mask, strict=True))


# --- handshake: §3 --------------------------------------------------------------------------------------------------


def hello_body(magic: bytes, broker: str, serial: str, nonce: bytes, key: Path) -> bytes:
    unsigned = b"\1" + broker.encode().ljust(12) + nonce + serial.encode().ljust(32)
    return unsigned + sm2_sign(key, hello_signed(magic, unsigned))


def hello_signed(magic: bytes, hello: bytes) -> bytes:
    return b"HELLO" + magic + b"\1" + hello[:61]


def ack_signed(magic: bytes, hello: bytes, ack: bytes) -> bytes:
    return b"ACK" + magic + b"\1" + hello[1:29] + ack[:130]


def session_key(magic: bytes, hello: bytes, ack: bytes, key: Path, bank: Path) -> bytes:
    """The key in the bank's ACK, if the ACK is the bank's."""
    if len(ack) != 194 or ack[0] != 2:
        raise Failure("this is not an ACK")
    if not sm2_verify(bank, ack_signed(magic, hello, ack), ack[130:]):
        raise Failure("the ACK is not signed by the bank")
    return sm2_decrypt(key, ack[17:130])


def confirm_body(magic: bytes, key: bytes, hello: bytes, ack: bytes) -> bytes:
    return b"\3" + hmac_sm3(key, confirm_proved(magic, hello, ack))


def confirm_proved(magic: bytes, hello: bytes, ack: bytes) -> bytes:
    return b"CONFIRM" + magic + b"\1" + hello + ack


def message_signed(magic: bytes, kind: int, command: str, payload: bytes) -> bytes:
    """§4."""
    return b"MESSAGE" + magic + b"\1" + bytes([kind]) + command.encode() + payload


# --- payloads: §6 and §7 --------------------------------------------------------------------------------------------


class Message(NamedTuple):
    """One message: values are texts, an absent one is empty."""

    kind: int
    command: str
    header: dict[str, str]
    body: dict[str, str]


def write_payload(bank: str, message: Message) -> bytes:
    parts = [(HEAD, message.header), (BODY[message.command, message.kind], message.body)]
    if bank == "CMB":
        return b"".join(_fixed(values.get(name, ""), width, kind) for fields, values in parts
                        for name, _, width, kind in fields)  # fmt: skip
    groups = (f"<{tag}>" + "".join(f"<{element}>{escape(values[name])}</{element}>" for name, element, _, _ in fields
                                   if values.get(name)) + f"</{tag}>"
              for tag, (fields, values) in zip(("MsgHdr", "MsgBody"), parts, strict=True))  # fmt: skip
    return ('<?xml version="1.0" encoding="UTF-8"?><MsgText>' + "".join(groups) + "</MsgText>").encode()


def read_payload(bank: str, kind: int, command: str, payload: bytes) -> Message:
    fields = BODY.get((command, kind))
    if fields is None:
        raise Unreadable(f"{command} of type {kind} is not for this client")
    try:
        header, body = (_cut if bank == "CMB" else _elements)(payload, fields)
    except (ValueError, ElementTree.ParseError) as error:
        raise Unreadable(f"{command} of type {kind}: {error}") from error
    if header["instruction"] != INSTRUCTION[command, kind]:
        raise Unreadable(f"{command} of type {kind} says that it is {header['instruction']}")
    return Message(kind, command, header, body)


def _fixed(value: str, width: int, kind: str) -> bytes:
    data = value.encode("gb18030")
    if len(data) > width:
        raise Failure(f"{value!r} does not fit into {width} bytes")
    if kind == "text" or not value:
        return data.ljust(width)
    return b"-" + data[1:].rjust(width - 1, b"0") if value.startswith("-") else data.rjust(width, b"0")


def _cut(payload: bytes, fields: list[Field]) -> tuple[dict[str, str], dict[str, str]]:
    if len(payload) != sum(width for _, _, width, _ in HEAD + fields):
        raise ValueError(f"{len(payload)} bytes")
    parts, at = [], 0
    for table in (HEAD, fields):
        values = {}
        for name, _, width, kind in table:
            values[name] = _plain(payload[at : at + width].decode("gb18030").rstrip(" "), kind)
            at += width
        parts.append(values)
    return parts[0], parts[1]


def _plain(value: str, kind: str) -> str:
    """Without the zeros on the left."""
    if kind == "text" or not value:
        return value
    sign, digits = ("-", value[1:]) if value.startswith("-") else ("", value)
    return sign + re.sub(r"^0+(?=[0-9])", "", digits)


def _elements(payload: bytes, fields: list[Field]) -> tuple[dict[str, str], dict[str, str]]:
    root = ElementTree.fromstring(payload)
    parts = [{name: (root.findtext(f"{tag}/{element}") or "") for name, element, _, _ in table}
             for tag, table in (("MsgHdr", HEAD), ("MsgBody", fields))]  # fmt: skip
    return parts[0], parts[1]


# --- the connection -------------------------------------------------------------------------------------------------


class Identity(NamedTuple):
    """Who speaks with whom."""

    bank: str
    broker: str
    serial: str
    key: Path
    bank_key: Path


class Connection:
    """Frames in both directions, in the clear until `keyed`."""

    def __init__(self, link: socket.socket, magic: bytes) -> None:
        self._link, self._magic = link, magic
        self._received = b""
        self._sent_frames = self._heard_frames = 0
        self._sealers: tuple[Sealer, Sealer] | None = None

    def keyed(self, key: bytes) -> None:
        self._sealers = Sealer(key, TO_BANK), Sealer(key, TO_BROKER)

    def send(self, kind: int, command: str, body: bytes) -> None:
        sequence = self._sent_frames
        self._sent_frames += 1
        header = HEADER.pack(self._magic, 1, kind, command.encode(), sequence, len(body))
        sealed = self._sealers[0].seal(header, sequence, body) if self._sealers else body + bytes(TAG)
        self._link.sendall(header + sealed)

    def receive(self, seconds: float) -> tuple[int, str, bytes, int] | None:
        """Type, command, body and sequence of the next frame; None if there is none in time."""
        until = time.monotonic() + seconds
        while (frame := self._frame()) is None:
            self._link.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = self._link.recv(65_536)
            except TimeoutError:
                return None
            if not data:
                raise Failure("the bank has closed the connection")
            self._received += data
        return frame

    def _frame(self) -> tuple[int, str, bytes, int] | None:
        if len(self._received) < HEADER.size:
            return None
        header = self._received[: HEADER.size]
        magic, version, kind, command, sequence, length = HEADER.unpack(header)
        ends = HEADER.size + length + TAG
        if (magic, version) != (self._magic, 1) or ends > MAX_FRAME:
            raise Failure("this is not a frame of the protocol")
        if sequence != self._heard_frames:
            raise Failure(f"frame {sequence} has come, {self._heard_frames} is next")
        if len(self._received) < ends:
            return None
        rest, self._received = self._received[HEADER.size : ends], self._received[ends:]
        self._heard_frames += 1
        return kind, command.decode(), self._opened(header, sequence, rest), sequence

    def _opened(self, header: bytes, sequence: int, rest: bytes) -> bytes:
        if self._sealers:
            return self._sealers[1].open(header, sequence, rest)
        if rest[-TAG:] != bytes(TAG):
            raise Failure("a frame in the clear has a tag")
        return rest[:-TAG]


class Client:
    """One broker on one connection."""

    def __init__(self, identity: Identity, link: socket.socket, patience_s: float, now: datetime) -> None:
        self._identity, self._magic = identity, MAGIC[identity.bank]
        self._frames = Connection(link, self._magic)
        self._patience_s, self._now = patience_s, now
        self._nonce = os.urandom(16)
        self._number = 0
        self._beat_at = self._heard_at = time.monotonic()
        self._deposits: dict[str, Message] = {}

    def handshake(self) -> None:
        """§3. Each side uses the key from its next frame on."""
        who = self._identity
        hello = hello_body(self._magic, who.broker, who.serial, self._nonce, who.key)
        self._frames.send(REQUEST, "100001", hello)
        frame = self._frames.receive(self._patience_s)
        if frame is None or frame[:2] != (RESPONSE, "100001"):
            raise Failure("the bank does not answer the HELLO")
        key = session_key(self._magic, hello, frame[2], who.key, who.bank_key)
        self._frames.send(REQUEST, "100001", confirm_body(self._magic, key, hello, frame[2]))
        self._frames.keyed(key)
        tell("keys agreed", broker=who.broker, bank=who.bank)

    def sign_on(self, last_push_seq: int) -> None:
        date = f"{self._now:%Y%m%d}"
        answer = self._ask(SIGN_ON, {"business_date": date, "last_push_seq": str(last_push_seq)})
        if answer.body["code"] != GOOD:
            raise Failure(f"sign-on is answered {answer.body['code']} {answer.body['text']}")
        tell("signed on", business_date=date)

    def sign_off(self) -> None:
        tell("signed off", code=self._ask(SIGN_OFF, {}).body["code"])

    def query(self, reference: str) -> None:
        tell("query", **self._ask(QUERY, {"reference": reference}).body)

    def await_deposit(self) -> str:
        """The reference of the first deposit that is pushed."""
        until = time.monotonic() + self._patience_s
        while not self._deposits:
            if time.monotonic() > until:
                raise Failure(f"no deposit in {self._patience_s} s")
            self._next(until)
        return next(iter(self._deposits.values())).body["reference"]

    # What is said

    def _ask(self, command: str, body: dict[str, str]) -> Message:
        ref = self._send(REQUEST, command, body, "S", "")
        until = time.monotonic() + self._patience_s
        while time.monotonic() < until:
            message = self._next(until)
            if message is not None and message.header["related_ref"] == ref:
                if message.command != command:
                    raise Failure(f"{command} is answered {message.command}: {message.body}")
                return message
        raise Failure(f"no answer to {command} in {self._patience_s} s")

    def _answer(self, message: Message) -> None:
        kind = ACK if message.kind == PUSH else RESPONSE
        self._send(kind, message.command, {"code": GOOD}, message.header["initiator"], message.header["ref"])

    def _send(self, kind: int, command: str, body: dict[str, str], initiator: str, related_ref: str) -> str:
        self._number += 1
        ref = f"F{self._nonce[:8].hex()}{self._number:06d}"
        header = {"version": "1.0", "system_type": "1", "instruction": INSTRUCTION[command, kind],
                  "initiator": initiator, "sender": self._identity.broker, "receiver": self._identity.bank,
                  "date": f"{self._now:%Y%m%d}", "time": f"{self._now:%H%M%S}", "ref": ref,
                  "related_ref": related_ref, "last_fragment": "Y"}  # fmt: skip
        self._frames.send(kind, command, write_payload(self._identity.bank, Message(kind, command, header, body)))
        return ref

    # What is heard

    def _next(self, until: float) -> Message | None:
        """The next response; whatever else comes is dealt with."""
        now = time.monotonic()
        if now > self._heard_at + DEAD_S:
            raise Failure(f"nothing heard for {DEAD_S} s")
        if now >= self._beat_at + HEARTBEAT_S:
            self._beat_at = now
            self._send(REQUEST, HEARTBEAT, {}, "S", "")
        frame = self._frames.receive(min(until, self._beat_at + HEARTBEAT_S) - now)
        if frame is None:
            return None
        self._heard_at = time.monotonic()
        message = self._message(*frame[:3], sequence=frame[3])
        if message is None or message.kind == RESPONSE:
            return message
        if message.kind == PUSH:
            self._persist(message)
        self._answer(message)
        return None

    def _message(self, kind: int, command: str, plain: bytes, sequence: int) -> Message | None:
        """What the frame says; None where it cannot be accepted, which the bank is told."""
        signed = (command, kind) in SIGNED
        payload, signature = (plain[:-64], plain[-64:]) if signed else (plain, b"")
        try:
            message = read_payload(self._identity.bank, kind, command, payload)
        except Unreadable as error:
            tell("refused", code=MALFORMED, why=str(error))
            if kind in (REQUEST, PUSH):
                self._refuse(MALFORMED, "B", f"SEQ{sequence:016d}")
            return None
        said = message_signed(self._magic, kind, command, payload)
        if signed and not sm2_verify(self._identity.bank_key, said, signature):
            tell("refused", code=BAD_SIGNATURE, why=f"{command} is not signed by the bank")
            self._refuse(BAD_SIGNATURE, message.header["initiator"], message.header["ref"])
            return None
        return message

    def _refuse(self, code: str, initiator: str, related_ref: str) -> None:
        self._send(RESPONSE, REFUSAL, {"code": code}, initiator, related_ref)

    def _persist(self, push: Message) -> None:
        """Printed before it is acknowledged; a repetition is acknowledged and not printed again."""
        if push.body["push_seq"] not in self._deposits:
            self._deposits[push.body["push_seq"]] = push
            tell("deposit", signature="good", ref=push.header["ref"], **push.body)


def tell(event: str, **data: Any) -> None:
    print(json.dumps({"event": event, **data}, ensure_ascii=False), flush=True)


def arguments() -> argparse.Namespace:
    hong_kong = datetime.now(timezone(timedelta(hours=8)))
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--host", default="127.0.0.1")
    cli.add_argument("--port", type=int, required=True)
    cli.add_argument("--bank", choices=sorted(MAGIC), default="CMB")
    cli.add_argument("--broker", required=True, help="the broker's name, at most 12 characters")
    cli.add_argument("--serial", required=True, help="of the certificate of --key")
    cli.add_argument("--key", type=Path, required=True, help="the broker's private key, PEM")
    cli.add_argument("--bank-key", type=Path, required=True, help="the bank's public key, PEM")
    cli.add_argument("--last-push-seq", type=int, default=0, help="the highest push persisted")
    cli.add_argument("--now", type=lambda text: datetime.strptime(text, "%Y%m%d%H%M%S"), default=hong_kong,
                     help="YYYYMMDDHHMMSS in Hong Kong, instead of this machine's")  # fmt: skip
    cli.add_argument("--wait", type=float, default=30.0, help="seconds for an answer or a deposit")
    cli.add_argument("--command", choices=("sign-on", "await-deposit"), default="await-deposit")
    return cli.parse_args()


def main() -> int:
    args = arguments()
    identity = Identity(args.bank, args.broker, args.serial, args.key, args.bank_key)
    try:
        with socket.create_connection((args.host, args.port), timeout=args.wait) as link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = Client(identity, link, args.wait, args.now)
            client.handshake()
            client.sign_on(args.last_push_seq)
            if args.command == "await-deposit":
                client.query(client.await_deposit())
            client.sign_off()
    except (Failure, OSError) as error:
        tell("failed", why=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
