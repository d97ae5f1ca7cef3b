"""An SFTP server of an emulated bank: folders in memory, read by clients who log in with a key.

Moments are the bank's clock's. Clients may look and read, not change anything. Any SSH client can come: nothing here
knows ours. What they do can be heard, by what it is called: ``login``, ``turned away`` (the server is down), ``no
login`` (it was given up, or its key is not known), ``list``, ``fetch``, ``missing`` (no such file) and ``refused``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import asyncssh

from core.clock import MS_PER_S, Clock
from emulators.loop import Cancellable

_NO_LIMIT_S: Final = 10**9
"""A session key is not renewed: that would be by the machine's clock."""


Heard = Callable[[str, str, str], None]
"""Called with what a client does, as whom, and with which path."""


def unheard(what: str, user: str, path: str) -> None:
    """Nobody listens."""


class StoredFile(NamedTuple):
    """A file as it lies in a folder."""

    content: bytes
    modified_ms: int


class MemoryFiles:
    """Files by absolute path; a folder is there if it was made, or if a file is in it."""

    def __init__(self, clock: Clock, *folders: str) -> None:
        self._clock = clock
        self._folders: dict[str, None] = dict.fromkeys(("/", *(parent for path in folders for parent in _ways(path))))
        self._files: dict[str, StoredFile] = {}

    def put(self, path: str, content: bytes) -> None:
        """Lay a whole file there at once; what lay there is gone."""
        self._folders.update(dict.fromkeys(_ways(path.rpartition("/")[0])))
        self._files[path] = StoredFile(content, self._clock.now_ms())

    def remove_older(self, folder: str, than_ms: int) -> None:
        """Clear a folder of files that lie there since before a moment."""
        for path in [path for path, file in self.under(folder) if file.modified_ms < than_ms]:
            del self._files[path]

    def get(self, path: str) -> StoredFile | None:
        """A file, or None."""
        return self._files.get(path)

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of this name."""
        return path in self._folders

    def under(self, folder: str) -> Iterator[tuple[str, StoredFile]]:
        """The files of a folder, by path."""
        start = folder.rstrip("/") + "/"
        return ((path, file) for path, file in sorted(self._files.items())
                if path.startswith(start) and "/" not in path[len(start) :])

    def names(self, folder: str) -> list[str]:
        """Names of files and folders in a folder, in order."""
        start = folder.rstrip("/") + "/"
        inner = [path[len(start) :] for path in self._folders if path != "/" and path.startswith(start)]
        return sorted([path[len(start) :] for path, _ in self.under(folder)] + [i for i in inner if "/" not in i])


def _ways(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    return ["/" + "/".join(parts[:number]) for number in range(len(parts) + 1)]


class SftpServer:
    """``authorized``: user -> public keys, lines as in ``authorized_keys``. ``is_up``: whether it lets anybody in.
    ``patience``: calls back when a client has had time enough to log in; by the loop's clock if absent."""

    def __init__(
        self, files: MemoryFiles, host_key: bytes, authorized: dict[str, bytes],
        is_up: Callable[[], bool] = lambda: True, *, heard: Heard = unheard,
        patience: Callable[[Callable[[], None]], Cancellable] | None = None,
    ) -> None:
        self.files, self.is_up, self.heard, self.patience = files, is_up, heard, patience
        self._host_key = asyncssh.import_private_key(host_key)
        self.users = {user: asyncssh.import_authorized_keys(keys.decode()) for user, keys in authorized.items()}
        self.connections: dict[asyncssh.SSHServerConnection, None] = {}
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def listen(self, host: str | None, port: int) -> int:
        """Take connections; gives the port, 0 asks for a free one."""
        options: dict[str, Any] = {"config": [], "rekey_seconds": _NO_LIMIT_S, "allow_scp": False,
                                   "agent_forwarding": False, "x11_forwarding": False}
        if self.patience is not None:
            options["login_timeout"] = 0
        self._acceptor = await asyncssh.listen(
            host or "", port, server_host_keys=[self._host_key], server_factory=lambda: _Door(self),
            sftp_factory=lambda channel: _Session(channel, self.files, self.heard), **options)
        return int(self._acceptor.get_port())

    async def close(self) -> None:
        """Listen no more and end every connection."""
        if self._acceptor is not None:
            self._acceptor.close()
        self.reset()
        if self._acceptor is not None:
            await self._acceptor.wait_closed()

    def reset(self) -> None:
        """End every connection; new ones are taken if the server is up."""
        for connection in tuple(self.connections):
            connection.abort()


