"""The platform's lines to CMB and CMBC: heartbeats, failover and return, both servers away, keys, alerts."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from platform_world import BANKS, CARDS, HELD, PAID, START, Scene, at_bank, steady

from core.alerts import NOTIFY, RULES
from core.banks.socket.callbacks import CallbackRatios
from core.clock import US_PER_S
from core.settings import Settings
from core.trace import Event, Trace
from emulators.bst.bank import SocketBank
from tests.rig import Rig, play

OTHER = {"cmb": "cmbc", "cmbc": "cmb"}
DEDUCTED = "pending(deduct_done)"
P, B, BOTH = "primary", "backup", "both"


def times(scene: Scene, kind: str, **wanted: Any) -> list[float]:
    """Virtual seconds of the events of a kind, by what they say."""
    return [event[1] / US_PER_S for event in scene.rig.events
            if event[2] == kind and all(event[4].get(key) == value for key, value in wanted.items())]


def active(scene: Scene) -> list[str]:
    """The servers that became active, in order."""
    return [one["server"] for one in scene.rig.of_kind("bank.line", bank=scene.name, phase="active")]


def lost(scene: Scene) -> list[tuple[float, str, str]]:
    """(virtual seconds, server, reason) of every connection that was lost."""
    return [(event[1] / US_PER_S, event[4]["server"], event[4]["reason"]) for event in scene.rig.events
            if event[2] == "bank.line" and (event[4]["bank"], event[4]["phase"]) == (scene.name, "lost")]


def raised(scene: Scene, rule: str = "SOCK-01") -> list[float]:
    """When this alert was raised for this bank."""
    return times(scene, "alert", rule=rule, key=scene.name, phase="raised")


async def frames(scene: Scene, seconds: int) -> tuple[list[float], list[float]]:
    """Moments at which the bank and the platform heard a frame on the active connection, looked at every 50 ms."""
    ours = scene.rooms.gateway.servers.active
    (theirs,) = scene.bank.servers[ours.server].connections
    heard: tuple[list[float], list[float]] = ([], [])
    for _ in range(seconds * 20):
        for moments, end in zip(heard, (theirs, ours), strict=True):
            if end._heard_us != (moments or [0])[-1]:
                moments.append(end._heard_us)
        await asyncio.sleep(0.05)
    return tuple([at / US_PER_S for at in moments] for moments in heard)  # type: ignore[return-value]


# --- heartbeats -------------------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-02")
@pytest.mark.parametrize("wire", ["messages", "full"])
@pytest.mark.parametrize("bank", BANKS)
def test_heartbeats_run_every_20_s_in_both_directions_and_keep_a_quiet_line_alive(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(30)
        for _ in range(3):
            scene.bank.fault("silent_heartbeats", for_s=20)  # what the bank hears now is our beat, no answer
            beats, _ = await frames(scene, 20)
            assert [round(later - earlier) for earlier, later in pairwise(beats)] == [20]
            await asyncio.sleep(40)
        for heard in await frames(scene, 200):
            assert max(later - earlier for earlier, later in pairwise(heard)) < 21
        await asyncio.sleep(6 * 3600)
        assert not lost(scene) and active(scene) == [P]

    at_bank(bank, story, wire=wire if bank == "cmb" else "messages")


@pytest.mark.req("SOCK-02", "MON-05")
@pytest.mark.parametrize("wire", ["messages", "full"])
@pytest.mark.parametrize("bank", BANKS)
def test_a_gap_above_60_s_is_a_dead_connection_and_told_of_this_bank_only(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(100)
        scene.bank.fault("silent_heartbeats", for_s=30)  # a beat or two are missed: a gap of 40 s
        await asyncio.sleep(100)
        assert not lost(scene)
        scene.bank.fault("silent_heartbeats", for_s=100)
        last = 0.0
        while not lost(scene):
            last = scene.rooms.gateway.servers.active._heard_us / US_PER_S
            await asyncio.sleep(0.01)
        ((at, server, reason),) = lost(scene)
        assert (server, reason) == (P, "no frame for 60 s")
        assert at - last == pytest.approx(60, abs=0.001)
        assert raised(scene) == [at]
        await asyncio.sleep(5)
        assert scene.active == B
        other = Scene(scene.rig, OTHER[bank])
        assert not raised(other) and not lost(other) and other.active == P

    at_bank(bank, story, wire=wire)


# --- one server lost --------------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-09", "ALERT-SOCK-01")
@pytest.mark.parametrize("wire", ["messages", "full"])
@pytest.mark.parametrize("bank", BANKS)
def test_a_dropped_connection_is_told_at_once_and_the_backup_takes_over(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(30)
        task = await scene.withdraw()
        await asyncio.sleep(0.2)
        scene.bank.fault("drop", for_s=60)
        bob = await scene.withdraw("bob")
        await asyncio.sleep(20)
        ((at, _, _),) = lost(scene)
        (switched,) = times(scene, "bank.line", bank=bank, phase="active", server=B)
        assert raised(scene) == [at] and at < switched < at + 2  # raised while the switch happens, not after it
        assert RULES["SOCK-01"].severity == "Critical" and NOTIFY["Critical"] == "P0"
        assert times(scene, "alert", rule="SOCK-01", key=bank, phase="cleared") == [switched]
        for one in (task, bob):
            assert (await scene.of_task(one))["state"] == "end_ok(transfer_done)"
        assert len(scene.booked("pay")) == 2 and scene.heard("withdraw")[-1][1] == B
        assert [await scene.money(who) for who in ("alice", "bob")] == [PAID, PAID]

    at_bank(bank, story, wire=wire)


@pytest.mark.req("SOCK-09")
@pytest.mark.parametrize("wire", ["messages", "full"])
@pytest.mark.parametrize("bank", BANKS)
def test_back_to_the_primary_after_ten_minutes_of_stable_heartbeats(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("drop", for_s=65)
        await asyncio.sleep(300)
        scene.bank.fault("drop", for_s=5)  # the watched primary breaks off: the ten minutes begin anew
        again = scene.rig.now_ms / 1000
        await asyncio.sleep(560)
        assert scene.active == B
        await scene.withdraw()
        await asyncio.sleep(3600)
        assert active(scene) == [P, B, P]
        back = times(scene, "bank.line", bank=bank, phase="active", server=P)[-1]
        assert 600 < back - again < 600 + 40  # and the time to notice that it is there
        assert len(raised(scene)) == 2  # both interruptions, though the second switched nothing
        assert scene.over("withdraw") == [B]
        assert not scene.bank.servers[B].connections  # signed off and closed
        assert await scene.money() == PAID

    at_bank(bank, story, wire=wire)


@pytest.mark.req("SOCK-07")
@pytest.mark.parametrize("bank", BANKS)
def test_minus_5_goes_to_the_backup_without_an_alert_and_stays_there_for_ten_minutes(bank: str) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(1200)  # the primary has been steady for long
        scene.bank.fault("answer_minus5", processed=False, count=1)
        await scene.withdraw()
        await asyncio.sleep(590)
        assert scene.active == B and not lost(scene)
        await asyncio.sleep(60)
        assert active(scene) == [P, B, P]
        assert scene.over("withdraw") == [P, B] and not scene.alerts()

    at_bank(bank, story)


@pytest.mark.req("SOCK-07")
@pytest.mark.parametrize("bank", BANKS)
def test_many_at_once_over_two_failing_servers_are_sent_once_over_each(bank: str) -> None:
    """Both servers say -5 and have done nothing: the switches do not chase each other, and no instruction goes twice
    over one server."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("answer_minus5", processed=False, for_s=240)
        for who in ("alice", "bob"):
            for _ in range(3):
                await scene.withdraw(who, amount=10_000)
                await asyncio.sleep(0.3)
        await asyncio.sleep(200)
        sent: dict[str, list[str]] = {}
        for _, server, reference in scene.heard("withdraw"):
            sent.setdefault(reference, []).append(server)
        assert len(sent) == 6
        assert {tuple(sorted(over)) for over in sent.values()} == {(B, P)}
        assert len(active(scene)) <= 6 and not scene.booked("pay")

    at_bank(bank, story)


