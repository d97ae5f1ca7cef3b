"""A run as a Perfetto trace (protobuf TrackEvent): virtual time in nanoseconds since the epoch.

Tracks: one per bank, below it its messages and its channels, below each channel one track per Procedure (names are
distinct, or Perfetto would pack several Procedures into one lane). Slices are states, instants are terminal states,
bank messages, notes and alerts; injected faults are slices of their own.

The writer is the part of protobuf that is needed: varints and length-delimited fields. Field numbers are those of
``perfetto_trace.proto``; a test reads the result back with Perfetto's own generated classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from core.money import show
from core.trace import Event

NS_PER_US = 1_000
SEQUENCE = 1
CLEARED, NEEDS_STATE = 1, 2
BEGIN, END, INSTANT = 1, 2, 3
BOOTTIME, REALTIME = 6, 1
CHRONOLOGICAL = 2
FLUSH_BYTES = 1 << 20
TEXT_KEPT = 200


_ONE_BYTE = [bytes((number,)) for number in range(0x80)]


def varint(number: int) -> bytes:
    """Base-128 varint; negative numbers as 64-bit two's complement."""
    if 0 <= number < 0x80:
        return _ONE_BYTE[number]
    number &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: int) -> bytes:
    """A varint field."""
    return varint(number << 3) + varint(value)


def block(number: int, content: bytes) -> bytes:
    """A length-delimited field: message, string or bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


class Interned:
    """Strings sent once and referred to by number; ``sent`` collects what the next packet must bring along."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, str], int] = {}
        self.sent: list[bytes] = []

    def number(self, kind: int, words: str) -> int:
        """Number of a string in the table of field ``kind`` of InternedData."""
        found = self._numbers.get((kind, words))
        if found is None:
            found = self._numbers[kind, words] = len(self._numbers) + 1
            self.sent.append(block(kind, field(1, found) + block(2, words.encode())))
        return found

    def take(self) -> bytes:
        """InternedData of what is new, or nothing."""
        if not self.sent:
            return b""
        content = b"".join(self.sent)
        self.sent.clear()
        return block(12, content)


NAMES, NOTES, VALUES = 2, 3, 29


