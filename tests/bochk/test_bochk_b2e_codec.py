"""The B2E codec: golden bytes, any message, any bytes, and what lxml and its schema say of our documents."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from core.wire import bochk_b2e as b2e
from core.wire.bochk_b2e import B2eError, Reply, Request, decode_reply, decode_request, encode_reply, encode_request
from core.wire.text import REFUSED

HEAD = {"CBSAcctNo": "01287500000011", "UserId": "nostro", "ECertName": "nostro-b2e"}
RECORD = {"seq_no": "0000004711", "txnTime": "20260312081502", "ccy": "HKD", "drCr": "C", "amount": "1000.00",
          "balance": "51000.00", "remark": "A & B <C>", "en_name": "CHAN TAI MAN"}
SIGN_ON = Request(b2e.SIGN_ON, "20260312060000001", HEAD | {"Password": "secret", "ECertPwd": "hush"},
                  {"custId": "NOSTRO01", "ts": "20260312060000"})
STATEMENT = Request(b2e.STATEMENT, "20260312070000002", HEAD | {"Token": "ab12"},
                    {"acctNo": "01287500000011", "ccy": "HKD", "dateFrom": "20260311", "dateTo": "20260312"})
PAGE = Reply(b2e.STATEMENT, "20260312070000002", "0000", "ok",
             {"PageKey": "100", "opening": "50000.00", "closing": "51000.00"}, (RECORD,))

GOLDEN_REQUEST = (
    b'<?xml version="1.0" encoding="UTF-8"?><BOCHKE2B><Head><PackageId>20260312060000001</PackageId>'
    b"<CBSAcctNo>01287500000011</CBSAcctNo><UserId>nostro</UserId><Password>secret</Password>"
    b"<ECertName>nostro-b2e</ECertName><ECertPwd>hush</ECertPwd></Head><Tx><SignOnREQ>"
    b'<Requests noOfRecord="1"><Record><custId>NOSTRO01</custId><ts>20260312060000</ts></Record></Requests>'
    b"</SignOnREQ></Tx></BOCHKE2B>")
GOLDEN_REPLY = (
    b'<?xml version="1.0" encoding="UTF-8"?><BOCHKE2B><Head><PackageId>20260312070000002</PackageId>'
    b"<RetCode>0000</RetCode><RetMsg>ok</RetMsg></Head><Tx><AcctStatementRES><PageKey>100</PageKey>"
    b'<opening>50000.00</opening><closing>51000.00</closing><Responses noOfRecord="1"><Record>'
    b"<seq_no>0000004711</seq_no><txnTime>20260312081502</txnTime><ccy>HKD</ccy><drCr>C</drCr>"
    b"<amount>1000.00</amount><balance>51000.00</balance><remark>A &amp; B &lt;C&gt;</remark>"
    b"<en_name>CHAN TAI MAN</en_name></Record></Responses></AcctStatementRES></Tx></BOCHKE2B>")


def test_golden_bytes() -> None:
    assert encode_request(SIGN_ON) == GOLDEN_REQUEST
    assert decode_request(GOLDEN_REQUEST) == SIGN_ON
    assert encode_reply(PAGE) == GOLDEN_REPLY
    assert decode_reply(GOLDEN_REPLY) == PAGE


def test_unknown_elements_are_kept() -> None:
    more = GOLDEN_REPLY.replace(b"</en_name>", b"</en_name><valueDate>20260313</valueDate>").replace(
        b"<opening>", b"<more>1</more><opening>")
    reply = decode_reply(more)
    assert reply.records[0] == RECORD | {"valueDate": "20260313"}
    assert reply.facts["more"] == "1"
    assert decode_reply(encode_reply(reply)) == reply


# --- any message ------------------------------------------------------------------------------------------------

_FREE = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=40).filter(
    lambda text: not re.search(f"[￾￿{REFUSED}]", text))
_OF_FORM = {field.tag: _FREE if field.form is b2e._TEXT else st.from_regex(field.form, fullmatch=True)
            for shape in b2e.MESSAGES.values() for field in (*shape.asked, *shape.facts, *shape.record)}
_HEADS = {field.tag: _FREE if field.form is b2e._TEXT else st.from_regex(field.form, fullmatch=True)
          for field in (*b2e.REQUEST_HEAD, *b2e.REPLY_HEAD)}


def _some(fields: tuple[b2e.Field, ...], values: dict[str, st.SearchStrategy[str]]) -> Any:
    return st.fixed_dictionaries({field.tag: values[field.tag] for field in fields if field.required},
                                 optional={field.tag: values[field.tag] for field in fields if not field.required})


@st.composite
def requests(draw: st.DrawFn) -> Request:
    name = draw(st.sampled_from(list(b2e.MESSAGES)))
    head = draw(_some(b2e.REQUEST_HEAD, _HEADS))
    return Request(name, head.pop("PackageId"), head, draw(_some(b2e.MESSAGES[name].asked, _OF_FORM)))


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    name = draw(st.sampled_from(list(b2e.MESSAGES)))
    shape = b2e.MESSAGES[name]
    records = tuple(draw(st.lists(_some(shape.record, _OF_FORM), max_size=4)))
    return Reply(name, draw(_HEADS["PackageId"]), draw(_HEADS["RetCode"]), draw(_HEADS["RetMsg"]),
                 draw(_some(shape.facts, _OF_FORM)), records)


@given(requests())
@settings(max_examples=50)
def test_any_request_comes_back(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(replies())
@settings(max_examples=50)
def test_any_reply_comes_back(reply: Reply) -> None:
    assert decode_reply(encode_reply(reply)) == reply


# --- any bytes --------------------------------------------------------------------------------------------------


def _read(document: bytes) -> None:
    for decode in (decode_request, decode_reply):
        try:
            decode(document)
        except B2eError:
            continue


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_else(document: bytes) -> None:
    _read(document)


@given(st.sampled_from([GOLDEN_REQUEST, GOLDEN_REPLY]), st.data())
@settings(max_examples=300)
def test_mutated_documents_raise_nothing_else(document: bytes, data: st.DataObject) -> None:
    spoilt = bytearray(document)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(spoilt) - 1))
        if data.draw(st.booleans()):
            spoilt[at] = data.draw(st.integers(0, 255))
        else:
            spoilt[at:at + data.draw(st.integers(1, 30))] = data.draw(st.binary(max_size=10))
    _read(bytes(spoilt))


_BODY = GOLDEN_REPLY.split(b"?>", 1)[1]
HOSTILE = {
    "external entity": b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + _BODY.replace(b"CHAN", b"&e;"),
    "entities that multiply": b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + _BODY,
    "external DTD": b'<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd">' + _BODY,
    "empty DTD": b"<!DOCTYPE x>" + _BODY,
    "undeclared entity": _BODY.replace(b"CHAN", b"&e;"),
    "processing instruction": b"<?xml-stylesheet href='x'?>" + _BODY,
    "comment": b"<!-- x -->" + _BODY,
    "another encoding": b'<?xml version="1.0" encoding="UTF-7"?>' + _BODY,
    "UTF-16": GOLDEN_REPLY.decode().encode("utf-16"),
    "UTF-16 without a mark": GOLDEN_REPLY.decode().encode("utf-16-le"),
    "too long": GOLDEN_REPLY + b" " * b2e.MAX_DOCUMENT_BYTES,
    "too deep": b"<a>" * 100 + b"</a>" * 100,
    "too many elements": b"<BOCHKE2B>" + b"<a/>" * (b2e.MAX_ELEMENTS + 1) + b"</BOCHKE2B>",
    "too many records": _BODY.replace(b"<Record>", b"<Record/>" * b2e.MAX_RECORDS + b"<Record>"),
    "attribute": _BODY.replace(b"<Record>", b'<Record id="1">'),
    "namespace": _BODY.replace(b"<BOCHKE2B>", b'<BOCHKE2B xmlns="x">'),
    "count that is none": _BODY.replace(b'"1"', b'"\xd9\xa1"'),
    "wrong count": _BODY.replace(b'"1"', b'"2"'),
    "no count": _BODY.replace(b' noOfRecord="1"', b""),
    "text between elements": _BODY.replace(b"<Record>", b"x<Record>"),
    "balance of three decimals": _BODY.replace(b"</AcctStatementRES>", b"<closing>1.000</closing></AcctStatementRES>"),
    "another message": _BODY.replace(b"AcctStatementRES", b"EverythingRES"),
    "two messages": _BODY.replace(b"</Tx>", b"<SignOnRES/></Tx>"),
    "two lists": _BODY.replace(b"</AcctStatementRES>", b'<Responses noOfRecord="0"/></AcctStatementRES>'),
    "breaks off": GOLDEN_REPLY[:-20],
    "nothing": b"",
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
def test_hostile_documents_are_refused(document: bytes) -> None:
    with pytest.raises(B2eError):
        decode_reply(document)


SPOILT = {
    "field twice": (b"<ccy>HKD</ccy>", b"<ccy>HKD</ccy><ccy>USD</ccy>"),
    "elements in a field": (b"<ccy>HKD</ccy>", b"<ccy><of>HKD</of></ccy>"),
    "missing amount": (b"<amount>1000.00</amount>", b""),
    "amount of three decimals": (b"<amount>1000.00<", b"<amount>1000.000<"),
    "negative amount": (b"<amount>1000.00", b"<amount>-1000.00"),
    "a name that is too long": (b"CHAN TAI MAN", b"C" * 201),
    "a name with a line in it": (b"CHAN TAI MAN", b"CHAN\nTAI MAN"),
}


@pytest.mark.parametrize(("right", "wrong"), SPOILT.values(), ids=SPOILT)
def test_a_record_that_cannot_be_read_spoils_no_other(right: bytes, wrong: bytes) -> None:
    record = GOLDEN_REPLY[GOLDEN_REPLY.index(b"<Record>"):GOLDEN_REPLY.index(b"</Responses>")]
    assert right in record
    told = decode_reply(GOLDEN_REPLY.replace(b'"1"', b'"3"').replace(
        record, record + record.replace(right, wrong) + record))
    assert told.records == decode_reply(GOLDEN_REPLY).records * 2
    [spoilt] = told.spoilt
    assert spoilt.reason and "20260312" in spoilt.said


def test_an_entity_is_never_resolved(tmp_path: Any) -> None:
    """lxml, told to, would read the file; our reader refuses where the DTD begins."""
    secret = tmp_path / "secret"
    secret.write_text("TOP SECRET")
    document = HOSTILE["external entity"].replace(b"/etc/passwd", str(secret).encode())
    willing = etree.XMLParser(resolve_entities=True, load_dtd=True)
    assert b"TOP SECRET" in etree.tostring(etree.fromstring(document, willing))
    with pytest.raises(B2eError, match="a DTD is refused"):
        decode_reply(document)


@pytest.mark.parametrize(("change", "value"), [
    ("amount", "1000"), ("amount", "1,000.00"), ("seq_no", ""), ("seq_no", "x"), ("drCr", "X"),
    ("txnTime", "2026-03-12"),
    ("remark", "line\nline"), ("bad tag", "x"), ("Responses", "x")])
def test_what_cannot_be_written(change: str, value: str) -> None:
    with pytest.raises(B2eError):
        encode_reply(PAGE._replace(records=(RECORD | {change: value},)))


# --- the foreign oracle -----------------------------------------------------------------------------------------

_TEXTS = {"Password", "ECertPwd", "RetMsg", "remark", "en_name"}
_PATTERNS = {"PackageId": r"\d{17}", "RetCode": r"\d{4}", "amount": r"\d{1,15}\.\d{2}", "balance": r"-?\d{1,15}\.\d{2}",
             "opening": r"-?\d{1,15}\.\d{2}", "closing": r"-?\d{1,15}\.\d{2}", "drCr": "[CD]", "ccy": "[A-Z]{3}",
             "seq_no": r"\d{1,12}", "fromSeq": r"\d{1,12}", "seq": r"\d{1,12}", "txnTime": r"\d{14}", "ts": r"\d{14}",
             "date": r"\d{8}", "dateFrom": r"\d{8}", "dateTo": r"\d{8}", "bankCode": r"\d{3}"}
_PAGE = ("PageKey?", "opening?", "closing?")
_RECORD = ("seq_no", "txnTime", "ccy", "drCr", "amount", "balance", "remark?", "en_name?")
_BODIES = {  # written down once more, from protocols.md and gaps.md B-18: message -> asked, facts, record
    "SignOn": (("custId", "ts"), (), ("token",)),
    "TodayActivity": (("acctNo", "ccy", "fromSeq", "PageKey?"), ("PageKey?",), _RECORD),
    "AcctStatement": (("acctNo", "ccy", "dateFrom", "dateTo", "PageKey?"), _PAGE, _RECORD),
    "AcctActivity": (("acctNo", "ccy", "date", "seq", "PageKey?"), ("PageKey?",), (*_RECORD, "bankCode?")),
}
_HEAD_REQ = ("PackageId", "CBSAcctNo", "UserId", "Password?", "ECertName", "ECertPwd?", "Token?")
_HEAD_RES = ("PackageId", "RetCode", "RetMsg?")


def _element(name: str) -> str:
    tag, optional = name.rstrip("?"), ' minOccurs="0"' if name.endswith("?") else ""
    pattern = _PATTERNS.get(tag)
    rule = f'<xs:pattern value="{pattern}"/>' if pattern else '<xs:minLength value="1"/>'
    return (f'<xs:element name="{tag}"{optional}><xs:simpleType><xs:restriction base="xs:string">{rule}'
            "</xs:restriction></xs:simpleType></xs:element>")


def _sequence(names: tuple[str, ...], more: str = "") -> str:
    return f"<xs:complexType><xs:sequence>{''.join(map(_element, names))}{more}</xs:sequence></xs:complexType>"


def _list(tag: str, record: tuple[str, ...]) -> str:
    return (f'<xs:element name="{tag}"><xs:complexType><xs:sequence><xs:element name="Record" minOccurs="0" '
            f'maxOccurs="1000">{_sequence(record)}</xs:element></xs:sequence><xs:attribute name="noOfRecord" '
            'type="xs:nonNegativeInteger" use="required"/></xs:complexType></xs:element>')


def _schema(kind: str, head: tuple[str, ...]) -> etree.XMLSchema:
    bodies = "".join(
        f'<xs:element name="{name}{kind}">' + (
            _sequence((), _list("Requests", asked)) if kind == "REQ" else _sequence(facts, _list("Responses", record))
        ) + "</xs:element>" for name, (asked, facts, record) in _BODIES.items())
    return etree.XMLSchema(etree.fromstring(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="BOCHKE2B"><xs:complexType>'
        f'<xs:sequence><xs:element name="Head">{_sequence(head)}</xs:element><xs:element name="Tx"><xs:complexType>'
        f"<xs:choice>{bodies}</xs:choice></xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element>"
        "</xs:schema>"))


REQUESTS, REPLIES = _schema("REQ", _HEAD_REQ), _schema("RES", _HEAD_RES)


@given(requests())
@settings(max_examples=50)
def test_lxml_takes_our_requests_by_the_schema(request: Request) -> None:
    root = etree.fromstring(encode_request(request))
    assert REQUESTS.validate(root), REQUESTS.error_log
    assert {child.tag: child.text for child in root.find("Tx")[0][0][0]} == dict(request.asked)


@given(replies())
@settings(max_examples=50)
def test_lxml_takes_our_replies_by_the_schema(reply: Reply) -> None:
    root = etree.fromstring(encode_reply(reply))
    assert REPLIES.validate(root), REPLIES.error_log
    told = root.find("Tx")[0].find("Responses")
    assert told.get("noOfRecord") == str(len(reply.records))
    assert [{child.tag: child.text for child in record} for record in told] == [dict(one) for one in reply.records]


@given(replies(), st.booleans())
@settings(max_examples=50)
def test_we_read_what_lxml_writes(reply: Reply, pretty: bool) -> None:
    root = etree.Element("BOCHKE2B")
    head, tx = etree.SubElement(root, "Head"), etree.SubElement(root, "Tx")
    for tag, text in (("PackageId", reply.package_id), ("RetCode", reply.code), ("RetMsg", reply.text)):
        etree.SubElement(head, tag).text = text
    body = etree.SubElement(tx, f"{reply.name}RES")
    for tag, text in reply.facts.items():
        etree.SubElement(body, tag).text = text
    listed = etree.SubElement(body, "Responses", noOfRecord=str(len(reply.records)))
    for one in reply.records:
        record = etree.SubElement(listed, "Record")
        for tag, text in one.items():
            etree.SubElement(record, tag).text = text
    written = etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=pretty)
    assert decode_reply(written) == reply
