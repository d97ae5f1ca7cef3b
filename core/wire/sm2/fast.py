"""`FastSm2`: SM2 on gmpy2 integers, for virtual and paced runs.

NOT constant time: table look-ups and branches follow secret bits, and private keys stay in a cache. It is for
simulations, whose keys protect nothing; a live deployment takes `LibcryptoSm2`.

What makes it fast: a fixed base (the generator, and every public key that is used often) has a table of all multiples
``digit * 256**place``, so a multiplication is at most 32 additions and no doubling; the additions are made in
rounds of pairs that share one inversion. The multiple of a point used once is computed in the coordinates
(X, Y, ZZ, ZZZ) with x = X/ZZ, y = Y/ZZZ (EFD "xyzz").
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

from gmpy2 import invert, mpz

from core.wire.sm2.forms import (
    DRAWS,
    GX,
    GY,
    USER_ID,
    A,
    B,
    Ciphertext,
    CryptoError,
    Entropy,
    KeyPair,
    N,
    P,
    checked_plaintext,
    checked_user_id,
    draw_scalar,
    join_signature,
    point_bytes,
    point_of,
    private_scalar,
    split_ciphertext,
    split_signature,
)
from core.wire.sm2.symmetric import sm3_hash

Affine = tuple[mpz, mpz]
Xyzz = tuple[mpz, mpz, mpz, mpz]

USES_BEFORE_TABLE: Final = 48
"""A table costs about as much as it saves in so many multiplications."""

TABLES: Final = 8
"""Public keys remembered, the least recently used forgotten; a table takes about 5 MB."""

PRIVATE_KEYS: Final = 256

_P: Final = mpz(P)
_ONE: Final = mpz(1)
_G: Final[Affine] = (mpz(GX), mpz(GY))
_CURVE: Final = b"".join(number.to_bytes(32) for number in (A, B, GX, GY))


class FastSm2:
    """`Sm2` in pure arithmetic; the same entropy gives the same bytes. Not constant time: for simulations only."""

    def __init__(self) -> None:
        self._signers = lru_cache(PRIVATE_KEYS)(_PrivateKey)
        self._publics = lru_cache(TABLES)(_PublicKey)

    def key_pair(self, entropy: Entropy) -> KeyPair:
        private = draw_scalar(entropy, N - 2).to_bytes(32)
        return KeyPair(private, self.public_key(private))

    def public_key(self, private: bytes) -> bytes:
        return self._signers(private).public

    def sign(self, private: bytes, message: bytes, *, entropy: Entropy, user_id: bytes = USER_ID) -> bytes:
        key = self._signers(private)
        digest = message_digest(key.public, message, user_id)
        for _ in range(DRAWS):
            nonce = draw_scalar(entropy, N - 1)
            r = (digest + int(_times_g(nonce)[0])) % N
            s = (key.inverse * (nonce + r) - r) % N
            if r and s and r + nonce != N:
                return join_signature(r, s)
        raise CryptoError("the entropy source gives no usable nonce")

    def verify(self, public: bytes, message: bytes, signature: bytes, *, user_id: bytes = USER_ID) -> bool:
        key = self._publics(public)
        digest = message_digest(public, message, user_id)
        pair = split_signature(signature)
        if pair is None:
            return False
        r, s = pair
        total = _sum(_generator().terms(s) + key.terms((r + s) % N))
        return total is not None and (digest + int(total[0])) % N == r

    def encrypt(self, public: bytes, plaintext: bytes, *, entropy: Entropy) -> bytes:
        key = self._publics(public)
        checked_plaintext(plaintext)
        for _ in range(DRAWS):
            nonce = draw_scalar(entropy, N - 1)
            shared = _coordinates(key.times(nonce))
            mask = key_stream(shared, len(plaintext))
            if mask:
                c2 = (int.from_bytes(plaintext) ^ mask).to_bytes(len(plaintext))
                return Ciphertext(_point(_times_g(nonce)), _check(shared, plaintext), c2).joined()
        raise CryptoError("the entropy source gives no usable nonce")

    def decrypt(self, private: bytes, ciphertext: bytes) -> bytes:
        scalar = private_scalar(private)
        parts = split_ciphertext(ciphertext)
        x, y = point_of(parts.c1)
        shared = _coordinates(_times(scalar, (mpz(x), mpz(y))))
        mask = key_stream(shared, len(parts.c2))
        plaintext = (int.from_bytes(parts.c2) ^ mask).to_bytes(len(parts.c2))
        if not mask or _check(shared, plaintext) != parts.c3:
            raise CryptoError("the SM2 ciphertext was tampered with, or is for another key")
        return plaintext


# --- digests ----------------------------------------------------------------------------------------------------


def message_digest(public: bytes, message: bytes, user_id: bytes) -> int:
    """The number e that is signed: SM3 of the identity's hash Z and the message (GB/T 32918.2, 5.5 and 6.1)."""
    bits = (8 * len(checked_user_id(user_id))).to_bytes(2)
    identity = sm3_hash(bits + user_id + _CURVE + public[1:]).digest()
    return int.from_bytes(sm3_hash(identity + message).digest())


