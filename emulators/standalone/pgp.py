"""OpenPGP keys of a bank and of its broker, kept in a folder in the armor that ``gpg --import`` takes."""

from __future__ import annotations

from pathlib import Path

from core.errors import Misconfigured
from core.wire.openpgp_keys import KeyPair, new_pair
from core.wire.sm2 import Entropy
from emulators.hsbc.keys import CREATED_S
from emulators.standalone.keys import write_secret


def load_or_create(folder: Path, name: str, owner: str, entropy: Entropy) -> KeyPair:
    """The pair in ``{name}.key.asc``, made there if the folder has none, its certificate beside it in
    ``{name}.pub.asc``. ``owner``: as ``Name <address>``. A file that is no key raises `Misconfigured`."""
    from pysequoia import ArmorKind, Tsk, armor

    secret = folder / f"{name}.key.asc"
    if not secret.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_secret(secret, armor(new_pair(owner, entropy, CREATED_S).secret, ArmorKind.SecretKey))
    try:
        own = Tsk.from_bytes(secret.read_bytes())
    except Exception as error:  # Sequoia's errors have no kind of their own
        raise _no_key(secret, error) from None
    certificate = str(own.extract_certificate())
    public = folder / f"{name}.pub.asc"
    if not public.exists() or public.read_text(encoding="utf-8", errors="replace") != certificate:
        public.write_text(certificate, encoding="utf-8")
    return KeyPair(secret.read_bytes(), certificate.encode())


def certificate_of(folder: Path, name: str, owner: str, entropy: Entropy) -> bytes:
    """The certificate of the other party: the one that lies in ``{name}.pub.asc`` without its secret key, else that of
    the pair that is kept or made there."""
    from pysequoia import Cert

    public, secret = folder / f"{name}.pub.asc", folder / f"{name}.key.asc"
    if secret.exists() or not public.exists():
        return load_or_create(folder, name, owner, entropy).certificate
    try:
        Cert.from_bytes(public.read_bytes())
    except Exception as error:
        raise _no_key(public, error) from None
    return public.read_bytes()


def _no_key(path: Path, error: Exception) -> Misconfigured:
    return Misconfigured(f"no OpenPGP key: {str(error).partition(chr(10))[0]}", where=str(path),
                         remedy="give one as gpg --armor --export writes it, or remove the file")
