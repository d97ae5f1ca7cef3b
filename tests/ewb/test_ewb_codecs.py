"""East West Bank's files: CSV and BAI2."""

from __future__ import annotations

import csv
import io
import re
from contextlib import suppress
from datetime import date

import pytest
from bai2 import bai2 as foreign
from bai2.exceptions import IntegrityException
from hypothesis import given
from hypothesis import strategies as st

from core.wire import bai2, ewb_csv
from core.wire.bai2 import Account, Bai2Error, Detail, File, Group, WrongTotal
from core.wire.ewb_csv import BadRow, CsvError, Row

ROW = Row("8600000001", date(2026, 3, 12), "FT0312001", "INCOMING WIRE", "C", 100_000, 5_100_000, 2)
CSV = (b"Account Number,Post Date,Reference,Description,Debit,Credit,Balance\r\n"
       b"8600000001,03/12/2026,FT0312001,INCOMING WIRE,,1000.00,51000.00\r\n")
REPORT = File("EWB", "NOSTRO", date(2026, 3, 12), "1", (Group(date(2026, 3, 12), (Account("8600000001", "USD", (
    Detail("195", 100_000, "FT0312001", "", "CHAN TAI MAN", "RENT, MARCH", 4),
    Detail("495", 500, "FT0312002", "C2", "", "", 7)), (("015", 5_099_500),)),)),))
BAI2 = (b"01,EWB,NOSTRO,260312,0000,1,,,2/\r\n02,NOSTRO,EWB,1,260312,,USD,2/\r\n03,8600000001,USD,015,5099500,,/\r\n"
        b"16,195,100000,Z,FT0312001,,/\r\n88,ORIG:CHAN TAI MAN\r\n88,OBI:RENT, MARCH\r\n16,495,500,Z,FT0312002,C2,/\r\n"
        b"49,5200000,6/\r\n98,5200000,1,8/\r\n99,5200000,1,10/\r\n")

WORDS = st.text("ABCxyz 019.-,'", max_size=30).map(lambda text: " ".join(text.split()))
REF = st.text("ABC019-_", max_size=16)
CENTS = st.integers(0, 10**14)
DAYS = st.dates(date(2001, 1, 1), date(2068, 12, 31))


# --- CSV ----------------------------------------------------------------------------------------------------------


def test_golden_csv():
    assert ewb_csv.encode([ROW]) == CSV
    assert ewb_csv.decode(CSV) == [ROW]


ROWS = st.builds(Row, st.text("0123456789", min_size=1, max_size=20), DAYS,
                 st.text("ABC019-_/", min_size=1, max_size=32),
                 st.text('ABC ,"xyz', max_size=30).map(str.strip), st.sampled_from("CD"), st.integers(1, 10**14),
                 st.integers(-10**14, 10**14), st.just(0))


@given(st.lists(ROWS, max_size=6))
def test_csv_is_read_as_it_was_written_and_as_pythons_csv_reads_it(rows):
    written = ewb_csv.encode(rows)
    found = ewb_csv.decode(written)
    assert [row._replace(line=0) for row in found] == rows
    by_python = list(csv.DictReader(io.StringIO(written.decode(), newline="")))
    assert [row["Description"] for row in by_python] == [row.description for row in rows]
    assert [row["Reference"] for row in by_python] == [row.reference for row in rows]


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_refused(data):
    for content in (data, CSV + data):
        with suppress(CsvError):
            assert all(isinstance(row, Row | BadRow) for row in ewb_csv.decode(content))


BAD_ROWS = [
    ("8600000001,2026-03-12,F1,x,,1.00,1.00", "Post Date"), ("8600000001,02/30/2026,F1,x,,1.00,1.00", "Post Date"),
    ("8600000001,03/12/2026,,x,,1.00,1.00", "Reference"), ("8600000001,03/12/2026,F1,x,1.00,1.00,1.00", "one of"),
    ("8600000001,03/12/2026,F1,x,,,1.00", "one of the two"), ("8600000001,03/12/2026,F1,x,,0.00,1.00", "one of"),
    ("8600000001,03/12/2026,F1,x,,1.5,1.00", "Credit '1.5'"), ("8600000001,03/12/2026,F1,x,,-1.00,1.00", "Credit"),
    ("8600000001,03/12/2026,F1,x,,1.00,", "Balance"), (",03/12/2026,F1,x,,1.00,1.00", "Account Number"),
    ("8600000001,03/12/2026,F1,x,,1.00", "6 fields"), ('8600000001,03/12/2026,F1,x,,"10,00.00",1.00', "Credit"),
    ("8600000001,03/12/2026,F1,a\tb,,1.00,1.00", "Description")]


