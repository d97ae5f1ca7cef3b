"""The card room under a running core: what verifies a card there, what a reversal does to it, and after a crash."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from cards_world import KEY

from core.accounts import Accounts
from core.cards.bank_cards import BINDING, BST, DEPOSIT, UNBOUND, VERIFIED, BankCards, Card, CardAccounts
from core.cards.numbers import CardNumbers
from core.domain import ApplyStatus, MandateStatus, TaskStatus
from core.errors import Code, Refusal
from core.orchestration.operations import REVERSE_CONFIRMATIONS
from tests.bst.platform_world import steady
from tests.matching.matching_world import Desk, tell
from tests.rig import SUPERVISOR, Rig, play


def room_of(rig: Rig, customers: Any) -> BankCards:
    """The card room of the core that lives now, wired as a core wires it."""
    core, given = rig.core, rig.core.given
    cards = BankCards(given.databases.account, given.clock, given.trace, CardNumbers(KEY), customers, given.settings)
    cards.open_task = core.withdrawals.open_of_card
    for authorizations in (core.mandates, *core.agreements.values()):
        authorizations.on_open = partial(cards.verified, how=BST)
    return cards


def port(desk: Desk) -> Accounts:
    """The platform's own card room over the customers of the test: a new one for each core."""
    return CardAccounts(desk.accounts, room_of(desk.rig, desk.accounts))


def told(story: Any, **more: Any) -> Any:
    return tell(story, port=port, **more)


async def bound(desk: Desk, who: str = "alice", bank: str = "hsbc") -> Card:
    """The customer binds his card."""
    found = await room_of(desk.rig, desk.accounts).bind(
        desk.uid(who), bank, desk.card(who, bank), desk.accounts.names_of[desk.uid(who)])
    assert isinstance(found, Card), found
    return found


async def now(desk: Desk, card: Card) -> Card:
    found = await room_of(desk.rig, desk.accounts).card(card.id)
    assert found is not None
    return found


# A first deposit


def test_the_first_matched_deposit_under_the_same_name_verifies_the_card() -> None:
    async def story(desk: Desk) -> None:
        refused = await desk.submit()
        assert isinstance(refused, Refusal) and refused.code is Code.BLOCKED, "nothing is bound"
        card = await bound(desk)
        apply = await desk.matched()
        assert apply.status == ApplyStatus.DONE
        found = await now(desk, card)
        assert (found.status, found.verified_by) == (VERIFIED, DEPOSIT)

    told(story)


@pytest.mark.parametrize("name", ["", "SOMEBODY ELSE"])
def test_a_deposit_under_another_name_or_none_does_not(name: str) -> None:
    async def story(desk: Desk) -> None:
        card = await bound(desk, bank="cgb")  # a bank that needs no name to match
        await desk.applied(bank="cgb")
        await desk.arrives(bank="cgb", name=name)
        await desk.round()
        await asyncio.sleep(5)
        assert (await now(desk, card)).status == BINDING

    told(story)


def test_a_deposit_that_a_person_matched_does_not() -> None:
    async def story(desk: Desk) -> None:
        card, apply = await bound(desk), await desk.applied(amount=999_000)
        await desk.by_hand(await desk.arrives(amount=998_000), apply)
        await asyncio.sleep(100)
        shown = await desk.procedure(apply)
        await desk.rig.operate("CashDepositManualConfirm", shown)
        await asyncio.sleep(5)
        assert (await desk.links())[0][0][6] == "ASSISTED" and (await desk.apply(apply)).status == ApplyStatus.DONE
        assert (await now(desk, card)).status == BINDING

    told(story)


# A reversal


