"""HSBC's statements from the bank's book to our entries: by push and by pull, in full and as messages."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
from hsbc_world import World, play

from core.clock import MS_PER_S
from core.wire.mt910 import read
from emulators.guard import determinism_guard
from emulators.hsbc.faults import FAULTS, GARBLED

WIRES = pytest.mark.parametrize("wire", ["messages", "full"])
HALF_AN_HOUR = 1_800.0


async def one(world: World) -> None:
    world.receive(1_234_567, remark="DEPOSIT 1")


def kept(world: World) -> list[tuple[str, str, int]]:
    """What our books say: reference, currency, amount."""
    return sorted((flow.bank_ref, flow.ccy, flow.amount) for flow in world.final_flows)  # type: ignore[attr-defined]


def booked(world: World) -> list[tuple[str, str, int]]:
    """What the bank's book says."""
    return sorted((line.reference, line.ccy, line.amount) for line in world.bank.lines() if line.credit)


def files(world: World, state: str) -> list[dict[str, Any]]:
    return [file for file in world.final_files if file["state"] == state]  # type: ignore[attr-defined]


@WIRES
@pytest.mark.req("STMT-02")
def test_a_credit_is_pushed_within_seconds_and_fetched_within_ten_minutes(wire: str) -> None:
    world = play(one, wire=wire, until=HALF_AN_HOUR)
    (event,) = [event for event in world.events if event[2] == "statement"]
    told_ms = event[1] // 1_000 - world.bank._lines[1].booked_ms
    assert event[4]["source"] == "push" and 2 * MS_PER_S <= told_ms <= 25 * MS_PER_S
    pulls = [data for data in world.of_kind("bank.reply") if data["message"] == "mt910_pull"]
    assert sum(data["code"] for data in pulls) == 1  # the same message, laid out as well
    assert [file["source"] for file in files(world, "TAKEN")] == ["push", "sftp"]


@WIRES
@pytest.mark.req("STMT-03")
@pytest.mark.parametrize("fault", [None, "push_with_batch", "double_push"])
def test_one_reference_by_push_and_by_pull_is_one_flow(wire: str, fault: str | None) -> None:
    async def story(world: World) -> None:
        if fault:
            world.bank.fault(fault)
        for number in range(5):
            world.receive(100 + number)
            world.receive(200 + number, ccy="USD")
        await asyncio.sleep(HALF_AN_HOUR)

    world = play(story, wire=wire)
    assert kept(world) == booked(world) and len(kept(world)) == 10
    told = files(world, "TAKEN")
    assert sum(file["accepted"] for file in told) == 10
    assert sum(file["duplicate"] for file in told) == (20 if fault == "double_push" else 10)
    assert {file["source"] for file in told} == {"push", "sftp"}
    assert not world.of_kind("alert")


@pytest.mark.req("STMT-03")
def test_push_and_pull_at_the_same_moment_are_one_flow() -> None:
    """The file is dropped while the pull that brings it is under way."""

    async def story(world: World) -> None:
        world.bank.fault("push_with_batch")
        world.receive()

    world = play(story, until=HALF_AN_HOUR, settings={"sim.hsbc.batch.offset_s": 600})
    assert kept(world) == booked(world)
    assert sorted(file["accepted"] for file in files(world, "TAKEN")) == [0, 1]


LONG = ["CHAN TAI MAN", "WONG INTERNATIONAL INVESTMENT GROUP HOLDINGS LIMITED", "W" * 60, "A B " * 30,
        "THE HONG KONG AND MACAU DRAGON BOAT AND CHARITY ASSOCIATION OF THE NEW TERRITORIES NORTH"]


@WIRES
@pytest.mark.req("STMT-05")
def test_a_payers_name_arrives_whole_however_the_bank_wraps_it(wire: str) -> None:
    async def story(world: World) -> None:
        for number, name in enumerate(LONG):
            world.receive(1_000 + number, name=name)

    world = play(story, wire=wire, until=HALF_AN_HOUR)
    names = {flow.amount: flow.en_name for flow in world.final_flows}  # type: ignore[attr-defined]
    assert [names[1_000 + number] for number in range(len(LONG))] == [name.strip() for name in LONG]


