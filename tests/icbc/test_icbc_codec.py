"""ICBC's codec: golden bytes, its own round trip, foreign readers, and whatever else may come in."""

from __future__ import annotations

import base64
import random
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from core.wire import icbc
from core.wire.icbc import (
    Answer,
    BadSignature,
    ClockSkew,
    Disagreement,
    Head,
    MalformedMessage,
    Query,
    Record,
    Refused,
    Request,
    Unauthorized,
    WireError,
)
from core.wire.text import refused_in

KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
NOW = 1_773_279_010_123  # 2026-03-12 09:30:10.123
HEAD = Head("QPD", "NOSTRO00000001", "102", "nostro01", "nostro0120260312093010123001", NOW)
QUERY = Query("861000000011", "HKD", begin_seq="0000000000000041", next_tag="0000000000000050")
RECORD = Record("0000000000000050", NOW // 1000 * 1000, "HKD", "100000", "0", "330003", "供股 <2> & 3", "陳大文 CHAN",
                "6222021001", (("BusCode", "7"),))
ANSWER = Answer(HEAD, "0", "", "861000000011", "HKD", "0000000000000060", (RECORD,))


def parsed(target: str, headers: dict[str, str], body: bytes, **how: Any) -> Request:
    options: dict[str, Any] = {"now_ms": NOW, "max_skew_ms": 300_000} | how
    return icbc.parse_request(target.partition("?")[2], headers, body,
                              lambda user: KEY.public_key() if user == "nostro01" else None, **options)


# --- bytes that stand ---------------------------------------------------------------------------------------------


def test_the_request_stands_on_the_line_as_the_protocol_says() -> None:
    target, headers, body = icbc.encode_request(Request(HEAD, QUERY), KEY)
    assert target == ("/servlet/ICBCCMPAPIReqServlet?userID=nostro01&PackageID=nostro0120260312093010123001"
                      "&SendTime=20260312093010123")
    form = parse_qs(body.decode(), keep_blank_values=True)
    assert list(form) == ["Version", "TransCode", "BankCode", "GroupCIS", "ID", "PackageID", "Cert", "reqData"]
    assert form["reqData"] == [
        '<?xml version="1.0" encoding="GBK"?><CMS><eb><pub><TransCode>QPD</TransCode><CIS>NOSTRO00000001</CIS>'
        "<BankCode>102</BankCode><ID>nostro01</ID><TranDate>20260312</TranDate><TranTime>093010123000</TranTime>"
        "<fSeqno>nostro0120260312093010123001</fSeqno></pub><in><AccNo>861000000011</AccNo><CurrType>013</CurrType>"
        "<BeginSeq>0000000000000041</BeginSeq><NextTag>0000000000000050</NextTag></in></eb></CMS>"]
    assert set(headers) == {"content-type", "x-icbc-sign"}


def test_the_answer_stands_on_the_line_as_the_protocol_says() -> None:
    assert icbc.answer_xml(ANSWER) == (
        '<?xml version="1.0" encoding="GBK"?><CMS><eb><pub><TransCode>QPD</TransCode><CIS>NOSTRO00000001</CIS>'
        "<BankCode>102</BankCode><ID>nostro01</ID><TranDate>20260312</TranDate><TranTime>093010123000</TranTime>"
        "<fSeqno>nostro0120260312093010123001</fSeqno><RetCode>0</RetCode><RetMsg></RetMsg></pub><out>"
        "<AccNo>861000000011</AccNo><CurrType>013</CurrType><NextTag>0000000000000060</NextTag><TotalNum>1</TotalNum>"
        "<rd><Drcrf>2</Drcrf><SerialNo>0000000000000050</SerialNo><Date>20260312</Date><Time>093010</Time>"
        "<CurrType>013</CurrType><CreditAmount>100000</CreditAmount><DebitAmount>0</DebitAmount>"
        "<Balance>330003</Balance><Summary>供股 &lt;2&gt; &amp; 3</Summary><RecipName>陳大文 CHAN</RecipName>"
        "<RecipAccNo>6222021001</RecipAccNo><BusCode>7</BusCode></rd></out></eb></CMS>").encode("gbk")
    assert icbc.encode_answer(ANSWER, KEY).startswith(b"reqData=PD94bWwg")
    assert icbc.encode_refusal("B0005") == b"errorCode=B0005"


# --- foreign readers ----------------------------------------------------------------------------------------------