@pytest.mark.req("ADR-007-1", "ADR-007-2")
@pytest.mark.parametrize("killed", [False, True])
def test_a_reversal_unbinds_the_card_for_good_until_it_is_bound_again(killed: bool) -> None:
    """Also under a core that begins afterwards."""
    async def story(desk: Desk) -> None:
        card = await bound(desk)
        await desk.reverse(await desk.matched())
        found = await now(desk, card)
        assert (found.status, found.unbind_reason) == (UNBOUND, "REVERSAL")
        assert [one["event"] for one in desk.rig.of_kind("notify")][-2:] == ["DEPOSIT_REVERSED", "CARD_UNBOUND"]
        if killed:
            desk.rig.world.kill(1_000)
            await asyncio.sleep(5)
        refused = await desk.submit()
        assert isinstance(refused, Refusal) and refused.code is Code.BLOCKED and "not bound" in refused.detail
        again = await bound(desk)
        assert again.id != card.id and (await desk.matched()).status == ApplyStatus.DONE
        assert (await now(desk, again)).status == VERIFIED and (await now(desk, card)).status == UNBOUND

    told(story)


@pytest.mark.req("ADR-007-2")
@pytest.mark.parametrize("bank, named", [("za", False), ("hsbc", True)])
def test_after_a_reversal_no_application_that_waited_is_credited_before_the_card_is_bound_again(
    bank: str, named: bool
) -> None:
    """Neither by the round nor by people: they learn why, once he has bound it again it is matched."""
    async def story(desk: Desk) -> None:
        card = await bound(desk, bank=bank)
        first, waiting = await desk.matched(bank=bank), await desk.applied(bank=bank, amount=77_700)
        await desk.reverse(first)
        assert (await now(desk, card)).status == UNBOUND
        flow = await desk.arrives(bank=bank, amount=77_700, name=None if named else "")
        assert await desk.round() == "" and (await desk.apply(waiting)).status == ApplyStatus.WAIT_MATCH
        (reminder,) = desk.reminders(flow=flow.id)
        assert reminder["why"] == "the card is not bound any more"
        assert [one["apply"] for one in reminder["candidates"]] == [waiting.id]
        refused = await desk.by_hand(flow, waiting)
        assert isinstance(refused, Refusal) and refused.code is Code.ILLEGAL_STATE
        assert "binds it again" in refused.detail
        await bound(desk, bank=bank)
        assert await desk.round() == "1 matched"
        await asyncio.sleep(5)
        assert (await desk.apply(waiting)).status == ApplyStatus.DONE

    told(story)


@pytest.mark.req("ADR-007-2", "JOB-024")
def test_an_application_whose_card_stays_unbound_is_rejected_by_time() -> None:
    """The entry that it fits does not keep it: nobody can match the two."""
    async def story(desk: Desk) -> None:
        await bound(desk, bank="za")
        first, waiting = await desk.matched(bank="za"), await desk.applied(bank="za", amount=77_700)
        await desk.reverse(first)
        await desk.arrives(bank="za", amount=77_700, name="")
        await desk.round()
        await asyncio.sleep(40 * 86_400)
        assert await desk.rooms.abnormal.reject_overdue() == 1
        assert (await desk.apply(waiting)).status == ApplyStatus.REJECTED

    told(story)


@pytest.mark.req("ADR-007-2")
def test_a_card_unbound_between_match_and_credit_is_for_people_to_review() -> None:
    async def story(desk: Desk) -> None:
        await bound(desk, bank="za")
        first, second = await desk.matched(bank="za"), await desk.applied(bank="za", amount=77_700)
        await desk.arrives(bank="za", amount=77_700, name="")
        desk.rig.core.jobs.pause("StatementCredit")
        assert await desk.round() == "1 matched"
        await desk.reverse(first)
        desk.rig.core.jobs.resume("StatementCredit")
        await asyncio.sleep(5)
        shown = await desk.procedure(second)
        assert (shown["state"], shown["review_hits"]) == ("new(manual_confirm)", "abnormal")

    told(story)


