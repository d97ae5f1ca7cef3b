"""``nostro import BANK FILE…``: statement files into the databases of a folder, with a summary."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.calendars import Calendars
from core.clock import MachineClock
from core.deposits.collection import StatementRoom
from core.deposits.importing import Imported, Told, brings_entries, check_bank, import_file
from core.deposits.statements import Statements
from core.errors import Misconfigured
from core.jobs import Jobs
from core.settings import Settings
from core.storage import StorageConfig, open_databases
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
            found += [f"  {file}{f':{one.line}' if one.line else ''}: {one.reason}" for one in done.refused]
        found.append(f"{len(self.files)} files into {self.data}: {self.accepted} accepted, {self.duplicate} duplicate, "
                     f"{self.refused} refused")
        return found


def import_files(bank: str, paths: Sequence[Path], data: Path, overlay: Mapping[str, Any]) -> Summary:
    """Take files, and all files of folders, into the databases of ``data``."""
    check_bank(bank)
    settings = Settings(dict(overlay))
    files = [file for path in paths for file in _files_of(path)]
    if not files:
        raise Misconfigured("no files", where="import", remedy="name files, or folders that hold some")
    return asyncio.run(_import(bank, files, data, settings))


def _files_of(path: Path) -> list[Path]:
    """The file, or what a folder holds, hidden files left out."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not path.is_file():
        raise Misconfigured(f"there is no file {path}", where="import", remedy="name files, or folders that hold some")
    return [path]


async def _import(bank: str, files: Sequence[Path], data: Path, settings: Settings) -> Summary:
    clock = MachineClock()
    trace = Trace(clock)
    databases = await open_databases(StorageConfig(kind="sqlite", folder=data))
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


def content_order(content: bytes) -> int:
    """Files that bring entries come before those that name them."""
    return 0 if brings_entries(content) else 1


def _content(file: Path, limit: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(limit + 1)


async def _one(bank: str, room: StatementRoom, file: Path, content: bytes, limit: int) -> Imported:
    if len(content) > limit:
        return Imported("file", 0, 0, (Told(0, f"larger than {limit} bytes"),))
    return await import_file(bank, room, file.name, content)