def _openssl_verifies(folder: Path, data: bytes, signature: bytes) -> bool:
    (folder / "data").write_bytes(data)
    (folder / "signature").write_bytes(base64.b64decode(signature))
    (folder / "public.pem").write_bytes(KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "data"],
                          cwd=folder, capture_output=True, check=False)
    return done.returncode == 0 and b"Verified OK" in done.stdout


def test_openssl_verifies_both_signatures_and_lxml_reads_the_gbk(tmp_path: Path) -> None:
    _, headers, body = icbc.encode_request(Request(HEAD, QUERY), KEY)
    assert _openssl_verifies(tmp_path, body, headers["x-icbc-sign"].encode())
    assert not _openssl_verifies(tmp_path, body + b"0", headers["x-icbc-sign"].encode())
    answered = icbc.encode_answer(ANSWER, KEY)
    data, _, signature = answered.removeprefix(b"reqData=").partition(b"&sign=")
    xml = base64.b64decode(data)
    assert _openssl_verifies(tmp_path, xml, signature)
    root = etree.fromstring(xml)
    assert root.getroottree().docinfo.encoding == "GBK"
    assert root.findtext("eb/out/rd/RecipName") == "陳大文 CHAN"
    assert root.findtext("eb/out/rd/Summary") == "供股 <2> & 3"
    assert [child.tag for child in root.find("eb")] == ["pub", "out"]


def test_what_openssl_signs_and_lxml_writes_is_read(tmp_path: Path) -> None:
    tree = etree.fromstring(icbc.answer_xml(ANSWER))
    xml = etree.tostring(tree, encoding="GBK", xml_declaration=True)  # other quotes, other spaces
    assert xml != icbc.answer_xml(ANSWER)
    (tmp_path / "xml").write_bytes(xml)
    (tmp_path / "private.pem").write_bytes(KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", "private.pem", "xml"], cwd=tmp_path,
                               capture_output=True, check=True).stdout
    body = b"reqData=" + base64.b64encode(xml) + b"&sign=" + base64.b64encode(signature)
    assert icbc.parse_answer(body, KEY.public_key(), Request(HEAD, QUERY)) == ANSWER


# --- the round trip -----------------------------------------------------------------------------------------------

IDENT = st.text("abcXYZ019_.-", min_size=1, max_size=20)
SERIAL = st.integers(1, 10**16).map(lambda n: f"{n:016d}")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30).filter(
    lambda text: icbc._NOT_XML.search(text) is None)
WRITTEN = TEXT.filter(lambda text: not refused_in(text))
CENTS = st.integers(1, 10**15).map(str)
MS = st.integers(0, 4_000_000_000_000)
HEADS = st.builds(Head, st.sampled_from(("QPD", "QHISD", "QACCBAL")), IDENT, IDENT, IDENT, IDENT,
                  MS.map(lambda ms: ms + 100_000_000))
CCY = st.sampled_from(("HKD", "USD", "CNH"))


@st.composite
def records(draw: st.DrawFn) -> Record:
    amount, credit = draw(CENTS), draw(st.booleans())
    return Record(draw(SERIAL), (draw(MS) + 100_000_000) // 1000 * 1000, draw(CCY), amount if credit else "0",
                  "0" if credit else amount, draw(st.integers(-10**15, 10**15).map(str)), draw(WRITTEN), draw(WRITTEN),
                  draw(WRITTEN))


ANSWERS = st.builds(Answer, HEADS, IDENT, TEXT, IDENT, CCY, TEXT, st.lists(records(), max_size=4).map(tuple),
                    st.one_of(st.just(""), st.integers(-10**12, 10**12).map(str)), st.just(()))
QUERIES = st.builds(Query, IDENT, CCY, st.one_of(st.just(""), SERIAL), st.one_of(st.just(""), SERIAL),
                    st.sampled_from(("", "20260312")), st.sampled_from(("", "20260331")), st.just(""))


@given(ANSWERS)
def test_every_answer_is_read_as_it_was_written(answer: Answer) -> None:
    assert icbc.read_answer(icbc.answer_xml(answer)) == answer


