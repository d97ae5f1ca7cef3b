"""The emulated CMB and CMBC over real frames and over messages: transfers, pushes, lists, its day, its dice."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bank_world import HOUR_MS, NOON_MS, WAY_US, Client, Rig, deposit, withdrawal

from core.errors import InvariantBroken, Misconfigured
from core.wire.socket import FrameType, ListKind, Party, Signing, TransferState
from core.wire.socket import messages as m
from emulators.bst.bank import BROKER
from emulators.bst.values import BankValues
from emulators.office import Truth

Make = Callable[..., Rig]


@pytest.fixture
def rig() -> Iterator[Make]:
    made: list[Rig] = []

    def make(*arguments: Any, **options: Any) -> Rig:
        made.append(Rig(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.bank.book.check()
        one.close()


@pytest.fixture(params=["bytes", "messages"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


both_banks = pytest.mark.parametrize("bank", ["cmb", "cmbc"])


def bank_hours(ms: int) -> bool:
    """07:00 to next day 04:00 Hong Kong time, every day."""
    return not 4 <= (ms // HOUR_MS + 8) % 24 < 7


# --- transfers that the broker asks for -------------------------------------------------------------------------


@both_banks
def test_a_withdrawal_is_taken_on_paid_and_its_result_pushed(rig: Make, wire: str, bank: str) -> None:
    run = rig(bank, wire)
    card = run.customer()
    client = run.signed_on()
    answer = client.ask(m.WITHDRAWAL, withdrawal(card), 0.03)
    assert isinstance(answer, m.TransferAnswer)
    assert (answer.code, answer.transfer_ref) == (0, "CMBS000000000001")
    asked = client.ask(m.QUERY, m.Query("CMBS000000000001"), 0.03)
    assert isinstance(asked, m.QueryAnswer) and asked.state is TransferState.PENDING and asked.result is None
    assert run.bank.inquire("CMBS000000000001").status == "PENDING"
    run.pass_s(5)
    (result,) = client.pushes(m.TransferResult)
    assert (result.transfer_ref, result.push_seq, result.code, result.amount) == ("CMBS000000000001", 1, 0, "100.00")
    asked = client.ask(m.QUERY, m.Query("CMBS000000000001"))
    assert isinstance(asked, m.QueryAnswer)
    assert (asked.state, asked.result, asked.ccy, asked.amount) == (TransferState.DONE, 0, "HKD", "100.00")
    assert run.bank.inquire("CMBS000000000001").status == "PAID"
    assert run.book() == [("pay", "CMBS000000000001", 10_000)]
    assert run.bank.balance("u1", "HKD") == 100_010_000
    assert run.bank.state()["pushes"] == {"last_seq": 1, "undelivered": 0}


def test_a_deposit_asked_for_by_us_is_collected(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    client, card = run.signed_on(), run.customer()
    assert client.ask(m.DEPOSIT, deposit(card)).code == 0  # type: ignore[union-attr]
    run.pass_s(5)
    assert [push.code for push in client.pushes(m.TransferResult)] == [0]
    assert run.book() == [("collect", "CMBS000000000002", 10_000)]


def test_a_reference_moves_money_once_and_is_answered_with_its_standing(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    client, card = run.signed_on(), run.customer()
    for standing in ("PENDING", "DONE"):
        client.ask(m.WITHDRAWAL, withdrawal(card), 0.03)
        again = client.ask(m.WITHDRAWAL, withdrawal(card), 0.03)
        assert isinstance(again, m.TransferAnswer)
        assert (again.code, again.text) == (-4, standing)
        run.pass_s(5)
    assert len(run.book()) == 1


NAME = "CHAN TAI MAN"
REFUSED: list[tuple[str, Any, int]] = [
    ("no amount", functools.partial(withdrawal, amount="0.00"), -2),
    ("an unknown market", functools.partial(withdrawal, market="LSE"), -2),
    ("an unknown card", lambda card: withdrawal("6220000000000000"), -6),
    ("another's name", functools.partial(withdrawal, name="LEE SIU LUNG"), -6),
    ("no account in the currency", functools.partial(deposit, ccy="USD"), -6),
    ("the single limit", functools.partial(withdrawal, amount="5000000.01"), -8),
    ("more than the customer has", functools.partial(deposit, amount="1000000.01"), -6),
]


@pytest.mark.parametrize(("what", "body", "code"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_the_bank_does_not_take_on(rig: Make, what: str, body: Any, code: int) -> None:
    run = rig("cmb", "messages")
    client, card = run.signed_on(), run.customer()
    made = body(card)
    command = m.WITHDRAWAL if isinstance(made, m.WithdrawalRequest) else m.DEPOSIT
    answer = client.ask(command, made)
    assert isinstance(answer, m.TransferAnswer) and answer.code == code, answer
    asked = client.ask(m.QUERY, m.Query(made.transfer_ref))
    assert isinstance(asked, m.QueryAnswer) and asked.state is TransferState.NOT_FOUND
    assert run.bank.inquire(made.transfer_ref).status == "NOT_RECEIVED" and not run.book()


def test_an_agreement_is_per_market(rig: Make) -> None:
    run = rig("cmb", "messages")
    client, card = run.signed_on(), run.customer(markets=1)
    codes = [client.ask(m.WITHDRAWAL, withdrawal(card, f"CMBS00000000000{n}", market=market)).code  # type: ignore[union-attr]
             for n, market in enumerate(("HK", "US", "HKCC"))]  # fmt: skip
    assert codes == [0, -7, -7]


def test_limits_are_per_day_and_direction_and_given_back(rig: Make) -> None:
    overlay = {"sim.cmb.limit.daily": {"HKD": 150, "USD": 1, "CNH": 1}}
    run = rig("cmb", "messages", overlay=overlay)
    client, card = run.signed_on(), run.customer()
    fault = run.bank.fault("reject")
    codes = []
    for number in range(4):
        codes.append(client.ask(m.WITHDRAWAL, withdrawal(card, f"CMBS{number:012d}"), 5).code)  # type: ignore[union-attr]
        if number == 0:
            run.bank.clear(fault)
    assert codes == [0, 0, -8, -8]  # the first was rejected and used nothing
    assert client.ask(m.DEPOSIT, deposit(card)).code == 0  # type: ignore[union-attr]
    run.pass_s(86_400)
    assert client.ask(m.WITHDRAWAL, withdrawal(card, "CMBS000000000009")).code == 0  # type: ignore[union-attr]


def test_cmbc_wants_the_payee_in_english(rig: Make) -> None:
    run = rig("cmbc", "messages")
    client, card = run.signed_on(), run.customer()
    for payee in ("", "陈大文"):
        answer = client.ask(m.WITHDRAWAL, withdrawal(card, payee_name=payee))
        assert isinstance(answer, m.TransferAnswer) and answer.code == -2
    assert run.bank.currencies == ("HKD", "USD")


def test_what_changes_before_the_result_decides_it(rig: Make) -> None:
    run = rig("cmb", "messages")
    client = run.signed_on()
    cards = {name: run.customer(name, HKD=10_000) for name in ("frozen", "closed", "poor", "gone")}
    for number, name in enumerate(("frozen", "closed", "gone")):
        client.ask(m.WITHDRAWAL, withdrawal(cards[name], f"CMBS{number:012d}"), 0.03)
    for number in (8, 9):
        client.ask(m.DEPOSIT, deposit(cards["poor"], f"CMBS{number:012d}"), 0.03)
    run.bank.freeze_account("frozen")
    run.bank.close_account("closed")
    run.bank.unsign("gone", "HK")
    run.pass_s(10)
    results = {push.transfer_ref[-1]: push.code for push in client.pushes(m.TransferResult)}
    assert {results.pop(number) for number in "89"} == {0, -6}
    assert results == {"0": -6, "1": -6, "2": -7}
    assert run.bank.inquire("CMBS000000000000").status == "NOT_PAID"


def test_a_transfer_is_reversed_once(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    client, card = run.signed_on(), run.customer()
    client.ask(m.DEPOSIT, deposit(card, "D1"), 5)
    client.ask(m.WITHDRAWAL, withdrawal(card, "W1"), 5)
    for ref in ("D1", "W1"):
        for number in (1, 2):
            body = m.ReversalRequest(f"R{ref}{number}", ref, "HKD", "100.00", "mistaken")
            assert client.ask(m.REVERSAL, body, 5).code == 0  # type: ignore[union-attr]
    codes = {push.transfer_ref: push.code for push in client.pushes(m.TransferResult)}
    assert codes == {"D1": 0, "W1": 0, "RD11": 0, "RD12": -6, "RW11": 0, "RW12": -6}
    assert [op for op, _, _ in run.book()] == ["collect", "pay", "refund_collect", "return_pay"]
    assert run.bank.inquire("D1").status == "REFUNDED" and run.bank.balance("u1", "HKD") == 100_000_000
    other = m.ReversalRequest("R3", "W1", "HKD", "99.00")
    assert client.ask(m.REVERSAL, other).code == -2  # type: ignore[union-attr]
    unknown = m.ReversalRequest("R4", "W9", "HKD", "99.00")
    assert client.ask(m.REVERSAL, unknown).code == -6  # type: ignore[union-attr]


# --- what customers begin at the bank ---------------------------------------------------------------------------


@both_banks
def test_a_deposit_begun_at_the_bank_is_booked_at_once_and_pushed(rig: Make, wire: str, bank: str) -> None:
    run = rig(bank, wire)
    client, card = run.signed_on(), run.customer()
    started = run.bank.customer_deposits(card, "HK", "HKD", 123_450)
    assert (started.ref, started.code) == (f"{bank.upper()}B2026031200000001", 0)
    assert run.book() == [("collect", started.ref, 123_450)]
    run.pass_s(5)
    (push,) = client.pushes()
    assert push == m.DepositPush(started.ref, 1, NAME, card, "HKD", "1234.50", "HK")
    assert run.bank.customer_deposits(card, 1, "HKD", 10**12).code == -8
    assert run.bank.customer_deposits(card, 1, "HKD", 10**8).code == -6
    assert run.bank.customer_deposits("nobody", 1, "HKD", 1).code == -6


def test_a_withdrawal_begun_at_the_bank_is_paid_under_its_own_reference(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    client, card = run.signed_on(), run.customer()
    started = run.bank.customer_withdraws(card, 1, "HKD", 10_000)
    run.pass_s(5)
    (push,) = client.pushes(m.BankWithdrawal)
    assert (push.transfer_ref, push.card_no, push.amount) == (started.ref, card, "100.00")
    asked = client.ask(m.QUERY, m.Query(started.ref))
    assert isinstance(asked, m.QueryAnswer) and asked.state is TransferState.NOT_FOUND
    assert client.ask(m.WITHDRAWAL, withdrawal(card, started.ref, "99.00")).code == -2  # type: ignore[union-attr]
    assert client.ask(m.WITHDRAWAL, withdrawal(card, started.ref), 5).code == 0  # type: ignore[union-attr]
    assert run.book() == [("pay", started.ref, 10_000)]


def test_a_withdrawal_begun_at_the_bank_is_refused_by_a_reversal(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    client, card = run.signed_on(), run.customer()
    started = run.bank.customer_withdraws(card, 1, "HKD", 10_000)
    assert run.bank.inquire(started.ref).status == "NOT_RECEIVED"  # it waits for our instruction
    refusal = m.ReversalRequest("R1", started.ref, "HKD", "100.00", "not enough money")
    assert client.ask(m.REVERSAL, refusal, 5).code == 0  # type: ignore[union-attr]
    assert [push.code for push in client.pushes(m.TransferResult)] == [0]
    assert run.bank.inquire(started.ref).status == "NOT_PAID"
    assert client.ask(m.WITHDRAWAL, withdrawal(card, started.ref)).code == -6  # type: ignore[union-attr]
    assert not run.book()


def test_signing_is_told_and_granting_is_not(rig: Make, wire: str) -> None:
    run = rig("cmbc", wire)
    client, card = run.signed_on(), run.customer(markets=1)
    run.bank.sign("u1", "US")
    run.bank.unsign("u1", 1)
    run.pass_s(1)
    assert client.pushes() == [m.SignNotice(1, Signing.SIGN, NAME, card, "US"),
                               m.SignNotice(2, Signing.UNSIGN, NAME, card, "HK")]  # fmt: skip
    assert run.bank.is_signed("u1", 2) and not run.bank.is_signed("u1", "HK")


# --- pushes -----------------------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-05")
def test_a_push_is_repeated_until_acknowledged(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    run.customer()
    client = run.signed_on()
    client.acks = False
    run.bank.sign("u1", "HK")
    run.pass_s(11)
    client.acks = True
    run.pass_s(60)
    times = [at_us for at_us, message in client.heard if message.kind is FrameType.PUSH]
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [5_000_000] * 3
    assert len({body.push_seq for body in client.pushes()}) == 1
    assert run.bank.state()["pushes"]["undelivered"] == 0


def test_a_push_that_nobody_takes_stays_in_the_list(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    run.customer()
    client = run.signed_on()
    client.acks = False
    run.bank.sign("u1", "HK")
    run.pass_s(120)
    assert len(client.pushes()) == 6
    run.bank.desk.signed_on = None
    run.bank.unsign("u1", "HK")
    run.pass_s(1)
    assert run.bank.state()["pushes"] == {"last_seq": 2, "undelivered": 2}
    (fragment,) = client.ask_all(m.DAY_LIST, m.ListRequest(0))
    assert isinstance(fragment, m.DayList)
    assert [(item.push_seq, item.kind) for item in fragment.items] == [(1, ListKind.SIGN), (2, ListKind.UNSIGN)]


def test_pushes_go_to_the_connection_that_signed_on_last(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    run.customer()
    primary, backup = run.signed_on("primary"), run.connect("backup")
    run.bank.sign("u1", "HK")
    run.pass_s(1)
    backup.sign_on()
    run.bank.sign("u1", "US")
    run.pass_s(1)
    assert [push.market for push in primary.pushes()] == ["HK"] and not primary.ended
    assert [push.market for push in backup.pushes()] == ["US"]
    assert primary.ask(m.QUERY, m.Query("X")).code == 0  # type: ignore[union-attr] # served all the same
    assert backup.ask(m.SIGN_OFF, m.SignOff()) == m.Answer(0)
    run.bank.sign("u1", "HKCC")
    run.pass_s(1)
    assert len(primary.pushes()) + len(backup.pushes()) == 2


@both_banks
def test_a_long_day_list_comes_in_fragments(rig: Make, wire: str, bank: str) -> None:
    run = rig(bank, wire)
    card, client = run.customer(), run.connect()
    for amount in range(1, 121):
        run.bank.customer_deposits(card, 1, "HKD", amount)
    run.pass_s(30)
    fragments = client.ask_all(m.DAY_LIST, m.ListRequest(10, "20260312"))
    items = [item for fragment in fragments for item in fragment.items]  # type: ignore[union-attr]
    assert [len(fragment.items) for fragment in fragments] == [50, 50, 10]  # type: ignore[union-attr]
    assert [item.push_seq for item in items] == list(range(11, 121))
    command, body = m.push_of(items[0])
    assert command == m.DEPOSIT_PUSH and body == run.bank.desk.pushes.since(10)[0].body
    assert client.ask_all(m.DAY_LIST, m.ListRequest(0, "20260311")) == [m.DayList(0)]
    assert client.ask_all(m.DAY_LIST, m.ListRequest(120)) == [m.DayList(0)]


# --- the bank's day ---------------------------------------------------------------------------------------------


def test_outside_the_window(rig: Make, wire: str) -> None:
    run = rig("cmb", wire, is_open=bank_hours, start_ms=NOON_MS + 17 * HOUR_MS)  # 05:00
    card, client = run.customer(), run.signed_on()
    assert client.ask(m.WITHDRAWAL, withdrawal(card)).code == -9  # type: ignore[union-attr]
    assert client.ask(m.DEPOSIT, deposit(card)).code == -9  # type: ignore[union-attr]
    begun = [run.bank.customer_deposits(card, 1, "HKD", 700), run.bank.customer_withdraws(card, 1, "HKD", 800),
             run.bank.customer_deposits(card, 1, "HKD", 900)]  # fmt: skip
    assert run.bank.customer_cancels(begun[2].ref) and not run.bank.customer_cancels(begun[0].ref + "x")
    run.pass_s(3_600)
    assert not client.pushes() and not run.book() and not client.ended
    run.pass_s(3_600)
    assert {push.transfer_ref for push in client.pushes()} == {begun[0].ref, begun[1].ref}
    assert run.book() == [("collect", begun[0].ref, 700)]
    assert run.bank.inquire(begun[2].ref).status == "NOT_PAID"
    assert client.ask(m.WITHDRAWAL, withdrawal(card)).code == 0  # type: ignore[union-attr]
    assert [data["open"] for data in run.of_kind("bank.gate")] == [True]


@both_banks
def test_the_day_ends_with_a_list_of_what_was_booked(rig: Make, wire: str, bank: str) -> None:
    run = rig(bank, wire, is_open=bank_hours)
    card, client = run.customer(), run.signed_on()
    for amount in range(1, 61):
        run.bank.customer_deposits(card, 1, "HKD", amount)
    client.ask(m.WITHDRAWAL, withdrawal(card), 5)
    wish = run.bank.customer_withdraws(card, 1, "HKD", 10_000)
    run.pass_s(13 * 3_600)  # past midnight, the same session
    client.ask(m.WITHDRAWAL, withdrawal(card, "CMBS000000000007"), 5)
    run.pass_s(4 * 3_600)
    fragments = client.pushes(m.ReconciliationList)
    assert [len(fragment.items) for fragment in fragments] == [50, 12]
    assert {fragment.business_date for fragment in fragments} == {"20260312"}
    assert not fragments[0].totals
    assert fragments[1].totals[0] == m.ReconciliationTotal("HKD", 60, "18.30", 2, "200.00")
    assert fragments[1].items[-1] == m.ReconciliationItem("CMBS000000000007", False, "HKD", "100.00", card)
    assert client.ask_all(m.RECONCILIATION, m.ReconciliationRequest("20260312")) == fragments
    assert run.bank.inquire(wish.ref).status == "NOT_PAID"  # lapsed
    assert not client.ended  # connections stay up


def test_a_reconciliation_fragment_is_repeated_until_acknowledged(rig: Make) -> None:
    run = rig("cmb", "bytes", is_open=bank_hours, start_ms=NOON_MS + 15 * HOUR_MS)
    client = run.signed_on()
    client.acks = False
    run.pass_s(3_600 + 60 + 6)
    client.acks = True
    run.pass_s(60)
    assert len(client.pushes(m.ReconciliationList)) == 3
    assert all(message.header.last_fragment for _, message in client.heard if message.command == m.RECONCILIATION)


# --- connections ------------------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-02")
def test_heartbeats_both_ways_keep_a_connection(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    client = run.connect()
    run.pass_s(3_600)
    beats = [message for _, message in client.heard if message.command == m.HEARTBEAT]
    assert len(beats) in (179, 180) and not client.ended
    assert client.ask(m.HEARTBEAT, m.Heartbeat()) == m.Answer(0)


@pytest.mark.req("SOCK-02")
def test_a_silent_broker_is_cut_off_after_60_s(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    client = run.connect()
    connected_us = run.loop.now_us
    client.beats = False
    run.pass_s(59)
    assert not client.ended
    run.pass_s(3)
    ((at_us, _),) = client.ended
    assert 60_000_000 <= at_us - connected_us <= 60_100_000
    assert not run.bank.state()["servers"]["primary"]["connections"]


def test_renewal_within_the_connection(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    card, client = run.customer(), run.signed_on()
    for _ in range(2):
        client.line.renew()
        run.bank.customer_deposits(card, 1, "HKD", 100)
        run.pass_s(5)
    assert client.renewals == 2 and len(client.pushes()) == 2
    assert run.bank.state()["servers"]["primary"]["connections"][0]["renewals"] == 2


def test_what_is_not_for_this_bank_is_refused(rig: Make, wire: str) -> None:
    run = rig("cmb", wire)
    client = run.connect()
    ref = client.send(m.QUERY, m.Query("X"), receiver="CMBC")
    run.pass_s(1)
    (answer,) = [message for _, message in client.heard]
    assert (answer.command, answer.header.related_ref, answer.body.code) == (m.REJECTION, ref, -2)  # type: ignore[union-attr]
    assert not client.ended


def test_what_cannot_be_read_is_refused_and_the_connection_goes_on(rig: Make) -> None:
    run = rig("cmb", "bytes")
    client = run.connect()
    session = client.line._session
    session._send(FrameType.REQUEST, m.QUERY, b"rubbish")
    client.line._transport.write(session.output())
    run.pass_s(1)
    (answer,) = [message for _, message in client.heard]
    assert (answer.command, answer.body.code) == (m.REJECTION, -2)  # type: ignore[union-attr]
    assert answer.header.related_ref == "SEQ0000000000000002"
    assert [(entry["type"], entry["code"]) for entry in run.bank.journal()] == [("REFUSED", -2)]
    assert client.ask(m.QUERY, m.Query("X")).code == 0  # type: ignore[union-attr]


def test_without_keys_no_bytes(rig: Make) -> None:
    run = rig("cmb", "messages")
    run.bank.servers["primary"]._keys = None
    with pytest.raises(Misconfigured):
        run.run(run.bank.servers["primary"].listen("10.0.0.2", 1))


def test_nobody_who_never_finishes_the_handshake_stays(rig: Make) -> None:
    run = rig("cmb", "bytes")
    silent = Silent()
    run.run(run.loop.create_connection(lambda: silent, "10.0.0.2", 7101))
    run.pass_s(14)
    assert run.bank.state()["servers"]["primary"]["connections"]
    run.pass_s(2)
    assert not run.bank.state()["servers"]["primary"]["connections"] and silent.ended


class Silent(asyncio.Protocol):
    """Connects and says nothing."""

    ended = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True


# --- both fidelities --------------------------------------------------------------------------------------------


def a_day(run: Rig) -> tuple[list[Any], list[Any]]:
    """A busy hour: what the broker heard and when, and what the bank's trace says."""
    cards = [run.customer(f"u{number}") for number in range(5)]
    client: Client = run.signed_on()
    for number in range(40):
        card = cards[number % 5]
        client.send(m.WITHDRAWAL, withdrawal(card, f"W{number}"))
        run.bank.customer_deposits(card, 1, "HKD", 100 + number)
        if number % 7 == 0:
            client.send(m.REVERSAL, m.ReversalRequest(f"R{number}", f"W{number - 7}", "HKD", "100.00"))
            run.bank.customer_withdraws(card, 1, "HKD", 5_000)
        run.pass_s(3.7)
    run.pass_s(200)
    client.send(m.DAY_LIST, m.ListRequest(0))
    client.send(m.RECONCILIATION, m.ReconciliationRequest("20260312"))
    run.pass_s(10)
    return client.heard, run.events