@pytest.mark.req("ADR-007-2")
@pytest.mark.parametrize("bank", ["airstar", "cmb", "cmbc"])
def test_after_a_reversal_no_bank_securities_transfer_comes_from_the_card(bank: str) -> None:
    async def story(rig: Rig) -> None:
        alice = rig.customer("alice")

        async def submit() -> Any:
            return await rig.core.deposits_at[bank].submit(
                alice.uid, alice.trade_acc_ids[0], 1, rig.world.card_id(alice, bank), alice.cards[bank].number, "HKD",
                500_000)

        apply = await submit()
        await asyncio.sleep(120)
        shown = await rig.of_apply(apply.id)
        assert shown is not None
        assert (await rig.operate("CashDepositReverse", shown, SUPERVISOR, confirmations=REVERSE_CONFIRMATIONS)).ok
        await asyncio.sleep(5)
        refused = await submit()
        assert isinstance(refused, Refusal) and refused.code is Code.BLOCKED and "not bound" in refused.detail

    play(story, cards=(bank,), settings={"sim.cmb.outcome": [[0, 1.0]], "sim.cmbc.outcome": [[0, 1.0]],
                                         "sim.cmb.unknown.share": 0.0, "sim.cmbc.unknown.share": 0.0}, planted=True)


@pytest.mark.req("ADR-007-1", "ADR-007-2")
def test_a_deposit_begun_at_airstar_unbinds_too_and_the_next_one_is_refused_there() -> None:
    async def story(rig: Rig) -> None:
        alice = rig.customer("alice")
        assert rig.world.banks["airstar"].ask(alice, "deposit", 1, "HKD", 500_000) == 0
        await asyncio.sleep(300)
        (apply,) = rig.of_kind("apply", status="DONE")
        shown = await rig.of_apply(apply["apply"])
        assert shown is not None and shown["source"] == 2
        assert (await rig.operate("CashDepositReverse", shown, SUPERVISOR, confirmations=REVERSE_CONFIRMATIONS)).ok
        await asyncio.sleep(5)
        assert not await rig.core.accounts.owns_card(alice.uid, "airstar", alice.cards["airstar"].number)
        assert [one["event"] for one in rig.of_kind("notify")][-1] == "CARD_UNBOUND"
        rig.world.banks["airstar"].ask(alice, "deposit", 1, "HKD", 600_000)
        await asyncio.sleep(300)
        assert len(rig.of_kind("apply", status="DONE")) == 1, "no other one was made"
        assert len(rig.of_kind("bank.request", message="acknowledge")) == 2

    play(story, cards=("airstar",), planted=True)


# Withdrawals


@pytest.mark.req("APPR-12")
@pytest.mark.parametrize(("status", "paid"), [("foreign", False), ("BINDING", False), ("VERIFIED", True)])
def test_a_withdrawal_goes_to_a_verified_card_of_the_customer_only(status: str, paid: bool) -> None:
    async def story(desk: Desk) -> None:
        rig, core = desk.rig, desk.rig.core
        cards = room_of(rig, desk.accounts)
        core.withdrawals._accounts = CardAccounts(desk.accounts, cards)
        card = await bound(desk, "bob" if status == "foreign" else "alice")
        if status == "VERIFIED":
            await cards.verify_number(card.uid, "hsbc", desk.card("alice", "hsbc"), DEPOSIT)
        alice, before = rig.customer("alice"), await rig.money()
        task = await core.withdrawals.submit(alice.uid, alice.trade_acc_ids[0], 1, card.id,
                                             desk.card("bob" if status == "foreign" else "alice", "hsbc"), "hsbc",
                                             "HKD", 100_000, "hsbc")
        await asyncio.sleep(10)
        found = await core.withdrawals.find(task.id)
        assert (found.status == TaskStatus.PROCESSING) == paid
        if not paid:
            assert found.status in (TaskStatus.REJECTED, TaskStatus.FAILED)
            assert await rig.money() == before and "not bound" in found.remark

    told(story)


