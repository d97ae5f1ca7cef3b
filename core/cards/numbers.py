"""Card numbers at rest (gaps.md B-32): sealed, and found again without being read.

One key of 32 bytes, given by the surroundings, from which three are derived (HKDF-SHA-256), one for each purpose:

* ``card_no_enc`` is AES-256-GCM over the number, bound to its bank. The nonce is a keyed hash of bank and number: no
  source of randomness is needed, and a nonce returns only with the same text under the same key, which then gives the
  same sealed text. So two rows of one card look alike, and nothing else can be learned from two rows.
* ``token`` is a keyed hash (HMAC-SHA-256) of bank and number. Banks name cards by their numbers, in pushes, statements
  and lists, and a number must have one holder: both need an index that is exact. Card numbers are few enough to be
  tried out, so a plain hash would hide nothing; without the key this one says nothing. It has a key of its own, so that
  an index may be shared with who must not unseal.
* ``last4`` is clear: people and smart reminders go by it.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from core.errors import Misconfigured

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


def normal(number: str) -> str:
    """A card number without blanks and hyphens."""
    return number if number.isalnum() else "".join(sign for sign in number if sign.isalnum())


class CardNumbers:
    """Seals and finds the card numbers of one platform. Construct it once for each key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise Misconfigured(f"the key of card numbers has {len(key)} bytes", where="card key",
                                remedy=f"give {KEY_BYTES} random bytes")
        sealing, self._nonces, self._tokens = (_derived(key, use) for use in (b"seal", b"nonce", b"token"))
        self._aes = AESGCM(sealing)

    def seal(self, bank: str, number: str) -> str:
        """What is stored of a number; base64."""
        text = normal(number).encode()
        nonce = _keyed(self._nonces, bank, text)[:_NONCE_BYTES]
        return base64.b64encode(nonce + self._aes.encrypt(nonce, text, bank.encode())).decode()

    def unseal(self, bank: str, sealed: str) -> str:
        """The number again. `Misconfigured` if it was sealed under another key, for another bank, or changed."""
        raw = base64.b64decode(sealed)
        try:
            return self._aes.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], bank.encode()).decode()
        except InvalidTag:
            raise Misconfigured("a card number cannot be unsealed", where="card key",
                                remedy="give the key under which it was written") from None

    def token(self, bank: str, number: str) -> str:
        """What a number is found by: the same for the same card, whatever its blanks."""
        return _keyed(self._tokens, bank, normal(number).encode()).hex()


def _derived(key: bytes, use: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"bank card " + use).derive(key)


def _keyed(key: bytes, bank: str, text: bytes) -> bytes:
    return hmac.digest(key, bank.encode() + b"\0" + text, "sha256")