@WIRES
@pytest.mark.req("STMT-05")
@pytest.mark.parametrize("days", [6, 400, -100, -400])
def test_a_message_of_another_time_is_refused_and_those_beside_it_are_taken(wire: str, days: int) -> None:
    """A value date misread, or a year: the file is kept for people, with the line and why."""
    async def story(world: World) -> None:
        world.bank.fault("push_off")
        bad = world.receive(7)
        world.bank._lines[bad.seq] = world.bank._waiting[-1] = replace(bad, booked_ms=bad.booked_ms + days * 86_400_000)
        world.receive(8)

    world = play(story, wire=wire, until=HALF_AN_HOUR)
    assert [amount for *_, amount in kept(world)] == [8]
    [file] = files(world, "QUARANTINED")
    assert (file["accepted"], file["refused"]) == (1, 1)
    assert ("days ahead" if days > 0 else "months back") in file["reason"] and ":13D:" in file["reason"]
    [alert] = world.of_kind("alert")
    assert alert["rule"] == "HSBC-01" and "line 1" in alert["detail"]


@WIRES
@pytest.mark.req("STMT-06")
def test_with_push_disabled_everything_arrives_by_sftp(wire: str) -> None:
    async def story(world: World) -> None:
        world.bank.fault("push_off")
        for number in range(30):
            world.receive(1_000 + number, ccy=("HKD", "USD", "CNH")[number % 3])
            await asyncio.sleep(97)
        await asyncio.sleep(HALF_AN_HOUR)

    world = play(story, wire=wire)
    assert kept(world) == booked(world) and len(kept(world)) == 30
    assert set(world.sources()) == {"sftp"}
    assert max(file["accepted"] for file in files(world, "TAKEN")) > 1  # several messages in a file


@pytest.mark.req("STMT-06")
def test_a_bank_that_never_pushes_at_all() -> None:
    """No server of ours, no webhook: the pull alone."""

    async def story(world: World) -> None:
        await world.core.stop()
        world.core.collector._lines = world.core.collector._lines._replace(listen=None)
        await world.core.start()
        world.receive()

    world = play(story, until=HALF_AN_HOUR, wire="messages")
    assert kept(world) == booked(world) and world.sources() == ["sftp"]


@WIRES
@pytest.mark.req("STMT-05")
def test_an_entry_says_what_the_fields_say(wire: str) -> None:
    async def story(world: World) -> None:
        world.receive(1_234_567, name="CHAN TAI MAN " + "VERY LONG NAME " * 3, remark="DEPOSIT OF 10000001")
        world.receive(5, ccy="CNH", name="")

    world = play(story, wire=wire, until=60)
    first, second = sorted(world.final_flows, key=lambda flow: flow.bank_ref)  # type: ignore[attr-defined]
    assert (first.bank_ref, first.our_account, first.ccy, first.amount, first.dr_cr) == (
        "HSBC000000000001", "808000000011", "HKD", 1_234_567, "C")
    assert first.en_name == ("CHAN TAI MAN " + "VERY LONG NAME " * 3).strip() and first.payer_acct == "012345678901"
    assert first.remark == "DEPOSIT OF 10000001" and first.credit_time == world.bank._lines[1].booked_ms
    assert (second.our_account, second.ccy, second.amount, second.en_name) == ("808000000013", "CNH", 5, "")
    assert second.remark == "HSBCHKHHXXX"  # the ordering institution stands in :52A:


SEALS: dict[str, tuple[dict[str, Any], str]] = {
    "truncated_armor": ({}, "truncated"),
    "corrupted": ({}, "malformed"),
    "unsigned": ({}, "bad signature"),
    "wrong_key signer": ({"whose": "signer"}, "bad signature"),
    "wrong_key recipient": ({"whose": "recipient"}, "wrong key"),
}


@WIRES
@pytest.mark.req("STMT-04")
@pytest.mark.parametrize("what", SEALS)
def test_a_file_that_is_not_the_banks_is_quarantined_and_not_imported(wire: str, what: str) -> None:
    given, reason = SEALS[what]

    async def story(world: World) -> None:
        world.bank.fault(what.split()[0], **given)
        world.receive()

    world = play(story, wire=wire, until=HALF_AN_HOUR)
    assert not kept(world) and not files(world, "TAKEN")
    quarantined = files(world, "QUARANTINED")
    assert [file["source"] for file in quarantined] == ["push", "sftp"]
    for file in quarantined:
        if what == "corrupted":  # where the byte falls decides what is seen of it
            assert file["reason"]
        else:
            assert file["reason"].startswith(reason)
        assert base64.b64decode(file["contents"])  # kept
    alerts = world.alerts("HSBC-01")
    assert len(alerts) == 2 and {alert["severity"] for alert in alerts} == {"High"}
    assert [alert["key"] for alert in alerts] == [file["name"] for file in quarantined]


@WIRES
@pytest.mark.req("STMT-04")
def test_a_quarantined_push_comes_by_the_pull(wire: str) -> None:
    async def story(world: World) -> None:
        world.bank.fault("unsigned", message="push")
        world.receive()

    world = play(story, wire=wire, until=HALF_AN_HOUR)
    assert kept(world) == booked(world) and world.sources() == ["sftp"]
    assert len(files(world, "QUARANTINED")) == len(world.alerts("HSBC-01")) == 1


