"""What a collector of HSBC's statements is given to reach the bank, and to be reached by it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple, Protocol

from core.wire.openpgp import Envelope

NAME_LENGTH: Final = 128
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
PARTIAL: Final = ".tmp"
"""End of the name of a file that is still being written; it is renamed when it is whole."""


class RemoteFile(NamedTuple):
    """A file in a mailbox, by its listing."""

    name: str
    modified_s: int
    size: int


class Mailbox(Protocol):
    """The bank's folder with files for us, while we are connected. Silence raises `OutcomeUnknown`."""

    async def files(self) -> list[RemoteFile]:
        """All whole files, by name."""

    async def read(self, file: RemoteFile, limit: int) -> bytes:
        """A file's bytes, at most ``limit`` of them and one more."""


Deliver = Callable[[str, bytes], Awaitable[None]]
"""Keeps a whole file that the bank has dropped under a name; what it raises, the bank hears as a failure."""

Notice = Callable[[str], Awaitable[bool]]
"""The bank says that it has dropped a file; whether it is there."""


class HsbcLines(NamedTuple):
    """``connect`` opens the bank's mailbox; ``listen`` opens our own server for the bank and gives what closes it, or
    None where the bank does not push."""

    connect: Callable[[], AbstractAsyncContextManager[Mailbox]]
    envelope: Envelope
    listen: Callable[[Deliver, Notice], Awaitable[Callable[[], Awaitable[None]]]] | None = None


def good_name(name: str) -> bool:
    """Whether a file's name can be kept: one plain part of a path."""
    return len(name) <= NAME_LENGTH and _NAME.fullmatch(name) is not None
