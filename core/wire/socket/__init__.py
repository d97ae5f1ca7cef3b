"""The socket protocol of CMB and CMBC, sans-IO (SOCK-01; design/protocols.md, gaps.md B-08, B-22). See PROTOCOL.md.

`BrokerSession` and `BankSession` are the two ends of a connection: bytes in, events out. `Message` and its bodies are
plain values of both flavours, so that two ends can also exchange them without bytes. `CMB` and `CMBC` write and read
payloads.
"""

from core.wire.socket.cmb import CMB
from core.wire.socket.cmbc import CMBC
from core.wire.socket.fields import Kind, ListKind, Party, Signing, TransferKind, TransferState
from core.wire.socket.frames import (
    MAX_FRAME,
    BadHandshake,
    BadSignature,
    Frame,
    FrameDecoder,
    FrameType,
    GarbageFrame,
    MalformedMessage,
    NotReady,
    OversizedFrame,
    ProtocolError,
    RefusedMessage,
    ReplayedFrame,
    SequenceGap,
    TamperedFrame,
    TruncatedFrame,
    UnexpectedFrame,
)
from core.wire.socket.handshake import BankIdentity, BrokerIdentity, Sm2Use
from core.wire.socket.layout import Flavour
from core.wire.socket.session import (
    BANK,
    BROKER,
    BankSession,
    BrokerSession,
    Established,
    Event,
    Fact,
    Otherwise,
    Received,
    Renewed,
    Session,
    State,
)

__all__ = [
    "BANK",
    "BROKER",
    "CMB",
    "CMBC",
    "MAX_FRAME",
    "BadHandshake",
    "BadSignature",
    "BankIdentity",
    "BankSession",
    "BrokerIdentity",
    "BrokerSession",
    "Established",
    "Event",
    "Fact",
    "Flavour",
    "Frame",
    "FrameDecoder",
    "FrameType",
    "GarbageFrame",
    "Kind",
    "ListKind",
    "MalformedMessage",
    "NotReady",
    "Otherwise",
    "OversizedFrame",
    "Party",
    "ProtocolError",
    "Received",
    "RefusedMessage",
    "Renewed",
    "ReplayedFrame",
    "SequenceGap",
    "Session",
    "Signing",
    "Sm2Use",
    "State",
    "TamperedFrame",
    "TransferKind",
    "TransferState",
    "TruncatedFrame",
    "UnexpectedFrame",
]