class TraceFile:
    """Writes packets; `Tracks` decides what they say."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._buffer, self._interned = out, BytesIO(), Interned()
        self._tracks = 0
        self._tail = field(10, SEQUENCE)

    def begin(self, t_us: int) -> None:
        """Clock of the trace: boot time is the virtual wall clock."""
        now = field(2, t_us * NS_PER_US)
        clocks = block(1, field(1, BOOTTIME) + now) + block(1, field(1, REALTIME) + now) + field(2, BOOTTIME)
        self._packet(field(8, t_us * NS_PER_US) + block(6, clocks) + field(13, CLEARED))

    def track(self, name: str, parent: int = 0) -> int:
        """A new track, its number."""
        self._tracks += 1
        above = field(5, parent) if parent else b""
        words = field(1, self._tracks) + block(2, name.encode()) + above + field(11, CHRONOLOGICAL)
        self._packet(block(60, words))
        return self._tracks

    def event(self, t_us: int, kind: int, track: int, name: str = "", **notes: object) -> None:
        """A slice's begin or end, or an instant, with notes (numbers or short strings)."""
        number = self._interned.number
        body = field(9, kind) + field(11, track)
        if name:
            body += field(10, number(NAMES, name))
        for key, value in notes.items():
            if value in (None, ""):
                continue
            said = (field(4, value) if isinstance(value, int)
                    else field(17, number(VALUES, str(value)[:TEXT_KEPT])))
            body += block(4, field(1, number(NOTES, key)) + said)
        self._packet(field(8, t_us * NS_PER_US) + block(11, body) + self._interned.take() + field(13, NEEDS_STATE))

    def _packet(self, content: bytes) -> None:
        self._buffer.write(block(1, content + self._tail))
        if self._buffer.tell() > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write out what is buffered."""
        self._out.write(self._buffer.getvalue())
        self._buffer = BytesIO()


class Tracks:
    """Turns events into tracks and slices; a trace sink."""

    def __init__(self, out: IO[bytes]) -> None:
        self._file = TraceFile(out)
        self._named: dict[tuple[str, int], int] = {}
        self._procedures: dict[int, int] = {}
        self._open: dict[int, None] = {}
        self._last_us = -1
        self._readers: dict[str, Callable[[Event], None]] = {
            "procedure": self._on_procedure, "note": self._on_note, "bank.request": self._on_message,
            "bank.reply": self._on_message, "bank.book": self._on_message, "bank.gate": self._on_message,
            "fault": self._on_fault, "alert": self._on_alert, "core": self._on_core}

    def __call__(self, event: Event) -> None:
        """Read one event."""
        if self._last_us < 0:
            self._file.begin(event[1])
        self._last_us = event[1]
        reader = self._readers.get(event[2])
        if reader is not None:
            reader(event)

    def close(self) -> None:
        """End the slices that are still open and write everything out."""
        for track in self._open:
            self._file.event(self._last_us, END, track)
        self._open.clear()
        self._file.flush()

    def _track(self, name: str, parent: int = 0) -> int:
        found = self._named.get((name, parent))
        if found is None:
            found = self._named[name, parent] = self._file.track(name, parent)
        return found

    def _on_procedure(self, event: Event) -> None:
        _, t_us, _, _, data = event
        track = self._procedures.get(data["id"])
        if track is None:
            track = self._procedures[data["id"]] = self._file.track(_title(data), self._channel(data))
        if track in self._open:
            self._file.event(t_us, END, track)
            del self._open[track]
        label, terminal = data["to"], data["to"].startswith("end_")
        self._file.event(t_us, INSTANT if terminal else BEGIN, track, label, row=data["row"],
                         operator=data.get("operator"), remark=data.get("remark"), reason=data.get("reason"),
                         version=data.get("version"))
        if not terminal:
            self._open[track] = None

    def _channel(self, data: dict[str, Any]) -> int:
        channel = str(data.get("channel") or data["biz"])
        return self._track(channel, self._track(channel.partition(" ")[0]))

    def _on_note(self, event: Event) -> None:
        track = self._procedures.get(event[4]["id"])
        if track is not None:
            self._file.event(event[1], INSTANT, track, f"note {event[4]['fact']}", detail=event[4].get("detail"))

    def _on_message(self, event: Event) -> None:
        _, t_us, kind, subject, data = event
        bank = str(data["bank"])
        track = self._track(f"{bank} messages", self._track(bank))
        words = {"bank.request": f"→ {data.get('message')}", "bank.reply": f"← {data.get('message')}",
                 "bank.book": f"book {data.get('op')}",
                 "bank.gate": "window open" if data.get("open") else "window closed"}
        self._file.event(t_us, INSTANT, track, words[kind], ref=subject, outcome=data.get("outcome"),
                         attempt=data.get("attempt"), ms=data.get("ms"), code=data.get("code"))

    def _on_fault(self, event: Event) -> None:
        _, t_us, _, subject, data = event
        name = f"{subject} {data['fault']} {data['target']}"
        track = self._track(name, self._track("Injected faults"))
        if data["phase"] == "begin" and track not in self._open:
            self._open[track] = None
            self._file.event(t_us, BEGIN, track, str(data["fault"]), target=str(data["target"]))
        elif data["phase"] == "end" and track in self._open:
            del self._open[track]
            self._file.event(t_us, END, track)

    def _on_alert(self, event: Event) -> None:
        _, t_us, _, _, data = event
        self._file.event(t_us, INSTANT, self._track("Alerts"), f"{data['rule']} {data.get('phase', 'raised')}",
                         severity=data.get("severity"), alert=data.get("name"), key=data.get("key"),
                         detail=data.get("detail"))

    def _on_core(self, event: Event) -> None:
        _, t_us, _, _, data = event
        self._file.event(t_us, INSTANT, self._track("Core"), str(data["phase"]), detail=data.get("detail"))


def _title(data: dict[str, Any]) -> str:
    return f"P{data['id']} {show(int(data.get('amount') or 0), str(data.get('ccy') or ''))}"


def write_trace(path: Path, events: Iterable[Event]) -> int:
    """Write ``trace.pftrace`` from events in order; returns its size in bytes."""
    with path.open("wb") as out:
        tracks = Tracks(out)
        for event in events:
            tracks(event)
        tracks.close()
        return out.tell()
