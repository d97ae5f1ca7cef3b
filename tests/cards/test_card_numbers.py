"""Card numbers at rest: sealed, found again without being read, and refused under another key."""

from __future__ import annotations

import base64

import pytest
from cards_world import KEY, card_desk
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from core.cards.numbers import CardNumbers, normal
from core.errors import Misconfigured
from core.storage import Statement
from core.storage.account import METADATA

NUMBERS = CardNumbers(KEY)
BANKS = st.sampled_from(["hsbc", "hase", "cmb"])
DIGITS = st.text("0123456789", min_size=4, max_size=34)


@given(BANKS, DIGITS)
def test_a_sealed_number_is_read_again_and_does_not_show(bank: str, number: str) -> None:
    sealed = NUMBERS.seal(bank, number)
    assert NUMBERS.unseal(bank, sealed) == number and len(sealed) <= 255
    assert number.encode() not in base64.b64decode(sealed)
    assert NUMBERS.seal(bank, number) == sealed, "no randomness is needed"


@given(BANKS, BANKS, DIGITS, DIGITS)
def test_a_token_is_of_one_number_at_one_bank(bank: str, other_bank: str, number: str, other: str) -> None:
    same = (bank, number) == (other_bank, other)
    assert (NUMBERS.token(bank, number) == NUMBERS.token(other_bank, other)) == same
    assert (NUMBERS.seal(bank, number) == NUMBERS.seal(other_bank, other)) == same
    assert number not in NUMBERS.token(bank, number) or len(number) < 8


def test_it_is_aes_gcm_under_a_derived_key_with_the_bank_as_associated_data() -> None:
    """Read by the library itself, without our code."""
    raw = base64.b64decode(NUMBERS.seal("hsbc", "6225880123456789"))
    key = HKDF(SHA256(), 32, salt=None, info=b"bank card seal").derive(KEY)
    assert AESGCM(key).decrypt(raw[:12], raw[12:], b"hsbc") == b"6225880123456789"


@pytest.mark.parametrize("written", ["6225 8801-2345 6789", " 6225880123456789 "])
def test_blanks_and_hyphens_are_no_part_of_a_number(written: str) -> None:
    assert normal(written) == "6225880123456789"
    assert NUMBERS.token("hsbc", written) == NUMBERS.token("hsbc", "6225880123456789")
    assert NUMBERS.unseal("hsbc", NUMBERS.seal("hsbc", written)) == "6225880123456789"


@pytest.mark.parametrize("how", ["other key", "other bank", "changed"])
def test_what_was_not_sealed_here_is_refused(how: str) -> None:
    raw = bytearray(base64.b64decode(NUMBERS.seal("hsbc", "6225880123456789")))
    raw[-1] ^= how == "changed"
    numbers = CardNumbers(bytes(32)) if how == "other key" else NUMBERS
    with pytest.raises(Misconfigured, match="card key"):
        numbers.unseal("cmb" if how == "other bank" else "hsbc", base64.b64encode(bytes(raw)).decode())


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Misconfigured, match="32 random bytes"):
        CardNumbers(bytes(length))


def test_no_column_of_the_database_shows_a_number_that_was_bound() -> None:
    with card_desk() as desk:
        card = desk.bind("6225 8801 2345 6789")
        rows = [row for name in ("bank_card", "bank_info", "bank_card_certificate")
                for row in desk.run(desk.databases.account.all(Statement(select(METADATA.tables[name])), {}))]
        assert rows and not any("622588012345" in str(value) for row in rows for value in row)
        assert not any("622588012345" in str(event) for event in desk.events)
        assert card.last4 == "6789" and desk.run(desk.cards.number(card.id)) == "6225880123456789"
