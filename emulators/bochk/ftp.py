"""The FTP face of the emulated BOCHK: aioftp's server over the files that the bank writes, open in the bank's hours.

Out of hours everybody is turned away with 421. Files live in the bank's memory and are read only; their times are the
bank's. Passive connections listen on the address on which the control connection came in, so the server works on the
memory network as on real sockets.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

import aioftp

from core.clock import MS_PER_S, hkt
from emulators.bochk.s16 import S16Writer

CLOSED: Final = "421"


class FtpDoor:
    """An FTP server with one account and one folder; ``listen`` as `scenarios.banks.places.Listening` says."""

    def __init__(self, writer: S16Writer, user: str, password: str, folder: str) -> None:
        self._server = _Server(writer, _folder_of(writer, folder), aioftp.User(user, password, permissions=[
            aioftp.Permission("/", readable=True, writable=False)]))
        self._listening = False

    @property
    def connections(self) -> int:
        """Sessions open now."""
        return len(self._server.connections) if self._listening else 0

    async def listen(self, host: str | None, port: int) -> int:
        """Take connections; gives the port."""
        await self._server.start(host, port)
        self._listening = True
        return self._server.server_port

    async def close(self) -> None:
        """End every session and listen no more."""
        if self._listening:
            self._listening = False
            await self._server.close()


class _Server(aioftp.Server):
    """Turns everybody away out of hours."""

    def __init__(self, writer: S16Writer, path_io: Any, user: aioftp.User) -> None:
        super().__init__([user], path_io_factory=path_io, wait_future_timeout=10)
        self._writer = writer
        self.connections: dict[Any, Any] = {}

    async def greeting(self, connection: Any, rest: str | PurePosixPath) -> bool:
        if self._writer.open:
            return await super().greeting(connection, rest)
        connection.response(CLOSED, "service is open Mon-Sat 08:00-20:00")
        return False

    @staticmethod
    def build_list_mtime(st_mtime: float, now: float | None = None) -> str:  # noqa: ARG004 - aioftp's shape
        """As LIST shows it: in Hong Kong time, and never by the machine's clock."""
        return f"{hkt(round(st_mtime * MS_PER_S)):%b %e %H:%M}"


def _folder_of(writer: S16Writer, folder: str) -> Any:
    return lambda **given: _Folder(writer, PurePosixPath(folder), given.get("timeout"), given.get("connection"))


async def _read_only(*_: Any, **__: Any) -> Any:
    raise aioftp.PathIOError("the folder is read only")


class _Folder(aioftp.AbstractPathIO[Path]):
    """The bank's folder as aioftp sees it: read only."""

    def __init__(self, writer: S16Writer, folder: PurePosixPath, timeout: float | None, connection: Any) -> None:
        super().__init__(timeout=timeout, connection=connection)
        self._writer, self._folder = writer, folder

    def _content(self, path: PurePosixPath) -> bytes | None:
        """The file at a path, while the service is open."""
        if self._inside(path).parent != self._folder or not self._writer.open:
            return None
        found = self._writer.files.get(path.name)
        return None if found is None else found.content

    @staticmethod
    def _inside(path: PurePosixPath) -> PurePosixPath:
        return PurePosixPath("/") / path

    async def exists(self, path: Path) -> bool:
        return await self.is_dir(path) or await self.is_file(path)

    async def is_dir(self, path: Path) -> bool:
        inside = self._inside(PurePosixPath(path))
        return inside == self._folder or inside in self._folder.parents

    async def is_file(self, path: Path) -> bool:
        return self._content(PurePosixPath(path)) is not None

    def list(self, path: Path) -> AsyncIterable[Path]:
        return self._names(PurePosixPath(path))

    async def _names(self, path: PurePosixPath) -> AsyncIterator[Path]:
        inside = self._inside(path)
        if inside == self._folder and self._writer.open:
            for name in sorted(self._writer.files):
                yield Path(path / name)
        elif inside in self._folder.parents:
            yield Path(path / self._folder.relative_to(inside).parts[0])

    async def stat(self, path: Path) -> os.stat_result:
        stored = self._writer.files.get(path.name)
        if stored is None:
            return os.stat_result((stat.S_IFDIR | 0o555, 0, 0, 1, 0, 0, 0, 0, 0, 0))
        written_s = stored.written_ms // MS_PER_S
        return os.stat_result((stat.S_IFREG | 0o444, 0, 0, 1, 0, 0, len(stored.content), written_s, written_s,
                               written_s))

    async def _open(self, path: Path, mode: Any = "rb", *_args: Any, **_options: Any) -> io.BytesIO:
        content = self._content(PurePosixPath(path))
        if content is None or mode != "rb":
            raise aioftp.PathIOError(f"there is no {path.name}")
        return io.BytesIO(content)

    async def seek(self, file: io.BytesIO, offset: int, whence: int = os.SEEK_SET) -> int:
        return file.seek(offset, whence)

    async def read(self, file: io.BytesIO, block_size: int) -> bytes:
        return file.read(block_size)

    async def close(self, file: io.BytesIO) -> None:
        file.close()

    write: Any = _read_only
    mkdir: Any = _read_only
    rmdir: Any = _read_only
    unlink: Any = _read_only
    rename: Any = _read_only
