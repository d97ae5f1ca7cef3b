"""ICBC codec: bank-enterprise XML over HTTP with RSA signatures both ways (gaps.md B-21; design/protocols.md, ICBC).

Rules of the protocol, before any code (P: attested in public code; O: ours):

* A request is a POST to `PATH` with ``userID``, ``PackageID`` and ``SendTime`` (yyyyMMddHHmmssSSS, Hong Kong time) in
  the query string, and a form in GBK: ``Version``, ``TransCode``, ``BankCode``, ``GroupCIS``, ``ID``, ``PackageID``,
  ``Cert``, ``reqData`` (P). ``reqData`` is XML in GBK: ``CMS/eb/pub`` (who asks, and when) and ``CMS/eb/in`` (P).
* The header ``X-ICBC-Sign`` is the base64 of an RSA PKCS#1 v1.5 SHA-256 signature over the body as sent (O).
* Identifiers in URL, form and XML agree, or the request is refused; so is one whose time is off by more than the
  allowed skew, and a PackageID that was used before: a group never repeats one (P).
* An answer is ``reqData={base64 of GBK XML}&sign={base64 of the signature over that XML}``; its ``pub`` repeats the
  request's identifiers with ``RetCode`` (0: done) and ``RetMsg``, ``CMS/eb/out`` holds the rest. What is refused at the
  door is ``errorCode={code}``, unsigned: nothing can be taken from it.
* A list is paged by ``NextTag``: empty in the first request, then as the bank gave it; empty in the last answer (P).
* A record that cannot be read is told beside the others, which are good.
* Amounts are whole cents (P). Currencies are the bank's numbers (P). Elements not named here are kept as ``extra``.
* Refused in XML: a DTD and with it every entity but XML's own, attributes, comments, processing instructions,
  encodings other than GBK, an element given twice, and more than `MAX_NODES` elements or `MAX_DEPTH` levels.

The codec has no clock, socket or entropy: the caller gives the time, the package id and the keys. Whatever bytes come
in, the only exceptions that come out are `WireError` and its direct kinds.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple, Never
from urllib.parse import parse_qsl, urlencode
from xml.parsers.expat import ExpatError, ParserCreate

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from core.clock import epoch_ms, hkt
from core.wire.text import refused_in, shown

PATH: Final = "/servlet/ICBCCMPAPIReqServlet"
SIGN: Final = "x-icbc-sign"
VERSION: Final = "0.0.0.1"
OK: Final = "0"
MAX_BODY_BYTES: Final = 1_048_576
MAX_NODES: Final = 16_384
MAX_DEPTH: Final = 6
MAX_PAGE: Final = 500
"""Records in one answer."""

_PADDING, _DIGEST = padding.PKCS1v15(), hashes.SHA256()
_URL = ("userID", "PackageID", "SendTime")
_FORM = ("Version", "TransCode", "BankCode", "GroupCIS", "ID", "PackageID", "Cert", "reqData")
_IDENT = re.compile(r"[A-Za-z0-9_.-]{1,40}", re.ASCII)
_DIGITS = re.compile(r"\d{1,17}", re.ASCII)
_BALANCE = re.compile(r"-?\d{1,17}", re.ASCII)
_SERIAL = re.compile(r"\d{1,32}", re.ASCII)
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

CURRENCIES: Final[dict[str, str]] = {"HKD": "013", "USD": "014", "CNH": "001"}
"""Currency -> the bank's number; it does not tell offshore from onshore renminbi."""
_CCY = {number: ccy for ccy, number in CURRENCIES.items()}


class Trans(StrEnum):
    """What is asked."""

    TODAY = "QPD"  # details of the day, from a serial on
    HISTORY = "QHISD"  # details between two dates
    BALANCE = "QACCBAL"


ERRORS: Final[dict[str, str]] = {
    "B0001": "the request cannot be read",
    "B0002": "the signature is not good",
    "B0003": "identifiers in URL, form and XML do not agree",
    "B0004": "SendTime is too far from the bank's clock",
    "B0005": "this PackageID was used before",
    "B0006": "no such transaction",
    "B0007": "this certificate may not use this line",
    "B0008": "this NextTag is not ours",
    "B0009": "no such account",
    "B0010": "the bank is in maintenance",
    "B0011": "too many requests at once",
}
"""Codes of refusals (O): at the door as ``errorCode``, behind it as ``RetCode``."""


