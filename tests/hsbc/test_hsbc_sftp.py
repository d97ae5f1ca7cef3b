"""Both SFTP servers and both of our clients against OpenSSH and paramiko, on real sockets of this machine."""

from __future__ import annotations

import asyncio
import getpass
import os
import random
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest
from commands import command, sftp
from gnupg_command import Gpg
from mt910_samples import WHOLE

from core.banks.hsbc.inbound import Inbound, webhook
from core.banks.hsbc.sftp import SftpBank
from core.clock import MachineClock
from core.errors import OutcomeUnknown
from core.wire.openpgp import OpenPgp
from emulators.asgi import AsgiLink
from emulators.hsbc.bank import DropFailed
from emulators.hsbc.courier import Address, SftpCourier
from emulators.hsbc.keys import all_keys, known_host, ssh_key
from emulators.hsbc.seal import GOOD, PgpSealing
from emulators.sftp import MemoryFiles, SftpServer

FOLDER, BOX, LOCAL = "/outbound/mt910", "/inbound/mt910", "127.0.0.1"
KEYS = all_keys(lambda whose: random.Random(f"sftp {whose}").randbytes)
STRANGER = ssh_key(random.Random(99).randbytes)
NAME = "MT910_808000000011_20260312093000_001.txt.gpg"
SEALED = PgpSealing(KEYS.bank.secret, KEYS.ours.certificate, KEYS.stranger).seal(WHOLE.encode(), GOOD)
LIMIT = 100_000


@asynccontextmanager
async def bank_server() -> AsyncIterator[tuple[MemoryFiles, int]]:
    """The emulated bank's server, with one file."""
    files = MemoryFiles(MachineClock(), FOLDER)
    files.put(f"{FOLDER}/{NAME}", SEALED)
    server = SftpServer(files, KEYS.bank_host.private, {"nostro": KEYS.our_login.public})
    port = await server.listen(LOCAL, 0)
    try:
        yield files, port
    finally:
        await server.close()


@asynccontextmanager
async def our_server(dropped: list[tuple[str, bytes]], fail: bool = False) -> AsyncIterator[tuple[Inbound, int]]:
    """Our own, and what is dropped there."""

    async def deliver(name: str, content: bytes) -> None:
        if fail:
            raise OSError("the database is away")
        dropped.append((name, content))

    server = Inbound(KEYS.our_host.private, KEYS.bank_login.public, "hsbc", BOX, deliver, limit=LIMIT, open_at_most=2,
                     login_s=30, rekey_s=10**9)
    port = await server.listen(LOCAL, 0)
    try:
        yield server, port
    finally:
        await server.close()


def our_client(port: int, **changed: Any) -> SftpBank:
    given = {"host": LOCAL, "port": port, "user": "nostro", "key": KEYS.our_login.private,
             "known_hosts": known_host(LOCAL, port, KEYS.bank_host), "folder": FOLDER, "timeout_s": 10.0,
             "rekey_s": 10**9} | changed
    return SftpBank(**given)


# --- OpenSSH and paramiko come to our servers --------------------------------------------------------------------


@pytest.mark.req("STMT-05")
def test_openssh_logs_in_to_the_bank_and_gpg_reads_what_it_fetched(tmp_path: Path) -> None:
    async def story() -> None:
        async with bank_server() as (_, port):
            status, said = await sftp(
                tmp_path, known_host(LOCAL, port, KEYS.bank_host), KEYS.our_login.private, "nostro", port,
                f"cd {FOLDER}", "ls -l", f"get {NAME}")
        assert status == 0 and NAME in said, said

    asyncio.run(story())
    assert (tmp_path / NAME).read_bytes() == SEALED
    with tempfile.TemporaryDirectory(prefix="gpg") as folder:
        gpg = Gpg(Path(folder) / "h")
        gpg.run("--import", given=KEYS.ours.secret)
        gpg.run("--import", given=KEYS.bank.certificate)
        assert gpg.run("--decrypt", str(tmp_path / NAME)) == WHOLE.encode() and "GOODSIG" in gpg.said
        gpg.close()


@pytest.mark.parametrize("deed", ["put key x", f"rm {FOLDER}/{NAME}", "mkdir x", f"rename {FOLDER}/{NAME} /x",
                                  f"chmod 777 {FOLDER}/{NAME}", "ls /etc", "get /etc/passwd", "symlink /etc x"])
def test_openssh_can_change_nothing_at_the_bank(tmp_path: Path, deed: str) -> None:
    async def story() -> None:
        async with bank_server() as (files, port):
            status, said = await sftp(tmp_path, known_host(LOCAL, port, KEYS.bank_host), KEYS.our_login.private,
                                      "nostro", port, deed)
            assert status == 1, said
            assert [path for path, _ in files.under(FOLDER)] == [f"{FOLDER}/{NAME}"]

    asyncio.run(story())


