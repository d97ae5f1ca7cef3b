"""One connection, seen from either end: what may come when, keys, sequences, signatures. No socket, no clock.

Rules, before any code:

* The broker begins with HELLO. Until its own last handshake frame (ACK of the bank, CONFIRM of the broker) an end
  sends clear frames with an empty tag; from then on every frame is sealed with SM4-GCM under the new key.
* The same three frames within the connection renew the key: they are sealed with the key in use, and each end changes
  over right after its own last one. The broker renews every 24 hours; whose timer that is, is the caller's matter.
* Sealing: nonce = direction (4 bytes: 1 from the broker, 2 from the bank) and sequence (8 bytes); associated data = the
  24 bytes of the frame's header. The sequence goes on over renewals, so no nonce comes twice under one key.
* A direction's frames are numbered 0, 1, 2, …: the next number, or the connection is over. So it is after any other
  fatal `ProtocolError`; a message that is refused (`RefusedMessage`) leaves the connection as it was.
* A message whose row in `MESSAGES` says so is followed, within the sealed body, by the sender's SM2 signature.

The two tables below are the state machines: each state and each fact is a move, an ignore or a refusal. What does not
fit into them: which key opens a frame (that of `_Lane.key`), and that a closed session forgets its keys.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from core.wire.sm2 import CryptoError, Entropy, sm4_gcm_decrypt, sm4_gcm_encrypt
from core.wire.socket.fields import Party
from core.wire.socket.frames import (
    CLEAR_TAG,
    MAX_FRAME,
    OVERHEAD,
    BadHandshake,
    BadSignature,
    Frame,
    FrameDecoder,
    FrameType,
    MalformedMessage,
    NotReady,
    OversizedFrame,
    ProtocolError,
    RefusedMessage,
    ReplayedFrame,
    SequenceGap,
    TamperedFrame,
    UnexpectedFrame,
    pack_header,
)
from core.wire.socket.handshake import (
    ACK_STEP,
    CONFIRM_STEP,
    HELLO_STEP,
    SIGNATURE_BYTES,
    Agreed,
    BankIdentity,
    BrokerIdentity,
    Crypto,
    Sm2Use,
    answer_hello,
    check_confirm,
    confirm,
    hello,
    message_signed,
    open_ack,
    step_of,
)
from core.wire.socket.layout import Flavour
from core.wire.socket.messages import KEY_EXCHANGE, Header, Message, check_message, row_of


class State(StrEnum):
    """Where a session is. The broker's begins NEW, the bank's AWAITING_HELLO."""

    NEW = "new"
    HELLO_SENT = "hello sent"
    AWAITING_HELLO = "awaiting hello"
    AWAITING_CONFIRM = "awaiting confirm"
    READY = "ready"
    RENEWING = "renewing"
    CLOSED = "closed"


class Fact(StrEnum):
    """What can happen to a session."""

    START = "start"  # our side begins the handshake
    RENEW = "renew"  # our side wants a new key
    SEND = "send"  # our side sends a message
    HELLO = "hello"  # received
    ACK = "ack"  # received
    CONFIRM = "confirm"  # received
    MESSAGE = "message"  # received
    FAULT = "fault"  # the peer broke the protocol, or its bytes ended within a frame
    CLOSE = "close"  # either side closes


class Otherwise(StrEnum):
    """A fact that moves nothing."""

    IGNORED = "ignored"
    REFUSED = "refused"  # the peer's fault: fatal `UnexpectedFrame`; our own: `NotReady` is raised


Cell = State | Otherwise
_IGNORED, _REFUSED = Otherwise.IGNORED, Otherwise.REFUSED

BROKER: Final[dict[State, dict[Fact, Cell]]] = {
    State.NEW: {
        Fact.START: State.HELLO_SENT,
        Fact.RENEW: _REFUSED,
        Fact.SEND: _REFUSED,
        Fact.HELLO: _REFUSED,
        Fact.ACK: _REFUSED,
        Fact.CONFIRM: _REFUSED,
        Fact.MESSAGE: _REFUSED,
        Fact.FAULT: State.CLOSED,
        Fact.CLOSE: State.CLOSED,
    },
    State.HELLO_SENT: {
        Fact.START: _REFUSED,
        Fact.RENEW: _REFUSED,
        Fact.SEND: _REFUSED,
        Fact.HELLO: _REFUSED,
        Fact.ACK: State.READY,
        Fact.CONFIRM: _REFUSED,
        Fact.MESSAGE: _REFUSED,
        Fact.FAULT: State.CLOSED,
        Fact.CLOSE: State.CLOSED,
    },
    State.READY: {
        Fact.START: _REFUSED,
        Fact.RENEW: State.RENEWING,
        Fact.SEND: State.READY,
        Fact.HELLO: _REFUSED,
        Fact.ACK: _REFUSED,
        Fact.CONFIRM: _REFUSED,
        Fact.MESSAGE: State.READY,
        Fact.FAULT: State.CLOSED,
        Fact.CLOSE: State.CLOSED,
    },
    State.RENEWING: {
        Fact.START: _REFUSED,
        Fact.RENEW: _IGNORED,
        Fact.SEND: State.RENEWING,
        Fact.HELLO: _REFUSED,
        Fact.ACK: State.READY,
        Fact.CONFIRM: _REFUSED,
        Fact.MESSAGE: State.RENEWING,
        Fact.FAULT: State.CLOSED,
        Fact.CLOSE: State.CLOSED,
    },
    State.CLOSED: {
        Fact.START: _REFUSED,
        Fact.RENEW: _REFUSED,
        Fact.SEND: _REFUSED,
        Fact.HELLO: _IGNORED,
        Fact.ACK: _IGNORED,
        Fact.CONFIRM: _IGNORED,
        Fact.MESSAGE: _IGNORED,
        Fact.FAULT: _IGNORED,
        Fact.CLOSE: _IGNORED,
    },
}
"""The broker's end."""