# --- messages ---------------------------------------------------------------------------------------------------


class Head(NamedTuple):
    """Who asks what, under which number, and when (epoch ms)."""

    trans: str
    cis: str
    bank_code: str
    user: str
    package: str
    sent_ms: int


class Query(NamedTuple):
    """What is asked about one account: from a serial on (`Trans.TODAY`), or days as yyyymmdd (`Trans.HISTORY`)."""

    account: str
    ccy: str
    begin_seq: str = ""
    end_seq: str = ""
    begin_date: str = ""
    end_date: str = ""
    next_tag: str = ""


class Request(NamedTuple):
    head: Head
    query: Query


class Record(NamedTuple):
    """One line of a statement; amounts and balance in whole cents, as digits, time to the second."""

    serial: str
    time_ms: int
    ccy: str
    credit: str
    debit: str
    balance: str
    remark: str = ""
    name: str = ""
    account: str = ""
    extra: tuple[tuple[str, str], ...] = ()


class Spoilt(NamedTuple):
    """A record that cannot be read: its serial ("" if not even that), why, and what the bank said. ``shape``: time in
    epoch ms, credit and debit in cents, as far as all three can be read."""

    serial: str
    reason: str
    said: str
    shape: tuple[int, int, int] | None = None


class Answer(NamedTuple):
    """What the bank says; ``balance`` only to `Trans.BALANCE`."""

    head: Head
    code: str = OK
    text: str = ""
    account: str = ""
    ccy: str = ""
    next_tag: str = ""
    records: tuple[Record, ...] = ()
    balance: str = ""
    spoilt: tuple[Spoilt, ...] = ()


class WireError(Exception):
    """What came in cannot be used; ``code`` is the refusal that a bank answers with."""

    code = "B0001"


class MalformedMessage(WireError):
    """Not a form, not the XML of this protocol, too long, or a value that is none of its kind."""


class BadSignature(WireError):
    """Signed by somebody else, or changed on the way."""

    code = "B0002"


class Disagreement(WireError):
    """Identifiers that should be the same are not."""

    code = "B0003"


class ClockSkew(WireError):
    """Sent at a time that the receiver's clock does not allow."""

    code = "B0004"


class Unauthorized(WireError):
    """A certificate that may not be used here."""

    code = "B0007"


class Refused(WireError):
    """The bank refused at its door; ``code`` is its own."""

    def __init__(self, code: str) -> None:
        super().__init__(f"{code} {ERRORS.get(code, 'unknown code')}")
        self.code = code


# --- requests ---------------------------------------------------------------------------------------------------


def target_of(head: Head) -> str:
    """Path and query string as they stand on the request line."""
    return f"{PATH}?{urlencode({'userID': head.user, 'PackageID': head.package, 'SendTime': _stamp(head.sent_ms)})}"


def encode_request(request: Request, key: RSAPrivateKey) -> tuple[str, dict[str, str], bytes]:
    """(target, headers, body) of a signed request."""
    head = request.head
    form = {"Version": VERSION, "TransCode": head.trans, "BankCode": head.bank_code, "GroupCIS": head.cis,
            "ID": head.user, "PackageID": head.package, "Cert": "", "reqData": request_xml(request)}
    body = urlencode(form).encode()
    headers = {"content-type": "application/x-www-form-urlencoded; charset=GBK", SIGN: _signed(body, key)}
    return target_of(head), headers, body