class _Door(asyncssh.SSHServer):
    """One connection."""

    def __init__(self, server: SftpServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection
        self._user = ""
        self._outcome = "no login"
        self._patience: Cancellable | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections[conn] = None
        if not self._server.is_up():
            self._outcome = "turned away"
            conn.abort()
        elif self._server.patience is not None:
            self._patience = self._server.patience(conn.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the library's shape
        self._server.connections.pop(self._connection, None)
        self._stop_waiting()
        if self._outcome != "login":
            self._server.heard(self._outcome, self._user, "")

    def auth_completed(self) -> None:
        self._stop_waiting()
        self._outcome = "login"
        self._server.heard(self._outcome, self._user, "")

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def begin_auth(self, username: str) -> bool:
        self._user = username
        nobody = asyncssh.import_authorized_keys("")
        self._connection.set_authorized_keys(self._server.users.get(username, nobody))
        return True


class _Session(asyncssh.SFTPServer):
    """One client that looks around and reads."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], files: MemoryFiles, heard: Heard) -> None:
        super().__init__(channel)
        self._files, self._heard = files, heard
        self._user = str(channel.get_extra_info("username"))

    def realpath(self, path: bytes) -> bytes:
        return _absolute(path).encode()

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        where = _absolute(path)
        file = self._files.get(where)
        if file is not None:
            return _attributes(file)
        if self._files.is_folder(where):
            return asyncssh.SFTPAttrs(permissions=0o040500, size=0, uid=0, gid=0, atime=0, mtime=0)
        raise asyncssh.SFTPNoSuchFile(where)

    lstat = stat

    def listdir(self, path: bytes) -> list[bytes]:
        where = _absolute(path)
        self._heard("list" if self._files.is_folder(where) else "missing", self._user, where)
        if not self._files.is_folder(where):
            raise asyncssh.SFTPNoSuchFile(where)
        return [name.encode() for name in self._files.names(where)]

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:  # noqa: ARG002 - the library's shape
        if pflags & ~asyncssh.FXF_READ:
            return self._refused(path)
        file = self._files.get(_absolute(path))
        self._heard("fetch" if file is not None else "missing", self._user, _absolute(path))
        if file is None:
            raise asyncssh.SFTPNoSuchFile(_absolute(path))
        return file

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        return _stored(file_obj).content[offset : offset + size]

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        return _attributes(_stored(file_obj))

    def close(self, file_obj: object) -> None:
        """A file that was opened to be read needs no closing."""

    def _refused(self, *given: object, **_named: object) -> Any:
        self._heard("refused", self._user, _absolute(given[0]) if given and isinstance(given[0], bytes) else "")
        raise asyncssh.SFTPPermissionDenied("nothing can be changed here")

    open56 = write = setstat = lsetstat = fsetstat = remove = mkdir = rmdir = rename = posix_rename = _refused
    readlink = symlink = link = statvfs = fstatvfs = fsync = lock = unlock = _refused


def _stored(file_obj: object) -> StoredFile:
    if not isinstance(file_obj, StoredFile):
        raise asyncssh.SFTPFailure("no such file is open")
    return file_obj


def _attributes(file: StoredFile) -> asyncssh.SFTPAttrs:
    at = file.modified_ms // MS_PER_S
    return asyncssh.SFTPAttrs(permissions=0o100400, size=len(file.content), uid=0, gid=0, atime=at, mtime=at)


def _absolute(path: bytes) -> str:
    parts: list[str] = []
    for part in path.decode("utf-8", "replace").split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
