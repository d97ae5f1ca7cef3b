"""Files between the bank and us: what opens, what does not, and stock GnuPG as the other party, both ways."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from gnupg_command import Gpg
from hypothesis import given, settings
from hypothesis import strategies as st
from mt910_samples import WHOLE

from core.wire.openpgp import Fault, OpenPgp, Unopened
from core.wire.openpgp_keys import KeyPair, new_pair
from emulators.hsbc.keys import CREATED_S, all_keys
from emulators.hsbc.seal import GOOD, PgpSealing, PlainEnvelope, PlainSealing

PLAIN = WHOLE.encode() * 3
RSA = Path(__file__).parent / "bank_rsa4096.asc"


def pair(seed: int, name: str = "Test <test@nostro.invalid>") -> KeyPair:
    return new_pair(name, random.Random(seed).randbytes, CREATED_S)


BANK, OURS, STRANGER = pair(1, "Bank <bank@nostro.invalid>"), pair(2, "Ours <ours@nostro.invalid>"), pair(3)
SEALED = OpenPgp(BANK.secret, [OURS.certificate]).seal(PLAIN)
ENDS = {"pgp": (PgpSealing(BANK.secret, OURS.certificate, STRANGER), OpenPgp(OURS.secret, [BANK.certificate])),
        "plain": (PlainSealing(), PlainEnvelope())}
EXPECTED = {"truncated_armor": Fault.TRUNCATED, "unsigned": Fault.BAD_SIGNATURE, "signer": Fault.BAD_SIGNATURE,
            "recipient": Fault.WRONG_KEY, "corrupted": None}


def ours() -> OpenPgp:
    return OpenPgp(OURS.secret, [BANK.certificate])


@pytest.fixture
def gpg() -> Iterator[Gpg]:
    with tempfile.TemporaryDirectory(prefix="gpg") as folder:
        command = Gpg(Path(folder) / "h")
        yield command
        command.close()


def test_what_is_sealed_is_opened() -> None:
    assert ours().open(SEALED) == PLAIN
    assert SEALED.startswith(b"-----BEGIN PGP MESSAGE-----")


def test_a_file_of_ours_is_opened_by_the_bank() -> None:
    assert OpenPgp(BANK.secret, [OURS.certificate]).open(ours().seal(b"x")) == b"x"


def test_keys_come_from_the_given_entropy() -> None:
    assert pair(1) == pair(1) and pair(1, "A <a@b.c>") != pair(2, "A <a@b.c>")
    assert all_keys(lambda whose: random.Random(whose).randbytes) is not None


@pytest.mark.req("STMT-04")
@pytest.mark.parametrize("form", ENDS)
@pytest.mark.parametrize("how", EXPECTED)
def test_every_way_in_which_a_file_can_be_wrong_is_refused_in_both_forms(form: str, how: str) -> None:
    sealing, envelope = ENDS[form]
    assert envelope.open(sealing.seal(PLAIN, GOOD)) == PLAIN
    with pytest.raises(Unopened) as refused:
        envelope.open(sealing.seal(PLAIN, how))
    if EXPECTED[how] is not None:
        assert refused.value.fault is EXPECTED[how]


@pytest.mark.req("STMT-04")
def test_signed_only_is_not_enough() -> None:
    from pysequoia import Tsk, sign

    with pytest.raises(Unopened) as refused:
        ours().open(sign(Tsk.from_bytes(BANK.secret).signer(), PLAIN))
    assert refused.value.fault is Fault.NOT_ENCRYPTED


@pytest.mark.parametrize("wrong", [
    b"", b"\n", b"no file", SEALED + SEALED, b"hello\n" + SEALED, SEALED + b"hello", SEALED.replace(b"-----END", b""),
    SEALED[: len(SEALED) // 2], WHOLE.encode()])
def test_what_is_not_exactly_one_file_is_refused(wrong: bytes) -> None:
    with pytest.raises(Unopened):
        ours().open(wrong)


def test_binary_files_are_read_and_two_of_them_are_not_one() -> None:
    from pysequoia import Cert, Tsk, encrypt

    binary = encrypt(PLAIN, [Cert.from_bytes(OURS.certificate)], Tsk.from_bytes(BANK.secret).signer(), armor=False)
    assert ours().open(binary) == PLAIN
    for wrong in (binary + binary, binary + b"x", binary[:-1]):
        with pytest.raises(Unopened):
            ours().open(wrong)


def test_a_bank_that_changes_its_key_has_two_for_a_while() -> None:
    both = OpenPgp(OURS.secret, [STRANGER.certificate, BANK.certificate])
    assert both.open(SEALED) == PLAIN


def test_what_is_no_key_is_told() -> None:
    with pytest.raises(ValueError, match="no OpenPGP key"):
        OpenPgp(b"nothing", [BANK.certificate])


@given(st.data())
@settings(deadline=None)
def test_a_changed_file_is_refused_or_says_the_same(data: st.DataObject) -> None:
    changed = bytearray(SEALED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    with suppress(Unopened):
        assert ours().open(bytes(changed)) == PLAIN  # a header or a line end of the armor


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    for form in ENDS:
        with pytest.raises(Unopened):
            ENDS[form][1].open(data)


# --- stock GnuPG -------------------------------------------------------------------------------------------------


def test_gpg_reads_what_the_bank_writes_and_finds_its_signature_good(gpg: Gpg) -> None:
    gpg.run("--import", given=OURS.secret)
    gpg.run("--import", given=BANK.certificate)
    assert gpg.run("--decrypt", given=SEALED) == PLAIN
    assert "GOODSIG" in gpg.said and "Bank <bank@nostro.invalid>" in gpg.said


@pytest.mark.parametrize("options", [["--armor"], [], ["--armor", "--cipher-algo", "AES"]])
def test_what_stock_gpg_encrypts_and_signs_is_opened(gpg: Gpg, options: list[str]) -> None:
    gpg.run("--import", given=BANK.secret)
    gpg.run("--import", given=OURS.certificate)
    sealed = gpg.run("--encrypt", "--sign", "--local-user", "bank@nostro.invalid", "--recipient",
                     "ours@nostro.invalid", *options, given=PLAIN)
    assert ours().open(sealed) == PLAIN


@pytest.mark.req("STMT-04")
def test_what_gpg_only_encrypts_or_somebody_else_signs_is_refused(gpg: Gpg) -> None:
    for key in (OURS.certificate, STRANGER.secret):
        gpg.run("--import", given=key)
    for signs in ([], ["--sign", "--local-user", "test@nostro.invalid"]):
        with pytest.raises(Unopened) as refused:
            ours().open(gpg.run("--encrypt", *signs, "--recipient", "ours@nostro.invalid", given=PLAIN))
        assert refused.value.fault is Fault.BAD_SIGNATURE


def test_a_compressed_file_is_refused_with_the_remedy(gpg: Gpg) -> None:
    gpg.run("--import", given=BANK.secret)
    gpg.run("--import", given=OURS.certificate)
    sealed = gpg.run("--encrypt", "--sign", "--local-user", "bank@nostro.invalid", "--recipient",
                     "ours@nostro.invalid", "--compress-algo", "zip", given=PLAIN)
    with pytest.raises(Unopened, match="without compression"):
        ours().open(sealed)


def test_a_bank_with_gpgs_own_rsa_4096_key(gpg: Gpg) -> None:
    key = RSA.read_bytes()
    gpg.run("--import", given=key)
    gpg.run("--import", given=OURS.certificate)
    sealed = gpg.run("--encrypt", "--sign", "--local-user", "rsa@nostro.invalid", "--recipient", "ours@nostro.invalid",
                     given=PLAIN)
    certificate = gpg.run("--export", "--armor", "rsa@nostro.invalid")
    assert OpenPgp(OURS.secret, [certificate]).open(sealed) == PLAIN
    assert gpg.run("--decrypt", given=OpenPgp(OURS.secret, [certificate]).seal(b"answer")) == b"answer"
    assert "RSA" in gpg.said or "rsa" in gpg.said or "GOODSIG" in gpg.said
