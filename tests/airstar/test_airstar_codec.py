"""The Airstar codec: golden bytes, a foreign oracle (the openssl command), hostile input."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from core.wire import airstar as wire
from emulators.airstar.keys import PRIVATE, PUBLIC, in_memory, load_or_create

GOLDEN_KEY = (Path(__file__).parent / "golden_key.pem").read_bytes()
"""A key for tests only; its signatures are the golden bytes below."""

NOW_MS = 1_773_288_000_000
DEPOSIT = wire.build_request(
    "deposit",
    body={"bank_ref_id": "ASBBST000012345", "mandate_id": "AM000000000001", "market": 1, "ccy": "HKD",
          "amount": "1234.50"},
)  # fmt: skip
NONCE = "00112233445566778899aabbccddeeff"
KEY = in_memory()


def parse(
    request: wire.Request, headers: dict[str, str], body: bytes, key: RSAPrivateKey = KEY, **change: Any
) -> wire.Signed:
    query = wire.target_of(request).partition("?")[2]
    arguments: dict[str, Any] = {"method": request.method, "path": request.path, "query": query, "body": body}
    arguments.update(change)
    return wire.parse_request(
        **arguments, headers=headers, key_of={"nostro": key.public_key()}.get, now_ms=NOW_MS, max_skew_ms=300_000
    )


def signed(request: wire.Request = DEPOSIT, key: RSAPrivateKey = KEY) -> tuple[dict[str, str], bytes]:
    return wire.sign_request(request, "nostro", key, NOW_MS, NONCE)


def sign_bytes(body: bytes, target: str = "/bst/v1/deposits") -> dict[str, str]:
    """Good headers for any bytes at all."""
    text = wire.canonical("POST", target, str(NOW_MS), NONCE, body)
    raw = KEY.sign(text, padding.PKCS1v15(), hashes.SHA256())
    sign = base64.b64encode(raw).decode()
    return {"X-App-Id": "nostro", "X-Timestamp": str(NOW_MS), "X-Nonce": NONCE, "X-Sign": sign}


def test_the_canonical_string_is_that_of_the_interface() -> None:
    body = b'{"a":1}'
    assert wire.canonical("POST", "/bst/v1/deposits?x=1", "123", "abc", body) == (
        b"POST\n/bst/v1/deposits?x=1\n123\nabc\n" + hashlib.sha256(body).hexdigest().encode()
    )
    assert wire.canonical("GET", "/p", "1", "n", b"").endswith(
        b"\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_golden_bytes() -> None:
    golden = load_pem_private_key(GOLDEN_KEY, None)
    assert isinstance(golden, RSAPrivateKey)
    headers, body = signed(key=golden)
    assert body == (
        b'{"bank_ref_id":"ASBBST000012345","mandate_id":"AM000000000001","market":1,"ccy":"HKD","amount":"1234.50"}'
    )
    assert headers == {
        "X-App-Id": "nostro",
        "X-Timestamp": "1773288000000",
        "X-Nonce": NONCE,
        "X-Sign": (Path(__file__).parent / "golden_signature.txt").read_text().strip(),
        "Content-Type": "application/json",
    }
    reply = wire.Reply(200, 0, "accepted", {"request_id": "AD000000000001", "amount": "1234.50"})
    assert wire.encode_reply(reply) == (
        200,
        b'{"code":0,"message":"accepted","data":{"request_id":"AD000000000001","amount":"1234.50"}}',
    )


def openssl(*arguments: str, stdin: bytes) -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout


@pytest.mark.req("AIR-08")
def test_openssl_verifies_what_we_sign(tmp_path: Path) -> None:
    key = load_or_create(tmp_path)
    headers, body = signed(key=key)
    (tmp_path / "sign").write_bytes(base64.b64decode(headers["X-Sign"]))
    text = f"POST\n/bst/v1/deposits\n{NOW_MS}\n{NONCE}\n{hashlib.sha256(body).hexdigest()}".encode()
    files = ("-verify", str(tmp_path / PUBLIC), "-signature", str(tmp_path / "sign"))
    said = openssl("dgst", "-sha256", *files, stdin=text)
    assert said.strip() == b"Verified OK"


@pytest.mark.req("AIR-08")
def test_we_verify_what_openssl_signs(tmp_path: Path) -> None:
    key = load_or_create(tmp_path)
    request = wire.build_request("bank_requests", query={"direction": "IN", "from": "1", "to": "2", "page": "1"})
    text = f"GET\n{wire.target_of(request)}\n{NOW_MS}\n{NONCE}\n{hashlib.sha256(b'').hexdigest()}".encode()
    raw = openssl("dgst", "-sha256", "-sign", str(tmp_path / PRIVATE), stdin=text)
    headers = {"X-App-Id": "nostro", "X-Timestamp": str(NOW_MS), "X-Nonce": NONCE,
               "X-Sign": base64.b64encode(raw).decode()}  # fmt: skip
    assert parse(request, headers, b"", key).request == request


def test_a_request_comes_back_as_it_was_signed_with_unknown_fields() -> None:
    unknown = {"since": "2.1", "note": {"deep": [1, None, "é"]}, "n": 2**80}
    request = DEPOSIT._replace(body={**(DEPOSIT.body or {}), **unknown})
    headers, body = signed(request)
    assert parse(request, headers, body) == wire.Signed(request, "nostro", NOW_MS, NONCE)


def test_a_reply_comes_back_as_it_was_encoded_with_unknown_fields() -> None:
    reply = wire.Reply(404, 140630018, "request not found", {"x": 1, "amount": "0.01"}, {"trace_id": "t"})
    assert wire.parse_reply(*wire.encode_reply(reply)) == reply
    assert wire.parse_reply(200, b'{"code":0,"message":"","data":null}').data == {}


@pytest.mark.req("AIR-08")
@pytest.mark.parametrize("change", [
    {"method": "GET"}, {"path": "/bst/v1/withdrawals"}, {"query": "x=1"}, {"path": "/bst/v1/d\u00e9posits"},
    {"body": b"{}"}, {"body": b""}])  # fmt: skip
def test_a_signature_over_other_bytes_is_refused(change: dict[str, Any]) -> None:
    headers, body = signed()
    with pytest.raises(wire.BadSignature):
        parse(DEPOSIT, headers, **{"body": body, **change})


@pytest.mark.req("AIR-08")
@pytest.mark.parametrize(("header", "value", "error"), [
    ("X-App-Id", "somebody", wire.BadSignature), ("X-App-Id", None, wire.MissingHeader),
    ("X-Nonce", "11112222333344445555666677778888", wire.BadSignature), ("X-Nonce", None, wire.MissingHeader),
    ("X-Nonce", "short", wire.MissingHeader), ("X-Timestamp", str(NOW_MS + 1), wire.BadSignature),
    ("X-Timestamp", str(NOW_MS + 300_001), wire.SkewedClock), ("X-Timestamp", str(NOW_MS - 300_001), wire.SkewedClock),
    ("X-Timestamp", "1e9", wire.MissingHeader), ("X-Timestamp", None, wire.MissingHeader),
    ("X-Sign", None, wire.MissingHeader), ("X-Sign", "%%%", wire.BadSignature), ("X-Sign", "AAAA", wire.BadSignature),
    ("X-Sign", "é", wire.BadSignature)])  # fmt: skip
def test_bad_headers_are_refused_with_signature_invalid(
    header: str, value: str | None, error: type[wire.WireError]
) -> None:
    headers, body = signed()
    headers = {name: text for name, text in {**headers, header: value}.items() if text is not None}
    with pytest.raises(error) as caught:
        parse(DEPOSIT, headers, body)
    assert caught.value.code == 140630002


@pytest.mark.parametrize(("body", "error"), [
    (b"[]", wire.MalformedMessage), (b"{", wire.MalformedMessage), (b"\xff{}", wire.MalformedMessage),
    (b'{"a":NaN}', wire.MalformedMessage), (b'{"a":1e999}', wire.MalformedMessage),
    (b'{"a":"\\ud800"}', wire.MalformedMessage), (b"[" * 100_000, wire.MalformedMessage),
    (b'{"a":"' + b"x" * wire.MAX_BODY_BYTES + b'"}', wire.MalformedMessage),
    (b'{"amount":"1.00","amount":"9.00"}', wire.DuplicateKey), (b'{"a":{"b":1,"b":1}}', wire.DuplicateKey),
    (b'{"amount":1.00}', wire.WrongAmount), (b'{"amount":"1"}', wire.WrongAmount),
    (b'{"amount":"-1.00"}', wire.WrongAmount), (b'{"amount":"1,000.00"}', wire.WrongAmount),
    ('{"amount":"\u0661.00"}'.encode(), wire.WrongAmount),
])  # fmt: skip
def test_bad_bodies_are_refused_as_what_they_are(body: bytes, error: type[wire.WireError]) -> None:
    with pytest.raises(error) as caught:
        parse(DEPOSIT, sign_bytes(body), body)
    assert caught.value.code == 140630001


@pytest.mark.parametrize("depth", [100, 500, 900, 990, 1_010, 5_000])
def test_however_deep_the_body_nests_nothing_but_a_wire_error_comes_out(depth: int) -> None:
    body = b'{"a":' * depth + b"1" + b"}" * depth
    try:
        assert parse(DEPOSIT, sign_bytes(body), body).request.body
    except wire.MalformedMessage:
        assert depth > 500


@given(st.binary(max_size=300))
def test_no_reply_bytes_give_anything_but_a_reply_or_a_wire_error(body: bytes) -> None:
    try:
        reply = wire.parse_reply(200, body)
    except wire.WireError:
        return
    assert type(reply.code) is int
    wire.encode_reply(reply)


TEXT = st.text(st.characters(codec="utf-8"))
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
CHECKED = ("amount", "items")
"""Fields whose form the codec knows."""


@given(st.dictionaries(TEXT.filter(lambda name: name not in CHECKED), JSON, max_size=5))
@settings(max_examples=60, deadline=None)
def test_whatever_json_is_signed_comes_back(body: dict[str, Any]) -> None:
    request = DEPOSIT._replace(body=body)
    assert parse(request, *signed(request)).request.body == body


@given(
    st.text(max_size=8), st.text(max_size=30), st.text(max_size=30),
    st.dictionaries(st.sampled_from(["x-app-id", "X-Timestamp", "x-nonce", "X-Sign", "other"]), st.text(max_size=40)),
    st.binary(max_size=100))  # fmt: skip
def test_no_request_bytes_give_anything_but_a_wire_error(
    method: str, path: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(wire.WireError):
        parse(DEPOSIT, headers, body, method=method, path=path, query=query)


@given(st.binary(max_size=60), st.text(st.characters(max_codepoint=126), max_size=20))
@settings(deadline=None)
def test_well_signed_noise_gives_a_request_or_a_wire_error(body: bytes, query: str) -> None:
    target = f"/bst/v1/deposits?{query}" if query else "/bst/v1/deposits"
    try:
        assert parse(DEPOSIT, sign_bytes(body, target), body, query=query).app_id == "nostro"
    except wire.WireError as error:
        assert error.code == 140630001


@pytest.mark.req("AIR-08")
def test_a_nonce_passes_once_while_its_timestamp_would_pass() -> None:
    memory = wire.NonceMemory(max_skew_ms=1_000, limit=3)
    one = wire.Signed(DEPOSIT, "nostro", NOW_MS + 1_000, NONCE)
    memory.use(one, NOW_MS)
    for later_ms in (0, 1_000, 2_000):
        with pytest.raises(wire.ReusedNonce):
            memory.use(one, NOW_MS + later_ms)
    memory.use(one, NOW_MS + 2_001)  # its timestamp is too old by now: the clock check refuses it
    memory.use(one._replace(app_id="other"), NOW_MS + 2_001)
    assert len(memory) == 2


def test_the_nonce_memory_has_a_limit_and_refuses_beyond_it() -> None:
    memory = wire.NonceMemory(max_skew_ms=1_000, limit=2)
    for number in range(2):
        memory.use(wire.Signed(DEPOSIT, "nostro", NOW_MS, f"nonce-{number}"), NOW_MS)
    with pytest.raises(wire.NonceMemoryFull) as caught:
        memory.use(wire.Signed(DEPOSIT, "nostro", NOW_MS, "nonce-2"), NOW_MS)
    assert caught.value.code == 140630016


def test_every_route_is_found_by_the_request_built_from_it() -> None:
    for name, route in wire.ROUTES.items():
        ident = "AD000000000001" if "{id}" in route.path else ""
        request = wire.build_request(name, ident)
        assert wire.find_route(request.method, request.path) == (name, ident)
    for path in ("/", "", "/bst/v1/deposits/", "/bst/v1/deposits/a/b", "/bst/v1/mandates//close", "/bst/v2/ping"):
        assert wire.find_route("GET", path) is None or path == "/bst/v1/ping"


def test_an_id_that_could_change_the_path_is_refused() -> None:
    for ident in ("a/b", "../x", "a?b", "a b", "é", "x" * 65):
        with pytest.raises(wire.MalformedMessage):
            wire.build_request("query_deposit", ident)