@both_banks
def test_messages_and_bytes_are_the_same_run(rig: Make, bank: str) -> None:
    heard, events = a_day(rig(bank, "bytes", luck=True, seed=7))
    heard_too, events_too = a_day(rig(bank, "messages", luck=True, seed=7))
    assert events == events_too
    assert heard == heard_too


def test_the_same_seed_is_the_same_run_and_another_is_not(rig: Make) -> None:
    first, again, other = (a_day(rig("cmb", "messages", luck=True, seed=seed)) for seed in (3, 3, 4))
    assert first == again and first != other


def test_a_fault_on_one_instruction_leaves_the_others_as_they_were(rig: Make) -> None:
    def results(fault: str, **params: Any) -> dict[str, tuple[int, int]]:
        run = rig("cmb", "messages", luck=True, seed=5)
        if fault:
            run.bank.fault(fault, reference="W3", **params)
        heard, _ = a_day(run)
        return {message.body.transfer_ref: (at_us, message.body.code) for at_us, message in heard
                if isinstance(message.body, m.TransferResult)}  # fmt: skip

    plain = results("")
    for fault, params in (("reject", {}), ("answer_minus5", {"late_s": 100}), ("timeout", {})):
        struck = results(fault, **params)
        assert {ref: at for ref, at in struck.items() if ref != "W3"} == {
            ref: at for ref, at in plain.items() if ref != "W3"
        }


