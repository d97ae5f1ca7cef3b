"""The card room: who may bind which card, what verifies it, how it is taken off, and what the others are answered."""

from __future__ import annotations

from typing import Any

import pytest
from cards_world import ALICE, BOB, BOSS, KEY, LAW, NAMES, NIGHT, NOON, OPS, CardDesk, Customers, card_desk, code_of

from core.accounts import CardHolder
from core.cards.bank_cards import (
    ADOPTED,
    BINDING,
    BST,
    CERTIFICATE,
    DEPOSIT,
    EDDA,
    FROZEN,
    STATUS_NAMES,
    UNBOUND,
    VERIFIED,
    Adoption,
    BankCards,
    Card,
    CardAccounts,
    Certificate,
)
from core.cards.numbers import CardNumbers
from core.domain import Role
from core.errors import Code, Misconfigured
from core.orchestration.records import Actor
from core.storage import UniqueViolation
from core.storage.account import CARD_STATUSES

NUMBER = "6225880123456789"


def test_the_statuses_are_those_of_the_table() -> None:
    assert tuple(STATUS_NAMES) == CARD_STATUSES == (1, 2, 3, 4)


# Binding


def test_a_bound_card_waits_for_its_verification() -> None:
    with card_desk() as desk:
        card = desk.bind("6225 8801 2345 6789")
        assert card == Card(card.id, ALICE, "hsbc", "6789", "", "", "CHAN TAI MAN", BINDING, NOON, "", "", NOON)
        assert desk.run(desk.cards.card(card.id)) == card
        assert desk.told() == [{"card": card.id, "uid": ALICE, "bank": "hsbc", "last4": "6789", "status": "BINDING",
                                "how": "bound"}]


@pytest.mark.parametrize(("holder", "taken"), [
    ("CHAN TAI MAN", True), ("Chan, Tai-Man", True), ("TAI MAN CHAN", True), ("CHAN TAI MANN", True),
    ("陳大文", True), ("CHAN TAI MIN", True),  # 11 of 12 signs: 0.92
    ("CHAN TAI", False),  # 0.80
    ("CHAN SIU MAN", False), ("WONG SIU MING", False)])
def test_the_holder_of_a_card_is_the_holder_of_the_account(holder: str, taken: bool) -> None:
    with card_desk() as desk:
        found = desk.run(desk.cards.bind(ALICE, "hsbc", NUMBER, holder))
        assert isinstance(found, Card) if taken else code_of(found) is Code.BLOCKED
        assert len(desk.run(desk.cards.of_customer(ALICE))) == taken


def test_how_much_names_must_resemble_each_other_is_a_setting() -> None:
    with card_desk(**{"card.name_similarity": 0.79}) as desk:
        assert isinstance(desk.run(desk.cards.bind(ALICE, "hsbc", NUMBER, "CHAN TAI")), Card)
        assert desk.settings.leaf("card.name_similarity").value == 0.90


@pytest.mark.parametrize(("given", "code"), [
    ({"bank": "nobank"}, Code.INVALID_PARAM), ({"number": "123"}, Code.INVALID_PARAM),
    ({"number": "1" * 35}, Code.INVALID_PARAM), ({"number": "12345é"}, Code.INVALID_PARAM),
    ({"holder_name": " "}, Code.INVALID_PARAM), ({"holder_name": "A" * 141}, Code.INVALID_PARAM),
    ({"currencies": ("HKD", "HKD")}, Code.INVALID_PARAM), ({"currencies": ("EUR",)}, Code.INVALID_PARAM),
    ({"card_type": "x" * 17}, Code.INVALID_PARAM), ({"uid": 5}, Code.NOT_FOUND)])
def test_what_is_no_card_is_refused(given: dict[str, Any], code: Code) -> None:
    with card_desk() as desk:
        asked = {"uid": ALICE, "bank": "hsbc", "number": NUMBER, "holder_name": "CHAN TAI MAN"} | given
        assert code_of(desk.run(desk.cards.bind(**asked))) is code
        assert not desk.events


def test_a_customer_has_at_most_ten_cards_and_a_place_is_free_again() -> None:
    with card_desk() as desk:
        cards = [desk.bind(f"62258801234567{n:02d}") for n in range(10)]
        assert desk.settings["card.limit"] == 10
        assert code_of(desk.run(desk.cards.bind(ALICE, "hsbc", NUMBER, "CHAN TAI MAN"))) is Code.BLOCKED
        desk.bind(NUMBER, BOB)
        desk.run(desk.cards.unbind(ALICE, cards[3].id))
        desk.bind("6225880123456799")
        assert code_of(desk.run(desk.cards.bind(ALICE, "hsbc", "6225880123456700", "CHAN TAI MAN"))) is Code.DUPLICATE