BANK: Final[dict[State, dict[Fact, Cell]]] = {
    State.AWAITING_HELLO: {
        Fact.START: _REFUSED,
        Fact.RENEW: _REFUSED,
        Fact.SEND: _REFUSED,
        Fact.HELLO: State.AWAITING_CONFIRM,
        Fact.ACK: _REFUSED,
        Fact.CONFIRM: _REFUSED,
        Fact.MESSAGE: _REFUSED,
        Fact.FAULT: State.CLOSED,
        Fact.CLOSE: State.CLOSED,
    },
    State.AWAITING_CONFIRM: {
        Fact.START: _REFUSED,
        Fact.RENEW: _REFUSED,
        Fact.SEND: _REFUSED,
        Fact.HELLO: _REFUSED,
        Fact.ACK: _REFUSED,
        Fact.CONFIRM: State.READY,
        Fact.MESSAGE: _REFUSED,
        Fact.FAULT: State.CLOSED,
        Fact.CLOSE: State.CLOSED,
    },
    State.READY: {
        Fact.START: _REFUSED,
        Fact.RENEW: _REFUSED,
        Fact.SEND: State.READY,
        Fact.HELLO: State.RENEWING,
        Fact.ACK: _REFUSED,
        Fact.CONFIRM: _REFUSED,
        Fact.MESSAGE: State.READY,
        Fact.FAULT: State.CLOSED,
        Fact.CLOSE: State.CLOSED,
    },
    State.RENEWING: {
        Fact.START: _REFUSED,
        Fact.RENEW: _REFUSED,
        Fact.SEND: State.RENEWING,
        Fact.HELLO: _REFUSED,
        Fact.ACK: _REFUSED,
        Fact.CONFIRM: State.READY,
        Fact.MESSAGE: State.RENEWING,
        Fact.FAULT: State.CLOSED,
        Fact.CLOSE: State.CLOSED,
    },
    State.CLOSED: {
        Fact.START: _REFUSED,
        Fact.RENEW: _REFUSED,
        Fact.SEND: _REFUSED,
        Fact.HELLO: _IGNORED,
        Fact.ACK: _IGNORED,
        Fact.CONFIRM: _IGNORED,
        Fact.MESSAGE: _IGNORED,
        Fact.FAULT: _IGNORED,
        Fact.CLOSE: _IGNORED,
    },
}
"""The bank's end. Only the broker renews; its HELLO in a ready session is the wish."""

