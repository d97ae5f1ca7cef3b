"""What CMB and CMBC push, and what the platform makes of it: kept, acknowledged, booked once, fetched if missed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from platform_world import BANKS, CREDITED, PAID, START, Scene, at_bank
from sqlalchemy import select

from core.clock import hkt
from core.domain import Market, TaskStatus
from core.screening import Kind, ListName, Value
from core.storage import Statement
from core.storage.primary import cmb_list, ms_list, tasks
from core.wire.socket import messages as m
from tests.rig import SUPERVISOR

ROWS = {"cmb": (cmb_list, cmb_list.c.bank_tx_seq), "cmbc": (ms_list, ms_list.c.org_ref_no)}
TASKS = Statement(select(tasks.c.id, tasks.c.bank_launched, tasks.c.template, tasks.c.request_id, tasks.c.status)
                  .order_by(tasks.c.id))
PUSHED = {"deposit": m.DEPOSIT_PUSH, "withdrawal": m.BANK_WITHDRAWAL, "result": m.TRANSFER_RESULT,
          "notice": m.SIGN_NOTICE}
WIRES = pytest.mark.parametrize("wire", ["messages", "full"])
EACH_BANK = pytest.mark.parametrize("bank", BANKS)


async def listed(scene: Scene) -> list[tuple[Any, ...]]:
    """(reference, state, task) of the bank's list of withdrawals begun there (DB-07)."""
    table, reference = ROWS[scene.name]
    rows = await scene.rig.world.databases.primary.all(
        Statement(select(reference, table.c.state, table.c.task_id).order_by(table.c.id)), {})
    return list(rows)


async def launched(scene: Scene) -> list[tuple[Any, ...]]:
    """Every Task that began at a bank."""
    return [row for row in await scene.rig.world.databases.primary.all(TASKS, {}) if row[1]]


def sends(scene: Scene) -> list[int]:
    """How often the bank has sent each push, by number."""
    return [push.sends for push in scene.bank.desk.pushes.since(0)]


def standing(scene: Scene) -> list[str]:
    """What the bank thinks of each push: ACKNOWLEDGED, UNDELIVERED, LOST."""
    return [push.status for push in scene.bank.desk.pushes.since(0)]


def wish_at_bank(scene: Scene, reference: str) -> str:
    """Status of a customer's withdrawal there: NOTED, TAKEN, REFUSED, LAPSED."""
    return scene.bank._wishes[reference].status


# --- kept, then acknowledged ------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-05")
@WIRES
@EACH_BANK
def test_a_push_is_acknowledged_only_when_it_is_kept_and_then_it_is_not_repeated(bank: str, wire: str) -> None:
    """The core dies at the very acknowledgement: the bank has not heard it, our books have the deposit."""

    async def story(scene: Scene) -> None:
        scene.rig.world.traps.arm(f"{bank} {m.DEPOSIT_PUSH} PUSH_ACK", 20_000, 1)
        reference = scene.asks("deposit")
        await asyncio.sleep(10)
        assert scene.rig.world.kills == 1 and "ACKNOWLEDGED" not in standing(scene)
        await asyncio.sleep(60)
        # kept by the core that died: the next one did not have to fetch it
        assert [row[1:] for row in await scene.pushes()] == [("DEPOSIT", reference, "push", "DONE")]
        assert await scene.money() == CREDITED
        scene.asks("deposit", "bob")
        await asyncio.sleep(60)
        assert (sends(scene)[-1], standing(scene)[-1]) == (1, "ACKNOWLEDGED")

    at_bank(bank, story, wire=wire)


@pytest.mark.req("SOCK-05")
@WIRES
@EACH_BANK
def test_what_is_not_kept_is_not_acknowledged_and_comes_again(bank: str, wire: str) -> None:
    """The core dies before it hears the push: nothing is kept, and the next core fetches it."""

    async def story(scene: Scene) -> None:
        scene.rig.world.traps.arm(f"{bank} {m.DEPOSIT_PUSH} PUSH", 2_000, 1)
        scene.asks("deposit")
        await asyncio.sleep(60)
        assert scene.rig.world.kills == 1
        assert [row[3:] for row in await scene.pushes()] == [("helper" if bank == "cmb" else "repull", "DONE")]
        assert await scene.money() == CREDITED and len(scene.booked("collect")) == 1

    at_bank(bank, story, wire=wire)


