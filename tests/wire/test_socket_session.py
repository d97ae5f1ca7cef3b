"""Frames and sessions: any chunking, handshake, renewal, and what is refused; every state and fact of both tables."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvariantBroken
from core.wire.socket import (
    BANK,
    BROKER,
    CMB,
    CMBC,
    BadHandshake,
    BadSignature,
    BrokerIdentity,
    BrokerSession,
    Established,
    Fact,
    Flavour,
    FrameDecoder,
    FrameType,
    GarbageFrame,
    MalformedMessage,
    NotReady,
    Otherwise,
    OversizedFrame,
    Party,
    ProtocolError,
    Received,
    Renewed,
    ReplayedFrame,
    SequenceGap,
    State,
    TamperedFrame,
    TruncatedFrame,
    UnexpectedFrame,
)
from core.wire.socket import messages as m
from core.wire.socket.frames import CLEAR_TAG, HEADER, OVERHEAD, pack_header
from tests.wire.socket_samples import (
    BANK_KEYS,
    BROKER_KEYS,
    FLAVOURS,
    SERIAL,
    SM2,
    STRANGER_KEYS,
    Line,
    sample,
    samples,
)

both = pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)
PUSH, REQUEST, RESPONSE = FrameType.PUSH, FrameType.REQUEST, FrameType.RESPONSE


def cut(data: bytes, at: list[int]) -> Iterator[bytes]:
    """The data in chunks that end at these places."""
    ends = [*sorted(place % (len(data) + 1) for place in at), len(data)]
    start = 0
    for end in ends:
        yield data[start:end]
        start = end


def failure(events: list[Any]) -> ProtocolError:
    """The one error among events, which is the last."""
    assert [isinstance(event, ProtocolError) for event in events].count(True) == 1
    assert isinstance(events[-1], ProtocolError)
    return events[-1]


def length_of(frame: bytes) -> int:
    return int(HEADER.unpack(frame[: HEADER.size])[5])


def split_frames(data: bytes) -> list[bytes]:
    """The frames of a stream, by their lengths."""
    frames = []
    while data:
        size = OVERHEAD + length_of(data)
        frames.append(data[:size])
        data = data[size:]
    return frames


# --- frames -----------------------------------------------------------------------------------------------------


def raw_frame(magic: bytes = b"CMB1", body: bytes = b"", sequence: int = 0) -> bytes:
    return pack_header(magic, REQUEST, "100002", sequence, len(body)) + body + CLEAR_TAG


@given(bodies=st.lists(st.binary(max_size=200), max_size=6), at=st.lists(st.integers(0, 2_000), max_size=12))
def test_any_chunking_gives_the_same_frames(bodies: list[bytes], at: list[int]) -> None:
    stream = b"".join(raw_frame(body=body, sequence=number) for number, body in enumerate(bodies))
    whole = FrameDecoder(b"CMB1").feed(stream)
    decoder = FrameDecoder(b"CMB1")
    assert [found for chunk in cut(stream, at) for found in decoder.feed(chunk)] == whole
    assert [frame.body for frame in whole] == bodies and decoder.waiting == 0


@pytest.mark.parametrize(
    ("at", "value", "error"),
    [(0, 0x58, GarbageFrame), (3, 0x32, GarbageFrame), (4, 2, GarbageFrame), (5, 0, GarbageFrame), (5, 5, GarbageFrame),
     (6, 0x41, GarbageFrame), (20, 0xFF, OversizedFrame), (21, 1, OversizedFrame)],
)  # fmt: skip
def test_a_header_that_cannot_be_one_ends_the_connection(at: int, value: int, error: type[ProtocolError]) -> None:
    good, bad = raw_frame(), bytearray(raw_frame())
    bad[at] = value
    decoder = FrameDecoder(b"CMB1")
    found = decoder.feed(good + bytes(bad) + good)
    assert len(found) == 2 and type(found[1]) is error
    assert decoder.failed and decoder.feed(good) == []


def test_a_wrong_magic_is_refused_at_its_first_byte() -> None:
    assert isinstance(FrameDecoder(b"CMB1").feed(b"M")[0], GarbageFrame)
    assert FrameDecoder(b"CMB1").feed(b"C") == []


def test_the_longest_frame_passes_and_one_byte_more_does_not_even_wait_for_its_body() -> None:
    longest = raw_frame(body=bytes(65_536 - OVERHEAD))
    assert len(longest) == 65_536 and len(FrameDecoder(b"CMB1").feed(longest)) == 1
    too_long = pack_header(b"CMB1", REQUEST, "100002", 0, 65_536 - OVERHEAD + 1)
    assert isinstance(FrameDecoder(b"CMB1").feed(too_long)[0], OversizedFrame)


def test_an_end_within_a_frame_is_an_error_and_between_frames_is_not() -> None:
    decoder = FrameDecoder(b"CMB1")
    decoder.feed(raw_frame()[:-1])
    assert isinstance(decoder.feed_eof()[0], TruncatedFrame)
    assert FrameDecoder(b"CMB1").feed_eof() == []


# --- handshake and messages -------------------------------------------------------------------------------------


@both
@pytest.mark.req("SOCK-01")
def test_both_ends_are_established_after_hello_ack_confirm(flavour: Flavour) -> None:
    line = Line(flavour)
    assert line.bank.feed(line.broker.start()) == []
    assert line.broker.feed(line.bank.output()) == [Established("NOSTRO01", SERIAL)]
    assert line.bank.feed(line.broker.output()) == [Established("NOSTRO01", SERIAL)]
    assert line.broker.state is line.bank.state is State.READY
    assert line.broker.output() == line.bank.output() == b""


@both
@pytest.mark.req("SOCK-01")
def test_every_message_arrives_as_it_was_sent_sealed_and_the_money_messages_signed(flavour: Flavour) -> None:
    line = Line(flavour).up()
    for message in samples(flavour):
        row = m.MESSAGES[message.command, message.kind]
        from_broker = row.by[0] is Party.BROKER
        wire = line.send(message)
        assert flavour.encode(message)[:40] not in wire
        (event,) = (line.bank if from_broker else line.broker).feed(wire)
        assert isinstance(event, Received) and event.message == message
        public = (BROKER_KEYS if from_broker else BANK_KEYS).public
        assert (SM2.verify(public, event.signed, event.signature) if row.signed else event.signature == b"")
        assert not row.signed or flavour.encode(message) in event.signed


@both
@given(at=st.lists(st.integers(0, 20_000), max_size=20))
def test_any_chunking_gives_the_same_events(flavour: Flavour, at: list[int]) -> None:
    line = Line(flavour).up()
    sent = [message for message in samples(flavour) if Party.BANK in m.MESSAGES[message.command, message.kind].by]
    stream = b"".join(line.bank.encode(message) for message in sent)
    events = [event for chunk in cut(stream, at) for event in line.broker.feed(chunk)]
    assert [event.message for event in events if isinstance(event, Received)] == sent


@both
def test_the_handshake_in_single_bytes_is_the_same_handshake(flavour: Flavour) -> None:
    line = Line(flavour)
    ends: list[tuple[Callable[[], bytes], Callable[[bytes], list[Any]]]] = [
        (line.broker.start, line.bank.feed), (line.bank.output, line.broker.feed), (line.broker.output, line.bank.feed)
    ]  # fmt: skip
    for give, take in ends:
        data = give()
        assert len([event for at in range(len(data)) for event in take(data[at : at + 1])]) <= 1
    assert line.broker.state is line.bank.state is State.READY


@pytest.mark.parametrize(
    ("changes", "refused_by"),
    [
        ({"broker_keys": STRANGER_KEYS}, "bank"),
        ({"bank_keys": STRANGER_KEYS}, "broker"),
        ({"bank_public": STRANGER_KEYS.public}, "broker"),
        ({"broker_id": "OTHER"}, "bank"),
        ({"certificate": lambda broker, serial: None}, "bank"),
        ({"certificate": lambda broker, serial: STRANGER_KEYS.public}, "bank"),
        ({"certificate": lambda broker, serial: b"\x04" + bytes(64)}, "bank"),
    ],
    ids=["broker's key", "bank's key", "expected bank", "broker", "no certificate", "certificate", "no point"],
)
@pytest.mark.req("SOCK-01")
def test_a_wrong_key_ends_the_handshake(changes: dict[str, Any], refused_by: str) -> None:
    line = Line(CMB, **changes)
    events = line.bank.feed(line.broker.start())
    if refused_by == "broker":
        events = line.broker.feed(line.bank.output())
    assert isinstance(failure(events), BadHandshake)
    assert (line.bank if refused_by == "bank" else line.broker).closed


@both
@pytest.mark.parametrize("step", ["hello", "ack", "confirm"])
@pytest.mark.req("SOCK-01")
def test_one_changed_bit_anywhere_in_the_handshake_is_refused(flavour: Flavour, step: str) -> None:
    size = {"hello": 165, "ack": 234, "confirm": 73}[step]
    for at in range(size):
        line = Line(flavour)
        data, taker = line.broker.start(), line.bank
        if step != "hello":
            line.bank.feed(data)
            data, taker = line.bank.output(), line.broker  # type: ignore[assignment]
        if step == "confirm":
            line.broker.feed(data)
            data, taker = line.broker.output(), line.bank
        assert len(data) == size
        changed = bytearray(data)
        changed[at] ^= 1
        events = taker.feed(bytes(changed))
        if events:
            assert failure(events).fatal and taker.closed
        else:  # only a length that now waits for more bytes
            assert 20 <= at < 24 and taker.feed_eof() != [] and taker.closed


def test_a_recorded_handshake_cannot_be_played_again() -> None:
    line = Line(CMB)
    hello = line.broker.start()
    line.bank.feed(hello)
    line.broker.feed(line.bank.output())
    confirm = line.broker.output()
    line.bank.feed(confirm)
    again = Line(CMB, seed="another day")
    again.bank.feed(hello)
    assert isinstance(failure(again.bank.feed(confirm)), BadHandshake)


def test_an_old_ack_does_not_answer_a_new_hello() -> None:
    line, again = Line(CMB), Line(CMB, seed="another day")
    line.bank.feed(line.broker.start())
    again.broker.start()
    assert isinstance(failure(again.broker.feed(line.bank.output())), BadHandshake)


def test_an_entropy_source_that_gives_too_little_is_our_own_fault() -> None:
    identity = BrokerIdentity("NOSTRO01", SERIAL, BROKER_KEYS.private, BANK_KEYS.public)
    with pytest.raises(InvariantBroken):
        BrokerSession(CMB, identity, SM2, lambda count: b"").start()


# --- what is refused in a ready connection ----------------------------------------------------------------------


@pytest.mark.req("SOCK-01")
def test_a_tampered_frame_is_refused_wherever_a_bit_is_changed() -> None:
    message = sample(m.HEARTBEAT, REQUEST)
    size = len(Line(CMB).up().broker.encode(message))
    for at in range(size):
        line = Line(CMB).up()
        wire = bytearray(line.broker.encode(message))
        wire[at] ^= 0x40
        events = [*line.bank.feed(bytes(wire)), *line.bank.feed_eof()]
        assert failure(events).fatal and line.bank.closed


@both
def test_a_frame_sealed_with_another_session_s_key_is_refused(flavour: Flavour) -> None:
    line, other = Line(flavour).up(), Line(flavour, seed="other").up()
    foreign = other.broker.encode(sample(m.HEARTBEAT, REQUEST, flavour))
    assert isinstance(failure(line.bank.feed(foreign)), TamperedFrame)


def test_a_frame_cannot_be_turned_back_on_its_sender() -> None:
    line = Line(CMB).up()
    line.bank.encode(sample(m.HEARTBEAT, REQUEST))  # so that the bank's next sequence is the one it expects
    reflected = line.bank.encode(sample(m.HEARTBEAT, REQUEST))
    assert isinstance(failure(line.bank.feed(reflected)), TamperedFrame)


@both
def test_a_replayed_frame_is_refused(flavour: Flavour) -> None:
    line = Line(flavour).up()
    wire = line.bank.encode(sample(m.DEPOSIT_PUSH, PUSH, flavour))
    events = line.broker.feed(wire + wire)
    assert isinstance(events[0], Received) and isinstance(failure(events), ReplayedFrame)
    assert line.broker.state is State.CLOSED and line.broker.feed(wire) == []


@both
def test_a_missing_frame_is_noticed(flavour: Flavour) -> None:
    line = Line(flavour).up()
    line.bank.encode(sample(m.HEARTBEAT, REQUEST, flavour))
    assert isinstance(failure(line.broker.feed(line.bank.encode(sample(m.HEARTBEAT, REQUEST, flavour)))), SequenceGap)


def test_two_exchanged_frames_are_refused() -> None:
    line = Line(CMB).up()
    first, second = (line.bank.encode(sample(m.DEPOSIT_PUSH, PUSH)) for _ in range(2))
    assert isinstance(failure(line.broker.feed(second + first)), SequenceGap)


def test_a_clear_frame_after_the_handshake_is_refused() -> None:
    line = Line(CMB).up()
    payload = CMB.encode(sample(m.HEARTBEAT, REQUEST))
    clear = pack_header(b"CMB1", REQUEST, m.HEARTBEAT, line.broker.next_sequence, len(payload)) + payload + CLEAR_TAG
    assert isinstance(failure(line.bank.feed(clear)), TamperedFrame)


def test_a_message_before_the_handshake_is_refused() -> None:
    line = Line(CMB)
    payload = CMB.encode(sample(m.HEARTBEAT, REQUEST))
    clear = pack_header(b"CMB1", REQUEST, m.HEARTBEAT, 0, len(payload)) + payload + CLEAR_TAG
    assert isinstance(failure(line.bank.feed(clear)), UnexpectedFrame)


def test_the_other_bank_s_frames_are_refused() -> None:
    assert isinstance(failure(Line(CMB).bank.feed(Line(CMBC).broker.start())), GarbageFrame)


@both
@pytest.mark.req("SOCK-01")
def test_a_bad_signature_on_a_money_message_is_refused_with_minus_3_and_the_connection_lives(flavour: Flavour) -> None:
    line = Line(flavour).up()
    line.broker._private = STRANGER_KEYS.private
    request = sample(m.WITHDRAWAL, REQUEST, flavour)
    error = failure(line.bank.feed(line.broker.encode(request)))
    assert isinstance(error, BadSignature) and (error.code, error.header, error.sequence) == (-3, request.header, 2)
    assert isinstance(line.deliver(sample(m.HEARTBEAT, REQUEST, flavour))[0], Received)


def sealed(line: Line, kind: FrameType, command: str, body: bytes) -> bytes:
    """A frame of the broker's with any body, properly sealed."""
    line.broker._send(kind, command, body)
    return line.broker.output()


