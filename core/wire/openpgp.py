"""Files between two parties, encrypted to the one and signed by the other: OpenPGP (protocols.md, HSBC; STMT-04).

Rules:

* A file is one message: encrypted to our key, and inside signed by the other party. A file that is only signed, only
  encrypted, signed by somebody else, changed, cut off, or followed by anything else is refused whole.
* Keys are RSA 4096 or Curve25519; the other party may have several certificates while it changes them.
* Armored and binary files are read; armored ones are written.

`Envelope` is all that an adapter or an emulated bank knows of it. `OpenPgp` does it with Sequoia, which draws its own
entropy and looks at the machine's clock for the moment of a signature: the bytes of a file differ from run to run,
nothing else may depend on them. Whatever bytes come in, the only exception that comes out is `Unopened`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pysequoia import Cert, Tsk

_BEGIN: Final = b"-----BEGIN PGP MESSAGE-----"
_END: Final = b"-----END PGP MESSAGE-----"
_NOT_OURS: Final = "No key to decrypt message"
_COMPRESSED: Final = "Unexpected message structure"
_NOT_SIGNED: Final = "Signature verification failed"


class Fault(StrEnum):
    """Why a file was not opened."""

    TRUNCATED = "truncated"
    MALFORMED = "malformed"
    NOT_ENCRYPTED = "not encrypted"
    WRONG_KEY = "wrong key"
    BAD_SIGNATURE = "bad signature"


class Unopened(Exception):
    """A file that is not what it must be; nothing of it may be used."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}" if detail else str(fault))
        self.fault, self.detail = fault, detail


class Envelope(Protocol):
    """How files are closed for the other party, and opened when they come from it."""

    def seal(self, plain: bytes) -> bytes:
        """The file as it travels."""

    def open(self, sealed: bytes) -> bytes:
        """What is in a file; `Unopened` if it is not from the other party, or not for us."""


class OpenPgp:
    """``own``: our secret key; ``peers``: certificates of the other party, the one to encrypt to first."""

    def __init__(self, own: bytes, peers: Sequence[bytes]) -> None:
        """Keys armored or binary; ValueError for what is no key."""
        from pysequoia import Cert, Tsk

        try:
            self._own: Tsk = Tsk.from_bytes(own)
            self._peers: list[Cert] = [Cert.from_bytes(peer) for peer in peers]
        except Exception as error:
            raise ValueError(f"no OpenPGP key: {_first_line(error)}") from None
        self._decryptor, self._signer = self._own.decryptor(), self._own.signer()

    def seal(self, plain: bytes) -> bytes:
        from pysequoia import encrypt

        return encrypt(plain, [self._peers[0]], self._signer)

    def open(self, sealed: bytes) -> bytes:
        from pysequoia import decrypt

        _check_frame(sealed)
        try:
            _check_packets(sealed)
            opened = decrypt(sealed, decryptor=self._decryptor, store=lambda _ids: self._peers)
        except Unopened:
            raise
        except Exception as error:
            raise _unopened(error) from None
        if not opened.valid_sigs or opened.bytes is None:
            raise Unopened(Fault.BAD_SIGNATURE, "nobody has signed it")
        return opened.bytes


def _check_frame(sealed: bytes) -> None:
    """An armored file is one whole armor: Sequoia reads the first and is silent about what follows it."""
    begins = sealed.find(_BEGIN)
    if begins < 0:
        if not sealed:
            raise Unopened(Fault.TRUNCATED, "the file is empty")
        return
    ends = sealed.find(_END, begins)
    if ends < 0:
        raise Unopened(Fault.TRUNCATED, "the armor has no end")
    if sealed[:begins].strip() or sealed[ends + len(_END) :].strip():
        raise Unopened(Fault.MALFORMED, "something stands around the armor")


def _check_packets(sealed: bytes) -> None:
    """The outermost layer is encryption, for one message."""
    from pysequoia.packet import PacketPile, Tag

    tags = [packet.tag for packet in PacketPile.from_bytes(sealed)]
    if not tags:
        raise Unopened(Fault.MALFORMED, "no packet at all")
    if Tag.PKESK not in tags:
        raise Unopened(Fault.NOT_ENCRYPTED, "it can be read by anybody")
    if any(tag not in (Tag.PKESK, Tag.SEIP) for tag in tags) or tags.count(Tag.SEIP) != 1:
        raise Unopened(Fault.MALFORMED, "more than one message, or something beside it")


def _unopened(error: Exception) -> Unopened:
    """Sequoia's words as ours; it gives no codes."""
    said = _first_line(error)
    if said.startswith(_NOT_OURS):
        return Unopened(Fault.WRONG_KEY, "it is not encrypted to our key")
    if said.startswith(_NOT_SIGNED):
        return Unopened(Fault.BAD_SIGNATURE, "no valid signature of the other party")
    if said.startswith(_COMPRESSED):
        return Unopened(Fault.MALFORMED, "compressed, or of another structure: it must be sent without compression")
    return Unopened(Fault.MALFORMED, said)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip()
