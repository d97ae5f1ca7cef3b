"""`nostro emulate hsbc`: a real process; OpenSSH's `sftp` fetches, `gpg` reads, and OpenSSH's server is dropped at."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from programs import LOCAL, PATIENCE_S, Gpg, run, sftp, sshd
from served import Process, emulator, refusal_of


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with emulator("hsbc", tmp_path_factory.mktemp("hsbc")) as served:
        yield served


@pytest.fixture
def served(process: Process) -> Process:
    process.control.delete("/push")
    process.post("/reset", {"seed": 1, "start": "2026-03-12 09:00"})
    process.post("/clock", {"pause": True})
    return process


@pytest.fixture
def gpg(served: Process) -> Iterator[Gpg]:
    """As the broker has it: with the keys that the emulator has made."""
    with gnupg(served) as found:
        yield found


@contextmanager
def gnupg(served: Process) -> Iterator[Gpg]:
    with tempfile.TemporaryDirectory(prefix="gpg") as folder:
        found, given = Gpg(Path(folder) / "h"), served.said["credentials"]
        try:
            for name in ("broker_pgp_private_key", "bank_pgp_certificate"):
                if name in given:
                    found.run("--import", given[name])
            yield found
        finally:
            found.close()


def pay(served: Process, amount: str = "250.50") -> str:
    return str(served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": amount}, 201)["reference"])


def fetch(served: Process, folder: Path, *batch: str, key: str = "") -> tuple[int, str]:
    given = served.said["credentials"]
    return sftp(folder, key or given["sftp_private_key"], given["known_hosts"], served.said["addresses"]["sftp"],
                *batch or ("ls -l", "get *.gpg"))


def messages(served: Process) -> list[str]:
    return [one["message"] for one in served.get("/journal")["entries"]]


# --- fetched ------------------------------------------------------------------------------------------------------


def test_sftp_fetches_and_gpg_reads_a_signed_and_encrypted_mt910(served: Process, gpg: Gpg, tmp_path: Path) -> None:
    reference = pay(served)
    code, said = fetch(served, tmp_path, "ls")
    assert code == 0 and ".gpg" not in said
    served.advance("10m")
    code, said = fetch(served, tmp_path)
    assert code == 0, said
    [file] = tmp_path.glob("*.gpg")
    assert served.get("/state")["files"] == [file.name] and file.name.startswith("MT910_808000000011_20260312")
    assert b"250" not in file.read_bytes()
    plain = gpg.run("--decrypt", str(file)).decode()
    assert "GOODSIG" in gpg.said and "DECRYPTION_OKAY" in gpg.said
    assert plain.splitlines()[1:] == [
        f":20:{reference}", ":21:NONREF", ":25:808000000011", ":13D:2603120900+0800", ":32A:260312HKD250,50",
        ":50K:/6230000000000001", "CHAN TAI MAN", "-}"]
    assert served.get(f"/truth/{reference}")["status"] == "PAID"
    assert served.get("/state")["book"]["HKD"] == {"broker": "250.50", "customers": "1379749.50"}
    assert messages(served)[:2] == ["login", "list"] and messages(served)[-1] == "fetch"


def test_the_host_key_and_the_line_to_copy_stay_over_a_new_start(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with emulator("hsbc", folder) as served:
        line = served.said["credentials"]["known_hosts_line"]
        first = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".known_hosts"}
    with emulator("hsbc", folder) as served:
        again = served.said["credentials"]["known_hosts_line"]
        assert again.split()[1:] == line.split()[1:] and again.startswith(f"[{LOCAL}]:")
        assert {name: (folder / name).read_bytes() for name in first} == first
        copied = tmp_path / "copied"
        copied.write_text(again + "\n")
        given = served.said["credentials"]
        assert sftp(tmp_path, given["sftp_private_key"], str(copied), served.said["addresses"]["sftp"], "pwd")[0] == 0
        copied.write_text(again.replace("AAAAC3", "AAAAC4") + "\n")
        code, said = sftp(tmp_path, given["sftp_private_key"], str(copied), served.said["addresses"]["sftp"], "pwd")
        assert code == 255 and "Host key verification failed" in said
        scanned = run("ssh-keyscan", "-t", "ed25519", "-p", again[1:].split("]:")[1].split()[0], LOCAL, folder=tmp_path)
        assert scanned.decode().strip() == again
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir() if ".key" in path.name)


def test_the_command_that_is_printed_works(served: Process, tmp_path: Path) -> None:
    (tmp_path / "batch").write_text("ls\n")
    said = run("sh", "-c", served.said["credentials"]["sftp_command"].replace("sftp ", "sftp -b batch ", 1),
               folder=tmp_path)
    assert b"sftp> ls" in said


def test_another_key_gets_in_once_it_is_authorised(served: Process, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "mine", folder=tmp_path)
    mine, authorized = str(tmp_path / "mine"), Path(served.said["credentials"]["authorized_keys"])
    code, said = fetch(served, tmp_path, "pwd", key=mine)
    assert code == 255 and "Permission denied" in said and messages(served) == ["no login"]
    before = authorized.read_bytes()
    authorized.write_bytes(before + (tmp_path / "mine.pub").read_bytes())
    served.post("/reset")
    assert fetch(served, tmp_path, "pwd", key=mine)[0] == 0 and fetch(served, tmp_path, "pwd")[0] == 0
    authorized.write_bytes(before)


@pytest.mark.parametrize("deed", ["put mine x", "rm *", "mkdir x", "ls /etc", "get /etc/passwd"])
def test_nothing_can_be_changed_and_nothing_else_is_there(served: Process, tmp_path: Path, deed: str) -> None:
    (tmp_path / "mine").write_text("x")
    assert fetch(served, tmp_path, deed)[0] == 1
    assert messages(served)[0] == "login"


def test_faults_and_maintenance_are_those_of_the_bank(served: Process, gpg: Gpg, tmp_path: Path) -> None:
    served.post("/faults", {"fault": "wrong_key", "params": {"message": "batch", "count": 1}}, 201)
    pay(served)
    served.advance("10m")
    fetch(served, tmp_path)
    [file] = tmp_path.glob("*.gpg")
    gpg.run("--decrypt", str(file), code=2)
    assert "NO_PUBKEY" in gpg.said and "GOODSIG" not in gpg.said
    down = served.post("/faults", {"fault": "sftp_down"}, 201)
    assert fetch(served, tmp_path)[0] == 255 and messages(served)[-1] == "turned away"
    served.delete(f"/faults/{down['id']}")
    assert fetch(served, tmp_path)[0] == 0
    served.post("/clock", {"to": "2026-03-15 01:00"})
    assert fetch(served, tmp_path)[0] == 255
    served.post("/clock", {"to": "2026-03-15 08:00"})
    assert fetch(served, tmp_path)[0] == 0


def test_a_certificate_of_ones_own_takes_the_place_of_the_made_one(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    with tempfile.TemporaryDirectory(prefix="gpg") as home:
        own = Gpg(Path(home) / "h")
        own.run("--passphrase", "", "--quick-generate-key", "Me <me@broker.invalid>", "future-default", "default",
                "never")
        (folder / "hsbc.broker.pub.asc").write_bytes(own.run("--armor", "--export"))
        with emulator("hsbc", folder) as served:
            assert "broker_pgp_private_key" not in served.said["credentials"]
            reference = pay(served)
            served.advance("10m")
            fetch(served, tmp_path)
            own.run("--import", served.said["credentials"]["bank_pgp_certificate"])
            assert reference.encode() in own.run("--decrypt", str(next(tmp_path.glob("*.gpg"))))
        own.close()


@pytest.mark.parametrize(("name", "content", "says"), [
    ("hsbc.sftp.host.key", "x", "no SSH key without a passphrase (give one as ssh-keygen writes it, or remove"),
    ("hsbc.sftp.authorized_keys", "x", "write a public key on each line, or remove the file"),
    ("hsbc.bank.key.asc", "x", "no OpenPGP key: "), ("hsbc.broker.pub.asc", "x", "no OpenPGP key: "),
    ("hsbc.push.json", "{}", "host: is missing (remove the file)")])
def test_a_file_that_is_no_key_is_refused_with_the_remedy(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    said = refusal_of("hsbc", "--port", "0", "--data", str(tmp_path))
    assert name in said and says in said, said


# --- dropped ------------------------------------------------------------------------------------------------------


class Bell:
    """A webhook of this machine: what was POSTed to it, in order. ``status``: its answer."""

    def __init__(self, status: int = 202) -> None:
        rung: Queue[bytes] = Queue()
        self.rung = rung

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                rung.put(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Nothing is written."""

        self._server = HTTPServer((LOCAL, 0), Handler)
        self.url = f"http://{LOCAL}:{self._server.server_address[1]}/hsbc/mt910"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Bell:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next(self) -> str:
        return str(json.loads(self.rung.get(timeout=PATIENCE_S))["file"])


