"""Real time at CMB and CMBC: what is pushed takes effect at once, nothing is polled; references and names that the
banks want."""

from __future__ import annotations

import asyncio
import re
from statistics import median, quantiles
from typing import Any

import pytest
from platform_world import BANKS, CARDS, CREDITED, PAID, START, Scene, at_bank, steady
from sqlalchemy import bindparam, insert, update

from core.clock import US_PER_S
from core.jobs import REGISTRY
from core.jobs.schedules import Every, InConnection, Ladder, OnEvent
from core.storage import Statement
from core.storage.primary import nick_list
from core.wire.socket import CMB, CMBC, FrameType, Party
from core.wire.socket import messages as m
from tests.rig import Rig, play

WIRES = pytest.mark.parametrize("wire", ["messages", "full"])
EACH_BANK = pytest.mark.parametrize("bank", BANKS)
_COLUMNS = [column for column in nick_list.columns if column.name not in ("id",)]
NOTE_NAME = Statement(insert(nick_list).values({column.name: bindparam(column.name) for column in _COLUMNS}))
RENAME = Statement(update(nick_list).where(nick_list.c.uid == bindparam("b_uid")).values(en_name=bindparam("en_name")))


def first(rig: Rig, kind: str, **wanted: Any) -> float:
    """Virtual seconds of the first event of a kind that says this."""
    return next(event[1] for event in rig.events if event[2] == kind and all(
        event[4].get(key) == value for key, value in wanted.items())) / US_PER_S


# --- at once ----------------------------------------------------------------------------------------------------


@pytest.mark.req("SOCK-06")
@pytest.mark.parametrize(("code", "leads_to"), [(0, "end_ok(transfer_done)"), (-6, "pending(return)")])
@WIRES
@EACH_BANK
def test_a_pushed_result_moves_the_procedure_at_once(bank: str, wire: str, code: int, leads_to: str) -> None:
    async def story(scene: Scene) -> None:
        took, whole = [], []
        for _ in range(20):
            task = await scene.withdraw(amount=10_000)
            await asyncio.sleep(10)
            shown = await scene.of_task(task)
            ref, subject = shown["transfer_ref_id"], f"P{shown['id']}"
            (moved,) = [event[1] / US_PER_S for event in scene.rig.events if event[2:4] == ("procedure", subject)
                        and (event[4]["from"], event[4]["to"]) == ("pending(transfer_auto)", leads_to)]
            took.append(moved - first(scene.rig, "bank.push", ref=ref, message="push.result", code=code))
            whole.append(moved - first(scene.rig, "bank.request", ref=ref, message="withdraw"))
        assert max(took) < 0.5 and median(whole) < 1
        assert not scene.heard("query")

    at_bank(bank, story, wire=wire, settings={f"sim.{bank}.outcome": [[code, 1.0]]})


@pytest.mark.req("LAT-01", "STMT-07")
@EACH_BANK
def test_deposits_begun_at_the_bank_are_credited_within_seconds_and_we_ask_for_none(bank: str) -> None:
    async def story(scene: Scene) -> None:
        began: dict[str, float] = {}
        for number in range(100):
            began[scene.asks("deposit", ("alice", "bob")[number % 2], amount=10_000)] = scene.rig.now_ms / 1000
            await asyncio.sleep(0.7)
        await asyncio.sleep(30)
        took, whole = [], []
        for reference, at in began.items():
            procedure = next(one["procedure"] for one in scene.rig.of_kind("apply", ref=reference, status="DONE"))
            done = next(event[1] / US_PER_S for event in scene.rig.events if event[2:4] == (
                "procedure", f"P{procedure}") and event[4]["to"] == "end_ok(deposit_ok)")
            took.append(done - first(scene.rig, "bank.push", ref=reference))
            whole.append(done - at)
        assert quantiles(took, n=20)[18] <= 5 and max(took) < 5
        assert quantiles(whole, n=20)[18] <= 5
        heard = {(entry["command"], entry["type"]) for entry in scene.bank.journal()}
        assert heard <= {(m.SIGN_ON, "REQUEST"), (m.DAY_LIST, "REQUEST"), (m.DEPOSIT_PUSH, "PUSH_ACK")}
        assert len(scene.rig.of_kind("apply", status="DONE")) == 100

    at_bank(bank, story)


