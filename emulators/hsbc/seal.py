"""How the bank closes its files: with OpenPGP, or, where a scenario wants messages only, with the same words in clear.

A fault closes a file otherwise than was agreed. `PlainEnvelope` is our end of the clear form: it refuses what the real
one refuses, for the same reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from core.wire.openpgp import Envelope, Fault, OpenPgp, Unopened
from core.wire.openpgp_keys import KeyPair
from emulators.faults import Fault as BankFault

GOOD: Final = "good"
_TRUNCATED, _CORRUPTED, _UNSIGNED = "truncated_armor", "corrupted", "unsigned"
_SIGNER, _RECIPIENT = "signer", "recipient"


class Sealing(Protocol):
    """Closes a file as it should be, or as a fault wants it."""

    def seal(self, plain: bytes, how: str) -> bytes: ...


def how_of(faults: Mapping[str, BankFault]) -> str:
    """How the faults that have struck a file want it closed; the last of `FAULTS` wins."""
    how = GOOD
    for name, fault in faults.items():
        if name in (_TRUNCATED, _CORRUPTED, _UNSIGNED):
            how = name
        elif name == "wrong_key":
            how = str(fault.params["whose"])
    return how


class PgpSealing:
    """``bank``: its key; ``ours``: our certificate; ``stranger``: somebody with whom nothing was agreed."""

    def __init__(self, bank: bytes, ours: bytes, stranger: KeyPair) -> None:
        self._good = OpenPgp(bank, [ours])
        self._by_stranger = OpenPgp(stranger.secret, [ours])
        self._for_stranger = OpenPgp(bank, [stranger.certificate])
        self._ours = ours

    def seal(self, plain: bytes, how: str) -> bytes:
        if how == _UNSIGNED:
            return self._unsigned(plain)
        by: dict[str, Envelope] = {_SIGNER: self._by_stranger, _RECIPIENT: self._for_stranger}
        return damaged(by.get(how, self._good).seal(plain), how)

    def _unsigned(self, plain: bytes) -> bytes:
        from pysequoia import Cert, encrypt

        return encrypt(plain, [Cert.from_bytes(self._ours)])


def damaged(sealed: bytes, how: str) -> bytes:
    """What a broken line or disk makes of a file."""
    if how == _TRUNCATED:
        return sealed[: len(sealed) * 2 // 3]
    if how == _CORRUPTED:
        middle = len(sealed) // 2
        while sealed[middle : middle + 1].isspace():
            middle += 1
        return sealed[:middle] + (b"A" if sealed[middle : middle + 1] != b"A" else b"B") + sealed[middle + 1 :]
    return sealed


_HEAD: Final = b"signed by %s for %s\n"
_TAIL: Final = b"end of file\n"
_WHO: Final[dict[str, tuple[bytes, bytes]]] = {
    _UNSIGNED: (b"nobody", b"broker"), _SIGNER: (b"stranger", b"broker"), _RECIPIENT: (b"hsbc", b"stranger")}


class PlainSealing:
    """The clear form at the bank's end."""

    def seal(self, plain: bytes, how: str) -> bytes:
        signer, recipient = _WHO.get(how, (b"hsbc", b"broker"))
        tail = {_TRUNCATED: b"", _CORRUPTED: b"changed\n"}.get(how, _TAIL)
        return _HEAD % (signer, recipient) + plain + tail


class PlainEnvelope:
    """The clear form at our end; implements `Envelope`."""

    def seal(self, plain: bytes) -> bytes:
        return _HEAD % (b"broker", b"hsbc") + plain + _TAIL

    def open(self, sealed: bytes) -> bytes:
        head, _, rest = sealed.partition(b"\n")
        words: list[Any] = head.split()
        if len(words) != 5 or not rest.endswith(_TAIL):
            raise Unopened(Fault.MALFORMED if rest.endswith(b"changed\n") else Fault.TRUNCATED, "no end")
        if words[4] != b"broker":
            raise Unopened(Fault.WRONG_KEY, "it is not encrypted to our key")
        if words[2] != b"hsbc":
            raise Unopened(Fault.BAD_SIGNATURE, "no valid signature of the other party")
        return rest.removesuffix(_TAIL)