@both
@pytest.mark.parametrize(
    ("kind", "command", "body"),
    [
        (REQUEST, m.HEARTBEAT, b""), (REQUEST, m.HEARTBEAT, b"\xff" * 300), (REQUEST, m.WITHDRAWAL, b"short"),
        (REQUEST, "999999", b""), (PUSH, m.DEPOSIT_PUSH, b""), (PUSH, m.HEARTBEAT, b""),
    ],
    ids=["empty", "garbage", "no room for a signature", "unknown command", "not the broker's", "no such type"],
)  # fmt: skip
def test_a_message_that_cannot_be_read_is_refused_with_minus_2_or_3_and_the_connection_lives(
    flavour: Flavour, kind: FrameType, command: str, body: bytes
) -> None:
    line = Line(flavour).up()
    error = failure(line.bank.feed(sealed(line, kind, command, body)))
    assert isinstance(error, MalformedMessage | BadSignature) and not error.fatal and error.sequence == 2
    rejection = m.rejection(error, m.Stamp("B1", "20260312", "101530"), "BANK", "NOSTRO01", Party.BANK)
    (event,) = line.broker.feed(line.bank.encode(rejection))
    assert isinstance(event, Received) and event.message.header.related_ref == "SEQ0000000000000002"
    assert isinstance(line.deliver(sample(m.HEARTBEAT, REQUEST, flavour))[0], Received)


