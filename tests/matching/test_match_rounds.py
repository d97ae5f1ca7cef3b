"""The round: what it writes, once; windows; reminders; crashes between; banks apart from each other."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from sqlalchemy import select

from core.deposits.matching.links import CLAIM
from core.deposits.matching.rules import read_rules
from core.deposits.statements import CANDIDATE, CREDITED, MATCHED, NEW, WINDOW_WAIT
from core.domain import ApplyStatus
from core.errors import CallFailed
from core.settings import Settings
from core.storage import Severed, Statement, UniqueViolation
from core.storage.primary import flow_claim
from tests.matching.matching_world import Desk, tell

CLAIMS = Statement(select(flow_claim))
HOUR = 3600


@pytest.mark.req("DEP-03", "DEP-04", "DEP-05", "DB-SHARD-07", "MATCH-001", "MATCH-016")
def test_one_deposit_writes_its_objects_in_order() -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.applied()
        await desk.round()
        assert (await desk.apply(apply)).status == ApplyStatus.WAIT_MATCH and await desk.links() == ([], [])
        flow = await desk.arrives()
        assert (await desk.rig.money()).available == 10_000_000
        assert await desk.round() == "1 matched"
        matched = await desk.apply(apply)
        assert (matched.status, matched.matched_flow_id, matched.sba_procedure_id) == (
            ApplyStatus.MATCHED, flow.id, None)
        assert (await desk.flow(flow))[-4:-2] == (MATCHED, 1)
        await asyncio.sleep(5)

        done, shown = await desk.apply(apply), await desk.procedure(apply)
        assert (done.status, done.sba_procedure_id, done.credited_amount) == (ApplyStatus.DONE, shown["id"], 1_000_000)
        assert shown["state"] == "end_ok(deposit_ok)" and shown["transaction_id"] == f"hsbc:{flow.id}"
        assert (shown["is_bs_transfer"], shown["transfer_method"], shown["deposit_type"]) == (0, 202, 1)
        assert (await desk.flow(flow)).status == CREDITED
        assert (await desk.rig.money()).available == 11_000_000

        (match,), (deposit,) = await desk.links()
        shard = f"{apply.uid % 100:02d}"
        assert match[0] == deposit[0] == shard and match[1] % 100 == deposit[1] % 100 == apply.uid % 100
        assert match[2:9] == (apply.id, apply.uid, flow.id, "hsbc", "AUTO", "amount,currency,bank,date,card", 0)
        assert deposit[2:9] == (apply.id, apply.uid, match[1], shown["id"], "HKD", 1_000_000, int(ApplyStatus.DONE))
        assert [row[:3] for row in await desk.db.all(CLAIMS, {})] == [("hsbc", flow.id, apply.id)]
        order = [kind for _, _, kind, subject, data in desk.rig.events if kind in ("apply", "statement", "match",
                                                                                    "procedure")]
        assert [kind for n, kind in enumerate(order) if kind not in order[:n]] == [
            "apply", "statement", "match", "procedure"]

    tell(story)


@pytest.mark.req("MATCH-019")
def test_money_before_its_application_is_matched_too() -> None:
    async def story(desk: Desk) -> None:
        flow = await desk.arrives()
        assert await desk.round() == "" and (await desk.flow(flow)).status == NEW
        await asyncio.sleep(4 * HOUR)
        apply = await desk.applied()
        await desk.arrives("bob", 500_000)
        other = await desk.applied("bob", 500_000)
        assert await desk.round() == "2 matched"
        await asyncio.sleep(5)
        assert {(await desk.apply(one)).status for one in (apply, other)} == {ApplyStatus.DONE}

    tell(story)


@pytest.mark.req("MATCH-002")
def test_the_bank_is_a_dimension() -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.applied(bank="hsbc")
        flow = await desk.arrives(bank="dbs", account=desk.card("alice", "hsbc"))
        assert await desk.round() == "" and (await desk.flow(flow)).status == NEW
        assert (await desk.apply(apply)).status == ApplyStatus.WAIT_MATCH
        (shown,) = await desk.candidates(flow)
        assert shown.fails == ("bank: dbs, the application says hsbc",)

    tell(story)


@pytest.mark.req("MATCH-005")
@pytest.mark.parametrize(("bank", "ccy", "fee"), [("citi", "USD", 500), ("ewb", "USD", 1000), ("spd", "HKD", 100)])
def test_within_the_tolerance_the_statements_amount_is_credited(bank: str, ccy: str, fee: int) -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.applied(amount=200_000, ccy=ccy, bank=bank)
        before = (await desk.rig.money(ccy=ccy)).available
        await desk.arrives(amount=200_000 - fee, ccy=ccy, bank=bank)
        assert await desk.round() == "1 matched"
        await asyncio.sleep(5)
        assert (await desk.apply(apply)).credited_amount == 200_000 - fee
        assert (await desk.rig.money(ccy=ccy)).available == before + 200_000 - fee
        assert (await desk.links())[0][0][8] == fee

    tell(story)


@pytest.mark.req("MATCH-006", "EXC-D-05", "MATCH-018", "DEP-05")
def test_beyond_it_people_match_and_the_actual_amount_is_credited_after_review() -> None:
    async def story(desk: Desk) -> None:
        apply = await desk.applied()
        flow = await desk.arrives(amount=996_000)  # the bank kept a fee of HKD 40
        assert await desk.round() == "" and (await desk.flow(flow)).status == CANDIDATE
        (reminder,) = desk.reminders()
        assert reminder["flow"] == flow.id and reminder["candidates"][0]["apply"] == apply.id
        assert reminder["candidates"][0]["fails"] == ["amount: 40.00 HKD less than the application"]
        await asyncio.sleep(600)
        assert (await desk.apply(apply)).sba_procedure_id is None and desk.rig.of_kind("procedure") == []

        done = await desk.by_hand(flow, apply)
        assert done.match_id and (await desk.links())[0][0][6] == "ASSISTED"
        await asyncio.sleep(65)
        shown = await desk.procedure(apply)
        assert (shown["state"], shown["deposit_type"], shown["amount"]) == ("new(manual_confirm)", 3, 996_000)
        await desk.rig.operate("CashDepositManualConfirm", shown)
        await asyncio.sleep(5)
        assert (await desk.apply(apply)).credited_amount == 996_000
        assert (await desk.rig.money()).available == 10_996_000

    tell(story)


@pytest.mark.req("MATCH-015")
def test_a_tie_waits_for_people() -> None:
    async def story(desk: Desk) -> None:
        first, second = await desk.applied(), await desk.applied()
        flow = await desk.arrives()
        assert await desk.round() == "" and (await desk.flow(flow)).status == CANDIDATE
        (reminder,) = desk.reminders(why="several applications")
        assert [one["apply"] for one in reminder["candidates"]] == [first.id, second.id]
        await desk.rooms.standard.cancel(first.uid, first.id)
        assert await desk.round() == "1 matched"
        assert (await desk.apply(second)).matched_flow_id == flow.id

    tell(story)


@pytest.mark.req("MATCH-017")
def test_an_entry_without_a_name_waits_for_it() -> None:
    async def story(desk: Desk) -> None:
        apply, free = await desk.applied(bank="bochk"), await desk.applied(bank="cgb")
        flow, named = await desk.arrives(bank="bochk", name=""), await desk.arrives(bank="cgb", name="")
        assert await desk.round() == "1 matched" and (await desk.apply(free)).matched_flow_id == named.id
        await asyncio.sleep(10 * 3600)
        assert await desk.round() == "" and (await desk.flow(flow)).status == NEW and desk.reminders() == []
        async with desk.db.transaction() as tx:
            await desk.statements.change(tx, flow, en_name=desk.accounts.names_of[apply.uid])
        assert await desk.round() == "1 matched"

    tell(story)


# Windows: (currency, arrival, last round outside, first round inside)
WINDOWS = [("HKD", "2026-03-14 10:00", "2026-03-16 06:57", "2026-03-16 07:00"),
           ("CNH", "2026-03-14 23:00", "2026-03-16 06:57", "2026-03-16 07:00"),
           ("USD", "2026-03-12 16:00", "2026-03-13 08:57", "2026-03-13 09:00"),
           ("USD", "2026-03-14 03:00", "2026-03-14 08:57", "2026-03-14 09:00")]


@pytest.mark.req("MATCH-011", "MATCH-012", "MATCH-013", "MATCH-014")
@pytest.mark.parametrize(("ccy", "arrival", "outside", "inside"), WINDOWS)
def test_outside_the_window_there_are_reminders_only(ccy: str, arrival: str, outside: str, inside: str) -> None:
    async def story(desk: Desk) -> None:
        await desk.rig.until(arrival)
        apply = await desk.applied(ccy=ccy)
        flow = await desk.arrives(ccy=ccy)
        await desk.timetable.start()
        await desk.rig.until(outside)
        await asyncio.sleep(60)
        assert (await desk.flow(flow)).status == WINDOW_WAIT
        assert (await desk.apply(apply)).status == ApplyStatus.WAIT_MATCH and desk.rig.of_kind("procedure") == []
        assert [one["why"] for one in desk.reminders()][:1] == ["outside the matching window"]
        await desk.rig.until(inside)
        await asyncio.sleep(30)
        assert (await desk.apply(apply)).status == ApplyStatus.DONE, "in the first round inside"
        await desk.timetable.stop()

    tell(story)


@pytest.mark.req("MATCH-011", "MATCH-012")
@pytest.mark.parametrize(("ccy", "at"), [("HKD", "2026-03-14 09:57"), ("CNH", "2026-03-13 03:00"),
                                          ("USD", "2026-03-15 15:57"), ("USD", "2026-03-14 09:00")])
def test_inside_the_window_an_entry_is_credited(ccy: str, at: str) -> None:
    async def story(desk: Desk) -> None:
        await desk.rig.until(at)
        await desk.applied(ccy=ccy)
        await desk.arrives(ccy=ccy)
        assert await desk.round() == "1 matched"

    tell(story)


@pytest.mark.req("MATCH-013")
def test_reminders_come_once_and_again_after_a_day() -> None:
    async def story(desk: Desk) -> None:
        await desk.applied()
        flow = await desk.arrives(amount=999_000)
        await desk.timetable.start()
        await asyncio.sleep(23 * HOUR)
        assert [one["count"] for one in desk.reminders()] == [1]
        await asyncio.sleep(1.2 * HOUR)
        assert [one["count"] for one in desk.reminders(flow=flow.id)] == [1, 2]
        await desk.timetable.stop()

    tell(story)


CLOSED, UNBOUND = "outside the matching window", "the card is not bound any more"
FRIDAY, SATURDAY = "2026-03-13 15:00", "2026-03-14 10:10"


@pytest.mark.req("MATCH-013")
def test_what_only_the_window_holds_is_told_with_its_application() -> None:
    async def story(desk: Desk) -> None:
        await desk.rig.until(SATURDAY)
        apply, flow, alone = await desk.applied(), await desk.arrives(), await desk.arrives("bob", 700_000)
        assert await desk.round() == "" and (await desk.flow(flow)).status == WINDOW_WAIT
        (reminder,), (other,) = desk.reminders(flow=flow.id), desk.reminders(flow=alone.id)
        assert (reminder["why"], other["why"], other["candidates"]) == (CLOSED, CLOSED, [])
        assert reminder["candidates"] == [{"apply": apply.id, "fails": [], "amount_diff": 0, "days": 0}]

    tell(story)


@pytest.mark.req("MATCH-013")
@pytest.mark.parametrize("unbound_at", [FRIDAY, SATURDAY])
def test_a_card_that_is_not_bound_is_the_reason_whatever_the_window(unbound_at: str) -> None:
    async def story(desk: Desk) -> None:
        await desk.rig.until(unbound_at)
        apply, flow = await desk.applied(), await desk.arrives()
        await desk.accounts.unbind_card(apply.uid, apply.bank_type, apply.card_no, "REVERSAL")
        seen = []
        for _ in range(3):
            await desk.round()
            seen.append((await desk.flow(flow)).status)
            await asyncio.sleep(25 * HOUR)
        assert seen == [CANDIDATE] * 3
        assert [(one["why"], [each["fails"] for each in one["candidates"]]) for one in desk.reminders()] == [
            (UNBOUND, [[f"card: {UNBOUND}"]])] * 3

    tell(story)


@pytest.mark.req("MATCH-013")
def test_what_the_window_does_not_cure_is_told_outside_it_too() -> None:
    async def story(desk: Desk) -> None:
        await desk.rig.until(SATURDAY)
        apply, flow = await desk.applied(), await desk.arrives(amount=998_000)
        twin, other = await desk.applied("bob", 700_000), await desk.applied("bob", 700_000)
        tied = await desk.arrives("bob", 700_000)
        bochk, nameless = await desk.applied(bank="bochk"), await desk.arrives(bank="bochk", name="", account="")
        await desk.round()
        assert [(await desk.flow(one)).status for one in (flow, tied, nameless)] == [CANDIDATE, CANDIDATE, WINDOW_WAIT]
        told = {one["flow"]: (one["why"], [each["apply"] for each in one["candidates"]]) for one in desk.reminders()}
        assert told[flow.id][0] == "not certain" and told[tied.id] == ("several applications", [twin.id, other.id])
        (best, *_) = desk.reminders(flow=flow.id)[0]["candidates"]
        assert (best["apply"], best["fails"]) == (apply.id, ["amount: 20.00 HKD less than the application"])
        assert told[nameless.id] == (CLOSED, [bochk.id])
        (waits,) = desk.reminders(flow=nameless.id)
        assert waits["candidates"][0]["fails"] == ["card: the remitter's name is missing"]

    tell(story)


@pytest.mark.req("MATCH-019")
def test_the_round_runs_every_three_minutes() -> None:
    async def story(desk: Desk) -> None:
        await desk.timetable.start()
        await asyncio.sleep(60)
        apply, flow = await desk.applied(), await desk.arrives()
        await desk.rig.until("2026-03-12 10:02")
        await asyncio.sleep(59)
        assert (await desk.flow(flow)).status == NEW
        await asyncio.sleep(2)
        assert (await desk.apply(apply)).status in (ApplyStatus.MATCHED, ApplyStatus.CREDITING, ApplyStatus.DONE)
        await desk.timetable.stop()

    tell(story)


# Once, whatever happens


@pytest.mark.req("MATCH-016", "EXC-D-03")
def test_an_entry_told_twice_or_claimed_elsewhere_is_credited_once() -> None:
    async def story(desk: Desk) -> None:
        await desk.matched(ref="SAME")
        await desk.arrives(ref="SAME")
        again = await desk.applied()
        assert await desk.round() == "" and (await desk.apply(again)).status == ApplyStatus.WAIT_MATCH
        claimed = await desk.arrives()
        async with desk.db.transaction() as tx:
            await tx.execute(CLAIM, {"bank_type": "hsbc", "flow_id": claimed.id, "apply_id": 1, "claimed_at": 1})
        assert await desk.round() == "", "somebody else has it"
        assert (await desk.flow(claimed)).is_used == 0 and len((await desk.links())[0]) == 1
        with pytest.raises(UniqueViolation):
            async with desk.db.transaction() as tx:
                await tx.execute(CLAIM, {"bank_type": "hsbc", "flow_id": claimed.id, "apply_id": 2, "claimed_at": 1})
        assert (await desk.rig.money()).available == 11_000_000

    tell(story)


@pytest.mark.req("EXC-D-03")
def test_two_statements_of_one_transfer_and_the_excess_is_reversed() -> None:
    async def story(desk: Desk) -> None:
        await desk.matched(ref="ONE")
        extra = await desk.matched(ref="TWO")  # the bank booked it twice under two references
        assert (await desk.rig.money()).available == 12_000_000
        await desk.reverse(extra)
        await asyncio.sleep(5)
        assert (await desk.rig.money()).available == 11_000_000
        assert (await desk.apply(extra)).status == ApplyStatus.REVERSED

    tell(story)


@pytest.mark.req("MATCH-016")
def test_two_rounds_at_once_match_once() -> None:
    async def story(desk: Desk) -> None:
        await desk.applied()
        await desk.arrives()
        again = desk.rooms.rounds
        assert sorted(await asyncio.gather(again.run(), again.run())) == ["", "1 matched"]
        await asyncio.sleep(5)
        assert (await desk.rig.money()).available == 11_000_000
        assert len((await desk.links())[0]) == 1

    tell(story)


@pytest.mark.req("MATCH-016")
@pytest.mark.parametrize("commit", range(1, 17))
def test_a_death_after_any_commit_loses_and_doubles_nothing(commit: int) -> None:
    async def story(desk: Desk) -> None:
        world = desk.rig.world
        applies = [await desk.applied(), await desk.applied("bob", 700_000)]
        flows = [await desk.arrives(), await desk.arrives("bob", 700_000)]
        seen = [0]

        def die(_name: str, _number: int) -> None:
            seen[0] += 1
            if seen[0] == commit:
                world.watch_commits(None)
                world.kill(restart_ms=1000)

        world.watch_commits(die)
        with contextlib.suppress(Severed):
            await desk.round()
        await asyncio.sleep(20)
        assert world.kills == 1
        await desk.round()
        await asyncio.sleep(120)
        assert [(await desk.apply(one)).status for one in applies] == [ApplyStatus.DONE] * 2
        assert [(await desk.flow(one)).status for one in flows] == [CREDITED] * 2
        assert {row[-3] for row in (await desk.links())[1]} == {int(ApplyStatus.DONE)}
        assert (await desk.rig.money()).available == 11_000_000
        assert (await desk.rig.money("bob")).available == 10_700_000

    tell(story)


def test_a_name_that_comes_during_the_round_is_kept() -> None:
    async def story(desk: Desk) -> None:
        flow = await desk.arrives(name="", bank="bochk")
        async with desk.db.transaction() as tx:
            await desk.statements.change(tx, flow, en_name="LATE NAME")
        async with desk.db.transaction() as tx:
            await desk.statements.change(tx, flow, status=CANDIDATE)  # as read before
        assert (await desk.flow(flow)).en_name == "LATE NAME"

    tell(story)


# Banks apart


@pytest.mark.req("MATCH-008")
def test_a_bank_without_rules_is_reported_and_left_alone() -> None:
    async def story(desk: Desk) -> None:
        flow, other = await desk.arrives(bank="dbs"), await desk.arrives("bob", bank="hsbc")
        await desk.applied(bank="dbs"), await desk.applied("bob", bank="hsbc")
        assert await desk.round() == "1 matched"
        await desk.round()
        (alert,) = desk.alerts("MATCH-01")
        assert alert["key"] == "dbs" and (await desk.flow(flow)).status == NEW
        assert (await desk.flow(other)).status != NEW

    tell(story, rules={bank: rules for bank, rules in read_rules(Settings()).items() if bank != "dbs"})


def test_one_bank_that_fails_leaves_the_others() -> None:
    async def story(desk: Desk) -> None:
        ask = desk.accounts.card_holder

        async def card_holder(bank: str, card_no: str) -> Any:
            if bank == "bochk":
                raise CallFailed("the card service refuses")
            return await ask(bank, card_no)

        desk.accounts.card_holder = card_holder  # type: ignore[method-assign]
        lost, apply = await desk.applied(bank="bochk"), await desk.applied("bob")
        await desk.arrives(bank="bochk"), await desk.arrives("bob")
        with pytest.raises(CallFailed, match="bochk"):
            await desk.round()
        assert (await desk.apply(apply)).status == ApplyStatus.MATCHED
        desk.accounts.card_holder = ask  # type: ignore[method-assign]
        assert await desk.round() == "1 matched" and (await desk.apply(lost)).status == ApplyStatus.MATCHED

    tell(story)


# Watching


@pytest.mark.req("ALERT-DEP-01")
def test_rounds_that_stop_and_entries_that_pile_up_are_alerted_once_and_cleared() -> None:
    async def story(desk: Desk) -> None:
        rounds = desk.rooms.rounds
        for n in range(3):
            await desk.arrives(amount=1000 + n, ago_ms=HOUR * 1000)
        await desk.round()
        assert [one["phase"] for one in desk.alerts("DEP-01")] == ["raised"]
        for n in range(3):
            await desk.applied(amount=1000 + n)
        await desk.round()
        await desk.round()
        assert [one["phase"] for one in desk.alerts("DEP-01")] == ["raised", "cleared"]
        await asyncio.sleep(360)
        await rounds.monitor()
        assert desk.alerts("DEP-04") == []
        await asyncio.sleep(1)
        await rounds.monitor()
        await rounds.monitor()
        assert [one["phase"] for one in desk.alerts("DEP-04")] == ["raised"]
        await desk.round()
        await rounds.monitor()
        assert [one["phase"] for one in desk.alerts("DEP-04")] == ["raised", "cleared"]

    tell(story, settings={"match.backlog.alert": 2})
