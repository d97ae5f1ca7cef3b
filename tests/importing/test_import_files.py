"""`nostro import`: files by foreign tools and by hand, into the databases of a folder."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import json
import lzma
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import zipfile
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bai2 import bai2 as foreign
from bai2.constants import GroupStatus
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from api.cli import app
from api.importing import Summary, import_files
from core.calendars import Calendars
from core.clock import HKT, epoch_ms
from core.deposits.collection import StatementRoom
from core.deposits.importing import FORMATS, Imported, import_file
from core.deposits.statements import Statements
from core.errors import Misconfigured
from core.jobs import Jobs
from core.settings import Settings
from core.storage import StorageConfig, open_databases
from core.storage.primary import MATCHING_BANKS
from core.trace import Trace

MT910 = ("{{1:F01HSBCHKHHAXXX0001000001}}{{2:O9101030260312HSBCHKHHAXXX00010000012603121030N}}{{4:\r\n"
         ":20:{ref}\r\n:21:NONREF\r\n:25:808000000011\r\n:32A:260312HKD{amount}\r\n:50K:/012345678901\r\n"
         "CHAN TAI MAN\r\n-}}")
S16 = ("H|S16|01287500000011|20260312|01|083000\r\n"
       "D|BE26C000000004711|20260312|081502|HKD|C|1000.00|51000.00|CHAN TAI MAN|012345678901|transfer\r\n"
       "D|BE26CX|20260312|081503|HKD|C|5.00|51005.00|||\r\n"
       "T|2|1005.00|0.00\r\n")
CSV = ("Account Number,Post Date,Reference,Description,Debit,Credit,Balance\n"
       '8600000001,03/12/2026,FT1,"INCOMING, WIRE",,"1,000.00","51,000.00"\n'
       "8600000001,03/12/2026,FT2,FEE,15.00,,50985.00\n")
BAI2 = ("01,EWB,US,260312,0000,1,,,2/\n02,US,EWB,1,260312,,USD,2/\n03,8600000001,USD/\n"
        "16,195,100000,Z,FT1,,/\n88,ORIG:CHAN TAI MAN\n16,195,7,Z,FT9,,ORIG:NOBODY\n49,100007,5/\n98,100007,1,7/\n"
        "99,100007,1,9/\n")


def notice(ref: str = "D1", **changed: object) -> str:
    said = {"bank": "dbs", "ref": ref, "ccy": "HKD", "amount": "10.00", "name": "CHAN", "last4": "4321",
            "time": "2026-03-12T09:30:01+08:00", **changed}
    return json.dumps(said) + "\n"


def write(folder: Path, **files: str) -> list[Path]:
    """Files by name; a dot is written as two underscores."""
    paths = []
    for name, text in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(text.encode())
        paths.append(path)
    return paths


class Noon:
    """Implements `core.clock.Clock`: noon of 12 March 2026 in Hong Kong, when these files came."""

    def now_ms(self) -> int:
        return epoch_ms(datetime(2026, 3, 12, 12, tzinfo=HKT))

    def now_us(self) -> int:
        return self.now_ms() * 1_000


ANY_TIME = "match.look_back_months=1200"


def taken(bank: str, paths: list[Path], data: Path, overlay: dict[str, Any] | None = None) -> Summary:
    """What becomes of files at noon."""
    return import_files(bank, paths, data, overlay or {}, Noon())


def reasons(summary: Summary) -> list[tuple[int, str, str]]:
    """(line, kind, reason) of all that was refused."""
    return [(one.line, one.kind, one.reason) for file in summary.files for one in file.done.refused]


def done(bank: str, paths: list[Path], data: Path) -> tuple[int, int, list[tuple[str, int]]]:
    """(accepted, duplicate, (file, line) of the refused)."""
    summary = taken(bank, paths, data)
    return summary.accepted, summary.duplicate, [
        (Path(file.file).name, one.line) for file in summary.files for one in file.done.refused]


def rows(data: Path, bank: str) -> list[tuple[str, int, str, str]]:
    """(reference, amount, direction, name) of the entries of March."""
    with sqlite3.connect(data / "primary.sqlite") as db:
        return list(db.execute(f"SELECT bank_ref, amount, dr_cr, en_name FROM flows_{bank}_202603 ORDER BY id"))


def test_mt910_in_plain_text(tmp_path):
    text = MT910.format(ref="R1", amount="12345,67") + "\r\n" + MT910.format(ref="R2", amount="5,")
    bad = MT910.format(ref="R3", amount="5") + "\r\n" + MT910.format(ref="R1", amount="9,") + MT910.format(
        ref="R4", amount="1,")
    paths = write(tmp_path, one__txt=text, two__txt=text + bad, pgp__txt="-----BEGIN PGP MESSAGE-----\n")
    assert done("hsbc", paths, tmp_path / "data") == (3, 2, [("two.txt", 20), ("two.txt", 24), ("pgp.txt", 0)])
    assert rows(tmp_path / "data", "hsbc") == [
        ("R1", 1_234_567, "C", "CHAN TAI MAN"), ("R2", 500, "C", "CHAN TAI MAN"), ("R4", 100, "C", "CHAN TAI MAN")]


def test_s16_reports_are_kept_once_and_make_no_entries(tmp_path):
    paths = write(tmp_path, AGS01287500000011UC01__TXT=S16, again__txt=S16, cut__txt=S16[:90],
                  wrong__txt=S16.replace("1005.00|0", "1006.00|0"), stranger__txt=S16.replace("0128750", "9128750"))
    assert done("bochk", paths, tmp_path / "data") == (
        1, 1, [("AGS01287500000011UC01.TXT", 3), ("again.txt", 3), ("cut.txt", 2), ("wrong.txt", 4),
               ("stranger.txt", 1)])
    with sqlite3.connect(tmp_path / "data" / "primary.sqlite") as db:
        assert list(db.execute("SELECT reference, seq_no, name FROM bochk_s16_record WHERE state = 'WAITING'")) == [
            ("BE26C000000004711", "4711", "CHAN TAI MAN")]
        assert list(db.execute("SELECT count(*) FROM bochk_bank_flow")) == [(0,)]


def test_csv_and_bai2_in_whatever_order_they_are_named(tmp_path):
    paths = write(tmp_path, a__bai=BAI2, b__csv=CSV, c__bai=BAI2.replace("98,100007", "98,100008"))
    assert done("ewb", paths, tmp_path / "data") == (3, 0, [("a.bai", 6), ("c.bai", 8)])
    assert [(amount, dr_cr, name) for _, amount, dr_cr, name in rows(tmp_path / "data", "ewb")] == [
        (100_000, "C", "CHAN TAI MAN"), (1_500, "D", "")]
    assert done("ewb", paths[:2], tmp_path / "data") == (0, 3, [("a.bai", 6)])


def test_bai2_by_a_foreign_writer_is_read(tmp_path):
    read = foreign.parse_from_string(BAI2, check_integrity=True)
    assert read.children[0].header.group_status is GroupStatus.update
    [path] = write(tmp_path, foreign__bai=foreign.write(read))
    summary = taken("ewb", [path], tmp_path / "data")
    assert summary.files[0].done.format == "BAI2" and summary.files[0].done.refused


@pytest.mark.parametrize("bank", ["hase", "ccba", "dbs", "za", "spd", "cgb", "scb", "citi"])
def test_json_lines(tmp_path, bank):
    text = notice("D1", bank=bank) + "nonsense\n\n" + notice("D2", bank="hsbc") + notice("D3", bank=bank)
    again = notice("D1", bank=bank) + notice("D3", bank=bank, amount="11.00")
    paths = write(tmp_path, one__jsonl=text, two__jsonl=again)
    assert done(bank, paths, tmp_path / "data") == (2, 1, [("one.jsonl", 2), ("one.jsonl", 4), ("two.jsonl", 2)])
    assert rows(tmp_path / "data", bank) == [("D1", 1_000, "C", "CHAN"), ("D3", 1_000, "C", "CHAN")]


def test_every_bank_but_icbc_has_a_format():
    assert set(FORMATS) == set(MATCHING_BANKS) - {"icbc"}


@pytest.mark.parametrize("bank", ["hsbc", "bochk", "ewb", "dbs"])
@settings(deadline=None)
@given(contents=st.lists(st.binary(max_size=200) | st.sampled_from(
    [text.encode() for text in (S16, CSV, BAI2, notice(), MT910.format(ref="R1", amount="1,"))]), max_size=3))
def test_any_files_are_taken_or_refused_and_nothing_twice(bank, contents):
    """Whatever refuses a record the first time refuses it again, but for a name whose entry has come meanwhile."""
    first, second = asyncio.run(taken_twice(bank, contents))
    assert sum(one.accepted for one in second) <= (1 if bank == "ewb" and BAI2.encode() in contents else 0)
    for one, two in zip(first, second, strict=True):
        assert two.format == one.format
        assert one.accepted + one.duplicate + len(one.refused) == two.accepted + two.duplicate + len(two.refused)
        assert len(two.refused) <= len(one.refused)


async def taken_twice(bank: str, contents: list[bytes]) -> tuple[list[Imported], list[Imported]]:
    clock, of = Noon(), Settings()
    trace, databases = Trace(clock), await open_databases(StorageConfig())
    db = databases.primary
    jobs = Jobs(db, clock, trace, "w", of, {}, asyncio.ensure_future)
    room = StatementRoom(db, clock, trace, of, Calendars(of), jobs, Statements(db, clock, trace, keep_months=2))
    first, second = [[await import_file(bank, room, f"{n}.dat", content) for n, content in enumerate(contents)]
                     for _ in range(2)]
    await databases.close()
    return first, second


def test_the_command_tells_file_line_and_reason_and_exits_with_2(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder, a__jsonl=notice("D1"), b__jsonl=notice("D1") + "{\n", __hidden="x")
    (folder / "below").mkdir()
    arguments = ["import", "dbs", str(folder), "--data", str(tmp_path / "data"), "--set", ANY_TIME]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert result.output.splitlines() == [
        f"{folder}/a.jsonl  JSON lines: 1 accepted, 0 duplicate, 0 refused",
        f"{folder}/b.jsonl  JSON lines: 0 accepted, 1 duplicate, 1 refused",
        f"  {folder}/b.jsonl:2: record: not JSON in UTF-8",
        f"2 files into {tmp_path}/data: 1 accepted, 1 duplicate, 1 refused"]


def test_files_of_the_past_are_judged_as_on_the_day_they_came(tmp_path):
    [file] = write(tmp_path, old__jsonl=notice("D1", bank="dbs"))  # of March 2026
    command = ["import", "dbs", str(file), "--data", str(tmp_path / "data")]
    refused = CliRunner().invoke(app, command)
    taken = CliRunner().invoke(app, [*command, "--as-of", "2026-03-13"])
    wrong = CliRunner().invoke(app, [*command, "--as-of", "13.3.2026"])
    assert refused.exit_code == 2 and "months back" in refused.output, refused.output
    assert taken.exit_code == 0 and "1 accepted" in taken.output, taken.output
    assert isinstance(wrong.exception, Misconfigured) and "--as-of" in str(wrong.exception)


def test_the_command_says_the_same_in_json_and_exits_with_0_when_nothing_is_refused(tmp_path):
    [path] = write(tmp_path, a__jsonl=notice("D1"))
    arguments = ["import", "dbs", str(path), "--data", str(tmp_path / "data"), "--json", "--set", ANY_TIME]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert json.loads(result.output) == {
        "bank": "dbs", "data": f"{tmp_path}/data", "accepted": 1, "entries": 1, "named": 0, "supplements": 0,
        "duplicate": 0, "refused": 0, "files": [
            {"file": str(path), "format": "JSON lines", "accepted": 1, "entries": 1, "named": 0, "supplements": 0,
             "duplicate": 0, "refused": []}]}


@pytest.mark.parametrize(("bank", "files", "total", "last"), [
    ("ewb", {"a.csv": CSV, "b.bai": BAI2}, (3, 2, 1, 0), "3 accepted (2 entries, 1 named), 0 duplicate, 1 refused"),
    ("bochk", {"a.txt": S16}, (1, 0, 0, 1), "1 accepted (1 supplement), 0 duplicate, 1 refused")])
def test_what_only_names_or_supplements_is_not_told_as_an_entry(tmp_path, bank, files, total, last):
    """One payment in a CSV and in its BAI2 is one entry that was named."""
    for name, text in files.items():
        (tmp_path / name).write_text(text, newline="")
    summary = taken(bank, [tmp_path / name for name in files], tmp_path / "data")
    lines = summary.lines()
    assert lines[-1].endswith(last) and lines[-3].endswith(last if bank == "bochk" else
                                                           "BAI2: 1 accepted (1 named), 0 duplicate, 1 refused")
    shown = summary.shown()
    for kinds in (shown, *shown["files"]):
        assert kinds["accepted"] == kinds["entries"] + kinds["named"] + kinds["supplements"]
    assert tuple(shown[kind] for kind in ("accepted", "entries", "named", "supplements")) == total


def test_accounts_are_those_of_the_settings(tmp_path):
    text = MT910.format(ref="R1", amount="1,").replace("808000000011", "12-34")
    [path] = write(tmp_path, a__txt=text)
    assert done("hsbc", [path], tmp_path / "data") == (0, 0, [("a.txt", 1)])
    ours = {"receiving.hsbc.accounts": {"HKD": "12-34"}}
    assert taken("hsbc", [path], tmp_path / "data", ours).accepted == 1


@pytest.mark.parametrize(("bank", "file"), [("icbc", "a"), ("nobank", "a"), ("dbs", "missing"), ("dbs", "empty")])
def test_wrong_usage_is_told_with_a_remedy(tmp_path, bank, file):
    (tmp_path / "a").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Misconfigured, match=r"one of|name files"):
        import_files(bank, [tmp_path / file], tmp_path / "data", {})


def test_a_file_that_is_too_large_is_refused(tmp_path):
    [path] = write(tmp_path, a__jsonl=notice("D1"))
    summary = import_files("dbs", [path], tmp_path / "data", {"imports.file_limit": 10})
    assert reasons(summary) == [(0, "file", "larger than 10 bytes: split it, or raise imports.file_limit")]


# --- dates --------------------------------------------------------------------------------------------------------


def dated(bank: str, day: date) -> tuple[str, int]:
    """A file with one record of a day, and the record's line."""
    if bank == "hsbc":
        return MT910.format(ref="R1", amount="1,").replace(":32A:260312", f":32A:{day:%y%m%d}"), 1
    if bank == "ewb":
        return "".join(CSV.replace("03/12/2026", f"{day:%m/%d/%Y}").splitlines(keepends=True)[:2]), 2
    if bank == "bochk":
        return S16.replace("|20260312|0815", f"|{day:%Y%m%d}|0815").replace("BE26CX", "BE26C9"), 2
    return notice("D1", bank=bank, time=f"{day}T09:30:01+08:00"), 1


