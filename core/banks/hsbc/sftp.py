"""Our end of the bank's SFTP server: list the folder, read what is new. AsyncSSH's errors become ours here only.

The bank's host key is known beforehand, and we log in with a key. Nothing of the machine's own SSH set-up is read: no
configuration, no agent, no known hosts besides those given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.banks.hsbc.lines import PARTIAL, Mailbox, RemoteFile, good_name
from core.errors import OutcomeUnknown

if TYPE_CHECKING:
    from asyncssh import SFTPClient


@dataclass(frozen=True, slots=True)
class SftpBank:
    """Where the bank's server is and how we log in. ``known_hosts`` as in the file of that name; ``key`` private."""

    host: str
    port: int
    user: str
    key: bytes
    known_hosts: bytes
    folder: str
    timeout_s: float
    rekey_s: int

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Mailbox]:
        """Connected; `OutcomeUnknown` if the bank is silent, does not let us in, or is somebody else."""
        with _foreign():
            async with asyncio.timeout(self.timeout_s), connected(
                self.host, self.port, self.user, self.key, self.known_hosts, self.rekey_s
            ) as sftp:
                yield SftpMailbox(sftp, self.folder)


@asynccontextmanager
async def connected(
    host: str, port: int, user: str, key: bytes, known_hosts: bytes, rekey_s: int
) -> AsyncIterator[SFTPClient]:
    """An SFTP session; AsyncSSH's own errors."""
    import asyncssh  # takes long to import

    options: dict[str, Any] = {"config": [], "agent_path": None, "known_hosts": known_hosts, "rekey_seconds": rekey_s}
    async with asyncssh.connect(
        host, port, username=user, client_keys=[asyncssh.import_private_key(key)], **options
    ) as connection, connection.start_sftp_client() as sftp:
        yield sftp


class SftpMailbox:
    """Implements `Mailbox`."""

    def __init__(self, sftp: SFTPClient, folder: str) -> None:
        self._sftp, self._folder = sftp, folder

    async def files(self) -> list[RemoteFile]:
        with _foreign():
            found = [_listed(entry) async for entry in self._sftp.scandir(self._folder)]
        return sorted(file for file in found if not file.name.endswith(PARTIAL) and good_name(file.name))

    async def read(self, file: RemoteFile, limit: int) -> bytes:
        with _foreign():
            async with self._sftp.open(f"{self._folder}/{file.name}", "rb") as opened:
                content: bytes = await opened.read(limit + 1)
        return content


def _listed(entry: Any) -> RemoteFile:
    name = entry.filename.decode("utf-8", "replace") if isinstance(entry.filename, bytes) else entry.filename
    return RemoteFile(name, int(entry.attrs.mtime or 0), int(entry.attrs.size or 0))


@contextmanager
def _foreign() -> Iterator[None]:
    """Whatever goes wrong on the line: the bank has not said what is there."""
    import asyncssh

    try:
        yield
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise OutcomeUnknown(f"{type(error).__name__}: {error}") from error
