"""HSBC's files: dropped by SFTP against a bare AsyncSSH server in the same run, read, opened and taken as entries.

Both servers are on real sockets of this machine, on one loop with their client, which writes a file of one sealed
message under ``.tmp`` and renames it, one after the other on one session. Ours keeps each file in the database before
it answers; the bare one is AsyncSSH's own file server on a folder.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import asyncssh

from core.banks.hsbc import HsbcLines
from core.banks.hsbc.inbound import Inbound
from core.banks.hsbc.sftp import connected
from core.calendars import Calendars
from core.clock import MachineClock
from core.deposits.collect_hsbc import HsbcCollector
from core.deposits.collection import StatementRoom
from core.deposits.statements import Statements
from core.jobs import Jobs
from core.settings import Settings
from core.storage import StorageConfig, open_databases
from core.trace import Trace
from core.wire.mt910 import Mt910, Party, encode, read
from core.wire.openpgp import OpenPgp
from emulators.hsbc.keys import all_keys, known_host

ROUNDS, FILES, MESSAGES, ENTRIES = 7, 100, 2_000, 500
BOX = "/inbound/mt910"
KEYS = all_keys(lambda whose: Random(whose).randbytes)
BANK = OpenPgp(KEYS.bank.secret, [KEYS.ours.certificate])


def message(number: int) -> bytes:
    return encode(Mt910(
        f"HSBC{number:012d}", "NONREF", "808000000011", date(2026, 3, 12), "HKD", "12345,67",
        datetime(2026, 3, 12, 2, 0, tzinfo=UTC), customer=Party("K", ("/012345678901", "CHAN TAI MAN")),
        basic="F01NOSTHKHHXXXX0001000001", application="O9101030260312HSBCHKHHAXXX00010000012603121030N"))


async def collector() -> HsbcCollector:
    """A core's, with its database in memory."""
    databases, clock = await open_databases(StorageConfig("memory")), MachineClock()
    trace, settings = Trace(clock), Settings({})
    statements = Statements(databases.primary, clock, trace, keep_months=1)
    await statements.ids.begin()
    jobs = Jobs(databases.primary, clock, trace, "bench", settings, {}, asyncio.ensure_future)
    made = HsbcCollector(
        HsbcLines(_nobody, OpenPgp(KEYS.ours.secret, [KEYS.bank.certificate])),
        StatementRoom(databases.primary, clock, trace, settings, Calendars(settings), jobs, statements))
    await made.start(asyncio.ensure_future)
    return made


def _nobody() -> Any:
    raise AssertionError("nothing is fetched here")


@asynccontextmanager
async def session(port: int) -> AsyncIterator[asyncssh.SFTPClient]:
    async with connected("127.0.0.1", port, "hsbc", KEYS.bank_login.private,
                         known_host("127.0.0.1", port, KEYS.our_host), 10**9) as sftp:
        yield sftp


async def drops(sftp: asyncssh.SFTPClient, folder: str, content: bytes, first: int) -> float:
    """Files per second."""
    began = perf_counter()
    for number in range(first, first + FILES):
        async with sftp.open(f"{folder}/{number}.tmp", "wb") as file:
            await file.write(content)
        await sftp.rename(f"{folder}/{number}.tmp", f"{folder}/{number}")
    return FILES / (perf_counter() - began)


async def bare(stack: AsyncExitStack) -> tuple[asyncssh.SFTPClient, str]:
    """AsyncSSH's own server."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    (Path(folder) / "box").mkdir()
    (Path(folder) / "keys").write_bytes(KEYS.bank_login.public)
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[asyncssh.import_private_key(KEYS.our_host.private)], config=[],
        authorized_client_keys=str(Path(folder) / "keys"),
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=folder))
    stack.callback(server.close)
    return await stack.enter_async_context(session(server.get_port())), "/box"


async def ours(stack: AsyncExitStack) -> tuple[asyncssh.SFTPClient, str]:
    """Our server, keeping what is dropped."""
    keeper = await collector()
    server = Inbound(KEYS.our_host.private, KEYS.bank_login.public, "hsbc", BOX, keeper.keep_dropped, limit=1 << 20,
                     open_at_most=16, login_s=30, rekey_s=10**9)
    port = await server.listen("127.0.0.1", 0)
    stack.push_async_callback(server.close)
    return await stack.enter_async_context(session(port)), BOX


async def sftp_rates() -> dict[str, float]:
    """The best of turns that alternate, so that a busy machine hits both alike."""
    content = BANK.seal(message(1))
    best = {"bare": 0.0, "ours": 0.0}
    ratios: list[float] = []
    async with AsyncExitStack() as stack:
        ends = {"bare": await bare(stack), "ours": await ours(stack)}
        for turn in range(ROUNDS):
            found = {name: await drops(*ends[name], content, turn * FILES) for name in ends}
            best = {name: max(best[name], rate) for name, rate in found.items()}
            ratios.append(found["ours"] / found["bare"])
    return {"put and rename, ours, kept in the database, files per s": best["ours"],
            "put and rename, bare AsyncSSH on a folder, files per s": best["bare"],
            "put and rename, ours over bare, best turns": best["ours"] / best["bare"],
            "put and rename, ours over bare, median turn": sorted(ratios)[ROUNDS // 2]}


async def taking(messages: int) -> float:
    """Entries per second: sealed files with so many messages each, opened, read and written."""
    keeper = await collector()
    numbers = iter(range(1, 10**9))
    for number in range(ENTRIES // messages):
        plain = b"\r\n".join(message(next(numbers)) for _ in range(messages))
        await keeper.keep_dropped(f"F{number}", BANK.seal(plain))
    began = perf_counter()
    await keeper.take_waiting()
    return ENTRIES / (perf_counter() - began)


def rate(act: Callable[[], object], times: int) -> float:
    best = 0.0
    for _ in range(ROUNDS):
        began = perf_counter()
        act()
        best = max(best, times / (perf_counter() - began))
    return best


def measure() -> dict[str, float]:
    many = b"\r\n".join(message(number) for number in range(MESSAGES))
    assert all(isinstance(found, Mt910) for found in read(many))
    sealed = BANK.seal(message(1))
    envelope = OpenPgp(KEYS.ours.secret, [KEYS.bank.certificate])
    run: Callable[[Awaitable[Any]], Any] = asyncio.run  # type: ignore[assignment]
    return {
        "MT910 read, messages per s": rate(lambda: read(many), MESSAGES),
        "MT910 written and checked, messages per s": rate(
            lambda: [message(number) for number in range(MESSAGES)], MESSAGES),
        "OpenPGP decrypted and verified, files per s": rate(lambda: [envelope.open(sealed) for _ in range(200)], 200),
        "OpenPGP signed and encrypted, files per s": rate(lambda: [BANK.seal(b"x" * 400) for _ in range(200)], 200),
        **run(sftp_rates()),
        "statement entries per s, one message a file": run(taking(1)),
        "statement entries per s, fifty messages a file": run(taking(50)),
    }
