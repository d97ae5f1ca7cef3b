"""`bank-card/` over HTTP: what older clients read, and that their writes are the card room's."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from cards_world import ALICE, BOB, NOON, CardDesk, card_desk
from hypothesis import given, settings
from hypothesis import strategies as st

from api.bank_card import BODY_MAX, bank_card_app
from core.cards.bank_cards import BINDING, UNBOUND, Card
from core.errors import Code

NUMBER = "6225880123456789"
BIND = {"uid": ALICE, "bank_code": "hsbc", "card_no": NUMBER, "holder_name": "CHAN TAI MAN"}


def ask(desk: CardDesk, method: str, path: str, **more: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app=bank_card_app(lambda: desk.cards))
        async with httpx.AsyncClient(transport=transport, base_url="http://bank-card") as client:
            return await client.request(method, f"/bank_card/{path}", **more)

    return desk.run(asked())


@pytest.mark.req("COMM-02", "SVC-24")
def test_a_customers_cards_are_read_over_http() -> None:
    with card_desk() as desk:
        first, second = desk.bind(), desk.bind("6225880123450000", bank="hase")
        desk.bind("6225880123451111", BOB)
        desk.run(desk.cards.unbind(ALICE, second.id))
        answer = ask(desk, "GET", "get_list", params={"uid": ALICE})
        assert answer.status_code == 200 and NUMBER not in answer.text
        assert answer.json() == {"code": 0, "message": "", "data": [{
            "card_id": first.id, "uid": ALICE, "bank_code": "hsbc", "bank_name": "HSBC", "card_no": "**** 6789",
            "card_type": "", "ccy_list": [], "holder_name": "CHAN TAI MAN", "status": BINDING,
            "status_name": "BINDING", "verified_by": "", "bound_at": NOON, "unbind_reason": ""}]}
        past = ask(desk, "GET", "get_list", params={"uid": ALICE, "unbound": 1}).json()["data"]
        assert [(one["card_id"], one["status"]) for one in past] == [(first.id, BINDING), (second.id, UNBOUND)]
        assert ask(desk, "GET", "get_list", params={"uid": 5}).json()["data"] == []


@pytest.mark.req("SVC-24")
def test_writes_are_the_card_rooms() -> None:
    with card_desk() as desk:
        made = ask(desk, "POST", "bind", json=BIND | {"ccy_list": ["HKD", "USD"], "card_type": "savings"}).json()
        assert made["code"] == 0 and made["data"]["ccy_list"] == ["HKD", "USD"]
        card = desk.run(desk.cards.with_number("hsbc", NUMBER))
        assert isinstance(card, Card) and card.id == made["data"]["card_id"] and card.card_type == "savings"
        again = ask(desk, "POST", "bind", json=BIND)
        assert (again.status_code, again.json()["code"], again.json()["data"]) == (200, Code.DUPLICATE, None)
        stranger = ask(desk, "POST", "bind", json=BIND | {"card_no": "1234567", "holder_name": "WONG SIU MING"})
        assert stranger.json()["code"] == Code.BLOCKED
        desk.open_tasks[ALICE, card.id] = 17
        assert ask(desk, "POST", "unbind", json={"uid": ALICE, "card_id": card.id}).json()["code"] == Code.ILLEGAL_STATE
        desk.open_tasks.clear()
        done = ask(desk, "POST", "unbind", json={"uid": ALICE, "card_id": card.id}).json()
        assert (done["code"], done["data"]["status_name"]) == (0, "UNBOUND") and desk.status(card) == UNBOUND


@pytest.mark.parametrize(("path", "sent"), [
    ("bind", b""), ("bind", b"[1]"), ("bind", b"{"), ("bind", b'{"uid": true}'), ("bind", b'{"uid": -1}'),
    ("unbind", b'{"uid": 1, "card_id": "x"}'), ("unbind", b'{"uid": 1, "card_id": 1e3}'), ("bind", b"\xff"),
    ("bind", b'{"uid":1,"bank_code":"hsbc","card_no":"1","holder_name":"x","ccy_list":"HKD"}'),
    ("bind", b" " * (BODY_MAX + 1))])
def test_what_is_no_request_is_told(path: str, sent: bytes) -> None:
    with card_desk() as desk:
        answer = ask(desk, "POST", path, content=sent)
        assert answer.status_code == 400 and answer.json()["code"] == Code.INVALID_PARAM and answer.json()["message"]
        assert ask(desk, "GET", "get_list", params={"uid": "abc"}).status_code == 400
        assert ask(desk, "POST", "get_list", content=b"").status_code == 405, "reads are reads"


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(list(BIND)), JSON) | JSON)
def test_whatever_is_sent_is_answered(sent: Any) -> None:
    with card_desk() as desk:
        for path in ("bind", "unbind"):
            answer = ask(desk, "POST", path, json=sent)
            assert answer.status_code in (200, 400) and answer.json()["code"] != 0