@contextmanager
def box(served: Process, folder: Path, **more: Any) -> Iterator[Path]:
    """OpenSSH's server, where the bank is told to drop; gives the folder of the files."""
    files, home = folder / "box", folder / "sshd"
    files.mkdir()
    home.mkdir()
    with sshd(home, Path(served.said["credentials"]["push_public_key"]).read_bytes()) as port:
        scanned = run("ssh-keyscan", "-t", "ed25519", "-p", str(port), LOCAL, folder=home).decode()
        user = run("id", "-un", folder=home).decode().strip()
        told = served.post("/push", {"host": LOCAL, "port": port, "host_key": scanned, "user": user,
                                     "folder": str(files), **more})
        assert told["to"] == f"sftp://{user}@{LOCAL}:{port}{files}"
        yield files


def until(served: Process, **wanted: int) -> dict[str, Any]:
    """The state of the push once it has these counts."""
    while True:
        told: dict[str, Any] = served.get("/push")
        if all(told[name] >= count for name, count in wanted.items()):
            return told


@pytest.mark.parametrize("advance", ["30s", "6h"])  # however far the bank's clock goes while a file is under way
def test_the_bank_drops_at_openssh_and_rings(served: Process, gpg: Gpg, tmp_path: Path, advance: str) -> None:
    with Bell() as bell, box(served, tmp_path, webhook=bell.url) as files:
        references = [pay(served), pay(served, "1.00")]
        served.advance(advance)
        names = [bell.next(), bell.next()]
        assert sorted(names) == sorted(path.name for path in files.iterdir())
        told = until(served, rung=2)
        assert (told["dropped"], told["failed"], told["last_failure"]) == (2, 0, None)
        plain = [gpg.run("--decrypt", str(files / name)).decode() for name in names]
        assert sorted(text.splitlines()[1] for text in plain) == [f":20:{one}" for one in references]
        assert "GOODSIG" in gpg.said
        served.post("/reset")  # the order stands, as addresses and keys do
        pay(served)
        served.advance("30s")
        assert (files / bell.next()).exists()
        served.delete("/push")
        pay(served)
        served.advance("1h")
        assert served.get("/push") == {"to": None} and bell.rung.empty()


