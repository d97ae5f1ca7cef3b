"""BOCHK B2E codec: one XML document per request and reply (protocols.md, BOCHK; fields of gaps.md B-18).

    <BOCHKE2B><Head>…</Head><Tx><TodayActivityREQ><Requests noOfRecord="1"><Record>…</Record></Requests>
    </TodayActivityREQ></Tx></BOCHKE2B>

* The envelope is the bank's (`Head`, `Tx`, ``…REQ``/``…RES``, ``noOfRecord``, `Record`); what stands in it is assumed.
  A request has one record; a reply has any number, and before them the facts of the whole answer (`PageKey`, balances).
* `PackageId` names a request for ever: 14 digits of Hong Kong time and 3 of a counter; a reply repeats it.
* Elements that the tables do not name are kept with their head or record and written again after its known ones.
* A record of a reply that cannot be read is told beside the others, which are good.
* Refused: a DTD and with it every entity but the five of XML, attributes other than ``noOfRecord`` on its element,
  comments, processing instructions, encodings other than UTF-8, text between elements, a field given twice, a record
  count that is not that of the records, and more than the limits below.

The parser is expat of the standard library with its declaration handlers set: it refuses a DTD where it begins, before
anything of it is read or expanded. defusedxml does the same on the same expat, and lxml is the oracle of the tests, so
neither is needed here. Whatever bytes come in, the only exception that comes out is `B2eError`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Never
from xml.parsers.expat import ExpatError, ParserCreate

from core.wire.text import REFUSED as _REFUSED_SIGNS
from core.wire.text import shown

MAX_DOCUMENT_BYTES: Final = 1_048_576
MAX_DEPTH: Final = 8
MAX_ELEMENTS: Final = 16_384
MAX_RECORDS: Final = 1_000

SIGN_ON: Final = "SignOn"
TODAY: Final = "TodayActivity"
STATEMENT: Final = "AcctStatement"
ACTIVITY: Final = "AcctActivity"

OK, BAD_TOKEN, NO_DATA, DUPLICATE_PACKAGE, REFUSED, SYSTEM = "0000", "0001", "0002", "0003", "0004", "9999"
RET_CODES: Final[dict[str, str]] = {
    OK: "ok",
    BAD_TOKEN: "bad token",
    NO_DATA: "no data",
    DUPLICATE_PACKAGE: "PackageId was used before",  # ours: the documents name the fault, not its code
    REFUSED: "the request cannot be read",  # ours
    SYSTEM: "system error",
}
"""What a reply can say (gaps.md B-18)."""


class B2eError(Exception):
    """Bytes that are no message of this protocol, or a message that cannot be written in it."""


class Field(NamedTuple):
    """An element with text: its name, what the text may be, whether it must be there and not be empty."""

    tag: str
    form: re.Pattern[str]
    required: bool = True


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


_CODE, _TEXT = _form(r"[A-Za-z0-9_.:/-]{1,64}"), re.compile(f"[^{_REFUSED_SIGNS}]{{1,200}}")
_ACCOUNT, _CCY, _DAY, _MOMENT = _form(r"\d{8,20}"), _form("[A-Z]{3}"), _form(r"\d{8}"), _form(r"\d{14}")
_AMOUNT, _BALANCE, _SEQ = _form(r"\d{1,15}\.\d{2}"), _form(r"-?\d{1,15}\.\d{2}"), _form(r"\d{1,12}")
_PACKAGE = _form(r"\d{17}")
_OWN = (Field("acctNo", _ACCOUNT), Field("ccy", _CCY))
_PAGE_KEY = Field("PageKey", _CODE, False)

REQUEST_HEAD: Final = (
    Field("PackageId", _PACKAGE), Field("CBSAcctNo", _ACCOUNT), Field("UserId", _CODE),
    Field("Password", _TEXT, False), Field("ECertName", _CODE), Field("ECertPwd", _TEXT, False),
    Field("Token", _CODE, False))
"""Password and certificate's password go with SignOn only, the token with everything else."""
REPLY_HEAD: Final = (Field("PackageId", _PACKAGE), Field("RetCode", _form(r"\d{4}")), Field("RetMsg", _TEXT, False))

