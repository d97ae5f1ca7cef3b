"""SM2 operations per CPU second of each backend, interleaved in one run, and SM3, SM4-GCM beside them."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import process_time
from typing import Any

from core.wire.sm2 import FastSm2, GmsslSm2, LibcryptoSm2, Sm2, hmac_sm3, sm3, sm4_gcm_decrypt, sm4_gcm_encrypt
from core.wire.sm2.fast import USES_BEFORE_TABLE

MESSAGE = bytes(range(256))
SESSION_KEY = bytes(range(16))
KILOBYTE = bytes(1_024)
ROUNDS = 15


def operations(backend: Sm2) -> dict[str, Callable[[], Any]]:
    """Each on a key in frequent use; encryption of a session key."""
    entropy = random.Random(1).randbytes
    private, public = backend.key_pair(entropy)
    signature = backend.sign(private, MESSAGE, entropy=entropy)
    ciphertext = backend.encrypt(public, SESSION_KEY, entropy=entropy)
    return {
        "sign": lambda: backend.sign(private, MESSAGE, entropy=entropy),
        "verify": lambda: backend.verify(public, MESSAGE, signature),
        "encrypt": lambda: backend.encrypt(public, SESSION_KEY, entropy=entropy),
        "decrypt": lambda: backend.decrypt(private, ciphertext),
    }


def fresh_key_verify() -> Callable[[], Any]:
    """Verification under a key that is seen for the first time, so that it has no table."""
    fast, entropy = FastSm2(), random.Random(2).randbytes
    keys = [fast.key_pair(entropy) for _ in range(200)]
    signed = [(pair.public, fast.sign(pair.private, MESSAGE, entropy=entropy)) for pair in keys]
    turn = iter(range(10**9))

    def verify() -> bool:
        public, signature = signed[next(turn) % len(signed)]
        return fast.verify(public, MESSAGE, signature)

    return verify


def symmetric() -> dict[str, Callable[[], Any]]:
    key, nonce = SESSION_KEY, bytes(12)
    ciphertext, tag = sm4_gcm_encrypt(key, nonce, KILOBYTE)
    return {
        "SM3 of 1 KB": lambda: sm3(KILOBYTE),
        "HMAC-SM3 of 1 KB": lambda: hmac_sm3(key, KILOBYTE),
        "SM4-GCM seal of 1 KB": lambda: sm4_gcm_encrypt(key, nonce, KILOBYTE),
        "SM4-GCM open of 1 KB": lambda: sm4_gcm_decrypt(key, nonce, ciphertext, tag),
    }


def table_build() -> float:
    """Milliseconds for the table of a key that has been used often enough."""
    best = float("inf")
    for seed in range(5):
        fast = FastSm2()
        private, public = fast.key_pair(random.Random(seed).randbytes)
        signature = fast.sign(private, MESSAGE, entropy=random.Random(seed).randbytes)
        for _ in range(USES_BEFORE_TABLE - 1):
            fast.verify(public, MESSAGE, signature)
        began = process_time()
        fast.verify(public, MESSAGE, signature)
        best = min(best, process_time() - began)
    return 1e3 * best


def measure() -> dict[str, float]:
    """Operations per second: the best of short turns that alternate, so that a busy machine hits all alike."""
    acts: dict[str, Callable[[], Any]] = {}
    backends: dict[str, Sm2] = {"fast": FastSm2(), "libcrypto": LibcryptoSm2(), "gmssl": GmsslSm2()}
    for name, backend in backends.items():
        acts |= {f"{name} {operation} per s": act for operation, act in operations(backend).items()}
    acts["fast verify, unknown key per s"] = fresh_key_verify()
    acts |= {f"{name} per s": act for name, act in symmetric().items()}
    for name, act in acts.items():
        for _ in range(2 * USES_BEFORE_TABLE if name.startswith("fast") else 1):
            act()
    best = dict.fromkeys(acts, 0.0)
    for _ in range(ROUNDS):
        for name, act in acts.items():
            best[name] = max(best[name], _rate(act, 3 if name.startswith("gmssl") else 200))
    best["fast table of a key, ms"] = table_build()
    best["fast sign over libcrypto sign"] = best["fast sign per s"] / best["libcrypto sign per s"]
    best["fast verify over libcrypto verify"] = best["fast verify per s"] / best["libcrypto verify per s"]
    return best


def _rate(act: Callable[[], Any], times: int) -> float:
    began = process_time()
    for _ in range(times):
        act()
    return times / (process_time() - began)
