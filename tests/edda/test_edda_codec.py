"""The eDDA/eDDI codec: signatures that openssl makes and verifies, forms that are refused, the report."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from core.wire.edda import (
    BASES,
    ERRORS,
    HEADER,
    REPORT_COLUMNS,
    ROUTES,
    AuthorisationStatus,
    BadSignature,
    MalformedMessage,
    MalformedReport,
    Reply,
    ReportRow,
    Request,
    SkewedClock,
    WireError,
    encode_part,
    find_route,
    parse_object,
    parse_reply,
    parse_report,
    parse_request,
    path_of,
    sign_jws,
    sign_reply,
    sign_request,
    write_report,
)
from emulators.airstar.keys import in_memory, public_pem

NOW_S = 1_773_280_800
KEY, STRANGER = in_memory(), in_memory()
KEYS = {"nostro": KEY.public_key()}
BODY = {"reference": "EDDIHSBC0000000001", "sequence": 1, "authorisation": "MDHSBC0000000001", "ccy": "HKD",
        "amount": "1234.50"}
DEBIT = Request("create_debit", body=BODY)
QUERY = Request("query_debit", "DDHSBC0000000002")
Message = tuple[str, str, dict[str, str], bytes]
IDENT = st.text("ABCDEFabcdef0123456789_-", min_size=1, max_size=64)


def signed(request: Request = DEBIT, bank: str = "hsbc", key: RSAPrivateKey = KEY) -> Message:
    return sign_request(bank, request, "nostro", key, NOW_S, "0123abcd")


def read(message: Message, bank: str = "hsbc", now_s: int = NOW_S) -> Request:
    return parse_request(bank, *message, KEYS.get, now_s=now_s, max_skew_s=300).request


def openssl(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the foreign oracle -----------------------------------------------------------------------------------------


def test_openssl_verifies_our_signature_over_the_very_bytes(tmp_path: Path) -> None:
    _, _, headers, body = signed()
    head, _, signature = headers[HEADER].partition("..")
    (tmp_path / "key").write_bytes(public_pem(KEY))
    payload = base64.urlsafe_b64encode(body).rstrip(b"=").decode()
    (tmp_path / "signed").write_bytes(f"{head}.{payload}".encode())
    (tmp_path / "signature").write_bytes(base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)))
    said = openssl(tmp_path, "dgst", "-sha256", "-verify", "key", "-signature", "signature", "signed")
    assert said.strip() == b"Verified OK"
    assert json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))) == {
        "alg": "RS256", "kid": "nostro", "crit": ["htm", "htu", "iat", "jti"], "htm": "POST",
        "htu": "/hsbc/edda/v1/direct-debits", "iat": NOW_S, "jti": "0123abcd"}


def test_what_openssl_has_signed_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    body = b'{"amount":"1.00"}'
    head = encode_part(json.dumps({
        "alg": "RS256", "kid": "nostro", "crit": ["htm", "htu", "iat", "jti"], "htm": "POST",
        "htu": "/hase/edda/v1/direct-debits", "iat": NOW_S, "jti": "j1"}).encode())
    (tmp_path / "signed").write_bytes(f"{head}.{encode_part(body)}".encode())
    signature = encode_part(openssl(tmp_path, "dgst", "-sha256", "-sign", "key", "signed"))
    message = ("POST", "/hase/edda/v1/direct-debits", {HEADER: f"{head}..{signature}"}, body)
    assert read(message, "hase") == Request("create_debit", "", {"amount": "1.00"})


def test_the_golden_bytes_of_a_debit() -> None:
    method, path, _, body = signed()
    assert (method, path) == ("POST", "/hsbc/edda/v1/direct-debits")
    assert body == (b'{"reference":"EDDIHSBC0000000001","sequence":1,"authorisation":"MDHSBC0000000001","ccy":"HKD",'
                    b'"amount":"1234.50"}')
    assert signed(QUERY)[:2] == ("GET", "/hsbc/edda/v1/direct-debits/DDHSBC0000000002") and signed(QUERY)[3] == b""


# --- requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bank", BASES)
@pytest.mark.parametrize("message", ROUTES)
def test_every_message_is_read_as_it_was_written(bank: str, message: str) -> None:
    asks = ROUTES[message].method == "GET"
    request = Request(message, "X-1_y" if asks else "", None if asks else {"a": "ä", "limit": "0.01"})
    assert read(signed(request, bank), bank) == request
    assert find_route(bank, ROUTES[message].method, path_of(bank, request)) == (message, request.ident)


OTHERWISE: dict[str, Any] = {
    "method": lambda m, p, h, b: ("GET", p, h, b),
    "path": lambda m, p, h, b: (m, "/hsbc/edda/v1/authorisations", h, b),
    "bank": lambda m, p, h, b: (m, p.replace("hsbc", "hase"), h, b),
    "body": lambda m, p, h, b: (m, p, h, b.replace(b"1234.50", b"9234.50")),
    "no signature": lambda m, p, h, b: (m, p, {}, b),
    "attached payload": lambda m, p, h, b: (m, p, {HEADER: h[HEADER].replace("..", f".{encode_part(b)}.")}, b),
    "padding": lambda m, p, h, b: (m, p, {HEADER: h[HEADER] + "="}, b),
    "stranger": lambda m, p, h, b: signed(key=STRANGER),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_was_not_signed_so_is_refused(what: str) -> None:
    with pytest.raises(BadSignature):
        read(OTHERWISE[what](*signed()))


@pytest.mark.parametrize("protected", [
    {"alg": "none"}, {"alg": "HS256"}, {"alg": "RS512"}, {"crit": ["htm", "htu", "iat"]}, {"crit": None},
    {"crit": ["htm", "htu", "iat", "jti", "b64"]}, {"kid": "other"}, {"kid": 7}, {"iat": "now"}, {"jti": ""},
    {"jti": "a b"}])
def test_a_protected_header_of_another_form_is_refused_though_it_is_signed(protected: dict[str, Any]) -> None:
    method, path, _, body = signed()
    known = {"kid": "nostro", "crit": ["htm", "htu", "iat", "jti"], "htm": method, "htu": path, "iat": NOW_S,
             "jti": "j"}
    head, _, signature = sign_jws(known | protected, body, KEY).split(".")
    with pytest.raises(BadSignature):
        read((method, path, {HEADER: f"{head}..{signature}"}, body))


@pytest.mark.parametrize(("off", "good"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_the_time_of_signing_may_be_so_far_off(off: int, good: bool) -> None:
    if good:
        assert read(signed(), now_s=NOW_S + off) == DEBIT
    else:
        with pytest.raises(SkewedClock):
            read(signed(), now_s=NOW_S + off)


@pytest.mark.parametrize("body", [
    b"", b"[]", b'"x"', b"{", b'{"a":1,"a":2}', b'{"amount":"1.5"}', b'{"amount":1.50}', b'{"limit":"-1.00"}',
    b'{"a":NaN}', b"\xff{}", b'{"a":"\xed\xa0\x80"}', b"x" * 70_000, b"[" * 5_000])
def test_a_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        parse_object(body)


# --- answers ----------------------------------------------------------------------------------------------------


def test_an_answer_belongs_to_one_request_and_one_status() -> None:
    bank = {"hsbc": STRANGER.public_key()}
    body = sign_reply(Reply(201, {"id": "D1", "amount": "1.00"}), "j1", "hsbc", STRANGER)
    assert parse_reply(201, body, "j1", bank.get) == Reply(201, {"id": "D1", "amount": "1.00"})
    for status, jti, keys in ((200, "j1", bank), (201, "j2", bank), (201, "j1", {"hsbc": KEY.public_key()}),
                              (201, "j1", {})):
        with pytest.raises(BadSignature):
            parse_reply(status, body, jti, keys.get)


def test_every_code_has_its_status() -> None:
    assert {code: row.http for code, row in ERRORS.items() if row.http in (409, 429)} == {
        "EDDI_BUSY": 409, "EDDI_RATE": 429}
    assert {"AC01", "AC04", "AM04", "AM14", "MD01", "DUPL"} <= ERRORS.keys()  # ISO 20022, protocols.md


# --- anything at all --------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_messages_raise_nothing_but_the_protocols_error(data: st.DataObject) -> None:
    method, path, headers, body = signed()
    place = data.draw(st.sampled_from(["header", "body", "path"]))
    target = {"header": headers[HEADER].encode(), "body": body, "path": path.encode()}[place]
    at = data.draw(st.integers(0, len(target) - 1))
    changed = target[:at] + data.draw(st.binary(max_size=3)) + target[at + data.draw(st.integers(0, 3)):]
    message = (method, changed.decode("latin-1") if place == "path" else path,
               {HEADER: changed.decode("latin-1")} if place == "header" else headers,
               changed if place == "body" else body)
    try:
        assert read(message) == DEBIT and changed == target
    except WireError:
        assert changed != target


@given(raw=st.binary(max_size=200), status=st.integers(100, 599))
@settings(max_examples=150, deadline=None)
def test_arbitrary_answers_and_reports_raise_nothing_but_the_protocols_error(raw: bytes, status: int) -> None:
    with pytest.raises(WireError):
        parse_reply(status, raw, "j", KEYS.get)
    for reading in (parse_object, parse_report):
        try:
            reading(raw)
        except WireError:
            continue
    report = parse_report_or_none(",".join(REPORT_COLUMNS).encode() + b"\r\n" + raw)
    assert report is None or all(isinstance(row, ReportRow) for row in report.rows)


def parse_report_or_none(raw: bytes):
    try:
        return parse_report(raw)
    except MalformedReport:
        return None


# --- the report -------------------------------------------------------------------------------------------------

ROWS = st.lists(st.builds(
    ReportRow, IDENT, st.sampled_from(AuthorisationStatus),
    st.dates().map(lambda day: day.year * 10_000 + day.month * 100 + day.day),
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=64)))


@given(rows=ROWS)
@settings(max_examples=150, deadline=None)
def test_a_report_is_read_as_it_was_written(rows: list[ReportRow]) -> None:
    assert parse_report(write_report(rows)) == (tuple(rows), ())


def test_the_golden_bytes_of_a_report() -> None:
    assert write_report([ReportRow("MDHSBC0000000001", AuthorisationStatus.CANCELLED, 20260312, "customer, by letter")]
                        ) == (b"mandate_ref,status,change_date,reason\r\n"
                              b'MDHSBC0000000001,CANCELLED,2026-03-12,"customer, by letter"\r\n')


@pytest.mark.parametrize(("row", "why"), [
    ("M1,ACTIVE,2026-03-12", "3 fields"), ("M 1,ACTIVE,2026-03-12,", "mandate_ref"), ("M1,OPEN,2026-03-12,", "status"),
    ("M1,ACTIVE,2026-02-30,", "date"), ("M1,ACTIVE,20260312,", "date"), (f"M1,ACTIVE,2026-03-12,{'x' * 65}", "reason")])
def test_a_row_that_is_none_is_refused_with_its_line_and_the_others_are_read(row: str, why: str) -> None:
    text = f"{','.join(REPORT_COLUMNS)}\r\nM0,ACTIVE,2026-03-12,\r\n{row}\r\nM2,SUSPENDED,2026-03-12,\r\n"
    report = parse_report(text.encode())
    assert [one.mandate_ref for one in report.rows] == ["M0", "M2"]
    assert len(report.refused) == 1 and report.refused[0].startswith("line 3: ") and why in report.refused[0]


@pytest.mark.parametrize("content", [
    b"", b"mandate_ref,status\r\n", b"\xff\xfe", b'"', b"mandate_ref;status;change_date;reason"])
def test_a_file_without_the_header_is_no_report(content: bytes) -> None:
    with pytest.raises(MalformedReport):
        parse_report(content)


def test_an_id_that_cannot_stand_in_a_path_is_not_sent() -> None:
    for ident in ("", "a/b", "é", "x" * 65):
        with pytest.raises(MalformedMessage):
            path_of("hsbc", Request("query_debit", ident))