_MOVEMENT = (
    Field("seq_no", _SEQ), Field("txnTime", _MOMENT), Field("ccy", _CCY), Field("drCr", _form("[CD]")),
    Field("amount", _AMOUNT), Field("balance", _BALANCE), Field("remark", _TEXT, False), Field("en_name", _TEXT, False))


class Shape(NamedTuple):
    """One message: the request's record, the facts of the reply, the reply's records."""

    asked: tuple[Field, ...]
    facts: tuple[Field, ...]
    record: tuple[Field, ...]


MESSAGES: Final[dict[str, Shape]] = {
    SIGN_ON: Shape((Field("custId", _CODE), Field("ts", _MOMENT)), (), (Field("token", _CODE),)),
    TODAY: Shape((*_OWN, Field("fromSeq", _SEQ), _PAGE_KEY), (_PAGE_KEY,), _MOVEMENT),
    STATEMENT: Shape(
        (*_OWN, Field("dateFrom", _DAY), Field("dateTo", _DAY), _PAGE_KEY),
        (_PAGE_KEY, Field("opening", _BALANCE, False), Field("closing", _BALANCE, False)), _MOVEMENT),
    ACTIVITY: Shape((*_OWN, Field("date", _DAY), Field("seq", _SEQ), _PAGE_KEY), (_PAGE_KEY,),
                    (*_MOVEMENT, Field("bankCode", _form(r"\d{3}"), False))),
}
"""Every message, in the order in which its fields are written; they are read in any order."""


class Request(NamedTuple):
    """What the broker asks: ``head`` without the package id, ``asked`` the fields of its one record."""

    name: str
    package_id: str
    head: Mapping[str, str]
    asked: Mapping[str, str]


class Spoilt(NamedTuple):
    """A record that cannot be read: what could be of it, why, and what the bank said."""

    record: Mapping[str, str]
    reason: str
    said: str


class Reply(NamedTuple):
    """What the bank answers. Records and facts hold text by element; an absent optional field is absent."""

    name: str
    package_id: str
    code: str
    text: str = ""
    facts: Mapping[str, str] = {}
    records: tuple[Mapping[str, str], ...] = ()
    spoilt: tuple[Spoilt, ...] = ()


def stripped_seq(seq_no: str) -> str:
    """A seq_no without leading zeros: the bank writes it padded or not; "" for all zeros."""
    return seq_no.lstrip("0")


# --- writing ----------------------------------------------------------------------------------------------------

