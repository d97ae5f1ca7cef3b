"""The characters of free texts: one rule, and the same in every codec that has such texts."""

from __future__ import annotations

import json
import unicodedata
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.wire import bai2, bochk_b2e, bochk_s16, citi, ewb_csv, notices
from core.wire.fps import Credit
from core.wire.numbered import Page, Query
from core.wire.text import refused_in, shown

NOW = 1_773_279_001_000
ORDINARY = ["CHAN TAI MAN", "陳\u3000大文", "CHAN\u00a0TAI", "CHAN\u2009TAI", "CHAN\u202fTAI", "\ue000", "Zoe\u0301",
            "a\u200db", "王\U00020bb7"]
REFUSED = ["\x00", "\x07", "\n", "\x1f", "\x7f", "\x85", "\x9f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2066",
           "\u2069"]


@given(st.characters())
def test_control_characters_separators_and_marks_of_direction_are_refused_and_nothing_else(character):
    refused = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in (
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert refused_in(f"CHAN{character}") == (f"U+{ord(character):04X}" if refused else "")


@given(st.one_of(st.text(), st.binary(), st.dictionaries(st.text(), st.text())))
def test_what_is_shown_can_be_stored_and_printed(said):
    text = shown(said)
    text.encode()
    assert refused_in(text) == "" and len(text) <= 2_001


# Each codec: a text for one record of two -> names that were read, and how many records were refused.


def by_citi(name: str) -> tuple[list[str], int]:
    def credit(number: int, of: str) -> Credit:
        return Credit(number, f"REF{number}", "1", "SVID", "1", "HKD", "10.00", NOW, of, "12", "")

    page = citi.parse_page(citi.encode_page(Page((credit(1, name), credit(2, "LEE")), 2, False), "r", b"s"),
                           Query(0, 9, "r"), b"s")
    return [item.name for item in page.items if isinstance(item, Credit)], sum(
        not isinstance(item, Credit) for item in page.items)


def by_notices(name: str) -> tuple[list[str], int]:
    lines = [json.dumps({"no": number, "bank": "dbs", "ref": "R", "ccy": "HKD", "amount": "1.00", "name": of,
                         "last4": "4321", "time": "2026-03-12T09:30:01+08:00"}).encode()
             for number, of in ((1, name), (2, "LEE"))]
    read = list(notices.read(b"\n".join(lines)))
    return [one.name for one in read if isinstance(one, notices.Notice)], sum(
        isinstance(one, notices.BadLine) for one in read)


def by_s16(name: str) -> tuple[list[str], int]:
    record = "D|BE26C00000000471{}|20260312|081502|HKD|C|1000.00|51000.00|{}|01|t\r\n"
    report = bochk_s16.decode(("H|S16|01287500000011|20260312|01|083000\r\n" + record.format(1, name)
                               + record.format(2, "LEE") + "T|2|2000.00|0.00\r\n").encode())
    return [one.name for one in report.records], len(report.refused)


def by_bai2(name: str) -> tuple[list[str], int]:
    text = ("01,EWB,US,260312,0000,1,,,2/\n02,US,EWB,1,260312,,USD,2/\n03,8600000001,USD/\n16,195,100,Z,F1,,/\n"
            f"88,ORIG:{name}\n16,195,100,Z,F2,,/\n88,ORIG:LEE\n49,200,6/\n98,200,1,8/\n99,200,1,10/\n")
    details = bai2.decode(text.encode()).groups[0].accounts[0].details
    return [one.name for one in details if not one.wrong], sum(bool(one.wrong) for one in details)


def by_csv(name: str) -> tuple[list[str], int]:
    row = '8600000001,03/12/2026,FT{},"{}",,1.00,2.00\r\n'
    read = ewb_csv.decode((",".join(ewb_csv.HEADER) + "\r\n" + row.format(1, name) + row.format(2, "LEE")).encode())
    return [one.description for one in read if isinstance(one, ewb_csv.Row)], sum(
        isinstance(one, ewb_csv.BadRow) for one in read)


def by_b2e(name: str) -> tuple[list[str], int]:
    record = ("<Record><seq_no>1</seq_no><txnTime>20260312081502</txnTime><ccy>HKD</ccy><drCr>C</drCr>"
              "<amount>1.00</amount><balance>2.00</balance><en_name>{}</en_name></Record>")
    document = ('<?xml version="1.0" encoding="UTF-8"?><BOCHKE2B><Head><PackageId>20260312081502001</PackageId>'
                "<RetCode>0000</RetCode></Head><Tx><TodayActivityRES><Responses noOfRecord=\"2\">"
                + record.format(name) + record.format("LEE")
                + "</Responses></TodayActivityRES></Tx></BOCHKE2B>")
    reply = bochk_b2e.decode_reply(document.encode())
    return [one["en_name"] for one in reply.records], len(reply.spoilt)


CODECS = [by_citi, by_notices, by_s16, by_bai2, by_csv, by_b2e]
NOT_IN = {by_b2e: ("\x00", "\x07", "\x1f"),  # no character of XML at all: the document breaks off there
          by_bai2: ("\n",)}  # there a line end ends the record


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", ORDINARY)
def test_wide_spaces_are_ordinary_in_every_format(codec, name):
    assert codec(name) == ([name, "LEE"], 0)


@pytest.mark.parametrize(("codec", "character"), [
    pytest.param(codec, character, id=f"{codec.__name__}-U+{ord(character):04X}")
    for codec in CODECS for character in REFUSED if character not in NOT_IN.get(codec, ())])
def test_a_refused_character_costs_its_record_and_no_other(codec, character):
    assert codec(f"CHAN{character}TAI") == (["LEE"], 1)


def test_the_day_of_a_bai2_file_is_read_with_a_byte_order_mark():
    text = "\ufeff01,EWB,US,260312,0000,1,,,2/\n02,US,EWB,1,260312,,USD,2/\n98,0,0,2/\n99,0,1,4/\n"
    assert bai2.decode(text.encode()).groups[0].as_of == date(2026, 3, 12)
