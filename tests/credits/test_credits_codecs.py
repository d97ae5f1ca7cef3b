"""Codecs of CGB, SCB and Citi: bytes, signatures, hostile bytes, and what foreign programs say to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from core.wire import cgb, citi, scb
from core.wire.fps import Credit, Payee
from core.wire.numbered import BadSignature, Malformed, Page, Query, Refused, Skewed, Unread, WireError
from core.wire.sm2 import FastSm2, GmsslSm2, LibcryptoSm2
from emulators.fps.keys import cgb_keys

NOW, SKEW = 1_773_279_001_000, 300_000
QUERY = Query(6, 50, "r1")
CREDIT = Credit(7, "SCB000000000007", "447000000011", "SVID", "160000004", "CNH", "1234.50", NOW, "CHAN TAI MAN 陳",
                "scb-0001", "for a")
PAGE = Page((CREDIT,), 7, False)

SM2, SEEDED = FastSm2(), Random(5)
KEYS = cgb_keys(SM2, SEEDED.randbytes)
OURS, THEIRS, STRANGER = KEYS.of_us(), KEYS.of_bank(), KEYS.of_stranger()
ED_OURS, ED_BANK, ED_STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
SECRET = b"agreed upon with the bank"


class Cgb:
    """Each codec in one shape."""

    code = "BUSY"

    @staticmethod
    def query(query: Query = QUERY, now_ms: int = NOW) -> tuple[str, dict[str, str], bytes]:
        return *cgb.encode_query(query, "NOSTRO", now_ms, OURS, SM2, SEEDED.randbytes), b""

    @staticmethod
    def read_query(target: str, headers: Any, body: bytes) -> Query:
        return cgb.parse_query(target, headers, "NOSTRO", NOW, SKEW, THEIRS, SM2)

    @staticmethod
    def page(page: Page = PAGE, request: str = "r1", *, forged: bool = False) -> bytes:
        return cgb.encode_page(page, request, STRANGER if forged else THEIRS, SM2, SEEDED.randbytes)

    @staticmethod
    def refusal() -> bytes:
        return cgb.encode_refusal("BUSY", "r1", THEIRS, SM2, SEEDED.randbytes)

    @staticmethod
    def read_page(body: bytes) -> Page:
        return cgb.parse_page(body, QUERY, OURS, SM2)


class Scb:
    @staticmethod
    def query(query: Query = QUERY, now_ms: int = NOW) -> tuple[str, dict[str, str], bytes]:
        return scb.PATH, *scb.encode_query(query, "nostro", now_ms, ED_OURS)

    @staticmethod
    def read_query(target: str, headers: Any, body: bytes) -> Query:
        return scb.parse_query(headers, body, "nostro", NOW, SKEW, ED_OURS.public_key())

    @staticmethod
    def page(page: Page = PAGE, request: str = "r1", *, forged: bool = False) -> bytes:
        return scb.encode_page(page, request, ED_STRANGER if forged else ED_BANK)

    @staticmethod
    def refusal() -> bytes:
        return scb.encode_refusal("BUSY")

    @staticmethod
    def read_page(body: bytes) -> Page:
        return scb.parse_page(body, QUERY, ED_BANK.public_key())


class Citi:
    @staticmethod
    def query(query: Query = QUERY, now_ms: int = NOW) -> tuple[str, dict[str, str], bytes]:
        return *citi.encode_query(query, "nostro", now_ms, SECRET), b""

    @staticmethod
    def read_query(target: str, headers: Any, body: bytes) -> Query:
        return citi.parse_query(target, headers, "nostro", NOW, SKEW, SECRET)

    @staticmethod
    def page(page: Page = PAGE, request: str = "r1", *, forged: bool = False) -> bytes:
        return citi.encode_page(page, request, b"a stranger's" if forged else SECRET)

    @staticmethod
    def refusal() -> bytes:
        return citi.encode_refusal("BUSY", "r1", SECRET)

    @staticmethod
    def read_page(body: bytes) -> Page:
        return citi.parse_page(body, QUERY, SECRET)


CODECS = [Cgb, Scb, Citi]
each = pytest.mark.parametrize("codec", CODECS)

LINE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" "), max_size=60)
IDENT = st.text("ABCxyz019-_./", min_size=1, max_size=40)
CREDITS = st.builds(
    Credit, st.integers(1, 10**15 - 1), IDENT, IDENT, st.sampled_from([*Payee]).map(str), LINE,
    st.sampled_from(["HKD", "USD", "CNH"]), st.builds("{}.{:02d}".format, st.integers(0, 10**15 - 1),
                                                       st.integers(0, 99)),
    st.integers(10**9, 4 * 10**9).map(lambda s: s * 1_000), LINE, LINE, LINE)
PAGES = st.builds(Page, st.lists(CREDITS, max_size=5).map(tuple), st.integers(0, 10**15 - 1), st.booleans(),
                  st.just(()))


@each
@given(page=PAGES)
def test_a_page_is_read_as_it_was_written(codec, page):
    assert codec.read_page(codec.page(page)) == page


@each
@settings(deadline=None)  # the first signature of a process sets its curve up
@given(since=st.integers(0, 10**15 - 1), limit=st.integers(1, 200),
       request_id=st.text("aZ09_.-", min_size=1, max_size=64))
def test_a_query_is_read_as_it_was_written(codec, since, limit, request_id):
    query = Query(since, limit, request_id)
    assert codec.read_query(*codec.query(query)) == query


@each
def test_nothing_is_taken_from_a_stranger_or_from_another_answer(codec):
    for body in (codec.page(forged=True), codec.page(request="r2")):
        with pytest.raises(BadSignature):
            codec.read_page(body)


@each
def test_a_refusal_is_told_with_its_code(codec):
    with pytest.raises(Refused, match="BUSY"):
        codec.read_page(codec.refusal())


@each
def test_a_query_from_another_time_is_refused(codec):
    for now in (NOW - SKEW - 1_000, NOW + SKEW + 1_000):
        with pytest.raises(Skewed):
            codec.read_query(*codec.query(now_ms=now))


@each
def test_every_header_of_a_query_matters(codec):
    target, headers, body = codec.query()
    for name in headers:
        if name != "content-type":
            for changed in ("", headers[name][:-1], "x" + headers[name]):
                with pytest.raises(WireError):
                    codec.read_query(target, {**headers, name: changed}, body)
    other, _, another = codec.query(Query(5, 50, "r1"))
    with pytest.raises(WireError):
        codec.read_query(other, headers, another)


@each
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_told_as_noise(codec, data):
    target, headers, _ = codec.query()
    for read in (codec.read_page, partial(codec.read_query, target, dict.fromkeys(headers, data.decode("latin-1")))):
        with pytest.raises(WireError):
            read(data)


@each
@given(at=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_a_changed_page_is_never_read_otherwise(codec, at, byte, cut):
    body = codec.page()
    at %= len(body)
    mutated = body[:at] if cut else body[:at] + bytes([byte]) + body[at + 1:]
    with suppress(WireError):
        assert codec.read_page(mutated) == PAGE  # base64's spare bits and JSON's spaces change nothing


WRONG = [
    {"number": 0}, {"number": 10**15}, {"reference": ""}, {"reference": "a b"}, {"account": "x" * 65},
    {"payee_kind": "IBAN"}, {"payee": "x" * 255}, {"amount": "1"}, {"amount": "1.234"}, {"amount": "-1.00"},
    {"amount": "1e9"}, {"name": "a\nb"}, {"remark": "x" * 501}]


@pytest.mark.parametrize(("codec", "wrong"), [
    (codec, wrong) for codec in CODECS for wrong in WRONG
    if codec is not Scb or wrong != {"payee_kind": "IBAN"}],  # which protobuf cannot write
    ids=lambda value: str(getattr(value, "__name__", value))[:40])
def test_a_credit_with_a_value_that_is_none_of_its_kind_is_told_and_spoils_no_other(codec, wrong):
    before, after = CREDIT._replace(number=6), CREDIT._replace(number=8)
    page = codec.read_page(codec.page(Page((before, CREDIT._replace(**wrong), after), 8, False)))
    assert [item for item in page.items if isinstance(item, Credit)] == [before, after]
    [unread] = [item for item in (*page.items, *page.spoilt) if isinstance(item, Unread)]
    assert unread.number == (0 if "number" in wrong else 7) and (unread in page.spoilt) == ("number" in wrong)
    assert unread.reason and ("CHAN TAI MAN" in unread.said or "name" in wrong)


def test_a_credit_in_a_currency_that_is_not_ours_spoils_no_other():
    said = {"rqi": "r1", "last": 8, "more": False, "credits": [
        {**citi._credit(CREDIT._replace(number=number)), "amount": {"currency": ccy, "value": "1000.00"}}
        for number, ccy in ((6, "HKD"), (7, "JPY"), (8, "CNY"))]}
    page = Citi.read_page(citi._token(said, SECRET))
    assert [item.number for item in page.items] == [6, 7, 8]
    assert isinstance(page.items[1], Unread) and "JPY" in page.items[1].reason and "JPY" in page.items[1].said


@pytest.mark.parametrize(("row", "number"), [
    ("7", 0), ("null", 0), ("[]", 0), ("{}", 0), ('{"sequence":7}', 7), ('{"sequence":7,"sequence":8}', 8),
    ('{"sequence":true}', 0), ('{"sequence":7.5}', 0), ('{"sequence":NaN}', 0), (f'{{"sequence":{"9" * 5_000}}}', 0),
    ('{"sequence":7,"debtor":{"name":"A","name":"B"}}', 7),
    ('{"sequence":7,"debtor":' + "[" * 200 + "]" * 200 + "}", 7),
    ('{"sequence":7,"remittance":"\\ud800"}', 7)], ids=lambda value: str(value)[:40])
def test_whatever_stands_in_the_list_spoils_no_other(row, number):
    good = json.dumps(citi._credit(CREDIT))
    payload = f'{{"rqi":"r1","last":8,"more":false,"credits":[{good},{row},{good}]}}'.encode()
    signed = citi._HEADER + b"." + base64.urlsafe_b64encode(payload).rstrip(b"=")
    mac = base64.urlsafe_b64encode(hmac.digest(SECRET, signed, "sha256")).rstrip(b"=")
    page = Citi.read_page(signed + b"." + mac)
    assert [item for item in page.items if isinstance(item, Credit)] == [CREDIT, CREDIT]
    [unread] = [item for item in (*page.items, *page.spoilt) if isinstance(item, Unread)]
    assert unread.number == number
    unread.said.encode()


@pytest.mark.parametrize("field", ["payer_name", "reference", "amount", "currency"])
def test_a_protobuf_text_that_is_not_utf8_spoils_no_other(field):
    """Protobuf itself refuses the whole message for it."""
    good, bad = scb._credit(CREDIT), scb._credit(CREDIT._replace(number=8))
    written = bad.SerializeToString().replace(getattr(bad, field).encode(), b"\xff" * len(getattr(bad, field).encode()))
    message = b"".join(b"\x0a" + bytes([len(one)]) + one for one in (good.SerializeToString(), written)) + b"\x10\x08"
    sign = base64.b64encode(ED_BANK.sign(b"r1\n" + message)).decode()
    page = Scb.read_page(scb.frame(0, message) + scb.frame(0x80, f"grpc-status:0\r\nscb-sign:{sign}\r\n".encode()))
    assert page.items[0] == CREDIT and page.last == 8
    assert isinstance(page.items[1], Unread) and (page.items[1].number, page.items[1].reason) == (
        8, f"{field} is not UTF-8")


# --- foreign oracles --------------------------------------------------------------------------------------------


def test_cgb_signatures_hold_for_openssl_and_gmssl():
    body = json.loads(Cgb.page())
    sealed, signature = base64.b64decode(body["data"]), base64.b64decode(body["sign"])
    signed = f"r1\n{hashlib.new('sm3', sealed).hexdigest()}".encode()
    for foreign in (LibcryptoSm2(), GmsslSm2()):
        assert foreign.verify(KEYS.bank.public, signed, signature)
        assert not foreign.verify(KEYS.ours.public, signed, signature)


def test_citi_tokens_are_hs256():
    header, payload, signature = Citi.page().split(b".")
    mac = hmac.new(SECRET, header + b"." + payload, hashlib.sha256).digest()
    assert base64.urlsafe_b64encode(mac).rstrip(b"=") == signature
    assert json.loads(base64.urlsafe_b64decode(header + b"==")) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(base64.urlsafe_b64decode(payload + b"=="))["credits"][0]["amount"] == {
        "currency": "CNY", "value": "1234.50"}


def test_a_token_without_a_signature_is_refused():
    header = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=")
    payload = Citi.page().split(b".")[1]
    for token in (header + b"." + payload + b".", header + b"." + payload):
        with pytest.raises(WireError):
            Citi.read_page(token)


BY_PROTOC = bytes.fromhex(
    "0a650807120f5343423030303030303030303030371a0c34343730303030303030313120022a093136303030303030343203434e593a0731"
    "3233342e35304099aec8cd064a104348414e20544149204d414e20e999b352087363622d303030315a05666f722061")
"""What ``protoc --encode=scb.fps.v1.CreditNotice scb.proto`` makes of `CREDIT` in text form."""


def test_scb_writes_what_protoc_writes():
    headers, body = scb.encode_notice(CREDIT, NOW, ED_BANK)
    assert body == BY_PROTOC
    assert scb.parse_notice(headers, BY_PROTOC, NOW, SKEW, ED_BANK.public_key()) == CREDIT


def test_the_generated_module_is_that_of_the_proto_file():
    """Names, numbers and kinds of all fields, read from the text."""
    wanted: dict[str, list[tuple[str, int]]] = {}
    message = ""
    text = (Path(scb.__file__).parent / "scb.proto").read_text()
    for line in (line.partition("//")[0].strip() for line in text.splitlines()):
        if line.startswith(("message ", "enum ")):
            message = line.split()[1]
            wanted[message] = []
        elif message and line.endswith(";") and "=" in line:
            left, _, number = line.rstrip(";").partition("=")
            wanted[message].append((left.split()[-1], int(number)))
    descriptor = scb.pb.DESCRIPTOR
    found = {name: [(field.name, field.number) for field in kind.fields]
             for name, kind in descriptor.message_types_by_name.items()}
    found |= {name: [(value.name, value.number) for value in kind.values]
              for name, kind in descriptor.enum_types_by_name.items()}
    assert found == wanted


def test_an_answer_of_scb_is_gRPC_web_frames():
    """Read by hand: flag, length, content."""
    body = Scb.page()
    length = int.from_bytes(body[1:5], "big")
    trailers = body[5 + length:]
    assert body[0] == 0x00 and trailers[0] == 0x80
    assert int.from_bytes(trailers[1:5], "big") == len(trailers) - 5
    assert trailers[5:].startswith(b"grpc-status:0\r\n")
    assert BY_PROTOC[2:] in body


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_verifies_a_notice_of_scb(tmp_path):
    headers, body = scb.encode_notice(CREDIT, NOW, ED_BANK)
    (tmp_path / "key.pem").write_bytes(ED_BANK.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "signed").write_bytes(f"{headers['x-scb-time']}\n".encode() + body)
    (tmp_path / "signature").write_bytes(base64.b64decode(headers["x-scb-sign"]))
    done = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "signed",
                           "-sigfile", "signature"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done


@given(data=st.binary(max_size=200), time=st.text(max_size=20))
def test_a_notice_of_a_stranger_is_refused(data, time):
    headers, body = scb.encode_notice(CREDIT, NOW, ED_BANK)
    for given_headers, given_body in (({**headers, "x-scb-time": time}, body), (headers, data), ({}, data)):
        with pytest.raises(WireError):
            scb.parse_notice(given_headers, given_body, NOW, SKEW, ED_BANK.public_key())


def test_an_old_notice_is_refused():
    headers, body = scb.encode_notice(CREDIT, NOW, ED_BANK)
    with pytest.raises(Skewed):
        scb.parse_notice(headers, body, NOW + SKEW + 1_000, SKEW, ED_BANK.public_key())


@given(data=st.binary(max_size=200))
def test_a_signed_notice_of_any_bytes_is_read_or_malformed(data):
    """The bank itself may send nonsense."""
    time = str(NOW // 1_000)
    sign = base64.b64encode(ED_BANK.sign(f"{time}\n".encode() + data)).decode()
    with pytest.raises(Malformed):
        scb.parse_notice({"x-scb-time": time, "x-scb-sign": sign}, data, NOW, SKEW, ED_BANK.public_key())
