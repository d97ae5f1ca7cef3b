"""`nostro emulate` as a process of its own, and the ends of its clients."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from core.wire.airstar import Reply, build_request, parse_reply, sign_request, target_of

COMMAND = [sys.executable, "-m", "api.cli", "emulate"]
PATIENCE_S = 15.0
"""Longest real time that a test waits for the process."""


class Process:
    """A running emulator: what it said at its start, and its control interface."""

    def __init__(self, process: subprocess.Popen[str], said: dict[str, Any]) -> None:
        self.process, self.said = process, said
        self.control = httpx.Client(base_url=said["control"], timeout=PATIENCE_S)

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = self.control.get(path, params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, status: int = 200, key: str | None = None) -> Any:
        answer = self.control.post(path, json=body, headers={"Idempotency-Key": key} if key else {})
        assert answer.status_code == status, answer.text
        return answer.json()

    def delete(self, path: str, status: int = 200) -> Any:
        answer = self.control.delete(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def advance(self, span: str) -> None:
        self.post("/clock", {"advance": span})

    def customer(self, ident: str) -> dict[str, Any]:
        found = [one for one in self.get("/state")["customers"] if one["id"] == ident]
        return dict(found[0])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; gives its exit code."""
        self.control.close()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def emulator(bank: str, folder: Path, *options: str) -> Iterator[Process]:
    """A process on free ports, paused unless told; it ends with exit code 0."""
    speed = () if "--speed" in options else ("--speed", "0")
    command = [*COMMAND, bank, "--port", "0", "--data", str(folder), "--json", *speed, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        served = Process(process, json.loads(line))
        yield served
        assert process.poll() is None, process.stderr.read()
        code, said, complained = served.stop(), process.stdout.read(), process.stderr.read()
        assert (code, said, complained) == (0, "", ""), complained
    finally:
        process.kill()
        process.communicate()


def refusal_of(*arguments: str) -> str:
    """What a command that ends with exit code 2 says."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done
    return done.stderr


class AirstarClient:
    """Signs with the key that the emulator has made."""

    def __init__(self, served: Process) -> None:
        given = served.said["credentials"]
        key: Any = load_pem_private_key(Path(given["app_private_key"]).read_bytes(), None)
        self._served, self._key, self._app_id = served, key, given["app_id"]
        self.http = httpx.Client(base_url=served.said["addresses"]["api"], timeout=PATIENCE_S)
        self._number = 0

    def ask(
        self, message: str, ident: str = "", query: Mapping[str, str] | None = None, timeout_s: float = PATIENCE_S,
        **body: Any,
    ) -> Reply:  # fmt: skip
        request = build_request(message, ident, query or {}, body or None)
        self._number += 1
        now_ms = self._served.get("/state")["clock"]["now_ms"]
        headers, raw = sign_request(request, self._app_id, self._key, now_ms, f"nonce-{self._number:08d}")
        answer = self.http.request(request.method, target_of(request), headers=headers, content=raw, timeout=timeout_s)
        return parse_reply(answer.status_code, answer.content)

    def deposit(self, ref: str, amount: str = "100.00", mandate: str = "AM000000000001", **more: Any) -> Reply:
        return self.ask("deposit", bank_ref_id=ref, mandate_id=mandate, market=1, ccy="HKD", amount=amount, **more)