@both
def test_what_only_the_bank_may_say_is_refused_from_a_broker(flavour: Flavour) -> None:
    line = Line(flavour).up()
    payload = flavour.encode(sample(m.SIGN_NOTICE, PUSH, flavour))
    error = failure(line.bank.feed(sealed(line, PUSH, m.SIGN_NOTICE, payload)))
    assert isinstance(error, MalformedMessage) and not error.fatal


def test_a_signature_covers_command_type_and_every_byte_of_the_payload() -> None:
    line = Line(CMB).up()
    (event,) = line.deliver(sample(m.WITHDRAWAL, REQUEST))
    assert isinstance(event, Received)
    assert event.signed == b"MESSAGECMB1\x01\x01200102" + CMB.encode(event.message)


def test_what_the_tables_do_not_allow_is_not_sent_and_costs_no_sequence() -> None:
    line = Line(CMB).up()
    before = line.broker.next_sequence
    wrong = dataclasses.replace(sample(m.QUERY, REQUEST), body=m.Query(""))
    for message in (wrong, sample(m.DEPOSIT_PUSH, PUSH)):
        with pytest.raises(MalformedMessage):
            line.broker.encode(message)
    assert line.broker.next_sequence == before and line.broker.state is State.READY


def test_a_message_longer_than_a_frame_is_not_sent() -> None:
    line = Line(CMBC).up()
    body = m.Heartbeat(extra=tuple(m.Unknown("Fill", "x" * 1_000) for _ in range(66)))
    with pytest.raises(OversizedFrame):
        line.broker.encode(dataclasses.replace(sample(m.HEARTBEAT, REQUEST, CMBC), body=body))
    assert line.broker.state is State.READY


