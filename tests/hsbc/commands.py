"""Foreign programs of the machine (packages openssh-client, openssh-server, gnupg) and how they are run."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest


def command(name: str) -> str:
    """Where a program is; without it the test is skipped, which is a failure where everything must be there."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


async def sftp(folder: Path, host_line: bytes, key: bytes, login: str, port: int, *batch: str) -> tuple[int, str]:
    """OpenSSH's ``sftp`` with a batch of its commands: exit status, and all that it said. ``folder`` is its own."""
    (folder / "key").write_bytes(key)
    (folder / "key").chmod(0o600)
    (folder / "known_hosts").write_bytes(host_line)
    options = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={folder / 'known_hosts'}",
               "IdentitiesOnly=yes", "GlobalKnownHostsFile=/dev/null")
    done = await asyncio.create_subprocess_exec(
        command("sftp"), "-F", "none", "-P", str(port), "-i", str(folder / "key"),
        *(word for option in options for word in ("-o", option)), "-b", "-", f"{login}@127.0.0.1", cwd=folder,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    said, _ = await asyncio.wait_for(done.communicate("\n".join(batch).encode() + b"\n"), 30)
    assert done.returncode is not None
    return done.returncode, said.decode()
