"""CMBC flavour: XML in UTF-8 (gaps.md B-22, design/protocols.md; names in the manner of JR/T 0046, O where ours).

* ``<MsgText><MsgHdr>…</MsgHdr><MsgBody>…</MsgBody></MsgText>``; an absent optional field has no element.
* Elements that the tables do not name are kept with their record and written again after its known ones.
* Refused: a DTD and with it every entity but the five of XML, attributes and so namespaces, comments, processing
  instructions, encodings other than UTF-8, text between elements, a field given twice, and more than `MAX_DEPTH`
  levels or `MAX_NODES` elements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Never, cast
from xml.parsers.expat import ExpatError, ParserCreate

from core.wire.socket.fields import Kind, absent, read_value, write_value
from core.wire.socket.frames import FrameType, MalformedMessage
from core.wire.socket.layout import Flavour, build_message
from core.wire.socket.messages import (
    MAX_ITEMS,
    Answer,
    BankWithdrawal,
    Body,
    DayList,
    DepositPush,
    DepositRequest,
    Header,
    Heartbeat,
    ListItem,
    ListRequest,
    Message,
    Query,
    QueryAnswer,
    ReconciliationItem,
    ReconciliationList,
    ReconciliationRequest,
    ReconciliationTotal,
    Record,
    ReversalRequest,
    SignNotice,
    SignOff,
    SignOn,
    TransferAnswer,
    TransferResult,
    Unknown,
    WithdrawalRequest,
    check_message,
)

MAX_DEPTH: Final = 8
MAX_NODES: Final = 2_048
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Element(NamedTuple):
    """A field: attribute, kind, element name, longest text in characters."""

    name: str
    kind: Kind
    tag: str
    limit: int
    required: bool = True


class Group(NamedTuple):
    """Entries of one record, each an element ``item`` within one element ``tag``, at most ``limit``."""

    name: str
    tag: str
    item: str
    record: type
    limit: int = MAX_ITEMS


_REF = Element("transfer_ref", Kind.CODE, "OrgRefNo", 32)
_PUSH_SEQ = Element("push_seq", Kind.NUMBER, "PushSeq", 16)
_RESULT = Element("code", Kind.RESULT, "RetCode", 4)
_NAME = Element("name", Kind.TEXT, "CustName", 60)
_CARD = Element("card_no", Kind.CODE, "CardNo", 32)
_CCY = Element("ccy", Kind.CURRENCY, "Ccy", 3)
_AMOUNT = Element("amount", Kind.AMOUNT, "TrfAmt", 18)
_MARKET = Element("market", Kind.CODE, "Market", 4)
_ACCOUNT = Element("account", Kind.CODE, "ScAcct", 20, required=False)
_CERT_TYPE = Element("cert_type", Kind.CODE, "CertType", 2, required=False)
_CERT_NO = Element("cert_no", Kind.CODE, "CertId", 30, required=False)
_TEXT = Element("text", Kind.TEXT, "RetMsg", 60, required=False)
_SERIAL = Element("bank_serial", Kind.CODE, "BkSerial", 32, required=False)
_DAY = Element("business_date", Kind.DATE, "BusiDate", 8)
_REASON = Element("reason", Kind.TEXT, "Reason", 60, required=False)
_CUSTOMER = (_ACCOUNT, _CERT_TYPE, _CERT_NO)
_MONEY = (_NAME, _CARD, _CCY, _AMOUNT, _MARKET)

FIELDS: Final[dict[type, tuple[Element | Group, ...]]] = {
    Header: (
        Element("version", Kind.CODE, "Ver", 4),
        Element("system_type", Kind.CODE, "SysType", 1),
        Element("instruction", Kind.CODE, "InstrCd", 8),
        Element("initiator", Kind.PARTY, "TradSrc", 1),
        Element("sender", Kind.CODE, "Sender", 12),
        Element("receiver", Kind.CODE, "Recver", 12),
        Element("date", Kind.DATE, "Date", 8),
        Element("time", Kind.TIME, "Time", 6),
        Element("ref", Kind.CODE, "Ref", 32),
        Element("related_ref", Kind.CODE, "RltdRef", 32, required=False),
        Element("last_fragment", Kind.FLAG, "LstFrag", 1),
    ),
    Heartbeat: (),
    SignOn: (_DAY, Element("last_push_seq", Kind.NUMBER, "LastPushSeq", 16)),
    SignOff: (_REASON,),
    Answer: (_RESULT, _TEXT),
    DepositPush: (_REF, _PUSH_SEQ, *_MONEY, *_CUSTOMER),
    DepositRequest: (_REF, *_MONEY, *_CUSTOMER),
    WithdrawalRequest: (_REF, *_MONEY, Element("payee_name", Kind.ENGLISH, "PayeeName", 60), *_CUSTOMER),
    BankWithdrawal: (_REF, _PUSH_SEQ, *_MONEY, *_CUSTOMER),
    TransferAnswer: (_RESULT, _REF._replace(required=False), _TEXT, _SERIAL),
    TransferResult: (_REF, _PUSH_SEQ, _RESULT, _CCY, _AMOUNT, _TEXT, _SERIAL),
    Query: (_REF,),
    QueryAnswer: (
        _RESULT,
        _REF._replace(required=False),
        Element("state", Kind.STATE, "TrfState", 8, required=False),
        Element("result", Kind.RESULT, "TrfCode", 4, required=False),
        _CCY._replace(required=False),
        _AMOUNT._replace(required=False),
        _TEXT,
        _SERIAL,
        Element("kind", Kind.TRANSFER_KIND, "TrfType", 8, required=False),
        _CARD._replace(required=False),
    ),
    ListRequest: (Element("since_seq", Kind.NUMBER, "SinceSeq", 16), _DAY._replace(required=False)),
    ListItem: (
        _PUSH_SEQ,
        Element("kind", Kind.LIST_KIND, "ItemType", 8),
        _REF._replace(required=False),
        _RESULT,
        *(field._replace(required=False) for field in _MONEY),
        *_CUSTOMER,
    ),
    DayList: (_RESULT, Group("items", "List", "Item", ListItem), _TEXT),
    SignNotice: (_PUSH_SEQ, Element("action", Kind.SIGNING, "Action", 6), _NAME, _CARD, _MARKET, *_CUSTOMER),
    ReversalRequest: (_REF, Element("original_ref", Kind.CODE, "OrigRefNo", 32), _CCY, _AMOUNT, _REASON),
    ReconciliationRequest: (_DAY,),
    ReconciliationItem: (
        _REF,
        Element("deposit", Kind.FLAG, "Deposit", 1),
        _CCY,
        _AMOUNT,
        _CARD._replace(required=False),
    ),
    ReconciliationTotal: (
        _CCY,
        Element("deposits", Kind.NUMBER, "DepCount", 8),
        Element("deposited", Kind.AMOUNT, "DepAmt", 18),
        Element("withdrawals", Kind.NUMBER, "WdlCount", 8),
        Element("withdrawn", Kind.AMOUNT, "WdlAmt", 18),
    ),
    ReconciliationList: (
        _RESULT,
        _DAY._replace(required=False),
        Group("totals", "Totals", "Total", ReconciliationTotal, 10),
        Group("items", "List", "Item", ReconciliationItem),
        _TEXT,
    ),
}
"""Every field of every record, in the order in which we write it; it is read in any order."""


# --- writing ----------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """The payload of a message; `MalformedMessage` if a value is not of its kind or longer than its limit."""
    check_message(message)
    parts = [_DECLARATION, "<MsgText><MsgHdr>"]
    _write_record(message.header, parts)
    parts.append("</MsgHdr><MsgBody>")
    _write_record(message.body, parts)
    parts.append("</MsgBody></MsgText>")
    return "".join(parts).encode()


def _write_record(record: Record, parts: list[str], depth: int = 3) -> None:
    """``depth``: the level of the record's elements."""
    for field in FIELDS[type(record)]:
        value = getattr(record, field.name)
        if isinstance(field, Element):
            text = _text_of(field, value)
            if text:
                parts.append(f"<{field.tag}>{_escape(text)}</{field.tag}>")
        else:
            _write_group(field, value, parts, depth)
    for unknown in record.extra:
        if unknown.tag in _TAGS[type(record)]:
            raise MalformedMessage(f"{unknown.tag} is not an unknown field")
        _write_unknown(unknown, parts, depth)