@settings(max_examples=25)
@given(HEADS, QUERIES)
def test_every_request_is_read_as_it_was_written(head: Head, query: Query) -> None:
    request = Request(head._replace(user="nostro01"), query)
    assert parsed(*icbc.encode_request(request, KEY), now_ms=head.sent_ms) == request


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.req("ICBC-01")
def test_an_answer_whose_signature_is_not_the_banks_is_refused() -> None:
    body, request = icbc.encode_answer(ANSWER, KEY), Request(HEAD, QUERY)
    assert icbc.parse_answer(body, KEY.public_key(), request) == ANSWER
    with pytest.raises(BadSignature):
        icbc.parse_answer(body, OTHER.public_key(), request)
    forged = base64.b64encode(icbc.answer_xml(ANSWER._replace(records=(RECORD._replace(credit="999999"),))))
    with pytest.raises(BadSignature):
        icbc.parse_answer(b"reqData=" + forged + body[body.index(b"&sign="):], KEY.public_key(), request)
    with pytest.raises(BadSignature):
        icbc.parse_answer(body[:body.index(b"&sign=") + 6], KEY.public_key(), request)


def test_an_answer_to_another_request_is_refused() -> None:
    body = icbc.encode_answer(ANSWER, KEY)
    for name, value in (("package", "other"), ("user", "nostro02"), ("trans", "QHISD"), ("sent_ms", NOW + 1)):
        with pytest.raises(Disagreement):
            icbc.parse_answer(body, KEY.public_key(), Request(HEAD._replace(**{name: value}), QUERY))
    with pytest.raises(Refused) as refused:
        icbc.parse_answer(b"errorCode=B0004", KEY.public_key(), Request(HEAD, QUERY))
    assert refused.value.code == "B0004"


OUTER = ("TransCode", "BankCode", "GroupCIS", "ID", "PackageID")


@pytest.mark.parametrize("field", OUTER)
def test_identifiers_in_the_form_agree_with_the_xml(field: str) -> None:
    target, _, body = icbc.encode_request(Request(HEAD, QUERY), KEY)
    body = body.replace(f"{field}=".encode(), f"{field}=x".encode(), 1)
    signed = icbc._signed(body, KEY)
    with pytest.raises(Disagreement):
        parsed(target, {"x-icbc-sign": signed}, body)


@pytest.mark.parametrize(("field", "error"), [
    ("userID=nostro01", Unauthorized), ("PackageID=nostro01", Disagreement), ("SendTime=2026", Disagreement)])
def test_identifiers_in_the_url_agree_with_the_xml(field: str, error: type[WireError]) -> None:
    target, headers, body = icbc.encode_request(Request(HEAD, QUERY), KEY)
    with pytest.raises(error):
        parsed(target.replace(field, field[:-1] + "9"), headers, body)


def test_a_request_is_signed_timely_and_ours() -> None:
    target, headers, body = icbc.encode_request(Request(HEAD, QUERY), KEY)
    for now, fits in ((NOW + 300_000, True), (NOW - 300_000, True), (NOW + 300_001, False), (NOW - 300_001, False)):
        if fits:
            assert parsed(target, headers, body, now_ms=now).head == HEAD
        else:
            with pytest.raises(ClockSkew):
                parsed(target, headers, body, now_ms=now)
    for bad in ({}, {"x-icbc-sign": ""}, {"x-icbc-sign": "é"}, {"x-icbc-sign": icbc._signed(body, OTHER)}):
        with pytest.raises(BadSignature):
            parsed(target, bad, body)