@pytest.mark.parametrize(("row", "why"), BAD_ROWS)
def test_a_bad_row_is_told_with_its_line_and_spoils_no_other(row, why):
    found = ewb_csv.decode(CSV + row.encode() + b"\r\n" + CSV.splitlines(keepends=True)[1])
    assert [type(one) for one in found] == [Row, BadRow, Row]
    assert isinstance(found[1], BadRow) and found[1].line == 3 and why in found[1].reason


@pytest.mark.parametrize("content", [b"", b"a,b\n", CSV.replace(b"Credit", b"Kredit"), b"\xff", b'"', CSV + b'"open\n'])
def test_what_is_no_such_csv_is_refused_whole(content):
    with pytest.raises(CsvError):
        ewb_csv.decode(content)


def test_a_spreadsheets_way_of_writing_is_read():
    content = "\ufeff" + CSV.decode().replace(",1000.00,", ',"1,000.00",').replace("51000.00", '"51,000.00"')
    assert ewb_csv.decode(content.replace("\r\n", "\n").encode()) == [ROW]


# --- BAI2 ---------------------------------------------------------------------------------------------------------


def test_golden_bai2():
    assert bai2.encode(REPORT) == BAI2
    assert bai2.decode(BAI2) == REPORT


DETAILS = st.builds(Detail, st.sampled_from(["195", "495", "301"]), CENTS, REF, REF, WORDS, WORDS, st.just(0),
                    st.just(""))
ACCOUNTS = st.builds(Account, st.text("0123456789", min_size=1, max_size=20), st.sampled_from(["USD", "HKD"]),
                     st.lists(DETAILS, max_size=4).map(tuple),
                     st.lists(st.tuples(st.sampled_from(["015", "040"]), st.integers(-10**14, 10**14)),
                              min_size=1, max_size=3).map(tuple))
FILES = st.builds(File, st.just("EWB"), st.just("NOSTRO"), DAYS, st.just("1"), st.lists(
    st.builds(Group, DAYS, st.lists(ACCOUNTS, min_size=1, max_size=2).map(tuple), st.just("USD")),
    min_size=1, max_size=2).map(tuple))


def bare(file: File) -> File:
    """Without the lines on which things stand."""
    return file._replace(groups=tuple(group._replace(accounts=tuple(account._replace(details=tuple(
        detail._replace(line=0) for detail in account.details)) for account in group.accounts))
        for group in file.groups))


@given(FILES)
def test_a_report_is_read_as_it_was_written(file):
    assert bare(bai2.decode(bai2.encode(file))) == file


@given(FILES)
def test_the_foreign_reader_finds_the_same_and_all_totals_right(file):
    read = foreign.parse_from_string(bai2.encode(file).decode(), check_integrity=True)
    assert len(read.children) == len(file.groups)
    for theirs, ours in zip(read.children, file.groups, strict=True):
        assert theirs.header.as_of_date == ours.as_of
        for account, mine in zip(theirs.children, ours.accounts, strict=True):
            assert account.header.customer_account_number == mine.number
            assert [(one.amount, one.bank_reference or "") for one in account.children] == [
                (one.amount, one.bank_ref) for one in mine.details]


@given(FILES)
def test_what_the_foreign_writer_makes_is_read(file):
    """It puts an empty field before the references, so that these are lost; amounts and totals are not."""
    read = foreign.parse_from_string(bai2.encode(file).decode())
    again = bai2.decode(foreign.write(read).encode())
    assert [[[(one.type_code, one.amount) for one in account.details] for account in group.accounts]
            for group in again.groups] == [
        [[(one.type_code, one.amount) for one in account.details] for account in group.accounts]
        for group in file.groups]


def test_name_and_remark_may_stand_on_one_line():
    [group] = bai2.decode(b"01,E,N,260312,,1,,,2/\n02,N,E,1,260312/\n03,1,USD/\n"
                          b"16,195,5,Z,R,,ORIG:CHAN TAI MAN OBI:RENT, ORIG:NONE\n49,5,3/\n98,5,1,5/\n99,5,1,7/").groups
    [detail] = group.accounts[0].details
    assert (detail.name, detail.remark) == ("CHAN TAI MAN NONE", "RENT,")