def _text_of(field: Element, value: Any) -> str:
    if value is None or value == "":
        if field.required:
            raise MalformedMessage(f"{field.name} is missing")
        return ""
    text = write_value(field.kind, value, field.name)
    if len(text) > field.limit:
        raise MalformedMessage(f"{field.name}: {len(text)} characters are more than {field.limit}")
    return text


def _write_group(group: Group, entries: Sequence[Record], parts: list[str], depth: int) -> None:
    if len(entries) > group.limit:
        raise MalformedMessage(f"{group.name}: {len(entries)} entries are more than {group.limit}")
    parts.append(f"<{group.tag}>")
    for entry in entries:
        if type(entry) is not group.record:
            raise MalformedMessage(f"{group.name}: {entry!r} is no {group.record.__name__}")
        parts.append(f"<{group.item}>")
        _write_record(entry, parts, depth + 2)
        parts.append(f"</{group.item}>")
    parts.append(f"</{group.tag}>")


def _write_unknown(unknown: Unknown, parts: list[str], depth: int) -> None:
    if _TAG.fullmatch(unknown.tag) is None or depth > MAX_DEPTH:
        raise MalformedMessage(f"{unknown.tag!r} cannot be an element, or is too deep")
    if _NOT_XML.search(unknown.text) or (unknown.text and unknown.children):
        raise MalformedMessage(f"{unknown.tag}: not a text of XML, or text beside elements")
    parts.append(f"<{unknown.tag}>{_escape(unknown.text)}")
    for child in unknown.children:
        _write_unknown(child, parts, depth + 1)
    parts.append(f"</{unknown.tag}>")