@pytest.mark.req("STMT-02")
def test_openssh_drops_a_file_in_our_box(tmp_path: Path) -> None:
    dropped: list[tuple[str, bytes]] = []
    (tmp_path / "file").write_bytes(SEALED * 20)

    async def story() -> None:
        async with our_server(dropped) as (_, port):
            status, said = await sftp(
                tmp_path, known_host(LOCAL, port, KEYS.our_host), KEYS.bank_login.private, "hsbc", port,
                f"cd {BOX}", f"put file {NAME}.tmp", f"rename {NAME}.tmp {NAME}")
        assert status == 0, said

    asyncio.run(story())
    assert dropped == [(NAME, SEALED * 20)]


@pytest.mark.parametrize("deeds", [
    [f"put file {BOX}/x"], ["put file /x.tmp"], [f"put file {BOX}/../x.tmp"],
    [f"put file {BOX}/x.tmp", f"get {BOX}/x.tmp"],
    [f"put file {BOX}/x.tmp", f"rename {BOX}/x.tmp /x"], [f"rename {BOX}/y.tmp {BOX}/y"], [f"mkdir {BOX}/x"],
    [f"put file {BOX}/x.tmp", f"rm {BOX}/x.tmp"], [f"put large {BOX}/x.tmp"], [f"put file {BOX}/.x.tmp"],
    [f"put file {BOX}/x.tmp", f"put file {BOX}/y.tmp", f"put file {BOX}/z.tmp"],
    [f"put file {BOX}/x.tmp", f"rename {BOX}/x.tmp {BOX}/y.tmp"]])
def test_nothing_else_can_be_done_there(tmp_path: Path, deeds: list[str]) -> None:
    dropped: list[tuple[str, bytes]] = []
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "large").write_bytes(bytes(LIMIT + 1))

    async def story() -> None:
        async with our_server(dropped) as (_, port):
            status, said = await sftp(tmp_path, known_host(LOCAL, port, KEYS.our_host), KEYS.bank_login.private,
                                      "hsbc", port, *deeds)
            assert status == 1, said

    asyncio.run(story())
    assert not dropped


@pytest.mark.parametrize(("login", "key"), [("hsbc", STRANGER), ("root", KEYS.bank_login), ("hsbc", KEYS.our_login)])
def test_strangers_do_not_get_in(tmp_path: Path, login: str, key: Any) -> None:
    async def story() -> None:
        async with our_server([]) as (_, port):
            status, said = await sftp(tmp_path, known_host(LOCAL, port, KEYS.our_host), key.private, login, port, "pwd")
            assert status == 255 and "Permission denied" in said, said

    asyncio.run(story())


def test_there_is_no_shell_and_no_forwarding() -> None:
    async def story() -> None:
        async with our_server([]) as (_, port):
            await asyncio.to_thread(_try_more_than_sftp, port)

    asyncio.run(story())


def _try_more_than_sftp(port: int) -> None:
    with socket.create_connection((LOCAL, port)) as line, paramiko.Transport(line) as transport:
        transport.connect(username="hsbc", pkey=_for_paramiko(KEYS.bank_login.private))
        channel = transport.open_session()
        with pytest.raises(paramiko.SSHException):
            channel.exec_command("id")
        with pytest.raises(paramiko.SSHException):
            transport.open_channel("direct-tcpip", (LOCAL, 22), (LOCAL, 1))


def _for_paramiko(key: bytes) -> paramiko.PKey:
    import io

    return paramiko.Ed25519Key.from_private_key(io.StringIO(key.decode()))


def test_paramiko_fetches_and_drops() -> None:
    dropped: list[tuple[str, bytes]] = []

    def fetch(port: int) -> bytes:
        with socket.create_connection((LOCAL, port)) as line, paramiko.Transport(line) as transport:
            transport.connect(username="nostro", pkey=_for_paramiko(KEYS.our_login.private))
            client = paramiko.SFTPClient.from_transport(transport)
            assert client is not None and client.listdir(FOLDER) == [NAME]
            with client.open(f"{FOLDER}/{NAME}") as file:
                return file.read()

    def drop(port: int) -> None:
        with socket.create_connection((LOCAL, port)) as line, paramiko.Transport(line) as transport:
            transport.connect(username="hsbc", pkey=_for_paramiko(KEYS.bank_login.private))
            client = paramiko.SFTPClient.from_transport(transport)
            assert client is not None
            with client.open(f"{BOX}/{NAME}.tmp", "w") as file:
                file.write(SEALED)
            client.rename(f"{BOX}/{NAME}.tmp", f"{BOX}/{NAME}")

    async def story() -> None:
        async with bank_server() as (_, port):
            assert await asyncio.to_thread(fetch, port) == SEALED
        async with our_server(dropped) as (_, port):
            await asyncio.to_thread(drop, port)

    asyncio.run(story())
    assert dropped == [(NAME, SEALED)]


# --- our clients -------------------------------------------------------------------------------------------------


def test_our_client_lists_and_reads_from_the_bank() -> None:
    async def story() -> None:
        async with bank_server() as (files, port):
            files.put(f"{FOLDER}/being_written.tmp", b"")
            async with our_client(port)() as mailbox:
                (file,) = await mailbox.files()
                assert (file.name, file.size) == (NAME, len(SEALED))
                assert await mailbox.read(file, LIMIT) == SEALED
                assert await mailbox.read(file, 10) == SEALED[:11]
                with pytest.raises(OutcomeUnknown):
                    await mailbox.read(file._replace(name="other"), LIMIT)

    asyncio.run(story())