# --- renewal ----------------------------------------------------------------------------------------------------


@both
@pytest.mark.req("SOCK-01")
def test_the_key_is_renewed_within_the_connection_while_messages_go_on(flavour: Flavour) -> None:
    line = Line(flavour).up()
    old = line.broker._sending.key
    heartbeat, push = sample(m.HEARTBEAT, REQUEST, flavour), sample(m.DEPOSIT_PUSH, PUSH, flavour)
    hello = line.broker.renew()
    on_the_way = line.broker.encode(heartbeat)  # sealed with the old key, after HELLO
    early = line.bank.encode(push)  # sealed with the old key, before ACK
    assert [type(event) for event in line.bank.feed(hello + on_the_way)] == [Received]
    late = line.bank.encode(push)  # ACK, and a push sealed with the new key
    assert [type(event) for event in line.broker.feed(early + late)] == [Received, Renewed, Received]
    assert [type(event) for event in line.bank.feed(line.broker.encode(heartbeat))] == [Renewed, Received]
    assert line.broker.state is line.bank.state is State.READY
    keys = {line.broker._sending.key, line.broker._receiving.key, line.bank._sending.key, line.bank._receiving.key}
    assert len(keys) == 1 and keys != {old}


def test_a_renewal_under_way_is_not_begun_again() -> None:
    line = Line(CMB).up()
    assert line.broker.renew() and line.broker.renew() == b""