def _escape(text: str) -> str:
    if "&" in text or "<" in text or ">" in text or "\r" in text:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    return text


# --- reading: bytes to a tree -----------------------------------------------------------------------------------


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


class _Tree:
    """Builds a tree from the events of expat, within the limits, and refuses what the flavour does not have."""

    __slots__ = ("_open", "_parser", "nodes", "root")

    def __init__(self) -> None:
        self._open: list[_Node] = []
        self.root: _Node | None = None
        self.nodes = 0
        self._parser = parser = ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = _no_dtd
        parser.ProcessingInstructionHandler = _no_instruction
        parser.CommentHandler = _no_comment

    def read(self, payload: bytes) -> _Node:
        if b"\0" in payload:  # no XML in UTF-8 has one, all in UTF-16 has, and expat takes it whatever it is told
            raise MalformedMessage("not XML in UTF-8")
        try:
            self._parser.Parse(payload, True)
        except ExpatError as error:
            raise MalformedMessage(f"not XML: {error}") from None
        if self.root is None:
            raise MalformedMessage("no element")
        return self.root

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if version != "1.0" or (encoding or "utf-8").lower() != "utf-8" or standalone == 0:
            raise MalformedMessage(f"XML {version} in {encoding} is not XML 1.0 in UTF-8")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES or len(self._open) >= MAX_DEPTH:
            raise MalformedMessage(f"more than {MAX_NODES} elements or {MAX_DEPTH} levels")
        if attributes or (tag not in _KNOWN and _TAG.fullmatch(tag) is None):
            raise MalformedMessage(f"<{tag[:64]}> has attributes, a namespace or a name that is not ours")
        node = _Node(tag)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def _end(self, _tag: str) -> None:
        node = self._open.pop()
        if node.children:
            if node.text.strip(" \t\r\n"):
                raise MalformedMessage(f"<{node.tag}> has text beside elements")
            node.texts.clear()

    def _characters(self, text: str) -> None:
        self._open[-1].texts.append(text)


