"""``nostro import BANK FILE…``: statement files into the databases of a folder, with a summary."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from sqlite3 import DatabaseError
from typing import Any, Final, NamedTuple

from core.calendars import Calendars
from core.clock import MS_PER_DAY, US_PER_MS, Clock, MachineClock, hkt_date
from core.deposits.collection import StatementRoom
from core.deposits.importing import Brings, Imported, brings_entries, check_bank, import_file, refused_whole
from core.deposits.statements import Statements
from core.errors import Misconfigured
from core.jobs import Jobs
from core.settings import Settings
from core.storage import Databases, StorageConfig, open_databases
from core.trace import Trace

_WORDS: Final[dict[str, tuple[str, str]]] = {
    Brings.ENTRIES: ("entry", "entries"), Brings.NAMES: ("named", "named"),
    Brings.SUPPLEMENTS: ("supplement", "supplements")}
"""Of one, and of several."""


class FileDone(NamedTuple):
    """One file and what became of it."""

    file: str
    done: Imported

    def shown(self) -> dict[str, Any]:
        """As plain data."""
        done = self.done
        return {"file": self.file, "format": done.format, "accepted": done.accepted, **_by_kind([done]),
                "duplicate": done.duplicate, "refused": [one._asdict() for one in done.refused]}


class Summary(NamedTuple):
    """What became of all files."""

    bank: str
    data: str
    files: tuple[FileDone, ...]

    @property
    def accepted(self) -> int:
        return sum(file.done.accepted for file in self.files)

    @property
    def duplicate(self) -> int:
        return sum(file.done.duplicate for file in self.files)

    @property
    def refused(self) -> int:
        return sum(len(file.done.refused) for file in self.files)

    def shown(self) -> dict[str, Any]:
        """As plain data."""
        return {"bank": self.bank, "data": self.data, "accepted": self.accepted,
                **_by_kind([file.done for file in self.files]), "duplicate": self.duplicate,
                "refused": self.refused, "files": [file.shown() for file in self.files]}

    def lines(self) -> list[str]:
        """For people; a refusal begins as a compiler's message does, so that editors find the place."""
        found: list[str] = []
        for file, done in self.files:
            found.append(f"{file}  {done.format}: {_accepted([done])}, {done.duplicate} duplicate, "
                         f"{len(done.refused)} refused")
            found += [f"  {file}{f':{one.line}' if one.line else ''}: {one.kind}: {one.reason}" for one in done.refused]
        found.append(f"{len(self.files)} file{'s' * (len(self.files) != 1)} into {self.data}: "
                     f"{_accepted([file.done for file in self.files])}, {self.duplicate} duplicate, "
                     f"{self.refused} refused")
        return found


def _by_kind(files: Sequence[Imported]) -> dict[str, int]:
    """What was accepted, by what it is: together as many as ``accepted``."""
    return {kind.value: sum(done.accepted for done in files if done.brings is kind) for kind in Brings}


def _accepted(files: Sequence[Imported]) -> str:
    """How much was accepted; where that is not entries only, what it is, for one payment may come as an entry and as
    its name."""
    kinds = _by_kind(files)
    whole = f"{sum(kinds.values())} accepted"
    if sum(kinds.values()) == kinds[Brings.ENTRIES]:
        return whole
    told = (f"{number} {_WORDS[kind][number != 1]}" for kind, number in kinds.items() if number)
    return f"{whole} ({', '.join(told)})"


class AsOf:
    """The machine's clock on another day: files of the past are judged as on the day they came."""

    def __init__(self, day: str, clock: Clock) -> None:
        """``day``: as YYYY-MM-DD, in Hong Kong."""
        try:
            came = date.fromisoformat(day)
        except ValueError:
            raise Misconfigured(f"{day!r} is no day", where="--as-of", remedy="write it as 2026-03-12") from None
        self._clock, self._ms = clock, (came - hkt_date(clock.now_ms())).days * MS_PER_DAY

    def now_ms(self) -> int:
        return self._clock.now_ms() + self._ms

    def now_us(self) -> int:
        return self._clock.now_us() + self._ms * US_PER_MS