def test_a_drop_that_fails_is_told_and_tried_again(served: Process, tmp_path: Path) -> None:
    with Bell(404) as bell, box(served, tmp_path, webhook=bell.url):
        pay(served)
        served.advance("30s")
        bell.next()
        assert "was not rung: HTTP 404" in until(served, failed=1)["last_failure"]
        served.advance("5s")
        bell.next()
        assert until(served, failed=2, dropped=2)["rung"] == 0


@pytest.mark.parametrize(("changed", "says"), [
    ({"host_key": "other"}, "HostKeyNotVerifiable"), ({"folder": "/nowhere"}, "No such file"),
    ({"user": "nobody-here"}, "Permission denied"), ({"port": 1}, "ConnectionRefusedError")])
def test_why_nothing_can_be_dropped_is_told(
    served: Process, tmp_path: Path, changed: dict[str, Any], says: str
) -> None:
    if "host_key" in changed:
        changed = {"host_key": Path(served.said["credentials"]["push_public_key"]).read_text()}
    with box(served, tmp_path) as files:
        order = json.loads(Path(served.said["credentials"]["authorized_keys"]).with_name("hsbc.push.json").read_text())
        served.post("/push", order | changed)
        pay(served)
        served.advance("30s")
        assert says in until(served, failed=1)["last_failure"]
        assert list(files.iterdir()) == []


@pytest.mark.parametrize(("changed", "says"), [
    ({"host_key": "x"}, "host_key: this is no host key: give a line of ssh-keyscan"), ({"port": 0}, "port: "),
    ({"host_key": "ssh-ed25519 AAAA"}, "host_key: this is no host key"), ({"webhook": "me"}, "webhook: "),
    ({"folder": "here"}, "folder: "), ({"hostkey": "x"}, "hostkey: is not known here: nearest: host_key")])
def test_an_order_that_cannot_be_is_refused(served: Process, changed: dict[str, Any], says: str) -> None:
    key = Path(served.said["credentials"]["push_public_key"]).read_text()
    refused = served.post("/push", {"host": LOCAL, "port": 2222, "host_key": key} | changed, 422)
    assert refused["error"].startswith(says), refused
    assert served.get("/push") == {"to": None}