def _no_dtd(*_: object) -> Never:
    raise MalformedMessage("a DTD is refused")


def _no_instruction(*_: object) -> Never:
    raise MalformedMessage("a processing instruction is refused")


def _no_comment(*_: object) -> Never:
    raise MalformedMessage("a comment is refused")


# --- reading: a tree to a message -------------------------------------------------------------------------------

_TAGS: Final[dict[type, dict[str, Element | Group]]] = {
    record: {field.tag: field for field in fields} for record, fields in FIELDS.items()
}
_KNOWN: Final = frozenset(tag for tags in _TAGS.values() for tag in tags)


def _read_record(node: _Node, record: type) -> Any:
    known = _TAGS[record]
    values: dict[str, Any] = {}
    extra: list[Unknown] = []
    if node.text.strip(" \t\r\n"):
        raise MalformedMessage(f"<{node.tag}> has text beside elements")
    for child in node.children:
        field = known.get(child.tag)
        if field is None:
            extra.append(_unknown(child))
        elif field.name in values:
            raise MalformedMessage(f"<{child.tag}> stands twice in <{node.tag}>")
        else:
            values[field.name] = _read_field(child, field)
    for field in FIELDS[record]:
        if field.name not in values:
            values[field.name] = _missing(field)
    return record(**values, extra=tuple(extra))


def _read_field(node: _Node, field: Element | Group) -> Any:
    if isinstance(field, Group):
        return _read_group(node, field)
    if node.children:
        raise MalformedMessage(f"<{node.tag}> has elements, not a text")
    text = node.text
    if not text:
        return _missing(field)
    if len(text) > field.limit:
        raise MalformedMessage(f"<{node.tag}>: {len(text)} characters are more than {field.limit}")
    return read_value(field.kind, text, field.name)


def _missing(field: Element | Group) -> Any:
    if isinstance(field, Group):
        return ()
    if field.required:
        raise MalformedMessage(f"<{field.tag}> is missing")
    return absent(field.kind)


def _read_group(node: _Node, group: Group) -> tuple[Any, ...]:
    if len(node.children) > group.limit:
        raise MalformedMessage(f"<{node.tag}>: {len(node.children)} entries are more than {group.limit}")
    if node.text.strip(" \t\r\n") or any(child.tag != group.item for child in node.children):
        raise MalformedMessage(f"<{node.tag}> holds <{group.item}> only")
    return tuple(_read_record(child, group.record) for child in node.children)


def _unknown(node: _Node) -> Unknown:
    return Unknown(node.tag, node.text, tuple(_unknown(child) for child in node.children))


def _parts(root: _Node) -> tuple[_Node, _Node]:
    parts = [child.tag for child in root.children]
    if root.tag != "MsgText" or parts != ["MsgHdr", "MsgBody"]:
        raise MalformedMessage(f"<{root.tag}> of {parts[:4]} is not <MsgText> of <MsgHdr> and <MsgBody>")
    return root.children[0], root.children[1]


def decode(kind: FrameType, command: str, payload: bytes) -> Message:
    """The message in a payload; a `MalformedMessage` carries the header if that could be read."""
    head, rest = _parts(_Tree().read(payload))
    header: Header = _read_record(head, Header)

    def read_body(record: type) -> Body:
        return cast(Body, _read_record(rest, record))

    message = build_message(kind, command, header, read_body)
    check_message(message)
    return message


CMBC: Final = Flavour("cmbc", b"MSB1", encode, decode)
