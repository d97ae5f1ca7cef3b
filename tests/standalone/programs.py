"""Foreign programs of the machine as clients of stand-alone banks: nothing here is the project's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE_S = 30.0
LOCAL = "127.0.0.1"


def command(name: str) -> str:
    """Where a program is; without it the test is skipped, which is a failure where everything must be there."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*words: str, folder: Path, given: bytes = b"", code: int = 0) -> bytes:
    """Standard output of a program that ends with this exit code; fails with what it says on standard error."""
    done = subprocess.run([command(words[0]), *words[1:]], cwd=folder, input=given, capture_output=True,
                          timeout=PATIENCE_S, check=False)
    assert done.returncode == code, (done.returncode, done.stderr.decode())
    return done.stdout


def sftp(folder: Path, key: str, known_hosts: str, address: str, *batch: str) -> tuple[int, str]:
    """OpenSSH's ``sftp`` with a batch of its commands, at ``sftp://user@host:port/home``: exit status, and all that it
    said. ``folder`` is its own."""
    login, _, home = address.removeprefix("sftp://").partition("/")
    where, _, port = login.rpartition(":")
    options = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={known_hosts}", "IdentitiesOnly=yes",
               "GlobalKnownHostsFile=/dev/null")
    done = subprocess.run(
        [command("sftp"), "-F", "none", "-P", port, "-i", key, *(word for option in options for word in ("-o", option)),
         "-b", "-", f"{where}:/{home}"], cwd=folder, input="\n".join(batch) + "\n", stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=PATIENCE_S, check=False)
    return done.returncode, done.stdout


class Gpg:
    """Stock GnuPG. ``folder`` is its home: short, for its agent's socket has to fit into a path of 108 characters."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder

    def run(self, *words: str, code: int = 0) -> bytes:
        """Its standard output; `said` is what it reports."""
        done = subprocess.run(
            [command("gpg"), "--homedir", str(self._folder), "--batch", "--yes", "--trust-model", "always",
             "--status-fd", "2", *words], capture_output=True, timeout=PATIENCE_S, check=False)
        self.said = done.stderr.decode("latin-1")
        assert done.returncode == code, self.said
        return done.stdout

    def close(self) -> None:
        """End the agent that it has started."""
        subprocess.run([command("gpgconf"), "--homedir", str(self._folder), "--kill", "gpg-agent"], check=False,
                       timeout=PATIENCE_S)


@contextmanager
def sshd(folder: Path, authorized: bytes) -> Iterator[int]:
    """OpenSSH's server on a free port, for whoever runs the tests; gives the port once it listens."""
    program = command("sshd")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "host_key", folder=folder)
    (folder / "authorized").write_bytes(authorized)
    with socket.create_server((LOCAL, 0)) as free:
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"ListenAddress {LOCAL}\nPort {port}\nHostKey {folder / 'host_key'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nSubsystem sftp internal-sftp\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
    server = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.PIPE)
    try:
        assert server.stderr is not None
        while b"listening" not in (line := server.stderr.readline()):
            assert line, "sshd ended"
        yield port
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
        if server.stderr is not None:
            server.stderr.close()  # not read to its end: sessions that go on hold it open
