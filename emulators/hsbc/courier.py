"""The bank's way to our server in its own bytes: an SFTP session that is kept, and our webhook.

What OpenSSH would do in its place: the host key is known, the login is by key, a file is written under ``.tmp`` and
renamed. A session that was lost is opened anew at the next file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from typing import Any, NamedTuple

import asyncssh

from core.errors import OutcomeUnknown
from emulators.hsbc.bank import DropFailed
from emulators.hsbc.keys import SshKey, known_host

_NO_LIMIT_S = 10**9
_TEMPORARY = ".tmp"
Post = Callable[[bytes], Awaitable[int]]
"""POST to our webhook; gives the HTTP status, raises `OutcomeUnknown` on silence."""


class Address(NamedTuple):
    """Where our server is, and which key it shows."""

    host: str
    port: int
    key: SshKey


class SftpCourier:
    """Implements `emulators.hsbc.bank.Courier`. ``address`` is asked at every connection: None while we have none.
    ``host``: on which host of a memory network connections begin."""

    def __init__(
        self, address: Callable[[], Address | None], user: str, login: SshKey, folder: str, post: Post,
        timeout_s: float, host: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._address, self._user, self._folder, self._post = address, user, folder, post
        self._login = asyncssh.import_private_key(login.private)
        self._timeout_s, self._host = timeout_s, host
        self._session: tuple[AsyncExitStack, asyncssh.SFTPClient, Address] | None = None
        self._connecting = asyncio.Lock()

    async def drop(self, name: str, content: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                sftp = await self._connected()
                partial = f"{self._folder}/{name}{_TEMPORARY}"
                async with sftp.open(partial, "wb") as file:
                    await file.write(content)
                await _put_in_place(sftp, partial, f"{self._folder}/{name}")
        except (asyncssh.Error, OSError, TimeoutError) as error:
            await self.close()
            raise DropFailed(f"{type(error).__name__}: {error}") from error

    async def ring(self, name: str) -> None:
        try:
            status = await self._post(json.dumps({"file": name}).encode())
        except OutcomeUnknown as silence:
            raise DropFailed(str(silence)) from silence
        if status != 202:
            raise DropFailed(f"HTTP {status}")

    async def _connected(self) -> asyncssh.SFTPClient:
        async with self._connecting:
            address = self._address()
            if address is None:
                raise OSError("nobody is there")
            if self._session is not None and self._session[2] != address:
                await self.close()
            if self._session is None:
                self._session = await self._connect(address)
            return self._session[1]

    async def _connect(self, address: Address) -> tuple[AsyncExitStack, asyncssh.SFTPClient, Address]:
        options: dict[str, Any] = {
            "config": [], "agent_path": None, "rekey_seconds": _NO_LIMIT_S, "login_timeout": 0,
            "known_hosts": known_host(address.host, address.port, address.key)}
        async with AsyncExitStack() as stack:
            with self._host():
                connection = await stack.enter_async_context(asyncssh.connect(
                    address.host, address.port, username=self._user, client_keys=[self._login], **options))
            sftp = await stack.enter_async_context(connection.start_sftp_client())
            return stack.pop_all(), sftp, address

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session[1].exit()
            await session[0].aclose()


async def _put_in_place(sftp: asyncssh.SFTPClient, partial: str, whole: str) -> None:
    """Rename, over what lies there: it was dropped before and nobody heard of it. Some servers cannot."""
    try:
        await sftp.posix_rename(partial, whole)
    except asyncssh.SFTPOpUnsupported:
        await sftp.rename(partial, whole)
