"""The foreign client against the emulated bank, over a real socket of this machine: two programs, one document."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.clock import US_PER_MS, US_PER_S
from core.settings import Settings
from core.trace import Event, Trace
from core.wire.sm2 import FastSm2, KeyPair, private_to_pem, public_to_pem
from core.wire.socket import BankIdentity, FrameType
from core.wire.socket import messages as m
from emulators.bst.bank import SocketBank
from emulators.bst.faults import PRIMARY
from emulators.bst.server import Connection, Keys
from emulators.cmb import cmb_bank
from emulators.cmbc import cmbc_bank
from emulators.streams import Streams

NOON_MS = 1_773_288_000_000
"""2026-03-12 12:00 Hong Kong time."""

BROKER, SERIAL, NAME = "NOSTRO01", "2026000000000001", "欧阳𠮷祥"
SM2 = FastSm2()
BUILD = {"cmb": cmb_bank, "cmbc": cmbc_bank}
FOREIGN = Path(__file__).with_name("socket_client.py")
QUICK = {"socket.heartbeat.period_s": 1, "socket.heartbeat.loss_s": 20, "socket.push.repeat_s": 1}


def keys(seed: str) -> KeyPair:
    return SM2.key_pair(random.Random(seed).randbytes)


class LoopTime:
    """Time of an ordinary loop, counted from noon of a trading day."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._began = loop, loop.time()

    def now_us(self) -> int:
        return NOON_MS * US_PER_MS + round((self._loop.time() - self._began) * US_PER_S)

    def now_ms(self) -> int:
        return self.now_us() // US_PER_MS


