"""What must hold of the socket codec for any bytes: only `ProtocolError` comes out, and what is read is written again.

A target takes the bytes of one try and raises if a property does not hold. Mutated payloads are signed and sealed with
the right keys, so that what lies behind the signature and the tag is reached. Every target is a function of its bytes.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from core.wire.socket import (
    CMB,
    CMBC,
    MAX_FRAME,
    BadHandshake,
    Established,
    Flavour,
    Frame,
    FrameDecoder,
    FrameType,
    Party,
    ProtocolError,
    Received,
    RefusedMessage,
    Renewed,
    State,
    UnexpectedFrame,
)
from core.wire.socket import messages as m
from core.wire.socket.day_list import ListQuery, decode_list, read_query, target_of
from core.wire.socket.frames import CLEAR_TAG, OVERHEAD, pack_header
from core.wire.socket.handshake import Crypto, message_signed
from tests.wire.socket_samples import (
    BANK_KEYS,
    BROKER_ID,
    BROKER_KEYS,
    FLAVOURS,
    SERIAL,
    SM2,
    STAMP,
    Line,
    known_certificate,
    sample,
)

ROWS: Final = tuple(m.MESSAGES)
_ROOM: Final = MAX_FRAME - OVERHEAD - 64
HEARTBEAT: Final = (m.HEARTBEAT, FrameType.REQUEST)


# --- payloads ---------------------------------------------------------------------------------------------------


def check_read(flavour: Flavour, message: m.Message, payload: bytes) -> None:
    """What was read is written again: byte for byte at CMB; in its one form at CMBC, where a document has many."""
    written = flavour.encode(message)
    if flavour is CMB:
        assert written == payload, (written, payload)
    else:
        again = flavour.decode(message.kind, message.command, written)
        assert again == message, (again, message)
        assert flavour.encode(again) == written


def _payload(flavour: Flavour, data: bytes) -> None:
    """The first byte chooses command and type, the rest is the payload."""
    command, kind = ROWS[data[0] % len(ROWS)] if data else HEARTBEAT
    try:
        message = flavour.decode(kind, command, data[1:])
    except RefusedMessage as error:
        assert not error.fatal
        if error.header is not None:
            flavour.encode(m.rejection(error, STAMP, "BANK", BROKER_ID, Party.BANK))
        return
    check_read(flavour, message, data[1:])


def payload_cmb(data: bytes) -> None:
    _payload(CMB, data)


def payload_cmbc(data: bytes) -> None:
    _payload(CMBC, data)


# --- frames -----------------------------------------------------------------------------------------------------


def frames(data: bytes) -> None:
    """The first byte is the size of the chunks; they say what the whole says, and frames are the bytes that came."""
    size, stream = (data[0] or 1, data[1:]) if data else (1, b"")
    whole, decoder = FrameDecoder(CMB.magic), FrameDecoder(CMB.magic)
    found = whole.feed(stream)
    chunked = [each for at in range(0, len(stream), size) for each in decoder.feed(stream[at : at + size])]
    assert [_comparable(each) for each in chunked] == [_comparable(each) for each in found]
    good = [each for each in found if isinstance(each, Frame)]
    assert good == found[: len(good)] and len(found) - len(good) == whole.failed
    again = b"".join(
        pack_header(CMB.magic, frame.kind, frame.command, frame.sequence, len(frame.body)) + frame.body + frame.tag
        for frame in good
    )
    assert stream.startswith(again) and all(frame.header == _header(frame) for frame in good)
    assert whole.failed or again + stream[-whole.waiting or len(stream) :] == stream
    assert whole.waiting < MAX_FRAME
    errors = whole.feed_eof()
    assert all(isinstance(error, ProtocolError) for error in errors) and whole.feed(stream) == []


def _header(frame: Frame) -> bytes:
    return pack_header(CMB.magic, frame.kind, frame.command, frame.sequence, len(frame.body))


def _comparable(found: Frame | ProtocolError) -> object:
    return found if isinstance(found, Frame) else type(found)


# --- sessions after the handshake -------------------------------------------------------------------------------


class Step(NamedTuple):
    """One frame of a script. ``choice``: which row, or a step of a renewal; ``signed``: rightly, where it must be."""

    choice: int
    signed: bool
    body: bytes


KEY_EXCHANGE_CHOICE: Final = len(ROWS)
RENEWAL_CHOICE: Final = len(ROWS) + 1
_CHOICES: Final = len(ROWS) + 2


def script_of(data: bytes) -> tuple[Flavour, list[Step]]:
    """Any bytes are a script: flavour, then steps of choice, flags, length (2 bytes) and body."""
    flavour = FLAVOURS[data[0] % 2] if data else CMB
    steps: list[Step] = []
    at = 1
    while at < len(data) and len(steps) < 8:
        head = data[at : at + 4].ljust(4, b"\0")
        body = data[at + 4 : at + 4 + min(int.from_bytes(head[2:]), _ROOM)]
        steps.append(Step(head[0] % _CHOICES, not head[1] & 1, body))
        at += 4 + len(body)
    return flavour, steps


def script_bytes(flavour: Flavour, steps: list[Step]) -> bytes:
    """The other way."""
    parts = [bytes([FLAVOURS.index(flavour)])]
    for step in steps:
        body = step.body[:_ROOM]
        parts.append(bytes([step.choice, not step.signed]) + len(body).to_bytes(2) + body)
    return b"".join(parts)


_UP: Final = {flavour.name: Line(flavour).up() for flavour in FLAVOURS}


def again(session: Any) -> Any:
    """A session in the state in which that one is, with entropy of its own: the same at every try."""
    twin = copy.copy(session)
    twin._decoder = FrameDecoder(session.flavour.magic)
    twin._sending, twin._receiving = copy.copy(session._sending), copy.copy(session._receiving)
    twin._output = bytearray()
    twin._crypto = Crypto(SM2, random.Random("again").randbytes, session.flavour.magic)
    return twin


def session_broker(data: bytes) -> None:
    """A broker's session hears the script from a bank."""
    flavour, steps = script_of(data)
    _play(again(_UP[flavour.name].broker), again(_UP[flavour.name].bank), steps)