@WIRES
@pytest.mark.parametrize("amount", ["same", "other"])
def test_a_reference_that_comes_twice_is_one_flow_and_another_amount_an_alert(wire: str, amount: str) -> None:
    async def story(world: World) -> None:
        world.bank.fault("duplicate_reference", amount=amount, message="batch")
        world.receive()

    world = play(story, wire=wire, until=HALF_AN_HOUR)
    assert kept(world) == booked(world)
    assert len(world.alerts("HSBC-02")) == (1 if amount == "other" else 0)
    assert sum(file["duplicate"] for file in files(world, "TAKEN")) == 2


def test_a_reference_that_contradicts_itself_within_one_file_is_an_alert() -> None:
    async def story(world: World) -> None:
        world.bank.fault("duplicate_reference", amount="other", count=1)
        world.receive()

    world = play(story, wire="messages", until=60)
    assert kept(world) == booked(world) and len(world.alerts("HSBC-02")) == 1


@WIRES
@pytest.mark.parametrize("code", GARBLED)
def test_a_message_that_breaks_a_rule_is_refused_and_the_others_of_its_file_are_taken(wire: str, code: str) -> None:
    async def story(world: World) -> None:
        world.bank.fault("push_off")
        good, bad, last = world.receive(1), world.receive(2), world.receive(3)
        assert good and last
        world.bank.fault("garbled", code=code, reference=bad.reference)

    world = play(story, wire=wire, until=HALF_AN_HOUR)
    assert [amount for _, _, amount in kept(world)] == [1, 3]
    (file,) = files(world, "QUARANTINED")
    assert (file["accepted"], file["refused"]) == (2, 1) and f" {code} " in file["reason"]
    assert file["contents"] and len(world.alerts("HSBC-01")) == 1


@WIRES
def test_a_late_file_is_taken_when_it_comes(wire: str) -> None:
    async def story(world: World) -> None:
        world.bank.fault("late_file", delay_s=3_600.0, count=2)
        world.receive()
        await asyncio.sleep(900)
        world.receive()  # its files are laid out before those of the first
        await asyncio.sleep(5_400)

    world = play(story, wire=wire)
    assert kept(world) == booked(world) and len(kept(world)) == 2
    assert [data["ref"] for data in world.of_kind("statement")] == ["HSBC000000000002", "HSBC000000000001"]
    (alert,) = world.alerts("HSBC-04")
    assert "HSBC000000000001" in alert["detail"]


@WIRES
def test_a_file_without_its_ring_is_taken_at_the_next_pull(wire: str) -> None:
    async def story(world: World) -> None:
        world.bank.fault("lost_webhook")
        world.receive()
        await asyncio.sleep(60)
        assert [file["state"] for file in await world.files()] == ["NEW"] and not await world.flows()

    world = play(story, wire=wire, until=HALF_AN_HOUR)
    assert kept(world) == booked(world) and world.sources() == ["push"]


@WIRES
def test_a_bank_that_is_down_is_told_of_and_missed_files_are_fetched(wire: str) -> None:
    async def story(world: World) -> None:
        world.bank.fault("push_off")
        down = world.bank.fault("sftp_down")
        world.receive()
        await asyncio.sleep(HALF_AN_HOUR + 300)
        assert len(world.alerts("HSBC-03")) == 1 and not await world.flows()
        world.bank.clear(down)

    world = play(story, wire=wire, until=HALF_AN_HOUR)
    assert kept(world) == booked(world)
    assert [data["phase"] for data in world.of_kind("alert") if data["rule"] == "HSBC-03"] == ["raised", "cleared"]


@WIRES
def test_nothing_is_asked_or_told_during_maintenance(wire: str) -> None:
    """Sunday 00:00 to 08:00 (gaps.md B-17)."""

    async def story(world: World) -> None:
        world.receive()
        await asyncio.sleep(8 * 3_600)
        assert not await world.flows() and not world.of_kind("bank.request")

    world = play(story, wire=wire, start="2026-03-15 00:00", until=HALF_AN_HOUR)
    assert kept(world) == booked(world) and not world.alerts("HSBC-03")


@WIRES
def test_a_core_that_dies_loses_nothing_that_the_bank_heard_as_done(wire: str) -> None:
    async def story(world: World) -> None:
        world.bank.fault("lost_webhook")
        world.receive(1)
        await asyncio.sleep(60)  # dropped, not taken
        world.core.kill()
        world.receive(2)
        await asyncio.sleep(60)  # nobody is there
        await world.restart()
        assert [flow.amount for flow in await world.flows()] == [1]
        await asyncio.sleep(HALF_AN_HOUR)

    world = play(story, wire=wire)
    assert kept(world) == booked(world) and len(kept(world)) == 2


