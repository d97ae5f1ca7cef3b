"""Both flavours of every message: golden bytes, round trips, widths, Chinese names, hostile documents."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.wire.socket import CMB, CMBC, Flavour, FrameType, Kind, ListKind, MalformedMessage, Party, Signing, cmb, cmbc
from core.wire.socket import messages as m
from core.wire.socket.fields import FORMS
from tests.wire.socket_samples import FLAVOURS, STAMP, sample, samples

both = pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)


def shown(flavour: Flavour, message: m.Message) -> str:
    """A payload for the golden file: as text, and for the fixed fields in hex as well."""
    payload = flavour.encode(message)
    lines = [f"{message.command} {message.kind.name} {type(message.body).__name__}, {len(payload)} bytes"]
    if flavour is CMB:
        lines += textwrap.wrap(payload.hex(), 96)
        lines.append(repr(payload.decode("gb18030")))
    else:
        lines.append(payload.decode())
    return "\n".join(lines)


@both
def test_every_message_is_written_as_the_golden_file_says(flavour: Flavour, golden: Callable[[str, str], None]) -> None:
    golden(f"socket_{flavour.name}.txt", "\n\n".join(shown(flavour, each) for each in samples(flavour)) + "\n")


@both
def test_every_message_is_read_as_it_was_written(flavour: Flavour) -> None:
    for message in samples(flavour):
        assert flavour.decode(message.kind, message.command, flavour.encode(message)) == message


def test_both_flavours_have_a_table_for_every_record_and_name_every_field_of_it() -> None:
    assert cmb.FIELDS.keys() == cmbc.FIELDS.keys()
    for tables in (cmb.FIELDS, cmbc.FIELDS):
        for record, fields in tables.items():
            assert {field.name for field in fields} | {"extra"} == {each.name for each in dataclasses.fields(record)}
    assert {row.body for row in m.MESSAGES.values()} <= cmb.FIELDS.keys()


def test_the_reference_is_bank_tx_seq_at_cmb_and_orgrefno_at_cmbc() -> None:
    for record in (m.DepositPush, m.WithdrawalRequest, m.TransferResult, m.BankWithdrawal, m.Query):
        assert "bank_tx_seq" in [field.label for field in cmb.FIELDS[record] if isinstance(field, cmb.Fixed)]
        assert "OrgRefNo" in [field.tag for field in cmbc.FIELDS[record]]


# --- round trips of any message ---------------------------------------------------------------------------------

_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="\ufffe\uffff ")
_WORD = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=4)


def _names(width: int) -> st.SearchStrategy[str]:
    """Texts that fit both limits: bytes in GB18030 and characters."""

    def fits(text: str) -> bool:
        return len(text.encode("gb18030")) <= width and FORMS[Kind.TEXT].pattern.fullmatch(text) is not None

    words = st.lists(st.text(_CHARACTERS, min_size=1, max_size=8), min_size=1, max_size=3)
    return words.map(" ".join).filter(fits)


def _values(field: cmb.Fixed) -> st.SearchStrategy[Any]:
    numbers = st.integers(0, 10 ** min(field.width, 18) - 1)
    by_kind: dict[Kind, st.SearchStrategy[Any]] = {
        Kind.TEXT: _names(field.width),
        Kind.CODE: st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=field.width),
        Kind.NUMBER: numbers,
        Kind.RESULT: st.integers(-999, 999),
        Kind.AMOUNT: st.integers(0, 10**17 - 1).map(lambda minor: f"{minor // 100}.{minor % 100:02d}"),
        Kind.CURRENCY: st.text("ABCXYZ", min_size=3, max_size=3),
        Kind.DATE: st.dates().filter(lambda day: 1000 <= day.year < 3000).map(lambda day: day.strftime("%Y%m%d")),
        Kind.TIME: st.times().map(lambda time: time.strftime("%H%M%S")),
        Kind.FLAG: st.booleans(),
        Kind.PARTY: st.sampled_from(Party),
        Kind.SIGNING: st.sampled_from(Signing),
        Kind.STATE: st.sampled_from(list(m.TransferState)),
        Kind.TRANSFER_KIND: st.sampled_from(list(m.TransferKind)),
        Kind.LIST_KIND: st.sampled_from(ListKind),
    }
    if field.name == "payee_name":
        return st.from_regex(r"[A-Z][a-z]{0,20}( [A-Z][a-z]{1,10})?", fullmatch=True)
    nothing = "" if FORMS[field.kind].type is str else None
    present = by_kind[field.kind]
    return present if field.required else st.one_of(st.just(nothing), present)


def _records(record: type) -> st.SearchStrategy[Any]:
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for field in cmb.FIELDS[record]:
        if isinstance(field, cmb.Fixed):
            parts[field.name] = _values(field)
        else:
            parts[field.name] = st.lists(_records(field.record), max_size=3).map(tuple)
    return st.builds(record, **parts)


@st.composite
def any_message(draw: st.DrawFn) -> m.Message:
    """Any message of the table with any values that both flavours allow."""
    (command, kind), row = draw(st.sampled_from(sorted(m.MESSAGES.items(), key=lambda entry: entry[0])))
    header = dataclasses.replace(draw(_records(m.Header)), instruction=row.instruction)
    return m.Message(kind, command, header, draw(_records(row.body)))


@both
@given(message=any_message())
def test_any_message_is_read_as_it_was_written(flavour: Flavour, message: m.Message) -> None:
    payload = flavour.encode(message)
    assert flavour.decode(message.kind, message.command, payload) == message
    assert len(payload) <= 65_536 - 40 - 64


_UNKNOWN_TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff", include_characters="\t\n\r")
)
_UNKNOWNS = st.recursive(
    st.builds(m.Unknown, st.from_regex(r"X[a-z]{1,5}", fullmatch=True), _UNKNOWN_TEXT),
    lambda inner: st.builds(
        m.Unknown, st.just("XBox"), st.just(""), st.lists(inner, min_size=1, max_size=2).map(tuple)
    ),
    max_leaves=4,
).filter(lambda unknown: _depth(unknown) <= 4)


def _depth(unknown: m.Unknown) -> int:
    return 1 + max((_depth(child) for child in unknown.children), default=0)


@given(message=any_message(), unknown=_UNKNOWNS)
def test_cmbc_keeps_unknown_fields_wherever_they_stand(message: m.Message, unknown: m.Unknown) -> None:
    extra = (unknown, m.Unknown("Memo", "a<b&c"))
    header, body = dataclasses.replace(message.header, extra=extra), dataclasses.replace(message.body, extra=extra)
    grown = dataclasses.replace(message, header=header, body=body)
    assert CMBC.decode(grown.kind, grown.command, CMBC.encode(grown)) == grown


def test_unknown_fields_of_a_list_entry_are_kept() -> None:
    message = sample(m.DAY_LIST, FrameType.RESPONSE)
    payload = CMBC.encode(message).replace(b"</Item>", b"<Branch>0755</Branch></Item>", 1)
    read = CMBC.decode(message.kind, message.command, payload)
    assert read.body.items[0].extra == (m.Unknown("Branch", "0755"),)
    assert CMBC.encode(read) == payload


@pytest.mark.parametrize("levels", [4, 5])
def test_unknown_fields_of_a_list_entry_are_no_deeper_than_can_be_read_again(levels: int) -> None:
    """An entry stands on the fourth level, so four more are left."""
    unknown = m.Unknown("X", "1")
    for _ in range(levels - 1):
        unknown = m.Unknown("X", "", (unknown,))
    message = sample(m.DAY_LIST, FrameType.RESPONSE)
    item = m.ListItem(1, ListKind.SIGN, extra=(unknown,))
    deep = dataclasses.replace(message, body=m.DayList(0, (item,)))
    if levels == 4:
        assert CMBC.decode(deep.kind, deep.command, CMBC.encode(deep)) == deep
    else:
        with pytest.raises(MalformedMessage, match="too deep"):
            CMBC.encode(deep)


def test_cmb_has_no_room_for_unknown_fields() -> None:
    message = sample(m.QUERY, FrameType.REQUEST)
    with pytest.raises(MalformedMessage, match="no room"):
        CMB.encode(dataclasses.replace(message, body=m.Query("W1", extra=(m.Unknown("Memo", "x"),))))


# --- widths and paddings ----------------------------------------------------------------------------------------


def push(**changed: Any) -> m.Message:
    message = sample(m.DEPOSIT_PUSH, FrameType.PUSH)
    return dataclasses.replace(message, body=dataclasses.replace(message.body, **changed))


NAME_AT = sum(field.width for field in cmb.FIELDS[m.Header]) + 32 + 16


@pytest.mark.parametrize("name", ["张" * 30, "𠮷" * 15, "a" * 60, "张" * 29 + "ab", "·" * 30])
def test_a_chinese_name_of_exactly_sixty_bytes_fits_and_one_character_more_is_refused(name: str) -> None:
    raw = CMB.encode(push(name=name))[NAME_AT : NAME_AT + 60]
    assert raw.decode("gb18030") == name and len(name.encode("gb18030")) == 60
    assert CMB.decode(FrameType.PUSH, m.DEPOSIT_PUSH, CMB.encode(push(name=name))).body.name == name
    with pytest.raises(MalformedMessage, match=r"name: 6[1-4] bytes are more than 60"):
        CMB.encode(push(name=name + name[-1]))


def test_a_cmbc_name_is_limited_in_characters() -> None:
    assert CMBC.decode(FrameType.PUSH, m.DEPOSIT_PUSH, CMBC.encode(push(name="𠮷" * 60))).body.name == "𠮷" * 60
    with pytest.raises(MalformedMessage, match="61 characters are more than 60"):
        CMBC.encode(push(name="𠮷" * 61))


def test_every_character_of_gb18030_comes_back() -> None:
    allowed = [chr(code) for code in range(0x21, 0x110000) if FORMS[Kind.TEXT].pattern.fullmatch(chr(code))]
    field = cmb.Fixed("name", Kind.TEXT, 60)
    for at in range(0, len(allowed), 15):
        name = "".join(allowed[at : at + 15])
        raw = cmb._fill(field, name)
        assert cmb._read(field, raw) == name


@pytest.mark.parametrize(
    ("field", "value", "written"),
    [
        ("push_seq", 42, b"0000000000000042"),
        ("push_seq", 0, b"0000000000000000"),
        ("amount", "1234.50", b"000000000001234.50"),
        ("amount", "0.01", b"000000000000000.01"),
        ("amount", "999999999999999.99", b"999999999999999.99"),
        ("market", "HK", b"HK  "),
        ("cert_no", "", b" " * 30),
    ],
)
def test_numbers_stand_on_the_right_and_texts_on_the_left(field: str, value: Any, written: bytes) -> None:
    assert written in CMB.encode(push(**{field: value}))


@pytest.mark.parametrize(("code", "written"), [(0, b"0000"), (-5, b"-005"), (-999, b"-999"), (999, b"0999")])
def test_a_result_code_keeps_its_sign_in_the_first_byte(code: int, written: bytes) -> None:
    message = dataclasses.replace(sample(m.HEARTBEAT, FrameType.RESPONSE), body=m.Answer(code))
    assert CMB.encode(message)[-64:-60] == written
    assert CMB.decode(message.kind, message.command, CMB.encode(message)) == message


WRONG = [
    {"amount": "1234.5"}, {"amount": "01.00"}, {"amount": "-1.00"}, {"amount": "1e3.00"}, {"amount": 1234},
    {"amount": "1234567890123456.00"}, {"amount": ""}, {"amount": "１２.00"}, {"ccy": "hkd"}, {"ccy": "HKDD"},
    {"name": ""}, {"name": " 张"}, {"name": "张 "}, {"name": "张\n三"}, {"name": "a\x00"}, {"name": "\ud800"},
    {"name": "\uffff"}, {"card_no": "62 25"}, {"card_no": "张"}, {"push_seq": -1}, {"push_seq": True},
    {"push_seq": "1"}, {"push_seq": 10**16}, {"transfer_ref": "x" * 33}, {"market": None},
]  # fmt: skip


@both
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_value_that_is_not_of_its_kind_is_not_written(flavour: Flavour, wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        flavour.encode(push(**wrong))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"000000000001234.50", b"            1234.50"[1:]),
        (b"000000000001234.50", b"0000000000001234.5"),
        (b"000000000001234.50", b"00000000000-234.50"),
        (b"000000000001234.50", b"000000000000000000"),
        (b"0000000000000042", b"              42"),
        (b"HK  ", b"  HK"),
        (b"HKD0", b"   0"),
        (b"20260312101530", b"20260230101530"),
        (b"20260312101530", b"20260312246060"),
        ("欧阳".encode("gb18030"), b"\x80\x80\xff\xff"),
        ("欧阳".encode("gb18030"), b"ab\x81\x30"),
        (b"Trf.001 ", b"Trf.009 "),
        (b"\x20Y", b"\x20Z"),
    ],
)
def test_cmb_refuses_other_paddings_encodings_and_values(old: bytes, new: bytes) -> None:
    payload = CMB.encode(push())
    assert payload.count(old) >= 1 and len(old) == len(new)
    with pytest.raises(MalformedMessage):
        CMB.decode(FrameType.PUSH, m.DEPOSIT_PUSH, payload.replace(old, new, 1))


@pytest.mark.parametrize("raw", [b"0-60", b"00-6", b"-000", b"+005", b"  -5", b"-5  ", b"--05", b"-0 5", b"000-"])
def test_cmb_reads_a_result_code_in_its_one_form_only(raw: bytes) -> None:
    message = sample(m.HEARTBEAT, FrameType.RESPONSE)
    payload = CMB.encode(message)
    with pytest.raises(MalformedMessage):
        CMB.decode(message.kind, message.command, payload[:-64] + raw + payload[-60:])


def test_cmb_refuses_a_payload_that_is_cut_or_goes_on() -> None:
    payload = CMB.encode(push())
    for wrong in (payload[:-1], payload + b" ", b"", payload[:100]):
        with pytest.raises(MalformedMessage):
            CMB.decode(FrameType.PUSH, m.DEPOSIT_PUSH, wrong)


@both
def test_a_list_has_at_most_fifty_entries_in_a_fragment(flavour: Flavour) -> None:
    message = sample(m.DAY_LIST, FrameType.RESPONSE)
    items = tuple(m.ListItem(seq, ListKind.SIGN) for seq in range(51))
    with pytest.raises(MalformedMessage, match="51 entries are more than 50"):
        flavour.encode(dataclasses.replace(message, body=m.DayList(0, items)))


@both
def test_the_longest_fragment_fits_into_a_frame(flavour: Flavour) -> None:
    name, amount = "𠮷" * (15 if flavour is CMB else 60), "9" * 15 + ".99"
    wide = {"name": name, "card_no": "&" * 32, "ccy": "HKD", "amount": amount, "market": "<<<<",
            "account": "&" * 20, "cert_type": "&&", "cert_no": "&" * 30}  # fmt: skip
    items = tuple(m.ListItem(10**15 + seq, ListKind.WITHDRAWAL, "&" * 32, -999, **wide) for seq in range(50))
    message = dataclasses.replace(sample(m.DAY_LIST, FrameType.RESPONSE), body=m.DayList(0, items, "&" * 60))
    assert len(flavour.encode(message)) <= 65_536 - 40 - 64


# --- CMBC: mandatory English name, hostile XML ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "张三", "Zhang  San", "Zhang1"])
def test_cmbc_demands_an_english_payee_name_and_cmb_does_not(name: str) -> None:
    message = sample(m.WITHDRAWAL, FrameType.REQUEST)
    changed = dataclasses.replace(message, body=dataclasses.replace(message.body, payee_name=name))
    with pytest.raises(MalformedMessage, match="payee_name"):
        CMBC.encode(changed)
    assert CMB.decode(changed.kind, changed.command, CMB.encode(changed)) == changed


BEFORE, AFTER = b'<?xml version="1.0" encoding="UTF-8"?>', b"<MsgText>"
HOSTILE = {
    "dtd": (AFTER, b"<!DOCTYPE MsgText>" + AFTER),
    "billion laughs": (AFTER, b'<!DOCTYPE MsgText [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>' + AFTER),
    "external entity": (AFTER, b'<!DOCTYPE MsgText [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + AFTER),
    "undeclared entity": (b"<Ccy>HKD", b"<Ccy>&hkd;"),
    "attribute": (b"<Ccy>", b'<Ccy a="b">'),
    "namespace": (b"<MsgBody>", b'<MsgBody xmlns="urn:x">'),
    "prefix": (b"<Ccy>HKD</Ccy>", b"<x:Ccy>HKD</x:Ccy>"),
    "comment": (b"<MsgBody>", b"<MsgBody><!-- -->"),
    "instruction": (b"<MsgBody>", b"<MsgBody><?php ?>"),
    "another encoding": (b"UTF-8", b"GBK"),
    "utf-16": (b"UTF-8", b"UTF-16"),
    "xml 1.1": (b'"1.0"', b'"1.1"'),
    "not utf-8": (b"<Ccy>HKD", b"<Ccy>\xff\xfe"),
    "control character": (b"<Ccy>HKD", b"<Ccy>&#1;"),
    "twice": (b"<Ccy>HKD</Ccy>", b"<Ccy>HKD</Ccy><Ccy>USD</Ccy>"),
    "missing": (b"<Ccy>HKD</Ccy>", b""),
    "empty": (b"<Ccy>HKD</Ccy>", b"<Ccy/>"),
    "elements in a field": (b"<Ccy>HKD</Ccy>", b"<Ccy><a/></Ccy>"),
    "text beside elements": (b"<MsgBody>", b"<MsgBody>x"),
    "too deep": (b"<MsgBody>", b"<MsgBody>" + b"<a>" * 7 + b"</a>" * 7),
    "endless depth": (b"<MsgBody>", b"<MsgBody>" + b"<a>" * 10_000),
    "too many": (b"<MsgBody>", b"<MsgBody>" + b"<a/>" * 2_050),
    "cut": (b"</MsgText>", b""),
    "two roots": (b"</MsgText>", b"</MsgText><MsgText/>"),
    "text after": (b"</MsgText>", b"</MsgText>x"),
    "other root": (b"MsgText>", b"Text>"),
    "body first": (b"<MsgHdr>", b"<MsgBody/><MsgHdr>"),
    "long": (b"<Market>HK", b"<Market>HKHKH"),
}


@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
@pytest.mark.req("SOCK-01")
def test_cmbc_refuses_hostile_documents(hostile: str) -> None:
    old, new = HOSTILE[hostile]
    payload = CMBC.encode(push())
    assert old in payload
    with pytest.raises(MalformedMessage):
        CMBC.decode(FrameType.PUSH, m.DEPOSIT_PUSH, payload.replace(old, new))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_cmbc_takes_no_other_encoding_for_utf_8(encoding: str) -> None:
    with pytest.raises(MalformedMessage):
        CMBC.decode(FrameType.PUSH, m.DEPOSIT_PUSH, CMBC.encode(push(name="CHAN")).decode().encode(encoding))


def test_cmbc_reads_a_foreign_hand() -> None:
    """Indentation, another order, CDATA, character references, no declaration: all of that is the same message."""
    payload = CMBC.encode(push(name="张三")).removeprefix(BEFORE)
    text = payload.decode().replace("<Ccy>HKD</Ccy>", "").replace("><", ">\n  <")
    text = text.replace("<Market>", "<Ccy><![CDATA[HKD]]></Ccy><Market>").replace("张三", "&#x5f20;&#19977;")
    assert CMBC.decode(FrameType.PUSH, m.DEPOSIT_PUSH, text.encode()) == push(name="张三")


@both
def test_a_body_that_is_refused_still_gives_the_header(flavour: Flavour) -> None:
    payload = flavour.encode(push()).replace(b"HKD", b"hkd")
    with pytest.raises(MalformedMessage) as refused:
        flavour.decode(FrameType.PUSH, m.DEPOSIT_PUSH, payload)
    assert refused.value.header == push().header


# --- composing, answering, the list -----------------------------------------------------------------------------


def test_an_answer_goes_back_to_the_sender_and_names_the_reference() -> None:
    asked = sample(m.WITHDRAWAL, FrameType.REQUEST)
    given_back = m.answer(asked, m.TransferAnswer(0, "W26031200000007"), STAMP._replace(ref="B1"))
    assert (given_back.kind, given_back.command) == (FrameType.RESPONSE, m.WITHDRAWAL)
    header = given_back.header
    assert (header.sender, header.receiver, header.related_ref) == ("CMB", "NOSTRO01", asked.header.ref)
    assert (header.initiator, header.instruction, header.ref) == (Party.BROKER, "Trf.002", "B1")
    with pytest.raises(MalformedMessage, match="is not answered"):
        m.answer(given_back, m.Answer(0), STAMP)


def test_a_message_whose_body_or_command_is_not_of_the_table_cannot_be_composed() -> None:
    with pytest.raises(MalformedMessage):
        m.compose(m.QUERY, FrameType.REQUEST, m.Heartbeat(), STAMP, "NOSTRO01", "CMB", Party.BROKER)
    with pytest.raises(MalformedMessage):
        m.compose("999999", FrameType.REQUEST, m.Heartbeat(), STAMP, "NOSTRO01", "CMB", Party.BROKER)
    with pytest.raises(MalformedMessage):
        m.compose(m.QUERY, FrameType.PUSH, m.Query("W1"), STAMP, "NOSTRO01", "CMB", Party.BROKER)


def test_a_rejection_names_the_reference_or_else_the_sequence() -> None:
    error = MalformedMessage("no")
    error.sequence = 12
    said = m.rejection(error, STAMP, "CMB", "NOSTRO01", Party.BANK)
    assert said.header.related_ref == "SEQ0000000000000012" and said.body.code == -2
    error.header = push().header
    assert m.rejection(error, STAMP, "CMB", "NOSTRO01", Party.BANK).header.related_ref == push().header.ref


@pytest.mark.req("SOCK-03", "SOCK-04")
@pytest.mark.parametrize("kind", ListKind)
def test_an_entry_of_the_day_list_gives_the_push_that_was_missed(kind: ListKind) -> None:
    original = {
        ListKind.DEPOSIT: sample(m.DEPOSIT_PUSH, FrameType.PUSH),
        ListKind.RESULT: sample(m.TRANSFER_RESULT, FrameType.PUSH),
        ListKind.WITHDRAWAL: sample(m.BANK_WITHDRAWAL, FrameType.PUSH),
        ListKind.SIGN: sample(m.SIGN_NOTICE, FrameType.PUSH),
        ListKind.UNSIGN: sample(m.SIGN_NOTICE, FrameType.PUSH),
    }[kind]
    body = original.body
    known = {each.name for each in dataclasses.fields(m.ListItem)} - {"kind", "extra"}
    item = m.ListItem(kind=kind, **{name: getattr(body, name) for name in known if hasattr(body, name)})
    command, rebuilt = m.push_of(item)
    assert command == original.command
    wanted = {"text": "", "bank_serial": ""} if kind is ListKind.RESULT else {}
    if kind is ListKind.SIGN:
        wanted = {"action": Signing.SIGN}
    assert rebuilt == dataclasses.replace(body, **wanted)


def test_the_table_of_callback_codes_is_that_of_b_08() -> None:
    assert list(m.CALLBACKS) == [0, -1, -2, -3, -4, -5, -6, -7, -8, -9]
    assert [code for code, callback in m.CALLBACKS.items() if not callback.certain] == [-1, -4, -5]
    assert [code for code, callback in m.CALLBACKS.items() if callback.at_the_door] == [-2, -3, -9]
    assert m.callback(-6).action is m.Action.RETURN_FAILED
    assert m.callback(-9).action is m.Action.AWAIT_OPENING
    assert m.callback(-5).action is m.Action.RETRY_ON_BACKUP


@pytest.mark.parametrize("code", [1, -10, -99, 999])
def test_a_code_outside_the_table_leaves_the_outcome_unknown(code: int) -> None:
    assert m.callback(code) == m.CALLBACKS[-1] and not m.callback(code).certain
