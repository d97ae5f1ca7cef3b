"""``nostro import BANK FILE…``: statement files into the databases of a folder, with a summary."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from sqlite3 import DatabaseError
from typing import Any, NamedTuple

from core.calendars import Calendars
from core.clock import MS_PER_DAY, US_PER_MS, Clock, MachineClock, hkt_date
from core.deposits.collection import StatementRoom
from core.deposits.importing import Imported, brings_entries, check_bank, import_file, refused_whole
from core.deposits.statements import Statements
from core.errors import Misconfigured
from core.jobs import Jobs
from core.settings import Settings
from core.storage import Databases, StorageConfig, open_databases
from core.trace import Trace


class FileDone(NamedTuple):
    """One file and what became of it."""

    file: str
    done: Imported

    def shown(self) -> dict[str, Any]:
        """As plain data."""
        done = self.done
        return {"file": self.file, "format": done.format, "accepted": done.accepted, "duplicate": done.duplicate,
                "refused": [one._asdict() for one in done.refused]}


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
        return {"bank": self.bank, "data": self.data, "accepted": self.accepted, "duplicate": self.duplicate,
                "refused": self.refused, "files": [file.shown() for file in self.files]}

    def lines(self) -> list[str]:
        """For people; a refusal begins as a compiler's message does, so that editors find the place."""
        found: list[str] = []
        for file, done in self.files:
            found.append(f"{file}  {done.format}: {done.accepted} accepted, {done.duplicate} duplicate, "
                         f"{len(done.refused)} refused")
            found += [f"  {file}{f':{one.line}' if one.line else ''}: {one.kind}: {one.reason}" for one in done.refused]
        found.append(f"{len(self.files)} files into {self.data}: {self.accepted} accepted, {self.duplicate} duplicate, "
                     f"{self.refused} refused")
        return found


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
    files = [file for path in paths for file in _files_of(path)]
    if not files:
        raise Misconfigured("no files", where="import", remedy="name files, or folders that hold some")
    return asyncio.run(_import(bank, files, data, settings, clock or MachineClock()))


def _files_of(path: Path) -> list[Path]:
    """The file, or what a folder holds, hidden files left out."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not path.is_file():
        raise Misconfigured(f"there is no file {path}", where="import", remedy="name files, or folders that hold some")
    return [path]


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
    return Summary(bank, str(data), tuple(FileDone(str(file), done[file]) for file in dict.fromkeys(files)))


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