# --- dice and figures -------------------------------------------------------------------------------------------


def test_results_take_what_the_calibration_says(rig: Make) -> None:
    run = rig("cmb", "messages", luck=True, overlay={"sim.cmb.limit.daily": {"HKD": 10**7, "USD": 1, "CNH": 1}})
    card, client = run.customer(HKD=10**9), run.signed_on()
    sent: dict[str, int] = {}
    for number in range(4_000):
        sent[f"W{number}"] = run.loop.now_us
        client.send(m.WITHDRAWAL, withdrawal(card, f"W{number}", "1.00"))
    run.pass_s(200)
    answers = [message.body for _, message in client.heard if isinstance(message.body, m.TransferAnswer)]
    unknown = {body.transfer_ref for body in answers if body.code == -5}
    assert 8 <= len(unknown) <= 36  # 0.5 % of 4,000
    results = {message.body.transfer_ref: (at_us, message.body.code) for at_us, message in client.heard
               if isinstance(message.body, m.TransferResult)}  # fmt: skip
    rejected = [ref for ref, (_, code) in results.items() if code == -6]
    assert 20 <= len(rejected) <= 62  # 1 %
    waits = sorted((at_us - sent[ref] - 2 * WAY_US) / 1e6 for ref, (at_us, _) in results.items() if ref not in unknown)
    assert 0.37 <= waits[len(waits) // 2] <= 0.43
    assert 1.6 <= waits[len(waits) * 99 // 100] <= 2.5
    late = [ref for ref in unknown if ref in results]
    assert 0 < len(late) < len(unknown)
    assert all(19 <= (results[ref][0] - sent[ref]) / 1e6 <= 121 for ref in late)


def test_wrong_figures_are_named() -> None:
    for overlay in ({"sim.cmb.outcome": [[-4, 1.0]]}, {"sim.cmb.outcome": [[0, 0.5]]}, {"sim.cmb.unknown.share": 1.5},
                    {"sim.cmb.result.late": [5.0, 1.0]}):  # fmt: skip
        run = Rig("cmb", "messages")
        with pytest.raises(Misconfigured, match=next(iter(overlay)).replace(".", r"\.")):
            BankValues.of("cmb", {**run.settings, **overlay}, run.streams("x"))
        run.close()


def test_customers_are_told_apart(rig: Make) -> None:
    run = rig("cmb", "messages")
    run.customer()
    with pytest.raises(InvariantBroken):
        run.customer()
    run.bank.top_up("u1", "HKD", 500)
    assert run.bank.balance("u1", "HKD") == 100_000_500
    assert run.bank.inquire("nothing") == Truth("NOT_RECEIVED", "", "nothing")
    assert run.bank.balance(BROKER, "HKD") == 50_000_000_000


def test_the_control_interface_sees_what_came_in(rig: Make, wire: str) -> None:
    run = rig("cmb", wire, overlay={"sim.cmb.journal.limit": 2})
    card, client = run.customer(), run.signed_on("backup")
    client.ask(m.WITHDRAWAL, withdrawal(card), 5)
    journal = run.bank.journal()
    assert [(entry["server"], entry["command"], entry["type"]) for entry in journal] == [
        ("backup", m.WITHDRAWAL, "REQUEST"), ("backup", m.TRANSFER_RESULT, "PUSH_ACK")]  # fmt: skip
    state = run.bank.state()
    assert state["signed_on"] == "backup" and state["transfers"]["DONE"] == 1
    assert Party.BROKER == "S"