@pytest.mark.parametrize("changed", [
    {"known_hosts": known_host("10.0.0.1", 22, KEYS.bank_host)}, {"known_hosts": b"# nobody\n"}, {"known_hosts": b""},
    {"key": STRANGER.private}, {"user": "root"}, {"folder": "/nowhere"}, {"at": 1}])
def test_our_client_trusts_one_host_key_only_and_silence_is_one_error(changed: dict[str, Any]) -> None:
    async def story() -> None:
        async with bank_server() as (_, port):
            with pytest.raises(OutcomeUnknown):
                async with our_client(changed.pop("at", port), **changed)() as mailbox:
                    await mailbox.files()

    asyncio.run(story())


def test_another_host_key_is_refused() -> None:
    async def story() -> None:
        async with bank_server() as (_, port):
            with pytest.raises(OutcomeUnknown, match="not trusted"):
                async with our_client(port, known_hosts=known_host(LOCAL, port, STRANGER))():
                    raise AssertionError("connected to somebody else")

    asyncio.run(story())


def test_our_client_fetches_from_openssh(tmp_path: Path) -> None:
    """The server of the same protocol that banks run."""
    folder = tmp_path / "outbound"
    folder.mkdir()
    (folder / NAME).write_bytes(SEALED)

    async def story() -> None:
        async with openssh_server(tmp_path) as port:
            client = our_client(port, user=getpass.getuser(), folder=str(folder))
            async with client() as mailbox:
                (file,) = await mailbox.files()
                assert file.name == NAME and await mailbox.read(file, LIMIT) == SEALED

    asyncio.run(story())


def test_the_banks_courier_drops_at_openssh(tmp_path: Path) -> None:
    async def story() -> None:
        async with openssh_server(tmp_path) as port:
            courier = SftpCourier(lambda: Address(LOCAL, port, KEYS.bank_host), getpass.getuser(), KEYS.our_login,
                                  str(tmp_path), _nobody, 10.0)
            await courier.drop(NAME, SEALED)
            await courier.close()

    asyncio.run(story())
    assert (tmp_path / NAME).read_bytes() == SEALED and not (tmp_path / f"{NAME}.tmp").exists()


async def _nobody(_body: bytes) -> int:
    return 404


@asynccontextmanager
async def openssh_server(folder: Path) -> AsyncIterator[int]:
    """OpenSSH's sshd on a free port, for whoever runs the tests; its first lines say that it listens."""
    (folder / "host_key").write_bytes(KEYS.bank_host.private)
    (folder / "host_key").chmod(0o600)
    (folder / "authorized").write_bytes(KEYS.our_login.public + b"\n")
    with socket.create_server((LOCAL, 0)) as free:
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"ListenAddress {LOCAL}\nPort {port}\nHostKey {folder / 'host_key'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized'}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nSubsystem sftp internal-sftp\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # noqa: ASYNC240 - sshd insists on it
    server = await asyncio.create_subprocess_exec(
        command("sshd"), "-D", "-e", "-f", str(folder / "config"), stderr=asyncio.subprocess.PIPE)
    try:
        assert server.stderr is not None
        while b"listening" not in (line := await asyncio.wait_for(server.stderr.readline(), 10)):
            assert line, "sshd ended"
        yield port
    finally:
        server.terminate()
        await server.communicate()


def test_a_drop_that_our_side_cannot_keep_is_a_failure_at_the_bank() -> None:
    async def story() -> None:
        async with our_server([], fail=True) as (_, port):
            courier = SftpCourier(lambda: Address(LOCAL, port, KEYS.our_host), "hsbc", KEYS.bank_login, BOX, _nobody,
                                  10.0)
            with pytest.raises(DropFailed):
                await courier.drop(NAME, SEALED)
            with pytest.raises(DropFailed):
                await courier.ring(NAME)
            await courier.close()

    asyncio.run(story())


# --- the webhook -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "body", "status"), [
    ("POST", b'{"file": "known"}', 202), ("POST", b'{"file": "other"}', 404), ("POST", b'{"file": 1}', 400),
    ("POST", b'{"file": "../known"}', 400), ("POST", b"[]", 400), ("POST", b"\xff", 400), ("POST", b"", 400),
    ("GET", b"", 405)])
def test_the_webhook_takes_names_of_files_that_were_dropped(method: str, body: bytes, status: int) -> None:
    rung: list[str] = []

    async def notice(name: str) -> bool:
        rung.append(name)
        return name == "known"

    async def story() -> int:
        link = AsgiLink(webhook("/hsbc/mt910", notice), asyncio.get_running_loop(), lambda: 0, "core")
        return (await link.send(method, "/hsbc/mt910", {}, body, 5.0))[0]

    assert asyncio.run(story()) == status
    assert rung == ([] if status in (400, 405) else [body.decode().split('"')[3]])


def test_what_was_fetched_is_opened() -> None:
    assert OpenPgp(KEYS.ours.secret, [KEYS.bank.certificate]).open(SEALED) == WHOLE.encode()