def test_a_renewal_in_the_name_of_another_broker_is_refused() -> None:
    line = Line(CMB, certificate=lambda broker, serial: BROKER_KEYS.public).up()
    line.broker._identity = BrokerIdentity("OTHER", SERIAL, BROKER_KEYS.private, BANK_KEYS.public)
    assert isinstance(failure(line.bank.feed(line.broker.renew())), BadHandshake)


def test_many_renewals_never_use_a_nonce_twice_under_one_key() -> None:
    line = Line(CMB).up()
    used: set[tuple[bytes | None, bytes]] = set()
    for _ in range(5):
        for _ in range(3):
            pair = (line.bank._sending.key, line.bank._sending.nonce)
            assert pair not in used
            used.add(pair)
            line.deliver(sample(m.DEPOSIT_PUSH, PUSH))
        line.bank.feed(line.broker.renew())
        line.broker.feed(line.bank.output())
        line.bank.feed(line.broker.output())
    assert len({key for key, _ in used}) == 5


# --- the two tables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [BROKER, BANK], ids=["broker", "bank"])
def test_the_table_has_every_fact_in_every_state(table: dict[State, dict[Fact, Any]]) -> None:
    for state, row in table.items():
        assert list(row) == list(Fact), state
        assert all(cell in table or isinstance(cell, Otherwise) for cell in row.values())
        assert row[Fact.FAULT] in (State.CLOSED, Otherwise.IGNORED)
    reached = {cell for row in table.values() for cell in row.values() if isinstance(cell, State)}
    assert reached | {next(iter(table))} == set(table)