@pytest.mark.parametrize("bank", ["hsbc", "ewb", "bochk", "dbs", "citi"])
@pytest.mark.parametrize(("day", "why"), [
    (date(2026, 3, 17), ""), (date(2026, 3, 18), "days ahead"), (date(2027, 4, 16), "days ahead"),
    (date(2079, 3, 12), "days ahead"), (date(2026, 1, 1), ""), (date(2025, 12, 31), "months back"),
    (date(2025, 3, 12), "months back")], ids=str)
def test_a_record_of_another_time_is_refused_with_its_line_and_a_remedy(tmp_path, bank, day, why):
    """Five days ahead, and this month and two before it: what lies beyond no application waits for."""
    text, line = dated(bank, day)
    [path] = write(tmp_path, a__txt=text)
    summary = taken(bank, [path], tmp_path / "data")
    assert bool(summary.accepted) == (why == "")
    told = reasons(summary)
    assert [one[0] for one in told] == ([line, line + 1][:1 + (bank == "bochk")] if why else [])
    assert all(why in reason and str(day) in reason and "ask the bank" in reason for _, _, reason in told)


def test_a_year_of_two_digits_is_not_taken_for_another_century(tmp_path):
    [path] = write(tmp_path, a__txt=MT910.format(ref="R1", amount="1,").replace(":32A:26", ":32A:79"))
    assert reasons(taken("hsbc", [path], tmp_path / "data"))[0][:2] == (1, "message")
    with sqlite3.connect(tmp_path / "data" / "primary.sqlite") as db:
        assert not list(db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'flows_hsbc_%'"))


def test_the_limits_are_settings(tmp_path):
    day = date(2026, 3, 12) + timedelta(days=8)
    [path] = write(tmp_path, a__jsonl=dated("dbs", day)[0])
    assert taken("dbs", [path], tmp_path / "a").accepted == 0
    assert taken("dbs", [path], tmp_path / "b", {"statements.ahead_days": 9}).accepted == 1


# --- reasons ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bank", "text", "why"), [
    ("bochk", S16.replace("\r\n", "\n"), "lines must end in CR LF: convert them (unix2dos), or fetch it in binary"),
    ("bochk", S16.replace("\r\n", "\r"), "lines must end in CR LF: convert them (unix2dos), or fetch it in binary"),
    ("hsbc", MT910.format(ref="R1", amount="1,").replace("\r\n", "\n"),
     "M60 lines must end in CR LF: convert them (unix2dos), or fetch it in binary"),
    ("hsbc", MT910.format(ref="R1", amount="1,").replace("\r\n-}", "\n-}"), "M60 lines must end in CR LF"),
    ("hsbc", MT910.format(ref="R1", amount="1,").replace("\r\n:25", "\n:25"), "M60 a line that does not end in CR LF"),
    ("dbs", notice(bank="DBS"), "bank: 'DBS' is not 'dbs'"),
    ("dbs", notice(bank="d"), "bank: 'd' is not 2 to 16 small letters"),
    ("dbs", notice(last4="12345"), "last4: '12345' is not at most 4 digits or letters"),
    ("dbs", notice(ref=" A19"), "ref: ' A19' is not 1 to 64 ASCII characters without spaces"),
    ("dbs", notice(account="1" * 35), "account: '11111111111111111111111111111111111' is not at most 34 digits, "
                                      "letters or hyphens"),
    ("dbs", notice(name="x" * 141), "is longer than 140 characters"),
    ("dbs", notice(no=-1), "no: -1 is not a whole number from 1 to 999999999999999"),
    ("dbs", notice(no="7"), "no: '7' is not a whole number from 1 to 999999999999999"),
    ("dbs", notice(amount="9" * 30 + ".00"), "is longer than 20 characters"),
    ("dbs", notice(ccy="EURO"), "ccy: 'EURO' is none of HKD, USD, CNH, CNY"),
    ("dbs", notice(time="x" * 41), "is longer than 40 characters"),
    ("ewb", CSV.replace("8600000001", "8.6E+09"), "Account Number '8.6E+09': a spreadsheet has rewritten it: format "
                                                  "the column as text, or take the bank's own file"),
    ("ewb", CSV.replace("8600000001", "86 01"), "Account Number '86 01' is not 1 to 34 letters, digits or hyphens"),
    ("ewb", CSV.replace("FT1", "F T"), "Reference 'F T' is not 1 to 32 ASCII characters without spaces"),
    ("ewb", CSV.replace("FEE", "F\x07EE"), "Description 'F\\x07EE' has the character U+0007"),
    ("ewb", CSV.replace("FEE", "F" * 501), "is longer than 500 characters")])
