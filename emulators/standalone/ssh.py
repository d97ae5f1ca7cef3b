"""An SFTP server of a stand-alone bank: its host key, who may log in, and what a client has to know of both.

The keys lie in the bank's folder in OpenSSH's own form. A line in ``NAME.authorized_keys`` lets in another key; it is
read at the start and at every reset.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import asyncssh
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from core.clock import US_PER_S
from core.errors import Misconfigured
from core.wire.sm2 import Entropy
from emulators.hsbc.keys import SshKey, known_host, ssh_key
from emulators.loop import Cancellable
from emulators.sftp import MemoryFiles, SftpServer
from emulators.standalone.http import listening
from emulators.standalone.keys import write_secret
from emulators.standalone.standing import Site


def load_or_create(folder: Path, name: str, entropy: Entropy) -> SshKey:
    """The key in ``{name}.key``, made there if the folder has none, its public half beside it in ``{name}.pub``. A file
    that is no SSH key raises `Misconfigured`."""
    path, public = folder / f"{name}.key", folder / f"{name}.pub"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_secret(path, ssh_key(entropy).private.decode("ascii"))
    key = _load(path)
    line = key.public + b"\n"
    if not public.exists() or public.read_bytes() != line:
        public.write_bytes(line)
    return key


def _load(path: Path) -> SshKey:
    private = path.read_bytes()
    try:
        public = load_ssh_private_key(private, None).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Misconfigured("no SSH key without a passphrase", where=str(path),
                            remedy="give one as ssh-keygen writes it, or remove the file") from None
    return SshKey(private, public)


class SftpFace:
    """One port. ``user``: as whom the broker logs in, to ``home``."""

    def __init__(
        self, name: str, site: Site, files: MemoryFiles, user: str, home: str, is_up: Callable[[], bool]
    ) -> None:
        folder = site.folder.resolve()
        self._name, self._folder, self._user, self._home, self._site = name, folder, user, home, site
        self._host_key = load_or_create(folder, f"{name}.host", site.entropy)
        self._known, self._at = b"", ("", 0)
        self._server = SftpServer(files, self._host_key.private, {user: self._authorized()}, is_up,
                                  heard=self._heard, patience=self._patience)

    def _authorized(self) -> bytes:
        """Whom the bank lets in: the key that was made for the broker, until somebody writes otherwise."""
        path = self._folder / f"{self._name}.authorized_keys"
        if not path.exists():
            path.write_bytes(load_or_create(self._folder, f"{self._name}.broker", self._site.entropy).public + b"\n")
        lines = path.read_bytes()
        try:
            asyncssh.import_authorized_keys(lines.decode())
        except ValueError as error:
            raise Misconfigured(str(error), where=str(path),
                                remedy="write a public key on each line, or remove the file") from None
        return lines

    def _patience(self, give_up: Callable[[], None]) -> Cancellable:
        login_us = round(self._site.settings["standalone.sftp.login_s"] * US_PER_S)
        return self._site.loop.call_after_real_us(login_us, give_up)

    def _heard(self, what: str, user: str, path: str) -> None:
        self._site.journal.append({"at_ms": self._site.clock.now_ms(), "message": what, "user": user,
                                   "path": path or None})

    async def listen(self, host: str, port: int) -> int:
        """Take connections; gives the port (``port`` 0: any free one). `Misconfigured` if it cannot be had."""
        found = int(await listening(self._server.listen(host, port), host, port))
        self._known = known_host(host, found, self._host_key)
        (self._folder / f"{self._name}.known_hosts").write_bytes(self._known)
        self._at = host, found
        return found

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        return f"sftp://{self._user}@{self._at[0]}:{self._at[1]}{self._home}"

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._server.connections)

    async def close(self) -> None:
        """Listen no more and end every connection."""
        await self._server.close()

    def credentials(self) -> dict[str, str]:
        """What a client has to know."""
        private, known = (self._folder / f"{self._name}.{ending}" for ending in ("broker.key", "known_hosts"))
        made = {"sftp_private_key": str(private)} if private.exists() else {}
        login = f"-i {shlex.quote(str(private))} " if made else ""
        host, port = self._at
        return {"sftp_user": self._user, **made, "authorized_keys": str(self._folder / f"{self._name}.authorized_keys"),
                "known_hosts": str(known), "known_hosts_line": self._known.decode().strip(),
                "sftp_command": f"sftp -P {port} {login}-o UserKnownHostsFile={shlex.quote(str(known))} "
                                f"{self._user}@{host}:{self._home}"}