def test_a_card_has_one_holder() -> None:
    with card_desk() as desk:
        card = desk.bind()
        mine = desk.run(desk.cards.bind(ALICE, "hsbc", NUMBER, "CHAN TAI MAN"))
        his = desk.run(desk.cards.bind(BOB, "hsbc", NUMBER, "WONG SIU MING"))
        assert code_of(mine) is code_of(his) is Code.DUPLICATE
        assert str(card.id) in mine.detail and str(ALICE) not in his.detail  # type: ignore[union-attr]
        desk.bind(uid=BOB, bank="hase")


def test_the_database_itself_keeps_number_and_places_apart() -> None:
    """What one worker sees does not decide: two of them bind at the same moment."""
    with card_desk() as desk:
        desk.bind()
        rows = [Adoption(77, BOB, "hsbc", NUMBER, "WONG SIU MING"), Adoption(78, ALICE, "hase", NUMBER, "CHAN TAI MAN")]
        for row in rows:  # the number is bound; the customer's first place is taken
            with pytest.raises(UniqueViolation):
                desk.run(desk.cards.adopt([row]))


def test_cards_are_taken_over_verified_with_the_ids_they_had() -> None:
    with card_desk() as desk:
        desk.run(desk.cards.adopt([Adoption(100 + n, ALICE, "hsbc", f"{NUMBER}{n}", "CHAN TAI MAN") for n in range(3)]))
        found = [card for card, _ in desk.run(desk.cards.of_customer(ALICE))]
        assert [(card.id, card.status, card.verified_by) for card in found] == [
            (100 + n, VERIFIED, ADOPTED) for n in range(3)]
        assert desk.run(desk.cards.number(101)) == f"{NUMBER}1"


# Verification


@pytest.mark.parametrize("how", [BST, EDDA])
def test_an_authorization_verifies_a_card_once(how: str) -> None:
    with card_desk() as desk:
        card = desk.bind()

        async def opened() -> bool:
            async with desk.databases.account.transaction() as tx:
                return await desk.cards.verified(tx, card.id, how)

        assert desk.run(opened()) and not desk.run(opened())
        found = desk.run(desk.cards.card(card.id))
        assert found is not None and (found.status, found.verified_by) == (VERIFIED, how)
        assert [one["how"] for one in desk.told()] == ["bound", how]


def _certified(desk: CardDesk, card: Card) -> int:
    number = desk.run(desk.cards.add_certificate(ALICE, card.id, "file-1", "bank statement"))
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize("accept", [True, False])
def test_a_certificate_is_looked_at_by_a_person_once(accept: bool) -> None:
    with card_desk() as desk:
        card = desk.bind()
        number = _certified(desk, card)
        assert [one.id for one in desk.run(desk.cards.certificates())] == [number] and desk.status(card) == BINDING
        done = desk.run(desk.cards.check_certificate(number, OPS, accept=accept, remark="seen"))
        state = "ACCEPTED" if accept else "REJECTED"
        assert done == Certificate(number, card.id, "file-1", "bank statement", state, "staff_1001", "seen")
        found = desk.run(desk.cards.card(card.id))
        assert found is not None
        assert (found.status, found.verified_by) == ((VERIFIED, CERTIFICATE) if accept else (BINDING, ""))
        again = desk.run(desk.cards.check_certificate(number, BOSS, accept=True, remark="again"))
        assert code_of(again) is Code.ILLEGAL_STATE and desk.run(desk.cards.certificates()) == []
        assert desk.told("staff") == [{"operator": "staff_1001", "role": "frontline_ops", "action": "check_certificate",
                                       "subject": f"C{card.id}", "result": state}]


@pytest.mark.parametrize("role", list(Role))
def test_certificates_are_for_operations(role: Role) -> None:
    with card_desk() as desk:
        number = _certified(desk, desk.bind())
        done = desk.run(desk.cards.check_certificate(number, Actor("somebody", role), accept=True, remark="seen"))
        allowed = role in (Role.FRONTLINE, Role.SUPERVISOR)
        assert isinstance(done, Certificate) if allowed else code_of(done) is Code.FORBIDDEN


