"""What the tables of both flavours share: a flavour, and building a message from the values of its fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from core.wire.socket.frames import FrameType, RefusedMessage
from core.wire.socket.messages import Body, Header, Message, row_of


class ReadPayload(Protocol):
    """Reads the payload of a command and type; a `RefusedMessage` if the tables do not fit."""

    def __call__(self, kind: FrameType, command: str, payload: bytes) -> Message: ...


class Flavour(NamedTuple):
    """One bank's way of writing messages: its magic, and payloads without signature, encryption or frame."""

    name: str
    magic: bytes
    encode: Callable[[Message], bytes]
    decode: ReadPayload


def build_message(kind: FrameType, command: str, header: Header, read_body: Callable[[type], Body]) -> Message:
    """The message of a header and a body still to be read; whatever is refused carries the header."""
    try:
        row = row_of(command, kind)
        message = Message(kind, command, header, read_body(row.body))
    except RefusedMessage as error:
        error.header = header
        raise
    return message