_LISTS: Final = ("Requests", "Responses")
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_TAG = _form(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def encode_request(request: Request) -> bytes:
    """The document of a request; `B2eError` for a field that is missing or not of its form."""
    shape = _shape(request.name)
    head = _written(REQUEST_HEAD, {"PackageId": request.package_id, **request.head})
    return _document(head, request.name, "REQ", "", "Requests", (_written(shape.asked, request.asked),))


def encode_reply(reply: Reply) -> bytes:
    """The document of a reply; `B2eError` for a field that is missing or not of its form."""
    shape = _shape(reply.name)
    head = _written(REPLY_HEAD, {"PackageId": reply.package_id, "RetCode": reply.code, "RetMsg": reply.text})
    records = tuple(_written(shape.record, record) for record in reply.records)
    return _document(head, reply.name, "RES", _written(shape.facts, reply.facts), "Responses", records)


def _document(head: str, name: str, kind: str, facts: str, list_tag: str, records: Sequence[str]) -> bytes:
    if len(records) > MAX_RECORDS:
        raise B2eError(f"{len(records)} records are more than {MAX_RECORDS}")
    listed = "".join(f"<Record>{record}</Record>" for record in records)
    body = f'{facts}<{list_tag} noOfRecord="{len(records)}">{listed}</{list_tag}>'
    document = (f"{_DECLARATION}<BOCHKE2B><Head>{head}</Head>"
                f"<Tx><{name}{kind}>{body}</{name}{kind}></Tx></BOCHKE2B>").encode()
    if len(document) > MAX_DOCUMENT_BYTES:
        raise B2eError(f"{len(document)} bytes are more than {MAX_DOCUMENT_BYTES}")
    return document


def _shape(name: str) -> Shape:
    shape = MESSAGES.get(name)
    if shape is None:
        raise B2eError(f"there is no message {name!r}")
    return shape


def _written(fields: tuple[Field, ...], values: Mapping[str, str]) -> str:
    _check(fields, values)
    known = {field.tag: None for field in fields}
    order = [tag for tag in (*known, *(tag for tag in values if tag not in known)) if values.get(tag)]
    return "".join(f"<{tag}>{_escape(tag, values[tag])}</{tag}>" for tag in order)


def _escape(tag: str, text: str) -> str:
    if _TAG.fullmatch(tag) is None or tag in _LISTS or _NOT_XML.search(text):
        raise B2eError(f"{tag!r} cannot be an element, or its text is no text of XML")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _check(fields: tuple[Field, ...], values: Mapping[str, str]) -> None:
    """Every field there is and of its form. An empty element is an absent one."""
    for field in fields:
        text = values.get(field.tag, "")
        if not text and not field.required:
            continue
        if field.form.fullmatch(text) is None:
            raise B2eError(f"{field.tag} is missing" if not text else f"{field.tag} cannot be {text[:64]!r}")


# --- reading ----------------------------------------------------------------------------------------------------


def decode_request(document: bytes) -> Request:
    """The request in a document."""
    head, name, body = _parts(document, "REQ")
    fields = _fields(head)
    _check(REQUEST_HEAD, fields)
    (listed,) = _only(body, ("Requests",))
    records = _records(listed)
    if len(records) != 1:
        raise B2eError(f"a request has one record, not {len(records)}")
    asked = _fields(records[0])
    _check(_shape(name).asked, asked)
    package_id = fields.pop("PackageId")
    return Request(name, package_id, fields, asked)


def decode_reply(document: bytes) -> Reply:
    """The reply in a document."""
    head, name, body = _parts(document, "RES")
    fields, shape = _fields(head), _shape(name)
    _check(REPLY_HEAD, fields)
    lists = [child for child in body.children if child.tag == "Responses"]
    if len(lists) != 1:
        raise B2eError(f"<{body.tag}> has {len(lists)} lists of responses")
    facts = _fields(_Node(body.tag, [child for child in body.children if child is not lists[0]]))
    _check(shape.facts, facts)
    read = [_record(shape.record, node) for node in _records(lists[0])]
    return Reply(name, fields["PackageId"], fields["RetCode"], fields.get("RetMsg", ""), facts,
                 tuple(record for record in read if not isinstance(record, Spoilt)),
                 tuple(record for record in read if isinstance(record, Spoilt)))


def _record(form: tuple[Field, ...], node: _Node) -> Mapping[str, str] | Spoilt:
    record: Mapping[str, str] = {}
    try:
        record = _fields(node)
        _check(form, record)
    except B2eError as wrong:
        return Spoilt(record, str(wrong), shown([[child.tag, child.text] for child in node.children]))
    return record


def _parts(document: bytes, kind: str) -> tuple[_Node, str, _Node]:
    root = _Tree().read(document)
    if root.tag != "BOCHKE2B":
        raise B2eError(f"<{root.tag}> is not <BOCHKE2B>")
    head, tx = _only(root, ("Head", "Tx"))
    if len(tx.children) != 1 or not tx.children[0].tag.endswith(kind):
        raise B2eError(f"<Tx> holds {[child.tag for child in tx.children][:4]}, not one …{kind}")
    name = tx.children[0].tag.removesuffix(kind)
    _shape(name)
    return head, name, tx.children[0]


def _only(node: _Node, tags: tuple[str, ...]) -> list[_Node]:
    if tuple(child.tag for child in node.children) != tags:
        raise B2eError(f"<{node.tag}> holds {[child.tag for child in node.children][:4]}, not {list(tags)}")
    return node.children


def _records(listed: _Node) -> list[_Node]:
    if listed.count is None or listed.count != len(listed.children):
        raise B2eError(f"noOfRecord is {listed.count}, there are {len(listed.children)}")
    if len(listed.children) > MAX_RECORDS or any(child.tag != "Record" for child in listed.children):
        raise B2eError(f"<{listed.tag}> holds at most {MAX_RECORDS} <Record> and nothing else")
    return listed.children


def _fields(node: _Node) -> dict[str, str]:
    found: dict[str, str] = {}
    if node.text.strip(" \t\r\n"):
        raise B2eError(f"<{node.tag}> has a text, not elements")
    for child in node.children:
        if child.children or child.count is not None:
            raise B2eError(f"<{child.tag}> in <{node.tag}> has elements, not a text")
        if child.tag in found:
            raise B2eError(f"<{child.tag}> stands twice in <{node.tag}>")
        found[child.tag] = child.text
    return {tag: text for tag, text in found.items() if text}


class _Node:
    """An element: its text, or its children; ``count`` is its noOfRecord."""

    __slots__ = ("children", "count", "tag", "texts")

    def __init__(self, tag: str, children: list[_Node] | None = None, count: int | None = None) -> None:
        self.tag, self.count = tag, count
        self.children: list[_Node] = children or []
        self.texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)


