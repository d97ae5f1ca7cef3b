"""Day end: the bank's reconciliation list against our book of transfers, and what becomes of a list that lies or is
lost (gaps.md B-38, A-62)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from platform_world import BANKS, CREDITED, Scene, at_bank
from sqlalchemy import select

from core.alerts import RULES
from core.clock import hkt
from core.deposits.day_end import Difference, Listed, differences
from core.deposits.transfers import DEPOSIT, DONE, OPEN, WITHDRAW, Transfer
from core.storage import Statement
from core.storage.primary import bst_day_end, recon_diff

DIFFS = Statement(select(recon_diff.c.bank, recon_diff.c.day, recon_diff.c.kind, recon_diff.c.reference,
                         recon_diff.c.bank_amount, recon_diff.c.book_amount).order_by(recon_diff.c.id))
KEPT = Statement(select(bst_day_end.c.bank, bst_day_end.c.day, bst_day_end.c.message_ref, bst_day_end.c.is_last))
EVENING, DAY = "2026-03-13 03:45", 20260312  # the last hour of Thursday's session, to 04:00 of Friday
EACH_BANK = pytest.mark.parametrize("bank", BANKS)


async def diffs(scene: Scene) -> list[tuple[Any, ...]]:
    """(kind, reference, the bank's amount, ours) of every difference found at this bank."""
    return [row[2:] for row in await scene.rig.world.databases.primary.all(DIFFS, {}) if row[0] == scene.name]


async def kept(scene: Scene, day: int = DAY) -> list[tuple[str, int]]:
    """(reference of the message, whether the last) of the fragments of a day's list."""
    return [(ref, last) for bank, of, ref, last in await scene.rig.world.databases.primary.all(KEPT, {})
            if (bank, of) == (scene.name, day)]


def compared(scene: Scene) -> list[str]:
    """When (Hong Kong) a comparison was done."""
    job = {"cmb": "CmbReconcile", "cmbc": "MsReconcile"}[scene.name]
    return [f"{hkt(event[1] // 1000):%H:%M}" for event in scene.rig.events
            if event[2] == "job" and (event[4]["job"], event[4]["state"]) == (job, "DONE")]


async def a_day(scene: Scene) -> tuple[str, str]:
    """One movement of each kind; the references of our withdrawal and of the deposit begun at the bank, the latter the
    last entry of the bank's list."""
    task = await scene.withdraw()
    await scene.deposit("bob")
    await asyncio.sleep(20)
    deposit = scene.asks("deposit", "bob")
    await asyncio.sleep(20)
    return (await scene.of_task(task))["transfer_ref_id"], deposit


@pytest.mark.parametrize("wire", ["messages", "full"])
@EACH_BANK
def test_the_list_of_the_day_is_pushed_kept_and_compared_at_5(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        await a_day(scene)
        await scene.rig.until("2026-03-13 04:02")
        assert [last for _, last in await kept(scene)] == [1] and not compared(scene)
        await scene.rig.until("2026-03-13 05:01")
        assert compared(scene) == ["05:00"]
        assert not await diffs(scene) and not scene.alerts()

    at_bank(bank, story, start=EVENING, wire=wire)


@pytest.mark.parametrize("how", ["missing", "foreign", "amount"])
@pytest.mark.parametrize("last", ["deposit", "withdrawal"])
@EACH_BANK
def test_a_list_that_disagrees_is_told_of_with_what_it_says(bank: str, last: str, how: str) -> None:
    async def story(scene: Scene) -> None:
        _, reference = await a_day(scene)
        if last == "withdrawal":
            task = await scene.withdraw()
            await asyncio.sleep(20)
            reference = (await scene.of_task(task))["transfer_ref_id"]
        scene.bank.fault("list_disagrees", how=how, message="reconciliation")
        await scene.rig.until("2026-03-13 05:05")
        foreign = 5 if last == "withdrawal" else 4
        assert await diffs(scene) == [{
            "missing": ("BOOK_ONLY", reference, None, 1_000_000),
            "foreign": ("BANK_ONLY", f"FOREIGN{foreign:012d}", 100, None),
            "amount": ("AMOUNT_DIFF", reference, 1_000_001, 1_000_000)}[how]]
        rule = "RECON-02" if (last, how) == ("withdrawal", "missing") else "RECON-01"
        assert scene.alerts() == [rule]
        assert RULES[rule].severity == {"RECON-01": "Medium", "RECON-02": "Critical"}[rule]

    at_bank(bank, story, start=EVENING)


@EACH_BANK
def test_an_amount_that_the_day_list_told_wrongly_is_found_at_day_end(bank: str) -> None:
    """What the recovery books rests on the bank's word; the bank's other word shows the difference."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("list_disagrees", how="amount", message="list", for_s=2000)
        scene.bank.fault("lost_push", count=1)
        reference = scene.asks("deposit")
        await scene.rig.until("2026-03-13 05:05")
        assert (await scene.money())["available"] == 11_000_001
        assert await diffs(scene) == [("AMOUNT_DIFF", reference, 1_000_000, 1_000_001)]
        assert scene.alerts() == ["SOCK-10", "RECON-01"]  # a later list has told it otherwise already

    at_bank(bank, story, start=EVENING, planted=True)  # the books do differ: that is what is found


LOST: dict[str, dict[str, Any]] = {
    "its fragments are not acknowledged": {"name": "lost_ack", "message": "reconciliation", "for_s": 60},
    "its signature is wrong": {"name": "bad_signature", "message": "reconciliation", "for_s": 60},
    "the lines are down": {"name": "drop", "server": "both", "for_s": 1500},
}


@pytest.mark.parametrize("how", list(LOST))
@EACH_BANK
def test_a_list_that_did_not_come_whole_is_asked_for_and_compared(bank: str, how: str) -> None:
    async def story(scene: Scene) -> None:
        for _ in range(55):  # two fragments
            scene.asks("deposit", amount=10_000)
        await scene.rig.until("2026-03-13 04:00:30")
        scene.bank.fault(**LOST[how])
        await scene.rig.until("2026-03-13 04:10")
        assert 1 not in [last for _, last in await kept(scene)]
        await scene.rig.until("2026-03-13 05:05")
        assert await kept(scene) == [("ASKED", 1)] and compared(scene) == ["05:00"]
        assert not await diffs(scene)
        assert set(scene.alerts()) <= {"SOCK-01", "SOCK-04"}

    at_bank(bank, story, start=EVENING)


@EACH_BANK
def test_a_fragment_told_again_changes_nothing(bank: str) -> None:
    async def story(scene: Scene) -> None:
        for _ in range(55):
            scene.asks("deposit", amount=10_000)
        scene.bank.fault("lost_ack", message="reconciliation", count=3)
        await scene.rig.until("2026-03-13 05:05")
        assert [last for _, last in await kept(scene)] == [0, 1]
        assert compared(scene) == ["05:00"] and not await diffs(scene)

    at_bank(bank, story, start=EVENING)


@EACH_BANK
def test_a_deposit_of_which_we_hear_after_the_close_belongs_to_the_day_on_which_the_bank_booked_it(bank: str) -> None:
    async def story(scene: Scene) -> None:
        await scene.withdraw("bob", amount=10_000)
        await asyncio.sleep(30)
        scene.bank.fault("drop", server="both", for_s=600)
        await asyncio.sleep(5)
        scene.asks("deposit")
        await scene.rig.until("2026-03-13 05:05")
        assert await scene.money() == CREDITED and not await diffs(scene)
        scene.asks("deposit", "bob", amount=10_000)  # something for Friday's list, too
        await scene.rig.until("2026-03-14 05:05")
        assert compared(scene) == ["05:00", "05:00"] and not await diffs(scene)

    at_bank(bank, story, start="2026-03-13 03:57")


@EACH_BANK
def test_what_the_bank_has_paid_and_we_do_not_know_of_is_told(bank: str) -> None:
    """Every answer about it stays away until the comparison."""

    async def story(scene: Scene) -> None:
        scene.bank.fault("timeout", message="withdraw")
        scene.bank.fault("timeout", message="query")
        scene.bank.fault("timeout", message="list")
        scene.bank.fault("list_outage")
        scene.bank.fault("lost_push", message="result")
        task = await scene.withdraw()
        await scene.rig.until("2026-03-13 05:05")
        shown = await scene.of_task(task)
        assert shown["state"] == "pending(transfer_auto)"
        assert await diffs(scene) == [("BANK_ONLY", shown["transfer_ref_id"], 1_000_000, None)]
        assert "RECON-01" in scene.alerts() and len(scene.booked("pay")) == 1

    at_bank(bank, story, start=EVENING)


# --- the comparison itself --------------------------------------------------------------------------------------


def ours(ref: str, kind: str = DEPOSIT, amount: int = 100, state: str = DONE, ccy: str = "HKD") -> Transfer:
    procedure = 7 if kind == WITHDRAW else None
    return Transfer("cmb", ref, kind, state, ccy, amount, "622", None, None, procedure, 0, 1)


def theirs(ref: str, deposit: bool = True, amount: int = 100, ccy: str = "HKD") -> Listed:
    return Listed(ref, deposit, ccy, amount)


@pytest.mark.parametrize(("listed", "booked", "kind", "critical"), [
    ([theirs("A")], [ours("A")], None, False),
    ([theirs("A"), theirs("A")], [ours("A")], "DUPLICATE", True),
    ([theirs("A", False), theirs("A", False)], [ours("A", WITHDRAW)], "DUPLICATE", True),
    ([theirs("A")], [], "BANK_ONLY", False),
    ([theirs("A")], [ours("A", state=OPEN)], "BANK_ONLY", False),
    ([theirs("A", amount=99)], [ours("A")], "AMOUNT_DIFF", False),
    ([theirs("A", ccy="USD")], [ours("A")], "AMOUNT_DIFF", False),
    ([theirs("A", False)], [ours("A")], "AMOUNT_DIFF", False),
    ([], [ours("A")], "BOOK_ONLY", False),
    ([], [ours("A", WITHDRAW)], "BOOK_ONLY", True)])
def test_every_class_of_difference(listed: list[Listed], booked: list[Transfer], kind: str | None,
                                   critical: bool) -> None:
    known = {line.reference: next((one for one in booked if one.transfer_ref == line.reference), None)
             for line in listed}
    found: list[Difference] = list(differences(listed, [one for one in booked if one.state == DONE], known))
    assert [(one.kind, one.critical) for one in found] == ([(kind, critical)] if kind else [])
