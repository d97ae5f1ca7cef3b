"""HTTP on the served loop: an ASGI application on a port, its connections in real time.

uvicorn's protocol without uvicorn's server: that one ticks ten times a second and closes idle connections by the loop's
clock, which here is the bank's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from core.clock import US_PER_S
from core.errors import Misconfigured
from emulators.standalone.loop import RealTimer, ServedLoop


class _RealTime:
    """What the HTTP protocol needs of a loop, with timers of real time."""

    def __init__(self, loop: ServedLoop) -> None:
        self._loop = loop

    def create_task(self, work: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
        return self._loop.create_task(work, **options)

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> RealTimer:
        return self._loop.call_after_real_us(round(delay_s * US_PER_S), callback, *args)


class HttpFace:
    """One port. ``idle_s``: real seconds after which an unused connection is closed."""

    def __init__(self, app: ASGIApp, loop: ServedLoop, idle_s: int) -> None:
        self._loop = loop
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._config = Config(
            cast(Any, app), http=H11Protocol, ws="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=idle_s)
        self._config.load()

    async def listen(self, host: str, port: int) -> int:
        """Take connections; gives the port (``port`` 0: any free one). `Misconfigured` if it cannot be had."""
        self._server = await listening(self._loop.create_server(self._accept, host, port), host, port)
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._state.connections)

    async def close(self) -> None:
        """Listen no more, end every connection and what is being served."""
        if self._server is not None:
            self._server.close()
        serving = sorted(self._state.tasks, key=lambda task: task.get_name())
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for connection in tuple(self._state.connections):
            connection.transport.abort()

    def _accept(self) -> asyncio.Protocol:
        time = cast(asyncio.AbstractEventLoop, _RealTime(self._loop))
        return H11Protocol(self._config, self._state, {}, time)


async def listening(opening: Coroutine[Any, Any, Any], host: str, port: int) -> Any:
    """What ``opening`` gives; a port that is taken, or an address that is not this machine's, is a `Misconfigured`."""
    try:
        return await opening
    except OSError as error:
        # asyncio's own text repeats the address; an address that has no number in `errno` (gaierror's are negative)
        number = error.errno or 0
        why = os.strerror(number) if number > 0 else error.strerror or str(error)
        raise Misconfigured(
            f"cannot listen on {host}:{port}: {why}",
            remedy="choose another --port, --control-port or --host, or stop what listens there") from None