def test_the_last_record_may_end_with_the_file_and_no_other_does():
    """As some banks write it; the totals say that nothing is missing."""
    end = BAI2.rstrip().removesuffix(b"/")
    assert bai2.decode(end) == bai2.decode(BAI2)
    assert foreign.parse_from_string(end.decode()).children
    with pytest.raises(Bai2Error, match="does not end with /"):
        bai2.decode(BAI2.replace(b"98,5200000,1,8/", b"98,5200000,1,8"))


@pytest.mark.parametrize(("right", "wrong", "why"), [
    ("03,8600000001,", "03,86 1,", "account '86 1' is no account number: 1 to 34 letters, digits and hyphens"),
    ("49,5200000,6/", "49,,6/", "the account control total '' is no whole number"),
    ("16,195,100000,", "16,1x5,100000,", "type code '1x5' is not three digits"),
    ("16,195,100000,", "16,195,-1,", "amount '-1' is no number of whole cents without a sign"),
    ("16,195,100000,Z", "16,195,100000,Q", "funds type 'Q' is none of Z, 0, 1, 2, S, V and D")])
def test_a_refusal_says_what_would_be_right(right, wrong, why):
    assert right in BAI2.decode()
    with pytest.raises(Bai2Error, match=re.escape(why)):
        bai2.decode(BAI2.decode().replace(right, wrong).encode())


TRAILERS = [("49,5200000,6/", "49,5200001,6/"), ("49,5200000,6/", "49,5200000,5/"),
            ("98,5200000,1,8/", "98,5200001,1,8/"), ("98,5200000,1,8/", "98,5200000,2,8/"),
            ("98,5200000,1,8/", "98,5200000,1,9/"),
            ("99,5200000,1,10/", "99,1,1,10/"), ("99,5200000,1,10/", "99,5200000,2,10/"),
            ("99,5200000,1,10/", "99,5200000,1,11/"), ("16,195,100000,", "16,195,100001,")]


@pytest.mark.parametrize(("right", "wrong"), TRAILERS)
def test_one_wrong_total_refuses_the_whole_file_as_the_foreign_reader_does(right, wrong):
    spoilt = BAI2.decode().replace(right, wrong)
    with pytest.raises(WrongTotal) as refused:
        bai2.decode(spoilt.encode())
    assert refused.value.line > 0
    with pytest.raises(IntegrityException):
        foreign.parse_from_string(spoilt)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data):
    with pytest.raises(Bai2Error):
        bai2.decode(data)


@given(at=st.integers(0, len(BAI2) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_changed_file_is_refused_or_says_the_same_amounts(at, byte, cut):
    mutated = BAI2[:at] if cut else BAI2[:at] + bytes([byte]) + BAI2[at + 1:]
    with suppress(Bai2Error):
        found = bai2.decode(mutated)
        assert sum(detail.amount for group in found.groups for account in group.accounts
                   for detail in account.details) == 100_500


@given(data=st.lists(st.sampled_from(BAI2.splitlines(keepends=True)), max_size=14).map(b"".join))
def test_records_in_any_order_are_read_or_refused(data):
    with suppress(Bai2Error):
        bai2.decode(data)


def test_continued_summaries_padding_and_funds_types_are_read():
    text = (b"01,EWB,NOSTRO,260312,0000,1,80,1,2/      \n02,NOSTRO,EWB,1,260312,0900,,2/\n\n03,8600000001,,015,100,,/\n"
            b"88,040,-50,2,V,260312,0900,072,7,,/\n16,195,1,S,1,0,0,FT1,C1,ORIG:A,B\n88,C\n16,195,2,D,2,0,1,1,1,FT2,,/\n"
            b"16,195,3,,FT3/\n49,63,7/\n98,63,1,9/\n99,63,1,11/\n")
    [group] = bai2.decode(text).groups
    [account] = group.accounts
    assert account.ccy == "USD"
    assert account.summaries == (("015", 100), ("040", -50), ("072", 7))
    assert [(one.amount, one.bank_ref, one.name) for one in account.details] == [
        (1, "FT1", "A,B C"), (2, "FT2", ""), (3, "FT3", "")]
