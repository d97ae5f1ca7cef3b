"""The S16 codec: golden bytes, any report, any bytes, names, references, and what is refused with line and reason."""

from __future__ import annotations

import csv
import io
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.clock import hkt_midnight_ms
from core.wire.bochk_s16 import (
    FileName,
    GarbledReport,
    PartialReport,
    Record,
    Report,
    S16Error,
    WrongTrailer,
    decode,
    encode,
    name_of,
    parse_name,
    seq_of,
)

DAY_MS = hkt_midnight_ms(date(2026, 3, 12))
ACCOUNT = "01287500000011"
REPORT = Report(ACCOUNT, 20260312, 1, DAY_MS + 30_600_000, (
    Record("BE26C000000004711", DAY_MS + 29_702_000, "HKD", "C", 100_000, 5_100_000, "CHAN TAI MAN", "01233300000001",
           "transfer"),
    Record("BE26C000000004712", DAY_MS + 29_703_000, "HKD", "D", 2_550, 5_097_450, "", "", "fee")))
GOLDEN = (b"H|S16|01287500000011|20260312|01|083000\r\n"
          b"D|BE26C000000004711|20260312|081502|HKD|C|1000.00|51000.00|CHAN TAI MAN|01233300000001|transfer\r\n"
          b"D|BE26C000000004712|20260312|081503|HKD|D|25.50|50974.50|||fee\r\n"
          b"T|2|1000.00|25.50\r\n")


def test_golden_bytes() -> None:
    assert encode(REPORT) == GOLDEN
    assert decode(GOLDEN) == REPORT


def test_a_foreign_reader_sees_the_same() -> None:
    rows = list(csv.reader(io.StringIO(GOLDEN.decode(), newline=""), delimiter="|", quoting=csv.QUOTE_NONE))
    assert [len(row) for row in rows] == [6, 11, 11, 4]
    assert rows[-1] == ["T", "2", "1000.00", "25.50"]


_TEXT = st.text("ABCé中国🏦 .,&'-\"\\/0", max_size=20)
_RECORDS = st.builds(
    Record, reference=st.integers(0, 10**12 - 1).map(lambda seq: f"BE26C{seq:012d}"),
    at_ms=st.integers(0, 10**8).map(lambda s: DAY_MS + s * 1_000), ccy=st.sampled_from(["HKD", "USD", "CNH"]),
    dr_cr=st.sampled_from("CD"), amount=st.integers(0, 10**14), balance=st.integers(0, 10**14), name=_TEXT,
    remitter=_TEXT, remark=_TEXT)
REPORTS = st.builds(Report, account=st.integers(0, 10**14 - 1).map(lambda number: f"{number:014d}"),
                    day=st.just(20260312),
                    period=st.integers(1, 24), created_ms=st.integers(0, 86_399).map(lambda s: DAY_MS + s * 1_000),
                    records=st.lists(_RECORDS, max_size=4).map(tuple), refused=st.just(()))


@given(REPORTS)
@settings(max_examples=60)
def test_any_report_comes_back(report: Report) -> None:
    assert decode(encode(report)) == report


@given(REPORTS, st.data())
@settings(max_examples=60)
def test_a_file_cut_anywhere_is_partial(report: Report, data: st.DataObject) -> None:
    """It may still be being written: never taken, never called garbled."""
    whole = encode(report)
    with pytest.raises(PartialReport):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        decode(data)
    except S16Error:
        return


@given(st.data())
@settings(max_examples=300)
def test_mutated_files_raise_nothing_else_and_totals_hold(data: st.DataObject) -> None:
    spoilt = bytearray(GOLDEN)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    try:
        report = decode(bytes(spoilt))
    except S16Error:
        return
    told = bytes(spoilt).split(b"\r\n")[-2].decode().split("|")
    assert int(told[1]) == len(report.records) + len(report.refused)


