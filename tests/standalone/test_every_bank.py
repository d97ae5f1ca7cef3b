"""Every emulated bank stands alone: it listens, shows itself, begins again on the same ports with the same keys."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from api.cli import app
from core.deposits.banks import BANKS as COLLECTED
from core.settings import Settings
from emulators.standalone.control import shown_state
from emulators.standalone.loop import ServedLoop
from emulators.standalone.server import BANKS, BankServer, Options, start_of

EXPECTED = ("cmb", "cmbc", "bochk", "hsbc", "icbc", "cgb", "scb", "airstar", "hsbc_eddi", "hase_eddi", "ewb",
            "citi", "hase", "ccba", "dbs", "za", "spd")
"""TWIN-04, the generic other banks last."""

CHECKING = {"airstar": "requests", "icbc": "requests", "cgb": "requests", "scb": "requests", "citi": "requests",
            "hsbc_eddi": "requests", "hase_eddi": "requests", "cmb": "requests for the day list"}
"""Banks that check the time in a message -> in which."""


def options(bank: str, folder: Path) -> Options:
    return Options(bank=bank, host="127.0.0.1", port=0, control_port=0, speed=0.0, seed=1,
                   start_ms=start_of("2026-03-12 09:00", 0), folder=folder, settings=Settings(), customers=None,
                   always_open=False)


@pytest.mark.req("TWIN-04")
@pytest.mark.parametrize("bank", EXPECTED)
def test_it_listens_and_begins_again_where_it_was(bank: str, tmp_path: Path) -> None:
    loop = ServedLoop(0)

    async def story() -> list[dict[str, Any]]:
        server = BankServer(options(bank, tmp_path), loop, random.Random(bank).randbytes)
        await server.open()
        said = [server.shown()]
        for address in said[0]["addresses"].values():
            host, _, port = address.split("://")[-1].rpartition("@")[2].partition("/")[0].rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
        await server.reset(None, None)
        said += [server.shown(), shown_state(server)]
        await server.close()
        return said

    try:
        first, again, state = loop.run_until_complete(story())
    finally:
        loop.close()
    assert first["bank"] == bank and len(first["addresses"]) == BANKS[bank].ports
    assert (again["addresses"], again["credentials"]) == (first["addresses"], first["credentials"])
    if bank in CHECKING:
        assert first["clock"].startswith(f"{CHECKING[bank]} whose time is more than 300 s off the bank's are refused")
    else:
        assert first["clock"] is None
    assert [one["id"] for one in state["customers"]] == ["chan", "wong", "lee", "ho"]
    assert state["book"] and state["faults"] == []


def test_no_bank_is_left_out() -> None:
    assert set(BANKS) == set(EXPECTED)
    assert {row.removesuffix("_eddi") for row in BANKS} >= set(COLLECTED) - {"other"}
    emulate = get_command(app).commands["emulate"]  # type: ignore[attr-defined]
    told = emulate.params[0].help.rstrip(".").replace(" or ", ", ").split(", ")
    assert set(told) == set(BANKS)
