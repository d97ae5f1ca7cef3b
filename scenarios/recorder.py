"""The event stream as it is kept: one JSON array per line, and a hash of exactly those bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import orjson

from core.trace import Event

FLUSH_BYTES = 1 << 20


class Recorder:
    """A trace sink: hashes every event and, with a path, writes it to ``events.jsonl``."""

    def __init__(self, path: Path | None) -> None:
        self._file: BinaryIO | None = path.open("wb") if path is not None else None
        self._hash = hashlib.blake2b(digest_size=16)
        self._lines: list[bytes] = []
        self._size = 0
        self.events = 0

    def __call__(self, event: Event) -> None:
        line = orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)
        self._size += len(line)
        self.events += 1
        if self._size >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        chunk = b"".join(self._lines)
        self._hash.update(chunk)
        if self._file is not None:
            self._file.write(chunk)
        self._lines.clear()
        self._size = 0

    def close(self) -> str:
        """Write what is left; the hash of the whole stream, 32 hex digits."""
        self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None
        return self._hash.hexdigest()