def in_state(table: dict[State, dict[Fact, Any]], state: State, flavour: Flavour = CMB) -> tuple[Line, Any, Any]:
    """(line, the end in that state, its peer), reached by real bytes."""
    line = Line(flavour)
    mine, peer = (line.broker, line.bank) if table is BROKER else (line.bank, line.broker)
    if state is State.HELLO_SENT or state is State.AWAITING_CONFIRM:
        line.bank.feed(line.broker.start())
    elif state not in (State.NEW, State.AWAITING_HELLO):
        line.up()
    if state is State.RENEWING:
        line.bank.feed(line.broker.renew())
    if state is State.CLOSED:
        mine.close()
    assert mine.state is state
    return line, mine, peer


def bytes_of(fact: Fact, line: Line, mine: Any, peer: Any) -> bytes:
    """Bytes by which the peer causes a fact, sealed as the peer's lane is, whatever the peer's own table says."""
    if mine is line.broker and fact is Fact.ACK and peer.state in (State.AWAITING_CONFIRM, State.RENEWING):
        return bytes(peer.output())
    if mine is line.bank and fact is Fact.HELLO and mine.state is State.AWAITING_HELLO:
        return bytes(peer.start())
    if mine is line.bank and fact is Fact.HELLO and mine.state is State.READY:
        return bytes(peer.renew())
    if mine is line.bank and fact is Fact.CONFIRM and mine.state in (State.AWAITING_CONFIRM, State.RENEWING):
        peer.feed(mine.output())
        return bytes(peer.output())
    body = {Fact.HELLO: b"\x01", Fact.ACK: b"\x02", Fact.CONFIRM: b"\x03"}.get(fact)
    peer.output()
    peer._sending.key = mine._receiving.key
    peer._sending.sequence = mine._receiving.sequence
    if body is None:
        peer._send(REQUEST, m.HEARTBEAT, CMB.encode(sample(m.HEARTBEAT, REQUEST)))
    else:
        peer._send(RESPONSE if fact is Fact.ACK else REQUEST, m.KEY_EXCHANGE, body)
    return bytes(peer.output())


TABLES = {"broker": BROKER, "bank": BANK}
CELLS = [(name, state, fact) for name, table in TABLES.items() for state in table for fact in Fact]


@pytest.mark.parametrize(("name", "state", "fact"), CELLS)
def test_a_session_does_what_its_table_says(name: str, state: State, fact: Fact) -> None:
    table = TABLES[name]
    cell = table[state][fact]
    line, mine, peer = in_state(table, state)
    own: dict[Fact, Callable[[], object]] = {
        Fact.START: lambda: mine._own_move(Fact.START), Fact.RENEW: lambda: mine._own_move(Fact.RENEW),
        Fact.SEND: lambda: mine.encode(sample(m.HEARTBEAT, REQUEST)), Fact.CLOSE: mine.close,
        Fact.FAULT: lambda: mine.feed(b"garbage"),
    }  # fmt: skip
    if fact in own and cell is Otherwise.REFUSED:
        with pytest.raises(NotReady):
            own[fact]()
        assert mine.state is state
        return
    events = own[fact]() if fact in own else mine.feed(bytes_of(fact, line, mine, peer))
    if cell is Otherwise.REFUSED:
        assert isinstance(failure(events), UnexpectedFrame) and mine.closed  # type: ignore[arg-type]
    else:
        assert mine.state is (state if cell is Otherwise.IGNORED else cell)


