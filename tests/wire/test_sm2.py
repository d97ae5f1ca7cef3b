"""SM2: published vectors, one contract for three backends, each against the others and against ``openssl``."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from gmpy2 import mpz
from gmssl import sm2 as gmssl_sm2
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Misconfigured
from core.wire import sm2
from core.wire.sm2 import CryptoError, FastSm2, GmsslSm2, KeyPair, LibcryptoSm2, Sm2
from core.wire.sm2.fast import TABLES, USES_BEFORE_TABLE, _sum
from core.wire.sm2.forms import GX, GY, B, N, P, point_bytes, point_of
from tests.wire.openssl_command import Openssl

# GB/T 32918.5-2017, annexes A.2 (signature) and C.2 (encryption), on the recommended curve.
PRIVATE = bytes.fromhex("3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
PUBLIC = bytes.fromhex(
    "04"
    "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
)
NONCE = bytes.fromhex("59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21")
SIGNED = b"message digest"
SIGNATURE = bytes.fromhex(
    "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
    "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
)
ENCRYPTED = b"encryption standard"
CIPHERTEXT = bytes.fromhex(
    "04"
    "04EBFC718E8D1798620432268E77FEB6415E2EDE0E073C0F4F640ECD2E149A73"
    "E858F9D81E5430A57B36DAAB8F950A3C64E6EE6A63094D99283AFF767E124DF0"
    "59983C18F809E262923C53AEC295D30383B54E39D609D160AFCB1908D0BD8766"
    "21886CA989CA9C7D58087307CA93092D651EFA"
)

FAST, LIBCRYPTO, GMSSL = FastSm2(), LibcryptoSm2(), GmsslSm2()
BACKENDS: dict[str, Sm2] = {"fast": FAST, "libcrypto": LIBCRYPTO, "gmssl": GMSSL}
QUICK: list[Sm2] = [FAST, LIBCRYPTO]
every_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
every_pair = pytest.mark.parametrize(
    ("one", "other"), list(itertools.permutations(BACKENDS.values(), 2)),
    ids=["-".join(names) for names in itertools.permutations(BACKENDS, 2)],
)


def stream(seed: int = 7) -> Callable[[int], bytes]:
    """Entropy that replays."""
    return random.Random(seed).randbytes


def published_nonce(_size: int) -> bytes:
    return NONCE


PAIR = FAST.key_pair(stream())


@pytest.fixture(scope="module")
def openssl(tmp_path_factory: pytest.TempPathFactory) -> Openssl:
    return Openssl(tmp_path_factory.mktemp("openssl"))


def changed(data: bytes, bit: int) -> bytes:
    """The same bytes with one bit turned."""
    return (int.from_bytes(data) ^ 1 << bit % (8 * len(data))).to_bytes(len(data))


# --- the standard's examples ------------------------------------------------------------------------------------


@every_backend
def test_the_standards_key_signature_and_ciphertext_are_accepted(backend: Sm2) -> None:
    assert backend.public_key(PRIVATE) == PUBLIC
    assert backend.verify(PUBLIC, SIGNED, SIGNATURE)
    assert backend.decrypt(PRIVATE, CIPHERTEXT) == ENCRYPTED


@pytest.mark.parametrize("backend", [FAST, GMSSL], ids=["fast", "gmssl"])
def test_with_the_standards_nonce_the_standards_bytes_come_out(backend: Sm2) -> None:
    assert backend.sign(PRIVATE, SIGNED, entropy=published_nonce) == SIGNATURE
    assert backend.encrypt(PUBLIC, ENCRYPTED, entropy=published_nonce) == CIPHERTEXT


# --- the backends against each other and against openssl --------------------------------------------------------


@every_pair
def test_what_one_backend_signs_and_encrypts_another_accepts(one: Sm2, other: Sm2) -> None:
    entropy = stream(11)
    for size in (1, 31, 32, 33, 100, 1_000):
        pair = one.key_pair(entropy)
        assert other.public_key(pair.private) == pair.public
        text = entropy(size)
        signature = one.sign(pair.private, text, entropy=entropy)
        assert other.verify(pair.public, text, signature)
        assert not other.verify(pair.public, text + b"\0", signature)
        assert other.decrypt(pair.private, one.encrypt(pair.public, text, entropy=entropy)) == text


@pytest.mark.parametrize("user_id", [b"", b"ALICE123@YAHOO.COM", bytes(range(256)), b"x" * 8_190])
def test_fast_and_libcrypto_agree_on_other_distinguishing_ids(user_id: bytes) -> None:
    for one, other in itertools.permutations(QUICK):
        signature = one.sign(PRIVATE, SIGNED, entropy=stream(), user_id=user_id)
        assert other.verify(PUBLIC, SIGNED, signature, user_id=user_id)
        assert not other.verify(PUBLIC, SIGNED, signature)


@every_backend
def test_an_id_too_long_for_the_digest_or_unknown_to_gmssl_is_refused(backend: Sm2) -> None:
    too_long = b"x" * 8_191
    with pytest.raises(CryptoError, match="distinguishing id"):
        backend.sign(PRIVATE, SIGNED, entropy=stream(), user_id=too_long)
    with pytest.raises(CryptoError, match="distinguishing id"):
        backend.verify(PUBLIC, SIGNED, SIGNATURE, user_id=too_long)
    with pytest.raises(CryptoError, match="distinguishing id"):
        GMSSL.verify(PUBLIC, SIGNED, SIGNATURE, user_id=b"somebody")


@every_backend
def test_the_openssl_command_accepts_what_we_make(backend: Sm2, openssl: Openssl) -> None:
    entropy = stream(13)
    pair = backend.key_pair(entropy)
    openssl.install(sm2.private_to_pem(pair), sm2.public_to_pem(pair.public))
    for size in (16, 33, 300):
        text = entropy(size)
        signature = sm2.signature_to_der(backend.sign(pair.private, text, entropy=entropy))
        assert openssl.verifies(text, signature)
        assert not openssl.verifies(text + b"\0", signature)
        ciphertext = backend.encrypt(pair.public, text, entropy=entropy)
        assert openssl.decrypt(sm2.ciphertext_to_der(ciphertext)) == text
        assert openssl.decrypt(sm2.ciphertext_to_der(changed(ciphertext, 5))) is None


@every_backend
def test_we_accept_what_the_openssl_command_makes(backend: Sm2, tmp_path: Path) -> None:
    openssl = Openssl(tmp_path)
    private, public = sm2.private_from_pem(openssl.private_pem)
    assert public == sm2.public_from_pem(openssl.public_pem) == backend.public_key(private)
    assert sm2.private_to_pem(KeyPair(private, public)) == openssl.private_pem
    assert sm2.public_to_pem(public) == openssl.public_pem
    for size in (16, 33, 300):
        text = random.Random(size).randbytes(size)
        signature = sm2.signature_from_der(openssl.sign(text))
        assert backend.verify(public, text, signature)
        assert not backend.verify(public, text[:-1], signature)
        ciphertext = sm2.ciphertext_from_der(openssl.encrypt(text))
        assert backend.decrypt(private, ciphertext) == text


def test_gmssl_itself_reads_and_writes_the_same_ciphertext() -> None:
    """Its own ``encrypt`` and ``decrypt``, which `GmsslSm2` does not use; and it does accept a wrong C3."""
    foreign = gmssl_sm2.CryptSM2(private_key=PRIVATE.hex(), public_key="", mode=1)
    foreign.public_key = PUBLIC[1:].hex()
    ours = FAST.encrypt(PUBLIC, ENCRYPTED, entropy=stream())
    assert foreign.decrypt(ours[1:]) == ENCRYPTED
    wrong = changed(ours, 8 * 40)
    assert foreign.decrypt(wrong[1:]) == ENCRYPTED
    for backend in BACKENDS.values():
        assert backend.decrypt(PRIVATE, b"\x04" + foreign.encrypt(ENCRYPTED)) == ENCRYPTED
        with pytest.raises(CryptoError):
            backend.decrypt(PRIVATE, wrong)


def test_a_public_key_that_begins_with_0_and_4_is_not_corrupted_by_gmssl() -> None:
    entropy = stream(3)
    pair = next(pair for pair in iter(lambda: FAST.key_pair(entropy), None) if pair.public[1] in (0x04, 0x00, 0x44))
    signature = GMSSL.sign(pair.private, SIGNED, entropy=entropy)
    assert GMSSL.verify(pair.public, SIGNED, signature)
    assert FAST.verify(pair.public, SIGNED, signature)


# --- every size, many messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [FAST, LIBCRYPTO], ids=["fast", "libcrypto"])
def test_every_size_from_1_to_2000_comes_back(backend: Sm2) -> None:
    entropy = stream(5)
    for size in range(1, 2_001):
        text = entropy(size)
        ciphertext = backend.encrypt(PAIR.public, text, entropy=entropy)
        assert len(ciphertext) == 97 + size
        assert backend.decrypt(PAIR.private, ciphertext) == text


@every_backend
def test_the_largest_frame_comes_back_and_a_larger_one_is_refused(backend: Sm2) -> None:
    text = bytes(sm2.MAX_PLAINTEXT_BYTES if backend is not GMSSL else 2_000)
    assert backend.decrypt(PRIVATE, backend.encrypt(PUBLIC, text, entropy=stream())) == text
    for refused in (b"", bytes(sm2.MAX_PLAINTEXT_BYTES + 1)):
        with pytest.raises(CryptoError, match="SM2 encrypts 1 to"):
            backend.encrypt(PUBLIC, refused, entropy=stream())


@given(seed=st.integers(0, 2**32), message=st.binary(max_size=2_000), bit=st.integers(0))
@settings(max_examples=200, deadline=None)
def test_a_fast_signature_is_accepted_by_both_and_one_turned_bit_by_neither(
    seed: int, message: bytes, bit: int
) -> None:
    pair = FAST.key_pair(stream(seed))
    signature = FAST.sign(pair.private, message, entropy=stream(seed + 1))
    for backend in (FAST, LIBCRYPTO):
        assert backend.verify(pair.public, message, signature)
        assert not backend.verify(pair.public, message, changed(signature, bit))
        assert not backend.verify(pair.public, message + b"\0", signature)
        assert not backend.verify(PUBLIC, message, signature)


def test_a_key_gives_the_same_answers_before_and_after_it_gets_its_table() -> None:
    backend, entropy = FastSm2(), stream(17)
    for turn in range(2 * USES_BEFORE_TABLE):
        message = entropy(turn)
        signature = LIBCRYPTO.sign(PRIVATE, message, entropy=entropy)
        assert backend.verify(PUBLIC, message, signature)
        assert not backend.verify(PUBLIC, message, changed(signature, turn))
        assert LIBCRYPTO.decrypt(PRIVATE, backend.encrypt(PUBLIC, signature, entropy=entropy)) == signature


def test_more_keys_than_tables_are_all_verified() -> None:
    backend, entropy = FastSm2(), stream(19)
    pairs = [backend.key_pair(entropy) for _ in range(2 * TABLES)]
    for pair in pairs + pairs:
        assert backend.verify(pair.public, SIGNED, backend.sign(pair.private, SIGNED, entropy=entropy))


@pytest.mark.parametrize("private", [1, 2, 3, 255, 256, 257, 2**248, (N - 1) // 2, N - 3, N - 2])
def test_keys_at_the_edges_work_with_and_without_a_table(private: int) -> None:
    """With d = 1 the public key is the generator: additions meet equal and opposite points."""
    backend, entropy = FastSm2(), stream(private % 2**32)
    key = private.to_bytes(32)
    public = LIBCRYPTO.public_key(key)
    assert backend.public_key(key) == public
    for turn in range(2 * USES_BEFORE_TABLE):
        message = turn.to_bytes(4)
        signature = backend.sign(key, message, entropy=entropy)
        assert backend.verify(public, message, signature)
        assert LIBCRYPTO.verify(public, message, signature)
    assert backend.decrypt(key, LIBCRYPTO.encrypt(public, SIGNED, entropy=entropy)) == SIGNED


@pytest.mark.parametrize("uses", [0, 2 * USES_BEFORE_TABLE])
def test_a_signature_whose_sum_is_the_point_at_infinity_is_refused_by_every_backend(uses: int) -> None:
    """s·G + (r+s)·P with P = d·G is infinity for r = -s·(1+d)/d: anybody can write such bytes for his own key."""
    scalar = int.from_bytes(PRIVATE)
    s = 12_345
    hostile = (-s * (1 + scalar) * pow(scalar, -1, N) % N).to_bytes(32) + s.to_bytes(32)
    r_plus_s_is_n = (1).to_bytes(32) + (N - 1).to_bytes(32)
    backend = FastSm2()
    for _ in range(uses):
        assert backend.verify(PUBLIC, SIGNED, SIGNATURE)
    for verifier in (backend, LIBCRYPTO, GMSSL):
        assert not verifier.verify(PUBLIC, SIGNED, hostile)
        assert not verifier.verify(PUBLIC, SIGNED, r_plus_s_is_n)


def test_sums_that_meet_equal_and_opposite_points_are_those_of_libcrypto() -> None:
    plus, minus = (mpz(GX), mpz(GY)), (mpz(GX), mpz(P - GY))
    assert _sum([plus, minus]) is None
    for points, multiple in (
        ([plus, plus], 2), ([plus] * 5, 5), ([plus, minus, plus], 1), ([plus, plus, minus, plus, plus], 3),
        ([plus, minus, plus, plus], 2), ([minus, plus, minus, plus, plus], 1),
    ):
        assert _sum(points) == point_of(LIBCRYPTO.public_key(multiple.to_bytes(32)))


# --- replay and entropy -----------------------------------------------------------------------------------------


def test_the_same_stream_gives_the_same_bytes_and_another_stream_other_bytes() -> None:
    def written(seed: int, backend: Sm2) -> tuple[object, ...]:
        entropy = stream(seed)
        pair = backend.key_pair(entropy)
        return (pair, backend.sign(pair.private, SIGNED, entropy=entropy),
                backend.encrypt(pair.public, ENCRYPTED, entropy=entropy), entropy(8))

    assert written(1, FAST) == written(1, FastSm2()) == written(1, GMSSL)
    assert not set(written(1, FAST)) & set(written(2, FAST))


def test_libcrypto_draws_its_own_nonces() -> None:
    first, second = (LIBCRYPTO.sign(PRIVATE, SIGNED, entropy=published_nonce) for _ in range(2))
    assert first != second
    assert LIBCRYPTO.encrypt(PUBLIC, ENCRYPTED, entropy=published_nonce) != CIPHERTEXT


@pytest.mark.parametrize("broken", [bytes(32), b"\xff" * 32, b"", b"short"], ids=["zeros", "ones", "none", "short"])
def test_a_broken_entropy_source_is_refused_instead_of_used(broken: bytes) -> None:
    def source(_size: int) -> bytes:
        return broken

    for backend in BACKENDS.values():
        with pytest.raises(CryptoError, match="entropy source"):
            backend.key_pair(source)
    for backend in (FAST, GMSSL):
        with pytest.raises(CryptoError, match="entropy source"):
            backend.sign(PRIVATE, SIGNED, entropy=source)
        with pytest.raises(CryptoError, match="entropy source"):
            backend.encrypt(PUBLIC, ENCRYPTED, entropy=source)


def test_a_draw_out_of_range_is_thrown_away() -> None:
    draws = iter([N.to_bytes(32), bytes(32), NONCE])
    assert FAST.sign(PRIVATE, SIGNED, entropy=lambda _: next(draws)) == SIGNATURE


def test_a_nonce_whose_mask_is_all_zero_is_not_used() -> None:
    """One plaintext byte in 256 nonces: the standard draws again, because the ciphertext would be the plaintext."""
    entropy = stream(23)
    for _ in range(1_500):
        for backend in (FAST, LIBCRYPTO):
            assert backend.encrypt(PUBLIC, b"\x5a", entropy=entropy)[-1] != 0x5A


# --- hostile bytes ----------------------------------------------------------------------------------------------

ROOT_OF_B = pow(B, (P + 1) // 4, P)
"""(0, √b) is on the curve; (p, √b) is the same point in a form that must not pass."""
OFF_THE_CURVE = point_bytes(GX, GY ^ 1)
BAD_POINTS = {
    "nothing": b"", "short": PUBLIC[:-1], "long": PUBLIC + b"\0", "infinity": bytes(65), "origin": b"\x04" + bytes(64),
    "compressed": b"\x02" + PUBLIC[1:33], "hybrid": b"\x06" + PUBLIC[1:], "off the curve": OFF_THE_CURVE,
    "x is p": point_bytes(P, ROOT_OF_B), "x over p": b"\x04" + b"\xff" * 64, "no prefix": PUBLIC[1:],
}
BAD_PRIVATE = {"nothing": b"", "zero": bytes(32), "n-1": (N - 1).to_bytes(32), "n": N.to_bytes(32),
               "ones": b"\xff" * 32, "short": PRIVATE[1:], "long": b"\0" + PRIVATE}


@every_backend
def test_the_point_with_x_zero_is_a_key_like_any_other(backend: Sm2) -> None:
    assert (ROOT_OF_B**2 - B) % P == 0
    public = point_bytes(0, ROOT_OF_B)
    assert not backend.verify(public, SIGNED, SIGNATURE)
    assert len(backend.encrypt(public, ENCRYPTED, entropy=stream())) == len(CIPHERTEXT)
    with pytest.raises(CryptoError):
        backend.decrypt(PRIVATE, public + CIPHERTEXT[65:])


@every_backend
@pytest.mark.parametrize("public", BAD_POINTS.values(), ids=BAD_POINTS)
def test_a_public_key_that_is_no_point_of_the_curve_is_refused(backend: Sm2, public: bytes) -> None:
    with pytest.raises(CryptoError):
        backend.verify(public, SIGNED, SIGNATURE)
    with pytest.raises(CryptoError):
        backend.encrypt(public, ENCRYPTED, entropy=stream())
    with pytest.raises(CryptoError):
        sm2.public_to_pem(public)


@every_backend
@pytest.mark.parametrize("c1", BAD_POINTS.values(), ids=BAD_POINTS)
def test_a_ciphertext_whose_point_is_not_of_the_curve_is_refused(backend: Sm2, c1: bytes) -> None:
    with pytest.raises(CryptoError):
        backend.decrypt(PRIVATE, c1 + CIPHERTEXT[65:])


@every_backend
@pytest.mark.parametrize("private", BAD_PRIVATE.values(), ids=BAD_PRIVATE)
def test_a_private_key_out_of_range_is_refused(backend: Sm2, private: bytes) -> None:
    with pytest.raises(CryptoError, match="private key"):
        backend.public_key(private)
    with pytest.raises(CryptoError, match="private key"):
        backend.sign(private, SIGNED, entropy=stream())
    with pytest.raises(CryptoError, match="private key"):
        backend.decrypt(private, CIPHERTEXT)


@every_backend
@pytest.mark.parametrize("r", [0, 1, N - 1, N, 2**256 - 1, -1])
@pytest.mark.parametrize("s", [0, 1, N - 1, N, 2**256 - 1, -1])
def test_r_and_s_out_of_range_are_refused(backend: Sm2, r: int, s: int) -> None:
    """-1 stands for the good half, so that one half alone is wrong, and r + s = n is among the cases."""
    first = SIGNATURE[:32] if r < 0 else r.to_bytes(32)
    second = SIGNATURE[32:] if s < 0 else s.to_bytes(32)
    assert backend.verify(PUBLIC, SIGNED, first + second) == (r == s == -1)


@every_backend
@pytest.mark.parametrize("size", [0, 1, 63, 65, 128])
def test_a_signature_of_another_size_is_refused(backend: Sm2, size: int) -> None:
    assert not backend.verify(PUBLIC, SIGNED, (SIGNATURE * 2)[:size])


@every_backend
def test_every_turned_bit_of_a_ciphertext_is_refused(backend: Sm2) -> None:
    step = 61 if backend is GMSSL else 1
    for bit in range(0, 8 * len(CIPHERTEXT), step):
        with pytest.raises(CryptoError):
            backend.decrypt(PRIVATE, changed(CIPHERTEXT, bit))


@every_backend
def test_a_ciphertext_cut_lengthened_or_for_another_key_is_refused(backend: Sm2) -> None:
    for wrong in (b"", CIPHERTEXT[:64], CIPHERTEXT[:97], CIPHERTEXT[:-1], CIPHERTEXT + b"\0", CIPHERTEXT[1:],
                  CIPHERTEXT[:97] + bytes(sm2.MAX_PLAINTEXT_BYTES + 1)):
        with pytest.raises(CryptoError):
            backend.decrypt(PRIVATE, wrong)
    with pytest.raises(CryptoError):
        backend.decrypt(PAIR.private, CIPHERTEXT)


near_signature = st.builds(changed, st.just(SIGNATURE), st.integers(0))
near_ciphertext = st.builds(changed, st.just(CIPHERTEXT), st.integers(0))


points = st.binary(min_size=64, max_size=64).map(b"\x04".__add__)


@given(public=st.one_of(st.just(PUBLIC), st.binary(max_size=70), points), message=st.binary(max_size=80),
       signature=st.one_of(st.binary(max_size=80), near_signature),
       user_id=st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_fuzz_verify_says_no_or_refuses(public: bytes, message: bytes, signature: bytes, user_id: bytes) -> None:
    for backend in QUICK:
        try:
            assert backend.verify(public, message, signature, user_id=user_id) is False
        except CryptoError:
            assert public != PUBLIC


@given(ciphertext=st.one_of(st.binary(max_size=300), st.binary(max_size=200).map(CIPHERTEXT[:65].__add__),
                            near_ciphertext))
@settings(max_examples=300, deadline=None)
def test_fuzz_decrypt_refuses(ciphertext: bytes) -> None:
    for backend in QUICK:
        with pytest.raises(CryptoError):
            backend.decrypt(PRIVATE, ciphertext)


@given(ciphertext=st.one_of(st.binary(max_size=300), near_ciphertext),
       signature=st.one_of(st.binary(max_size=80), near_signature))
@settings(max_examples=20, deadline=None)
def test_fuzz_gmssl_refuses_too(ciphertext: bytes, signature: bytes) -> None:
    with pytest.raises(CryptoError):
        GMSSL.decrypt(PRIVATE, ciphertext)
    assert not GMSSL.verify(PUBLIC, SIGNED, signature)


def test_a_failure_leaves_nothing_in_the_error_queue_that_ssl_shares() -> None:
    with pytest.raises(CryptoError):
        LIBCRYPTO.decrypt(PRIVATE, changed(CIPHERTEXT, 0))
    assert LIBCRYPTO._lib.ERR_peek_error() == 0
    assert not LIBCRYPTO.verify(PUBLIC, SIGNED, changed(SIGNATURE, 0))
    assert LIBCRYPTO._lib.ERR_peek_error() == 0


def test_a_library_without_sm2_is_named_in_the_refusal(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no libcrypto with SM2.*install OpenSSL 3"):
        LibcryptoSm2(str(tmp_path / "libcrypto.so.3"))
    with pytest.raises(Misconfigured, match="libm"):
        LibcryptoSm2("libm.so.6")