_STEPS: Final = {
    (FrameType.REQUEST, HELLO_STEP): Fact.HELLO,
    (FrameType.RESPONSE, ACK_STEP): Fact.ACK,
    (FrameType.REQUEST, CONFIRM_STEP): Fact.CONFIRM,
}
_TABLES: Final = {Party.BROKER: BROKER, Party.BANK: BANK}
_DIRECTION: Final = {Party.BROKER: (1).to_bytes(4), Party.BANK: (2).to_bytes(4)}
_PEER: Final = {Party.BROKER: Party.BANK, Party.BANK: Party.BROKER}


# --- events -----------------------------------------------------------------------------------------------------


class Established(NamedTuple):
    """The handshake is done: messages may be sent."""

    broker: str
    certificate_serial: str


class Renewed(NamedTuple):
    """The key was changed within the connection."""


class Received(NamedTuple):
    """A message. ``signature`` over ``signed`` is the peer's proof of a money message, empty for others."""

    message: Message
    sequence: int = -1
    signed: bytes = b""
    signature: bytes = b""


Event = Established | Renewed | Received | ProtocolError


class _Lane:
    """One direction: its key (None while clear) and the sequence of its next frame."""

    __slots__ = ("direction", "key", "sequence")

    def __init__(self, sender: Party) -> None:
        self.direction = _DIRECTION[sender]
        self.key: bytes | None = None
        self.sequence = 0

    @property
    def nonce(self) -> bytes:
        return self.direction + self.sequence.to_bytes(8)


# --- sessions ---------------------------------------------------------------------------------------------------