HOSTILE = {
    "entity": '<!DOCTYPE CMS [<!ENTITY a "b">]>',
    "external": '<!DOCTYPE CMS SYSTEM "file:///etc/passwd">',
    "comment": "<!-- hello -->",
    "instruction": "<?run this?>",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_xml_that_wants_more_than_data_is_refused(kind: str) -> None:
    xml = icbc.answer_xml(ANSWER).replace(b"?><CMS>", b"?>" + HOSTILE[kind].encode() + b"<CMS>")
    with pytest.raises(MalformedMessage):
        icbc.read_answer(xml)


@pytest.mark.parametrize(("old", "new"), [
    (b'encoding="GBK"', b'encoding="UTF-8"'), (b'<?xml version="1.0" encoding="GBK"?>', b""),
    (b"<rd>", b'<rd id="1">'), (b"</out>", b"</out><out></out>"),
    (b"<TotalNum>1", b"<TotalNum>2"), (b"<CurrType>013", b"<CurrType>999"), (b"<pub>", b"<pub>text"),
    (b"<RetCode>0</RetCode>", b"<RetCode>0</RetCode><RetCode>0</RetCode>"), ("陳".encode("gbk"), b"\xff\xff"),
    (b"<Summary>", b"<Summary>" + b"<b>" * 9),
    (b"<Summary>", b"<Summary><b>x</b>"),
])
def test_xml_that_is_not_the_protocols_is_refused(old: bytes, new: bytes) -> None:
    xml = icbc.answer_xml(ANSWER)
    assert old in xml
    with pytest.raises(MalformedMessage):
        icbc.read_answer(xml.replace(old, new, 1))


@pytest.mark.parametrize(("old", "new", "serial"), [
    (b"<Drcrf>2", b"<Drcrf>1", True), (b"<CreditAmount>100000", b"<CreditAmount>1000.00", True),
    (b"<CreditAmount>100000", b"<CreditAmount>-5", True), (b"<CreditAmount>100000", b"<CreditAmount>0", True),
    (b"<DebitAmount>0", b"<DebitAmount>7", True), (b"<Balance>330003", b"<Balance>1e9", True),
    (b"<Date>20260312", b"<Date>20260230", True), (b"<Time>093010", b"<Time>0930", True),
    (b"<SerialNo>0000000000000050</SerialNo>", b"", False), (b"<SerialNo>", b"<SerialNo>x", False),
    (b"<SerialNo>", b"<SerialNo>1</SerialNo><SerialNo>", False), (b"<CurrType>013", b"<CurrType>038", True),
    (b"<Summary>", b"<Summary/><Summary>", True), (b"<Summary>", b"<Summary>" + b"x" * 501, True),
    (b"<RecipName>", b"<RecipName>&#8238;", True), (b"<RecipName>", b"<RecipName>&#10;", True),
])
def test_a_record_that_cannot_be_read_spoils_no_other(old: bytes, new: bytes, serial: bool) -> None:
    xml = icbc.answer_xml(ANSWER)
    record = xml[xml.index(b"<rd>"):xml.index(b"</rd>") + 5]
    assert old in record
    told = icbc.read_answer(xml.replace(b"<TotalNum>1", b"<TotalNum>3").replace(
        record, record + record.replace(old, new, 1) + record))
    assert told.records == (RECORD, RECORD)
    [spoilt] = told.spoilt
    assert (spoilt.shape is None) == any(wrong in new for wrong in (b"1000.00", b"-5", b"20260230", b">0930"))
    if not serial:
        assert spoilt.shape == (RECORD.time_ms, int(RECORD.credit), int(RECORD.debit))
    assert spoilt.serial == (RECORD.serial if serial else "") and spoilt.reason and "RecipName" in spoilt.said


def test_limits_hold() -> None:
    with pytest.raises(MalformedMessage):
        icbc.answer_xml(ANSWER._replace(records=(RECORD,) * (icbc.MAX_PAGE + 1)))
    deep = icbc.answer_xml(ANSWER).replace(b"<Summary>", b"<Summary>" + b"<a>" * 9)
    for xml in (deep, b"x" * (icbc.MAX_BODY_BYTES + 1)):
        with pytest.raises(MalformedMessage):
            icbc.read_answer(xml)
    with pytest.raises(MalformedMessage):
        icbc.opened_answer(b"x" * (icbc.MAX_BODY_BYTES + 1))


def _survives(read: Any, *arguments: Any) -> None:
    """Nothing but the protocol's error comes out."""
    try:
        read(*arguments)
    except WireError:
        return


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    _survives(icbc.read_answer, data)
    _survives(icbc.parse_answer, data, KEY.public_key(), Request(HEAD, QUERY))
    signed = {"x-icbc-sign": icbc._signed(data, KEY)}
    _survives(parsed, icbc.target_of(HEAD), signed, data)
    _survives(parsed, "?" + data.decode("latin-1"), signed, data)


@settings(max_examples=300)
@given(st.integers(0, 10**9), st.integers(1, 6))
def test_mutated_bytes_raise_nothing_else(seed: int, cuts: int) -> None:
    rng = random.Random(seed)
    xml, request = bytearray(icbc.answer_xml(ANSWER)), bytearray(icbc.request_xml(Request(HEAD, QUERY)))
    for data in (xml, request):
        for _ in range(cuts):
            at = rng.randrange(len(data))
            data[at:at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
    _survives(icbc.read_answer, bytes(xml))
    _survives(icbc._read_request, bytes(request))
