"""SM2, SM3 and SM4 for the mainland banks (protocols.md "CMB and CMBC", "CGB"; GB/T 32918, GB/T 32905, GB/T 32907).

One interface, `Sm2`, with three backends:

* `FastSm2`: own arithmetic on gmpy2; the caller's entropy is the nonce, so bytes replay. Not constant time: for
  virtual and paced runs, whose keys protect nothing.
* `LibcryptoSm2`: OpenSSL 3 through ctypes, for live. It draws the nonces of signatures and ciphertexts itself.
* `GmsslSm2`: the gmssl package with the checks it lacks; slow, an oracle for the other two.

A private key is 32 bytes, a public key 65 (``04 || x || y``), a signature 64 (``r || s``), a ciphertext
``C1 || C3 || C2`` (65 + 32 + as many as the plaintext), everything big-endian. OpenSSL's commands speak DER and PEM
instead: see `signature_to_der` and its relations.

Whatever bytes come in, the only exception that comes out is `CryptoError`; whose fault it is, the caller knows. Only
the absence of an algorithm on this machine is `Misconfigured`.
"""

from core.wire.sm2.fast import FastSm2
from core.wire.sm2.forms import (
    MAX_PLAINTEXT_BYTES,
    USER_ID,
    CryptoError,
    Entropy,
    KeyPair,
    Sm2,
    ciphertext_from_der,
    ciphertext_to_der,
    private_from_pem,
    private_to_pem,
    public_from_pem,
    public_to_pem,
    signature_from_der,
    signature_to_der,
)
from core.wire.sm2.libcrypto import LibcryptoSm2
from core.wire.sm2.oracle import GmsslSm2
from core.wire.sm2.symmetric import hmac_sm3, sm3, sm4_gcm_decrypt, sm4_gcm_encrypt

__all__ = [
    "MAX_PLAINTEXT_BYTES",
    "USER_ID",
    "CryptoError",
    "Entropy",
    "FastSm2",
    "GmsslSm2",
    "KeyPair",
    "LibcryptoSm2",
    "Sm2",
    "ciphertext_from_der",
    "ciphertext_to_der",
    "hmac_sm3",
    "private_from_pem",
    "private_to_pem",
    "public_from_pem",
    "public_to_pem",
    "signature_from_der",
    "signature_to_der",
    "sm3",
    "sm4_gcm_decrypt",
    "sm4_gcm_encrypt",
]