def key_stream(shared: bytes, size: int) -> int:
    """The mask of so many bytes as a number (GB/T 32918.4, 5.4.3): SM3 of the shared point and a counter from 1."""
    start = sm3_hash(shared)
    blocks = []
    for counter in range(1, (size + 31) // 32 + 1):
        block = start.copy()
        block.update(counter.to_bytes(4))
        blocks.append(block.digest())
    return int.from_bytes(b"".join(blocks)[:size])


def _check(shared: bytes, plaintext: bytes) -> bytes:
    """C3: SM3 of x2, plaintext, y2."""
    return sm3_hash(shared[:32] + plaintext + shared[32:]).digest()


# --- keys -------------------------------------------------------------------------------------------------------


class _PrivateKey:
    """What signing needs of a private key."""

    __slots__ = ("inverse", "public")

    def __init__(self, private: bytes) -> None:
        scalar = private_scalar(private)
        self.inverse = pow(1 + scalar, -1, N)
        self.public = _point(_times_g(scalar))


class _PublicKey:
    """A point that gets a table once it has been used often enough to pay for it."""

    __slots__ = ("_point", "_table", "_uses")

    def __init__(self, public: bytes) -> None:
        x, y = point_of(public)
        self._point: Affine = (mpz(x), mpz(y))
        self._uses = 0
        self._table: _Table | None = None

    def terms(self, scalar: int) -> list[Affine]:
        """Points whose sum is the multiple."""
        if self._table is not None:
            return self._table.terms(scalar)
        self._uses += 1
        if self._uses == USES_BEFORE_TABLE:
            self._table = _Table(self._point)
        return [_times(scalar, self._point)]

    def times(self, scalar: int) -> Affine:
        return _nonzero(_sum(self.terms(scalar)))


class _Table:
    """All ``digit * 256**place * point`` for 32 places and 255 digits."""

    __slots__ = ("_rows",)

    def __init__(self, point: Affine) -> None:
        powers: list[Xyzz] = [(*point, _ONE, _ONE)]
        for _ in range(31):
            powers.append(_double_times(powers[-1], 8))
        ones = _affine(powers)
        # Digit 0 adds nothing and is never looked up; its place is filled so that digits are indexes.
        columns = [ones, ones, _affine([_double_times(power, 1) for power in powers])]
        while len(columns) < 256:
            columns.append(_halved(columns[-1] + ones))
        self._rows = list(zip(*columns, strict=True))

    def terms(self, scalar: int) -> list[Affine]:
        """At most 32 points whose sum is the multiple by a scalar below 2**256."""
        digits = scalar.to_bytes(32, "little")
        return [row[digit] for row, digit in zip(self._rows, digits, strict=True) if digit]


@cache
def _generator() -> _Table:
    """The generator's table, made at the first use."""
    return _Table(_G)


# --- points -----------------------------------------------------------------------------------------------------


def _times_g(scalar: int) -> Affine:
    return _nonzero(_sum(_generator().terms(scalar)))


def _times(scalar: int, point: Affine) -> Affine:
    """The multiple of a point used once, by a scalar in 1 … n-1: four bits at a time."""
    digits = _affine(_multiples(point, 15))
    total: Xyzz | None = None
    for digit in f"{scalar:064x}":
        total = _double_times(total, 4) if total else None
        if digit != "0":
            total = _add(total, digits[int(digit, 16) - 1])
    return _nonzero(_affine([total])[0] if total else None)


def _sum(points: list[Affine]) -> Affine | None:
    """Sum of at least one point; None is the point at infinity.

    Pairs are added in affine coordinates with one inversion for all pairs of a round. Two points of one x have no such
    sum (a hostile signature can arrange that): then every addition is made by the complete formula.
    """
    try:
        while len(points) > 1:
            points = _halved(points)
    except ZeroDivisionError:
        total: Xyzz | None = None
        for point in points:
            total = _add(total, point)
        return _affine([total])[0] if total else None
    return points[0]


def _halved(points: list[Affine]) -> list[Affine]:
    """The sums of the first half's points with the second half's, in order, and the one left over; 1 inversion.

    `ZeroDivisionError` if a pair has one x.
    """
    half = len(points) // 2
    pairs = list(zip(points[:half], points[half:2 * half], strict=True))
    product, steps = _ONE, []
    for (x1, _), (x2, _) in pairs:
        step = x2 - x1
        steps.append((step, product))
        product = product * step % _P
    inverse = invert(product, _P)
    sums = points[2 * half:]
    for ((x1, y1), (x2, y2)), (step, before) in zip(reversed(pairs), reversed(steps), strict=True):
        slope = (y2 - y1) * (inverse * before % _P) % _P
        inverse = inverse * step % _P
        x3 = (slope * slope - x1 - x2) % _P
        sums.append((x3, (slope * (x1 - x3) - y1) % _P))
    return sums[::-1]


def _multiples(point: Affine, count: int) -> list[Xyzz]:
    """1, 2, … count times the point; count is far below the order, so none is zero."""
    multiples: list[Xyzz] = [(*point, _ONE, _ONE)]
    while len(multiples) < count:
        total = _add(multiples[-1], point)
        assert total is not None
        multiples.append(total)
    return multiples


def _add(total: Xyzz | None, point: Affine) -> Xyzz | None:
    """Complete addition (EFD madd-2008-s): None is the point at infinity."""
    x2, y2 = point
    if total is None:
        return x2, y2, _ONE, _ONE
    x1, y1, zz, zzz = total
    p = (x2 * zz - x1) % _P
    r = (y2 * zzz - y1) % _P
    if not p:
        return None if r else _double_times((x2, y2, _ONE, _ONE), 1)
    pp = p * p % _P
    ppp = p * pp % _P
    q = x1 * pp % _P
    x3 = (r * r - ppp - q - q) % _P
    return x3, (r * (q - x3) - y1 * ppp) % _P, zz * pp % _P, zzz * ppp % _P


def _double_times(point: Xyzz, times: int) -> Xyzz:
    """2**times times the point (EFD dbl-2008-s-1 with a = -3); no point of the curve has y = 0."""
    x, y, zz, zzz = point
    for _ in range(times):
        u = y + y
        v = u * u % _P
        w = u * v % _P
        s = x * v % _P
        m = 3 * (x - zz) * (x + zz) % _P
        x = (m * m - s - s) % _P
        y = (m * (s - x) - w * y) % _P
        zz = v * zz % _P
        zzz = w * zzz % _P
    return x, y, zz, zzz


def _affine(points: list[Xyzz]) -> list[Affine]:
    """Affine coordinates of points that are not infinity, with one inversion for all (Montgomery's trick)."""
    products = [_ONE]
    for point in points:
        products.append(products[-1] * point[3] % _P)
    inverse = invert(products[-1], _P)
    done = []
    for (x, y, zz, zzz), before in zip(reversed(points), reversed(products[:-1]), strict=True):
        own = inverse * before % _P
        inverse = inverse * zzz % _P
        root = own * zz % _P
        done.append((x * root * root % _P, y * own % _P))
    return done[::-1]


def _nonzero(point: Affine | None) -> Affine:
    """A multiple that cannot be infinity, because the scalar is in 1 … n-1 and n is prime."""
    assert point is not None
    return point


def _coordinates(point: Affine) -> bytes:
    return int(point[0]).to_bytes(32) + int(point[1]).to_bytes(32)


def _point(point: Affine) -> bytes:
    return point_bytes(int(point[0]), int(point[1]))
