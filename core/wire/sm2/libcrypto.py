"""`LibcryptoSm2`: SM2 by OpenSSL 3's libcrypto through ctypes, constant time, for live.

libcrypto draws the nonces of signatures and ciphertexts from its own generator: the ``entropy`` given to `sign` and
`encrypt` is not used, and the same call gives other bytes each time. Only `key_pair` draws from the caller.

The library is the one that Python's own ``ssl`` is linked with, or else the one the system names; where none has SM2
(LibreSSL, OpenSSL 1.1, trimmed builds) the constructor raises `Misconfigured` and says what was tried.

OpenSSL's error queue is shared with ``ssl`` in the same thread: every failure here empties it.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_ulong, c_void_p
from ctypes.util import find_library
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from core.errors import Misconfigured
from core.wire.sm2.forms import (
    DRAWS,
    PUBLIC_BYTES,
    USER_ID,
    CryptoError,
    Entropy,
    KeyPair,
    N,
    checked_plaintext,
    checked_user_id,
    ciphertext_from_der,
    ciphertext_to_der,
    draw_scalar,
    point_of,
    private_scalar,
    signature_from_der,
    signature_to_der,
    split_signature,
)

KEYS: Final = 256
"""Prepared keys remembered; the least recently used is freed."""

_SIZE = POINTER(c_size_t)
_NID_SM2: Final = 1172
_UNCOMPRESSED: Final = 4
_SELECT_PUBLIC: Final = 0x86  # EVP_PKEY_PUBLIC_KEY: all parameters and the public key
_SELECT_PAIR: Final = 0x87  # EVP_PKEY_KEYPAIR
_UNSIGNED_INTEGER, _UTF8_STRING, _OCTET_STRING = 2, 4, 5
_OLDEST: Final = 0x30000000

# name -> (result, arguments); everything this file calls.
_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "OpenSSL_version_num": (c_ulong, ()),
    "ERR_clear_error": (None, ()),
    "EVP_MD_fetch": (c_void_p, (c_void_p, c_char_p, c_char_p)),
    "EVP_PKEY_CTX_new_from_name": (c_void_p, (c_void_p, c_char_p, c_char_p)),
    "EVP_PKEY_CTX_new_from_pkey": (c_void_p, (c_void_p, c_void_p, c_char_p)),
    "EVP_PKEY_CTX_free": (None, (c_void_p,)),
    "EVP_PKEY_CTX_set1_id": (c_int, (c_void_p, c_char_p, c_size_t)),
    "EVP_PKEY_fromdata_init": (c_int, (c_void_p,)),
    "EVP_PKEY_fromdata": (c_int, (c_void_p, POINTER(c_void_p), c_int, c_void_p)),
    "EVP_PKEY_free": (None, (c_void_p,)),
    "EVP_MD_CTX_new": (c_void_p, ()),
    "EVP_MD_CTX_free": (None, (c_void_p,)),
    "EVP_MD_CTX_set_pkey_ctx": (None, (c_void_p, c_void_p)),
    "EVP_DigestSignInit": (c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "EVP_DigestSign": (c_int, (c_void_p, c_char_p, _SIZE, c_char_p, c_size_t)),
    "EVP_DigestVerifyInit": (c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "EVP_DigestVerify": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t)),
    "EVP_PKEY_encrypt_init": (c_int, (c_void_p,)),
    "EVP_PKEY_encrypt": (c_int, (c_void_p, c_char_p, _SIZE, c_char_p, c_size_t)),
    "EVP_PKEY_decrypt_init": (c_int, (c_void_p,)),
    "EVP_PKEY_decrypt": (c_int, (c_void_p, c_char_p, _SIZE, c_char_p, c_size_t)),
    "EC_GROUP_new_by_curve_name": (c_void_p, (c_int,)),
    "EC_POINT_new": (c_void_p, (c_void_p,)),
    "EC_POINT_free": (None, (c_void_p,)),
    "EC_POINT_mul": (c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "EC_POINT_point2oct": (c_size_t, (c_void_p, c_void_p, c_int, c_char_p, c_size_t, c_void_p)),
    "BN_bin2bn": (c_void_p, (c_char_p, c_int, c_void_p)),
    "BN_clear_free": (None, (c_void_p,)),
}


class LibcryptoSm2:
    """`Sm2` by libcrypto. ``path`` names a library; without it the one of ``ssl`` or of the system is taken."""

    def __init__(self, path: str | None = None) -> None:
        self._lib, self.path = _open(path)
        self._sm3 = self._lib.EVP_MD_fetch(None, b"SM3", None)
        self._group = self._lib.EC_GROUP_new_by_curve_name(_NID_SM2)
        self._publics = lru_cache(KEYS)(self._public_handle)
        self._privates = lru_cache(KEYS)(self._private_handle)

    def key_pair(self, entropy: Entropy) -> KeyPair:
        private = draw_scalar(entropy, N - 2).to_bytes(32)
        return KeyPair(private, self.public_key(private))

    def public_key(self, private: bytes) -> bytes:
        private_scalar(private)
        lib, out = self._lib, ctypes.create_string_buffer(PUBLIC_BYTES)
        with (
            self._owned(lib.BN_bin2bn(private, len(private), None), lib.BN_clear_free) as scalar,
            self._owned(lib.EC_POINT_new(self._group), lib.EC_POINT_free) as point,
        ):
            self._done(lib.EC_POINT_mul(self._group, point, scalar, None, None, None))
            self._done(lib.EC_POINT_point2oct(self._group, point, _UNCOMPRESSED, out, PUBLIC_BYTES, None) != 0)
        return out.raw

    def sign(self, private: bytes, message: bytes, *, entropy: Entropy, user_id: bytes = USER_ID) -> bytes:
        del entropy  # libcrypto draws its own nonce
        lib, size, out = self._lib, c_size_t(80), ctypes.create_string_buffer(80)
        with self._digesting(self._privates(private), user_id, lib.EVP_DigestSignInit) as context:
            self._done(lib.EVP_DigestSign(context, out, byref(size), message, len(message)))
        return signature_from_der(out.raw[:size.value])

    def verify(self, public: bytes, message: bytes, signature: bytes, *, user_id: bytes = USER_ID) -> bool:
        key, lib = self._publics(public), self._lib
        checked_user_id(user_id)
        if split_signature(signature) is None:
            return False
        der = signature_to_der(signature)
        with self._digesting(key, user_id, lib.EVP_DigestVerifyInit) as context:
            answer = int(lib.EVP_DigestVerify(context, der, len(der), message, len(message)))
        if answer != 1:
            lib.ERR_clear_error()
        return answer == 1

    def encrypt(self, public: bytes, plaintext: bytes, *, entropy: Entropy) -> bytes:
        del entropy  # libcrypto draws its own nonce
        key = self._publics(public)
        checked_plaintext(plaintext)
        for _ in range(DRAWS):
            der = self._crypted(key, plaintext, self._lib.EVP_PKEY_encrypt_init, self._lib.EVP_PKEY_encrypt)
            ciphertext = ciphertext_from_der(der)
            # GB/T 32918.4, 6.1 A5: a mask of zeros calls for another nonce. OpenSSL 3.0.19 looks itself, the first
            # releases of 3.0 do not.
            if not ciphertext.endswith(plaintext):
                return ciphertext
        raise CryptoError("libcrypto's generator gives no usable nonce")

    def decrypt(self, private: bytes, ciphertext: bytes) -> bytes:
        key, der = self._privates(private), ciphertext_to_der(ciphertext)
        return self._crypted(key, der, self._lib.EVP_PKEY_decrypt_init, self._lib.EVP_PKEY_decrypt)

    # --- libcrypto ----------------------------------------------------------------------------------------------

    def _done(self, result: int) -> None:
        """Anything but 1 is a refusal; its place in the error queue is emptied, because ``ssl`` reads that too."""
        if result != 1:
            self._lib.ERR_clear_error()
            raise CryptoError("libcrypto refused the SM2 key, ciphertext or signature")

    @contextmanager
    def _owned(self, pointer: int | None, free: Callable[[int], None]) -> Iterator[int]:
        if not pointer:
            self._lib.ERR_clear_error()
            raise MemoryError("libcrypto gave no memory")
        try:
            yield pointer
        finally:
            free(pointer)

    @contextmanager
    def _digesting(self, key: _Key, user_id: bytes, begin: Callable[..., int]) -> Iterator[int]:
        """A digest context begun for signing or verifying with SM3 and the distinguishing id."""
        lib = self._lib
        checked_user_id(user_id)
        with (
            self._owned(lib.EVP_PKEY_CTX_new_from_pkey(None, key.pointer, None), lib.EVP_PKEY_CTX_free) as options,
            self._owned(lib.EVP_MD_CTX_new(), lib.EVP_MD_CTX_free) as context,
        ):
            self._done(lib.EVP_PKEY_CTX_set1_id(options, user_id, len(user_id)))
            lib.EVP_MD_CTX_set_pkey_ctx(context, options)
            self._done(begin(context, None, self._sm3, None, key.pointer))
            yield context

    def _crypted(self, key: _Key, text: bytes, begin: Callable[..., int], act: Callable[..., int]) -> bytes:
        lib, size = self._lib, c_size_t()
        with self._owned(lib.EVP_PKEY_CTX_new_from_pkey(None, key.pointer, None), lib.EVP_PKEY_CTX_free) as context:
            self._done(begin(context))
            self._done(act(context, None, byref(size), text, len(text)))
            out = ctypes.create_string_buffer(size.value)
            self._done(act(context, out, byref(size), text, len(text)))
        return out.raw[:size.value]

    def _public_handle(self, public: bytes) -> _Key:
        point_of(public)
        return self._handle(_SELECT_PUBLIC, _parameters(public))

    def _private_handle(self, private: bytes) -> _Key:
        return self._handle(_SELECT_PAIR, _parameters(self.public_key(private), private))

    def _handle(self, selection: int, parameters: ctypes.Array[_Parameter]) -> _Key:
        lib, pointer = self._lib, c_void_p()
        with self._owned(lib.EVP_PKEY_CTX_new_from_name(None, b"SM2", None), lib.EVP_PKEY_CTX_free) as context:
            self._done(lib.EVP_PKEY_fromdata_init(context))
            self._done(lib.EVP_PKEY_fromdata(context, byref(pointer), selection, parameters))
        assert pointer.value is not None
        return _Key(pointer.value, lib.EVP_PKEY_free)


class _Key:
    """An EVP_PKEY, freed with this object."""

    def __init__(self, pointer: int, free: Callable[[int], None]) -> None:
        self.pointer = pointer
        weakref.finalize(self, free, pointer).atexit = False


class _Parameter(ctypes.Structure):
    """OSSL_PARAM."""

    _fields_ = (
        ("key", c_char_p), ("data_type", c_uint), ("data", c_void_p), ("data_size", c_size_t),
        ("return_size", c_size_t),
    )


def _parameters(public: bytes, private: bytes | None = None) -> ctypes.Array[_Parameter]:
    """The terminated list that describes a key to EVP_PKEY_fromdata."""
    wanted = [(b"group", _UTF8_STRING, b"SM2"), (b"pub", _OCTET_STRING, public)]
    if private is not None:
        native = private if sys.byteorder == "big" else private[::-1]
        wanted.append((b"priv", _UNSIGNED_INTEGER, native))
    held = [ctypes.create_string_buffer(value, len(value)) for _, _, value in wanted]
    filled = [_Parameter(name, kind, ctypes.cast(value, c_void_p), len(value), 0)
              for (name, kind, _), value in zip(wanted, held, strict=True)]
    array = (_Parameter * (len(filled) + 1))(*filled)
    array.held = held  # type: ignore[attr-defined]  # what is pointed to lives as long as the list
    return array


# --- finding the library ----------------------------------------------------------------------------------------


def _open(path: str | None) -> tuple[Any, str]:
    """The first library with everything needed, and where it was found."""
    tried = []
    for candidate in [path] if path else _candidates():
        try:
            return _declared(ctypes.CDLL(candidate)), candidate
        except (OSError, AttributeError, _Unfit) as error:
            tried.append(f"{candidate}: {error}")
    raise Misconfigured("no libcrypto with SM2", where="; ".join(tried) or "nothing found",
                        remedy="install OpenSSL 3 (Debian: libssl3) or give the path of its libcrypto")


def _candidates() -> list[str]:
    """Python's own extension modules (whose symbols include the libcrypto they are linked with), then the system's."""
    own = [spec.origin for name in ("_hashlib", "_ssl") if (spec := find_spec(name)) and spec.has_location]
    # macOS stops a process that loads the unversioned library of the system.
    found = [] if sys.platform == "darwin" else [find_library("crypto")]
    homebrew = "opt/openssl@3/lib/libcrypto.3.dylib"
    known = {
        "darwin": [f"/opt/homebrew/{homebrew}", f"/usr/local/{homebrew}"],
        "win32": ["libcrypto-3-x64.dll", "libcrypto-3.dll"],
    }.get(sys.platform, ["libcrypto.so.3"])
    return list(dict.fromkeys(name for name in [*own, *found, *known] if name))


class _Unfit(Exception):
    """A library that loads but lacks SM2."""


def _declared(lib: Any) -> Any:
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    if lib.OpenSSL_version_num() < _OLDEST:
        raise _Unfit("older than OpenSSL 3.0")
    context = lib.EVP_PKEY_CTX_new_from_name(None, b"SM2", None)
    lib.EVP_PKEY_CTX_free(context)
    if not context or not lib.EVP_MD_fetch(None, b"SM3", None) or not lib.EC_GROUP_new_by_curve_name(_NID_SM2):
        lib.ERR_clear_error()
        raise _Unfit("built without SM2 or SM3")
    return lib