def test_the_card_of_an_open_withdrawal_stays_bound_until_it_is_over() -> None:
    async def story(desk: Desk) -> None:
        rig, core = desk.rig, desk.rig.core
        cards = room_of(rig, desk.accounts)
        core.withdrawals._accounts = CardAccounts(desk.accounts, cards)
        card = await bound(desk)
        await cards.verify_number(card.uid, "hsbc", desk.card("alice", "hsbc"), DEPOSIT)
        alice = rig.customer("alice")
        task = await core.withdrawals.submit(alice.uid, alice.trade_acc_ids[0], 1, card.id, desk.card("alice", "hsbc"),
                                             "hsbc", "HKD", 100_000, "hsbc")
        await rig.reach(lambda: rig.of_task(task.id), "pending(transfer_manual)")
        refused = await cards.unbind(card.uid, card.id)
        assert isinstance(refused, Refusal) and refused.code is Code.ILLEGAL_STATE and str(task.id) in refused.detail
        shown = await rig.of_task(task.id)
        assert shown is not None and (await rig.operate("SetManualTransferDone", shown)).ok
        await asyncio.sleep(5)
        assert isinstance(await cards.unbind(card.uid, card.id), Card)

    told(story, planted=True)


@pytest.mark.parametrize("first", ["withdrawal", "unbinding"])
def test_of_an_unbinding_and_a_withdrawal_at_the_same_moment_the_first_to_be_written_stands(first: str) -> None:
    """Both have looked and found nothing in their way."""
    async def story(desk: Desk) -> None:
        rig, core = desk.rig, desk.rig.core
        alice, card_id = rig.customer("alice"), rig.world.card_id(rig.customer("alice"), "hsbc")
        looked, before, made = core.withdrawals.open_of_card, await rig.money(), list[Any]()

        async def look(uid: int, card: int) -> int | None:
            found = await looked(uid, card)
            if not made:
                made.append(await rig.withdraw(channel="hsbc"))
                if first == "withdrawal":
                    await rig.reach(lambda: rig.of_task(made[0].id), "pending(transfer_manual)")
            return found

        core.cards.open_task = look
        answer = await core.cards.unbind(alice.uid, card_id)
        await asyncio.sleep(10)
        card, task = await core.cards.card(card_id), await core.withdrawals.find(made[0].id)
        assert card is not None and task is not None
        if first == "withdrawal":
            assert isinstance(answer, Refusal) and answer.code is Code.ILLEGAL_STATE and str(task.id) in answer.detail
            assert (card.status, task.status) == (VERIFIED, TaskStatus.PROCESSING)
        else:
            assert isinstance(answer, Card) and card.status == UNBOUND
            assert task.status == TaskStatus.REJECTED and "not bound" in task.remark
            assert await rig.money() == before

    told(story, planted=first == "withdrawal")


def test_a_withdrawal_that_died_on_its_way_still_holds_the_card() -> None:
    async def story(desk: Desk) -> None:
        rig = desk.rig
        alice, card_id = rig.customer("alice"), rig.world.card_id(rig.customer("alice"), "hsbc")
        task = await rig.withdraw(channel="hsbc")
        rig.world.kill(1_000)
        await asyncio.sleep(120)
        refused = await rig.core.cards.unbind(alice.uid, card_id)
        assert isinstance(refused, Refusal) and str(task.id) in refused.detail
        assert await rig.of_task(task.id) is not None

    told(story, planted=True)


def test_the_card_bound_again_is_another_one_than_that_of_the_withdrawal() -> None:
    async def story(desk: Desk) -> None:
        rig, core = desk.rig, desk.rig.core
        alice = rig.customer("alice")
        number, old, before = alice.cards["hsbc"].number, rig.world.card_id(alice, "hsbc"), await rig.money()
        assert await core.cards.force_unbind(alice.uid, "hsbc", number, "REVERSAL")
        again = await core.cards.bind(alice.uid, "hsbc", number, alice.name)
        assert isinstance(again, Card) and await core.cards.verify_number(alice.uid, "hsbc", number, DEPOSIT)
        task = await rig.withdraw(channel="hsbc")  # names the old row
        await asyncio.sleep(10)
        found = await core.withdrawals.find(task.id)
        assert task.card_id == old and found.status == TaskStatus.REJECTED and await rig.money() == before

    told(story)


