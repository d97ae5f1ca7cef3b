"""Whatever is asked and whatever goes wrong: the book balances, a reference pays once, every push is listed once.

And the bank on the sockets of this machine.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from bank_world import BANK_KEYS, BROKER, BROKER_KEYS, SERIAL, SM2, ByteLine, Rig, withdrawal
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from core.banks.socket.line import Unreachable
from core.clock import MachineClock
from core.settings import Settings
from core.trace import Trace
from core.wire.socket import BankIdentity, BrokerIdentity, BrokerSession, FrameType, Party, TransferState
from core.wire.socket import messages as m
from emulators.book import OUTSIDE
from emulators.bst.faults import FAULTS, Strikes
from emulators.bst.server import Keys
from emulators.cmb import cmb_bank
from emulators.streams import Streams

REFS = [f"CMBS{number:012d}" for number in range(4)]
AMOUNT = 100
"""Of every transfer, in major units: a reference is always sent with the same content."""

ref = st.sampled_from(REFS)
SPECIAL: dict[str, dict[str, Any]] = {"drop": {"server": "both"}, "half_open": {"server": "both"}}
STEP = st.one_of(
    st.tuples(st.just("withdraw"), ref),
    st.tuples(st.just("deposit"), ref),
    st.tuples(st.just("reverse"), ref),
    st.tuples(st.just("pay wish"), st.integers(0, 3)),
    st.tuples(st.just("refuse wish"), st.integers(0, 3)),
    st.tuples(st.just("customer deposits"), st.none()),
    st.tuples(st.just("customer withdraws"), st.none()),
    st.tuples(st.just("sign"), st.none()),
    st.tuples(st.just("fault"), st.sampled_from(sorted(set(FAULTS) - {"split", "list_outage"}))),
    st.tuples(st.just("deaf"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 2.0, 70.0])),
)


class Play:
    """One random run."""

    def __init__(self, wire: str, seed: int) -> None:
        self.run = Rig("cmb", wire, seed, luck=True, overlay={"sim.cmb.unknown.share": 0.2})
        self.card = self.run.customer()
        self.client = self.run.signed_on()
        self.wishes: list[str] = []
        self.reversals = 0

    def step(self, name: str, what: Any) -> None:
        if self.client.ended or not self.run.bank.state()["servers"]["primary"]["connections"]:
            self.reconnect()
        getattr(self, name.replace(" ", "_"))(what)
        self.run.pass_s(0.1)

    def reconnect(self) -> None:
        try:
            client = self.run.connect()
        except (ConnectionError, Unreachable):
            return
        self.client = client
        session = self.run.bank.session()
        client.send(m.SIGN_ON, m.SignOn(session, 0))

    def withdraw(self, ref: str) -> None:
        self.client.send(m.WITHDRAWAL, withdrawal(self.card, ref))

    def deposit(self, ref: str) -> None:
        body = m.DepositRequest(ref, "CHAN TAI MAN", self.card, "HKD", "100.00", "HK")
        self.client.send(m.DEPOSIT, body)

    def reverse(self, ref: str) -> None:
        self.reversals += 1
        self.client.send(m.REVERSAL, m.ReversalRequest(f"R{self.reversals}", ref, "HKD", "100.00"))

    def pay_wish(self, number: int) -> None:
        for ref in self.wishes[number : number + 1]:
            self.withdraw(ref)

    def refuse_wish(self, number: int) -> None:
        for ref in self.wishes[number : number + 1]:
            self.reverse(ref)

    def customer_deposits(self, _: None) -> None:
        self.run.bank.customer_deposits(self.card, 1, "HKD", AMOUNT * 100)

    def customer_withdraws(self, _: None) -> None:
        self.wishes.append(self.run.bank.customer_withdraws(self.card, 1, "HKD", AMOUNT * 100).ref)

    def sign(self, _: None) -> None:
        self.run.bank.sign("u1", 2)

    def fault(self, name: str) -> None:
        self.run.bank.fault(name, for_s=30, **SPECIAL.get(name, {}))

    def deaf(self, deaf: bool) -> None:
        self.client.acks = not deaf

    def wait(self, seconds: float) -> None:
        self.run.pass_s(seconds)


@effort(max_examples=60, deadline=None)
@given(st.sampled_from(["messages", "bytes"]), st.integers(0, 5), st.lists(STEP, max_size=25))
def test_whatever_happens(wire: str, seed: int, steps: list[tuple[str, Any]]) -> None:
    play = Play(wire, seed)
    for name, what in steps:
        play.step(name, what)
    play.run.pass_s(300)
    bank = play.run.bank
    bank.book.check()
    moves = Counter((subject, op) for op, subject, _ in play.run.book())
    assert all(times == 1 for times in moves.values()), moves
    for subject, op in moves:  # one way only, and back only what went
        assert ((subject, "collect") in moves) is not ((subject, "pay") in moves)
        assert op in ("collect", "pay") or (subject, {"refund_collect": "collect", "return_pay": "pay"}[op]) in moves
    listed = bank.desk.pushes.since(0)
    seqs = [push.seq for push in listed]
    assert seqs == sorted(set(seqs))
    heard = {body.push_seq: body for body in play.client.pushes() if hasattr(body, "push_seq")}
    assert all(next(push for push in listed if push.seq == seq).body == body for seq, body in heard.items())
    if ("fault", "duplicate_push") not in steps:
        told = Counter(push.ref for push in listed
                       if push.ref and getattr(push.body, "code", 0) != -5 and push.command != m.BANK_WITHDRAWAL)
        assert all(times == 1 for times in told.values()), told  # one result, or one deposit push, per reference
    transfers = list(bank._transfers.values())
    assert all(transfer.state is not TransferState.PENDING for transfer in transfers)
    net = sum(-amount if op in ("collect", "return_pay") else amount for op, _, amount in play.run.book())
    assert bank.balance("u1", "HKD") == 100_000_000 + net
    assert bank.book.account(OUTSIDE, "HKD").balance == -(50_000_000_000 + 100_000_000)
    play.run.close()


def test_the_property_test_knows_every_place_of_a_fault() -> None:
    assert {place for kind in FAULTS.values() for place in kind.strikes} == set(Strikes)


# --- on real sockets --------------------------------------------------------------------------------------------


class Hearing:
    """A listener of one connection: futures for what it hears."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[m.Message] = asyncio.Queue()
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def received(self, message: m.Message) -> None:
        self.messages.put_nowait(message)

    def lost(self, reason: str) -> None:
        self.over.set_result(reason)