def session_bank(data: bytes) -> None:
    """A bank's session hears the script from a broker."""
    flavour, steps = script_of(data)
    _play(again(_UP[flavour.name].bank), again(_UP[flavour.name].broker), steps)


def _play(me: Any, peer: Any, steps: list[Step]) -> None:
    for step in steps:
        if step.choice == RENEWAL_CHOICE:
            _renew(me, peer)
        else:
            _hear(me, peer, step)
        if me.closed:
            assert me.feed(b"anything") == [] and me.output() == b""
            return
    if peer.state is State.READY:
        (event,) = me.feed(peer.encode(sample(*HEARTBEAT, me.flavour)))
        assert isinstance(event, Received)


def _hear(me: Any, peer: Any, step: Step) -> None:
    """One frame, sealed as the peer seals."""
    if step.choice == KEY_EXCHANGE_CHOICE:
        command, kind = m.KEY_EXCHANGE, FrameType.RESPONSE if step.signed else FrameType.REQUEST
    else:
        command, kind = ROWS[step.choice]
    body = step.body
    if step.signed and step.choice < len(ROWS) and m.MESSAGES[command, kind].signed:
        said = message_signed(peer._crypto, kind, command, body)
        body += SM2.sign(peer._private, said, entropy=peer._crypto.entropy)
    sequence = peer.next_sequence
    peer._send(kind, command, body)
    events = me.feed(peer.output())
    assert len(events) <= 1
    for event in events:
        _check_event(me, peer, event, body, sequence)


def _check_event(me: Any, peer: Any, event: object, body: bytes, sequence: int) -> None:
    if isinstance(event, Received):
        row = m.row_of(event.message.command, event.message.kind)
        assert peer._me in row.by and row.signed == bool(event.signature)
        payload = body[:-64] if row.signed else body
        assert not row.signed or event.signed.endswith(payload)
        check_read(me.flavour, event.message, payload)
    elif isinstance(event, RefusedMessage):
        assert not me.closed and event.sequence == sequence
        rejection = m.rejection(event, STAMP, "BANK", BROKER_ID, Party.BANK)
        (told,) = peer.feed(me.encode(rejection))
        assert isinstance(told, Received) and told.message == rejection
    else:
        assert isinstance(event, ProtocolError) and event.fatal and me.closed, event


def _renew(me: Any, peer: Any) -> None:
    """A whole renewal as it should be; nothing where one end is not ready for it."""
    broker, bank = (me, peer) if me._me is Party.BROKER else (peer, me)
    if broker.state is State.READY and bank.state is State.READY:
        assert bank.feed(broker.renew()) == []
        assert broker.feed(bank.output()) == bank.feed(broker.output()) == [Renewed()]


# --- handshake --------------------------------------------------------------------------------------------------


class Greeting(NamedTuple):
    """A handshake of one flavour: the ends before each of its steps, and the three bodies."""

    new: Any
    asked: Any
    offered: Any
    hello: bytes
    ack: bytes
    confirm: bytes


def _greeting(flavour: Flavour) -> Greeting:
    line = Line(flavour)
    new = again(line.bank)
    hello = line.broker.start()
    asked = again(line.broker)
    line.bank.feed(hello)
    offered = again(line.bank)
    ack = line.bank.output()
    line.broker.feed(ack)
    return Greeting(new, asked, offered, *(wire[24:-16] for wire in (hello, ack, line.broker.output())))


GREETINGS: Final = tuple(_greeting(flavour) for flavour in FLAVOURS)
_WAYS: Final = 7


