"""Frames of the CMB and CMBC socket protocol: from any chunks of bytes to whole frames (design/protocols.md).

A frame, all numbers big-endian:

======  ======  ==========================================================================
offset  length  meaning
======  ======  ==========================================================================
0       4       magic, ``CMB1`` or ``MSB1``
4       1       version, 1
5       1       type: 1 request, 2 response, 3 push, 4 push-ack
6       6       command (tx code), six ASCII digits
12      8       sequence: each direction numbers its frames 0, 1, 2, … from the first byte of a connection
20      4       length of the body
24      length  body: clear in the first handshake, SM4-GCM ciphertext from then on
…       16      tag: of SM4-GCM over header (as associated data) and ciphertext; sixteen zero bytes in the clear
======  ======  ==========================================================================

Nothing here knows keys, clocks or sockets. What is wrong with bytes is told as a `ProtocolError` value.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from core.wire.socket.messages import Header

VERSION: Final = 1
MAX_FRAME: Final = 65_536
"""Longest frame in bytes, header and tag included (gaps.md B-22)."""

HEADER: Final = struct.Struct(">4sBB6sQI")
TAG_BYTES: Final = 16
OVERHEAD: Final = HEADER.size + TAG_BYTES
CLEAR_TAG: Final = bytes(TAG_BYTES)
_DIGITS: Final = frozenset(b"0123456789")


class FrameType(IntEnum):
    """Type byte of a frame."""

    REQUEST = 1
    RESPONSE = 2
    PUSH = 3
    PUSH_ACK = 4


_TYPES: Final = {int(kind): kind for kind in FrameType}


# --- what can be wrong ------------------------------------------------------------------------------------------


class ProtocolError(Exception):
    """Bytes or a use outside the protocol. If ``fatal``, the connection is over and must be closed."""

    fatal: bool = True


class GarbageFrame(ProtocolError):
    """Bytes that cannot be the header of a frame: magic, version, type or command."""


class OversizedFrame(ProtocolError):
    """A frame longer than the limit."""


class TruncatedFrame(ProtocolError):
    """The connection ended within a frame."""


class ReplayedFrame(ProtocolError):
    """A sequence that has been received already."""


class SequenceGap(ProtocolError):
    """A sequence beyond the next one: frames are missing."""


class TamperedFrame(ProtocolError):
    """The tag does not fit: changed on the way, or sealed with another key."""


class BadHandshake(ProtocolError):
    """A HELLO, ACK or CONFIRM that does not prove what it must."""


class UnexpectedFrame(ProtocolError):
    """A frame that the state of the connection does not allow."""


class NotReady(ProtocolError):
    """The caller asked for something that the state of its session does not allow; raised, never an event."""

    fatal = False


class RefusedMessage(ProtocolError):
    """An intact frame whose message is not accepted; the connection goes on, and the peer is told ``code``.

    ``header`` is that of the message if it could be read, ``sequence`` that of the frame (-1 outside a session).
    """

    fatal = False
    code: int = -2

    def __init__(self, detail: str, header: Header | None = None) -> None:
        super().__init__(detail)
        self.header = header
        self.sequence = -1


class MalformedMessage(RefusedMessage):
    """Fields that are not as the tables say; also raised when such a message is to be encoded (code -2)."""

    code = -2


class BadSignature(RefusedMessage):
    """The SM2 signature on a money message is not the peer's (code -3)."""

    code = -3


# --- frames -----------------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A whole frame; ``header`` holds its first 24 bytes as they came."""

    kind: FrameType
    command: str
    sequence: int
    body: bytes
    tag: bytes
    header: bytes


def pack_header(magic: bytes, kind: FrameType, command: str, sequence: int, length: int) -> bytes:
    """The 24 bytes before a body of ``length`` bytes."""
    return HEADER.pack(magic, VERSION, kind, command.encode("ascii"), sequence, length)


class FrameDecoder:
    """Collects chunks and gives whole frames; after the first error it gives nothing more (``failed``)."""

    __slots__ = ("_buffer", "_limit", "_magic", "failed")

    def __init__(self, magic: bytes, limit: int = MAX_FRAME) -> None:
        self._magic = magic
        self._limit = limit
        self._buffer = bytearray()
        self.failed = False

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame | ProtocolError]:
        """The frames that ``data`` completes, in order; an error is the last entry."""
        if self.failed:
            return []
        source: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            source = self._buffer
        found: list[Frame | ProtocolError] = []
        taken = 0
        try:
            while taken < len(source) and (frame := self._frame_at(source, taken)) is not None:
                found.append(frame)
                taken += OVERHEAD + len(frame.body)
        except ProtocolError as error:
            self._fail()
            found.append(error)
            return found
        if source is self._buffer:
            del self._buffer[:taken]
        else:  # nothing waited: whole frames were read where they lay
            self._buffer += source[taken:]
        return found

    def feed_eof(self) -> list[ProtocolError]:
        """The peer closed: an error if it did so within a frame."""
        cut = len(self._buffer)
        self._fail()
        return [TruncatedFrame(f"the connection ended {cut} bytes into a frame")] if cut else []

    def _fail(self) -> None:
        self.failed = True
        self._buffer.clear()

    def _frame_at(self, source: bytes | bytearray, start: int) -> Frame | None:
        """The frame that begins there, None if it is not whole; refuses as early as the bytes tell."""
        head = bytes(source[start : start + HEADER.size])
        if not self._magic.startswith(head[:4]):
            raise GarbageFrame(f"{head[:4]!r} is not {self._magic!r}")
        if len(head) < HEADER.size:
            return None
        _, version, kind, command, sequence, length = HEADER.unpack(head)
        if version != VERSION or kind not in _TYPES or not _DIGITS.issuperset(command):
            raise GarbageFrame(f"version {version}, type {kind}, command {command!r}")
        if OVERHEAD + length > self._limit:
            raise OversizedFrame(f"a frame of {OVERHEAD + length} bytes is longer than {self._limit}")
        end = start + OVERHEAD + length
        if len(source) < end:
            return None
        body_at, tag_at = start + HEADER.size, end - TAG_BYTES
        body, tag = bytes(source[body_at:tag_at]), bytes(source[tag_at:end])
        return Frame(_TYPES[kind], command.decode("ascii"), sequence, body, tag, head)