def test_a_push_that_fails_is_tried_again() -> None:
    async def story(world: World) -> None:
        network = world.places.network
        assert network is not None
        network.partition("hsbc", "core-sftp")
        world.receive()
        await asyncio.sleep(40)  # the bank has given up once
        network.heal("hsbc", "core-sftp")

    world = play(story, until=60)
    assert kept(world) == booked(world) and world.sources() == ["push"]


def test_a_session_that_breaks_is_opened_anew() -> None:
    async def story(world: World) -> None:
        network = world.places.network
        assert network is not None
        world.receive(1)
        await asyncio.sleep(60)
        assert network.reset("hsbc", "core-sftp") == 1
        world.receive(2)

    world = play(story, until=60)
    assert kept(world) == booked(world) and world.sources() == ["push", "push"]


def test_a_file_beyond_the_limit_is_neither_kept_whole_nor_taken() -> None:
    async def story(world: World) -> None:
        for number in range(30):
            world.receive(1 + number)
        world.bank.fault("push_off")

    world = play(story, wire="messages", until=HALF_AN_HOUR, settings={"hsbc.file.limit": 2_000})
    (file,) = files(world, "QUARANTINED")
    assert "larger than 2000 bytes" in file["reason"] and not kept(world)
    assert len(base64.b64decode(file["contents"])) == 2_001


def test_an_account_that_is_not_ours_and_a_currency_that_is_not_the_accounts_are_refused() -> None:
    async def story(world: World) -> None:
        world.bank.our_accounts.update({"HKD": "808000000099", "USD": "808000000011"})
        world.receive(1)
        world.receive(2, ccy="USD")

    world = play(story, wire="messages", until=60)
    reasons = sorted(file["reason"] for file in files(world, "QUARANTINED"))
    assert not kept(world) and len(reasons) == 2
    assert "808000000099 is no account of ours" in reasons[0] and "USD on an account in HKD" in reasons[1]


def test_messages_and_full_end_alike() -> None:
    async def story(world: World) -> None:
        world.bank.fault("unsigned", message="push", share=0.3)
        world.bank.fault("duplicate_reference", share=0.3)
        for number in range(20):
            world.receive(1_000 + number, ccy=("HKD", "USD", "CNH")[number % 3])
            await asyncio.sleep(61)
        await asyncio.sleep(HALF_AN_HOUR)

    full, messages = play(story, wire="full"), play(story, wire="messages")
    assert kept(full) == kept(messages) == booked(full)
    for state in ("TAKEN", "QUARANTINED"):
        assert sorted((file["source"], file["accepted"], file["duplicate"]) for file in files(full, state)) == sorted(
            (file["source"], file["accepted"], file["duplicate"]) for file in files(messages, state))


def test_the_same_seed_gives_the_same_events_although_the_bytes_differ() -> None:
    ciphertexts: list[bytes] = []

    async def story(world: World) -> None:
        with determinism_guard(world.loop):
            for fault in ("unsigned", "late_file", "garbled", "double_push"):
                world.bank.fault(fault, share=0.3)
            for number in range(20):
                world.receive(1_000 + number, ccy=("HKD", "USD", "CNH")[number % 3])
                await asyncio.sleep(61)
            await asyncio.sleep(2 * HALF_AN_HOUR)
        ciphertexts.append(b"".join(file.content for _, file in world.bank.files.under("/outbound/mt910")))

    first, second = play(story), play(story)
    assert ciphertexts[0] != ciphertexts[1]
    assert first.events == second.events and len(first.events) > 100
    assert play(story, seed=8).events != first.events


def test_raw_rows_keep_the_banks_own_text() -> None:
    raw: list[str] = []

    async def story(world: World) -> None:
        from sqlalchemy import select

        from core.storage import Sharded
        from core.storage.primary import bank_flows

        world.receive()
        await asyncio.sleep(60)
        raw.extend(row[0] for row in await world.databases.primary.all(
            Sharded(lambda t: select(t.c.raw), bank_flows)["hsbc"], {}))

    play(story, wire="messages")
    (message,) = [read(text.encode())[0] for text in raw]
    assert message.reference == "HSBC000000000001"  # type: ignore[union-attr]


def test_every_fault_is_told_here() -> None:
    told = {what.split()[0] for what in SEALS} | {
        "duplicate_reference", "garbled", "late_file", "push_off", "push_with_batch", "double_push", "lost_webhook",
        "sftp_down"}
    assert told == set(FAULTS)