def import_files(
    bank: str, paths: Sequence[Path], data: Path, overlay: Mapping[str, Any], clock: Clock | None = None
) -> Summary:
    """Take files, and all files of folders, into the databases of ``data``; by the machine's clock, if by no other."""
    check_bank(bank)
    if data.exists() and not data.is_dir():
        raise Misconfigured(f"{data} is a file", where="--data", remedy="name a folder; it is made if it is not there")
    settings = Settings(dict(overlay))
    found: dict[str, Path] = {}  # by its one true name: a file that is named twice is taken, and told, once
    for file in (file for path in paths for file in _files_of(path)):
        found.setdefault(os.path.realpath(file), file)
    files = list(found.values())
    if not files:
        raise Misconfigured("no files", where="import", remedy="name files, or folders that hold some")
    return asyncio.run(_import(bank, files, data, settings, clock or MachineClock()))


def _files_of(path: Path) -> list[Path]:
    """The file, or what a folder holds, hidden files left out."""
    why = _unreadable(path)
    if why:
        raise Misconfigured(why, where="import", remedy="name files, or folders that hold some")
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    return [path]


def _unreadable(path: Path) -> str:
    """What stands there instead of a file; "" for a file, a folder, and for pipes and devices: they are read as a
    stream, once, to their end or up to ``imports.file_limit``."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"{path} is a link to a file that is not there" if path.is_symlink() else f"there is no file {path}"
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"{path} is a link that leads back to itself"
        return f"{path} cannot be read: {error.strerror or error}"
    return f"{path} is a socket" if stat.S_ISSOCK(mode) else ""


async def _databases(data: Path) -> Databases:
    try:
        return await open_databases(StorageConfig(kind="sqlite", folder=data))
    except OSError as error:
        raise Misconfigured(f"{data} cannot be made: {error.strerror or error}", where="--data",
                            remedy="name a folder in a place where you may write") from error
    except DatabaseError as error:
        raise Misconfigured(f"{data} holds no databases of ours, or may not be written: {error}", where="--data",
                            remedy="name another folder; it is made if it is not there") from error


async def _import(bank: str, files: Sequence[Path], data: Path, settings: Settings, clock: Clock) -> Summary:
    trace = Trace(clock)
    databases = await _databases(data)
    try:
        db = databases.primary
        statements = Statements(db, clock, trace, keep_months=settings["match.look_back_months"])
        jobs = Jobs(db, clock, trace, "import", settings, {}, asyncio.ensure_future)
        room = StatementRoom(db, clock, trace, settings, Calendars(settings), jobs, statements)
        limit = int(settings["imports.file_limit"])
        read = [(file, _content(file, limit)) for file in files]
        done: dict[Path, Imported] = {}
        for file, content in sorted(read, key=lambda one: content_order(one[1])):
            done[file] = await _one(bank, room, file, content, limit)
    finally:
        await databases.close()
    return Summary(bank, str(data), tuple(FileDone(str(file), done[file]) for file in files))


def content_order(content: bytes | OSError) -> int:
    """Files that bring entries come before those that name them."""
    return 0 if isinstance(content, OSError) or brings_entries(content) else 1


def _content(file: Path, limit: int) -> bytes | OSError:
    try:
        with file.open("rb") as stream:
            return stream.read(limit + 1)
    except OSError as error:
        return error


async def _one(bank: str, room: StatementRoom, file: Path, content: bytes | OSError, limit: int) -> Imported:
    if isinstance(content, OSError):
        return refused_whole("file", f"it cannot be read: {content.strerror or content}")
    if len(content) > limit:
        return refused_whole("file", f"larger than {limit} bytes: split it, or raise imports.file_limit")
    return await import_file(bank, room, file.name, content)