@pytest.mark.parametrize("bank", BANKS)
def test_a_backup_that_is_lost_hands_over_to_the_primary_at_once(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("drop", for_s=1)
        await asyncio.sleep(60)
        assert scene.active == B
        scene.bank.fault("drop", server=B, for_s=60)
        await asyncio.sleep(2)
        assert scene.active == P and len(raised(scene)) == 2

    at_bank(bank, story)


@pytest.mark.parametrize("bank", BANKS)
def test_a_sign_on_whose_answer_was_lost_does_not_leave_the_pushes_to_nobody(bank: str) -> None:
    """-5 makes the platform sign on at the backup; the bank hears it, its answer is lost, the connection is given up.
    Now the bank pushes to nobody, though the primary stands: it is signed on anew, and what was pushed is fetched."""

    async def story(scene: Scene) -> None:
        await asyncio.sleep(30)
        scene.bank.fault("timeout", message="sign_on", server=B)
        scene.bank.fault("answer_minus5", processed=False, count=1)
        task = await scene.withdraw()
        await asyncio.sleep(5)
        reference = scene.asks("deposit", "bob")
        await asyncio.sleep(60)
        assert scene.bank.state()["signed_on"] == scene.active == P
        assert (await scene.of_task(task))["state"] == "end_ok(transfer_done)"
        assert reference in [row[2] for row in await scene.pushes()]
        assert await scene.money("bob") == {**START, "available": 11_000_000}

    at_bank(bank, story)


# --- both servers away ------------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-10")
@pytest.mark.parametrize("wire", ["messages", "full"])
@pytest.mark.parametrize("bank", BANKS)
def test_with_both_servers_away_new_withdrawals_wait_none_fails_and_they_go_out_on_return(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        other = Scene(scene.rig, OTHER[bank])
        scene.bank.fault("drop", server=BOTH, for_s=1800)
        await asyncio.sleep(2)
        tasks = [await scene.withdraw(), await scene.withdraw("bob")]
        beside = await other.withdraw("bob")
        for _ in range(17):
            await asyncio.sleep(100)
            assert [(await scene.of_task(task))["state"] for task in tasks] == [DEDUCTED] * 2
        assert scene.active is None and not scene.heard("withdraw")
        assert await scene.money() == HELD
        assert (await other.of_task(beside))["state"] == "end_ok(transfer_done)"  # the other bank knows nothing of it
        assert len(raised(scene)) == 1 and not raised(other)
        await asyncio.sleep(200)
        assert [(await scene.of_task(task))["state"] for task in tasks] == ["end_ok(transfer_done)"] * 2
        assert len(scene.booked("pay")) == 2 and len(scene.heard("withdraw")) == 2

    at_bank(bank, story, wire=wire)


@pytest.mark.req("SOCK-10")
@pytest.mark.parametrize("bank", BANKS)
def test_what_waits_for_the_channel_is_deferred_when_the_market_closes(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("drop", server=BOTH, for_s=3600)
        await asyncio.sleep(2)
        task = await scene.withdraw()
        await scene.rig.until("2026-03-12 16:14")
        assert (await scene.of_task(task))["state"] == DEDUCTED
        await scene.rig.until("2026-03-12 16:20")
        assert (await scene.of_task(task))["state"] == "pending(move_next)"
        await scene.rig.until("2026-03-13 07:10")
        shown = await scene.of_task(task)
        assert (shown["state"], shown["transaction_date"]) == ("end_ok(transfer_done)", 20260313)
        assert len(scene.booked("pay")) == 1

    at_bank(bank, story, start="2026-03-12 16:00")


@pytest.mark.parametrize("bank", BANKS)
def test_an_instruction_under_way_when_both_fall_is_asked_about_on_return_and_paid_once(bank: str) -> None:
    async def story(scene: Scene) -> None:
        task = await scene.withdraw()
        while not scene.heard("withdraw"):
            await asyncio.sleep(0.001)
        scene.bank.fault("drop", server=BOTH, for_s=1200)  # before the answer is here
        await asyncio.sleep(1190)
        assert (await scene.of_task(task))["state"] == "pending(transfer_auto)" and await scene.money() == HELD
        await asyncio.sleep(120)
        assert (await scene.of_task(task))["state"] == "end_ok(transfer_done)"
        assert len(scene.heard("withdraw")) == 1 and len(scene.booked("pay")) == 1

    at_bank(bank, story)


@pytest.mark.parametrize("bank", BANKS)
def test_connecting_again_is_tried_after_1_2_4_8_16_and_30_s(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("drop", server=BOTH, for_s=200)
        await asyncio.sleep(190)
        tried = [event[1] / US_PER_S for event in scene.rig.events if event[2] == "bank.line"
                 and (event[4]["bank"], event[4]["phase"], event[4]["server"]) == (bank, "unreachable", B)]
        waits = [later - earlier for earlier, later in pairwise(tried)]
        assert [round(wait) for wait in waits[:7]] == [1, 2, 4, 8, 16, 30, 30]
        await asyncio.sleep(40)
        assert scene.active is not None

    at_bank(bank, story)


# --- a connection for the whole day -----------------------------------------------------------------------------


@pytest.mark.req("SOCK-01")
@pytest.mark.parametrize("bank", BANKS)
def test_one_connection_lasts_for_days_and_renews_its_key_every_24_h_with_traffic_going_on(bank: str) -> None:
    async def story(scene: Scene) -> None:
        line, amounts = scene.rooms.gateway.servers.active, 0
        for hour in range(50):
            await asyncio.sleep(3600)
            if scene.bank.state()["open"]:
                amounts += 10_000
                scene.asks("deposit", "alice", amount=10_000)
            assert line.renewals == (hour + 1) // 24 or hour % 24 == 23  # at the very moment of the change
        await asyncio.sleep(60)
        assert scene.rooms.gateway.servers.active is line and not line.over
        (theirs,) = scene.bank.servers[P].connections
        assert theirs.renewals == line.renewals == 2
        assert await scene.money() == {**START, "available": 10_000_000 + amounts} and amounts > 300_000

    at_bank(bank, story)


@pytest.mark.req("SOCK-01")
@pytest.mark.parametrize("bank", BANKS)
def test_keys_change_under_full_traffic_in_sealed_and_signed_bytes(bank: str) -> None:
    """A new key every two seconds while both ends talk: nothing is refused, nothing is lost."""

    async def story(scene: Scene) -> None:
        line = scene.rooms.gateway.servers.active
        for number in range(30):
            scene.asks("deposit", "alice", amount=10_000)
            if number % 10 == 0:
                await scene.withdraw("bob", amount=10_000)
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        assert line.renewals >= 15 and not lost(scene)
        assert (await scene.money())["available"] == 10_300_000
        assert (await scene.money("bob"))["available"] == 9_970_000
        assert {row[3:] for row in await scene.pushes()} == {("push", "DONE")}

    at_bank(bank, story, wire="full", settings={"socket.key.renewal_s": 2})


@pytest.mark.req("SOCK-01")
@pytest.mark.parametrize("wire", ["messages", "full"])
@pytest.mark.parametrize("bank", BANKS)
def test_nothing_is_done_on_a_money_message_whose_signature_is_not_the_banks(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        fault = scene.bank.fault("bad_signature", message="deposit_push")
        reference = scene.asks("deposit")
        await asyncio.sleep(40)
        assert await scene.pushes() == [] and await scene.money() == START
        assert set(scene.alerts()) == {"SOCK-04"} and RULES["SOCK-04"].severity == "Critical"
        scene.bank.clear(fault)
        await asyncio.sleep(1900)
        assert [row[2] for row in await scene.pushes()] == [reference]
        assert (await scene.money())["available"] == 11_000_000

    at_bank(bank, story, wire=wire)


@pytest.mark.parametrize("bank", BANKS)
def test_a_core_that_finds_no_server_starts_all_the_same_and_connects_when_one_is_there(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("drop", server=BOTH, for_s=120)
        scene.rig.world.kill(5_000)
        await asyncio.sleep(60)
        assert scene.active is None and Scene(scene.rig, OTHER[bank]).active == P
        task = await scene.withdraw()
        await asyncio.sleep(180)
        assert (await scene.of_task(task))["state"] == "end_ok(transfer_done)"

    at_bank(bank, story)


# --- ratios of callbacks ----------------------------------------------------------------------------------------


class HandClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.ms = 1_773_288_000_000

    def now_ms(self) -> int:
        return self.ms

    def now_us(self) -> int:
        return self.ms * 1000


class Ratios:
    """The ratios of one bank, with what they tell."""

    def __init__(self) -> None:
        self.clock, self.events, self._refs = HandClock(), list[Event](), 0
        self._ratios = CallbackRatios("cmb", self.clock, Trace(self.clock, self.events.append), Settings())

    def learn(self, *codes: int) -> list[str]:
        """One result each of as many instructions."""
        self._refs += len(codes)
        return self.say(*(("result", f"R{self._refs + number}", code) for number, code in enumerate(codes)))

    def say(self, *said: tuple[str, str, int]) -> list[str]:
        """What the bank says: answer or result, reference, code; gives the rules told."""
        before = len(self.events)
        for what, ref, code in said:
            (self._ratios.answered if what == "answer" else self._ratios.learn)(ref, code)
        return [event[4]["rule"] for event in self.events[before:]]


@pytest.mark.req("ALERT-SOCK-02", "ALERT-SOCK-03")
@pytest.mark.parametrize(("code", "rule", "bad", "number", "told"), [
    (-5, "SOCK-02", 19, 19, False), (-5, "SOCK-02", 1, 20, False), (-5, "SOCK-02", 2, 20, True),
    (-5, "SOCK-02", 5, 100, False), (-5, "SOCK-02", 6, 100, True),
    (-6, "SOCK-03", 19, 19, False), (-6, "SOCK-03", 2, 20, False), (-6, "SOCK-03", 3, 20, True),
    (-6, "SOCK-03", 10, 100, False), (-6, "SOCK-03", 11, 100, True),
    (-7, "", 20, 20, False), (-1, "", 20, 20, False)])
def test_a_share_above_the_limit_of_at_least_20_callbacks_is_told(
    code: int, rule: str, bad: int, number: int, told: bool
) -> None:
    assert Ratios().learn(*[0] * (number - bad), *[code] * bad)[-1:] == ([rule] if told else [])
    if rule:
        assert RULES[rule].severity == "High"


@pytest.mark.req("ALERT-SOCK-02")
def test_only_the_last_15_minutes_count_and_the_alert_is_quiet_for_half_an_hour() -> None:
    ratios = Ratios()
    assert ratios.learn(*[-5] * 20) == ["SOCK-02"]
    ratios.clock.ms += 29 * 60_000
    assert ratios.learn(*[0] * 10, *[-5] * 10) == []  # told less than half an hour ago
    ratios.clock.ms += 60_000
    assert ratios.learn(-5) == ["SOCK-02"]
    ratios.clock.ms += 15 * 60_000
    assert ratios.learn(*[0] * 19) == ratios.learn(-5) == []  # what was before is forgotten: 1 of 20


Said = list[tuple[str, str, int]]
TAKEN_ON: Said = [(what, f"ok{number}", 0) for number in range(18) for what in ("answer", "result")]
ONCE: list[tuple[str, Said, list[str]]] = [
    ("3 of 21 are rejected: taken on is no callback", [("answer", "a", 0), ("result", "a", -6), ("answer", "b", 0),
     ("result", "b", -6), ("answer", "c", 0), ("result", "c", -6)], ["SOCK-03"]),
    ("refused in the answer is one", [("answer", ref, -6) for ref in "abc"], ["SOCK-03"]),
    ("one rejection, pushed again and again", [("result", "a", -6)] * 5 + [("result", "b", 0)] * 5, []),
    ("an instruction sent again is one", [("answer", "a", -5), ("answer", "a", -4), ("answer", "a", -5),
                                          ("result", "b", 0)], []),
    ("a timeout whose result comes stays a timeout of one instruction",
     [("answer", "a", -5), ("result", "a", 0), ("answer", "b", -5), ("result", "b", 0)], ["SOCK-02"]),
    ("too few instructions, though many callbacks", [("result", "a", -6), ("result", "a", -5), ("result", "a", 0)], []),
]


@pytest.mark.req("ALERT-SOCK-02", "ALERT-SOCK-03")
@pytest.mark.parametrize(("said", "told"), [row[1:] for row in ONCE], ids=[row[0] for row in ONCE])
def test_an_instruction_counts_once_however_often_the_bank_speaks_of_it(said: Said, told: list[str]) -> None:
    assert Ratios().say(*TAKEN_ON, *said) == told


@pytest.mark.req("ALERT-SOCK-03")
@pytest.mark.parametrize(("every", "told"), [(7, True), (15, False)])
def test_the_share_of_rejections_is_of_the_withdrawals(every: int, told: bool) -> None:
    """Each withdrawal has an answer and a result; only the result is a callback."""

    async def story(scene: Scene) -> None:
        for turn in range(30):
            if turn % every == 0:
                scene.bank.fault("reject", message="withdraw", count=1)
            await scene.withdraw("alice" if turn % 2 else "bob", amount=10_000)
            await asyncio.sleep(14)
        await asyncio.sleep(60)
        assert bool(raised(scene, "SOCK-03")) is told

    at_bank("cmb", story)


@pytest.mark.req("ALERT-SOCK-03")
def test_a_rejection_that_is_pushed_again_and_again_is_one() -> None:
    async def story(scene: Scene) -> None:
        for _ in range(20):
            await scene.withdraw(amount=10_000)
            await asyncio.sleep(14)
        scene.bank.fault("lost_ack", message="result")
        scene.bank.fault("reject", message="withdraw", count=1)
        await scene.withdraw(amount=10_000)
        await asyncio.sleep(60)
        assert len([one for one in scene.rig.of_kind("bank.push", message="push.result") if one["code"] == -6]) > 3
        assert not raised(scene, "SOCK-03")

    at_bank("cmb", story)


@pytest.mark.req("ALERT-SOCK-02", "ALERT-SOCK-03")
@pytest.mark.parametrize(("fault", "given", "rule"), [
    ("reject", {}, "SOCK-03"), ("timeout", {"message": "withdraw", "processed": False}, "SOCK-02"),
    ("answer_minus5", {}, "SOCK-02")])
@pytest.mark.parametrize("bank", BANKS)
def test_a_storm_at_one_bank_is_told_of_that_bank(bank: str, fault: str, given: dict[str, Any], rule: str) -> None:
    async def story(scene: Scene) -> None:
        other = Scene(scene.rig, OTHER[bank])
        for at in (scene, other):
            for _ in range(15):
                await at.withdraw(amount=10_000)
                await asyncio.sleep(1)
        assert not scene.alerts()
        scene.bank.fault(fault, **given)
        for _ in range(10):
            await scene.withdraw("bob", amount=10_000)
            await asyncio.sleep(3)
        await asyncio.sleep(60)
        assert len(raised(scene, rule)) == 1 and not raised(other, rule)

    at_bank(bank, story)


# --- the two banks are two --------------------------------------------------------------------------------------


def test_one_banks_silence_does_not_hold_up_the_other() -> None:
    """CMB takes connections and says nothing: a core that starts serves CMBC all the same."""

    async def story(rig: Rig) -> None:
        banks: dict[str, SocketBank] = {name: rig.world.sockets[name].bank for name in BANKS}
        banks["cmb"].fault("timeout", message="sign_on", for_s=300)
        rig.world.kill(1_000)
        await asyncio.sleep(3)
        assert rig.core.sockets["cmbc"].gateway.available
        assert not rig.core.sockets["cmb"].gateway.available

    play(story, settings=steady(), cards=CARDS)