@dataclass
class Live:
    """The bank, and what its desk hears of the client."""

    bank: SocketBank
    port: int
    folder: Path
    events: list[Event]
    heard: list[m.Message] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def listen_in(self) -> None:
        desk = self.bank.desk
        hears = desk.heard

        def heard(connection: Connection, message: m.Message) -> None:
            hears(connection, message)
            self.heard.append(message)
            self.more.set()

        desk.heard = heard  # type: ignore[method-assign]

    async def until(self, command: str, kind: FrameType) -> None:
        """The client has sent this."""
        while not any((message.command, message.kind) == (command, kind) for message in self.heard):
            self.more.clear()
            await self.more.wait()

    async def client(self, *arguments: str) -> asyncio.subprocess.Process:
        name = self.bank.values.name
        return await asyncio.create_subprocess_exec(
            sys.executable, str(FOREIGN), "--port", str(self.port), "--bank", name, "--broker", BROKER,
            "--serial", SERIAL, "--key", str(self.folder / "broker.pem"), "--bank-key", str(self.folder / "bank.pem"),
            "--now", "20260312120000", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


async def said_by(process: asyncio.subprocess.Process) -> tuple[int, list[dict[str, Any]]]:
    """(exit status, what it printed)."""
    out, wrong = await asyncio.wait_for(process.communicate(), 60)
    assert not wrong, wrong.decode()
    return process.returncode or 0, [json.loads(line) for line in out.splitlines()]


def live(name: str, folder: Path, scene: Callable[[Live], Any]) -> None:
    """Play a scene on an ordinary loop, with the bank listening on a free port of this machine."""
    broker_keys, bank_keys = keys("broker"), keys("bank")
    (folder / "broker.pem").write_text(private_to_pem(broker_keys))
    (folder / "bank.pem").write_text(public_to_pem(bank_keys.public))
    identity = BankIdentity(bank_keys.private, lambda *who: broker_keys.public if who == (BROKER, SERIAL) else None)

    async def play() -> None:
        loop, streams, events = asyncio.get_running_loop(), Streams(1), list[Event]()
        clock = LoopTime(loop)
        bank = BUILD[name](loop, clock, streams, Trace(clock, events.append), Settings(QUICK),
                           keys=Keys(identity, SM2, streams("keys").randbytes))  # fmt: skip
        server = bank.servers[PRIMARY]
        world = Live(bank, await server.listen("127.0.0.1", 0), folder, events)
        world.listen_in()
        try:
            await asyncio.wait_for(scene(world), 60)
        finally:
            await server.close()

    asyncio.run(play())


@pytest.mark.req("SOCK-01")
@pytest.mark.parametrize("name", BUILD)
def test_a_foreign_broker_takes_a_deposit_from_the_emulated_bank(name: str, tmp_path: Path) -> None:
    async def scene(world: Live) -> None:
        bank = world.bank
        card = bank.open_customer("u1", NAME, "hash", {"HKD": 100_000})
        bank.grant("u1")
        client = await world.client()
        await world.until(m.SIGN_ON, FrameType.REQUEST)
        await world.until(m.HEARTBEAT, FrameType.RESPONSE)
        started = bank.customer_deposits(card, "HK", "HKD", 12_345)
        await world.until(m.DEPOSIT_PUSH, FrameType.PUSH_ACK)
        status, said = await said_by(client)

        assert status == 0, said
        assert [line["event"] for line in said] == ["keys agreed", "signed on", "deposit", "query", "signed off"]
        deposit, query = said[2], said[3]
        assert (deposit["reference"], deposit["push_seq"], deposit["signature"]) == (started.ref, "1", "good")
        assert (deposit["name"], deposit["card_no"], deposit["market"]) == (NAME, card, "HK")
        assert (deposit["ccy"], deposit["amount"]) == ("HKD", "123.45")
        assert (query["code"], query["reference"], query["state"]) == ("0", started.ref, "DONE")
        assert (query["result"], query["ccy"], query["amount"]) == ("0", "HKD", "123.45")

        (push,) = bank.desk.pushes.since(0)
        assert (push.status, push.sends, push.ref) == ("ACKNOWLEDGED", 1, started.ref)
        assert bank.balance("u1", "HKD") == 100_000 - 12_345
        booked = [data for _, _, kind, _, data in world.events if kind == "bank.book"]
        assert [(data["op"], data["ref"], data["amount"]) for data in booked] == [("collect", started.ref, 12_345)]
        acks = [message for message in world.heard if message.kind is FrameType.PUSH_ACK]
        assert [ack.body for ack in acks] == [m.Answer(0)] and acks[0].header.sender == BROKER
        assert bank.desk.signed_on is None and bank.desk.last_sign_on == m.SignOn("20260312", 0)

    live(name, tmp_path, scene)


@pytest.mark.parametrize("name", BUILD)
def test_a_foreign_broker_signs_on_and_off(name: str, tmp_path: Path) -> None:
    async def scene(world: Live) -> None:
        status, said = await said_by(await world.client("--command", "sign-on", "--last-push-seq", "7"))
        assert status == 0, said
        assert [line["event"] for line in said] == ["keys agreed", "signed on", "signed off"]
        assert world.bank.desk.last_sign_on == m.SignOn("20260312", 7)
        assert m.SIGN_OFF in [message.command for message in world.heard]

    live(name, tmp_path, scene)


@pytest.mark.req("SOCK-01")
def test_a_foreign_broker_refuses_a_deposit_that_the_bank_did_not_sign(tmp_path: Path) -> None:
    """It is told -3, nothing is acknowledged, and the repetition, which is signed well, is taken."""

    async def scene(world: Live) -> None:
        bank = world.bank
        card = bank.open_customer("u1", NAME, "hash", {"HKD": 100_000})
        bank.grant("u1")
        bank.fault("bad_signature", message="deposit_push", count=1)
        client = await world.client()
        await world.until(m.SIGN_ON, FrameType.REQUEST)
        bank.customer_deposits(card, "HK", "HKD", 12_345)
        status, said = await said_by(client)
        assert status == 0, said
        assert [line["event"] for line in said][2:] == ["refused", "deposit", "query", "signed off"]
        assert said[2]["code"] == "-3"
        (push,) = bank.desk.pushes.since(0)
        assert (push.status, push.sends) == ("ACKNOWLEDGED", 2)
        assert bank.balance("u1", "HKD") == 100_000 - 12_345
        refusals = [message for message in world.heard if message.command == m.REJECTION]
        assert [message.body.code for message in refusals if isinstance(message.body, m.Answer)] == [-3]

    live("cmb", tmp_path, scene)


def test_a_bank_with_another_key_is_not_spoken_with(tmp_path: Path) -> None:
    async def scene(world: Live) -> None:
        world.bank.fault("wrong_key")
        status, said = await said_by(await world.client())
        assert (status, [line["event"] for line in said]) == (1, ["failed"])
        assert said[0]["why"] == "the ACK is not signed by the bank"

    live("cmb", tmp_path, scene)