@pytest.mark.req("DEP-18")
@WIRES
@EACH_BANK
def test_a_pushed_deposit_has_source_2_and_takes_the_direct_path(bank: str, wire: str) -> None:
    async def story(scene: Scene) -> None:
        reference = scene.asks("deposit")
        await asyncio.sleep(30)
        (apply,) = {one["apply"] for one in scene.rig.of_kind("apply")}
        found = await scene.rig.core.applications.find(apply)
        assert found is not None and (found.source, found.bank_ref_id, found.bank_type) == (2, reference, bank)
        shown = await scene.rig.of_apply(apply)
        assert shown is not None and (shown["source"], shown["transaction_id"]) == (2, f"{bank}:{reference}")
        assert await scene.money() == CREDITED
        jobs = {one["job"] for one in scene.rig.of_kind("job", key=f"A{apply}")}
        assert not [one["job"] for one in scene.rig.of_kind("job") if one["job"].startswith("Asb")]
        assert jobs == {{"cmb": "CmbCredit", "cmbc": "MsCredit"}[bank]}

    at_bank(bank, story, wire=wire)


# --- nothing is polled ------------------------------------------------------------------------------------------

SOCKET_SERVICES = {"cmb_stock_trans", "ms_stock_bank_transaction"}


@pytest.mark.req("JOB-020")
def test_the_socket_services_own_no_job_that_polls() -> None:
    owned = [entry for entry in REGISTRY if SOCKET_SERVICES & set(entry.owner)]
    assert len(owned) == 12
    assert {type(schedule) for entry in owned for schedule in entry.schedules} == {InConnection, OnEvent}
    polling = [entry.name for entry in REGISTRY if entry.domain == "BST" and any(
        isinstance(schedule, Ladder | Every) for schedule in entry.schedules)]
    assert [name for name in polling if "Asb" not in name] == ["FetchBankRequest", "SyncBstDataHelper"]


@pytest.mark.req("JOB-020", "ADR-003-2")
def test_behind_one_interface_airstar_is_polled_and_cmb_and_cmbc_push() -> None:
    async def story(rig: Rig) -> None:
        assert set(rig.core.deposits_at) == set(rig.core.withdrawals_at) == {"airstar", *BANKS}
        for bank in rig.core.deposits_at:
            alice, card = rig.customer("alice"), rig.customer("alice").cards[bank].number
            await rig.core.deposits_at[bank].submit(alice.uid, alice.trade_acc_ids[0], 1,
                                                    rig.world.card_id(alice, bank), card, "HKD", 10_000)
            await rig.withdraw(channel=bank, amount=10_000)
        await asyncio.sleep(60)
        assert len(rig.of_kind("apply", status="DONE")) == 3
        assert {one["state"] for one in [await rig.of_task(task) for task in (1, 2, 3)] if one} == {
            "end_ok(transfer_done)"}
        asked = {bank: sum("query" in one["message"] for one in rig.of_kind("bank.request", bank=bank))
                 for bank in ("airstar", *BANKS)}
        pushed = {bank: len(rig.of_kind("bank.push", bank=bank)) for bank in ("airstar", *BANKS)}
        assert asked["airstar"] >= 5 and pushed["airstar"] == 0
        assert asked["cmb"] == asked["cmbc"] == 0 and pushed["cmb"] == pushed["cmbc"] == 2
        polls = {one["job"] for one in rig.of_kind("job") if one["retry"]}
        assert all(job.startswith("Asb") for job in polls)

    slow = {f"sim.{bank}.result.{name}": value for bank in BANKS for name, value in (("median", 20.0), ("p99", 20.1))}
    play(story, settings=steady() | slow | {"sim.airstar.result.delay": [[1.0, 20.0, 20.0]],
                                            "jobs.trace_polls": True}, cards=CARDS)


# --- references and names ---------------------------------------------------------------------------------------


