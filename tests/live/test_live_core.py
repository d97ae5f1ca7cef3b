"""The same core as in production: ordinary asyncio loop, real sockets to the bank's port, MariaDB or SQLite files.

Nothing of the core is told that it is not simulated: only its surroundings differ. The bank is the emulated one, as an
ordinary HTTP server on loopback. No test sleeps a fixed time; each waits for a state, with a limit.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from surroundings import ACCOUNT, CARD_ID, NAME, UID, OneCustomer, ShiftedClock

from core.banks.airstar import HttpxEndpoint, SignedExchange
from core.calendars import Calendars
from core.cards.bank_cards import Adoption
from core.locks import LocalLocks
from core.rpc import in_process
from core.runtime import Core, Surroundings
from core.settings import Settings
from core.storage import StorageConfig, open_databases
from core.storage.databases import SCHEMAS
from core.storage.mysql import connect
from core.trace import Event, Trace
from emulators.airstar.app import airstar_app
from emulators.airstar.bank import AirstarBank
from emulators.airstar.keys import in_memory
from emulators.streams import Streams
from tests.rig import STEADY

CARD = "7001234567890123"
PREFIX = f"nostro_live_{os.getpid()}"
FAST: dict[str, Any] = {
    **STEADY, "sim.airstar.result.delay": [[1.0, 0.05, 0.2]], "airstar.poll.deposit.interval_ms": 100,
    "airstar.poll.withdraw.interval_ms": 100}


@asynccontextmanager
async def served(bank: AirstarBank, key: Any) -> AsyncIterator[str]:
    """The bank's ASGI application under uvicorn on a free loopback port; gives its base URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(airstar_app(bank, {"nostro": key.public_key()}), log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


async def until(look: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a state, at most 30 seconds."""
    async with asyncio.timeout(30):
        while not await look():
            await asyncio.sleep(0.02)
    assert what


async def story(config: StorageConfig) -> None:
    settings, clock, key = Settings(FAST), ShiftedClock("2026-03-12 10:00"), in_memory()
    events: list[Event] = []
    trace = Trace(clock, events.append)
    bank = AirstarBank(asyncio.get_running_loop(), clock, Streams(1), trace, settings)
    bank.open_customer("one", NAME, "h", {"HKD": 5_000_000}, CARD)
    mandate = bank.grant_mandate("one")
    databases = await open_databases(config)
    try:
        async with served(bank, key) as url:
            endpoint = HttpxEndpoint(url)
            line = SignedExchange(endpoint, "nostro", key, clock, lambda: os.urandom(16), timeout_s=10)
            core = Core(Surroundings(settings, databases, clock, trace, LocalLocks(clock), in_process,
                                     Calendars(settings), line, {}, OneCustomer, bytes(32), "live-1"))
            await core.start()
            try:
                await _money_in_and_out(core, mandate)
            finally:
                await core.stop()
                await endpoint.close()
        assert core.fault is None, core.fault
        assert await core.risk_control.verify() == []
        assert sorted((event[4]["op"], event[4]["amount"]) for event in events if event[2] == "bank.book") == [
            *[("collect", 100_000)] * 5, *[("pay", 30_000)] * 5]
    finally:
        await databases.close()


async def _money_in_and_out(core: Core, mandate: str) -> None:
    """Five deposits at once, then five withdrawals at once, on one account."""
    await core.cards.adopt([Adoption(CARD_ID, UID, "airstar", CARD, NAME)])
    await core.mandates.adopt(UID, CARD_ID, mandate)

    async def balance() -> tuple[int, int, int]:
        held = await core.risk_control.balances(ACCOUNT, "HKD")
        return held.available, held.frozen, held.in_transit

    async def is_(*wanted: int) -> bool:
        return await balance() == wanted

    await asyncio.gather(*(
        core.airstar_deposits.submit(UID, ACCOUNT, 1, CARD_ID, CARD, "HKD", 100_000) for _ in range(5)))
    await until(lambda: is_(500_000, 0, 0), "credited")
    tasks = await asyncio.gather(*(
        core.withdrawals.submit(UID, ACCOUNT, 1, CARD_ID, CARD, "airstar", "HKD", 30_000, "auto_bs")
        for _ in range(5)))
    await until(lambda: is_(350_000, 0, 0), "paid")

    async def done() -> bool:
        found = [await core.withdrawals.find(task.id) for task in tasks]
        return all(task is not None and task.status == 3 for task in found)

    await until(done, "every Task is DONE")


def test_the_core_runs_on_an_ordinary_loop_with_sqlite_files_and_real_sockets(tmp_path: Path) -> None:
    asyncio.run(story(StorageConfig(kind="sqlite", folder=tmp_path, durable=False)))


@pytest.mark.server
def test_the_core_runs_on_mariadb_and_real_sockets() -> None:
    config = StorageConfig(kind="mysql", prefix=PREFIX, connections=8)
    try:
        socket.create_connection((config.host, config.port), timeout=2).close()
    except OSError:
        if os.environ.get("NOSTRO_SERVERS") == "1":
            pytest.fail(f"no server at {config.host}:{config.port}, and NOSTRO_SERVERS=1 demands one")
        pytest.skip(f"no server at {config.host}:{config.port}")
    try:
        asyncio.run(story(config))
    finally:
        asyncio.run(_drop(config))


async def _drop(config: StorageConfig) -> None:
    connection = await connect(config, None)
    for schema in SCHEMAS:
        await connection.command(f"DROP DATABASE IF EXISTS {config.prefix}_{schema.name}")
    await connection.driver.ensure_closed()


