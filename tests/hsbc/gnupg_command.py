"""Stock GnuPG as the other party: a foreign implementation of OpenPGP, in a folder of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from commands import command


class Gpg:
    """``folder`` is its home: short, for its agent's socket has to fit into a path of 108 characters."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder

    def run(self, *arguments: str, given: bytes = b"") -> bytes:
        """Its standard output; fails with what it says on standard error."""
        done = subprocess.run(
            [command("gpg"), "--homedir", str(self._folder), "--batch", "--yes", "--trust-model", "always",
             "--status-fd", "2", *arguments], input=given, capture_output=True, timeout=60, check=False)
        self.said = done.stderr.decode("latin-1")
        assert done.returncode == 0, self.said
        return done.stdout

    def close(self) -> None:
        """End the agent that it has started."""
        subprocess.run([command("gpgconf"), "--homedir", str(self._folder), "--kill", "gpg-agent"], check=False,
                       timeout=60)