def test_a_reason_says_what_is_wrong_and_what_it_should_be(tmp_path, bank, text, why):
    (tmp_path / "a.txt").write_text(text, newline="")
    told = reasons(taken(bank, [tmp_path / "a.txt"], tmp_path / "data"))
    assert told and all(why in reason for _, _, reason in told), told


# --- names of files -----------------------------------------------------------------------------------------------


@pytest.mark.req("BOCHK-S16-05")
@pytest.mark.parametrize(("name", "takes"), [
    ("AGS01287500000011UC01.TXT", True), ("ags01287500000011uc01.txt", True), ("report.txt", True),
    ("AGS01287500000099UC01.TXT", False), ("AGS01287500000011UC07.TXT", False)])
def test_a_report_is_that_of_its_name(tmp_path, name, takes):
    (tmp_path / name).write_text(S16, newline="")
    summary = taken("bochk", [tmp_path / name], tmp_path / "data")
    assert summary.accepted == (1 if takes else 0)
    if not takes:
        [(line, kind, reason)] = reasons(summary)
        assert (line, kind) == (1, "file") and "the header is that of 01287500000011, period 1" in reason


# --- files that are no text ---------------------------------------------------------------------------------------


def zipped(text: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("statement.csv", text)
    return held.getvalue()


FOREIGN = {
    "gzip": (lambda text: gzip.compress(text.encode()), "packed with gzip: unpack it first"),
    "bzip2": (lambda text: bz2.compress(text.encode()), "packed with bzip2: unpack it first"),
    "xz": (lambda text: lzma.compress(text.encode()), "packed with xz: unpack it first"),
    "zip": (zipped, "a zip archive, or a workbook (xlsx): unpack it first"),
    "xls": (lambda _: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 100, "save the sheet as CSV in UTF-8"),
    "PDF": (lambda _: b"%PDF-1.7\n", "ask the bank for the statement as data"),
    "PGP": (lambda _: b"-----BEGIN PGP MESSAGE-----\n", "encrypted: decrypt it first"),
    "UTF-16": (lambda text: text.encode("utf-16"), "text in UTF-16: save it as UTF-8"),
    "UTF-16, big end first": (lambda text: b"\xfe\xff" + text.encode("utf-16-be"), "text in UTF-16: save it as UTF-8"),
    "UTF-16 without a mark": (lambda text: text.encode("utf-16-le"), "text in UTF-16, or no text at all"),
}
TEXTS = {"hsbc": MT910.format(ref="R1", amount="1,"), "bochk": S16, "ewb": CSV, "dbs": notice()}


@pytest.mark.parametrize("bank", TEXTS)
@pytest.mark.parametrize("how", FOREIGN)
def test_what_is_no_text_is_told_by_name_with_a_remedy(tmp_path, bank, how):
    make, why = FOREIGN[how]
    (tmp_path / "file").write_bytes(make(TEXTS[bank]))
    [(line, kind, reason)] = reasons(taken(bank, [tmp_path / "file"], tmp_path / "data"))
    assert (line, kind) == (0, "file") and why in reason


@pytest.mark.parametrize("bank", TEXTS)
def test_a_byte_order_mark_is_nothing_in_every_format(tmp_path, bank):
    plain, marked = write(tmp_path, a__dat=TEXTS[bank], b__dat="\ufeff" + TEXTS[bank])
    one, other = (taken(bank, [path], tmp_path / path.stem) for path in (plain, marked))
    assert one.accepted == other.accepted > 0 and reasons(one) == reasons(other)


def test_each_refusal_says_whether_it_is_a_record_a_message_or_the_file(tmp_path):
    cases = [
        ("hsbc", MT910.format(ref="R1", amount="1"), "message"), ("hsbc", "{1:", "message"), ("hsbc", "", "file"),
        ("ewb", CSV.replace("15.00", "x"), "record"), ("ewb", "a,b\n", "file"),
        ("ewb", BAI2.replace("98,100007", "98,1"), "file"), ("ewb", BAI2, "record"),
        ("bochk", S16, "record"), ("bochk", S16[:90], "file"), ("dbs", "{", "record")]
    for number, (bank, text, kind) in enumerate(cases):
        [path] = write(tmp_path, **{f"n{number}__dat": text})
        assert {one[1] for one in reasons(taken(bank, [path], tmp_path / f"d{number}"))} == {kind}, (bank, text)


# --- folders, and files that are not ordinary ----------------------------------------------------------------------


@pytest.mark.parametrize("again", ["a.jsonl", "below/../a.jsonl", "link.jsonl", "."])
def test_a_file_that_is_named_twice_is_taken_and_told_once(tmp_path, again):
    """By its own name, by another, by a link, or as a file of its folder."""
    folder = tmp_path / "files"
    (folder / "below").mkdir(parents=True)
    [path] = write(folder, a__jsonl=notice("D1"))
    if again == "link.jsonl":
        (folder / again).symlink_to(path)
    for n, order in enumerate(([path, folder / again], [folder / again, path])):
        summary = taken("dbs", order, tmp_path / f"data{n}")
        assert (summary.accepted, summary.duplicate, len(summary.files)) == (1, 0, 1)
        assert len(summary.shown()["files"]) == 1 and summary.lines()[-1].startswith("1 file into ")


def test_a_pipe_is_read_to_its_end_as_a_shell_makes_them_of_a_program_that_decrypts(tmp_path):
    [path] = write(tmp_path, a__jsonl=notice("D1"))
    command = (f"{sys.executable} -m api.cli import dbs <(cat {path}) {path} --data {tmp_path}/data --json "
               f"--set {ANY_TIME}")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["accepted"], shown["duplicate"]) == (1, 1)  # what comes by a pipe is a file of its own