class _Tree:
    """Builds a tree from the events of expat, within the limits, and refuses what the protocol does not have."""

    __slots__ = ("_count", "_open", "_parser", "_root")

    def __init__(self) -> None:
        self._open: list[_Node] = []
        self._root: _Node | None = None
        self._count = 0
        self._parser = parser = ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = _Refusing("a DTD")
        parser.ProcessingInstructionHandler = _Refusing("a processing instruction")
        parser.CommentHandler = _Refusing("a comment")

    def read(self, document: bytes) -> _Node:
        if len(document) > MAX_DOCUMENT_BYTES:
            raise B2eError(f"{len(document)} bytes are more than {MAX_DOCUMENT_BYTES}")
        if b"\0" in document:  # no XML in UTF-8 has one, all in UTF-16 has, and expat takes it whatever it is told
            raise B2eError("not XML in UTF-8")
        try:
            self._parser.Parse(document, True)
        except ExpatError as error:
            raise B2eError(f"not XML: {error}") from None
        if self._root is None:
            raise B2eError("no element")
        return self._root

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if version != "1.0" or (encoding or "utf-8").lower() != "utf-8" or standalone == 0:
            raise B2eError(f"XML {version} in {encoding} is not XML 1.0 in UTF-8")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._open) >= MAX_DEPTH:
            raise B2eError(f"more than {MAX_ELEMENTS} elements or {MAX_DEPTH} levels")
        if _TAG.fullmatch(tag) is None:
            raise B2eError(f"<{tag[:64]}> is no name of ours")
        node = _Node(tag, count=_count_of(tag, attributes))
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node
        self._open.append(node)

    def _end(self, _tag: str) -> None:
        node = self._open.pop()
        if node.children or node.count is not None:
            if node.text.strip(" \t\r\n"):
                raise B2eError(f"<{node.tag}> has text beside elements")
            node.texts.clear()

    def _characters(self, text: str) -> None:
        self._open[-1].texts.append(text)


def _count_of(tag: str, attributes: dict[str, str]) -> int | None:
    """noOfRecord, which lists have and nothing else."""
    if tag not in _LISTS:
        if attributes:
            raise B2eError(f"<{tag}> has attributes")
        return None
    written = attributes.get("noOfRecord", "")
    if len(attributes) != 1 or not (written.isascii() and written.isdigit()) or len(written) > 6:
        raise B2eError(f"<{tag}> has the attributes {sorted(attributes)[:4]}, not noOfRecord with a number")
    return int(written)


class _Refusing:
    """A handler of expat for what is not allowed to be there."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, *_: object) -> Never:
        raise B2eError(f"{self._what} is refused")
