"""BOCHK's S16 reports by FTP (gaps.md B-19): a session for each pull, closed again.

The one place where what aioftp and the network raise becomes ours: everything is `OutcomeUnknown`, for whatever went
wrong the next pull asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from core.banks.bochk import S16File
from core.errors import OutcomeUnknown
from core.wire.bochk_s16 import MAX_FILE_BYTES

if TYPE_CHECKING:
    import aioftp

_FACTS: Final = ("modify", "size")


class FtpFiles:
    """Implements `core.banks.bochk.S16Files`."""

    def __init__(
        self, host: str, port: int, user: str, password: str, folder: str, *, timeout_s: float
    ) -> None:
        self._host, self._port, self._user, self._password = host, port, user, password
        self._folder, self._timeout_s = PurePosixPath(folder), timeout_s

    async def fetch(self, wanted: Callable[[Sequence[S16File]], Sequence[S16File]]) -> list[tuple[S16File, bytes]]:
        import aioftp  # only where the bank is reached by FTP

        client = aioftp.Client()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._session(client, wanted)
        except (aioftp.AIOFTPException, OSError, EOFError, ValueError) as fault:
            raise OutcomeUnknown(f"FTP: {type(fault).__name__}: {fault}"[:200]) from fault
        finally:
            client.close()

    async def _session(
        self, client: aioftp.Client, wanted: Callable[[Sequence[S16File]], Sequence[S16File]]
    ) -> list[tuple[S16File, bytes]]:
        await client.connect(self._host, self._port)
        await client.login(self._user, self._password)
        files = [_file(path, facts) for path, facts in await client.list(self._folder, raw_command="MLSD")
                 if facts.get("type") == "file"]
        found = [(file, await self._download(client, file.name)) for file in wanted(sorted(files))]
        with suppress(OSError):  # everything is here: how the bank says good-bye does not matter
            await client.quit()
        return found

    async def _download(self, client: aioftp.Client, name: str) -> bytes:
        content = bytearray()
        async with client.download_stream(self._folder / name) as stream:
            async for block in stream.iter_by_block():
                content += block
                if len(content) > MAX_FILE_BYTES:
                    raise OSError(f"{name} is longer than {MAX_FILE_BYTES} bytes")
        return bytes(content)


def _file(path: PurePosixPath, facts: Any) -> S16File:
    return S16File(path.name, "/".join(str(facts.get(fact, "")) for fact in _FACTS))