def parse_request(
    query_string: str, headers: Mapping[str, str], body: bytes, key_of: Callable[[str], RSAPublicKey | None],
    *, now_ms: int, max_skew_ms: int,
) -> Request:
    """A request whose signature, time and identifiers are good. Whether its PackageID is new the receiver knows."""
    url = _fields(query_string, _URL, "the URL")
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"more than {MAX_BODY_BYTES} bytes")
    key = key_of(url["userID"])
    if key is None:
        raise Unauthorized(f"userID {url['userID'][:40]!r} has no certificate here")
    _verify(body, headers.get(SIGN, "").encode("latin-1", "replace"), key)
    form = _fields(body.decode("latin-1"), _FORM, "the form")
    if form["Version"] != VERSION:
        raise MalformedMessage(f"version {form['Version'][:16]!r}")
    request = _read_request(form["reqData"].encode("latin-1"))
    _agree(url, form, request.head)
    if abs(now_ms - request.head.sent_ms) > max_skew_ms:
        raise ClockSkew(f"sent at {_stamp(request.head.sent_ms)}, here it is {_stamp(now_ms)}")
    return request


def _fields(text: str, names: tuple[str, ...], where: str) -> dict[str, str]:
    """The pairs of a query string or form, each name once; percent-encoded bytes as latin-1 characters."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, encoding="latin-1",
                          max_num_fields=len(names))
    except ValueError as error:
        raise MalformedMessage(f"{where}: {error}") from None
    found = dict(pairs)
    if len(found) != len(pairs) or tuple(sorted(found)) != tuple(sorted(names)):
        raise MalformedMessage(f"{where} has not exactly {', '.join(names)}")
    return found


def _agree(url: Mapping[str, str], form: Mapping[str, str], head: Head) -> None:
    same = (("userID", url["userID"], form["ID"], head.user),
            ("PackageID", url["PackageID"], form["PackageID"], head.package),
            ("SendTime", url["SendTime"], url["SendTime"], _stamp(head.sent_ms)),
            ("TransCode", form["TransCode"], form["TransCode"], head.trans),
            ("BankCode", form["BankCode"], form["BankCode"], head.bank_code),
            ("GroupCIS", form["GroupCIS"], form["GroupCIS"], head.cis))
    for name, outer, middle, inner in same:
        if not outer == middle == inner:
            raise Disagreement(f"{name}: {outer[:40]!r}, {middle[:40]!r} and {inner[:40]!r}")


def request_xml(request: Request) -> bytes:
    """``reqData``: the XML in GBK."""
    query = request.query
    asked = [("AccNo", query.account), ("CurrType", _number(query.ccy)), ("BeginSeq", query.begin_seq),
             ("EndSeq", query.end_seq), ("BeginDate", query.begin_date), ("EndDate", query.end_date),
             ("NextTag", query.next_tag)]
    return _document(_pub(request.head), "in", [(tag, text) for tag, text in asked if text])


def _read_request(data: bytes) -> Request:
    pub, asked = _parts(data, "in")
    head = _head(pub)
    query = Query(asked.ident("AccNo"), asked.currency(), asked.optional("BeginSeq", _SERIAL),
                  asked.optional("EndSeq", _SERIAL), asked.day("BeginDate"), asked.day("EndDate"),
                  asked.text("NextTag", 60))
    return Request(head, query)


# --- answers ----------------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, key: RSAPrivateKey) -> bytes:
    """The body of a signed answer."""
    xml = answer_xml(answer)
    return b"reqData=" + base64.b64encode(xml) + b"&sign=" + _signed(xml, key).encode()


def encode_refusal(code: str) -> bytes:
    """The body of a refusal at the door."""
    return f"errorCode={code}".encode()


def opened_answer(body: bytes) -> tuple[bytes, bytes]:
    """(XML, base64 of its signature) of an answer's body, neither verified nor read; `Refused` if it is a refusal."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"more than {MAX_BODY_BYTES} bytes")
    if body.startswith(b"errorCode="):
        raise Refused(body[10:50].decode("latin-1"))
    first, _, second = body.partition(b"&")
    if not first.startswith(b"reqData=") or not second.startswith(b"sign="):
        raise MalformedMessage("an answer is reqData and sign")
    return _from_base64(first[8:], "reqData"), second[5:]


def parse_answer(body: bytes, key: RSAPublicKey, request: Request) -> Answer:
    """The answer to this request, if the bank's signature is good and its identifiers are the request's."""
    xml, signature = opened_answer(body)
    _verify(xml, signature, key)
    answer = read_answer(xml)
    if answer.head != request.head:
        raise Disagreement("an answer to another request")
    return answer


