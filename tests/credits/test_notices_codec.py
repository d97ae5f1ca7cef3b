"""The notification mailbox: JSON lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.banks.notices import page_of
from core.wire.notices import BadLine, Notice, encode, read
from core.wire.numbered import Query, Unread, WireError

NOTICE = Notice(12, "dbs", "DBS000000000012", "HKD", "1000.00", "CHAN TAI MAN", "4321", 1_773_279_001_000)
GOLDEN = (b'{"no":12,"bank":"dbs","ref":"DBS000000000012","ccy":"HKD","amount":"1000.00","name":"CHAN TAI MAN",'
          b'"last4":"4321","time":"2026-03-12T09:30:01+08:00"}\n')
LINE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.just(" "), max_size=60)
NOTICES = st.builds(
    Notice, st.integers(0, 10**15 - 1), st.sampled_from(["hase", "dbs", "za"]),
    st.text("AB019-/|", min_size=1, max_size=64),
    st.sampled_from(["HKD", "USD", "CNH"]), st.builds("{}.{:02d}".format, st.integers(1, 10**15 - 1),
                                                       st.integers(0, 99)),
    LINE, st.text("0123456789X", max_size=4), st.integers(10**9, 4 * 10**9).map(lambda s: s * 1_000),
    st.just("") | st.text("0123456789-", min_size=1, max_size=34))


def test_golden_bytes():
    assert encode(NOTICE) == GOLDEN
    assert list(read(GOLDEN)) == [NOTICE]


@given(st.lists(NOTICES, max_size=6), st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n  \n"]))
def test_what_is_written_is_read_whatever_ends_the_lines(notices, end):
    assert list(read(end.join(encode(notice).rstrip() for notice in notices))) == notices


@given(st.binary(max_size=400))
def test_any_bytes_are_lines_that_are_read_or_refused(data):
    for line in read(data):
        assert isinstance(line, Notice | BadLine)


@given(at=st.integers(0, len(GOLDEN) - 1), byte=st.integers(0, 255))
def test_a_changed_line_spoils_no_other(at, byte):
    mutated = GOLDEN[:at] + bytes([byte]) + GOLDEN[at + 1:]
    lines = list(read(GOLDEN + mutated + b"\n" + GOLDEN))
    assert lines[0] == lines[-1] == NOTICE


WRONG = [
    ({"ref": None}, "ref: missing"), ({"ref": ""}, "ref: ''"), ({"ref": "a b"}, "ref: 'a b'"),
    ({"ccy": "EUR"}, "ccy: 'EUR' is none"), ({"amount": "1000"}, "amount '1000' is not"),
    ({"amount": 1000.0}, "amount: not a text"), ({"amount": "0.00"}, "nothing was credited"),
    ({"amount": "-5.00"}, "is not"), ({"name": "x" * 141}, "name:"), ({"name": "a\x00b"}, "name:"),
    ({"last4": "12345"}, "last4:"), ({"time": "2026-03-12"}, "no offset"),
    ({"time": "2026-03-12T09:30:01"}, "no offset"), ({"time": "9999-12-31T23:59:59-23:00"}, "another century"),
    ({"time": "0001-01-01T00:00:00+08:00"}, "time:"), ({"time": "yesterday"}, "is none"),
    ({"account": "*"}, "account:"), ({"no": -1}, "no:"), ({"no": "12"}, "no:"), ({"no": True}, "no:"),
    ({"bank": "D"}, "bank:")]


@pytest.mark.parametrize(("wrong", "why"), WRONG, ids=lambda value: str(value)[:30])
def test_a_line_that_cannot_be_read_is_told_with_its_number_and_why(wrong, why):
    said = {**json.loads(GOLDEN), **wrong}
    said = {name: value for name, value in said.items() if value is not None}
    lines = list(read(GOLDEN + b"\n" + json.dumps(said).encode() + b"\n" + GOLDEN))
    assert lines[0] == lines[2] == NOTICE
    assert isinstance(lines[1], BadLine) and lines[1].line == 3 and why in lines[1].reason


@pytest.mark.parametrize("line", [
    b"[]", b"1", b"{", b"\xff", b"{}" + b" " * 5000, b"[" * 3000, b'{"ref":"a","ref":"b"}'])
def test_what_is_no_line_at_all_is_told(line):
    [found] = read(line)
    assert isinstance(found, BadLine) and found.line == 1


def test_a_bank_may_write_the_schemes_code_for_renminbi():
    [found] = read(GOLDEN.replace(b"HKD", b"CNY"))
    assert found == NOTICE._replace(ccy="CNH")


def test_a_mailbox_keeps_what_can_be_read():
    unnumbered = GOLDEN.replace(b'"no":12,', b"")
    foreign = GOLDEN.replace(b"12,", b"13,", 1).replace(b"HKD", b"EUR")
    page = page_of(GOLDEN + b"{broken\n" + foreign + unnumbered, Query(0, 50, "r"))
    assert page.items == (NOTICE, Unread(13, "ccy: 'EUR' is none of HKD, USD, CNH, CNY", foreign.decode().strip()))
    assert page.last == 13 and not page.more
    assert page.spoilt == (Unread(0, "line 2: not JSON in UTF-8", "{broken"),
                           Unread(0, "DBS000000000012: a notification without a number", unnumbered.decode().strip()))


def test_a_full_page_without_a_number_leads_nowhere():
    with pytest.raises(WireError):
        page_of(b"{broken\n" * 50, Query(0, 50, "r"))
