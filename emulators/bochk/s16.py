"""The S16 reports that the emulated BOCHK writes: a file per account and period of its FTP day (gaps.md B-19).

Period 1 ends half an hour after the opening, the last at the closing. A file holds every line booked since the file
before it, so the first of a day also those of the night and of Sunday; names come again every day. It is written some
minutes after its period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from core.calendars.gates import Gate
from core.clock import MS_PER_S, US_PER_MS, US_PER_S, Clock, hkt_date, yyyymmdd
from core.settings import Settings
from core.wire.bochk_s16 import Record, Report, encode, name_of
from emulators.bochk.bank import BochkBank, printable
from emulators.bochk.faults import S16, Strikes
from emulators.faults import Fault
from emulators.loop import timer_of
from emulators.receiving import Line

_STRANGER: Final = 987_654_321
_SECOND_MS: Final = MS_PER_S


class Stored(NamedTuple):
    """A file in the folder."""

    content: bytes
    written_ms: int


class S16Writer:
    """Writes the files; ``gate(ms)`` is the FTP service's session at or after a moment."""

    def __init__(
        self, bank: BochkBank, loop: asyncio.AbstractEventLoop, clock: Clock, streams: Callable[[str], Random],
        settings: Settings, gate: Callable[[int], Gate],
    ) -> None:
        self._bank, self._clock, self._gate = bank, clock, gate
        self._after_us = timer_of(loop)
        self._period_ms = round(settings["sim.bochk.s16.period"] * MS_PER_S)
        self._lag_s: list[float] = settings["sim.bochk.s16.lag"]
        self._draws = streams("bochk.s16")
        self._told: dict[str, int] = dict.fromkeys(bank.our_accounts.values(), 0)
        self.files: dict[str, Stored] = {}

    @property
    def open(self) -> bool:
        """Whether the FTP service is open now."""
        return self._gate(self._clock.now_ms()).open and not self._bank.faults.active("ftp_down")

    def begin(self) -> None:
        """Write files from now on."""
        self._wait(self._clock.now_ms())

    def _wait(self, now_ms: int) -> None:
        """Until the end of the period that is under way, or comes next."""
        gate = self._gate(now_ms)
        period = max(0, now_ms - gate.opens_ms) // self._period_ms + 1
        ends = min(gate.opens_ms + period * self._period_ms, gate.closes_ms)
        self._after_us((ends - now_ms) * US_PER_MS, self._end, period, ends)

    def _end(self, period: int, ends_ms: int) -> None:
        for account in self._told:
            lines = list(self._bank.lines(account, self._told[account]))
            self._told[account] = max((line.seq for line in lines), default=self._told[account])
            self._write_later(account, period, lines)
        self._wait(ends_ms)

    def _write_later(self, account: str, period: int, lines: list[Line]) -> None:
        delay_s = self._draws.uniform(*self._lag_s)
        name = name_of(account, period)
        faults = self._bank.faults.strike(Strikes.FILE, S16, (name, account), "")
        for fault in faults:
            if fault.name == "s16_missing":
                return
            if fault.name == "s16_late":
                delay_s += fault.params["delay_s"]
        self._after_us(round(delay_s * US_PER_S), self._write, name, account, period, lines, faults)

    def _write(self, name: str, account: str, period: int, lines: list[Line], faults: list[Fault]) -> None:
        now = self._clock.now_ms()
        records = tuple(_record(line) for line in lines)
        for fault in faults:
            records = _changed(records, fault)
        whole = encode(Report(account, yyyymmdd(hkt_date(now)), period, now, records))
        content = whole
        for fault in faults:
            content = _spoilt(content, fault)
            if fault.name == "s16_old_format":
                name = f"AGS{account}AC{period}.TXT"
            elif fault.name == "s16_partial":
                self._after_us(round(fault.params["whole_s"] * US_PER_S), self._store, name, whole)
        self._store(name, content)

    def _store(self, name: str, content: bytes) -> None:
        self.files[name] = Stored(content, self._clock.now_ms())


def _record(line: Line) -> Record:
    return Record(line.reference, line.booked_ms // _SECOND_MS * _SECOND_MS, line.ccy, "C" if line.credit else "D",
                  line.amount, line.balance, printable(line.payer_name), printable(line.payer_account),
                  printable(line.remark))


def _changed(records: tuple[Record, ...], fault: Fault) -> tuple[Record, ...]:
    """What a fault makes of the records; the trailer is then that of what is told."""
    if fault.name == "s16_unknown_prefix":
        return tuple(record._replace(reference=fault.params["prefix"] + record.reference[5:]) for record in records)
    if fault.name == "s16_unnamed":
        return tuple(record._replace(name="") for record in records)
    if fault.name == "s16_stranger" and records:
        stranger = records[-1]._replace(reference=f"{records[-1].reference[:5]}{_STRANGER:012d}")
        return (*records, stranger)
    return records


def _spoilt(content: bytes, fault: Fault) -> bytes:
    """What a fault makes of the bytes."""
    if fault.name == "s16_partial":
        return content[: len(content) // 2]
    head, *rest = content.split(b"\r\n")
    if fault.name == "s16_garbled":
        return b"\r\n".join((head, rest[0].replace(b"|", b"\xff", 1), *rest[1:]))
    if fault.name == "s16_wrong_trailer":
        *lines, trailer, end = rest
        kind, count, *sums = trailer.split(b"|")
        return b"\r\n".join((head, *lines, b"|".join((kind, str(int(count) + 1).encode(), *sums)), end))
    return content