def test_a_certificate_needs_a_card_that_waits_and_words() -> None:
    with card_desk() as desk:
        card, cards = desk.bind(), desk.cards
        assert code_of(desk.run(cards.add_certificate(BOB, card.id, "f", "k"))) is Code.NOT_FOUND
        assert code_of(desk.run(cards.add_certificate(ALICE, card.id, "", "k"))) is Code.INVALID_PARAM
        assert code_of(desk.run(cards.check_certificate(99, OPS, accept=True, remark="x"))) is Code.NOT_FOUND
        number = _certified(desk, card)
        assert code_of(desk.run(cards.check_certificate(number, OPS, accept=True, remark=" "))) is Code.INVALID_PARAM
        desk.run(cards.check_certificate(number, OPS, accept=True, remark="seen"))
        assert code_of(desk.run(cards.add_certificate(ALICE, card.id, "f", "k"))) is Code.ILLEGAL_STATE


def test_a_certificate_of_a_card_that_was_unbound_meanwhile_verifies_nothing() -> None:
    with card_desk() as desk:
        card = desk.bind()
        number = _certified(desk, card)
        desk.run(desk.cards.unbind(ALICE, card.id))
        desk.run(desk.cards.check_certificate(number, OPS, accept=True, remark="seen"))
        assert desk.status(card) == UNBOUND


# Freezing


@pytest.mark.parametrize("verified", [True, False])
def test_a_frozen_card_is_again_what_it_was(verified: bool) -> None:
    with card_desk() as desk:
        card, before = desk.bind(), VERIFIED if verified else BINDING
        if verified:
            desk.run(desk.cards.verify_number(ALICE, "hsbc", NUMBER, DEPOSIT))
        assert code_of(desk.run(desk.cards.thaw(card.id, LAW, "x"))) is Code.ILLEGAL_STATE
        assert isinstance(desk.run(desk.cards.freeze(card.id, LAW, "court order")), Card)
        assert desk.status(card) == FROZEN
        assert code_of(desk.run(desk.cards.freeze(card.id, LAW, "again"))) is Code.ILLEGAL_STATE
        assert not desk.run(desk.cards.verify_number(ALICE, "hsbc", NUMBER, DEPOSIT)), "nothing thaws it but a person"
        assert isinstance(desk.run(desk.cards.thaw(card.id, BOSS, "lifted")), Card) and desk.status(card) == before


@pytest.mark.parametrize("role", list(Role))
def test_freezing_is_for_supervisors_and_compliance(role: Role) -> None:
    with card_desk() as desk:
        found = desk.run(desk.cards.freeze(desk.bind().id, Actor("somebody", role), "why"))
        allowed = role in (Role.SUPERVISOR, Role.COMPLIANCE)
        assert isinstance(found, Card) if allowed else code_of(found) is Code.FORBIDDEN
    with card_desk() as desk:
        assert code_of(desk.run(desk.cards.freeze(99, BOSS, "why"))) is Code.NOT_FOUND
        assert code_of(desk.run(desk.cards.freeze(desk.bind().id, BOSS, " "))) is Code.INVALID_PARAM
        assert code_of(desk.run(desk.cards.freeze(1, NIGHT, "why"))) is Code.FORBIDDEN


# Unbinding


def test_a_card_stays_bound_while_a_withdrawal_to_it_is_open() -> None:
    with card_desk() as desk:
        card = desk.bind()
        desk.open_tasks[ALICE, card.id] = 17
        refused = desk.run(desk.cards.unbind(ALICE, card.id))
        assert code_of(refused) is Code.ILLEGAL_STATE and "17" in refused.detail  # type: ignore[union-attr]
        assert desk.status(card) == BINDING
        desk.open_tasks.clear()
        done = desk.run(desk.cards.unbind(ALICE, card.id))
        assert isinstance(done, Card) and (done.status, done.unbind_reason) == (UNBOUND, "USER")
        assert desk.run(desk.cards.card(card.id)) == done
        assert code_of(desk.run(desk.cards.unbind(ALICE, card.id))) is Code.ILLEGAL_STATE
        assert code_of(desk.run(desk.cards.unbind(BOB, card.id))) is Code.NOT_FOUND


def test_a_reversal_unbinds_whatever_is_open() -> None:
    with card_desk() as desk:
        card = desk.bind()
        desk.open_tasks[ALICE, card.id] = 17
        assert not desk.run(desk.cards.force_unbind(BOB, "hsbc", NUMBER, "REVERSAL")), "it is not his"
        assert desk.run(desk.cards.force_unbind(ALICE, "hsbc", NUMBER, "REVERSAL"))
        found = desk.run(desk.cards.card(card.id))
        assert found is not None and (found.status, found.unbind_reason) == (UNBOUND, "REVERSAL")
        assert not desk.run(desk.cards.force_unbind(ALICE, "hsbc", NUMBER, "REVERSAL"))