async def on_sockets() -> None:
    loop, streams = asyncio.get_running_loop(), Streams(1)
    overlay = {"sim.cmb.outcome": [[0, 1.0]], "sim.cmb.unknown.share": 0.0,
               "sim.cmb.result.median": 0.001, "sim.cmb.result.p99": 0.001}  # fmt: skip
    clock = MachineClock()
    keys = Keys(BankIdentity(BANK_KEYS.private, lambda broker, serial: BROKER_KEYS.public), SM2,
                streams("keys").randbytes)  # fmt: skip
    bank = cmb_bank(loop, clock, streams, Trace(clock), Settings(overlay), keys=keys)
    card = bank.open_customer("u1", "CHAN TAI MAN", "h", {"HKD": 1_000_000})
    bank.grant("u1")
    server = bank.servers["primary"]
    port = await server.listen("127.0.0.1", 0)
    hearing = Hearing()

    async def connect() -> Any:
        ready: asyncio.Future[None] = loop.create_future()
        identity = BrokerIdentity(BROKER, SERIAL, BROKER_KEYS.private, BANK_KEYS.public)
        session = BrokerSession(bank.desk.flavour, identity, SM2, streams("broker").randbytes)
        _, line = await loop.create_connection(lambda: ByteLine(session, hearing, ready), "127.0.0.1", port)  # type: ignore[arg-type]
        await ready
        return line

    line = await connect()
    for number, (command, body) in enumerate([(m.SIGN_ON, m.SignOn("20260312", 0)), (m.WITHDRAWAL, withdrawal(card))]):
        stamp = m.Stamp(f"R{number}", "20260312", "120000")
        line.send(m.compose(command, FrameType.REQUEST, body, stamp, BROKER, "CMB", Party.BROKER))
    commands = [(await asyncio.wait_for(hearing.messages.get(), 10)).command for _ in range(3)]
    assert commands == [m.SIGN_ON, m.WITHDRAWAL, m.TRANSFER_RESULT]
    fault = bank.fault("drop")
    await asyncio.wait_for(hearing.over, 10)
    try:
        await connect()
        raise AssertionError("connected to a server that is down")
    except ConnectionRefusedError:
        pass
    bank.clear(fault)
    while not server.state()["listening"]:
        await asyncio.sleep(0)
    hearing = Hearing()
    bank.fault("half_open")
    line = await connect()
    line.close()
    for one in bank.servers.values():
        await one.close()


def test_the_bank_serves_real_sockets() -> None:
    asyncio.run(on_sockets())