class Session(ABC):
    """What both ends share; see `BrokerSession` and `BankSession`.

    ``feed`` takes the peer's bytes and gives events in order; a fatal error is the last, and ``state`` is CLOSED.
    ``output`` gives, once, what the session itself has to send; ``encode`` gives that and the frame of a message.
    """

    def __init__(self, me: Party, flavour: Flavour, private: bytes, sm2: Sm2Use, entropy: Entropy, limit: int) -> None:
        self.flavour = flavour
        self._table = _TABLES[me]
        self.state = next(iter(self._table))
        self._private = private
        self._limit = limit
        self._me = me
        self._crypto = Crypto(sm2, entropy, flavour.magic)
        self._decoder = FrameDecoder(flavour.magic, limit)
        self._sending = _Lane(me)
        self._receiving = _Lane(_PEER[me])
        self._peer_public = b""
        self._output = bytearray()

    @property
    def closed(self) -> bool:
        """The connection is over: close it, and feed no more."""
        return self.state is State.CLOSED

    @property
    def next_sequence(self) -> int:
        """Sequence of the next frame that we send (a rejection may name it)."""
        return self._sending.sequence

    def output(self) -> bytes:
        """Bytes to send now, in this order before any others; empty if there are none."""
        ready = bytes(self._output)
        self._output.clear()
        return ready

    def close(self) -> None:
        """Our side closes, or the connection is gone."""
        self._shut(Fact.CLOSE)

    def feed(self, data: bytes) -> list[Event]:
        """What the peer's next bytes mean, in order."""
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        for found in self._decoder.feed(data):
            event = self._fault(found) if isinstance(found, ProtocolError) else self._receive(found)
            if event is not None:
                events.append(event)
            if self.closed:
                break
        return events

    def feed_eof(self) -> list[Event]:
        """The peer closed its side: an error if that was within a frame."""
        errors: list[Event] = [] if self.closed else list(self._decoder.feed_eof())
        self._shut(Fact.FAULT if errors else Fact.CLOSE)
        return errors

    def encode(self, message: Message) -> bytes:
        """`output`, and the sealed frame of a message.

        Raises `NotReady` unless the session is ready, `MalformedMessage` for a message that the tables do not allow,
        `OversizedFrame` for one that is too long; the session is then as it was.
        """
        row = check_message(message)
        if self._me not in row.by:
            raise MalformedMessage(f"a {self._me.name.lower()} does not send {message.command}", message.header)
        payload = self.flavour.encode(message)
        if OVERHEAD + len(payload) + row.signed * SIGNATURE_BYTES > self._limit:
            raise OversizedFrame(f"{message.command}: {len(payload)} bytes do not fit into a frame")
        self._own_move(Fact.SEND)
        if row.signed:
            payload += self._sign(message, payload)
        self._send(message.kind, message.command, payload)
        return self.output()

    # --- facts --------------------------------------------------------------------------------------------------

    def _own_move(self, fact: Fact) -> bool:
        """Whether our side's fact moves the session; `NotReady` if it is refused."""
        cell = self._table[self.state][fact]
        if cell is Otherwise.REFUSED:
            raise NotReady(f"{fact} is not possible while {self.state}")
        if isinstance(cell, State):
            self.state = cell
            return True
        return False

    def _peer_move(self, fact: Fact) -> State:
        """The state that the peer's fact would move us to; `UnexpectedFrame` if it is refused."""
        cell = self._table[self.state][fact]
        if not isinstance(cell, State):
            raise UnexpectedFrame(f"{fact} is not expected while {self.state}")
        return cell

    def _fault(self, error: ProtocolError) -> ProtocolError:
        if error.fatal:
            self._shut(Fact.FAULT)
        return error

    def _shut(self, fact: Fact) -> None:
        cell = self._table[self.state][fact]
        if isinstance(cell, State):
            self.state = cell
            self._sending.key = self._receiving.key = None
            self._output.clear()
            self._forget()

    @abstractmethod
    def _forget(self) -> None:
        """Drop what a handshake under way has kept."""

    # --- frames -------------------------------------------------------------------------------------------------

    def _send(self, kind: FrameType, command: str, body: bytes) -> None:
        lane = self._sending
        header = pack_header(self.flavour.magic, kind, command, lane.sequence, len(body))
        tag = CLEAR_TAG
        if lane.key is not None:
            body, tag = sm4_gcm_encrypt(lane.key, lane.nonce, body, header)
        self._output += header + body + tag
        lane.sequence += 1

    def _receive(self, frame: Frame) -> Event | None:
        try:
            body = self._open(frame)
            if frame.command == KEY_EXCHANGE:
                return self._handshake(frame.kind, body)
            self.state = self._peer_move(Fact.MESSAGE)
            return self._message(frame, body)
        except ProtocolError as error:
            if isinstance(error, RefusedMessage):
                error.sequence = frame.sequence
            return self._fault(error)

    def _open(self, frame: Frame) -> bytes:
        """The body in the clear, once sequence and tag are good."""
        lane = self._receiving
        if frame.sequence != lane.sequence:
            kind = ReplayedFrame if frame.sequence < lane.sequence else SequenceGap
            raise kind(f"frame {frame.sequence} came where {lane.sequence} was due")
        body = frame.body
        if lane.key is None:
            if frame.tag != CLEAR_TAG or frame.command != KEY_EXCHANGE:
                raise UnexpectedFrame(f"a sealed frame or {frame.command} before the handshake is done")
        else:
            try:
                body = sm4_gcm_decrypt(lane.key, lane.nonce, body, frame.tag, frame.header)
            except CryptoError:
                raise TamperedFrame(f"the tag of frame {frame.sequence} does not fit") from None
        lane.sequence += 1
        return body

    def _handshake(self, kind: FrameType, body: bytes) -> Event | None:
        fact = _STEPS.get((kind, step_of(body)))
        if fact is None:
            raise UnexpectedFrame(f"{kind.name.lower()} {body[:1].hex()!r} is no step of the handshake")
        new = self._peer_move(fact)
        event = self._steps()[fact](body)
        self.state = new
        return event

    @abstractmethod
    def _steps(self) -> dict[Fact, Callable[[bytes], Event | None]]:
        """What to do with the body of a handshake frame that the state allows; raises `BadHandshake`."""

    def _agreed(self, agreed: Agreed) -> Event:
        first = not self._peer_public
        self._peer_public = agreed.peer_public
        return Established(agreed.broker, agreed.certificate_serial) if first else Renewed()

    # --- messages -----------------------------------------------------------------------------------------------

    def _message(self, frame: Frame, body: bytes) -> Received:
        row = row_of(frame.command, frame.kind)
        if _PEER[self._me] not in row.by:
            raise MalformedMessage(f"{frame.kind.name.lower()} {frame.command} is not for the peer to send")
        if not row.signed:
            return Received(self.flavour.decode(frame.kind, frame.command, body), frame.sequence)
        payload, signature = body[:-SIGNATURE_BYTES], body[-SIGNATURE_BYTES:]
        signed = message_signed(self._crypto, frame.kind, frame.command, payload)
        if not self._verify(signed, signature):
            raise BadSignature(f"{frame.command} is not signed by the peer", self._header_of(frame, payload))
        return Received(self.flavour.decode(frame.kind, frame.command, payload), frame.sequence, signed, signature)

    def _sign(self, message: Message, payload: bytes) -> bytes:
        signed = message_signed(self._crypto, message.kind, message.command, payload)
        return self._crypto.sm2.sign(self._private, signed, entropy=self._crypto.entropy)

    def _verify(self, signed: bytes, signature: bytes) -> bool:
        try:
            return self._crypto.sm2.verify(self._peer_public, signed, signature)
        except CryptoError:
            return False

    def _header_of(self, frame: Frame, payload: bytes) -> Header | None:
        """The header of a payload that is refused anyway, so that the answer can name its reference."""
        try:
            return self.flavour.decode(frame.kind, frame.command, payload).header
        except RefusedMessage as error:
            return error.header


