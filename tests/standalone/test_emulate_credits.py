"""`nostro emulate cgb|scb|citi|dbs`: real processes; `curl` and `openssl` talk to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from served import PATIENCE_S, Process, emulator

from core.clock import hkt
from core.wire.sm2 import signature_from_der, signature_to_der


def curl(*arguments: str, cwd: Path) -> bytes:
    done = subprocess.run(["curl", "-sS", *arguments], cwd=cwd, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def paid(served: Process, after: str = "10s") -> str:
    served.post("/clock", {"pause": True})
    reference = str(served.post("/deposits", {"customer": "chan", "ccy": "HKD", "amount": "250.50"}, 201)["reference"])
    served.advance(after)
    return reference


def seconds(served: Process) -> int:
    return int(served.get("/state")["clock"]["now_ms"]) // 1_000


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_mailbox_is_read_with_curl(tmp_path):
    with emulator("dbs", tmp_path / "keys") as served:
        reference = paid(served, "6h")
        token = Path(served.said["credentials"]["token_file"]).read_text()
        url = served.said["addresses"]["http"] + "?after=0&limit=10"
        [line] = curl("-H", f"Authorization: Bearer {token}", url, cwd=tmp_path).splitlines()
        assert (json.loads(line)["ref"], json.loads(line)["amount"]) == (reference, "250.50")
        assert curl("-H", "Authorization: Bearer x", url, cwd=tmp_path) == b"TOKEN"


def test_citi_takes_a_token_made_by_hand(tmp_path):
    with emulator("citi", tmp_path / "keys") as served:
        reference = paid(served)
        assert "--start now --speed 1" in served.said["clock"]
        secret = Path(served.said["credentials"]["secret_file"]).read_bytes()
        claims = {"iss": served.said["credentials"]["client"], "iat": seconds(served), "jti": "by-hand-1",
                  "htu": "/fps/v1/credits?after=0&limit=10"}
        signed = base64url(b'{"alg":"HS256"}') + "." + base64url(json.dumps(claims).encode())
        token = signed + "." + base64url(hmac.digest(secret, signed.encode(), "sha256"))
        url = served.said["addresses"]["http"] + "?after=0&limit=10"
        payload = curl("-H", f"Authorization: Bearer {token}", url, cwd=tmp_path).split(b".")[1]
        said = json.loads(base64.urlsafe_b64decode(payload + b"=="))
        assert [one["transactionId"] for one in said["credits"]] == [reference]
        again = curl("-H", f"Authorization: Bearer {token}", url, cwd=tmp_path).split(b".")[1]
        assert json.loads(base64.urlsafe_b64decode(again + b"=="))["error"] == "REPLAY"
        served.advance("301s")  # the client's clock stands; the bank's day goes on
        claims["jti"] = "by-hand-2"
        late = base64url(b'{"alg":"HS256"}') + "." + base64url(json.dumps(claims).encode())
        late += "." + base64url(hmac.digest(secret, late.encode(), "sha256"))
        refused = curl("-H", f"Authorization: Bearer {late}", url, cwd=tmp_path).split(b".")[1]
        assert json.loads(base64.urlsafe_b64decode(refused + b"=="))["error"] == "CLOCK"


def test_openssl_signs_for_cgb_and_opens_its_answer(tmp_path):
    with emulator("cgb", tmp_path / "keys") as served:
        reference = paid(served)
        given = served.said["credentials"]
        stamp = f"{hkt(seconds(served) * 1_000):%Y%m%d%H%M%S}"
        target = "/fps/v1/credits?since=0&limit=10"
        (tmp_path / "asked").write_text("\n".join(
            (given["app"], stamp, "by-hand-1", target, hashlib.new("sm3", b"").hexdigest())))
        options = ("-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678", "-in")
        subprocess.run(["openssl", "pkeyutl", "-sign", "-inkey", given["broker_private_key"], *options, "asked", "-out",
                        "sign"], cwd=tmp_path, check=True, capture_output=True)
        sign = base64.b64encode(signature_from_der((tmp_path / "sign").read_bytes())).decode()
        answer = json.loads(curl(
            "-H", f"x-cgb-app: {given['app']}", "-H", f"x-cgb-time: {stamp}", "-H", "x-cgb-request: by-hand-1", "-H",
            f"x-cgb-sign: {sign}", served.said["addresses"]["http"] + "?since=0&limit=10", cwd=tmp_path))
        sealed = base64.b64decode(answer["data"])
        (tmp_path / "answered").write_text(f"by-hand-1\n{hashlib.new('sm3', sealed).hexdigest()}")
        (tmp_path / "theirs").write_bytes(signature_to_der(base64.b64decode(answer["sign"])))
        subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", given["bank_public_key"], *options,
                        "answered", "-sigfile", "theirs"], cwd=tmp_path, check=True, capture_output=True)
        key = bytes.fromhex(Path(given["sm4_file"]).read_text())
        opening = Cipher(algorithms.SM4(key), modes.GCM(sealed[:12], sealed[-16:])).decryptor()
        opening.authenticate_additional_data(b"by-hand-1")
        said = json.loads(opening.update(sealed[12:-16]) + opening.finalize())
        assert [(one["fpsRef"], one["amount"]) for one in said["credits"]] == [(reference, "250.50")]


def test_scb_answers_a_call_signed_by_openssl(tmp_path):
    with emulator("scb", tmp_path / "keys") as served:
        reference = paid(served)
        given, time = served.said["credentials"], seconds(served)
        body = b"\x00\x00\x00\x00\x02\x10\x0a"  # one frame: limit = 10
        (tmp_path / "body").write_bytes(body)
        (tmp_path / "asked").write_bytes(f"by-hand-1\n{time}\n{given['client']}\n".encode() + body)
        subprocess.run(["openssl", "pkeyutl", "-sign", "-inkey", given["broker_private_key"], "-rawin", "-in", "asked",
                        "-out", "sign"], cwd=tmp_path, check=True, capture_output=True)
        sign = base64.b64encode((tmp_path / "sign").read_bytes()).decode()
        answer = curl(
            "--data-binary", "@body", "-H", "content-type: application/grpc-web+proto", "-H",
            f"scb-client: {given['client']}", "-H", f"scb-time: {time}", "-H", "scb-request: by-hand-1", "-H",
            f"scb-sign: {sign}", served.said["addresses"]["http"], cwd=tmp_path)
        assert b"grpc-status:0\r\n" in answer
        assert reference.encode() in answer and b"250.50" in answer


@pytest.mark.parametrize("bank", ["za"])
def test_another_mailbox_begins(tmp_path, bank):
    with emulator(bank, tmp_path / "keys") as served:
        assert served.said["addresses"]["http"].endswith("/notifications")