def answer_xml(answer: Answer) -> bytes:
    """The XML of an answer in GBK."""
    if len(answer.records) > MAX_PAGE:
        raise MalformedMessage(f"{len(answer.records)} records are more than {MAX_PAGE}")
    pub = [*_pub(answer.head), ("RetCode", answer.code), ("RetMsg", answer.text)]
    fields = [("AccNo", answer.account), ("CurrType", _number(answer.ccy)), ("NextTag", answer.next_tag),
              ("Balance", answer.balance), ("TotalNum", str(len(answer.records)) if answer.records else "")]
    return _document(pub, "out", [(tag, text) for tag, text in fields if text], answer.records)


def read_answer(xml: bytes) -> Answer:
    """What an answer says; whose it is its signature tells."""
    pub, out = _parts(xml, "out")
    told = [_read_record(node) for node in out.node.children if node.tag == "rd"]
    if len(told) > MAX_PAGE:
        raise MalformedMessage(f"{len(told)} records are more than {MAX_PAGE}")
    if out.optional("TotalNum", _DIGITS) not in ("", str(len(told))):
        raise MalformedMessage(f"TotalNum is not {len(told)}")
    return Answer(_head(pub), pub.required("RetCode", _IDENT), pub.text("RetMsg", 200), out.optional("AccNo", _IDENT),
                  out.currency() if out.has("CurrType") else "", out.text("NextTag", 60),
                  tuple(one for one in told if isinstance(one, Record)), out.optional("Balance", _BALANCE),
                  tuple(one for one in told if isinstance(one, Spoilt)))


_RECORD: Final = ("Drcrf", "SerialNo", "Date", "Time", "CurrType", "CreditAmount", "DebitAmount", "Balance", "Summary",
                  "RecipName", "RecipAccNo")
_CREDIT, _DEBIT = "2", "1"


def _record_fields(record: Record) -> Iterator[tuple[str, str]]:
    stamp = _stamp(record.time_ms)
    yield "Drcrf", _CREDIT if int(record.credit or 0) else _DEBIT
    yield from (("SerialNo", record.serial), ("Date", stamp[:8]), ("Time", stamp[8:14]),
                ("CurrType", _number(record.ccy)), ("CreditAmount", record.credit), ("DebitAmount", record.debit),
                ("Balance", record.balance))
    yield from ((tag, text) for tag, text in (
        ("Summary", record.remark), ("RecipName", record.name), ("RecipAccNo", record.account), *record.extra) if text)


def _read_record(node: _Node) -> Record | Spoilt:
    try:
        return _record(node)
    except MalformedMessage as wrong:
        serials = [child.text for child in node.children if child.tag == "SerialNo"]
        known = len(serials) == 1 and _SERIAL.fullmatch(serials[0]) is not None
        return Spoilt(serials[0] if known else "", str(wrong), shown([[one.tag, one.text] for one in node.children]),
                      _shape(node))


def _shape(node: _Node) -> tuple[int, int, int] | None:
    """Time and amounts of a record of which something else cannot be read."""
    tags = ("Date", "Time", "CreditAmount", "DebitAmount")
    texts = [child.text for tag in tags for child in node.children if child.tag == tag]
    if len(texts) != len(tags) or not all(_DIGITS.fullmatch(text) for text in texts):
        return None
    try:
        return _moment(f"{texts[0]}{texts[1]}000"), int(texts[2]), int(texts[3])
    except MalformedMessage:
        return None


def _record(node: _Node) -> Record:
    read = _Reader(node)
    credit, debit = read.required("CreditAmount", _DIGITS), read.required("DebitAmount", _DIGITS)
    side = read.required("Drcrf", _IDENT)
    if (int(credit) > 0) == (int(debit) > 0) or side != (_CREDIT if int(credit) else _DEBIT):
        raise MalformedMessage(f"a record of {credit} credit and {debit} debit with Drcrf {side}")
    time_ms = _moment(read.required("Date", _DIGITS) + read.required("Time", _DIGITS) + "000")
    extra = tuple((child.tag, child.text) for child in node.children if child.tag not in _RECORD)
    return Record(read.required("SerialNo", _SERIAL), time_ms, read.currency(), credit, debit,
                  read.required("Balance", _BALANCE), read.free("Summary", 500), read.free("RecipName", 140),
                  read.free("RecipAccNo", 64), extra)


