"""CMBC's XML before a foreign parser: lxml reads what we write, and we read what lxml writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from lxml import etree

from core.wire.socket import CMBC, FrameType
from core.wire.socket import messages as m
from core.wire.socket.cmbc import FIELDS, Element, Group
from tests.wire.socket_samples import BODIES, sample
from tests.wire.test_socket_messages import any_message


def schema(body: type) -> etree.RelaxNG:
    """A schema of one body, made of its table; we write in the order of the table."""
    return etree.RelaxNG(etree.fromstring(
        '<element name="MsgText" xmlns="http://relaxng.org/ns/structure/1.0">'
        f'<element name="MsgHdr">{_patterns(FIELDS[m.Header])}</element>'
        f'<element name="MsgBody">{_patterns(FIELDS[body])}</element></element>'
    ))  # fmt: skip


def _patterns(fields: tuple[Element | Group, ...]) -> str:
    return "".join(map(_pattern, fields)) or "<empty/>"


def _pattern(field: Element | Group) -> str:
    if isinstance(field, Element):
        pattern = f'<element name="{field.tag}"><text/></element>'
        return pattern if field.required else f"<optional>{pattern}</optional>"
    entry = f'<element name="{field.item}">{_patterns(FIELDS[field.record])}</element>'
    return f'<element name="{field.tag}"><zeroOrMore>{entry}</zeroOrMore></element>'


@pytest.mark.parametrize(("command", "kind"), BODIES)
def test_lxml_finds_every_message_valid(command: str, kind: FrameType) -> None:
    document = etree.fromstring(CMBC.encode(sample(command, kind, CMBC)))
    rules = schema(m.MESSAGES[command, kind].body)
    assert rules.validate(document), rules.error_log


def shown(value: object) -> str:
    """The text of a value, as the page says."""
    if isinstance(value, bool):
        return "Y" if value else "N"
    return "" if value is None else str(value)


@given(message=any_message())
def test_lxml_reads_the_same_values(message: m.Message) -> None:
    document = etree.fromstring(CMBC.encode(message))
    for record, node in ((message.header, document[0]), (message.body, document[1])):
        for field in FIELDS[type(record)]:
            if isinstance(field, Element):
                assert (node.findtext(field.tag) or "") == shown(getattr(record, field.name))


@pytest.mark.parametrize("pretty", [False, True])
@given(message=any_message())
def test_we_read_what_lxml_writes(pretty: bool, message: m.Message) -> None:
    document = etree.fromstring(CMBC.encode(message))
    written = etree.tostring(document, xml_declaration=True, encoding="UTF-8", pretty_print=pretty)
    assert CMBC.decode(message.kind, message.command, written) == message
    ascii_only = etree.tostring(document, encoding="ASCII")
    ascii_only = ascii_only.replace(b"encoding='ASCII'", b"encoding='UTF-8'")
    assert CMBC.decode(message.kind, message.command, ascii_only) == message
