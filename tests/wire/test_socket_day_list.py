"""The day list over HTTP (PROTOCOL.md §9): one form of the request, both ends signed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.wire.socket import CMB, CMBC, BadSignature, Flavour, FrameType, MalformedMessage
from core.wire.socket import messages as m
from core.wire.socket.day_list import ListQuery, decode_list, encode_list, read_query, sign_query, target_of
from tests.wire.socket_samples import (
    BANK_KEYS,
    BROKER_ID,
    BROKER_KEYS,
    FLAVOURS,
    SERIAL,
    SM2,
    STRANGER_KEYS,
    known_certificate,
    sample,
)

QUERY = ListQuery(BROKER_ID, SERIAL, 41, "20260312", "20260312101530")
ENTROPY = random.Random("day list").randbytes
both = pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)


def signed(target: str, flavour: Flavour = CMB) -> str:
    return SM2.sign(BROKER_KEYS.private, b"LIST" + flavour.magic + b"\x01" + target.encode(), entropy=ENTROPY).hex()


def read(target: str, signature: str, flavour: Flavour = CMB) -> ListQuery:
    return read_query(flavour, target, signature, known_certificate, SM2)


@both
@pytest.mark.parametrize("query", [QUERY, QUERY._replace(business_date="", since_seq=0)], ids=["one day", "all"])
def test_a_request_is_read_as_it_was_written(flavour: Flavour, query: ListQuery) -> None:
    assert read(target_of(query), sign_query(flavour, query, BROKER_KEYS.private, SM2, ENTROPY), flavour) == query


def test_the_target_is_as_the_page_says() -> None:
    wanted = "/day-list?broker=NOSTRO01&serial=2026000000000001&since=41&date=20260312&at=20260312101530"
    assert target_of(QUERY) == wanted
    assert read(wanted, signed(wanted)) == QUERY


_NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7F), min_size=1, max_size=14)


@given(broker=_NAMES, serial=_NAMES)
def test_a_target_has_one_reading(broker: str, serial: str) -> None:
    """A name that could be taken for another field, or that a URL would write differently, has no target at all."""
    query = QUERY._replace(broker=broker, certificate_serial=serial)
    try:
        target = target_of(query)
    except MalformedMessage:
        return
    assert read_query(CMB, target, signed(target), lambda *_: BROKER_KEYS.public, SM2) == query


@pytest.mark.parametrize("name", ["A&serial=B", "A%41", "A#B", "A+B", "A=B", "", "N" * 13, "张三"])
def test_a_broker_that_a_target_cannot_name_is_refused(name: str) -> None:
    with pytest.raises(MalformedMessage):
        target_of(QUERY._replace(broker=name))


@pytest.mark.parametrize(
    ("old", "new"),
    [("since=41", "since=041"), ("since=41", "since=-1"), ("date=20260312", "date=20260230"), ("date=", "day="),
     ("at=20260312101530", "at=20260230101530"), ("at=20260312101530", "at=20260312246060"), ("&at=", "&more=1&at="),
     ("/day-list", "/day-list/"), ("=41", "=٤١"), ("530", "530\n")],
)  # fmt: skip
def test_another_form_of_the_target_is_malformed(old: str, new: str) -> None:
    target = target_of(QUERY).replace(old, new, 1)
    assert target != target_of(QUERY)
    with pytest.raises(MalformedMessage):
        read(target, signed(target))


def test_a_signature_of_another_key_bank_or_request_is_refused() -> None:
    target, good = target_of(QUERY), signed(target_of(QUERY))
    stranger = SM2.sign(STRANGER_KEYS.private, b"LISTCMB1\x01" + target.encode(), entropy=ENTROPY).hex()
    others = [stranger, signed(target, CMBC), signed(target + " "), good[:-2], good.upper(), good + "00", "", "x" * 128]
    for signature in others:
        with pytest.raises(BadSignature):
            read(target, signature)
    with pytest.raises(BadSignature):
        unknown = target_of(QUERY._replace(certificate_serial="2"))
        read(unknown, signed(unknown))


@both
def test_an_answer_is_read_as_it_was_written_and_only_from_the_bank(flavour: Flavour) -> None:
    message = sample(m.DAY_LIST, FrameType.RESPONSE, flavour)
    data = encode_list(flavour, message, BANK_KEYS.private, SM2, ENTROPY)
    assert data[:-64] == flavour.encode(message)
    assert decode_list(flavour, data, BANK_KEYS.public, SM2) == message
    for wrong in (data[:-1], b"", data[1:], data[:50] + b"9" + data[51:], data[-64:]):
        with pytest.raises(BadSignature):
            decode_list(flavour, wrong, BANK_KEYS.public, SM2)
    with pytest.raises(BadSignature):
        decode_list(flavour, data, STRANGER_KEYS.public, SM2)


def test_what_the_bank_signed_and_is_no_day_list_is_malformed() -> None:
    payload = CMB.encode(sample(m.RECONCILIATION, FrameType.RESPONSE))
    signature = SM2.sign(BANK_KEYS.private, b"MESSAGECMB1\x01\x02200106" + payload, entropy=ENTROPY)
    with pytest.raises(MalformedMessage):
        decode_list(CMB, payload + signature, BANK_KEYS.public, SM2)

def test_only_a_day_list_is_written() -> None:
    good = sample(m.DAY_LIST, FrameType.RESPONSE)
    with pytest.raises(MalformedMessage):
        wrong = m.Message(good.kind, good.command, good.header, m.Query("W1"))
        encode_list(CMB, wrong, BANK_KEYS.private, SM2, ENTROPY)