# --- signing ----------------------------------------------------------------------------------------------------


def _signed(data: bytes, key: RSAPrivateKey) -> str:
    return base64.b64encode(key.sign(data, _PADDING, _DIGEST)).decode()


def _verify(data: bytes, signature: bytes, key: RSAPublicKey) -> None:
    try:
        key.verify(_from_base64(signature, "the signature"), data, _PADDING, _DIGEST)
    except (InvalidSignature, MalformedMessage):
        raise BadSignature("the signature is not good for these bytes") from None


def _from_base64(text: bytes, what: str) -> bytes:
    if _BASE64.fullmatch(text) is None:
        raise MalformedMessage(f"{what} is not base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise MalformedMessage(f"{what}: {error}") from None


# --- XML --------------------------------------------------------------------------------------------------------


def _document(
    pub: list[tuple[str, str]], part: str, fields: list[tuple[str, str]], records: tuple[Record, ...] = ()
) -> bytes:
    parts = ['<?xml version="1.0" encoding="GBK"?><CMS><eb><pub>', *(_element(*field) for field in pub), "</pub>",
             f"<{part}>", *(_element(*field) for field in fields)]
    for record in records:
        parts += ["<rd>", *(_element(*field) for field in _record_fields(record)), "</rd>"]
    parts.append(f"</{part}></eb></CMS>")
    return "".join(parts).encode("gbk", "xmlcharrefreplace")  # a name may have characters that GBK has not


def _element(tag: str, text: str) -> str:
    if _NOT_XML.search(text) or _TAG.fullmatch(tag) is None:
        raise MalformedMessage(f"{tag}: not a text of XML")
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    return f"<{tag}>{text}</{tag}>"


def _pub(head: Head) -> list[tuple[str, str]]:
    stamp = _stamp(head.sent_ms)
    return [("TransCode", head.trans), ("CIS", head.cis), ("BankCode", head.bank_code), ("ID", head.user),
            ("TranDate", stamp[:8]), ("TranTime", stamp[8:] + "000"), ("fSeqno", head.package)]


def _head(pub: _Reader) -> Head:
    at = pub.required("TranDate", _DIGITS) + pub.required("TranTime", _DIGITS)
    if len(at) != 20 or not at.endswith("000"):
        raise MalformedMessage(f"{at} is no time to the millisecond")
    return Head(pub.ident("TransCode"), pub.ident("CIS"), pub.ident("BankCode"), pub.ident("ID"), pub.ident("fSeqno"),
                _moment(at[:17]))


class _Node:
    """An element while it is read: texts until it is closed, then text or children."""

    __slots__ = ("children", "tag", "texts")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.texts: list[str] = []
        self.children: list[_Node] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)


class _Reader:
    """The fields of one element."""

    def __init__(self, node: _Node, lists: tuple[str, ...] = ()) -> None:
        self.node = node
        found: dict[str, str] = {}
        for child in node.children:
            if child.tag in lists:
                continue
            if child.tag in found or child.children:
                raise MalformedMessage(f"<{child.tag}> is given twice, or is no field")
            found[child.tag] = child.text
        self._found = found

    def has(self, tag: str) -> bool:
        return bool(self._found.get(tag))

    def required(self, tag: str, kind: re.Pattern[str]) -> str:
        if not self.has(tag):
            raise MalformedMessage(f"<{tag}> is missing")
        return self.optional(tag, kind)

    def optional(self, tag: str, kind: re.Pattern[str]) -> str:
        text = self._found.get(tag, "")
        if text and kind.fullmatch(text) is None:
            raise MalformedMessage(f"<{tag}> cannot be {text[:40]!r}")
        return text

    def ident(self, tag: str) -> str:
        return self.required(tag, _IDENT)

    def text(self, tag: str, limit: int) -> str:
        text = self._found.get(tag, "")
        if len(text) > limit:
            raise MalformedMessage(f"<{tag}> has more than {limit} characters")
        return text

    def free(self, tag: str, limit: int) -> str:
        """A text that people wrote."""
        text = self.text(tag, limit)
        if refused := refused_in(text):
            raise MalformedMessage(f"<{tag}> has the character {refused}")
        return text

    def day(self, tag: str) -> str:
        day = self.optional(tag, _DIGITS)
        if day:
            _moment(day + "000000000")
        return day

    def currency(self) -> str:
        number = self.required("CurrType", _DIGITS)
        if number not in _CCY:
            raise MalformedMessage(f"currency {number[:16]} is not one of ours")
        return _CCY[number]


