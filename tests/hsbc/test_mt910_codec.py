"""The MT910 codec: published messages, bad ones with SWIFT's code, files of many, round trips, arbitrary bytes."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mt910_samples import BAD, PUBLISHED, WHOLE

from core.wire.iso4217 import DECIMALS
from core.wire.mt910 import CODES, FinError, Mt910, Party, Unwritable, encode, read, wrapped

GOLDEN = Path(__file__).parents[1] / "golden" / "mt910.txt"
X = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-?:().,'+ "


def one(text: str) -> Mt910 | FinError:
    found = read(text.encode("latin-1"))
    assert len(found) == 1
    return found[0]


@pytest.mark.req("STMT-05")
def test_every_field_is_read() -> None:
    message = one(WHOLE)
    assert isinstance(message, Mt910)
    assert (message.reference, message.related, message.account) == ("HSBC000000000001", "NONREF", "808000000011")
    assert (message.value_date, message.ccy, message.amount) == (date(2026, 3, 12), "HKD", "12345,67")
    assert message.booked == datetime(2026, 3, 12, 10, 29, tzinfo=timezone(timedelta(hours=8)))
    assert message.customer is not None and message.institution is not None and message.intermediary is not None
    assert (message.customer.name, message.customer.account) == ("CHAN TAI MAN", "012345678901")
    assert message.institution.text == "HSBCHKHHXXX" and message.intermediary.name == "BANK OF SOMEWHERE"
    assert message.narrative == ("/BNF/DEPOSIT", "//TO BROKER")
    assert message.user == "{108:HSBC000000000001}" and message.trailers == "{CHK:123456789ABC}"


@pytest.mark.parametrize("where", PUBLISHED)
def test_published_messages_are_read(where: str) -> None:
    text, expected = PUBLISHED[where]
    message = one(text)
    assert isinstance(message, Mt910), message
    assert (message.reference, message.related, message.account, message.ccy, message.amount,
            message.customer.name if message.customer else "",
            message.institution.text if message.institution else "") == expected
    assert encode(message) == text.strip().encode()


@pytest.mark.parametrize(("code", "good", "bad", "tag", "what", "line"), BAD)
def test_bad_messages_have_swifts_code(code: str, good: str, bad: str, tag: str, what: str, line: int) -> None:
    assert good in WHOLE, what
    error = one(WHOLE.replace(good, bad, 1))
    assert isinstance(error, FinError), what
    assert (error.code, error.tag, error.line) == (code, tag, line), what


def test_every_code_is_given_by_a_bad_message() -> None:
    assert {row[0] for row in BAD} == set(CODES)


def test_golden_bytes() -> None:
    assert GOLDEN.read_bytes() == WHOLE.encode() + b"\r\n"
    message = one(WHOLE)
    assert isinstance(message, Mt910) and encode(message) == WHOLE.encode()


@pytest.mark.parametrize("between", ["", "\r\n", "$", "\r\n$\r\n", "\n\n"])
def test_a_bad_message_leaves_the_others_of_its_file_good(between: str) -> None:
    bad = WHOLE.replace(",67", ".67")
    found = read(between.join((WHOLE, bad, WHOLE)).encode())
    assert [type(entry) for entry in found] == [Mt910, FinError, Mt910]
    second, lines = found[1], WHOLE.count("\n") + between.count("\n")
    assert isinstance(second, FinError) and second.line == 6 + lines
    assert found[2].line == 1 + 2 * lines


@pytest.mark.parametrize("data", [
    b"", b"\r\n", b"$", b"-----BEGIN PGP MESSAGE-----", b"{1:", b"\xff\xfe", b"\xef\xbb\xbf"])
def test_what_is_no_message_is_one_error(data: bytes) -> None:
    assert [error.code for error in read(data) if isinstance(error, FinError)] == ["FRAME"]


def test_numbered_lines_of_option_f() -> None:
    text = WHOLE.replace(":50K:/012345678901\r\nCHAN TAI MAN",
                         ":50F:/012345678901\r\n1/CHAN TAI MAN\r\n1/SIU MING\r\n2/1 QUEENS ROAD\r\n3/HK/HONG KONG")
    message = one(text)
    assert isinstance(message, Mt910) and message.customer is not None
    assert (message.customer.name, message.customer.account) == ("CHAN TAI MAN SIU MING", "012345678901")
    assert encode(message) == text.encode()


def test_a_message_that_could_not_be_read_is_not_written() -> None:
    message = one(WHOLE)
    assert isinstance(message, Mt910)
    for wrong in (message._replace(reference="A//B"), message._replace(amount="1"), message._replace(ccy="CNH"),
                  message._replace(customer=None, institution=None),
                  message._replace(customer=Party("K", ("NAME\r\n:72:X",)))):
        with pytest.raises(Unwritable):
            encode(wrong)


references = st.text(X, min_size=1, max_size=16).filter(
    lambda text: text[0] != "/" and text[-1] != "/" and "//" not in text and text == text.strip())
names = st.lists(st.text(X, min_size=1, max_size=35).filter(lambda text: text[0] not in ":-/"), min_size=1, max_size=4)
offsets = st.integers(-13 * 60, 13 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@st.composite
def messages(draw: st.DrawFn) -> Mt910:
    ccy = draw(st.sampled_from(sorted(DECIMALS)))
    decimals = draw(st.text("0123456789", max_size=DECIMALS[ccy]))
    account = draw(st.one_of(st.just(()), st.text("0123456789", min_size=1, max_size=34).map(lambda t: (f"/{t}",))))
    booked = draw(st.none() | st.datetimes(datetime(1980, 1, 1), datetime(2079, 12, 31), timezones=offsets))
    return Mt910(
        draw(references), draw(references), draw(st.text("0123456789", min_size=1, max_size=35)),
        draw(st.dates(date(1980, 1, 1), date(2079, 12, 31))), ccy,
        f"{draw(st.integers(0, 10**11 - 1))},{decimals}",
        booked.replace(second=0, microsecond=0) if booked is not None else None,
        customer=Party("K", (*account, *draw(names))),
        institution=draw(st.none() | st.just(Party("A", ("HSBCHKHHXXX",)))),
        narrative=tuple(draw(st.lists(st.text(X, min_size=1, max_size=35).filter(
            lambda text: text[0] not in ":-"), max_size=6))),
        account_bic=draw(st.sampled_from(["", "HSBCHKHH"])),
        basic="F01HSBCHKHHAXXX0001000001", application="I910BROKHKHHXXXXN",
        user=draw(st.none() | st.just("{108:MUR}")), trailers=draw(st.none() | st.just("{CHK:0}")))


@given(st.lists(messages(), min_size=1, max_size=5))
def test_what_is_written_is_read(sent: list[Mt910]) -> None:
    found = read(b"\r\n".join(map(encode, sent)))
    assert [message._replace(line=1) for message in found if isinstance(message, Mt910)] == sent


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing(data: bytes) -> None:
    found = read(data)
    assert found and all(error.code in CODES for error in found if isinstance(error, FinError))


@given(st.data())
def test_mutated_messages_raise_nothing(data: st.DataObject) -> None:
    whole = bytearray(WHOLE.encode() * 2)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    found = read(bytes(whole))
    assert found and all(error.code in CODES for error in found if isinstance(error, FinError))
    for message in found:  # what is accepted can be written again
        if isinstance(message, Mt910):
            assert read(encode(message))[0] == message._replace(line=1)


COMPANY = ("WONG INTERNATIONAL INVESTMENT GROUP", "HOLDINGS LIMITED")
ADDRESS = ("FLAT 12A TOWER 3 CITY GARDEN", "NORTH POINT HONG KONG")
PARTIES = [
    ("K", ("CHAN TAI MAN",), "CHAN TAI MAN"),
    ("K", ("CHAN TAI MAN", *ADDRESS), "CHAN TAI MAN"),
    ("K", ("/012345678901", "CHAN TAI MAN", *ADDRESS), "CHAN TAI MAN"),
    ("K", ("CHAN TAI MAN", "NORTH POINT", "HONG KONG"), "CHAN TAI MAN"),
    ("K", COMPANY, " ".join(COMPANY)),
    ("K", (*COMPANY, *ADDRESS), " ".join(COMPANY)),
    ("K", (COMPANY[0], *ADDRESS), COMPANY[0]),
    ("K", ("W" * 35, "WONG"), "W" * 35 + "WONG"),
    ("F", ("/012345678901", "1/CHAN TAI MAN", "2/CITY GARDEN", "3/HK/HONG KONG"), "CHAN TAI MAN"),
    ("F", ("/012345678901", "1/CHAN TAI MAN", "1/SIU MING", "2/CITY GARDEN", "3/HK/HONG KONG"),
     "CHAN TAI MAN SIU MING"),
    ("A", ("/012345678901", "HSBCHKHHXXX"), ""),
    ("A", ("HSBCHKHHXXX",), ""),
]


@pytest.mark.req("STMT-05")
@pytest.mark.parametrize(("option", "lines", "name"), PARTIES)
def test_an_address_and_a_bic_are_no_names(option: str, lines: tuple[str, ...], name: str) -> None:
    message = one(WHOLE)
    assert isinstance(message, Mt910)
    [again] = read(encode(message._replace(customer=Party(option, lines))))
    assert isinstance(again, Mt910) and again.customer is not None
    assert again.customer.name == name


@given(st.lists(st.text("ABCDEFG-'", min_size=1, max_size=40).filter(lambda word: word[0] not in "-'"), min_size=1,
                max_size=8), st.sampled_from([(), ADDRESS[:1]]))
def test_a_name_that_was_wrapped_is_put_together_again(words: list[str], address: tuple[str, ...]) -> None:
    """As the bank wraps it, and with an address behind it, as long as there is room."""
    lines = wrapped(" ".join(words))
    if sum(map(len, lines)) + len(lines) - 1 >= len(" ".join(words)) and len(lines) + len(address) <= 4:
        told = Party("K", (*lines, *address)).name
        assert told.replace(" ", "") == "".join(words)
        if max(map(len, words)) < 35:
            assert told == " ".join(words)


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b""])
def test_a_byte_order_mark_is_nothing(start: bytes) -> None:
    assert [message.line for message in read(start + WHOLE.encode() + b"\r\n" + WHOLE.encode())] == [1, 15]


@given(st.text(max_size=200))
@example("CHAN  TAI-MAN\n陳大文")
def test_a_name_becomes_lines_that_can_be_sent(text: str) -> None:
    lines = wrapped(text)
    assert len(lines) <= 4 and all(1 <= len(line) <= 35 and line[0] not in ":-/" for line in lines)
    if lines:
        message = one(WHOLE)
        assert isinstance(message, Mt910)
        assert read(encode(message._replace(customer=Party("K", lines))))[0]