@pytest.mark.parametrize(("data", "kind", "line"), [
    (GOLDEN.replace(b"T|2", b"T|3"), WrongTrailer, 4),
    (GOLDEN.replace(b"T|2|1000.00", b"T|2|1000.01"), WrongTrailer, 4),
    (GOLDEN.replace(b"|25.50\r\nT", b"|25.50\r\nT").replace(b"|D|25.50", b"|D|25.51"), WrongTrailer, 4),
    (GOLDEN.replace(b"S16", b"S14"), GarbledReport, 1),
    (GOLDEN.replace(b"|01|", b"|25|"), GarbledReport, 1),
    (GOLDEN.replace(b"D|BE26C000000004711|", b"D|BE26C000000004711"), GarbledReport, 2),
    (GOLDEN.replace(b"20260312|081502", b"20260231|081502"), GarbledReport, 2),
    (GOLDEN.replace(b"|C|1000.00|", b"|C|1000,00|"), GarbledReport, 2),
    (GOLDEN.replace(b"|C|1000.00|", b"|C|-1000.00|"), GarbledReport, 2),
    (GOLDEN.replace(b"|HKD|D|", b"|XXX|D|"), GarbledReport, 3),
    (GOLDEN.replace(b"|HKD|D|", b"|HKD|X|"), GarbledReport, 3),
    (GOLDEN.replace(b"CHAN", b"CH\xff\xfe"), GarbledReport, 2),
    (GOLDEN.replace(b"|083000", b"|08\x073000"), GarbledReport, 1),
    (GOLDEN.replace(b"\r\n", b"\n"), GarbledReport, 1),
    (GOLDEN.replace(b"\r\n", b"\n").rstrip(), GarbledReport, 1),
    (GOLDEN.replace(b"\r\n", b"\r"), GarbledReport, 1),
    (GOLDEN.replace(b"\r\nT", b"\nT"), GarbledReport, 3),
    (GOLDEN.replace(b"H|S16", b"X|S16"), GarbledReport, 1),
    (GOLDEN + GOLDEN, GarbledReport, 4),
    (b"", PartialReport, 0),
    (b"\r\n", GarbledReport, 1),
    (b"x" * 4_194_305, GarbledReport, 0)])
def test_what_is_refused_and_where(data: bytes, kind: type[S16Error], line: int) -> None:
    with pytest.raises(kind) as caught:
        decode(data)
    assert (type(caught.value), caught.value.line) == (kind, line)


@pytest.mark.parametrize("field", ["name", "remitter", "remark"])
def test_a_separator_cannot_be_written(field: str) -> None:
    for text in ("a|b", "a\r\nb", "a\x00"):
        with pytest.raises(S16Error):
            encode(REPORT._replace(records=(REPORT.records[0]._replace(**{field: text}),)))


@pytest.mark.req("BOCHK-S16-01", "BOCHK-S16-06")
@pytest.mark.parametrize(("reference", "seq_no"), [
    ("BE26C000000004711", "4711"), ("BE26C4711", "4711"), ("XX99X000000004711", "4711"),  # five characters, whichever
    ("BE26C10", "10"), ("BE26C000000000010", "10"),  # only leading zeros go
    ("BE26C000000000000", None), ("BE26C0", None),  # all zeros
    ("BE26C", None), ("BE26", None), ("", None), ("4711", None),  # shorter than six
    ("BE2026C000000004711", None), ("BE26C00000000471X", None), ("BE26C 0000004711", None), ("BE26C-4711", None),
    ("BE26C٤٧١١", None)])  # digits, but not ours
def test_the_seq_no_that_a_reference_names(reference: str, seq_no: str | None) -> None:
    assert seq_of(reference) == seq_no


@given(st.integers(1, 10**12 - 1), st.text("ABCE0129", min_size=5, max_size=5))
def test_any_padded_seq_no_is_found_again(seq: int, prefix: str) -> None:
    assert seq_of(f"{prefix}{seq:012d}") == str(seq) == f"{seq:010d}".lstrip("0")


@pytest.mark.req("BOCHK-S16-07")
@pytest.mark.parametrize(("name", "found"), [
    *((f"AGS{ACCOUNT}UC{period:02d}.TXT", FileName("S16", ACCOUNT, period)) for period in range(1, 25)),
    *((f"AGS{ACCOUNT}AC{period}.TXT", FileName("S14", ACCOUNT, period)) for period in (1, 2, 3, 24)),
    (f"AGS{ACCOUNT}UC00.TXT", None), (f"AGS{ACCOUNT}UC25.TXT", None), (f"AGS{ACCOUNT}UC1.TXT", None),
    (f"AGS{ACCOUNT}UC01.txt", None), (f"AGS{ACCOUNT}UC01.TXT.tmp", None), ("AGS1UC01.TXT", None), ("", None)])
def test_names(name: str, found: FileName | None) -> None:
    assert parse_name(name) == found
    if found is not None and found.report == "S16":
        assert name_of(found.account, found.period) == name