class _Tree:
    """Builds a tree from the events of expat, within the limits, and refuses what the protocol does not have."""

    def __init__(self) -> None:
        self._open: list[_Node] = []
        self.root: _Node | None = None
        self._nodes = 0
        self._declared = False
        # Given text in UTF-8 and told so, expat cannot be led to another encoding by the document.
        self._parser = parser = ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = _refuse
        parser.ProcessingInstructionHandler = _refuse
        parser.CommentHandler = _refuse

    def read(self, data: bytes) -> _Node:
        try:
            self._parser.Parse(data.decode("gbk").encode(), True)
        except (ExpatError, UnicodeDecodeError) as error:
            raise MalformedMessage(f"not XML in GBK: {error}") from None
        if self.root is None or not self._declared:
            raise MalformedMessage("no element, or no declaration of GBK")
        return self.root

    def _declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        if version != "1.0" or (encoding or "").upper() != "GBK":
            raise MalformedMessage(f"XML {version} in {encoding} is not XML 1.0 in GBK")
        self._declared = True

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(self._open) >= MAX_DEPTH:
            raise MalformedMessage(f"more than {MAX_NODES} elements or {MAX_DEPTH} levels")
        if attributes or _TAG.fullmatch(tag) is None:
            raise MalformedMessage(f"<{tag[:64]}> has attributes, or a name that is none of ours")
        node = _Node(tag)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def _end(self, _tag: str) -> None:
        node = self._open.pop()
        if node.children:
            if node.text.strip():
                raise MalformedMessage(f"<{node.tag}> has text beside elements")
            node.texts.clear()

    def _characters(self, text: str) -> None:
        self._open[-1].texts.append(text)


def _refuse(*_: object) -> Never:
    raise MalformedMessage("a DTD, a comment or a processing instruction")


def _parts(data: bytes, part: str) -> tuple[_Reader, _Reader]:
    """``CMS/eb/pub`` and ``CMS/eb/{part}``."""
    if len(data) > MAX_BODY_BYTES:
        raise MalformedMessage(f"more than {MAX_BODY_BYTES} bytes")
    cms = _Tree().read(data)
    if cms.tag != "CMS" or [node.tag for node in cms.children] != ["eb"]:
        raise MalformedMessage("not a CMS/eb")
    found = cms.children[0].children
    if [node.tag for node in found] != ["pub", part]:
        raise MalformedMessage(f"eb has not pub and {part}")
    return _Reader(found[0]), _Reader(found[1], ("rd",) if part == "out" else ())


# --- values -----------------------------------------------------------------------------------------------------


def _number(ccy: str) -> str:
    if ccy and ccy not in CURRENCIES:
        raise MalformedMessage(f"currency {ccy!r} has no number at the bank")
    return CURRENCIES.get(ccy, "")


def _stamp(ms: int) -> str:
    """yyyyMMddHHmmssSSS in Hong Kong."""
    return hkt(ms).strftime("%Y%m%d%H%M%S") + f"{ms % 1000:03d}"


def _moment(stamp: str) -> int:
    """Epoch ms of yyyyMMddHHmmssSSS."""
    if len(stamp) != 17 or stamp < "19700102":
        raise MalformedMessage(f"{stamp[:40]} is no moment")
    try:
        at = datetime(int(stamp[:4]), int(stamp[4:6]), int(stamp[6:8]), int(stamp[8:10]), int(stamp[10:12]),
                      int(stamp[12:14]))
        return epoch_ms(at) + int(stamp[14:])
    except (ValueError, OverflowError) as error:
        raise MalformedMessage(f"{stamp}: {error}") from None