def test_binding_again_makes_a_new_row_that_begins_anew() -> None:
    with card_desk() as desk:
        first = desk.bind()
        desk.run(desk.cards.verify_number(ALICE, "hsbc", NUMBER, DEPOSIT))
        desk.run(desk.cards.force_unbind(ALICE, "hsbc", NUMBER, "REVERSAL"))
        second = desk.bind()
        assert second.id != first.id and second.status == BINDING and second.verified_by == ""
        assert [(card.id, card.status, name) for card, name in desk.run(desk.cards.of_customer(ALICE))] == [
            (first.id, UNBOUND, "HSBC"), (second.id, BINDING, "HSBC")]
        assert desk.run(desk.cards.number(first.id)) == NUMBER, "what is on its way to it goes on"
        another = desk.run(desk.cards.with_number("hsbc", NUMBER))
        assert another is not None and another.id == second.id


# What the others are answered


# status -> may withdraw to it, may deposit from it, known to pushes
ANSWERS = {BINDING: (False, True, True), VERIFIED: (True, True, True), UNBOUND: (False, False, False),
           FROZEN: (False, False, False)}


@pytest.mark.parametrize("status", list(ANSWERS))
def test_what_a_card_is_good_for_in_each_status(status: int) -> None:
    with card_desk() as desk:
        card, port = desk.bind(), CardAccounts(Customers(), desk.cards)
        if status in (VERIFIED, UNBOUND, FROZEN):
            assert desk.run(port.verify_card(ALICE, "hsbc", NUMBER))
            assert not desk.run(port.verify_card(ALICE, "hsbc", NUMBER))
        if status == UNBOUND:
            assert desk.run(port.unbind_card(ALICE, "hsbc", NUMBER, "REVERSAL"))
        if status == FROZEN:
            desk.run(desk.cards.freeze(card.id, LAW, "why"))
        assert desk.status(card) == status
        holder = desk.run(port.card_holder("hsbc", NUMBER))
        assert (desk.run(port.owns_card(ALICE, "hsbc", NUMBER)), desk.run(port.has_bound(ALICE, "hsbc", NUMBER)),
                holder is not None) == ANSWERS[status]
        assert holder is None or holder == CardHolder(ALICE, card.id, "CHAN TAI MAN", NAMES[ALICE].en_name,
                                                      verified=status == VERIFIED)
        assert not desk.run(port.owns_card(BOB, "hsbc", NUMBER)) and not desk.run(port.has_bound(BOB, "hsbc", NUMBER))
        assert not desk.run(port.owns_card(ALICE, "hase", NUMBER))
        assert not desk.run(port.verify_card(BOB, "hsbc", NUMBER))
        assert desk.run(port.card_no(card.id)) == NUMBER and desk.run(port.card_no(99)) == ""


def test_customers_and_accounts_are_the_account_services() -> None:
    with card_desk() as desk:
        port = CardAccounts(Customers(), desk.cards)
        assert desk.run(port.trade_account(ALICE, 2)) == ALICE * 10 + 2
        assert desk.run(port.settled_cash(7, "HKD")) == 7 and desk.run(port.risk_level(ALICE)) == ALICE % 5


def test_cards_outlive_the_core_and_need_its_key() -> None:
    with card_desk() as desk:
        card = desk.bind()
        gone = desk.bind("6225880123450000")
        desk.run(desk.cards.force_unbind(ALICE, "hsbc", "6225880123450000", "REVERSAL"))
        desk.databases = desk.databases.reopen()
        port = CardAccounts(Customers(), desk.room())
        assert desk.run(port.has_bound(ALICE, "hsbc", NUMBER)) and desk.run(port.card_no(card.id)) == NUMBER
        assert not desk.run(port.has_bound(ALICE, "hsbc", "6225880123450000"))
        assert desk.run(port.card_no(gone.id)) == "6225880123450000"
        stranger: BankCards = desk.room(KEY[::-1])
        assert desk.run(stranger.with_number("hsbc", NUMBER)) is None
        with pytest.raises(Misconfigured):
            desk.run(stranger.number(card.id))
        assert CardNumbers(KEY).token("hsbc", NUMBER) != CardNumbers(KEY[::-1]).token("hsbc", NUMBER)