def handshake(data: bytes) -> None:
    """The first byte chooses flavour and way, the rest is a body, or what is to be signed of one, or a stream."""
    choice, body = (data[0], data[1:_ROOM]) if data else (0, b"")
    greeting = GREETINGS[choice % 2]
    (_hello, _hello_signed, _ack, _ack_signed, _confirm, _to_bank, _to_broker)[choice // 2 % _WAYS](greeting, body)


def _hello(greeting: Greeting, body: bytes) -> None:
    if _heard(again(greeting.new), FrameType.REQUEST, 0, body):
        assert body == greeting.hello


def _hello_signed(greeting: Greeting, head: bytes) -> None:
    crypto = greeting.new._crypto
    body = head + SM2.sign(BROKER_KEYS.private, b"HELLO" + crypto.label + head, entropy=_draws())
    if _heard(again(greeting.new), FrameType.REQUEST, 0, body):
        assert (body[:13], body[29:61], len(body)) == (greeting.hello[:13], greeting.hello[29:61], 125)


def _ack(greeting: Greeting, body: bytes) -> None:
    if _heard(again(greeting.asked), FrameType.RESPONSE, 0, body):
        assert body == greeting.ack


def _ack_signed(greeting: Greeting, head: bytes) -> None:
    signed = b"ACK" + greeting.asked._crypto.label + greeting.hello[1:29] + head
    body = head + SM2.sign(BANK_KEYS.private, signed, entropy=_draws())
    if _heard(again(greeting.asked), FrameType.RESPONSE, 0, body):
        assert (body[:1], body[17:130], len(body)) == (greeting.ack[:1], greeting.ack[17:130], 194)


def _confirm(greeting: Greeting, body: bytes) -> None:
    if _heard(again(greeting.offered), FrameType.REQUEST, 1, body):
        assert body == greeting.confirm


def _to_bank(greeting: Greeting, stream: bytes) -> None:
    _check_clear(again(greeting.new), stream)


def _to_broker(greeting: Greeting, stream: bytes) -> None:
    _check_clear(again(greeting.asked), stream)


def _heard(me: Any, kind: FrameType, sequence: int, body: bytes) -> bool:
    """Whether the end takes a clear handshake frame with this body."""
    before = me.state
    header = pack_header(me.flavour.magic, kind, m.KEY_EXCHANGE, sequence, len(body))
    events = _check_clear(me, header + body + CLEAR_TAG)
    assert me.closed or me.state is not before
    assert not me.closed or isinstance(events[0], BadHandshake | UnexpectedFrame)
    return not me.closed


def _check_clear(me: Any, stream: bytes) -> list[Any]:
    events = list(me.feed(stream))
    for event in events:
        assert isinstance(event, Established) or (isinstance(event, ProtocolError) and event.fatal and me.closed)
    return events


def _draws() -> Callable[[int], bytes]:
    return random.Random("draws").randbytes


# --- the day list over HTTP -------------------------------------------------------------------------------------

QUERY: Final = ListQuery(BROKER_ID, SERIAL, 41, "20260312", "20260312101530")


def day_list(data: bytes) -> None:
    """The first byte chooses flavour and way, the rest is a target, a signature in hex, or the body of an answer."""
    choice, rest = (data[0], data[1:]) if data else (0, b"")
    (_target, _target_signature, _list_signed, _list)[choice // 2 % 4](FLAVOURS[choice % 2], rest)


def _target(flavour: Flavour, rest: bytes) -> None:
    """Any target, rightly signed."""
    signature = SM2.sign(BROKER_KEYS.private, b"LIST" + flavour.magic + b"\1" + rest, entropy=_draws())
    target = rest.decode("latin-1")
    with suppress(RefusedMessage):
        query = read_query(flavour, target, signature.hex(), known_certificate, SM2)
        assert target_of(query) == target and (query.broker, query.certificate_serial) == (BROKER_ID, SERIAL)


def _target_signature(flavour: Flavour, rest: bytes) -> None:
    """A good target, any signature."""
    text, target = rest.decode("latin-1"), target_of(QUERY)
    with suppress(RefusedMessage):
        assert read_query(flavour, target, text, known_certificate, SM2) == QUERY
        assert len(text) == 128


def _list_signed(flavour: Flavour, rest: bytes) -> None:
    said = message_signed(Crypto(SM2, _draws(), flavour.magic), FrameType.RESPONSE, m.DAY_LIST, rest)
    _read_list(flavour, rest, SM2.sign(BANK_KEYS.private, said, entropy=_draws()))


def _list(flavour: Flavour, rest: bytes) -> None:
    _read_list(flavour, rest[:-64], rest[-64:])


def _read_list(flavour: Flavour, payload: bytes, signature: bytes) -> None:
    with suppress(RefusedMessage):
        check_read(flavour, decode_list(flavour, payload + signature, BANK_KEYS.public, SM2), payload)


# --- the list of targets ----------------------------------------------------------------------------------------

TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "frames": frames,
    "session_broker": session_broker,
    "session_bank": session_bank,
    "payload_cmb": payload_cmb,
    "payload_cmbc": payload_cmbc,
    "handshake": handshake,
    "day_list": day_list,
}
SCRIPTED: Final = ("session_broker", "session_bank")