# Authorizations


@pytest.mark.parametrize("bank", ["cmb", "cmbc"])
def test_a_withdrawal_straight_after_binding_a_card_that_was_signed_before_is_paid(bank: str) -> None:
    async def story(rig: Rig) -> None:
        alice, core = rig.customer("alice"), rig.core
        number = alice.cards[bank].number
        assert isinstance(await core.cards.unbind(alice.uid, rig.world.card_id(alice, bank)), Card)
        rig.world.sockets[bank].bank.sign("alice", "HK")
        await asyncio.sleep(30)
        card = await core.cards.bind(alice.uid, bank, number, alice.name)
        assert isinstance(card, Card) and card.status == BINDING
        task = await core.withdrawals.submit(alice.uid, alice.trade_acc_ids[0], 1, card.id, number, bank, "HKD",
                                             1_000_000, "auto_bs")
        await rig.reach(lambda: rig.of_task(task.id), "end_ok(transfer_done)")
        found = await core.cards.card(card.id)
        assert found is not None and (found.status, found.verified_by) == (VERIFIED, BST)
        assert len(rig.paid()) == 1 and (await rig.money()).available == 9_000_000

    play(story, cards=("airstar", bank), settings=steady())


def test_an_open_airstar_mandate_verifies_the_card_it_is_for() -> None:
    async def story(desk: Desk) -> None:
        rig, alice = desk.rig, desk.rig.customer("alice")
        cards, number = room_of(rig, desk.accounts), alice.cards["airstar"].number
        card = await cards.bind(alice.uid, "airstar", number, alice.name)
        assert isinstance(card, Card)
        await rig.core.airstar_deposits.authorize(alice.uid, card.id, number, alice.name, f"h{alice.uid}")
        await asyncio.sleep(120)
        mandate = await rig.core.mandates.of_card(card.id)
        assert mandate is not None and mandate.status == MandateStatus.OPEN
        found = await now(desk, card)
        assert (found.status, found.verified_by) == (VERIFIED, BST)

    told(story, cards=("airstar",), settings={"sim.airstar.mandate.fail_share": 0.0})


@pytest.mark.parametrize("bank", ["cmb", "cmbc"])
def test_a_signed_agreement_verifies_the_card_and_goes_over_to_the_one_bound_again(bank: str) -> None:
    async def story(desk: Desk) -> None:
        rig, alice = desk.rig, desk.rig.customer("alice")
        cards, number = room_of(rig, desk.accounts), alice.cards[bank].number
        accounts, agreements = CardAccounts(desk.accounts, cards), rig.core.agreements[bank]
        assert isinstance(await cards.bind(alice.uid, bank, number, alice.name), Card)
        signed: list[int] = []
        for seq in (7, 9):
            holder = await accounts.card_holder(bank, number)
            assert holder is not None and await agreements.notice(holder, number, 1, signed=True, push_seq=seq)
            signed.append(holder.card_id)
            card = await cards.card(holder.card_id)
            assert card is not None and (card.status, card.verified_by) == (VERIFIED, BST)
            assert not isinstance(await agreements.check(holder.card_id, 1), Refusal)
            if seq == 7:
                assert await cards.force_unbind(alice.uid, bank, number, "REVERSAL")
                assert await accounts.card_holder(bank, number) is None, "a push for it belongs to nobody"
                again = await cards.bind(alice.uid, bank, number, alice.name)
                assert isinstance(again, Card)
                assert isinstance(await agreements.check(again.id, 1), Refusal), "it has to be signed again"
        assert isinstance(await agreements.check(signed[0], 1), Refusal), "the agreement is the new card's"
        holder = await accounts.card_holder(bank, number)
        assert holder is not None and not await agreements.notice(holder, number, 1, signed=False, push_seq=8)

    told(story, cards=("airstar", bank))