def test_a_fifo_is_read_once(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(notice("D1"),), daemon=True)
    writer.start()
    summary = taken("dbs", [fifo, fifo], tmp_path / "data")
    writer.join()
    assert (summary.accepted, summary.duplicate, len(summary.files)) == (1, 0, 1)


def test_a_device_without_an_end_is_read_up_to_the_limit(tmp_path):
    summary = taken("dbs", [Path("/dev/zero")], tmp_path / "data", {"imports.file_limit": 1_000})
    assert reasons(summary) == [(0, "file", "larger than 1000 bytes: split it, or raise imports.file_limit")]


@pytest.mark.parametrize("bank", ["hsbc", "bochk", "ewb", "dbs"])
@pytest.mark.parametrize("text", ["", "\n", " \r\n\r\n", "\ufeff", None], ids=repr)
def test_an_empty_file_is_refused_in_every_format(tmp_path, bank, text):
    """A download that has failed is no day without movements. None: a device that gives nothing."""
    path = Path("/dev/null") if text is None else tmp_path / "a.txt"
    if text is not None:
        path.write_text(text, newline="")
    assert reasons(taken(bank, [path], tmp_path / "data")) == [(0, "file", "the file is empty: fetch it again")]


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


@pytest.mark.parametrize(("make", "why"), [
    (loop, "is a link that leads back to itself"), (dangling, "is a link to a file that is not there"),
    (listening, "is a socket"), (Path.touch, "there is no file .*no/a")])
def test_what_cannot_be_read_is_told_as_what_it_is(tmp_path, make, why):
    path = tmp_path / "a"
    make(path)
    with pytest.raises(Misconfigured, match=f"{why}.*name files"):
        taken("dbs", [path if make is not Path.touch else tmp_path / "no" / "a"], tmp_path / "data")



def test_data_that_is_no_folder_is_told_with_the_option_and_a_remedy(tmp_path):
    [path] = write(tmp_path, a__jsonl=notice())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "primary.sqlite").write_text("this is no database, and it is long enough to be none" * 20)
    for data in (path, Path("/proc/x"), path / "below", tmp_path / "bad"):
        result = CliRunner().invoke(app, ["import", "dbs", str(path), "--data", str(data)])
        said = " ".join(str(result.exception or result.output).split())
        assert result.exit_code != 0 and "--data" in said and "folder" in said and str(data) in said, said