@pytest.mark.req("SBA-WD-048")
def test_the_reference_of_a_withdrawal_is_the_one_under_which_its_bank_knows_it() -> None:
    async def story(rig: Rig) -> None:
        shown = {}
        for bank in ("airstar", *BANKS):
            task = await rig.withdraw(channel=bank, amount=10_000)
            shown[bank] = await rig.reach(lambda task=task: rig.of_task(task.id), "end_ok(transfer_done)")
            (paid,) = [one for one in rig.of_kind("bank.book", op="pay") if one["bank"] == bank]
            assert paid["ref"] == shown[bank]["transfer_ref_id"]
        assert re.fullmatch(r"ASBBST\d{9}", shown["airstar"]["transfer_ref_id"])
        for bank, flavour in (("cmb", CMB), ("cmbc", CMBC)):
            ref = shown[bank]["transfer_ref_id"]
            body = m.WithdrawalRequest(ref, "CHAN", "622", "HKD", "1.00", "HK", "CHAN")
            stamp = m.Stamp("R1", "20260312", "100000")
            payload = flavour.encode(m.compose(m.WITHDRAWAL, FrameType.REQUEST, body, stamp, "NOSTRO01", bank.upper(),
                                               Party.BROKER))
            header = len(CMB.encode(m.compose(m.HEARTBEAT, FrameType.REQUEST, m.Heartbeat(), stamp, "NOSTRO01", "CMB",
                                              Party.BROKER)))
            named = (payload[header:header + 32].rstrip() if bank == "cmb" else  # bank_tx_seq: the first 32 bytes
                     re.search(rb"<OrgRefNo>(.*?)</OrgRefNo>", payload)[1])  # type: ignore[index]
            assert named.decode() == ref

    play(story, settings=steady(), cards=CARDS)


async def note_name(rig: Rig, en_name: str) -> None:
    """Operations note alice's names."""
    alice = rig.customer("alice")
    values: dict[str, Any] = {column.name: 0 if column.type.python_type is int else "" for column in _COLUMNS}
    await rig.world.databases.primary.execute(NOTE_NAME, values | {
        "uid": alice.uid, "cn_name": "陈大文", "en_name": en_name})


@pytest.mark.req("SBA-WD-050")
@WIRES
def test_cmbc_pays_to_the_english_name(wire: str) -> None:
    async def story(scene: Scene) -> None:
        await note_name(scene.rig, "CHAN TAI MAN")
        for who in ("alice", "bob"):
            task = await scene.withdraw(who)
            await asyncio.sleep(10)
            shown = await scene.of_task(task)
            assert shown["state"] == "end_ok(transfer_done)"
            told = [entry["body"].payee_name for entry in scene.bank.journal() if entry["command"] == m.WITHDRAWAL]
            assert shown["payee_name"] == told[-1] != ""
        assert told[0] == "CHAN TAI MAN" and told[1] == scene.rig.customer("bob").name

    at_bank("cmbc", story, wire=wire)


@pytest.mark.req("SBA-WD-050")
@pytest.mark.parametrize("name", ["", "陈大文"])
def test_without_an_english_name_a_withdrawal_does_not_pass_confirm_at_cmbc(name: str) -> None:
    async def story(scene: Scene) -> None:
        await note_name(scene.rig, name)
        task = await scene.withdraw()
        at_the_bank = scene.asks("withdraw")
        beside = await scene.rig.withdraw(channel="cmb", amount=10_000)
        await asyncio.sleep(60)
        assert await scene.task_status(task) == "REJECTED" and await scene.rig.of_task(task.id) is None
        found = await scene.rig.core.withdrawals.find(task.id)
        assert found is not None and (found.step, "English" in found.remark) == ("CONFIRM", True)
        assert not scene.heard("withdraw") and scene.bank._wishes[at_the_bank].status == "REFUSED"
        assert await scene.task_status(beside) == "DONE"  # CMB pays to names in any script
        assert await scene.money() == {**START, "available": 9_990_000}
        await scene.rig.world.databases.primary.execute(RENAME, {
            "b_uid": scene.rig.customer("alice").uid, "en_name": "CHAN TAI MAN"})
        again = await scene.withdraw()
        await asyncio.sleep(10)
        assert await scene.task_status(again) == "DONE"
        assert await scene.money() == {**PAID, "available": 8_990_000}

    at_bank("cmbc", story)