def test_a_closed_session_forgets_its_keys_and_says_nothing() -> None:
    line = Line(CMB).up()
    line.bank.feed(line.broker.renew())
    line.bank.close()
    assert line.bank._sending.key is line.bank._receiving.key is line.bank._offered is None
    assert line.bank.output() == b"" and line.bank.feed_eof() == []
    with pytest.raises(NotReady):
        line.bank.encode(sample(m.HEARTBEAT, REQUEST))


# --- fuzzing ----------------------------------------------------------------------------------------------------


@both
@given(data=st.data())
def test_damaged_streams_give_protocol_errors_and_nothing_else(flavour: Flavour, data: st.DataObject) -> None:
    """Real frames with bytes changed, dropped, doubled or put in: no other exception, and nothing after the end."""
    line = Line(flavour).up()
    stream = bytearray(b"".join(line.bank.encode(sample(m.DEPOSIT_PUSH, PUSH, flavour)) for _ in range(3)))
    at = data.draw(st.integers(0, len(stream) - 1))
    damage = data.draw(st.sampled_from(["change", "drop", "double", "insert"]))
    if damage == "change":
        stream[at] ^= data.draw(st.integers(1, 255))
    elif damage == "drop":
        del stream[at : at + data.draw(st.integers(1, 64))]
    elif damage == "double":
        stream[at:at] = stream[at : at + data.draw(st.integers(1, 64))]
    else:
        stream[at:at] = data.draw(st.binary(min_size=1, max_size=64))
    events = [*line.broker.feed(bytes(stream)), *line.broker.feed_eof()]
    assert failure(events).fatal and line.broker.closed
    assert sum(isinstance(event, Received) for event in events) <= 3


@both
@given(chunks=st.lists(st.binary(max_size=80), max_size=8), ready=st.booleans())
def test_garbage_gives_protocol_errors_and_nothing_else(flavour: Flavour, chunks: list[bytes], ready: bool) -> None:
    line = Line(flavour).up() if ready else Line(flavour)
    events = [event for chunk in [flavour.magic, *chunks] for event in line.bank.feed(chunk)]
    assert all(isinstance(event, ProtocolError) for event in [*events, *line.bank.feed_eof()])
    assert line.bank.closed


@both
@given(data=st.data())
def test_any_payload_in_a_good_frame_is_read_or_refused(flavour: Flavour, data: st.DataObject) -> None:
    line = Line(flavour).up()
    (command, kind) = data.draw(st.sampled_from(sorted(m.MESSAGES)))
    payload = bytearray(flavour.encode(sample(command, kind, flavour)))
    for _ in range(data.draw(st.integers(0, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    body = data.draw(st.one_of(st.just(bytes(payload)), st.binary(max_size=100)))
    (event,) = line.bank.feed(sealed(line, kind, command, body))
    if isinstance(event, Received):
        written = flavour.encode(event.message)
        assert flavour.decode(kind, command, written) == event.message
        assert flavour is CMBC or written == body
    else:
        assert isinstance(event, MalformedMessage | BadSignature) and line.bank.state is State.READY


def test_a_seeded_conversation_replays_byte_for_byte() -> None:
    def conversation() -> str:
        line, choice, digest = Line(CMB), random.Random(7), hashlib.sha256()
        digest.update(line.broker.start())
        line = Line(CMB).up()
        for _ in range(50):
            digest.update(line.send(choice.choice(samples())))
        return digest.hexdigest()

    assert conversation() == conversation()
