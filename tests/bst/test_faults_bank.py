"""Each fault of the emulated CMB and CMBC does what its row says, whether messages or real frames are on the line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bank_world import WAY_US, Client, Rig, deposit, withdrawal

from core.banks.socket.line import Unreachable
from core.errors import Misconfigured, OutcomeUnknown
from core.wire.socket import BadSignature, FrameType, TransferState
from core.wire.socket import messages as m
from emulators.bst.faults import AIM, CODES, FAULTS
from emulators.bst.line import MessageDayLists

REF = "CMBS000000000001"


@pytest.fixture(params=["bytes", "messages"])
def run(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig("cmb", request.param)
    made.customer()
    yield made
    made.bank.book.check()
    made.close()


def pay(run: Rig, client: Client, ref: str = REF, within_s: float = 1.0) -> list[m.Body]:
    """What a withdrawal is answered with."""
    card = next(iter(run.bank._cards))
    return client.ask_all(m.WITHDRAWAL, withdrawal(card, ref), within_s)


def code_of(bodies: list[m.Body]) -> int:
    (body,) = bodies
    assert isinstance(body, m.TransferAnswer | m.Answer)
    return body.code


def state_of(client: Client, ref: str = REF) -> TransferState | None:
    body = client.ask(m.QUERY, m.Query(ref))
    assert isinstance(body, m.QueryAnswer)
    return body.state


def results(client: Client) -> list[int]:
    return [push.code for push in client.pushes(m.TransferResult)]


def connects(run: Rig, server: str) -> bool:
    try:
        run.connect(server).line.close()
    except (ConnectionError, Unreachable):
        return False
    return True


# --- the lines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("server", "others"), [("primary", ["backup"]), ("backup", ["primary"]), ("both", [])])
def test_drop(run: Rig, server: str, others: list[str]) -> None:
    clients = {name: run.connect(name) for name in ("primary", "backup")}
    run.bank.fault("drop", server=server, for_s=30)
    run.pass_s(1)
    assert [name for name, client in clients.items() if not client.ended] == others
    assert [name for name in clients if connects(run, name)] == others
    run.pass_s(30)
    assert connects(run, "primary") and connects(run, "backup")


def test_overlapping_drops_end_with_the_last(run: Rig) -> None:
    run.bank.fault("drop", for_s=10)
    run.bank.fault("drop", server="both", for_s=20)
    run.pass_s(15)
    assert not connects(run, "primary")
    run.pass_s(10)
    assert connects(run, "primary")


def test_half_open(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("half_open")
    run.bank.sign("u1", "US")
    run.pass_s(59)
    assert not client.ended and not client.pushes() and not pay(run, client)
    assert run.bank.state()["signed_on"] is None and not run.bank.state()["servers"]["primary"]["connections"]
    other = run.signed_on()
    assert code_of(pay(run, other, within_s=5)) == 0 and results(other) == [0]
    client.line.close()
    run.pass_s(1)


def test_silent_heartbeats(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("silent_heartbeats", server="both")
    client.send(m.HEARTBEAT, m.Heartbeat())
    run.pass_s(50)
    assert not [message for _, message in client.heard if message.command == m.HEARTBEAT]
    assert code_of(pay(run, client)) == 0  # everything else works


def test_wrong_key(run: Rig) -> None:
    client = run.connect()
    fault = run.bank.fault("wrong_key", server="both")
    assert not connects(run, "primary") and not connects(run, "backup")
    assert state_of(client) is TransferState.NOT_FOUND  # connections with keys go on
    run.bank.clear(fault)
    assert connects(run, "primary")


def test_split_frames_arrive_late_and_whole(run: Rig) -> None:
    client = run.connect()
    run.bank.fault("split", parts=4, gap_s=0.25)
    started_us = run.loop.now_us
    first, second = client.send(m.QUERY, m.Query("A")), client.send(m.QUERY, m.Query("B"))
    run.pass_s(5)
    came = {message.header.related_ref: at_us - started_us for at_us, message in client.heard}
    assert came == {first: 2 * WAY_US + 750_000, second: 2 * WAY_US + 1_500_000}


def test_merged_frames_arrive_together(run: Rig) -> None:
    client = run.connect()
    run.bank.fault("merged", hold_s=0.5)
    started_us = run.loop.now_us
    client.send(m.QUERY, m.Query("A"))
    run.pass_s(0.3)
    client.send(m.QUERY, m.Query("B"))
    run.pass_s(5)
    assert [at_us - started_us for at_us, _ in client.heard] == [2 * WAY_US + 500_000] * 2


def test_bad_signature(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("bad_signature", message="result", count=1)
    assert code_of(pay(run, client, within_s=3)) == 0
    (refusal,) = client.refusals
    assert isinstance(refusal, BadSignature) and refusal.header is not None
    assert not results(client) and not client.ended
    run.pass_s(6)
    assert results(client) == [0]  # repeated, and good


def test_sequence_gap(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("sequence_gap", message="query")
    client.send(m.QUERY, m.Query(REF))
    run.pass_s(1)
    ((_, reason),) = client.ended
    assert "SequenceGap" in reason
    assert not run.bank.state()["servers"]["primary"]["connections"]


# --- pushes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fresh", "seqs"), [(False, [1, 1]), (True, [1, 2])])
def test_duplicate_push(run: Rig, fresh: bool, seqs: list[int]) -> None:
    client = run.signed_on()
    run.bank.fault("duplicate_push", fresh=fresh)
    pay(run, client, within_s=20)
    pushes = client.pushes(m.TransferResult)
    assert [push.push_seq for push in pushes] == seqs
    assert {push.transfer_ref for push in pushes} == {REF}
    (fragment,) = client.ask_all(m.DAY_LIST, m.ListRequest(0))
    assert isinstance(fragment, m.DayList)
    assert [item.push_seq for item in fragment.items] == sorted(set(seqs))


def test_lost_push(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("lost_push", message="result")
    pay(run, client, within_s=60)
    assert not results(client)
    (fragment,) = client.ask_all(m.DAY_LIST, m.ListRequest(0))
    assert isinstance(fragment, m.DayList) and fragment.items[0].transfer_ref == REF


def test_lost_ack(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("lost_ack", count=2)
    pay(run, client, within_s=60)
    assert results(client) == [0, 0, 0]
    assert run.bank.state()["pushes"]["undelivered"] == 0


# --- answers and results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("processed", "state"), [(True, TransferState.DONE), (False, TransferState.NOT_FOUND)])
def test_timeout(run: Rig, processed: bool, state: TransferState) -> None:
    client = run.signed_on()
    fault = run.bank.fault("timeout", message="withdraw", processed=processed)
    assert not pay(run, client, within_s=20)
    assert state_of(client) is state
    run.bank.clear(fault)
    assert code_of(pay(run, client)) == (-4 if processed else 0)


def test_minus_5_and_a_late_0(run: Rig) -> None:
    client, backup = run.signed_on(), run.connect("backup")
    run.bank.fault("answer_minus5", late_s=30, count=1)
    assert code_of(pay(run, client)) == -5
    assert state_of(client) is TransferState.PENDING
    assert code_of(pay(run, backup)) == -4
    run.pass_s(25)
    assert not results(client) and not run.book()
    run.pass_s(10)
    assert results(client) == [0] and len(run.book()) == 1
    assert code_of(pay(run, backup)) == -4


def test_minus_5_and_nothing_done(run: Rig) -> None:
    client, backup = run.signed_on(), run.connect("backup")
    run.bank.fault("answer_minus5", processed=False, server="primary")
    assert code_of(pay(run, client)) == -5
    assert state_of(client) is TransferState.NOT_FOUND
    assert code_of(pay(run, backup, within_s=5)) == 0
    assert results(client) == [0] and len(run.book()) == 1


def test_minus_5_as_a_result_and_the_true_one_later(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("answer_minus5", at="result", late_s=30)
    assert code_of(pay(run, client, within_s=10)) == 0
    assert results(client) == [-5] and state_of(client) is TransferState.PENDING
    run.pass_s(30)
    assert results(client) == [-5, 0]


def test_reject(run: Rig) -> None:
    client = run.signed_on()
    fault = run.bank.fault("reject")
    assert code_of(pay(run, client, within_s=5)) == 0
    assert results(client) == [-6] and state_of(client) is TransferState.FAILED
    run.bank.clear(fault)
    run.bank.fault("reject", at="answer")
    assert code_of(pay(run, client, "CMBS000000000009")) == -6
    assert not run.book()


def test_a_storm_strikes_its_share(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("reject", share=0.5)
    for number in range(60):
        pay(run, client, f"CMBS{number:012d}", 0.03)
    run.pass_s(10)
    assert 15 <= results(client).count(-6) <= 45


@pytest.mark.parametrize("name", ["system_error", "unsigned", "limit", "closed"])
def test_a_code_at_the_desk(run: Rig, name: str) -> None:
    client = run.signed_on()
    run.bank.fault(name, count=1)
    assert code_of(pay(run, client)) == CODES[name]
    assert state_of(client) is TransferState.NOT_FOUND
    assert code_of(pay(run, client)) == 0


def test_a_system_error_after_the_deed(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("system_error", processed=True, count=1)
    assert code_of(pay(run, client, within_s=5)) == -1
    assert results(client) == [0] and code_of(pay(run, client)) == -4


@pytest.mark.parametrize(("name", "code"), [("malformed", -2), ("forged", -3)])
def test_refused_with_100000(run: Rig, name: str, code: int) -> None:
    client = run.signed_on()
    run.bank.fault(name, message="deposit")
    card = next(iter(run.bank._cards))
    ref = client.send(m.DEPOSIT, deposit(card))
    run.pass_s(1)
    (answer,) = [message for _, message in client.heard if message.header.related_ref == ref]
    assert (answer.command, answer.body) == (m.REJECTION, m.Answer(code, m.CALLBACKS[code].meaning))
    assert code_of(pay(run, client)) == 0 and not client.ended


def test_slow(run: Rig) -> None:
    client = run.signed_on()
    run.bank.fault("slow", delay_s=7, message="withdraw")
    assert not pay(run, client, within_s=6.9)
    run.pass_s(1)
    assert [body.code for _, body in client.bodies() if isinstance(body, m.TransferAnswer)] == [0]
    assert results(client) == [0]  # told before its own answer


# --- lists ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["missing", "foreign", "amount"])
def test_lists_that_disagree(run: Rig, how: str) -> None:
    client = run.signed_on()
    card = next(iter(run.bank._cards))
    for amount in (100, 200):
        run.bank.customer_deposits(card, 1, "HKD", amount)
        run.pass_s(5)
    honest = client.ask_all(m.DAY_LIST, m.ListRequest(0)) + client.ask_all(
        m.RECONCILIATION, m.ReconciliationRequest("20260312")
    )
    run.bank.fault("list_disagrees", how=how)
    told = client.ask_all(m.DAY_LIST, m.ListRequest(0)) + client.ask_all(
        m.RECONCILIATION, m.ReconciliationRequest("20260312")
    )
    for before, after in zip(honest, told, strict=True):
        old, new = [item.amount for item in before.items], [item.amount for item in after.items]  # type: ignore[union-attr]
        assert old == ["1.00", "2.00"]
        assert new == {"missing": ["1.00"], "foreign": ["1.00", "2.00", "1.00"], "amount": ["1.00", "2.01"]}[how]
    run.bank.customer_deposits(card, 1, "HKD", 300)
    run.pass_s(5)
    seqs = [push.push_seq for push in client.pushes()]
    assert len(set(seqs)) == 3  # a foreign entry has a number of its own


@pytest.mark.parametrize("answer", ["unavailable", "silence"])
def test_a_day_list_that_cannot_be_fetched(run: Rig, answer: str) -> None:
    card = next(iter(run.bank._cards))
    for amount in range(1, 61):
        run.bank.customer_deposits(card, 1, "HKD", amount)
    run.pass_s(30)
    fetch = MessageDayLists(run.bank, run.loop, lambda: WAY_US, timeout_s=10).items
    run.bank.fault("list_outage", answer=answer, count=1)
    started_us = run.loop.now_us
    with pytest.raises(OutcomeUnknown):
        run.run(fetch(0))
    assert run.loop.now_us - started_us == (2 * WAY_US if answer == "unavailable" else 10_000_000)
    assert [item.push_seq for item in run.run(fetch(5))] == list(range(6, 61))
    assert run.run(fetch(60)) == ()


# --- the table itself -------------------------------------------------------------------------------------------


def test_every_fault_is_reported_with_its_begin_and_end(run: Rig) -> None:
    for name in FAULTS:
        fault = run.bank.fault(name, after_s=1, for_s=2)
        assert run.bank.state()["faults"][0]["active"] is False
        run.pass_s(5)
        assert not run.bank.state()["faults"], name
        phases = [data["phase"] for _, _, kind, subject, data in run.events if kind == "fault" and subject == fault]
        assert phases == ["begin", "end"], name


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("flood", {}), ("drop", {"server": "third"}), ("drop", {"delay_s": 1}), ("reject", {"share": 2}),
    ("split", {"parts": 1}), ("timeout", {"message": "pay"}), ("reject", {"count": 0}), ("slow", {"delay_s": None}),
    ("list_disagrees", {"how": "rudely"}), ("answer_minus5", {"late_s": -1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "params"), WRONG)
def test_what_makes_no_sense_is_refused(run: Rig, name: str, params: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="cmb"):
        run.bank.fault(name, **params)


def test_aim(run: Rig) -> None:
    assert set(AIM) >= {"message", "reference", "server", "customer", "share", "count", "after_s", "for_s"}
    other = run.bank.open_customer("u2", "CHAN TAI MAN", "h", {"HKD": 1_000_000})
    run.bank.grant("u2")
    client = run.signed_on()
    run.bank.fault("limit", customer="u2")
    run.bank.fault("unsigned", reference="CMBS000000000005")
    assert code_of(pay(run, client)) == 0
    assert code_of(pay(run, client, "CMBS000000000005")) == -7
    assert code_of(client.ask_all(m.WITHDRAWAL, withdrawal(other, "CMBS000000000006"))) == -8
    assert all(message.kind is not FrameType.REQUEST for _, message in client.heard)
