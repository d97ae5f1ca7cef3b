"""The ``openssl`` command as a foreign SM2: nothing here comes from the project but the byte forms it is fed with."""

from __future__ import annotations

import subprocess
from pathlib import Path

DISTINGUISHING_ID = "distid:1234567812345678"


class Openssl:
    """One folder with a key pair that the command made; its files are DER and PEM."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run("genpkey", "-algorithm", "SM2", "-out", "private.pem")
        self._run("pkey", "-in", "private.pem", "-pubout", "-out", "public.pem")

    @property
    def private_pem(self) -> str:
        return (self._folder / "private.pem").read_text()

    @property
    def public_pem(self) -> str:
        return (self._folder / "public.pem").read_text()

    def install(self, private_pem: str, public_pem: str) -> None:
        """Take somebody else's key pair."""
        (self._folder / "private.pem").write_text(private_pem)
        (self._folder / "public.pem").write_text(public_pem)

    def sign(self, message: bytes, distinguishing_id: str = DISTINGUISHING_ID) -> bytes:
        self._write("message", message)
        self._run("pkeyutl", "-sign", "-rawin", "-digest", "sm3", "-inkey", "private.pem",
                  "-pkeyopt", distinguishing_id, "-in", "message", "-out", "signature")
        return (self._folder / "signature").read_bytes()

    def verifies(self, message: bytes, signature_der: bytes, distinguishing_id: str = DISTINGUISHING_ID) -> bool:
        self._write("message", message)
        self._write("signature", signature_der)
        done = self._try("dgst", "-sm3", "-verify", "public.pem", "-sigopt", distinguishing_id,
                         "-signature", "signature", "message")
        return done.returncode == 0 and b"Verified OK" in done.stdout

    def encrypt(self, plaintext: bytes) -> bytes:
        self._write("plaintext", plaintext)
        self._run("pkeyutl", "-encrypt", "-pubin", "-inkey", "public.pem", "-in", "plaintext", "-out", "ciphertext")
        return (self._folder / "ciphertext").read_bytes()

    def decrypt(self, ciphertext_der: bytes) -> bytes | None:
        self._write("ciphertext", ciphertext_der)
        done = self._try("pkeyutl", "-decrypt", "-inkey", "private.pem", "-in", "ciphertext")
        return done.stdout if done.returncode == 0 else None

    def hmac_sm3(self, key: bytes, data: bytes) -> bytes:
        self._write("message", data)
        return self._run("dgst", "-sm3", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary", "message")

    def sm3(self, data: bytes) -> bytes:
        self._write("message", data)
        return self._run("dgst", "-sm3", "-binary", "message")

    def _write(self, name: str, content: bytes) -> None:
        (self._folder / name).write_bytes(content)

    def _run(self, *arguments: str) -> bytes:
        done = self._try(*arguments)
        assert done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stderr.decode(errors='replace')}"
        return done.stdout

    def _try(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["openssl", *arguments], cwd=self._folder, capture_output=True, check=False)