class BrokerSession(Session):
    """The broker's end: ``start`` begins, ``renew`` changes the key within the connection."""

    def __init__(
        self, flavour: Flavour, identity: BrokerIdentity, sm2: Sm2Use, entropy: Entropy, limit: int = MAX_FRAME
    ) -> None:
        super().__init__(Party.BROKER, flavour, identity.private, sm2, entropy, limit)
        self._identity = identity
        self._hello = b""

    def start(self) -> bytes:
        """The HELLO to send first; `NotReady` if it was sent already."""
        self._own_move(Fact.START)
        return self._greet()

    def renew(self) -> bytes:
        """The HELLO that asks for a new key (empty if that is under way); `NotReady` unless the session is ready."""
        return self._greet() if self._own_move(Fact.RENEW) else b""

    def _greet(self) -> bytes:
        self._hello = hello(self._crypto, self._identity)
        self._send(FrameType.REQUEST, KEY_EXCHANGE, self._hello)
        return self.output()

    def _steps(self) -> dict[Fact, Callable[[bytes], Event | None]]:
        return {Fact.ACK: self._take}

    def _take(self, body: bytes) -> Event:
        agreed = open_ack(self._crypto, self._identity, self._hello, body)
        self._receiving.key = agreed.key
        self._send(FrameType.REQUEST, KEY_EXCHANGE, confirm(self._crypto, agreed))
        self._sending.key = agreed.key
        self._hello = b""
        return self._agreed(agreed)

    def _forget(self) -> None:
        self._hello = b""


class BankSession(Session):
    """The bank's end: answers HELLO, and is ready when CONFIRM is good."""

    def __init__(
        self, flavour: Flavour, identity: BankIdentity, sm2: Sm2Use, entropy: Entropy, limit: int = MAX_FRAME
    ) -> None:
        super().__init__(Party.BANK, flavour, identity.private, sm2, entropy, limit)
        self._identity = identity
        self._offered: Agreed | None = None
        self._broker = ""

    def _steps(self) -> dict[Fact, Callable[[bytes], Event | None]]:
        return {Fact.HELLO: self._offer, Fact.CONFIRM: self._accept}

    def _offer(self, body: bytes) -> None:
        ack, agreed = answer_hello(self._crypto, self._identity, body)
        self._same_broker(agreed)
        self._send(FrameType.RESPONSE, KEY_EXCHANGE, ack)
        self._sending.key = agreed.key
        self._offered = agreed

    def _accept(self, body: bytes) -> Event:
        agreed = self._offered
        if agreed is None:
            raise UnexpectedFrame("a CONFIRM without an ACK")
        check_confirm(self._crypto, agreed, body)
        self._receiving.key = agreed.key
        self._offered = None
        self._broker = agreed.broker
        return self._agreed(agreed)

    def _same_broker(self, agreed: Agreed) -> None:
        """A renewal may bring another certificate of the same broker, never another broker."""
        if self._broker and agreed.broker != self._broker:
            raise BadHandshake(f"broker {agreed.broker} on the connection of {self._broker}")

    def _forget(self) -> None:
        self._offered = None