@pytest.mark.req("SOCK-05")
@WIRES
@EACH_BANK
def test_a_push_whose_acknowledgement_is_lost_is_repeated_every_5_s_and_booked_once(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("lost_ack", count=3)
        scene.asks("deposit")
        began = scene.rig.now_ms
        while "ACKNOWLEDGED" not in standing(scene):
            await asyncio.sleep(0.1)
        assert 15_000 < scene.rig.now_ms - began < 18_000
        await asyncio.sleep(60)
        assert sends(scene) == [4] and len(await scene.pushes()) == 1
        assert await scene.money() == CREDITED and not scene.alerts()

    at_bank(bank, story, wire=wire)


# --- told again -------------------------------------------------------------------------------------------------


async def everything(scene: Scene) -> tuple[Any, ...]:
    """What a second telling must not change."""
    world, rig = scene.rig.world, scene.rig
    return (await scene.money(), await scene.money("bob"), await scene.transfers(), await listed(scene),
            await world.databases.primary.all(TASKS, {}), len(rig.of_kind("apply")), len(rig.of_kind("task")),
            len(rig.of_kind("procedure")), len(rig.of_kind("posting")), len(rig.of_kind("bank.book")),
            len(rig.of_kind("notify")))


def again(scene: Scene, kind: str, *, fresh: bool) -> None:
    """The bank tells the latest push of a kind once more, under its own number or another."""
    desk = scene.bank.desk
    push = [one for one in desk.pushes.since(0) if one.command == PUSHED[kind]][-1]
    desk.pushes.deliver(push if not fresh else desk._numbered(
        push.command, lambda seq: type(push.body)(**{**vars_of(push.body), "push_seq": seq}), push.customer))


def vars_of(body: m.Body) -> dict[str, Any]:
    return {name: getattr(body, name) for name in type(body).__dataclass_fields__}


@pytest.mark.req("DEDUP-07", "DEDUP-08", "SOCK-05")
@pytest.mark.parametrize("restarted", [False, True], ids=["", "after a restart"])
@pytest.mark.parametrize("fresh", [False, True], ids=["same number", "fresh number"])
@pytest.mark.parametrize("kind", list(PUSHED))
@EACH_BANK
def test_a_push_told_again_is_acknowledged_and_creates_nothing(
    bank: str, kind: str, fresh: bool, restarted: bool
) -> None:
    async def story(scene: Scene) -> None:
        await scene.withdraw()
        scene.asks("deposit", "bob")
        await asyncio.sleep(10)
        scene.asks("withdraw", "bob")
        scene.bank.unsign("alice", "US")
        await asyncio.sleep(60)
        if restarted:
            scene.rig.world.kill(1_000)
            await asyncio.sleep(60)
        before, number = await everything(scene), len(await scene.pushes())
        again(scene, kind, fresh=fresh)
        await asyncio.sleep(60)
        assert await everything(scene) == before
        assert set(standing(scene)) == {"ACKNOWLEDGED"}
        assert len(await scene.pushes()) == number + fresh
        # a notice is no transaction: its like is another notice, and is told from it by its number only
        assert scene.alerts() == (["AIRSTAR-11"] if fresh and kind != "notice" else [])

    at_bank(bank, story)


@pytest.mark.req("DEDUP-07", "DEDUP-08")
@WIRES
@EACH_BANK
def test_a_deposit_pushed_under_the_reference_of_a_transfer_of_ours_creates_nothing(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        await scene.withdraw()
        await asyncio.sleep(30)
        before, (reference, *_) = await everything(scene), (await scene.transfers())[0]
        copy = scene.bank._transfer(reference, "deposit", scene.bank.customers()[0], "HK", "HKD", 1_000_000)
        scene.bank.desk.tell_deposit(copy)
        await asyncio.sleep(30)
        assert await everything(scene) == before
        assert [row[1:] for row in await scene.pushes()][-1] == ("DEPOSIT", reference, "push", "DUPLICATE")
        assert set(standing(scene)) == {"ACKNOWLEDGED"} and scene.alerts() == ["AIRSTAR-11"]

    at_bank(bank, story, wire=wire)


# --- recovery ---------------------------------------------------------------------------------------------------


def reports(scene: Scene) -> list[tuple[int, ...]]:
    """(requested, missing, injected, skipped) of each recovery that found something (B-43)."""
    return [tuple(one[name] for name in ("requested", "missing", "injected", "skipped"))
            for one in scene.rig.of_kind("recovery", bank=scene.name) if one["requested"]]


@pytest.mark.req("SOCK-03", "SOCK-04")
@WIRES
@EACH_BANK
def test_everything_missed_while_both_servers_were_away_is_fetched_each_once(bank: str, wire: str) -> None:
    """More than a fragment of deposits, and one of everything else."""

    async def story(scene: Scene) -> None:
        for _ in range(3):
            scene.asks("deposit", amount=10_000)
            await asyncio.sleep(5)
        scene.bank.fault("drop", server="both", for_s=600)
        await asyncio.sleep(5)
        for number in range(60):
            scene.asks("deposit", ("alice", "bob")[number % 2], amount=10_000)
        scene.asks("withdraw", "bob", amount=10_000)
        scene.bank.unsign("bob", "HKCC")
        await asyncio.sleep(700)
        assert (await scene.money())["available"] == 10_000_000 + 33 * 10_000
        assert (await scene.money("bob"))["available"] == 10_000_000 + 29 * 10_000
        rows = await scene.pushes()
        assert [row[0] for row in rows] == list(range(1, 67)) and {row[4] for row in rows} == {"DONE"}
        by = "helper" if bank == "cmb" else "repull"
        assert [row[3] for row in rows] == ["push"] * 3 + [by] * 62 + ["push"]
        assert reports(scene) == [(62, 62, 62, 0)]
        assert len(scene.booked("collect")) == 63 and len(scene.booked("pay")) == 1

    at_bank(bank, story, wire=wire)


@pytest.mark.req("SOCK-03", "SOCK-04")
@EACH_BANK
def test_what_is_known_already_is_skipped(bank: str) -> None:
    """Numbers 2 and 4 of 5 were never sent: the list after 1 has four entries, of which two are missing. They are here
    before the bank repeats what came behind the gap."""

    async def story(scene: Scene) -> None:
        for number in range(1, 6):
            if number in (2, 4):
                scene.bank.fault("lost_push", count=1)
            scene.asks("deposit", amount=10_000)
            await asyncio.sleep(30)
        assert (await scene.money())["available"] == 10_000_000 + 5 * 10_000
        by = "helper" if bank == "cmb" else "repull"
        assert [row[3] for row in await scene.pushes()] == ["push", by, by, by, by]
        assert reports(scene) == [(2, 2, 2, 0), (2, 2, 2, 0)]
        await scene.rooms.recovery.run()
        assert len(await scene.pushes()) == 5

    at_bank(bank, story)


@pytest.mark.req("SOCK-03", "SOCK-04")
@EACH_BANK
def test_an_agreement_whose_notice_was_missed_is_fetched_before_the_deposit_that_rests_on_it(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.unsign("alice", "HK")
        await asyncio.sleep(10)
        scene.bank.fault("lost_push", message="sign_notice", count=1)
        scene.bank.sign("alice", "HK")
        scene.asks("deposit")
        await asyncio.sleep(30)
        assert await scene.money() == CREDITED and not scene.alerts()

    at_bank(bank, story)


@EACH_BANK
def test_a_gap_that_the_recovery_cannot_close_holds_nothing_up(bank: str) -> None:
    """The list itself has left the missing entry out: what came behind it is taken at its first repetition."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("lost_push", count=1)
        missing = scene.asks("deposit", amount=10_000)
        await asyncio.sleep(10)
        lies = scene.bank.fault("list_disagrees", how="missing", message="list")
        scene.bank.fault("list_outage", for_s=5) if bank == "cmb" else scene.bank.fault("slow", message="list",
                                                                                     delay_s=30, count=1)
        scene.asks("deposit", "bob")
        await asyncio.sleep(20)
        assert await scene.money("bob") == CREDITED
        scene.bank.clear(lies)
        await asyncio.sleep(1900)
        assert missing in [row[2] for row in await scene.pushes()]
        assert (await scene.money())["available"] == 10_010_000

    at_bank(bank, story)


@pytest.mark.req("SOCK-04")
def test_a_re_pull_that_fails_is_tried_until_it_is_done_and_people_are_told_after_the_third() -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("drop", server="both", for_s=60)
        scene.bank.fault("timeout", message="list", processed=False, for_s=360)
        await asyncio.sleep(5)
        scene.asks("deposit")
        await asyncio.sleep(300)
        assert scene.alerts("SOCK-06") and await scene.money() == START
        await asyncio.sleep(200)
        assert await scene.money() == CREDITED and len(scene.alerts("SOCK-06")) == 1

    at_bank("cmbc", story)


@pytest.mark.req("SOCK-03")
def test_a_helper_that_fails_is_run_again() -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("drop", server="both", for_s=60)
        scene.bank.fault("list_outage", for_s=1500)
        await asyncio.sleep(5)
        scene.asks("deposit")
        await asyncio.sleep(1400)
        assert await scene.money() == START
        await asyncio.sleep(1900)
        assert await scene.money() == CREDITED

    at_bank("cmb", story)


@EACH_BANK
def test_the_last_push_of_a_quiet_day_is_found_without_a_gap_that_shows_it(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("lost_push", count=1)
        scene.asks("deposit")
        await asyncio.sleep(1900)
        assert await scene.money() == CREDITED

    at_bank(bank, story)


# --- what cannot be taken ---------------------------------------------------------------------------------------


def a_stranger(scene: Scene) -> str:
    """Somebody who is a customer of the bank and none of ours."""
    card = scene.bank.open_customer("stranger", "LEE STRANGER", "h", {"HKD": 5_000_000})
    scene.bank.grant("stranger")
    return card


def unsigned_here(scene: Scene) -> str:
    """The agreement has ended and the bank lets the customer move money all the same."""
    scene.bank.unsign("alice", "HK")
    scene.bank.grant("alice")
    return scene.card()


REFUSED: dict[str, Callable[[Scene], str]] = {"no customer of ours": a_stranger, "not signed": unsigned_here}


@pytest.mark.parametrize("why", list(REFUSED))
@EACH_BANK
def test_a_deposit_that_cannot_be_credited_is_kept_acknowledged_and_told_to_people(bank: str, why: str) -> None:
    async def story(scene: Scene) -> None:
        card = REFUSED[why](scene)
        await asyncio.sleep(10)
        started = scene.bank.customer_deposits(card, Market.HK, "HKD", 1_000_000)
        await asyncio.sleep(60)
        assert [row[1:] for row in await scene.pushes()][-1] == ("DEPOSIT", started.ref, "push", "REFUSED")
        assert scene.alerts() == ["DEP-08"] and set(standing(scene)) == {"ACKNOWLEDGED"}
        assert await scene.money() == START and not scene.rig.of_kind("apply")

    at_bank(bank, story)


@pytest.mark.parametrize("why", [*REFUSED, "insufficient balance"])
@EACH_BANK
def test_a_withdrawal_that_we_cannot_pay_is_refused_at_the_bank(bank: str, why: str) -> None:
    async def story(scene: Scene) -> None:
        card = REFUSED[why](scene) if why in REFUSED else scene.card()
        await asyncio.sleep(10)
        started = scene.bank.customer_withdraws(card, Market.HK, "HKD", 20_000_000 if "balance" in why else 1_000_000)
        await asyncio.sleep(60)
        assert wish_at_bank(scene, started.ref) == "REFUSED"
        assert await listed(scene) == [(started.ref, "REFUSED", None)] and not await launched(scene)
        assert not scene.booked("pay") and not scene.heard("withdraw") and not scene.alerts()
        assert await scene.money() == START
        assert [row[1] for row in await scene.pushes()][-2:] == ["WITHDRAW", "RESULT"]  # and of the refusal its result

    at_bank(bank, story)


# --- withdrawals begun at the bank ------------------------------------------------------------------------------


async def suspect(scene: Scene) -> None:
    """Alice is on the blacklist of withdrawals."""
    value = Value(Kind.UID, str(scene.rig.customer("alice").uid))
    assert await scene.rig.core.lists.add(ListName.WITHDRAW_BLACK, [value], "staff_1001", "fraud") == 1


@pytest.mark.req("DB-07")
@WIRES
@EACH_BANK
def test_a_withdrawal_begun_at_the_bank_stands_in_its_list_before_there_is_a_task(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        seen: list[tuple[int, int]] = []

        async def look() -> None:
            seen.append((len(await listed(scene)), len(await launched(scene))))

        scene.rig.world.watch_commits(lambda *_: scene.rig.world._keep(look()))
        reference = scene.asks("withdraw")
        await asyncio.sleep(30)
        scene.rig.world.watch_commits(None)
        assert seen and all(rows >= tasks_ for rows, tasks_ in seen)
        ((task, _, template, request, status),) = await launched(scene)
        assert (template, request, status) == ("bank_launched", reference, TaskStatus.DONE)
        assert await listed(scene) == [(reference, "ACCEPTED", task)]
        shown = await scene.rig.of_task(task)
        assert shown is not None
        assert (shown["bank_launched"], shown["transfer_ref_id"]) == (1, reference)
        assert scene.booked("pay") == [(reference, 1_000_000)] and await scene.money() == PAID

    at_bank(bank, story, wire=wire)


@EACH_BANK
def test_a_customer_on_the_blacklist_is_looked_at_and_what_is_rejected_is_refused_at_the_bank(bank: str) -> None:
    """A-69, A-77: nobody has seen the Task before, so SBA asks for a person."""

    async def story(scene: Scene) -> None:
        await suspect(scene)
        reference = scene.asks("withdraw")
        await asyncio.sleep(30)
        ((task, *_),) = await launched(scene)
        shown = await scene.rig.of_task(task)
        assert shown is not None and shown["state"] == "new(manual_confirm)"
        assert (await scene.rig.operate("CashWithdrawManualReject", shown, SUPERVISOR)).ok
        await asyncio.sleep(60)
        assert wish_at_bank(scene, reference) == "REFUSED" and not scene.heard("withdraw")
        assert await listed(scene) == [(reference, "REFUSED", task)] and await scene.money() == START

    at_bank(bank, story)


@EACH_BANK
def test_what_has_lapsed_at_the_bank_is_not_paid_and_needs_no_refusal(bank: str) -> None:
    """Noted at 03:50, looked at by people until the session closes: at the opening the bank says so, the money
    returns, and nobody is called for a wish that is no more."""

    async def story(scene: Scene) -> None:
        await suspect(scene)
        reference = scene.asks("withdraw")
        await scene.rig.until("2026-03-13 04:05")
        assert wish_at_bank(scene, reference) == "LAPSED"
        ((task, *_),) = await launched(scene)
        shown = await scene.rig.of_task(task)
        assert shown is not None
        assert (await scene.rig.operate("CashWithdrawManualConfirm", shown, SUPERVISOR)).ok
        await scene.rig.until("2026-03-13 07:30")
        shown = await scene.rig.of_task(task)
        assert shown is not None and shown["state"] == "end_reject"
        assert not scene.booked("pay") and await scene.money() == START
        assert [clock_of(at) for at, _, _ in scene.heard("withdraw")] == ["07:00"]
        assert not scene.alerts() and not await scene.rig.core.jobs.open_jobs()

    at_bank(bank, story, start="2026-03-13 03:50")


def clock_of(at_s: float) -> str:
    return f"{hkt(round(at_s * 1000)):%H:%M}"


@EACH_BANK
def test_a_refusal_waits_for_a_server_and_for_the_window(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("closed", message="reverse", for_s=100)
        started = scene.bank.customer_withdraws(scene.card(), Market.HK, "HKD", 20_000_000)
        await asyncio.sleep(30)
        scene.bank.fault("drop", server="both", for_s=120)
        await asyncio.sleep(300)
        assert wish_at_bank(scene, started.ref) == "REFUSED" and set(scene.alerts()) == {"SOCK-01"}

    at_bank(bank, story)


# --- the bank's window ------------------------------------------------------------------------------------------


@WIRES
@EACH_BANK
def test_outside_its_window_the_bank_keeps_what_customers_begin_and_delivers_it_at_the_opening(
    bank: str, wire: str
) -> None:
    async def story(scene: Scene) -> None:
        await scene.rig.until("2026-03-13 05:00")
        scene.asks("deposit", "bob")
        scene.asks("withdraw", "alice")
        scene.bank.unsign("bob", "US")  # agreements are not gated
        await scene.rig.until("2026-03-13 06:59:59")
        assert [row[1] for row in await scene.pushes()] == ["SIGN"]
        assert (await scene.money("alice"), await scene.money("bob")) == (START, START)
        await scene.rig.until("2026-03-13 07:01")
        assert (await scene.money("alice"), await scene.money("bob")) == (PAID, CREDITED)
        moments = [event[1] for event in scene.rig.events if event[2] == "bank.push" and event[4]["message"] in (
            "push.deposit", "push.withdrawal")]
        assert {clock_of(at / 1e6) for at in moments} == {"07:00"} and len(moments) == 2

    at_bank(bank, story, start="2026-03-13 04:50", wire=wire)


# --- agreements -------------------------------------------------------------------------------------------------


@pytest.mark.req("AIR-04")
@WIRES
@EACH_BANK
def test_an_agreement_is_signed_or_unsigned_and_signed_counts_as_open(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        books, card = scene.rig.core.agreements[bank], scene.rig.world.card_id(scene.rig.customer("alice"), bank)

        async def statuses() -> dict[str, str]:
            found = {market.name: await books.of_card(card, int(market)) for market in Market}
            return {name: agreement.status.name for name, agreement in found.items() if agreement is not None}

        assert await statuses() == {"HK": "OPEN", "US": "OPEN", "HKCC": "OPEN"}
        scene.bank.unsign("alice", "HK")
        await asyncio.sleep(10)
        assert await statuses() == {"HK": "CLOSED", "US": "OPEN", "HKCC": "OPEN"}
        refused = await scene.withdraw()
        await asyncio.sleep(10)
        assert await scene.task_status(refused) == "REJECTED"  # Confirm blocks it
        assert not hasattr(await scene.deposit(), "status") and await scene.money() == START
        scene.bank.sign("alice", "HK")
        await asyncio.sleep(10)
        assert await statuses() == {"HK": "OPEN", "US": "OPEN", "HKCC": "OPEN"}
        passed = await scene.withdraw()
        await asyncio.sleep(10)
        assert await scene.task_status(passed) == "DONE"
        assert not scene.heard("deposit") and len(scene.heard("withdraw")) == 1

    at_bank(bank, story, wire=wire)


@EACH_BANK
def test_an_older_notice_that_comes_later_changes_nothing(bank: str) -> None:
    async def story(scene: Scene) -> None:
        scene.bank.fault("list_outage", for_s=600)
        scene.bank.fault("timeout", message="list", processed=False, for_s=600)
        scene.bank.fault("lost_push", count=1)
        scene.bank.unsign("alice", "HK")
        scene.bank.sign("alice", "HK")
        await asyncio.sleep(2600)
        books, card = scene.rig.core.agreements[bank], scene.rig.world.card_id(scene.rig.customer("alice"), bank)
        agreement = await books.of_card(card, 1)
        assert agreement is not None and agreement.signed and agreement.push_seq == 2
        assert [row[0] for row in await scene.pushes()] == [1, 2]

    at_bank(bank, story)
