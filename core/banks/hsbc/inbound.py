"""Our SFTP server for the bank: a box into which files can be dropped, and nothing else.

A session may write ``NAME.tmp`` in one folder and rename it to ``NAME``. The renaming is answered once the file is
kept: what the bank has heard of as done is not lost. Nothing can be listed, read, changed or removed, there is no
shell and no forwarding, and no path leads anywhere: files live in memory until they are handed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncssh
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.banks.hsbc.lines import PARTIAL, Deliver, Notice, good_name

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_DIRECTORY: Final = asyncssh.SFTPAttrs(permissions=0o040700, size=0, uid=0, gid=0, atime=0, mtime=0)
_WRITING: Final = asyncssh.FXF_WRITE
_NOT_WRITING: Final = asyncssh.FXF_READ | asyncssh.FXF_APPEND


class Inbound:
    """The server. ``authorized`` as in ``authorized_keys``; ``limit`` bytes a file, ``open_at_most`` files unfinished
    in a session."""

    def __init__(
        self, host_key: bytes, authorized: bytes, user: str, folder: str, deliver: Deliver, *, limit: int,
        open_at_most: int, login_s: float, rekey_s: int,
    ) -> None:
        self._host_key = asyncssh.import_private_key(host_key)
        self._authorized = asyncssh.import_authorized_keys(authorized.decode())
        self._user, self._folder, self._deliver = user, folder.encode(), deliver
        self._limit, self._open_at_most, self._login_s, self._rekey_s = limit, open_at_most, login_s, rekey_s
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: dict[asyncssh.SSHServerConnection, None] = {}

    @property
    def public_key(self) -> str:
        """The host key that the bank has to know."""
        return self._host_key.export_public_key().decode().strip()

    async def listen(self, host: str | None, port: int) -> int:
        """Take connections; gives the port, 0 asks for a free one."""
        options: dict[str, Any] = {
            "config": [], "rekey_seconds": self._rekey_s, "login_timeout": self._login_s, "allow_scp": False,
            "agent_forwarding": False, "x11_forwarding": False, "compression_algs": None}
        self._acceptor = await asyncssh.listen(
            host or "", port, server_host_keys=[self._host_key], server_factory=lambda: _Door(self),
            sftp_factory=lambda channel: _Box(channel, self._folder, self._deliver, self._limit, self._open_at_most),
            **options)
        return int(self._acceptor.get_port())

    async def close(self) -> None:
        """Listen no more and end every session."""
        self.halt()
        if self._acceptor is not None:
            await self._acceptor.wait_closed()

    def halt(self) -> None:
        """The same at once, as the end of a process does."""
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in tuple(self._connections):
            connection.abort()

    # What a connection asks

    def opened(self, connection: asyncssh.SSHServerConnection) -> None:
        """A connection has come."""
        self._connections[connection] = None

    def lost(self, connection: asyncssh.SSHServerConnection) -> None:
        """It has gone."""
        self._connections.pop(connection, None)

    def keys_of(self, user: str) -> asyncssh.SSHAuthorizedKeys | None:
        """With which keys somebody may log in."""
        return self._authorized if user == self._user else None


class _Door(asyncssh.SSHServer):
    """One connection: who may come in."""

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        self._connection: asyncssh.SSHServerConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._inbound.opened(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the library's shape
        self._inbound.lost(self._connection)

    def begin_auth(self, username: str) -> bool:
        keys = self._inbound.keys_of(username)
        self._connection.set_authorized_keys(keys if keys is not None else asyncssh.import_authorized_keys(""))
        return True


class _Upload:
    """A file that is being written."""

    __slots__ = ("content", "path")

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.content = bytearray()


class _Box(asyncssh.SFTPServer):
    """One session."""

    def __init__(
        self, channel: asyncssh.SSHServerChannel[bytes], folder: bytes, deliver: Deliver, limit: int, open_at_most: int
    ) -> None:
        super().__init__(channel)
        self._folder, self._deliver, self._limit, self._open_at_most = folder, deliver, limit, open_at_most
        self._uploads: dict[bytes, _Upload] = {}

    # Looking

    def realpath(self, path: bytes) -> bytes:
        return _absolute(path)

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        path = _absolute(path)
        if path == self._folder or self._folder.startswith(path.rstrip(b"/") + b"/"):
            return _DIRECTORY
        if path in self._uploads:
            return _attributes(self._uploads[path])
        raise asyncssh.SFTPNoSuchFile("nothing can be seen here")

    lstat = stat

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        return _attributes(_upload(file_obj))

    def setstat(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:  # noqa: ARG002 - clients set times and modes
        self.stat(path)

    def fsetstat(self, file_obj: object, attrs: asyncssh.SFTPAttrs) -> None:
        """Taken as done: there are no times and modes here."""

    # Dropping

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:  # noqa: ARG002 - the library's shape
        path = self._droppable(path, PARTIAL)
        if not pflags & _WRITING or pflags & _NOT_WRITING:
            raise asyncssh.SFTPPermissionDenied("files can only be written anew")
        if path not in self._uploads and len(self._uploads) >= self._open_at_most:
            raise asyncssh.SFTPFailure("too many files that were not renamed")
        upload = self._uploads[path] = _Upload(path)
        return upload

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        upload = _upload(file_obj)
        if offset + len(data) > self._limit:
            raise asyncssh.SFTPFailure(f"a file has at most {self._limit} bytes")
        if offset > len(upload.content):
            upload.content.extend(bytes(offset - len(upload.content)))
        upload.content[offset : offset + len(data)] = data
        return len(data)

    def close(self, file_obj: object) -> None:
        """Kept as it is until it is renamed or the session ends."""

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        old, new = self._droppable(oldpath, PARTIAL), self._droppable(newpath, "")
        if old not in self._uploads:
            raise asyncssh.SFTPNoSuchFile("no such file was written in this session")
        name = new.rpartition(b"/")[2].decode("ascii")
        if name.endswith(PARTIAL):
            raise asyncssh.SFTPPermissionDenied(f"a whole file does not end in {PARTIAL}")
        await self._deliver(name, bytes(self._uploads[old].content))
        del self._uploads[old]

    posix_rename = rename

    def _droppable(self, path: bytes, suffix: str) -> bytes:
        path = _absolute(path)
        folder, _, name = path.rpartition(b"/")
        if folder != self._folder or not name.isascii() or not good_name(name.decode("ascii", "replace")):
            raise asyncssh.SFTPPermissionDenied("files are dropped in the folder agreed upon")
        if not name.endswith(suffix.encode()):
            raise asyncssh.SFTPPermissionDenied(f"write to NAME{PARTIAL}, then rename")
        return path

    # All else

    def read(self, file_obj: object, offset: int, size: int) -> bytes:  # noqa: ARG002 - the library's shape
        raise asyncssh.SFTPPermissionDenied("nothing can be read here")

    def listdir(self, path: bytes) -> list[bytes]:  # noqa: ARG002 - the library's shape
        return []

    def _refused(self, *_args: object, **_named: object) -> Any:
        raise asyncssh.SFTPPermissionDenied("not here")

    open56 = lsetstat = remove = mkdir = rmdir = readlink = symlink = link = lock = unlock = _refused
    statvfs = fstatvfs = _refused
    fsync = close


def _upload(file_obj: object) -> _Upload:
    if not isinstance(file_obj, _Upload):
        raise asyncssh.SFTPFailure("no such file is open")
    return file_obj


def _attributes(upload: _Upload) -> asyncssh.SFTPAttrs:
    return asyncssh.SFTPAttrs(permissions=0o100200, size=len(upload.content), uid=0, gid=0, atime=0, mtime=0)


def _absolute(path: bytes) -> bytes:
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/" + b"/".join(parts)


# --- the webhook --------------------------------------------------------------------------------------------------


def webhook(path: str, notice: Notice) -> ASGIApp:
    """Our HTTP endpoint: the bank says that it has dropped a file, ``{"file": NAME}``.

    It makes us look and nothing more: what a file says is believed by its signature, so anybody may ring the bell."""

    async def ring(request: Request) -> Response:
        try:
            said = await request.json()
        except ValueError:
            said = None
        name = said.get("file") if isinstance(said, dict) else None
        if not isinstance(name, str) or not good_name(name):
            return JSONResponse({"error": "file: the name of a file that was dropped"}, 400)
        if not await notice(name):
            return JSONResponse({"error": f"{name} was not dropped"}, 404)
        return JSONResponse({}, 202)

    return Starlette(routes=[Route(path, ring, methods=["POST"])])


